//! The doorman of a container: goes into its network, gives it its way out, hands out sockets of it, and is gone with it.
//!
//! A container's program is started and ended by its engine. But only a process that is in its network can make sockets
//! there; and for an ordinary user, only one that has become root in the container's user namespace may go in.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};
use rustix::thread::LinkNameSpaceType;

use super::network;
use super::spec::{self, Contained, ShimProcess};
use crate::sockets;

/// What it says once it is at its post; before that, what does not work.
pub(crate) const READY: &str = "marmot: ready";

/// Stands at the door of the container whose replica is in `dir`, until the container ends.
pub(super) fn serve(dir: &Path, contained: &Contained) -> io::Result<()> {
    let inside: ShimProcess = spec::read(dir, spec::SHIM)?.ok_or(io::ErrorKind::NotFound)?;
    let pid = Pid::from_raw(inside.pid).ok_or(io::ErrorKind::InvalidInput)?;
    let container = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    if !inside.is_alive() {
        return Err(io::ErrorKind::NotFound.into());
    }
    spec::write(dir, spec::DOORMAN, &ShimProcess::own()?)?;
    let own = network::network_of(inside.pid)?;
    let middle = match &contained.plug {
        Some(plug) if plug.keeper.is_alive() => Some((plug, network::network_of(plug.keeper.pid)?)),
        _ => None,
    };
    become_one_of_its_users(inside.pid)?;
    let mut said = io::stdout();
    if let Some((plug, middle)) = middle
        && let Err(error) = network::connect(plug, &middle, &own, inside.pid)
    {
        writeln!(said, "marmot: a container has no network: {error}")?;
    }
    network::enter(&own)?;
    // One that was here before has ended, or it would still be the doorman.
    crate::files::remove(&dir.join(sockets::SOCKETS))?;
    sockets::hand_out(dir)?;
    writeln!(said, "{READY}")?;
    said.flush()?;
    // Whoever started this reads until the end of what is said.
    rustix::stdio::dup2_stdout(File::options().write(true).open("/dev/null")?)?;
    loop {
        let mut waiting = [PollFd::new(&container, PollFlags::IN)];
        match poll(&mut waiting, None) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// As an ordinary user, becomes root among the container's users, outside of which it stays the user it is.
fn become_one_of_its_users(pid: crate::procfs::RawPid) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let users = File::open(format!("/proc/{pid}/ns/user"))?;
    Ok(rustix::thread::move_into_link_name_space(users.as_fd(), Some(LinkNameSpaceType::User))?)
}
