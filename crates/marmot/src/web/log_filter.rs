//! Which lines of a log somebody wants to see: by words, level and copy of the app.

use std::borrow::Cow;
use std::collections::BTreeMap;

use marmot_core::id::{ReplicaId, RevisionId};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

/// What somebody asked for, in an address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    /// Words that a line holds, in any case.
    pub(super) find: String,
    pub(super) level: Level,
    /// The id of one replica; all when empty.
    pub(super) copy: String,
    /// The id of one revision, as replicas have it; all when empty.
    pub(super) revision: String,
}

/// Which revision each replica runs or ran.
#[derive(Debug, Clone)]
pub(super) struct Origins {
    known: BTreeMap<ReplicaId, RevisionId>,
}

impl Origins {
    pub(super) fn new(known: BTreeMap<ReplicaId, RevisionId>) -> Self {
        Self { known }
    }

    /// The revision of the replica that this source, `replica/container`, names. `living`: those there are now, asked
    /// when it is new. What was known once stays known: the last lines of a replica come when it is gone.
    pub(super) fn of(
        &mut self,
        source: &str,
        living: impl FnOnce() -> BTreeMap<ReplicaId, RevisionId>,
    ) -> Option<RevisionId> {
        let id: ReplicaId = source.split('/').next()?.parse().ok()?;
        if !self.known.contains_key(&id) {
            self.known.extend(living());
        }
        self.known.get(&id).copied()
    }
}

/// How grave a line is at least.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(from = "String")]
pub(super) enum Level {
    #[default]
    All,
    Warnings,
    Errors,
}

impl From<String> for Level {
    fn from(word: String) -> Self {
        Self::CHOICES.iter().find(|(_, known, _)| *known == word).map_or(Self::All, |(level, ..)| *level)
    }
}

impl Level {
    /// All of them, with their words in addresses and on the page.
    pub(super) const CHOICES: [(Self, &'static str, &'static str); 3] = [
        (Self::All, "all", "log-level-all"),
        (Self::Warnings, "warnings", "log-level-warnings"),
        (Self::Errors, "errors", "log-level-errors"),
    ];

    /// How grave a line looks, by the words that programs use for it.
    pub(super) fn of(line: &str) -> Self {
        let mut level = Self::All;
        for word in without_colours(line).split(|letter: char| !letter.is_ascii_alphabetic()) {
            match word {
                "ERROR" | "Error" | "error" | "CRITICAL" | "FATAL" | "Fatal" | "fatal" | "PANIC"
                | "Traceback" | "Exception" => return Self::Errors,
                // Names of exceptions, such as `KeyError`.
                _ if word.len() > 5 && (word.ends_with("Error") || word.ends_with("Exception")) => {
                    return Self::Errors;
                }
                "WARN" | "WARNING" | "Warning" | "warning" => level = Self::Warnings,
                _ if word.len() > 7 && word.ends_with("Warning") => level = Self::Warnings,
                _ => {}
            }
        }
        level
    }
}

impl Wanted {
    /// Everything is.
    pub(super) fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a line of this source, `replica/container`, is. `of`: which revision that replica runs, where it is known.
    pub(super) fn takes(&self, source: &str, line: &str, of: Option<RevisionId>) -> bool {
        let copy = source.split('/').next().unwrap_or(source);
        (self.revision.is_empty() || of.is_some_and(|id| id.to_string() == self.revision))
            && (self.copy.is_empty() || self.copy == copy)
            && Level::of(line) >= self.level
            && (self.find.is_empty()
                || without_colours(line).to_lowercase().contains(&self.find.to_lowercase()))
    }

    /// As the query of an address, with its question mark.
    pub(super) fn query(&self) -> String {
        let level = Level::CHOICES
            .iter()
            .find(|(level, ..)| *level == self.level)
            .map_or("all", |(_, word, _)| *word);
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        match self.is_everything() {
            true => String::new(),
            false => format!(
                "?find={}&level={level}&copy={}&revision={}",
                encoded(&self.find),
                encoded(&self.copy),
                encoded(&self.revision)
            ),
        }
    }
}

/// A line without what colours it: `\u{1b}[33m` would stick to the word behind it.
fn without_colours(line: &str) -> Cow<'_, str> {
    if !line.contains('\u{1b}') {
        return line.into();
    }
    let mut plain = String::with_capacity(line.len());
    let mut parts = line.split("\u{1b}[");
    plain.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let end = part.find(|letter: char| letter.is_ascii_alphabetic()).map_or(0, |end| end + 1);
        plain.push_str(&part[end..]);
    }
    plain.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_as_grave_as_its_words_say() {
        for (line, level) in [
            ("2026-05-04T10:00:00Z INFO started", Level::All),
            ("\u{1b}[33mWARN\u{1b}[0m column has gaps", Level::Warnings),
            ("app.py:3: DeprecationWarning: old", Level::Warnings),
            ("KeyError: 'depth'", Level::Errors),
            ("Traceback (most recent call last):", Level::Errors),
            ("mirrored terrors", Level::All),
        ] {
            assert_eq!(Level::of(line), level, "{line}");
        }
    }

    #[test]
    fn a_line_is_wanted_by_copy_level_and_words() {
        let wanted = Wanted {
            find: "Depth".to_owned(),
            level: Level::Errors,
            copy: "A".to_owned(),
            ..Wanted::default()
        };
        assert!(wanted.takes("A/app", "KeyError: 'depth'", None));
        assert!(!wanted.takes("B/app", "KeyError: 'depth'", None));
        assert!(!wanted.takes("A/app", "depth is fine", None));
        assert!(!wanted.takes("A/app", "KeyError: 'age'", None));
        assert_eq!(wanted.query(), "?find=Depth&level=errors&copy=A&revision=");
        assert!(Wanted::default().takes("A/app", "", None) && Wanted::default().query().is_empty());
    }

    #[test]
    fn a_line_is_wanted_by_revision_also_of_a_replica_that_came_later_and_of_one_that_is_gone() {
        let (old, new, later): (ReplicaId, ReplicaId, ReplicaId) = (1.into(), 2.into(), 3.into());
        let (first, second): (RevisionId, RevisionId) = (10.into(), 20.into());
        let wanted = Wanted { revision: second.to_string(), ..Wanted::default() };
        let mut origins = Origins::new(BTreeMap::from([(old, first), (new, second)]));
        let mut takes = |replica: ReplicaId, living: &[(ReplicaId, RevisionId)]| {
            let source = format!("{replica}/app");
            let of = origins.of(&source, || living.iter().copied().collect());
            wanted.takes(&source, "line", of)
        };
        assert!(!takes(old, &[]) && takes(new, &[]));
        assert!(!takes(later, &[]), "nobody knows what it runs");
        assert!(takes(later, &[(later, second)]) && takes(later, &[]));
    }
}
