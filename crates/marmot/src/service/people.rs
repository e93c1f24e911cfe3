//! Other people's accounts: seen and changed by those who run the installation.

use marmot_core::id::UserId;
use marmot_core::said;
use serde_json::json;

use super::accounts::{NewUser, detail};
use super::audit::{self, Thing};
use super::error::{Error, Result};
use super::permission::{Errand, Identity, allowed};
use super::{Service, now};
use crate::db::{Connection, DbError, groups, projects, sessions, users};
use crate::model::{Page, Paged, User};

/// A change of an account. What is absent stays.
#[derive(Debug, Clone, Default)]
pub struct UserPatch {
    /// Runs the installation.
    pub is_admin: Option<bool>,
    /// Is kept out: sessions and tokens end at once.
    pub disabled: Option<bool>,
    /// The address to reach this person at; `Some(None)` removes it.
    pub email: Option<Option<String>>,
    /// First name.
    pub first_name: Option<Option<String>>,
    /// Last name.
    pub last_name: Option<Option<String>>,
}

impl Service {
    /// Everybody with an account, by name. For administrators.
    ///
    /// # Errors
    /// [`Error::Forbidden`].
    pub async fn people(&self, who: &Identity, page: Page) -> Result<Paged<User>> {
        allowed(who, Errand::Oversee)?;
        let (items, total) = users::list(&mut *self.db().read().await?, page).await?;
        Ok(Paged { items, page, total })
    }

    /// Somebody's account. For administrators.
    ///
    /// # Errors
    /// [`Error::Forbidden`], [`Error::NotFound`].
    pub async fn person(&self, who: &Identity, id: UserId) -> Result<User> {
        allowed(who, Errand::Oversee)?;
        find(&mut *self.db().read().await?, id).await
    }

    /// Makes an account. For administrators.
    ///
    /// # Errors
    /// [`Error::Forbidden`], [`Error::Conflict`] when the name is taken, [`Error::Invalid`] for a bad password.
    pub async fn add_person(&self, who: &Identity, new: NewUser) -> Result<User> {
        allowed(who, Errand::Administer)?;
        self.make_user(who, new).await
    }

    /// Changes somebody's account. For administrators.
    ///
    /// # Errors
    /// [`Error::Forbidden`], [`Error::NotFound`], [`Error::Conflict`] when nobody would be left to run the
    /// installation.
    pub async fn change_person(&self, who: &Identity, id: UserId, patch: UserPatch) -> Result<User> {
        allowed(who, Errand::Administer)?;
        let mut db = self.db().write().await?;
        let user = change(&mut db, who, id, patch).await?;
        db.commit().await.map_err(DbError::from)?;
        // Streams that this person has open look again, and apps of others are shut to them.
        self.wrote_and_in_force().await;
        Ok(user)
    }

    /// As [`Self::change_person`]. For operators: asks nobody's permission.
    ///
    /// # Errors
    /// As [`Self::change_person`].
    pub async fn change_person_by_operator(&self, id: UserId, patch: UserPatch) -> Result<User> {
        let mut db = self.db().write().await?;
        let user = change(&mut db, &Identity::Anonymous, id, patch).await?;
        db.commit().await.map_err(DbError::from)?;
        self.wrote();
        Ok(user)
    }

    /// Deletes somebody's account and what is known of the person. For administrators.
    ///
    /// # Errors
    /// [`Error::Forbidden`], [`Error::NotFound`], [`Error::Conflict`] while a project or a group has no other owner, or
    /// nobody would be left to run the installation.
    pub async fn delete_person(&self, who: &Identity, id: UserId) -> Result<()> {
        allowed(who, Errand::Administer)?;
        let mut db = self.db().write().await?;
        delete(&mut db, who, id).await?;
        db.commit().await.map_err(DbError::from)?;
        self.wrote_and_in_force().await;
        Ok(())
    }

    /// As [`Self::delete_person`]. For operators: asks nobody's permission.
    ///
    /// # Errors
    /// As [`Self::delete_person`].
    pub async fn delete_person_by_operator(&self, id: UserId) -> Result<()> {
        let mut db = self.db().write().await?;
        delete(&mut db, &Identity::Anonymous, id).await?;
        db.commit().await.map_err(DbError::from)?;
        self.wrote();
        Ok(())
    }
}

async fn find(db: &mut Connection, id: UserId) -> Result<User> {
    users::get(db, id).await?.ok_or_else(|| Error::not_found("user", id))
}

async fn change(db: &mut Connection, who: &Identity, id: UserId, patch: UserPatch) -> Result<User> {
    let mut user = find(db, id).await?;
    if patch.is_admin.is_some_and(|wanted| wanted != user.is_admin) {
        user.is_admin = !user.is_admin;
        // What a session was started for is not what it may now: it is started anew.
        sessions::delete_all(db, id).await?;
    }
    if let Some(text) = patch.email {
        user.email = detail("email", text)?;
    }
    if let Some(text) = patch.first_name {
        user.first_name = detail("first_name", text)?;
    }
    if let Some(text) = patch.last_name {
        user.last_name = detail("last_name", text)?;
    }
    users::update(db, &user).await?;
    match patch.disabled {
        Some(true) if user.disabled_at.is_none() => {
            user.disabled_at = Some(now());
            users::set_disabled(db, id, user.disabled_at).await?;
            users::shut_out(db, id).await?;
        }
        Some(false) => {
            user.disabled_at = None;
            users::set_disabled(db, id, None).await?;
        }
        _ => {}
    }
    someone_runs_it(db).await?;
    let details = json!({"is_admin": user.is_admin, "disabled": user.disabled_at.is_some()});
    audit::record(db, who, "user.changed", Thing::user(&user), details).await?;
    Ok(user)
}

async fn delete(db: &mut Connection, who: &Identity, id: UserId) -> Result<()> {
    let user = find(db, id).await?;
    let alone = [projects::owned_alone(db, id).await?, groups::owned_alone(db, id).await?].concat();
    if !alone.is_empty() {
        let more = if alone.len() > 5 { format!(" and {} more", alone.len() - 5) } else { String::new() };
        let named = alone.iter().take(5).map(|path| format!("`{path}`")).collect::<Vec<_>>().join(", ");
        return Err(Error::conflict(said!(
            "only-owner",
            "{username} is the only owner of {named}{more}: give each another owner, or delete it, first",
            username = user.username.to_string(),
            named = named,
            more = more
        )));
    }
    users::delete(db, &user, now()).await?;
    someone_runs_it(db).await?;
    audit::record(db, who, "user.deleted", Thing::user(&user), json!({})).await
}

/// Refuses what would leave nobody to run the installation.
async fn someone_runs_it(db: &mut Connection) -> Result<()> {
    if users::administrators(db).await? > 0 {
        return Ok(());
    }
    Err(Error::conflict(said!(
        "last-administrator",
        "nobody would be left to run this server: make somebody else an administrator first"
    )))
}
