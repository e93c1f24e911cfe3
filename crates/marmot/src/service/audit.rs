//! Who did what to which thing, when, and from where. Written in the transaction of the deed itself.

use marmot_core::id::{CredentialId, ProjectId};
use serde_json::Value;

use super::call::Call;
use super::error::Result;
use super::permission::{Action, Errand, Identity, allowed};
use super::projects::allowed_project;
use super::{Service, fresh_ulid, now};
use crate::db::{Connection, audit};
use crate::model::{Build, Deed, Group, Launcher, Page, Paged, Project, StoredSecret, Token, User, Via};

/// What something was done to.
#[derive(Debug, Clone)]
pub(super) struct Thing {
    kind: &'static str,
    id: String,
    name: String,
    project: Option<ProjectId>,
}

impl Thing {
    pub(super) fn project(project: &Project) -> Self {
        let name = format!("{}/{}", project.namespace, project.slug);
        Self { kind: "project", id: project.id.to_string(), name, project: Some(project.id) }
    }

    pub(super) fn launcher(launcher: &Launcher) -> Self {
        let project = Some(launcher.project_id);
        Self { kind: "launcher", id: launcher.id.to_string(), name: launcher.name.clone(), project }
    }

    pub(super) fn app(launcher: &Launcher) -> Self {
        let name = launcher.app_name.to_string();
        Self { kind: "app", id: launcher.id.to_string(), name, project: Some(launcher.project_id) }
    }

    pub(super) fn build(build: &Build, launcher: &Launcher) -> Self {
        let project = Some(launcher.project_id);
        Self { kind: "build", id: build.id.to_string(), name: launcher.name.clone(), project }
    }

    /// A secret of a launcher or project; `of`: which.
    pub(super) fn secret(secret: &StoredSecret, of: &str) -> Self {
        let name = format!("{of}/{}", secret.name);
        Self { kind: "secret", id: secret.id.to_string(), name, project: Some(secret.project_id) }
    }

    pub(super) fn credential(id: CredentialId, host: &str, project: ProjectId) -> Self {
        Self { kind: "credential", id: id.to_string(), name: host.to_owned(), project: Some(project) }
    }

    pub(super) fn group(group: &Group) -> Self {
        Self { kind: "group", id: group.id.to_string(), name: group.path.to_string(), project: None }
    }

    pub(super) fn user(user: &User) -> Self {
        Self { kind: "user", id: user.id.to_string(), name: user.username.to_string(), project: None }
    }

    pub(super) fn token(token: &Token) -> Self {
        Self { kind: "token", id: token.id.to_string(), name: token.name.clone(), project: None }
    }
}

/// Notes a deed. `action`: what was done, as `thing.done`; `details`: never a secret.
pub(super) async fn record(
    db: &mut Connection,
    who: &Identity,
    action: &str,
    thing: Thing,
    details: Value,
) -> Result<()> {
    let Call { via, address, .. } = Call::current();
    let deed = Deed {
        id: fresh_ulid().to_string(),
        at: now(),
        actor_id: who.id(),
        // Only operators on the data directory, and those who sign in, are nobody yet.
        actor: match (who.user(), via) {
            (Some(user), _) => user.username.to_string(),
            (None, Via::Webhook) => "webhook".to_owned(),
            (None, Via::Server) => "server".to_owned(),
            (None, _) => "operator".to_owned(),
        },
        via,
        address,
        action: action.to_owned(),
        kind: thing.kind.to_owned(),
        target_id: thing.id,
        target: thing.name,
        project: thing.project,
        details,
    };
    Ok(audit::insert(db, &deed).await?)
}

impl Service {
    /// What was done in a project, newest first. For its owners.
    ///
    /// # Errors
    /// [`super::Error::NotFound`], [`super::Error::Forbidden`].
    pub async fn project_audit(&self, who: &Identity, id: ProjectId, page: Page) -> Result<Paged<Deed>> {
        let mut db = self.db().read().await?;
        allowed_project(&mut db, who, id, Action::Inspect).await?;
        let (items, total) = audit::list(&mut db, Some(id), page).await?;
        Ok(Paged { items, page, total })
    }

    /// Everything that was done, newest first. For administrators.
    ///
    /// # Errors
    /// [`super::Error::SignInNeeded`], [`super::Error::Forbidden`].
    pub async fn audit(&self, who: &Identity, page: Page) -> Result<Paged<Deed>> {
        allowed(who, Errand::Oversee)?;
        let (items, total) = audit::list(&mut *self.db().read().await?, None, page).await?;
        Ok(Paged { items, page, total })
    }

    /// What was done after the deed with this id (from the beginning without one), oldest first: a part of the export.
    /// For owners of the project, or for administrators without one.
    ///
    /// # Errors
    /// As [`Self::audit`] and [`Self::project_audit`].
    pub async fn audit_after(
        &self,
        who: &Identity,
        project: Option<ProjectId>,
        after: Option<&str>,
    ) -> Result<Vec<Deed>> {
        let mut db = self.db().read().await?;
        match project {
            Some(id) => drop(allowed_project(&mut db, who, id, Action::Inspect).await?),
            None => drop(allowed(who, Errand::Oversee)?.id),
        }
        Ok(audit::after(&mut db, project, after.unwrap_or_default()).await?)
    }
}
