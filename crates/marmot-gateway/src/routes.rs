//! Where requests go: a table that never changes, of which a changed copy costs next to nothing.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use marmot_core::Said;
use marmot_core::id::{ReplicaId, UserId};
use marmot_core::{AppName, Demand, Gate, Moment};

use crate::meter::Meter;

pub use crate::limits::{Ceiling, Quota, Rate, Usage};
pub use crate::opening::{Access, AppKey, Audience, Fingerprint, ShareLink, fingerprint};

/// In how many parts a table is kept. A changed copy copies the list of parts and one part: with 100,000 apps, a few
/// hundred pointers of each.
const PARTS: usize = 512;

/// Every app whose address means something, also those that are off. By the first label of the app's host.
///
/// A clone shares everything with the original; changing it copies only the parts in which it changes.
#[derive(Clone)]
pub struct Routes {
    parts: Vec<Arc<Part>>,
    len: usize,
}

/// By the hash of the app's name, in ascending order: looking up compares numbers that lie side by side.
type Part = Vec<(u64, Arc<Route>)>;

/// An app of which two tables say something different.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// What the earlier one said.
    pub before: Option<&'a Arc<Route>>,
    /// What the later one says.
    pub now: Option<&'a Arc<Route>>,
}

/// Names are chosen by people, so nobody may know where they end up. One key for all tables: they share parts.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

fn hash(app: &str) -> u64 {
    HASHER.hash_one(app)
}

fn part_of(hash: u64) -> usize {
    (hash % PARTS as u64) as usize
}

/// Where in a part an app is, or else would be.
fn position(part: &Part, hash: u64, app: &str) -> Result<usize, usize> {
    let start = part.partition_point(|(known, _)| *known < hash);
    let same = part[start..].iter().take_while(|(known, _)| *known == hash);
    match same.enumerate().find(|(_, (_, route))| route.app.as_str() == app) {
        Some((offset, _)) => Ok(start + offset),
        None => Err(start),
    }
}

impl Default for Routes {
    fn default() -> Self {
        Self { parts: vec![Arc::default(); PARTS], len: 0 }
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Routes {
    /// How requests to this app are treated.
    pub fn get(&self, app: &str) -> Option<&Arc<Route>> {
        let hash = hash(app);
        let part = &self.parts[part_of(hash)];
        position(part, hash, app).ok().map(|at| &part[at].1)
    }

    /// Every app, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.parts.iter().flat_map(|part| part.iter().map(|(_, route)| route))
    }

    /// How many apps there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// There is no app at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an app, or replaces what was said of it.
    pub fn insert(&mut self, route: Arc<Route>) {
        let hash = hash(route.app.as_str());
        let part = &mut self.parts[part_of(hash)];
        let position = position(part, hash, route.app.as_str());
        let part = Arc::make_mut(part);
        match position {
            Ok(at) => part[at].1 = route,
            Err(at) => {
                part.insert(at, (hash, route));
                self.len += 1;
            }
        }
    }

    /// Removes an app. False: there was none.
    pub fn remove(&mut self, app: &str) -> bool {
        let hash = hash(app);
        let part = &mut self.parts[part_of(hash)];
        let Ok(at) = position(part, hash, app) else { return false };
        Arc::make_mut(part).remove(at);
        self.len -= 1;
        true
    }

    /// The apps of which an earlier table said something else. Parts that both share are not looked at.
    pub fn changes_since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = Change<'a>> {
        let parts = self.parts.iter().zip(&before.parts).filter(|(now, before)| !Arc::ptr_eq(now, before));
        parts.flat_map(|(now, before)| {
            let find = |part: &'a Part, hash: u64, route: &Route| {
                position(part, hash, route.app.as_str()).ok().map(|at| &part[at].1)
            };
            let new = now.iter().filter_map(move |(hash, route)| {
                let known = find(before, *hash, route);
                let same = known.is_some_and(|known| Arc::ptr_eq(known, route));
                (!same).then_some(Change { before: known, now: Some(route) })
            });
            let gone = before.iter().filter_map(move |(hash, route)| {
                let is_gone = find(now, *hash, route).is_none();
                is_gone.then_some(Change { before: Some(route), now: None })
            });
            new.chain(gone)
        })
    }
}

impl FromIterator<Arc<Route>> for Routes {
    fn from_iter<T: IntoIterator<Item = Arc<Route>>>(routes: T) -> Self {
        let mut table = Self::default();
        routes.into_iter().for_each(|route| table.insert(route));
        table
    }
}

/// How requests to one app are treated.
#[derive(Debug, Clone)]
pub struct Route {
    /// The app's name.
    pub app: AppName,
    /// What people call it. Written by people: escape it.
    pub title: String,
    /// Who may open it.
    pub access: Access,
    /// Whether and how it can be opened.
    pub state: RouteState,
    /// How its requests are treated.
    pub traffic: Traffic,
    /// Who may read its log while it wakes, and why it failed.
    pub log_readers: Arc<BTreeSet<UserId>>,
    /// Counts what is under way. The same for all of the app's life in this process.
    pub demand: Arc<Demand>,
    /// Counts what has passed. The same for all of the app's life in this process.
    pub meter: Arc<Meter>,
}

/// How requests to an app are treated, as its owner says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Bytes of a request's body. More: 413. As many as one likes when absent.
    pub body_limit: Option<u64>,
    /// Each request is written down, for its owner.
    pub is_logged: bool,
    /// Its port speaks HTTP/2 in plain text, whatever is asked.
    pub is_http2: bool,
}

impl Route {
    /// Whether some who have something open may have to leave when this becomes `now`.
    pub(crate) fn sessions_may_end_with(&self, now: &Self) -> bool {
        let replicas = |route: &Self| match &route.state {
            RouteState::On { backends, .. } => backends.iter().map(|backend| backend.replica).collect(),
            RouteState::Off | RouteState::Failed { .. } => BTreeSet::new(),
        };
        self.access != now.access || !replicas(self).is_subset(&replicas(now))
    }
}

impl Route {
    /// Whether requests would be treated the same by both.
    pub fn is_same(&self, other: &Self) -> bool {
        self.app == other.app
            && self.title == other.title
            && self.access == other.access
            && self.log_readers == other.log_readers
            && self.state == other.state
            && self.traffic == other.traffic
            && Arc::ptr_eq(&self.demand, &other.demand)
            && Arc::ptr_eq(&self.meter, &other.meter)
    }

    /// The replicas that serve it.
    pub(crate) fn backends(&self) -> &[Backend] {
        match &self.state {
            RouteState::On { backends, .. } => backends,
            RouteState::Off | RouteState::Failed { .. } => &[],
        }
    }
}

/// Whether and how an app can be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteState {
    /// It is switched off.
    Off,
    /// It cannot be opened.
    Failed {
        /// Why, in a sentence that a visitor may read.
        reason: Said,
        /// The last lines of its log, for those who may read it.
        last_lines: Vec<String>,
    },
    /// It can be opened, now or soon.
    On {
        /// The replicas that serve, awake or asleep.
        backends: Vec<Backend>,
        /// What is going on while none of them is awake.
        progress: Progress,
    },
}

/// A replica that serves.
#[derive(Debug, Clone)]
pub struct Backend {
    /// Which replica. Never used again: connections are pooled by it, never by address.
    pub replica: ReplicaId,
    /// Where it listens, in the network that its sockets are in.
    pub address: SocketAddr,
    /// Makes sockets in its own network; `None` for one that is in the machine's.
    pub sockets: Option<Arc<Sockets>>,
    /// To be entered before anything is sent to it.
    pub gate: Arc<Gate>,
}

/// The same replica with the same gate.
impl PartialEq for Backend {
    fn eq(&self, other: &Self) -> bool {
        self.replica == other.replica && self.address == other.address && Arc::ptr_eq(&self.gate, &other.gate)
    }
}

impl Eq for Backend {}

/// Makes sockets in the network of one replica.
pub struct Sockets {
    open: Box<dyn Fn() -> Opening + Send + Sync>,
}

/// A socket that is being made.
pub type Opening = Pin<Box<dyn Future<Output = io::Result<OwnedFd>> + Send>>;

impl Sockets {
    /// Made by `open`: TCP sockets over IPv4, not yet connected, that do not block.
    pub fn new(open: impl Fn() -> Opening + Send + Sync + 'static) -> Self {
        Self { open: Box::new(open) }
    }

    /// Makes one.
    ///
    /// # Errors
    /// When the replica is gone.
    pub async fn open(&self) -> io::Result<OwnedFd> {
        (self.open)().await
    }
}

impl fmt::Debug for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sockets").finish_non_exhaustive()
    }
}

/// What an app that does not answer yet is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is made from its code.
    Building,
    /// A replica is laid out and its program started.
    Starting,
    /// The program runs, and does not listen yet.
    WaitingForPort,
}

/// How far an app is from answering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// What is going on.
    pub at: Step,
    /// What is going on, in a few words: *Building*, *Starting*, *Waiting for its port*.
    pub step: Said,
    /// Since when.
    pub since: Moment,
    /// How long waking took lately, if known.
    pub expected: Option<Duration>,
    /// Why no replica may wake now, in a sentence that a visitor may read: until there is room, programs are sent away.
    pub no_room: Option<Said>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn route(number: u32, title: &str) -> Arc<Route> {
        Arc::new(Route {
            app: format!("app-{number}").parse().unwrap(),
            title: title.to_owned(),
            access: Access::everyone(),
            state: RouteState::Off,
            traffic: Traffic::default(),
            demand: Arc::default(),
            meter: Arc::default(),
            log_readers: Arc::default(),
        })
    }

    fn titles(routes: &Routes) -> BTreeMap<String, String> {
        routes.iter().map(|route| (route.app.to_string(), route.title.clone())).collect()
    }

    proptest! {
        #[test]
        fn a_changed_copy_is_what_a_map_would_be_and_leaves_the_original_alone(
            first in proptest::collection::vec(0u32..2_000, 0..600),
            changes in proptest::collection::vec((0u32..2_000, any::<bool>()), 0..40),
        ) {
            let before: Routes = first.iter().map(|number| route(*number, "before")).collect();
            let mut map = titles(&before);
            let original = map.clone();
            let mut now = before.clone();
            for (number, added) in changes {
                let name = format!("app-{number}");
                if added {
                    now.insert(route(number, "now"));
                    map.insert(name, "now".to_owned());
                } else {
                    prop_assert_eq!(now.remove(&name), map.remove(&name).is_some());
                }
            }
            prop_assert_eq!(titles(&now), map.clone());
            prop_assert_eq!((now.len(), now.is_empty()), (map.len(), map.is_empty()));
            prop_assert_eq!(titles(&before), original.clone());
            for (name, title) in &map {
                prop_assert_eq!(&now.get(name).unwrap().title, title);
            }
            let mut told = original;
            for change in now.changes_since(&before) {
                match (change.before, change.now) {
                    (Some(gone), None) => { told.remove(gone.app.as_str()); }
                    (_, Some(new)) => { told.insert(new.app.to_string(), new.title.clone()); }
                    (None, None) => prop_assert!(false, "says nothing"),
                }
            }
            prop_assert_eq!(told, map);
        }
    }

    #[test]
    fn a_table_tells_only_what_changed() {
        let before: Routes = (0..5_000).map(|number| route(number, "before")).collect();
        let mut now = before.clone();
        assert_eq!(now.changes_since(&before).count(), 0);
        now.insert(route(7, "now"));
        now.remove("app-9");
        let changed: Vec<_> = now
            .changes_since(&before)
            .map(|change| (change.before.is_some(), change.now.is_some()))
            .collect();
        assert_eq!(changed.len(), 2);
        assert!(changed.contains(&(true, true)) && changed.contains(&(true, false)), "{changed:?}");
    }
}
