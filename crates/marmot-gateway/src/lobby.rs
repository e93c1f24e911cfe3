//! The lobby: what a person sees on an app's own address while it wakes, and where it cannot be opened.
//!
//! It works without a script by loading again; with one it follows an [event stream](events), and opens the app by
//! itself, at the address it was asked for.

mod events;
mod line;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use futures_util::Stream;
use http::{HeaderValue, Response, StatusCode, header};
use marmot_core::gate::GateState;
use marmot_core::id::UserId;
use marmot_core::{AppName, Moment};
use marmot_text::{filters, retold, say, tell};
use serde::Serialize;

pub(crate) use self::events::{Events, events};
use crate::answers::{page, plain};
use crate::body::AnswerBody;
use crate::hold::rung;
use crate::meter::Rung;
use crate::routes::{Backend, Progress, Route, RouteState, Step};
use crate::shared::Shared;

/// Gives the last lines of an app's log, or of its build's, and then each new one.
pub type LogSource = Arc<dyn Fn(&AppName) -> Pin<Box<dyn Stream<Item = String> + Send>> + Send + Sync>;

/// Without a script, the lobby is loaded again after this many seconds.
const RELOAD_SECONDS: u64 = 3;
/// Where there is no room for an app, it makes sense to ask again after this many seconds.
pub(crate) const NO_ROOM_SECONDS: u64 = 30;
/// What is expected of an app that has never been seen waking.
const EXPECTED_AT_FIRST: Duration = Duration::from_secs(10);

/// What goes on, as the lobby's script is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum News {
    Waking { at: At, step: String, elapsed_ms: u64, expected_ms: Option<u64> },
    Ready,
    Failed { reason: String, last_lines: Vec<String> },
    Off,
}

/// Where between asleep and open an app is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum At {
    Building,
    Starting,
    Port,
    Almost,
    /// A replica is thawed.
    Waking,
    /// Every place at its replicas is taken.
    Busy,
    /// Its project has no memory left for it.
    Full,
}

impl At {
    /// The steps that are shown as a list, in their order, and the messages that name them.
    const LIST: [(Self, &'static str); 4] = [
        (Self::Building, "lobby-building"),
        (Self::Starting, "lobby-starting"),
        (Self::Port, "lobby-port"),
        (Self::Almost, "lobby-almost"),
    ];

    fn word(self) -> &'static str {
        match self {
            Self::Building => "building",
            Self::Starting => "starting",
            Self::Port => "port",
            Self::Almost => "almost",
            Self::Waking => "waking",
            Self::Busy => "busy",
            Self::Full => "full",
        }
    }
}

/// A part of the way, as it is shown.
struct Part {
    word: &'static str,
    label: &'static str,
    /// `done`, `now`, or nothing yet.
    class: &'static str,
}

#[derive(Template)]
#[template(path = "lobby.html")]
struct LobbyPage<'a> {
    title: &'a str,
    state: &'static str,
    eyebrow: &'static str,
    step: &'a str,
    reason: &'a str,
    parts: Vec<Part>,
    elapsed_ms: u64,
    expected_ms: u64,
    expected_known: bool,
    expected: String,
    reload_seconds: u64,
    last_lines: Vec<String>,
    /// Signing in may show more.
    may_sign_in: bool,
}

#[derive(Template)]
#[template(path = "preview.html")]
struct PreviewPage<'a> {
    title: &'a str,
    description: &'static str,
}

/// Whether this visitor may read the app's log.
fn may_read(route: &Route, person: Option<UserId>) -> bool {
    person.is_some_and(|person| route.log_readers.contains(&person))
}

/// The lobby as of now: of an app that wakes, failed, or is off.
pub(crate) fn lobby(shared: &Shared, route: &Route, person: Option<UserId>) -> Response<AnswerBody> {
    // Somebody who asks for the page is about to be let in: it is shown for the moment before.
    let news = match news(shared, route) {
        News::Ready => waking(At::Almost, say("lobby-almost").to_owned(), (Duration::ZERO, None)),
        other => other,
    };
    let status = match &news {
        News::Waking { .. } | News::Ready => StatusCode::SERVICE_UNAVAILABLE,
        News::Failed { .. } => StatusCode::BAD_GATEWAY,
        News::Off => StatusCode::NOT_FOUND,
    };
    let mut response = page(status, &LobbyPage::of(route, &news, person));
    if let News::Waking { .. } = news {
        let seconds = HeaderValue::from(retry_after(shared, route));
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    response
}

impl<'a> LobbyPage<'a> {
    fn of(route: &'a Route, news: &'a News, person: Option<UserId>) -> Self {
        let mut page = Self {
            title: &route.title,
            state: "",
            eyebrow: "",
            step: "",
            reason: "",
            parts: Vec::new(),
            elapsed_ms: 0,
            expected_ms: millis(EXPECTED_AT_FIRST),
            expected_known: false,
            expected: String::new(),
            reload_seconds: RELOAD_SECONDS,
            last_lines: Vec::new(),
            may_sign_in: person.is_none() && !route.log_readers.is_empty(),
        };
        match news {
            News::Waking { at, step, elapsed_ms, expected_ms } => {
                (page.state, page.eyebrow, page.step) = ("waking", say("lobby-waking-up"), step);
                (page.parts, page.elapsed_ms) = (parts(*at), *elapsed_ms);
                page.expected_known = expected_ms.is_some();
                page.expected_ms = expected_ms.unwrap_or(page.expected_ms);
                page.expected = in_words(Duration::from_millis(page.expected_ms));
            }
            News::Failed { reason, last_lines } => {
                (page.state, page.eyebrow) = ("failed", say("lobby-out-of-order"));
                (page.step, page.reason) = (say("lobby-cannot-open"), reason);
                if may_read(route, person) {
                    page.last_lines = last_lines.iter().map(|text| line::plain(text)).collect();
                }
            }
            News::Off | News::Ready => {
                (page.state, page.eyebrow) = ("off", say("lobby-off"));
                page.step = say("lobby-switched-off");
            }
        }
        page
    }
}

/// The way as a list, where there is one: thawing is over before it could be read.
fn parts(now: At) -> Vec<Part> {
    // Most apps were built long ago: that is no part of their way.
    let list = &At::LIST[usize::from(now != At::Building)..];
    let Some(position) = list.iter().position(|(at, _)| *at == now) else { return Vec::new() };
    let class = |place: usize| match place.cmp(&position) {
        std::cmp::Ordering::Less => "done",
        std::cmp::Ordering::Equal => "now",
        std::cmp::Ordering::Greater => "",
    };
    let listed = list.iter().enumerate();
    listed
        .map(|(place, (at, label))| Part { word: at.word(), label: say(label), class: class(place) })
        .collect()
}

/// What programs see that make previews of links: enough for one, without waking anything.
pub(crate) fn preview(route: &Route) -> Response<AnswerBody> {
    page(StatusCode::OK, &PreviewPage { title: &route.title, description: say("lobby-preview") })
}

fn news(shared: &Shared, route: &Route) -> News {
    let (backends, progress) = match &route.state {
        RouteState::Off => return News::Off,
        RouteState::Failed { reason, last_lines } => {
            return News::Failed { reason: retold(reason), last_lines: last_lines.clone() };
        }
        RouteState::On { backends, progress } => (backends, progress),
    };
    if backends.iter().any(has_room) {
        return News::Ready;
    }
    if backends.iter().any(is_open) {
        return waking(At::Busy, say("lobby-all-taken").to_owned(), (Duration::ZERO, None));
    }
    if let Some(reason) = &progress.no_room {
        return waking(At::Full, in_a_sentence(&retold(reason)), (Duration::ZERO, None));
    }
    let rung = rung(backends);
    let (elapsed, expected) =
        (shared.clock.now() - since(route, rung, progress), expected(route, rung, progress));
    let at = match (rung, progress.at) {
        (Rung::Hibernated, _) => At::Waking,
        (Rung::Stopped, Step::Building) => At::Building,
        (Rung::Stopped, Step::Starting) => At::Starting,
        (Rung::Stopped, Step::WaitingForPort)
            if expected.is_some_and(|expected| elapsed > almost(expected)) =>
        {
            At::Almost
        }
        (Rung::Stopped, Step::WaitingForPort) => At::Port,
    };
    let step = match at {
        At::Waking => say("lobby-waking-up").to_owned(),
        At::Almost => say("lobby-almost").to_owned(),
        _ => retold(&progress.step),
    };
    waking(at, step, (elapsed, expected))
}

/// What begins in the middle of a sentence, as one of its own.
fn in_a_sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(char::to_uppercase);
    first.into_iter().flatten().chain(letters).collect()
}

fn waking(at: At, step: String, time: (Duration, Option<Duration>)) -> News {
    News::Waking { at, step, elapsed_ms: millis(time.0), expected_ms: time.1.map(millis) }
}

/// From when on an app is almost there.
fn almost(expected: Duration) -> Duration {
    expected * 4 / 5
}

fn is_open(backend: &Backend) -> bool {
    backend.gate.state() == GateState::Open
}

fn has_room(backend: &Backend) -> bool {
    is_open(backend) && backend.gate.has_room()
}

/// Seconds after which the app is likely to be awake, from its own history.
pub(crate) fn retry_after(shared: &Shared, route: &Route) -> u64 {
    let RouteState::On { backends, progress } = &route.state else { return 1 };
    if progress.no_room.is_some() {
        return NO_ROOM_SECONDS;
    }
    let rung = rung(backends);
    let expected = expected(route, rung, progress).unwrap_or(EXPECTED_AT_FIRST);
    let left = expected.saturating_sub(shared.clock.now() - since(route, rung, progress));
    // A build takes long, but somebody who asks rarely waits longer than needed.
    left.as_secs_f64().ceil().clamp(1.0, 60.0) as u64
}

/// How long waking is likely to take, from this app's own history; `None` when it has none.
pub(crate) fn expected(route: &Route, rung: Rung, progress: &Progress) -> Option<Duration> {
    // How long a build takes says nothing about a boot, and the other way round.
    let booting = rung == Rung::Stopped && progress.at != Step::Building;
    let learnt = route.meter.wakes.expected(rung).filter(|_| rung == Rung::Hibernated || booting);
    // What the engine knows of boots outlives a restart of the server.
    learnt.or(progress.expected.filter(|_| booting))
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
        0 | 1 => say("lobby-a-second").to_owned(),
        seconds @ 2..=90 => tell!("lobby-seconds", count = seconds),
        seconds => tell!("lobby-minutes", count = seconds.div_ceil(60)),
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
