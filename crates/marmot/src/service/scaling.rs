//! How an app scales: what was said, what follows from it, and what is decided at the moment.

use marmot_core::AppName;
use marmot_core::said;
use marmot_core::scaling::Policy;
use serde_json::json;

use super::apps::note;
use super::audit::{self, Thing};
use super::error::Field;
use super::error::{Error, Result};
use super::launchers::allowed_app;
use super::permission::{Action, Identity};
use super::{Service, fresh, now};
use crate::db::{Connection, DbError, apps, scaling};
use crate::model::{Launcher, Revision};
use crate::scaling::{Scaling, of_preview};

/// How an app scales.
#[derive(Debug, Clone)]
pub struct ScalingView {
    /// What was said.
    pub given: Scaling,
    /// What it means.
    pub policy: Policy,
    /// How many replicas should be awake now, and why in words; absent while the app is off.
    pub decision: Option<(u32, String)>,
}

impl Service {
    /// How an app scales; also when it is off.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn scaling(&self, who: &Identity, name: &AppName) -> Result<ScalingView> {
        let mut db = self.db().read().await?;
        let (launcher, _) = allowed_app(&mut db, who, name, Action::See).await?;
        let given = scaling::get(&mut db, launcher.ruled_by()).await?;
        self.scaling_view(&launcher, given)
    }

    /// Says anew how an app scales: what is left out is as the preset and the server say.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`], [`Error::Invalid`] for what makes no sense.
    pub async fn set_scaling(&self, who: &Identity, name: &AppName, given: Scaling) -> Result<ScalingView> {
        let mut db = self.db().write().await?;
        let (launcher, _) = allowed_app(&mut db, who, name, Action::Change).await?;
        let view = self.scaling_view(&launcher, given)?;
        let before = scaling::get(&mut db, launcher.id).await?;
        scaling::set(&mut db, launcher.id, &view.given).await?;
        if before != view.given {
            revise(&mut db, &launcher, &view.given).await?;
        }
        note(
            &mut db,
            who,
            launcher.id,
            "scaling_changed",
            said!("event-scaling-changed", "scales by other settings"),
        )
        .await?;
        audit::record(&mut db, who, "app.scaling", Thing::app(&launcher), json!({})).await?;
        db.commit().await.map_err(DbError::from)?;
        self.wrote();
        Ok(view)
    }

    /// What is said of how an app scales comes to this here.
    pub(super) fn policy_of(&self, given: &Scaling) -> Result<Policy> {
        let options = self.options();
        let policy = given.policy(&options.policy, options.max_replicas);
        policy.map_err(|refused| Error::invalid(refused.said).about(Field::Scaling(refused.setting)))
    }

    fn scaling_view(&self, launcher: &Launcher, given: Scaling) -> Result<ScalingView> {
        let policy = self.policy_of(&given)?;
        let policy = if launcher.preview.is_some() { of_preview(policy) } else { policy };
        let observed = self.observed();
        let decision = observed.apps.get(&launcher.app_name).and_then(|app| app.decision);
        Ok(ScalingView { given, policy, decision: decision.map(|(want, why)| (want, why.to_string())) })
    }
}

/// Makes an app that is on go on as a new revision that scales so. Its replicas stay as they are: nothing but their number
/// follows from it.
async fn revise(db: &mut Connection, launcher: &Launcher, given: &Scaling) -> Result<()> {
    let Some(app) = apps::of_launcher(db, launcher.id).await? else { return Ok(()) };
    // One that still waits for its first revision makes that with the settings of then.
    let Some(wanted) = app.wanted else { return Ok(()) };
    let Some(runs) = apps::revision(db, wanted).await? else { return Ok(()) };
    let next = Revision {
        id: fresh(),
        runs_as: Some(runs.engine_id()),
        scaling: Some(given.clone()),
        created_at: now(),
        ..runs
    };
    apps::insert_revision(db, &next).await?;
    Ok(apps::set_wanted(db, launcher.id, Some(next.id), app.awaits).await?)
}
