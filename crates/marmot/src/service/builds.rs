//! Builds: attempts to turn code into something runnable.

use std::io;

use futures_util::Stream;
use marmot_core::id::{BuildId, EnvironmentId};
use marmot_core::said;
use serde_json::json;

use super::audit::{self, Thing};
use super::error::{Error, Result};
use super::launchers::allowed_environment;
use super::limits::note_build;
use super::permission::{Action, Identity};
use super::{BuildView, Service, fresh, now};
use crate::db::{Connection, DbError, apps, builds};
use crate::model::{
    Build, BuildResult, BuildStatus, Code, EnvironmentSource, ImageSource, Launcher, Page, Paged, Program,
    PulledImage,
};

/// The most lines of a log that are read at once.
pub(super) const MOST_LINES: usize = 10_000;

impl Service {
    /// The builds of an environment, newest first.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn builds(
        &self,
        who: &Identity,
        environment: EnvironmentId,
        page: Page,
    ) -> Result<Paged<BuildView>> {
        let mut db = self.db().read().await?;
        allowed_environment(&mut db, who, environment, Action::See).await?;
        let (items, total) = builds::list(&mut db, environment, page).await?;
        let observed = self.observed();
        let items = items.into_iter().map(|build| BuildView::new(build, &observed)).collect();
        Ok(Paged { items, page, total })
    }

    /// Starts a build, or a pull where the environment is an image. When its app is on, the result becomes the app's next revision.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`], [`Error::Conflict`] while one is under way, [`Error::TooOften`].
    pub async fn start_build(&self, who: &Identity, environment: EnvironmentId) -> Result<BuildView> {
        self.may_run_code(who)?;
        let mut db = self.db().write().await?;
        let (launcher, _) = allowed_environment(&mut db, who, environment, Action::Operate).await?;
        if let Some(build) = under_way(&mut db, &launcher).await? {
            return Err(Error::conflict(said!(
                "build-under-way",
                "build {build} is under way: wait for it to end, or cancel it",
                build = build.id.to_string()
            )));
        }
        let build = self.begin_build(&mut db, &launcher).await?;
        if let Some(app) = apps::of_launcher(&mut db, launcher.id).await? {
            apps::set_wanted(&mut db, launcher.id, app.wanted, Some(build.id)).await?;
        }
        audit::record(&mut db, who, "build.started", Thing::build(&build, &launcher), json!({})).await?;
        db.commit().await.map_err(DbError::from)?;
        self.wrote();
        Ok(BuildView::new(build, &self.observed()))
    }

    /// The build with this id.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn build(&self, who: &Identity, id: BuildId) -> Result<BuildView> {
        let mut db = self.db().read().await?;
        let build = allowed_build(&mut db, who, id, Action::See).await?;
        Ok(BuildView::new(build, &self.observed()))
    }

    /// Cancels a build. One that has ended stays as it is.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`], [`Error::Conflict`] when it has ended already.
    pub async fn cancel_build(&self, who: &Identity, id: BuildId) -> Result<BuildView> {
        let mut db = self.db().write().await?;
        let build = allowed_build(&mut db, who, id, Action::Operate).await?;
        let (launcher, _) = allowed_environment(&mut db, who, build.environment_id, Action::Operate).await?;
        let result = BuildResult {
            reason: Some(said!("build-cancelled-by-somebody", "it was cancelled")),
            ..BuildResult::default()
        };
        if !builds::end(&mut db, id, BuildStatus::Cancelled, &result, now()).await?
            && build.status != BuildStatus::Cancelled
        {
            return Err(Error::conflict(said!(
                "build-has-ended",
                "the build has ended already: it {status}",
                status = build.status.to_string()
            )));
        }
        audit::record(&mut db, who, "build.cancelled", Thing::build(&build, &launcher), json!({})).await?;
        db.commit().await.map_err(DbError::from)?;
        self.wrote();
        self.build(who, id).await
    }

    /// Whether `who` may (still) read the log of a build.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`].
    pub async fn check_build_logs(&self, who: &Identity, id: BuildId) -> Result<()> {
        allowed_build(&mut *self.db().read().await?, who, id, Action::ReadLogs).await.map(drop)
    }

    /// The last lines of a build's log.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`].
    pub async fn build_logs(&self, who: &Identity, id: BuildId, max_lines: usize) -> Result<Vec<String>> {
        self.check_build_logs(who, id).await?;
        self.inner.live.logs.build(id, max_lines.min(MOST_LINES)).await.map_err(unreadable)
    }

    /// A build's log from its beginning, as it is written. Ends when the build has ended.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`].
    pub async fn follow_build_logs(
        &self,
        who: &Identity,
        id: BuildId,
    ) -> Result<impl Stream<Item = String> + Send + 'static + use<>> {
        self.check_build_logs(who, id).await?;
        Ok(self.inner.live.logs.follow_build(id))
    }
}

pub(super) fn unreadable(error: io::Error) -> Error {
    Error::Internal(error.into())
}

async fn allowed_build(db: &mut Connection, who: &Identity, id: BuildId, action: Action) -> Result<Build> {
    let build = builds::get(db, id).await?.ok_or_else(|| Error::not_found("build", id))?;
    match allowed_environment(db, who, build.environment_id, action).await {
        Ok(_) => Ok(build),
        Err(Error::NotFound { .. }) => Err(Error::not_found("build", id)),
        Err(other) => Err(other),
    }
}

/// The build of this launcher that has not ended, if there is one.
pub(super) async fn under_way(db: &mut Connection, launcher: &Launcher) -> Result<Option<Build>> {
    let found = builds::newest_with_status(db, launcher.environment.id, BuildStatus::InProgress, 1).await?;
    Ok(found.into_iter().find(|build| fits(build, launcher)))
}

/// Whether a build made what the launcher asks for now.
pub(super) fn fits(build: &Build, launcher: &Launcher) -> bool {
    match &launcher.environment.source {
        // Without a command of the launcher's, the build must have found out how to start the app.
        EnvironmentSource::Code { code, run } => {
            build.code == *code && (run.command.is_some() || !build.command_given)
        }
        EnvironmentSource::Image(image) => {
            build.image.as_ref() == Some(&pulled(image)) && (gives_command(image) || !build.command_given)
        }
    }
}

/// The newest successful build of what the launcher asks for now, if there is one.
pub(super) async fn usable(db: &mut Connection, launcher: &Launcher) -> Result<Option<Build>> {
    let found = builds::newest_with_status(db, launcher.environment.id, BuildStatus::Succeeded, 1).await?;
    Ok(found.into_iter().find(|build| fits(build, launcher)))
}

/// What a build pulls for this.
fn pulled(image: &ImageSource) -> PulledImage {
    PulledImage { reference: image.container_image.clone(), port: image.port }
}

fn gives_command(image: &ImageSource) -> bool {
    [&image.command, &image.args].into_iter().flatten().any(|words| !words.is_empty())
}

/// What the launcher's app runs of a build's result.
pub(super) fn program_of(launcher: &Launcher, build: &Build) -> Program {
    match &launcher.environment.source {
        EnvironmentSource::Code { run, .. } => Program::Built { build: build.id, run: run.clone() },
        EnvironmentSource::Image(image) => Program::Image { build: Some(build.id), image: image.clone() },
    }
}

/// Adds a build of what the launcher asks for now.
pub(super) async fn insert_build(db: &mut Connection, launcher: &Launcher) -> Result<Build> {
    let (code, image, command_given) = match &launcher.environment.source {
        EnvironmentSource::Code { code, run } => (code.clone(), None, run.command.is_some()),
        EnvironmentSource::Image(image) => (Code::none(), Some(pulled(image)), gives_command(image)),
    };
    let build = Build {
        id: fresh(),
        environment_id: launcher.environment.id,
        code,
        image,
        command_given,
        status: BuildStatus::InProgress,
        created_at: now(),
        ended_at: None,
        result: BuildResult::default(),
    };
    builds::insert(db, &build).await?;
    note_build(db, launcher, &build).await?;
    Ok(build)
}
