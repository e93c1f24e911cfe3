//! Home: my projects and the apps I may open; for strangers, what this is. And the page with all parts.

use std::collections::HashMap;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use marmot_core::phase::{Depth, Phase};

use super::Web;
use super::ansi::Line;
use super::live::{self, Around, Fragments, Part};
use super::pages::{AppsSection, DesignPage, HomePage, LandingPage, LaunchersBox};
use super::present::{self, Presenter};
use super::respond::{Failed, Html, drawn};
use super::session::Visitor;
use super::view::{AppTile, AppView, BuildView, FailureView, Field, LauncherCard, SourceView};
use super::words;
use crate::model::Page;
use crate::service::{Identity, ProjectFilter};

pub(super) async fn show(State(web): State<Web>, visitor: Visitor) -> Result<Response, Failed> {
    let apps = AppsSection::new(tiles(&web, &visitor.who).await?, visitor.who.user().is_some());
    let frame = visitor.live_frame("/events".to_owned());
    let Some(user) = visitor.who.user() else {
        return Ok(Html(LandingPage { frame, apps }).into_response());
    };
    let mine = ProjectFilter { member: Some(user.id), ..ProjectFilter::default() };
    let projects = web.service.projects(&visitor.who, &mine, Page::FIRST).await?;
    let projects = projects.items.iter().map(present::project).collect();
    Ok(Html(HomePage { frame, projects, apps }).into_response())
}

pub(super) async fn events(State(web): State<Web>, visitor: Visitor) -> Response {
    let fragments = live::fragments(web.clone(), visitor.session, |web, who| async move {
        let apps = AppsSection::new(tiles(&web, &who).await?, who.user().is_some());
        let mut parts = Vec::new();
        for tile in &apps.tiles {
            let told = format!("{}: {}", tile.name, tile.phase.word);
            let html = drawn(&AppTile { replaces: true, ..tile.clone() })?;
            parts.push(Part { id: tile.id.clone(), html, told });
        }
        let key = apps.tiles.iter().map(|tile| tile.id.as_str()).collect::<Vec<_>>().join(" ");
        let html = drawn(&AppsSection { replaces: true, ..apps })?;
        Ok(Fragments { around: Some(Around { key, html }), parts })
    });
    live::respond(&web, fragments)
}

/// The apps that are on and that `who` may see.
async fn tiles(web: &Web, who: &Identity) -> Result<Vec<AppTile>, Failed> {
    let apps = web.service.apps(who, None, Page::FIRST).await?;
    let projects = web.service.projects(who, &ProjectFilter::default(), Page::FIRST).await?;
    let projects: HashMap<_, _> = projects.items.iter().map(|project| (project.id, project)).collect();
    let presenter = Presenter::new(&web.service);
    Ok(apps.items.iter().map(|app| presenter.tile(app, projects.get(&app.project_id).copied())).collect())
}

/// Every part of every page, with sample content.
pub(super) async fn design(visitor: Visitor) -> Response {
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
    Html(DesignPage {
        frame: visitor.frame(),
        phases: phases.map(|phase| words::phase(phase, wake, None)).into(),
        launchers: sample_launchers(),
        right: Field::of("Ice-core explorer"),
        wrong: Field {
            value: "eighty".into(),
            wrong: Some("“eighty” is no port: give a number from 1 to 65535.".into()),
        },
        lines: log.map(Line::of).into(),
    })
    .into_response()
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
        build: Some(BuildView { told: "Built 5 min ago from a1b2c3d".to_owned(), path: None }),
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
    let failure = FailureView {
        reason: "The app did not listen on port 41000 within 60 s; it listens on 8501: start it with the port in $PORT.".to_owned(),
        last_lines: ["Traceback (most recent call last):", "\u{1b}[31mKeyError\u{1b}[0m: 'depth'"].map(Line::of).into(),
        advice: "Read the logs, mend the code or the launcher’s command, then try again.".to_owned(),
    };
    LaunchersBox {
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

impl AppsSection {
    fn new(tiles: Vec<AppTile>, signed_in: bool) -> Self {
        Self { tiles, signed_in, replaces: false }
    }
}
