//! What an operator says of an identity provider.

use url::Url;

use crate::model::Secret;

/// An identity provider, as the operator described it.
#[derive(Debug, Clone)]
pub struct ProviderConfig {
    /// Names it in addresses of ours: the redirect address is `/sign-in/with/ID/back`.
    pub id: String,
    /// What people call it.
    pub title: String,
    /// Its address, exactly as it calls itself.
    pub issuer: String,
    /// What it calls us.
    pub client_id: String,
    /// What shows it that it is us; a public client when absent, which PKCE protects alone.
    pub client_secret: Option<Secret>,
    /// What we ask for.
    pub scopes: Vec<String>,
    /// The claim that lists a person's groups.
    pub groups_claim: String,
    /// Whoever is in one of these runs the installation. When empty, the provider says nothing about that.
    pub admin_groups: Vec<String>,
    /// Only who is in one of these may come in. When empty, everybody whom the provider knows.
    pub allowed_groups: Vec<String>,
    /// Somebody who comes for the first time gets an account.
    pub create_accounts: bool,
}

impl ProviderConfig {
    /// Says what is wrong with it, as words that follow its name.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn check(&self) -> Result<(), String> {
        let fine = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
        if self.id.is_empty() || self.id.len() > 40 || !self.id.chars().all(fine) {
            return Err("`id` must be 1 to 40 letters a-z, digits and hyphens".to_owned());
        }
        if self.title.trim().is_empty() || self.client_id.is_empty() {
            return Err("`title` and `client_id` must not be empty".to_owned());
        }
        let url = Url::parse(&self.issuer).ok().filter(|url| {
            url.query().is_none()
                && url.fragment().is_none()
                && url.username().is_empty()
                && url.password().is_none()
        });
        match url {
            Some(url) if may_be_asked(&url, &self.issuer) => {}
            _ => {
                return Err(format!(
                    "`issuer` is `{}`: it must be an `https://` address without a query (`http://` on this machine \
                     alone)",
                    self.issuer.chars().take(200).collect::<String>()
                ));
            }
        }
        if !self.scopes.iter().any(|scope| scope == "openid") {
            return Err("`scopes` must hold `openid`".to_owned());
        }
        let plain = |scope: &String| !scope.is_empty() && scope.bytes().all(|byte| byte.is_ascii_graphic());
        if !self.scopes.iter().all(plain) {
            return Err("each of `scopes` must be one word".to_owned());
        }
        Ok(())
    }
}

/// Whether an address of a provider may be asked: over TLS, except on this machine by an issuer on this machine.
pub(super) fn may_be_asked(url: &Url, issuer: &str) -> bool {
    let here = |url: &Url| match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    match url.scheme() {
        "https" => url.host().is_some(),
        "http" => here(url) && Url::parse(issuer).is_ok_and(|issuer| here(&issuer)),
        _ => false,
    }
}
