//! Clients by the thousand who take their time: each is closed in the end, and whoever comes meanwhile is served.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::server::{Server, allow_descriptors, fresh_client, sockets};
use crate::support::{LIMIT, until};

const PATIENCE: Duration = Duration::from_secs(2);
const MIB: usize = 1 << 20;

async fn clients(address: SocketAddr, count: usize, first: &[u8]) -> Vec<TcpStream> {
    let mut clients = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = TcpSocket::new_v4().unwrap();
        // So that who does not read is felt after a few bytes, and not after the megabytes that the kernel keeps.
        socket.set_recv_buffer_size(4096).unwrap();
        let mut client = socket.connect(address).await.unwrap();
        client.write_all(first).await.unwrap();
        clients.push(client);
    }
    clients
}

/// Whether the server has closed it; whatever it has said is read on the way.
fn is_closed(client: &TcpStream) -> bool {
    loop {
        match client.try_read(&mut [0; 4096]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

/// Sends each of them this again and again, until all are closed. The most memory that the gateway took meanwhile.
async fn drip(server: &Server, mut clients: Vec<TcpStream>, drop: &[u8]) -> usize {
    let (start, mut most) = (Instant::now(), 0);
    while !clients.is_empty() {
        most = most.max(server.resident());
        clients.retain(|client| {
            let _ = client.try_write(drop);
            !is_closed(client)
        });
        fresh_client(server.address).await;
        assert!(start.elapsed() < LIMIT, "{} are still open", clients.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    most
}

async fn warm() -> (Server, usize) {
    allow_descriptors();
    let server = Server::start(Some(PATIENCE));
    for _ in 0..20 {
        fresh_client(server.address).await;
    }
    let before = server.resident();
    (server, before)
}

#[tokio::test]
async fn heads_that_drip_in_are_cut() {
    let (server, before) = warm().await;
    let begun = b"GET / HTTP/1.1\r\nHost: iris.localhost\r\nX: ";
    let count = sockets(5000);
    let dripping = clients(server.address, count, begun).await;
    let most = drip(&server, dripping, b"a").await;
    println!("{} MiB more", most.saturating_sub(before) / MIB);
    let allowed = (100 * MIB).max(count * 20 * 1024);
    assert!(most < before + allowed, "{before} bytes before, {most} then");
}

#[tokio::test]
async fn bodies_that_drip_in_are_cut() {
    let (server, before) = warm().await;
    let begun = b"POST / HTTP/1.1\r\nHost: iris.localhost\r\nContent-Length: 1000000\r\n\r\n";
    let count = sockets(1000);
    let dripping = clients(server.address, count, begun).await;
    let most = drip(&server, dripping, b"a").await;
    println!("{} MiB more", most.saturating_sub(before) / MIB);
    // Buffers on both sides, and those of the app, which is in the same process: how many were kept at once depends on who was
    // quick. No buffer is of the length that a client names.
    let allowed = (100 * MIB).max(count * 200 * 1024);
    assert!(most < before + allowed, "{before} bytes before, {most} then");
}

#[tokio::test]
async fn who_does_not_read_is_cut() {
    let (server, before) = warm().await;
    let asked = b"GET /large HTTP/1.1\r\nHost: iris.localhost\r\n\r\n";
    let count = sockets(200);
    let silent = clients(server.address, count, asked).await;
    until("all are being answered", || server.descriptors() >= 2 * count).await;
    let (start, mut most, usual) = (Instant::now(), 0, 40);
    // Nobody reads, so that nobody sees the end: it is seen by what the gateway has open.
    while server.descriptors() > usual {
        most = most.max(server.resident());
        fresh_client(server.address).await;
        assert!(start.elapsed() < LIMIT, "{} descriptors", server.descriptors());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let each = most.saturating_sub(before) / count;
    println!("{} KiB for each", each / 1024);
    // What is buffered on both sides, whatever the length of the answer.
    assert!(each < MIB, "{each} bytes for each");
    drop(silent);
}

#[tokio::test]
async fn idle_connections_cost_little_and_are_closed() {
    let (server, before) = warm().await;
    let count = sockets(2000);
    let asked = b"GET / HTTP/1.1\r\nHost: iris.localhost\r\n\r\n";
    let mut idle = clients(server.address, count, asked).await;
    for client in &mut idle {
        let mut answer = [0; 1024];
        assert!(tokio::time::timeout(LIMIT, client.read(&mut answer)).await.unwrap().unwrap() > 0);
    }
    let most = drip(&server, idle, b"").await;
    println!("{} bytes for each", most.saturating_sub(before) / count);
    // With what any number of them needs once, and their app, which is in the same process.
    assert!(most < before + 32 * MIB + count * 15 * 1024, "{before} bytes before, {most} then");
}

#[tokio::test]
async fn hosts_that_nobody_knows_wake_nothing_and_leave_nothing() {
    let (mut server, before) = warm().await;
    let (count, at_once) = (sockets(20_000), 100);
    let mut client = TcpStream::connect(server.address).await.unwrap();
    let (mut answered, mut buffer) = (0, vec![0; 1 << 20]);
    for round in 0..count / at_once {
        let asked: String = (0..at_once)
            .map(|number| format!("GET / HTTP/1.1\r\nHost: h{round}x{number}.localhost\r\n\r\n"))
            .collect();
        client.write_all(asked.as_bytes()).await.unwrap();
        while answered < (round + 1) * at_once {
            let read = tokio::time::timeout(LIMIT, client.read(&mut buffer)).await.unwrap().unwrap();
            assert!(read > 0, "closed after {answered}");
            answered += buffer[..read].windows(12).filter(|window| window == b"HTTP/1.1 404").count();
        }
    }
    let more = server.resident().saturating_sub(before);
    println!("{} KiB more", more / 1024);
    assert!(more < 16 * MIB, "{more} bytes more");
    assert_eq!(server.number("nudges"), 0);
}
