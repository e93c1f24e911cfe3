//! Several real replicas of one app: more for more sessions, fewer afterwards, and nobody who is inside notices.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use marmot_core::Demand;
use marmot_core::demand::Counted;
use marmot_core::gate::Seat;
use marmot_core::plan::Policy;
use marmot_core::scaling::Concurrency;
use marmot_engine::observed::{ObservedApp, ObservedReplica, ReplicaStage};
use support::{Machine, app, is_running, policy};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// Answers on one connection for as long as it is open, with its process and how often that connection has asked.
const TALKS: &str = r#"
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    asked = 0
    def do_GET(self):
        self.asked += 1
        body = f"{os.getpid()} {self.asked}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer((os.environ["RENKU_SESSION_IP"], int(os.environ["PORT"])), Handler).serve_forever()
"#;

/// A session as the gateway keeps one: an open connection, a seat in its replica, and that it counts.
struct Session {
    stream: BufReader<TcpStream>,
    asked: u64,
    pid: Option<u64>,
    _kept: (Seat, Counted),
}

impl Session {
    async fn open(machine: &Machine, replica: &ObservedReplica) -> Self {
        let kept = (replica.gate.seat(), machine.demand.session());
        let ReplicaStage::Running { address } = replica.stage else { panic!("it is not awake: {replica:?}") };
        let stream = BufReader::new(support::connect(replica, address).await.unwrap());
        let mut session = Self { stream, asked: 0, pid: None, _kept: kept };
        session.goes_on().await;
        session
    }

    /// The same process answers on the same connection.
    async fn goes_on(&mut self) {
        let talk = async {
            self.stream.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: iris\r\n\r\n").await.unwrap();
            let mut line = String::new();
            while line != "\r\n" {
                line.clear();
                assert!(self.stream.read_line(&mut line).await.unwrap() > 0, "the session was cut");
            }
            line.clear();
            self.stream.read_line(&mut line).await.unwrap();
            line
        };
        let line = tokio::time::timeout(support::LIMIT, talk).await.expect("an answer in time");
        let (pid, asked) = line.trim().split_once(' ').unwrap();
        self.asked += 1;
        assert_eq!(asked.parse(), Ok(self.asked));
        let pid = pid.parse().unwrap();
        assert_eq!(*self.pid.get_or_insert(pid), pid);
    }
}

async fn sessions(machine: &Machine, replica: &ObservedReplica, count: usize) -> Vec<Session> {
    let mut sessions = Vec::new();
    for _ in 0..count {
        sessions.push(Session::open(machine, replica).await);
    }
    sessions
}

fn running(app: &ObservedApp) -> Vec<ObservedReplica> {
    app.replicas.iter().filter(|replica| is_running(replica)).cloned().collect()
}

#[tokio::test]
async fn three_replicas_serve_many_sessions_and_the_emptiest_goes_when_there_are_fewer_once_nobody_is_inside()
{
    let mut machine = Machine::new().await;
    // Averages are over time.
    machine.demand = Arc::new(Demand::new(machine.clock.clone()));
    machine.artefact(1.into(), &[("app.py", TALKS)], None);
    let three_sessions_each = Policy {
        max_replicas: 3,
        concurrency: Concurrency::Sessions(3),
        limit: 10,
        utilisation: 100,
        can_hibernate: false,
        idle_after: Duration::from_secs(1),
        stable_window: Duration::from_secs(2),
        panic_window: Duration::from_secs(1),
        linger: Duration::ZERO,
        zero_grace: Duration::ZERO,
        ..policy()
    };
    machine.activate(1, &["python3", "app.py"], three_sessions_each);
    // Whatever else happens, the app is in use.
    let in_use = machine.demand.request();
    machine.demand.touch(machine.clock.now());
    let first = machine.until_running().await;
    let mut of_first = sessions(&machine, &first, 7).await;
    machine.engine.nudge().app(&app());
    let seen = machine.until("three awake", |app| running(app).len() == 3).await;
    let others: Vec<_> = running(&seen).into_iter().filter(|replica| replica.id != first.id).collect();
    let mut of_second = sessions(&machine, &others[0], 3).await;
    let mut of_third = sessions(&machine, &others[1], 1).await;
    let pids: std::collections::BTreeSet<_> =
        [&of_first, &of_second, &of_third].map(|sessions| sessions[0].pid).into();
    assert_eq!(pids.len(), 3);

    // Six are left, for whom two are enough: the one with the fewest takes nobody new, and keeps whom it has.
    of_first.truncate(2);
    machine.until("one about to go", |app| app.replicas.iter().any(|one| one.gate.retiring())).await;
    assert_eq!([&first, &others[0], &others[1]].map(|one| one.gate.retiring()), [false, false, true]);
    for session in of_first.iter_mut().chain(&mut of_second).chain(&mut of_third) {
        session.goes_on().await;
    }
    drop(of_third);
    let gone = others[1].id;
    let seen = machine.until("one less", |app| app.replicas.iter().all(|replica| replica.id != gone)).await;
    assert_eq!(running(&seen).len(), 2);
    for session in of_first.iter_mut().chain(&mut of_second) {
        session.goes_on().await;
    }

    drop((of_first, of_second, in_use));
    machine.until("none", |app| app.replicas.is_empty()).await;
    machine.shut_down();
    machine.until_gone().await;
    assert_eq!(machine.leftovers(), Vec::<String>::new());
}
