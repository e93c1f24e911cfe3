//! Hashes and checks passwords, a bounded number at a time: each takes tens of milliseconds and 19 MiB.

use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash};
use tokio::sync::oneshot;

use super::error::Field;
use super::error::{Error, Result};
use crate::model::Secret;
use marmot_core::said;

/// Shortest password that is accepted. NIST SP 800-63B asks for eight at least.
const SHORTEST: usize = 8;
/// Longest: hashing more is work for nothing.
const LONGEST: usize = 1000;
/// How many are hashed at the same time, so that a burst of sign-ins leaves the machine usable.
const AT_A_TIME: usize = 2;
/// How many more may wait for their turn. Who comes beyond is told to come back: each waits for a second or two at most.
const MOST_WAITING: usize = 64;
/// When those are told to come back.
const COME_BACK: Duration = Duration::from_secs(2);

/// Work for one of the threads.
type Job = Box<dyn FnOnce() + Send>;

/// Hashes and checks passwords, on threads of its own: each keeps the memory that hashing takes, where those that come and
/// go would keep it each.
#[derive(Debug)]
pub(super) struct Passwords {
    /// Its threads end when this is gone.
    queue: SyncSender<Job>,
}

impl Passwords {
    pub(super) fn new() -> Self {
        let (queue, jobs) = sync_channel::<Job>(MOST_WAITING);
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..AT_A_TIME {
            let jobs = Arc::clone(&jobs);
            std::thread::spawn(move || {
                let next = || jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
                while let Ok(job) = next() {
                    // Whoever waits for one that fails is told, since nothing answers any more.
                    let _ = std::panic::catch_unwind(AssertUnwindSafe(job));
                }
            });
        }
        Self { queue }
    }

    /// The hash of a new password, with its salt and parameters.
    pub(super) async fn hash(&self, password: &Secret) -> Result<Secret> {
        let length = password.reveal().chars().count();
        if !(SHORTEST..=LONGEST).contains(&length) {
            return Err(Error::invalid(said!(
                "password-length",
                "the password has {length} characters: it needs {least} at least, and {most} at most",
                length = length,
                least = SHORTEST,
                most = LONGEST
            ))
            .about(Field::Password));
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
        let (tell, told) = oneshot::channel();
        let job = move || {
            // One whose caller has left is not begun.
            if !tell.is_closed() {
                let _ = tell.send(work());
            }
        };
        self.queue.try_send(Box::new(job)).map_err(|_| Error::Busy { retry_after: COME_BACK })?;
        told.await
            .map_err(|error| Error::Internal(error.into()))?
            .map_err(|error| Error::Internal(error.into()))
    }
}
