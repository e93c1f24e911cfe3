//! How much an app is wanted right now: counted by the gateway, read by the engine, without a lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Moment;

/// The counters of one app. Each is changed by a guard, so that it is right after panics and disconnects.
#[derive(Debug, Default)]
pub struct Demand {
    in_flight: AtomicU64,
    held: AtomicU64,
    sessions: AtomicU64,
    /// Milliseconds plus one; zero is *never*.
    last_activity: AtomicU64,
    /// Milliseconds plus one; zero is *never*.
    put_to_rest: AtomicU64,
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

impl Demand {
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
            in_flight: self.in_flight.load(Ordering::Relaxed),
            held: self.held.load(Ordering::Relaxed),
            sessions: self.sessions.load(Ordering::Relaxed),
            last_activity: moment(&self.last_activity),
            put_to_rest: moment(&self.put_to_rest),
        }
    }
}

/// Keeps one of an app's counters raised by one.
#[derive(Debug)]
#[must_use = "dropping it takes the count back"]
pub struct Counted {
    demand: Arc<Demand>,
    counter: fn(&Demand) -> &AtomicU64,
}

impl Counted {
    fn new(demand: &Arc<Demand>, counter: fn(&Demand) -> &AtomicU64) -> Self {
        counter(demand).fetch_add(1, Ordering::Relaxed);
        Self { demand: Arc::clone(demand), counter }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.counter)(&self.demand).fetch_sub(1, Ordering::Relaxed);
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
}
