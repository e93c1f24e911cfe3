//! `marmot preview …` and `marmot follow …`: apps of other branches, and how launchers learn of changes of theirs.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};

use super::client::Client;
use super::commands::{find_launcher, id_of, segment};
use super::output::{Output, line};
use super::render::{fields, table};
use crate::cli::Hinted;

const COLUMNS: &[(&str, &str)] = &[
    ("BRANCH", "/branch"),
    ("APP", "/app_name"),
    ("PHASE", "/phase"),
    ("URL", "/url"),
    ("ENDS", "/ends_at"),
    ("ID", "/id"),
];
const SHOWN: &[(&str, &str)] =
    &[("branch", "/branch"), ("app", "/app_name"), ("url", "/url"), ("ends", "/ends_at"), ("preview", "/id")];
const FOLLOWING: &[(&str, &str)] = &[
    ("looks every (minutes)", "/poll_minutes"),
    ("last looked", "/looked_at"),
    ("commit seen", "/commit"),
    ("error", "/error"),
    ("looks again", "/next_look_at"),
    ("previews of pull requests", "/pull_requests"),
    ("previews get secrets", "/secrets"),
    ("previews stay (days)", "/days"),
];

/// `marmot preview …`
#[derive(Debug, Subcommand)]
pub(super) enum Preview {
    /// List the previews of a launcher.
    List {
        /// The launcher's id, or the name of its app.
        launcher: String,
    },
    /// Make a preview of a branch: an app with an address of its own, and an end.
    Make {
        /// The launcher's id, or the name of its app.
        launcher: String,
        /// A branch of the launcher's repository.
        branch: String,
        /// How many days it stays, from 1 to 90.
        #[arg(long)]
        days: Option<u32>,
    },
    /// Let a preview stay for so many days from now.
    Prolong {
        /// The launcher's id, or the name of its app.
        launcher: String,
        /// The preview's branch, or its id.
        preview: String,
        /// How many days, from 1 to 90.
        #[arg(long)]
        days: Option<u32>,
    },
    /// End a preview: its app, its builds and all it has go.
    End {
        /// The launcher's id, or the name of its app.
        launcher: String,
        /// The preview's branch, or its id.
        preview: String,
    },
}

impl Preview {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<()> {
        let client = Client::remembered()?;
        match self {
            Self::List { launcher } => {
                let found = client.get(&path(&client, &launcher).await?).await?;
                output.print(&found, |found| table(found, COLUMNS))
            }
            Self::Make { launcher, branch, days } => {
                let body = json!({"branch": branch, "days": days});
                let made = client.post(&path(&client, &launcher).await?, Some(body)).await?;
                output.print(&made, |made| fields(made, SHOWN))
            }
            Self::Prolong { launcher, preview, days } => {
                let path = of(&client, &launcher, &preview).await?;
                let changed = client.patch(&path, json!({"days": days})).await?;
                output.print(&changed, |changed| fields(changed, SHOWN))
            }
            Self::End { launcher, preview } => {
                client.delete(&of(&client, &launcher, &preview).await?).await?;
                line("Ended the preview.")
            }
        }
    }
}

async fn path(client: &Client, launcher: &str) -> anyhow::Result<String> {
    Ok(format!("/session_launchers/{}/previews", id_of(&find_launcher(client, launcher).await?)?))
}

/// The path of a preview, by its branch or id.
async fn of(client: &Client, launcher: &str, preview: &str) -> anyhow::Result<String> {
    let path = path(client, launcher).await?;
    let found = client.get(&path).await?;
    let meant = |one: &&Value| one["branch"] == preview || one["id"] == preview;
    let one = found.as_array().into_iter().flatten().find(meant).ok_or_else(|| {
        Hinted::new(
            format!("the launcher has no preview of `{preview}`"),
            format!("`marmot preview list {launcher}` lists what there is"),
        )
    })?;
    Ok(format!("{path}/{}", segment(id_of(one)?)))
}

/// Whether something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    /// It is.
    On,
    /// It is not.
    Off,
}

/// `marmot follow …`: without an option, it only says how things are.
#[derive(Debug, Args)]
pub(super) struct Follow {
    /// The launcher's id, or the name of its app.
    launcher: String,
    /// Look at its branch every so many minutes, from 1 to 1440, and build anew what has moved; `0`: never.
    #[arg(long, value_name = "MINUTES")]
    every: Option<u32>,
    /// Let the pull requests that a webhook tells of make and end previews.
    #[arg(long, value_enum)]
    pull_requests: Option<Switch>,
    /// Give the secrets to previews, too. For owners of the project to allow.
    #[arg(long, value_enum)]
    secrets: Option<Switch>,
    /// How many days previews stay, from 1 to 90; `0`: as the server says.
    #[arg(long)]
    days: Option<u32>,
}

impl Follow {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<()> {
        let client = Client::remembered()?;
        let launcher = find_launcher(&client, &self.launcher).await?;
        let path = format!("/session_launchers/{}/following", id_of(&launcher)?);
        let mut change = Map::new();
        let number = |number: u32| if number == 0 { Value::Null } else { json!(number) };
        let mut say = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                change.insert(name.to_owned(), value);
            }
        };
        say("poll_minutes", self.every.map(number));
        say("days", self.days.map(number));
        say("pull_requests", self.pull_requests.map(|switch| json!(switch == Switch::On)));
        say("secrets", self.secrets.map(|switch| json!(switch == Switch::On)));
        let told = match change.is_empty() {
            true => client.get(&path).await?,
            false => client.patch(&path, Value::Object(change)).await?,
        };
        output.print(&told, |told| fields(told, FOLLOWING))
    }
}
