//! Composes a server: database, service, lifecycle, engine, gateway, API and pages; starts and stops them in order.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use marmot_core::{Clock, Moment};
use marmot_engine::build::{self, BuildContext, Planner, operators_environment};
use marmot_engine::{Engine, EngineConfig, Logs, Observed, ShimCommand};
use marmot_gateway::routes::Rate;
use marmot_gateway::{Certificates, Gateway, GatewayConfig, Listeners, Scheme, Tickets, Tls};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::acme::Keeper;
use crate::config::{self, Settings};
use crate::db::Db;
use crate::db::lock::{self, DataDirLock};
use crate::lifecycle::{self, Lifecycle};
use crate::service::{Demands, Live, MEASURED, Options, Service, Shown};
use crate::{api, identity_keys, private_file, thumbnails, web};

/// The hidden sub-command that supervises a replica: [`marmot_engine::shim::main`].
pub const SHIM: &str = "replica-shim";

/// How much longer than an app may take to start a request waits for it, so that the reason of a start that failed
/// reaches those who wait.
const BEYOND_START: Duration = Duration::from_secs(10);

/// A head of less would not hold what browsers send.
const LEAST_HEADER_BYTES: usize = 8 * 1024;

/// How often it is noted how links and keys are used: a crash loses no more than that.
const USAGE_NOTED: Duration = Duration::from_secs(30);
/// How often the database's room on the disk is looked after.
const ROOM_KEPT: Duration = Duration::from_secs(30);

/// How often it is looked for branches and previews that are due though nothing is known to be: another process may
/// have written.
const LOOK_AROUND: Duration = Duration::from_secs(60);

/// A server that has started; it serves once it is [run](Server::run).
#[derive(Debug)]
pub struct Server {
    service: Service,
    engine: Engine,
    gateway: Gateway,
    platform: axum::Router,
    sockets: Vec<std::net::TcpListener>,
    redirect: Option<TcpListener>,
    stop: CancellationToken,
    db: Db,
    /// Owns what runs beside the gateway.
    tasks: TaskTracker,
    /// Stops what runs beside the gateway, once the gateway is done.
    stop_tasks: CancellationToken,
    _lock: DataDirLock,
}

impl Server {
    /// Opens the data directory, finds again what an earlier server left running, and gets ready to serve on
    /// `sockets`, which listen at the same address, until `stop`. `demo`: the link that signs a visitor in, where this is a demo.
    ///
    /// # Errors
    /// In words for the operator: what cannot be used, and why.
    pub async fn start(
        settings: &Settings,
        sockets: Vec<std::net::TcpListener>,
        demo: Option<web::Demo>,
        stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        let data_dir = settings.data_dir()?;
        let lock = lock::take(&data_dir)?;
        let first = sockets.first().context("there is no socket to listen on")?;
        let listen = first.local_addr().context("cannot tell where the server listens")?;
        let url = settings.database_url.as_ref().map(|url| url.reveal());
        let db = Db::open(url, &data_dir).await?;
        let clock = clock();
        let redirect = match settings.redirect_listen {
            Some(address) => Some(
                TcpListener::bind(address)
                    .await
                    .with_context(|| format!("cannot listen on `redirect_listen`, {address}"))?,
            ),
            None => None,
        };

        let engine_config = engine_config(settings, &data_dir)?;
        // The service looks at what the engine sees; the engine starts when the service can say what should run.
        let (observed, seen) = watch::channel(Arc::new(Observed::default()));
        let live = Live {
            observed: seen,
            demands: Demands::new(clock.clone()),
            clock: clock.clone(),
            logs: Logs::new(data_dir.clone()),
            storage: marmot_engine::Storage::new(data_dir.clone()),
            planner: Some(Planner::new(Arc::clone(&engine_config.build))),
        };
        let vault = settings.vault(&data_dir)?;
        let options = Options { push: settings.push()?, ..settings.options(listen) };
        let service = Service::new(db.clone(), live, options, vault);
        service.check_vault().await.context("cannot open the secrets in the database")?;
        if !settings.allow_unconfined && !can_confine(settings).await {
            tracing::warn!("apps are not confined here: only operators may build and run them");
            service.trust_operators_alone();
        }
        let tickets = Arc::new(Tickets::new(signing_key(&data_dir)?));
        let identities = identity_keys::open(&data_dir, &settings.public_url(listen).to_string())?;

        let mut lifecycle =
            Lifecycle::new(service.clone(), clock.clone()).await.context("cannot read the database")?;
        let engine = Engine::start(engine_config, lifecycle.wanted(), clock.clone()).await?;

        lifecycle.publish(&engine.observed().borrow());
        let nudge = engine.nudge();
        let mut gateway_config = gateway_config(settings, listen);
        let keeper = match settings.acme(listen)? {
            Some(setup) => Some(Keeper::open(&data_dir, setup, Arc::new(jiff::Timestamp::now))?),
            None => None,
        };
        gateway_config.tls = tls(settings, listen, keeper.as_ref())?;
        let certificates = gateway_config.tls.as_ref().map(|tls| Arc::clone(&tls.certificates));
        let gateway = Gateway::new(
            gateway_config,
            lifecycle.routes(),
            clock,
            move |app| nudge.app(app),
            Arc::clone(&tickets),
        )
        .with_identities(Arc::clone(&identities))
        .with_logs(lifecycle.log_source(Logs::new(data_dir.clone()), engine.observed()));
        let pages = web::router(
            service.clone(),
            web::Options { demo, tickets, identities: Arc::clone(&identities), stop: stop.clone() },
        );
        let platform =
            api::router(service.clone()).merge(pages).layer(axum::middleware::map_request(tell_peer));

        let (tasks, stop_tasks) = (TaskTracker::new(), CancellationToken::new());
        if let Some(certificates) = certificates {
            let orders = keeper.as_ref().map(Keeper::counts);
            service.show_certificates(Shown { certificates: Arc::clone(&certificates), orders });
            if let Some(keeper) = keeper {
                // Orders need a gateway that shows proofs.
                tasks.spawn(keeper.run(certificates, lifecycle.routes(), stop.clone()));
            }
        }
        tasks.spawn(lifecycle.run(engine.observed(), stop_tasks.clone()));
        tasks.spawn(lifecycle::keep_record(service.clone(), engine.take_events()));
        tasks.spawn(keep_usage(service.clone(), stop_tasks.clone()));
        tasks.spawn(look_around(service.clone(), stop_tasks.clone()));
        tasks.spawn(keep_history(service.clone(), stop_tasks.clone()));
        tasks.spawn(keep_room(db.clone(), stop_tasks.clone()));
        tasks.spawn(identity_keys::rotate(data_dir.clone(), identities, stop_tasks.clone()));
        tasks.spawn(end_streams(service.clone(), stop.clone()));
        tasks.spawn(relay(engine.observed(), observed, stop_tasks.clone()));
        match engine.photographer() {
            Some(photographer) => {
                let every = settings.thumbnails_every;
                service.keep_pictures_in(data_dir.join("pictures"));
                tasks.spawn(thumbnails::take(
                    service.clone(),
                    photographer,
                    engine.observed(),
                    every,
                    stop.clone(),
                ));
            }
            None if settings.thumbnails.is_some() => {
                tracing::warn!("no pictures are taken of apps: the browser could not be confined here");
            }
            None => {}
        }
        Ok(Self {
            service,
            engine,
            gateway,
            platform,
            sockets,
            redirect,
            stop,
            db,
            tasks,
            stop_tasks,
            _lock: lock,
        })
    }

    /// What the product can do, for those who compose more around it.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Serves until it is to stop: then it accepts nothing new, finishes what is in flight, and winds down. What happens
    /// to replicas is asked at the end.
    ///
    /// # Errors
    /// When the gateway fails.
    pub async fn run(self, replicas: impl FnOnce() -> Replicas) -> anyhow::Result<()> {
        let mut listeners = Listeners::from(self.sockets);
        if let Some(redirect) = self.redirect {
            listeners = listeners.and(redirect.into_std().context("cannot use the listening socket")?);
        }
        let served = self.gateway.serve(listeners, self.platform, self.stop).await;
        // The engine goes first, so that the last it sees is still written down.
        match replicas() {
            Replicas::AsSet => self.engine.stop().await,
            Replicas::Keep => self.engine.leave().await,
        }
        self.stop_tasks.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.db.close().await;
        served.context("the gateway failed")
    }
}

/// What happens to replicas when the server ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replicas {
    /// As the setting `replicas_on_stop` says.
    AsSet,
    /// They go on, for the server that follows at once.
    Keep,
}

/// Whether apps can be, and are to be, shut off from the machine.
async fn can_confine(settings: &Settings) -> bool {
    settings.confinement == config::Confinement::Auto
        && tokio::task::spawn_blocking(marmot_engine::can_confine).await.unwrap_or(false)
}

/// Tells handlers where a request comes from, in the way axum's extractors look for it.
async fn tell_peer(mut request: axum::extract::Request) -> axum::extract::Request {
    if let Some(peer) = request.extensions().get::<marmot_gateway::Peer>().copied() {
        request.extensions_mut().insert(axum::extract::ConnectInfo(peer.0));
    }
    request
}

/// Ends the event streams of the API when the server is to stop: they would last as long as somebody listens.
async fn end_streams(service: Service, stop: CancellationToken) {
    stop.cancelled().await;
    service.stopping().cancel();
}

/// Notes from time to time, and at the end, how links and keys are used.
async fn keep_usage(service: Service, stop: CancellationToken) {
    let mut look = tokio::time::interval(USAGE_NOTED);
    loop {
        let last = tokio::select! {
            _ = look.tick() => false,
            () = stop.cancelled() => true,
        };
        if let Err(error) = service.note_usage().await {
            tracing::warn!(%error, "cannot note how links and keys are used; will try again");
        }
        if last {
            return;
        }
    }
}

/// Looks at branches that are due, and ends previews whose time has come. One task for all of them: it sleeps until the
/// next is due, or something was written.
async fn look_around(service: Service, stop: CancellationToken) {
    let mut written = service.written();
    while !stop.is_cancelled() {
        written.borrow_and_update();
        let now = jiff::Timestamp::now();
        let done = async {
            let ends = service.end_old_previews(now).await?;
            Ok::<_, crate::service::Error>((ends, service.look_at_branches(now).await?))
        };
        let next = tokio::select! {
            () = stop.cancelled() => return,
            done = done => match done {
                Ok((ends, looks)) => ends.into_iter().chain(looks).min(),
                Err(error) => {
                    tracing::warn!(%error, "cannot look at branches; will try again");
                    None
                }
            },
        };
        let until = |next: jiff::Timestamp| Duration::try_from(next.duration_since(jiff::Timestamp::now()));
        // What another process writes is found by looking again.
        let pause = next.map_or(LOOK_AROUND, |next| until(next).unwrap_or_default());
        let pause = pause.clamp(Duration::from_secs(1), LOOK_AROUND);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            changed = written.changed() => if changed.is_err() { return },
        }
    }
}

/// Measures and notes what apps are used for and what they take, and at the end what is left.
async fn keep_history(service: Service, stop: CancellationToken) {
    let mut look = tokio::time::interval(MEASURED);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let last = tokio::select! {
            _ = look.tick() => false,
            () = stop.cancelled() => true,
        };
        if let Err(error) = service.keep_history(jiff::Timestamp::now(), last).await {
            tracing::warn!(%error, "cannot note what apps are used for; will try again");
        }
        if last {
            return;
        }
    }
}

/// Keeps room on the disk for the database, and says once when there is none to keep.
async fn keep_room(db: Db, stop: CancellationToken) {
    let mut look = tokio::time::interval(ROOM_KEPT);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told = false;
    loop {
        tokio::select! {
            _ = look.tick() => {}
            () = stop.cancelled() => return,
        }
        match db.keep_room().await {
            Ok(()) => told = false,
            Err(_) if told => {}
            Err(error) => {
                told = true;
                let mib = crate::db::RESERVE >> 20;
                tracing::warn!(%error, "no {mib} MiB of the disk can be kept for the database: who fills it stops the platform");
            }
        }
    }
}

/// Hands on what the engine sees.
async fn relay(
    mut from: watch::Receiver<Arc<Observed>>,
    to: watch::Sender<Arc<Observed>>,
    stop: CancellationToken,
) {
    loop {
        to.send_replace(Arc::clone(&from.borrow_and_update()));
        tokio::select! {
            changed = from.changed() => if changed.is_err() { return },
            () = stop.cancelled() => return,
        }
    }
}

/// Tells the time since the server's start.
fn clock() -> Clock {
    let start = Instant::now();
    Clock::new(move || Moment::START + start.elapsed())
}

fn engine_config(settings: &Settings, data_dir: &Path) -> anyhow::Result<EngineConfig> {
    let marmot = std::env::current_exe().context("cannot find the program that is running")?;
    let uv = settings.uv.clone().or_else(|| find("uv")).unwrap_or_else(|| {
        tracing::warn!(
            "`uv` is not installed: apps in Python cannot be built (install it, or name it by `uv`)"
        );
        PathBuf::from("uv")
    });
    let git = find("git").unwrap_or_else(|| {
        tracing::warn!("`git` is not installed: apps cannot be built from code");
        PathBuf::from("git")
    });
    let mut build = BuildContext::new(uv, git, marmot.clone(), data_dir.join("cache"));
    build.allow_local_repositories = settings.allow_local_repositories;
    build.allow_private_networks = settings.allow_private_networks;
    build.allow_python_downloads = settings.python_downloads;
    build.limits.memory_bytes = settings.build_memory_limit.0;
    build.limits.disk_bytes = settings.build_disk_limit.0;
    build.limits.reserve_bytes = settings.disk_reserve.0;
    build.cache_bytes = settings.cache_limit.0;
    build.environment = operators_environment(std::env::vars());
    build.base_image = settings.base_image.as_ref().map(|image| image.0.clone());
    build.buildpacks = settings.buildpacks_builder.as_ref().map(|builder| build::Buildpacks {
        builder: builder.0.clone(),
        run_image: settings.buildpacks_run_image.as_ref().map(|image| image.0.clone()),
    });
    build.local_images.clone_from(&settings.local_images.0);
    build.network = match settings.builds_network {
        config::BuildsNetwork::Fenced => build::BuildsNetwork::Fenced,
        config::BuildsNetwork::Shared => build::BuildsNetwork::Shared,
    };
    build.may_reach.clone_from(&settings.builds_may_reach.0);
    let shim = ShimCommand { program: marmot, args: vec![SHIM.to_owned()] };
    Ok(EngineConfig {
        builds_at_once: settings.builds_at_once.map(|builds| builds as usize),
        boots_at_once: settings.boots_at_once.map(|boots| boots as usize),
        replicas_on_stop: match settings.replicas_on_stop {
            config::OnStop::Keep => marmot_engine::OnStop::Keep,
            config::OnStop::Stop => marmot_engine::OnStop::Stop,
        },
        memory_budget: settings.memory_budget.map(|bytes| bytes.0),
        apps_may_reach: settings.apps_may_reach.0.clone(),
        disk_bytes: settings.disk_limit.0,
        confinement: match settings.confinement {
            config::Confinement::Auto => marmot_engine::Confinement::Auto,
            config::Confinement::None => marmot_engine::Confinement::None,
        },
        browser: settings.thumbnails.clone(),
        container_engine: settings.container_engine.0.socket().unwrap_or_else(|why| {
            tracing::warn!("container images cannot be run: {why}");
            None
        }),
        ..EngineConfig::new(data_dir, shim, Arc::new(build))
    })
}

fn gateway_config(settings: &Settings, listen: SocketAddr) -> GatewayConfig {
    let public = settings.public_url(listen);
    let mut platform_hosts = vec![settings.domain.to_string(), public.host().to_owned()];
    // Whoever can reach the port by its address, reaches the platform; apps have no such address.
    match listen.ip() {
        ip if ip.is_unspecified() => platform_hosts.extend(["127.0.0.1".to_owned(), "[::1]".to_owned()]),
        IpAddr::V4(ip) => platform_hosts.push(ip.to_string()),
        IpAddr::V6(ip) => platform_hosts.push(format!("[{ip}]")),
    }
    platform_hosts.sort();
    platform_hosts.dedup();
    let held_bytes = usize::try_from(settings.held_memory.0).unwrap_or(usize::MAX);
    let limits = marmot_gateway::Limits {
        stop_grace: settings.stop_timeout,
        wake_timeout: settings.wake_timeout.max(settings.start_timeout + BEYOND_START),
        response_timeout: settings.response_timeout,
        lobby_after: settings.lobby_after,
        held_per_app: usize::try_from(settings.held_per_app).unwrap_or(usize::MAX),
        held_in_all: usize::try_from(settings.held_in_all).unwrap_or(usize::MAX),
        held_bytes_per_app: held_bytes / 2,
        held_bytes_in_all: held_bytes,
        session_linger: settings.session_linger,
        visitor_rate: Rate::of(settings.visitor_rate.saturating_mul(10), Duration::from_secs(10)),
        visitor_requests: settings.visitor_requests,
        header_bytes: usize::try_from(settings.header_bytes.0).unwrap_or(usize::MAX).max(LEAST_HEADER_BYTES),
        header_fields: settings.header_fields as usize,
        header_timeout: settings.header_timeout,
        idle_timeout: settings.client_idle_timeout,
        stall_timeout: settings.client_stall_timeout,
        body_rate: settings.body_rate.0,
        connections_per_client: usize::try_from(settings.connections_per_client).unwrap_or(usize::MAX),
        handshake_rate: Rate::of(
            settings.tls_handshakes_per_client.saturating_mul(10),
            Duration::from_secs(10),
        ),
        handshakes_at_once: u32::try_from(settings.tls_handshakes_at_once).unwrap_or(u32::MAX),
        wake_rate: Rate::at_most(settings.wakes_per_minute, Duration::from_secs(60)),
        ..Default::default()
    };
    GatewayConfig {
        platform_hosts,
        apps_domain: settings.apps_domain().to_string(),
        platform_url: public.to_string(),
        scheme: if public.scheme == "https" { Scheme::Https } else { Scheme::Http },
        tls: None,
        trusted_proxies: settings.trusted_proxies.clone().unwrap_or_default(),
        access_log: settings.access_log.0.clone(),
        cores: marmot_gateway::config::cores(),
        limits,
    }
}

/// What visitors are shown: from files, what is ordered, or both.
fn tls(settings: &Settings, listen: SocketAddr, keeper: Option<&Keeper>) -> anyhow::Result<Option<Tls>> {
    let files = match (&settings.tls_certificate, &settings.tls_key) {
        (Some(certificate), Some(key)) => {
            let more = settings.tls_certificates.clone();
            Some(Certificates::read(certificate.clone(), key.clone(), more).context("cannot use TLS")?)
        }
        _ => None,
    };
    let certificates = match (files, keeper) {
        (None, None) => return Ok(None),
        (Some(files), None) => files,
        (None, Some(keeper)) => Certificates::issued(keeper.issued())?,
        (Some(files), Some(keeper)) => files.and_issued(keeper.issued())?,
    };
    let port = settings.public_url(listen).port().unwrap_or(443);
    Ok(Some(Tls { certificates: Arc::new(certificates), port }))
}

/// Finds a program on the `PATH`.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// The key that signs visitors' tickets, made at the first start. Without it, everybody would have to sign in again
/// after each restart.
fn signing_key(data_dir: &Path) -> anyhow::Result<[u8; 32]> {
    let path = data_dir.join("signing.key");
    match std::fs::read(&path) {
        Ok(key) => key.try_into().map_err(|_| {
            anyhow::anyhow!(
                "`{}` is damaged: remove it, and everybody signs in to apps again",
                path.display()
            )
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key: [u8; 32] = rand::random();
            private_file::write(&path, &key).with_context(|| format!("cannot write `{}`", path.display()))?;
            Ok(key)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read `{}`", path.display())),
    }
}
