//! What replicas are given that nobody else may see: it is on no disk, in no log, in no command line.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::fs;
use std::path::Path;

use marmot_engine::Confinement;
use marmot_engine::wanted::Secret;
use support::{Machine, ask, policy};

/// Prints its secrets, as careless programs do, then serves.
const CARELESS: &str = r#"
import os, sys
print("variable:", os.environ["API_KEY"], flush=True)
path = os.path.join(os.environ["MARMOT_SECRETS_DIR"], "KEY_FILE")
text = open(path).read()
print("file:", len(text), flush=True)
print(text, flush=True)
try: open(path, "a"); print("the file can be written", flush=True)
except OSError: print("the file cannot be written", flush=True)
"#;

fn secret(name: &str, value: &str, is_file: bool) -> Secret {
    Secret { name: name.to_owned(), value: value.to_owned(), is_file }
}

/// The files below `dir` that hold `text`.
fn holding(dir: &Path, text: &[u8], found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            holding(&entry.path(), text, found);
        } else if kind.is_file() {
            let bytes = fs::read(entry.path()).unwrap_or_default();
            if bytes.windows(text.len()).any(|window| window == text) {
                found.push(entry.path().display().to_string());
            }
        }
    }
}

async fn given(mut machine: Machine) {
    machine.secrets = vec![
        secret("API_KEY", "hunter2-variable", false),
        secret("KEY_FILE", "hunter2-first\nhunter2-second\n", true),
    ];
    machine.artefact(1.into(), &[("app.py", &format!("{CARELESS}{}", support::COUNTER))], None);
    machine.activate(1, &["python3", "app.py"], policy());
    let replica = machine.until_running().await;
    let answer = ask(&replica).await;
    assert_eq!(answer.env["API_KEY"], "hunter2-variable");
    assert!(!answer.env.contains_key("KEY_FILE"));

    let logs = machine.logs_at_work(100).await;
    let lines: Vec<&str> = logs.values().flatten().map(|line| line.split_once(' ').unwrap().1).collect();
    assert_eq!(lines[..4], ["variable: ***", "file: 29", "***", "***"]);
    if machine.engine.capabilities().confined {
        assert!(lines.contains(&"the file cannot be written"), "{lines:?}");
    }

    let mut found = Vec::new();
    holding(machine.data.path(), b"hunter2", &mut found);
    // Without a sandbox there is no place for a file but the disk.
    found.retain(|path| machine.engine.capabilities().confined || !path.ends_with("/secrets/KEY_FILE"));
    assert_eq!(found, Vec::<String>::new());
    for pid in machine.data.processes() {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&line).contains("hunter2"), "{}", String::from_utf8_lossy(&line));
    }
    machine.shut_down();
    machine.until_gone().await;
    assert_eq!(machine.leftovers(), Vec::<String>::new());
    let mut found = Vec::new();
    holding(machine.data.path(), b"hunter2", &mut found);
    assert_eq!(found, Vec::<String>::new());
}

#[tokio::test]
async fn a_confined_app_has_its_secrets_and_nothing_else_does() {
    let Some(machine) = Machine::confined(|config| config).await else { return };
    given(machine).await;
}

#[tokio::test]
async fn an_app_without_a_sandbox_has_its_secrets_and_they_go_with_it() {
    given(Machine::with(Confinement::None).await).await;
}
