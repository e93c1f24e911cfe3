//! A replica that is killed at each point of a request's life, seen by clients over HTTP/1.1 and over HTTP/2.

#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

mod support;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use marmot_gateway::routes::Backend;
use support::{LIMIT, TestApp, World, fed, on, replica, sleeping_replica, until};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};

const PROTOCOLS: [&str; 2] = ["HTTP/1.1", "HTTP/2"];

fn client(world: &World, protocol: &str) -> reqwest::Client {
    let builder = reqwest::Client::builder().resolve("iris.localhost", world.address).timeout(LIMIT);
    let builder = if protocol == "HTTP/2" { builder.http2_prior_knowledge() } else { builder.http1_only() };
    builder.build().unwrap()
}

/// A replica that takes a request, and all of its body, and never answers.
async fn silent() -> TestApp {
    TestApp::start_with(|request: Request<Incoming>| async move {
        let _ = request.into_body().collect().await;
        std::future::pending().await
    })
    .await
}

async fn get(client: reqwest::Client, url: String) -> (u16, String) {
    let answer = client.get(url).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn before_its_first_byte_a_safe_request_is_answered_elsewhere_and_another_is_a_502() {
    for protocol in PROTOCOLS {
        let (world, doomed, other) = (World::start().await, silent().await, TestApp::start().await);
        world.set(on(vec![replica(doomed.address)]));
        let client = client(&world, protocol);
        let safe = tokio::spawn(get(client.clone(), world.url("/")));
        let unsafe_ = tokio::spawn(client.post(world.url("/")).body("order").send());
        until("both are being worked on", || doomed.seen() == 2).await;
        world.set(on(vec![replica(doomed.address), replica(other.address)]));
        doomed.kill();
        assert_eq!(safe.await.unwrap(), (200, "hello".to_owned()), "{protocol}");
        let refused = unsafe_.await.unwrap().unwrap();
        assert_eq!(refused.status(), 502, "{protocol}");
        assert_eq!(refused.headers()[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!(other.seen(), 1, "the order was not given twice");
        world.stop().await;
    }
}

#[tokio::test]
async fn the_only_replica_that_is_killed_is_waited_for_by_who_may_ask_again() {
    for protocol in PROTOCOLS {
        let (world, doomed, next) = (World::start().await, silent().await, TestApp::start().await);
        let old = replica(doomed.address);
        world.set(on(vec![old.clone()]));
        let safe = tokio::spawn(get(client(&world, protocol), world.url("/")));
        until("it is being worked on", || doomed.seen() == 1).await;
        // It ends as replicas do: its connections first, then what is known of it.
        doomed.kill();
        old.gate.close();
        let starting: Backend = sleeping_replica(next.address, 10);
        world.set(on(vec![starting.clone()]));
        until("it waits for the next", || world.demand.sample().held == 1).await;
        starting.gate.open();
        assert_eq!(safe.await.unwrap(), (200, "hello".to_owned()), "{protocol}");
        world.stop().await;
    }
}

#[tokio::test]
async fn while_a_body_is_sent_to_it_the_sender_is_told() {
    for protocol in PROTOCOLS {
        let (world, doomed, other) = (World::start().await, silent().await, TestApp::start().await);
        world.set(on(vec![replica(doomed.address)]));
        let (send, receive) = tokio::sync::mpsc::channel::<Result<Bytes, std::io::Error>>(1);
        let body = reqwest::Body::wrap_stream(tokio_stream::wrappers::ReceiverStream::new(receive));
        let sent = tokio::spawn(client(&world, protocol).put(world.url("/")).body(body).send());
        send.send(Ok(Bytes::from(vec![7; 100_000]))).await.unwrap();
        until("it has begun", || doomed.seen() == 1).await;
        world.set(on(vec![replica(doomed.address), replica(other.address)]));
        doomed.kill();
        // Whoever still sends finds out, be it by the answer or by the end of the connection behind it.
        let status = sent.await.unwrap().unwrap().status();
        assert_eq!(status, 502, "{protocol}");
        assert_eq!(other.seen(), 0, "half a body is given to nobody else");
        world.stop().await;
    }
}

#[tokio::test]
async fn in_the_middle_of_its_answer_nobody_sees_a_clean_end_and_the_next_is_served() {
    for (protocol, kind) in PROTOCOLS
        .into_iter()
        .flat_map(|protocol| ["of a length", "in chunks", "of events"].map(|kind| (protocol, kind)))
    {
        let world = World::start().await;
        let doomed = TestApp::start_with(move |_| async move {
            let (feed, body) = fed();
            feed.send(Bytes::from_static(b"data: half\n\n")).unwrap();
            // The rest never comes.
            tokio::spawn(async move { feed.closed().await });
            let answer = match kind {
                "of a length" => Response::builder().header(header::CONTENT_LENGTH, "100"),
                "in chunks" => Response::builder(),
                _ => Response::builder().header(header::CONTENT_TYPE, "text/event-stream"),
            };
            answer.body(body).unwrap()
        })
        .await;
        world.set(on(vec![replica(doomed.address)]));
        let client = client(&world, protocol);
        let mut answer = client.get(world.url("/")).send().await.unwrap();
        assert_eq!(answer.chunk().await.unwrap().unwrap(), "data: half\n\n");
        doomed.kill();
        let end = loop {
            match answer.chunk().await {
                Ok(Some(_)) => {}
                end => break end,
            }
        };
        assert!(end.is_err(), "{protocol}, {kind}: {end:?}");
        until("its place is free", || {
            let now = world.demand.sample();
            now.in_flight + now.sessions == 0
        })
        .await;
        let next = TestApp::start().await;
        world.set(on(vec![replica(next.address)]));
        assert_eq!(get(client, world.url("/")).await, (200, "hello".to_owned()), "{protocol}, {kind}");
        world.stop().await;
    }
}

#[tokio::test]
async fn under_a_websocket_over_http2_its_client_is_told_to_come_back() {
    let (world, app) = (World::start().await, TestApp::start().await);
    world.set(on(vec![replica(app.address)]));
    let stream = TokioIo::new(TcpStream::connect(world.address).await.unwrap());
    let (mut sender, driver) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(driver);
    let first = Request::get(world.url("/")).body(Empty::<Bytes>::new()).unwrap();
    sender.send_request(first).await.unwrap().into_body().collect().await.unwrap();
    let connect = Request::builder()
        .method(Method::CONNECT)
        .uri(world.url("/ws"))
        .extension(hyper::ext::Protocol::from_static("websocket"))
        .header("sec-websocket-version", "13")
        .body(Empty::new())
        .unwrap();
    let mut answer = sender.send_request(connect).await.unwrap();
    let upgraded = hyper::upgrade::on(&mut answer).await.unwrap();
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await;
    until("it is a session", || world.demand.sample().sessions == 1).await;
    app.kill();
    let close = tokio::time::timeout(LIMIT, async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Close(close))) => return close,
                Some(Ok(_)) => {}
                end => panic!("{end:?}"),
            }
        }
    });
    assert_eq!(u16::from(close.await.unwrap().unwrap().code), 1012);
    // The connection goes on for others.
    let next = TestApp::start().await;
    world.set(on(vec![replica(next.address)]));
    let again = Request::get(world.url("/")).body(Empty::new()).unwrap();
    assert_eq!(sender.send_request(again).await.unwrap().status(), 200);
    world.stop().await;
}
