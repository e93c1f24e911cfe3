//! What a project shows to the hosts of its private repositories and images, on the wire.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::Result;
use super::extract::{Body, Path, Who, parse};
use crate::model::{Credential, Secret};
use crate::service::{NewCredential, Service};

/// What is known of a credential. The secret itself is shown to nobody.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CredentialOut {
    id: String,
    /// `git` or `registry`.
    kind: &'static str,
    /// The one host that is shown it.
    host: String,
    username: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl From<Credential> for CredentialOut {
    fn from(credential: Credential) -> Self {
        let Credential { id, kind, host, username, created_at, .. } = credential;
        Self { id: id.to_string(), kind: kind.as_str(), host, username, created_at }
    }
}

/// A credential to be kept.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CredentialIn {
    /// `git` or `registry`.
    kind: String,
    /// The one host that is shown it, perhaps with a port: `gitlab.example.org`.
    host: String,
    /// The name that goes with it. Hosts of repositories take a token with any name.
    username: Option<String>,
    /// A token, a password, or a private key in PEM for `ssh://` addresses.
    secret: String,
}

/// What a project shows to hosts.
#[utoipa::path(get, path = "/projects/{project_id}/credentials", tag = "secrets",
    params(("project_id" = String, Path)), responses((status = 200, body = [CredentialOut])))]
pub(super) async fn list(
    State(service): State<Service>,
    Who(who): Who,
    Path(id): Path<String>,
) -> Result<Json<Vec<CredentialOut>>> {
    Ok(Json(service.credentials(&who, parse(&id)?).await?.into_iter().map(Into::into).collect()))
}

/// Sets what a project shows to a host, in the place of what it showed before.
#[utoipa::path(post, path = "/projects/{project_id}/credentials", tag = "secrets", request_body = CredentialIn,
    params(("project_id" = String, Path)), responses((status = 201, body = CredentialOut)))]
pub(super) async fn set(
    State(service): State<Service>,
    Who(who): Who,
    Path(id): Path<String>,
    Body(given): Body<CredentialIn>,
) -> Result<(StatusCode, Json<CredentialOut>)> {
    let new = NewCredential {
        kind: parse(&given.kind)?,
        host: given.host,
        username: given.username,
        secret: Secret::new(given.secret),
    };
    let made = service.set_credential(&who, parse(&id)?, new).await?;
    Ok((StatusCode::CREATED, Json(made.into())))
}

/// Removes what a project shows to a host.
#[utoipa::path(delete, path = "/projects/{project_id}/credentials/{credential_id}", tag = "secrets",
    params(("project_id" = String, Path), ("credential_id" = String, Path)), responses((status = 204)))]
pub(super) async fn remove(
    State(service): State<Service>,
    Who(who): Who,
    Path((project, id)): Path<(String, String)>,
) -> Result<StatusCode> {
    service.remove_credential(&who, parse(&project)?, parse(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
