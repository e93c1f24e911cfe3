//! The log of a build: lines with their time, readable while it is written, bounded whatever is written to it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Longer lines are cut. Nobody reads them, and browsers choke on them.
const LINE_BYTES: usize = 4096;

/// A line of a secret that is shorter is not looked for by itself: it would be found in half of all lines.
const SHORTEST_LINE_MASKED: usize = 6;

/// How many lines a failure shows.
const LAST_LINES: usize = 20;

/// A log that several writers may write to.
#[derive(Debug)]
pub(super) struct BuildLog {
    inner: Mutex<Inner>,
    /// What is shown as `***`, longest first.
    secrets: Vec<String>,
}

#[derive(Debug)]
struct Inner {
    file: File,
    /// How many bytes programs may still write. Marmot's own lines always find their way in.
    left: u64,
    omitted: u64,
    /// The last lines of the current step.
    last: VecDeque<String>,
    step: Option<Instant>,
}

impl BuildLog {
    /// Starts the log in `path`, in the place of an earlier one. Programs may write `limit` bytes to it; `secrets`
    /// are never shown.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub(super) fn create(path: &Path, limit: u64, mut secrets: Vec<String>) -> io::Result<Self> {
        // One of several lines is printed as several.
        let lines = secrets.iter().flat_map(|secret| secret.lines()).map(str::trim);
        let lines: Vec<_> =
            lines.filter(|line| line.len() >= SHORTEST_LINE_MASKED).map(str::to_owned).collect();
        secrets.extend(lines);
        secrets.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        secrets.dedup();
        let inner =
            Inner { file: File::create(path)?, left: limit, omitted: 0, last: VecDeque::new(), step: None };
        Ok(Self { inner: Mutex::new(inner), secrets })
    }

    /// Ends the step before, if any, and begins the next one.
    pub(super) fn step(&self, name: &str) {
        self.end_step();
        let mut inner = self.lock();
        inner.last.clear();
        inner.write(&format!("==> {name}"));
        inner.step = Some(Instant::now());
    }

    /// Ends the current step, if any, with its duration.
    pub(super) fn end_step(&self) {
        let mut inner = self.lock();
        if let Some(began) = inner.step.take() {
            inner.note_omitted();
            inner.write(&format!("    ({:.1} s)", began.elapsed().as_secs_f64()));
        }
    }

    /// Writes a line of Marmot's own.
    pub(super) fn say(&self, text: &str) {
        let text = self.presentable(text.as_bytes());
        let mut inner = self.lock();
        inner.note_omitted();
        inner.write(&text);
        inner.remember(text);
    }

    /// Writes a line of a program's output, while there is room.
    pub(super) fn output(&self, line: &[u8]) {
        let text = self.presentable(line);
        let mut inner = self.lock();
        let cost = text.len() as u64 + 28;
        if inner.left >= cost {
            inner.left -= cost;
            inner.write(&text);
        } else {
            inner.left = 0;
            inner.omitted += 1;
        }
        inner.remember(text);
    }

    /// The last lines of the current step, oldest first.
    pub(super) fn last_lines(&self) -> Vec<String> {
        self.lock().last.iter().cloned().collect()
    }

    /// `text` without the secrets.
    pub(super) fn masked(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
    }

    fn presentable(&self, line: &[u8]) -> String {
        let text: String = String::from_utf8_lossy(line)
            .chars()
            .filter_map(|letter| match letter {
                '\0' => None,
                '\n' | '\r' => Some(' '),
                other => Some(other),
            })
            .collect();
        let mut text = self.masked(text.trim_end());
        if line.len() > LINE_BYTES {
            text.truncate(text.len() - self.begun_at_the_end_of(&text));
        }
        if text.len() > LINE_BYTES {
            let rest = text.len() - LINE_BYTES;
            text.truncate(text.floor_char_boundary(LINE_BYTES));
            text.push_str(&format!(" … ({rest} bytes more)"));
        }
        text
    }

    /// How much of `text`, which was cut, is the beginning of a secret.
    fn begun_at_the_end_of(&self, text: &str) -> usize {
        // Half a letter at the cut has become this.
        let whole = text.trim_end_matches(char::REPLACEMENT_CHARACTER);
        let begun = |secret: &String| {
            let ends = secret.char_indices().map(|(at, letter)| at + letter.len_utf8());
            ends.rev().find(|end| whole.ends_with(&secret[..*end]))
        };
        let longest = self.secrets.iter().filter_map(begun).max();
        longest.map_or(0, |longest| longest + text.len() - whole.len())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn write(&mut self, text: &str) {
        // A disk that is full fails the build elsewhere, with a better message than a missing line.
        let _ = writeln!(self.file, "{:.3} {text}", jiff::Timestamp::now());
    }

    fn note_omitted(&mut self) {
        if self.omitted > 0 {
            let omitted = std::mem::take(&mut self.omitted);
            self.write(&format!("… {omitted} lines left out: the log of this build has become too long"));
        }
    }

    fn remember(&mut self, text: String) {
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        self.last.push_back(text);
    }
}

/// Cuts a program's output into lines. Holds no more than one bounded line, however long the real one is.
#[derive(Debug, Default)]
pub(super) struct Lines {
    line: Vec<u8>,
}

impl Lines {
    /// Gives each line that ends in `bytes` to `each`. A lone carriage return ends a line as well: progress bars
    /// draw over themselves.
    pub(super) fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8])) {
        for &byte in bytes {
            match byte {
                b'\n' | b'\r' => {
                    if byte == b'\n' || !self.line.is_empty() {
                        each(&self.line);
                    }
                    self.line.clear();
                }
                // One byte more than fits shows that the line was cut.
                _ if self.line.len() <= LINE_BYTES => self.line.push(byte),
                _ => {}
            }
        }
    }

    /// What is left when the output ends.
    pub(super) fn end(self, mut each: impl FnMut(&[u8])) {
        if !self.line.is_empty() {
            each(&self.line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(limit: u64, secrets: &[&str], write: impl FnOnce(&BuildLog)) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let secrets = secrets.iter().map(|&secret| secret.to_owned()).collect();
        write(&BuildLog::create(&path, limit, secrets).unwrap());
        let text = std::fs::read_to_string(path).unwrap();
        text.lines()
            .map(|line| {
                let (time, text) = line.split_once(' ').unwrap();
                time.parse::<jiff::Timestamp>().unwrap();
                text.to_owned()
            })
            .collect()
    }

    #[test]
    fn output_is_bounded_and_says_so_and_our_own_lines_still_get_in() {
        let lines = written(100, &[], |log| {
            log.step("Installing");
            (0..1000).for_each(|_| log.output(b"spam spam"));
            log.say("Failed.");
        });
        assert_eq!(
            lines,
            [
                "==> Installing",
                "spam spam",
                "spam spam",
                "… 998 lines left out: the log of this build has become too long",
                "Failed.",
            ]
        );
    }

    #[test]
    fn secrets_nul_and_invalid_text_do_not_get_through() {
        let lines = written(1 << 20, &["hunter2", "hunter2-long"], |log| {
            log.output(b"password hunter2-long, hunter2");
            log.output(b"nul\0 and \xff");
        });
        assert_eq!(lines, ["password ***, ***", "nul and \u{fffd}"]);
    }

    #[test]
    fn secrets_of_several_lines_and_those_across_the_cut_do_not_get_through() {
        let key = "-----BEGIN KEY-----\nabcdefghij\nxyz\n";
        let lines = written(1 << 20, &[key, "hunter2-ünïcödé"], |log| {
            let mut lines = Lines::default();
            for end in 0..20 {
                lines.feed(b"hunter2-\xc3\xbc".repeat(10).as_slice(), |_| {});
                lines.feed(b"\n", |_| {});
                lines.feed(&vec![b'_'; LINE_BYTES - end], |_| {});
                lines.feed("hunter2-ünïcödé hunter2-ünïcödé\n".as_bytes(), |line| log.output(line));
            }
            log.output(b"abcdefghij");
        });
        assert_eq!(lines.last().map(String::as_str), Some("***"));
        assert!(lines.len() == 21 && lines.iter().all(|line| !line.contains("hu")), "{lines:?}");
    }

    #[test]
    fn lines_are_cut_at_line_feeds_and_carriage_returns_and_in_length() {
        let mut seen = Vec::new();
        let mut lines = Lines::default();
        for chunk in [&b"one\r\ntw"[..], b"o\r50%\r100%\n\n", &vec![b'x'; 1 << 20], b"\nend"] {
            lines.feed(chunk, |line| seen.push(String::from_utf8_lossy(line).into_owned()));
        }
        lines.end(|line| seen.push(String::from_utf8_lossy(line).into_owned()));
        let lengths: Vec<_> = seen.iter().map(String::len).collect();
        assert_eq!(seen[..2], ["one".to_owned(), String::new()]);
        assert_eq!(lengths, [3, 0, 3, 3, 4, 0, LINE_BYTES + 1, 3]);
    }
}
