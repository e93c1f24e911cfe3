//! `bench wake`: what sleeping saves and what waking costs, for each example app, through the gateway.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use crate::apps::App;
use crate::byhand;
use crate::contained::Images;
use crate::process::{self, Memory};
use crate::server::Server;
use crate::stats::{mebibytes, millis, percentile};
use crate::swap::{Kind, Swap};
use crate::table::Table;

/// Sleeps and wake-ups before counting begins: the first of them show which memory a wake-up needs.
const LEARNING: u32 = 3;
/// How long a sleeping app is watched for using the CPU.
const WATCHED: Duration = Duration::from_secs(5);

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The program to measure
    #[arg(long, env = "MARMOT_BIN")]
    marmot: PathBuf,
    /// The directory of the example apps
    #[arg(long, default_value = "examples")]
    examples: PathBuf,
    /// Only these examples, by the names of their directories
    #[arg(long = "app", value_name = "NAME")]
    apps: Vec<String>,
    /// The kinds of swap to measure with; each but `none` is made for it, as root, and taken away again
    #[arg(long, value_enum, default_values_t = [Kind::None])]
    swap: Vec<Kind>,
    /// The size of swap, in MiB
    #[arg(long, default_value_t = 2048)]
    swap_size: u64,
    /// What runs the apps: processes from code, containers of the same programs and packages, or both
    #[arg(long, value_enum, default_values_t = [Runtime::Process])]
    runtime: Vec<Runtime>,
    /// How often each app is woken in each way
    #[arg(long, default_value_t = 50)]
    rounds: u32,
    /// How often each app is started cold
    #[arg(long, default_value_t = 5)]
    starts: u32,
}

/// What runs an app.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Runtime {
    Process,
    Container,
}

impl Runtime {
    fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Container => "container",
        }
    }
}

/// An example on a server, by one of the runtimes.
struct Deployed {
    name: String,
    runtime: Runtime,
    app: Arc<App>,
    /// What was built from its code; itself, or what its image was made from.
    built: Arc<App>,
}

/// How an app sleeps.
#[derive(Clone, Copy)]
struct Sleep {
    /// What people call it.
    name: &'static str,
    /// The depth that the API tells.
    depth: &'static str,
    /// A setting of the server.
    deepen_after: &'static str,
}

const FROZEN: Sleep = Sleep { name: "frozen", depth: "frozen", deepen_after: "30d" };
const LIGHT: Sleep = Sleep { name: "hibernated", depth: "light", deepen_after: "30d" };
const DEEP: Sleep = Sleep { name: "deep", depth: "deep", deepen_after: "1ms" };

pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    // Swap that was made for it goes whichever way it ends.
    tokio::select! {
        measured = measure_all(options) => measured,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    }
}

async fn measure_all(options: &Options) -> anyhow::Result<()> {
    let examples = examples(options)?;
    let wants_images = options.runtime.contains(&Runtime::Container);
    let mut images = wants_images.then(Images::start).transpose()?;
    println!(
        "Cold start, ms: from a request to its whole answer, with nothing running; p50 of {}.\n",
        options.starts
    );
    print!("{}", cold(options, &examples, images.as_mut()).await?);
    for &kind in &options.swap {
        let swap = Swap::make(kind, options.swap_size)?;
        println!(
            "\n{}: times in ms to the whole answer, p50 / p99 of {}; memory in MiB.\n",
            kind.name(),
            options.rounds
        );
        let sleeps: &[Sleep] = if kind == Kind::None { &[FROZEN] } else { &[LIGHT, DEEP] };
        let mut table = Table::new(&[
            "app",
            "runtime",
            "sleep",
            "awake",
            "wake",
            "running",
            "asleep",
            "resident",
            "compressed",
            "part",
            "CPU asleep, ms/h",
        ]);
        for sleep in sleeps {
            measure(options, &examples, images.as_mut(), *sleep, &mut table).await?;
        }
        print!("{table}");
        drop(swap);
    }
    Ok(())
}

fn examples(options: &Options) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let dir = std::fs::read_dir(&options.examples);
    for entry in dir.with_context(|| format!("read `{}`", options.examples.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // One that tries to escape is no example of what people run.
        let asked = if options.apps.is_empty() { name != "escape" } else { options.apps.contains(&name) };
        if asked && entry.file_type()?.is_dir() {
            found.push(entry.path().canonicalize()?);
        }
    }
    ensure!(!found.is_empty(), "there is no such example in `{}`", options.examples.display());
    found.sort();
    Ok(found)
}

/// Starts through the platform, and by hand beside it.
async fn cold(options: &Options, examples: &[PathBuf], images: Option<&mut Images>) -> anyhow::Result<Table> {
    let server = start(options, images.as_deref(), &["--idle-after", "30d", "--stop-after", "1ms"]).await?;
    let mut table = Table::new(&["app", "runtime", "by hand", "Marmot", "the platform's part"]);
    for Deployed { name, runtime, app, built } in deploy(options, &server, examples, images).await? {
        let (mut ours, mut by_hand, mut added) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..options.starts {
            app.rest().await?;
            app.until(|view| view["replicas"].as_array().is_some_and(Vec::is_empty)).await?;
            let took = app.ask().await?;
            app.rest().await?;
            app.until(|view| view["replicas"].as_array().is_some_and(Vec::is_empty)).await?;
            let alone = byhand::start(&server, &built).await?;
            added.push(took.saturating_sub(alone));
            ours.push(took);
            by_hand.push(alone);
        }
        let row = [&by_hand, &ours, &added].map(|samples| millis(percentile(samples, 50.0)));
        table.row([vec![name, runtime.name().to_owned()], row.into()].concat());
    }
    server.stop().await?;
    Ok(table)
}

/// A server that finds the images, if there are some.
async fn start(options: &Options, images: Option<&Images>, settings: &[&str]) -> anyhow::Result<Server> {
    let engine = images.map(|images| images.socket().display().to_string());
    let mut settings = settings.to_vec();
    if let Some(engine) = &engine {
        settings.extend(["--container-engine", engine, "--allow-private-networks"]);
    }
    Server::start(&options.marmot, &settings).await
}

/// Deploys each example by each runtime.
async fn deploy(
    options: &Options,
    server: &Server,
    examples: &[PathBuf],
    mut images: Option<&mut Images>,
) -> anyhow::Result<Vec<Deployed>> {
    let token = server.token("ada").await?;
    let mut all = Vec::new();
    for example in examples {
        let (name, built) = (name(example), Arc::new(App::deploy(server, &token, example).await?));
        if options.runtime.contains(&Runtime::Process) {
            let (name, app, built) = (name.clone(), Arc::clone(&built), Arc::clone(&built));
            all.push(Deployed { name, runtime: Runtime::Process, app, built });
        }
        if let Some(images) = images.as_deref_mut() {
            let image = images.of(server, &built).await?;
            let app = Arc::new(App::of_image(server, &token, &image, &built).await?);
            all.push(Deployed { name, runtime: Runtime::Container, app, built });
        }
    }
    Ok(all)
}

async fn measure(
    options: &Options,
    examples: &[PathBuf],
    images: Option<&mut Images>,
    sleep: Sleep,
    table: &mut Table,
) -> anyhow::Result<()> {
    let settings = ["--idle-after", "30d", "--stop-after", "30d", "--deepen-after", sleep.deepen_after];
    let server = start(options, images.as_deref(), &settings).await?;
    let apps = deploy(options, &server, examples, images).await?;
    for Deployed { app, .. } in &apps {
        app.ask().await?;
    }
    for Deployed { name, runtime, app, .. } in &apps {
        let row = measure_one(options.rounds, app, sleep).await.with_context(|| name.clone())?;
        table.row([vec![name.clone(), runtime.name().to_owned(), sleep.name.to_owned()], row].concat());
    }
    server.stop().await
}

async fn measure_one(rounds: u32, app: &App, sleep: Sleep) -> anyhow::Result<Vec<String>> {
    let mut awake = Vec::new();
    for _ in 0..rounds {
        awake.push(app.ask().await?);
    }
    let running = process::memory_of(&app.url)?.resident;
    let mut woken = Vec::new();
    let mut held = Vec::new();
    for round in 0..LEARNING + rounds {
        let view = fall_asleep(app, sleep).await?;
        let took = app.ask().await?;
        if round >= LEARNING {
            woken.push(took);
            held.push(memory(&view));
        }
        // What a wake-up used is looked at a moment after it.
        if round < LEARNING {
            tokio::time::sleep(Duration::from_millis(1200)).await;
        }
    }
    let view = fall_asleep(app, sleep).await?;
    let asleep = memory(&view);
    let cpu = process::cpu_of(&app.url)?;
    let began = Instant::now();
    tokio::time::sleep(WATCHED).await;
    let cpu = process::cpu_of(&app.url)?.saturating_sub(cpu);
    let per_hour = cpu.as_secs_f64() * 3600.0 / began.elapsed().as_secs_f64();
    let all = asleep.resident + asleep.compressed;
    let both = |samples: &[Duration]| {
        format!("{} / {}", millis(percentile(samples, 50.0)), millis(percentile(samples, 99.0)))
    };
    Ok(vec![
        both(&awake),
        both(&woken),
        mebibytes(running),
        mebibytes(all),
        mebibytes(asleep.resident),
        mebibytes(asleep.compressed),
        format!("{:.0} %", all as f64 * 100.0 / running as f64),
        format!("{:.0}", per_hour * 1000.0),
    ])
}

/// Puts an app to sleep, and waits until its memory is where it will be.
async fn fall_asleep(app: &App, sleep: Sleep) -> anyhow::Result<Value> {
    app.rest().await?;
    app.until(|view| {
        let replica = &view["replicas"][0];
        replica["state"] == "hibernated" && replica["depth"] == sleep.depth
    })
    .await
}

fn memory(view: &Value) -> Memory {
    let bytes = |field: &str| view["replicas"][0][field].as_u64().unwrap_or_default();
    Memory { resident: bytes("memory_bytes"), compressed: bytes("compressed_bytes") }
}

fn name(example: &Path) -> String {
    example.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
