//! Random texts that let somebody in, and what they are found by.

use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::hex;
use crate::model::Secret;

/// 160 random bits as text that survives a double click, a URL and a header.
pub(super) fn random_text(prefix: &str) -> Secret {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let bytes: [u8; 32] = rand::random();
    let text = bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte & 31)]));
    Secret::new(prefix.chars().chain(text).collect::<String>())
}

/// What a random text is found by. No salt: 160 random bits cannot be guessed from it.
pub(super) fn hash_of(text: &Secret) -> String {
    hex::encode(&Sha256::digest(text.reveal().as_bytes()))
}

/// How long ago it was.
pub(super) fn since(earlier: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(earlier)).unwrap_or_default()
}
