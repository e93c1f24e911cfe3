//! A data directory belongs to one server at a time.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// Why the data directory is not ours.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another server has it.
    #[error(
        "another Marmot server{} uses the data directory `{}`",
        pid.as_ref().map(|pid| format!(" (process {pid})")).unwrap_or_default(),
        path.display()
    )]
    Taken {
        /// Which directory.
        path: PathBuf,
        /// Its process, where it is known.
        pid: Option<String>,
    },
    /// The directory cannot be written.
    #[error("cannot use `{}` as the data directory", path.display())]
    Unusable {
        /// Which directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Keeps the data directory ours until it is dropped or the process ends, however it ends.
#[derive(Debug)]
#[must_use = "dropping it gives the data directory back"]
pub struct DataDirLock {
    _file: File,
}

/// Takes the data directory for this process, making it if it is not there.
///
/// # Errors
/// When another server has it, or it cannot be written.
pub fn take(data_dir: &Path) -> Result<DataDirLock, LockError> {
    let unusable = |source| LockError::Unusable { path: data_dir.to_owned(), source };
    make_private_dir(data_dir).map_err(unusable)?;
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(data_dir.join("server.lock"))
        .map_err(unusable)?;
    if let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if error != rustix::io::Errno::WOULDBLOCK {
            return Err(unusable(error.into()));
        }
        let mut pid = String::new();
        // Who has it is a courtesy: that somebody has it is already known.
        let _ = file.read_to_string(&mut pid);
        let pid = Some(pid.trim().to_owned()).filter(|pid| !pid.is_empty());
        return Err(LockError::Taken { path: data_dir.to_owned(), pid });
    }
    file.set_len(0).and_then(|()| file.rewind()).map_err(unusable)?;
    writeln!(file, "{}", std::process::id()).map_err(unusable)?;
    Ok(DataDirLock { _file: file })
}

/// Makes a directory that only its owner may enter.
fn make_private_dir(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}
