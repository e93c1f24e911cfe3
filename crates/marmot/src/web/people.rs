//! Everybody's accounts, for those who run the installation.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use marmot_core::id::UserId;
use marmot_text::{say, tell};
use serde::Deserialize;

use super::Web;
use super::account_pages::{FreshLink, PeoplePage, PersonRow};
use super::forms::Typed;
use super::pages::Question;
use super::present::Presenter;
use super::respond::{Failed, Html, see_other};
use super::session::Visitor;
use super::view::Field;
use super::words;
use crate::model::{Page, User};
use crate::service::{Error, Field as Of, NewUser, UserPatch};

/// How many are on one page.
const PER_PAGE: u32 = 50;

/// Which page of a list.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Which {
    page: Option<u32>,
}

impl Which {
    pub(super) fn page(&self) -> Page {
        Page { page: self.page.unwrap_or(1).clamp(1, 1_000_000), per_page: PER_PAGE }
    }
}

/// The pages before and after one, where there are any.
pub(super) fn beside(page: Page, total: u64) -> (Option<u32>, Option<u32>) {
    let seen = u64::from(page.page) * u64::from(page.per_page);
    ((page.page > 1).then(|| page.page - 1), (seen < total).then(|| page.page + 1))
}

/// What is on the page besides what is stored.
#[derive(Default)]
struct News {
    problem: Option<String>,
    link: Option<FreshLink>,
    username: Field,
    email: Field,
}

async fn page(web: &Web, visitor: &Visitor, which: Page, news: News) -> Result<PeoplePage, Failed> {
    let found = web.service.people(&visitor.who, which).await?;
    let presenter = Presenter::new(&web.service);
    let row = |user: User| {
        let name = [user.first_name.as_deref(), user.last_name.as_deref()];
        PersonRow {
            id: user.id.to_string(),
            name: name.into_iter().flatten().collect::<Vec<_>>().join(" "),
            made: presenter.ago(user.created_at),
            is_admin: user.is_admin,
            disabled: user.disabled_at.is_some(),
            email: user.email.unwrap_or_default(),
            username: user.username.to_string(),
        }
    };
    let (earlier, later) = beside(which, found.total);
    Ok(PeoplePage {
        frame: visitor.frame(),
        problem: news.problem,
        link: news.link,
        username: news.username,
        email: news.email,
        people: found.items.into_iter().map(row).collect(),
        earlier,
        later,
    })
}

pub(super) async fn show(
    State(web): State<Web>,
    visitor: Visitor,
    Query(which): Query<Which>,
) -> Result<Response, Failed> {
    Ok(Html(page(&web, &visitor, which.page(), News::default()).await?).into_response())
}

/// Makes an account, and the link by which its person chooses a password.
pub(super) async fn add(State(web): State<Web>, visitor: Visitor, typed: Typed) -> Result<Response, Failed> {
    let mut news = News {
        username: Field::of(typed.get("username").trim()),
        email: Field::of(typed.get("email").trim()),
        ..News::default()
    };
    let added = match news.username.value.parse() {
        Ok(username) => {
            let email = Some(news.email.value.clone());
            let new = NewUser {
                username,
                password: None,
                is_admin: false,
                email,
                first_name: None,
                last_name: None,
            };
            web.service.add_person(&visitor.who, new).await
        }
        Err(why) => {
            // Who may not even look is told that first.
            web.service.people(&visitor.who, Page::FIRST).await?;
            news.username.wrong = Some(words::told(&why.said()));
            return refused(&web, &visitor, news).await;
        }
    };
    match added {
        Ok(user) => link_page(&web, &visitor, user.id).await,
        Err(error @ (Error::Conflict { .. } | Error::Invalid { .. })) => {
            let wrong = Some(words::refusal(&error));
            match error.field() {
                Some(Of::Email) => news.email.wrong = wrong,
                _ => news.username.wrong = wrong,
            }
            refused(&web, &visitor, news).await
        }
        Err(other) => Err(other.into()),
    }
}

async fn refused(web: &Web, visitor: &Visitor, news: News) -> Result<Response, Failed> {
    let page = page(web, visitor, Which::default().page(), news).await?;
    Ok((StatusCode::UNPROCESSABLE_ENTITY, Html(page)).into_response())
}

/// The page with a link that was made just now: in the answer itself, since it is kept nowhere.
async fn link_page(web: &Web, visitor: &Visitor, id: UserId) -> Result<Response, Failed> {
    let link = web.service.password_link(&visitor.who, id).await?;
    let link = Some(FreshLink { username: link.user.username.to_string(), url: link.url });
    let page = page(web, visitor, Which::default().page(), News { link, ..News::default() }).await?;
    Ok(Html(page).into_response())
}

pub(super) async fn act(
    State(web): State<Web>,
    visitor: Visitor,
    Path((id, what)): Path<(String, String)>,
) -> Result<Response, Failed> {
    let id: UserId = id.parse().map_err(|_| Failed::NoSuchPage)?;
    let none = UserPatch::default;
    let done = match what.as_str() {
        "password-link" => return link_page(&web, &visitor, id).await,
        "disable" => change(&web, &visitor, id, UserPatch { disabled: Some(true), ..none() }).await,
        "enable" => change(&web, &visitor, id, UserPatch { disabled: Some(false), ..none() }).await,
        "admin" => change(&web, &visitor, id, UserPatch { is_admin: Some(true), ..none() }).await,
        "not-admin" => change(&web, &visitor, id, UserPatch { is_admin: Some(false), ..none() }).await,
        _ => return Err(Failed::NoSuchPage),
    };
    answer(&web, &visitor, done).await
}

pub(super) async fn delete(
    State(web): State<Web>,
    visitor: Visitor,
    Path(id): Path<String>,
) -> Result<Response, Failed> {
    let id: UserId = id.parse().map_err(|_| Failed::NoSuchPage)?;
    let done = web.service.delete_person(&visitor.who, id).await;
    answer(&web, &visitor, done).await
}

async fn answer(web: &Web, visitor: &Visitor, done: Result<(), Error>) -> Result<Response, Failed> {
    match done {
        Ok(()) => Ok(see_other("/admin/users")),
        Err(error @ Error::Conflict { .. }) => {
            let problem = Some(words::refusal(&error));
            let page = page(web, visitor, Which::default().page(), News { problem, ..News::default() });
            Ok((StatusCode::CONFLICT, Html(page.await?)).into_response())
        }
        Err(other) => Err(other.into()),
    }
}

async fn change(web: &Web, visitor: &Visitor, id: UserId, patch: UserPatch) -> Result<(), Error> {
    web.service.change_person(&visitor.who, id, patch).await.map(drop)
}

pub(super) async fn ask_delete(
    State(web): State<Web>,
    visitor: Visitor,
    Path(id): Path<String>,
) -> Result<Response, Failed> {
    let id: UserId = id.parse().map_err(|_| Failed::NoSuchPage)?;
    let user = web.service.person(&visitor.who, id).await?;
    Ok(visitor.ask(Question {
        title: tell!("people-delete-title", username = user.username.as_str()),
        text: say("people-delete-warning").to_owned(),
        action: format!("/admin/users/{id}/delete"),
        yes: say("delete-yes"),
        doing: say("doing-deleting"),
        no: say("delete-no"),
        back: "/admin/users".to_owned(),
    }))
}
