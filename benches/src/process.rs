//! What the kernel knows of a process: CPU time and memory.

use std::fs;
use std::time::Duration;

use anyhow::Context as _;

/// CPU time that a process has used so far, in user and kernel mode, its reaped children not counted.
///
/// # Errors
/// When there is no such process.
pub(crate) fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).context("read the process's times")?;
    // The name, in parentheses, may have spaces in it.
    let after_name = text.rsplit_once(") ").context("the process's times make no sense")?.1;
    let fields: Vec<&str> = after_name.split(' ').collect();
    let ticks = |field: usize| -> anyhow::Result<u64> { Ok(fields.get(field).context("short")?.parse()?) };
    // `utime` and `stime` are the 14th and 15th fields (proc(5)), in ticks of 10 ms.
    Ok(Duration::from_millis((ticks(11)? + ticks(12)?) * 10))
}

/// Resident memory of a process, in bytes.
///
/// # Errors
/// When there is no such process.
pub(crate) fn resident(pid: u32) -> anyhow::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).context("read the process's memory")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib << 10)
}
