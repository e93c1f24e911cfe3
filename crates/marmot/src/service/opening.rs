//! Who may open an app: said by its owners, shared by links, lent to programs by keys.

use std::sync::PoisonError;

use jiff::Timestamp;
use marmot_core::AppName;
use marmot_core::id::{AppKeyId, LauncherId, ShareLinkId, UserId};
use marmot_core::name::Namespace;
use marmot_core::{Said, said};
use marmot_gateway::APP_KEY_PREFIX;
use serde_json::json;

use super::apps::note;
use super::audit::{self, Thing};
use super::error::Field;
use super::error::{Error, Result};
use super::launchers::{allowed_app, allowed_launcher};
use super::permission::{Action, Decision, Identity, Target, decide};
use super::projects::{role_of, title};
use super::secrets::{hash_of, random_text};
use super::{LauncherView, Service, fresh, now};
use crate::db::opening::Place;
use crate::db::{Connection, DbError, groups, launchers, opening, projects, users};
use crate::model::{Launcher, Project, Secret, Visibility};
use crate::opening::{Admitted, AppKey, Grant, Guests, KeyQuota, OpenTo, Opening, ShareLink};

/// The most links, and the most keys, of one app.
const MOST: usize = 100;
/// The most people that are named for one app.
const MOST_GUESTS: usize = 1000;
/// The most that may be asked for with a key: within a minute, or at the same time.
const LARGEST_QUOTA: u32 = 1_000_000;

/// Who may open an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpeningView {
    /// To whom it is open, as it was said.
    pub to: OpenTo,
    /// What that comes to, as its project is now.
    pub effective: OpenTo,
    /// The people who are named.
    pub users: Vec<Namespace>,
    /// The groups that are named.
    pub groups: Vec<Namespace>,
}

/// Who shall be named for an app.
#[derive(Debug, Clone, Copy, Default)]
pub struct Invited<'a> {
    /// People, by their usernames.
    pub users: &'a [String],
    /// Groups, by their paths.
    pub groups: &'a [String],
}

/// A link or key to be made.
#[derive(Debug, Clone)]
pub struct NewGrant {
    /// What it is for.
    pub name: String,
    /// When it ends; never when absent.
    pub expires_at: Option<Timestamp>,
}

impl Service {
    /// Who may open an app. For members.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`].
    pub async fn opening(&self, who: &Identity, name: &AppName) -> Result<OpeningView> {
        let mut db = self.db().read().await?;
        let (launcher, project) = allowed_app(&mut db, who, name, Action::ReadLogs).await?;
        let said = opening::get(&mut db, launcher.ruled_by()).await?;
        opening_view(&mut db, &said, &project).await
    }

    /// Says anew who may open an app. What was open to those who may not any more is closed before this returns.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`], [`Error::Invalid`] for people who do not exist, and for everybody where
    /// the project is private.
    pub async fn set_opening(
        &self,
        who: &Identity,
        name: &AppName,
        to: OpenTo,
        guests: Invited<'_>,
    ) -> Result<OpeningView> {
        let mut db = self.db().write().await?;
        let (launcher, project) = allowed_app(&mut db, who, name, Action::Govern).await?;
        let said = checked_opening(&mut db, &project, to, guests).await?;
        opening::set(&mut db, launcher.id, &said).await?;
        let view = opening_view(&mut db, &said, &project).await?;
        let names = |names: &[Namespace]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let details =
            json!({"open_to": to.as_str(), "users": names(&view.users), "groups": names(&view.groups)});
        audit::record(&mut db, who, "app.access", Thing::app(&launcher), details).await?;
        note(&mut db, who, launcher.id, "access_changed", in_words(view.effective)).await?;
        db.commit().await.map_err(DbError::from)?;
        self.wrote_and_in_force().await;
        Ok(view)
    }

    /// The share links of an app, newest first. For those who may make them.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`].
    pub async fn share_links(&self, who: &Identity, name: &AppName) -> Result<Vec<ShareLink>> {
        let launcher = self.app_to_change(who, name).await?;
        self.note_usage().await?;
        Ok(opening::links(&mut *self.db().read().await?, launcher.id).await?)
    }

    /// Makes a share link. Its address is returned this once.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`], [`Error::Invalid`] for a bad name or end, [`Error::Conflict`] where
    /// links open nothing, and when there are too many.
    pub async fn create_share_link(
        &self,
        who: &Identity,
        name: &AppName,
        new: NewGrant,
    ) -> Result<(ShareLink, Secret)> {
        let secret = random_text("");
        let mut db = self.db().write().await?;
        let (launcher, _) = allowed_app(&mut db, who, name, Action::Change).await?;
        let link = ShareLink { grant: grant(who, "link's name", new)? };
        if !opening::get(&mut db, launcher.id).await?.is_by_link() {
            return Err(Error::conflict(said!(
                "links-do-not-open",
                "links do not open this app: let it be open to everyone with the link first (`link`)"
            )));
        }
        if opening::links(&mut db, launcher.id).await?.len() >= MOST {
            return Err(Error::conflict(said!(
                "links-too-many",
                "the app has {most} links: revoke one first",
                most = MOST
            )));
        }
        let place = Place { launcher: launcher.id, by: who.id(), hash: &hash_of(&secret) };
        opening::insert_link(&mut db, &link, place).await?;
        let details = json!({"id": link.grant.id.to_string(), "name": link.grant.name});
        audit::record(&mut db, who, "app.link_made", Thing::app(&launcher), details).await?;
        note(
            &mut db,
            who,
            launcher.id,
            "link_made",
            said!("event-link-made", "can be opened by the link “{name}”", name = &link.grant.name),
        )
        .await?;
        db.commit().await.map_err(DbError::from)?;
        self.wrote_and_in_force().await;
        let url = format!("{}/.marmot/link?secret={}", self.options().app_url(name), secret.reveal());
        Ok((link, Secret::new(url)))
    }

    /// Revokes a share link. Whoever came by it is out before this returns.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`].
    pub async fn revoke_share_link(&self, who: &Identity, name: &AppName, id: ShareLinkId) -> Result<()> {
        let mut db = self.db().write().await?;
        let (launcher, _) = allowed_app(&mut db, who, name, Action::Change).await?;
        if !opening::delete_link(&mut db, launcher.id, id).await? {
            return Err(Error::not_found("link", id));
        }
        let details = json!({"id": id.to_string()});
        audit::record(&mut db, who, "app.link_revoked", Thing::app(&launcher), details).await?;
        note(
            &mut db,
            who,
            launcher.id,
            "link_revoked",
            said!("event-link-revoked", "is opened by one link less"),
        )
        .await?;
        db.commit().await.map_err(DbError::from)?;
        self.wrote_and_in_force().await;
        Ok(())
    }

    /// The keys of an app, newest first. For those who may make them.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`].
    pub async fn app_keys(&self, who: &Identity, name: &AppName) -> Result<Vec<AppKey>> {
        let launcher = self.app_to_change(who, name).await?;
        self.note_usage().await?;
        Ok(opening::keys(&mut *self.db().read().await?, launcher.id).await?)
    }

    /// Makes a key for programs. Its text is returned this once.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`], [`Error::Invalid`] for a bad name, end or quota, [`Error::Conflict`]
    /// for too many.
    pub async fn create_app_key(
        &self,
        who: &Identity,
        name: &AppName,
        new: NewGrant,
        quota: KeyQuota,
    ) -> Result<(AppKey, Secret)> {
        let quotas = [
            ("requests_per_minute", Field::PerMinute, quota.per_minute),
            ("requests_at_once", Field::AtOnce, quota.at_once),
        ];
        for (what, field, number) in quotas {
            if number.is_some_and(|number| !(1..=LARGEST_QUOTA).contains(&number)) {
                return Err(Error::invalid(said!(
                    "quota-wrong",
                    "`{what}` must be from 1 to {most}",
                    what = what,
                    most = LARGEST_QUOTA
                ))
                .about(field));
            }
        }
        let secret = random_text(APP_KEY_PREFIX);
        let mut db = self.db().write().await?;
        let (launcher, _) = allowed_app(&mut db, who, name, Action::Change).await?;
        let key = AppKey { grant: grant(who, "key's name", new)?, quota };
        if opening::keys(&mut db, launcher.id).await?.len() >= MOST {
            return Err(Error::conflict(said!(
                "keys-too-many",
                "the app has {most} keys: revoke one first",
                most = MOST
            )));
        }
        let place = Place { launcher: launcher.id, by: who.id(), hash: &hash_of(&secret) };
        opening::insert_key(&mut db, &key, place).await?;
        let details = json!({"id": key.grant.id.to_string(), "name": key.grant.name});
        audit::record(&mut db, who, "app.key_made", Thing::app(&launcher), details).await?;
        note(
            &mut db,
            who,
            launcher.id,
            "key_made",
            said!("event-key-made", "lets programs in with the key “{name}”", name = &key.grant.name),
        )
        .await?;
        db.commit().await.map_err(DbError::from)?;
        self.wrote_and_in_force().await;
        Ok((key, secret))
    }

    /// Revokes a key. Whatever has it is out before this returns.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`].
    pub async fn revoke_app_key(&self, who: &Identity, name: &AppName, id: AppKeyId) -> Result<()> {
        let mut db = self.db().write().await?;
        let (launcher, _) = allowed_app(&mut db, who, name, Action::Change).await?;
        if !opening::delete_key(&mut db, launcher.id, id).await? {
            return Err(Error::not_found("key", id));
        }
        let details = json!({"id": id.to_string()});
        audit::record(&mut db, who, "app.key_revoked", Thing::app(&launcher), details).await?;
        note(
            &mut db,
            who,
            launcher.id,
            "key_revoked",
            said!("event-key-revoked", "lets programs in with one key less"),
        )
        .await?;
        db.commit().await.map_err(DbError::from)?;
        self.wrote_and_in_force().await;
        Ok(())
    }

    async fn app_to_change(&self, who: &Identity, name: &AppName) -> Result<Launcher> {
        let mut db = self.db().read().await?;
        Ok(allowed_app(&mut db, who, name, Action::Change).await?.0)
    }

    /// Whether somebody who has signed in may open this app as who they are.
    ///
    /// # Errors
    /// [`Error::SignInNeeded`]; [`Error::NotFound`] where that there is such an app is not for them to know, else
    /// [`Error::Forbidden`].
    pub async fn may_open(&self, who: &Identity, name: &AppName) -> Result<()> {
        let user = who.signed_in()?.id;
        let mut db = self.db().read().await?;
        let launcher = launchers::by_app_name(&mut db, name).await?;
        let launcher = launcher.ok_or_else(|| Error::not_found("app", name))?;
        match admits(&mut db, who, &launcher).await? {
            true => {
                drop(db);
                self.know(user).await;
                Ok(())
            }
            false => {
                allowed_launcher(&mut db, who, launcher.id, Action::See)
                    .await
                    .map_err(|_| Error::not_found("app", name))?;
                Err(Error::Forbidden { action: "open this app: it is open to others only" })
            }
        }
    }

    /// Whether everybody may open a launcher's app.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn is_for_everyone(&self, view: &LauncherView) -> Result<bool> {
        let said = opening::get(&mut *self.db().read().await?, view.launcher.ruled_by()).await?;
        Ok(said.admits(view.project.visibility) == Admitted::Everybody)
    }

    /// The project of an app that `who` may see.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn project_of(&self, who: &Identity, name: &AppName) -> Result<Project> {
        Ok(allowed_app(&mut *self.db().read().await?, who, name, Action::See).await?.1)
    }

    /// The address of a launcher's app, for one who may open it though its project is not theirs to see.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn address_for(&self, who: &Identity, launcher: LauncherId) -> Result<String> {
        let mut db = self.db().read().await?;
        let unknown = || Error::not_found("launcher", launcher);
        let found = launchers::get(&mut db, launcher).await?.ok_or_else(unknown)?;
        match who.user().is_some() && admits(&mut db, who, &found).await? {
            true => Ok(self.options().app_url(&found.app_name)),
            false => Err(unknown()),
        }
    }

    /// An account that another process has made is known to the gateway only once the database is read again. That is
    /// waited for, or its owner would be sent away from an app that is open to all accounts.
    async fn know(&self, user: UserId) {
        let known = self.inner.accounts.lock().unwrap_or_else(PoisonError::into_inner).contains(&user);
        if !known {
            self.wrote_and_in_force().await;
        }
    }

    /// Notes how links and keys were used since this was last called.
    ///
    /// # Errors
    /// When the database fails. What was counted is noted next time.
    pub async fn note_usage(&self) -> Result<()> {
        let taken = self.inner.usages.take();
        if taken.is_empty() {
            return Ok(());
        }
        let noted = async {
            let mut db = self.db().write().await?;
            for (id, (uses, last)) in &taken {
                let last = i64::try_from(*last).ok().and_then(|last| Timestamp::from_millisecond(last).ok());
                let id = ShareLinkId::from(*id).to_string();
                opening::note_use(&mut db, &id, *uses, last.unwrap_or_else(now)).await?;
            }
            Ok(db.commit().await.map_err(DbError::from)?)
        };
        let noted = noted.await;
        if noted.is_err() {
            self.inner.usages.put_back(taken);
        }
        noted
    }
}

/// Whether an app lets somebody in as who they are.
pub(super) async fn admits(db: &mut Connection, who: &Identity, launcher: &Launcher) -> Result<bool> {
    let Some(project) = projects::get(db, launcher.project_id).await? else { return Ok(false) };
    let role = role_of(db, who, project.id).await?;
    // Like anything of a private project: for its members alone.
    let target = Target { visibility: Visibility::Private, ..Target::launcher(&project, launcher.id) };
    let is_member = decide(who, role, target, Action::See) == Decision::Allow;
    let said = opening::get(db, launcher.ruled_by()).await?;
    if is_member {
        return Ok(true);
    }
    let others = match said.admits(project.visibility) {
        Admitted::Everybody => return Ok(true),
        Admitted::Accounts => return Ok(who.user().is_some()),
        Admitted::MembersAnd(others) => others,
    };
    let Some(user) = who.id() else { return Ok(false) };
    let mut admitted = others.users.contains(&user);
    for group in others.groups {
        admitted |= groups::role(db, group, user).await?.is_some();
    }
    Ok(admitted)
}

/// What is said of who may open an app of this project, if it makes sense.
pub(super) async fn checked_opening(
    db: &mut Connection,
    project: &Project,
    to: OpenTo,
    guests: Invited<'_>,
) -> Result<Opening> {
    if to == OpenTo::Everyone && project.visibility == Visibility::Private {
        return Err(Error::invalid(said!(
            "everyone-is-for-public",
            "`everyone` is for public projects, and this one is private: make it public, or choose one of project, \
             link, signed_in, members, named"
        ))
        .about(Field::OpenTo));
    }
    Ok(Opening { to, guests: find_guests(db, guests).await? })
}

/// Those who are named, or who of them does not exist.
async fn find_guests(db: &mut Connection, invited: Invited<'_>) -> Result<Guests> {
    if invited.users.len() + invited.groups.len() > MOST_GUESTS {
        return Err(Error::invalid(said!(
            "guests-too-many",
            "at most {most} people and groups can be named for one app",
            most = MOST_GUESTS
        ))
        .about(Field::OpenTo));
    }
    let mut guests = Guests::default();
    for name in invited.users {
        let unknown = || {
            let name = name.escape_debug().to_string();
            Error::invalid(said!("no-such-user", "there is no user `{name}`", name = name))
                .about(Field::OpenTo)
        };
        let username: Namespace = name.parse().map_err(|_| unknown())?;
        let (user, _) = users::by_name(db, &username).await?.ok_or_else(unknown)?;
        guests.users.insert(user.id);
    }
    for path in invited.groups {
        let unknown = || {
            let path = path.escape_debug().to_string();
            Error::invalid(said!("no-such-group", "there is no group `{path}`", path = path))
                .about(Field::OpenTo)
        };
        let path: Namespace = path.parse().map_err(|_| unknown())?;
        guests.groups.insert(groups::by_path(db, &path).await?.ok_or_else(unknown)?.id);
    }
    Ok(guests)
}

async fn opening_view(db: &mut Connection, said: &Opening, project: &Project) -> Result<OpeningView> {
    let mut named = Vec::new();
    for id in &said.guests.users {
        named.extend(users::get(db, *id).await?.map(|user| user.username));
    }
    named.sort();
    let mut paths = Vec::new();
    for id in &said.guests.groups {
        paths.extend(groups::get(db, *id).await?.map(|group| group.path));
    }
    paths.sort();
    let effective = said.to.in_project(project.visibility);
    Ok(OpeningView { to: said.to, effective, users: named, groups: paths })
}

fn in_words(to: OpenTo) -> Said {
    match to {
        OpenTo::Everyone => said!("event-open-to-everyone", "is open to everyone"),
        OpenTo::Link => said!("event-open-by-link", "is open to everyone with a link"),
        OpenTo::SignedIn => said!("event-open-to-signed-in", "is open to everybody who has signed in"),
        OpenTo::Members | OpenTo::Project => {
            said!("event-open-to-members", "is open to the members of its project")
        }
        OpenTo::Named => said!("event-open-to-named", "is open to those who are named"),
    }
}

fn grant<Id: From<u128>>(who: &Identity, what: &str, new: NewGrant) -> Result<Grant<Id>> {
    let (user, now) = (who.signed_in()?, now());
    if new.expires_at.is_some_and(|at| at <= now) {
        return Err(Error::invalid(said!("until-past", "`expires_at` is in the past")).about(Field::Until));
    }
    Ok(Grant {
        id: fresh(),
        name: title(what, &new.name)?,
        created_by: Some(user.username.clone()),
        created_at: now,
        expires_at: new.expires_at,
        last_used_at: None,
        uses: 0,
    })
}
