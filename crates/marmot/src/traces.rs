//! Sends what the gateway tells of requests to a collector, by OTLP over HTTP: in batches, a few times again where the
//! collector does not take one, and never so that a request waits for it.

mod otlp;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use marmot_gateway::trace::{Counts, ROOM, Sampler, Span, Tracer};
use prost::Message as _;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, StatusCode, Url, header, redirect};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::causes::chain;

/// Spans that are sent together.
const BATCH: usize = 512;
/// How long the first span of a batch waits for others.
const GATHERED: Duration = Duration::from_secs(1);
/// How long a collector may take for a batch.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a batch is tried, and how long after the first time; after the second, twice as long.
const TRIES: u32 = 3;
const AGAIN: Duration = Duration::from_secs(1);
/// What is left when the server stops must be gone within this time.
const FLUSH: Duration = Duration::from_secs(3);
/// What is read of a collector's answer.
const ANSWER_BYTES: usize = 64 << 10;

/// Where spans go, and as whose.
#[derive(Debug, Clone)]
pub struct Collector {
    /// Its address, with the path for traces.
    pub url: Url,
    /// What it is shown, tokens among them.
    pub headers: HeaderMap,
    /// Which requests are recorded.
    pub sampler: Sampler,
    /// What is said of this server: `service.name` and more.
    pub resource: Vec<(String, String)>,
}

/// What takes spans out of the gateway's queue.
#[derive(Debug)]
pub struct Exporter {
    client: Client,
    url: Url,
    resource: Vec<(String, String)>,
    spans: mpsc::Receiver<Span>,
    counts: Arc<Counts>,
    /// Spans that had been crowded out when that was last said.
    said: AtomicU64,
    is_in_trouble: AtomicBool,
}

/// Why a collector did not take a batch. Never with its address, which the operator knows, nor what it was shown.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("the collector cannot be reached: {0}")]
    Unreachable(String),
    #[error("the collector answers {0}")]
    Refused(StatusCode),
}

impl Trouble {
    /// As the specification of OTLP has it.
    fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Refused(status) => matches!(status.as_u16(), 429 | 502 | 503 | 504),
        }
    }
}

/// What makes spans, and what sends them to `collector`.
///
/// # Errors
/// When no client can be made.
pub fn begin(collector: Collector) -> anyhow::Result<(Tracer, Exporter)> {
    let (tracer, spans) = Tracer::new(collector.sampler, ROOM);
    let mut headers = collector.headers;
    headers.values_mut().for_each(|value| value.set_sensitive(true));
    let client = Client::builder()
        // What it is shown is for nobody else.
        .redirect(redirect::Policy::none())
        .default_headers(headers)
        .timeout(PATIENCE)
        .user_agent(concat!("marmot/", env!("CARGO_PKG_VERSION")))
        .build()?;
    let exporter = Exporter {
        client,
        url: collector.url,
        resource: collector.resource,
        spans,
        counts: tracer.counts(),
        said: AtomicU64::new(0),
        is_in_trouble: AtomicBool::new(false),
    };
    Ok((tracer, exporter))
}

impl Exporter {
    /// Sends spans until `stop`, and then what is left, as far as there is time for it.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        while let Some(Some(first)) = stop.run_until_cancelled(self.spans.recv()).await {
            batch.push(first);
            let _ = stop.run_until_cancelled(timeout(GATHERED, self.gather(&mut batch))).await;
            if stop.run_until_cancelled(self.deliver(&batch)).await.is_none() {
                // It may have arrived; a span that comes twice is one.
                break;
            }
            batch.clear();
            self.tell_of_crowd();
        }
        let left = async {
            loop {
                while batch.len() < BATCH
                    && let Ok(span) = self.spans.try_recv()
                {
                    batch.push(span);
                }
                if batch.is_empty() {
                    return;
                }
                self.deliver(&batch).await;
                batch.clear();
            }
        };
        if timeout(FLUSH, left).await.is_err() {
            tracing::warn!("the collector of traces took too long for what was left");
        }
    }

    async fn gather(&mut self, batch: &mut Vec<Span>) {
        while batch.len() < BATCH {
            if self.spans.recv_many(batch, BATCH - batch.len()).await == 0 {
                return;
            }
        }
    }

    /// Sends a batch, again if that may help, and counts what has become of it.
    async fn deliver(&self, batch: &[Span]) {
        let (body, all) = (otlp::request(&self.resource, batch).encode_to_vec(), batch.len() as u64);
        let mut pause = AGAIN;
        for tried in 1..=TRIES {
            match self.send(body.clone()).await {
                Ok(rejected) => {
                    let rejected = rejected.min(all);
                    self.counts.sent.fetch_add(all - rejected, Ordering::Relaxed);
                    self.counts.refused.fetch_add(rejected, Ordering::Relaxed);
                    if self.is_in_trouble.swap(false, Ordering::Relaxed) {
                        tracing::info!("the collector takes traces again");
                    }
                    return;
                }
                Err(trouble) => {
                    if !self.is_in_trouble.swap(true, Ordering::Relaxed) {
                        tracing::warn!(%trouble, "traces are lost until the collector takes them");
                    }
                    if tried == TRIES || !trouble.may_pass() {
                        break;
                    }
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
            }
        }
        self.counts.refused.fetch_add(all, Ordering::Relaxed);
    }

    /// How many of them the collector did not want.
    async fn send(&self, body: Vec<u8>) -> Result<u64, Trouble> {
        let unreachable = |error: reqwest::Error| Trouble::Unreachable(chain(&error.without_url()));
        let request =
            self.client.post(self.url.clone()).header(header::CONTENT_TYPE, "application/x-protobuf");
        let mut answer = request.body(body).send().await.map_err(unreachable)?;
        if !answer.status().is_success() {
            return Err(Trouble::Refused(answer.status()));
        }
        let mut text = Vec::new();
        while let Ok(Some(part)) = answer.chunk().await {
            text.extend_from_slice(&part);
            if text.len() > ANSWER_BYTES {
                break;
            }
        }
        // Taken is taken, whatever is said besides.
        Ok(otlp::rejected(&text))
    }

    fn tell_of_crowd(&self) {
        let now = self.counts.crowded_out.load(Ordering::Relaxed);
        if now > 0 && self.said.swap(now, Ordering::Relaxed) == 0 {
            tracing::warn!(
                "traces come faster than the collector takes them: `marmot_spans_dropped_total` counts those that are lost"
            );
        }
    }
}

/// Headers, or other pairs, as `OTEL_EXPORTER_OTLP_HEADERS` has them: `name=value,name=value`, what is special in
/// percent-encoding.
pub fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=')?;
            let value = percent_encoding::percent_decode_str(value.trim()).decode_utf8().ok()?;
            (!name.trim().is_empty()).then(|| (name.trim().to_owned(), value.into_owned()))
        })
        .collect()
}

/// Pairs as headers; `None` where one is none.
pub fn headers(pairs: &[(String, String)]) -> Option<HeaderMap> {
    let header = |(name, value): &(String, String)| {
        Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?))
    };
    pairs.iter().map(header).collect()
}

#[cfg(test)]
mod tests;
