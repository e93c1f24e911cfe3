//! Whether the server lives, and whether it can serve.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use http::StatusCode;

use super::metrics::metrics;
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
