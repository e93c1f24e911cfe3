//! Serves on every core, and stops in order: no new connections, those under way finish, the rest is cut.
//!
//! Each core has a thread with a runtime, a listening socket and a pool of connections of its own: a request is
//! answered where it arrived, and never waits for another core. The platform's own requests, which ask a database, are
//! answered on the runtime that [`Gateway::serve`] was called on.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::join_all;
use http::{Request, Response};
use http_body::Body as HttpBody;
use hyper::body::Incoming;
use marmot_core::{AppName, Clock};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt as _};

use crate::access::Tickets;
use crate::body::BoxError;
use crate::config::{GatewayConfig, Tls};
use crate::connection::serve_connection;
use crate::identity::Identities;
use crate::listen::Listeners;
use crate::lobby::LogSource;
use crate::pool::IDLE_FOR;
use crate::routes::Routes;
use crate::shared::Shared;
use crate::trace::Tracer;

/// How long to wait before accepting again when there are no descriptors left: only time brings them back.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// How often certificates are read again: a renewed one is not urgent.
const CERTIFICATES_AGAIN: Duration = Duration::from_secs(10);
/// What was cut has this long to notice.
const CUT: Duration = Duration::from_secs(2);

/// Receives every request, to the platform and to apps, on one port.
#[derive(Debug)]
pub struct Gateway {
    shared: Shared,
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
        Self { shared: Shared::new(config, routes, clock, Arc::new(nudge), tickets) }
    }

    /// Shows those who may read it, in the lobby, what an app says while it wakes.
    #[must_use]
    pub fn with_logs(mut self, logs: LogSource) -> Self {
        self.shared.logs = Some(logs);
        self
    }

    /// Tells apps, signed, who their visitors are.
    #[must_use]
    pub fn with_identities(mut self, identities: Arc<Identities>) -> Self {
        self.shared.identities = Some(identities);
        self
    }

    /// Tells of each request.
    #[must_use]
    pub fn with_tracer(mut self, tracer: Arc<Tracer>) -> Self {
        self.shared.tracer = Some(tracer);
        self
    }

    /// Serves until `stop`, then finishes: requests in flight end within the configured grace, WebSockets are closed
    /// with 1001. `platform` answers what is addressed to the platform's own hosts; it finds the client's address as
    /// [`crate::Peer`] among the request's extensions.
    ///
    /// # Errors
    ///
    /// When a core's socket or thread cannot be made. What goes wrong with one connection ends that connection.
    pub async fn serve<P, B>(
        self,
        listeners: Listeners,
        platform: P,
        stop: CancellationToken,
    ) -> io::Result<()>
    where
        P: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
        P::Future: Send,
        P::Error: Into<BoxError> + Send,
        B: HttpBody<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let shared = self.shared;
        let listeners = listeners.spread(shared.config.cores.max(1))?;
        let platform = OnMain { service: platform, runtime: Handle::current() };
        // If this future is dropped, everything ends with it, at once.
        let over = CancellationToken::new();
        let _cut = [over.clone(), shared.hard_stop.clone(), shared.soft_stop.clone()].map(|t| t.drop_guard());
        let accepting = CancellationToken::new();
        let _refuse = accepting.clone().drop_guard();
        let mut cores = Vec::with_capacity(listeners.len());
        for (number, listeners) in listeners.into_iter().enumerate() {
            let core = Core {
                shared: Arc::new(shared.for_another_core()),
                platform: platform.clone(),
                stop: accepting.clone(),
                over: over.clone(),
            };
            cores.push(core.start(number, listeners)?);
        }
        let keeping = tokio::spawn(keep_rooms(Arc::new(shared.for_another_core())));
        let certificates = shared.config.tls.clone().map(|tls| tokio::spawn(keep_certificates(tls)));
        stop.cancelled().await;
        accepting.cancel();
        // What has been accepted is served; what has not by then never will be.
        for core in &mut cores {
            let _ = (&mut core.stopped_accepting).await;
        }
        shared.stop_softly();
        shared.tracker.close();
        if tokio::time::timeout(shared.config.limits.stop_grace, shared.tracker.wait()).await.is_err() {
            tracing::warn!(tasks = shared.tracker.len(), "requests were still in flight; they are cut");
            shared.hard_stop.cancel();
            let _ = tokio::time::timeout(CUT, shared.tracker.wait()).await;
        }
        over.cancel();
        for core in cores {
            let _ = core.ended.await;
        }
        keeping.abort();
        certificates.iter().for_each(JoinHandle::abort);
        Ok(())
    }
}

/// Reads certificates again when they have been renewed.
async fn keep_certificates(tls: Tls) {
    let mut look = tokio::time::interval(CERTIFICATES_AGAIN);
    let mut complained = false;
    loop {
        look.tick().await;
        let certificates = Arc::clone(&tls.certificates);
        let Ok(read) = tokio::task::spawn_blocking(move || certificates.read_again()).await else { return };
        match read {
            Ok(changed) => {
                if changed {
                    tracing::info!("the TLS certificate has changed; new connections get the new one");
                }
                complained = false;
            }
            Err(error) if !std::mem::replace(&mut complained, true) => {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
                let cause = cause.unwrap_or_default();
                tracing::warn!(
                    "the TLS certificate cannot be read again, the old one is used on: {error}{cause}"
                );
            }
            Err(_) => {}
        }
    }
}

/// Tells connections that they may have to end, and forgets the queues of apps that are gone.
async fn keep_rooms(shared: Arc<Shared>) {
    let mut routes = shared.routes.clone();
    let mut before = Arc::clone(&routes.borrow_and_update());
    while routes.changed().await.is_ok() {
        let now = Arc::clone(&routes.borrow_and_update());
        let sessions_may_end = now.changes_since(&before).any(|change| {
            change.before.is_some_and(|before| change.now.is_none_or(|now| before.sessions_may_end_with(now)))
        });
        if sessions_may_end {
            // Before anybody is told: who looks at the number finds it changed.
            shared.epoch.fetch_add(1, Ordering::AcqRel);
            shared.sessions_may_end.send_replace(());
        }
        shared.rooms.keep_only(&now);
        before = now;
    }
}

/// One core's part of the gateway.
struct Core<P> {
    shared: Arc<Shared>,
    platform: P,
    /// Accept nothing more.
    stop: CancellationToken,
    /// Nothing is left to do.
    over: CancellationToken,
}

/// A core that runs.
struct Running {
    stopped_accepting: oneshot::Receiver<()>,
    ended: oneshot::Receiver<()>,
}

impl<P, B> Core<P>
where
    P: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
    P::Future: Send,
    P::Error: Into<BoxError>,
    B: HttpBody<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    fn start(self, number: usize, listeners: Vec<TcpListener>) -> io::Result<Running> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (tell_stopped, stopped_accepting) = oneshot::channel();
        let (tell_ended, ended) = oneshot::channel::<()>();
        let listeners = {
            let _inside = runtime.enter();
            let registered = listeners.into_iter().map(tokio::net::TcpListener::from_std);
            registered.collect::<io::Result<Vec<_>>>()?
        };
        std::thread::Builder::new().name(format!("gateway-{number}")).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = self.run(listeners, tell_stopped) => {}
                    () = self.over.cancelled() => {}
                }
            });
            drop(runtime);
            drop(tell_ended);
        })?;
        Ok(Running { stopped_accepting, ended })
    }

    async fn run(&self, listeners: Vec<tokio::net::TcpListener>, stopped: oneshot::Sender<()>) {
        let keeping = tokio::spawn(keep_pool(Arc::clone(&self.shared)));
        join_all(listeners.into_iter().map(|listener| self.accept(listener))).await;
        let _ = stopped.send(());
        self.over.cancelled().await;
        keeping.abort();
    }

    /// Accepts connections until it is to stop, and those that wait then.
    async fn accept(&self, listener: tokio::net::TcpListener) {
        let mut complained = false;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stop.cancelled() => break,
            };
            match accepted {
                Ok((stream, peer)) => {
                    complained = false;
                    self.welcome(stream, peer);
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
        // Those that have been told that they are connected would be reset with the socket.
        let Ok(listener) = listener.into_std() else { return };
        while let Ok((stream, peer)) = listener.accept() {
            let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
            stream.into_iter().for_each(|stream| self.welcome(stream, peer));
        }
    }

    fn welcome(&self, stream: TcpStream, peer: SocketAddr) {
        let serving = serve_connection(Arc::clone(&self.shared), self.platform.clone(), stream, peer);
        self.shared.tracker.spawn(serving);
    }
}

fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// Lets go of connections to replicas that are gone, and of those that are not used any more.
async fn keep_pool(shared: Arc<Shared>) {
    let mut routes = shared.routes.clone();
    let mut before = Arc::new(Routes::default());
    let mut sweep = tokio::time::interval(IDLE_FOR);
    loop {
        let now = Arc::clone(&routes.borrow_and_update());
        shared.pool.follow(now.changes_since(&before));
        before = now;
        tokio::select! {
            changed = routes.changed() => if changed.is_err() { return },
            _ = sweep.tick() => shared.pool.sweep(shared.clock.now()),
            () = shared.soft_stop.cancelled() => break,
        }
    }
    // Idle connections would outlive the requests they were made for.
    shared.pool.follow(Routes::default().changes_since(&before));
}

/// Answers on the main runtime, so that a slow answer of the platform's holds up no app.
#[derive(Clone)]
struct OnMain<P> {
    service: P,
    runtime: Handle,
}

impl<P, B> Service<Request<Incoming>> for OnMain<P>
where
    P: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    P::Future: Send,
    P::Error: Into<BoxError> + Send,
    B: Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = Elsewhere<Result<Response<B>, P::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        Elsewhere(self.runtime.spawn(self.service.clone().oneshot(request)))
    }
}

/// Work on another runtime, given up with whoever waits for it.
struct Elsewhere<T>(JoinHandle<T>);

impl<T> Drop for Elsewhere<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<T, E: Into<BoxError>> Future for Elsewhere<Result<T, E>> {
    type Output = Result<T, BoxError>;

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match ready!(std::pin::Pin::new(&mut self.0).poll(cx)) {
            Ok(answer) => answer.map_err(Into::into),
            Err(error) => Err(error.into()),
        })
    }
}
