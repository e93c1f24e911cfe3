//! Names that become part of an address: an app's host label, a project's slug, a namespace.

use std::fmt;
use std::str::FromStr;

use crate::Said;

/// Longest allowed name. Leaves room in a 63-byte DNS label for what an operator puts before or behind it.
pub const MAX_LENGTH: usize = 39;

/// The text cannot be a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{given}` is not a valid name: it must start with a letter a-z, go on with letters a-z, digits and single \
     hyphens, not end with a hyphen, and have at most {MAX_LENGTH} characters"
)]
pub struct InvalidName {
    /// What was given, cut to a length that fits a message.
    pub given: String,
}

impl InvalidName {
    /// The same, with what other languages say it by.
    pub fn said(&self) -> Said {
        Said::new("name-wrong", self).with("given", &self.given).with("most", MAX_LENGTH)
    }
}

fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    // No double hyphen: `xn--…` is how DNS writes other alphabets, and look-alikes are not for app names.
    bytes.len() <= MAX_LENGTH
        && bytes.first().is_some_and(u8::is_ascii_lowercase)
        && bytes.last() != Some(&b'-')
        && !text.contains("--")
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

/// The closest valid name to a title that a person typed, or `None` when it holds no letter a-z.
///
/// ```
/// assert_eq!(marmot_core::name::slugify("  Ice-core  Explorer (v2)"), Some("ice-core-explorer-v2".to_owned()));
/// assert_eq!(marmot_core::name::slugify("2024"), None);
/// ```
pub fn slugify(title: &str) -> Option<String> {
    let mut slug = String::new();
    for letter in title.chars().flat_map(char::to_lowercase) {
        if letter.is_ascii_lowercase() || (letter.is_ascii_digit() && !slug.is_empty()) {
            slug.push(letter);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
        if slug.len() == MAX_LENGTH {
            break;
        }
    }
    let slug = slug.trim_end_matches('-');
    is_name(slug).then(|| slug.to_owned())
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                if is_name(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(InvalidName { given: text.chars().take(80).collect() })
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "`{}`", self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    )*};
}

names! {
    /// The name of an app: the first label of its own host, unique in the installation.
    AppName
    /// The last part of a project's path.
    Slug
    /// The first part of a project's path; everybody owns the one named after them.
    Namespace
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn accepts_dns_labels_that_start_with_a_letter() {
        for text in ["a", "iris", "ice-core-explorer-v2", &"x".repeat(39)] {
            assert_eq!(text.parse::<AppName>().map(|name| name.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn refuses_what_is_no_label_and_says_what_is_allowed() {
        for text in
            ["", "-a", "a-", "2iris", "Iris", "a_b", "a.b", "xn--iris", "a b", "ä", &"x".repeat(40), "a\n"]
        {
            let refusal = text.parse::<AppName>().unwrap_err().to_string();
            assert!(refusal.starts_with(&format!("`{text}` is not a valid name")), "{refusal}");
        }
    }

    proptest! {
        #[test]
        fn a_slug_is_always_a_valid_name(title in "\\PC{0,80}") {
            if let Some(slug) = slugify(&title) {
                prop_assert!(slug.parse::<AppName>().is_ok(), "{slug}");
            }
        }
    }
}
