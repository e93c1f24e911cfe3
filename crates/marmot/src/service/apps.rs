//! Apps: activate, look at, wake, put to rest, roll back, shut down.

use std::collections::BTreeMap;

use futures_util::Stream;
use marmot_core::AppName;
use marmot_core::id::{EnvironmentId, LauncherId, ProjectId, ReplicaId, RevisionId};
use marmot_core::phase::Phase;
use marmot_core::{Said, said};
use marmot_engine::logs::LogLine;
use serde_json::json;

use super::app_view::Parts;
use super::audit::{self, Thing};
use super::builds::{MOST_LINES, program_of, under_way, unreadable, usable};
use super::error::{Error, Result};
use super::launchers::{allowed_app, allowed_launcher};
use super::permission::{Action, Decision, Identity, Target, decide};
use super::projects::role_of;
use super::{AppState, AppView, Can, Failure, LauncherView, Service, fresh, now};
use crate::db::{Connection, DbError, apps, builds, events, history, launchers, projects, scaling};
use crate::model::{
    App, AppEvent, Build, EnvironmentSource, Launcher, Page, Paged, Program, Project, Revision,
};

impl Service {
    /// Activates a launcher: its app is on from now. Without a successful build of what the launcher asks for, one is
    /// started and the app goes on by itself.
    ///
    /// # Errors
    /// [`Error::AlreadyActive`], [`Error::NotFound`], [`Error::Forbidden`].
    pub async fn activate(&self, who: &Identity, launcher: LauncherId) -> Result<AppView> {
        self.may_run_code(who)?;
        let mut db = self.db().write().await?;
        let (launcher, project) = allowed_launcher(&mut db, who, launcher, Action::Operate).await?;
        let already = || Error::AlreadyActive { name: launcher.app_name.clone() };
        if apps::of_launcher(&mut db, launcher.id).await?.is_some() {
            return Err(already());
        }
        let mut app = App {
            launcher_id: launcher.id,
            name: launcher.app_name.clone(),
            activated_by: who.signed_in()?.id,
            activated_at: now(),
            wanted: None,
            awaits: None,
            retry: 0,
        };
        match usable(&mut db, &launcher).await? {
            Some(build) => {
                let program = program_of(&launcher, &build);
                app.wanted = Some(insert_revision(&mut db, &launcher, program).await?);
            }
            None => {
                let build = match under_way(&mut db, &launcher).await? {
                    Some(build) => build,
                    None => self.begin_build(&mut db, &launcher).await?,
                };
                app.awaits = Some(build.id);
            }
        }
        apps::insert(&mut db, &app).await.map_err(|error| match error {
            DbError::Exists(_) => already(),
            other => other.into(),
        })?;
        note(&mut db, who, launcher.id, "activated", said!("event-activated", "was switched on")).await?;
        audit::record(&mut db, who, "app.activated", Thing::app(&launcher), json!({})).await?;
        let view = self.view(&mut db, who, launcher, project, app).await?;
        db.commit().await.map_err(DbError::from)?;
        self.wrote_and_in_force().await;
        Ok(view)
    }

    /// Shuts an app down: nobody can open it, and it uses nothing.
    ///
    /// # Errors
    /// [`Error::NotFound`] also when it is off already, [`Error::Forbidden`].
    pub async fn shut_down(&self, who: &Identity, name: &AppName) -> Result<()> {
        let mut db = self.db().write().await?;
        let (launcher, _) = allowed_app(&mut db, who, name, Action::Operate).await?;
        let app = active(&mut db, &launcher).await?;
        apps::delete(&mut db, launcher.id).await?;
        history::was_on(&mut db, launcher.id, app.activated_at, now()).await?;
        note(&mut db, who, launcher.id, "shut_down", said!("event-shut-down", "was switched off")).await?;
        audit::record(&mut db, who, "app.shut_down", Thing::app(&launcher), json!({})).await?;
        db.commit().await.map_err(DbError::from)?;
        self.wrote_and_in_force().await;
        Ok(())
    }

    /// The app with this name.
    ///
    /// # Errors
    /// [`Error::NotFound`], also when it is off.
    pub async fn app(&self, who: &Identity, name: &AppName) -> Result<AppView> {
        let mut db = self.db().read().await?;
        let (launcher, project) = allowed_app(&mut db, who, name, Action::See).await?;
        let app = active(&mut db, &launcher).await?;
        self.view(&mut db, who, launcher, project, app).await
    }

    /// The apps that `who` may see, of one project or of all.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the project.
    pub async fn apps(
        &self,
        who: &Identity,
        project: Option<ProjectId>,
        page: Page,
    ) -> Result<Paged<AppView>> {
        let mut db = self.db().read().await?;
        if let Some(id) = project {
            super::projects::allowed_project(&mut db, who, id, Action::See).await?;
        }
        let (found, total) = apps::list(&mut db, who.viewer(), project, page).await?;
        let mut items = Vec::with_capacity(found.len());
        for app in found {
            // One that went away since is left out.
            let Some(launcher) = launchers::get(&mut db, app.launcher_id).await? else { continue };
            let Some(project) = projects::get(&mut db, launcher.project_id).await? else { continue };
            items.push(self.view(&mut db, who, launcher, project, app).await?);
        }
        Ok(Paged { items, page, total })
    }

    /// A launcher with its app and its newest build: what its card on a page shows.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn launcher_view(&self, who: &Identity, id: LauncherId) -> Result<LauncherView> {
        let mut db = self.db().read().await?;
        let (launcher, project) = allowed_launcher(&mut db, who, id, Action::See).await?;
        self.card(&mut db, who, launcher, project).await
    }

    /// The launchers of a project, each with its app and its newest build, oldest first.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn launcher_views(
        &self,
        who: &Identity,
        project: ProjectId,
        page: Page,
    ) -> Result<Paged<LauncherView>> {
        let mut db = self.db().read().await?;
        let project = super::projects::allowed_project(&mut db, who, project, Action::See).await?;
        let (found, total) = launchers::list(&mut db, who.viewer(), Some(project.id), page).await?;
        let mut views = Vec::with_capacity(found.len());
        for launcher in found {
            views.push(self.card(&mut db, who, launcher, project.clone()).await?);
        }
        Ok(Paged { items: views, page, total })
    }

    /// The launcher with this environment, with its app.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn launcher_of(&self, who: &Identity, environment: EnvironmentId) -> Result<LauncherView> {
        let found = launchers::by_environment(&mut *self.db().read().await?, environment).await?;
        let launcher = found.ok_or_else(|| Error::not_found("environment", environment))?;
        self.launcher_view(who, launcher.id).await
    }

    /// Wakes an app, or tries again to start one that has failed.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`].
    pub async fn wake(&self, who: &Identity, name: &AppName) -> Result<AppView> {
        let mut db = self.db().write().await?;
        let (launcher, project) = allowed_app(&mut db, who, name, Action::Operate).await?;
        let mut app = active(&mut db, &launcher).await?;
        let view = self.view(&mut db, who, launcher.clone(), project.clone(), app.clone()).await?;
        if view.phase == Phase::Failed {
            self.may_run_code(who)?;
            self.try_again(&mut db, &launcher, &mut app).await?;
            note(&mut db, who, launcher.id, "retried", said!("event-retried", "is tried again")).await?;
        }
        audit::record(&mut db, who, "app.woken", Thing::app(&launcher), json!({})).await?;
        db.commit().await.map_err(DbError::from)?;
        self.inner.live.demands.of(name).touch(self.inner.live.clock.now());
        self.wrote();
        self.view(&mut *self.db().read().await?, who, launcher, project, app).await
    }

    /// Puts an app to rest without waiting for it to be idle. Requests under way are finished first.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`].
    pub async fn put_to_rest(&self, who: &Identity, name: &AppName) -> Result<AppView> {
        let mut db = self.db().write().await?;
        let (launcher, project) = allowed_app(&mut db, who, name, Action::Operate).await?;
        let app = active(&mut db, &launcher).await?;
        audit::record(&mut db, who, "app.put_to_rest", Thing::app(&launcher), json!({})).await?;
        db.commit().await.map_err(DbError::from)?;
        self.inner.live.demands.of(name).put_to_rest(self.inner.live.clock.now());
        self.wrote();
        self.view(&mut *self.db().read().await?, who, launcher, project, app).await
    }

    /// The last lines of an app's logs, by replica and container; also of replicas that are gone.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`].
    pub async fn app_logs(
        &self,
        who: &Identity,
        name: &AppName,
        max_lines: usize,
    ) -> Result<BTreeMap<String, Vec<String>>> {
        self.check_app_logs(who, name).await?;
        self.inner.live.logs.app(name, max_lines.min(MOST_LINES)).await.map_err(unreadable)
    }

    /// Which revision each replica runs or ran that is there or whose log is kept, as far as that is known.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`].
    pub async fn revisions_in_logs(
        &self,
        who: &Identity,
        name: &AppName,
    ) -> Result<BTreeMap<ReplicaId, RevisionId>> {
        self.check_app_logs(who, name).await?;
        let mut known = self.inner.live.logs.revisions_of_the_gone(name).await.map_err(unreadable)?;
        known.extend(self.revisions_of_the_living(name));
        Ok(known)
    }

    /// Which revision each replica runs that is there now.
    pub fn revisions_of_the_living(&self, name: &AppName) -> BTreeMap<ReplicaId, RevisionId> {
        let observed = self.observed();
        let replicas = observed.apps.get(name).map(|app| app.replicas.as_slice()).unwrap_or_default();
        replicas.iter().map(|replica| (replica.id, replica.revision)).collect()
    }

    /// Whether `who` may (still) read the logs of an app.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`].
    pub async fn check_app_logs(&self, who: &Identity, name: &AppName) -> Result<()> {
        allowed_app(&mut *self.db().read().await?, who, name, Action::ReadLogs).await.map(drop)
    }

    /// The last lines of an app's logs, then each new one. Never ends by itself.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`].
    pub async fn follow_app_logs(
        &self,
        who: &Identity,
        name: &AppName,
        max_lines: usize,
    ) -> Result<impl Stream<Item = LogLine> + Send + 'static + use<>> {
        self.check_app_logs(who, name).await?;
        Ok(self.inner.live.logs.follow_app(name, max_lines.min(MOST_LINES)))
    }

    /// What happened to an app, newest first; also when it is off.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`].
    pub async fn app_events(&self, who: &Identity, name: &AppName, page: Page) -> Result<Paged<AppEvent>> {
        let mut db = self.db().read().await?;
        let (launcher, _) = allowed_app(&mut db, who, name, Action::ReadLogs).await?;
        let (items, total) = events::list(&mut db, launcher.id, page).await?;
        Ok(Paged { items, page, total })
    }

    /// Starts what failed once more: the build, or the same program as a new revision with a clean record.
    async fn try_again(&self, db: &mut Connection, launcher: &Launcher, app: &mut App) -> Result<()> {
        let revision = match app.wanted {
            Some(id) => apps::revision(db, id).await?,
            None => None,
        };
        match revision {
            Some(revision) => {
                app.wanted = Some(insert_revision(db, launcher, revision.program).await?);
                app.awaits = None;
            }
            None => {
                app.awaits = Some(match under_way(db, launcher).await? {
                    Some(build) => build.id,
                    None => self.begin_build(db, launcher).await?.id,
                });
            }
        }
        app.retry += 1;
        apps::set_wanted(db, launcher.id, app.wanted, app.awaits).await?;
        Ok(apps::retry(db, launcher.id).await?)
    }

    /// What is known of an app, put together.
    pub(super) async fn view(
        &self,
        db: &mut Connection,
        who: &Identity,
        launcher: Launcher,
        project: Project,
        app: App,
    ) -> Result<AppView> {
        let can = self.can(db, who, &project, &launcher).await?;
        let revision = match app.wanted {
            Some(id) => apps::revision(db, id).await?,
            None => None,
        };
        let build = self.build_of(db, &app, revision.as_ref()).await?;
        let observed = self.observed();
        let demand = self.inner.live.demands.of(&app.name).sample();
        let url = self.open_url(&launcher);
        let mut state =
            AppState::derive(Some(&app), revision.as_ref(), build.as_ref(), &observed, demand, &app.name);
        if state.failure.is_none() {
            state.failure = failed_update(db, &launcher, revision.as_ref()).await?;
        }
        Ok(AppView::new(
            Parts { launcher, project, app, revision, build, can, url },
            state,
            &observed,
            demand,
        ))
    }

    /// The build that an app waits for, or else the one it runs.
    async fn build_of(
        &self,
        db: &mut Connection,
        app: &App,
        revision: Option<&Revision>,
    ) -> Result<Option<Build>> {
        let built = revision.and_then(|revision| revision.program.build());
        match app.awaits.or(built) {
            Some(id) => Ok(builds::get(db, id).await?),
            None => Ok(None),
        }
    }

    pub(super) async fn card(
        &self,
        db: &mut Connection,
        who: &Identity,
        mut launcher: Launcher,
        project: Project,
    ) -> Result<LauncherView> {
        let can = self.can(db, who, &project, &launcher).await?;
        launcher.variables.iter_mut().filter(|_| !can.change).for_each(|variable| variable.value.clear());
        let observed = self.observed();
        let newest = builds::list(db, launcher.environment.id, Page { page: 1, per_page: 1 }).await?.0;
        let build = newest.into_iter().next().map(|build| super::BuildView::new(build, &observed));
        let app = match apps::of_launcher(db, launcher.id).await? {
            Some(app) => Some(self.view(db, who, launcher.clone(), project.clone(), app).await?),
            None => None,
        };
        let demand = self.inner.live.demands.of(&launcher.app_name).sample();
        let phase = match &app {
            Some(app) => app.phase,
            None => AppState::derive(None, None, None, &observed, demand, &launcher.app_name).phase,
        };
        let share_path = format!("{}/apps/{}", project.path(), launcher.id);
        let share_url = format!("{}{share_path}", self.options().public_url);
        let url = self.open_url(&launcher);
        Ok(LauncherView { launcher, project, app, build, phase, url, share_path, share_url, can })
    }

    /// The address that *Open* leads to.
    fn open_url(&self, launcher: &Launcher) -> String {
        let path = match &launcher.environment.source {
            EnvironmentSource::Image(image) => image.default_url.as_deref().unwrap_or("/"),
            EnvironmentSource::Code { .. } => "/",
        };
        format!("{}{path}", self.options().app_url(&launcher.app_name))
    }

    async fn can(
        &self,
        db: &mut Connection,
        who: &Identity,
        project: &Project,
        launcher: &Launcher,
    ) -> Result<Can> {
        let role = role_of(db, who, project.id).await?;
        let may =
            |action| decide(who, role, Target::launcher(project, launcher.id), action) == Decision::Allow;
        Ok(Can {
            read_logs: may(Action::ReadLogs),
            // A preview follows its launcher.
            change: may(Action::Change) && launcher.preview.is_none(),
            operate: may(Action::Operate),
            govern: may(Action::Govern) && launcher.preview.is_none(),
        })
    }
}

/// The app of this launcher, which must be on.
pub(super) async fn active(db: &mut Connection, launcher: &Launcher) -> Result<App> {
    let app = apps::of_launcher(db, launcher.id).await?;
    app.ok_or_else(|| Error::not_found("active app", &launcher.app_name))
}

/// Why the launcher's newest revision is not the one that runs, where starting it was given up.
async fn failed_update(
    db: &mut Connection,
    launcher: &Launcher,
    runs: Option<&Revision>,
) -> Result<Option<Failure>> {
    let Some(runs) = runs else { return Ok(None) };
    let newest =
        apps::revisions(db, launcher.id, 1).await?.pop().filter(|newest| newest.number > runs.number);
    let failed = newest.and_then(|newest| Some((newest.number, newest.failed?)));
    Ok(failed.map(|(number, failed)| Failure {
        reason: said!(
            "update-failed-goes-on",
            "revision {number} could not be started ({why}), so revision {earlier} goes on",
            number = number,
            why = &failed.reason,
            earlier = runs.number
        ),
        last_lines: failed.last_lines,
        at: Some(failed.at),
    }))
}

/// Adds a revision of this program with the launcher's settings as they are now.
pub(super) async fn insert_revision(
    db: &mut Connection,
    launcher: &Launcher,
    program: Program,
) -> Result<RevisionId> {
    let revision = Revision {
        id: fresh(),
        launcher_id: launcher.id,
        number: 0,
        program,
        variables: launcher.variables.clone(),
        resource_class_id: launcher.resource_class_id,
        scaling: Some(scaling::get(db, launcher.ruled_by()).await?),
        runs_as: None,
        created_at: now(),
        ready_at: None,
        failed: None,
    };
    apps::insert_revision(db, &revision).await?;
    Ok(revision.id)
}

/// Makes an app that is on go on with its launcher's settings as they are now: the same program, as a new revision.
pub(super) async fn roll_out(
    db: &mut Connection,
    who: &Identity,
    launcher: &Launcher,
    app: &App,
    why: Said,
) -> Result<()> {
    // One that still waits for its first revision makes that with the settings of then.
    let Some(wanted) = app.wanted else { return Ok(()) };
    let Some(revision) = apps::revision(db, wanted).await? else { return Ok(()) };
    set_program(db, who, launcher, app, revision.program, why).await
}

/// Makes an app that is on go on with this program and its launcher's settings, as a new revision.
async fn set_program(
    db: &mut Connection,
    who: &Identity,
    launcher: &Launcher,
    app: &App,
    program: Program,
    why: Said,
) -> Result<()> {
    let next = insert_revision(db, launcher, program).await?;
    apps::set_wanted(db, launcher.id, Some(next), app.awaits).await?;
    note(db, who, launcher.id, "changed", why).await
}

impl Service {
    /// Brings a changed launcher to its app, if that is on. What only takes other settings goes on at once as a new revision
    /// of the same program; other code is built first.
    pub(super) async fn follow_launcher(
        &self,
        db: &mut Connection,
        who: &Identity,
        before: &Launcher,
        after: &Launcher,
    ) -> Result<()> {
        let Some(app) = apps::of_launcher(db, after.id).await? else { return Ok(()) };
        let other_settings = before.variables != after.variables
            || before.resource_class_id != after.resource_class_id
            || before.network != after.network;
        if before.environment.source == after.environment.source {
            if other_settings {
                roll_out(db, who, after, &app, said!("event-other-settings", "goes on with other settings"))
                    .await?;
            }
            return Ok(());
        }
        match usable(db, after).await? {
            Some(build) => {
                let app = App { awaits: None, ..app };
                let program = program_of(after, &build);
                set_program(
                    db,
                    who,
                    after,
                    &app,
                    program,
                    said!("event-other-settings", "goes on with other settings"),
                )
                .await
            }
            None => {
                let build = match under_way(db, after).await? {
                    Some(build) => build,
                    None => self.begin_build(db, after).await?,
                };
                apps::set_wanted(db, after.id, app.wanted, Some(build.id)).await?;
                note(
                    db,
                    who,
                    after.id,
                    "building",
                    said!("event-changed", "is built anew, since its launcher was changed"),
                )
                .await
            }
        }
    }
}

/// Notes what somebody did to an app.
pub(super) async fn note(
    db: &mut Connection,
    who: &Identity,
    launcher: LauncherId,
    kind: &str,
    message: Said,
) -> Result<()> {
    let by = who.user().map(|user| user.username.clone());
    let event = AppEvent { at: now(), kind: kind.to_owned(), message, by };
    Ok(events::insert(db, &super::fresh_ulid().to_string(), launcher, &event).await?)
}
