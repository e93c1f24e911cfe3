//! How replicas are run: one trait that asks for a state instead of giving orders.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use marmot_core::id::{ReplicaId, RevisionId};
use marmot_core::scaling::Concurrency;
use marmot_core::{AppName, Gate, Moment};

use crate::observed::{Failure, Memory, SleepDepth, StartStep};
use crate::sockets::Sockets;
use crate::wanted::Revision;

mod container;
#[cfg(test)]
mod contract;
#[cfg(test)]
pub(crate) mod fake;
pub(crate) mod local;

/// Runs replicas. No call waits; each change of what [`Runtime::observe`] shows nudges the app.
pub(crate) trait Runtime: Send + Sync + 'static {
    /// Asks for a replica of this revision to exist and be awake. Its gate lets in as many as `limit` says.
    fn start(&self, replica: ReplicaId, revision: &Arc<Revision>, limit: Concurrency);

    /// Asks for a replica to be in a state. A replica that does not exist is gone.
    fn ensure(&self, replica: ReplicaId, want: Want);

    /// All replicas of an app, also those that were left over from a crash, oldest first.
    fn observe(&self, app: &AppName) -> Vec<Seen>;

    /// Whether two replicas cannot listen on the same port.
    fn shares_ports(&self) -> bool;

    /// The apps of which replicas exist.
    fn apps(&self) -> Vec<AppName>;
}

/// The state a replica is asked to be in. What was asked last counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// Running. The gate is opened as soon as it is.
    Awake,
    /// Frozen, as soon as nobody is inside the gate, which whoever asks has shut before.
    Asleep,
    /// Frozen, and none of its memory kept for waking quickly.
    DeepAsleep,
    /// Ended, as one that was not ready within this time.
    Failed(Duration),
    /// Ended, and everything but its log removed. Never taken back.
    Gone,
}

/// What is seen of a replica.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) id: ReplicaId,
    pub(crate) revision: RevisionId,
    /// The memory it may use, in bytes.
    pub(crate) memory_limit: u64,
    pub(crate) state: State,
    /// Since when it is in this state.
    pub(crate) since: Moment,
    pub(crate) gate: Arc<Gate>,
    /// Makes sockets in its own network, where it has one.
    pub(crate) sockets: Option<Arc<Sockets>>,
    pub(crate) memory: Memory,
    /// How far its memory is out of the way, while it is asleep.
    pub(crate) depth: SleepDepth,
    /// It used more than half a core between the last two samples.
    pub(crate) busy: bool,
    /// How long booting took.
    pub(crate) boot_time: Option<Duration>,
    /// An earlier engine started it.
    pub(crate) adopted: bool,
}

/// Where a replica is, as the runtime sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// It boots.
    Starting(StartStep),
    /// It is awake, and its gate open.
    Awake(SocketAddr),
    /// It is frozen or about to be; its gate is shut.
    Asleep(SocketAddr),
    /// It is being stopped because it was asked to be gone.
    Stopping,
    /// It ended by itself, or could not be started. Stays to be seen until it is asked to be gone.
    Ended(Arc<Failure>),
}
