//! How requests to an app are treated, as its owner says, and what that comes to.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What somebody has said about the requests to an app. All of it may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Traffic {
    /// Bytes that the body of a request may have. More: 413. Never more than the server allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_limit_bytes: Option<u64>,
    /// Whether the last requests are written down: where from, method, path without the query, status, time.
    pub log_requests: bool,
    /// Whether the app's port speaks HTTP/2 in plain text. By default that is found out, and always so for gRPC.
    pub http2: bool,
}

impl Traffic {
    /// What the body of a request may have, on a server that allows `most`.
    pub fn body_limit(&self, most: Option<u64>) -> Option<u64> {
        self.body_limit_bytes.into_iter().chain(most).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_limit_counts() {
        let says = |body_limit_bytes| Traffic { body_limit_bytes, ..Traffic::default() };
        assert_eq!(says(None).body_limit(None), None);
        assert_eq!(says(Some(7)).body_limit(None), Some(7));
        assert_eq!(says(None).body_limit(Some(7)), Some(7));
        assert_eq!(says(Some(9)).body_limit(Some(7)), Some(7));
        assert_eq!(says(Some(5)).body_limit(Some(7)), Some(5));
    }
}
