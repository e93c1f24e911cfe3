//! Room on the disk: a build leaves some of it free, for the database and everybody else, and keeps no more than it may.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::collect::size;
use super::process::{Interrupted, Job};

/// How often the free space of the disk is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Free space that has gone since files were counted last, in bytes, after which they are counted again.
const TELLING: u64 = 64 << 20;

impl Job {
    /// Waits until there is no room for more, or the build keeps more than it may in its own directory and in `others`.
    pub(super) async fn no_room(&self, others: &[PathBuf]) -> Interrupted {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut counted_at = None;
        loop {
            looks.tick().await;
            if let Some(full) = self.is_full() {
                return full;
            }
            let now = free(&self.home);
            if counted_at.is_some_and(|counted| now.saturating_add(TELLING) > counted) {
                continue;
            }
            counted_at = Some(now);
            let (places, most) = (self.places(others), self.limits.disk_bytes);
            let count = move || places.iter().map(|place| size(place, most)).sum::<u64>();
            if tokio::task::spawn_blocking(count).await.is_ok_and(|used| used > most) {
                return Interrupted::TooMuch(most);
            }
        }
    }

    /// Why nothing more can be written, if that is so.
    pub(super) fn is_full(&self) -> Option<Interrupted> {
        let (left, reserve) = (free(&self.home), self.limits.reserve_bytes);
        (left < reserve).then_some(Interrupted::NoRoom { left, reserve })
    }

    /// What the build may write to; each once.
    fn places(&self, others: &[PathBuf]) -> Vec<PathBuf> {
        let own = self.home.parent().unwrap_or(&self.home);
        let elsewhere = others.iter().filter(|other| !other.starts_with(own)).cloned();
        elsewhere.chain([own.to_owned()]).collect()
    }
}

/// The free bytes of the disk that `path` is on; as much as can be where that cannot be told.
fn free(path: &Path) -> u64 {
    rustix::fs::statvfs(path).map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
}
