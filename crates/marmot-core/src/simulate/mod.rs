//! Replays arrivals of weeks against the very code that decides in the engine, and adds up what it costs.
//!
//! What is modelled is the world, not the decisions: how long an app of a kind takes to boot and to wake, and what memory
//! it holds. The numbers are those measured of real apps; see [`Kind`].

mod bound;
mod fleet;
pub mod hybrid;
mod keeping;
mod report;
pub mod synthetic;
pub mod trace;

pub use bound::fewest_cold;
pub use fleet::run;
pub use keeping::{Keeping, at_gb_hours, at_most_cold};
pub use report::{Memory, Report};
pub use trace::{Arrival, Trace};

/// What an app costs, in the place of a real one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// The framework that was measured.
    pub name: &'static str,
    /// A cold start, to the first complete page, in milliseconds.
    pub boot: u64,
    /// What a wake-up adds to the answer of one that is awake, in milliseconds.
    pub wake: u64,
    /// The same from deep sleep.
    pub deep_wake: u64,
    /// Memory while it runs, in MB.
    pub running: u64,
    /// Memory it keeps from others while it is hibernated, in MB: resident, and compressed in memory.
    pub hibernated: u64,
    /// The same in deep sleep, in MB.
    pub deep: u64,
}

/// The seven apps that were measured (two cores, zram with lz4; medians of 20). Hibernated is what is compressed, 5 MB
/// that stay resident in a fleet that shares its libraries, and 10 MB for the hot set; deep sleep is without that.
pub const KINDS: [Kind; 7] = [
    kind("Streamlit", 610, [2, 19], [132, 57, 47]),
    kind("Shiny for Python", 1460, [1, 15], [113, 59, 49]),
    kind("Dash", 810, [1, 19], [98, 53, 43]),
    kind("Gradio", 3850, [2, 28], [114, 55, 45]),
    kind("FastAPI", 2200, [1, 30], [157, 66, 56]),
    kind("Panel", 2160, [16, 116], [95, 57, 47]),
    kind("R Shiny", 840, [11, 121], [142, 66, 56]),
];

const fn kind(name: &'static str, boot: u64, wakes: [u64; 2], memory: [u64; 3]) -> Kind {
    let ([wake, deep_wake], [running, hibernated, deep]) = (wakes, memory);
    Kind { name, boot, wake, deep_wake, running, hibernated, deep }
}

/// What stays resident with the cold part on a disk, in MB: 20 to 25 were measured.
const LIGHT_ON_DISK: u64 = 25;
/// The same in deep sleep: 2 to 6 MiB were measured, and 5 MB on average in a fleet of 30 apps.
const DEEP_ON_DISK: u64 = 6;
/// How much longer a wake-up from deep sleep takes when what it needs is read ahead from a disk: 3 and 3.5 times as long
/// as from compressed memory were measured.
const DISK_IS_SLOWER: f64 = 3.5;

impl Kind {
    /// With the cold part of its memory on a disk after page-out: only what is resident stays.
    #[must_use]
    pub fn on_disk(self) -> Self {
        let deep_wake = (self.deep_wake as f64 * DISK_IS_SLOWER) as u64;
        Self { hibernated: LIGHT_ON_DISK, deep: DEEP_ON_DISK, deep_wake, ..self }
    }
}

#[cfg(test)]
mod tests;
