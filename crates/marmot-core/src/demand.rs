//! How much an app is wanted right now: counted by the gateway, read by the engine, without a lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Clock, Moment};

/// The counters of one app. Each is changed by a guard, so that it is right after panics and disconnects.
#[derive(Debug)]
pub struct Demand {
    in_flight: Meter,
    held: Meter,
    sessions: Meter,
    /// Milliseconds plus one; zero is *never*.
    last_activity: AtomicU64,
    /// Milliseconds plus one; zero is *never*.
    put_to_rest: AtomicU64,
    clock: Clock,
}

/// What the counters of an app showed at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DemandSample {
    /// Requests that a replica is working on.
    pub in_flight: u64,
    /// Requests (and frames of open connections) that wait for a replica to wake.
    pub held: u64,
    /// Open WebSockets and event streams, silent ones too.
    pub sessions: u64,
    /// When a request, or data on an open connection, last passed.
    pub last_activity: Option<Moment>,
    /// When somebody last asked for the app to sleep now.
    pub put_to_rest: Option<Moment>,
}

/// A level and its area: what it has amounted to over time, so that its average over any stretch is known exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// How many there are at the moment.
    pub level: u64,
    /// The level summed over the milliseconds so far, [modulo 2⁴⁴](Load::rise): only differences mean anything.
    pub area: u64,
}

/// A counter that also knows its area: the level in the low bits, in the high ones what the area is when the level's
/// own part, level × now, is added.
///
/// One atomic addition changes both, so a reader never sees one without the other.
#[derive(Debug, Default)]
struct Meter(AtomicU64);

impl Meter {
    /// A million at the same time: more than there are ports.
    const LEVEL_BITS: u32 = 20;
    const LEVEL: u64 = (1 << Self::LEVEL_BITS) - 1;

    fn rise(&self, now: Moment) {
        let since = now.as_millis().wrapping_neg() << Self::LEVEL_BITS;
        self.0.fetch_add(since.wrapping_add(1), Ordering::Relaxed);
    }

    fn fall(&self, now: Moment) {
        let until = now.as_millis() << Self::LEVEL_BITS;
        self.0.fetch_add(until.wrapping_sub(1), Ordering::Relaxed);
    }

    fn level(&self) -> u64 {
        self.0.load(Ordering::Relaxed) & Self::LEVEL
    }

    fn load(&self, now: Moment) -> Load {
        let word = self.0.load(Ordering::Relaxed);
        let level = word & Self::LEVEL;
        let area = (word >> Self::LEVEL_BITS).wrapping_add(level.wrapping_mul(now.as_millis()));
        Load { level, area: area & Load::AREA }
    }
}

impl Load {
    const AREA: u64 = (1 << (64 - Meter::LEVEL_BITS)) - 1;

    /// How much area came since `before`. Nothing when it seems to have shrunk: then two clocks were read at once.
    pub fn rise(self, before: Self) -> u64 {
        let rise = self.area.wrapping_sub(before.area) & Self::AREA;
        if rise > Self::AREA / 2 { 0 } else { rise }
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { level: self.level + other.level, area: self.area.wrapping_add(other.area) & Self::AREA }
    }
}

impl Default for Demand {
    /// Counters on a clock that stands still: they know levels, but no areas.
    fn default() -> Self {
        Self::new(Clock::new(|| Moment::START))
    }
}

impl Demand {
    /// Counters that have seen nothing yet.
    pub fn new(clock: Clock) -> Self {
        Self {
            in_flight: Meter::default(),
            held: Meter::default(),
            sessions: Meter::default(),
            last_activity: AtomicU64::default(),
            put_to_rest: AtomicU64::default(),
            clock,
        }
    }

    /// Counts a request that a replica is working on, until the guard is dropped.
    pub fn request(self: &Arc<Self>) -> Counted {
        Counted::new(self, |demand| &demand.in_flight)
    }

    /// Counts something that waits for the app to wake, until the guard is dropped.
    pub fn hold(self: &Arc<Self>) -> Counted {
        Counted::new(self, |demand| &demand.held)
    }

    /// Counts an open WebSocket or event stream, until the guard is dropped.
    pub fn session(self: &Arc<Self>) -> Counted {
        Counted::new(self, |demand| &demand.sessions)
    }

    /// Notes that somebody used the app, or asked for it to be awake.
    pub fn touch(&self, now: Moment) {
        self.last_activity.fetch_max(now.as_millis() + 1, Ordering::Relaxed);
    }

    /// Notes that somebody asked for the app to sleep without waiting for it to become idle.
    pub fn put_to_rest(&self, now: Moment) {
        self.put_to_rest.fetch_max(now.as_millis() + 1, Ordering::Relaxed);
    }

    /// The counters as they are.
    pub fn sample(&self) -> DemandSample {
        let moment = |at: &AtomicU64| at.load(Ordering::Relaxed).checked_sub(1).map(Moment::from_millis);
        DemandSample {
            in_flight: self.in_flight.level(),
            held: self.held.level(),
            sessions: self.sessions.level(),
            last_activity: moment(&self.last_activity),
            put_to_rest: moment(&self.put_to_rest),
        }
    }

    /// The requests under way and waiting.
    pub fn requests(&self) -> Load {
        let now = self.clock.now();
        self.in_flight.load(now).and(self.held.load(now))
    }

    /// The open connections, and what waits.
    pub fn sessions(&self) -> Load {
        let now = self.clock.now();
        self.sessions.load(now).and(self.held.load(now))
    }
}

/// Keeps one of an app's counters raised by one.
#[derive(Debug)]
#[must_use = "dropping it takes the count back"]
pub struct Counted {
    demand: Arc<Demand>,
    meter: fn(&Demand) -> &Meter,
}

impl Counted {
    fn new(demand: &Arc<Demand>, meter: fn(&Demand) -> &Meter) -> Self {
        meter(demand).rise(demand.clock.now());
        Self { demand: Arc::clone(demand), meter }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.meter)(&self.demand).fall(self.demand.clock.now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_is_under_way_and_takes_it_back_when_dropped() {
        let demand = Arc::new(Demand::default());
        let (request, held, session) = (demand.request(), demand.hold(), demand.session());
        let second = demand.request();
        let sample = demand.sample();
        assert_eq!((sample.in_flight, sample.held, sample.sessions), (2, 1, 1));
        drop((request, held, session, second));
        assert_eq!(demand.sample(), DemandSample::default());
    }

    #[test]
    fn remembers_the_latest_activity_whatever_the_order_of_the_notes() {
        let demand = Demand::default();
        assert_eq!(demand.sample().last_activity, None);
        demand.touch(Moment::START);
        assert_eq!(demand.sample().last_activity, Some(Moment::START));
        demand.touch(Moment::from_millis(70));
        demand.touch(Moment::from_millis(60));
        assert_eq!(demand.sample().last_activity, Some(Moment::from_millis(70)));
    }

    #[test]
    fn knows_what_the_level_has_amounted_to() {
        let millis = Arc::new(AtomicU64::new(0));
        let told = Arc::clone(&millis);
        let demand =
            Arc::new(Demand::new(Clock::new(move || Moment::from_millis(told.load(Ordering::Relaxed)))));
        let at = |now| millis.store(now, Ordering::Relaxed);
        at(1_000);
        let before = demand.requests();
        let first = demand.request();
        at(1_500);
        let second = demand.hold();
        at(2_000);
        // One for a second, another for half of it.
        assert_eq!((demand.requests().level, demand.requests().rise(before)), (2, 1_500));
        drop((first, second));
        at(9_000);
        assert_eq!((demand.requests().level, demand.requests().rise(before)), (0, 1_500));
        let _session = demand.session();
        at(9_100);
        assert_eq!(demand.sessions().level, 1);
    }

    #[test]
    fn a_clock_read_twice_at_once_takes_nothing_away() {
        let (early, late) = (Load { level: 0, area: 7 }, Load { level: 0, area: 9 });
        assert_eq!((early.rise(late), late.rise(early)), (0, 2));
        assert_eq!(Load { level: 0, area: 1 }.rise(Load { level: 0, area: Load::AREA }), 2);
    }
}
