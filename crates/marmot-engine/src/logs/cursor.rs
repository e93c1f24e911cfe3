//! A place in a log that grows and is rotated.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use super::tail;
use crate::layout::OLD_LOG;

/// Read at one time, so that a flood neither fills the memory nor starves other logs.
const CHUNK: usize = 256 << 10;
/// A line that has no end by then is handed out in pieces.
const LONGEST_LINE: usize = 64 << 10;

pub(super) struct Cursor {
    file: File,
    offset: u64,
    /// The beginning of a line whose end is not there yet.
    partial: Vec<u8>,
    /// Lines before the place where reading goes on; handed out first.
    before: Vec<String>,
}

impl Cursor {
    /// Stands so that the last `max_lines` whole lines are read first; `usize::MAX`: from the beginning.
    pub(super) fn open(path: &Path, max_lines: usize) -> io::Result<Option<Self>> {
        let Some(file) = tail::open(path)? else { return Ok(None) };
        if max_lines == usize::MAX {
            return Ok(Some(Self { file, offset: 0, partial: Vec::new(), before: Vec::new() }));
        }
        let offset = end_of_last_line(&file)?;
        let mut before = tail::lines_before(&file, offset, max_lines)?;
        if before.len() < max_lines
            && let Some(old) = tail::open(&path.with_file_name(OLD_LOG))?
        {
            let end = old.metadata()?.len();
            let mut earlier = tail::lines_before(&old, end, max_lines - before.len())?;
            earlier.append(&mut before);
            before = earlier;
        }
        Ok(Some(Self { file, offset, partial: Vec::new(), before }))
    }

    /// Hands out the lines that are new. True when there is more to read at once.
    pub(super) fn read(&mut self, path: &Path, mut line: impl FnMut(String)) -> io::Result<bool> {
        self.before.drain(..).for_each(&mut line);
        let mut buffer = vec![0; CHUNK];
        let length = self.file.read_at(&mut buffer, self.offset)?;
        self.offset += length as u64;
        for &byte in &buffer[..length] {
            if byte != b'\n' {
                self.partial.push(byte);
            }
            if byte == b'\n' || self.partial.len() >= LONGEST_LINE {
                line(String::from_utf8_lossy(&self.partial).into_owned());
                self.partial.clear();
            }
        }
        if length > 0 {
            return Ok(true);
        }
        self.go_on_after_rotation(path)
    }

    /// The file under this name is another one by now: what was read is complete, the new one is read from its start.
    fn go_on_after_rotation(&mut self, path: &Path) -> io::Result<bool> {
        let Some(file) = tail::open(path)? else { return Ok(false) };
        let (old, new) = (self.file.metadata()?, file.metadata()?);
        if (old.dev(), old.ino()) == (new.dev(), new.ino()) {
            return Ok(false);
        }
        *self = Self { file, offset: 0, partial: Vec::new(), before: Vec::new() };
        Ok(true)
    }
}

/// Where the last whole line ends.
fn end_of_last_line(file: &File) -> io::Result<u64> {
    let end = file.metadata()?.len();
    let start = end.saturating_sub(LONGEST_LINE as u64);
    let mut bytes = vec![0; usize::try_from(end - start).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, start)?;
    Ok(match bytes.iter().rposition(|&byte| byte == b'\n') {
        Some(at) => start + at as u64 + 1,
        None => start,
    })
}
