//! Containers in the engine: made, started, looked at, stopped, removed.

use std::time::Duration;

use http::Method;
use marmot_core::id::{BuildId, ReplicaId};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::{Answer, Body, Call, EngineError, empty};
use super::{ContainerEngine, LABEL_BUILD, LABEL_DATA, LABEL_REPLICA};
use crate::procfs::RawPid;

/// The engine ends a container by force after the grace it was given; this long it may take beyond.
const BEYOND_GRACE: Duration = Duration::from_secs(20);

/// Where a container is, as its engine sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ContainerState {
    /// Its first process, while there is one.
    pub(crate) pid: Option<RawPid>,
    pub(crate) paused: bool,
    pub(crate) exit_code: i32,
    pub(crate) out_of_memory: bool,
    /// What the engine says went wrong.
    pub(crate) error: String,
    /// Where what it writes is kept on this machine, if it can be told.
    pub(crate) written: Option<std::path::PathBuf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Created {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    state: State,
    graph_driver: Option<Value>,
    config: Option<Config>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    env: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct State {
    paused: bool,
    pid: i32,
    exit_code: i32,
    #[serde(rename = "OOMKilled")]
    oom_killed: bool,
    error: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    labels: Option<std::collections::HashMap<String, String>>,
}

impl ContainerEngine {
    /// Makes a container, and returns its id. One of the same name that was left of an earlier attempt is removed.
    pub(crate) async fn create(&self, name: &str, body: &Value) -> Result<String, EngineError> {
        self.made(name, body, || Call::new(&["containers", "create"]).with("name", name)).await
    }

    /// The same by Podman's own API, of which `spec` says what the container is.
    pub(crate) async fn create_by_podman(&self, name: &str, spec: &Value) -> Result<String, EngineError> {
        self.made(name, spec, || Call::of_podman(&["containers", "create"])).await
    }

    async fn made(&self, name: &str, body: &Value, call: impl Fn() -> Call) -> Result<String, EngineError> {
        let created = self.api().post::<Created>(call(), body).await;
        match created {
            Err(EngineError::Refused { message, .. }) if message.contains("already in use") => {
                self.remove(name).await?;
                Ok(self.api().post::<Created>(call(), body).await?.id)
            }
            created => Ok(created?.id),
        }
    }

    /// Makes the container's processes and its network without letting its program begin, where the engine can.
    pub(crate) async fn prepare(&self, id: &str) -> Result<bool, EngineError> {
        if !self.about().await?.podman {
            return Ok(false);
        }
        self.api().order(Call::of_podman(&["containers", id, "init"])).await.map(|()| true)
    }

    pub(crate) async fn begin(&self, id: &str) -> Result<(), EngineError> {
        self.api().order(Call::new(&["containers", id, "start"])).await
    }

    /// Where it is; `None` when there is no such container.
    pub(crate) async fn state(&self, id: &str) -> Result<Option<ContainerState>, EngineError> {
        let found = match self.api().get::<Inspected>(Call::new(&["containers", id, "json"])).await {
            Ok(found) => found,
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => return Err(error),
        };
        let State { paused, pid, exit_code, oom_killed, error } = found.state;
        let upper = |driver: &Value| driver["Data"]["UpperDir"].as_str().map(Into::into);
        Ok(Some(ContainerState {
            pid: (pid > 0).then_some(pid),
            paused,
            exit_code,
            out_of_memory: oom_killed,
            error: error.unwrap_or_default(),
            written: found.graph_driver.as_ref().and_then(upper),
        }))
    }

    /// The values of these variables of it.
    pub(crate) async fn variables(&self, id: &str, names: &[String]) -> Result<Vec<String>, EngineError> {
        let found: Inspected = self.api().get(Call::new(&["containers", id, "json"])).await?;
        let all = found.config.and_then(|config| config.env).unwrap_or_default();
        let value = |text: &String| {
            let (name, value) = text.split_once('=')?;
            names.iter().any(|wanted| wanted == name).then(|| value.to_owned())
        };
        Ok(all.iter().filter_map(value).collect())
    }

    /// Asks it to end, and ends it after `grace`. Returns once it has ended.
    pub(crate) async fn stop(&self, id: &str, grace: Duration) -> Result<(), EngineError> {
        let call = Call::new(&["containers", id, "stop"]).with("t", grace.as_secs().max(1).to_string());
        match self.api().order_within(call, grace + BEYOND_GRACE).await {
            Err(error) if error.is_missing() => Ok(()),
            stopped => stopped,
        }
    }

    pub(crate) async fn pause(&self, id: &str) -> Result<(), EngineError> {
        self.api().order(Call::new(&["containers", id, "pause"])).await
    }

    pub(crate) async fn unpause(&self, id: &str) -> Result<(), EngineError> {
        self.api().order(Call::new(&["containers", id, "unpause"])).await
    }

    /// Removes it with all that it wrote, running or not.
    pub(crate) async fn remove(&self, id: &str) -> Result<(), EngineError> {
        let call = Call::new(&["containers", id]).with("force", "true").with("v", "true");
        match self.api().delete(call).await {
            Err(error) if error.is_missing() => Ok(()),
            removed => removed,
        }
    }

    /// The containers of this data directory that no build under way has: their ids, and which replicas they are.
    pub(crate) async fn own(&self) -> Result<Vec<(String, Option<ReplicaId>)>, EngineError> {
        let label = format!("{LABEL_DATA}={}", self.tag());
        let call = Call::new(&["containers", "json"])
            .with("all", "true")
            .with("filters", json!({"label": [label]}).to_string());
        let listed: Vec<Listed> = self.api().get(call).await?;
        // What an engine makes of a filter is its own affair: the label is looked at once more.
        let own = listed.into_iter().filter_map(|one| {
            let labels = one.labels.unwrap_or_default();
            let replica = labels.get(LABEL_REPLICA).and_then(|id| id.parse().ok());
            // An image that was made here carries the label, too, and its containers with it.
            let build = labels.get(LABEL_BUILD).and_then(|id| id.parse::<BuildId>().ok());
            if replica.is_none() && build.is_some_and(|build| self.is_building(build)) {
                return None;
            }
            (labels.get(LABEL_DATA).is_some_and(|tag| tag == self.tag())).then_some((one.id, replica))
        });
        Ok(own.collect())
    }

    /// Waits until it has ended; how long that may take is for the caller to limit.
    pub(crate) async fn ended(&self, id: &str) -> Result<(), EngineError> {
        let call = Call::new(&["containers", id, "wait"]);
        let mut answer = self.api().send(Method::POST, call, empty()).await?;
        while answer.next().await?.is_some() {}
        Ok(())
    }

    /// Unpacks an archive at the root of its file system.
    pub(crate) async fn put(&self, id: &str, archive: Body) -> Result<(), EngineError> {
        let call = Call::new(&["containers", id, "archive"])
            .with("path", "/")
            .header("content-type", Some("application/x-tar".to_owned()));
        self.api().send(Method::PUT, call, archive).await.map(drop)
    }

    /// What is at this place of its file system, as an archive.
    pub(crate) async fn take(&self, id: &str, path: &str) -> Result<Answer, EngineError> {
        let call = Call::new(&["containers", id, "archive"]).with("path", path);
        self.api().send(Method::GET, call, empty()).await
    }

    /// What it prints, from the beginning of a second on, until it ends.
    pub(crate) async fn follow(&self, id: &str, since: i64) -> Result<Answer, EngineError> {
        let call = Call::new(&["containers", id, "logs"])
            .with("follow", "true")
            .with("stdout", "true")
            .with("stderr", "true")
            .with("since", since.to_string());
        self.api().send(Method::GET, call, empty()).await
    }
}
