//! Moves memory of frozen processes to swap, and reads it ahead when they wake, in steps that can be broken off.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};

use marmot_madvise::{Advice, MOST_RANGES, advise};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};
use tokio_util::sync::CancellationToken;

use super::maps::{self, page_size};
use super::pages::PageSet;
use crate::procfs::RawPid;

/// Bytes of one step: a millisecond or so, since a wake-up may come at any time.
const STEP: u64 = 1 << 20;

/// Pages out everything that is private to a process and not in `keep`. False: it was broken off.
///
/// # Errors
/// When the process has ended, or the kernel refuses.
pub(super) fn page_out(pid: RawPid, keep: &PageSet, stop: &CancellationToken) -> io::Result<bool> {
    let process = open(pid)?;
    let runs = cold(pid, keep)?;
    for step in steps(&runs) {
        if stop.is_cancelled() {
            return Ok(false);
        }
        advise_all(&process, &step, Advice::PageOut)?;
    }
    Ok(true)
}

/// Has the kernel read these pages of a process, as far as they are in swap.
///
/// # Errors
/// When the process has ended, or the kernel refuses.
pub(super) fn prefetch(pid: RawPid, pages: &PageSet) -> io::Result<()> {
    let process = open(pid)?;
    let runs: Vec<Run> = pages
        .ranges()
        .iter()
        .map(|range| Run { start: range.start, end: range.end, resident: range.end - range.start })
        .collect();
    steps(&runs).into_iter().try_for_each(|step| advise_all(&process, &step, Advice::WillNeed))
}

/// The pages of a process's private mappings that are in memory.
///
/// # Errors
/// When the process has ended, or may not be looked at.
pub(super) fn resident(pid: RawPid) -> io::Result<PageSet> {
    let mut pages = PageSet::default();
    maps::walk(pid, &maps::private(pid)?, |page, present| {
        if present {
            pages.push(page);
        }
    })?;
    Ok(pages)
}

fn open(pid: RawPid) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}

/// Neighbouring pages, not all of them in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    start: u64,
    end: u64,
    /// How many of them are in memory.
    resident: u64,
}

/// The runs of pages that can go.
fn cold(pid: RawPid, keep: &PageSet) -> io::Result<Vec<Run>> {
    let longest = STEP / page_size();
    let mut keep = keep.cursor();
    let (mut runs, mut run) = (Vec::new(), None::<Run>);
    for mapping in maps::private(pid)? {
        maps::walk(pid, std::slice::from_ref(&mapping), |page, present| match present {
            // What is not in memory need not end a run: advice passes over it.
            false => {}
            true if !keep.contains(page) => {
                let run = run.get_or_insert(Run { start: page, end: page, resident: 0 });
                (run.end, run.resident) = (page + 1, run.resident + 1);
                if run.resident >= longest {
                    runs.push(*run);
                    *run = Run { start: page + 1, end: page + 1, resident: 0 };
                }
            }
            true => runs.extend(run.take()),
        })?;
        runs.extend(run.take());
    }
    runs.retain(|run| run.resident > 0);
    Ok(runs)
}

/// Puts runs together so that each step has about the same to do.
fn steps(runs: &[Run]) -> Vec<Vec<Range<usize>>> {
    let page = page_size();
    let mut steps: Vec<Vec<Range<usize>>> = Vec::new();
    let mut bytes = STEP;
    for run in runs {
        if bytes >= STEP || steps.last().is_some_and(|step| step.len() >= MOST_RANGES) {
            steps.push(Vec::new());
            bytes = 0;
        }
        let address = |page_number: u64| usize::try_from(page_number * page).unwrap_or(usize::MAX);
        if let Some(step) = steps.last_mut() {
            step.push(address(run.start)..address(run.end));
        }
        bytes += run.resident * page;
    }
    steps
}

/// Advises on each range; one that cannot be advised on is passed over.
fn advise_all(process: &OwnedFd, mut ranges: &[Range<usize>], advice: Advice) -> io::Result<()> {
    while let [first, rest @ ..] = ranges {
        match advise(process.as_fd(), ranges, advice) {
            Ok(mut done) => {
                while let [first, rest @ ..] = ranges {
                    // The first one that was not gone through whole is the one that cannot be advised on.
                    ranges = rest;
                    match done.checked_sub(first.len()) {
                        Some(left) => done = left,
                        None => break,
                    }
                }
            }
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::INVAL | Errno::NOMEM | Errno::AGAIN | Errno::BUSY) => {
                    debug_assert!(!first.is_empty(), "only runs with pages are advised on");
                    ranges = rest;
                }
                Some(Errno::INTR) => {}
                _ => return Err(error),
            },
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(start: u64, pages: u64) -> Run {
        Run { start, end: start + pages, resident: pages }
    }

    #[test]
    fn steps_are_small_and_hold_every_run() {
        let pages = STEP / page_size();
        let runs: Vec<Run> =
            (0..3000).map(|n| run(n * 1000, 1)).chain([run(5_000_000, pages), run(6_000_000, 1)]).collect();
        let steps = steps(&runs);
        assert_eq!(steps.iter().map(Vec::len).sum::<usize>(), runs.len());
        for step in &steps {
            let bytes: usize = step.iter().map(Range::len).sum();
            assert!(
                step.len() <= MOST_RANGES && bytes as u64 <= 2 * STEP,
                "{} ranges, {bytes} bytes",
                step.len()
            );
        }
    }
}
