//! What apps are used for, and what they take: measured every few seconds, noted every minute, reported for charts.
//!
//! An app that does nothing but sleep is noted four times an hour, and one without a replica not at all. A server that
//! stops notes everything; one that is killed loses no more than the last minute of what was done.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use marmot_core::id::LauncherId;
use marmot_core::{AppName, Moment};
use marmot_engine::Observed;
use marmot_engine::observed::ReplicaStage;
use marmot_gateway::meter::Reading;

use super::error::Result;
use super::launchers::allowed_app;
use super::permission::{Action, Identity};
use super::{Demands, Service};
use crate::db::{DbError, apps, history, launchers};
use crate::history::{Counts, Range, Report, floor};

/// How often what apps hold is measured.
pub const MEASURED: Duration = Duration::from_secs(5);
/// A gap longer than this is no measure of what was meanwhile: the machine was suspended.
const AT_MOST: Duration = Duration::from_secs(60);
/// How long what merely sleeps goes unnoted, in seconds.
const QUIET: i64 = 900;

/// What was measured and is not noted yet.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<Measured>);

#[derive(Debug, Default)]
struct Measured {
    /// When it was measured last.
    at: Option<Moment>,
    /// The minute that is being counted, in seconds.
    minute: i64,
    apps: HashMap<AppName, Unnoted>,
}

/// An app's part of it.
#[derive(Debug, Default)]
struct Unnoted {
    /// What its meter showed when it was noted last.
    noted: Reading,
    /// What was measured since.
    held: Counts,
    /// The first minute that is not noted, in seconds.
    since: Option<i64>,
}

/// What is to be noted of an app.
struct ToNote {
    name: AppName,
    counts: Counts,
    reading: Option<Reading>,
    since: i64,
}

impl History {
    fn lock(&self) -> std::sync::MutexGuard<'_, Measured> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn measure(&self, now: Moment, minute: i64, observed: &Observed, demands: &Demands) {
        let mut measured = self.lock();
        let took = measured.at.replace(now).map(|before| now - before).unwrap_or_default().min(AT_MOST);
        measured.minute = minute;
        let millis = u64::try_from(took.as_millis()).unwrap_or_default();
        for (name, app) in observed.apps.iter().filter(|(_, app)| !app.replicas.is_empty()) {
            let demand = demands.of(name).sample();
            let unnoted = measured.apps.entry(name.clone()).or_default();
            unnoted.since.get_or_insert(minute);
            let held = &mut unnoted.held;
            held.people = held.people.max(demand.sessions.max(demand.in_flight + demand.held));
            for replica in &app.replicas {
                let memory = (replica.memory.held() >> 10) * millis / 1000;
                if matches!(replica.stage, ReplicaStage::Hibernated { .. }) {
                    held.asleep += millis;
                    held.asleep_memory += memory;
                } else {
                    held.awake += millis;
                    held.awake_memory += memory;
                }
            }
        }
    }

    /// What is to be noted now; `all`: also of those that merely sleep.
    fn to_note(&self, readings: Vec<(AppName, Reading)>, minute: i64, all: bool) -> Vec<ToNote> {
        let mut measured = self.lock();
        for (name, _) in &readings {
            measured.apps.entry(name.clone()).or_default();
        }
        let readings: HashMap<AppName, Reading> = readings.into_iter().collect();
        let mut due = Vec::new();
        for (name, unnoted) in &measured.apps {
            let reading = readings.get(name);
            let mut counts = unnoted.held.clone();
            if let Some(reading) = reading {
                counts.add(&Counts::risen(reading, &unnoted.noted));
            }
            let since = unnoted.since.unwrap_or(minute);
            let waits = counts.is_quiet() && minute - since < QUIET && !all;
            if !counts.is_nothing() && !waits {
                due.push(ToNote { name: name.clone(), counts, reading: reading.cloned(), since });
            }
        }
        due
    }

    /// That has been noted.
    fn noted(&self, done: Vec<ToNote>, exists: impl Fn(&AppName) -> bool) {
        let mut measured = self.lock();
        for ToNote { name, reading, .. } in done {
            if let Some(unnoted) = measured.apps.get_mut(&name) {
                *unnoted = Unnoted { noted: reading.unwrap_or_default(), ..Unnoted::default() };
            }
        }
        measured.apps.retain(|name, _| exists(name));
    }

    /// What is counted of an app and not noted yet.
    fn pending(&self, name: &AppName, reading: Option<&Reading>) -> Counts {
        let measured = self.lock();
        let nothing = Unnoted::default();
        let unnoted = measured.apps.get(name).unwrap_or(&nothing);
        let mut counts = unnoted.held.clone();
        if let Some(reading) = reading {
            counts.add(&Counts::risen(reading, &unnoted.noted));
        }
        counts
    }
}

impl Service {
    /// Measures what apps hold; to be called every [`MEASURED`]. Notes it when a minute is over, and `at_last` whatever
    /// there is.
    ///
    /// # Errors
    /// When it cannot be noted. Nothing is lost then: it is noted the next time.
    pub async fn keep_history(&self, now: Timestamp, at_last: bool) -> Result<()> {
        let inner = &self.inner;
        let minute = floor(now.as_second(), 60);
        let before = inner.history.lock().minute;
        let ended = before != 0 && minute != before;
        if ended || at_last {
            self.note_history(if ended { before } else { minute }, now, at_last).await?;
        }
        inner.history.measure(inner.live.clock.now(), minute, &self.observed(), &inner.live.demands);
        Ok(())
    }

    async fn note_history(&self, minute: i64, now: Timestamp, all: bool) -> Result<()> {
        let history = &self.inner.history;
        let due = history.to_note(self.meters().read(), minute, all);
        let hour_is_over = minute % 3600 == 3540;
        if !due.is_empty() || hour_is_over {
            let mut db = self.db().write().await?;
            for ToNote { name, counts, since, .. } in &due {
                // One that was deleted since has nobody to tell.
                let Some(launcher) = launchers::by_app_name(&mut db, name).await? else { continue };
                for (slot, counts) in counts.slots(*since, minute) {
                    history::add(&mut db, launcher.id, slot, &counts).await?;
                }
            }
            if hour_is_over {
                history::forget(&mut db, now).await?;
            }
            db.commit().await.map_err(DbError::from)?;
        }
        // What is not known any more, by its meter nor by the engine, needs no memory either.
        let observed = self.observed();
        let metered = self.meters().read();
        let exists = |name: &AppName| {
            observed.apps.contains_key(name) || metered.binary_search_by(|(known, _)| known.cmp(name)).is_ok()
        };
        history.noted(due, exists);
        Ok(())
    }

    /// What an app was used for, and what it took; also when it is off.
    ///
    /// # Errors
    /// [`Error::NotFound`](super::Error::NotFound), [`Error::Forbidden`](super::Error::Forbidden).
    pub async fn usage(&self, who: &Identity, name: &AppName, range: Range) -> Result<Report> {
        let mut db = self.db().read().await?;
        let (launcher, _) = allowed_app(&mut db, who, name, Action::ReadLogs).await?;
        let now = super::now();
        let (width, ..) = range.slots();
        let (from, _) = range.reach(now.as_second());
        let mut found = history::slots(&mut db, launcher.id, width, from).await?;
        let reading = self.meters().of(name).read();
        found.push((now.as_second(), self.inner.history.pending(name, reading.as_ref())));
        let mut on = history::times_on(&mut db, launcher.id, from * 1000).await?;
        if let Some(app) = apps::of_launcher(&mut db, launcher.id).await? {
            on.push((app.activated_at.as_millisecond(), i64::MAX));
        }
        let memory = match found.iter().any(|(_, counts)| counts.awake_memory > 0) {
            true => None,
            false => self.usual_memory(&mut db, launcher.id, now).await?,
        };
        Ok(Report::new(range, now, found, &on, memory))
    }

    /// What a replica of this app held while it was awake, over all that is kept.
    async fn usual_memory(
        &self,
        db: &mut crate::db::Connection,
        launcher: LauncherId,
        now: Timestamp,
    ) -> Result<Option<f64>> {
        let (width, ..) = Range::Month.slots();
        let slots = history::slots(db, launcher, width, Range::Month.reach(now.as_second()).0).await?;
        let mut all = Counts::default();
        slots.iter().for_each(|(_, counts)| all.add(counts));
        Ok(all.awake_memory_each())
    }
}

#[cfg(test)]
mod tests;
