//! Moves requests: host to route, hold, wake, forward, upgrade, lobby, drain.
//!
//! In comes a `watch` of immutable [`Routes`]; out go the counters of [`marmot_core::Demand`] and nudges. The
//! gateway knows no database, project, build or container.

pub mod routes;

pub use routes::Routes;
