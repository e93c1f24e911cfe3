//! The box *Requests* of an app's page: how they are treated, and the last of them where they are written down.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use jiff::{SignedDuration, Timestamp};
use marmot_core::said;
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
use crate::config::{bytes, bytes_as_typed};
use crate::service::{Error, Field as Of, Identity, LauncherView};
use crate::traffic::Traffic;

/// So many requests are shown.
const SHOWN: usize = 20;

/// How requests are treated.
#[derive(Debug, Template)]
#[template(path = "detail_traffic.html")]
pub(super) struct TrafficSection {
    /// The path of the app's page.
    path: String,
    may_change: bool,
    /// The largest body, in words.
    told: String,
    /// As it is typed.
    body_limit: String,
    log_requests: bool,
    http2: bool,
    rows: Vec<Row>,
    again: Again,
}

#[derive(Debug)]
struct Row {
    at: String,
    client: String,
    request: String,
    status: u16,
    took: String,
}

impl TrafficSection {
    /// The box, for members.
    pub(super) async fn of(
        web: &Web,
        who: &Identity,
        view: &LauncherView,
        again: &Again,
    ) -> Result<Self, Failed> {
        let name = &view.launcher.app_name;
        let traffic = web.service.traffic(who, name).await?;
        let presenter = Presenter::new(&web.service);
        let logged = web.service.logged_requests(who, name).await?;
        let rows = logged.into_iter().take(SHOWN).map(|request| {
            let since = SignedDuration::try_from(request.at).unwrap_or(SignedDuration::ZERO);
            Row {
                at: presenter.ago(Timestamp::from_duration(since).unwrap_or(Timestamp::UNIX_EPOCH)),
                client: request.client.to_string(),
                request: format!("{} {}", request.method, request.path),
                status: request.status,
                took: format!("{} ms", request.took.as_millis()),
            }
        });
        Ok(Self {
            path: detail::own_path(view),
            may_change: view.can.change,
            told: match traffic.body_limit {
                Some(limit) => tell!("traffic-limited", size = bytes_as_typed(limit)),
                None => say("traffic-unlimited").to_owned(),
            },
            body_limit: traffic.given.body_limit_bytes.map(bytes_as_typed).unwrap_or_default(),
            log_requests: traffic.given.log_requests,
            http2: traffic.given.http2,
            rows: rows.collect(),
            again: again.clone(),
        })
    }
}

fn read(typed: &Typed) -> Result<Traffic, Error> {
    let limit = typed.get("body_limit").trim();
    let body_limit_bytes = match limit {
        "" => None,
        text => Some(bytes(text).ok_or_else(|| {
            let text = text.escape_debug().to_string();
            Error::invalid(said!(
                "no-size",
                "`{text}` is no size: write it like `512K` or `10M`",
                text = &text
            ))
            .about(Of::BodyLimit)
        })?),
    };
    Ok(Traffic {
        body_limit_bytes,
        log_requests: typed.get("log_requests") == "on",
        http2: typed.get("http2") == "on",
    })
}

pub(super) async fn save(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): LauncherPath,
    typed: Typed,
) -> Result<Response, Failed> {
    let view = find_launcher(&web, &visitor.who, &path).await?;
    let done = match read(&typed) {
        Ok(given) => web.service.set_traffic(&visitor.who, &view.launcher.app_name, given).await,
        Err(refused) => Err(refused),
    };
    match done {
        Ok(_) => Ok(see_other(&boxes::back(&view, "requests"))),
        Err(error) => boxes::refused(&web, &visitor, &path, error, "traffic", &typed).await,
    }
}
