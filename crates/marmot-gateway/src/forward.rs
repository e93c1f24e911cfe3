//! Sends a request to a replica and brings back its answer; tries again where that is safe.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header, request,
};
use hyper::body::Incoming;
use marmot_core::{AppName, Moment};
use tokio::time::Instant;

use crate::affinity::{self, Bond};
use crate::body::{AnswerBody, AppBody, ClientBodyError, Held, OpenStream, RequestBody};
use crate::headers::rewrite_response;
use crate::hold::{Refusal, hold, weight};
use crate::routes::Backend;
use crate::scanner::Phase;
use crate::shared::Shared;
use crate::slot::{Session, Slot, Waited};
use crate::stay::Stay;
use crate::upstream::{Connection, Failed, Switched, Why, connect, connect_http2};
use crate::websocket;

/// Connections that are tried for a request of which nothing was sent.
const ATTEMPTS: u32 = 4;

/// How often a request that is safe to repeat is: on a new connection, then by another replica.
const REPEATS: u32 = 2;

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Why an app's answer cannot be passed on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the app closed the connection before it answered")]
    Broken(#[source] Option<io::Error>),
    #[error("the app did not begin its answer in time")]
    Silent,
    #[error("the request's body did not arrive whole")]
    Client,
    #[error("the request's body did not arrive in time")]
    TooSlow,
    #[error("the request's body is longer than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("the app's answer cannot be understood")]
    Nonsense,
    #[error("who asked may not open the app any more")]
    AccessLost,
}

/// A request whose head has been rewritten for the replica.
pub(crate) struct Outgoing {
    pub(crate) parts: request::Parts,
    pub(crate) body: RequestBody,
    /// The client's side of a connection that it asks to turn into a WebSocket.
    pub(crate) upgrade: Option<Upgrade>,
    /// The right of who asks to do so.
    pub(crate) stay: Stay,
}

/// A WebSocket that is to be.
pub(crate) struct Upgrade {
    pub(crate) client: hyper::upgrade::OnUpgrade,
    /// It is one stream of a connection over HTTP/2 (RFC 8441), which is answered in other words.
    pub(crate) over_http2: bool,
}

/// Sends a request to the replica that `slot` was given for, or to another one if that one cannot take it.
pub(crate) async fn forward(
    shared: &Arc<Shared>,
    outgoing: Outgoing,
    mut slot: Slot,
) -> Result<Response<AnswerBody>, Failure> {
    let Outgoing { parts, body, upgrade, mut stay } = outgoing;
    let bytes = weight(&parts) + body.kept();
    let empty = matches!(body, RequestBody::Empty);
    let http2 = slot.route.traffic.is_http2 && upgrade.is_none() || is_grpc(&parts.headers);
    let may_repeat = empty && is_safe(&parts.method) && upgrade.is_none();
    let taken = match &body {
        RequestBody::Empty => None,
        RequestBody::Client(stream) => Some(Arc::clone(&stream.taken)),
    };
    let mut request = Request::from_parts(parts, body);
    let started = shared.clock.now();
    let (mut attempts, mut repeats) = (0, REPEATS);
    let (response, slot, connection, upstream) = loop {
        attempts += 1;
        let mut connection;
        // Boxed, as what else only some requests come to: each would carry, and move, the place for it.
        (slot, connection) = match kept_connection(shared, &slot, shared.clock.now(), http2) {
            Some(connection) => (slot, connection),
            None => Box::pin(connection_for(shared, slot, started, bytes, http2)).await?,
        };
        let handed_over = Instant::now();
        connection.send(request, may_repeat);
        let patience = shared.config.limits.response_timeout;
        let answer = answer_of(&mut connection, taken.as_deref(), patience).await.ok_or(Failure::Silent)?;
        let Failed { why, unsent, head } = match answer {
            Ok(response) => break (response, slot, connection, handed_over.elapsed()),
            Err(failed) => failed,
        };
        match why {
            Why::Client(ClientBodyError::Broken(_)) | Why::Length => return Err(Failure::Client),
            Why::Client(ClientBodyError::TooSlow) => return Err(Failure::TooSlow),
            Why::Client(ClientBodyError::TooLarge) => {
                let limit = slot.route.traffic.body_limit.unwrap_or(u64::MAX);
                return Err(Failure::TooLarge { limit });
            }
            Why::Nonsense | Why::Lost(_) => {}
        }
        let replica = slot.backend.replica;
        shared.pool.distrust(replica);
        let is_misunderstood = connection.is_misunderstood();
        if is_misunderstood {
            shared.pool.speaks_http2_only(replica);
        }
        request = match (unsent, head.filter(|_| may_repeat)) {
            // Nothing of it was sent.
            (Some(unsent), _) if attempts < ATTEMPTS => unsent,
            // It may have been worked on, but doing so again changes nothing.
            (None, Some(head)) if repeats > 0 && (matches!(why, Why::Lost(_)) || is_misunderstood) => {
                repeats -= 1;
                // The first time, the connection may have been too old. A replica that breaks a new one is ending.
                if repeats == 0 && !is_misunderstood {
                    slot = Box::pin(elsewhere(shared, slot, bytes)).await?;
                }
                Request::from_parts(head, RequestBody::Empty)
            }
            _ => {
                return Err(match why {
                    Why::Lost(error) => Failure::Broken(error),
                    _ => Failure::Nonsense,
                });
            }
        };
    };
    slot.route.meter.upstream(upstream);
    let add = Added { app: slot.route.app.clone(), bond: slot.new_bond(), waited: slot.waited };
    if stay.is_over(shared, &add.app) {
        return Err(Failure::AccessLost);
    }
    let mut response = answer(shared, response, slot, connection, upgrade, stay)?;
    add.to(shared, upstream, response.headers_mut());
    Ok(response)
}

/// What the gateway adds to an app's answer: to which replica the visitor belongs, and where the time went.
struct Added {
    app: AppName,
    bond: Option<Bond>,
    waited: Waited,
}

impl Added {
    fn to(&self, shared: &Shared, upstream: Duration, headers: &mut HeaderMap) {
        if let Some(bond) = self.bond {
            affinity::set_cookie(shared, &self.app, bond, headers);
        }
        let Waited { wake, queue } = self.waited;
        let mut timing = String::with_capacity(64);
        if wake + queue > Duration::ZERO {
            write_timing(&mut timing, "wake;dur=", wake);
            write_timing(&mut timing, ", queue;dur=", queue);
            timing.push_str(", ");
        }
        write_timing(&mut timing, "upstream;dur=", upstream);
        if let Ok(timing) = HeaderValue::try_from(timing) {
            headers.append(SERVER_TIMING, timing);
        }
    }
}

/// In milliseconds, to the microsecond.
fn write_timing(text: &mut String, name: &str, time: Duration) {
    use std::fmt::Write as _;
    let micros = time.as_micros();
    let _ = write!(text, "{name}{}.{:03}", micros / 1000, micros % 1000);
}

/// Waits for an answer. `None`: it did not begin, and no more of the request was taken, for as long as `patience`.
async fn answer_of(
    connection: &mut Connection,
    taken: Option<&AtomicU64>,
    patience: Duration,
) -> Option<Result<Response<Option<Incoming>>, Failed>> {
    let pieces = || taken.map_or(0, |taken| taken.load(Ordering::Relaxed));
    let mut before = pieces();
    connection.silence.begin();
    poll_fn(|cx| {
        if let Poll::Ready(answer) = connection.poll_answer(cx) {
            return Poll::Ready(Some(answer));
        }
        let now = pieces();
        if now != std::mem::replace(&mut before, now) {
            connection.silence.begin();
        }
        connection.silence.poll(cx, Phase::Body, patience).map(|()| None)
    })
    .await
}

/// gRPC is spoken over HTTP/2 alone.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(content_type) = headers.get(header::CONTENT_TYPE) else { return false };
    let rest = content_type.as_bytes().strip_prefix(b"application/grpc");
    // `application/grpc-web` is another protocol, over HTTP/1.1.
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
}

fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// A connection to the slot's replica that has been used before.
fn kept_connection(shared: &Shared, slot: &Slot, now: Moment, http2: bool) -> Option<Connection> {
    let replica = slot.backend.replica;
    if http2 || shared.pool.is_http2_only(replica) {
        shared.pool.take_http2(replica)
    } else {
        shared.pool.take(replica, now)
    }
}

/// A new connection to the slot's replica. One that refuses is taken for dead: the request waits for another, or for the
/// same one once it is back.
async fn connection_for(
    shared: &Arc<Shared>,
    mut slot: Slot,
    started: Moment,
    bytes: usize,
    http2: bool,
) -> Result<(Slot, Connection), Failure> {
    loop {
        let error = match connect_to(shared, &slot.backend, http2).await {
            Ok(connection) => return Ok((slot, connection)),
            Err(error) => error,
        };
        tracing::debug!(
            app = %slot.route.app, replica = %slot.backend.replica, %error, "replica refuses connections"
        );
        if shared.clock.now() - started >= shared.config.limits.wake_timeout {
            return Err(Refusal::TooLate.into());
        }
        slot = elsewhere(shared, slot, bytes).await?;
        if let Some(connection) = kept_connection(shared, &slot, shared.clock.now(), http2) {
            return Ok((slot, connection));
        }
    }
}

/// A slot of another replica, or of the same one if it is back and the only one.
async fn elsewhere(shared: &Arc<Shared>, slot: Slot, bytes: usize) -> Result<Slot, Refusal> {
    let (route, replica, guest) = (Arc::clone(&slot.route), slot.backend.replica, slot.guest);
    drop(slot);
    (shared.nudge)(&route.app);
    hold(shared, &route, guest, bytes, Some(replica)).await
}

async fn connect_to(shared: &Arc<Shared>, backend: &Backend, http2: bool) -> io::Result<Connection> {
    let replica = backend.replica;
    if !http2 && !shared.pool.is_http2_only(replica) {
        return connect(shared, backend).await;
    }
    let sender = connect_http2(shared, backend).await?;
    shared.pool.put_http2(replica, sender.clone());
    Ok(Connection::on(replica, sender))
}

fn answer(
    shared: &Arc<Shared>,
    response: Response<Option<Incoming>>,
    slot: Slot,
    connection: Connection,
    upgrade: Option<Upgrade>,
    stay: Stay,
) -> Result<Response<AnswerBody>, Failure> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(upgrade) = upgrade else { return Err(Failure::Nonsense) };
        let Some(app) = connection.into_switched() else { return Err(Failure::Nonsense) };
        return switch(shared, response, app, slot.into_session(stay), upgrade);
    }
    // Over HTTP/2, any success says that the WebSocket is open; the app has just said that it is not.
    if response.status().is_success() && upgrade.is_some_and(|upgrade| upgrade.over_http2) {
        return Err(Failure::Nonsense);
    }
    let (mut parts, incoming) = response.into_parts();
    if parts.headers.contains_key(header::TRANSFER_ENCODING) {
        if !is_chunked(&parts.headers, parts.version) {
            return Err(Failure::Nonsense);
        }
        // The encoding counts, whatever length is claimed beside it.
        parts.headers.remove(header::CONTENT_LENGTH);
    }
    rewrite_response(&mut parts.headers, parts.version, &shared.config.apps_domain);
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    let is_events = parts
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.as_bytes().get(..17))
        .is_some_and(|start| start.eq_ignore_ascii_case(b"text/event-stream"));
    let is_over = incoming.as_ref().map_or_else(|| connection.is_answered(), http_body::Body::is_end_stream);
    let held = if is_events && !is_over {
        Held::Session(OpenStream::new(slot.into_session(stay), connection))
    } else {
        Held::Request(slot, connection, stay)
    };
    let body = AppBody::new(incoming, held, Arc::clone(shared));
    Ok(Response::from_parts(parts, AnswerBody::App(Box::new(body))))
}

/// No encoding but this one is undone on the way, and HTTP/1.0 knows none.
fn is_chunked(headers: &HeaderMap, version: Version) -> bool {
    let mut encodings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let is_chunked = |encoding: &HeaderValue| encoding.as_bytes().eq_ignore_ascii_case(b"chunked");
    version != Version::HTTP_10 && encodings.next().is_some_and(is_chunked) && encodings.next().is_none()
}

fn switch(
    shared: &Arc<Shared>,
    response: Response<Option<Incoming>>,
    app: Switched,
    session: Session,
    upgrade: Upgrade,
) -> Result<Response<AnswerBody>, Failure> {
    let is_websocket = response
        .headers()
        .get(header::UPGRADE)
        .is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if !is_websocket {
        return Err(Failure::Nonsense);
    }
    let (mut parts, _) = response.into_parts();
    rewrite_response(&mut parts.headers, parts.version, &shared.config.apps_domain);
    shared.tracker.spawn(websocket::relay(upgrade.client, app, session));
    if upgrade.over_http2 {
        parts.status = StatusCode::OK;
        parts.headers.remove(header::SEC_WEBSOCKET_ACCEPT);
    } else {
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    parts.extensions.clear();
    Ok(Response::from_parts(parts, AnswerBody::empty()))
}
