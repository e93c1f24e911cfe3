//! Builds in the database.

use jiff::Timestamp;
use marmot_core::id::{BuildId, EnvironmentId, ProjectId};
use sqlx::any::AnyRow;

use super::row::{Columns, from_json, to_json, total};
use super::{Connection, Found, Result};
use crate::model::{Build, BuildResult, BuildStatus, Page};

fn read(row: &AnyRow) -> Result<Build> {
    Ok(Build {
        id: row.parsed("id")?,
        environment_id: row.parsed("environment_id")?,
        code: row.json("code")?,
        image: row.maybe_text("image")?.map(|text| from_json("image", &text)).transpose()?,
        command_given: row.flag("command_given")?,
        status: row.parsed("status")?,
        created_at: row.time("created_at")?,
        ended_at: row.maybe_time("ended_at")?,
        result: row.json("result")?,
    })
}

/// Adds a build.
pub async fn insert(db: &mut Connection, build: &Build) -> Result<()> {
    sqlx::query(
        "INSERT INTO builds (id, environment_id, code, command_given, status, created_at, ended_at, result, image) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(build.id.to_string())
    .bind(build.environment_id.to_string())
    .bind(to_json("code", &build.code)?)
    .bind(i64::from(build.command_given))
    .bind(build.status.as_str())
    .bind(build.created_at.as_millisecond())
    .bind(build.ended_at.map(Timestamp::as_millisecond))
    .bind(to_json("result", &build.result)?)
    .bind(build.image.as_ref().map(|image| to_json("image", image)).transpose()?)
    .execute(db)
    .await?;
    Ok(())
}

/// Ends a build that is in progress; `false` when it had ended already, or is gone: then nothing changes.
pub async fn end(
    db: &mut Connection,
    id: BuildId,
    status: BuildStatus,
    result: &BuildResult,
    now: Timestamp,
) -> Result<bool> {
    let done = sqlx::query(
        "UPDATE builds SET status = $2, result = $3, ended_at = $4 WHERE id = $1 AND status = 'in_progress'",
    )
    .bind(id.to_string())
    .bind(status.as_str())
    .bind(to_json("result", result)?)
    .bind(now.as_millisecond())
    .execute(db)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// The build with this id.
pub async fn get(db: &mut Connection, id: BuildId) -> Result<Option<Build>> {
    let row =
        sqlx::query("SELECT * FROM builds WHERE id = $1").bind(id.to_string()).fetch_optional(db).await?;
    row.as_ref().map(read).transpose()
}

/// The builds of an environment, newest first.
pub async fn list(db: &mut Connection, environment: EnvironmentId, page: Page) -> Result<Found<Build>> {
    let count = sqlx::query("SELECT COUNT(*) AS total FROM builds WHERE environment_id = $1");
    let total = total(&count.bind(environment.to_string()).fetch_one(&mut *db).await?)?;
    let rows =
        sqlx::query("SELECT * FROM builds WHERE environment_id = $1 ORDER BY id DESC LIMIT $2 OFFSET $3")
            .bind(environment.to_string())
            .bind(i64::from(page.per_page))
            .bind(page.offset())
            .fetch_all(db)
            .await?;
    Ok((rows.iter().map(read).collect::<Result<_>>()?, total))
}

/// All builds with this status, oldest first.
pub async fn with_status(db: &mut Connection, status: BuildStatus) -> Result<Vec<Build>> {
    sqlx::query("SELECT * FROM builds WHERE status = $1 ORDER BY id")
        .bind(status.as_str())
        .fetch_all(db)
        .await?
        .iter()
        .map(read)
        .collect()
}

/// The builds that active apps wait for.
pub async fn awaited(db: &mut Connection) -> Result<Vec<Build>> {
    sqlx::query("SELECT b.* FROM builds b JOIN apps a ON a.awaited_build_id = b.id")
        .fetch_all(db)
        .await?
        .iter()
        .map(read)
        .collect()
}

/// The newest `count` builds of an environment with this status.
pub async fn newest_with_status(
    db: &mut Connection,
    environment: EnvironmentId,
    status: BuildStatus,
    count: u32,
) -> Result<Vec<Build>> {
    sqlx::query("SELECT * FROM builds WHERE environment_id = $1 AND status = $2 ORDER BY id DESC LIMIT $3")
        .bind(environment.to_string())
        .bind(status.as_str())
        .bind(i64::from(count))
        .fetch_all(db)
        .await?
        .iter()
        .map(read)
        .collect()
}

/// The builds whose results must stay, where `$1` of each launcher's last revisions can be rolled back to.
macro_rules! kept {
    () => {
        "SELECT MAX(b.id) AS id FROM builds b WHERE b.status = 'succeeded' GROUP BY b.environment_id \
         UNION SELECT r.build_id AS id FROM apps a JOIN revisions r ON r.id = a.wanted_revision_id \
         WHERE r.build_id IS NOT NULL \
         UNION SELECT r.build_id AS id FROM revisions r WHERE r.build_id IS NOT NULL AND r.number > \
         (SELECT MAX(n.number) FROM revisions n WHERE n.launcher_id = r.launcher_id) - $1"
    };
}

/// The builds whose results must stay: the newest that succeeded of each environment, those that apps run, and those
/// of each launcher's last `revisions` revisions, to which one can roll back.
pub async fn kept(db: &mut Connection, revisions: u32) -> Result<Vec<BuildId>> {
    let rows = sqlx::query(kept!()).bind(i64::from(revisions)).fetch_all(db).await?;
    rows.iter().map(|row| row.parsed("id")).collect()
}

/// The builds whose results must stay, as [`kept`] has them, with their projects.
pub async fn kept_of(db: &mut Connection, revisions: u32) -> Result<Vec<(BuildId, ProjectId)>> {
    sqlx::query(concat!(
        "SELECT k.id AS id, l.project_id AS project_id FROM (",
        kept!(),
        ") k JOIN builds o ON o.id = k.id JOIN environments e ON e.id = o.environment_id \
         JOIN launchers l ON l.id = e.launcher_id"
    ))
    .bind(i64::from(revisions))
    .fetch_all(db)
    .await?
    .iter()
    .map(|row| Ok((row.parsed("id")?, row.parsed("project_id")?)))
    .collect()
}
