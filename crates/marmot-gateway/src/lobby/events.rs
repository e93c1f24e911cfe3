//! News for open lobbies, as server-sent events: `data` tells what goes on, `log` is a line of the app's log.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http::{HeaderValue, Response, header};
use marmot_core::Gate;
use marmot_core::demand::Counted;
use marmot_core::gate::GateState;
use marmot_core::id::UserId;
use marmot_text::{Language, speaking};
use tokio::sync::mpsc;

use super::{At, News, almost, line, may_read, news};
use crate::body::AnswerBody;
use crate::hold::wake;
use crate::opening::{Admission, Caller};
use crate::routes::{Route, RouteState};
use crate::shared::Shared;

/// A stream on which nothing happens says so this often: whoever left is noticed.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Where all places are taken, it is looked this often whether one is free.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// News for one lobby. As long as it is open, an app that wakes is waited for.
pub(crate) struct Events(mpsc::Receiver<Bytes>);

impl Events {
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.0.poll_recv(cx)
    }
}

/// Follows an app until it can be opened. Its log is for those who may read it.
pub(crate) fn events(
    shared: &Arc<Shared>,
    route: &Arc<Route>,
    (caller, viewer): (Caller, Option<UserId>),
    language: Language,
) -> Response<AnswerBody> {
    let (tell, news) = mpsc::channel(16);
    let follow = follow(Arc::clone(shared), Arc::clone(route), (caller, viewer), tell);
    shared.tracker.spawn(speaking(language, follow));
    let mut response = Response::new(AnswerBody::Events(Box::new(Events(news))));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

type Lines = Pin<Box<dyn Stream<Item = String> + Send>>;

/// The lines of an app's log while it wakes. A build's log is another than that of the program it makes.
struct Log {
    lines: Lines,
    of: Option<bool>,
}

impl Log {
    fn new() -> Self {
        Self { lines: Box::pin(stream::pending()), of: None }
    }

    fn follow(&mut self, shared: &Shared, route: &Route, person: Option<UserId>, news: &News) {
        let of = match news {
            News::Waking { at, .. } if may_read(route, person) => Some(*at == At::Building),
            _ => None,
        };
        if std::mem::replace(&mut self.of, of) == of {
            return;
        }
        self.lines = match (of, &shared.logs) {
            // One that ends is followed by nothing, and not by the end of the news.
            (Some(_), Some(logs)) => Box::pin(logs(&route.app).chain(stream::pending())),
            _ => Box::pin(stream::pending()),
        };
    }
}

async fn follow(
    shared: Arc<Shared>,
    route: Arc<Route>,
    (caller, person): (Caller, Option<UserId>),
    tell: mpsc::Sender<Bytes>,
) {
    let app = route.app.clone();
    let mut routes = shared.routes.clone();
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    let (mut told, mut log) = (None, Log::new());
    let mut held: Option<Counted> = None;
    loop {
        let route = routes.borrow_and_update().get(app.as_str()).cloned();
        // Asked anew each time: access may end while somebody looks.
        let Some(route) = route.filter(|route| is_let_in(&shared, route, &caller)) else { return };
        let news = news_for(&shared, &route, person);
        match &news {
            News::Waking { .. } => {
                if held.is_none() {
                    held = Some(route.demand.hold());
                    wake(&shared, &route);
                }
            }
            // One who looks at an app that is off, or out of order, wants nothing of it yet.
            _ => held = None,
        }
        log.follow(&shared, &route, person, &news);
        if !told.as_ref().is_some_and(|told| is_same(told, &news)) {
            if tell.send(event(&news)).await.is_err() || news == News::Ready {
                return;
            }
            told = Some(news.clone());
        }
        tokio::select! {
            changed = routes.changed() => if changed.is_err() { return },
            () = any_opens(&route) => {}
            () = tokio::time::sleep(look_again(&news)) => {}
            Some(text) = log.lines.next() => {
                if tell.send(log_event(&text)).await.is_err() {
                    return;
                }
            }
            _ = heartbeat.tick() => {
                if held.is_some() {
                    route.demand.touch(shared.clock.now());
                }
                if tell.send(Bytes::from_static(b":\n\n")).await.is_err() {
                    return;
                }
            }
            () = tell.closed() => return,
            () = shared.soft_stop.cancelled() => return,
        }
    }
}

fn is_let_in(shared: &Shared, route: &Route, caller: &Caller) -> bool {
    matches!(route.access.admits(caller, shared.tickets.time()), Admission::Until(_))
}

/// What this visitor may know of it.
fn news_for(shared: &Shared, route: &Route, person: Option<UserId>) -> News {
    match news(shared, route) {
        News::Failed { reason, .. } if !may_read(route, person) => {
            News::Failed { reason, last_lines: Vec::new() }
        }
        News::Failed { reason, last_lines } => {
            News::Failed { reason, last_lines: last_lines.iter().map(|text| line::plain(text)).collect() }
        }
        other => other,
    }
}

/// When time alone changes what is told.
fn look_again(news: &News) -> Duration {
    match news {
        News::Waking { at: At::Busy, .. } => LOOK_AGAIN,
        News::Waking { at: At::Port, elapsed_ms, expected_ms: Some(expected_ms), .. } => {
            let left = almost(Duration::from_millis(*expected_ms))
                .saturating_sub(Duration::from_millis(*elapsed_ms));
            left + Duration::from_millis(10)
        }
        _ => HEARTBEAT,
    }
}

/// The script counts the time itself.
fn is_same(told: &News, news: &News) -> bool {
    match (told, news) {
        (
            News::Waking { at, step, expected_ms, .. },
            News::Waking { at: at_now, step: step_now, expected_ms: expected_now, .. },
        ) => (at, step, expected_ms) == (at_now, step_now, expected_now),
        (told, news) => told == news,
    }
}

// JSON has no line breaks, so it cannot end an event early.

fn event(news: &News) -> Bytes {
    format!("data: {}\n\n", serde_json::to_string(news).unwrap_or_default()).into()
}

fn log_event(text: &str) -> Bytes {
    format!("event: log\ndata: {}\n\n", serde_json::Value::from(line::plain(text))).into()
}

/// Waits until a replica wakes, of those that sleep.
async fn any_opens(route: &Route) {
    let gates: Vec<Arc<Gate>> = match &route.state {
        RouteState::On { backends, .. } => backends.iter().map(|backend| Arc::clone(&backend.gate)).collect(),
        RouteState::Off | RouteState::Failed { .. } => Vec::new(),
    };
    let were_open = gates.iter().filter(|gate| gate.state() == GateState::Open).count();
    poll_fn(|context| {
        gates.iter().for_each(|gate| gate.watch(context.waker()));
        let open = gates.iter().filter(|gate| gate.state() == GateState::Open).count();
        if open > were_open { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
