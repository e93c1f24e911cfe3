//! The engine as others see it: started, watched, nudged, stopped.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use marmot_core::{Clock, Moment};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::builds::Builds;
use crate::capabilities::Capabilities;
use crate::cgroup::Groups;
use crate::config::{Confinement, EngineConfig, OnStop};
use crate::confine::Confiner;
use crate::container;
use crate::files;
use crate::hibernate::Pager;
use crate::hibernate::means::Means;
use crate::hibernate::pressure::{Pressure, shortage};
use crate::layout::Layout;
use crate::logs::Logs;
use crate::network::{Shortcoming, Uplink};
use crate::nudge::Nudge;
use crate::observed::{Event, Observed};
use crate::picture::Photographer;
use crate::reconcile::{Boots, Reconciler};
use crate::runtime::local::{LocalRuntime, Settings};
use crate::sweep;
use crate::wanted::Wanted;

/// How long the container engine is given to say what it is.
const TELLS_WITHIN: Duration = Duration::from_secs(60);
/// Longest log of one replica.
const LOG_BYTES: u64 = 8 << 20;

/// Why the engine could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error("the data directory {} cannot be used", path.display())]
    DataDir {
        /// Which directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another engine uses the data directory.
    #[error("another server is running on the data directory {}: stop it first, or choose another one", path.display())]
    InUse {
        /// Which directory.
        path: PathBuf,
    },
}

/// Keeps what runs equal to what is wanted, until it is stopped.
///
/// Dropped without [`Engine::stop`] it leaves everything as it is, as a crash would.
#[derive(Debug)]
pub struct Engine {
    observed: watch::Receiver<Arc<Observed>>,
    nudge: Nudge,
    events: Mutex<Option<mpsc::UnboundedReceiver<Event>>>,
    logs: Logs,
    capabilities: Capabilities,
    photographer: Option<Arc<Photographer>>,
    /// It was asked to stop, not dropped.
    orderly: Arc<AtomicBool>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Engine {
    /// Starts the engine: finds again what an earlier one left running, then follows `wanted`.
    pub async fn start(
        config: EngineConfig,
        wanted: watch::Receiver<Arc<Wanted>>,
        clock: Clock,
    ) -> Result<Self, StartError> {
        let lock = lock(&config.data_dir)?;
        let layout = Layout::new(&config.data_dir);
        let groups = Groups::detect(&layout.tag());
        let confiner = match config.confinement {
            Confinement::Auto => tokio::task::spawn_blocking(Confiner::detect)
                .await
                .unwrap_or_else(|error| Err(error.to_string())),
            Confinement::None => Err("the setting `confinement` says so".to_owned()),
        };
        let separate = confiner.as_ref().is_ok_and(Confiner::separates_users);
        let looking = groups.clone();
        let means = tokio::task::spawn_blocking(move || Means::detect(&looking, separate)).await;
        let means = means.map_err(|error| StartError::DataDir {
            path: config.data_dir.clone(),
            source: io::Error::other(error),
        })?;
        let uplink = match &confiner {
            Ok(_) => open_uplink(&config).await,
            Err(_) => Err(Shortcoming::of("apps are not confined")),
        };
        let capabilities = Capabilities::of(&groups, confiner.as_ref(), &means, uplink.as_deref());
        capabilities.tell();
        let uplink = uplink.ok();
        if let Some(uplink) = &uplink {
            config.build.lead_out_by(uplink);
        }
        let confiner = confiner.ok();
        if let Some(confiner) = &confiner {
            config.build.confine_by(confiner.clone());
        }
        groups.end_builds();
        config.build.bound_by(groups.clone());
        let containers = config.container_engine.map(|socket| container::Engine::at(socket, &layout));
        if let Some(containers) = &containers {
            config.build.run_containers_by(containers);
        }
        let containers = containers.map(|engine| engine.0);
        if let Some(containers) = containers.clone() {
            // Nobody waits for an engine that may not answer.
            let telling = async move { container::check::found(&containers).await.tell() };
            tokio::spawn(tokio::time::timeout(TELLS_WITHIN, telling));
        }
        // Only a replica that is confined can be another user: everything it needs is shown to it.
        let nobodys = config.uids.end;
        let uids = if separate { config.uids } else { 0..0 };
        let photographer = config.browser.zip(confiner.clone()).map(|(browser, confiner)| {
            // A user that no replica is.
            let user = separate.then_some(nobodys);
            let (shim, groups) = (config.shim.clone(), groups.clone());
            Arc::new(Photographer::new(browser, &config.data_dir, shim, groups, confiner, user))
        });
        let (stop, tasks, nudge) = (CancellationToken::new(), TaskTracker::new(), Nudge::default());
        let settings = Settings {
            layout: layout.clone(),
            shim: config.shim,
            groups: groups.clone(),
            containers,
            disk_bytes: config.disk_bytes,
            ports: config.ports,
            uids,
            confiner,
            pager: Pager::new(means.way),
            uplink: uplink.clone(),
            stop_grace: config.stop_grace,
            log_bytes: LOG_BYTES,
            clock: clock.clone(),
            nudge: nudge.clone(),
        };
        // Replicas' tasks end after the loop, which may still ask for them to be ended.
        let release = CancellationToken::new();
        let runtime = LocalRuntime::new(settings, release.clone(), tasks.clone());
        runtime.adopt().await;
        let at_once = config.builds_at_once.unwrap_or_else(cores);
        let (publish, builds) = watch::channel(BTreeMap::new());
        let build_loop = Builds::new(layout.clone(), config.build, at_once, wanted.clone());
        tasks.spawn(build_loop.run(publish, stop.clone()));
        tasks.spawn(sweep::run(layout.clone(), wanted.clone(), stop.clone()));
        let (observe, observed) = watch::channel(Arc::new(Observed::default()));
        let (tell, events) = mpsc::unbounded_channel();
        let mut reconciler = Reconciler {
            runtime: Arc::new(runtime),
            layout,
            wanted,
            builds,
            observed: observe,
            events: tell,
            nudge: nudge.clone(),
            clock,
            memory_budget: config.memory_budget.unwrap_or(capabilities.memory_bytes / 4 * 3),
            pressure: Pressure::watch(),
            shortage,
            boots: Boots::new(config.boots_at_once.unwrap_or_else(cores)),
            shares: BTreeMap::new(),
            sharing_memory: BTreeMap::new(),
            written: Moment::START,
            apps: BTreeMap::new(),
        };
        reconciler.begin();
        let orderly = Arc::new(AtomicBool::new(false));
        let (stopped, in_order) = (stop.clone(), Arc::clone(&orderly));
        let on_stop = config.replicas_on_stop;
        tasks.spawn(async move {
            let _lock = lock;
            // An engine that was dropped leaves everything as it is.
            reconciler
                .run(stopped, || if in_order.load(Ordering::Acquire) { on_stop } else { OnStop::Keep })
                .await;
            if reconciler.is_empty() {
                groups.remove_parents();
                uplink.inspect(|uplink| uplink.close());
            }
            release.cancel();
        });
        let logs = Logs::new(config.data_dir);
        let events = Mutex::new(Some(events));
        Ok(Self { observed, nudge, events, logs, capabilities, photographer, orderly, stop, tasks })
    }

    /// How things are, from now on.
    pub fn observed(&self) -> watch::Receiver<Arc<Observed>> {
        self.observed.clone()
    }

    /// Asks for apps to be looked at now.
    pub fn nudge(&self) -> Nudge {
        self.nudge.clone()
    }

    /// What happens from the start on, for one reader; whoever asks later gets a channel without events.
    pub fn take_events(&self) -> mpsc::UnboundedReceiver<Event> {
        let taken = self.events.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.unwrap_or_else(|| mpsc::unbounded_channel().1)
    }

    /// Reads the logs of apps and builds.
    pub fn logs(&self) -> Logs {
        self.logs.clone()
    }

    /// Takes pictures of apps, where a browser is named and can be confined.
    pub fn photographer(&self) -> Option<Arc<Photographer>> {
        self.photographer.clone()
    }

    /// What this machine lets the engine do.
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities.clone()
    }

    /// Stops; replicas go on or are stopped, as configured. Builds are broken off and done again by the next engine.
    pub async fn stop(self) {
        self.orderly.store(true, Ordering::Release);
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Engine {
    /// Stops; replicas go on, whatever is configured, since another engine follows at once.
    pub async fn leave(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Finds or makes the way out of replicas' networks.
async fn open_uplink(config: &EngineConfig) -> Result<Arc<Uplink>, Shortcoming> {
    let (data_dir, shim) = (config.data_dir.clone(), config.shim.clone());
    let allowed = config.apps_may_reach.clone();
    let resolver = config.resolver;
    let opening = tokio::task::spawn_blocking(move || Uplink::open(&data_dir, Some(shim), allowed, resolver));
    opening.await.unwrap_or_else(|error| Err(Shortcoming::of(error.to_string()))).map(Arc::new)
}

/// Makes the data directory and takes it for this process alone, until the file is closed.
fn lock(data_dir: &Path) -> Result<File, StartError> {
    let unusable = |source| StartError::DataDir { path: data_dir.to_owned(), source };
    let layout = Layout::new(data_dir);
    let made = fs::create_dir_all(data_dir).and_then(|()| files::make_passage(&layout.apps()));
    made.and_then(|()| files::make_passage(&layout.builds())).map_err(unusable)?;
    let file = File::create(data_dir.join("engine.lock")).map_err(unusable)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(StartError::InUse { path: data_dir.to_owned() }),
        Err(error) => Err(unusable(error.into())),
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
