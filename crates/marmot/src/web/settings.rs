//! One's own account: API tokens, where one is signed in, and how one comes in.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use marmot_core::id::{SessionId, TokenId};
use marmot_text::{Language, say, tell};

use super::account_pages::{
    Choice, FreshToken, GoOnPage, Lifetime, SessionRow, SettingsPage, TokenRow, WayRow,
};
use super::again::Again;
use super::forms::Typed;
use super::present::Presenter;
use super::respond::{Failed, Html, see_other};
use super::session::{Address, Visitor};
use super::view::Field;
use super::words;
use super::{Web, agent};
use crate::model::{Access, Limit, Page, Secret, Session, Token, WayIn};
use crate::service::{Error, NewToken, ProjectFilter};

/// Days, and how they are told. None of them: until it is revoked.
const LIFETIMES: &[(i64, &str)] =
    &[(30, "for-30-days"), (90, "for-90-days"), (365, "for-a-year"), (0, "for-until-revoked")];
const USUAL_LIFETIME: i64 = 90;

/// What is on the page besides what is stored.
#[derive(Default)]
struct News {
    problem: Option<String>,
    fresh: Option<FreshToken>,
    name: Field,
    days: Option<i64>,
    again: Again,
    current: Field,
    wanted: Field,
}

pub(super) async fn show(State(web): State<Web>, visitor: Visitor) -> Result<Response, Failed> {
    visitor.who.signed_in()?;
    Ok(Html(page(&web, &visitor, News::default()).await?).into_response())
}

async fn page(web: &Web, visitor: &Visitor, news: News) -> Result<SettingsPage, Failed> {
    let who = &visitor.who;
    let presenter = Presenter::new(&web.service);
    let days = news.days.unwrap_or(USUAL_LIFETIME);
    let lifetime = |&(choice, told): &(i64, &'static str)| Lifetime {
        days: choice,
        told: say(told),
        chosen: choice == days,
    };
    let filter = ProjectFilter { namespace: None, member: who.id() };
    let projects = web.service.projects(who, &filter, Page::FIRST).await?.items;
    let projects: Vec<Choice> = projects
        .into_iter()
        .map(|project| Choice { id: project.id.to_string(), told: project.name })
        .collect();
    let ways = web.service.ways_in(who).await?;
    let linked = |issuer: &str| ways.iter().any(|way| way.issuer == issuer);
    let providers = web.service.providers().filter(|provider| !linked(&provider.issuer));
    let providers =
        providers.map(|provider| Choice { id: provider.id.clone(), told: provider.title.clone() }).collect();
    let tokens = web.service.tokens(who).await?;
    let sessions = web.service.sessions(who, visitor.session.as_ref()).await?;
    Ok(SettingsPage {
        frame: visitor.frame(),
        problem: news.problem,
        fresh: news.fresh,
        name: news.name,
        again: news.again,
        lifetimes: LIFETIMES.iter().map(lifetime).collect(),
        tokens: tokens.into_iter().map(|token| token_row(&presenter, &projects, token)).collect(),
        projects,
        sessions: sessions
            .into_iter()
            .map(|(session, own)| session_row(web, &presenter, session, own))
            .collect(),
        language: who.user().and_then(|user| user.language).map(Language::tag).unwrap_or_default(),
        has_password: web.service.has_password(who).await?,
        current: news.current,
        wanted: news.wanted,
        ways: ways.iter().map(|way| way_row(web, &presenter, way)).collect(),
        providers,
    })
}

fn token_row(presenter: &Presenter<'_>, projects: &[Choice], token: Token) -> TokenRow {
    let does = match token.access {
        Access::Read => say("token-reads"),
        Access::Write => say("token-write"),
    };
    let named = |id: String| {
        let found = projects.iter().find(|project| project.id == id);
        found.map_or(id, |project| tell!("token-project-named", name = project.told))
    };
    let place = match token.limit {
        None => say("token-everything-told").to_owned(),
        Some(Limit::Project(project)) => named(project.to_string()),
        Some(Limit::Launcher { project, .. }) => {
            tell!("token-one-app-of", project = named(project.to_string()))
        }
    };
    TokenRow {
        id: token.id.to_string(),
        may: format!("{does} {place}"),
        made: presenter.ago(token.created_at),
        used: token.last_used_at.map_or_else(|| say("never").to_owned(), |at| presenter.ago(at)),
        until: token.expires_at.map_or_else(|| say("until-revoked").to_owned(), words::date),
        name: token.name,
    }
}

fn session_row(web: &Web, presenter: &Presenter<'_>, session: Session, own: bool) -> SessionRow {
    let with = match &session.provider {
        None => say("session-by-password").to_owned(),
        Some(id) => {
            let mut known = web.service.providers();
            known.find(|known| known.id == *id).map_or_else(|| id.clone(), |known| known.title.clone())
        }
    };
    let or_unknown = |text: String| if text.is_empty() { "unknown".to_owned() } else { text };
    SessionRow {
        id: session.id.to_string(),
        agent: agent::in_words(&session.agent),
        address: or_unknown(session.address),
        with,
        since: presenter.ago(session.created_at),
        seen: presenter.ago(session.last_seen_at),
        own,
    }
}

fn way_row(web: &Web, presenter: &Presenter<'_>, way: &WayIn) -> WayRow {
    let mut known = web.service.providers();
    let title = known.find(|known| known.issuer == way.issuer).map(|known| known.title.clone());
    WayRow {
        provider: title.unwrap_or_else(|| way.issuer.clone()),
        label: way.label.clone(),
        issuer: way.issuer.clone(),
        subject: way.subject.clone(),
        used: presenter.ago(way.last_used_at),
    }
}

pub(super) async fn create_token(
    State(web): State<Web>,
    visitor: Visitor,
    typed: Typed,
) -> Result<Response, Failed> {
    let name = typed.get("name").trim();
    let wanted: Option<i64> = typed.get("lifetime").parse().ok();
    let days =
        wanted.filter(|days| LIFETIMES.iter().any(|(known, _)| known == days)).unwrap_or(USUAL_LIFETIME);
    let new = NewToken {
        name: name.to_owned(),
        expires_at: (days > 0).then(|| Timestamp::now() + SignedDuration::from_hours(24 * days)),
        access: typed.get("access").parse().unwrap_or(Access::Write),
        project: match typed.get("project") {
            "" => None,
            id => Some(id.parse().map_err(|_| Failed::NoSuchPage)?),
        },
        launcher: None,
    };
    match web.service.create_token(&visitor.who, new).await {
        Ok((token, text)) => {
            // In the answer itself, not behind a redirect: the text is kept nowhere.
            let fresh = Some(FreshToken { name: token.name, text });
            Ok(Html(page(&web, &visitor, News { fresh, ..News::default() }).await?).into_response())
        }
        Err(error @ (Error::Invalid { .. } | Error::Conflict { .. })) => {
            let name = Field { value: name.to_owned(), wrong: Some(words::refusal(&error)) };
            let again = Again::refused("tokens", &typed, &error);
            let news = News { name, days: Some(days), again, ..News::default() };
            Ok((StatusCode::UNPROCESSABLE_ENTITY, Html(page(&web, &visitor, news).await?)).into_response())
        }
        Err(other) => Err(other.into()),
    }
}

pub(super) async fn revoke_token(
    State(web): State<Web>,
    visitor: Visitor,
    Path(token): Path<String>,
) -> Result<Response, Failed> {
    visitor.who.signed_in()?;
    let token: TokenId = token.parse().map_err(|_| Failed::NoSuchPage)?;
    match web.service.revoke_token(&visitor.who, token).await {
        Ok(()) | Err(Error::NotFound { .. }) => Ok(see_other("/settings")),
        Err(other) => Err(other.into()),
    }
}

pub(super) async fn revoke_session(
    State(web): State<Web>,
    visitor: Visitor,
    Path(session): Path<String>,
) -> Result<Response, Failed> {
    visitor.who.signed_in()?;
    let session: SessionId = session.parse().map_err(|_| Failed::NoSuchPage)?;
    match web.service.revoke_session(&visitor.who, session).await {
        Ok(()) | Err(Error::NotFound { .. }) => Ok(see_other("/settings")),
        Err(other) => Err(other.into()),
    }
}

pub(super) async fn change_password(
    State(web): State<Web>,
    visitor: Visitor,
    Address(address): Address,
    typed: Typed,
) -> Result<Response, Failed> {
    let [current, wanted] = ["current", "wanted"].map(|field| Secret::new(typed.get(field)));
    // What was typed is not sent back: these are passwords.
    let wrong = |text: String| Field { value: String::new(), wrong: Some(text) };
    let news = match web.service.change_password(&visitor.who, &current, &wanted, &address).await {
        // Every session has ended, this one, too: it goes on as a new one.
        Ok(signed_in) => return Ok(web.start(&signed_in, "/settings")),
        Err(Error::WrongCredentials) => {
            News { current: wrong(say("password-not-yours").to_owned()), ..News::default() }
        }
        Err(error @ Error::Invalid { .. }) => {
            News { wanted: wrong(words::refusal(&error)), ..News::default() }
        }
        Err(other) => return Err(other.into()),
    };
    Ok((StatusCode::UNPROCESSABLE_ENTITY, Html(page(&web, &visitor, news).await?)).into_response())
}

/// Begins to add a way in. Answers with a page that goes on, since a form may not lead to another site.
pub(super) async fn link(
    State(web): State<Web>,
    visitor: Visitor,
    Path(provider): Path<String>,
) -> Result<Response, Failed> {
    visitor.who.signed_in()?;
    let begun = web.service.begin_with(&provider, visitor.session.as_ref(), "/settings").await;
    let (address, attempt) = match begun {
        Ok(begun) => begun,
        Err(Error::Provider(error)) => {
            return problem(&web, &visitor, words::plainly(&error.to_string())).await;
        }
        Err(other) => return Err(other.into()),
    };
    let mut known = web.service.providers();
    let title = known.find(|known| known.id == provider).map(|known| known.title.clone());
    let page = GoOnPage { frame: visitor.frame(), title: title.unwrap_or_default(), address: address.into() };
    Ok(web.keep(&attempt, Html(page).into_response()))
}

pub(super) async fn unlink(
    State(web): State<Web>,
    visitor: Visitor,
    typed: Typed,
) -> Result<Response, Failed> {
    match web.service.unlink(&visitor.who, typed.get("issuer"), typed.get("subject")).await {
        Ok(()) | Err(Error::NotFound { .. }) => Ok(see_other("/settings")),
        Err(error @ Error::Conflict { .. }) => problem(&web, &visitor, words::refusal(&error)).await,
        Err(other) => Err(other.into()),
    }
}

/// The page again, with what did not work.
pub(super) async fn problem(web: &Web, visitor: &Visitor, problem: String) -> Result<Response, Failed> {
    let news = News { problem: Some(problem), ..News::default() };
    Ok((StatusCode::CONFLICT, Html(page(web, visitor, news).await?)).into_response())
}
