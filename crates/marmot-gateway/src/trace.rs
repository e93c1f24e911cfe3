//! Spans of requests, for whoever collects them: whose trace a request belongs to (W3C Trace Context), whether it is
//! recorded, and what is told of it. Never a query, never a header.
//!
//! Spans go into a queue of fixed length. Nobody waits for it: where it is full, a span is dropped and counted.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Version};
use tokio::sync::mpsc;

use crate::config::Scheme;
use crate::forward::Failure;
use crate::hold::Refusal;
use crate::meter::Rung;
use crate::routes::{Backend, Route};
use crate::slot::Slot;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// What every vendor has to pass on at least, by the specification; more is passed on, too, but not kept.
const STATE_BYTES: usize = 512;
/// Bytes of a path, or of another text of a visitor's, that are kept.
const TEXT_BYTES: usize = 500;
/// Spans that wait to be collected. With the longest texts, three megabytes.
pub const ROOM: usize = 2048;

/// Which requests are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampler {
    /// Who began a trace elsewhere has decided.
    heeds_caller: bool,
    /// Of 2⁶³ traces, so many.
    share: u64,
}

impl Sampler {
    /// Everything, unless the caller has decided otherwise.
    pub const PARENT_OR_ALL: Self = Self { heeds_caller: true, share: 1 << 63 };

    fn decides(self, trace: &[u8; 16], parent: Option<&Context>) -> bool {
        match parent {
            Some(parent) if self.heeds_caller => parent.is_sampled,
            _ => {
                let [.., a, b, c, d, e, f, g, h] = *trace;
                u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1 < self.share
            }
        }
    }
}

/// As `OTEL_TRACES_SAMPLER` names them, with `OTEL_TRACES_SAMPLER_ARG` behind an equals sign.
impl FromStr for Sampler {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let own = text.strip_prefix("parentbased_");
        let (name, share) = own.unwrap_or(text).split_once('=').unwrap_or((own.unwrap_or(text), "1"));
        let share: f64 = share.trim().parse().map_err(|_| ())?;
        if !(0.0..=1.0).contains(&share) {
            return Err(());
        }
        let share = match name {
            "always_on" => 1.0,
            "always_off" => 0.0,
            "traceidratio" => share,
            _ => return Err(()),
        };
        #[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "from 0 to 2⁶³")]
        let share = (share * (1_u64 << 63) as f64) as u64;
        Ok(Self { heeds_caller: own.is_some(), share })
    }
}

/// Where in a trace something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Context {
    trace: [u8; 16],
    span: [u8; 8],
    is_sampled: bool,
}

impl Context {
    /// Reads a `traceparent`. `None`: what is no such thing begins no trace, and goes no further.
    pub(crate) fn read(headers: &HeaderMap) -> Option<Self> {
        let mut fields = headers.get_all(TRACEPARENT).iter();
        let field = fields.next()?.as_bytes();
        if fields.next().is_some() || field.get(2) != Some(&b'-') || field.get(35) != Some(&b'-') {
            return None;
        }
        let [version] = hex(field.get(..2)?)?;
        // Versions to come may say more behind another hyphen; this one ends there.
        let is_known = match (version, field.get(55)) {
            (0xff, _) => false,
            (_, None) => true,
            (0, Some(_)) => false,
            (_, Some(next)) => *next == b'-',
        };
        if !is_known || field.get(52) != Some(&b'-') {
            return None;
        }
        let (trace, span) = (hex(field.get(3..35)?)?, hex(field.get(36..52)?)?);
        let [flags]: [u8; 1] = hex(field.get(53..55)?)?;
        (trace != [0; 16] && span != [0; 8]).then_some(Self { trace, span, is_sampled: flags & 1 == 1 })
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, span) = (u128::from_be_bytes(self.trace), u64::from_be_bytes(self.span));
        write!(f, "00-{trace:032x}-{span:016x}-{:02x}", u8::from(self.is_sampled))
    }
}

/// Digits in lower case alone, as the specification has them.
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    if digits.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// What kind of work a span tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Answering a request.
    Server,
    /// Something on the way to that.
    Internal,
    /// Asking a replica.
    Client,
}

/// What is said of a span.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A number.
    Number(i64),
}

/// A piece of work that is done.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// The trace that it is part of.
    pub trace: [u8; 16],
    /// Itself.
    pub id: [u8; 8],
    /// What it was part of, here or at the caller's.
    pub parent: Option<[u8; 8]>,
    /// The caller's `tracestate`.
    pub state: String,
    /// What it was.
    pub kind: Kind,
    /// Of few different ones.
    pub name: &'static str,
    /// When it began.
    pub began: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// What there is to say of it, by the names that OpenTelemetry gives such things.
    pub attributes: Vec<(&'static str, Value)>,
    /// It did not do what it was for.
    pub is_failed: bool,
}

/// How many spans there were.
#[derive(Debug, Default)]
pub struct Counts {
    /// A collector has taken them.
    pub sent: AtomicU64,
    /// There was no room in the queue.
    pub crowded_out: AtomicU64,
    /// No collector took them.
    pub refused: AtomicU64,
}

/// Makes spans of requests.
#[derive(Debug)]
pub struct Tracer {
    sampler: Sampler,
    spans: mpsc::Sender<Span>,
    counts: Arc<Counts>,
}

impl Tracer {
    /// With the queue that its spans are taken from.
    pub fn new(sampler: Sampler, room: usize) -> (Self, mpsc::Receiver<Span>) {
        let (spans, queue) = mpsc::channel(room);
        (Self { sampler, spans, counts: Arc::default() }, queue)
    }

    /// What becomes of its spans.
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    fn done(&self, span: Span) {
        if self.spans.try_send(span).is_err() {
            self.counts.crowded_out.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A request that is traced, while it is answered. Dropped before it has ended: whoever asked has left.
pub(crate) struct Traced {
    context: Context,
    state: String,
    /// It came with no `traceparent` that can be read.
    begins_here: bool,
    own: Open,
}

impl Traced {
    /// `app`: `None` for the platform itself.
    pub(crate) fn begin<B>(
        tracer: &Arc<Tracer>,
        request: &Request<B>,
        (scheme, host): (Scheme, &str),
        app: Option<&Route>,
        request_id: &HeaderValue,
    ) -> Self {
        let parent = Context::read(request.headers());
        let trace = parent.map_or_else(new_id, |parent| parent.trace);
        let is_sampled = tracer.sampler.decides(&trace, parent.as_ref());
        let context = Context { trace, span: new_id(), is_sampled };
        let state = if parent.is_some() && is_sampled { state(request.headers()) } else { String::new() };
        let mut own = Open::begin(
            tracer,
            context,
            parent.map(|parent| parent.span),
            &state,
            method(request.method()),
            Kind::Server,
        );
        if let Some(span) = &mut own.span {
            describe(span, request, (scheme, host), app, request_id);
        }
        Self { context, state, begins_here: parent.is_none(), own }
    }

    fn child(&self, name: &'static str, kind: Kind) -> Open {
        let context = Context { span: new_id(), ..self.context };
        Open::begin(&self.own.tracer, context, Some(self.context.span), &self.state, name, kind)
    }

    /// Waiting for a replica begins. `rung`: none is awake.
    pub(crate) fn wait(&self, rung: Option<Rung>) -> Open {
        let mut open = self.child("wait for a replica", Kind::Internal);
        if let Some(rung) = rung {
            open.say("marmot.wake.rung", Value::Text(rung.as_str().to_owned()));
        }
        open
    }

    /// Asking a replica begins: what it does for that belongs below this.
    pub(crate) fn ask(&self, method_: &Method, headers: &mut HeaderMap, backend: &Backend) -> Open {
        let mut open = self.child(method(method_), Kind::Client);
        let context = open.context;
        if let Ok(value) = HeaderValue::try_from(context.to_string()) {
            headers.insert(TRACEPARENT, value);
        }
        if self.begins_here {
            headers.remove(TRACESTATE);
        }
        open.say_with("http.request.method", || Value::Text(known(method_).to_owned()));
        open.say_with("server.address", || Value::Text(backend.address.ip().to_string()));
        open.say_with("server.port", || Value::Number(backend.address.port().into()));
        open.say_with("marmot.replica", || Value::Text(backend.replica.to_string()));
        open
    }

    pub(crate) fn end(self, status: StatusCode) {
        let mut own = self.own;
        own.answered(status);
        // What a client did wrong is no failure of who answers it.
        own.end(status.is_server_error());
    }
}

/// A span under way.
pub(crate) struct Open {
    tracer: Arc<Tracer>,
    context: Context,
    began: Instant,
    /// `None`: it is not recorded, or has ended.
    span: Option<Box<Span>>,
}

impl Open {
    fn begin(
        tracer: &Arc<Tracer>,
        context: Context,
        parent: Option<[u8; 8]>,
        state: &str,
        name: &'static str,
        kind: Kind,
    ) -> Self {
        let span = context.is_sampled.then(|| {
            Box::new(Span {
                trace: context.trace,
                id: context.span,
                parent,
                state: state.to_owned(),
                kind,
                name,
                began: SystemTime::now(),
                took: Duration::ZERO,
                attributes: Vec::with_capacity(10),
                is_failed: false,
            })
        });
        Self { tracer: Arc::clone(tracer), context, began: Instant::now(), span }
    }

    fn say(&mut self, name: &'static str, value: Value) {
        self.say_with(name, || value);
    }

    fn say_with(&mut self, name: &'static str, value: impl FnOnce() -> Value) {
        if let Some(span) = &mut self.span {
            span.attributes.push((name, value()));
        }
    }

    fn answered(&mut self, status: StatusCode) {
        self.say("http.response.status_code", Value::Number(status.as_u16().into()));
        if status.is_server_error() {
            self.say_with("error.type", || Value::Text(status.as_str().to_owned()));
        }
    }

    fn end(mut self, is_failed: bool) {
        if let Some(mut span) = self.span.take() {
            span.took = self.began.elapsed();
            span.is_failed = is_failed;
            self.tracer.done(*span);
        }
    }

    /// A turn came, or none.
    pub(crate) fn end_wait(mut self, turn: &Result<Slot, Refusal>) {
        match turn {
            Ok(slot) => {
                let millis =
                    |time: Duration| Value::Number(i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
                self.say("marmot.wake.milliseconds", millis(slot.waited.wake));
                self.say("marmot.queue.milliseconds", millis(slot.waited.queue));
            }
            Err(refusal) => self.say("error.type", Value::Text(refused(refusal).to_owned())),
        }
        self.end(turn.is_err());
    }

    /// Instead, a person was shown the lobby.
    pub(crate) fn end_in_lobby(mut self) {
        self.say_with("marmot.wait.end", || Value::Text("lobby".to_owned()));
        self.end(false);
    }

    /// The replica's answer began, or will not.
    pub(crate) fn end_asking<B>(mut self, answer: &Result<http::Response<B>, Failure>) {
        match answer {
            Ok(response) => {
                let status = response.status();
                self.answered(status);
                self.end(status.is_client_error() || status.is_server_error());
            }
            Err(failure) => {
                self.say("error.type", Value::Text(failed(failure).to_owned()));
                self.end(true);
            }
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(mut span) = self.span.take() {
            span.took = self.began.elapsed();
            span.is_failed = true;
            span.attributes.push(("error.type", Value::Text("cancelled".to_owned())));
            self.tracer.done(*span);
        }
    }
}

fn describe<B>(
    span: &mut Span,
    request: &Request<B>,
    (scheme, host): (Scheme, &str),
    app: Option<&Route>,
    request_id: &HeaderValue,
) {
    let text = |text: &str| Value::Text(kept(text).to_owned());
    let method = known(request.method());
    span.attributes.push(("http.request.method", text(method)));
    if method != request.method().as_str() {
        span.attributes.push(("http.request.method_original", text(request.method().as_str())));
    }
    span.attributes.push(("url.scheme", text(scheme.as_str())));
    let path = request.uri().path();
    // The platform's own paths may be what lets somebody in: `/password/CODE`.
    let path = if app.is_some() { path } else { first_segment(path) };
    span.attributes.push(("url.path", text(path)));
    let end = host.rfind(':').filter(|colon| !host[*colon..].contains(']'));
    span.attributes.push(("server.address", text(&host[..end.unwrap_or(host.len())])));
    if let Some(port) = end.and_then(|colon| host[colon + 1..].parse().ok()) {
        span.attributes.push(("server.port", Value::Number(port)));
    }
    let version = match request.version() {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    };
    span.attributes.push(("network.protocol.version", text(version)));
    span.attributes.push(("marmot.request_id", text(request_id.to_str().unwrap_or_default())));
    if let Some(route) = app {
        span.attributes.push(("marmot.app", text(route.app.as_str())));
    }
}

fn first_segment(path: &str) -> &str {
    let rest = path.strip_prefix('/').unwrap_or(path);
    rest.find('/').map_or(path, |slash| &path[..=slash + (path.len() - rest.len())])
}

fn kept(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES)]
}

/// The caller's `tracestate`, where it is of a length that everybody passes on.
fn state(headers: &HeaderMap) -> String {
    let fields = headers.get_all(TRACESTATE).iter().filter_map(|field| field.to_str().ok());
    let state = fields.collect::<Vec<_>>().join(",");
    if state.len() > STATE_BYTES { String::new() } else { state }
}

/// A span's name must be one of few, and methods are what clients make up.
fn method(method: &Method) -> &'static str {
    match known(method) {
        "_OTHER" => "HTTP",
        known => known,
    }
}

fn known(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "CONNECT" => "CONNECT",
        "OPTIONS" => "OPTIONS",
        "PATCH" => "PATCH",
        _ => "_OTHER",
    }
}

fn refused(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Crowded => "crowded",
        Refusal::TooLate => "too_late",
        Refusal::Off => "off",
        Refusal::Failed { .. } => "cannot_start",
        Refusal::NoRoom { .. } => "no_room",
        Refusal::Stopping => "stopping",
    }
}

fn failed(failure: &Failure) -> &'static str {
    match failure {
        Failure::Refused(refusal) => refused(refusal),
        Failure::Broken(_) => "broken",
        Failure::Silent => "silent",
        Failure::Client => "request_incomplete",
        Failure::TooSlow => "request_too_slow",
        Failure::TooLarge { .. } => "request_too_large",
        Failure::Nonsense => "nonsense",
        Failure::AccessLost => "access_lost",
    }
}

/// Not all zeros, which means none.
fn new_id<const N: usize>() -> [u8; N] {
    loop {
        let mut id = [0; N];
        rand::fill(&mut id);
        if id != [0; N] {
            return id;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &[&str]) -> Option<Context> {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(TRACEPARENT, HeaderValue::from_str(field).unwrap());
        }
        Context::read(&headers)
    }

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_read_as_the_specification_has_it_or_not_at_all() {
        let context = read(&[GOOD]).unwrap();
        assert_eq!(context.to_string(), GOOD);
        let later = GOOD.replacen("00", "cc", 1) + "-what-comes-later";
        assert_eq!(read(&[&later]), Some(context));
        assert!(
            !read(&[&GOOD.replace("-01", "-02")]).unwrap().is_sampled,
            "the other flags mean something else"
        );
        let upper = GOOD.to_uppercase();
        for bad in [
            "",
            "00",
            &upper,
            &GOOD[..54],
            &(GOOD.to_owned() + "-more"),
            &GOOD.replacen("00", "ff", 1),
            &later.replace("-what", "what"),
            &GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &GOOD.replace("-00f0", "_00f0"),
            &GOOD.replace("4bf9", "4bg9"),
        ] {
            assert_eq!(read(&[bad]), None, "{bad}");
        }
        assert_eq!(read(&[GOOD, GOOD]), None);
    }

    #[test]
    fn the_caller_decides_where_it_is_heeded_and_else_the_share_of_traces() {
        let trace = |last: u64| {
            let mut trace = [9; 16];
            trace[8..].copy_from_slice(&last.to_be_bytes());
            trace
        };
        let sampled = read(&[GOOD]).unwrap();
        let unsampled = Context { is_sampled: false, ..sampled };
        let decides = |sampler: &str, last, parent: Option<&Context>| {
            sampler.parse::<Sampler>().unwrap().decides(&trace(last), parent)
        };
        for (sampler, root, after_no, after_yes) in [
            ("always_on", true, true, true),
            ("always_off", false, false, false),
            ("parentbased_always_on", true, false, true),
            ("parentbased_always_off", false, false, true),
        ] {
            assert_eq!(decides(sampler, u64::MAX, None), root, "{sampler}");
            assert_eq!(decides(sampler, u64::MAX, Some(&unsampled)), after_no, "{sampler}");
            assert_eq!(decides(sampler, 0, Some(&sampled)), after_yes, "{sampler}");
        }
        for sampler in ["traceidratio=0.25", "parentbased_traceidratio=0.25"] {
            assert!(decides(sampler, u64::MAX / 4 - 9, None) && !decides(sampler, u64::MAX / 4 + 9, None));
        }
        assert!(!decides("traceidratio=0.25", u64::MAX, Some(&sampled)));
        for wrong in
            ["", "sometimes", "traceidratio=2", "traceidratio=-1", "traceidratio=NaN", "jaeger_remote"]
        {
            assert_eq!(wrong.parse::<Sampler>(), Err(()), "{wrong}");
        }
    }

    #[test]
    fn a_queue_that_is_full_drops_and_counts() {
        let (tracer, mut queue) = Tracer::new(Sampler::PARENT_OR_ALL, 2);
        let tracer = Arc::new(tracer);
        let request = Request::get("http://iris.localhost/plot?token=secret").body(()).unwrap();
        let begin = || {
            let host = (Scheme::Http, "iris.localhost:8080");
            Traced::begin(&tracer, &request, host, None, &HeaderValue::from_static("id"))
        };
        for _ in 0..5 {
            begin().end(StatusCode::OK);
        }
        assert_eq!(tracer.counts.crowded_out.load(Ordering::Relaxed), 3);
        let span = queue.try_recv().unwrap();
        assert!(!format!("{span:?}").contains("secret"), "{span:?}");
        drop(begin());
        let _ = queue.try_recv();
        let left = queue.try_recv().unwrap();
        assert_eq!(left.attributes.last(), Some(&("error.type", Value::Text("cancelled".to_owned()))));
        assert!(left.is_failed);
    }

    #[test]
    fn what_may_be_a_secret_in_the_platforms_paths_is_not_told() {
        for (path, told) in [
            ("/", "/"),
            ("/apps", "/apps"),
            ("/password/2d5f", "/password/"),
            ("/api/v1/apps", "/api/"),
            ("*", "*"),
        ] {
            assert_eq!(first_segment(path), told);
        }
    }
}
