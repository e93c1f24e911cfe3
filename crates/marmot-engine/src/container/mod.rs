//! The container engine of this machine, Docker or Podman: what is asked of it, and what is kept in it.
//!
//! Everything that is made in it carries a label with the data directory's name. What does not is somebody else's, and is
//! never touched; images, which carry none, are only removed when a note in the data directory says that this server
//! brought them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use marmot_core::id::BuildId;
use rustix::process::Resource;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{Notify, OnceCell};

pub(crate) mod api;
pub(crate) mod check;
pub(crate) mod containers;
pub mod endpoint;
pub(crate) mod frames;
pub(crate) mod image;
pub(crate) mod kept;
pub mod reference;
pub(crate) mod words;

use api::{Api, Call, EngineError};
pub use check::check;
pub use image::PinnedImage;

use crate::layout::Layout;

/// The label that says to which data directory something belongs.
pub(crate) const LABEL_DATA: &str = "marmot.data";
/// The label that says which replica a container is.
pub(crate) const LABEL_REPLICA: &str = "marmot.replica";
/// The label that says which app a container belongs to, for people.
pub(crate) const LABEL_APP: &str = "marmot.app";
/// The label that says which build made an image.
pub(crate) const LABEL_BUILD: &str = "marmot.build";

/// The engine of this machine.
#[derive(Debug)]
pub(crate) struct ContainerEngine {
    api: Api,
    /// The data directory's name in the engine.
    tag: String,
    /// Where it is noted which images this server brought.
    notes: PathBuf,
    about: OnceCell<About>,
    /// A container could not be removed.
    left: Notify,
    /// The builds that have a container now.
    building: Mutex<BTreeSet<BuildId>>,
    /// The images that builds last worked with: no result needs them, and the next build would bring them again.
    tools: Mutex<BTreeSet<String>>,
}

/// A build may have a container while this lives.
pub(crate) struct Building<'a> {
    engine: &'a ContainerEngine,
    build: BuildId,
}

impl Drop for Building<'_> {
    fn drop(&mut self) {
        self.engine.building.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.build);
    }
}

/// The engine of a data directory, for those who work with builds alone.
#[derive(Debug, Clone)]
pub struct Engine(pub(crate) Arc<ContainerEngine>);

impl Engine {
    /// The one at `socket`. Nothing is asked of it yet.
    pub fn at(socket: impl Into<PathBuf>, layout: &Layout) -> Self {
        Self(ContainerEngine::new(socket, layout.tag(), layout.images()))
    }

    /// Removes the images that were brought for this data directory longer than `age` ago and that no result of a build
    /// needs.
    pub async fn collect(&self, layout: &Layout, age: Duration) {
        self.0.collect(layout, age).await;
    }
}

/// What kind of engine it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct About {
    pub(crate) podman: bool,
    /// Its containers' users are mapped to a few of the machine's: those of the user it runs as.
    pub(crate) maps_users: bool,
    /// It makes control groups itself, by the names that it is given.
    pub(crate) makes_groups: bool,
    /// Its containers go on while it is started anew.
    pub(crate) leaves_running: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Info {
    security_options: Option<Vec<String>>,
    #[serde(default)]
    cgroup_driver: String,
    #[serde(default)]
    live_restore_enabled: bool,
}

impl ContainerEngine {
    /// The one at `socket`. Nothing is asked of it yet.
    pub(crate) fn new(socket: impl Into<PathBuf>, tag: String, notes: PathBuf) -> Arc<Self> {
        let (about, left, building, tools) = (OnceCell::new(), Notify::new(), <_>::default(), <_>::default());
        Arc::new(Self { api: Api::new(socket), tag, notes, about, left, building, tools })
    }

    pub(crate) fn api(&self) -> &Api {
        &self.api
    }

    /// Notes that a container is left, because the engine does not answer.
    pub(crate) fn leave(&self) {
        self.left.notify_one();
    }

    /// Waits until one is left.
    pub(crate) async fn one_is_left(&self) {
        self.left.notified().await;
    }

    /// Lets a build have a container, which is no leftover then.
    pub(crate) fn let_build(&self, build: BuildId) -> Building<'_> {
        self.building.lock().unwrap_or_else(PoisonError::into_inner).insert(build);
        Building { engine: self, build }
    }

    fn is_building(&self, build: BuildId) -> bool {
        self.building.lock().unwrap_or_else(PoisonError::into_inner).contains(&build)
    }

    /// Keeps these images as what builds work with, until this server ends or others take their place.
    pub(crate) fn keep_tools(&self, ids: impl IntoIterator<Item = String>) {
        *self.tools.lock().unwrap_or_else(PoisonError::into_inner) = ids.into_iter().collect();
    }

    pub(crate) fn tag(&self) -> &str {
        &self.tag
    }

    /// What kind of engine it is. Asked once, when it first answers.
    pub(crate) async fn about(&self) -> Result<About, EngineError> {
        let asking = async || {
            let podman = self.api.ping().await?;
            let info: Info = self.api.get(Call::new(&["info"])).await?;
            let options = info.security_options.unwrap_or_default();
            let maps = |option: &String| option.contains("rootless") || option.contains("userns");
            // Podman says it in a place of its own.
            let rootless = podman && {
                let own: Value = self.api.get(Call::of_podman(&["info"])).await?;
                own["host"]["security"]["rootless"].as_bool().unwrap_or(false)
            };
            let maps_users = rootless || options.iter().any(maps);
            let makes_groups = info.cgroup_driver == "cgroupfs" && !maps_users;
            let leaves_running = podman || info.live_restore_enabled;
            Ok(About { podman, maps_users, makes_groups, leaves_running })
        };
        self.about.get_or_try_init(asking).await.copied()
    }
}

/// As much as is wanted of a resource, as far as this machine lets anybody have it: an engine on it can give no more.
pub(crate) fn allowed(resource: Resource, wanted: u64) -> u64 {
    rustix::process::getrlimit(resource).maximum.map_or(wanted, |most| most.min(wanted))
}
