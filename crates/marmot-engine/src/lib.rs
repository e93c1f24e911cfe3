//! Runs apps: builds, replicas, hibernation. Keeps what runs equal to what is wanted.
//!
//! In goes a `watch` of what is [`Wanted`]; out comes a `watch` of what is [`Observed`]. Every loop is idempotent,
//! runs on a period and on a nudge, and is never told what changed: recovery after a crash is the everyday path.

pub mod build;
pub mod observed;
pub mod wanted;

pub use observed::Observed;
pub use wanted::Wanted;
