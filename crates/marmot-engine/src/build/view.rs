//! What a program of a build may see and change, where it is shut off from the machine.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::{Path, PathBuf};

use crate::confine::{Confiner, Inside, Network};
use crate::shim::spec::Sandbox;

/// The user and group that programs of builds become where the server is root. Like those of replicas, it belongs to
/// nobody. Builds share it, since they share caches; from each other's processes and files their views keep them.
const USER: u32 = 1_999_999_999;

/// What a program reaches of other machines.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reaches<'a> {
    /// Nothing: it has a network for itself.
    Nothing,
    /// What can be reached from where it is started.
    What {
        /// Where that says how names are resolved; `None`: as the machine does.
        resolv_conf: Option<&'a Path>,
    },
}

/// The files that a program may see, beside the system's own. Everything else does not exist for it.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    own: Vec<PathBuf>,
    reads: Vec<PathBuf>,
}

impl View {
    /// It may change these directories.
    pub(super) fn owns<'a>(mut self, dirs: impl IntoIterator<Item = &'a Path>) -> Self {
        self.own.extend(dirs.into_iter().map(Path::to_owned));
        self
    }

    /// It may read these.
    pub(super) fn reads<'a>(mut self, paths: impl IntoIterator<Item = &'a Path>) -> Self {
        self.reads.extend(paths.into_iter().map(Path::to_owned));
        self
    }

    /// The directories that it may change.
    pub(super) fn owned(&self) -> &[PathBuf] {
        &self.own
    }

    /// Makes the directories that are its own, and gives them to the user that the program will be.
    pub(super) fn prepare(&self, confiner: Option<&Confiner>) -> io::Result<()> {
        for dir in &self.own {
            fs::create_dir_all(dir)?;
            if confiner.is_some_and(Confiner::separates_users) {
                give(dir)?;
            }
        }
        Ok(())
    }

    /// The sandbox in which the program is started in `directory`.
    pub(super) fn sandbox(&self, confiner: &Confiner, directory: &Path, reaches: Reaches<'_>) -> Sandbox {
        let own: Vec<_> = self.own.iter().map(|dir| (dir.clone(), dir.clone())).collect();
        confiner.sandbox(&Inside {
            user: confiner.separates_users().then_some(USER),
            own: &own,
            reads: &self.reads,
            names: None,
            resolv_conf: match reaches {
                Reaches::What { resolv_conf } => resolv_conf,
                Reaches::Nothing => None,
            },
            directory,
            network: match reaches {
                Reaches::Nothing => Network::Made,
                Reaches::What { .. } => Network::Shared,
            },
        })
    }
}

/// Gives `dir` and what is in it to the user of builds. What already is its own, is so all the way down.
fn give(dir: &Path) -> io::Result<()> {
    if fs::symlink_metadata(dir)?.uid() == USER {
        return Ok(());
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            give(&entry.path())?;
        } else {
            lchown(entry.path(), Some(USER), Some(USER))?;
        }
    }
    // Last, so that what was given only in part is given again.
    lchown(dir, Some(USER), Some(USER))
}
