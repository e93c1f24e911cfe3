//! The rules an app's replicas live by.

use std::time::Duration;

use super::Concurrency;
use super::schedule::Schedule;

/// The rules an app's replicas live by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Without a request or data for this long, a replica is idle.
    pub idle_after: Duration,
    /// A hibernated replica is stopped after this long, if nothing is known of when its app is used.
    pub stop_after: Duration,
    /// A hibernated replica sleeps deeper after this long, if nothing is known of when its app is used: what it kept to
    /// wake quickly goes as well.
    pub deepen_after: Duration,
    /// A replica that is not ready by then has failed.
    pub start_timeout: Duration,
    /// How long a draining replica may finish what it works on.
    pub drain_timeout: Duration,
    /// Whether an idle replica can be frozen here. Without, it is stopped instead.
    pub can_hibernate: bool,
    /// Replicas that stay awake even without demand.
    pub min_replicas: u32,
    /// The most replicas there may be of one revision.
    pub max_replicas: u32,
    /// Replicas that a new revision is begun with.
    pub initial_replicas: u32,
    /// What one replica is meant to serve at the same time: the target that the number of replicas follows.
    pub concurrency: Concurrency,
    /// The most that one replica is given at the same time, of what `concurrency` counts. What is beyond it waits.
    pub limit: u32,
    /// How much of `concurrency` is aimed at, in percent: the rest is for what comes while more replicas start.
    pub utilisation: u32,
    /// The number of replicas follows the average demand over this long.
    pub stable_window: Duration,
    /// Sudden demand is recognised by its average over this long.
    pub panic_window: Duration,
    /// Demand is sudden when it is this much of what the ready replicas are meant for, in percent.
    pub panic_threshold: u32,
    /// At most so many times as many replicas at once.
    pub max_up_rate: u32,
    /// At most so many times fewer replicas at once.
    pub max_down_rate: u32,
    /// Where replicas cannot be frozen, the last one is kept for this much longer.
    pub zero_grace: Duration,
    /// A replica that is no longer needed is kept at most this long for the sessions it holds.
    pub max_session: Duration,
    /// A replica whose last session has ended is kept for this long, so that a connection that was lost can come back.
    pub linger: Duration,
    /// When a replica is kept awake, whoever comes.
    pub keep_warm: Vec<Schedule>,
    /// Whether past visits decide how long it pays to stay hibernated, and when to be ready before a visit.
    pub foresight: bool,
}

impl Default for Policy {
    /// What Knative's users know, one replica at most, and the ladder.
    fn default() -> Self {
        Self {
            idle_after: Duration::from_secs(120),
            stop_after: Duration::from_secs(12 * 3600),
            deepen_after: Duration::from_secs(4 * 3600),
            start_timeout: Duration::from_secs(120),
            drain_timeout: Duration::from_secs(30),
            can_hibernate: true,
            min_replicas: 0,
            max_replicas: 1,
            initial_replicas: 1,
            concurrency: Concurrency::Requests(100),
            limit: 100,
            utilisation: 70,
            stable_window: Duration::from_secs(60),
            panic_window: Duration::from_secs(6),
            panic_threshold: 200,
            max_up_rate: 1000,
            max_down_rate: 2,
            zero_grace: Duration::from_secs(30),
            max_session: Duration::from_secs(8 * 3600),
            // Streamlit keeps the state of a lost session for as long.
            linger: Duration::from_secs(120),
            keep_warm: Vec::new(),
            foresight: true,
        }
    }
}

impl Policy {
    /// What one replica is aimed to serve at the same time, in thousandths.
    pub fn target(&self) -> u64 {
        (u64::from(self.concurrency.count()) * 10 * u64::from(self.utilisation.clamp(1, 100))).max(1)
    }

    /// How many replicas a new revision is begun with.
    pub fn begin_with(&self) -> u32 {
        self.initial_replicas.max(1).min(self.most())
    }

    /// The most replicas there may be.
    pub fn most(&self) -> u32 {
        self.max_replicas.max(self.min_replicas).max(1)
    }
}
