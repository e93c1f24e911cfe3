//! What earlier engines left: replicas that still run are found again, the rest is ended and removed.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use marmot_core::id::{ReplicaId, RevisionId};
use marmot_core::{AppName, Gate};

use super::end::clear;
use super::life::{Life, Process, thaw};
use super::prepare;
use super::{Seen, Shared, State, Want};
use crate::files;
use crate::logs;
use crate::observed::{Memory, SleepDepth, StartStep};
use crate::procfs;
use crate::shim::{self, spec};
use crate::sockets::Sockets;

/// How long the engine's start waits for replicas that were ready to answer again.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// A replica's directory as an earlier engine left it.
struct Found {
    app: AppName,
    id: ReplicaId,
    dir: PathBuf,
    revision: RevisionId,
    spec: Arc<spec::Spec>,
    shim: spec::ShimProcess,
    progress: Option<spec::Progress>,
}

/// Finds again what earlier engines left.
pub(super) async fn adopt(shared: &Arc<Shared>) {
    let scanning = Arc::clone(shared);
    let found = tokio::task::spawn_blocking(move || scan(&scanning)).await.unwrap_or_default();
    let mut ready = Vec::new();
    for found in found {
        if let Some(id) = take_over(shared, found) {
            ready.push(id);
        }
    }
    let groups = Arc::clone(shared);
    // What no directory tells of, nobody wants.
    let swept = tokio::task::spawn_blocking(move || groups.settings.groups.existing()).await;
    for (id, group) in swept.unwrap_or_default() {
        if !shared.replicas().contains_key(&id) {
            group.kill();
            if tokio::time::timeout(ANSWER_WITHIN, group.emptied()).await.is_ok() {
                group.remove();
            }
        }
    }
    let answered = async {
        while shared
            .replicas()
            .iter()
            .any(|(id, entry)| ready.contains(id) && matches!(entry.seen.state, State::Starting(_)))
        {
            // The replicas' own tasks change what is seen, and nudge.
            shared.settings.nudge.taken().await;
        }
    };
    let _ = tokio::time::timeout(ANSWER_WITHIN, answered).await;
}

/// Reads all replicas' directories; removes the files of those that are gone.
fn scan(shared: &Shared) -> Vec<Found> {
    let mut found = Vec::new();
    for entry in fs::read_dir(shared.settings.layout.apps()).into_iter().flatten().flatten() {
        let Some(app) = entry.file_name().to_str().and_then(|name| name.parse::<AppName>().ok()) else {
            continue;
        };
        for (id, dir) in logs::replica_dirs(&shared.settings.layout.replicas(&app)).unwrap_or_default() {
            match look(&app, id, dir.clone()) {
                Some(replica) => found.push(replica),
                None => {
                    if let Err(error) = clear(&dir) {
                        tracing::warn!(%app, replica = %id, %error, "a replica's files cannot be removed");
                    }
                }
            }
        }
    }
    found
}

/// What is left of a replica, if its program may still run or ended while nobody looked.
fn look(app: &AppName, id: ReplicaId, dir: PathBuf) -> Option<Found> {
    let spec: spec::Spec = spec::read(&dir, spec::SPEC).ok()??;
    let Some(shim) = spec::read::<spec::ShimProcess>(&dir, spec::SHIM).ok()? else {
        // Its supervisor has not begun. Without the specification it will not.
        let _ = files::remove(&dir.join(spec::SPEC));
        spec.group.kill();
        return None;
    };
    if procfs::boot_id().ok()? != shim.boot_id {
        return None;
    }
    let revision = spec.revision.parse().ok()?;
    let progress = spec::read(&dir, spec::STATE).ok()?;
    Some(Found { app: app.clone(), id, dir, revision, spec: Arc::new(spec), shim, progress })
}

/// Looks after a replica again. Its id, when it was ready and is not frozen.
fn take_over(shared: &Arc<Shared>, found: Found) -> Option<ReplicaId> {
    let Found { app, id, dir, revision, spec, shim, progress } = found;
    let booted = progress.map(|progress| Duration::from_millis(progress.boot_millis));
    let frozen = booted.is_some() && spec.group.is_frozen();
    let seen = Seen {
        id,
        revision,
        state: State::Starting(StartStep::WaitingForPort),
        since: shared.settings.clock.now(),
        gate: Arc::new(Gate::with(spec.limit())),
        sockets: spec.own_network().then(|| Sockets::of(dir.clone())),
        memory: Memory::default(),
        depth: SleepDepth::default(),
        busy: false,
        boot_time: booted,
        adopted: true,
    };
    let want = if frozen { Want::Asleep } else { Want::Awake };
    let life: Life = shared.admit(app.clone(), seen, want)?;
    if let Some(entry) = shared.replicas().get_mut(&id) {
        (entry.port, entry.user) = ((!spec.own_network()).then_some(spec.port), spec.user);
        entry.slot = spec.slot();
    }
    match Process::reopen(dir.clone(), Arc::clone(&spec), &shim) {
        Ok(Some(mut process)) => {
            process.booted = booted;
            if frozen {
                life.show(State::Asleep(prepare::address(spec.port)));
            } else {
                // An engine that ended while it froze or woke the replica may have left it half asleep.
                thaw(&process);
            }
            shared.tasks.spawn(life.go_on(process, frozen));
            (booted.is_some() && !frozen).then_some(id)
        }
        Ok(None) | Err(_) => {
            shared.tasks.spawn(life.ended_unseen(dir, spec));
            None
        }
    }
}

impl Life {
    /// The end of a replica that ended while no engine looked.
    async fn ended_unseen(self, dir: PathBuf, spec: Arc<spec::Spec>) {
        let read = dir.clone();
        let exit = tokio::task::spawn_blocking(move || {
            let exit = spec::read::<spec::Exit>(&read, spec::EXIT).ok().flatten();
            // Whether or not the supervisor came to an orderly end, nothing may be left.
            shim::end_orphans(&spec);
            let limit = spec.memory_limit;
            (super::end::reason_of(exit, limit, spec.launch.sandbox.is_some()), spec)
        });
        if let Ok((reason, spec)) = exit.await {
            self.failed_unseen(dir, spec, reason).await;
        }
    }
}
