//! Connections to replicas, kept for the next request.
//!
//! They are kept by replica, never by address: a port is used again by another app, a [`ReplicaId`] never is.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
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

/// An idle connection is not used again after this long. uvicorn, hypercorn and Node close theirs after 5 s, and a
/// request that meets the close half-way is lost if it must not be repeated.
const IDLE_FOR: Duration = Duration::from_secs(4);
/// Idle connections kept for one replica.
const IDLE_PER_REPLICA: usize = 256;
/// Bytes of an answer's head. More: 502.
const ANSWER_HEAD_BYTES: usize = 64 * 1024;
/// Bytes of an answer that are buffered at most while the client takes it.
const ANSWER_BUFFER_BYTES: usize = 128 * 1024;

/// One connection to a replica, that carries one request at a time.
pub(crate) struct Connection {
    replica: ReplicaId,
    pub(crate) sender: SendRequest<RequestBody>,
    stream: Arc<TcpStream>,
    /// It has carried a request before.
    pub(crate) used: bool,
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
        connections.retain(|idle| !idle.connection.sender.is_closed() && now - idle.since < IDLE_FOR);
        while let Some(ready) = connections.iter().rposition(|idle| idle.connection.sender.is_ready()) {
            let connection = connections.swap_remove(ready).connection;
            if connection.is_silent() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection whose request and answer are complete.
    pub(crate) fn put(&self, mut connection: Connection, now: Moment) {
        if connection.sender.is_closed() {
            return;
        }
        connection.used = true;
        let mut idle = self.lock();
        // Made by the first connection: a replica that has left meanwhile gets none.
        if let Some(connections) = idle.get_mut(&connection.replica)
            && connections.len() < IDLE_PER_REPLICA
        {
            connections.push(Idle { connection, since: now });
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
    /// Nothing has come in since the last answer ended. What an app sends without being asked would be taken for
    /// the answer to the next request, perhaps another visitor's.
    fn is_silent(&self) -> bool {
        let mut byte = [0u8; 1];
        let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
        matches!(rustix::net::recv(&*self.stream, &mut byte[..], flags), Err(rustix::io::Errno::AGAIN))
    }
}

/// Opens a connection to a replica.
pub(crate) async fn connect(shared: &Arc<Shared>, backend: &Backend) -> io::Result<Connection> {
    let stream = open(backend, shared.config.limits.connect_timeout).await?;
    stream.set_nodelay(true)?;
    let stream = Arc::new(stream);
    let (sender, driver) = http1::Builder::new()
        .max_header_size(ANSWER_HEAD_BYTES)
        .max_buf_size(ANSWER_BUFFER_BYTES)
        .handshake(TokioIo::new(SharedStream(Arc::clone(&stream))))
        .await
        .map_err(io::Error::other)?;
    let hard_stop = shared.hard_stop.clone();
    shared.tracker.spawn(async move {
        // Its errors reach the request it carries.
        tokio::select! {
            _ = driver.with_upgrades() => {}
            () = hard_stop.cancelled() => {}
        }
    });
    Ok(Connection { replica: backend.replica, sender, stream, used: false })
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

/// A stream that hyper reads and writes while the pool can still look at it.
#[derive(Debug)]
pub(crate) struct SharedStream(Arc<TcpStream>);

impl AsyncRead for SharedStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            match self.0.try_read_buf(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read.map(drop)),
            }
        }
    }
}

impl AsyncWrite for SharedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match self.0.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match self.0.try_write_vectored(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = rustix::net::shutdown(&*self.0, rustix::net::Shutdown::Write);
        Poll::Ready(shut.or_else(|error| match error {
            // The other side was faster.
            rustix::io::Errno::NOTCONN => Ok(()),
            error => Err(error.into()),
        }))
    }
}
