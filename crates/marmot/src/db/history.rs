//! What apps were used for, and what they took, in the database; and when they were on.

use jiff::Timestamp;
use marmot_core::id::LauncherId;

use super::row::{Columns, from_json, to_json};
use super::{Connection, Result};
use crate::history::{Counts, KEPT};

/// Adds what was counted to one slot.
pub async fn add(
    db: &mut Connection,
    launcher: LauncherId,
    (width, start): (i64, i64),
    counts: &Counts,
) -> Result<()> {
    let found =
        sqlx::query("SELECT counts FROM usage_slots WHERE launcher_id = $1 AND width = $2 AND start = $3");
    let found = found.bind(launcher.to_string()).bind(width).bind(start).fetch_optional(&mut *db).await?;
    let mut sum: Counts = match found {
        Some(row) => row.json("counts")?,
        None => Counts::default(),
    };
    sum.add(counts);
    sqlx::query(
        "INSERT INTO usage_slots (launcher_id, width, start, counts) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (launcher_id, width, start) DO UPDATE SET counts = excluded.counts",
    )
    .bind(launcher.to_string())
    .bind(width)
    .bind(start)
    .bind(to_json("counts", &sum)?)
    .execute(db)
    .await?;
    Ok(())
}

/// The slots of this width that begin from `from` on, by start.
pub async fn slots(
    db: &mut Connection,
    launcher: LauncherId,
    width: i64,
    from: i64,
) -> Result<Vec<(i64, Counts)>> {
    let rows = sqlx::query(
        "SELECT start, counts FROM usage_slots WHERE launcher_id = $1 AND width = $2 AND start >= $3 ORDER BY start",
    );
    let rows = rows.bind(launcher.to_string()).bind(width).bind(from).fetch_all(db).await?;
    rows.iter().map(|row| Ok((row.int("start")?, from_json("counts", &row.text("counts")?)?))).collect()
}

/// Notes that an app that was on is off.
pub async fn was_on(
    db: &mut Connection,
    launcher: LauncherId,
    began: Timestamp,
    ended: Timestamp,
) -> Result<()> {
    sqlx::query("INSERT INTO times_on (launcher_id, began, ended) VALUES ($1, $2, $3)")
        .bind(launcher.to_string())
        .bind(began.as_millisecond())
        .bind(ended.as_millisecond())
        .execute(db)
        .await?;
    Ok(())
}

/// When an app that was switched off since was on, in milliseconds, as far as that was after `from`.
pub async fn times_on(db: &mut Connection, launcher: LauncherId, from: i64) -> Result<Vec<(i64, i64)>> {
    let rows = sqlx::query("SELECT began, ended FROM times_on WHERE launcher_id = $1 AND ended > $2");
    let rows = rows.bind(launcher.to_string()).bind(from).fetch_all(db).await?;
    rows.iter().map(|row| Ok((row.int("began")?, row.int("ended")?))).collect()
}

/// Removes what is older than is kept.
pub async fn forget(db: &mut Connection, now: Timestamp) -> Result<()> {
    for (width, kept) in KEPT {
        sqlx::query("DELETE FROM usage_slots WHERE width = $1 AND start < $2")
            .bind(width)
            .bind(now.as_second() - kept)
            .execute(&mut *db)
            .await?;
    }
    let longest = KEPT.iter().map(|(_, kept)| *kept).max().unwrap_or_default();
    sqlx::query("DELETE FROM times_on WHERE ended < $1")
        .bind((now.as_second() - longest) * 1000)
        .execute(db)
        .await?;
    Ok(())
}
