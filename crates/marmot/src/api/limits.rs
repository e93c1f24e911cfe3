//! The limits of projects on the wire.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::Result;
use super::extract::{Body, Path, Who, parse, present};
use crate::service::{LimitsView, Service};

/// A limit.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LimitOut {
    /// The most there may be; absent for as much as there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed: Option<u64>,
    /// What there is now; absent where that is not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    used: Option<u64>,
    /// An administrator said it for this project; else the installation's settings do.
    own: bool,
}

/// What the apps and builds of a project may use together.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LimitsOut {
    /// Memory in bytes, as the sum of what each replica that boots or is awake may use.
    memory_bytes: LimitOut,
    /// Results of builds, and homes and logs of apps, on disk.
    storage_bytes: LimitOut,
    /// Builds at the same time; the others wait.
    builds_at_once: LimitOut,
    /// Builds that are begun within an hour.
    builds_per_hour: LimitOut,
    /// Awake replicas beyond the first of each app.
    replicas: LimitOut,
    /// Requests to all of its apps, with ten seconds' worth at once.
    requests_per_second: LimitOut,
    /// Requests to all of its apps at the same time.
    requests_at_once: LimitOut,
}

impl From<LimitsView> for LimitsOut {
    fn from(view: LimitsView) -> Self {
        let LimitsView { allowed, said, used } = view;
        let limit = |allowed, said: Option<u64>, used| LimitOut { allowed, used, own: said.is_some() };
        Self {
            memory_bytes: limit(allowed.memory_bytes, said.memory_bytes, used.memory_bytes),
            storage_bytes: limit(allowed.storage_bytes, said.storage_bytes, used.storage_bytes),
            builds_at_once: limit(allowed.builds_at_once, said.builds_at_once, used.builds_at_once),
            builds_per_hour: limit(allowed.builds_per_hour, said.builds_per_hour, used.builds_per_hour),
            replicas: limit(allowed.replicas, said.replicas, used.replicas),
            requests_per_second: limit(allowed.requests_per_second, said.requests_per_second, None),
            requests_at_once: limit(allowed.requests_at_once, said.requests_at_once, None),
        }
    }
}

/// A change of a project's limits. What is absent stays; `null` makes it what the installation says.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitsChange {
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 9007199254740992u64)]
    memory_bytes: Option<Option<u64>>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 9007199254740992u64)]
    storage_bytes: Option<Option<u64>>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 9007199254740992u64)]
    builds_at_once: Option<Option<u64>>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 9007199254740992u64)]
    builds_per_hour: Option<Option<u64>>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<u64>, minimum = 0, maximum = 9007199254740992u64)]
    replicas: Option<Option<u64>>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 9007199254740992u64)]
    requests_per_second: Option<Option<u64>>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 9007199254740992u64)]
    requests_at_once: Option<Option<u64>>,
}

/// What the apps and builds of a project may use together, and what they do. For members.
#[utoipa::path(get, path = "/projects/{project_id}/limits", tag = "projects",
    params(("project_id" = String, Path)), responses((status = 200, body = LimitsOut)))]
pub(super) async fn get(
    State(service): State<Service>,
    Who(who): Who,
    Path(id): Path<String>,
) -> Result<Json<LimitsOut>> {
    Ok(Json(service.limits(&who, parse(&id)?).await?.into()))
}

/// Changes what the apps and builds of a project may use together. For administrators.
#[utoipa::path(patch, path = "/projects/{project_id}/limits", tag = "projects", request_body = LimitsChange,
    params(("project_id" = String, Path)), responses((status = 200, body = LimitsOut)))]
pub(super) async fn update(
    State(service): State<Service>,
    Who(who): Who,
    Path(id): Path<String>,
    Body(change): Body<LimitsChange>,
) -> Result<Json<LimitsOut>> {
    let changed = service.set_limits(&who, parse(&id)?, |limits| {
        let set = |limit: &mut Option<u64>, said: Option<Option<u64>>| *limit = said.unwrap_or(*limit);
        set(&mut limits.memory_bytes, change.memory_bytes);
        set(&mut limits.storage_bytes, change.storage_bytes);
        set(&mut limits.builds_at_once, change.builds_at_once);
        set(&mut limits.builds_per_hour, change.builds_per_hour);
        set(&mut limits.replicas, change.replicas);
        set(&mut limits.requests_per_second, change.requests_per_second);
        set(&mut limits.requests_at_once, change.requests_at_once);
    });
    Ok(Json(changed.await?.into()))
}
