//! How requests to apps are treated, in the database: what somebody has said about it, by launcher.

use std::collections::BTreeMap;

use marmot_core::id::LauncherId;

use super::said::Said;
use super::{Connection, Result};
use crate::traffic::Traffic;

const SAID: Said = Said {
    get: "SELECT settings AS said FROM app_traffic WHERE launcher_id = $1",
    set: "INSERT INTO app_traffic (launcher_id, settings) VALUES ($1, $2) \
          ON CONFLICT (launcher_id) DO UPDATE SET settings = excluded.settings",
    all: "SELECT launcher_id AS owner, settings AS said FROM app_traffic",
};

/// What was said about a launcher's app.
pub async fn get(db: &mut Connection, launcher: LauncherId) -> Result<Traffic> {
    SAID.get(db, launcher).await
}

/// Says it anew.
pub async fn set(db: &mut Connection, launcher: LauncherId, traffic: &Traffic) -> Result<()> {
    SAID.set(db, launcher, traffic).await
}

/// What was said about each launcher's app, of those of which something was.
pub async fn all(db: &mut Connection) -> Result<BTreeMap<LauncherId, Traffic>> {
    SAID.all(db).await
}
