//! A client that has closed its side of a connection while its request is being answered: it has left, or it has nothing
//! more to say and waits.
//!
//! Both look the same on the wire. nginx takes the first for granted, HAProxy the second. Here whoever does so is spoken
//! to: a system whose program has closed the socket resets the connection at the next byte, and one whose program waits
//! does not. What is said is the answer itself, or `100 Continue` if there is none within a moment: clients of HTTP/1.1
//! skip what they did not ask for (RFC 9110, 15.2).

use std::io;
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncWrite as _, Interest};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use crate::stream::Stream;

/// Most answers are there within this time, and need no question before.
const MOMENT: Duration = Duration::from_millis(100);
/// A question to which whoever is there does not answer, and whoever has left does.
const QUESTION: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// Each costs a descriptor: a crowd that leaves at once must not take those that others need. More are taken to have left.
const MOST: usize = 512;

static WATCHED: AtomicUsize = AtomicUsize::new(0);

/// One of those that are watched.
#[derive(Debug)]
struct Place;

impl Place {
    fn take() -> Option<Self> {
        let taken = WATCHED.fetch_add(1, Ordering::Relaxed);
        let place = Self;
        (taken < MOST).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        WATCHED.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A client that has closed its side, and may still be there.
pub(crate) struct HalfClosed {
    /// Ready when the connection has been reset.
    reset: Pin<Box<dyn Future<Output = ()> + Send>>,
    moment: Pin<Box<Sleep>>,
    /// Something was sent since: whoever has left resets the connection.
    spoken_to: bool,
    _place: Place,
}

impl std::fmt::Debug for HalfClosed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HalfClosed").field("spoken_to", &self.spoken_to).finish_non_exhaustive()
    }
}

/// What may be said to such a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Say {
    /// A question: its answer has not begun.
    Question,
    /// Nothing but its answer, which has begun; or it knows no answers but that one (HTTP/1.0).
    Nothing,
    /// It is being spoken to already: what was sent is on its way.
    Spoken,
}

impl HalfClosed {
    /// Watches a client that has just closed its side. `None`: it is taken to have left.
    pub(crate) fn watch(stream: &Stream) -> Option<Box<Self>> {
        let place = Place::take()?;
        // Registered apart from the stream, which is always ready to be read from now on.
        let again = std::net::TcpStream::from(stream.tcp().as_fd().try_clone_to_owned().ok()?);
        let again = TcpStream::from_std(again).ok()?;
        let reset = Box::pin(async move {
            let _ = again.ready(Interest::ERROR).await;
        });
        let moment = Box::pin(tokio::time::sleep(MOMENT));
        Some(Box::new(Self { reset, moment, spoken_to: false, _place: place }))
    }

    /// Something was sent to it.
    pub(crate) fn spoken_to(&mut self) {
        self.spoken_to = true;
    }

    /// Ready when it has left.
    pub(crate) fn poll_left(&mut self, cx: &mut Context<'_>, stream: &mut Stream, say: Say) -> Poll<()> {
        if self.reset.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if self.spoken_to || self.moment.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        match say {
            // Whoever hears nothing cannot be told from one who has left, and most have.
            Say::Nothing => return Poll::Ready(()),
            Say::Question if ask(cx, stream).is_err() => return Poll::Ready(()),
            Say::Question | Say::Spoken => self.spoken_to = true,
        }
        Poll::Pending
    }
}

fn ask(cx: &mut Context<'_>, stream: &mut Stream) -> io::Result<()> {
    match Pin::new(&mut *stream).poll_write(cx, QUESTION) {
        Poll::Ready(Ok(written)) if written == QUESTION.len() => {}
        Poll::Ready(Ok(_)) => return Err(io::ErrorKind::WriteZero.into()),
        Poll::Ready(Err(error)) => return Err(error),
        // There is no room: something else is on its way, and tells as much.
        Poll::Pending => return Ok(()),
    }
    match Pin::new(stream).poll_flush(cx) {
        Poll::Ready(done) => done,
        Poll::Pending => Ok(()),
    }
}
