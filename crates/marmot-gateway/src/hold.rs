//! Admission: lets requests in where a replica is awake, and holds them in order where none is.
//!
//! Whoever waits has a bounded place, a deadline and a named way to fail. One task per app hands out what becomes
//! free, first come, first served: it belongs to nobody who can leave.

use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Wake, Waker};
use std::time::Duration;

use marmot_core::demand::Counted;
use marmot_core::gate::{GateState, Pass, Seat};
use marmot_core::id::{ReplicaId, UserId};
use marmot_core::{AppName, Moment};
use tokio::sync::{Notify, oneshot};

use crate::routes::{Backend, Route, RouteState, Routes};
use crate::shared::Shared;

/// A replica that refused a connection is not tried again for this long, unless it is the only one: the engine
/// sees that it is gone within that time.
const SUSPECT_FOR: Duration = Duration::from_secs(1);

/// The right to send one request to a replica.
pub(crate) struct Slot {
    pub(crate) backend: Backend,
    pub(crate) route: Arc<Route>,
    shared: Arc<Shared>,
    /// `None` once given back.
    inside: Option<(Pass, Counted)>,
}

impl Slot {
    /// Notes that the replica was used just now.
    pub(crate) fn touch(&self) {
        let now = self.shared.clock.now();
        self.backend.gate.touch(now);
        self.route.demand.touch(now);
    }

    /// Counts as an open session of this visitor from now on, and no longer as a request: the replica may fall asleep.
    pub(crate) fn into_session(mut self, visitor: Option<UserId>) -> Session {
        let session = self.route.demand.session();
        self.leave();
        Session {
            backend: self.backend.clone(),
            route: Arc::clone(&self.route),
            shared: Arc::clone(&self.shared),
            visitor,
            _counted: session,
            _seat: self.backend.gate.seat(),
        }
    }

    fn leave(&mut self) {
        if self.inside.is_none() {
            return;
        }
        self.touch();
        self.inside = None;
        // Either whoever waits sees that the gate has room, or this sees that somebody waits.
        fence(Ordering::SeqCst);
        if self.route.demand.sample().held > 0 {
            self.shared.rooms.freed(&self.route.app);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.leave();
    }
}

/// A WebSocket or event stream that is open to a replica, awake or asleep.
pub(crate) struct Session {
    pub(crate) backend: Backend,
    pub(crate) route: Arc<Route>,
    pub(crate) shared: Arc<Shared>,
    visitor: Option<UserId>,
    _counted: Counted,
    _seat: Seat,
}

impl Session {
    /// Notes that data passed just now.
    pub(crate) fn touch(&self) {
        let now = self.shared.clock.now();
        self.backend.gate.touch(now);
        self.route.demand.touch(now);
    }

    /// Waits until the connection must end although neither side ends it.
    pub(crate) fn dismissed(&self) -> impl Future<Output = Dismissal> + Send + 'static {
        let (shared, app, visitor) = (Arc::clone(&self.shared), self.route.app.clone(), self.visitor);
        async move {
            let mut access_changed = shared.access_changed.subscribe();
            loop {
                let may_stay = {
                    let routes = shared.routes.borrow();
                    routes.get(app.as_str()).is_none_or(|route| route.access.lets_in(visitor))
                };
                if !may_stay {
                    return Dismissal::AccessLost;
                }
                tokio::select! {
                    () = shared.soft_stop.cancelled() => return Dismissal::Stopping,
                    changed = access_changed.changed() => if changed.is_err() { return Dismissal::Stopping },
                }
            }
        }
    }

    /// Waits until the replica is awake, waking it if need be. `None`: it never will be again, or took too long.
    pub(crate) async fn wake(&self) -> Option<Pass> {
        let gate = &self.backend.gate;
        let enter = || gate.enter_again();
        if let Ok(pass) = enter() {
            return Some(pass);
        }
        let _held = self.route.demand.hold();
        self.route.demand.touch(self.shared.clock.now());
        (self.shared.nudge)(&self.route.app);
        let awake = poll_fn(|context| {
            gate.watch(context.waker());
            match enter() {
                Ok(pass) => Poll::Ready(Some(pass)),
                Err(_) if gate.state() == GateState::Closed => Poll::Ready(None),
                Err(_) => Poll::Pending,
            }
        });
        tokio::time::timeout(self.shared.config.limits.wake_timeout, awake).await.ok().flatten()
    }
}

/// Why a connection must end although neither side ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dismissal {
    /// The gateway stops.
    Stopping,
    /// The visitor may not use the app any more.
    AccessLost,
}

/// Why a request could not be let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("too many requests wait for this app")]
    Crowded,
    #[error("the app did not wake in time")]
    TooLate,
    #[error("the app is switched off")]
    Off,
    #[error("{reason}")]
    Failed { reason: String },
    #[error("the gateway is stopping")]
    Stopping,
}

/// Where requests wait, by app.
#[derive(Default)]
pub(crate) struct Rooms {
    rooms: Mutex<HashMap<AppName, Arc<Room>>>,
    waiting: AtomicUsize,
}

/// Where the requests for one app wait.
#[derive(Default)]
struct Room {
    queue: Mutex<Queue>,
    freed: Notify,
}

#[derive(Default)]
struct Queue {
    next: u64,
    /// By their order of arrival. Those who leave are taken out at once, so that a place is never lost.
    waiting: BTreeMap<u64, oneshot::Sender<Result<Slot, Refusal>>>,
    /// A task hands out what becomes free.
    served: bool,
    /// Replicas that refused a connection, and until when they are passed over.
    suspects: Vec<(ReplicaId, Moment)>,
}

/// A place in a queue, given up when dropped.
struct Place<'a> {
    room: &'a Room,
    number: u64,
    waiting: &'a AtomicUsize,
    turn: oneshot::Receiver<Result<Slot, Refusal>>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        let mut queue = self.room.lock();
        if queue.waiting.remove(&self.number).is_some() && queue.waiting.is_empty() {
            // The one who hands out has nothing left to do.
            self.room.freed.notify_one();
        }
    }
}

/// A gate that opens wakes the one who hands out.
impl Wake for Room {
    fn wake(self: Arc<Self>) {
        self.freed.notify_one();
    }
}

impl Room {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue_up<'a>(&'a self, rooms: &'a Rooms, per_app: usize, in_all: usize) -> Result<Place<'a>, Refusal> {
        let mut queue = self.lock();
        if queue.waiting.len() >= per_app || rooms.waiting.load(Ordering::Relaxed) >= in_all {
            return Err(Refusal::Crowded);
        }
        rooms.waiting.fetch_add(1, Ordering::Relaxed);
        let (hand_over, turn) = oneshot::channel();
        let number = queue.next;
        queue.next += 1;
        queue.waiting.insert(number, hand_over);
        Ok(Place { room: self, number, waiting: &rooms.waiting, turn })
    }
}

impl Rooms {
    fn lock(&self) -> MutexGuard<'_, HashMap<AppName, Arc<Room>>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn room(&self, app: &AppName) -> Arc<Room> {
        let mut rooms = self.lock();
        match rooms.get(app) {
            Some(room) => Arc::clone(room),
            None => Arc::clone(rooms.entry(app.clone()).or_default()),
        }
    }

    /// A replica of this app has room for one more.
    fn freed(&self, app: &AppName) {
        let room = self.lock().get(app).cloned();
        if let Some(room) = room {
            room.freed.notify_one();
        }
    }

    /// Forgets the rooms of apps that are gone and for which nobody waits.
    pub(crate) fn keep_only(&self, routes: &Routes) {
        self.lock().retain(|app, room| routes.get(app.as_str()).is_some() || room.lock().served);
    }
}

/// Lets a request in at once, if a replica is awake and nobody waits before it.
pub(crate) fn admit(shared: &Arc<Shared>, route: &Arc<Route>) -> Option<Slot> {
    let RouteState::On { backends, .. } = &route.state else { return None };
    if route.demand.sample().held > 0 {
        return None;
    }
    enter_any(shared, route, backends, &[])
}

/// Enters the replica with the fewest inside; of those that are passed over, none.
fn enter_any(
    shared: &Arc<Shared>,
    route: &Arc<Route>,
    backends: &[Backend],
    pass_over: &[(ReplicaId, Moment)],
) -> Option<Slot> {
    let suspect = |backend: &Backend| pass_over.iter().any(|(replica, _)| *replica == backend.replica);
    let enter = |backend: &Backend| {
        let now = shared.clock.now();
        // Counted before it is inside, so that the engine never sees an idle app with an open gate.
        let counted = route.demand.request();
        let pass = backend.gate.enter(now).ok()?;
        route.demand.touch(now);
        Some(Slot {
            backend: backend.clone(),
            route: Arc::clone(route),
            shared: Arc::clone(shared),
            inside: Some((pass, counted)),
        })
    };
    match backends {
        [] => None,
        [only] => (!suspect(only)).then(|| enter(only)).flatten(),
        several => {
            let mut open: Vec<&Backend> = several
                .iter()
                .filter(|backend| backend.gate.state() == GateState::Open && !suspect(backend))
                .collect();
            open.sort_by_key(|backend| (backend.gate.retiring(), backend.gate.inside()));
            open.into_iter().find_map(enter)
        }
    }
}

/// Waits for a replica: asks for one to be woken, and gives the request its turn. `suspect` is the replica that did
/// not take the request, if it was tried before.
pub(crate) async fn hold(
    shared: &Arc<Shared>,
    route: &Arc<Route>,
    suspect: Option<ReplicaId>,
) -> Result<Slot, Refusal> {
    let limits = &shared.config.limits;
    let room = shared.rooms.room(&route.app);
    let mut place = room.queue_up(&shared.rooms, limits.held_per_app, limits.held_in_all)?;
    let _held = route.demand.hold();
    let now = shared.clock.now();
    route.demand.touch(now);
    {
        let mut queue = room.lock();
        if let Some(replica) = suspect {
            queue.suspects.retain(|(known, _)| *known != replica);
            queue.suspects.push((replica, now + SUSPECT_FOR));
        }
        if !std::mem::replace(&mut queue.served, true) {
            shared.tracker.spawn(serve(Arc::clone(shared), route.app.clone(), Arc::clone(&room)));
        }
    }
    room.freed.notify_one();
    let turn = tokio::time::timeout(limits.wake_timeout, &mut place.turn).await;
    match turn {
        Ok(Ok(turn)) => turn,
        Ok(Err(_)) => Err(Refusal::Stopping),
        Err(_) => Err(Refusal::TooLate),
    }
}

/// Hands out what becomes free, until nobody waits.
async fn serve(shared: Arc<Shared>, app: AppName, room: Arc<Room>) {
    let mut routes = shared.routes.clone();
    let waker = Waker::from(Arc::clone(&room));
    let mut awake = true;
    loop {
        // Registered before looking, so that nothing that happens in between is lost.
        let mut freed = std::pin::pin!(room.freed.notified());
        freed.as_mut().enable();
        let route = routes.borrow_and_update().get(app.as_str()).cloned();
        if let Some(RouteState::On { backends, .. }) = route.as_deref().map(|route| &route.state) {
            backends.iter().for_each(|backend| backend.gate.watch(&waker));
        }
        let Some(next) = hand_out(&shared, route.as_ref(), &room) else { return };
        // Asked once each time that nobody is awake any more; the engine looks by itself as well.
        if !next.awake && std::mem::replace(&mut awake, next.awake) {
            (shared.nudge)(&app);
        }
        awake = next.awake;
        let until = next.look_again.map(|at| at - shared.clock.now());
        tokio::select! {
            changed = routes.changed() => if changed.is_err() { return refuse_all(&room, &Refusal::Stopping) },
            () = freed => {}
            () = tokio::time::sleep(until.unwrap_or_default()), if until.is_some() => {}
            () = shared.hard_stop.cancelled() => return refuse_all(&room, &Refusal::Stopping),
        }
    }
}

/// What has to happen before somebody else can be let in.
struct Next {
    /// A replica is awake, though busy to its limit.
    awake: bool,
    /// A replica that was passed over may be tried again at this moment.
    look_again: Option<Moment>,
}

/// Gives as many as possible their turn. `None`: nobody waits any more.
fn hand_out(shared: &Arc<Shared>, route: Option<&Arc<Route>>, room: &Room) -> Option<Next> {
    let backends = match route.map(|route| &route.state) {
        Some(RouteState::On { backends, .. }) => backends,
        Some(RouteState::Failed { reason }) => {
            refuse_all(room, &Refusal::Failed { reason: reason.clone() });
            return None;
        }
        Some(RouteState::Off) | None => {
            refuse_all(room, &Refusal::Off);
            return None;
        }
    };
    let route = route?;
    let now = shared.clock.now();
    let mut slot = None;
    loop {
        let mut queue = room.lock();
        queue.suspects.retain(|(replica, until)| {
            *until > now && backends.iter().any(|backend| backend.replica == *replica)
        });
        if queue.waiting.is_empty() {
            queue.served = false;
            // What is left over is given back outside the lock: it tells the next one.
            drop(queue);
            return None;
        }
        if slot.is_none() {
            slot = enter_any(shared, route, backends, &queue.suspects);
        }
        if slot.is_none() {
            let suspect = |backend: &&Backend| queue.suspects.iter().any(|(id, _)| *id == backend.replica);
            return Some(Next {
                awake: backends
                    .iter()
                    .any(|backend| backend.gate.state() == GateState::Open && !suspect(&backend)),
                look_again: queue.suspects.iter().map(|(_, until)| *until).min(),
            });
        }
        if let Some((_, first)) = queue.waiting.pop_first() {
            drop(queue);
            // One who has just left hands the slot back for the next.
            slot = match slot.take().map(|slot| first.send(Ok(slot))) {
                Some(Err(Ok(unused))) => Some(unused),
                _ => None,
            };
        }
    }
}

fn refuse_all(room: &Room, refusal: &Refusal) {
    let mut queue = room.lock();
    queue.served = false;
    let waiting = std::mem::take(&mut queue.waiting);
    drop(queue);
    for (_, waiter) in waiting {
        let _ = waiter.send(Err(refusal.clone()));
    }
}
