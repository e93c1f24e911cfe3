//! What a build is given and what it leaves behind: the terms between builds and the rest of the engine.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::locks::Locks;
use crate::cgroup::Groups;
use crate::confine::Confiner;
use crate::container::reference::LocalImages;
use crate::container::{self, ContainerEngine, PinnedImage};
use crate::network::{Destination, Uplink};
use crate::observed::BuildFailure;

/// What every build of this installation works with. One per server, since it also holds the locks of the caches.
pub struct BuildContext {
    /// The `uv` executable.
    pub uv: PathBuf,
    /// The `git` executable.
    pub git: PathBuf,
    /// The Python that apps get unless they ask for another; `uv` looks for one when absent.
    pub python: Option<PathBuf>,
    /// Marmot's own executable: static sites are served by `marmot static-server`.
    pub marmot: PathBuf,
    /// Where repositories, packages and environments are kept between builds. Only builds write here.
    pub cache_dir: PathBuf,
    /// Repositories may be named by a path of this machine, or by `file://`.
    pub allow_local_repositories: bool,
    /// Repositories may be on hosts of private networks and on this machine, and be fetched by plain `http://`.
    pub allow_private_networks: bool,
    /// Pythons that are not on this machine may be downloaded.
    pub allow_python_downloads: bool,
    /// The private key that the server shows to `ssh://` hosts. Everybody who may build can use it.
    pub ssh_identity: Option<PathBuf>,
    /// What one build may use.
    pub limits: BuildLimits,
    /// How much each cache of fetched packages may hold, in bytes. One that holds more begins anew.
    pub cache_bytes: u64,
    /// The image that those begin from which are made of code that has no `Dockerfile`.
    pub base_image: Option<String>,
    /// What makes images by Cloud Native Buildpacks.
    pub buildpacks: Option<Buildpacks>,
    /// Images that are taken from the engine of this machine, and not from a registry.
    pub local_images: Vec<LocalImages>,
    /// What the programs of a build reach of other machines.
    pub network: BuildsNetwork,
    /// What they may reach although it is private, besides the mirrors and proxies that `environment` names.
    pub may_reach: Vec<Destination>,
    /// The operator's proxies, mirrors and certificates, for fetching and installing. No app gets these.
    /// [`operators_environment`](super::operators_environment) takes them from the server's own environment.
    pub environment: Vec<(String, String)>,
    pub(super) locks: Locks,
    confiner: OnceLock<Confiner>,
    groups: OnceLock<Groups>,
    containers: OnceLock<Arc<ContainerEngine>>,
    uplink: OnceLock<Arc<Uplink>>,
}

impl BuildContext {
    /// A context with the default limits, which allows only what is public, and with an empty environment.
    pub fn new(uv: PathBuf, git: PathBuf, marmot: PathBuf, cache_dir: PathBuf) -> Self {
        Self {
            uv,
            git,
            python: None,
            marmot,
            // Sandboxes show places by their absolute paths.
            cache_dir: std::path::absolute(&cache_dir).unwrap_or(cache_dir),
            allow_local_repositories: false,
            allow_private_networks: false,
            allow_python_downloads: false,
            ssh_identity: None,
            limits: BuildLimits::default(),
            cache_bytes: 20 << 30,
            base_image: None,
            buildpacks: None,
            local_images: Vec::new(),
            network: BuildsNetwork::default(),
            may_reach: Vec::new(),
            environment: Vec::new(),
            locks: Locks::default(),
            confiner: OnceLock::new(),
            groups: OnceLock::new(),
            containers: OnceLock::new(),
            uplink: OnceLock::new(),
        }
    }

    /// Shuts off what builds run of packages and repositories from the machine, where that is possible. An engine does
    /// so by itself.
    ///
    /// # Errors
    /// Says why it is not possible here.
    pub fn confine_if_possible(&self) -> Result<(), String> {
        self.confine_by(Confiner::detect()?);
        Ok(())
    }

    pub(crate) fn confine_by(&self, confiner: Confiner) {
        // The first one found is as good as any other on this machine.
        let _ = self.confiner.set(confiner);
    }

    /// Bounds what builds use of the machine by groups of this engine's.
    pub(crate) fn bound_by(&self, groups: Groups) {
        let _ = self.groups.set(groups);
    }

    pub(super) fn groups(&self) -> Option<&Groups> {
        self.groups.get()
    }

    /// Lets builds pull images and make some by this engine. One for all of a server's life.
    pub fn run_containers_by(&self, engine: &container::Engine) {
        let _ = self.containers.set(Arc::clone(&engine.0));
    }

    /// Leads programs of builds out by this. One for all of a server's life.
    pub(crate) fn lead_out_by(&self, uplink: &Arc<Uplink>) {
        let _ = self.uplink.set(Arc::clone(uplink));
    }

    pub(super) fn uplink(&self) -> Option<&Arc<Uplink>> {
        self.uplink.get()
    }

    pub(crate) fn containers(&self) -> Option<&Arc<ContainerEngine>> {
        self.containers.get()
    }

    pub(super) fn confiner(&self) -> Option<&Confiner> {
        self.confiner.get()
    }
}

impl fmt::Debug for BuildContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The environment may carry the passwords of mirrors.
        f.debug_struct("BuildContext")
            .field("cache_dir", &self.cache_dir)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// What makes images by Cloud Native Buildpacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buildpacks {
    /// The image with the buildpacks and what runs them.
    pub builder: String,
    /// The image that apps run on; what the builder says when absent.
    pub run_image: Option<String>,
}

/// What the programs of a build reach of other machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BuildsNetwork {
    /// What apps reach, public addresses, and the operator's mirrors and proxies. Where this machine cannot tell that
    /// apart, packages are installed with the machine's network, and nothing is built by a `Dockerfile`.
    #[default]
    Fenced,
    /// What the server itself reaches; steps of a `Dockerfile`, what the container engine lets them reach.
    Shared,
}

/// What one build may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildLimits {
    /// How long it may take.
    pub time: Duration,
    /// How large the code may be, in bytes: what is fetched, and what is checked out.
    pub code_bytes: u64,
    /// How many files and links the code may have.
    pub code_entries: usize,
    /// The memory that its programs may use together, in bytes.
    pub memory_bytes: u64,
    /// How much it may keep on disk, in bytes.
    pub disk_bytes: u64,
    /// How much of the disk builds leave free, in bytes: the database needs room whatever happens.
    pub reserve_bytes: u64,
    /// How long its log may be, in bytes. What is beyond is left out, and the log says so.
    pub log_bytes: u64,
}

impl Default for BuildLimits {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(15 * 60),
            code_bytes: 1 << 30,
            code_entries: 50_000,
            memory_bytes: 4 << 30,
            disk_bytes: 16 << 30,
            reserve_bytes: 128 << 20,
            log_bytes: 8 << 20,
        }
    }
}

/// How a build ended without a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildEnd {
    /// It failed.
    Failed(BuildFailure),
    /// It was cancelled.
    Cancelled,
}

/// `run.json` of an artefact: how to start what was built.
///
/// Nothing in it may be moved: an artefact refers to itself and to environments of the cache by absolute paths.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RunFile {
    /// Program and arguments, to be run as they are, in a replica's sandbox; absent when the code does not say how
    /// it is started. A program without a slash is looked for in the `PATH` that follows from `path_prepend`.
    pub command: Option<Vec<String>>,
    /// Directories that go in front of `PATH`.
    pub path_prepend: Vec<PathBuf>,
    /// Variables that the program needs. The launcher's own win over them.
    pub env: BTreeMap<String, String>,
    /// Where it is started, relative to the artefact: the app's own files.
    pub working_directory: PathBuf,
    /// Files and directories outside of `working_directory` that it must be able to read, under these very paths.
    pub reads: Vec<PathBuf>,
    /// It is not a program of this machine that is started, but this image: nothing else of this file counts then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<PinnedImage>,
}

impl RunFile {
    const NAME: &str = "run.json";

    /// Reads that of the artefact in `artefact`.
    ///
    /// # Errors
    /// When there is none, or it is not what a build writes.
    pub fn read(artefact: &Path) -> io::Result<Self> {
        let text = std::fs::read_to_string(artefact.join(Self::NAME))?;
        serde_json::from_str(&text).map_err(io::Error::from)
    }

    /// Writes it into the artefact in `artefact`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, artefact: &Path) -> io::Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(io::Error::from)?;
        std::fs::write(artefact.join(Self::NAME), text)
    }
}
