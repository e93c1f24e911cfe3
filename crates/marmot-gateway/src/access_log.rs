//! A line for each request, of the apps for which the operator wants them.

use std::net::SocketAddr;

use http::{HeaderValue, Method, Request, StatusCode};
use marmot_core::AppName;
use tokio::time::Instant;

use crate::config::GatewayConfig;

/// What is told of a request once its answer begins.
pub(crate) struct Line {
    app: AppName,
    client: SocketAddr,
    method: Method,
    /// Without its query, in which secrets travel.
    path: String,
    began: Instant,
}

impl Line {
    /// `None`: nobody wants the requests of this app written down.
    pub(crate) fn begin<B>(
        config: &GatewayConfig,
        app: &AppName,
        client: SocketAddr,
        request: &Request<B>,
    ) -> Option<Self> {
        config.access_log.contains(app).then(|| Self {
            app: app.clone(),
            client,
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            began: Instant::now(),
        })
    }

    pub(crate) fn end(self, status: StatusCode, request_id: &HeaderValue) {
        tracing::info!(
            target: "marmot::access",
            app = %self.app,
            client = %self.client.ip(),
            method = %self.method,
            path = self.path,
            status = status.as_u16(),
            millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            request_id = request_id.to_str().unwrap_or_default(),
            "answered"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_requests_of_listed_apps_are_told_and_never_their_queries() {
        let client = ([192, 0, 2, 1], 7).into();
        let mut config = GatewayConfig::local(([127, 0, 0, 1], 80).into());
        let request = Request::get("http://iris.localhost/plot?token=secret").body(()).unwrap();
        let iris: AppName = "iris".parse().unwrap();
        assert!(Line::begin(&config, &iris, client, &request).is_none());
        config.access_log.insert(iris.clone());
        assert_eq!(Line::begin(&config, &iris, client, &request).unwrap().path, "/plot");
        assert!(Line::begin(&config, &"rose".parse().unwrap(), client, &request).is_none());
    }
}
