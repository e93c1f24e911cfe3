//! An image that a `Dockerfile` describes, made by the container engine.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crate::build::told::Step;
use futures_util::StreamExt as _;
use http::Method;
use marmot_core::id::BuildId;
use marmot_core::{Said, said};
use serde_json::{Value, json};

use super::push::push;
use super::steps::Steps;
use super::{NoImage, PinnedImage, keep, typed, within};
use crate::build::context::{self as archive, Extra};
use crate::build::contract::BuildContext;
use crate::build::dockerfile::{self, AskedSecret};
use crate::build::log::Lines;
use crate::build::process::Job;
use crate::build::run::StepError;
use crate::container::api::{Body, Call};
use crate::container::image::{ImageFacts, header_of_all};
use crate::container::reference::Reference;
use crate::container::words::{self, ImageError};
use crate::container::{ContainerEngine, LABEL_BUILD, LABEL_DATA};
use crate::observed::BuildOutcome;
use crate::wanted::{Login, Push, Secret, WantedBuild};

/// The step of a build by the engine.
pub(in crate::build) const BUILDING: Step = Step::new("build-step-image", "Building the image");

/// What every step of a build needs.
pub(in crate::build) struct Whole<'a, P> {
    pub(in crate::build) context: &'a BuildContext,
    pub(in crate::build) job: &'a Job,
    pub(in crate::build) progress: &'a P,
    pub(in crate::build) id: BuildId,
}

/// A `Dockerfile` that may be built.
pub(in crate::build) struct Recipe {
    engine: Arc<ContainerEngine>,
    code: PathBuf,
    file: String,
    registries: Vec<Login>,
    /// What its arguments are given, of those that it declares.
    arguments: BTreeMap<String, String>,
    secrets: Vec<GivenSecret>,
    push: Option<Push>,
}

/// A secret for those steps that ask for it.
pub(super) struct GivenSecret {
    name: String,
    /// Where the engine finds it beside the code, which it does not become part of.
    file: String,
    value: String,
}

impl Recipe {
    /// Reads the one of this name in the code, and says what it takes.
    pub(in crate::build) fn read(
        context: &BuildContext,
        engine: &Arc<ContainerEngine>,
        job: &Job,
        wanted: &WantedBuild,
        name: &str,
        code: &Path,
    ) -> Result<Self, NoImage> {
        let text = read_file(&code.join(name), name)?;
        let variables = wanted.variables.iter();
        let given: BTreeMap<String, String> =
            variables.map(|variable| (variable.name.clone(), variable.value.clone())).collect();
        let asks = dockerfile::check(&text, &given, context.allow_private_networks)?;
        asks.images.iter().for_each(|image| job.log.say(&format!("Takes {image}")));
        let mut arguments = given;
        arguments.retain(|name, _| asks.arguments.contains(name));
        if !arguments.is_empty() {
            let names: Vec<&str> = arguments.keys().map(String::as_str).collect();
            job.log.say(&format!("Given by the launcher's variables: {}", names.join(", ")));
        }
        let secrets = given_secrets(job, &asks.secrets, &wanted.secrets)?;
        Ok(Self {
            engine: Arc::clone(engine),
            code: code.to_owned(),
            file: name.to_owned(),
            registries: wanted.registries.clone(),
            arguments,
            secrets,
            push: wanted.image.push.clone(),
        })
    }
}

fn read_file(path: &Path, name: &str) -> Result<String, NoImage> {
    // A link may lead anywhere.
    if !fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file()) {
        return Err(NoImage::NoFile(name.to_owned()));
    }
    let unreadable = |_| NoImage::NoFile(name.to_owned());
    let mut text = String::new();
    let file = fs::File::open(path).map_err(unreadable)?;
    file.take(dockerfile::LONGEST + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > dockerfile::LONGEST {
        return Err(NoImage::LongDockerfile);
    }
    Ok(text)
}

/// Those of the launcher's secrets that the steps ask for, by name.
fn given_secrets(job: &Job, asked: &[AskedSecret], there: &[Secret]) -> Result<Vec<GivenSecret>, NoImage> {
    let mut given: Vec<GivenSecret> = Vec::new();
    for AskedSecret { line, name, required } in asked {
        match there.iter().find(|secret| secret.name == *name) {
            Some(secret) if given.iter().all(|other| other.name != *name) => given.push(GivenSecret {
                name: name.clone(),
                // Nothing in anybody's code has this name.
                file: format!(".marmot-secret-{}", ulid::Ulid::generate()),
                value: secret.value.clone(),
            }),
            Some(_) => {}
            None if *required => return Err(NoImage::NoSecret { line: *line, name: name.clone() }),
            None => job.log.say(&format!(
                "Warning: line {line} of the Dockerfile asks for the secret `{name}`, which the launcher does not have."
            )),
        }
    }
    Ok(given)
}

/// Has the engine make the image, and leaves nothing but that in `artefact`.
pub(in crate::build) async fn build<P: Fn(Said) + Send + Sync>(
    whole: &Whole<'_, P>,
    recipe: Recipe,
    commit: &str,
    artefact: &Path,
) -> Result<BuildOutcome, StepError> {
    let secrets = recipe.secrets.iter();
    let secrets =
        secrets.map(|secret| Extra { name: secret.file.clone(), bytes: secret.value.clone().into_bytes() });
    let making = Making {
        engine: &recipe.engine,
        file: &recipe.file,
        registries: &recipe.registries,
        arguments: recipe.arguments,
        secrets: &recipe.secrets,
        asks_registry: true,
        body: archive::archive(recipe.code.clone(), secrets.collect()),
        what: "a step of the Dockerfile",
    };
    let found = make(whole, making).await?;
    fs::remove_dir_all(&recipe.code)?;
    keep(artefact, PinnedImage::of(&*found.id))?;
    let ports: Vec<String> = found.ports.iter().map(u16::to_string).collect();
    let listens = match &ports[..] {
        [] => "It does not say on which port it listens: the launcher has to.".to_owned(),
        ports => format!("Listens on port {}.", ports.join(" or ")),
    };
    let size = found.bytes.div_ceil(1_000_000);
    let summary = format!("Built by its Dockerfile, {size} MB. {listens}");
    let pushed = push(whole, &recipe.engine, &found.id, recipe.push.as_ref()).await?;
    let (commit, command) = (commit.to_owned(), typed(&found));
    Ok(pushed.told(BuildOutcome { commit, command, summary, pushed: None }))
}

/// What an image is made of.
pub(super) struct Making<'a> {
    pub(super) engine: &'a ContainerEngine,
    /// The name of the `Dockerfile` in `body`.
    pub(super) file: &'a str,
    pub(super) registries: &'a [Login],
    pub(super) arguments: BTreeMap<String, String>,
    pub(super) secrets: &'a [GivenSecret],
    /// Images are asked of their registries, also when they are here.
    pub(super) asks_registry: bool,
    /// The archive that the engine takes.
    pub(super) body: Body,
    /// What fails when a step does.
    pub(super) what: &'static str,
}

/// Has the engine make the image, and notes that it is this server's.
pub(super) async fn make<P: Fn(Said) + Send + Sync>(
    whole: &Whole<'_, P>,
    making: Making<'_>,
) -> Result<ImageFacts, StepError> {
    let (context, job, engine, what) = (whole.context, whole.job, making.engine, making.what);
    let about = within(job, async { Ok(engine.about().await?) }).await?;
    if !making.secrets.is_empty() && !about.podman {
        return Err(NoImage::NoSecretsByDocker.into());
    }
    let steps = within(job, Steps::of(context, job, about, engine, whole.id)).await?;
    let building = async {
        let call = steps.told(about, asking(context, &making, whole.id));
        let answer = engine.api().send(Method::POST, call, making.body).await?;
        let mut lines = std::pin::pin!(answer.objects());
        let mut output = Output::default();
        while let Some(line) = lines.next().await {
            output.take(&line?, job, whole.progress, what)?;
        }
        output.end(job).ok_or_else(|| NoImage::Engine("the container engine made no image".to_owned()))
    };
    let made = within(job, building).await;
    steps.end().await;
    let made = made?;
    engine.note_brought(&PinnedImage::of(&*made))?;
    let found = within(job, async { Ok(engine.api().image(&made).await?) }).await?;
    let found = found.ok_or_else(|| NoImage::Engine("the image that was made is gone".to_owned()))?;
    Ok(ImageFacts { id: made, ..found })
}

/// What the engine is asked for.
fn asking(context: &BuildContext, making: &Making<'_>, id: BuildId) -> Call {
    let labels = json!({LABEL_DATA: making.engine.tag(), LABEL_BUILD: id.to_string()});
    let mut arguments = proxies(&context.environment);
    arguments.extend(making.arguments.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let mut call = Call::new(&["build"])
        .with("version", "1")
        .with("dockerfile", making.file)
        .with("labels", labels.to_string())
        .with("buildargs", json!(arguments).to_string())
        // What a registry gives out now, to whoever asks: not what another build left here.
        .with("pull", making.asks_registry.to_string())
        .with("rm", "true")
        .with("forcerm", "true")
        .header("content-type", Some("application/x-tar".to_owned()))
        .header("x-registry-config", header_of_all(making.registries));
    if !making.secrets.is_empty() {
        let told = |secret: &GivenSecret| format!("id={},src={}", secret.name, secret.file);
        let secrets: Vec<String> = making.secrets.iter().map(told).collect();
        // What a step made with a secret is not given to a build that has another one, or none: the engine does not
        // tell them apart.
        call =
            call.with("secrets", json!(secrets).to_string()).with("nocache", "true").with("layers", "false");
    }
    call
}

/// What steps need to reach the network through the operator's proxies.
pub(super) fn proxies(environment: &[(String, String)]) -> BTreeMap<&str, &str> {
    let is_proxy = |name: &str| {
        let name = name.to_ascii_uppercase();
        ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"].contains(&name.as_str())
    };
    environment.iter().filter(|(name, _)| is_proxy(name)).map(|(name, value)| (&**name, &**value)).collect()
}

/// What the engine says while it builds.
#[derive(Default)]
struct Output {
    lines: Lines,
    image: Option<String>,
    step: Option<Instant>,
}

impl Output {
    fn take(&mut self, line: &Value, job: &Job, progress: impl Fn(Said), what: &str) -> Result<(), NoImage> {
        if let Some(said) = line["error"].as_str() {
            return Err(failed(said, what));
        }
        let Self { lines, step, .. } = self;
        if let Some(text) = line["stream"].as_str() {
            lines.feed(text.as_bytes(), |line| {
                if let Some((number, of)) = heading(line) {
                    end_step(step.replace(Instant::now()), job);
                    progress(BUILDING.at(said!(
                        "build-step-of",
                        "step {number} of {of}",
                        number = number,
                        of = of
                    )));
                }
                job.log.output(line);
            });
        }
        if let Some(id) = line["aux"]["ID"].as_str() {
            self.image = Some(id.to_owned());
        }
        Ok(())
    }

    fn end(self, job: &Job) -> Option<String> {
        self.lines.end(|line| job.log.output(line));
        end_step(self.step, job);
        self.image
    }
}

/// Says how long a step took.
fn end_step(began: Option<Instant>, job: &Job) {
    if let Some(began) = began {
        job.log.output(format!("    ({:.1} s)", began.elapsed().as_secs_f64()).as_bytes());
    }
}

/// `STEP 2/6: RUN …` of Podman, `Step 2/6 : RUN …` of Docker.
fn heading(line: &[u8]) -> Option<(u32, u32)> {
    let line = std::str::from_utf8(line).ok()?;
    // A file of several stages has each line begin with the stage.
    let line = line.strip_prefix('[').and_then(|rest| rest.split_once("] ")).map_or(line, |(_, rest)| rest);
    let rest = line.strip_prefix("STEP ").or_else(|| line.strip_prefix("Step "))?;
    let (number, of) = rest.split_once(':')?.0.trim_end().split_once('/')?;
    Some((number.parse().ok()?, of.parse().ok()?))
}

/// Why the engine could not build, in words.
fn failed(said: &str, what: &str) -> NoImage {
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
    NoImage::Step(format!("{what} failed: {}", words::short(said)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headings_of_both_engines_are_read() {
        assert_eq!(heading(b"STEP 2/6: RUN x"), Some((2, 6)));
        assert_eq!(heading(b"Step 12/14 : COPY a:b /"), Some((12, 14)));
        assert_eq!(heading(b"[1/2] STEP 1/3: FROM x AS y"), Some((1, 3)));
        for other in ["STEP by step: 1/2", "STEP 1/2", "a STEP 1/2: x", "[x"] {
            assert_eq!(heading(other.as_bytes()), None, "{other}");
        }
    }
}
