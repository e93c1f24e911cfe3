//! Signing in with an account at an identity provider.
//!
//! A person is found by what the provider itself calls them, never by a name or an e-mail address that somebody here may
//! have, too. An account that is here already gets another way in only by the person who is signed in to it.

use marmot_core::id::UserId;
use marmot_core::name::Namespace;
use marmot_core::said;
use serde_json::json;
use url::Url;

use super::accounts::{has_another_way, insert};
use super::audit::{self, Thing};
use super::call::Call;
use super::error::{Error, Result};
use super::permission::{Errand, Identity, allowed};
use super::secrets::random_text;
use super::sessions::SignedIn;
use super::{Service, fresh, now};
use crate::db::{Connection, DbError, namespaces, sessions, users};
use crate::model::{Secret, User, WayIn};
use crate::oidc::{Answer, Attempt, Claims, OidcError, Provider, ProviderConfig, Purpose, Standing};

/// The most ways in of one person.
const MOST_WAYS: usize = 20;
/// Names that nobody is given for what an identity provider says, since people take them for more than a name.
const SPECIAL: &[&str] = &["admin", "administrator", "marmot", "operator", "root", "support", "system"];

/// How coming back from an identity provider ended.
#[derive(Debug)]
pub enum Returned {
    /// The person is signed in.
    In(Box<SignedIn>),
    /// The account got another way in.
    Linked,
}

impl Service {
    /// The identity providers to choose from: id and title.
    pub fn providers(&self) -> impl Iterator<Item = &ProviderConfig> {
        self.inner.providers.iter().map(Provider::config)
    }

    fn provider(&self, id: &str) -> Result<&Provider> {
        let mut all = self.inner.providers.iter();
        all.find(|provider| provider.config().id == id)
            .ok_or_else(|| Error::not_found("identity provider", id))
    }

    /// Begins to sign in with a provider: where to send the browser, and what it is to keep. `session`: the one to whose
    /// account a way in is to be added; to come in when absent.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::SignInNeeded`] for a session that is over, [`Error::Provider`] when it does not
    /// answer.
    pub async fn begin_with(
        &self,
        provider: &str,
        session: Option<&Secret>,
        next: &str,
    ) -> Result<(Url, Attempt)> {
        let found = self.provider(provider)?;
        let purpose = match session {
            None => Purpose::SignIn,
            Some(session) => {
                allowed(&self.identify_session(session).await?, Errand::ActAsOneself)?;
                Purpose::Link(session.clone())
            }
        };
        let attempt = Attempt::begin(provider, session.is_some(), next);
        let address = found.address(&attempt, &purpose).await.map_err(|error| noted(provider, error))?;
        Ok((address, attempt))
    }

    /// Goes on where a provider sent a browser back. `session`: the browser's, if it has one.
    ///
    /// # Errors
    /// [`Error::Provider`] when the answer is not the one that is waited for, or cannot be believed;
    /// [`Error::Forbidden`] for somebody who may not come in; [`Error::Conflict`] when the way in is another account's.
    pub async fn come_back(
        &self,
        attempt: &Attempt,
        session: Option<&Secret>,
        answer: &Answer,
    ) -> Result<Returned> {
        let provider = self.provider(&attempt.provider)?;
        let purpose = match (attempt.links, session) {
            (false, _) => Purpose::SignIn,
            (true, Some(session)) => Purpose::Link(session.clone()),
            (true, None) => return Err(Error::SignInNeeded),
        };
        // Each makes us ask the provider: nobody may have us ask as often as they like.
        let (name, address) = (format!("with {}", attempt.provider), Call::current().address);
        let admitted = self.inner.tries.admit(&name, &address, now());
        admitted.map_err(|retry_after| Error::TooManyTries { retry_after })?;
        let found = provider.finish(attempt, &purpose, answer, now()).await;
        let (claims, standing) = found.map_err(|error| noted(&attempt.provider, error))?;
        self.inner.tries.forgive(&name, &address);
        match purpose {
            Purpose::Link(session) => {
                let who = self.identify_session(&session).await?;
                self.link_to(&who, provider.config(), &claims).await?;
                Ok(Returned::Linked)
            }
            Purpose::SignIn => {
                let signed_in = self.let_in(provider.config(), &claims, standing).await?;
                Ok(Returned::In(Box::new(signed_in)))
            }
        }
    }

    async fn let_in(&self, config: &ProviderConfig, claims: &Claims, standing: Standing) -> Result<SignedIn> {
        let way = way_in(config, claims);
        let mut db = self.db().write().await?;
        let mut user = match sessions::by_identity(&mut db, &way.issuer, &way.subject).await? {
            Some(id) => {
                sessions::touch_identity(&mut db, &way).await?;
                users::get(&mut db, id).await?.ok_or(Error::InvalidCredentials)?
            }
            None if config.create_accounts => newcomer(&mut db, &way, claims, config).await?,
            None => {
                return Err(Error::Forbidden {
                    action: "come in with this account: ask an operator of this server for one here, and add it to that",
                });
            }
        };
        if let Standing::InAs { admin } = standing {
            // Who has a password here was made an administrator here, and stays one.
            let wanted = admin || (user.is_admin && users::has_password(&mut db, user.id).await?);
            if wanted != user.is_admin {
                user.is_admin = wanted;
                users::update(&mut db, &user).await?;
                let (who, thing) = (Identity::User(user.clone()), Thing::user(&user));
                let details = json!({"is_admin": wanted, "by": config.id});
                audit::record(&mut db, &who, "user.changed", thing, details).await?;
            }
        }
        let signed_in = self.new_session(&mut db, user, Some(config.id.clone())).await?;
        db.commit().await.map_err(DbError::from)?;
        self.wrote();
        Ok(signed_in)
    }

    async fn link_to(&self, who: &Identity, config: &ProviderConfig, claims: &Claims) -> Result<()> {
        let user = allowed(who, Errand::ActAsOneself)?;
        let way = way_in(config, claims);
        let mut db = self.db().write().await?;
        match sessions::by_identity(&mut db, &way.issuer, &way.subject).await? {
            Some(owner) if owner == user.id => return Ok(()),
            Some(_) => {
                return Err(Error::conflict(said!(
                    "way-in-is-anothers",
                    "that account at {provider} lets somebody in to another account here: take it away there first",
                    provider = &config.title
                )));
            }
            None => {}
        }
        if sessions::identities(&mut db, user.id).await?.len() >= MOST_WAYS {
            return Err(Error::conflict(said!(
                "ways-in-too-many",
                "you have {most} ways in: take one away first",
                most = MOST_WAYS
            )));
        }
        sessions::insert_identity(&mut db, user.id, &way).await?;
        let details = json!({"provider": config.id});
        audit::record(&mut db, who, "user.linked", Thing::user(user), details).await?;
        Ok(db.commit().await.map_err(DbError::from)?)
    }

    /// The accounts elsewhere that let the person who asks in.
    ///
    /// # Errors
    /// [`Error::SignInNeeded`].
    pub async fn ways_in(&self, who: &Identity) -> Result<Vec<WayIn>> {
        let user = allowed(who, Errand::LookAround)?;
        Ok(sessions::identities(&mut *self.db().read().await?, user.id).await?)
    }

    /// Takes a way in away from the person who asks.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Conflict`] for the last one.
    pub async fn unlink(&self, who: &Identity, issuer: &str, subject: &str) -> Result<()> {
        let user = allowed(who, Errand::ActAsOneself)?;
        let mut db = self.db().write().await?;
        if !has_another_way(&mut db, user).await? {
            return Err(Error::conflict(said!(
                "only-way-in",
                "it is your only way in: add another first, or have an administrator send you a link to set a password"
            )));
        }
        if !sessions::delete_identity(&mut db, user.id, issuer, subject).await? {
            return Err(Error::not_found("way in", subject));
        }
        let details = json!({"issuer": issuer});
        audit::record(&mut db, who, "user.unlinked", Thing::user(user), details).await?;
        Ok(db.commit().await.map_err(DbError::from)?)
    }

    /// Where people who came by this provider end their session there, if it has such a place.
    pub async fn sign_out_address(&self, provider: &str) -> Option<Url> {
        let back_to = format!("{}/", self.options().public_url);
        self.provider(provider).ok()?.sign_out_address(&back_to).await
    }
}

fn way_in(config: &ProviderConfig, claims: &Claims) -> WayIn {
    WayIn {
        issuer: config.issuer.clone(),
        subject: claims.subject.clone(),
        label: claims.label(),
        created_at: now(),
        last_used_at: now(),
    }
}

/// Makes an account for somebody who comes for the first time.
async fn newcomer(
    db: &mut Connection,
    way: &WayIn,
    claims: &Claims,
    config: &ProviderConfig,
) -> Result<User> {
    let user = User {
        id: fresh::<UserId>(),
        username: free_name(db, claims).await?,
        is_admin: false,
        email: claims.email.clone(),
        first_name: claims.first_name.clone(),
        last_name: claims.last_name.clone(),
        created_at: now(),
        disabled_at: None,
        language: None,
    };
    insert(db, &user, None).await?;
    sessions::insert_identity(db, user.id, way).await?;
    let (who, details) = (Identity::User(user.clone()), json!({"provider": config.id}));
    audit::record(db, &who, "user.created", Thing::user(&user), details).await?;
    Ok(user)
}

/// A name that nobody has, as near as possible to what the person is called.
async fn free_name(db: &mut Connection, claims: &Claims) -> Result<Namespace> {
    let mut fine = claims.suggestions().filter(|name| !SPECIAL.contains(&name.as_str()));
    let base = fine.next().unwrap_or_else(|| "user".to_owned());
    let kept: String = base.chars().take(30).collect();
    let kept = kept.trim_end_matches('-');
    let numbered = (2..10).map(|number| format!("{kept}-{number}"));
    let random = (0..5).map(|_| format!("{kept}-{}", &random_text("").reveal()[..8]));
    let names = [base].into_iter().chain(numbered).chain(random);
    for name in names.filter_map(|name| name.parse::<Namespace>().ok()) {
        if !namespaces::taken(db, &name).await? {
            return Ok(name);
        }
    }
    Err(Error::conflict(said!("no-free-username", "no free name was found for your account: try again")))
}

/// Tells the operator what the person is not told.
fn noted(provider: &str, error: OidcError) -> Error {
    if let Some(why) = error.cause() {
        tracing::warn!(provider, why, "a sign-in with an identity provider did not work");
    }
    Error::Provider(error)
}
