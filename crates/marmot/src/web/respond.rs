//! How handlers answer: a page, a way to another, or why not.

use askama::Template;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use marmot_text::say;
use tracing::error;

use super::Web;
use super::pages::{Link, MessagePage};
use super::session::Visitor;
use super::view::Frame;
use super::words;
use crate::service;

/// A template as an answer.
pub(super) struct Html<T>(pub(super) T);

impl<T: Template> IntoResponse for Html<T> {
    fn into_response(self) -> Response {
        match self.0.render() {
            Ok(text) => axum::response::Html(text).into_response(),
            Err(why) => {
                error!(error = %why, "a page could not be drawn");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
}

/// A template as text, for a part of a page.
pub(super) fn drawn(template: &impl Template) -> Result<String, Failed> {
    template.render().map_err(|why| Failed::Service(service::Error::Internal(Box::new(why))))
}

/// Text as it may stand in HTML.
pub(super) fn escaped(text: &str) -> String {
    askama::filters::escape(text, askama::filters::Html).map(|text| text.to_string()).unwrap_or_default()
}

/// Goes to another page of ours after a form was taken.
pub(super) fn see_other(path: &str) -> Response {
    match HeaderValue::try_from(path) {
        Ok(location) => (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Goes back to a page after something on it was removed. That somebody was faster is no error.
pub(super) fn removed(done: Result<(), service::Error>, back: &str) -> Result<Response, Failed> {
    match done {
        Ok(()) | Err(service::Error::NotFound { .. }) => Ok(see_other(back)),
        Err(other) => Err(other.into()),
    }
}

/// Why a handler has no answer. Drawn as a page by `guard`, which knows who looks.
#[derive(Debug)]
pub(super) enum Failed {
    Service(service::Error),
    NoSuchPage,
    /// The request comes from a page that is not ours.
    Elsewhere,
    /// What was sent is too long, or broke off.
    NoForm,
}

impl<E: Into<service::Error>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::Service(error.into())
    }
}

/// Carries the reason from a handler to `guard`.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    status: StatusCode,
    title: &'static str,
    text: String,
    sign_in: bool,
    /// Seconds after which another try makes sense.
    retry_after: Option<u64>,
}

impl Failed {
    fn refusal(self) -> Refusal {
        use service::Error as E;
        let plain =
            |status, title, text: String| Refusal { status, title, text, sign_in: false, retry_after: None };
        let later = |refusal: Refusal, after: std::time::Duration| Refusal {
            retry_after: Some(after.as_secs().max(1)),
            ..refusal
        };
        match self {
            Self::NoSuchPage => plain(
                StatusCode::NOT_FOUND,
                say("refused-nothing-here"),
                say("refused-no-such-page").to_owned(),
            ),
            Self::NoForm => plain(
                StatusCode::PAYLOAD_TOO_LARGE,
                say("refused-too-much"),
                say("refused-too-much-about").to_owned(),
            ),
            Self::Elsewhere => plain(
                StatusCode::FORBIDDEN,
                say("refused-elsewhere"),
                say("refused-elsewhere-about").to_owned(),
            ),
            Self::Service(error) => {
                let text = words::refusal(&error);
                match error {
                    E::SignInNeeded | E::InvalidCredentials => Refusal {
                        sign_in: true,
                        ..plain(StatusCode::UNAUTHORIZED, say("refused-sign-in"), text)
                    },
                    E::WrongCredentials => plain(StatusCode::UNAUTHORIZED, say("refused-did-not-work"), text),
                    E::Forbidden { .. } => plain(StatusCode::FORBIDDEN, say("refused-not-yours"), text),
                    E::NotFound { .. } => Refusal {
                        sign_in: true,
                        ..plain(StatusCode::NOT_FOUND, say("refused-nothing-here"), text)
                    },
                    E::AlreadyActive { .. } | E::Conflict { .. } | E::Stale => {
                        plain(StatusCode::CONFLICT, say("refused-conflict"), text)
                    }
                    E::Invalid { .. } | E::VersionNeeded => {
                        plain(StatusCode::UNPROCESSABLE_ENTITY, say("refused-invalid"), text)
                    }
                    E::TooManyTries { retry_after } | E::TooOften { retry_after, .. } => later(
                        plain(StatusCode::TOO_MANY_REQUESTS, say("refused-a-moment"), text),
                        retry_after,
                    ),
                    E::Busy { retry_after } => later(
                        plain(StatusCode::SERVICE_UNAVAILABLE, say("refused-a-moment"), text),
                        retry_after,
                    ),
                    E::LinkSpent => plain(StatusCode::NOT_FOUND, say("refused-link-over"), text),
                    E::Provider(_) => plain(StatusCode::BAD_GATEWAY, say("refused-did-not-work"), text),
                    E::NotOffered { .. } => {
                        plain(StatusCode::NOT_IMPLEMENTED, say("refused-not-offered"), text)
                    }
                    E::DiskFull(cause) => {
                        error!(error = &cause as &dyn std::error::Error, "the disk is full");
                        plain(StatusCode::INSUFFICIENT_STORAGE, say("refused-our-side"), text)
                    }
                    E::Internal(cause) => {
                        error!(error = &*cause, "a page could not be answered");
                        plain(StatusCode::INTERNAL_SERVER_ERROR, say("refused-our-side"), text)
                    }
                }
            }
        }
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let refusal = self.refusal();
        let mut response = refusal.status.into_response();
        refusal.say_when(&mut response);
        response.extensions_mut().insert(refusal);
        response
    }
}

impl Refusal {
    /// The page that says it, to whoever sent a request with these headers for `here`.
    pub(super) async fn page(self, web: &Web, headers: &HeaderMap, here: String) -> Response {
        // Without the database the page is drawn all the same.
        let visitor = Visitor::of(web, headers, here).await.ok();
        let signed_in = visitor.as_ref().is_some_and(|visitor| visitor.who.user().is_some());
        let frame = visitor.as_ref().map_or_else(Frame::default, Visitor::frame);
        if visitor.is_some_and(|visitor| visitor.for_part) {
            return self.part(&frame);
        }
        if self.status == StatusCode::UNAUTHORIZED && !signed_in {
            return see_other(&frame.sign_in());
        }
        let mut links = vec![Link { path: "/".to_owned(), label: say("go-home").into() }];
        if self.sign_in && !signed_in {
            links.insert(0, Link { path: frame.sign_in(), label: say("sign-in").into() });
        }
        let (title, text) = (self.title.to_owned(), self.text.clone());
        let page = MessagePage { frame, phase: None, title, text, links };
        let mut response = (self.status, Html(page)).into_response();
        self.say_when(&mut response);
        response
    }

    fn say_when(&self, response: &mut Response) {
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
    }

    /// For the script: the status, and what to say.
    fn part(self, frame: &Frame) -> Response {
        let mut response = (self.status, self.text.clone()).into_response();
        self.say_when(&mut response);
        if self.status == StatusCode::UNAUTHORIZED
            && let Ok(to) = HeaderValue::try_from(frame.sign_in())
        {
            response.headers_mut().insert("hx-redirect", to);
        } else if let Ok(say) = HeaderValue::try_from(ascii_json(&self.text)) {
            response.headers_mut().insert("hx-trigger", say);
        }
        response
    }
}

/// `{"say": text}` in ASCII, as headers want it.
fn ascii_json(text: &str) -> String {
    use std::fmt::Write as _;
    let json = serde_json::json!({ "say": text }).to_string();
    json.chars().fold(String::with_capacity(json.len()), |mut ascii, letter| {
        if letter.is_ascii() {
            ascii.push(letter);
        } else {
            let mut units = [0; 2];
            for unit in letter.encode_utf16(&mut units) {
                let _ = write!(ascii, "\\u{unit:04x}");
            }
        }
        ascii
    })
}

pub(super) async fn no_such_page() -> Failed {
    Failed::NoSuchPage
}
