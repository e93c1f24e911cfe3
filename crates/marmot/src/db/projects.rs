//! Projects and their members in the database.

use std::collections::{BTreeMap, BTreeSet};

use marmot_core::id::{ProjectId, UserId};
use marmot_core::name::{Namespace, Slug};
use sqlx::any::AnyRow;

use super::row::{Columns, to_json, total};
use super::{Connection, Found, Result};
use crate::model::{Member, Page, Project, Role};

/// Whose eyes a list is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Viewer {
    /// Somebody who is not signed in: public projects only.
    Anybody,
    /// This person: public projects, and those with a membership.
    Person(UserId),
    /// An administrator: everything.
    Administrator,
}

impl Viewer {
    /// `(sees everything, user id or nothing)`, as the queries want it.
    pub(super) fn parameters(self) -> (i64, String) {
        match self {
            Self::Anybody => (0, String::new()),
            Self::Person(id) => (0, id.to_string()),
            Self::Administrator => (1, String::new()),
        }
    }
}

fn read(row: &AnyRow) -> Result<Project> {
    Ok(Project {
        id: row.parsed("id")?,
        namespace: row.parsed("namespace")?,
        slug: row.parsed("slug")?,
        name: row.text("name")?,
        description: row.maybe_text("description")?,
        visibility: row.parsed("visibility")?,
        repositories: row.json("repositories")?,
        created_by: row.parsed("created_by")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
        version: row.int("version")?,
    })
}

/// Adds a project.
pub async fn insert(db: &mut Connection, project: &Project) -> Result<()> {
    sqlx::query(
        "INSERT INTO projects (id, namespace, slug, name, description, visibility, repositories, created_by, \
         created_at, updated_at, version) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(project.id.to_string())
    .bind(project.namespace.as_str())
    .bind(project.slug.as_str())
    .bind(&project.name)
    .bind(project.description.as_deref())
    .bind(project.visibility.as_str())
    .bind(to_json("repositories", &project.repositories)?)
    .bind(project.created_by.to_string())
    .bind(project.created_at.as_millisecond())
    .bind(project.updated_at.as_millisecond())
    .bind(project.version)
    .execute(db)
    .await?;
    Ok(())
}

/// Writes a changed project, whose `version` is the new one, over the one before; `false` when somebody was faster.
pub async fn update(db: &mut Connection, project: &Project) -> Result<bool> {
    let done = sqlx::query(
        "UPDATE projects SET slug = $2, name = $3, description = $4, visibility = $5, repositories = $6, \
         updated_at = $7, version = $8 WHERE id = $1 AND version = $8 - 1",
    )
    .bind(project.id.to_string())
    .bind(project.slug.as_str())
    .bind(&project.name)
    .bind(project.description.as_deref())
    .bind(project.visibility.as_str())
    .bind(to_json("repositories", &project.repositories)?)
    .bind(project.updated_at.as_millisecond())
    .bind(project.version)
    .execute(db)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Removes a project and all that is in it.
pub async fn delete(db: &mut Connection, id: ProjectId) -> Result<()> {
    sqlx::query("DELETE FROM projects WHERE id = $1").bind(id.to_string()).execute(db).await?;
    Ok(())
}

/// The project with this id.
pub async fn get(db: &mut Connection, id: ProjectId) -> Result<Option<Project>> {
    let row =
        sqlx::query("SELECT * FROM projects WHERE id = $1").bind(id.to_string()).fetch_optional(db).await?;
    row.as_ref().map(read).transpose()
}

/// The project with this path.
pub async fn by_path(db: &mut Connection, namespace: &Namespace, slug: &Slug) -> Result<Option<Project>> {
    let row = sqlx::query("SELECT * FROM projects WHERE namespace = $1 AND slug = $2")
        .bind(namespace.as_str())
        .bind(slug.as_str())
        .fetch_optional(db)
        .await?;
    row.as_ref().map(read).transpose()
}

/// Which projects a list is about.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only those in this namespace.
    pub namespace: Option<Namespace>,
    /// Only those of which this person is a member.
    pub member: Option<UserId>,
}

/// The projects that `viewer` may see, newest first.
pub async fn list(
    db: &mut Connection,
    viewer: Viewer,
    filter: &Filter,
    page: Page,
) -> Result<Found<Project>> {
    let (everything, user) = viewer.parameters();
    let namespace = filter.namespace.as_ref().map(|name| name.to_string()).unwrap_or_default();
    let member = filter.member.map(|id| id.to_string()).unwrap_or_default();
    let count = sqlx::query(
        "SELECT COUNT(*) AS total FROM projects p WHERE ($1 = 1 OR p.visibility = 'public' OR EXISTS \
         (SELECT 1 FROM members m WHERE m.project_id = p.id AND m.user_id = $2)) \
         AND ($3 = '' OR p.namespace = $3) AND ($4 = '' OR EXISTS \
         (SELECT 1 FROM members m WHERE m.project_id = p.id AND m.user_id = $4))",
    );
    let total =
        total(&count.bind(everything).bind(&user).bind(&namespace).bind(&member).fetch_one(&mut *db).await?)?;
    let rows = sqlx::query(
        "SELECT p.* FROM projects p WHERE ($1 = 1 OR p.visibility = 'public' OR EXISTS \
         (SELECT 1 FROM members m WHERE m.project_id = p.id AND m.user_id = $2)) \
         AND ($3 = '' OR p.namespace = $3) AND ($4 = '' OR EXISTS \
         (SELECT 1 FROM members m WHERE m.project_id = p.id AND m.user_id = $4)) \
         ORDER BY p.id DESC LIMIT $5 OFFSET $6",
    );
    let rows = rows.bind(everything).bind(&user).bind(&namespace).bind(&member);
    let rows = rows.bind(i64::from(page.per_page)).bind(page.offset()).fetch_all(db).await?;
    Ok((rows.iter().map(read).collect::<Result<_>>()?, total))
}

/// The role of a person in a project.
pub async fn role(db: &mut Connection, project: ProjectId, user: UserId) -> Result<Option<Role>> {
    let row = sqlx::query("SELECT role FROM members WHERE project_id = $1 AND user_id = $2")
        .bind(project.to_string())
        .bind(user.to_string())
        .fetch_optional(db)
        .await?;
    row.map(|row| row.parsed("role")).transpose()
}

/// The members of a project, by name.
pub async fn members(db: &mut Connection, project: ProjectId) -> Result<Vec<Member>> {
    sqlx::query(
        "SELECT u.id, u.username, m.role FROM members m JOIN users u ON u.id = m.user_id \
         WHERE m.project_id = $1 ORDER BY u.username",
    )
    .bind(project.to_string())
    .fetch_all(db)
    .await?
    .iter()
    .map(|row| {
        Ok(Member { user: row.parsed("id")?, username: row.parsed("username")?, role: row.parsed("role")? })
    })
    .collect()
}

/// Gives a person a role in a project, in the place of the one before.
pub async fn set_role(db: &mut Connection, project: ProjectId, user: UserId, role: Role) -> Result<()> {
    sqlx::query(
        "INSERT INTO members (project_id, user_id, role) VALUES ($1, $2, $3) \
         ON CONFLICT (project_id, user_id) DO UPDATE SET role = excluded.role",
    )
    .bind(project.to_string())
    .bind(user.to_string())
    .bind(role.as_str())
    .execute(db)
    .await?;
    Ok(())
}

/// Takes a person's role in a project away.
pub async fn remove_member(db: &mut Connection, project: ProjectId, user: UserId) -> Result<()> {
    sqlx::query("DELETE FROM members WHERE project_id = $1 AND user_id = $2")
        .bind(project.to_string())
        .bind(user.to_string())
        .execute(db)
        .await?;
    Ok(())
}

/// The members of every project.
pub async fn all_members(db: &mut Connection) -> Result<BTreeMap<ProjectId, BTreeSet<UserId>>> {
    let mut members: BTreeMap<ProjectId, BTreeSet<UserId>> = BTreeMap::new();
    for row in sqlx::query("SELECT project_id, user_id FROM members").fetch_all(db).await? {
        members.entry(row.parsed("project_id")?).or_default().insert(row.parsed("user_id")?);
    }
    Ok(members)
}
