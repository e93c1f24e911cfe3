//! TLS, as clients see it: which protocol they get, which certificate, and where plain text is sent.

#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

mod support;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Version;
use marmot_gateway::{Certificates, Limits, Scheme, Tls};
use rustls::pki_types::pem::PemObject as _;
use support::{LIMIT, TestApp, World, on, replica, sleeping_replica, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A certificate in files, as an operator has it.
struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new() -> (Self, reqwest::Certificate) {
        let files = Self { dir: tempfile::tempdir().unwrap() };
        let root = files.renew();
        (files, root)
    }

    fn certificate(&self) -> PathBuf {
        self.dir.path().join("certificate.pem")
    }

    fn key(&self) -> PathBuf {
        self.dir.path().join("key.pem")
    }

    /// Puts another certificate in the place of the one there is; what trusts it and nothing else.
    fn renew(&self) -> reqwest::Certificate {
        let names = vec!["localhost".to_owned(), "iris.localhost".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        std::fs::write(self.certificate(), made.cert.pem()).unwrap();
        std::fs::write(self.key(), made.signing_key.serialize_pem()).unwrap();
        reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).unwrap()
    }

    fn read(&self) -> Arc<Certificates> {
        Arc::new(Certificates::read(self.certificate(), self.key(), None).unwrap())
    }
}

async fn world(certificates: &Arc<Certificates>) -> World {
    world_with(certificates, Limits::default()).await
}

async fn world_with(certificates: &Arc<Certificates>, limits: Limits) -> World {
    World::with(|config| {
        let port = config.platform_url.rsplit_once(':').unwrap().1.parse().unwrap();
        config.scheme = Scheme::Https;
        config.tls = Some(Tls { certificates: Arc::clone(certificates), port });
        config.limits = limits;
    })
    .await
}

fn client(world: &World, root: &reqwest::Certificate) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .resolve("iris.localhost", world.address)
        .tls_certs_only([root.clone()])
        .redirect(reqwest::redirect::Policy::none())
        .timeout(LIMIT)
}

fn url(world: &World, path: &str) -> String {
    world.url(path).replace("http://", "https://")
}

#[tokio::test]
async fn clients_get_the_protocol_they_ask_for_and_apps_are_told_that_it_was_secure() {
    let (files, root) = Files::new();
    let world = world(&files.read()).await;
    let app = TestApp::start().await;
    world.set(on(vec![replica(app.address)]));
    for (client, version) in
        [(client(&world, &root), Version::HTTP_2), (client(&world, &root).http1_only(), Version::HTTP_11)]
    {
        let answer = client.build().unwrap().get(url(&world, "/echo")).send().await.unwrap();
        assert_eq!((answer.status(), answer.version()), (http::StatusCode::OK, version));
        let seen = answer.text().await.unwrap();
        assert!(seen.contains("x-forwarded-proto: https\n"), "{seen}");
    }
    world.stop().await;
}

#[tokio::test]
async fn plain_text_is_sent_to_https_and_reaches_nothing_else() {
    let (files, _) = Files::new();
    let world = world(&files.read()).await;
    let app = TestApp::start().await;
    world.set(on(vec![replica(app.address)]));
    let port = world.address.port();
    let sent = world.client().get(world.url("/a?b=c")).send().await.unwrap();
    assert_eq!(sent.status(), 308);
    assert_eq!(sent.headers()["location"], format!("https://iris.localhost:{port}/a?b=c"));
    let posted = world.client().post(world.url("/a")).body("secret").send().await.unwrap();
    assert_eq!(posted.status(), 403);
    assert!(posted.text().await.unwrap().contains("https://iris.localhost"));
    let elsewhere = world.raw(b"GET / HTTP/1.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n").await;
    assert!(elsewhere.starts_with("HTTP/1.1 421"), "{elsewhere}");
    assert_eq!(app.seen(), 0);
    world.stop().await;
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_new_connections_and_half_a_renewal_to_none() {
    let (files, old) = Files::new();
    let certificates = files.read();
    let world = world(&certificates).await;
    let app = TestApp::start().await;
    world.set(on(vec![replica(app.address)]));
    let get = async |root: &reqwest::Certificate| {
        client(&world, root).build().unwrap().get(url(&world, "/")).send().await.map(|answer| answer.status())
    };
    assert_eq!(get(&old).await.unwrap(), 200);
    assert!(!certificates.read_again().unwrap());

    // The certificate is there, its key is not yet.
    let old_key = std::fs::read(files.key()).unwrap();
    let new = files.renew();
    let new_key = std::fs::read(files.key()).unwrap();
    std::fs::write(files.key(), old_key).unwrap();
    let error = certificates.read_again().unwrap_err().to_string();
    assert!(error.contains("certificate.pem") && error.contains("key.pem"), "{error}");
    assert_eq!(get(&old).await.unwrap(), 200);

    std::fs::write(files.key(), new_key).unwrap();
    assert!(certificates.read_again().unwrap());
    assert_eq!(get(&new).await.unwrap(), 200);
    assert!(get(&old).await.is_err());
    world.stop().await;
}

/// A certificate for these names in a directory of certificates; what trusts it and nothing else.
fn put(dir: &std::path::Path, file: &str, names: &[&str]) -> reqwest::Certificate {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    std::fs::write(dir.join(format!("{file}.pem")), made.cert.pem()).unwrap();
    std::fs::write(dir.join(format!("{file}.key")), made.signing_key.serialize_pem()).unwrap();
    reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).unwrap()
}

#[tokio::test]
async fn each_visitor_is_shown_the_certificate_for_the_name_they_ask_for() {
    let (files, first) = Files::new();
    let more = tempfile::tempdir().unwrap();
    let wildcard = put(more.path(), "a-wildcard", &["*.apps.test"]);
    let exact = put(more.path(), "rose", &["rose.apps.test"]);
    let read = Certificates::read(files.certificate(), files.key(), Some(more.path().to_owned()));
    let certificates = Arc::new(read.unwrap());
    let world = world(&certificates).await;
    // Whether a handshake with this name is trusted by this root; what is answered does not matter.
    let shows = async |name: &str, root: &reqwest::Certificate| {
        let client = reqwest::Client::builder().resolve(name, world.address).tls_certs_only([root.clone()]);
        let client = client.timeout(LIMIT).build().unwrap();
        client.get(format!("https://{name}:{}/", world.address.port())).send().await.is_ok()
    };
    for (name, root) in [
        ("iris.localhost", &first),
        ("iris.apps.test", &wildcard),
        ("rose.apps.test", &exact),
        ("ROSE.apps.test", &exact),
    ] {
        assert!(shows(name, root).await, "{name}");
    }
    // One label only; and the first for whoever asks for something else.
    assert!(!shows("a.b.apps.test", &wildcard).await);
    assert!(!shows("rose.apps.test", &wildcard).await);

    let added = put(more.path(), "new", &["new.test"]);
    assert!(!shows("new.test", &added).await);
    assert!(certificates.read_again().unwrap());
    assert!(shows("new.test", &added).await);
    // Half of one is named, and what there was is used on.
    std::fs::remove_file(more.path().join("rose.key")).unwrap();
    let error = certificates.read_again().unwrap_err().to_string();
    assert!(error.contains("rose.key"), "{error}");
    assert!(shows("rose.apps.test", &exact).await);
    // One that is gone is shown no more.
    std::fs::remove_file(more.path().join("rose.pem")).unwrap();
    assert!(certificates.read_again().unwrap());
    assert!(!shows("rose.apps.test", &exact).await);
    world.stop().await;
}

#[tokio::test]
async fn a_handshake_that_stalls_is_cut() {
    let (files, _) = Files::new();
    let limits = Limits { header_timeout: Duration::from_millis(300), ..Limits::default() };
    let world = world_with(&files.read(), limits).await;
    for begun in [&b"\x16"[..], b"\x16\x03\x01\x02\x00", b""] {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(begun).await.unwrap();
        let read = tokio::time::timeout(LIMIT, stream.read(&mut [0; 64])).await;
        assert!(matches!(read.expect("it is cut"), Ok(0) | Err(_)), "{begun:?}");
    }
    world.stop().await;
}

#[tokio::test]
async fn who_closes_their_side_of_tls_and_waits_is_answered_and_who_has_left_is_noticed() {
    let (files, _) = Files::new();
    let world = world(&files.read()).await;
    let app = TestApp::start().await;
    let asleep = sleeping_replica(app.address, 10);
    world.set(on(vec![asleep.clone()]));
    let mut roots = rustls::RootCertStore::empty();
    let certificate = std::fs::read(files.certificate()).unwrap();
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(&certificate).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let ask = async || {
        let stream = TcpStream::connect(world.address).await.unwrap();
        let mut stream = connector.connect("iris.localhost".try_into().unwrap(), stream).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: iris.localhost\r\n\r\n").await.unwrap();
        stream.flush().await.unwrap();
        until("it is held", || world.demand.sample().held == 1).await;
        stream.shutdown().await.unwrap();
        stream
    };
    drop(ask().await);
    until("its place is free", || world.demand.sample().held == 0).await;
    let mut waiting = ask().await;
    asleep.gate.open();
    let mut answer = String::new();
    let read = tokio::time::timeout(LIMIT, waiting.read_to_string(&mut answer)).await;
    read.expect("the connection is closed").unwrap();
    assert!(answer.contains("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
    world.stop().await;
}

#[tokio::test]
async fn a_crowd_that_begins_tls_and_says_no_more_is_closed_and_keeps_nobody_waiting() {
    let (files, root) = Files::new();
    // As long as a handshake that goes on may take on a busy machine.
    let limits = Limits { header_timeout: Duration::from_secs(3), ..Limits::default() };
    let world = world_with(&files.read(), limits).await;
    let app = TestApp::start().await;
    world.set(on(vec![replica(app.address)]));
    let fresh = async || {
        let client = client(&world, &root).build().unwrap();
        assert_eq!(client.get(url(&world, "/")).send().await.unwrap().status(), 200);
    };
    let mut stalled = Vec::new();
    for number in 0..300 {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(&b"\x16\x03\x01\x02\x00\x01"[..1 + number % 6]).await.unwrap();
        stalled.push(stream);
        if number % 60 == 0 {
            fresh().await;
        }
    }
    fresh().await;
    for mut stream in stalled {
        let read = tokio::time::timeout(LIMIT, stream.read(&mut [0; 64])).await;
        assert!(matches!(read.expect("it is closed"), Ok(_) | Err(_)));
    }
    fresh().await;
    world.stop().await;
}

#[tokio::test]
async fn no_more_handshakes_are_under_way_than_there_may_be_and_whoever_stalls_makes_room() {
    let (files, root) = Files::new();
    let certificates = files.read();
    let world = World::with(|config| {
        let port = config.platform_url.rsplit_once(':').unwrap().1.parse().unwrap();
        config.scheme = Scheme::Https;
        config.tls = Some(Tls { certificates: Arc::clone(&certificates), port });
        // Those that stall are cut when the test lets go of them, or in the end.
        config.limits = Limits { handshakes_at_once: 2, header_timeout: LIMIT, ..Limits::default() };
    })
    .await;
    let app = TestApp::start().await;
    world.set(on(vec![replica(app.address)]));
    let begin = async || {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(b"\x16\x03\x01").await.unwrap();
        stream
    };
    let get = async || client(&world, &root).build().unwrap().get(url(&world, "/")).send().await;
    let mut stalled = vec![begin().await, begin().await];
    let full = async {
        while get().await.is_ok() {
            // This one may have had the place of one of them, which was refused then.
            stalled.push(begin().await);
        }
    };
    tokio::time::timeout(LIMIT, full).await.expect("both places are taken");
    drop(stalled);
    let free = async { while get().await.is_err() {} };
    tokio::time::timeout(LIMIT, free).await.expect("both places are free");
    world.stop().await;
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let (files, _) = Files::new();
    let refusal = || Certificates::read(files.certificate(), files.key(), None).unwrap_err().to_string();
    std::fs::write(files.key(), "no key").unwrap();
    assert!(refusal().contains("key.pem` must have a private key"), "{}", refusal());
    std::fs::write(files.certificate(), "no certificate").unwrap();
    assert!(refusal().contains("certificate.pem` must have the certificate"), "{}", refusal());
    std::fs::remove_file(files.certificate()).unwrap();
    assert!(refusal().contains("cannot read `"), "{}", refusal());
}
