//! What changes on a page while somebody looks at it: fragments that replace those on the page.
//!
//! A stream draws its page's fragments again whenever anything changed, and sends those that differ. It starts with
//! all of them, so that a browser that was away, or whose server was restarted, sees the truth at once. Who looks is
//! asked anew each time: a session that is over, or a membership that ended, ends the stream.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};

use super::Web;
use super::respond::Failed;
use crate::model::Secret;
use crate::service::{Changes, Identity};

/// Proxies close a connection that is silent for a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// The parts of a page that may change.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    /// Everything that surrounds the parts: when it differs, it is sent as a whole with the parts inside.
    pub(super) around: Option<Around>,
    pub(super) parts: Vec<Part>,
}

/// What surrounds the parts.
#[derive(Debug)]
pub(super) struct Around {
    /// Differs when the surroundings do.
    pub(super) key: String,
    /// The surroundings with the parts inside.
    pub(super) html: String,
}

/// A part that is replaced by itself.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) id: String,
    /// The part, marked to replace the one with its id.
    pub(super) html: String,
    /// What a screen reader is told when it differs from before.
    pub(super) told: String,
}

/// What a browser has been sent.
#[derive(Debug, Default)]
struct Sent {
    around: Option<String>,
    parts: HashMap<String, (String, String)>,
}

impl Sent {
    /// What is to be sent so that the browser shows these fragments; empty when it does.
    fn bring_to(&mut self, fragments: Fragments) -> String {
        let mut html = String::new();
        let mut told = Vec::new();
        let key = fragments.around.as_ref().map(|around| around.key.clone());
        let whole = key != self.around;
        if let Some(around) = fragments.around.filter(|_| whole) {
            html.push_str(&around.html);
        }
        let before = std::mem::take(&mut self.parts);
        for part in fragments.parts {
            match before.get(&part.id) {
                Some((html_before, _)) if *html_before == part.html => {}
                seen => {
                    if !(whole && key.is_some()) {
                        html.push_str(&part.html);
                    }
                    if seen.is_some_and(|(_, told_before)| *told_before != part.told) {
                        told.push(part.told.clone());
                    }
                }
            }
            self.parts.insert(part.id, (part.html, part.told));
        }
        self.around = key;
        if !told.is_empty() {
            let told = super::respond::escaped(&told.join(" "));
            html.push_str(&format!(
                "<p class=\"hidden-visually\" role=\"status\" id=\"announce\" hx-swap-oob=\"morph\">{told}</p>"
            ));
        }
        html
    }
}

/// An event that hands fragments to the page.
pub(super) fn event(html: &str) -> Event {
    // A line of an event may end with a carriage return too, and a description may hold one.
    Event::default().event("fragments").data(html.replace('\r', ""))
}

struct Watching<Draw> {
    web: Web,
    session: Option<Secret>,
    draw: Draw,
    changes: Changes,
    sent: Sent,
    started: bool,
}

/// The fragments that `draw` draws for whoever has this session, now and whenever they change.
pub(super) fn fragments<Draw, Drawn>(
    web: Web,
    session: Option<Secret>,
    draw: Draw,
) -> impl Stream<Item = String> + Send + use<Draw, Drawn>
where
    Draw: Fn(Web, Identity) -> Drawn + Send + 'static,
    Drawn: Future<Output = Result<Fragments, Failed>> + Send + 'static,
{
    // Subscribed before the first look, so that nothing in between is missed.
    let changes = web.service.changes();
    let watching = Watching { web, session, draw, changes, sent: Sent::default(), started: false };
    stream::unfold(watching, |mut watching| async move {
        loop {
            if watching.started {
                tokio::select! {
                    () = watching.web.stop.cancelled() => return None,
                    go_on = watching.changes.look_again() => if !go_on { return None },
                }
            }
            watching.started = true;
            let who = watching.web.identify(watching.session.as_ref()).await.ok()?;
            let fragments = (watching.draw)(watching.web.clone(), who).await.ok()?;
            let html = watching.sent.bring_to(fragments);
            if !html.is_empty() {
                return Some((html, watching));
            }
        }
    })
}

/// Answers with a stream of fragments that ends when the server stops.
pub(super) fn respond(web: &Web, fragments: impl Stream<Item = String> + Send + 'static) -> Response {
    let stop = web.stop.clone();
    // The answer has been given when the stream is read: it goes on in the language that was spoken then.
    let language = marmot_text::spoken();
    let mut fragments = Box::pin(fragments);
    let fragments = stream::poll_fn(move |context| {
        marmot_text::speaking_now(language, || fragments.as_mut().poll_next(context))
    });
    let events = fragments
        .take_until(async move { stop.cancelled().await })
        .map(|html| Ok::<_, Infallible>(event(&html)));
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    // Some proxies keep a stream back until it is long enough.
    response.headers_mut().insert("x-accel-buffering", axum::http::HeaderValue::from_static("no"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragments(key: &str, parts: &[(&str, &str, &str)]) -> Fragments {
        let part = |(id, html, told): &(&str, &str, &str)| Part {
            id: (*id).to_owned(),
            html: (*html).to_owned(),
            told: (*told).to_owned(),
        };
        let around = Some(Around { key: key.to_owned(), html: format!("[{key}]") });
        Fragments { around, parts: parts.iter().map(part).collect() }
    }

    #[test]
    fn only_what_differs_is_sent_and_told() {
        let mut sent = Sent::default();
        assert_eq!(sent.bring_to(fragments("ab", &[("a", "A1", "on"), ("b", "B1", "off")])), "[ab]");
        assert_eq!(sent.bring_to(fragments("ab", &[("a", "A1", "on"), ("b", "B1", "off")])), "");
        assert_eq!(sent.bring_to(fragments("ab", &[("a", "A2", "on"), ("b", "B1", "off")])), "A2");
        let told = sent.bring_to(fragments("ab", &[("a", "A2", "on"), ("b", "B2", "<on>")]));
        assert!(told.starts_with("B2<p") && told.contains(">&#60;on&#62;</p>"), "{told}");
        assert_eq!(sent.bring_to(fragments("a", &[("a", "A2", "on")])), "[a]");
    }
}
