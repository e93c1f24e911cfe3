//! What the product can do. The API and the pages call this and nothing else.
//!
//! Every operation takes the [`Identity`] of who asks, and decides by [`permission`] whether it may be done. What it
//! returns is up to date: phases are derived on the spot from the database, the engine's picture and the demand.

mod accounts;
mod answers;
mod app_secrets;
mod app_view;
mod apps;
mod audit;
mod beginnings;
mod builds;
mod call;
mod certificates;
mod changes;
mod classes;
mod credentials;
mod doors;
mod error;
mod following;
mod gallery;
mod groups;
mod history;
mod hooks;
mod launchers;
mod lifecycle;
mod limits;
mod links;
mod machine;
mod meters;
mod opening;
mod passwords;
mod people;
pub mod permission;
mod pictures;
mod plans;
mod previews;
mod projects;
mod providers;
mod revisions;
mod scaling;
mod secrets;
mod sessions;
mod tokens;
mod traffic;
mod tries;
mod usages;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use marmot_core::id::UserId;
use marmot_core::said;
use marmot_core::scaling::Policy;
use marmot_core::{AppName, Clock, Demand};
use marmot_engine::Observed;
use marmot_engine::Storage;
use marmot_engine::build::Planner;
use marmot_engine::logs::Logs;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use accounts::NewUser;
pub use answers::{Attempt, Claim};
pub use app_secrets::SecretsOf;
pub use app_view::{AppState, AppView, BuildView, Can, Failure, LauncherView, ReplicaView};
pub use beginnings::Beginning;
pub use call::Call;
pub use certificates::Shown;
pub use changes::Changes;
pub use credentials::{Login, NewCredential};
pub use error::{Error, Field, Result};
pub use following::{FollowingPatch, FollowingView};
pub use groups::{GroupPatch, NewGroup};
pub use history::MEASURED;
pub use hooks::{Message, Proof};
pub use launchers::{LauncherPatch, NewLauncher};
pub use lifecycle::{ActiveApp, Address, BuildEnd, Picture};
pub use limits::LimitsView;
pub use links::{LinkFor, PasswordLink};
pub use machine::{Eviction, Machine};
pub use meters::Meters;
pub use opening::{Invited, NewGrant, OpeningView};
pub use people::UserPatch;
pub use permission::{Action, Errand, Identity, Scope};
pub use plans::{engine_builder, engine_login, wanted_build};
pub use projects::{MemberChange, NewProject, ProjectPatch, Whom};
pub use providers::Returned;
pub use scaling::ScalingView;
pub use sessions::SignedIn;
pub use tokens::NewToken;
pub use traffic::TrafficView;

use crate::db::Db;
pub use crate::db::projects::Filter as ProjectFilter;
use crate::model::{ProjectLimits, ResourceClass, Secret};
use crate::oidc::{Provider, ProviderConfig};
use crate::vault::Vault;

/// The engine's side, as far as the service needs it.
#[derive(Debug, Clone)]
pub struct Live {
    /// What the engine sees.
    pub observed: watch::Receiver<Arc<Observed>>,
    /// One counter per app.
    pub demands: Demands,
    /// Tells the time that [`Demand`] counts in.
    pub clock: Clock,
    /// The logs of apps and builds.
    pub logs: Logs,
    /// Counts what is on disk.
    pub storage: Storage,
    /// Looks at code; absent where nothing is built.
    pub planner: Option<Planner>,
}

/// One [`Demand`] per app, the same for all of its life in this process: shared by gateway, engine and service.
#[derive(Debug, Clone)]
pub struct Demands {
    of: Arc<Mutex<HashMap<AppName, Arc<Demand>>>>,
    clock: Clock,
}

impl Demands {
    /// No counters yet; those to come count on this clock.
    pub fn new(clock: Clock) -> Self {
        Self { of: Arc::default(), clock }
    }

    /// The counter of this app, made when it is asked for the first time.
    pub fn of(&self, app: &AppName) -> Arc<Demand> {
        let mut demands = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Demand::new(self.clock.clone()));
        Arc::clone(demands.entry(app.clone()).or_insert_with(new))
    }

    /// Forgets the counters of apps that `keep` does not name and that nobody else holds.
    pub fn retain(&self, keep: impl Fn(&AppName) -> bool) {
        let mut demands = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        demands.retain(|app, demand| keep(app) || Arc::strong_count(demand) > 1);
    }
}

/// What an installation offers.
#[derive(Debug, Clone)]
pub struct Options {
    /// The platform's own address, without a slash at its end: `http://localhost:8080`.
    pub public_url: String,
    /// `http` or `https`, for apps.
    pub apps_scheme: String,
    /// The domain of apps with its port, where that is not the scheme's own: `localhost:8080`.
    pub apps_authority: String,
    /// Code may come from a path of this machine.
    pub allow_local_repositories: bool,
    /// Container images can be run.
    pub containers: bool,
    /// Images can be made of code that has no `Dockerfile`.
    pub makes_images: bool,
    /// Images can be made by buildpacks.
    pub buildpacks: bool,
    /// Where images that are made here are given to.
    pub push: Option<PushTo>,
    /// What replicas may use.
    pub resource_classes: Vec<ResourceClass>,
    /// The rules that replicas live by where nobody has said anything about their app.
    pub policy: Policy,
    /// The most replicas that an app may have.
    pub max_replicas: u32,
    /// How long previews of branches stay where nobody says otherwise, in days.
    pub preview_days: u32,
    /// Bytes that the body of a request may have, whatever is said for an app; as many as one likes when absent.
    pub body_limit: Option<u64>,
    /// What all replicas together may hold of the machine's memory, in bytes, where the operator has said so.
    pub memory_budget: Option<u64>,
    /// What the apps and builds of a project may use together, where nothing was said for it.
    pub limits: ProjectLimits,
    /// How people come in.
    pub people: People,
}

/// The registry that is given the images that are made here.
#[derive(Debug, Clone)]
pub struct PushTo {
    /// The name they are given, with `{namespace}`, `{project}`, `{app}` and `{build}` to be replaced.
    pub template: String,
    /// What is shown to the registry: a name and a password.
    pub login: Option<(String, Secret)>,
    /// A build whose image the registry does not take, fails.
    pub must: bool,
}

impl PushTo {
    /// The name of one image.
    pub fn name(&self, namespace: &str, project: &str, app: &str, build: &str) -> String {
        let replaced =
            [("{namespace}", namespace), ("{project}", project), ("{app}", app), ("{build}", build)];
        replaced.iter().fold(self.template.clone(), |name, (mark, word)| {
            // What is an id here is written in small letters there.
            name.replace(mark, &word.to_ascii_lowercase())
        })
    }
}

/// How people come in, and for how long.
#[derive(Debug, Clone)]
pub struct People {
    /// A session ends this long after it was last used.
    pub session_idle: Duration,
    /// A session ends this long after sign-in, whatever happens.
    pub session_life: Duration,
    /// Identity providers that they may come by.
    pub providers: Vec<ProviderConfig>,
}

impl Default for People {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 3600);
        Self { session_idle: 7 * day, session_life: 30 * day, providers: Vec::new() }
    }
}

impl Options {
    /// The address people open an app at, without a path.
    pub fn app_url(&self, app: &AppName) -> String {
        format!("{}://{app}.{}", self.apps_scheme, self.apps_authority)
    }
}

/// What the product can do. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    db: Db,
    live: Live,
    options: Options,
    /// Counts what was written, for those who wait for news.
    written: watch::Sender<u64>,
    /// The last of what was written that is in force; `None` while nobody carries it out.
    in_force: watch::Sender<Option<u64>>,
    passwords: passwords::Passwords,
    tries: tries::Tries,
    looks: plans::Looks,
    stopping: CancellationToken,
    /// Nothing keeps apps from the machine here, so only operators may say what runs.
    operators_alone: AtomicBool,
    meters: Meters,
    history: history::History,
    vault: Vault,
    /// What webhooks have told.
    heard: hooks::Heard,
    providers: Vec<Provider>,
    usages: usages::Usages,
    /// What visitors are shown, where TLS ends here.
    certificates: OnceLock<Shown>,
    /// Where the pictures of apps are kept, where there are any.
    pictures: OnceLock<PathBuf>,
    /// What becomes of traces, where somebody collects them.
    spans: OnceLock<Arc<marmot_gateway::trace::Counts>>,
    /// Everybody with an account, as the lifecycle last read it.
    accounts: Mutex<Arc<BTreeSet<UserId>>>,
}

impl Service {
    /// The service over this database and engine. `vault` opens what is sealed in the database.
    pub fn new(db: Db, live: Live, options: Options, vault: Vault) -> Self {
        let providers = options.people.providers.iter().cloned();
        let providers = providers.map(|provider| Provider::new(provider, &options.public_url)).collect();
        let inner = Inner {
            db,
            live,
            options,
            providers,
            written: watch::Sender::new(0),
            in_force: watch::Sender::new(None),
            passwords: passwords::Passwords::new(),
            tries: tries::Tries::default(),
            looks: plans::Looks::default(),
            stopping: CancellationToken::new(),
            operators_alone: AtomicBool::new(false),
            meters: Meters::default(),
            history: history::History::default(),
            vault,
            heard: hooks::Heard::default(),
            usages: usages::Usages::default(),
            certificates: OnceLock::new(),
            pictures: OnceLock::new(),
            spans: OnceLock::new(),
            accounts: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// From now on only operators may say what is built and run, and apps that others switched on do not run: nothing
    /// here keeps an app from the machine and from other apps.
    pub fn trust_operators_alone(&self) {
        self.inner.operators_alone.store(true, Ordering::Relaxed);
    }

    fn operators_alone(&self) -> bool {
        self.inner.operators_alone.load(Ordering::Relaxed)
    }

    /// Whether somebody may say what is built and run.
    fn may_run_code(&self, who: &Identity) -> Result<()> {
        if !self.operators_alone() || who.is_admin() {
            return Ok(());
        }
        Err(Error::NotOffered {
            message: said!(
                "not-confined",
                "apps are not confined on this server, so only its operators may build and run them; an operator \
                 can confine them (`marmot doctor` says how), or trust everybody (`allow_unconfined`)"
            ),
        })
    }

    /// What this installation offers.
    pub fn options(&self) -> &Options {
        &self.inner.options
    }

    /// What replicas may use. Not everybody may choose each of them.
    pub fn resource_classes(&self) -> &[ResourceClass] {
        &self.inner.options.resource_classes
    }

    /// One counter per app.
    pub fn demands(&self) -> &Demands {
        &self.inner.live.demands
    }

    /// One meter per app.
    pub fn meters(&self) -> &Meters {
        &self.inner.meters
    }

    /// From now on, this is what becomes of traces.
    pub fn count_spans(&self, counts: Arc<marmot_gateway::trace::Counts>) {
        // Said once, at the start.
        let _ = self.inner.spans.set(counts);
    }

    /// What becomes of traces; `None`: nobody collects them.
    pub fn spans(&self) -> Option<&marmot_gateway::trace::Counts> {
        self.inner.spans.get().map(Arc::as_ref)
    }

    /// What the engine sees at the moment.
    pub fn observed(&self) -> Arc<Observed> {
        Arc::clone(&self.inner.live.observed.borrow())
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<()> {
        Ok(self.inner.db.ping().await?)
    }

    /// To be cancelled when the server begins to stop: ends the streams that pages and clients have open.
    pub fn stopping(&self) -> CancellationToken {
        self.inner.stopping.clone()
    }

    fn vault(&self) -> &Vault {
        &self.inner.vault
    }

    fn db(&self) -> &Db {
        &self.inner.db
    }

    /// Notes that what was written up to this version is in force: requests are treated by it from now on.
    pub fn carried_out(&self, version: u64) {
        self.inner.in_force.send_replace(Some(version));
    }

    /// Like [`Service::wrote`], and waits until it is in force: whoever is told that an app is off can rely on it.
    async fn wrote_and_in_force(&self) {
        /// Carrying it out takes milliseconds. Should the lifecycle hang, it comes true later, and nothing is lost.
        const AT_MOST: std::time::Duration = std::time::Duration::from_secs(2);
        self.wrote();
        let version = *self.inner.written.borrow();
        let mut in_force = self.inner.in_force.subscribe();
        let done = in_force.wait_for(|done| done.is_none_or(|done| done >= version));
        if tokio::time::timeout(AT_MOST, done).await.is_err() {
            tracing::warn!("what was written is not in force yet");
        }
    }

    /// To be called after every committed change that others may want to see.
    fn wrote(&self) {
        self.inner.written.send_modify(|version| *version = version.wrapping_add(1));
    }
}

/// The time on the wall clock, as the database stores it: to the millisecond.
fn now() -> Timestamp {
    Timestamp::from_millisecond(Timestamp::now().as_millisecond()).unwrap_or_default()
}

/// A fresh id, later in order than all before it in this process: lists by id are lists by age.
fn fresh<Id: From<u128>>() -> Id {
    Id::from(fresh_ulid().into())
}

fn fresh_ulid() -> ulid::Ulid {
    static GENERATOR: Mutex<ulid::Generator> = Mutex::new(ulid::Generator::new());
    let mut generator = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    // Only 2^80 ids within one millisecond exhaust it; a random one is as good then.
    generator.generate().unwrap_or_else(|_| ulid::Ulid::generate())
}
