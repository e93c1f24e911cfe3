//! Replays arrivals of weeks against the very code that decides in the engine, and adds up what it costs.
//!
//! What is modelled is the world, not the decisions: how long an app of a kind takes to boot and to wake, and what memory
//! it holds. The numbers are those measured of real apps; see [`Kind`].

mod fleet;
pub mod hybrid;
mod keeping;
mod report;
pub mod synthetic;
pub mod trace;

pub use fleet::run;
pub use keeping::{Keeping, at_gb_hours, at_most_cold};
pub use report::Report;
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
    /// Memory while it runs, in MB.
    pub running: u64,
    /// Memory it keeps from others while it is hibernated, in MB: resident, and compressed in memory.
    pub hibernated: u64,
}

/// The seven apps that were measured (two cores, zram with lz4; medians of 20). Hibernated is what is compressed, 5 MB
/// that stay resident in a fleet that shares its libraries, and 10 MB for the hot set.
pub const KINDS: [Kind; 7] = [
    Kind { name: "Streamlit", boot: 610, wake: 2, running: 132, hibernated: 57 },
    Kind { name: "Shiny for Python", boot: 1460, wake: 1, running: 113, hibernated: 59 },
    Kind { name: "Dash", boot: 810, wake: 1, running: 98, hibernated: 53 },
    Kind { name: "Gradio", boot: 3850, wake: 2, running: 114, hibernated: 55 },
    Kind { name: "FastAPI", boot: 2200, wake: 1, running: 157, hibernated: 66 },
    Kind { name: "Panel", boot: 2160, wake: 16, running: 95, hibernated: 57 },
    Kind { name: "R Shiny", boot: 840, wake: 11, running: 142, hibernated: 66 },
];

impl Kind {
    /// With the cold part of its memory on a disk after page-out: only what is resident stays.
    #[must_use]
    pub fn on_disk(self) -> Self {
        Self { hibernated: 25, ..self }
    }
}

#[cfg(test)]
mod tests;
