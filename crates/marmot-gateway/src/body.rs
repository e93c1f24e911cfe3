//! The bodies that pass through: a client's on its way to a replica, and what is answered.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;

use crate::lobby::Events;
use crate::meter::Meter;
use crate::pacing::Pacing;
use crate::shared::Shared;
use crate::slot::{Dismissal, Session, Slot};
use crate::stay::Stay;
use crate::trailers;
use crate::upstream::Connection;
use crate::wire::Busy;

/// Why an answer is cut.
const ACCESS_LOST: &str = "whoever reads the answer may not open the app any more";

/// Why a body ended before its end.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request on its way to a replica. Read only as fast as the replica takes it.
#[derive(Debug)]
pub(crate) enum RequestBody {
    Empty,
    /// Boxed: most requests have none.
    Client(Box<Stream>),
}

/// A body that a client sends.
#[derive(Debug)]
pub(crate) struct Stream {
    /// What was waited for.
    pub(crate) first: Option<Frame<Bytes>>,
    /// What follows.
    pub(crate) body: Incoming,
    /// How many bytes may still pass.
    pub(crate) left: u64,
    /// How many pieces of it have been taken: an upload that goes on is not a silent app.
    pub(crate) taken: Arc<AtomicU64>,
    /// Of the app that it is for.
    pub(crate) meter: Arc<Meter>,
    /// How slowly it comes, where its connection does not tell: over HTTP/2.
    pub(crate) pacing: Option<Box<Pacing>>,
}

/// The client did not send the whole body, or sent it wrongly.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientBodyError {
    #[error("the client's body did not arrive whole")]
    Broken(#[source] hyper::Error),
    #[error("the client's body comes too slowly")]
    TooSlow,
    #[error("the client's body is longer than the app takes")]
    TooLarge,
}

impl RequestBody {
    /// How many bytes of it are kept until a replica takes them.
    pub(crate) fn kept(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::Client(stream) => stream.first.as_ref().and_then(Frame::data_ref).map_or(0, Bytes::len),
        }
    }

    /// Gives what is kept memory of its own, for one that waits: as it came, it is part of what was read from its
    /// connection.
    pub(crate) fn unshare(&mut self) {
        if let Self::Client(stream) = self
            && let Some(data) = stream.first.as_ref().and_then(Frame::data_ref)
        {
            stream.first = Some(Frame::data(Bytes::copy_from_slice(data)));
        }
    }
}

impl Stream {
    /// What follows, if it does not come too slowly.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ClientBodyError>>> {
        let next = Pin::new(&mut self.body).poll_frame(cx);
        let next = next.map(|frame| frame.map(|frame| frame.map_err(ClientBodyError::Broken)));
        let Some(pacing) = &mut self.pacing else { return next };
        match next {
            Poll::Pending => pacing.wait(cx).map(|()| Some(Err(ClientBodyError::TooSlow))),
            Poll::Ready(Some(Ok(frame))) if !pacing.came(frame.data_ref().map_or(0, Bytes::len)) => {
                Poll::Ready(Some(Err(ClientBodyError::TooSlow)))
            }
            next => next,
        }
    }

    fn pass(&mut self, mut frame: Frame<Bytes>) -> Result<Frame<Bytes>, ClientBodyError> {
        let length = frame.data_ref().map_or(0, Bytes::len);
        self.meter.received(length);
        self.left = self.left.checked_sub(length as u64).ok_or(ClientBodyError::TooLarge)?;
        frame.trailers_mut().into_iter().for_each(trailers::of_request);
        Ok(frame)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = ClientBodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ClientBodyError>>> {
        let Self::Client(stream) = self.get_mut() else { return Poll::Ready(None) };
        let frame = match stream.first.take() {
            Some(first) => Some(Ok(first)),
            None => ready!(stream.poll_next(cx)),
        };
        stream.taken.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(frame.map(|frame| frame.and_then(|frame| stream.pass(frame))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client(stream) => stream.first.is_none() && stream.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let Self::Client(stream) = self else { return SizeHint::with_exact(0) };
        let (first, mut size) = (self.kept() as u64, stream.body.size_hint());
        if let Some(upper) = size.upper() {
            size.set_upper(upper + first);
        }
        size.set_lower(size.lower() + first);
        size
    }
}

/// What the gateway answers.
#[expect(clippy::large_enum_variant, reason = "the largest is the one that nearly every request needs")]
pub(crate) enum AnswerBody {
    /// Its own words.
    Own(Option<Bytes>),
    /// An app's answer.
    App(AppBody),
    /// The platform's answer.
    Platform(UnsyncBoxBody<Bytes, BoxError>),
    /// News for the lobby.
    Events(Box<Events>),
}

impl AnswerBody {
    pub(crate) fn empty() -> Self {
        Self::Own(None)
    }
}

impl<T: Into<Bytes>> From<T> for AnswerBody {
    fn from(content: T) -> Self {
        Self::Own(Some(content.into()))
    }
}

/// What is held while an answer is under way.
pub(crate) enum Held {
    /// A replica's slot, and the connection to be kept when the answer is whole.
    Request(Slot, Connection, Stay),
    /// An event stream, which lets its replica sleep.
    Session(OpenStream),
    /// Nothing any more: the answer is out.
    Done,
}

/// An event stream. It has no end of its own to wait for when the gateway stops, or the visitor loses access.
pub(crate) struct OpenStream {
    session: Session,
    /// Closed with the stream.
    connection: Connection,
    dismissed: Pin<Box<dyn Future<Output = Dismissal> + Send>>,
}

impl OpenStream {
    pub(crate) fn new(session: Session, connection: Connection) -> Self {
        let dismissed = Box::pin(session.dismissed());
        Self { session, connection, dismissed }
    }
}

/// An app's answer on its way to the client. Read only as fast as the client takes it.
pub(crate) struct AppBody {
    incoming: Incoming,
    held: Held,
    meter: Arc<Meter>,
    shared: Arc<Shared>,
}

impl AppBody {
    pub(crate) fn new(incoming: Incoming, held: Held, shared: Arc<Shared>) -> Self {
        let meter = match &held {
            Held::Request(slot, ..) => Arc::clone(&slot.route.meter),
            Held::Session(stream) => Arc::clone(&stream.session.route.meter),
            Held::Done => Arc::default(),
        };
        let mut body = Self { incoming, held, meter, shared };
        if body.incoming.is_end_stream() {
            body.finish();
        }
        body
    }

    /// The answer is whole: its connection may carry the next request.
    fn finish(&mut self) {
        if let Held::Request(slot, connection, _) = std::mem::replace(&mut self.held, Held::Done) {
            self.shared.pool.put(connection, self.shared.clock.now());
            drop(slot);
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Own(content) => Poll::Ready(content.take().map(|content| Ok(Frame::data(content)))),
            Self::App(body) => Pin::new(body).poll_frame(cx),
            Self::Platform(body) => Pin::new(body).poll_frame(cx),
            Self::Events(events) => events.poll_next(cx).map(|text| text.map(|text| Ok(Frame::data(text)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(content) => content.as_ref().is_none_or(Bytes::is_empty),
            Self::App(body) => body.is_end_stream(),
            Self::Platform(body) => body.is_end_stream(),
            Self::Events(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(content) => {
                SizeHint::with_exact(content.as_ref().map_or(0, |content| content.len() as u64))
            }
            Self::App(body) => body.incoming.size_hint(),
            Self::Platform(body) => body.size_hint(),
            Self::Events(_) => SizeHint::default(),
        }
    }
}

/// An answer, while which its connection is busy.
pub(crate) struct Watched {
    pub(crate) body: AnswerBody,
    pub(crate) _busy: Busy,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Body for AppBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        match &mut this.held {
            Held::Session(stream) => {
                if stream.dismissed.as_mut().poll(cx).is_ready() {
                    this.held = Held::Done;
                    return Poll::Ready(Some(Err("the event stream is cut".into())));
                }
                stream.connection.drive(cx);
            }
            Held::Request(slot, connection, stay) => {
                if stay.is_over(&this.shared, &slot.route.app) {
                    this.held = Held::Done;
                    return Poll::Ready(Some(Err(ACCESS_LOST.into())));
                }
                connection.drive(cx);
            }
            Held::Done => {}
        }
        let Poll::Ready(mut frame) = Pin::new(&mut this.incoming).poll_frame(cx) else {
            // Only an answer that is waited for has somebody look after its end: nearly all of them come at once.
            if let Held::Request(slot, _, stay) = &mut this.held
                && stay.poll_over(&this.shared, &slot.route.app, cx).is_ready()
            {
                this.held = Held::Done;
                return Poll::Ready(Some(Err(ACCESS_LOST.into())));
            }
            return Poll::Pending;
        };
        match &mut frame {
            Some(Ok(frame)) => {
                this.meter.sent(frame.data_ref().map_or(0, Bytes::len));
                frame.trailers_mut().into_iter().for_each(trailers::of_answer);
                if let Held::Session(stream) = &this.held {
                    stream.session.touch();
                }
                if this.incoming.is_end_stream() {
                    this.finish();
                }
            }
            None => this.finish(),
            // The connection is dropped with the rest, and the client's is cut.
            Some(Err(_)) => this.held = Held::Done,
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BoxError::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }
}
