//! The admission gate of a replica: the one atomic state on which gateway and hibernation agree.
//!
//! The gateway enters before it sends anything to the replica and stays inside until the answer is out; the
//! engine may put the replica to sleep only while nobody is inside. Both are one compare-and-swap on the same
//! word, so no request ever reaches a replica that is being frozen or stopped (proved with loom, below).

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Moment;

/// Why the gate let nobody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The replica sleeps or is falling asleep: ask for it to be woken, then enter again.
    #[error("the replica is asleep")]
    Asleep,
    /// The replica is draining, stopping or gone: take another one.
    #[error("the replica takes no more requests")]
    Closed,
    /// As many are inside as the replica can work on.
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
    /// Nobody, ever again. Those inside may finish.
    Closed,
}

const OPEN: u64 = 0;
const ASLEEP: u64 = 1 << 62;
const CLOSED: u64 = 2 << 62;
const STATE: u64 = 3 << 62;
const INSIDE: u64 = !STATE;

/// Guards one replica. It starts asleep: a replica is opened when it is ready.
pub struct Gate {
    /// The state in the two highest bits, how many are inside in the others.
    word: AtomicU64,
    limit: u64,
    /// When somebody was last let in, or data last passed. A statistic: no order with `word` is needed.
    last_used: std::sync::atomic::AtomicU64,
    /// Open connections whose other end is this replica. They are not inside: a silent one lets it sleep.
    sessions: std::sync::atomic::AtomicU64,
    /// One of those connections waits for the replica to wake; another replica would be of no use to it.
    asked_for: AtomicBool,
    /// New visitors are better sent elsewhere.
    retiring: AtomicBool,
    /// Those who want to know when it opens or closes. Never touched on the way of a request.
    watchers: Mutex<Vec<Waker>>,
}

impl Gate {
    /// A gate that lets at most `limit` requests in at the same time.
    pub fn new(limit: u32) -> Self {
        Self {
            word: AtomicU64::new(ASLEEP),
            limit: u64::from(limit),
            last_used: std::sync::atomic::AtomicU64::new(0),
            sessions: std::sync::atomic::AtomicU64::new(0),
            asked_for: AtomicBool::new(false),
            retiring: AtomicBool::new(false),
            watchers: Mutex::new(Vec::new()),
        }
    }

    /// Lets one request in, until the pass is dropped.
    pub fn enter(self: &Arc<Self>, now: Moment) -> Result<Pass, Refused> {
        let pass = self.enter_below(self.limit)?;
        self.touch(now);
        Ok(pass)
    }

    /// Lets something of a connection in that was let in before, also when the replica is busy to its limit.
    ///
    /// It does not count as use of the replica: not all that passes on open connections does ([`Gate::touch`]).
    pub fn enter_again(self: &Arc<Self>) -> Result<Pass, Refused> {
        let pass = self.enter_below(INSIDE);
        if matches!(pass, Err(Refused::Asleep)) {
            self.asked_for.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        pass
    }

    /// Whether somebody waits for this replica, and not just for any, to wake.
    pub fn asked_for(&self) -> bool {
        self.asked_for.load(std::sync::atomic::Ordering::Relaxed) && self.state() == GateState::Asleep
    }

    /// Counts an open connection to this replica, until the seat is dropped.
    pub fn seat(self: &Arc<Self>) -> Seat {
        self.sessions.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Seat { gate: Arc::clone(self) }
    }

    /// How many connections to this replica are open, silent ones too.
    pub fn sessions(&self) -> u64 {
        self.sessions.load(std::sync::atomic::Ordering::Relaxed)
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

    fn enter_below(self: &Arc<Self>, limit: u64) -> Result<Pass, Refused> {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            match word & STATE {
                ASLEEP => return Err(Refused::Asleep),
                CLOSED => return Err(Refused::Closed),
                _ if word & INSIDE >= limit => return Err(Refused::Full),
                _ => {}
            }
            match self.word.compare_exchange_weak(word, word + 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(seen) => word = seen,
            }
        }
        Ok(Pass { gate: Arc::clone(self) })
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
    #[must_use]
    pub fn try_sleep(&self) -> bool {
        if self.state() == GateState::Open {
            // What was asked while it slept before has been answered.
            self.asked_for.store(false, std::sync::atomic::Ordering::Relaxed);
        }
        self.word.compare_exchange(OPEN, ASLEEP, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Opens a gate that sleeps: the replica is ready, or awake again. A closed one stays closed.
    pub fn open(&self) {
        if self.word.compare_exchange(ASLEEP, OPEN, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            self.tell_watchers();
        }
    }

    /// Wakes `waker` once, when the gate next opens or closes. Register first, then look at the state, so that
    /// a change in between is not missed.
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

    /// Closes the gate for good. Those inside may finish.
    pub fn close(&self) {
        let mut word = self.word.load(Ordering::Acquire);
        while let Err(seen) = self.word.compare_exchange_weak(
            word,
            (word & INSIDE) | CLOSED,
            Ordering::AcqRel,
            Ordering::Acquire,
        ) {
            word = seen;
        }
        self.tell_watchers();
    }

    /// How many are inside.
    pub fn inside(&self) -> u64 {
        self.word.load(Ordering::Acquire) & INSIDE
    }

    /// Whom the gate lets in right now.
    pub fn state(&self) -> GateState {
        match self.word.load(Ordering::Acquire) & STATE {
            OPEN => GateState::Open,
            ASLEEP => GateState::Asleep,
            _ => GateState::Closed,
        }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gate({:?}, {} inside)", self.state(), self.inside())
    }
}

/// The right to use a replica. While it lives, the replica is not put to sleep.
#[derive(Debug)]
#[must_use = "dropping it leaves the replica"]
pub struct Pass {
    gate: Arc<Gate>,
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.gate.word.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A place at a replica that an open connection has.
#[derive(Debug)]
#[must_use = "dropping it gives the place up"]
pub struct Seat {
    gate: Arc<Gate>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.gate.sessions.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
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
    fn knows_that_a_connection_of_its_own_waits_for_it_to_wake() {
        let gate = Arc::new(Gate::new(1));
        assert_eq!((gate.enter(NOW).unwrap_err(), gate.asked_for()), (Refused::Asleep, false));
        assert_eq!((gate.enter_again().unwrap_err(), gate.asked_for()), (Refused::Asleep, true));
        gate.open();
        assert!(!gate.asked_for());
        assert!(gate.try_sleep() && !gate.asked_for());
    }

    #[test]
    fn connections_have_seats_and_are_not_inside() {
        let gate = Arc::new(Gate::new(1));
        gate.open();
        let seats = [gate.seat(), gate.seat()];
        assert_eq!((gate.sessions(), gate.inside(), gate.try_sleep()), (2, 0, true));
        drop(seats);
        assert_eq!(gate.sessions(), 0);
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
