//! The memory that the apps of a project may use together, kept to by not starting what would go beyond it.
//!
//! What counts is what replicas that boot or are awake may use, not what they happen to hold: that alone can be kept.

use std::collections::BTreeMap;

use marmot_core::id::RevisionId;

use super::{App, Look};
use crate::observed::HeldBack;
use crate::runtime::{Seen, State};

/// The memory that the replicas of a project which boot or are awake may use together, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    pub(crate) limit: u64,
    /// What those of the project's other apps may use.
    pub(crate) others: u64,
}

impl App {
    /// Whether one more replica awake, of this revision and with this limit, is more than the project has memory for.
    pub(super) fn is_held_back(
        &mut self,
        look: &Look<'_>,
        awake: &BTreeMap<RevisionId, u64>,
        one: (RevisionId, u64),
    ) -> bool {
        let Some(room) = look.room else { return false };
        let (revision, needed) = one;
        let own = awake.values().copied().max().unwrap_or(0);
        let then = own.max(awake.get(&revision).copied().unwrap_or(0) + needed);
        // What takes no more than there is goes on, also where the limit was lowered meanwhile.
        let is_held_back = then > own && room.others.saturating_add(then) > room.limit;
        if is_held_back {
            self.held_back = Some(HeldBack { used: room.others + own, needed, limit: room.limit });
        }
        is_held_back
    }

    /// The memory that replicas which boot or are awake may use, in bytes, by their revision.
    pub(super) fn awake(&self, seen: &[Seen]) -> BTreeMap<RevisionId, u64> {
        let mut awake = BTreeMap::new();
        for replica in seen {
            let wakes = || self.replicas.get(&replica.id).is_some_and(|known| known.waking.is_some());
            let counts = match replica.state {
                State::Starting(_) | State::Awake(_) | State::Stopping => true,
                State::Asleep(_) => wakes(),
                State::Ended(_) => false,
            };
            if counts {
                *awake.entry(replica.revision).or_default() += replica.memory_limit;
            }
        }
        awake
    }

    /// The memory that its replicas which boot or are awake may use, in bytes. An update begins the next revision beside
    /// the one that serves: so that it always can, only the one that may use more counts.
    pub(crate) fn promised(&self, seen: &[Seen]) -> u64 {
        self.awake(seen).into_values().max().unwrap_or(0)
    }
}
