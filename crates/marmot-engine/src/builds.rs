//! Keeps the builds that are done equal to those that are wanted: a few at a time, one of each owner, first come, first
//! served.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use marmot_core::id::{BuildId, EnvironmentId, ProjectId};
use marmot_core::{Said, said};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::build::{self, BuildContext, BuildEnd};
use crate::files;
use crate::layout::Layout;
use crate::observed::{BuildFailure, BuildOutcome, BuildState};
use crate::shim::spec;
use crate::storage::Storage;
use crate::wanted::{Wanted, WantedBuild, WantedPull};

/// The result of a build, in its directory. Without it, the build is not done.
pub(crate) const OUTCOME: &str = "outcome.json";
/// The result of a build that is no longer kept stays this long: a replica that is being drained may use it.
const LINGER: Duration = Duration::from_secs(600);

/// What is in the cache of builds stays this long without being of use to any.
const CACHE_AGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// An image that no result names stays this long: the result may be on its way.
const IMAGE_AGE: Duration = Duration::from_secs(60 * 60);
/// How often the cache is looked through.
const CACHE_PERIOD: Duration = Duration::from_secs(60 * 60);

/// The result of a build as it is written to disk.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Succeeded {
        commit: String,
        command: Option<String>,
        summary: String,
        #[serde(default)]
        pushed: Option<String>,
    },
    Failed {
        step: Said,
        reason: Said,
        last_lines: Vec<String>,
    },
}

/// What is to be done.
enum Work {
    Build(Arc<WantedBuild>),
    Pull(Arc<WantedPull>),
}

impl Work {
    fn of(wanted: &Wanted, id: BuildId) -> Option<Self> {
        let build = wanted.builds.get(&id).cloned().map(Self::Build);
        build.or_else(|| wanted.pulls.get(&id).cloned().map(Self::Pull))
    }

    fn owner(&self) -> EnvironmentId {
        match self {
            Self::Build(build) => build.owner,
            Self::Pull(pull) => pull.owner,
        }
    }
}

/// What a build's task tells the loop.
enum Word {
    Step(BuildId, Said),
    Ended(BuildId, BuildState),
    /// These caches hold more than they may.
    Overgrown(Vec<PathBuf>),
}

/// A build that is under way.
struct Running {
    owner: EnvironmentId,
    project: Option<ProjectId>,
    cancel: CancellationToken,
}

/// The loop and what it works with.
pub(crate) struct Builds {
    layout: Layout,
    context: Arc<BuildContext>,
    at_once: usize,
    storage: Storage,
    wanted: watch::Receiver<Arc<Wanted>>,
    states: BTreeMap<BuildId, BuildState>,
    running: BTreeMap<BuildId, Running>,
    /// Results that are no longer kept, since when.
    unkept: BTreeMap<BuildId, Instant>,
    /// Caches that are to be taken away once no build uses them.
    overgrown: Vec<PathBuf>,
    tasks: TaskTracker,
    speak: mpsc::UnboundedSender<Word>,
    hear: mpsc::UnboundedReceiver<Word>,
}

impl Builds {
    pub(crate) fn new(
        layout: Layout,
        context: Arc<BuildContext>,
        at_once: usize,
        wanted: watch::Receiver<Arc<Wanted>>,
    ) -> Self {
        let storage = Storage::new(layout.data_dir());
        let (speak, hear) = mpsc::unbounded_channel();
        let (states, running, unkept, overgrown) = <_>::default();
        let tasks = TaskTracker::new();
        let at_once = at_once.max(1);
        Self {
            layout,
            context,
            at_once,
            storage,
            wanted,
            states,
            running,
            unkept,
            overgrown,
            tasks,
            speak,
            hear,
        }
    }

    /// Runs until `stop` is cancelled; then breaks off what is under way and waits for it.
    pub(crate) async fn run(
        mut self,
        publish: watch::Sender<BTreeMap<BuildId, BuildState>>,
        stop: CancellationToken,
    ) {
        let mut wanted = self.wanted.clone();
        let mut sweep = tokio::time::interval(LINGER / 2);
        let mut collect = tokio::time::interval(CACHE_PERIOD);
        loop {
            let now = wanted.borrow_and_update().clone();
            self.step(&now).await;
            publish.send_if_modified(|seen| {
                let changed = *seen != self.states;
                if changed {
                    seen.clone_from(&self.states);
                }
                changed
            });
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(word) = self.hear.recv() => self.note(word),
                changed = wanted.changed() => if changed.is_err() { break },
                _ = sweep.tick() => self.remove_unkept(&now).await,
                _ = collect.tick() => self.collect(),
            }
        }
        self.running.values().for_each(|running| running.cancel.cancel());
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn note(&mut self, word: Word) {
        match word {
            Word::Step(id, step) => {
                if let Some(state) = self.states.get_mut(&id)
                    && self.running.contains_key(&id)
                {
                    *state = BuildState::InProgress { step };
                }
            }
            Word::Ended(id, state) => {
                self.running.remove(&id);
                self.states.insert(id, state);
            }
            Word::Overgrown(caches) => self.overgrown = caches,
        }
    }

    /// Cancels what is no longer wanted, takes in what is new, starts what there is room for.
    async fn step(&mut self, wanted: &Wanted) {
        for (id, running) in &self.running {
            if !wanted.asks_for(*id) {
                running.cancel.cancel();
            }
        }
        self.states.retain(|id, _| wanted.asks_for(*id) || self.running.contains_key(id));
        for &id in wanted.builds.keys().chain(wanted.pulls.keys()) {
            if !self.states.contains_key(&id) {
                let state = self.found(id).await.unwrap_or(BuildState::Queued);
                self.states.insert(id, state);
            }
        }
        self.take_away_overgrown();
        // Ids grow with time: the first in order is the one that has waited longest.
        let queued: Vec<BuildId> = self
            .states
            .iter()
            .filter(|(_, state)| **state == BuildState::Queued)
            .map(|(id, _)| *id)
            .collect();
        for id in queued {
            // A server that is never without a build makes room all the same.
            if self.running.len() >= self.at_once || !self.overgrown.is_empty() {
                break;
            }
            // One at a time of the same owner: nobody who pushes often keeps the others waiting, and what they would share
            // in the caches is changed by one alone.
            let project = wanted.builds_of.get(&id).copied();
            if let Some(work) = Work::of(wanted, id)
                && !self.running.values().any(|running| running.owner == work.owner())
                && self.project_has_room(wanted, project)
            {
                self.start(id, work, project);
            }
        }
    }

    /// Whether another build of this project may run beside those that do.
    fn project_has_room(&self, wanted: &Wanted, project: Option<ProjectId>) -> bool {
        let Some(most) = project.and_then(|project| wanted.ceiling(project).builds) else { return true };
        let running = self.running.values().filter(|running| running.project == project).count();
        running < most.max(1) as usize
    }

    /// The result of a build that an earlier engine did.
    async fn found(&self, id: BuildId) -> Option<BuildState> {
        let dir = self.layout.build(id);
        let outcome = tokio::task::spawn_blocking(move || spec::read::<Outcome>(&dir, OUTCOME)).await;
        let state = BuildState::from(outcome.ok()?.ok()??);
        // A success without what it made is worth nothing.
        let usable = !matches!(state, BuildState::Succeeded(_)) || self.layout.artefact(id).is_dir();
        usable.then_some(state)
    }

    fn start(&mut self, id: BuildId, work: Work, project: Option<ProjectId>) {
        let cancel = CancellationToken::new();
        self.running.insert(id, Running { owner: work.owner(), project, cancel: cancel.clone() });
        self.states.insert(id, BuildState::InProgress { step: said!("build-step-starting", "Starting") });
        let (context, dir, speak) = (Arc::clone(&self.context), self.layout.build(id), self.speak.clone());
        let tell = speak.clone();
        let disk = Disk { storage: self.storage.clone(), wanted: self.wanted.clone(), project, build: id };
        let working = self.tasks.spawn(async move {
            let fresh = dir.clone();
            match tokio::task::spawn_blocking(move || make_fresh(&fresh)).await {
                Ok(Ok(())) => {
                    if let Some(full) = disk.full(&work).await {
                        return keep(&dir, Err(full)).await;
                    }
                    let progress = |step: Said| {
                        let _ = speak.send(Word::Step(id, step));
                    };
                    let end = match work {
                        Work::Build(wanted) => {
                            build::run(&context, id, &wanted, &dir, progress, cancel).await
                        }
                        Work::Pull(wanted) => {
                            build::pull(&context, id, &wanted, &dir, progress, cancel).await
                        }
                    };
                    keep(&dir, disk.check(end).await).await
                }
                Ok(Err(error)) => could_not_keep(&error),
                Err(error) => could_not_keep(&io::Error::other(error)),
            }
        });
        // Told by another task: a build that panics has ended, too, and its place is free.
        self.tasks.spawn(async move {
            let state = working.await.unwrap_or_else(|error| could_not_keep(&io::Error::other(error)));
            let _ = tell.send(Word::Ended(id, state));
        });
    }

    /// Removes what no build needs from their cache, beside everything else.
    fn collect(&self) {
        let (context, layout) = (Arc::clone(&self.context), self.layout.clone());
        let speak = self.speak.clone();
        self.tasks.spawn(async move {
            if let Some(engine) = context.containers() {
                engine.collect(&layout, IMAGE_AGE).await;
            }
            if let Err(error) = build::collect(&context, &layout.builds(), CACHE_AGE).await {
                tracing::warn!(%error, "the cache of builds cannot be looked through");
            }
            let look = move || build::overgrown(&context);
            let found = tokio::task::spawn_blocking(look).await.unwrap_or_default();
            let _ = speak.send(Word::Overgrown(found));
        });
    }

    /// Takes away the caches that hold more than they may, while no build uses them.
    fn take_away_overgrown(&mut self) {
        if !self.running.is_empty() {
            return;
        }
        for cache in std::mem::take(&mut self.overgrown) {
            tracing::info!(cache = %cache.display(), "a cache of packages has grown too large: it begins anew");
            if let Err(error) = build::discard(&cache) {
                tracing::warn!(cache = %cache.display(), %error, "a cache cannot be taken away");
            }
        }
    }

    /// Removes the results that nobody keeps any more. Logs and outcomes stay.
    async fn remove_unkept(&mut self, wanted: &Wanted) {
        let kept = |id: &BuildId| wanted.kept_builds.contains(id) || wanted.asks_for(*id);
        let present: Vec<BuildId> = fs::read_dir(self.layout.builds())
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|id| !kept(id) && self.layout.artefact(*id).exists())
            .collect();
        self.unkept.retain(|id, _| present.contains(id));
        for id in present {
            let since = *self.unkept.entry(id).or_insert_with(Instant::now);
            if since.elapsed() >= LINGER {
                let artefact = self.layout.artefact(id);
                let removed = tokio::task::spawn_blocking(move || files::remove(&artefact)).await;
                if let Ok(Err(error)) = removed {
                    tracing::warn!(build = %id, %error, "the result of a build cannot be removed");
                }
            }
        }
    }
}

/// The room that a build has on disk.
struct Disk {
    storage: Storage,
    wanted: watch::Receiver<Arc<Wanted>>,
    project: Option<ProjectId>,
    build: BuildId,
}

impl Disk {
    /// Why nothing is built: its project has filled its room. What an image takes is with the container engine.
    async fn full(&self, work: &Work) -> Option<BuildEnd> {
        let (used, limit, _) = self.look().await.filter(|_| matches!(work, Work::Build(_)))?;
        (used >= limit).then(|| no_room(used, limit, None))
    }

    /// What came of the build; nothing, where its result is more than its project has room for.
    async fn check(&self, end: Result<BuildOutcome, BuildEnd>) -> Result<BuildOutcome, BuildEnd> {
        let outcome = end?;
        match self.look().await {
            Some((used, limit, result)) if result > 0 && used.saturating_add(result) > limit => {
                let artefact = self.storage.artefact(self.build);
                let removed = tokio::task::spawn_blocking(move || files::remove(&artefact)).await;
                if let Ok(Err(error)) = removed {
                    tracing::warn!(build = %self.build, %error, "the result of a build cannot be removed");
                }
                Err(no_room(used, limit, Some(result)))
            }
            _ => Ok(outcome),
        }
    }

    /// What the project takes beside this build, what it may take, and what this build's result takes, in bytes.
    async fn look(&self) -> Option<(u64, u64, u64)> {
        let (project, wanted) = (self.project?, self.wanted.borrow().clone());
        let limit = wanted.ceiling(project).storage_bytes?;
        let (storage, build) = (self.storage.clone(), self.build);
        let counted = tokio::task::spawn_blocking(move || {
            (storage.beside(&wanted, project, build), storage.result(build))
        });
        let (used, result) = counted.await.ok()?;
        Some((used, limit, result))
    }
}

fn no_room(used: u64, limit: u64, result: Option<u64>) -> BuildEnd {
    let [used, limit] = [used, limit].map(|bytes| bytes >> 20);
    let beyond = match result {
        Some(result) => said!(
            "build-project-full-by",
            ", and the result of this build takes {takes} MiB",
            takes = (result >> 20) + 1
        ),
        None => Said::default(),
    };
    let reason = said!(
        "build-project-full",
        "the project may keep {limit} MiB on disk and keeps {used} MiB already{beyond}: delete launchers that are not \
         needed, make the code and its packages smaller, or ask an administrator for a higher limit",
        limit = limit,
        used = used,
        beyond = beyond
    );
    BuildEnd::Failed(BuildFailure {
        step: said!("build-step-limits", "Keeping to the project's limits"),
        reason,
        last_lines: Vec::new(),
    })
}

/// What a broken-off attempt left is of no use.
fn make_fresh(dir: &Path) -> io::Result<()> {
    files::remove(dir)?;
    files::make_passage(dir)
}

/// Writes the result down before anybody is told of it.
async fn keep(dir: &Path, end: Result<BuildOutcome, BuildEnd>) -> BuildState {
    let outcome = match end {
        Ok(BuildOutcome { commit, command, summary, pushed }) => {
            Outcome::Succeeded { commit, command, summary, pushed }
        }
        Err(BuildEnd::Failed(BuildFailure { step, reason, last_lines })) => {
            Outcome::Failed { step, reason, last_lines }
        }
        Err(BuildEnd::Cancelled) => return BuildState::Cancelled,
    };
    let dir = dir.to_owned();
    let written =
        tokio::task::spawn_blocking(move || spec::write(&dir, OUTCOME, &outcome).map(|()| outcome)).await;
    match written {
        Ok(Ok(outcome)) => outcome.into(),
        Ok(Err(error)) => could_not_keep(&error),
        Err(error) => could_not_keep(&io::Error::other(error)),
    }
}

fn could_not_keep(error: &io::Error) -> BuildState {
    BuildState::Failed(BuildFailure {
        step: said!("build-step-keeping", "Keeping the result"),
        reason: said!(
            "build-cannot-keep",
            "the build's directory cannot be written: {why}",
            why = error.to_string()
        ),
        last_lines: Vec::new(),
    })
}

impl From<Outcome> for BuildState {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Succeeded { commit, command, summary, pushed } => {
                Self::Succeeded(BuildOutcome { commit, command, summary, pushed })
            }
            Outcome::Failed { step, reason, last_lines } => {
                Self::Failed(BuildFailure { step, reason, last_lines })
            }
        }
    }
}
