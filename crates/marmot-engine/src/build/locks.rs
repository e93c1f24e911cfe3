//! One lock per thing of the build cache, so that two builds never change the same repository or environment at once.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;

type Lock = tokio::sync::Mutex<()>;

/// The locks that are held or waited for. A data directory has one server, so these need not outlive the process.
#[derive(Debug, Default)]
pub(super) struct Locks(Mutex<HashMap<PathBuf, Weak<Lock>>>);

impl Locks {
    /// Waits until nobody else holds the lock of `path`, and holds it until the guard is dropped.
    pub(super) async fn hold(&self, path: &Path) -> OwnedMutexGuard<()> {
        self.lock_of(path).lock_owned().await
    }

    fn lock_of(&self, path: &Path) -> Arc<Lock> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = locks.get(path).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::new(Lock::default());
        locks.insert(path.to_owned(), Arc::downgrade(&lock));
        lock
    }
}
