//! A plan in words, for people and as JSON: what was found, what is done with it, and why.

use serde::Serialize;

use super::node::NodeManifest;
use super::{Install, Kind, Plan, Start};
use crate::build::start;

/// What a plan says, before anything is built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// `python`, `r`, `node`, `static`, `dockerfile`, or absent where nothing is installed.
    pub language: Option<&'static str>,
    /// The file that says which packages are installed.
    pub packages: Option<String>,
    /// What is run to build it, line by line.
    pub build: Vec<String>,
    /// What is run once before its revision is served.
    pub release: Option<String>,
    /// How it is started; absent where the launcher says so, or an image does.
    pub command: Option<String>,
    /// Who says how it is started.
    pub command_from: CommandFrom,
    /// Why, in sentences.
    pub reasons: Vec<String>,
    /// What will probably surprise, in sentences.
    pub warnings: Vec<String>,
}

/// Who says how an app is started. The earlier ones win.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandFrom {
    /// The launcher.
    Launcher,
    /// The `web` line of the `Procfile`.
    Procfile,
    /// What was recognised.
    Detected,
}

impl Plan {
    /// The plan in words.
    pub fn summary(&self) -> Summary {
        let (language, packages, build) = match &self.install {
            Install::Nothing if matches!(self.start, Start::StaticSite(_)) => {
                (Some("static"), None, Vec::new())
            }
            Install::Nothing => (None, None, Vec::new()),
            Install::Python { manifest, .. } => (Some("python"), python_file(&manifest.kind), Vec::new()),
            Install::Node(manifest) => (Some("node"), Some(node_file(manifest)), node_steps(manifest)),
            Install::R(manifest) => {
                let file = manifest.file.clone().or(manifest.script.clone());
                (Some("r"), file, manifest.script.iter().map(|script| format!("Rscript {script}")).collect())
            }
            Install::Buildpacks => (Some("buildpacks"), None, Vec::new()),
            Install::Dockerfile(file) => (Some("dockerfile"), Some(file.clone()), Vec::new()),
        };
        Summary {
            language,
            packages,
            build,
            release: self.release.clone(),
            command: start::as_typed(&self.start),
            command_from: self.command_from,
            reasons: self.reasons.clone(),
            warnings: self.warnings.clone(),
        }
    }
}

fn python_file(kind: &Kind) -> Option<String> {
    match kind {
        Kind::Nothing => None,
        Kind::UvLock => Some("uv.lock".into()),
        Kind::Pyproject => Some("pyproject.toml".into()),
        Kind::Conda(conda) => Some(conda.file.clone()),
        Kind::Requirements(file) | Kind::Converted(file, _) => Some(file.clone()),
    }
}

fn node_file(manifest: &NodeManifest) -> String {
    manifest.lock.clone().unwrap_or_else(|| "package.json".into())
}

fn node_steps(manifest: &NodeManifest) -> Vec<String> {
    manifest.steps.iter().map(|step| step.typed()).collect()
}
