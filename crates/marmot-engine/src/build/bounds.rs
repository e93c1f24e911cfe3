//! What a build may use of memory, processes and processor: a control group of its own, which goes with it.

use std::path::PathBuf;
use std::time::Duration;

use marmot_core::id::BuildId;

use super::contract::BuildContext;
use crate::cgroup::ReplicaGroup;
use crate::wanted::Limits;

/// A build's share of the processor, in thousandths of a core: apps that are visited come first where both want it.
const CPU_MILLIS: u32 = 500;
/// Ended processes are gone within that, unless the kernel is stuck.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// The control group of one build.
#[derive(Debug)]
pub(super) struct Bounds {
    group: ReplicaGroup,
    /// The memory that it may use, in bytes.
    pub(super) memory_bytes: u64,
}

impl Bounds {
    /// Makes the group, where the machine has such.
    pub(super) fn of(context: &BuildContext, build: BuildId, memory_bytes: u64) -> Option<Self> {
        let limits = Limits { memory_bytes, cpu_millis: CPU_MILLIS };
        match context.groups()?.create_for_build(build, limits) {
            Ok(group) => Some(Self { group, memory_bytes }),
            Err(error) => {
                tracing::warn!(%build, %error, "the memory of a build cannot be limited");
                None
            }
        }
    }

    /// The files that a process writes to in order to be in the group.
    pub(super) fn ways_in(&self) -> Vec<PathBuf> {
        self.group.ways_in()
    }

    /// Whether one of its processes was ended because it used all the memory there is for them.
    pub(super) fn out_of_memory(&self) -> bool {
        self.group.out_of_memory()
    }

    /// Ends what is still in it, and waits until that is gone.
    pub(super) async fn end(&self) {
        self.group.kill();
        let _ = tokio::time::timeout(GONE_WITHIN, self.group.emptied()).await;
    }
}

impl Drop for Bounds {
    fn drop(&mut self) {
        self.group.kill();
        self.group.remove();
    }
}
