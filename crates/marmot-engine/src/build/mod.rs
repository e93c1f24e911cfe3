//! Builds: from the address of a repository to something that a runtime can start.
//!
//! A build fetches one commit, lists and bounds it before a file is written, plans from the files alone, installs what
//! the plan says, and writes how the result is started. Each step is a heading in the log.

mod bounds;
mod bytecode;
mod checkout;
mod collect;
mod conda;
mod conda_scripts;
mod context;
mod contract;
mod dockerfile;
mod environment;
mod fetch;
mod image;
mod install;
mod locks;
mod log;
mod login;
mod network;
mod node;
mod node_tools;
pub mod plan;
mod preview;
mod process;
mod python;
mod r;
mod reach;
mod refs;
mod release;
mod room;
mod run;
pub mod source;
mod start;
pub mod static_server;
mod told;
mod tree;
mod view;

pub use collect::collect;
pub(crate) use collect::{discard, overgrown};
pub use contract::{BuildContext, BuildEnd, BuildLimits, Buildpacks, BuildsNetwork, RunFile};
pub use fetch::Tip;
pub use image::pull;
pub(crate) use image::{NoPort, port_of};
pub use network::operators_environment;
pub use preview::{NoPreview, Planner, Preview};
pub use run::run;
