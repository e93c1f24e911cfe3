//! Reading logs: the last lines of an app or a build, and what is added to them.
//!
//! Logs are files in the data directory, so they can be read while a replica runs, after it is gone, and after a
//! restart of the server. Nothing here is told of new lines by those who write them: the kernel notifies.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use futures_util::Stream;
use futures_util::stream;
use marmot_core::AppName;
use marmot_core::id::{BuildId, ReplicaId, RevisionId};

use crate::layout::{LOG, LOG_DONE, Layout};

mod cursor;
mod tail;
mod watch;

use cursor::Cursor;
pub(crate) use tail::last_lines;
use watch::Watch;

/// Reads the logs below a data directory.
#[derive(Debug, Clone)]
pub struct Logs {
    layout: Layout,
}

/// Beside the log of a replica that is gone: which revision it ran.
pub(crate) const REVISION: &str = "revision";

/// A line that was written to a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Who wrote it: `REPLICA-ID/app`.
    pub source: String,
    /// The line, without its end: `TIMESTAMP text`. It may hold control characters.
    pub text: String,
}

impl Logs {
    /// The logs below this data directory. Nothing is read yet.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self { layout: Layout::new(data_dir) }
    }

    /// The last lines (at most `max_lines` each) of an app's replicas, those that are gone included, by
    /// `REPLICA-ID/app`. Empty when the app never ran. Bytes that are not UTF-8 are replaced.
    pub async fn app(&self, app: &AppName, max_lines: usize) -> io::Result<BTreeMap<String, Vec<String>>> {
        let replicas = self.layout.replicas(app);
        off_the_reactor(move || {
            let read = |(id, dir): (ReplicaId, PathBuf)| Ok((source(id), last_lines(&dir, max_lines)?));
            replica_dirs(&replicas)?.into_iter().map(read).collect()
        })
        .await?
    }

    /// Which revisions those replicas of an app ran that are gone and whose logs are kept.
    pub async fn revisions_of_the_gone(&self, app: &AppName) -> io::Result<BTreeMap<ReplicaId, RevisionId>> {
        let replicas = self.layout.replicas(app);
        off_the_reactor(move || {
            let ran = |(id, dir): (ReplicaId, PathBuf)| {
                let text = fs::read_to_string(dir.join(REVISION)).ok()?;
                Some((id, text.trim().parse().ok()?))
            };
            Ok(replica_dirs(&replicas)?.into_iter().filter_map(ran).collect())
        })
        .await?
    }

    /// The last lines of an app's replicas, then every new one, also of replicas that are started later. Ends only
    /// when it is dropped, or when the data directory can no longer be watched.
    pub fn follow_app(
        &self,
        app: &AppName,
        max_lines: usize,
    ) -> impl Stream<Item = LogLine> + Send + 'static + use<> {
        follow(Following {
            watched: Watched::App { replicas: self.layout.replicas(app), dirs: self.layout.apps() },
            max_lines,
            cursors: BTreeMap::new(),
        })
    }

    /// The last lines of a build's log. Empty when it has none yet.
    pub async fn build(&self, build: BuildId, max_lines: usize) -> io::Result<Vec<String>> {
        let dir = self.layout.build(build);
        off_the_reactor(move || last_lines(&dir, max_lines)).await?
    }

    /// A build's log from its beginning, as it is written. Ends when the build has ended.
    pub fn follow_build(&self, build: BuildId) -> impl Stream<Item = String> + Send + 'static + use<> {
        use futures_util::StreamExt;
        follow(Following {
            watched: Watched::Build { dir: self.layout.build(build), dirs: self.layout.builds() },
            max_lines: usize::MAX,
            cursors: BTreeMap::new(),
        })
        .map(|line| line.text)
    }

    /// Removes the logs of an app whose launcher is gone. Its replicas must be gone already.
    pub async fn forget(&self, app: &AppName) -> io::Result<()> {
        let dir = self.layout.app(app);
        off_the_reactor(move || match fs::remove_dir_all(dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
        .await?
    }
}

fn source(replica: ReplicaId) -> String {
    format!("{replica}/app")
}

/// The directories of the replicas, those that are gone included, oldest first.
pub(crate) fn replica_dirs(replicas: &Path) -> io::Result<BTreeMap<ReplicaId, PathBuf>> {
    let entries = match fs::read_dir(replicas) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    };
    let mut dirs = BTreeMap::new();
    for entry in entries {
        let entry = entry?;
        if let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            dirs.insert(id, entry.path());
        }
    }
    Ok(dirs)
}

/// Reading may wait for a disk, which must not stop the threads that serve.
async fn off_the_reactor<T: Send + 'static>(read: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(read).await.map_err(io::Error::other)
}

/// What is followed, and the directory above it that always exists.
enum Watched {
    App { replicas: PathBuf, dirs: PathBuf },
    Build { dir: PathBuf, dirs: PathBuf },
}

struct Following {
    watched: Watched,
    max_lines: usize,
    cursors: BTreeMap<String, Cursor>,
}

/// What one look at the files gave.
struct Look {
    lines: VecDeque<LogLine>,
    /// More can be read without waiting.
    more: bool,
    /// Nothing will ever be added.
    ended: bool,
}

impl Following {
    /// Reads what is new. Watches before it reads, so that a line written in between is not missed.
    fn look(&mut self, watch: &Watch) -> io::Result<Look> {
        let mut ended = false;
        let dirs: Vec<(String, PathBuf)> = match &self.watched {
            Watched::App { replicas, dirs } => {
                watch.add_deepest(dirs, replicas)?;
                replica_dirs(replicas)?.into_iter().map(|(id, dir)| (source(id), dir)).collect()
            }
            Watched::Build { dir, dirs } => {
                watch.add_deepest(dirs, dir)?;
                ended = dir.join(LOG_DONE).exists();
                vec![(String::new(), dir.clone())]
            }
        };
        self.cursors.retain(|source, _| dirs.iter().any(|(known, _)| known == source));
        let mut look = Look { lines: VecDeque::new(), more: false, ended };
        for (source, dir) in dirs {
            watch.add(&dir)?;
            let path = dir.join(LOG);
            let cursor = match self.cursors.get_mut(&source) {
                Some(cursor) => cursor,
                None => {
                    let Some(opened) = Cursor::open(&path, self.max_lines)? else { continue };
                    self.cursors.entry(source.clone()).or_insert(opened)
                }
            };
            look.more |= cursor.read(&path, |text| {
                look.lines.push_back(LogLine { source: source.clone(), text });
            })?;
        }
        Ok(look)
    }
}

/// Looks, hands out what is new, waits for the kernel's word that something changed, and looks again.
fn follow(following: Following) -> impl Stream<Item = LogLine> + Send + 'static {
    struct State {
        following: Following,
        watch: Option<Watch>,
        last: Look,
        looked: bool,
    }
    let state = State {
        following,
        watch: None,
        last: Look { lines: VecDeque::new(), more: false, ended: false },
        looked: false,
    };
    stream::unfold(state, async |mut state| {
        loop {
            if let Some(line) = state.last.lines.pop_front() {
                return Some((line, state));
            }
            if state.last.ended && !state.last.more {
                return None;
            }
            let watch = match state.watch.take() {
                Some(watch) => watch,
                None => Watch::new().inspect_err(warn_once).ok()?,
            };
            if state.looked && !state.last.more {
                watch.changed().await.ok()?;
            }
            let mut following = state.following;
            let (following, watch, look) = off_the_reactor(move || {
                let look = following.look(&watch);
                (following, watch, look)
            })
            .await
            .ok()?;
            let last = look.inspect_err(warn_once).ok()?;
            state = State { following, watch: Some(watch), last, looked: true };
        }
    })
}

fn warn_once(error: &io::Error) {
    tracing::warn!(%error, "a log cannot be followed");
}
