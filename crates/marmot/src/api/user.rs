//! Who asks, that person's tokens, and what replicas may use.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::{Problem, Result};
use super::extract::{Body, From, Path, Who, parse};
use crate::model::{Secret, Token, User};
use crate::service::{Identity, Service};

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
}

impl std::convert::From<Token> for TokenOut {
    fn from(token: Token) -> Self {
        Self {
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
    name: String,
    /// When it stops working; never when absent.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
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
    default: bool,
}

/// Who asks.
#[utoipa::path(get, path = "/user", tag = "users", responses((status = 200, body = UserOut)))]
pub(super) async fn get(Who(who): Who) -> Result<Json<UserOut>> {
    Ok(Json(who.signed_in()?.into()))
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
    let (token, text) = service.create_token(&who, &new.name, new.expires_at).await?;
    let answer = NewTokenOut { token: token.into(), text: text.reveal().to_owned() };
    Ok((StatusCode::CREATED, Json(answer)))
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

/// What replicas may use: the choices for a launcher.
#[utoipa::path(get, path = "/resource_classes", tag = "resources", responses((status = 200, body = [ResourceClassOut])))]
pub(super) async fn resource_classes(State(service): State<Service>) -> Json<Vec<ResourceClassOut>> {
    let classes = service.resource_classes().iter().map(|class| ResourceClassOut {
        id: class.id,
        name: class.name.clone(),
        cpu: f64::from(class.cpu_millis) / 1000.0,
        memory: f64::from(class.memory_mib) / 1024.0,
        default: class.default,
    });
    Json(classes.collect())
}
