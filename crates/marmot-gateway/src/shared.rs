//! What the connections of one core share, and what all cores do.

use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use marmot_core::{AppName, Clock};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::Tickets;
use crate::affinity::Seats;
use crate::config::GatewayConfig;
use crate::handshakes::Handshakes;
use crate::hold::Rooms;
use crate::identity::{Identities, Tokens};
use crate::limits::{Buckets, Census};
use crate::lobby::LogSource;
use crate::pool::Pool;
use crate::routes::{Route, Routes};
use crate::trust::Crowd;

/// Asks the engine to look at an app now.
pub(crate) type Nudge = Arc<dyn Fn(&AppName) + Send + Sync>;

/// Each core has one of these: nothing in it that a request changes is another core's too, but for the queue of an
/// app that wakes.
pub(crate) struct Shared {
    pub(crate) config: Arc<GatewayConfig>,
    pub(crate) routes: watch::Receiver<Arc<Routes>>,
    /// This core's own.
    table: Table,
    pub(crate) clock: Clock,
    pub(crate) nudge: Nudge,
    pub(crate) tickets: Arc<Tickets>,
    /// Where the lobby finds what an app says while it wakes.
    pub(crate) logs: Option<LogSource>,
    /// Some app has another audience, is off, or has lost a replica: whoever is connected looks whether it is them who
    /// must leave.
    pub(crate) sessions_may_end: watch::Sender<()>,
    /// Counts how often that was: whoever has seen this number need not look again.
    pub(crate) epoch: Arc<AtomicU64>,
    /// Signs who visitors are, where apps are told so.
    pub(crate) identities: Option<Arc<Identities>>,
    /// This core's own.
    pub(crate) tokens: Tokens,
    /// What comes after the name of an app in its address: its domain, and the port.
    apps_authority: Arc<str>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) rooms: Arc<Rooms>,
    pub(crate) seats: Arc<Seats>,
    /// Bytes that have come of bodies that are waited for.
    pub(crate) arriving: Arc<AtomicUsize>,
    /// Whose connections there are.
    pub(crate) crowd: Arc<Crowd>,
    /// How many begin TLS.
    pub(crate) handshakes: Arc<Handshakes>,
    /// This core's own.
    pub(crate) pool: Pool,
    /// Owns what outlives a single request: connections, queues, WebSockets.
    pub(crate) tracker: TaskTracker,
    /// No new requests; WebSockets and event streams say good-bye.
    pub(crate) soft_stop: CancellationToken,
    /// Whatever still runs is cut.
    pub(crate) hard_stop: CancellationToken,
    stopping: Arc<AtomicBool>,
}

/// What is counted of visitors.
#[derive(Default)]
pub(crate) struct Counters {
    /// Requests.
    pub(crate) requests: Buckets,
    /// Requests under way.
    pub(crate) under_way: Arc<Census>,
    /// Apps that a visitor has woken; and of each app, that it was that visitor.
    pub(crate) wakes: Buckets,
    /// Links and keys that were none.
    pub(crate) guesses: Buckets,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(
        config: GatewayConfig,
        routes: watch::Receiver<Arc<Routes>>,
        clock: Clock,
        nudge: Nudge,
        tickets: Arc<Tickets>,
    ) -> Self {
        Self {
            apps_authority: apps_authority(&config).into(),
            config: Arc::new(config),
            table: Table::new(routes.clone()),
            routes,
            clock,
            nudge,
            tickets,
            logs: None,
            sessions_may_end: watch::Sender::new(()),
            epoch: Arc::default(),
            identities: None,
            tokens: Tokens::default(),
            counters: Arc::default(),
            rooms: Arc::default(),
            arriving: Arc::default(),
            crowd: Arc::default(),
            handshakes: Arc::default(),
            seats: Arc::default(),
            pool: Pool::default(),
            tracker: TaskTracker::new(),
            soft_stop: CancellationToken::new(),
            hard_stop: CancellationToken::new(),
            stopping: Arc::default(),
        }
    }

    /// The same for another core.
    pub(crate) fn for_another_core(&self) -> Self {
        Self {
            config: Arc::clone(&self.config),
            table: Table::new(self.routes.clone()),
            routes: self.routes.clone(),
            clock: self.clock.clone(),
            nudge: Arc::clone(&self.nudge),
            tickets: Arc::clone(&self.tickets),
            logs: self.logs.clone(),
            sessions_may_end: self.sessions_may_end.clone(),
            epoch: Arc::clone(&self.epoch),
            identities: self.identities.clone(),
            tokens: Tokens::default(),
            apps_authority: Arc::clone(&self.apps_authority),
            counters: Arc::clone(&self.counters),
            rooms: Arc::clone(&self.rooms),
            arriving: Arc::clone(&self.arriving),
            crowd: Arc::clone(&self.crowd),
            handshakes: Arc::clone(&self.handshakes),
            seats: Arc::clone(&self.seats),
            pool: Pool::default(),
            tracker: self.tracker.clone(),
            soft_stop: self.soft_stop.clone(),
            hard_stop: self.hard_stop.clone(),
            stopping: Arc::clone(&self.stopping),
        }
    }

    /// Tells everybody that the gateway stops.
    pub(crate) fn stop_softly(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.soft_stop.cancel();
    }

    /// Waits for the soft stop in a task that is woken often. The token itself takes a lock, which all cores share,
    /// each time it is asked; this asks it once, and looks at a flag from then on. It must be awaited by one task only.
    pub(crate) fn stopped_softly(&self) -> impl Future<Output = ()> {
        let mut stopped = Box::pin(self.soft_stop.clone().cancelled_owned());
        let stopping = Arc::clone(&self.stopping);
        let mut registered = false;
        poll_fn(move |cx| {
            if registered && !stopping.load(Ordering::Relaxed) {
                return Poll::Pending;
            }
            registered = true;
            stopped.as_mut().poll(cx)
        })
    }

    /// The address of an app, without a path.
    pub(crate) fn app_address(&self, app: &AppName) -> String {
        format!("{}://{app}.{}", self.config.scheme.as_str(), self.apps_authority)
    }

    /// How requests to an app are treated as of now.
    pub(crate) fn find(&self, app: &str) -> Option<Arc<Route>> {
        self.table.find(app)
    }
}

/// Apps are at the port of the platform.
fn apps_authority(config: &GatewayConfig) -> String {
    let platform = config.platform_url.parse::<http::Uri>().ok();
    match platform.as_ref().and_then(http::Uri::port_u16) {
        Some(port) => format!("{}:{port}", config.apps_domain),
        None => config.apps_domain.clone(),
    }
}

/// The routing table as one core last saw it. A request only looks whether there is a newer one, which is one atomic
/// read; the lock is this core's own, so nobody ever waits for it.
struct Table(Mutex<Seen>);

struct Seen {
    routes: watch::Receiver<Arc<Routes>>,
    now: Arc<Routes>,
}

impl Table {
    fn new(mut routes: watch::Receiver<Arc<Routes>>) -> Self {
        let now = Arc::clone(&routes.borrow_and_update());
        Self(Mutex::new(Seen { routes, now }))
    }

    fn find(&self, app: &str) -> Option<Arc<Route>> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = &mut *seen;
        // Nobody to change it any more is an error; what was said last goes on to count.
        if seen.routes.has_changed().unwrap_or(true) {
            seen.now = Arc::clone(&seen.routes.borrow_and_update());
        }
        seen.now.get(app).cloned()
    }
}
