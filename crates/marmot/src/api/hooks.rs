//! Webhooks on the wire: what code hosting sites send when somebody pushes, and how a launcher gets one.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::error::{Problem, Result};
use super::extract::{From, Path, Who, parse};
use crate::model::{Hook, Secret, Via};
use crate::service::{Call, Error, Message, Proof, Service};

/// The hook of a launcher.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HookOut {
    /// The address that the site is to be given.
    url: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When a message with the right signature last came.
    #[schema(value_type = Option<String>, format = DateTime)]
    heard_at: Option<Timestamp>,
    /// What came of it.
    heard: Option<String>,
    /// What the site is to be given as the secret. Shown when the hook is made, and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

impl HookOut {
    fn new(service: &Service, hook: Hook, secret: Option<Secret>) -> Self {
        let url = service.hook_url(&hook);
        let Hook { created_at, heard_at, heard, .. } = hook;
        Self { url, created_at, heard_at, heard, secret: secret.map(|secret| secret.reveal().to_owned()) }
    }
}

/// What came of a message.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HeardOut {
    message: String,
}

/// The hook of a launcher.
#[utoipa::path(get, path = "/session_launchers/{launcher_id}/webhook", tag = "builds",
    params(("launcher_id" = String, Path)), responses((status = 200, body = HookOut)))]
pub(super) async fn get(
    State(service): State<Service>,
    Who(who): Who,
    Path(id): Path<String>,
) -> Result<Json<HookOut>> {
    let launcher = parse(&id)?;
    let hook = service.hook(&who, launcher).await?;
    let none = || Error::NotFound { what: "webhook of the launcher", which: id.clone() };
    Ok(Json(HookOut::new(&service, hook.ok_or_else(none)?, None)))
}

/// Makes a hook for a launcher, with a fresh secret: pushes to its branch build its app anew.
#[utoipa::path(post, path = "/session_launchers/{launcher_id}/webhook", tag = "builds",
    params(("launcher_id" = String, Path)), responses((status = 201, body = HookOut)))]
pub(super) async fn make(
    State(service): State<Service>,
    Who(who): Who,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<HookOut>)> {
    let (hook, secret) = service.make_hook(&who, parse(&id)?).await?;
    Ok((StatusCode::CREATED, Json(HookOut::new(&service, hook, Some(secret)))))
}

/// Removes the hook of a launcher.
#[utoipa::path(delete, path = "/session_launchers/{launcher_id}/webhook", tag = "builds",
    params(("launcher_id" = String, Path)), responses((status = 204)))]
pub(super) async fn remove(
    State(service): State<Service>,
    Who(who): Who,
    Path(id): Path<String>,
) -> Result<StatusCode> {
    service.remove_hook(&who, parse(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes a message of GitHub, GitLab, Gitea or Forgejo, signed with the hook's secret.
#[utoipa::path(post, path = "/hooks/{launcher_id}", tag = "builds", params(("launcher_id" = String, Path)),
    request_body(content = String, content_type = "application/json"), responses((status = 200, body = HeardOut)))]
pub(super) async fn hear(
    State(service): State<Service>,
    Path(id): Path<String>,
    From(address): From,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<HeardOut>> {
    // An id that cannot be is refused as a wrong signature is: nobody learns from it which launchers there are.
    let launcher = id.parse().map_err(|_| Error::InvalidCredentials)?;
    let (proof, event) = proof(&headers)?;
    let message = Message { proof, event, body: &body };
    let call = Call::new(Via::Webhook, address.parse().ok(), "");
    Ok(Json(HeardOut { message: call.accompany(service.hear(launcher, &message)).await? }))
}

/// What proves where a message comes from, and what it tells of.
fn proof(headers: &HeaderMap) -> Result<(Proof, &str)> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(token) = text("x-gitlab-token") {
        return Ok((Proof::Token(Secret::new(token)), text("x-gitlab-event").unwrap_or_default()));
    }
    let of_github = text("x-hub-signature-256").and_then(|value| value.strip_prefix("sha256="));
    let signature = of_github.or_else(|| text("x-gitea-signature")).or_else(|| text("x-forgejo-signature"));
    let event = ["x-github-event", "x-gitea-event", "x-forgejo-event"].into_iter().find_map(text);
    let signature = signature.ok_or_else(|| {
        Problem::new(
            StatusCode::UNAUTHORIZED,
            "the message is not signed: give the site the webhook's secret, and let it send `application/json`",
        )
    })?;
    Ok((Proof::Signature(signature.to_owned()), event.unwrap_or_default()))
}
