//! One app in the eyes of the reconcile loop: what is seen becomes facts, the plan's orders become requests to the
//! runtime, and what changed becomes events.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use marmot_core::gate::GateState;
use marmot_core::id::{ReplicaId, RevisionId};
use marmot_core::plan::{AppFacts, Order, Plan, ReplicaFacts, Stage, Why, plan};
use marmot_core::restart::{Failures, STABLE_AFTER};
use marmot_core::{AppName, Demand, Moment};
use tokio::sync::mpsc;

use crate::observed::{Event, Failure, Happening, ObservedApp, ObservedReplica, ReplicaStage};
use crate::runtime::{Runtime, Seen, State, Want};
use crate::wanted::{Program, WantedApp};

/// A drain that has nobody inside is followed by a stop at once; more rounds than these are never needed.
const ROUNDS: u32 = 3;

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
    fn tell(&self, replica: ReplicaId, what: Happening) {
        let event = Event { app: self.name.clone(), replica, at: jiff::Timestamp::now(), what };
        // Nobody has to listen.
        let _ = self.events.send(event);
    }
}

impl App {
    /// Looks at the app and asks for what should be.
    pub(crate) fn look(&mut self, look: &Look<'_>) -> Looked {
        self.count_for(look.wanted);
        let mut again_at = None;
        let mut decision = None;
        for _ in 0..ROUNDS {
            let seen = look.runtime.observe(look.name);
            self.take_note(look, &seen);
            let plan = self.plan(look, &seen);
            (again_at, decision) = (plan.again_at, Some((plan.want, plan.why)));
            let drained = self.carry_out(look, &plan, &seen);
            if !drained {
                break;
            }
        }
        let seen = look.runtime.observe(look.name);
        self.take_note(look, &seen);
        let observed = self.observed(look.wanted, &seen, decision);
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
                Known { told: Told::Nothing, ready: None, draining: None, waking: None, wakes: 0 }
            });
            match (&replica.state, known.told) {
                (State::Awake(_), Told::Nothing) => {
                    known.told = Told::Awake;
                    known.ready = Some(replica.since);
                    self.became_ready(look, replica);
                }
                (State::Awake(_), Told::Asleep) => {
                    known.told = Told::Awake;
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
                        self.failures.ended(look.now, known.ready);
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

    fn plan(&self, look: &Look<'_>, seen: &[Seen]) -> Plan {
        let replicas: Vec<ReplicaFacts> = seen.iter().filter_map(|replica| self.facts(replica)).collect();
        let demand = look.wanted.map(|wanted| wanted.demand.sample()).unwrap_or_default();
        let revision = look.wanted.map(|wanted| wanted.revision.id);
        let facts = AppFacts {
            wanted: revision,
            proven: look.wanted.is_some_and(|wanted| wanted.proven)
                || (revision.is_some() && self.ready == revision),
            demand,
            replicas: &replicas,
            failures: self.failures,
        };
        let policy = look.wanted.map(|wanted| wanted.policy.clone()).unwrap_or_default();
        plan(look.now, &policy, &facts)
    }

    fn facts(&self, replica: &Seen) -> Option<ReplicaFacts> {
        let draining = self.replicas.get(&replica.id).and_then(|known| known.draining);
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
            last_used: replica.gate.last_used(),
            busy: replica.busy,
        })
    }

    /// Asks for what the plan orders. True when a look at once gives more.
    fn carry_out(&mut self, look: &Look<'_>, plan: &Plan, seen: &[Seen]) -> bool {
        let gate = |id| seen.iter().find(|replica| replica.id == id).map(|replica| &replica.gate);
        let mut drained = false;
        for order in &plan.orders {
            match *order {
                Order::Start => self.start(look, plan.why),
                Order::Wake(id) => {
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
                Order::Drain(id) => {
                    if let (Some(gate), Some(known)) = (gate(id), self.replicas.get_mut(&id)) {
                        gate.drain();
                        known.draining = Some(look.now);
                        drained = true;
                    }
                }
                Order::Stop(id) => {
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

    fn start(&mut self, look: &Look<'_>, why: Why) {
        let Some(wanted) = look.wanted.filter(|_| look.may_start) else { return };
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
        look.runtime.start(id, &wanted.revision, wanted.policy.limit);
    }

    fn observed(
        &self,
        wanted: Option<&WantedApp>,
        seen: &[Seen],
        decision: Option<(u32, Why)>,
    ) -> ObservedApp {
        let proven = wanted.is_some_and(|wanted| wanted.proven || self.ready == Some(wanted.revision.id));
        let gave_up = wanted.filter(|_| self.failures.gave_up(proven)).map(|wanted| wanted.revision.id);
        ObservedApp {
            replicas: seen.iter().filter_map(|replica| self.observed_replica(replica)).collect(),
            decision,
            failure: self.failure.clone(),
            gave_up,
            boot_time: self.boot_time,
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

    /// How often a replica was woken.
    pub(crate) fn wakes(&self, replica: ReplicaId) -> u32 {
        self.replicas.get(&replica).map_or(0, |known| known.wakes)
    }

    /// How long booting took when it last succeeded.
    pub(crate) fn boot_time(&self) -> Option<Duration> {
        self.boot_time
    }
}

/// Whether anybody waits for the app or uses it this moment.
pub(crate) fn in_use(demand: &Demand) -> bool {
    let sample = demand.sample();
    sample.held + sample.in_flight > 0
}
