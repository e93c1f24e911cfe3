//! People in the database.

use jiff::Timestamp;
use marmot_core::id::UserId;
use marmot_core::name::Namespace;
use sqlx::any::AnyRow;

use super::row::Columns;
use super::{Connection, Result};
use crate::model::{Secret, User};

fn read(row: &AnyRow) -> Result<User> {
    Ok(User {
        id: row.parsed("id")?,
        username: row.parsed("username")?,
        is_admin: row.flag("is_admin")?,
        email: row.maybe_text("email")?,
        first_name: row.maybe_text("first_name")?,
        last_name: row.maybe_text("last_name")?,
        created_at: row.time("created_at")?,
        disabled_at: row.maybe_time("disabled_at")?,
    })
}

/// Adds a person, and takes the namespace of that name.
pub async fn insert(db: &mut Connection, user: &User, password_hash: Option<&Secret>) -> Result<()> {
    super::namespaces::take(db, &user.username).await?;
    sqlx::query(
        "INSERT INTO users (id, username, password_hash, is_admin, email, first_name, last_name, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(user.id.to_string())
    .bind(user.username.as_str())
    .bind(password_hash.map(Secret::reveal))
    .bind(i64::from(user.is_admin))
    .bind(user.email.as_deref())
    .bind(user.first_name.as_deref())
    .bind(user.last_name.as_deref())
    .bind(user.created_at.as_millisecond())
    .execute(db)
    .await?;
    Ok(())
}

/// The person with this id.
pub async fn get(db: &mut Connection, id: UserId) -> Result<Option<User>> {
    let row = sqlx::query("SELECT * FROM users WHERE id = $1 AND deleted_at IS NULL")
        .bind(id.to_string())
        .fetch_optional(db)
        .await?;
    row.as_ref().map(read).transpose()
}

/// The person with this name, and the hash of the password, if one is set.
pub async fn by_name(db: &mut Connection, name: &Namespace) -> Result<Option<(User, Option<Secret>)>> {
    let row = sqlx::query("SELECT * FROM users WHERE username = $1 AND deleted_at IS NULL")
        .bind(name.as_str())
        .fetch_optional(db)
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some((read(&row)?, row.maybe_text("password_hash")?.map(Secret::new))))
}

/// Everybody, by name, without those who are gone.
pub async fn all(db: &mut Connection) -> Result<Vec<User>> {
    sqlx::query("SELECT * FROM users WHERE deleted_at IS NULL ORDER BY username")
        .fetch_all(db)
        .await?
        .iter()
        .map(read)
        .collect()
}

/// Sets the hash of a person's password and ends all of that person's sessions.
pub async fn set_password(db: &mut Connection, id: UserId, hash: &Secret) -> Result<()> {
    sqlx::query("UPDATE users SET password_hash = $2 WHERE id = $1")
        .bind(id.to_string())
        .bind(hash.reveal())
        .execute(&mut *db)
        .await?;
    sqlx::query("DELETE FROM sessions WHERE user_id = $1").bind(id.to_string()).execute(db).await?;
    Ok(())
}

/// Starts a session, found again by the hash of its text; forgets those that are over.
pub async fn insert_session(
    db: &mut Connection,
    hash: &str,
    user: UserId,
    now: Timestamp,
    expires_at: Timestamp,
) -> Result<()> {
    sqlx::query("DELETE FROM sessions WHERE expires_at <= $1")
        .bind(now.as_millisecond())
        .execute(&mut *db)
        .await?;
    sqlx::query(
        "INSERT INTO sessions (hash, user_id, created_at, last_seen_at, expires_at) VALUES ($1, $2, $3, $3, $4)",
    )
    .bind(hash)
    .bind(user.to_string())
    .bind(now.as_millisecond())
    .bind(expires_at.as_millisecond())
    .execute(db)
    .await?;
    Ok(())
}

/// A session that was found.
#[derive(Debug)]
pub struct Session {
    /// Whose it is.
    pub user: User,
    /// When it was last seen in use, to within some minutes.
    pub last_seen_at: Timestamp,
}

/// The session with this hash, unless it is over.
pub async fn session(db: &mut Connection, hash: &str, now: Timestamp) -> Result<Option<Session>> {
    let row = sqlx::query(
        "SELECT u.*, s.last_seen_at FROM sessions s JOIN users u ON u.id = s.user_id \
         WHERE s.hash = $1 AND s.expires_at > $2 AND u.disabled_at IS NULL",
    )
    .bind(hash)
    .bind(now.as_millisecond())
    .fetch_optional(db)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Session { user: read(&row)?, last_seen_at: row.time("last_seen_at")? }))
}

/// Notes that a session is in use.
pub async fn touch_session(db: &mut Connection, hash: &str, now: Timestamp) -> Result<()> {
    sqlx::query("UPDATE sessions SET last_seen_at = $2 WHERE hash = $1")
        .bind(hash)
        .bind(now.as_millisecond())
        .execute(db)
        .await?;
    Ok(())
}

/// Ends a session.
pub async fn delete_session(db: &mut Connection, hash: &str) -> Result<()> {
    sqlx::query("DELETE FROM sessions WHERE hash = $1").bind(hash).execute(db).await?;
    Ok(())
}
