//! The escape suite: a confined app tries what it must not be able to do. All of it is refused, and hurts nobody.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use marmot_engine::EngineConfig;
use marmot_engine::observed::{Failure, FailureReason};
use marmot_engine::wanted::Variable;
use support::{Machine, ask, policy};

const PROBE: &str = include_str!("../../../examples/escape/probe.py");
const FILLS: &str = include_str!("../../../examples/escape/fills.py");
const GREEDY: &str = include_str!("../../../examples/escape/greedy.py");
const FLEES: &str = include_str!("../../../examples/escape/flees.py");

fn variable(name: &str, value: impl ToString) -> Variable {
    Variable { name: name.to_owned(), value: value.to_string() }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_not_its_own_can_be_reached_or_changed() {
    let Some(machine) = Machine::confined(|config| config).await else { return };
    let control = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = control.local_addr().unwrap().port();
    let _six = TcpListener::bind(("::1", port));
    let own = std::process::id();
    let hidden = SocketAddr::from_abstract_name(format!("marmot-escape-{own}")).unwrap();
    let _hidden = UnixListener::bind_addr(&hidden).unwrap();
    let data = machine.data.path().to_owned();
    fs::write(data.join("marmot.db"), "secret").unwrap();
    let neighbour = machine.layout().apps().join("neighbour/replicas/1/home/secret");
    fs::create_dir_all(neighbour.parent().unwrap()).unwrap();
    fs::write(&neighbour, "secret").unwrap();

    machine.artefact(1.into(), &[("app.py", &format!("{PROBE}\n{}", support::COUNTER))], None);
    let code = machine.layout().artefact(1.into()).join("code");
    std::os::unix::fs::symlink("/etc/shadow", code.join("link-to-shadow")).unwrap();
    std::os::unix::fs::symlink(&data, code.join("link-to-data")).unwrap();
    std::os::unix::fs::symlink("../spec.json", code.join("link-up")).unwrap();
    let mut variables = vec![
        variable("DATA_DIR", data.display()),
        variable("NEIGHBOUR", neighbour.display()),
        variable("SERVER_PID", own),
        variable("CONTROL_PORT", port),
    ];
    variables.extend(support::own_addresses().first().map(|address| variable("HOST_ADDRESS", address)));
    machine.activate_with(1, &["python3", "app.py"], policy(), variables);
    ask(&machine.until_running().await).await;
    let logs = machine.logs_at_work(300).await;
    let lines: Vec<&str> = logs.values().flatten().map(|line| line.split_once(' ').unwrap().1).collect();
    let could: Vec<&str> = lines.iter().copied().filter(|line| line.starts_with("COULD")).collect();
    let refused = lines.iter().filter(|line| line.starts_with("refused: ")).count();
    // Where they share a user, the sandbox's init is the app's own: it has no right that the app has not.
    let own_user = rustix::process::geteuid().is_root();
    let fair = |line: &&str| !own_user && line.contains("read the sandbox's memory");
    assert!(could.iter().all(fair), "{could:#?}");
    assert_eq!(refused + could.len(), PROBE.matches("\nattempt(").count(), "{lines:#?}");
    let none = "0000000000000000";
    assert!(lines.contains(&format!("status: {none} {none} 1 2").as_str()), "{lines:#?}");
    assert!(lines.contains(&"own: app /home/app /tmp"), "{lines:#?}");
    machine.shut_down();
    machine.until_gone().await;
    assert_eq!(machine.leftovers(), Vec::<String>::new());
}

/// What a program that takes too much ends with, when it does at all.
async fn hog(machine: &Machine, program: &str) -> std::sync::Arc<Failure> {
    machine.artefact(1.into(), &[("app.py", program)], None);
    machine.activate(1, &["python3", "app.py"], policy());
    let failure = machine.until_failed().await;
    machine.shut_down();
    machine.until_gone().await;
    assert_eq!(machine.leftovers(), Vec::<String>::new());
    failure
}

#[tokio::test(flavor = "multi_thread")]
async fn who_fills_the_disk_is_ended_and_told_so() {
    let Some(machine) = Machine::confined(|config| EngineConfig { disk_bytes: 100 << 20, ..config }).await
    else {
        return;
    };
    let failure = hog(&machine, FILLS).await;
    let FailureReason::DiskFull { used, limit } = failure.reason else { panic!("{failure:?}") };
    assert!(limit == 100 << 20 && used > limit);
    assert!(failure.reason.to_string().starts_with("disk full"), "{}", failure.reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn forks_and_descriptors_end_somewhere_and_the_app_goes_on() {
    let Some(machine) = Machine::confined(|config| config).await else { return };
    let greedy = format!("{GREEDY}{}", support::COUNTER);
    machine.artefact(1.into(), &[("app.py", &greedy)], None);
    machine.activate(1, &["python3", "app.py"], policy());
    ask(&machine.until_running().await).await;
    let logs = machine.logs_at_work(10).await;
    let number = |what: &str| {
        let lines = logs.values().flatten();
        let found = lines.filter_map(|line| line.split_once(what)?.1.trim().parse::<u32>().ok()).next_back();
        found.unwrap_or_else(|| panic!("{what} {logs:#?}"))
    };
    assert!(number("files:") < 16_384);
    if machine.engine.capabilities().memory_limits {
        assert!(number("forks:") < 1024);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_flees_its_parents_and_stops_the_sandbox_does_not_survive_the_app() {
    let Some(machine) = Machine::confined(|config| config).await else { return };
    let flees = format!("{FLEES}{}", support::COUNTER);
    machine.artefact(1.into(), &[("app.py", &flees)], None);
    machine.activate(1, &["python3", "app.py"], policy());
    ask(&machine.until_running().await).await;
    machine.shut_down();
    machine.until_gone().await;
    assert_eq!(machine.leftovers(), Vec::<String>::new());
}
