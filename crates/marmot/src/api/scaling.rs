//! How an app scales.

use axum::Json;
use axum::extract::State;
use marmot_core::scaling::Policy;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::error::{Problem, Result};
use super::extract::{Body, Path, Who, parse};
use crate::scaling::Scaling;
use crate::service::{ScalingView, Service};

/// How an app scales: what was said, what it means, and what is decided at the moment.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ScalingOut {
    /// What was said: what `PUT` takes.
    given: Scaling,
    /// What follows from it, the preset and the server's settings.
    effective: EffectiveOut,
    /// How many replicas should be awake, and why; absent while the app is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<DecisionOut>,
}

/// Every setting, with its unit as in what was said.
#[derive(Debug, Serialize, ToSchema)]
struct EffectiveOut {
    min_replicas: u32,
    max_replicas: u32,
    initial_replicas: u32,
    /// What one replica is meant for at the same time.
    per_replica: u32,
    /// `requests` or `sessions`.
    counts: &'static str,
    limit: u32,
    utilization: u32,
    stable_window: u64,
    panic_window: u64,
    panic_threshold: u32,
    idle_after: u64,
    stop_after: u64,
    deepen_after: u64,
    grace: u64,
    max_up_rate: u32,
    max_down_rate: u32,
    start_timeout: u64,
    linger: u64,
    max_session: u64,
    keep_warm: Vec<String>,
    foresight: bool,
}

#[derive(Debug, Serialize, ToSchema)]
struct DecisionOut {
    /// Replicas that should be awake.
    replicas: u32,
    /// Why, in words.
    why: String,
}

impl From<Policy> for EffectiveOut {
    fn from(policy: Policy) -> Self {
        Self {
            min_replicas: policy.min_replicas,
            max_replicas: policy.max_replicas,
            initial_replicas: policy.initial_replicas,
            per_replica: policy.concurrency.count(),
            counts: if policy.concurrency.counts_sessions() { "sessions" } else { "requests" },
            limit: policy.limit,
            utilization: policy.utilisation,
            stable_window: policy.stable_window.as_secs(),
            panic_window: policy.panic_window.as_secs(),
            panic_threshold: policy.panic_threshold,
            idle_after: policy.idle_after.as_secs(),
            stop_after: policy.stop_after.as_secs(),
            deepen_after: policy.deepen_after.as_secs(),
            grace: policy.zero_grace.as_secs(),
            max_up_rate: policy.max_up_rate,
            max_down_rate: policy.max_down_rate,
            start_timeout: policy.start_timeout.as_secs(),
            linger: policy.linger.as_secs(),
            max_session: policy.max_session.as_secs(),
            keep_warm: policy.keep_warm.iter().map(ToString::to_string).collect(),
            foresight: policy.foresight,
        }
    }
}

impl From<ScalingView> for ScalingOut {
    fn from(view: ScalingView) -> Self {
        let decision = view.decision.map(|(replicas, why)| DecisionOut { replicas, why });
        Self { given: view.given, effective: view.policy.into(), decision }
    }
}

/// How an app scales. Also when it is off.
#[utoipa::path(get, path = "/apps/{name}/scaling", tag = "apps", params(("name" = String, Path)),
    responses((status = 200, body = ScalingOut)))]
pub(super) async fn get(
    State(service): State<Service>,
    Who(who): Who,
    Path(name): Path<String>,
) -> Result<Json<ScalingOut>> {
    Ok(Json(service.scaling(&who, &parse(&name)?).await?.into()))
}

/// Says anew how an app scales. What is left out is as the preset and the server say.
#[utoipa::path(put, path = "/apps/{name}/scaling", tag = "apps", params(("name" = String, Path)), request_body = Scaling,
    responses((status = 200, body = ScalingOut)))]
pub(super) async fn set(
    State(service): State<Service>,
    Who(who): Who,
    Path(name): Path<String>,
    // An object, and no array: from an empty one, nothing would have been said.
    Body(given): Body<Map<String, Value>>,
) -> Result<Json<ScalingOut>> {
    let given: Scaling = serde_json::from_value(Value::Object(given))
        .map_err(|error| Problem::unprocessable(error.to_string()))?;
    Ok(Json(service.set_scaling(&who, &parse(&name)?, given).await?.into()))
}
