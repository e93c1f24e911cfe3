//! API tokens: made, shown once, limited, revoked.

use jiff::Timestamp;
use marmot_core::id::{LauncherId, ProjectId, TokenId};
use marmot_core::said;
use serde_json::json;

use super::audit::{self, Thing};
use super::error::Field;
use super::error::{Error, Result};
use super::launchers::allowed_launcher;
use super::permission::{Action, Errand, Identity, Scope, allowed};
use super::projects::allowed_project;
use super::secrets::{hash_of, random_text, since};
use super::sessions::NOTED_EVERY;
use super::{Service, fresh, now};
use crate::db::{DbError, tokens, users};
use crate::model::{Access, Limit, Secret, Token};

/// What tokens begin with, so that scanners of leaked secrets know them.
const TOKEN_PREFIX: &str = "mmt_";
/// The most tokens of one person.
const MOST_TOKENS: usize = 100;

/// A token to be made.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// What it is for.
    pub name: String,
    /// When it stops working; never when absent.
    pub expires_at: Option<Timestamp>,
    /// What it may do.
    pub access: Access,
    /// Only in this project.
    pub project: Option<ProjectId>,
    /// Only with this launcher and its app.
    pub launcher: Option<LauncherId>,
}

impl NewToken {
    /// One that may do all that its owner may, for as long as it is not revoked.
    pub fn unlimited(name: &str) -> Self {
        Self { name: name.to_owned(), expires_at: None, access: Access::Write, project: None, launcher: None }
    }
}

impl Service {
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
    /// [`Error::SignInNeeded`], [`Error::Invalid`] for a bad name or expiry, [`Error::Conflict`] for too many,
    /// [`Error::NotFound`] for what it is to be limited to.
    pub async fn create_token(&self, who: &Identity, new: NewToken) -> Result<(Token, Secret)> {
        let user = allowed(who, Errand::ActAsOneself)?;
        let name = super::projects::title("token's name", &new.name)?;
        let now = now();
        if new.expires_at.is_some_and(|at| at <= now) {
            return Err(
                Error::invalid(said!("until-past", "`expires_at` is in the past")).about(Field::Until)
            );
        }
        let mut db = self.db().write().await?;
        let limit = match (new.project, new.launcher) {
            (None, None) => None,
            (Some(id), None) => {
                Some(Limit::Project(allowed_project(&mut db, who, id, Action::See).await?.id))
            }
            (project, Some(id)) => {
                let (launcher, found) = allowed_launcher(&mut db, who, id, Action::See).await?;
                if project.is_some_and(|project| project != found.id) {
                    return Err(Error::invalid("`launcher_id` names a launcher of another project"));
                }
                Some(Limit::Launcher { launcher: launcher.id, project: found.id })
            }
        };
        let text = random_text(TOKEN_PREFIX);
        let token = Token {
            id: fresh(),
            name,
            created_at: now,
            expires_at: new.expires_at,
            last_used_at: None,
            access: new.access,
            limit,
        };
        if tokens::of_user(&mut db, user.id).await?.len() >= MOST_TOKENS {
            return Err(Error::conflict(said!(
                "tokens-too-many",
                "you have {most} tokens: revoke one first",
                most = MOST_TOKENS
            )));
        }
        tokens::insert(&mut db, &token, user.id, &hash_of(&text)).await?;
        let details = json!({"access": token.access.as_str(), "owner": user.username.as_str()});
        audit::record(&mut db, who, "token.created", Thing::token(&token), details).await?;
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
        let mut db = self.db().write().await?;
        let found = tokens::of_user(&mut db, user.id).await?.into_iter().find(|token| token.id == id);
        let token = found.ok_or_else(|| Error::not_found("token", id))?;
        tokens::delete(&mut db, user.id, id).await?;
        audit::record(&mut db, who, "token.revoked", Thing::token(&token), json!({})).await?;
        db.commit().await.map_err(DbError::from)?;
        // Streams that it opened look again.
        self.wrote();
        Ok(())
    }
}
