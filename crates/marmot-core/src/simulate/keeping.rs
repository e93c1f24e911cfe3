//! The policies that are compared, and the same policy at another price.

use std::time::Duration;

use super::{Report, Trace, run};
use crate::scaling::Policy;

/// How an app is kept for its next visit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeping {
    /// It runs on for so long.
    Fixed(Duration),
    /// Knative's defaults: a window of 60 s, and 30 s of grace.
    Knative,
    /// The hybrid histogram of "Serverless in the Wild".
    Hybrid,
    /// The ladder: hibernated for so long, or as past visits tell.
    Marmot {
        /// When it is hibernated.
        idle_after: Duration,
        /// When it sleeps deep, where nothing is known of it.
        deepen_after: Duration,
        /// When it is stopped, where nothing is known of it.
        stop_after: Duration,
        /// Past visits are looked at.
        foresight: bool,
    },
}

impl Keeping {
    /// Marmot as it comes.
    pub fn marmot() -> Self {
        let Policy { idle_after, deepen_after, stop_after, foresight, .. } = Policy::default();
        Self::Marmot { idle_after, deepen_after, stop_after, foresight }
    }

    /// The same with times for a machine on which memory counts most: an app sleeps seconds after it was used, and deep
    /// after minutes. Others stay as they are.
    #[must_use]
    pub fn thrifty(self) -> Self {
        match self {
            Self::Marmot { stop_after, foresight, .. } => Self::Marmot {
                idle_after: Duration::from_secs(10),
                deepen_after: Duration::from_secs(300),
                stop_after,
                foresight,
            },
            other => other,
        }
    }

    /// The rules that the replicas of every app live by.
    pub fn policy(self) -> Policy {
        let stops =
            Policy { can_hibernate: false, zero_grace: Duration::ZERO, max_replicas: 3, ..Policy::default() };
        match self {
            Self::Fixed(keep) => Policy { idle_after: keep, foresight: false, ..stops },
            Self::Knative => Policy {
                idle_after: Duration::from_secs(60),
                zero_grace: Duration::from_secs(30),
                foresight: false,
                ..stops
            },
            Self::Hybrid => Policy { idle_after: Duration::ZERO, ..stops },
            Self::Marmot { idle_after, deepen_after, stop_after, foresight } => {
                Policy { can_hibernate: true, idle_after, deepen_after, stop_after, foresight, ..stops }
            }
        }
    }

    /// The same, hibernating for so long where nothing is known. Others stay as they are.
    fn for_hours(self, hours: f64) -> Self {
        match self {
            Self::Marmot { idle_after, deepen_after, foresight, .. } => {
                let stop_after = Duration::from_secs_f64(hours * 3600.0);
                Self::Marmot { idle_after, deepen_after, stop_after, foresight }
            }
            other => other,
        }
    }
}

/// The policy with the longest time hibernated that costs at most `gb_hours`, and what it does.
pub fn at_gb_hours(trace: &Trace, keeping: Keeping, gb_hours: f64) -> (Keeping, Report) {
    search(trace, keeping, |report| report.gb_hours() <= gb_hours)
}

/// The policy with the shortest time hibernated that has at most so many cold starts, and what it does.
pub fn at_most_cold(trace: &Trace, keeping: Keeping, cold: u64) -> (Keeping, Report) {
    let (keeping, _) = search(trace, keeping, |report| report.cold > cold);
    // The step after the last that has more.
    let Keeping::Marmot { stop_after, .. } = keeping else { return (keeping, run(trace, keeping)) };
    let next = keeping.for_hours(stop_after.as_secs_f64() / 3600.0 * STEP);
    (next, run(trace, next))
}

/// A year, in hours: the longest time that may be said.
const LONGEST: f64 = 8_760.0;
/// How much finer the search does not go.
const STEP: f64 = 1.05;

/// The longest time hibernated for which `holds`, which it does up to some time.
fn search(trace: &Trace, keeping: Keeping, holds: impl Fn(&Report) -> bool) -> (Keeping, Report) {
    let (mut low, mut high) = (0.02_f64, LONGEST);
    let mut best = keeping.for_hours(low);
    let mut report = run(trace, best);
    while high / low > STEP {
        let middle = (low * high).sqrt();
        let tried = keeping.for_hours(middle);
        let result = run(trace, tried);
        if holds(&result) {
            (low, best, report) = (middle, tried, result);
        } else {
            high = middle;
        }
    }
    (best, report)
}
