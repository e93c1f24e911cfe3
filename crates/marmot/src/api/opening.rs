//! Who may open an app: to whom it is open, its share links, its keys. All of them also while it is off.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use jiff::Timestamp;
use marmot_core::id::{AppKeyId, ShareLinkId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::Result;
use super::extract::{Body, Path, Who, parse};
use crate::opening::{AppKey, Grant, KeyQuota, OpenTo, ShareLink};
use crate::service::{Invited, NewGrant, OpeningView, Service};

/// Who may open an app, besides the members of its project.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AccessOut {
    /// To whom it is open, as it was said.
    open_to: OpenTo,
    /// What that comes to now: `everyone`, `link`, `signed_in`, `members` or `named`.
    effective: OpenTo,
    /// The names of people who may open it where it is open to `named` ones.
    users: Vec<String>,
    /// The paths of groups whose members may.
    groups: Vec<String>,
}

impl From<OpeningView> for AccessOut {
    fn from(view: OpeningView) -> Self {
        Self {
            open_to: view.to,
            effective: view.effective,
            users: view.users.iter().map(ToString::to_string).collect(),
            groups: view.groups.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Who shall open an app.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AccessIn {
    /// `project` for those who may see its project, `everyone` (of public projects), `link` for everybody with a share
    /// link, `signed_in` for everybody with an account, `members`, or `named` for people and groups that are named.
    open_to: OpenTo,
    /// The names of people.
    #[serde(default)]
    users: Vec<String>,
    /// The paths of groups.
    #[serde(default)]
    groups: Vec<String>,
}

/// What is known of a share link. Its address was shown when it was made.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShareLinkOut {
    id: String,
    /// What it is for.
    name: String,
    created_by: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_used_at: Option<Timestamp>,
    /// How often it was opened.
    uses: u64,
}

impl From<ShareLink> for ShareLinkOut {
    fn from(link: ShareLink) -> Self {
        let Grant { id, name, created_by, created_at, expires_at, last_used_at, uses } = link.grant;
        let created_by = created_by.map(|name| name.to_string());
        Self { id: id.to_string(), name, created_by, created_at, expires_at, last_used_at, uses }
    }
}

/// A share link to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ShareLinkIn {
    /// What it is for.
    name: String,
    /// When it ends; never when absent.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
}

/// A fresh share link, with its address, which is shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NewShareLinkOut {
    #[serde(flatten)]
    link: ShareLinkOut,
    /// Opens the app for whoever has it.
    url: String,
}

/// What is known of a key. Its text was shown when it was made.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AppKeyOut {
    id: String,
    /// What it is for.
    name: String,
    created_by: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_used_at: Option<Timestamp>,
    /// Requests that were made with it.
    uses: u64,
    requests_per_minute: Option<u32>,
    requests_at_once: Option<u32>,
}

impl From<AppKey> for AppKeyOut {
    fn from(key: AppKey) -> Self {
        let Grant { id, name, created_by, created_at, expires_at, last_used_at, uses } = key.grant;
        Self {
            id: id.to_string(),
            name,
            created_by: created_by.map(|name| name.to_string()),
            created_at,
            expires_at,
            last_used_at,
            uses,
            requests_per_minute: key.quota.per_minute,
            requests_at_once: key.quota.at_once,
        }
    }
}

/// A key to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AppKeyIn {
    /// What it is for.
    name: String,
    /// When it ends; never when absent.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// As many as one likes when absent.
    requests_per_minute: Option<u32>,
    /// As many as one likes when absent.
    requests_at_once: Option<u32>,
}

/// A fresh key, with its text, which is shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NewAppKeyOut {
    #[serde(flatten)]
    key: AppKeyOut,
    /// Send it to the app as `Authorization: Bearer …` or `X-Marmot-Key: …`.
    #[serde(rename = "key")]
    text: String,
}

/// Who may open an app. For members.
#[utoipa::path(get, path = "/apps/{name}/access", tag = "access", params(("name" = String, Path)),
    responses((status = 200, body = AccessOut)))]
pub(super) async fn get(
    State(service): State<Service>,
    Who(who): Who,
    Path(name): Path<String>,
) -> Result<Json<AccessOut>> {
    Ok(Json(service.opening(&who, &parse(&name)?).await?.into()))
}

/// Says anew who may open an app. What is open to those who may not any more is closed at once.
#[utoipa::path(put, path = "/apps/{name}/access", tag = "access", params(("name" = String, Path)),
    request_body = AccessIn, responses((status = 200, body = AccessOut)))]
pub(super) async fn set(
    State(service): State<Service>,
    Who(who): Who,
    Path(name): Path<String>,
    Body(said): Body<AccessIn>,
) -> Result<Json<AccessOut>> {
    let invited = Invited { users: &said.users, groups: &said.groups };
    Ok(Json(service.set_opening(&who, &parse(&name)?, said.open_to, invited).await?.into()))
}

/// The share links of an app, newest first. For those who may make them.
#[utoipa::path(get, path = "/apps/{name}/share_links", tag = "access", params(("name" = String, Path)),
    responses((status = 200, body = [ShareLinkOut])))]
pub(super) async fn links(
    State(service): State<Service>,
    Who(who): Who,
    Path(name): Path<String>,
) -> Result<Json<Vec<ShareLinkOut>>> {
    let links = service.share_links(&who, &parse(&name)?).await?;
    Ok(Json(links.into_iter().map(Into::into).collect()))
}

/// Makes a share link. Its address is in the answer, and never shown again.
#[utoipa::path(post, path = "/apps/{name}/share_links", tag = "access", params(("name" = String, Path)),
    request_body = ShareLinkIn, responses((status = 201, body = NewShareLinkOut)))]
pub(super) async fn create_link(
    State(service): State<Service>,
    Who(who): Who,
    Path(name): Path<String>,
    Body(new): Body<ShareLinkIn>,
) -> Result<(StatusCode, Json<NewShareLinkOut>)> {
    let new = NewGrant { name: new.name, expires_at: new.expires_at };
    let (link, url) = service.create_share_link(&who, &parse(&name)?, new).await?;
    let answer = NewShareLinkOut { link: link.into(), url: url.reveal().to_owned() };
    Ok((StatusCode::CREATED, Json(answer)))
}

/// Revokes a share link. Whoever came by it is out at once.
#[utoipa::path(delete, path = "/apps/{name}/share_links/{link_id}", tag = "access",
    params(("name" = String, Path), ("link_id" = String, Path)), responses((status = 204)))]
pub(super) async fn revoke_link(
    State(service): State<Service>,
    Who(who): Who,
    Path((name, id)): Path<(String, String)>,
) -> Result<StatusCode> {
    service.revoke_share_link(&who, &parse(&name)?, parse::<ShareLinkId>(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The keys of an app, newest first. For those who may make them.
#[utoipa::path(get, path = "/apps/{name}/app_keys", tag = "access", params(("name" = String, Path)),
    responses((status = 200, body = [AppKeyOut])))]
pub(super) async fn keys(
    State(service): State<Service>,
    Who(who): Who,
    Path(name): Path<String>,
) -> Result<Json<Vec<AppKeyOut>>> {
    let keys = service.app_keys(&who, &parse(&name)?).await?;
    Ok(Json(keys.into_iter().map(Into::into).collect()))
}

/// Makes a key for programs. Its text is in the answer, and never shown again.
#[utoipa::path(post, path = "/apps/{name}/app_keys", tag = "access", params(("name" = String, Path)),
    request_body = AppKeyIn, responses((status = 201, body = NewAppKeyOut)))]
pub(super) async fn create_key(
    State(service): State<Service>,
    Who(who): Who,
    Path(name): Path<String>,
    Body(new): Body<AppKeyIn>,
) -> Result<(StatusCode, Json<NewAppKeyOut>)> {
    let quota = KeyQuota { per_minute: new.requests_per_minute, at_once: new.requests_at_once };
    let new = NewGrant { name: new.name, expires_at: new.expires_at };
    let (key, text) = service.create_app_key(&who, &parse(&name)?, new, quota).await?;
    let answer = NewAppKeyOut { key: key.into(), text: text.reveal().to_owned() };
    Ok((StatusCode::CREATED, Json(answer)))
}

/// Revokes a key. Whatever has it is out at once.
#[utoipa::path(delete, path = "/apps/{name}/app_keys/{key_id}", tag = "access",
    params(("name" = String, Path), ("key_id" = String, Path)), responses((status = 204)))]
pub(super) async fn revoke_key(
    State(service): State<Service>,
    Who(who): Who,
    Path((name, id)): Path<(String, String)>,
) -> Result<StatusCode> {
    service.revoke_app_key(&who, &parse(&name)?, parse::<AppKeyId>(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
