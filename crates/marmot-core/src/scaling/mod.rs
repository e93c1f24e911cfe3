//! How many replicas an app should have, at which temperature, and why: demand and facts in, decisions out.

mod concurrency;

pub use concurrency::Concurrency;
