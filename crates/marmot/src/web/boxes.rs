//! What the forms in the boxes of an app's page have in common: the way back to a box, and the page again with why
//! something was refused.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::Web;
use super::again::Again;
use super::detail::{self, Outcomes};
use super::forms::Typed;
use super::respond::Failed;
use super::session::Visitor;
use crate::service::{Error, LauncherView};

/// The path of the box with this id.
pub(super) fn back(view: &LauncherView, id: &str) -> String {
    format!("{}#{id}", detail::own_path(view))
}

/// The page again, with what was typed into the form of this name and why it was refused. What is not about the form is
/// refused as everywhere.
pub(super) async fn refused(
    web: &Web,
    visitor: &Visitor,
    path: &(String, String, String),
    error: Error,
    form: &'static str,
    typed: &Typed,
) -> Result<Response, Failed> {
    match error {
        Error::Invalid { .. } | Error::Conflict { .. } | Error::NotOffered { .. } => {
            let outcomes = Outcomes { again: Again::refused(form, typed, &error), ..Outcomes::default() };
            let page = detail::page(web, visitor, path, outcomes).await?;
            Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
        }
        other => Err(other.into()),
    }
}
