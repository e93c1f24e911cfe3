//! How much may be asked for at a time: by one visitor, with one key, of one project. Counted in atomic words of which
//! there is a fixed number: nobody waits for a lock, and no crowd of visitors takes more memory.

use std::fmt;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use marmot_core::Moment;

/// Each visitor is counted at this many places, and the least of them counts: two visitors are taken for one only where
/// they meet at all of them.
const ROWS: usize = 3;
/// Places of a row.
const COLUMNS: usize = 1 << 13;

/// So many at once, and then one more each `period`: a bucket that is filled again evenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    period: Duration,
    burst: u32,
}

impl Rate {
    /// `count` within each `window`, that many at once.
    ///
    /// `None` for no limit: when either is zero.
    pub fn of(count: u32, window: Duration) -> Option<Self> {
        let period = window.checked_div(count)?;
        (!period.is_zero()).then_some(Self { period, burst: count })
    }

    /// Never more than `count` within any `window`: half of them at once, and half of them in the course of it.
    pub fn at_most(count: u32, window: Duration) -> Option<Self> {
        let burst = count.div_ceil(2);
        let rest = (count - burst).max(1);
        Some(Self { burst, ..Self::of(rest, window)? }).filter(|_| count > 0)
    }

    /// How many there may be at once.
    pub fn burst(self) -> u32 {
        self.burst
    }

    /// In which time a bucket that is empty is full again.
    pub fn window(self) -> Duration {
        self.period * self.burst
    }

    /// Decides about one more at `now`, where `full_at` is when the bucket will be full again.
    fn decide(self, full_at: u64, now: u64) -> Result<u64, Duration> {
        let period = micros(self.period);
        let next = full_at.max(now).saturating_add(period);
        let depth = period.saturating_mul(u64::from(self.burst));
        match (next - now).checked_sub(depth) {
            None | Some(0) => Ok(next),
            Some(early) => Err(Duration::from_micros(early)),
        }
    }

    /// How many more there may be right now.
    fn left(self, full_at: u64, now: u64) -> u32 {
        let period = micros(self.period);
        let taken = full_at.saturating_sub(now).div_ceil(period);
        self.burst.saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX))
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn at(now: Moment) -> u64 {
    micros(now - Moment::START)
}

/// What is left of a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Left {
    /// So many more may be asked right now.
    pub(crate) count: u32,
    /// And as many as ever after this.
    pub(crate) full_after: Duration,
}

/// One that is counted by itself: when its bucket will be full again, in microseconds.
#[derive(Debug, Default)]
pub(crate) struct Bucket(AtomicU64);

impl Bucket {
    /// Takes one; how long to wait where there is none.
    pub(crate) fn take(&self, rate: Rate, now: Moment) -> Result<Left, Duration> {
        let now = at(now);
        let mut full_at = self.0.load(Ordering::Relaxed);
        loop {
            let next = rate.decide(full_at, now)?;
            match self.0.compare_exchange_weak(full_at, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    let full_after = Duration::from_micros(next - now);
                    return Ok(Left { count: rate.left(next, now), full_after });
                }
                Err(changed) => full_at = changed,
            }
        }
    }
}

/// Buckets for however many visitors.
pub(crate) struct Buckets {
    hasher: RandomState,
    full_at: Box<[AtomicU64]>,
}

impl Default for Buckets {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            full_at: (0..ROWS * COLUMNS).map(|_| AtomicU64::default()).collect(),
        }
    }
}

impl Buckets {
    /// Takes one for `who`; how long to wait where there is none.
    pub(crate) fn take(&self, who: impl Hash, rate: Rate, now: Moment) -> Result<(), Duration> {
        let places = places(&self.hasher, who);
        let next = rate.decide(self.full_at(places), at(now))?;
        for place in places {
            self.full_at[place].fetch_max(next, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether there is one for `who`, without taking it.
    pub(crate) fn peek(&self, who: impl Hash, rate: Rate, now: Moment) -> Result<(), Duration> {
        rate.decide(self.full_at(places(&self.hasher, who)), at(now)).map(|_| ())
    }

    fn full_at(&self, places: [usize; ROWS]) -> u64 {
        let words = places.iter().map(|&place| self.full_at[place].load(Ordering::Relaxed));
        words.min().unwrap_or_default()
    }
}

/// How many things are under way, of however many visitors.
pub(crate) struct Census {
    hasher: RandomState,
    counts: Box<[AtomicU32]>,
}

impl Default for Census {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            counts: (0..ROWS * COLUMNS).map(|_| AtomicU32::default()).collect(),
        }
    }
}

/// One thing that is under way.
pub(crate) struct Counted {
    census: Arc<Census>,
    places: [usize; ROWS],
}

impl fmt::Debug for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counted").finish_non_exhaustive()
    }
}

impl Census {
    /// Counts one more of `who`. `None`: that would be more than `most`.
    pub(crate) fn enter(self: &Arc<Self>, who: impl Hash, most: u32) -> Option<Counted> {
        let counted = Counted { places: places(&self.hasher, who), census: Arc::clone(self) };
        let add = |&place: &usize| self.counts[place].fetch_add(1, Ordering::Relaxed);
        let before = counted.places.iter().map(add).min().unwrap_or_default();
        (before < most).then_some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        for &place in &self.places {
            self.census.counts[place].fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A place in each row.
fn places(hasher: &RandomState, who: impl Hash) -> [usize; ROWS] {
    let hash = hasher.hash_one(who);
    std::array::from_fn(|row| row * COLUMNS + (hash >> (row * 20)) as usize % COLUMNS)
}

/// Counts up to a limit. The guard that it gives counts down again.
#[derive(Debug, Default)]
pub(crate) struct Inside(AtomicU32);

impl Inside {
    /// Counts one more. False: that would be more than `most`.
    pub(crate) fn enter(&self, most: u32) -> bool {
        let enter = |inside: u32| (inside < most).then_some(inside + 1);
        self.0.try_update(Ordering::Relaxed, Ordering::Relaxed, enter).is_ok()
    }

    pub(crate) fn leave(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What all apps of a project may be asked for together. The same for all of the project's life in this process.
#[derive(Debug)]
pub struct Ceiling {
    rate: Option<Rate>,
    most: u32,
    bucket: Bucket,
    inside: Inside,
}

impl Ceiling {
    /// At this rate, and this many at the same time.
    pub fn new(rate: Option<Rate>, most: u32) -> Self {
        Self { rate, most, bucket: Bucket::default(), inside: Inside::default() }
    }

    /// Takes one of the rate; how long to wait where there is none.
    pub(crate) fn take(&self, now: Moment) -> Result<Option<Rate>, (Rate, Duration)> {
        let Some(rate) = self.rate else { return Ok(None) };
        self.bucket.take(rate, now).map(|_| Some(rate)).map_err(|wait| (rate, wait))
    }

    /// Counts one request more. `None`: there are as many as there may be.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Under> {
        self.inside.enter(self.most).then(|| Under(Arc::clone(self)))
    }
}

/// A request to an app of a project.
#[derive(Debug)]
pub(crate) struct Under(Arc<Ceiling>);

impl Drop for Under {
    fn drop(&mut self) {
        self.0.inside.leave();
    }
}

/// What a key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quota {
    /// How often; `None` for as often as one likes.
    pub rate: Option<Rate>,
    /// How many requests at the same time; `None` for as many as one likes.
    pub at_once: Option<u32>,
}

/// How a link or key has been used, since somebody last asked, and what of its quota is taken. The same for all of its
/// life in this process.
#[derive(Debug, Default)]
pub struct Usage {
    uses: AtomicU64,
    /// In milliseconds since 1970; zero for never.
    last: AtomicU64,
    bucket: Bucket,
    inside: Inside,
}

impl Usage {
    /// Counts a use at `now`, since 1970.
    pub(crate) fn used(&self, now: Duration) {
        self.uses.fetch_add(1, Ordering::Relaxed);
        self.seen(now);
    }

    /// Notes a use that is part of another.
    pub(crate) fn seen(&self, now: Duration) {
        self.last.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Uses since this was last asked, and when the last one was, in milliseconds since 1970. `None`: there were none.
    pub fn take(&self) -> Option<(u64, u64)> {
        match (self.uses.swap(0, Ordering::Relaxed), self.last.swap(0, Ordering::Relaxed)) {
            (0, 0) => None,
            taken => Some(taken),
        }
    }

    /// Gives back what was taken but could not be noted.
    pub fn put_back(&self, (uses, last): (u64, u64)) {
        self.uses.fetch_add(uses, Ordering::Relaxed);
        self.last.fetch_max(last, Ordering::Relaxed);
    }

    pub(crate) fn take_one(&self, rate: Rate, now: Moment) -> Result<Left, Duration> {
        self.bucket.take(rate, now)
    }

    pub(crate) fn enter(self: &Arc<Self>, most: u32) -> Option<InUse> {
        self.inside.enter(most).then(|| InUse(Arc::clone(self)))
    }
}

/// A request with a key.
#[derive(Debug)]
pub(crate) struct InUse(Arc<Usage>);

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.inside.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn second(second: u64) -> Moment {
        Moment::START + Duration::from_secs(second)
    }

    #[test]
    fn a_bucket_is_emptied_at_once_and_fills_again_evenly() {
        let (bucket, rate) = (Bucket::default(), Rate::of(3, Duration::from_secs(60)).unwrap());
        let left: Vec<u32> = (0..3).map(|_| bucket.take(rate, second(5)).unwrap().count).collect();
        assert_eq!(left, [2, 1, 0]);
        assert_eq!(bucket.take(rate, second(5)), Err(Duration::from_secs(20)));
        assert_eq!(bucket.take(rate, second(24)), Err(Duration::from_secs(1)));
        let last = bucket.take(rate, second(25)).unwrap();
        assert_eq!(last, Left { count: 0, full_after: Duration::from_secs(60) });
        assert_eq!(bucket.take(rate, second(1000)).unwrap().count, 2);
    }

    #[test]
    fn what_is_not_limited_has_no_rate() {
        assert_eq!(Rate::of(0, Duration::from_secs(1)), None);
        assert_eq!(Rate::of(1, Duration::ZERO), None);
        assert_eq!(Rate::at_most(0, Duration::from_secs(1)), None);
    }

    #[test]
    fn visitors_do_not_use_up_each_others_buckets_and_those_who_left_are_not_counted() {
        let (buckets, rate) = (Buckets::default(), Rate::of(2, Duration::from_secs(60)).unwrap());
        for who in 0..50 {
            assert!(buckets.take(who, rate, second(0)).is_ok());
            assert!(buckets.take(who, rate, second(0)).is_ok());
            assert!(buckets.take(who, rate, second(0)).is_err());
        }
        let census = Arc::new(Census::default());
        let first = census.enter("ada", 2).unwrap();
        let _second = census.enter("ada", 2).unwrap();
        assert!(census.enter("ada", 2).is_none());
        assert!(census.enter("bob", 2).is_some());
        drop(first);
        assert!(census.enter("ada", 2).is_some());
    }

    #[test]
    fn who_guesses_a_million_secrets_has_ten_tries_a_minute_and_the_others_theirs() {
        let (buckets, rate) = (Buckets::default(), crate::config::Limits::default().guess_rate.unwrap());
        let minutes = 1_000 / 60 + 1;
        // A thousand a second, for a thousand seconds.
        let tried = (0..1_000_000).filter(|&guess| {
            let now = Moment::START + Duration::from_millis(guess);
            buckets.take("guesser", rate, now).is_ok()
        });
        let tried = tried.count();
        assert!((10..=10 * minutes).contains(&tried), "{tried}");
        assert!(buckets.take("ada", rate, second(1_000)).is_ok());
    }

    proptest! {
        #[test]
        fn never_more_than_at_most_within_any_window(
            count in 1u32..40,
            steps in prop::collection::vec(0u64..9_000, 1..400),
        ) {
            let window = Duration::from_secs(60);
            let (bucket, rate) = (Bucket::default(), Rate::at_most(count, window).unwrap());
            let (mut now, mut taken) = (0, Vec::new());
            for step in steps {
                now += step;
                let moment = Moment::START + Duration::from_millis(now);
                if bucket.take(rate, moment).is_ok() {
                    taken.push(now);
                }
            }
            for (index, &first) in taken.iter().enumerate() {
                let within = taken[index..].iter().take_while(|&&at| at < first + 60_000).count();
                prop_assert!(within <= count.max(2) as usize, "{within} of {count}");
            }
        }
    }
}
