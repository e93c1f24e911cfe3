//! Sessions, ways in, and links that work once, in the database.

use jiff::Timestamp;
use marmot_core::id::{SessionId, UserId};
use sqlx::any::AnyRow;

use super::row::Columns;
use super::{Connection, Result, users};
use crate::model::{Session, User, WayIn};

/// Starts a session, found again by the hash of its text; forgets those that are over.
pub async fn insert(db: &mut Connection, hash: &str, user: UserId, session: &Session) -> Result<()> {
    sqlx::query("DELETE FROM sessions WHERE expires_at <= $1")
        .bind(session.created_at.as_millisecond())
        .execute(&mut *db)
        .await?;
    sqlx::query(
        "INSERT INTO sessions (hash, id, user_id, created_at, last_seen_at, expires_at, provider, address, agent) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(hash)
    .bind(session.id.to_string())
    .bind(user.to_string())
    .bind(session.created_at.as_millisecond())
    .bind(session.last_seen_at.as_millisecond())
    .bind(session.expires_at.as_millisecond())
    .bind(session.provider.as_deref())
    .bind(&session.address)
    .bind(&session.agent)
    .execute(db)
    .await?;
    Ok(())
}

fn read(row: &AnyRow) -> Result<Session> {
    Ok(Session {
        id: row.parsed("session_id")?,
        created_at: row.time("session_created_at")?,
        last_seen_at: row.time("last_seen_at")?,
        expires_at: row.time("expires_at")?,
        provider: row.maybe_text("provider")?,
        address: row.text("address")?,
        agent: row.text("agent")?,
    })
}

/// The session with this hash and whose it is, unless it is over or the person is kept out.
pub async fn find(db: &mut Connection, hash: &str, now: Timestamp) -> Result<Option<(User, Session)>> {
    let row = sqlx::query(
        "SELECT u.*, s.id AS session_id, s.created_at AS session_created_at, s.last_seen_at, s.expires_at, \
         s.provider, s.address, s.agent FROM sessions s JOIN users u ON u.id = s.user_id \
         WHERE s.hash = $1 AND s.expires_at > $2 AND u.disabled_at IS NULL",
    )
    .bind(hash)
    .bind(now.as_millisecond())
    .fetch_optional(db)
    .await?;
    row.map(|row| Ok((users::read(&row)?, read(&row)?))).transpose()
}

/// A person's sessions that are not over, the last used first.
pub async fn of_user(db: &mut Connection, user: UserId, now: Timestamp) -> Result<Vec<Session>> {
    sqlx::query(
        "SELECT s.id AS session_id, s.created_at AS session_created_at, s.last_seen_at, s.expires_at, s.provider, \
         s.address, s.agent FROM sessions s WHERE s.user_id = $1 AND s.expires_at > $2 ORDER BY s.last_seen_at DESC",
    )
    .bind(user.to_string())
    .bind(now.as_millisecond())
    .fetch_all(db)
    .await?
    .iter()
    .map(read)
    .collect()
}

/// Notes that a session is in use.
pub async fn touch(db: &mut Connection, hash: &str, now: Timestamp) -> Result<()> {
    sqlx::query("UPDATE sessions SET last_seen_at = $2 WHERE hash = $1")
        .bind(hash)
        .bind(now.as_millisecond())
        .execute(db)
        .await?;
    Ok(())
}

/// Ends the session with this hash.
pub async fn delete(db: &mut Connection, hash: &str) -> Result<()> {
    sqlx::query("DELETE FROM sessions WHERE hash = $1").bind(hash).execute(db).await?;
    Ok(())
}

/// Ends a session of this person; `false` when there is none with this id.
pub async fn revoke(db: &mut Connection, user: UserId, id: SessionId) -> Result<bool> {
    let done = sqlx::query("DELETE FROM sessions WHERE user_id = $1 AND id = $2")
        .bind(user.to_string())
        .bind(id.to_string())
        .execute(db)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Ends all sessions of a person.
pub async fn delete_all(db: &mut Connection, user: UserId) -> Result<()> {
    sqlx::query("DELETE FROM sessions WHERE user_id = $1").bind(user.to_string()).execute(db).await?;
    Ok(())
}

/// Whose way in this is.
pub async fn by_identity(db: &mut Connection, issuer: &str, subject: &str) -> Result<Option<UserId>> {
    let row = sqlx::query("SELECT user_id FROM identities WHERE issuer = $1 AND subject = $2")
        .bind(issuer)
        .bind(subject)
        .fetch_optional(db)
        .await?;
    row.map(|row| row.parsed("user_id")).transpose()
}

/// Adds a way in for a person.
pub async fn insert_identity(db: &mut Connection, user: UserId, way: &WayIn) -> Result<()> {
    sqlx::query(
        "INSERT INTO identities (issuer, subject, user_id, label, created_at, last_used_at) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(&way.issuer)
    .bind(&way.subject)
    .bind(user.to_string())
    .bind(&way.label)
    .bind(way.created_at.as_millisecond())
    .bind(way.last_used_at.as_millisecond())
    .execute(db)
    .await?;
    Ok(())
}

/// Notes that a way in was used, and what it is called now.
pub async fn touch_identity(db: &mut Connection, way: &WayIn) -> Result<()> {
    sqlx::query("UPDATE identities SET last_used_at = $3, label = $4 WHERE issuer = $1 AND subject = $2")
        .bind(&way.issuer)
        .bind(&way.subject)
        .bind(way.last_used_at.as_millisecond())
        .bind(&way.label)
        .execute(db)
        .await?;
    Ok(())
}

/// A person's ways in, oldest first.
pub async fn identities(db: &mut Connection, user: UserId) -> Result<Vec<WayIn>> {
    sqlx::query("SELECT * FROM identities WHERE user_id = $1 ORDER BY created_at, issuer, subject")
        .bind(user.to_string())
        .fetch_all(db)
        .await?
        .iter()
        .map(|row| {
            Ok(WayIn {
                issuer: row.text("issuer")?,
                subject: row.text("subject")?,
                label: row.text("label")?,
                created_at: row.time("created_at")?,
                last_used_at: row.time("last_used_at")?,
            })
        })
        .collect()
}

/// Takes a way in away from a person; `false` when it is none.
pub async fn delete_identity(db: &mut Connection, user: UserId, issuer: &str, subject: &str) -> Result<bool> {
    let done = sqlx::query("DELETE FROM identities WHERE user_id = $1 AND issuer = $2 AND subject = $3")
        .bind(user.to_string())
        .bind(issuer)
        .bind(subject)
        .execute(db)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Adds a link that works once, in the place of the one before: for a person, or for the first administrator.
pub async fn insert_link(
    db: &mut Connection,
    hash: &str,
    user: Option<UserId>,
    now: Timestamp,
    expires_at: Timestamp,
) -> Result<()> {
    let user = user.map(|id| id.to_string());
    sqlx::query("DELETE FROM links WHERE user_id = $1 OR (user_id IS NULL AND $1 = '') OR expires_at <= $2")
        .bind(user.clone().unwrap_or_default())
        .bind(now.as_millisecond())
        .execute(&mut *db)
        .await?;
    sqlx::query("INSERT INTO links (hash, user_id, created_at, expires_at) VALUES ($1, $2, $3, $4)")
        .bind(hash)
        .bind(user)
        .bind(now.as_millisecond())
        .bind(expires_at.as_millisecond())
        .execute(db)
        .await?;
    Ok(())
}

/// For whom the link with this hash is: a person, or (as nobody) the first administrator.
pub async fn link(db: &mut Connection, hash: &str, now: Timestamp) -> Result<Option<Option<UserId>>> {
    let row = sqlx::query("SELECT user_id FROM links WHERE hash = $1 AND expires_at > $2")
        .bind(hash)
        .bind(now.as_millisecond())
        .fetch_optional(db)
        .await?;
    row.map(|row| row.maybe_parsed("user_id")).transpose()
}

/// Uses a link up; `false` when somebody else was faster.
pub async fn use_link(db: &mut Connection, hash: &str) -> Result<bool> {
    let done = sqlx::query("DELETE FROM links WHERE hash = $1").bind(hash).execute(db).await?;
    Ok(done.rows_affected() > 0)
}
