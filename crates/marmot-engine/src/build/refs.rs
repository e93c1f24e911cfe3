//! The branches and tags of a repository, and which commit a revision names among them.

use std::collections::BTreeMap;

use marmot_core::Said;

/// What a repository offers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Refs {
    head: Option<String>,
    /// By name, without `refs/heads/` and `refs/tags/`; tags are followed to what they point at.
    branches: BTreeMap<String, String>,
    tags: BTreeMap<String, String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The tip of a branch, a tag or `HEAD`: this commit.
    Tip(String),
    /// A commit that begins so.
    Commit(String),
    Unknown(String),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// There is no commit at all.
    Everything,
    /// There is no default branch.
    Head,
    /// More than one commit begins so.
    Ambiguous(String),
}

impl Refs {
    pub(super) fn parse(text: &str) -> Self {
        let mut refs = Self::default();
        for (object, name) in text.lines().filter_map(|line| line.split_once('\t')) {
            if !is_hex(object) {
                continue;
            }
            if name == "HEAD" {
                refs.head = Some(object.to_owned());
            } else if let Some(branch) = name.strip_prefix("refs/heads/") {
                refs.branches.insert(branch.to_owned(), object.to_owned());
            } else if let Some(tag) = name.strip_prefix("refs/tags/") {
                // `v1^{}` follows `v1` and is the commit behind an annotated tag.
                refs.tags.insert(tag.trim_end_matches("^{}").to_owned(), object.to_owned());
            }
        }
        refs
    }

    pub(super) fn find(&self, revision: Option<&str>) -> Result<Wanted, Missing> {
        let Some(revision) = revision.filter(|&revision| revision != "HEAD") else {
            return match &self.head {
                Some(commit) => Ok(Wanted::Tip(commit.clone())),
                None if self.branches.is_empty() => Err(Missing::Everything),
                None => Err(Missing::Head),
            };
        };
        let branch = revision.strip_prefix("refs/heads/").unwrap_or(revision);
        let tag = revision.strip_prefix("refs/tags/").unwrap_or(revision);
        if let Some(commit) = self.branches.get(branch).or_else(|| self.tags.get(tag)) {
            return Ok(Wanted::Tip(commit.clone()));
        }
        if !is_hex(revision) || !(4..=64).contains(&revision.len()) {
            return Ok(Wanted::Unknown(revision.to_owned()));
        }
        let prefix = revision.to_ascii_lowercase();
        let mut tips: Vec<_> = self.branches.values().chain(self.tags.values()).collect();
        tips.retain(|commit| commit.starts_with(&prefix));
        tips.dedup();
        tips.sort();
        tips.dedup();
        match tips.as_slice() {
            [] => Ok(Wanted::Commit(prefix)),
            [commit] => Ok(Wanted::Tip((*commit).clone())),
            _ => Err(Missing::Ambiguous(prefix)),
        }
    }

    /// A few of the names, for a message.
    pub(super) fn some(&self) -> Said {
        const SHOWN: usize = 8;
        let total = self.branches.len() + self.tags.len();
        if total == 0 {
            return Said::default();
        }
        // The latest tags are the likeliest, and usually the last in order.
        let names = self.branches.keys().take(SHOWN).chain(self.tags.keys().rev());
        let names: Vec<_> = names.take(SHOWN).map(|name| format!("`{name}`")).collect();
        let more = total - names.len();
        let and = if more > 0 { format!(" and {more} more") } else { String::new() };
        let names = names.join(", ");
        Said::new("fetch-it-has", format!("; it has {names}{and}")).with("names", names).with("more", more)
    }
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str = "ref: refs/heads/main\tHEAD\n\
        aaaa000000000000000000000000000000000000\tHEAD\n\
        bbbb000000000000000000000000000000000000\trefs/heads/dev/x\n\
        aaaa000000000000000000000000000000000000\trefs/heads/main\n\
        cccc000000000000000000000000000000000000\trefs/tags/v1\n\
        cccd000000000000000000000000000000000000\trefs/tags/v1^{}\n";

    #[test]
    fn revisions_are_branches_then_tags_then_commits() {
        let refs = Refs::parse(LISTED);
        let tip = |digits: &str| Ok(Wanted::Tip(format!("{digits}{}", "0".repeat(36))));
        assert_eq!(refs.find(None), tip("aaaa"));
        assert_eq!(refs.find(Some("dev/x")), tip("bbbb"));
        assert_eq!(refs.find(Some("refs/heads/main")), tip("aaaa"));
        assert_eq!(refs.find(Some("v1")), tip("cccd"));
        assert_eq!(refs.find(Some("BBBB00")), tip("bbbb"));
        assert_eq!(refs.find(Some("abcdef1")), Ok(Wanted::Commit("abcdef1".into())));
        assert_eq!(refs.find(Some("nope")), Ok(Wanted::Unknown("nope".into())));
        assert_eq!(refs.some(), "; it has `dev/x`, `main`, `v1`");
        assert_eq!(Refs::parse("").find(None), Err(Missing::Everything));
    }
}
