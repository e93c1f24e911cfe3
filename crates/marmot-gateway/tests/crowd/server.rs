//! The gateway in a process of its own.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use http_body_util::BodyExt;
use marmot_gateway::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::CROWD;
use crate::support::{LIMIT, TestApp, World, full, on, sleeping_replica};

/// Milliseconds, for the other process.
const PATIENCE: &str = "GATEWAY_PATIENCE";
/// Bytes of what is at `/large`.
pub(crate) const LARGE: usize = 2 << 20;

/// How many a test takes: fewer in CI than where `MARMOT_CHAOS_SOCKETS` says so.
pub(crate) fn sockets(usual: usize) -> usize {
    std::env::var("MARMOT_CHAOS_SOCKETS").ok().and_then(|count| count.parse().ok()).unwrap_or(usual)
}

/// Each request is a descriptor here, and one there.
pub(crate) fn allow_descriptors() {
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
pub(crate) struct Server {
    child: Child,
    tell: ChildStdin,
    said: BufReader<ChildStdout>,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// `patience`: how long it waits for slow clients, if not as long as it usually does; its app is awake then.
    pub(crate) fn start(patience: Option<Duration>) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "server::serves_as_it_is_told", "--ignored", "--nocapture"])
            .env(PATIENCE, patience.map_or(String::new(), |patience| patience.as_millis().to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (tell, said) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut server = Self { child, tell, said, address: ([127, 0, 0, 1], 0).into() };
        server.address = server.ask("address").parse().unwrap();
        server
    }

    pub(crate) fn ask(&mut self, what: &str) -> String {
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

    pub(crate) fn number(&mut self, what: &str) -> usize {
        self.ask(what).parse().unwrap()
    }

    pub(crate) async fn until(&mut self, what: &str, number: usize) {
        let start = std::time::Instant::now();
        while self.number(what) != number {
            assert!(start.elapsed() < LIMIT, "{what} is {} and not {number}", self.number(what));
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn resident(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
    }

    pub(crate) fn descriptors(&self) -> usize {
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
    let patience =
        std::env::var(PATIENCE).ok().and_then(|millis| millis.parse().ok()).map(Duration::from_millis);
    let limits = patience.map_or_else(Limits::default, |patience| Limits {
        header_timeout: patience,
        idle_timeout: patience,
        stall_timeout: patience,
        body_grace: patience,
        ..Limits::default()
    });
    let world = World::with_limits(limits).await;
    let large = bytes::Bytes::from(vec![b'x'; LARGE]);
    let app = TestApp::start_with(move |request: http::Request<hyper::body::Incoming>| {
        let answer = if request.uri().path() == "/large" { large.clone() } else { "hello".into() };
        async move {
            let _ = request.into_body().collect().await;
            http::Response::new(full(answer))
        }
    })
    .await;
    let replica = sleeping_replica(app.address, if patience.is_some() { 10_000 } else { 100 });
    if patience.is_some() {
        replica.gate.open();
    }
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

/// Somebody who comes now, and is served.
pub(crate) async fn fresh_client(address: SocketAddr) {
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: iris.localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    let read = tokio::time::timeout(LIMIT, client.read_to_string(&mut answer)).await;
    read.expect("a fresh client is served").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
}
