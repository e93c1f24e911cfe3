//! The end of a connection of which the client has not sent everything yet: it was answered early, or refused.
//!
//! A socket that is closed while something comes in resets the connection, and what was sent on it is lost with that,
//! the answer as well. So the client is told that nothing follows, and what it still sends is read and thrown away, for a
//! while.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::stream::Stream;

/// A client that has sent nothing for so long has seen the answer.
const QUIET: Duration = Duration::from_secs(2);
/// One that sends on and on does not read it.
const PATIENCE: Duration = Duration::from_secs(30);
/// Read at a time.
const PIECE: usize = 16 * 1024;

/// A connection that is about to end.
#[derive(Debug)]
pub(crate) struct Linger {
    is_told: bool,
    until: Instant,
    quiet: Pin<Box<Sleep>>,
}

impl Linger {
    pub(crate) fn begin() -> Self {
        let now = Instant::now();
        Self { is_told: false, until: now + PATIENCE, quiet: Box::pin(tokio::time::sleep_until(now + QUIET)) }
    }

    /// Ready when it may be closed.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, stream: &mut Stream) -> Poll<io::Result<()>> {
        if !self.is_told {
            ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
            self.is_told = true;
        }
        let mut thrown_away = [std::mem::MaybeUninit::uninit(); PIECE];
        loop {
            let mut buffer = ReadBuf::uninit(&mut thrown_away);
            match Pin::new(&mut *stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    let now = Instant::now();
                    if now >= self.until {
                        return Poll::Ready(Ok(()));
                    }
                    self.quiet.as_mut().reset((now + QUIET).min(self.until));
                }
                // It has closed its side, or is gone.
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return self.quiet.as_mut().poll(cx).map(Ok),
            }
        }
    }
}
