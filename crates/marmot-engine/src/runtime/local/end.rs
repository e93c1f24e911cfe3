//! The end of a replica: stopped with grace or by force, its reason told, everything but its log removed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use marmot_core::AppName;
use rustix::process::Signal;

use super::life::{Life, Parting, Process, thaw};
use super::prepare::{GROUP, HOME, PASSWD, RESOLV_CONF, SECCOMP, SECRETS, TMP, WORK};
use super::{Shared, State, Want};
use crate::cgroup::ReplicaGroup;
use crate::files;
use crate::logs;
use crate::observed::{Failure, FailureReason};
use crate::procfs;
use crate::runtime::container::{Container, last_line};
use crate::shim::{self, spec};
use crate::sockets::SOCKETS;

/// Lines of the log that a failure carries along.
const LAST_LINES: usize = 20;
/// Gone replicas of an app whose logs are kept.
const KEPT_LOGS: usize = 5;
/// After everything was ended by force, the supervisor needs a moment to notice and to say so.
const AFTER_FORCE: Duration = Duration::from_secs(5);
/// An engine tells what a container printed at once, unless it does not answer at all.
const TOLD_WITHIN: Duration = Duration::from_secs(5);
/// A program that was not ready in time may have little to clean up.
const LATE_GRACE: Duration = Duration::from_secs(2);

impl Life {
    /// Ends what is to be ended, tells why, and removes what is left once nobody needs to see it any more.
    pub(super) async fn part(mut self, mut process: Process, parting: Parting) {
        self.gate.close();
        match parting {
            Parting::Engine => return,
            Parting::Asked => {
                self.show(State::Stopping);
                end(&process, self.shared.settings.stop_grace).await;
                all_is_told(&mut process).await;
            }
            Parting::Ended => {
                let verdict = self.shared.replicas().get_mut(&self.id).and_then(|entry| entry.verdict.take());
                // Before anything else: the kernel forgets soon.
                let out_of_memory = process.container.is_some() && process.spec.group.out_of_memory();
                all_is_told(&mut process).await;
                let reason = match verdict {
                    Some(verdict) => verdict,
                    None if out_of_memory => {
                        FailureReason::OutOfMemory { used: None, limit: process.spec.memory_limit }
                    }
                    None => reason(&process).await,
                };
                if !self.fail(&process.dir, reason).await {
                    return;
                }
            }
            Parting::Late(after) => {
                let (expected, pids) = (process.spec.port, process.processes());
                let found = blocking(move || procfs::listening_ports(&pids)).await.unwrap_or_default();
                end(&process, LATE_GRACE).await;
                all_is_told(&mut process).await;
                let found = found.into_iter().collect();
                let reason = FailureReason::NeverListened { expected, found, after };
                if !self.fail(&process.dir, reason).await {
                    return;
                }
            }
        }
        self.remove(process.dir.clone(), process.spec.group.clone(), process.container).await;
    }

    /// The end of a replica whose program did not even start.
    pub(super) async fn never_ran(mut self, reason: FailureReason) {
        self.gate.close();
        let dir = self.shared.dir(&self.app, self.id);
        if !self.fail(&dir, reason).await {
            return;
        }
        let groups = self.shared.settings.groups.existing();
        let group = groups.into_iter().find(|(id, _)| *id == self.id).map(|(_, group)| group);
        self.remove(dir, group.unwrap_or_default(), None).await;
    }

    /// The end of a replica that was asked to be gone while its container was being made.
    pub(super) async fn gone_before_it_began(self) {
        self.gate.close();
        let dir = self.shared.dir(&self.app, self.id);
        self.remove(dir, ReplicaGroup::default(), None).await;
    }

    /// The end of a replica that ended while no engine looked.
    pub(super) async fn failed_unseen(mut self, dir: PathBuf, spec: Arc<spec::Spec>, reason: FailureReason) {
        self.gate.close();
        if !self.fail(&dir, reason).await {
            return;
        }
        let container = self.shared.container_of(&spec);
        self.remove(dir, spec.group.clone(), container).await;
    }

    /// Shows why the replica ended, until it is asked to be gone. False: the engine stops; the next one will see it.
    async fn fail(&mut self, dir: &Path, reason: FailureReason) -> bool {
        let dir = dir.to_owned();
        let lines = blocking(move || logs::last_lines(&dir, LAST_LINES)).await;
        let last_lines = lines.and_then(Result::ok).unwrap_or_default();
        let failure = Failure {
            revision: self.revision,
            at: jiff::Timestamp::now(),
            reason,
            last_lines: last_lines.into_iter().map(without_timestamp).collect(),
        };
        self.show(State::Ended(Arc::new(failure)));
        tokio::select! {
            biased;
            () = self.shared.stop.cancelled() => false,
            _ = self.want.wait_for(|want| *want == Want::Gone) => true,
        }
    }

    /// Removes the replica's files, its control group and its entry.
    async fn remove(self, dir: PathBuf, group: ReplicaGroup, container: Option<Container>) {
        // Its supervisor has ended. One that was ended while it began may have left its sandbox behind.
        group.kill();
        if tokio::time::timeout(AFTER_FORCE, group.emptied()).await.is_err() {
            tracing::warn!(app = %self.app, replica = %self.id, "something of a replica still runs");
        }
        let (shared, app, of_engine) = (Arc::clone(&self.shared), self.app.clone(), container.is_some());
        if let Some(container) = container {
            container.remove().await;
        }
        let removed = blocking(move || {
            // Who has made it removes it.
            if !of_engine {
                group.remove();
            }
            clear(&dir)?;
            prune_logs(&shared, &app)
        })
        .await;
        if let Some(Err(error)) = removed {
            tracing::warn!(app = %self.app, replica = %self.id, %error, "a replica's files cannot be removed");
        }
        self.shared.forget(self.id);
    }
}

/// Runs what may wait for a disk; `None` when the engine's runtime is going away.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

/// Asks the program to end, and ends all of it when `grace` is over.
async fn end(process: &Process, grace: Duration) {
    thaw(process).await;
    if let Some(container) = &process.container {
        // The engine knows which process is to be asked, and what with.
        tokio::select! {
            () = process.ended() => return,
            stopped = container.stop(grace) => if !stopped {
                terminate(process);
            }
        }
    } else {
        terminate(process);
    }
    if tokio::time::timeout(grace, process.ended()).await.is_ok() {
        return;
    }
    process.spec.group.kill();
    process.processes().into_iter().for_each(|pid| procfs::signal(pid, Signal::KILL));
    if tokio::time::timeout(AFTER_FORCE, process.ended()).await.is_ok() {
        return;
    }
    procfs::signal(process.shim, Signal::KILL);
    process.ended().await;
    let spec = Arc::clone(&process.spec);
    let _ = blocking(move || shim::end_orphans(&spec)).await;
}

/// `SIGTERM` to every process of the program.
fn terminate(process: &Process) {
    for pid in process.processes() {
        // bubblewrap itself is the supervisor's child; it would end at once and take the program with it.
        let is_sandbox = process.spec.launch.sandbox.is_some()
            && procfs::stat(pid).is_some_and(|stat| stat.parent == process.shim);
        if !is_sandbox {
            procfs::signal(pid, Signal::TERM);
        }
    }
}

/// Waits until what a container printed before it ended is in the log.
async fn all_is_told(process: &mut Process) {
    let Some(printing) = process.printing.take() else { return };
    printing.ended.cancel();
    if tokio::time::timeout(TOLD_WITHIN, printing.task).await.is_err() {
        tracing::warn!(directory = %process.dir.display(), "the end of a container's output is lost");
    }
}

/// Why a program ended whose supervisor has ended.
async fn reason(process: &Process) -> FailureReason {
    if let Some(container) = &process.container {
        let last = last_line(&process.dir).await;
        return container.reason(process.spec.memory_limit, last.as_deref()).await;
    }
    let (dir, spec) = (process.dir.clone(), Arc::clone(&process.spec));
    let exit = blocking(move || {
        let exit = spec::read::<spec::Exit>(&dir, spec::EXIT).ok().flatten();
        if exit.is_none() {
            // The supervisor was ended before its program.
            shim::end_orphans(&spec);
        }
        exit
    })
    .await
    .flatten();
    reason_of(exit, process.spec.memory_limit, process.spec.launch.sandbox.is_some())
}

/// The reason that a supervisor noted. `sandboxed`: signals come as bubblewrap's exit code.
pub(super) fn reason_of(exit: Option<spec::Exit>, memory_limit: u64, sandboxed: bool) -> FailureReason {
    let Some(exit) = exit else { return FailureReason::Killed(Signal::KILL.as_raw()) };
    match exit.end {
        _ if exit.out_of_memory => FailureReason::OutOfMemory { used: exit.peak_bytes, limit: memory_limit },
        spec::End::Exited(code @ 129..=192) if sandboxed => FailureReason::Killed(code - 128),
        spec::End::Exited(code) => FailureReason::Exited(code),
        spec::End::Killed(signal) => FailureReason::Killed(signal),
        spec::End::NotStarted(why) => FailureReason::CouldNotStart(why.into()),
    }
}

fn without_timestamp(line: String) -> String {
    match line.split_once(' ') {
        Some((stamp, text)) if stamp.ends_with('Z') && stamp.contains('T') => text.to_owned(),
        _ => line,
    }
}

/// Removes everything of a replica but its log, and of what revision that is. That it is gone is the last thing to be true.
pub(super) fn clear(dir: &Path) -> io::Result<()> {
    if let Ok(Some(spec)) = spec::read::<spec::Spec>(dir, spec::SPEC) {
        std::fs::write(dir.join(logs::REVISION), spec.revision)?;
    }
    let mut names = vec![
        WORK,
        HOME,
        TMP,
        SECRETS,
        PASSWD,
        GROUP,
        RESOLV_CONF,
        SECCOMP,
        SOCKETS,
        spec::SHIM,
        spec::STATE,
        spec::DOORMAN,
    ];
    let drafts: Vec<String> = [spec::SPEC, spec::SHIM, spec::STATE, spec::EXIT, spec::DOORMAN]
        .map(|name| format!("{name}.new"))
        .into();
    names.extend(drafts.iter().map(String::as_str));
    names.push(spec::SPEC);
    names.into_iter().try_for_each(|name| files::remove(&dir.join(name)))
}

/// Removes the logs of all but the last gone replicas of an app.
fn prune_logs(shared: &Shared, app: &AppName) -> io::Result<()> {
    let mut gone: Vec<_> = logs::replica_dirs(&shared.settings.layout.replicas(app))?
        .into_values()
        .filter(|dir| !dir.join(spec::SPEC).exists() && !dir.join(WORK).exists())
        .collect();
    let kept = gone.len().saturating_sub(KEPT_LOGS);
    gone.truncate(kept);
    gone.iter().try_for_each(|dir| files::remove(dir))
}
