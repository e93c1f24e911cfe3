//! Lets visitors of an app in, or shows them the way to sign in.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use marmot_text::Message;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::access::{Person, new_state, safe_next};
use crate::answers::{Problem, Reader, Words, redirect};
use crate::body::AnswerBody;
use crate::config::Scheme;
use crate::headers::{app_key, cookie};
use crate::opening::{Admission, Audience, Caller};
use crate::quota::{guessed, may_guess};
use crate::routes::Route;
use crate::service::RESERVED;
use crate::share::{LINK, link_cookie, take_link};
use crate::shared::Shared;

/// Where the platform sends a browser with its code.
const ENTER: &str = "/.marmot/enter";
/// What `next` is while a browser is away to sign in: the state and the path it came for.
const BACK: &str = "/.marmot/back?";
/// Seconds for which a browser may be away to sign in.
const STATE_LIFE: u64 = 3600;
/// Longest path that is remembered while a browser is away. Longer ones end at the app's first page.
const NEXT_BYTES: usize = 4096;

/// What is written as it is in a query.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Whether a request may go on.
pub(crate) enum Entry {
    /// It may, until then at most (since 1970); who sent it.
    Welcome(Caller, Option<Duration>),
    /// It may not: this is its answer.
    Answer(Box<Response<AnswerBody>>),
}

impl From<Response<AnswerBody>> for Entry {
    fn from(response: Response<AnswerBody>) -> Self {
        Self::Answer(Box::new(response))
    }
}

/// Where a request comes from and leads to.
pub(crate) struct Doorstep<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) route: &'a Route,
    /// As the client wrote it.
    pub(crate) host: &'a str,
    pub(crate) client: IpAddr,
    pub(crate) reader: Reader,
}

/// Decides whether a request may go on to its app.
pub(crate) fn enter<B>(at: &Doorstep<'_>, request: &Request<B>) -> Entry {
    let &Doorstep { shared, route, reader, .. } = at;
    match request.uri().path() {
        // Also for an app that has become everyone's meanwhile: who comes back goes on to the page they wanted.
        ENTER => return take_code(shared, route, request, reader).into(),
        LINK => return take_link(shared, route, at.client, request, reader).into(),
        _ => {}
    }
    let headers = request.headers();
    if let Some(key) = app_key(headers) {
        return with_key(at, key);
    }
    let person = recognise(shared, route, headers).map(Caller::Person);
    if matches!(route.access.audience, Audience::Everyone) {
        // The app is told who it is only where one of its own pages asks.
        let person = person.filter(|_| is_own_request(shared, at.host, request));
        return Entry::Welcome(person.unwrap_or(Caller::Anybody), None);
    }
    let (now, by_link) = (shared.tickets.time(), recognise_link(shared, route, headers));
    let brought = [person.as_ref(), by_link.as_ref()].into_iter().flatten();
    for caller in brought {
        if let Admission::Until(end) = route.access.admits(caller, now) {
            if !is_own_request(shared, at.host, request) {
                return not_from_there(reader).into();
            }
            if let Caller::Link(id) = caller
                && let Some(link) = route.access.links.iter().find(|link| link.id == *id)
            {
                link.usage.seen(now);
            }
            return Entry::Welcome(caller.clone(), end);
        }
    }
    match (person, by_link) {
        (Some(_), _) => forbidden(shared, route, reader).into(),
        (None, Some(_)) if reader.is_person() => link_is_over(reader).into(),
        _ if reader.is_person() && request.method() == Method::GET => {
            let path = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
            send_to_sign_in(shared, route, headers, path).into()
        }
        _ => unauthorized("Bearer realm=\"marmot\"", WHO_ARE_YOU).into(),
    }
}

/// For a program without anything to show.
const WHO_ARE_YOU: &str = "This app is private. A program needs a key for it, sent as `Authorization: Bearer KEY` or \
    `X-Marmot-Key: KEY`; a person opens its address in a browser and signs in.";

fn with_key(at: &Doorstep<'_>, key: &str) -> Entry {
    let &Doorstep { shared, route, reader, client, .. } = at;
    let known = route.access.key_of(key).map(|key| Caller::Key(Arc::clone(key)));
    if let Some(caller) = known
        && let Admission::Until(end) = route.access.admits(&caller, shared.tickets.time())
    {
        return Entry::Welcome(caller, end);
    }
    if let Err(wait) = may_guess(shared, client) {
        return guessed(wait, reader).into();
    }
    let detail = "The key is none of this app's, has expired, or was revoked.";
    unauthorized("Bearer realm=\"marmot\", error=\"invalid_token\"", detail).into()
}

/// The link by which a visitor has come, if they still have its ticket. Says nothing about what they may do.
fn recognise_link(shared: &Shared, route: &Route, headers: &HeaderMap) -> Option<Caller> {
    let ticket = cookie(headers, link_cookie(shared.config.scheme))?;
    shared.tickets.check_link_ticket(&route.app, ticket).ok().map(Caller::Link)
}

/// Whose ticket a request brings, if it has a good one. Says nothing about what they may do.
pub(crate) fn recognise(shared: &Shared, route: &Route, headers: &HeaderMap) -> Option<Person> {
    let ticket = cookie(headers, ticket_cookie(shared.config.scheme))?;
    shared.tickets.check_ticket(&route.app, ticket).ok()
}

/// Whatever page a visitor has open can ask for things at an app, and takes the visitor's cookie along: apps are on
/// sister hosts. To an app that is not for everyone, only its own pages may ask, and a visitor may follow a link.
fn is_own_request<B>(shared: &Shared, host: &str, request: &Request<B>) -> bool {
    let header = |name: &str| request.headers().get(name).map(|value| value.as_bytes());
    // No page can set or change the `Sec-` headers of its browser.
    match header("sec-fetch-site") {
        Some(b"same-origin" | b"none") => true,
        // Not into a frame: there, the visitor would click on what they do not see.
        Some(_) => {
            let navigates = header("sec-fetch-mode") == Some(b"navigate");
            let in_a_tab = matches!(header("sec-fetch-dest"), None | Some(b"document"));
            request.method() == Method::GET && navigates && in_a_tab
        }
        None => {
            let Some(origin) = request.headers().get(header::ORIGIN) else { return true };
            let expected = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
            expected.is_some_and(|(scheme, from)| {
                scheme == shared.config.scheme.as_str() && from.eq_ignore_ascii_case(host)
            })
        }
    }
}

/// For who has signed in and may not open the app: says whom to ask, as far as that is for them to know.
pub(crate) fn forbidden(shared: &Shared, route: &Route, reader: Reader) -> Response<AnswerBody> {
    let title = "gw-not-shared";
    match &route.access.project {
        Some(project) => {
            let detail = Message::new("gw-not-shared-project").with("project", &**project);
            let way = format!("{}/p/{project}", shared.config.platform_url);
            Problem::new(StatusCode::FORBIDDEN, title, detail).way(way, "gw-see-project")
        }
        None => Problem::new(StatusCode::FORBIDDEN, title, "gw-not-shared-ask"),
    }
    .answer(reader)
}

fn not_from_there(reader: Reader) -> Response<AnswerBody> {
    Problem::new(StatusCode::FORBIDDEN, "gw-not-from-there", "gw-not-from-there-about").answer(reader)
}

fn link_is_over(reader: Reader) -> Response<AnswerBody> {
    Problem::new(StatusCode::FORBIDDEN, "gw-link-ended", "gw-link-ended-about")
        .way(format!("{RESERVED}sign-in"), "gw-sign-in-instead")
        .answer(reader)
}

fn unauthorized(challenge: &'static str, detail: &str) -> Response<AnswerBody> {
    let plain = |text: &str| Words::Plain(text.to_owned());
    let problem = Problem::new(StatusCode::UNAUTHORIZED, plain("Show who you are"), plain(detail));
    let mut response = problem.answer(Reader::Program);
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    response
}

/// For members of an app that is for everyone: signs them in, and brings them back to where they were.
pub(crate) fn sign_in<B>(shared: &Shared, route: &Route, request: &Request<B>) -> Response<AnswerBody> {
    let next = query_value(request.uri().query().unwrap_or_default(), "next");
    send_to_sign_in(shared, route, request.headers(), next.as_deref().unwrap_or("/"))
}

fn send_to_sign_in(shared: &Shared, route: &Route, headers: &HeaderMap, path: &str) -> Response<AnswerBody> {
    let scheme = shared.config.scheme;
    let path = if path.len() > NEXT_BYTES { "/" } else { safe_next(path) };
    // Two tabs that sign in at the same time share one state.
    let known = cookie(headers, state_cookie(scheme)).filter(|state| is_state(state));
    let state = known.map_or_else(new_state, str::to_owned);
    let back = format!("{BACK}state={state}&to={}", utf8_percent_encode(path, QUERY));
    let mut response = redirect(&format!(
        "{}/access/{}?next={}",
        shared.config.platform_url,
        route.app,
        utf8_percent_encode(&back, QUERY)
    ));
    set_cookie(&mut response, state_cookie(scheme), &state, STATE_LIFE, scheme);
    response
}

fn is_state(state: &str) -> bool {
    state.len() == 22 && state.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// The browser is back from the platform: its code becomes a ticket.
fn take_code<B>(
    shared: &Shared,
    route: &Route,
    request: &Request<B>,
    reader: Reader,
) -> Response<AnswerBody> {
    let scheme = shared.config.scheme;
    let query = request.uri().query().unwrap_or_default();
    let next = query_value(query, "next").unwrap_or_default();
    let back = next.strip_prefix(BACK);
    let to = back.and_then(|back| query_value(back, "to"));
    let to = safe_next(to.as_deref().unwrap_or(if back.is_some() { "/" } else { &next }));
    let given = back.and_then(|back| query_value(back, "state"));
    let kept = cookie(request.headers(), state_cookie(scheme));
    match (&given, kept) {
        (Some(given), Some(kept)) if is_state(given) && is_equal(given, kept) => {}
        (Some(_), None) => {
            return Problem::new(StatusCode::BAD_REQUEST, "gw-cookies", "gw-cookies-about").answer(reader);
        }
        // Begun elsewhere: begin again here.
        _ => return redirect(to),
    }
    let code = query_value(query, "code").unwrap_or_default();
    match shared.tickets.redeem_code(&route.app, &code) {
        Ok(person) => {
            let ticket = shared.tickets.issue_ticket(&route.app, &person);
            let mut response = redirect(to);
            set_cookie(&mut response, ticket_cookie(scheme), &ticket, 12 * 3600, scheme);
            set_cookie(&mut response, state_cookie(scheme), "", 0, scheme);
            response
        }
        Err(invalid) => {
            let detail = Message::new("gw-try-again-about").with("why", invalid.to_string());
            Problem::new(StatusCode::FORBIDDEN, "gw-try-again", detail).answer(reader)
        }
    }
}

fn is_equal(one: &str, other: &str) -> bool {
    use subtle::ConstantTimeEq as _;
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

pub(crate) fn query_value<'q>(query: &'q str, name: &str) -> Option<Cow<'q, str>> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| percent_decode_str(value).decode_utf8_lossy())
}

fn ticket_cookie(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Http => "marmot_ticket",
        // Browsers take it from this very host alone.
        Scheme::Https => "__Host-marmot_ticket",
    }
}

fn state_cookie(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Http => "marmot_state",
        Scheme::Https => "__Host-marmot_state",
    }
}

/// Sets a cookie of this host alone, for `seconds`; zero removes it.
pub(crate) fn set_cookie(
    response: &mut Response<AnswerBody>,
    name: &str,
    value: &str,
    seconds: u64,
    scheme: Scheme,
) {
    let secure = if scheme == Scheme::Https { "; Secure" } else { "" };
    let cookie = format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
}
