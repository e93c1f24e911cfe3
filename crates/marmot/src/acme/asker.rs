//! What asks an authority: over TLS alone, no longer than [`AT_MOST`], no more than [`LARGEST`], no redirects.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use jiff::Timestamp;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;

/// Authorities are slow at times.
const AT_MOST: Duration = Duration::from_secs(60);
/// Many times what a chain of certificates takes.
const LARGEST: usize = 256 << 10;

/// Asks an authority.
#[derive(Clone)]
pub(super) struct Asker {
    client: reqwest::Client,
    waits: Waits,
}

/// How long an authority asked us to wait when it refused something.
#[derive(Clone, Default)]
pub(super) struct Waits(Arc<Mutex<Option<Duration>>>);

impl Waits {
    /// The longest since this was asked last.
    pub(super) fn take(&self) -> Option<Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn note(&self, wait: Duration) {
        let mut longest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *longest = Some(longest.map_or(wait, |longest| longest.max(wait)));
    }
}

impl Asker {
    /// `root`: a file with the certificate that the authority's own is issued by, beside those that are trusted anyway.
    pub(super) fn new(root: Option<&Path>) -> anyhow::Result<Self> {
        let mut builder = reqwest::Client::builder()
            .https_only(true)
            .redirect(Policy::none())
            .connect_timeout(AT_MOST / 4)
            .timeout(AT_MOST)
            .user_agent(concat!("marmot/", env!("CARGO_PKG_VERSION")));
        if let Some(root) = root {
            let place = || format!("cannot use `acme_root` ({})", root.display());
            let pem = std::fs::read(root).with_context(place)?;
            let roots = reqwest::Certificate::from_pem_bundle(&pem).with_context(place)?;
            anyhow::ensure!(!roots.is_empty(), "{}: there is no certificate in it, in PEM", place());
            builder = builder.tls_certs_merge(roots);
        }
        let client = builder.build().context("cannot ask a certificate authority")?;
        Ok(Self { client, waits: Waits::default() })
    }

    pub(super) fn waits(&self) -> &Waits {
        &self.waits
    }

    async fn ask(self, request: http::Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let url = parts.uri.to_string();
        let asked = self.client.request(parts.method, &url).headers(parts.headers).body(body);
        let other = |error: reqwest::Error| Error::Other(Box::new(error));
        let mut response = asked.send().await.map_err(other)?;
        let status = response.status();
        if status.is_client_error() || status.is_server_error() {
            retry_after(response.headers(), Timestamp::now())
                .into_iter()
                .for_each(|wait| self.waits.note(wait));
        }
        let mut text = Vec::new();
        while let Some(part) = response.chunk().await.map_err(other)? {
            if text.len() + part.len() > LARGEST {
                return Err(Error::Str("the answer is longer than any should be"));
            }
            text.extend_from_slice(&part);
        }
        // What is no answer of the protocol would be read as if it were.
        let is_problem = serde_json::from_slice::<serde_json::Value>(&text).is_ok();
        if (status.is_client_error() || status.is_server_error()) && !is_problem {
            return Err(Error::Other(format!("{url} answers {status}").into()));
        }
        let mut answer = http::Response::new(Full::new(Bytes::from(text)));
        *answer.status_mut() = status;
        *answer.headers_mut() = response.headers().clone();
        Ok(answer.into())
    }
}

impl HttpClient for Asker {
    fn request(
        &self,
        request: http::Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        Box::pin(self.clone().ask(request))
    }
}

/// How long it is to be waited, as seconds or as a date.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    value.parse().map(Duration::from_secs).ok().or_else(|| {
        let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
        Duration::try_from(date.duration_since(now)).ok()
    })
}

/// An error with its causes.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let cause = source.to_string();
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_says_how_long_to_wait_as_seconds_or_as_a_date() {
        let now = "2026-11-24T08:00:00Z".parse().unwrap();
        let wait = |value: &str| {
            let headers = [(RETRY_AFTER, value.parse().unwrap())].into_iter().collect();
            retry_after(&headers, now).map(|wait| wait.as_secs())
        };
        assert_eq!(wait("3600"), Some(3600));
        assert_eq!(wait("Tue, 24 Nov 2026 08:01:00 GMT"), Some(60));
        assert_eq!(wait("Tue, 24 Nov 2026 07:00:00 GMT"), None);
        assert_eq!(wait("soon"), None);
    }
}
