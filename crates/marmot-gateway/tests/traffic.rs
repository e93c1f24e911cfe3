//! How requests to an app are treated as its owner says, and as the operator does.

#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

mod support;

use marmot_gateway::Limits;
use marmot_gateway::routes::Traffic;
use support::{LIMIT, TestApp, World, on, replica};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

#[tokio::test]
async fn requests_are_written_down_for_owners_who_ask_for_it_and_no_secret_is_among_it() {
    let world = World::start().await;
    let app = TestApp::start().await;
    world.set(on(vec![replica(app.address)]));
    let get = async |path: &str| {
        let request = world.client().get(world.url(path)).header("cookie", "key=secret");
        request.header("authorization", "secret").send().await.unwrap()
    };
    get("/before").await;
    assert!(world.meter.logged().is_empty());
    *world.traffic.lock().unwrap() = Traffic { is_logged: true, ..Traffic::default() };
    world.set(on(vec![replica(app.address)]));
    let id = get("/plot?token=secret").await.headers()["x-request-id"].clone();
    get("/.marmot/link?secret=secret").await;
    let logged = world.meter.logged();
    let paths: Vec<_> = logged.iter().map(|request| (request.path.as_str(), request.status)).collect();
    assert_eq!((paths[1], paths.len()), (("/plot", 200), 2));
    assert_eq!(
        (logged[1].request_id.as_str(), logged[1].client),
        (id.to_str().unwrap(), [127, 0, 0, 1].into())
    );
    assert!(!format!("{logged:?}").contains("secret"), "{logged:?}");
    world.stop().await;
}

#[tokio::test]
async fn an_app_whose_port_speaks_http2_is_asked_so_from_the_first_request() {
    let world = World::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    *world.traffic.lock().unwrap() = Traffic { is_http2: true, ..Traffic::default() };
    world.set(on(vec![replica(listener.local_addr().unwrap())]));
    let asking = tokio::spawn(world.client().get(world.url("/")).send());
    let (mut stream, _) = tokio::time::timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    let mut preface = [0; 24];
    tokio::time::timeout(LIMIT, stream.read_exact(&mut preface)).await.unwrap().unwrap();
    assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    asking.abort();
    drop(stream);
    world.stop().await;
}

#[tokio::test]
async fn heads_have_as_many_fields_and_bytes_as_the_operator_allows() {
    let limits = Limits { header_fields: 10, header_bytes: 9000, ..Limits::default() };
    let world = World::with_limits(limits).await;
    let app = TestApp::start().await;
    world.set(on(vec![replica(app.address)]));
    let get = async |fields: String| {
        world
            .raw(
                format!("GET / HTTP/1.1\r\nHost: iris.localhost\r\n{fields}Connection: close\r\n\r\n")
                    .as_bytes(),
            )
            .await
    };
    let fields = |count: usize| (0..count).map(|number| format!("X-{number}: x\r\n")).collect::<String>();
    assert!(get(fields(8)).await.starts_with("HTTP/1.1 200"));
    assert!(get(fields(9)).await.starts_with("HTTP/1.1 431"));
    assert!(get(format!("X: {}\r\n", "x".repeat(10_000))).await.starts_with("HTTP/1.1 431"));
    let http2 = reqwest::Client::builder()
        .resolve("iris.localhost", world.address)
        .http2_prior_knowledge()
        .build()
        .unwrap();
    let mut many = http2.get(world.url("/"));
    for number in 0..11 {
        many = many.header(format!("x-{number}"), "x");
    }
    assert_eq!(many.send().await.unwrap().status(), 431);
    assert_eq!(app.seen(), 1);
    world.stop().await;
}
