//! Measures Marmot from outside, as a user of the built program, and prints tables. Run by `cargo xtask bench NAME`.

mod apps;
mod backend;
mod build;
mod byhand;
mod contained;
mod gateway;
#[path = "../../crates/marmot-engine/tests/support/podman.rs"]
mod podman;
mod process;
mod scaling;
mod serve;
mod server;
mod stats;
mod swap;
mod table;
mod wake;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask bench",
    bin_name = "cargo xtask bench",
    about = "Measures Marmot from outside."
)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// What others are measured in front of
    #[command(hide = true)]
    Backend(backend::Options),
    /// How long a build takes, beside what does the same by hand
    Build(build::Options),
    /// What moving a request costs, beside nginx and HAProxy: CPU time, latency, memory
    Gateway(gateway::Options),
    /// Start, idle memory and stop of an empty server
    Serve(serve::Options),
    /// A step, a ramp, a burst and silence at a model endpoint: demand, replicas, latency, with a chart
    Scaling(scaling::Options),
    /// What sleeping saves and what waking costs, for each example app
    Wake(wake::Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    let measured = match Arguments::parse().what {
        What::Backend(options) => backend::run(&options).await,
        What::Build(options) => build::run(&options).await,
        What::Gateway(options) => gateway::run(&options).await,
        What::Serve(options) => serve::run(&options).await,
        What::Scaling(options) => scaling::run(&options).await,
        What::Wake(options) => wake::run(&options).await,
    };
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
