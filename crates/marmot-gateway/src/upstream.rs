//! One connection to a replica, over HTTP/1.1 or HTTP/2.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::future::Either;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use marmot_core::id::ReplicaId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};

use crate::body::RequestBody;
use crate::headers;
use crate::routes::Backend;
use crate::shared::Shared;
use crate::wire::Timer;

/// Bytes of an answer's head. More: 502.
const ANSWER_HEAD_BYTES: usize = 64 * 1024;
/// Bytes of an answer that are buffered at most while the client takes it.
const ANSWER_BUFFER_BYTES: usize = 128 * 1024;

/// A connection to a replica, as one request has it.
pub(crate) struct Connection {
    pub(crate) replica: ReplicaId,
    way: Way,
    /// How long the replica has kept silent. With the connection, so that it is made once and not for each request.
    pub(crate) silence: Timer,
}

enum Way {
    /// Carries one request at a time. Whoever has it drives it, by [`Connection::drive`]: a task of its own would be
    /// woken twice for each request.
    Http1 {
        sender: http1::SendRequest<RequestBody>,
        /// `None` when the connection has ended.
        driver: Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>,
        stream: Arc<Mutex<Upstream>>,
    },
    /// One of many requests on a connection that a task of its own drives.
    Http2(http2::SendRequest<RequestBody>),
}

/// An answer that will come, or the request if nothing of it was sent.
type Sent = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;

impl Connection {
    pub(crate) fn is_http2(&self) -> bool {
        matches!(self.way, Way::Http2(_))
    }

    /// Sends a request whose head has been rewritten for HTTP/1.1.
    pub(crate) fn send(&mut self, mut request: Request<RequestBody>) -> impl Future<Output = Sent> + use<> {
        match &mut self.way {
            Way::Http1 { sender, .. } => {
                headers::for_http1(&mut request);
                Either::Left(sender.try_send_request(request))
            }
            Way::Http2(sender) => {
                headers::for_http2(&mut request);
                Either::Right(sender.try_send_request(request))
            }
        }
    }

    /// Moves bytes. To be called whenever the task is woken, before looking for an answer or a part of it; what goes
    /// wrong is told there.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) {
        if let Way::Http1 { driver, .. } = &mut self.way
            && let Some(driving) = driver
            && driving.as_mut().poll(cx).is_ready()
        {
            *driver = None;
        }
    }

    /// Drives it to its end, or until it has become something else than HTTP.
    pub(crate) async fn drive_to_the_end(self) {
        if let Way::Http1 { driver: Some(driver), .. } = self.way {
            let _ = driver.await;
        }
    }

    /// It can be kept for another request, once this one is done: it is open, and nothing has come in that was not
    /// asked for, as far as is known.
    pub(crate) fn is_usable(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        match &self.way {
            Way::Http1 { sender, driver, .. } => driver.is_some() && sender.is_ready(),
            // Nobody gave it away: the pool has it still.
            Way::Http2(_) => false,
        }
    }

    /// Nothing has come in since the last answer ended. What an app sends without being asked would be taken for
    /// the answer to the next request, perhaps another visitor's. Asks the system: what came in this moment is not
    /// known otherwise.
    pub(crate) fn is_silent(&self) -> bool {
        let Way::Http1 { stream, .. } = &self.way else { return false };
        let mut byte = [0u8; 1];
        let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
        let mut upstream = lock(stream);
        upstream.is_asked = false;
        matches!(rustix::net::recv(&upstream.stream, &mut byte[..], flags), Err(rustix::io::Errno::AGAIN))
    }

    /// It was opened for HTTP/1.1, and the replica has answered in HTTP/2: it knows nothing else.
    pub(crate) fn is_misunderstood(&self) -> bool {
        match &self.way {
            Way::Http1 { stream, .. } => lock(stream).began_with_settings == Some(true),
            Way::Http2(_) => false,
        }
    }

    /// A place on a connection over HTTP/2.
    pub(crate) fn on(replica: ReplicaId, sender: http2::SendRequest<RequestBody>) -> Self {
        Self { replica, way: Way::Http2(sender), silence: Timer::default() }
    }
}

/// Opens a connection over HTTP/1.1 to a replica.
pub(crate) async fn connect(shared: &Arc<Shared>, backend: &Backend) -> io::Result<Connection> {
    let stream = open(backend, shared.config.limits.connect_timeout).await?;
    stream.set_nodelay(true)?;
    let stream = Arc::new(Mutex::new(Upstream { stream, began_with_settings: None, is_asked: false }));
    let (sender, driver) = http1::Builder::new()
        .max_header_size(ANSWER_HEAD_BYTES)
        .max_buf_size(ANSWER_BUFFER_BYTES)
        .handshake(TokioIo::new(SharedStream(Arc::clone(&stream))))
        .await
        .map_err(io::Error::other)?;
    let way = Way::Http1 { sender, driver: Some(Box::pin(driver.with_upgrades())), stream };
    Ok(Connection { replica: backend.replica, way, silence: Timer::default() })
}

/// Opens a connection over HTTP/2 to a replica whose port speaks it in plain text.
pub(crate) async fn connect_http2(
    shared: &Arc<Shared>,
    backend: &Backend,
) -> io::Result<http2::SendRequest<RequestBody>> {
    let stream = open(backend, shared.config.limits.connect_timeout).await?;
    stream.set_nodelay(true)?;
    let (sender, driver) = http2::Builder::new(TokioExecutor::new())
        .max_header_list_size(ANSWER_HEAD_BYTES as u32)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let hard_stop = shared.hard_stop.clone();
    shared.tracker.spawn(async move {
        // Its errors reach the requests it carries.
        tokio::select! {
            _ = driver => {}
            () = hard_stop.cancelled() => {}
        }
    });
    Ok(sender)
}

async fn open(backend: &Backend, limit: Duration) -> io::Result<TcpStream> {
    let connecting = async {
        let Some(sockets) = &backend.sockets else { return TcpStream::connect(backend.address).await };
        let socket = sockets.open().await?;
        TcpSocket::from_std_stream(socket.into()).connect(backend.address).await
    };
    match tokio::time::timeout(limit, connecting).await {
        Ok(stream) => stream,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// A stream that hyper reads and writes while the pool can still look at it. Nobody ever waits for the lock: both are
/// done by whoever has the connection.
#[derive(Debug)]
struct SharedStream(Arc<Mutex<Upstream>>);

#[derive(Debug)]
struct Upstream {
    stream: TcpStream,
    /// The first that came was a SETTINGS frame, with which every server of HTTP/2 begins.
    began_with_settings: Option<bool>,
    /// Something of the request that it is for has been sent.
    is_asked: bool,
}

fn is_settings(bytes: &[u8]) -> bool {
    matches!(bytes, [0, _, _, 4, 0, 0, 0, 0, 0, ..])
}

fn lock(stream: &Mutex<Upstream>) -> MutexGuard<'_, Upstream> {
    stream.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AsyncRead for SharedStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut upstream = lock(&self.0);
        let before = buf.filled().len();
        let read = Pin::new(&mut upstream.stream).poll_read(cx, buf);
        if read.is_ready() && upstream.began_with_settings.is_none() {
            upstream.began_with_settings = Some(is_settings(&buf.filled()[before..]));
        }
        read
    }
}

impl Upstream {
    /// A replica that takes no more may have answered already, and closed the connection behind its answer: as long as
    /// there is something to read, the answer comes first.
    fn unless_answered(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let Poll::Ready(Err(error)) = &written else {
            self.is_asked |= written.is_ready();
            return written;
        };
        // What came before anything was asked is no answer.
        if !self.is_asked
            || !matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
        {
            return written;
        }
        let mut byte = [0u8; 1];
        let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
        match rustix::net::recv(&self.stream, &mut byte[..], flags) {
            // Whoever waits for the answer is woken by it.
            Ok((_, 1..)) => Poll::Pending,
            _ => written,
        }
    }
}

impl AsyncWrite for SharedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut upstream = lock(&self.0);
        let written = Pin::new(&mut upstream.stream).poll_write(cx, bytes);
        upstream.unless_answered(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut upstream = lock(&self.0);
        let written = Pin::new(&mut upstream.stream).poll_write_vectored(cx, bytes);
        upstream.unless_answered(written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut lock(&self.0).stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut lock(&self.0).stream).poll_shutdown(cx)
    }
}
