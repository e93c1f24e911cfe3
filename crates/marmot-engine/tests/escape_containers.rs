//! The escape suite inside a container: the attempts of `escape.rs`, by an image that brings what it needs for them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/contained.rs"]
#[macro_use]
mod contained;
#[path = "support/docker.rs"]
mod docker;
#[path = "support/podman.rs"]
mod podman;
mod support;

use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;
use std::process::Command;

use contained::{Containers, archive_with_python, artefact, get, image, logs, logs_with};
use marmot_engine::EngineConfig;
use marmot_engine::observed::{FailureReason, ObservedApp};
use marmot_engine::wanted::{Program, Variable};
use podman::SERVE;
use support::{Machine, ask, is_running, policy};

const PROBE: &str = include_str!("../../../examples/escape/probe.py");
const FILLS: &str = include_str!("../../../examples/escape/fills.py");
const GREEDY: &str = include_str!("../../../examples/escape/greedy.py");
const FLEES: &str = include_str!("../../../examples/escape/flees.py");

/// What is no escape in a container. Its first process is the engine's, but runs as the app and has no right that the app
/// has not. The kernel's list of devices and the names of its own control groups can be read, but nothing behind them.
const FAIR: [&str; 4] = [
    "read the sandbox's environment",
    "read the sandbox's memory",
    "reach the control groups",
    "find block devices",
];

by_each_engine! {
    nothing_that_is_not_its_own_can_be_reached_or_changed,
    who_takes_too_much_is_ended_or_refused_and_who_flees_does_not_survive,
}

fn variable(name: &str, value: impl ToString) -> Variable {
    Variable { name: name.to_owned(), value: value.to_string() }
}

/// Packs an image that brings Python, a program that makes whoever starts it root, and links to what is outside.
fn hostile(engine: &impl Containers, outside: &[(&str, &str)], programs: &[(&str, &str)]) -> PathBuf {
    let archive = archive_with_python(engine.dir(), programs);
    let more = tempfile::tempdir_in(engine.dir()).unwrap();
    let path = |name: &str| more.path().join(name);
    ["bin", "etc", "code"].iter().for_each(|dir| fs::create_dir(path(dir)).unwrap());
    fs::copy(podman::find("busybox").unwrap(), path("bin/su")).unwrap();
    fs::set_permissions(path("bin/su"), PermissionsExt::from_mode(0o4755)).unwrap();
    fs::write(path("etc/shadow"), "root::1::::::\n").unwrap();
    fs::set_permissions(path("etc/shadow"), PermissionsExt::from_mode(0o600)).unwrap();
    for (name, target) in outside {
        std::os::unix::fs::symlink(target, path("code").join(name)).unwrap();
    }
    let mut tar = Command::new("tar");
    tar.arg("-rf").arg(&archive).arg("-C").arg(more.path()).args(["./bin/su", "./etc/shadow", "./code"]);
    assert!(tar.status().unwrap().success());
    archive
}

/// The program that an image of [`hostile`] starts, in the directory with its links.
fn program(build: u128, path: &str) -> Program {
    let words = ["/usr/bin/python3", path].map(str::to_owned);
    let mut program = image(build);
    if let Program::Image { command, working_directory, port, .. } = &mut program {
        (*command, *working_directory, *port) = (Some(words.to_vec()), Some("/code".to_owned()), Some(8000));
    }
    program
}

async fn nothing_that_is_not_its_own_can_be_reached_or_changed<E: Containers>() {
    let Some(engine) = E::start() else { return };
    let socket = engine.socket();
    let machine =
        Machine::configured(|config| EngineConfig { container_engine: Some(socket), ..config }).await;
    let control = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = control.local_addr().unwrap().port();
    let _six = TcpListener::bind(("::1", port));
    let own = std::process::id();
    let hidden = SocketAddr::from_abstract_name(format!("marmot-escape-{own}")).unwrap();
    let _hidden = UnixListener::bind_addr(&hidden).unwrap();
    let data = machine.data.path().to_str().unwrap().to_owned();
    fs::write(machine.data.path().join("marmot.db"), "secret").unwrap();

    // A neighbour, which listens and has something to hide.
    let busybox =
        engine.image("localhost/neighbour:1", &[("serve", SERVE)], &["EXPOSE 8000", "CMD [\"/serve\"]"]);
    artefact(&machine, 1, &busybox);
    machine.activate_program(1.into(), image(1), &policy(), &[]);
    let neighbour = machine.until_running().await;
    let home = machine.layout().replica(&support::app(), neighbour.id);
    let spec = fs::read_to_string(home.join("spec.json")).unwrap();
    let address = spec.split("198.18.").nth(1).map(|rest| rest.split(['/', ' ', '"']).next().unwrap());
    let secret = home.join("home/secret");
    fs::write(&secret, "secret").unwrap();

    let outside = [("link-to-shadow", "/etc/shadow"), ("link-to-data", &*data), ("link-up", "../spec.json")];
    // Nothing but its home and its temporary directory is its own.
    let probe = PROBE.replace("open(\"here\"", "open(\"/tmp/here\"");
    let probe = format!("{probe}\n{}", support::COUNTER);
    let archive = hostile(&engine, &outside, &[("probe.py", &probe)]);
    artefact(&machine, 2, &engine.import(&archive, "localhost/probe:1", &[]));
    let mut variables = vec![
        variable("DATA_DIR", &data),
        variable("NEIGHBOUR", secret.display()),
        variable("SERVER_PID", own),
        variable("CONTROL_PORT", port),
        variable("ALLOWED", "var podman-init"),
        variable("ENGINE_SOCKET", engine.socket().display()),
    ];
    variables.extend(address.map(|address| variable("NEIGHBOUR_ADDRESS", format!("198.18.{address}"))));
    variables.extend(support::own_addresses().first().map(|address| variable("HOST_ADDRESS", address)));
    machine.activate_program(2.into(), program(2, "/probe.py"), &policy(), &variables);
    let is_new = |app: &ObservedApp| {
        app.replicas.iter().any(|replica| replica.id != neighbour.id && is_running(replica))
    };
    let mut observed = machine.engine.observed();
    let trying = observed.wait_for(|observed| observed.apps.get(&support::app()).is_some_and(is_new));
    let Ok(seen) = tokio::time::timeout(support::LIMIT, trying).await else {
        panic!("it does not get on: {:#?}", logs(&machine).await)
    };
    let seen = seen.unwrap().apps[&support::app()].clone();
    assert!(get(&neighbour, "/").await.contains("hello"), "the neighbour is unharmed");
    ask(seen.replicas.iter().find(|replica| replica.id != neighbour.id).unwrap()).await;
    assert!(machine.engine.capabilities().outbound == address.is_some(), "{spec}");

    let lines = logs_with(&machine, "listening").await;
    let could: Vec<&String> = lines.iter().filter(|line| line.starts_with("COULD")).collect();
    let refused = lines.iter().filter(|line| line.starts_with("refused: ")).count();
    let fair = |line: &&&String| !FAIR.iter().any(|fair| line.starts_with(&format!("COULD: {fair} ")));
    assert_eq!(could.iter().filter(fair).collect::<Vec<_>>(), Vec::<&&String>::new(), "{lines:#?}");
    assert_eq!(refused + could.len(), PROBE.matches("\nattempt(").count(), "{lines:#?}");
    let none = "0000000000000000";
    assert!(lines.contains(&format!("status: {none} {none} 1 2")), "{lines:#?}");
    assert!(
        lines.iter().any(|line| line.starts_with("own: ") && line.ends_with(" /home/app /tmp")),
        "{lines:#?}"
    );
    assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
    contained::shut_down(&machine, &engine).await;
}

async fn who_takes_too_much_is_ended_or_refused_and_who_flees_does_not_survive<E: Containers>() {
    let Some(engine) = E::start() else { return };
    let socket = engine.socket();
    let small = |config| EngineConfig { container_engine: Some(socket), disk_bytes: 100 << 20, ..config };
    let machine = Machine::configured(small).await;
    let serving = |text: &str| format!("{text}\n{}", support::COUNTER);
    let (greedy, flees) = (serving(GREEDY), serving(FLEES));
    // A name that no other test's program has.
    let fleeing = format!("flees-{}.py", std::process::id());
    let programs = [("fills.py", FILLS), ("greedy.py", &*greedy), (&*fleeing, &*flees)];
    let id = engine.import(&hostile(&engine, &[], &programs), "localhost/hogs:1", &[]);

    // In its own places, and in the layer of an image's own user.
    for (build, uid, hog) in [(1u128, None, "/tmp/hog"), (2, Some(4321), "/tmp/hog")] {
        artefact(&machine, build, &id);
        let mut filling = program(build, "/fills.py");
        if let Program::Image { uid: asked, .. } = &mut filling {
            *asked = uid;
        }
        machine.activate_program(build.into(), filling, &policy(), &[variable("HOG", hog)]);
        let failure = machine.until_failed().await;
        let FailureReason::DiskFull { used, limit } = failure.reason else { panic!("{failure:?}") };
        assert!(limit == 100 << 20 && used > limit);
        contained::shut_down(&machine, &engine).await;
    }

    artefact(&machine, 3, &id);
    machine.activate_program(3.into(), program(3, "/greedy.py"), &policy(), &[]);
    ask(&machine.until_running().await).await;
    let lines = logs_with(&machine, "listening").await;
    let number = |what: &str| {
        let found =
            lines.iter().filter_map(|line| line.strip_prefix(what)?.trim().parse::<u32>().ok()).next_back();
        found.unwrap_or_else(|| panic!("{what} {lines:#?}"))
    };
    assert!(number("files:") < 16_384);
    assert!(number("forks:") < 1024);
    contained::shut_down(&machine, &engine).await;

    artefact(&machine, 4, &id);
    machine.activate_program(4.into(), program(4, &format!("/{fleeing}")), &policy(), &[]);
    ask(&machine.until_running().await).await;
    contained::shut_down(&machine, &engine).await;
    let survivors = Command::new("pgrep").args(["-f", &*fleeing]).output().unwrap().stdout;
    assert_eq!(String::from_utf8_lossy(&survivors), "");
}
