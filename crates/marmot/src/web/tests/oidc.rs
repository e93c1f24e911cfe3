//! Signing in with an account elsewhere: at a real provider, and at one that lies.

mod fake;
mod lies;
mod real;

use super::*;
use crate::oidc::ProviderConfig;

/// A provider's description, as an operator would write it.
fn uni(issuer: &str) -> ProviderConfig {
    ProviderConfig {
        id: "uni".to_owned(),
        title: "University".to_owned(),
        issuer: issuer.to_owned(),
        client_id: "marmot".to_owned(),
        client_secret: Some(Secret::new("a secret: with / and %")),
        scopes: ["openid", "profile", "email"].map(str::to_owned).to_vec(),
        groups_claim: "groups".to_owned(),
        admin_groups: Vec::new(),
        allowed_groups: Vec::new(),
        create_accounts: true,
    }
}

impl Platform {
    async fn with_provider(provider: ProviderConfig) -> Self {
        Self::with(HOME, |options| options.people.providers = vec![provider]).await
    }
}

impl Browser {
    /// Begins to sign in; where the browser is sent. Keeps the cookie for coming back.
    async fn sent_to_provider(&mut self, platform: &Platform, next: &str) -> url::Url {
        let answer = self.get(platform, &format!("/sign-in/with/uni?next={next}")).await;
        answer.is(StatusCode::FOUND);
        self.add(&answer);
        answer.location.as_deref().unwrap().parse().unwrap()
    }

    /// Takes the cookies that came with an answer, beside those that are there.
    fn add(&mut self, answer: &Answer) {
        let mut kept: Vec<String> =
            self.cookie.iter().flat_map(|text| text.split("; ")).map(str::to_owned).collect();
        for set in answer.headers.get_all(header::SET_COOKIE) {
            let pair = set.to_str().unwrap().split(';').next().unwrap().to_owned();
            let (name, value) = pair.split_once('=').unwrap();
            kept.retain(|other| other.split('=').next() != Some(name));
            if !value.is_empty() {
                kept.push(pair);
            }
        }
        self.cookie = (!kept.is_empty()).then(|| kept.join("; "));
    }

    async fn username(&self, platform: &Platform) -> Option<String> {
        let home = self.get(platform, "/").await;
        let (_, rest) = home.text.split_once("<span class=\"who\" aria-hidden=\"true\">")?;
        Some(rest.split_once("</span>")?.1.split('<').next()?.trim().to_owned())
    }
}
