//! `marmot secret …` and `marmot credential …`: what apps and builds are given that nobody is ever shown.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::client::{Client, read_secret};
use super::commands::{find_launcher, find_project, id_of, segment};
use super::output::{Output, line};
use super::render::{fields, harmless, table};
use crate::model::Secret as Hidden;

const SECRET_COLUMNS: &[(&str, &str)] = &[("NAME", "/name"), ("FORM", "/form"), ("SET", "/updated_at")];
const CREDENTIAL_COLUMNS: &[(&str, &str)] =
    &[("ID", "/id"), ("FOR", "/kind"), ("HOST", "/host"), ("USERNAME", "/username"), ("SET", "/created_at")];

/// Whose secrets are meant.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Of {
    /// The secrets that all launchers of a project are given: `namespace/slug`, or an id.
    #[arg(long)]
    project: Option<String>,
    /// The secrets of one launcher: its id, or the name of its app.
    #[arg(long)]
    launcher: Option<String>,
}

impl Of {
    async fn path(&self, client: &Client) -> anyhow::Result<String> {
        match (&self.project, &self.launcher) {
            (Some(project), _) => {
                Ok(format!("/projects/{}/secrets", id_of(&find_project(client, project).await?)?))
            }
            (None, launcher) => {
                let launcher = find_launcher(client, launcher.as_deref().unwrap_or_default()).await?;
                Ok(format!("/session_launchers/{}/secrets", id_of(&launcher)?))
            }
        }
    }
}

/// `marmot secret …`
#[derive(Debug, Subcommand)]
pub(super) enum Secret {
    /// List secrets by name. Their values are shown to nobody.
    List {
        #[command(flatten)]
        of: Of,
    },
    /// Set a secret; its value is read from one line of the standard input, or from a file.
    Set {
        #[command(flatten)]
        of: Of,
        /// The name of its variable or file.
        name: String,
        /// Give it to the app as a file, in the directory that `MARMOT_SECRETS_DIR` names.
        #[arg(long)]
        as_file: bool,
        /// Read the value from this file, line breaks and all.
        #[arg(long, value_name = "FILE")]
        from_file: Option<std::path::PathBuf>,
    },
    /// Remove a secret.
    Remove {
        #[command(flatten)]
        of: Of,
        /// Its name.
        name: String,
    },
}

impl Secret {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<()> {
        let client = Client::remembered()?;
        match self {
            Self::List { of } => {
                let found = client.get(&of.path(&client).await?).await?;
                output.print(&found, |found| table(found, SECRET_COLUMNS))
            }
            Self::Set { of, name, as_file, from_file } => {
                let path = format!("{}/{}", of.path(&client).await?, segment(&name));
                let value = value("Value: ", from_file)?;
                let form = if as_file { "file" } else { "variable" };
                let body = json!({"value": value.reveal(), "form": form});
                let shown = [("secret", "/name"), ("form", "/form"), ("set", "/updated_at")];
                output.print(&client.put(&path, body).await?, |made| fields(made, &shown))
            }
            Self::Remove { of, name } => {
                client.delete(&format!("{}/{}", of.path(&client).await?, segment(&name))).await?;
                line(&format!("Removed the secret {}.", harmless(&name)))
            }
        }
    }
}

/// What a credential is for.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Kind {
    /// A host of code repositories.
    Git,
    /// A registry of container images.
    Registry,
}

/// `marmot credential …`
#[derive(Debug, Subcommand)]
pub(super) enum Credential {
    /// List what a project shows to the hosts of its repositories and images.
    List {
        /// `namespace/slug`, or an id.
        project: String,
    },
    /// Set what a project shows to a host: a token or password is read from one line of the standard input, a private
    /// key from a file.
    Set {
        /// `namespace/slug`, or an id.
        project: String,
        /// What it is for.
        #[arg(value_enum)]
        kind: Kind,
        /// The one host that is shown it, perhaps with a port.
        host: String,
        /// The name that goes with it.
        #[arg(long)]
        username: Option<String>,
        /// Read it from this file.
        #[arg(long, value_name = "FILE")]
        from_file: Option<std::path::PathBuf>,
    },
    /// Remove what a project shows to a host.
    Remove {
        /// `namespace/slug`, or an id.
        project: String,
        /// The credential's id.
        credential: String,
    },
}

impl Credential {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<()> {
        let client = Client::remembered()?;
        let path = async |project: &str| {
            anyhow::Ok(format!("/projects/{}/credentials", id_of(&find_project(&client, project).await?)?))
        };
        match self {
            Self::List { project } => {
                let found = client.get(&path(&project).await?).await?;
                output.print(&found, |found| table(found, CREDENTIAL_COLUMNS))
            }
            Self::Set { project, kind, host, username, from_file } => {
                let path = path(&project).await?;
                let kind = match kind {
                    Kind::Git => "git",
                    Kind::Registry => "registry",
                };
                let secret = value("Token, password or key: ", from_file)?;
                let body =
                    json!({"kind": kind, "host": host, "username": username, "secret": secret.reveal()});
                let shown =
                    [("credential", "/id"), ("for", "/kind"), ("host", "/host"), ("username", "/username")];
                output.print(&client.post(&path, Some(body)).await?, |made: &Value| fields(made, &shown))
            }
            Self::Remove { project, credential } => {
                client.delete(&format!("{}/{}", path(&project).await?, segment(&credential))).await?;
                line("Removed the credential.")
            }
        }
    }
}

/// A value that must not be on the command line, where others can see it.
fn value(prompt: &str, file: Option<std::path::PathBuf>) -> anyhow::Result<Hidden> {
    match file {
        None => read_secret(prompt),
        Some(path) => {
            use anyhow::Context as _;
            let text = std::fs::read_to_string(&path);
            Ok(Hidden::new(text.with_context(|| format!("cannot read `{}`", path.display()))?))
        }
    }
}
