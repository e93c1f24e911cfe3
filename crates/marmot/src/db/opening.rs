//! Who may open apps, in the database: to whom each is open, share links, keys.

use std::collections::BTreeMap;

use jiff::Timestamp;
use marmot_core::id::{AppKeyId, GroupId, LauncherId, ShareLinkId, UserId};
use sqlx::any::AnyRow;

use super::row::Columns;
use super::{Connection, DbError, Result};
use crate::opening::{AppKey, Grant, Guests, KeyQuota, Opening, ShareLink};

/// To whom a launcher's app is open.
pub async fn get(db: &mut Connection, launcher: LauncherId) -> Result<Opening> {
    let row = sqlx::query("SELECT open_to FROM app_access WHERE launcher_id = $1")
        .bind(launcher.to_string())
        .fetch_optional(&mut *db)
        .await?;
    let mut opening = Opening::default();
    if let Some(row) = row {
        opening.to = row.parsed("open_to")?;
    }
    let guests = sqlx::query("SELECT user_id, group_id FROM app_guests WHERE launcher_id = $1")
        .bind(launcher.to_string())
        .fetch_all(db)
        .await?;
    guests.iter().try_for_each(|row| invite(&mut opening.guests, row))?;
    Ok(opening)
}

/// Adds the one whom a row names.
fn invite(guests: &mut Guests, row: &AnyRow) -> Result<()> {
    guests.users.extend(row.maybe_parsed::<UserId>("user_id")?);
    guests.groups.extend(row.maybe_parsed::<GroupId>("group_id")?);
    Ok(())
}

/// Says it anew.
pub async fn set(db: &mut Connection, launcher: LauncherId, opening: &Opening) -> Result<()> {
    sqlx::query(
        "INSERT INTO app_access (launcher_id, open_to) VALUES ($1, $2) \
         ON CONFLICT (launcher_id) DO UPDATE SET open_to = excluded.open_to",
    )
    .bind(launcher.to_string())
    .bind(opening.to.as_str())
    .execute(&mut *db)
    .await?;
    sqlx::query("DELETE FROM app_guests WHERE launcher_id = $1")
        .bind(launcher.to_string())
        .execute(&mut *db)
        .await?;
    for user in &opening.guests.users {
        sqlx::query("INSERT INTO app_guests (launcher_id, user_id) VALUES ($1, $2)")
            .bind(launcher.to_string())
            .bind(user.to_string())
            .execute(&mut *db)
            .await?;
    }
    for group in &opening.guests.groups {
        sqlx::query("INSERT INTO app_guests (launcher_id, group_id) VALUES ($1, $2)")
            .bind(launcher.to_string())
            .bind(group.to_string())
            .execute(&mut *db)
            .await?;
    }
    Ok(())
}

/// To whom each launcher's app is open, of those of which something was said.
pub async fn all(db: &mut Connection) -> Result<BTreeMap<LauncherId, Opening>> {
    let mut all: BTreeMap<LauncherId, Opening> = BTreeMap::new();
    for row in sqlx::query("SELECT launcher_id, open_to FROM app_access").fetch_all(&mut *db).await? {
        all.entry(row.parsed("launcher_id")?).or_default().to = row.parsed("open_to")?;
    }
    let guests = sqlx::query("SELECT launcher_id, user_id, group_id FROM app_guests");
    for row in guests.fetch_all(db).await? {
        invite(&mut all.entry(row.parsed("launcher_id")?).or_default().guests, &row)?;
    }
    Ok(all)
}

fn grant<Id: std::str::FromStr<Err: std::fmt::Display>>(row: &AnyRow) -> Result<Grant<Id>> {
    Ok(Grant {
        id: row.parsed("id")?,
        name: row.text("name")?,
        created_by: row.maybe_parsed("username")?,
        created_at: row.time("created_at")?,
        expires_at: row.maybe_time("expires_at")?,
        last_used_at: row.maybe_time("last_used_at")?,
        uses: u64::try_from(row.int("uses")?).unwrap_or_default(),
    })
}

fn number(row: &AnyRow, column: &'static str) -> Result<Option<u32>> {
    let out_of_range = |_| DbError::Unreadable { column, why: "out of range".to_owned() };
    row.maybe_int(column)?.map(|number| u32::try_from(number).map_err(out_of_range)).transpose()
}

fn key(row: &AnyRow) -> Result<AppKey> {
    let quota = KeyQuota { per_minute: number(row, "per_minute")?, at_once: number(row, "at_once")? };
    Ok(AppKey { grant: grant(row)?, quota })
}

/// Where something belongs, and what it is found by.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The launcher whose app it opens.
    pub launcher: LauncherId,
    /// Who made it.
    pub by: Option<UserId>,
    /// The hash of its secret.
    pub hash: &'a str,
}

/// Adds a share link.
pub async fn insert_link(db: &mut Connection, link: &ShareLink, place: Place<'_>) -> Result<()> {
    sqlx::query(
        "INSERT INTO share_links (id, launcher_id, name, hash, created_by, created_at, expires_at, uses) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, 0)",
    )
    .bind(link.grant.id.to_string())
    .bind(place.launcher.to_string())
    .bind(&link.grant.name)
    .bind(place.hash)
    .bind(place.by.map(|by| by.to_string()))
    .bind(link.grant.created_at.as_millisecond())
    .bind(link.grant.expires_at.map(Timestamp::as_millisecond))
    .execute(db)
    .await?;
    Ok(())
}

/// Adds a key.
pub async fn insert_key(db: &mut Connection, key: &AppKey, place: Place<'_>) -> Result<()> {
    sqlx::query(
        "INSERT INTO app_keys (id, launcher_id, name, hash, created_by, created_at, expires_at, uses, per_minute, at_once) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, 0, $8, $9)",
    )
    .bind(key.grant.id.to_string())
    .bind(place.launcher.to_string())
    .bind(&key.grant.name)
    .bind(place.hash)
    .bind(place.by.map(|by| by.to_string()))
    .bind(key.grant.created_at.as_millisecond())
    .bind(key.grant.expires_at.map(Timestamp::as_millisecond))
    .bind(key.quota.per_minute.map(i64::from))
    .bind(key.quota.at_once.map(i64::from))
    .execute(db)
    .await?;
    Ok(())
}

/// The share links of a launcher's app, newest first.
pub async fn links(db: &mut Connection, launcher: LauncherId) -> Result<Vec<ShareLink>> {
    let rows = sqlx::query(
        "SELECT g.*, u.username FROM share_links g LEFT JOIN users u ON u.id = g.created_by \
         WHERE g.launcher_id = $1 ORDER BY g.id DESC",
    );
    let rows = rows.bind(launcher.to_string()).fetch_all(db).await?;
    rows.iter().map(|row| Ok(ShareLink { grant: grant(row)? })).collect()
}

/// The keys of a launcher's app, newest first.
pub async fn keys(db: &mut Connection, launcher: LauncherId) -> Result<Vec<AppKey>> {
    let rows = sqlx::query(
        "SELECT g.*, u.username FROM app_keys g LEFT JOIN users u ON u.id = g.created_by \
         WHERE g.launcher_id = $1 ORDER BY g.id DESC",
    );
    rows.bind(launcher.to_string()).fetch_all(db).await?.iter().map(key).collect()
}

/// What is in force of something that opens an app.
#[derive(Debug, Clone)]
pub struct InForce<T> {
    /// The launcher whose app it opens.
    pub launcher: LauncherId,
    /// The hash of its secret.
    pub hash: String,
    /// What it is.
    pub what: T,
}

fn in_force<T>(row: &AnyRow, what: T) -> Result<InForce<T>> {
    Ok(InForce { launcher: row.parsed("launcher_id")?, hash: row.text("hash")?, what })
}

/// Every share link, those that have expired among them: whoever has one is told so.
pub async fn all_links(db: &mut Connection) -> Result<Vec<InForce<ShareLink>>> {
    let rows =
        sqlx::query("SELECT g.*, u.username FROM share_links g LEFT JOIN users u ON u.id = g.created_by");
    let rows = rows.fetch_all(db).await?;
    rows.iter().map(|row| in_force(row, ShareLink { grant: grant(row)? })).collect()
}

/// Every key that has not expired.
pub async fn all_keys(db: &mut Connection, now: Timestamp) -> Result<Vec<InForce<AppKey>>> {
    let rows = sqlx::query(
        "SELECT g.*, u.username FROM app_keys g LEFT JOIN users u ON u.id = g.created_by \
         WHERE g.expires_at IS NULL OR g.expires_at > $1",
    );
    let rows = rows.bind(now.as_millisecond()).fetch_all(db).await?;
    rows.iter().map(|row| in_force(row, key(row)?)).collect()
}

/// Revokes a share link of a launcher's app; `false` when it has no such link.
pub async fn delete_link(db: &mut Connection, launcher: LauncherId, id: ShareLinkId) -> Result<bool> {
    let done = sqlx::query("DELETE FROM share_links WHERE id = $1 AND launcher_id = $2")
        .bind(id.to_string())
        .bind(launcher.to_string())
        .execute(db)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Revokes a key of a launcher's app; `false` when it has no such key.
pub async fn delete_key(db: &mut Connection, launcher: LauncherId, id: AppKeyId) -> Result<bool> {
    let done = sqlx::query("DELETE FROM app_keys WHERE id = $1 AND launcher_id = $2")
        .bind(id.to_string())
        .bind(launcher.to_string())
        .execute(db)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Notes that a link or key, whichever has this id, was used: so often more, and last at `last`.
pub async fn note_use(db: &mut Connection, id: &str, uses: u64, last: Timestamp) -> Result<()> {
    let uses = i64::try_from(uses).unwrap_or(i64::MAX);
    for table in [
        "UPDATE share_links SET uses = uses + $2, last_used_at = $3 WHERE id = $1",
        "UPDATE app_keys SET uses = uses + $2, last_used_at = $3 WHERE id = $1",
    ] {
        sqlx::query(table).bind(id).bind(uses).bind(last.as_millisecond()).execute(&mut *db).await?;
    }
    Ok(())
}
