//! A hint that an app is worth a look now. Losing one costs a moment, never correctness.

use std::collections::BTreeSet;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use marmot_core::AppName;
use tokio::sync::Notify;

/// Asks for an app to be looked at. Cheap, never waits; many nudges before the look become one.
#[derive(Debug, Clone, Default)]
pub struct Nudge {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    apps: Mutex<BTreeSet<AppName>>,
    notify: Notify,
}

impl Nudge {
    /// Asks for this app to be looked at now.
    pub fn app(&self, app: &AppName) {
        let mut apps = self.shared.apps.lock().unwrap_or_else(PoisonError::into_inner);
        if !apps.contains(app.as_str()) {
            apps.insert(app.clone());
            drop(apps);
            self.shared.notify.notify_one();
        }
    }

    /// Waits for nudges and takes them all.
    pub(crate) async fn taken(&self) -> BTreeSet<AppName> {
        loop {
            let notified = self.shared.notify.notified();
            let apps = mem::take(&mut *self.shared.apps.lock().unwrap_or_else(PoisonError::into_inner));
            if !apps.is_empty() {
                return apps;
            }
            notified.await;
        }
    }
}
