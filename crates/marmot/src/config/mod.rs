//! Settings: what they are, where they come from, and clear refusals of wrong ones.
//!
//! Each is described once, in the table below, and can be given as a flag, a `MARMOT_…` variable or a key of the
//! file. `docs/configuration.md` is made from the same table.

mod flags;
mod providers;
mod sources;
mod values;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use marmot_core::scaling::Policy;

pub use flags::Flags;
pub use sources::{Origin as Place, Sources};
use values::Value;
pub use values::{
    AcmeChallenge, Apps, BuildsNetwork, Bytes, Confinement, ContainerEngine, Days, Destinations, Domain,
    Email, Image, ImageTemplate, Keys, LocalImages, LogFilter, LogFormat, OnStop, Origin, PushFailure,
};
pub(crate) use values::{bytes, bytes_as_typed, duration};

use marmot_gateway::Networks;

use crate::acme;
use crate::model::{ProjectLimits, ResourceClass, Secret};
use crate::oidc::ProviderConfig;
use crate::service::{Options, People, PushTo};
use crate::vault::{self, KeyError, Vault};

/// A wrong setting. Says which, where it was given, what was given, and what is allowed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value that is not allowed.
    #[error("setting `{name}` ({origin}) is `{given}`: it must be {allowed}")]
    Value {
        /// Which setting.
        name: &'static str,
        /// Where it was given.
        origin: Place,
        /// What was given; hidden where it may be a secret.
        given: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// A key that is no setting.
    #[error(
        "`{name}` ({origin}) is no setting{}",
        nearest.map(|nearest| format!(": did you mean `{nearest}`?")).unwrap_or_default()
    )]
    Unknown {
        /// The key.
        name: String,
        /// Where it was given.
        origin: Place,
        /// The setting it looks like.
        nearest: Option<&'static str>,
    },
    /// A table or list where one value belongs.
    #[error("setting `{name}` ({origin}) must be one value: text, a number, `true` or `false`")]
    Shape {
        /// Which setting.
        name: String,
        /// Where it was given.
        origin: Place,
    },
    /// Resource classes that make no sense.
    #[error("`resource_classes` ({origin}): {message}")]
    Classes {
        /// Where they were given.
        origin: Place,
        /// What is wrong.
        message: String,
    },
    /// An identity provider that cannot be used.
    #[error("`identity_providers` ({origin}): {message}")]
    Provider {
        /// Where it was given.
        origin: Place,
        /// What is wrong. Never a secret.
        message: String,
    },
    /// The file is no TOML.
    #[error("the settings {origin} cannot be read: {message}")]
    Syntax {
        /// Where.
        origin: Place,
        /// What is wrong.
        message: String,
    },
    /// The file cannot be read.
    #[error("cannot read the settings in `{}`", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Settings that make sense only together.
    #[error("`{given}` is set, but {missing}")]
    Alone {
        /// The setting that is there.
        given: &'static str,
        /// What is missing, and what to do.
        missing: &'static str,
    },
    /// There is no place for data.
    #[error("there is no home directory to keep data in: set `data_dir`")]
    NoHome,
}

/// One setting, as the reference describes it.
#[derive(Debug, Clone, Copy)]
pub struct Described {
    /// Its name in the file.
    pub name: &'static str,
    /// What the flag's value is called.
    pub shape: &'static str,
    /// The default; empty for none.
    pub default: &'static str,
    /// What it does.
    pub help: &'static [&'static str],
    /// What is allowed.
    pub allowed: &'static str,
}

macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $name:ident: $kind:ty = $default:literal, $shape:literal;)*) => {
        /// The settings of a server.
        #[derive(Debug, Clone)]
        pub struct Settings {
            $($(#[doc = $doc])+ pub $name: $kind,)*
            /// What replicas may use.
            pub resource_classes: Vec<ResourceClass>,
            /// Where people may come from besides the accounts that are here.
            pub identity_providers: Vec<ProviderConfig>,
        }

        /// Every setting that can be given as text, in the order of the reference.
        pub const SETTINGS: &[Described] = &[$(Described {
            name: stringify!($name),
            shape: $shape,
            default: $default,
            help: &[$($doc),+],
            allowed: <$kind as Value>::ALLOWED,
        }),*];

        fn read(
            sources: &Sources,
            resource_classes: Vec<ResourceClass>,
            identity_providers: Vec<ProviderConfig>,
        ) -> Result<Settings, ConfigError> {
            Ok(Settings {
                $($name: value(sources, stringify!($name), $default)?,)*
                resource_classes,
                identity_providers,
            })
        }
    };
}

settings! {
    /// Address and port to listen on, for pages, API and apps.
    listen: SocketAddr = "127.0.0.1:8080", "ADDR:PORT";
    /// The platform's own domain.
    domain: Domain = "localhost", "DOMAIN";
    /// The domain below which each app has its host: `NAME.DOMAIN`. By default `domain`. Apps are other people's code:
    /// on a server it should be a domain of its own, not one below the platform's.
    apps_domain: Option<Domain> = "", "DOMAIN";
    /// The address people reach the platform at, where something in front of it changes scheme or port.
    /// By default `http://` (`https://` with `tls_certificate` or `acme`), `domain` and the port of `listen`.
    public_url: Option<Origin> = "", "URL";
    /// A file with the certificate that visitors are shown, and those that issued it behind it, in PEM: with it and
    /// `tls_key` everything is served over TLS. It has to be good for `domain` and for every `NAME.` below
    /// `apps_domain`. Read again when it changes.
    tls_certificate: Option<PathBuf> = "", "FILE";
    /// The key of `tls_certificate`, in PEM.
    tls_key: Option<PathBuf> = "", "FILE";
    /// A directory with further certificates: each in a file `NAME.pem` or `NAME.crt`, with its key in `NAME.key` beside it.
    /// Visitors are shown the one that is good for the name they ask for, and else `tls_certificate`. Read again when
    /// something in it changes.
    tls_certificates: Option<PathBuf> = "", "DIR";
    /// Whether certificates are ordered by ACME, for `domain` and for the host of each app that is on, where none of the
    /// files above is good for it. Only once `acme_terms_agreed` says so.
    acme: bool = "false", "BOOL";
    /// Where the authority says what it offers. By default Let's Encrypt; to try things out,
    /// `https://acme-staging-v02.api.letsencrypt.org/directory`.
    acme_directory: url::Url = "https://acme-v02.api.letsencrypt.org/directory", "URL";
    /// You have read the terms of that authority and agree to them.
    acme_terms_agreed: bool = "false", "BOOL";
    /// Whom the authority tells what goes wrong.
    acme_contact: Option<Email> = "", "EMAIL";
    /// How the authority is shown that a host is ours: `tls-alpn-01`, where visitors come to port 443; `http-01`, where port
    /// 80 leads to `redirect_listen` or `listen`; `auto` tries one after the other.
    acme_challenge: AcmeChallenge = "auto", "auto|tls-alpn-01|http-01";
    /// The file with what an authority wants that knows its customers (external account binding): one line of the key's id, a
    /// colon, and the key as the authority gives it, in Base64.
    acme_binding_file: Option<PathBuf> = "", "FILE";
    /// The file with the root certificate of an authority of one's own, in PEM.
    acme_root: Option<PathBuf> = "", "FILE";
    /// How many certificates may be ordered within an hour. Let's Encrypt issues 50 a week for the hosts below one domain,
    /// renewals not counted.
    acme_orders_per_hour: u32 = "50", "NUMBER";
    /// With TLS, another address and port, at which visitors who come in plain text are sent to `https://`: usually
    /// port 80.
    redirect_listen: Option<SocketAddr> = "", "ADDR:PORT";
    /// Proxies before the server that are believed when they say where a request comes from, by `X-Forwarded-For` and
    /// `X-Forwarded-Proto` or `Forwarded`. What others say in them is removed.
    trusted_proxies: Option<Networks> = "", "NETWORKS";
    /// Where everything is kept. By default `marmot` in the user's data directory (`XDG_DATA_HOME`).
    data_dir: Option<PathBuf> = "", "DIR";
    /// The database. By default a SQLite file in the data directory.
    database_url: Option<Secret> = "", "URL";
    /// The master key that secrets are encrypted with, 64 hexadecimal digits; several separated by line breaks, the newest
    /// first. Better given as a variable than as a flag, which others can see. Without it: `secrets_key_file`.
    secrets_key: Option<Keys> = "", "KEY";
    /// A file with the master key, as in `secrets_key`. By default the systemd credential `marmot-secrets-key`, or else
    /// `secrets.key` in the data directory, made at the first start: keep a copy apart from that of the database.
    secrets_key_file: Option<PathBuf> = "", "FILE";
    /// An app that nobody uses for this long falls asleep.
    idle_after: Duration = "2m", "DURATION";
    /// A hibernated replica is stopped after this long.
    stop_after: Duration = "12h", "DURATION";
    /// A hibernated replica keeps the few megabytes that its last wake-ups used. After this long, these are paged out,
    /// too: then it takes a tenth of a second to wake.
    deepen_after: Duration = "4h", "DURATION";
    /// A replica that does not answer on its port within this time has failed.
    start_timeout: Duration = "2m", "DURATION";
    /// How long a replica that is going away may finish its requests.
    drain_timeout: Duration = "30s", "DURATION";
    /// How long a request waits for its app to wake; at least ten seconds more than `start_timeout`. Longer: 504.
    wake_timeout: Duration = "150s", "DURATION";
    /// How long an app may take to begin its answer, from when it was given the request. Longer: 504.
    response_timeout: Duration = "5m", "DURATION";
    /// A browser waits this long for an app that wakes before it is shown the lobby; where the app's own history says
    /// that it will take longer, it is shown the lobby at once.
    lobby_after: Duration = "1s", "DURATION";
    /// How many requests may wait for one app at the same time. More: 503.
    held_per_app: u64 = "10000", "NUMBER";
    /// How many requests may wait altogether. More: 503.
    held_in_all: u64 = "20000", "NUMBER";
    /// How much memory requests that wait may take altogether, those for one app half of it. More: 503.
    held_memory: Bytes = "320M", "SIZE";
    /// How long a visitor's place at a replica is kept after the last connection is closed, where sessions are counted:
    /// most who lose it come back at once.
    session_linger: Duration = "15s", "DURATION";
    /// How many requests a second one visitor may send, with ten seconds' worth at once. More: 429. A visitor is a person
    /// who has signed in, or else an address; this machine's own and trusted proxies may send as many as they like.
    visitor_rate: u32 = "200", "NUMBER";
    /// How many requests of one visitor may be under way at the same time, open WebSockets and event streams among them.
    /// More: 429.
    visitor_requests: u32 = "1000", "NUMBER";
    /// How many requests a second may be sent to all apps of a project together, with ten seconds' worth at once.
    /// More: 429. By default as many as come.
    project_rate: Option<u32> = "", "NUMBER";
    /// How many requests to all apps of a project may be under way at the same time. More: 429. By default as many as
    /// come.
    project_requests: Option<u32> = "", "NUMBER";
    /// What the body of a request to an app may have at most. More: 413. The owner of an app may allow less. By default as
    /// much as comes: bodies stream through, and are not kept.
    request_body_limit: Option<Bytes> = "", "SIZE";
    /// What the head of a request may have at most, at least 8K. More: 431.
    header_bytes: Bytes = "64K", "SIZE";
    /// How many fields the head of a request may have. More: 431. For more than 100, each request costs a little more.
    header_fields: u32 = "100", "NUMBER";
    /// How long a client may take to send the head of a request, from its first byte, and to begin TLS. Longer: 408.
    header_timeout: Duration = "10s", "DURATION";
    /// How long a client's connection may stay open between two requests.
    client_idle_timeout: Duration = "75s", "DURATION";
    /// How long a client may neither send more of a body that it announced, nor take more of an answer. Longer: its
    /// connection is closed.
    client_stall_timeout: Duration = "60s", "DURATION";
    /// How many bytes of a body a client must send within each second that it is waited for, but for the first ten seconds.
    /// Slower: its connection is closed.
    body_rate: Bytes = "240", "SIZE";
    /// How many connections one client may have at the same time, by its address. More: 429. This machine's own and trusted
    /// proxies may have as many as they like.
    connections_per_client: u64 = "1000", "NUMBER";
    /// How many handshakes of TLS one client may begin in a second, by its address, with ten seconds' worth at once. More: its
    /// connection is closed. This machine's own and trusted proxies may begin as many as they like.
    tls_handshakes_per_client: u32 = "100", "NUMBER";
    /// How many handshakes of TLS may be under way at the same time; each takes `header_timeout` at most. More: the
    /// connection is closed.
    tls_handshakes_at_once: u64 = "4000", "NUMBER";
    /// How many days previews of branches stay, where nobody says otherwise: from 1 to 90.
    preview_days: Days = "7", "DAYS";
    /// How many apps one client may wake within a minute, by its address. More: 429. What is awake it may open at any time,
    /// and this machine's own and trusted proxies may wake as many as they like.
    wakes_per_minute: u32 = "20", "NUMBER";
    /// The apps of which each request is written to the server's log: method, path without its query, status, time.
    access_log: Apps = "", "LIST";
    /// How long the server may finish requests under way when it is stopped.
    stop_timeout: Duration = "20s", "DURATION";
    /// What happens to replicas when the server stops: `keep` lets them go on for the next server, `stop` ends them.
    replicas_on_stop: OnStop = "stop", "keep|stop";
    /// How much memory replicas may hold together, awake and asleep, what is compressed in memory included; when it is
    /// more, sleepers make room: they sleep deeper, or are stopped. By default three quarters of the machine's.
    memory_budget: Option<Bytes> = "", "SIZE";
    /// The most replicas an app may have, whoever asks for how many.
    max_replicas: u32 = "10", "NUMBER";
    /// How many awake replicas the apps of a project may have together, beyond one for each.
    replicas_per_project: u32 = "20", "NUMBER";
    /// How much memory the apps of a project may use together, as the sum of what each replica that boots or is awake may
    /// use by its resource class. A replica that would go beyond it is neither started nor woken; its visitors are told. By
    /// default as much as there is.
    project_memory: Option<Bytes> = "", "SIZE";
    /// How much the results of a project's builds, and the homes and logs of its apps, may take on disk. A build that would
    /// go beyond it fails. By default as much as there is.
    project_storage: Option<Bytes> = "", "SIZE";
    /// How many builds of a project may run at the same time; the others wait. By default as many as may run at all.
    project_builds: Option<u32> = "", "NUMBER";
    /// How many builds of a project may be begun within an hour. More: 429.
    project_builds_per_hour: u32 = "60", "NUMBER";
    /// How many replicas may boot at the same time. By default as many as there are cores.
    boots_at_once: Option<u32> = "", "NUMBER";
    /// How many builds may run at the same time. By default as many as there are cores.
    builds_at_once: Option<u32> = "", "NUMBER";
    /// Whether code may come from paths of this machine: everybody who may make a launcher can then read what the
    /// server can.
    allow_local_repositories: bool = "false", "BOOL";
    /// Whether code may come from private networks and from this machine's own ports, and by plain `http://`: whoever
    /// may make a launcher can then make the server ask there.
    allow_private_networks: bool = "false", "BOOL";
    /// The `uv` program, which installs Python packages. By default the one on the `PATH`.
    uv: Option<PathBuf> = "", "FILE";
    /// Whether apps are shut off from the machine and each other: `auto` does what the machine allows.
    confinement: Confinement = "auto", "auto|none";
    /// Whether people who are no operators may run apps although nothing confines them, be it that the machine does not
    /// allow it or that `confinement` is `none`. Their code can then read and change whatever the server can.
    allow_unconfined: bool = "false", "BOOL";
    /// What apps may reach although it is private, or an address of this machine: addresses or networks over IPv4, perhaps
    /// with a port, separated by commas. By default apps reach public addresses alone.
    apps_may_reach: Destinations = "", "LIST";
    /// What builds reach: `fenced`, public addresses and the mirrors and proxies that the server's environment names, as far
    /// as the machine can tell that apart; `shared`, what the server itself reaches, with all that packages and steps of a
    /// `Dockerfile` run.
    builds_network: BuildsNetwork = "fenced", "fenced|shared";
    /// What builds may reach besides, although it is private or an address of this machine: as for `apps_may_reach`.
    builds_may_reach: Destinations = "", "LIST";
    /// How much a replica may keep on disk: its home, its `/tmp` and its copy of the code. One that keeps more is ended.
    disk_limit: Bytes = "4G", "SIZE";
    /// How much memory the programs of a build may use together, where the machine can limit it. A build that needs more
    /// fails.
    build_memory_limit: Bytes = "4G", "SIZE";
    /// How much a build may keep on disk. One that keeps more fails.
    build_disk_limit: Bytes = "16G", "SIZE";
    /// How much of the disk builds leave free: one that would take it fails.
    disk_reserve: Bytes = "128M", "SIZE";
    /// How much each cache of packages that builds fetched may hold: of Python's, of Node's, of conda's. One that holds
    /// more is emptied when no build is under way.
    cache_limit: Bytes = "20G", "SIZE";
    /// Versions of Python that code asks for and this machine does not have are downloaded, by uv. By default, code that
    /// insists on one is refused.
    python_downloads: bool = "false", "BOOL";
    /// The engine that runs container images, Docker or Podman: its socket, like `/run/podman/podman.sock`, or `none`.
    /// `auto` takes what `DOCKER_HOST` names, or the first of the usual sockets that is there. Without one, apps come from
    /// code only.
    container_engine: ContainerEngine = "auto", "auto|none|SOCKET";
    /// The image that those begin from which are made of code without a `Dockerfile`: one that has what this machine has, so
    /// of the same distribution and with the same languages. Without it, no images are made of such code.
    base_image: Option<Image> = "", "IMAGE";
    /// The image of a builder of Cloud Native Buildpacks, by which apps can be built; its lifecycle must speak version 0.12
    /// of the Platform API, or a later one. Without it, nothing is built with buildpacks.
    buildpacks_builder: Option<Image> = "", "IMAGE";
    /// The image that apps run on which buildpacks have built. By default the one that the builder names.
    buildpacks_run_image: Option<Image> = "", "IMAGE";
    /// Images that are taken from the container engine as they are there, and never from a registry: references with or
    /// without a tag, or the beginning of names with a slash at its end. Everybody who may make a launcher can run them.
    local_images: LocalImages = "", "LIST";
    /// The registry that is given each image that is made here, as the name it is given: in it, `{namespace}`, `{project}`,
    /// `{app}` and `{build}` are replaced. By default images stay here.
    push_images_to: Option<ImageTemplate> = "", "NAME";
    /// The file with what is shown to that registry: one line of a name, a colon and a password.
    push_credentials_file: Option<PathBuf> = "", "FILE";
    /// What happens when that registry does not take an image: `warn` says so and the app runs here all the same, `fail`
    /// lets the build fail.
    push_failure: PushFailure = "warn", "warn|fail";
    /// A Chromium, like `/usr/bin/chromium`: with it, pictures are taken of apps that are awake, and shown in the gallery to
    /// those who may open the app. Only where apps are confined, as the browser then is. By default there are none.
    thumbnails: Option<PathBuf> = "", "FILE";
    /// A new picture is taken of an app that is awake when the last one is this old, or of another revision.
    thumbnails_every: Duration = "24h", "DURATION";
    /// A session ends when it was not used for this long.
    session_idle: Duration = "7d", "DURATION";
    /// A session ends this long after signing in, whatever happens.
    session_life: Duration = "30d", "DURATION";
    /// How log lines are written.
    log_format: LogFormat = "text", "text|json";
    /// Which log lines are written.
    log: LogFilter = "info", "FILTER";
}

fn value<T: Value>(sources: &Sources, name: &'static str, default: &str) -> Result<T, ConfigError> {
    let (text, origin) = sources.find(name).unwrap_or((default, Place::Default));
    T::parse(text.trim()).ok_or_else(|| ConfigError::Value {
        name,
        origin,
        // A database's address may carry a password.
        given: if matches!(name, "database_url" | "secrets_key") {
            "…".to_owned()
        } else {
            text.chars().take(80).collect()
        },
        allowed: T::ALLOWED,
    })
}

fn is_setting(name: &str) -> bool {
    SETTINGS.iter().any(|setting| setting.name == name)
}

/// The name of a setting's variable.
fn variable(name: &str) -> String {
    format!("MARMOT_{}", name.to_ascii_uppercase())
}

/// The setting whose name looks most like this one, if any does.
fn nearest(name: &str) -> Option<&'static str> {
    let normal = name.to_ascii_lowercase().replace('-', "_");
    let likeness = |known: &str| strsim::jaro_winkler(&normal, known);
    let names = SETTINGS.iter().map(|setting| setting.name).chain(["resource_classes", "identity_providers"]);
    let best = names.max_by(|left, right| likeness(left).total_cmp(&likeness(right)))?;
    (likeness(best) > 0.75).then_some(best)
}

impl Settings {
    /// The settings from what was given.
    ///
    /// # Errors
    /// Names the first wrong one.
    pub fn resolve(sources: &Sources) -> Result<Self, ConfigError> {
        let classes = sources.resource_classes.as_ref().map(|(classes, _)| classes.clone());
        let providers = sources.identity_providers.clone().unwrap_or_default();
        let settings = read(sources, classes.unwrap_or_else(ResourceClass::standard), providers)?;
        settings.check_tls()?;
        Ok(settings)
    }

    fn check_tls(&self) -> Result<(), ConfigError> {
        let alone = |given, missing| Err(ConfigError::Alone { given, missing });
        let is_plain = self.public_url.as_ref().is_some_and(|url| url.scheme != "https");
        match (&self.tls_certificate, &self.tls_key) {
            (Some(_), None) => alone("tls_certificate", "not `tls_key`: name the file with its private key"),
            (None, Some(_)) => alone("tls_key", "not `tls_certificate`: name the file with its certificate"),
            (None, None) if self.tls_certificates.is_some() => alone(
                "tls_certificates",
                "not `tls_certificate`: name the one for visitors who ask for none of these",
            ),
            (None, None) if self.redirect_listen.is_some() && !self.acme => alone(
                "redirect_listen",
                "without `tls_certificate` or `acme` there is no `https://` to send visitors to",
            ),
            (Some(_), Some(_)) if is_plain => {
                alone("tls_certificate", "`public_url` does not begin with `https://`")
            }
            _ if self.acme && is_plain => alone("acme", "`public_url` does not begin with `https://`"),
            _ if self.acme && !self.acme_terms_agreed => alone(
                "acme",
                "not `acme_terms_agreed`: read the terms of the authority at `acme_directory`, and set it to `true` if you agree",
            ),
            _ if self.acme && self.domain.as_str() == "localhost" => {
                alone("acme", "`domain` is `localhost`, which no authority certifies: set `domain`")
            }
            _ => Ok(()),
        }
    }

    /// Whether TLS ends here.
    fn has_tls(&self) -> bool {
        self.tls_certificate.is_some() || self.acme
    }

    /// What certificates are ordered, and how, if any are. `listen`: as for [`Settings::public_url`].
    ///
    /// # Errors
    /// When the file with the binding cannot be read, or holds something else.
    pub fn acme(&self, listen: SocketAddr) -> anyhow::Result<Option<acme::Setup>> {
        use anyhow::Context as _;
        if !self.acme {
            return Ok(None);
        }
        let binding = self.acme_binding_file.as_ref().map(|path| {
            binding(path).with_context(|| format!("cannot use `acme_binding_file` ({})", path.display()))
        });
        let challenges = match self.acme_challenge {
            AcmeChallenge::Auto => vec![acme::Challenge::TlsAlpn, acme::Challenge::Http],
            AcmeChallenge::TlsAlpn => vec![acme::Challenge::TlsAlpn],
            AcmeChallenge::Http => vec![acme::Challenge::Http],
        };
        let public = self.public_url(listen);
        let mut own = vec![public.host().to_ascii_lowercase(), self.domain.to_string()];
        own.dedup();
        // Addresses have no certificates.
        own.retain(|host| host.parse::<std::net::IpAddr>().is_err() && !host.starts_with('['));
        Ok(Some(acme::Setup {
            terms: acme::Terms {
                directory: self.acme_directory.clone(),
                contact: self.acme_contact.as_ref().map(|email| email.0.clone()),
                root: self.acme_root.clone(),
                external_account: binding.transpose()?,
            },
            challenges,
            own,
            apps_domain: self.apps_domain().to_string(),
            orders_per_hour: self.acme_orders_per_hour as usize,
        }))
    }

    /// The directory where everything is kept.
    ///
    /// # Errors
    /// When none is set and there is no home directory.
    pub fn data_dir(&self) -> Result<PathBuf, ConfigError> {
        if let Some(dir) = &self.data_dir {
            // Sandboxes show places by their absolute paths, and a container engine looks from where it was started itself.
            return Ok(std::path::absolute(dir).unwrap_or_else(|_| dir.clone()));
        }
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let data =
            absolute("XDG_DATA_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/share")));
        Ok(data.ok_or(ConfigError::NoHome)?.join("marmot"))
    }

    /// The domain below which each app has its host.
    pub fn apps_domain(&self) -> &Domain {
        self.apps_domain.as_ref().unwrap_or(&self.domain)
    }

    /// What seals secrets. `data_dir`: where the key is made if there is none.
    ///
    /// # Errors
    /// When a key that was given cannot be used.
    pub fn vault(&self, data_dir: &std::path::Path) -> Result<Vault, KeyError> {
        let given = self.secrets_key.as_ref().map(|keys| keys.0.reveal());
        Vault::new(vault::read_or_make(given, self.secrets_key_file.as_deref(), data_dir)?)
    }

    /// Where images that are made here are given to.
    ///
    /// # Errors
    /// When the file with what is shown there cannot be read, or holds something else.
    pub fn push(&self) -> anyhow::Result<Option<PushTo>> {
        use anyhow::Context as _;
        let Some(template) = &self.push_images_to else { return Ok(None) };
        let read = |path: &PathBuf| {
            let place = || format!("cannot use `push_credentials_file` ({})", path.display());
            let text = std::fs::read_to_string(path).with_context(place)?;
            let (name, password) =
                text.trim().split_once(':').context("it must hold NAME:PASSWORD").with_context(place)?;
            anyhow::Ok((name.to_owned(), Secret::new(password)))
        };
        let login = self.push_credentials_file.as_ref().map(read).transpose()?;
        let must = self.push_failure == PushFailure::Fail;
        Ok(Some(PushTo { template: template.0.clone(), login, must }))
    }

    /// The address people reach the platform at. `listen`: the address that is really listened on, since the port
    /// that is asked for may be 0.
    pub fn public_url(&self, listen: SocketAddr) -> Origin {
        self.public_url.clone().unwrap_or_else(|| {
            let (scheme, usual) = if self.has_tls() { ("https", 443) } else { ("http", 80) };
            let authority = match listen.port() {
                port if port == usual => self.domain.to_string(),
                port => format!("{}:{port}", self.domain),
            };
            Origin { scheme: scheme.to_owned(), authority }
        })
    }

    /// What the service needs to know of them.
    pub fn options(&self, listen: SocketAddr) -> Options {
        let public = self.public_url(listen);
        let port = public.port().map(|port| format!(":{port}")).unwrap_or_default();
        Options {
            apps_authority: format!("{}{port}", self.apps_domain()),
            apps_scheme: public.scheme.clone(),
            public_url: public.to_string(),
            allow_local_repositories: self.allow_local_repositories,
            containers: matches!(self.container_engine.0.socket(), Ok(Some(_))),
            makes_images: self.base_image.is_some(),
            buildpacks: self.buildpacks_builder.is_some(),
            push: None,
            resource_classes: self.resource_classes.clone(),
            policy: self.policy(),
            max_replicas: self.max_replicas,
            people: People {
                session_idle: self.session_idle,
                session_life: self.session_life,
                providers: self.identity_providers.clone(),
            },
            body_limit: self.request_body_limit.map(|bytes| bytes.0),
            memory_budget: self.memory_budget.map(|bytes| bytes.0),
            limits: ProjectLimits {
                memory_bytes: self.project_memory.map(|bytes| bytes.0),
                builds_at_once: self.project_builds.map(u64::from),
                builds_per_hour: Some(u64::from(self.project_builds_per_hour)),
                storage_bytes: self.project_storage.map(|bytes| bytes.0),
                replicas: Some(u64::from(self.replicas_per_project)),
                requests_per_second: self.project_rate.map(u64::from),
                requests_at_once: self.project_requests.map(u64::from),
            },
            preview_days: self.preview_days.0,
        }
    }

    /// The rules that replicas live by where nobody has said anything about their app.
    fn policy(&self) -> Policy {
        Policy {
            idle_after: self.idle_after,
            stop_after: self.stop_after,
            deepen_after: self.deepen_after,
            start_timeout: self.start_timeout,
            drain_timeout: self.drain_timeout,
            ..Policy::default()
        }
    }

    /// What is allowed but most likely not meant, to be said once at the start.
    pub fn warnings(&self, sources: &Sources) -> Vec<String> {
        let mut warnings: Vec<String> = sources
            .unknown_variables()
            .map(|name| {
                let hint = nearest(name).map(|nearest| format!(": did you mean `{}`?", variable(nearest)));
                format!("the variable `{}` is no setting{}", variable(name), hint.unwrap_or_default())
            })
            .collect();
        let local = self.domain.as_str() == "localhost";
        let shared = match &self.apps_domain {
            None => !local,
            Some(apps) => *apps == self.domain || apps.is_below(&self.domain),
        };
        if shared && !local {
            warnings.push(format!(
                "apps are served below the platform's own domain `{}`: an app could set cookies for it; give \
                 `apps_domain` a domain of its own",
                self.domain
            ));
        }
        warnings
    }
}

/// The reference of all settings, as `docs/configuration.md` has it.
pub fn reference() -> String {
    use std::fmt::Write as _;
    let mut text = String::from(
        "# Settings\n\n<!-- Made from the table in crates/marmot/src/config; `MARMOT_UPDATE=1 cargo test -p marmot \
         configuration` writes it again. -->\n\nEach can be given as a flag of `marmot serve`, as a variable, or as a \
         key of the TOML file that `--config FILE`\n(or `MARMOT_CONFIG`) names. Flags win over variables, variables \
         over the file. A wrong setting is refused at the start.\n",
    );
    for Described { name, shape, default, help, allowed } in SETTINGS {
        let flag = name.replace('_', "-");
        let variable = variable(name);
        let help: Vec<_> = help.iter().map(|line| line.trim()).collect();
        let default = if default.is_empty() { "not set".to_owned() } else { format!("`{default}`") };
        let _ = write!(
            text,
            "\n## `{name}`\n\n{}\n\n- flag `--{flag} {shape}`, variable `{variable}`\n- default: {default}\n- allowed: {allowed}\n",
            help.join("\n")
        );
    }
    text.push_str(
        "\n## `resource_classes`\n\nWhat replicas may use: the choices for a launcher. In the file only.\n\n```toml\n",
    );
    for class in ResourceClass::standard() {
        let _ = write!(
            text,
            "[[resource_classes]]\nid = {}\nname = \"{}\"\ncpu_millis = {}   # thousandths of a core\nmemory_mib = {}\n{}\n",
            class.id,
            class.name,
            class.cpu_millis,
            class.memory_mib,
            if class.default { "default = true\n" } else { "" }
        );
    }
    text.truncate(text.trim_end().len());
    text.push_str(
        "\n```\n\nA class may have GPUs, for container images alone: `gpus = 1`, so many of NVIDIA's, or the names of devices \
         as the\nContainer Device Interface has them, `gpus = [\"nvidia.com/gpu=0\"]`. The container engine must be set up for \
         them.\n",
    );
    text.push_str(
        "\nA class with `groups` is for their members alone, and for administrators: `groups = [\"lab\", \"institute:editor\"]` lets\n\
         all members of `lab` choose it, and of `institute` those who are editors or owners. Others do not see it in lists and\n\
         forms. A launcher keeps the class that it has, whoever changes the rest of it. One class at least must have no `groups`.\n",
    );
    text.push_str(providers::REFERENCE);
    text
}

/// The id of a key and the key, from a file.
fn binding(path: &std::path::Path) -> anyhow::Result<(String, Vec<u8>)> {
    use anyhow::Context as _;
    use base64::Engine as _;
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
    let text = std::fs::read_to_string(path)?;
    let (id, key) = text.trim().split_once(':').context("it must hold ID:KEY")?;
    let decoded =
        BASE64_URL_SAFE_NO_PAD.decode(key.trim_end_matches('=')).or_else(|_| BASE64_STANDARD.decode(key));
    // What stands there is not repeated.
    let key = decoded.ok().filter(|key| !key.is_empty()).context("the key after the colon must be Base64")?;
    Ok((id.to_owned(), key))
}

#[cfg(test)]
mod tests;
