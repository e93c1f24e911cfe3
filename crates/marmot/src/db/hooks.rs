//! What code hosting sites sign their messages with, in the database: sealed, never plain.

use jiff::Timestamp;
use marmot_core::id::LauncherId;
use sqlx::any::AnyRow;

use super::row::Columns;
use super::{Connection, Result};
use crate::model::Hook;
use crate::vault::Sealed;

fn read(row: &AnyRow) -> Result<(Hook, Sealed)> {
    let hook = Hook {
        launcher_id: row.parsed("launcher_id")?,
        created_at: row.time("created_at")?,
        heard_at: row.maybe_time("heard_at")?,
        heard: row.maybe_text("heard")?,
    };
    Ok((hook, Sealed::from_stored(row.text("sealed")?)))
}

/// Makes the hook of a launcher, in the place of an earlier one.
pub async fn put(db: &mut Connection, hook: &Hook, sealed: &Sealed) -> Result<()> {
    sqlx::query(
        "INSERT INTO hooks (launcher_id, sealed, created_at) VALUES ($1, $2, $3) ON CONFLICT (launcher_id) DO UPDATE \
         SET sealed = excluded.sealed, created_at = excluded.created_at, heard_at = NULL, heard = NULL",
    )
    .bind(hook.launcher_id.to_string())
    .bind(sealed.as_str())
    .bind(hook.created_at.as_millisecond())
    .execute(db)
    .await?;
    Ok(())
}

/// The hook of a launcher.
pub async fn get(db: &mut Connection, launcher: LauncherId) -> Result<Option<(Hook, Sealed)>> {
    let row = sqlx::query("SELECT * FROM hooks WHERE launcher_id = $1")
        .bind(launcher.to_string())
        .fetch_optional(db)
        .await?;
    row.as_ref().map(read).transpose()
}

/// All of them.
pub async fn all(db: &mut Connection) -> Result<Vec<(Hook, Sealed)>> {
    sqlx::query("SELECT * FROM hooks ORDER BY launcher_id").fetch_all(db).await?.iter().map(read).collect()
}

/// Writes the same under another key.
pub async fn reseal(db: &mut Connection, launcher: LauncherId, sealed: &Sealed) -> Result<()> {
    sqlx::query("UPDATE hooks SET sealed = $2 WHERE launcher_id = $1")
        .bind(launcher.to_string())
        .bind(sealed.as_str())
        .execute(db)
        .await?;
    Ok(())
}

/// Notes what was last heard by it, and what came of it.
pub async fn heard(db: &mut Connection, launcher: LauncherId, at: Timestamp, what: &str) -> Result<()> {
    sqlx::query("UPDATE hooks SET heard_at = $2, heard = $3 WHERE launcher_id = $1")
        .bind(launcher.to_string())
        .bind(at.as_millisecond())
        .bind(what)
        .execute(db)
        .await?;
    Ok(())
}

/// Removes the hook of a launcher; `false` when it has none.
pub async fn delete(db: &mut Connection, launcher: LauncherId) -> Result<bool> {
    let done = sqlx::query("DELETE FROM hooks WHERE launcher_id = $1")
        .bind(launcher.to_string())
        .execute(db)
        .await?;
    Ok(done.rows_affected() > 0)
}
