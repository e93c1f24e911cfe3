//! The commands that talk to a server: projects, launchers, builds, apps.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use futures_util::TryStreamExt as _;
use marmot_core::id::LauncherId;
use serde_json::{Map, Value, json};

use super::Hinted;
use super::client::Client;
use super::output::{Output, line};
use super::render::{fields, harmless, table};
use crate::model::BuilderVariant;

const PROJECT_COLUMNS: &[(&str, &str)] = &[
    ("NAMESPACE", "/namespace"),
    ("SLUG", "/slug"),
    ("NAME", "/name"),
    ("VISIBILITY", "/visibility"),
    ("ID", "/id"),
];
const LAUNCHER_COLUMNS: &[(&str, &str)] = &[
    ("NAME", "/name"),
    ("APP", "/app_name"),
    ("FROM", "/environment/environment_image_source"),
    ("ID", "/id"),
];
const BUILD_COLUMNS: &[(&str, &str)] =
    &[("ID", "/id"), ("STATUS", "/status"), ("CREATED", "/created_at"), ("REASON", "/error_reason")];
const APP_COLUMNS: &[(&str, &str)] = &[
    ("NAME", "/name"),
    ("PHASE", "/phase"),
    ("SESSIONS", "/sessions"),
    ("REPLICAS", "/replicas"),
    ("URL", "/url"),
];
const APP_FIELDS: &[(&str, &str)] = &[
    ("name", "/name"),
    ("title", "/title"),
    ("phase", "/phase"),
    ("depth", "/asleep_depth"),
    ("step", "/step"),
    ("reason", "/reason"),
    ("url", "/url"),
    ("built from", "/image"),
    ("sessions", "/sessions"),
    ("replicas", "/replicas"),
    ("started", "/started"),
];

/// `marmot project …`
#[derive(Debug, Subcommand)]
pub(super) enum Project {
    /// List the projects you may see.
    List {
        /// Only those of which you are a member.
        #[arg(long)]
        mine: bool,
    },
    /// Make a project.
    Create {
        /// What people call it.
        name: String,
        /// Whose it is: a group of which you are an owner or editor. Your own when absent.
        #[arg(long, value_name = "GROUP")]
        namespace: Option<String>,
        /// Everybody may see it.
        #[arg(long)]
        public: bool,
        /// What it is about.
        #[arg(long)]
        description: Option<String>,
        /// Address of a code repository; may be given more than once.
        #[arg(long = "repository", value_name = "URL")]
        repositories: Vec<String>,
    },
    /// Show a project.
    Show {
        /// `namespace/slug`, or an id.
        project: String,
    },
    /// What the apps and builds of a project may use together: shows it, or (for administrators) says it.
    Limits(Box<super::limits::Limits>),
    /// Delete a project with its launchers and apps.
    Delete {
        /// `namespace/slug`, or an id.
        project: String,
    },
}

impl Project {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<()> {
        let client = Client::remembered()?;
        match self {
            Self::List { mine } => {
                let path = if mine { "/projects?direct_member=true" } else { "/projects" };
                output.print(&client.all(path).await?, |found| table(found, PROJECT_COLUMNS))
            }
            Self::Create { name, namespace, public, description, repositories } => {
                let visibility = if public { "public" } else { "private" };
                let new = json!({
                    "name": name,
                    "namespace": namespace,
                    "visibility": visibility,
                    "description": description,
                    "repositories": repositories,
                });
                output.print(&client.post("/projects", Some(new)).await?, show_project)
            }
            Self::Show { project } => output.print(&find_project(&client, &project).await?, show_project),
            Self::Limits(limits) => limits.run(&client, output).await,
            Self::Delete { project } => {
                let found = find_project(&client, &project).await?;
                client.delete(&format!("/projects/{}", id_of(&found)?)).await?;
                line(&format!("Deleted {project}."))
            }
        }
    }
}

fn show_project(project: &Value) -> String {
    let shown = [
        ("project", "/slug"),
        ("namespace", "/namespace"),
        ("name", "/name"),
        ("visibility", "/visibility"),
        ("description", "/description"),
        ("repositories", "/repositories"),
        ("id", "/id"),
    ];
    fields(project, &shown)
}

pub(super) fn id_of(answer: &Value) -> anyhow::Result<&str> {
    answer["id"].as_str().context("the server's answer has no id")
}

/// One segment of a path.
pub(super) fn segment(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

pub(super) async fn find_project(client: &Client, project: &str) -> anyhow::Result<Value> {
    match project.split_once('/') {
        Some((namespace, slug)) => {
            client.get(&format!("/namespaces/{}/projects/{}", segment(namespace), segment(slug))).await
        }
        None => client.get(&format!("/projects/{}", segment(project))).await,
    }
}

/// The launcher with this id, or whose app has this name.
pub(super) async fn find_launcher(client: &Client, launcher: &str) -> anyhow::Result<Value> {
    if launcher.parse::<LauncherId>().is_ok() {
        return client.get(&format!("/session_launchers/{}", segment(launcher))).await;
    }
    let all = client.all("/session_launchers").await?;
    let found = all.as_array().into_iter().flatten().find(|one| one["app_name"] == launcher);
    found.cloned().ok_or_else(|| {
        let hint =
            "`marmot launcher list PROJECT` shows the launchers of a project and the names of their apps";
        Hinted::new(format!("there is no launcher `{}`", harmless(launcher)), hint).into()
    })
}

/// `marmot launcher …`
#[derive(Debug, Subcommand)]
pub(super) enum Launcher {
    /// List the launchers of a project.
    List {
        /// `namespace/slug`, or an id.
        project: String,
    },
    /// Make a launcher for an app.
    Create(Box<NewLauncher>),
    /// Delete a launcher, and shut its app down.
    Delete {
        /// The launcher's id, or the name of its app.
        launcher: String,
    },
}

/// A launcher to be made.
#[derive(Debug, Args)]
pub(super) struct NewLauncher {
    /// `namespace/slug`, or an id.
    project: String,
    /// What people call it.
    name: String,
    /// Build it from this repository.
    #[arg(long, value_name = "URL", required_unless_present = "image", conflicts_with = "image")]
    repository: Option<String>,
    /// Branch, tag or commit.
    #[arg(long, conflicts_with = "image")]
    revision: Option<String>,
    /// The app's directory in the repository.
    #[arg(long, value_name = "DIR", conflicts_with = "image")]
    context_dir: Option<String>,
    /// How to build it: auto, python, r, node, static, dockerfile or buildpacks.
    #[arg(long, conflicts_with = "image")]
    builder: Option<String>,
    /// Make a container image of what is built, and run that.
    #[arg(long, conflicts_with = "image")]
    as_image: bool,
    /// Run this container image.
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// The port it listens on. Of an image, the one it exposes when absent.
    #[arg(long)]
    port: Option<u16>,
    /// The user that the image is run as, by number: UID or UID:GID.
    #[arg(long, value_name = "UID[:GID]", conflicts_with = "repository")]
    user: Option<String>,
    /// An argument for the image's entry point, in the place of its own; may be given more than once.
    #[arg(long = "arg", value_name = "ARGUMENT", conflicts_with = "repository", allow_hyphen_values = true)]
    args: Vec<String>,
    /// A variable, as NAME=VALUE; may be given more than once.
    #[arg(long = "env", value_name = "NAME=VALUE")]
    variables: Vec<String>,
    /// What its replicas may use.
    #[arg(long, value_name = "ID")]
    resource_class: Option<i64>,
    /// What its replicas may reach: none, internet or allow-list.
    #[arg(long, value_name = "WHAT")]
    outbound: Option<String>,
    /// An address or network over IPv4, perhaps with a port, that its replicas may reach, and nothing that is not listed;
    /// may be given more than once.
    #[arg(long, value_name = "ADDRESS")]
    allow: Vec<String>,
    /// The command that starts it, after `--`.
    #[arg(last = true)]
    command: Vec<String>,
}

/// `UID` or `UID:GID`.
fn user_and_group(text: &str) -> anyhow::Result<(u32, Option<u32>)> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let number = |text: &str| {
        text.parse::<u32>().map_err(|_| {
            let given: String = text.chars().take(40).collect();
            Hinted::new(
                format!("`{given}` is no id of a user or group"),
                "give it as `--user 1000` or `--user 1000:100`",
            )
        })
    };
    Ok((number(user)?, group.map(number).transpose()?))
}

impl NewLauncher {
    fn body(self, project_id: &str) -> anyhow::Result<Value> {
        let mut environment = Map::new();
        let mut set = |field: &str, value: Option<Value>| {
            if let Some(value) = value {
                environment.insert(field.to_owned(), value);
            }
        };
        let source = if self.image.is_some() { "image" } else { "build" };
        set("environment_image_source", Some(json!(source)));
        set("repository", self.repository.map(Value::from));
        set("repository_revision", self.revision.map(Value::from));
        set("context_dir", self.context_dir.map(Value::from));
        set("builder_variant", self.builder.map(Value::from));
        set("as_image", self.as_image.then(|| true.into()));
        set("container_image", self.image.map(Value::from));
        set("port", self.port.map(Value::from));
        set("args", Some(self.args).filter(|args| !args.is_empty()).map(Value::from));
        if let Some(user) = &self.user {
            let (uid, gid) = user_and_group(user)?;
            set("uid", Some(uid.into()));
            set("gid", gid.map(Value::from));
        }
        set("command", Some(self.command).filter(|command| !command.is_empty()).map(Value::from));
        let variables = self.variables.iter().map(|pair| {
            let (name, value) = pair
                .split_once('=')
                .ok_or_else(|| Hinted::new("a variable has no value", "give it as `--env NAME=VALUE`"))?;
            Ok(json!({"name": name, "value": value}))
        });
        let variables = variables.collect::<anyhow::Result<Vec<_>>>()?;
        let mut body = json!({
            "project_id": project_id, "name": self.name, "launcher_type": "app",
            "env_variables": variables, "environment": environment,
        });
        if let Some(class) = self.resource_class {
            body["resource_class_id"] = class.into();
        }
        let listed = (!self.allow.is_empty()).then(|| "allow-list".to_owned());
        if let Some(outbound) = self.outbound.or(listed) {
            body["network"] = json!({"outbound": outbound, "allow": self.allow});
        }
        Ok(body)
    }
}

impl Launcher {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<()> {
        let client = Client::remembered()?;
        match self {
            Self::List { project } => {
                let project = find_project(&client, &project).await?;
                let found = client.all(&format!("/projects/{}/session_launchers", id_of(&project)?)).await?;
                output.print(&found, |found| table(found, LAUNCHER_COLUMNS))
            }
            Self::Create(new) => {
                let project = find_project(&client, &new.project).await?;
                let body = new.body(id_of(&project)?)?;
                let made = client.post("/session_launchers", Some(body)).await?;
                let shown = [
                    ("launcher", "/id"),
                    ("name", "/name"),
                    ("app", "/app_name"),
                    ("url", "/url"),
                    ("environment", "/environment/id"),
                ];
                output.print(&made, |made| fields(made, &shown))
            }
            Self::Delete { launcher } => {
                let found = find_launcher(&client, &launcher).await?;
                client.delete(&format!("/session_launchers/{}", id_of(&found)?)).await?;
                line(&format!("Deleted {launcher}."))
            }
        }
    }
}

/// `marmot build --plan PATH`, or `marmot build …`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub(super) struct BuildOrPlan {
    /// Say what a build would do with the code in this directory, and why. Nothing is built, no server is asked.
    #[arg(long, value_name = "PATH")]
    plan: Option<PathBuf>,
    /// Look for nothing but this.
    #[arg(long, value_name = "BUILDER", requires = "plan", default_value = "auto",
        value_parser = clap::builder::PossibleValuesParser::new(BuilderVariant::WORDS))]
    builder: String,
    #[command(subcommand)]
    command: Option<Build>,
}

impl BuildOrPlan {
    pub(super) fn run(self, output: Output) -> anyhow::Result<()> {
        match (self.plan, self.command) {
            (Some(path), _) => {
                let builder: BuilderVariant = self.builder.parse()?;
                super::plan::run(&path, crate::service::engine_builder(builder), output)
            }
            (None, Some(command)) => super::wait(command.run(output)),
            (None, None) => Err(Hinted::new("nothing to do", "see `marmot build --help`").into()),
        }
    }
}

/// `marmot build …`
#[derive(Debug, Subcommand)]
pub(super) enum Build {
    /// List the builds of a launcher, newest first.
    List {
        /// The launcher's id, or the name of its app.
        launcher: String,
    },
    /// Build a launcher's code anew. An active app goes on with the result.
    Start {
        /// The launcher's id, or the name of its app.
        launcher: String,
    },
    /// Show a build.
    Show {
        /// The build's id.
        build: String,
    },
    /// Call a build off.
    Cancel {
        /// The build's id.
        build: String,
    },
    /// Print the log of a build.
    Logs {
        /// The build's id.
        build: String,
        /// Go on until the build has ended; fails when the build fails.
        #[arg(long, short)]
        follow: bool,
    },
}

impl Build {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<()> {
        let client = Client::remembered()?;
        let shown = [
            ("build", "/id"),
            ("status", "/status"),
            ("step", "/step"),
            ("reason", "/error_reason"),
            ("commit", "/result/repository_git_commit_sha"),
            ("command", "/result/command"),
            ("summary", "/result/summary"),
            ("image", "/result/image"),
        ];
        let show = |build: &Value| fields(build, &shown);
        match self {
            Self::List { launcher } => {
                let path = builds_of(&client, &launcher).await?;
                output.print(&client.all(&path).await?, |found| table(found, BUILD_COLUMNS))
            }
            Self::Start { launcher } => {
                let path = builds_of(&client, &launcher).await?;
                output.print(&client.post(&path, None).await?, show)
            }
            Self::Show { build } => {
                output.print(&client.get(&format!("/builds/{}", segment(&build))).await?, show)
            }
            Self::Cancel { build } => {
                let path = format!("/builds/{}", segment(&build));
                output.print(&client.patch(&path, json!({"status": "cancelled"})).await?, show)
            }
            Self::Logs { build, follow } => {
                let path = format!("/builds/{}", segment(&build));
                if !follow {
                    return print_logs(&client.get(&format!("{path}/logs")).await?);
                }
                print_events(&client, &format!("{path}/logs?follow=true")).await?;
                let build = client.get(&path).await?;
                match build["status"].as_str() {
                    Some("failed" | "cancelled") => {
                        let reason = build["error_reason"].as_str().unwrap_or_default();
                        Err(anyhow::anyhow!("the build did not succeed: {}", harmless(reason)))
                    }
                    _ => Ok(()),
                }
            }
        }
    }
}

/// The path of a launcher's builds.
async fn builds_of(client: &Client, launcher: &str) -> anyhow::Result<String> {
    let launcher = find_launcher(client, launcher).await?;
    let environment = launcher.pointer("/environment/id").and_then(Value::as_str);
    Ok(format!("/environments/{}/builds", environment.context("the launcher has no environment")?))
}

/// Prints lines by source; the source is named where there are more than one.
fn print_logs(logs: &Value) -> anyhow::Result<()> {
    let logs = logs.as_object().context("the server gave no logs")?;
    for (source, lines) in logs {
        if logs.len() > 1 {
            line(&format!("==> {} <==", harmless(source)))?;
        }
        for text in lines.as_str().unwrap_or_default().lines() {
            line(&harmless(text))?;
        }
    }
    Ok(())
}

async fn print_events(client: &Client, path: &str) -> anyhow::Result<()> {
    let mut events = std::pin::pin!(client.events(path).await?);
    while let Some((name, data)) = events.try_next().await? {
        match name.as_str() {
            "line" => line(&harmless(data["line"].as_str().unwrap_or_default()))?,
            "end" => break,
            _ => {}
        }
    }
    Ok(())
}

/// `marmot app …`
#[derive(Debug, Subcommand)]
pub(super) enum App {
    /// List the apps that are on.
    List {
        /// Only those of this project: `namespace/slug`, or an id.
        #[arg(long)]
        project: Option<String>,
    },
    /// Switch an app on.
    Activate {
        /// The launcher's id, or the name of its app.
        launcher: String,
    },
    /// Show an app.
    Show {
        /// The app's name.
        name: String,
    },
    /// Print an app's address, and open it in a browser where there is one.
    Open {
        /// The app's name.
        name: String,
    },
    /// Print an app's logs.
    Logs {
        /// The app's name.
        name: String,
        /// Go on with new lines.
        #[arg(long, short)]
        follow: bool,
        /// How many of the last lines.
        #[arg(long, value_name = "LINES", default_value_t = 250)]
        max_lines: u32,
    },
    /// Print what happened to an app, newest first.
    Events {
        /// The app's name.
        name: String,
    },
    /// Show what an app was used for, what it took, and what sleeping saved.
    Usage(super::usage::Usage),
    /// Show how an app scales, or say it: each option changes one thing, the others stay.
    Scaling(Box<super::scaling::Scaling>),
    /// Show who may open an app, or say it.
    Access(super::opening::Access),
    /// Links that open an app for whoever has them.
    #[command(subcommand)]
    Share(super::opening::Share),
    /// Keys that programs show to an app.
    #[command(subcommand)]
    Key(super::opening::Key),
    /// Wake an app, or try one again that failed.
    Wake {
        /// The app's name.
        name: String,
    },
    /// Start an app afresh beside itself: new replicas take over from those that serve, and nobody is cut off.
    Restart {
        /// The app's name.
        name: String,
    },
    /// Put an app to rest without waiting for it to be idle.
    Rest {
        /// The app's name.
        name: String,
    },
    /// Switch an app off.
    ShutDown {
        /// The app's name.
        name: String,
    },
}

impl App {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<()> {
        let client = Client::remembered()?;
        let show = |app: &Value| fields(app, APP_FIELDS);
        let app = |name: &str| format!("/apps/{}", segment(name));
        match self {
            Self::List { project } => {
                let path = match project {
                    Some(project) => {
                        format!("/apps?project_id={}", id_of(&find_project(&client, &project).await?)?)
                    }
                    None => "/apps".to_owned(),
                };
                output.print(&client.all(&path).await?, |found| table(found, APP_COLUMNS))
            }
            Self::Activate { launcher } => {
                let launcher = find_launcher(&client, &launcher).await?;
                let body = json!({"launcher_id": id_of(&launcher)?});
                output.print(&client.post("/apps", Some(body)).await?, show)
            }
            Self::Show { name } => output.print(&client.get(&app(&name)).await?, show),
            Self::Open { name } => {
                let found = client.get(&app(&name)).await?;
                let url = found["url"].as_str().context("the server gave no address")?;
                line(&harmless(url))?;
                open(url);
                Ok(())
            }
            Self::Logs { name, follow, max_lines } => {
                let path = format!("{}/logs?max_lines={max_lines}", app(&name));
                if follow {
                    return print_events(&client, &format!("{path}&follow=true")).await;
                }
                print_logs(&client.get(&path).await?)
            }
            Self::Events { name } => {
                let columns = [("AT", "/at"), ("KIND", "/kind"), ("BY", "/by"), ("MESSAGE", "/message")];
                let found = client.all(&format!("{}/events", app(&name))).await?;
                output.print(&found, |found| table(found, &columns))
            }
            Self::Usage(usage) => usage.run(&client, output).await,
            Self::Scaling(scaling) => scaling.run(&client, output).await,
            Self::Access(access) => access.run(&client, output).await,
            Self::Share(share) => share.run(&client, output).await,
            Self::Key(key) => key.run(&client, output).await,
            Self::Wake { name } => {
                output.print(&client.patch(&app(&name), json!({"state": "running"})).await?, show)
            }
            Self::Restart { name } => {
                output.print(&client.post(&format!("{}/restart", app(&name)), None).await?, show)
            }
            Self::Rest { name } => {
                output.print(&client.patch(&app(&name), json!({"state": "hibernated"})).await?, show)
            }
            Self::ShutDown { name } => {
                client.delete(&app(&name)).await?;
                line(&format!("{} is off.", harmless(&name)))
            }
        }
    }
}

/// Opens an address in a browser, where there is a screen.
fn open(url: &str) {
    let screen = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());
    let program = match std::env::consts::OS {
        "macos" => "open",
        _ if screen => "xdg-open",
        _ => return,
    };
    // The address is printed already: a missing program is no loss. It goes on by itself.
    let quiet = std::process::Stdio::null;
    let _ =
        std::process::Command::new(program).arg(url).stdin(quiet()).stdout(quiet()).stderr(quiet()).spawn();
}

#[cfg(test)]
mod tests;
