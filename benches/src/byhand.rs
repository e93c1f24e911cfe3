//! Starts an app as its author would at a shell: what it takes without any platform.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::apps::{self, App};
use crate::server::Server;

const LIMIT: Duration = Duration::from_secs(120);
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Starts what was built for this app, and asks as soon as it listens; how long that took to the whole answer.
///
/// # Errors
/// When it does not start.
pub(crate) async fn start(server: &Server, app: &App) -> anyhow::Result<Duration> {
    let build = app.view().await?["build"]["id"].as_str().context("a build")?.to_owned();
    let artefact = server.data_dir().join("builds").join(build).join("artefact");
    let run: Value = serde_json::from_slice(&std::fs::read(artefact.join("run.json"))?)?;
    let words = |field: &str| -> Vec<String> {
        let list = run[field].as_array().cloned().unwrap_or_default();
        list.iter().filter_map(|word| word.as_str().map(str::to_owned)).collect()
    };
    let port = free_port().await?;
    let port_text = port.to_string();
    let argv: Vec<String> = words("command").iter().map(|word| word.replace("$PORT", &port_text)).collect();
    let [program, arguments @ ..] = &argv[..] else { bail!("no command in run.json") };
    let path = [words("path_prepend"), vec![PATH.to_owned()]].concat().join(":");
    // A shell looks the program up in its own `PATH`, which this process does not share.
    let mut command = Command::new("/usr/bin/env");
    command.arg(program).args(arguments).env_clear().envs([("PATH", &path), ("PORT", &port_text)]);
    for (name, value) in run["env"].as_object().into_iter().flatten() {
        command.env(name, value.as_str().unwrap_or_default());
    }
    let home = tempfile::tempdir()?;
    command.env("HOME", home.path()).env("LANG", "C.UTF-8");
    command.current_dir(artefact.join(run["working_directory"].as_str().unwrap_or("code")));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let client = apps::client()?;
    let began = Instant::now();
    let mut child = command.spawn()?;
    while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        if began.elapsed() > LIMIT || child.try_wait()?.is_some() {
            bail!("`{}` does not listen", argv.join(" "));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    apps::ask(&client, &format!("http://localhost:{port}"), app.is_model()).await?;
    let took = began.elapsed();
    child.kill().await?;
    Ok(took)
}

async fn free_port() -> anyhow::Result<u16> {
    Ok(tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?.local_addr()?.port())
}
