//! What is held while a replica is used: a slot for a request, a session for an open connection.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::task::Poll;
use std::time::Duration;

use marmot_core::demand::Counted;
use marmot_core::gate::{GateState, Pass, Refused, Seat};

use crate::affinity::{Bond, Guest, Presence};
use crate::meter::{Rung, Waking};
use crate::opening::{Admission, Caller};
use crate::routes::{Access, Backend, Route, RouteState};
use crate::shared::Shared;
use crate::stay::{Places, Stay, expires};

/// The right to send one request to a replica.
pub(crate) struct Slot {
    pub(crate) backend: Backend,
    pub(crate) route: Arc<Route>,
    pub(crate) guest: Guest,
    /// Ties the visitor to this replica from now on; `None` for who keeps no cookies.
    pub(crate) bond: Option<Bond>,
    pub(crate) waited: Waited,
    shared: Arc<Shared>,
    /// `None` once given back.
    inside: Option<(Pass, Counted)>,
    /// Where seats are limited, or for an open connection.
    presence: Option<Presence>,
}

/// How long a request waited, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Waited {
    /// For a replica to be awake.
    pub(crate) wake: Duration,
    /// For its turn, while one was awake and busy.
    pub(crate) queue: Duration,
}

impl Slot {
    /// Enters a replica. Its own visitors are let in also while it drains, and need no other seat.
    pub(crate) fn enter(
        shared: &Arc<Shared>,
        route: &Arc<Route>,
        backend: &Backend,
        guest: Guest,
    ) -> Result<Self, Refused> {
        let (now, gate) = (shared.clock.now(), &backend.gate);
        // Counted before it is inside, so that the engine never sees an idle app with an open gate.
        let counted = route.demand.request();
        let own = guest.bond.filter(|bond| bond.replica == backend.replica);
        let bond = own.or_else(|| guest.bond_to(backend.replica));
        let known = own.filter(|_| gate.counts_seats()).and_then(|bond| Presence::again(shared, bond));
        let (pass, presence) = if known.is_some() || (own.is_some() && !gate.counts_seats()) {
            (gate.enter_own(now)?, known)
        } else {
            let mut pass = gate.enter(now)?;
            let seated = bond.filter(|_| gate.counts_seats());
            let presence = seated.map(|bond| Presence::with(shared, bond, pass.take_seat()));
            (pass, presence)
        };
        route.demand.touch(now);
        Ok(Self {
            backend: backend.clone(),
            route: Arc::clone(route),
            guest,
            bond,
            waited: Waited::default(),
            shared: Arc::clone(shared),
            inside: Some((pass, counted)),
            presence,
        })
    }

    /// What ties the visitor to this replica, where they have yet to be told.
    pub(crate) fn new_bond(&self) -> Option<Bond> {
        self.bond.filter(|bond| self.guest.bond != Some(*bond))
    }

    /// Notes that the replica was used just now.
    pub(crate) fn touch(&self) {
        let now = self.shared.clock.now();
        self.backend.gate.touch(now);
        self.route.demand.touch(now);
    }

    /// Counts as an open session from now on, and no longer as a request: the replica may fall asleep.
    pub(crate) fn into_session(mut self, stay: Stay) -> Session {
        let counted = self.route.demand.session();
        let mut presence = self.presence.take();
        let mut seat = None;
        if !presence.as_ref().is_some_and(Presence::is_seated) {
            seat = self.inside.as_mut().map(|(pass, _)| pass.take_seat());
        }
        if let Some(seat_of_its_own) = seat.take() {
            match (&mut presence, self.bond) {
                (Some(presence), _) => presence.sit(seat_of_its_own),
                (None, Some(bond)) => presence = Some(Presence::with(&self.shared, bond, seat_of_its_own)),
                (None, None) => seat = Some(seat_of_its_own),
            }
        }
        self.leave();
        let (caller, places) = stay.into_parts();
        Session {
            backend: self.backend.clone(),
            route: Arc::clone(&self.route),
            shared: Arc::clone(&self.shared),
            caller,
            _places: places,
            held: Some((counted, presence, seat)),
        }
    }

    fn leave(&mut self) {
        if self.inside.is_none() {
            return;
        }
        self.touch();
        self.presence = None;
        self.inside = None;
        tell_who_waits(&self.shared, &self.route);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.leave();
    }
}

fn tell_who_waits(shared: &Shared, route: &Route) {
    // Either whoever waits sees that the gate has room, or this sees that somebody waits.
    fence(Ordering::SeqCst);
    if route.demand.sample().held > 0 {
        shared.rooms.freed(&route.app);
    }
}

/// A WebSocket or event stream that is open to a replica, awake or asleep.
pub(crate) struct Session {
    pub(crate) backend: Backend,
    pub(crate) route: Arc<Route>,
    pub(crate) shared: Arc<Shared>,
    /// Who has it open.
    caller: Caller,
    _places: Places,
    /// `None` once given back.
    held: Option<(Counted, Option<Presence>, Option<Seat>)>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.held = None;
        if self.backend.gate.state() == GateState::Draining {
            // The last one makes an end of it.
            (self.shared.nudge)(&self.route.app);
        }
        if self.backend.gate.counts_seats() {
            tell_who_waits(&self.shared, &self.route);
        }
    }
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
        let (shared, app, caller) = (Arc::clone(&self.shared), self.route.app.clone(), self.caller.clone());
        let replica = self.backend.replica;
        async move {
            let mut may_end = shared.sessions_may_end.subscribe();
            loop {
                let mut ends = None;
                let why = {
                    let mut admits = |access: &Access| match access.admits(&caller, shared.tickets.time()) {
                        Admission::Until(end) => {
                            ends = end;
                            true
                        }
                        Admission::No => false,
                    };
                    let routes = shared.routes.borrow();
                    match routes.get(app.as_str()).map(|route| (&route.state, &route.access)) {
                        None | Some((RouteState::Off, _)) => Some(Dismissal::Off),
                        Some((_, access)) if !admits(access) => Some(Dismissal::AccessLost),
                        Some((RouteState::On { backends, .. }, _)) => {
                            let stays = backends.iter().any(|backend| backend.replica == replica);
                            let elsewhere =
                                backends.iter().any(|backend| backend.gate.state() == GateState::Open);
                            (!stays).then_some(if elsewhere {
                                Dismissal::Replaced
                            } else {
                                Dismissal::Stopped
                            })
                        }
                        // Its replica tells by itself that it is gone.
                        Some((RouteState::Failed { .. }, _)) => None,
                    }
                };
                if let Some(why) = why {
                    return why;
                }
                tokio::select! {
                    () = shared.soft_stop.cancelled() => return Dismissal::Stopping,
                    changed = may_end.changed() => if changed.is_err() { return Dismissal::Stopping },
                    () = expires(&shared, ends) => {}
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
        let (_held, _awaiting) = (self.route.demand.hold(), gate.await_it());
        self.route.demand.touch(self.shared.clock.now());
        let waking = Waking::begin(&self.route.meter, Rung::Hibernated, self.shared.clock.now());
        (self.shared.nudge)(&self.route.app);
        let awake = poll_fn(|context| {
            gate.watch(context.waker());
            match enter() {
                Ok(pass) => Poll::Ready(Some(pass)),
                Err(_) if gate.state() == GateState::Closed => Poll::Ready(None),
                Err(_) => Poll::Pending,
            }
        });
        let awake = tokio::time::timeout(self.shared.config.limits.wake_timeout, awake).await.ok().flatten();
        if let (Some(_), Some(waking)) = (&awake, waking) {
            waking.end(self.shared.clock.now());
        }
        awake
    }
}

/// Why a connection must end although neither side ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dismissal {
    /// The gateway stops.
    Stopping,
    /// The visitor may not use the app any more.
    AccessLost,
    /// The app was switched off.
    Off,
    /// Its replica was stopped; the next request starts another one.
    Stopped,
    /// Its replica was stopped, and another one serves.
    Replaced,
}
