//! Thousands of clients at the same time, before a gateway in a process of its own, so that its memory and its descriptors
//! can be told from theirs. Here: ten thousand requests held for one sleeping app.

#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

mod floods;
mod server;
mod slow;
#[path = "../support/mod.rs"]
mod support;

use server::{Server, allow_descriptors};
use support::LIMIT;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const CROWD: usize = 10_000;
/// The goal is 16 KiB, of a program as it is released; one for debugging keeps more on its tasks.
const BYTES_EACH: usize = if cfg!(debug_assertions) { 24 * 1024 } else { 16 * 1024 };
const REQUEST: &[u8] =
    b"GET /data HTTP/1.1\r\nHost: iris.localhost\r\nAccept: */*\r\nUser-Agent: crowd/1\r\n\r\n";

async fn crowd(server: &mut Server) -> Vec<TcpStream> {
    let mut clients = Vec::with_capacity(CROWD);
    for _ in 0..CROWD {
        let mut client = TcpStream::connect(server.address).await.unwrap();
        client.write_all(REQUEST).await.unwrap();
        clients.push(client);
    }
    server.until("held", CROWD).await;
    clients
}

async fn answer(client: &mut TcpStream) -> String {
    let mut answer = vec![0; 2048];
    let read = tokio::time::timeout(LIMIT, client.read(&mut answer)).await.expect("an answer").unwrap();
    answer.truncate(read);
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn ten_thousand_wait_for_one_start_in_little_memory_and_the_next_is_told_when_to_come_back() {
    allow_descriptors();
    let mut server = Server::start(None);
    // What is there whoever waits.
    let mut warm = TcpStream::connect(server.address).await.unwrap();
    warm.write_all(b"GET / HTTP/1.1\r\nHost: nobody.localhost\r\n\r\n").await.unwrap();
    answer(&mut warm).await;
    let before = server.resident();
    let mut clients = crowd(&mut server).await;
    let each = (server.resident() - before) / CROWD;
    println!("{each} bytes for each held request");
    assert!(each < BYTES_EACH, "{each} bytes for each held request");
    assert_eq!(server.number("nudges"), 1);

    let mut late = TcpStream::connect(server.address).await.unwrap();
    late.write_all(REQUEST).await.unwrap();
    let refusal = answer(&mut late).await;
    assert!(refusal.starts_with("HTTP/1.1 503") && refusal.contains("\r\nretry-after: "), "{refusal}");

    server.ask("wake");
    for client in &mut clients {
        let answer = answer(client).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("hello"), "{answer}");
    }
    assert_eq!((server.number("answered"), server.number("nudges")), (CROWD, 1));
    server.until("in flight", 0).await;
}

#[tokio::test]
async fn ten_thousand_who_vanish_leave_nothing_behind() {
    allow_descriptors();
    let mut server = Server::start(None);
    let before = server.descriptors();
    drop(crowd(&mut server).await);
    server.until("held", 0).await;
    let start = std::time::Instant::now();
    // Those that its cores begin with may not all have been there before.
    while server.descriptors() > before + 50 {
        assert!(start.elapsed() < LIMIT, "{} descriptors, {before} before", server.descriptors());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    server.ask("wake");
    let mut next = TcpStream::connect(server.address).await.unwrap();
    next.write_all(REQUEST).await.unwrap();
    assert!(answer(&mut next).await.ends_with("hello"));
    assert_eq!(server.number("answered"), 1, "nobody works for those who left");
}
