//! Projects and their members.

use marmot_core::id::{ProjectId, UserId};
use marmot_core::name::{Namespace, Slug, slugify};
use marmot_core::said;
use serde_json::json;

use super::audit::{self, Thing};
use super::error::Field;
use super::error::{Error, Result};
use super::groups::allowed_namespace;
use super::permission::{Action, Identity, Target, decide, enforce};
use super::{ProjectFilter, Service, fresh, now};
use crate::db::{Connection, DbError, projects, users};
use crate::model::{Member, Page, Paged, Project, Role, User, Visibility};

/// Longest description, in characters.
const LONGEST_DESCRIPTION: usize = 5000;
/// The most repositories of one project.
const MOST_REPOSITORIES: usize = 50;

/// A project to be made.
#[derive(Debug, Clone, Default)]
pub struct NewProject {
    /// What people call it.
    pub name: String,
    /// First part of its path; the username of who makes it when absent.
    pub namespace: Option<Namespace>,
    /// Last part of its path; made from the name when absent.
    pub slug: Option<Slug>,
    /// Who may see it; private when absent.
    pub visibility: Option<Visibility>,
    /// What it is about.
    pub description: Option<String>,
    /// Addresses of its code repositories.
    pub repositories: Vec<String>,
}

/// A change of a project. What is absent stays.
#[derive(Debug, Clone, Default)]
pub struct ProjectPatch {
    /// What people call it.
    pub name: Option<String>,
    /// Last part of its path.
    pub slug: Option<Slug>,
    /// Who may see it.
    pub visibility: Option<Visibility>,
    /// What it is about; `Some(None)` removes it.
    pub description: Option<Option<String>>,
    /// Addresses of its code repositories.
    pub repositories: Option<Vec<String>>,
}

/// A change of a project's members.
#[derive(Debug, Clone)]
pub struct MemberChange {
    /// Whose role changes.
    pub member: Whom,
    /// The new role; absent takes it away.
    pub role: Option<Role>,
}

/// Somebody, as others name them.
#[derive(Debug, Clone)]
pub enum Whom {
    /// By id.
    Id(UserId),
    /// By username.
    Name(Namespace),
}

impl Whom {
    /// The account of this person.
    pub(super) async fn find(&self, db: &mut Connection) -> Result<User> {
        match self {
            Self::Id(id) => users::get(db, *id).await?.ok_or_else(|| Error::not_found("user", id)),
            Self::Name(name) => {
                let found = users::by_name(db, name).await?;
                Ok(found.ok_or_else(|| Error::not_found("user", name))?.0)
            }
        }
    }
}

impl Service {
    /// Makes a project. Who makes it becomes its owner.
    ///
    /// # Errors
    /// [`Error::SignInNeeded`], [`Error::Forbidden`] in somebody else's namespace, [`Error::Invalid`],
    /// [`Error::Conflict`] when the path is taken.
    pub async fn create_project(&self, who: &Identity, new: NewProject) -> Result<Project> {
        let mut db = self.db().write().await?;
        let (user, namespace) = allowed_namespace(&mut db, who, new.namespace.as_ref()).await?;
        let name = title("project's name", &new.name)?;
        let slug = match new.slug {
            Some(slug) => slug,
            None => slug_of(&name)?,
        };
        let now = now();
        let project = Project {
            id: fresh(),
            namespace,
            slug,
            name,
            description: description(new.description)?,
            visibility: new.visibility.unwrap_or(Visibility::Private),
            repositories: repositories(new.repositories)?,
            created_by: user,
            created_at: now,
            updated_at: now,
            version: 1,
        };
        projects::insert(&mut db, &project).await.map_err(|error| path_taken(error, &project))?;
        projects::set_role(&mut db, project.id, user, Role::Owner).await?;
        let details = json!({"visibility": project.visibility.as_str()});
        audit::record(&mut db, who, "project.created", Thing::project(&project), details).await?;
        db.commit().await.map_err(DbError::from)?;
        self.wrote();
        Ok(project)
    }

    /// The projects that `who` may see, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn projects(
        &self,
        who: &Identity,
        filter: &ProjectFilter,
        page: Page,
    ) -> Result<Paged<Project>> {
        let mut db = self.db().read().await?;
        let (items, total) = projects::list(&mut db, who.viewer(), filter, page).await?;
        Ok(Paged { items, page, total })
    }

    /// The project with this id.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn project(&self, who: &Identity, id: ProjectId) -> Result<Project> {
        allowed_project(&mut *self.db().read().await?, who, id, Action::See).await
    }

    /// The project with this path.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn project_by_path(
        &self,
        who: &Identity,
        namespace: &Namespace,
        slug: &Slug,
    ) -> Result<Project> {
        let mut db = self.db().read().await?;
        let path = format!("{namespace}/{slug}");
        let found = projects::by_path(&mut db, namespace, slug).await?;
        let project = found.ok_or_else(|| Error::not_found("project", &path))?;
        allow(&mut db, who, &project, Action::See, "project", path).await?;
        Ok(project)
    }

    /// Whether `who` may do this with a project: for pages, to offer only what will work.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn may(&self, who: &Identity, project: &Project, action: Action) -> Result<bool> {
        let role = role_of(&mut *self.db().read().await?, who, project.id).await?;
        Ok(decide(who, role, Target::project(project), action) == super::permission::Decision::Allow)
    }

    /// Changes a project. `version`: the `ETag` of the version the change is meant for; `*` for any.
    ///
    /// # Errors
    /// [`Error::VersionNeeded`] without `version`, [`Error::Stale`] when it was changed since, and as
    /// [`Self::create_project`].
    pub async fn update_project(
        &self,
        who: &Identity,
        id: ProjectId,
        version: Option<&str>,
        patch: ProjectPatch,
    ) -> Result<Project> {
        let mut db = self.db().write().await?;
        let mut project = allowed_project(&mut db, who, id, Action::Change).await?;
        let version = version.ok_or(Error::VersionNeeded)?;
        if version != "*" && version != project.etag() {
            return Err(Error::Stale);
        }
        if patch.visibility.is_some_and(|wanted| wanted != project.visibility) {
            // Who may see a project is decided by those who choose its members.
            allow(&mut db, who, &project, Action::Govern, "project", id).await?;
        }
        if let Some(name) = patch.name {
            project.name = title("project's name", &name)?;
        }
        if let Some(text) = patch.description {
            project.description = description(text)?;
        }
        if let Some(list) = patch.repositories {
            project.repositories = repositories(list)?;
        }
        project.slug = patch.slug.unwrap_or(project.slug);
        project.visibility = patch.visibility.unwrap_or(project.visibility);
        project.updated_at = now();
        project.version += 1;
        let details = json!({"slug": project.slug.as_str(), "visibility": project.visibility.as_str()});
        audit::record(&mut db, who, "project.changed", Thing::project(&project), details).await?;
        if !projects::update(&mut db, &project).await.map_err(|error| path_taken(error, &project))? {
            return Err(Error::Stale);
        }
        db.commit().await.map_err(DbError::from)?;
        self.wrote_and_in_force().await;
        Ok(project)
    }

    /// Deletes a project with its launchers, and shuts their apps down.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`].
    pub async fn delete_project(&self, who: &Identity, id: ProjectId) -> Result<()> {
        let mut db = self.db().write().await?;
        let project = allowed_project(&mut db, who, id, Action::Delete).await?;
        for launcher in crate::db::launchers::of_project(&mut db, id).await? {
            crate::db::launchers::delete(&mut db, launcher.id).await?;
        }
        projects::delete(&mut db, id).await?;
        audit::record(&mut db, who, "project.deleted", Thing::project(&project), json!({})).await?;
        db.commit().await.map_err(DbError::from)?;
        self.wrote_and_in_force().await;
        Ok(())
    }

    /// The members of a project, by name. Only members are told who the others are.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`].
    pub async fn members(&self, who: &Identity, id: ProjectId) -> Result<Vec<Member>> {
        let mut db = self.db().read().await?;
        allowed_project(&mut db, who, id, Action::ReadLogs).await?;
        Ok(projects::members(&mut db, id).await?)
    }

    /// Changes roles in a project: all of them, or none when one is refused.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`], [`Error::Conflict`] when no owner would be left.
    pub async fn change_members(
        &self,
        who: &Identity,
        id: ProjectId,
        changes: &[MemberChange],
    ) -> Result<Vec<Member>> {
        let mut db = self.db().write().await?;
        let project = allowed_project(&mut db, who, id, Action::Govern).await?;
        for change in changes {
            let user = change.member.find(&mut db).await?;
            match change.role {
                Some(role) => projects::set_role(&mut db, id, user.id, role).await?,
                None => projects::remove_member(&mut db, id, user.id).await?,
            }
            let details = json!({"member": user.username.as_str(), "role": change.role});
            audit::record(&mut db, who, "project.member", Thing::project(&project), details).await?;
        }
        let members = projects::members(&mut db, id).await?;
        if !projects::has_owner(&mut db, id).await? {
            return Err(Error::conflict(said!(
                "project-needs-owner",
                "a project needs an owner: give somebody else that role first"
            )));
        }
        db.commit().await.map_err(DbError::from)?;
        self.wrote_and_in_force().await;
        Ok(members)
    }
}

/// The role of who asks.
pub(super) async fn role_of(db: &mut Connection, who: &Identity, project: ProjectId) -> Result<Option<Role>> {
    match who.id() {
        Some(user) => Ok(projects::role(db, project, user).await?),
        None => Ok(None),
    }
}

/// Refuses what `who` may not do with a project. `what` and `which` name what was asked for, in the refusal.
pub(super) async fn allow(
    db: &mut Connection,
    who: &Identity,
    project: &Project,
    action: Action,
    what: &'static str,
    which: impl ToString,
) -> Result<()> {
    let role = role_of(db, who, project.id).await?;
    enforce(decide(who, role, Target::project(project), action), action, what, which)
}

/// The project with this id, if `who` may do this with it.
pub(super) async fn allowed_project(
    db: &mut Connection,
    who: &Identity,
    id: ProjectId,
    action: Action,
) -> Result<Project> {
    let project = projects::get(db, id).await?.ok_or_else(|| Error::not_found("project", id))?;
    allow(db, who, &project, action, "project", id).await?;
    Ok(project)
}

fn path_taken(error: DbError, project: &Project) -> Error {
    match error {
        DbError::Exists(_) => Error::conflict(said!(
            "project-exists",
            "there is a project `{path}` already",
            path = format!("{}/{}", project.namespace, project.slug)
        ))
        .about(Field::Slug),
        other => other.into(),
    }
}

fn slug_of(name: &str) -> Result<Slug> {
    slugify(name).and_then(|slug| slug.parse().ok()).ok_or_else(|| {
        Error::invalid(said!(
            "no-slug-of-name",
            "no slug can be made from `{name}`, which has no letter a-z: give a `slug`",
            name = name
        ))
        .about(Field::Slug)
    })
}

/// A title that people give, without spaces around it.
pub(super) fn title(what: &str, text: &str) -> Result<String> {
    let title = text.trim();
    let length = title.chars().count();
    if length == 0 {
        return Err(
            Error::invalid(said!("name-empty", "the {what} is empty", what = what)).about(Field::Name)
        );
    }
    if length > 99 {
        return Err(Error::invalid(said!(
            "name-too-long",
            "the {what} has {length} characters: it may have 99 at most",
            what = what,
            length = length
        ))
        .about(Field::Name));
    }
    if title.chars().any(char::is_control) {
        return Err(Error::invalid(said!(
            "name-has-control",
            "the {what} holds a control character",
            what = what
        ))
        .about(Field::Name));
    }
    Ok(title.to_owned())
}

/// A description; an empty one is none.
pub(super) fn description(text: Option<String>) -> Result<Option<String>> {
    let Some(text) = text.filter(|text| !text.trim().is_empty()) else { return Ok(None) };
    let length = text.chars().count();
    if length > LONGEST_DESCRIPTION {
        return Err(Error::invalid(said!(
            "description-too-long",
            "the description has {length} characters: it may have {most} at most",
            length = length,
            most = LONGEST_DESCRIPTION
        ))
        .about(Field::Description));
    }
    if text.contains('\0') {
        return Err(Error::invalid(said!("description-has-nul", "the description holds a NUL character"))
            .about(Field::Description));
    }
    Ok(Some(text))
}

fn repositories(list: Vec<String>) -> Result<Vec<String>> {
    if list.len() > MOST_REPOSITORIES {
        return Err(Error::invalid(said!(
            "repositories-too-many",
            "a project may have {most} repositories at most",
            most = MOST_REPOSITORIES
        ))
        .about(Field::Repositories));
    }
    for address in &list {
        super::launchers::check_address("repositories", Field::Repositories, address)?;
    }
    Ok(list)
}
