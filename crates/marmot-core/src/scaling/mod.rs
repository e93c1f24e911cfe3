//! How many replicas an app should have, at which temperature, and why: demand and facts in, decisions out.
//!
//! A pure library. The engine feeds it what it sees and obeys; the simulator runs the very same code on traces of weeks.
//! Time is an argument, arithmetic that decides is on whole numbers, and nothing depends on the order of samples of the
//! same moment.

mod concurrency;
pub mod fair;
pub mod foresight;
mod policy;
mod scaler;
pub mod schedule;
mod why;
pub mod window;

pub use concurrency::Concurrency;
pub use policy::Policy;
pub use scaler::{Decision, Scaler, Situation};
pub use why::{Bound, Measured, Why};
