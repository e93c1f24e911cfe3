//! One app in the eyes of the reconcile loop: what is seen becomes facts, the plan's orders become requests to the
//! runtime, and what changed becomes events.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use marmot_core::gate::GateState;
use marmot_core::id::{ReplicaId, RevisionId};
use marmot_core::plan::{AppFacts, Decision, Order, Plan, Policy, ReplicaFacts, Stage, Why, plan};
use marmot_core::restart::{Failures, STABLE_AFTER};
use marmot_core::scaling::fair::Need;
use marmot_core::scaling::foresight::{History, Outlook};
use marmot_core::scaling::{Scaler, Situation};
use marmot_core::{AppName, Demand, Moment};
use tokio::sync::mpsc;

use crate::observed::{
    Event, Failure, FailureReason, Happening, HeldBack, ObservedApp, ObservedReplica, ReplicaStage,
    SleepDepth,
};
use crate::reconcile::{Boots, is_busy_booting};
use crate::runtime::{Runtime, Seen, State, Want};
use crate::schedule::Warmth;
use crate::wanted::{Program, WantedApp};

mod room;

pub(crate) use room::Room;

/// A drain that has nobody inside is followed by a stop at once; more rounds than these are never needed.
const ROUNDS: u32 = 3;

/// What a hibernated replica usually holds, in bytes.
const USUAL_SLEEPER: f64 = 64.0 * 1024.0 * 1024.0;

/// What is remembered of an app between two looks.
#[derive(Debug, Default)]
pub(crate) struct App {
    /// Of which revision the failures are, and which retry of it.
    counted: Option<(RevisionId, u64)>,
    failures: Failures,
    failure: Option<Arc<Failure>>,
    boot_time: Option<Duration>,
    /// The revision that was last seen ready.
    ready: Option<RevisionId>,
    replicas: BTreeMap<ReplicaId, Known>,
    scaler: Scaler,
    /// What was last decided, and as it was told.
    decided: Option<Decision>,
    warmth: Warmth,
    history: History,
    /// The use that `history` knows of.
    noted: Option<Moment>,
    /// The use there had been at the last look.
    looked: Option<Moment>,
    outlook: Option<Outlook>,
    /// A replica may be begun for a visit that is expected: none was since that became likely. One that was stopped
    /// since, for want of memory, is not begun again and again.
    may_begin: bool,
    /// `history` has changed since it was last written down.
    learnt: bool,
    /// A replica that is needed may not be awake, as of the last look.
    held_back: Option<HeldBack>,
}

/// What is remembered of a replica.
#[derive(Debug)]
struct Known {
    /// What was last told of it.
    told: Told,
    /// When it was first ready.
    ready: Option<Moment>,
    draining: Option<Moment>,
    /// When it was asked to wake, until it is awake.
    waking: Option<Moment>,
    wakes: u32,
    /// When a connection to it was last open.
    last_session: Option<Moment>,
    /// Since when new visitors are sent elsewhere.
    retiring: Option<Moment>,
    /// It was told that no visit is expected soon.
    let_go: bool,
    /// It was asked to sleep deeper, and has not been awake since.
    deepens: bool,
    /// What it held when it was last hibernated, in bytes.
    asleep_bytes: u64,
}

impl Known {
    fn new() -> Self {
        Self {
            told: Told::Nothing,
            ready: None,
            draining: None,
            waking: None,
            wakes: 0,
            last_session: None,
            retiring: None,
            let_go: false,
            deepens: false,
            asleep_bytes: 0,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Awake,
    Asleep,
    Failed,
}

/// What a look works with.
pub(crate) struct Look<'a> {
    pub(crate) now: Moment,
    pub(crate) name: &'a AppName,
    pub(crate) wanted: Option<&'a WantedApp>,
    pub(crate) runtime: &'a dyn Runtime,
    pub(crate) events: &'a mpsc::UnboundedSender<Event>,
    /// New replicas may be started.
    pub(crate) may_start: bool,
    /// How many awake replicas are its share, where that is less than it wants.
    pub(crate) share: Option<u32>,
    /// The memory that its project may use, where that has a limit.
    pub(crate) room: Option<Room>,
}

/// What a look gave.
pub(crate) struct Looked {
    pub(crate) observed: ObservedApp,
    /// When time alone changes the answer.
    pub(crate) again_at: Option<Moment>,
    /// Nothing is left of an app that is not wanted.
    pub(crate) gone: bool,
}

impl Look<'_> {
    fn tell(&self, replica: impl Into<Option<ReplicaId>>, what: Happening) {
        let replica = replica.into();
        let event = Event { app: self.name.clone(), replica, at: jiff::Timestamp::now(), what };
        // Nobody has to listen.
        let _ = self.events.send(event);
    }
}

impl App {
    /// Looks at the app and asks for what should be.
    pub(crate) fn look(&mut self, look: &Look<'_>, boots: &mut Boots) -> Looked {
        self.count_for(look.wanted);
        let mut again_at = None;
        let before = self.held_back;
        for _ in 0..ROUNDS {
            let seen = look.runtime.observe(look.name);
            self.take_note(look, &seen);
            let (decision, plan) = self.plan(look, &seen);
            self.tell_decision(look, decision);
            again_at = plan.again_at;
            let drained = self.carry_out(look, &decision, &plan, &seen, boots);
            if !drained {
                break;
            }
        }
        let seen = look.runtime.observe(look.name);
        self.take_note(look, &seen);
        if let (None, Some(held_back)) = (before, self.held_back) {
            look.tell(None, Happening::HeldBack(held_back));
        }
        let observed = self.observed(look.wanted, &seen);
        Looked { observed, again_at, gone: look.wanted.is_none() && seen.is_empty() }
    }

    /// Failures count for one revision, and until somebody asks to try again.
    fn count_for(&mut self, wanted: Option<&WantedApp>) {
        let counted = wanted.map(|wanted| (wanted.revision.id, wanted.retry));
        if counted.is_some() && counted != self.counted {
            (self.counted, self.failures) = (counted, Failures::default());
        }
    }

    /// A replica that has been ready for a while has shown that what failed before is over.
    fn forgive(&mut self, now: Moment, seen: &[Seen]) {
        let stable = |replica: &Seen| {
            self.counted.is_some_and(|(revision, _)| revision == replica.revision)
                && matches!(replica.state, State::Awake(_) | State::Asleep(_))
                && self
                    .replicas
                    .get(&replica.id)
                    .and_then(|known| known.ready)
                    .is_some_and(|ready| now - ready >= STABLE_AFTER)
        };
        if seen.iter().any(stable) {
            self.failures = Failures::default();
        }
    }

    /// Notes and tells what has changed.
    fn take_note(&mut self, look: &Look<'_>, seen: &[Seen]) {
        self.forgive(look.now, seen);
        for replica in seen {
            let known = self.replicas.entry(replica.id).or_insert_with(|| {
                if replica.adopted {
                    look.tell(replica.id, Happening::Adopted);
                }
                Known::new()
            });
            if replica.gate.sessions() > 0 {
                known.last_session = Some(look.now);
            }
            if matches!(replica.state, State::Asleep(_)) {
                known.asleep_bytes = replica.memory.held();
            }
            match (&replica.state, known.told) {
                (State::Awake(_), Told::Nothing) => {
                    known.told = Told::Awake;
                    known.ready = Some(replica.since);
                    self.became_ready(look, replica);
                }
                (State::Awake(_), Told::Asleep) => {
                    (known.told, known.deepens) = (Told::Awake, false);
                    let asked = known.waking.take().unwrap_or(replica.since);
                    look.tell(replica.id, Happening::Woke(replica.since - asked));
                }
                (State::Asleep(_), Told::Nothing | Told::Awake) => {
                    // One that is found asleep went to sleep before.
                    if known.told == Told::Awake {
                        look.tell(replica.id, Happening::Hibernated);
                    }
                    known.ready.get_or_insert(replica.since);
                    known.told = Told::Asleep;
                }
                (State::Ended(failure), told) if told != Told::Failed => {
                    known.told = Told::Failed;
                    if self.counted.is_some_and(|(revision, _)| revision == replica.revision) {
                        match &failure.reason {
                            FailureReason::EngineAway(_) => self.failures.kept_from_starting(look.now),
                            _ => self.failures.ended(look.now, known.ready),
                        }
                    }
                    self.failure = Some(Arc::clone(failure));
                    look.tell(replica.id, Happening::Failed(Arc::clone(failure)));
                    look.runtime.ensure(replica.id, Want::Gone);
                }
                _ => {}
            }
        }
        self.replicas.retain(|id, known| {
            let exists = seen.iter().any(|replica| replica.id == *id);
            if !exists && known.told != Told::Failed {
                look.tell(*id, Happening::Stopped);
            }
            exists
        });
    }

    fn became_ready(&mut self, look: &Look<'_>, replica: &Seen) {
        let first = self.ready != Some(replica.revision);
        self.ready = Some(replica.revision);
        if self.failure.as_ref().is_some_and(|failure| failure.revision == replica.revision) {
            self.failure = None;
        }
        self.boot_time = replica.boot_time.or(self.boot_time);
        // Who has just switched it on is about to open it, and who had it open goes on after a restart of the server.
        if let Some(wanted) = look.wanted
            && (replica.adopted || (first && !wanted.proven))
        {
            wanted.demand.touch(look.now);
        }
        if !replica.adopted {
            look.tell(replica.id, Happening::Ready(replica.boot_time.unwrap_or_default()));
        }
    }

    fn plan(&mut self, look: &Look<'_>, seen: &[Seen]) -> (Decision, Plan) {
        let replicas: Vec<ReplicaFacts> = seen.iter().filter_map(|replica| self.facts(replica)).collect();
        let demand = look.wanted.map(|wanted| wanted.demand.sample()).unwrap_or_default();
        let revision = look.wanted.map(|wanted| wanted.revision.id);
        self.looked = demand.last_activity;
        self.look_ahead(look);
        let facts = AppFacts {
            wanted: revision,
            proven: look.wanted.is_some_and(|wanted| wanted.proven)
                || (revision.is_some() && self.ready == revision),
            demand,
            replicas: &replicas,
            failures: self.failures,
            outlook: self
                .outlook
                .map(|outlook| Outlook { begin: outlook.begin && self.may_begin, ..outlook }),
        };
        let Some(wanted) = look.wanted else {
            return (Decision::OFF, plan(look.now, &Policy::default(), &facts, &Decision::OFF));
        };
        let policy = &wanted.policy;
        let sessions = policy.concurrency.counts_sessions();
        let (kept_warm, warm_until) = self.warmth.at(look.now, &policy.keep_warm);
        let situation = Situation {
            demand,
            load: if sessions { wanted.demand.sessions() } else { wanted.demand.requests() },
            proven: facts.proven,
            gave_up: facts.failures.gave_up(facts.proven),
            capacity: facts.capacity(look.now),
            kept_warm,
            outlook: self.outlook,
            share: look.share,
        };
        let decision = self.scaler.decide(look.now, policy, &situation);
        let mut plan = plan(look.now, policy, &facts, &decision);
        plan.again_at = [plan.again_at, warm_until].into_iter().flatten().min();
        (decision, plan)
    }

    /// Learns from use, and asks in silence what past use says about the near future.
    fn look_ahead(&mut self, look: &Look<'_>) {
        let Some(wanted) = look.wanted.filter(|wanted| wanted.policy.foresight) else {
            self.outlook = None;
            return;
        };
        let wall = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
        let used = self.looked;
        if used > self.noted
            && let Some(used) = used
        {
            self.history.note(wall.saturating_sub((look.now - used).as_secs()));
            (self.noted, self.outlook, self.learnt) = (Some(used), None, true);
        }
        if self.outlook.is_none_or(|outlook| outlook.until <= look.now) {
            let held =
                self.replicas.values().map(|known| known.asleep_bytes).max().filter(|bytes| *bytes > 0);
            let weight = held.map_or(1.0, |bytes| bytes as f64 / USUAL_SLEEPER);
            self.outlook = self.history.outlook(look.now, wall, &wanted.policy, weight);
            self.may_begin |= self.outlook.is_some_and(|outlook| !outlook.begin);
        }
    }

    /// Tells of a decision when it is another one. What goes with waking and falling asleep is told there.
    fn tell_decision(&mut self, look: &Look<'_>, decision: Decision) {
        let before = self.decided.replace(decision).unwrap_or(Decision::OFF);
        let (from, to) = (before.want, decision.want);
        if from == to {
            // The reason that goes with the number is the one it was decided for.
            if before.why.is_like(decision.why) {
                self.decided = Some(Decision { why: before.why, ..decision });
            }
            return;
        }
        let ahead = matches!(decision.why, Why::Minimum | Why::Schedule | Why::Foreseen { .. });
        if look.wanted.is_some() && (from > 1 || to > 1 || ahead) {
            look.tell(None, Happening::Scaled { from, to, why: decision.why });
        }
    }

    fn facts(&self, replica: &Seen) -> Option<ReplicaFacts> {
        let known = self.replicas.get(&replica.id);
        let draining = known.and_then(|known| known.draining);
        let stage = match &replica.state {
            State::Starting(_) => Stage::Starting,
            State::Awake(_) if draining.is_some() => Stage::Draining,
            // Its gate was shut a moment ago.
            State::Awake(_) if replica.gate.state() == GateState::Asleep => Stage::Hibernated,
            State::Awake(_) => Stage::Running,
            State::Asleep(_) => Stage::Hibernated,
            State::Stopping | State::Ended(_) => return None,
        };
        Some(ReplicaFacts {
            id: replica.id,
            revision: replica.revision,
            stage,
            since: draining.unwrap_or(replica.since),
            inside: replica.gate.inside(),
            sessions: replica.gate.sessions(),
            last_session: known.and_then(|known| known.last_session),
            asked_for: replica.gate.asked_for(),
            retiring: known.and_then(|known| known.retiring),
            last_used: replica.gate.last_used(),
            busy: replica.busy,
            light: matches!(replica.state, State::Asleep(_)) && replica.depth == SleepDepth::Light,
        })
    }

    /// Asks for what the plan orders. True when a look at once gives more.
    fn carry_out(
        &mut self,
        look: &Look<'_>,
        decision: &Decision,
        plan: &Plan,
        seen: &[Seen],
        boots: &mut Boots,
    ) -> bool {
        let gate = |id| seen.iter().find(|replica| replica.id == id).map(|replica| &replica.gate);
        let mut drained = false;
        let mut awake = self.awake(seen);
        let mut booting = seen.iter().filter(|one| is_booting(look.now, one)).count();
        self.held_back = None;
        if !plan.orders.contains(&Order::Start) {
            boots.leave(look.name);
        }
        for order in &plan.orders {
            match *order {
                Order::Start => {
                    let Some(wanted) = look.wanted else { continue };
                    let one = (wanted.revision.id, wanted.revision.limits.memory_bytes);
                    if self.is_held_back(look, &awake, one) {
                        boots.leave(look.name);
                    } else if look.may_start && boots.begin(look.now, look.name, need(look, seen), booting) {
                        booting += 1;
                        *awake.entry(one.0).or_default() += one.1;
                        self.start(look, decision);
                    }
                }
                Order::Wake(id) => {
                    let of = seen.iter().find(|replica| replica.id == id);
                    let waking = |known: &Known| known.waking.is_some();
                    if let Some(of) = of.filter(|_| !self.replicas.get(&id).is_some_and(waking)) {
                        let one = (of.revision, of.memory_limit);
                        if self.is_held_back(look, &awake, one) {
                            continue;
                        }
                        *awake.entry(one.0).or_default() += one.1;
                    }
                    if let Some(known) = self.replicas.get_mut(&id)
                        && known.waking.is_none()
                    {
                        known.waking = Some(look.now);
                        known.wakes = known.wakes.saturating_add(1);
                    }
                    look.runtime.ensure(id, Want::Awake);
                }
                Order::Hibernate(id) => {
                    if gate(id).is_some_and(|gate| gate.try_sleep()) {
                        look.runtime.ensure(id, Want::Asleep);
                    }
                }
                Order::Deepen(id) => {
                    let percent = self.outlook.map(|outlook| outlook.percent);
                    if self
                        .replicas
                        .get_mut(&id)
                        .is_some_and(|known| !std::mem::replace(&mut known.deepens, true))
                    {
                        look.tell(id, Happening::Deepened { percent });
                    }
                    look.runtime.ensure(id, Want::DeepAsleep);
                }
                Order::Drain(id) => {
                    if let (Some(gate), Some(known)) = (gate(id), self.replicas.get_mut(&id)) {
                        gate.drain();
                        known.draining = Some(look.now);
                        drained = true;
                    }
                }
                Order::Retire(id) | Order::Keep(id) => {
                    let retiring = matches!(order, Order::Retire(_));
                    if let (Some(gate), Some(known)) = (gate(id), self.replicas.get_mut(&id)) {
                        gate.retire(retiring);
                        known.retiring = retiring.then_some(look.now);
                    }
                }
                Order::Stop(id) => {
                    self.tell_let_go(look, id);
                    if let Some(gate) = gate(id) {
                        gate.close();
                    }
                    look.runtime.ensure(id, Want::Gone);
                }
                Order::FailStart(id) => {
                    let after = look.wanted.map(|wanted| wanted.policy.start_timeout).unwrap_or_default();
                    look.runtime.ensure(id, Want::Failed(after));
                }
            }
        }
        drained
    }

    /// Tells that a replica goes because no visit is expected, if that is why it goes.
    fn tell_let_go(&mut self, look: &Look<'_>, id: ReplicaId) {
        let Some(outlook) = self.outlook.filter(|outlook| look.wanted.is_some() && !outlook.keep) else {
            return;
        };
        let known = self.replicas.get_mut(&id).filter(|known| known.told == Told::Asleep && !known.let_go);
        if let Some(known) = known {
            known.let_go = true;
            look.tell(id, Happening::LetGo { percent: outlook.percent });
        }
    }

    fn start(&mut self, look: &Look<'_>, decision: &Decision) {
        let Some(wanted) = look.wanted else { return };
        self.may_begin = false;
        let why = match self.outlook {
            Some(Outlook { begin: true, percent, .. }) if decision.want == 0 => Why::Foreseen { percent },
            _ => decision.why,
        };
        let fixed_port = matches!(wanted.revision.program, Program::Built { port: Some(_), .. });
        if fixed_port && look.runtime.shares_ports() {
            // Two cannot listen on one port: the one before goes first, and requests wait meanwhile.
            let before = look.runtime.observe(look.name);
            for replica in before.iter().filter(|replica| replica.revision != wanted.revision.id) {
                replica.gate.close();
                look.runtime.ensure(replica.id, Want::Gone);
            }
            if !before.is_empty() {
                return;
            }
        }
        let id = ReplicaId::from(u128::from(ulid::Ulid::generate()));
        look.tell(id, Happening::Started(why));
        let limit = wanted.policy.concurrency.with_count(wanted.policy.limit);
        look.runtime.start(id, &wanted.revision, limit);
    }

    fn observed(&self, wanted: Option<&WantedApp>, seen: &[Seen]) -> ObservedApp {
        let proven = wanted.is_some_and(|wanted| wanted.proven || self.ready == Some(wanted.revision.id));
        let gave_up = wanted.filter(|_| self.failures.gave_up(proven)).map(|wanted| wanted.revision.id);
        ObservedApp {
            replicas: seen.iter().filter_map(|replica| self.observed_replica(replica)).collect(),
            decision: self.decided.map(|decided| (decided.want, decided.why)),
            failure: self.failure.clone(),
            gave_up,
            boot_time: self.boot_time,
            promised: self.promised(seen),
            held_back: self.held_back,
        }
    }

    fn observed_replica(&self, replica: &Seen) -> Option<ObservedReplica> {
        let draining = self.replicas.get(&replica.id).and_then(|known| known.draining);
        let stage = match &replica.state {
            State::Starting(step) => ReplicaStage::Starting(*step),
            State::Awake(address) if draining.is_some() => ReplicaStage::Draining { address: *address },
            State::Awake(address) if replica.gate.state() == GateState::Asleep => {
                ReplicaStage::Hibernated { address: *address }
            }
            State::Awake(address) => ReplicaStage::Running { address: *address },
            State::Asleep(address) => ReplicaStage::Hibernated { address: *address },
            State::Stopping => ReplicaStage::Stopping,
            State::Ended(_) => return None,
        };
        Some(ObservedReplica {
            id: replica.id,
            revision: replica.revision,
            stage,
            since: draining.unwrap_or(replica.since),
            gate: Arc::clone(&replica.gate),
            sockets: replica.sockets.clone(),
            memory: replica.memory,
            depth: replica.depth,
        })
    }

    /// Begins with what is known of its visits from before.
    pub(crate) fn remember(&mut self, history: History) {
        self.history = history;
    }

    /// What is known of its visits, if that has changed since it was last asked for.
    pub(crate) fn news_of_visits(&mut self) -> Option<String> {
        std::mem::take(&mut self.learnt).then(|| self.history.to_string())
    }

    /// How many replicas it would have awake if nothing had to be shared.
    pub(crate) fn wish(&self) -> u32 {
        self.decided.map_or(0, |decided| decided.wish)
    }

    /// Whether it has no replica, so that only demand or a time that is known can change anything.
    pub(crate) fn rests(&self) -> bool {
        self.replicas.is_empty() && self.decided.is_some_and(|decided| decided.want == 0)
    }

    /// Whether somebody has used it since the last look, or does.
    pub(crate) fn is_used(&self, wanted: &WantedApp) -> bool {
        let sample = wanted.demand.sample();
        sample.held + sample.in_flight > 0 || sample.last_activity > self.looked
    }

    /// How often a replica was woken.
    pub(crate) fn wakes(&self, replica: ReplicaId) -> u32 {
        self.replicas.get(&replica).map_or(0, |known| known.wakes)
    }

    /// How long booting took when it last succeeded.
    pub(crate) fn boot_time(&self) -> Option<Duration> {
        self.boot_time
    }
}

fn is_booting(now: Moment, replica: &Seen) -> bool {
    matches!(replica.state, State::Starting(_)) && is_busy_booting(now, replica.since)
}

/// What another replica would be for.
fn need(look: &Look<'_>, seen: &[Seen]) -> Need {
    let serves = seen.iter().any(|replica| matches!(replica.state, State::Awake(_) | State::Asleep(_)));
    let waited_for = look.wanted.is_some_and(|wanted| in_use(&wanted.demand));
    match (serves, waited_for) {
        (false, true) => Need::FirstForSomebody,
        (true, true) => Need::More,
        (_, false) => Need::Ahead,
    }
}

/// Whether anybody waits for the app or uses it this moment.
pub(crate) fn in_use(demand: &Demand) -> bool {
    let sample = demand.sample();
    sample.held + sample.in_flight > 0
}
