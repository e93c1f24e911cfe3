//! Links that work once: the first administrator's, and those by which people set a password of their own.

use std::time::Duration;

use jiff::Timestamp;
use marmot_core::id::UserId;
use marmot_core::name::Namespace;
use serde_json::json;

use super::audit::{self, Thing};
use super::error::{Error, Result};
use super::permission::{Errand, Identity, allowed};
use super::secrets::{hash_of, random_text};
use super::sessions::SignedIn;
use super::{Service, fresh, now};
use crate::db::{Connection, DbError, sessions, users};
use crate::model::{Secret, User};

/// A password is set within a day, or another link is asked for.
const PASSWORD_LINK_LIVES: Duration = Duration::from_secs(24 * 3600);
/// The first administrator has a week; a restart makes another link.
const SET_UP_LINK_LIVES: Duration = Duration::from_secs(7 * 24 * 3600);

/// What a link is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkFor {
    /// Making the first administrator's account.
    SetUp,
    /// Setting this person's password.
    Password(User),
}

/// A link by which somebody sets a password.
#[derive(Debug, Clone)]
pub struct PasswordLink {
    /// Whose password.
    pub user: User,
    /// Where it leads.
    pub url: Secret,
    /// Until when it works.
    pub expires_at: Timestamp,
}

impl Service {
    /// The link by which the first administrator's account is made, in the place of the one before. None once anybody
    /// has, or ever had, an account.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn set_up_link(&self) -> Result<Option<Secret>> {
        let mut db = self.db().write().await?;
        if users::any(&mut db).await? {
            return Ok(None);
        }
        let (text, now) = (random_text(""), now());
        sessions::insert_link(&mut db, &hash_of(&text), None, now, now + SET_UP_LINK_LIVES).await?;
        db.commit().await.map_err(DbError::from)?;
        Ok(Some(Secret::new(format!("{}/set-up/{}", self.options().public_url, text.reveal()))))
    }

    /// What a link is for.
    ///
    /// # Errors
    /// [`Error::LinkSpent`] when it was used, has expired, or never was one.
    pub async fn link(&self, code: &Secret) -> Result<LinkFor> {
        let mut db = self.db().read().await?;
        match sessions::link(&mut db, &hash_of(code), now()).await?.ok_or_else(spent)? {
            None if users::any(&mut db).await? => Err(spent()),
            None => Ok(LinkFor::SetUp),
            Some(id) => Ok(LinkFor::Password(users::get(&mut db, id).await?.ok_or_else(spent)?)),
        }
    }

    /// Makes the first administrator's account by its link, and signs in.
    ///
    /// # Errors
    /// [`Error::LinkSpent`] when it does not work, or somebody else was faster; [`Error::Invalid`] for a bad password.
    pub async fn set_up(&self, code: &Secret, username: Namespace, password: &Secret) -> Result<SignedIn> {
        // Before the password is hashed: whoever has no link causes no work.
        if self.link(code).await? != LinkFor::SetUp {
            return Err(spent());
        }
        let hash = self.inner.passwords.hash(password).await?;
        let user = User {
            id: fresh(),
            username,
            is_admin: true,
            email: None,
            first_name: None,
            last_name: None,
            created_at: now(),
            disabled_at: None,
            language: None,
        };
        let mut db = self.db().write().await?;
        // Two who come at once both got here: one of them uses the link up.
        if !sessions::use_link(&mut db, &hash_of(code)).await? || users::any(&mut db).await? {
            return Err(spent());
        }
        users::insert(&mut db, &user, Some(&hash)).await?;
        let (who, thing) = (Identity::User(user.clone()), Thing::user(&user));
        audit::record(&mut db, &who, "user.set_up", thing, json!({})).await?;
        let signed_in = self.new_session(&mut db, user, None).await?;
        db.commit().await.map_err(DbError::from)?;
        self.wrote();
        Ok(signed_in)
    }

    /// A link by which a person sets a password, in the place of the one before. For administrators.
    ///
    /// # Errors
    /// [`Error::Forbidden`], [`Error::NotFound`].
    pub async fn password_link(&self, who: &Identity, id: UserId) -> Result<PasswordLink> {
        allowed(who, Errand::Administer)?;
        let mut db = self.db().write().await?;
        let user = users::get(&mut db, id).await?.ok_or_else(|| Error::not_found("user", id))?;
        let link = self.insert_password_link(&mut db, who, user).await?;
        db.commit().await.map_err(DbError::from)?;
        Ok(link)
    }

    /// As [`Self::password_link`]. For operators: asks nobody's permission.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn password_link_by_operator(&self, username: &Namespace) -> Result<PasswordLink> {
        let user = self.user_by_name(username).await?;
        let mut db = self.db().write().await?;
        let link = self.insert_password_link(&mut db, &Identity::Anonymous, user).await?;
        db.commit().await.map_err(DbError::from)?;
        Ok(link)
    }

    async fn insert_password_link(
        &self,
        db: &mut Connection,
        who: &Identity,
        user: User,
    ) -> Result<PasswordLink> {
        let (text, now) = (random_text(""), now());
        let expires_at = now + PASSWORD_LINK_LIVES;
        sessions::insert_link(db, &hash_of(&text), Some(user.id), now, expires_at).await?;
        audit::record(db, who, "user.password_link", Thing::user(&user), json!({})).await?;
        let url = Secret::new(format!("{}/password/{}", self.options().public_url, text.reveal()));
        Ok(PasswordLink { user, url, expires_at })
    }

    /// Sets a password by a link, ends the person's sessions, and signs in.
    ///
    /// # Errors
    /// [`Error::LinkSpent`] when it does not work, [`Error::Invalid`] for a bad password, [`Error::Forbidden`] for
    /// somebody who is kept out.
    pub async fn set_password_by_link(&self, code: &Secret, password: &Secret) -> Result<SignedIn> {
        let LinkFor::Password(user) = self.link(code).await? else { return Err(spent()) };
        let hash = self.inner.passwords.hash(password).await?;
        let mut db = self.db().write().await?;
        if !sessions::use_link(&mut db, &hash_of(code)).await? {
            return Err(spent());
        }
        users::set_password(&mut db, user.id, &hash).await?;
        let (who, thing) = (Identity::User(user.clone()), Thing::user(&user));
        audit::record(&mut db, &who, "user.password", thing, json!({"by": "link"})).await?;
        let signed_in = self.only_session(&mut db, user).await?;
        db.commit().await.map_err(DbError::from)?;
        self.wrote();
        Ok(signed_in)
    }
}

/// The same for every link that does not work: which it was is nobody's to learn.
fn spent() -> Error {
    Error::LinkSpent
}
