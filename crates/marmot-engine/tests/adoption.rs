//! Replicas outlive the engine: the next one on the data directory finds them again, as they were.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs;

use marmot_engine::observed::{FailureReason, Happening};
use marmot_engine::{Engine, EngineConfig, StartError};
use support::{Machine, app, ask, is_alive, policy};

const COUNTER: [&str; 2] = ["python3", "app.py"];

#[tokio::test]
async fn a_running_replica_serves_on_after_the_engine_was_killed() {
    let machine = Machine::new().await;
    machine.activate(1, &COUNTER, policy());
    let replica = machine.until_running().await;
    let before = ask(&replica).await;
    let mut machine = machine.crash().await;
    let first_look = machine.engine.observed().borrow().apps[&app()].clone();
    assert_eq!(first_look.replicas.len(), 1);
    let adopted = &first_look.replicas[0];
    assert!(adopted.id == replica.id && support::is_running(adopted), "{first_look:?}");
    assert!(adopted.gate.enter(machine.clock.now()).is_ok(), "its gate is open");
    assert_eq!(first_look.boot_time.map(|time| time.as_millis() > 0), Some(true));
    let after = ask(adopted).await;
    assert_eq!((after.pid, after.count), (before.pid, before.count + 1));
    machine.until_event(|what| *what == Happening::Adopted).await;
    machine.shut_down();
    machine.until_gone().await;
    assert_eq!(machine.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn a_hibernated_replica_is_found_asleep_and_wakes_with_its_memory() {
    let machine = Machine::new().await;
    machine.activate(1, &COUNTER, policy());
    let before = ask(&machine.until_running().await).await;
    machine.demand.put_to_rest(machine.clock.now());
    machine.until_hibernated().await;
    let machine = machine.crash().await;
    machine.until_hibernated().await;
    machine.demand.touch(machine.clock.now());
    let _held = machine.demand.hold();
    machine.engine.nudge().app(&app());
    let after = ask(&machine.until_running().await).await;
    assert_eq!((after.pid, after.count), (before.pid, before.count + 1));
}

#[tokio::test]
async fn an_end_that_no_engine_saw_is_noticed_with_its_code() {
    let machine = Machine::new().await;
    let until_told = "python3 app.py & while [ ! -e ../end ]; do sleep 0.05; done; echo bye; exit 7";
    machine.activate(1, &["sh", "-c", until_told], policy());
    let replica = machine.until_running().await;
    let dir = machine.layout().replica(&app(), replica.id);
    let pid = ask(&replica).await.pid;
    let mut machine = machine
        .crash_and(async || {
            fs::write(dir.join("end"), "").unwrap();
            support::until(|| dir.join("exit.json").exists() && !is_alive(pid)).await;
            fs::remove_file(dir.join("end")).unwrap();
        })
        .await;
    let Happening::Failed(failure) = machine.until_event(|what| matches!(what, Happening::Failed(_))).await
    else {
        unreachable!()
    };
    assert_eq!(failure.reason, FailureReason::Exited(7));
    assert_eq!(failure.last_lines.last().map(String::as_str), Some("bye"));
    machine.shut_down();
    machine.until_gone().await;
    assert_eq!(machine.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_no_longer_wanted_is_ended_and_removed() {
    let machine = Machine::new().await;
    machine.activate(1, &COUNTER, policy());
    let pid = ask(&machine.until_running().await).await.pid;
    let machine = machine.crash_and_want_nothing().await;
    machine.until_gone().await;
    assert!(!is_alive(pid));
    assert_eq!(machine.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn a_supervisor_that_was_killed_takes_its_program_with_it() {
    let machine = Machine::new().await;
    machine.activate(1, &["sh", "-c", "(setsid sleep 600 &) ; exec python3 app.py"], policy());
    let replica = machine.until_running().await;
    let pid = ask(&replica).await.pid;
    let text = fs::read_to_string(machine.layout().replica(&app(), replica.id).join("shim.json")).unwrap();
    let shim: serde_json::Value = serde_json::from_str(&text).unwrap();
    let shim = rustix::process::Pid::from_raw(i32::try_from(shim["pid"].as_i64().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(shim, rustix::process::Signal::KILL).unwrap();
    machine
        .until("started again", |app| {
            app.replicas.iter().any(|new| support::is_running(new) && new.id != replica.id)
        })
        .await;
    assert!(!is_alive(pid));
    machine.shut_down();
    machine.until_gone().await;
    assert_eq!(machine.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn replicas_are_ended_with_the_engine_where_it_is_told_so() {
    let machine = Machine::stopping().await;
    machine.activate(1, &COUNTER, policy());
    let pid = ask(&machine.until_running().await).await.pid;
    let (data, engine) = (machine.data, machine.engine);
    engine.stop().await;
    assert!(!is_alive(pid));
    let replicas = marmot_engine::layout::Layout::new(data.path()).replicas(&app());
    for replica in fs::read_dir(replicas).unwrap().flatten() {
        assert!(!replica.path().join("spec.json").exists());
    }
}

#[tokio::test]
async fn a_second_engine_on_the_same_data_directory_is_refused() {
    let machine = Machine::new().await;
    let config: EngineConfig = support::config(&machine.data, machine.confinement);
    let refused = Engine::start(config, machine.wanted.subscribe(), machine.clock.clone()).await.unwrap_err();
    assert!(matches!(&refused, StartError::InUse { path } if path == machine.data.path()), "{refused:?}");
}
