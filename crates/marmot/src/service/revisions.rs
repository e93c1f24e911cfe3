//! Revisions: what an app ran and runs; the way back to an earlier one, and a restart, which is the same one again.

use std::collections::BTreeMap;

use marmot_core::AppName;
use marmot_core::id::RevisionId;
use marmot_core::said;
use serde_json::json;

use super::apps::{active, note};
use super::audit::{self, Thing};
use super::error::{Error, Result};
use super::launchers::allowed_app;
use super::permission::{Action, Identity};
use super::{AppView, Service, fresh, now};
use crate::db::{DbError, apps, builds, scaling};
use crate::model::Revision;

/// The most revisions that are listed.
const MOST_REVISIONS: u32 = 100;

impl Service {
    /// The revisions of an app, newest first, without the values of their variables.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`].
    pub async fn revisions(&self, who: &Identity, name: &AppName) -> Result<Vec<Revision>> {
        let mut db = self.db().read().await?;
        let (launcher, _) = allowed_app(&mut db, who, name, Action::See).await?;
        let mut found = apps::revisions(&mut db, launcher.id, MOST_REVISIONS).await?;
        found
            .iter_mut()
            .flat_map(|revision| &mut revision.variables)
            .for_each(|variable| variable.value.clear());
        Ok(found)
    }

    /// For each revision of an app the names of variables whose value is not that of the revision before.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn changed_variables(
        &self,
        who: &Identity,
        name: &AppName,
    ) -> Result<BTreeMap<RevisionId, Vec<String>>> {
        let mut db = self.db().read().await?;
        let (launcher, _) = allowed_app(&mut db, who, name, Action::See).await?;
        let found = apps::revisions(&mut db, launcher.id, MOST_REVISIONS).await?;
        let changed = |pair: &[Revision]| {
            let [new, old] = pair else { return None };
            let another = |name: &str, value: &str| {
                old.variables.iter().any(|before| before.name == name && before.value != value)
            };
            let names = new.variables.iter().filter(|variable| another(&variable.name, &variable.value));
            Some((new.id, names.map(|variable| variable.name.clone()).collect()))
        };
        Ok(found.windows(2).filter_map(changed).collect())
    }

    /// Makes an app run an earlier (or later) revision of its own, and scale as it did then.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`], [`Error::Conflict`] when its build is no longer kept.
    pub async fn roll_back(&self, who: &Identity, name: &AppName, revision: RevisionId) -> Result<AppView> {
        self.may_run_code(who)?;
        let mut db = self.db().write().await?;
        let (launcher, project) = allowed_app(&mut db, who, name, Action::Operate).await?;
        let mut app = active(&mut db, &launcher).await?;
        let found = apps::revision(&mut db, revision).await?.filter(|found| found.launcher_id == launcher.id);
        let found = found.ok_or_else(|| Error::not_found("revision", revision))?;
        if let Some(build) = found.program.build()
            && !builds::kept(&mut db, super::lifecycle::REVISIONS_KEPT).await?.contains(&build)
        {
            return Err(Error::conflict(said!(
                "build-not-kept",
                "the result of that revision's build is no longer kept: build it again"
            )));
        }
        if let Some(given) = found.scaling.as_ref().filter(|_| launcher.preview.is_none()) {
            scaling::set(&mut db, launcher.id, given).await?;
        }
        (app.wanted, app.awaits) = (Some(revision), None);
        apps::set_wanted(&mut db, launcher.id, app.wanted, None).await?;
        note(
            &mut db,
            who,
            launcher.id,
            "rolled_back",
            said!("event-rolled-back", "was set to revision {number}", number = found.number),
        )
        .await?;
        let details = json!({"revision": found.number});
        audit::record(&mut db, who, "app.rolled_back", Thing::app(&launcher), details).await?;
        let view = self.view(&mut db, who, launcher, project, app).await?;
        db.commit().await.map_err(DbError::from)?;
        self.wrote();
        Ok(view)
    }

    /// Starts an app afresh, with the program and settings it has: as a new revision of the same, whose replicas come up
    /// beside those that serve and take over from them. Nobody is cut off. One that has failed is tried again.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`], [`Error::Conflict`] while its first build is under way.
    pub async fn restart(&self, who: &Identity, name: &AppName) -> Result<AppView> {
        self.may_run_code(who)?;
        let mut db = self.db().write().await?;
        let (launcher, project) = allowed_app(&mut db, who, name, Action::Operate).await?;
        let mut app = active(&mut db, &launcher).await?;
        let runs = match app.wanted {
            Some(id) => apps::revision(&mut db, id).await?,
            None => None,
        };
        let runs = runs.ok_or_else(|| {
            Error::conflict(said!(
                "nothing-to-restart",
                "`{name}` has not been built yet, so there is nothing to restart: wait for its build",
                name = name.to_string()
            ))
        })?;
        let next = Revision {
            id: fresh(),
            // Replicas of its own, even where the one before only changed how many there are.
            runs_as: None,
            created_at: now(),
            ready_at: None,
            failed: None,
            ..runs
        };
        let number = apps::insert_revision(&mut db, &next).await?;
        app.wanted = Some(next.id);
        apps::set_wanted(&mut db, launcher.id, app.wanted, app.awaits).await?;
        apps::retry(&mut db, launcher.id).await?;
        app.retry += 1;
        let told = said!(
            "event-restarted",
            "is restarted: revision {number} is the same as before, with new replicas",
            number = number
        );
        note(&mut db, who, launcher.id, "restarted", told).await?;
        let details = json!({"revision": number});
        audit::record(&mut db, who, "app.restarted", Thing::app(&launcher), details).await?;
        let view = self.view(&mut db, who, launcher, project, app).await?;
        db.commit().await.map_err(DbError::from)?;
        self.wrote();
        Ok(view)
    }
}
