//! npm packages of the browser tests, exactly as locked.

use std::path::PathBuf;

use anyhow::Context;

use super::say;
use crate::command::{self, command};
use crate::repository::Repository;

pub(super) fn run(repository: &Repository) -> anyhow::Result<()> {
    let lock = repository.browser_tests().join("package-lock.json");
    let lock = std::fs::read_to_string(&lock).with_context(|| format!("cannot read {}", lock.display()))?;
    if is_installed(repository, &lock) {
        say("npm packages", "there, the lock has not changed");
        return Ok(());
    }
    say("npm packages", "installing into tests/browser/node_modules");
    // No package of ours has an install script worth running, and a browser is not to be downloaded.
    let arguments = ["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"];
    command::run(command(repository, "npm")?.args(arguments).current_dir(repository.browser_tests()))?;
    std::fs::write(installed(repository), lock).context("cannot note which lock was installed")
}

/// A copy of the lock that was installed; it goes when the packages go.
fn installed(repository: &Repository) -> PathBuf {
    repository.browser_tests().join("node_modules/.installed-lock.json")
}

fn is_installed(repository: &Repository, lock: &str) -> bool {
    std::fs::read_to_string(installed(repository)).is_ok_and(|installed| installed == lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installs_again_only_when_the_lock_has_changed() {
        let directory = tempfile::tempdir().expect("a directory");
        let repository = Repository::at(directory.path());
        assert!(!is_installed(&repository, "a lock"));
        std::fs::create_dir_all(repository.browser_tests().join("node_modules")).expect("a directory");
        std::fs::write(installed(&repository), "a lock").expect("a note");
        assert!(is_installed(&repository, "a lock"));
        assert!(!is_installed(&repository, "another lock"));
    }
}
