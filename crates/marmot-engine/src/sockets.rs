//! Sockets inside a replica's own network, asked of the supervisor that lives there.
//!
//! A replica that is confined has a network of its own, in which nobody else can open a connection. Its supervisor
//! enters that network when the replica starts and never leaves it; it makes sockets there and hands them out as
//! fast as they are taken, over a Unix socket in the replica's directory. So to connect to a replica is to take a
//! socket that is ready and to connect it: no port shows on the machine, and a socket can lead to nobody else's
//! replica. It works in the same way for root and for an ordinary user, whose server may not enter such a network.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use tokio::io::Interest;

use crate::fd::waitable;

/// Where the supervisor hands out sockets, in the replica's directory.
pub(crate) const SOCKETS: &str = "sockets";

/// What the sockets on their way to the server may take of the kernel's memory: room for a few.
const STOCK_BYTES: usize = 4 << 10;
/// What a thread that hands out sockets needs.
const STACK_BYTES: usize = 64 << 10;
/// Without descriptors there is no socket; only time brings them back.
const AGAIN: Duration = Duration::from_millis(50);

/// Gives sockets that are inside one replica's network.
#[derive(Debug)]
pub struct Sockets {
    dir: PathBuf,
    line: Mutex<Option<Arc<OwnedFd>>>,
}

impl Sockets {
    /// Those of the replica whose files are in `dir`.
    pub(crate) fn of(dir: PathBuf) -> Arc<Self> {
        Arc::new(Self { dir, line: Mutex::default() })
    }

    /// A TCP socket over IPv4, not yet connected, that does not block.
    ///
    /// # Errors
    /// When the replica has not begun, or has ended.
    pub async fn open(&self) -> io::Result<OwnedFd> {
        let line = self.line()?;
        loop {
            match receive(&line) {
                Ok(Some(socket)) => return Ok(socket),
                Ok(None) => {
                    self.hang_up(&line);
                    return Err(io::ErrorKind::ConnectionReset.into());
                }
                Err(Errno::INTR) => {}
                // A descriptor of its own for each who waits: the gateway may do so from several runtimes.
                Err(Errno::AGAIN) => {
                    let waiting = waitable(line.try_clone()?, Interest::READABLE)?;
                    waiting.readable().await?.clear_ready();
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The connection to the supervisor; made when it is first needed.
    fn line(&self) -> io::Result<Arc<OwnedFd>> {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = &*line {
            return Ok(Arc::clone(line));
        }
        let socket = seqpacket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        in_directory(&self.dir, |address| rustix::net::connect(&socket, address))?;
        Ok(Arc::clone(line.insert(Arc::new(socket))))
    }

    fn hang_up(&self, ended: &Arc<OwnedFd>) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if line.as_ref().is_some_and(|line| Arc::ptr_eq(line, ended)) {
            *line = None;
        }
    }
}

/// Takes one socket that is ready; `None` when the supervisor is gone.
fn receive(line: &OwnedFd) -> Result<Option<OwnedFd>, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::CMSG_CLOEXEC;
    rustix::net::recvmsg(line, &mut [IoSliceMut::new(&mut byte)], &mut control, flags)?;
    let sockets = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut sockets) => sockets.next(),
        _ => None,
    });
    Ok(sockets.last())
}

/// Hands out sockets of the network that this thread is in, to whoever may open the replica's directory, until the
/// process ends.
pub(crate) fn hand_out(dir: &Path) -> io::Result<()> {
    let listener = seqpacket(SocketFlags::CLOEXEC)?;
    // For the server alone. No other thread can notice: this process has none yet.
    let before = rustix::process::umask(Mode::from_raw_mode(0o077));
    let bound = in_directory(dir, |address| rustix::net::bind(&listener, address));
    rustix::process::umask(before);
    bound?;
    rustix::net::listen(&listener, 8)?;
    thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
        loop {
            match rustix::net::accept_with(&listener, SocketFlags::CLOEXEC) {
                Ok(line) => {
                    let serving = thread::Builder::new().stack_size(STACK_BYTES);
                    let _ = serving.spawn(move || serve(&line));
                }
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(_) => thread::sleep(AGAIN),
            }
        }
    })?;
    Ok(())
}

/// Fills the line with sockets, and waits while it is full, until the other side is gone.
fn serve(line: &OwnedFd) {
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(line, STOCK_BYTES);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    loop {
        let Ok(socket) = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)
        else {
            thread::sleep(AGAIN);
            continue;
        };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let sockets = [socket.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&sockets));
        match rustix::net::sendmsg(line, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL) {
            Ok(_) | Err(Errno::INTR) => {}
            // Too many are on their way to servers that do not take them.
            Err(Errno::TOOMANYREFS | Errno::NOBUFS | Errno::NOMEM) => thread::sleep(AGAIN),
            Err(_) => return,
        }
    }
}

fn seqpacket(flags: SocketFlags) -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Names the socket in `dir` by way of a descriptor: an address holds no more than 107 bytes, less than many paths.
fn in_directory(
    dir: &Path,
    use_address: impl FnOnce(&SocketAddrUnix) -> rustix::io::Result<()>,
) -> io::Result<()> {
    let dir = rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/{SOCKETS}", dir.as_raw_fd()))?;
    Ok(use_address(&address)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sockets_come_one_by_one_however_many_are_asked_for_and_a_long_path_is_no_obstacle() {
        let data = tempfile::tempdir().unwrap();
        let dir = data.path().join("a".repeat(120));
        std::fs::create_dir(&dir).unwrap();
        let sockets = Sockets::of(dir.clone());
        assert!(sockets.open().await.is_err(), "nobody hands out sockets yet");
        hand_out(&dir).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let ask = || async {
            let socket = sockets.open().await.unwrap();
            tokio::net::TcpSocket::from_std_stream(socket.into()).connect(address).await.unwrap()
        };
        let opened = futures_util::future::join_all((0..50).map(|_| ask())).await;
        let locals: std::collections::BTreeSet<_> =
            opened.iter().map(|stream| stream.local_addr().unwrap()).collect();
        assert_eq!(locals.len(), 50);
    }
}
