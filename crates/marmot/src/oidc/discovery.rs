//! What a provider says of itself.

use reqwest::Client;
use serde::{Deserialize, Deserializer, de::Error as _};
use url::Url;

use super::config::may_be_asked;
use super::error::Trouble;
use super::fetch;

/// What a provider says of itself, as far as we ask.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Metadata {
    issuer: String,
    #[serde(deserialize_with = "address")]
    pub(super) authorization_endpoint: Url,
    #[serde(deserialize_with = "address")]
    pub(super) token_endpoint: Url,
    #[serde(deserialize_with = "address")]
    pub(super) jwks_uri: Url,
    #[serde(default, deserialize_with = "some_address")]
    pub(super) userinfo_endpoint: Option<Url>,
    #[serde(default, deserialize_with = "some_address")]
    pub(super) end_session_endpoint: Option<Url>,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    pub(super) authorization_response_iss_parameter_supported: bool,
}

impl Metadata {
    /// Asks the provider.
    pub(super) async fn fetch(http: &Client, issuer: &str) -> Result<Self, Trouble> {
        let address = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let found: Self = fetch::json("its configuration", http.get(address)).await?;
        found.check(issuer)?;
        Ok(found)
    }

    fn check(&self, issuer: &str) -> Result<(), Trouble> {
        if self.issuer != issuer {
            return Err(Trouble::broken(format!(
                "it calls itself `{}`, and `issuer` is `{issuer}`: they must be the same, to the letter",
                fetch::plain(&self.issuer, 200)
            )));
        }
        let endpoints = [
            Some(&self.authorization_endpoint),
            Some(&self.token_endpoint),
            Some(&self.jwks_uri),
            self.userinfo_endpoint.as_ref(),
            self.end_session_endpoint.as_ref(),
        ];
        for endpoint in endpoints.into_iter().flatten() {
            if !may_be_asked(endpoint, issuer) {
                let host = endpoint.host_str().unwrap_or_default();
                return Err(Trouble::broken(format!("one of its addresses, at `{host}`, is not `https://`")));
            }
        }
        Ok(())
    }

    /// Whether the client's secret goes into the body of a request, where the header is not known.
    pub(super) fn secret_in_body(&self) -> bool {
        self.token_endpoint_auth_methods_supported.as_ref().is_some_and(|methods| {
            let knows = |method: &str| methods.iter().any(|known| known == method);
            knows("client_secret_post") && !knows("client_secret_basic")
        })
    }
}

fn address<'de, D: Deserializer<'de>>(from: D) -> Result<Url, D::Error> {
    Url::parse(&String::deserialize(from)?).map_err(D::Error::custom)
}

fn some_address<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Url>, D::Error> {
    address(from).map(Some)
}
