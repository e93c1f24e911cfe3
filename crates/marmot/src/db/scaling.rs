//! How apps scale, in the database: what somebody has said about it, by launcher.

use std::collections::BTreeMap;

use marmot_core::id::LauncherId;

use super::said::Said;
use super::{Connection, Result};
use crate::scaling::Scaling;

const SAID: Said = Said {
    get: "SELECT settings AS said FROM scaling WHERE launcher_id = $1",
    set: "INSERT INTO scaling (launcher_id, settings) VALUES ($1, $2) \
          ON CONFLICT (launcher_id) DO UPDATE SET settings = excluded.settings",
    all: "SELECT launcher_id AS owner, settings AS said FROM scaling",
};

/// What was said about a launcher's app.
pub async fn get(db: &mut Connection, launcher: LauncherId) -> Result<Scaling> {
    SAID.get(db, launcher).await
}

/// Says it anew.
pub async fn set(db: &mut Connection, launcher: LauncherId, scaling: &Scaling) -> Result<()> {
    SAID.set(db, launcher, scaling).await
}

/// What was said about each launcher's app, of those of which something was.
pub async fn all(db: &mut Connection) -> Result<BTreeMap<LauncherId, Scaling>> {
    SAID.all(db).await
}
