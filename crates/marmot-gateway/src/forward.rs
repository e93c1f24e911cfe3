//! Sends a request to a replica and brings back its answer; tries again where that is safe.

use std::error::Error as _;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header, request,
};
use http_body::Body as _;
use hyper::body::Incoming;
use marmot_core::{AppName, Moment};
use tokio::time::Instant;

use crate::affinity::{self, Bond};
use crate::body::{AnswerBody, AppBody, ClientBodyError, Held, OpenStream, RequestBody};
use crate::headers::rewrite_response;
use crate::hold::{Refusal, hold, weight};
use crate::routes::{Backend, Route};
use crate::scanner::Phase;
use crate::shared::Shared;
use crate::slot::{Session, Slot, Waited};
use crate::stay::Stay;
use crate::upstream::{Connection, connect, connect_http2};
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
    Broken(#[source] Option<hyper::Error>),
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
    // Kept for another try, where one is allowed.
    let spare = (empty && is_safe(&parts.method) && upgrade.is_none()).then(|| copy(&parts));
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
        (slot, connection) = connection_for(shared, slot, started, bytes, http2).await?;
        let handed_over = Instant::now();
        let sent = connection.send(request);
        let patience = shared.config.limits.response_timeout;
        let answer =
            while_taken(&mut connection, sent, taken.as_deref(), patience).await.ok_or(Failure::Silent)?;
        let mut error = match answer {
            Ok(response) => break (response, slot, connection, handed_over.elapsed()),
            Err(error) => error,
        };
        if let Some(fault) = clients_fault(error.error(), &slot.route) {
            return Err(fault);
        }
        let replica = slot.backend.replica;
        shared.pool.distrust(replica);
        let is_misunderstood = connection.is_misunderstood();
        if is_misunderstood {
            shared.pool.speaks_http2_only(replica);
        }
        request = match (error.take_message(), &spare) {
            // Nothing of it was sent.
            (Some(unsent), _) if attempts < ATTEMPTS => unsent,
            // It may have been worked on, but doing so again changes nothing.
            (None, Some(safe)) if repeats > 0 && (!error.error().is_parse() || is_misunderstood) => {
                repeats -= 1;
                // The first time, the connection may have been too old. A replica that breaks a new one is ending.
                if repeats == 0 && !is_misunderstood {
                    slot = elsewhere(shared, slot, bytes).await?;
                }
                safe.clone().map(|()| RequestBody::Empty)
            }
            _ if error.error().is_parse() => return Err(Failure::Nonsense),
            _ => return Err(Failure::Broken(Some(error.into_error()))),
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
        let millis = |time: Duration| time.as_micros() as f64 / 1000.0;
        let Waited { wake, queue } = self.waited;
        let timing = if wake + queue > Duration::ZERO {
            format!(
                "wake;dur={}, queue;dur={}, upstream;dur={}",
                millis(wake),
                millis(queue),
                millis(upstream)
            )
        } else {
            format!("upstream;dur={}", millis(upstream))
        };
        if let Ok(timing) = HeaderValue::try_from(timing) {
            headers.append(SERVER_TIMING, timing);
        }
    }
}

/// Waits for an answer. `None`: it did not begin, and no more of the request was taken, for as long as `patience`.
async fn while_taken<T>(
    connection: &mut Connection,
    answer: impl Future<Output = T>,
    taken: Option<&AtomicU64>,
    patience: Duration,
) -> Option<T> {
    let mut answer = pin!(answer);
    let pieces = || taken.map_or(0, |taken| taken.load(Ordering::Relaxed));
    let mut before = pieces();
    connection.silence.begin();
    let is_http2 = connection.is_http2();
    poll_fn(|cx| {
        connection.drive(cx);
        // Over HTTP/1.1 it comes when the connection is driven, and by nothing else: nobody has to be woken for it.
        let mut nobody = Context::from_waker(Waker::noop());
        let polled = answer.as_mut().poll(if is_http2 { cx } else { &mut nobody });
        if let Poll::Ready(answer) = polled {
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

fn copy(parts: &request::Parts) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = parts.uri.clone();
    *request.version_mut() = parts.version;
    *request.headers_mut() = parts.headers.clone();
    request
}

/// What the client did wrong, if it was the client.
fn clients_fault(error: &hyper::Error, route: &Route) -> Option<Failure> {
    let mut source = error.source();
    while let Some(cause) = source {
        match cause.downcast_ref::<ClientBodyError>() {
            Some(ClientBodyError::Broken(_)) => return Some(Failure::Client),
            Some(ClientBodyError::TooSlow) => return Some(Failure::TooSlow),
            Some(ClientBodyError::TooLarge) => {
                return Some(Failure::TooLarge { limit: route.traffic.body_limit.unwrap_or(u64::MAX) });
            }
            None => source = cause.source(),
        }
    }
    None
}

/// A connection to the slot's replica. One that refuses is taken for dead: the request waits for another, or for the
/// same one once it is back.
async fn connection_for(
    shared: &Arc<Shared>,
    mut slot: Slot,
    started: Moment,
    bytes: usize,
    http2: bool,
) -> Result<(Slot, Connection), Failure> {
    loop {
        let error = match take_or_connect(shared, &slot.backend, http2).await {
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
    }
}

/// A slot of another replica, or of the same one if it is back and the only one.
async fn elsewhere(shared: &Arc<Shared>, slot: Slot, bytes: usize) -> Result<Slot, Refusal> {
    let (route, replica, guest) = (Arc::clone(&slot.route), slot.backend.replica, slot.guest);
    drop(slot);
    (shared.nudge)(&route.app);
    hold(shared, &route, guest, bytes, Some(replica)).await
}

async fn take_or_connect(shared: &Arc<Shared>, backend: &Backend, http2: bool) -> io::Result<Connection> {
    let replica = backend.replica;
    if !http2 && !shared.pool.is_http2_only(replica) {
        return match shared.pool.take(replica, shared.clock.now()) {
            Some(connection) => Ok(connection),
            None => connect(shared, backend).await,
        };
    }
    if let Some(connection) = shared.pool.take_http2(replica) {
        return Ok(connection);
    }
    let sender = connect_http2(shared, backend).await?;
    shared.pool.put_http2(replica, sender.clone());
    Ok(Connection::on(replica, sender))
}

fn answer(
    shared: &Arc<Shared>,
    response: Response<Incoming>,
    slot: Slot,
    connection: Connection,
    upgrade: Option<Upgrade>,
    stay: Stay,
) -> Result<Response<AnswerBody>, Failure> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(upgrade) = upgrade else { return Err(Failure::Nonsense) };
        shared.tracker.spawn(connection.drive_to_the_end());
        return switch(shared, response, slot.into_session(stay), upgrade);
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
    let held = if is_events && !incoming.is_end_stream() {
        Held::Session(OpenStream::new(slot.into_session(stay), connection))
    } else {
        Held::Request(slot, connection, stay)
    };
    let body = AppBody::new(incoming, held, Arc::clone(shared));
    Ok(Response::from_parts(parts, AnswerBody::App(body)))
}

/// No encoding but this one is undone on the way, and HTTP/1.0 knows none.
fn is_chunked(headers: &HeaderMap, version: Version) -> bool {
    let mut encodings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let is_chunked = |encoding: &HeaderValue| encoding.as_bytes().eq_ignore_ascii_case(b"chunked");
    version != Version::HTTP_10 && encodings.next().is_some_and(is_chunked) && encodings.next().is_none()
}

fn switch(
    shared: &Arc<Shared>,
    mut response: Response<Incoming>,
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
    let app = hyper::upgrade::on(&mut response);
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
