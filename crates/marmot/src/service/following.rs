//! How launchers learn of changes of their branches without a webhook: looked at from time to time, further and further
//! apart where it fails.
//!
//! Nothing here has a timer: one task of the server asks [`Service::look_at_branches`] what is due, and is told when to
//! ask again. A launcher whose app is off is not looked at.

use futures_util::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use marmot_core::id::LauncherId;
use marmot_core::{Said, said};
use marmot_engine::build::{Planner, Tip};
use serde_json::json;

use super::apps::note;
use super::audit::{self, Thing};
use super::error::Field;
use super::error::{Error, Result};
use super::launchers::allowed_launcher;
use super::permission::{Action, Identity};
use super::previews::{self, check_days};
use super::{Service, now, wanted_build};
use crate::db::{Connection, DbError, apps, builds, following, launchers};
use crate::model::{
    App, BuildStatus, CredentialKind, EnvironmentSource, Following, Launcher, Page, Sighting,
};

/// The shortest that lies between two looks at a branch, in minutes.
const LEAST_MINUTES: u32 = 1;
/// The longest: a day.
const MOST_MINUTES: u32 = 24 * 60;
/// How many branches are looked at before others get a turn at the database.
const BATCH: u32 = 20;
/// How many are looked at together. The planner has a narrower bound of its own.
const TOGETHER: usize = 4;
/// One build that runs and one that waits: it builds the newest commit, whoever pushed it.
const MOST_BUILDS: u32 = 2;

/// How a launcher learns of changes, and what was last seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowingView {
    /// What was said.
    pub said: Following,
    /// What was last seen of its branch.
    pub seen: Sighting,
    /// How long its previews stay, in days.
    pub days: u32,
}

/// A change of it. What is absent stays.
#[derive(Debug, Clone, Copy, Default)]
pub struct FollowingPatch {
    /// How often its branch is looked at, in minutes; `Some(None)`: never.
    pub poll_minutes: Option<Option<u32>>,
    /// Pull requests make previews.
    pub pull_requests: Option<bool>,
    /// Previews are given the secrets. For owners to allow.
    pub secrets: Option<bool>,
    /// How long previews stay, in days; `Some(None)`: as the server says.
    pub days: Option<Option<u32>>,
}

impl Service {
    /// How a launcher learns of changes. For members.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`].
    pub async fn following(&self, who: &Identity, launcher: LauncherId) -> Result<FollowingView> {
        let mut db = self.db().read().await?;
        let (launcher, _) = allowed_launcher(&mut db, who, launcher, Action::ReadLogs).await?;
        self.following_view(&mut db, &launcher).await
    }

    /// Says how a launcher learns of changes.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Invalid`]; [`Error::Forbidden`], also where somebody who does not own the project
    /// gives secrets to previews.
    pub async fn set_following(
        &self,
        who: &Identity,
        launcher: LauncherId,
        patch: FollowingPatch,
    ) -> Result<FollowingView> {
        let mut db = self.db().write().await?;
        let (launcher, _) = allowed_launcher(&mut db, who, launcher, Action::Change).await?;
        if !matches!(launcher.environment.source, EnvironmentSource::Code { .. }) {
            return Err(Error::invalid(said!(
                "image-has-no-branch",
                "this launcher's environment is a container image: it has no branch to follow"
            )));
        }
        let before = following::get(&mut db, launcher.id).await?;
        if patch.secrets == Some(true) && !before.secrets {
            // Whoever can push to any branch reads what its preview is given.
            allowed_launcher(&mut db, who, launcher.id, Action::Entrust).await?;
        }
        let said = Following {
            poll_minutes: patch.poll_minutes.unwrap_or(before.poll_minutes),
            pull_requests: patch.pull_requests.unwrap_or(before.pull_requests),
            secrets: patch.secrets.unwrap_or(before.secrets),
            days: patch.days.unwrap_or(before.days),
        };
        check_minutes(said.poll_minutes)?;
        said.days.map_or(Ok(()), check_days)?;
        following::set(&mut db, launcher.id, &said).await?;
        if said.poll_minutes != before.poll_minutes {
            begin(&mut db, &launcher, said.poll_minutes, now(), false).await?;
            for preview in launchers::previews(&mut db, launcher.id).await? {
                begin(&mut db, &preview, said.poll_minutes, now(), false).await?;
            }
        }
        if said.secrets != before.secrets {
            previews::follow_secrets(&mut db, who, launcher.id).await?;
        }
        let details = json!({
            "poll_minutes": said.poll_minutes,
            "pull_requests": said.pull_requests,
            "secrets": said.secrets,
            "days": said.days,
        });
        audit::record(&mut db, who, "launcher.following", Thing::launcher(&launcher), details).await?;
        let view = self.following_view(&mut db, &launcher).await?;
        db.commit().await.map_err(DbError::from)?;
        self.wrote();
        Ok(view)
    }

    async fn following_view(&self, db: &mut Connection, launcher: &Launcher) -> Result<FollowingView> {
        let said = following::get(db, launcher.ruled_by()).await?;
        let days = said.days.unwrap_or(self.options().preview_days);
        Ok(FollowingView { seen: following::sighting(db, launcher.id).await?, said, days })
    }

    /// Looks at the branches that are due, and builds anew what has moved; when to look again.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn look_at_branches(&self, now: Timestamp) -> Result<Option<Timestamp>> {
        let Some(planner) = &self.inner.live.planner else { return Ok(None) };
        let due = following::due(&mut *self.db().read().await?, now, BATCH).await?;
        let looks = due.into_iter().map(|launcher| self.look_at_branch(planner, launcher, now));
        let mut looks = futures_util::stream::iter(looks).buffer_unordered(TOGETHER);
        while let Some(looked) = looks.next().await {
            looked?;
        }
        Ok(following::next_due(&mut *self.db().read().await?).await?)
    }

    async fn look_at_branch(&self, planner: &Planner, id: LauncherId, at: Timestamp) -> Result<()> {
        let mut db = self.db().read().await?;
        let Some(launcher) = launchers::get(&mut db, id).await? else { return Ok(()) };
        let EnvironmentSource::Code { code, .. } = &launcher.environment.source else {
            drop(db);
            return self.look_no_more(id).await;
        };
        let logins = self.given_credentials(&mut db).await?.of(launcher.project_id, CredentialKind::Git);
        // It may take a while, and connections to the database are few.
        drop(db);
        let tip = planner.tip(&wanted_build(code, launcher.environment.id, false, &logins)).await;
        let tip = tip.map_err(|error| error.to_string());
        let mut db = self.db().write().await?;
        // What was changed meanwhile is looked at again, as it is now.
        let Some(now) =
            launchers::get(&mut db, id).await?.filter(|now| now.environment == launcher.environment)
        else {
            return Ok(());
        };
        let Some(app) = apps::of_launcher(&mut db, id).await? else { return Ok(()) };
        self.saw(&mut db, &now, &app, tip, at).await?;
        db.commit().await.map_err(DbError::from)?;
        self.wrote();
        Ok(())
    }

    /// A container image has no branch.
    async fn look_no_more(&self, id: LauncherId) -> Result<()> {
        let mut db = self.db().write().await?;
        let seen = following::sighting(&mut db, id).await?;
        following::see(&mut db, id, &Sighting { next_at: None, ..seen }).await?;
        Ok(db.commit().await.map_err(DbError::from)?)
    }

    /// Notes what was seen of a branch, and does what follows from it.
    async fn saw(
        &self,
        db: &mut Connection,
        launcher: &Launcher,
        app: &App,
        tip: Result<Tip, String>,
        at: Timestamp,
    ) -> Result<()> {
        let minutes = following::get(db, launcher.ruled_by()).await?.poll_minutes;
        let mut seen = following::sighting(db, launcher.id).await?;
        seen.looked_at = Some(at);
        let revision = launcher.revision().unwrap_or("HEAD").trim_start_matches("refs/heads/").to_owned();
        match tip {
            Ok(Tip::Gone) if launcher.preview.is_some() => {
                let why = said!("event-branch-gone", "has ended: the branch is gone");
                return previews::end(db, &Identity::Anonymous, launcher, why).await;
            }
            Ok(Tip::Commit(tip)) => {
                (seen.failures, seen.error) = (0, None);
                if seen.tip.as_deref() != Some(&tip) && !built(db, launcher, &tip).await? {
                    let short: String = tip.chars().take(10).collect();
                    let why = said!(
                        "event-branch-moved",
                        "is built anew, since {revision} is at {short} now",
                        revision = revision,
                        short = short
                    );
                    match self.build_anew(db, launcher, app, why).await {
                        // The project may not build so often: the next look finds it again.
                        Err(error @ Error::TooOften { .. }) => {
                            seen.error = Some(error.to_string());
                            seen.next_at = minutes.map(|minutes| at + pause(minutes, 0));
                            return Ok(following::see(db, launcher.id, &seen).await?);
                        }
                        built => built?,
                    };
                }
                seen.tip = Some(tip);
            }
            Ok(Tip::Fixed) => (seen.failures, seen.error) = (0, None),
            Ok(Tip::Gone) => {
                seen.failures = seen.failures.saturating_add(1);
                seen.error = Some(format!("there is no branch, tag or commit `{revision}` any more"));
            }
            Err(why) => {
                seen.failures = seen.failures.saturating_add(1);
                seen.error = Some(why);
            }
        }
        seen.next_at = minutes.map(|minutes| at + pause(minutes, seen.failures));
        Ok(following::see(db, launcher.id, &seen).await?)
    }
}

/// How long until the next look, after so many failures in a row: twice as long after each, a day at most.
fn pause(minutes: u32, failures: u32) -> SignedDuration {
    let minutes = u64::from(minutes) << failures.min(16);
    SignedDuration::from_mins(i64::try_from(minutes).unwrap_or(i64::MAX).min(i64::from(MOST_MINUTES)))
}

fn check_minutes(minutes: Option<u32>) -> Result<()> {
    match minutes {
        Some(minutes) if !(LEAST_MINUTES..=MOST_MINUTES).contains(&minutes) => Err(Error::invalid(said!(
            "minutes-wrong",
            "`poll_minutes` is {minutes}: a branch can be looked at every {least} to {most} minutes, or, \
             with null, never",
            minutes = minutes,
            least = LEAST_MINUTES,
            most = MOST_MINUTES
        ))
        .about(Field::Minutes)),
        _ => Ok(()),
    }
}

/// From now on, a branch is looked at this often, or not any more. `just_built`: not before the first pause is over.
pub(super) async fn begin(
    db: &mut Connection,
    launcher: &Launcher,
    minutes: Option<u32>,
    now: Timestamp,
    just_built: bool,
) -> Result<()> {
    let seen = following::sighting(db, launcher.id).await?;
    let first = |minutes| if just_built { now + pause(minutes, 0) } else { now };
    let seen = Sighting { failures: 0, error: None, next_at: minutes.map(first), ..seen };
    Ok(following::see(db, launcher.id, &seen).await?)
}

/// Whether the newest build that succeeded was of this commit.
async fn built(db: &mut Connection, launcher: &Launcher, tip: &str) -> Result<bool> {
    let newest = builds::list(db, launcher.environment.id, Page { page: 1, per_page: 1 }).await?.0;
    Ok(newest.iter().any(|build| build.result.commit.as_deref() == Some(tip)))
}

impl Service {
    /// Builds an app anew because of what happened elsewhere, unless a build waits that will build that, too: then `false`.
    pub(super) async fn build_anew(
        &self,
        db: &mut Connection,
        launcher: &Launcher,
        app: &App,
        why: Said,
    ) -> Result<bool> {
        let environment = launcher.environment.id;
        let waiting =
            builds::newest_with_status(db, environment, BuildStatus::InProgress, MOST_BUILDS).await?;
        if waiting.len() >= MOST_BUILDS as usize {
            return Ok(false);
        }
        let build = self.begin_build(db, launcher).await?;
        apps::set_wanted(db, launcher.id, app.wanted, Some(build.id)).await?;
        let thing = Thing::build(&build, launcher);
        audit::record(db, &Identity::Anonymous, "build.started", thing, json!({})).await?;
        note(db, &Identity::Anonymous, launcher.id, "pushed", why).await?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_looked_at_less_and_less_often_but_every_day() {
        let minutes = |every, failures| pause(every, failures).as_mins();
        assert_eq!([minutes(5, 0), minutes(5, 1), minutes(5, 3), minutes(5, 40)], [5, 10, 40, 1440]);
        assert_eq!([minutes(1440, 0), minutes(1440, 3), minutes(1, u32::MAX)], [1440, 1440, 1440]);
    }
}
