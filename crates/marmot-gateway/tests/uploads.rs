//! Bodies of requests: slow ones keep no replica from others, and too long ones are refused.

#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use marmot_gateway::Limits;
use marmot_gateway::routes::Traffic;
use support::{LIMIT, TestApp, World, full, on, sleeping_replica, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An app that says how long the body was, one request at a time.
async fn counting_app(world: &World) -> TestApp {
    let app = TestApp::start_with(|request| async move {
        let mut body = request.into_body();
        let mut length = 0;
        while let Some(Ok(frame)) = body.frame().await {
            length += frame.data_ref().map_or(0, Bytes::len);
        }
        http::Response::new(full(format!("{length} bytes")))
    });
    let app = app.await;
    let replica = sleeping_replica(app.address, 1);
    replica.gate.open();
    world.set(on(vec![replica]));
    app
}

async fn send(world: &World, request: &[u8]) -> TcpStream {
    let mut client = TcpStream::connect(world.address).await.unwrap();
    client.write_all(request).await.unwrap();
    client
}

fn head(fields: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nHost: iris.localhost\r\n{fields}\r\n\r\n").into_bytes()
}

async fn read_until(client: &mut TcpStream, end: &str) -> String {
    let mut answer = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&answer).ends_with(end) {
            if client.read_buf(&mut answer).await.unwrap() == 0 {
                break;
            }
        }
    };
    tokio::time::timeout(LIMIT, reading).await.expect("is answered");
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn who_is_slow_to_send_keeps_the_replica_from_nobody() {
    let world = World::start().await;
    let app = counting_app(&world).await;
    let long = 100_000;
    let mut slow = vec![
        // Whole ones are short; of long ones, this much has to come first; of those without a length, something.
        (send(&world, &head("Content-Length: 1000")).await, vec![b'x'; 999], 1000),
        (send(&world, &head(&format!("Content-Length: {long}"))).await, vec![b'x'; 60_000], long),
        (send(&world, &head("Transfer-Encoding: chunked")).await, b"1".to_vec(), 1),
        (send(&world, &head("Content-Length: 7\r\nExpect: 100-continue")).await, b"six...".to_vec(), 7),
    ];
    for (client, most, _) in &mut slow {
        client.write_all(most).await.unwrap();
    }
    for _ in 0..10 {
        let mut quick = send(&world, &[head("Content-Length: 4"), b"body".to_vec()].concat()).await;
        let answer = read_until(&mut quick, "4 bytes").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert_eq!((app.seen(), world.demand.sample().in_flight), (10, 0));
    // Each is answered once the rest has come.
    for (mut client, sent, length) in slow {
        let rest = if length == 1 { b"\r\nx\r\n0\r\n\r\n".to_vec() } else { vec![b'x'; length - sent.len()] };
        client.write_all(&rest).await.unwrap();
        let answer = read_until(&mut client, &format!("{length} bytes")).await;
        assert!(answer.contains("HTTP/1.1 200"), "{answer}");
    }
    world.stop().await;
}

#[tokio::test]
async fn who_waits_for_the_app_to_speak_first_is_let_in_but_not_to_the_last_place() {
    let world = World::start().await;
    let app = TestApp::start().await;
    let replica = sleeping_replica(app.address, 2);
    replica.gate.open();
    world.set(on(vec![replica]));
    let stream = b"POST /stream HTTP/1.1\r\nHost: iris.localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    // The app answers before anything of the body has come.
    let mut first = send(&world, stream).await;
    read_until(&mut first, "\r\n\r\n").await;
    let mut second = send(&world, stream).await;
    // The place that is left is for others.
    for _ in 0..3 {
        let mut quick = send(&world, b"GET / HTTP/1.1\r\nHost: iris.localhost\r\n\r\n").await;
        read_until(&mut quick, "hello").await;
    }
    assert_eq!(app.seen(), 4);
    drop(first);
    read_until(&mut second, "\r\n\r\n").await;
    assert_eq!(app.seen(), 5);
    world.stop().await;
}

#[tokio::test]
async fn who_leaves_while_sending_was_never_in() {
    let world = World::start().await;
    let app = counting_app(&world).await;
    for fields in ["Content-Length: 1000", "Transfer-Encoding: chunked"] {
        drop(send(&world, &head(fields)).await);
    }
    let mut after = send(&world, &[head("Content-Length: 4"), b"body".to_vec()].concat()).await;
    read_until(&mut after, "4 bytes").await;
    assert_eq!(app.seen(), 1);
    world.stop().await;
}

#[tokio::test]
async fn a_body_that_does_not_come_over_http2_is_not_waited_for_for_ever() {
    let limits = Limits { stall_timeout: Duration::from_millis(200), ..Limits::default() };
    let world = World::with_limits(limits).await;
    let app = counting_app(&world).await;
    let client = reqwest::Client::builder()
        .resolve("iris.localhost", world.address)
        .http2_prior_knowledge()
        .timeout(LIMIT)
        .build()
        .unwrap();
    let never = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
    let answer = client.post(world.url("/")).body(reqwest::Body::wrap_stream(never)).send().await.unwrap();
    assert_eq!(answer.status(), 408);
    assert_eq!(app.seen(), 0);
    world.stop().await;
}

#[tokio::test]
async fn a_long_body_streams_through_in_little_memory() {
    let world = World::start().await;
    let _app = counting_app(&world).await;
    // More than is kept anywhere; the client counts how much of it was asked for before the app began.
    let pulled = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&pulled);
    let pieces = futures_util::stream::iter((0..256).map(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; 64 * 1024]))
    }));
    let answer =
        world.client().post(world.url("/")).body(reqwest::Body::wrap_stream(pieces)).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), format!("{} bytes", 256 * 64 * 1024));
    assert_eq!(pulled.load(Ordering::SeqCst), 256);
    world.stop().await;
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_before_the_app_has_seen_it() {
    let world = World::start().await;
    *world.traffic.lock().unwrap() = Traffic { body_limit: Some(10_000), ..Traffic::default() };
    let app = counting_app(&world).await;
    // Exactly as much is fine, with a length and without.
    let fine = world.client().post(world.url("/")).body(vec![b'x'; 10_000]).send().await.unwrap();
    assert_eq!(fine.text().await.unwrap(), "10000 bytes");
    let chunk = |length: usize| {
        let bytes = vec![b'x'; length];
        [format!("{length:x}\r\n").into_bytes(), bytes, b"\r\n".to_vec()].concat()
    };
    let chunked = head("Transfer-Encoding: chunked");
    let mut fine = send(&world, &[chunked.clone(), chunk(10_000), b"0\r\n\r\n".to_vec()].concat()).await;
    read_until(&mut fine, "10000 bytes").await;
    // Said at once, without a `100 Continue`, and the connection ends.
    let seen = app.seen();
    for fields in ["Content-Length: 10001", "Content-Length: 10001\r\nExpect: 100-continue"] {
        let answer = world.raw(&head(fields)).await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
        assert!(answer.contains("connection: close") && answer.contains("at most 10000 bytes"), "{answer}");
    }
    assert_eq!(app.seen(), seen);
    // Of what has no length, when it is passed; what the client still sends destroys nothing.
    let mut long = send(&world, &chunked).await;
    for _ in 0..100 {
        long.write_all(&chunk(5_000)).await.unwrap();
    }
    let answer = read_until(&mut long, "}").await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("connection: close"), "{answer}");
    until("no slot is taken", || world.demand.sample().in_flight == 0).await;
    world.stop().await;
}

#[tokio::test]
async fn over_http2_a_body_beyond_the_limit_ends_its_stream_alone() {
    let world = World::start().await;
    *world.traffic.lock().unwrap() = Traffic { body_limit: Some(10_000), ..Traffic::default() };
    let _app = counting_app(&world).await;
    let io = hyper_util::rt::TokioIo::new(TcpStream::connect(world.address).await.unwrap());
    let (mut sender, driver) =
        hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io).await.unwrap();
    let driver = tokio::spawn(driver);
    for (length, announced, status) in
        [(10_000, true, 200), (20_000, true, 413), (200_000, false, 413), (9_000, false, 200)]
    {
        let pieces = futures_util::stream::iter(
            (0..length / 1_000)
                .map(|_| Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from(vec![b'x'; 1_000])))),
        );
        let mut request = http::Request::post(world.url("/"));
        if announced {
            request = request.header("content-length", length);
        }
        let request = request.body(StreamBody::new(pieces)).unwrap();
        let answer = tokio::time::timeout(LIMIT, sender.send_request(request)).await.unwrap().unwrap();
        assert_eq!(answer.status(), status, "{length}");
        answer.into_body().collect().await.unwrap();
    }
    assert!(!driver.is_finished());
    world.stop().await;
}

/// What comes of a body over HTTP/2 of which this much has been sent, and then no more.
async fn stalled_over_http2(world: &World, sent: usize) -> Option<http::StatusCode> {
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let stream = TokioIo::new(TcpStream::connect(world.address).await.unwrap());
    let (mut sender, driver) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(driver);
    let (feed, body) = support::fed();
    feed.send(Bytes::from(vec![b'x'; sent])).unwrap();
    let request = http::Request::post(world.url("/")).header("content-length", 200_000).body(body).unwrap();
    let answer = tokio::time::timeout(LIMIT, sender.send_request(request)).await;
    drop(feed);
    answer.expect("it is not waited for for ever").ok().map(|answer| answer.status())
}

#[tokio::test]
async fn a_body_over_http2_that_stalls_gives_its_replica_back_to_others() {
    let limits = Limits { stall_timeout: Duration::from_millis(500), ..Limits::default() };
    let world = World::with_limits(limits).await;
    let app = counting_app(&world).await;
    // More than is waited for: a replica is taken.
    let stalled = stalled_over_http2(&world, 100_000);
    let taken = until("the replica is taken", || app.seen() == 1);
    let (status, ()) = tokio::join!(stalled, taken);
    assert_eq!(status, Some(http::StatusCode::REQUEST_TIMEOUT));
    let mut quick = send(&world, &[head("Content-Length: 4"), b"body".to_vec()].concat()).await;
    read_until(&mut quick, "4 bytes").await;
    world.stop().await;
}

#[tokio::test]
async fn a_body_over_http2_that_drips_is_too_slow() {
    // Nobody is that quick.
    let limits = Limits { body_rate: u64::MAX, body_grace: Duration::ZERO, ..Limits::default() };
    let world = World::with_limits(limits).await;
    let app = counting_app(&world).await;
    assert_eq!(stalled_over_http2(&world, 10).await, Some(http::StatusCode::REQUEST_TIMEOUT));
    assert_eq!(app.seen(), 0);
    world.stop().await;
}
