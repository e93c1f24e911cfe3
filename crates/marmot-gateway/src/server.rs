//! Accepts connections, serves them, and stops in order: no new ones, those under way finish, the rest is cut.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body::Body as HttpBody;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use marmot_core::{AppName, Clock};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use crate::access::Tickets;
use crate::body::{BoxError, Watched};
use crate::config::GatewayConfig;
use crate::hold::Rooms;
use crate::pool::Pool;
use crate::routes::{Route, Routes};
use crate::service::handle;
use crate::shared::Shared;
use crate::wire::Wire;

/// How long to wait before accepting again when there are no descriptors left: only time brings them back.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// What was cut has this long to notice.
const CUT: Duration = Duration::from_secs(2);
/// Requests of one HTTP/2 connection at the same time.
const HTTP2_STREAMS: u32 = 200;

/// Receives every request, to the platform and to apps, on one port.
#[derive(Debug)]
pub struct Gateway {
    shared: Arc<Shared>,
}

impl Gateway {
    /// A gateway for these routes. `nudge` asks the engine to look at an app now; it is called often, and must not
    /// block. `tickets` are shared with the platform's page that signs visitors in.
    pub fn new(
        config: GatewayConfig,
        routes: watch::Receiver<Arc<Routes>>,
        clock: Clock,
        nudge: impl Fn(&AppName) + Send + Sync + 'static,
        tickets: Arc<Tickets>,
    ) -> Self {
        let shared = Shared {
            config,
            routes,
            clock,
            nudge: Box::new(nudge),
            tickets,
            access_changed: watch::Sender::new(()),
            rooms: Rooms::default(),
            pool: Pool::default(),
            tracker: TaskTracker::new(),
            soft_stop: CancellationToken::new(),
            hard_stop: CancellationToken::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Serves until `stop`, then finishes: requests in flight end within the configured grace, WebSockets are closed
    /// with 1001. `platform` answers what is addressed to the platform's own hosts; it finds the client's address as
    /// [`crate::Peer`] among the request's extensions.
    ///
    /// # Errors
    ///
    /// Never: what goes wrong with one connection ends that connection.
    pub async fn serve<P, B>(
        self,
        listener: TcpListener,
        platform: P,
        stop: CancellationToken,
    ) -> io::Result<()>
    where
        P: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
        P::Future: Send,
        P::Error: Into<BoxError>,
        B: HttpBody<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let shared = self.shared;
        shared.tracker.spawn(keep(Arc::clone(&shared)));
        let mut complained = false;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => break,
            };
            match accepted {
                Ok((stream, peer)) => {
                    complained = false;
                    shared.tracker.spawn(connection(Arc::clone(&shared), platform.clone(), stream, peer));
                }
                Err(error) if is_about_one_connection(&error) => {}
                Err(error) => {
                    if !std::mem::replace(&mut complained, true) {
                        tracing::error!(%error, "cannot accept connections");
                    }
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
        drop(listener);
        shared.soft_stop.cancel();
        shared.tracker.close();
        if tokio::time::timeout(shared.config.limits.stop_grace, shared.tracker.wait()).await.is_err() {
            tracing::warn!(tasks = shared.tracker.len(), "requests were still in flight; they are cut");
            shared.hard_stop.cancel();
            let _ = tokio::time::timeout(CUT, shared.tracker.wait()).await;
        }
        Ok(())
    }
}

fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// Lets go of what belongs to replicas and apps that are gone.
async fn keep(shared: Arc<Shared>) {
    let mut routes = shared.routes.clone();
    let mut before = Arc::new(Routes::default());
    loop {
        let now = Arc::clone(&routes.borrow_and_update());
        let access_changed = |(app, route): (&AppName, &Arc<Route>)| {
            now.apps.get(app).is_some_and(|route_now| route_now.access != route.access)
        };
        if before.apps.iter().any(access_changed) {
            shared.access_changed.send_replace(());
        }
        before = Arc::clone(&now);
        shared.pool.keep_only(&now);
        shared.rooms.keep_only(&now);
        tokio::select! {
            changed = routes.changed() => if changed.is_err() { return },
            () = shared.soft_stop.cancelled() => break,
        }
    }
    // Idle connections would outlive the requests they were made for.
    shared.pool.keep_only(&Routes::default());
}

async fn connection<P, B>(shared: Arc<Shared>, platform: P, stream: TcpStream, peer: SocketAddr)
where
    P: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
    P::Future: Send,
    P::Error: Into<BoxError>,
    B: HttpBody<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    // Small answers must not wait for more. A connection that is gone already tells so when it is read.
    let _ = stream.set_nodelay(true);
    let limits = &shared.config.limits;
    let opened = tokio::select! {
        opened = tokio::time::timeout(limits.header_timeout, Wire::open(stream, limits)) => opened,
        () = shared.soft_stop.cancelled() => return,
    };
    let Ok(Ok(wire)) = opened else { return };
    let (is_http2, line) = (wire.is_http2(), wire.line());
    let service = service_fn(|request: Request<Incoming>| {
        let (clear, busy) = line.begin();
        let clear = clear || is_http2;
        let line = Arc::clone(&line);
        let answer = handle(Arc::clone(&shared), platform.clone(), peer, clear, request);
        async move {
            let response = answer.await;
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                line.switch();
            }
            Ok::<_, std::convert::Infallible>(response.map(|body| Watched { body, _busy: busy }))
        }
    });
    let io = TokioIo::new(wire);
    // Errors are the client's doing: it left, or sent what is no HTTP and has been told.
    if is_http2 {
        let serving = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(HTTP2_STREAMS)
            .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
            .keep_alive_interval(limits.idle_timeout)
            .serve_connection(io, service);
        let mut serving = pin!(serving);
        tokio::select! {
            _ = serving.as_mut() => return,
            () = shared.soft_stop.cancelled() => serving.as_mut().graceful_shutdown(),
        }
        tokio::select! {
            _ = serving.as_mut() => {}
            () = shared.hard_stop.cancelled() => {}
        }
    } else {
        let serving = http1::Builder::new()
            // Kept by the wire, which tells a slow head from an idle connection.
            .header_read_timeout(None)
            .max_header_size(limits.header_bytes)
            .serve_connection(io, service)
            .with_upgrades();
        let mut serving = pin!(serving);
        tokio::select! {
            _ = serving.as_mut() => return,
            () = shared.soft_stop.cancelled() => serving.as_mut().graceful_shutdown(),
        }
        tokio::select! {
            _ = serving.as_mut() => {}
            () = shared.hard_stop.cancelled() => {}
        }
    }
}
