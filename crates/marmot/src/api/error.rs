//! Refusals on the wire: one shape for all, with a status that fits and an id to find the log line by.

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{self, HeaderValue};
use serde::Serialize;
use utoipa::ToSchema;

use crate::service::Error;

/// A refusal.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    message: String,
    detail: Option<String>,
    retry_after: Option<u64>,
    /// What is counted, how often it may be asked for, and within how many seconds.
    rate: Option<(&'static str, u64, u64)>,
    /// What the operator needs to know, and nobody else.
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// A refusal on the wire.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorBody {
    error: ErrorDetails,
}

/// What is known of a refusal.
#[derive(Debug, Serialize, ToSchema)]
struct ErrorDetails {
    /// 1000 and the HTTP status.
    #[schema(example = 1422)]
    code: u16,
    /// What was refused and why.
    message: String,
    /// More about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// Names this refusal in the server's log.
    trace_id: String,
}

pub(super) type Result<T, E = Problem> = std::result::Result<T, E>;

impl Problem {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), detail: None, retry_after: None, rate: None, cause: None }
    }

    pub(super) fn unprocessable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, message)
    }

    pub(super) fn detail(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let status = match &error {
            Error::SignInNeeded | Error::WrongCredentials | Error::InvalidCredentials => {
                StatusCode::UNAUTHORIZED
            }
            Error::Forbidden { .. } => StatusCode::FORBIDDEN,
            Error::NotFound { .. } | Error::LinkSpent => StatusCode::NOT_FOUND,
            Error::Provider(_) => StatusCode::BAD_GATEWAY,
            Error::AlreadyActive { .. } | Error::Conflict { .. } => StatusCode::CONFLICT,
            Error::Invalid { .. } | Error::NotOffered { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Error::Stale => StatusCode::PRECONDITION_FAILED,
            Error::VersionNeeded => StatusCode::PRECONDITION_REQUIRED,
            Error::TooManyTries { .. } | Error::TooOften { .. } => StatusCode::TOO_MANY_REQUESTS,
            Error::Busy { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Error::DiskFull(_) => StatusCode::INSUFFICIENT_STORAGE,
            Error::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let mut problem = Self::new(status, error.to_string());
        match error {
            Error::AlreadyActive { name } => problem.detail = Some(format!("its name is {name}")),
            Error::TooManyTries { retry_after } | Error::Busy { retry_after } => {
                problem.retry_after = Some(retry_after.as_secs().max(1));
            }
            Error::TooOften { what, quota, window, retry_after, .. } => {
                problem.retry_after = Some(retry_after.as_secs().max(1));
                problem.rate = Some((what, quota, window.as_secs()));
            }
            Error::DiskFull(cause) => problem.cause = Some(Box::new(cause)),
            Error::Internal(cause) => problem.cause = Some(cause),
            _ => {}
        }
        problem
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::new(rejection.status(), "the path cannot be read").detail(rejection.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::unprocessable("the query cannot be read").detail(rejection.body_text())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let trace_id = ulid::Ulid::generate().to_string();
        if let Some(cause) = &self.cause {
            tracing::error!(%trace_id, error = crate::causes::chain(&**cause), "a request to the API failed");
        }
        let details = ErrorDetails {
            code: 1000 + self.status.as_u16(),
            message: self.message,
            detail: self.detail,
            trace_id,
        };
        let mut response = (self.status, Json(ErrorBody { error: details })).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        if let (Some((what, quota, window)), Some(seconds)) = (self.rate, self.retry_after) {
            // As the gateway says it of requests to apps.
            let policy = format!("\"{what}\";q={quota};w={window}");
            let left = format!("\"{what}\";r=0;t={seconds}");
            for (name, value) in [("ratelimit-policy", policy), ("ratelimit", left)] {
                if let Ok(value) = HeaderValue::try_from(value) {
                    response.headers_mut().insert(name, value);
                }
            }
        }
        response
    }
}
