//! Listening sockets that outlive the server: taken from systemd, or from the server before, and given to the next one.
//!
//! A server that is told to make room for a newer one (`SIGUSR2`) stops accepting, finishes what is under way, and
//! becomes the next server: the same process, a new program. Its sockets listen all the time, so whoever connects
//! meanwhile waits in the kernel's queue and is refused nothing.

use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};

/// Tells the next server that its sockets wait at its standard input, and how many servers this process has been before.
const HANDED_OVER: &str = "LISTEN_HANDED_OVER";
/// The most that are handed over: one for each core, and no machine has more that are of use here.
const MOST: usize = 128;

/// Takes the sockets that the server before, or systemd, left for this process; none when there are none.
///
/// To be called before anything else is opened or started.
pub(super) fn inherited() -> io::Result<Vec<TcpListener>> {
    if std::env::var_os(HANDED_OVER).is_some() {
        let sockets = receive(io::stdin().as_fd())?;
        // Nobody who is started from here shall find anything at this end.
        rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
        return Ok(sockets);
    }
    let mut from_systemd = listenfd::ListenFd::from_env();
    let mut sockets = Vec::new();
    for number in 0..from_systemd.len() {
        if let Some(socket) = from_systemd.take_tcp_listener(number)? {
            // What is started from here must not have it.
            rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
            sockets.push(socket);
        }
    }
    Ok(sockets)
}

/// What becomes of this process when it makes room.
#[derive(Debug)]
pub(super) struct Successor {
    /// Where the program was found at the start; there may be a newer one by now.
    program: PathBuf,
    arguments: Vec<OsString>,
    sockets: Vec<TcpListener>,
}

impl Successor {
    /// A server that is started in the same way, and listens on these sockets.
    pub(super) fn new(sockets: &[TcpListener]) -> io::Result<Self> {
        let sockets = sockets.iter().take(MOST).map(TcpListener::try_clone).collect::<io::Result<_>>()?;
        let arguments = std::env::args_os().skip(1).collect();
        Ok(Self { program: std::env::current_exe()?, arguments, sockets })
    }

    /// Becomes that server. Returns only when that is not possible.
    pub(super) fn take_over(self) -> io::Error {
        let (ours, theirs) = match UnixStream::pair() {
            Ok(pair) => pair,
            Err(error) => return error,
        };
        if let Err(error) = send(&ours, &self.sockets) {
            return error;
        }
        let before = std::env::var(HANDED_OVER).ok().and_then(|count| count.parse::<u32>().ok());
        let count = before.unwrap_or(0).saturating_add(1);
        Command::new(self.program)
            .args(self.arguments)
            .env(HANDED_OVER, count.to_string())
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .exec()
    }
}

fn send(to: &UnixStream, sockets: &[TcpListener]) -> io::Result<()> {
    let sockets: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&sockets));
    rustix::net::sendmsg(to, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn receive(from: BorrowedFd<'_>) -> io::Result<Vec<TcpListener>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    rustix::net::recvmsg(from, &mut [IoSliceMut::new(&mut byte)], &mut control, flags)?;
    let sockets = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
        _ => None,
    });
    Ok(sockets.flatten().map(TcpListener::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_arrive_as_they_were() {
        let sockets: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses = |sockets: &[TcpListener]| -> Vec<_> {
            sockets.iter().map(|socket| socket.local_addr().unwrap()).collect()
        };
        let (ours, theirs) = UnixStream::pair().unwrap();
        send(&ours, &sockets).unwrap();
        drop(ours);
        assert_eq!(addresses(&receive(theirs.as_fd()).unwrap()), addresses(&sockets));
    }
}
