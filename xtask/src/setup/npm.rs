//! npm packages of tests, exactly as locked.

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::say;
use crate::command::{self, command};
use crate::repository::Repository;

/// Installs what `directory` has locked.
pub(super) fn run(repository: &Repository, directory: &Path) -> anyhow::Result<()> {
    let lock = directory.join("package-lock.json");
    let lock = std::fs::read_to_string(&lock).with_context(|| format!("cannot read {}", lock.display()))?;
    let name = directory.strip_prefix(&repository.root).unwrap_or(directory).display();
    if is_installed(directory, &lock) {
        say("npm packages", &format!("there, the lock of {name} has not changed"));
        return Ok(());
    }
    say("npm packages", &format!("installing into {name}/node_modules"));
    // No package of ours has an install script worth running, and a browser is not to be downloaded.
    let arguments = ["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"];
    command::run(command(repository, "npm")?.args(arguments).current_dir(directory))?;
    std::fs::write(installed(directory), lock).context("cannot note which lock was installed")
}

/// A copy of the lock that was installed; it goes when the packages go.
fn installed(directory: &Path) -> PathBuf {
    directory.join("node_modules/.installed-lock.json")
}

fn is_installed(directory: &Path, lock: &str) -> bool {
    std::fs::read_to_string(installed(directory)).is_ok_and(|installed| installed == lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installs_again_only_when_the_lock_has_changed() {
        let directory = tempfile::tempdir().expect("a directory");
        let directory = directory.path();
        assert!(!is_installed(directory, "a lock"));
        std::fs::create_dir_all(directory.join("node_modules")).expect("a directory");
        std::fs::write(installed(directory), "a lock").expect("a note");
        assert!(is_installed(directory, "a lock"));
        assert!(!is_installed(directory, "another lock"));
    }
}
