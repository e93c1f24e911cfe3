//! A sign-in under way: what the browser keeps until the provider sends it back.
//!
//! The browser keeps one random secret in a cookie that only we can read. State, nonce and PKCE verifier are made from
//! it, each by a key of its own, so that nothing has to be stored, and an answer that was asked for in another browser,
//! for another purpose or in another session fits nowhere.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::model::Secret;

/// What somebody signs in with a provider for.
#[derive(Debug, Clone)]
pub enum Purpose {
    /// To come in.
    SignIn,
    /// To come in this way, too, from now on: in this session, and in no other.
    Link(Secret),
}

/// A sign-in under way.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// With which provider.
    pub provider: String,
    /// To add a way in, not to come in.
    pub links: bool,
    /// Where to go afterwards.
    pub next: String,
    secret: Secret,
}

impl Attempt {
    /// Whoever has not come back by then begins again.
    pub const LIVES: Duration = Duration::from_secs(600);

    /// Begins one.
    pub fn begin(provider: &str, links: bool, next: &str) -> Self {
        let random: [u8; 32] = rand::random();
        Self {
            provider: provider.to_owned(),
            links,
            next: next.to_owned(),
            secret: Secret::new(URL_SAFE_NO_PAD.encode(random)),
        }
    }

    /// As the browser keeps it.
    pub fn to_cookie(&self) -> Secret {
        let kind = if self.links { "link" } else { "in" };
        let next = URL_SAFE_NO_PAD.encode(&self.next);
        Secret::new(format!("{}.{kind}.{next}.{}", self.provider, self.secret.reveal()))
    }

    /// As the browser gave it back.
    pub fn from_cookie(text: &Secret) -> Option<Self> {
        let mut parts = text.reveal().split('.');
        let (provider, kind, next) = (parts.next()?, parts.next()?, parts.next()?);
        let secret = parts.next().filter(|secret| secret.len() == 43)?;
        let links = match kind {
            "in" => false,
            "link" => true,
            _ => return None,
        };
        let next = String::from_utf8(URL_SAFE_NO_PAD.decode(next).ok()?).ok()?;
        parts.next().is_none().then(|| Self {
            provider: provider.to_owned(),
            links,
            next,
            secret: Secret::new(secret),
        })
    }

    /// Comes back beside the answer, and shows that it is the one to this question.
    pub(super) fn state(&self, purpose: &Purpose) -> String {
        let session = match purpose {
            Purpose::SignIn => "",
            Purpose::Link(session) => session.reveal(),
        };
        self.derived("state", session)
    }

    /// Whether a state is the one of this attempt.
    pub(super) fn fits(&self, purpose: &Purpose, state: &str) -> bool {
        same(&self.state(purpose), state)
    }

    /// Comes back inside the id token.
    pub(super) fn nonce(&self) -> String {
        self.derived("nonce", "")
    }

    /// Shows the provider that who redeems the code is who asked for it.
    pub(super) fn verifier(&self) -> String {
        self.derived("verifier", "")
    }

    /// What the provider is told of the verifier beforehand.
    pub(super) fn challenge(&self) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(self.verifier()))
    }

    fn derived(&self, what: &str, with: &str) -> String {
        let key = Sha256::digest(self.secret.reveal());
        let mut mac = Hmac::<Sha256>::new(&{
            let mut block = [0; 64];
            block[..32].copy_from_slice(&key);
            block.into()
        });
        for part in [what, &self.provider, with] {
            mac.update(part.as_bytes());
            mac.update(&[0]);
        }
        URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
    }
}

/// Compares in constant time.
pub(super) fn same(left: &str, right: &str) -> bool {
    left.as_bytes().ct_eq(right.as_bytes()).into()
}
