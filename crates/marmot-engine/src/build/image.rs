//! Builds whose result is an image: one that a registry has is pulled and pinned, one that a `Dockerfile` describes is
//! made by the container engine, and so is one that buildpacks make.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use marmot_core::Said;
use marmot_core::id::BuildId;
use tokio_util::sync::CancellationToken;

use super::contract::{BuildContext, BuildEnd, RunFile};
use super::dockerfile::{self, RefusedDockerfile};
use super::login;
use super::process::{Interrupted, Job};
use super::run::{Cleaner, StepError, finish, prepare};
use super::told::Step;
use crate::container::PinnedImage;
use crate::container::api::EngineError;
use crate::container::image::{ImageFacts, Progress};
use crate::container::reference::{Reference, WrongReference};
use crate::container::words::{ImageError, NotPushed};
use crate::observed::{BuildFailure, BuildOutcome};
use crate::wanted::WantedPull;

mod buildpacks;
mod from_plan;
mod push;
mod recipe;
mod steps;

pub(super) use buildpacks::{BUILDING as BY_BUILDPACKS, Bench, build as build_by_buildpacks};
pub(super) use from_plan::{Base, PACKING, pack};
pub(super) use recipe::{BUILDING, Recipe, Whole, build};

/// The step of a pull.
const PULLING: Step = Step::new("build-step-pulling", "Pulling the image");
/// Nobody reads faster than this.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoImage {
    #[error(
        "this installation has no container engine to run images with: an operator can install Podman or Docker and \
         name its socket with `container_engine`"
    )]
    NoEngine,
    #[error("`{0}`: {1}")]
    Reference(String, WrongReference),
    #[error(
        "the registry of `{0}` is this machine or on a private network, where no images are taken from (an operator can \
         allow that with `allow_private_networks`)"
    )]
    Private(Reference),
    #[error(
        "no image can be made of code here: an operator has to name the image that it begins from with `base_image`"
    )]
    NoBase,
    #[error(
        "nothing is built with buildpacks here: an operator has to name the image of a builder with `buildpacks_builder`"
    )]
    NoBuilder,
    #[error(
        "nothing can be built with `{0}`: {1}; the operator of this installation has to name another one"
    )]
    Builder(String, buildpacks::NoBuilder),
    #[error(transparent)]
    Process(buildpacks::NoProcess),
    #[error(transparent)]
    NotPushed(NotPushed),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Port(#[from] NoPort),
    #[error("the image does not say what to start: give the launcher a command")]
    NoCommand,
    #[error(transparent)]
    Dockerfile(#[from] RefusedDockerfile),
    #[error("`{0}` is no file of text that can be read")]
    NoFile(String),
    #[error("the Dockerfile is larger than {} KiB", dockerfile::LONGEST >> 10)]
    LongDockerfile,
    #[error(
        "line {line} of the Dockerfile needs the secret `{name}`, which the launcher does not have: give it one of that name"
    )]
    NoSecret { line: usize, name: String },
    #[error(
        "the steps of the Dockerfile ask for secrets, and the container engine here is Docker, whose API takes none for \
         builds: leave them out, or ask the operator of this installation for Podman"
    )]
    NoSecretsByDocker,
    #[error(
        "the steps of a Dockerfile cannot be kept from private networks and from this machine here: {0}. An operator can \
         run Podman as root, or allow it with `builds_network = \"shared\"`"
    )]
    Unfenced(String),
    #[error("{0}")]
    Engine(String),
    #[error("{0}")]
    Step(Said),
}

impl From<EngineError> for NoImage {
    fn from(error: EngineError) -> Self {
        Self::Image(ImageError::Engine(error.to_string()))
    }
}

/// Does one pull in `dir`, which is its own, as [`run`](super::run()) does a build.
///
/// # Errors
/// [`BuildEnd::Cancelled`] when `cancel` was; [`BuildEnd::Failed`] with the step and the reason for everything else.
pub async fn pull(
    context: &BuildContext,
    id: BuildId,
    wanted: &WantedPull,
    dir: &Path,
    progress: impl Fn(Said) + Send + Sync,
    cancel: CancellationToken,
) -> Result<BuildOutcome, BuildEnd> {
    let absolute = std::path::absolute(dir);
    let dir = absolute.as_deref().unwrap_or(dir);
    let job =
        prepare(context, &context.limits, id, login::secrets(&wanted.registries).collect(), dir, cancel)
            .map_err(|error| {
                BuildEnd::Failed(BuildFailure {
                    step: PULLING.said(),
                    reason: StepError::from(error).said(),
                    last_lines: Vec::new(),
                })
            })?;
    let cleaner = Cleaner::of(dir);
    job.log.step(PULLING.english());
    progress(PULLING.said());
    let done = pull_image(context, &job, wanted, dir, &progress).await;
    finish(&job, cleaner, PULLING, done)
}

async fn pull_image(
    context: &BuildContext,
    job: &Job,
    wanted: &WantedPull,
    dir: &Path,
    progress: &(impl Fn(Said) + Send + Sync),
) -> Result<BuildOutcome, StepError> {
    let wrong = |error| NoImage::Reference(wanted.image.chars().take(100).collect(), error);
    let image: Reference = wanted.image.parse().map_err(wrong)?;
    let is_local = context.local_images.iter().any(|local| local.have(&image));
    if image.is_private() && !context.allow_private_networks && !is_local {
        return Err(NoImage::Private(image).into());
    }
    let engine = context.containers().ok_or(NoImage::NoEngine)?;
    job.log.say(&image.to_string());
    if is_local {
        job.log.say("Taken from this server's own container engine, as its operator has set.");
        let found = within(job, async { Ok(engine.api().local(&image).await?) }).await?;
        let pinned = PinnedImage::of(&*found.id);
        return pulled(job, wanted, dir, &image, &ImageFacts { digest: None, ..found }, pinned);
    }
    // Who wants the same image meanwhile waits, and finds its layers here.
    let place = Path::new("pulls").join(image.to_string());
    let _lock = within(job, async { Ok(context.locks.hold(&place).await) }).await?;
    let before = within(job, async { engine.api().images().await.map_err(NoImage::from) }).await?;
    let mut told: Option<(Instant, Progress)> = None;
    let tell = |far: Progress| {
        let is_news = |(at, last): &(Instant, Progress)| at.elapsed() >= TOLD_EVERY && far != *last;
        if told.as_ref().is_none_or(is_news) {
            progress(PULLING.at(far.to_string()));
            job.log.output(far.to_string().as_bytes());
            told = Some((Instant::now(), far));
        }
    };
    let login = wanted.registries.iter().find(|login| login.host == image.registry());
    let pulling = async { engine.api().pull(&image, login, tell).await.map_err(NoImage::from) };
    let found = within(job, pulling).await?;
    let origin = found.digest.as_deref().and_then(|digest| image.at(digest));
    let pinned =
        PinnedImage { origin: origin.as_ref().map(ToString::to_string), ..PinnedImage::of(&*found.id) };
    if !before.contains(&found.id) {
        engine.note_brought(&pinned)?;
    }
    pulled(job, wanted, dir, &image, &found, pinned)
}

/// Keeps an image that is here now, if it can be run.
fn pulled(
    job: &Job,
    wanted: &WantedPull,
    dir: &Path,
    image: &Reference,
    found: &ImageFacts,
    pinned: PinnedImage,
) -> Result<BuildOutcome, StepError> {
    let port = port_of(wanted.port, found).map_err(NoImage::from)?;
    if found.command.is_empty() && !wanted.command_given {
        return Err(NoImage::NoCommand.into());
    }
    let size = found.bytes.div_ceil(1_000_000);
    let summary = format!("{image}, {size} MB, listens on port {port}.");
    let commit = found.digest.clone().unwrap_or_else(|| found.id.clone());
    job.log.say(&format!("{commit}, {size} MB"));
    keep(&dir.join("artefact"), pinned)?;
    Ok(BuildOutcome { commit, command: typed(found), summary, pushed: None })
}

/// What an image starts, as a person would type it.
fn typed(found: &ImageFacts) -> Option<String> {
    (!found.command.is_empty()).then(|| found.command.join(" "))
}

/// Nothing says on which port the app is to be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoPort {
    #[error(
        "the image does not say which port it listens on: give the launcher one, or put `EXPOSE` into its Dockerfile"
    )]
    None,
    #[error(
        "the image says that it listens on several ports, {0}: give the launcher the one that people are to open"
    )]
    Many(String),
}

/// The port that the app will be asked on.
pub(crate) fn port_of(given: Option<u16>, found: &ImageFacts) -> Result<u16, NoPort> {
    match (given, &found.ports[..]) {
        (Some(port), _) => Ok(port),
        (None, [port]) => Ok(*port),
        (None, []) => Err(NoPort::None),
        (None, many) => {
            let ports: Vec<String> = many.iter().map(u16::to_string).collect();
            Err(NoPort::Many(ports.join(", ")))
        }
    }
}

fn keep(artefact: &Path, image: PinnedImage) -> io::Result<()> {
    fs::create_dir_all(artefact)?;
    RunFile { image: Some(image), ..RunFile::default() }.write(artefact)
}

/// Works until the build is cancelled or its time is over. What is dropped then, the engine gives up.
async fn within<T>(job: &Job, work: impl Future<Output = Result<T, NoImage>>) -> Result<T, StepError> {
    tokio::select! {
        biased;
        () = job.cancel.cancelled() => Err(StepError::Interrupted(Interrupted::Cancelled)),
        () = tokio::time::sleep_until(job.deadline) => Err(StepError::Interrupted(Interrupted::TimedOut(job.limits.time))),
        done = work => Ok(done?),
    }
}
