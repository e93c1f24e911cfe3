//! A server and a Podman of an ordinary user. The test is root's: it makes that user, for itself and what it starts alone.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/contained.rs"]
mod contained;
#[path = "support/docker.rs"]
mod docker;
#[path = "support/podman.rs"]
mod podman;
mod support;

use std::fs;
use std::process::Command;
use std::time::Duration;

use contained::{activate, first_process, get, logs, machine, shut_down};
use marmot_core::plan::Policy;
use podman::Podman;
use support::{is_alive, policy};

const USER: u32 = 12_345;
/// The user ids that the user has for containers.
const MAPPED: std::ops::Range<u32> = 300_000..365_536;

/// Becomes the user, on a machine where it has user ids for containers; `$0` holds the lists of users. What it leaves
/// ends with it.
const BECOME: &str = r#"
set -e
for file in passwd group subuid subgid; do
    [ -e "/etc/$file" ] || touch "/etc/$file"
    mount --bind "$0/$file" "/etc/$file"
done
exec setpriv --reuid 12345 --regid 12345 --clear-groups -- "$@"
"#;

#[test]
fn an_ordinary_users_podman_runs_containers_for_an_ordinary_users_server() {
    let needed = ["podman", "runc", "busybox", "newuidmap", "unshare", "setpriv"];
    let missing: Vec<&str> = needed.into_iter().filter(|tool| !podman::has(tool)).collect();
    if !missing.is_empty() || !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: it needs root and these, of which some are missing: {missing:?}");
        return;
    }
    let home = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(home.path(), Some(USER), Some(USER)).unwrap();
    let lists = tempfile::tempdir().unwrap();
    let list = |name: &str, text: String| fs::write(lists.path().join(name), text).unwrap();
    list(
        "passwd",
        format!("root:x:0:0::/root:/bin/sh\ntester:x:{USER}:{USER}::{}:/bin/sh\n", home.path().display()),
    );
    list("group", format!("root:x:0:\ntester:x:{USER}:\n"));
    for name in ["subuid", "subgid"] {
        list(name, format!("tester:{}:{}\n", MAPPED.start, MAPPED.len()));
    }
    let done = home.path().join("done");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation=private", "--pid", "--fork", "--mount-proc", "--kill-child"]);
    command.args(["sh", "-c", BECOME]).arg(lists.path());
    command.arg(std::env::current_exe().unwrap()).args(["--exact", "inside", "--ignored", "--nocapture"]);
    command.env("TMPDIR", home.path()).env("HOME", home.path()).env("DONE", &done);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if said.contains("SKIPPED: ") {
        eprintln!("{said}");
        return;
    }
    assert!(output.status.success() && done.exists(), "{said}");
}

#[tokio::test]
#[ignore = "run by the test above, as an ordinary user"]
async fn inside() {
    assert!(!rustix::process::geteuid().is_root());
    let bears = Command::new("podman").args(["unshare", "true"]).output().unwrap();
    if !bears.status.success() {
        println!("SKIPPED: this machine gives ordinary users no user ids for containers: {bears:?}");
        return;
    }
    let podman = Podman::here();
    let machine = machine(&podman).await;
    activate(&machine, &podman, 1, &["/serve"], &policy());
    let replica = machine.until_running().await;
    assert!(get(&replica, "/").await.contains("hello"));
    let env = get(&replica, "/cgi-bin/env").await;
    assert!(env.contains("GREETING=hello world") && env.contains("HOME=/home/app"), "{env}");

    let pid = first_process(&machine, &replica);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap();
    for none in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(line(none).split_whitespace().nth(1).unwrap().trim_matches('0'), "", "{status}");
    }
    let uid: u32 = line("Uid:").split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(MAPPED.contains(&uid), "{uid} is neither root nor whom the server runs as");
    let lines = logs(&machine).await;
    assert!(lines[0].starts_with("listening on 8000 as "), "{lines:?}");

    // It sleeps and wakes, whether or not there are control groups to freeze it by, and is found again.
    let quick = |idle_after| {
        machine.want(|wanted| {
            wanted.apps.get_mut(&support::app()).unwrap().policy = Policy { idle_after, ..policy() };
        });
    };
    quick(Duration::from_millis(200));
    machine.until_hibernated().await;
    quick(Duration::from_secs(600));
    let waiting = machine.demand.hold();
    machine.engine.nudge().app(&support::app());
    let awake = machine.until_running().await;
    drop(waiting);
    assert!(get(&awake, "/").await.contains("hello"));
    let machine = machine.crash().await;
    let again = machine.until_running().await;
    assert_eq!((again.id, first_process(&machine, &again)), (replica.id, pid));
    assert!(get(&again, "/").await.contains("hello"));
    shut_down(&machine, &podman).await;
    assert!(!is_alive(pid));
    fs::write(std::env::var("DONE").unwrap(), "").unwrap();
}
