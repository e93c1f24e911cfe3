//! Joins what is wished for, what is and what is served: database and Observed in, Wanted and Routes out.
//!
//! The loop is idempotent and is never told what changed. It looks again on a write, when the engine sees something
//! new, and on a period, in which it also finds what another process wrote. While the database cannot be read it goes
//! on with what it read last: apps that run do not notice.

mod lobby_log;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use marmot_core::id::{BuildId, RevisionId};
use marmot_core::phase::Phase;
use marmot_core::scaling::Policy;
use marmot_core::{AppName, Clock, Moment, Said, said};
use marmot_engine::logs::Logs;
use marmot_engine::observed::{BuildState, Event, Happening, Observed, ObservedApp, ReplicaStage, StartStep};
use marmot_engine::wanted::{
    Ceiling, Gpus, ImageWish, Limits, Outbound, Program, Push, Revision, Secret, Variable, Wanted, WantedApp,
    WantedBuild, WantedPull,
};
use marmot_gateway::LogSource;
use marmot_gateway::routes::{Backend, Progress, Route, RouteState, Routes, Step};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::lobby_log::Building;
use crate::causes::chain;
use crate::model::{self, AppEvent, BuildResult, BuildStatus, EnvVariable, FailedStart};
use crate::scaling::of_preview;
use crate::service::{
    ActiveApp, Address, AppState, BuildEnd, Error, Picture, Service, engine_login, wanted_build,
};

/// How often the database is read although nothing is known to have changed.
const PERIOD: Duration = Duration::from_secs(5);

/// Keeps Wanted and Routes up to date.
#[derive(Debug)]
pub struct Lifecycle {
    service: Service,
    clock: Clock,
    picture: Picture,
    /// Up to which write the picture is known to go.
    version: u64,
    written: watch::Receiver<u64>,
    wanted: watch::Sender<Arc<Wanted>>,
    routes: watch::Sender<Arc<Routes>>,
    /// What is going on with each app that is not there yet, and since when.
    steps: HashMap<AppName, (Said, Moment)>,
    /// The builds that apps wait for.
    building: Building,
}

impl Lifecycle {
    /// Reads the database once, so that the engine is told what should run before it looks at what does.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn new(service: Service, clock: Clock) -> Result<Self, Error> {
        let mut written = service.written();
        let version = *written.borrow_and_update();
        let picture = service.picture().await?;
        let wanted = watch::Sender::new(Arc::new(wanted(&service, &picture)));
        let routes = watch::Sender::new(Arc::new(Routes::default()));
        Ok(Self {
            service,
            clock,
            picture,
            version,
            written,
            wanted,
            routes,
            steps: HashMap::new(),
            building: Building::default(),
        })
    }

    /// What should run, for the engine.
    pub fn wanted(&self) -> watch::Receiver<Arc<Wanted>> {
        self.wanted.subscribe()
    }

    /// Where requests go, for the gateway.
    pub fn routes(&self) -> watch::Receiver<Arc<Routes>> {
        self.routes.subscribe()
    }

    /// What apps say while they wake, for the lobby.
    pub fn log_source(&self, logs: Logs, observed: watch::Receiver<Arc<Observed>>) -> LogSource {
        lobby_log::source(logs, observed, self.building.clone())
    }

    /// Follows the database and the engine until it is stopped.
    pub async fn run(mut self, mut observed: watch::Receiver<Arc<Observed>>, stop: CancellationToken) {
        let mut period = tokio::time::interval(PERIOD);
        period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let seen = Arc::clone(&observed.borrow_and_update());
            match self.settle(&seen).await {
                Ok(true) => self.look_again().await,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(error = chain(&error), "cannot note what the engine sees; will try again")
                }
            }
            self.publish(&seen);
            self.service.carried_out(self.version);
            tokio::select! {
                () = stop.cancelled() => return,
                changed = observed.changed() => if changed.is_err() { return },
                _ = self.written.changed() => self.look_again().await,
                _ = period.tick() => self.look_again().await,
            }
        }
    }

    async fn look_again(&mut self) {
        // Noted before looking: what is written in between is looked at once more.
        let version = *self.written.borrow_and_update();
        match self.service.picture().await {
            Ok(picture) => (self.picture, self.version) = (picture, version),
            Err(error) => tracing::warn!(
                error = chain(&error),
                "cannot read the database; going on with what was read last"
            ),
        }
    }

    /// Writes down what the engine has brought about. True when that changed the database.
    async fn settle(&self, seen: &Observed) -> Result<bool, Error> {
        let mut news = false;
        for build in &self.picture.builds {
            if let Some(end) = seen.builds.get(&build.id).and_then(build_end) {
                news |= self.service.build_ended(build.id, end).await?;
            }
        }
        for active in &self.picture.apps {
            let Some(revision) = active.revision.as_ref().filter(|revision| revision.ready_at.is_none())
            else {
                continue;
            };
            let ready = |app: &ObservedApp| {
                app.replicas.iter().any(|replica| {
                    replica.revision == revision.engine_id()
                        && matches!(
                            replica.stage,
                            ReplicaStage::Running { .. } | ReplicaStage::Hibernated { .. }
                        )
                })
            };
            if seen.apps.get(&active.app.name).is_some_and(ready) {
                news |= self.service.revision_ready(revision.id).await?;
            } else if let Some(why) =
                seen.apps.get(&active.app.name).and_then(|app| given_up(app, revision.engine_id()))
            {
                news |= self.service.revision_gave_up(revision.id, &why).await?;
            }
        }
        Ok(news)
    }

    /// Publishes what follows from what was read last. Before the first request is served: else every app's address
    /// would mean nothing for a moment.
    pub fn publish(&mut self, seen: &Observed) {
        let wanted = wanted(&self.service, &self.picture);
        self.wanted.send_if_modified(|now| {
            let changed = !same(now, &wanted);
            if changed {
                *now = Arc::new(wanted);
            }
            changed
        });
        let routes = self.routes_for(seen);
        self.routes.send_if_modified(|now| {
            let changed = routes.changes_since(now).next().is_some();
            if changed {
                *now = Arc::new(routes);
            }
            changed
        });
    }

    /// The routes as they are, but for the apps of which something else is to be said now.
    fn routes_for(&mut self, seen: &Observed) -> Routes {
        let before = Arc::clone(&self.routes.borrow());
        let active: BTreeMap<&AppName, &ActiveApp> =
            self.picture.apps.iter().map(|active| (&active.app.name, active)).collect();
        let mut steps = HashMap::new();
        let mut routes = Routes::clone(&before);
        for address in &self.picture.addresses {
            let demand = self.service.demands().of(&address.app);
            let state = match active.get(&address.app).filter(|_| address.on) {
                None => RouteState::Off,
                Some(active) => {
                    let app = seen.apps.get(&address.app);
                    let build = active.awaited.as_ref();
                    let state = AppState::derive(
                        Some(&active.app),
                        active.revision.as_ref(),
                        build,
                        seen,
                        demand.sample(),
                        &address.app,
                    );
                    let since = self.steps.get(&address.app);
                    let (state, step) = route_state(state, app, since, self.clock.now());
                    steps.extend(step.map(|step| (address.app.clone(), step)));
                    state
                }
            };
            let meter = self.service.meters().of(&address.app);
            let route = route(address, state, demand, meter);
            if !before.get(route.app.as_str()).is_some_and(|before| before.is_same(&route)) {
                routes.insert(Arc::new(route));
            }
        }
        self.steps = steps;
        let awaited = |active: &ActiveApp| {
            // One that serves already wakes as it is, whatever is built beside it.
            let build = active.awaited.as_ref().filter(|_| active.revision.is_none())?;
            let build = Some(build).filter(|build| build.status == BuildStatus::InProgress)?;
            Some((active.app.name.clone(), build.id))
        };
        self.building.set(self.picture.apps.iter().filter_map(awaited).collect());
        let known: HashSet<&str> =
            self.picture.addresses.iter().map(|address| address.app.as_str()).collect();
        for gone in before.iter().filter(|route| !known.contains(route.app.as_str())) {
            routes.remove(gone.app.as_str());
        }
        self.service.meters().retain(|app| known.contains(app.as_str()));
        routes
    }
}

fn route(
    address: &Address,
    state: RouteState,
    demand: Arc<marmot_core::Demand>,
    meter: Arc<marmot_gateway::Meter>,
) -> Route {
    Route {
        app: address.app.clone(),
        title: address.title.clone(),
        access: address.access.clone(),
        traffic: address.traffic,
        log_readers: Arc::clone(&address.log_readers),
        state,
        demand,
        meter,
    }
}

/// How requests to an app that is on are treated, and what is going on since when.
fn route_state(
    state: AppState,
    app: Option<&ObservedApp>,
    before: Option<&(Said, Moment)>,
    now: Moment,
) -> (RouteState, Option<(Said, Moment)>) {
    if state.phase == Phase::Failed {
        let (reason, last_lines) = state.failure.map_or_else(
            || (said!("not-started", "it could not be started"), Vec::new()),
            |failure| (failure.reason, failure.last_lines),
        );
        return (RouteState::Failed { reason, last_lines }, None);
    }
    let words = match (state.phase, state.step) {
        (Phase::Building, step) => step.map_or_else(
            || said!("step-building", "Building"),
            |step| said!("step-building-at", "Building: {step}", step = &step),
        ),
        (_, Some(step)) => step,
        _ => said!("build-step-starting", "Starting"),
    };
    let nothing = ObservedApp::default();
    let app = app.unwrap_or(&nothing);
    // A boot is told as one: the time it is expected to take is that of all its steps.
    let booting = app.replicas.iter().filter(|replica| matches!(replica.stage, ReplicaStage::Starting(_)));
    let since = booting.map(|replica| replica.since).min();
    let known = || before.filter(|(step, _)| *step == words).map(|(_, since)| *since);
    let since = since.or_else(known).unwrap_or(now);
    let listens_soon = |replica: &marmot_engine::observed::ObservedReplica| {
        replica.stage == ReplicaStage::Starting(StartStep::WaitingForPort)
    };
    let at = match state.phase {
        Phase::Building => Step::Building,
        _ if app.replicas.iter().any(listens_soon) => Step::WaitingForPort,
        _ => Step::Starting,
    };
    let no_room = app.held_back.map(|held_back| held_back.said());
    let progress = Progress { at, step: words.clone(), since, expected: app.boot_time, no_room };
    (RouteState::On { backends: backends(app), progress }, Some((words, since)))
}

/// The replicas that serve. Draining ones are among them: their gate lets nobody in, and who is inside may finish.
fn backends(app: &ObservedApp) -> Vec<Backend> {
    let backend = |replica: &marmot_engine::observed::ObservedReplica| match replica.stage {
        ReplicaStage::Running { address }
        | ReplicaStage::Hibernated { address }
        | ReplicaStage::Draining { address } => {
            let sockets = replica.sockets.clone().map(|sockets| Arc::new(inside(sockets)));
            Some(Backend { replica: replica.id, address, sockets, gate: Arc::clone(&replica.gate) })
        }
        ReplicaStage::Starting(_) | ReplicaStage::Stopping => None,
    };
    app.replicas.iter().filter_map(backend).collect()
}

/// The way into a replica's network, as the gateway asks for it.
fn inside(sockets: Arc<marmot_engine::Sockets>) -> marmot_gateway::routes::Sockets {
    marmot_gateway::routes::Sockets::new(move || {
        let sockets = Arc::clone(&sockets);
        Box::pin(async move { sockets.open().await })
    })
}

/// Why the engine no longer tries to start this revision, if that is so.
fn given_up(app: &ObservedApp, revision: RevisionId) -> Option<FailedStart> {
    let failure = app.failure.as_ref().filter(|failure| failure.revision == revision)?;
    (app.gave_up == Some(revision)).then(|| FailedStart {
        at: failure.at,
        reason: failure.reason.said(),
        last_lines: failure.last_lines.clone(),
    })
}

/// How a build ended, if it did.
fn build_end(state: &BuildState) -> Option<BuildEnd> {
    match state {
        BuildState::Queued | BuildState::InProgress { .. } => None,
        BuildState::Succeeded(outcome) => Some(BuildEnd::Succeeded(BuildResult {
            commit: Some(outcome.commit.clone()),
            summary: Some(outcome.summary.clone()),
            command: outcome.command.clone(),
            pushed: outcome.pushed.clone(),
            ..BuildResult::default()
        })),
        BuildState::Failed(failure) => Some(BuildEnd::Failed(BuildResult {
            failed_step: Some(failure.step.clone()),
            reason: Some(failure.reason.clone()),
            last_lines: failure.last_lines.clone(),
            ..BuildResult::default()
        })),
        BuildState::Cancelled => Some(BuildEnd::Cancelled),
    }
}

fn variable(variable: &EnvVariable) -> Variable {
    Variable { name: variable.name.clone(), value: variable.value.clone() }
}

/// What the engine should bring about.
fn wanted(service: &Service, picture: &Picture) -> Wanted {
    let app = |active: &ActiveApp| {
        let revision = active.revision.as_ref()?;
        Some((
            active.app.name.clone(),
            WantedApp {
                revision: Arc::new(engine_revision(service, active, revision)),
                project: active.launcher.project_id,
                proven: revision.ready_at.is_some(),
                retry: u64::try_from(active.app.retry).unwrap_or_default(),
                policy: policy(service, active),
                registries: active.registries.iter().map(engine_login).collect(),
                demand: service.demands().of(&active.app.name),
            },
        ))
    };
    let of_code = picture.builds.iter().filter(|build| build.image.is_none());
    let builds: BTreeMap<BuildId, Arc<WantedBuild>> =
        of_code.map(|build| (build.id, Arc::new(engine_build(service, picture, build)))).collect();
    let pulls = picture.builds.iter().filter_map(|build| Some((build.id, engine_pull(picture, build)?)));
    Wanted {
        apps: picture.apps.iter().filter_map(app).collect(),
        builds,
        pulls: pulls.collect(),
        kept_builds: picture.kept_builds.clone(),
        projects: picture.limits.iter().map(|(project, limits)| (*project, ceiling(limits))).collect(),
        builds_of: picture.builds_of.clone(),
    }
}

fn ceiling(limits: &model::ProjectLimits) -> Ceiling {
    let number = |limit: u64| u32::try_from(limit).unwrap_or(u32::MAX);
    Ceiling {
        replicas: limits.replicas.map_or(u32::MAX, number),
        memory_bytes: limits.memory_bytes,
        builds: limits.builds_at_once.map(number),
        storage_bytes: limits.storage_bytes,
    }
}

/// The rules that an app's replicas live by.
fn policy(service: &Service, active: &ActiveApp) -> Policy {
    let options = service.options();
    let policy = active.scaling.policy(&options.policy, options.max_replicas).unwrap_or_else(|refused| {
        // It was allowed when it was said; the operator has set another ceiling since.
        tracing::debug!(app = %active.app.name, %refused, "the server's own settings are in force for an app");
        Policy { max_replicas: options.max_replicas, ..options.policy.clone() }
    });
    if active.launcher.preview.is_some() { of_preview(policy) } else { policy }
}

fn engine_revision(service: &Service, active: &ActiveApp, revision: &model::Revision) -> Revision {
    let launcher = &active.launcher;
    let class = service.resource_classes().iter().find(|class| class.id == revision.resource_class_id);
    // A class that the operator took away: its apps go on with the standard one.
    let class = class.cloned().unwrap_or_else(|| model::ResourceClass::standard().swap_remove(0));
    Revision {
        id: revision.engine_id(),
        app: launcher.app_name.clone(),
        url: service.options().app_url(&launcher.app_name),
        program: program(&revision.program),
        variables: revision.variables.iter().map(variable).collect(),
        secrets: active.secrets.iter().map(secret).collect(),
        limits: Limits { memory_bytes: u64::from(class.memory_mib) << 20, cpu_millis: class.cpu_millis },
        gpus: gpus(class.gpus),
        outbound: outbound(&launcher.network),
    }
}

fn gpus(gpus: Option<model::Gpus>) -> Gpus {
    match gpus {
        None => Gpus::None,
        Some(model::Gpus::Count(count)) => Gpus::Count(count),
        Some(model::Gpus::Devices(names)) => Gpus::Devices(names),
    }
}

fn secret(secret: &model::GivenSecret) -> Secret {
    Secret {
        name: secret.name.clone(),
        value: secret.value.reveal().to_owned(),
        is_file: secret.form == model::SecretForm::File,
    }
}

fn outbound(network: &model::Network) -> Outbound {
    match network {
        model::Network::None => Outbound::None,
        model::Network::Internet => Outbound::Internet,
        // What was checked when it was written; what cannot be read any more is not reached.
        model::Network::AllowList(listed) => {
            Outbound::Only(listed.iter().filter_map(|text| text.parse().ok()).collect())
        }
    }
}

fn program(program: &model::Program) -> Program {
    match program {
        model::Program::Built { build, run } => Program::Built {
            build: *build,
            command: run
                .command
                .as_ref()
                .map(|command| command.iter().chain(run.args.iter().flatten()).cloned().collect()),
            port: run.port,
        },
        model::Program::Image { build, image } => Program::Image {
            // One that was made before images were pinned: no build has this id, and the app says so.
            build: build.unwrap_or_else(|| 0.into()),
            port: image.port,
            command: image.command.clone(),
            args: image.args.clone(),
            uid: image.uid,
            gid: image.gid,
            working_directory: image.working_directory.clone(),
        },
    }
}

fn engine_build(service: &Service, picture: &Picture, build: &model::Build) -> WantedBuild {
    let given = picture.given.get(&build.environment_id);
    let logins = picture.git_hosts.get(&build.environment_id).map(Vec::as_slice).unwrap_or_default();
    WantedBuild {
        variables: given.into_iter().flat_map(|(variables, _)| variables).map(variable).collect(),
        secrets: given.into_iter().flat_map(|(_, secrets)| secrets).map(secret).collect(),
        registries: registries(picture, build),
        image: ImageWish { from_plan: build.code.as_image, push: push(service, picture, build) },
        ..wanted_build(&build.code, build.environment_id, build.command_given, logins)
    }
}

/// Which registry is given the image of a build, should one be made.
fn push(service: &Service, picture: &Picture, build: &model::Build) -> Option<Push> {
    let to = service.options().push.as_ref()?;
    let owner = picture.owners.get(&build.environment_id)?;
    let id = build.id.to_string();
    let reference = to.name(&owner.namespace, &owner.project, owner.app.as_str(), &id);
    let host = reference.parse().map(|name: marmot_engine::Reference| name.registry().to_owned()).ok()?;
    let login = to.login.as_ref().map(|(username, password)| marmot_engine::wanted::Login {
        host,
        username: username.clone(),
        password: password.reveal().to_owned(),
    });
    Some(Push { reference, login, must: to.must })
}

fn registries(picture: &Picture, build: &model::Build) -> Vec<marmot_engine::wanted::Login> {
    picture.registries.get(&build.environment_id).into_iter().flatten().map(engine_login).collect()
}

fn engine_pull(picture: &Picture, build: &model::Build) -> Option<Arc<WantedPull>> {
    let image = build.image.as_ref()?;
    Some(Arc::new(WantedPull {
        image: image.reference.clone(),
        owner: build.environment_id,
        port: image.port,
        command_given: build.command_given,
        registries: registries(picture, build),
    }))
}

/// Whether the engine would do the same for both.
fn same(left: &Wanted, right: &Wanted) -> bool {
    let app = |(left, right): (&WantedApp, &WantedApp)| {
        left.revision == right.revision
            && left.project == right.project
            && left.proven == right.proven
            && left.retry == right.retry
            && left.policy == right.policy
            && left.registries == right.registries
            && Arc::ptr_eq(&left.demand, &right.demand)
    };
    left.kept_builds == right.kept_builds
        && left.projects == right.projects
        && left.builds_of == right.builds_of
        && left.builds == right.builds
        && left.pulls == right.pulls
        && left.apps.keys().eq(right.apps.keys())
        && left.apps.values().zip(right.apps.values()).all(app)
}

/// Writes what happens to replicas into the record that people read, until the engine ends.
pub async fn keep_record(service: Service, mut events: mpsc::UnboundedReceiver<Event>) {
    while let Some(event) = events.recv().await {
        let (kind, message) = (kind(&event.what), event.what.said());
        let replica = event.replica.map(tracing::field::display);
        tracing::info!(app = %event.app, replica, event = kind, "{message}");
        let record = AppEvent { at: event.at, kind: kind.to_owned(), message, by: None };
        if let Err(error) = service.note_event(&event.app, record).await {
            tracing::warn!(app = %event.app, error = chain(&error), "cannot record an event");
        }
    }
}

/// What happened, in one word.
fn kind(what: &Happening) -> &'static str {
    match what {
        Happening::Scaled { .. } => "scaled",
        Happening::LetGo { .. } => "let_go",
        Happening::Deepened { .. } => "deepened",
        Happening::MadeRoom => "made_room",
        Happening::Started(_) => "started",
        Happening::Ready(_) => "ready",
        Happening::HeldBack(_) => "held_back",
        Happening::Hibernated => "hibernated",
        Happening::Woke(_) => "woke",
        Happening::Stopped => "stopped",
        Happening::Adopted => "adopted",
        Happening::Failed(_) => "failed",
    }
}
