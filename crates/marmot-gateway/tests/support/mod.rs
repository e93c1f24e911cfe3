//! A gateway with apps and an engine to test against: the gateway is the real one, the engine opens gates when told.
#![allow(dead_code, unreachable_pub, reason = "each test uses its part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use marmot_core::id::{ReplicaId, UserId};
use marmot_core::{AppName, Clock, Demand, Gate, Moment};
use marmot_gateway::routes::{Access, Backend, Progress, Route, RouteState, Routes, Step, Traffic};
use marmot_gateway::trace::{Sampler, Span, Tracer};
use marmot_gateway::{Gateway, GatewayConfig, Identities, IdentityKey, Limits, Meter, Tickets};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Nothing here takes this long unless it is broken.
pub const LIMIT: Duration = Duration::from_secs(20);

pub type AppBody = UnsyncBoxBody<Bytes, Infallible>;

pub fn full(text: impl Into<Bytes>) -> AppBody {
    Full::new(text.into()).boxed_unsync()
}

/// A web app, as a process of its own would be: reached over TCP alone.
pub struct TestApp {
    pub address: SocketAddr,
    pub requests: Arc<AtomicU64>,
    stop: CancellationToken,
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.kill();
    }
}

impl TestApp {
    /// Says what it was asked, streams, and echoes over WebSocket.
    pub async fn start() -> Self {
        Self::start_with(|request| async move { answer(request).await }).await
    }

    pub async fn start_with<F, A>(handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Response<AppBody>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicU64::new(0));
        let stop = CancellationToken::new();
        let (counter, stopped) = (Arc::clone(&requests), stop.clone());
        tokio::spawn(async move {
            loop {
                let stream = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap().0,
                    () = stopped.cancelled() => return,
                };
                let (handler, counter, stopped) = (handler.clone(), Arc::clone(&counter), stopped.clone());
                tokio::spawn(async move {
                    let stop = stopped.clone();
                    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
                        counter.fetch_add(1, Ordering::SeqCst);
                        request.extensions_mut().insert(stop.clone());
                        let answer = handler(request);
                        async move { Ok::<_, Infallible>(answer.await) }
                    });
                    let serving = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades();
                    tokio::select! {
                        _ = serving => {}
                        () = stopped.cancelled() => {}
                    }
                });
            }
        });
        Self { address, requests, stop }
    }

    /// Ends at once, with all of its connections.
    pub fn kill(&self) {
        self.stop.cancel();
    }

    pub fn seen(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }
}

async fn answer(mut request: Request<Incoming>) -> Response<AppBody> {
    match request.uri().path() {
        "/ws" => accept_websocket(&mut request),
        "/echo" => {
            let mut text = format!("{} {}\n", request.method(), request.uri());
            for (name, value) in request.headers() {
                text += &format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()));
            }
            let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            Response::new(full(text + "\n" + &String::from_utf8_lossy(&body)))
        }
        "/stream" => Response::new(request.into_body().map_err(|_| unreachable!()).boxed_unsync()),
        _ => Response::new(full("hello")),
    }
}

/// Answers with a WebSocket that sends back what it gets; `ping` makes it send a ping.
pub fn accept_websocket(request: &mut Request<Incoming>) -> Response<AppBody> {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
    use tokio_tungstenite::tungstenite::protocol::{Message, Role};
    let key = derive_accept_key(request.headers()["sec-websocket-key"].as_bytes());
    let upgrade = hyper::upgrade::on(&mut *request);
    let killed = request.extensions().get::<CancellationToken>().unwrap().clone();
    tokio::spawn(killed.run_until_cancelled_owned(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        while let Some(message) = socket.next().await {
            let message = match message {
                Ok(message) => message,
                Err(error) => return say_goodbye(&mut socket, &error).await,
            };
            let sent = match message {
                Message::Text(text) if text.as_str() == "ping" => {
                    socket.send(Message::Ping("?".into())).await
                }
                Message::Text(_) | Message::Binary(_) => socket.send(message).await,
                Message::Pong(_) => socket.send(Message::Text("got pong".into())).await,
                _ => Ok(()),
            };
            if sent.is_err() {
                return;
            }
        }
    }));
    Response::builder()
        .status(101)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header("sec-websocket-accept", key)
        .body(full(""))
        .unwrap()
}

/// Says why, as an app should that is sent what is no WebSocket.
async fn say_goodbye<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(
    socket: &mut tokio_tungstenite::WebSocketStream<S>,
    error: &tokio_tungstenite::tungstenite::Error,
) {
    use futures_util::SinkExt;
    use tokio_tungstenite::tungstenite::Error;
    use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, frame::coding::CloseCode};
    let code = match error {
        Error::Utf8(_) => CloseCode::Invalid,
        Error::Protocol(_) => CloseCode::Protocol,
        _ => return,
    };
    let _ = socket.send(Message::Close(Some(CloseFrame { code, reason: "".into() }))).await;
    // What is still under way is read: it would destroy the close frame otherwise.
    let raw = socket.get_mut();
    let _ = tokio::io::AsyncWriteExt::shutdown(raw).await;
    let _ = tokio::io::copy(raw, &mut tokio::io::sink()).await;
}

/// A body that a test feeds by hand.
pub fn fed() -> (mpsc::UnboundedSender<Bytes>, AppBody) {
    let (feed, mut fed) = mpsc::unbounded_channel::<Bytes>();
    let frames = futures_util::stream::poll_fn(move |cx| {
        fed.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok::<_, Infallible>(Frame::data(bytes))))
    });
    (feed, StreamBody::new(frames).boxed_unsync())
}

type OnNudge = Arc<Mutex<Option<Box<dyn Fn() + Send>>>>;

/// A running gateway with one app, `iris`, and what its engine knows.
pub struct World {
    pub address: SocketAddr,
    pub routes: watch::Sender<Arc<Routes>>,
    pub demand: Arc<Demand>,
    pub meter: Arc<Meter>,
    pub tickets: Arc<Tickets>,
    pub identities: Arc<Identities>,
    pub traffic: Mutex<Traffic>,
    pub log_readers: Mutex<Arc<BTreeSet<UserId>>>,
    /// Lines of its log, as they are said.
    pub log: broadcast::Sender<String>,
    pub clock: Clock,
    pub nudges: Arc<AtomicU64>,
    on_nudge: OnNudge,
    stop: CancellationToken,
    pub serving: JoinHandle<std::io::Result<()>>,
}

impl World {
    pub async fn start() -> Self {
        Self::with_limits(Limits { stop_grace: Duration::from_secs(5), ..Limits::default() }).await
    }

    pub async fn with_limits(limits: Limits) -> Self {
        Self::with(|config| config.limits = limits).await
    }

    pub async fn with(adapt: impl FnOnce(&mut GatewayConfig)) -> Self {
        Self::made(adapt, None).await
    }

    /// With what it tells of requests.
    pub async fn traced(sampler: Sampler, room: usize) -> (Self, mpsc::Receiver<Span>) {
        let (tracer, spans) = Tracer::new(sampler, room);
        (Self::made(|_| {}, Some(Arc::new(tracer))).await, spans)
    }

    async fn made(adapt: impl FnOnce(&mut GatewayConfig), tracer: Option<Arc<Tracer>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut config = GatewayConfig::local(address);
        adapt(&mut config);
        let (routes, routes_seen) = watch::channel(Arc::new(Routes::default()));
        let begin = Instant::now();
        let clock =
            Clock::new(move || Moment::from_millis(u64::try_from(begin.elapsed().as_millis()).unwrap()));
        let nudges = Arc::new(AtomicU64::new(0));
        let on_nudge = OnNudge::default();
        let (count, act) = (Arc::clone(&nudges), Arc::clone(&on_nudge));
        let nudge = move |_: &AppName| {
            count.fetch_add(1, Ordering::SeqCst);
            if let Some(act) = &*act.lock().unwrap() {
                act();
            }
        };
        let tickets = Arc::new(Tickets::new([7; 32]));
        let key = IdentityKey::read(&IdentityKey::generate().unwrap()).unwrap();
        let platform_url = format!("http://localhost:{}", address.port());
        let identities = Arc::new(Identities::new(platform_url, key.clone(), [&key]));
        let log = broadcast::Sender::new(100);
        let said = log.clone();
        let mut gateway = Gateway::new(config, routes_seen, clock.clone(), nudge, Arc::clone(&tickets))
            .with_identities(Arc::clone(&identities))
            .with_logs(Arc::new(move |_| {
                let lines = futures_util::stream::unfold(said.subscribe(), |mut said| async {
                    said.recv().await.ok().map(|line| (line, said))
                });
                Box::pin(lines)
            }));
        if let Some(tracer) = tracer {
            gateway = gateway.with_tracer(tracer);
        }
        let stop = CancellationToken::new();
        let platform = tower::service_fn(|request: Request<Incoming>| async move {
            let host = request.headers().get("x-forwarded-host").cloned();
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(format!(
                "platform {} {host:?}",
                request.uri().path()
            ))))
        });
        let serving = tokio::spawn(gateway.serve(listener.try_into().unwrap(), platform, stop.clone()));
        let (demand, meter) = (Arc::new(Demand::default()), Arc::new(Meter::default()));
        Self {
            address,
            routes,
            demand,
            meter,
            tickets,
            identities,
            traffic: Mutex::default(),
            log_readers: Mutex::default(),
            log,
            clock,
            nudges,
            on_nudge,
            stop,
            serving,
        }
    }

    /// What the engine does when it is nudged.
    pub fn on_nudge(&self, act: impl Fn() + Send + 'static) {
        *self.on_nudge.lock().unwrap() = Some(Box::new(act));
    }

    pub fn route(&self, access: Access, state: RouteState) -> Routes {
        let route = Route {
            app: "iris".parse().unwrap(),
            title: "Iris <b>Explorer</b>".to_owned(),
            access,
            state,
            traffic: *self.traffic.lock().unwrap(),
            demand: Arc::clone(&self.demand),
            meter: Arc::clone(&self.meter),
            log_readers: Arc::clone(&self.log_readers.lock().unwrap()),
        };
        [Arc::new(route)].into_iter().collect()
    }

    pub fn set(&self, state: RouteState) {
        self.routes.send_replace(Arc::new(self.route(Access::everyone(), state)));
    }

    pub fn set_access(&self, access: Access, state: RouteState) {
        self.routes.send_replace(Arc::new(self.route(access, state)));
    }

    pub fn set_for(&self, people: &[UserId], state: RouteState) {
        let access = Access::people(people.iter().copied());
        self.routes.send_replace(Arc::new(self.route(access, state)));
    }

    /// A client that finds the app, and nothing else.
    pub fn client(&self) -> reqwest::Client {
        reqwest::Client::builder()
            .resolve("iris.localhost", self.address)
            .resolve("localhost", self.address)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(LIMIT)
            .build()
            .unwrap()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://iris.localhost:{}{path}", self.address.port())
    }

    /// Sends these bytes on a connection of their own and reads until the server closes it.
    pub async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(LIMIT, stream.read_to_end(&mut answer)).await;
        read.expect("the server closes the connection").ok();
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(LIMIT, self.serving).await.expect("stops").unwrap().unwrap();
    }

    pub fn begin_to_stop(&self) {
        self.stop.cancel();
    }
}

/// A replica at this address, and its gate, which is open.
pub fn replica(address: SocketAddr) -> Backend {
    let backend = sleeping_replica(address, 1000);
    backend.gate.open();
    backend
}

/// A replica at this address, asleep, that works on `limit` requests at the same time.
pub fn sleeping_replica(address: SocketAddr, limit: u32) -> Backend {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let replica = ReplicaId::from(u128::from(NEXT.fetch_add(1, Ordering::SeqCst)));
    Backend { replica, address, sockets: None, gate: Arc::new(Gate::new(limit)) }
}

pub fn on(backends: Vec<Backend>) -> RouteState {
    RouteState::On {
        backends,
        progress: Progress {
            at: Step::Starting,
            step: "Starting".into(),
            since: Moment::START,
            expected: None,
            no_room: None,
        },
    }
}

/// Waits until `is_so`, without hoping: it yields to what should bring it about, and gives up after a while.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(LIMIT, waiting).await.unwrap_or_else(|_| panic!("{what}"));
}
