//! `uv`, which builds Python environments, from PyPI into a place of this repository's own.

use std::path::Path;
use std::process::Command;

use anyhow::Context;

use super::say;
use crate::command::{self, command};
use crate::repository::Repository;

/// Pinned, so that a build here and a build in CI are the same.
const VERSION: &str = "0.13.9";

pub(super) fn run(repository: &Repository) -> anyhow::Result<()> {
    let thing = format!("uv {VERSION}");
    if has_version(&repository.uv(), VERSION) {
        say(&thing, "there, in target/tools");
        return Ok(());
    }
    say(&thing, "installing from PyPI into target/tools");
    let environment = repository.tools().join("venv");
    // An environment whose Python has gone since is made anew.
    command::run(command(repository, "python3")?.args(["-m", "venv", "--clear"]).arg(&environment))?;
    let mut pip = command(repository, environment.join("bin/python"))?;
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", &format!("uv=={VERSION}")]);
    command::run(&mut pip)?;
    link(&environment.join("bin/uv"), &repository.uv())
}

fn has_version(uv: &Path, version: &str) -> bool {
    let Ok(output) = Command::new(uv).arg("--version").output() else { return false };
    // It prints `uv 1.2.3 (x86_64-unknown-linux-gnu)`.
    String::from_utf8_lossy(&output.stdout).split_whitespace().nth(1) == Some(version)
}

/// Makes `at` lead to `program`, wherever it led before.
pub(super) fn link(program: &Path, at: &Path) -> anyhow::Result<()> {
    let directory = at.parent().context("a link needs a directory")?;
    std::fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    match std::fs::remove_file(at) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    std::os::unix::fs::symlink(program, at).with_context(|| format!("cannot link {}", at.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_has_no_version() {
        assert!(!has_version(Path::new("/no/such/uv"), VERSION));
    }

    #[test]
    fn a_link_replaces_an_older_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = directory.path().join("bin/uv");
        link(Path::new("/old"), &at).expect("the first link");
        link(Path::new("/new"), &at).expect("the second link");
        assert_eq!(std::fs::read_link(&at).expect("a link"), Path::new("/new"));
    }
}
