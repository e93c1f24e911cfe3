//! Home: my projects and the apps I may open; for strangers, what this is. And the page with all parts.

use std::time::Duration;

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use marmot_core::phase::{Depth, Phase};
use marmot_engine::observed::FailureReason;
use marmot_text::{say, tell};
use serde::Deserialize;

use super::Web;
use super::admin;
use super::ansi::Line;
use super::gallery::{self, Gallery, Sought};
use super::live;
use super::pages::{DesignPage, HomePage, LandingPage, LaunchersBox};
use super::people::beside;
use super::present;
use super::respond::{Failed, Html};
use super::session::Visitor;
use super::share;
use super::start::StartForm;
use super::tabs::{Here, Tab};
use super::usage;
use super::view::{AppView, BuildView, FailureView, Field, LauncherCard, SourceView};
use super::words;
use crate::model::Page;
use crate::service::ProjectFilter;

/// Projects on one page.
const PROJECTS: u32 = 24;

pub(super) async fn show(
    State(web): State<Web>,
    visitor: Visitor,
    Query(sought): Query<Sought>,
    Query(which): Query<Mine>,
) -> Result<Response, Failed> {
    let apps = Gallery::of(&web, &visitor.who, &sought).await?;
    let frame = visitor.live_frame(sought.live());
    let Some(user) = visitor.who.user() else {
        return Ok(Html(LandingPage { frame, apps }).into_response());
    };
    let mine = ProjectFilter { member: Some(user.id), ..ProjectFilter::default() };
    let page = Page { page: which.projects.unwrap_or(1).clamp(1, 1_000_000), per_page: PROJECTS };
    let found = web.service.projects(&visitor.who, &mine, page).await?;
    let (earlier, later) = beside(page, found.total);
    let projects = found.items.iter().map(present::project).collect();
    Ok(Html(HomePage { frame, projects, earlier, later, apps }).into_response())
}

pub(super) async fn events(
    State(web): State<Web>,
    visitor: Visitor,
    Query(sought): Query<Sought>,
) -> Response {
    let fragments = live::fragments(web.clone(), visitor.session, move |web, who| {
        let sought = sought.clone();
        async move { gallery::fragments(&web, &who, &sought).await }
    });
    live::respond(&web, fragments)
}

/// Which of one's own projects are shown.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Mine {
    projects: Option<u32>,
}

/// Every part of every page, with sample content.
pub(super) async fn design(State(web): State<Web>, visitor: Visitor) -> Result<Response, Failed> {
    let wake = Some(Duration::from_millis(4200));
    let phases = [
        Phase::Inactive,
        Phase::Building,
        Phase::Starting,
        Phase::Running,
        Phase::Asleep(Depth::Hibernated),
        Phase::Waking,
        Phase::Updating,
        Phase::Stopping,
        Phase::Failed,
    ];
    let log = [
        "\u{1b}[2m10:04:17\u{1b}[0m \u{1b}[32mINFO\u{1b}[0m  loading \u{1b}[1mmodel.joblib\u{1b}[0m",
        "\u{1b}[2m10:04:19\u{1b}[0m \u{1b}[33mWARN\u{1b}[0m  column `depth` has 3 gaps",
        "\u{1b}[2m10:04:21\u{1b}[0m \u{1b}[31mERROR\u{1b}[0m <b>this is text</b>, not markup",
    ];
    let (charts, saved) = usage::sample();
    Ok(Html(DesignPage {
        form: StartForm::sample(&web)?,
        memory: admin::sample(),
        share: share::sample(),
        frame: visitor.frame(),
        tabs: Tab::below("/design", true, true, Here::Overview),
        charts,
        saved,
        phases: phases.map(|phase| words::phase(phase, wake, None)).into(),
        launchers: sample_launchers(),
        right: Field::of("Ice-core explorer"),
        wrong: Field { value: "eighty".into(), wrong: Some(tell!("form-port-wrong", text = "eighty")) },
        lines: log.map(Line::of).into(),
    })
    .into_response())
}

fn sample_launchers() -> LaunchersBox {
    let card = |id: &str, name: &str, phase, app| LauncherCard {
        id: id.to_owned(),
        name: name.to_owned(),
        path: "/design".to_owned(),
        description: None,
        source: SourceView::Code { link: None, told: "github.com/ada/ice-cores, dashboard".to_owned() },
        resources: "small (1 CPU, 1 GB)".to_owned(),
        may_write: true,
        may_read_logs: true,
        phase: words::phase(phase, None, None),
        app,
        build: Some(BuildView {
            told: tell!("built-from", ago = tell!("ago-minutes", count = 5), commit = "a1b2c3d"),
            path: None,
        }),
        problem: None,
        replaces: false,
    };
    let app = |can_open, under_way, people, failure| {
        Some(AppView {
            url: "http://ice-core-explorer.localhost:8080/".to_owned(),
            share: "/design".to_owned(),
            switched: "Switched on 5 min ago".to_owned(),
            people: words::people_now(people),
            can_open,
            under_way,
            failure,
        })
    };
    let never_listened =
        FailureReason::NeverListened { expected: 41_000, found: vec![8501], after: Duration::from_secs(60) };
    let failure = FailureView {
        reason: words::told(&never_listened.said()),
        last_lines: ["Traceback (most recent call last):", "\u{1b}[31mKeyError\u{1b}[0m: 'depth'"]
            .map(Line::of)
            .into(),
        advice: say("failure-read-logs").to_owned(),
    };
    LaunchersBox {
        total: 5,
        earlier: None,
        later: None,
        path: "/design".to_owned(),
        may_write: true,
        cards: vec![
            card("A", "Ice-core explorer", Phase::Running, app(true, false, 4, None)),
            card("B", "Glacier model", Phase::Asleep(Depth::Hibernated), app(true, false, 0, None)),
            card("C", "Snowpack", Phase::Building, app(false, true, 0, None)),
            card("D", "Avalanche bulletin", Phase::Failed, app(false, false, 0, Some(failure))),
            card("E", "Permafrost", Phase::Inactive, None),
        ],
        replaces: false,
    }
}
