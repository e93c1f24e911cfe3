//! A client's connection, as bytes: what hyper does not tell of HTTP/1, and how long a client may take.
//!
//! hyper drops one of two contradicting framing headers, and with it the proof that there were two. [`Scanner`] finds
//! the heads among the bytes on their way to hyper; a request with more than one `Content-Length` or
//! `Transfer-Encoding` is refused, whatever hyper makes of it. It refuses, and never lets anything pass that hyper
//! refuses: where the two disagree, the stricter one counts.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::config::Limits;
use crate::stream::Stream;

/// No method of HTTP/1 starts so; every connection of HTTP/2 does.
const HTTP2_PREFACE: &[u8; 4] = b"PRI ";
/// As much of a line as is looked at: a framing header with the longest length there can be.
const LINE: usize = 64;

/// What a connection's bytes and its requests tell each other.
#[derive(Debug)]
pub(crate) struct Line {
    /// The number of the first request that could be read in two ways; from there on all are refused.
    ambiguous_from: AtomicU64,
    requests: AtomicU64,
    /// A request is being answered.
    busy: AtomicBool,
    /// It is no HTTP any more.
    switched: AtomicBool,
}

impl Line {
    fn new() -> Self {
        Self {
            ambiguous_from: AtomicU64::new(u64::MAX),
            requests: AtomicU64::new(0),
            busy: AtomicBool::new(false),
            switched: AtomicBool::new(false),
        }
    }

    /// A request begins, and ends when the guard is dropped. False: it can be read in two ways.
    pub(crate) fn begin(self: &Arc<Self>) -> (bool, Busy) {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        self.busy.store(true, Ordering::Relaxed);
        (number < self.ambiguous_from.load(Ordering::Relaxed), Busy(Arc::clone(self)))
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
    patience: Patience,
    pace: Pace,
    reading: Timer,
    writing: Timer,
}

/// How long a client may take.
#[derive(Debug, Clone, Copy)]
struct Patience {
    head: Duration,
    idle: Duration,
    stalled: Duration,
    /// Bytes of a body in each second, once this has passed.
    rate: u64,
    unhurried: Duration,
}

impl Patience {
    fn of(limits: &Limits) -> Self {
        Self {
            head: limits.header_timeout,
            idle: limits.idle_timeout,
            stalled: limits.stall_timeout,
            rate: limits.body_rate,
            unhurried: limits.body_grace,
        }
    }
}

/// How slowly a client has sent the body that it is sending.
#[derive(Debug, Default)]
struct Pace {
    bytes: u64,
    /// How long it was waited for, in all.
    waited: Duration,
    since: Option<Instant>,
}

impl Pace {
    /// It is waited for.
    fn wait(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// This many bytes have come. False: too few for the time that they took.
    fn came(&mut self, bytes: usize, patience: &Patience) -> bool {
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
    pub(crate) async fn open(mut stream: Stream, limits: &Limits) -> io::Result<Self> {
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
            patience: Patience::of(limits),
            pace: Pace::default(),
            reading: Timer::default(),
            writing: Timer::default(),
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
            Phase::Head => Some((Phase::Head, self.patience.head)),
            Phase::Between if self.line.busy.load(Ordering::Relaxed) => None,
            Phase::Between => Some((Phase::Between, self.patience.idle)),
            Phase::Body => Some((Phase::Body, self.patience.stalled)),
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
        let before = buffer.filled().len();
        let here = this.left.len().min(buffer.remaining());
        buffer.put_slice(&this.start[this.left.start..this.left.start + here]);
        this.left.start += here;
        // Together with the first bytes, what follows: hyper makes room for every read, whatever it brings.
        match Pin::new(&mut this.stream).poll_read(cx, buffer) {
            Poll::Ready(Ok(())) => {}
            _ if here > 0 => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => {
                let Some((phase, patience)) = this.patience_for_reading() else { return Poll::Pending };
                if phase == Phase::Body {
                    this.pace.wait(Instant::now());
                }
                return this.reading.poll(cx, phase, patience).map(|()| Err(io::ErrorKind::TimedOut.into()));
            }
        }
        let phase = this.scanner.as_ref().map(Scanner::phase);
        match phase {
            Some(Phase::Body) => {
                let bytes = buffer.filled().len() - before;
                if !this.pace.came(bytes, &this.patience) && !this.line.switched.load(Ordering::Relaxed) {
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
    fn written(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.writing.begin();
            return written;
        }
        self.writing
            .poll(cx, Phase::Body, self.patience.stalled)
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
        Pin::new(&mut self.stream).poll_shutdown(cx)
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

/// Where in the stream of requests the bytes so far end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// A request is complete, the next has not begun.
    Between,
    /// In the head of one.
    Head,
    /// In the body of one.
    Body,
}

/// Finds the heads of HTTP/1 requests among the bytes of a connection.
#[derive(Debug)]
struct Scanner {
    at: At,
    /// Complete heads before this one.
    heads: u64,
    line: [u8; LINE],
    /// Bytes of the line so far, also those beyond what is kept.
    line_bytes: usize,
    /// The byte before those that come next.
    last: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Before the first line of a head.
    Start,
    /// In a head, past its first line: its framing so far.
    Fields { lengths: u32, encodings: u32, length: u64 },
    /// In a body of which this much is still to come.
    Body(u64),
    /// In the line that tells the size of a chunk.
    ChunkSize,
    /// In a chunk, with the line break at its end.
    Chunk(u64),
    /// In the fields after the last chunk.
    Trailers,
    /// Past a request that is refused: what follows means nothing.
    Lost,
}

impl Default for Scanner {
    fn default() -> Self {
        Self { at: At::Start, heads: 0, line: [0; LINE], line_bytes: 0, last: 0 }
    }
}

impl Scanner {
    fn phase(&self) -> Phase {
        match self.at {
            At::Start if self.line_bytes == 0 => Phase::Between,
            At::Start | At::Fields { .. } | At::Lost => Phase::Head,
            At::Body(_) | At::ChunkSize | At::Chunk(_) | At::Trailers => Phase::Body,
        }
    }

    /// Follows these bytes. True: the request that they are in can be read in two ways.
    fn feed(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            match &mut self.at {
                At::Lost => return false,
                At::Body(left) | At::Chunk(left) => {
                    let here = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                    *left -= here as u64;
                    bytes = &bytes[here..];
                    if *left == 0 {
                        self.at = if matches!(self.at, At::Body(_)) { At::Start } else { At::ChunkSize };
                    }
                }
                _ => {
                    let end = bytes.iter().position(|&byte| byte == b'\n');
                    let here = end.map_or(bytes.len(), |end| end + 1);
                    if self.line_bytes < LINE {
                        let kept = here.min(LINE - self.line_bytes);
                        self.line[self.line_bytes..self.line_bytes + kept].copy_from_slice(&bytes[..kept]);
                    }
                    self.line_bytes += here;
                    let last = if here > 1 { bytes[here - 2] } else { self.last };
                    self.last = bytes[here - 1];
                    // hyper takes a fragment off, and a line feed alone for the end of a line.
                    let cut_off = self.at == At::Start && bytes[..here].contains(&b'#');
                    bytes = &bytes[here..];
                    if end.is_some() || cut_off {
                        let bare = last != b'\r' && matches!(self.at, At::Start | At::Fields { .. });
                        let ambiguous = cut_off || bare || self.end_line();
                        self.line_bytes = 0;
                        if ambiguous {
                            self.at = At::Lost;
                            return true;
                        }
                    }
                }
            }
        }
        false
    }

    /// A line is complete. True: its request can be read in two ways.
    fn end_line(&mut self) -> bool {
        let whole = self.line_bytes <= LINE;
        let line = self.line[..self.line_bytes.min(LINE)].trim_ascii_end();
        match &mut self.at {
            // Empty lines before a request are skipped, by hyper as well.
            At::Start if whole && line.is_empty() => {}
            At::Start => self.at = At::Fields { lengths: 0, encodings: 0, length: 0 },
            At::Fields { lengths, encodings, length } if whole && line.is_empty() => {
                let next = match (*lengths, *encodings) {
                    (_, 1..) => At::ChunkSize,
                    (1.., _) if *length > 0 => At::Body(*length),
                    _ => At::Start,
                };
                self.at = next;
                self.heads += 1;
            }
            At::Fields { lengths, encodings, length } => {
                if let Some(value) = field(line, b"content-length") {
                    *lengths += 1;
                    match number(value).filter(|_| whole) {
                        Some(number) => *length = number,
                        None => return true,
                    }
                } else if field(line, b"transfer-encoding").is_some() {
                    *encodings += 1;
                }
                return *lengths + *encodings > 1;
            }
            At::ChunkSize => {
                let digits = line.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
                let size =
                    std::str::from_utf8(digits).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok());
                match size {
                    Some(0) => self.at = At::Trailers,
                    // With the line break at its end.
                    Some(size) => self.at = At::Chunk(size.saturating_add(2)),
                    // hyper refuses it.
                    None => self.at = At::Lost,
                }
            }
            At::Trailers if whole && line.is_empty() => self.at = At::Start,
            At::Trailers | At::Body(_) | At::Chunk(_) | At::Lost => {}
        }
        false
    }
}

/// The value of a field of this name. Blanks before the colon are no excuse.
fn field<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    let (start, rest) = line.split_at_checked(name.len())?;
    let rest = rest.trim_ascii_start().strip_prefix(b":")?;
    start.eq_ignore_ascii_case(name).then(|| rest.trim_ascii())
}

fn number(digits: &[u8]) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// How many heads there are, which is the first ambiguous one, and where it ends.
    fn scan(stream: &[u8], cuts: &[usize]) -> (u64, Option<u64>, Phase) {
        let mut scanner = Scanner::default();
        let mut ambiguous = None;
        let (mut rest, mut cuts) = (stream, cuts.iter().cycle());
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            rest = after;
            if scanner.feed(chunk) {
                ambiguous = ambiguous.or(Some(scanner.heads));
            }
        }
        (scanner.heads, ambiguous, scanner.phase())
    }

    const STREAM: &[u8] = b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n\
        POST / HTTP/1.1\r\nContent-Length: 41\r\n\r\nTransfer-Encoding: a\r\nContent-Length: 1\r\n\
        POST / HTTP/1.1\r\ntransfer-encoding : chunked\r\n\r\n3;x=y\r\na\r\n\r\n1A\r\nabcdefghijklmnopqrstuvwxyz\r\n\
        0\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n\
        POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n";

    proptest! {
        #[test]
        fn finds_the_heads_however_the_bytes_are_split(cuts in proptest::collection::vec(1usize..90, 1..30)) {
            prop_assert_eq!(scan(STREAM, &cuts), (4, None, Phase::Between));
            let mut stream = STREAM.to_vec();
            stream.extend(b"POST / HTTP/1.1\nTransfer-Encoding: chunked\nContent-Length: 3\n\nGET / HTTP/1.1\r\n\r\n");
            prop_assert_eq!(scan(&stream, &cuts).1, Some(4));
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, cuts in proptest::collection::vec(1usize..90, 1..30)) {
            scan(&bytes, &cuts);
            let mut head = b"GET / HTTP/1.1\r\nContent-Length:".to_vec();
            head.extend(bytes);
            scan(&head, &cuts);
        }
    }

    #[test]
    fn sees_two_ways_to_frame_a_request() {
        for fields in [
            "Content-Length: 1\r\nContent-Length: 1",
            "Content-Length: 1\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 1",
            "transfer-encoding:chunked\r\nX: y\r\nTRANSFER-ENCODING: chunked",
            "Content-Length : 1\r\nContent-Length: 1",
            "Content-Length: 1, 1",
            "Content-Length: +1",
            "Content-Length:",
            "Content-Length: 99999999999999999999999",
            "X: y\nZ: a",
        ] {
            let stream = format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n");
            assert_eq!(scan(stream.as_bytes(), &[7]).1, Some(0), "{fields}");
        }
    }

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
