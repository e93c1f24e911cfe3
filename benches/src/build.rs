//! `bench build`: how long a build takes, from request to `succeeded`, beside what does the same by hand.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::apps::{self, Api};
use crate::server::Server;
use crate::stats::{millis, percentile};
use crate::table::Table;

/// How long a build may take; anything else is quicker.
const LIMIT: Duration = Duration::from_secs(600);

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The program to measure
    #[arg(long, env = "MARMOT_BIN")]
    marmot: PathBuf,
    /// The app to build: a directory with a requirements.txt
    #[arg(long, default_value = "examples/streamlit-explorer")]
    example: PathBuf,
    /// How often each is measured
    #[arg(long, default_value_t = 3)]
    rounds: u32,
}

pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let uv = std::env::var_os("MARMOT_UV").map_or_else(|| PathBuf::from("uv"), PathBuf::from);
    let mut samples: [Vec<Duration>; 5] = Default::default();
    let [by_hand, cold, unchanged, warm, looks] = &mut samples;
    for round in 0..options.rounds {
        let repository = apps::repository(&options.example).await?;
        by_hand.push(install_by_hand(&uv, repository.path()).await?);
        let server = Server::start(&options.marmot, &[]).await?;
        let token = server.token("ada").await?;
        let client = apps::client()?;
        let api = Api { platform: &server.url, token: &token, client: &client };
        let (project, environment) = launcher(&api, repository.path()).await?;
        cold.push(build(&api, &environment).await?);
        commit(repository.path(), "README.md", "Something else.\n").await?;
        unchanged.push(build(&api, &environment).await?);
        // Another set of packages, all of which were downloaded before.
        commit(repository.path(), "requirements.txt", &format!("# round {round}\n")).await?;
        warm.push(build(&api, &environment).await?);
        let began = Instant::now();
        let wish = json!({ "project_id": project, "repository": repository.path() });
        api.send(Method::POST, "/build_plans", Some(wish)).await?;
        looks.push(began.elapsed());
        server.stop().await?;
    }
    let mut table = Table::new(&["build", "p50, ms", "slowest, ms"]);
    let rows = ["cold, by hand", "cold", "unchanged packages", "warm cache", "a look at the plan"];
    for (name, samples) in rows.into_iter().zip(&samples) {
        table.row([name.to_owned(), millis(percentile(samples, 50.0)), millis(percentile(samples, 100.0))]);
    }
    print!("{table}");
    let median = |samples: &[Duration]| percentile(samples, 50.0).as_secs_f64();
    println!("cold, as a multiple of by hand: {:.2}", median(&samples[1]) / median(&samples[0]));
    Ok(())
}

/// A project with one launcher of this code: the project's id, and the environment's.
async fn launcher(api: &Api<'_>, repository: &Path) -> anyhow::Result<(String, String)> {
    let project = json!({ "name": "build", "visibility": "public", "namespace": "ada", "slug": "build" });
    let project = api.send(Method::POST, "/projects", Some(project)).await?;
    let launcher = json!({
        "name": "build",
        "project_id": project["id"],
        "launcher_type": "app",
        "environment": {
            "environment_image_source": "build",
            "repository": repository,
            "builder_variant": "auto",
            "frontend_variant": "none",
        },
    });
    let launcher = api.send(Method::POST, "/session_launchers", Some(launcher)).await?;
    let text = |value: &Value| value.as_str().map(str::to_owned).context("an id");
    Ok((text(&project["id"])?, text(&launcher["environment"]["id"])?))
}

/// Has the environment built, and waits for it.
async fn build(api: &Api<'_>, environment: &str) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let build =
        api.send(Method::POST, &format!("/environments/{environment}/builds"), Some(json!({}))).await?;
    let path = format!("/builds/{}", build["id"].as_str().context("an id")?);
    loop {
        let build = api.send(Method::GET, &path, None).await?;
        match build["status"].as_str() {
            Some("succeeded") => return Ok(began.elapsed()),
            Some("in_progress") if began.elapsed() < LIMIT => {}
            _ => bail!("{build:#}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Clones the code and installs what it names, with an empty cache.
async fn install_by_hand(uv: &Path, repository: &Path) -> anyhow::Result<Duration> {
    let dir = tempfile::Builder::new().prefix("marmot-bench-by-hand-").tempdir()?;
    let script = "git clone --quiet \"$1\" code && cd code && \"$2\" venv --quiet && \"$2\" pip install --quiet --requirements requirements.txt";
    let began = Instant::now();
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]).arg(repository).arg(uv).current_dir(dir.path());
    let status =
        shell.env("UV_CACHE_DIR", dir.path().join("cache")).env_remove("VIRTUAL_ENV").status().await?;
    ensure!(status.success(), "`{script}` failed");
    Ok(began.elapsed())
}

/// Adds a line to a file, and commits it.
async fn commit(repository: &Path, file: &str, line: &str) -> anyhow::Result<()> {
    let script = "printf %s \"$2\" >> \"$1\" && git add --all && git -c user.name=bench -c user.email=bench@localhost commit --quiet -m Change";
    let mut shell = Command::new("sh");
    let status = shell.args(["-c", script, "sh", file, line]).current_dir(repository).status().await?;
    ensure!(status.success(), "`{script}` failed");
    Ok(())
}
