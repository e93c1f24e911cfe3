//! Replicas that exist in memory only, for tests of what uses a runtime.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use marmot_core::gate::GateState;
use marmot_core::id::ReplicaId;
use marmot_core::scaling::Concurrency;
use marmot_core::{AppName, Clock, Gate};

use super::{Runtime, Seen, State, Want};
use crate::nudge::Nudge;
use crate::observed::{Failure, FailureReason, Memory, SleepDepth, StartStep};
use crate::wanted::{Program, Revision};

/// Boots, freezes and thaws in no time. A revision whose command is `false` ends at once with code 1; one whose command
/// is `slow` goes on booting.
pub(crate) struct FakeRuntime {
    replicas: Mutex<BTreeMap<ReplicaId, (AppName, Seen)>>,
    clock: Clock,
    nudge: Nudge,
    /// Memory that each replica holds.
    memory: Memory,
}

impl FakeRuntime {
    pub(crate) fn new(clock: Clock, nudge: Nudge, memory: Memory) -> Self {
        Self { replicas: Mutex::default(), clock, nudge, memory }
    }

    fn replicas(&self) -> MutexGuard<'_, BTreeMap<ReplicaId, (AppName, Seen)>> {
        self.replicas.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn address() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 1).into()
}

fn failure(seen: &Seen, reason: FailureReason) -> State {
    let at = jiff::Timestamp::UNIX_EPOCH;
    State::Ended(Arc::new(Failure { revision: seen.revision, at, reason, last_lines: Vec::new() }))
}

impl Runtime for FakeRuntime {
    fn start(&self, replica: ReplicaId, revision: &Arc<Revision>, limit: Concurrency) {
        let mut seen = Seen {
            id: replica,
            revision: revision.id,
            memory_limit: revision.limits.memory_bytes,
            state: State::Awake(address()),
            since: self.clock.now(),
            gate: Arc::new(Gate::with(limit)),
            sockets: None,
            memory: self.memory,
            depth: SleepDepth::Light,
            busy: false,
            boot_time: Some(Duration::from_secs(1)),
            adopted: false,
        };
        let command = match &revision.program {
            Program::Built { command: Some(words), .. } => words.first().map_or("", String::as_str),
            _ => "",
        };
        match command {
            "false" => {
                seen.gate.close();
                seen.state = failure(&seen, FailureReason::Exited(1));
            }
            // Until the test says that it is ready, by wanting it awake.
            "slow" => seen.state = State::Starting(StartStep::WaitingForPort),
            _ => seen.gate.open(),
        }
        self.replicas().entry(replica).or_insert_with(|| (revision.app.clone(), seen));
        self.nudge.app(&revision.app);
    }

    fn ensure(&self, replica: ReplicaId, want: Want) {
        let mut replicas = self.replicas();
        let Some((app, seen)) = replicas.get_mut(&replica) else { return };
        let app = app.clone();
        seen.since = self.clock.now();
        match (want, &seen.state) {
            (Want::Gone, _) => {
                seen.gate.close();
                replicas.remove(&replica);
            }
            (Want::Asleep, State::Awake(_))
                if seen.gate.state() == GateState::Asleep || seen.gate.try_sleep() =>
            {
                seen.state = State::Asleep(address());
            }
            // As on a machine without swap: nothing gets smaller.
            (Want::DeepAsleep, State::Asleep(_)) => seen.depth = SleepDepth::Deep,
            (Want::Awake, State::Asleep(_) | State::Awake(_) | State::Starting(_)) => {
                seen.state = State::Awake(address());
                seen.gate.open();
            }
            (Want::Failed(after), State::Starting(_)) => {
                let reason = FailureReason::NeverListened { expected: 1, found: Vec::new(), after };
                seen.state = failure(seen, reason);
            }
            _ => {}
        }
        drop(replicas);
        self.nudge.app(&app);
    }

    fn observe(&self, app: &AppName) -> Vec<Seen> {
        self.replicas().values().filter(|(of, _)| of == app).map(|(_, seen)| seen.clone()).collect()
    }

    fn shares_ports(&self) -> bool {
        true
    }

    fn apps(&self) -> Vec<AppName> {
        let mut apps: Vec<AppName> = self.replicas().values().map(|(app, _)| app.clone()).collect();
        apps.sort();
        apps.dedup();
        apps
    }
}
