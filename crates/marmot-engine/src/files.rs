//! Copying and removing the files of replicas.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt as _, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

/// Makes a directory that others may pass through but not list, if it does not exist.
pub(crate) fn make_passage(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o711).create(dir)
}

/// Makes a directory that belongs to `owner` alone.
pub(crate) fn make_private(dir: &Path, owner: Option<u32>) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(dir)?;
    give(dir, owner)
}

/// Copies a directory with everything in it. File contents are shared with the original where the file system can.
pub(crate) fn copy_tree(from: &Path, to: &Path, owner: Option<u32>) -> io::Result<()> {
    fs::create_dir(to)?;
    let mut left = vec![(from.to_owned(), to.to_owned())];
    while let Some((from, to)) = left.pop() {
        for entry in fs::read_dir(&from)? {
            let entry = entry?;
            let (source, target) = (entry.path(), to.join(entry.file_name()));
            let kind = entry.file_type()?;
            if kind.is_dir() {
                fs::create_dir(&target)?;
                left.push((source, target));
            } else if kind.is_symlink() {
                symlink(fs::read_link(&source)?, &target)?;
                give(&target, owner)?;
            } else if kind.is_file() {
                fs::copy(&source, &target)?;
                give(&target, owner)?;
                let mode = fs::metadata(&target)?.permissions().mode();
                // The original may be shared and read-only; the copy is the app's own.
                fs::set_permissions(&target, fs::Permissions::from_mode((mode & 0o777) | 0o600))?;
            }
        }
        give(&to, owner)?;
    }
    Ok(())
}

fn give(path: &Path, owner: Option<u32>) -> io::Result<()> {
    owner.map_or(Ok(()), |id| lchown(path, Some(id), Some(id)))
}

/// What a directory takes on disk with everything in it, in bytes. Follows no links; what has two names counts twice.
pub(crate) fn on_disk(dir: &Path) -> u64 {
    on_disk_within(&[dir.to_owned()], u64::MAX, u64::MAX).unwrap_or_else(|most| most)
}

/// What these directories take on disk together, in bytes, if it is no more than `most_bytes` in `most_files`; if not, how
/// many bytes were counted until that was clear.
pub(crate) fn on_disk_within(places: &[PathBuf], most_bytes: u64, most_files: u64) -> Result<u64, u64> {
    let (mut bytes, mut files) = (0u64, 0u64);
    let mut left = places.to_vec();
    while let Some(dir) = left.pop() {
        // What vanishes while it is counted is not there.
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            // A file that has two names is counted twice; that errs on the safe side.
            (bytes, files) = (bytes + meta.blocks() * 512, files + 1);
            if meta.is_dir() {
                left.push(entry.path());
            }
            if bytes > most_bytes || files > most_files {
                return Err(bytes);
            }
        }
    }
    Ok(bytes)
}

/// Removes a file or a directory with everything in it, if it exists.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_everything_and_can_be_changed_without_changing_the_original() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::write(from.join("a/b/run.sh"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(from.join("a/b/run.sh"), fs::Permissions::from_mode(0o555)).unwrap();
        symlink("b/run.sh", from.join("a/link")).unwrap();
        copy_tree(&from, &to, None).unwrap();
        fs::write(to.join("a/link"), "changed").unwrap();
        assert_eq!(fs::read_to_string(to.join("a/b/run.sh")).unwrap(), "changed");
        assert_eq!(fs::read_to_string(from.join("a/b/run.sh")).unwrap(), "#!/bin/sh\n");
        assert_eq!(fs::metadata(to.join("a/b/run.sh")).unwrap().permissions().mode() & 0o777, 0o755);
        remove(&to).unwrap();
        remove(&to).unwrap();
        assert!(!to.exists());
    }
}
