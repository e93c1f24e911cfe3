//! What holds whatever clients and apps send: said once, tried by the tests below (`PROPTEST_CASES` says how many times
//! each) and by the targets in `fuzz/`. What does not hold panics.

#![allow(clippy::unwrap_used, reason = "what does not hold panics")]

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Version};
use marmot_core::AppName;

use crate::access::{Tickets, safe_next};
use crate::answers::{language, reader};
use crate::check::{check, tokens};
use crate::config::{GatewayConfig, Limits, Scheme};
use crate::doorkeeper::query_value;
use crate::forward::is_grpc;
use crate::frames::{self, Frames};
use crate::headers::{
    Visitor, app_key, cookie, for_http1, is_private_cookie, remove_hop_by_hop, request_id, rewrite_request,
    rewrite_response, wanted_upgrade,
};
use crate::host::Host;
use crate::opening::Caller;
use crate::scanner::{Phase, Scanner};
use crate::service::wakes_nobody;
use crate::trace::{self, Sampler};
use crate::trailers;
use crate::trust::{Networks, origin};

/// The gateway tells an app, and nobody else does, for whom a request is and where it comes from.
pub fn of_what_apps_are_told(headers: HeaderMap, host: &str, http2: bool) {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.version = if http2 { Version::HTTP_2 } else { Version::HTTP_11 };
    parts.headers = headers;
    let visitor = Visitor {
        peer: ([192, 0, 2, 7], 99).into(),
        scheme: Scheme::Https,
        host,
        request_id: &HeaderValue::from_static("own"),
        caller: &Caller::Anybody,
        identity: None,
    };
    rewrite_request(&mut parts, visitor, None);
    let headers = &parts.headers;
    let values = |name: &str| headers.get_all(name).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>();
    assert_eq!(values("host"), [host.as_bytes()]);
    assert_eq!(values("x-forwarded-host"), [host.as_bytes()]);
    assert_eq!(values("x-forwarded-for"), [b"192.0.2.7"]);
    assert_eq!(values("x-forwarded-proto"), [b"https"]);
    assert_eq!(values("x-request-id"), [b"own"]);
    assert_eq!(values("x-marmot-visitor"), [b"anonymous"]);
    let forwarded = format!("for=192.0.2.7;host=\"{host}\";proto=https");
    assert_eq!(values("forwarded"), [forwarded.as_bytes()]);
    let mut claims = headers.keys().map(HeaderName::as_str).filter(|name| {
        name.contains('_')
            || name.starts_with("x-marmot-") && *name != "x-marmot-visitor"
            || matches!(*name, "x-real-ip" | "expect" | "x-forwarded-prefix" | "x-original-url")
    });
    assert_eq!(claims.next(), None);
    assert!(!is_about_the_connection(headers), "{headers:?}");
    assert!(values("te").iter().all(|te| *te == b"trailers"));
    assert!(values("cookie").len() <= 1);
    assert!(!cookie_names(headers).iter().any(|name| is_private_cookie(name)), "{headers:?}");
    assert!(app_key(headers).is_none(), "{headers:?}");
}

/// An app sets no cookie of the platform's and says nothing of its connection, nor behind its answer.
pub fn of_what_apps_say(mut headers: HeaderMap, mut behind: HeaderMap) {
    rewrite_response(&mut headers, Version::HTTP_11, "apps.test");
    assert!(!is_about_the_connection(&headers), "{headers:?}");
    for cookie in headers.get_all(header::SET_COOKIE) {
        let name = cookie.as_bytes().split(|&byte| byte == b'=' || byte == b';').next().unwrap_or_default();
        assert!(!is_private_cookie(&String::from_utf8_lossy(name)), "{cookie:?}");
    }
    let mut of_client = behind.clone();
    trailers::of_answer(&mut behind);
    assert!(!is_about_the_connection(&behind) && !behind.contains_key(header::SET_COOKIE));
    trailers::of_request(&mut of_client);
    assert!(of_client.keys().all(|name| !name.as_str().contains('_') && behind.contains_key(name)));
}

/// What is accepted is for one host and of one length.
pub fn of_what_is_accepted(method: &str, target: &str, headers: HeaderMap) {
    let mut request = Request::new(());
    *request.method_mut() = method.parse().unwrap_or_default();
    if let Ok(uri) = target.parse() {
        *request.uri_mut() = uri;
    }
    *request.headers_mut() = headers;
    let headers = request.headers();
    // None of these may panic on what the others would refuse.
    let _ = (wanted_upgrade(&request), cookie(headers, "marmot_ticket"), app_key(headers));
    let _ = (reader(request.method(), headers), language(headers), is_grpc(headers));
    let _ = wakes_nobody(request.method(), headers);
    let id = request_id(headers);
    assert!((8..=64).contains(&id.len()) && id.to_str().is_ok());
    if let Ok(host) = check(&request, &Limits::default()) {
        assert_eq!(headers.get_all(header::HOST).iter().count(), 1);
        assert!(host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte)), "{host}");
        let encodings = headers.get_all(header::TRANSFER_ENCODING).iter().count();
        let lengths = headers.get_all(header::CONTENT_LENGTH).iter().count();
        assert!(encodings <= 1 && (encodings == 0 || lengths == 0));
        assert!(*request.method() != Method::CONNECT && *request.method() != Method::TRACE);
        // Naming a field on the way to an app removes it: none that counts may be named.
        let named = headers.get_all(header::CONNECTION).iter().flat_map(|list| tokens(list.as_bytes()));
        for name in named {
            assert!(!name.eq_ignore_ascii_case(b"host") && !name.eq_ignore_ascii_case(b"cookie"));
        }
        let mut rest = headers.clone();
        remove_hop_by_hop(&mut rest);
        assert!(rest.contains_key(header::HOST));
        let host = host.to_owned();
        of_what_apps_are_told(headers.clone(), &host, false);
    }
    for_http1(&mut request);
}

/// A link leads nowhere but to its own host.
pub fn of_where_links_lead(query: &str) {
    let _ = query_value(query, "secret");
    if let Some(next) = query_value(query, "next") {
        let to = safe_next(&next);
        let leads_away = to[1..].starts_with(['/', '\\']) || to.contains(['\t', '\n', '\\']);
        assert!(to.starts_with('/') && !leads_away, "{to}");
    }
}

/// Nobody is let in by what was not signed here.
pub fn of_what_lets_in(text: &str) {
    let (tickets, app): (_, AppName) = (Tickets::new([7; 32]), "iris".parse().unwrap());
    assert!(tickets.redeem_code(&app, text).is_err());
    assert!(tickets.check_ticket(&app, text).is_err());
    assert!(tickets.check_link_ticket(&app, text).is_err());
    assert!(tickets.read_bond(&app, text).is_none());
}

/// A host is a name and a port, and leads to an app by one label alone.
pub fn of_hosts(text: &str) {
    let config = GatewayConfig::local(([127, 0, 0, 1], 80).into());
    if let Some(host) = Host::parse(text) {
        assert!(host.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte)));
        assert!(text.starts_with(host.name));
        if let crate::host::Target::App(label) = host.target(&config) {
            assert!(!label.is_empty() && !label.contains('.') && host.name.len() == label.len() + 10);
        }
    }
    if let Ok(name) = text.parse::<AppName>() {
        assert_eq!((name.as_str(), Host::parse(text).map(|host| host.name)), (text, Some(text)));
    }
}

/// Who is not trusted is taken for who they are; and lists of the trusted are read or refused.
pub fn of_whom_to_believe(headers: &HeaderMap, list: &str) {
    let peer = ([192, 0, 2, 7], 99).into();
    let nobody = Networks::default();
    assert_eq!(origin(&nobody, peer, Scheme::Http, headers), (peer, Scheme::Http));
    let others: Networks = "10.0.0.0/8".parse().unwrap();
    assert_eq!(origin(&others, peer, Scheme::Http, headers), (peer, Scheme::Http));
    let _ = origin(&"192.0.2.0/24,10.0.0.0/8".parse().unwrap(), peer, Scheme::Http, headers);
    if let Ok(networks) = list.parse::<Networks>() {
        let _ = networks.contains(peer.ip());
    }
}

/// The frames of a WebSocket are the same however its bytes are split, and every byte is in one.
pub fn of_frames(bytes: &[u8], at_a_time: usize) {
    let follow = |at_a_time: usize| {
        let (mut frames, mut found, mut length) = (Frames::default(), Vec::new(), 0);
        for mut piece in bytes.chunks(at_a_time.max(1)) {
            while let Some(segment) = frames.segment(piece) {
                assert!(segment.len > 0 && segment.len <= piece.len());
                length += segment.len;
                piece = &piece[segment.len..];
                if segment.ends {
                    found.push((segment.kind, std::mem::take(&mut length)));
                }
            }
            assert!(piece.is_empty());
        }
        (found, length, frames.at_boundary())
    };
    let whole = follow(bytes.len());
    assert_eq!(whole.0.iter().map(|(_, length)| length).sum::<usize>() + whole.1, bytes.len());
    assert_eq!(whole, follow(at_a_time));
    if let Some(pong) = frames::pong_for(bytes) {
        assert_eq!((pong[0], pong.len() + 4), (0x8a, bytes.len()));
    }
}

/// Heads of HTTP/1 are found, and the ambiguous among them, however their bytes are split.
pub fn of_streams(bytes: &[u8], at_a_time: usize) {
    assert_eq!(scan(bytes, bytes.len()), scan(bytes, at_a_time));
}

/// How many heads there are, after how many the first that is ambiguous comes, and where the end is.
fn scan(bytes: &[u8], at_a_time: usize) -> (u64, Option<u64>, Phase) {
    let (mut scanner, mut ambiguous) = (Scanner::default(), None);
    for piece in bytes.chunks(at_a_time.max(1)) {
        if scanner.feed(piece) {
            ambiguous = ambiguous.or(Some(scanner.heads));
        }
    }
    (scanner.heads, ambiguous, scanner.phase())
}

/// What is told of a trace is what was read.
pub fn of_traces(headers: &HeaderMap, sampler: &str) {
    if let Some(context) = trace::Context::read(headers) {
        let mut again = HeaderMap::new();
        again.insert("traceparent", HeaderValue::try_from(context.to_string()).unwrap());
        assert_eq!(trace::Context::read(&again), Some(context));
    }
    let _ = sampler.parse::<Sampler>();
}

/// Fields out of bytes, one a line, as many as there are.
pub fn fields(bytes: &[u8]) -> HeaderMap {
    let field = |line: &[u8]| {
        let colon = line.iter().position(|&byte| byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        Some((name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?))
    };
    let mut headers = HeaderMap::new();
    for (name, value) in bytes.split(|&byte| byte == b'\n').filter_map(field).take(200) {
        headers.append(name, value);
    }
    headers
}

/// The name of a target in `fuzz/`, and what it tries with its bytes.
pub type Target = (&'static str, fn(&[u8]));

/// The targets in `fuzz/`.
pub const TARGETS: [Target; 6] = [
    ("head", head),
    ("answer", answer),
    ("stream", stream),
    ("frames", socket),
    ("address", address),
    ("tickets", tickets),
];

/// A request line, and fields.
fn head(bytes: &[u8]) {
    let (line, rest) = cut(bytes);
    let (method, target) = line.split_once(' ').unwrap_or((&line, "/"));
    let headers = fields(rest);
    of_traces(&headers, target);
    of_whom_to_believe(&headers, target);
    of_what_is_accepted(method, target, headers.clone());
    of_what_apps_are_told(headers, "iris.apps.test", bytes.len().is_multiple_of(2));
}

/// Fields before an empty line, and behind it.
fn answer(bytes: &[u8]) {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap_or(bytes.len());
    of_what_apps_say(fields(&bytes[..end]), fields(&bytes[end..]));
}

/// A number that says how the rest is split.
fn stream(bytes: &[u8]) {
    if let Some((&split, bytes)) = bytes.split_first() {
        of_streams(bytes, split.into());
    }
}

fn socket(bytes: &[u8]) {
    if let Some((&split, bytes)) = bytes.split_first() {
        of_frames(bytes, split.into());
    }
}

fn address(bytes: &[u8]) {
    let (line, rest) = cut(bytes);
    of_hosts(&line);
    of_where_links_lead(&line);
    of_whom_to_believe(&fields(rest), &line);
}

fn tickets(bytes: &[u8]) {
    of_what_lets_in(&String::from_utf8_lossy(bytes));
}

/// The first line as text, and what follows.
fn cut(bytes: &[u8]) -> (std::borrow::Cow<'_, str>, &[u8]) {
    let end = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len());
    (String::from_utf8_lossy(&bytes[..end]), bytes.get(end + 1..).unwrap_or_default())
}

/// Cookies, taken apart as browsers and frameworks do.
fn cookie_names(headers: &HeaderMap) -> Vec<String> {
    let pairs =
        headers.get_all(header::COOKIE).iter().flat_map(|list| list.as_bytes().split(|&byte| byte == b';'));
    let names =
        pairs.map(|pair| pair.split(|&byte| byte == b'=').next().unwrap_or_default().trim_ascii().to_vec());
    names.map(|name| String::from_utf8_lossy(&name).into_owned()).collect()
}

fn is_about_the_connection(headers: &HeaderMap) -> bool {
    ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "http2-settings"]
        .iter()
        .any(|name| headers.contains_key(*name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Names that mean something to the gateway or an app, and some that mean nothing.
    fn name() -> impl Strategy<Value = HeaderName> {
        let known = prop::sample::select(vec![
            "host",
            "content-length",
            "transfer-encoding",
            "connection",
            "keep-alive",
            "te",
            "trailer",
            "upgrade",
            "cookie",
            "set-cookie",
            "authorization",
            "expect",
            "forwarded",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-forwarded-prefix",
            "x_forwarded_for",
            "x-marmot-user",
            "x_marmot_user",
            "x-marmot-identity",
            "x-marmot-key",
            "x-real-ip",
            "x-request-id",
            "proxy-connection",
            "proxy-authorization",
            "clear-site-data",
            "http2-settings",
            "via",
            "x-mine",
            "sec-websocket-key",
            "x-original-url",
        ]);
        prop_oneof![8 => known.prop_map(HeaderName::from_static), 1 => "[a-z_.-]{1,12}".prop_map(|name| name.parse().unwrap())]
    }

    /// Pieces of values that somebody might tell apart in another way, and bytes.
    fn value() -> impl Strategy<Value = HeaderValue> {
        let piece = prop::sample::select(vec![
            "chunked",
            "close",
            "keep-alive",
            "host",
            "cookie",
            "x-mine",
            "upgrade",
            "websocket",
            "trailers",
            "marmot_ticket=a",
            "__Host-marmot_x=b",
            "session=c",
            "Bearer mmt_x",
            "Bearer mmk_x",
            "for=1.2.3.4",
            "1.2.3.4",
            "\"",
            "\\",
            ",",
            ";",
            "=",
            " ",
            "\t",
            "Domain=apps.test",
            "Domain=.test",
            "\"cookies\"",
            "*",
            "100-continue",
            "\u{e4}",
            "3",
            "Secure",
            "Path=/",
        ]);
        let pieces = prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat().into_bytes());
        let bytes = prop::collection::vec(any::<u8>(), 0..12);
        prop_oneof![6 => pieces, 1 => bytes]
            .prop_filter_map("a value", |bytes| HeaderValue::from_bytes(&bytes).ok())
    }

    fn headers() -> impl Strategy<Value = HeaderMap> {
        prop::collection::vec((name(), value()), 0..12).prop_map(|fields| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(name, value);
            }
            headers
        })
    }

    proptest! {
        #[test]
        fn an_app_is_told_nothing_that_only_the_gateway_may_say(
            headers in headers(), host in "[a-z]{1,8}\\.apps\\.test(:[0-9]{1,4})?", http2: bool,
        ) {
            of_what_apps_are_told(headers, &host, http2);
        }

        #[test]
        fn an_app_sets_no_cookie_of_the_platform_and_says_nothing_of_its_connection(headers in headers(), behind in headers()) {
            of_what_apps_say(headers, behind);
        }

        #[test]
        fn what_is_accepted_is_for_one_host_and_of_one_length(headers in headers(), target in "[!-~]{0,20}", method in "[A-Z]{1,7}") {
            of_whom_to_believe(&headers, &target);
            of_what_is_accepted(&method, &target, headers);
        }

        #[test]
        fn a_link_leads_nowhere_but_to_its_own_host(query: String, next in "[/\\\\a:@.\t\n?#%]{0,12}") {
            of_where_links_lead(&query);
            let encoded: String = next.bytes().map(|byte| format!("%{byte:02x}")).collect();
            let query = format!("a=b&next={encoded}");
            prop_assert_eq!(&*query_value(&query, "next").unwrap(), next.as_str());
            of_where_links_lead(&query);
        }

        #[test]
        fn nobody_is_let_in_by_what_was_not_signed_here(text: String) {
            of_what_lets_in(&text);
        }

        #[test]
        fn a_host_leads_to_an_app_by_one_label(text in "[a-z0-9.:_\\[\\]-]{0,20}(\\.localhost)?(:[0-9]{0,6})?") {
            of_hosts(&text);
        }

        #[test]
        fn frames_are_the_same_however_they_are_split(bytes: Vec<u8>, at_a_time in 1usize..20) {
            of_frames(&bytes, at_a_time);
        }

        #[test]
        fn a_trace_is_told_as_it_was_read(version in "(00|01|ff|0g)", rest in "(-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}|[0-9a-f-]{0,60})", more in "(-[!-~]{0,4})?") {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", HeaderValue::from_bytes(format!("{version}{rest}{more}").as_bytes()).unwrap());
            of_traces(&headers, &rest);
        }

        #[test]
        fn what_the_fuzz_targets_try_holds_for_any_bytes(bytes: Vec<u8>) {
            for (_, target) in TARGETS {
                target(&bytes);
            }
        }
    }

    /// Whatever was once found, and what the targets begin with.
    #[test]
    fn the_seeds_of_the_fuzz_targets_hold() {
        let fuzz = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
        for (name, target) in TARGETS {
            let source = std::fs::read_to_string(fuzz.join(format!("fuzz_targets/{name}.rs"))).unwrap();
            assert!(source.contains("fuzz_target!"), "{name}");
            let mut seeds = 0;
            for seed in std::fs::read_dir(fuzz.join("seeds").join(name)).unwrap() {
                target(&std::fs::read(seed.unwrap().path()).unwrap());
                seeds += 1;
            }
            assert!(seeds > 0, "{name}");
        }
    }
}
