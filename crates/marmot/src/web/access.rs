//! Ways to an app from the platform: the share link, and signing in for an app that is not for everyone.

use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use marmot_core::AppName;
use marmot_core::phase::Phase;
use marmot_gateway::Person;
use marmot_text::{say, tell};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::Web;
use super::launchers::{LauncherPath, find_launcher};
use super::pages::{Link, MessagePage};
use super::present::{Presenter, can_open};
use super::respond::{Failed, Html};
use super::session::{Visitor, Wish};
use super::words;
use crate::service::Error;

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
    let view = match find_launcher(&web, &visitor.who, &path).await {
        Ok(view) => view,
        // The app may be open to somebody for whom its project is not.
        Err(refused) => {
            let launcher = path.2.parse().map_err(|_| Failed::NoSuchPage)?;
            return match web.service.address_for(&visitor.who, launcher).await {
                Ok(address) => Ok(found(&address)),
                Err(_) => Err(refused),
            };
        }
    };
    // While it starts, its own address shows how far it is and opens it by itself.
    let on_its_way = matches!(view.phase, Phase::Building | Phase::Starting);
    if view.app.is_some() && (can_open(view.phase) || on_its_way) {
        return Ok(found(&view.url));
    }
    let name = &view.launcher.name;
    let (phase, title, text) = match view.phase {
        Phase::Failed => (
            Presenter::new(&web.service).phase(&view),
            tell!("access-cannot-be-opened", name = name),
            say("access-failed").to_owned(),
        ),
        // Whoever has the link need not know that its last requests are being answered, or that something is built.
        _ => (
            words::phase(Phase::Inactive, None, None),
            tell!("access-is-off", name = name),
            say("access-off").to_owned(),
        ),
    };
    let links = vec![Link { path: view.project.path(), label: say("access-see-project").into() }];
    let page = MessagePage { frame: visitor.frame(), phase: Some(phase), title, text, links };
    let status = if view.phase == Phase::Failed { StatusCode::BAD_GATEWAY } else { StatusCode::NOT_FOUND };
    Ok((status, Html(page)).into_response())
}

/// For one who has signed in, and may see the app but not open it: says whom to ask.
async fn not_shared(web: &Web, visitor: &Visitor, app: &AppName) -> Result<Response, Failed> {
    let project = web.service.project_of(&visitor.who, app).await?;
    let name = format!("{}/{}", project.namespace, project.slug);
    let text = tell!("access-others-only", project = name);
    let links = vec![Link { path: project.path(), label: say("access-see-project").into() }];
    let title = say("access-not-shared").to_owned();
    let page = MessagePage { frame: visitor.frame(), phase: None, title, text, links };
    Ok((StatusCode::FORBIDDEN, Html(page)).into_response())
}

/// For one who has signed in and may not even know whether there is such an app: says whom to ask, if there is.
fn unknown(visitor: &Visitor, error: &Error) -> Response {
    let text = format!("{} {}", words::refusal(error), say("access-ask-who-gave-it"));
    let links = vec![Link { path: "/".to_owned(), label: say("go-home").into() }];
    let title = say("refused-nothing-here").to_owned();
    let page = MessagePage { frame: visitor.frame(), phase: None, title, text, links };
    (StatusCode::NOT_FOUND, Html(page)).into_response()
}

/// Where an app's own host sends a browser that has not signed in there: back it goes, with a code that says who it is.
pub(super) async fn enter(
    State(web): State<Web>,
    visitor: Visitor,
    Path(app): Path<String>,
    Query(wish): Query<Wish>,
) -> Result<Response, Failed> {
    let app: AppName = app.parse().map_err(|_| Failed::NoSuchPage)?;
    let user = visitor.who.signed_in()?;
    match web.service.may_open(&visitor.who, &app).await {
        Ok(()) => {}
        Err(Error::Forbidden { .. }) => return not_shared(&web, &visitor, &app).await,
        Err(error @ Error::NotFound { .. }) => return Ok(unknown(&visitor, &error)),
        Err(other) => return Err(other.into()),
    }
    let person = Person { id: user.id, username: user.username.to_string() };
    let code = web.tickets.issue_code(&app, &person);
    // Handed on as it came: the app's host checks where it leads, and that this browser began there.
    let next = utf8_percent_encode(&wish.next, NON_ALPHANUMERIC);
    Ok(found(&format!("{}/.marmot/enter?code={code}&next={next}", web.service.options().app_url(&app))))
}
