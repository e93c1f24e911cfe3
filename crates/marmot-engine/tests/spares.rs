//! What waits beside replicas: supervisors that the next ones get, and the guard of their way out.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs;

use marmot_engine::observed::ObservedReplica;
use marmot_engine::wanted::Outbound;
use support::{Machine, app, ask, is_alive, policy, until};

/// A machine on which supervisors wait; `None`, said aloud, where apps have no way out.
async fn machine() -> Option<Machine> {
    let machine = Machine::confined(|config| config).await?;
    if !machine.engine.capabilities().outbound {
        eprintln!("skipped: {:?}", machine.engine.capabilities().sentences);
        return None;
    }
    until(|| machine.spares().len() == 2).await;
    Some(machine)
}

fn number(pid: i32) -> u64 {
    pid.try_into().unwrap()
}

fn supervisor_of(machine: &Machine, replica: &ObservedReplica) -> i32 {
    let file = machine.layout().replica(&app(), replica.id).join("shim.json");
    let told: serde_json::Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    told["pid"].as_i64().unwrap().try_into().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_gets_a_supervisor_that_waited_and_is_adopted_with_it() {
    let Some(machine) = machine().await else { return };
    let waited = machine.spares();
    machine.activate(1, &["python3", "app.py"], policy());
    let replica = machine.until_running().await;
    let before = ask(&replica).await;
    let shim = supervisor_of(&machine, &replica);
    assert!(waited.contains(&shim), "{shim} {waited:?}");
    // Others take its place.
    until(|| machine.spares().len() == 2).await;
    let waiting = machine.spares();
    let machine = machine.crash().await;
    until(|| !waiting.iter().any(|&pid| is_alive(number(pid)))).await;
    let after = ask(&machine.until_running().await).await;
    assert_eq!((after.pid, after.count), (before.pid, before.count + 1));
    machine.shut_down();
    machine.until_gone().await;
    assert_eq!(machine.leftovers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn supervisors_that_ended_meanwhile_are_passed_over() {
    let Some(machine) = machine().await else { return };
    for pid in machine.spares() {
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    machine.activate(1, &["python3", "app.py"], policy());
    assert_eq!(ask(&machine.until_running().await).await.count, 1);
    machine.shut_down();
    machine.until_gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_reach_nothing_gets_a_network_without_a_way_out() {
    let Some(mut machine) = machine().await else { return };
    machine.outbound = Outbound::None;
    machine.activate(1, &["python3", "app.py"], policy());
    let replica = machine.until_running().await;
    let shim = supervisor_of(&machine, &replica);
    let interfaces = fs::read_to_string(format!("/proc/{shim}/net/dev")).unwrap();
    assert!(interfaces.contains("lo:") && !interfaces.contains("eth0:"), "{interfaces}");
    machine.shut_down();
    machine.until_gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_out_ends_with_the_server_if_no_replica_needs_it_and_else_with_the_last_replica() {
    let Some(machine) = machine().await else { return };
    machine.activate(1, &["python3", "app.py"], policy());
    let replica = machine.until_running().await;
    let shim = supervisor_of(&machine, &replica);
    let uplink: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(machine.data.path().join("uplink.json")).unwrap()).unwrap();
    let pid = |what: &str| uplink[what]["pid"].as_u64().unwrap();
    let Machine { data, engine, build, .. } = machine;
    let mut observed = engine.observed();
    // As after `kill -9`.
    drop(engine);
    while observed.changed().await.is_ok() {}
    drop(build);
    assert!(is_alive(number(shim)) && is_alive(pid("pasta")) && is_alive(pid("guard")));
    // Its program ends with it.
    let shim = rustix::process::Pid::from_raw(shim).unwrap();
    rustix::process::kill_process(shim, rustix::process::Signal::KILL).unwrap();
    until(|| !["pasta", "keeper", "guard"].iter().any(|what| is_alive(pid(what)))).await;
    drop(data);
}
