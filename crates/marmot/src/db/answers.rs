//! What was answered to requests that may come again, in the database.

use jiff::Timestamp;
use marmot_core::id::UserId;

use super::row::Columns;
use super::{Connection, Result};
use crate::model::{Answer, Asked};

/// Forgets what came before `since`.
pub async fn forget_old(db: &mut Connection, since: Timestamp) -> Result<()> {
    sqlx::query("DELETE FROM answers WHERE at < $1").bind(since.as_millisecond()).execute(db).await?;
    Ok(())
}

/// What is known of the request that came with this key; with it, the hash of that request.
pub async fn get(db: &mut Connection, user: UserId, key: &str) -> Result<Option<(String, Asked)>> {
    let row = sqlx::query("SELECT * FROM answers WHERE user_id = $1 AND key = $2")
        .bind(user.to_string())
        .bind(key)
        .fetch_optional(db)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let status = row.maybe_int("status")?.map(|status| u16::try_from(status).unwrap_or(500));
    let asked = match (status, row.maybe_text("body")?) {
        (None, _) => Asked::UnderWay { since: row.time("at")? },
        (Some(_), None) => Asked::ShownOnce,
        (Some(status), Some(body)) => Asked::Answered(Answer { status, etag: row.maybe_text("etag")?, body }),
    };
    Ok(Some((row.text("request")?, asked)))
}

/// Notes that a request is being answered. Fails with [`DbError::Exists`](super::DbError::Exists) when one with this key is.
pub async fn begin(
    db: &mut Connection,
    (user, key): (UserId, &str),
    request: &str,
    now: Timestamp,
) -> Result<()> {
    sqlx::query("INSERT INTO answers (user_id, key, request, at) VALUES ($1, $2, $3, $4)")
        .bind(user.to_string())
        .bind(key)
        .bind(request)
        .bind(now.as_millisecond())
        .execute(db)
        .await?;
    Ok(())
}

/// Notes what was answered; without a body, what may be shown only once.
pub async fn end(
    db: &mut Connection,
    (user, key): (UserId, &str),
    status: u16,
    etag: Option<&str>,
    body: Option<&str>,
) -> Result<()> {
    sqlx::query("UPDATE answers SET status = $3, etag = $4, body = $5 WHERE user_id = $1 AND key = $2")
        .bind(user.to_string())
        .bind(key)
        .bind(i64::from(status))
        .bind(etag)
        .bind(body)
        .execute(db)
        .await?;
    Ok(())
}

/// Forgets a request: the key may be used anew.
pub async fn forget(db: &mut Connection, (user, key): (UserId, &str)) -> Result<()> {
    sqlx::query("DELETE FROM answers WHERE user_id = $1 AND key = $2")
        .bind(user.to_string())
        .bind(key)
        .execute(db)
        .await?;
    Ok(())
}
