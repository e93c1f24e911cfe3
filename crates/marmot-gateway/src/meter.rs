//! What passes, counted by app and without locks; and how long waking took lately.
//!
//! Each thread counts in a shard of its own, so that cores do not wait for each other's cache lines. An app of which
//! nothing was ever asked costs a few words.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use http::StatusCode;
use marmot_core::Moment;

use crate::access_log::{LoggedRequest, REMEMBERED as LOGGED};

/// Upper bounds of the histograms' buckets, in microseconds. What takes longer is in none of them.
pub const BUCKETS: [u64; 14] = [
    1_000, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000, 30_000_000, 60_000_000,
];
/// Answers are counted by the first digit of their status.
pub const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// So many wakes are remembered of each rung.
const REMEMBERED: usize = 9;

/// Counts what passes to and from one app.
#[derive(Default)]
pub struct Meter {
    shards: OnceLock<Box<[Shard]>>,
    /// How long waking took.
    pub wakes: Wakes,
    /// The last requests, where they are written down.
    logged: OnceLock<Box<Mutex<VecDeque<LoggedRequest>>>>,
}

#[derive(Default)]
#[repr(align(128))]
struct Shard {
    answers: [AtomicU64; CLASSES.len()],
    upstream: Histogram,
    queued: Histogram,
    received: AtomicU64,
    sent: AtomicU64,
    refused: AtomicU64,
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meter(…)")
    }
}

impl Meter {
    fn shard(&self) -> &Shard {
        let shards = self.shards.get_or_init(|| {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            (0..cores).map(|_| Shard::default()).collect()
        });
        &shards[thread_number() % shards.len()]
    }

    /// Writes a request down, and forgets the oldest where there are many.
    pub(crate) fn log(&self, request: LoggedRequest) {
        let mut logged = self.logged.get_or_init(Box::default).lock().unwrap_or_else(PoisonError::into_inner);
        if logged.len() == LOGGED {
            logged.pop_front();
        }
        logged.push_back(request);
    }

    /// The last requests that were written down, the newest first.
    pub fn logged(&self) -> Vec<LoggedRequest> {
        let Some(logged) = self.logged.get() else { return Vec::new() };
        logged.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
    }

    /// Forgets what was written down.
    pub fn forget_logged(&self) {
        if let Some(logged) = self.logged.get() {
            logged.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    /// An answer with this status has begun.
    pub(crate) fn answered(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        add(&self.shard().answers[class], 1);
    }

    /// A replica began its answer after this long.
    pub(crate) fn upstream(&self, took: Duration) {
        self.shard().upstream.add(took);
    }

    /// A request waited this long for its turn, at a replica that was awake.
    pub(crate) fn queued(&self, took: Duration) {
        self.shard().queued.add(took);
    }

    /// There was no place for a request to wait.
    pub(crate) fn refused(&self) {
        add(&self.shard().refused, 1);
    }

    /// Bytes of a body came from a client.
    pub(crate) fn received(&self, bytes: usize) {
        add(&self.shard().received, bytes as u64);
    }

    /// Bytes of a body went to a client.
    pub(crate) fn sent(&self, bytes: usize) {
        add(&self.shard().sent, bytes as u64);
    }

    /// What has been counted so far; `None` when nothing was ever asked of the app.
    pub fn read(&self) -> Option<Reading> {
        let shards = self.shards.get()?;
        let mut reading = Reading::default();
        for shard in shards {
            for (sum, count) in reading.answers.iter_mut().zip(&shard.answers) {
                *sum += count.load(Ordering::Relaxed);
            }
            shard.upstream.add_to(&mut reading.upstream);
            shard.queued.add_to(&mut reading.queued);
            reading.received += shard.received.load(Ordering::Relaxed);
            reading.sent += shard.sent.load(Ordering::Relaxed);
            reading.refused += shard.refused.load(Ordering::Relaxed);
        }
        for (rung, histogram) in reading.wakes.iter_mut().zip(&self.wakes.took) {
            histogram.add_to(rung);
        }
        Some(reading)
    }
}

/// What a meter showed at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reading {
    /// Answers, by [`CLASSES`].
    pub answers: [u64; CLASSES.len()],
    /// From handing a request to a replica until its answer began.
    pub upstream: Distribution,
    /// Waiting for a turn at a replica that is awake, of those who had to.
    pub queued: Distribution,
    /// From the first need of a replica until one was awake, by [`Rung`].
    pub wakes: [Distribution; 2],
    /// Bytes of bodies and frames that clients sent.
    pub received: u64,
    /// Bytes of bodies and frames that were sent to clients.
    pub sent: u64,
    /// Requests for which there was no place to wait.
    pub refused: u64,
}

impl Reading {
    /// Adds what another meter showed.
    pub fn add(&mut self, other: &Self) {
        for (sum, count) in self.answers.iter_mut().zip(other.answers) {
            *sum += count;
        }
        self.upstream.add(&other.upstream);
        self.queued.add(&other.queued);
        for (sum, wakes) in self.wakes.iter_mut().zip(&other.wakes) {
            sum.add(wakes);
        }
        self.received += other.received;
        self.sent += other.sent;
        self.refused += other.refused;
    }
}

/// How long something took, over and over.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Distribution {
    /// How often it took no longer than [`BUCKETS`] say, and longer than the bucket before; the last one is beyond.
    pub counts: [u64; BUCKETS.len() + 1],
    /// Altogether.
    pub sum: Duration,
}

impl Distribution {
    fn add(&mut self, other: &Self) {
        for (sum, count) in self.counts.iter_mut().zip(other.counts) {
            *sum += count;
        }
        self.sum += other.sum;
    }
}

#[derive(Debug, Default)]
struct Histogram {
    counts: [AtomicU64; BUCKETS.len() + 1],
    micros: AtomicU64,
}

impl Histogram {
    fn add(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.partition_point(|bound| *bound < micros);
        add(&self.counts[bucket], 1);
        add(&self.micros, micros);
    }

    fn add_to(&self, sum: &mut Distribution) {
        for (sum, count) in sum.counts.iter_mut().zip(&self.counts) {
            *sum += count.load(Ordering::Relaxed);
        }
        sum.sum += Duration::from_micros(self.micros.load(Ordering::Relaxed));
    }
}

fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

/// A small number that differs from thread to thread.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.try_with(|number| *number).unwrap_or_default()
}

/// From how deep a sleep an app wakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rung {
    /// A frozen replica is thawed.
    Hibernated,
    /// A replica is started.
    Stopped,
}

impl Rung {
    /// All of them, as they are counted.
    pub const ALL: [Self; 2] = [Self::Hibernated, Self::Stopped];

    /// The word that numbers are labelled with.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hibernated => "hibernated",
            Self::Stopped => "stopped",
        }
    }
}

/// How long waking took, as those who waited felt it.
#[derive(Debug, Default)]
pub struct Wakes {
    /// Since when one is under way: the moment in milliseconds plus one. Zero: none is.
    since: AtomicU64,
    took: [Histogram; 2],
    recent: [Mutex<VecDeque<Duration>>; 2],
}

impl Wakes {
    /// Since when somebody has been waiting for a wake that is under way.
    pub fn since(&self) -> Option<Moment> {
        self.since.load(Ordering::Relaxed).checked_sub(1).map(Moment::from_millis)
    }

    /// How long waking is likely to take, from the last times: three of four took no longer.
    pub fn expected(&self, rung: Rung) -> Option<Duration> {
        let recent = self.recent[rung as usize].lock().unwrap_or_else(PoisonError::into_inner);
        let mut sorted: Vec<Duration> = recent.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get((sorted.len() * 3).div_ceil(4).checked_sub(1)?).copied()
    }

    fn took(&self, rung: Rung, took: Duration) {
        self.took[rung as usize].add(took);
        let mut recent = self.recent[rung as usize].lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() == REMEMBERED {
            recent.pop_front();
        }
        recent.push_back(took);
    }
}

/// A wake that is under way. Dropped before its [end](Waking::end), it came to nothing.
#[derive(Debug)]
pub(crate) struct Waking {
    meter: Arc<Meter>,
    rung: Rung,
    since: Moment,
}

impl Waking {
    /// Somebody needs a replica, and none is awake. `None`: somebody else said so before, and tells when it ends.
    pub(crate) fn begin(meter: &Arc<Meter>, rung: Rung, now: Moment) -> Option<Self> {
        let mark = now.as_millis() + 1;
        let first = meter.wakes.since.compare_exchange(0, mark, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        first.then(|| Self { meter: Arc::clone(meter), rung, since: now })
    }

    /// A replica is awake.
    pub(crate) fn end(self, now: Moment) {
        self.meter.wakes.took(self.rung, now - self.since);
    }

    pub(crate) fn since(&self) -> Moment {
        self.since
    }
}

impl Drop for Waking {
    fn drop(&mut self) {
        self.meter.wakes.since.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_threads_count_is_added_up() {
        let meter = Meter::default();
        assert_eq!(meter.read(), None);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    meter.answered(StatusCode::NOT_FOUND);
                    meter.answered(StatusCode::from_u16(999).unwrap());
                    meter.upstream(Duration::from_millis(5));
                    meter.upstream(Duration::from_secs(100));
                    meter.sent(10);
                });
            }
        });
        let reading = meter.read().unwrap();
        assert_eq!((reading.answers, reading.sent), ([0, 0, 0, 4, 4], 40));
        assert_eq!((reading.upstream.counts[1], reading.upstream.counts[BUCKETS.len()]), (4, 4));
        assert_eq!(reading.upstream.sum, Duration::from_millis(400_020));
    }

    #[test]
    fn a_wake_is_counted_once_from_its_first_need_and_expected_as_it_was() {
        let meter = Arc::new(Meter::default());
        let at = Moment::from_millis;
        assert_eq!(meter.wakes.expected(Rung::Hibernated), None);
        let waking = Waking::begin(&meter, Rung::Hibernated, at(0)).unwrap();
        assert!(Waking::begin(&meter, Rung::Stopped, at(30)).is_none());
        assert_eq!(meter.wakes.since(), Some(at(0)));
        waking.end(at(40));
        assert_eq!(meter.wakes.expected(Rung::Hibernated), Some(Duration::from_millis(40)));
        assert_eq!((meter.wakes.expected(Rung::Stopped), meter.wakes.since()), (None, None));
        for took in [10, 20, 900, 30] {
            Waking::begin(&meter, Rung::Stopped, at(100)).unwrap().end(at(100 + took));
        }
        drop(Waking::begin(&meter, Rung::Stopped, at(0)).unwrap());
        assert_eq!(meter.wakes.since(), None);
        assert_eq!(meter.wakes.expected(Rung::Stopped), Some(Duration::from_millis(30)));
    }
}
