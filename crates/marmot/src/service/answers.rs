//! Requests that come again, because nobody knows whether they arrived the first time: done once, answered each time.

use std::time::Duration;

use jiff::Timestamp;
use marmot_core::id::UserId;
use sha2::{Digest as _, Sha256};

use super::error::{Error, Result};
use super::permission::Identity;
use super::{Service, now};
use crate::db::{DbError, answers};
use crate::model::{Answer, Asked};

/// For so long an answer is kept.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// Who has not been answered after so long never will be: the server ended meanwhile.
const LONGEST: Duration = Duration::from_secs(600);

/// What becomes of a request that came with a key.
#[derive(Debug)]
pub enum Attempt {
    /// It is the first: it is to be done, and what is answered told.
    First(Claim),
    /// It was done, with this answer.
    Again(Answer),
}

/// A key that is taken until the request with it is answered.
#[derive(Debug)]
pub struct Claim {
    user: UserId,
    key: String,
}

impl Service {
    /// Takes `key` for a request that is `parts`, or finds what was answered when it came before. `None` for who has no
    /// account: of them nothing is kept.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it came with another request, [`Error::Conflict`] while that is being answered, or when its
    /// answer was not kept.
    pub async fn attempt(&self, who: &Identity, key: &str, parts: &[&[u8]]) -> Result<Option<Attempt>> {
        self.attempt_at(who, key, parts, now()).await
    }

    pub(super) async fn attempt_at(
        &self,
        who: &Identity,
        key: &str,
        parts: &[&[u8]],
        now: Timestamp,
    ) -> Result<Option<Attempt>> {
        let Some(user) = who.id() else { return Ok(None) };
        // A token that may do less must not be told what one that may do more was answered.
        let scope = match who {
            Identity::Token(_, scope) => format!("{scope:?}"),
            Identity::Anonymous | Identity::User(_) => String::new(),
        };
        let claim = Claim { user, key: hash(&[scope.as_bytes(), key.as_bytes()]) };
        let request = hash(parts);
        let mut db = self.db().write().await?;
        answers::forget_old(&mut db, now - KEPT).await?;
        let found = answers::get(&mut db, user, &claim.key).await?;
        let found = match found {
            Some((before, _)) if before != request => {
                return Err(Error::invalid(
                    "this `Idempotency-Key` came with another request: each request needs a key of its own",
                ));
            }
            Some((_, Asked::UnderWay { since })) if since + LONGEST < now => {
                answers::forget(&mut db, (user, &claim.key)).await?;
                None
            }
            found => found.map(|(_, asked)| asked),
        };
        match found {
            Some(Asked::Answered(answer)) => return Ok(Some(Attempt::Again(answer))),
            Some(Asked::UnderWay { .. }) => return Err(under_way()),
            Some(Asked::ShownOnce) => {
                return Err(Error::conflict(
                    "this was done already, and its answer held a secret, which is shown once and not kept: if you did not \
                     get it, remove what was made and make another, with another `Idempotency-Key`",
                ));
            }
            None => {}
        }
        match answers::begin(&mut db, (user, &claim.key), &request, now).await {
            Err(DbError::Exists(_)) => return Err(under_way()),
            other => other?,
        }
        db.commit().await.map_err(DbError::from)?;
        Ok(Some(Attempt::First(claim)))
    }

    /// Notes what a request was answered; `None`: it was done, and its answer must be kept nowhere.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn answered(&self, claim: Claim, status: u16, answer: Option<&Answer>) -> Result<()> {
        let mut db = self.db().write().await?;
        let (etag, body) = (answer.and_then(|one| one.etag.as_deref()), answer.map(|one| one.body.as_str()));
        answers::end(&mut db, (claim.user, &claim.key), status, etag, body).await?;
        Ok(db.commit().await.map_err(DbError::from)?)
    }

    /// Gives a key back: the request with it was not done.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn not_done(&self, claim: Claim) -> Result<()> {
        let mut db = self.db().write().await?;
        answers::forget(&mut db, (claim.user, &claim.key)).await?;
        Ok(db.commit().await.map_err(DbError::from)?)
    }
}

fn under_way() -> Error {
    Error::conflict("a request with this `Idempotency-Key` is being answered: send it again in a moment")
}

/// A hash of all of these, in hexadecimal. Where one ends and the next begins makes a difference.
fn hash(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;

    #[tokio::test]
    async fn a_key_is_free_again_after_a_day_and_when_its_request_never_ended() {
        let bench = Bench::new().await;
        let (service, who) = (&bench.service, Identity::User(bench.user("ada").await));
        let start = now();
        let attempt = async |parts: &[&[u8]], after: Duration| {
            service.attempt_at(&who, "key", parts, start + after).await
        };
        let first = attempt(&[b"one"], Duration::ZERO).await.unwrap();
        assert!(matches!(first, Some(Attempt::First(_))));
        assert!(matches!(attempt(&[b"one"], LONGEST).await, Err(Error::Conflict { .. })));
        let Ok(Some(Attempt::First(claim))) = attempt(&[b"one"], LONGEST + Duration::from_secs(1)).await
        else {
            panic!("it is not taken over");
        };
        let answer = Answer { status: 201, etag: None, body: "{}".to_owned() };
        service.answered(claim, 201, Some(&answer)).await.unwrap();
        let again = attempt(&[b"one"], KEPT).await.unwrap();
        assert!(matches!(again, Some(Attempt::Again(kept)) if kept == answer));
        assert!(matches!(attempt(&[b"on", b"e"], KEPT).await, Err(Error::Invalid { .. })));
        let later = attempt(&[b"on", b"e"], KEPT + LONGEST + Duration::from_secs(2)).await.unwrap();
        assert!(matches!(later, Some(Attempt::First(_))));
        assert!(service.attempt(&Identity::Anonymous, "key", &[]).await.unwrap().is_none());
    }
}
