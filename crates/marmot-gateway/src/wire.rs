//! A client's connection, as bytes: what hyper does not tell of HTTP/1, and how long a client may take.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::config::{GatewayConfig, Limits};
use crate::half_closed::{HalfClosed, Say};
use crate::linger::Linger;
use crate::scanner::{Phase, Scanner};
use crate::stream::Stream;

/// No method of HTTP/1 starts so; every connection of HTTP/2 does.
const HTTP2_PREFACE: &[u8; 4] = b"PRI ";
/// Said without having read a whole head.
const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// What a connection's bytes and its requests tell each other.
#[derive(Debug)]
pub(crate) struct Line {
    /// The number of the first request that could be read in two ways; from there on all are refused.
    ambiguous_from: AtomicU64,
    requests: AtomicU64,
    /// A request is being answered.
    busy: AtomicBool,
    /// The answer has begun, or must not be preceded by anything: the client speaks HTTP/1.0.
    answering: AtomicBool,
    /// It is no HTTP any more.
    switched: AtomicBool,
    /// Where the client has closed its side: wakes who waits for the end of its answer, which ends the connection.
    answered: OnceLock<Box<AtomicWaker>>,
}

impl Line {
    fn new() -> Self {
        Self {
            ambiguous_from: AtomicU64::new(u64::MAX),
            requests: AtomicU64::new(0),
            busy: AtomicBool::new(false),
            answering: AtomicBool::new(false),
            switched: AtomicBool::new(false),
            answered: OnceLock::new(),
        }
    }

    /// A request begins, and ends when the guard is dropped. False: it can be read in two ways. `is_old`: its client
    /// knows no interim answers.
    pub(crate) fn begin(self: &Arc<Self>, is_old: bool) -> (bool, Busy) {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        self.answering.store(is_old, Ordering::Relaxed);
        self.busy.store(true, Ordering::Relaxed);
        (number < self.ambiguous_from.load(Ordering::Relaxed), Busy(Arc::clone(self)))
    }

    /// The request's answer begins.
    pub(crate) fn answer(&self) {
        self.answering.store(true, Ordering::Relaxed);
    }

    /// What follows is a WebSocket.
    pub(crate) fn switch(&self) {
        self.switched.store(true, Ordering::Relaxed);
    }
}

/// A request is being answered.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Line>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Relaxed);
        if let Some(answered) = self.0.answered.get() {
            answered.wake();
        }
    }
}

/// A connection of which the first bytes have been read, to tell the protocol.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: Stream,
    start: [u8; 4],
    /// Those of the first bytes that are still to be handed on.
    left: Range<usize>,
    /// `None` for HTTP/2, which has one way only to say where a request ends.
    scanner: Option<Scanner>,
    line: Arc<Line>,
    config: Arc<GatewayConfig>,
    pace: Pace,
    reading: Timer,
    writing: Timer,
    /// The client takes no more for now.
    is_full: bool,
    /// The client is gone, or took too long.
    is_over: bool,
    ending: Ending,
}

/// What few connections come to.
#[derive(Debug)]
enum Ending {
    No,
    /// The client has closed its side, in the middle of an answer.
    HalfClosed(Box<HalfClosed>),
    /// The answer is out, and the client still sends.
    Linger(Box<Linger>),
}

/// How slowly a client may send a body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Bytes of a body in each second, once this has passed.
    rate: u64,
    unhurried: Duration,
}

impl Patience {
    pub(crate) fn of(limits: &Limits) -> Self {
        Self { rate: limits.body_rate, unhurried: limits.body_grace }
    }
}

/// How slowly a client has sent the body that it is sending.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    bytes: u64,
    /// How long it was waited for, in all.
    waited: Duration,
    since: Option<Instant>,
}

impl Pace {
    /// It is waited for.
    pub(crate) fn wait(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// This many bytes have come. False: too few for the time that they took.
    pub(crate) fn came(&mut self, bytes: usize, patience: &Patience) -> bool {
        self.bytes += bytes as u64;
        // Only what was waited for is read slowly: the app may take its time.
        if let Some(since) = self.since.take() {
            self.waited += since.elapsed();
        }
        match self.waited.checked_sub(patience.unhurried) {
            None => true,
            Some(hurried) => self.bytes as f64 >= hurried.as_secs_f64() * patience.rate as f64,
        }
    }
}

impl Wire {
    /// Reads enough of a new connection to tell its protocol.
    pub(crate) async fn open(mut stream: Stream, config: &Arc<GatewayConfig>) -> io::Result<Self> {
        let mut start = [0; 4];
        let mut seen = 0;
        while seen < start.len() && start[..seen] == HTTP2_PREFACE[..seen] {
            match stream.read(&mut start[seen..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => seen += more,
            }
        }
        Ok(Self {
            stream,
            start,
            left: 0..seen,
            scanner: (start != *HTTP2_PREFACE).then(Scanner::default),
            line: Arc::new(Line::new()),
            config: Arc::clone(config),
            pace: Pace::default(),
            reading: Timer::default(),
            writing: Timer::default(),
            is_full: false,
            is_over: false,
            ending: Ending::No,
        })
    }

    pub(crate) fn is_http2(&self) -> bool {
        self.start == *HTTP2_PREFACE
    }

    pub(crate) fn line(&self) -> Arc<Line> {
        Arc::clone(&self.line)
    }

    /// How long the next bytes may take to come; `None`: as long as they like.
    fn patience_for_reading(&self) -> Option<(Phase, Duration)> {
        let scanner = self.scanner.as_ref()?;
        if self.line.switched.load(Ordering::Relaxed) {
            return None;
        }
        match scanner.phase() {
            Phase::Head => Some((Phase::Head, self.config.limits.header_timeout)),
            Phase::Between if self.line.busy.load(Ordering::Relaxed) => None,
            Phase::Between => Some((Phase::Between, self.config.limits.idle_timeout)),
            Phase::Body => Some((Phase::Body, self.config.limits.stall_timeout)),
        }
    }

    fn note(&mut self, bytes: &[u8]) {
        let Some(scanner) = &mut self.scanner else { return };
        if self.line.switched.load(Ordering::Relaxed) {
            return;
        }
        if scanner.feed(bytes) {
            self.line.ambiguous_from.fetch_min(scanner.heads, Ordering::Relaxed);
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if matches!(this.ending, Ending::HalfClosed(_)) {
            return this.poll_half_closed(cx);
        }
        let before = buffer.filled().len();
        let here = this.left.len().min(buffer.remaining());
        buffer.put_slice(&this.start[this.left.start..this.left.start + here]);
        this.left.start += here;
        // Together with the first bytes, what follows: hyper makes room for every read, whatever it brings.
        match Pin::new(&mut this.stream).poll_read(cx, buffer) {
            Poll::Ready(Ok(())) => {}
            _ if here > 0 => {}
            Poll::Ready(Err(error)) => {
                this.is_over = true;
                return Poll::Ready(Err(error));
            }
            Poll::Pending => {
                let Some((phase, patience)) = this.patience_for_reading() else { return Poll::Pending };
                if phase == Phase::Body {
                    this.pace.wait(Instant::now());
                }
                if this.reading.poll(cx, phase, patience).is_pending() {
                    return Poll::Pending;
                }
                if phase == Phase::Head {
                    this.say_too_slow(cx);
                }
                this.is_over = true;
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        if buffer.filled().len() == before && buffer.remaining() > 0 {
            return this.closed_by_client(cx);
        }
        let phase = this.scanner.as_ref().map(Scanner::phase);
        match phase {
            Some(Phase::Body) => {
                let bytes = buffer.filled().len() - before;
                if !this.pace.came(bytes, &Patience::of(&this.config.limits))
                    && !this.line.switched.load(Ordering::Relaxed)
                {
                    this.is_over = true;
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
            }
            _ => this.pace = Pace::default(),
        }
        this.note(&buffer.filled()[before..]);
        // The time for a head runs from its first byte: more bytes buy none.
        if phase != Some(Phase::Head) || this.scanner.as_ref().map(Scanner::phase) != Some(Phase::Head) {
            this.reading.begin();
        }
        Poll::Ready(Ok(()))
    }
}

impl Wire {
    /// Tells whoever has begun a request and not gone on with it, unless an earlier one is still being answered.
    fn say_too_slow(&mut self, cx: &mut Context<'_>) {
        if !self.line.busy.load(Ordering::Relaxed) && !self.is_full {
            let _ = Pin::new(&mut self.stream).poll_write(cx, TOO_SLOW);
            let _ = Pin::new(&mut self.stream).poll_flush(cx);
        }
    }

    /// The client has closed its side. Where a whole request of its is being answered, nobody is told for now.
    fn closed_by_client(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_being_answered()
            && !self.line.switched.load(Ordering::Relaxed)
            && let Some(watched) = HalfClosed::watch(&self.stream)
        {
            self.ending = Ending::HalfClosed(watched);
            return self.poll_half_closed(cx);
        }
        self.is_over = true;
        Poll::Ready(Ok(()))
    }

    /// Every request that has come is whole, and one of them has yet to be answered to its end.
    fn is_being_answered(&self) -> bool {
        let Some(scanner) = self.scanner.as_ref().filter(|scanner| scanner.phase() == Phase::Between) else {
            return false;
        };
        // One that has been read is looked at a moment later.
        self.line.busy.load(Ordering::Relaxed) || scanner.heads > self.line.requests.load(Ordering::Relaxed)
    }

    /// Waits until the client has been answered, which ends the connection, or has left, which breaks it.
    fn poll_half_closed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.line.answered.get_or_init(Box::default).register(cx.waker());
        if !self.is_being_answered() {
            self.is_over = true;
            return Poll::Ready(Ok(()));
        }
        let say = match self.line.answering.load(Ordering::Relaxed) {
            _ if self.is_full => Say::Spoken,
            true => Say::Nothing,
            false => Say::Question,
        };
        let Ending::HalfClosed(half_closed) = &mut self.ending else { return Poll::Ready(Ok(())) };
        half_closed.poll_left(cx, &mut self.stream, say).map(|()| {
            self.is_over = true;
            Err(io::ErrorKind::ConnectionReset.into())
        })
    }

    fn written(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.is_full = written.is_pending();
        if let Ending::HalfClosed(half_closed) = &mut self.ending
            && matches!(written, Poll::Ready(Ok(1..)))
        {
            half_closed.spoken_to();
        }
        if written.is_ready() {
            self.writing.begin();
            return written;
        }
        self.writing
            .poll(cx, Phase::Body, self.config.limits.stall_timeout)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let phase = this.scanner.as_ref().map(Scanner::phase);
        let sends_on = matches!(phase, Some(Phase::Head | Phase::Body)) && !this.is_over;
        if !sends_on || this.line.switched.load(Ordering::Relaxed) {
            return Pin::new(&mut this.stream).poll_shutdown(cx);
        }
        if !matches!(this.ending, Ending::Linger(_)) {
            this.ending = Ending::Linger(Box::new(Linger::begin()));
        }
        let Ending::Linger(linger) = &mut this.ending else { return Poll::Ready(Ok(())) };
        linger.poll(cx, &mut this.stream)
    }
}

/// Runs out when nothing happens for a time. Cheap to begin again: the timer proper is only set anew when it fires.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    /// Since when nothing has happened, and in which phase; set by the first wait.
    waiting: Option<(Instant, Phase)>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    /// Something happened.
    pub(crate) fn begin(&mut self) {
        self.waiting = None;
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, phase: Phase, patience: Duration) -> Poll<()> {
        let since = match self.waiting {
            Some((since, waiting)) if waiting == phase => since,
            _ => {
                let now = Instant::now();
                self.waiting = Some((now, phase));
                now
            }
        };
        let deadline = since + patience;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        // One that is set to fire earlier does, and is then set to what is left.
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        loop {
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_drips_in_is_too_slow_and_one_that_the_app_keeps_waiting_is_not() {
        let limits = Limits::default();
        let patience = Patience::of(&limits);
        let mut pace = Pace::default();
        let mut seconds = 0;
        let too_slow = loop {
            pace.wait(Instant::now());
            tokio::time::advance(Duration::from_secs(1)).await;
            seconds += 1;
            if !pace.came(100, &patience) {
                break seconds;
            }
        };
        // 100 bytes a second for 18 s are 1,800; 8 s at 240 would be 1,920.
        assert_eq!(too_slow, 18);
        let mut pace = Pace::default();
        for _ in 0..100 {
            assert!(pace.came(1, &patience));
            tokio::time::advance(Duration::from_secs(30)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn time_runs_from_when_something_last_happened() {
        let mut timer = Timer::default();
        let begin = Instant::now();
        let limit = Duration::from_secs(10);
        let wait = async |timer: &mut Timer, phase, patience| {
            std::future::poll_fn(|cx| timer.poll(cx, phase, patience)).await;
            begin.elapsed()
        };
        let _ = tokio::time::timeout(Duration::from_secs(6), wait(&mut timer, Phase::Head, limit)).await;
        timer.begin();
        assert_eq!(wait(&mut timer, Phase::Head, limit).await.as_secs(), 16);
        timer.begin();
        assert_eq!(wait(&mut timer, Phase::Between, Duration::from_secs(75)).await.as_secs(), 91);
    }
}
