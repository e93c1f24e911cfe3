//! The loop that keeps what runs equal to what is wanted.
//!
//! It runs on a period and on a nudge and is never told what changed. Nothing in it waits: whatever takes time is
//! done by the tasks of the runtime and of the builds, which nudge when they are done.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use marmot_core::budget::{Relief, Sleeper, relieve};
use marmot_core::id::{BuildId, ProjectId};
use marmot_core::scaling::fair::{Line, Need, shares};
use marmot_core::{AppName, Clock, Moment};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::app::{self, App, Look, Room};
use crate::config::OnStop;
use crate::files;
use crate::hibernate::pressure::Pressure;
use crate::layout::Layout;
use crate::nudge::Nudge;
use crate::observed::{
    BuildState, Event, Happening, Observed, ObservedApp, ObservedReplica, ReplicaStage, SleepDepth,
};
use crate::runtime::{Runtime, Seen, State, Want};
use crate::visits;
use crate::wanted::{Wanted, WantedApp};

const PERIOD: Duration = Duration::from_secs(1);
/// A replica that boots for longer than this mostly waits, and keeps nobody else from booting.
const BUSY_BOOTING: Duration = Duration::from_secs(15);
/// What is known of visits is written down this often.
const WRITTEN_EVERY: Duration = Duration::from_secs(600);
/// Whoever fell asleep just now is still being paged out.
const PAGED_OUT_WITHIN: Duration = Duration::from_secs(10);
/// What sleeping deeper frees, at a guess: a part of what is resident.
const DEEPER_PART: u64 = 2;

/// The loop and what it works with.
pub(crate) struct Reconciler {
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) layout: Layout,
    pub(crate) wanted: watch::Receiver<Arc<Wanted>>,
    pub(crate) builds: watch::Receiver<BTreeMap<BuildId, BuildState>>,
    pub(crate) observed: watch::Sender<Arc<Observed>>,
    pub(crate) events: mpsc::UnboundedSender<Event>,
    pub(crate) nudge: Nudge,
    pub(crate) clock: Clock,
    /// What all replicas together may hold, in bytes.
    pub(crate) memory_budget: u64,
    pub(crate) pressure: Pressure,
    /// How many bytes the machine is short of; told whether programs wait for memory.
    pub(crate) shortage: fn(bool) -> u64,
    /// Who may start replicas when.
    pub(crate) boots: Boots,
    /// The apps that get less than they want, because they share with others: how many replicas each may have awake.
    pub(crate) shares: BTreeMap<AppName, u32>,
    /// The apps of each project whose memory has a limit.
    pub(crate) sharing_memory: BTreeMap<ProjectId, Vec<AppName>>,
    /// When what is known of visits was last written down.
    pub(crate) written: Moment,
    pub(crate) apps: BTreeMap<AppName, Watched>,
}

/// Who may start replicas when: so many boot at the same time that each still has a core for itself.
#[derive(Debug)]
pub(crate) struct Boots {
    at_once: usize,
    under_way: usize,
    line: Line<AppName>,
}

impl Boots {
    pub(crate) fn new(at_once: usize) -> Self {
        Self { at_once: at_once.max(1), under_way: 0, line: Line::default() }
    }

    /// Whether an app of which so many replicas boot may start one now. If not, it waits in line; or, while nobody is
    /// served, for the first of those that boot: that would take longer beside more of its kind, which serve nobody
    /// sooner.
    pub(crate) fn begin(&mut self, now: Moment, app: &AppName, need: Need, booting: usize) -> bool {
        if need == Need::FirstForSomebody && booting >= (self.at_once / 2).max(1) {
            self.line.leave(app);
            return false;
        }
        self.line.ask(now, app, need);
        let turn = self.turns(now).contains(app);
        if turn {
            self.under_way += 1;
            self.line.leave(app);
        }
        turn
    }

    /// The app needs no replica any more.
    pub(crate) fn leave(&mut self, app: &AppName) {
        self.line.leave(app);
    }

    fn turns(&self, now: Moment) -> Vec<AppName> {
        self.line.turns(now, self.at_once.saturating_sub(self.under_way))
    }
}

/// An app that is looked after.
#[derive(Default)]
pub(crate) struct Watched {
    app: App,
    again_at: Option<Moment>,
    /// How many of its replicas boot.
    starting: usize,
    /// Logs of an earlier activation are being removed; nothing is started meanwhile.
    clearing: Option<JoinHandle<()>>,
}

impl Reconciler {
    /// The first look at everything: nothing that is wanted now was activated just now.
    pub(crate) fn begin(&mut self) {
        let wanted = self.wanted.borrow_and_update().clone();
        for name in wanted.apps.keys().cloned().chain(self.runtime.apps()) {
            let visits = visits::read(&self.layout.visits(&name));
            let watched = self.apps.entry(name).or_default();
            if let Some(history) = visits {
                watched.app.remember(history);
            }
        }
        self.pass(None);
    }

    /// Runs until `stop` is cancelled, then leaves the replicas or ends them.
    pub(crate) async fn run(&mut self, stop: CancellationToken, on_stop: impl FnOnce() -> OnStop) {
        let mut period = tokio::time::interval(PERIOD);
        period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let due = tokio::time::sleep(self.until_due());
            let only = tokio::select! {
                // A stream of nudges for one app must not keep the others from being looked at.
                biased;
                () = stop.cancelled() => break,
                changed = self.wanted.changed() => match changed {
                    Ok(()) => None,
                    Err(_) => break,
                },
                _ = period.tick() => {
                    self.tick();
                    continue;
                }
                apps = self.nudge.taken() => Some(apps),
                Ok(()) = self.builds.changed() => Some(BTreeSet::new()),
                () = self.pressure.stalled() => {
                    self.make_room((self.shortage)(true));
                    Some(BTreeSet::new())
                }
                () = due => Some(self.due()),
            };
            self.pass(only);
        }
        let news = self.news_of_visits();
        let _ = tokio::task::spawn_blocking(move || visits::write(&news)).await;
        if on_stop() == OnStop::Stop {
            self.end_all().await;
        }
    }

    /// Whether nothing of any replica exists.
    pub(crate) fn is_empty(&self) -> bool {
        self.runtime.apps().is_empty()
    }

    /// What is known of the apps' visits, of those of which it has changed since it was last asked for.
    fn news_of_visits(&mut self) -> Vec<(PathBuf, String)> {
        let layout = &self.layout;
        let news = self.apps.iter_mut();
        news.filter_map(|(name, watched)| Some((layout.visits(name), watched.app.news_of_visits()?)))
            .collect()
    }

    /// How long until time alone changes an answer.
    fn until_due(&self) -> Duration {
        let now = self.clock.now();
        let next = self.apps.values().filter_map(|watched| watched.again_at).min();
        // A moment later rather than a moment early: the clock counts whole milliseconds.
        next.map_or(PERIOD, |at| at.since(now) + Duration::from_millis(1)).min(PERIOD)
    }

    fn due(&self) -> BTreeSet<AppName> {
        let now = self.clock.now();
        let due = self.apps.iter().filter(|(_, watched)| watched.again_at.is_some_and(|at| at <= now));
        due.map(|(name, _)| name.clone()).collect()
    }

    /// Looks at these apps, or at all; then publishes how things are.
    fn pass(&mut self, only: Option<BTreeSet<AppName>>) {
        // Not marked as seen: that is for the look at everything which follows each change.
        let wanted = self.wanted.borrow().clone();
        let all = only.is_none();
        let names = only.unwrap_or_else(|| {
            let known = self.apps.keys().chain(wanted.apps.keys()).cloned();
            known.chain(self.runtime.apps()).collect()
        });
        if all {
            self.make_room((self.shortage)(false));
            self.share(&wanted);
            self.sharing_memory = wanted.sharing_memory();
        }
        let mut looked: BTreeMap<_, _> =
            names.into_iter().filter_map(|name| self.look(&name, &wanted).map(|seen| (name, seen))).collect();
        // Whoever waits in line comes when a boot is over, whosever it was.
        for name in self.boots.turns(self.clock.now()) {
            let seen = self.look(&name, &wanted);
            looked.extend(seen.map(|seen| (name, seen)));
        }
        let builds = self.builds.borrow_and_update().clone();
        {
            let published = self.observed.borrow();
            looked.retain(|name, seen| published.apps.get(name) != seen.as_ref());
            if looked.is_empty() && builds == published.builds {
                return;
            }
        }
        let mut next = Observed::clone(&self.observed.borrow());
        for (name, seen) in looked {
            match seen {
                Some(seen) => next.apps.insert(name, seen),
                None => next.apps.remove(&name),
            };
        }
        next.builds = builds;
        self.observed.send_replace(Arc::new(next));
    }

    /// Looks at everything that time or demand may have changed: of an app that sleeps without a replica, only whether
    /// somebody asks for it.
    fn tick(&mut self) {
        let wanted = self.wanted.borrow().clone();
        self.make_room((self.shortage)(false));
        self.share(&wanted);
        let now = self.clock.now();
        if now - self.written >= WRITTEN_EVERY {
            self.written = now;
            let news = self.news_of_visits();
            tokio::task::spawn_blocking(move || visits::write(&news));
        }
        let stirs = |name: &AppName, watched: &Watched| {
            !watched.app.rests() || wanted.apps.get(name).is_some_and(|wanted| watched.app.is_used(wanted))
        };
        let stirring = self.apps.iter().filter(|(name, watched)| stirs(name, watched));
        let mut names: BTreeSet<AppName> = stirring.map(|(name, _)| name.clone()).collect();
        names.extend(self.runtime.apps());
        names.extend(self.due());
        self.pass(Some(names));
    }

    /// Shares what the apps of a project may have together, beyond one replica for each.
    fn share(&mut self, wanted: &Wanted) {
        self.shares.clear();
        for (project, apps) in wanted.by_project() {
            let together = wanted.ceiling(project).replicas;
            let wish = |name: &&AppName| self.apps.get(*name).map_or(0, |watched| watched.app.wish());
            let more: Vec<u32> = apps.iter().map(|name| wish(name).saturating_sub(1)).collect();
            let in_all = more.iter().fold(0u32, |sum, more| sum.saturating_add(*more));
            if in_all > together {
                let given = shares(together, &more);
                self.shares.extend(apps.into_iter().cloned().zip(given.into_iter().map(|more| more + 1)));
            }
        }
    }

    /// Looks at one app: what is seen of it, or `None` inside when it is gone. Nothing when there is nothing to look at.
    fn look(&mut self, name: &AppName, wanted: &Wanted) -> Option<Option<ObservedApp>> {
        let (all, wanted) = (wanted, wanted.apps.get(name));
        if !self.apps.contains_key(name) {
            let exists = self.runtime.apps().contains(name);
            if wanted.is_none() && !exists {
                return Some(None);
            }
            let clearing = (!exists).then(|| self.clear(name));
            self.apps.insert(name.clone(), Watched { clearing, ..Watched::default() });
        }
        let room = wanted.and_then(|app| self.room(all, name, app));
        let watched = self.apps.get_mut(name)?;
        if watched.clearing.as_ref().is_some_and(JoinHandle::is_finished) {
            watched.clearing = None;
        }
        let look = Look {
            now: self.clock.now(),
            name,
            wanted,
            runtime: self.runtime.as_ref(),
            events: &self.events,
            may_start: watched.clearing.is_none(),
            share: self.shares.get(name).copied(),
            room,
        };
        let elsewhere = self.boots.under_way.saturating_sub(watched.starting);
        let looked = watched.app.look(&look, &mut self.boots);
        watched.again_at = looked.again_at;
        let booting = |replica: &&ObservedReplica| {
            matches!(replica.stage, ReplicaStage::Starting(_)) && is_busy_booting(look.now, replica.since)
        };
        watched.starting = looked.observed.replicas.iter().filter(booting).count();
        self.boots.under_way = elsewhere + watched.starting;
        if looked.gone {
            self.apps.remove(name);
            self.boots.leave(name);
            return Some(None);
        }
        Some(Some(looked.observed))
    }

    /// What the others of an app's project leave to it of the memory that they may use together.
    fn room(&self, wanted: &Wanted, name: &AppName, app: &WantedApp) -> Option<Room> {
        let limit = wanted.ceiling(app.project).memory_bytes?;
        let others = self.sharing_memory.get(&app.project)?.iter().filter(|other| *other != name);
        let promised = |other| Some(self.apps.get(other)?.app.promised(&self.runtime.observe(other)));
        Some(Room { limit, others: others.filter_map(promised).sum() })
    }

    /// Removes what is left of an earlier activation under the same name: it may have been somebody else's.
    fn clear(&self, name: &AppName) -> JoinHandle<()> {
        let (dir, nudge, name) = (self.layout.app(name), self.nudge.clone(), name.clone());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = files::remove(&dir) {
                tracing::warn!(app = %name, %error, "logs of an earlier activation cannot be removed");
            }
            nudge.app(&name);
        })
    }

    /// Has sleepers make room, when all replicas together hold more than they may or the machine is short of
    /// memory.
    fn make_room(&mut self, shortage: u64) {
        let now = self.clock.now();
        let wanted = self.wanted.borrow().clone();
        let (mut held, mut sleepers, mut gates) = (0, Vec::new(), BTreeMap::new());
        for (name, watched) in &self.apps {
            let used = wanted.apps.get(name).is_some_and(|wanted| app::in_use(&wanted.demand));
            for replica in self.runtime.observe(name) {
                held += replica.memory.held();
                if !matches!(replica.state, State::Asleep(_)) || used {
                    continue;
                }
                sleepers.push(Sleeper {
                    id: replica.id,
                    bytes: replica.memory.held(),
                    deeper: deeper(now, &replica),
                    cold_start: watched.app.boot_time().map_or(1.0, |time| time.as_secs_f64()),
                    wakes: watched.app.wakes(replica.id),
                    last_used: replica.gate.last_used(),
                });
                gates.insert(replica.id, (name.clone(), replica.gate));
            }
        }
        let to_free = shortage.max(held.saturating_sub(self.memory_budget));
        for relief in relieve(now, to_free, &sleepers) {
            match relief {
                Relief::Deepen(id) => self.runtime.ensure(id, Want::DeepAsleep),
                Relief::Stop(id) => {
                    tracing::info!(replica = %id, held, to_free, "a hibernated replica is stopped to free memory");
                    if let Some((app, gate)) = gates.remove(&id) {
                        gate.close();
                        let what = Happening::MadeRoom;
                        // Nobody has to listen.
                        let _ = self.events.send(Event {
                            app,
                            replica: Some(id),
                            at: jiff::Timestamp::now(),
                            what,
                        });
                    }
                    self.runtime.ensure(id, Want::Gone);
                }
            }
        }
    }

    /// Ends every replica, and waits until nothing is left of them.
    async fn end_all(&mut self) {
        loop {
            let apps = self.runtime.apps();
            if apps.is_empty() {
                return;
            }
            for replica in apps.iter().flat_map(|app| self.runtime.observe(app)) {
                replica.gate.close();
                self.runtime.ensure(replica.id, Want::Gone);
            }
            self.nudge.taken().await;
        }
    }
}

/// Whether what has been booting since then keeps others from it.
pub(crate) fn is_busy_booting(now: Moment, since: Moment) -> bool {
    now - since < BUSY_BOOTING
}

/// What would be free if a sleeper slept deeper, in bytes.
fn deeper(now: Moment, replica: &Seen) -> u64 {
    match replica.depth {
        SleepDepth::Frozen if now - replica.since >= PAGED_OUT_WITHIN => 0,
        SleepDepth::Frozen | SleepDepth::Light => replica.memory.resident / DEEPER_PART,
        SleepDepth::Deep => 0,
    }
}

#[cfg(test)]
mod tests;
