//! Previews of branches on the wire, and how launchers learn of changes of theirs.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::error::Result;
use super::extract::{Body, Path, Who, parse};
use crate::service::{FollowingPatch, FollowingView, LauncherView, Service};

/// An app of another branch, with an address of its own and an end.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PreviewOut {
    id: String,
    /// The launcher that it is of.
    launcher_id: String,
    branch: String,
    /// The name of its app: by it, its phase, logs and revisions are asked for.
    app_name: String,
    environment_id: String,
    url: String,
    /// As of an app; `inactive` when it was shut down.
    phase: &'static str,
    #[schema(value_type = String, format = DateTime)]
    creation_date: Timestamp,
    /// When it goes, with all that it has.
    #[schema(value_type = Option<String>, format = DateTime)]
    ends_at: Option<Timestamp>,
}

impl From<LauncherView> for PreviewOut {
    fn from(view: LauncherView) -> Self {
        let launcher = view.launcher;
        Self {
            launcher_id: launcher.ruled_by().to_string(),
            ends_at: launcher.preview.as_ref().map(|preview| preview.ends_at),
            branch: launcher.preview.map(|preview| preview.branch).unwrap_or_default(),
            id: launcher.id.to_string(),
            app_name: launcher.app_name.to_string(),
            environment_id: launcher.environment.id.to_string(),
            url: view.url,
            phase: view.phase.as_str(),
            creation_date: launcher.created_at,
        }
    }
}

/// A preview to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PreviewIn {
    /// A branch of the launcher's repository.
    branch: String,
    /// How many days it stays; as the launcher says when absent.
    #[schema(minimum = 1, maximum = 90)]
    days: Option<u32>,
}

/// A change of a preview.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PreviewChange {
    /// How many days it stays from now; as the launcher says when absent.
    #[schema(minimum = 1, maximum = 90)]
    days: Option<u32>,
}

/// How a launcher learns of changes.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FollowingOut {
    /// Its branch is looked at this often; never when null. Its previews' are, too.
    poll_minutes: Option<u32>,
    /// Pull and merge requests that a webhook tells of make and end previews.
    pull_requests: bool,
    /// Previews are given the secrets, too.
    secrets: bool,
    /// How long previews stay, in days.
    days: u32,
    /// When the branch was last looked at.
    #[schema(value_type = Option<String>, format = DateTime)]
    looked_at: Option<Timestamp>,
    /// The commit that it was last seen at, by looking or by the word of a webhook.
    commit: Option<String>,
    /// Why it could not be seen.
    error: Option<String>,
    /// How often in a row it could not: it is looked at less and less often.
    failures: u32,
    /// When it is looked at again.
    #[schema(value_type = Option<String>, format = DateTime)]
    next_look_at: Option<Timestamp>,
}

impl From<FollowingView> for FollowingOut {
    fn from(view: FollowingView) -> Self {
        let FollowingView { said, seen, days } = view;
        Self {
            poll_minutes: said.poll_minutes,
            pull_requests: said.pull_requests,
            secrets: said.secrets,
            days,
            looked_at: seen.looked_at,
            commit: seen.tip,
            error: seen.error,
            failures: seen.failures,
            next_look_at: seen.next_at,
        }
    }
}

/// A change of how a launcher learns of changes. What is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FollowingChange {
    /// Look at the branch this often; null: never.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1440)]
    poll_minutes: Option<Option<u32>>,
    pull_requests: Option<bool>,
    /// For owners of the project to allow.
    secrets: Option<bool>,
    /// How long previews stay; null: as the server says.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 90)]
    days: Option<Option<u32>>,
}

/// What is given, `null` among it.
fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<u32>>, D::Error> {
    Option::<u32>::deserialize(from).map(Some)
}

/// The previews of a launcher, oldest first.
#[utoipa::path(get, path = "/session_launchers/{launcher_id}/previews", tag = "previews",
    params(("launcher_id" = String, Path)), responses((status = 200, body = [PreviewOut])))]
pub(super) async fn list(
    State(service): State<Service>,
    Who(who): Who,
    Path(id): Path<String>,
) -> Result<Json<Vec<PreviewOut>>> {
    let found = service.previews(&who, parse(&id)?).await?;
    Ok(Json(found.into_iter().map(Into::into).collect()))
}

/// Makes a preview of a branch: it is built and started at once, has an address of its own, and an end.
#[utoipa::path(post, path = "/session_launchers/{launcher_id}/previews", tag = "previews", request_body = PreviewIn,
    params(("launcher_id" = String, Path)), responses((status = 201, body = PreviewOut)))]
pub(super) async fn make(
    State(service): State<Service>,
    Who(who): Who,
    Path(id): Path<String>,
    Body(new): Body<PreviewIn>,
) -> Result<(StatusCode, Json<PreviewOut>)> {
    let made = service.make_preview(&who, parse(&id)?, &new.branch, new.days).await?;
    Ok((StatusCode::CREATED, Json(made.into())))
}

/// Lets a preview stay for so many days from now.
#[utoipa::path(patch, path = "/session_launchers/{launcher_id}/previews/{preview_id}", tag = "previews",
    request_body = PreviewChange, params(("launcher_id" = String, Path), ("preview_id" = String, Path)),
    responses((status = 200, body = PreviewOut)))]
pub(super) async fn prolong(
    State(service): State<Service>,
    Who(who): Who,
    Path((id, preview)): Path<(String, String)>,
    Body(change): Body<PreviewChange>,
) -> Result<Json<PreviewOut>> {
    Ok(Json(service.prolong_preview(&who, parse(&id)?, parse(&preview)?, change.days).await?.into()))
}

/// Ends a preview: its app, its builds and all it has go.
#[utoipa::path(delete, path = "/session_launchers/{launcher_id}/previews/{preview_id}", tag = "previews",
    params(("launcher_id" = String, Path), ("preview_id" = String, Path)), responses((status = 204)))]
pub(super) async fn end(
    State(service): State<Service>,
    Who(who): Who,
    Path((id, preview)): Path<(String, String)>,
) -> Result<StatusCode> {
    service.end_preview(&who, parse(&id)?, parse(&preview)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How a launcher learns of changes of its branch, and what was last seen of that.
#[utoipa::path(get, path = "/session_launchers/{launcher_id}/following", tag = "previews",
    params(("launcher_id" = String, Path)), responses((status = 200, body = FollowingOut)))]
pub(super) async fn following(
    State(service): State<Service>,
    Who(who): Who,
    Path(id): Path<String>,
) -> Result<Json<FollowingOut>> {
    Ok(Json(service.following(&who, parse(&id)?).await?.into()))
}

/// Says how a launcher learns of changes of its branch, and what it makes previews of.
#[utoipa::path(patch, path = "/session_launchers/{launcher_id}/following", tag = "previews",
    request_body = FollowingChange, params(("launcher_id" = String, Path)),
    responses((status = 200, body = FollowingOut)))]
pub(super) async fn follow(
    State(service): State<Service>,
    Who(who): Who,
    Path(id): Path<String>,
    Body(change): Body<FollowingChange>,
) -> Result<Json<FollowingOut>> {
    let FollowingChange { poll_minutes, pull_requests, secrets, days } = change;
    let patch = FollowingPatch { poll_minutes, pull_requests, secrets, days };
    Ok(Json(service.set_following(&who, parse(&id)?, patch).await?.into()))
}
