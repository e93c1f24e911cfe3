//! What of a message's head goes on to the other side, and what is said in its place.

use std::net::{IpAddr, SocketAddr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, Entry, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Uri, Version, request};

use crate::check::tokens;
use crate::config::Scheme;
use crate::opening::Caller;

/// Cookies that are called so, or so and on with an underscore (both also behind `__Host-` and `__Secure-`), are the
/// platform's and the gateway's own. No app ever sees one, nor can it set one.
pub const PRIVATE_COOKIE: &str = "marmot";
/// API tokens that start so are the platform's own. No app ever sees one.
pub const PRIVATE_TOKEN_PREFIX: &str = "mmt_";
/// What the keys that programs show to apps begin with. They are for the gateway: no app ever sees one.
pub const APP_KEY_PREFIX: &str = "mmk_";

pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(crate) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_MARMOT_USER: HeaderName = HeaderName::from_static("x-marmot-user");
const X_MARMOT_VISITOR: HeaderName = HeaderName::from_static("x-marmot-visitor");
const X_MARMOT_IDENTITY: HeaderName = HeaderName::from_static("x-marmot-identity");
const X_MARMOT_KEY: HeaderName = HeaderName::from_static("x-marmot-key");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const CLEAR_SITE_DATA: HeaderName = HeaderName::from_static("clear-site-data");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Fields that the gateway adds to a request, about.
const ADDED_FIELDS: usize = 10;

/// What the gateway tells an app about the visitor.
#[derive(Debug)]
pub(crate) struct Visitor<'a> {
    pub(crate) peer: SocketAddr,
    pub(crate) scheme: Scheme,
    /// `host[:port]` as the client wrote it.
    pub(crate) host: &'a str,
    pub(crate) request_id: &'a HeaderValue,
    pub(crate) caller: &'a Caller,
    /// Who that is, signed.
    pub(crate) identity: Option<HeaderValue>,
}

/// Makes the head of a client's request into that of the gateway's own request.
pub(crate) fn rewrite_request(
    parts: &mut request::Parts,
    visitor: Visitor<'_>,
    upgrade: Option<HeaderValue>,
) {
    let headers = &mut parts.headers;
    remove_hop_by_hop(headers);
    // Answered here, when a replica begins to read the body.
    headers.remove(header::EXPECT);
    remove_claims(headers);
    hide_credentials(headers);

    // At once: a table that grows is filled anew.
    headers.reserve(ADDED_FIELDS);
    let ip = visitor.peer.ip().to_canonical();
    if let Ok(value) = HeaderValue::try_from(ip.to_string()) {
        headers.insert(X_FORWARDED_FOR, value);
    }
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(visitor.scheme.as_str()));
    if let Ok(host) = HeaderValue::from_str(visitor.host) {
        headers.insert(X_FORWARDED_HOST, host.clone());
        headers.insert(header::HOST, host);
    }
    if let Ok(value) = HeaderValue::try_from(forwarded(ip, &visitor)) {
        headers.insert(header::FORWARDED, value);
    }
    headers.insert(X_REQUEST_ID, visitor.request_id.clone());
    headers.append(header::VIA, via(parts.version));
    introduce(headers, visitor.caller, visitor.identity);
    if let Some(protocol) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol);
        if parts.method == Method::CONNECT {
            parts.method = Method::GET;
            // Over HTTP/2 there is none: the two ends cannot take something else for a WebSocket.
            let key = STANDARD.encode(rand::random::<[u8; 16]>());
            if let Ok(key) = HeaderValue::try_from(key) {
                headers.insert(header::SEC_WEBSOCKET_KEY, key);
            }
        }
    }
    parts.version = Version::HTTP_11;
    origin_form(&mut parts.uri);
}

/// Tells the app who its visitor is.
fn introduce(headers: &mut HeaderMap, caller: &Caller, identity: Option<HeaderValue>) {
    let kind = match caller {
        Caller::Anybody => "anonymous",
        Caller::Person(_) => "person",
        Caller::Link(_) => "link",
        Caller::Key(_) => "key",
    };
    headers.insert(X_MARMOT_VISITOR, HeaderValue::from_static(kind));
    if let Caller::Person(person) = caller
        && let Ok(name) = HeaderValue::from_str(&person.username)
    {
        headers.insert(X_MARMOT_USER, name);
    }
    if let Some(identity) = identity {
        headers.insert(X_MARMOT_IDENTITY, identity);
    }
}

/// What a proxy adds of itself to a message that came over this version.
fn via(version: Version) -> HeaderValue {
    HeaderValue::from_static(match version {
        Version::HTTP_2 => "2 marmot",
        Version::HTTP_10 => "1.0 marmot",
        _ => "1.1 marmot",
    })
}

fn forwarded(ip: IpAddr, visitor: &Visitor<'_>) -> String {
    let scheme = visitor.scheme.as_str();
    match ip {
        IpAddr::V4(ip) => format!("for={ip};host=\"{}\";proto={scheme}", visitor.host),
        IpAddr::V6(ip) => format!("for=\"[{ip}]\";host=\"{}\";proto={scheme}", visitor.host),
    }
}

/// Replicas are sent the path alone; the host is in its header.
fn origin_form(uri: &mut Uri) {
    if uri.authority().is_none() && uri.scheme().is_none() {
        return;
    }
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = uri.path_and_query().cloned();
    *uri = Uri::from_parts(parts).unwrap_or_default();
}

/// Removes what is about the connection to this side, with everything that `Connection` names.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    // One look at each field is less than one search for each name, and most heads have none of them.
    if !headers.keys().any(|name| is_hop_by_hop(name.as_str())) {
        return;
    }
    if let Entry::Occupied(connection) = headers.entry(header::CONNECTION) {
        let named: Vec<HeaderName> = connection
            .iter()
            .flat_map(|list| tokens(list.as_bytes()))
            .filter(|token| {
                !matches!(token.to_ascii_lowercase().as_slice(), b"close" | b"keep-alive" | b"upgrade")
            })
            .filter_map(|token| HeaderName::from_bytes(token).ok())
            .collect();
        connection.remove();
        for name in named {
            headers.remove(name);
        }
    }
    for name in [
        header::UPGRADE,
        header::TRANSFER_ENCODING,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        KEEP_ALIVE,
        PROXY_CONNECTION,
        HTTP2_SETTINGS,
    ] {
        headers.remove(name);
    }
    // `TE: trailers` is the one member that may go on; nothing else in it means anything to the next hop.
    if let Some(te) = headers.remove(header::TE)
        && tokens(te.as_bytes()).any(|token| token.eq_ignore_ascii_case(b"trailers"))
    {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "upgrade"
            | "transfer-encoding"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "keep-alive"
            | "proxy-connection"
            | "http2-settings"
            | "te"
    )
}

/// Removes what only the gateway may say, and names that some frameworks cannot tell from it: CGI and WSGI
/// read `X_Marmot_User` as `X-Marmot-User`.
pub(crate) fn remove_claims(headers: &mut HeaderMap) {
    let is_claim = |name: &str| {
        name.contains('_')
            || name.starts_with("x-forwarded-")
            || name.starts_with("x-marmot-")
            || matches!(name, "forwarded" | "x-real-ip" | "x-request-id" | "x-original-url" | "x-rewrite-url")
    };
    let claims: Vec<HeaderName> = headers.keys().filter(|name| is_claim(name.as_str())).cloned().collect();
    for name in claims {
        headers.remove(name);
    }
}

/// Whether a cookie of this name is the platform's own.
pub(crate) fn is_private_cookie(name: &str) -> bool {
    let name = name.trim();
    // Browsers compare these prefixes without regard to case.
    let without = |prefix: &str| {
        name.split_at_checked(prefix.len())
            .filter(|(start, _)| start.eq_ignore_ascii_case(prefix))
            .map(|(_, rest)| rest)
    };
    let name = without("__Host-").or_else(|| without("__Secure-")).unwrap_or(name);
    name.split_at_checked(PRIVATE_COOKIE.len()).is_some_and(|(start, rest)| {
        start.eq_ignore_ascii_case(PRIVATE_COOKIE) && (rest.is_empty() || rest.starts_with('_'))
    })
}

/// Removes the platform's cookies and tokens; joins what HTTP/2 clients send as several `Cookie` fields.
fn hide_credentials(headers: &mut HeaderMap) {
    let mut lists = headers.get_all(header::COOKIE).iter();
    let several = lists.next().is_some() && lists.next().is_some();
    let private = |list: &HeaderValue| {
        let is_private = |pair: &[u8]| {
            let name = pair.split(|&byte| byte == b'=').next().unwrap_or_default();
            std::str::from_utf8(name).is_ok_and(is_private_cookie)
        };
        list.as_bytes().split(|&byte| byte == b';').any(is_private)
    };
    if several || headers.get(header::COOKIE).is_some_and(private) {
        let kept: Vec<&[u8]> = headers
            .get_all(header::COOKIE)
            .iter()
            .flat_map(|list| list.as_bytes().split(|&byte| byte == b';'))
            .map(<[u8]>::trim_ascii)
            .filter(|pair| {
                let name = pair.split(|&byte| byte == b'=').next().unwrap_or_default();
                !pair.is_empty() && !std::str::from_utf8(name).is_ok_and(is_private_cookie)
            })
            .collect();
        let joined = HeaderValue::from_bytes(&kept.join(&b"; "[..])).ok().filter(|joined| !joined.is_empty());
        match joined {
            Some(joined) => headers.insert(header::COOKIE, joined),
            None => headers.remove(header::COOKIE),
        };
    }
    let is_ours = |value: &HeaderValue| {
        let ours = |token: &[u8]| {
            [PRIVATE_TOKEN_PREFIX, APP_KEY_PREFIX].iter().any(|prefix| token.starts_with(prefix.as_bytes()))
        };
        bearer(value).is_some_and(ours)
    };
    if headers.get_all(header::AUTHORIZATION).iter().any(is_ours) {
        headers.remove(header::AUTHORIZATION);
    }
}

/// The token of an `Authorization` that is of the kind `Bearer`.
fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let mut words = value.as_bytes().split(|&byte| byte == b' ').filter(|word| !word.is_empty());
    let is_bearer = words.next().is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer"));
    words.next().filter(|_| is_bearer)
}

/// The key that a program shows to an app.
pub(crate) fn app_key(headers: &HeaderMap) -> Option<&str> {
    let as_token = || {
        let key = headers.get(header::AUTHORIZATION).and_then(bearer)?;
        key.starts_with(APP_KEY_PREFIX.as_bytes()).then_some(key)
    };
    let key = headers.get(X_MARMOT_KEY).map(HeaderValue::as_bytes).or_else(as_token)?;
    // One that is no text is none that was given out.
    Some(std::str::from_utf8(key).unwrap_or_default())
}

/// The value of the first cookie of this name.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|list| list.to_str().ok())
        .flat_map(|list| list.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(found, value)| (found == name).then_some(value))
}

/// What of an app's answer goes on to the client: not what is about the connection, and no cookie that is, or
/// pretends to be, the platform's.
pub(crate) fn rewrite_response(headers: &mut HeaderMap, version: Version, apps_domain: &str) {
    remove_hop_by_hop(headers);
    headers.append(header::VIA, via(version));
    forget_only_what_is_its_own(headers);
    let is_fine = |value: &HeaderValue| !is_private_set_cookie(value) && !reaches_beyond(value, apps_domain);
    if headers.get_all(header::SET_COOKIE).iter().all(is_fine) {
        return;
    }
    if let Entry::Occupied(cookies) = headers.entry(header::SET_COOKIE) {
        let given = cookies.remove_entry_mult().1;
        let kept: Vec<_> = given.filter(|value| !is_private_set_cookie(value)).collect();
        for value in kept {
            let value = if reaches_beyond(&value, apps_domain) { at_home(&value) } else { Some(value) };
            if let Some(value) = value {
                headers.append(header::SET_COOKIE, value);
            }
        }
    }
}

/// Browsers that are asked to clear cookies clear those of the whole registrable domain: all apps', perhaps the platform's.
/// What else they clear is of one origin.
fn forget_only_what_is_its_own(headers: &mut HeaderMap) {
    let beyond = |value: &HeaderValue| {
        let members = value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
        let is_own = |member: &[u8]| {
            matches!(
                member,
                b"" | b"\"cache\"" | b"\"storage\"" | b"\"executionContexts\"" | b"\"clientHints\""
            )
        };
        !members.into_iter().all(is_own)
    };
    if headers.get_all(CLEAR_SITE_DATA).iter().any(beyond) {
        headers.insert(CLEAR_SITE_DATA, HeaderValue::from_static("\"cache\", \"storage\""));
    }
}

/// Whether each app's host is below this domain: that of all apps, or one above it.
fn is_above_apps(domain: &[u8], apps_domain: &str) -> bool {
    let apps = apps_domain.as_bytes();
    let Some(start) = apps.len().checked_sub(domain.len()) else { return false };
    apps[start..].eq_ignore_ascii_case(domain) && (start == 0 || domain.is_empty() || apps[start - 1] == b'.')
}

fn is_private_set_cookie(value: &HeaderValue) -> bool {
    let name = value.as_bytes().split(|&byte| byte == b'=').next().unwrap_or_default();
    std::str::from_utf8(name).is_ok_and(is_private_cookie)
}

/// The domain that a part of a `Set-Cookie` names.
fn domain_of(attribute: &[u8]) -> Option<&[u8]> {
    let at = attribute.iter().position(|&byte| byte == b'=')?;
    let (name, value) = (attribute[..at].trim_ascii(), attribute[at + 1..].trim_ascii());
    name.eq_ignore_ascii_case(b"domain").then(|| {
        let value = value.strip_prefix(b".").unwrap_or(value);
        value.strip_suffix(b".").unwrap_or(value)
    })
}

/// Whether other apps, or the platform, would be sent this cookie.
fn reaches_beyond(value: &HeaderValue, apps_domain: &str) -> bool {
    let mut attributes = value.as_bytes().split(|&byte| byte == b';').skip(1);
    attributes.any(|attribute| domain_of(attribute).is_some_and(|domain| is_above_apps(domain, apps_domain)))
}

/// The same cookie for the app's own host alone.
fn at_home(value: &HeaderValue) -> Option<HeaderValue> {
    let mut parts = value.as_bytes().split(|&byte| byte == b';');
    let mut kept = vec![parts.next()?];
    kept.extend(parts.filter(|attribute| domain_of(attribute).is_none()));
    HeaderValue::from_bytes(&kept.join(&b';')).ok()
}

/// The protocol that a client asks to switch to, if it is one that is passed through.
pub(crate) fn wanted_upgrade<B>(request: &Request<B>) -> Option<HeaderValue> {
    let websocket = HeaderValue::from_static("websocket");
    if is_websocket_over_http2(request) {
        return Some(websocket);
    }
    let asks = request.version() == Version::HTTP_11
        && request.method() == Method::GET
        && request
            .headers()
            .get_all(header::CONNECTION)
            .iter()
            .any(|list| tokens(list.as_bytes()).any(|token| token.eq_ignore_ascii_case(b"upgrade")));
    let protocol = request.headers().get(header::UPGRADE)?;
    (asks && protocol.as_bytes().eq_ignore_ascii_case(b"websocket")).then_some(websocket)
}

/// A client asks for a WebSocket as one stream of a connection over HTTP/2 (RFC 8441).
pub(crate) fn is_websocket_over_http2<B>(request: &Request<B>) -> bool {
    let protocol = request.extensions().get::<hyper::ext::Protocol>();
    request.method() == Method::CONNECT && protocol.is_some_and(|protocol| protocol.as_str() == "websocket")
}

/// Makes a request one over HTTP/1.1, which it may have been before.
pub(crate) fn for_http1<B>(request: &mut Request<B>) {
    if request.version() == Version::HTTP_2 {
        *request.version_mut() = Version::HTTP_11;
        if let Some(host) = request.uri().authority().map(|host| host.as_str().to_owned())
            && let Ok(host) = HeaderValue::try_from(host)
        {
            request.headers_mut().insert(header::HOST, host);
        }
        origin_form(request.uri_mut());
    }
}

/// Makes a request one over HTTP/2, where the host is part of the address.
pub(crate) fn for_http2<B>(request: &mut Request<B>) {
    if request.version() != Version::HTTP_2 {
        *request.version_mut() = Version::HTTP_2;
        let host = request.headers_mut().remove(header::HOST);
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(http::uri::Scheme::HTTP);
        parts.authority = host.and_then(|host| host.as_bytes().try_into().ok());
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    }
}

/// The id that the client gave its request if it is a plain one, else a new one.
pub(crate) fn request_id(headers: &HeaderMap) -> HeaderValue {
    let is_plain = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        (8..=64).contains(&bytes.len())
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
    };
    let given = headers.get(X_REQUEST_ID).filter(is_plain);
    given.and_then(|id| HeaderValue::from_bytes(id.as_bytes()).ok()).unwrap_or_else(new_request_id)
}

fn new_request_id() -> HeaderValue {
    let mut id = [0; 32];
    for (byte, digits) in rand::random::<[u8; 16]>().into_iter().zip(id.as_chunks_mut().0) {
        let digit = |value: u8| b"0123456789abcdef"[usize::from(value & 15)];
        *digits = [digit(byte >> 4), digit(byte)];
    }
    HeaderValue::from_bytes(&id).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_platforms_cookies_in_every_disguise() {
        for name in
            ["marmot", " marmot ", "__Host-marmot", "__host-marmot_ticket", "__Secure-MARMOT", "marmot_x"]
        {
            assert!(is_private_cookie(name), "{name}");
        }
        for name in ["marmots", "mar", "_marmot", "__Host-", "__Host-marmots", "x_marmot", "", "märmot"] {
            assert!(!is_private_cookie(name), "{name}");
        }
    }

    #[test]
    fn keeps_of_a_cookie_header_what_is_the_apps() {
        for (given, kept) in [
            ("theme=dark", Some("theme=dark")),
            ("marmot=s3cret", None),
            ("a=1; marmot=s3cret; b=2", Some("a=1; b=2")),
            ("a=1;__Host-marmot_ticket=s3cret ;b=x=y", Some("a=1; b=x=y")),
            ("marmot", None),
            ("a=marmot", Some("a=marmot")),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, HeaderValue::from_static(given));
            hide_credentials(&mut headers);
            assert_eq!(headers.get(header::COOKIE).map(|value| value.to_str().unwrap()), kept, "{given}");
        }
    }

    #[test]
    fn an_app_cannot_set_the_platforms_cookies() {
        let mut headers = HeaderMap::new();
        for cookie in ["a=1; Path=/", "marmot=evil; Domain=localhost", "b=2", "marmot_ticket=evil"] {
            headers.append(header::SET_COOKIE, HeaderValue::from_static(cookie));
        }
        rewrite_response(&mut headers, Version::HTTP_11, "localhost");
        let kept: Vec<_> = headers.get_all(header::SET_COOKIE).iter().collect();
        assert_eq!(kept, ["a=1; Path=/", "b=2"]);
    }

    #[test]
    fn a_cookie_of_an_app_is_for_its_own_host_alone() {
        for (given, kept) in [
            ("a=1; Domain=apps.example.org; Path=/", "a=1; Path=/"),
            ("a=1;domain=.example.org", "a=1"),
            ("a=1; DOMAIN = .Org; Secure", "a=1; Secure"),
            ("a=1; Domain=example.org.", "a=1"),
            ("a=1; Domain=; HttpOnly", "a=1; HttpOnly"),
            ("a=Domain=example.org", "a=Domain=example.org"),
            ("a=1; Domain=iris.apps.example.org", "a=1; Domain=iris.apps.example.org"),
            // Browsers refuse these by themselves.
            ("a=1; Domain=ample.org", "a=1; Domain=ample.org"),
            ("a=1; Domain=elsewhere.test", "a=1; Domain=elsewhere.test"),
            ("a=1; Domain=example.org; Domain=iris.apps.example.org", "a=1"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::SET_COOKIE, HeaderValue::from_static(given));
            rewrite_response(&mut headers, Version::HTTP_11, "apps.example.org");
            assert_eq!(headers[header::SET_COOKIE], kept, "{given}");
        }
    }

    #[test]
    fn an_app_makes_browsers_forget_what_is_its_own_and_no_more() {
        let own = "\"cache\", \"storage\"";
        for (given, kept) in [
            ("\"cookies\"", own),
            ("\"*\"", own),
            ("\"cache\",\"cookies\"", own),
            ("\"storage\"", "\"storage\""),
            ("\"cache\" , \"storage\"", "\"cache\" , \"storage\""),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CLEAR_SITE_DATA, HeaderValue::from_static(given));
            rewrite_response(&mut headers, Version::HTTP_11, "apps.example.org");
            assert_eq!(headers[CLEAR_SITE_DATA], kept, "{given}");
        }
    }

    #[test]
    fn a_key_is_read_from_either_header_and_no_app_sees_it() {
        for (name, value, key) in [
            ("authorization", "Bearer mmk_s3cret", Some("mmk_s3cret")),
            ("authorization", "bearer  mmk_s3cret", Some("mmk_s3cret")),
            ("x-marmot-key", "mmk_s3cret", Some("mmk_s3cret")),
            ("x-marmot-key", "nonsense", Some("nonsense")),
            ("authorization", "Bearer the-apps-own", None),
            ("authorization", "Basic mmk_s3cret", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            assert_eq!(app_key(&headers), key, "{name}: {value}");
            remove_claims(&mut headers);
            hide_credentials(&mut headers);
            assert_eq!(headers.is_empty(), key.is_some(), "{name}: {value}");
        }
    }
}
