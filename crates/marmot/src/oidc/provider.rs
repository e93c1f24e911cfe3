//! One identity provider: where to send people, and what to make of the answer they come back with.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::Client;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use tokio::time::Instant;
use url::Url;

use super::attempt::{Attempt, Purpose};
use super::claims::{Claims, Standing};
use super::config::ProviderConfig;
use super::discovery::Metadata;
use super::error::{OidcError, Trouble};
use super::fetch;
use super::id_token::{self, Expected};
use super::keys::Keys;

/// What a provider says of itself is asked for again after this long.
const KNOWN_FOR: Duration = Duration::from_secs(3600);
/// A provider that did not answer is not asked again before.
const REST: Duration = Duration::from_secs(5);

/// An identity provider.
#[derive(Debug)]
pub struct Provider {
    config: ProviderConfig,
    /// Where it is to send people back to.
    redirect: String,
    http: Result<Client, Trouble>,
    /// Held while it is asked: whoever comes meanwhile waits for the same answer.
    known: Mutex<Known>,
    keys: Mutex<Keys>,
}

#[derive(Debug, Default)]
enum Known {
    #[default]
    Nothing,
    Metadata {
        of: Arc<Metadata>,
        at: Instant,
    },
    Trouble {
        what: Trouble,
        at: Instant,
    },
}

/// What somebody comes back with.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Answer {
    /// To be redeemed for tokens.
    pub code: Option<Box<str>>,
    /// Shows to which question this is the answer.
    pub state: Option<Box<str>>,
    /// Which provider this is from.
    pub iss: Option<Box<str>>,
    /// Why there is no code.
    pub error: Option<Box<str>>,
    /// Why there is no code, in words.
    pub error_description: Option<Box<str>>,
}

#[derive(Deserialize)]
struct Tokens {
    id_token: String,
    access_token: Option<String>,
}

impl Provider {
    /// A provider for a platform at this address.
    pub fn new(config: ProviderConfig, public_url: &str) -> Self {
        let redirect = format!("{public_url}/sign-in/with/{}/back", config.id);
        Self { config, redirect, http: fetch::client(), known: Mutex::default(), keys: Mutex::default() }
    }

    /// What the operator said of it.
    pub fn config(&self) -> &ProviderConfig {
        &self.config
    }

    /// Where to send a browser for this attempt.
    ///
    /// # Errors
    /// When the provider does not answer, or not as it should.
    pub async fn address(&self, attempt: &Attempt, purpose: &Purpose) -> Result<Url, OidcError> {
        let mut address = self.metadata().await?.authorization_endpoint.clone();
        address
            .query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.config.client_id)
            .append_pair("redirect_uri", &self.redirect)
            .append_pair("scope", &self.config.scopes.join(" "))
            .append_pair("state", &attempt.state(purpose))
            .append_pair("nonce", &attempt.nonce())
            .append_pair("code_challenge", &attempt.challenge())
            .append_pair("code_challenge_method", "S256");
        Ok(address)
    }

    /// Who it is that came back, and what that person may be here.
    ///
    /// # Errors
    /// When the answer is not the one to this attempt, says no, or cannot be believed.
    pub async fn finish(
        &self,
        attempt: &Attempt,
        purpose: &Purpose,
        answer: &Answer,
        now: Timestamp,
    ) -> Result<(Claims, Standing), OidcError> {
        let state = answer.state.as_deref().unwrap_or_default();
        if attempt.provider != self.config.id || !attempt.fits(purpose, state) {
            return Err(OidcError::NotExpected { why: "the state does not fit the browser's" });
        }
        let metadata = self.metadata().await?;
        // Else one provider could pass off its answer as another's (RFC 9207).
        match answer.iss.as_deref() {
            Some(issuer) if issuer != self.config.issuer => {
                return Err(OidcError::NotExpected { why: "the answer is from another issuer" });
            }
            None if metadata.authorization_response_iss_parameter_supported => {
                return Err(OidcError::NotExpected {
                    why: "the answer does not say which issuer it is from",
                });
            }
            _ => {}
        }
        if let Some(error) = &answer.error {
            let reason = answer.error_description.as_deref().unwrap_or(error);
            let title = self.config.title.clone();
            return Err(OidcError::Refused { title, reason: fetch::plain(reason, 200) });
        }
        let code = answer.code.as_deref().ok_or(OidcError::NotExpected { why: "there is no code" })?;
        let found = self.redeem(&metadata, attempt, code, now).await;
        let claims = Claims::read(&found.map_err(|trouble| self.named(trouble))?, &self.config.groups_claim);
        match claims.standing(&self.config) {
            Standing::Out => Err(OidcError::NotInGroup { title: self.config.title.clone() }),
            standing => Ok((claims, standing)),
        }
    }

    /// Where people end their session at the provider, if it has such a place.
    pub async fn sign_out_address(&self, back_to: &str) -> Option<Url> {
        let mut address = self.metadata().await.ok()?.end_session_endpoint.clone()?;
        address
            .query_pairs_mut()
            .append_pair("client_id", &self.config.client_id)
            .append_pair("post_logout_redirect_uri", back_to);
        Some(address)
    }

    async fn redeem(
        &self,
        metadata: &Metadata,
        attempt: &Attempt,
        code: &str,
        now: Timestamp,
    ) -> Result<Map<String, Value>, Trouble> {
        let http = self.http.as_ref().map_err(Clone::clone)?;
        let verifier = attempt.verifier();
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &self.redirect),
            ("code_verifier", &verifier),
        ];
        let mut request = http.post(metadata.token_endpoint.clone());
        match &self.config.client_secret {
            Some(secret) if !metadata.secret_in_body() => {
                // The specification wants them encoded as in a form, first.
                request = request.basic_auth(encoded(&self.config.client_id), Some(encoded(secret.reveal())));
            }
            Some(secret) => form
                .extend([("client_id", self.config.client_id.as_str()), ("client_secret", secret.reveal())]),
            None => form.push(("client_id", &self.config.client_id)),
        }
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(body);
        let tokens: Tokens = fetch::json("its tokens", request).await?;

        let signed = id_token::signature(&tokens.id_token).map_err(Trouble::Broken)?;
        let keys = {
            let mut keys = self.keys.lock().await;
            keys.for_token(http, &metadata.jwks_uri, signed.algorithm, signed.key_id.as_deref()).await?
        };
        let nonce = attempt.nonce();
        let expected =
            Expected { issuer: &self.config.issuer, client_id: &self.config.client_id, nonce: &nonce, now };
        let mut claims =
            id_token::verify(&tokens.id_token, signed.algorithm, &keys, expected).map_err(Trouble::Broken)?;
        if let (Some(address), Some(token)) = (&metadata.userinfo_endpoint, &tokens.access_token) {
            let request = http.get(address.clone()).bearer_auth(token);
            let more: Map<String, Value> = fetch::json("what it knows of the person", request).await?;
            // Else somebody else's details could be slipped in.
            if more.get("sub") != claims.get("sub") {
                return Err(Trouble::broken("its details are about somebody else than its token"));
            }
            for (name, value) in more {
                claims.entry(name).or_insert(value);
            }
        }
        Ok(claims)
    }

    async fn metadata(&self) -> Result<Arc<Metadata>, OidcError> {
        let mut known = self.known.lock().await;
        match &*known {
            Known::Metadata { of, at } if at.elapsed() < KNOWN_FOR => return Ok(Arc::clone(of)),
            Known::Trouble { what, at } if at.elapsed() < REST => return Err(self.named(what.clone())),
            _ => {}
        }
        let found = match &self.http {
            Ok(http) => Metadata::fetch(http, &self.config.issuer).await,
            Err(trouble) => Err(trouble.clone()),
        };
        let at = Instant::now();
        match found {
            Ok(found) => {
                let of = Arc::new(found);
                *known = Known::Metadata { of: Arc::clone(&of), at };
                Ok(of)
            }
            Err(what) => {
                *known = Known::Trouble { what: what.clone(), at };
                Err(self.named(what))
            }
        }
    }

    fn named(&self, trouble: Trouble) -> OidcError {
        trouble.of(&self.config.title)
    }
}

fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}
