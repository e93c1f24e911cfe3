//! Ten thousand requests held for one sleeping app: by a gateway in a process of its own, so that its memory and its
//! descriptors can be told from those of its clients.

#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::Ordering;

use support::{LIMIT, TestApp, World, on, sleeping_replica};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const CROWD: usize = 10_000;
const BYTES_EACH: usize = 16 * 1024;
const REQUEST: &[u8] =
    b"GET /data HTTP/1.1\r\nHost: iris.localhost\r\nAccept: */*\r\nUser-Agent: crowd/1\r\n\r\n";

/// Each request is a descriptor here, and one there.
fn allow_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    assert!(
        limit.maximum.is_none_or(|most| most > CROWD as u64 + 1_000),
        "too few descriptors are allowed here"
    );
}

/// The gateway, in another process: does what it is told line by line, and answers each with one.
struct Server {
    child: Child,
    tell: ChildStdin,
    said: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Server {
    fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "serves_as_it_is_told", "--ignored", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (tell, said) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut server = Self { child, tell, said, address: ([127, 0, 0, 1], 0).into() };
        server.address = server.ask("address").parse().unwrap();
        server
    }

    fn ask(&mut self, what: &str) -> String {
        writeln!(self.tell, "{what}").unwrap();
        loop {
            let mut line = String::new();
            assert!(self.said.read_line(&mut line).unwrap() > 0, "the gateway is gone");
            // The test harness of that process says things too.
            if let Some((_, answer)) = line.split_once("=> ") {
                return answer.trim().to_owned();
            }
        }
    }

    fn number(&mut self, what: &str) -> usize {
        self.ask(what).parse().unwrap()
    }

    async fn until(&mut self, what: &str, number: usize) {
        let start = std::time::Instant::now();
        while self.number(what) != number {
            assert!(start.elapsed() < LIMIT, "{what} is {} and not {number}", self.number(what));
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    fn resident(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
    }

    fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The other process of the tests below.
#[tokio::test]
#[ignore = "part of the others"]
async fn serves_as_it_is_told() {
    allow_descriptors();
    let (world, app) = (World::start().await, TestApp::start().await);
    let replica = sleeping_replica(app.address, 100);
    world.set(on(vec![replica.clone()]));
    let (told, mut lines) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        std::io::stdin().lines().map_while(Result::ok).for_each(|line| drop(told.send(line)));
    });
    while let Some(line) = lines.recv().await {
        let answer = match line.as_str() {
            "address" => world.address.to_string(),
            "held" => world.demand.sample().held.to_string(),
            "in flight" => world.demand.sample().in_flight.to_string(),
            "nudges" => world.nudges.load(Ordering::SeqCst).to_string(),
            "answered" => app.seen().to_string(),
            "wake" => {
                replica.gate.open();
                "awake".to_owned()
            }
            other => panic!("what is {other}?"),
        };
        println!("=> {answer}");
    }
}

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
    let mut server = Server::start();
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
    let mut server = Server::start();
    let before = server.descriptors();
    drop(crowd(&mut server).await);
    server.until("held", 0).await;
    let start = std::time::Instant::now();
    while server.descriptors() > before + 8 {
        assert!(start.elapsed() < LIMIT, "{} descriptors, {before} before", server.descriptors());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    server.ask("wake");
    let mut next = TcpStream::connect(server.address).await.unwrap();
    next.write_all(REQUEST).await.unwrap();
    assert!(answer(&mut next).await.ends_with("hello"));
    assert_eq!(server.number("answered"), 1, "nobody works for those who left");
}
