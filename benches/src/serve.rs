//! `bench serve`: how long an empty server takes to start and stop, and what it holds meanwhile.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::process;
use crate::server::Server;
use crate::stats::{mebibytes, millis, percentile};
use crate::table::Table;

/// Requests to the API in one round.
const LISTS: u32 = 50;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The program to measure
    #[arg(long, env = "MARMOT_BIN")]
    marmot: PathBuf,
    /// How often it is started
    #[arg(long, default_value_t = 10)]
    rounds: u32,
}

pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let (mut starts, mut firsts, mut lists, mut stops) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut memory, mut cpu) = (0, Duration::ZERO);
    for _ in 0..options.rounds {
        let began = Instant::now();
        let server = Server::start(&options.marmot, &[]).await?;
        starts.push(began.elapsed());
        let asked = Instant::now();
        reqwest::get(format!("{}/readyz", server.url)).await?.error_for_status()?;
        firsts.push(asked.elapsed());
        lists.extend(time_lists(&server).await?);
        memory = memory.max(process::resident(server.pid()?)?);
        cpu = cpu.max(process::cpu_time(server.pid()?)?);
        let began = Instant::now();
        server.stop().await?;
        stops.push(began.elapsed());
    }
    let mut table = Table::new(&["empty server", "p50", "p99"]);
    let rows = [
        ("start, ms", &starts),
        ("first answer, ms", &firsts),
        ("list of projects, ms", &lists),
        ("stop, ms", &stops),
    ];
    for (name, samples) in rows {
        table.row([name.to_owned(), millis(percentile(samples, 50.0)), millis(percentile(samples, 99.0))]);
    }
    print!("{table}");
    println!("resident memory, at most: {} MiB; CPU of a start: {} ms", mebibytes(memory), millis(cpu));
    Ok(())
}

/// Asks the API for the projects of one user, again and again on one connection.
async fn time_lists(server: &Server) -> anyhow::Result<Vec<Duration>> {
    let (token, client) = (server.token("ada").await?, reqwest::Client::new());
    let mut took = Vec::new();
    for _ in 0..LISTS {
        let began = Instant::now();
        let asked = client.get(format!("{}/api/data/projects", server.url)).bearer_auth(&token);
        asked.send().await?.error_for_status()?.bytes().await?;
        took.push(began.elapsed());
    }
    Ok(took)
}
