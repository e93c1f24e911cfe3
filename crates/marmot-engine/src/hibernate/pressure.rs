//! Tells when the machine runs short of memory, before the kernel ends programs for it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::swap::meminfo;
use crate::fd::waitable;

/// Programs waited for memory for 150 ms of a second, in microseconds.
const TRIGGER: &[u8] = b"some 150000 1000000\0";
/// The same for users without privileges, for whom the kernel looks every other second only.
const TRIGGER_OF_USERS: &[u8] = b"some 300000 2000000\0";
/// Less than one part in so many available: short of memory, whatever else is told.
const SHORT: u64 = 20;
/// Waiting for memory means nothing while more than one part in so many is available: programs also wait for what
/// they read from swap, and for room below their own limits.
const PLENTY: u64 = 8;

/// Tells when the machine runs short of memory.
#[derive(Debug)]
pub(crate) struct Pressure {
    /// Told by the kernel, where it keeps account of who waits for memory.
    stalls: Option<AsyncFd<OwnedFd>>,
}

impl Pressure {
    /// Asks the kernel to tell.
    pub(crate) fn watch() -> Self {
        let register = |trigger: &[u8]| -> io::Result<AsyncFd<OwnedFd>> {
            let mut file = File::options().read(true).write(true).open("/proc/pressure/memory")?;
            file.write_all(trigger)?;
            waitable(file, Interest::PRIORITY)
        };
        Self { stalls: register(TRIGGER).or_else(|_| register(TRIGGER_OF_USERS)).ok() }
    }

    /// Waits until programs wait for memory. For good where the kernel does not tell: then [`shortage`], asked on a
    /// period, is all there is.
    pub(crate) async fn stalled(&self) {
        let Some(stalls) = &self.stalls else { return std::future::pending().await };
        match stalls.ready(Interest::PRIORITY).await {
            Ok(mut ready) => ready.clear_ready(),
            Err(_) => std::future::pending().await,
        }
    }
}

/// How much memory should be freed, in bytes: 0 while there is enough. `stalled`: programs wait for memory.
pub(crate) fn shortage(stalled: bool) -> u64 {
    shortage_of(&fs::read_to_string("/proc/meminfo").unwrap_or_default(), stalled)
}

fn shortage_of(text: &str, stalled: bool) -> u64 {
    let (Some(total), Some(available)) = (meminfo(text, "MemTotal:"), meminfo(text, "MemAvailable:")) else {
        return 0;
    };
    let short = available < total / SHORT || (stalled && available < total / PLENTY);
    if short { (total / PLENTY).saturating_sub(available) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_for_memory_counts_only_when_little_is_left() {
        let shortage = |available: u64, stalled| {
            shortage_of(&format!("MemTotal: 8000 kB\nMemFree: 1 kB\nMemAvailable: {available} kB\n"), stalled)
        };
        assert_eq!(shortage(4000, true), 0);
        assert_eq!(shortage(900, false), 0);
        assert_eq!(shortage(900, true), 100 << 10);
        assert_eq!(shortage(300, false), 700 << 10);
        assert_eq!(shortage_of("", true), 0);
    }

    #[tokio::test]
    async fn the_kernel_is_asked_to_tell_where_it_can() {
        let asked = Pressure::watch();
        let can = File::options().write(true).open("/proc/pressure/memory").is_ok();
        assert_eq!(asked.stalls.is_some(), can);
    }
}
