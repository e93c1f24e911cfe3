//! Advises the kernel on the memory of another process: the one system call here that has no safe wrapper.
//!
//! A crate of its own, so that every other one forbids `unsafe` for good.

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// Ranges that one call takes; the kernel refuses more.
pub const MOST_RANGES: usize = 1024;

/// What the kernel is advised to do. Neither changes what the process finds in its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Move the pages to swap now.
    PageOut,
    /// Read pages that are in swap, for they will be needed.
    WillNeed,
}

/// Advises the kernel on these ranges of addresses of a process, which `process` is a pidfd of.
///
/// Returns how many bytes, from the first range on, were gone through: fewer than all when a range cannot be advised
/// on, for instance because nothing is mapped there any more.
///
/// # Errors
/// When not even the first range was gone through: `PermissionDenied` without `CAP_SYS_NICE`, or for a process of
/// another user without `CAP_SYS_PTRACE`, too; `ESRCH` when the process has ended; `EINVAL` or `ENOMEM` when the
/// first range cannot be advised on; `ENOSYS` before Linux 5.10. At most [`MOST_RANGES`] are allowed.
pub fn advise(process: BorrowedFd<'_>, ranges: &[Range<usize>], advice: Advice) -> io::Result<usize> {
    let vector: Vec<libc::iovec> = ranges
        .iter()
        .map(|range| libc::iovec {
            iov_base: ptr::without_provenance_mut(range.start),
            iov_len: range.end.saturating_sub(range.start),
        })
        .collect();
    let advice = match advice {
        Advice::PageOut => libc::MADV_PAGEOUT,
        Advice::WillNeed => libc::MADV_WILLNEED,
    };
    call(process, &vector, advice)
}

#[expect(unsafe_code, reason = "neither the standard library nor a maintained crate wraps `process_madvise`")]
fn call(process: BorrowedFd<'_>, vector: &[libc::iovec], advice: libc::c_int) -> io::Result<usize> {
    // SAFETY: The kernel reads `vector`, which lives until the call returns, and nothing else of this process: the
    // addresses in it are of the other one. Should that be this very process: both kinds of advice that get here
    // leave the contents of memory as they are, so no reference into it can see a difference.
    let done = unsafe {
        libc::syscall(
            libc::SYS_process_madvise,
            process.as_raw_fd(),
            vector.as_ptr(),
            vector.len(),
            advice,
            0 as libc::c_uint,
        )
    };
    usize::try_from(done).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

    use std::os::fd::AsFd;

    use super::*;

    fn this_process() -> std::os::fd::OwnedFd {
        let pid = rustix::process::getpid();
        rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap()
    }

    #[test]
    fn memory_that_is_paged_out_reads_as_before() {
        let memory: Vec<u8> = (0..8 << 20).map(|n: u32| n.to_le_bytes()[0]).collect();
        let start = memory.as_ptr().addr().next_multiple_of(4096);
        let range = start..start + (4 << 20);
        let process = this_process();
        for advice in [Advice::PageOut, Advice::WillNeed] {
            match advise(process.as_fd(), std::slice::from_ref(&range), advice) {
                Ok(bytes) => assert_eq!(bytes, 4 << 20),
                // Another kernel, or a sandbox: nothing was done.
                Err(error) => eprintln!("skipped: {error}"),
            }
            assert!(memory.iter().zip(0u32..).all(|(&byte, n)| byte == n.to_le_bytes()[0]));
        }
    }

    #[test]
    fn what_cannot_be_advised_on_is_refused() {
        let process = this_process();
        let not_at_the_start_of_a_page = 1..2;
        let ranges = std::slice::from_ref(&not_at_the_start_of_a_page);
        assert!(advise(process.as_fd(), ranges, Advice::PageOut).is_err());
        let too_many = vec![0..0; MOST_RANGES + 1];
        assert!(advise(process.as_fd(), &too_many, Advice::PageOut).is_err());
        let no_process = std::fs::File::open("/dev/null").unwrap();
        assert!(advise(no_process.as_fd(), &[], Advice::WillNeed).is_err());
    }
}
