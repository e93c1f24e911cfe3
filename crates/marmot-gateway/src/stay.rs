//! The right of a caller to go on with what is under way: their share of what may be asked for at a time, and whether
//! they may still open the app. It ends with the answer, or earlier: when access is taken away, or expires.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use marmot_core::AppName;

use crate::limits::{Counted, InUse, Under};
use crate::opening::{Admission, Caller};
use crate::shared::Shared;

/// The clock on the wall may be set: it is looked at again at least this often.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Places that are taken while a request is under way.
#[derive(Debug, Default)]
pub(crate) struct Places {
    pub(crate) key: Option<InUse>,
    pub(crate) visitor: Option<Counted>,
    pub(crate) project: Option<Under>,
}

/// The right to go on.
pub(crate) struct Stay {
    pub(crate) caller: Caller,
    /// When it ends whatever happens, since 1970.
    until: Option<Duration>,
    /// Which version of everybody's access it was last checked by.
    epoch: u64,
    /// Waits for its end; only where an answer takes long.
    lost: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    places: Places,
}

impl Stay {
    /// For who was let in by the routes as they are, since before `epoch` was read.
    pub(crate) fn new(caller: Caller, until: Option<Duration>, epoch: u64, places: Places) -> Self {
        Self { caller, until, epoch, lost: None, places }
    }

    /// Who has it, and the places that are taken.
    pub(crate) fn into_parts(self) -> (Caller, Places) {
        (self.caller, self.places)
    }

    /// Whether it has ended. Cheap while nothing has changed.
    pub(crate) fn is_over(&mut self, shared: &Shared, app: &AppName) -> bool {
        let epoch = shared.epoch.load(Ordering::Acquire);
        if epoch == self.epoch && self.until.is_none_or(|end| end > shared.tickets.time()) {
            return false;
        }
        self.epoch = epoch;
        matches!(may_open(shared, app, &self.caller), Admission::No)
    }

    /// Ready when it has ended; else the task is woken when it does.
    pub(crate) fn poll_over(
        &mut self,
        shared: &Arc<Shared>,
        app: &AppName,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let lost = self.lost.get_or_insert_with(|| Box::pin(lost(shared, app, &self.caller)));
        lost.as_mut().poll(cx)
    }
}

/// Whether this one may open an app as of now. An app that is gone is told of elsewhere.
fn may_open(shared: &Shared, app: &AppName, caller: &Caller) -> Admission {
    let routes = shared.routes.borrow();
    let route = routes.get(app.as_str());
    route.map_or(Admission::Until(None), |route| route.access.admits(caller, shared.tickets.time()))
}

/// Waits until this one may not open the app any more.
pub(crate) fn lost(
    shared: &Arc<Shared>,
    app: &AppName,
    caller: &Caller,
) -> impl Future<Output = ()> + Send + 'static {
    let (shared, app, caller) = (Arc::clone(shared), app.clone(), caller.clone());
    async move {
        let mut may_end = shared.sessions_may_end.subscribe();
        loop {
            let Admission::Until(end) = may_open(&shared, &app, &caller) else { return };
            tokio::select! {
                changed = may_end.changed() => if changed.is_err() { std::future::pending().await },
                () = expires(&shared, end) => {}
            }
        }
    }
}

/// Waits until this moment, since 1970, or for a while: then it is to be looked at again.
pub(crate) async fn expires(shared: &Shared, end: Option<Duration>) {
    match end {
        Some(end) => tokio::time::sleep(end.saturating_sub(shared.tickets.time()).min(LOOK_AGAIN)).await,
        None => std::future::pending().await,
    }
}
