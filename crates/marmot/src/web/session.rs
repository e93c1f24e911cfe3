//! Who is looking: the session behind a request, signing in and out.

use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use marmot_gateway::Peer;
use marmot_text::{say, tell};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::forms::Typed;
use super::pages::{Link, MessagePage, SignInPage};
use super::respond::{Failed, Html, see_other};
use super::view::{Field, Frame};
use super::{Web, next};
use crate::model::Secret;
use crate::oidc::ProviderConfig;
use crate::service::{Error, Identity, SignedIn};

/// Who sent a request, and how the answer is to be given.
#[derive(Debug, Clone)]
pub(super) struct Visitor {
    pub(super) who: Identity,
    pub(super) session: Option<Secret>,
    /// Path and query of the request, for coming back after signing in.
    pub(super) here: String,
    /// The script asks for a part of a page, not for a page.
    pub(super) for_part: bool,
}

impl Visitor {
    pub(super) async fn of(web: &Web, headers: &HeaderMap, here: String) -> Result<Self, Failed> {
        let session = web.cookie.read(headers);
        let who = web.identify(session.as_ref()).await?;
        let for_part = headers.get("hx-request").is_some_and(|value| value == "true");
        Ok(Self { who, session, here, for_part })
    }

    pub(super) fn frame(&self) -> Frame {
        Frame {
            username: self.who.user().map(|user| user.username.to_string()),
            is_admin: self.who.is_admin(),
            here: self.here.clone(),
            live: None,
            strip: None,
        }
    }

    /// The frame of a page whose changes are told at `live`.
    pub(super) fn live_frame(&self, live: String) -> Frame {
        Frame { live: Some(live), ..self.frame() }
    }
}

impl FromRequestParts<Web> for Visitor {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, web: &Web) -> Result<Self, Failed> {
        // The path as it was asked for: nested routers see only its end.
        let uri =
            parts.extensions.get::<axum::extract::OriginalUri>().map_or(&parts.uri, |original| &original.0);
        let here = uri.path_and_query().map(ToString::to_string).unwrap_or_default();
        Self::of(web, &parts.headers, here).await
    }
}

impl Web {
    /// Whose session this is. A session that is over is nobody's.
    pub(super) async fn identify(&self, session: Option<&Secret>) -> Result<Identity, Error> {
        let Some(session) = session else { return Ok(Identity::Anonymous) };
        match self.service.identify_session(session).await {
            Err(Error::InvalidCredentials) => Ok(Identity::Anonymous),
            Ok(who) => {
                // What somebody chose for the account holds in every browser.
                if let Some(language) = who.user().and_then(|user| user.language) {
                    marmot_text::speak(language);
                }
                Ok(who)
            }
            Err(other) => Err(other),
        }
    }

    /// Goes on to a page of ours with a session of one's own.
    pub(super) fn start(&self, signed_in: &SignedIn, to: &str) -> Response {
        let mut response = see_other(to);
        if let Some(cookie) = self.cookie.set(&signed_in.session, signed_in.lives) {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
        response
    }
}

/// Where somebody wants to go after signing in.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Wish {
    #[serde(default)]
    pub(super) next: String,
}

/// The address of the client, if the server knows it.
pub(super) struct Address(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Address {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let peer = parts.extensions.get::<Peer>();
        Ok(Self(peer.map_or_else(|| "unknown".to_owned(), |peer| peer.0.ip().to_string())))
    }
}

pub(super) async fn ask(State(web): State<Web>, visitor: Visitor, Query(wish): Query<Wish>) -> Response {
    let next = next::path_of_ours(&wish.next);
    if visitor.who.user().is_some() {
        return see_other(&next);
    }
    let reason = (next != "/").then(|| say("sign-in-to-go-on").to_owned());
    let providers = ways(&web, &next);
    Html(SignInPage { frame: visitor.frame(), next, reason, providers, ..SignInPage::default() })
        .into_response()
}

/// The identity providers to choose from, each with the way there and back to `next`.
pub(super) fn ways(web: &Web, next: &str) -> Vec<Link> {
    let next = utf8_percent_encode(next, NON_ALPHANUMERIC).to_string();
    let link = |provider: &ProviderConfig| Link {
        path: format!("/sign-in/with/{}?next={next}", provider.id),
        label: provider.title.clone().into(),
    };
    web.service.providers().map(link).collect()
}

pub(super) async fn sign_in(
    State(web): State<Web>,
    visitor: Visitor,
    Address(address): Address,
    typed: Typed,
) -> Result<Response, Failed> {
    let next = next::path_of_ours(typed.get("next"));
    let username = typed.get("username").trim();
    let password = Secret::new(typed.get("password"));
    let (status, problem) = match web.service.sign_in(username, &password, &address).await {
        Ok(signed_in) => {
            // The session before, if any, is over: who signs in again gets a new one.
            if let Some(session) = &visitor.session {
                web.service.sign_out(session).await?;
            }
            return Ok(web.start(&signed_in, &next));
        }
        Err(Error::WrongCredentials) => (StatusCode::UNAUTHORIZED, say("sign-in-wrong").to_owned()),
        Err(error @ Error::TooManyTries { .. }) => {
            (StatusCode::TOO_MANY_REQUESTS, super::words::refusal(&error))
        }
        Err(other) => return Err(other.into()),
    };
    let page = SignInPage {
        frame: visitor.frame(),
        providers: ways(&web, &next),
        next,
        username: Field::of(username),
        problem: Some(problem),
        ..SignInPage::default()
    };
    Ok((status, Html(page)).into_response())
}

pub(super) async fn sign_out(State(web): State<Web>, visitor: Visitor) -> Result<Response, Failed> {
    let provider = match &visitor.session {
        Some(session) => web.service.sign_out(session).await?,
        None => None,
    };
    let mut response = match provider {
        Some(provider) => signed_out(&web, &provider).await,
        None => see_other("/"),
    };
    if let Some(cookie) = web.cookie.clear() {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

/// Says that the session there goes on, where the person may end it, too.
async fn signed_out(web: &Web, provider: &str) -> Response {
    let config = web.service.providers().find(|config| config.id == provider).cloned();
    let (Some(config), Some(address)) = (config, web.service.sign_out_address(provider).await) else {
        return see_other("/");
    };
    let links = vec![
        Link { path: address.into(), label: tell!("sign-out-of-too", provider = config.title).into() },
        Link { path: "/".to_owned(), label: say("go-home").into() },
    ];
    let text = tell!("signed-out-about", provider = config.title);
    let title = say("signed-out").to_owned();
    Html(MessagePage { frame: Frame::default(), phase: None, title, text, links }).into_response()
}

/// The link that a demo prints: signs whoever has it in.
pub(super) async fn demo(State(web): State<Web>, Path(code): Path<String>) -> Result<Response, Failed> {
    match &web.demo {
        Some(demo) if demo.code == Secret::new(code) => {
            let user = web.service.user_by_name(&demo.username).await?;
            let signed_in = web.service.start_session(user).await?;
            Ok(web.start(&signed_in, "/"))
        }
        _ => Err(Failed::NoSuchPage),
    }
}
