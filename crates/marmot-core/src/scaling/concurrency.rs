//! What one replica serves at the same time, and what is counted for it.

use std::fmt;

/// What one replica is meant to serve at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concurrency {
    /// So many requests: for what answers and forgets, like a model behind an API.
    Requests(u32),
    /// So many people's open connections (WebSockets, event streams): for dashboards, whose state lives in the replica
    /// that a visitor came to first.
    Sessions(u32),
}

impl Concurrency {
    /// The number, whatever it counts. At least one.
    pub fn count(self) -> u32 {
        match self {
            Self::Requests(count) | Self::Sessions(count) => count.max(1),
        }
    }

    /// As many of the same as this.
    #[must_use]
    pub fn with_count(self, count: u32) -> Self {
        match self {
            Self::Requests(_) => Self::Requests(count),
            Self::Sessions(_) => Self::Sessions(count),
        }
    }

    /// Whether open connections are counted, not requests.
    pub fn counts_sessions(self) -> bool {
        matches!(self, Self::Sessions(_))
    }
}

impl fmt::Display for Concurrency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = if self.counts_sessions() { "sessions" } else { "requests" };
        write!(f, "{} {unit}", self.count())
    }
}
