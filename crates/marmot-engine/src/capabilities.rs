//! What this machine lets the engine do, found out once at its start.

use std::fs;

use crate::cgroup::Groups;
use crate::confine::Confiner;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// How idle replicas are frozen.
    pub freezing: Freezing,
    /// Whether replicas are confined.
    pub confined: bool,
    /// Whether memory limits are enforced.
    pub memory_limits: bool,
    /// The machine's memory, in bytes.
    pub memory_bytes: u64,
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

impl Capabilities {
    /// Looks at the machine.
    pub(crate) fn detect(groups: &Groups, confiner: Result<&Confiner, &String>) -> Self {
        let freezing = if groups.can_freeze() { Freezing::Cgroup } else { Freezing::Signals };
        let memory_limits = groups.can_limit_memory();
        let (memory_bytes, swap_bytes) = machine_memory();
        let mut sentences = vec![
            match freezing {
                Freezing::Cgroup => "Idle replicas are frozen by control groups.",
                Freezing::Signals => {
                    "Idle replicas are frozen by SIGSTOP, which programs can notice: no control group of version 2 \
                     can be made here. Run as root, or under systemd with `Delegate=yes`."
                }
            }
            .to_owned(),
        ];
        sentences.push(match confiner {
            Ok(confiner) if confiner.separates_users() => {
                "Apps are confined by bubblewrap: each is a user of its own and sees the system for reading, its own \
                 files, its own network, and nothing else."
                    .to_owned()
            }
            Ok(_) => "Apps are confined by bubblewrap: each sees the system for reading, its own files, its own \
                      network, and nothing else. They share the server's user id. Run as root to give each app a user \
                      of its own."
                .to_owned(),
            Err(why) => format!(
                "Apps are NOT confined: {why}. Every app can read and change whatever the server's user can. Run only \
                 code that you trust."
            ),
        });
        if !memory_limits {
            sentences.push(
                "Memory limits are not enforced: no memory controller can be used here. One app can use up the \
                 machine's memory. Run as root, or under systemd with `Delegate=yes`."
                    .to_owned(),
            );
        }
        if swap_bytes == 0 {
            sentences.push(
                "There is no swap: a hibernated replica uses no CPU, but keeps its memory. Compressed swap makes it \
                 small: `modprobe zram && zramctl --find --size 8G --algorithm lz4 && mkswap /dev/zram0 && \
                 swapon -p 100 /dev/zram0`."
                    .to_owned(),
            );
        }
        Self { freezing, confined: confiner.is_ok(), memory_limits, memory_bytes, swap_bytes, sentences }
    }
}

/// The machine's memory and swap space, in bytes.
fn machine_memory() -> (u64, u64) {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    (value("MemTotal:").unwrap_or(0) << 10, value("SwapTotal:").unwrap_or(0) << 10)
}
