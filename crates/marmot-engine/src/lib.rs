//! Runs apps: builds, replicas, hibernation. Keeps what runs equal to what is wanted.
//!
//! In goes a `watch` of what is [`Wanted`]; out comes a `watch` of what is [`Observed`]. Every loop is idempotent,
//! runs on a period and on a nudge, and is never told what changed: recovery after a crash is the everyday path.

mod app;
pub mod build;
mod builds;
pub mod capabilities;
mod cgroup;
pub mod config;
mod confine;
pub mod container;
mod engine;
mod fd;
mod files;
mod hibernate;
pub mod layout;
pub mod logs;
mod network;
mod nudge;
pub mod observed;
pub mod picture;
mod procfs;
mod reconcile;
mod runtime;
mod schedule;
pub mod shim;
mod sockets;
pub mod storage;
mod sweep;
mod visits;
pub mod wanted;

pub use capabilities::{Capabilities, Check, CheckState};
pub use config::{Confinement, EngineConfig, OnStop, ShimCommand};
pub use confine::can_confine;
pub use container::endpoint::{Endpoint, NotHere};
pub use container::reference::{LocalImages, Reference, WrongReference};
pub use engine::{Engine, StartError};
pub use logs::{LogLine, Logs};
pub use network::{Destination, WrongDestination};
pub use nudge::Nudge;
pub use observed::Observed;
pub use picture::Photographer;
pub use sockets::Sockets;
pub use storage::Storage;
pub use wanted::Wanted;
