//! The head of a replica's answer: where it ends, what it says, and how its body is framed.

use std::mem::MaybeUninit;

use bytes::{Buf as _, Bytes};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode, Version};

use crate::check::tokens;

/// Fields of a head, or behind a body.
pub(super) const MAX_FIELDS: usize = 100;
/// Bytes of a head. More: 502.
pub(super) const HEAD_BYTES: usize = 64 * 1024;

/// It is no answer, or one that can be read in two ways.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer cannot be understood")]
pub(super) struct BadHead;

/// How the end of a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
    /// By the end of the connection.
    UntilClose,
}

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) response: Response<()>,
    pub(super) framing: Framing,
    /// The connection may carry another request.
    pub(super) keeps: bool,
}

/// Reads the head with which `input` begins, and takes it away; those of interim answers are skipped. `None`: more has
/// to come. `bodiless`: whatever is said of a body, there is none.
pub(super) fn read(input: &mut Bytes, bodiless: bool) -> Result<Option<Head>, BadHead> {
    loop {
        let Some(head) = read_one(input, bodiless)? else {
            return if input.len() > HEAD_BYTES { Err(BadHead) } else { Ok(None) };
        };
        let status = head.response.status();
        if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Some(head));
        }
    }
}

fn read_one(input: &mut Bytes, bodiless: bool) -> Result<Option<Head>, BadHead> {
    let mut room = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let outcome =
        httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, input, &mut room);
    let length = match outcome {
        Ok(httparse::Status::Complete(length)) if length <= HEAD_BYTES => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        _ => return Err(BadHead),
    };
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(BadHead)?;
    let version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let headers = fields(parsed.headers, input).ok_or(BadHead)?;
    input.advance(length);
    let framing = framing(status, version, &headers, bodiless)?;
    let keeps = keeps(version, &headers) && framing != Framing::UntilClose;
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.version_mut() = version;
    *response.headers_mut() = headers;
    Ok(Some(Head { response, framing, keeps }))
}

/// Fields that were found in `text`, as parts of it.
pub(super) fn fields(found: &[httparse::Header<'_>], text: &Bytes) -> Option<HeaderMap> {
    let mut headers = HeaderMap::with_capacity(found.len() + 4);
    for field in found {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        let value = HeaderValue::from_maybe_shared(text.slice_ref(field.value)).ok()?;
        headers.append(name, value);
    }
    Some(headers)
}

/// RFC 9112, section 6.3.
fn framing(
    status: StatusCode,
    version: Version,
    headers: &HeaderMap,
    bodiless: bool,
) -> Result<Framing, BadHead> {
    let has_none = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if has_none || status.is_informational() || bodiless {
        return Ok(Framing::Length(0));
    }
    let mut encodings = headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(encoding) = encodings.next() {
        // No encoding but this one is undone on the way, and HTTP/1.0 knows none.
        let is_chunked = encoding.as_bytes().eq_ignore_ascii_case(b"chunked")
            && encodings.next().is_none()
            && version == Version::HTTP_11;
        return if is_chunked { Ok(Framing::Chunked) } else { Err(BadHead) };
    }
    if !headers.contains_key(header::CONTENT_LENGTH) {
        return Ok(Framing::UntilClose);
    }
    length(headers).map(Framing::Length).ok_or(BadHead)
}

/// The one length that is given, however often. `None`: there is none, or more than one.
pub(super) fn length(headers: &HeaderMap) -> Option<u64> {
    let values = headers.get_all(header::CONTENT_LENGTH).iter();
    let mut lengths = values.flat_map(|value| value.as_bytes().split(|&byte| byte == b',')).map(number);
    let first = lengths.next()??;
    // The two largest mean something else to hyper, which is handed answers on.
    (first < u64::MAX - 1 && lengths.all(|other| other == Some(first))).then_some(first)
}

fn number(digits: &[u8]) -> Option<u64> {
    let digits = digits.trim_ascii();
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()
}

fn keeps(version: Version, headers: &HeaderMap) -> bool {
    let mut keeps = version == Version::HTTP_11;
    for list in headers.get_all(header::CONNECTION) {
        for token in tokens(list.as_bytes()) {
            if token.eq_ignore_ascii_case(b"close") {
                return false;
            }
            keeps |= token.eq_ignore_ascii_case(b"keep-alive");
        }
    }
    keeps
}
