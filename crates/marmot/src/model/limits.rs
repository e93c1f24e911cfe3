//! The limits of projects.

use serde::{Deserialize, Serialize};

/// What the apps and builds of a project may use together: as the installation says it, or an administrator for one
/// project. Of what is absent, as much as there is, or what the other says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ProjectLimits {
    /// Memory, as the sum of what each replica that boots or is awake may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Builds at the same time; the others wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub builds_at_once: Option<u64>,
    /// Builds that are begun within an hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub builds_per_hour: Option<u64>,
    /// Results of builds, and homes and logs of apps, on disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_bytes: Option<u64>,
    /// Awake replicas beyond the first of each app.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u64>,
    /// Requests to all apps, with ten seconds' worth at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<u64>,
    /// Requests to all apps at the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_at_once: Option<u64>,
}

impl ProjectLimits {
    /// What is said here, and else what is said there.
    pub fn or(&self, other: &Self) -> Self {
        Self {
            memory_bytes: self.memory_bytes.or(other.memory_bytes),
            builds_at_once: self.builds_at_once.or(other.builds_at_once),
            builds_per_hour: self.builds_per_hour.or(other.builds_per_hour),
            storage_bytes: self.storage_bytes.or(other.storage_bytes),
            replicas: self.replicas.or(other.replicas),
            requests_per_second: self.requests_per_second.or(other.requests_per_second),
            requests_at_once: self.requests_at_once.or(other.requests_at_once),
        }
    }

    /// Each by its name, with the least that it may be.
    pub fn listed(&self) -> [(&'static str, Option<u64>, u64); 7] {
        [
            ("memory_bytes", self.memory_bytes, 1),
            ("storage_bytes", self.storage_bytes, 1),
            ("builds_at_once", self.builds_at_once, 1),
            ("builds_per_hour", self.builds_per_hour, 1),
            ("replicas", self.replicas, 0),
            ("requests_per_second", self.requests_per_second, 1),
            ("requests_at_once", self.requests_at_once, 1),
        ]
    }
}
