//! Whether the server lives, whether it can serve, and what it does, in numbers without names.

use std::fmt::Write as _;

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use http::{StatusCode, header};
use marmot_engine::observed::ReplicaStage;

use crate::service::Service;

pub(super) fn router() -> Router<Service> {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
}

async fn ready(State(service): State<Service>) -> (StatusCode, &'static str) {
    match service.ping().await {
        Ok(()) => (StatusCode::OK, "ok\n"),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n"),
    }
}

/// Numbers in the text format of Prometheus. No labels by app: what visitors do must not grow them.
async fn metrics(State(service): State<Service>) -> impl IntoResponse {
    let observed = service.observed();
    let replicas = observed.apps.values().flat_map(|app| &app.replicas);
    let stages = ["starting", "running", "hibernated", "draining"];
    let mut counts = [0_u64; 4];
    let (mut resident, mut swapped) = (0, 0);
    for replica in replicas {
        let index = match replica.stage {
            ReplicaStage::Starting(_) => 0,
            ReplicaStage::Running { .. } => 1,
            ReplicaStage::Hibernated { .. } => 2,
            ReplicaStage::Draining { .. } | ReplicaStage::Stopping => 3,
        };
        counts[index] += 1;
        resident += replica.memory.resident;
        swapped += replica.memory.swapped;
    }
    let samples = observed.apps.keys().map(|app| service.demands().of(app).sample());
    let (mut in_flight, mut held, mut sessions) = (0, 0, 0);
    for sample in samples {
        in_flight += sample.in_flight;
        held += sample.held;
        sessions += sample.sessions;
    }
    let mut text = String::new();
    let mut gauge = |name: &str, help: &str, values: &[(&str, u64)]| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
        for (labels, value) in values {
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    };
    let labels = stages.map(|stage| format!("{{stage=\"{stage}\"}}"));
    let by_stage: Vec<_> = labels.iter().map(String::as_str).zip(counts).collect();
    gauge("marmot_replicas", "Replicas by stage.", &by_stage);
    gauge("marmot_apps", "Apps that are on.", &[("", observed.apps.len() as u64)]);
    gauge("marmot_builds", "Builds that wait or are under way.", &[("", observed.builds.len() as u64)]);
    gauge("marmot_requests_in_flight", "Requests that apps work on.", &[("", in_flight)]);
    gauge("marmot_requests_held", "Requests that wait for an app to wake.", &[("", held)]);
    gauge("marmot_sessions", "Open WebSockets and event streams of apps.", &[("", sessions)]);
    gauge("marmot_replicas_resident_bytes", "Resident memory of all replicas.", &[("", resident)]);
    gauge("marmot_replicas_swapped_bytes", "Swapped memory of all replicas.", &[("", swapped)]);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}
