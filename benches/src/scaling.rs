//! `bench scaling`: the closed loop on the real engine: a step, a ramp, a burst and silence, at a model endpoint.
//!
//! Clients ask for a prediction, wait for the answer, and ask again after a moment. What they saw, and how many replicas
//! there were meanwhile, becomes a table and a chart.

mod tick;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::apps::{self, App};
use crate::byhand;
use crate::server::Server;
use crate::stats::{millis, percentile};
use crate::table::Table;

/// Between an answer and the next question of the same client.
const THINKS: Duration = Duration::from_millis(100);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Requests that a replica is meant for; seven are aimed at.
const PER_REPLICA: usize = 10;
const AIMED_AT: usize = 7;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The program to measure
    #[arg(long, env = "MARMOT_BIN")]
    marmot: PathBuf,
    /// The model endpoint
    #[arg(long, default_value = "examples/fastapi-predict")]
    example: PathBuf,
    /// The most clients at the same time
    #[arg(long, default_value_t = 40)]
    clients: usize,
    /// The most replicas
    #[arg(long, default_value_t = 4)]
    replicas: usize,
    /// Only what a decision costs the CPU
    #[arg(long)]
    only_tick: bool,
    /// Where the chart goes
    #[arg(long, default_value = "docs/scaling.svg")]
    chart: PathBuf,
}

/// A stretch of the story: from so many clients to so many, within so many seconds.
struct Part {
    name: &'static str,
    from: usize,
    to: usize,
    seconds: u64,
}

/// One answer: when it was asked for and how long it took.
#[derive(Clone, Copy)]
struct Answer {
    asked: Duration,
    took: Duration,
}

/// How it was at one moment.
struct Look {
    at: Duration,
    clients: usize,
    running: usize,
    starting: usize,
    hibernated: usize,
}

pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    tick::report()?;
    if options.only_tick {
        return Ok(());
    }
    let server = Server::start(&options.marmot, &["--idle-after", "15s", "--stop-after", "1h"]).await?;
    let token = server.token("ada").await?;
    let example = options.example.canonicalize().context("there is no such example")?;
    let app = App::deploy(&server, &token, &example).await?;
    ensure!(app.is_model(), "only a model endpoint is asked for predictions");
    let mut boots = Vec::new();
    for _ in 0..5 {
        boots.push(byhand::start(&server, &app).await?);
    }
    let said = json!({
        "requests_per_replica": PER_REPLICA, "limit": 2 * PER_REPLICA, "max_replicas": options.replicas,
        "stop_after": 60, "foresight": false,
    });
    app.scale(said).await?;
    // Nothing is left: the step begins with a cold start.
    app.until(|view| view["replicas"].as_array().is_some_and(Vec::is_empty)).await?;
    let many = options.clients;
    let story = [
        Part { name: "step from nothing", from: many, to: many, seconds: 45 },
        Part { name: "silence", from: 0, to: 0, seconds: 35 },
        Part { name: "step from asleep", from: many, to: many, seconds: 30 },
        Part { name: "silence", from: 0, to: 0, seconds: 30 },
        Part { name: "ramp", from: 0, to: many, seconds: 45 },
        Part { name: "silence", from: 0, to: 0, seconds: 30 },
        Part { name: "burst", from: many, to: many, seconds: 3 },
        Part { name: "silence", from: 0, to: 0, seconds: 35 },
    ];
    let (answers, looks) = tell(&app, &story).await?;
    report(options, &story, &answers, &looks, percentile(&boots, 50.0));
    print_decisions(&app.events().await?);
    std::fs::write(&options.chart, chart(&story, &answers, &looks))
        .with_context(|| format!("cannot write `{}`", options.chart.display()))?;
    println!("\nThe chart is in `{}`.", options.chart.display());
    server.stop().await
}

/// Lets the clients come and go, and watches.
async fn tell(app: &App, story: &[Part]) -> anyhow::Result<(Vec<Answer>, Vec<Look>)> {
    let began = Instant::now();
    let (answers, wanted) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
    let most = story.iter().map(|part| part.from.max(part.to)).max().unwrap_or_default();
    let mut clients = JoinSet::new();
    for number in 0..most {
        let (answers, wanted, url) = (Arc::clone(&answers), Arc::clone(&wanted), app.url.clone());
        let client = apps::client()?;
        clients.spawn(async move {
            loop {
                if wanted.load(Ordering::Relaxed) <= number {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                }
                let asked = began.elapsed();
                let Ok(took) = apps::ask(&client, &url, true).await else {
                    eprintln!("a request failed {:.1} s after the beginning", asked.as_secs_f64());
                    continue;
                };
                answers.lock().unwrap_or_else(PoisonError::into_inner).push(Answer { asked, took });
                tokio::time::sleep(THINKS).await;
            }
        });
    }
    let (mut looks, mut tick) = (Vec::new(), tokio::time::interval(LOOK));
    let whole: u64 = story.iter().map(|part| part.seconds).sum();
    while began.elapsed() < Duration::from_secs(whole) {
        tick.tick().await;
        let at = began.elapsed();
        let clients = clients_at(story, at);
        wanted.store(clients, Ordering::Relaxed);
        let view = app.view().await?;
        let count = |state: &str| {
            let replicas = view["replicas"].as_array().into_iter().flatten();
            replicas.filter(|replica| replica["state"] == state).count()
        };
        let (running, starting, hibernated) = (count("running"), count("starting"), count("hibernated"));
        looks.push(Look { at, clients, running, starting, hibernated });
    }
    clients.shutdown().await;
    let answers = std::mem::take(&mut *answers.lock().unwrap_or_else(PoisonError::into_inner));
    Ok((answers, looks))
}

/// How many clients there should be at this time of the story.
fn clients_at(story: &[Part], at: Duration) -> usize {
    let mut left = at.as_secs_f64();
    for part in story {
        let seconds = part.seconds as f64;
        if left < seconds {
            let (from, to) = (part.from as f64, part.to as f64);
            return (from + (to - from) * left / seconds).round() as usize;
        }
        left -= seconds;
    }
    0
}

fn report(options: &Options, story: &[Part], answers: &[Answer], looks: &[Look], boot: Duration) {
    let enough = options.clients.div_ceil(AIMED_AT).min(options.replicas);
    println!(
        "{} clients, {} replicas at most, {PER_REPLICA} requests per replica, {AIMED_AT} aimed at; a boot by hand takes {} ms.\n",
        options.clients,
        options.replicas,
        millis(boot)
    );
    let mut table = Table::new(&[
        "part",
        "answers",
        "p50, ms",
        "p99, ms",
        "first answers p99, ms",
        "replicas, most",
        "enough after, ms",
    ]);
    let mut begins = Duration::ZERO;
    for part in story {
        let ends = begins + Duration::from_secs(part.seconds);
        let within = |at: Duration| at >= begins && at < ends;
        let took: Vec<Duration> =
            answers.iter().filter(|answer| within(answer.asked)).map(|answer| answer.took).collect();
        // Those who came first waited for the first replica.
        let at_once = |answer: &&Answer| within(answer.asked) && answer.asked < begins + LOOK * 2;
        let first: Vec<Duration> = answers.iter().filter(at_once).map(|answer| answer.took).collect();
        let during = || looks.iter().filter(|look| within(look.at));
        let most = during().map(|look| look.running).max().unwrap_or_default();
        let ready = during().find(|look| look.running >= enough).map(|look| look.at - begins);
        let steps = part.from == part.to && part.to > 0;
        table.row([
            part.name.to_owned(),
            took.len().to_string(),
            millis(percentile(&took, 50.0)),
            millis(percentile(&took, 99.0)),
            if steps { millis(percentile(&first, 99.0)) } else { String::new() },
            most.to_string(),
            ready.filter(|_| part.to > 0).map(millis).unwrap_or_default(),
        ]);
        begins = ends;
    }
    print!("{table}");
    println!(
        "\n{enough} replicas are enough. Whoever knew of the step when it comes would have them after a boot: {} ms.",
        millis(boot)
    );
}

fn print_decisions(events: &Value) {
    println!("\nWhat was decided, oldest first:\n");
    for event in events.as_array().into_iter().flatten().rev() {
        if matches!(event["kind"].as_str(), Some("scaled" | "let_go")) {
            println!(
                "- {}: {}",
                event["at"].as_str().unwrap_or_default(),
                event["message"].as_str().unwrap_or_default()
            );
        }
    }
}

/// Demand, replicas and latency over time, one below the other.
fn chart(story: &[Part], answers: &[Answer], looks: &[Look]) -> String {
    const WIDTH: f64 = 960.0;
    const LEFT: f64 = 64.0;
    const HEIGHT: f64 = 120.0;
    let whole = story.iter().map(|part| part.seconds).sum::<u64>() as f64;
    let x = |at: Duration| LEFT + at.as_secs_f64() / whole * (WIDTH - LEFT - 16.0);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} 500\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <title>Clients, replicas and latency of a model endpoint over time</title>\n\
         <rect width=\"{WIDTH}\" height=\"500\" fill=\"#ffffff\"/>\n"
    );
    let mut begins = Duration::ZERO;
    for part in story {
        let ends = begins + Duration::from_secs(part.seconds);
        if part.to > 0 {
            let (from, wide) = (x(begins), x(ends) - x(begins));
            let _ = writeln!(
                text,
                "<rect x=\"{from:.1}\" y=\"24\" width=\"{wide:.1}\" height=\"444\" fill=\"#f1f3f5\"/>\
                 <text x=\"{:.1}\" y=\"18\" text-anchor=\"middle\" fill=\"#333\">{}</text>",
                from + wide / 2.0,
                part.name
            );
        }
        begins = ends;
    }
    let most_clients = looks.iter().map(|look| look.clients).max().unwrap_or(1).max(1) as f64;
    let most_replicas =
        looks.iter().map(|look| look.running + look.starting + look.hibernated).max().unwrap_or(1).max(1)
            as f64;
    let mut line = |top: f64, most: f64, color: &str, dash: &str, value: &dyn Fn(&Look) -> usize| {
        let y = |value: usize| top + HEIGHT - value as f64 / most * HEIGHT;
        let mut before = None;
        let mut path = String::new();
        for look in looks {
            let now = value(look);
            if before != Some(now) {
                let (x, y) = (x(look.at), y(now));
                path.push_str(&match before {
                    Some(_) => format!("H{x:.1}V{y:.1}"),
                    None => format!("M{x:.1},{y:.1}"),
                });
                before = Some(now);
            }
        }
        let _ = write!(path, "H{:.1}", WIDTH - 16.0);
        let _ = writeln!(
            text,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1.6\" stroke-dasharray=\"{dash}\"/>"
        );
    };
    line(36.0, most_clients, "#1f6feb", "", &|look| look.clients);
    line(188.0, most_replicas, "#8a939e", "2 3", &|look| look.running + look.starting + look.hibernated);
    line(188.0, most_replicas, "#e8833a", "", &|look| look.running + look.starting);
    line(188.0, most_replicas, "#2c8a4b", "", &|look| look.running);
    // Latency on a logarithmic scale, from a millisecond to ten seconds and more.
    let y = |took: Duration| 340.0 + HEIGHT - (took.as_secs_f64() * 1000.0).max(1.0).log10() / 4.3 * HEIGHT;
    for answer in answers.iter().step_by(answers.len() / 3000 + 1) {
        let _ = write!(
            text,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"1.1\" fill=\"#6f42c1\" fill-opacity=\".45\"/>",
            x(answer.asked),
            y(answer.took)
        );
    }
    text.push('\n');
    for (top, name, marks) in [
        (36.0, "clients", vec![(0.0, "0".to_owned()), (1.0, format!("{most_clients}"))]),
        (188.0, "replicas", vec![(0.0, "0".to_owned()), (1.0, format!("{most_replicas}"))]),
        (
            340.0,
            "latency",
            [(1, "1 ms"), (10, "10 ms"), (100, "100 ms"), (1000, "1 s"), (10_000, "10 s")]
                .into_iter()
                .map(|(millis, mark)| (f64::from(millis).log10() / 4.3, mark.to_owned()))
                .collect(),
        ),
    ] {
        let _ = writeln!(
            text,
            "<text x=\"4\" y=\"{:.1}\" font-weight=\"bold\" fill=\"#333\">{name}</text>",
            top - 2.0
        );
        for (part, mark) in marks {
            let height = top + HEIGHT - part * HEIGHT;
            let _ = writeln!(
                text,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#555\">{mark}</text>\
                 <path d=\"M{LEFT},{height:.1}H{:.1}\" stroke=\"#d5dae0\" stroke-width=\".6\"/>",
                LEFT - 6.0,
                height + 4.0,
                WIDTH - 16.0
            );
        }
    }
    let _ = writeln!(
        text,
        "<text x=\"{:.1}\" y=\"486\" text-anchor=\"end\" fill=\"#555\">{whole} s · replicas: green running, orange with those that boot, dotted with those that sleep</text>\n</svg>",
        WIDTH - 16.0
    );
    text
}
