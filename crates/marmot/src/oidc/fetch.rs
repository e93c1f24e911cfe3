//! Asks a provider, and reads what it answers: no longer than [`AT_MOST`], no more than [`LARGEST`], no redirects.

use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder};
use serde::de::DeserializeOwned;

use super::error::Trouble;
use crate::causes::chain;

/// A person waits for it.
const AT_MOST: Duration = Duration::from_secs(10);
/// Ten times what the largest providers answer.
const LARGEST: usize = 256 << 10;

/// What asks: follows no redirect, since each leads to where the operator did not say.
pub(super) fn client() -> Result<Client, Trouble> {
    Client::builder()
        .redirect(Policy::none())
        .connect_timeout(AT_MOST / 2)
        .timeout(AT_MOST)
        .user_agent(concat!("marmot/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| Trouble::broken(format!("no client can be made: {}", chain(&error))))
}

/// Sends a request, and reads JSON of the status 200.
pub(super) async fn json<T: DeserializeOwned>(what: &str, request: RequestBuilder) -> Result<T, Trouble> {
    let unreachable =
        |error: reqwest::Error| Trouble::Unreachable(format!("{what}: {}", chain(&error.without_url())));
    let mut response = request.header("accept", "application/json").send().await.map_err(unreachable)?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(unreachable)? {
        if body.len() + part.len() > LARGEST {
            return Err(Trouble::broken(format!("{what}: the answer is longer than {LARGEST} bytes")));
        }
        body.extend_from_slice(&part);
    }
    if status.is_server_error() {
        return Err(Trouble::Unreachable(format!("{what}: the answer is {status}")));
    }
    if status != reqwest::StatusCode::OK {
        return Err(Trouble::broken(format!("{what}: the answer is {status}{}", reason(&body))));
    }
    // What is wrong, and where, but not what stands there.
    serde_json::from_slice(&body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Trouble::broken(format!("{what}: not the JSON that belongs there, at line {line}, column {column}"))
    })
}

/// The error code of an OAuth refusal, if the body is one.
fn reason(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Refusal {
        error: String,
    }
    serde_json::from_slice(body)
        .map(|refusal: Refusal| format!(", `{}`", plain(&refusal.error, 60)))
        .unwrap_or_default()
}

/// Text of somebody else as it may stand in a sentence of ours.
pub(super) fn plain(text: &str, most: usize) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_does_not_answer_is_not_waited_for_longer_than_a_person_would() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/", listener.local_addr().unwrap());
        let began = tokio::time::Instant::now();
        let answer = json::<serde_json::Value>("it", client().unwrap().get(address)).await;
        assert!(matches!(&answer, Err(Trouble::Unreachable(why)) if why.starts_with("it: ")), "{answer:?}");
        assert!(began.elapsed() <= AT_MOST + Duration::from_secs(1), "{:?}", began.elapsed());
    }
}
