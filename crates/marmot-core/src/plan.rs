//! What should happen to an app's replicas now: scaling, the ladder and updates, as one function of facts.

use std::time::Duration;

use crate::Moment;
use crate::demand::DemandSample;
use crate::id::{ReplicaId, RevisionId};
use crate::restart::{Failures, TRY_AGAIN_AFTER, Verdict};
use crate::scaling::Concurrency;

/// The rules an app's replicas live by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Without a request or data for this long, a replica is idle.
    pub idle_after: Duration,
    /// A hibernated replica is stopped after this long.
    pub stop_after: Duration,
    /// A replica that is not ready by then has failed.
    pub start_timeout: Duration,
    /// How long a draining replica may finish what it works on.
    pub drain_timeout: Duration,
    /// Replicas that stay awake even without demand.
    pub min_replicas: u32,
    /// The most replicas there may be of one revision.
    pub max_replicas: u32,
    /// What one replica is meant to serve at the same time: the target that the number of replicas follows.
    pub concurrency: Concurrency,
    /// The most that one replica is given at the same time, of what `concurrency` counts. What is beyond it waits.
    pub limit: u32,
    /// Whether an idle replica can be frozen here. Without, it is stopped instead.
    pub can_hibernate: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            idle_after: Duration::from_secs(120),
            stop_after: Duration::from_secs(12 * 3600),
            start_timeout: Duration::from_secs(120),
            drain_timeout: Duration::from_secs(30),
            min_replicas: 0,
            max_replicas: 1,
            concurrency: Concurrency::Requests(100),
            limit: 100,
            can_hibernate: true,
        }
    }
}

/// Where a replica is in its life, as far as planning cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Booting; not ready yet.
    Starting,
    /// Ready and awake.
    Running,
    /// Frozen.
    Hibernated,
    /// Finishing what it works on, then stopped.
    Draining,
}

/// What is known of one replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaFacts {
    /// Which replica.
    pub id: ReplicaId,
    /// Which revision it runs.
    pub revision: RevisionId,
    /// Where it is in its life.
    pub stage: Stage,
    /// Since when it is at this stage.
    pub since: Moment,
    /// How many requests are inside its gate.
    pub inside: u64,
    /// When it was last used.
    pub last_used: Moment,
    /// It computes on its own account, without being asked.
    pub busy: bool,
}

/// What is known of one app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppFacts<'a> {
    /// The revision that should serve, or `None`: nothing should run.
    pub wanted: Option<RevisionId>,
    /// The wanted revision has been ready before. Until then it is booted without waiting for a request.
    pub proven: bool,
    /// The demand it sees.
    pub demand: DemandSample,
    /// Its replicas.
    pub replicas: &'a [ReplicaFacts],
    /// The recent failures of the wanted revision.
    pub failures: Failures,
}

/// One thing to do. Each is idempotent: it is ordered again as long as the facts ask for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Start one more replica of the wanted revision.
    Start,
    /// Thaw this replica.
    Wake(ReplicaId),
    /// Freeze this replica, if its gate can be shut.
    Hibernate(ReplicaId),
    /// Let this replica finish its requests, then stop it.
    Drain(ReplicaId),
    /// Stop this replica: its time to finish is over, or it has nothing to finish.
    Stop(ReplicaId),
    /// End this replica as failed: it was not ready in time.
    FailStart(ReplicaId),
}

/// Why the number of awake replicas is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The app is off.
    Off,
    /// The revision has yet to show that it boots.
    FirstBoot,
    /// There are requests.
    Load,
    /// There were requests a moment ago.
    StillWarm,
    /// Nobody uses the app.
    Idle,
}

/// What to do now, and when to look again if nothing happens before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What to do now.
    pub orders: Vec<Order>,
    /// How many awake replicas are wanted.
    pub want: u32,
    /// Why so many.
    pub why: Why,
    /// When time alone changes the answer.
    pub again_at: Option<Moment>,
}

/// Decides what should happen to an app's replicas at `now`.
pub fn plan(now: Moment, policy: &Policy, app: &AppFacts<'_>) -> Plan {
    let (want, why) = awake_wanted(now, policy, app);
    let mut planner = Planner { now, policy, orders: Vec::new(), again_at: None };
    planner.finish_what_ends(app);
    let Some(wanted) = app.wanted else {
        planner.drain(app.replicas.iter());
        return planner.plan(want, why);
    };
    let (current, stale): (Vec<_>, Vec<_>) =
        app.replicas.iter().partition(|replica| replica.revision == wanted);
    let serves = |replica: &&&ReplicaFacts| matches!(replica.stage, Stage::Running | Stage::Hibernated);
    let updated = current.iter().any(|replica| serves(&replica));
    // Until the wanted revision serves, the one before it goes on serving beside it.
    let serving: Vec<&ReplicaFacts> = if updated {
        planner.drain(stale.iter().copied());
        current.iter().filter(serves).copied().collect()
    } else {
        planner.drain(stale.iter().copied().filter(|replica| replica.stage == Stage::Starting));
        stale.iter().filter(serves).copied().collect()
    };
    let starting = current.iter().filter(|replica| replica.stage == Stage::Starting).count();
    planner.wake_or_start(app, want, &serving, starting, current.len(), updated);
    planner.rest(want, why, &serving);
    planner.plan(want, why)
}

/// How many replicas should be awake, and why.
fn awake_wanted(now: Moment, policy: &Policy, app: &AppFacts<'_>) -> (u32, Why) {
    if app.wanted.is_none() {
        return (0, Why::Off);
    }
    let load = app.demand.in_flight + app.demand.held;
    if load > 0 {
        let needed = u32::try_from(load.div_ceil(u64::from(policy.concurrency.count()))).unwrap_or(u32::MAX);
        return (needed.max(policy.min_replicas).min(policy.max_replicas.max(1)), Why::Load);
    }
    if !app.proven && !app.failures.gave_up(false) {
        return (policy.min_replicas.max(1), Why::FirstBoot);
    }
    let rested = app.demand.put_to_rest >= app.demand.last_activity;
    match app.demand.last_activity {
        Some(used) if !rested && now < used + policy.idle_after => {
            (policy.min_replicas.max(1), Why::StillWarm)
        }
        _ => (policy.min_replicas, Why::Idle),
    }
}

struct Planner<'a> {
    now: Moment,
    policy: &'a Policy,
    orders: Vec<Order>,
    again_at: Option<Moment>,
}

impl Planner<'_> {
    fn plan(self, want: u32, why: Why) -> Plan {
        Plan { orders: self.orders, want, why, again_at: self.again_at }
    }

    fn look_again(&mut self, at: Moment) {
        self.again_at = Some(self.again_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// True when `at` has come; else notes to look again then.
    fn due(&mut self, at: Moment) -> bool {
        let due = at <= self.now;
        if !due {
            self.look_again(at);
        }
        due
    }

    /// Starts that took too long fail; drains that are done, or took too long, stop.
    fn finish_what_ends(&mut self, app: &AppFacts<'_>) {
        for replica in app.replicas {
            match replica.stage {
                Stage::Starting if self.due(replica.since + self.policy.start_timeout) => {
                    self.orders.push(Order::FailStart(replica.id));
                }
                Stage::Draining
                    if replica.inside == 0 || self.due(replica.since + self.policy.drain_timeout) =>
                {
                    self.orders.push(Order::Stop(replica.id));
                }
                _ => {}
            }
        }
    }

    fn drain<'r>(&mut self, replicas: impl Iterator<Item = &'r ReplicaFacts>) {
        for replica in replicas {
            match replica.stage {
                Stage::Running => self.orders.push(Order::Drain(replica.id)),
                // Nobody is inside a replica that is booting or frozen.
                Stage::Starting | Stage::Hibernated => self.orders.push(Order::Stop(replica.id)),
                Stage::Draining => {}
            }
        }
    }

    /// Brings the number of awake replicas up to `want`: thaws before it starts.
    fn wake_or_start(
        &mut self,
        app: &AppFacts<'_>,
        want: u32,
        serving: &[&ReplicaFacts],
        starting: usize,
        existing: usize,
        updated: bool,
    ) {
        let awake = serving.iter().filter(|replica| replica.stage == Stage::Running).count();
        let mut missing = (want as usize).saturating_sub(awake);
        let hibernated = serving.iter().filter(|replica| replica.stage == Stage::Hibernated);
        // The one used last has most of its memory still at hand.
        let mut hibernated: Vec<_> = hibernated.collect();
        hibernated.sort_by_key(|replica| (std::cmp::Reverse(replica.last_used), replica.id));
        for replica in hibernated.into_iter().take(missing) {
            self.orders.push(Order::Wake(replica.id));
            missing -= 1;
        }
        // An update boots one replica of the new revision, whatever still serves from the old one.
        let wanted_starts = if updated || serving.is_empty() { missing } else { missing.max(1) };
        let room = (self.policy.max_replicas.max(1) as usize).saturating_sub(existing);
        let starts = wanted_starts.saturating_sub(starting).min(room);
        if starts == 0 {
            return;
        }
        match app.failures.verdict(self.now, app.proven) {
            Verdict::Wait(at) => self.look_again(at),
            Verdict::GaveUp(_) => {}
            // After giving up, one try at a time, and only because somebody asks.
            Verdict::Start if app.failures.gave_up(app.proven) => {
                let asked = app.demand.last_activity > app.failures.last().map(|last| last + TRY_AGAIN_AFTER);
                if (asked || app.demand.held > 0) && starting == 0 {
                    self.orders.push(Order::Start);
                }
            }
            Verdict::Start => self.orders.extend(std::iter::repeat_n(Order::Start, starts)),
        }
    }

    /// Moves replicas that nobody needs one rung down.
    fn rest(&mut self, want: u32, why: Why, serving: &[&ReplicaFacts]) {
        let mut running: Vec<_> = serving.iter().filter(|replica| replica.stage == Stage::Running).collect();
        let surplus = running.len().saturating_sub(want as usize);
        running.sort_by_key(|replica| (replica.last_used, replica.id));
        for replica in running.into_iter().take(surplus) {
            // The app as a whole is idle, or this replica alone has not been needed for as long.
            let idle =
                why == Why::Idle || self.due(replica.last_used.max(replica.since) + self.policy.idle_after);
            if idle && replica.inside == 0 && !replica.busy {
                self.orders.push(if self.policy.can_hibernate {
                    Order::Hibernate(replica.id)
                } else {
                    Order::Drain(replica.id)
                });
            }
        }
        if why == Why::StillWarm {
            // Asked again when the last replica that is kept for warmth has cooled down.
            for replica in serving.iter().filter(|replica| replica.stage == Stage::Running) {
                self.due(replica.last_used.max(replica.since) + self.policy.idle_after);
            }
        }
        for replica in serving.iter().filter(|replica| replica.stage == Stage::Hibernated) {
            if self.due(replica.since + self.policy.stop_after) {
                self.orders.push(Order::Stop(replica.id));
            }
        }
    }
}

#[cfg(test)]
mod tests;
