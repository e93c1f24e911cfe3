//! What a policy cost on a trace.

/// What a policy cost on a trace.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// Arrivals that met a replica that was awake.
    pub running: u64,
    /// Arrivals that met a hibernated replica, or one that was just waking.
    pub hibernated: u64,
    /// Those of them that met one that slept deep.
    pub deep: u64,
    /// Arrivals that met no replica, or one that was booting.
    pub cold: u64,
    /// Replicas that were started, for somebody or ahead.
    pub boots: u64,
    /// Those of them that were started ahead of a visit.
    pub boots_ahead: u64,
    /// How long arrivals that waited did, in milliseconds, in order.
    pub waits: Vec<u32>,
    /// Hours that replicas were awake or booting.
    pub replica_hours: f64,
    /// Memory over time: running, and hibernated (resident and compressed).
    pub memory: Memory,
}

/// Memory over time, in GB × hours, by what it was held for.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Memory {
    /// By apps that were used, or booted.
    pub busy: f64,
    /// Awake, and used by nobody.
    pub idle: f64,
    /// Hibernated, ready to wake at once.
    pub light: f64,
    /// Hibernated, and slower to wake.
    pub deep: f64,
}

impl Memory {
    /// All of it.
    pub fn total(self) -> f64 {
        self.busy + self.idle + self.light + self.deep
    }
}

impl Report {
    /// All memory over time, in GB × hours.
    pub fn gb_hours(&self) -> f64 {
        self.memory.total()
    }

    /// All arrivals.
    pub fn arrivals(&self) -> u64 {
        self.running + self.hibernated + self.cold
    }

    /// A part of all arrivals, in percent.
    pub fn percent(&self, of: u64) -> f64 {
        of as f64 * 100.0 / (self.arrivals().max(1)) as f64
    }

    /// The waiting that so much of all arrivals, from 0 to 1, did not exceed, in milliseconds.
    pub fn waiting(&self, part: f64) -> u32 {
        let rank = (self.arrivals() as f64 * part).ceil() as u64;
        let without = self.arrivals() - self.waits.len() as u64;
        let place = rank.saturating_sub(without).checked_sub(1);
        place.and_then(|place| self.waits.get(place as usize)).copied().unwrap_or(0)
    }
}
