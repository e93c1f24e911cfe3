//! How requests end otherwise than in turn: clients that close their side and wait, clients that leave, and answers that
//! come before the request has arrived whole.

#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::{LIMIT, TestApp, World, fed, full, on, replica, sleeping_replica, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: iris.localhost\r\n\r\n";
/// What a client is asked that has closed its side and hears nothing.
const QUESTION: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

async fn send(world: &World, request: &[u8]) -> TcpStream {
    let mut client = TcpStream::connect(world.address).await.unwrap();
    client.write_all(request).await.unwrap();
    client
}

async fn rest(client: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(LIMIT, client.read_to_end(&mut answer)).await;
    read.expect("the gateway closes the connection").unwrap();
    String::from_utf8(answer).unwrap()
}

/// An app that answers when it is told to.
async fn patient_app() -> (TestApp, Arc<Notify>) {
    let answer = Arc::new(Notify::new());
    let told = Arc::clone(&answer);
    let app = TestApp::start_with(move |_| {
        let told = Arc::clone(&told);
        async move {
            told.notified().await;
            http::Response::new(full("hello"))
        }
    });
    (app.await, answer)
}

#[tokio::test]
async fn who_closes_their_side_and_waits_is_answered() {
    let world = World::start().await;
    let app = TestApp::start().await;
    world.set(on(vec![replica(app.address)]));
    // The last of several requests as well, and one with a body.
    let posted = b"POST /echo HTTP/1.1\r\nHost: iris.localhost\r\nContent-Length: 5\r\n\r\nhello".to_vec();
    for (request, answers) in [(REQUEST.to_vec(), 1), ([REQUEST, REQUEST].concat(), 2), (posted, 1)] {
        let mut client = send(&world, &request).await;
        client.shutdown().await.unwrap();
        let answer = rest(&mut client).await;
        assert_eq!(answer.matches("HTTP/1.1 200").count(), answers, "{answer}");
        assert!(answer.ends_with("hello"), "{answer}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_connection_that_says_nothing_more_is_closed_however_long_its_answer_took() {
    let limits = marmot_gateway::Limits { idle_timeout: Duration::from_millis(300), ..Default::default() };
    let world = World::with_limits(limits).await;
    let (app, answer) = patient_app().await;
    world.set(on(vec![replica(app.address)]));
    let mut client = send(&world, REQUEST).await;
    until("the app has it", || app.seen() == 1).await;
    // While it is answered, it may say nothing for as long as it takes: twice as long as when nothing is under way.
    tokio::time::sleep(Duration::from_millis(700)).await;
    answer.notify_one();
    let all = rest(&mut client).await;
    assert!(all.starts_with("HTTP/1.1 200") && all.ends_with("hello"), "{all}");
    world.stop().await;
}

#[tokio::test]
async fn who_closes_their_side_is_asked_whether_they_wait_and_may_wait_for_long() {
    let world = World::start().await;
    let (app, answer) = patient_app().await;
    let asleep = sleeping_replica(app.address, 10);
    world.set(on(vec![asleep.clone()]));
    let mut client = send(&world, REQUEST).await;
    client.shutdown().await.unwrap();
    // Held until its app is awake, then answered when the app likes; asked once.
    let mut asked = [0; QUESTION.len()];
    tokio::time::timeout(LIMIT, client.read_exact(&mut asked)).await.expect("is asked").unwrap();
    assert_eq!(asked, QUESTION);
    assert_eq!(world.demand.sample().held, 1);
    asleep.gate.open();
    until("the app has it", || app.seen() == 1).await;
    answer.notify_one();
    let answer = rest(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
    world.stop().await;
}

#[tokio::test]
async fn who_has_left_is_noticed_wherever_their_request_is() {
    let world = World::start().await;
    let (app, _answer) = patient_app().await;
    let asleep = sleeping_replica(app.address, 10);
    world.set(on(vec![asleep.clone()]));
    for request in [REQUEST, b"GET / HTTP/1.0\r\nHost: iris.localhost\r\n\r\n"] {
        let client = send(&world, request).await;
        until("it waits", || world.demand.sample().held == 1).await;
        drop(client);
        until("its place is free", || world.demand.sample().held == 0).await;
    }
    asleep.gate.open();
    let client = send(&world, REQUEST).await;
    until("the app has it", || app.seen() == 1).await;
    drop(client);
    until("its slot is free", || world.demand.sample().in_flight == 0).await;
    world.stop().await;
}

#[tokio::test]
async fn who_leaves_in_the_middle_of_an_answer_that_says_nothing_is_noticed() {
    for media_type in ["text/event-stream", "text/plain"] {
        let world = World::start().await;
        let (feed, body) = fed();
        let body = Arc::new(std::sync::Mutex::new(Some(body)));
        let app = TestApp::start_with(move |_| {
            let body = body.lock().unwrap().take().unwrap();
            async move { http::Response::builder().header("content-type", media_type).body(body).unwrap() }
        });
        let app = app.await;
        world.set(on(vec![replica(app.address)]));
        let mut client = send(&world, REQUEST).await;
        feed.send(Bytes::from("data: 1\n\n")).unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"data: 1\n\n\r\n") {
            assert!(client.read_buf(&mut seen).await.unwrap() > 0);
        }
        drop(client);
        // The app's connection is closed, which drops what it would have said.
        tokio::time::timeout(LIMIT, feed.closed()).await.expect("the app notices");
        until("nothing is open", || {
            let sample = world.demand.sample();
            (sample.in_flight, sample.sessions) == (0, 0)
        })
        .await;
        world.stop().await;
    }
}

/// An app that answers as soon as it has read a head, and closes the connection, whatever is still sent on it.
async fn hasty_app(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 512];
            let mut seen = Vec::new();
            while !seen.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut head).await {
                    Ok(1..) => seen.extend_from_slice(&head),
                    _ => break,
                }
            }
            let _ = stream.write_all(answer).await;
        }
    });
    address
}

#[tokio::test]
async fn an_answer_that_comes_before_the_body_reaches_who_still_sends_it() {
    let world = World::start().await;
    let early = hasty_app(b"HTTP/1.1 422 No\r\nContent-Length: 5\r\n\r\nearly").await;
    world.set(on(vec![replica(early)]));
    let body = vec![b'x'; 8 << 20];
    let head = format!("POST / HTTP/1.1\r\nHost: iris.localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    for _ in 0..20 {
        let mut client = send(&world, head.as_bytes()).await;
        // It reads only when it has sent everything: nothing of the answer may be lost by then.
        client.write_all(&body).await.expect("what is sent is read, or thrown away");
        let answer = rest(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 422") && answer.ends_with("early"), "{answer}");
    }
    until("no slot is taken", || world.demand.sample().in_flight == 0).await;
    world.stop().await;
}

#[tokio::test]
async fn an_early_answer_over_http2_ends_its_stream_and_not_the_connection() {
    let world = World::start().await;
    let early = hasty_app(b"HTTP/1.1 422 No\r\nContent-Length: 5\r\n\r\nearly").await;
    world.set(on(vec![replica(early)]));
    let stream = TokioIo::new(TcpStream::connect(world.address).await.unwrap());
    let (mut sender, driver) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let driver = tokio::spawn(driver);
    for _ in 0..20 {
        let body = Full::new(Bytes::from(vec![b'x'; 4 << 20]));
        let request = http::Request::post(world.url("/")).body(body).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 422);
        let said = tokio::time::timeout(LIMIT, answer.into_body().collect()).await.unwrap();
        assert_eq!(said.unwrap().to_bytes(), "early");
    }
    assert!(!driver.is_finished());
    until("no slot is taken", || world.demand.sample().in_flight == 0).await;
    world.stop().await;
}

#[tokio::test]
async fn what_is_refused_is_told_to_who_still_sends_it() {
    let world = World::start().await;
    let body = vec![b'x'; 4 << 20];
    // Nothing is at this address, and nobody reads what is sent there.
    let head = format!("POST / HTTP/1.1\r\nHost: nobody.localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut client = send(&world, head.as_bytes()).await;
    client.write_all(&body).await.unwrap();
    assert!(rest(&mut client).await.starts_with("HTTP/1.1 404"));
    // One that never sends what it announced is not waited for.
    let mut silent = send(&world, head.as_bytes()).await;
    let answer = tokio::time::timeout(LIMIT + Duration::from_secs(10), rest(&mut silent)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"));
    world.stop().await;
}
