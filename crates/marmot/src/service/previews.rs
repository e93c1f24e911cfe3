//! Previews: apps of other branches of a launcher's repository, each with an address of its own, and an end.
//!
//! A preview is a launcher of its own that lives by the rules of the one it is of: it has builds, revisions and an app
//! like any other, and goes with all of them. What is changed about the launcher, its previews follow.

use jiff::{SignedDuration, Timestamp};
use marmot_core::AppName;
use marmot_core::id::LauncherId;
use marmot_core::name::{MAX_LENGTH, slugify};
use marmot_core::{Said, said};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::apps::{note, roll_out};
use super::audit::{self, Thing};
use super::error::Field;
use super::error::{Error, Result};
use super::launchers::{RESERVED, SUFFIX, allowed_launcher, check_text, cut, random_suffix, suffix};
use super::permission::{Action, Identity};
use super::{LauncherView, Service, following, fresh, now};
use crate::db::{Connection, DbError, apps, following as rules, launchers};
use crate::model::{App, Code, Environment, EnvironmentSource, Following, Launcher, PreviewOf};

/// The most previews of one launcher at a time.
const MOST: usize = 10;
/// The longest that a preview stays without being prolonged, in days.
pub(super) const MOST_DAYS: u32 = 90;

impl Service {
    /// The previews of a launcher, oldest first.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn previews(&self, who: &Identity, of: LauncherId) -> Result<Vec<LauncherView>> {
        let mut db = self.db().read().await?;
        let (launcher, project) = allowed_launcher(&mut db, who, of, Action::See).await?;
        let mut views = Vec::new();
        for preview in launchers::previews(&mut db, launcher.id).await? {
            views.push(self.card(&mut db, who, preview, project.clone()).await?);
        }
        Ok(views)
    }

    /// Makes a preview of a branch, which is built and started at once. `days`: how long it stays.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`], [`Error::Invalid`] for what is no branch to preview,
    /// [`Error::Conflict`] where there is one of it already, or too many.
    pub async fn make_preview(
        &self,
        who: &Identity,
        of: LauncherId,
        branch: &str,
        days: Option<u32>,
    ) -> Result<LauncherView> {
        self.may_run_code(who)?;
        let mut db = self.db().write().await?;
        let (launcher, project) = allowed_launcher(&mut db, who, of, Action::Operate).await?;
        who.signed_in()?;
        let preview = self.add_preview(&mut db, who, &launcher, branch, days).await?;
        let view = self.card(&mut db, who, preview, project).await?;
        db.commit().await.map_err(DbError::from)?;
        self.wrote_and_in_force().await;
        Ok(view)
    }

    /// Lets a preview stay for `days` from now.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`], [`Error::Invalid`].
    pub async fn prolong_preview(
        &self,
        who: &Identity,
        of: LauncherId,
        id: LauncherId,
        days: Option<u32>,
    ) -> Result<LauncherView> {
        let mut db = self.db().write().await?;
        let (launcher, project) = allowed_launcher(&mut db, who, of, Action::Operate).await?;
        let mut found = find(&mut db, &launcher, id).await?;
        let said = rules::get(&mut db, launcher.id).await?;
        let ends_at = self.end(&said, days)?;
        if let Some(preview) = &mut found.preview {
            preview.ends_at = ends_at;
        }
        found.updated_at = now();
        launchers::update(&mut db, &found).await?;
        let details = json!({"ends_at": ends_at.to_string()});
        audit::record(&mut db, who, "preview.prolonged", Thing::app(&found), details).await?;
        let view = self.card(&mut db, who, found, project).await?;
        db.commit().await.map_err(DbError::from)?;
        self.wrote();
        Ok(view)
    }

    /// Ends a preview: its app, its builds and all it has go.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`].
    pub async fn end_preview(&self, who: &Identity, of: LauncherId, id: LauncherId) -> Result<()> {
        let mut db = self.db().write().await?;
        let (launcher, _) = allowed_launcher(&mut db, who, of, Action::Operate).await?;
        let found = find(&mut db, &launcher, id).await?;
        end(&mut db, who, &found, said!("event-was-ended", "was ended")).await?;
        db.commit().await.map_err(DbError::from)?;
        self.wrote_and_in_force().await;
        Ok(())
    }

    /// Ends the previews whose time has come; when the next one's will.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn end_old_previews(&self, now: Timestamp) -> Result<Option<Timestamp>> {
        if launchers::next_end(&mut *self.db().read().await?).await?.is_some_and(|next| next <= now) {
            let mut db = self.db().write().await?;
            for preview in launchers::ended_previews(&mut db, now).await? {
                end(
                    &mut db,
                    &Identity::Anonymous,
                    &preview,
                    said!("event-time-over", "has ended: its time was over"),
                )
                .await?;
            }
            db.commit().await.map_err(DbError::from)?;
            self.wrote();
        }
        Ok(launchers::next_end(&mut *self.db().read().await?).await?)
    }

    /// Makes a preview of a branch, whoever asks for it.
    pub(super) async fn add_preview(
        &self,
        db: &mut Connection,
        who: &Identity,
        of: &Launcher,
        branch: &str,
        days: Option<u32>,
    ) -> Result<Launcher> {
        let code = previewed(of, branch)?;
        let others = launchers::previews(db, of.id).await?;
        if let Some(there) = others.iter().find(|other| is_of(other, branch)) {
            return Err(Error::conflict(said!(
                "preview-exists",
                "there is a preview of the branch `{branch}` already: `{app}`",
                branch = cut(branch),
                app = there.app_name.to_string()
            ))
            .about(Field::Branch));
        }
        if others.len() >= MOST {
            return Err(Error::conflict(said!(
                "previews-too-many",
                "a launcher may have {most} previews at a time: end one that is no longer needed",
                most = MOST
            )));
        }
        let said = rules::get(db, of.id).await?;
        let name: String = format!("{} ({branch})", of.name).chars().take(99).collect();
        let preview = Launcher {
            id: fresh(),
            app_name: free_name(db, of, branch).await?,
            name,
            description: None,
            environment: Environment { id: fresh(), source: code },
            preview: Some(PreviewOf {
                of: of.id,
                branch: branch.to_owned(),
                ends_at: self.end(&said, days)?,
            }),
            created_by: who.id().unwrap_or(of.created_by),
            created_at: now(),
            updated_at: now(),
            ..of.clone()
        };
        launchers::insert(db, &preview).await?;
        let build = self.begin_build(db, &preview).await?;
        let app = App {
            launcher_id: preview.id,
            name: preview.app_name.clone(),
            activated_by: preview.created_by,
            activated_at: now(),
            wanted: None,
            awaits: Some(build.id),
            retry: 0,
        };
        apps::insert(db, &app).await?;
        following::begin(db, &preview, said.poll_minutes, now(), true).await?;
        let branch = cut(branch);
        note(
            db,
            who,
            of.id,
            "preview_made",
            said!("event-preview-made", "has a preview of the branch {branch}", branch = &branch),
        )
        .await?;
        let details = json!({"branch": branch, "of": of.app_name.as_str()});
        audit::record(db, who, "preview.made", Thing::app(&preview), details).await?;
        Ok(preview)
    }

    /// When a preview of this launcher ends that begins, or is prolonged, now.
    fn end(&self, said: &Following, days: Option<u32>) -> Result<Timestamp> {
        let days = days.or(said.days).unwrap_or(self.options().preview_days);
        check_days(days)?;
        Ok(now() + SignedDuration::from_hours(24 * i64::from(days)))
    }
}

/// Whether a preview may stay for so long.
pub(super) fn check_days(days: u32) -> Result<()> {
    if (1..=MOST_DAYS).contains(&days) {
        return Ok(());
    }
    Err(Error::invalid(said!(
        "days-wrong",
        "`days` is {days}: a preview may stay from 1 to {most} days",
        days = days,
        most = MOST_DAYS
    ))
    .about(Field::Days))
}

/// Ends a preview. `why`, to follow its name.
pub(super) async fn end(db: &mut Connection, who: &Identity, preview: &Launcher, why: Said) -> Result<()> {
    launchers::delete(db, preview.id).await?;
    let branch = preview.preview.as_ref().map(|preview| cut(&preview.branch)).unwrap_or_default();
    let message = said!(
        "event-preview-ended",
        "a preview of the branch {branch} {why}",
        branch = &branch,
        why = why.clone()
    );
    note(db, who, preview.ruled_by(), "preview_ended", message).await?;
    let details = json!({"branch": branch, "why": why.english()});
    audit::record(db, who, "preview.ended", Thing::app(preview), details).await
}

/// The preview of a branch, if there is one.
pub(super) async fn of_branch(db: &mut Connection, of: LauncherId, branch: &str) -> Result<Option<Launcher>> {
    Ok(launchers::previews(db, of).await?.into_iter().find(|preview| is_of(preview, branch)))
}

fn is_of(preview: &Launcher, branch: &str) -> bool {
    preview.preview.as_ref().is_some_and(|preview| preview.branch == branch)
}

async fn find(db: &mut Connection, of: &Launcher, id: LauncherId) -> Result<Launcher> {
    let found = launchers::get(db, id).await?;
    let found = found.filter(|found| found.preview.as_ref().is_some_and(|preview| preview.of == of.id));
    found.ok_or_else(|| Error::not_found("preview", id))
}

impl Service {
    /// Brings a changed launcher to its previews. Those of code that it no longer builds end.
    pub(super) async fn follow_previews(
        &self,
        db: &mut Connection,
        who: &Identity,
        before: &Launcher,
        after: &Launcher,
    ) -> Result<()> {
        let repository = |launcher: &Launcher| match &launcher.environment.source {
            EnvironmentSource::Code { code, .. } => Some(code.repository.clone()),
            EnvironmentSource::Image(_) => None,
        };
        let same_code = repository(before) == repository(after);
        for preview in launchers::previews(db, after.id).await? {
            let Some(PreviewOf { branch, .. }) = &preview.preview else { continue };
            let source = match same_code {
                true => previewed(after, branch),
                false => Err(Error::conflict("it is of other code")),
            };
            let Ok(source) = source else {
                end(
                    db,
                    who,
                    &preview,
                    said!("event-preview-other-code", "has ended: its launcher is about other code"),
                )
                .await?;
                continue;
            };
            let changed = Launcher {
                variables: after.variables.clone(),
                resource_class_id: after.resource_class_id,
                network: after.network.clone(),
                environment: Environment { id: preview.environment.id, source },
                updated_at: after.updated_at,
                ..preview.clone()
            };
            launchers::update(db, &changed).await?;
            self.follow_launcher(db, who, &preview, &changed).await?;
        }
        Ok(())
    }
}

/// Brings the launcher's rules for secrets to its previews that are on.
pub(super) async fn follow_secrets(db: &mut Connection, who: &Identity, of: LauncherId) -> Result<()> {
    for preview in launchers::previews(db, of).await? {
        if let Some(app) = apps::of_launcher(db, preview.id).await? {
            roll_out(db, who, &preview, &app, said!("event-other-secrets", "goes on with other secrets"))
                .await?;
        }
    }
    Ok(())
}

/// What a preview of this branch builds.
fn previewed(of: &Launcher, branch: &str) -> Result<EnvironmentSource> {
    if of.preview.is_some() {
        return Err(Error::invalid(said!(
            "is-preview-itself",
            "this is a preview itself: make one of its launcher"
        )));
    }
    check_branch(branch)?;
    let EnvironmentSource::Code { code, run } = &of.environment.source else {
        return Err(Error::invalid(said!(
            "image-has-no-branches",
            "this launcher's environment is a container image: it has no branches"
        )));
    };
    if code.revision.as_deref() == Some(branch) {
        return Err(Error::invalid(said!(
            "branch-is-the-apps",
            "`{branch}` is the branch that the app itself is built from: choose another",
            branch = cut(branch)
        ))
        .about(Field::Branch));
    }
    // The whole name, so that no tag of the same name is built in its place.
    let code = Code { revision: Some(format!("refs/heads/{branch}")), ..code.clone() };
    Ok(EnvironmentSource::Code { code, run: run.clone() })
}

/// Whether git would let a branch be called so.
fn check_branch(branch: &str) -> Result<()> {
    check_text("branch", Field::Branch, Some(branch))?;
    let fine = !branch.is_empty()
        && branch.len() <= 200
        && !branch.starts_with(['-', '/'])
        && !branch.ends_with(['/', '.'])
        && !branch.contains("..")
        && !branch.contains("//")
        && !branch.contains("@{")
        && !branch.contains([' ', '~', '^', ':', '?', '*', '[', '\\'])
        && branch.split('/').all(|part| !part.starts_with('.') && !part.ends_with(".lock"));
    if fine {
        return Ok(());
    }
    Err(Error::invalid(said!(
        "branch-wrong",
        "`branch`: `{branch}` is no name of a branch",
        branch = cut(branch)
    ))
    .about(Field::Branch))
}

/// A name for the app of a preview: the app's and the branch's, cut to what a name may have. The same branch gets the
/// same name again.
async fn free_name(db: &mut Connection, of: &Launcher, branch: &str) -> Result<AppName> {
    if let Some(name) = launchers::name_of_preview(db, of.id, branch).await? {
        return Ok(name);
    }
    let digest = Sha256::digest(format!("{} {branch}", of.id));
    let mut mark = [0; SUFFIX];
    mark.copy_from_slice(&digest[..SUFFIX]);
    let marked = std::iter::once(suffix(&mark)).chain(std::iter::repeat_with(random_suffix));
    let whole = label(&of.app_name, branch, None).into_iter();
    for candidate in whole.chain(marked.filter_map(|mark| label(&of.app_name, branch, Some(&mark)))).take(20)
    {
        if let Ok(name) = candidate.parse::<AppName>()
            && !RESERVED.contains(&name.as_str())
            && !launchers::app_name_taken(db, &name).await?
        {
            return Ok(name);
        }
    }
    Err(Error::conflict(said!(
        "no-free-preview-name",
        "no free name for a preview of `{branch}` was found: try again",
        branch = cut(branch)
    )))
}

/// The app's name and the branch's, and a mark where they do not fit, or another has that name.
fn label(app: &AppName, branch: &str, mark: Option<&str>) -> Option<String> {
    let Some(mark) = mark else {
        let whole = format!("{app}-{branch}");
        return slugify(&whole).filter(|_| whole.len() <= MAX_LENGTH);
    };
    let room = MAX_LENGTH - SUFFIX - 1;
    // At least half of it tells which branch.
    let app: String =
        app.as_str().chars().take(room.saturating_sub(branch.len() + 1).max(room / 2)).collect();
    let slug: String = slugify(&format!("{app}-{branch}"))?.chars().take(room).collect();
    Some(format!("{}-{mark}", slug.trim_end_matches('-')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_a_preview_tells_app_and_branch_and_fits() {
        let app: AppName = "iris".parse().unwrap();
        let long: AppName = "x".repeat(MAX_LENGTH).parse().unwrap();
        assert_eq!(label(&app, "feature/Löwe_2", None).unwrap(), "iris-feature-l-we-2");
        assert_eq!(label(&app, "feature/x", Some("bcdfg")).unwrap(), "iris-feature-x-bcdfg");
        for branch in ["main", "feature/x", &"y".repeat(200), &"é/".repeat(50), "1.0.x"] {
            for app in [&app, &long] {
                let name = label(app, branch, Some("bcdfg")).unwrap();
                assert!(name.parse::<AppName>().is_ok() && name.len() <= 63, "{name}");
            }
        }
        assert_eq!(label(&long, "main", None), None);
        assert!(label(&long, "wintersale", Some("bcdfg")).unwrap().contains("wintersale"));
    }

    #[test]
    fn only_branches_are_previewed() {
        for good in ["main", "feature/x", "v1.0", "ä", "a@b", "@"] {
            assert!(check_branch(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "-x",
            "--upload-pack=x",
            "/a",
            "a/",
            "a..b",
            "a b",
            "a~1",
            "a:b",
            "a\nb",
            ".a",
            "a.lock",
            "@{1}",
            "a//b",
        ] {
            assert!(check_branch(bad).is_err(), "{bad}");
        }
    }
}
