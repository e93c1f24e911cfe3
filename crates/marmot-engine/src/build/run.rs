//! One build, step by step.

use std::io;
use std::path::Path;

use marmot_core::Said;
use marmot_core::id::BuildId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::bounds::Bounds;
use super::checkout::{self, CheckedOut, CheckoutError};
use super::contract::{BuildContext, BuildEnd, BuildLimits};
use super::environment::{Environment, remove};
use super::fetch::{self, FetchError, Git};
use super::image::{self, NoImage};
use super::install::{self, InstallError, Order};
use super::log::BuildLog;
use super::plan::{self, CannotPlan, Code, Install, Plan};
use super::process::{Interrupted, Job, Mark};
use super::reach::Reach;
use super::release::{self, ReleaseError};
use super::source::{Allowed, CheckedSource, InvalidSource};
use super::start::{self, StartError};
use super::told::Step;
use super::{login, network, node, r, tree};
use crate::observed::{BuildFailure, BuildOutcome};
use crate::wanted::{Builder, Login, WantedBuild};

const FETCHING: Step = Step::new("build-step-fetching", "Fetching the code");
const READING: Step = Step::new("build-step-reading", "Reading the code");
const INSTALLING: Step = Step::new("build-step-installing-python", "Installing Python packages");
const INSTALLING_NODE: Step = Step::new("build-step-installing-node", "Installing Node packages");
const INSTALLING_R: Step = Step::new("build-step-installing-r", "Installing R packages");
const RELEASING: Step = Step::new("build-step-releasing", "Running the release");
const CHECKING: Step = Step::new("build-step-checking", "Checking");

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    #[error(transparent)]
    Interrupted(Interrupted),
    #[error(transparent)]
    Source(#[from] InvalidSource),
    #[error(transparent)]
    Fetch(FetchError),
    #[error(transparent)]
    Checkout(CheckoutError),
    #[error(transparent)]
    Plan(#[from] CannotPlan),
    #[error(transparent)]
    Install(InstallError),
    #[error(
        "a container image is made from {0}, but this server has no container engine to make it: its operator can set one \
         up, or add what Marmot builds by itself, such as requirements.txt, package.json or renv.lock"
    )]
    NeedsContainers(String),
    #[error(transparent)]
    Release(ReleaseError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Image(#[from] NoImage),
    #[error("the build's own directory could not be written: {0}")]
    Directory(#[from] io::Error),
}

impl StepError {
    /// Whether git could not make sense of its own files.
    fn is_damage(&self) -> bool {
        matches!(self, Self::Checkout(CheckoutError::Git(_)) | Self::Fetch(FetchError::Git { .. }))
    }
}

impl From<FetchError> for StepError {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Interrupted(interrupted) => Self::Interrupted(interrupted),
            other => Self::Fetch(other),
        }
    }
}

impl From<CheckoutError> for StepError {
    fn from(error: CheckoutError) -> Self {
        match error {
            CheckoutError::Interrupted(interrupted) => Self::Interrupted(interrupted),
            other => Self::Checkout(other),
        }
    }
}

impl From<InstallError> for StepError {
    fn from(error: InstallError) -> Self {
        match error {
            InstallError::Interrupted(interrupted)
            | InstallError::Python(super::python::NoPython::Interrupted(interrupted)) => {
                Self::Interrupted(interrupted)
            }
            other => Self::Install(other),
        }
    }
}

impl From<ReleaseError> for StepError {
    fn from(error: ReleaseError) -> Self {
        match error {
            ReleaseError::Interrupted(interrupted) => Self::Interrupted(interrupted),
            other => Self::Release(other),
        }
    }
}

/// Does one build in `dir`, which is its own: the log goes to `dir/log` while it runs, `dir/log.done` appears when
/// the log is whole, and the result is `dir/artefact`, with the app's files in `code` and a
/// [`RunFile`](super::RunFile).
///
/// `progress` is told each step, as a person would say it. Nothing but the log is left of a build that fails or is
/// cancelled, and none of its processes.
///
/// # Errors
/// [`BuildEnd::Cancelled`] when `cancel` was; [`BuildEnd::Failed`] with the step and the reason for everything else.
pub async fn run(
    context: &BuildContext,
    id: BuildId,
    wanted: &WantedBuild,
    dir: &Path,
    progress: impl Fn(Said) + Send + Sync,
    cancel: CancellationToken,
) -> Result<BuildOutcome, BuildEnd> {
    let absolute = std::path::absolute(dir);
    let dir = absolute.as_deref().unwrap_or(dir);
    let job = prepare(context, &context.limits, id, masked(wanted), dir, cancel).map_err(|error| {
        BuildEnd::Failed(BuildFailure {
            step: FETCHING.said(),
            reason: StepError::from(error).said(),
            last_lines: Vec::new(),
        })
    })?;
    let cleaner = Cleaner::of(dir);
    let mut build = Build::new(context, &job, dir, &progress);
    let done = build.all(id, wanted).await;
    let step = build.step;
    job.end_all().await;
    finish(&job, cleaner, step, done)
}

/// What the log of a build must not show.
pub(super) fn masked(wanted: &WantedBuild) -> Vec<String> {
    let variables = wanted.variables.iter().map(|variable| (variable.name.clone(), variable.value.clone()));
    let mut masked = network::secrets(&variables.collect::<Vec<_>>());
    masked.extend(wanted.secrets.iter().map(|secret| secret.value.clone()).filter(|value| value.len() >= 6));
    masked.extend(login::secrets(&wanted.logins));
    masked.extend(login::secrets(&wanted.registries));
    let of_push = wanted.image.push.iter().filter_map(|push| push.login.clone());
    masked.extend(login::secrets(&of_push.collect::<Vec<_>>()));
    masked
}

/// Gets the directory and the log of a build ready. `masked`: what the log never shows.
pub(super) fn prepare(
    context: &BuildContext,
    limits: &BuildLimits,
    id: BuildId,
    masked: Vec<String>,
    dir: &Path,
    cancel: CancellationToken,
) -> io::Result<Job> {
    let home = dir.join("home");
    for leftover in ["home", "artefact"] {
        remove(&dir.join(leftover))?;
    }
    std::fs::create_dir_all(&home)?;
    if dir.join("log.done").exists() {
        std::fs::remove_file(dir.join("log.done"))?;
    }
    let mut secrets = network::secrets(&context.environment);
    secrets.extend(masked);
    Ok(Job {
        mark: Mark::new(id),
        log: BuildLog::create(&dir.join("log"), limits.log_bytes, secrets)?,
        cancel,
        deadline: Instant::now() + limits.time,
        limits: limits.clone(),
        home,
        confiner: context.confiner().cloned(),
        bounds: Bounds::of(context, id, limits.memory_bytes),
        reach: Reach::of(context),
    })
}

pub(super) fn finish(
    job: &Job,
    mut cleaner: Cleaner<'_>,
    step: Step,
    done: Result<BuildOutcome, StepError>,
) -> Result<BuildOutcome, BuildEnd> {
    let last_lines = job.log.last_lines();
    job.log.end_step();
    let end = match done {
        Ok(outcome) => {
            cleaner.succeeded = true;
            job.log.say("==> Built");
            Ok(outcome)
        }
        Err(StepError::Interrupted(Interrupted::Cancelled)) => {
            job.log.say("==> Cancelled");
            Err(BuildEnd::Cancelled)
        }
        Err(error) => {
            let reason = told(job, &error);
            job.log.say("==> Failed");
            job.log.say(reason.english());
            Err(BuildEnd::Failed(BuildFailure { step: step.said(), reason, last_lines }))
        }
    };
    drop(cleaner);
    end
}

/// What went wrong, as a sentence without anything that the log must not show.
pub(super) fn told(job: &Job, error: &StepError) -> Said {
    error.said().written(sentence).masked(&|text| job.log.masked(text))
}

/// With a capital in front, unless that is the name of a file, and a full stop at the end.
pub(super) fn sentence(text: &str) -> String {
    let is_file = text.split(' ').next().is_some_and(|word| word.contains('.'));
    let mut letters = text.chars();
    let first = match letters.next() {
        Some(letter) if !is_file => letter.to_uppercase().to_string(),
        other => other.map(String::from).unwrap_or_default(),
    };
    let stop = if text.ends_with(['.', '?', '!']) { "" } else { "." };
    format!("{first}{}{stop}", letters.as_str())
}

/// Removes what a build only needed while it ran, and the result of one that failed. By whatever path it ends.
pub(super) struct Cleaner<'a> {
    dir: &'a Path,
    succeeded: bool,
}

impl<'a> Cleaner<'a> {
    pub(super) fn of(dir: &'a Path) -> Self {
        Self { dir, succeeded: false }
    }
}

impl Drop for Cleaner<'_> {
    fn drop(&mut self) {
        // What cannot be removed here goes with the build's directory.
        let _ = remove(&self.dir.join("home"));
        if !self.succeeded {
            let _ = remove(&self.dir.join("artefact"));
        }
        let _ = std::fs::File::create(self.dir.join("log.done"));
    }
}

pub(super) struct Build<'a, P> {
    context: &'a BuildContext,
    job: &'a Job,
    dir: &'a Path,
    progress: &'a P,
    step: Step,
}

impl<'a, P: Fn(Said) + Send + Sync> Build<'a, P> {
    /// In `dir`, as a step of `job`.
    pub(super) fn new(context: &'a BuildContext, job: &'a Job, dir: &'a Path, progress: &'a P) -> Self {
        Self { context, job, dir, progress, step: FETCHING }
    }
}

impl<P: Fn(Said) + Send + Sync> Build<'_, P> {
    fn begin(&mut self, step: Step) {
        self.step = step;
        self.job.log.step(step.english());
        (self.progress)(step.said());
    }

    /// Fetches the code and plans; the commit, and what is to be done with it.
    pub(super) async fn look(&mut self, wanted: &WantedBuild) -> Result<(String, Plan), StepError> {
        self.begin(FETCHING);
        let artefact = self.dir.join("artefact");
        let code = artefact.join("code");
        let allowed = Allowed {
            local_repositories: self.context.allow_local_repositories,
            private_networks: self.context.allow_private_networks,
        };
        let source = CheckedSource::new(&wanted.source, allowed)?;
        let repository = fetch::repository_key(&source.address);
        std::fs::create_dir_all(&artefact)?;
        let (commit, files) = self.fetch(&source, &wanted.logins, &repository, &code).await?;

        self.begin(READING);
        Ok((commit, self.plan(wanted, files, &code)?))
    }

    async fn all(&mut self, id: BuildId, wanted: &WantedBuild) -> Result<BuildOutcome, StepError> {
        let base = wanted.image.from_plan.then(|| image::Base::of(self.context)).transpose()?;
        let (artefact, code) = (self.dir.join("artefact"), self.dir.join("artefact/code"));
        if wanted.builder == Builder::Buildpacks {
            image::Bench::of(self.context, wanted, &code)?;
        }
        let (commit, plan) = self.look(wanted).await?;
        if let Install::Dockerfile(file) = &plan.install {
            let engine = self.context.containers().ok_or_else(|| StepError::NeedsContainers(file.clone()))?;
            let recipe = image::Recipe::read(self.context, engine, self.job, wanted, file, &code)?;
            self.begin(image::BUILDING);
            let whole = image::Whole { context: self.context, job: self.job, progress: self.progress, id };
            return image::build(&whole, recipe, &commit, &artefact).await;
        }
        if plan.install == Install::Buildpacks {
            let bench = image::Bench::of(self.context, wanted, &code)?;
            self.begin(image::BY_BUILDPACKS);
            let whole = image::Whole { context: self.context, job: self.job, progress: self.progress, id };
            return image::build_by_buildpacks(&whole, bench, &commit, &artefact).await;
        }
        let environment = self.install(wanted, &plan, &artefact, &commit).await?;
        if let Some(line) = &plan.release {
            self.begin(RELEASING);
            self.job.log.say(&format!("Running `{line}`"));
            release::release(self.context, self.job, line, environment.as_ref(), &code, wanted).await?;
        }

        self.begin(CHECKING);
        start::prepare(self.context, &plan.start, environment.as_ref(), &artefact)?;
        let outcome = outcome(commit, &plan, environment.as_ref());
        if let Some(command) = &outcome.command {
            self.job.log.say(&format!("Started by: {command}"));
        }
        let Some(base) = base else { return Ok(outcome) };
        self.begin(image::PACKING);
        let whole = image::Whole { context: self.context, job: self.job, progress: self.progress, id };
        image::pack(&whole, base, wanted, &artefact, outcome).await
    }

    async fn install(
        &mut self,
        wanted: &WantedBuild,
        plan: &Plan,
        artefact: &Path,
        commit: &str,
    ) -> Result<Option<Environment>, StepError> {
        let (context, job, owner) = (self.context, self.job, wanted.owner);
        let code = &artefact.join("code");
        match &plan.install {
            Install::Nothing | Install::Dockerfile(_) | Install::Buildpacks => Ok(None),
            Install::Python { manifest, extra } => {
                self.begin(INSTALLING);
                let order = Order { manifest, extra, code, artefact, owner, commit };
                Ok(Some(install::install(context, job, &order).await?))
            }
            Install::Node(manifest) => {
                self.begin(INSTALLING_NODE);
                let (start, variables) = (&plan.start, wanted.variables.as_slice());
                let order = node::Order { manifest, start, code, artefact, owner, variables };
                Ok(Some(node::install(context, job, &order).await?))
            }
            Install::R(manifest) => {
                self.begin(INSTALLING_R);
                Ok(Some(r::install(context, job, &r::Order { manifest, code, owner, commit }).await?))
            }
        }
    }

    /// Fetches the commit and lays its files out in `code`.
    async fn fetch(
        &self,
        source: &CheckedSource,
        logins: &[Login],
        repository: &str,
        code: &Path,
    ) -> Result<(String, CheckedOut), StepError> {
        let revision = source.revision.as_deref().unwrap_or("the default branch");
        self.job.log.say(&format!("{} at {revision}", source.address));
        let git_dir = self.context.cache_dir.join("repositories").join(repository);
        let _lock = tokio::select! {
            lock = self.context.locks.hold(&git_dir) => lock,
            () = self.job.cancel.cancelled() => return Err(StepError::Interrupted(Interrupted::Cancelled)),
        };
        let mut git = Git::new(self.context, self.job, &source.address, logins).await?;
        match self.fetch_into(&mut git, source, &git_dir, code).await {
            // A power cut may have left half a repository. It is only a copy.
            Err(error) if error.is_damage() && git_dir.exists() => {
                self.job.log.say("The copy of the repository on this server is damaged; it is fetched anew.");
                remove(&git_dir)?;
                remove(code)?;
                self.fetch_into(&mut git, source, &git_dir, code).await
            }
            other => other,
        }
    }

    async fn fetch_into(
        &self,
        git: &mut Git<'_>,
        source: &CheckedSource,
        git_dir: &Path,
        code: &Path,
    ) -> Result<(String, CheckedOut), StepError> {
        let fetched = git.fetch(source, git_dir).await?;
        let context_dir = source.context_dir.as_deref();
        let files = checkout::check_out(git, self.job, &self.job.limits, &fetched, context_dir, code).await?;
        Ok((fetched.commit, files))
    }

    fn plan(&self, wanted: &WantedBuild, files: CheckedOut, code: &Path) -> Result<Plan, StepError> {
        let log = &self.job.log;
        for path in tree::submodules(&files.entries) {
            log.say(&format!("Warning: the submodule `{path}` is not fetched."));
        }
        if let [first, ..] = files.pointers.as_slice() {
            let count = files.pointers.len();
            log.say(&format!(
                "Warning: {count} files are kept in git LFS and are not fetched, such as `{first}`."
            ));
        }
        let code = Code::read(code, files.entries.into_iter().map(|entry| entry.path));
        let plan = plan::plan(&code, wanted.builder, wanted.command_given)?;
        plan.reasons.iter().for_each(|reason| log.say(reason));
        plan.warnings.iter().for_each(|warning| log.say(&format!("Warning: {warning}")));
        Ok(plan)
    }
}

fn outcome(commit: String, plan: &Plan, environment: Option<&Environment>) -> BuildOutcome {
    let mut summary = plan.reasons.join(" ");
    if let Some(environment) = environment {
        summary.push_str(&format!(" {}", environment.told));
    }
    let (command, summary) = (start::as_typed(&plan.start), summary.trim().to_owned());
    BuildOutcome { commit, command, summary, pushed: None }
}
