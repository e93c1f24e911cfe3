//! How requests to an app are treated, and the last of them.

use axum::Json;
use axum::extract::State;
use jiff::{SignedDuration, Timestamp};
use marmot_gateway::LoggedRequest;
use serde::Serialize;
use utoipa::ToSchema;

use super::error::Result;
use super::extract::{Body, Path, Who, parse};
use crate::service::{Service, TrafficView};
use crate::traffic::Traffic;

/// How requests to an app are treated.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TrafficOut {
    /// What was said: what `PUT` takes.
    given: Traffic,
    /// Bytes that the body of a request may have, by what was said and by the server; as many as one likes when absent.
    body_limit_bytes: Option<u64>,
}

impl From<TrafficView> for TrafficOut {
    fn from(view: TrafficView) -> Self {
        Self { given: view.given, body_limit_bytes: view.body_limit }
    }
}

/// A request that was written down.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LoggedRequestOut {
    /// When its answer began.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The address that it came from.
    client: String,
    method: String,
    /// Without its query, in which secrets travel.
    path: String,
    status: u16,
    /// How long it took until its answer began, waking and waiting included.
    milliseconds: u64,
    /// Its `X-Request-Id`.
    request_id: String,
}

impl From<LoggedRequest> for LoggedRequestOut {
    fn from(request: LoggedRequest) -> Self {
        let since = SignedDuration::try_from(request.at).unwrap_or(SignedDuration::ZERO);
        Self {
            at: Timestamp::from_duration(since).unwrap_or(Timestamp::UNIX_EPOCH),
            client: request.client.to_string(),
            method: request.method,
            path: request.path,
            status: request.status,
            milliseconds: u64::try_from(request.took.as_millis()).unwrap_or(u64::MAX),
            request_id: request.request_id,
        }
    }
}

/// How requests to an app are treated. Also while it is off; for members.
#[utoipa::path(get, path = "/apps/{name}/traffic", tag = "apps", params(("name" = String, Path)),
    responses((status = 200, body = TrafficOut)))]
pub(super) async fn get(
    State(service): State<Service>,
    Who(who): Who,
    Path(name): Path<String>,
) -> Result<Json<TrafficOut>> {
    Ok(Json(service.traffic(&who, &parse(&name)?).await?.into()))
}

/// Says anew how requests to an app are treated. What is left out is as the server says.
#[utoipa::path(put, path = "/apps/{name}/traffic", tag = "apps", params(("name" = String, Path)),
    request_body = Traffic, responses((status = 200, body = TrafficOut)))]
pub(super) async fn set(
    State(service): State<Service>,
    Who(who): Who,
    Path(name): Path<String>,
    Body(given): Body<Traffic>,
) -> Result<Json<TrafficOut>> {
    Ok(Json(service.set_traffic(&who, &parse(&name)?, given).await?.into()))
}

/// The last requests to an app, the newest first, where its owner has them written down: as many as 200, since the server
/// was started.
#[utoipa::path(get, path = "/apps/{name}/requests", tag = "apps", params(("name" = String, Path)),
    responses((status = 200, body = [LoggedRequestOut])))]
pub(super) async fn requests(
    State(service): State<Service>,
    Who(who): Who,
    Path(name): Path<String>,
) -> Result<Json<Vec<LoggedRequestOut>>> {
    let logged = service.logged_requests(&who, &parse(&name)?).await?;
    Ok(Json(logged.into_iter().map(Into::into).collect()))
}
