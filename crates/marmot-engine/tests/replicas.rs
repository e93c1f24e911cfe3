//! The life of replicas, with real programs: they boot, serve, sleep, wake, fail, and leave nothing behind.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use marmot_core::Moment;
use marmot_core::plan::Policy;
use marmot_engine::observed::{FailureReason, Happening, ReplicaStage, StartStep};
use support::{Machine, app, ask, is_alive, policy};

const COUNTER: [&str; 2] = ["python3", "app.py"];

#[tokio::test]
async fn an_app_boots_with_the_promised_environment_and_is_gone_without_a_trace_when_it_is_shut_down() {
    let mut machine = Machine::new().await;
    machine.activate(1, &COUNTER, policy());
    let replica = machine.until_running().await;
    let answer = ask(&replica).await;
    let ReplicaStage::Running { address } = replica.stage else { unreachable!() };
    let env = |name: &str| answer.env.get(name).map(String::as_str);
    assert_eq!(env("PORT"), Some(address.port().to_string().as_str()));
    assert_eq!(env("RENKU_SESSION_PORT"), env("PORT"));
    assert_eq!(env("RENKU_SESSION_IP"), Some("0.0.0.0"));
    assert_eq!(env("MARMOT_APP_NAME"), Some("iris"));
    assert_eq!(env("MARMOT_APP_URL"), Some("http://iris.localhost:8080"));
    assert_eq!(env("GREETING"), Some("hello world"));
    assert_eq!(env("CARGO"), None, "nothing of the server's own environment reaches an app");
    assert!(answer.cwd.ends_with("/work"), "{}", answer.cwd);
    assert!(matches!(
        machine.until_event(|what| matches!(what, Happening::Ready(_))).await,
        Happening::Ready(_)
    ));
    let lines = machine.logs_at_work(10).await;
    assert_eq!(lines.len(), 1);
    assert!(lines[&format!("{}/app", replica.id)][0].ends_with("Z listening"), "{lines:?}");
    machine.shut_down();
    machine.until_gone().await;
    assert_eq!(machine.leftovers(), Vec::<String>::new());
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "its port is closed");
    let lines = machine.engine.logs().app(&app(), 10).await.unwrap();
    assert_eq!(lines.len(), 1, "its log can still be read");
    let ran = machine.engine.logs().revisions_of_the_gone(&app()).await.unwrap();
    assert_eq!(ran.into_iter().collect::<Vec<_>>(), [(replica.id, replica.revision)]);
}

#[tokio::test]
async fn a_program_that_ends_at_once_fails_with_its_code_and_last_lines_and_is_given_up() {
    let machine = Machine::new().await;
    machine.activate(1, &["sh", "-c", "echo first; echo no model at /models >&2; exit 3"], policy());
    let failure = machine.until_failed().await;
    assert_eq!(failure.reason, FailureReason::Exited(3));
    assert_eq!(failure.last_lines, ["first", "no model at /models"]);
    let seen = machine.until("given up", |app| app.gave_up.is_some()).await;
    assert_eq!(seen.gave_up, Some(failure.revision));
    // Somebody asks to try again, and by now it works.
    machine.artefact(2.into(), &[("app.py", support::COUNTER)], None);
    machine.want(|wanted| wanted.apps.get_mut(&app()).unwrap().retry += 1);
    machine.until("tried again", |app| app.gave_up.is_none()).await;
    machine.shut_down();
    machine.until_gone().await;
}

#[tokio::test]
async fn a_program_that_does_not_exist_is_named() {
    let machine = Machine::new().await;
    machine.activate(1, &["streamlitt", "run"], policy());
    let failure = machine.until_failed().await;
    assert_eq!(
        failure.reason.to_string(),
        "the program could not be started: there is no program `streamlitt`"
    );
}

#[tokio::test]
async fn without_a_command_it_says_what_to_do() {
    let machine = Machine::new().await;
    machine.activate(1, &[], policy());
    let failure = machine.until_failed().await;
    let FailureReason::CouldNotStart(why) = &failure.reason else { panic!("{failure:?}") };
    assert!(why.contains("nothing says how to start it") && why.contains("Procfile"), "{why}");
}

#[tokio::test]
async fn a_program_that_listens_elsewhere_is_told_where_it_should_and_where_it_does() {
    let machine = Machine::new().await;
    let elsewhere = "import socket, time; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); \
                     print(s.getsockname()[1], flush=True); time.sleep(600)";
    let policy = Policy { start_timeout: Duration::from_secs(5), ..policy() };
    machine.activate(1, &["python3", "-c", elsewhere], policy);
    let failure = machine.until_failed().await;
    let FailureReason::NeverListened { expected, found, after } = &failure.reason else {
        panic!("{failure:?}")
    };
    assert_eq!(*after, Duration::from_secs(5));
    assert_eq!(found, &[failure.last_lines[0].parse::<u16>().unwrap()]);
    assert!(!found.contains(expected));
    machine.shut_down();
    machine.until_gone().await;
    assert_eq!(machine.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn children_that_hide_in_sessions_of_their_own_do_not_outlive_the_app() {
    let machine = Machine::new().await;
    let hiding = "(setsid sh -c 'sleep 600 & exec sleep 601' >/dev/null 2>&1 &) ; exec python3 app.py";
    machine.activate(1, &["sh", "-c", hiding], policy());
    machine.until_running().await;
    assert!(machine.data.processes().len() >= 4, "supervisor, app and its two children");
    machine.shut_down();
    machine.until_gone().await;
    assert_eq!(machine.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn children_that_outlive_their_program_are_ended_and_the_app_is_started_again() {
    let machine = Machine::new().await;
    let hiding = "(setsid sleep 600 >/dev/null 2>&1 &) ; exec python3 app.py";
    machine.activate(1, &["sh", "-c", hiding], policy());
    let first = machine.until_running().await;
    let pid = ask(&first).await.pid;
    kill(pid, "KILL");
    let seen = machine
        .until("started again", |app| {
            app.replicas.iter().any(|replica| support::is_running(replica) && replica.id != first.id)
        })
        .await;
    assert_eq!(seen.replicas.len(), 1);
    assert!(first.gate.enter(Moment::START).is_err(), "nobody is let in to the one that is gone");
    machine.shut_down();
    machine.until_gone().await;
    assert_eq!(machine.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn a_program_that_ignores_the_request_to_end_is_ended_after_its_grace() {
    let machine = Machine::new().await;
    machine.activate(1, &["sh", "-c", "trap '' TERM; python3 app.py & wait; wait"], policy());
    let pid = ask(&machine.until_running().await).await.pid;
    machine.shut_down();
    machine.until_gone().await;
    assert!(!is_alive(pid));
    assert_eq!(machine.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn asleep_it_uses_no_cpu_and_wakes_with_its_memory() {
    let mut machine = Machine::new().await;
    // Something that works a little all the time, as most frameworks do.
    let busy = "import threading, time\ndef work():\n    while True:\n        sum(range(2000)); time.sleep(0.001)\n\
                threading.Thread(target=work, daemon=True).start()\n";
    machine.artefact(1.into(), &[("app.py", &format!("{busy}{}", support::COUNTER))], None);
    machine.activate(1, &COUNTER, policy());
    let replica = machine.until_running().await;
    let first = ask(&replica).await;
    machine.demand.put_to_rest(machine.clock.now());
    machine.engine.nudge().app(&app());
    let replica = machine.until_hibernated().await;
    assert!(replica.gate.enter(machine.clock.now()).is_err());
    machine.until_event(|what| *what == Happening::Hibernated).await;
    let used = cpu_ticks(first.pid);
    // As long as it would have needed to use many ticks awake; the answer does not depend on how long exactly.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(cpu_ticks(first.pid), used);
    machine.until("measured", |app| app.replicas[0].memory.resident > 1 << 20).await;
    machine.demand.touch(machine.clock.now());
    let held = machine.demand.hold();
    machine.engine.nudge().app(&app());
    let replica = machine.until_running().await;
    drop(held);
    assert!(replica.gate.enter(machine.clock.now()).is_ok());
    let second = ask(&replica).await;
    assert_eq!((second.pid, second.count), (first.pid, first.count + 1));
    machine.until_event(|what| matches!(what, Happening::Woke(_))).await;
}

#[tokio::test]
async fn it_wakes_from_a_sleep_that_was_broken_off_and_from_two_hundred_more() {
    let machine = Machine::new().await;
    machine.activate(1, &COUNTER, policy());
    let replica = machine.until_running().await;
    let pid = ask(&replica).await.pid;
    for _ in 0..200 {
        machine.demand.put_to_rest(machine.clock.now());
        machine.engine.nudge().app(&app());
        machine.until_hibernated().await;
        // Just later than the wish to sleep, on a clock of milliseconds.
        machine.demand.touch(machine.clock.now() + Duration::from_millis(1));
        let _held = machine.demand.hold();
        machine.engine.nudge().app(&app());
        let replica = machine.until_running().await;
        let pass = replica.gate.enter(machine.clock.now()).expect("a gate that is open");
        drop(pass);
        tokio::time::timeout(support::LIMIT, rests(&machine)).await.expect("the clock goes on");
    }
    assert_eq!(ask(&machine.until_running().await).await.pid, pid);
}

/// Until the next wish to sleep is later than the last activity.
async fn rests(machine: &Machine) {
    let used = machine.demand.sample().last_activity;
    while machine.demand.sample().last_activity == used && Some(machine.clock.now()) <= used {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_hibernated_replica_that_is_shut_down_leaves_nothing() {
    let machine = Machine::new().await;
    machine.activate(1, &COUNTER, policy());
    machine.until_running().await;
    machine.demand.put_to_rest(machine.clock.now());
    machine.until_hibernated().await;
    machine.shut_down();
    machine.until_gone().await;
    assert_eq!(machine.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn an_update_serves_from_the_old_revision_until_the_new_one_answers() {
    let machine = Machine::new().await;
    machine.activate(1, &COUNTER, policy());
    let old = machine.until_running().await;
    machine.activate(
        2,
        &["sh", "-c", "while [ ! -e ../go ]; do sleep 0.05; done; exec python3 app.py"],
        policy(),
    );
    let waiting = ReplicaStage::Starting(StartStep::WaitingForPort);
    let both =
        machine.until("updating", |app| app.replicas.iter().any(|replica| replica.stage == waiting)).await;
    let new = both.replicas.iter().find(|replica| replica.id != old.id).unwrap();
    assert!(old.gate.enter(machine.clock.now()).is_ok(), "the old one serves");
    std::fs::write(machine.layout().replica(&app(), new.id).join("go"), "").unwrap();
    let seen = machine.until("updated", |app| app.replicas.len() == 1 && app.replicas[0].id == new.id).await;
    assert!(support::is_running(&seen.replicas[0]));
    assert!(old.gate.enter(machine.clock.now()).is_err());
}

#[tokio::test]
async fn a_flood_of_output_is_bounded_on_disk_and_the_end_of_it_can_be_read() {
    let machine = Machine::new().await;
    let flood = "import sys\nfor i in range(600000): print('line', i)\nprint('the end', flush=True)\n";
    machine.activate(1, &["python3", "-c", flood], policy());
    let failure = machine.until_failed().await;
    assert_eq!(failure.last_lines.last().map(String::as_str), Some("the end"));
    machine.shut_down();
    machine.until_gone().await;
    let logs = machine.engine.logs().app(&app(), 1000).await.unwrap();
    // Later tries may have been ended in the middle of it.
    let first = logs.values().next().unwrap();
    assert!(first.len() == 1000 && first.last().unwrap().ends_with("the end"));
    for replica in std::fs::read_dir(machine.layout().replicas(&app())).unwrap().flatten() {
        for name in ["log", "log.1"] {
            let length = std::fs::metadata(replica.path().join(name)).map_or(0, |meta| meta.len());
            assert!(length <= 4 << 20, "{length}");
        }
    }
}

fn kill(pid: u64, signal: &str) {
    let status =
        std::process::Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

/// CPU time a process has used, in clock ticks.
fn cpu_ticks(pid: u64) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
