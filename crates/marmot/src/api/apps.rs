//! Apps on the wire.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use http::StatusCode;
use jiff::Timestamp;
use marmot_core::AppName;
use marmot_engine::observed::SleepDepth;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::builds::{BuildOut, LogQuery, events as event_stream, line_event};
use super::error::{Problem, Result};
use super::extract::{Body, Credential, Listed, Pagination, Path, Query, Who, parse};
use crate::model::{AppEvent, Program, Revision};
use crate::scaling::Scaling;
use crate::service::{AppView, Error, ReplicaView, Service};

/// An app: a launcher that was activated.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AppOut {
    name: String,
    /// What people call it.
    title: String,
    launcher_id: String,
    project_id: String,
    /// `pending`, `ready` or `failed`.
    status: &'static str,
    /// `building`, `starting`, `running`, `asleep`, `waking`, `updating`, `stopping` or `failed`.
    phase: &'static str,
    /// While it sleeps: `hibernated` (wakes in milliseconds) or `stopped` (must boot).
    #[serde(skip_serializing_if = "Option::is_none")]
    asleep_depth: Option<&'static str>,
    /// What is going on, while it is not there yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<String>,
    url: String,
    #[schema(value_type = String, format = DateTime)]
    started: Timestamp,
    /// The container image it runs, or the commit it was built from.
    image: Option<String>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The last lines of the log of what failed. For members.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    last_lines: Vec<String>,
    /// The number of the revision it should run.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<i64>,
    replicas: Vec<ReplicaOut>,
    /// How many people have it open.
    sessions: u64,
    /// Requests under way or waiting.
    requests: u64,
    /// The build it waits for, or the one it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    build: Option<BuildOut>,
}

/// One running copy of an app.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReplicaOut {
    id: String,
    revision_id: String,
    /// `starting`, `running`, `hibernated`, `draining` or `stopping`.
    state: &'static str,
    /// While it is hibernated, how far its memory is out of the way: `frozen`, all of it is resident; `light`, all but
    /// what its last wake-ups used is paged out; `deep`, all of it is.
    depth: Option<&'static str>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Visitors with a connection to it that is open, or kept for them.
    sessions: u64,
    /// Requests that it works on.
    requests: u64,
    /// Resident memory, in bytes.
    memory_bytes: u64,
    /// Memory that was swapped out, in bytes.
    swapped_bytes: u64,
    /// Memory that holds what was swapped out, compressed, in bytes. What is on a disk takes none.
    compressed_bytes: u64,
}

impl From<ReplicaView> for ReplicaOut {
    fn from(replica: ReplicaView) -> Self {
        Self {
            id: replica.id.to_string(),
            revision_id: replica.revision.to_string(),
            state: replica.stage,
            depth: (replica.stage == "hibernated").then_some(match replica.depth {
                SleepDepth::Frozen => "frozen",
                SleepDepth::Light => "light",
                SleepDepth::Deep => "deep",
            }),
            created_at: replica.created_at(),
            sessions: replica.sessions,
            requests: replica.requests,
            memory_bytes: replica.memory.resident,
            swapped_bytes: replica.memory.swapped,
            compressed_bytes: replica.memory.compressed,
        }
    }
}

impl From<AppView> for AppOut {
    fn from(app: AppView) -> Self {
        let (reason, last_lines) = app
            .failure
            .map_or((None, Vec::new()), |failure| (Some(failure.reason.to_string()), failure.last_lines));
        Self {
            name: app.name.to_string(),
            title: app.title,
            launcher_id: app.launcher_id.to_string(),
            project_id: app.project_id.to_string(),
            status: app.status.as_str(),
            phase: app.phase.as_str(),
            asleep_depth: app.asleep_depth.map(|depth| depth.as_str()),
            step: app.step.map(|step| step.to_string()),
            url: app.url,
            started: app.started,
            image: app.image,
            reason,
            last_lines,
            revision: app.revision.map(|revision| revision.number),
            replicas: app.replicas.into_iter().map(Into::into).collect(),
            sessions: app.sessions,
            requests: app.requests,
            build: app.build.map(Into::into),
        }
    }
}

/// Which launcher to activate.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AppIn {
    launcher_id: String,
}

/// A change of an app.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AppChange {
    /// `running` wakes it, or tries again what failed; `hibernated` puts it to rest.
    state: String,
}

/// Which apps are asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct AppQuery {
    /// Only those of this project.
    project_id: Option<String>,
}

/// Something that happened to an app.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventOut {
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// What, in one word.
    kind: String,
    /// What, in a sentence.
    message: String,
    /// Who did it, if somebody did.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
}

impl From<AppEvent> for EventOut {
    fn from(event: AppEvent) -> Self {
        let by = event.by.map(|name| name.to_string());
        Self { at: event.at, kind: event.kind, message: event.message.to_string(), by }
    }
}

/// An immutable pair of program and settings of an app.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RevisionOut {
    id: String,
    /// 1 for the first, then 2, 3, …
    number: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    build_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<String>,
    /// How its app scaled; absent for those that were made before that was noted.
    #[serde(skip_serializing_if = "Option::is_none")]
    scaling: Option<Scaling>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it was first ready.
    #[schema(value_type = Option<String>, format = DateTime)]
    ready_at: Option<Timestamp>,
}

impl From<Revision> for RevisionOut {
    fn from(revision: Revision) -> Self {
        let (build_id, image) = match revision.program {
            Program::Built { build, .. } => (Some(build.to_string()), None),
            Program::Image { build, image } => {
                (build.map(|build| build.to_string()), Some(image.container_image))
            }
        };
        Self {
            id: revision.id.to_string(),
            number: revision.number,
            build_id,
            image,
            scaling: revision.scaling,
            created_at: revision.created_at,
            ready_at: revision.ready_at,
        }
    }
}

/// The active apps you may see.
#[utoipa::path(get, path = "/apps", tag = "apps", params(AppQuery, Pagination),
    responses((status = 200, body = [AppOut])))]
pub(super) async fn list(
    State(service): State<Service>,
    Who(who): Who,
    Query(query): Query<AppQuery>,
    Query(page): Query<Pagination>,
) -> Result<Listed<AppOut>> {
    let project = query.project_id.as_deref().map(parse).transpose()?;
    Ok(Listed::new(service.apps(&who, project, page.page()?).await?, Into::into))
}

/// Activates a launcher. Without a successful build, one is started, and the app goes on by itself.
#[utoipa::path(post, path = "/apps", tag = "apps", request_body = AppIn, responses((status = 201, body = AppOut)))]
pub(super) async fn activate(
    State(service): State<Service>,
    Who(who): Who,
    Body(new): Body<AppIn>,
) -> Result<(StatusCode, Json<AppOut>)> {
    let app = service.activate(&who, parse(&new.launcher_id)?).await?;
    Ok((StatusCode::CREATED, Json(app.into())))
}

/// An active app.
#[utoipa::path(get, path = "/apps/{name}", tag = "apps", params(("name" = String, Path)),
    responses((status = 200, body = AppOut)))]
pub(super) async fn get(
    State(service): State<Service>,
    Who(who): Who,
    Path(name): Path<String>,
) -> Result<Json<AppOut>> {
    Ok(Json(service.app(&who, &parse(&name)?).await?.into()))
}

/// Wakes an app, or puts it to rest.
#[utoipa::path(patch, path = "/apps/{name}", tag = "apps", params(("name" = String, Path)), request_body = AppChange,
    responses((status = 200, body = AppOut)))]
pub(super) async fn update(
    State(service): State<Service>,
    Who(who): Who,
    Path(name): Path<String>,
    Body(change): Body<AppChange>,
) -> Result<Json<AppOut>> {
    let name: AppName = parse(&name)?;
    let app = match change.state.as_str() {
        "running" => service.wake(&who, &name).await?,
        "hibernated" => service.put_to_rest(&who, &name).await?,
        _ => return Err(Problem::unprocessable("`state` must be `running` or `hibernated`")),
    };
    Ok(Json(app.into()))
}

/// Starts an app afresh, with the program and settings it has. New replicas come up beside those that serve and take over
/// from them; nobody is cut off.
#[utoipa::path(post, path = "/apps/{name}/restart", tag = "apps", params(("name" = String, Path)),
    responses((status = 200, body = AppOut)))]
pub(super) async fn restart(
    State(service): State<Service>,
    Who(who): Who,
    Path(name): Path<String>,
) -> Result<Json<AppOut>> {
    Ok(Json(service.restart(&who, &parse(&name)?).await?.into()))
}

/// Shuts an app down: nobody can open it, and it uses nothing.
#[utoipa::path(delete, path = "/apps/{name}", tag = "apps", params(("name" = String, Path)), responses((status = 204)))]
pub(super) async fn shut_down(
    State(service): State<Service>,
    Who(who): Who,
    Path(name): Path<String>,
) -> Result<StatusCode> {
    match service.shut_down(&who, &parse(&name)?).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(error @ Error::NotFound { .. }) => {
            Err(Problem::from(error).detail("an app that is off has no app here"))
        }
        Err(other) => Err(other.into()),
    }
}

/// The logs of an app, by replica and container; or, with `follow`, server-sent events with a line each. For members.
#[utoipa::path(get, path = "/apps/{name}/logs", tag = "apps", params(("name" = String, Path), LogQuery),
    responses((status = 200, content((BTreeMap<String, String> = "application/json"), (String = "text/event-stream")))))]
pub(super) async fn logs(
    State(service): State<Service>,
    credential: Credential,
    Path(name): Path<String>,
    Query(query): Query<LogQuery>,
) -> Result<Response> {
    let name = parse(&name)?;
    let who = credential.identify(&service).await?;
    if !query.follow {
        let logs = service.app_logs(&who, &name, query.lines()).await?;
        let logs: BTreeMap<_, _> =
            logs.into_iter().map(|(source, lines)| (source, lines.join("\n"))).collect();
        return Ok(Json(logs).into_response());
    }
    let (mut changes, asked) = (service.changes(), service.clone());
    let lines = service.follow_app_logs(&who, &name, query.lines()).await?;
    let refused = async move {
        while changes.look_again().await {
            let Ok(who) = credential.identify(&asked).await else { return };
            let Ok(()) = asked.check_app_logs(&who, &name).await else { return };
        }
    };
    Ok(event_stream(&service, lines.map(|line| line_event(&line.source, &line.text)), refused))
}

/// What happened to an app, newest first. For members.
#[utoipa::path(get, path = "/apps/{name}/events", tag = "apps", params(("name" = String, Path), Pagination),
    responses((status = 200, body = [EventOut])))]
pub(super) async fn events(
    State(service): State<Service>,
    Who(who): Who,
    Path(name): Path<String>,
    Query(page): Query<Pagination>,
) -> Result<Listed<EventOut>> {
    Ok(Listed::new(service.app_events(&who, &parse(&name)?, page.page()?).await?, Into::into))
}

/// The revisions of an app, newest first.
#[utoipa::path(get, path = "/apps/{name}/revisions", tag = "apps", params(("name" = String, Path)),
    responses((status = 200, body = [RevisionOut])))]
pub(super) async fn revisions(
    State(service): State<Service>,
    Who(who): Who,
    Path(name): Path<String>,
) -> Result<Json<Vec<RevisionOut>>> {
    let revisions = service.revisions(&who, &parse(&name)?).await?;
    Ok(Json(revisions.into_iter().map(Into::into).collect()))
}

/// Makes an app run one of its earlier revisions.
#[utoipa::path(post, path = "/apps/{name}/revisions/{revision_id}/activate", tag = "apps",
    params(("name" = String, Path), ("revision_id" = String, Path)), responses((status = 200, body = AppOut)))]
pub(super) async fn roll_back(
    State(service): State<Service>,
    Who(who): Who,
    Path((name, revision)): Path<(String, String)>,
) -> Result<Json<AppOut>> {
    Ok(Json(service.roll_back(&who, &parse(&name)?, parse(&revision)?).await?.into()))
}
