//! Activated apps and their revisions in the database.

use jiff::Timestamp;
use marmot_core::AppName;
use marmot_core::id::{BuildId, LauncherId, ProjectId, RevisionId};
use sqlx::any::AnyRow;

use super::projects::{Seen, Viewer};
use super::row::{Columns, to_json, total};
use super::{Connection, Found, Result};
use crate::model::{App, EnvVariable, FailedStart, Page, Revision};

fn read(row: &AnyRow) -> Result<App> {
    Ok(App {
        launcher_id: row.parsed("launcher_id")?,
        name: row.parsed("app_name")?,
        activated_by: row.parsed("activated_by")?,
        activated_at: row.time("activated_at")?,
        wanted: row.maybe_parsed("wanted_revision_id")?,
        awaits: row.maybe_parsed("awaited_build_id")?,
        retry: row.int("retry")?,
    })
}

/// Adds an app. Fails with [`DbError::Exists`](super::DbError::Exists) when its launcher has one.
pub async fn insert(db: &mut Connection, app: &App) -> Result<()> {
    sqlx::query(
        "INSERT INTO apps (launcher_id, activated_by, activated_at, wanted_revision_id, awaited_build_id, retry) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(app.launcher_id.to_string())
    .bind(app.activated_by.to_string())
    .bind(app.activated_at.as_millisecond())
    .bind(app.wanted.map(|id| id.to_string()))
    .bind(app.awaits.map(|id| id.to_string()))
    .bind(app.retry)
    .execute(db)
    .await?;
    Ok(())
}

/// Removes an app; `false` when there was none.
pub async fn delete(db: &mut Connection, launcher: LauncherId) -> Result<bool> {
    let done =
        sqlx::query("DELETE FROM apps WHERE launcher_id = $1").bind(launcher.to_string()).execute(db).await?;
    Ok(done.rows_affected() > 0)
}

/// The app of a launcher.
pub async fn of_launcher(db: &mut Connection, launcher: LauncherId) -> Result<Option<App>> {
    let row = sqlx::query(
        "SELECT a.*, l.app_name FROM apps a JOIN launchers l ON l.id = a.launcher_id WHERE a.launcher_id = $1",
    )
    .bind(launcher.to_string())
    .fetch_optional(db)
    .await?;
    row.as_ref().map(read).transpose()
}

/// The app with this name.
pub async fn by_name(db: &mut Connection, name: &AppName) -> Result<Option<App>> {
    let row = sqlx::query(
        "SELECT a.*, l.app_name FROM apps a JOIN launchers l ON l.id = a.launcher_id WHERE l.app_name = $1",
    )
    .bind(name.as_str())
    .fetch_optional(db)
    .await?;
    row.as_ref().map(read).transpose()
}

/// All apps, by launcher.
pub async fn all(db: &mut Connection) -> Result<Vec<App>> {
    sqlx::query(
        "SELECT a.*, l.app_name FROM apps a JOIN launchers l ON l.id = a.launcher_id ORDER BY a.launcher_id",
    )
    .fetch_all(db)
    .await?
    .iter()
    .map(read)
    .collect()
}

/// The apps that `viewer` may see, of one project or of all, by launcher; previews are no part of it.
pub async fn list(
    db: &mut Connection,
    viewer: Viewer,
    project: Option<ProjectId>,
    page: Page,
) -> Result<Found<App>> {
    let Seen { everything, user, project: only, launcher } = viewer.parameters();
    let project = project.map(|id| id.to_string()).unwrap_or_default();
    let count = sqlx::query(
        "SELECT COUNT(*) AS total FROM apps a JOIN launchers l ON l.id = a.launcher_id \
         JOIN projects p ON p.id = l.project_id WHERE ($1 = 1 OR p.visibility = 'public' OR EXISTS \
         (SELECT 1 FROM project_roles m WHERE m.project_id = p.id AND m.user_id = $2)) AND ($3 = '' OR p.id = $3) \
         AND ($4 = '' OR p.id = $4) AND ($5 = '' OR l.id = $5) AND l.preview_of IS NULL",
    );
    let count = count.bind(everything).bind(&user).bind(&project).bind(&only).bind(&launcher);
    let total = total(&count.fetch_one(&mut *db).await?)?;
    let rows = sqlx::query(
        "SELECT a.*, l.app_name FROM apps a JOIN launchers l ON l.id = a.launcher_id \
         JOIN projects p ON p.id = l.project_id WHERE ($1 = 1 OR p.visibility = 'public' OR EXISTS \
         (SELECT 1 FROM project_roles m WHERE m.project_id = p.id AND m.user_id = $2)) AND ($3 = '' OR p.id = $3) \
         AND ($4 = '' OR p.id = $4) AND ($5 = '' OR l.id = $5) AND l.preview_of IS NULL ORDER BY a.launcher_id LIMIT $6 OFFSET $7",
    );
    let rows = rows.bind(everything).bind(&user).bind(&project).bind(&only).bind(&launcher);
    let rows = rows.bind(i64::from(page.per_page)).bind(page.offset()).fetch_all(db).await?;
    Ok((rows.iter().map(read).collect::<Result<_>>()?, total))
}

/// The apps that `viewer` may see whose name, description or project holds `text`, newest launcher first.
pub async fn find(db: &mut Connection, viewer: Viewer, text: &str, page: Page) -> Result<Found<App>> {
    macro_rules! which {
        () => {
            "FROM apps a JOIN launchers l ON l.id = a.launcher_id JOIN projects p ON p.id = l.project_id \
         WHERE ($1 = 1 OR p.visibility = 'public' OR EXISTS \
         (SELECT 1 FROM project_roles m WHERE m.project_id = p.id AND m.user_id = $2)) AND ($3 = '' OR p.id = $3) \
         AND ($4 = '' OR l.id = $4) AND ($5 = '' OR LOWER(l.name) LIKE $5 ESCAPE '!' OR LOWER(p.name) LIKE $5 ESCAPE '!' \
         OR LOWER(COALESCE(l.description, '')) LIKE $5 ESCAPE '!' OR l.app_name LIKE $5 ESCAPE '!')"
        };
    }
    let Seen { everything, user, project: only, launcher } = viewer.parameters();
    let pattern = like(text);
    let count = sqlx::query(concat!("SELECT COUNT(*) AS total ", which!()));
    let count = count.bind(everything).bind(&user).bind(&only).bind(&launcher);
    let total = total(&count.bind(&pattern).fetch_one(&mut *db).await?)?;
    let rows = sqlx::query(concat!(
        "SELECT a.*, l.app_name ",
        which!(),
        " ORDER BY a.launcher_id DESC LIMIT $6 OFFSET $7"
    ));
    let rows = rows.bind(everything).bind(&user).bind(&only).bind(&launcher);
    let rows = rows.bind(&pattern).bind(i64::from(page.per_page)).bind(page.offset()).fetch_all(db).await?;
    Ok((rows.iter().map(read).collect::<Result<_>>()?, total))
}

/// What holds this text, as `LIKE … ESCAPE '!'` has it; nothing for no text.
fn like(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let mut pattern = "%".to_owned();
    for letter in text.to_lowercase().chars() {
        if matches!(letter, '%' | '_' | '!') {
            pattern.push('!');
        }
        // No column can hold it, and PostgreSQL takes no text with it.
        pattern.push(if letter == '\0' { '\u{fffd}' } else { letter });
    }
    pattern.push('%');
    pattern
}

/// Sets what an app should run and which build it waits for.
pub async fn set_wanted(
    db: &mut Connection,
    launcher: LauncherId,
    wanted: Option<RevisionId>,
    awaits: Option<BuildId>,
) -> Result<()> {
    sqlx::query("UPDATE apps SET wanted_revision_id = $2, awaited_build_id = $3 WHERE launcher_id = $1")
        .bind(launcher.to_string())
        .bind(wanted.map(|id| id.to_string()))
        .bind(awaits.map(|id| id.to_string()))
        .execute(db)
        .await?;
    Ok(())
}

/// Notes that somebody asks for starting to be tried again.
pub async fn retry(db: &mut Connection, launcher: LauncherId) -> Result<()> {
    sqlx::query("UPDATE apps SET retry = retry + 1 WHERE launcher_id = $1")
        .bind(launcher.to_string())
        .execute(db)
        .await?;
    Ok(())
}

fn read_revision(row: &AnyRow) -> Result<Revision> {
    Ok(Revision {
        id: row.parsed("id")?,
        launcher_id: row.parsed("launcher_id")?,
        number: row.int("number")?,
        program: row.json("program")?,
        variables: row.json::<Vec<EnvVariable>>("variables")?,
        resource_class_id: row.int("resource_class_id")?,
        scaling: row.maybe_text("scaling")?.map(|_| row.json("scaling")).transpose()?,
        runs_as: row.maybe_parsed("runs_as")?,
        created_at: row.time("created_at")?,
        ready_at: row.maybe_time("ready_at")?,
        failed: row.maybe_text("failed")?.map(|_| row.json("failed")).transpose()?,
    })
}

/// Adds a revision, whose number is the next one of its launcher; returns that number.
pub async fn insert_revision(db: &mut Connection, revision: &Revision) -> Result<i64> {
    let build = revision.program.build().map(|build| build.to_string());
    let row = sqlx::query(
        "INSERT INTO revisions (id, launcher_id, number, build_id, program, variables, resource_class_id, created_at, \
         ready_at, scaling, runs_as) SELECT $1, $2, COALESCE(MAX(number), 0) + 1, $3, $4, $5, $6, $7, $8, $9, $10 FROM revisions \
         WHERE launcher_id = $2 RETURNING number",
    )
    .bind(revision.id.to_string())
    .bind(revision.launcher_id.to_string())
    .bind(build)
    .bind(to_json("program", &revision.program)?)
    .bind(to_json("variables", &revision.variables)?)
    .bind(revision.resource_class_id)
    .bind(revision.created_at.as_millisecond())
    .bind(revision.ready_at.map(Timestamp::as_millisecond))
    .bind(revision.scaling.as_ref().map(|scaling| to_json("scaling", scaling)).transpose()?)
    .bind(revision.runs_as.map(|id| id.to_string()))
    .fetch_one(db)
    .await?;
    row.int("number")
}

/// The revision with this id.
pub async fn revision(db: &mut Connection, id: RevisionId) -> Result<Option<Revision>> {
    let row =
        sqlx::query("SELECT * FROM revisions WHERE id = $1").bind(id.to_string()).fetch_optional(db).await?;
    row.as_ref().map(read_revision).transpose()
}

/// The revisions that active apps should run.
pub async fn wanted_revisions(db: &mut Connection) -> Result<Vec<Revision>> {
    sqlx::query("SELECT r.* FROM revisions r JOIN apps a ON a.wanted_revision_id = r.id")
        .fetch_all(db)
        .await?
        .iter()
        .map(read_revision)
        .collect()
}

/// The newest `count` revisions of a launcher, newest first.
pub async fn revisions(db: &mut Connection, launcher: LauncherId, count: u32) -> Result<Vec<Revision>> {
    sqlx::query("SELECT * FROM revisions WHERE launcher_id = $1 ORDER BY number DESC LIMIT $2")
        .bind(launcher.to_string())
        .bind(i64::from(count))
        .fetch_all(db)
        .await?
        .iter()
        .map(read_revision)
        .collect()
}

/// Notes why starting a revision was given up; `false` when it was ready once, or that was known.
pub async fn revision_failed(db: &mut Connection, id: RevisionId, why: &FailedStart) -> Result<bool> {
    let done =
        sqlx::query("UPDATE revisions SET failed = $2 WHERE id = $1 AND ready_at IS NULL AND failed IS NULL")
            .bind(id.to_string())
            .bind(to_json("failed", why)?)
            .execute(db)
            .await?;
    Ok(done.rows_affected() > 0)
}

/// Notes that a revision was ready; `false` when that was known.
pub async fn revision_ready(db: &mut Connection, id: RevisionId, now: Timestamp) -> Result<bool> {
    let done = sqlx::query("UPDATE revisions SET ready_at = $2 WHERE id = $1 AND ready_at IS NULL")
        .bind(id.to_string())
        .bind(now.as_millisecond())
        .execute(db)
        .await?;
    Ok(done.rows_affected() > 0)
}
