//! The machine's swap space: what there is, and how much memory the pages in it still take.

use std::fs;
use std::path::{Path, PathBuf};

/// One swap space in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SwapSpace {
    /// The device or file.
    pub(crate) path: PathBuf,
    /// It keeps pages compressed in memory.
    pub(crate) zram: bool,
    /// Its size, in bytes.
    pub(crate) size: u64,
    /// What of it is used, in bytes.
    pub(crate) used: u64,
}

/// All swap space.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Swap {
    /// Each space.
    pub(crate) spaces: Vec<SwapSpace>,
    /// Pages on their way to a space are kept compressed in memory first, as long as there is room.
    pub(crate) zswap: bool,
    /// Memory that holds compressed pages, in bytes: of zram and zswap together.
    pub(crate) compressed: u64,
}

impl Swap {
    /// Looks at the machine.
    pub(crate) fn detect() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let spaces = spaces(&read("/proc/swaps"));
        let in_zram: u64 = spaces.iter().filter(|space| space.zram).map(zram_memory).sum();
        let in_zswap = meminfo(&read("/proc/meminfo"), "Zswap:").unwrap_or(0);
        let zswap = read("/sys/module/zswap/parameters/enabled").trim() == "Y" && !spaces.is_empty();
        Self { spaces, zswap, compressed: in_zram + in_zswap }
    }

    /// Whether there is room for more.
    pub(crate) fn has_room(&self) -> bool {
        self.spaces.iter().any(|space| space.used < space.size)
    }

    /// Size of all of it, in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.spaces.iter().map(|space| space.size).sum()
    }

    /// Whether any of it is on a disk.
    pub(crate) fn on_disk(&self) -> bool {
        self.spaces.iter().any(|space| !space.zram)
    }

    /// The memory that this much of what is in swap takes, in bytes. The kernel tells only how well all of it
    /// compresses, so each replica is taken for an average one.
    pub(crate) fn compressed_of(&self, swapped: u64) -> u64 {
        let used: u64 = self.spaces.iter().map(|space| space.used).sum();
        if used == 0 {
            return 0;
        }
        let share = u128::from(swapped) * u128::from(self.compressed) / u128::from(used);
        u64::try_from(share).unwrap_or(u64::MAX).min(swapped)
    }
}

fn spaces(text: &str) -> Vec<SwapSpace> {
    let space = |line: &str| {
        // From the end: a path may hold spaces, written as `\040`.
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [path, _kind, size, used, _priority] = fields[..] else { return None };
        let bytes = |kib: &str| kib.parse::<u64>().ok().map(|kib| kib << 10);
        let path = PathBuf::from(path.replace("\\040", " "));
        let zram = path.file_name()?.to_str()?.starts_with("zram");
        Some(SwapSpace { path, zram, size: bytes(size)?, used: bytes(used)? })
    };
    text.lines().skip(1).filter_map(space).collect()
}

/// Memory that a zram device takes, with what managing it costs.
fn zram_memory(space: &SwapSpace) -> u64 {
    let name = space.path.file_name().unwrap_or_default();
    let numbers = fs::read_to_string(Path::new("/sys/block").join(name).join("mm_stat")).unwrap_or_default();
    numbers.split_ascii_whitespace().nth(2).and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}

/// A line of `/proc/meminfo`, in bytes.
pub(crate) fn meminfo(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_ascii_whitespace().next()?.parse::<u64>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn knows_what_is_kept_in_memory_from_what_is_on_a_disk() {
        let text = "Filename\t\t\tType\t\tSize\t\tUsed\t\tPriority\n\
                    /dev/zram0                              partition\t2048\t\t1024\t\t100\n\
                    /var/my\\040swap                        file\t\t4096\t\t0\t\t-2\n";
        let spaces = spaces(text);
        assert_eq!(spaces.iter().map(|space| space.zram).collect::<Vec<_>>(), [true, false]);
        assert_eq!(spaces[1].path, Path::new("/var/my swap"));
        let swap = Swap { spaces, zswap: false, compressed: MIB / 2 };
        assert!(swap.has_room() && swap.on_disk());
        assert_eq!((swap.size(), swap.compressed_of(MIB / 2)), (6 * MIB, MIB / 4));
    }

    #[test]
    fn without_swap_there_is_no_room_and_nothing_compressed() {
        let swap = Swap::default();
        assert_eq!((swap.has_room(), swap.compressed_of(MIB)), (false, 0));
        assert_eq!(spaces("Filename\tType\tSize\tUsed\tPriority\nbroken line\n"), []);
    }

    #[test]
    fn reads_lines_of_meminfo() {
        assert_eq!(meminfo("MemTotal:  10 kB\nZswap:   2 kB\n", "Zswap:"), Some(2048));
        assert_eq!(meminfo("MemTotal:  10 kB\n", "Zswap:"), None);
    }
}
