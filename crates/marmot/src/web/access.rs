//! Ways to an app from the platform: the share link.

use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::Web;
use super::launchers::{LauncherPath, find_launcher};
use super::pages::{Link, MessagePage};
use super::present::{Presenter, can_open};
use super::respond::{Failed, Html};
use super::session::Visitor;
use marmot_core::phase::Phase;

/// Goes to an address that may be on another host.
pub(super) fn found(address: &str) -> Response {
    match HeaderValue::try_from(address) {
        Ok(location) => (StatusCode::FOUND, [(header::LOCATION, location)]).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// The link that people hand to others: leads to the app, or says that it is off.
pub(super) async fn share_link(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): LauncherPath,
) -> Result<Response, Failed> {
    let view = find_launcher(&web, &visitor.who, &path).await?;
    // While it starts, its own address shows how far it is and opens it by itself.
    let on_its_way = matches!(view.phase, Phase::Building | Phase::Starting);
    if view.app.is_some() && (can_open(view.phase) || on_its_way) {
        return Ok(found(&view.url));
    }
    let phase = Presenter::new(&web.service).phase(&view);
    let name = &view.launcher.name;
    let (title, text) = match view.phase {
        Phase::Failed => (
            format!("{name} cannot be opened"),
            "Something went wrong with it. The people of its project have been shown what.".to_owned(),
        ),
        _ => (
            format!("{name} is off"),
            "It is switched off for everyone. Somebody of its project can switch it on again; this link stays valid."
                .to_owned(),
        ),
    };
    let links = vec![Link { path: view.project.path(), label: "See its project" }];
    let page = MessagePage { frame: visitor.frame(), phase: Some(phase), title, text, links };
    let status = if view.phase == Phase::Failed { StatusCode::BAD_GATEWAY } else { StatusCode::NOT_FOUND };
    Ok((status, Html(page)).into_response())
}
