//! What the gateway tells of requests: whose trace, which part of it, and what an app is told of that.

#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

mod support;

use std::sync::Arc;

use marmot_gateway::trace::{Kind, Sampler, Span, Value};
use support::{LIMIT, TestApp, World, on, replica, sleeping_replica, until};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc::Receiver;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

async fn next(spans: &mut Receiver<Span>) -> Span {
    tokio::time::timeout(LIMIT, spans.recv()).await.expect("a span").expect("goes on")
}

fn said<'a>(span: &'a Span, name: &str) -> &'a str {
    match span.attributes.iter().find(|(known, _)| *known == name) {
        Some((_, Value::Text(text))) => text,
        other => panic!("{name} is {other:?} in {span:?}"),
    }
}

fn number(span: &Span, name: &str) -> i64 {
    match span.attributes.iter().find(|(known, _)| *known == name) {
        Some((_, Value::Number(number))) => *number,
        other => panic!("{name} is {other:?} in {span:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The `traceparent` among what `/echo` says it was asked.
fn told(echo: &str) -> &str {
    let mut lines = echo.lines().filter_map(|line| line.strip_prefix("traceparent: "));
    let told = lines.next().unwrap();
    assert_eq!(lines.next(), None, "one alone");
    told
}

#[tokio::test]
async fn a_request_is_told_of_below_its_callers_trace_and_the_app_below_that() {
    let (world, mut spans) = World::traced(Sampler::PARENT_OR_ALL, 100).await;
    let app = TestApp::start().await;
    world.set(on(vec![replica(app.address)]));
    let parent = format!("00-{TRACE}-{CALLER}-01");
    let request = world.client().post(world.url("/echo?token=SECRET")).header("traceparent", &parent);
    let answer = request.header("tracestate", "a=1").header("cookie", "SECRET=SECRET").body("SECRET").send();
    let echo = answer.await.unwrap().text().await.unwrap();
    let (asking, server) = (next(&mut spans).await, next(&mut spans).await);
    assert_eq!(told(&echo), format!("00-{TRACE}-{}-01", hex(&asking.id)));
    assert!(echo.contains("tracestate: a=1\n"));

    assert_eq!((hex(&server.trace), hex(&server.parent.unwrap())), (TRACE.to_owned(), CALLER.to_owned()));
    assert_eq!((server.kind, server.name, server.state.as_str()), (Kind::Server, "POST", "a=1"));
    assert!(!server.is_failed);
    assert_eq!((said(&server, "http.request.method"), said(&server, "url.path")), ("POST", "/echo"));
    assert_eq!((said(&server, "url.scheme"), said(&server, "server.address")), ("http", "iris.localhost"));
    assert_eq!((said(&server, "marmot.app"), number(&server, "http.response.status_code")), ("iris", 200));
    assert_eq!(number(&server, "server.port"), i64::from(world.address.port()));
    assert_eq!((asking.kind, asking.trace, asking.parent), (Kind::Client, server.trace, Some(server.id)));
    assert_eq!(number(&asking, "server.port"), i64::from(app.address.port()));
    assert!(asking.began >= server.began);
    for span in [&asking, &server] {
        assert!(!format!("{span:?}").contains("SECRET"), "{span:?}");
    }
    world.stop().await;
}

#[tokio::test]
async fn who_sends_no_trace_begins_one_and_who_wants_none_gets_none() {
    let (world, mut spans) = World::traced(Sampler::PARENT_OR_ALL, 100).await;
    let app = TestApp::start().await;
    world.set(on(vec![replica(app.address)]));
    let ask = |parents: Vec<String>| {
        let mut request = world.client().get(world.url("/echo")).header("tracestate", "a=1");
        for parent in parents {
            request = request.header("traceparent", parent);
        }
        async { request.send().await.unwrap().text().await.unwrap() }
    };
    let good = format!("00-{TRACE}-{CALLER}-01");
    for wrong in [vec![], vec!["nonsense".to_owned()], vec![good.clone(), good.clone()]] {
        let echo = ask(wrong).await;
        let (asking, server) = (next(&mut spans).await, next(&mut spans).await);
        assert_eq!((server.parent, asking.parent), (None, Some(server.id)));
        assert_ne!(hex(&server.trace), TRACE);
        assert_eq!(told(&echo), format!("00-{}-{}-01", hex(&server.trace), hex(&asking.id)));
        assert!(!echo.contains("tracestate"), "what belongs to another trace, or none: {echo}");
    }
    let echo = ask(vec![format!("00-{TRACE}-{CALLER}-00")]).await;
    assert!(told(&echo).starts_with(&format!("00-{TRACE}-")) && told(&echo).ends_with("-00"), "{echo}");
    assert!(echo.contains("tracestate: a=1"), "{echo}");
    // Had it been told of, that would come first.
    world
        .client()
        .get(format!("http://localhost:{}/password/SECRET", world.address.port()))
        .send()
        .await
        .unwrap();
    let platform = next(&mut spans).await;
    assert_eq!((said(&platform, "url.path"), said(&platform, "server.address")), ("/password/", "localhost"));
    world.stop().await;
}

#[tokio::test]
async fn waiting_is_told_of_with_the_rung_and_how_it_ended() {
    let (world, mut spans) = World::traced(Sampler::PARENT_OR_ALL, 100).await;
    let app = TestApp::start().await;
    let sleeper = sleeping_replica(app.address, 1000);
    let gate = Arc::clone(&sleeper.gate);
    world.set(on(vec![sleeper]));
    world.on_nudge(move || gate.open());
    assert_eq!(world.client().get(world.url("/")).send().await.unwrap().text().await.unwrap(), "hello");
    let (waiting, asking, server) = (next(&mut spans).await, next(&mut spans).await, next(&mut spans).await);
    assert_eq!((waiting.kind, waiting.parent), (Kind::Internal, Some(server.id)));
    assert_eq!((said(&waiting, "marmot.wake.rung"), asking.parent), ("hibernated", Some(server.id)));
    assert!(number(&waiting, "marmot.wake.milliseconds") >= 0 && !waiting.is_failed);

    // Nothing wakes: the person is shown the lobby.
    world.on_nudge(|| {});
    world.set(on(Vec::new()));
    let person = world.client().get(world.url("/")).header("accept", "text/html");
    let lobby = person.header("sec-fetch-mode", "navigate").header("sec-fetch-dest", "document");
    assert_eq!(lobby.send().await.unwrap().status(), 503);
    let (waiting, server) = (next(&mut spans).await, next(&mut spans).await);
    assert_eq!((said(&waiting, "marmot.wait.end"), waiting.is_failed), ("lobby", false));
    assert_eq!(said(&waiting, "marmot.wake.rung"), "stopped");
    assert!(server.is_failed && said(&server, "error.type") == "503");

    // Who leaves is told of as such.
    let mut client = TcpStream::connect(world.address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: iris.localhost\r\n\r\n").await.unwrap();
    until("it waits", || world.demand.sample().held == 1).await;
    drop(client);
    let left = [next(&mut spans).await, next(&mut spans).await];
    assert!(left.iter().all(|span| said(span, "error.type") == "cancelled"), "{left:?}");
    world.stop().await;
}

#[tokio::test]
async fn nobody_waits_for_a_queue_that_is_full() {
    let (world, mut spans) = World::traced("always_on".parse().unwrap(), 1).await;
    let app = TestApp::start().await;
    world.set(on(vec![replica(app.address)]));
    for _ in 0..20 {
        assert_eq!(world.client().get(world.url("/")).send().await.unwrap().text().await.unwrap(), "hello");
    }
    // Of forty, the first.
    assert_eq!(next(&mut spans).await.kind, Kind::Client);
    assert!(spans.try_recv().is_err());
    world.stop().await;
}
