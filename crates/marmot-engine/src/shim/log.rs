//! Writes what a program prints: a timestamp before each line, bounded in length, rotated by size.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::layout::{LOG, OLD_LOG};

/// What of a line is beyond this is left out.
const LONGEST_LINE: usize = 8 << 10;
/// A program that prints more than this in a second waits for the next one, as it would for a slow terminal.
const BYTES_PER_SECOND: usize = 8 << 20;

/// Shorter secrets are not looked for: they would be found in half of all words.
const SHORTEST_MASKED: usize = 6;
/// What is shown in the place of a secret.
const MASK: &[u8] = b"***";

/// The log of a replica.
pub(crate) struct Log {
    /// What is never shown, longest first, so that a secret inside of another does not leave its rest.
    masked: Vec<Vec<u8>>,
    /// How much of a line is held: enough that a secret across the cut is still recognised.
    room: usize,
    path: PathBuf,
    file: Option<File>,
    size: u64,
    max_size: u64,
    line: Vec<u8>,
    /// Bytes of the present line that are left out.
    cut: usize,
    /// Lines that could not be written; said in the log as soon as it can be written again.
    lost: u64,
}

impl Log {
    /// The log in `dir`, at most `max_bytes` long with its rotated part, which never shows what is `masked`.
    pub(crate) fn new(dir: &Path, max_bytes: u64, masked: &[String]) -> Self {
        let path = dir.join(LOG);
        // One of several lines is printed as several.
        let lines = masked.iter().flat_map(|secret| secret.lines()).map(str::trim);
        let mut masked: Vec<Vec<u8>> =
            lines.filter(|line| line.len() >= SHORTEST_MASKED).map(|line| line.as_bytes().to_vec()).collect();
        masked.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self {
            room: LONGEST_LINE + masked.first().map_or(0, Vec::len),
            masked,
            size: fs::metadata(&path).map_or(0, |meta| meta.len()),
            path,
            file: None,
            max_size: max_bytes / 2,
            line: Vec::new(),
            cut: 0,
            lost: 0,
        }
    }

    /// Copies everything from `pipe` until its end. Never stops reading because of what the disk does.
    pub(crate) fn copy(&mut self, mut pipe: impl Read) {
        let mut buffer = vec![0; 64 << 10];
        let (mut second, mut in_second) = (Instant::now(), 0);
        loop {
            match pipe.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => {
                    self.add(&buffer[..length]);
                    in_second += length;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
            if second.elapsed() >= Duration::from_secs(1) {
                (second, in_second) = (Instant::now(), 0);
            } else if in_second > BYTES_PER_SECOND {
                thread::sleep(Duration::from_secs(1).saturating_sub(second.elapsed()));
            }
        }
        if !self.line.is_empty() {
            self.end_line();
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (text, ended) = match part.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (part, false),
            };
            let room = self.room - self.line.len();
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            self.cut += text.len().saturating_sub(room);
            if ended {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let now = jiff::Timestamp::now();
        for secret in &self.masked {
            mask(&mut self.line, secret);
        }
        if self.cut > 0 {
            self.cut_what_begins_at_the_end();
        }
        self.cut += self.line.len().saturating_sub(LONGEST_LINE);
        self.line.truncate(LONGEST_LINE);
        let mut record = Vec::with_capacity(self.line.len() + 64);
        if self.lost > 0 {
            record.extend_from_slice(
                format!("{now:.3} ({} lines could not be written)\n", self.lost).as_bytes(),
            );
        }
        record.extend_from_slice(format!("{now:.3} ").as_bytes());
        record.append(&mut self.line);
        if self.cut > 0 {
            record.extend_from_slice(format!(" … ({} more bytes)", self.cut).as_bytes());
            self.cut = 0;
        }
        record.push(b'\n');
        match self.write(&record) {
            Ok(()) => self.lost = 0,
            Err(_) => {
                self.lost += 1;
                self.file = None;
            }
        }
    }

    /// What is masked makes a line shorter: then the place where it was cut shows, and a secret may begin there.
    fn cut_what_begins_at_the_end(&mut self) {
        let begun = |secret: &Vec<u8>| {
            (1..=secret.len()).rev().find(|length| self.line.ends_with(&secret[..*length]))
        };
        let begun = self.masked.iter().filter_map(begun).max().unwrap_or(0);
        self.cut += begun;
        self.line.truncate(self.line.len() - begun);
    }

    fn write(&mut self, record: &[u8]) -> io::Result<()> {
        if self.size + record.len() as u64 > self.max_size && self.size > 0 {
            self.file = None;
            fs::rename(&self.path, self.path.with_file_name(OLD_LOG))?;
            self.size = 0;
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(OpenOptions::new().create(true).append(true).open(&self.path)?),
        };
        file.write_all(record)?;
        self.size += record.len() as u64;
        Ok(())
    }
}

/// Hides each place where `secret` is in `line`.
fn mask(line: &mut Vec<u8>, secret: &[u8]) {
    let mut from = 0;
    while let Some(at) = line[from..].windows(secret.len()).position(|window| window == secret) {
        let at = from + at;
        line.splice(at..at + secret.len(), MASK.iter().copied());
        from = at + MASK.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown_wherever_they_are_in_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let key = "-----BEGIN KEY-----\nabcdefghij\n";
        let masked = ["hunter2", "hunter2-longer", "ab", key].map(str::to_owned);
        let across = format!("{}hunter2-longer", "x".repeat(LONGEST_LINE - 3));
        let text = format!("ab hunter2hunter2 (hunter2-longer)\nabcdefghij\n{across}\n");
        let mut log = Log::new(dir.path(), 1 << 20, &masked);
        // In pieces, as a pipe gives them.
        text.as_bytes().chunks(5).for_each(|piece| log.add(piece));
        let text = written(dir.path());
        let lines: Vec<&str> = text.lines().map(|line| line.split_once(' ').unwrap().1).collect();
        assert_eq!(lines[..2], ["ab ****** (***)", "***"]);
        assert!(lines[2].ends_with("xxx***"), "{}", &lines[2][LONGEST_LINE - 20..]);
        assert!(!text.contains("hunter"));
    }

    #[test]
    fn a_line_full_of_secrets_does_not_end_with_half_of_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::new(dir.path(), 1 << 20, &["hunter2-longer".to_owned()]);
        log.add("hunter2-longer".repeat(LONGEST_LINE).as_bytes());
        log.add(b"\n");
        let text = written(dir.path());
        assert!(!text.contains('h') && text.contains("***"), "{text}");
    }

    fn written(dir: &Path) -> String {
        fs::read_to_string(dir.join(LOG)).unwrap()
    }

    #[test]
    fn long_lines_are_cut_and_the_last_line_needs_no_end() {
        let dir = tempfile::tempdir().unwrap();
        let text = format!("short\n{}\nlast", "x".repeat(LONGEST_LINE + 5));
        Log::new(dir.path(), 1 << 20, &[]).copy(text.as_bytes());
        let log = written(dir.path());
        let lines: Vec<&str> = log.lines().map(|line| line.split_once(' ').unwrap().1).collect();
        assert_eq!(lines.len(), 3);
        assert_eq!((lines[0], lines[2]), ("short", "last"));
        assert!(lines[1].ends_with("x … (5 more bytes)"));
    }

    /// Says the same line over and over.
    struct Flood(usize);

    impl Read for Flood {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let line = b"a line of this flood\n";
            let room = (buffer.len() / line.len()).min(self.0.div_ceil(line.len()));
            buffer.chunks_exact_mut(line.len()).take(room).for_each(|part| part.copy_from_slice(line));
            self.0 = self.0.saturating_sub(room * line.len());
            Ok(room * line.len())
        }
    }

    #[test]
    fn never_grows_beyond_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = std::env::var("MARMOT_LOG_BYTES").map_or(100_000, |bytes| bytes.parse().unwrap());
        Log::new(dir.path(), 10_000, &[]).copy(Flood(bytes));
        let size = |name| fs::metadata(dir.path().join(name)).unwrap().len();
        assert!(size(LOG) <= 5_000 && size(OLD_LOG) <= 5_000);
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_the_program_is_not_held_up() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("gone");
        let mut log = Log::new(&gone, 1 << 20, &[]);
        log.copy("one\ntwo\n".as_bytes());
        fs::create_dir(&gone).unwrap();
        log.copy("three\n".as_bytes());
        let text = written(&gone);
        assert!(text.contains("(2 lines could not be written)") && text.ends_with(" three\n"), "{text}");
    }
}
