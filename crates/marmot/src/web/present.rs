//! Turns the service's answers into what pages show.

use std::time::Duration;

use jiff::Timestamp;
use marmot_core::phase::Phase;
use marmot_text::{say, tell};

use super::ansi::Line;
use super::pages::Repository;
use super::view::{
    AppTile, AppView, BuildView, FailureView, LauncherCard, PhaseView, PictureView, ProjectTile, SourceView,
    Tone,
};
use super::words;
use crate::model::{BuildResult, BuildStatus, EnvironmentSource, Gpus, Project, ResourceClass, Visibility};
use crate::service::{self, LauncherView, Service};

/// Lines of a log that a card shows.
const FEW_LINES: usize = 12;

/// What is the same for everything that one page shows.
pub(super) struct Presenter<'a> {
    service: &'a Service,
    now: Timestamp,
}

impl<'a> Presenter<'a> {
    pub(super) fn new(service: &'a Service) -> Self {
        Self { service, now: Timestamp::now() }
    }

    pub(super) fn ago(&self, then: Timestamp) -> String {
        words::ago(self.now, then)
    }

    /// A launcher's card. `problem`: why the last thing somebody asked for was not done.
    pub(super) fn card(&self, view: &LauncherView, problem: Option<String>) -> LauncherCard {
        let launcher = &view.launcher;
        let path = format!("{}/launchers/{}", view.project.path(), launcher.id);
        LauncherCard {
            id: launcher.id.to_string(),
            name: launcher.name.clone(),
            path,
            description: launcher.description.clone(),
            source: source(&launcher.environment.source),
            resources: self.resources(launcher.resource_class_id),
            may_write: view.can.operate,
            may_read_logs: view.can.read_logs,
            phase: self.phase(view),
            app: view.app.as_ref().map(|app| self.app(view, app)),
            build: view.build.as_ref().map(|build| self.build(view, build)),
            problem,
            replaces: false,
        }
    }

    /// What is going on with a launcher's app.
    pub(super) fn phase(&self, view: &LauncherView) -> PhaseView {
        match &view.app {
            Some(app) => self.app_phase(app),
            None => words::phase(view.phase, None, None),
        }
    }

    pub(super) fn app_phase(&self, app: &service::AppView) -> PhaseView {
        let mut phase = words::phase(app.phase, self.wakes_in(app), app.step.as_ref());
        if app.phase == Phase::Running {
            let awake = app.replicas.iter().filter(|replica| replica.stage == "running").count();
            if awake > 1 {
                phase.detail = tell!("copies-awake", count = awake);
            }
        }
        phase
    }

    fn wakes_in(&self, app: &service::AppView) -> Option<Duration> {
        self.service.observed().apps.get(&app.name).and_then(|seen| seen.boot_time)
    }

    fn app(&self, view: &LauncherView, app: &service::AppView) -> AppView {
        AppView {
            url: app.url.clone(),
            share: view.share_url.clone(),
            switched: tell!("switched-on", ago = self.ago(app.started)),
            people: words::people_now(people(app)),
            can_open: can_open(app.phase),
            under_way: matches!(
                app.phase,
                Phase::Building | Phase::Starting | Phase::Updating | Phase::Waking | Phase::Stopping
            ),
            failure: app.failure.as_ref().map(|failure| self.failure(view, app, failure)),
        }
    }

    fn failure(
        &self,
        view: &LauncherView,
        app: &service::AppView,
        failure: &service::Failure,
    ) -> FailureView {
        let skipped = failure.last_lines.len().saturating_sub(FEW_LINES);
        let build_failed = app
            .build
            .as_ref()
            .is_some_and(|build| matches!(build.build.status, BuildStatus::Failed | BuildStatus::Cancelled));
        let advice = match (view.can.operate, build_failed) {
            (false, _) => say("failure-people-can-mend"),
            (true, true) => say("failure-read-build-log"),
            (true, false) => say("failure-read-logs"),
        };
        FailureView {
            reason: words::told(&failure.reason),
            last_lines: failure.last_lines.iter().skip(skipped).map(|line| Line::of(line)).collect(),
            advice: advice.to_owned(),
        }
    }

    fn build(&self, view: &LauncherView, build: &service::BuildView) -> BuildView {
        let at = build.build.ended_at.unwrap_or(build.build.created_at);
        let pulls = build.build.image.is_some();
        let ago = self.ago(at);
        let told = match (build.build.status, &build.build.result.commit) {
            (BuildStatus::InProgress, _) if pulls => say("pulling-now").to_owned(),
            (BuildStatus::InProgress, _) => say("building-now").to_owned(),
            (BuildStatus::Succeeded, Some(commit)) => {
                let commit: String = commit.trim_start_matches("sha256:").chars().take(7).collect();
                match pulls {
                    true => tell!("pulled-as", ago = ago, commit = commit),
                    false => tell!("built-from", ago = ago, commit = commit),
                }
            }
            (BuildStatus::Succeeded, None) if pulls => tell!("pulled", ago = ago),
            (BuildStatus::Succeeded, None) => tell!("built-ago", ago = ago),
            (BuildStatus::Failed, _) if pulls => tell!("pull-failed", ago = ago),
            (BuildStatus::Failed, _) => tell!("build-failed-ago", ago = ago),
            (BuildStatus::Cancelled, _) if pulls => tell!("pull-cancelled", ago = ago),
            (BuildStatus::Cancelled, _) => tell!("build-cancelled-ago", ago = ago),
        };
        let path = format!("{}/builds/{}", view.project.path(), build.id());
        BuildView { told, path: view.can.read_logs.then_some(path) }
    }

    /// What an app looks like. Its picture is asked for by another address when it is another one.
    fn picture(&self, app: &service::AppView) -> Option<PictureView> {
        let taken = self.service.picture_taken(app.launcher_id)?;
        let path = taken.map(|at| format!("/pictures/{}?{}", app.launcher_id, at.as_second()));
        Some(PictureView { name: app.title.clone(), path })
    }

    /// An app among others.
    pub(super) fn tile(&self, app: &service::AppView, project: Option<&Project>) -> AppTile {
        let project_path = project.map(Project::path).unwrap_or_default();
        AppTile {
            id: app.launcher_id.to_string(),
            name: app.title.clone(),
            description: app.description.clone(),
            project: project.map(|project| project.name.clone()).unwrap_or_default(),
            project_path,
            open: app.url.clone(),
            can_open: can_open(app.phase),
            phase: self.app_phase(app),
            picture: self.picture(app),
            replaces: false,
        }
    }

    pub(super) fn resources(&self, id: i64) -> String {
        let class = self.service.resource_classes().iter().find(|class| class.id == id);
        class.map_or_else(|| say("no-resource-class").to_owned(), resource_class)
    }
}

/// How many people use an app now, as far as can be told.
pub(super) fn people(app: &service::AppView) -> u64 {
    app.sessions.max(app.requests)
}

/// Opening it leads to the app, at once or after it has woken.
pub(super) fn can_open(phase: Phase) -> bool {
    matches!(phase, Phase::Running | Phase::Asleep(_) | Phase::Waking | Phase::Updating)
}

/// A resource class in words.
pub(super) fn resource_class(class: &ResourceClass) -> String {
    let cores = f64::from(class.cpu_millis) / 1000.0;
    let gpus = match class.gpus.as_ref().map_or(0, Gpus::count) {
        0 => String::new(),
        count => tell!("gpus", count = count),
    };
    let cores = marmot_text::decimal(cores.to_string());
    let cores = marmot_text::decimal(cores.to_string());
    format!("{} ({cores} CPU, {}{gpus})", class.name, words::memory(class.memory_mib))
}

/// A project among others.
pub(super) fn project(project: &Project) -> ProjectTile {
    ProjectTile {
        path: project.path(),
        full_name: format!("{}/{}", project.namespace, project.slug),
        name: project.name.clone(),
        description: project.description.clone(),
        private: project.visibility == Visibility::Private,
    }
}

/// A repository as a page shows it, with a link where a browser can go.
pub(super) fn repository(address: &str) -> Repository {
    let link = url::Url::parse(address).ok().filter(|url| url.scheme() == "https").map(|mut url| {
        // The address may carry a password, which is for git.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        String::from(url)
    });
    Repository { told: words::short_repository(address), link }
}

fn source(source: &EnvironmentSource) -> SourceView {
    match source {
        EnvironmentSource::Code { code, .. } => {
            let Repository { mut told, link } = repository(&code.shown_repository());
            if let Some(dir) = &code.context_dir {
                told = format!("{told}, {dir}");
            }
            if let Some(revision) = &code.revision {
                told = tell!("source-at", source = told, revision = revision);
            }
            SourceView::Code { link, told }
        }
        EnvironmentSource::Image(image) => SourceView::Image { image: image.container_image.clone() },
    }
}

/// What came of a build, in sentences.
fn built(result: &BuildResult) -> String {
    let summary = result.summary.as_deref().map(words::sentence);
    let pushed = result.pushed.as_ref().map(|image| tell!("image-pushed", image = image));
    summary.into_iter().chain(pushed).collect::<Vec<_>>().join(" ")
}

/// A build's state.
pub(super) fn build_phase(build: &service::BuildView) -> PhaseView {
    let (tone, word, detail) = match build.build.status {
        BuildStatus::InProgress => {
            (Tone::Busy, say("phase-building"), build.step.as_ref().map(words::told).unwrap_or_default())
        }
        BuildStatus::Succeeded => (Tone::On, say("built"), built(&build.build.result)),
        BuildStatus::Failed => (
            Tone::Bad,
            say("phase-failed"),
            build.error_reason().as_ref().map(words::told).unwrap_or_default(),
        ),
        BuildStatus::Cancelled => (Tone::Off, say("build-cancelled"), say("build-called-off").to_owned()),
    };
    PhaseView { tone, word, detail }
}
