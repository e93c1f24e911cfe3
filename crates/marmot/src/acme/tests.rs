//! Certificates from a real authority, through a real gateway, as visitors see them.

mod pebble;

use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::Full;
use jiff::SignedDuration;
use marmot_core::{Clock, Moment};
use marmot_gateway::routes::{Access, Route};
use marmot_gateway::{Gateway, GatewayConfig, Scheme, Tickets, Tls};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use self::pebble::{CUSTOMER, LIMIT, NOWHERE, Pebble};
use super::*;

const OWN: &str = "marmot.test";

/// An authority, a data directory, and a gateway that gets its certificates there.
struct World {
    pebble: Pebble,
    data: TempDir,
    address: SocketAddr,
    routes: watch::Sender<Arc<Routes>>,
    /// How far the clock is ahead.
    ahead: Arc<Mutex<SignedDuration>>,
    counts: Arc<Counts>,
    certificates: Arc<Certificates>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

/// A socket to listen on, and an authority that looks for proofs there.
async fn authority(knows_customers: bool) -> Option<(std::net::TcpListener, Pebble)> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let pebble = Pebble::start(listener.local_addr().unwrap(), knows_customers).await?;
    Some((listener, pebble))
}

fn setup(pebble: &Pebble, challenge: Challenge) -> Setup {
    let terms = Terms {
        directory: pebble.directory(),
        contact: Some("ada@example.org".to_owned()),
        root: Some(pebble.root_file()),
        external_account: None,
    };
    Setup {
        terms,
        challenges: vec![challenge],
        own: vec![OWN.to_owned()],
        apps_domain: "apps.test".to_owned(),
        orders_per_hour: 50,
    }
}

impl World {
    async fn start(challenge: Challenge) -> Option<Self> {
        let (listener, pebble) = authority(false).await?;
        let setup = setup(&pebble, challenge);
        Some(Self::on(TempDir::new().unwrap(), listener, pebble, setup).await)
    }

    async fn on(data: TempDir, listener: std::net::TcpListener, pebble: Pebble, setup: Setup) -> Self {
        let address = listener.local_addr().unwrap();
        let ahead = Arc::new(Mutex::new(SignedDuration::ZERO));
        let told = Arc::clone(&ahead);
        let now: Now = Arc::new(move || Timestamp::now() + *told.lock().unwrap());
        let keeper = Keeper::open(data.path(), setup, now).unwrap();
        let counts = keeper.counts();
        let certificates = Arc::new(Certificates::issued(keeper.issued()).unwrap());
        let config = GatewayConfig {
            platform_hosts: vec![OWN.to_owned()],
            apps_domain: "apps.test".to_owned(),
            platform_url: format!("https://{OWN}:{}", address.port()),
            scheme: Scheme::Https,
            tls: Some(Tls { certificates: Arc::clone(&certificates), port: address.port() }),
            cores: 1,
            limits: marmot_gateway::Limits { header_timeout: LIMIT, ..Default::default() },
            ..GatewayConfig::local(address)
        };
        let (routes, seen) = watch::channel(Arc::new(Routes::default()));
        let tickets = Arc::new(Tickets::new([7; 32]));
        let clock = Clock::new(|| Moment::START);
        let gateway = Gateway::new(config, seen.clone(), clock, |_| {}, tickets);
        let stop = CancellationToken::new();
        let platform = tower::service_fn(|_: http::Request<hyper::body::Incoming>| async {
            Ok::<_, Infallible>(http::Response::new(Full::<Bytes>::from("the platform")))
        });
        let serving = gateway.serve(listener.into(), platform, stop.clone());
        let serving = tokio::spawn(async { serving.await.unwrap() });
        let keeping = tokio::spawn(keeper.run(Arc::clone(&certificates), seen, stop.clone()));
        let tasks = vec![serving, keeping];
        Self { pebble, data, address, routes, ahead, counts, certificates, stop, tasks }
    }

    /// Stops it as a server is stopped.
    async fn stop(self) -> (TempDir, Pebble, SocketAddr) {
        self.stop.cancel();
        for task in self.tasks {
            tokio::time::timeout(LIMIT, task).await.expect("it stops").unwrap();
        }
        (self.data, self.pebble, self.address)
    }

    /// These apps are on, and no others.
    fn have(&self, apps: &[&str]) {
        let route = |app: &&str| {
            Arc::new(Route {
                app: app.parse().unwrap(),
                title: String::new(),
                access: Access::everyone(),
                state: RouteState::Failed { reason: "there is none".into(), last_lines: Vec::new() },
                traffic: Default::default(),
                demand: Arc::default(),
                meter: Arc::default(),
                log_readers: Arc::default(),
            })
        };
        self.routes.send_replace(Arc::new(apps.iter().map(route).collect()));
    }

    /// A client that trusts the authority and nobody else, and asks here for `host`.
    async fn client(&self, host: &str) -> reqwest::Client {
        reqwest::Client::builder()
            .resolve(host, self.address)
            .tls_certs_only([self.pebble.root().await])
            .tls_info(true)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(LIMIT)
            .build()
            .unwrap()
    }

    async fn get(&self, host: &str) -> reqwest::Result<reqwest::Response> {
        self.client(host).await.get(format!("https://{host}:{}/", self.address.port())).send().await
    }

    /// The certificate that is shown for a host.
    async fn shown(&self, host: &str) -> Vec<u8> {
        let answer = self.get(host).await.unwrap();
        let tls = answer.extensions().get::<reqwest::tls::TlsInfo>().unwrap();
        tls.peer_certificate().unwrap().to_owned()
    }

    /// Waits until visitors of this host are shown something to trust, other than this.
    async fn until_shown(&self, host: &str, other_than: &[u8]) -> Vec<u8> {
        let shown = async {
            loop {
                if self.get(host).await.is_ok() {
                    let shown = self.shown(host).await;
                    if shown != other_than {
                        return shown;
                    }
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let shown = tokio::time::timeout(LIMIT, shown).await;
        shown.unwrap_or_else(|_| panic!("{host} is shown nothing\n{}", self.pebble.log()))
    }

    async fn until(&self, what: &str, is: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !is(self) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(LIMIT, waiting).await;
        waited.unwrap_or_else(|_| panic!("{what}\n{}", self.pebble.log()));
    }

    /// Lets time pass.
    fn later(&self, days: i64) {
        *self.ahead.lock().unwrap() += SignedDuration::from_hours(24 * days);
    }

    /// Half of the time for which what is shown of this host is good, and more than two thirds of it, in days.
    fn life(&self, host: &str) -> (i64, i64) {
        let shown = self.certificates.shown();
        let validity = shown.iter().find(|shown| shown.host == host).unwrap().validity.unwrap();
        let days = (validity.until - validity.from) / 86_400;
        (days / 2, days / 2 + days / 4)
    }

    fn book(&self) -> Book {
        Store::of(self.data.path(), &self.pebble.directory()).book().unwrap()
    }
}

#[tokio::test]
async fn the_platform_and_each_app_get_a_certificate_and_what_strangers_ask_for_costs_no_order() {
    let Some(world) = World::start(Challenge::TlsAlpn).await else { return };
    world.until_shown(OWN, b"").await;
    assert_eq!(world.get(OWN).await.unwrap().text().await.unwrap(), "the platform");
    world.have(&["iris"]);
    world.until_shown("iris.apps.test", b"").await;
    assert_eq!(world.get("iris.apps.test").await.unwrap().status(), 502);

    for stranger in ["rose.apps.test", "a.iris.apps.test", "evil.test"] {
        let error = world.get(stranger).await.unwrap_err();
        assert!(error.is_connect(), "{stranger}: {error}");
    }
    // A name of its own for each visitor is none, either; the next app is ordered for after all of those.
    world.have(&["iris", "late"]);
    world.until_shown("late.apps.test", b"").await;
    assert_eq!(world.pebble.orders(), 3, "{}", world.pebble.log());
    assert_eq!((world.counts.issued(), world.counts.failed()), (3, 0));
    let hosts: Vec<String> = world.certificates.shown().into_iter().map(|shown| shown.host).collect();
    assert_eq!(hosts, ["iris.apps.test", "late.apps.test", OWN]);
    world.stop().await;
}

#[tokio::test]
async fn in_plain_text_the_proof_is_there_for_the_authority_and_everything_else_is_sent_to_https() {
    let Some(world) = World::start(Challenge::Http).await else { return };
    world.have(&["iris"]);
    world.until_shown("iris.apps.test", b"").await;
    assert!(world.pebble.log().contains("/.well-known/acme-challenge/"), "{}", world.pebble.log());
    let client = world.client("iris.apps.test").await;
    let port = world.address.port();
    for path in ["/a?b=c", "/.well-known/acme-challenge/none-of-ours"] {
        let answer = client.get(format!("http://iris.apps.test:{port}{path}")).send().await.unwrap();
        assert_eq!(answer.status(), 308);
        assert_eq!(answer.headers()["location"], format!("https://iris.apps.test:{port}{path}"));
    }
    world.stop().await;
}

#[tokio::test]
async fn what_is_kept_is_for_the_owner_alone_and_a_server_that_starts_again_orders_nothing() {
    let Some(world) = World::start(Challenge::TlsAlpn).await else { return };
    world.have(&["iris"]);
    let (own, iris) = (world.until_shown(OWN, b"").await, world.until_shown("iris.apps.test", b"").await);
    let directory = world.pebble.directory();
    let (data, pebble, address) = world.stop().await;
    let kept = data.path().join(format!("acme/localhost-{}-dir", directory.port().unwrap()));
    for file in
        ["account.json", "book.json", "certificates/iris.apps.test.pem", "certificates/marmot.test.pem"]
    {
        let mode = fs::metadata(kept.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    assert_eq!(pebble.orders(), 2);

    let listener = TcpListener::bind(address).await.unwrap().into_std().unwrap();
    let setup = setup(&pebble, Challenge::TlsAlpn);
    let world = World::on(data, listener, pebble, setup).await;
    world.have(&["iris", "rose"]);
    assert_eq!(world.shown(OWN).await, own);
    assert_eq!(world.shown("iris.apps.test").await, iris);
    world.until_shown("rose.apps.test", b"").await;
    assert_eq!(world.pebble.orders(), 3, "{}", world.pebble.log());
    assert_eq!(world.pebble.log().matches("POST /sign-me-up ->").count(), 1, "one account is enough");
    world.stop().await;
}

#[tokio::test]
async fn a_certificate_is_renewed_in_time_and_shown_on_while_its_renewal_fails() {
    let Some(mut world) = World::start(Challenge::TlsAlpn).await else { return };
    let first = world.until_shown(OWN, b"").await;
    let (half, renewal) = world.life(OWN);
    world.later(half);
    world.have(&["iris"]);
    world.until_shown("iris.apps.test", b"").await;
    assert_eq!(world.shown(OWN).await, first, "half of its life is too early");

    // The authority is gone when it is time.
    world.pebble.stop();
    world.later(renewal - half);
    world.have(&["iris", "rose"]);
    world.until("the order fails", |world| world.counts.failed() > 0).await;
    world.until("it is written down", |world| world.book().trouble.is_some()).await;
    assert!(world.certificates.shown().iter().any(|shown| shown.host == OWN));

    // It is back, and knows nobody any more: neither account nor certificates.
    world.pebble.begin().await;
    world.later(1);
    world.have(&["iris", "rose", "late"]);
    let second = world.until_shown(OWN, &first).await;
    assert_ne!(second, first);
    world.until_shown("rose.apps.test", b"").await;
    world.until("nothing is wrong any more", |world| world.book().trouble.is_none()).await;
    world.stop().await;
}

#[tokio::test]
async fn a_host_that_cannot_be_proved_waits_longer_each_time_and_keeps_no_other_from_its_certificate() {
    let Some(world) = World::start(Challenge::Http).await else { return };
    let host = format!("{NOWHERE}.apps.test");
    world.have(&[NOWHERE, "iris"]);
    world.until_shown("iris.apps.test", b"").await;
    world.until("it fails", |world| world.book().failed.contains_key(&host)).await;
    let failed = world.book().failed[&host].clone();
    assert_eq!((failed.times, failed.again_at.duration_since(failed.at)), (1, SignedDuration::from_mins(1)));
    assert!(failed.why.contains("could not see that the host is ours: "), "{failed:?}");
    assert_eq!(world.counts.failing(), 1);
    world.later(1);
    world.have(&[NOWHERE, "iris", "rose"]);
    world
        .until("it fails again", |world| {
            world.book().failed.get(&host).is_some_and(|failed| failed.times == 2)
        })
        .await;
    // Nobody misses the certificate of an app that is off.
    world.have(&["iris", "rose", "late"]);
    world.until_shown("late.apps.test", b"").await;
    world.until("it is forgotten", |world| world.book().failed.is_empty()).await;
    world.stop().await;
}

#[tokio::test]
async fn an_authority_that_knows_its_customers_is_told_who_we_are() {
    use base64::Engine as _;
    let Some((listener, pebble)) = authority(true).await else { return };
    let mut setup = setup(&pebble, Challenge::TlsAlpn);
    let key = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(CUSTOMER.1).unwrap();
    let stranger = World::on(TempDir::new().unwrap(), listener, pebble, setup.clone()).await;
    stranger.until("it is refused", |world| world.book().trouble.is_some()).await;
    let why = stranger.book().trouble.unwrap().why;
    assert!(why.contains("externalAccountBinding"), "{why}");
    let (data, pebble, address) = stranger.stop().await;

    setup.terms.external_account = Some((CUSTOMER.0.to_owned(), key));
    drop(data);
    let listener = TcpListener::bind(address).await.unwrap().into_std().unwrap();
    let world = World::on(TempDir::new().unwrap(), listener, pebble, setup).await;
    world.until_shown(OWN, b"").await;
    world.stop().await;
}

/// An authority that says one thing over TLS, whatever it is asked.
async fn parrot(dir: &Path, answer: &'static str) -> Url {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    fs::write(dir.join("root.pem"), made.cert.pem()).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    format!("https://localhost:{port}/dir").parse().unwrap()
}

#[tokio::test]
async fn an_authority_that_asks_to_be_left_alone_is() {
    let dir = TempDir::new().unwrap();
    let directory = parrot(
        dir.path(),
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7200\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    )
    .await;
    let root = Some(dir.path().join("root.pem"));
    let terms = Terms { directory: directory.clone(), contact: None, root, external_account: None };
    let setup = Setup {
        terms,
        challenges: vec![Challenge::Http],
        own: vec![OWN.to_owned()],
        apps_domain: "apps.test".to_owned(),
        orders_per_hour: 50,
    };
    let keeper = Keeper::open(dir.path(), setup, Arc::new(Timestamp::now)).unwrap();
    let certificates = Arc::new(Certificates::issued(keeper.issued()).unwrap());
    let (_routes, seen) = watch::channel(Arc::new(Routes::default()));
    let (counts, stop) = (keeper.counts(), CancellationToken::new());
    let keeping = tokio::spawn(keeper.run(certificates, seen, stop.clone()));
    let trouble = async {
        loop {
            if let Some(trouble) = Store::of(dir.path(), &directory).book().unwrap().trouble {
                return trouble;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let trouble = tokio::time::timeout(LIMIT, trouble).await.expect("it is written down");
    assert_eq!(trouble.again_at.duration_since(trouble.at), SignedDuration::from_hours(2));
    assert!(trouble.why.contains("503"), "{trouble:?}");
    assert_eq!(counts.failed(), 1);
    stop.cancel();
    tokio::time::timeout(LIMIT, keeping).await.expect("it stops").unwrap();
}
