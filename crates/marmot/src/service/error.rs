//! Why an operation was refused: one sentence for the person who asked, a cause for the operator.

use std::time::Duration;

use marmot_core::{AppName, Said, said};

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
        /// The field of a form that it is about, if it is about one.
        field: Option<Field>,
        /// With what.
        message: Said,
    },
    /// The input makes no sense.
    #[error("{message}")]
    Invalid {
        /// The field of a form that it is about, if it is about one.
        field: Option<Field>,
        /// What was given, what is allowed, what to do.
        message: Said,
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
        message: Said,
        /// What to do instead of waiting.
        otherwise: Said,
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
        message: Said,
    },
    /// A link that works once does not work.
    #[error("this link does not work: it was used already, or has expired; ask for another")]
    LinkSpent,
    /// Signing in with an identity provider did not work.
    #[error(transparent)]
    Provider(OidcError),
    /// There is no room left where the platform writes down what it knows.
    #[error("the server's disk is full, so nothing was changed: its operator has to make room")]
    DiskFull(#[source] DbError),
    /// The server failed. Its cause is for the log, not for the person.
    #[error("the server could not do this; it has been noted in its log")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What somebody gives, wherever they give it: forms say beside it what is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// What it is called.
    Name,
    /// What it is about.
    Description,
    /// The last part of a project's path.
    Slug,
    /// The path of a group, or the name of an account.
    Path,
    /// The repositories of a project.
    Repositories,
    /// What an environment is made from: code or an image.
    Source,
    /// The repository that is built.
    Repository,
    /// Its branch, tag or commit.
    Revision,
    /// The directory in it.
    Directory,
    /// The container image.
    Image,
    /// As whom an image is run.
    User,
    /// How it is started.
    Command,
    /// What it is started with.
    Arguments,
    /// Where it listens.
    Port,
    /// Variables that it is given.
    Variables,
    /// A secret's name.
    SecretName,
    /// A secret's value, or the secrets as a whole.
    Secrets,
    /// How much it may use.
    ResourceClass,
    /// What it may reach.
    Network,
    /// To whom it is open.
    OpenTo,
    /// A setting of how it scales, as the API calls it.
    Scaling(&'static str),
    /// A limit of a project, as the API calls it.
    Limit(&'static str),
    /// How large a body may be.
    BodyLimit,
    /// The password of an account.
    Password,
    /// The e-mail address of an account.
    Email,
    /// The full name of somebody.
    FullName,
    /// The host of a credential.
    Host,
    /// With which name one signs in there.
    Login,
    /// Until when something is valid.
    Until,
    /// How many requests a key may make in a minute.
    PerMinute,
    /// How many requests a key may make at a time.
    AtOnce,
    /// The branch of a preview.
    Branch,
    /// How long a preview stays.
    Days,
    /// How often a branch is looked at.
    Minutes,
}

/// A result of the service.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// For input that makes no sense.
    pub fn invalid(message: impl Into<Said>) -> Self {
        Self::Invalid { field: None, message: message.into() }
    }

    pub(super) fn conflict(message: impl Into<Said>) -> Self {
        Self::Conflict { field: None, message: message.into() }
    }

    /// The same, said of one field, where it is about something that was given.
    #[must_use]
    pub fn about(self, of: Field) -> Self {
        match self {
            Self::Invalid { message, .. } => Self::Invalid { field: Some(of), message },
            Self::Conflict { message, .. } => Self::Conflict { field: Some(of), message },
            other => other,
        }
    }

    /// The field that it is about, if it is about one.
    pub fn field(&self) -> Option<Field> {
        match self {
            Self::Invalid { field, .. } | Self::Conflict { field, .. } => *field,
            _ => None,
        }
    }

    pub(super) fn not_found(what: &'static str, which: impl ToString) -> Self {
        Self::NotFound { what, which: which.to_string().chars().take(80).collect() }
    }
}

impl From<DbError> for Error {
    fn from(error: DbError) -> Self {
        match error {
            DbError::Exists(_) => Self::conflict(said!("exists-already", "something like it exists already")),
            DbError::Dangling(_) => {
                Self::conflict(said!("removed-meanwhile", "what it belongs to was removed meanwhile"))
            }
            full if full.is_disk_full() => Self::DiskFull(full),
            other => Self::Internal(Box::new(other)),
        }
    }
}
