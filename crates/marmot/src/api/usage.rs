//! What an app was used for, and what it took.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use marmot_gateway::meter::CLASSES;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::error::{Problem, Result};
use super::extract::{Path, Query, Who, parse};
use crate::history::{Counts, Range, Report, Spread};
use crate::service::Service;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct UsageQuery {
    /// How far back: `hour` (by minute), `day` (by quarter of an hour), `week` (by two hours) or `month` (30 days, by six
    /// hours).
    #[serde(default)]
    #[param(default = "day", pattern = "^(hour|day|week|month)$")]
    range: Option<String>,
}

/// What an app was used for, and what it took, by slots of time and altogether.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UsageOut {
    /// `hour`, `day`, `week` or `month`.
    range: &'static str,
    /// Seconds of a slot.
    step: i64,
    /// Hours for which the app was on.
    hours_on: f64,
    total: CountsOut,
    /// What one replica that never sleeps would have taken; absent while that cannot be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    always_on: Option<AlwaysOnOut>,
    /// Oldest first, also those in which nothing was.
    slots: Vec<SlotOut>,
}

/// What one replica that never sleeps would have taken while the app was on.
#[derive(Debug, Serialize, ToSchema)]
struct AlwaysOnOut {
    replica_hours: f64,
    gb_hours: f64,
    /// How much of those replica-hours sleeping saved.
    saved_percent: f64,
}

#[derive(Debug, Serialize, ToSchema)]
struct SlotOut {
    #[schema(value_type = String, format = DateTime)]
    start: Timestamp,
    #[serde(flatten)]
    counts: CountsOut,
}

/// What was counted.
#[derive(Debug, Serialize, ToSchema)]
struct CountsOut {
    requests: RequestsOut,
    /// Requests for which there was no place to wait.
    refused: u64,
    /// The most people at the same time.
    people: u64,
    /// Seconds until an answer began, for half and for 95 of 100 of the requests; absent without any.
    #[serde(skip_serializing_if = "Option::is_none")]
    latency: Option<LatencyOut>,
    wakes: WakesOut,
    /// Hours of replicas that were awake.
    replica_hours: f64,
    /// Hours of replicas that were hibernated.
    hibernated_hours: f64,
    /// GiB hours of memory that replicas held, awake and hibernated.
    gb_hours: f64,
    /// Bytes that clients sent.
    received_bytes: u64,
    /// Bytes that clients were sent.
    sent_bytes: u64,
}

/// Requests, by the class of the answer's status.
#[derive(Debug, Serialize, ToSchema)]
struct RequestsOut {
    total: u64,
    #[serde(rename = "1xx")]
    informed: u64,
    #[serde(rename = "2xx")]
    succeeded: u64,
    #[serde(rename = "3xx")]
    redirected: u64,
    #[serde(rename = "4xx")]
    refused: u64,
    #[serde(rename = "5xx")]
    failed: u64,
}

#[derive(Debug, Serialize, ToSchema)]
struct LatencyOut {
    p50: f64,
    p95: f64,
}

/// How often the app was woken, and how long those who waited felt it: by the rung it slept on.
#[derive(Debug, Serialize, ToSchema)]
struct WakesOut {
    hibernated: WakeOut,
    stopped: WakeOut,
}

#[derive(Debug, Serialize, ToSchema)]
struct WakeOut {
    count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    p50: Option<f64>,
}

/// Numbers as people read them: a thousandth is enough.
fn rounded(number: f64) -> f64 {
    (number * 1e4).round() / 1e4
}

impl From<&Counts> for CountsOut {
    fn from(counts: &Counts) -> Self {
        const { assert!(CLASSES.len() == 5) }
        let [informed, succeeded, redirected, refused, failed] = counts.answers;
        let quantiles = |spread: &Spread| Some((spread.quantile(0.5)?, spread.quantile(0.95)?));
        let wake =
            |spread: &Spread| WakeOut { count: spread.count(), p50: spread.quantile(0.5).map(rounded) };
        Self {
            requests: RequestsOut {
                total: counts.requests(),
                informed,
                succeeded,
                redirected,
                refused,
                failed,
            },
            refused: counts.refused,
            people: counts.people,
            latency: quantiles(&counts.latency)
                .map(|(p50, p95)| LatencyOut { p50: rounded(p50), p95: rounded(p95) }),
            wakes: WakesOut { hibernated: wake(&counts.wakes[0]), stopped: wake(&counts.wakes[1]) },
            replica_hours: rounded(counts.awake_hours()),
            hibernated_hours: rounded(counts.asleep_hours()),
            gb_hours: rounded(counts.gb_hours()),
            received_bytes: counts.received,
            sent_bytes: counts.sent,
        }
    }
}

impl From<Report> for UsageOut {
    fn from(report: Report) -> Self {
        let slot = |(start, counts): &(i64, Counts)| SlotOut {
            start: Timestamp::from_second(*start).unwrap_or_default(),
            counts: counts.into(),
        };
        let (_, step, _) = report.range.slots();
        Self {
            range: report.range.as_str(),
            step,
            hours_on: rounded(report.hours_on),
            always_on: report.always_on.map(|always| AlwaysOnOut {
                replica_hours: rounded(always.replica_hours),
                gb_hours: rounded(always.gb_hours),
                saved_percent: rounded(always.saved_percent(&report.total).unwrap_or_default()),
            }),
            total: (&report.total).into(),
            slots: report.slots.iter().map(slot).collect(),
        }
    }
}

/// What an app was used for, and what it took. Also when it is off. For members.
#[utoipa::path(get, path = "/apps/{name}/usage", tag = "apps", params(("name" = String, Path), UsageQuery),
    responses((status = 200, body = UsageOut)))]
pub(super) async fn get(
    State(service): State<Service>,
    Who(who): Who,
    Path(name): Path<String>,
    Query(query): Query<UsageQuery>,
) -> Result<Json<UsageOut>> {
    let range: Option<Range> = query
        .range
        .as_deref()
        .map(str::parse)
        .transpose()
        .map_err(|why: String| Problem::unprocessable(why))?;
    Ok(Json(service.usage(&who, &parse(&name)?, range.unwrap_or_default()).await?.into()))
}
