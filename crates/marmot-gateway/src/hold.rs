//! Admission: lets requests in where a replica is awake, and holds them in order where none is.
//!
//! Whoever waits has a bounded place, a deadline and a named way to fail. One task per app hands out what becomes
//! free, first come, first served: it belongs to nobody who can leave. Those who belong to one replica wait for that
//! one, and hold up nobody else.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};
use std::time::Duration;

use http::{HeaderValue, Uri, request};
use marmot_core::Said;
use marmot_core::gate::{GateState, Refused};
use marmot_core::id::ReplicaId;
use marmot_core::{AppName, Moment};
use tokio::sync::{Notify, oneshot};

use crate::affinity::Guest;
use crate::config::Limits;
use crate::meter::{Rung, Waking};
use crate::routes::{Backend, Route, RouteState, Routes};
use crate::shared::Shared;
use crate::slot::{Slot, Waited};

/// A replica that refused a connection is not tried again for this long, unless it is the only one: the engine
/// sees that it is gone within that time.
const SUSPECT_FOR: Duration = Duration::from_secs(1);
/// Bytes that a held request costs besides its head: its connection, its buffers, its place.
const PLACE_BYTES: usize = 8 * 1024;

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
    Failed { reason: Said },
    #[error("{reason}")]
    NoRoom { reason: Said },
    #[error("the gateway is stopping")]
    Stopping,
}

/// What waits, in numbers.
#[derive(Debug, Default)]
struct Load {
    requests: AtomicUsize,
    bytes: AtomicUsize,
}

/// Where requests wait, by app.
#[derive(Default)]
pub(crate) struct Rooms {
    rooms: Mutex<HashMap<AppName, Arc<Room>>>,
    load: Load,
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
    waiting: BTreeMap<u64, Waiter>,
    /// Those who wait for one replica and can use no other.
    for_one: HashMap<ReplicaId, BTreeMap<u64, Waiter>>,
    /// Bytes of all who wait.
    bytes: usize,
    /// A task hands out what becomes free.
    served: bool,
    /// Since when a replica has been awake; `None` while none is.
    awake_since: Option<Moment>,
    /// The wake that is under way.
    waking: Option<Waking>,
    /// Replicas that refused a connection, and until when they are passed over.
    suspects: Vec<(ReplicaId, Moment)>,
}

struct Waiter {
    guest: Guest,
    since: Moment,
    bytes: usize,
    hand_over: oneshot::Sender<Result<Slot, Refusal>>,
}

impl Queue {
    fn len(&self) -> usize {
        self.waiting.len() + self.for_one.values().map(BTreeMap::len).sum::<usize>()
    }

    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.for_one.is_empty()
    }

    fn remove(&mut self, number: u64, replica: Option<ReplicaId>) -> Option<Waiter> {
        let for_one = replica.and_then(|replica| {
            let waiting = self.for_one.get_mut(&replica)?;
            let waiter = waiting.remove(&number);
            if waiting.is_empty() {
                self.for_one.remove(&replica);
            }
            waiter
        });
        let waiter = for_one.or_else(|| self.waiting.remove(&number))?;
        self.bytes -= waiter.bytes;
        Some(waiter)
    }

    fn is_suspect(&self, replica: ReplicaId) -> bool {
        self.suspects.iter().any(|(suspect, _)| *suspect == replica)
    }
}

/// A place in a queue, given up when dropped.
struct Place<'a> {
    room: &'a Room,
    number: u64,
    replica: Option<ReplicaId>,
    bytes: usize,
    load: &'a Load,
    turn: oneshot::Receiver<Result<Slot, Refusal>>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.load.requests.fetch_sub(1, Ordering::Relaxed);
        self.load.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        let mut queue = self.room.lock();
        if queue.remove(self.number, self.replica).is_some() && queue.is_empty() {
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

    fn queue_up<'a>(
        &'a self,
        load: &'a Load,
        limits: &Limits,
        waiter: (Guest, Moment, usize),
        replica: Option<ReplicaId>,
    ) -> Result<Place<'a>, Refusal> {
        let (guest, since, bytes) = waiter;
        let mut queue = self.lock();
        if queue.len() >= limits.held_per_app
            || queue.bytes + bytes > limits.held_bytes_per_app
            || load.requests.load(Ordering::Relaxed) >= limits.held_in_all
            || load.bytes.load(Ordering::Relaxed) + bytes > limits.held_bytes_in_all
        {
            return Err(Refusal::Crowded);
        }
        load.requests.fetch_add(1, Ordering::Relaxed);
        load.bytes.fetch_add(bytes, Ordering::Relaxed);
        let (hand_over, turn) = oneshot::channel();
        let number = queue.next;
        queue.next += 1;
        queue.bytes += bytes;
        let waiter = Waiter { guest, since, bytes, hand_over };
        match replica {
            Some(replica) => queue.for_one.entry(replica).or_default().insert(number, waiter),
            None => queue.waiting.insert(number, waiter),
        };
        Ok(Place { room: self, number, replica, bytes, load, turn })
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
    pub(crate) fn freed(&self, app: &AppName) {
        let room = self.lock().get(app).cloned();
        if let Some(room) = room {
            room.freed.notify_one();
        }
    }

    /// A replica of some app has room for one more.
    pub(crate) fn freed_somewhere(&self) {
        self.lock().values().for_each(|room| room.freed.notify_one());
    }

    /// Forgets the rooms of apps that are gone and for which nobody waits.
    pub(crate) fn keep_only(&self, routes: &Routes) {
        self.lock().retain(|app, room| routes.get(app.as_str()).is_some() || room.lock().served);
    }
}

/// Lets a request in at once, if a replica is awake and nobody waits before it.
pub(crate) fn admit(shared: &Arc<Shared>, route: &Arc<Route>, guest: Guest) -> Option<Slot> {
    let RouteState::On { backends, .. } = &route.state else { return None };
    if route.demand.sample().held > 0 {
        return None;
    }
    if let Some(own) = own_replica(shared, backends, guest) {
        return Slot::enter(shared, route, own, guest).ok();
    }
    enter_any(shared, route, backends, guest, |_| false)
}

/// The replica that this guest has to be let into, and no other: it lives, and they have something there.
fn own_replica<'a>(shared: &Shared, backends: &'a [Backend], guest: Guest) -> Option<&'a Backend> {
    let bond = guest.bond?;
    let own = backends.iter().find(|backend| backend.replica == bond.replica)?;
    let stays = match own.gate.state() {
        GateState::Closed => false,
        // Where seats are limited, who has none any more has nothing there to lose.
        _ => !own.gate.counts_seats() || shared.seats.has(bond),
    };
    stays.then_some(own)
}

/// Enters the replica with the fewest inside, the one that this guest was at before the others.
fn enter_any(
    shared: &Arc<Shared>,
    route: &Arc<Route>,
    backends: &[Backend],
    guest: Guest,
    pass_over: impl Fn(&Backend) -> bool,
) -> Option<Slot> {
    let enter = |backend: &Backend| Slot::enter(shared, route, backend, guest).ok();
    match backends {
        [] => None,
        [only] => (!pass_over(only)).then(|| enter(only)).flatten(),
        several => {
            let mut open: Vec<&Backend> = several
                .iter()
                .filter(|backend| backend.gate.state() == GateState::Open && !pass_over(backend))
                .collect();
            let before = guest.bond.map(|bond| bond.replica);
            open.sort_by_key(|backend| {
                let load =
                    if backend.gate.counts_seats() { backend.gate.sessions() } else { backend.gate.inside() };
                (before != Some(backend.replica), backend.gate.retiring(), load)
            });
            open.into_iter().find_map(enter)
        }
    }
}

/// What a request that waits costs, in bytes.
pub(crate) fn weight(parts: &request::Parts) -> usize {
    let fields = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
    // hyper keeps the head as it came besides what it read of it.
    PLACE_BYTES
        + 2 * (fields.sum::<usize>() + parts.uri.path_and_query().map_or(0, |path| path.as_str().len()))
}

/// Gives a head memory of its own. As it came, it is part of what was read from its connection, which could not be used
/// for what comes next: while thousands wait, that is most of what they cost.
pub(crate) fn unshare(parts: &mut request::Parts) {
    for value in parts.headers.values_mut() {
        if let Ok(mut own) = HeaderValue::from_bytes(value.as_bytes()) {
            own.set_sensitive(value.is_sensitive());
            *value = own;
        }
    }
    if let Ok(own) = Uri::try_from(parts.uri.to_string()) {
        parts.uri = own;
    }
}

/// Waits for a replica: asks for one to be woken, and gives the request its turn. `suspect` is the replica that did
/// not take the request, if it was tried before.
pub(crate) async fn hold(
    shared: &Arc<Shared>,
    route: &Arc<Route>,
    guest: Guest,
    bytes: usize,
    suspect: Option<ReplicaId>,
) -> Result<Slot, Refusal> {
    let limits = &shared.config.limits;
    let room = shared.rooms.room(&route.app);
    let now = shared.clock.now();
    let own = match &route.state {
        RouteState::On { backends, .. } => own_replica(shared, backends, guest),
        RouteState::Off | RouteState::Failed { .. } => None,
    };
    let own = own.filter(|backend| Some(backend.replica) != suspect);
    let replica = own.map(|backend| backend.replica);
    let mut place = room.queue_up(&shared.rooms.load, limits, (guest, now, bytes), replica)?;
    let _held = (route.demand.hold(), own.map(|backend| backend.gate.await_it()));
    route.demand.touch(now);
    if let Some(replica) = suspect {
        let mut queue = room.lock();
        queue.suspects.retain(|(known, _)| *known != replica);
        queue.suspects.push((replica, now + SUSPECT_FOR));
    }
    see_to(shared, route, &room, None);
    let turn = tokio::time::timeout(limits.wake_timeout, &mut place.turn).await;
    match turn {
        Ok(Ok(turn)) => turn,
        Ok(Err(_)) => Err(Refusal::Stopping),
        Err(_) => Err(Refusal::TooLate),
    }
}

/// Asks for a replica to be awake although nobody waits in line: those who look at the lobby come back.
pub(crate) fn wake(shared: &Arc<Shared>, route: &Arc<Route>) {
    let RouteState::On { backends, .. } = &route.state else { return };
    let now = shared.clock.now();
    route.demand.touch(now);
    if !backends.iter().any(|backend| backend.gate.state() == GateState::Open) {
        let waking = Waking::begin(&route.meter, rung(backends), now);
        see_to(shared, route, &shared.rooms.room(&route.app), waking);
        (shared.nudge)(&route.app);
    }
}

/// Sees to it that somebody hands out what becomes free.
fn see_to(shared: &Arc<Shared>, route: &Route, room: &Arc<Room>, waking: Option<Waking>) {
    let mut queue = room.lock();
    queue.waking = waking.or(queue.waking.take());
    if !std::mem::replace(&mut queue.served, true) {
        queue.awake_since = None;
        shared.tracker.spawn(serve(Arc::clone(shared), route.app.clone(), Arc::clone(room)));
    }
    drop(queue);
    room.freed.notify_one();
}

/// From how deep a sleep an app wakes of which no replica is awake.
pub(crate) fn rung(backends: &[Backend]) -> Rung {
    let is_asleep = |backend: &Backend| backend.gate.state() == GateState::Asleep;
    if backends.iter().any(is_asleep) { Rung::Hibernated } else { Rung::Stopped }
}

/// Hands out what becomes free, until nobody waits.
async fn serve(shared: Arc<Shared>, app: AppName, room: Arc<Room>) {
    let mut routes = shared.routes.clone();
    let waker = Waker::from(Arc::clone(&room));
    let mut asleep = false;
    loop {
        // Registered before looking, so that nothing that happens in between is lost.
        let mut freed = std::pin::pin!(room.freed.notified());
        freed.as_mut().enable();
        let route = routes.borrow_and_update().get(app.as_str()).cloned();
        if let Some(RouteState::On { backends, .. }) = route.as_deref().map(|route| &route.state) {
            backends.iter().for_each(|backend| backend.gate.watch(&waker));
        }
        let Some(next) = hand_out(&shared, route.as_ref(), &room) else { return };
        // Asked once each time that there is nobody left whom a replica that is awake would help; the engine looks
        // by itself as well.
        if next.asleep && !std::mem::replace(&mut asleep, true) {
            (shared.nudge)(&app);
        }
        asleep = next.asleep;
        let until = next.look_again.map(|at| at - shared.clock.now());
        tokio::select! {
            changed = routes.changed() => if changed.is_err() { return refuse_all(&room, &Refusal::Stopping) },
            () = freed => {}
            () = tokio::time::sleep(until.unwrap_or_default()), if until.is_some() => {}
            () = shared.soft_stop.cancelled(), if next.nobody => {}
            () = shared.hard_stop.cancelled() => return refuse_all(&room, &Refusal::Stopping),
        }
    }
}

/// What has to happen before somebody else can be let in.
struct Next {
    /// A replica has to wake.
    asleep: bool,
    /// Nobody waits any more, but a wake is under way.
    nobody: bool,
    /// A replica that was passed over may be tried again at this moment.
    look_again: Option<Moment>,
}

/// Gives as many as possible their turn. `None`: nobody waits any more.
fn hand_out(shared: &Arc<Shared>, route: Option<&Arc<Route>>, room: &Room) -> Option<Next> {
    let backends = match route.map(|route| &route.state) {
        Some(RouteState::On { backends, progress }) => {
            let awake = backends.iter().any(|backend| backend.gate.state() == GateState::Open);
            if let Some(reason) = progress.no_room.as_ref().filter(|_| !awake) {
                refuse_all(room, &Refusal::NoRoom { reason: reason.clone() });
                return None;
            }
            backends
        }
        Some(RouteState::Failed { reason, .. }) => {
            refuse_all(room, &Refusal::Failed { reason: reason.clone() });
            return None;
        }
        Some(RouteState::Off) | None => {
            refuse_all(room, &Refusal::Off);
            return None;
        }
    };
    let route = route?;
    look_around(&mut room.lock(), shared, backends);
    loop {
        let mut queue = room.lock();
        if queue.is_empty() {
            // A wake that is under way is followed to its end, whoever has left meanwhile: it tells how long the next
            // one is likely to take.
            let limit = shared.config.limits.wake_timeout;
            let end = queue.waking.as_ref().map(|waking| waking.since() + limit);
            let goes_on = |end: &Moment| *end > shared.clock.now() && !shared.soft_stop.is_cancelled();
            if let Some(end) = end.filter(goes_on) {
                return Some(Next { asleep: false, nobody: true, look_again: Some(end) });
            }
            queue.served = false;
            queue.waking = None;
            return None;
        }
        let Some((waiter, mut slot)) = next_turn(&mut queue, shared, route, backends) else {
            return Some(what_is_missing(&mut queue, shared, route, backends));
        };
        slot.waited = waited(&queue, waiter.since, shared.clock.now());
        // Outside the lock: one who has just left drops the slot, which tells the next.
        drop(queue);
        let _ = waiter.hand_over.send(Ok(slot));
    }
}

/// Forgets what is over: suspicions, and replicas that are gone.
fn look_around(queue: &mut Queue, shared: &Shared, backends: &[Backend]) {
    let now = shared.clock.now();
    queue.suspects.retain(|(replica, until)| {
        *until > now && backends.iter().any(|backend| backend.replica == *replica)
    });
    let is_of_use = |backend: &Backend| {
        backend.gate.state() != GateState::Closed
            && !queue.suspects.iter().any(|(id, _)| *id == backend.replica)
    };
    let lost: Vec<ReplicaId> = queue
        .for_one
        .keys()
        .filter(|replica| !backends.iter().any(|backend| backend.replica == **replica && is_of_use(backend)))
        .copied()
        .collect();
    for replica in lost {
        // They came when they came: among the others, each has the place of its arrival.
        queue.waiting.extend(queue.for_one.remove(&replica).unwrap_or_default());
    }
    let awake = backends
        .iter()
        .any(|backend| backend.gate.state() == GateState::Open && !queue.is_suspect(backend.replica));
    if awake {
        queue.awake_since.get_or_insert(now);
        if let Some(waking) = queue.waking.take() {
            waking.end(now);
        }
    } else {
        queue.awake_since = None;
    }
}

/// The next who can be let in, with the slot they get.
fn next_turn(
    queue: &mut Queue,
    shared: &Arc<Shared>,
    route: &Arc<Route>,
    backends: &[Backend],
) -> Option<(Waiter, Slot)> {
    for backend in backends {
        let Some((&number, waiter)) =
            queue.for_one.get(&backend.replica).and_then(|waiting| waiting.first_key_value())
        else {
            continue;
        };
        match Slot::enter(shared, route, backend, waiter.guest) {
            Ok(slot) => return queue.remove(number, Some(backend.replica)).map(|waiter| (waiter, slot)),
            // Their seat was given up meanwhile: any other replica is as good.
            Err(Refused::Full) if backend.gate.counts_seats() => {
                if let Some(waiter) = queue.remove(number, Some(backend.replica)) {
                    queue.bytes += waiter.bytes;
                    queue.waiting.insert(number, waiter);
                }
            }
            Err(_) => {}
        }
    }
    let (&number, waiter) = queue.waiting.first_key_value()?;
    let pass_over = |backend: &Backend| queue.is_suspect(backend.replica);
    let slot = enter_any(shared, route, backends, waiter.guest, pass_over)?;
    queue.remove(number, None).map(|waiter| (waiter, slot))
}

fn what_is_missing(queue: &mut Queue, shared: &Shared, route: &Route, backends: &[Backend]) -> Next {
    let is_asleep = |backend: &Backend| backend.gate.state() == GateState::Asleep;
    let one_sleeps =
        backends.iter().any(|backend| is_asleep(backend) && queue.for_one.contains_key(&backend.replica));
    let all_sleep = !queue.waiting.is_empty() && queue.awake_since.is_none();
    if one_sleeps || all_sleep {
        let begin = || Waking::begin(&route.meter, rung(backends), shared.clock.now());
        queue.waking = queue.waking.take().or_else(begin);
    }
    let look_again = queue.suspects.iter().map(|(_, until)| *until).min();
    Next { asleep: one_sleeps || all_sleep, nobody: false, look_again }
}

fn waited(queue: &Queue, since: Moment, now: Moment) -> Waited {
    let awake = queue.awake_since.unwrap_or(now).max(since);
    Waited { wake: awake - since, queue: now - awake }
}

fn refuse_all(room: &Room, refusal: &Refusal) {
    let mut queue = room.lock();
    queue.served = false;
    queue.waking = None;
    queue.bytes = 0;
    let everybody = std::mem::take(&mut queue.waiting).into_values();
    let everybody =
        everybody.chain(std::mem::take(&mut queue.for_one).into_values().flat_map(BTreeMap::into_values));
    drop(queue);
    for waiter in everybody {
        let _ = waiter.hand_over.send(Err(refusal.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_told_apart_from_queueing() {
        let at = Moment::from_millis;
        let ms = Duration::from_millis;
        let queue = |awake_since| Queue { awake_since, ..Queue::default() };
        let waited = |queue: &Queue, since, now| {
            let waited = waited(queue, since, now);
            (waited.wake, waited.queue)
        };
        assert_eq!(waited(&queue(Some(at(50))), at(10), at(70)), (ms(40), ms(20)));
        assert_eq!(waited(&queue(Some(at(5))), at(10), at(70)), (ms(0), ms(60)));
        assert_eq!(waited(&queue(None), at(10), at(70)), (ms(60), ms(0)));
    }
}
