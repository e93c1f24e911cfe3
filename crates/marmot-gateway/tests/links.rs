//! What breaks between the gateway and an app: addresses that are used again, connections that end when they are about to
//! be used, and answers that end at each of their bytes.

#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use marmot_gateway::Limits;
use support::{World, on, replica};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// How often, or as often as `MARMOT_CHAOS_CYCLES` says.
fn cycles(usual: usize) -> usize {
    std::env::var("MARMOT_CHAOS_CYCLES").ok().and_then(|count| count.parse().ok()).unwrap_or(usual)
}

/// Reads the head of a request. False: the connection has ended.
async fn read_head(stream: &mut TcpStream) -> bool {
    let (mut head, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(more @ 1..) = stream.read(&mut buffer).await {
        head.extend_from_slice(&buffer[..more]);
        if head.windows(4).any(|window| window == b"\r\n\r\n") {
            return true;
        }
    }
    false
}

fn listen(address: SocketAddr) -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket.listen(64).unwrap()
}

/// Answers with its number, on connections that outlive its listening socket.
async fn numbered(listener: TcpListener, number: usize) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let answer =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{number}", number.to_string().len());
            while read_head(&mut stream).await {
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
    }
}

#[tokio::test]
async fn who_takes_over_an_address_gets_no_request_of_who_had_it_and_answers_none() {
    let world = World::start().await;
    let client = world.client();
    let mut address: SocketAddr = ([127, 0, 0, 1], 0).into();
    for number in 0..cycles(300) {
        let listener = listen(address);
        address = listener.local_addr().unwrap();
        let app = tokio::spawn(numbered(listener, number));
        world.set(on(vec![replica(address)]));
        for _ in 0..2 {
            // The one before still has the connections that were made to it, and would answer on them.
            let answer = client.get(world.url("/")).send().await.unwrap();
            assert_eq!((answer.status().as_u16(), answer.text().await.unwrap()), (200, number.to_string()));
        }
        app.abort();
        let _ = app.await;
    }
    world.stop().await;
}

#[tokio::test]
async fn connections_that_end_when_they_are_about_to_be_used_cost_no_safe_request() {
    const KEPT: Duration = Duration::from_millis(4);
    let world = World::start().await;
    let listener = listen(([127, 0, 0, 1], 0).into());
    world.set(on(vec![replica(listener.local_addr().unwrap())]));
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                while let Ok(true) = tokio::time::timeout(KEPT, read_head(&mut stream)).await {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                }
            });
        }
    });
    let clients = (0..20).map(|number| {
        let (client, url) = (world.client(), world.url("/"));
        tokio::spawn(async move {
            for request in 0..cycles(1000) / 20 {
                let answer = client.get(&url).send().await.unwrap();
                assert_eq!(answer.status(), 200, "request {request} of {number}");
                // As long as connections are kept, a little less, a little more.
                tokio::time::sleep(
                    KEPT + Duration::from_micros(200 * (request as u64 % 5)) - Duration::from_micros(400),
                )
                .await;
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    world.stop().await;
}

/// How a connection ends.
#[derive(Debug, Clone, Copy)]
enum End {
    Close,
    Reset,
}

const HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\nX-Long: aaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n\r\n";

/// Answers so much of an answer, then ends the connection.
async fn ends_after(bytes: usize, end: End) -> SocketAddr {
    let listener = listen(([127, 0, 0, 1], 0).into());
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let answer = [HEAD, &[b'x'; 100]].concat();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            if !read_head(&mut stream).await {
                continue;
            }
            let _ = stream.write_all(&answer[..bytes.min(answer.len())]).await;
            if matches!(end, End::Reset) {
                stream.set_zero_linger().unwrap();
            }
        }
    });
    address
}

#[tokio::test]
async fn an_answer_that_ends_at_any_of_its_bytes_is_an_error_or_visibly_incomplete() {
    let judged = (0..=200).flat_map(|bytes| [(bytes, End::Close), (bytes, End::Reset)]);
    let world = World::start().await;
    let client = world.client();
    for (bytes, end) in judged {
        world.set(on(vec![replica(ends_after(bytes, end).await)]));
        let (status, body) = match client.post(world.url("/")).body("x").send().await {
            Ok(answer) => (answer.status().as_u16(), Some(answer.text().await)),
            // Both ends came together: the connection is closed before the head has left.
            Err(error) => {
                assert!(bytes >= HEAD.len() && !error.is_timeout(), "{bytes} bytes, then {end:?}: {error}");
                continue;
            }
        };
        let is_as_documented = match (status, body) {
            (502, _) | (200, Some(Err(_))) => true,
            (200, Some(Ok(body))) => body.len() == 100,
            _ => false,
        };
        assert!(is_as_documented, "{bytes} bytes, then {end:?}: {status}");
    }
    world.stop().await;
}

#[tokio::test]
async fn an_app_that_cannot_be_reached_or_keeps_silent_is_told_by_one_status_each() {
    let moment = Duration::from_millis(200);
    let limits = Limits {
        response_timeout: moment,
        wake_timeout: moment,
        connect_timeout: moment,
        ..Limits::default()
    };
    let world = World::with_limits(limits).await;
    let silent = listen(([127, 0, 0, 1], 0).into());
    // Bound and never listened on: connections are refused, and nobody else is given the port.
    let refusing = tokio::net::TcpSocket::new_v4().unwrap();
    refusing.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = refusing.local_addr().unwrap();
    for (address, status) in [(silent.local_addr().unwrap(), 504), (address, 504)] {
        world.set(on(vec![replica(address)]));
        let answer = world.client().post(world.url("/")).body("x").send().await.unwrap();
        assert_eq!(answer.status(), status, "{}", answer.text().await.unwrap());
    }
    world.stop().await;
    // A slow way is a way.
    let world = World::start().await;
    let slow = listen(([127, 0, 0, 1], 0).into());
    world.set(on(vec![replica(slow.local_addr().unwrap())]));
    tokio::spawn(async move {
        let (mut stream, _) = slow.accept().await.unwrap();
        read_head(&mut stream).await;
        for part in [&b"HTTP/1.1 200 OK\r\nContent-"[..], b"Length: 4\r\n\r\n", b"ab", b"cd"] {
            tokio::time::sleep(moment / 4).await;
            stream.write_all(part).await.unwrap();
            stream.flush().await.unwrap();
        }
    });
    let answer = world.client().get(world.url("/")).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (200, "abcd"));
    world.stop().await;
}
