//! How links, keys and projects are used at the moment: counted by the gateway, noted from time to time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use marmot_core::id::ProjectId;
use marmot_gateway::routes::{Ceiling, Rate, Usage};

/// What a project may use, and what holds it to that.
type OfProject = (Option<Rate>, u32, Arc<Ceiling>);

/// One [`Usage`] per link and key and one [`Ceiling`] per project, the same for all of its life in this process.
#[derive(Debug, Default)]
pub(super) struct Usages {
    /// By the ids of links and keys, of which no two are the same.
    of: Mutex<HashMap<u128, Arc<Usage>>>,
    ceilings: Mutex<HashMap<ProjectId, OfProject>>,
}

impl Usages {
    /// How the link or key with this id is used.
    pub(super) fn of(&self, id: u128) -> Arc<Usage> {
        let mut usages = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(usages.entry(id).or_default())
    }

    /// What the apps of a project may be asked for together. Counted anew when that is another rate, or another number at
    /// the same time.
    pub(super) fn ceiling(&self, project: ProjectId, rate: Option<Rate>, most: u32) -> Arc<Ceiling> {
        let mut ceilings = self.ceilings.lock().unwrap_or_else(PoisonError::into_inner);
        let made = || (rate, most, Arc::new(Ceiling::new(rate, most)));
        let known = ceilings.entry(project).or_insert_with(made);
        if (known.0, known.1) != (rate, most) {
            *known = made();
        }
        Arc::clone(&known.2)
    }

    /// Takes what has been counted since this was last asked, and forgets what nobody holds any more.
    pub(super) fn take(&self) -> Vec<(u128, (u64, u64))> {
        let mut usages = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = usages.iter().filter_map(|(id, usage)| Some((*id, usage.take()?))).collect();
        usages.retain(|_, usage| Arc::strong_count(usage) > 1);
        let mut ceilings = self.ceilings.lock().unwrap_or_else(PoisonError::into_inner);
        ceilings.retain(|_, (.., ceiling)| Arc::strong_count(ceiling) > 1);
        taken
    }

    /// Gives back what was taken but could not be noted.
    pub(super) fn put_back(&self, taken: Vec<(u128, (u64, u64))>) {
        for (id, count) in taken {
            self.of(id).put_back(count);
        }
    }
}
