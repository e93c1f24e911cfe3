//! What a container prints, written to the replica's own log: it is still there when the container is gone.
//!
//! The engine keeps what is printed while this server is away. When it is asked again it tells from a whole second on, so
//! what was written before is recognised and left out.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;
use tokio_util::sync::CancellationToken;

use super::Container;
use crate::container::frames::Frames;
use crate::logs;
use crate::runtime::local::prepare::SECRETS;
use crate::shim::log::Log;

/// Lines by which what is told again is recognised.
const REMEMBERED: usize = 2000;
/// Engines tell what was printed a moment later, and this much later it may be written: so many seconds before the last
/// line was written there may be lines that were not told yet.
const LATER: i64 = 10;
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Longest line that is looked at as a whole.
const LONGEST_LINE: usize = 64 << 10;

/// Copies what a container prints until it has ended and everything is told, or until `stop`.
pub(in crate::runtime) async fn follow(
    container: Container,
    dir: PathBuf,
    log_bytes: u64,
    ended: CancellationToken,
    stop: CancellationToken,
) {
    let Ok((reader, writer)) = io::pipe() else { return };
    let masked = tokio::select! {
        () = stop.cancelled() => return,
        masked = masked(&container, &dir, &ended) => masked,
    };
    let Some(masked) = masked else { return };
    let mut log = Log::new(&dir, log_bytes, &masked);
    drop(masked);
    let copying = tokio::task::spawn_blocking(move || log.copy(reader));
    match pipe::Sender::from_owned_fd(writer.into()) {
        Ok(mut sink) => {
            let mut past = Past::read(&dir).await;
            tokio::select! {
                () = stop.cancelled() => {}
                () = copy_all(&container, &mut past, &mut sink, &ended) => {}
            }
        }
        Err(error) => tracing::warn!(container = container.id(), %error, "a container's output is not kept"),
    }
    let _ = copying.await;
}

/// What its log must not show: it is asked of the engine, since it is in no file of ours. `None`: nobody knows any more,
/// and nobody can say what it printed either.
async fn masked(container: &Container, dir: &Path, ended: &CancellationToken) -> Option<Vec<String>> {
    let names = &container.contained.secrets;
    let mut masked = Vec::new();
    let files = dir.join(SECRETS);
    let read = tokio::task::spawn_blocking(move || {
        let entries = std::fs::read_dir(files).into_iter().flatten().flatten();
        entries.filter_map(|entry| std::fs::read_to_string(entry.path()).ok()).collect::<Vec<_>>()
    });
    masked.extend(read.await.ok()?);
    while !names.is_empty() {
        let last_time = ended.is_cancelled();
        match container.engine.variables(container.id(), names).await {
            Ok(values) => {
                masked.extend(values);
                break;
            }
            Err(error) if last_time || !error.is_of_the_engine() => {
                tracing::warn!(container = container.id(), %error, "a container's output is not kept");
                return None;
            }
            Err(_) => tokio::select! {
                () = ended.cancelled() => {}
                () = tokio::time::sleep(ASK_AGAIN) => {}
            },
        }
    }
    Some(masked)
}

async fn copy_all(
    container: &Container,
    past: &mut Past,
    sink: &mut pipe::Sender,
    ended: &CancellationToken,
) {
    loop {
        // Looked at before it is asked: what it printed before it ended is then told in any case.
        let last_time = ended.is_cancelled();
        match copy(container, past, sink).await {
            Ok(()) if last_time => return,
            Ok(()) => {}
            Err(error) if last_time => {
                tracing::warn!(container = container.id(), %error, "the end of a container's output is lost");
                return;
            }
            Err(error) => tracing::debug!(container = container.id(), %error, "a container is asked again"),
        }
        tokio::select! {
            () = ended.cancelled() => {}
            () = tokio::time::sleep(ASK_AGAIN) => {}
        }
        past.begin_again();
    }
}

/// Copies what the engine tells until it stops telling.
async fn copy(container: &Container, past: &mut Past, sink: &mut pipe::Sender) -> io::Result<()> {
    let mut answer = container.engine.follow(container.id(), past.since).await.map_err(io::Error::other)?;
    let (mut frames, mut line) = (Frames::default(), Vec::new());
    while let Some(bytes) = answer.next().await.map_err(io::Error::other)? {
        frames.feed(&bytes);
        while let Some(payload) = frames.next() {
            for part in payload.split_inclusive(|&byte| byte == b'\n') {
                line.extend_from_slice(part);
                if part.ends_with(b"\n") || line.len() > LONGEST_LINE {
                    if past.is_new(&line) {
                        sink.write_all(&line).await?;
                    }
                    line.clear();
                }
            }
        }
    }
    if !line.is_empty() && past.is_new(&line) {
        sink.write_all(&line).await?;
    }
    Ok(())
}

/// What was written already.
#[derive(Debug, Default)]
struct Past {
    /// The second from which on the engine is asked to tell.
    since: i64,
    /// The last lines that were written, with the seconds they were written in.
    last: VecDeque<(i64, Vec<u8>)>,
    /// Of those, what the engine may tell again.
    again: VecDeque<Vec<u8>>,
}

impl Past {
    async fn read(dir: &Path) -> Self {
        let dir = dir.to_owned();
        let lines = tokio::task::spawn_blocking(move || logs::last_lines(&dir, REMEMBERED)).await;
        let mut past = Self::default();
        for line in lines.ok().and_then(Result::ok).unwrap_or_default() {
            let Some((stamp, text)) = line.split_once(' ') else { continue };
            if let Ok(stamp) = stamp.parse::<jiff::Timestamp>() {
                past.last.push_back((stamp.as_second(), text.as_bytes().to_vec()));
            }
        }
        past.begin_again();
        past
    }

    /// The engine is asked once more.
    fn begin_again(&mut self) {
        self.since = self.last.back().map_or(0, |(second, _)| *second - LATER);
        let again = self.last.iter().filter(|(second, _)| *second >= self.since);
        self.again = again.map(|(_, line)| line.clone()).collect();
    }

    /// Whether a line was not written yet.
    fn is_new(&mut self, line: &[u8]) -> bool {
        let text = line.trim_ascii_end();
        if let Some(at) = self.again.iter().position(|known| known.trim_ascii_end() == text) {
            self.again.drain(..=at);
            return false;
        }
        // What is told again comes first.
        self.again.clear();
        if self.last.len() >= REMEMBERED {
            self.last.pop_front();
        }
        self.last.push_back((jiff::Timestamp::now().as_second(), text.to_vec()));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_again_is_left_out_once_and_what_is_new_is_not() {
        let mut past = Past::default();
        for line in ["one", "two", "two", "three"] {
            past.last.push_back((100, line.into()));
        }
        past.last.push_front((99, "zero".into()));
        past.begin_again();
        assert_eq!(past.since, 90);
        let told = ["two\n", "two\n", "three\n", "two\n", "four\n"];
        let new: Vec<bool> = told.iter().map(|line| past.is_new(line.as_bytes())).collect();
        assert_eq!(new, [false, false, false, true, true], "what was printed before is not told again");
    }
}
