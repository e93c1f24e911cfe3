//! A `marmot serve` of the release build, on a data directory of its own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

/// How long starting and stopping may take before something is wrong.
const LIMIT: Duration = Duration::from_secs(60);

/// A server that runs until it is stopped or dropped.
pub(crate) struct Server {
    child: Child,
    marmot: PathBuf,
    data: TempDir,
    /// Where the platform is: `http://localhost:PORT`.
    pub(crate) url: String,
}

impl Server {
    /// Starts the program `marmot` on a free port; `settings` are further flags of `serve`.
    ///
    /// # Errors
    /// When it does not say within a minute where it listens.
    pub(crate) async fn start(marmot: &Path, settings: &[&str]) -> anyhow::Result<Self> {
        let data = tempfile::Builder::new().prefix("marmot-bench-").tempdir()?;
        let mut child = Command::new(marmot)
            .args(["serve", "--listen", "127.0.0.1:0", "--allow-local-repositories"])
            .args(settings)
            .arg("--data-dir")
            .arg(data.path())
            // How the benches are told which program to measure; to the server it would be an unknown setting.
            .env_remove("MARMOT_BIN")
            .env("MARMOT_LOG", "warn")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", marmot.display()))?;
        let mut lines = BufReader::new(child.stdout.take().context("piped")?).lines();
        let url = tokio::time::timeout(LIMIT, async {
            while let Some(line) = lines.next_line().await? {
                if let Some(at) = line.find("http://") {
                    return Ok(line[at..].trim().trim_end_matches('/').to_owned());
                }
            }
            bail!("the server ended before it said where it listens")
        })
        .await
        .context("the server did not start in time")??;
        // What it prints later must not fill the pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { child, marmot: marmot.to_owned(), data, url })
    }

    /// Its process id.
    ///
    /// # Errors
    /// When it has ended.
    pub(crate) fn pid(&self) -> anyhow::Result<u32> {
        self.child.id().context("the server has ended")
    }

    /// Where it keeps everything.
    pub(crate) fn data_dir(&self) -> &Path {
        self.data.path()
    }

    /// Makes a user and returns an API token of theirs.
    ///
    /// # Errors
    /// When `marmot admin` fails.
    pub(crate) async fn token(&self, username: &str) -> anyhow::Result<String> {
        self.admin(&["create-user", username, "--password-stdin"], "correct horse battery staple\n").await?;
        self.admin(&["create-token", username], "").await
    }

    /// Runs `marmot admin …` on its data directory and returns the last line printed.
    async fn admin(&self, arguments: &[&str], stdin: &str) -> anyhow::Result<String> {
        let mut child = Command::new(&self.marmot)
            .arg("admin")
            .args(arguments)
            .arg("--data-dir")
            .arg(self.data.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        child.stdin.take().context("piped")?.write_all(stdin.as_bytes()).await?;
        let output = child.wait_with_output().await?;
        if !output.status.success() {
            bail!("`marmot admin {}` failed", arguments.join(" "));
        }
        Ok(String::from_utf8(output.stdout)?.lines().last().unwrap_or_default().to_owned())
    }

    /// Stops it in order: its replicas end, too.
    ///
    /// # Errors
    /// When it does not end within a minute, or not well.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.pid()?.to_string();
        Command::new("kill").arg(pid).status().await?;
        let status = tokio::time::timeout(LIMIT, self.child.wait()).await.context("the server hangs")??;
        if !status.success() {
            bail!("the server ended with {status}");
        }
        Ok(())
    }
}
