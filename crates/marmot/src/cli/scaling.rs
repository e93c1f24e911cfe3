//! `marmot app scaling`: how an app scales.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::client::Client;
use super::commands::segment;
use super::output::Output;
use super::render::fields;
use crate::config::duration;

/// How an app scales.
///
/// Replicas are what Posit Connect calls processes, and Knative pods. As many are awake as demand divided by what one is
/// meant for asks, averaged over a minute; a sudden rise counts within a second, and nothing is scaled in for a minute
/// after it. An idle replica hibernates and is back in milliseconds.
#[derive(Debug, Args)]
pub(super) struct Scaling {
    /// The app's name.
    name: String,
    /// A starting point: single (one replica), dashboard (up to 3 of 20 sessions) or endpoint (up to 3 of 10 requests).
    #[arg(long, value_name = "PRESET")]
    preset: Option<String>,
    /// Replicas that stay awake whoever comes (Knative: min-scale; Connect: min processes).
    #[arg(long, value_name = "N")]
    min: Option<u32>,
    /// The most replicas (Knative: max-scale; Connect: max processes).
    #[arg(long, value_name = "N")]
    max: Option<u32>,
    /// Replicas that a new revision is begun with (Knative: initial-scale).
    #[arg(long, value_name = "N")]
    initial: Option<u32>,
    /// Requests that one replica is meant to work on at the same time (Knative: target).
    #[arg(long, value_name = "N", conflicts_with = "sessions")]
    requests: Option<u32>,
    /// Sessions that one replica is meant to hold (Connect: connections per process).
    #[arg(long, value_name = "N")]
    sessions: Option<u32>,
    /// The most requests or sessions that one replica is ever given (Knative: containerConcurrency).
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
    /// How much of what a replica is meant for is aimed at, in percent (Knative: target utilization; Connect: load factor).
    #[arg(long, value_name = "PERCENT")]
    utilization: Option<u32>,
    /// Over how long demand is averaged (Knative: window).
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    window: Option<u64>,
    /// Over how long sudden demand is averaged (Knative: panic window).
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    panic_window: Option<u64>,
    /// How much of what the ready replicas are meant for is sudden, in percent (Knative: panic threshold).
    #[arg(long, value_name = "PERCENT")]
    panic_threshold: Option<u32>,
    /// Without use for so long a replica falls asleep (Connect: idle timeout).
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    idle_after: Option<u64>,
    /// Asleep for so long a replica is stopped, where past visits do not tell (Knative: retention period).
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    stop_after: Option<u64>,
    /// Asleep for so long a replica sleeps deeper, where past visits do not tell: it takes a tenth of a second to wake then.
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    deepen_after: Option<u64>,
    /// Where replicas cannot hibernate, the last one is kept so much longer (Knative: scale-to-zero grace period).
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    grace: Option<u64>,
    /// At most so many times as many replicas at once (Knative: max scale up rate).
    #[arg(long, value_name = "TIMES")]
    max_up_rate: Option<u32>,
    /// At most so many times fewer replicas at once (Knative: max scale down rate).
    #[arg(long, value_name = "TIMES")]
    max_down_rate: Option<u32>,
    /// A replica that does not answer on its port within this time has failed (Connect: init timeout).
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    start_timeout: Option<u64>,
    /// After its last session a replica is kept so long, for a connection that was lost (Connect: connection timeout).
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    linger: Option<u64>,
    /// A replica that is not needed any more waits so long for its sessions to end.
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    max_session: Option<u64>,
    /// When a replica is kept awake, like `Mon-Fri 08:00-18:00 Europe/Zurich`; may be given more than once, `never` ends it.
    #[arg(long, value_name = "SCHEDULE")]
    keep_warm: Vec<String>,
    /// Whether past visits decide how long it stays hibernated, and when it is ready before a visit.
    #[arg(long, value_name = "BOOL")]
    foresight: Option<bool>,
    /// Forget all that was said before.
    #[arg(long)]
    reset: bool,
}

fn seconds(text: &str) -> Result<u64, String> {
    let whole = |duration: &Duration| duration.subsec_nanos() == 0;
    let read = duration(text).filter(whole).map(|duration| duration.as_secs());
    read.ok_or_else(|| "it must be a duration in whole seconds, like `90s`, `2m` or `12h`".to_owned())
}

const SHOWN: &[(&str, &str)] = &[
    ("replicas now", "/decision/replicas"),
    ("because", "/decision/why"),
    ("preset", "/given/preset"),
    ("min", "/effective/min_replicas"),
    ("max", "/effective/max_replicas"),
    ("initial", "/effective/initial_replicas"),
    ("counts", "/effective/counts"),
    ("per replica", "/effective/per_replica"),
    ("limit", "/effective/limit"),
    ("utilization, %", "/effective/utilization"),
    ("window, s", "/effective/stable_window"),
    ("panic window, s", "/effective/panic_window"),
    ("panic threshold, %", "/effective/panic_threshold"),
    ("idle after, s", "/effective/idle_after"),
    ("stop after, s", "/effective/stop_after"),
    ("deepen after, s", "/effective/deepen_after"),
    ("grace, s", "/effective/grace"),
    ("up at once, times", "/effective/max_up_rate"),
    ("down at once, times", "/effective/max_down_rate"),
    ("start timeout, s", "/effective/start_timeout"),
    ("linger, s", "/effective/linger"),
    ("max session, s", "/effective/max_session"),
    ("keep warm", "/effective/keep_warm"),
    ("foresight", "/effective/foresight"),
];

impl Scaling {
    pub(super) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let path = format!("/apps/{}/scaling", segment(&self.name));
        let found = client.get(&path).await?;
        let given = if self.reset { json!({}) } else { found["given"].clone() };
        let said = self.say(given);
        let changes = self.reset || said != found["given"];
        let shown = if changes { client.put(&path, said).await? } else { found };
        output.print(&shown, |shown| fields(shown, SHOWN))
    }

    /// What was said, with what is said now.
    fn say(&self, mut given: Value) -> Value {
        let numbers = [
            ("min_replicas", self.min.map(u64::from)),
            ("max_replicas", self.max.map(u64::from)),
            ("initial_replicas", self.initial.map(u64::from)),
            ("requests_per_replica", self.requests.map(u64::from)),
            ("sessions_per_replica", self.sessions.map(u64::from)),
            ("limit", self.limit.map(u64::from)),
            ("utilization", self.utilization.map(u64::from)),
            ("stable_window", self.window),
            ("panic_window", self.panic_window),
            ("panic_threshold", self.panic_threshold.map(u64::from)),
            ("idle_after", self.idle_after),
            ("stop_after", self.stop_after),
            ("deepen_after", self.deepen_after),
            ("grace", self.grace),
            ("max_up_rate", self.max_up_rate.map(u64::from)),
            ("max_down_rate", self.max_down_rate.map(u64::from)),
            ("start_timeout", self.start_timeout),
            ("linger", self.linger),
            ("max_session", self.max_session),
        ];
        let numbers = numbers.into_iter().map(|(name, value)| (name, value.map(Value::from)));
        let others = [
            ("preset", self.preset.clone().map(Value::from)),
            ("foresight", self.foresight.map(Value::from)),
            ("keep_warm", self.schedules()),
        ];
        for (name, value) in numbers.chain(others) {
            if let Some(value) = value {
                given[name] = value;
            }
        }
        // One is measured by the one or the other.
        if let (Some(given), true) =
            (given.as_object_mut(), self.requests.is_some() || self.sessions.is_some())
        {
            given.remove(if self.requests.is_some() {
                "sessions_per_replica"
            } else {
                "requests_per_replica"
            });
        }
        given
    }

    fn schedules(&self) -> Option<Value> {
        match &self.keep_warm[..] {
            [] => None,
            [never] if never == "never" => Some(json!([])),
            schedules => Some(json!(schedules)),
        }
    }
}
