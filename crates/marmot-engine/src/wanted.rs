//! What the engine is asked for: a picture of how things should be, replaced as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use marmot_core::id::{BuildId, EnvironmentId, ProjectId, RevisionId};
use marmot_core::plan::Policy;
use marmot_core::{AppName, Demand};

use crate::network::Destination;

/// Everything that should run, be built or be kept. What is not in here is stopped, cancelled, removed.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The apps that are on and have a revision to run.
    pub apps: BTreeMap<AppName, WantedApp>,
    /// The builds that should be done. One that is taken out before it ends is cancelled.
    pub builds: BTreeMap<BuildId, Arc<WantedBuild>>,
    /// The images that should be pulled, each as the build with this id. As with builds.
    pub pulls: BTreeMap<BuildId, Arc<WantedPull>>,
    /// The finished builds whose results must stay; those of other builds are removed.
    pub kept_builds: BTreeSet<BuildId>,
    /// What the apps and builds of each project may use together. The usual for one that is not named.
    pub projects: BTreeMap<ProjectId, Ceiling>,
    /// Whose the builds are: those that should be done, and those whose results are kept.
    pub builds_of: BTreeMap<BuildId, ProjectId>,
}

/// What the apps and builds of a project may use together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ceiling {
    /// Awake replicas beyond the first of each app.
    pub replicas: u32,
    /// Memory in bytes, as the sum of what each replica that boots or is awake may use. As much as there is when absent.
    pub memory_bytes: Option<u64>,
    /// Builds that run at the same time; the others wait. As many as there is room for when absent.
    pub builds: Option<u32>,
    /// What results of builds, and homes and logs of replicas, may take on disk, in bytes. As much as there is when absent.
    pub storage_bytes: Option<u64>,
}

impl Default for Ceiling {
    fn default() -> Self {
        Self { replicas: 20, memory_bytes: None, builds: None, storage_bytes: None }
    }
}

impl Wanted {
    /// Whether a build or a pull of this id should be done.
    pub(crate) fn asks_for(&self, id: BuildId) -> bool {
        self.builds.contains_key(&id) || self.pulls.contains_key(&id)
    }

    /// What the apps and builds of a project may use together.
    pub(crate) fn ceiling(&self, project: ProjectId) -> Ceiling {
        self.projects.get(&project).copied().unwrap_or_default()
    }

    /// The apps of each project, of those that may have more than one replica.
    pub(crate) fn by_project(&self) -> BTreeMap<ProjectId, Vec<&AppName>> {
        let mut projects: BTreeMap<ProjectId, Vec<&AppName>> = BTreeMap::new();
        for (name, app) in self.apps.iter().filter(|(_, app)| app.policy.most() > 1) {
            projects.entry(app.project).or_default().push(name);
        }
        projects
    }

    /// The apps of each project whose memory has a limit.
    pub(crate) fn sharing_memory(&self) -> BTreeMap<ProjectId, Vec<AppName>> {
        let mut projects: BTreeMap<ProjectId, Vec<AppName>> = BTreeMap::new();
        let limited = |app: &WantedApp| self.ceiling(app.project).memory_bytes.is_some();
        for (name, app) in self.apps.iter().filter(|(_, app)| limited(app)) {
            projects.entry(app.project).or_default().push(name.clone());
        }
        projects
    }
}

/// An app that is on.
#[derive(Debug, Clone)]
pub struct WantedApp {
    /// What it should run.
    pub revision: Arc<Revision>,
    /// Whose apps share a ceiling with it.
    pub project: ProjectId,
    /// The revision has been ready before: it is not booted until somebody asks.
    pub proven: bool,
    /// Raised when somebody asks to try again after starting was given up: what failed before no longer counts.
    pub retry: u64,
    /// The rules its replicas live by.
    pub policy: Policy,
    /// What is shown to registries of container images.
    pub registries: Vec<Login>,
    /// Counts what the gateway sees of it. The same for all of the app's life in this process.
    pub demand: Arc<Demand>,
}

/// An immutable pair of program and settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// Its id.
    pub id: RevisionId,
    /// The app it belongs to.
    pub app: AppName,
    /// The address people open the app at, without a path.
    pub url: String,
    /// What to run.
    pub program: Program,
    /// The launcher's variables.
    pub variables: Vec<Variable>,
    /// What replicas are given besides, and what their logs never show. Other values reach those that are started from
    /// then on.
    pub secrets: Vec<Secret>,
    /// What a replica may use.
    pub limits: Limits,
    /// The GPUs of a container.
    pub gpus: Gpus,
    /// What a replica may reach.
    pub outbound: Outbound,
}

/// What a replica runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// The result of a build, as a process.
    Built {
        /// Which build.
        build: BuildId,
        /// Program and arguments; in the place of the `Procfile`'s or the detected command.
        command: Option<Vec<String>>,
        /// The port to listen on, where the program cannot be told by `PORT`.
        port: Option<u16>,
    },
    /// A container image.
    Image {
        /// Which build pulled or made it.
        build: BuildId,
        /// The port it listens on; what the image says when absent.
        port: Option<u16>,
        /// In the place of the image's entry point.
        command: Option<Vec<String>>,
        /// In the place of the image's arguments.
        args: Option<Vec<String>>,
        /// The user to run as.
        uid: Option<u32>,
        /// The group to run as.
        gid: Option<u32>,
        /// In the place of the image's working directory.
        working_directory: Option<String>,
    },
}

/// The GPUs of a container, or other devices that the operator names. From its resource class.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Gpus {
    /// None.
    #[default]
    None,
    /// So many.
    Count(u32),
    /// Those of these names of the Container Device Interface: `vendor.com/class=name`.
    Devices(Vec<String>),
}

/// What a replica may use. From its resource class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// CPU time, in thousandths of a core.
    pub cpu_millis: u32,
}

/// What a replica may reach of other machines, where it has a network of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Outbound {
    /// Nothing.
    None,
    /// Every public address.
    #[default]
    Internet,
    /// These addresses. Private ones only as far as the engine's configuration allows them, too.
    Only(Vec<Destination>),
}

/// A variable of a replica's environment. Its value may be a secret, so it is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl fmt::Debug for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=…", self.name)
    }
}

/// A secret of a replica. Its value is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// The name of its variable or file.
    pub name: String,
    /// Its value.
    pub value: String,
    /// It is a file in the directory that `MARMOT_SECRETS_DIR` names; else it is a variable.
    pub is_file: bool,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=…", self.name)
    }
}

/// What is shown to one host, and to no other.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The host, perhaps with a port.
    pub host: String,
    /// The name that goes with the password.
    pub username: String,
    /// A password or token, or a private key in PEM.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.username, self.host)
    }
}

/// A build that should be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedBuild {
    /// Where the code is.
    pub source: Source,
    /// How to turn it into something runnable.
    pub builder: Builder,
    /// Whose it is: environments and caches that code of a build may change are shared only by builds of the same
    /// owner. Not of the same repository: a hosting site serves commits of anybody's fork from its address, too.
    pub owner: EnvironmentId,
    /// The launcher has a command of its own, so the code need not say how to start it.
    pub command_given: bool,
    /// The launcher's variables, for what the code itself runs while it is built.
    pub variables: Vec<Variable>,
    /// What the app is given in confidence: for the release alone, which is a first run of the app.
    pub secrets: Vec<Secret>,
    /// What is shown to hosts of repositories.
    pub logins: Vec<Login>,
    /// What is shown to registries, where a `Dockerfile` names their images.
    pub registries: Vec<Login>,
    /// What is wanted of the image, where one is made.
    pub image: ImageWish,
}

/// What is wanted of the image of a build.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageWish {
    /// What is built for a process is put into an image, so that it runs elsewhere, too.
    pub from_plan: bool,
    /// Which registry is given the image that is made.
    pub push: Option<Push>,
}

/// A registry that is given an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    /// The name it is given, with its tag.
    pub reference: String,
    /// What is shown to the registry.
    pub login: Option<Login>,
    /// A build whose image the registry does not take, fails.
    pub must: bool,
}

/// An image that should be pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedPull {
    /// The image's reference, as somebody wrote it.
    pub image: String,
    /// Whose it is.
    pub owner: EnvironmentId,
    /// The port it will be asked on, where somebody has said so.
    pub port: Option<u16>,
    /// The launcher has a command of its own, so the image need not say what to start.
    pub command_given: bool,
    /// What is shown to registries.
    pub registries: Vec<Login>,
}

/// Where code is.
#[derive(Clone, PartialEq, Eq)]
pub struct Source {
    /// Address of the repository: `https://`, `ssh://`, `user@host:path`, or a local path where allowed.
    pub repository: String,
    /// Branch, tag or commit; the default branch when absent.
    pub revision: Option<String>,
    /// The directory of the app in the repository; its root when absent.
    pub context_dir: Option<String>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address may carry a password.
        f.debug_struct("Source")
            .field("revision", &self.revision)
            .field("context_dir", &self.context_dir)
            .finish_non_exhaustive()
    }
}

/// How to turn code into something runnable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Builder {
    /// By what is found in the code.
    Auto,
    /// Python packages by uv.
    Python,
    /// R packages from package repositories.
    R,
    /// Packages of Node by npm, pnpm or Yarn.
    Node,
    /// Files served as they are.
    Static,
    /// A container image, by its Dockerfile.
    Dockerfile,
    /// A container image, by Cloud Native Buildpacks.
    Buildpacks,
}
