//! Links that work once: the first administrator's, and those by which people choose a password.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use marmot_core::name::Namespace;

use super::Web;
use super::account_pages::ChoosePasswordPage;
use super::forms::Typed;
use super::respond::{Failed, Html};
use super::session::Visitor;
use super::view::Field;
use super::words;
use crate::model::Secret;
use crate::service::{Error, LinkFor};

pub(super) async fn ask_set_up(
    State(web): State<Web>,
    visitor: Visitor,
    Path(code): Path<String>,
) -> Result<Response, Failed> {
    match web.service.link(&Secret::new(code)).await? {
        LinkFor::SetUp => Ok(page(&visitor, None, Field::default(), Field::default(), None)),
        LinkFor::Password(_) => Err(Error::LinkSpent.into()),
    }
}

pub(super) async fn set_up(
    State(web): State<Web>,
    visitor: Visitor,
    Path(code): Path<String>,
    typed: Typed,
) -> Result<Response, Failed> {
    let mut username = Field::of(typed.get("username").trim());
    let name: Namespace = match username.value.parse() {
        Ok(name) => name,
        Err(why) => {
            username.wrong = Some(words::told(&why.said()));
            return Ok(refused(page(&visitor, None, username, Field::default(), None)));
        }
    };
    let password = Secret::new(typed.get("password"));
    match web.service.set_up(&Secret::new(code), name, &password).await {
        Ok(signed_in) => Ok(web.start(&signed_in, "/")),
        Err(error @ Error::Invalid { .. }) => {
            Ok(refused(page(&visitor, None, username, wrong(&error), None)))
        }
        Err(other) => Err(other.into()),
    }
}

pub(super) async fn ask_password(
    State(web): State<Web>,
    visitor: Visitor,
    Path(code): Path<String>,
) -> Result<Response, Failed> {
    let whose = whose(&web, &code).await?;
    Ok(page(&visitor, Some(whose), Field::default(), Field::default(), None))
}

pub(super) async fn set_password(
    State(web): State<Web>,
    visitor: Visitor,
    Path(code): Path<String>,
    typed: Typed,
) -> Result<Response, Failed> {
    let whose = whose(&web, &code).await?;
    let password = Secret::new(typed.get("password"));
    match web.service.set_password_by_link(&Secret::new(code), &password).await {
        Ok(signed_in) => Ok(web.start(&signed_in, "/")),
        Err(error @ Error::Invalid { .. }) => {
            Ok(refused(page(&visitor, Some(whose), Field::default(), wrong(&error), None)))
        }
        Err(other) => Err(other.into()),
    }
}

async fn whose(web: &Web, code: &str) -> Result<String, Failed> {
    match web.service.link(&Secret::new(code)).await? {
        LinkFor::Password(user) => Ok(user.username.to_string()),
        LinkFor::SetUp => Err(Error::LinkSpent.into()),
    }
}

/// A password is never sent back: only what is wrong with it.
fn wrong(error: &Error) -> Field {
    Field { value: String::new(), wrong: Some(words::refusal(error)) }
}

fn refused(page: Response) -> Response {
    (StatusCode::UNPROCESSABLE_ENTITY, page).into_response()
}

fn page(
    visitor: &Visitor,
    whose: Option<String>,
    username: Field,
    password: Field,
    problem: Option<String>,
) -> Response {
    let page = ChoosePasswordPage { frame: visitor.frame(), whose, username, password, problem };
    Html(page).into_response()
}
