//! How many replicas should be awake: the average demand over two windows, bounded, with the reason.

use std::time::Duration;

use super::foresight::Outlook;
use super::window::{SHORTEST, Window};
use super::{Bound, Measured, Policy, Why};
use crate::Moment;
use crate::demand::{DemandSample, Load};

/// While demand and its averages disagree, the answer is looked for again after this long.
const TICK: Duration = Duration::from_secs(1);

/// The part of the stable window in which a rise is followed.
const RECENT: u32 = 4;

/// What is remembered of one app between two decisions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scaler {
    window: Window,
    panic: Option<Panic>,
}

/// Demand rose suddenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Panic {
    /// When it is over, if demand is not sudden again before.
    until: Moment,
    /// The most replicas that were wanted since it began.
    peak: u32,
}

/// What is known of an app when it is decided how many replicas it should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Situation {
    /// The demand it sees.
    pub demand: DemandSample,
    /// The requests or sessions that count, as [`Policy::concurrency`] says.
    pub load: Load,
    /// The revision it should run has been ready before.
    pub proven: bool,
    /// Starting it has been given up.
    pub gave_up: bool,
    /// Replicas that are ready and can be relied on. One that ended a moment after its start more than once cannot.
    pub capacity: u32,
    /// It is kept warm at this time.
    pub kept_warm: bool,
    /// What past visits say about the near future.
    pub outlook: Option<Outlook>,
    /// How many awake replicas are its share of what it shares with others.
    pub share: Option<u32>,
}

/// How many replicas should be awake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// How many should be awake.
    pub want: u32,
    /// How many may be thawed beyond that for what there is this moment. Too short a need to start one for.
    pub at_once: u32,
    /// How many would be awake if nothing had to be shared.
    pub wish: u32,
    /// Why so many.
    pub why: Why,
    /// When time alone may change the answer.
    pub again_at: Option<Moment>,
}

impl Decision {
    /// Whether nothing may be scaled in for now, since demand rose suddenly. What is others' share goes all the same.
    pub fn panics(&self) -> bool {
        matches!(self.why, Why::Load(Measured { panic: true, .. })) && !self.gives_up()
    }

    /// Whether there are fewer than demand asks for, since others need their share.
    pub fn gives_up(&self) -> bool {
        self.want < self.wish
    }

    /// The decision about an app that is off.
    pub const OFF: Self = Self { want: 0, at_once: 0, wish: 0, why: Why::Off, again_at: None };
}

impl Scaler {
    /// Decides how many replicas should be awake at `now`.
    pub fn decide(&mut self, now: Moment, policy: &Policy, seen: &Situation) -> Decision {
        let decision = self.follow(now, policy, seen);
        if seen.proven || seen.gave_up {
            return decision;
        }
        let want = decision.want.max(policy.begin_with());
        let why = if matches!(decision.why, Why::Load(_)) { decision.why } else { Why::FirstBoot };
        Decision { want, why, ..decision }
    }

    /// What the demand asks for, whether or not the revision is known to boot.
    fn follow(&mut self, now: Moment, policy: &Policy, seen: &Situation) -> Decision {
        self.window.note(now, seen.load, policy.stable_window.max(policy.panic_window));
        let busy = seen.demand.in_flight + seen.demand.held > 0;
        let (floor, floor_why) = floor(policy, seen);
        let until = seen.outlook.map(|outlook| outlook.until);
        let idle_at = idle_at(policy, &seen.demand);
        if !busy && idle_at.is_none_or(|at| at <= now) {
            self.panic = None;
            let why = floor_why.unwrap_or(Why::Idle);
            let want = floor.min(policy.most());
            return Decision { want, at_once: 0, wish: want, why, again_at: until };
        }
        let Followed { why, wanted, this_moment, settled } = self.measure(now, policy, seen);
        let most = policy.most().min(seen.share.unwrap_or(u32::MAX).max(1));
        let wish = wanted.max(floor).max(1).min(policy.most());
        let want = wish.min(most);
        let why = match why {
            Why::Load(measured) if wanted > most => {
                let bound = if most < policy.most() { Bound::Share } else { Bound::Most };
                Why::Load(Measured { bound: Some(bound), ..measured })
            }
            Why::Load(_) if wanted < floor => floor_why.unwrap_or(why),
            Why::Load(_) if !busy && want <= 1 => Why::StillWarm,
            why => why,
        };
        let tick = (!settled).then(|| now + TICK);
        let calm = self.panic.map(|panic| panic.until);
        let again_at = [tick, calm, idle_at.filter(|_| !busy), until].into_iter().flatten().min();
        let waiting = if seen.demand.held > 0 { seen.load.level } else { 0 };
        let for_waiting = u32::try_from(waiting.div_ceil(u64::from(policy.limit.max(1)))).unwrap_or(u32::MAX);
        let at_once = for_waiting.max(this_moment);
        Decision { want, at_once: at_once.min(most), wish, why, again_at }
    }

    /// How many replicas the averages ask for.
    fn measure(&mut self, now: Moment, policy: &Policy, seen: &Situation) -> Followed {
        let target = policy.target();
        let count = |demand: u64| u32::try_from(demand.div_ceil(target)).unwrap_or(u32::MAX).max(1);
        // A lasting rise is followed before it has filled the whole window, a fall only when it has.
        let recent = self.window.average(now, policy.stable_window / RECENT);
        let stable = self.window.average(now, policy.stable_window);
        let (stable, stable_over) = if recent > stable {
            (recent, policy.stable_window / RECENT)
        } else {
            (stable, policy.stable_window)
        };
        let short = self.window.average(now, policy.panic_window);
        // A step is seen within a second, not when it has filled the window.
        let last = self.window.average(now, SHORTEST);
        let (sudden, over) = if last > short { (last, SHORTEST) } else { (short, policy.panic_window) };
        let ready = seen.capacity.max(1);
        let meant_for = u128::from(ready) * u128::from(target);
        if u128::from(sudden) * 100 >= meant_for * u128::from(policy.panic_threshold.max(101)) {
            let peak = self.panic.map_or(0, |panic| panic.peak);
            self.panic = Some(Panic { until: now + policy.stable_window, peak });
        }
        self.panic = self.panic.filter(|panic| now < panic.until);
        let measured = Measured {
            demand: stable,
            over: stable_over,
            target,
            sessions: policy.concurrency.counts_sessions(),
            panic: false,
            bound: None,
        };
        let up = ready.saturating_mul(policy.max_up_rate.max(1));
        let level = count(seen.load.level.saturating_mul(1000));
        if let Some(panic) = &mut self.panic {
            panic.peak = panic.peak.max(count(sudden).max(count(stable)).min(up));
            let settled = level == count(last) && level == count(short);
            let why = Why::Load(Measured { demand: sudden, over, panic: true, ..measured });
            return Followed { why, wanted: panic.peak, this_moment: count(last), settled };
        }
        let least = seen.capacity / policy.max_down_rate.max(1);
        let wanted = count(stable).min(up).max(least);
        let bound = (wanted > count(stable)).then_some(Bound::Rate);
        let whole = self.window.average(now, policy.stable_window);
        let settled =
            bound.is_none() && [stable, whole, short, last].iter().all(|demand| count(*demand) == level);
        let why = Why::Load(Measured { bound, ..measured });
        Followed { why, wanted, this_moment: count(last), settled }
    }
}

/// What the averages ask for.
struct Followed {
    why: Why,
    wanted: u32,
    /// What the last second alone would ask for.
    this_moment: u32,
    /// It stays so while demand stays as it is.
    settled: bool,
}

/// How many stay awake whoever comes, and why.
fn floor(policy: &Policy, seen: &Situation) -> (u32, Option<Why>) {
    let minimum = (policy.min_replicas > 0).then_some(Why::Minimum);
    let expected =
        seen.outlook.and_then(|outlook| outlook.awake.then_some(Why::Foreseen { percent: outlook.percent }));
    let extra = (seen.kept_warm.then_some(Why::Schedule)).or(expected);
    (policy.min_replicas.max(u32::from(extra.is_some())), minimum.or(extra))
}

/// When the app becomes idle if nothing more happens; `None` when it is.
fn idle_at(policy: &Policy, demand: &DemandSample) -> Option<Moment> {
    let used = demand.last_activity?;
    let rested = demand.put_to_rest >= demand.last_activity;
    let grace = if policy.can_hibernate { Duration::ZERO } else { policy.zero_grace };
    (!rested).then(|| used + policy.idle_after + grace)
}

#[cfg(test)]
mod tests;
