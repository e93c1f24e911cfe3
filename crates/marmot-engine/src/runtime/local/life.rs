//! The life of one replica as one task: boots, serves, sleeps, wakes, ends.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use marmot_core::gate::GateState;
use marmot_core::id::{ReplicaId, RevisionId};
use marmot_core::said;
use marmot_core::scaling::Concurrency;
use marmot_core::{AppName, Gate};
use rustix::process::{Pid, PidfdFlags, Signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::sample::{self, Load};
use super::{Seen, Shared, State, Want, prepare, probe};
use crate::fd::waitable;
use crate::hibernate::{NOTE_AFTER, Sleeper};
use crate::observed::{FailureReason, SleepDepth, StartStep};
use crate::procfs::{self, RawPid};
use crate::runtime::container::begin::{self, BeginError};
use crate::runtime::container::{Container, log};
use crate::shim::spec::{self, ShimProcess, Spec};
use crate::sockets::Sockets;
use crate::wanted::{Gpus, Program, Revision};

/// How often CPU time is looked at while a replica is awake.
const SAMPLE_EVERY: Duration = Duration::from_secs(5);
/// Memory is dearer to measure: once in so many samples.
const MEMORY_EVERY: u32 = 6;

/// A supervisor that runs, and what it was started with.
pub(in crate::runtime) struct Process {
    pub(super) dir: PathBuf,
    pub(super) spec: Arc<Spec>,
    /// Its supervisor, or the first process of its container.
    pub(super) shim: RawPid,
    /// The container that it is, if it is one.
    pub(super) container: Option<Container>,
    /// Copies what the container prints.
    pub(super) printing: Option<Printing>,
    pidfd: AsyncFd<OwnedFd>,
    started: Instant,
    /// How long booting took, when an earlier engine saw it.
    pub(super) booted: Option<Duration>,
}

impl Process {
    /// Gets hold of a supervisor by its pid, which must not have been reaped yet.
    pub(in crate::runtime) fn open(
        dir: PathBuf,
        spec: Arc<Spec>,
        shim: RawPid,
        container: Option<Container>,
    ) -> io::Result<Self> {
        let pid = Pid::from_raw(shim).ok_or(io::ErrorKind::InvalidInput)?;
        let pidfd = waitable(rustix::process::pidfd_open(pid, PidfdFlags::empty())?, Interest::READABLE)?;
        let started = Instant::now();
        Ok(Self { dir, spec, shim, container, printing: None, pidfd, started, booted: None })
    }

    /// Gets hold of the very supervisor that an earlier engine started; `None` when it has ended.
    pub(super) fn reopen(
        dir: PathBuf,
        spec: Arc<Spec>,
        shim: &ShimProcess,
        container: Option<Container>,
    ) -> io::Result<Option<Self>> {
        if !shim.is_alive() {
            return Ok(None);
        }
        let process = Self::open(dir, spec, shim.pid, container)?;
        // The pid may have changed hands between the two lines above; once it is held, it cannot.
        Ok(shim.is_alive().then_some(process))
    }

    /// Waits until the supervisor has ended, and with it everything it supervised.
    pub(in crate::runtime) async fn ended(&self) {
        // Readable for good once the process has ended. An error would say that waiting is not possible at all.
        let _ = self.pidfd.readable().await;
    }

    /// The processes of the replica, without the supervisor.
    pub(super) fn processes(&self) -> Vec<RawPid> {
        sample::processes(&self.spec.group, self.shim)
    }
}

/// The task that copies what a container prints.
pub(super) struct Printing {
    /// Cancelled once the container has ended: the task ends when all is told.
    pub(super) ended: CancellationToken,
    pub(super) task: JoinHandle<()>,
}

/// Why a replica's task stopped looking after its program.
pub(super) enum Parting {
    /// It ended by itself.
    Ended,
    /// It was asked to be gone.
    Asked,
    /// It was not ready in time.
    Late(Duration),
    /// The engine stops; the replica goes on.
    Engine,
}

/// Looks after one replica.
pub(super) struct Life {
    pub(super) shared: Arc<Shared>,
    pub(super) app: AppName,
    pub(super) id: ReplicaId,
    pub(super) revision: RevisionId,
    pub(super) gate: Arc<Gate>,
    pub(super) sockets: Option<Arc<Sockets>>,
    pub(super) want: watch::Receiver<Want>,
}

impl Life {
    pub(super) fn new(shared: &Arc<Shared>, app: AppName, seen: &Seen, want: watch::Receiver<Want>) -> Self {
        let shared = Arc::clone(shared);
        let (gate, sockets) = (Arc::clone(&seen.gate), seen.sockets.clone());
        Self { shared, app, id: seen.id, revision: seen.revision, gate, sockets, want }
    }

    /// Starts the program and looks after it until nothing is left of it.
    pub(super) async fn begin(mut self, revision: Arc<Revision>, limit: Concurrency) {
        let (shared, wanted) = (Arc::clone(&self.shared), Arc::clone(&revision));
        let image = tokio::task::spawn_blocking(move || begin::image_of(&shared, &wanted)).await;
        let image = image.ok().flatten();
        let started = if image.is_some() || matches!(revision.program, Program::Image { .. }) {
            let sockets = Sockets::of(self.shared.dir(&self.app, self.id));
            self.sockets = Some(Arc::clone(&sockets));
            self.shared.update(self.id, |seen| seen.sockets = Some(sockets));
            let mut want = self.want.clone();
            let begun = tokio::select! {
                biased;
                () = self.shared.stop.cancelled() => return,
                // An engine may take long, or hang: nobody who is switched off waits for it.
                () = asked_to_be_gone(&mut want) => {
                    begin::give_up(&self.shared, self.id).await;
                    return self.gone_before_it_began().await;
                }
                begun = begin::begin(&self.shared, self.id, &revision, limit, image) => begun,
            };
            begun.map_err(|error| match error {
                BeginError::Ended(reason) => reason,
                BeginError::Engine(ref away) if away.is_of_the_engine() => {
                    FailureReason::EngineAway(error.said())
                }
                other => FailureReason::CouldNotStart(other.said()),
            })
        } else {
            self.begin_process(revision, limit).await
        };
        match started {
            Ok(process) => self.go_on(process, false).await,
            Err(reason) => self.never_ran(reason).await,
        }
    }

    async fn begin_process(
        &self,
        revision: Arc<Revision>,
        limit: Concurrency,
    ) -> Result<Process, FailureReason> {
        if revision.gpus != Gpus::None {
            return Err(FailureReason::CouldNotStart(said!(
                "start-no-gpus",
                "its resource class has GPUs, which containers alone can be given: choose another class, or have the \
                 code built by a Dockerfile"
            )));
        }
        let (shared, id) = (Arc::clone(&self.shared), self.id);
        let begun = tokio::task::spawn_blocking(move || prepare::begin(&shared, id, &revision, limit)).await;
        let could_not = FailureReason::CouldNotStart;
        match begun {
            Ok(begun) => begun.map_err(|error| could_not(error.said())),
            Err(panic) => Err(could_not(panic.to_string().into())),
        }
    }

    /// Looks after a program that runs until nothing is left of it. `frozen`: it was found so.
    pub(super) async fn go_on(mut self, mut process: Process, frozen: bool) {
        process.printing = process.container.clone().map(|container| self.print(&process, container));
        let booted = if frozen { Ok(()) } else { self.boot(&process).await };
        self.shared.spares.replace();
        let parting = match booted {
            Ok(()) => self.serve(&process, frozen).await,
            Err(parting) => parting,
        };
        if !matches!(parting, Parting::Engine) {
            self.part(process, parting).await;
        }
    }

    /// Has what a container prints copied to the replica's log.
    fn print(&self, process: &Process, container: Container) -> Printing {
        let (ended, stop) = (CancellationToken::new(), self.shared.stop.clone());
        let (dir, log_bytes) = (process.dir.clone(), self.shared.settings.log_bytes);
        let task = self.shared.tasks.spawn(log::follow(container, dir, log_bytes, ended.clone(), stop));
        Printing { ended, task }
    }

    pub(super) fn show(&self, state: State) {
        let now = self.shared.settings.clock.now();
        self.shared.update(self.id, |seen| {
            seen.busy &= matches!(state, State::Awake(_));
            (seen.state, seen.since) = (state, now);
        });
    }

    /// Waits until the program answers on its port.
    async fn boot(&mut self, process: &Process) -> Result<(), Parting> {
        if process.booted.is_none() {
            // Booting goes on; only the step is another one.
            self.shared.update(self.id, |seen| seen.state = State::Starting(StartStep::WaitingForPort));
        }
        let port = process.spec.port;
        let (group, shim) = (process.spec.group.clone(), process.shim);
        // In a network of its own, nobody else can listen.
        let alone = self.sockets.is_some();
        let ready = probe::until_it_answers(prepare::address(port), self.sockets.clone(), move || {
            if alone {
                return true;
            }
            let ports = procfs::listening_ports(&sample::processes(&group, shim));
            // An empty answer: this user may not look. Then the port was free, and that must do.
            ports.is_empty() || ports.contains(&port)
        });
        tokio::select! {
            biased;
            parting = leaves(&self.shared, process) => return Err(parting),
            parting = asked_to_end(&mut self.want) => return Err(parting),
            () = ready => {}
        }
        if process.booted.is_none() {
            let boot_time = process.started.elapsed();
            let millis = u64::try_from(boot_time.as_millis()).unwrap_or(u64::MAX);
            if let Err(error) =
                spec::write(&process.dir, spec::STATE, &spec::Progress { boot_millis: millis })
            {
                tracing::warn!(app = %self.app, replica = %self.id, %error, "a replica's state cannot be written");
            }
            self.shared.update(self.id, |seen| seen.boot_time = Some(boot_time));
        }
        Ok(())
    }

    /// Awake and asleep in turn.
    async fn serve(&mut self, process: &Process, mut asleep: bool) -> Parting {
        let address = prepare::address(process.spec.port);
        let pager = &self.shared.settings.pager;
        let sleeper = pager.sleeper(&process.spec.group, process.shim, asleep);
        loop {
            if !asleep {
                self.gate.open();
                self.show(State::Awake(address));
                if let Err(parting) = self.awake(process, &sleeper).await {
                    return parting;
                }
            }
            asleep = false;
            self.show(State::Asleep(address));
            if let Err(parting) = self.asleep(process, &sleeper).await {
                return parting;
            }
        }
    }

    /// Until it is asked to sleep.
    async fn awake(&mut self, process: &Process, sleeper: &Arc<Sleeper>) -> Result<(), Parting> {
        let (group, shim) = (process.spec.group.clone(), process.shim);
        let mut note = Box::pin(tokio::time::sleep(NOTE_AFTER));
        let mut noted = false;
        let mut ticks = tokio::time::interval(SAMPLE_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut load, mut count) = (Load::begin(&group, shim), 0u32);
        ticks.tick().await;
        loop {
            let want = *self.want.borrow_and_update();
            match want {
                // Asked to sleep and to be awake again before this task looked: the gate was shut meanwhile.
                Want::Awake | Want::Failed(_) => self.gate.open(),
                Want::Asleep | Want::DeepAsleep
                    if self.gate.state() == GateState::Asleep || self.gate.try_sleep() =>
                {
                    return Ok(());
                }
                // The line above opened it in between, and somebody has entered.
                Want::Asleep | Want::DeepAsleep => {}
                Want::Gone => return Err(Parting::Asked),
            }
            tokio::select! {
                biased;
                parting = leaves(&self.shared, process) => return Err(parting),
                _ = self.want.changed() => {}
                () = &mut note, if !noted => {
                    noted = true;
                    let sleeper = Arc::clone(sleeper);
                    self.shared.tasks.spawn_blocking(move || sleeper.note());
                }
                _ = ticks.tick() => {
                    let busy = load.is_busy(&group, shim);
                    if count.is_multiple_of(MEMORY_EVERY) {
                        self.measure(sleeper);
                    }
                    count = count.wrapping_add(1);
                    self.shared.update(self.id, |seen| seen.busy = busy);
                }
            }
        }
    }

    /// Freezes it and moves its memory out of the way, until it is asked to be awake; then thaws it. Asked while any of
    /// that is still under way, it does not wait for its end.
    async fn asleep(&mut self, process: &Process, sleeper: &Arc<Sleeper>) -> Result<(), Parting> {
        tokio::select! {
            biased;
            parting = leaves(&self.shared, process) => return Err(parting),
            woken = asked_to_wake(&mut self.want) => return self.wake(process, sleeper, SleepDepth::Frozen, woken).await,
            frozen = freeze(process) => match frozen {
                Ok(()) => self.set_swap_limit(process, process.spec.memory_limit),
                Err(error) => {
                    tracing::warn!(app = %self.app, replica = %self.id, %error, "a replica cannot be frozen");
                }
            }
        }
        let (mut depth, deeper) = (SleepDepth::Light, self.want.clone());
        loop {
            let (shared, id) = (Arc::clone(&self.shared), self.id);
            let page_out = async {
                let (reached, memory) = sleeper.page_out(depth).await;
                shared.update(id, |seen| (seen.depth, seen.memory) = (reached, memory));
                std::future::pending::<()>().await;
            };
            tokio::select! {
                biased;
                parting = leaves(&self.shared, process) => return Err(parting),
                woken = asked_to_wake(&mut self.want) => return self.wake(process, sleeper, depth, woken).await,
                () = asked_for_more(deeper.clone(), depth) => depth = SleepDepth::Deep,
                () = page_out => {}
            }
        }
    }

    async fn wake(
        &self,
        process: &Process,
        sleeper: &Arc<Sleeper>,
        depth: SleepDepth,
        woken: Result<(), Parting>,
    ) -> Result<(), Parting> {
        woken?;
        thaw(process).await;
        if depth == SleepDepth::Deep {
            let sleeper = Arc::clone(sleeper);
            self.shared.tasks.spawn_blocking(move || sleeper.prefetch());
        }
        self.set_swap_limit(process, 0);
        self.shared.update(self.id, |seen| seen.depth = SleepDepth::Frozen);
        Ok(())
    }

    fn set_swap_limit(&self, process: &Process, bytes: u64) {
        if let Err(error) = process.spec.group.set_swap_limit(bytes) {
            tracing::warn!(app = %self.app, replica = %self.id, %error, "a replica's swap limit cannot be set");
        }
    }

    /// Measures memory aside, since the kernel walks all page tables for it.
    fn measure(&self, sleeper: &Arc<Sleeper>) {
        let (shared, id, sleeper) = (Arc::clone(&self.shared), self.id, Arc::clone(sleeper));
        self.shared.tasks.spawn_blocking(move || {
            let memory = sleeper.memory();
            shared.update(id, |seen| seen.memory = memory);
        });
    }
}

/// Waits until the program has ended, or the engine stops.
async fn leaves(shared: &Shared, process: &Process) -> Parting {
    tokio::select! {
        biased;
        () = shared.stop.cancelled() => Parting::Engine,
        () = process.ended() => Parting::Ended,
    }
}

/// Waits until a replica is asked to be gone, or the engine ends.
async fn asked_to_be_gone(want: &mut watch::Receiver<Want>) {
    let _ = want.wait_for(|want| *want == Want::Gone).await;
}

/// Waits until a booting replica is asked to end.
async fn asked_to_end(want: &mut watch::Receiver<Want>) -> Parting {
    match want.wait_for(|want| matches!(want, Want::Gone | Want::Failed(_))).await.map(|want| *want) {
        Ok(Want::Failed(after)) => Parting::Late(after),
        Ok(_) => Parting::Asked,
        Err(_) => Parting::Engine,
    }
}

/// Waits until a sleeping replica is asked to be awake, or to end.
async fn asked_to_wake(want: &mut watch::Receiver<Want>) -> Result<(), Parting> {
    let leaves_sleep = |want: &Want| !matches!(want, Want::Asleep | Want::DeepAsleep);
    match want.wait_for(leaves_sleep).await.map(|want| *want) {
        Ok(Want::Gone) => Err(Parting::Asked),
        Ok(_) => Ok(()),
        Err(_) => Err(Parting::Engine),
    }
}

/// Waits until a sleeping replica is asked to sleep deeper than this.
async fn asked_for_more(mut want: watch::Receiver<Want>, depth: SleepDepth) {
    let asked = want.wait_for(|want| *want == Want::DeepAsleep && depth < SleepDepth::Deep).await.is_ok();
    if !asked {
        // The engine ends, which another branch sees.
        std::future::pending().await
    }
}

async fn freeze(process: &Process) -> io::Result<()> {
    let group = &process.spec.group;
    if group.is_whole() {
        return group.freeze().await;
    }
    if let Some(container) = &process.container {
        return container.pause().await;
    }
    // A process may be born while its parent is being stopped: look until there is none that was not seen before.
    let mut stopped: Vec<RawPid> = Vec::new();
    loop {
        let new: Vec<_> = process.processes().into_iter().filter(|pid| !stopped.contains(pid)).collect();
        if new.is_empty() {
            return Ok(());
        }
        new.iter().for_each(|&pid| procfs::signal(pid, Signal::STOP));
        stopped.extend(new);
        tokio::task::yield_now().await;
    }
}

/// Lets a replica run again; does nothing to one that runs.
pub(super) async fn thaw(process: &Process) {
    let group = &process.spec.group;
    if group.is_whole() {
        if let Err(error) = group.thaw() {
            tracing::warn!(%error, "a replica cannot be thawed");
        }
    } else if let Some(container) = &process.container {
        container.unpause().await;
    } else {
        process.processes().into_iter().for_each(|pid| procfs::signal(pid, Signal::CONT));
    }
}
