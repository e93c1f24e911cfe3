//! What projects show to the hosts of their repositories and images, in the database: sealed, never plain.

use marmot_core::id::{CredentialId, ProjectId};
use sqlx::any::AnyRow;

use super::row::Columns;
use super::{Connection, Result};
use crate::model::Credential;
use crate::vault::Sealed;

fn read(row: &AnyRow) -> Result<Credential> {
    Ok(Credential {
        id: row.parsed("id")?,
        project_id: row.parsed("project_id")?,
        kind: row.parsed("kind")?,
        host: row.text("host")?,
        username: row.text("username")?,
        created_at: row.time("created_at")?,
    })
}

/// Adds one, in the place of an earlier one for the same host.
pub async fn put(db: &mut Connection, credential: &Credential, sealed: &Sealed) -> Result<()> {
    sqlx::query("DELETE FROM credentials WHERE project_id = $1 AND kind = $2 AND host = $3")
        .bind(credential.project_id.to_string())
        .bind(credential.kind.as_str())
        .bind(&credential.host)
        .execute(&mut *db)
        .await?;
    sqlx::query(
        "INSERT INTO credentials (id, project_id, kind, host, username, sealed, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(credential.id.to_string())
    .bind(credential.project_id.to_string())
    .bind(credential.kind.as_str())
    .bind(&credential.host)
    .bind(&credential.username)
    .bind(sealed.as_str())
    .bind(credential.created_at.as_millisecond())
    .execute(db)
    .await?;
    Ok(())
}

/// Those of a project, by host.
pub async fn list(db: &mut Connection, project: ProjectId) -> Result<Vec<Credential>> {
    sqlx::query("SELECT * FROM credentials WHERE project_id = $1 ORDER BY host, kind")
        .bind(project.to_string())
        .fetch_all(db)
        .await?
        .iter()
        .map(read)
        .collect()
}

/// Those of all projects, sealed.
pub async fn all(db: &mut Connection) -> Result<Vec<(Credential, Sealed)>> {
    let rows = sqlx::query("SELECT * FROM credentials ORDER BY id").fetch_all(db).await?;
    rows.iter().map(|row| Ok((read(row)?, Sealed::from_stored(row.text("sealed")?)))).collect()
}

/// Writes the same under another key.
pub async fn reseal(db: &mut Connection, id: CredentialId, sealed: &Sealed) -> Result<()> {
    sqlx::query("UPDATE credentials SET sealed = $2 WHERE id = $1")
        .bind(id.to_string())
        .bind(sealed.as_str())
        .execute(db)
        .await?;
    Ok(())
}

/// Removes one of a project; `false` when it has no such.
pub async fn delete(db: &mut Connection, project: ProjectId, id: CredentialId) -> Result<bool> {
    let done = sqlx::query("DELETE FROM credentials WHERE id = $1 AND project_id = $2")
        .bind(id.to_string())
        .bind(project.to_string())
        .execute(db)
        .await?;
    Ok(done.rows_affected() > 0)
}
