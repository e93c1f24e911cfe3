//! What somebody has said about a launcher or a project, where it is one JSON text for each of them. Of whom nothing was said,
//! the default holds.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::row::{Columns, to_json};
use super::{Connection, Result};

/// How a table of such texts is read and written.
pub(super) struct Said {
    /// Finds `said` of the owner `$1`.
    pub get: &'static str,
    /// Puts `$2` in the place of what was said of the owner `$1`.
    pub set: &'static str,
    /// Lists each `owner` with what is `said` of it.
    pub all: &'static str,
}

impl Said {
    /// What was said about one owner.
    pub(super) async fn get<T: DeserializeOwned + Default>(
        &self,
        db: &mut Connection,
        owner: impl Display,
    ) -> Result<T> {
        let row = sqlx::query(self.get).bind(owner.to_string()).fetch_optional(db).await?;
        Ok(row.map(|row| row.json("said")).transpose()?.unwrap_or_default())
    }

    /// Says it anew.
    pub(super) async fn set<T: Serialize>(
        &self,
        db: &mut Connection,
        owner: impl Display,
        said: &T,
    ) -> Result<()> {
        let text = to_json("said", said)?;
        sqlx::query(self.set).bind(owner.to_string()).bind(text).execute(db).await?;
        Ok(())
    }

    /// What was said about each owner, of those of which something was.
    pub(super) async fn all<K: FromStr<Err: Display> + Ord, T: DeserializeOwned>(
        &self,
        db: &mut Connection,
    ) -> Result<BTreeMap<K, T>> {
        let rows = sqlx::query(self.all).fetch_all(db).await?;
        rows.iter().map(|row| Ok((row.parsed("owner")?, row.json("said")?))).collect()
    }
}
