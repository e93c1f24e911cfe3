//! Refuses requests that two servers could read differently, before anything acts on them.
//!
//! hyper parses; this checks what hyper lets pass. Whatever is ambiguous ends as 400 with the connection closed, and
//! is never forwarded.

use http::header::{self, HeaderMap, HeaderName};
use http::uri::Authority;
use http::{Method, Request, StatusCode, Version};

use crate::config::Limits;
use crate::headers::is_websocket_over_http2;
use crate::host::Host;

/// Why a request is refused, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("the request has no Host header")]
    NoHost,
    #[error("the request has more than one Host header")]
    ManyHosts,
    #[error("the Host header is not a host name with an optional port")]
    BadHost,
    #[error("the address in the request line and the Host header differ")]
    HostsDiffer,
    #[error("the request target is not a path, in which everything but ASCII is percent-encoded")]
    BadTarget,
    #[error("the method is not served here")]
    Method,
    #[error(
        "the head can be read in two ways: the length of the body must be given once, by one Content-Length or by \
         `Transfer-Encoding: chunked`, every line must end with CR LF, and the target has no `#`"
    )]
    Framing,
    #[error("the Connection header names a header that is not about the connection")]
    Connection,
    #[error("the only expectation that can be met is `100-continue`")]
    Expectation,
    #[error("the request target is too long")]
    TargetTooLong,
    #[error("the head has too many fields")]
    TooManyFields,
}

impl Malformed {
    /// The status that says so.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::TooManyFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// Checks the head of a request, and says whom it is addressed to: `host[:port]`.
pub(crate) fn check<'r, B>(request: &'r Request<B>, limits: &Limits) -> Result<&'r str, Malformed> {
    if matches!(request.method().as_str(), "CONNECT" | "TRACE" | "TRACK") && !is_websocket_over_http2(request)
    {
        return Err(Malformed::Method);
    }
    let uri = request.uri();
    if uri.path().len() + uri.query().map_or(0, str::len) > limits.uri_bytes {
        return Err(Malformed::TargetTooLong);
    }
    if !(uri.path().starts_with('/') || (uri.path() == "*" && request.method() == Method::OPTIONS)) {
        return Err(Malformed::BadTarget);
    }
    // Apps decode other bytes in ways of their own, if they take them at all.
    if !(uri.path().is_ascii() && uri.query().is_none_or(str::is_ascii)) {
        return Err(Malformed::BadTarget);
    }
    let headers = request.headers();
    if headers.len() > limits.header_fields {
        return Err(Malformed::TooManyFields);
    }
    let host = match request.version() {
        Version::HTTP_2 if !matches!(uri.scheme_str(), None | Some("http" | "https")) => {
            return Err(Malformed::BadTarget);
        }
        Version::HTTP_2 => authority_of_http2(uri.authority(), headers)?,
        _ => {
            check_framing(headers)?;
            authority_of_http1(request)?
        }
    };
    if !host.is_ascii() || Host::parse(host).is_none() {
        return Err(Malformed::BadHost);
    }
    match headers.get(header::EXPECT) {
        Some(value) if !value.as_bytes().eq_ignore_ascii_case(b"100-continue") => Err(Malformed::Expectation),
        _ => Ok(host),
    }
}

fn single_host(headers: &HeaderMap) -> Result<Option<&str>, Malformed> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let first = hosts.next();
    if hosts.next().is_some() {
        return Err(Malformed::ManyHosts);
    }
    first.map(|host| host.to_str().map_err(|_| Malformed::BadHost)).transpose()
}

fn authority_of_http1<B>(request: &Request<B>) -> Result<&str, Malformed> {
    let host = single_host(request.headers())?.ok_or(Malformed::NoHost)?;
    let uri = request.uri();
    match uri.authority() {
        None => Ok(host),
        Some(_) if !matches!(uri.scheme_str(), Some("http" | "https")) => Err(Malformed::BadTarget),
        Some(authority) if authority.as_str().eq_ignore_ascii_case(host) => Ok(host),
        Some(_) => Err(Malformed::HostsDiffer),
    }
}

/// Over HTTP/2 `:authority` counts, and a `host` beside it must say the same.
fn authority_of_http2<'r>(
    authority: Option<&'r Authority>,
    headers: &'r HeaderMap,
) -> Result<&'r str, Malformed> {
    match (authority, single_host(headers)?) {
        (Some(authority), Some(host)) if !authority.as_str().eq_ignore_ascii_case(host) => {
            Err(Malformed::HostsDiffer)
        }
        (Some(authority), _) => Ok(authority.as_str()),
        (None, Some(host)) => Ok(host),
        (None, None) => Err(Malformed::NoHost),
    }
}

fn check_framing(headers: &HeaderMap) -> Result<(), Malformed> {
    let mut encodings = headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(encoding) = encodings.next() {
        let clean = encoding.as_bytes().eq_ignore_ascii_case(b"chunked")
            && encodings.next().is_none()
            && !headers.contains_key(header::CONTENT_LENGTH);
        if !clean {
            return Err(Malformed::Framing);
        }
    }
    let mut nominated = headers.get_all(header::CONNECTION).iter().flat_map(|list| tokens(list.as_bytes()));
    if nominated.any(is_end_to_end) { Err(Malformed::Connection) } else { Ok(()) }
}

/// The members of a comma-separated list.
pub(crate) fn tokens(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|&byte| byte == b',').map(|token| token.trim_ascii()).filter(|token| !token.is_empty())
}

/// A header whose removal would change what the request means or who sent it. One that `Connection` names is
/// removed on the way, so naming these is an attempt to do just that.
fn is_end_to_end(name: &[u8]) -> bool {
    const PROTECTED: [HeaderName; 9] = [
        header::HOST,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::CONTENT_TYPE,
        header::COOKIE,
        header::AUTHORIZATION,
        header::FORWARDED,
        header::ORIGIN,
        header::EXPECT,
    ];
    let has_prefix =
        |prefix: &[u8]| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    PROTECTED.iter().any(|header| header.as_str().as_bytes().eq_ignore_ascii_case(name))
        || has_prefix(b"x-forwarded-")
        || has_prefix(b"x-marmot-")
        || has_prefix(b"x-real-ip")
        || has_prefix(b"x-request-id")
}
