//! What a replica uses: memory and CPU time, and which processes it has.

use std::time::Instant;

use crate::cgroup::ReplicaGroup;
use crate::procfs::{self, RawPid};

/// The kernel counts CPU time for programs in hundredths of a second on every architecture in use.
const MICROS_PER_TICK: u64 = 10_000;

/// The processes of a replica, without its supervisor.
pub(super) fn processes(group: &ReplicaGroup, shim: RawPid) -> Vec<RawPid> {
    group.processes().unwrap_or_else(|| procfs::descendants(shim))
}

/// Tells from one sample to the next whether a replica computes.
#[derive(Debug)]
pub(super) struct Load {
    at: Instant,
    micros: u64,
}

impl Load {
    /// The first sample.
    pub(super) fn begin(group: &ReplicaGroup, shim: RawPid) -> Self {
        Self { at: Instant::now(), micros: cpu_micros(group, shim) }
    }

    /// Whether more than half a core was used since the sample before.
    pub(super) fn is_busy(&mut self, group: &ReplicaGroup, shim: RawPid) -> bool {
        let now = Self::begin(group, shim);
        let used = now.micros.saturating_sub(self.micros);
        let busy = u128::from(used) * 2 > (now.at - self.at).as_micros();
        *self = now;
        busy
    }
}

fn cpu_micros(group: &ReplicaGroup, shim: RawPid) -> u64 {
    group
        .cpu_micros()
        .unwrap_or_else(|| procfs::cpu_ticks(&processes(group, shim)).saturating_mul(MICROS_PER_TICK))
}
