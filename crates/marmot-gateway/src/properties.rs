//! What holds whatever clients and apps send. `PROPTEST_CASES` says how many times each is tried.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Version};
use proptest::prelude::*;

use crate::access::safe_next;
use crate::check::{check, tokens};
use crate::config::{Limits, Scheme};
use crate::doorkeeper::query_value;
use crate::headers::{
    Visitor, app_key, cookie, is_private_cookie, remove_hop_by_hop, rewrite_request, rewrite_response,
    wanted_upgrade,
};
use crate::opening::Caller;
use crate::trailers;

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

proptest! {
    #[test]
    fn an_app_is_told_nothing_that_only_the_gateway_may_say(
        headers in headers(), host in "[a-z]{1,8}\\.apps\\.test(:[0-9]{1,4})?", http2: bool,
    ) {
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.version = if http2 { Version::HTTP_2 } else { Version::HTTP_11 };
        parts.headers = headers;
        let visitor = Visitor {
            peer: ([192, 0, 2, 7], 99).into(),
            scheme: Scheme::Https,
            host: &host,
            request_id: &HeaderValue::from_static("own"),
            caller: &Caller::Anybody,
            identity: None,
        };
        rewrite_request(&mut parts, visitor, None);
        let headers = &parts.headers;
        let values = |name: &str| headers.get_all(name).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>();
        prop_assert_eq!(values("host"), [host.as_bytes()]);
        prop_assert_eq!(values("x-forwarded-host"), [host.as_bytes()]);
        prop_assert_eq!(values("x-forwarded-for"), [b"192.0.2.7"]);
        prop_assert_eq!(values("x-forwarded-proto"), [b"https"]);
        prop_assert_eq!(values("x-request-id"), [b"own"]);
        prop_assert_eq!(values("x-marmot-visitor"), [b"anonymous"]);
        let forwarded = format!("for=192.0.2.7;host=\"{host}\";proto=https");
        prop_assert_eq!(values("forwarded"), [forwarded.as_bytes()]);
        let mut claims = headers.keys().map(HeaderName::as_str).filter(|name| {
            name.contains('_') || name.starts_with("x-marmot-") && *name != "x-marmot-visitor"
                || matches!(*name, "x-real-ip" | "expect" | "x-forwarded-prefix" | "x-original-url")
        });
        prop_assert_eq!(claims.next(), None);
        prop_assert!(!is_about_the_connection(headers), "{:?}", headers);
        prop_assert!(values("te").iter().all(|te| *te == b"trailers"));
        prop_assert!(values("cookie").len() <= 1);
        prop_assert!(!cookie_names(headers).iter().any(|name| is_private_cookie(name)), "{:?}", headers);
        prop_assert!(app_key(headers).is_none(), "{:?}", headers);
    }

    #[test]
    fn an_app_sets_no_cookie_of_the_platform_and_says_nothing_of_its_connection(mut headers in headers(), mut behind in headers()) {
        rewrite_response(&mut headers, Version::HTTP_11, "apps.test");
        prop_assert!(!is_about_the_connection(&headers), "{:?}", headers);
        for cookie in headers.get_all(header::SET_COOKIE) {
            let name = cookie.as_bytes().split(|&byte| byte == b'=' || byte == b';').next().unwrap_or_default();
            prop_assert!(!is_private_cookie(&String::from_utf8_lossy(name)), "{:?}", cookie);
        }
        trailers::of_answer(&mut behind);
        prop_assert!(!is_about_the_connection(&behind) && !behind.contains_key(header::SET_COOKIE));
    }

    #[test]
    fn what_is_accepted_is_for_one_host_and_of_one_length(headers in headers(), target in "[!-~]{0,20}", method in "[A-Z]{1,7}") {
        let mut request = Request::new(());
        *request.method_mut() = method.parse().unwrap();
        if let Ok(uri) = target.parse() {
            *request.uri_mut() = uri;
        }
        *request.headers_mut() = headers;
        // None of these may panic on what the others would refuse.
        let _ = (wanted_upgrade(&request), cookie(request.headers(), "marmot_ticket"), app_key(request.headers()));
        if let Ok(host) = check(&request, &Limits::default()) {
            let headers = request.headers();
            prop_assert_eq!(headers.get_all(header::HOST).iter().count(), 1);
            prop_assert!(host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte)), "{}", host);
            let encodings = headers.get_all(header::TRANSFER_ENCODING).iter().count();
            let lengths = headers.get_all(header::CONTENT_LENGTH).iter().count();
            prop_assert!(encodings <= 1 && (encodings == 0 || lengths == 0));
            prop_assert!(*request.method() != Method::CONNECT && *request.method() != Method::TRACE);
            // Naming a field on the way to an app removes it: none that counts may be named.
            let named = headers.get_all(header::CONNECTION).iter().flat_map(|list| tokens(list.as_bytes()));
            for name in named {
                prop_assert!(!name.eq_ignore_ascii_case(b"host") && !name.eq_ignore_ascii_case(b"cookie"));
            }
            let mut rest = headers.clone();
            remove_hop_by_hop(&mut rest);
            prop_assert!(rest.contains_key(header::HOST));
        }
    }

    #[test]
    fn a_link_leads_nowhere_but_to_its_own_host(query: String, next in "[/\\\\a:@.\t\n?#%]{0,12}") {
        let _ = (query_value(&query, "secret"), query_value(&query, "next"));
        let encoded: String = next.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let query = format!("a=b&next={encoded}");
        let read = query_value(&query, "next").unwrap();
        prop_assert_eq!(&*read, next.as_str());
        let to = safe_next(&read);
        prop_assert!(to.starts_with('/') && !to[1..].starts_with(['/', '\\']) && !to.contains(['\t', '\n', '\\']), "{}", to);
    }
}
