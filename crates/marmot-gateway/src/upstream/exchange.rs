//! A connection over HTTP/1.1 to a replica: one request, its answer, and then the next.
//!
//! Whoever has it drives it by asking for the answer, then for the parts of its body: no task of its own has to be woken.
//! It carries another request only after an answer whose end is certain, with nothing behind it.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response, StatusCode, request};
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::chunks::{Chunks, Piece};
use super::head::{self, Framing};
use super::request::{Outbox, Unsent};
use super::{Failed, Why};
use crate::body::RequestBody;

/// Read at once of what is small. What comes is copied: most answers are shorter by far.
const SCRATCH: usize = 16 * 1024;
/// Read at once of an answer that has filled that, without a copy.
const LARGE: usize = 64 * 1024;

thread_local! {
    /// One for all connections of a core: what is read is taken out before anybody else reads.
    static READ_INTO: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// A connection, and how far what passes over it has come.
pub(super) struct Exchange<S = TcpStream> {
    stream: S,
    state: State,
    outbox: Outbox,
    /// The head of the request that is under way, for another try.
    parts: Option<request::Parts>,
    /// Read and not yet used.
    input: Bytes,
    /// The head of an answer as far as it has come, if not at once.
    partial: Vec<u8>,
    /// The last read brought as much as there was room for.
    is_large: bool,
    /// Why the replica takes no more of the request.
    refused: Option<io::Error>,
    /// The first that came was a SETTINGS frame, with which every server of HTTP/2 begins.
    pub(super) began_with_settings: Option<bool>,
}

enum State {
    /// Nothing is under way.
    Idle,
    /// A request is on its way, or has to be answered.
    Asked,
    /// The answer's body is under way.
    Body(Left),
    /// It is answered. `keeps`: as far as the answer goes, another request may follow.
    Answered { keeps: bool },
    /// Nothing that follows can be understood.
    Broken,
}

struct Left {
    body: LeftOf,
    keeps: bool,
}

enum LeftOf {
    Length(u64),
    Chunked(Chunks),
    UntilClose,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Exchange<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            state: State::Idle,
            outbox: Outbox::default(),
            parts: None,
            input: Bytes::new(),
            partial: Vec::new(),
            is_large: false,
            refused: None,
            began_with_settings: None,
        }
    }

    /// Begins a request. Nothing of it is sent before its answer is asked for.
    pub(super) fn begin(&mut self, request: Request<RequestBody>) {
        let (parts, body) = request.into_parts();
        self.outbox.fill(&parts, body);
        self.parts = Some(parts);
        self.state = State::Asked;
    }

    pub(super) fn stream(&self) -> &S {
        &self.stream
    }

    /// Another request may follow: what there was is complete, on both ways, and nothing has come behind it.
    pub(super) fn is_usable(&mut self) -> bool {
        self.outbox.shrink();
        self.input.is_empty()
            && self.outbox.is_empty()
            && self.refused.is_none()
            && matches!(self.state, State::Idle | State::Answered { keeps: true })
    }

    /// Nothing more comes of the answer.
    pub(super) fn is_answered(&self) -> bool {
        matches!(self.state, State::Answered { .. })
    }

    /// How much more comes of the answer.
    pub(super) fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Answered { .. } => SizeHint::with_exact(0),
            State::Body(Left { body: LeftOf::Length(left), .. }) => SizeHint::with_exact(*left),
            _ => SizeHint::default(),
        }
    }

    /// Sends the request, and waits for the head of its answer.
    pub(super) fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<()>, Failed>> {
        let answer = ready!(self.poll_head(cx));
        Poll::Ready(answer.map_err(|why| {
            self.state = State::Broken;
            let unsent = !self.outbox.has_begun && matches!(why, Why::Lost(_));
            let (body, parts) = (self.outbox.take_back(), self.parts.take());
            match parts {
                Some(parts) if unsent => {
                    Failed { why, unsent: Some(Request::from_parts(parts, body)), head: None }
                }
                head => Failed { why, unsent: None, head },
            }
        }))
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<()>, Why>> {
        self.poll_send(cx)?;
        loop {
            let bytes = match ready!(self.poll_receive(cx)) {
                Ok(bytes) if !bytes.is_empty() => bytes,
                Ok(_) => {
                    let mut partial = Bytes::from(std::mem::take(&mut self.partial));
                    let is_nonsense = !partial.is_empty() && head::read(&mut partial, false).is_err();
                    let lost = Why::Lost(self.refused.take());
                    return Poll::Ready(Err(if is_nonsense { Why::Nonsense } else { lost }));
                }
                Err(error) => return Poll::Ready(Err(Why::Lost(Some(error)))),
            };
            if self.began_with_settings.is_none() {
                self.began_with_settings = Some(is_settings(&bytes));
            }
            // What came before anything was asked is no answer.
            if !self.outbox.has_begun {
                return Poll::Ready(Err(Why::Lost(None)));
            }
            if let Some(response) = self.take_head(bytes)? {
                return Poll::Ready(Ok(response));
            }
        }
    }

    fn take_head(&mut self, bytes: Bytes) -> Result<Option<Response<()>>, Why> {
        let mut bytes = if self.partial.is_empty() {
            bytes
        } else {
            self.partial.extend_from_slice(&bytes);
            // A head ends with a line. One that drips in is not read anew for each byte.
            if !bytes.contains(&b'\n') && self.partial.len() <= head::HEAD_BYTES {
                return Ok(None);
            }
            Bytes::from(std::mem::take(&mut self.partial))
        };
        let bodiless = self.parts.as_ref().is_some_and(|parts| parts.method == Method::HEAD);
        let Some(head) = head::read(&mut bytes, bodiless).map_err(|_| Why::Nonsense)? else {
            self.partial = bytes.into();
            return Ok(None);
        };
        if head.response.status() == StatusCode::SWITCHING_PROTOCOLS && !self.outbox.is_empty() {
            return Err(Why::Nonsense);
        }
        self.input = bytes;
        self.parts = None;
        let keeps = head.keeps;
        self.state = match head.framing {
            Framing::Length(0) => State::Answered { keeps },
            Framing::Length(length) => State::Body(Left { body: LeftOf::Length(length), keeps }),
            Framing::Chunked => State::Body(Left { body: LeftOf::Chunked(Chunks::default()), keeps }),
            Framing::UntilClose => State::Body(Left { body: LeftOf::UntilClose, keeps }),
        };
        Ok(Some(head.response))
    }

    /// The next part of the answer's body.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let frame = ready!(self.poll_part(cx));
        if frame.is_err() {
            self.state = State::Broken;
        }
        Poll::Ready(frame.transpose())
    }

    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Frame<Bytes>>>> {
        // What is left of the request goes on while its answer comes.
        self.poll_send(cx).map_err(io::Error::other)?;
        loop {
            let left = match &mut self.state {
                State::Body(left) => left,
                State::Answered { .. } => return Poll::Ready(Ok(None)),
                _ => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
            };
            let keeps = left.keeps;
            let frame = match &mut left.body {
                _ if self.input.is_empty() => None,
                LeftOf::Length(left) => {
                    let here =
                        usize::try_from(*left).map_or(self.input.len(), |left| left.min(self.input.len()));
                    *left -= here as u64;
                    let piece = self.input.split_to(here);
                    if *left == 0 {
                        self.state = State::Answered { keeps };
                    }
                    Some(Frame::data(piece))
                }
                LeftOf::UntilClose => Some(Frame::data(std::mem::take(&mut self.input))),
                LeftOf::Chunked(chunks) => match chunks.next(&mut self.input).map_err(io::Error::other)? {
                    None => None,
                    Some(Piece::Data(piece)) => Some(Frame::data(piece)),
                    Some(Piece::End(trailers)) => {
                        self.state = State::Answered { keeps };
                        return Poll::Ready(Ok(trailers.map(Frame::trailers)));
                    }
                },
            };
            if frame.is_some() {
                return Poll::Ready(Ok(frame));
            }
            self.input = ready!(self.poll_receive(cx))?;
            if self.input.is_empty() {
                let State::Body(Left { body: LeftOf::UntilClose, .. }) = self.state else {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                };
                self.state = State::Answered { keeps: false };
            }
        }
    }

    /// Sends what there is of the request. A replica that takes no more may have answered already, and closed the
    /// connection behind its answer: that is to be read yet.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<(), Why> {
        if self.outbox.is_empty() {
            return Ok(());
        }
        match self.outbox.poll_send(cx, &mut self.stream) {
            Poll::Pending | Poll::Ready(Ok(())) => Ok(()),
            Poll::Ready(Err(Unsent::Client(error))) => Err(Why::Client(error)),
            Poll::Ready(Err(Unsent::Length)) => Err(Why::Length),
            Poll::Ready(Err(Unsent::Connection(error))) if self.outbox.has_begun => {
                self.refused = Some(error);
                self.outbox.give_up();
                Ok(())
            }
            Poll::Ready(Err(Unsent::Connection(error))) => Err(Why::Lost(Some(error))),
        }
    }

    /// What has come. Nothing: the connection has ended.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        if self.is_large {
            let mut buffer = BytesMut::with_capacity(LARGE);
            let read = ready!(tokio_util::io::poll_read_buf(Pin::new(&mut self.stream), cx, &mut buffer))?;
            self.is_large = read >= SCRATCH;
            return Poll::Ready(Ok(buffer.freeze()));
        }
        READ_INTO.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            self.is_large = buffer.remaining() == 0;
            Poll::Ready(Ok(Bytes::copy_from_slice(buffer.filled())))
        })
    }
}

impl Exchange {
    /// What the connection has become, once the replica has switched to another protocol.
    pub(super) fn into_switched(self) -> Switched {
        Switched { start: self.input, stream: self.stream }
    }
}

fn is_settings(bytes: &[u8]) -> bool {
    matches!(bytes, [0, _, _, 4, 0, 0, 0, 0, 0, ..])
}

/// A connection to a replica that is no HTTP any more.
#[derive(Debug)]
pub(crate) struct Switched {
    /// What came with the answer that said so.
    start: Bytes,
    stream: TcpStream,
}

impl AsyncRead for Switched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.start.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let here = self.start.len().min(buffer.remaining());
        buffer.put_slice(&self.start.split_to(here));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Switched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
