//! Why signing in with a provider did not work: a sentence for the person, and a cause for the operator.

/// Why signing in with a provider did not work.
#[derive(Debug, thiserror::Error)]
pub enum OidcError {
    /// It does not answer, or not in time.
    #[error("{title} does not answer at the moment: try again in a minute, or sign in another way")]
    Unreachable {
        /// What people call the provider.
        title: String,
        /// Why, for the operator.
        why: String,
    },
    /// It answers, but not as it should.
    #[error(
        "{title} gave an answer that cannot be used; the operators of this server find the reason in its log"
    )]
    Broken {
        /// What people call the provider.
        title: String,
        /// Why, for the operator.
        why: String,
    },
    /// The answer is not the one that this browser waits for.
    #[error("this sign-in was not begun in this browser, or is over: begin again")]
    NotExpected {
        /// Why, for the operator.
        why: &'static str,
    },
    /// The person, or the provider, said no.
    #[error("{title} says that you did not agree, or may not: {reason}")]
    Refused {
        /// What people call the provider.
        title: String,
        /// What it says, in plain characters.
        reason: String,
    },
    /// The person is in none of the groups that may come in.
    #[error("your account at {title} is in none of the groups that may use this server: ask its operators")]
    NotInGroup {
        /// What people call the provider.
        title: String,
    },
}

impl OidcError {
    /// What only the operator is told.
    pub fn cause(&self) -> Option<&str> {
        match self {
            Self::Unreachable { why, .. } | Self::Broken { why, .. } => Some(why),
            Self::NotExpected { why } => Some(why),
            Self::Refused { .. } | Self::NotInGroup { .. } => None,
        }
    }
}

/// What a part of the work could not do; the provider's name is added where it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    Unreachable(String),
    Broken(String),
}

impl Trouble {
    pub(super) fn broken(why: impl Into<String>) -> Self {
        Self::Broken(why.into())
    }

    pub(super) fn of(self, title: &str) -> OidcError {
        let title = title.to_owned();
        match self {
            Self::Unreachable(why) => OidcError::Unreachable { title, why },
            Self::Broken(why) => OidcError::Broken { title, why },
        }
    }
}
