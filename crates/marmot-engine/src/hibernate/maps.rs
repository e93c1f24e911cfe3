//! Which private memory of a process is resident: what `/proc/PID/smaps` and `/proc/PID/pagemap` say.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use crate::procfs::RawPid;

/// Numbers read from the page map at once.
const AT_ONCE: usize = 8192;
const PRESENT: u64 = 1 << 63;

/// Bytes of a page of memory.
pub(crate) fn page_size() -> u64 {
    rustix::param::page_size() as u64
}

/// The private mappings that hold something in memory, as ranges of page numbers in ascending order.
///
/// Those of files as well: what the process has written is its own, and what it only reads and no other process has
/// in memory takes as much of it. Advice passes over what others use, too.
///
/// # Errors
/// When the process has ended, or may not be looked at.
pub(crate) fn private(pid: RawPid) -> io::Result<Vec<Range<u64>>> {
    Ok(parse(&fs::read_to_string(format!("/proc/{pid}/smaps"))?, page_size()))
}

fn parse(smaps: &str, page_size: u64) -> Vec<Range<u64>> {
    let mut found = Vec::new();
    let mut mapping = None;
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        match (words.next(), words.next()) {
            // Memory that is locked stays, and special mappings have no flags that say so.
            (Some("VmFlags:"), _) if line.split_ascii_whitespace().any(|flag| flag == "lo") => {
                found.pop_if(|last| Some(&*last) == mapping.as_ref());
            }
            (Some("Rss:"), Some(kib)) if kib != "0" => found.extend(mapping.clone()),
            (Some(word), Some(rights)) if !word.ends_with(':') => {
                let private = rights.ends_with('p');
                mapping = private.then(|| range(word, page_size)).flatten();
            }
            _ => {}
        }
    }
    found
}

/// `START-END` in hexadecimal.
fn range(addresses: &str, page_size: u64) -> Option<Range<u64>> {
    let (start, end) = addresses.split_once('-')?;
    let page = |address| u64::from_str_radix(address, 16).ok().map(|address| address / page_size);
    Some(page(start)?..page(end)?)
}

/// Calls `each` with every page of these mappings, in ascending order, and whether it is in memory. What is not may be
/// in swap, in a file, or nowhere yet.
///
/// # Errors
/// When the process has ended, or may not be looked at.
pub(crate) fn walk(pid: RawPid, mappings: &[Range<u64>], mut each: impl FnMut(u64, bool)) -> io::Result<()> {
    let map = File::open(format!("/proc/{pid}/pagemap"))?;
    let mut buffer = vec![0; AT_ONCE * 8];
    for mapping in mappings {
        let mut page = mapping.start;
        while page < mapping.end {
            let wanted = usize::try_from(mapping.end - page).unwrap_or(AT_ONCE).min(AT_ONCE);
            let length = map.read_at(&mut buffer[..wanted * 8], page * 8)?;
            if length < 8 {
                break;
            }
            for entry in buffer[..length].as_chunks::<8>().0 {
                each(page, u64::from_ne_bytes(*entry) & PRESENT != 0);
                page += 1;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
55d0a000-55d0b000 rw-p 00000000 00:00 0                                  [heap]
Rss:                   4 kB
VmFlags: rd wr mr mw me ac
7f000000-7f002000 r--p 00000000 fe:00 1234                               /usr/lib/libc.so.6
Rss:                   0 kB
VmFlags: rd mr mw me
7f002000-7f003000 rw-p 00002000 fe:00 1234                               /usr/lib/with spaces: and.so
Rss:                   4 kB
VmFlags: rd wr mr mw me ac
7f004000-7f005000 rw-s 00000000 00:01 99                                 /dev/shm/x
Rss:                   4 kB
VmFlags: rd wr sh mr mw me ms
7f006000-7f007000 rw-p 00000000 00:00 0
Rss:                   4 kB
VmFlags: rd wr mr mw me lo ac
";

    #[test]
    fn takes_what_is_private_in_memory_and_not_locked() {
        assert_eq!(parse(SMAPS, 4096), [0x55d0a..0x55d0b, 0x7f002..0x7f003]);
        assert_eq!(parse("nonsense\n\n: 1\nRss: 4 kB\n", 4096), []);
    }

    #[test]
    fn sees_its_own_memory() {
        let memory = vec![1u8; 4 << 20];
        let own_pid = i32::try_from(std::process::id()).unwrap();
        let at = memory.as_ptr().addr() as u64 / page_size() + 1;
        let mappings = private(own_pid).unwrap();
        let mut seen = None;
        walk(own_pid, &mappings, |page, present| {
            if page == at {
                seen = Some(present);
            }
        })
        .unwrap();
        assert_eq!(seen, Some(true));
        assert_eq!(memory.len(), 4 << 20);
    }
}
