//! The box *Branches* of an app's page: its previews, and how it learns of changes of its branch.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use jiff::Timestamp;
use marmot_core::id::LauncherId;
use marmot_text::{filters, say, tell};

use super::Web;
use super::again::Again;
use super::boxes;
use super::detail;
use super::forms::Typed;
use super::launchers::{LauncherPath, find_launcher};
use super::present::Presenter;
use super::respond::{Failed, see_other};
use super::session::Visitor;
use super::words;
use crate::model::EnvironmentSource;
use crate::service::{Error, FollowingPatch, Identity, LauncherView};

/// The previews of a launcher; or what a preview is of, on its own page.
#[derive(Debug, Template)]
#[template(path = "detail_previews.html")]
pub(super) struct PreviewsSection {
    /// The path of the app's page.
    path: String,
    of: Option<Of>,
    rows: Vec<Row>,
    following: Follows,
    may_operate: bool,
    may_change: bool,
    may_entrust: bool,
    again: Again,
}

/// What a preview is of.
#[derive(Debug)]
struct Of {
    id: String,
    branch: String,
    /// The path of the launcher's page.
    launcher: String,
    ends: String,
}

#[derive(Debug)]
struct Row {
    id: String,
    branch: String,
    page: String,
    url: String,
    state: String,
    ends: String,
}

#[derive(Debug)]
struct Follows {
    every: Option<u32>,
    /// The same as it is typed.
    every_minutes: String,
    pull_requests: bool,
    secrets: bool,
    days: u32,
    /// What was last seen, in a sentence.
    seen: Option<String>,
    error: Option<String>,
}

impl PreviewsSection {
    /// The box, for members; where nothing is built, there are no branches.
    pub(super) async fn of(
        web: &Web,
        who: &Identity,
        view: &LauncherView,
        again: &Again,
    ) -> Result<Option<Self>, Failed> {
        if !matches!(view.launcher.environment.source, EnvironmentSource::Code { .. }) {
            return Ok(None);
        }
        let presenter = Presenter::new(&web.service);
        let told = web.service.following(who, view.launcher.id).await?;
        let project = view.project.path();
        let of = view.launcher.preview.as_ref().map(|preview| Of {
            id: view.launcher.id.to_string(),
            branch: preview.branch.clone(),
            launcher: format!("{project}/launchers/{}", preview.of),
            ends: ends(preview.ends_at),
        });
        let found = match of {
            Some(_) => Vec::new(),
            None => web.service.previews(who, view.launcher.id).await?,
        };
        let row = |found: LauncherView| Row {
            id: found.launcher.id.to_string(),
            page: detail::own_path(&found),
            state: presenter.phase(&found).word.to_string(),
            url: found.url,
            ends: found.launcher.preview.as_ref().map(|one| ends(one.ends_at)).unwrap_or_default(),
            branch: found.launcher.preview.map(|one| one.branch).unwrap_or_default(),
        };
        let seen = told.seen.looked_at.map(|at| {
            let commit: String = told.seen.tip.iter().flat_map(|tip| tip.chars()).take(10).collect();
            match commit.is_empty() {
                true => tell!("last-looked", ago = presenter.ago(at)),
                false => tell!("last-looked-seen", ago = presenter.ago(at), commit = commit),
            }
        });
        Ok(Some(Self {
            path: detail::own_path(view),
            of,
            rows: found.into_iter().map(row).collect(),
            following: Follows {
                every: told.said.poll_minutes,
                every_minutes: told.said.poll_minutes.map(|every| every.to_string()).unwrap_or_default(),
                pull_requests: told.said.pull_requests,
                secrets: told.said.secrets,
                days: told.days,
                seen,
                error: told.seen.error.map(|error| words::sentence(&error)),
            },
            may_operate: view.can.operate,
            may_change: view.can.change,
            may_entrust: view.can.govern,
            again: again.clone(),
        }))
    }
}

/// When something ends, in words that follow *it ends*.
fn ends(at: Timestamp) -> String {
    match at.duration_since(Timestamp::now()).as_hours() {
        ..1 => say("within-the-hour").to_owned(),
        hours @ 1..48 => tell!("ends-in-hours", hours = hours),
        hours => tell!("ends-in-days", days = (hours + 12) / 24),
    }
}

fn back(view: &LauncherView) -> Response {
    see_other(&boxes::back(view, "previews"))
}

/// A number that was typed, or nothing. What is no number is refused as one that is not allowed.
fn number(text: &str) -> Option<u32> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.parse().unwrap_or(0))
}

pub(super) async fn make(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): LauncherPath,
    typed: Typed,
) -> Result<Response, Failed> {
    let view = find_launcher(&web, &visitor.who, &path).await?;
    let branch = typed.get("branch").trim();
    let days = number(typed.get("days"));
    match web.service.make_preview(&visitor.who, view.launcher.id, branch, days).await {
        Ok(_) => Ok(back(&view)),
        Err(error) => boxes::refused(&web, &visitor, &path, error, "preview", &typed).await,
    }
}

/// Namespace and slug of the project, the launcher's id, the preview's.
type PreviewPath = Path<(String, String, String, String)>;

async fn find(
    web: &Web,
    visitor: &Visitor,
    (namespace, slug, launcher, preview): (String, String, String, String),
) -> Result<(LauncherView, LauncherId), Failed> {
    let id = preview.parse().map_err(|_| Failed::NoSuchPage)?;
    Ok((find_launcher(web, &visitor.who, &(namespace, slug, launcher)).await?, id))
}

pub(super) async fn prolong(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): PreviewPath,
) -> Result<Response, Failed> {
    let (view, id) = find(&web, &visitor, path).await?;
    web.service.prolong_preview(&visitor.who, view.launcher.id, id, None).await?;
    Ok(back(&view))
}

pub(super) async fn end(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): PreviewPath,
) -> Result<Response, Failed> {
    let (view, id) = find(&web, &visitor, path).await?;
    match web.service.end_preview(&visitor.who, view.launcher.id, id).await {
        // It ended meanwhile.
        Ok(()) | Err(Error::NotFound { .. }) => Ok(back(&view)),
        Err(other) => Err(other.into()),
    }
}

pub(super) async fn follow(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): LauncherPath,
    typed: Typed,
) -> Result<Response, Failed> {
    let view = find_launcher(&web, &visitor.who, &path).await?;
    let patch = FollowingPatch {
        poll_minutes: Some(number(typed.get("every"))),
        pull_requests: Some(typed.get("pull_requests") == "on"),
        // Only owners are asked, so that nothing is said by others.
        secrets: view.can.govern.then(|| typed.get("secrets") == "on"),
        days: None,
    };
    match web.service.set_following(&visitor.who, view.launcher.id, patch).await {
        Ok(_) => Ok(back(&view)),
        Err(error) => boxes::refused(&web, &visitor, &path, error, "following", &typed).await,
    }
}
