//! The audit in the database. There is a way to add to it, and ways to read it; none to change or remove.

use marmot_core::id::ProjectId;
use sqlx::any::AnyRow;

use super::row::{Columns, to_json, total};
use super::{Connection, Found, Result};
use crate::model::{Deed, Page};

/// How many deeds an export reads at once.
const AT_ONCE: i64 = 500;

/// Adds a deed.
pub async fn insert(db: &mut Connection, deed: &Deed) -> Result<()> {
    sqlx::query(
        "INSERT INTO audit (id, at, actor_id, actor, via, address, action, kind, target_id, target, project_id, \
         details) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(&deed.id)
    .bind(deed.at.as_millisecond())
    .bind(deed.actor_id.map(|id| id.to_string()))
    .bind(&deed.actor)
    .bind(deed.via.as_str())
    .bind(&deed.address)
    .bind(&deed.action)
    .bind(&deed.kind)
    .bind(&deed.target_id)
    .bind(&deed.target)
    .bind(deed.project.map(|id| id.to_string()))
    .bind(to_json("details", &deed.details)?)
    .execute(db)
    .await?;
    Ok(())
}

fn read(row: &AnyRow) -> Result<Deed> {
    Ok(Deed {
        id: row.text("id")?,
        at: row.time("at")?,
        actor_id: row.maybe_parsed("actor_id")?,
        actor: row.text("actor")?,
        via: row.parsed("via")?,
        address: row.text("address")?,
        action: row.text("action")?,
        kind: row.text("kind")?,
        target_id: row.text("target_id")?,
        target: row.text("target")?,
        project: row.maybe_parsed("project_id")?,
        details: row.json("details")?,
    })
}

/// The deeds in a project, or all, newest first.
pub async fn list(db: &mut Connection, project: Option<ProjectId>, page: Page) -> Result<Found<Deed>> {
    let project = project.map(|id| id.to_string()).unwrap_or_default();
    let count = sqlx::query("SELECT COUNT(*) AS total FROM audit WHERE $1 = '' OR project_id = $1");
    let total = total(&count.bind(&project).fetch_one(&mut *db).await?)?;
    let rows = sqlx::query(
        "SELECT * FROM audit WHERE $1 = '' OR project_id = $1 ORDER BY id DESC LIMIT $2 OFFSET $3",
    );
    let rows = rows.bind(&project).bind(i64::from(page.per_page)).bind(page.offset()).fetch_all(db).await?;
    Ok((rows.iter().map(read).collect::<Result<_>>()?, total))
}

/// Some of the deeds after this one, oldest first; none when there are no more.
pub async fn after(db: &mut Connection, project: Option<ProjectId>, after: &str) -> Result<Vec<Deed>> {
    let project = project.map(|id| id.to_string()).unwrap_or_default();
    sqlx::query("SELECT * FROM audit WHERE ($1 = '' OR project_id = $1) AND id > $2 ORDER BY id LIMIT $3")
        .bind(&project)
        .bind(after)
        .bind(AT_ONCE)
        .fetch_all(db)
        .await?
        .iter()
        .map(read)
        .collect()
}
