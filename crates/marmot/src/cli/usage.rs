//! `marmot app usage`: what an app was used for, and what it took.

use clap::Args;
use clap::builder::PossibleValuesParser;

use super::client::Client;
use super::commands::segment;
use super::output::Output;
use super::render::fields;
use crate::history::Range;

/// What an app was used for, what it took, and what sleeping saved. With `--json` by slots of time, too.
#[derive(Debug, Args)]
pub(super) struct Usage {
    /// The app's name.
    name: String,
    /// How far back.
    #[arg(long, value_name = "RANGE", default_value = "day",
        value_parser = PossibleValuesParser::new(Range::ALL.map(Range::as_str)))]
    range: String,
}

const SHOWN: &[(&str, &str)] = &[
    ("range", "/range"),
    ("requests", "/total/requests/total"),
    ("refused (4xx)", "/total/requests/4xx"),
    ("failed (5xx)", "/total/requests/5xx"),
    ("most people", "/total/people"),
    ("half within, s", "/total/latency/p50"),
    ("95 of 100 within, s", "/total/latency/p95"),
    ("wakes", "/total/wakes/hibernated/count"),
    ("wake took, s", "/total/wakes/hibernated/p50"),
    ("cold starts", "/total/wakes/stopped/count"),
    ("cold start took, s", "/total/wakes/stopped/p50"),
    ("hours on", "/hours_on"),
    ("replica-hours", "/total/replica_hours"),
    ("if it never slept", "/always_on/replica_hours"),
    ("saved, %", "/always_on/saved_percent"),
    ("GB-hours", "/total/gb_hours"),
    ("if it never slept, GB-hours", "/always_on/gb_hours"),
];

impl Usage {
    pub(super) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let path = format!("/apps/{}/usage?range={}", segment(&self.name), self.range);
        output.print(&client.get(&path).await?, |usage| fields(usage, SHOWN))
    }
}
