//! What a confined app can do to the machine and to others: nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs;

use marmot_engine::build::RunFile;
use marmot_engine::observed::FailureReason;
use support::{Machine, app, ask, policy};

/// Tries what it should not be able to do with what its build installed, and prints what it could.
const ESCAPES: &str = r#"
import os
def attempt(name, action):
    try:
        result = action()
    except BaseException as error:
        print("refused:", name, flush=True)
    else:
        print("COULD:", name, repr(result)[:200], flush=True)
data = os.environ["DATA_DIR"]
print("installed:", open(data + "/cache/envs/1/venv/packages").read(), flush=True)
attempt("change what is installed", lambda: open(data + "/cache/envs/1/venv/packages", "w"))
attempt("see more of the data directory", lambda: [n for n in os.listdir(data) if n != "cache"] or 1 / 0)
attempt("see more of the cache", lambda: [n for n in os.listdir(data + "/cache/envs") if n != "1"] or 1 / 0)
attempt("read the engine's lock", lambda: open(data + "/engine.lock").read())
attempt("see other apps", lambda: os.listdir(data + "/apps"))
import pwd, tempfile, multiprocessing
open(os.path.expanduser("~/mine"), "w").write("x"); open("here", "w").write("x")
tempfile.TemporaryFile().write(b"x"); multiprocessing.Lock()
print("own:", pwd.getpwuid(os.getuid()).pw_name, os.path.expanduser("~"), tempfile.gettempdir(), flush=True)
"#;

#[tokio::test]
async fn nothing_of_the_machine_can_be_reached_or_changed_and_its_own_places_can() {
    let Some(machine) = Machine::confined(|config| config).await else { return };
    machine.artefact(1.into(), &[("app.py", &format!("{ESCAPES}{}", support::COUNTER))], None);
    // What its build installed, beside the build's own directory.
    let environment = machine.data.path().join("cache/envs/1/venv");
    fs::create_dir_all(&environment).unwrap();
    fs::write(environment.join("packages"), "installed").unwrap();
    let artefact = machine.layout().artefact(1.into());
    let run = RunFile { reads: vec![environment.clone()], ..RunFile::read(&artefact).unwrap() };
    run.write(&artefact).unwrap();
    let variable = marmot_engine::wanted::Variable {
        name: "DATA_DIR".to_owned(),
        value: machine.data.path().to_str().unwrap().to_owned(),
    };
    machine.activate_with(1, &["python3", "app.py"], policy(), vec![variable]);
    let replica = machine.until_running().await;
    let answer = ask(&replica).await;
    let logs = machine.logs_at_work(100).await;
    let lines: Vec<&str> = logs.values().flatten().map(|line| line.split_once(' ').unwrap().1).collect();
    let open: Vec<&&str> = lines.iter().filter(|line| line.starts_with("COULD")).collect();
    assert!(open.is_empty(), "{open:#?}");
    assert_eq!(lines.iter().filter(|line| line.starts_with("refused")).count(), 5, "{lines:#?}");
    assert!(lines.contains(&"installed: installed"), "{lines:#?}");
    assert!(lines.contains(&"own: app /home/app /tmp"), "{lines:#?}");
    assert_eq!((answer.cwd.as_str(), answer.env["HOME"].as_str()), ("/app", "/home/app"));
    if rustix::process::geteuid().is_root() {
        use std::os::unix::fs::MetadataExt;
        let own = machine.data.processes();
        let servers = own.iter().filter(|pid| {
            fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default().starts_with(b"python3")
        });
        let users: Vec<u32> =
            servers.map(|pid| fs::metadata(format!("/proc/{pid}")).unwrap().uid()).collect();
        assert!(!users.is_empty() && users.iter().all(|&user| user >= 2_000_000_000), "{users:?}");
    }
    machine.shut_down();
    machine.until_gone().await;
    assert_eq!(machine.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn a_confined_app_sleeps_wakes_outlives_the_engine_and_ends_with_grace() {
    let Some(machine) = Machine::confined(|config| config).await else { return };
    let polite = "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *a: (print('goodbye', flush=True), sys.exit(0)))\n";
    machine.artefact(1.into(), &[("app.py", &format!("{polite}{}", support::COUNTER))], None);
    machine.activate(1, &["python3", "app.py"], policy());
    let first = ask(&machine.until_running().await).await;
    machine.demand.put_to_rest(machine.clock.now());
    machine.engine.nudge().app(&app());
    machine.until_hibernated().await;
    let machine = machine.crash().await;
    machine.until_hibernated().await;
    machine.demand.touch(machine.clock.now());
    let held = machine.demand.hold();
    machine.engine.nudge().app(&app());
    let second = ask(&machine.until_running().await).await;
    drop(held);
    assert_eq!(second.count, first.count + 1);
    machine.shut_down();
    machine.until_gone().await;
    let logs = machine.engine.logs().app(&app(), 1).await.unwrap();
    assert!(logs.values().all(|lines| lines[0].ends_with("goodbye")), "{logs:?}");
    assert_eq!(machine.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn a_confined_program_that_ends_or_hides_children_is_told_and_cleared_like_any_other() {
    let Some(machine) = Machine::confined(|config| config).await else { return };
    let hiding = "(setsid sleep 600 >/dev/null 2>&1 &); echo no model; exit 3";
    machine.activate(1, &["sh", "-c", hiding], policy());
    let failure = machine.until_failed().await;
    assert_eq!(failure.reason, marmot_engine::observed::FailureReason::Exited(3));
    assert_eq!(failure.last_lines, ["no model"]);
    machine.shut_down();
    machine.until_gone().await;
    assert_eq!(machine.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn an_app_that_takes_too_much_memory_is_ended_alone_and_told_so() {
    let Some(machine) = Machine::confined(|config| config).await else { return };
    if !machine.engine.capabilities().memory_limits {
        eprintln!("skipped: no memory controller can be used here");
        return;
    }
    machine.activate(1, &["python3", "-c", "x = bytearray(900 << 20)"], policy());
    let failure = machine.until_failed().await;
    let FailureReason::OutOfMemory { used: Some(used), limit } = failure.reason else {
        panic!("{failure:?}")
    };
    assert_eq!(limit, 512 << 20);
    assert!(used > 500 << 20 && used <= limit, "{used}");
}
