//! What should happen to an app's replicas now: scaling, the ladder and updates, as one function of facts.

use crate::Moment;
use crate::demand::DemandSample;
use crate::id::{ReplicaId, RevisionId};
use crate::restart::{Failures, STABLE_AFTER, TRY_AGAIN_AFTER, Verdict};
use crate::scaling::foresight::Outlook;
pub use crate::scaling::{Decision, Policy, Why};

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
    /// How many connections to it are open, silent ones too.
    pub sessions: u64,
    /// When a connection to it was last open, if one was.
    pub last_session: Option<Moment>,
    /// A connection of its own waits for it to wake.
    pub asked_for: bool,
    /// Since when it has been about to go: new visitors are sent elsewhere.
    pub retiring: Option<Moment>,
    /// When it was last used.
    pub last_used: Moment,
    /// It computes on its own account, without being asked.
    pub busy: bool,
    /// Hibernated, it sleeps lightly: it keeps in memory what its last wake-ups used.
    pub light: bool,
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
    /// What past visits say about the near future.
    pub outlook: Option<Outlook>,
}

impl AppFacts<'_> {
    /// How many replicas of the wanted revision are ready and can be relied on at `now`: while replicas end by
    /// themselves, one counts only when it has been ready for a while.
    pub fn capacity(&self, now: Moment) -> u32 {
        let loops = self.failures.in_a_row() > 0;
        let relied_on = |replica: &&ReplicaFacts| {
            Some(replica.revision) == self.wanted
                && replica.stage == Stage::Running
                && !(loops && now - replica.since < STABLE_AFTER)
        };
        u32::try_from(self.replicas.iter().filter(relied_on).count()).unwrap_or(u32::MAX)
    }
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
    /// Let this hibernated replica sleep deeper: what it keeps to wake quickly goes as well.
    Deepen(ReplicaId),
    /// Send new visitors elsewhere: it goes when those it has are done.
    Retire(ReplicaId),
    /// It is needed again: send new visitors to it, too.
    Keep(ReplicaId),
    /// Let this replica finish its requests, then stop it.
    Drain(ReplicaId),
    /// Stop this replica: its time to finish is over, or it has nothing to finish.
    Stop(ReplicaId),
    /// End this replica as failed: it was not ready in time.
    FailStart(ReplicaId),
}

/// What to do now, and when to look again if nothing happens before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What to do now.
    pub orders: Vec<Order>,
    /// When time alone changes the answer.
    pub again_at: Option<Moment>,
}

/// Decides what should happen to an app's replicas at `now`, so that as many are awake as was decided.
pub fn plan(now: Moment, policy: &Policy, app: &AppFacts<'_>, decision: &Decision) -> Plan {
    let mut planner = Planner { now, policy, decision, orders: Vec::new(), again_at: decision.again_at };
    planner.finish_what_ends(app);
    let Some(wanted) = app.wanted else {
        planner.drain(app.replicas.iter());
        return planner.plan();
    };
    let (current, stale): (Vec<_>, Vec<_>) =
        app.replicas.iter().partition(|replica| replica.revision == wanted);
    let serves = |replica: &&ReplicaFacts| matches!(replica.stage, Stage::Running | Stage::Hibernated);
    let of_current: Vec<&ReplicaFacts> = current.iter().copied().filter(|replica| serves(replica)).collect();
    let of_stale: Vec<&ReplicaFacts> = stale.iter().copied().filter(|replica| serves(replica)).collect();
    let awake = |replicas: &[&ReplicaFacts]| {
        replicas.iter().filter(|replica| replica.stage == Stage::Running).count()
    };
    // Until the wanted revision serves as well as the one before it did, that goes on serving beside it.
    let enough = awake(&of_stale).min(decision.want as usize);
    let updated = !of_current.is_empty() && awake(&of_current) >= enough;
    if updated {
        planner.drain(stale.iter().copied());
    } else {
        planner.drain(stale.iter().copied().filter(|replica| replica.stage == Stage::Starting));
    }
    let serving = if of_current.is_empty() { &of_stale } else { &of_current };
    let starting = current.iter().filter(|replica| replica.stage == Stage::Starting).count();
    planner.wake_or_start(app, serving, starting, current.len(), !of_current.is_empty());
    planner.rest(app, serving);
    planner.plan()
}

struct Planner<'a> {
    now: Moment,
    policy: &'a Policy,
    decision: &'a Decision,
    orders: Vec<Order>,
    again_at: Option<Moment>,
}

impl Planner<'_> {
    fn plan(self) -> Plan {
        // What was due when it was decided is decided.
        let again_at = self.again_at.filter(|at| *at > self.now);
        Plan { orders: self.orders, again_at }
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
                // The visitors of a revision that is replaced stay where their sessions are, for as long as a drain
                // may take. Those of one that sleeps deeper have been silent for long.
                Stage::Draining
                    if replica.inside == 0
                        && (replica.sessions == 0 || app.wanted == Some(replica.revision))
                        || self.due(replica.since + self.policy.drain_timeout) =>
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

    /// Brings the number of awake replicas up to what was decided: thaws before it starts.
    fn wake_or_start(
        &mut self,
        app: &AppFacts<'_>,
        serving: &[&ReplicaFacts],
        starting: usize,
        existing: usize,
        updated: bool,
    ) {
        let awake = serving.iter().filter(|replica| replica.stage == Stage::Running).count();
        let (want, at_once) = (self.decision.want as usize, self.decision.at_once as usize);
        let hibernated = serving.iter().filter(|replica| replica.stage == Stage::Hibernated);
        // Those whose own visitors wait; then the one used last, which has most of its memory still at hand.
        let mut hibernated: Vec<_> = hibernated.collect();
        hibernated
            .sort_by_key(|replica| (!replica.asked_for, std::cmp::Reverse(replica.last_used), replica.id));
        let asked_for = hibernated.iter().filter(|replica| replica.asked_for).count();
        let woken = want.max(at_once).saturating_sub(awake).max(asked_for).min(hibernated.len());
        self.orders.extend(hibernated.iter().take(woken).map(|replica| Order::Wake(replica.id)));
        let missing = want.saturating_sub(awake + self.asleep_with_sessions(&hibernated[woken..]) + woken);
        // One for a visit that is expected need not stay awake.
        let begin = app.outlook.is_some_and(|outlook| outlook.begin) && app.proven;
        let missing = missing.max(usize::from(begin && serving.is_empty()));
        // An update boots one replica of the new revision, whatever still serves from the old one.
        let wanted_starts = if updated || serving.is_empty() { missing } else { missing.max(1) };
        // More than it is begun with come once the revision has shown that it boots.
        let most = if app.proven { self.policy.most() } else { self.policy.begin_with() };
        let room = (most as usize).saturating_sub(existing);
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

    /// Where sessions are counted: the replicas that sleep with theirs need no other awake in their place.
    fn asleep_with_sessions(&self, hibernated: &[&&ReplicaFacts]) -> usize {
        if !self.policy.concurrency.counts_sessions() {
            return 0;
        }
        hibernated.iter().filter(|replica| replica.sessions > 0).count()
    }

    /// Moves replicas that nobody needs one rung down.
    fn rest(&mut self, app: &AppFacts<'_>, serving: &[&ReplicaFacts]) {
        let mut running: Vec<_> = serving.iter().filter(|replica| replica.stage == Stage::Running).collect();
        let counted = running.len() + self.asleep_with_sessions(&hibernated(serving));
        let needed = self.decision.want.max(self.decision.at_once) as usize;
        let surplus = counted.saturating_sub(needed).min(running.len());
        // The emptiest goes first: fewest people are in its way.
        running.sort_by_key(|replica| {
            (replica.retiring.is_none(), replica.sessions, replica.inside, replica.last_used, replica.id)
        });
        let surplus = if self.decision.panics() { 0 } else { surplus };
        let mut awake = running.len();
        for (place, replica) in running.into_iter().enumerate() {
            if place < surplus {
                self.rest_one(app, replica);
                continue;
            }
            if replica.retiring.is_some() {
                self.orders.push(Order::Keep(replica.id));
            }
            // Where sessions are counted, one whose people are all silent sleeps with their sessions; it is still theirs.
            if self.policy.concurrency.counts_sessions() && replica.sessions > 0 && awake > 1 {
                awake -= usize::from(self.sleeps(replica));
            }
        }
        for replica in serving.iter().filter(|replica| replica.stage == Stage::Hibernated) {
            // One that somebody wakes this moment is needed.
            if self.orders.contains(&Order::Wake(replica.id)) {
                continue;
            }
            if !self.let_go(app, replica) {
                self.deepen(app, replica);
            }
        }
    }

    /// Moves a replica that is one too many one rung down, when nobody uses it; until then it takes nobody new.
    fn rest_one(&mut self, app: &AppFacts<'_>, replica: &ReplicaFacts) {
        let app_idle = self.decision.want == 0;
        if !app_idle && replica.retiring.is_none() {
            self.orders.push(Order::Retire(replica.id));
        }
        if self.decision.gives_up() && self.is_left(replica) {
            // However busy the app is: what it works on is finished, and goes on elsewhere.
            self.orders.push(Order::Drain(replica.id));
        } else if self.policy.can_hibernate {
            self.sleeps(replica);
        } else if self.is_idle(replica) && self.is_left(replica) && !self.is_expected(app) {
            self.orders.push(Order::Drain(replica.id));
        }
    }

    /// Freezes a replica that nobody uses. True when it was ordered.
    fn sleeps(&mut self, replica: &ReplicaFacts) -> bool {
        let sleeps = self.policy.can_hibernate && self.is_idle(replica);
        if sleeps {
            self.orders.push(Order::Hibernate(replica.id));
        }
        sleeps
    }

    /// Whether the app as a whole is idle, or this replica alone has not been needed for as long.
    fn is_idle(&mut self, replica: &ReplicaFacts) -> bool {
        let idle = self.decision.want == 0
            || self.due(replica.last_used.max(replica.since) + self.policy.idle_after);
        idle && replica.inside == 0 && !replica.busy
    }

    /// Stops a hibernated replica for which it does not pay to stay. True when it was ordered.
    fn let_go(&mut self, app: &AppFacts<'_>, replica: &ReplicaFacts) -> bool {
        let over = match app.outlook.filter(|_| self.policy.foresight) {
            Some(outlook) if outlook.keep => {
                self.look_again(outlook.until);
                false
            }
            Some(outlook) => {
                // Not at once: whoever has just left may have forgotten something.
                let over = self.due(replica.since + self.policy.linger);
                self.look_again(outlook.until);
                over
            }
            None => self.due(replica.since + self.policy.stop_after),
        };
        let goes = over && self.is_left(replica);
        if goes {
            self.orders.push(Order::Stop(replica.id));
        }
        goes
    }

    /// Has a hibernated replica sleep deeper for which it does not pay to wake at once.
    fn deepen(&mut self, app: &AppFacts<'_>, replica: &ReplicaFacts) {
        if !replica.light {
            return;
        }
        let after = match app.outlook.filter(|_| self.policy.foresight) {
            Some(outlook) => {
                self.look_again(outlook.until);
                if outlook.light {
                    return;
                }
                self.policy.linger.min(self.policy.deepen_after)
            }
            None => self.policy.deepen_after,
        };
        if self.due(replica.since + after) {
            self.orders.push(Order::Deepen(replica.id));
        }
    }

    /// Whether nobody has a session in a replica any more, or has had it for too long: one that was lost a moment ago
    /// may come back.
    fn is_left(&mut self, replica: &ReplicaFacts) -> bool {
        if replica.sessions > 0 {
            let unused = replica.last_used.max(replica.since);
            return self.due(unused + self.policy.max_session);
        }
        replica.last_session.is_none_or(|left| self.due(left + self.policy.linger))
    }

    /// Whether a replica that cannot be frozen is kept, because a visit is expected.
    fn is_expected(&mut self, app: &AppFacts<'_>) -> bool {
        let outlook = app.outlook.filter(|_| self.policy.foresight);
        outlook.inspect(|outlook| self.look_again(outlook.until)).is_some_and(|outlook| outlook.keep)
    }
}

fn hibernated<'r>(serving: &'r [&'r ReplicaFacts]) -> Vec<&'r &'r ReplicaFacts> {
    serving.iter().filter(|replica| replica.stage == Stage::Hibernated).collect()
}

#[cfg(test)]
mod tests;
