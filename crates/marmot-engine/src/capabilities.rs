//! What this machine lets the engine do, found out once at its start.

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// How idle replicas are frozen.
    pub freezing: Freezing,
    /// Whether replicas are confined.
    pub confined: bool,
    /// Whether memory limits are enforced.
    pub memory_limits: bool,
    /// Swap space, in bytes. Without any, a frozen replica keeps all of its memory.
    pub swap_bytes: u64,
    /// All of it in sentences, for the log and for `marmot doctor`: what is there, what is missing, what that costs.
    pub sentences: Vec<String>,
}

/// How idle replicas are frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freezing {
    /// By a control group of version 2: all processes at once, unnoticed by them.
    Cgroup,
    /// By `SIGSTOP` to each process.
    Signals,
}
