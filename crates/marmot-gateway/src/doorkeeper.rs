//! Lets visitors of an app in, or shows them the way to sign in.

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::access::{Person, new_state, safe_next};
use crate::answers::{Problem, Reader, redirect};
use crate::body::AnswerBody;
use crate::config::Scheme;
use crate::headers::cookie;
use crate::routes::{Access, Route};
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
    /// It may; who sent it, where the app is not for everyone.
    Welcome(Option<Person>),
    /// It may not: this is its answer.
    Answer(Box<Response<AnswerBody>>),
}

impl From<Response<AnswerBody>> for Entry {
    fn from(response: Response<AnswerBody>) -> Self {
        Self::Answer(Box::new(response))
    }
}

/// Decides whether a request may go on to its app.
pub(crate) fn enter<B>(
    shared: &Arc<Shared>,
    route: &Route,
    host: &str,
    request: &Request<B>,
    reader: Reader,
) -> Entry {
    // Also for an app that has become everyone's meanwhile: who comes back goes on to the page they wanted.
    if request.uri().path() == ENTER {
        return take_code(shared, route, request, reader).into();
    }
    let Access::People(people) = &route.access else { return Entry::Welcome(None) };
    match recognise(shared, route, request.headers()) {
        Some(person) if people.contains(&person.id) && is_own_request(shared, host, request) => {
            Entry::Welcome(Some(person))
        }
        Some(_) => forbidden(reader).into(),
        None => match reader {
            Reader::Person if request.method() == Method::GET => {
                let path = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
                send_to_sign_in(shared, route, request.headers(), path).into()
            }
            _ => unauthorized().into(),
        },
    }
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
        Some(_) => request.method() == Method::GET && header("sec-fetch-mode") == Some(b"navigate"),
        None => {
            let Some(origin) = request.headers().get(header::ORIGIN) else { return true };
            let expected = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
            expected.is_some_and(|(scheme, from)| {
                scheme == shared.config.scheme.as_str() && from.eq_ignore_ascii_case(host)
            })
        }
    }
}

fn forbidden(reader: Reader) -> Response<AnswerBody> {
    let detail = "You are signed in, but this app is not shared with you. Ask its owner for access.";
    Problem::new(StatusCode::FORBIDDEN, "This app is private", detail).answer(reader)
}

fn unauthorized() -> Response<AnswerBody> {
    let detail = "This app is private. Open its address in a browser and sign in.";
    let mut response =
        Problem::new(StatusCode::UNAUTHORIZED, "Sign in first", detail).answer(Reader::Program);
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"marmot\""));
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
            let detail = "Your browser did not keep the cookie that signing in needs. Allow cookies for this \
                          address, then open the app again.";
            return Problem::new(StatusCode::BAD_REQUEST, "Cookies are needed", detail).answer(reader);
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
            let detail = format!("Signing in to this app did not work: {invalid}. Open the app again.");
            Problem::new(StatusCode::FORBIDDEN, "Please try again", detail).answer(reader)
        }
    }
}

fn is_equal(one: &str, other: &str) -> bool {
    use subtle::ConstantTimeEq as _;
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

fn query_value<'q>(query: &'q str, name: &str) -> Option<Cow<'q, str>> {
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
fn set_cookie(response: &mut Response<AnswerBody>, name: &str, value: &str, seconds: u64, scheme: Scheme) {
    let secure = if scheme == Scheme::Https { "; Secure" } else { "" };
    let cookie = format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
}
