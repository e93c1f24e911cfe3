//! `cargo xtask demo`: from a fresh checkout to example apps in a browser.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use anyhow::Context;

use crate::command::{self, command};
use crate::repository::Repository;
use crate::setup::{self, Need};

pub(crate) fn run(repository: &Repository, arguments: &[OsString]) -> anyhow::Result<()> {
    setup::run(repository, &[Need::Apps])?;
    println!("build   marmot");
    command::run(command(repository, "cargo")?.args(["build", "--release", "-p", "marmot"]))?;

    let mut marmot = command(repository, repository.marmot())?;
    marmot.arg("demo").arg("--examples").arg(repository.examples()).args(arguments).stdin(Stdio::inherit());
    // Becomes Marmot, so that signals reach it and its exit code is ours.
    Err(marmot.exec()).with_context(|| format!("cannot start {}", repository.marmot().display()))
}
