//! Why an operation was refused: one sentence for the person who asked, a cause for the operator.

use std::time::Duration;

use marmot_core::AppName;

use crate::db::DbError;
use crate::oidc::OidcError;

/// Why an operation was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody is signed in, and this is not for everybody.
    #[error("you need to sign in for this")]
    SignInNeeded,
    /// The user name or the password is wrong; which of them is not told.
    #[error("the user name or the password is wrong")]
    WrongCredentials,
    /// The token or session is unknown, expired or revoked.
    #[error("the token or session is not valid (any more)")]
    InvalidCredentials,
    /// Signed in, but not allowed.
    #[error("you may not {action}")]
    Forbidden {
        /// What was tried, as words that follow *you may not*.
        action: &'static str,
    },
    /// It does not exist, or may not be seen.
    #[error("there is no {what} `{which}`, or you may not see it")]
    NotFound {
        /// What kind of thing.
        what: &'static str,
        /// Which one, as it was asked for.
        which: String,
    },
    /// The app is active already.
    #[error("the launcher's app `{name}` is active already")]
    AlreadyActive {
        /// Its name.
        name: AppName,
    },
    /// It collides with what is there.
    #[error("{message}")]
    Conflict {
        /// With what.
        message: String,
    },
    /// The input makes no sense.
    #[error("{message}")]
    Invalid {
        /// What was given, what is allowed, what to do.
        message: String,
    },
    /// It was changed since the version that the caller knows.
    #[error("it was changed meanwhile: read it again and repeat the change")]
    Stale,
    /// The change must say which version it is meant for.
    #[error("this change needs an `If-Match` header with the `ETag` of the version it is meant for")]
    VersionNeeded,
    /// Tried too often.
    #[error("too many tries: try again in {} s", retry_after.as_secs().max(1))]
    TooManyTries {
        /// When it is worth trying again.
        retry_after: Duration,
    },
    /// Asked for more often than it may be.
    #[error("{message}; try again in {} s, or {otherwise}", retry_after.as_secs().max(1))]
    TooOften {
        /// How often it was asked for, and how often it may be.
        message: String,
        /// What to do instead of waiting.
        otherwise: &'static str,
        /// What is counted, in one word.
        what: &'static str,
        /// How often it may be asked for.
        quota: u64,
        /// Within how long.
        window: Duration,
        /// When it is worth trying again.
        retry_after: Duration,
    },
    /// Too many others want the same at this moment.
    #[error("too many people sign in at this moment: try again in {} s", retry_after.as_secs().max(1))]
    Busy {
        /// When it is worth trying again.
        retry_after: Duration,
    },
    /// This installation does not offer it.
    #[error("{message}")]
    NotOffered {
        /// What, and what to do instead.
        message: String,
    },
    /// A link that works once does not work.
    #[error("this link does not work: it was used already, or has expired; ask for another")]
    LinkSpent,
    /// Signing in with an identity provider did not work.
    #[error(transparent)]
    Provider(OidcError),
    /// The server failed. Its cause is for the log, not for the person.
    #[error("the server could not do this; it has been noted in its log")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A result of the service.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid { message: message.into() }
    }

    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self::Conflict { message: message.into() }
    }

    pub(super) fn not_found(what: &'static str, which: impl ToString) -> Self {
        Self::NotFound { what, which: which.to_string().chars().take(80).collect() }
    }
}

impl From<DbError> for Error {
    fn from(error: DbError) -> Self {
        match error {
            DbError::Exists(_) => Self::conflict("something like it exists already"),
            DbError::Dangling(_) => Self::conflict("what it belongs to was removed meanwhile"),
            other => Self::Internal(Box::new(other)),
        }
    }
}
