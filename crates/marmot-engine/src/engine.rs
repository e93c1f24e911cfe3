//! The engine as others see it: started, watched, nudged, stopped.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use marmot_core::Clock;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::capabilities::{Capabilities, Freezing};
use crate::config::EngineConfig;
use crate::logs::Logs;
use crate::nudge::Nudge;
use crate::observed::{Event, Observed};
use crate::wanted::Wanted;

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
        let _ = (wanted, clock);
        let (_observe, observed) = watch::channel(Arc::new(Observed::default()));
        let (_events, events) = mpsc::unbounded_channel();
        let capabilities = Capabilities {
            freezing: Freezing::Signals,
            confined: false,
            memory_limits: false,
            swap_bytes: 0,
            sentences: Vec::new(),
        };
        Ok(Self {
            observed,
            nudge: Nudge::default(),
            events: Mutex::new(Some(events)),
            logs: Logs::new(config.data_dir),
            capabilities,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        })
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

    /// What this machine lets the engine do.
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities.clone()
    }

    /// Stops; replicas go on or are stopped, as configured. Builds are broken off and done again by the next engine.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
