//! Projects and their members in the database.

use std::collections::{BTreeMap, BTreeSet};

use marmot_core::id::{ProjectId, UserId};
use marmot_core::name::{Namespace, Slug};
use sqlx::any::AnyRow;

use super::row::{Columns, to_json, total};
use super::{Connection, Found, Result};
use crate::model::{Limit, Member, Page, Project, Role};

super::members::members_of!("members", "project_id", ProjectId);

/// Whose eyes a list is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Viewer {
    /// Somebody who is not signed in: public projects only.
    Anybody,
    /// This person: public projects, and those with a membership.
    Person(UserId),
    /// An administrator: everything.
    Administrator,
    /// A program with a token of this person that is good for one thing alone: no more than that.
    Limited {
        /// Whose token.
        user: UserId,
        /// That person sees everything.
        administrator: bool,
        /// What it is good for.
        within: Limit,
    },
}

/// What the queries of lists ask for.
pub(super) struct Seen {
    /// 1 for all there is.
    pub(super) everything: i64,
    /// Whose eyes, or nothing.
    pub(super) user: String,
    /// Only this project, or nothing.
    pub(super) project: String,
    /// Only this launcher, or nothing.
    pub(super) launcher: String,
}

impl Viewer {
    pub(super) fn parameters(self) -> Seen {
        let all = |everything, user: String| Seen {
            everything,
            user,
            project: String::new(),
            launcher: String::new(),
        };
        match self {
            Self::Anybody => all(0, String::new()),
            Self::Person(id) => all(0, id.to_string()),
            Self::Administrator => all(1, String::new()),
            Self::Limited { user, administrator, within } => {
                let (project, launcher) = match within {
                    Limit::Project(project) => (project, String::new()),
                    Limit::Launcher { launcher, project } => (project, launcher.to_string()),
                };
                let seen = all(i64::from(administrator), user.to_string());
                Seen { project: project.to_string(), launcher, ..seen }
            }
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
    let Seen { everything, user, project: only, .. } = viewer.parameters();
    let namespace = filter.namespace.as_ref().map(|name| name.to_string()).unwrap_or_default();
    let member = filter.member.map(|id| id.to_string()).unwrap_or_default();
    let count = sqlx::query(
        "SELECT COUNT(*) AS total FROM projects p WHERE ($1 = 1 OR p.visibility = 'public' OR EXISTS \
         (SELECT 1 FROM project_roles m WHERE m.project_id = p.id AND m.user_id = $2)) \
         AND ($3 = '' OR p.namespace = $3) AND ($4 = '' OR EXISTS \
         (SELECT 1 FROM members m WHERE m.project_id = p.id AND m.user_id = $4)) AND ($5 = '' OR p.id = $5)",
    );
    let count = count.bind(everything).bind(&user).bind(&namespace).bind(&member).bind(&only);
    let total = total(&count.fetch_one(&mut *db).await?)?;
    let rows = sqlx::query(
        "SELECT p.* FROM projects p WHERE ($1 = 1 OR p.visibility = 'public' OR EXISTS \
         (SELECT 1 FROM project_roles m WHERE m.project_id = p.id AND m.user_id = $2)) \
         AND ($3 = '' OR p.namespace = $3) AND ($4 = '' OR EXISTS \
         (SELECT 1 FROM members m WHERE m.project_id = p.id AND m.user_id = $4)) AND ($5 = '' OR p.id = $5) \
         ORDER BY p.id DESC LIMIT $6 OFFSET $7",
    );
    let rows = rows.bind(everything).bind(&user).bind(&namespace).bind(&member).bind(&only);
    let rows = rows.bind(i64::from(page.per_page)).bind(page.offset()).fetch_all(db).await?;
    Ok((rows.iter().map(read).collect::<Result<_>>()?, total))
}

/// The role of a person in a project: the highest of that person's own and that of the group it belongs to.
pub async fn role(db: &mut Connection, project: ProjectId, user: UserId) -> Result<Option<Role>> {
    let rows = sqlx::query("SELECT role FROM project_roles WHERE project_id = $1 AND user_id = $2")
        .bind(project.to_string())
        .bind(user.to_string())
        .fetch_all(db)
        .await?;
    rows.iter().try_fold(None, |best, row| Ok(best.max(Some(row.parsed("role")?))))
}

/// Whether somebody who can sign in owns a project, by themselves or by its group.
pub async fn has_owner(db: &mut Connection, project: ProjectId) -> Result<bool> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS total FROM project_roles r JOIN users u ON u.id = r.user_id \
         WHERE r.project_id = $1 AND r.role = 'owner' AND u.disabled_at IS NULL",
    );
    Ok(total(&row.bind(project.to_string()).fetch_one(db).await?)? > 0)
}

/// The projects that would have no owner who can sign in without this person, as paths.
pub async fn owned_alone(db: &mut Connection, user: UserId) -> Result<Vec<String>> {
    sqlx::query(
        "SELECT p.namespace, p.slug FROM projects p WHERE EXISTS (SELECT 1 FROM project_roles r \
         WHERE r.project_id = p.id AND r.role = 'owner' AND r.user_id = $1) AND NOT EXISTS (SELECT 1 \
         FROM project_roles r JOIN users u ON u.id = r.user_id WHERE r.project_id = p.id AND r.role = 'owner' \
         AND r.user_id <> $1 AND u.disabled_at IS NULL) ORDER BY p.namespace, p.slug",
    )
    .bind(user.to_string())
    .fetch_all(db)
    .await?
    .iter()
    .map(|row| Ok(format!("{}/{}", row.text("namespace")?, row.text("slug")?)))
    .collect()
}

/// How many projects are in a namespace.
pub async fn in_namespace(db: &mut Connection, namespace: &Namespace) -> Result<u64> {
    let row = sqlx::query("SELECT COUNT(*) AS total FROM projects WHERE namespace = $1");
    total(&row.bind(namespace.as_str()).fetch_one(db).await?)
}

/// The people with a role in every project, who can sign in.
pub async fn all_members(db: &mut Connection) -> Result<BTreeMap<ProjectId, BTreeSet<UserId>>> {
    let mut members: BTreeMap<ProjectId, BTreeSet<UserId>> = BTreeMap::new();
    let rows = sqlx::query(
        "SELECT r.project_id, r.user_id FROM project_roles r JOIN users u ON u.id = r.user_id \
         WHERE u.disabled_at IS NULL",
    );
    for row in rows.fetch_all(db).await? {
        members.entry(row.parsed("project_id")?).or_default().insert(row.parsed("user_id")?);
    }
    Ok(members)
}
