//! What Marmot decides, as functions of values: names, phases, scaling, the ladder, admission.
//!
//! Nothing here reads a clock, a file or a socket, and nothing draws a random number (`clippy.toml` bans
//! them): every decision can be replayed from its arguments.

pub mod budget;
pub mod demand;
pub mod gate;
pub mod id;
pub mod name;
pub mod phase;
pub mod plan;
pub mod restart;
pub mod said;
pub mod scaling;
pub mod simulate;
pub mod time;

pub use demand::Demand;
pub use gate::Gate;
pub use name::AppName;
pub use said::Said;
pub use time::{Clock, Moment};
