//! The supervisor goes into the network of the program it starts, before the program itself begins.

use std::fs::{self, File};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::thread::{LinkNameSpaceType, UnshareFlags};
use serde::Deserialize;

use super::inherit;
use crate::procfs::RawPid;
use crate::sockets;

/// A sandbox that is ready, and whose program is held back until it is let go.
pub(super) struct Held {
    /// Where bubblewrap tells which process is inside.
    told: PipeReader,
    /// What the process inside waits for.
    hold: PipeWriter,
}

/// What bubblewrap tells.
#[derive(Deserialize)]
struct Told {
    #[serde(rename = "child-pid")]
    inside: RawPid,
}

impl Held {
    /// With the two ends for bubblewrap: where it tells of the process inside, and what that process waits for.
    pub(super) fn new() -> io::Result<(Self, [OwnedFd; 2])> {
        let (told, tells) = io::pipe()?;
        let (waits, hold) = io::pipe()?;
        inherit(&tells)?;
        inherit(&waits)?;
        Ok((Self { told, hold }, [tells.into(), waits.into()]))
    }

    /// Enters the network of the program, opens the way in for the server, and lets the program begin.
    pub(super) fn let_go(mut self, dir: &Path) -> io::Result<()> {
        let mut text = String::new();
        self.told.read_to_string(&mut text)?;
        // bubblewrap that could not make the sandbox says so on the log, and its exit code says it again.
        let Ok(told) = serde_json::from_str::<Told>(&text) else { return Ok(()) };
        enter(told.inside)?;
        sockets::hand_out(dir)?;
        self.hold.write_all(&[0])
    }
}

/// Moves this thread, and all that it will start, into the network of a process, which must not end meanwhile.
fn enter(inside: RawPid) -> io::Result<()> {
    let network = File::open(format!("/proc/{inside}/ns/net"))?;
    Ok(rustix::thread::move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?)
}

/// As an ordinary user: becomes root in a user namespace of its own, so that it may enter what its sandbox makes
/// below. Outside, it stays the user it is. Nothing for root to do.
pub(super) fn own_users() -> io::Result<()> {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    if user.is_root() {
        return Ok(());
    }
    #[expect(
        deprecated,
        reason = "rustix's replacement is unsafe for the sake of descriptor tables, which this does not touch"
    )]
    rustix::thread::unshare(UnshareFlags::NEWUSER)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {} 1", user.as_raw()))?;
    fs::write("/proc/self/gid_map", format!("0 {} 1", group.as_raw()))
}
