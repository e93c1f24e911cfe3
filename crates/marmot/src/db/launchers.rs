//! Launchers and their environments in the database.

use jiff::Timestamp;
use marmot_core::AppName;
use marmot_core::id::{EnvironmentId, LauncherId, ProjectId};
use sqlx::any::AnyRow;

use super::projects::{Seen, Viewer};
use super::row::{Columns, to_json, total};
use super::{Connection, Found, Result};
use crate::model::{Environment, Launcher, Page, PreviewOf};

pub(super) fn read(row: &AnyRow) -> Result<Launcher> {
    let of: Option<LauncherId> = row.maybe_parsed("preview_of")?;
    let (branch, ends_at) = (row.maybe_text("preview_branch")?, row.maybe_time("preview_ends_at")?);
    let preview = of.zip(branch).zip(ends_at);
    Ok(Launcher {
        preview: preview.map(|((of, branch), ends_at)| PreviewOf { of, branch, ends_at }),
        id: row.parsed("id")?,
        project_id: row.parsed("project_id")?,
        name: row.text("name")?,
        description: row.maybe_text("description")?,
        kind: row.parsed("kind")?,
        app_name: row.parsed("app_name")?,
        environment: Environment { id: row.parsed("environment_id")?, source: row.json("source")? },
        variables: row.json("variables")?,
        resource_class_id: row.int("resource_class_id")?,
        network: row.json("network")?,
        created_by: row.parsed("created_by")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

/// Adds a launcher and its environment, and takes its app's name for good.
pub async fn insert(db: &mut Connection, launcher: &Launcher) -> Result<()> {
    let preview = launcher.preview.as_ref();
    sqlx::query("INSERT INTO app_names (name, preview) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
        .bind(launcher.app_name.as_str())
        .bind(preview.map(|preview| preview_key(preview.of, &preview.branch)))
        .execute(&mut *db)
        .await?;
    sqlx::query(
        "INSERT INTO launchers (id, project_id, name, description, kind, app_name, variables, resource_class_id, \
         created_by, created_at, updated_at, network, preview_of, preview_branch, preview_ends_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
    )
    .bind(launcher.id.to_string())
    .bind(launcher.project_id.to_string())
    .bind(&launcher.name)
    .bind(launcher.description.as_deref())
    .bind(launcher.kind.as_str())
    .bind(launcher.app_name.as_str())
    .bind(to_json("variables", &launcher.variables)?)
    .bind(launcher.resource_class_id)
    .bind(launcher.created_by.to_string())
    .bind(launcher.created_at.as_millisecond())
    .bind(launcher.updated_at.as_millisecond())
    .bind(to_json("network", &launcher.network)?)
    .bind(preview.map(|preview| preview.of.to_string()))
    .bind(preview.map(|preview| preview.branch.as_str()))
    .bind(preview.map(|preview| preview.ends_at.as_millisecond()))
    .execute(&mut *db)
    .await?;
    sqlx::query("INSERT INTO environments (id, launcher_id, source) VALUES ($1, $2, $3)")
        .bind(launcher.environment.id.to_string())
        .bind(launcher.id.to_string())
        .bind(to_json("source", &launcher.environment.source)?)
        .execute(db)
        .await?;
    Ok(())
}

/// Writes a changed launcher over the one before. Its app's name and its environment's id never change.
pub async fn update(db: &mut Connection, launcher: &Launcher) -> Result<()> {
    sqlx::query(
        "UPDATE launchers SET name = $2, description = $3, variables = $4, resource_class_id = $5, updated_at = $6, \
         network = $7, preview_ends_at = $8 WHERE id = $1",
    )
    .bind(launcher.id.to_string())
    .bind(&launcher.name)
    .bind(launcher.description.as_deref())
    .bind(to_json("variables", &launcher.variables)?)
    .bind(launcher.resource_class_id)
    .bind(launcher.updated_at.as_millisecond())
    .bind(to_json("network", &launcher.network)?)
    .bind(launcher.preview.as_ref().map(|preview| preview.ends_at.as_millisecond()))
    .execute(&mut *db)
    .await?;
    sqlx::query("UPDATE environments SET source = $2 WHERE launcher_id = $1")
        .bind(launcher.id.to_string())
        .bind(to_json("source", &launcher.environment.source)?)
        .execute(db)
        .await?;
    Ok(())
}

/// Removes a launcher with its environment, builds, revisions, events, and its app. Its app's name stays taken.
pub async fn delete(db: &mut Connection, id: LauncherId) -> Result<()> {
    // The app refers to revisions and builds that go in the same cascade, in no certain order.
    sqlx::query(
        "DELETE FROM apps WHERE launcher_id = $1 OR launcher_id IN (SELECT id FROM launchers WHERE preview_of = $1)",
    )
    .bind(id.to_string())
    .execute(&mut *db)
    .await?;
    sqlx::query("DELETE FROM launchers WHERE id = $1").bind(id.to_string()).execute(db).await?;
    Ok(())
}

/// The launcher with this id.
pub async fn get(db: &mut Connection, id: LauncherId) -> Result<Option<Launcher>> {
    let row = sqlx::query(
        "SELECT l.*, e.id AS environment_id, e.source FROM launchers l JOIN environments e ON e.launcher_id = l.id \
         WHERE l.id = $1",
    )
    .bind(id.to_string())
    .fetch_optional(db)
    .await?;
    row.as_ref().map(read).transpose()
}

/// The launcher whose app has this name.
pub async fn by_app_name(db: &mut Connection, name: &AppName) -> Result<Option<Launcher>> {
    let row = sqlx::query(
        "SELECT l.*, e.id AS environment_id, e.source FROM launchers l JOIN environments e ON e.launcher_id = l.id \
         WHERE l.app_name = $1",
    )
    .bind(name.as_str())
    .fetch_optional(db)
    .await?;
    row.as_ref().map(read).transpose()
}

/// The launcher with this environment.
pub async fn by_environment(db: &mut Connection, id: EnvironmentId) -> Result<Option<Launcher>> {
    let row = sqlx::query(
        "SELECT l.*, e.id AS environment_id, e.source FROM launchers l JOIN environments e ON e.launcher_id = l.id \
         WHERE e.id = $1",
    )
    .bind(id.to_string())
    .fetch_optional(db)
    .await?;
    row.as_ref().map(read).transpose()
}

/// Whether an app has this name, or ever had it.
pub async fn app_name_taken(db: &mut Connection, name: &AppName) -> Result<bool> {
    let row = sqlx::query("SELECT COUNT(*) AS total FROM app_names WHERE name = $1").bind(name.as_str());
    Ok(total(&row.fetch_one(db).await?)? > 0)
}

/// What the name of a preview is kept for.
fn preview_key(of: LauncherId, branch: &str) -> String {
    format!("{of} {branch}")
}

/// The name that an earlier preview of this branch had, if nothing has it now.
pub async fn name_of_preview(db: &mut Connection, of: LauncherId, branch: &str) -> Result<Option<AppName>> {
    let row = sqlx::query(
        "SELECT name FROM app_names WHERE preview = $1 AND name NOT IN (SELECT app_name FROM launchers) ORDER BY name",
    )
    .bind(preview_key(of, branch))
    .fetch_optional(db)
    .await?;
    row.as_ref().map(|row| row.parsed("name")).transpose()
}

/// All launchers and previews, oldest first.
pub async fn all(db: &mut Connection) -> Result<Vec<Launcher>> {
    let rows = sqlx::query(
        "SELECT l.*, e.id AS environment_id, e.source FROM launchers l JOIN environments e ON e.launcher_id = l.id \
         ORDER BY l.id",
    );
    rows.fetch_all(db).await?.iter().map(read).collect()
}

/// The launchers and previews of a project, oldest first.
pub async fn of_project(db: &mut Connection, project: ProjectId) -> Result<Vec<Launcher>> {
    let rows = sqlx::query(
        "SELECT l.*, e.id AS environment_id, e.source FROM launchers l JOIN environments e ON e.launcher_id = l.id \
         WHERE l.project_id = $1 ORDER BY l.id",
    );
    rows.bind(project.to_string()).fetch_all(db).await?.iter().map(read).collect()
}

/// The previews of a launcher, oldest first.
pub async fn previews(db: &mut Connection, of: LauncherId) -> Result<Vec<Launcher>> {
    let rows = sqlx::query(
        "SELECT l.*, e.id AS environment_id, e.source FROM launchers l JOIN environments e ON e.launcher_id = l.id \
         WHERE l.preview_of = $1 ORDER BY l.id",
    );
    rows.bind(of.to_string()).fetch_all(db).await?.iter().map(read).collect()
}

/// The previews that have ended by `now`.
pub async fn ended_previews(db: &mut Connection, now: Timestamp) -> Result<Vec<Launcher>> {
    let rows = sqlx::query(
        "SELECT l.*, e.id AS environment_id, e.source FROM launchers l JOIN environments e ON e.launcher_id = l.id \
         WHERE l.preview_ends_at <= $1 ORDER BY l.id",
    );
    rows.bind(now.as_millisecond()).fetch_all(db).await?.iter().map(read).collect()
}

/// When the next preview ends.
pub async fn next_end(db: &mut Connection) -> Result<Option<Timestamp>> {
    let row = sqlx::query("SELECT MIN(preview_ends_at) AS ends_at FROM launchers").fetch_one(db).await?;
    row.maybe_time("ends_at")
}

/// The launchers of a project, or of all projects that `viewer` may see, oldest first; previews are no part of it.
pub async fn list(
    db: &mut Connection,
    viewer: Viewer,
    project: Option<ProjectId>,
    page: Page,
) -> Result<Found<Launcher>> {
    let Seen { everything, user, project: only, launcher } = viewer.parameters();
    let project = project.map(|id| id.to_string()).unwrap_or_default();
    let count = sqlx::query(
        "SELECT COUNT(*) AS total FROM launchers l JOIN projects p ON p.id = l.project_id \
         WHERE ($1 = 1 OR p.visibility = 'public' OR EXISTS \
         (SELECT 1 FROM project_roles m WHERE m.project_id = p.id AND m.user_id = $2)) AND ($3 = '' OR p.id = $3) \
         AND ($4 = '' OR p.id = $4) AND ($5 = '' OR l.id = $5) AND l.preview_of IS NULL",
    );
    let count = count.bind(everything).bind(&user).bind(&project).bind(&only).bind(&launcher);
    let total = total(&count.fetch_one(&mut *db).await?)?;
    let rows = sqlx::query(
        "SELECT l.*, e.id AS environment_id, e.source FROM launchers l JOIN environments e ON e.launcher_id = l.id \
         JOIN projects p ON p.id = l.project_id WHERE ($1 = 1 OR p.visibility = 'public' OR EXISTS \
         (SELECT 1 FROM project_roles m WHERE m.project_id = p.id AND m.user_id = $2)) AND ($3 = '' OR p.id = $3) \
         AND ($4 = '' OR p.id = $4) AND ($5 = '' OR l.id = $5) AND l.preview_of IS NULL ORDER BY l.id LIMIT $6 OFFSET $7",
    );
    let rows = rows.bind(everything).bind(&user).bind(&project).bind(&only).bind(&launcher);
    let rows = rows.bind(i64::from(page.per_page)).bind(page.offset()).fetch_all(db).await?;
    Ok((rows.iter().map(read).collect::<Result<_>>()?, total))
}
