//! One client's connection, from its first byte to its last.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode, Version};
use http_body::Body as HttpBody;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tower::Service;

use crate::body::{BoxError, Watched};
use crate::config::HEADER_FIELDS;
use crate::service::{handle, to_https};
use crate::shared::Shared;
use crate::stream::Stream;
use crate::tls;
use crate::wire::{Line, Wire};

/// Requests of one HTTP/2 connection at the same time.
const HTTP2_STREAMS: u32 = 200;
/// Said without having read a request: to one that has too many connections.
const TOO_MANY: &[u8] =
    b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
/// A client that connected just before the gateway stops has this long to begin its request.
const LAST_CHANCE: Duration = Duration::from_millis(500);

/// Serves a connection until it ends, or the gateway stops.
pub(crate) async fn serve_connection<P, B>(
    shared: Arc<Shared>,
    platform: P,
    stream: TcpStream,
    peer: SocketAddr,
) where
    P: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
    P::Future: Send,
    P::Error: Into<BoxError>,
    B: HttpBody<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    // Small answers must not wait for more. A connection that is gone already tells so when it is read.
    let _ = stream.set_nodelay(true);
    let limits = &shared.config.limits;
    let may_have_many =
        peer.ip().to_canonical().is_loopback() || shared.config.trusted_proxies.contains(peer.ip());
    let most = if may_have_many { usize::MAX } else { limits.connections_per_client };
    let Some(_member) = shared.crowd.enter(peer.ip(), most) else {
        // What is no HTTP does not understand it, and is closed all the same.
        let _ = stream.try_write(TOO_MANY);
        return;
    };
    let counted = (!may_have_many).then(|| peer.ip());
    let stopped = async {
        shared.soft_stop.cancelled().await;
        tokio::time::sleep(LAST_CHANCE).await;
    };
    // What is needed for a moment only is kept apart: thousands of connections wait, each for long.
    let opened = Box::pin(async {
        let opening = open(&shared, stream, counted);
        tokio::select! {
            opened = tokio::time::timeout(limits.header_timeout, opening) => opened.ok()?.ok(),
            () = stopped => None,
        }
    });
    let opened = opened.await;
    let Some((wire, is_secure)) = opened else { return };
    let is_http2 = wire.is_http2();
    let elsewhere = shared.config.tls.as_ref().filter(|_| !is_secure).map(|tls| tls.port);
    let client = Arc::new(Client { line: wire.line(), shared, platform, peer, is_http2, elsewhere });
    if is_http2 {
        Box::pin(serve_http2(&client, wire)).await;
    } else {
        serve_http1(&client, wire).await;
    }
}

/// Begins TLS, where that is to be, and finds out the protocol. `counted`: the client, where it may not begin as often as it
/// likes. Also says whether nobody can read along, as far as the gateway is concerned.
async fn open(shared: &Shared, stream: TcpStream, counted: Option<IpAddr>) -> io::Result<(Wire, bool)> {
    let Some(tls) = &shared.config.tls else {
        return Ok((Wire::open(Stream::Plain(stream), &shared.config).await?, false));
    };
    let mut first = [0];
    if stream.peek(&mut first).await? == 1 && first[0] != tls::HANDSHAKE {
        return Ok((Wire::open(Stream::Plain(stream), &shared.config).await?, false));
    }
    let begun = shared.handshakes.begin(counted, &shared.config.limits, shared.clock.now());
    let Some(handshake) = begun else { return Err(io::ErrorKind::QuotaExceeded.into()) };
    // Boxed, as what else only some connections need: the place of the largest would be there for all of them.
    let stream = Box::pin(tls.certificates.accept(stream)).await?;
    drop(handshake);
    Ok((Wire::open(Stream::Tls(Box::new(stream)), &shared.config).await?, true))
}

/// What the requests of one connection share.
struct Client<P> {
    shared: Arc<Shared>,
    platform: P,
    peer: SocketAddr,
    line: Arc<Line>,
    is_http2: bool,
    /// The port to which its requests are sent, where they may not come in plain text.
    elsewhere: Option<u16>,
}

async fn answer<P, B>(
    client: Arc<Client<P>>,
    // Each function that it goes through would keep a copy of its own while the request waits.
    request: Box<Request<Incoming>>,
) -> Result<Response<Watched>, std::convert::Infallible>
where
    P: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
    P::Future: Send,
    P::Error: Into<BoxError>,
    B: HttpBody<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let (clear, busy) = client.line.begin(request.version() < Version::HTTP_11);
    let clear = clear || client.is_http2;
    if let Some(port) = client.elsewhere {
        let response = to_https(&client.shared, port, clear, &request);
        client.line.answer();
        return Ok(response.map(|body| Watched { body, _busy: busy }));
    }
    let response = handle(&client.shared, &client.platform, client.peer, clear, request).await;
    client.line.answer();
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        client.line.switch();
    }
    Ok(response.map(|body| Watched { body, _busy: busy }))
}

// Errors of a connection are the client's doing: it left, or sent what is no HTTP and has been told.

async fn serve_http2<P, B>(client: &Arc<Client<P>>, wire: Wire)
where
    P: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
    P::Future: Send,
    P::Error: Into<BoxError>,
    B: HttpBody<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let shared = &client.shared;
    let limits = &shared.config.limits;
    let service = service_fn(|request| answer(Arc::clone(client), Box::new(request)));
    let serving = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .max_concurrent_streams(HTTP2_STREAMS)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(limits.idle_timeout)
        .serve_connection(TokioIo::new(wire), service);
    until_stopped(shared, pin!(serving), |serving| serving.graceful_shutdown()).await;
}

async fn serve_http1<P, B>(client: &Arc<Client<P>>, wire: Wire)
where
    P: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
    P::Future: Send,
    P::Error: Into<BoxError>,
    B: HttpBody<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let shared = &client.shared;
    let service = service_fn(|request| answer(Arc::clone(client), Box::new(request)));
    let mut builder = http1::Builder::new();
    if shared.config.limits.header_fields != HEADER_FIELDS {
        builder.max_headers(shared.config.limits.header_fields);
    }
    let serving = builder
        // Kept by the wire, which tells a slow head from an idle connection.
        .header_read_timeout(None)
        .max_header_size(shared.config.limits.header_bytes)
        .serve_connection(TokioIo::new(wire), service)
        .with_upgrades();
    until_stopped(shared, pin!(serving), |serving| serving.graceful_shutdown()).await;
}

/// Serves a connection to its end; asks it to end when the gateway stops, and cuts it when there is no more time.
async fn until_stopped<F: Future>(
    shared: &Shared,
    mut serving: Pin<&mut F>,
    ask_to_end: impl FnOnce(Pin<&mut F>),
) {
    // The connection first: a request that has arrived is read before the end is announced.
    tokio::select! {
        biased;
        _ = serving.as_mut() => return,
        () = shared.stopped_softly() => ask_to_end(serving.as_mut()),
    }
    tokio::select! {
        _ = serving.as_mut() => {}
        () = shared.hard_stop.cancelled() => {}
    }
}
