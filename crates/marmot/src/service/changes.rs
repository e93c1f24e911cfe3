//! Tells those who wait that something may look different now.

use std::sync::Arc;
use std::time::Duration;

use marmot_engine::Observed;
use tokio::sync::watch;

use super::Service;

/// What nobody tells of, such as how many people use an app or that a token has expired, is looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Changes within this time are told together.
const GATHER: Duration = Duration::from_millis(80);

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

    /// Waits until it is time to look again, for those who show something for long: soon after a change, and every few
    /// seconds without one. `false` as in [`Self::changed`].
    pub async fn look_again(&mut self) -> bool {
        // Without a change within that time, there may be one that nobody told of.
        let go_on = tokio::time::timeout(LOOK_EVERY, self.changed()).await.unwrap_or(true);
        tokio::time::sleep(GATHER).await;
        go_on
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
