//! Namespaces in the database: names that people and groups share, and that nobody else gets while a project has one.

use marmot_core::name::Namespace;

use super::row::total;
use super::{Connection, Result};

/// Takes a name; [`super::DbError::Exists`] when somebody has it.
pub async fn take(db: &mut Connection, name: &Namespace) -> Result<()> {
    sqlx::query("INSERT INTO namespaces (name) VALUES ($1)").bind(name.as_str()).execute(db).await?;
    Ok(())
}

/// Whether somebody has a name.
pub async fn taken(db: &mut Connection, name: &Namespace) -> Result<bool> {
    let row = sqlx::query("SELECT COUNT(*) AS total FROM namespaces WHERE name = $1").bind(name.as_str());
    Ok(total(&row.fetch_one(db).await?)? > 0)
}

/// Gives a name back, unless a project has it.
pub async fn give_back(db: &mut Connection, name: &Namespace) -> Result<()> {
    sqlx::query(
        "DELETE FROM namespaces WHERE name = $1 AND NOT EXISTS (SELECT 1 FROM projects WHERE namespace = $1)",
    )
    .bind(name.as_str())
    .execute(db)
    .await?;
    Ok(())
}
