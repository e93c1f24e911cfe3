//! The whole server, for those who run it: what its memory is used for, every app, what had to make room.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use marmot_core::AppName;
use marmot_text::{decimal, filters, say, tell};
use serde::Deserialize;

use super::Web;
use super::pages::Question;
use super::people::beside;
use super::present::{self, Presenter};
use super::respond::{Failed, Html, see_other};
use super::session::Visitor;
use super::view::{Frame, PhaseView};
use super::words;
use crate::model::Page;
use crate::service::{AppView, Error, Machine};

/// Apps on one page.
const PER_PAGE: u32 = 50;

#[derive(Debug, Template)]
#[template(path = "admin.html")]
struct AdminPage {
    frame: Frame,
    memory: Meter,
    swap: Option<Meter>,
    budget: String,
    q: String,
    apps: Vec<AppRow>,
    total: u64,
    earlier: Option<u32>,
    later: Option<u32>,
    evictions: Vec<EvictionRow>,
    classes: Vec<ClassRow>,
    people: u64,
}

/// What something is used for, drawn as one bar and told.
#[derive(Debug, Template)]
#[template(path = "meter.html")]
pub(super) struct Meter {
    title: &'static str,
    parts: Vec<MeterPart>,
}

#[derive(Debug)]
struct MeterPart {
    word: String,
    colour: &'static str,
    told: String,
    /// Where it begins and how wide it is, in thousandths.
    from: u64,
    wide: u64,
}

#[derive(Debug)]
struct AppRow {
    app: String,
    name: String,
    path: String,
    project: String,
    project_path: String,
    phase: PhaseView,
    people: u64,
    replicas: String,
    memory: String,
    /// It can be put to sleep.
    awake: bool,
}

#[derive(Debug)]
struct EvictionRow {
    at: String,
    exact: String,
    app: String,
    message: String,
}

#[derive(Debug)]
struct ClassRow {
    told: String,
    default: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Sought {
    q: String,
    page: Option<u32>,
}

pub(super) async fn show(
    State(web): State<Web>,
    visitor: Visitor,
    Query(sought): Query<Sought>,
) -> Result<Response, Failed> {
    let (machine, evictions) = web.service.machine(&visitor.who).await?;
    let page = Page { page: sought.page.unwrap_or(1).clamp(1, 1_000_000), per_page: PER_PAGE };
    let q: String = sought.q.trim().chars().take(100).collect();
    let found = web.service.find_apps(&visitor.who, &q, page).await?;
    let people = web.service.people(&visitor.who, Page { page: 1, per_page: 1 }).await?.total;
    let presenter = Presenter::new(&web.service);
    let (earlier, later) = beside(page, found.total);
    let row = |(app, project): &(AppView, crate::model::Project)| app_row(&presenter, app, project);
    let eviction = |(app, event): &crate::service::Eviction| EvictionRow {
        at: presenter.ago(event.at),
        exact: event.at.to_string(),
        app: app.to_string(),
        message: words::told(&event.message),
    };
    let class = |class: &crate::model::ResourceClass| ClassRow {
        told: present::resource_class(class),
        default: class.default,
    };
    Ok(Html(AdminPage {
        frame: visitor.frame(),
        memory: memory(&machine),
        swap: (machine.swap > 0).then(|| swap(&machine)),
        budget: bytes(machine.budget),
        q,
        apps: found.items.iter().map(row).collect(),
        total: found.total,
        earlier,
        later,
        evictions: evictions.iter().map(eviction).collect(),
        classes: web.service.resource_classes().iter().map(class).collect(),
        people,
    })
    .into_response())
}

fn app_row(presenter: &Presenter<'_>, app: &AppView, project: &crate::model::Project) -> AppRow {
    let count = |stage: &str| app.replicas.iter().filter(|replica| replica.stage == stage).count();
    let (awake, asleep) = (app.replicas.len() - count("hibernated"), count("hibernated"));
    let replicas = match (awake, asleep) {
        (0, 0) => say("admin-replicas-none").to_owned(),
        (awake, 0) => tell!("replicas-awake", awake = awake),
        (0, asleep) => tell!("admin-replicas-asleep", asleep = asleep),
        (awake, asleep) => tell!("replicas-awake-asleep", awake = awake, asleep = asleep),
    };
    let held: u64 = app.replicas.iter().map(|replica| replica.memory.held()).sum();
    AppRow {
        app: app.name.to_string(),
        name: app.title.clone(),
        path: format!("{}/launchers/{}", project.path(), app.launcher_id),
        project: project.name.clone(),
        project_path: project.path(),
        phase: presenter.app_phase(app),
        people: present::people(app),
        replicas,
        memory: if app.replicas.is_empty() { "–".to_owned() } else { bytes(held) },
        awake: count("running") > 0,
    }
}

/// Bytes as people say them.
fn bytes(bytes: u64) -> String {
    match bytes {
        0 => "0".to_owned(),
        b if b < 1 << 20 => format!("< {}", tell!("memory-mb", count = "1")),
        b if b < 1 << 30 => tell!("memory-mb", count = b >> 20),
        b => tell!("memory-gb", count = decimal(format!("{:.1}", b as f64 / f64::from(1 << 30)))),
    }
}

fn meter(title: &'static str, whole: u64, parts: Vec<(String, &'static str, u64)>) -> Meter {
    let mut from = 0;
    let thousandths = |part: u64| if whole == 0 { 0 } else { u128::from(part) * 1000 / u128::from(whole) };
    let part = |(word, colour, amount): (String, &'static str, u64)| {
        let wide = u64::try_from(thousandths(amount)).unwrap_or(1000).min(1000 - from);
        let part = MeterPart { word, colour, told: bytes(amount), from, wide };
        from += wide;
        part
    };
    Meter { title, parts: parts.into_iter().map(part).collect() }
}

fn memory(machine: &Machine) -> Meter {
    let parts = vec![
        (tell!("admin-running", count = machine.awake), "on", machine.running),
        (tell!("admin-hibernated", count = machine.asleep), "asleep", machine.hibernated),
        (say("admin-everything-else").to_owned(), "off", machine.others()),
        (say("admin-free").to_owned(), "track", machine.available),
    ];
    meter(say("memory"), machine.memory, parts)
}

/// The memory of a server that there is not.
pub(super) fn sample() -> Meter {
    memory(&Machine {
        memory: 16 << 30,
        available: 9 << 30,
        running: 3 << 30,
        hibernated: 1 << 30,
        awake: 4,
        asleep: 12,
        ..Machine::default()
    })
}

fn swap(machine: &Machine) -> Meter {
    let used = machine.swap.saturating_sub(machine.swap_free);
    let ours = machine.swapped.min(used);
    let parts = vec![
        (say("admin-hibernated-replicas").to_owned(), "asleep", ours),
        (say("admin-everything-else").to_owned(), "off", used - ours),
        (say("admin-free").to_owned(), "track", machine.swap_free),
    ];
    meter(say("swap"), machine.swap, parts)
}

/// The app with this name, for who runs the installation alone.
async fn find(web: &Web, visitor: &Visitor, name: &str) -> Result<AppView, Failed> {
    let name: AppName = name.parse().map_err(|_| Failed::NoSuchPage)?;
    web.service.machine(&visitor.who).await?;
    Ok(web.service.app(&visitor.who, &name).await?)
}

pub(super) async fn ask_shut_down(
    State(web): State<Web>,
    visitor: Visitor,
    Path(name): Path<String>,
) -> Result<Response, Failed> {
    let app = find(&web, &visitor, &name).await?;
    Ok(visitor.ask(Question {
        title: tell!("switch-off-title", name = app.title),
        text: words::shut_down_warning(present::people(&app)),
        action: format!("/admin/apps/{}/shut-down", app.name),
        yes: say("switch-off-yes"),
        doing: say("doing-shutting-down"),
        no: say("switch-off-no"),
        back: "/admin".to_owned(),
    }))
}

pub(super) async fn shut_down(
    State(web): State<Web>,
    visitor: Visitor,
    Path(name): Path<String>,
) -> Result<Response, Failed> {
    let done = match find(&web, &visitor, &name).await {
        Ok(app) => web.service.shut_down(&visitor.who, &app.name).await.map_err(Failed::from),
        Err(other) => Err(other),
    };
    match done {
        // It is off already: what was asked for is so.
        Ok(()) | Err(Failed::Service(Error::NotFound { .. })) => Ok(see_other("/admin")),
        Err(other) => Err(other),
    }
}

pub(super) async fn put_to_rest(
    State(web): State<Web>,
    visitor: Visitor,
    Path(name): Path<String>,
) -> Result<Response, Failed> {
    let app = find(&web, &visitor, &name).await?;
    web.service.put_to_rest(&visitor.who, &app.name).await?;
    Ok(see_other("/admin"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_drawn_in_parts_that_fill_the_bar() {
        let machine = Machine {
            memory: 8 << 30,
            available: 5 << 30,
            running: 1 << 30,
            hibernated: 512 << 20,
            asleep: 1,
            ..Machine::default()
        };
        let meter = memory(&machine);
        let drawn: Vec<_> = meter.parts.iter().map(|part| (part.from, part.wide)).collect();
        assert_eq!(drawn, [(0, 125), (125, 62), (187, 187), (374, 625)]);
        assert_eq!(
            (meter.parts[1].word.as_str(), meter.parts[1].told.as_str()),
            ("Hibernated (1 replica)", "512 MB")
        );
        assert!(memory(&Machine::default()).parts.iter().all(|part| part.wide == 0));
    }
}
