//! The memory of replicas that sleep: moved out of the way while they are frozen, back as they need it.
//!
//! What the last wake-ups used, the *hot set*, stays: a few megabytes that make the difference between an answer at
//! once and one that first waits for a thousand page faults. It is known without asking for anything: after
//! everything else was paged out, what is in memory a moment after a wake-up is what that wake-up used.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::cgroup::ReplicaGroup;
use crate::observed::{Memory, SleepDepth};
use crate::procfs::{self, RawPid};

mod maps;
pub(crate) mod means;
mod page_out;
mod pages;
pub(crate) mod pressure;
pub(crate) mod swap;

use means::Way;
use pages::PageSet;
use swap::Swap;

/// So long after a wake-up, what is in memory is what the wake-up used. Later, it is what its visitors work on.
pub(crate) const NOTE_AFTER: Duration = Duration::from_secs(1);
/// A hot set may always have this many bytes…
const HOT_BYTES: u64 = 24 << 20;
/// … or this part of the replica's memory.
const HOT_PART: u64 = 4;
/// What is reclaimed of a group at once, where processes cannot be advised on, in bytes.
const RECLAIM_STEP: u64 = 4 << 20;

/// Pages out what sleeps, a few replicas at a time.
#[derive(Debug, Clone)]
pub(crate) struct Pager {
    way: Way,
    /// Whoever falls asleep can wait; whoever is awake needs the processors.
    turns: Arc<Semaphore>,
}

impl Pager {
    /// `way`: how memory can be paged out here.
    pub(crate) fn new(way: Way) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { way, turns: Arc::new(Semaphore::new((cores / 2).max(1))) }
    }

    /// Looks after the memory of one replica. `found_asleep`: an earlier server put it to sleep.
    pub(crate) fn sleeper(&self, group: &ReplicaGroup, shim: RawPid, found_asleep: bool) -> Arc<Sleeper> {
        let learnt = Learnt { tells: found_asleep, ..Learnt::default() };
        let (pager, group) = (self.clone(), group.clone());
        Arc::new(Sleeper { pager, group, shim, learnt: Mutex::new(learnt) })
    }
}

/// The memory of one replica.
#[derive(Debug)]
pub(crate) struct Sleeper {
    pager: Pager,
    group: ReplicaGroup,
    shim: RawPid,
    /// Locked while memory is moved, so that nobody undoes it meanwhile.
    learnt: Mutex<Learnt>,
}

/// What is known of a replica's hot set.
#[derive(Debug, Default)]
struct Learnt {
    /// The pages that the last wake-ups used, by process: its id, and when it started.
    hot: BTreeMap<(RawPid, u64), PageSet>,
    /// Everything but the hot set was paged out: what is in memory now tells something.
    tells: bool,
    /// It has been told since the last wake-up.
    noted: bool,
}

impl Sleeper {
    /// Waits for its turn, then moves the memory of the frozen replica out of the way. Dropped before it is done, it
    /// stops within a step.
    pub(crate) async fn page_out(self: &Arc<Self>, depth: SleepDepth) -> (SleepDepth, Memory) {
        let stop = CancellationToken::new();
        let _guard = stop.clone().drop_guard();
        let sleeper = Arc::clone(self);
        let turn = Arc::clone(&self.pager.turns).acquire_owned().await;
        let done = tokio::task::spawn_blocking(move || {
            let reached = sleeper.page_out_now(depth, &stop);
            drop(turn);
            (reached, sleeper.memory())
        });
        done.await.unwrap_or_default()
    }

    /// Notes what the last wake-up used, if that was not done since. Takes a few milliseconds.
    pub(crate) fn note(&self) {
        let mut learnt = self.learnt();
        if learnt.tells && !learnt.noted {
            self.learn(&mut learnt);
        }
    }

    /// Reads ahead what the last wake-ups used.
    pub(crate) fn prefetch(&self) {
        let hot = self.learnt().hot.clone();
        for ((pid, start_time), pages) in hot {
            if procfs::stat(pid).is_some_and(|stat| stat.start_time == start_time) {
                // What is not read ahead is read when it is needed.
                let _ = page_out::prefetch(pid, &pages);
            }
        }
    }

    /// Memory that the replica holds.
    pub(crate) fn memory(&self) -> Memory {
        let mut memory = procfs::memory(&self.processes());
        if memory.swapped > 0 {
            memory.compressed = Swap::detect().compressed_of(memory.swapped);
        }
        memory
    }

    fn learnt(&self) -> MutexGuard<'_, Learnt> {
        self.learnt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The processes of the replica, without the supervisor.
    fn processes(&self) -> Vec<RawPid> {
        self.group.processes().unwrap_or_else(|| procfs::descendants(self.shim))
    }

    fn page_out_now(&self, depth: SleepDepth, stop: &CancellationToken) -> SleepDepth {
        let mut learnt = self.learnt();
        if stop.is_cancelled() || !Swap::detect().has_room() {
            return SleepDepth::Frozen;
        }
        if learnt.tells && !learnt.noted && procfs::memory(&self.processes()).swapped > 0 {
            self.learn(&mut learnt);
        }
        let done = match self.pager.way {
            Way::Processes => self.page_out_processes(depth, &learnt.hot, stop),
            Way::Group => self.reclaim(depth, stop),
            Way::None => return SleepDepth::Frozen,
        };
        let complete = match done {
            Ok(complete) => complete,
            Err(error) => {
                tracing::warn!(%error, "memory of a hibernated replica cannot be paged out");
                false
            }
        };
        (learnt.tells, learnt.noted) = (complete, false);
        if complete { depth } else { SleepDepth::Frozen }
    }

    /// Takes what is in memory for the hot set, unless it is too much to keep.
    fn learn(&self, learnt: &mut Learnt) {
        learnt.noted = true;
        let pids = self.processes();
        let all = procfs::memory(&pids);
        let mut hot = BTreeMap::new();
        for pid in pids {
            let Some(stat) = procfs::stat(pid) else { continue };
            match page_out::resident(pid) {
                Ok(pages) => drop(hot.insert((pid, stat.start_time), pages)),
                // A process that ended meanwhile needs no memory.
                Err(error) => tracing::debug!(pid, %error, "the memory of a process cannot be looked at"),
            }
        }
        // Its share: what others have in memory as well costs little, and stays whatever is advised.
        let most = HOT_BYTES.max((all.resident + all.swapped) / HOT_PART);
        if all.resident <= most {
            learnt.hot = hot;
        }
    }

    fn page_out_processes(
        &self,
        depth: SleepDepth,
        hot: &BTreeMap<(RawPid, u64), PageSet>,
        stop: &CancellationToken,
    ) -> io::Result<bool> {
        let nothing = PageSet::default();
        for pid in self.processes() {
            let Some(stat) = procfs::stat(pid) else { continue };
            let keep = hot.get(&(pid, stat.start_time)).filter(|_| depth == SleepDepth::Light);
            match page_out::page_out(pid, keep.unwrap_or(&nothing), stop) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                // It ended meanwhile.
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Has the kernel take what the group used least recently.
    fn reclaim(&self, depth: SleepDepth, stop: &CancellationToken) -> io::Result<bool> {
        let keep = if depth == SleepDepth::Deep { 0 } else { HOT_BYTES };
        while let Some(left) = self.group.anonymous_bytes().filter(|&bytes| bytes > keep) {
            if stop.is_cancelled() {
                return Ok(false);
            }
            if !self.group.reclaim(RECLAIM_STEP.min(left - keep))? {
                break;
            }
        }
        Ok(true)
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || Errno::from_io_error(error) == Some(Errno::SRCH)
}
