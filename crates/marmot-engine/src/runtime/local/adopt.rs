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
use crate::cgroup::ReplicaGroup;
use crate::files;
use crate::logs;
use crate::observed::{Memory, SleepDepth, StartStep};
use crate::procfs;
use crate::runtime::container::{Container, begin};
use crate::shim::{self, spec};
use crate::sockets::Sockets;

/// How often containers are looked for that are no replica any more.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// The same, where one is known to be left.
const LOOK_SOON: Duration = Duration::from_secs(3);
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
    // A replica whose supervisor waited for it is in a group that was made before it had its id.
    let used: Vec<ReplicaGroup> = found.iter().map(|found| found.spec.group.clone()).collect();
    for found in found {
        if let Some(id) = take_over(shared, found) {
            ready.push(id);
        }
    }
    let groups = Arc::clone(shared);
    // What no directory tells of, nobody wants.
    let swept = tokio::task::spawn_blocking(move || groups.settings.groups.existing()).await;
    for (_, group) in swept.unwrap_or_default() {
        if !used.contains(&group) {
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
        memory_limit: spec.memory_limit,
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
    let container = shared.container_of(&spec);
    match Process::reopen(dir.clone(), Arc::clone(&spec), &shim, container) {
        Ok(Some(mut process)) => {
            process.booted = booted;
            if frozen {
                life.show(State::Asleep(prepare::address(spec.port)));
            }
            let again = Arc::clone(shared);
            shared.tasks.spawn(async move {
                if !frozen {
                    // An engine that ended while it froze or woke the replica may have left it half asleep.
                    thaw(&process).await;
                }
                if process.container.is_some() {
                    see_to_doorman(&again, &process).await;
                }
                life.go_on(process, frozen).await;
            });
            (booted.is_some() && !frozen).then_some(id)
        }
        Ok(None) | Err(_) => {
            shared.tasks.spawn(life.ended_unseen(dir, spec));
            None
        }
    }
}

/// A container whose doorman was ended gets another one: without, nobody reaches it.
async fn see_to_doorman(shared: &Shared, process: &Process) {
    let dir = process.dir.clone();
    let stands = tokio::task::spawn_blocking(move || {
        spec::read::<spec::ShimProcess>(&dir, spec::DOORMAN).ok().flatten().is_some_and(|it| it.is_alive())
    });
    if stands.await.unwrap_or(false) {
        return;
    }
    if let Err(error) = begin::post_doorman(shared, &process.dir).await {
        tracing::warn!(directory = %process.dir.display(), %error, "a container that goes on cannot be reached");
    }
}

/// Removes the containers of this data directory that are no replica, now and then, until the engine stops. Not only at
/// the start: a container engine may not answer then, or when a replica ends.
pub(super) async fn remove_left_containers(shared: Arc<Shared>) {
    let Some(containers) = shared.settings.containers.clone() else { return };
    // Soon after one was left, and until the engine answers.
    let mut soon = true;
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = tokio::time::sleep(if soon { LOOK_SOON } else { LOOK_EVERY }) => {}
            () = containers.one_is_left(), if !soon => {
                soon = true;
                continue;
            }
        }
        let Ok(own) = containers.own().await else {
            soon = true;
            continue;
        };
        soon = false;
        for (id, replica) in own {
            // One that is made now is among the replicas before it is in the engine.
            if replica.is_some_and(|replica| shared.replicas().contains_key(&replica)) {
                continue;
            }
            tracing::info!(container = id, "a container that is no replica any more is removed");
            if let Err(error) = containers.remove(&id).await {
                tracing::warn!(container = id, %error, "a container cannot be removed");
                soon = true;
            }
        }
    }
}

impl Shared {
    /// The container that a replica is, if it is one and there is an engine.
    pub(super) fn container_of(&self, spec: &spec::Spec) -> Option<Container> {
        let contained = spec.container.clone()?;
        self.settings.containers.clone().map(|engine| Container { engine, contained })
    }
}

impl Life {
    /// The end of a replica that ended while no engine looked.
    async fn ended_unseen(self, dir: PathBuf, spec: Arc<spec::Spec>) {
        if let Some(container) = self.shared.container_of(&spec) {
            let reason = container.ended_unseen(&self.shared, &dir, &spec).await;
            return self.failed_unseen(dir, spec, reason).await;
        }
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
