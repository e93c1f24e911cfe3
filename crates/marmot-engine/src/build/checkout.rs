//! Writes the files of a commit, without git's own check-out: no filters, no hooks, no links before files.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, BufRead, Read as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use super::contract::BuildLimits;
use super::fetch::{Fetched, Git};
use super::process::{Interrupted, Job};
use super::tree::{self, Entry, Kind, TreeRefused};

/// The longest target of a link that Linux can follow.
const LINK_BYTES: u64 = 4096;

/// What git large file storage leaves in the place of a file.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// The code could not be laid out.
#[derive(Debug, thiserror::Error)]
pub(super) enum CheckoutError {
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    #[error(transparent)]
    Refused(#[from] TreeRefused),
    #[error("the repository has no directory `{0}` at this revision")]
    NoDirectory(String),
    #[error("`{0}` is not a directory of the repository")]
    NotADirectory(String),
    #[error("git could not read the repository: {0}")]
    Git(String),
    #[error("the disk of this server is full")]
    DiskFull,
    #[error("`{path}` could not be written: {source}")]
    Write { path: String, source: io::Error },
}

/// What was laid out.
#[derive(Debug)]
pub(super) struct CheckedOut {
    pub(super) entries: Vec<Entry>,
    /// The files that are only pointers to large file storage.
    pub(super) pointers: Vec<String>,
}

/// Lists the commit, refuses what is too much or leads astray, and writes the rest into the new directory `code`.
pub(super) async fn check_out(
    git: &Git<'_>,
    job: &Job,
    limits: &BuildLimits,
    fetched: &Fetched,
    context_dir: Option<&str>,
    code: &Path,
) -> Result<CheckedOut, CheckoutError> {
    let entries = list(git, job, limits, fetched, context_dir).await?;
    let (links, files): (Vec<_>, Vec<_>) = entries
        .iter()
        .filter(|entry| entry.kind != Kind::Submodule)
        .cloned()
        .partition(|entry| entry.kind == Kind::Link);
    // Links first: they are checked before anything is written.
    let objects: String = links.iter().chain(&files).map(|entry| format!("{}\n", entry.object)).collect();
    let batch = git.local(&fetched.git_dir).args(["cat-file", "--batch", "--buffer"]);
    let code = code.to_owned();
    let (written, said) =
        job.stream(&batch, objects.into_bytes(), move |from| write_tree(from, &links, &files, &code)).await?;
    match written {
        Ok(pointers) => Ok(CheckedOut { entries, pointers }),
        Err(CheckoutError::Git(_)) if !said.stderr.trim().is_empty() => {
            Err(CheckoutError::Git(said.stderr.trim().lines().last().unwrap_or_default().to_owned()))
        }
        Err(other) => Err(other),
    }
}

async fn list(
    git: &Git<'_>,
    job: &Job,
    limits: &BuildLimits,
    fetched: &Fetched,
    context_dir: Option<&str>,
) -> Result<Vec<Entry>, CheckoutError> {
    if let Some(dir) = context_dir {
        // Git looks the path up in its own objects, where a link is a file: there is nothing to follow.
        let kind = git.local(&fetched.git_dir).args(["cat-file", "-t", &format!("{}:{dir}", fetched.commit)]);
        let said = job.ask(&kind, 4096).await?;
        match said.stdout.trim() {
            "tree" => {}
            "" => return Err(CheckoutError::NoDirectory(dir.to_owned())),
            _ => return Err(CheckoutError::NotADirectory(dir.to_owned())),
        }
    }
    let tree = format!("{}:{}", fetched.commit, context_dir.unwrap_or_default());
    let program = git.local(&fetched.git_dir).args(["ls-tree", "-r", "-l", "-z", "--full-tree", &tree]);
    let limits = limits.clone();
    let (entries, said) =
        job.stream(&program, Vec::new(), move |from| tree::read_listing(from, &limits)).await?;
    let entries = entries?;
    if !said.ok() {
        let last = said.stderr.trim().lines().last().unwrap_or_default();
        return Err(CheckoutError::Git(last.to_owned()));
    }
    Ok(entries)
}

/// Reads the objects of `links` and `files`, in this order, and lays them out.
fn write_tree(
    mut from: impl BufRead,
    links: &[Entry],
    files: &[Entry],
    code: &Path,
) -> Result<Vec<String>, CheckoutError> {
    let mut targets = BTreeMap::new();
    for link in links {
        let size = header(&mut from, link)?;
        if size > LINK_BYTES {
            return Err(TreeRefused::LeavesTree(link.path.clone()).into());
        }
        let target = content(&mut from, size)?;
        let target = String::from_utf8(target).map_err(|_| TreeRefused::BadPath(link.path.clone()))?;
        targets.insert(link.path.clone(), target);
    }
    tree::check_links(&targets)?;

    let mut writer = Writer { code, made: HashSet::new(), pointers: Vec::new() };
    make_directory(code).map_err(|error| write_error(".", error))?;
    for file in files {
        writer.file(&mut from, file)?;
    }
    // Only now: no file is ever written through a link.
    for (link, target) in &targets {
        let path = writer.place(link)?;
        symlink(target, path).map_err(|error| write_error(link, error))?;
    }
    Ok(writer.pointers)
}

struct Writer<'a> {
    code: &'a Path,
    /// The directories that exist.
    made: HashSet<String>,
    pointers: Vec<String>,
}

impl Writer<'_> {
    fn file(&mut self, from: &mut impl BufRead, file: &Entry) -> Result<(), CheckoutError> {
        let size = header(from, file)?;
        // What was bounded was the listing's size, so that is what may be written.
        if size != file.size {
            return Err(CheckoutError::Git(format!("`{}` is not as large as listed", file.path)));
        }
        let path = self.place(&file.path)?;
        let mode = if file.kind == Kind::Executable { 0o755 } else { 0o644 };
        // `create_new`: two entries of one path are two tries to write one thing through another.
        let made = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
        let mut made = made.map_err(|error| write_error(&file.path, error))?;
        if size <= 1024 {
            let text = content(from, size)?;
            if text.starts_with(LFS_POINTER) {
                self.pointers.push(file.path.clone());
            }
            io::Write::write_all(&mut made, &text).map_err(|error| write_error(&file.path, error))?;
        } else {
            let copied = io::copy(&mut from.by_ref().take(size), &mut made);
            if copied.map_err(|error| write_error(&file.path, error))? != size {
                return Err(ended_early());
            }
            line_end(from)?;
        }
        // The server's own umask must not hide the code from the app's user.
        made.set_permissions(Permissions::from_mode(mode)).map_err(|error| write_error(&file.path, error))
    }

    /// Where `path` goes, with the directories that lead there.
    fn place(&mut self, path: &str) -> Result<PathBuf, CheckoutError> {
        for (end, _) in path.match_indices('/') {
            let parent = &path[..end];
            if !self.made.contains(parent) {
                make_directory(&self.code.join(parent)).map_err(|error| write_error(parent, error))?;
                self.made.insert(parent.to_owned());
            }
        }
        Ok(self.code.join(path))
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    fs::create_dir(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o755))
}

/// Reads `OBJECT SP blob SP SIZE LF`.
fn header(from: &mut impl BufRead, entry: &Entry) -> Result<u64, CheckoutError> {
    let mut line = Vec::new();
    from.by_ref().take(256).read_until(b'\n', &mut line).map_err(|_| ended_early())?;
    let line = String::from_utf8_lossy(&line);
    let mut fields = line.split_ascii_whitespace();
    match (fields.next(), fields.next(), fields.next().and_then(|size| size.parse().ok())) {
        (Some(object), Some("blob"), Some(size)) if object == entry.object => Ok(size),
        (None, ..) => Err(ended_early()),
        _ => Err(CheckoutError::Git(format!("`{}` cannot be read", entry.path))),
    }
}

fn content(from: &mut impl BufRead, size: u64) -> Result<Vec<u8>, CheckoutError> {
    let mut text = Vec::new();
    let count = from.by_ref().take(size).read_to_end(&mut text).map_err(|_| ended_early())?;
    if count as u64 != size {
        return Err(ended_early());
    }
    line_end(from)?;
    Ok(text)
}

fn line_end(from: &mut impl BufRead) -> Result<(), CheckoutError> {
    let mut end = [0];
    from.read_exact(&mut end).map_err(|_| ended_early())
}

fn ended_early() -> CheckoutError {
    CheckoutError::Git("its objects ended early".into())
}

fn write_error(path: &str, source: io::Error) -> CheckoutError {
    if source.kind() == io::ErrorKind::StorageFull {
        return CheckoutError::DiskFull;
    }
    CheckoutError::Write { path: path.to_owned(), source }
}
