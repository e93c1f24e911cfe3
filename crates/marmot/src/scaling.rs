//! What people may say about how an app scales, and what it means for its replicas.
//!
//! Nothing said: the preset `single`, and the server's own settings. Words and defaults are Knative's where they mean the
//! same; the help of the command line names Posit Connect's, too.

use std::time::Duration;

use jiff::tz::TimeZone;
use marmot_core::scaling::schedule::Schedule;
use marmot_core::scaling::{Concurrency, Policy};
use marmot_core::{Said, said};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A starting point: what is not said apart from it is as it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// One replica for everybody.
    #[default]
    Single,
    /// Up to three replicas of 20 sessions each: dashboards whose state lives in the replica a visitor came to.
    Dashboard,
    /// Up to three replicas of 10 requests each: models behind an API.
    Endpoint,
}

/// What somebody has said about how an app scales. All of it may be left out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Scaling {
    /// A starting point for the others: `single`, `dashboard` or `endpoint`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
    /// Replicas that stay awake whoever comes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_replicas: Option<u32>,
    /// The most replicas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_replicas: Option<u32>,
    /// Replicas that a new revision is begun with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial_replicas: Option<u32>,
    /// Requests that one replica is meant to work on at the same time. Not together with `sessions_per_replica`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_replica: Option<u32>,
    /// Open connections (WebSockets, event streams) that one replica is meant to hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sessions_per_replica: Option<u32>,
    /// The most of them that one replica is ever given: what is beyond it waits. By default twice what it is meant for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// How much of what a replica is meant for is aimed at, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub utilization: Option<u32>,
    /// Seconds over which demand is averaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stable_window: Option<u64>,
    /// Seconds over which sudden demand is averaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub panic_window: Option<u64>,
    /// How much of what the ready replicas are meant for makes demand sudden, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub panic_threshold: Option<u32>,
    /// Seconds without use after which a replica falls asleep. By default the server's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_after: Option<u64>,
    /// Seconds after which a hibernated replica is stopped, where past visits do not tell. By default the server's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_after: Option<u64>,
    /// Seconds after which a hibernated replica sleeps deeper and wakes a little slower, where past visits do not tell. By
    /// default the server's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deepen_after: Option<u64>,
    /// Seconds for which the last replica is kept beyond `idle_after`, where replicas cannot be hibernated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace: Option<u64>,
    /// At most so many times as many replicas at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_up_rate: Option<u32>,
    /// At most so many times fewer replicas at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_down_rate: Option<u32>,
    /// Seconds within which a replica must answer on its port. By default the server's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_timeout: Option<u64>,
    /// Seconds for which a replica is kept after its last session ended, so that a lost connection can come back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linger: Option<u64>,
    /// Seconds for which a replica that is not needed any more waits for its sessions to end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_session: Option<u64>,
    /// When a replica is kept awake: `Mon-Fri 08:00-18:00 Europe/Zurich`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keep_warm: Vec<String>,
    /// Whether past visits decide how long it stays hibernated, and when it is ready before a visit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub foresight: Option<bool>,
}

/// What may not be said, in words that name what was given and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{said}")]
pub struct Refused {
    /// Which setting it is about, as the API calls it.
    pub setting: &'static str,
    /// What was given, and what is allowed.
    pub said: Said,
}

/// The rules of an app as its previews live by them: nobody waits for them but who works on them, so they go to sleep
/// soon, and one replica does.
pub fn of_preview(policy: Policy) -> Policy {
    Policy {
        idle_after: policy.idle_after.min(Duration::from_secs(60)),
        stop_after: policy.stop_after.min(Duration::from_secs(15 * 60)),
        min_replicas: 0,
        max_replicas: 1,
        initial_replicas: 1,
        keep_warm: Vec::new(),
        foresight: false,
        ..policy
    }
}

/// The most schedules of one app.
const MOST_SCHEDULES: usize = 20;

impl Scaling {
    /// What it means for the replicas of an app, where `server` is what the server's own settings say and `ceiling` the
    /// most replicas that any app may have.
    ///
    /// # Errors
    /// Names the first thing that makes no sense.
    pub fn policy(&self, server: &Policy, ceiling: u32) -> Result<Policy, Refused> {
        let preset = self.preset.unwrap_or_default();
        let (max, concurrency) = match preset {
            Preset::Single => (1, server.concurrency),
            Preset::Dashboard => (3, Concurrency::Sessions(20)),
            Preset::Endpoint => (3, Concurrency::Requests(10)),
        };
        let concurrency = self.concurrency()?.unwrap_or(concurrency);
        let min_replicas = within("min_replicas", self.min_replicas, 0..=ceiling)?.unwrap_or(0);
        let max = within("max_replicas", self.max_replicas, 1..=ceiling)?.unwrap_or(max.min(ceiling));
        // Whoever asks for a minimum asks for at least as many.
        let max_replicas = if self.max_replicas.is_none() { max.max(min_replicas) } else { max };
        if min_replicas > max_replicas {
            return refuse(
                "min_replicas",
                said!(
                    "scaling-least-above-most",
                    "`min_replicas` is {least}, more than `max_replicas`, which is {most}",
                    least = min_replicas,
                    most = max_replicas
                ),
            );
        }
        let initial = within("initial_replicas", self.initial_replicas, 1..=max_replicas)?;
        let usual = if self.concurrency()?.is_none() && preset == Preset::Single {
            server.limit
        } else {
            concurrency.count().saturating_mul(2)
        };
        let limit = within("limit", self.limit, 1..=100_000)?.unwrap_or(usual);
        if limit < concurrency.count() {
            return refuse(
                "limit",
                said!(
                    "scaling-limit-below-aim",
                    "`limit` is {limit}, less than the {aim} that a replica is meant for",
                    limit = limit,
                    aim = concurrency.to_string()
                ),
            );
        }
        let policy = Policy {
            min_replicas,
            max_replicas,
            initial_replicas: initial.unwrap_or(1),
            concurrency,
            limit,
            utilisation: within("utilization", self.utilization, 10..=100)?.unwrap_or(server.utilisation),
            stable_window: seconds("stable_window", self.stable_window, 6..=3600)?
                .unwrap_or(server.stable_window),
            panic_window: seconds("panic_window", self.panic_window, 1..=600)?.unwrap_or(server.panic_window),
            panic_threshold: within("panic_threshold", self.panic_threshold, 110..=1000)?
                .unwrap_or(server.panic_threshold),
            idle_after: seconds("idle_after", self.idle_after, 5..=30 * 86_400)?.unwrap_or(server.idle_after),
            stop_after: seconds("stop_after", self.stop_after, 60..=365 * 86_400)?
                .unwrap_or(server.stop_after),
            deepen_after: seconds("deepen_after", self.deepen_after, 1..=365 * 86_400)?
                .unwrap_or(server.deepen_after),
            zero_grace: seconds("grace", self.grace, 0..=3600)?.unwrap_or(server.zero_grace),
            max_up_rate: within("max_up_rate", self.max_up_rate, 2..=1000)?.unwrap_or(server.max_up_rate),
            max_down_rate: within("max_down_rate", self.max_down_rate, 2..=1000)?
                .unwrap_or(server.max_down_rate),
            start_timeout: seconds("start_timeout", self.start_timeout, 5..=3600)?
                .unwrap_or(server.start_timeout),
            linger: seconds("linger", self.linger, 0..=86_400)?.unwrap_or(server.linger),
            max_session: seconds("max_session", self.max_session, 60..=30 * 86_400)?
                .unwrap_or(server.max_session),
            keep_warm: self.schedules()?,
            foresight: self.foresight.unwrap_or(server.foresight),
            ..server.clone()
        };
        if policy.panic_window > policy.stable_window {
            let (panic, stable) = (policy.panic_window.as_secs(), policy.stable_window.as_secs());
            return refuse(
                "panic_window",
                said!(
                    "scaling-panic-above-stable",
                    "`panic_window` is {panic} s, longer than `stable_window`, which is {stable} s",
                    panic = panic,
                    stable = stable
                ),
            );
        }
        Ok(policy)
    }

    fn concurrency(&self) -> Result<Option<Concurrency>, Refused> {
        let requests = within("requests_per_replica", self.requests_per_replica, 1..=10_000)?;
        let sessions = within("sessions_per_replica", self.sessions_per_replica, 1..=10_000)?;
        match (requests, sessions) {
            (Some(_), Some(_)) => refuse(
                "requests_per_replica",
                said!(
                    "scaling-two-aims",
                    "`requests_per_replica` and `sessions_per_replica` are both given: a replica is measured by one of them"
                ),
            ),
            (Some(requests), None) => Ok(Some(Concurrency::Requests(requests))),
            (None, sessions) => Ok(sessions.map(Concurrency::Sessions)),
        }
    }

    fn schedules(&self) -> Result<Vec<Schedule>, Refused> {
        if self.keep_warm.len() > MOST_SCHEDULES {
            return refuse(
                "keep_warm",
                said!(
                    "scaling-schedules-too-many",
                    "`keep_warm` has {count} schedules, more than {most}",
                    count = self.keep_warm.len(),
                    most = MOST_SCHEDULES
                ),
            );
        }
        let read = |text: &String| {
            let schedule: Schedule =
                text.parse().map_err(|error: marmot_core::scaling::schedule::InvalidSchedule| Refused {
                    setting: "keep_warm",
                    said: said!("scaling-schedule-wrong", "`keep_warm`: {why}", why = error.to_string()),
                })?;
            match TimeZone::get(schedule.zone()) {
                Ok(_) => Ok(schedule),
                Err(_) => refuse(
                    "keep_warm",
                    said!(
                        "scaling-no-zone",
                        "`keep_warm`: there is no time zone `{zone}`; they are named like `Europe/Zurich` or `UTC`",
                        zone = schedule.zone()
                    ),
                ),
            }
        };
        self.keep_warm.iter().map(read).collect()
    }
}

fn refuse<T>(setting: &'static str, said: Said) -> Result<T, Refused> {
    Err(Refused { setting, said })
}

fn within(
    name: &'static str,
    given: Option<u32>,
    allowed: std::ops::RangeInclusive<u32>,
) -> Result<Option<u32>, Refused> {
    match given {
        Some(given) if !allowed.contains(&given) => {
            let (least, most) = allowed.into_inner();
            refuse(
                name,
                said!(
                    "scaling-out-of-range",
                    "`{name}` is {given}: it must be from {least} to {most}",
                    name = name,
                    given = given,
                    least = least,
                    most = most
                ),
            )
        }
        given => Ok(given),
    }
}

fn seconds(
    name: &'static str,
    given: Option<u64>,
    allowed: std::ops::RangeInclusive<u64>,
) -> Result<Option<Duration>, Refused> {
    match given {
        Some(given) if !allowed.contains(&given) => {
            let (least, most) = allowed.into_inner();
            refuse(
                name,
                said!(
                    "scaling-time-out-of-range",
                    "`{name}` is {given} s: it must be from {least} to {most} seconds",
                    name = name,
                    given = given,
                    least = least,
                    most = most
                ),
            )
        }
        given => Ok(given.map(Duration::from_secs)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(scaling: &Scaling) -> Result<Policy, String> {
        scaling.policy(&Policy::default(), 10).map_err(|refused| refused.to_string())
    }

    #[test]
    fn nothing_said_is_one_replica_by_the_servers_own_settings() {
        assert_eq!(policy(&Scaling::default()), Ok(Policy::default()));
    }

    #[test]
    fn a_preset_says_what_is_not_said() {
        let dashboard =
            Scaling { preset: Some(Preset::Dashboard), max_replicas: Some(5), ..Scaling::default() };
        let policy = policy(&dashboard).unwrap();
        assert_eq!(
            (policy.max_replicas, policy.concurrency, policy.limit),
            (5, Concurrency::Sessions(20), 40)
        );
    }

    #[test]
    fn a_minimum_alone_is_also_the_least_maximum() {
        let policy = policy(&Scaling { min_replicas: Some(2), ..Scaling::default() }).unwrap();
        assert_eq!((policy.min_replicas, policy.max_replicas), (2, 2));
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_words() {
        let none = Scaling::default;
        for (scaling, words) in [
            (Scaling { max_replicas: Some(11), ..none() }, "`max_replicas` is 11: it must be from 1 to 10"),
            (Scaling { max_replicas: Some(0), ..none() }, "`max_replicas` is 0: it must be from 1 to 10"),
            (
                Scaling { min_replicas: Some(3), max_replicas: Some(2), ..none() },
                "`min_replicas` is 3, more than `max_replicas`, which is 2",
            ),
            (
                Scaling { requests_per_replica: Some(5), limit: Some(4), ..none() },
                "`limit` is 4, less than the 5 requests that a replica is meant for",
            ),
            (
                Scaling { panic_window: Some(61), ..none() },
                "`panic_window` is 61 s, longer than `stable_window`, which is 60 s",
            ),
            (
                Scaling { idle_after: Some(1), ..none() },
                "`idle_after` is 1 s: it must be from 5 to 2592000 seconds",
            ),
            (Scaling { max_up_rate: Some(1), ..none() }, "`max_up_rate` is 1: it must be from 2 to 1000"),
            (
                Scaling { start_timeout: Some(7200), ..none() },
                "`start_timeout` is 7200 s: it must be from 5 to 3600 seconds",
            ),
            (
                Scaling { requests_per_replica: Some(5), sessions_per_replica: Some(5), ..none() },
                "`requests_per_replica` and `sessions_per_replica` are both given: a replica is measured by one of them",
            ),
            (
                Scaling { keep_warm: vec!["Mon 08:00-09:00 Europe/Zurch".to_owned()], ..none() },
                "`keep_warm`: there is no time zone `Europe/Zurch`; they are named like `Europe/Zurich` or `UTC`",
            ),
        ] {
            assert_eq!(policy(&scaling).unwrap_err(), words);
        }
        let wrong = Scaling { keep_warm: vec!["office".to_owned()], ..none() };
        assert!(policy(&wrong).unwrap_err().contains("`office` is not a schedule"));
    }
}
