//! One type per kind of id, so that a build's id cannot be taken for a replica's.
//!
//! All are ULIDs: 128 bits, sortable by time, written as 26 characters of Crockford's base 32
//! (<https://github.com/ulid/spec>). They are drawn at the edge; here they are only read and written.

use std::fmt;
use std::str::FromStr;

/// The text is not a ULID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not an id: ids are 26 characters of 0-9 and A-Z without I, L, O and U")]
pub struct InvalidId {
    /// What was given, cut to a length that fits a message.
    pub given: String,
}

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const LENGTH: usize = 26;

fn encode(value: u128) -> [u8; LENGTH] {
    let mut text = [b'0'; LENGTH];
    let mut rest = value;
    for digit in text.iter_mut().rev() {
        *digit = ALPHABET[(rest & 31) as usize];
        rest >>= 5;
    }
    text
}

fn decode(text: &str) -> Option<u128> {
    // 26 digits hold 130 bits: the first may only carry three.
    if text.len() != LENGTH || !matches!(text.as_bytes()[0], b'0'..=b'7') {
        return None;
    }
    text.bytes().try_fold(0u128, |value, byte| {
        let digit = ALPHABET.iter().position(|&letter| letter == byte.to_ascii_uppercase())?;
        Some((value << 5) | digit as u128)
    })
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl From<u128> for $name {
            fn from(value: u128) -> Self {
                Self(value)
            }
        }

        impl $name {
            /// The value, as it was drawn.
            pub const fn as_u128(self) -> u128 {
                self.0
            }

            /// When it was drawn, in milliseconds since 1970, by the clock of who drew it: a ULID begins with that.
            pub const fn drawn_at_ms(self) -> i64 {
                // The upper 48 of 128 bits.
                (self.0 >> 80) as i64
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                encode(self.0).iter().try_for_each(|&byte| fmt::Write::write_char(f, char::from(byte)))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                decode(text).map(Self).ok_or_else(|| InvalidId { given: text.chars().take(40).collect() })
            }
        }
    )*};
}

ids! {
    /// A person with an account.
    UserId
    /// An API token.
    TokenId
    /// A person's session in a browser.
    SessionId
    /// A group of people.
    GroupId
    /// A project.
    ProjectId
    /// A launcher: a recipe in a project.
    LauncherId
    /// Where a launcher's program comes from.
    EnvironmentId
    /// One attempt to turn code into something runnable.
    BuildId
    /// An immutable pair of program and settings of an app.
    RevisionId
    /// One running copy of a revision.
    ReplicaId
    /// A secret of a project or launcher.
    SecretId
    /// What a project shows to the host of a repository or image.
    CredentialId
    /// A link that opens an app for whoever has it.
    ShareLinkId
    /// What a program shows to an app.
    AppKeyId
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_and_writes_the_ulid_of_the_specification() {
        let id: BuildId = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        assert_eq!(id.to_string(), "01ARZ3NDEKTSV4RRFFQ69G5FAV");
    }

    #[test]
    fn refuses_what_is_no_ulid_and_names_it() {
        for text in [
            "",
            "8ZZZZZZZZZZZZZZZZZZZZZZZZZ",
            "01ARZ3NDEKTSV4RRFFQ69G5FAU",
            "01ARZ3NDEKTSV4RRFFQ69G5FA",
            "../etc/passwd",
        ] {
            assert_eq!(text.parse::<BuildId>(), Err(InvalidId { given: text.to_owned() }));
        }
    }

    proptest! {
        #[test]
        fn every_value_survives_the_round_trip(value: u128) {
            prop_assert_eq!(BuildId::from(value).to_string().parse::<BuildId>(), Ok(BuildId::from(value)));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = text.parse::<ReplicaId>();
        }
    }
}
