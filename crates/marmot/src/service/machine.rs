//! What the machine's memory is used for, and what had to make room: for those who run the installation.

use marmot_core::AppName;
use marmot_engine::Observed;
use marmot_engine::observed::ReplicaStage;

use super::Service;
use super::error::Result;
use super::permission::{Errand, Identity, allowed};
use crate::db::events;
use crate::model::AppEvent;

/// How many evictions are told.
const TOLD: u32 = 20;

/// The machine's memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Machine {
    /// All there is.
    pub memory: u64,
    /// What programs could still have.
    pub available: u64,
    /// Swap, on disk and compressed in memory.
    pub swap: u64,
    /// What of it is not in use.
    pub swap_free: u64,
    /// What replicas that are awake hold in memory.
    pub running: u64,
    /// What hibernated replicas hold in memory.
    pub hibernated: u64,
    /// What replicas have swapped out.
    pub swapped: u64,
    /// What all replicas together may hold in memory.
    pub budget: u64,
    /// Replicas that are awake.
    pub awake: u32,
    /// Replicas that are hibernated.
    pub asleep: u32,
}

/// An app that had to make room: when, and whose.
pub type Eviction = (AppName, AppEvent);

impl Machine {
    /// The numbers of the kernel, as in `/proc/meminfo`; zero where it says nothing.
    fn of_kernel(meminfo: &str) -> Self {
        let bytes = |name: &str| {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let kibibytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
            kibibytes.unwrap_or_default() << 10
        };
        Self {
            memory: bytes("MemTotal"),
            available: bytes("MemAvailable"),
            swap: bytes("SwapTotal"),
            swap_free: bytes("SwapFree"),
            ..Self::default()
        }
    }

    fn with(mut self, observed: &Observed, budget: Option<u64>) -> Self {
        for replica in observed.apps.values().flat_map(|app| &app.replicas) {
            let held = replica.memory.held();
            if matches!(replica.stage, ReplicaStage::Hibernated { .. }) {
                (self.hibernated, self.asleep) = (self.hibernated + held, self.asleep + 1);
            } else {
                (self.running, self.awake) = (self.running + held, self.awake + 1);
            }
            self.swapped += replica.memory.swapped;
        }
        self.budget = budget.unwrap_or(self.memory / 4 * 3);
        self
    }

    /// Memory that other programs hold.
    pub fn others(&self) -> u64 {
        self.memory.saturating_sub(self.available).saturating_sub(self.running + self.hibernated)
    }
}

impl Service {
    /// What the machine's memory is used for.
    ///
    /// # Errors
    /// [`Error::SignInNeeded`](super::Error::SignInNeeded), [`Error::Forbidden`](super::Error::Forbidden) for who does not run the installation.
    pub async fn machine(&self, who: &Identity) -> Result<(Machine, Vec<Eviction>)> {
        allowed(who, Errand::Oversee)?;
        // The kernel's own numbers come from memory. Elsewhere than on Linux there are none.
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let machine = Machine::of_kernel(&meminfo).with(&self.observed(), self.options().memory_budget);
        let evictions = events::of_kind(&mut *self.db().read().await?, "made_room", TOLD).await?;
        Ok((machine, evictions))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_numbers_are_read_and_what_is_missing_is_nothing() {
        let machine = Machine::of_kernel("MemTotal:  1024 kB\nMemAvailable:  512 kB\nMemFree: 1 kB\n");
        assert_eq!((machine.memory, machine.available, machine.swap), (1 << 20, 512 << 10, 0));
        let machine = machine.with(&Observed::default(), None);
        assert_eq!((machine.budget, machine.others()), (768 << 10, 512 << 10));
    }
}
