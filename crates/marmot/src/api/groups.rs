//! Groups on the wire.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::error::Result;
use super::extract::{Body, Listed, Pagination, Path, Query, Who, parse, present};
use super::projects::{MemberIn, MemberOut, changes};
use crate::model::Group;
use crate::service::{GroupPatch, NewGroup, Service};

/// People who own a namespace together.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GroupOut {
    id: String,
    name: String,
    /// The namespace that it owns.
    slug: String,
    description: Option<String>,
    created_by: String,
    #[schema(value_type = String, format = DateTime)]
    creation_date: Timestamp,
}

impl From<Group> for GroupOut {
    fn from(group: Group) -> Self {
        Self {
            id: group.id.to_string(),
            name: group.name,
            slug: group.path.to_string(),
            description: group.description,
            created_by: group.created_by.to_string(),
            creation_date: group.created_at,
        }
    }
}

/// A group to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupIn {
    /// What people call it.
    #[schema(min_length = 1, max_length = 99)]
    name: String,
    /// The namespace that it will own.
    #[schema(pattern = "^[a-z](-?[a-z0-9]){0,38}$")]
    slug: String,
    description: Option<String>,
}

/// A change of a group. What is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupChange {
    name: Option<String>,
    /// `null` removes it.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    description: Option<Option<String>>,
}

/// Which groups are asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct GroupQuery {
    /// Only those of which you are a member.
    #[serde(default)]
    direct_member: bool,
}

/// Groups, by path.
#[utoipa::path(get, path = "/groups", tag = "groups", params(GroupQuery, Pagination),
    responses((status = 200, body = [GroupOut])))]
pub(super) async fn list(
    State(service): State<Service>,
    Who(who): Who,
    Query(query): Query<GroupQuery>,
    Query(page): Query<Pagination>,
) -> Result<Listed<GroupOut>> {
    let found = service.groups(&who, query.direct_member, page.page()?).await?;
    Ok(Listed::new(found, Into::into))
}

/// Makes a group, of which you become the owner.
#[utoipa::path(post, path = "/groups", tag = "groups", request_body = GroupIn,
    responses((status = 201, body = GroupOut)))]
pub(super) async fn create(
    State(service): State<Service>,
    Who(who): Who,
    Body(new): Body<GroupIn>,
) -> Result<(StatusCode, Json<GroupOut>)> {
    let new = NewGroup { path: parse(&new.slug)?, name: new.name, description: new.description };
    Ok((StatusCode::CREATED, Json(service.create_group(&who, new).await?.into())))
}

/// A group.
#[utoipa::path(get, path = "/groups/{slug}", tag = "groups", params(("slug" = String, Path)),
    responses((status = 200, body = GroupOut)))]
pub(super) async fn get(
    State(service): State<Service>,
    Who(who): Who,
    Path(slug): Path<String>,
) -> Result<Json<GroupOut>> {
    Ok(Json(service.group(&who, &parse(&slug)?).await?.into()))
}

/// Changes a group. For owners.
#[utoipa::path(patch, path = "/groups/{slug}", tag = "groups", request_body = GroupChange,
    params(("slug" = String, Path)), responses((status = 200, body = GroupOut)))]
pub(super) async fn update(
    State(service): State<Service>,
    Who(who): Who,
    Path(slug): Path<String>,
    Body(change): Body<GroupChange>,
) -> Result<Json<GroupOut>> {
    let patch = GroupPatch { name: change.name, description: change.description };
    Ok(Json(service.update_group(&who, &parse(&slug)?, patch).await?.into()))
}

/// Deletes a group without projects. For owners.
#[utoipa::path(delete, path = "/groups/{slug}", tag = "groups", params(("slug" = String, Path)),
    responses((status = 204)))]
pub(super) async fn delete(
    State(service): State<Service>,
    Who(who): Who,
    Path(slug): Path<String>,
) -> Result<StatusCode> {
    service.delete_group(&who, &parse(&slug)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The members of a group. For members.
#[utoipa::path(get, path = "/groups/{slug}/members", tag = "groups", params(("slug" = String, Path)),
    responses((status = 200, body = [MemberOut])))]
pub(super) async fn members(
    State(service): State<Service>,
    Who(who): Who,
    Path(slug): Path<String>,
) -> Result<Json<Vec<MemberOut>>> {
    let members = service.group_members(&who, &parse(&slug)?).await?;
    Ok(Json(members.into_iter().map(Into::into).collect()))
}

/// Changes roles: all that are named, or none when one is refused. For owners.
#[utoipa::path(patch, path = "/groups/{slug}/members", tag = "groups", request_body = [MemberIn],
    params(("slug" = String, Path)), responses((status = 200, body = [MemberOut])))]
pub(super) async fn change_members(
    State(service): State<Service>,
    Who(who): Who,
    Path(slug): Path<String>,
    Body(members): Body<Vec<MemberIn>>,
) -> Result<Json<Vec<MemberOut>>> {
    let members = service.change_group_members(&who, &parse(&slug)?, &changes(&members)?).await?;
    Ok(Json(members.into_iter().map(Into::into).collect()))
}
