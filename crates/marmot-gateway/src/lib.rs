//! Moves requests: host to route, hold, wake, forward, upgrade, lobby, drain.
//!
//! In comes a `watch` of immutable [`Routes`]; out go the counters of [`marmot_core::Demand`] and nudges. The
//! gateway knows no database, project, build or container.

mod access_log;
mod affinity;
mod answers;
mod arrival;
mod body;
mod check;
mod connection;
mod doorkeeper;
mod forward;
mod half_closed;
mod handshakes;
mod headers;
mod hold;
mod host;
mod identity;
mod limits;
mod linger;
mod listen;
mod lobby;
mod opening;
mod pacing;
mod pool;
#[cfg(test)]
mod properties;
mod quota;
mod scanner;
mod service;
mod share;
mod shared;
mod slot;
mod stay;
mod stream;
mod trailers;
mod upstream;
mod websocket;
mod wire;

pub mod access;
pub mod config;
pub mod frames;
pub mod meter;
pub mod routes;
pub mod server;
pub mod tls;
pub mod trust;

pub use access::{Person, Tickets};
pub use access_log::LoggedRequest;
pub use config::{GatewayConfig, Limits, Scheme, Tls};
pub use headers::{APP_KEY_PREFIX, PRIVATE_COOKIE, PRIVATE_TOKEN_PREFIX};
pub use identity::{Identities, IdentityKey};
pub use listen::Listeners;
pub use lobby::LogSource;
pub use meter::Meter;
pub use routes::Routes;
pub use server::Gateway;
pub use service::Peer;
pub use tls::{Certificates, Issued, Proof, Proving, Validity};
pub use trust::Networks;
