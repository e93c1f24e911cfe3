//! What has passed to and from each app: one meter per app, written by the gateway and read by whoever watches.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use marmot_core::AppName;
use marmot_gateway::Meter;
use marmot_gateway::meter::Reading;

/// One [`Meter`] per app, the same for all of its life in this process.
#[derive(Debug, Clone, Default)]
pub struct Meters(Arc<Mutex<HashMap<AppName, Arc<Meter>>>>);

impl Meters {
    /// The meter of this app, made when it is asked for the first time.
    pub fn of(&self, app: &AppName) -> Arc<Meter> {
        let mut meters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match meters.get(app) {
            Some(meter) => Arc::clone(meter),
            None => Arc::clone(meters.entry(app.clone()).or_default()),
        }
    }

    /// What has been counted, of each app of which something was asked, in the order of their names.
    pub fn read(&self) -> Vec<(AppName, Reading)> {
        let meters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let meters: BTreeMap<AppName, Arc<Meter>> =
            meters.iter().map(|(app, meter)| (app.clone(), Arc::clone(meter))).collect();
        // Outside the lock: adding up takes longer than copying a list.
        meters.into_iter().filter_map(|(app, meter)| Some((app, meter.read()?))).collect()
    }

    /// Forgets the meters of apps that `keep` does not name.
    pub fn retain(&self, keep: impl Fn(&AppName) -> bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|app, _| keep(app));
    }
}
