//! What the gateway is told at its start.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use marmot_core::AppName;

use crate::limits::Rate;
use crate::tls::Certificates;
use crate::trust::Networks;

/// How the gateway is reached, and what it allows.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// Hosts that belong to the platform itself, lower case, without a port: `marmot.example.org`, `127.0.0.1`,
    /// `[::1]`.
    pub platform_hosts: Vec<String>,
    /// Each app's host is one label below this one: lower case, without a port.
    pub apps_domain: String,
    /// The address of the platform's pages, without a slash at its end: `http://localhost:8080`.
    pub platform_url: String,
    /// How visitors reach the gateway: decides `X-Forwarded-Proto` and whether cookies are `Secure`.
    pub scheme: Scheme,
    /// The apps of which each request is written to the log.
    pub access_log: BTreeSet<AppName>,
    /// Ends TLS here. Visitors who come in plain text are sent to the same address by `https://`. Only with
    /// [`Scheme::Https`].
    pub tls: Option<Tls>,
    /// Proxies before the gateway that are believed when they say where a request comes from (`X-Forwarded-For`,
    /// `X-Forwarded-Proto`, `Forwarded`). Nobody else is.
    pub trusted_proxies: Networks,
    /// Threads that move requests, each with a listening socket of its own: one for each core of the machine.
    pub cores: usize,
    /// What is allowed.
    pub limits: Limits,
}

impl GatewayConfig {
    /// What fits a server on a person's own machine: pages on `http://localhost:PORT`, apps below it.
    pub fn local(listen: SocketAddr) -> Self {
        Self {
            platform_hosts: vec!["localhost".into(), "127.0.0.1".into(), "[::1]".into()],
            apps_domain: "localhost".into(),
            platform_url: format!("http://localhost:{}", listen.port()),
            scheme: Scheme::Http,
            access_log: BTreeSet::new(),
            tls: None,
            trusted_proxies: Networks::default(),
            cores: cores(),
            limits: Limits::default(),
        }
    }
}

/// How TLS is ended here.
#[derive(Debug, Clone)]
pub struct Tls {
    /// What clients are shown.
    pub certificates: Arc<Certificates>,
    /// The port at which visitors reach the gateway by `https://`.
    pub port: u16,
}

/// How many cores this machine lets us have.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// How visitors reach the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// In plain text.
    Http,
    /// Over TLS, which the gateway ends, or something before it.
    Https,
}

impl Scheme {
    /// As it is written in an address.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Fields of a head for which there is always room. For more, it is made with each request.
pub(crate) const HEADER_FIELDS: usize = 100;

/// What the gateway allows. Every number has a default that holds for the open internet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Requests that may wait for one app at the same time. More: 503.
    pub held_per_app: usize,
    /// Requests that may wait for apps altogether. More: 503.
    pub held_in_all: usize,
    /// Bytes of the requests that wait for one app at the same time. More: 503.
    pub held_bytes_per_app: usize,
    /// Bytes of the requests that wait for apps altogether. More: 503.
    pub held_bytes_in_all: usize,
    /// How long a request waits for its app to wake. Longer: 504. Above an app's own start timeout, so that the
    /// reason of a failed start reaches those who wait for it.
    pub wake_timeout: Duration,
    /// How long a navigation waits before it is shown the lobby.
    pub lobby_after: Duration,
    /// How long a replica may neither begin its answer nor take more of the request's body. Longer: 504.
    pub response_timeout: Duration,
    /// How long connecting to a replica may take.
    pub connect_timeout: Duration,
    /// How long a client may take to send the head of a request. Longer: its connection is closed.
    pub header_timeout: Duration,
    /// How long a client's connection may stay open between two requests.
    pub idle_timeout: Duration,
    /// How long a client may neither send more of a body that it announced, nor take more of an answer.
    pub stall_timeout: Duration,
    /// Bytes of a body that a client must send in each second that it is waited for, after `body_grace`. Slower: its
    /// connection is closed.
    pub body_rate: u64,
    /// A client that is waited for no longer than this may send its body as slowly as it likes.
    pub body_grace: Duration,
    /// Connections that one client may have at the same time, by its address; one of this machine's own, or a trusted
    /// proxy, may have more. More: 429.
    pub connections_per_client: usize,
    /// Handshakes of TLS that one client may begin, by its address; one of this machine's own, or a trusted proxy, may begin
    /// as many as it likes. More: the connection is closed.
    pub handshake_rate: Option<Rate>,
    /// Handshakes of TLS under way at the same time, each of which takes `header_timeout` at most. More: the connection is
    /// closed.
    pub handshakes_at_once: u32,
    /// Requests that one visitor may send. More: 429. A visitor is a person who has signed in, or else an address; one
    /// of this machine's own, or a trusted proxy, may send as many as it likes.
    pub visitor_rate: Option<Rate>,
    /// Requests of one visitor at the same time, open WebSockets and event streams among them. More: 429.
    pub visitor_requests: u32,
    /// Apps that one client may wake, by its address. More: 429.
    pub wake_rate: Option<Rate>,
    /// Links and keys that are none which one client may try, by its address. More: 429. What is right is always taken.
    pub guess_rate: Option<Rate>,
    /// Bytes of a request's head. More: 431.
    pub header_bytes: usize,
    /// Fields of a request's head. More: 431.
    pub header_fields: usize,
    /// Bytes of a request's target. More: 414.
    pub uri_bytes: usize,
    /// How long requests in flight may take once the gateway stops.
    pub stop_grace: Duration,
    /// How long a client may take to answer the ping of its app before the app may be frozen all the same.
    pub pong_timeout: Duration,
    /// How long a visitor's seat is kept after the last connection is closed: most who lose it come back at once.
    pub session_linger: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // What Knative's activator holds; a held request costs under 16 KiB.
            held_per_app: 10_000,
            held_in_all: 20_000,
            held_bytes_per_app: 160 << 20,
            held_bytes_in_all: 320 << 20,
            wake_timeout: Duration::from_secs(150),
            lobby_after: Duration::from_secs(1),
            response_timeout: Duration::from_secs(300),
            connect_timeout: Duration::from_secs(5),
            header_timeout: Duration::from_secs(10),
            // Above the 60 s for which most clients keep a connection, so that they are the ones who close it.
            idle_timeout: Duration::from_secs(75),
            stall_timeout: Duration::from_secs(60),
            // As Apache's `mod_reqtimeout`, about: the slowest modem sends ten times as much.
            body_rate: 240,
            body_grace: Duration::from_secs(10),
            // A classroom behind one address; each browser has up to six for each app.
            connections_per_client: 1000,
            // A classroom behind one address; a handshake takes about a millisecond of a core.
            handshake_rate: Rate::of(1000, Duration::from_secs(10)),
            handshakes_at_once: 4000,
            // Fast enough for pages of hundreds of small files in many tabs.
            visitor_rate: Rate::of(2000, Duration::from_secs(10)),
            visitor_requests: 1000,
            wake_rate: Rate::at_most(20, Duration::from_secs(60)),
            // 160 bits cannot be guessed at any rate; whoever tries is told to stop.
            guess_rate: Rate::at_most(10, Duration::from_secs(60)),
            header_bytes: 64 * 1024,
            header_fields: HEADER_FIELDS,
            uri_bytes: 16 * 1024,
            stop_grace: Duration::from_secs(30),
            pong_timeout: Duration::from_secs(10),
            session_linger: Duration::from_secs(15),
        }
    }
}
