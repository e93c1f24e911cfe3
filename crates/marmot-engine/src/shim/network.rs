//! The supervisor goes into the network of the program it starts, before the program itself begins.

use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::thread::{LinkNameSpaceType, UnshareFlags};
use serde::Deserialize;

use super::inherit;
use super::spec::Plug;
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

    /// Opens the ways out of and into the network of the program, stays there, and lets the program begin. What does
    /// not work is `said` on the program's log.
    pub(super) fn let_go(
        mut self,
        dir: &Path,
        plug: Option<(&Plug, File)>,
        mut said: PipeWriter,
    ) -> io::Result<()> {
        let mut text = String::new();
        self.told.read_to_string(&mut text)?;
        // bubblewrap that could not make the sandbox says so on the log, and its exit code says it again.
        let Ok(told) = serde_json::from_str::<Told>(&text) else { return Ok(()) };
        let own = network_of(told.inside)?;
        if let Some((plug, middle)) = plug
            && let Err(error) = connect(plug, &middle, &own, told.inside)
        {
            writeln!(said, "marmot: this app has no network: {error}")?;
        }
        enter(&own)?;
        let_listen_everywhere();
        sockets::hand_out(dir)?;
        self.hold.write_all(&[0])
    }
}

/// A network that is made before there is a program for it. This process is in it.
pub(super) struct Place {
    plug: Plug,
    middle: File,
    own: File,
}

impl Place {
    /// Makes a network, gives it its way out and stays there.
    pub(super) fn take(plug: Plug) -> io::Result<Self> {
        let middle = leave_the_machines_users(Some(&plug))?.map(|(_, middle)| middle);
        let middle = middle.ok_or_else(|| io::Error::other("the network in the middle has ended"))?;
        #[expect(
            deprecated,
            reason = "rustix's replacement is unsafe for the sake of descriptor tables, which this does not touch"
        )]
        rustix::thread::unshare(UnshareFlags::NEWNET)?;
        let own = File::open("/proc/thread-self/ns/net")?;
        // By its file: while this process connects the two, it is in the one in the middle itself.
        let file = format!("/proc/{}/fd/{}", std::process::id(), own.as_raw_fd());
        connect(&plug, &middle, &own, file)?;
        let_listen_everywhere();
        Ok(Self { plug, middle, own })
    }

    /// Has the firewall follow these rules, if they are others than before.
    pub(super) fn follow(&self, rules: &str) -> io::Result<()> {
        if rules == self.plug.rules {
            return Ok(());
        }
        enter(&self.middle)?;
        run(Command::new(&self.plug.nft).args(["-f", "-"]), rules)?;
        enter(&self.own)
    }
}

/// Nobody else is here: a program may listen where it likes. Should it not be possible, it says so itself.
fn let_listen_everywhere() {
    let _ = fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
}

/// Connects the network of the program with the one in the middle. `inside`: a process in it, or a file that is it.
pub(crate) fn connect(plug: &Plug, middle: &File, own: &File, inside: impl Display) -> io::Result<()> {
    enter(middle)?;
    // The last one with this name may have ended a moment ago: then the kernel still removes its interface.
    let links = fs::read_to_string("/proc/thread-self/net/dev")?;
    if links.lines().any(|line| line.trim().starts_with(&format!("{}:", plug.interface))) {
        let _ = run(Command::new(&plug.ip).args(["link", "del", &plug.interface]), "");
    }
    fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
    run(Command::new(&plug.nft).args(["-f", "-"]), &plug.rules)?;
    run(Command::new(&plug.ip).args(["-batch", "-"]), &plug.outside.replace("{pid}", &inside.to_string()))?;
    enter(own)?;
    run(Command::new(&plug.ip).args(["-batch", "-"]), &plug.inside)
}

/// Runs a program with this input; what it says when it fails is the error.
pub(crate) fn run(command: &mut Command, input: &str) -> io::Result<()> {
    command.env_clear().stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that has ended says why.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let said: String = String::from_utf8_lossy(&output.stderr).trim().chars().take(300).collect();
    let program = command.get_program().to_string_lossy().into_owned();
    Err(io::Error::other(format!("{program}: {said}")))
}

pub(crate) fn network_of(pid: RawPid) -> io::Result<File> {
    File::open(format!("/proc/{pid}/ns/net"))
}

/// Moves this thread, and all that it will start, into a network.
pub(super) fn enter(network: &File) -> io::Result<()> {
    Ok(rustix::thread::move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?)
}

/// As an ordinary user, becomes root in a user namespace, so that it may enter the network which its sandbox makes
/// below: in that of the network in the middle, else in one of its own. Outside, it stays the user it is, and root stays
/// root. Returns how the program is connected, and the network in the middle.
pub(super) fn leave_the_machines_users(plug: Option<&Plug>) -> io::Result<Option<(&Plug, File)>> {
    let is_root = rustix::process::geteuid().is_root();
    if let Some(plug) = plug.filter(|plug| plug.keeper.is_alive()) {
        let users = File::open(format!("/proc/{}/ns/user", plug.keeper.pid))?;
        let middle = network_of(plug.keeper.pid)?;
        if !is_root {
            rustix::thread::move_into_link_name_space(users.as_fd(), Some(LinkNameSpaceType::User))?;
        }
        return Ok(Some((plug, middle)));
    }
    if !is_root {
        own_users()?;
    }
    Ok(None)
}

fn own_users() -> io::Result<()> {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    #[expect(
        deprecated,
        reason = "rustix's replacement is unsafe for the sake of descriptor tables, which this does not touch"
    )]
    rustix::thread::unshare(UnshareFlags::NEWUSER)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {} 1", user.as_raw()))?;
    fs::write("/proc/self/gid_map", format!("0 {} 1", group.as_raw()))
}
