//! `Idempotency-Key`: a `POST` that comes again with the same key is done once, and answered as the first time.

use axum::body::Body;
use axum::extract::{FromRequestParts as _, MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::{self, HeaderValue};
use http::{Method, StatusCode};
use tracing::Instrument as _;
use utoipa::openapi::Required;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};

use super::BASE;
use super::error::{Problem, Result};
use super::extract::{LARGEST_BODY, Who, too_large};
use crate::model::Answer;
use crate::service::{Attempt, Call, Claim, Service};

const NAME: &str = "idempotency-key";
const PATTERN: &str = "^[!-~]{1,255}$";

/// What may be kept of what a path answers to `POST`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeps {
    /// All of it.
    Answer,
    /// That it was done: in the answer, or in the request, is a secret.
    ThatItWasDone,
}

/// The paths that take a key. Of those that are not named, a `POST` makes nothing, or the sender has no account.
const TAKE_KEYS: [(&str, Keeps); 15] = [
    ("/apps", Keeps::Answer),
    ("/apps/{name}/restart", Keeps::Answer),
    ("/apps/{name}/revisions/{revision_id}/activate", Keeps::Answer),
    ("/environments/{environment_id}/builds", Keeps::Answer),
    ("/groups", Keeps::Answer),
    ("/projects", Keeps::Answer),
    ("/session_launchers", Keeps::Answer),
    ("/session_launchers/{launcher_id}/previews", Keeps::Answer),
    ("/apps/{name}/app_keys", Keeps::ThatItWasDone),
    ("/apps/{name}/share_links", Keeps::ThatItWasDone),
    ("/projects/{project_id}/credentials", Keeps::ThatItWasDone),
    ("/session_launchers/{launcher_id}/webhook", Keeps::ThatItWasDone),
    ("/user/tokens", Keeps::ThatItWasDone),
    ("/users", Keeps::ThatItWasDone),
    ("/users/{user_id}/password_link", Keeps::ThatItWasDone),
];

fn keeps(path: &str) -> Option<Keeps> {
    TAKE_KEYS.iter().find(|(known, _)| *known == path).map(|(_, keeps)| *keeps)
}

/// Says in the API's document which operations take a key.
pub(super) fn describe(path: &str, post: &mut Operation) {
    if keeps(path).is_none() {
        return;
    }
    let schema = ObjectBuilder::new().schema_type(Type::String).pattern(Some(PATTERN)).build();
    let parameter = ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "Makes it safe to send the request again: what comes with the same key within a day is done once. See docs/api.md.",
        ))
        .schema(Some(schema))
        .build();
    post.parameters.get_or_insert_default().push(parameter.into());
}

/// Lets a request with a key through once.
pub(super) async fn once(State(service): State<Service>, request: Request, next: Next) -> Response {
    let key = request.headers().get(NAME).filter(|_| request.method() == Method::POST).cloned();
    let path = request.extensions().get::<MatchedPath>().and_then(|path| path.as_str().strip_prefix(BASE));
    let (Some(key), Some(keeps)) = (key, path.and_then(keeps)) else { return next.run(request).await };
    attempt(service, key, keeps, request, next).await.unwrap_or_else(|problem| problem.into_response())
}

async fn attempt(
    service: Service,
    key: HeaderValue,
    keeps: Keeps,
    request: Request,
    next: Next,
) -> Result<Response> {
    let key = key.to_str().ok().filter(|key| (1..=255).contains(&key.len()) && !key.contains([' ', '\t']));
    let key = key.ok_or_else(|| {
        let message = "`Idempotency-Key` must be 1 to 255 letters, digits or signs, without spaces";
        Problem::new(StatusCode::BAD_REQUEST, message).detail("a random UUID is a good one")
    })?;
    let (mut parts, body) = request.into_parts();
    let Who(who) = Who::from_request_parts(&mut parts, &service).await?;
    let body = axum::body::to_bytes(body, LARGEST_BODY).await.map_err(|_| too_large())?;
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let compared = match keeps {
        Keeps::Answer => &body[..],
        // Not even a hash: what is short can be guessed from it.
        Keeps::ThatItWasDone => b"",
    };
    let claim = match service.attempt(&who, key, &[path.as_bytes(), compared]).await? {
        Some(Attempt::First(claim)) => Some(claim),
        Some(Attempt::Again(answer)) => return Ok(again(answer)),
        None => None,
    };
    let request = Request::from_parts(parts, Body::from(body));
    let Some(claim) = claim else { return Ok(next.run(request).await) };
    // It goes on when its sender goes away: they will ask again.
    let work = async move { note(&service, claim, keeps, next.run(request).await).await };
    match tokio::spawn(Call::current().accompany(work).in_current_span()).await {
        Ok(response) => Ok(response),
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Notes what was answered. Of what was not done, nothing: the key may come with something better.
async fn note(service: &Service, claim: Claim, keeps: Keeps, response: Response) -> Response {
    let (parts, body) = response.into_parts();
    let done = parts.status.is_success();
    let body = match axum::body::to_bytes(body, LARGEST_BODY).await {
        Ok(body) => body,
        Err(error) => {
            tracing::error!(%error, "an answer could not be read");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    };
    let etag = parts.headers.get(header::ETAG).and_then(|etag| etag.to_str().ok()).map(str::to_owned);
    let answer =
        Answer { status: parts.status.as_u16(), etag, body: String::from_utf8_lossy(&body).into_owned() };
    let answer = (keeps == Keeps::Answer).then_some(&answer);
    let noted = match done {
        true => service.answered(claim, parts.status.as_u16(), answer).await,
        false => service.not_done(claim).await,
    };
    if let Err(error) = noted {
        tracing::warn!(%error, "what came with an idempotency key could not be noted");
    }
    Response::from_parts(parts, Body::from(body))
}

fn again(answer: Answer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::HeaderName::from_static("idempotency-replayed"), "true"),
    ];
    let mut response = (status, headers, answer.body).into_response();
    if let Some(etag) = answer.etag.and_then(|etag| HeaderValue::try_from(etag).ok()) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `POST`s that take no key: they make nothing, or come from who has no account.
    const OTHERS: [&str; 2] = ["/build_plans", "/hooks/{launcher_id}"];

    #[test]
    fn of_every_path_that_takes_a_post_it_is_known_what_may_be_kept() {
        let document = crate::api::openapi();
        let posts = document.paths.paths.iter().filter(|(_, item)| item.post.is_some());
        for (path, _) in posts {
            assert!(keeps(path).is_some() != OTHERS.contains(&path.as_str()), "{path}");
        }
        for (path, _) in TAKE_KEYS {
            assert!(document.paths.paths.get(path).is_some_and(|item| item.post.is_some()), "{path}");
        }
    }
}
