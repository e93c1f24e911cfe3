//! Room on the disk that is the database's alone: what fills the disk, a build or anybody else, does not keep the
//! platform from writing down what it promises.
//!
//! SQLite appends every change to its journal first, and cuts that never while the database is open. So the journal is
//! given its blocks beforehand, beyond its end, where nobody sees them: whatever becomes of the rest of the disk, that much
//! can be written. While the disk is full, changes stay in the journal; they move on when there is room again.

use std::fs::{File, OpenOptions};
use std::io;
use std::mem::ManuallyDrop;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FallocateFlags, fallocate};

/// What the journal may grow to on a disk that is full, in bytes.
pub const RESERVE: u64 = 64 << 20;
/// What SQLite needs to find its way in a journal of that size: 32 KiB for every 4096 pages of 4 KiB, and one to spare.
const INDEX: u64 = (RESERVE / (4096 * 4096) + 2) * (32 << 10);

/// The reserve of one database.
#[derive(Debug)]
pub(super) struct Reserve {
    database: PathBuf,
    /// Which file the index was when its blocks were taken.
    index: Mutex<Option<u64>>,
}

impl Reserve {
    pub(super) fn of(database: &Path) -> Self {
        Self { database: database.to_owned(), index: Mutex::new(None) }
    }

    /// Takes what of the reserve is not taken yet. May wait for the disk.
    pub(super) fn take(&self) -> io::Result<()> {
        let journal = OpenOptions::new().write(true).open(self.beside("-wal"))?;
        fallocate(&journal, FallocateFlags::KEEP_SIZE, 0, RESERVE)?;
        let path = self.beside("-shm");
        let mut taken = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        let inode = std::fs::metadata(&path)?.ino();
        if *taken != Some(inode) {
            // SQLite locks this file, and this program's locks on a file go with the first of its descriptors that is
            // closed. So this one never is: there is one for each time that the file is made, which is once.
            let index = ManuallyDrop::new(OpenOptions::new().read(true).write(true).open(&path)?);
            fallocate::<&File>(&index, FallocateFlags::KEEP_SIZE, 0, INDEX)?;
            *taken = Some(inode);
        }
        Ok(())
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut path = self.database.clone().into_os_string();
        path.push(ending);
        path.into()
    }
}
