//! `cargo xtask screenshots`: draws the pictures of the pages anew.

use crate::command::{self, command};
use crate::repository::Repository;
use crate::setup::{self, Need};
use crate::steps;

pub(crate) fn run(repository: &Repository) -> anyhow::Result<()> {
    setup::run(repository, &[Need::Apps, Need::Browser])?;
    println!("build   marmot");
    command::run(command(repository, "cargo")?.args(["build", "--release", "-p", "marmot"]))?;
    steps::in_browser(repository, &["screenshots.js"])
}
