//! Ends the network in the middle when nobody needs it any more: when its server is gone, and the last replica, too.
//!
//! Replicas outlive the server, and their way out does. But a server that was killed, and whose data directory may be gone,
//! ends nothing. So a small process waits beside the network: until the kernel gives it the lock that servers share, and
//! then for the end of each replica that still runs.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};

use super::{Running, UPLINK_FILE};
use crate::config::ShimCommand;
use crate::layout::Layout;
use crate::shim::spec::{self, ShimProcess};

/// What the supervisor's program is told in the place of a replica's directory, before the server's data directory.
pub(crate) const GUARD: &str = "--guard";
/// Held by the server, in the data directory.
const LOCK: &str = "uplink.lock";

/// Says that a server is there, as long as this is open. Waits while a guard looks whether it is needed.
pub(super) fn lock(data_dir: &Path) -> io::Result<File> {
    let file = File::create(data_dir.join(LOCK))?;
    take(&file, FlockOperation::LockShared)?;
    Ok(file)
}

/// Starts the guard of the network in the middle.
pub(super) fn start(shim: &ShimCommand, data_dir: &Path) -> io::Result<ShimProcess> {
    let mut command = Command::new(&shim.program);
    command.args(&shim.args).arg(GUARD).arg(data_dir).env_clear().current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let guard = ShimProcess::of(i32::try_from(child.id()).map_err(io::Error::other)?);
    super::reap(move || child.wait())?;
    guard
}

/// Stands guard, until there is nothing to guard.
pub(crate) fn stand(data_dir: &Path) -> io::Result<()> {
    let file = File::open(data_dir.join(LOCK))?;
    loop {
        take(&file, FlockOperation::LockExclusive)?;
        let replicas = living(data_dir);
        if replicas.is_empty() {
            let running = spec::read::<Running>(data_dir, UPLINK_FILE).ok().flatten();
            running.inspect(Running::end_all_but_guard);
            return fs::remove_file(data_dir.join(UPLINK_FILE));
        }
        take(&file, FlockOperation::Unlock)?;
        replicas.iter().for_each(wait_for);
    }
}

fn take(file: &File, how: FlockOperation) -> io::Result<()> {
    loop {
        match flock(file, how) {
            Err(Errno::INTR) => {}
            done => return Ok(done?),
        }
    }
}

/// The processes that stand for replicas, of those that run.
fn living(data_dir: &Path) -> Vec<ShimProcess> {
    let below = |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let replicas = below(Layout::new(data_dir).apps()).flat_map(|app| below(app.join("replicas")));
    let shims = replicas.filter_map(|dir| spec::read::<ShimProcess>(&dir, spec::SHIM).ok().flatten());
    shims.filter(ShimProcess::is_alive).collect()
}

fn wait_for(process: &ShimProcess) {
    let Some(pid) = Pid::from_raw(process.pid) else { return };
    let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return };
    // Its pid may have changed hands before it was held.
    while process.is_alive() {
        let _ = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None);
    }
}
