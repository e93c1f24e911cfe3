//! What all connections of one gateway share.

use std::fmt;
use std::sync::Arc;

use marmot_core::{AppName, Clock};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::Tickets;
use crate::config::GatewayConfig;
use crate::hold::Rooms;
use crate::pool::Pool;
use crate::routes::Routes;

/// Asks the engine to look at an app now.
pub(crate) type Nudge = Box<dyn Fn(&AppName) + Send + Sync>;

pub(crate) struct Shared {
    pub(crate) config: GatewayConfig,
    pub(crate) routes: watch::Receiver<Arc<Routes>>,
    pub(crate) clock: Clock,
    pub(crate) nudge: Nudge,
    pub(crate) tickets: Arc<Tickets>,
    /// Somebody has lost, or been given, access to some app: whoever is connected looks whether it is them.
    pub(crate) access_changed: watch::Sender<()>,
    pub(crate) rooms: Rooms,
    pub(crate) pool: Pool,
    /// Owns what outlives a single request: connections, queues, WebSockets.
    pub(crate) tracker: TaskTracker,
    /// No new requests; WebSockets and event streams say good-bye.
    pub(crate) soft_stop: CancellationToken,
    /// Whatever still runs is cut.
    pub(crate) hard_stop: CancellationToken,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("config", &self.config).finish_non_exhaustive()
    }
}
