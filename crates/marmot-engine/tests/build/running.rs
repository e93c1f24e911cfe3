//! What was built, started as a replica would be, and asked for a page.

#![allow(dead_code, reason = "each file of tests uses its part")]

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::support::{Built, Place};

#[path = "../support/port.rs"]
mod port;

use port::Port;

/// An app under way, which ends with its guard.
pub(crate) struct Running {
    child: Child,
    port: Port,
}

impl Drop for Running {
    fn drop(&mut self) {
        let group = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = self.child.wait();
    }
}

pub(crate) fn start(built: &Built) -> Running {
    use std::os::unix::process::CommandExt as _;
    let port = Port::hold();
    let run = built.run_file();
    let command = run.command.unwrap();
    let mut path = std::env::join_paths(&run.path_prepend).unwrap();
    path.push(":/usr/bin:/bin");
    let log = fs::File::create(built.dir.join("app.log")).unwrap();
    let child = Command::new(&command[0])
        .args(&command[1..])
        .current_dir(built.dir.join("artefact/code"))
        .env_clear()
        .envs(&run.env)
        .env("PATH", path)
        .env("HOME", &built.dir)
        .env("PORT", port.number.to_string())
        .env("MARMOT_APP_URL", format!("http://127.0.0.1:{}", port.number))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .process_group(0)
        .spawn()
        .unwrap();
    Running { child, port }
}

async fn get(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// A place whose builds reach the network and keep what they download for the next run.
pub(crate) fn place() -> Place {
    let mut place = Place::new();
    place.context.environment = marmot_engine::build::operators_environment(std::env::vars());
    place.context.cache_dir = concat!(env!("CARGO_TARGET_TMPDIR"), "/build-cache").into();
    place
}

/// Starts what was built, and waits until `path` answers with `expected`.
pub(crate) async fn answers(built: &Built, path: &str, expected: &str) {
    let mut app = start(built);
    let limit = Instant::now() + Duration::from_secs(120);
    let mut last = String::new();
    while Instant::now() < limit {
        if let Ok(answer) = get(app.port.number, path).await {
            if answer.starts_with("HTTP/1.1 200") && answer.contains(expected) {
                return;
            }
            last = answer;
        }
        assert!(app.child.try_wait().unwrap().is_none(), "it ended:\n{}", app_log(built));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("no page with {expected:?}: {last}\n{}", app_log(built));
}

fn app_log(built: &Built) -> String {
    fs::read_to_string(built.dir.join("app.log")).unwrap_or_default()
}
