//! Accounts: made, found, and let in by a password.

use marmot_core::name::Namespace;
use marmot_core::said;
use marmot_text::Language;
use serde_json::json;

use super::audit::{self, Thing};
use super::error::Field;
use super::error::{Error, Result};
use super::permission::{Errand, Identity, allowed};
use super::sessions::SignedIn;
use super::{Service, fresh, now};
use crate::db::{Connection, DbError, sessions, users};
use crate::model::{Secret, User};

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

impl Service {
    /// Makes an account. For operators: asks nobody's permission.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the name is taken, [`Error::Invalid`] for a bad password.
    pub async fn create_user(&self, new: NewUser) -> Result<User> {
        self.make_user(&Identity::Anonymous, new).await
    }

    /// Makes an account for `who`, who may.
    pub(super) async fn make_user(&self, who: &Identity, new: NewUser) -> Result<User> {
        let hash = match &new.password {
            Some(password) => Some(self.inner.passwords.hash(password).await?),
            None => None,
        };
        let user = User {
            id: fresh(),
            username: new.username,
            is_admin: new.is_admin,
            email: detail("email", new.email)?,
            first_name: detail("first_name", new.first_name)?,
            last_name: detail("last_name", new.last_name)?,
            created_at: now(),
            disabled_at: None,
            language: None,
        };
        let mut db = self.db().write().await?;
        insert(&mut db, &user, hash.as_ref()).await?;
        let details = json!({"is_admin": user.is_admin});
        audit::record(&mut db, who, "user.created", Thing::user(&user), details).await?;
        db.commit().await.map_err(DbError::from)?;
        // Apps that are open to everybody with an account are open to one more.
        self.wrote();
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
        let details = json!({"by": "operator"});
        audit::record(&mut db, &Identity::Anonymous, "user.password", Thing::user(&user), details).await?;
        Ok(db.commit().await.map_err(DbError::from)?)
    }

    /// Changes the password of who asks, who shows the one before; ends all sessions, and starts one for this browser.
    ///
    /// # Errors
    /// [`Error::WrongCredentials`], [`Error::TooManyTries`], [`Error::Invalid`] for a bad password.
    pub async fn change_password(
        &self,
        who: &Identity,
        current: &Secret,
        wanted: &Secret,
        address: &str,
    ) -> Result<SignedIn> {
        let user = allowed(who, Errand::ActAsOneself)?;
        let user = self.check_password(user.username.as_str(), current, address).await?;
        let hash = self.inner.passwords.hash(wanted).await?;
        let mut db = self.db().write().await?;
        users::set_password(&mut db, user.id, &hash).await?;
        audit::record(&mut db, who, "user.password", Thing::user(&user), json!({"by": "owner"})).await?;
        let signed_in = self.only_session(&mut db, user).await?;
        db.commit().await.map_err(DbError::from)?;
        self.wrote();
        Ok(signed_in)
    }

    /// Says which language who asks reads the pages in; `None`: the one that the browser asks for.
    ///
    /// # Errors
    /// [`Error::SignInNeeded`].
    pub async fn set_language(&self, who: &Identity, language: Option<Language>) -> Result<()> {
        let user = allowed(who, Errand::ActAsOneself)?;
        if user.language == language {
            return Ok(());
        }
        let mut db = self.db().write().await?;
        users::set_language(&mut db, user.id, language).await?;
        let details = json!({"language": language.map(Language::tag)});
        audit::record(&mut db, who, "user.changed", Thing::user(user), details).await?;
        db.commit().await.map_err(DbError::from)?;
        self.wrote();
        Ok(())
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
        // Who is kept out is told the same as who is unknown.
        let user = user.filter(|user| right && user.disabled_at.is_none()).ok_or(Error::WrongCredentials)?;
        self.inner.tries.forgive(&account, address);
        Ok(user)
    }

    /// Whether the person who asks has a password.
    ///
    /// # Errors
    /// [`Error::SignInNeeded`].
    pub async fn has_password(&self, who: &Identity) -> Result<bool> {
        let user = allowed(who, Errand::LookAround)?;
        Ok(users::has_password(&mut *self.db().read().await?, user.id).await?)
    }
}

/// Adds an account.
pub(super) async fn insert(db: &mut Connection, user: &User, hash: Option<&Secret>) -> Result<()> {
    users::insert(db, user, hash).await.map_err(|error| match error {
        DbError::Exists(_) => Error::conflict(said!(
            "username-taken",
            "there is a user, a group or a project in the namespace `{username}` already",
            username = user.username.to_string()
        ))
        .about(Field::Path),
        other => other.into(),
    })
}

/// A detail of a person that others wrote; an empty one is none.
pub(super) fn detail(what: &str, text: Option<String>) -> Result<Option<String>> {
    let Some(text) = text else { return Ok(None) };
    let text = text.trim();
    if text.chars().count() > 254 || text.chars().any(char::is_control) {
        return Err(Error::invalid(said!(
            "detail-wrong",
            "`{what}` has more than 254 characters, or holds a control character",
            what = what
        ))
        .about(if what == "email" { Field::Email } else { Field::FullName }));
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// Whether a person could still come in without one of several ways: never take the last one away.
pub(super) async fn has_another_way(db: &mut Connection, user: &User) -> Result<bool> {
    Ok(users::has_password(db, user.id).await? || sessions::identities(db, user.id).await?.len() > 1)
}
