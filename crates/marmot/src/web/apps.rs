//! What is done to an app from its card: activate, shut down, build again, wake, put to sleep, restart.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use marmot_text::{say, tell};

use super::Web;
use super::launchers::{LauncherPath, find_launcher};
use super::pages::Question;
use super::present::{self, Presenter};
use super::respond::{Failed, Html, see_other};
use super::session::Visitor;
use super::words;
use crate::service::{Error, LauncherView, Result};

/// The card as it is now, for the script; the project's page for everybody else. What was refused stands on the card.
async fn answer(
    web: &Web,
    visitor: &Visitor,
    path: &(String, String, String),
    done: Result<()>,
) -> Result<Response, Failed> {
    let problem = match done {
        Ok(()) => None,
        Err(error @ (Error::Conflict { .. } | Error::Invalid { .. } | Error::NotOffered { .. }))
            if visitor.for_part =>
        {
            Some(words::refusal(&error))
        }
        Err(other) => return Err(other.into()),
    };
    let view = find_launcher(web, &visitor.who, path).await?;
    if !visitor.for_part {
        return Ok(see_other(&on_page(&view)));
    }
    let status = if problem.is_some() { StatusCode::CONFLICT } else { StatusCode::OK };
    Ok((status, Html(Presenter::new(&web.service).card(&view, problem))).into_response())
}

fn on_page(view: &LauncherView) -> String {
    format!("{}#launcher-{}", view.project.path(), view.launcher.id)
}

pub(super) async fn activate(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): LauncherPath,
) -> Result<Response, Failed> {
    let view = find_launcher(&web, &visitor.who, &path).await?;
    let done = match web.service.activate(&visitor.who, view.launcher.id).await {
        // Somebody else was quicker: what was asked for is so.
        Ok(_) | Err(Error::AlreadyActive { .. }) => Ok(()),
        Err(other) => Err(other),
    };
    answer(&web, &visitor, &path, done).await
}

pub(super) async fn ask_shut_down(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): LauncherPath,
) -> Result<Response, Failed> {
    let view = find_launcher(&web, &visitor.who, &path).await?;
    let people = view.app.as_ref().map(present::people).unwrap_or_default();
    Ok(visitor.ask(Question {
        title: tell!("switch-off-title", name = view.launcher.name),
        text: words::shut_down_warning(people),
        action: format!("{}/launchers/{}/shut-down", view.project.path(), view.launcher.id),
        yes: say("switch-off-yes"),
        doing: say("doing-shutting-down"),
        no: say("switch-off-no"),
        back: on_page(&view),
    }))
}

pub(super) async fn shut_down(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): LauncherPath,
) -> Result<Response, Failed> {
    let view = find_launcher(&web, &visitor.who, &path).await?;
    match web.service.shut_down(&visitor.who, &view.launcher.app_name).await {
        // It is off already: what was asked for is so.
        Ok(()) | Err(Error::NotFound { .. }) => Ok(see_other(&on_page(&view))),
        Err(other) => Err(other.into()),
    }
}

/// Wakes it, or tries once more what failed.
pub(super) async fn wake(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): LauncherPath,
) -> Result<Response, Failed> {
    let view = find_launcher(&web, &visitor.who, &path).await?;
    let done = web.service.wake(&visitor.who, &view.launcher.app_name).await.map(drop);
    answer(&web, &visitor, &path, done).await
}

/// Starts it afresh beside itself.
pub(super) async fn restart(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): LauncherPath,
) -> Result<Response, Failed> {
    let view = find_launcher(&web, &visitor.who, &path).await?;
    let done = web.service.restart(&visitor.who, &view.launcher.app_name).await.map(drop);
    answer(&web, &visitor, &path, done).await
}

pub(super) async fn put_to_rest(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): LauncherPath,
) -> Result<Response, Failed> {
    let view = find_launcher(&web, &visitor.who, &path).await?;
    let done = web.service.put_to_rest(&visitor.who, &view.launcher.app_name).await.map(drop);
    answer(&web, &visitor, &path, done).await
}

pub(super) async fn build_again(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): LauncherPath,
) -> Result<Response, Failed> {
    let view = find_launcher(&web, &visitor.who, &path).await?;
    let done = web.service.start_build(&visitor.who, view.launcher.environment.id).await.map(drop);
    answer(&web, &visitor, &path, done).await
}
