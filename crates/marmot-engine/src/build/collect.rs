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

/// Notes that a file is of use. Where that cannot be noted, it is collected a little early.
pub(super) fn touch(file: &Path) {
    let _ = fs::File::options().append(true).open(file).and_then(|file| file.set_modified(SystemTime::now()));
}

/// Notes of versions are small, and builds of the same app find the same versions by them: they stay this many times
/// longer than what can be fetched again, and no more than so many of them.
const LOCKS_STAY: u32 = 26;
const MOST_LOCKS: usize = 2000;

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
    let discarded = context.cache_dir.join("discarded");
    let gone = tokio::task::spawn_blocking(move || crate::files::remove(&discarded)).await;
    gone.map_err(io::Error::other)??;
    for place in ["envs", "repositories", "built-packages", "node-tools", "looks", "buildpacks"] {
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
    remove_locks(&context.cache_dir.join("conda-locks"), age * LOCKS_STAY, MOST_LOCKS)?;
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

/// Removes the locks that nothing has used for `age`, and of the others all but the `most` last used.
fn remove_locks(dir: &Path, age: Duration, most: usize) -> io::Result<()> {
    let mut locks: Vec<(SystemTime, PathBuf)> = old(dir, Duration::ZERO)?
        .into_iter()
        .filter_map(|path| Some((fs::metadata(&path).ok()?.modified().ok()?, path)))
        .collect();
    locks.sort_by(|left, right| right.cmp(left));
    for (place, (used, path)) in locks.into_iter().enumerate() {
        let is_old = SystemTime::now().duration_since(used).is_ok_and(|since| since >= age);
        if place >= most || is_old {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// The caches of fetched packages that hold more than they may: nothing notes what of them was used when, and all of it
/// can be fetched again.
pub(crate) fn overgrown(context: &BuildContext) -> Vec<PathBuf> {
    let (caches, most) = (["packages", "node-packages", "conda"], context.cache_bytes);
    let caches = caches.map(|name| context.cache_dir.join(name));
    caches.into_iter().filter(|cache| size(cache, most) > most).collect()
}

/// Takes a cache away from builds at once; it is removed when the cache is next looked through. Only while no build is
/// under way.
pub(crate) fn discard(cache: &Path) -> io::Result<()> {
    let Some(place) = cache.parent() else { return Ok(()) };
    let away = place.join("discarded");
    fs::create_dir_all(&away)?;
    fs::rename(cache, away.join(ulid::Ulid::generate().to_string()))
}

/// The bytes of what is in `dir`; it is not counted further than to `enough`.
pub(super) fn size(dir: &Path, enough: u64) -> u64 {
    let mut sum = 0;
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        sum += if metadata.is_dir() { size(&entry.path(), enough) } else { metadata.blocks() * 512 };
        if sum > enough {
            break;
        }
    }
    sum
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_stay_while_they_are_of_use_and_not_too_many() {
        let dir = tempfile::tempdir().unwrap();
        let day = Duration::from_secs(24 * 3600);
        let lock = |name: &str, days: u32| {
            let path = dir.path().join(name);
            fs::write(&path, "[]").unwrap();
            let used = SystemTime::now() - day * days;
            fs::File::options().append(true).open(&path).unwrap().set_modified(used).unwrap();
            path
        };
        let [new, young, old, used] =
            [("new", 0), ("young", 5), ("old", 20), ("used", 20)].map(|(name, days)| lock(name, days));
        touch(&used);
        remove_locks(dir.path(), day * 10, 10).unwrap();
        assert!(new.exists() && young.exists() && used.exists() && !old.exists());
        remove_locks(dir.path(), day * 10, 2).unwrap();
        assert!(new.exists() && used.exists() && !young.exists());
        remove_locks(&dir.path().join("nowhere"), day, 2).unwrap();
    }

    #[tokio::test]
    async fn a_cache_that_has_grown_too_large_is_taken_away_whole_and_then_removed() {
        let dir = tempfile::tempdir().unwrap();
        let mut context = BuildContext::new("uv".into(), "git".into(), "marmot".into(), dir.path().into());
        for (cache, bytes) in [("packages/a/b", 300_000), ("conda", 10)] {
            fs::create_dir_all(dir.path().join(cache)).unwrap();
            fs::write(dir.path().join(cache).join("file"), vec![1; bytes]).unwrap();
        }
        assert_eq!(overgrown(&context), [] as [PathBuf; 0]);
        context.cache_bytes = 200_000;
        let found = overgrown(&context);
        assert_eq!(found, [dir.path().join("packages")]);
        discard(&found[0]).unwrap();
        assert!(!found[0].exists() && dir.path().join("conda/file").exists());
        assert_eq!(fs::read_dir(dir.path().join("discarded")).unwrap().count(), 1);
        collect(&context, &dir.path().join("builds"), Duration::from_secs(1)).await.unwrap();
        assert!(!dir.path().join("discarded").exists() && dir.path().join("conda/file").exists());
    }
}
