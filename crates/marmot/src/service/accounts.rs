//! People: accounts, signing in, sessions, API tokens.

use std::time::Duration;

use jiff::Timestamp;
use marmot_core::id::TokenId;
use marmot_core::name::Namespace;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::audit::{self, Thing};
use super::error::{Error, Result};
use super::permission::{Errand, Identity, Scope, allowed};
use super::{Service, fresh, now};
use crate::db::{DbError, tokens, users};
use crate::model::{Access, Secret, Token, User};

/// A session ends this long after sign-in, whatever happens.
const SESSION_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
/// A session ends this long after it was last used.
const SESSION_IDLE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Uses of sessions and tokens are noted at most this often, to keep reading free of writes.
const NOTED_EVERY: Duration = Duration::from_secs(60);
/// What tokens begin with, so that scanners of leaked secrets know them.
const TOKEN_PREFIX: &str = "mmt_";
/// The most tokens of one person.
const MOST_TOKENS: usize = 100;

/// An account to be made.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// The name to sign in with, and the namespace it owns.
    pub username: Namespace,
    /// The password; without one, only tokens and links let this person in.
    pub password: Option<Secret>,
    /// Runs the installation.
    pub is_admin: bool,
    /// The address to reach this person at.
    pub email: Option<String>,
    /// First name.
    pub first_name: Option<String>,
    /// Last name.
    pub last_name: Option<String>,
}

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
    /// Makes an account. For operators: asks nobody's permission.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the name is taken, [`Error::Invalid`] for a bad password.
    pub async fn create_user(&self, new: NewUser) -> Result<User> {
        let hash = match &new.password {
            Some(password) => Some(self.inner.passwords.hash(password).await?),
            None => None,
        };
        let user = User {
            id: fresh(),
            username: new.username,
            is_admin: new.is_admin,
            email: new.email,
            first_name: new.first_name,
            last_name: new.last_name,
            created_at: now(),
            disabled_at: None,
        };
        let mut db = self.db().write().await?;
        users::insert(&mut db, &user, hash.as_ref()).await.map_err(|error| match error {
            DbError::Exists(_) => Error::conflict(format!(
                "there is a user, a group or a project in the namespace `{}` already",
                user.username
            )),
            other => other.into(),
        })?;
        let details = json!({"is_admin": user.is_admin});
        audit::record(&mut db, &Identity::Anonymous, "user.created", Thing::user(&user), details).await?;
        db.commit().await.map_err(DbError::from)?;
        Ok(user)
    }

    /// Sets a person's password and ends that person's sessions. For operators.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Invalid`] for a bad password.
    pub async fn set_password(&self, username: &Namespace, password: &Secret) -> Result<()> {
        let hash = self.inner.passwords.hash(password).await?;
        let mut db = self.db().write().await?;
        let found = users::by_name(&mut db, username).await?;
        let (user, _) = found.ok_or_else(|| Error::not_found("user", username))?;
        users::set_password(&mut db, user.id, &hash).await?;
        Ok(db.commit().await.map_err(DbError::from)?)
    }

    /// The person with this name. For operators.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn user_by_name(&self, username: &Namespace) -> Result<User> {
        let mut db = self.db().read().await?;
        let found = users::by_name(&mut db, username).await?;
        Ok(found.ok_or_else(|| Error::not_found("user", username))?.0)
    }

    /// Everybody with an account. For operators.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn users(&self) -> Result<Vec<User>> {
        Ok(users::all(&mut *self.db().read().await?).await?)
    }

    /// Signs in by name and password. `address`: where the request comes from.
    ///
    /// # Errors
    /// [`Error::WrongCredentials`], whatever of the two is wrong; [`Error::TooManyTries`].
    pub async fn sign_in(&self, username: &str, password: &Secret, address: &str) -> Result<SignedIn> {
        let user = self.check_password(username, password, address).await?;
        self.start_session(user).await
    }

    /// Whose name and password these are.
    ///
    /// # Errors
    /// As [`Self::sign_in`].
    pub async fn check_password(&self, username: &str, password: &Secret, address: &str) -> Result<User> {
        let account: String = username.chars().take(80).collect();
        let admitted = self.inner.tries.admit(&account, address, now());
        admitted.map_err(|retry_after| Error::TooManyTries { retry_after })?;
        let found = match username.parse::<Namespace>() {
            Ok(name) => users::by_name(&mut *self.db().read().await?, &name).await?,
            Err(_) => None,
        };
        let (user, hash) = found.map_or((None, None), |(user, hash)| (Some(user), hash));
        // Checked for unknown people too: the time it takes does not tell who exists.
        let right = self.inner.passwords.check(password, hash).await?;
        let user = user.filter(|_| right).ok_or(Error::WrongCredentials)?;
        self.inner.tries.forgive(&account, address);
        Ok(user)
    }

    /// Starts a session for somebody whose identity was shown in another way.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn start_session(&self, user: User) -> Result<SignedIn> {
        let session = random_text("");
        let (now, hash) = (now(), hash_of(&session));
        let mut db = self.db().write().await?;
        users::insert_session(&mut db, &hash, user.id, now, now + SESSION_LIFE).await?;
        db.commit().await.map_err(DbError::from)?;
        Ok(SignedIn { user, session, lives: SESSION_LIFE })
    }

    /// Who a session cookie belongs to.
    ///
    /// # Errors
    /// [`Error::InvalidCredentials`] when the session is unknown or over.
    pub async fn identify_session(&self, session: &Secret) -> Result<Identity> {
        let (now, hash) = (now(), hash_of(session));
        let found = users::session(&mut *self.db().read().await?, &hash, now).await?;
        let found = found.ok_or(Error::InvalidCredentials)?;
        let unused = since(found.last_seen_at, now);
        if unused > SESSION_IDLE {
            return Err(Error::InvalidCredentials);
        }
        if unused > NOTED_EVERY {
            users::touch_session(&mut *self.db().read().await?, &hash, now).await?;
        }
        Ok(Identity::User(found.user))
    }

    /// Ends a session. An unknown one is no error.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn sign_out(&self, session: &Secret) -> Result<()> {
        Ok(users::delete_session(&mut *self.db().read().await?, &hash_of(session)).await?)
    }

    /// Who an API token belongs to.
    ///
    /// # Errors
    /// [`Error::InvalidCredentials`] when the token is unknown, revoked or expired.
    pub async fn identify_token(&self, token: &Secret) -> Result<Identity> {
        if !token.reveal().starts_with(TOKEN_PREFIX) {
            return Err(Error::InvalidCredentials);
        }
        let now = now();
        let mut db = self.db().read().await?;
        let found = tokens::by_hash(&mut db, &hash_of(token), now).await?;
        let (token, user) = found.ok_or(Error::InvalidCredentials)?;
        if token.last_used_at.is_none_or(|at| since(at, now) > NOTED_EVERY) {
            tokens::touch(&mut db, token.id, now).await?;
        }
        let user = users::get(&mut db, user).await?.filter(|user| user.disabled_at.is_none());
        let scope = Scope { access: token.access, limit: token.limit };
        user.map(|user| Identity::of_token(user, scope)).ok_or(Error::InvalidCredentials)
    }

    /// Makes an API token. Its text is returned this once.
    ///
    /// # Errors
    /// [`Error::SignInNeeded`], [`Error::Invalid`] for a bad name or expiry, [`Error::Conflict`] for too many.
    pub async fn create_token(
        &self,
        who: &Identity,
        name: &str,
        expires_at: Option<Timestamp>,
    ) -> Result<(Token, Secret)> {
        let user = allowed(who, Errand::ActAsOneself)?;
        let name = super::projects::title("token's name", name)?;
        let now = now();
        if expires_at.is_some_and(|at| at <= now) {
            return Err(Error::invalid("`expires_at` is in the past"));
        }
        let text = random_text(TOKEN_PREFIX);
        let token = Token {
            id: fresh(),
            name,
            created_at: now,
            expires_at,
            last_used_at: None,
            access: Access::Write,
            limit: None,
        };
        let mut db = self.db().write().await?;
        if tokens::of_user(&mut db, user.id).await?.len() >= MOST_TOKENS {
            return Err(Error::conflict(format!("you have {MOST_TOKENS} tokens: revoke one first")));
        }
        tokens::insert(&mut db, &token, user.id, &hash_of(&text)).await?;
        audit::record(&mut db, who, "token.created", Thing::token(&token), json!({})).await?;
        db.commit().await.map_err(DbError::from)?;
        Ok((token, text))
    }

    /// The tokens of the person who asks, newest first.
    ///
    /// # Errors
    /// [`Error::SignInNeeded`].
    pub async fn tokens(&self, who: &Identity) -> Result<Vec<Token>> {
        let user = allowed(who, Errand::LookAround)?;
        Ok(tokens::of_user(&mut *self.db().read().await?, user.id).await?)
    }

    /// Revokes a token of the person who asks.
    ///
    /// # Errors
    /// [`Error::SignInNeeded`], [`Error::NotFound`].
    pub async fn revoke_token(&self, who: &Identity, id: TokenId) -> Result<()> {
        let user = allowed(who, Errand::ActAsOneself)?;
        if tokens::delete(&mut *self.db().read().await?, user.id, id).await? {
            // Streams that it opened look again.
            self.wrote();
            Ok(())
        } else {
            Err(Error::not_found("token", id))
        }
    }
}

fn since(earlier: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(earlier)).unwrap_or_default()
}

/// 160 random bits as text that survives a double click, a URL and a header.
fn random_text(prefix: &str) -> Secret {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let bytes: [u8; 32] = rand::random();
    let text = bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte & 31)]));
    Secret::new(prefix.chars().chain(text).collect::<String>())
}

/// What a random text is found by. No salt: 160 random bits cannot be guessed from it.
fn hash_of(text: &Secret) -> String {
    use std::fmt::Write as _;
    Sha256::digest(text.reveal().as_bytes()).iter().fold(String::with_capacity(64), |mut hash, byte| {
        let _ = write!(hash, "{byte:02x}");
        hash
    })
}
