//! An image of what was built for a process: the same files in the same places, on a base image that the operator names.
//!
//! What the base image has to bring is what this machine brings: a C library, and the language where it is the
//! machine's own. Whether it does is tried before the image counts as built.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use marmot_core::Said;

use crate::build::told::Step;

use super::recipe::{Making, Whole, make};
use super::{NoImage, PinnedImage, keep};
use crate::build::context::{Extra, Part, archive_of};
use crate::build::contract::{BuildContext, RunFile};
use crate::build::run::StepError;
use crate::container::ContainerEngine;
use crate::container::reference::Reference;
use crate::observed::BuildOutcome;
use crate::wanted::WantedBuild;

/// The step in which it is made.
pub(in crate::build) const PACKING: Step = Step::new("build-step-packing", "Making an image of it");
/// Where the code is in the image, and who owns it.
const APP: &str = "/app";
const OWNER: &str = "1000:1000";
/// Where it listens, for whoever starts it by hand.
const PORT: u16 = 8000;
/// What a base image brings by itself.
const OF_THE_BASE: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc", "/dev"];
/// Programs of an environment that must begin in the image, and an argument by which they end at once.
const MUST_BEGIN: [(&str, &str); 3] =
    [("python", "--version"), ("node", "--version"), ("Rscript", "--version")];

/// The base image and the engine for it.
pub(in crate::build) struct Base {
    engine: Arc<ContainerEngine>,
    image: Reference,
    /// It is only in the engine of this machine.
    is_local: bool,
}

impl Base {
    /// Looks for them before anything is built.
    pub(in crate::build) fn of(context: &BuildContext) -> Result<Self, NoImage> {
        let engine = Arc::clone(context.containers().ok_or(NoImage::NoEngine)?);
        let name = context.base_image.as_deref().ok_or(NoImage::NoBase)?;
        let image: Reference = name.parse().map_err(|why| NoImage::Reference(name.to_owned(), why))?;
        let is_local = context.local_images.iter().any(|local| local.have(&image));
        Ok(Self { engine, image, is_local })
    }
}

/// Makes the image of what is in `artefact`, and leaves nothing but that there.
pub(in crate::build) async fn pack<P: Fn(Said) + Send + Sync>(
    whole: &Whole<'_, P>,
    base: Base,
    wanted: &WantedBuild,
    artefact: &Path,
    built: BuildOutcome,
) -> Result<BuildOutcome, StepError> {
    let run = RunFile::read(artefact)?;
    whole.job.log.say(&format!("On {}", base.image));
    let brought = brought(whole.context, &run);
    let text = dockerfile(&base.image, whole.context, &run, &brought);
    let mut parts = vec![Part { from: artefact.join("code"), to: "app".into() }];
    let within = |path: &PathBuf| Path::new("root").join(path.strip_prefix("/").unwrap_or(path));
    parts.extend(brought.iter().map(|path| Part { from: path.clone(), to: within(path) }));
    let more = |name: &str, text: &str| Extra { name: name.to_owned(), bytes: text.as_bytes().to_vec() };
    // A directory that is copied is there only if something is in it.
    let files = vec![more("Dockerfile", &text), more("home/.profile", "# The home of the app.\n")];
    let making = Making {
        engine: &base.engine,
        file: "Dockerfile",
        registries: &wanted.registries,
        arguments: <_>::default(),
        secrets: &[],
        asks_registry: !base.is_local,
        body: archive_of(parts, files),
        what: "making the image",
    };
    let found = make(whole, making).await?;
    fs::remove_dir_all(artefact.join("code"))?;
    keep(artefact, PinnedImage::of(&*found.id))?;
    let size = found.bytes.div_ceil(1_000_000);
    let summary = format!("{} An image on {}, {size} MB.", built.summary, base.image);
    let pushed = super::push::push(whole, &base.engine, &found.id, wanted.image.push.as_ref()).await?;
    Ok(pushed.told(BuildOutcome { summary: summary.trim().to_owned(), ..built }))
}

/// What is outside of the code and not of the base image, none of it within another.
fn brought(context: &BuildContext, run: &RunFile) -> Vec<PathBuf> {
    let own =
        |path: &PathBuf| *path == context.marmot || !OF_THE_BASE.iter().any(|place| path.starts_with(place));
    let mut all: Vec<PathBuf> = run.reads.iter().filter(|path| own(path) && path.exists()).cloned().collect();
    all.sort();
    all.dedup();
    let outer = all.clone();
    all.retain(|path| !outer.iter().any(|other| other != path && path.starts_with(other)));
    all
}

fn dockerfile(base: &Reference, context: &BuildContext, run: &RunFile, brought: &[PathBuf]) -> String {
    let mut text = format!("FROM {base}\n");
    let mut line = |line: String| {
        let _ = writeln!(text, "{line}");
    };
    // What changes least comes first: the engine makes it once.
    if !brought.is_empty() {
        line("COPY root/ /".to_owned());
    }
    line(format!("COPY --chown={OWNER} home/ /home/app/"));
    line(format!("COPY --chown={OWNER} app/ {APP}/"));
    let bins: Vec<PathBuf> = run.path_prepend.iter().map(|bin| Path::new(APP).join(bin)).collect();
    let mut variables: Vec<String> =
        run.env.iter().map(|(name, value)| format!("{name}={}", quoted(value))).collect();
    let path: Vec<String> = bins.iter().map(|bin| quoted(&bin.to_string_lossy())).collect();
    if !path.is_empty() {
        variables.push(format!("PATH={}:$PATH", path.join(":")));
    }
    variables.push(format!("HOME=/home/app PORT={PORT} RENKU_SESSION_PORT={PORT} RENKU_SESSION_IP=0.0.0.0"));
    line(format!("ENV {}", variables.join(" ")));
    let dir = run.working_directory.strip_prefix("code").unwrap_or(&run.working_directory);
    line(format!("WORKDIR {}", Path::new(APP).join(dir).display()));
    line(format!("USER {OWNER}"));
    for program in must_begin(context, &bins, brought) {
        line(format!("RUN {}", json!(program)));
    }
    line(format!("EXPOSE {PORT}"));
    line("ENTRYPOINT []".to_owned());
    line(format!("CMD {}", json!(run.command.clone().unwrap_or_default())));
    text
}

/// What is tried in the image: programs of the environment, which are made for the C library and the languages of this
/// machine.
fn must_begin(context: &BuildContext, bins: &[PathBuf], brought: &[PathBuf]) -> Vec<[String; 2]> {
    let in_bins = |(name, argument): &(&str, &str)| {
        let bin = bins.iter().find(|bin| bin.join(name).symlink_metadata().is_ok())?;
        Some([bin.join(name).to_string_lossy().into_owned(), (*argument).to_owned()])
    };
    let mut all: Vec<[String; 2]> = MUST_BEGIN.iter().filter_map(in_bins).collect();
    if brought.contains(&context.marmot) {
        all.push([context.marmot.to_string_lossy().into_owned(), "--version".to_owned()]);
    }
    all
}

/// As a value in a `Dockerfile`, where nothing in it is replaced.
fn quoted(value: &str) -> String {
    let mut text = String::from("\"");
    for letter in value.chars() {
        if matches!(letter, '"' | '\\' | '$') {
            text.push('\\');
        }
        text.push(if letter == '\n' { ' ' } else { letter });
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_is_the_machines_own_is_not_brought_and_nothing_twice() {
        let data = tempfile::tempdir().unwrap();
        let place = |name: &str| data.path().join(name);
        ["env/bin", "python", "envelope"].iter().for_each(|dir| fs::create_dir_all(place(dir)).unwrap());
        let context = BuildContext::new("uv".into(), "git".into(), "/usr/bin/env".into(), place("cache"));
        let reads = vec![
            place("python"),
            place("env"),
            place("env/bin"),
            place("envelope"),
            "/usr/lib".into(),
            "/usr/bin/env".into(),
        ];
        let run = RunFile {
            reads: reads.clone(),
            path_prepend: vec![place("env/bin"), "node_modules/.bin".into()],
            working_directory: "code/sub".into(),
            env: [("A".to_owned(), "b \"$c\"\\".to_owned())].into(),
            command: Some(vec!["/bin/sh".into(), "-c".into(), "exec x --port $PORT".into()]),
            ..RunFile::default()
        };
        let brought = brought(&context, &run);
        let expected = [place("env"), place("envelope"), place("python"), "/usr/bin/env".into()];
        assert_eq!(brought.iter().collect::<BTreeSet<_>>(), expected.iter().collect());
        let text = dockerfile(&"debian:12".parse().unwrap(), &context, &run, &brought);
        for expected in [
            "FROM docker.io/library/debian:12\n",
            "ENV A=\"b \\\"\\$c\\\"\\\\\" PATH=",
            ":\"/app/node_modules/.bin\":$PATH HOME=/home/app PORT=8000 ",
            "WORKDIR /app/sub\n",
            "RUN [\"/usr/bin/env\",\"--version\"]\n",
            "CMD [\"/bin/sh\",\"-c\",\"exec x --port $PORT\"]\n",
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
    }
}
