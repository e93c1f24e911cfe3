//! `marmot app access`, `share` and `key`: who may open an app.

use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::client::Client;
use super::commands::segment;
use super::output::{Output, line};
use super::render::{fields, harmless, table};
use crate::config::duration;
use crate::opening::OpenTo;

/// Who may open an app: shows it, or says it anew.
#[derive(Debug, Args)]
pub(super) struct Access {
    /// The app's name.
    name: String,
    /// To whom it is open besides the members of its project: project, everyone, link, signed_in, members or named.
    open_to: Option<OpenTo>,
    /// A person who may open it, where it is open to named ones; may be given more than once.
    #[arg(long = "user", value_name = "NAME", requires = "open_to")]
    users: Vec<String>,
    /// A group whose members may, by its path; may be given more than once.
    #[arg(long = "group", value_name = "PATH", requires = "open_to")]
    groups: Vec<String>,
}

const SHOWN: &[(&str, &str)] =
    &[("open to", "/open_to"), ("that is", "/effective"), ("people", "/users"), ("groups", "/groups")];

impl Access {
    pub(super) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let path = format!("/apps/{}/access", segment(&self.name));
        let shown = match self.open_to {
            None => client.get(&path).await?,
            Some(to) => {
                client.put(&path, json!({"open_to": to, "users": self.users, "groups": self.groups})).await?
            }
        };
        output.print(&shown, |shown| fields(shown, SHOWN))
    }
}

/// Links that open an app for whoever has them.
#[derive(Debug, Subcommand)]
pub(super) enum Share {
    /// List an app's links.
    List {
        /// The app's name.
        name: String,
    },
    /// Make a link, and print it: it is not shown again.
    Create {
        /// The app's name.
        name: String,
        #[command(flatten)]
        grant: Grant,
    },
    /// Revoke a link. Whoever came by it is out at once.
    Revoke {
        /// The app's name.
        name: String,
        /// The link's id.
        id: String,
    },
}

/// What links and keys have in common.
#[derive(Debug, Args)]
pub(super) struct Grant {
    /// What it is for.
    #[arg(long = "name", value_name = "TEXT")]
    label: String,
    /// For how long it works, such as `12h` or `720h`; until it is revoked when absent.
    #[arg(long, value_name = "DURATION", value_parser = read_duration)]
    expires_after: Option<Duration>,
}

fn read_duration(text: &str) -> Result<Duration, String> {
    let some = |duration: &Duration| !duration.is_zero();
    let read = duration(text).filter(some);
    read.ok_or_else(|| "it must be a duration like `90m`, `12h` or `720h`".to_owned())
}

impl Grant {
    fn body(self) -> Value {
        let expires_at = self.expires_after.map(|after| Timestamp::now() + after);
        json!({"name": self.label, "expires_at": expires_at})
    }
}

const LINKS: &[(&str, &str)] = &[
    ("ID", "/id"),
    ("NAME", "/name"),
    ("MADE BY", "/created_by"),
    ("UNTIL", "/expires_at"),
    ("OPENED", "/uses"),
    ("LAST USED", "/last_used_at"),
];

impl Share {
    pub(super) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let path = |name: &str| format!("/apps/{}/share_links", segment(name));
        match self {
            Self::List { name } => {
                output.print(&client.get(&path(&name)).await?, |found| table(found, LINKS))
            }
            Self::Create { name, grant } => {
                let made = client.post(&path(&name), Some(grant.body())).await?;
                output.print(&made, |made| harmless(made["url"].as_str().unwrap_or_default()))
            }
            Self::Revoke { name, id } => {
                client.delete(&format!("{}/{}", path(&name), segment(&id))).await?;
                line("Revoked.")
            }
        }
    }
}

/// Keys that programs show to an app.
#[derive(Debug, Subcommand)]
pub(super) enum Key {
    /// List an app's keys.
    List {
        /// The app's name.
        name: String,
    },
    /// Make a key, and print it: it is not shown again.
    Create {
        /// The app's name.
        name: String,
        #[command(flatten)]
        grant: Grant,
        /// The most requests within a minute.
        #[arg(long, value_name = "N")]
        per_minute: Option<u32>,
        /// The most requests at the same time.
        #[arg(long, value_name = "N")]
        at_once: Option<u32>,
    },
    /// Revoke a key. Whatever has it is out at once.
    Revoke {
        /// The app's name.
        name: String,
        /// The key's id.
        id: String,
    },
}

const KEYS: &[(&str, &str)] = &[
    ("ID", "/id"),
    ("NAME", "/name"),
    ("MADE BY", "/created_by"),
    ("UNTIL", "/expires_at"),
    ("PER MINUTE", "/requests_per_minute"),
    ("AT ONCE", "/requests_at_once"),
    ("USED", "/uses"),
    ("LAST USED", "/last_used_at"),
];

impl Key {
    pub(super) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let path = |name: &str| format!("/apps/{}/app_keys", segment(name));
        match self {
            Self::List { name } => output.print(&client.get(&path(&name)).await?, |found| table(found, KEYS)),
            Self::Create { name, grant, per_minute, at_once } => {
                let mut body = grant.body();
                body["requests_per_minute"] = json!(per_minute);
                body["requests_at_once"] = json!(at_once);
                let made = client.post(&path(&name), Some(body)).await?;
                output.print(&made, |made| harmless(made["key"].as_str().unwrap_or_default()))
            }
            Self::Revoke { name, id } => {
                client.delete(&format!("{}/{}", path(&name), segment(&id))).await?;
                line("Revoked.")
            }
        }
    }
}
