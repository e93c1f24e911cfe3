//! What happened to apps, in the database: the last few hundred things of each.

use marmot_core::AppName;
use marmot_core::id::LauncherId;

use super::row::{Columns, from_json, to_json, total};
use super::{Connection, Found, Result};
use crate::model::{AppEvent, Page};

/// How many events of one app are kept.
const KEPT: i64 = 200;

/// Adds an event under a fresh ULID, and forgets the oldest of the same app.
pub async fn insert(db: &mut Connection, id: &str, launcher: LauncherId, event: &AppEvent) -> Result<()> {
    sqlx::query(
        "INSERT INTO events (id, launcher_id, at, kind, message, username, said) VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(id)
    .bind(launcher.to_string())
    .bind(event.at.as_millisecond())
    .bind(&event.kind)
    .bind(event.message.english())
    .bind(event.by.as_ref().map(|name| name.as_str()))
    .bind(event.message.name().map(|_| to_json("said", &event.message)).transpose()?)
    .execute(&mut *db)
    .await?;
    sqlx::query(
        "DELETE FROM events WHERE launcher_id = $1 AND id <= \
         (SELECT id FROM events WHERE launcher_id = $1 ORDER BY id DESC LIMIT 1 OFFSET $2)",
    )
    .bind(launcher.to_string())
    .bind(KEPT)
    .execute(db)
    .await?;
    Ok(())
}

/// The events of an app, newest first.
pub async fn list(db: &mut Connection, launcher: LauncherId, page: Page) -> Result<Found<AppEvent>> {
    let count = sqlx::query("SELECT COUNT(*) AS total FROM events WHERE launcher_id = $1");
    let total = total(&count.bind(launcher.to_string()).fetch_one(&mut *db).await?)?;
    let rows = sqlx::query("SELECT * FROM events WHERE launcher_id = $1 ORDER BY id DESC LIMIT $2 OFFSET $3")
        .bind(launcher.to_string())
        .bind(i64::from(page.per_page))
        .bind(page.offset())
        .fetch_all(db)
        .await?;
    Ok((rows.iter().map(read).collect::<Result<_>>()?, total))
}

fn read(row: &sqlx::any::AnyRow) -> Result<AppEvent> {
    Ok(AppEvent {
        at: row.time("at")?,
        kind: row.text("kind")?,
        // What was noted before sentences had names is shown as it was said.
        message: match row.maybe_text("said")? {
            Some(said) => from_json("said", &said)?,
            None => row.text("message")?.into(),
        },
        by: row.maybe_parsed("username")?,
    })
}

/// The last events of this kind of all apps, newest first, each with its app.
pub async fn of_kind(db: &mut Connection, kind: &str, count: u32) -> Result<Vec<(AppName, AppEvent)>> {
    let rows = sqlx::query(
        "SELECT e.*, l.app_name FROM events e JOIN launchers l ON l.id = e.launcher_id WHERE e.kind = $1 \
         ORDER BY e.id DESC LIMIT $2",
    );
    let rows = rows.bind(kind).bind(i64::from(count)).fetch_all(db).await?;
    rows.iter().map(|row| Ok((row.parsed("app_name")?, read(row)?))).collect()
}
