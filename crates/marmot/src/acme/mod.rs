//! Certificates by ACME (RFC 8555): for the platform's host and for that of each app that is on, kept on disk and renewed
//! in good time.
//!
//! Only hosts that exist are ordered for: what strangers ask for costs nothing. A certificate that is there is shown until
//! another has taken its place, whatever becomes of its renewal.

mod asker;
mod authority;
mod plan;
mod store;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use marmot_gateway::routes::{Route, RouteState};
use marmot_gateway::{Certificates, Issued, Routes, Validity};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use url::Url;

use authority::{Authority, Fault};
use plan::{Book, Facts};
pub(crate) use store::Store;

/// It is looked at least this often what is due: the clock may be set, and files may have come that are good for a host.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// How we appear to an authority, whose terms the operator has agreed to.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Where the authority says what it offers.
    pub directory: Url,
    /// Whom the authority can tell what goes wrong.
    pub contact: Option<String>,
    /// The certificate that the authority's own is issued by, where nobody else knows it.
    pub root: Option<PathBuf>,
    /// Who we are to the authority already: the id of a key, and the key.
    pub external_account: Option<(String, Vec<u8>)>,
}

/// How it is proved that a host is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Challenge {
    /// At the port of `https://`.
    TlsAlpn,
    /// At port 80.
    Http,
}

/// What is ordered, and how.
#[derive(Debug, Clone)]
pub struct Setup {
    /// How we appear.
    pub terms: Terms,
    /// What is tried, each after the other has failed.
    pub challenges: Vec<Challenge>,
    /// The platform's hosts, the one first that is shown to those who ask for a name that there is none for.
    pub own: Vec<String>,
    /// The domain below which each app has its host.
    pub apps_domain: String,
    /// Orders within an hour.
    pub orders_per_hour: usize,
}

/// How orders went.
#[derive(Debug, Default)]
pub struct Counts {
    issued: AtomicU64,
    failed: AtomicU64,
    failing: AtomicU64,
}

impl Counts {
    /// How many certificates were issued.
    pub fn issued(&self) -> u64 {
        self.issued.load(Ordering::Relaxed)
    }

    /// How many orders failed.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// For how many hosts the last order failed.
    pub fn failing(&self) -> u64 {
        self.failing.load(Ordering::Relaxed)
    }
}

/// What tells the time.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Orders certificates, and keeps them.
pub struct Keeper {
    setup: Setup,
    own: BTreeSet<String>,
    authority: Arc<Authority>,
    store: Store,
    issued: Arc<Issued>,
    held: BTreeMap<String, Validity>,
    book: Book,
    counts: Arc<Counts>,
    now: Now,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").field("setup", &self.setup).finish_non_exhaustive()
    }
}

/// An order that has ended.
type Ended = (String, Result<Vec<u8>, Fault>);

impl Keeper {
    /// Shows what is kept in the data directory.
    ///
    /// # Errors
    /// In words for the operator: what cannot be used.
    pub fn open(data_dir: &Path, setup: Setup, now: Now) -> anyhow::Result<Self> {
        let store = Store::of(data_dir, &setup.terms.directory);
        let authority = Arc::new(Authority::new(setup.terms.clone(), store.clone())?);
        let issued = Issued::new(setup.own.first().cloned().unwrap_or_default());
        let book = store.book()?;
        let mut held = BTreeMap::new();
        for (host, pem) in store.certificates()? {
            match issued.show(&host, &pem) {
                Ok(Some(validity)) => drop(held.insert(host, validity)),
                Ok(None) => tracing::warn!(
                    host,
                    "a kept certificate does not say until when it is good; another is ordered"
                ),
                Err(error) => {
                    let error = asker::chain(&error);
                    tracing::warn!(host, error, "a kept certificate cannot be used; another is ordered");
                }
            }
        }
        let own = setup.own.iter().cloned().collect();
        Ok(Self { own, setup, authority, store, issued, held, book, counts: Arc::default(), now })
    }

    /// What there is to show, from now on.
    pub fn issued(&self) -> Arc<Issued> {
        Arc::clone(&self.issued)
    }

    /// How orders go, from now on.
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    /// Orders what is due until it is stopped. `certificates`: where files are found that are good for a host.
    pub async fn run(
        mut self,
        certificates: Arc<Certificates>,
        mut routes: watch::Receiver<Arc<Routes>>,
        stop: CancellationToken,
    ) {
        let mut seen = Arc::new(Routes::default());
        let mut hosts = self.own.clone();
        let mut orders: JoinSet<Ended> = JoinSet::new();
        let mut under_way = BTreeSet::new();
        loop {
            let now = Arc::clone(&routes.borrow_and_update());
            self.follow(&mut hosts, &now, &seen);
            seen = now;
            let pause = self.begin_what_is_due(&hosts, &certificates, &mut orders, &mut under_way).await;
            let pause = tokio::time::sleep(pause);
            tokio::pin!(pause);
            // Routes change often, and hosts seldom.
            loop {
                tokio::select! {
                    () = stop.cancelled() => return orders.shutdown().await,
                    Some(ended) = orders.join_next() => {
                        self.end(ended, &mut under_way).await;
                        break;
                    }
                    changed = routes.changed() => {
                        let now = Arc::clone(&routes.borrow_and_update());
                        let changed_hosts = self.follow(&mut hosts, &now, &seen);
                        seen = now;
                        match changed {
                            Ok(()) if changed_hosts => break,
                            Ok(()) => {}
                            Err(_) => return orders.shutdown().await,
                        }
                    }
                    () = &mut pause => break,
                }
            }
        }
    }

    /// Which hosts there are. True: others than before.
    fn follow(&self, hosts: &mut BTreeSet<String>, now: &Routes, before: &Routes) -> bool {
        let host = |route: &Route| format!("{}.{}", route.app, self.setup.apps_domain).to_ascii_lowercase();
        let mut changed = false;
        for change in now.changes_since(before) {
            let route = change.now.or(change.before);
            let Some(host) = route.map(|route| host(route)) else { continue };
            let is_on = change.now.is_some_and(|route| !matches!(route.state, RouteState::Off));
            changed |=
                if is_on { hosts.insert(host) } else { !self.own.contains(&host) && hosts.remove(&host) };
        }
        changed
    }

    /// Begins the orders that are due. How long to wait before the next may be.
    async fn begin_what_is_due(
        &mut self,
        hosts: &BTreeSet<String>,
        certificates: &Certificates,
        orders: &mut JoinSet<Ended>,
        under_way: &mut BTreeSet<String>,
    ) -> Duration {
        let now = (self.now)();
        let wanted: BTreeSet<String> =
            hosts.iter().filter(|host| !certificates.has_file_for(host)).cloned().collect();
        self.forget_what_has_ended(&wanted, now);
        let facts = Facts {
            wanted: &wanted,
            own: &self.own,
            held: &self.held,
            under_way,
            book: &self.book,
            per_hour: self.setup.orders_per_hour,
        };
        let next = plan::next(&facts, now);
        let begins = !next.begin.is_empty();
        for host in next.begin {
            self.book.begin(now);
            under_way.insert(host.clone());
            orders.spawn(self.order(host));
        }
        self.issued.set_expected(under_way.iter().cloned());
        if begins {
            self.keep_book().await;
        }
        let until = |at: Timestamp| Duration::try_from(at.duration_since(now)).unwrap_or_default();
        next.again_at.map_or(LOOK_AGAIN, until).min(LOOK_AGAIN)
    }

    /// A certificate for this host, or why there is none.
    fn order(&self, host: String) -> impl Future<Output = Ended> + Send + 'static {
        let (authority, issued) = (Arc::clone(&self.authority), Arc::clone(&self.issued));
        let mut challenges = self.setup.challenges.clone();
        let failures = self.book.failed.get(&host).map_or(0, |failed| failed.times as usize);
        let tried = failures % challenges.len().max(1);
        challenges.rotate_left(tried);
        tracing::info!(host, "a certificate is ordered");
        async move {
            let ordered = authority.certificate(&host, &challenges, &issued).await;
            (host, ordered)
        }
    }

    async fn end(&mut self, ended: Result<Ended, JoinError>, under_way: &mut BTreeSet<String>) {
        let Ok((host, ordered)) = ended else {
            // A bug of ours: which order it was is not known, and none of them is forgotten forever.
            under_way.clear();
            return;
        };
        let fault = match ordered {
            Ok(pem) => match self.take(&host, &pem).await {
                Ok(until) => {
                    self.book.succeed(&host);
                    self.counts.issued.fetch_add(1, Ordering::Relaxed);
                    tracing::info!(host, %until, "a certificate was issued");
                    None
                }
                Err(error) => Some(Fault::Host(format!("{error:#}"))),
            },
            Err(fault) => Some(fault),
        };
        if let Some(fault) = fault {
            self.fail(&host, fault);
        }
        under_way.remove(&host);
        self.counts.failing.store(self.book.failed.len() as u64, Ordering::Relaxed);
        self.keep_book().await;
    }

    fn fail(&mut self, host: &str, fault: Fault) {
        let now = (self.now)();
        let asked = self.authority.asked_to_wait();
        let (why, again_at) = match fault {
            Fault::Host(why) => {
                self.book.fail(host, why.clone(), asked, now);
                (why, self.book.failed.get(host).map(|failed| failed.again_at))
            }
            Fault::Authority(why) => {
                self.book.trouble(why.clone(), asked, now);
                (why, self.book.trouble.as_ref().map(|failed| failed.again_at))
            }
        };
        self.counts.failed.fetch_add(1, Ordering::Relaxed);
        let again_at = again_at.unwrap_or(now);
        match self.held.get(host).and_then(|held| Timestamp::from_second(held.until).ok()) {
            Some(until) => tracing::warn!(
                host, why, %again_at, %until, "the certificate could not be renewed; the one there is is shown on"
            ),
            None => tracing::warn!(host, why, %again_at, "no certificate could be had"),
        }
    }

    /// Shows what was issued, and keeps it. Until when it is good.
    async fn take(&mut self, host: &str, pem: &[u8]) -> anyhow::Result<Timestamp> {
        let validity = self.issued.show(host, pem).context("what was issued cannot be used")?;
        let validity = validity.context("what was issued does not say until when it is good")?;
        self.held.insert(host.to_owned(), validity);
        let (store, host, pem) = (self.store.clone(), host.to_owned(), pem.to_owned());
        // It is shown all the same; a server that starts again would order another.
        let kept = tokio::task::spawn_blocking(move || store.keep_certificate(&host, &pem)).await;
        if let Ok(Err(error)) = kept {
            tracing::error!(error = asker::chain(&error), "a certificate that was issued cannot be kept");
        }
        Ok(Timestamp::from_second(validity.until).unwrap_or(Timestamp::MAX))
    }

    /// Hosts that are gone are shown what there is as long as it is good.
    fn forget_what_has_ended(&mut self, wanted: &BTreeSet<String>, now: Timestamp) {
        self.book.failed.retain(|host, _| wanted.contains(host));
        let has_ended =
            |(host, held): &(&String, &Validity)| !wanted.contains(*host) && held.until < now.as_second();
        let ended: Vec<String> = self.held.iter().filter(has_ended).map(|(host, _)| host.clone()).collect();
        for host in ended {
            self.held.remove(&host);
            self.issued.forget(&host);
            if let Err(error) = self.store.drop_certificate(&host) {
                tracing::warn!(
                    host,
                    error = asker::chain(&error),
                    "a certificate that has ended cannot be removed"
                );
            }
        }
    }

    async fn keep_book(&self) {
        let (store, book) = (self.store.clone(), self.book.clone());
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || store.keep_book(&book)).await {
            tracing::error!(
                error = asker::chain(&error),
                "it cannot be noted how orders of certificates went"
            );
        }
    }
}
