//! Whether an id token says what we may believe: by whom it was signed, for whom, about what, and when.

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::attempt::same;

/// How far clocks may differ.
const LEEWAY: i64 = 60;
/// The algorithms that are believed: those by which only the provider can sign.
const BELIEVED: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// What we expect of an id token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    pub(super) client_id: &'a str,
    pub(super) nonce: &'a str,
    pub(super) now: Timestamp,
}

/// What a token says of how it was signed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Signature {
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<String>,
}

/// Reads by what a token is signed, and refuses what anybody could have signed.
pub(super) fn signature(token: &str) -> Result<Signature, String> {
    let header = jsonwebtoken::decode_header(token)
        .map_err(|_| "its token has no header that can be read, or an algorithm that is none".to_owned())?;
    if !BELIEVED.contains(&header.alg) {
        return Err(format!("its token is signed by {:?}, which is not believed", header.alg));
    }
    Ok(Signature { algorithm: header.alg, key_id: header.kid })
}

#[derive(Debug, Deserialize)]
struct Registered {
    iss: String,
    sub: String,
    aud: Audience,
    azp: Option<String>,
    exp: i64,
    iat: i64,
    nbf: Option<i64>,
    nonce: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

/// The claims of a token that one of these keys has signed, and that is for us, about this sign-in, and of now.
pub(super) fn verify(
    token: &str,
    algorithm: Algorithm,
    keys: &[DecodingKey],
    expected: Expected<'_>,
) -> Result<Map<String, Value>, String> {
    let mut validation = Validation::new(algorithm);
    // The signature alone: the rest is checked below, at a time that is an argument.
    (validation.validate_exp, validation.validate_nbf, validation.validate_aud) = (false, false, false);
    validation.required_spec_claims.clear();
    let claims = keys
        .iter()
        .find_map(|key| jsonwebtoken::decode::<Map<String, Value>>(token, key, &validation).ok())
        .ok_or_else(|| "its token is signed by none of its keys".to_owned())?
        .claims;
    let registered = Registered::deserialize(Value::Object(claims.clone()))
        .map_err(|_| "its token lacks `iss`, `sub`, `aud`, `exp` or `iat`".to_owned())?;
    check(&registered, expected)?;
    Ok(claims)
}

fn check(found: &Registered, expected: Expected<'_>) -> Result<(), String> {
    let refuse = |what: &str| Err(format!("its token {what}"));
    if found.iss != expected.issuer {
        return refuse("is from another issuer");
    }
    let (ours, several) = match &found.aud {
        Audience::One(one) => (one == expected.client_id, false),
        Audience::Several(all) => (all.iter().any(|one| one == expected.client_id), all.len() > 1),
    };
    if !ours {
        return refuse("is for another client");
    }
    match &found.azp {
        Some(party) if party != expected.client_id => return refuse("was given to another client"),
        None if several => return refuse("is for several clients, and does not say which it was given to"),
        _ => {}
    }
    let now = expected.now.as_second();
    if found.exp.saturating_add(LEEWAY) <= now {
        return refuse("has expired, or one of the clocks is wrong");
    }
    if found.iat > now.saturating_add(LEEWAY) || found.nbf.is_some_and(|nbf| nbf > now.saturating_add(LEEWAY))
    {
        return refuse("is from the future: one of the clocks is wrong");
    }
    if found.nonce.as_deref().is_none_or(|nonce| !same(nonce, expected.nonce)) {
        return refuse("belongs to another sign-in");
    }
    if found.sub.is_empty() || found.sub.len() > 255 || found.sub.chars().any(char::is_control) {
        return refuse("does not say whom it is about");
    }
    Ok(())
}
