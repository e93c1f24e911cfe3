//! `marmot group`: people who own a namespace together.

use clap::Subcommand;
use serde_json::json;

use super::client::Client;
use super::commands::segment;
use super::output::{Output, line};
use super::render::{fields, table};
use crate::model::Role;

/// `marmot group …`
#[derive(Debug, Subcommand)]
pub(super) enum Group {
    /// List the groups that you are a member of.
    List {
        /// All there are.
        #[arg(long)]
        all: bool,
    },
    /// Make a group, of which you become the owner.
    Create {
        /// The namespace that it owns: projects in it are `PATH/SLUG`.
        path: String,
        /// What people call it.
        name: String,
        /// What it is about.
        #[arg(long)]
        description: Option<String>,
    },
    /// Show a group.
    Show {
        /// Its path.
        path: String,
    },
    /// List the members of a group, with their roles.
    Members {
        /// Its path.
        path: String,
    },
    /// Give a person a role in a group: viewer, editor or owner.
    Add {
        /// The group's path.
        path: String,
        /// The person.
        username: String,
        /// What the person may do in each of the group's projects.
        #[arg(default_value = "viewer")]
        role: Role,
    },
    /// Take a person's role in a group away.
    Remove {
        /// The group's path.
        path: String,
        /// The person.
        username: String,
    },
    /// Delete a group that has no projects.
    Delete {
        /// Its path.
        path: String,
    },
}

const GROUPS: &[(&str, &str)] = &[("PATH", "/slug"), ("NAME", "/name"), ("ID", "/id")];
const SHOWN: &[(&str, &str)] = &[
    ("path", "/slug"),
    ("name", "/name"),
    ("description", "/description"),
    ("made", "/creation_date"),
    ("id", "/id"),
];
const MEMBERS: &[(&str, &str)] = &[("USERNAME", "/username"), ("ROLE", "/role")];

impl Group {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<()> {
        let client = Client::remembered()?;
        let at = |path: &str| format!("/groups/{}", segment(path));
        let members = |path: &str| format!("{}/members", at(path));
        match self {
            Self::List { all } => {
                let path = if all { "/groups" } else { "/groups?direct_member=true" };
                output.print(&client.all(path).await?, |found| table(found, GROUPS))
            }
            Self::Create { path, name, description } => {
                let new = json!({"slug": path, "name": name, "description": description});
                output.print(&client.post("/groups", Some(new)).await?, |group| fields(group, SHOWN))
            }
            Self::Show { path } => output.print(&client.get(&at(&path)).await?, |group| fields(group, SHOWN)),
            Self::Members { path } => {
                output.print(&client.get(&members(&path)).await?, |found| table(found, MEMBERS))
            }
            Self::Add { path, username, role } => {
                let change = json!([{"username": username, "role": role}]);
                output.print(&client.patch(&members(&path), change).await?, |found| table(found, MEMBERS))
            }
            Self::Remove { path, username } => {
                let change = json!([{"username": username, "role": null}]);
                output.print(&client.patch(&members(&path), change).await?, |found| table(found, MEMBERS))
            }
            Self::Delete { path } => {
                client.delete(&at(&path)).await?;
                line(&format!("Deleted {path}."))
            }
        }
    }
}
