//! The life of a request: checked, routed by host, let in or held, forwarded.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header, request};
use http_body::Body as HttpBody;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use marmot_core::gate::GateState;
use marmot_core::id::UserId;
use marmot_text::{Language, Message, speaking_now};
use tower::{Service, ServiceExt as _};

use crate::access_log::Line;
use crate::affinity::Guest;
use crate::answers::{Problem, Reader, Words, language, proof, reader, redirect};
use crate::arrival::receive;
use crate::body::{AnswerBody, BoxError, RequestBody};
use crate::check::{Malformed, check};
use crate::config::Scheme;
use crate::doorkeeper::{self, Doorstep, Entry};
use crate::forward::{Failure, Outgoing, Upgrade, forward, is_grpc};
use crate::headers::{self, Visitor};
use crate::hold::{Refusal, admit, hold, rung, unshare, wake, weight};
use crate::host::{Host, Target};
use crate::lobby;
use crate::opening::Caller;
use crate::quota;
use crate::routes::{Backend, Progress, Route, RouteState};
use crate::shared::Shared;
use crate::slot::Slot;
use crate::stay::{self, Stay};
use crate::trace::Traced;
use crate::trust::origin;

/// Paths below this one on an app's host are the gateway's own.
pub(crate) const RESERVED: &str = "/.marmot/";

/// Where a request to the platform came from. Among the extensions of each request that is handed to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// Answers one request. `clear`: its framing can be read in one way only.
pub(crate) async fn handle<P, B>(
    shared: &Arc<Shared>,
    platform: &P,
    peer: SocketAddr,
    clear: bool,
    mut request: Box<Request<Incoming>>,
) -> Response<AnswerBody>
where
    P: Service<Request<Incoming>, Response = Response<B>> + Clone,
    P::Error: Into<BoxError>,
    B: HttpBody<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let checked = if clear { check(&request, &shared.config.limits) } else { Err(Malformed::Framing) };
    let host = match checked {
        // Kept apart from the request, which is rewritten on its way.
        Ok(host) => host.to_owned(),
        Err(malformed) => return refuse(malformed, &request),
    };
    let request_id = headers::request_id(request.headers());
    let config = &shared.config;
    let (peer, scheme) = origin(&config.trusted_proxies, peer, config.scheme, request.headers());
    let target = Host::parse(&host).map_or(Target::Nobody, |host| host.target(&shared.config));
    let mut response = match target {
        Target::Platform => {
            let traced = trace(shared, &request, (scheme, &host), None, &request_id);
            headers::remove_claims(request.headers_mut());
            request.headers_mut().insert(headers::X_REQUEST_ID, request_id.clone());
            request.extensions_mut().insert(Peer(peer));
            let response = Box::pin(ask_platform(platform.clone(), *request)).await;
            if let Some(traced) = traced {
                traced.end(response.status());
            }
            response
        }
        Target::App(label) => match find(shared, label) {
            Some(route) => {
                let (host, meter) = (&host, Arc::clone(&route.meter));
                let line = Line::begin(&shared.config, &route, peer, &request);
                let line = line.map(|line| (line, Arc::clone(&route)));
                let is_http1 = request.version() < Version::HTTP_2;
                let traced = trace(shared, &request, (scheme, host), Some(&route), &request_id);
                let app = App {
                    shared,
                    route,
                    peer,
                    scheme,
                    is_http1,
                    host,
                    request_id: &request_id,
                    traced: traced.as_deref(),
                };
                let response = app.answer(request).await;
                meter.answered(response.status());
                if let Some(traced) = traced {
                    traced.end(response.status());
                }
                if let Some((line, route)) = line {
                    line.end(&route, response.status(), &request_id, shared.tickets.time());
                }
                response
            }
            None => of_nobody(&request, &host, StatusCode::NOT_FOUND),
        },
        Target::Nobody => of_nobody(&request, &host, StatusCode::MISDIRECTED_REQUEST),
    };
    response.headers_mut().entry(headers::X_REQUEST_ID).or_insert(request_id);
    response
}

/// Begins to tell of a request, where somebody collects that.
fn trace<B>(
    shared: &Shared,
    request: &Request<B>,
    address: (Scheme, &str),
    app: Option<&Route>,
    request_id: &HeaderValue,
) -> Option<Box<Traced>> {
    let tracer = shared.tracer.as_ref()?;
    Some(Box::new(Traced::begin(tracer, request, address, app, request_id)))
}

fn refuse<B>(malformed: Malformed, request: &Request<B>) -> Response<AnswerBody> {
    let title = Words::Plain("The request cannot be served".to_owned());
    let mut response = Problem::new(malformed.status(), title, Words::Plain(malformed.to_string()))
        .answer(reader(request.method(), request.headers()));
    if request.version() < Version::HTTP_2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Sends who came in plain text to the same address by `https://`, on this port. A program that sent something with
/// its request has sent it in plain text: it is told, and has to be put right.
pub(crate) fn to_https<B>(
    shared: &Shared,
    port: u16,
    clear: bool,
    request: &Request<B>,
) -> Response<AnswerBody> {
    let checked = if clear { check(request, &shared.config.limits) } else { Err(Malformed::Framing) };
    let host = match checked {
        Ok(host) => host,
        Err(malformed) => return refuse(malformed, request),
    };
    let reader = reader(request.method(), request.headers());
    let host = match Host::parse(host) {
        Some(known) if known.target(&shared.config) != Target::Nobody => known.name,
        _ => return nobody(reader, host, StatusCode::MISDIRECTED_REQUEST),
    };
    let proved = shared.config.tls.as_ref().and_then(|tls| {
        let is_asked = *request.method() == Method::GET;
        tls.certificates.http_proof(host, request.uri().path()).filter(|_| is_asked)
    });
    if let Some(answer) = proved {
        return proof(answer);
    }
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    let path = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let secure = format!("https://{host}{port}{path}");
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let detail = Message::new("gw-plain-text-about").with("address", secure);
        return Problem::new(StatusCode::FORBIDDEN, "gw-plain-text", detail).answer(reader);
    }
    let mut response = redirect(&secure);
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response
}

async fn ask_platform<P, B>(platform: P, request: Request<Incoming>) -> Response<AnswerBody>
where
    P: Service<Request<Incoming>, Response = Response<B>>,
    P::Error: Into<BoxError>,
    B: HttpBody<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let reader = reader(request.method(), request.headers());
    match platform.oneshot(request).await {
        Ok(response) => response.map(|body| AnswerBody::Platform(body.map_err(Into::into).boxed_unsync())),
        Err(error) => {
            tracing::error!(error = error.into(), "the platform did not answer a request");
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            Problem::new(status, "gw-went-wrong", "gw-went-wrong-about").answer(reader)
        }
    }
}

fn find(shared: &Shared, label: &str) -> Option<Arc<Route>> {
    if label.bytes().any(|byte| byte.is_ascii_uppercase()) {
        shared.find(&label.to_ascii_lowercase())
    } else {
        shared.find(label)
    }
}

/// What there is where no app is: the page that says so, and what it is drawn with.
fn of_nobody<B>(request: &Request<B>, host: &str, status: StatusCode) -> Response<AnswerBody> {
    let own = request.uri().path().strip_prefix(RESERVED).and_then(lobby::asset);
    own.unwrap_or_else(|| nobody(reader(request.method(), request.headers()), host, status))
}

fn nobody(reader: Reader, host: &str, status: StatusCode) -> Response<AnswerBody> {
    let detail = Message::new("gw-nothing-here-about").with("host", host);
    Problem::new(status, "gw-nothing-here", detail).answer(reader)
}

/// A request to an app.
struct App<'a> {
    shared: &'a Arc<Shared>,
    route: Arc<Route>,
    peer: SocketAddr,
    scheme: Scheme,
    is_http1: bool,
    host: &'a str,
    request_id: &'a HeaderValue,
    traced: Option<&'a Traced>,
}

impl App<'_> {
    async fn answer(&self, request: Box<Request<Incoming>>) -> Response<AnswerBody> {
        let reader = reader(request.method(), request.headers());
        let path = request.uri().path();
        if let Some(file) = path.strip_prefix(RESERVED)
            && let Some(asset) = lobby::asset(file)
        {
            return asset;
        }
        // Before access is looked at: a change in between is seen later.
        let epoch = self.shared.epoch.load(Ordering::Acquire);
        let (shared, route, client) = (self.shared, &*self.route, self.peer.ip());
        let doorstep = Doorstep { shared, route, host: self.host, client, reader };
        let (caller, until) = match doorkeeper::enter(&doorstep, &request) {
            Entry::Welcome(caller, until) => (caller, until),
            Entry::Answer(response) => return *response,
        };
        let (places, told) = match quota::take(shared, route, client, &caller) {
            Ok(taken) => taken,
            Err(too_much) => return too_much.answer(reader),
        };
        let stay = Stay::new(caller, until, epoch, places);
        // Whoever showed something to be let in is sent away as soon as it is worth nothing any more, also while they wait;
        // and whoever sends something, while they send it.
        let mut response = match &stay.caller {
            // What has no body is judged when its answer begins, and from then on.
            Caller::Anybody if HttpBody::is_end_stream(request.body()) => {
                self.let_in(request, reader, stay).await
            }
            known => {
                let lost = Box::pin(stay::lost(shared, &route.app, known));
                tokio::select! {
                    biased;
                    response = self.let_in(request, reader, stay) => response,
                    () = lost => self.explain(Failure::AccessLost, reader, None),
                }
            }
        };
        if let Some(told) = told {
            told.to(response.headers_mut());
        }
        response
    }

    /// Answers a request of one who may open the app.
    async fn let_in(
        &self,
        mut request: Box<Request<Incoming>>,
        reader: Reader,
        mut stay: Stay,
    ) -> Response<AnswerBody> {
        if let Some(own) = request.uri().path().strip_prefix(RESERVED) {
            return match own {
                "events" if request.method() == Method::GET => {
                    // Whoever looks at an app that sleeps wakes it.
                    if is_asleep(self.route.backends())
                        && let Err(wait) = quota::may_wake(self.shared, &self.route, self.peer.ip())
                    {
                        return quota::awake_enough(wait, reader);
                    }
                    let viewer = self.viewer(&stay.caller, &request);
                    lobby::events(
                        self.shared,
                        &self.route,
                        (stay.caller, viewer),
                        language(request.headers()),
                    )
                }
                // Where an app is for everyone, its members sign in to see more.
                "sign-in" if request.method() == Method::GET => {
                    doorkeeper::sign_in(self.shared, &self.route, &request)
                }
                _ => nobody(reader, self.host, StatusCode::NOT_FOUND),
            };
        }
        let viewer = (reader.is_person()).then(|| self.viewer(&stay.caller, &request)).flatten();
        let progress = match &self.route.state {
            RouteState::On { progress, .. } => progress,
            RouteState::Off => return self.off(reader, viewer),
            RouteState::Failed { reason, .. } => {
                if let Err(wait) = quota::may_wake(self.shared, &self.route, self.peer.ip()) {
                    return quota::awake_enough(wait, reader);
                }
                // Asked for: the engine may try once more.
                self.route.demand.touch(self.shared.clock.now());
                (self.shared.nudge)(&self.route.app);
                return self.failed(reason.english(), reader, viewer);
            }
        };
        let upgrade = headers::wanted_upgrade(&request);
        let returns = reader.is_person() || upgrade.is_some();
        let guest = Guest::of(self.shared, &self.route.app, request.headers(), returns);
        let client = upgrade.is_some().then(|| Upgrade {
            over_http2: request.version() == Version::HTTP_2,
            client: hyper::upgrade::on(&mut *request),
        });
        let (mut parts, body) = request.into_parts();
        let mut body = if HttpBody::is_end_stream(&body) {
            RequestBody::Empty
        } else {
            let speaks_first =
                parts.version == Version::HTTP_2 && is_grpc(&parts.headers) || client.is_some();
            match Box::pin(receive(self.shared, &self.route, body, speaks_first, self.is_http1)).await {
                Ok(body) => body,
                Err(failure) => return self.explain(failure, reader, viewer),
            }
        };
        let slot = match admit(self.shared, &self.route, guest) {
            Some(slot) => slot,
            // Boxed, as what else only some requests come to: each would carry, and move, the place for it.
            None => {
                let turn = Box::pin(self.wait(&mut parts, &mut body, guest, reader, progress, viewer));
                match turn.await {
                    Ok(slot) => slot,
                    Err(response) => return *response,
                }
            }
        };
        if stay.is_over(self.shared, &self.route.app) {
            return self.explain(Failure::AccessLost, reader, viewer);
        }
        let visitor = Visitor {
            peer: self.peer,
            scheme: self.scheme,
            host: self.host,
            request_id: self.request_id,
            caller: &stay.caller,
            identity: self.identity(&stay.caller),
        };
        headers::rewrite_request(&mut parts, visitor, upgrade);
        let asking = self.traced.map(|traced| traced.ask(&parts.method, &mut parts.headers, &slot.backend));
        // Apart from the rest, so that a request that waits takes no memory for what comes after.
        let answer = Box::pin(forward(self.shared, Outgoing { parts, body, upgrade: client, stay }, slot));
        let answer = answer.await;
        if let Some(asking) = asking {
            asking.end_asking(&answer);
        }
        match answer {
            Ok(response) => response,
            Err(failure) => self.explain(failure, reader, viewer),
        }
    }

    /// Who this is, signed, for the app.
    fn identity(&self, caller: &Caller) -> Option<HeaderValue> {
        let (shared, app) = (self.shared, &self.route.app);
        let identities = shared.identities.as_ref()?;
        shared.tokens.of(identities, app, || shared.app_address(app), caller, shared.tickets.time())
    }

    /// Waits for a replica; a person who would wait longer than a moment is shown the lobby.
    async fn wait(
        &self,
        parts: &mut request::Parts,
        body: &mut RequestBody,
        guest: Guest,
        reader: Reader,
        progress: &Progress,
        visitor: Option<UserId>,
    ) -> Result<Slot, Box<Response<AnswerBody>>> {
        if wakes_nobody(&parts.method, &parts.headers) {
            let language = language(&parts.headers);
            return Err(Box::new(speaking_now(language, || lobby::preview(&self.route))));
        }
        if is_asleep(self.route.backends())
            && let Err(wait) = quota::may_wake(self.shared, &self.route, self.peer.ip())
        {
            return Err(Box::new(quota::awake_enough(wait, reader)));
        }
        if reader == Reader::Program
            && is_asleep(self.route.backends())
            && let Some(reason) = &progress.no_room
        {
            // Asked for: it starts as soon as there is room.
            self.route.demand.touch(self.shared.clock.now());
            (self.shared.nudge)(&self.route.app);
            let refusal = Refusal::NoRoom { reason: reason.clone() };
            return Err(Box::new(self.explain(refusal.into(), reader, visitor)));
        }
        unshare(parts);
        body.unshare();
        let backends = self.route.backends();
        let waiting = self.traced.map(|traced| traced.wait(is_asleep(backends).then(|| rung(backends))));
        let hold = || hold(self.shared, &self.route, guest, weight(parts) + body.kept(), None);
        let turn = if reader == Reader::Program {
            hold().await
        } else {
            let patience = self.patience(progress);
            let turn =
                if patience.is_zero() { None } else { tokio::time::timeout(patience, hold()).await.ok() };
            let Some(turn) = turn else {
                if let Some(waiting) = waiting {
                    waiting.end_in_lobby();
                }
                wake(self.shared, &self.route);
                return Err(Box::new(self.lobby(language(&parts.headers), visitor)));
            };
            turn
        };
        if let Some(waiting) = waiting {
            waiting.end_wait(&turn);
        }
        let meter = &self.route.meter;
        match &turn {
            Ok(slot) if !slot.waited.queue.is_zero() => meter.queued(slot.waited.queue),
            Err(Refusal::Crowded) => meter.refused(),
            _ => {}
        }
        turn.map_err(|refusal| Box::new(self.explain(refusal.into(), reader, visitor)))
    }

    /// How long a person waits for the page itself before the lobby is shown: nobody likes a page that flashes by, and
    /// nobody a blank one.
    fn patience(&self, progress: &Progress) -> Duration {
        let limit = self.shared.config.limits.lobby_after;
        match &self.route.state {
            RouteState::On { backends, .. } if is_asleep(backends) && progress.no_room.is_some() => {
                Duration::ZERO
            }
            RouteState::On { backends, .. } if is_asleep(backends) => {
                match lobby::expected(&self.route, rung(backends), progress) {
                    // Twice what it takes most times, so that the lobby is for what is out of the ordinary.
                    Some(expected) if expected < limit => (2 * expected).min(limit),
                    Some(_) => Duration::ZERO,
                    None => limit,
                }
            }
            _ => limit,
        }
    }

    /// Who asks, also where the app is for everyone: some may see more of the lobby.
    fn viewer<B>(&self, caller: &Caller, request: &Request<B>) -> Option<UserId> {
        caller.person().or_else(|| {
            doorkeeper::recognise(self.shared, &self.route, request.headers()).map(|person| person.id)
        })
    }

    /// The lobby as of now: what was known when the request came is a moment old.
    fn lobby(&self, language: Language, visitor: Option<UserId>) -> Response<AnswerBody> {
        let route = find(self.shared, self.route.app.as_str());
        speaking_now(language, || lobby::lobby(self.shared, route.as_ref().unwrap_or(&self.route), visitor))
    }

    fn off(&self, reader: Reader, visitor: Option<UserId>) -> Response<AnswerBody> {
        match reader {
            Reader::Person(language) => self.lobby(language, visitor),
            Reader::Program => {
                let detail = format!("The app `{}` is switched off.", self.route.app);
                Problem::new(StatusCode::NOT_FOUND, "lobby-switched-off", Words::Plain(detail)).answer(reader)
            }
        }
    }

    fn failed(&self, reason: &str, reader: Reader, visitor: Option<UserId>) -> Response<AnswerBody> {
        match reader {
            Reader::Person(language) => self.lobby(language, visitor),
            Reader::Program => {
                let detail = format!("The app `{}` cannot be opened: {reason}", self.route.app);
                Problem::new(StatusCode::BAD_GATEWAY, "lobby-cannot-open", Words::Plain(detail))
                    .answer(reader)
            }
        }
    }

    fn explain(&self, failure: Failure, reader: Reader, visitor: Option<UserId>) -> Response<AnswerBody> {
        let app = &self.route.app;
        tracing::debug!(%app, %failure, "request to an app failed");
        let again = match &self.route.state {
            RouteState::On { .. } => lobby::retry_after(self.shared, &self.route),
            _ => 1,
        };
        let problem = |status, title: &'static str, detail: Message| Problem::new(status, title, detail);
        let of_app = |id| Message::new(id).with("app", app.as_str());
        let breaks_off = self.is_http1 && matches!(failure, Failure::TooSlow | Failure::TooLarge { .. });
        let mut response = match failure {
            Failure::Refused(Refusal::Off) => return self.off(reader, visitor),
            Failure::Refused(Refusal::Failed { reason }) => {
                return self.failed(reason.english(), reader, visitor);
            }
            Failure::Refused(Refusal::NoRoom { reason }) => match reader {
                Reader::Person(language) => return self.lobby(language, visitor),
                Reader::Program => {
                    let detail = of_app("gw-no-room-about").with_said("reason", &reason);
                    problem(StatusCode::SERVICE_UNAVAILABLE, "gw-no-room", detail)
                }
            }
            .retry_after(lobby::NO_ROOM_SECONDS),
            Failure::Refused(Refusal::Crowded) => {
                problem(StatusCode::SERVICE_UNAVAILABLE, "gw-crowded", of_app("gw-crowded-about"))
                    .retry_after(again)
            }
            Failure::Refused(Refusal::Stopping) => {
                problem(StatusCode::SERVICE_UNAVAILABLE, "gw-restarting", Message::new("gw-restarting-about"))
                    .retry_after(1)
            }
            Failure::Refused(Refusal::TooLate) => {
                problem(StatusCode::GATEWAY_TIMEOUT, "gw-too-late", self.why_late())
            }
            Failure::Silent => problem(StatusCode::GATEWAY_TIMEOUT, "gw-silent", of_app("gw-silent-about")),
            Failure::Broken(_) => problem(StatusCode::BAD_GATEWAY, "gw-broken", of_app("gw-broken-about")),
            Failure::Nonsense => problem(StatusCode::BAD_GATEWAY, "gw-nonsense", of_app("gw-nonsense-about")),
            Failure::AccessLost => {
                problem(StatusCode::FORBIDDEN, "gw-access-lost", of_app("gw-access-lost-about"))
            }
            Failure::Client => {
                problem(StatusCode::BAD_REQUEST, "gw-incomplete", Message::new("gw-incomplete-about"))
            }
            Failure::TooSlow => {
                problem(StatusCode::REQUEST_TIMEOUT, "gw-incomplete", Message::new("gw-too-slow-about"))
            }
            Failure::TooLarge { limit } => problem(
                StatusCode::PAYLOAD_TOO_LARGE,
                "gw-too-large",
                of_app("gw-too-large-about").with("limit", limit),
            ),
        }
        .answer(reader);
        if breaks_off {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    fn why_late(&self) -> Message {
        let route = find(self.shared, self.route.app.as_str());
        let of_app = |id| Message::new(id).with("app", self.route.app.as_str());
        match route.as_deref().map(|route| &route.state) {
            Some(RouteState::On { progress, .. }) => {
                of_app("gw-too-late-at").with_said("step", &progress.step)
            }
            _ => of_app("gw-too-late-about"),
        }
    }
}

/// No replica is awake.
fn is_asleep(backends: &[Backend]) -> bool {
    !backends.iter().any(|backend| backend.gate.state() == GateState::Open)
}

/// Prefetches and those who make previews of links: nobody looks at what they load.
pub(crate) fn wakes_nobody(method: &Method, headers: &HeaderMap) -> bool {
    const PREVIEWERS: [&str; 22] = [
        "slackbot",
        "twitterbot",
        "facebookexternalhit",
        "facebot",
        "linkedinbot",
        "discordbot",
        "telegrambot",
        "whatsapp",
        "skypeuripreview",
        "mattermost-bot",
        "embedly",
        "redditbot",
        "googlebot",
        "bingbot",
        "duckduckbot",
        "baiduspider",
        "yandexbot",
        "applebot",
        "petalbot",
        "ahrefsbot",
        "semrushbot",
        "iframely",
    ];
    let text = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_ascii_lowercase()
    };
    if !matches!(*method, Method::GET | Method::HEAD) {
        return false;
    }
    if text("sec-purpose").contains("prefetch")
        || text("purpose") == "prefetch"
        || text("x-moz") == "prefetch"
    {
        return true;
    }
    let agent = text("user-agent");
    PREVIEWERS.iter().any(|name| agent.contains(name))
}
