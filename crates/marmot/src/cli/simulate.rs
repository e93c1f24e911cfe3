//! `marmot simulate`: what policies cost on weeks of arrivals.

use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use marmot_core::simulate::synthetic::{Synthetic, make};
use marmot_core::simulate::trace::Reader;
use marmot_core::simulate::{Keeping, Report, Trace, at_gb_hours, at_most_cold, fewest_cold, run};
use serde_json::{Value, json};

use super::output::Output;
use super::render::table;
use crate::config::duration;

/// The replay.
///
/// A trace is CSV with the header `app,time,duration,sessions`: any name; seconds since a Monday at midnight (UTC);
/// seconds; connections held open meanwhile. Without a file, one is made with the shape published of Azure Functions in
/// 2019. Apps cost what was measured of seven real ones: boot and wake times, memory while running, and while hibernated
/// what is resident and what is compressed.
#[derive(Debug, Args)]
pub(super) struct Simulate {
    /// The trace; one is made without it.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Only these policies.
    #[arg(long, value_enum, value_delimiter = ',')]
    policy: Vec<Which>,
    /// Of the trace that is made: how many apps.
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    apps: u32,
    /// Of the trace that is made: how many days.
    #[arg(long, value_name = "N", default_value_t = 14, value_parser = clap::value_parser!(u32).range(1..=365))]
    days: u32,
    /// Of the trace that is made: about how many arrivals.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    arrivals: u64,
    /// Of the trace that is made: the same seed gives the same trace.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Marmot's policy: a replica is idle after this long.
    #[arg(long, value_name = "DURATION", value_parser = read_duration, default_value = "2m")]
    idle_after: Duration,
    /// Marmot's policy: a hibernated replica sleeps deep after this long, where past visits do not tell.
    #[arg(long, value_name = "DURATION", value_parser = read_duration, default_value = "4h")]
    deepen_after: Duration,
    /// Marmot's policy: a hibernated replica is stopped after this long, where past visits do not tell.
    #[arg(long, value_name = "DURATION", value_parser = read_duration, default_value = "12h")]
    stop_after: Duration,
    /// Count the cold part of a hibernated replica's memory as being on a disk, not compressed in memory.
    #[arg(long)]
    on_disk: bool,
    /// Also find the times hibernated at which Marmot costs the memory of the fixed policy, and has the cold starts of
    /// the histogram, asleep after ten seconds and deep after five minutes; and the fewest cold starts that who knows the
    /// future could have at that memory by keeping apps alone. Takes a minute.
    #[arg(long = "match")]
    matching: bool,
    /// Write the trace to this file.
    #[arg(long, value_name = "FILE")]
    write_trace: Option<PathBuf>,
}

/// A policy to replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Which {
    /// Kept alive for ten minutes.
    Fixed,
    /// Knative's defaults: a window of 60 s and 30 s of grace.
    Knative,
    /// The hybrid histogram of "Serverless in the Wild" (USENIX ATC '20).
    Hybrid,
    /// The ladder without looking at past visits.
    Ladder,
    /// Marmot's.
    Marmot,
}

fn read_duration(text: &str) -> Result<Duration, String> {
    duration(text).ok_or_else(|| "it must be a duration like `90s`, `2m` or `12h`".to_owned())
}

const COLUMNS: &[(&str, &str)] = &[
    ("POLICY", "/policy"),
    ("COLD", "/cold"),
    ("COLD %", "/cold_percent"),
    ("HIBERNATED %", "/hibernated_percent"),
    ("DEEP %", "/deep_percent"),
    ("RUNNING %", "/running_percent"),
    ("P50 ms", "/wait_p50_ms"),
    ("P95 ms", "/wait_p95_ms"),
    ("P99 ms", "/wait_p99_ms"),
    ("BOOTS", "/boots"),
    ("AHEAD", "/boots_ahead"),
    ("REPLICA h", "/replica_hours"),
    ("GB h", "/gb_hours"),
    ("BUSY", "/gb_hours_busy"),
    ("IDLE", "/gb_hours_idle"),
    ("LIGHT", "/gb_hours_light"),
    ("DEEP", "/gb_hours_deep"),
];

impl Simulate {
    pub(super) fn run(self, output: Output) -> anyhow::Result<()> {
        let trace = self.trace()?;
        if let Some(path) = &self.write_trace {
            write(&trace, path).with_context(|| format!("cannot write the trace to `{}`", path.display()))?;
        }
        let every = [Which::Fixed, Which::Knative, Which::Hybrid, Which::Ladder, Which::Marmot];
        let chosen: &[Which] = if self.policy.is_empty() { &every } else { &self.policy };
        let mut rows = Vec::new();
        for which in chosen {
            let keeping = self.keeping(*which);
            rows.push(row(name(keeping), &run(&trace, keeping)));
        }
        if self.matching {
            rows.extend(self.matched(&trace));
        }
        let arrivals = trace.arrivals.len();
        let answer = json!({"arrivals": arrivals, "apps": trace.apps.len(), "policies": rows});
        output.print(&answer, |answer| {
            let days = trace.end as f64 / 86_400_000.0;
            let head = format!("{arrivals} arrivals at {} apps in {days:.1} days\n\n", trace.apps.len());
            head + &table(&answer["policies"], COLUMNS)
        })
    }

    fn trace(&self) -> anyhow::Result<Trace> {
        let mut trace = match &self.trace {
            None => {
                let Self { apps, days, arrivals, seed, .. } = *self;
                make(Synthetic { apps, days, arrivals, seed })
            }
            Some(path) => {
                let shown = path.display();
                let file = File::open(path).with_context(|| format!("cannot open the trace `{shown}`"))?;
                let mut reader = Reader::default();
                for line in BufReader::new(file).lines() {
                    reader.line(&line.with_context(|| format!("cannot read the trace `{shown}`"))?)?;
                }
                reader.finish()
            }
        };
        if self.on_disk {
            trace.apps.iter_mut().for_each(|(_, kind)| *kind = kind.on_disk());
        }
        Ok(trace)
    }

    fn keeping(&self, which: Which) -> Keeping {
        let Self { idle_after, deepen_after, stop_after, .. } = *self;
        match which {
            Which::Fixed => Keeping::Fixed(Duration::from_secs(600)),
            Which::Knative => Keeping::Knative,
            Which::Hybrid => Keeping::Hybrid,
            Which::Ladder => Keeping::Marmot { idle_after, deepen_after, stop_after, foresight: false },
            Which::Marmot => Keeping::Marmot { idle_after, deepen_after, stop_after, foresight: true },
        }
    }

    /// Marmot at the memory of the fixed policy, and at the cold starts of the histogram, with what that comes to; and
    /// what keeping alone could come to.
    fn matched(&self, trace: &Trace) -> Vec<Value> {
        let fixed = run(trace, self.keeping(Which::Fixed));
        let thrifty = self.keeping(Which::Marmot).thrifty();
        let (keeping, same) = at_gb_hours(trace, thrifty, fixed.gb_hours());
        let fewer = fixed.cold as f64 / same.cold.max(1) as f64;
        let as_fixed = format!("{}, memory as fixed: {fewer:.1} times fewer cold", name(keeping));
        let hybrid = run(trace, self.keeping(Which::Hybrid));
        let (keeping, cold) = at_most_cold(trace, thrifty, hybrid.cold);
        let part = cold.gb_hours() / hybrid.gb_hours() * 100.0;
        let as_hybrid = format!("{}, cold as histogram: {part:.0} % of its GB h", name(keeping));
        let fewest = fewest_cold(trace, fixed.gb_hours());
        let bound = json!({
            "policy": "the future known, apps kept or let go, memory as fixed",
            "cold": fewest,
            "cold_percent": format!("{:.3}", fewest as f64 * 100.0 / trace.arrivals.len().max(1) as f64),
            "gb_hours": format!("{:.1}", fixed.gb_hours()),
        });
        vec![row(as_fixed, &same), row(as_hybrid, &cold), bound]
    }
}

fn name(keeping: Keeping) -> String {
    match keeping {
        Keeping::Fixed(keep) => format!("fixed {} min", keep.as_secs() / 60),
        Keeping::Knative => "Knative".to_owned(),
        Keeping::Hybrid => "hybrid histogram".to_owned(),
        Keeping::Marmot { idle_after, deepen_after, stop_after, foresight } => {
            let kind = if foresight { "Marmot" } else { "ladder only" };
            let minutes = deepen_after.as_secs_f64() / 60.0;
            let hours = stop_after.as_secs_f64() / 3600.0;
            format!("{kind} ({} s, {minutes:.0} min, {hours:.1} h)", idle_after.as_secs())
        }
    }
}

fn row(policy: String, report: &Report) -> Value {
    let percent = |of| format!("{:.3}", report.percent(of));
    let hours = |gb_hours: f64| format!("{gb_hours:.1}");
    json!({
        "policy": policy,
        "cold": report.cold,
        "cold_percent": percent(report.cold),
        "hibernated_percent": percent(report.hibernated),
        "deep_percent": percent(report.deep),
        "running_percent": percent(report.running),
        "wait_p50_ms": report.waiting(0.5),
        "wait_p95_ms": report.waiting(0.95),
        "wait_p99_ms": report.waiting(0.99),
        "boots": report.boots,
        "boots_ahead": report.boots_ahead,
        "replica_hours": format!("{:.0}", report.replica_hours),
        "gb_hours": hours(report.gb_hours()),
        "gb_hours_busy": hours(report.memory.busy),
        "gb_hours_idle": hours(report.memory.idle),
        "gb_hours_light": hours(report.memory.light),
        "gb_hours_deep": hours(report.memory.deep),
    })
}

fn write(trace: &Trace, path: &std::path::Path) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for line in trace.lines() {
        writeln!(file, "{line}")?;
    }
    file.flush()
}
