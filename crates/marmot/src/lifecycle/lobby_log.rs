//! What the lobby shows of an app's log while it wakes: of the build, and then of the replica that boots.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{Stream, StreamExt as _, stream};
use marmot_core::AppName;
use marmot_core::id::BuildId;
use marmot_engine::Observed;
use marmot_engine::logs::Logs;
use marmot_engine::observed::ReplicaStage;
use marmot_gateway::LogSource;
use tokio::sync::watch;

/// Lines from before somebody looked.
const LINES: usize = 50;

/// The builds that apps wait for.
#[derive(Debug, Clone, Default)]
pub(super) struct Building(Arc<Mutex<HashMap<AppName, BuildId>>>);

impl Building {
    pub(super) fn set(&self, building: HashMap<AppName, BuildId>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = building;
    }

    fn of(&self, app: &AppName) -> Option<BuildId> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(app).copied()
    }
}

type Lines = Pin<Box<dyn Stream<Item = String> + Send>>;

pub(super) fn source(logs: Logs, observed: watch::Receiver<Arc<Observed>>, building: Building) -> LogSource {
    Arc::new(move |app| match building.of(app) {
        Some(build) => Box::pin(logs.follow_build(build)),
        None => boot(logs.clone(), app.clone(), Arc::clone(&observed.borrow())),
    })
}

/// The log of the replica that boots. What earlier ones said is over.
fn boot(logs: Logs, app: AppName, observed: Arc<Observed>) -> Lines {
    let begin = async move {
        let seen = observed.apps.get(&app).into_iter().flat_map(|app| &app.replicas);
        let booting = seen
            .filter(|replica| matches!(replica.stage, ReplicaStage::Starting(_)))
            .map(|replica| replica.id)
            .min();
        // Sources are called by the replicas' ids, which are in the order of their age.
        let first = match booting {
            Some(replica) => replica.to_string(),
            // None has begun to boot yet: whichever comes is later than all there were.
            None => {
                let known = logs.app(&app, 1).await.unwrap_or_default();
                known.into_keys().next_back().map_or_else(String::new, |last| last + "~")
            }
        };
        let lines = logs.follow_app(&app, LINES);
        lines.filter_map(move |line| std::future::ready((line.source >= first).then_some(line.text)))
    };
    Box::pin(stream::once(begin).flatten())
}
