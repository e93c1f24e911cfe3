//! Signing in with an identity provider: there, and back.

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::Web;
use super::access::found;
use super::pages::SignInPage;
use super::respond::{Failed, Html, see_other};
use super::session::{Visitor, Wish, ways};
use super::{next, settings, words};
use crate::oidc::{Answer, Attempt, OidcError};
use crate::service::{Error, Returned};

impl Web {
    /// Has the browser keep what it needs to come back with.
    pub(super) fn keep(&self, attempt: &Attempt, mut response: Response) -> Response {
        if let Some(cookie) = self.attempts.set(&attempt.to_cookie(), Attempt::LIVES) {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
        response
    }
}

pub(super) async fn begin(
    State(web): State<Web>,
    visitor: Visitor,
    Path(provider): Path<String>,
    Query(wish): Query<Wish>,
) -> Result<Response, Failed> {
    let next = next::path_of_ours(&wish.next);
    match web.service.begin_with(&provider, None, &next).await {
        Ok((address, attempt)) => Ok(web.keep(&attempt, found(address.as_str()))),
        Err(Error::Provider(error)) => Ok(refused(&web, &visitor, next, &error)),
        Err(other) => Err(other.into()),
    }
}

pub(super) async fn back(
    State(web): State<Web>,
    visitor: Visitor,
    headers: HeaderMap,
    Path(provider): Path<String>,
    Query(answer): Query<Answer>,
) -> Result<Response, Failed> {
    let attempt = web.attempts.read(&headers).and_then(|kept| Attempt::from_cookie(&kept));
    let attempt = attempt.filter(|attempt| attempt.provider == provider);
    let mut response = match attempt {
        Some(attempt) => come_back(&web, &visitor, &attempt, &answer).await?,
        None => {
            let why = "the browser has kept nothing, or of another provider";
            refused(&web, &visitor, "/".to_owned(), &OidcError::NotExpected { why })
        }
    };
    // Good for one answer.
    if let Some(cookie) = web.attempts.clear() {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

async fn come_back(
    web: &Web,
    visitor: &Visitor,
    attempt: &Attempt,
    answer: &Answer,
) -> Result<Response, Failed> {
    let next = next::path_of_ours(&attempt.next);
    match web.service.come_back(attempt, visitor.session.as_ref(), answer).await {
        Ok(Returned::In(signed_in)) => {
            // The session before, if any, is over: who signs in again gets a new one.
            if let Some(session) = &visitor.session {
                web.service.sign_out(session).await?;
            }
            Ok(web.start(&signed_in, &next))
        }
        Ok(Returned::Linked) => Ok(see_other("/settings")),
        Err(Error::Provider(error)) if attempt.links && visitor.who.user().is_some() => {
            settings::problem(web, visitor, words::plainly(&error.to_string())).await
        }
        Err(Error::Provider(error)) => Ok(refused(web, visitor, next, &error)),
        Err(error @ Error::Conflict { .. }) if attempt.links => {
            settings::problem(web, visitor, words::refusal(&error)).await
        }
        Err(other) => Err(other.into()),
    }
}

/// The sign-in page, with what did not work.
fn refused(web: &Web, visitor: &Visitor, next: String, error: &OidcError) -> Response {
    let status = match error {
        OidcError::Unreachable { .. } | OidcError::Broken { .. } => StatusCode::BAD_GATEWAY,
        OidcError::NotExpected { .. } => StatusCode::BAD_REQUEST,
        OidcError::Refused { .. } | OidcError::NotInGroup { .. } => StatusCode::FORBIDDEN,
    };
    let page = SignInPage {
        frame: visitor.frame(),
        problem: Some(words::plainly(&error.to_string())),
        providers: ways(web, &next),
        next,
        ..SignInPage::default()
    };
    (status, Html(page)).into_response()
}
