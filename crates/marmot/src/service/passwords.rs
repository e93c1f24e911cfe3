//! Hashes and checks passwords, a bounded number at a time: each takes tens of milliseconds and 19 MiB.

use std::sync::Arc;

use argon2::Argon2;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash};
use tokio::sync::Semaphore;

use super::error::{Error, Result};
use crate::model::Secret;

/// Shortest password that is accepted. NIST SP 800-63B asks for eight at least.
const SHORTEST: usize = 8;
/// Longest: hashing more is work for nothing.
const LONGEST: usize = 1000;
/// How many are hashed at the same time, so that a burst of sign-ins leaves the machine usable.
const AT_A_TIME: usize = 2;

/// Hashes and checks passwords.
#[derive(Debug)]
pub(super) struct Passwords {
    places: Arc<Semaphore>,
}

impl Passwords {
    pub(super) fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(AT_A_TIME)) }
    }

    /// The hash of a new password, with its salt and parameters.
    pub(super) async fn hash(&self, password: &Secret) -> Result<Secret> {
        let length = password.reveal().chars().count();
        if !(SHORTEST..=LONGEST).contains(&length) {
            return Err(Error::invalid(format!(
                "the password has {length} characters: it needs {SHORTEST} at least, and {LONGEST} at most"
            )));
        }
        let password = password.clone();
        self.run(move || {
            let hash = Argon2::default().hash_password(password.reveal().as_bytes())?;
            Ok(Secret::new(hash.to_string()))
        })
        .await
    }

    /// Whether the password is the one of this hash. Without a hash the answer is *no*, and takes as long.
    pub(super) async fn check(&self, password: &Secret, hash: Option<Secret>) -> Result<bool> {
        if password.reveal().chars().count() > LONGEST {
            return Ok(false);
        }
        let password = password.clone();
        self.run(move || {
            let Some(hash) = hash else {
                Argon2::default().hash_password(password.reveal().as_bytes())?;
                return Ok(false);
            };
            let hash = PasswordHash::new(hash.reveal())?;
            Ok(Argon2::default().verify_password(password.reveal().as_bytes(), &hash).is_ok())
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, argon2::password_hash::Error> + Send + 'static,
    ) -> Result<T> {
        let place =
            Arc::clone(&self.places).acquire_owned().await.map_err(|error| Error::Internal(error.into()))?;
        let done = tokio::task::spawn_blocking(move || {
            // Held by the work itself: a caller who leaves does not make room for more.
            let _place = place;
            work()
        });
        done.await
            .map_err(|error| Error::Internal(error.into()))?
            .map_err(|error| Error::Internal(error.into()))
    }
}
