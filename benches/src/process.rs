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

/// Memory, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    /// Proportional share of what is resident.
    pub(crate) resident: u64,
    /// What holds compressed pages.
    pub(crate) compressed: u64,
}

/// Memory of the processes of the app at this address.
///
/// # Errors
/// When there is none, or they may not be looked at.
pub(crate) fn memory_of(app: &str) -> anyhow::Result<Memory> {
    let mut memory = Memory::default();
    for pid in pids_of(app) {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or_default();
        memory.resident += line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) << 10;
    }
    anyhow::ensure!(memory.resident > 0, "no process of {app} can be looked at: run as root");
    Ok(memory)
}

/// CPU time that the processes of the app at this address have used so far.
///
/// # Errors
/// When one of them ends meanwhile.
pub(crate) fn cpu_of(app: &str) -> anyhow::Result<Duration> {
    pids_of(app).into_iter().map(cpu_time).sum()
}

fn pids_of(app: &str) -> Vec<u32> {
    let variable = format!("MARMOT_APP_URL={}", app.trim_end_matches('/'));
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let environment = fs::read(entry.path().join("environ")).ok()?;
            environment.split(|&byte| byte == 0).any(|one| one == variable.as_bytes()).then_some(pid)
        })
        .collect()
}
