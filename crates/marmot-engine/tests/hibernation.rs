//! What happens to the memory of a real program while it sleeps, with swap that the tests bring along.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/contained.rs"]
#[macro_use]
mod contained;
#[path = "support/docker.rs"]
mod docker;
#[path = "support/podman.rs"]
mod podman;
mod support;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use contained::{Containers, activate, first_process, get, shut_down};
use marmot_core::plan::Policy;
use marmot_engine::observed::{ObservedReplica, ReplicaStage, SleepDepth};
use marmot_engine::{CheckState, EngineConfig};
use support::{COUNTER, Machine, app, ask, policy};

const MIB: u64 = 1 << 20;
/// What the program keeps and never looks at again, in MiB.
const COLD: u64 = 64;

/// A swap file of the tests' own, while it lives.
struct SwapFile {
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl SwapFile {
    /// `None` where none can be made: not as root, in a container, on a file system that has none.
    fn make() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("swap");
        let swap = Self { path: path.clone(), _dir: dir };
        let done = |program: &str, arguments: &[&str]| {
            let path = path.to_str().unwrap();
            let run = Command::new(program).args(arguments).arg(path).output();
            run.is_ok_and(|output| output.status.success())
        };
        let made = done("fallocate", &["-l", "192M"])
            && done("chmod", &["600"])
            && done("mkswap", &[])
            && done("swapon", &[]);
        if !made {
            eprintln!("skipped: no swap file can be made here");
        }
        made.then_some(swap)
    }
}

impl Drop for SwapFile {
    fn drop(&mut self) {
        let _ = Command::new("swapoff").arg(&self.path).output();
    }
}

/// A machine whose replicas can be paged out, with an app that holds much and uses little of it.
async fn machine(
    change: impl FnOnce(EngineConfig) -> EngineConfig,
    policy: Policy,
) -> Option<(Machine, SwapFile)> {
    let swap = SwapFile::make()?;
    let machine = Machine::configured(change).await;
    let checks = machine.engine.capabilities().checks;
    let paging = checks.iter().find(|check| check.name == "paging out").unwrap();
    if paging.state != CheckState::Good {
        eprintln!("skipped: {}", paging.sentence());
        return None;
    }
    let cold = format!("import os\ncold = [os.urandom(1 << 20) for _ in range({COLD})]\n");
    machine.artefact(1.into(), &[("app.py", &format!("{cold}{COUNTER}"))], None);
    machine.activate(1, &["python3", "app.py"], policy);
    machine.until_running().await;
    Some((machine, swap))
}

/// Sleeps until its memory is as far out of the way as this.
async fn sleeps(machine: &Machine, depth: SleepDepth) -> ObservedReplica {
    machine.demand.put_to_rest(machine.clock.now());
    machine.engine.nudge().app(&app());
    let asleep = |replica: &ObservedReplica| {
        matches!(replica.stage, ReplicaStage::Hibernated { .. }) && replica.depth == depth
    };
    let seen = machine.until("paged out", |app| app.replicas.iter().any(asleep)).await;
    seen.replicas.into_iter().find(asleep).unwrap()
}

/// Wakes and answers; how much it read from swap to do so, in bytes.
async fn wakes(machine: &Machine, count: u64) -> u64 {
    machine.demand.touch(machine.clock.now() + Duration::from_millis(1));
    let held = machine.demand.hold();
    machine.engine.nudge().app(&app());
    let replica = machine.until_running().await;
    drop(held);
    let before = swapped(&replica);
    let answer = ask(&replica).await;
    assert_eq!(answer.count, count, "it woke with its memory");
    before.saturating_sub(swapped(&replica))
}

/// What the replica's processes have in swap, in bytes.
fn swapped(replica: &ObservedReplica) -> u64 {
    let marker = format!("MARMOT_REPLICA_ID={}", replica.id);
    let of = |entry: std::fs::DirEntry| {
        let pid = entry.file_name().into_string().ok()?;
        let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
        environment.split(|&byte| byte == 0).find(|variable| *variable == marker.as_bytes())?;
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("SwapPss:")).map(str::to_owned);
        line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok())
    };
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(of).sum::<u64>() << 10
}

#[tokio::test]
async fn asleep_it_keeps_what_its_wake_ups_use_and_nothing_else() {
    let Some((machine, _swap)) = machine(|config| config, policy()).await else { return };
    ask(&machine.until_running().await).await;
    let first = sleeps(&machine, SleepDepth::Light).await;
    assert!(first.memory.swapped > COLD * MIB, "{first:?}");
    assert!(first.memory.resident < 8 * MIB, "{first:?}");
    let read_first = wakes(&machine, 2).await;
    assert!(read_first > 0);
    // From now on it is known what a wake-up uses.
    let second = sleeps(&machine, SleepDepth::Light).await;
    assert!(second.memory.resident >= first.memory.resident + read_first / 2, "{first:?} {second:?}");
    assert!(second.memory.swapped > COLD * MIB, "{second:?}");
    let read_then = wakes(&machine, 3).await;
    assert!(read_then * 4 <= read_first, "{read_then} of {read_first} bytes");
    machine.shut_down();
    machine.until_gone().await;
    assert_eq!(machine.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn after_long_it_keeps_nothing_and_wakes_all_the_same() {
    let policy = Policy { deepen_after: Duration::from_millis(1), ..policy() };
    let Some((machine, _swap)) = machine(|config| config, policy).await else { return };
    for count in 1..4 {
        let replica = sleeps(&machine, SleepDepth::Deep).await;
        assert!(replica.memory.resident < 8 * MIB, "{replica:?}");
        wakes(&machine, count).await;
    }
}

#[tokio::test]
async fn it_wakes_from_twenty_sleeps_of_which_most_are_broken_off_while_it_is_paged_out() {
    let Some((machine, _swap)) = machine(|config| config, policy()).await else { return };
    for count in 1..=20 {
        if count % 5 == 0 {
            sleeps(&machine, SleepDepth::Light).await;
        } else {
            machine.demand.put_to_rest(machine.clock.now());
            machine.engine.nudge().app(&app());
            machine.until_hibernated().await;
        }
        wakes(&machine, count).await;
        // The next wish to sleep must be later than this use.
        let used = machine.demand.sample().last_activity;
        support::until(|| Some(machine.clock.now()) > used).await;
    }
}

by_each_engine! {
    a_container_that_sleeps_is_held_still_and_its_memory_goes_where_the_machine_lets_it,
}

/// Where nothing can be paged out, it is held still all the same.
async fn a_container_that_sleeps_is_held_still_and_its_memory_goes_where_the_machine_lets_it<
    E: Containers,
>() {
    let Some(engine) = E::start() else { return };
    let swap = SwapFile::make();
    let machine = contained::machine(&engine).await;
    let checks = machine.engine.capabilities().checks;
    let pages_out = checks.iter().any(|check| check.name == "paging out" && check.state == CheckState::Good);
    // A shell that keeps what it never looks at again, beside the program that answers.
    let hoard = format!("x=$(busybox head -c {} /dev/zero | busybox tr '\\0' x); /serve & wait", COLD << 20);
    let long = Policy { idle_after: Duration::from_secs(600), ..policy() };
    activate(&machine, &engine, 1, &["/bin/sh", "-c", &hoard], &long);
    let replica = machine.until_running().await;
    assert!(get(&replica, "/").await.contains("hello"));
    let awake = resident(&replica);
    assert!(awake > COLD << 10, "{awake} KiB");
    let pages_out = pages_out && swap.is_some();
    let asleep = if pages_out {
        sleeps(&machine, SleepDepth::Light).await
    } else {
        eprintln!("skipped: nothing is paged out here");
        machine.demand.put_to_rest(machine.clock.now());
        machine.engine.nudge().app(&app());
        machine.until_hibernated().await
    };
    let pid = first_process(&machine, &replica);
    let times = || std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    let before = times();
    if pages_out {
        assert!(asleep.memory.swapped > COLD * MIB, "{asleep:?}");
        assert!(resident(&replica) < awake / 2, "{} of {awake} KiB", resident(&replica));
    }
    assert_eq!(times(), before, "it uses no processor");
    machine.demand.touch(machine.clock.now() + Duration::from_millis(1));
    let held = machine.demand.hold();
    machine.engine.nudge().app(&app());
    let woken = machine.until_running().await;
    drop(held);
    assert_eq!((woken.id, first_process(&machine, &woken)), (replica.id, pid), "it is the same one");
    assert!(get(&woken, "/").await.contains("hello"));
    shut_down(&machine, &engine).await;
}

/// What the replica's processes have in memory, in KiB.
fn resident(replica: &ObservedReplica) -> u64 {
    let marker = format!("MARMOT_REPLICA_ID={}", replica.id);
    let of = |entry: std::fs::DirEntry| {
        let pid = entry.file_name().into_string().ok()?;
        let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
        environment.split(|&byte| byte == 0).find(|variable| *variable == marker.as_bytes())?;
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Rss:")).map(str::to_owned);
        line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok())
    };
    std::fs::read_dir("/proc").unwrap().flatten().filter_map(of).sum()
}
