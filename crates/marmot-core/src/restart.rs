//! When a replica that ended may be started again, and when to stop trying.

use std::time::Duration;

use crate::Moment;

/// How long a replica must have been ready for its end not to count as one more failure in a row.
pub const STABLE_AFTER: Duration = Duration::from_secs(3);
/// Failures in a row after which starting stops.
pub const GIVE_UP_AFTER: u32 = 5;
/// Failures in a row after which starting stops for a revision that was never ready: it most likely never will be.
pub const GIVE_UP_UNPROVEN_AFTER: u32 = 3;
/// After giving up, the next request may try once more after this long (a full disk or a dead database may be back).
pub const TRY_AGAIN_AFTER: Duration = Duration::from_secs(300);

/// After what is no fault of the program's, starting is tried again this often, for as long as it is wanted.
pub const KEPT_FROM_DELAY: Duration = Duration::from_secs(3);

const FIRST_DELAY: Duration = Duration::from_secs(1);

/// The recent failures of one revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Failures {
    in_a_row: u32,
    last: Option<Moment>,
    /// Since the last of them something else kept a replica from starting.
    kept_from: Option<Moment>,
}

/// Whether a replica may be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Now.
    Start,
    /// Not before this moment.
    Wait(Moment),
    /// Only when somebody asks again, and not before this moment.
    GaveUp(Moment),
}

impl Failures {
    /// Notes that a replica ended by itself, having been ready since `ready`, if it ever was.
    pub fn ended(&mut self, now: Moment, ready: Option<Moment>) {
        if ready.is_some_and(|since| now - since >= STABLE_AFTER) {
            self.in_a_row = 0;
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        (self.last, self.kept_from) = (Some(now), None);
    }

    /// Notes that a replica could not be started because of what its program has no part in. That is no failure in a row:
    /// it says nothing about the next attempt after it is over.
    pub fn kept_from_starting(&mut self, now: Moment) {
        self.kept_from = Some(now);
    }

    /// How many replicas failed in a row.
    pub fn in_a_row(&self) -> u32 {
        self.in_a_row
    }

    /// When the last replica failed.
    pub fn last(&self) -> Option<Moment> {
        self.last
    }

    /// Whether a replica may be started at `now`. `proven`: the revision has been ready before.
    ///
    /// The first end in a row is answered at once, the next ones after 1, 2, 4, … seconds.
    pub fn verdict(&self, now: Moment, proven: bool) -> Verdict {
        if let Some(kept) = self.kept_from.filter(|_| !self.gave_up(proven)) {
            let at = kept + KEPT_FROM_DELAY;
            return if at <= now { Verdict::Start } else { Verdict::Wait(at) };
        }
        let Some(last) = self.last else { return Verdict::Start };
        let limit = if proven { GIVE_UP_AFTER } else { GIVE_UP_UNPROVEN_AFTER };
        let (at, verdict): (Moment, fn(Moment) -> Verdict) = if self.in_a_row >= limit {
            (last + TRY_AGAIN_AFTER, Verdict::GaveUp)
        } else {
            let delay = match self.in_a_row {
                0 | 1 => Duration::ZERO,
                n => FIRST_DELAY * 2u32.saturating_pow(n - 2),
            };
            (last + delay, Verdict::Wait)
        };
        if at <= now { Verdict::Start } else { verdict(at) }
    }

    /// Whether starting has stopped: nothing is tried until somebody asks.
    pub fn gave_up(&self, proven: bool) -> bool {
        self.in_a_row >= if proven { GIVE_UP_AFTER } else { GIVE_UP_UNPROVEN_AFTER }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::from_millis(seconds * 1000)
    }

    #[test]
    fn a_killed_replica_is_replaced_at_once() {
        let mut failures = Failures::default();
        failures.ended(at(100), Some(at(10)));
        assert_eq!(failures.verdict(at(100), true), Verdict::Start);
    }

    #[test]
    fn a_crash_loop_is_slowed_down_and_given_up() {
        let mut failures = Failures::default();
        let delays: Vec<_> = (0..4)
            .map(|_| {
                failures.ended(at(100), None);
                failures.verdict(at(100), true)
            })
            .collect();
        assert_eq!(
            delays,
            [Verdict::Start, Verdict::Wait(at(101)), Verdict::Wait(at(102)), Verdict::Wait(at(104))]
        );
        failures.ended(at(104), None);
        assert_eq!(failures.verdict(at(105), true), Verdict::GaveUp(at(404)));
        assert_eq!(failures.verdict(at(404), true), Verdict::Start);
        assert!(failures.gave_up(true));
    }

    #[test]
    fn a_revision_that_was_never_ready_is_given_up_sooner() {
        let mut failures = Failures::default();
        (0..3).for_each(|_| failures.ended(at(1), None));
        assert!(failures.gave_up(false));
        assert!(!failures.gave_up(true));
    }

    #[test]
    fn what_is_no_fault_of_the_programs_is_tried_again_and_never_given_up() {
        let mut failures = Failures::default();
        for minute in 0..60 {
            failures.kept_from_starting(at(minute * 60));
            assert_eq!(failures.verdict(at(minute * 60), false), Verdict::Wait(at(minute * 60 + 3)));
            assert_eq!(failures.verdict(at(minute * 60 + 3), false), Verdict::Start);
        }
        assert!(!failures.gave_up(false));
        failures.ended(at(4000), None);
        assert_eq!((failures.in_a_row(), failures.verdict(at(4000), false)), (1, Verdict::Start));
    }

    #[test]
    fn a_stable_time_forgives_what_was_before() {
        let mut failures = Failures::default();
        (0..4).for_each(|_| failures.ended(at(1), None));
        failures.ended(at(20), Some(at(17)));
        assert_eq!(failures.in_a_row(), 1);
    }
}
