//! Who did what, on the wire: page by page, or all of it as JSON lines.

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, StreamExt as _};
use http::header::{self, HeaderValue};
use jiff::Timestamp;
use marmot_core::id::ProjectId;
use serde::Serialize;
use utoipa::ToSchema;

use super::error::Result;
use super::extract::{Listed, Pagination, Path, Query, Who, parse};
use crate::model::Deed;
use crate::service::{Identity, Service};

/// Something that somebody did.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeedOut {
    id: String,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Who; absent for an operator on the data directory, and for the server itself.
    actor_id: Option<String>,
    /// Who, by the username of that time.
    actor: String,
    /// `page`, `api`, `cli`, `webhook` or `server`.
    via: &'static str,
    /// The address it came from; empty where there is none.
    address: String,
    /// What, such as `project.changed`.
    action: String,
    /// What kind of thing it was done to.
    target_kind: String,
    target_id: String,
    /// That thing's name at that time.
    target: String,
    project_id: Option<String>,
    /// More about it.
    #[schema(value_type = Object)]
    details: serde_json::Value,
}

impl From<Deed> for DeedOut {
    fn from(deed: Deed) -> Self {
        Self {
            id: deed.id,
            at: deed.at,
            actor_id: deed.actor_id.map(|id| id.to_string()),
            actor: deed.actor,
            via: deed.via.as_str(),
            address: deed.address,
            action: deed.action,
            target_kind: deed.kind,
            target_id: deed.target_id,
            target: deed.target,
            project_id: deed.project.map(|id| id.to_string()),
            details: deed.details,
        }
    }
}

/// Who did what in a project, newest first. For its owners.
#[utoipa::path(get, path = "/projects/{project_id}/audit", tag = "audit",
    params(("project_id" = String, Path), Pagination), responses((status = 200, body = [DeedOut])))]
pub(super) async fn of_project(
    State(service): State<Service>,
    Who(who): Who,
    Path(id): Path<String>,
    Query(page): Query<Pagination>,
) -> Result<Listed<DeedOut>> {
    Ok(Listed::new(service.project_audit(&who, parse(&id)?, page.page()?).await?, Into::into))
}

/// All that was done in a project, oldest first, as JSON lines. For its owners.
#[utoipa::path(get, path = "/projects/{project_id}/audit/export", tag = "audit",
    params(("project_id" = String, Path)),
    responses((status = 200, body = String, content_type = "application/x-ndjson")))]
pub(super) async fn export_of_project(
    State(service): State<Service>,
    Who(who): Who,
    Path(id): Path<String>,
) -> Result<Response> {
    lines(service, who, Some(parse(&id)?)).await
}

/// Who did what, newest first. For administrators.
#[utoipa::path(get, path = "/audit", tag = "audit", params(Pagination), responses((status = 200, body = [DeedOut])))]
pub(super) async fn all(
    State(service): State<Service>,
    Who(who): Who,
    Query(page): Query<Pagination>,
) -> Result<Listed<DeedOut>> {
    Ok(Listed::new(service.audit(&who, page.page()?).await?, Into::into))
}

/// All that was done, oldest first, as JSON lines. For administrators.
#[utoipa::path(get, path = "/audit/export", tag = "audit",
    responses((status = 200, body = String, content_type = "application/x-ndjson")))]
pub(super) async fn export(State(service): State<Service>, Who(who): Who) -> Result<Response> {
    lines(service, who, None).await
}

/// Reads a part at a time: the whole may be longer than memory.
async fn lines(service: Service, who: Identity, project: Option<ProjectId>) -> Result<Response> {
    // What is refused is refused before the answer begins.
    let first = service.audit_after(&who, project, None).await?;
    let rest = stream::unfold((service, who, Some(first)), move |(service, who, part)| async move {
        let part = part?;
        let last = part.last()?.id.clone();
        let text: String = part.into_iter().map(line).collect();
        // Asked again each time: who may no longer see it is told no more.
        let next = service.audit_after(&who, project, Some(&last)).await;
        let next = next.inspect_err(|error| tracing::warn!(%error, "an export of the audit broke off")).ok();
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(text)), (service, who, next)))
    });
    let kind = [(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"))];
    Ok((kind, Body::from_stream(rest.boxed())).into_response())
}

fn line(deed: Deed) -> String {
    serde_json::to_string(&DeedOut::from(deed)).unwrap_or_default() + "\n"
}
