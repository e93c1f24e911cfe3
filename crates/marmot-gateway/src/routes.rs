//! Where requests go: an immutable table, replaced as a whole.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use marmot_core::id::{ReplicaId, UserId};
use marmot_core::{AppName, Demand, Gate, Moment};

/// Every app whose address means something, also those that are off.
#[derive(Debug, Clone, Default)]
pub struct Routes {
    /// By the first label of the app's host.
    pub apps: HashMap<AppName, Arc<Route>>,
}

/// How requests to one app are treated.
#[derive(Debug, Clone)]
pub struct Route {
    /// The app's name.
    pub app: AppName,
    /// What people call it. Written by people: escape it.
    pub title: String,
    /// Who may open it.
    pub access: Access,
    /// Whether and how it can be opened.
    pub state: RouteState,
    /// Counts what passes. The same for all of the app's life in this process.
    pub demand: Arc<Demand>,
}

/// Who may open an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Everyone,
    /// These people, once they have signed in.
    People(BTreeSet<UserId>),
}

impl Access {
    /// Whether this visitor may open the app; `None` is somebody who has not signed in.
    pub fn lets_in(&self, visitor: Option<UserId>) -> bool {
        match self {
            Self::Everyone => true,
            Self::People(people) => visitor.is_some_and(|visitor| people.contains(&visitor)),
        }
    }
}

/// Whether and how an app can be opened.
#[derive(Debug, Clone)]
pub enum RouteState {
    /// It is switched off.
    Off,
    /// It cannot be opened; why, in a sentence that a visitor may read.
    Failed {
        /// Why.
        reason: String,
    },
    /// It can be opened, now or soon.
    On {
        /// The replicas that serve, awake or asleep.
        backends: Vec<Backend>,
        /// What is going on while none of them is awake.
        progress: Progress,
    },
}

/// A replica that serves.
#[derive(Debug, Clone)]
pub struct Backend {
    /// Which replica. Never used again: connections are pooled by it, never by address.
    pub replica: ReplicaId,
    /// Where it listens.
    pub address: SocketAddr,
    /// To be entered before anything is sent to it.
    pub gate: Arc<Gate>,
}

/// How far an app is from answering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// What is going on, in a few words: *Building*, *Starting*, *Waiting for its port*.
    pub step: String,
    /// Since when.
    pub since: Moment,
    /// How long waking took lately, if known.
    pub expected: Option<Duration>,
}
