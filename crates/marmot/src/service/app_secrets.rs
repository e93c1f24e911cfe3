//! Secrets of projects and launchers: set, listed by name, removed; their values reach replicas and nobody else.

use std::collections::BTreeMap;

use marmot_core::id::{LauncherId, ProjectId};
use marmot_core::{Said, said};
use serde_json::json;

use super::apps::roll_out;
use super::audit::{self, Thing};
use super::error::Field;
use super::error::{Error, Result};
use super::launchers::{allowed_launcher, check_variable_name};
use super::permission::{Action, Identity};
use super::projects::allowed_project;
use super::{Service, fresh, now};
use crate::db::{Connection, DbError, apps, credentials, following, hooks, launchers, secrets};
use crate::model::{GivenSecret, Launcher, Project, Secret, SecretForm, StoredSecret};
use crate::vault::Sealed;

/// The most secrets of one project or launcher.
const MOST: usize = 100;
/// The most bytes of one value.
const LONGEST: usize = 64 * 1024;

/// Whose secrets are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretsOf {
    /// Those that all launchers of a project are given.
    Project(ProjectId),
    /// Those of one launcher. They win over the project's.
    Launcher(LauncherId),
}

impl Service {
    /// The secrets of a project or launcher, by name, without their values: nobody is ever shown these.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`].
    pub async fn secrets(&self, who: &Identity, of: SecretsOf) -> Result<Vec<StoredSecret>> {
        let mut db = self.db().read().await?;
        let (project, launcher) = allowed(&mut db, who, of).await?;
        let (project, launcher) = (project.id, launcher.map(|launcher| launcher.id));
        Ok(secrets::list(&mut db, project, launcher).await?)
    }

    /// Sets a secret, be it new or not. Apps that are on and are given it go on with a new revision.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`], [`Error::Invalid`] in words without the value.
    pub async fn set_secret(
        &self,
        who: &Identity,
        of: SecretsOf,
        name: &str,
        value: Secret,
        form: SecretForm,
    ) -> Result<StoredSecret> {
        check_secret(name, &value)?;
        let mut db = self.db().write().await?;
        let (project, launcher) = allowed(&mut db, who, of).await?;
        let owner = (&project, launcher.as_ref());
        let secret = self.keep_secret(&mut db, who, owner, name, &value, form).await?;
        self.roll_out_to(
            &mut db,
            who,
            of,
            said!("event-with-secret", "goes on with another value of the secret {name}", name = name),
        )
        .await?;
        db.commit().await.map_err(DbError::from)?;
        self.wrote_and_in_force().await;
        Ok(secret)
    }

    /// Seals a secret into the database, be it new or not.
    pub(super) async fn keep_secret(
        &self,
        db: &mut Connection,
        who: &Identity,
        (project, launcher): (&Project, Option<&Launcher>),
        name: &str,
        value: &Secret,
        form: SecretForm,
    ) -> Result<StoredSecret> {
        let (project_id, launcher_id) = (project.id, launcher.map(|launcher| launcher.id));
        let now = now();
        let known = secrets::by_name(db, project_id, launcher_id, name).await?;
        let is_new = known.is_none();
        let secret = match known {
            Some(known) => StoredSecret { form, updated_at: now, ..known },
            None => StoredSecret {
                id: fresh(),
                project_id,
                launcher_id,
                name: name.to_owned(),
                form,
                created_at: now,
                updated_at: now,
            },
        };
        let sealed = self.vault().seal(&place(&secret), value).map_err(unsealable)?;
        if is_new {
            if secrets::list(db, project_id, launcher_id).await?.len() >= MOST {
                return Err(Error::invalid(said!(
                    "secrets-too-many",
                    "there may be {most} secrets at most: remove one first",
                    most = MOST
                ))
                .about(Field::Secrets));
            }
            secrets::insert(db, &secret, &sealed).await?;
        } else {
            secrets::update(db, &secret, &sealed).await?;
        }
        let thing = Thing::secret(&secret, &owner(project, launcher));
        audit::record(db, who, "secret.set", thing, json!({"form": form.as_str()})).await?;
        Ok(secret)
    }

    /// Removes a secret. Apps that are on and were given it go on with a new revision.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`].
    pub async fn remove_secret(&self, who: &Identity, of: SecretsOf, name: &str) -> Result<()> {
        let mut db = self.db().write().await?;
        let (project, launcher) = allowed(&mut db, who, of).await?;
        let id = launcher.as_ref().map(|launcher| launcher.id);
        let found = secrets::by_name(&mut db, project.id, id, name).await?;
        let found = found.ok_or_else(|| Error::not_found("secret", name))?;
        secrets::delete(&mut db, found.id).await?;
        let thing = Thing::secret(&found, &owner(&project, launcher.as_ref()));
        audit::record(&mut db, who, "secret.removed", thing, json!({})).await?;
        self.roll_out_to(
            &mut db,
            who,
            of,
            said!("event-without-secret", "goes on without the secret {name}", name = name),
        )
        .await?;
        db.commit().await.map_err(DbError::from)?;
        self.wrote_and_in_force().await;
        Ok(())
    }

    /// Brings changed secrets to the apps that are on and are given them.
    async fn roll_out_to(&self, db: &mut Connection, who: &Identity, of: SecretsOf, why: Said) -> Result<()> {
        let mut concerned = match of {
            SecretsOf::Launcher(id) => {
                let mut concerned: Vec<_> = launchers::get(db, id).await?.into_iter().collect();
                concerned.extend(launchers::previews(db, id).await?);
                concerned
            }
            SecretsOf::Project(id) => launchers::of_project(db, id).await?,
        };
        let following = following::all(db).await?;
        let given = |id| following.get(&id).is_some_and(|following| following.secrets);
        concerned.retain(|launcher| launcher.preview.is_none() || given(launcher.ruled_by()));
        for launcher in concerned {
            if let Some(app) = apps::of_launcher(db, launcher.id).await? {
                roll_out(db, who, &launcher, &app, why.clone()).await?;
            }
        }
        Ok(())
    }

    /// What each launcher's replicas are given, by launcher: its own secrets, and those of its project that it has no
    /// own of the same name for.
    ///
    /// # Errors
    /// When the database fails, or a secret cannot be opened.
    pub(super) async fn given_secrets(&self, db: &mut Connection) -> Result<Given> {
        let mut given = Given::default();
        for (secret, sealed) in secrets::all(db).await? {
            let value = self.vault().open(&place(&secret), &sealed).map_err(unsealable)?;
            let one = GivenSecret { name: secret.name, value, form: secret.form };
            match secret.launcher_id {
                Some(launcher) => given.of_launchers.entry(launcher).or_default().push(one),
                None => given.of_projects.entry(secret.project_id).or_default().push(one),
            }
        }
        Ok(given)
    }

    /// Whether everything that is sealed can be opened: to be asked before anything is served.
    ///
    /// # Errors
    /// In words for the operator: which key is missing.
    pub async fn check_vault(&self) -> Result<()> {
        let mut db = self.db().read().await?;
        self.given_secrets(&mut db).await?;
        self.given_credentials(&mut db).await?;
        for (hook, sealed) in hooks::all(&mut db).await? {
            self.vault().open(&super::hooks::place(&hook), &sealed).map_err(unsealable)?;
        }
        Ok(())
    }

    /// Seals everything with the newest master key; how many values were not yet. The old key is not needed afterwards.
    ///
    /// # Errors
    /// As [`Self::check_vault`]. Then nothing has changed.
    pub async fn reseal(&self) -> Result<usize> {
        let mut db = self.db().write().await?;
        let vault = self.vault();
        let renewed = |place: &str, sealed: &Sealed| vault.renewed(place, sealed).map_err(unsealable);
        let mut count = 0;
        for (secret, sealed) in secrets::all(&mut db).await? {
            if let Some(sealed) = renewed(&place(&secret), &sealed)? {
                secrets::reseal(&mut db, secret.id, &sealed).await?;
                count += 1;
            }
        }
        for (credential, sealed) in credentials::all(&mut db).await? {
            if let Some(sealed) = renewed(&super::credentials::place(&credential), &sealed)? {
                credentials::reseal(&mut db, credential.id, &sealed).await?;
                count += 1;
            }
        }
        for (hook, sealed) in hooks::all(&mut db).await? {
            if let Some(sealed) = renewed(&super::hooks::place(&hook), &sealed)? {
                hooks::reseal(&mut db, hook.launcher_id, &sealed).await?;
                count += 1;
            }
        }
        db.commit().await.map_err(DbError::from)?;
        Ok(count)
    }
}

/// The secrets that replicas are given.
#[derive(Debug, Default)]
pub(super) struct Given {
    of_projects: BTreeMap<ProjectId, Vec<GivenSecret>>,
    of_launchers: BTreeMap<LauncherId, Vec<GivenSecret>>,
}

impl Given {
    /// Those of this launcher's replicas, by name. Previews have their launcher's, where they are given any.
    pub(super) fn to(&self, project: ProjectId, launcher: LauncherId) -> Vec<GivenSecret> {
        let shared = self.of_projects.get(&project).into_iter().flatten();
        let own = self.of_launchers.get(&launcher).into_iter().flatten();
        let by_name: BTreeMap<_, _> = shared.chain(own).map(|secret| (&secret.name, secret)).collect();
        by_name.into_values().cloned().collect()
    }
}

async fn allowed(db: &mut Connection, who: &Identity, of: SecretsOf) -> Result<(Project, Option<Launcher>)> {
    match of {
        SecretsOf::Project(id) => Ok((allowed_project(db, who, id, Action::Change).await?, None)),
        SecretsOf::Launcher(id) => {
            let (launcher, project) = allowed_launcher(db, who, id, Action::Change).await?;
            Ok((project, Some(launcher)))
        }
    }
}

/// Whose secret it is, in words for the record.
fn owner(project: &Project, launcher: Option<&Launcher>) -> String {
    launcher.map_or_else(|| project.slug.to_string(), |launcher| launcher.app_name.to_string())
}

/// Whether there may be a secret of this name and value.
pub(super) fn check_secret(name: &str, value: &Secret) -> Result<()> {
    check_variable_name(name, Field::SecretName)?;
    check_value(name, value)
}

fn check_value(name: &str, value: &Secret) -> Result<()> {
    let value = value.reveal();
    if value.is_empty() || value.contains('\0') || value.len() > LONGEST {
        return Err(Error::invalid(said!(
            "secret-value-wrong",
            "the value of the secret `{name}` must have 1 to {most} bytes, and no NUL character",
            name = name,
            most = LONGEST
        ))
        .about(Field::Secrets));
    }
    Ok(())
}

/// What a secret is sealed for.
fn place(secret: &StoredSecret) -> String {
    format!("secrets/{}", secret.id)
}

/// A vault that cannot open what it sealed is the operator's to mend.
pub(super) fn unsealable(error: crate::vault::CannotOpen) -> Error {
    Error::Internal(Box::new(error))
}
