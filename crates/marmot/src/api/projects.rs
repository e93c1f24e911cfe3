//! Projects on the wire.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::error::{Problem, Result};
use super::extract::{Body, Listed, Pagination, Path, Query, Who, parse, present};
use crate::model::{Member, Project};
use crate::service::{MemberChange, NewProject, ProjectFilter, ProjectPatch, Service, Whom};

/// A project.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProjectOut {
    id: String,
    name: String,
    namespace: String,
    slug: String,
    description: Option<String>,
    /// `public` or `private`.
    visibility: &'static str,
    /// Addresses of its code repositories.
    repositories: Vec<String>,
    created_by: String,
    #[schema(value_type = String, format = DateTime)]
    creation_date: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// For the `If-Match` header of a change.
    etag: String,
}

impl From<Project> for ProjectOut {
    fn from(project: Project) -> Self {
        Self {
            etag: project.etag(),
            id: project.id.to_string(),
            name: project.name,
            namespace: project.namespace.to_string(),
            slug: project.slug.to_string(),
            description: project.description,
            visibility: project.visibility.as_str(),
            repositories: project.repositories,
            created_by: project.created_by.to_string(),
            creation_date: project.created_at,
            updated_at: project.updated_at,
        }
    }
}

/// With the `ETag` header.
impl IntoResponse for ProjectOut {
    fn into_response(self) -> Response {
        ([(header::ETAG, self.etag.clone())], Json(self)).into_response()
    }
}

/// A project to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ProjectIn {
    /// What people call it.
    #[schema(min_length = 1, max_length = 99)]
    name: String,
    /// Your username when absent.
    #[schema(pattern = "^[a-z](-?[a-z0-9]){0,38}$")]
    namespace: Option<String>,
    /// Made from the name when absent.
    #[schema(pattern = "^[a-z](-?[a-z0-9]){0,38}$")]
    slug: Option<String>,
    /// `public` or `private`; private when absent.
    #[schema(pattern = "^(public|private)$")]
    visibility: Option<String>,
    description: Option<String>,
    /// Addresses of its code repositories.
    #[serde(default)]
    repositories: Vec<String>,
}

/// A change of a project. What is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ProjectChange {
    name: Option<String>,
    slug: Option<String>,
    /// `public` or `private`. Owners only.
    #[schema(pattern = "^(public|private)$")]
    visibility: Option<String>,
    /// `null` removes it.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    description: Option<Option<String>>,
    repositories: Option<Vec<String>>,
}

/// Which projects are asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ProjectQuery {
    /// Only those in this namespace.
    namespace: Option<String>,
    /// Only those of which you are a member.
    #[serde(default)]
    direct_member: bool,
}

/// A member of a project.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MemberOut {
    /// The person's id.
    id: String,
    username: String,
    /// `owner`, `editor` or `viewer`.
    role: &'static str,
}

impl From<Member> for MemberOut {
    fn from(member: Member) -> Self {
        Self {
            id: member.user.to_string(),
            username: member.username.to_string(),
            role: member.role.as_str(),
        }
    }
}

/// A change of a role. Names the person by `id` or by `username`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MemberIn {
    id: Option<String>,
    username: Option<String>,
    /// `owner`, `editor` or `viewer`; `null` takes the role away.
    #[schema(pattern = "^(owner|editor|viewer)$")]
    role: Option<String>,
}

/// The projects you may see, newest first.
#[utoipa::path(get, path = "/projects", tag = "projects", params(ProjectQuery, Pagination),
    responses((status = 200, body = [ProjectOut])))]
pub(super) async fn list(
    State(service): State<Service>,
    Who(who): Who,
    Query(query): Query<ProjectQuery>,
    Query(page): Query<Pagination>,
) -> Result<Listed<ProjectOut>> {
    let namespace = query.namespace.as_deref().map(parse).transpose()?;
    let member = if query.direct_member { Some(who.signed_in()?.id) } else { None };
    let found = service.projects(&who, &ProjectFilter { namespace, member }, page.page()?).await?;
    Ok(Listed::new(found, Into::into))
}

/// Makes a project, of which you become the owner.
#[utoipa::path(post, path = "/projects", tag = "projects", request_body = ProjectIn,
    responses((status = 201, body = ProjectOut)))]
pub(super) async fn create(
    State(service): State<Service>,
    Who(who): Who,
    Body(new): Body<ProjectIn>,
) -> Result<(StatusCode, ProjectOut)> {
    let new = NewProject {
        name: new.name,
        namespace: new.namespace.as_deref().map(parse).transpose()?,
        slug: new.slug.as_deref().map(parse).transpose()?,
        visibility: new.visibility.as_deref().map(parse).transpose()?,
        description: new.description,
        repositories: new.repositories,
    };
    Ok((StatusCode::CREATED, service.create_project(&who, new).await?.into()))
}

/// A project.
#[utoipa::path(get, path = "/projects/{project_id}", tag = "projects", params(("project_id" = String, Path)),
    responses((status = 200, body = ProjectOut)))]
pub(super) async fn get(
    State(service): State<Service>,
    Who(who): Who,
    Path(id): Path<String>,
) -> Result<ProjectOut> {
    Ok(service.project(&who, parse(&id)?).await?.into())
}

/// A project by its path.
#[utoipa::path(get, path = "/namespaces/{namespace}/projects/{slug}", tag = "projects",
    params(("namespace" = String, Path), ("slug" = String, Path)), responses((status = 200, body = ProjectOut)))]
pub(super) async fn by_path(
    State(service): State<Service>,
    Who(who): Who,
    Path((namespace, slug)): Path<(String, String)>,
) -> Result<ProjectOut> {
    Ok(service.project_by_path(&who, &parse(&namespace)?, &parse(&slug)?).await?.into())
}

/// Changes a project, if it is still the version that `If-Match` names.
#[utoipa::path(patch, path = "/projects/{project_id}", tag = "projects", request_body = ProjectChange,
    params(("project_id" = String, Path), ("If-Match" = String, Header, description = "The `ETag` of the version the change is meant for")),
    responses((status = 200, body = ProjectOut)))]
pub(super) async fn update(
    State(service): State<Service>,
    Who(who): Who,
    Path(id): Path<String>,
    headers: HeaderMap,
    Body(change): Body<ProjectChange>,
) -> Result<ProjectOut> {
    let version = headers.get(header::IF_MATCH).map(|value| value.to_str().unwrap_or_default());
    let patch = ProjectPatch {
        name: change.name,
        slug: change.slug.as_deref().map(parse).transpose()?,
        visibility: change.visibility.as_deref().map(parse).transpose()?,
        description: change.description,
        repositories: change.repositories,
    };
    Ok(service.update_project(&who, parse(&id)?, version, patch).await?.into())
}

/// Deletes a project and its launchers, and shuts its apps down.
#[utoipa::path(delete, path = "/projects/{project_id}", tag = "projects", params(("project_id" = String, Path)),
    responses((status = 204)))]
pub(super) async fn delete(
    State(service): State<Service>,
    Who(who): Who,
    Path(id): Path<String>,
) -> Result<StatusCode> {
    service.delete_project(&who, parse(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The members of a project. For members.
#[utoipa::path(get, path = "/projects/{project_id}/members", tag = "projects", params(("project_id" = String, Path)),
    responses((status = 200, body = [MemberOut])))]
pub(super) async fn members(
    State(service): State<Service>,
    Who(who): Who,
    Path(id): Path<String>,
) -> Result<Json<Vec<MemberOut>>> {
    let members = service.members(&who, parse(&id)?).await?;
    Ok(Json(members.into_iter().map(Into::into).collect()))
}

/// Changes roles: all that are named, or none when one is refused. For owners.
#[utoipa::path(patch, path = "/projects/{project_id}/members", tag = "projects", request_body = [MemberIn],
    params(("project_id" = String, Path)), responses((status = 200, body = [MemberOut])))]
pub(super) async fn change_members(
    State(service): State<Service>,
    Who(who): Who,
    Path(id): Path<String>,
    Body(members): Body<Vec<MemberIn>>,
) -> Result<Json<Vec<MemberOut>>> {
    let members = service.change_members(&who, parse(&id)?, &changes(&members)?).await?;
    Ok(Json(members.into_iter().map(Into::into).collect()))
}

/// Changes of roles, as they are on the wire.
pub(super) fn changes(members: &[MemberIn]) -> Result<Vec<MemberChange>> {
    let change = |member: &MemberIn| {
        let whom = match (member.id.as_deref(), member.username.as_deref()) {
            (Some(id), None) => Whom::Id(parse(id)?),
            (None, Some(username)) => Whom::Name(parse(username)?),
            _ => {
                return Err(Problem::unprocessable(
                    "each member needs an `id` or a `username`, and not both",
                ));
            }
        };
        Ok(MemberChange { member: whom, role: member.role.as_deref().map(parse).transpose()? })
    };
    members.iter().map(change).collect()
}
