//! What the lifecycle of a builder finds in its container: the code, what it is told, and places to write to, all of it its
//! own user's.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::RESULT;
use crate::build::context::{Pieces, streamed};
use crate::container::api::Body;
use crate::wanted::Variable;

/// The code and what the lifecycle is told, as the builder's own user finds them.
pub(super) fn packed(code: PathBuf, variables: Vec<Variable>, (uid, gid): (u32, u32)) -> Body {
    streamed(move |pieces| {
        let mut own = Own { archive: tar::Builder::new(pieces), uid, gid };
        let mut place = PathBuf::from("layout");
        let parent = Path::new(RESULT).parent().unwrap_or(Path::new(""));
        own.dir(&place, 0o755)?;
        for part in parent.iter() {
            place.push(part);
            own.dir(&place, 0o755)?;
        }
        ["layers", "platform", "platform/env"].iter().try_for_each(|dir| own.dir(Path::new(dir), 0o755))?;
        let fits = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let values: BTreeMap<&str, &str> = variables
            .iter()
            .filter(|variable| fits(&variable.name))
            .map(|variable| (&*variable.name, &*variable.value))
            .collect();
        for (name, value) in values {
            own.file(&Path::new("platform/env").join(name), value.len() as u64, 0o600, value.as_bytes())?;
        }
        own.tree(&code, Path::new("workspace"))?;
        io::Write::flush(&mut own.archive.into_inner()?)
    })
}

/// An archive in which everything belongs to one user.
struct Own {
    archive: tar::Builder<Pieces>,
    uid: u32,
    gid: u32,
}

impl Own {
    fn header(&self, kind: tar::EntryType, bytes: u64, mode: u32) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(bytes);
        header.set_mode(mode);
        header.set_uid(self.uid.into());
        header.set_gid(self.gid.into());
        header
    }

    fn dir(&mut self, path: &Path, mode: u32) -> io::Result<()> {
        let mut header = self.header(tar::EntryType::Directory, 0, mode);
        self.archive.append_data(&mut header, path, io::empty())
    }

    fn file(&mut self, path: &Path, bytes: u64, mode: u32, from: impl io::Read) -> io::Result<()> {
        let mut header = self.header(tar::EntryType::Regular, bytes, mode);
        self.archive.append_data(&mut header, path, from)
    }

    /// Everything below `from`; links are links, wherever they lead.
    fn tree(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let mut left = vec![(from.to_owned(), to.to_owned())];
        while let Some((from, to)) = left.pop() {
            self.dir(&to, 0o755)?;
            for entry in fs::read_dir(from)? {
                let entry = entry?;
                let (path, to, meta) = (entry.path(), to.join(entry.file_name()), entry.metadata()?);
                if meta.is_dir() {
                    left.push((path, to));
                } else if meta.is_symlink() {
                    let mut header = self.header(tar::EntryType::Symlink, 0, 0o777);
                    self.archive.append_link(&mut header, to, fs::read_link(path)?)?;
                } else if meta.is_file() {
                    let mode = (meta.permissions().mode() & 0o111) | 0o644;
                    self.file(&to, meta.len(), mode, fs::File::open(path)?)?;
                }
            }
        }
        Ok(())
    }
}
