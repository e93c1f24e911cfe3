//! Encrypts what must be readable again: secrets of apps, passwords for repositories and registries.
//!
//! Each value is sealed with a key of its own, and that key with a master key which is not in the database. Whoever gets
//! a copy of the database alone learns nothing; a new master key means to seal short keys anew, not values.

mod key;

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

pub use key::{KeyError, MasterKey, read_or_make};

use crate::model::Secret;

/// What the text of a sealed value begins with: the way it is sealed.
const VERSION: &str = "v1";
/// Length of a key, in bytes.
const KEY_BYTES: usize = 32;

/// Seals with the newest master key, opens with each that it has.
pub struct Vault {
    newest: String,
    keys: BTreeMap<String, RandomizedNonceKey>,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("newest", &self.newest).finish_non_exhaustive()
    }
}

/// A value as it is stored: `v1.MASTER-KEY-ID.SEALED-KEY.SEALED-VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed(String);

impl Sealed {
    /// What was stored earlier. Whether it can be opened shows when it is.
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The text to be stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a sealed value cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CannotOpen {
    /// None of the keys is the one it was sealed with.
    #[error("it was sealed with the key `{0}`, which this server does not have")]
    NoKey(String),
    /// It is damaged, or belongs to something else.
    #[error("it is damaged, or was moved from where it belongs")]
    Damaged,
}

impl Vault {
    /// A vault with these master keys, the newest first.
    ///
    /// # Errors
    /// When there is none.
    pub fn new(keys: Vec<MasterKey>) -> Result<Self, KeyError> {
        let newest = keys.first().ok_or(KeyError::Empty)?.id();
        let keys = keys.iter().map(|key| Ok((key.id(), aead(key.bytes())?)));
        Ok(Self { newest, keys: keys.collect::<Result<_, KeyError>>()? })
    }

    /// A vault whose key ends with it, for tests and for what is thrown away.
    pub fn of_the_moment() -> Self {
        let key = MasterKey::random();
        let id = key.id();
        let keys = aead(key.bytes()).map(|key| BTreeMap::from([(id.clone(), key)])).unwrap_or_default();
        Self { newest: id, keys }
    }

    /// Seals a value for one place: `place` names the row and column it is stored in, and must be given to open it.
    ///
    /// # Errors
    /// Never in practice: when the machine has no randomness.
    pub fn seal(&self, place: &str, value: &Secret) -> Result<Sealed, CannotOpen> {
        let own: [u8; KEY_BYTES] = rand::random();
        let wrapped = lock(self.key(&self.newest)?, place, &own)?;
        let own = aead(&own).map_err(|_| CannotOpen::Damaged)?;
        let value = lock(&own, place, value.reveal().as_bytes())?;
        Ok(Sealed(format!("{VERSION}.{}.{wrapped}.{value}", self.newest)))
    }

    /// The value that was sealed for this place.
    ///
    /// # Errors
    /// [`CannotOpen`] without a word of what is inside.
    pub fn open(&self, place: &str, sealed: &Sealed) -> Result<Secret, CannotOpen> {
        let (id, wrapped, value) = parts(sealed)?;
        let own = aead(&unlock(self.key(id)?, place, wrapped)?).map_err(|_| CannotOpen::Damaged)?;
        let value = unlock(&own, place, value)?;
        String::from_utf8(value).map(Secret::new).map_err(|_| CannotOpen::Damaged)
    }

    /// The same value under the newest master key; `None` when it is already. The value itself is not touched.
    ///
    /// # Errors
    /// As [`Vault::open`].
    pub fn renewed(&self, place: &str, sealed: &Sealed) -> Result<Option<Sealed>, CannotOpen> {
        let (id, wrapped, value) = parts(sealed)?;
        if id == self.newest {
            return Ok(None);
        }
        let own = unlock(self.key(id)?, place, wrapped)?;
        let wrapped = lock(self.key(&self.newest)?, place, &own)?;
        Ok(Some(Sealed(format!("{VERSION}.{}.{wrapped}.{value}", self.newest))))
    }

    fn key(&self, id: &str) -> Result<&RandomizedNonceKey, CannotOpen> {
        self.keys.get(id).ok_or_else(|| CannotOpen::NoKey(id.chars().take(16).collect()))
    }
}

fn aead(key: &[u8]) -> Result<RandomizedNonceKey, KeyError> {
    RandomizedNonceKey::new(&AES_256_GCM, key).map_err(|_| KeyError::Length)
}

fn parts(sealed: &Sealed) -> Result<(&str, &str, &str), CannotOpen> {
    let mut parts = sealed.0.split('.');
    match (parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(VERSION), Some(id), Some(wrapped), Some(value), None) => Ok((id, wrapped, value)),
        _ => Err(CannotOpen::Damaged),
    }
}

/// The nonce, then what was encrypted, then its tag.
fn lock(key: &RandomizedNonceKey, place: &str, bytes: &[u8]) -> Result<String, CannotOpen> {
    let mut text = bytes.to_vec();
    let nonce = key
        .seal_in_place_append_tag(Aad::from(place.as_bytes()), &mut text)
        .map_err(|_| CannotOpen::Damaged)?;
    let mut whole = nonce.as_ref().to_vec();
    whole.append(&mut text);
    Ok(URL_SAFE_NO_PAD.encode(whole))
}

fn unlock(key: &RandomizedNonceKey, place: &str, text: &str) -> Result<Vec<u8>, CannotOpen> {
    let damaged = |_| CannotOpen::Damaged;
    let whole = URL_SAFE_NO_PAD.decode(text).map_err(|_| CannotOpen::Damaged)?;
    let (nonce, rest) = whole.split_at_checked(NONCE_LEN).ok_or(CannotOpen::Damaged)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(damaged)?;
    let mut rest = rest.to_vec();
    let opened = key.open_in_place(nonce, Aad::from(place.as_bytes()), &mut rest).map_err(damaged)?;
    Ok(opened.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(keys: &[&MasterKey]) -> Vault {
        Vault::new(keys.iter().map(|&key| key.clone()).collect()).unwrap()
    }

    #[test]
    fn opens_what_it_sealed_and_shows_nothing_of_it() {
        let vault = Vault::of_the_moment();
        for value in ["", "hunter2", "ключ 🔑", &"x".repeat(100_000)] {
            let sealed = vault.seal("secrets/1", &Secret::new(value)).unwrap();
            assert_eq!(vault.open("secrets/1", &sealed).unwrap().reveal(), value);
            assert!(value.is_empty() || !sealed.as_str().contains(value));
            assert_ne!(vault.seal("secrets/1", &Secret::new(value)).unwrap(), sealed);
        }
        assert!(!format!("{vault:?}").contains("key:"));
    }

    #[test]
    fn a_value_is_worth_nothing_in_another_place_or_with_another_key() {
        let (old, other) = (MasterKey::random(), MasterKey::random());
        let sealed = vault(&[&old]).seal("secrets/1", &Secret::new("hunter2")).unwrap();
        assert_eq!(vault(&[&old]).open("secrets/2", &sealed), Err(CannotOpen::Damaged));
        assert_eq!(vault(&[&other]).open("secrets/1", &sealed), Err(CannotOpen::NoKey(old.id())));
    }

    #[test]
    fn what_was_changed_anywhere_is_refused_without_a_panic() {
        let key = MasterKey::random();
        let vault = vault(&[&key]);
        let sealed = vault.seal("p", &Secret::new("hunter2")).unwrap();
        for at in 0..sealed.as_str().len() {
            let mut bytes = sealed.as_str().as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = Sealed::from_stored(String::from_utf8(bytes).unwrap());
            let opened = vault.open("p", &changed);
            // The last letter of base64 may hold bits that mean nothing.
            assert!(opened.is_err() || opened.as_ref().is_ok_and(|opened| opened.reveal() == "hunter2"));
        }
        for cut in ["", "v1", "v1...", "v1.a.b.c", "v2.a.b.c", "v1.a.b.c.d"] {
            assert!(vault.open("p", &Sealed::from_stored(cut.into())).is_err());
        }
    }

    #[test]
    fn a_new_master_key_takes_over_without_touching_values() {
        let (old, new) = (MasterKey::random(), MasterKey::random());
        let sealed = vault(&[&old]).seal("p", &Secret::new("hunter2")).unwrap();
        let both = vault(&[&new, &old]);
        assert_eq!(both.open("p", &sealed).unwrap().reveal(), "hunter2");
        let renewed = both.renewed("p", &sealed).unwrap().unwrap();
        assert_eq!(both.renewed("p", &renewed).unwrap(), None);
        assert_eq!(vault(&[&new]).open("p", &renewed).unwrap().reveal(), "hunter2");
        let value = |sealed: &Sealed| sealed.as_str().rsplit('.').next().unwrap().to_owned();
        assert_eq!(value(&sealed), value(&renewed));
    }
}
