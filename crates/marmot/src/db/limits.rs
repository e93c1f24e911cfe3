//! The limits of projects in the database, and what is counted for them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use marmot_core::id::{BuildId, ProjectId};

use super::row::{Columns, total};
use super::said::Said;
use super::{Connection, Result};
use crate::model::ProjectLimits;

const SAID: Said = Said {
    get: "SELECT limits AS said FROM project_limits WHERE project_id = $1",
    set: "INSERT INTO project_limits (project_id, limits) VALUES ($1, $2) \
          ON CONFLICT (project_id) DO UPDATE SET limits = excluded.limits",
    all: "SELECT project_id AS owner, limits AS said FROM project_limits",
};

/// What was said about one project; nothing when nothing was.
pub async fn get(db: &mut Connection, project: ProjectId) -> Result<ProjectLimits> {
    SAID.get(db, project).await
}

/// What was said about each project of which something was.
pub async fn all(db: &mut Connection) -> Result<BTreeMap<ProjectId, ProjectLimits>> {
    SAID.all(db).await
}

/// Says something about a project, in the place of what was said before.
pub async fn set(db: &mut Connection, project: ProjectId, limits: &ProjectLimits) -> Result<()> {
    SAID.set(db, project, limits).await
}

/// Notes that a build of a project was begun, and forgets what was before `since`. A project that is gone meanwhile is
/// no matter.
pub async fn note_build(
    db: &mut Connection,
    (project, build): (ProjectId, BuildId),
    at: Timestamp,
    since: Timestamp,
) -> Result<()> {
    sqlx::query("DELETE FROM build_starts WHERE at < $1")
        .bind(since.as_millisecond())
        .execute(&mut *db)
        .await?;
    sqlx::query(
        "INSERT INTO build_starts (build_id, project_id, namespace, at) \
         SELECT $1, id, namespace, $3 FROM projects WHERE id = $2",
    )
    .bind(build.to_string())
    .bind(project.to_string())
    .bind(at.as_millisecond())
    .execute(db)
    .await?;
    Ok(())
}

/// How many builds of a project were begun after `since`, and when the first of them was. With them count those of
/// projects that its owner has deleted since: who makes a project anew does not begin from nothing.
pub async fn builds_since(
    db: &mut Connection,
    project: ProjectId,
    since: Timestamp,
) -> Result<(u64, Option<Timestamp>)> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS total, MIN(s.at) AS at FROM build_starts s WHERE s.at >= $2 AND (s.project_id = $1 OR \
         (s.namespace = (SELECT o.namespace FROM projects o WHERE o.id = $1) AND \
         NOT EXISTS (SELECT 1 FROM projects p WHERE p.id = s.project_id)))",
    )
    .bind(project.to_string())
    .bind(since.as_millisecond())
    .fetch_one(db)
    .await?;
    Ok((total(&row)?, row.maybe_time("at")?))
}
