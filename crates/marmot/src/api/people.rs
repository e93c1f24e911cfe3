//! Other people's accounts on the wire: for administrators.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::Result;
use super::extract::{Body, Listed, Pagination, Path, Query, Who, parse, present};
use crate::model::{Secret, User};
use crate::service::{NewUser, Service, UserPatch};

/// A person's account, as administrators see it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PersonOut {
    id: String,
    username: String,
    email: Option<String>,
    first_name: Option<String>,
    last_name: Option<String>,
    /// Runs the installation.
    is_admin: bool,
    /// Cannot sign in.
    disabled: bool,
    #[schema(value_type = String, format = DateTime)]
    creation_date: Timestamp,
}

impl From<User> for PersonOut {
    fn from(user: User) -> Self {
        Self {
            id: user.id.to_string(),
            username: user.username.to_string(),
            email: user.email,
            first_name: user.first_name,
            last_name: user.last_name,
            is_admin: user.is_admin,
            disabled: user.disabled_at.is_some(),
            creation_date: user.created_at,
        }
    }
}

/// An account to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PersonIn {
    /// The name to sign in with, and the namespace it owns.
    #[schema(pattern = "^[a-z](-?[a-z0-9]){0,38}$")]
    username: String,
    email: Option<String>,
    first_name: Option<String>,
    last_name: Option<String>,
    /// Runs the installation.
    #[serde(default)]
    is_admin: bool,
    /// Without one, a password link lets the person choose one.
    #[schema(min_length = 8, max_length = 1000)]
    password: Option<String>,
}

/// A change of an account. What is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PersonChange {
    /// `null` removes it.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    email: Option<Option<String>>,
    /// `null` removes it.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    first_name: Option<Option<String>>,
    /// `null` removes it.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    last_name: Option<Option<String>>,
    /// Runs the installation.
    is_admin: Option<bool>,
    /// Ends the person's sessions and tokens at once, and lets them start none.
    disabled: Option<bool>,
}

/// A link by which a person sets a password, once.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PasswordLinkOut {
    /// Shown this once. Whoever has it can sign in as that person.
    url: String,
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

/// Everybody with an account, by name. For administrators.
#[utoipa::path(get, path = "/users", tag = "users", params(Pagination),
    responses((status = 200, body = [PersonOut])))]
pub(super) async fn list(
    State(service): State<Service>,
    Who(who): Who,
    Query(page): Query<Pagination>,
) -> Result<Listed<PersonOut>> {
    Ok(Listed::new(service.people(&who, page.page()?).await?, Into::into))
}

/// Makes an account. For administrators.
#[utoipa::path(post, path = "/users", tag = "users", request_body = PersonIn,
    responses((status = 201, body = PersonOut)))]
pub(super) async fn create(
    State(service): State<Service>,
    Who(who): Who,
    Body(new): Body<PersonIn>,
) -> Result<(StatusCode, Json<PersonOut>)> {
    let new = NewUser {
        username: parse(&new.username)?,
        password: new.password.map(Secret::new),
        is_admin: new.is_admin,
        email: new.email,
        first_name: new.first_name,
        last_name: new.last_name,
    };
    Ok((StatusCode::CREATED, Json(service.add_person(&who, new).await?.into())))
}

/// A person's account. For administrators.
#[utoipa::path(get, path = "/users/{user_id}", tag = "users", params(("user_id" = String, Path)),
    responses((status = 200, body = PersonOut)))]
pub(super) async fn get(
    State(service): State<Service>,
    Who(who): Who,
    Path(id): Path<String>,
) -> Result<Json<PersonOut>> {
    Ok(Json(service.person(&who, parse(&id)?).await?.into()))
}

/// Changes a person's account. For administrators.
#[utoipa::path(patch, path = "/users/{user_id}", tag = "users", request_body = PersonChange,
    params(("user_id" = String, Path)), responses((status = 200, body = PersonOut)))]
pub(super) async fn update(
    State(service): State<Service>,
    Who(who): Who,
    Path(id): Path<String>,
    Body(change): Body<PersonChange>,
) -> Result<Json<PersonOut>> {
    let patch = UserPatch {
        is_admin: change.is_admin,
        disabled: change.disabled,
        email: change.email,
        first_name: change.first_name,
        last_name: change.last_name,
    };
    Ok(Json(service.change_person(&who, parse(&id)?, patch).await?.into()))
}

/// Deletes a person's account and what is known of the person. Refused while a project or a group has no other owner.
/// For administrators.
#[utoipa::path(delete, path = "/users/{user_id}", tag = "users", params(("user_id" = String, Path)),
    responses((status = 204)))]
pub(super) async fn delete(
    State(service): State<Service>,
    Who(who): Who,
    Path(id): Path<String>,
) -> Result<StatusCode> {
    service.delete_person(&who, parse(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes a link by which a person sets a password, in the place of the one before. For administrators.
#[utoipa::path(post, path = "/users/{user_id}/password_link", tag = "users", params(("user_id" = String, Path)),
    responses((status = 201, body = PasswordLinkOut)))]
pub(super) async fn password_link(
    State(service): State<Service>,
    Who(who): Who,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<PasswordLinkOut>)> {
    let link = service.password_link(&who, parse(&id)?).await?;
    let answer = PasswordLinkOut { url: link.url.reveal().to_owned(), expires_at: link.expires_at };
    Ok((StatusCode::CREATED, Json(answer)))
}
