//! Webhooks: a code hosting site says that somebody has pushed, and the app is built anew.
//!
//! GitHub, Gitea and Forgejo sign their messages, GitLab sends a token along. What a message says is compared with what
//! the launcher asks for, and used for nothing else: what is built is what the launcher says.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use hmac::{Hmac, KeyInit as _, Mac as _};
use marmot_core::id::LauncherId;
use marmot_core::said;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::app_secrets::unsealable;
use super::apps::active;
use super::audit::{self, Thing};
use super::error::{Error, Result};
use super::launchers::allowed_launcher;
use super::permission::{Action, Identity};
use super::previews;
use super::{Service, now};
use crate::db::{Connection, DbError, following, hooks, launchers};
use crate::hex;
use crate::model::{Code, EnvironmentSource, Hook, Launcher, Secret};

/// Random bytes of a hook's secret.
const SECRET_BYTES: usize = 32;
/// How many messages are remembered, so that the same is not taken twice.
const REMEMBERED: usize = 1024;

/// What proves that a message comes from the site that knows the secret.
#[derive(Debug, Clone)]
pub enum Proof {
    /// HMAC-SHA-256 of the body, in hexadecimal: GitHub, Gitea, Forgejo.
    Signature(String),
    /// The secret itself: GitLab.
    Token(Secret),
}

/// A message as it came.
#[derive(Debug, Clone)]
pub struct Message<'a> {
    /// What proves where it comes from.
    pub proof: Proof,
    /// What it tells of, as the site calls it: `push`, `Push Hook`, `ping`.
    pub event: &'a str,
    /// What is told: JSON.
    pub body: &'a [u8],
}

/// The messages that were taken.
#[derive(Debug, Default)]
pub(super) struct Heard(Mutex<VecDeque<[u8; 32]>>);

impl Heard {
    /// Notes a message; `false` when it was taken before.
    fn first_time(&self, launcher: LauncherId, body: &[u8]) -> bool {
        let digest =
            Sha256::new().chain_update(launcher.as_u128().to_be_bytes()).chain_update(body).finalize();
        let digest: [u8; 32] = digest.into();
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.contains(&digest) {
            return false;
        }
        if heard.len() == REMEMBERED {
            heard.pop_front();
        }
        heard.push_back(digest);
        true
    }
}

/// What is of use in a message of any of the sites.
#[derive(Debug, Deserialize)]
struct Push {
    r#ref: Option<String>,
    #[serde(default)]
    deleted: bool,
    after: Option<String>,
    repository: Option<Repository>,
    project: Option<Repository>,
}

#[derive(Debug, Deserialize)]
struct Repository {
    default_branch: Option<String>,
}

impl Service {
    /// The address that a site is given for a hook.
    pub fn hook_url(&self, hook: &Hook) -> String {
        format!("{}/api/data/hooks/{}", self.options().public_url, hook.launcher_id)
    }

    /// The hook of a launcher, without its secret.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`].
    pub async fn hook(&self, who: &Identity, launcher: LauncherId) -> Result<Option<Hook>> {
        let mut db = self.db().read().await?;
        let (launcher, _) = allowed_launcher(&mut db, who, launcher, Action::Change).await?;
        Ok(hooks::get(&mut db, launcher.id).await?.map(|(hook, _)| hook))
    }

    /// Makes a hook for a launcher, in the place of an earlier one, and the secret that the site is to be told. It is
    /// shown this once.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`], [`Error::Invalid`] where nothing is built.
    pub async fn make_hook(&self, who: &Identity, launcher: LauncherId) -> Result<(Hook, Secret)> {
        let mut db = self.db().write().await?;
        let (launcher, _) = allowed_launcher(&mut db, who, launcher, Action::Change).await?;
        if !matches!(launcher.environment.source, EnvironmentSource::Code { .. }) {
            return Err(Error::invalid(said!(
                "image-is-not-pushed",
                "this launcher's environment is a container image: a push changes nothing of it"
            )));
        }
        let random: [u8; SECRET_BYTES] = rand::random();
        let secret = Secret::new(hex::encode(&random));
        let hook = Hook { launcher_id: launcher.id, created_at: now(), heard_at: None, heard: None };
        let sealed = self.vault().seal(&place(&hook), &secret).map_err(unsealable)?;
        hooks::put(&mut db, &hook, &sealed).await?;
        audit::record(&mut db, who, "webhook.made", Thing::launcher(&launcher), json!({})).await?;
        db.commit().await.map_err(DbError::from)?;
        Ok((hook, secret))
    }

    /// Removes the hook of a launcher: from now on nothing that was signed with its secret is taken.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`].
    pub async fn remove_hook(&self, who: &Identity, launcher: LauncherId) -> Result<()> {
        let mut db = self.db().write().await?;
        let (launcher, _) = allowed_launcher(&mut db, who, launcher, Action::Change).await?;
        if !hooks::delete(&mut db, launcher.id).await? {
            return Err(Error::not_found("webhook of the launcher", launcher.id));
        }
        audit::record(&mut db, who, "webhook.removed", Thing::launcher(&launcher), json!({})).await?;
        Ok(db.commit().await.map_err(DbError::from)?)
    }

    /// Takes a site's message, and says in a sentence what comes of it. Each is taken once.
    ///
    /// # Errors
    /// [`Error::InvalidCredentials`] when its proof is wrong or the launcher has no hook: which of them is not told.
    /// [`Error::Invalid`] when it is no message of a kind that is known.
    pub async fn hear(&self, launcher: LauncherId, message: &Message<'_>) -> Result<String> {
        let mut db = self.db().write().await?;
        let (hook, sealed) = hooks::get(&mut db, launcher).await?.ok_or(Error::InvalidCredentials)?;
        let secret = self.vault().open(&place(&hook), &sealed).map_err(unsealable)?;
        check_proof(&secret, message)?;
        let launcher = launchers::get(&mut db, launcher).await?.ok_or(Error::InvalidCredentials)?;
        let answer = self.follow(&mut db, &launcher, message).await?;
        hooks::heard(&mut db, launcher.id, now(), &answer).await?;
        db.commit().await.map_err(DbError::from)?;
        self.wrote();
        Ok(answer)
    }

    /// Does what a message that is genuine asks for.
    async fn follow(
        &self,
        db: &mut Connection,
        launcher: &Launcher,
        message: &Message<'_>,
    ) -> Result<String> {
        if !matches!(launcher.environment.source, EnvironmentSource::Code { .. }) {
            return Ok("the launcher's environment is a container image: nothing is built".to_owned());
        }
        match message.event {
            "push" | "Push Hook" | "Tag Push Hook" => {
                let push: Push = serde_json::from_slice(message.body).map_err(|_| {
                    Error::invalid("the message is no JSON of a push: let the site send `application/json`")
                })?;
                self.pushed(db, launcher, message, &push).await
            }
            "pull_request" | "Merge Request Hook" => {
                let request = Request::read(message.body)?;
                self.requested(db, launcher, message, request).await
            }
            _ => Ok("heard; only pushes and pull requests make a difference".to_owned()),
        }
    }

    /// A branch or tag has moved, come or gone.
    async fn pushed(
        &self,
        db: &mut Connection,
        launcher: &Launcher,
        message: &Message<'_>,
        push: &Push,
    ) -> Result<String> {
        let branch = push.r#ref.as_deref().and_then(|name| name.strip_prefix("refs/heads/"));
        let preview = match branch {
            Some(branch) => previews::of_branch(db, launcher.id, branch).await?,
            None => None,
        };
        if let Some(preview) = preview {
            if push.is_gone() {
                previews::end(
                    db,
                    &Identity::Anonymous,
                    &preview,
                    said!("event-branch-removed", "has ended: the branch was removed"),
                )
                .await?;
                return Ok("the preview of the branch has ended".to_owned());
            }
            return self.build_pushed(db, &preview, message, push.after.as_deref()).await;
        }
        let EnvironmentSource::Code { code, .. } = &launcher.environment.source else {
            return Ok("nothing is built".to_owned());
        };
        match concerns(push, code) {
            Ok(()) => self.build_pushed(db, launcher, message, push.after.as_deref()).await,
            Err(why) => Ok(why),
        }
    }

    /// Somebody asks for a branch to be merged, or no longer does.
    async fn requested(
        &self,
        db: &mut Connection,
        launcher: &Launcher,
        message: &Message<'_>,
        request: Request,
    ) -> Result<String> {
        if !following::get(db, launcher.id).await?.pull_requests {
            return Ok("heard; this launcher makes no previews of pull requests".to_owned());
        }
        if !request.is_own {
            return Ok("the branch is another repository's: what anybody may push is not run here".to_owned());
        }
        let preview = previews::of_branch(db, launcher.id, &request.branch).await?;
        match (request.what, preview) {
            (Wish::Closed, Some(preview)) => {
                let why = said!("event-request-closed", "has ended: its pull request was closed");
                previews::end(db, &Identity::Anonymous, &preview, why).await?;
                Ok("the preview of the branch has ended".to_owned())
            }
            (Wish::Closed | Wish::Other, _) => Ok("heard; nothing follows from it".to_owned()),
            (Wish::Open, Some(preview)) => {
                self.build_pushed(db, &preview, message, request.commit.as_deref()).await
            }
            (Wish::Open, None) => {
                if !self.inner.heard.first_time(launcher.id, message.body) {
                    return Ok("this was heard before".to_owned());
                }
                match self.add_preview(db, &Identity::Anonymous, launcher, &request.branch, None).await {
                    Ok(preview) => {
                        saw(db, &preview, request.commit.as_deref()).await?;
                        let url = self.options().app_url(&preview.app_name);
                        Ok(format!("there is a preview of the branch now: {url}"))
                    }
                    Err(Error::Conflict { message, .. } | Error::Invalid { message, .. }) => {
                        Ok(message.to_string())
                    }
                    Err(other) => Err(other),
                }
            }
        }
    }

    /// Builds what a push or pull request concerns, unless it is known already.
    async fn build_pushed(
        &self,
        db: &mut Connection,
        launcher: &Launcher,
        message: &Message<'_>,
        commit: Option<&str>,
    ) -> Result<String> {
        let Ok(app) = active(db, launcher).await else {
            return Ok("the app is off: it is built when it is switched on".to_owned());
        };
        if !self.inner.heard.first_time(launcher.id, message.body) {
            return Ok("this push was heard before".to_owned());
        }
        // A pull request and a push often tell of the same commit.
        let seen = following::sighting(db, launcher.id).await?;
        if commit.is_some() && seen.tip.as_deref() == commit {
            return Ok("this commit is known already".to_owned());
        }
        saw(db, launcher, commit).await?;
        match self
            .build_anew(db, launcher, &app, said!("event-pushed", "is built anew, since somebody pushed"))
            .await
        {
            Err(error @ Error::TooOften { .. }) => Ok(format!("nothing is built: {error}")),
            Ok(true) => Ok("the app is built anew".to_owned()),
            Ok(false) => Ok("a build waits already: it will build the newest commit".to_owned()),
            Err(other) => Err(other),
        }
    }
}

/// Notes at which commit a branch is by the word of its site.
async fn saw(db: &mut Connection, launcher: &Launcher, commit: Option<&str>) -> Result<()> {
    let whole = |commit: &&str| {
        matches!(commit.len(), 40 | 64) && commit.bytes().all(|digit| digit.is_ascii_hexdigit())
    };
    let Some(commit) = commit.filter(whole) else { return Ok(()) };
    let mut seen = following::sighting(db, launcher.id).await?;
    seen.tip = Some(commit.to_ascii_lowercase());
    Ok(following::see(db, launcher.id, &seen).await?)
}

/// What a pull or merge request asks for.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    what: Wish,
    branch: String,
    /// The commit that the branch is at.
    commit: Option<String>,
    /// The branch is of the same repository.
    is_own: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// It was opened, or has new commits.
    Open,
    Closed,
    Other,
}

impl Request {
    fn read(body: &[u8]) -> Result<Self> {
        let no_request = || {
            Error::invalid("the message is no JSON of a pull request: let the site send `application/json`")
        };
        let told: serde_json::Value = serde_json::from_slice(body).map_err(|_| no_request())?;
        let text = |path: &str| told.pointer(path).and_then(serde_json::Value::as_str);
        let of_gitlab = told.get("object_attributes").is_some();
        let (action, branch, commit, ids) = match of_gitlab {
            true => (
                text("/object_attributes/action"),
                text("/object_attributes/source_branch"),
                text("/object_attributes/last_commit/id"),
                ["/object_attributes/source_project_id", "/object_attributes/target_project_id"],
            ),
            false => (
                text("/action"),
                text("/pull_request/head/ref"),
                text("/pull_request/head/sha"),
                ["/pull_request/head/repo/id", "/pull_request/base/repo/id"],
            ),
        };
        let what = match action.unwrap_or_default() {
            "opened" | "reopened" | "synchronize" | "synchronized" | "open" | "reopen" => Wish::Open,
            // GitLab sends one for a new title, too: only with new commits does it say from which.
            "update" if text("/object_attributes/oldrev").is_some() => Wish::Open,
            "closed" | "close" | "merge" => Wish::Closed,
            _ => Wish::Other,
        };
        let [head, base] = ids.map(|path| told.pointer(path).filter(|id| !id.is_null()));
        let branch = branch.ok_or_else(no_request)?.to_owned();
        let is_own = head.is_some() && head == base;
        Ok(Self { what, branch, commit: commit.map(str::to_owned), is_own })
    }
}

impl Push {
    fn is_gone(&self) -> bool {
        self.deleted || self.after.as_ref().is_some_and(|after| after.bytes().all(|digit| digit == b'0'))
    }
}

/// What a hook's secret is sealed for.
pub(super) fn place(hook: &Hook) -> String {
    format!("hooks/{}", hook.launcher_id)
}

fn check_proof(secret: &Secret, message: &Message<'_>) -> Result<()> {
    match &message.proof {
        Proof::Token(token) if token == secret => Ok(()),
        Proof::Token(_) => Err(Error::InvalidCredentials),
        Proof::Signature(digits) => {
            let given = hex::decode(digits).ok_or(Error::InvalidCredentials)?;
            let mac = Hmac::<Sha256>::new_from_slice(secret.reveal().as_bytes());
            let mac = mac.map_err(|_| Error::InvalidCredentials)?.chain_update(message.body);
            // Compares in constant time.
            mac.verify_slice(&given).map_err(|_| Error::InvalidCredentials)
        }
    }
}

/// Whether a push changes what the launcher asks for; else why not.
fn concerns(push: &Push, code: &Code) -> std::result::Result<(), String> {
    if push.is_gone() {
        return Err("a branch or tag was removed: nothing is built".to_owned());
    }
    let name = push.r#ref.as_deref().unwrap_or_default();
    let name = name.strip_prefix("refs/heads/").or_else(|| name.strip_prefix("refs/tags/"));
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Err("the message names neither a branch nor a tag: nothing is built".to_owned());
    };
    let told = push.repository.iter().chain(&push.project).find_map(|site| site.default_branch.as_deref());
    match (code.revision.as_deref(), told) {
        (Some(wanted), _) if wanted == name => Ok(()),
        (Some(_), _) => {
            Err("the push was to another branch than the launcher's: nothing is built".to_owned())
        }
        (None, Some(branch)) if branch != name => {
            Err("the push was not to the default branch: nothing is built".to_owned())
        }
        // The launcher builds the default branch, and the site does not say which that is.
        (None, _) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BuilderVariant;

    fn push(text: &str) -> Push {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn only_what_the_launcher_builds_is_built() {
        let code = |revision: Option<&str>| Code {
            repository: "https://example.org/x".to_owned(),
            revision: revision.map(str::to_owned),
            context_dir: None,
            builder: BuilderVariant::Auto,
            as_image: false,
        };
        let to =
            |name: &str| push(&format!(r#"{{"ref":"{name}","repository":{{"default_branch":"main"}}}}"#));
        for (revision, name, built) in [
            (None, "refs/heads/main", true),
            (None, "refs/heads/dev", false),
            (None, "refs/tags/v1", false),
            (Some("dev"), "refs/heads/dev", true),
            (Some("dev"), "refs/heads/main", false),
            (Some("v1"), "refs/tags/v1", true),
            (Some("feature/x"), "refs/heads/feature/x", true),
            (None, "--upload-pack=x", false),
            (None, "refs/heads/", false),
        ] {
            assert_eq!(concerns(&to(name), &code(revision)).is_ok(), built, "{revision:?} {name}");
        }
        let gone = push(r#"{"ref":"refs/heads/main","after":"0000000000000000000000000000000000000000"}"#);
        assert!(concerns(&gone, &code(None)).is_err());
        let of_gitlab =
            push(r#"{"ref":"refs/heads/dev","project":{"default_branch":"main"},"repository":{}}"#);
        assert!(concerns(&of_gitlab, &code(None)).is_err());
    }

    #[test]
    fn the_example_of_githubs_documentation_is_taken() {
        // "Testing the webhook payload validation" in GitHub's documentation.
        let secret = Secret::new("It's a Secret to Everybody");
        let signature = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let message = |digits: &str| Message {
            proof: Proof::Signature(digits.to_owned()),
            event: "push",
            body: b"Hello, World!",
        };
        assert!(check_proof(&secret, &message(signature)).is_ok());
        assert!(check_proof(&secret, &message(&signature.to_uppercase())).is_ok());
        for wrong in ["", "7571", &"0".repeat(64), &"é".repeat(32), &signature.replace('7', "g")] {
            assert!(check_proof(&secret, &message(wrong)).is_err(), "{wrong}");
        }
    }
}
