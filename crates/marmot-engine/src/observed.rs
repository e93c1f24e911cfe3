//! What the engine sees: how things are, replaced as a whole, and what happened on the way.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use marmot_core::id::{BuildId, ReplicaId, RevisionId};
use marmot_core::plan::Why;
use marmot_core::{AppName, Gate, Moment, Said, said};

use crate::sockets::Sockets;

/// How things are.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Every app that is wanted, or of which something still exists.
    pub apps: BTreeMap<AppName, ObservedApp>,
    /// Every build that is wanted.
    pub builds: BTreeMap<BuildId, BuildState>,
}

/// What is seen of an app.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ObservedApp {
    /// Its replicas, oldest first.
    pub replicas: Vec<ObservedReplica>,
    /// How many replicas should be awake, and why.
    pub decision: Option<(u32, Why)>,
    /// Why the last replica that ended by itself did, until one of the same revision is ready.
    pub failure: Option<Arc<Failure>>,
    /// Starting has stopped: the revision named here failed too often.
    pub gave_up: Option<RevisionId>,
    /// How long booting took when it last succeeded.
    pub boot_time: Option<Duration>,
    /// Memory that its replicas which boot or are awake may use, in bytes. While it is updated, those of one revision
    /// count: the ones that may use more.
    pub promised: u64,
    /// It needs a replica that may not be awake now: its project has no memory for it.
    pub held_back: Option<HeldBack>,
}

/// Why a replica that is needed is not started or woken: the project's apps would use more memory than they may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldBack {
    /// What the replicas of the project that boot or are awake may use, in bytes.
    pub used: u64,
    /// What this one may use, in bytes.
    pub needed: u64,
    /// What all of them together may, in bytes.
    pub limit: u64,
}

impl HeldBack {
    /// The same, with what other languages say it by.
    pub fn said(&self) -> Said {
        let [used, needed, limit] = [self.used, self.needed, self.limit].map(|bytes| bytes >> 20);
        let name = if self.needed > self.limit { "held-back-for-good" } else { "held-back" };
        Said::new(name, self).with("used", used).with("needed", needed).with("limit", limit)
    }
}

impl fmt::Display for HeldBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [used, needed, limit] = [self.used, self.needed, self.limit].map(|bytes| bytes >> 20);
        if self.needed > self.limit {
            return write!(
                f,
                "it needs {needed} MiB of memory, and the apps of its project may use {limit} MiB together: give its \
                 launcher a smaller resource class, or ask an administrator for a higher limit"
            );
        }
        write!(
            f,
            "the apps of its project that are awake use {used} of the {limit} MiB of memory that they may use together, \
             and it needs {needed} MiB: it starts as soon as another falls asleep or is shut down"
        )
    }
}

/// One running copy of a revision.
#[derive(Debug, Clone)]
pub struct ObservedReplica {
    /// Its id.
    pub id: ReplicaId,
    /// The revision it runs.
    pub revision: RevisionId,
    /// Where it is in its life.
    pub stage: ReplicaStage,
    /// Since when it is at this stage.
    pub since: Moment,
    /// Lets the gateway in while the replica is awake.
    pub gate: Arc<Gate>,
    /// Makes sockets in its own network; `None` for one that is in the machine's.
    pub sockets: Option<Arc<Sockets>>,
    /// Memory it holds, in bytes: resident, and swapped out. As last measured.
    pub memory: Memory,
    /// How far its memory is out of the way, while it is hibernated.
    pub depth: SleepDepth,
}

impl PartialEq for ObservedReplica {
    /// Two pictures of the same replica that show the same. Its gate and its sockets are its own.
    fn eq(&self, other: &Self) -> bool {
        let key = |replica: &Self| {
            (replica.id, replica.revision, replica.stage, replica.since, replica.depth, replica.memory)
        };
        key(self) == key(other) && Arc::ptr_eq(&self.gate, &other.gate)
    }
}

/// Memory of a replica's processes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// Proportional share of what is resident (PSS).
    pub resident: u64,
    /// Proportional share of what is swapped out.
    pub swapped: u64,
    /// What is swapped out and kept compressed in memory takes that much of it.
    pub compressed: u64,
}

impl Memory {
    /// Memory of the machine that it takes: resident and compressed. What is on a disk takes none.
    pub fn held(&self) -> u64 {
        self.resident + self.compressed
    }
}

/// How far the memory of a hibernated replica is out of the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum SleepDepth {
    /// All of it is where it was: it was frozen just now, or cannot be paged out here.
    #[default]
    Frozen,
    /// Paged out, but for what its last wake-ups used.
    Light,
    /// All of it is paged out.
    Deep,
}

/// Where a replica is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaStage {
    /// Booting: what it is waiting for.
    Starting(StartStep),
    /// Ready, awake.
    Running {
        /// Where it listens.
        address: SocketAddr,
    },
    /// Frozen. Its connections are still open.
    Hibernated {
        /// Where it listens.
        address: SocketAddr,
    },
    /// Takes no new requests, finishes those it has.
    Draining {
        /// Where it listens.
        address: SocketAddr,
    },
    /// Being stopped.
    Stopping,
}

/// What a booting replica is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartStep {
    /// Its files are laid out.
    Preparing,
    /// Its program runs; its port does not answer yet.
    WaitingForPort,
}

/// Why a replica ended by itself, or could not be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Of which revision.
    pub revision: RevisionId,
    /// When, on the wall clock.
    pub at: jiff::Timestamp,
    /// Why.
    pub reason: FailureReason,
    /// The last lines of its log.
    pub last_lines: Vec<String>,
}

/// Why a replica ended by itself, or could not be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FailureReason {
    /// It exited with this code.
    Exited(i32),
    /// A signal ended it.
    Killed(i32),
    /// It used more memory than it may.
    OutOfMemory {
        /// The most it held, in bytes, where that is known.
        used: Option<u64>,
        /// What it may use, in bytes.
        limit: u64,
    },
    /// It kept more on disk than it may, or too many files.
    DiskFull {
        /// What was counted, in bytes.
        used: u64,
        /// What it may keep, in bytes.
        limit: u64,
    },
    /// It runs, but does not answer on its port.
    NeverListened {
        /// The port it should listen on.
        expected: u16,
        /// The ports it listens on.
        found: Vec<u16>,
        /// How long it was waited for.
        after: Duration,
    },
    /// It could not be started, in words.
    CouldNotStart(Said),
    /// What runs container images does not answer, in words. It is tried again until it does.
    EngineAway(Said),
    /// It ended, and the container engine cannot say how.
    Unknown,
}

impl FailureReason {
    /// The same, with what other languages say it by.
    pub fn said(&self) -> Said {
        let said = |name| Said::new(name, self);
        match self {
            Self::Exited(0) => said("failed-ended"),
            Self::Exited(code) => said("failed-exited").with("code", code),
            Self::Killed(signal) => said("failed-killed").with("signal", signal),
            Self::OutOfMemory { used: Some(used), limit } => {
                said("failed-out-of-memory").with("used", used >> 20).with("limit", limit >> 20)
            }
            Self::OutOfMemory { used: None, limit } => {
                said("failed-beyond-memory").with("limit", limit >> 20)
            }
            Self::DiskFull { used, limit } if used > limit => {
                said("failed-disk-full").with("limit", limit >> 20)
            }
            Self::DiskFull { .. } => said("failed-too-many-files"),
            Self::NeverListened { expected, found, after } => {
                let name =
                    if found.is_empty() { "failed-never-listened" } else { "failed-listens-elsewhere" };
                let ports: Vec<_> = found.iter().map(u16::to_string).collect();
                said(name)
                    // A port is no quantity.
                    .with("port", expected.to_string())
                    .with("seconds", after.as_secs())
                    .with("ports", ports.join(", "))
            }
            Self::CouldNotStart(why) | Self::EngineAway(why) => {
                said("failed-could-not-start").with("why", why)
            }
            Self::Unknown => said("failed-unknown"),
        }
    }
}

impl fmt::Display for FailureReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(0) => {
                write!(f, "the program ended by itself (exit code 0); a web app must keep running")
            }
            Self::Exited(code) => write!(f, "the program exited with code {code}"),
            Self::Killed(signal) => write!(f, "the program was ended by signal {signal}"),
            Self::OutOfMemory { used: Some(used), limit } => {
                let [used, limit] = [used, limit].map(|bytes| bytes >> 20);
                write!(
                    f,
                    "out of memory, used {used} of {limit} MiB: give its launcher a larger resource class"
                )
            }
            Self::OutOfMemory { used: None, limit } => {
                write!(f, "out of memory: the program used more than its {} MiB", limit >> 20)
            }
            Self::DiskFull { used, limit } if used > limit => {
                write!(f, "disk full: the program keeps more than its {} MiB on disk", limit >> 20)
            }
            Self::DiskFull { .. } => write!(f, "disk full: the program keeps too many files"),
            Self::NeverListened { expected, found, after } => {
                write!(f, "the app did not listen on port {expected} within {} s", after.as_secs())?;
                if found.is_empty() {
                    write!(f, "; it listens on no port at all: start it on 0.0.0.0 and the port in $PORT")
                } else {
                    let ports: Vec<_> = found.iter().map(u16::to_string).collect();
                    write!(f, "; it listens on {}: start it with the port in $PORT", ports.join(", "))
                }
            }
            Self::Unknown => {
                write!(
                    f,
                    "the program ended, and the container engine does not say how: it may have been started anew"
                )
            }
            Self::CouldNotStart(why) | Self::EngineAway(why) => {
                write!(f, "the program could not be started: {why}")
            }
        }
    }
}

/// Where a build is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildState {
    /// Waits for its turn.
    Queued,
    /// Is under way.
    InProgress {
        /// What it is doing, as a person would say it.
        step: Said,
    },
    /// Has a result.
    Succeeded(BuildOutcome),
    /// Has none.
    Failed(BuildFailure),
    /// Was taken out of what is wanted before it ended.
    Cancelled,
}

/// What came of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildOutcome {
    /// The commit that was built, in hexadecimal.
    pub commit: String,
    /// How the app is started, as a person would type it; absent when only the launcher says.
    pub command: Option<String>,
    /// What was found and why it is built so, in a sentence or two.
    pub summary: String,
    /// Where a registry has the image that was made, by digest.
    pub pushed: Option<String>,
}

/// Why a build has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildFailure {
    /// The step that failed, as a person would say it.
    pub step: Said,
    /// Why, and what to do, in a sentence or two.
    pub reason: Said,
    /// The last lines of its log.
    pub last_lines: Vec<String>,
}

/// Something that happened, for people to read. Correctness never depends on one arriving.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// To which app.
    pub app: AppName,
    /// To which of its replicas, if to one.
    pub replica: Option<ReplicaId>,
    /// When, on the wall clock.
    pub at: jiff::Timestamp,
    /// What.
    pub what: Happening,
}

/// What happened to an app or a replica of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Happening {
    /// It was decided that so many replicas should be awake.
    Scaled {
        /// How many it were before.
        from: u32,
        /// How many it are now.
        to: u32,
        /// Why.
        why: Why,
    },
    /// A hibernated replica is stopped, because no visit is expected soon.
    LetGo {
        /// The chance of a visit within the hour, in percent.
        percent: u8,
    },
    /// A hibernated replica sleeps deeper.
    Deepened {
        /// The chance of a visit within the hour, in percent, where past visits tell of it: otherwise it has slept for as
        /// long as was said.
        percent: Option<u8>,
    },
    /// A hibernated replica is stopped, because memory is short.
    MadeRoom,
    /// It was started.
    Started(Why),
    /// It is ready, this long after it was started.
    Ready(Duration),
    /// It needs a replica that its project has no memory for.
    HeldBack(HeldBack),
    /// It was frozen.
    Hibernated,
    /// It was thawed, in this time.
    Woke(Duration),
    /// It was stopped on purpose.
    Stopped,
    /// It was found again after the server was restarted.
    Adopted,
    /// It ended by itself.
    Failed(Arc<Failure>),
}

impl Happening {
    /// What happened, as a sentence to follow the app's name.
    pub fn said(&self) -> Said {
        match self {
            Self::Scaled { from, to, why } => {
                let replicas = if *to == 1 { "1 replica".to_owned() } else { format!("{to} replicas") };
                Said::new("event-scaled", format!("{why} → {replicas} (from {from})"))
                    .with("why", why.said())
                    .with("to", to)
                    .with("from", from)
            }
            Self::LetGo { percent } => said!(
                "event-let-go",
                "no visit is expected soon: {percent} % within the hour → its hibernated replica is stopped",
                percent = *percent
            ),
            Self::Deepened { percent: Some(percent) } => said!(
                "event-deepened",
                "no visit is expected soon: {percent} % within the hour → its hibernated replica sleeps deeper",
                percent = *percent
            ),
            Self::Deepened { percent: None } => said!(
                "event-deepened-in-time",
                "its hibernated replica sleeps deeper, since it has slept for long"
            ),
            Self::MadeRoom => {
                said!("event-made-room", "its hibernated replica is stopped, because memory is short")
            }
            Self::Started(why) => said!("event-started", "a replica was started: {why}", why = why.said()),
            Self::Ready(after) => {
                let time = Said::decimal(format!("{:.1}", after.as_secs_f64()));
                said!("event-ready", "was ready after {time} s", time = time)
            }
            Self::HeldBack(why) => said!("event-held-back", "waits for memory: {why}", why = why.said()),
            Self::Hibernated => said!("event-hibernated", "fell asleep, because nobody used it"),
            Self::Woke(after) => {
                let time = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
                said!("event-woke", "woke in {time} ms", time = time)
            }
            Self::Stopped => said!("event-stopped", "a replica was stopped"),
            Self::Adopted => said!("event-adopted", "went on running while the server was restarted"),
            Self::Failed(failure) => failure.reason.said(),
        }
    }
}
