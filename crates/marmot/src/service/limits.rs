//! What the apps and builds of one project may use together: as the installation says it, or as an administrator said it
//! for this project.

use std::time::Duration;

use marmot_core::id::ProjectId;
use marmot_core::said;
use marmot_engine::observed::ReplicaStage;
use serde_json::json;

use super::audit::{self, Thing};
use super::builds::insert_build;
use super::error::Field;
use super::error::{Error, Result};
use super::permission::{Action, Errand, Identity, allowed};
use super::projects::allowed_project;
use super::{Service, now};
use crate::db::{Connection, DbError, builds, launchers, limits};
use crate::model::{Build, BuildStatus, Launcher, ProjectLimits};

/// Builds are counted over so long.
const HOUR: Duration = Duration::from_secs(3600);
/// The largest number that is taken: beyond, JSON does not say which one it is.
const LARGEST: u64 = 1 << 53;

/// The limits of a project, and what is used of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitsView {
    /// What is in force.
    pub allowed: ProjectLimits,
    /// What was said for this project alone.
    pub said: ProjectLimits,
    /// What is used now; what is not counted is absent.
    pub used: ProjectLimits,
}

impl Service {
    /// What the apps and builds of a project may use together, and what they do. For members.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`].
    pub async fn limits(&self, who: &Identity, project: ProjectId) -> Result<LimitsView> {
        let mut db = self.db().read().await?;
        allowed_project(&mut db, who, project, Action::ReadLogs).await?;
        self.limits_view(&mut db, project).await
    }

    /// Says what the apps and builds of a project may use together, in the place of what was said before. For
    /// administrators.
    ///
    /// # Errors
    /// [`Error::SignInNeeded`], [`Error::Forbidden`], [`Error::NotFound`], [`Error::Invalid`].
    pub async fn set_limits(
        &self,
        who: &Identity,
        project: ProjectId,
        change: impl FnOnce(&mut ProjectLimits),
    ) -> Result<LimitsView> {
        allowed(who, Errand::Administer)?;
        let mut db = self.db().write().await?;
        let project = allowed_project(&mut db, who, project, Action::Govern).await?;
        let mut said = limits::get(&mut db, project.id).await?;
        change(&mut said);
        check(&said)?;
        limits::set(&mut db, project.id, &said).await?;
        audit::record(&mut db, who, "project.limits", Thing::project(&project), json!(said)).await?;
        db.commit().await.map_err(DbError::from)?;
        self.wrote_and_in_force().await;
        self.limits_view(&mut *self.db().read().await?, project.id).await
    }

    async fn limits_view(&self, db: &mut Connection, project: ProjectId) -> Result<LimitsView> {
        let said = limits::get(db, project).await?;
        // Its previews among them: they take of it like any other app.
        let found = launchers::of_project(db, project).await?;
        let observed = self.observed();
        let (mut memory, mut replicas) = (0, 0);
        for app in found.iter().filter_map(|launcher| observed.apps.get(&launcher.app_name)) {
            memory += app.promised;
            let is_awake = |stage| matches!(stage, ReplicaStage::Starting(_) | ReplicaStage::Running { .. });
            let awake = app.replicas.iter().filter(|replica| is_awake(replica.stage)).count() as u64;
            replicas += awake.saturating_sub(1);
        }
        let kept = builds::kept_of(db, super::lifecycle::REVISIONS_KEPT).await?;
        let kept = kept.into_iter().filter(|(_, of)| *of == project).map(|(build, _)| build).collect();
        let (pending, this_hour) = (
            builds::with_status(db, BuildStatus::InProgress).await?,
            limits::builds_since(db, project, now() - HOUR).await?.0,
        );
        let ours =
            |build: &&Build| found.iter().any(|launcher| launcher.environment.id == build.environment_id);
        let under_way = pending.iter().filter(ours).count() as u64;
        let names = found.into_iter().map(|launcher| launcher.app_name).collect();
        let used = ProjectLimits {
            memory_bytes: Some(memory),
            builds_at_once: Some(under_way),
            builds_per_hour: Some(this_hour),
            storage_bytes: Some(self.inner.live.storage.used(kept, names).await),
            replicas: Some(replicas),
            requests_per_second: None,
            requests_at_once: None,
        };
        Ok(LimitsView { allowed: said.or(&self.options().limits), said, used })
    }

    /// Begins a build of what the launcher asks for now, unless its project has begun as many as it may within an hour.
    ///
    /// # Errors
    /// [`Error::TooOften`].
    pub(super) async fn begin_build(&self, db: &mut Connection, launcher: &Launcher) -> Result<Build> {
        let (project, now) = (launcher.project_id, now());
        let limits = limits::get(db, project).await?.or(&self.options().limits);
        if let Some(most) = limits.builds_per_hour {
            let (begun, first) = limits::builds_since(db, project, now - HOUR).await?;
            if begun >= most {
                let free_at = first.unwrap_or(now) + HOUR;
                return Err(Error::TooOften {
                    message: said!(
                        "builds-too-often",
                        "builds of the project that were begun within an hour: {begun}, and it may begin {most}",
                        begun = begun,
                        most = most
                    ),
                    otherwise: said!("ask-for-higher-limit", "ask an administrator for a higher limit"),
                    what: "builds",
                    quota: most,
                    window: HOUR,
                    retry_after: Duration::try_from(free_at.duration_since(now)).unwrap_or_default(),
                });
            }
        }
        insert_build(db, launcher).await
    }
}

/// Notes that a build was begun: it counts for an hour.
pub(super) async fn note_build(db: &mut Connection, launcher: &Launcher, build: &Build) -> Result<()> {
    let at = build.created_at;
    Ok(limits::note_build(db, (launcher.project_id, build.id), at, at - HOUR).await?)
}

fn check(said: &ProjectLimits) -> Result<()> {
    for (name, number, least) in said.listed() {
        if number.is_some_and(|number| !(least..=LARGEST).contains(&number)) {
            return Err(Error::invalid(said!(
                "limit-wrong",
                "`{name}` must be from {least} to {most}, or `null` for what the installation says",
                name = name,
                least = least,
                most = LARGEST
            ))
            .about(Field::Limit(name)));
        }
    }
    Ok(())
}
