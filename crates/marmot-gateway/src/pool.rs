//! Connections to replicas, kept for the next request.
//!
//! They are kept by replica, never by address: a port is used again by another app, a [`ReplicaId`] never is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::client::conn::http2;
use marmot_core::Moment;
use marmot_core::id::ReplicaId;

use crate::body::RequestBody;
use crate::routes::{Change, Route};
use crate::upstream::Connection;

/// An idle connection is not used again after this long. uvicorn, hypercorn and Node close theirs after 5 s, and a
/// request that meets the close half-way is lost if it must not be repeated.
pub(crate) const IDLE_FOR: Duration = Duration::from_secs(4);
/// Idle connections kept for one replica.
const IDLE_PER_REPLICA: usize = 256;

struct Idle {
    connection: Connection,
    since: Moment,
}

/// The connections of one core to all replicas. The lock is that core's own: nobody ever waits for it.
#[derive(Default)]
pub(crate) struct Pool {
    replicas: Mutex<HashMap<ReplicaId, Connections>>,
}

/// The connections to one replica.
#[derive(Default)]
struct Connections {
    /// Those over HTTP/1.1 on which nothing is under way, in the order in which they became idle.
    idle: Vec<Idle>,
    /// The one over HTTP/2, which carries many requests at a time.
    http2: Option<http2::SendRequest<RequestBody>>,
    /// It has answered HTTP/1.1 with HTTP/2: it knows nothing else.
    is_http2_only: bool,
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, HashMap<ReplicaId, Connections>> {
        self.replicas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection on which nothing is under way, if there is one.
    pub(crate) fn take(&self, replica: ReplicaId, now: Moment) -> Option<Connection> {
        let mut replicas = self.lock();
        let connections = &mut replicas.get_mut(&replica)?.idle;
        while let Some(Idle { connection, since }) = connections.pop() {
            let waited = now - since;
            if waited >= IDLE_FOR {
                // Those below it have waited longer.
                connections.clear();
                return None;
            }
            if connection.is_silent() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection whose request and answer are complete.
    pub(crate) fn put(&self, mut connection: Connection, now: Moment) {
        if !connection.is_usable() {
            return;
        }
        // A replica that has left meanwhile is not there any more.
        if let Some(Connections { idle, .. }) = self.lock().get_mut(&connection.replica)
            && idle.len() < IDLE_PER_REPLICA
        {
            idle.push(Idle { connection, since: now });
        }
    }

    /// A place on the connection over HTTP/2, if there is one.
    pub(crate) fn take_http2(&self, replica: ReplicaId) -> Option<Connection> {
        let mut replicas = self.lock();
        let http2 = &mut replicas.get_mut(&replica)?.http2;
        if http2.as_ref().is_some_and(http2::SendRequest::is_closed) {
            *http2 = None;
        }
        http2.clone().map(|sender| Connection::on(replica, sender))
    }

    /// Keeps a connection over HTTP/2, from its first request on.
    pub(crate) fn put_http2(&self, replica: ReplicaId, sender: http2::SendRequest<RequestBody>) {
        if let Some(connections) = self.lock().get_mut(&replica) {
            connections.http2 = Some(sender);
        }
    }

    /// Whether a replica is to be asked over HTTP/2, whatever the request.
    pub(crate) fn is_http2_only(&self, replica: ReplicaId) -> bool {
        self.lock().get(&replica).is_some_and(|connections| connections.is_http2_only)
    }

    /// Notes that a replica answers over HTTP/2 whatever it is asked.
    pub(crate) fn speaks_http2_only(&self, replica: ReplicaId) {
        if let Some(connections) = self.lock().get_mut(&replica) {
            connections.is_http2_only = true;
        }
    }

    /// Closes a replica's idle connections: one of them broke, and the others most likely have or are about to, which
    /// cannot always be seen yet.
    pub(crate) fn distrust(&self, replica: ReplicaId) {
        let closed =
            self.lock().get_mut(&replica).map(|known| (std::mem::take(&mut known.idle), known.http2.take()));
        drop(closed);
    }

    /// Closes what will not be used again.
    pub(crate) fn sweep(&self, now: Moment) {
        for Connections { idle, .. } in self.lock().values_mut() {
            let old = idle.partition_point(|idle| now - idle.since >= IDLE_FOR);
            idle.drain(..old);
            idle.retain(|idle| idle.connection.is_silent());
        }
    }

    /// Closes the idle connections of replicas that are gone, and makes room for those of new ones.
    pub(crate) fn follow<'a>(&self, changes: impl Iterator<Item = Change<'a>>) {
        let mut gone = Vec::new();
        let mut replicas = self.lock();
        for change in changes {
            let backends = |route: Option<&'a Arc<Route>>| route.map_or(&[][..], |route| route.backends());
            let (before, now) = (backends(change.before), backends(change.now));
            for backend in now {
                replicas.entry(backend.replica).or_default();
            }
            for backend in before {
                if !now.iter().any(|now| now.replica == backend.replica) {
                    gone.extend(replicas.remove(&backend.replica));
                }
            }
        }
        drop(replicas);
        drop(gone);
    }
}
