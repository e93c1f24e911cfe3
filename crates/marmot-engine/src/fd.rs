//! Waiting on file descriptors that tokio has no type for: inotify, pidfds, files of control groups.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Lets a descriptor be waited on.
#[expect(
    deprecated,
    reason = "tokio's replacement is unsafe, for types whose descriptor may change under it; an OwnedFd's cannot"
)]
pub(crate) fn waitable(fd: impl Into<OwnedFd>, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd.into(), interest)
}
