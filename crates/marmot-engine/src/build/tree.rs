//! What is in a commit: listed and bounded before any of it is written anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, Read as _};

use super::contract::BuildLimits;

/// Linux allows no longer path.
const PATH_BYTES: usize = 4096;

/// Deeper than any code, and shallow enough for every tool.
const DEPTH: usize = 64;

/// As many as Linux follows.
const HOPS: usize = 40;

/// The code is not built, and this is why.
#[derive(Debug, thiserror::Error)]
pub(super) enum TreeRefused {
    #[error(
        "the code has more than {0} files; set the directory of the app, or take generated files out of the repository"
    )]
    TooMany(usize),
    #[error("the code is larger than {} MiB; take large data out of the repository, or set the directory of the app", .0 >> 20)]
    TooLarge(u64),
    #[error("the path `{0}` is too long or too deep")]
    PathTooLong(String),
    #[error("the path `{0}` could be taken for something else, and is not checked out")]
    BadPath(String),
    #[error("the link `{0}` leads out of the code, or in circles")]
    LeavesTree(String),
    #[error("the list of files could not be understood")]
    Garbled,
    #[error("the list of files could not be read: {0}")]
    Io(#[from] io::Error),
}

/// One thing in a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Relative; parts are divided by `/`.
    pub(super) path: String,
    pub(super) kind: Kind,
    pub(super) object: String,
    /// In bytes.
    pub(super) size: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Executable,
    Link,
    /// Another repository, which is not fetched.
    Submodule,
}

/// Reads what `git ls-tree -r -l -z` writes, and stops at the first thing that is refused.
pub(super) fn read_listing(mut from: impl BufRead, limits: &BuildLimits) -> Result<Vec<Entry>, TreeRefused> {
    let mut entries = Vec::new();
    let mut bytes = 0u64;
    let mut record = Vec::new();
    loop {
        record.clear();
        // The mode, the object and the size come before the path.
        let longest = (PATH_BYTES + 256) as u64;
        let count = from.by_ref().take(longest).read_until(0, &mut record)?;
        if count == 0 {
            return Ok(entries);
        }
        if record.pop() != Some(0) {
            let shown = String::from_utf8_lossy(&record[record.len().min(100)..]).chars().take(60).collect();
            return Err(TreeRefused::PathTooLong(shown));
        }
        let entry = parse(&record)?;
        bytes = bytes.saturating_add(entry.size);
        if bytes > limits.code_bytes {
            return Err(TreeRefused::TooLarge(limits.code_bytes));
        }
        if entries.len() >= limits.code_entries {
            return Err(TreeRefused::TooMany(limits.code_entries));
        }
        entries.push(entry);
    }
}

/// `MODE SP TYPE SP OBJECT SP+ SIZE TAB PATH`
fn parse(record: &[u8]) -> Result<Entry, TreeRefused> {
    let tab = record.iter().position(|&byte| byte == b'\t').ok_or(TreeRefused::Garbled)?;
    let head = std::str::from_utf8(&record[..tab]).map_err(|_| TreeRefused::Garbled)?;
    let mut fields = head.split_ascii_whitespace();
    let (Some(mode), Some(_), Some(object), Some(size)) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err(TreeRefused::Garbled);
    };
    let path = checked_path(&record[tab + 1..])?;
    let kind = match mode {
        "120000" => Kind::Link,
        "160000" => Kind::Submodule,
        "100755" => Kind::Executable,
        _ if mode.starts_with("100") => Kind::File,
        _ => return Err(TreeRefused::BadPath(path)),
    };
    Ok(Entry { path, kind, object: object.to_owned(), size: size.parse().unwrap_or(0) })
}

fn checked_path(path: &[u8]) -> Result<String, TreeRefused> {
    let shown: String = String::from_utf8_lossy(path).chars().map(visible).take(120).collect();
    let Ok(path) = std::str::from_utf8(path) else { return Err(TreeRefused::BadPath(shown)) };
    if path.len() > PATH_BYTES
        || path.split('/').count() > DEPTH
        || path.split('/').any(|part| part.len() > 255)
    {
        return Err(TreeRefused::PathTooLong(shown));
    }
    let bad = |part: &str| matches!(part, "" | "." | "..") || is_git(part);
    if path.split('/').any(bad) || path.chars().any(|c| c.is_control() || is_bidi_control(c)) {
        return Err(TreeRefused::BadPath(shown));
    }
    Ok(path.to_owned())
}

fn visible(letter: char) -> char {
    if letter.is_control() || is_bidi_control(letter) { '\u{fffd}' } else { letter }
}

/// Letters that make a name look like another one.
fn is_bidi_control(letter: char) -> bool {
    matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether some file system would take `part` for `.git`: by case, by ignored letters (HFS+), by a short name or a
/// stream (NTFS).
fn is_git(part: &str) -> bool {
    let ignored = |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let plain: String = part.chars().filter(|&c| !ignored(c)).collect::<String>().to_lowercase();
    let stem = plain.split([':', '\\']).next().unwrap_or_default().trim_end_matches(['.', ' ']);
    stem == ".git" || stem == "git~1"
}

/// Refuses links that lead out of the tree, by whatever detours over other links. `targets` has what each link says.
///
/// Lexical cleaning does not do: in `a/b/link/../..`, what `..` means depends on where `link` leads.
pub(super) fn check_links(targets: &BTreeMap<String, String>) -> Result<(), TreeRefused> {
    for (link, target) in targets {
        if !stays_inside(link, target, targets) {
            return Err(TreeRefused::LeavesTree(link.clone()));
        }
    }
    Ok(())
}

fn stays_inside(link: &str, target: &str, targets: &BTreeMap<String, String>) -> bool {
    let mut place: Vec<String> = link.split('/').map(str::to_owned).collect();
    place.pop();
    if target.is_empty() || target.starts_with('/') || target.contains(['\0', '\n']) {
        return false;
    }
    let mut ahead: Vec<String> = target.split('/').rev().map(str::to_owned).collect();
    let mut hops = 0;
    while let Some(part) = ahead.pop() {
        match part.as_str() {
            "" | "." => {}
            ".." => {
                if place.pop().is_none() {
                    return false;
                }
            }
            _ => {
                place.push(part);
                if let Some(next) = targets.get(&place.join("/")) {
                    hops += 1;
                    if hops > HOPS || ahead.len() > PATH_BYTES || next.starts_with('/') {
                        return false;
                    }
                    place.pop();
                    ahead.extend(next.split('/').rev().map(str::to_owned));
                }
            }
        }
    }
    true
}

/// What is worth saying about a listing: what it does not contain although it seems to.
pub(super) fn submodules(entries: &[Entry]) -> BTreeSet<&str> {
    entries.iter().filter(|entry| entry.kind == Kind::Submodule).map(|entry| entry.path.as_str()).collect()
}

#[cfg(test)]
mod tests;
