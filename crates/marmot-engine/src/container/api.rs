//! The API that Docker and Podman both speak, over the engine's Unix socket: requests, streams of JSON, errors.
//!
//! Answers are read as far as they matter here and no further: the two differ in the states and fields they name.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use http::{Method, Request, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio_util::task::AbortOnDropHandle;

/// The version of the API that is asked for: what Podman 4 and every Docker since 20.10 speak.
const VERSION: &str = "/v1.41";
/// An engine that takes longer for what it does at once hangs.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);
/// Longest answer that is taken in whole.
const LONGEST_ANSWER: usize = 8 << 20;
/// Longest line of a stream of JSON.
const LONGEST_LINE: usize = 1 << 20;

/// Why the engine did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    /// Nobody answers on its socket.
    #[error("the container engine does not answer at {}: {source}", socket.display())]
    Down {
        /// Where it should.
        socket: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// It does not get on.
    #[error("the container engine has not answered for {} s", .0.as_secs())]
    Hangs(Duration),
    /// It says no.
    #[error("{message}")]
    Refused {
        /// The status of its answer.
        status: StatusCode,
        /// What it says.
        message: String,
    },
    /// Its answer makes no sense.
    #[error("the container engine gave an answer that makes no sense: {0}")]
    Garbled(String),
}

impl EngineError {
    /// Whether what was asked for does not exist.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::NOT_FOUND, .. })
    }

    /// Whether the engine itself is the trouble, so that asking again later may help.
    pub(crate) fn is_of_the_engine(&self) -> bool {
        matches!(self, Self::Down { .. } | Self::Hangs(_))
    }
}

/// A body to send.
pub(crate) type Body = BoxBody<Bytes, io::Error>;

/// Speaks to one engine. Each request has a connection of its own: the engine may be started anew between two.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    socket: PathBuf,
}

/// A path with its query.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    path: String,
    query: Vec<(&'static str, String)>,
    headers: Vec<(&'static str, String)>,
}

impl Call {
    /// `segments` are joined by slashes; each is escaped.
    pub(crate) fn new(segments: &[&str]) -> Self {
        let mut path = String::from(VERSION);
        for segment in segments {
            path.push('/');
            path.extend(url::form_urlencoded::byte_serialize(segment.as_bytes()));
        }
        // What is a space in a form is none in a path.
        Self { path: path.replace('+', "%20"), query: Vec::new(), headers: Vec::new() }
    }

    /// One of Podman's own.
    pub(crate) fn of_podman(segments: &[&str]) -> Self {
        let call = Self::new(segments);
        Self { path: call.path.replacen(VERSION, "/v4.0.0/libpod", 1), ..call }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: Option<String>) -> Self {
        self.headers.extend(value.map(|value| (name, value)));
        self
    }

    fn target(&self) -> String {
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.query).finish();
        if query.is_empty() { self.path.clone() } else { format!("{}?{query}", self.path) }
    }
}

/// An answer whose body is still to come. Dropped, the connection is closed.
pub(crate) struct Answer {
    pub(crate) parts: http::response::Parts,
    body: Incoming,
    _connection: AbortOnDropHandle<()>,
}

impl Api {
    pub(crate) fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, call: Call) -> Result<T, EngineError> {
        let body = self.whole(Method::GET, call, empty()).await?;
        serde_json::from_slice(&body).map_err(|error| EngineError::Garbled(error.to_string()))
    }

    /// Posts JSON and reads JSON.
    pub(crate) async fn post<T: DeserializeOwned>(&self, call: Call, json: &Value) -> Result<T, EngineError> {
        let call = call.header("content-type", Some("application/json".to_owned()));
        let body = self.whole(Method::POST, call, full(json.to_string())).await?;
        serde_json::from_slice(&body).map_err(|error| EngineError::Garbled(error.to_string()))
    }

    /// Posts nothing, and expects nothing but success.
    pub(crate) async fn order(&self, call: Call) -> Result<(), EngineError> {
        self.order_within(call, ANSWERS_WITHIN).await
    }

    /// The same, for what the engine may take longer for.
    pub(crate) async fn order_within(&self, call: Call, limit: Duration) -> Result<(), EngineError> {
        let ordering = async { self.send(Method::POST, call, empty()).await?.whole().await };
        within(limit, ordering).await.map(drop)
    }

    pub(crate) async fn delete(&self, call: Call) -> Result<(), EngineError> {
        self.whole(Method::DELETE, call, empty()).await.map(drop)
    }

    /// What the server calls itself, and whether it is Podman.
    pub(crate) async fn ping(&self) -> Result<bool, EngineError> {
        let call = Call { path: "/_ping".to_owned(), query: Vec::new(), headers: Vec::new() };
        let answer = within(ANSWERS_WITHIN, self.send(Method::GET, call, empty())).await?;
        Ok(answer.parts.headers.contains_key("libpod-api-version"))
    }

    async fn whole(&self, method: Method, call: Call, body: Body) -> Result<Bytes, EngineError> {
        within(ANSWERS_WITHIN, async { self.send(method, call, body).await?.whole().await }).await
    }

    /// Sends a request, and waits for the head of an answer that says yes. The time it takes is for the caller to limit.
    pub(crate) async fn send(&self, method: Method, call: Call, body: Body) -> Result<Answer, EngineError> {
        let down = |source| EngineError::Down { socket: self.socket.clone(), source };
        let broken = |error: hyper::Error| down(io::Error::other(error));
        let stream = UnixStream::connect(&self.socket).await.map_err(down)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let connection = AbortOnDropHandle::new(tokio::spawn(async move {
            // What becomes of it shows in the answer.
            let _ = connection.await;
        }));
        let mut request = Request::builder().method(method).uri(call.target()).header(header::HOST, "engine");
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        let request = request.body(body).map_err(|error| EngineError::Garbled(error.to_string()))?;
        let (parts, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
        let answer = Answer { parts, body, _connection: connection };
        if answer.parts.status.is_success() || answer.parts.status == StatusCode::NOT_MODIFIED {
            return Ok(answer);
        }
        let status = answer.parts.status;
        let text = answer.whole().await.unwrap_or_default();
        Err(EngineError::Refused { status, message: message(&text, status) })
    }
}

impl Answer {
    /// All of its body, which must be short.
    async fn whole(self) -> Result<Bytes, EngineError> {
        let limited = http_body_util::Limited::new(self.body, LONGEST_ANSWER).collect().await;
        limited.map(|body| body.to_bytes()).map_err(|error| EngineError::Garbled(error.to_string()))
    }

    /// The next piece of its body; `None` at its end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, EngineError> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                Some(Err(error)) => return Err(EngineError::Garbled(error.to_string())),
            }
        }
    }

    /// Its body as the objects that come one after the other in it.
    pub(crate) fn objects(self) -> impl Stream<Item = Result<Value, EngineError>> + Send {
        let start = (self, BytesMut::new(), false);
        futures_util::stream::unfold(start, |(mut answer, mut buffer, done)| async move {
            if done {
                return None;
            }
            loop {
                if let Some(end) = buffer.iter().position(|&byte| byte == b'\n') {
                    let line = buffer.split_to(end + 1);
                    if line.trim_ascii().is_empty() {
                        continue;
                    }
                    return Some((object(&line), (answer, buffer, false)));
                }
                if buffer.len() > LONGEST_LINE {
                    let error = EngineError::Garbled("a line that does not end".to_owned());
                    return Some((Err(error), (answer, buffer, true)));
                }
                match answer.next().await {
                    Ok(Some(bytes)) => buffer.extend_from_slice(&bytes),
                    Ok(None) if buffer.trim_ascii().is_empty() => return None,
                    Ok(None) => return Some((object(&buffer), (answer, BytesMut::new(), true))),
                    Err(error) => return Some((Err(error), (answer, buffer, true))),
                }
            }
        })
    }
}

fn object(line: &[u8]) -> Result<Value, EngineError> {
    serde_json::from_slice(line).map_err(|error| EngineError::Garbled(error.to_string()))
}

/// What an answer that says no gives for a reason.
fn message(body: &[u8], status: StatusCode) -> String {
    let told = serde_json::from_slice::<Value>(body).ok();
    let told = told.as_ref().and_then(|told| told["message"].as_str()).map(str::to_owned);
    let text = told.unwrap_or_else(|| String::from_utf8_lossy(body).trim().to_owned());
    if text.is_empty() { format!("the container engine answered {status}") } else { text }
}

async fn within<T>(
    limit: Duration,
    asking: impl Future<Output = Result<T, EngineError>>,
) -> Result<T, EngineError> {
    tokio::time::timeout(limit, asking).await.unwrap_or(Err(EngineError::Hangs(limit)))
}

pub(crate) fn empty() -> Body {
    full(Bytes::new())
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_cannot_leave_its_place_in_the_address() {
        let call = Call::new(&["images", "a b/../c?x", "json"]).with("tag", "1&x=y z");
        assert_eq!(call.target(), "/v1.41/images/a%20b%2F..%2Fc%3Fx/json?tag=1%26x%3Dy+z");
        assert_eq!(
            Call::of_podman(&["containers", "x", "init"]).target(),
            "/v4.0.0/libpod/containers/x/init"
        );
    }

    #[test]
    fn a_refusal_has_words_whatever_its_body_is() {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        assert_eq!(message(br#"{"cause":"x","message":"no such image"}"#, status), "no such image");
        assert_eq!(message(b"plain\n", status), "plain");
        assert_eq!(message(b"", status), "the container engine answered 500 Internal Server Error");
    }
}
