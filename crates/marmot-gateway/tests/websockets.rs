//! WebSockets through the gateway: awake, asleep, and when one side goes away.

#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use marmot_gateway::Limits;
use marmot_gateway::routes::{Backend, RouteState};
use support::{LIMIT, TestApp, World, on, replica, until};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

type Socket = WebSocketStream<TcpStream>;

async fn open(world: &World) -> Socket {
    let request = world.url("/ws").replace("http", "ws").into_client_request().unwrap();
    let stream = TcpStream::connect(world.address).await.unwrap();
    tokio_tungstenite::client_async(request, stream).await.unwrap().0
}

async fn next(socket: &mut Socket) -> Message {
    tokio::time::timeout(LIMIT, socket.next()).await.expect("in time").expect("open").unwrap()
}

async fn next_text(socket: &mut Socket) -> String {
    loop {
        if let Message::Text(text) = next(socket).await {
            return text.to_string();
        }
    }
}

async fn close_code(socket: &mut Socket) -> u16 {
    loop {
        if let Message::Close(Some(frame)) = next(socket).await {
            return frame.code.into();
        }
    }
}

/// Puts the replica to sleep as the engine does, once nothing of the last exchange is inside.
async fn sleep(backend: &Backend) {
    until("the replica can sleep", || backend.gate.try_sleep()).await;
}

async fn start() -> (World, TestApp, Backend, Socket) {
    let (world, app) = (World::start().await, TestApp::start().await);
    let backend = replica(app.address);
    world.set(on(vec![backend.clone()]));
    let mut socket = open(&world).await;
    socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(next_text(&mut socket).await, "hello");
    (world, app, backend, socket)
}

#[tokio::test]
async fn frames_of_every_size_pass_untouched() {
    let (world, _app, _backend, mut socket) = start().await;
    for size in [0, 1, 125, 126, 65_535, 65_536, 3_000_000] {
        let message = Message::binary((0..size).map(|byte| byte as u8).collect::<Vec<_>>());
        socket.send(message.clone()).await.unwrap();
        assert_eq!(next(&mut socket).await, message, "{size} bytes");
    }
    assert_eq!(world.demand.sample().sessions, 1);
    socket.close(None).await.unwrap();
    until("the session is over", || world.demand.sample().sessions == 0).await;
    world.stop().await;
}

#[tokio::test]
async fn an_open_socket_lets_its_replica_sleep_and_the_next_message_wakes_it_before_it_is_delivered() {
    let (world, _app, backend, mut socket) = start().await;
    sleep(&backend).await;
    for word in ["one", "two", "three"] {
        socket.send(Message::text(word)).await.unwrap();
    }
    until("the engine is asked", || {
        world.demand.sample().held == 1 && world.nudges.load(std::sync::atomic::Ordering::SeqCst) == 1
    })
    .await;
    let quiet = tokio::time::timeout(Duration::from_millis(30), socket.next()).await;
    assert!(quiet.is_err(), "nothing reaches a sleeping replica");
    backend.gate.open();
    for word in ["one", "two", "three"] {
        assert_eq!(next_text(&mut socket).await, word);
    }
    until("nobody waits", || world.demand.sample().held == 0).await;
    world.stop().await;
}

#[tokio::test]
async fn pings_to_a_sleeping_replica_are_answered_for_it_and_are_no_activity() {
    let (world, _app, backend, mut socket) = start().await;
    sleep(&backend).await;
    let before = world.demand.sample();
    for payload in [&b""[..], b"x", &[7; 125]] {
        socket.send(Message::Ping(payload.to_vec().into())).await.unwrap();
        assert_eq!(next(&mut socket).await, Message::Pong(payload.to_vec().into()));
    }
    assert_eq!((world.demand.sample(), backend.gate.inside()), (before, 0));
    backend.gate.open();
    socket.send(Message::Ping("awake".into())).await.unwrap();
    assert_eq!(next(&mut socket).await, Message::Pong("awake".into()), "the app's own answer");
    world.stop().await;
}

#[tokio::test]
async fn a_replica_is_not_frozen_between_its_ping_and_the_pong() {
    let (world, _app, backend, mut socket) = start().await;
    socket.send(Message::text("ping")).await.unwrap();
    // Read without answering: tungstenite answers with the next read or write.
    assert_eq!(next(&mut socket).await, Message::Ping("?".into()));
    until("the message itself is delivered", || backend.gate.inside() == 1).await;
    assert!(!backend.gate.try_sleep());
    let before = world.demand.sample().last_activity;
    socket.flush().await.unwrap();
    assert_eq!(next_text(&mut socket).await, "got pong");
    assert!(world.demand.sample().last_activity >= before);
    sleep(&backend).await;
    world.stop().await;
}

#[tokio::test]
async fn a_client_that_never_answers_a_ping_keeps_nobody_awake_for_long() {
    let world =
        World::with_limits(Limits { pong_timeout: Duration::from_millis(20), ..Limits::default() }).await;
    let app = TestApp::start().await;
    let backend = replica(app.address);
    world.set(on(vec![backend.clone()]));
    let mut socket = open(&world).await;
    socket.send(Message::text("ping")).await.unwrap();
    assert_eq!(next(&mut socket).await, Message::Ping("?".into()));
    sleep(&backend).await;
    world.stop().await;
}

#[tokio::test]
async fn a_visitor_who_leaves_wakes_nobody() {
    let (world, _app, backend, mut socket) = start().await;
    sleep(&backend).await;
    let nudges = world.nudges.load(std::sync::atomic::Ordering::SeqCst);
    socket.close(None).await.unwrap();
    assert_eq!(close_code(&mut socket).await, 1001);
    until("the session is over", || world.demand.sample().sessions == 0).await;
    assert_eq!(world.nudges.load(std::sync::atomic::Ordering::SeqCst), nudges);
    world.stop().await;
}

#[tokio::test]
async fn the_close_code_says_why_the_other_side_is_gone() {
    let (world, app, _backend, mut socket) = start().await;
    app.kill();
    assert_eq!(close_code(&mut socket).await, 1012, "it ended by itself: connect again");
    world.stop().await;

    let (world, app, backend, mut socket) = start().await;
    backend.gate.close();
    app.kill();
    assert_eq!(close_code(&mut socket).await, 1001, "its replica was stopped");
    world.stop().await;

    let (world, app, _backend, mut socket) = start().await;
    world.set(RouteState::Off);
    app.kill();
    assert_eq!(close_code(&mut socket).await, 1001, "the app was switched off");
    world.stop().await;

    let (world, _app, _backend, mut socket) = start().await;
    world.begin_to_stop();
    assert_eq!(close_code(&mut socket).await, 1001, "the gateway stops");
    world.stop().await;
}

#[tokio::test]
async fn a_thousand_sockets_are_told_to_come_back_when_another_revision_serves_and_reach_it() {
    let (world, _old_app, old, first) = start().await;
    let mut sockets = vec![first];
    for _ in 1..1000 {
        sockets.push(open(&world).await);
    }
    assert_eq!(world.demand.sample().sessions, 1000);
    // The new one serves; the old one is told to go, and then is gone.
    let new_app = TestApp::start().await;
    let new = replica(new_app.address);
    old.gate.drain();
    world.set(on(vec![old.clone(), new.clone()]));
    old.gate.close();
    world.set(on(vec![new]));
    for socket in &mut sockets {
        assert_eq!(close_code(socket).await, 1012);
        *socket = open(&world).await;
    }
    assert_eq!(new_app.seen(), 1000);
    world.stop().await;
}

#[tokio::test]
async fn a_waiting_message_ends_with_its_replica() {
    let (world, _app, backend, mut socket) = start().await;
    sleep(&backend).await;
    socket.send(Message::text("too late")).await.unwrap();
    until("it waits", || world.demand.sample().held == 1).await;
    backend.gate.close();
    assert_eq!(close_code(&mut socket).await, 1001);
    until("nobody waits", || world.demand.sample().held == 0).await;
    world.stop().await;
}

#[tokio::test]
async fn a_request_that_asks_for_something_else_is_an_ordinary_one() {
    let (world, _app, _backend, _socket) = start().await;
    let answer = world
        .raw(
            b"GET /echo HTTP/1.1\r\nHost: iris.localhost\r\nConnection: Upgrade, HTTP2-Settings, close\r\n\
              Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n",
        )
        .await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && !answer.contains("h2c") && !answer.contains("settings"),
        "{answer}"
    );
    world.stop().await;
}

#[tokio::test]
async fn bytes_sent_before_the_app_agrees_are_delivered_after_it_did_and_not_at_all_if_it_does_not() {
    let world = World::start().await;
    let app = TestApp::start_with(|_| async { http::Response::new(support::full("no")) }).await;
    world.set(on(vec![replica(app.address)]));
    let answer = world
        .raw(
            b"GET /ws HTTP/1.1\r\nHost: iris.localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\
              GET /smuggled HTTP/1.1\r\nHost: rose.localhost\r\nConnection: close\r\n\r\n",
        )
        .await;
    // The second request is the gateway's to read: it is for a host that does not exist.
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("HTTP/1.1 404"), "{answer}");
    assert_eq!(app.seen(), 1);
    world.stop().await;
}

#[tokio::test]
async fn a_hundred_messages_of_ten_sockets_survive_a_replica_that_keeps_falling_asleep() {
    let (world, _app, backend, _socket) = start().await;
    let gate = Arc::clone(&backend.gate);
    world.on_nudge(move || gate.open());
    let (gate, demand) = (Arc::clone(&backend.gate), Arc::clone(&world.demand));
    let sleeper = tokio::spawn(async move {
        loop {
            let _ = gate.try_sleep();
            tokio::task::yield_now().await;
            // The engine looks by itself as well: a nudge may come just before it falls asleep again.
            if demand.sample().held > 0 {
                gate.open();
            }
        }
    });
    let mut visitors = Vec::new();
    for visitor in 0..10 {
        let mut socket = open(&world).await;
        visitors.push(tokio::spawn(async move {
            for message in 0..100 {
                let text = format!("{visitor}/{message}");
                socket.send(Message::text(text.clone())).await.unwrap();
                assert_eq!(next_text(&mut socket).await, text);
            }
        }));
    }
    for visitor in visitors {
        tokio::time::timeout(LIMIT, visitor).await.expect("in time").unwrap();
    }
    sleeper.abort();
    let _ = sleeper.await;
    world.stop().await;
}

/// A client's frame: these bits and this opcode, masked.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [9, 8, 7, 6];
    let mut frame = vec![first, 0x80 | u8::try_from(payload.len()).unwrap()];
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// An app that agrees to a WebSocket with compression, and tells byte for byte what it is sent.
async fn listener() -> (std::net::SocketAddr, tokio::sync::mpsc::UnboundedReceiver<u8>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        assert!(String::from_utf8_lossy(&head).contains("permessage-deflate; client_max_window_bits"));
        let agreed = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
            Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover\r\n\r\n";
        stream.write_all(agreed).await.unwrap();
        while let Ok(byte) = stream.read_u8().await {
            let _ = tell.send(byte);
        }
    });
    (address, told)
}

#[tokio::test]
async fn fragments_and_compressed_frames_arrive_byte_for_byte_whenever_the_replica_sleeps() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (world, (address, mut told)) = (World::start().await, listener().await);
    let backend = replica(address);
    world.set(on(vec![backend.clone()]));
    let mut client = TcpStream::connect(world.address).await.unwrap();
    client
        .write_all(
            b"GET /ws HTTP/1.1\r\nHost: iris.localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
              Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n",
        )
        .await
        .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    assert!(
        head.contains("sec-websocket-extensions: permessage-deflate; client_no_context_takeover"),
        "{head}"
    );
    // A compressed message in three fragments (its first has the bit that says so), a ping between, and a plain one.
    let fragments = [
        masked(0x41, b"\xf2\x48\xcd"),
        masked(0x00, b"\xc9"),
        masked(0x80, b"\xc9\x07\x00"),
        masked(0x81, b"plain"),
    ];
    for fragment in &fragments {
        sleep(&backend).await;
        // Within the frame, too: its head wakes the replica, and what follows finds it awake or asleep again.
        let (first, rest) = fragment.split_at(3);
        client.write_all(&masked(0x89, b"are you there")).await.unwrap();
        let mut pong = [0; 15];
        client.read_exact(&mut pong).await.unwrap();
        assert_eq!(&pong, b"\x8a\x0dare you there", "answered for the one that sleeps");
        client.write_all(first).await.unwrap();
        until("it is asked for", || backend.gate.asked_for()).await;
        backend.gate.open();
        until("nobody waits", || world.demand.sample().held == 0).await;
        sleep(&backend).await;
        client.write_all(rest).await.unwrap();
        until("it is asked for", || backend.gate.asked_for()).await;
        backend.gate.open();
        until("nobody waits", || world.demand.sample().held == 0).await;
    }
    for byte in fragments.concat() {
        assert_eq!(tokio::time::timeout(LIMIT, told.recv()).await.unwrap(), Some(byte));
    }
    // A close while it sleeps wakes nobody.
    sleep(&backend).await;
    client.write_all(&masked(0x88, &[3, 232])).await.unwrap();
    let mut close = [0; 4];
    client.read_exact(&mut close).await.unwrap();
    assert_eq!(close[..2], [0x88, 2]);
    until("the session is over", || world.demand.sample().sessions == 0).await;
    assert!(told.try_recv().is_err() && !backend.gate.asked_for());
    world.stop().await;
}
