//! Replicas on this machine: process trees of its own, and containers of its engine. Where both have the same life, it is here.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use marmot_core::id::ReplicaId;
use marmot_core::scaling::Concurrency;
use marmot_core::{AppName, Clock, Gate};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Runtime, Seen, State, Want};
use crate::cgroup::Groups;
use crate::config::ShimCommand;
use crate::confine::Confiner;
use crate::container::ContainerEngine;
use crate::hibernate::Pager;
use crate::layout::Layout;
use crate::network::Uplink;
use crate::nudge::Nudge;
use crate::observed::{FailureReason, Memory, SleepDepth, StartStep};
use crate::sockets::Sockets;
use crate::wanted::Revision;

mod adopt;
mod disk;
mod end;
pub(super) mod life;
pub(super) mod prepare;
mod probe;
mod sample;
mod spare;

use life::Life;

/// What replicas are run with.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) layout: Layout,
    pub(crate) shim: ShimCommand,
    pub(crate) groups: Groups,
    /// Confines replicas, where that is wanted and possible.
    pub(crate) confiner: Option<Confiner>,
    /// Pages out what sleeps.
    pub(crate) pager: Pager,
    /// Leads out of replicas' own networks, where that is possible.
    pub(crate) uplink: Option<Arc<Uplink>>,
    /// Runs images, where there is one.
    pub(crate) containers: Option<Arc<ContainerEngine>>,
    /// What a replica may keep on disk, in bytes.
    pub(crate) disk_bytes: u64,
    pub(crate) ports: Range<u16>,
    /// User ids for replicas, where they can have their own.
    pub(crate) uids: Range<u32>,
    /// How long a program may take to end after `SIGTERM`.
    pub(crate) stop_grace: Duration,
    /// Longest log of a replica, in bytes.
    pub(crate) log_bytes: u64,
    pub(crate) clock: Clock,
    pub(crate) nudge: Nudge,
}

impl Settings {
    /// Whether each replica has a network of its own.
    fn own_network(&self) -> bool {
        self.confiner.is_some()
    }
}

/// Runs replicas as process trees, each below a supervisor that outlives this process, and as containers.
pub(crate) struct LocalRuntime {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(super) settings: Settings,
    spares: spare::Spares,
    replicas: Mutex<BTreeMap<ReplicaId, Entry>>,
    /// Cancelled: all tasks end, all replicas go on.
    pub(super) stop: CancellationToken,
    tasks: TaskTracker,
}

/// A replica that exists, or of which something is left.
struct Entry {
    app: AppName,
    want: watch::Sender<Want>,
    seen: Seen,
    port: Option<u16>,
    user: Option<u32>,
    /// Its place in the network in the middle.
    slot: Option<u16>,
    /// Why it was ended by the runtime.
    verdict: Option<FailureReason>,
}

impl LocalRuntime {
    /// A runtime without replicas. Its tasks run on `tasks` until `stop` is cancelled.
    pub(crate) fn new(settings: Settings, stop: CancellationToken, tasks: TaskTracker) -> Self {
        let (spares, replicas) = <_>::default();
        let shared = Shared { settings, spares, replicas, stop, tasks };
        Self { shared: Arc::new(shared) }
    }

    /// Finds again what earlier engines left, and removes what cannot go on. Returns when each replica that was
    /// ready answers again, or after a moment.
    pub(crate) async fn adopt(&self) {
        adopt::adopt(&self.shared).await;
        self.shared.tasks.spawn(disk::watch(Arc::clone(&self.shared)));
        self.shared.tasks.spawn(spare::keep(Arc::clone(&self.shared)));
        self.shared.tasks.spawn(adopt::remove_left_containers(Arc::clone(&self.shared)));
    }
}

impl Runtime for LocalRuntime {
    fn start(&self, replica: ReplicaId, revision: &Arc<Revision>, limit: Concurrency) {
        let gate = Arc::new(Gate::with(limit));
        let own_network = self.shared.settings.own_network();
        let seen = Seen {
            id: replica,
            revision: revision.id,
            memory_limit: revision.limits.memory_bytes,
            state: State::Starting(StartStep::Preparing),
            since: self.shared.settings.clock.now(),
            gate,
            sockets: own_network.then(|| Sockets::of(self.shared.dir(&revision.app, replica))),
            memory: Memory::default(),
            depth: SleepDepth::default(),
            busy: false,
            boot_time: None,
            adopted: false,
        };
        if let Some(life) = self.shared.admit(revision.app.clone(), seen, Want::Awake) {
            self.shared.tasks.spawn(life.begin(Arc::clone(revision), limit));
        }
    }

    fn ensure(&self, replica: ReplicaId, want: Want) {
        if let Some(entry) = self.shared.replicas().get(&replica) {
            // Told also when it is the same again: what was not possible then may be now.
            entry.want.send_if_modified(|now| {
                let open = *now != Want::Gone;
                if open {
                    *now = want;
                }
                open
            });
        }
    }

    fn observe(&self, app: &AppName) -> Vec<Seen> {
        let replicas = self.shared.replicas();
        replicas.values().filter(|entry| entry.app == *app).map(|entry| entry.seen.clone()).collect()
    }

    fn shares_ports(&self) -> bool {
        !self.shared.settings.own_network()
    }

    fn apps(&self) -> Vec<AppName> {
        let apps: BTreeSet<AppName> =
            self.shared.replicas().values().map(|entry| entry.app.clone()).collect();
        apps.into_iter().collect()
    }
}

impl Shared {
    fn replicas(&self) -> MutexGuard<'_, BTreeMap<ReplicaId, Entry>> {
        self.replicas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a replica in; `None` when there is one with this id.
    fn admit(self: &Arc<Self>, app: AppName, seen: Seen, want: Want) -> Option<Life> {
        let mut replicas = self.replicas();
        if replicas.contains_key(&seen.id) {
            return None;
        }
        let (sender, receiver) = watch::channel(want);
        let life = Life::new(self, app.clone(), &seen, receiver);
        replicas.insert(
            seen.id,
            Entry { app: app.clone(), want: sender, seen, port: None, user: None, slot: None, verdict: None },
        );
        drop(replicas);
        self.settings.nudge.app(&app);
        Some(life)
    }

    /// Changes what is seen of a replica.
    fn update(&self, replica: ReplicaId, change: impl FnOnce(&mut Seen)) {
        let mut replicas = self.replicas();
        let Some(entry) = replicas.get_mut(&replica) else { return };
        change(&mut entry.seen);
        let app = entry.app.clone();
        drop(replicas);
        self.settings.nudge.app(&app);
    }

    /// Forgets a replica of which nothing is left. Its port and its user id can be used again.
    fn forget(&self, replica: ReplicaId) {
        let Some(entry) = self.replicas().remove(&replica) else { return };
        self.settings.nudge.app(&entry.app);
    }

    pub(super) fn dir(&self, app: &AppName, replica: ReplicaId) -> PathBuf {
        self.settings.layout.replica(app, replica)
    }
}
