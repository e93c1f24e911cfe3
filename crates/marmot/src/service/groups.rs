//! Groups: people who own a namespace together. A role in a group is a role in every project of its namespace.

use marmot_core::id::{GroupId, UserId};
use marmot_core::name::Namespace;
use marmot_core::said;
use serde_json::json;

use super::audit::{self, Thing};
use super::error::Field;
use super::error::{Error, Result};
use super::permission::{Errand, GroupAction, Identity, allowed, allowed_in_group};
use super::projects::{MemberChange, description, title};
use super::{Service, fresh, now};
use crate::db::{Connection, DbError, groups, projects};
use crate::model::{Group, Member, Page, Paged, Role};

/// A group to be made.
#[derive(Debug, Clone)]
pub struct NewGroup {
    /// The namespace that it will own.
    pub path: Namespace,
    /// What people call it.
    pub name: String,
    /// What it is about.
    pub description: Option<String>,
}

/// A change of a group. What is absent stays.
#[derive(Debug, Clone, Default)]
pub struct GroupPatch {
    /// What people call it.
    pub name: Option<String>,
    /// What it is about; `Some(None)` removes it.
    pub description: Option<Option<String>>,
}

impl Service {
    /// Makes a group. Who makes it becomes its owner.
    ///
    /// # Errors
    /// [`Error::SignInNeeded`], [`Error::Invalid`], [`Error::Conflict`] when the path is taken.
    pub async fn create_group(&self, who: &Identity, new: NewGroup) -> Result<Group> {
        let user = allowed(who, Errand::ActAsOneself)?;
        let group = Group {
            id: fresh(),
            path: new.path,
            name: title("group's name", &new.name)?,
            description: description(new.description)?,
            created_by: user.id,
            created_at: now(),
        };
        let mut db = self.db().write().await?;
        groups::insert(&mut db, &group).await.map_err(|error| match error {
            DbError::Exists(_) => Error::conflict(said!(
                "namespace-taken",
                "the namespace `{path}` is taken",
                path = group.path.to_string()
            ))
            .about(Field::Path),
            other => other.into(),
        })?;
        groups::set_role(&mut db, group.id, user.id, Role::Owner).await?;
        audit::record(&mut db, who, "group.created", Thing::group(&group), json!({})).await?;
        db.commit().await.map_err(DbError::from)?;
        self.wrote();
        Ok(group)
    }

    /// Groups by path. `mine`: only those of which `who` is a member.
    ///
    /// # Errors
    /// [`Error::SignInNeeded`].
    pub async fn groups(&self, who: &Identity, mine: bool, page: Page) -> Result<Paged<Group>> {
        let user = allowed(who, Errand::LookAround)?;
        let mut db = self.db().read().await?;
        let (items, total) = groups::list(&mut db, mine.then_some(user.id), page).await?;
        Ok(Paged { items, page, total })
    }

    /// The group with this path.
    ///
    /// # Errors
    /// [`Error::SignInNeeded`], [`Error::NotFound`].
    pub async fn group(&self, who: &Identity, path: &Namespace) -> Result<Group> {
        allowed(who, Errand::LookAround)?;
        found(&mut *self.db().read().await?, path).await
    }

    /// Changes a group.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`], [`Error::Invalid`].
    pub async fn update_group(&self, who: &Identity, path: &Namespace, patch: GroupPatch) -> Result<Group> {
        let mut db = self.db().write().await?;
        let mut group = allowed_group(&mut db, who, path, GroupAction::Govern).await?;
        if let Some(name) = patch.name {
            group.name = title("group's name", &name)?;
        }
        if let Some(text) = patch.description {
            group.description = description(text)?;
        }
        groups::update(&mut db, &group).await?;
        audit::record(&mut db, who, "group.changed", Thing::group(&group), json!({})).await?;
        db.commit().await.map_err(DbError::from)?;
        Ok(group)
    }

    /// Deletes a group, whose projects must be gone.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`], [`Error::Conflict`] while there are projects in its namespace.
    pub async fn delete_group(&self, who: &Identity, path: &Namespace) -> Result<()> {
        let mut db = self.db().write().await?;
        let group = allowed_group(&mut db, who, path, GroupAction::Govern).await?;
        let left = projects::in_namespace(&mut db, path).await?;
        if left > 0 {
            return Err(Error::conflict(said!(
                "group-has-projects",
                "projects of the group `{path}` are left ({left}): delete them first",
                path = path.to_string(),
                left = left
            )));
        }
        groups::delete(&mut db, &group).await?;
        audit::record(&mut db, who, "group.deleted", Thing::group(&group), json!({})).await?;
        db.commit().await.map_err(DbError::from)?;
        self.wrote_and_in_force().await;
        Ok(())
    }

    /// The members of a group, by name. Only members are told who the others are.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`].
    pub async fn group_members(&self, who: &Identity, path: &Namespace) -> Result<Vec<Member>> {
        let mut db = self.db().read().await?;
        let group = allowed_group(&mut db, who, path, GroupAction::SeeMembers).await?;
        Ok(groups::members(&mut db, group.id).await?)
    }

    /// Changes roles in a group: all of them, or none when one is refused.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`], [`Error::Conflict`] when no owner would be left.
    pub async fn change_group_members(
        &self,
        who: &Identity,
        path: &Namespace,
        changes: &[MemberChange],
    ) -> Result<Vec<Member>> {
        let mut db = self.db().write().await?;
        let group = allowed_group(&mut db, who, path, GroupAction::Govern).await?;
        for change in changes {
            let user = change.member.find(&mut db).await?;
            match change.role {
                Some(role) => groups::set_role(&mut db, group.id, user.id, role).await?,
                None => groups::remove_member(&mut db, group.id, user.id).await?,
            }
            let details = json!({"member": user.username.as_str(), "role": change.role});
            audit::record(&mut db, who, "group.member", Thing::group(&group), details).await?;
        }
        let members = groups::members(&mut db, group.id).await?;
        if !members.iter().any(|member| member.role == Role::Owner) {
            return Err(Error::conflict(said!(
                "group-needs-owner",
                "a group needs an owner: give somebody else that role first"
            )));
        }
        db.commit().await.map_err(DbError::from)?;
        self.wrote_and_in_force().await;
        Ok(members)
    }

    /// The namespaces in which `who` may make projects: the person's own, then those of groups.
    ///
    /// # Errors
    /// [`Error::SignInNeeded`].
    pub async fn namespaces(&self, who: &Identity) -> Result<Vec<Namespace>> {
        let user = allowed(who, Errand::LookAround)?;
        let groups = groups::open_to(&mut *self.db().read().await?, user.id).await?;
        Ok([user.username.clone()].into_iter().chain(groups).collect())
    }

    /// Whether a person is a member of a group. For those who decide by it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn is_in_group(&self, user: UserId, group: GroupId) -> Result<bool> {
        Ok(groups::role(&mut *self.db().read().await?, group, user).await?.is_some())
    }
}

async fn found(db: &mut Connection, path: &Namespace) -> Result<Group> {
    groups::by_path(db, path).await?.ok_or_else(|| Error::not_found("group", path))
}

/// The group with this path, if `who` may do this with it.
async fn allowed_group(
    db: &mut Connection,
    who: &Identity,
    path: &Namespace,
    action: GroupAction,
) -> Result<Group> {
    let user = allowed(who, Errand::LookAround)?;
    let group = found(db, path).await?;
    let role = groups::role(db, group.id, user.id).await?;
    allowed_in_group(who, role, action)?;
    Ok(group)
}

/// Refuses to make a project in a namespace that is not open to `who`; who makes it otherwise.
pub(super) async fn allowed_namespace(
    db: &mut Connection,
    who: &Identity,
    namespace: Option<&Namespace>,
) -> Result<(UserId, Namespace)> {
    let user = allowed(who, Errand::ActAsOneself)?;
    let namespace = namespace.unwrap_or(&user.username);
    if *namespace == user.username {
        return Ok((user.id, namespace.clone()));
    }
    let group = groups::by_path(db, namespace).await?;
    let role = match &group {
        Some(group) => groups::role(db, group.id, user.id).await?,
        None => None,
    };
    allowed_in_group(who, role, GroupAction::MakeProject)?;
    // Administrators may make projects for others: those who are there.
    if group.is_none() && crate::db::users::by_name(db, namespace).await?.is_none() {
        return Err(Error::not_found("namespace", namespace));
    }
    Ok((user.id, namespace.clone()))
}
