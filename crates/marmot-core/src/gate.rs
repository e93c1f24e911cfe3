//! The admission gate of a replica: the one atomic state on which gateway and hibernation agree.
//!
//! The gateway enters before it sends anything to the replica and stays inside until the answer is out; the
//! engine may put the replica to sleep only while nobody is inside. Both are one compare-and-swap on the same
//! word, so no request ever reaches a replica that is being frozen or stopped (proved with loom, below).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Moment;
use crate::scaling::Concurrency;

/// Why the gate let nobody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The replica sleeps or is falling asleep: ask for it to be woken, then enter again.
    #[error("the replica is asleep")]
    Asleep,
    /// The replica takes nobody new, or is stopping, or gone: take another one.
    #[error("the replica takes no more requests")]
    Closed,
    /// As many are inside, or have a seat, as the replica can work on.
    #[error("the replica is busy to its limit")]
    Full,
}

/// Whom the gate lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateState {
    /// Everybody, up to the limit.
    Open,
    /// Nobody, until the replica is awake.
    Asleep,
    /// Its own visitors, until it is closed; nobody new.
    Draining,
    /// Nobody, ever again. Those inside may finish.
    Closed,
}

/// What a replica is limited in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    /// Requests at the same time.
    Inside(u64),
    /// Seats: visitors who keep something in the replica's memory, whether they ask for anything or not.
    Seats(u64),
}

// The word: two bits of state, thirty of seats, thirty-two of those inside.
const OPEN: u64 = 0;
const ASLEEP: u64 = 1 << 62;
const CLOSED: u64 = 2 << 62;
const DRAINING: u64 = 3 << 62;
const STATE: u64 = 3 << 62;
const ONE_SEAT: u64 = 1 << 32;
const SEATS: u64 = !STATE & !INSIDE;
const INSIDE: u64 = ONE_SEAT - 1;

/// Guards one replica. It starts asleep: a replica is opened when it is ready.
pub struct Gate {
    /// The state, how many have a seat, how many are inside.
    word: AtomicU64,
    limit: Limit,
    /// When somebody was last let in, or data last passed. A statistic: no order with `word` is needed.
    last_used: std::sync::atomic::AtomicU64,
    /// How many wait for this replica and can use no other. A statistic too.
    awaited: std::sync::atomic::AtomicU64,
    /// New visitors are better sent elsewhere. A hint.
    retiring: std::sync::atomic::AtomicBool,
    /// Those who want to know when it opens or closes. Never touched on the way of a request.
    watchers: Mutex<Vec<Waker>>,
}

impl Gate {
    /// A gate that lets at most `limit` requests in at the same time.
    pub fn new(limit: u32) -> Self {
        Self::limited(Limit::Inside(u64::from(limit)))
    }

    /// A gate that has at most `limit` seats for newcomers. Who has one may send as many requests as they like.
    pub fn for_sessions(limit: u32) -> Self {
        Self::limited(Limit::Seats(u64::from(limit)))
    }

    /// A gate that lets in as many at the same time as this says, of what this counts.
    pub fn with(limit: Concurrency) -> Self {
        match limit {
            Concurrency::Requests(_) => Self::new(limit.count()),
            Concurrency::Sessions(_) => Self::for_sessions(limit.count()),
        }
    }

    fn limited(limit: Limit) -> Self {
        Self {
            word: AtomicU64::new(ASLEEP),
            limit,
            last_used: std::sync::atomic::AtomicU64::new(0),
            awaited: std::sync::atomic::AtomicU64::new(0),
            retiring: std::sync::atomic::AtomicBool::new(false),
            watchers: Mutex::new(Vec::new()),
        }
    }

    /// Whether it is seats that are limited, not requests.
    pub fn counts_seats(&self) -> bool {
        matches!(self.limit, Limit::Seats(_))
    }

    /// Lets the request of a newcomer in, until the pass is dropped. Where seats are limited, it takes one along.
    pub fn enter(self: &Arc<Self>, now: Moment) -> Result<Pass, Refused> {
        let pass = match self.limit {
            Limit::Inside(limit) => self.enter_if(false, 1, |word| word & INSIDE < limit),
            Limit::Seats(limit) => {
                self.enter_if(false, ONE_SEAT + 1, |word| (word & SEATS) / ONE_SEAT < limit)
            }
        }?;
        self.touch(now);
        Ok(pass)
    }

    /// Lets a request of one of the replica's own visitors in: also while it is draining, and where seats are
    /// limited without taking another one.
    pub fn enter_own(self: &Arc<Self>, now: Moment) -> Result<Pass, Refused> {
        let pass = match self.limit {
            Limit::Inside(limit) => self.enter_if(true, 1, |word| word & INSIDE < limit),
            Limit::Seats(_) => self.enter_if(true, 1, |_| true),
        }?;
        self.touch(now);
        Ok(pass)
    }

    /// Lets something of a connection in that was let in before, also when the replica is busy to its limit or drains.
    ///
    /// It does not count as use of the replica: not all that passes on open connections does ([`Gate::touch`]).
    pub fn enter_again(self: &Arc<Self>) -> Result<Pass, Refused> {
        self.enter_if(true, 1, |_| true)
    }

    /// Adds `counts` to the word if it is open (or draining, for its `own`) and has room.
    fn enter_if(
        self: &Arc<Self>,
        own: bool,
        counts: u64,
        has_room: impl Fn(u64) -> bool,
    ) -> Result<Pass, Refused> {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            match word & STATE {
                ASLEEP => return Err(Refused::Asleep),
                CLOSED => return Err(Refused::Closed),
                DRAINING if !own => return Err(Refused::Closed),
                _ if !has_room(word) => return Err(Refused::Full),
                _ => {}
            }
            match self.word.compare_exchange_weak(word, word + counts, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(seen) => word = seen,
            }
        }
        Ok(Pass { gate: Arc::clone(self), counts })
    }

    /// Counts an open connection to this replica, until the seat is dropped.
    pub fn seat(self: &Arc<Self>) -> Seat {
        self.word.fetch_add(ONE_SEAT, Ordering::AcqRel);
        Seat { gate: Arc::clone(self) }
    }

    /// Notes that the replica was used, also by those who are inside already.
    pub fn touch(&self, now: Moment) {
        self.last_used.fetch_max(now.as_millis(), std::sync::atomic::Ordering::Relaxed);
    }

    /// When the replica was last used.
    pub fn last_used(&self) -> Moment {
        Moment::from_millis(self.last_used.load(std::sync::atomic::Ordering::Relaxed))
    }

    /// Shuts the gate for sleep, if it is open and nobody is inside. From then on nobody is, until [`Gate::open`].
    /// Seats are kept: those who have one find the replica as they left it.
    #[must_use]
    pub fn try_sleep(&self) -> bool {
        self.change(|word| (word & (STATE | INSIDE) == OPEN).then_some(word | ASLEEP))
    }

    /// Opens a gate that sleeps: the replica is ready, or awake again. One that drains or is closed stays so.
    pub fn open(&self) {
        if self.change(|word| (word & STATE == ASLEEP).then_some(word & !STATE)) {
            self.tell_watchers();
        }
    }

    /// Lets nobody new in any more; the replica's own visitors stay until it is closed. One that sleeps is closed.
    pub fn drain(&self) {
        let changed = self.change(|word| match word & STATE {
            OPEN => Some(word | DRAINING),
            ASLEEP => Some(word & !STATE | CLOSED),
            _ => None,
        });
        if changed {
            self.tell_watchers();
        }
    }

    /// Closes the gate for good. Those inside may finish.
    pub fn close(&self) {
        if self.change(|word| (word & STATE != CLOSED).then_some(word & !STATE | CLOSED)) {
            self.tell_watchers();
        }
    }

    /// Changes the word in one step; false when there is nothing to change.
    fn change(&self, to: impl Fn(u64) -> Option<u64>) -> bool {
        let mut word = self.word.load(Ordering::Acquire);
        while let Some(changed) = to(word) {
            match self.word.compare_exchange_weak(word, changed, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(seen) => word = seen,
            }
        }
        false
    }

    /// Wakes `waker` once, when the gate next opens, drains or closes. Register first, then look at the state, so
    /// that a change in between is not missed.
    pub fn watch(&self, waker: &Waker) {
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        if !watchers.iter().any(|known| known.will_wake(waker)) {
            watchers.push(waker.clone());
        }
    }

    fn tell_watchers(&self) {
        let watchers = std::mem::take(&mut *self.watchers.lock().unwrap_or_else(PoisonError::into_inner));
        watchers.into_iter().for_each(Waker::wake);
    }

    /// Notes that somebody waits for this replica and can use no other, until the guard is dropped.
    pub fn await_it(self: &Arc<Self>) -> Awaiting {
        self.awaited.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Awaiting { gate: Arc::clone(self) }
    }

    /// Whether somebody waits for this replica, and not just for any, to wake.
    pub fn asked_for(&self) -> bool {
        self.awaited.load(std::sync::atomic::Ordering::Relaxed) > 0 && self.state() == GateState::Asleep
    }

    /// Notes whether the replica is about to go: then new visitors are sent to it only if there is no other. Those who
    /// have their session there stay.
    pub fn retire(&self, retiring: bool) {
        self.retiring.store(retiring, std::sync::atomic::Ordering::Relaxed);
    }

    /// Whether new visitors are better sent elsewhere.
    pub fn retiring(&self) -> bool {
        self.retiring.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// How many are inside.
    pub fn inside(&self) -> u64 {
        self.word.load(Ordering::Acquire) & INSIDE
    }

    /// How many have a seat: open connections, and visitors for whom one is kept.
    pub fn sessions(&self) -> u64 {
        (self.word.load(Ordering::Acquire) & SEATS) / ONE_SEAT
    }

    /// Whether there is room for one more newcomer, were it open.
    pub fn has_room(&self) -> bool {
        self.has_room_for(1)
    }

    /// Whether there is room for so many newcomers, were it open.
    pub fn has_room_for(&self, newcomers: u64) -> bool {
        let word = self.word.load(Ordering::Acquire);
        match self.limit {
            Limit::Inside(limit) => (word & INSIDE) + newcomers <= limit,
            Limit::Seats(limit) => (word & SEATS) / ONE_SEAT + newcomers <= limit,
        }
    }

    /// Whom the gate lets in right now.
    pub fn state(&self) -> GateState {
        match self.word.load(Ordering::Acquire) & STATE {
            OPEN => GateState::Open,
            ASLEEP => GateState::Asleep,
            DRAINING => GateState::Draining,
            _ => GateState::Closed,
        }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gate({:?}, {} inside, {} sessions)", self.state(), self.inside(), self.sessions())
    }
}

/// The right to use a replica. While it lives, the replica is not put to sleep.
#[derive(Debug)]
#[must_use = "dropping it leaves the replica"]
pub struct Pass {
    gate: Arc<Gate>,
    /// What it has added to the word.
    counts: u64,
}

impl Pass {
    /// The seat that this request came with, or another one: whoever is inside may stay, whatever the limit.
    pub fn take_seat(&mut self) -> Seat {
        if self.counts & SEATS == 0 {
            return self.gate.seat();
        }
        self.counts -= ONE_SEAT;
        Seat { gate: Arc::clone(&self.gate) }
    }

    /// Whether it has brought a seat of its own.
    pub fn has_seat(&self) -> bool {
        self.counts & SEATS != 0
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.gate.word.fetch_sub(self.counts, Ordering::AcqRel);
    }
}

/// A place in a replica's memory. It keeps nobody awake.
#[derive(Debug)]
#[must_use = "dropping it gives the seat up"]
pub struct Seat {
    gate: Arc<Gate>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.gate.word.fetch_sub(ONE_SEAT, Ordering::AcqRel);
    }
}

/// Keeps a replica noted as waited for.
#[derive(Debug)]
#[must_use = "dropping it takes the note back"]
pub struct Awaiting {
    gate: Arc<Gate>,
}

impl Drop for Awaiting {
    fn drop(&mut self) {
        self.gate.awaited.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const NOW: Moment = Moment::START;

    #[test]
    fn lets_in_while_open_up_to_its_limit() {
        let gate = Arc::new(Gate::new(2));
        assert_eq!(gate.enter(NOW).unwrap_err(), Refused::Asleep);
        gate.open();
        let first = gate.enter(NOW).unwrap();
        let _second = gate.enter(NOW).unwrap();
        assert_eq!(gate.enter(NOW).unwrap_err(), Refused::Full);
        drop(first);
        assert!(gate.enter(NOW).is_ok());
    }

    #[test]
    fn sleeps_only_while_nobody_is_inside() {
        let gate = Arc::new(Gate::new(9));
        gate.open();
        let pass = gate.enter(NOW).unwrap();
        assert!(!gate.try_sleep());
        drop(pass);
        assert!(gate.try_sleep());
        assert_eq!(gate.enter(NOW).unwrap_err(), Refused::Asleep);
        gate.open();
        assert!(gate.enter(NOW).is_ok());
    }

    #[test]
    fn a_closed_gate_stays_closed_and_those_inside_may_finish() {
        let gate = Arc::new(Gate::new(9));
        gate.open();
        let pass = gate.enter(NOW).unwrap();
        gate.close();
        gate.open();
        assert!(!gate.try_sleep());
        assert_eq!((gate.enter(NOW).unwrap_err(), gate.inside()), (Refused::Closed, 1));
        drop(pass);
        assert_eq!((gate.state(), gate.inside()), (GateState::Closed, 0));
    }

    #[test]
    fn data_of_an_open_connection_gets_in_beyond_the_limit_but_never_into_a_sleeping_replica() {
        let gate = Arc::new(Gate::new(1));
        assert_eq!(gate.enter_again().unwrap_err(), Refused::Asleep);
        gate.open();
        let _request = gate.enter(NOW).unwrap();
        let _frame = gate.enter_again().unwrap();
        assert_eq!((gate.inside(), gate.try_sleep()), (2, false));
    }

    #[test]
    fn seats_are_limited_for_newcomers_and_outlast_their_requests() {
        let gate = Arc::new(Gate::for_sessions(2));
        gate.open();
        let mut first = gate.enter(NOW).unwrap();
        let seat = first.take_seat();
        drop(first);
        assert_eq!((gate.inside(), gate.sessions()), (0, 1));
        let second = gate.enter(NOW).unwrap();
        assert_eq!(gate.enter(NOW).unwrap_err(), Refused::Full);
        let own = (gate.enter_own(NOW).unwrap(), gate.enter_own(NOW).unwrap());
        assert_eq!((gate.inside(), gate.sessions()), (3, 2));
        drop((own, second));
        assert!(gate.try_sleep(), "a seat keeps nobody awake");
        gate.open();
        drop((seat, gate.enter(NOW).unwrap()));
        assert_eq!((gate.inside(), gate.sessions()), (0, 0));
    }

    #[test]
    fn an_open_connection_has_a_seat_also_where_requests_are_limited() {
        let gate = Arc::new(Gate::new(1));
        gate.open();
        let mut request = gate.enter(NOW).unwrap();
        let _seat = request.take_seat();
        drop(request);
        assert_eq!((gate.inside(), gate.sessions()), (0, 1));
        assert!(gate.enter(NOW).is_ok());
    }

    #[test]
    fn one_that_drains_keeps_its_own_visitors_and_takes_nobody_new() {
        let gate = Arc::new(Gate::new(2));
        gate.open();
        gate.drain();
        assert_eq!((gate.state(), gate.enter(NOW).unwrap_err()), (GateState::Draining, Refused::Closed));
        let own = gate.enter_own(NOW).unwrap();
        assert!(gate.enter_again().is_ok() && !gate.try_sleep());
        gate.open();
        assert_eq!(gate.state(), GateState::Draining);
        gate.close();
        assert_eq!((gate.enter_own(NOW).unwrap_err(), gate.inside()), (Refused::Closed, 1));
        drop(own);
        let asleep = Gate::new(2);
        asleep.drain();
        assert_eq!(asleep.state(), GateState::Closed);
    }

    #[test]
    fn knows_that_somebody_waits_for_it_to_wake_and_could_use_no_other() {
        let gate = Arc::new(Gate::new(1));
        let waits = gate.await_it();
        assert!(gate.asked_for());
        gate.open();
        assert!(!gate.asked_for());
        assert!(gate.try_sleep() && gate.asked_for());
        drop(waits);
        assert!(!gate.asked_for());
    }

    #[test]
    fn tells_each_watcher_once_that_it_opened_or_closed() {
        struct Count(std::sync::atomic::AtomicU64);
        impl std::task::Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
        let woken = Arc::new(Count(std::sync::atomic::AtomicU64::new(0)));
        let waker = Waker::from(Arc::clone(&woken));
        let times = || woken.0.load(std::sync::atomic::Ordering::Relaxed);
        let gate = Arc::new(Gate::new(1));
        gate.watch(&waker);
        gate.watch(&waker);
        gate.open();
        gate.open();
        assert_eq!(times(), 1);
        gate.watch(&waker);
        assert!(gate.try_sleep());
        assert_eq!(times(), 1);
        gate.close();
        assert_eq!(times(), 2);
    }

    #[test]
    fn remembers_when_it_was_last_used() {
        let gate = Arc::new(Gate::new(9));
        gate.open();
        let _pass = gate.enter(Moment::from_millis(7)).unwrap();
        gate.touch(Moment::from_millis(5));
        assert_eq!(gate.last_used(), Moment::from_millis(7));
    }
}

/// Run with `RUSTFLAGS="--cfg loom" cargo test -p marmot-core --release loom_`.
#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::atomic::AtomicBool;
    use loom::thread;

    #[test]
    fn loom_nobody_is_inside_a_frozen_replica() {
        loom::model(|| {
            let gate = Arc::new(Gate::new(9));
            gate.open();
            let frozen = Arc::new(AtomicBool::new(false));
            let visitors: Vec<_> = (0..2)
                .map(|_| {
                    let (gate, frozen) = (Arc::clone(&gate), Arc::clone(&frozen));
                    thread::spawn(move || {
                        if let Ok(_pass) = gate.enter(Moment::START) {
                            assert!(!frozen.load(Ordering::Acquire), "entered a frozen replica");
                        }
                    })
                })
                .collect();
            if gate.try_sleep() {
                frozen.store(true, Ordering::Release);
                assert_eq!(gate.inside(), 0);
                frozen.store(false, Ordering::Release);
                gate.open();
            }
            visitors.into_iter().for_each(|visitor| visitor.join().expect("visitor"));
            assert_eq!(gate.inside(), 0);
        });
    }

    #[test]
    fn loom_newcomers_never_share_the_last_seat_and_a_sleep_loses_none() {
        loom::model(|| {
            let gate = Arc::new(Gate::for_sessions(1));
            gate.open();
            let seated = Arc::new(AtomicBool::new(false));
            let newcomers: Vec<_> = (0..2)
                .map(|_| {
                    let (gate, seated) = (Arc::clone(&gate), Arc::clone(&seated));
                    thread::spawn(move || {
                        let Ok(mut pass) = gate.enter(Moment::START) else { return };
                        let seat = pass.take_seat();
                        assert!(!seated.swap(true, Ordering::AcqRel), "two have one seat");
                        drop(pass);
                        seated.store(false, Ordering::Release);
                        drop(seat);
                    })
                })
                .collect();
            if gate.try_sleep() {
                assert_eq!(gate.inside(), 0);
                gate.open();
            }
            newcomers.into_iter().for_each(|newcomer| newcomer.join().expect("newcomer"));
            assert_eq!((gate.state(), gate.inside(), gate.sessions()), (GateState::Open, 0, 0));
        });
    }

    #[test]
    fn loom_nobody_new_enters_a_replica_that_drains() {
        loom::model(|| {
            let gate = Arc::new(Gate::new(9));
            gate.open();
            let draining = Arc::new(AtomicBool::new(false));
            let newcomer = {
                let (gate, draining) = (Arc::clone(&gate), Arc::clone(&draining));
                thread::spawn(move || {
                    let already = draining.load(Ordering::Acquire);
                    assert!(!(already && gate.enter(Moment::START).is_ok()), "entered one that drains");
                })
            };
            let own = {
                let gate = Arc::clone(&gate);
                thread::spawn(move || drop(gate.enter_own(Moment::START).expect("its own stay")))
            };
            gate.drain();
            draining.store(true, Ordering::Release);
            newcomer.join().expect("newcomer");
            own.join().expect("own");
            assert_eq!((gate.state(), gate.inside()), (GateState::Draining, 0));
        });
    }

    #[test]
    fn loom_closing_loses_no_count() {
        loom::model(|| {
            let gate = Arc::new(Gate::new(9));
            gate.open();
            let visitor = {
                let gate = Arc::clone(&gate);
                thread::spawn(move || drop(gate.enter(Moment::START)))
            };
            gate.close();
            visitor.join().expect("visitor");
            assert_eq!((gate.state(), gate.inside()), (GateState::Closed, 0));
        });
    }
}
