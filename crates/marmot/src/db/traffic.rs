//! How requests to apps are treated, in the database: what somebody has said about it, by launcher.

use std::collections::BTreeMap;

use marmot_core::id::LauncherId;

use super::row::{Columns, to_json};
use super::{Connection, Result};
use crate::traffic::Traffic;

/// What was said about a launcher's app.
pub async fn get(db: &mut Connection, launcher: LauncherId) -> Result<Traffic> {
    let row = sqlx::query("SELECT settings FROM app_traffic WHERE launcher_id = $1")
        .bind(launcher.to_string())
        .fetch_optional(db)
        .await?;
    Ok(row.map(|row| row.json("settings")).transpose()?.unwrap_or_default())
}

/// Says it anew.
pub async fn set(db: &mut Connection, launcher: LauncherId, traffic: &Traffic) -> Result<()> {
    sqlx::query(
        "INSERT INTO app_traffic (launcher_id, settings) VALUES ($1, $2) \
         ON CONFLICT (launcher_id) DO UPDATE SET settings = excluded.settings",
    )
    .bind(launcher.to_string())
    .bind(to_json("settings", traffic)?)
    .execute(db)
    .await?;
    Ok(())
}

/// What was said about each launcher's app, of those of which something was.
pub async fn all(db: &mut Connection) -> Result<BTreeMap<LauncherId, Traffic>> {
    let rows = sqlx::query("SELECT launcher_id, settings FROM app_traffic").fetch_all(db).await?;
    rows.iter().map(|row| Ok((row.parsed("launcher_id")?, row.json("settings")?))).collect()
}
