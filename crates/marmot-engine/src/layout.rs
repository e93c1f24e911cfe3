//! Where things are in the data directory. The one place that knows the names of files.

use std::path::{Path, PathBuf};

use marmot_core::AppName;
use marmot_core::id::{BuildId, ReplicaId};
use sha2::{Digest, Sha256};

/// The paths in a data directory.
///
/// ```text
/// builds/BUILD_ID/            log, log.done, outcome.json, artefact/
/// apps/APP/visits             when it was used, to foresee when it will be
/// apps/APP/replicas/REPLICA/  spec.json, shim.json, state.json, exit.json, sockets, log, log.1, revision, home/, work/
/// ```
#[derive(Debug, Clone)]
pub struct Layout {
    data_dir: PathBuf,
}

impl Layout {
    /// The layout of this data directory.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self { data_dir: data_dir.into() }
    }

    /// The data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// A name for what the engine of this data directory makes outside of it: its control groups.
    pub fn tag(&self) -> String {
        let path = std::fs::canonicalize(&self.data_dir).unwrap_or_else(|_| self.data_dir.clone());
        let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
        format!("marmot-{:02x}{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2], digest[3])
    }

    /// The parent of all apps' directories.
    pub fn apps(&self) -> PathBuf {
        self.data_dir.join("apps")
    }

    /// The directory of an app.
    pub fn app(&self, app: &AppName) -> PathBuf {
        self.apps().join(app.as_str())
    }

    /// What is known of when an app was used.
    pub fn visits(&self, app: &AppName) -> PathBuf {
        self.app(app).join("visits")
    }

    /// The parent of an app's replicas.
    pub fn replicas(&self, app: &AppName) -> PathBuf {
        self.app(app).join("replicas")
    }

    /// The directory of a replica.
    pub fn replica(&self, app: &AppName, replica: ReplicaId) -> PathBuf {
        self.replicas(app).join(replica.to_string())
    }

    /// The notes of which images this data directory's server brought into the container engine.
    pub fn images(&self) -> PathBuf {
        self.data_dir.join("images")
    }

    /// The parent of all builds' directories.
    pub fn builds(&self) -> PathBuf {
        self.data_dir.join("builds")
    }

    /// The directory of a build.
    pub fn build(&self, build: BuildId) -> PathBuf {
        self.builds().join(build.to_string())
    }

    /// What a build leaves behind for replicas: `code/`, `run.json`, perhaps `venv/`.
    pub fn artefact(&self, build: BuildId) -> PathBuf {
        self.build(build).join("artefact")
    }
}

/// The log of a replica or build, in its directory.
pub const LOG: &str = "log";
/// What was in [`LOG`] before it grew too long.
pub const OLD_LOG: &str = "log.1";
/// Beside the log of a build: nothing will be added to it.
pub const LOG_DONE: &str = "log.done";
