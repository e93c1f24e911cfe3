//! An app's own page: its card, how programs call it, its replicas, its revisions, what happened to it.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use marmot_core::id::{BuildId, RevisionId};
use marmot_core::phase::Phase;
use marmot_engine::observed::SleepDepth;
use marmot_text::{filters, say, tell};

use super::Web;
use super::again::Again;
use super::launchers::{LauncherPath, find_launcher};
use super::live::{self, Fragments, Part};
use super::opening::AccessSection;
use super::pages::Question;
use super::present::Presenter;
use super::previews::PreviewsSection;
use super::respond::{Failed, Html, drawn, see_other};
use super::revision_diff::{Difference, differences};
use super::secrets::SecretsSection;
use super::session::Visitor;
use super::tabs::{Here, Tab};
use super::traffic::TrafficSection;
use super::usage::Lately;
use super::view::{Frame, LauncherCard};
use super::words;
use crate::history::Range;
use crate::model::{Page, Program, Revision};
use crate::service::{BuildView, Identity, LauncherView};

/// Events that the page shows; the API has the others.
const EVENTS: u32 = 50;
/// Revisions that the page shows. Only the last few can be rolled back to.
const REVISIONS: usize = 10;

#[derive(Debug, Template)]
#[template(path = "detail.html")]
struct DetailPage {
    frame: Frame,
    project_name: String,
    project_path: String,
    name: String,
    tabs: Vec<Tab>,
    card: LauncherCard,
    /// What it was used for lately, for members.
    lately: Option<Lately>,
    snippets: Vec<Snippet>,
    /// Programs need a key.
    private: bool,
    /// Who may open it, for members.
    access: Option<AccessSection>,
    /// How requests are treated, for members.
    traffic: Option<TrafficSection>,
    /// What it is given in confidence, for those who may change it.
    secrets: Option<SecretsSection>,
    /// Its previews and its branch, for members.
    previews: Option<PreviewsSection>,
    replicas: ReplicasSection,
    revisions: RevisionsSection,
    events: Option<EventsSection>,
}

/// How a program calls the app, in one language.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Snippet {
    language: &'static str,
    text: String,
}

/// The replicas there are right now.
#[derive(Debug, Clone, Template)]
#[template(path = "detail_replicas.html")]
struct ReplicasSection {
    rows: Vec<ReplicaRow>,
    /// Said where there are none.
    none: &'static str,
    replaces: bool,
}

#[derive(Debug, Clone)]
struct ReplicaRow {
    id: String,
    stage: &'static str,
    /// How many use it, in words.
    used: String,
    /// How long it is there.
    age: String,
    /// The exact moment since when.
    since: String,
    /// Which revision it runs, by its number.
    revision: String,
    /// Resident memory, in words.
    memory: String,
    /// Memory that is swapped out, in words; absent when none is.
    swapped: Option<String>,
}

/// The revisions that were made of the launcher, newest first.
#[derive(Debug, Clone, Template)]
#[template(path = "detail_revisions.html")]
struct RevisionsSection {
    rows: Vec<RevisionRow>,
    replaces: bool,
}

#[derive(Debug, Clone)]
struct RevisionRow {
    number: i64,
    made: String,
    /// What it runs, in a few words.
    runs: String,
    /// The app is set to it.
    wanted: bool,
    /// No replica of it was ever ready.
    unproven: bool,
    /// Where to ask for it to be rolled back to, for those who may.
    roll_back: Option<String>,
    /// What differs from the revision before.
    differs: Vec<Difference>,
}

/// What happened, newest first.
#[derive(Debug, Clone, Template)]
#[template(path = "detail_events.html")]
struct EventsSection {
    rows: Vec<EventRow>,
    replaces: bool,
}

#[derive(Debug, Clone)]
struct EventRow {
    at: String,
    /// The same moment, exactly.
    exact: String,
    message: String,
    by: Option<String>,
}

/// Everything of the page that changes while somebody looks at it.
struct Drawn {
    card: LauncherCard,
    replicas: ReplicasSection,
    revisions: RevisionsSection,
    events: Option<EventsSection>,
}

impl Drawn {
    async fn of(web: &Web, who: &Identity, view: &LauncherView) -> Result<Self, Failed> {
        let name = &view.launcher.app_name;
        let revisions = web.service.revisions(who, name).await?;
        let changed = web.service.changed_variables(who, name).await?;
        let builds = web.service.builds(who, view.launcher.environment.id, Page::FIRST).await?.items;
        let commit = |build: BuildView| Some((build.id(), build.build.result.commit?));
        let commits: BTreeMap<BuildId, String> = builds.into_iter().filter_map(commit).collect();
        let events = if view.can.read_logs {
            let page = Page { page: 1, per_page: EVENTS };
            Some(web.service.app_events(who, name, page).await?.items)
        } else {
            None
        };
        let presenter = Presenter::new(&web.service);
        let events = events.map(|events| {
            let row = |event: &crate::model::AppEvent| EventRow {
                at: presenter.ago(event.at),
                exact: event.at.to_string(),
                message: words::told(&event.message),
                by: event.by.as_ref().map(ToString::to_string),
            };
            EventsSection { rows: events.iter().map(row).collect(), replaces: false }
        });
        Ok(Self {
            card: presenter.card(view, None),
            replicas: replicas(view, &revisions, &presenter),
            revisions: revisions_section(view, &revisions, &commits, &changed, &presenter),
            events,
        })
    }

    fn fragments(self) -> Result<Fragments, Failed> {
        let told = format!("{}: {}", self.card.name, self.card.phase.word);
        let part = |id: &str, html: String, told: String| Part { id: id.to_owned(), html, told };
        let mut parts = vec![
            part("card", drawn(&LauncherCard { replaces: true, ..self.card })?, told),
            part("replicas", drawn(&ReplicasSection { replaces: true, ..self.replicas })?, String::new()),
            part("revisions", drawn(&RevisionsSection { replaces: true, ..self.revisions })?, String::new()),
        ];
        if let Some(events) = self.events {
            let html = drawn(&EventsSection { replaces: true, ..events })?;
            parts.push(part("events", html, String::new()));
        }
        Ok(Fragments { around: None, parts })
    }
}

pub(super) async fn show(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): LauncherPath,
) -> Result<Response, Failed> {
    Ok(page(&web, &visitor, &path, Outcomes::default()).await?.into_response())
}

/// What came of the forms of the page.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    pub(super) access: super::opening::Outcome,
    pub(super) secrets: super::secrets::Outcome,
    /// The form that was refused, if one was.
    pub(super) again: Again,
}

/// The page, with what came of a form of it.
pub(super) async fn page(
    web: &Web,
    visitor: &Visitor,
    path: &(String, String, String),
    outcomes: Outcomes,
) -> Result<Response, Failed> {
    let view = find_launcher(web, &visitor.who, path).await?;
    let drawn = Drawn::of(web, &visitor.who, &view).await?;
    let again = &outcomes.again;
    // A preview is open to those that its launcher's app is open to.
    let access = if view.can.read_logs && view.launcher.preview.is_none() {
        Some(AccessSection::of(web, &visitor.who, &view, outcomes.access, again).await?)
    } else {
        None
    };
    let traffic = if view.can.read_logs && view.launcher.preview.is_none() {
        Some(TrafficSection::of(web, &visitor.who, &view, again).await?)
    } else {
        None
    };
    let lately = if view.can.read_logs {
        let report = web.service.usage(&visitor.who, &view.launcher.app_name, Range::Day).await?;
        Some(Lately::of(&report, format!("{}/usage", own_path(&view))))
    } else {
        None
    };
    let secrets = if view.can.change {
        Some(SecretsSection::of(web, &visitor.who, &view, outcomes.secrets, again).await?)
    } else {
        None
    };
    let previews =
        if view.can.read_logs { PreviewsSection::of(web, &visitor.who, &view, again).await? } else { None };
    let private = !web.service.is_for_everyone(&view).await?;
    let project_path = view.project.path();
    Ok(Html(DetailPage {
        frame: visitor.live_frame(format!("{project_path}/launchers/{}/events", view.launcher.id)),
        tabs: Tab::of(&view, Here::Overview),
        lately,
        snippets: snippets(&view.url, private),
        private,
        access,
        traffic,
        secrets,
        previews,
        name: view.launcher.name,
        project_name: view.project.name,
        project_path,
        card: drawn.card,
        replicas: drawn.replicas,
        revisions: drawn.revisions,
        events: drawn.events,
    })
    .into_response())
}

pub(super) async fn events(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): LauncherPath,
) -> Result<Response, Failed> {
    // A stream that would end at once is refused instead: the browser then asks less often.
    find_launcher(&web, &visitor.who, &path).await?;
    let fragments = live::fragments(web.clone(), visitor.session, move |web, who| {
        let path = path.clone();
        async move {
            let view = find_launcher(&web, &who, &path).await?;
            Drawn::of(&web, &who, &view).await?.fragments()
        }
    });
    Ok(live::respond(&web, fragments))
}

/// Namespace and slug of the project, the launcher's id, the revision's.
pub(super) type RevisionPath = Path<(String, String, String, String)>;

async fn find_revision(
    web: &Web,
    who: &Identity,
    (namespace, slug, launcher, revision): (String, String, String, String),
) -> Result<(LauncherView, Revision), Failed> {
    let id: RevisionId = revision.parse().map_err(|_| Failed::NoSuchPage)?;
    let view = find_launcher(web, who, &(namespace, slug, launcher)).await?;
    let revisions = web.service.revisions(who, &view.launcher.app_name).await?;
    let revision = revisions.into_iter().find(|found| found.id == id).ok_or(Failed::NoSuchPage)?;
    Ok((view, revision))
}

pub(super) async fn ask_roll_back(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): RevisionPath,
) -> Result<Response, Failed> {
    let (view, revision) = find_revision(&web, &visitor.who, path).await?;
    Ok(visitor.ask(Question {
        title: tell!("roll-back-title", number = revision.number, name = view.launcher.name),
        text: say("roll-back-about").to_owned(),
        action: roll_back_path(&view, revision.id),
        yes: say("roll-back-yes"),
        doing: say("doing-rolling-back"),
        no: say("roll-back-no"),
        back: own_path(&view),
    }))
}

pub(super) async fn roll_back(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): RevisionPath,
) -> Result<Response, Failed> {
    let (view, revision) = find_revision(&web, &visitor.who, path).await?;
    web.service.roll_back(&visitor.who, &view.launcher.app_name, revision.id).await?;
    Ok(see_other(&own_path(&view)))
}

pub(super) fn own_path(view: &LauncherView) -> String {
    format!("{}/launchers/{}", view.project.path(), view.launcher.id)
}

fn roll_back_path(view: &LauncherView, revision: RevisionId) -> String {
    format!("{}/revisions/{revision}/roll-back", own_path(view))
}

fn replicas(view: &LauncherView, revisions: &[Revision], presenter: &Presenter<'_>) -> ReplicasSection {
    let number = |id: RevisionId| {
        let found = revisions.iter().find(|revision| revision.engine_id() == id);
        found.map_or_else(|| say("revision-earlier").to_owned(), |revision| revision.number.to_string())
    };
    let words = |bytes: u64| words::memory(u32::try_from(bytes >> 20).unwrap_or(u32::MAX));
    let row = |replica: &crate::service::ReplicaView| ReplicaRow {
        id: replica.id.to_string(),
        stage: match replica.stage {
            "running" => say("replica-awake"),
            "hibernated" => match replica.depth {
                SleepDepth::Frozen => say("replica-frozen"),
                SleepDepth::Light => say("replica-light"),
                SleepDepth::Deep => say("replica-deep"),
            },
            "draining" => say("replica-finishing"),
            other => other,
        },
        used: words::used_by(replica.sessions, replica.requests),
        age: presenter.ago(replica.created_at()),
        since: replica.created_at().to_string(),
        revision: number(replica.revision),
        memory: words(replica.memory.resident),
        swapped: (replica.memory.swapped >> 20 > 0).then(|| words(replica.memory.swapped)),
    };
    let rows = view.app.iter().flat_map(|app| &app.replicas).map(row).collect();
    let none = match view.phase {
        Phase::Asleep(_) => say("replicas-asleep"),
        Phase::Inactive | Phase::Stopping => say("replicas-off"),
        _ => say("replicas-none"),
    };
    ReplicasSection { rows, none, replaces: false }
}

fn revisions_section(
    view: &LauncherView,
    revisions: &[Revision],
    commits: &BTreeMap<BuildId, String>,
    changed: &BTreeMap<RevisionId, Vec<String>>,
    presenter: &Presenter<'_>,
) -> RevisionsSection {
    let class = |id: i64| presenter.resources(id);
    let wanted = view.app.as_ref().and_then(|app| app.revision.as_ref()).map(|revision| revision.id);
    let runs = |program: &Program| match program {
        Program::Built { build, .. } => match commits.get(build) {
            Some(commit) => tell!("runs-commit", commit = commit.chars().take(10).collect::<String>()),
            None => tell!("runs-build", build = build.to_string()),
        },
        Program::Image { build, image } => {
            let digest = build.as_ref().and_then(|build| commits.get(build));
            match digest.and_then(|digest| digest.strip_prefix("sha256:")) {
                Some(digest) => {
                    format!("{} ({})", image.container_image, digest.chars().take(12).collect::<String>())
                }
                None => image.container_image.clone(),
            }
        }
    };
    let before = |revision: &Revision| revisions.iter().find(|other| other.number < revision.number);
    let differs = |revision: &Revision| {
        let changed = changed.get(&revision.id).map(Vec::as_slice).unwrap_or_default();
        before(revision).map(|old| differences(old, revision, runs, class, changed)).unwrap_or_default()
    };
    let row = |revision: &Revision| RevisionRow {
        differs: differs(revision),
        number: revision.number,
        made: presenter.ago(revision.created_at),
        runs: runs(&revision.program),
        wanted: Some(revision.id) == wanted,
        unproven: revision.ready_at.is_none(),
        roll_back: (view.can.operate && wanted.is_some() && Some(revision.id) != wanted)
            .then(|| roll_back_path(view, revision.id)),
    };
    RevisionsSection { rows: revisions.iter().take(REVISIONS).map(row).collect(), replaces: false }
}

/// How programs call the app at `url`.
fn snippets(url: &str, with_key: bool) -> Vec<Snippet> {
    let choose = |key: &'static str| if with_key { key } else { "" };
    let curl = choose(" -H \"X-Marmot-Key: $KEY\"");
    let python = choose(", headers={\"X-Marmot-Key\": key}");
    let r = choose(" |> req_headers(`X-Marmot-Key` = key)");
    vec![
        Snippet { language: "curl", text: format!("curl{curl} '{url}'") },
        Snippet {
            language: "Python",
            text: format!("import requests\nprint(requests.get(\"{url}\"{python}).text)"),
        },
        Snippet {
            language: "R",
            text: format!(
                "library(httr2)\nrequest(\"{url}\"){r} |> req_perform() |> resp_body_string() |> cat()"
            ),
        },
    ]
}
