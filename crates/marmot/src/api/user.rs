//! Who asks, that person's tokens, and what replicas may use.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::{Problem, Result};
use super::extract::{Body, From, Path, Who, parse};
use crate::model::{Access, Limit, Secret, Session, Token, User};
use crate::service::{Errand, Identity, NewToken, Service, permission};

/// A person with an account.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UserOut {
    id: String,
    /// The name to sign in with, and the namespace that this person owns.
    username: String,
    email: Option<String>,
    first_name: Option<String>,
    last_name: Option<String>,
    is_admin: bool,
}

impl std::convert::From<&User> for UserOut {
    fn from(user: &User) -> Self {
        Self {
            id: user.id.to_string(),
            username: user.username.to_string(),
            email: user.email.clone(),
            first_name: user.first_name.clone(),
            last_name: user.last_name.clone(),
            is_admin: user.is_admin,
        }
    }
}

/// What is known of an API token.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TokenOut {
    id: String,
    name: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_used_at: Option<Timestamp>,
    /// `read` or `write`.
    scope: &'static str,
    /// The project it is good for alone.
    project_id: Option<String>,
    /// The launcher it is good for alone.
    launcher_id: Option<String>,
}

impl std::convert::From<Token> for TokenOut {
    fn from(token: Token) -> Self {
        let (project, launcher) = match token.limit {
            None => (None, None),
            Some(Limit::Project(project)) => (Some(project), None),
            Some(Limit::Launcher { launcher, project }) => (Some(project), Some(launcher)),
        };
        Self {
            scope: token.access.as_str(),
            project_id: project.map(|id| id.to_string()),
            launcher_id: launcher.map(|id| id.to_string()),
            id: token.id.to_string(),
            name: token.name,
            created_at: token.created_at,
            expires_at: token.expires_at,
            last_used_at: token.last_used_at,
        }
    }
}

/// A token to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenIn {
    /// What it is for.
    #[schema(min_length = 1, max_length = 99)]
    name: String,
    /// When it stops working; never when absent.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// `read` lets it see what you may see, `write` (the default) change what you may change, too.
    #[schema(pattern = "^(read|write)$")]
    scope: Option<String>,
    /// Only in this project.
    #[schema(pattern = "^[0-7][0-9A-HJKMNP-TV-Z]{25}$")]
    project_id: Option<String>,
    /// Only with this launcher and its app.
    #[schema(pattern = "^[0-7][0-9A-HJKMNP-TV-Z]{25}$")]
    launcher_id: Option<String>,
    /// With `password`, in the place of a token or cookie.
    username: Option<String>,
    /// With `username`, in the place of a token or cookie.
    password: Option<String>,
}

/// A fresh token, with its text, which is shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NewTokenOut {
    #[serde(flatten)]
    token: TokenOut,
    /// Send it as `Authorization: Bearer …`.
    #[serde(rename = "token")]
    text: String,
}

/// What a replica may use.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ResourceClassOut {
    id: i64,
    name: String,
    /// Cores.
    cpu: f64,
    /// Memory, in GiB.
    memory: f64,
    /// GPUs, for container images alone.
    gpu: u32,
    default: bool,
}

/// Who asks.
#[utoipa::path(get, path = "/user", tag = "users", responses((status = 200, body = UserOut)))]
pub(super) async fn get(Who(who): Who) -> Result<Json<UserOut>> {
    Ok(Json(permission::allowed(&who, Errand::Introduce)?.into()))
}

/// The tokens of who asks, newest first.
#[utoipa::path(get, path = "/user/tokens", tag = "users", responses((status = 200, body = [TokenOut])))]
pub(super) async fn tokens(State(service): State<Service>, Who(who): Who) -> Result<Json<Vec<TokenOut>>> {
    Ok(Json(service.tokens(&who).await?.into_iter().map(Into::into).collect()))
}

/// Makes a token. Its text is in the answer, and never shown again.
#[utoipa::path(post, path = "/user/tokens", tag = "users", request_body = TokenIn,
    responses((status = 201, body = NewTokenOut)))]
pub(super) async fn create_token(
    State(service): State<Service>,
    Who(who): Who,
    From(address): From,
    Body(new): Body<TokenIn>,
) -> Result<(StatusCode, Json<NewTokenOut>)> {
    let who = match (new.username, new.password) {
        (None, None) => who,
        (Some(username), Some(password)) => {
            let user = service.check_password(&username, &Secret::new(password), &address).await?;
            Identity::User(user)
        }
        _ => return Err(Problem::unprocessable("`username` and `password` go together")),
    };
    let wanted = NewToken {
        name: new.name,
        expires_at: new.expires_at,
        access: new.scope.as_deref().map_or(Ok(Access::Write), parse)?,
        project: new.project_id.as_deref().map(parse).transpose()?,
        launcher: new.launcher_id.as_deref().map(parse).transpose()?,
    };
    let (token, text) = service.create_token(&who, wanted).await?;
    let answer = NewTokenOut { token: token.into(), text: text.reveal().to_owned() };
    Ok((StatusCode::CREATED, Json(answer)))
}

/// A session in a browser.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SessionOut {
    id: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// To within a minute.
    #[schema(value_type = String, format = DateTime)]
    last_seen_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    /// The identity provider that it was started by; absent for a password or a link.
    provider: Option<String>,
    /// The address it was started from.
    address: String,
    /// What the browser says it is.
    user_agent: String,
}

impl std::convert::From<Session> for SessionOut {
    fn from(session: Session) -> Self {
        Self {
            id: session.id.to_string(),
            created_at: session.created_at,
            last_seen_at: session.last_seen_at,
            expires_at: session.expires_at,
            provider: session.provider,
            address: session.address,
            user_agent: session.agent,
        }
    }
}

/// Where you are signed in, the last used first.
#[utoipa::path(get, path = "/user/sessions", tag = "users", responses((status = 200, body = [SessionOut])))]
pub(super) async fn sessions(State(service): State<Service>, Who(who): Who) -> Result<Json<Vec<SessionOut>>> {
    let found = service.sessions(&who, None).await?;
    Ok(Json(found.into_iter().map(|(session, _)| session.into()).collect()))
}

/// Ends one of your sessions.
#[utoipa::path(delete, path = "/user/sessions/{session_id}", tag = "users",
    params(("session_id" = String, Path)), responses((status = 204)))]
pub(super) async fn revoke_session(
    State(service): State<Service>,
    Who(who): Who,
    Path(id): Path<String>,
) -> Result<StatusCode> {
    service.revoke_session(&who, parse(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Revokes a token.
#[utoipa::path(delete, path = "/user/tokens/{token_id}", tag = "users",
    params(("token_id" = String, Path)), responses((status = 204)))]
pub(super) async fn revoke_token(
    State(service): State<Service>,
    Who(who): Who,
    Path(id): Path<String>,
) -> Result<StatusCode> {
    service.revoke_token(&who, parse(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What replicas may use: your choices for a launcher.
#[utoipa::path(get, path = "/resource_classes", tag = "resources", responses((status = 200, body = [ResourceClassOut])))]
pub(super) async fn resource_classes(
    State(service): State<Service>,
    Who(who): Who,
) -> Result<Json<Vec<ResourceClassOut>>> {
    let classes = service.classes_for(&who, None).await?.into_iter().map(|class| ResourceClassOut {
        id: class.id,
        name: class.name,
        cpu: f64::from(class.cpu_millis) / 1000.0,
        memory: f64::from(class.memory_mib) / 1024.0,
        gpu: class.gpus.as_ref().map_or(0, crate::model::Gpus::count),
        default: class.default,
    });
    Ok(Json(classes.collect()))
}
