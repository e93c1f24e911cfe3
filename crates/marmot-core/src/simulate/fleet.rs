//! Replicas in the place of real ones, driven by arrivals, ruled by the code that rules the engine's.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::hybrid::Histogram;
use super::report::Memory;
use super::{Arrival, Keeping, Kind, Report, Trace};
use crate::Moment;
use crate::demand::{DemandSample, Load};
use crate::id::{ReplicaId, RevisionId};
use crate::plan::{AppFacts, Order, ReplicaFacts, Stage, plan};
use crate::restart::Failures;
use crate::scaling::foresight::{History, Outlook};
use crate::scaling::{Policy, Scaler, Situation};

/// The trace's beginning in seconds since the epoch: a Monday at midnight, UTC.
const BEGINNING: u64 = 19_996 * 86_400;
/// What a hibernated replica usually holds, in MB.
const USUAL_SLEEPER: f64 = 60.0;

/// Replays a trace under a policy.
pub fn run(trace: &Trace, keeping: Keeping) -> Report {
    let policy = keeping.policy();
    let apps = trace.apps.iter().map(|(_, kind)| App::new(*kind, keeping)).collect();
    let mut fleet =
        Fleet { policy: &policy, apps, events: BinaryHeap::new(), report: Report::default(), replicas: 0 };
    for arrival in &trace.arrivals {
        fleet.until(arrival.at);
        fleet.arrive(arrival);
    }
    fleet.until(trace.end);
    fleet.finish(trace.end)
}

/// What happens to an app at a time, by its place among the apps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A replica has finished something, which held so many connections.
    Done(u32, u128, u32),
    /// A replica has booted or is awake.
    Awake(u32, u128),
    /// Time alone may change what is decided.
    Look(u32),
}

struct Fleet<'a> {
    policy: &'a Policy,
    apps: Vec<App>,
    /// By time, then by what happens: the same each time.
    events: BinaryHeap<Reverse<(u64, Event)>>,
    report: Report,
    replicas: u128,
}

/// One app, and what is known of it.
struct App {
    kind: Kind,
    replicas: Vec<Replica>,
    /// Those who wait: since when, for how long, how many connections they hold, and what they met.
    held: Vec<Held>,
    scaler: Scaler,
    outlook: Option<Outlook>,
    ahead: Ahead,
    demand: DemandSample,
    /// The demand's area, and up to when.
    area: (u64, u64),
    look: Option<u64>,
    cost: Cost,
}

struct Held {
    since: u64,
    duration: u32,
    sessions: u32,
    met: Met,
}

/// What somebody who waits met.
#[derive(Debug, Clone, Copy)]
enum Met {
    Nothing,
    Light,
    Deep,
}

struct Replica {
    facts: ReplicaFacts,
    /// Asked to wake.
    waking: bool,
}

/// What an app costs at the moment, and since when.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    since: u64,
    replicas: u64,
    /// Of the replicas that are awake, in MB.
    running: u64,
    light: u64,
    deep: u64,
    used: bool,
}

/// What tells the future.
enum Ahead {
    Nothing,
    Foresight(Box<History>),
    Hybrid(Histogram),
}

impl App {
    fn new(kind: Kind, keeping: Keeping) -> Self {
        let ahead = match keeping {
            Keeping::Hybrid => Ahead::Hybrid(Histogram::default()),
            Keeping::Marmot { foresight: true, .. } => Ahead::Foresight(Box::default()),
            _ => Ahead::Nothing,
        };
        Self {
            kind,
            replicas: Vec::new(),
            held: Vec::new(),
            scaler: Scaler::default(),
            outlook: None,
            ahead,
            demand: DemandSample::default(),
            area: (0, 0),
            look: None,
            cost: Cost::default(),
        }
    }

    fn level(&self) -> u64 {
        self.demand.in_flight + self.demand.held
    }

    /// Brings the demand's area up to now, before the level changes.
    fn grow(&mut self, now: u64) {
        self.area = (self.area.0 + self.level() * (now - self.area.1), now);
    }

    /// Notes use at `now`; `idle`: nothing was under way before.
    fn use_at(&mut self, now: u64, idle: bool) {
        self.demand.last_activity = Some(Moment::from_millis(now));
        self.outlook = None;
        match &mut self.ahead {
            Ahead::Nothing => {}
            Ahead::Foresight(history) => history.note(BEGINNING + now / 1000),
            Ahead::Hybrid(histogram) => histogram.note(now, idle),
        }
    }

    fn look_ahead(&mut self, now: u64, policy: &Policy) {
        if self.level() > 0 || self.outlook.is_some_and(|outlook| outlook.until.as_millis() > now) {
            return;
        }
        self.outlook = match &mut self.ahead {
            Ahead::Nothing => None,
            Ahead::Foresight(history) => {
                let weight = self.kind.deep as f64 / USUAL_SLEEPER;
                let wall = BEGINNING + now / 1000;
                history.outlook(Moment::from_millis(now), wall, policy, weight)
            }
            Ahead::Hybrid(histogram) => histogram.outlook(now),
        };
    }

    /// Adds up what the replicas have cost so far, before they change.
    fn charge(&mut self, now: u64, report: &mut Report) {
        let before = self.cost;
        let hours = (now - before.since) as f64 / 3_600_000.0;
        report.replica_hours += before.replicas as f64 * hours;
        let cost = |megabytes: u64| megabytes as f64 * hours / 1000.0;
        let Memory { busy, idle, light, deep } = &mut report.memory;
        *(if before.used { busy } else { idle }) += cost(before.running);
        *light += cost(before.light);
        *deep += cost(before.deep);
        let mut cost = Cost { since: now, ..Cost::default() };
        cost.used = self.level() > 0 || self.replicas.iter().any(|one| one.facts.stage == Stage::Starting);
        for replica in &self.replicas {
            match replica.facts.stage {
                Stage::Hibernated if !replica.waking && replica.facts.light => {
                    cost.light += self.kind.hibernated
                }
                Stage::Hibernated if !replica.waking => cost.deep += self.kind.deep,
                _ => {
                    cost.running += self.kind.running;
                    cost.replicas += 1;
                }
            }
        }
        self.cost = cost;
    }
}

impl Fleet<'_> {
    /// Lets everything happen that happens before `end`.
    fn until(&mut self, end: u64) {
        while let Some(Reverse((at, event))) = self.events.peek().copied() {
            if at > end {
                return;
            }
            self.events.pop();
            match event {
                Event::Done(app, replica, sessions) => self.done(at, app, replica, sessions),
                Event::Awake(app, replica) => self.awake(at, app, replica),
                Event::Look(app) => {
                    if self.apps[app as usize].look == Some(at) {
                        self.apps[app as usize].look = None;
                        self.look(at, app);
                    }
                }
            }
        }
    }

    fn at(&mut self, at: u64, event: Event) {
        self.events.push(Reverse((at, event)));
    }

    fn arrive(&mut self, arrival: &Arrival) {
        let limit = u64::from(self.policy.limit);
        let app = &mut self.apps[arrival.app as usize];
        app.grow(arrival.at);
        let idle = app.level() == 0;
        let free = app
            .replicas
            .iter_mut()
            .filter(|replica| replica.facts.stage == Stage::Running && replica.facts.inside < limit);
        let free = free.min_by_key(|replica| (replica.facts.retiring.is_some(), replica.facts.inside));
        let entered = free.map(|replica| {
            replica.facts.inside += 1;
            replica.facts.last_used = Moment::from_millis(arrival.at);
            replica.facts.id.as_u128()
        });
        app.demand.sessions += u64::from(arrival.sessions);
        match entered {
            Some(replica) => {
                app.demand.in_flight += 1;
                if idle {
                    app.charge(arrival.at, &mut self.report);
                }
                app.use_at(arrival.at, idle);
                self.report.running += 1;
                let done = arrival.at + u64::from(arrival.duration);
                self.at(done, Event::Done(arrival.app, replica, arrival.sessions));
                // More than one replica aims at has to be looked at as the engine does, once a second.
                let app = &self.apps[arrival.app as usize];
                if app.level() * 1000 > self.policy.target() {
                    self.look_at(arrival.at + 1000, arrival.app);
                }
            }
            None => {
                let mut asleep = app.replicas.iter().filter(|one| one.facts.stage == Stage::Hibernated);
                let met = match (asleep.clone().any(|one| one.facts.light), asleep.next()) {
                    (true, _) => Met::Light,
                    (false, Some(_)) => Met::Deep,
                    (false, None) => Met::Nothing,
                };
                app.demand.held += 1;
                app.use_at(arrival.at, idle);
                let (since, duration, sessions) = (arrival.at, arrival.duration, arrival.sessions);
                app.held.push(Held { since, duration, sessions, met });
                self.look(arrival.at, arrival.app);
            }
        }
    }

    fn done(&mut self, now: u64, number: u32, replica: u128, sessions: u32) {
        let app = &mut self.apps[number as usize];
        app.grow(now);
        app.demand.in_flight -= 1;
        app.demand.sessions -= u64::from(sessions);
        app.use_at(now, false);
        if let Some(replica) = app.replicas.iter_mut().find(|one| one.facts.id.as_u128() == replica) {
            replica.facts.inside -= 1;
            replica.facts.last_used = Moment::from_millis(now);
        }
        let (waits, idle) = (!app.held.is_empty(), app.level() == 0);
        if idle {
            app.charge(now, &mut self.report);
        }
        if waits {
            self.admit(now, number);
        }
        if idle {
            self.when_idle(now, number);
        }
    }

    /// With nothing under way any more, it is looked at when it may be idle, if not before.
    fn when_idle(&mut self, now: u64, number: u32) {
        let Policy { idle_after, zero_grace, can_hibernate, .. } = *self.policy;
        let idle_at = Moment::from_millis(now) + idle_after;
        let idle_at = if can_hibernate { idle_at } else { idle_at + zero_grace };
        match idle_at.as_millis() {
            at if at <= now => self.look(now, number),
            at => self.look_at(at, number),
        }
    }

    fn awake(&mut self, now: u64, number: u32, id: u128) {
        let app = &mut self.apps[number as usize];
        app.charge(now, &mut self.report);
        let Some(replica) = app.replicas.iter_mut().find(|one| one.facts.id.as_u128() == id) else { return };
        (replica.facts.stage, replica.facts.since, replica.waking) =
            (Stage::Running, Moment::from_millis(now), false);
        app.charge(now, &mut self.report);
        self.admit(now, number);
        self.look(now, number);
    }

    /// Lets those in who wait, as far as there is room.
    fn admit(&mut self, now: u64, number: u32) {
        let limit = u64::from(self.policy.limit);
        let app = &mut self.apps[number as usize];
        app.grow(now);
        let mut admitted = 0;
        for held in &app.held {
            let free = app
                .replicas
                .iter_mut()
                .filter(|replica| replica.facts.stage == Stage::Running && replica.facts.inside < limit);
            let Some(replica) = free.min_by_key(|replica| replica.facts.inside) else { break };
            replica.facts.inside += 1;
            replica.facts.last_used = Moment::from_millis(now);
            admitted += 1;
            match held.met {
                Met::Nothing => self.report.cold += 1,
                Met::Light => self.report.hibernated += 1,
                Met::Deep => {
                    self.report.hibernated += 1;
                    self.report.deep += 1;
                }
            }
            self.report.waits.push(u32::try_from(now - held.since).unwrap_or(u32::MAX));
            let done = Event::Done(number, replica.facts.id.as_u128(), held.sessions);
            self.events.push(Reverse((now + u64::from(held.duration), done)));
        }
        app.held.drain(..admitted);
        app.demand.held -= admitted as u64;
        app.demand.in_flight += admitted as u64;
    }

    fn look_at(&mut self, at: u64, number: u32) {
        let app = &mut self.apps[number as usize];
        if app.look.is_none_or(|look| at < look) {
            app.look = Some(at);
            self.at(at, Event::Look(number));
        }
    }

    /// Decides and does what is decided.
    fn look(&mut self, now: u64, number: u32) {
        let app = &mut self.apps[number as usize];
        app.grow(now);
        app.look_ahead(now, self.policy);
        let moment = Moment::from_millis(now);
        let replicas: Vec<ReplicaFacts> = app.replicas.iter().map(|replica| replica.facts.clone()).collect();
        let facts = AppFacts {
            wanted: Some(RevisionId::from(1)),
            proven: true,
            demand: app.demand,
            replicas: &replicas,
            failures: Failures::default(),
            outlook: app.outlook,
        };
        let situation = Situation {
            demand: app.demand,
            load: Load { level: app.level(), area: app.area.0 },
            proven: true,
            gave_up: false,
            capacity: facts.capacity(moment),
            kept_warm: false,
            outlook: app.outlook,
            share: None,
        };
        let decision = app.scaler.decide(moment, self.policy, &situation);
        let plan = plan(moment, self.policy, &facts, &decision);
        if !plan.orders.is_empty() {
            app.charge(now, &mut self.report);
            let mut again = false;
            for order in plan.orders {
                again |= self.carry_out(now, number, order);
            }
            let app = &mut self.apps[number as usize];
            app.charge(now, &mut self.report);
            if again {
                return self.look(now, number);
            }
        }
        if let Some(again) = plan.again_at {
            self.look_at(again.as_millis(), number);
        }
    }

    /// Does what is ordered. True when another order follows from it at once.
    fn carry_out(&mut self, now: u64, number: u32, order: Order) -> bool {
        let app = &mut self.apps[number as usize];
        let find = |app: &App, id: ReplicaId| app.replicas.iter().position(|one| one.facts.id == id);
        match order {
            Order::Start => {
                self.replicas += 1;
                let id = self.replicas;
                app.replicas.push(Replica { facts: booting(id, now), waking: false });
                self.report.boots += 1;
                self.report.boots_ahead += u64::from(app.level() == 0);
                let ready = now + app.kind.boot;
                self.at(ready, Event::Awake(number, id));
            }
            Order::Wake(id) => {
                if let Some(place) = find(app, id).filter(|place| !app.replicas[*place].waking) {
                    app.replicas[place].waking = true;
                    let light = app.replicas[place].facts.light;
                    let awake = now + if light { app.kind.wake } else { app.kind.deep_wake };
                    self.at(awake, Event::Awake(number, id.as_u128()));
                }
            }
            Order::Hibernate(id) => {
                if let Some(place) = find(app, id) {
                    let facts = &mut app.replicas[place].facts;
                    (facts.stage, facts.since) = (Stage::Hibernated, Moment::from_millis(now));
                    facts.light = true;
                    return true;
                }
            }
            Order::Deepen(id) => {
                if let Some(place) = find(app, id) {
                    app.replicas[place].facts.light = false;
                }
            }
            Order::Retire(id) | Order::Keep(id) => {
                if let Some(place) = find(app, id) {
                    let retiring = matches!(order, Order::Retire(_)).then_some(Moment::from_millis(now));
                    app.replicas[place].facts.retiring = retiring;
                }
            }
            Order::Drain(id) => {
                if let Some(place) = find(app, id) {
                    let facts = &mut app.replicas[place].facts;
                    (facts.stage, facts.since) = (Stage::Draining, Moment::from_millis(now));
                    return true;
                }
            }
            Order::Stop(id) | Order::FailStart(id) => app.replicas.retain(|one| one.facts.id != id),
        }
        false
    }

    fn finish(mut self, end: u64) -> Report {
        for app in &mut self.apps {
            app.charge(end.max(app.cost.since), &mut self.report);
        }
        self.report.waits.sort_unstable();
        self.report
    }
}

fn booting(id: u128, now: u64) -> ReplicaFacts {
    ReplicaFacts {
        id: id.into(),
        revision: RevisionId::from(1),
        stage: Stage::Starting,
        since: Moment::from_millis(now),
        inside: 0,
        sessions: 0,
        last_session: None,
        asked_for: false,
        retiring: None,
        last_used: Moment::from_millis(now),
        busy: false,
        light: false,
    }
}
