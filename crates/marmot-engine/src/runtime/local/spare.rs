//! Supervisors that wait for replicas, so that a start waits for less: for no supervisor, network or control group. There
//! are some where replicas are confined and have a way out.

use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use marmot_core::id::ReplicaId;
use tokio::process::Child;
use tokio::sync::Notify;

use super::Shared;
use super::prepare::free_slot;
use crate::cgroup::ReplicaGroup;
use crate::procfs::RawPid;
use crate::shim::spare::{Order, SPARE, Station};
use crate::shim::spec::{Plug, Private};
use crate::wanted::Outbound;

/// How many wait. Each takes a few MiB.
const READY: usize = 2;

/// The supervisors that wait.
#[derive(Default)]
pub(super) struct Spares {
    waiting: Mutex<Vec<Spare>>,
    /// One was taken, and what it was taken for has booted.
    missed: Notify,
}

/// A supervisor that waits. It ends when this is dropped, and leaves its group.
pub(super) struct Spare {
    child: Child,
    line: UnixStream,
    pub(super) group: ReplicaGroup,
    pub(super) plug: Plug,
}

impl Spares {
    pub(super) fn waiting(&self) -> MutexGuard<'_, Vec<Spare>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Others may take the place of those that were taken: nobody waits for the processor just now.
    pub(super) fn replace(&self) {
        self.missed.notify_one();
    }

    pub(super) fn put_back(&self, spare: Spare) {
        self.waiting().push(spare);
    }
}

impl Spare {
    /// Has it supervise the replica that is laid out in `dir`. Its process.
    pub(super) fn order(mut self, dir: &Path, private: Private) -> io::Result<RawPid> {
        let pid =
            self.child.id().and_then(|pid| RawPid::try_from(pid).ok()).ok_or(io::ErrorKind::NotFound)?;
        send(&mut self.line, &Order { dir: dir.to_owned(), private })?;
        Ok(pid)
    }

    fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it, and removes its group.
    async fn end(mut self) {
        let _ = self.line.shutdown(std::net::Shutdown::Both);
        let _ = self.child.wait().await;
        self.group.remove();
    }
}

impl Shared {
    /// Takes a supervisor that waits, for a replica that may reach this.
    pub(super) fn take_spare(&self, id: ReplicaId, outbound: &Outbound) -> Option<Spare> {
        let uplink = self.settings.uplink.as_ref().filter(|_| *outbound != Outbound::None)?;
        loop {
            let mut waiting = self.spares.waiting();
            let mut spare = waiting.pop()?;
            // Its place in the middle goes on being taken.
            if let Some(entry) = self.replicas().get_mut(&id) {
                entry.slot = Some(spare.plug.slot);
            }
            drop(waiting);
            // Made anew, the network in the middle is another one.
            let plug = uplink.plug(spare.plug.slot, outbound).ok().flatten();
            match plug.filter(|plug| plug.keeper == spare.plug.keeper && spare.is_alive()) {
                Some(_) => return Some(spare),
                None => drop(self.tasks.spawn(spare.end())),
            }
        }
    }

    fn make_spare(&self) -> Result<(), String> {
        let Some(uplink) = self.settings.uplink.as_ref().filter(|_| self.settings.confiner.is_some()) else {
            return Ok(());
        };
        let id = ReplicaId::from(u128::from(ulid::Ulid::generate()));
        let mut waiting = self.spares.waiting();
        let slot = free_slot(id, |slot| {
            waiting.iter().any(|spare| spare.plug.slot == slot)
                || self.replicas().values().any(|entry| entry.slot == Some(slot))
        });
        let slot = slot.ok_or("every address is taken")?;
        let Some(plug) = uplink.plug(slot, &Outbound::Internet)? else { return Ok(()) };
        let group = self.settings.groups.create_without_limits(id).map_err(|error| error.to_string())?;
        match self.spawn_spare(&group, plug) {
            Ok(spare) => waiting.push(spare),
            Err(error) => {
                group.remove();
                return Err(error.to_string());
            }
        }
        Ok(())
    }

    fn spawn_spare(&self, group: &ReplicaGroup, plug: Plug) -> io::Result<Spare> {
        let (mut line, theirs) = UnixStream::pair()?;
        let shim = &self.settings.shim;
        let mut command = tokio::process::Command::new(&shim.program);
        command.args(&shim.args).arg(SPARE).arg(self.settings.layout.data_dir()).env_clear().current_dir("/");
        command.stdin(std::os::fd::OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn()?;
        drop(command);
        let station = Station { group: group.clone(), plug };
        send(&mut line, &station)?;
        Ok(Spare { child, line, group: station.group, plug: station.plug })
    }
}

/// Keeps supervisors waiting until the engine stops.
pub(super) async fn keep(shared: Arc<Shared>) {
    loop {
        let missing = READY.saturating_sub(shared.spares.waiting().len());
        for _ in 0..missing {
            let making = Arc::clone(&shared);
            let made = tokio::task::spawn_blocking(move || making.make_spare()).await;
            if let Ok(Err(error)) = made {
                tracing::debug!(%error, "no supervisor waits for the next replica");
            }
        }
        tokio::select! {
            () = shared.stop.cancelled() => break,
            () = shared.spares.missed.notified() => {}
        }
    }
    let left = std::mem::take(&mut *shared.spares.waiting());
    for spare in left {
        spare.end().await;
    }
}

fn send(line: &mut UnixStream, what: &impl serde::Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec(what).map_err(io::Error::from)?;
    text.push(b'\n');
    line.write_all(&text)
}
