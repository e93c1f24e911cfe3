//! What every page is protected by: headers that browsers enforce, and the refusal of requests from elsewhere.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use marmot_gateway::Peer;

use super::respond::{Failed, Refusal};
use super::{Web, language};
use crate::model::Via;
use crate::service::Call;

/// How a browser sends a form.
const FORM: &str = "application/x-www-form-urlencoded";

/// What is the same for every request: our own origin, and the headers of every answer.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    /// Such as `https://marmot.example.org`.
    origin: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Rules {
    /// For pages at `origin` whose apps live at sub-domains of `apps`, such as `https://*.apps.example.org`.
    pub(super) fn new(origin: String, apps: &str) -> Self {
        // Signing in for a private app is a form here that ends, by redirects, on the app's own host.
        let policy = format!(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; \
             connect-src 'self'; form-action 'self' {apps}; base-uri 'none'; frame-ancestors 'none'"
        );
        let plain = |name, value| (name, HeaderValue::from_static(value));
        let mut headers = vec![
            plain(header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            plain(header::X_FRAME_OPTIONS, "DENY"),
            // Not `no-referrer`: browsers would then send `Origin: null` with our own forms.
            plain(header::REFERRER_POLICY, "same-origin"),
            plain(HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
            plain(HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
            plain(HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
        ];
        if let Ok(policy) = HeaderValue::try_from(policy) {
            headers.push((header::CONTENT_SECURITY_POLICY, policy));
        }
        Self { origin, headers }
    }

    /// Whether a request with these headers comes from one of our own pages, or from no page at all.
    pub(super) fn admits(&self, method: &Method, headers: &HeaderMap) -> bool {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let ours = match (origins.next(), origins.next()) {
            (Some(origin), None) => Some(origin.as_bytes() == self.origin.as_bytes()),
            (None, None) => None,
            _ => Some(false),
        };
        if matches!(*method, Method::GET | Method::HEAD) {
            // A link from elsewhere carries no origin; a script's request, stream or socket does.
            return ours != Some(false);
        }
        let site = headers.get("sec-fetch-site").is_none_or(|site| site == "same-origin");
        // What other pages can send without being asked has another type.
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let form = kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(FORM));
        ours == Some(true) && site && form
    }
}

/// Refuses what does not come from our pages, draws what was refused, and puts the headers on every answer.
///
/// All of it speaks the language of the browser, from when it is known who asks that of the account.
pub(super) async fn guard(State(web): State<Web>, request: Request, next: Next) -> Response {
    let language = language::of_browser(request.headers());
    marmot_text::speaking(language, guarded(web, request, next)).await
}

async fn guarded(web: Web, request: Request, next: Next) -> Response {
    let headers = request.headers().clone();
    let here = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let mut response = if web.rules.admits(request.method(), &headers) {
        let address = request.extensions().get::<Peer>();
        let address = address.map(|peer| peer.0.ip());
        let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
        Call::new(Via::Page, address, agent.unwrap_or_default()).accompany(next.run(request)).await
    } else {
        Failed::Elsewhere.into_response()
    };
    if let Some(refusal) = response.extensions_mut().remove::<Refusal>() {
        response = refusal.page(&web, &headers, here).await;
    }
    language::declare(&mut response, marmot_text::spoken());
    let headers = response.headers_mut();
    for (name, value) in &web.rules.headers {
        headers.insert(name, value.clone());
    }
    // Pages differ by who reads them.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(method: &Method, headers: &[(&'static str, &str)]) -> bool {
        let rules = Rules::new("http://localhost:8080".to_owned(), "http://*.localhost:8080");
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()));
        rules.admits(method, &headers.collect())
    }

    #[test]
    fn only_our_own_pages_may_change_something() {
        let (ours, form) = (("origin", "http://localhost:8080"), ("content-type", FORM));
        assert!(admits(&Method::POST, &[ours, form]));
        assert!(admits(&Method::POST, &[ours, form, ("sec-fetch-site", "same-origin")]));
        for refused in [
            &[][..],
            &[form],
            &[ours],
            &[ours, ("content-type", "text/plain")],
            &[ours, ("content-type", "multipart/form-data")],
            &[("origin", "null"), form],
            &[("origin", "http://evil.example"), form],
            &[("origin", "http://iris.localhost:8080"), form, ("sec-fetch-site", "same-site")],
            &[("origin", "http://localhost:8080.evil.example"), form],
            &[("origin", "https://localhost:8080"), form],
            &[ours, form, ("sec-fetch-site", "same-site")],
            &[ours, form, ("sec-fetch-site", "cross-site")],
        ] {
            for method in [Method::POST, Method::DELETE, Method::PATCH, Method::OPTIONS] {
                assert!(!admits(&method, refused), "{method} {refused:?}");
            }
        }
    }

    #[test]
    fn a_link_may_lead_here_from_anywhere_but_a_script_may_not_read() {
        assert!(admits(&Method::GET, &[]));
        assert!(admits(&Method::GET, &[("sec-fetch-site", "cross-site")]));
        assert!(!admits(&Method::GET, &[("origin", "http://iris.localhost:8080")]));
    }
}
