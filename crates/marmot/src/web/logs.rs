//! Logs of apps and builds: their last lines at once, what is added as it is written.

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;

use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream, StreamExt};
use jiff::Timestamp;
use marmot_core::id::{BuildId, RevisionId};
use marmot_text::{say, tell};

use super::Web;
use super::ansi::Line;
use super::launchers::{LauncherPath, find_launcher};
use super::live::{self, Fragments, Part};
use super::log_filter::{Level, Origins, Wanted};
use super::pages::{Choice, LogAction, LogFilter, LogPage, LogState};
use super::present::{Presenter, build_phase};
use super::projects::find;
use super::respond::{Failed, Html, drawn, escaped, see_other};
use super::session::Visitor;
use super::tabs::{Here, Tab};
use crate::model::{BuildStatus, Project};
use crate::service::{Action, BuildView, Error, LauncherView};

/// Lines that a page begins with.
const FIRST_LINES: usize = 1000;
/// Lines of each copy that are searched.
const SEARCHED_LINES: usize = 10_000;
/// Lines that are sent together, when so many are there.
const TOGETHER: usize = 2000;

/// Lines as the page shows them, with a heading wherever another copy of the app begins to speak.
#[derive(Debug, Default)]
struct Drawing {
    source: Option<String>,
}

impl Drawing {
    fn draw(&mut self, html: &mut String, source: Option<&str>, text: &str) {
        if source != self.source.as_deref() {
            self.source = source.map(str::to_owned);
            if let Some(source) = source {
                let copy = source.split('/').next().unwrap_or(source);
                html.push_str(&format!("<h2>{}</h2>", escaped(&tell!("logs-copy", copy = copy))));
            }
        }
        html.push_str("<span class=\"line\">");
        match text.split_once(' ').and_then(|(at, rest)| Some((at.parse::<Timestamp>().ok()?, rest))) {
            Some((at, rest)) => {
                let shown = at.strftime("%H:%M:%S");
                html.push_str(&format!(
                    "<time class=\"a-d\" datetime=\"{at}\" title=\"{at}\">{shown}</time> {}",
                    Line::of(rest)
                ));
            }
            None => html.push_str(&Line::of(text).to_string()),
        }
        html.push_str("</span>");
    }
}

/// Turns lines into fragments: the first ones replace what is on the page, later ones are put below.
fn appended(
    lines: impl Stream<Item = (Option<String>, String)> + Send + 'static,
) -> impl Stream<Item = String> + Send {
    let begin = (Drawing::default(), true);
    lines.ready_chunks(TOGETHER).scan(begin, |(drawing, first), lines| {
        let how = if std::mem::take(first) { "innerHTML" } else { "beforeend" };
        let mut html = format!("<div id=\"log\" hx-swap-oob=\"{how}\">");
        for (source, text) in &lines {
            drawing.draw(&mut html, source.as_deref(), text);
        }
        html.push_str("</div>");
        ready(Some(html))
    })
}

fn app_state(web: &Web, view: &LauncherView, replaces: bool) -> LogState {
    LogState { phase: Presenter::new(&web.service).phase(view), action: None, replaces }
}

fn state_fragments(state: &LogState) -> Result<Fragments, Failed> {
    let told = state.phase.word.to_owned();
    Ok(Fragments {
        around: None,
        parts: vec![Part { id: "log-state".to_owned(), html: drawn(state)?, told }],
    })
}

pub(super) async fn app(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): LauncherPath,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Failed> {
    let view = find_launcher(&web, &visitor.who, &path).await?;
    // What is looked for may be further back than what is shown at first.
    let most = if wanted.is_everything() { FIRST_LINES } else { SEARCHED_LINES };
    let logs = web.service.app_logs(&visitor.who, &view.launcher.app_name, most).await?;
    let ran = web.service.revisions_in_logs(&visitor.who, &view.launcher.app_name).await?;
    let numbers = numbers(&web, &visitor, &view).await?;
    let mut origins = Origins::new(ran.clone());
    let of_source = |source: &String| (source.clone(), origins.of(source, BTreeMap::new));
    let of: BTreeMap<String, Option<RevisionId>> = logs.keys().map(of_source).collect();
    let all = logs.iter().flat_map(|(source, texts)| texts.iter().map(move |text| (source, text)));
    let found: Vec<_> =
        all.filter(|(source, text)| wanted.takes(source, text, of.get(*source).copied().flatten())).collect();
    let (mut drawing, mut lines) = (Drawing::default(), String::new());
    for (source, text) in found.iter().skip(found.len().saturating_sub(FIRST_LINES)) {
        drawing.draw(&mut lines, Some(source), text);
    }
    let told = (!wanted.is_everything()).then(|| match found.len() {
        0 => tell!("logs-no-line", lines = SEARCHED_LINES),
        found if found > FIRST_LINES => tell!("logs-last-of", shown = FIRST_LINES, found = found),
        found => tell!("logs-lines", found = found),
    });
    let project_path = view.project.path();
    let own = super::detail::own_path(&view);
    Ok(Html(LogPage {
        frame: visitor.live_frame(format!("{own}/logs/events{}", wanted.query())),
        title: say("logs").to_owned(),
        tabs: Tab::of(&view, Here::Logs),
        filter: Some(LogFilter {
            levels: levels(wanted.level),
            copies: copies(&view, logs.keys(), &wanted.copy),
            revisions: revisions(ran.into_values().collect(), &numbers, &wanted.revision),
            told,
            download: format!("{own}/logs/download{}", wanted.query()),
            find: wanted.find,
        }),
        state: app_state(&web, &view, false),
        project_name: view.project.name,
        project_path,
        launcher_name: view.launcher.name,
        lines,
        hint: say("logs-hint"),
    })
    .into_response())
}

fn levels(wanted: Level) -> Vec<Choice> {
    let choice = |(level, value, label): (Level, &str, &'static str)| Choice {
        value: value.to_owned(),
        label: say(label).to_owned(),
        chosen: level == wanted,
    };
    Level::CHOICES.map(choice).into()
}

/// The replicas that have written something, and all of them.
fn copies<'a>(view: &LauncherView, sources: impl Iterator<Item = &'a String>, wanted: &str) -> Vec<Choice> {
    let alive = |id: &str| {
        let mut replicas = view.app.iter().flat_map(|app| &app.replicas);
        replicas.any(|replica| replica.id.to_string() == id)
    };
    let all =
        Choice { value: String::new(), label: say("logs-all-copies").to_owned(), chosen: wanted.is_empty() };
    let copy = |source: &String| {
        let id = source.split('/').next().unwrap_or(source).to_owned();
        let label = if alive(&id) { tell!("logs-copy-alive", copy = id) } else { id.clone() };
        Choice { chosen: wanted == id, value: id, label }
    };
    std::iter::once(all).chain(sources.map(copy)).collect()
}

/// The numbers of revisions, by what their replicas have as their id: the newest, where only the scaling differs.
async fn numbers(
    web: &Web,
    visitor: &Visitor,
    view: &LauncherView,
) -> Result<BTreeMap<RevisionId, i64>, Failed> {
    let revisions = web.service.revisions(&visitor.who, &view.launcher.app_name).await?;
    Ok(revisions.iter().rev().map(|revision| (revision.engine_id(), revision.number)).collect())
}

/// The revisions that have written something, newest first, and all of them.
fn revisions(ran: BTreeSet<RevisionId>, numbers: &BTreeMap<RevisionId, i64>, wanted: &str) -> Vec<Choice> {
    let all = Choice {
        value: String::new(),
        label: say("logs-all-revisions").to_owned(),
        chosen: wanted.is_empty(),
    };
    let revision = |id: RevisionId| {
        let label = numbers.get(&id).map_or_else(
            || say("logs-earlier-one").to_owned(),
            |number| tell!("logs-revision", number = *number),
        );
        Choice { chosen: wanted == id.to_string(), value: id.to_string(), label }
    };
    std::iter::once(all).chain(ran.into_iter().rev().map(revision)).collect()
}

/// The lines as a file of text, as the app wrote them.
pub(super) async fn download(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): LauncherPath,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Failed> {
    let view = find_launcher(&web, &visitor.who, &path).await?;
    let name = &view.launcher.app_name;
    let logs = web.service.app_logs(&visitor.who, name, SEARCHED_LINES).await?;
    let mut origins = Origins::new(web.service.revisions_in_logs(&visitor.who, name).await?);
    let mut text = String::new();
    for (source, lines) in &logs {
        let mut headed = false;
        let of = origins.of(source, BTreeMap::new);
        for line in lines.iter().filter(|line| wanted.takes(source, line, of)) {
            if !std::mem::replace(&mut headed, true) {
                text.push_str(&format!("==> {source} <==\n"));
            }
            text.push_str(line);
            text.push('\n');
        }
    }
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8".to_owned()),
        // Names of apps are letters, digits and hyphens.
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}.log\"")),
    ];
    Ok((headers, text).into_response())
}

pub(super) async fn app_events(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): LauncherPath,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Failed> {
    let view = find_launcher(&web, &visitor.who, &path).await?;
    let most = if wanted.is_everything() { FIRST_LINES } else { SEARCHED_LINES };
    let lines = web.service.follow_app_logs(&visitor.who, &view.launcher.app_name, most).await?;
    let name = view.launcher.app_name.clone();
    let mut origins = Origins::new(web.service.revisions_in_logs(&visitor.who, &name).await?);
    let service = web.service.clone();
    let lines = lines.filter(move |line| {
        let of = origins.of(&line.source, || service.revisions_of_the_living(&name));
        ready(wanted.takes(&line.source, &line.text, of))
    });
    let lines = appended(lines.map(|line| (Some(line.source), line.text)));
    let state = live::fragments(web.clone(), visitor.session, move |web, who| {
        let path = path.clone();
        async move {
            let view = find_launcher(&web, &who, &path).await?;
            // Whoever may no longer read logs is sent no more of them.
            if !view.can.read_logs {
                return Err(Error::SignInNeeded.into());
            }
            state_fragments(&app_state(&web, &view, true))
        }
    });
    Ok(live::respond(&web, together(lines, state)))
}

/// Both streams, until the second ends.
fn together(
    lines: impl Stream<Item = String> + Send + 'static,
    state: impl Stream<Item = String> + Send + 'static,
) -> impl Stream<Item = String> + Send + 'static {
    let lines = lines.map(Some).chain(stream::pending());
    let state = state.map(Some).chain(stream::once(ready(None)));
    stream::select(lines, state).take_while(|html| ready(html.is_some())).filter_map(ready)
}

/// The build at this path, if it belongs to that project, with its launcher.
async fn find_build(
    web: &Web,
    visitor_who: &crate::service::Identity,
    (namespace, slug, id): &(String, String, String),
) -> Result<(Project, BuildView, LauncherView), Failed> {
    let id: BuildId = id.parse().map_err(|_| Failed::NoSuchPage)?;
    let project = find(web, visitor_who, namespace, slug).await?;
    let build = web.service.build(visitor_who, id).await?;
    let launcher = web.service.launcher_of(visitor_who, build.build.environment_id).await?;
    if launcher.project.id != project.id {
        return Err(Failed::NoSuchPage);
    }
    Ok((project, build, launcher))
}

fn build_state(project: &Project, build: &BuildView, may_operate: bool, replaces: bool) -> LogState {
    let under_way = build.build.status == BuildStatus::InProgress;
    let cancel = LogAction {
        path: format!("{}/builds/{}/cancel", project.path(), build.id()),
        label: say("build-cancel"),
    };
    LogState { phase: build_phase(build), action: (under_way && may_operate).then_some(cancel), replaces }
}

pub(super) async fn build(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): LauncherPath,
) -> Result<Response, Failed> {
    let (project, build, launcher) = find_build(&web, &visitor.who, &path).await?;
    let texts = web.service.build_logs(&visitor.who, build.id(), TOGETHER).await?;
    let (mut drawing, mut lines) = (Drawing::default(), String::new());
    texts.iter().for_each(|text| drawing.draw(&mut lines, None, text));
    Ok(Html(LogPage {
        frame: visitor.live_frame(format!("{}/builds/{}/events", project.path(), build.id())),
        title: say("build").to_owned(),
        tabs: Vec::new(),
        filter: None,
        state: build_state(&project, &build, launcher.can.operate, false),
        project_path: project.path(),
        project_name: project.name,
        launcher_name: launcher.launcher.name,
        lines,
        hint: say("build-hint"),
    })
    .into_response())
}

pub(super) async fn build_events(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): LauncherPath,
) -> Result<Response, Failed> {
    let (_, build, _) = find_build(&web, &visitor.who, &path).await?;
    let lines = web.service.follow_build_logs(&visitor.who, build.id()).await?;
    let lines = appended(lines.map(|text| (None, text)));
    let state = live::fragments(web.clone(), visitor.session, move |web, who| {
        let path = path.clone();
        async move {
            let (project, build, launcher) = find_build(&web, &who, &path).await?;
            if !web.service.may(&who, &project, Action::ReadLogs).await? {
                return Err(Error::SignInNeeded.into());
            }
            state_fragments(&build_state(&project, &build, launcher.can.operate, true))
        }
    });
    Ok(live::respond(&web, together(lines, state)))
}

pub(super) async fn cancel_build(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): LauncherPath,
) -> Result<Response, Failed> {
    let (project, build, _) = find_build(&web, &visitor.who, &path).await?;
    match web.service.cancel_build(&visitor.who, build.id()).await {
        // It has ended meanwhile; its page says how.
        Ok(_) | Err(Error::Conflict { .. }) => {
            Ok(see_other(&format!("{}/builds/{}", project.path(), build.id())))
        }
        Err(other) => Err(other.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_drawn_with_their_time_below_the_copy_that_wrote_them() {
        let (mut drawing, mut html) = (Drawing::default(), String::new());
        let one = Some("01ARZ3NDEKTSV4RRFFQ69G5FAV/app");
        drawing.draw(&mut html, one, "2026-05-04T10:00:00Z \u{1b}[31m<b>x</b>");
        drawing.draw(&mut html, one, "no time");
        drawing.draw(&mut html, Some("<two>/app"), "y");
        insta::assert_snapshot!(html.replace("<span", "\n<span").replace("<h2", "\n<h2"), @r#"
        <h2>Copy 01ARZ3NDEKTSV4RRFFQ69G5FAV</h2>
        <span class="line"><time class="a-d" datetime="2026-05-04T10:00:00Z" title="2026-05-04T10:00:00Z">10:00:00</time> 
        <span class="f1">&lt;b&gt;x&lt;/b&gt;</span></span>
        <span class="line">no time</span>
        <h2>Copy &#60;two&#62;</h2>
        <span class="line">y</span>
        "#);
    }

    #[tokio::test]
    async fn the_first_lines_replace_those_on_the_page_and_later_ones_follow() {
        let (send, lines) = tokio::sync::mpsc::unbounded_channel();
        let lines = stream::unfold(lines, |mut lines| async move { Some((lines.recv().await?, lines)) });
        let mut sent = Box::pin(appended(lines));
        send.send((None, "a".to_owned())).unwrap();
        send.send((None, "b".to_owned())).unwrap();
        assert_eq!(
            sent.next().await.unwrap(),
            "<div id=\"log\" hx-swap-oob=\"innerHTML\"><span class=\"line\">a</span><span class=\"line\">b</span></div>"
        );
        send.send((None, "c".to_owned())).unwrap();
        assert_eq!(
            sent.next().await.unwrap(),
            "<div id=\"log\" hx-swap-oob=\"beforeend\"><span class=\"line\">c</span></div>"
        );
    }
}
