//! What a new launcher begins with besides its recipe: who may open its app, how that scales, its secrets. And the look
//! at all of it before anything is made.

use marmot_core::said;
use serde_json::json;

use super::Service;
use super::app_secrets::check_secret;
use super::audit::{self, Thing};
use super::error::Field;
use super::error::{Error, Result};
use super::launchers::NewLauncher;
use super::opening::{Invited, checked_opening};
use super::permission::{Action, Identity, Target, decide, enforce};
use super::projects::role_of;
use super::scaling::ScalingView;
use crate::db::{Connection, DbError, opening, scaling};
use crate::model::{Launcher, Project, Secret, SecretForm};
use crate::opening::{OpenTo, Opening};
use crate::scaling::Scaling;

/// What a new launcher begins with, besides its recipe. The default says nothing, and leaves everything as usual.
#[derive(Debug, Clone, Default)]
pub struct Beginning {
    /// To whom its app is open. Only owners may say anything but [`OpenTo::Project`].
    pub open_to: OpenTo,
    /// People who are named for it, by their usernames.
    pub users: Vec<String>,
    /// Groups that are named for it, by their paths.
    pub groups: Vec<String>,
    /// How it scales.
    pub scaling: Scaling,
    /// Its secrets, as variables: names and values.
    pub secrets: Vec<(String, Secret)>,
}

impl Service {
    /// Makes a launcher together with what it begins with: all of it, or nothing.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`], [`Error::Invalid`], [`Error::NotOffered`].
    pub async fn begin_launcher(
        &self,
        who: &Identity,
        new: NewLauncher,
        beginning: Beginning,
    ) -> Result<Launcher> {
        let mut db = self.db().write().await?;
        let (launcher, project) = self.drafted(&mut db, who, new).await?;
        self.insert_launcher(&mut db, who, &launcher).await?;
        if let Some(said) = self.checked_beginning(&mut db, who, &project, &beginning).await? {
            opening::set(&mut db, launcher.id, &said).await?;
            let details = json!({
                "open_to": said.to.as_str(), "users": beginning.users, "groups": beginning.groups,
            });
            audit::record(&mut db, who, "app.access", Thing::app(&launcher), details).await?;
        }
        if beginning.scaling != Scaling::default() {
            scaling::set(&mut db, launcher.id, &beginning.scaling).await?;
            audit::record(&mut db, who, "app.scaling", Thing::app(&launcher), json!({})).await?;
        }
        for (name, value) in &beginning.secrets {
            let owner = (&project, Some(&launcher));
            self.keep_secret(&mut db, who, owner, name, value, SecretForm::Variable).await?;
        }
        db.commit().await.map_err(DbError::from)?;
        self.wrote_and_in_force().await;
        Ok(launcher)
    }

    /// Whether [`Self::begin_launcher`] would take this, without making anything.
    ///
    /// # Errors
    /// As that.
    pub async fn check_launcher(
        &self,
        who: &Identity,
        new: NewLauncher,
        beginning: &Beginning,
    ) -> Result<()> {
        let mut db = self.db().read().await?;
        let (_, project) = self.drafted(&mut db, who, new).await?;
        self.checked_beginning(&mut db, who, &project, beginning).await.map(drop)
    }

    /// Whether `who` may say in this project who opens its apps.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn may_open_to(&self, who: &Identity, project: &Project) -> Result<bool> {
        self.may(who, project, Action::Govern).await
    }

    /// How an app scales of which nothing is said.
    ///
    /// # Errors
    /// [`Error::Invalid`] for settings of the server that make no sense.
    pub fn usual_scaling(&self) -> Result<ScalingView> {
        let given = Scaling::default();
        Ok(ScalingView { policy: self.policy_of(&given)?, given, decision: None })
    }

    /// The opening that a beginning asks for, where it asks for one; everything else of it is right as well.
    async fn checked_beginning(
        &self,
        db: &mut Connection,
        who: &Identity,
        project: &Project,
        beginning: &Beginning,
    ) -> Result<Option<Opening>> {
        self.policy_of(&beginning.scaling)?;
        for (index, (name, value)) in beginning.secrets.iter().enumerate() {
            check_secret(name, value)?;
            if beginning.secrets[..index].iter().any(|(earlier, _)| earlier == name) {
                return Err(Error::invalid(said!(
                    "secret-twice",
                    "the secret `{name}` is given twice",
                    name = name
                ))
                .about(Field::Secrets));
            }
        }
        if beginning.open_to == OpenTo::Project {
            return Ok(None);
        }
        let role = role_of(db, who, project.id).await?;
        enforce(
            decide(who, role, Target::project(project), Action::Govern),
            Action::Govern,
            "project",
            project.id,
        )?;
        let guests = Invited { users: &beginning.users, groups: &beginning.groups };
        checked_opening(db, project, beginning.open_to, guests).await.map(Some)
    }
}
