//! Connections to replicas, kept for the next request.
//!
//! They are kept by replica, never by address: a port is used again by another app, a [`ReplicaId`] never is.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use marmot_core::Moment;
use marmot_core::id::ReplicaId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};

use crate::body::RequestBody;
use crate::routes::{Backend, Change, Route};
use crate::shared::Shared;
use crate::wire::Timer;

/// An idle connection is not used again after this long. uvicorn, hypercorn and Node close theirs after 5 s, and a
/// request that meets the close half-way is lost if it must not be repeated.
pub(crate) const IDLE_FOR: Duration = Duration::from_secs(4);
/// Idle connections kept for one replica.
const IDLE_PER_REPLICA: usize = 256;
/// Bytes of an answer's head. More: 502.
const ANSWER_HEAD_BYTES: usize = 64 * 1024;
/// Bytes of an answer that are buffered at most while the client takes it.
const ANSWER_BUFFER_BYTES: usize = 128 * 1024;

/// One connection to a replica, that carries one request at a time.
///
/// Whoever has it drives it, by [`Connection::drive`]: a task of its own would be woken twice for each request.
pub(crate) struct Connection {
    replica: ReplicaId,
    pub(crate) sender: SendRequest<RequestBody>,
    /// `None` when the connection has ended.
    driver: Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>,
    stream: Arc<Mutex<TcpStream>>,
    /// How long the replica has kept silent. With the connection, so that it is made once and not for each request.
    pub(crate) silence: Timer,
}

struct Idle {
    connection: Connection,
    since: Moment,
}

/// The idle connections of one core to all replicas. The lock is that core's own: nobody ever waits for it.
#[derive(Default)]
pub(crate) struct Pool {
    idle: Mutex<HashMap<ReplicaId, Vec<Idle>>>,
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, HashMap<ReplicaId, Vec<Idle>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection on which nothing is under way, if there is one.
    pub(crate) fn take(&self, replica: ReplicaId, now: Moment) -> Option<Connection> {
        let mut idle = self.lock();
        let connections = idle.get_mut(&replica)?;
        while let Some(Idle { mut connection, since }) = connections.pop() {
            let waited = now - since;
            if waited >= IDLE_FOR {
                // Those below it have waited longer.
                connections.clear();
                return None;
            }
            if connection.is_usable() && (waited.is_zero() || connection.is_silent()) {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection whose request and answer are complete.
    pub(crate) fn put(&self, mut connection: Connection, now: Moment) {
        // It notices only now that it may be used again.
        if !connection.is_usable() {
            return;
        }
        let mut idle = self.lock();
        // Made by the first connection: a replica that has left meanwhile gets none.
        if let Some(connections) = idle.get_mut(&connection.replica)
            && connections.len() < IDLE_PER_REPLICA
        {
            connections.push(Idle { connection, since: now });
        }
    }

    /// Closes a replica's idle connections: one of them broke, and the others most likely have or are about to, which
    /// cannot always be seen yet.
    pub(crate) fn distrust(&self, replica: ReplicaId) {
        let distrusted = self.lock().get_mut(&replica).map(std::mem::take);
        drop(distrusted);
    }

    /// Closes what will not be used again.
    pub(crate) fn sweep(&self, now: Moment) {
        for connections in self.lock().values_mut() {
            // In the order in which they became idle.
            let old = connections.partition_point(|idle| now - idle.since >= IDLE_FOR);
            connections.drain(..old);
            connections.retain_mut(|idle| idle.connection.is_usable());
        }
    }

    /// Closes the idle connections of replicas that are gone, and makes room for those of new ones.
    pub(crate) fn follow<'a>(&self, changes: impl Iterator<Item = Change<'a>>) {
        let mut gone = Vec::new();
        let mut idle = self.lock();
        for change in changes {
            let backends = |route: Option<&'a Arc<Route>>| route.map_or(&[][..], |route| route.backends());
            let (before, now) = (backends(change.before), backends(change.now));
            for backend in now {
                idle.entry(backend.replica).or_default();
            }
            for backend in before {
                if !now.iter().any(|now| now.replica == backend.replica) {
                    gone.extend(idle.remove(&backend.replica));
                }
            }
        }
        drop(idle);
        drop(gone);
    }
}

impl Connection {
    /// Moves bytes. To be called whenever the task is woken, before looking for an answer or a part of it; what goes
    /// wrong is told there.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(driver) = &mut self.driver
            && driver.as_mut().poll(cx).is_ready()
        {
            self.driver = None;
        }
    }

    /// Drives it to its end, or until it has become something else than HTTP.
    pub(crate) async fn drive_to_the_end(self) {
        if let Some(driver) = self.driver {
            let _ = driver.await;
        }
    }

    /// Another request can be sent: it is open, and nothing has come in that was not asked for, as far as is known.
    fn is_usable(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.driver.is_some() && self.sender.is_ready()
    }

    /// Nothing has come in since the last answer ended. What an app sends without being asked would be taken for
    /// the answer to the next request, perhaps another visitor's. Asks the system: what came in this moment is not
    /// known otherwise.
    fn is_silent(&self) -> bool {
        let mut byte = [0u8; 1];
        let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
        matches!(rustix::net::recv(&*lock(&self.stream), &mut byte[..], flags), Err(rustix::io::Errno::AGAIN))
    }
}

/// Opens a connection to a replica.
pub(crate) async fn connect(shared: &Arc<Shared>, backend: &Backend) -> io::Result<Connection> {
    let stream = open(backend, shared.config.limits.connect_timeout).await?;
    stream.set_nodelay(true)?;
    let stream = Arc::new(Mutex::new(stream));
    let (sender, driver) = http1::Builder::new()
        .max_header_size(ANSWER_HEAD_BYTES)
        .max_buf_size(ANSWER_BUFFER_BYTES)
        .handshake(TokioIo::new(SharedStream(Arc::clone(&stream))))
        .await
        .map_err(io::Error::other)?;
    Ok(Connection {
        replica: backend.replica,
        sender,
        driver: Some(Box::pin(driver.with_upgrades())),
        stream,
        silence: Timer::default(),
    })
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
struct SharedStream(Arc<Mutex<TcpStream>>);

impl SharedStream {
    fn lock(&self) -> MutexGuard<'_, TcpStream> {
        lock(&self.0)
    }
}

fn lock(stream: &Mutex<TcpStream>) -> MutexGuard<'_, TcpStream> {
    stream.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AsyncRead for SharedStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_read(cx, buf)
    }
}

impl AsyncWrite for SharedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.lock()).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.lock()).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_shutdown(cx)
    }
}
