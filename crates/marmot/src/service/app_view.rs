//! What is known of an app, put together for people: nothing here is stored, all is derived on the spot.

use jiff::Timestamp;
use marmot_core::demand::DemandSample;
use marmot_core::id::{BuildId, LauncherId, ProjectId, ReplicaId, RevisionId};
use marmot_core::phase::{self, Depth, Facts, Phase, RevisionFact, Status};
use marmot_core::{AppName, Moment};
use marmot_core::{Said, said};
use marmot_engine::Observed;
use marmot_engine::observed::{BuildState, Memory, ObservedApp, ReplicaStage, SleepDepth, StartStep};

use crate::model::{App, Build, BuildStatus, Launcher, Program, Project, Revision, Visibility};

/// What who asks may do, so that pages offer only what will work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Can {
    /// Read logs and events, and see who the members are.
    pub read_logs: bool,
    /// Change and delete launchers; see variables.
    pub change: bool,
    /// Build, activate, wake, put to rest, shut down.
    pub operate: bool,
    /// Choose members and visibility, delete the project.
    pub govern: bool,
}

/// Why an app cannot be opened, or failed on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Why, in a sentence or two. Any visitor may read it.
    pub reason: Said,
    /// The last lines of the log of what failed. For those who may read logs; empty for others.
    pub last_lines: Vec<String>,
    /// When.
    pub at: Option<Timestamp>,
}

/// An app, as it is at this moment.
#[derive(Debug, Clone)]
pub struct AppView {
    /// The first label of its host.
    pub name: AppName,
    /// What people call it: its launcher's name.
    pub title: String,
    /// What it is about.
    pub description: Option<String>,
    /// The launcher it came from.
    pub launcher_id: LauncherId,
    /// The project it belongs to.
    pub project_id: ProjectId,
    /// Who may see it.
    pub visibility: Visibility,
    /// What is going on.
    pub phase: Phase,
    /// The coarse status that Renku's clients know.
    pub status: Status,
    /// How deep it sleeps, while it sleeps.
    pub asleep_depth: Option<Depth>,
    /// What is going on in a few words, while it is not there yet: a build's step, or what a replica waits for.
    pub step: Option<Said>,
    /// The address to open it at.
    pub url: String,
    /// When it was activated.
    pub started: Timestamp,
    /// The container image it runs, or the commit it was built from.
    pub image: Option<String>,
    /// What it runs.
    pub revision: Option<Revision>,
    /// Why it failed; also when an update failed and the revision before goes on serving.
    pub failure: Option<Failure>,
    /// Its replicas, oldest first.
    pub replicas: Vec<ReplicaView>,
    /// How many people have it open: WebSockets and event streams.
    pub sessions: u64,
    /// Requests under way or waiting.
    pub requests: u64,
    /// The build it waits for, or the one it runs.
    pub build: Option<BuildView>,
    /// What who asks may do.
    pub can: Can,
}

/// A replica, as it is at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaView {
    /// Which.
    pub id: ReplicaId,
    /// What it runs.
    pub revision: RevisionId,
    /// `starting`, `running`, `hibernated`, `draining` or `stopping`.
    pub stage: &'static str,
    /// Since when, on the server's own clock.
    pub since: Moment,
    /// Memory that it holds, in bytes.
    pub memory: Memory,
    /// How far its memory is out of the way, while it is hibernated.
    pub depth: SleepDepth,
    /// Visitors with a connection to it that is open, or kept for them.
    pub sessions: u64,
    /// Requests that it works on.
    pub requests: u64,
}

impl ReplicaView {
    /// When it was made.
    pub fn created_at(&self) -> Timestamp {
        Timestamp::from_millisecond(self.id.drawn_at_ms()).unwrap_or_default()
    }
}

/// A build, as it is at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildView {
    /// What is stored of it.
    pub build: Build,
    /// What it is doing, while it is in progress.
    pub step: Option<Said>,
}

impl BuildView {
    pub(super) fn new(build: Build, observed: &Observed) -> Self {
        let step = match (build.status, observed.builds.get(&build.id)) {
            (BuildStatus::InProgress, Some(BuildState::InProgress { step })) => Some(step.clone()),
            (BuildStatus::InProgress, Some(BuildState::Queued) | None) => {
                Some(said!("build-step-waiting", "Waiting for its turn"))
            }
            (BuildStatus::InProgress, Some(_)) => Some(said!("build-step-finishing", "Finishing")),
            _ => None,
        };
        Self { build, step }
    }

    /// Its id.
    pub fn id(&self) -> BuildId {
        self.build.id
    }

    /// Why it failed, in a sentence: the step and the reason.
    pub fn error_reason(&self) -> Option<Said> {
        if !matches!(self.build.status, BuildStatus::Failed | BuildStatus::Cancelled) {
            return None;
        }
        let result = &self.build.result;
        let reason =
            result.reason.clone().unwrap_or_else(|| said!("build-no-reason", "it ended without a reason"));
        Some(match &result.failed_step {
            Some(step) => {
                said!("build-failed-at", "{step}: {reason}", step = step, reason = &reason)
            }
            None => reason,
        })
    }
}

/// A launcher with its app: what its card on a page shows.
#[derive(Debug, Clone)]
pub struct LauncherView {
    /// The launcher. Values of variables are empty for those who may not change it.
    pub launcher: Launcher,
    /// Its project.
    pub project: Project,
    /// Its app, while it is on.
    pub app: Option<AppView>,
    /// Its newest build.
    pub build: Option<BuildView>,
    /// What is going on: `Inactive` or `Stopping` without an app.
    pub phase: Phase,
    /// The address its app is or would be at.
    pub url: String,
    /// The share link's path on the platform. It stays valid for as long as there is the launcher.
    pub share_path: String,
    /// The share link.
    pub share_url: String,
    /// What who asks may do.
    pub can: Can,
}

/// What follows from the facts about an app.
#[derive(Debug, Clone)]
pub struct AppState {
    /// What is going on.
    pub phase: Phase,
    /// In a few words, while it is not there yet.
    pub step: Option<Said>,
    /// Why it failed.
    pub failure: Option<Failure>,
}

impl AppState {
    /// Derives what is going on with an app. `app`: absent when it is off; `build`: what it waits for or runs.
    pub fn derive(
        app: Option<&App>,
        revision: Option<&Revision>,
        build: Option<&Build>,
        observed: &Observed,
        demand: DemandSample,
        name: &AppName,
    ) -> Self {
        let nothing = ObservedApp::default();
        let seen = observed.apps.get(name).unwrap_or(&nothing);
        let mut facts = count(seen, revision.map(Revision::engine_id));
        facts.on = app.is_some();
        facts.waited_for = demand.held > 0;
        let awaited = build.filter(|build| app.is_some_and(|app| app.awaits == Some(build.id)));
        facts.revision = revision_fact(revision, awaited, seen);
        // While the next one is built, the wanted revision is the earlier one, and serves if it ever did.
        facts.earlier_serves |=
            awaited.is_some() && revision.is_some_and(|revision| revision.ready_at.is_some());
        let phase = phase::derive(facts);
        let step = match phase {
            Phase::Building | Phase::Updating | Phase::Starting | Phase::Waking => {
                step(awaited, observed).or_else(|| start_step(seen))
            }
            _ => None,
        };
        let held_back = seen.held_back.filter(|_| phase != Phase::Inactive).map(|why| Failure {
            reason: said!("cannot-wake", "it cannot wake now: {why}", why = why.said()),
            last_lines: Vec::new(),
            at: None,
        });
        Self { phase, step, failure: failure(phase, revision, awaited, seen).or(held_back) }
    }
}

fn count(seen: &ObservedApp, wanted: Option<RevisionId>) -> Facts {
    let mut facts = Facts::default();
    for replica in &seen.replicas {
        let serves = match replica.stage {
            ReplicaStage::Starting(_) => {
                facts.starting += u32::from(Some(replica.revision) == wanted);
                false
            }
            ReplicaStage::Running { .. } => {
                facts.running += 1;
                true
            }
            ReplicaStage::Hibernated { .. } => {
                facts.hibernated += 1;
                true
            }
            ReplicaStage::Draining { .. } | ReplicaStage::Stopping => {
                facts.draining += 1;
                false
            }
        };
        facts.earlier_serves |= serves && Some(replica.revision) != wanted;
    }
    facts
}

fn revision_fact(revision: Option<&Revision>, awaited: Option<&Build>, seen: &ObservedApp) -> RevisionFact {
    match (awaited.map(|build| build.status), revision) {
        // One that succeeded becomes a revision at the lifecycle's next look.
        (Some(BuildStatus::InProgress | BuildStatus::Succeeded), _) => RevisionFact::Building,
        (Some(BuildStatus::Failed | BuildStatus::Cancelled), None) => RevisionFact::BuildFailed,
        (_, Some(revision)) if seen.gave_up == Some(revision.engine_id()) => RevisionFact::GaveUp,
        (_, Some(revision)) if revision.ready_at.is_some() => RevisionFact::Proven,
        (_, Some(_)) => RevisionFact::Unproven,
        (None, None) => RevisionFact::Building,
    }
}

fn step(awaited: Option<&Build>, observed: &Observed) -> Option<Said> {
    awaited.and_then(|build| BuildView::new(build.clone(), observed).step)
}

fn start_step(seen: &ObservedApp) -> Option<Said> {
    seen.replicas.iter().rev().find_map(|replica| match replica.stage {
        ReplicaStage::Starting(StartStep::Preparing) => {
            Some(said!("start-step-preparing", "Preparing its files"))
        }
        ReplicaStage::Starting(StartStep::WaitingForPort) => {
            Some(said!("start-step-port", "Waiting for its port"))
        }
        _ => None,
    })
}

fn failure(
    phase: Phase,
    revision: Option<&Revision>,
    awaited: Option<&Build>,
    seen: &ObservedApp,
) -> Option<Failure> {
    let gave_up = revision.is_some_and(|revision| seen.gave_up == Some(revision.engine_id()));
    // What runs no longer starts: that is why the app cannot be opened, whatever became of its next build.
    let awaited = awaited.filter(|_| !(gave_up && seen.failure.is_some()));
    if let Some(build) =
        awaited.filter(|build| matches!(build.status, BuildStatus::Failed | BuildStatus::Cancelled))
    {
        let view = BuildView { build: build.clone(), step: None };
        let why = view.error_reason().unwrap_or_default();
        let reason = match build.status {
            BuildStatus::Cancelled => said!("build-was-cancelled", "the build was cancelled"),
            _ => said!("build-failed", "the build failed: {why}", why = &why),
        };
        return Some(Failure { reason, last_lines: build.result.last_lines.clone(), at: build.ended_at });
    }
    let failure = seen.failure.as_ref()?;
    let of_wanted = revision.is_some_and(|revision| revision.engine_id() == failure.revision);
    (of_wanted && phase != Phase::Inactive).then(|| Failure {
        reason: failure.reason.said(),
        last_lines: failure.last_lines.clone(),
        at: Some(failure.at),
    })
}

/// What a view is put together from.
pub(super) struct Parts {
    pub(super) launcher: Launcher,
    pub(super) project: Project,
    pub(super) app: App,
    pub(super) revision: Option<Revision>,
    pub(super) build: Option<Build>,
    pub(super) can: Can,
    pub(super) url: String,
}

impl AppView {
    pub(super) fn new(parts: Parts, state: AppState, observed: &Observed, demand: DemandSample) -> Self {
        let Parts { launcher, project, app, mut revision, build, can, url } = parts;
        let image = match revision.as_ref().map(|revision| &revision.program) {
            Some(Program::Image { build: id, image }) => {
                let build = build.as_ref().filter(|build| Some(build.id) == *id);
                let digest = build.and_then(|build| build.result.commit.as_deref());
                Some(match digest {
                    Some(digest) => format!("{}@{digest}", image.container_image),
                    None => image.container_image.clone(),
                })
            }
            Some(Program::Built { build: id, .. }) => {
                build.as_ref().filter(|build| build.id == *id).and_then(|build| build.result.commit.clone())
            }
            None => None,
        };
        if let Some(revision) = &mut revision {
            revision.variables.iter_mut().for_each(|variable| variable.value.clear());
        }
        let failure = state.failure.map(|mut failure| {
            if !can.read_logs {
                failure.last_lines.clear();
            }
            failure
        });
        Self {
            title: launcher.name,
            description: launcher.description,
            launcher_id: launcher.id,
            project_id: project.id,
            visibility: project.visibility,
            phase: state.phase,
            status: state.phase.status().unwrap_or(Status::Pending),
            asleep_depth: match state.phase {
                Phase::Asleep(depth) => Some(depth),
                _ => None,
            },
            step: state.step,
            url,
            started: app.activated_at,
            image,
            failure,
            replicas: replicas(observed, &app.name),
            sessions: demand.sessions,
            requests: demand.in_flight + demand.held,
            build: build.map(|build| BuildView::new(build, observed)),
            revision,
            can,
            name: app.name,
        }
    }
}

fn replicas(observed: &Observed, name: &AppName) -> Vec<ReplicaView> {
    let seen = observed.apps.get(name).map(|app| app.replicas.as_slice()).unwrap_or_default();
    let view = |replica: &marmot_engine::observed::ObservedReplica| ReplicaView {
        id: replica.id,
        revision: replica.revision,
        stage: match replica.stage {
            ReplicaStage::Starting(_) => "starting",
            ReplicaStage::Running { .. } => "running",
            ReplicaStage::Hibernated { .. } => "hibernated",
            ReplicaStage::Draining { .. } => "draining",
            ReplicaStage::Stopping => "stopping",
        },
        since: replica.since,
        memory: replica.memory,
        depth: replica.depth,
        sessions: replica.gate.sessions(),
        requests: replica.gate.inside(),
    };
    seen.iter().map(view).collect()
}
