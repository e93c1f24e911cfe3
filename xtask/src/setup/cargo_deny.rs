//! `cargo deny`, which checks dependencies: the machine's own if there is one, else built once into `target/tools`.

use super::say;
use crate::command::{self, command, succeeds};
use crate::repository::Repository;

const VERSION: &str = "0.20.2";

pub(super) fn run(repository: &Repository) -> anyhow::Result<()> {
    if succeeds(command(repository, "cargo")?.args(["deny", "--version"])) {
        say("cargo-deny", "there");
        return Ok(());
    }
    say(&format!("cargo-deny {VERSION}"), "building it, once; this takes a few minutes");
    let mut cargo = command(repository, "cargo")?;
    // Unoptimised: it compiles in half the time, and checks our few hundred packages in a second all the same.
    cargo.args(["install", "--quiet", "--locked", "--debug", &format!("cargo-deny@{VERSION}"), "--root"]);
    command::run(cargo.arg(repository.tools()))
}
