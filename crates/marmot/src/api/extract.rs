//! What handlers are given: who asks, bodies, paths, queries, pages. What cannot be read is refused in one shape.

use std::fmt::Display;
use std::net::SocketAddr;
use std::str::FromStr;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, header};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

use super::error::{Problem, Result};
use crate::cookie::SessionCookie;
use crate::model::{self, Paged, Secret};
use crate::service::{self, Call, Identity, Service};

/// The most bytes of a request's body.
pub(super) const LARGEST_BODY: usize = 1 << 20;

/// What a request shows of who sends it. Who that is may change while a long answer is under way.
#[derive(Debug)]
pub(super) enum Credential {
    Token(Secret),
    Session(Secret),
    Nothing,
}

impl Credential {
    /// Who has this credential now.
    pub(super) async fn identify(&self, service: &Service) -> Result<Identity, service::Error> {
        match self {
            Self::Token(token) => service.identify_token(token).await,
            Self::Session(session) => match service.identify_session(session).await {
                // A cookie that has expired must not keep anybody from what everybody may see.
                Err(service::Error::InvalidCredentials) => Ok(Identity::Anonymous),
                other => other,
            },
            Self::Nothing => Ok(Identity::Anonymous),
        }
    }
}

impl FromRequestParts<Service> for Credential {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, service: &Service) -> Result<Self> {
        if let Some(token) = bearer(&parts.headers)? {
            return Ok(Self::Token(token));
        }
        let public_url = &service.options().public_url;
        let Some(session) = SessionCookie::at(public_url).read(&parts.headers) else {
            return Ok(Self::Nothing);
        };
        if !parts.method.is_safe() {
            same_origin(&parts.headers, public_url)?;
        }
        Ok(Self::Session(session))
    }
}

/// Who asks: by bearer token, or else by session cookie.
pub(super) struct Who(pub(super) Identity);

impl FromRequestParts<Service> for Who {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, service: &Service) -> Result<Self> {
        let credential = Credential::from_request_parts(parts, service).await?;
        Ok(Self(credential.identify(service).await?))
    }
}

/// The bearer token of a request.
fn bearer(headers: &HeaderMap) -> Result<Option<Secret>> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let text = value.to_str().ok().and_then(|value| value.split_once(' '));
    match text {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(Secret::new(token.trim()))),
        _ => Err(Problem::new(StatusCode::UNAUTHORIZED, "the Authorization header must be `Bearer TOKEN`")),
    }
}

/// Refuses a change that another site's page could have sent with the cookie of a signed-in browser.
fn same_origin(headers: &HeaderMap, public_url: &str) -> Result<()> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let fine = match (text("sec-fetch-site"), text("origin")) {
        (Some(site), _) => site == "same-origin",
        (None, Some(origin)) => origin == public_url,
        // Neither a browser of this decade nor a program with a token.
        (None, None) => false,
    };
    if fine {
        return Ok(());
    }
    Err(Problem::new(StatusCode::FORBIDDEN, "this change comes from another site's page")
        .detail("programs must send a token instead of a cookie"))
}

/// Where a request comes from, for limits on guessing.
pub(super) struct From(pub(super) String);

impl<S: Sync> FromRequestParts<S> for From {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let address = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        Ok(Self(address.map_or_else(|| "unknown".to_owned(), |info| info.0.ip().to_string())))
    }
}

/// Tells the audit how what is done in this request came in.
pub(super) async fn accompanied(request: Request, next: Next) -> Response {
    let address = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let address = address.map(|info| info.0.ip());
    let agent = request.headers().get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    Call::new(model::Via::Api, address, agent.unwrap_or_default()).accompany(next.run(request)).await
}

/// A JSON body.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self> {
        let json = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let json = json.and_then(|value| value.split(';').next()).map(str::trim).unwrap_or_default();
        if !json.eq_ignore_ascii_case("application/json") && !json.to_ascii_lowercase().ends_with("+json") {
            let message = "the body must be JSON, and say so: `Content-Type: application/json`";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
        let encoding = request.headers().get(header::CONTENT_ENCODING);
        if encoding.is_some_and(|encoding| encoding != "identity") {
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must not be compressed"));
        }
        let body = axum::body::to_bytes(request.into_body(), LARGEST_BODY).await.map_err(|_| too_large())?;
        parse_json(&body).map(Self)
    }
}

pub(super) fn too_large() -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("the body is larger than {LARGEST_BODY} bytes, or ended early"),
    )
}

fn parse_json<T: DeserializeOwned>(body: &Bytes) -> Result<T> {
    use serde_json::error::Category;
    super::json::from_slice(body).map_err(|error| match error.classify() {
        Category::Data => Problem::unprocessable(error.to_string()),
        _ => Problem::new(StatusCode::BAD_REQUEST, "the body is no JSON").detail(error.to_string()),
    })
}

/// Parts of the path, as text.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Problem))]
pub(super) struct Path<T>(pub(super) T);

/// The query.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Problem))]
pub(super) struct Query<T>(pub(super) T);

/// Reads an id or a name.
pub(super) fn parse<T: FromStr<Err: Display>>(text: &str) -> Result<T> {
    text.parse().map_err(|error: T::Err| Problem::unprocessable(error.to_string()))
}

/// No list has more pages.
const LAST_PAGE: u32 = 1_000_000_000;

/// Which page of a list is asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Pagination {
    /// From 1.
    #[param(minimum = 1, maximum = 1_000_000_000, default = 1)]
    page: Option<u32>,
    /// From 1 to 100.
    #[param(minimum = 1, maximum = 100, default = 20)]
    per_page: Option<u32>,
}

impl Pagination {
    pub(super) fn page(&self) -> Result<model::Page> {
        let (page, per_page) = (self.page.unwrap_or(1), self.per_page.unwrap_or(20));
        if !(1..=LAST_PAGE).contains(&page) {
            let message =
                format!("`page` is {page}: pages are counted from 1, and there are {LAST_PAGE} at most");
            return Err(Problem::unprocessable(message));
        }
        if !(1..=model::Page::MAX).contains(&per_page) {
            let message = format!("`per_page` is {per_page}: it must be from 1 to {}", model::Page::MAX);
            return Err(Problem::unprocessable(message));
        }
        Ok(model::Page { page, per_page })
    }
}

/// A page of a list, with where it is in the list in the headers.
pub(super) struct Listed<T>(Paged<T>);

impl<T> Listed<T> {
    pub(super) fn new<M>(found: Paged<M>, item: impl FnMut(M) -> T) -> Self {
        let Paged { items, page, total } = found;
        Self(Paged { items: items.into_iter().map(item).collect(), page, total })
    }
}

impl<T: Serialize> IntoResponse for Listed<T> {
    fn into_response(self) -> Response {
        let Paged { items, page, total } = self.0;
        let headers = [
            ("page", page.page.to_string()),
            ("per-page", page.per_page.to_string()),
            ("total", total.to_string()),
            ("total-pages", total.div_ceil(u64::from(page.per_page.max(1))).to_string()),
        ];
        (headers, axum::Json(items)).into_response()
    }
}

/// A field that may be absent (stays), `null` (is removed), or a value.
pub(super) fn present<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(
    from: D,
) -> std::result::Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// Answers for a method that a path does not have.
pub(super) async fn wrong_method(method: Method) -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not possible here"))
}

/// Answers for a path that is nothing.
pub(super) async fn nothing_here() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is nothing at this path")
        .detail("GET /api/data/spec.json says what there is")
}
