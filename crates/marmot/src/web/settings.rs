//! API tokens: made, shown once, revoked.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use marmot_core::id::TokenId;

use super::Web;
use super::forms::Typed;
use super::pages::{FreshToken, Lifetime, SettingsPage, TokenRow};
use super::present::Presenter;
use super::respond::{Failed, Html, see_other};
use super::session::Visitor;
use super::view::Field;
use super::words;
use crate::model::Token;
use crate::service::Error;

/// Days, and how they are told. None of them: until it is revoked.
const LIFETIMES: &[(i64, &str)] =
    &[(30, "30 days"), (90, "90 days"), (365, "A year"), (0, "Until it is revoked")];
const USUAL_LIFETIME: i64 = 90;

pub(super) async fn show(State(web): State<Web>, visitor: Visitor) -> Result<Response, Failed> {
    visitor.who.signed_in()?;
    Ok(Html(page(&web, &visitor, None, Field::default(), USUAL_LIFETIME).await?).into_response())
}

async fn page(
    web: &Web,
    visitor: &Visitor,
    fresh: Option<FreshToken>,
    name: Field,
    days: i64,
) -> Result<SettingsPage, Failed> {
    let presenter = Presenter::new(&web.service);
    let date = |at: Timestamp| at.strftime("%-d %B %Y").to_string();
    let row = |token: Token| TokenRow {
        id: token.id.to_string(),
        made: presenter.ago(token.created_at),
        used: token.last_used_at.map_or_else(|| "never".to_owned(), |at| presenter.ago(at)),
        until: token.expires_at.map_or_else(|| "it is revoked".to_owned(), date),
        name: token.name,
    };
    let lifetime =
        |&(choice, told): &(i64, &'static str)| Lifetime { days: choice, told, chosen: choice == days };
    Ok(SettingsPage {
        frame: visitor.frame(),
        fresh,
        name,
        lifetimes: LIFETIMES.iter().map(lifetime).collect(),
        tokens: web.service.tokens(&visitor.who).await?.into_iter().map(row).collect(),
    })
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
    let expires = (days > 0).then(|| Timestamp::now() + SignedDuration::from_hours(24 * days));
    match web.service.create_token(&visitor.who, name, expires).await {
        Ok((token, text)) => {
            // In the answer itself, not behind a redirect: the text is kept nowhere.
            let fresh = FreshToken { name: token.name, text };
            Ok(Html(page(&web, &visitor, Some(fresh), Field::default(), USUAL_LIFETIME).await?)
                .into_response())
        }
        Err(error @ (Error::Invalid { .. } | Error::Conflict { .. })) => {
            let field = Field { value: name.to_owned(), wrong: Some(words::plainly(&error.to_string())) };
            let page = page(&web, &visitor, None, field, days).await?;
            Ok((StatusCode::UNPROCESSABLE_ENTITY, Html(page)).into_response())
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
