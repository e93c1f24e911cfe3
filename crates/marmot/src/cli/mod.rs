//! The command line: `marmot serve`, `demo` and `admin` for operators, the others are a client of the REST API.

mod admin;
mod client;
mod commands;
mod doctor;
mod groups;
mod handover;
mod limits;
mod opening;
mod output;
mod plan;
mod previews;
mod render;
mod scaling;
mod secrets;
mod serve;
mod simulate;
mod traffic;
mod usage;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};

use crate::config::Flags;
use output::Output;

/// Hosts the web apps of research projects: ready on demand, free while asleep.
#[derive(Debug, Parser)]
#[command(name = "marmot", version, max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print JSON, as the API gives it.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve API, pages and apps on one port.
    Serve(Flags),
    /// Serve the example apps from a throw-away data directory, signed in.
    Demo(Demo),
    /// Serve the files of a directory on the port in `PORT`: how static sites run.
    #[command(hide = true)]
    StaticServer {
        /// The directory.
        root: PathBuf,
        /// Answer addresses that there is no file for with the index.html: one page is all there is.
        #[arg(long)]
        single_page: bool,
    },
    /// Say what this machine offers to apps that sleep, what is missing, what that costs, and how to get it.
    Doctor(doctor::Doctor),
    /// Manage people on the data directory; also while a server runs on it.
    Admin(admin::Admin),
    /// Remember a server and a token for the commands below.
    Login(client::Login),
    /// Manage groups: people who own a namespace together.
    #[command(subcommand)]
    Group(groups::Group),
    /// Manage projects.
    #[command(subcommand)]
    Project(commands::Project),
    /// Manage launchers: recipes for apps.
    #[command(subcommand)]
    Launcher(commands::Launcher),
    /// Build apps from code; `--plan PATH` says what a build would do.
    Build(commands::BuildOrPlan),
    /// Run apps.
    #[command(subcommand)]
    App(commands::App),
    /// Manage previews: apps of other branches, each with an address of its own and an end.
    #[command(subcommand)]
    Preview(previews::Preview),
    /// Say how a launcher learns of changes of its branch, and see what was last seen of it.
    Follow(previews::Follow),
    /// Manage secrets of projects and launchers: given to apps, shown to nobody.
    #[command(subcommand)]
    Secret(secrets::Secret),
    /// Manage what projects show to the hosts of private repositories and images.
    #[command(subcommand)]
    Credential(secrets::Credential),
    /// Replay weeks of arrivals against the code that decides, and compare what policies cost.
    Simulate(simulate::Simulate),
}

/// How the demo is served.
#[derive(Debug, Clone, Args)]
struct Demo {
    /// The directory of the example apps.
    #[arg(long, value_name = "DIR", default_value = "examples")]
    examples: PathBuf,
    /// Settings of the server.
    #[command(flatten)]
    flags: Flags,
}

/// Something that went wrong, with what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Hinted {
    /// What went wrong.
    message: String,
    /// What to do.
    hint: String,
}

impl Hinted {
    /// Says what went wrong and what to do about it.
    fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }
}

/// Runs the command that the arguments name, the program's own name first.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(refusal) => {
            // Nothing can be done about a terminal that is gone.
            let _ = refusal.print();
            return ExitCode::from(u8::try_from(refusal.exit_code()).unwrap_or(2));
        }
    };
    let output = Output { json: cli.json };
    let done = match cli.command {
        Command::Serve(flags) => serve::serve(flags),
        Command::Demo(demo) => serve::demo(demo),
        Command::StaticServer { root, single_page } => wait(async {
            let served = marmot_engine::build::static_server::serve_as_app(&root, single_page).await;
            served.with_context(|| format!("cannot serve `{}`", root.display()))
        }),
        Command::Doctor(doctor) => wait(doctor.run(output)),
        Command::Admin(admin) => wait(admin.run(output)),
        Command::Login(login) => wait(login.run()),
        Command::Group(group) => wait(group.run(output)),
        Command::Project(project) => wait(project.run(output)),
        Command::Launcher(launcher) => wait(launcher.run(output)),
        Command::Build(build) => build.run(output),
        Command::App(app) => wait(app.run(output)),
        Command::Preview(preview) => wait(preview.run(output)),
        Command::Follow(follow) => wait(follow.run(output)),
        Command::Secret(secret) => wait(secret.run(output)),
        Command::Credential(credential) => wait(credential.run(output)),
        Command::Simulate(simulate) => simulate.run(output),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("{}", explain(&error));
            ExitCode::FAILURE
        }
    }
}

fn wait(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// An error as people read it: what, because of what, and what to do.
fn explain(error: &anyhow::Error) -> String {
    let mut text = format!("error: {error}\n");
    for cause in error.chain().skip(1) {
        text.push_str(&format!("  caused by: {cause}\n"));
    }
    if let Some(hint) = error.chain().find_map(|cause| cause.downcast_ref::<Hinted>()) {
        text.push_str(&format!("hint: {}\n", hint.hint));
    }
    text
}
