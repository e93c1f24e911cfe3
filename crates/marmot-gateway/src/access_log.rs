//! A line for each request, of the apps for which somebody wants them: the operator in the server's log, the owner beside
//! the app. Never a query, in which secrets travel, and never a header.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::{HeaderValue, Method, Request, StatusCode};
use tokio::time::Instant;

use crate::config::GatewayConfig;
use crate::routes::Route;

/// So many requests of an app are remembered for its owner.
pub(crate) const REMEMBERED: usize = 200;
/// Bytes of a path that are kept.
const PATH_BYTES: usize = 500;

/// A request to an app, as its owner may read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedRequest {
    /// When its answer began, since 1970.
    pub at: Duration,
    /// Where it came from.
    pub client: IpAddr,
    /// `GET`.
    pub method: String,
    /// Its path, without the query.
    pub path: String,
    /// What it was answered.
    pub status: u16,
    /// How long it took until then.
    pub took: Duration,
    /// Its `X-Request-Id`, by which the app may know it.
    pub request_id: String,
}

/// What is told of a request once its answer begins.
pub(crate) struct Line {
    for_operator: bool,
    for_owner: bool,
    client: IpAddr,
    method: Method,
    /// Without its query.
    path: String,
    began: Instant,
}

impl Line {
    /// `None`: nobody wants the requests of this app written down.
    pub(crate) fn begin<B>(
        config: &GatewayConfig,
        route: &Route,
        client: SocketAddr,
        request: &Request<B>,
    ) -> Option<Box<Self>> {
        let for_operator = config.access_log.contains(&route.app);
        let for_owner = route.traffic.is_logged;
        (for_operator || for_owner).then(|| {
            let path = request.uri().path();
            let kept = path.len().min(PATH_BYTES);
            Box::new(Self {
                for_operator,
                for_owner,
                client: client.ip(),
                method: request.method().clone(),
                // Nothing but ASCII passes.
                path: path.get(..kept).unwrap_or_default().to_owned(),
                began: Instant::now(),
            })
        })
    }

    /// `now`: since 1970.
    pub(crate) fn end(self, route: &Route, status: StatusCode, request_id: &HeaderValue, now: Duration) {
        let took = self.began.elapsed();
        let request_id = request_id.to_str().unwrap_or_default();
        if self.for_operator {
            tracing::info!(
                target: "marmot::access",
                app = %route.app,
                client = %self.client,
                method = %self.method,
                path = self.path,
                status = status.as_u16(),
                millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                request_id,
                "answered"
            );
        }
        if self.for_owner {
            route.meter.log(LoggedRequest {
                at: now,
                client: self.client,
                method: self.method.to_string(),
                path: self.path,
                status: status.as_u16(),
                took,
                request_id: request_id.to_owned(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::routes::{Access, RouteState, Traffic};

    fn route(app: &str) -> Route {
        Route {
            app: app.parse().unwrap(),
            title: String::new(),
            access: Access::everyone(),
            state: RouteState::Off,
            traffic: Traffic::default(),
            log_readers: Default::default(),
            demand: Default::default(),
            meter: Default::default(),
        }
    }

    #[test]
    fn only_the_requests_of_apps_for_which_somebody_wants_them_are_told_and_never_their_queries() {
        let client = ([192, 0, 2, 1], 7).into();
        let mut config = GatewayConfig::local(([127, 0, 0, 1], 80).into());
        let request = Request::get("http://iris.localhost/plot?token=secret").body(()).unwrap();
        let mut iris = route("iris");
        let end = |line: Line, route: &Route| {
            line.end(route, StatusCode::OK, &HeaderValue::from_static("id"), Duration::from_secs(7));
        };
        assert!(Line::begin(&config, &iris, client, &request).is_none());
        config.access_log.insert(iris.app.clone());
        end(*Line::begin(&config, &iris, client, &request).unwrap(), &iris);
        assert!(iris.meter.logged().is_empty(), "the operator alone wants them");
        assert!(Line::begin(&config, &route("rose"), client, &request).is_none());
        iris.traffic.is_logged = true;
        for _ in 0..2 * REMEMBERED {
            end(*Line::begin(&config, &iris, client, &request).unwrap(), &iris);
        }
        let logged = iris.meter.logged();
        assert_eq!((logged.len(), logged[0].path.as_str(), logged[0].status), (REMEMBERED, "/plot", 200));
    }
}
