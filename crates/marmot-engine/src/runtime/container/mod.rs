//! Replicas that are containers: how one is made, what its program prints, how it ends.
//!
//! The life of such a replica is that of every other (`runtime/local`). What differs is who starts and ends its program:
//! the container engine does, and goes on doing so while this server is away. In the place of a supervisor it has a
//! *doorman*: a process that goes into the container's network, gives it its way out, and hands the gateway sockets that
//! were made inside. So no port of any container shows on the machine.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::container::ContainerEngine;
use crate::container::words;
use crate::logs;
use crate::observed::FailureReason;
use crate::runtime::local::Shared;
use crate::shim::spec::{Contained, Spec};

pub(super) mod begin;
mod body;
mod gpus;
pub(super) mod log;

/// How long it is waited for an engine to say how a container ended.
const SAYS_WITHIN: Duration = Duration::from_secs(15);
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// What a program printed last.
pub(super) async fn last_line(dir: &Path) -> Option<String> {
    let dir = dir.to_owned();
    let lines = tokio::task::spawn_blocking(move || logs::last_lines(&dir, 1)).await;
    lines.ok()?.ok()?.pop()
}

/// A replica's container, and the engine it is in.
#[derive(Debug, Clone)]
pub(super) struct Container {
    pub(super) engine: Arc<ContainerEngine>,
    pub(super) contained: Contained,
}

impl Container {
    pub(super) fn id(&self) -> &str {
        &self.contained.id
    }

    /// Asks the program to end, and ends it after `grace`. `false`: the engine does not.
    pub(super) async fn stop(&self, grace: Duration) -> bool {
        let stopped = self.engine.stop(self.id(), grace).await;
        if let Err(error) = &stopped {
            tracing::warn!(container = self.id(), %error, "a container could not be stopped by its engine");
        }
        stopped.is_ok()
    }

    /// Holds all of its processes still, where that cannot be done without the engine.
    pub(super) async fn pause(&self) -> std::io::Result<()> {
        self.engine.pause(self.id()).await.map_err(std::io::Error::other)
    }

    pub(super) async fn unpause(&self) {
        match self.engine.state(self.id()).await {
            Ok(Some(state)) if state.paused => {
                if let Err(error) = self.engine.unpause(self.id()).await {
                    tracing::warn!(container = self.id(), %error, "a container cannot be woken");
                }
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(container = self.id(), %error, "a container cannot be looked at"),
        }
    }

    /// Why its program ended. `last_line`: what it printed last.
    pub(super) async fn reason(&self, memory_limit: u64, last_line: Option<&str>) -> FailureReason {
        let asking = async {
            loop {
                match self.engine.state(self.id()).await {
                    // The engine notices a moment later than we do.
                    Ok(Some(state)) if state.pid.is_some() => {}
                    Ok(state) => return Some(state),
                    Err(error) if error.is_of_the_engine() => {}
                    Err(error) => {
                        tracing::warn!(container = self.id(), %error, "nobody can say how a container ended");
                        return None;
                    }
                }
                tokio::time::sleep(ASK_AGAIN).await;
            }
        };
        let state = tokio::time::timeout(SAYS_WITHIN, asking).await;
        let Ok(Some(Some(state))) = state else { return FailureReason::Unknown };
        if state.out_of_memory {
            return FailureReason::OutOfMemory { used: None, limit: memory_limit };
        }
        let program = self.contained.program.as_deref();
        let said = [state.error.as_str(), last_line.unwrap_or_default()];
        let did_not_start = said.iter().enumerate().find_map(|(index, said)| {
            let by_init = ["catatonit", "tini", "podman-init"].iter().any(|init| said.contains(init));
            (index == 0 || by_init).then(|| words::not_started(said, program)).flatten()
        });
        match (did_not_start, state.exit_code) {
            (Some(why), _) => FailureReason::CouldNotStart(why),
            // As every shell and engine tells of signals.
            (None, code @ 129..=192) => FailureReason::Killed(code - 128),
            (None, code) => FailureReason::Exited(code),
        }
    }

    /// Why it ended while nobody looked; what it printed meanwhile is taken from the engine first.
    pub(super) async fn ended_unseen(&self, shared: &Shared, dir: &Path, spec: &Spec) -> FailureReason {
        let ended = CancellationToken::new();
        ended.cancel();
        let (log_bytes, stop) = (shared.settings.log_bytes, shared.stop.clone());
        log::follow(self.clone(), dir.to_owned(), log_bytes, ended, stop).await;
        let last = last_line(dir).await;
        self.reason(spec.memory_limit, last.as_deref()).await
    }

    /// Removes it. An engine that does not answer removes it when it is looked through the next time.
    pub(super) async fn remove(&self) {
        if let Err(error) = self.engine.remove(self.id()).await {
            tracing::warn!(container = self.id(), %error, "a container could not be removed; it will be tried again");
            self.engine.leave();
        }
    }
}
