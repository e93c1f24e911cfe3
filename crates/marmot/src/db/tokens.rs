//! API tokens in the database.

use jiff::Timestamp;
use marmot_core::id::{TokenId, UserId};
use sqlx::any::AnyRow;

use super::row::Columns;
use super::{Connection, Result};
use crate::model::{Limit, Token};

fn read(row: &AnyRow) -> Result<Token> {
    let (project, launcher) = (row.maybe_parsed("project_id")?, row.maybe_parsed("launcher_id")?);
    let limit = project.map(|project| match launcher {
        Some(launcher) => Limit::Launcher { launcher, project },
        None => Limit::Project(project),
    });
    Ok(Token {
        limit,
        access: row.parsed("access")?,
        id: row.parsed("id")?,
        name: row.text("name")?,
        created_at: row.time("created_at")?,
        expires_at: row.maybe_time("expires_at")?,
        last_used_at: row.maybe_time("last_used_at")?,
    })
}

/// Adds a token, found again by the hash of its text.
pub async fn insert(db: &mut Connection, token: &Token, user: UserId, hash: &str) -> Result<()> {
    let (project, launcher) = match token.limit {
        None => (None, None),
        Some(Limit::Project(project)) => (Some(project), None),
        Some(Limit::Launcher { launcher, project }) => (Some(project), Some(launcher)),
    };
    sqlx::query(
        "INSERT INTO tokens (id, user_id, name, hash, created_at, expires_at, access, project_id, launcher_id) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(token.id.to_string())
    .bind(user.to_string())
    .bind(&token.name)
    .bind(hash)
    .bind(token.created_at.as_millisecond())
    .bind(token.expires_at.map(Timestamp::as_millisecond))
    .bind(token.access.as_str())
    .bind(project.map(|id| id.to_string()))
    .bind(launcher.map(|id| id.to_string()))
    .execute(db)
    .await?;
    Ok(())
}

/// The token with this hash and whose it is, unless it has expired.
pub async fn by_hash(db: &mut Connection, hash: &str, now: Timestamp) -> Result<Option<(Token, UserId)>> {
    let row = sqlx::query("SELECT * FROM tokens WHERE hash = $1 AND (expires_at IS NULL OR expires_at > $2)")
        .bind(hash)
        .bind(now.as_millisecond())
        .fetch_optional(db)
        .await?;
    row.map(|row| Ok((read(&row)?, row.parsed("user_id")?))).transpose()
}

/// A person's tokens, newest first.
pub async fn of_user(db: &mut Connection, user: UserId) -> Result<Vec<Token>> {
    sqlx::query("SELECT * FROM tokens WHERE user_id = $1 ORDER BY id DESC")
        .bind(user.to_string())
        .fetch_all(db)
        .await?
        .iter()
        .map(read)
        .collect()
}

/// Notes that a token was used.
pub async fn touch(db: &mut Connection, id: TokenId, now: Timestamp) -> Result<()> {
    sqlx::query("UPDATE tokens SET last_used_at = $2 WHERE id = $1")
        .bind(id.to_string())
        .bind(now.as_millisecond())
        .execute(db)
        .await?;
    Ok(())
}

/// Revokes a person's token; `false` when that person has no such token.
pub async fn delete(db: &mut Connection, user: UserId, id: TokenId) -> Result<bool> {
    let done = sqlx::query("DELETE FROM tokens WHERE id = $1 AND user_id = $2")
        .bind(id.to_string())
        .bind(user.to_string())
        .execute(db)
        .await?;
    Ok(done.rows_affected() > 0)
}
