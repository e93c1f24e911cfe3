//! The loop that keeps what runs equal to what is wanted.
//!
//! It runs on a period and on a nudge and is never told what changed. Nothing in it waits: whatever takes time is
//! done by the tasks of the runtime and of the builds, which nudge when they are done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use marmot_core::budget::{Sleeper, evict};
use marmot_core::id::BuildId;
use marmot_core::{AppName, Clock, Moment};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::app::{self, App, Look};
use crate::config::OnStop;
use crate::files;
use crate::layout::Layout;
use crate::nudge::Nudge;
use crate::observed::{BuildState, Event, Memory, Observed};
use crate::runtime::{Runtime, State, Want};
use crate::wanted::Wanted;

const PERIOD: Duration = Duration::from_secs(1);

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
    pub(crate) memory_budget: u64,
    pub(crate) apps: BTreeMap<AppName, Watched>,
}

/// An app that is looked after.
#[derive(Default)]
pub(crate) struct Watched {
    app: App,
    again_at: Option<Moment>,
    /// Logs of an earlier activation are being removed; nothing is started meanwhile.
    clearing: Option<JoinHandle<()>>,
}

impl Reconciler {
    /// The first look at everything: nothing that is wanted now was activated just now.
    pub(crate) fn begin(&mut self) {
        let wanted = self.wanted.borrow_and_update().clone();
        for name in wanted.apps.keys().cloned().chain(self.runtime.apps()) {
            self.apps.entry(name).or_default();
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
                _ = period.tick() => None,
                apps = self.nudge.taken() => Some(apps),
                Ok(()) = self.builds.changed() => Some(BTreeSet::new()),
                () = due => Some(self.due()),
            };
            self.pass(only);
        }
        if on_stop() == OnStop::Stop {
            self.end_all().await;
        }
    }

    /// Whether nothing of any replica exists.
    pub(crate) fn is_empty(&self) -> bool {
        self.runtime.apps().is_empty()
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
            self.keep_to_the_budget(&wanted);
        }
        let mut next = Observed::clone(&self.observed.borrow());
        let mut changed = false;
        for name in names {
            changed |= self.look(&name, &wanted, &mut next);
        }
        let builds = self.builds.borrow_and_update();
        if next.builds != *builds {
            next.builds.clone_from(&builds);
            changed = true;
        }
        drop(builds);
        if changed {
            self.observed.send_replace(Arc::new(next));
        }
    }

    /// Looks at one app. True when something about it has changed.
    fn look(&mut self, name: &AppName, wanted: &Wanted, next: &mut Observed) -> bool {
        let wanted = wanted.apps.get(name);
        if !self.apps.contains_key(name) {
            let exists = self.runtime.apps().contains(name);
            if wanted.is_none() && !exists {
                return next.apps.remove(name).is_some();
            }
            let clearing = (!exists).then(|| self.clear(name));
            self.apps.insert(name.clone(), Watched { clearing, ..Watched::default() });
        }
        let Some(watched) = self.apps.get_mut(name) else { return false };
        if watched.clearing.as_ref().is_some_and(JoinHandle::is_finished) {
            watched.clearing = None;
        }
        let looked = watched.app.look(&Look {
            now: self.clock.now(),
            name,
            wanted,
            runtime: self.runtime.as_ref(),
            events: &self.events,
            may_start: watched.clearing.is_none(),
        });
        watched.again_at = looked.again_at;
        if looked.gone {
            self.apps.remove(name);
            return next.apps.remove(name).is_some();
        }
        let changed = next.apps.get(name) != Some(&looked.observed);
        if changed {
            next.apps.insert(name.clone(), looked.observed);
        }
        changed
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

    /// Stops the hibernated replicas that are least worth their memory, when together they hold too much.
    fn keep_to_the_budget(&mut self, wanted: &Wanted) {
        let mut sleepers = Vec::new();
        let mut gates = BTreeMap::new();
        for (name, watched) in &self.apps {
            let used = wanted.apps.get(name).is_some_and(|wanted| app::in_use(&wanted.demand));
            for replica in self.runtime.observe(name) {
                if matches!(replica.state, State::Asleep(_)) && !used {
                    sleepers.push(Sleeper {
                        id: replica.id,
                        bytes: held(replica.memory),
                        cold_start: watched.app.boot_time().map_or(1.0, |time| time.as_secs_f64()),
                        wakes: watched.app.wakes(replica.id),
                        last_used: replica.gate.last_used(),
                    });
                    gates.insert(replica.id, replica.gate);
                }
            }
        }
        for id in evict(self.clock.now(), self.memory_budget, &sleepers) {
            if let Some(gate) = gates.get(&id) {
                tracing::info!(replica = %id, "a hibernated replica is stopped to free memory");
                gate.close();
                self.runtime.ensure(id, Want::Gone);
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

/// Memory that a hibernated replica keeps from others, in bytes. What is swapped out is mostly compressed in memory,
/// to less than half of its size.
fn held(memory: Memory) -> u64 {
    memory.resident + memory.swapped / 2
}

#[cfg(test)]
mod tests;
