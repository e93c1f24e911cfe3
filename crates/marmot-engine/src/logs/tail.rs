//! The last lines of a log, read from its end.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::layout::{LOG, OLD_LOG};

/// However many lines are asked for, no more than this is read.
const MAX_BYTES: u64 = 4 << 20;
const BLOCK: u64 = 64 << 10;

/// The last lines of the log in `dir`, going back into its rotated part when needed. Empty when there is none.
pub(crate) fn last_lines(dir: &Path, max_lines: usize) -> io::Result<Vec<String>> {
    let mut lines = match open(&dir.join(LOG))? {
        Some(file) => {
            let end = file.metadata()?.len();
            lines_before(&file, end, max_lines)?
        }
        None => Vec::new(),
    };
    if lines.len() < max_lines
        && let Some(old) = open(&dir.join(OLD_LOG))?
    {
        let end = old.metadata()?.len();
        let mut earlier = lines_before(&old, end, max_lines - lines.len())?;
        earlier.append(&mut lines);
        lines = earlier;
    }
    Ok(lines)
}

/// Opens a file that may not exist.
pub(super) fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The last `max_lines` lines before `end`.
pub(super) fn lines_before(file: &File, end: u64, max_lines: usize) -> io::Result<Vec<String>> {
    if max_lines == 0 || end == 0 {
        return Ok(Vec::new());
    }
    let mut start = end;
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    let mut newlines = 0usize;
    // One newline more than lines: the one before the first line tells that the line is whole.
    while start > 0 && newlines <= max_lines && end - start < MAX_BYTES {
        let length = BLOCK.min(start);
        start -= length;
        let mut block = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        file.read_exact_at(&mut block, start)?;
        newlines += block.iter().filter(|&&byte| byte == b'\n').count();
        blocks.push(block);
    }
    let mut bytes: Vec<u8> = blocks.into_iter().rev().flatten().collect();
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    let mut lines: Vec<&[u8]> = bytes.rsplit(|&byte| byte == b'\n').take(max_lines).collect();
    // The reading stopped within the first line.
    if start > 0 && lines.len() > 1 && newlines <= max_lines {
        lines.pop();
    }
    Ok(lines.into_iter().rev().map(|line| String::from_utf8_lossy(line).into_owned()).collect())
}
