//! Groups and their members in the database.

use std::collections::{BTreeMap, BTreeSet};

use marmot_core::id::{GroupId, UserId};
use marmot_core::name::Namespace;
use sqlx::any::AnyRow;

use super::row::{Columns, total};
use super::{Connection, Found, Result, namespaces};
use crate::model::{Group, Member, Page, Role};

super::members::members_of!("group_members", "group_id", GroupId);

fn read(row: &AnyRow) -> Result<Group> {
    Ok(Group {
        id: row.parsed("id")?,
        path: row.parsed("path")?,
        name: row.text("name")?,
        description: row.maybe_text("description")?,
        created_by: row.parsed("created_by")?,
        created_at: row.time("created_at")?,
    })
}

/// Adds a group, and takes the namespace of its path.
pub async fn insert(db: &mut Connection, group: &Group) -> Result<()> {
    namespaces::take(db, &group.path).await?;
    sqlx::query(
        "INSERT INTO groups (id, path, name, description, created_by, created_at) VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(group.id.to_string())
    .bind(group.path.as_str())
    .bind(&group.name)
    .bind(group.description.as_deref())
    .bind(group.created_by.to_string())
    .bind(group.created_at.as_millisecond())
    .execute(db)
    .await?;
    Ok(())
}

/// Writes a changed group over the one before. Its path never changes.
pub async fn update(db: &mut Connection, group: &Group) -> Result<()> {
    sqlx::query("UPDATE groups SET name = $2, description = $3 WHERE id = $1")
        .bind(group.id.to_string())
        .bind(&group.name)
        .bind(group.description.as_deref())
        .execute(db)
        .await?;
    Ok(())
}

/// Removes a group, and gives its namespace back.
pub async fn delete(db: &mut Connection, group: &Group) -> Result<()> {
    sqlx::query("DELETE FROM groups WHERE id = $1").bind(group.id.to_string()).execute(&mut *db).await?;
    sqlx::query("DELETE FROM app_guests WHERE group_id = $1")
        .bind(group.id.to_string())
        .execute(&mut *db)
        .await?;
    namespaces::give_back(db, &group.path).await
}

/// The group with this id.
pub async fn get(db: &mut Connection, id: GroupId) -> Result<Option<Group>> {
    let row =
        sqlx::query("SELECT * FROM groups WHERE id = $1").bind(id.to_string()).fetch_optional(db).await?;
    row.as_ref().map(read).transpose()
}

/// The group that owns this namespace.
pub async fn by_path(db: &mut Connection, path: &Namespace) -> Result<Option<Group>> {
    let row =
        sqlx::query("SELECT * FROM groups WHERE path = $1").bind(path.as_str()).fetch_optional(db).await?;
    row.as_ref().map(read).transpose()
}

/// Groups by path: all, or those of which this person is a member.
pub async fn list(db: &mut Connection, member: Option<UserId>, page: Page) -> Result<Found<Group>> {
    let member = member.map(|id| id.to_string()).unwrap_or_default();
    let count = sqlx::query(
        "SELECT COUNT(*) AS total FROM groups g WHERE $1 = '' OR EXISTS \
         (SELECT 1 FROM group_members m WHERE m.group_id = g.id AND m.user_id = $1)",
    );
    let total = total(&count.bind(&member).fetch_one(&mut *db).await?)?;
    let rows = sqlx::query(
        "SELECT g.* FROM groups g WHERE $1 = '' OR EXISTS \
         (SELECT 1 FROM group_members m WHERE m.group_id = g.id AND m.user_id = $1) \
         ORDER BY g.path LIMIT $2 OFFSET $3",
    );
    let rows = rows.bind(&member).bind(i64::from(page.per_page)).bind(page.offset()).fetch_all(db).await?;
    Ok((rows.iter().map(read).collect::<Result<_>>()?, total))
}

/// The role of a person in a group.
pub async fn role(db: &mut Connection, group: GroupId, user: UserId) -> Result<Option<Role>> {
    let row = sqlx::query("SELECT role FROM group_members WHERE group_id = $1 AND user_id = $2")
        .bind(group.to_string())
        .bind(user.to_string())
        .fetch_optional(db)
        .await?;
    row.map(|row| row.parsed("role")).transpose()
}

/// The groups that a person is a member of, by their paths, with the role there.
pub async fn roles_of(db: &mut Connection, user: UserId) -> Result<Vec<(Namespace, Role)>> {
    sqlx::query(
        "SELECT g.path, m.role FROM groups g JOIN group_members m ON m.group_id = g.id \
         WHERE m.user_id = $1 ORDER BY g.path",
    )
    .bind(user.to_string())
    .fetch_all(db)
    .await?
    .iter()
    .map(|row| Ok((row.parsed("path")?, row.parsed("role")?)))
    .collect()
}

/// The namespaces of the groups in which a person may make projects, by name.
pub async fn open_to(db: &mut Connection, user: UserId) -> Result<Vec<Namespace>> {
    sqlx::query(
        "SELECT g.path FROM groups g JOIN group_members m ON m.group_id = g.id \
         WHERE m.user_id = $1 AND m.role IN ('editor', 'owner') ORDER BY g.path",
    )
    .bind(user.to_string())
    .fetch_all(db)
    .await?
    .iter()
    .map(|row| row.parsed("path"))
    .collect()
}

/// The members of every group who can sign in.
pub async fn all_members(db: &mut Connection) -> Result<BTreeMap<GroupId, BTreeSet<UserId>>> {
    let mut members: BTreeMap<GroupId, BTreeSet<UserId>> = BTreeMap::new();
    let rows = sqlx::query(
        "SELECT m.group_id, m.user_id FROM group_members m JOIN users u ON u.id = m.user_id \
         WHERE u.disabled_at IS NULL",
    );
    for row in rows.fetch_all(db).await? {
        members.entry(row.parsed("group_id")?).or_default().insert(row.parsed("user_id")?);
    }
    Ok(members)
}

/// The groups that would have no owner who can sign in without this person, as paths.
pub async fn owned_alone(db: &mut Connection, user: UserId) -> Result<Vec<String>> {
    sqlx::query(
        "SELECT g.path FROM groups g WHERE EXISTS (SELECT 1 FROM group_members m WHERE m.group_id = g.id \
         AND m.role = 'owner' AND m.user_id = $1) AND NOT EXISTS (SELECT 1 FROM group_members m \
         JOIN users u ON u.id = m.user_id WHERE m.group_id = g.id AND m.role = 'owner' AND m.user_id <> $1 \
         AND u.disabled_at IS NULL) ORDER BY g.path",
    )
    .bind(user.to_string())
    .fetch_all(db)
    .await?
    .iter()
    .map(|row| row.text("path"))
    .collect()
}
