//! Builds whose result is an image: one that a registry has is pulled and pinned, one that a `Dockerfile` describes is
//! made by the container engine.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use http::Method;
use marmot_core::id::BuildId;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::context as archive;
use super::contract::{BuildContext, BuildEnd, RunFile};
use super::dockerfile::{self, RefusedDockerfile};
use super::log::Lines;
use super::login;
use super::process::{Interrupted, Job};
use super::run::{Cleaner, StepError, finish, prepare};
use crate::cgroup::ReplicaGroup;
use crate::container::api::{Call, EngineError};
use crate::container::image::{ImageFacts, Progress, header_of_all};
use crate::container::reference::{Reference, WrongReference};
use crate::container::words::{self, ImageError};
use crate::container::{About, ContainerEngine, LABEL_BUILD, LABEL_DATA, PinnedImage};
use crate::observed::{BuildFailure, BuildOutcome};
use crate::wanted::{Login, WantedBuild, WantedPull};

/// The step of a pull.
const PULLING: &str = "Pulling the image";
/// The step of a build by the engine.
pub(super) const BUILDING: &str = "Building the image";
/// What was ended by force is gone soon.
const ENDED_WITHIN: Duration = Duration::from_secs(5);
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
    #[error("{0}")]
    Engine(String),
    #[error("{0}")]
    Step(String),
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
    progress: impl Fn(&str) + Send + Sync,
    cancel: CancellationToken,
) -> Result<BuildOutcome, BuildEnd> {
    let absolute = std::path::absolute(dir);
    let dir = absolute.as_deref().unwrap_or(dir);
    let job =
        prepare(context, &context.limits, id, login::secrets(&wanted.registries).collect(), dir, cancel)
            .map_err(|error| {
                BuildEnd::Failed(BuildFailure {
                    step: PULLING.into(),
                    reason: StepError::from(error).to_string(),
                    last_lines: Vec::new(),
                })
            })?;
    let cleaner = Cleaner::of(dir);
    job.log.step(PULLING);
    progress(PULLING);
    let done = pull_image(context, &job, wanted, dir, &progress).await;
    finish(&job, cleaner, PULLING, done)
}

async fn pull_image(
    context: &BuildContext,
    job: &Job,
    wanted: &WantedPull,
    dir: &Path,
    progress: &(impl Fn(&str) + Send + Sync),
) -> Result<BuildOutcome, StepError> {
    let wrong = |error| NoImage::Reference(wanted.image.chars().take(100).collect(), error);
    let image: Reference = wanted.image.parse().map_err(wrong)?;
    if image.is_private() && !context.allow_private_networks {
        return Err(NoImage::Private(image).into());
    }
    let engine = context.containers().ok_or(NoImage::NoEngine)?;
    job.log.say(&image.to_string());
    let before = within(job, async { engine.api().images().await.map_err(NoImage::from) }).await?;
    let mut told = (Instant::now(), Progress::default());
    let tell = |far: Progress| {
        if told.0.elapsed() >= TOLD_EVERY && far != told.1 {
            progress(&format!("{PULLING}: {far}"));
            job.log.output(far.to_string().as_bytes());
            told = (Instant::now(), far);
        }
    };
    let login = wanted.registries.iter().find(|login| login.host == image.registry());
    let pulling = async { engine.api().pull(&image, login, tell).await.map_err(NoImage::from) };
    let found = within(job, pulling).await?;
    let origin = found.digest.as_deref().and_then(|digest| image.at(digest));
    let pinned = PinnedImage { id: found.id.clone(), origin: origin.as_ref().map(ToString::to_string) };
    if !before.contains(&found.id) {
        engine.note_brought(&pinned)?;
    }
    let port = port_of(wanted.port, &found).map_err(NoImage::from)?;
    if found.command.is_empty() && !wanted.command_given {
        return Err(NoImage::NoCommand.into());
    }
    let size = found.bytes.div_ceil(1_000_000);
    let summary = format!("{image}, {size} MB, listens on port {port}.");
    let commit = found.digest.clone().unwrap_or_else(|| found.id.clone());
    job.log.say(&format!("{commit}, {size} MB"));
    keep(&dir.join("artefact"), pinned)?;
    Ok(BuildOutcome { commit, command: typed(&found), summary })
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

/// A `Dockerfile` that may be built.
pub(super) struct Recipe {
    engine: Arc<ContainerEngine>,
    code: PathBuf,
    file: String,
    registries: Vec<Login>,
}

impl Recipe {
    /// Reads the one of this name in the code, and says what it takes.
    pub(super) fn read(
        context: &BuildContext,
        engine: &Arc<ContainerEngine>,
        job: &Job,
        wanted: &WantedBuild,
        name: &str,
        code: &Path,
    ) -> Result<Self, NoImage> {
        let path = code.join(name);
        // A link may lead anywhere.
        if !fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file()) {
            return Err(NoImage::NoFile(name.to_owned()));
        }
        let unreadable = |_| NoImage::NoFile(name.to_owned());
        let mut text = String::new();
        let file = fs::File::open(&path).map_err(unreadable)?;
        file.take(dockerfile::LONGEST + 1).read_to_string(&mut text).map_err(unreadable)?;
        if text.len() as u64 > dockerfile::LONGEST {
            return Err(NoImage::LongDockerfile);
        }
        let images = dockerfile::check(&text, context.allow_private_networks)?;
        images.iter().for_each(|image| job.log.say(&format!("Takes {image}")));
        let (engine, registries) = (Arc::clone(engine), wanted.registries.clone());
        Ok(Self { engine, code: code.to_owned(), file: name.to_owned(), registries })
    }
}

/// Has the engine make the image, and leaves nothing but that in `artefact`.
pub(super) async fn build(
    context: &BuildContext,
    job: &Job,
    recipe: &Recipe,
    commit: &str,
    artefact: &Path,
    id: BuildId,
) -> Result<BuildOutcome, StepError> {
    let engine = &recipe.engine;
    let about = within(job, async { Ok(engine.about().await?) }).await?;
    let steps = Steps::of(about, engine, id);
    let building = async {
        let call = asking(context, recipe, about, &steps, id);
        let body = archive::archive(recipe.code.clone());
        let answer = engine.api().send(Method::POST, call, body).await?;
        let mut lines = std::pin::pin!(answer.objects());
        let mut output = Output::default();
        while let Some(line) = lines.next().await {
            output.take(&line?, job)?;
        }
        output.end(job).ok_or_else(|| NoImage::Engine("the container engine made no image".to_owned()))
    };
    let made = within(job, building).await;
    steps.end().await;
    let made = made?;
    let pinned = PinnedImage { id: made.clone(), origin: None };
    engine.note_brought(&pinned)?;
    let found = within(job, async { Ok(engine.api().image(&made).await?) }).await?;
    let found = found.ok_or_else(|| NoImage::Engine("the image that was made is gone".to_owned()))?;
    fs::remove_dir_all(&recipe.code)?;
    keep(artefact, pinned)?;
    let ports: Vec<String> = found.ports.iter().map(u16::to_string).collect();
    let listens = match &ports[..] {
        [] => "It does not say on which port it listens: the launcher has to.".to_owned(),
        ports => format!("Listens on port {}.", ports.join(" or ")),
    };
    let size = found.bytes.div_ceil(1_000_000);
    let summary = format!("Built by its Dockerfile, {size} MB. {listens}");
    Ok(BuildOutcome { commit: commit.to_owned(), command: typed(&found), summary })
}

/// What the engine is asked for.
fn asking(context: &BuildContext, recipe: &Recipe, about: About, steps: &Steps, id: BuildId) -> Call {
    let engine = &recipe.engine;
    let labels = json!({LABEL_DATA: engine.tag(), LABEL_BUILD: id.to_string()});
    let mut call = Call::new(&["build"])
        .with("version", "1")
        .with("dockerfile", recipe.file.clone())
        .with("labels", labels.to_string())
        .with("buildargs", json!(proxies(&context.environment)).to_string())
        // What a registry gives out now, to whoever asks: not what another build left here.
        .with("pull", "true")
        .with("rm", "true")
        .with("forcerm", "true")
        .header("content-type", Some("application/x-tar".to_owned()))
        .header("x-registry-config", header_of_all(&recipe.registries));
    if about.podman {
        // By itself it has steps share the machine's network and its processes.
        let own = json!([{"Name": "network", "Host": false, "Path": ""}]);
        call = call.with("isolation", "oci").with("nsoptions", own.to_string());
    }
    if let Some(parent) = steps.parent() {
        call = call.with("cgroupparent", parent);
    }
    call
}

/// What steps need to reach the network through the operator's proxies.
fn proxies(environment: &[(String, String)]) -> std::collections::BTreeMap<&str, &str> {
    let is_proxy = |name: &str| {
        let name = name.to_ascii_uppercase();
        ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"].contains(&name.as_str())
    };
    environment.iter().filter(|(name, _)| is_proxy(name)).map(|(name, value)| (&**name, &**value)).collect()
}

/// Where the steps of a build run: an engine that is no longer asked for the result may let the step go on that it is at.
struct Steps {
    /// The name of their control group, where the engine takes one.
    name: Option<String>,
}

impl Steps {
    fn of(about: About, engine: &ContainerEngine, id: BuildId) -> Self {
        Self { name: about.makes_groups.then(|| format!("{}-build-{id}", engine.tag())) }
    }

    fn parent(&self) -> Option<String> {
        self.name.as_ref().map(|name| format!("/{name}"))
    }

    /// Ends whatever still runs, and removes the group.
    async fn end(&self) {
        let Some(name) = &self.name else { return };
        let group = ReplicaGroup::at_the_top(name);
        group.kill();
        if tokio::time::timeout(ENDED_WITHIN, group.emptied()).await.is_err() {
            tracing::warn!(group = name, "a step of a build still runs");
        }
        group.remove();
    }
}

/// What the engine says while it builds.
#[derive(Default)]
struct Output {
    lines: Lines,
    image: Option<String>,
}

impl Output {
    fn take(&mut self, line: &Value, job: &Job) -> Result<(), NoImage> {
        if let Some(said) = line["error"].as_str() {
            return Err(failed(said));
        }
        if let Some(text) = line["stream"].as_str() {
            self.lines.feed(text.as_bytes(), |line| job.log.output(line));
        }
        if let Some(id) = line["aux"]["ID"].as_str() {
            self.image = Some(id.to_owned());
        }
        Ok(())
    }

    fn end(self, job: &Job) -> Option<String> {
        self.lines.end(|line| job.log.output(line));
        self.image
    }
}

/// Why the engine could not build, in words.
fn failed(said: &str) -> NoImage {
    let text = said.to_ascii_lowercase();
    if text.contains("no space left on device") {
        return ImageError::DiskFull.into();
    }
    // `FROM` of something that is not there, or not to be had.
    let words = said.split_whitespace().map(|word| word.trim_matches(['"', '\'', ',', ':']));
    let named = words.filter_map(|word| word.strip_prefix("docker://"));
    if let Some(image) = named.filter_map(|image| image.parse::<Reference>().ok()).next() {
        return ImageError::of(said, &image, false).into();
    }
    NoImage::Step(format!("a step of the Dockerfile failed: {}", words::short(said)))
}
