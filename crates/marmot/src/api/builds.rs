//! Builds on the wire.

use std::convert::Infallible;

use axum::Json;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt as _};
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::error::{Problem, Result};
use super::extract::{Body, Credential, Listed, Pagination, Path, Query, Who, parse};
use crate::model::BuildStatus;
use crate::service::{BuildView, Service};

/// One attempt to turn code into something runnable.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BuildOut {
    id: String,
    environment_id: String,
    /// `in_progress`, `succeeded`, `failed` or `cancelled`.
    status: &'static str,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Timestamp>,
    /// What it is doing.
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<String>,
    /// Which step failed, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    error_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<BuildResultOut>,
}

/// What came of a build.
#[derive(Debug, Serialize, ToSchema)]
struct BuildResultOut {
    repository_url: String,
    repository_git_commit_sha: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    completed_at: Option<Timestamp>,
    /// How the app is started.
    command: Option<String>,
    /// What was found, and why it is built so.
    summary: Option<String>,
    /// Where a registry has the image that was made, by digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<String>,
}

impl From<BuildView> for BuildOut {
    fn from(view: BuildView) -> Self {
        let error_reason = view.error_reason();
        let BuildView { build, step } = view;
        let result = (build.status == BuildStatus::Succeeded).then(|| BuildResultOut {
            repository_url: build.code.shown_repository(),
            repository_git_commit_sha: build.result.commit,
            completed_at: build.ended_at,
            command: build.result.command,
            summary: build.result.summary,
            image: build.result.pushed,
        });
        Self {
            id: build.id.to_string(),
            environment_id: build.environment_id.to_string(),
            status: build.status.as_str(),
            created_at: build.created_at,
            ended_at: build.ended_at,
            step: step.map(|step| step.to_string()),
            error_reason: error_reason.map(|reason| reason.to_string()),
            result,
        }
    }
}

/// A change of a build.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BuildChange {
    /// `cancelled`.
    status: String,
}

/// Which part of a log is asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct LogQuery {
    /// How many of the last lines; 250 when absent.
    #[param(minimum = 1, maximum = 10000)]
    pub(super) max_lines: Option<usize>,
    /// Go on with new lines, as server-sent events.
    #[serde(default)]
    pub(super) follow: bool,
}

impl LogQuery {
    pub(super) fn lines(&self) -> usize {
        self.max_lines.unwrap_or(250)
    }
}

/// Server-sent events that end when the server stops, so that they do not hold it up, and once `refused` comes back.
pub(super) fn events(
    service: &Service,
    events: impl Stream<Item = Event> + Send + 'static,
    refused: impl Future<Output = ()> + Send + 'static,
) -> Response {
    let events =
        events.take_until(service.stopping().cancelled_owned()).take_until(refused).map(Ok::<_, Infallible>);
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}

/// The builds of an environment, newest first.
#[utoipa::path(get, path = "/environments/{environment_id}/builds", tag = "builds",
    params(("environment_id" = String, Path), Pagination), responses((status = 200, body = [BuildOut])))]
pub(super) async fn list(
    State(service): State<Service>,
    Who(who): Who,
    Path(environment): Path<String>,
    Query(page): Query<Pagination>,
) -> Result<Listed<BuildOut>> {
    Ok(Listed::new(service.builds(&who, parse(&environment)?, page.page()?).await?, Into::into))
}

/// Starts a build.
#[utoipa::path(post, path = "/environments/{environment_id}/builds", tag = "builds",
    params(("environment_id" = String, Path)), responses((status = 201, body = BuildOut)))]
pub(super) async fn start(
    State(service): State<Service>,
    Who(who): Who,
    Path(environment): Path<String>,
) -> Result<(StatusCode, Json<BuildOut>)> {
    let build = service.start_build(&who, parse(&environment)?).await?;
    Ok((StatusCode::CREATED, Json(build.into())))
}

/// A build.
#[utoipa::path(get, path = "/builds/{build_id}", tag = "builds", params(("build_id" = String, Path)),
    responses((status = 200, body = BuildOut)))]
pub(super) async fn get(
    State(service): State<Service>,
    Who(who): Who,
    Path(id): Path<String>,
) -> Result<Json<BuildOut>> {
    Ok(Json(service.build(&who, parse(&id)?).await?.into()))
}

/// Cancels a build.
#[utoipa::path(patch, path = "/builds/{build_id}", tag = "builds", params(("build_id" = String, Path)),
    request_body = BuildChange, responses((status = 200, body = BuildOut)))]
pub(super) async fn update(
    State(service): State<Service>,
    Who(who): Who,
    Path(id): Path<String>,
    Body(change): Body<BuildChange>,
) -> Result<Json<BuildOut>> {
    if change.status != BuildStatus::Cancelled.as_str() {
        return Err(Problem::unprocessable("`status` can only be set to `cancelled`"));
    }
    Ok(Json(service.cancel_build(&who, parse(&id)?).await?.into()))
}

/// The log of a build, by container: `{"build": "lines…"}`; or, with `follow`, server-sent events with a line each.
#[utoipa::path(get, path = "/builds/{build_id}/logs", tag = "builds", params(("build_id" = String, Path), LogQuery),
    responses((status = 200, content(
        (std::collections::BTreeMap<String, String> = "application/json"), (String = "text/event-stream")))))]
pub(super) async fn logs(
    State(service): State<Service>,
    credential: Credential,
    Path(id): Path<String>,
    Query(query): Query<LogQuery>,
) -> Result<Response> {
    let id = parse(&id)?;
    let who = credential.identify(&service).await?;
    if !query.follow {
        let lines = service.build_logs(&who, id, query.lines()).await?;
        return Ok(Json(serde_json::json!({ "build": lines.join("\n") })).into_response());
    }
    let (mut changes, asked) = (service.changes(), service.clone());
    let lines = service.follow_build_logs(&who, id).await?;
    let refused = async move {
        while changes.look_again().await {
            let Ok(who) = credential.identify(&asked).await else { return };
            let Ok(()) = asked.check_build_logs(&who, id).await else { return };
        }
    };
    let end = futures_util::stream::once(async { Event::default().event("end").data("") });
    Ok(events(&service, lines.map(|line| line_event("build", &line)).chain(end), refused))
}

/// One line of a log as an event. As JSON, since a line may hold what would end the event.
pub(super) fn line_event(source: &str, line: &str) -> Event {
    let data = serde_json::json!({ "source": source, "line": line });
    Event::default().event("line").data(data.to_string())
}
