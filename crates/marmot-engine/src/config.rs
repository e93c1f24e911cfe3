//! What the engine is told once, at its start.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::build::BuildContext;
use crate::network::Destination;

/// How the engine runs apps and builds.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Where builds, replicas and logs are kept. One engine at a time.
    pub data_dir: PathBuf,
    /// How to run a replica's supervisor.
    pub shim: ShimCommand,
    /// What builds work with.
    pub build: Arc<BuildContext>,
    /// Builds that run at the same time. `None`: as many as there are cores.
    pub builds_at_once: Option<usize>,
    /// Replicas that may boot at the same time. `None`: as many as there are cores.
    pub boots_at_once: Option<usize>,
    /// What happens to replicas when the engine stops.
    pub replicas_on_stop: OnStop,
    /// How much memory all replicas may hold together, awake and asleep, in bytes; when it is more, sleepers make
    /// room. `None`: three quarters of the machine's.
    pub memory_budget: Option<u64>,
    /// Whether apps are shut off from the machine and each other.
    pub confinement: Confinement,
    /// The socket of the container engine that runs images, where there is one.
    pub container_engine: Option<PathBuf>,
    /// The Chromium that takes pictures of apps, where that is wanted.
    pub browser: Option<PathBuf>,
    /// How long a program may take to end after `SIGTERM`.
    pub stop_grace: Duration,
    /// What a replica may keep on disk, in bytes.
    pub disk_bytes: u64,
    /// The ports replicas listen on, on the loopback interface. Outside the range from which the kernel draws ports.
    pub ports: Range<u16>,
    /// What apps may reach although it is private, or this machine's own.
    pub apps_may_reach: Vec<Destination>,
    /// Where apps have names resolved, over IPv4. `None`: as this machine does.
    pub resolver: Option<Ipv4Addr>,
    /// The user ids replicas run as where the engine runs as root. They must belong to nobody.
    pub uids: Range<u32>,
}

impl EngineConfig {
    /// The defaults, for a data directory, a way to run the supervisor, and what builds work with.
    pub fn new(data_dir: impl Into<PathBuf>, shim: ShimCommand, build: Arc<BuildContext>) -> Self {
        Self {
            data_dir: data_dir.into(),
            shim,
            build,
            builds_at_once: None,
            boots_at_once: None,
            replicas_on_stop: OnStop::Keep,
            memory_budget: None,
            confinement: Confinement::Auto,
            container_engine: None,
            browser: None,
            stop_grace: Duration::from_secs(10),
            disk_bytes: 4 << 30,
            ports: 20_000..30_000,
            apps_may_reach: Vec::new(),
            resolver: None,
            uids: 2_000_000_000..2_000_100_000,
        }
    }
}

/// The program whose `main` is [`crate::shim::main`], and what comes before the supervisor's own arguments.
#[derive(Debug, Clone)]
pub struct ShimCommand {
    /// The program.
    pub program: PathBuf,
    /// Its first arguments.
    pub args: Vec<String>,
}

/// What happens to replicas when the engine stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnStop {
    /// They go on; the next engine on the data directory finds them again.
    Keep,
    /// They are stopped.
    Stop,
}

/// Whether apps are shut off from the machine and each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confinement {
    /// As far as this machine allows; what it does not is said at the start.
    Auto,
    /// Not at all: apps may do what the user may whom the engine runs as.
    None,
}
