//! What this machine lets a server do with the memory of replicas that sleep.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};

use super::swap::Swap;
use crate::capabilities::{Check, CheckState};
use crate::cgroup::Groups;

/// How memory can be paged out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// By advice on the pages of each process: exactly those that are not needed soon.
    Processes,
    /// By having the kernel reclaim memory of the replica's control group: those that it takes for unused.
    Group,
    /// Not at all.
    None,
}

/// Why processes cannot be advised on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// `CAP_SYS_NICE`, which the kernel asks for.
    SysNice,
    /// `CAP_SYS_PTRACE`, without which processes of other users are out of reach.
    SysPtrace,
    /// A kernel that knows the system call: Linux 5.10, or a sandbox that lets it pass.
    Call,
}

/// The number of `CAP_SYS_PTRACE` in `/proc/PID/status`.
const SYS_PTRACE: u32 = 19;

/// Whether memory of processes can be paged out; `others`: also of those that are other users.
pub(crate) fn processes_can_be_advised_on(others: bool) -> Result<(), Missing> {
    match try_it() {
        Ok(()) if others && !has_capability(SYS_PTRACE) => Err(Missing::SysPtrace),
        Ok(()) => Ok(()),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::PERM) => Err(Missing::SysNice),
        Err(_) => Err(Missing::Call),
    }
}

/// Advises on nothing of a process that is none of ours: what would be refused later is refused now.
fn try_it() -> io::Result<()> {
    let mut command = Command::new("cat");
    command.env_clear().stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let advised = i32::try_from(child.id()).ok().and_then(Pid::from_raw).map_or(
        Err(io::ErrorKind::InvalidInput.into()),
        |pid| {
            let process = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
            marmot_madvise::advise(process.as_fd(), &[], marmot_madvise::Advice::PageOut)
        },
    );
    // Without its input, it ends.
    drop(child.stdin.take());
    child.wait()?;
    advised.map(|_| ())
}

/// Whether this process has a capability.
fn has_capability(number: u32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective
        .and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        .is_some_and(|set| set >> number & 1 == 1)
}

/// What there is.
#[derive(Debug, Clone)]
pub(crate) struct Means {
    /// How memory is paged out.
    pub(crate) way: Way,
    /// Why not by advice on each process, where it is not.
    pub(crate) missing: Option<Missing>,
    /// Where it goes.
    pub(crate) swap: Swap,
    /// The kernel tells when programs wait for memory.
    pub(crate) tells_pressure: bool,
}

impl Means {
    /// Looks at the machine; runs a program to do so. `others`: replicas are users of their own.
    pub(crate) fn detect(groups: &Groups, others: bool) -> Self {
        let missing = processes_can_be_advised_on(others).err();
        let way = match missing {
            None => Way::Processes,
            Some(_) if groups.can_reclaim() => Way::Group,
            Some(_) => Way::None,
        };
        let tells_pressure = fs::OpenOptions::new().write(true).open("/proc/pressure/memory").is_ok();
        Self { way, missing, swap: Swap::detect(), tells_pressure }
    }
}

/// What was found, what it costs, and what to do. `memory`: the machine's, in bytes.
pub(crate) fn checks(means: &Means, memory: u64) -> [Check; 3] {
    [paging_check(means), swap_check(&means.swap, memory), pressure_check(means)]
}

fn paging_check(means: &Means) -> Check {
    const NAME: &str = "paging out";
    let capabilities = || ["sudo setcap cap_sys_nice,cap_sys_ptrace+ep \"$(command -v marmot)\"".to_owned()];
    let why = match means.missing {
        Some(Missing::SysNice) => "the server lacks the capability CAP_SYS_NICE",
        Some(Missing::SysPtrace) => {
            "the server lacks the capability CAP_SYS_PTRACE, without which programs of other users are out of reach"
        }
        Some(Missing::Call) | None => "the kernel does not offer process_madvise, which came with Linux 5.10",
    };
    match means.way {
        Way::Processes => Check::good(
            NAME,
            "Memory of hibernated replicas is paged out by advice on each process; what the last wake-ups used stays.",
        ),
        Way::Group => Check::good(
            NAME,
            format!("Memory of hibernated replicas is paged out by their control groups, since {why}."),
        )
        .but(
            CheckState::Reduced,
            "The kernel chooses what goes, so waking may take some tens of milliseconds longer.",
            capabilities(),
        ),
        Way::None => Check::good(NAME, format!("Memory cannot be paged out: {why}.")).but(
            CheckState::Missing,
            "A hibernated replica uses no CPU, but keeps all of its memory: fewer can sleep at a time, and the others \
             are stopped, which makes their next visitor wait for a cold start.",
            if means.missing == Some(Missing::Call) { Vec::new() } else { capabilities().into() },
        ),
    }
}

fn swap_check(swap: &Swap, memory: u64) -> Check {
    const NAME: &str = "swap";
    // Enough for what fits into memory twice over; more is never reached within the memory budget.
    let gib = (memory / 2).div_ceil(1 << 30).max(1);
    let file = format!(
        "sudo fallocate -l {gib}G /swapfile && sudo chmod 600 /swapfile && sudo mkswap /swapfile && sudo swapon \
         /swapfile && echo '/swapfile none swap sw 0 0' | sudo tee -a /etc/fstab"
    );
    let zswap = "echo Y | sudo tee /sys/module/zswap/parameters/enabled".to_owned();
    let zram = format!(
        "sudo modprobe zram && sudo zramctl /dev/zram0 --algorithm lz4 --size {gib}G && sudo mkswap /dev/zram0 && \
         sudo swapon -p 100 /dev/zram0"
    );
    let size = swap.size() >> 20;
    if swap.size() == 0 {
        return Check::good(NAME, "There is no swap.").but(
            CheckState::Missing,
            "A hibernated replica uses no CPU, but keeps all of its memory. With a swap file it keeps about a fifth of \
             it, with compressed memory (zram) alone about half.",
            [format!("{file} && {zswap}"), zram],
        );
    }
    if !swap.has_room() {
        return Check::good(NAME, format!("All {size} MiB of swap are in use.")).but(
            CheckState::Missing,
            "Replicas that fall asleep now keep all of their memory.",
            [file],
        );
    }
    match (swap.on_disk(), swap.zswap || swap.spaces.iter().any(|space| space.zram)) {
        (false, _) => Check::good(NAME, format!("There are {size} MiB of swap, compressed in memory (zram).")).but(
            CheckState::Reduced,
            "A hibernated replica keeps about half of its memory; with swap on a disk as well, about a fifth.",
            [file],
        ),
        (true, true) => Check::good(
            NAME,
            format!("There are {size} MiB of swap, on a disk behind compressed memory: the best there is."),
        ),
        (true, false) => Check::good(NAME, format!("There are {size} MiB of swap on a disk.")).but(
            CheckState::Reduced,
            "What is needed from it again is read from the disk, page by page. With compressed memory in front (zswap), \
             most of it comes back at once.",
            [zswap],
        ),
    }
}

fn pressure_check(means: &Means) -> Check {
    const NAME: &str = "memory pressure";
    if means.tells_pressure {
        return Check::good(
            NAME,
            "The kernel tells when programs wait for memory; then sleepers make room at once.",
        );
    }
    Check::good(NAME, "The kernel does not tell when programs wait for memory.").but(
        CheckState::Reduced,
        "The available memory is looked at every second instead, which may be too late for a sudden need.",
        ["sudo sed -i 's/^GRUB_CMDLINE_LINUX=\"/&psi=1 /' /etc/default/grub && sudo update-grub && sudo reboot"
            .to_owned()],
    )
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::hibernate::swap::SwapSpace;

    const GIB: u64 = 1 << 30;

    fn swap(spaces: &[(&str, bool, u64)]) -> Swap {
        let spaces = spaces.iter().map(|&(path, zram, used)| SwapSpace {
            path: PathBuf::from(path),
            zram,
            size: GIB,
            used,
        });
        Swap { spaces: spaces.collect(), zswap: false, compressed: 0 }
    }

    #[test]
    fn what_is_missing_comes_with_its_cost_and_with_commands() {
        let none = swap_check(&Swap::default(), 15 * GIB);
        assert_eq!((none.state, none.commands.len()), (CheckState::Missing, 2));
        assert!(none.commands[0].contains("fallocate -l 8G") && none.cost.is_some(), "{none:?}");
        let means = Means {
            way: Way::None,
            missing: Some(Missing::SysNice),
            swap: Swap::default(),
            tells_pressure: false,
        };
        for check in checks(&means, GIB) {
            assert!(check.state != CheckState::Good && check.cost.is_some(), "{check:?}");
            assert!(!check.commands.is_empty(), "{check:?}");
        }
    }

    #[test]
    fn swap_on_a_disk_behind_compressed_memory_is_best() {
        let state = |swap: &Swap| swap_check(swap, GIB).state;
        assert_eq!(state(&swap(&[("/dev/zram0", true, 0)])), CheckState::Reduced);
        assert_eq!(state(&swap(&[("/swapfile", false, 0)])), CheckState::Reduced);
        assert_eq!(state(&swap(&[("/dev/zram0", true, 0), ("/swapfile", false, 0)])), CheckState::Good);
        assert_eq!(state(&Swap { zswap: true, ..swap(&[("/swapfile", false, 0)]) }), CheckState::Good);
        assert_eq!(state(&swap(&[("/swapfile", false, GIB)])), CheckState::Missing);
    }
}
