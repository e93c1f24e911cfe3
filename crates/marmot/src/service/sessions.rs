//! Sessions: started by signing in, listed, ended.

use std::time::Duration;

use jiff::Timestamp;
use marmot_core::id::{SessionId, UserId};
use serde_json::json;

use super::audit::{self, Thing};
use super::call::Call;
use super::error::{Error, Result};
use super::permission::{Errand, Identity, allowed};
use super::secrets::{hash_of, random_text, since};
use super::{Service, fresh, now};
use crate::db::{Connection, DbError, sessions};
use crate::model::{Secret, Session, User};

/// Uses of sessions and tokens are noted at most this often, to keep reading free of writes.
pub(super) const NOTED_EVERY: Duration = Duration::from_secs(60);

/// A fresh session.
#[derive(Debug, Clone)]
pub struct SignedIn {
    /// Who.
    pub user: User,
    /// The text of the session, for the cookie.
    pub session: Secret,
    /// How long the cookie may live.
    pub lives: Duration,
}

impl Service {
    /// Signs in by name and password. `address`: where the request comes from.
    ///
    /// # Errors
    /// [`Error::WrongCredentials`], whatever of the two is wrong; [`Error::TooManyTries`].
    pub async fn sign_in(&self, username: &str, password: &Secret, address: &str) -> Result<SignedIn> {
        let user = self.check_password(username, password, address).await?;
        self.start_session(user).await
    }

    /// Starts a session for somebody whose identity was shown in another way.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for somebody who is kept out.
    pub async fn start_session(&self, user: User) -> Result<SignedIn> {
        let mut db = self.db().write().await?;
        let signed_in = self.new_session(&mut db, user, None).await?;
        db.commit().await.map_err(DbError::from)?;
        Ok(signed_in)
    }

    /// Starts a session as part of more. `provider`: the identity provider that vouches for the person.
    pub(super) async fn new_session(
        &self,
        db: &mut Connection,
        user: User,
        provider: Option<String>,
    ) -> Result<SignedIn> {
        if user.disabled_at.is_some() {
            return Err(Error::Forbidden { action: "sign in: an administrator has disabled your account" });
        }
        let text = random_text("");
        let lives = self.options().people.session_life;
        let (call, now) = (Call::current(), now());
        let session = Session {
            id: fresh(),
            created_at: now,
            last_seen_at: now,
            expires_at: now + lives,
            provider,
            address: call.address,
            agent: call.agent,
        };
        sessions::insert(db, &hash_of(&text), user.id, &session).await?;
        let (who, thing) = (Identity::User(user.clone()), Thing::user(&user));
        audit::record(db, &who, "user.signed_in", thing, json!({"with": session.provider})).await?;
        Ok(SignedIn { user, session: text, lives })
    }

    /// Who a session cookie belongs to.
    ///
    /// # Errors
    /// [`Error::InvalidCredentials`] when the session is unknown or over.
    pub async fn identify_session(&self, session: &Secret) -> Result<Identity> {
        let (now, hash) = (now(), hash_of(session));
        let found = sessions::find(&mut *self.db().read().await?, &hash, now).await?;
        let (user, session) = found.ok_or(Error::InvalidCredentials)?;
        if self.is_over(&session, now) {
            return Err(Error::InvalidCredentials);
        }
        if since(session.last_seen_at, now) > NOTED_EVERY {
            sessions::touch(&mut *self.db().read().await?, &hash, now).await?;
        }
        Ok(Identity::User(user))
    }

    /// Ends a session; the identity provider that its person came by, if any. An unknown one is no error.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn sign_out(&self, session: &Secret) -> Result<Option<String>> {
        let hash = hash_of(session);
        let mut db = self.db().write().await?;
        let found = sessions::find(&mut db, &hash, now()).await?;
        sessions::delete(&mut db, &hash).await?;
        db.commit().await.map_err(DbError::from)?;
        self.wrote();
        Ok(found.and_then(|(_, session)| session.provider))
    }

    /// The sessions of the person who asks, the last used first, and which of them is the one of this text.
    ///
    /// # Errors
    /// [`Error::SignInNeeded`].
    pub async fn sessions(&self, who: &Identity, own: Option<&Secret>) -> Result<Vec<(Session, bool)>> {
        let user = allowed(who, Errand::LookAround)?;
        let (mut db, now) = (self.db().read().await?, now());
        let own = match own {
            Some(own) => sessions::find(&mut db, &hash_of(own), now).await?.map(|(_, session)| session.id),
            None => None,
        };
        let found = sessions::of_user(&mut db, user.id, now).await?;
        let alive = found.into_iter().filter(|session| !self.is_over(session, now));
        Ok(alive.map(|session| (session.clone(), Some(session.id) == own)).collect())
    }

    /// Ends a session of the person who asks.
    ///
    /// # Errors
    /// [`Error::SignInNeeded`], [`Error::NotFound`].
    pub async fn revoke_session(&self, who: &Identity, id: SessionId) -> Result<()> {
        let user = allowed(who, Errand::ActAsOneself)?;
        let mut db = self.db().write().await?;
        if !sessions::revoke(&mut db, user.id, id).await? {
            return Err(Error::not_found("session", id));
        }
        let details = json!({"session": id.to_string()});
        audit::record(&mut db, who, "session.revoked", Thing::user(user), details).await?;
        db.commit().await.map_err(DbError::from)?;
        self.wrote();
        Ok(())
    }

    fn is_over(&self, session: &Session, now: Timestamp) -> bool {
        since(session.last_seen_at, now) > self.options().people.session_idle
    }

    /// Ends all sessions of a person, and starts one: who has changed what lets them in goes on in this browser alone.
    pub(super) async fn only_session(&self, db: &mut Connection, user: User) -> Result<SignedIn> {
        let id: UserId = user.id;
        sessions::delete_all(db, id).await?;
        self.new_session(db, user, None).await
    }
}
