//! How launchers learn of changes of their branches, and what was last seen of these, in the database.

use std::collections::BTreeMap;

use jiff::Timestamp;
use marmot_core::id::LauncherId;
use sqlx::any::AnyRow;

use super::row::{Columns, to_json};
use super::{Connection, Result};
use crate::model::{Following, Sighting};

/// What was said about how a launcher learns of changes.
pub async fn get(db: &mut Connection, launcher: LauncherId) -> Result<Following> {
    let row = sqlx::query("SELECT settings FROM following WHERE launcher_id = $1")
        .bind(launcher.to_string())
        .fetch_optional(db)
        .await?;
    Ok(row.as_ref().map(|row| row.json("settings")).transpose()?.unwrap_or_default())
}

/// All that was said, by launcher.
pub async fn all(db: &mut Connection) -> Result<BTreeMap<LauncherId, Following>> {
    let rows = sqlx::query("SELECT * FROM following").fetch_all(db).await?;
    rows.iter().map(|row| Ok((row.parsed("launcher_id")?, row.json("settings")?))).collect()
}

/// Says it anew.
pub async fn set(db: &mut Connection, launcher: LauncherId, following: &Following) -> Result<()> {
    sqlx::query(
        "INSERT INTO following (launcher_id, settings) VALUES ($1, $2) ON CONFLICT (launcher_id) DO UPDATE \
         SET settings = excluded.settings",
    )
    .bind(launcher.to_string())
    .bind(to_json("settings", following)?)
    .execute(db)
    .await?;
    Ok(())
}

fn read(row: &AnyRow) -> Result<Sighting> {
    Ok(Sighting {
        tip: row.maybe_text("tip")?,
        looked_at: row.maybe_time("looked_at")?,
        error: row.maybe_text("error")?,
        failures: u32::try_from(row.int("failures")?).unwrap_or(u32::MAX),
        next_at: row.maybe_time("next_at")?,
    })
}

/// What was last seen of a launcher's branch.
pub async fn sighting(db: &mut Connection, launcher: LauncherId) -> Result<Sighting> {
    let row = sqlx::query("SELECT * FROM sightings WHERE launcher_id = $1")
        .bind(launcher.to_string())
        .fetch_optional(db)
        .await?;
    Ok(row.as_ref().map(read).transpose()?.unwrap_or_default())
}

/// Notes what was seen.
pub async fn see(db: &mut Connection, launcher: LauncherId, sighting: &Sighting) -> Result<()> {
    sqlx::query(
        "INSERT INTO sightings (launcher_id, tip, looked_at, error, failures, next_at) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (launcher_id) DO UPDATE SET tip = excluded.tip, looked_at = excluded.looked_at, \
         error = excluded.error, failures = excluded.failures, next_at = excluded.next_at",
    )
    .bind(launcher.to_string())
    .bind(sighting.tip.as_deref())
    .bind(sighting.looked_at.map(Timestamp::as_millisecond))
    .bind(sighting.error.as_deref())
    .bind(i64::from(sighting.failures))
    .bind(sighting.next_at.map(Timestamp::as_millisecond))
    .execute(db)
    .await?;
    Ok(())
}

/// The launchers with an app that is on whose branch is to be looked at by `now`, the longest overdue first.
pub async fn due(db: &mut Connection, now: Timestamp, count: u32) -> Result<Vec<LauncherId>> {
    let rows = sqlx::query(
        "SELECT s.launcher_id FROM sightings s JOIN apps a ON a.launcher_id = s.launcher_id WHERE s.next_at <= $1 \
         ORDER BY s.next_at LIMIT $2",
    );
    let rows = rows.bind(now.as_millisecond()).bind(i64::from(count)).fetch_all(db).await?;
    rows.iter().map(|row| row.parsed("launcher_id")).collect()
}

/// When the next branch is to be looked at.
pub async fn next_due(db: &mut Connection) -> Result<Option<Timestamp>> {
    let row = sqlx::query(
        "SELECT MIN(s.next_at) AS next_at FROM sightings s JOIN apps a ON a.launcher_id = s.launcher_id",
    );
    row.fetch_one(db).await?.maybe_time("next_at")
}
