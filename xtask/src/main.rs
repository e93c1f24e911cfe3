//! Tasks of the repository: `cargo xtask demo`, `cargo xtask test`, `cargo xtask bench`, `cargo xtask screenshots`,
//! `cargo xtask setup`.

mod bench;
mod command;
mod demo;
mod repository;
mod screenshots;
mod setup;
mod steps;
mod test;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::repository::Repository;
use crate::setup::Need;
use crate::steps::Step;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Tasks of the repository.")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what is missing, build Marmot and start it with the example apps
    Demo {
        /// Handed on to `marmot demo`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Run what CI runs: format, lints, dependencies, tests, release build, browser tests
    Test {
        /// Run only these steps; may be repeated or separated by commas
        #[arg(long, value_enum, value_name = "STEP", value_delimiter = ',')]
        only: Vec<Step>,
    },
    /// Measure the release build from outside, beside its peers; without a name, lists what there is
    Bench {
        /// What to measure, and its options
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Draw `docs/screenshots` anew: the real pages, with example apps
    Screenshots,
    /// Install what is missing for all of the above
    Setup,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let repository = Repository::find()?;
    match arguments.task {
        Task::Demo { arguments } => demo::run(&repository, &arguments),
        Task::Test { only } => test::run(&repository, &only),
        Task::Bench { arguments } => bench::run(&repository, &arguments),
        Task::Screenshots => screenshots::run(&repository),
        Task::Setup => setup::run(&repository, &Need::ALL),
    }
}
