//! What `/proc` says of processes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;

use rustix::process::{Pid, Signal};

use crate::observed::Memory;

/// A process id as the kernel writes it. Used again after the process is gone: pair it with its start time.
pub(crate) type RawPid = i32;

/// One line of `/proc/PID/stat`, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    /// The process that gets to know of its end.
    pub(crate) parent: RawPid,
    /// It has ended, and only its exit code is left.
    pub(crate) zombie: bool,
    /// When it started, in clock ticks since the boot. With the pid and the boot it names a process for good.
    pub(crate) start_time: u64,
    /// CPU time it used, in clock ticks.
    pub(crate) cpu_ticks: u64,
}

/// The state of a process; `None` when there is no such process.
pub(crate) fn stat(pid: RawPid) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses; it may hold spaces and parentheses.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    let fields: Vec<&str> = fields.collect();
    let number = |field: usize| fields.get(field - 4)?.parse::<u64>().ok();
    Some(Stat {
        parent: fields.first()?.parse().ok()?,
        zombie: matches!(state, "Z" | "X"),
        cpu_ticks: number(14)? + number(15)?,
        start_time: number(22)?,
    })
}

/// Names this boot of the machine.
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// The processes that descend from `root`, without it and without those that have ended.
pub(crate) fn descendants(root: RawPid) -> Vec<RawPid> {
    let mut children: BTreeMap<RawPid, Vec<(RawPid, bool)>> = BTreeMap::new();
    for pid in all() {
        if let Some(stat) = stat(pid) {
            children.entry(stat.parent).or_default().push((pid, stat.zombie));
        }
    }
    let mut found = Vec::new();
    let mut left = vec![root];
    while let Some(parent) = left.pop() {
        for (pid, zombie) in children.remove(&parent).unwrap_or_default() {
            left.push(pid);
            if !zombie {
                found.push(pid);
            }
        }
    }
    found
}

/// Every process there is.
pub(crate) fn all() -> impl Iterator<Item = RawPid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Sends a signal; a process that is gone already is no error.
pub(crate) fn signal(pid: RawPid, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Memory of these processes together.
pub(crate) fn memory(pids: &[RawPid]) -> Memory {
    let mut sum = Memory::default();
    for pid in pids {
        let Ok(text) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else { continue };
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let to = match words.next() {
                Some("Pss:") => &mut sum.resident,
                Some("SwapPss:") => &mut sum.swapped,
                _ => continue,
            };
            *to += words.next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) << 10;
        }
    }
    sum
}

/// CPU time these processes used so far, in clock ticks. Those that have ended are not in it.
pub(crate) fn cpu_ticks(pids: &[RawPid]) -> u64 {
    pids.iter().filter_map(|&pid| stat(pid)).map(|stat| stat.cpu_ticks).sum()
}

/// The TCP ports on which these processes listen.
pub(crate) fn listening_ports(pids: &[RawPid]) -> BTreeSet<u16> {
    let mut ports = BTreeSet::new();
    // The sandbox's own process is in the machine's network, the program in one of its own.
    let mut networks = BTreeMap::new();
    for pid in pids {
        let Ok(network) = fs::read_link(format!("/proc/{pid}/ns/net")) else { continue };
        let sockets = networks.entry(network).or_insert_with(|| listening_sockets(*pid));
        for inode in socket_inodes(*pid) {
            ports.extend(sockets.get(&inode));
        }
    }
    ports
}

/// The listening TCP sockets that a process could see: port by inode.
fn listening_sockets(pid: RawPid) -> BTreeMap<u64, u16> {
    const LISTEN: &str = "0A";
    let mut sockets = BTreeMap::new();
    for table in ["tcp", "tcp6"] {
        let Ok(text) = fs::read_to_string(format!("/proc/{pid}/net/{table}")) else { continue };
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            if let [_, local, _, LISTEN, _, _, _, _, _, inode, ..] = fields[..]
                && let Some((_, port)) = local.rsplit_once(':')
                && let (Ok(port), Ok(inode)) = (u16::from_str_radix(port, 16), inode.parse())
            {
                sockets.insert(inode, port);
            }
        }
    }
    sockets
}

fn socket_inodes(pid: RawPid) -> impl Iterator<Item = u64> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let target = fs::read_link(entry.path()).ok()?;
        target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_this_process_its_memory_and_its_ports() {
        let own = i32::try_from(std::process::id()).unwrap();
        let stat = stat(own).unwrap();
        assert_eq!(stat.parent, rustix::process::getppid().unwrap().as_raw_nonzero().get());
        assert!(descendants(stat.parent).contains(&own));
        assert!(memory(&[own]).resident > 0);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(listening_ports(&[own]).contains(&listener.local_addr().unwrap().port()));
    }

    #[test]
    fn a_process_that_does_not_exist_has_no_state_and_holds_nothing() {
        assert_eq!(stat(i32::MAX), None);
        assert_eq!(memory(&[i32::MAX]), Memory::default());
        assert!(listening_ports(&[i32::MAX]).is_empty());
    }
}
