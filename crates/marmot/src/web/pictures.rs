//! The picture of an app, for those who may open it.

use axum::extract::{Path, State};
use axum::http::header;
use axum::response::IntoResponse;

use super::Web;
use super::respond::Failed;
use super::session::Visitor;

/// Answers `/pictures/{launcher}`.
pub(super) async fn show(
    State(web): State<Web>,
    visitor: Visitor,
    Path(launcher): Path<String>,
) -> Result<impl IntoResponse, Failed> {
    let launcher = launcher.parse().map_err(|_| Failed::NoSuchPage)?;
    let jpeg = web.service.app_picture(&visitor.who, launcher).await?;
    // For this browser alone, and not for long: who may open the app can change.
    Ok(([(header::CONTENT_TYPE, "image/jpeg"), (header::CACHE_CONTROL, "private, max-age=300")], jpeg))
}
