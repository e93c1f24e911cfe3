//! Tells an app who its visitor is, signed: a JSON Web Token (RFC 7519) that lives for minutes and is for one app alone,
//! by keys whose public halves the platform publishes (RFC 7517).

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use marmot_core::AppName;
use serde::Serialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::opening::Caller;

/// How long a token is good for. It is for the request that it comes with, and for what the app asks others meanwhile.
const TOKEN_LIFE: Duration = Duration::from_secs(300);
/// A token that has been signed is used again while it is good for at least this long.
const LEFT_AT_LEAST: Duration = Duration::from_secs(120);
/// Tokens that one core remembers. Signing one anew takes some tens of microseconds.
const REMEMBERED: usize = 4096;

/// A key that signs who visitors are.
#[derive(Clone)]
pub struct IdentityKey {
    pair: Arc<EcdsaKeyPair>,
    id: String,
    public: serde_json::Value,
}

/// What was kept is no key, or none could be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no private key for ES256")]
pub struct InvalidKey;

impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IdentityKey").field(&self.id).finish()
    }
}

impl IdentityKey {
    /// A fresh one, as it is to be kept: PKCS #8.
    ///
    /// # Errors
    /// When the machine gives no random numbers.
    pub fn generate() -> Result<Vec<u8>, InvalidKey> {
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        made.map(|document| document.as_ref().to_vec()).map_err(|_| InvalidKey)
    }

    /// One that was kept.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(kept: &[u8]) -> Result<Self, InvalidKey> {
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, kept).map_err(|_| InvalidKey)?;
        // A point, not compressed: 4, x, y.
        let point = pair.public_key().as_ref();
        let (x, y) = point.get(1..).filter(|both| both.len() == 64).ok_or(InvalidKey)?.split_at(32);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        // Its thumbprint (RFC 7638).
        let canonical = format!("{{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"{x}\",\"y\":\"{y}\"}}");
        let id = URL_SAFE_NO_PAD.encode(Sha256::digest(canonical));
        let public =
            json!({"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": id, "alg": "ES256", "use": "sig"});
        Ok(Self { pair: Arc::new(pair), id, public })
    }

    /// What it is called among those that are published.
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// Signs who visitors are, for the apps of one platform.
#[derive(Debug)]
pub struct Identities {
    issuer: String,
    keys: ArcSwap<Keys>,
}

#[derive(Debug)]
struct Keys {
    signer: IdentityKey,
    published: String,
}

impl Keys {
    fn new<'a>(signer: IdentityKey, published: impl IntoIterator<Item = &'a IdentityKey>) -> Self {
        let keys: Vec<_> = published.into_iter().map(|key| &key.public).collect();
        Self { published: json!({ "keys": keys }).to_string(), signer }
    }
}

impl Identities {
    /// For the platform at `issuer`, signed with `signer`; `published` are all with which a token that is still good may
    /// have been signed, and those that come next.
    pub fn new<'a>(
        issuer: impl Into<String>,
        signer: IdentityKey,
        published: impl IntoIterator<Item = &'a IdentityKey>,
    ) -> Self {
        Self { issuer: issuer.into(), keys: ArcSwap::from_pointee(Keys::new(signer, published)) }
    }

    /// Goes on with other keys.
    pub fn replace<'a>(&self, signer: IdentityKey, published: impl IntoIterator<Item = &'a IdentityKey>) {
        self.keys.store(Arc::new(Keys::new(signer, published)));
    }

    /// The public halves, as a JSON Web Key Set.
    pub fn published(&self) -> String {
        self.keys.load().published.clone()
    }

    /// A token for the app at `audience`, of who is known there; `now` since 1970.
    fn sign(&self, audience: &str, caller: &Caller, now: Duration) -> Option<String> {
        let (kind, subject, name) = match caller {
            Caller::Anybody => return None,
            Caller::Person(person) => ("person", person.id.to_string(), Some(person.username.as_str())),
            Caller::Link(id) => ("link", format!("link:{id}"), None),
            Caller::Key(key) => ("key", format!("key:{}", key.id), None),
        };
        let keys = self.keys.load();
        let issued = now.as_secs();
        let claims = Claims {
            iss: &self.issuer,
            aud: audience,
            sub: &subject,
            iat: issued,
            exp: issued + TOKEN_LIFE.as_secs(),
            kind,
            preferred_username: name,
        };
        let head = json!({"alg": "ES256", "typ": "JWT", "kid": keys.signer.id}).to_string();
        let claims = serde_json::to_string(&claims).ok()?;
        let mut token = format!("{}.{}", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(claims));
        let signature = keys.signer.pair.sign(&SystemRandom::new(), token.as_bytes()).ok()?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature.as_ref(), &mut token);
        Some(token)
    }
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    iat: u64,
    exp: u64,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    preferred_username: Option<&'a str>,
}

/// Tokens that one core has signed and that are good for a while yet. The lock is this core's own.
#[derive(Default)]
pub(crate) struct Tokens(Mutex<HashMap<(AppName, u8, u128), Signed>>);

struct Signed {
    token: HeaderValue,
    /// Until when it is used again, since 1970.
    until: Duration,
    /// A name that has changed is signed anew.
    name: String,
}

impl Tokens {
    /// A token for `app`, of who is known there.
    pub(crate) fn of(
        &self,
        identities: &Identities,
        app: &AppName,
        audience: impl FnOnce() -> String,
        caller: &Caller,
        now: Duration,
    ) -> Option<HeaderValue> {
        let (kind, id, name) = match caller {
            Caller::Anybody => return None,
            Caller::Person(person) => (1, person.id.as_u128(), person.username.as_str()),
            Caller::Link(link) => (2, link.as_u128(), ""),
            Caller::Key(key) => (3, key.id.as_u128(), ""),
        };
        let mut signed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let holder = (app.clone(), kind, id);
        if let Some(known) = signed.get(&holder).filter(|known| known.until > now && known.name == name) {
            return Some(known.token.clone());
        }
        let mut token = HeaderValue::try_from(identities.sign(&audience(), caller, now)?).ok()?;
        token.set_sensitive(true);
        if signed.len() >= REMEMBERED {
            signed.retain(|_, known| known.until > now);
            if signed.len() >= REMEMBERED {
                signed.clear();
            }
        }
        let until = now + TOKEN_LIFE - LEFT_AT_LEAST;
        signed.insert(holder, Signed { token: token.clone(), until, name: name.to_owned() });
        Some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Person;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
    use marmot_core::id::{ShareLinkId, UserId};

    fn ada() -> Caller {
        Caller::Person(Person { id: UserId::from(7), username: "ada".into() })
    }

    fn key() -> IdentityKey {
        IdentityKey::read(&IdentityKey::generate().unwrap()).unwrap()
    }

    fn part(token: &str, number: usize) -> serde_json::Value {
        let part = token.split('.').nth(number).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    /// Verifies a token by what is published.
    fn is_signed_by(published: &str, token: &str) -> bool {
        let published: serde_json::Value = serde_json::from_str(published).unwrap();
        let kid = part(token, 0)["kid"].clone();
        let keys = published["keys"].as_array().unwrap();
        let Some(key) = keys.iter().find(|key| key["kid"] == kid) else { return false };
        let decode = |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap();
        let point = [vec![4], decode("x"), decode("y")].concat();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed.as_bytes(), &signature).is_ok()
    }

    #[test]
    fn a_token_says_who_and_for_whom_and_can_be_verified_while_its_key_is_published() {
        let (first, second) = (key(), key());
        let identities = Identities::new("https://marmot.test", first.clone(), [&first]);
        let now = Duration::from_secs(1_000);
        let token = identities.sign("https://iris.apps.test", &ada(), now).unwrap();
        let claims = part(&token, 1);
        assert_eq!(
            claims,
            json!({
                "iss": "https://marmot.test", "aud": "https://iris.apps.test", "sub": UserId::from(7).to_string(),
                "iat": 1000, "exp": 1300, "kind": "person", "preferred_username": "ada",
            })
        );
        assert!(is_signed_by(&identities.published(), &token));
        identities.replace(second.clone(), [&first, &second]);
        let later = identities.sign("https://iris.apps.test", &ada(), now).unwrap();
        assert!(
            is_signed_by(&identities.published(), &token) && is_signed_by(&identities.published(), &later)
        );
        identities.replace(second.clone(), [&second]);
        assert!(
            !is_signed_by(&identities.published(), &token) && is_signed_by(&identities.published(), &later)
        );
        let private = |published: &str| published.contains("\"d\"");
        assert!(!private(&identities.published()));
    }

    #[test]
    fn who_came_by_a_link_has_no_name_and_nobody_in_particular_no_token() {
        let only = key();
        let identities = Identities::new("https://marmot.test", only.clone(), [&only]);
        let token = identities.sign("a", &Caller::Link(ShareLinkId::from(5)), Duration::ZERO).unwrap();
        let claims = part(&token, 1);
        assert_eq!(claims["kind"], "link");
        assert_eq!(claims["sub"], format!("link:{}", ShareLinkId::from(5)));
        assert_eq!(claims.get("preferred_username"), None);
        assert_eq!(identities.sign("a", &Caller::Anybody, Duration::ZERO), None);
    }

    #[test]
    fn a_token_is_used_again_as_long_as_it_is_good_for_a_while() {
        let only = key();
        let (identities, tokens) = (Identities::new("x", only.clone(), [&only]), Tokens::default());
        let app = "iris".parse().unwrap();
        let at = |second, caller: &Caller| {
            tokens.of(&identities, &app, || "a".into(), caller, Duration::from_secs(second)).unwrap()
        };
        let first = at(1000, &ada());
        assert_eq!(at(1179, &ada()), first);
        assert_ne!(at(1180, &ada()), first);
        let renamed = Caller::Person(Person { id: UserId::from(7), username: "lovelace".into() });
        assert_ne!(at(1180, &renamed), at(1180, &Caller::Link(ShareLinkId::from(7))));
        assert!(IdentityKey::read(b"no key").is_err());
    }
}
