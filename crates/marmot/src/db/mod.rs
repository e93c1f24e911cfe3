//! The database: the only module with SQL. One file per resource, one SQL text for SQLite and PostgreSQL.
//!
//! Functions take a [`Connection`], so that the caller says what belongs together: [`Db::read`] for a look,
//! [`Db::write`] for a transaction. A transaction is short: claim, commit, work, report.

pub mod answers;
pub mod apps;
pub mod audit;
pub mod builds;
mod connect;
pub mod credentials;
pub mod events;
pub mod following;
pub mod groups;
pub mod history;
pub mod hooks;
pub mod launchers;
pub mod limits;
pub mod lock;
mod members;
pub mod namespaces;
pub mod opening;
pub mod projects;
mod reserve;
mod row;
mod said;
pub mod scaling;
pub mod secrets;
pub mod sessions;
pub mod tokens;
pub mod traffic;
pub mod users;

pub use connect::{Db, OpenError};
pub use reserve::RESERVE;

/// A connection, inside a transaction or not.
pub type Connection = sqlx::AnyConnection;

/// What a query could not do.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// Something with the same unique value exists.
    #[error("something like it exists already")]
    Exists(#[source] sqlx::Error),
    /// Something refers to what does not exist (any more).
    #[error("what it refers to does not exist")]
    Dangling(#[source] sqlx::Error),
    /// A stored value cannot be read: the database was changed by something else than this program.
    #[error("column `{column}` holds a value that cannot be read: {why}")]
    Unreadable {
        /// Which column.
        column: &'static str,
        /// What is wrong with it. Never the value, which may be a secret.
        why: String,
    },
    /// The database did not answer, or refused.
    #[error("the database failed")]
    Failed(#[source] sqlx::Error),
}

impl DbError {
    /// Whether there was no room left where the database is kept.
    pub fn is_disk_full(&self) -> bool {
        let Self::Failed(error) = self else { return false };
        // `SQLITE_FULL`; `disk_full` of PostgreSQL.
        let full = |code: &str| ["13", "53100"].contains(&code);
        error.as_database_error().and_then(|refusal| refusal.code()).is_some_and(|code| full(&code))
    }
}

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        match error.as_database_error() {
            Some(refusal) if refusal.is_unique_violation() => Self::Exists(error),
            Some(refusal) if refusal.is_foreign_key_violation() => Self::Dangling(error),
            _ => Self::Failed(error),
        }
    }
}

/// A result of the database.
pub type Result<T, E = DbError> = std::result::Result<T, E>;

/// A list's page as it is found: its items, and how many there are in all.
pub type Found<T> = (Vec<T>, u64);

#[cfg(test)]
mod tests;
