//! Secrets of projects and launchers in the database: sealed, never plain.

use marmot_core::id::{LauncherId, ProjectId, SecretId};
use sqlx::any::AnyRow;

use super::row::Columns;
use super::{Connection, Result};
use crate::model::StoredSecret;
use crate::vault::Sealed;

fn read(row: &AnyRow) -> Result<StoredSecret> {
    Ok(StoredSecret {
        id: row.parsed("id")?,
        project_id: row.parsed("project_id")?,
        launcher_id: row.maybe_parsed("launcher_id")?,
        name: row.text("name")?,
        form: row.parsed("form")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

fn read_sealed(row: &AnyRow) -> Result<(StoredSecret, Sealed)> {
    Ok((read(row)?, Sealed::from_stored(row.text("sealed")?)))
}

/// Whose secret it is: its launcher's, or else its project's.
fn owner(project: ProjectId, launcher: Option<LauncherId>) -> String {
    launcher.map_or_else(|| project.to_string(), |launcher| launcher.to_string())
}

/// Adds a secret. Fails with [`DbError::Exists`](super::DbError::Exists) when its owner has one of that name.
pub async fn insert(db: &mut Connection, secret: &StoredSecret, sealed: &Sealed) -> Result<()> {
    sqlx::query(
        "INSERT INTO secrets (id, project_id, launcher_id, owner, name, form, sealed, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(secret.id.to_string())
    .bind(secret.project_id.to_string())
    .bind(secret.launcher_id.map(|id| id.to_string()))
    .bind(owner(secret.project_id, secret.launcher_id))
    .bind(&secret.name)
    .bind(secret.form.as_str())
    .bind(sealed.as_str())
    .bind(secret.created_at.as_millisecond())
    .bind(secret.updated_at.as_millisecond())
    .execute(db)
    .await?;
    Ok(())
}

/// Writes another value, and how it is given.
pub async fn update(db: &mut Connection, secret: &StoredSecret, sealed: &Sealed) -> Result<()> {
    sqlx::query("UPDATE secrets SET form = $2, sealed = $3, updated_at = $4 WHERE id = $1")
        .bind(secret.id.to_string())
        .bind(secret.form.as_str())
        .bind(sealed.as_str())
        .bind(secret.updated_at.as_millisecond())
        .execute(db)
        .await?;
    Ok(())
}

/// The secret of this name of a launcher, or of a project itself.
pub async fn by_name(
    db: &mut Connection,
    project: ProjectId,
    launcher: Option<LauncherId>,
    name: &str,
) -> Result<Option<StoredSecret>> {
    let row = sqlx::query("SELECT * FROM secrets WHERE owner = $1 AND name = $2")
        .bind(owner(project, launcher))
        .bind(name)
        .fetch_optional(db)
        .await?;
    row.as_ref().map(read).transpose()
}

/// The secrets of a launcher, or of a project itself, by name.
pub async fn list(
    db: &mut Connection,
    project: ProjectId,
    launcher: Option<LauncherId>,
) -> Result<Vec<StoredSecret>> {
    sqlx::query("SELECT * FROM secrets WHERE owner = $1 ORDER BY name")
        .bind(owner(project, launcher))
        .fetch_all(db)
        .await?
        .iter()
        .map(read)
        .collect()
}

/// Every secret of every project, sealed.
pub async fn all(db: &mut Connection) -> Result<Vec<(StoredSecret, Sealed)>> {
    sqlx::query("SELECT * FROM secrets ORDER BY owner, name")
        .fetch_all(db)
        .await?
        .iter()
        .map(read_sealed)
        .collect()
}

/// Writes the same value under another key.
pub async fn reseal(db: &mut Connection, id: SecretId, sealed: &Sealed) -> Result<()> {
    sqlx::query("UPDATE secrets SET sealed = $2 WHERE id = $1")
        .bind(id.to_string())
        .bind(sealed.as_str())
        .execute(db)
        .await?;
    Ok(())
}

/// Removes a secret; `false` when there was none.
pub async fn delete(db: &mut Connection, id: SecretId) -> Result<bool> {
    let done = sqlx::query("DELETE FROM secrets WHERE id = $1").bind(id.to_string()).execute(db).await?;
    Ok(done.rows_affected() > 0)
}
