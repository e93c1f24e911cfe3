//! What a project shows to the hosts of its private repositories and images: a token, a password or a deploy key, for
//! one host each.

use std::collections::BTreeMap;

use marmot_core::id::{CredentialId, ProjectId};
use marmot_core::said;
use serde_json::json;

use super::app_secrets::unsealable;
use super::audit::{self, Thing};
use super::error::Field;
use super::error::{Error, Result};
use super::permission::{Action, Identity};
use super::projects::allowed_project;
use super::{Service, fresh, now};
use crate::db::{Connection, DbError, credentials};
use crate::model::{Credential, CredentialKind, Secret};

/// The most credentials of one project.
const MOST: usize = 50;
/// The most bytes of a token or key.
const LONGEST: usize = 16 * 1024;
/// What the key of an `ssh://` repository begins with.
const KEY_HEAD: &str = "-----BEGIN ";

/// A credential to be set.
#[derive(Debug, Clone)]
pub struct NewCredential {
    /// What it is for.
    pub kind: CredentialKind,
    /// The one host that is shown it, perhaps with a port.
    pub host: String,
    /// The name that goes with it; what the usual hosts take when absent.
    pub username: Option<String>,
    /// A token, a password, or a private key in PEM.
    pub secret: Secret,
}

/// A credential as it is used.
#[derive(Debug, Clone, PartialEq)]
pub struct Login {
    /// The one host that is shown it, perhaps with a port.
    pub host: String,
    /// The name that goes with it.
    pub username: String,
    /// A token, a password, or a private key in PEM.
    pub secret: Secret,
}

impl Service {
    /// What a project shows to hosts, without the secrets themselves.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`].
    pub async fn credentials(&self, who: &Identity, project: ProjectId) -> Result<Vec<Credential>> {
        let mut db = self.db().read().await?;
        let project = allowed_project(&mut db, who, project, Action::Change).await?;
        Ok(credentials::list(&mut db, project.id).await?)
    }

    /// Sets what a project shows to a host, in the place of what it showed before.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`], [`Error::Invalid`] in words without the secret.
    pub async fn set_credential(
        &self,
        who: &Identity,
        project: ProjectId,
        new: NewCredential,
    ) -> Result<Credential> {
        let mut db = self.db().write().await?;
        let project = allowed_project(&mut db, who, project, Action::Change).await?;
        let credential = Credential {
            id: fresh(),
            project_id: project.id,
            kind: new.kind,
            host: checked_host(&new.host)?,
            username: checked_username(new.username, new.kind)?,
            created_at: now(),
        };
        check_secret(&new.secret, new.kind)?;
        if credentials::list(&mut db, project.id).await?.len() >= MOST {
            return Err(Error::invalid(said!(
                "credentials-too-many",
                "a project may have {most} credentials at most: remove one first",
                most = MOST
            )));
        }
        let sealed = self.vault().seal(&place(&credential), &new.secret).map_err(unsealable)?;
        credentials::put(&mut db, &credential, &sealed).await?;
        let thing = Thing::credential(credential.id, &credential.host, project.id);
        audit::record(&mut db, who, "credential.set", thing, json!({"kind": credential.kind.as_str()}))
            .await?;
        db.commit().await.map_err(DbError::from)?;
        self.wrote();
        Ok(credential)
    }

    /// Removes what a project shows to a host.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`].
    pub async fn remove_credential(
        &self,
        who: &Identity,
        project: ProjectId,
        id: CredentialId,
    ) -> Result<()> {
        let mut db = self.db().write().await?;
        let project = allowed_project(&mut db, who, project, Action::Change).await?;
        let known = credentials::list(&mut db, project.id).await?;
        let found = known.into_iter().find(|credential| credential.id == id);
        let found = found.ok_or_else(|| Error::not_found("credential", id))?;
        credentials::delete(&mut db, project.id, id).await?;
        let thing = Thing::credential(id, &found.host, project.id);
        audit::record(&mut db, who, "credential.removed", thing, json!({})).await?;
        db.commit().await.map_err(DbError::from)?;
        self.wrote();
        Ok(())
    }

    /// What each project shows to hosts.
    ///
    /// # Errors
    /// When the database fails, or one cannot be opened.
    pub(super) async fn given_credentials(&self, db: &mut Connection) -> Result<Logins> {
        let mut logins = Logins::default();
        for (credential, sealed) in credentials::all(db).await? {
            let secret = self.vault().open(&place(&credential), &sealed).map_err(unsealable)?;
            let login = Login { host: credential.host, username: credential.username, secret };
            logins.0.entry((credential.project_id, credential.kind)).or_default().push(login);
        }
        Ok(logins)
    }
}

/// What projects show to hosts.
#[derive(Debug, Clone, Default)]
pub(super) struct Logins(BTreeMap<(ProjectId, CredentialKind), Vec<Login>>);

impl Logins {
    /// What this project shows to hosts of this kind.
    pub(super) fn of(&self, project: ProjectId, kind: CredentialKind) -> Vec<Login> {
        self.0.get(&(project, kind)).cloned().unwrap_or_default()
    }
}

/// What a credential is sealed for.
pub(super) fn place(credential: &Credential) -> String {
    format!("credentials/{}", credential.id)
}

/// A host's name or address, perhaps with a port, as addresses have it.
fn checked_host(given: &str) -> Result<String> {
    let host = given.trim().to_ascii_lowercase();
    let refused = || {
        let shown: String = given.chars().take(80).collect();
        Error::invalid(said!(
            "host-wrong",
            "`{shown}` is no host: give the name alone, perhaps with a port, for example `gitlab.example.org` or \
             `registry.example.org:5000`",
            shown = shown
        ))
        .about(Field::Host)
    };
    let plain =
        |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | ':' | '[' | ']' | '_');
    if host.is_empty() || host.len() > 255 || host.starts_with('-') || !host.chars().all(plain) {
        return Err(refused());
    }
    let parsed = url::Url::parse(&format!("https://{host}/")).map_err(|_| refused())?;
    parsed.host_str().filter(|name| host.starts_with(*name)).map(|_| host).ok_or_else(refused)
}

/// GitHub, GitLab and Gitea take a token with any name.
fn checked_username(given: Option<String>, kind: CredentialKind) -> Result<String> {
    let name = given.filter(|name| !name.is_empty()).unwrap_or_else(|| match kind {
        CredentialKind::Git => "oauth2".to_owned(),
        CredentialKind::Registry => String::new(),
    });
    if name.is_empty() {
        return Err(Error::invalid(said!(
            "registry-wants-username",
            "a registry asks for a `username` with its password or token: give it"
        ))
        .about(Field::Login));
    }
    if name.len() > 255 || name.chars().any(|letter| letter.is_control() || letter == ':') {
        return Err(Error::invalid(said!(
            "login-wrong",
            "`username` is longer than 255 bytes, or holds a colon or a control character"
        ))
        .about(Field::Login));
    }
    Ok(name)
}

fn check_secret(secret: &Secret, kind: CredentialKind) -> Result<()> {
    let text = secret.reveal();
    let key = text.trim_start().starts_with(KEY_HEAD);
    if text.trim().is_empty() || text.len() > LONGEST {
        return Err(Error::invalid(said!(
            "secret-length",
            "`secret` must have 1 to {most} bytes",
            most = LONGEST
        ))
        .about(Field::Secrets));
    }
    if key && kind == CredentialKind::Registry {
        return Err(Error::invalid(said!(
            "secret-is-key",
            "`secret` is a private key: a registry takes a password or token"
        ))
        .about(Field::Secrets));
    }
    if key && text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(Error::invalid(said!(
            "secret-has-passphrase",
            "`secret` is a private key with a passphrase: nobody could type it; make one without"
        ))
        .about(Field::Secrets));
    }
    if !key && text.chars().any(char::is_control) {
        return Err(Error::invalid(said!(
            "secret-has-control",
            "`secret` holds a line break or control character: give a token or password, or a private key in PEM"
        ))
        .about(Field::Secrets));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_taken_by_name_and_nothing_else_is() {
        for (given, kept) in [
            ("GitLab.example.org", "gitlab.example.org"),
            ("registry.example.org:5000", "registry.example.org:5000"),
            ("127.0.0.1:8443", "127.0.0.1:8443"),
            ("[::1]:22", "[::1]:22"),
        ] {
            assert_eq!(checked_host(given).unwrap(), kept);
        }
        for given in [
            "",
            "https://example.org",
            "a/b",
            "user@example.org",
            "-oProxyCommand=x",
            "a b",
            "ex\nample",
            "x:y",
        ] {
            assert!(checked_host(given).is_err(), "{given:?}");
        }
    }

    #[test]
    fn refusals_do_not_show_the_secret() {
        let key = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nhunter2";
        for (secret, kind) in [
            ("hunter2\nmore", CredentialKind::Git),
            (key, CredentialKind::Git),
            ("-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2", CredentialKind::Registry),
            (" ", CredentialKind::Registry),
        ] {
            let error = check_secret(&Secret::new(secret), kind).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(
            check_secret(&Secret::new("-----BEGIN OPENSSH PRIVATE KEY-----\nx"), CredentialKind::Git).is_ok()
        );
    }
}
