//! Secrets of projects and launchers on the wire: values come in and never go out.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::Result;
use super::extract::{Body, Path, Who, parse};
use crate::model::{Secret, SecretForm, StoredSecret};
use crate::service::{SecretsOf, Service};

/// What is known of a secret. Its value is shown to nobody.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SecretOut {
    /// The name of its variable or file.
    name: String,
    /// `variable`, or `file`: then it is in the directory that `MARMOT_SECRETS_DIR` names.
    form: &'static str,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When its value was last set.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl From<StoredSecret> for SecretOut {
    fn from(secret: StoredSecret) -> Self {
        let StoredSecret { name, form, created_at, updated_at, .. } = secret;
        Self { name, form: form.as_str(), created_at, updated_at }
    }
}

/// A value to be kept.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SecretIn {
    /// The value.
    value: String,
    /// `variable` (when absent), or `file`.
    form: Option<String>,
}

impl SecretIn {
    fn form(&self) -> Result<SecretForm> {
        self.form.as_deref().map_or(Ok(SecretForm::Variable), parse)
    }
}

/// The secrets that all launchers of a project are given.
#[utoipa::path(get, path = "/projects/{project_id}/secrets", tag = "secrets", params(("project_id" = String, Path)),
    responses((status = 200, body = [SecretOut])))]
pub(super) async fn of_project(
    State(service): State<Service>,
    Who(who): Who,
    Path(id): Path<String>,
) -> Result<Json<Vec<SecretOut>>> {
    let found = service.secrets(&who, SecretsOf::Project(parse(&id)?)).await?;
    Ok(Json(found.into_iter().map(Into::into).collect()))
}

/// Sets a secret of a project. Its apps go on with it, as a new revision.
#[utoipa::path(put, path = "/projects/{project_id}/secrets/{secret}", tag = "secrets", request_body = SecretIn,
    params(("project_id" = String, Path), ("secret" = String, Path)), responses((status = 200, body = SecretOut)))]
pub(super) async fn set_of_project(
    State(service): State<Service>,
    Who(who): Who,
    Path((id, name)): Path<(String, String)>,
    Body(given): Body<SecretIn>,
) -> Result<Json<SecretOut>> {
    let (of, form) = (SecretsOf::Project(parse(&id)?), given.form()?);
    Ok(Json(service.set_secret(&who, of, &name, Secret::new(given.value), form).await?.into()))
}

/// Removes a secret of a project.
#[utoipa::path(delete, path = "/projects/{project_id}/secrets/{secret}", tag = "secrets",
    params(("project_id" = String, Path), ("secret" = String, Path)), responses((status = 204)))]
pub(super) async fn remove_of_project(
    State(service): State<Service>,
    Who(who): Who,
    Path((id, name)): Path<(String, String)>,
) -> Result<StatusCode> {
    service.remove_secret(&who, SecretsOf::Project(parse(&id)?), &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The secrets that a launcher alone is given; they win over the project's.
#[utoipa::path(get, path = "/session_launchers/{launcher_id}/secrets", tag = "secrets",
    params(("launcher_id" = String, Path)), responses((status = 200, body = [SecretOut])))]
pub(super) async fn of_launcher(
    State(service): State<Service>,
    Who(who): Who,
    Path(id): Path<String>,
) -> Result<Json<Vec<SecretOut>>> {
    let found = service.secrets(&who, SecretsOf::Launcher(parse(&id)?)).await?;
    Ok(Json(found.into_iter().map(Into::into).collect()))
}

/// Sets a secret of a launcher. Its app goes on with it, as a new revision.
#[utoipa::path(put, path = "/session_launchers/{launcher_id}/secrets/{secret}", tag = "secrets", request_body = SecretIn,
    params(("launcher_id" = String, Path), ("secret" = String, Path)), responses((status = 200, body = SecretOut)))]
pub(super) async fn set_of_launcher(
    State(service): State<Service>,
    Who(who): Who,
    Path((id, name)): Path<(String, String)>,
    Body(given): Body<SecretIn>,
) -> Result<Json<SecretOut>> {
    let (of, form) = (SecretsOf::Launcher(parse(&id)?), given.form()?);
    Ok(Json(service.set_secret(&who, of, &name, Secret::new(given.value), form).await?.into()))
}

/// Removes a secret of a launcher.
#[utoipa::path(delete, path = "/session_launchers/{launcher_id}/secrets/{secret}", tag = "secrets",
    params(("launcher_id" = String, Path), ("secret" = String, Path)), responses((status = 204)))]
pub(super) async fn remove_of_launcher(
    State(service): State<Service>,
    Who(who): Who,
    Path((id, name)): Path<(String, String)>,
) -> Result<StatusCode> {
    service.remove_secret(&who, SecretsOf::Launcher(parse(&id)?), &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
