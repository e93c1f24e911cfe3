//! A provider's keys: fetched when they are needed, again when one is unknown, and never often.

use std::time::Duration;

use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use reqwest::Client;
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use super::error::Trouble;
use super::fetch;

/// Keys are believed this long: one that the provider has withdrawn is good no longer than that.
const GOOD_FOR: Duration = Duration::from_secs(600);
/// An unknown key is a reason to ask again, but only [`ASKS`] times within this: somebody may name keys that do not exist.
const WINDOW: Duration = Duration::from_secs(60);
/// See [`WINDOW`].
const ASKS: u32 = 5;
/// No provider has more keys in use.
const MOST: usize = 50;

/// The keys that a provider had at some time.
#[derive(Debug, Default)]
pub(super) struct Keys {
    held: Vec<Jwk>,
    asked: Option<Instant>,
    /// When counting began, and how often was asked since.
    window: Option<(Instant, u32)>,
}

#[derive(Deserialize)]
struct Published {
    keys: Vec<serde_json::Value>,
}

impl Keys {
    /// The keys that may have signed a token with this header.
    pub(super) async fn for_token(
        &mut self,
        http: &Client,
        address: &Url,
        algorithm: Algorithm,
        id: Option<&str>,
    ) -> Result<Vec<DecodingKey>, Trouble> {
        let fresh = self.asked.is_none_or(|asked| asked.elapsed() > GOOD_FOR);
        if !fresh {
            let found = self.fitting(algorithm, id);
            if !found.is_empty() {
                return Ok(found);
            }
        }
        if self.may_ask() {
            self.ask(http, address).await?;
        }
        Ok(self.fitting(algorithm, id))
    }

    fn may_ask(&mut self) -> bool {
        let now = Instant::now();
        let (since, asks) = self.window.filter(|(since, _)| since.elapsed() < WINDOW).unwrap_or((now, 0));
        self.window = Some((since, asks + 1));
        asks < ASKS
    }

    async fn ask(&mut self, http: &Client, address: &Url) -> Result<(), Trouble> {
        self.held.clear();
        let published: Published = fetch::json("its keys", http.get(address.clone())).await?;
        // Keys of kinds that we do not know are none of ours to judge.
        let known = published.keys.into_iter().filter_map(|key| serde_json::from_value(key).ok());
        self.held = known.filter(signs).take(MOST).collect();
        self.asked = Some(Instant::now());
        Ok(())
    }

    fn fitting(&self, algorithm: Algorithm, id: Option<&str>) -> Vec<DecodingKey> {
        self.held
            .iter()
            .filter(|key| id.is_none_or(|id| key.common.key_id.as_deref() == Some(id)))
            .filter(|key| fits(key, algorithm))
            .filter_map(|key| DecodingKey::from_jwk(key).ok())
            .collect()
    }
}

/// Whether a key is one that signs. Never one that both sides share: then anybody who knows it could sign.
fn signs(key: &Jwk) -> bool {
    let public = !matches!(key.algorithm, AlgorithmParameters::OctetKey(_) | AlgorithmParameters::Other(_));
    public && key.common.public_key_use.as_ref().is_none_or(|used| *used == PublicKeyUse::Signature)
}

/// Whether a key may be used with an algorithm: of its kind, and not of another by its own word.
fn fits(key: &Jwk, algorithm: Algorithm) -> bool {
    use Algorithm as A;
    let (kind, named) = match (&key.algorithm, algorithm) {
        (AlgorithmParameters::RSA(_), A::RS256) => (true, KeyAlgorithm::RS256),
        (AlgorithmParameters::RSA(_), A::RS384) => (true, KeyAlgorithm::RS384),
        (AlgorithmParameters::RSA(_), A::RS512) => (true, KeyAlgorithm::RS512),
        (AlgorithmParameters::RSA(_), A::PS256) => (true, KeyAlgorithm::PS256),
        (AlgorithmParameters::RSA(_), A::PS384) => (true, KeyAlgorithm::PS384),
        (AlgorithmParameters::RSA(_), A::PS512) => (true, KeyAlgorithm::PS512),
        (AlgorithmParameters::EllipticCurve(_), A::ES256) => (true, KeyAlgorithm::ES256),
        (AlgorithmParameters::EllipticCurve(_), A::ES384) => (true, KeyAlgorithm::ES384),
        (AlgorithmParameters::OctetKeyPair(_), A::EdDSA) => (true, KeyAlgorithm::EdDSA),
        _ => (false, KeyAlgorithm::RS256),
    };
    kind && key.common.key_algorithm.is_none_or(|alone| alone == named)
}
