//! Word from the kernel that something changed in a directory.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::fd::waitable;

pub(super) struct Watch {
    inotify: AsyncFd<OwnedFd>,
}

impl Watch {
    pub(super) fn new() -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        Ok(Self { inotify: waitable(inotify, Interest::READABLE)? })
    }

    /// Watches a directory; does nothing when it is watched already. True when it exists.
    pub(super) fn add(&self, dir: &Path) -> io::Result<bool> {
        let what = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        match inotify::add_watch(&self.inotify, dir, what) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Watches `dir`, or while it does not exist the deepest directory above it, `top` at the highest.
    pub(super) fn add_deepest(&self, top: &Path, dir: &Path) -> io::Result<()> {
        let mut deepest = dir;
        while !self.add(deepest)? {
            match deepest.parent() {
                Some(parent) if deepest != top => deepest = parent,
                _ => return Err(io::Error::new(io::ErrorKind::NotFound, "the data directory is gone")),
            }
        }
        if deepest == dir {
            return Ok(());
        }
        // What was missing may have been made between the two looks.
        let missing: Vec<&Path> = dir.ancestors().take_while(|above| *above != deepest).collect();
        for dir in missing.into_iter().rev() {
            if !self.add(dir)? {
                break;
            }
        }
        Ok(())
    }

    /// Waits until something has changed since the last call.
    pub(super) async fn changed(&self) -> io::Result<()> {
        loop {
            let mut ready = self.inotify.readable().await?;
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut events = inotify::Reader::new(self.inotify.get_ref(), &mut buffer);
            let mut seen = false;
            loop {
                match events.next() {
                    Ok(_) => seen = true,
                    Err(Errno::AGAIN) => break,
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            ready.clear_ready();
            if seen {
                return Ok(());
            }
        }
    }
}
