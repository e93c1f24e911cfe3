//! The steps of `cargo xtask test`: what each needs, and the commands it runs.

use std::process::Command;

use anyhow::ensure;
use clap::ValueEnum;

use crate::command::{self, command, succeeds};
use crate::repository::Repository;
use crate::setup::Need;

/// In the order in which they run: what is quick and often wrong comes first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Step {
    /// rustfmt agrees
    Fmt,
    /// clippy has nothing to say
    Clippy,
    /// dependencies: licences, bans, sources, advisories
    Deny,
    /// unit and integration tests
    Test,
    /// release build
    Build,
    /// end-to-end tests in a browser, of the release build
    Browser,
}

impl Step {
    pub(crate) const ALL: &[Self] =
        &[Self::Fmt, Self::Clippy, Self::Deny, Self::Test, Self::Build, Self::Browser];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fmt => "fmt",
            Self::Clippy => "clippy",
            Self::Deny => "deny",
            Self::Test => "test",
            Self::Build => "build",
            Self::Browser => "browser",
        }
    }

    pub(crate) fn needs(self) -> &'static [Need] {
        match self {
            Self::Fmt | Self::Clippy | Self::Build => &[],
            Self::Deny => &[Need::CargoDeny],
            Self::Test => &[Need::Apps, Need::Node, Need::Tests],
            Self::Browser => &[Need::Apps, Need::Node, Need::Browser],
        }
    }

    pub(crate) fn run(self, repository: &Repository) -> anyhow::Result<()> {
        match self {
            Self::Fmt => cargo(repository, &["fmt", "--all", "--check"]),
            Self::Clippy => {
                cargo(repository, &["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"])
            }
            Self::Deny => deny(repository),
            Self::Test => test(repository),
            Self::Build => cargo(repository, &["build", "--release", "-p", "marmot"]),
            Self::Browser => browser(repository),
        }
    }
}

/// Advisories need their database from the network; everything else is known from the lock file and is always checked.
fn deny(repository: &Repository) -> anyhow::Result<()> {
    cargo(repository, &["deny", "check", "--hide-inclusion-graph", "licenses", "bans", "sources"])?;
    if succeeds(command(repository, "cargo")?.args(["deny", "fetch", "db"])) {
        cargo(repository, &["deny", "check", "--disable-fetch", "--hide-inclusion-graph", "advisories"])
    } else {
        println!("    advisories not checked: their database cannot be fetched");
        Ok(())
    }
}

fn test(repository: &Repository) -> anyhow::Result<()> {
    if !succeeds(Command::new("cargo").args(["nextest", "--version"])) {
        return cargo(repository, &["test", "--workspace"]);
    }
    cargo(repository, &["nextest", "run", "--workspace", "--no-tests=pass", "--no-fail-fast"])?;
    // nextest leaves the examples in the documentation out.
    cargo(repository, &["test", "--workspace", "--doc"])
}

fn browser(repository: &Repository) -> anyhow::Result<()> {
    let marmot = repository.marmot();
    ensure!(marmot.is_file(), "{} is not built: add the step `build`", marmot.display());
    in_browser(repository, &["--test-concurrency=1"])
}

/// Runs the browser tests, or the files among `arguments`, on the release build.
pub(crate) fn in_browser(repository: &Repository, arguments: &[&str]) -> anyhow::Result<()> {
    let marmot = repository.marmot();
    let mut node = command(repository, "node")?;
    node.args(["--test", "--test-reporter=spec"]).args(arguments).current_dir(repository.browser_tests());
    node.env("MARMOT_BIN", marmot).env("MARMOT_SCREENSHOTS", repository.screenshots());
    command::run(&mut node)
}

fn cargo(repository: &Repository, arguments: &[&str]) -> anyhow::Result<()> {
    command::run(command(repository, "cargo")?.args(arguments))
}
