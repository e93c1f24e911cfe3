//! A request on its way to a replica over HTTP/1.1: its head as bytes, its body in pieces.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::{HeaderMap, HeaderName, Method, header, request};
use http_body::Body as _;
use tokio::io::AsyncWrite;

use super::head::length;
use crate::body::{ClientBodyError, RequestBody};

/// Room for a head that is kept with a connection.
const KEPT_ROOM: usize = 4096;

/// What is still to be sent of a request.
#[derive(Debug)]
pub(super) struct Outbox {
    /// A head, or the line before a chunk.
    line: Vec<u8>,
    /// How much of it is sent.
    sent: usize,
    piece: Bytes,
    /// What ends a chunk.
    after: &'static [u8],
    /// Kept until all is done, so that whoever sends it sees it end well.
    body: RequestBody,
    encoding: Encoding,
    /// Something was sent.
    pub(super) has_begun: bool,
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            line: Vec::new(),
            sent: 0,
            piece: Bytes::new(),
            after: b"",
            body: RequestBody::Empty,
            encoding: Encoding::Over,
            has_begun: false,
        }
    }
}

/// How a replica is told where the body ends.
#[derive(Debug)]
enum Encoding {
    /// There is none, or no more of it.
    Over,
    /// This much is still to come.
    Length(u64),
    /// With the names of the fields that may follow.
    Chunked(Vec<HeaderName>),
}

/// Why a request is not sent to its end.
#[derive(Debug)]
pub(super) enum Unsent {
    Client(ClientBodyError),
    /// The client sent another length than it said.
    Length,
    Connection(io::Error),
}

impl Outbox {
    /// A request, with nothing of it sent.
    pub(super) fn fill(&mut self, parts: &request::Parts, body: RequestBody) {
        self.line.clear();
        (self.sent, self.has_begun) = (0, false);
        self.encoding = encoding(parts, &body);
        write_head(&mut self.line, parts, &self.encoding, &body);
        self.body = body;
    }

    /// All of it is sent.
    pub(super) fn is_empty(&self) -> bool {
        self.is_flushed() && !self.has_more()
    }

    /// The body has not come to its end.
    fn has_more(&self) -> bool {
        !matches!(self.encoding, Encoding::Over)
    }

    fn is_flushed(&self) -> bool {
        self.sent == self.line.len() && self.piece.is_empty() && self.after.is_empty()
    }

    /// The body of a request of which nothing was sent.
    pub(super) fn take_back(&mut self) -> RequestBody {
        let Self { mut body, piece, .. } = std::mem::take(self);
        body.put_back(piece);
        body
    }

    /// Nothing more of it is sent.
    pub(super) fn give_up(&mut self) {
        *self = Self { has_begun: self.has_begun, ..Self::default() };
    }

    /// Holds no more than a connection may that waits for its next request.
    pub(super) fn shrink(&mut self) {
        self.body = RequestBody::Empty;
        if self.line.capacity() > KEPT_ROOM {
            self.line = Vec::new();
        }
    }

    /// Sends as much as the replica takes, and as the client has sent.
    pub(super) fn poll_send<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<Result<(), Unsent>> {
        loop {
            if self.sent == self.line.len() {
                self.line.clear();
                self.sent = 0;
            }
            // A head goes together with what there is of its body.
            let has_room = self.piece.is_empty() && self.after.is_empty();
            if has_room && self.has_more() && self.poll_body(cx)?.is_pending() && self.is_flushed() {
                return Poll::Pending;
            }
            if self.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if self.is_flushed() {
                continue;
            }
            ready!(self.poll_flush(cx, stream)).map_err(Unsent::Connection)?;
        }
    }

    /// Takes the next piece of the body.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Unsent>> {
        let body = std::pin::Pin::new(&mut self.body);
        let frame = ready!(body.poll_frame(cx)).transpose().map_err(Unsent::Client)?;
        let is_over = frame.is_none();
        let (piece, trailers) = match frame.map(http_body::Frame::into_data) {
            Some(Ok(piece)) => (piece, None),
            Some(Err(frame)) => (Bytes::new(), frame.into_trailers().ok()),
            None => (Bytes::new(), None),
        };
        match &mut self.encoding {
            Encoding::Over => {}
            Encoding::Length(left) => {
                *left = left.checked_sub(piece.len() as u64).ok_or(Unsent::Length)?;
                if is_over && *left > 0 {
                    return Poll::Ready(Err(Unsent::Length));
                }
                self.piece = piece;
                if *left == 0 {
                    self.encoding = Encoding::Over;
                }
            }
            Encoding::Chunked(_) if is_over => {
                self.line.extend_from_slice(b"0\r\n\r\n");
                self.encoding = Encoding::Over;
            }
            Encoding::Chunked(named) => {
                if let Some(trailers) = trailers {
                    self.line.extend_from_slice(b"0\r\n");
                    write_fields(&mut self.line, &trailers, |name| named.contains(name));
                    self.line.extend_from_slice(b"\r\n");
                    self.encoding = Encoding::Over;
                } else if !piece.is_empty() {
                    use std::io::Write as _;
                    let _ = write!(self.line, "{:x}\r\n", piece.len());
                    self.piece = piece;
                    self.after = b"\r\n";
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_flush<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<()>> {
        let stream = std::pin::Pin::new(stream);
        let line = &self.line[self.sent..];
        let written = if self.piece.is_empty() && self.after.is_empty() {
            ready!(stream.poll_write(cx, line))?
        } else {
            let slices = [IoSlice::new(line), IoSlice::new(&self.piece), IoSlice::new(self.after)];
            ready!(stream.poll_write_vectored(cx, &slices))?
        };
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.has_begun = true;
        let of_line = written.min(self.line.len() - self.sent);
        self.sent += of_line;
        let of_piece = (written - of_line).min(self.piece.len());
        self.piece.advance(of_piece);
        self.after = &self.after[written - of_line - of_piece..];
        Poll::Ready(Ok(()))
    }
}

fn encoding(parts: &request::Parts, body: &RequestBody) -> Encoding {
    if matches!(body, RequestBody::Empty) {
        return Encoding::Over;
    }
    match length(&parts.headers).or_else(|| body.size_hint().exact()) {
        Some(0) => Encoding::Over,
        Some(length) => Encoding::Length(length),
        // Hardly a server expects one, and what it does not read it may take for the next request.
        None if matches!(parts.method, Method::GET | Method::HEAD) => Encoding::Over,
        None => {
            let lists = parts.headers.get_all(header::TRAILER).iter();
            let names = lists.flat_map(|list| crate::check::tokens(list.as_bytes()));
            Encoding::Chunked(names.filter_map(|name| HeaderName::from_bytes(name).ok()).collect())
        }
    }
}

fn write_head(line: &mut Vec<u8>, parts: &request::Parts, encoding: &Encoding, body: &RequestBody) {
    line.extend_from_slice(parts.method.as_str().as_bytes());
    line.push(b' ');
    let target = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    line.extend_from_slice(target.as_bytes());
    line.extend_from_slice(b" HTTP/1.1\r\n");
    write_fields(line, &parts.headers, |name| {
        name != header::CONTENT_LENGTH && name != header::TRANSFER_ENCODING
    });
    match encoding {
        Encoding::Length(length) => {
            use std::io::Write as _;
            let _ = write!(line, "content-length: {length}\r\n");
        }
        Encoding::Chunked(_) => line.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        // Where nothing was said, and nothing comes, nothing is said.
        Encoding::Over => {
            let is_said = parts.headers.contains_key(header::CONTENT_LENGTH);
            let is_known = !matches!(body, RequestBody::Empty) && body.size_hint().exact() == Some(0);
            if is_said || is_known {
                line.extend_from_slice(b"content-length: 0\r\n");
            }
        }
    }
    line.extend_from_slice(b"\r\n");
}

fn write_fields(line: &mut Vec<u8>, headers: &HeaderMap, goes_on: impl Fn(&HeaderName) -> bool) {
    for (name, value) in headers {
        if goes_on(name) {
            line.extend_from_slice(name.as_str().as_bytes());
            line.extend_from_slice(b": ");
            line.extend_from_slice(value.as_bytes());
            line.extend_from_slice(b"\r\n");
        }
    }
}
