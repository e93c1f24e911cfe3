//! The container engine of this machine, Docker or Podman: what is asked of it, and what is kept in it.
//!
//! Everything that is made in it carries a label with the data directory's name. What does not is somebody else's, and is
//! never touched; images, which carry none, are only removed when a note in the data directory says that this server
//! brought them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{Notify, OnceCell};

pub(crate) mod api;
pub(crate) mod check;
pub(crate) mod containers;
pub mod endpoint;
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
        Arc::new(Self { api: Api::new(socket), tag, notes, about: OnceCell::new(), left: Notify::new() })
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
