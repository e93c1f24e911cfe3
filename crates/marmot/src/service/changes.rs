//! Tells those who wait that something may look different now.

use std::sync::Arc;

use marmot_engine::Observed;
use tokio::sync::watch;

use super::Service;

/// Waits for changes of what the service shows. Made before looking, so that none between is lost.
#[derive(Debug, Clone)]
pub struct Changes {
    written: watch::Receiver<u64>,
    observed: watch::Receiver<Arc<Observed>>,
}

impl Changes {
    /// Waits until something was written or the engine's picture changed since the last call (or since it was made).
    /// `false` when the server is stopping and nothing will change any more.
    pub async fn changed(&mut self) -> bool {
        tokio::select! {
            result = self.written.changed() => result.is_ok(),
            result = self.observed.changed() => result.is_ok(),
        }
    }
}

impl Service {
    /// Waits for changes of what the service shows: writes, and what the engine sees.
    pub fn changes(&self) -> Changes {
        Changes { written: self.written(), observed: self.inner.live.observed.clone() }
    }

    /// A counter of what was written, for the lifecycle to look again.
    pub fn written(&self) -> watch::Receiver<u64> {
        self.inner.written.subscribe()
    }
}
