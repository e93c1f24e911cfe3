//! The lobby: what a person sees on an app's own address while it wakes, and where it cannot be opened.
//!
//! It works without a script by loading again; with one it follows an event stream, and opens the app by itself.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use askama::Template;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use marmot_core::gate::GateState;
use marmot_core::{Gate, Moment};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::answers::{page, plain};
use crate::body::AnswerBody;
use crate::hold::{rung, wake};
use crate::meter::Rung;
use crate::routes::{Backend, Progress, Route, RouteState};
use crate::shared::Shared;

/// A stream on which nothing happens says so this often: whoever left is noticed.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Without a script, the lobby is loaded again after this many seconds.
const RELOAD_SECONDS: u64 = 3;
/// What is expected of an app that has never been seen waking.
const EXPECTED_AT_FIRST: Duration = Duration::from_secs(10);

/// What goes on, as the lobby's script is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(crate) enum News {
    Waking { step: String, elapsed_ms: u64, expected_ms: Option<u64> },
    Ready,
    Failed { reason: String },
    Off,
}

#[derive(Template)]
#[template(path = "lobby.html")]
struct LobbyPage<'a> {
    title: &'a str,
    step: &'a str,
    elapsed_ms: u64,
    expected_ms: u64,
    expected_known: bool,
    expected: String,
    reload_seconds: u64,
}

#[derive(Template)]
#[template(path = "closed.html")]
struct ClosedPage<'a> {
    title: &'a str,
    headline: &'a str,
    text: &'a str,
    failed: bool,
}

#[derive(Template)]
#[template(path = "preview.html")]
struct PreviewPage<'a> {
    title: &'a str,
}

/// The lobby of an app that wakes.
pub(crate) fn waking(shared: &Shared, route: &Route, progress: &Progress) -> Response<AnswerBody> {
    let expected = progress.expected.unwrap_or(EXPECTED_AT_FIRST);
    let mut response = page(
        StatusCode::SERVICE_UNAVAILABLE,
        &LobbyPage {
            title: &route.title,
            step: &progress.step,
            elapsed_ms: millis(shared.clock.now() - progress.since),
            expected_ms: millis(expected),
            expected_known: progress.expected.is_some(),
            expected: in_words(expected),
            reload_seconds: RELOAD_SECONDS,
        },
    );
    let seconds = retry_after(shared, route);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}

/// The page of an app that is off.
pub(crate) fn off(route: &Route) -> Response<AnswerBody> {
    let text = "Somebody who may change the project has to switch it on before it can be opened.";
    let headline = "This app is switched off";
    page(StatusCode::NOT_FOUND, &ClosedPage { title: &route.title, headline, text, failed: false })
}

/// The page of an app that cannot be opened.
pub(crate) fn failed(route: &Route, reason: &str) -> Response<AnswerBody> {
    let headline = "This app cannot be opened";
    page(StatusCode::BAD_GATEWAY, &ClosedPage { title: &route.title, headline, text: reason, failed: true })
}

/// What programs see that make previews of links: enough for one, without waking anything.
pub(crate) fn preview(route: &Route) -> Response<AnswerBody> {
    page(StatusCode::OK, &PreviewPage { title: &route.title })
}

/// Seconds after which the app is likely to be awake, from its own history.
pub(crate) fn retry_after(shared: &Shared, route: &Route) -> u64 {
    let RouteState::On { backends, progress } = &route.state else { return 1 };
    let rung = rung(backends);
    let expected = expected(route, rung, progress).unwrap_or(EXPECTED_AT_FIRST);
    let left = expected.saturating_sub(shared.clock.now() - since(route, rung, progress));
    // A build takes long, but somebody who asks rarely waits longer than needed.
    left.as_secs_f64().ceil().clamp(1.0, 60.0) as u64
}

/// How long waking is likely to take, from this app's own history; `None` when it has none.
pub(crate) fn expected(route: &Route, rung: Rung, progress: &Progress) -> Option<Duration> {
    let learnt = route.meter.wakes.expected(rung);
    // What the engine knows of boots outlives a restart of the server.
    learnt.or(progress.expected.filter(|_| rung == Rung::Stopped))
}

/// Since when what goes on has been going on.
fn since(route: &Route, rung: Rung, progress: &Progress) -> Moment {
    let began = route.meter.wakes.since();
    match rung {
        Rung::Hibernated => began.unwrap_or(progress.since),
        Rung::Stopped => progress.since,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn in_words(duration: Duration) -> String {
    match duration.as_secs_f64().round() as u64 {
        0 | 1 => "a second".to_owned(),
        seconds @ 2..=90 => format!("{seconds} seconds"),
        seconds => format!("{} minutes", seconds.div_ceil(60)),
    }
}

/// The lobby's own files.
pub(crate) fn asset(name: &str) -> Option<Response<AnswerBody>> {
    let (media_type, content): (_, &'static str) = match name {
        "lobby.css" => ("text/css; charset=utf-8", include_str!("../assets/lobby.css")),
        "lobby.js" => ("text/javascript; charset=utf-8", include_str!("../assets/lobby.js")),
        "marmot.svg" => ("image/svg+xml", include_str!("../assets/marmot.svg")),
        _ => return None,
    };
    let mut response = plain(StatusCode::OK, media_type, content);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    Some(response)
}

/// News for one lobby, as server-sent events. As long as it is open, the app is waited for.
pub(crate) struct Events(mpsc::Receiver<Bytes>);

impl Events {
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.0.poll_recv(cx)
    }
}

/// Follows an app until it can be opened, or cannot.
pub(crate) fn events(shared: &Arc<Shared>, route: &Arc<Route>) -> Response<AnswerBody> {
    let (tell, news) = mpsc::channel(4);
    shared.tracker.spawn(follow(Arc::clone(shared), Arc::clone(route), tell));
    let mut response = Response::new(AnswerBody::Events(Box::new(Events(news))));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn follow(shared: Arc<Shared>, route: Arc<Route>, tell: mpsc::Sender<Bytes>) {
    let app = route.app.clone();
    let _held = route.demand.hold();
    wake(&shared, &route);
    let mut routes = shared.routes.clone();
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    let mut told = None;
    loop {
        let route = routes.borrow_and_update().get(app.as_str()).cloned();
        let news = news(&shared, route.as_deref());
        let over = !matches!(news, News::Waking { .. });
        if !told.as_ref().is_some_and(|told| is_same(told, &news)) {
            if tell.send(event(&news)).await.is_err() {
                return;
            }
            told = Some(news);
        }
        if over {
            return;
        }
        tokio::select! {
            changed = routes.changed() => if changed.is_err() { return },
            () = any_open(route.as_deref()) => {}
            _ = heartbeat.tick() => {
                route.iter().for_each(|route| route.demand.touch(shared.clock.now()));
                if tell.send(Bytes::from_static(b":\n\n")).await.is_err() {
                    return;
                }
            }
            () = tell.closed() => return,
            () = shared.soft_stop.cancelled() => return,
        }
    }
}

fn news(shared: &Shared, route: Option<&Route>) -> News {
    match route.map(|route| &route.state) {
        None | Some(RouteState::Off) => News::Off,
        Some(RouteState::Failed { reason }) => News::Failed { reason: reason.clone() },
        Some(RouteState::On { backends, .. }) if backends.iter().any(is_open) => News::Ready,
        Some(RouteState::On { progress, .. }) => News::Waking {
            step: progress.step.clone(),
            elapsed_ms: millis(shared.clock.now() - progress.since),
            expected_ms: progress.expected.map(millis),
        },
    }
}

fn is_open(backend: &Backend) -> bool {
    backend.gate.state() == GateState::Open
}

/// The script counts the time itself.
fn is_same(told: &News, news: &News) -> bool {
    match (told, news) {
        (News::Waking { step: told, expected_ms: told_ms, .. }, News::Waking { step, expected_ms, .. }) => {
            told == step && told_ms == expected_ms
        }
        (told, news) => told == news,
    }
}

fn event(news: &News) -> Bytes {
    // JSON has no line breaks, so it cannot end the event early.
    format!("data: {}\n\n", serde_json::to_string(news).unwrap_or_default()).into()
}

async fn any_open(route: Option<&Route>) {
    let gates: Vec<Arc<Gate>> = match route.map(|route| &route.state) {
        Some(RouteState::On { backends, .. }) => {
            backends.iter().map(|backend| Arc::clone(&backend.gate)).collect()
        }
        _ => Vec::new(),
    };
    poll_fn(|context| {
        gates.iter().for_each(|gate| gate.watch(context.waker()));
        if gates.iter().any(|gate| gate.state() == GateState::Open) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
