//! An image that is made by Cloud Native Buildpacks: the lifecycle of the builder image that the operator names is run as
//! `pack build` runs it, by the Platform API.
//!
//! Buildpacks are code of others, and so is what they run. So the container that they are in has no socket of the
//! engine, no credentials and no rights; it reaches what other builds reach; and what it leaves are files, an OCI image
//! layout, which are read with care and given to the engine afterwards.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crate::build::told::Step;
use marmot_core::id::EnvironmentId;
use marmot_core::{Said, said};
use rustix::process::Resource;
use serde_json::{Value, json};

use super::push::push;
use super::recipe::{Whole, proxies};
use super::steps::own_network;
use super::{NoImage, PinnedImage, keep, within};
use crate::build::collect::{note_use, size};
use crate::build::contract::{BuildContext, Buildpacks, BuildsNetwork};
use crate::build::environment::remove;
use crate::build::log::Lines;
use crate::build::process::{Interrupted, Job};
use crate::build::run::StepError;
use crate::confine::profile::profile;
use crate::container::containers::ContainerState;
use crate::container::frames::Frames;
use crate::container::image::ImageFacts;
use crate::container::reference::Reference;
use crate::container::words;
use crate::container::{About, ContainerEngine, LABEL_BUILD, LABEL_DATA, allowed};
use crate::network::{BuildNetwork, Uplink};
use crate::observed::BuildOutcome;
use crate::wanted::{Push, Variable, WantedBuild};

mod builder;
mod files;
mod workspace;

use builder::Builder;
pub(super) use builder::{NoBuilder, NoProcess};
use files::NoFiles;

/// The step in which it is made.
pub(in crate::build) const BUILDING: Step = Step::new("build-step-buildpacks", "Building with buildpacks");
/// Where apps listen that were made by buildpacks, when nobody says otherwise.
const PORT: u16 = 8080;
/// What the image is called while it is a file.
const RESULT: &str = "index.docker.io/library/app/latest";
/// Processes that a build may have.
const MAX_PROCESSES: u32 = 4096;
/// Files and sockets that one process may have open, and processes that all who share the builder's user id may have.
const DESCRIPTORS: u64 = 65_536;
const USERS_PROCESSES: u64 = 32_768;
/// As the share of the processor that other builds have.
const CPU_SHARES: u32 = 512;

/// What is needed to have buildpacks make an image.
pub(in crate::build) struct Bench {
    engine: Arc<ContainerEngine>,
    builder: Reference,
    run_image: Option<String>,
    code: PathBuf,
    owner: EnvironmentId,
    variables: Vec<Variable>,
    command_given: bool,
    push: Option<Push>,
}

impl Bench {
    /// Looks for it before anything is fetched.
    pub(in crate::build) fn of(
        context: &BuildContext,
        wanted: &WantedBuild,
        code: &Path,
    ) -> Result<Self, NoImage> {
        let engine = Arc::clone(context.containers().ok_or(NoImage::NoEngine)?);
        let Buildpacks { builder, run_image } = context.buildpacks.as_ref().ok_or(NoImage::NoBuilder)?;
        let builder = builder.parse().map_err(|why| NoImage::Reference(builder.clone(), why))?;
        Ok(Self {
            engine,
            builder,
            run_image: run_image.clone(),
            code: code.to_owned(),
            owner: wanted.owner,
            variables: wanted.variables.clone(),
            command_given: wanted.command_given,
            push: wanted.image.push.clone(),
        })
    }
}

/// Has buildpacks make the image, and leaves nothing but that in `artefact`.
pub(in crate::build) async fn build<P: Fn(Said) + Send + Sync>(
    whole: &Whole<'_, P>,
    bench: Bench,
    commit: &str,
    artefact: &Path,
) -> Result<BuildOutcome, StepError> {
    let (job, engine) = (whole.job, &*bench.engine);
    let _building = engine.let_build(whole.id);
    let about = within(job, async { Ok(engine.about().await?) }).await?;
    let image = taken(whole, engine, &bench.builder).await?;
    let unfit = |why| NoImage::Builder(bench.builder.to_string(), why);
    let builder = Builder::read(&image, bench.run_image.as_deref()).map_err(unfit)?;
    let run: Reference =
        builder.run_image.parse().map_err(|why| NoImage::Reference(builder.run_image.clone(), why))?;
    let run_image = taken(whole, engine, &run).await?;
    engine.keep_tools([image.id.clone(), run_image.id.clone()]);
    job.log.say(&format!("On {run}, by version {} of the Platform API", builder.api));
    let base = job.home.join("run");
    let laying =
        async { Ok(files::laid_out(engine.api().export(&run_image.id).await?, base.clone()).await?) };
    within(job, laying).await?;

    let cache = cache(whole.context, job, bench.owner, &builder, about).map_err(StepError::Directory)?;
    let network = within(job, Network::of(whole.context, job, about)).await?;
    let container = Creator {
        engine,
        about,
        builder: &builder,
        image: &image,
        run: &run,
        base: &base,
        cache: cache.as_deref(),
        network: &network,
        name: format!("{}-buildpacks-{}", engine.tag(), whole.id).to_ascii_lowercase(),
    };
    let done = made(whole, &bench, &container).await;
    // By whatever path it ended, and with all that it wrote.
    if let Err(error) = engine.remove(&container.name).await {
        tracing::warn!(build = %whole.id, %error, "the container of a build is left for now");
        engine.leave();
    }
    if let Err(StepError::Interrupted(_)) = done {
        // An engine that was broken off while it made the container may come to the end of that yet.
        engine.leave();
    }
    let found = done?;
    fs::remove_dir_all(&bench.code)?;
    finish(whole, &bench, &found, commit, artefact).await
}

/// Notes what came of it, and gives it to a registry where that is wished for.
async fn finish<P: Fn(Said) + Send + Sync>(
    whole: &Whole<'_, P>,
    bench: &Bench,
    found: &ImageFacts,
    commit: &str,
    artefact: &Path,
) -> Result<BuildOutcome, StepError> {
    let command = match builder::started(found) {
        Ok(command) => Some(command),
        Err(_) if bench.command_given => None,
        Err(why) => return Err(NoImage::Process(why).into()),
    };
    let port = found.ports.is_empty().then_some(PORT);
    let has_launcher = found.command.first().is_some_and(|first| first.starts_with("/cnb/"));
    let before_command: &[&str] = if has_launcher { &[builder::LAUNCHER, "--"] } else { &[] };
    let before_command = before_command.iter().map(|word| (*word).to_owned()).collect();
    keep(artefact, PinnedImage { port, before_command, ..PinnedImage::of(&*found.id) })?;
    let size = found.bytes.div_ceil(1_000_000);
    let summary = format!("Built by the buildpacks of {}, {size} MB.", bench.builder);
    let pushed = push(whole, &bench.engine, &found.id, bench.push.as_ref()).await?;
    Ok(pushed.told(BuildOutcome { commit: commit.to_owned(), command, summary, pushed: None }))
}

/// An image of the operator's, from its registry or from this machine.
async fn taken<P: Fn(Said) + Send + Sync>(
    whole: &Whole<'_, P>,
    engine: &ContainerEngine,
    image: &Reference,
) -> Result<ImageFacts, StepError> {
    whole.job.log.say(&format!("Takes {image}"));
    if whole.context.local_images.iter().any(|local| local.have(image)) {
        return within(whole.job, async { Ok(engine.api().local(image).await?) }).await;
    }
    let before = within(whole.job, async { Ok(engine.api().images().await?) }).await?;
    (whole.progress)(BUILDING.at(said!("build-step-taking", "taking {image}", image = image.to_string())));
    let found = within(whole.job, async { Ok(engine.api().pull(image, None, |_| {}).await?) }).await?;
    if !before.contains(&found.id) {
        let origin = found.digest.as_deref().and_then(|digest| image.at(digest));
        let origin = origin.map(|image| image.to_string());
        engine.note_brought(&PinnedImage { origin, ..PinnedImage::of(&*found.id) })?;
    }
    Ok(found)
}

/// Where layers are kept between the builds of one launcher, and what that is to its user; `None` where files cannot be
/// given to that user.
fn cache(
    context: &BuildContext,
    job: &Job,
    owner: EnvironmentId,
    builder: &Builder,
    about: About,
) -> io::Result<Option<PathBuf>> {
    if about.maps_users || !rustix::process::geteuid().is_root() {
        job.log.say("Nothing is kept for the next build: the container engine is one of an ordinary user.");
        return Ok(None);
    }
    let own = context.cache_dir.join("buildpacks").join(owner.to_string());
    let layers = own.join("layers");
    let is_anothers = layers.metadata().is_ok_and(|meta| meta.uid() != builder.uid);
    if is_anothers || size(&own, context.cache_bytes) > context.cache_bytes {
        remove(&own)?;
    }
    fs::create_dir_all(&layers)?;
    note_use(&own)?;
    lchown(&layers, Some(builder.uid), Some(builder.gid))?;
    Ok(Some(layers))
}

/// What buildpacks reach of other machines.
enum Network {
    Own(BuildNetwork, PathBuf),
    Engines,
}

impl Network {
    async fn of(context: &BuildContext, job: &Job, about: About) -> Result<Self, NoImage> {
        if context.network == BuildsNetwork::Shared {
            return Ok(Self::Engines);
        }
        let own = own_network(context, job, about).await?;
        let resolv_conf = job.home.join("resolv.conf");
        let written = fs::write(&resolv_conf, Uplink::resolv_conf());
        written.map_err(|error| {
            NoImage::Engine(format!("the build's own directory could not be written: {error}"))
        })?;
        Ok(Self::Own(own, resolv_conf))
    }
}

/// Runs the container until it ends, and has the engine take in what it leaves.
async fn made<P: Fn(Said) + Send + Sync>(
    whole: &Whole<'_, P>,
    bench: &Bench,
    container: &Creator<'_>,
) -> Result<ImageFacts, StepError> {
    let (job, engine) = (whole.job, container.engine);
    let creating = async {
        let id = engine.create(&container.name, &container.body(whole)?).await?;
        let given = bench.variables.clone();
        let Builder { uid, gid, .. } = container.builder;
        let owner = (*uid, *gid);
        engine.put(&id, workspace::packed(bench.code.clone(), given, owner)).await?;
        engine.begin(&id).await?;
        let state = engine.state(&id).await?;
        Ok((id, state.and_then(|state| state.written)))
    };
    let (id, written) = within(job, creating).await?;
    let places: Vec<PathBuf> = written.into_iter().chain(container.cache.map(Path::to_owned)).collect();
    let running = async {
        told(engine, &id, whole).await?;
        engine.ended(&id).await?;
        engine
            .state(&id)
            .await?
            .ok_or_else(|| NoImage::Engine("the container of the build is gone".to_owned()))
    };
    let state = tokio::select! {
        full = job.no_room(&places) => return Err(StepError::Interrupted(full)),
        state = within(job, running) => state?,
    };
    succeeded(&state, job)?;
    let taking = async {
        let left = engine.take(&id, &format!("/layout/{RESULT}")).await?;
        let (image, archive) = files::packed(left, job.home.join("made"), container.base).await?;
        let there = engine.api().images().await?.contains(&image);
        engine.api().load(archive).await?;
        let found = engine.api().image(&image).await?;
        let found =
            found.ok_or_else(|| NoImage::Engine("the container engine did not keep the image".to_owned()))?;
        Ok((ImageFacts { id: image, ..found }, there))
    };
    let (found, was_there) = tokio::select! {
        full = job.no_room(&places) => return Err(StepError::Interrupted(full)),
        taken = within(job, taking) => taken?,
    };
    if !was_there {
        engine.note_brought(&PinnedImage::of(&*found.id))?;
    }
    Ok(found)
}

/// Whether the lifecycle says that it came to its end.
fn succeeded(state: &ContainerState, job: &Job) -> Result<(), StepError> {
    if state.out_of_memory {
        return Err(StepError::Interrupted(Interrupted::OutOfMemory(job.limits.memory_bytes)));
    }
    match state.exit_code {
        0 => Ok(()),
        _ if !state.error.is_empty() => {
            let why = words::not_started(&state.error, Some("/cnb/lifecycle/creator"));
            Err(NoImage::Step(why.unwrap_or_else(|| words::short(&state.error).into())).into())
        }
        status => Err(NoImage::Step(builder::failed(status).into()).into()),
    }
}

/// Copies what the lifecycle prints to the log; its phases are headings.
async fn told<P: Fn(Said) + Send + Sync>(
    engine: &ContainerEngine,
    id: &str,
    whole: &Whole<'_, P>,
) -> Result<(), NoImage> {
    let job = whole.job;
    let mut answer = engine.follow(id, 0).await?;
    let (mut frames, mut lines, mut phase) = (Frames::default(), Lines::default(), None::<Instant>);
    let mut line = |line: &[u8]| {
        if let Some(name) = heading(line) {
            end_phase(phase.replace(Instant::now()), job);
            (whole.progress)(BUILDING.at(name));
        }
        job.log.output(line);
    };
    while let Some(bytes) = answer.next().await? {
        frames.feed(&bytes);
        while let Some(payload) = frames.next() {
            lines.feed(&payload, &mut line);
        }
    }
    lines.end(&mut line);
    end_phase(phase, job);
    Ok(())
}

fn end_phase(began: Option<Instant>, job: &Job) {
    if let Some(began) = began {
        job.log.output(format!("    ({:.1} s)", began.elapsed().as_secs_f64()).as_bytes());
    }
}

/// `===> DETECTING`
fn heading(line: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(line).ok()?.trim().strip_prefix("===> ")?;
    (name.len() <= 40 && !name.is_empty()).then(|| name.to_ascii_lowercase())
}

/// The container in which the lifecycle runs.
struct Creator<'a> {
    engine: &'a ContainerEngine,
    about: About,
    builder: &'a Builder,
    image: &'a ImageFacts,
    run: &'a Reference,
    /// Where the image that apps run on is, as files.
    base: &'a Path,
    cache: Option<&'a Path>,
    network: &'a Network,
    name: String,
}

impl Creator<'_> {
    /// What the engine is asked for.
    fn body<P>(&self, whole: &Whole<'_, P>) -> Result<Value, NoImage> {
        let Builder { api, uid, gid, .. } = self.builder;
        let mut env: Vec<String> = proxies(&whole.context.environment)
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        // Leaving an image as files is an experiment of the lifecycle's, and has to be asked for as one.
        let asked = [
            "CNB_USE_LAYOUT=true",
            "CNB_LAYOUT_DIR=/layout",
            "CNB_EXPERIMENTAL_MODE=warn",
            "CNB_NO_COLOR=true",
        ];
        env.extend(asked.map(str::to_owned));
        env.push(format!("CNB_PLATFORM_API={api}"));
        Ok(json!({
            "Image": self.image.id,
            "User": format!("{uid}:{gid}"),
            "Entrypoint": ["/cnb/lifecycle/creator"],
            "Cmd": self.arguments(),
            "WorkingDir": "/",
            "Env": env,
            "Labels": {LABEL_DATA: self.engine.tag(), LABEL_BUILD: whole.id.to_string()},
            "Healthcheck": {"Test": ["NONE"]},
            "HostConfig": self.host(whole.job)?,
        }))
    }

    fn arguments(&self) -> Vec<String> {
        let Builder { uid, gid, .. } = self.builder;
        let (uid, gid, run) = (uid.to_string(), gid.to_string(), self.run.to_string());
        let mut arguments = vec!["-app", "/workspace", "-layers", "/layers", "-platform", "/platform"];
        arguments.extend(["-run-image", &run, "-uid", &uid, "-gid", &gid]);
        match self.cache {
            Some(_) => arguments.extend(["-cache-dir", "/cache"]),
            None => arguments.push("-skip-restore"),
        }
        arguments.push("app");
        arguments.into_iter().map(str::to_owned).collect()
    }

    fn host(&self, job: &Job) -> Result<Value, NoImage> {
        let written = |error: io::Error| {
            NoImage::Engine(format!("the build's own directory could not be written: {error}"))
        };
        let bind = |from: &Path, to: &str, read_only: bool| json!({"Type": "bind", "Source": from, "Target": to, "ReadOnly": read_only});
        let mut mounts = vec![bind(self.base, &format!("/layout/{}", place_of(self.run)), true)];
        mounts.extend(self.cache.map(|cache| bind(cache, "/cache", false)));
        let network = match self.network {
            Network::Own(own, resolv_conf) => {
                mounts.push(bind(resolv_conf, "/etc/resolv.conf", true));
                format!("ns:{}", own.path())
            }
            Network::Engines => "default".to_owned(),
        };
        let filter = job.home.join("seccomp.json");
        fs::write(&filter, profile().to_string()).map_err(written)?;
        let filter = if self.about.podman { filter.display().to_string() } else { profile().to_string() };
        let memory = job.limits.memory_bytes;
        let limit = |name: &str, number: u64| json!({"Name": name, "Soft": number, "Hard": number});
        Ok(json!({
            "NetworkMode": network,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges", format!("seccomp={filter}")],
            "Privileged": false,
            "Memory": memory,
            "MemorySwap": memory,
            "CpuShares": CPU_SHARES,
            "PidsLimit": MAX_PROCESSES,
            // What this machine lets nobody have, no engine on it can give.
            "Ulimits": [
                limit("nofile", allowed(Resource::Nofile, DESCRIPTORS)),
                limit("nproc", allowed(Resource::Nproc, USERS_PROCESSES)),
                limit("core", 0),
            ],
            "IpcMode": "private",
            "CgroupnsMode": "private",
            "RestartPolicy": {"Name": "no"},
            "LogConfig": {"Type": if self.about.podman { "k8s-file" } else { "json-file" }, "Config": {}},
            "Mounts": mounts,
        }))
    }
}

/// Where the lifecycle looks for an image in a directory of images as files.
fn place_of(image: &Reference) -> String {
    let name = image.name();
    let name = name.strip_prefix("docker.io/").map_or(name.clone(), |rest| format!("index.docker.io/{rest}"));
    format!("{name}/{}", image.version().replacen(':', "/", 1))
}

impl From<NoFiles> for NoImage {
    fn from(error: NoFiles) -> Self {
        match error {
            NoFiles::Engine(error) => error.into(),
            other => Self::Step(other.to_string().into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_headings_and_images_have_places() {
        assert_eq!(heading(b"===> DETECTING").as_deref(), Some("detecting"));
        assert_eq!(heading(b"  ===> x"), Some("x".to_owned()));
        assert_eq!(heading(b"=> DETECTING"), None);
        let place = |text: &str| place_of(&text.parse().unwrap());
        assert_eq!(place("python:3"), "index.docker.io/library/python/3");
        assert_eq!(place("127.0.0.1:5000/lab/run"), "127.0.0.1:5000/lab/run/latest");
        let digest = "a".repeat(64);
        assert_eq!(place(&format!("ghcr.io/o/r@sha256:{digest}")), format!("ghcr.io/o/r/sha256/{digest}"));
    }
}
