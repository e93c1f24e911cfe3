//! What deciding costs the CPU: one tick over ten thousand apps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use marmot_core::plan::{AppFacts, Policy, ReplicaFacts, Stage, plan};
use marmot_core::restart::Failures;
use marmot_core::scaling::{Scaler, Situation};
use marmot_core::{Clock, Demand, Moment};

use crate::process::cpu_time;
use crate::stats::millis;
use crate::table::Table;

const APPS: u128 = 10_000;
const TICKS: u64 = 300;

struct App {
    demand: Arc<Demand>,
    scaler: Scaler,
    replicas: Vec<ReplicaFacts>,
    seen: Option<Moment>,
}

/// Prints what a tick costs when few, and when all of the apps are used.
///
/// # Errors
/// When the kernel does not tell the CPU time of this process.
pub(super) fn report() -> anyhow::Result<()> {
    let mut table = Table::new(&["a tick over 10,000 apps", "CPU, ms"]);
    for (name, used) in [("nobody uses any", 0), ("a hundred are used", 100), ("all are used", APPS)] {
        table.row([name.to_owned(), millis(measure(used)?)]);
    }
    println!("{table}");
    Ok(())
}

/// The CPU time of one tick, on average.
fn measure(used: u128) -> anyhow::Result<Duration> {
    let now = Arc::new(AtomicU64::new(1));
    let told = Arc::clone(&now);
    let clock = Clock::new(move || Moment::from_millis(told.load(Ordering::Relaxed)));
    let app = |number: u128| App {
        demand: Arc::new(Demand::new(clock.clone())),
        scaler: Scaler::default(),
        replicas: if number < used { vec![running(number)] } else { Vec::new() },
        seen: None,
    };
    let mut apps: Vec<App> = (0..APPS).map(app).collect();
    let load: Vec<_> = apps
        .iter()
        .filter(|app| !app.replicas.is_empty())
        .map(|app| (app.demand.request(), app.demand.request()))
        .collect();
    let policy = Policy::default();
    let began = cpu_time(std::process::id())?;
    for tick in 0..TICKS {
        now.store(1_000 * (tick + 1), Ordering::Relaxed);
        let moment = clock.now();
        apps.iter().take(used as usize).for_each(|app| app.demand.touch(moment));
        let orders: usize = apps.iter_mut().map(|app| look(app, moment, &policy)).sum();
        assert_eq!(orders, 0, "nothing is to be done");
    }
    let ended = cpu_time(std::process::id())?;
    drop(load);
    Ok((ended - began) / u32::try_from(TICKS)?)
}

/// What the engine does with an app on its period. One without replicas that nobody has used is passed over.
fn look(app: &mut App, now: Moment, policy: &Policy) -> usize {
    let demand = app.demand.sample();
    if app.replicas.is_empty() && demand.held + demand.in_flight == 0 && demand.last_activity <= app.seen {
        return 0;
    }
    app.seen = demand.last_activity;
    let facts = AppFacts {
        wanted: Some(1.into()),
        proven: true,
        demand,
        replicas: &app.replicas,
        failures: Failures::default(),
        outlook: None,
    };
    let situation = Situation {
        demand,
        load: app.demand.requests(),
        proven: true,
        gave_up: false,
        capacity: facts.capacity(now),
        kept_warm: false,
        outlook: None,
        share: None,
    };
    let decision = app.scaler.decide(now, policy, &situation);
    plan(now, policy, &facts, &decision).orders.len()
}

fn running(number: u128) -> ReplicaFacts {
    ReplicaFacts {
        id: number.into(),
        revision: 1.into(),
        stage: Stage::Running,
        since: Moment::START,
        inside: 2,
        sessions: 0,
        last_session: None,
        asked_for: false,
        retiring: None,
        last_used: Moment::START,
        busy: false,
        light: false,
    }
}
