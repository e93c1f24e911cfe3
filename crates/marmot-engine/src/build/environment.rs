//! What was installed for an app, and the place in the cache that keeps it: once for everything that decides about it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use marmot_core::id::EnvironmentId;
use sha2::{Digest as _, Sha256};
use tokio::sync::OwnedMutexGuard;

use super::collect;
use super::contract::BuildContext;
use super::process::{Interrupted, Job, Program};
use super::view::View;

/// What was installed, as far as starting the app is concerned.
#[derive(Debug, Default)]
pub(super) struct Environment {
    /// Where its programs are; relative to the code where they are part of it.
    pub(super) bins: Vec<PathBuf>,
    /// Variables of the programs that use it.
    pub(super) variables: BTreeMap<String, String>,
    /// What must be readable for it to work.
    pub(super) reads: Vec<PathBuf>,
    /// The language and its version, for people.
    pub(super) told: String,
    /// What can be asked for, where that is not a program.
    pub(super) packages: Option<BTreeSet<String>>,
}

impl Environment {
    /// Whether what a command needs is there: a program, or a package where commands need packages.
    pub(super) fn brings(&self, code: &Path, needed: &str) -> bool {
        match &self.packages {
            Some(packages) => packages.contains(needed),
            None => self.bins.iter().any(|bin| code.join(bin).join(needed).exists()),
        }
    }

    /// A program that finds what is installed, and sees nothing but that and the system.
    pub(super) fn program(&self, path: impl Into<PathBuf>, code: &Path) -> Program {
        let program =
            self.bins.iter().fold(Program::new(path), |program, bin| program.path_first(&code.join(bin)));
        let variables = self.variables.iter().map(|(name, value)| (name.clone(), value.clone()));
        let view = View::default().reads(self.reads.iter().map(PathBuf::as_path));
        program.envs(&variables.collect::<Vec<_>>()).sees(view)
    }
}

/// The name of an environment: the same for everything that decides what is in it.
pub(super) struct Key(Sha256);

impl Key {
    /// Environments may be shared by builds of the same owner.
    pub(super) fn of(owner: EnvironmentId) -> Self {
        Self(Sha256::new()).with(owner.to_string())
    }

    pub(super) fn with(mut self, part: impl AsRef<[u8]>) -> Self {
        let part = part.as_ref();
        self.0.update((part.len() as u64).to_le_bytes());
        self.0.update(part);
        self
    }

    /// With the text of this file, which need not be there.
    pub(super) fn with_file(self, path: &Path) -> io::Result<Self> {
        match std::fs::read(path) {
            Ok(text) => Ok(self.with(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(self.with("")),
            Err(error) => Err(error),
        }
    }

    pub(super) fn name(self) -> String {
        self.0.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The place of an environment in the cache, which nobody else changes while this is held.
pub(super) struct Place {
    pub(super) dir: PathBuf,
    _lock: OwnedMutexGuard<()>,
}

impl Place {
    /// Waits for the place that `key` names.
    pub(super) async fn hold(context: &BuildContext, job: &Job, key: Key) -> Result<Self, Interrupted> {
        let dir = context.cache_dir.join("envs").join(key.name());
        tokio::select! {
            lock = context.locks.hold(&dir) => Ok(Self { dir, _lock: lock }),
            () = job.cancel.cancelled() => Err(Interrupted::Cancelled),
        }
    }

    /// Whether the environment is whole; then it is noted that it is of use.
    pub(super) fn is_whole(&self) -> io::Result<bool> {
        // Written last: with it, the environment is whole.
        let whole = self.dir.join(collect::USED).is_file();
        if whole {
            collect::note_use(&self.dir)?;
        }
        Ok(whole)
    }

    /// Begins anew: what is there without being whole is what a crash left. It goes unless it is finished.
    pub(super) fn begin(&self) -> io::Result<Unfinished> {
        remove(&self.dir)?;
        std::fs::create_dir_all(&self.dir)?;
        Ok(Unfinished(Some(self.dir.clone())))
    }
}

/// An environment that goes unless it is finished.
pub(super) struct Unfinished(Option<PathBuf>);

impl Unfinished {
    pub(super) fn finish(mut self) -> io::Result<()> {
        if let Some(dir) = &self.0 {
            collect::note_use(dir)?;
        }
        self.0 = None;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(dir) = self.0.take() {
            // What cannot be removed now is removed by the next build, which finds no marker.
            let _ = remove(&dir);
        }
    }
}

/// Removes a directory with everything in it, if it exists.
pub(super) fn remove(dir: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The cache of packages that code of this owner's builds may have run beside. Its use is noted beside what programs
/// of builds write: nothing of theirs decides about it.
pub(super) fn own_cache(context: &BuildContext, owner: EnvironmentId) -> io::Result<PathBuf> {
    let own = context.cache_dir.join("built-packages").join(owner.to_string());
    std::fs::create_dir_all(&own)?;
    collect::note_use(&own)?;
    Ok(own)
}

/// What the operator's variables name of this machine, such as certificates and directories with packages.
pub(super) fn named_paths(context: &BuildContext) -> impl Iterator<Item = PathBuf> + '_ {
    let values = context.environment.iter().flat_map(|(_, value)| value.split([',', ' ']));
    values
        .map(|value| Path::new(value.trim_start_matches("file://")))
        .filter(|path| path.is_absolute())
        .map(Path::to_owned)
}

pub(super) fn disk_is_full(said: &str) -> bool {
    said.contains("No space left on device") || said.contains("os error 28") || said.contains("ENOSPC")
}
