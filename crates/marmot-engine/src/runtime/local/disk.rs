//! What replicas may keep on disk. File systems seldom can tell one replica's files from another's, so they are counted:
//! every minute, and at once when the disk fills quickly. Who has too much is ended, and told so.
//!
//! A program may overshoot by what it writes between two looks, a second apart.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use marmot_core::id::ReplicaId;

use super::prepare::{HOME, TMP, WORK};
use super::{Shared, State};
use crate::files;
use crate::observed::FailureReason;
use crate::shim::{self, spec};

/// How often the free space of the disk is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How many looks until files are counted whatever the free space says.
const COUNT_EVERY: u32 = 60;
/// Free space that has gone since files were counted last, in bytes, after which they are counted at once.
const TELLING: u64 = 64 << 20;
/// Files and directories that a replica may have: they take space of their own, and time to remove.
const MOST_FILES: u64 = 250_000;

/// Keeps replicas to what they may keep on disk, until the engine stops.
pub(super) async fn watch(shared: Arc<Shared>) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let data_dir = shared.settings.layout.data_dir().to_owned();
    let (mut counted_at, mut left) = (free(&data_dir), COUNT_EVERY);
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => return,
            _ = looks.tick() => {}
        }
        let now = free(&data_dir);
        left = left.saturating_sub(1);
        if left > 0 && now.saturating_add(TELLING) > counted_at {
            counted_at = counted_at.max(now);
            continue;
        }
        (counted_at, left) = (now, COUNT_EVERY);
        let counting = Arc::clone(&shared);
        let _ = tokio::task::spawn_blocking(move || count(&counting)).await;
    }
}

/// Ends the replicas that have too much.
fn count(shared: &Shared) {
    let limit = shared.settings.disk_bytes;
    for (id, dir) in running(shared) {
        let Ok(Some(spec)) = spec::read::<spec::Spec>(&dir, spec::SPEC) else { continue };
        let mut places = [HOME, TMP, WORK].map(|place| dir.join(place)).to_vec();
        places.extend(spec.container.as_ref().and_then(|container| container.written.clone()));
        let Err(used) = within(&places, limit) else { continue };
        if let Some(entry) = shared.replicas().get_mut(&id) {
            tracing::info!(app = %entry.app, replica = %id, used, limit, "a replica is ended: it fills the disk");
            entry.verdict = Some(FailureReason::DiskFull { used, limit });
        }
        shim::end_orphans(&spec);
    }
}

/// The replicas that may write, with their directories.
fn running(shared: &Shared) -> Vec<(ReplicaId, PathBuf)> {
    let replicas = shared.replicas();
    let writes = |state: &State| matches!(state, State::Starting(_) | State::Awake(_));
    let running = replicas.iter().filter(|(_, entry)| writes(&entry.seen.state));
    running.map(|(&id, entry)| (id, shared.dir(&entry.app, id))).collect()
}

/// Whether these directories together hold no more than `limit` bytes, and no more files than are allowed. If not, how
/// many bytes were counted until that was clear.
fn within(places: &[PathBuf], limit: u64) -> Result<(), u64> {
    files::on_disk_within(places, limit, MOST_FILES).map(drop)
}

/// Free bytes of the file system that `path` is on.
fn free(path: &Path) -> u64 {
    rustix::fs::statvfs(path).map_or(u64::MAX, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn counts_what_is_on_disk_and_follows_no_links() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b");
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("data"), vec![1; 100_000]).unwrap();
        std::os::unix::fs::symlink("/usr", dir.path().join("link")).unwrap();
        let sparse = fs::File::create(dir.path().join("sparse")).unwrap();
        sparse.set_len(1 << 40).unwrap();
        let places = [dir.path().to_owned()];
        assert_eq!(within(&places, 200_000), Ok(()));
        assert!(within(&places, 50_000).is_err_and(|used| (50_000..200_000).contains(&used)));
    }
}
