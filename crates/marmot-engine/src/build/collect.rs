//! Removes from the cache of builds what no kept build needs and nothing has used for a while.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::contract::{BuildContext, RunFile};

/// The file in the directory of a repository or an environment whose time says when it was last of use.
pub(super) const USED: &str = "used";

/// Notes that what is in `dir` is of use.
pub(super) fn note_use(dir: &Path) -> io::Result<()> {
    fs::write(dir.join(USED), "")
}

/// Removes environments, copies of repositories and compiled files that nothing has used for `age` and that no result
/// of a build in a directory of `builds` refers to.
///
/// A build that is under way has just used what it needs, so `age` must be longer than a build may take.
///
/// # Errors
/// When the results of the builds cannot be read: then nothing is removed, since anything may be needed.
pub async fn collect(context: &BuildContext, builds: &Path, age: Duration) -> io::Result<()> {
    let age = age.max(context.limits.time * 2);
    let builds = builds.to_owned();
    let needed = tokio::task::spawn_blocking(move || needed(&builds)).await.map_err(io::Error::other)??;
    for place in ["envs", "repositories", "built-packages", "node-tools", "looks"] {
        for dir in old(&context.cache_dir.join(place), age)? {
            if needed.iter().any(|path| path.starts_with(&dir)) {
                continue;
            }
            // Whoever waits for the lock finds nothing, and makes it anew.
            let _lock = context.locks.hold(&dir).await;
            if !is_old(&dir, age) {
                continue;
            }
            let removed = tokio::task::spawn_blocking(move || remove(&dir)).await;
            removed.map_err(io::Error::other)??;
        }
    }
    let bytecode = context.cache_dir.join("bytecode");
    tokio::task::spawn_blocking(move || remove_unlinked(&bytecode, age)).await.map_err(io::Error::other)
}

/// Everything that the results of builds refer to.
fn needed(builds: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let mut needed = BTreeSet::new();
    let entries = match fs::read_dir(builds) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(needed),
        entries => entries?,
    };
    for entry in entries {
        match RunFile::read(&entry?.path().join("artefact")) {
            Ok(run) => needed.extend(run.reads.into_iter().chain(run.path_prepend)),
            // A build without a result needs nothing.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(needed)
}

fn old(place: &Path, age: Duration) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    Ok(entries.flatten().map(|entry| entry.path()).filter(|dir| is_old(dir, age)).collect())
}

fn is_old(dir: &Path, age: Duration) -> bool {
    // Without the file, something that was never finished.
    let used = fs::metadata(dir.join(USED)).or_else(|_| fs::metadata(dir)).and_then(|found| found.modified());
    used.is_ok_and(|used| SystemTime::now().duration_since(used).is_ok_and(|since| since >= age))
}

fn remove(dir: &Path) -> io::Result<()> {
    // Not usable any more from the first moment: what is removed halfway must not look whole.
    match fs::remove_file(dir.join(USED)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::remove_dir_all(dir),
    }
}

/// Removes the compiled files that are in no environment any more. What cannot be removed stays until the next time.
fn remove_unlinked(dir: &Path, age: Duration) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            remove_unlinked(&entry.path(), age);
        } else if metadata.nlink() == 1
            && metadata.modified().is_ok_and(|made| made.elapsed().is_ok_and(|since| since >= age))
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}
