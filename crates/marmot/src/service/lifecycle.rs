//! What the lifecycle loop reads from the database and notes in it. Each note is idempotent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use marmot_core::AppName;
use marmot_core::id::{BuildId, EnvironmentId, GroupId, ProjectId, RevisionId, UserId};
use marmot_core::{Said, said};
use marmot_gateway::routes::Access;

use super::apps::insert_revision;
use super::builds::{fits, insert_build, program_of};
use super::credentials::Login;
use super::error::{Error, Result};
use super::{Service, now};
use crate::db::projects::Viewer;
use crate::db::{
    DbError, apps, builds, events, following, groups, launchers, limits, projects, scaling, traffic,
};
use crate::model::{
    App, AppEvent, Build, BuildResult, BuildStatus, CredentialKind, EnvVariable, EnvironmentSource,
    FailedStart, GivenSecret, Launcher, Page, Program, ProjectLimits, Revision,
};
use crate::scaling::Scaling;

/// How many of a launcher's last revisions can be rolled back to.
pub(super) const REVISIONS_KEPT: u32 = 5;

/// Everything that should be, at one moment.
#[derive(Debug, Clone, Default)]
pub struct Picture {
    /// The apps that are on.
    pub apps: Vec<ActiveApp>,
    /// The builds that should be done.
    pub builds: Vec<Build>,
    /// The variables and secrets of the launchers whose environments these builds make.
    pub given: BTreeMap<EnvironmentId, (Vec<EnvVariable>, Vec<GivenSecret>)>,
    /// Which app of which project an environment is for.
    pub owners: BTreeMap<EnvironmentId, Owner>,
    /// What is shown to hosts of repositories, by the environment that is built.
    pub git_hosts: BTreeMap<EnvironmentId, Vec<Login>>,
    /// What is shown to registries of images, by the environment that is built.
    pub registries: BTreeMap<EnvironmentId, Vec<Login>>,
    /// The finished builds whose results must stay.
    pub kept_builds: BTreeSet<BuildId>,
    /// Every app's address that means something, on or off.
    pub addresses: Vec<Address>,
    /// Whose the builds are: those that should be done, and those whose results must stay.
    pub builds_of: BTreeMap<BuildId, ProjectId>,
    /// What the apps and builds of each project with apps or builds may use together.
    pub limits: BTreeMap<ProjectId, ProjectLimits>,
    /// The members of every group who can sign in.
    pub groups: BTreeMap<GroupId, Arc<BTreeSet<UserId>>>,
}

/// Which app of which project.
#[derive(Debug, Clone)]
pub struct Owner {
    /// The project's namespace.
    pub namespace: String,
    /// Its name in there.
    pub project: String,
    /// The app.
    pub app: AppName,
}

/// An app that is on.
#[derive(Debug, Clone)]
pub struct ActiveApp {
    /// The app. [`App::awaits`] is also set after that build failed.
    pub app: App,
    /// Its launcher.
    pub launcher: Launcher,
    /// What it should run; absent while its first build is under way or has failed.
    pub revision: Option<Revision>,
    /// The build that becomes its next revision: in progress, failed or cancelled.
    pub awaited: Option<Build>,
    /// What was said about how it scales.
    pub scaling: Scaling,
    /// What its replicas are given besides variables.
    pub secrets: Vec<GivenSecret>,
    /// What is shown to registries of container images.
    pub registries: Vec<Login>,
}

/// An address that means something.
#[derive(Debug, Clone)]
pub struct Address {
    /// The first label of its host.
    pub app: AppName,
    /// What people call it.
    pub title: String,
    /// Who may open it.
    pub access: Access,
    /// How its requests are treated.
    pub traffic: marmot_gateway::routes::Traffic,
    /// Who may read its logs: the members of its project.
    pub log_readers: Arc<BTreeSet<UserId>>,
    /// It is on.
    pub on: bool,
}

/// How a build ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildEnd {
    /// It has a result.
    Succeeded(BuildResult),
    /// It has none.
    Failed(BuildResult),
    /// It was called off.
    Cancelled,
}

impl Service {
    /// Everything that should be, read in one transaction.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn picture(&self) -> Result<Picture> {
        // For writing, so that it is one moment on both databases.
        let mut db = self.db().write().await?;
        let every = Page { page: 1, per_page: u32::MAX };
        let launchers = launchers::all(&mut db).await?;
        let launchers: BTreeMap<_, _> =
            launchers.into_iter().map(|launcher| (launcher.id, launcher)).collect();
        let following = following::all(&mut db).await?;
        let revisions = apps::wanted_revisions(&mut db).await?;
        let revisions: BTreeMap<_, _> =
            revisions.into_iter().map(|revision| (revision.id, revision)).collect();
        let awaited: BTreeMap<_, _> =
            builds::awaited(&mut db).await?.into_iter().map(|build| (build.id, build)).collect();
        let scaling = scaling::all(&mut db).await?;
        let given = self.given_secrets(&mut db).await?;
        let secrets_of = |launcher: &Launcher| {
            let withheld = launcher
                .preview
                .as_ref()
                .is_some_and(|preview| following.get(&preview.of).is_none_or(|following| !following.secrets));
            if withheld { Vec::new() } else { given.to(launcher.project_id, launcher.ruled_by()) }
        };
        let logins = self.given_credentials(&mut db).await?;
        let mut active = Vec::new();
        for app in apps::all(&mut db).await? {
            let Some(launcher) = launchers.get(&app.launcher_id).cloned() else { continue };
            let revision = app.wanted.and_then(|id| revisions.get(&id).cloned());
            let awaited = app.awaits.and_then(|id| awaited.get(&id).cloned());
            let scaling = scaling.get(&launcher.ruled_by()).cloned().unwrap_or_default();
            let secrets = secrets_of(&launcher);
            let registries = logins.of(launcher.project_id, CredentialKind::Registry);
            active.push(ActiveApp { app, launcher, revision, awaited, scaling, secrets, registries });
        }
        let on: BTreeSet<_> = active.iter().map(|active| active.launcher.id).collect();
        let (all_projects, _) =
            projects::list(&mut db, Viewer::Administrator, &Default::default(), every).await?;
        let all_projects: BTreeMap<_, _> =
            all_projects.into_iter().map(|project| (project.id, project)).collect();
        let mut members = projects::all_members(&mut db).await?;
        let mut people = crate::db::users::all(&mut db).await?;
        people.retain(|user| user.disabled_at.is_none());
        let admins: BTreeSet<_> = people.iter().filter(|user| user.is_admin).map(|user| user.id).collect();
        let said = limits::all(&mut db).await?;
        let traffic = traffic::all(&mut db).await?;
        let mut doors = self.doors(&mut db, people.iter().map(|user| user.id).collect(), &said).await?;
        let members: BTreeMap<_, Arc<BTreeSet<UserId>>> = all_projects
            .keys()
            .map(|project| (*project, Arc::new(&members.remove(project).unwrap_or_default() | &admins)))
            .collect();
        let addresses = launchers.values().filter_map(|launcher| {
            let project = all_projects.get(&launcher.project_id)?;
            let members = members.get(&project.id)?;
            Some(Address {
                app: launcher.app_name.clone(),
                title: launcher.name.clone(),
                access: self.access(&mut doors, launcher, project, members),
                traffic: {
                    let said = traffic.get(&launcher.ruled_by()).copied().unwrap_or_default();
                    marmot_gateway::routes::Traffic {
                        body_limit: said.body_limit(self.options().body_limit),
                        is_logged: said.log_requests,
                        is_http2: said.http2,
                    }
                },
                log_readers: Arc::clone(members),
                on: on.contains(&launcher.id),
            })
        });
        let addresses = addresses.collect();
        let mut pending = builds::with_status(&mut db, BuildStatus::InProgress).await?;
        if self.operators_alone() {
            active.retain(|active| admins.contains(&active.app.activated_by));
            let of_active = |build: &Build| {
                active.iter().any(|active| active.launcher.environment.id == build.environment_id)
            };
            let by_operators = |build: &Build| {
                let mut launchers = launchers.values();
                launchers.any(|launcher| {
                    launcher.environment.id == build.environment_id && admins.contains(&launcher.created_by)
                })
            };
            pending.retain(|build| of_active(build) || by_operators(build));
        }
        let mut builds_of: BTreeMap<_, _> =
            builds::kept_of(&mut db, REVISIONS_KEPT).await?.into_iter().collect();
        let kept_builds = builds_of.keys().copied().collect();
        let of_environment: BTreeMap<_, _> =
            launchers.values().map(|launcher| (launcher.environment.id, launcher.project_id)).collect();
        let of_pending = |build: &Build| Some((build.id, *of_environment.get(&build.environment_id)?));
        builds_of.extend(pending.iter().filter_map(of_pending));
        let limited =
            active.iter().map(|active| active.launcher.project_id).chain(builds_of.values().copied());
        let usual = &self.options().limits;
        let limits =
            limited.map(|project| (project, said.get(&project).copied().unwrap_or_default().or(usual)));
        let limits = limits.collect();
        let built: BTreeSet<_> = pending.iter().map(|build| build.environment_id).collect();
        let built = launchers.values().filter(|launcher| built.contains(&launcher.environment.id));
        let built: Vec<&Launcher> = built.collect();
        let owner = |launcher: &&Launcher| {
            let project = all_projects.get(&launcher.project_id)?;
            let (namespace, project) = (project.namespace.to_string(), project.slug.to_string());
            Some((launcher.environment.id, Owner { namespace, project, app: launcher.app_name.clone() }))
        };
        let owners = built.iter().filter_map(owner).collect();
        let given = built.iter().map(|launcher| {
            let secrets = secrets_of(launcher);
            (launcher.environment.id, (launcher.variables.clone(), secrets))
        });
        let given = given.collect();
        let by_environment = |kind: CredentialKind| {
            let shown = |launcher: &Launcher| (launcher.environment.id, logins.of(launcher.project_id, kind));
            launchers.values().map(shown).filter(|(_, logins)| !logins.is_empty()).collect()
        };
        let git_hosts = by_environment(CredentialKind::Git);
        let registries = by_environment(CredentialKind::Registry);
        let groups = groups::all_members(&mut db).await?;
        let groups = groups.into_iter().map(|(group, members)| (group, Arc::new(members))).collect();
        Ok(Picture {
            apps: active,
            builds: pending,
            given,
            owners,
            git_hosts,
            registries,
            kept_builds,
            addresses,
            builds_of,
            limits,
            groups,
        })
    }

    /// Notes how a build ended, and gives the app that waits for it its next revision. `false` when the end was known
    /// or the build is gone: then nothing changes.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn build_ended(&self, id: BuildId, end: BuildEnd) -> Result<bool> {
        let (status, result) = match end {
            BuildEnd::Succeeded(result) => (BuildStatus::Succeeded, result),
            BuildEnd::Failed(result) => (BuildStatus::Failed, result),
            BuildEnd::Cancelled => (BuildStatus::Cancelled, BuildResult::default()),
        };
        let mut db = self.db().write().await?;
        if !builds::end(&mut db, id, status, &result, now()).await? {
            return Ok(false);
        }
        let Some(build) = builds::get(&mut db, id).await? else { return Ok(false) };
        let launcher = launchers::by_environment(&mut db, build.environment_id).await?;
        if let Some(launcher) = &launcher {
            self.promote(&mut db, launcher, &build).await?;
        }
        db.commit().await.map_err(DbError::from)?;
        self.wrote();
        Ok(true)
    }

    /// Makes a build that ended the next revision of the app that waits for it, or notes that it failed.
    async fn promote(
        &self,
        db: &mut crate::db::Connection,
        launcher: &Launcher,
        build: &Build,
    ) -> Result<()> {
        let waits = apps::of_launcher(db, launcher.id).await?.is_some_and(|app| app.awaits == Some(build.id));
        if !waits {
            return Ok(());
        }
        let event =
            |kind: &str, message: Said| AppEvent { at: now(), kind: kind.to_owned(), message, by: None };
        let event = match (build.status, &launcher.environment.source) {
            // The launcher was changed meanwhile: what it asks for now comes next.
            (BuildStatus::Succeeded, _) if !fits(build, launcher) => {
                let next = insert_build(db, launcher).await?;
                let wanted = apps::of_launcher(db, launcher.id).await?.and_then(|app| app.wanted);
                apps::set_wanted(db, launcher.id, wanted, Some(next.id)).await?;
                event(
                    "building",
                    said!(
                        "event-changed-meanwhile",
                        "is built anew, since its launcher was changed meanwhile"
                    ),
                )
            }
            (BuildStatus::Succeeded, EnvironmentSource::Image(image)) => {
                let revision = insert_revision(db, launcher, program_of(launcher, build)).await?;
                apps::set_wanted(db, launcher.id, Some(revision), None).await?;
                let digest = build.result.commit.as_deref().unwrap_or_default();
                event(
                    "pulled",
                    said!(
                        "event-pulled",
                        "has the image {image} as {digest}",
                        image = &image.container_image,
                        digest = digest
                    ),
                )
            }
            (BuildStatus::Succeeded, EnvironmentSource::Code { .. }) => {
                let revision = insert_revision(db, launcher, program_of(launcher, build)).await?;
                apps::set_wanted(db, launcher.id, Some(revision), None).await?;
                let commit: String =
                    build.result.commit.as_deref().unwrap_or_default().chars().take(10).collect();
                event("built", said!("event-built", "was built from {commit}", commit = commit))
            }
            (BuildStatus::Failed, _) => event(
                "build_failed",
                build.result.reason.clone().unwrap_or_else(|| said!("event-not-built", "could not be built")),
            ),
            _ => event("build_cancelled", said!("event-build-cancelled", "its build was cancelled")),
        };
        Ok(events::insert(db, &super::fresh_ulid().to_string(), launcher.id, &event).await?)
    }

    /// Notes that a replica of this revision was ready: from now on it is known to boot. `false` when that was known.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn revision_ready(&self, id: RevisionId) -> Result<bool> {
        let news = apps::revision_ready(&mut *self.db().read().await?, id, now()).await?;
        if news {
            self.wrote();
        }
        Ok(news)
    }

    /// Notes that starting this revision was given up before it was ever ready. An app that ran another one goes on with
    /// that, for good: also after its replicas have gone. `false` when that was known.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn revision_gave_up(&self, id: RevisionId, why: &FailedStart) -> Result<bool> {
        let mut db = self.db().write().await?;
        if !apps::revision_failed(&mut db, id, why).await? {
            return Ok(false);
        }
        let Some(failed) = apps::revision(&mut db, id).await? else { return Ok(false) };
        let kept = builds::kept(&mut db, REVISIONS_KEPT).await?;
        let can_run = |program: &Program| program.build().is_none_or(|build| kept.contains(&build));
        let known = apps::revisions(&mut db, failed.launcher_id, REVISIONS_KEPT * 2).await?;
        let ran =
            |one: &&Revision| one.number < failed.number && one.ready_at.is_some() && can_run(&one.program);
        let app = apps::of_launcher(&mut db, failed.launcher_id).await?.filter(|app| app.wanted == Some(id));
        if let (Some(app), Some(earlier)) = (app, known.iter().find(ran)) {
            apps::set_wanted(&mut db, app.launcher_id, Some(earlier.id), app.awaits).await?;
            let message = said!(
                "event-update-failed",
                "revision {number} could not be started ({why}): revision {earlier} goes on",
                number = failed.number,
                why = &why.reason,
                earlier = earlier.number
            );
            let event = AppEvent { at: now(), kind: "update_failed".to_owned(), message, by: None };
            events::insert(&mut db, &super::fresh_ulid().to_string(), app.launcher_id, &event).await?;
        }
        db.commit().await.map_err(DbError::from)?;
        self.wrote();
        Ok(true)
    }

    /// Notes something that happened to an app, for people to read. An app whose launcher is gone is no error.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note_event(&self, app: &AppName, event: AppEvent) -> Result<()> {
        let mut db = self.db().write().await?;
        let Some(launcher) = launchers::by_app_name(&mut db, app).await? else { return Ok(()) };
        match events::insert(&mut db, &super::fresh_ulid().to_string(), launcher.id, &event).await {
            Ok(()) => Ok(db.commit().await.map_err(DbError::from)?),
            Err(DbError::Dangling(_)) => Ok(()),
            Err(other) => Err(Error::from(other)),
        }
    }
}
