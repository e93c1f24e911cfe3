//! The files by which the server and a replica's supervisor know of each other, in the replica's directory.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Seek as _, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use marmot_core::scaling::Concurrency;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cgroup::ReplicaGroup;
use crate::procfs::{self, RawPid};

/// What to run, written by the server before the supervisor starts. Without what may be secret: see [`Private`].
pub(crate) const SPEC: &str = "spec.json";
/// Which process the supervisor is, written by it before it runs anything.
pub(crate) const SHIM: &str = "shim.json";
/// Which process a container's doorman is, written by it.
pub(crate) const DOORMAN: &str = "doorman.json";
/// How far the replica got, written by the server.
pub(crate) const STATE: &str = "state.json";
/// How the program ended, written by the supervisor.
pub(crate) const EXIT: &str = "exit.json";

/// A replica as it was started.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    /// The revision it runs.
    pub(crate) revision: String,
    /// The port it was told to listen on.
    pub(crate) port: u16,
    /// How many it serves at the same time.
    pub(crate) per_replica: u32,
    /// It is sessions that are counted, not requests.
    #[serde(default)]
    pub(crate) counts_sessions: bool,
    /// The memory it may use, in bytes.
    pub(crate) memory_limit: u64,
    /// A variable of its environment that no other replica has.
    pub(crate) marker: String,
    /// The user id it was given, where it has one of its own.
    pub(crate) user: Option<u32>,
    /// Its control group.
    pub(crate) group: ReplicaGroup,
    /// What the supervisor runs.
    pub(crate) launch: Launch,
    /// The container that it is, where it is one: then it has no supervisor.
    #[serde(default)]
    pub(crate) container: Option<Contained>,
}

/// The container that a replica is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Contained {
    /// Its id in the engine.
    pub(crate) id: String,
    /// The way out of its network.
    pub(crate) plug: Option<Plug>,
    /// What it starts, for people.
    pub(crate) program: Option<String>,
    /// The names of the variables that are secrets. Their values are with the engine alone.
    #[serde(default)]
    pub(crate) secrets: Vec<String>,
    /// Where what it writes beside its own places is kept on this machine, if it can be told.
    pub(crate) written: Option<PathBuf>,
}

/// What the supervisor runs.
#[derive(Serialize, Deserialize)]
pub(crate) struct Launch {
    /// Program and arguments.
    pub(crate) argv: Vec<String>,
    /// Where it is started.
    pub(crate) directory: PathBuf,
    /// The sandbox around it: bubblewrap and its arguments.
    pub(crate) sandbox: Option<Sandbox>,
    /// Longest its log may become, in bytes, the rotated part included.
    pub(crate) log_bytes: u64,
}

impl Launch {
    /// Of a program that a container engine starts: there is nothing to launch.
    pub(crate) fn of_engine(log_bytes: u64) -> Self {
        let (argv, directory) = <_>::default();
        Self { argv, directory, sandbox: None, log_bytes }
    }
}

impl Spec {
    /// As many as it serves at the same time.
    pub(crate) fn limit(&self) -> Concurrency {
        if self.counts_sessions {
            Concurrency::Sessions(self.per_replica)
        } else {
            Concurrency::Requests(self.per_replica)
        }
    }

    /// Whether the replica has a network of its own.
    pub(crate) fn own_network(&self) -> bool {
        self.container.is_some() || self.launch.sandbox.as_ref().is_some_and(|sandbox| sandbox.own_network)
    }
}

impl Spec {
    /// Its place in the network in the middle.
    pub(crate) fn slot(&self) -> Option<u16> {
        let sandboxs = self.launch.sandbox.as_ref().and_then(|sandbox| sandbox.plug.as_ref());
        let containers = self.container.as_ref().and_then(|container| container.plug.as_ref());
        sandboxs.or(containers).map(|plug| plug.slot)
    }
}

impl std::fmt::Debug for Launch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The arguments may hold secrets.
        f.debug_struct("Launch").field("program", &self.argv.first()).finish_non_exhaustive()
    }
}

/// What of a replica is on no disk: the supervisor reads it once, from its standard input.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Private {
    /// The whole environment.
    pub(crate) env: BTreeMap<String, String>,
    /// Files that only this replica sees, by name.
    pub(crate) files: BTreeMap<String, String>,
    /// What its log never shows.
    pub(crate) masked: Vec<String>,
}

impl Private {
    /// A file in memory alone, to be read from its beginning.
    pub(crate) fn to_memory(&self) -> io::Result<fs::File> {
        in_memory(&serde_json::to_vec(self).map_err(io::Error::from)?)
    }

    /// What [`Private::to_memory`] wrote.
    pub(crate) fn read(from: impl io::Read) -> io::Result<Self> {
        serde_json::from_reader(from).map_err(io::Error::from)
    }
}

impl std::fmt::Debug for Private {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Private(…)")
    }
}

/// A file with these bytes that is in memory alone, to be read from its beginning.
pub(crate) fn in_memory(bytes: &[u8]) -> io::Result<fs::File> {
    let fd = rustix::fs::memfd_create("marmot", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = fs::File::from(fd);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

/// bubblewrap and its arguments, without those that set the environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sandbox {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    /// What inside the sandbox starts the program.
    pub(crate) before: Vec<String>,
    /// It has a network of its own, where the supervisor goes, too.
    #[serde(default)]
    pub(crate) own_network: bool,
    /// The way out of that network.
    #[serde(default)]
    pub(crate) plug: Option<Plug>,
}

/// How a replica's network is connected to the one in the middle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plug {
    /// A process in the middle.
    pub(crate) keeper: ShimProcess,
    /// The programs `ip` and `nft`.
    pub(crate) ip: PathBuf,
    pub(crate) nft: PathBuf,
    /// The place in the middle, which no other replica has.
    pub(crate) slot: u16,
    /// The interface in the middle. One of this name may be left of an earlier replica.
    pub(crate) interface: String,
    /// For `nft`, in the middle.
    pub(crate) rules: String,
    /// For `ip -batch`, in the middle; `{pid}` stands for a process of the replica.
    pub(crate) outside: String,
    /// For `ip -batch`, in the replica's network.
    pub(crate) inside: String,
}

/// Which process the supervisor is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShimProcess {
    pub(crate) pid: RawPid,
    pub(crate) start_time: u64,
    pub(crate) boot_id: String,
}

impl ShimProcess {
    /// This process.
    pub(crate) fn own() -> io::Result<Self> {
        Self::of(rustix::process::getpid().as_raw_nonzero().get())
    }

    /// The process with this pid.
    pub(crate) fn of(pid: RawPid) -> io::Result<Self> {
        let stat = procfs::stat(pid).ok_or_else(|| io::Error::other("/proc does not show the process"))?;
        Ok(Self { pid, start_time: stat.start_time, boot_id: procfs::boot_id()? })
    }

    /// Whether it still runs: this very process, not another one that got its pid.
    pub(crate) fn is_alive(&self) -> bool {
        procfs::boot_id().is_ok_and(|boot| boot == self.boot_id)
            && procfs::stat(self.pid).is_some_and(|stat| stat.start_time == self.start_time && !stat.zombie)
    }
}

/// How far a replica got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// How long it took to become ready.
    pub(crate) boot_millis: u64,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exit {
    pub(crate) end: End,
    /// When.
    pub(crate) at: jiff::Timestamp,
    /// The kernel ended one of its processes because the memory limit was reached.
    pub(crate) out_of_memory: bool,
    /// The most memory it held at any time, in bytes, where that is known.
    #[serde(default)]
    pub(crate) peak_bytes: Option<u64>,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum End {
    Exited(i32),
    Killed(i32),
    NotStarted(String),
}

/// Writes a file whole or not at all, readable by its owner alone.
pub(crate) fn write(dir: &Path, name: &str, value: &impl Serialize) -> io::Result<()> {
    let draft = dir.join(format!("{name}.new"));
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(&serde_json::to_vec(value).map_err(io::Error::from)?)?;
    drop(file);
    fs::rename(draft, dir.join(name))
}

/// Reads such a file; `None` when there is none.
pub(crate) fn read<T: DeserializeOwned>(dir: &Path, name: &str) -> io::Result<Option<T>> {
    match fs::read(dir.join(name)) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(io::Error::from),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
