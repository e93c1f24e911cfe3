//! Managing people on the data directory: for operators, who need no account for it.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use marmot_core::name::Namespace;
use marmot_core::{Clock, Moment};
use marmot_engine::Observed;
use marmot_engine::logs::Logs;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::client::read_secret;
use super::output::{Output, line};
use super::render::table;
use crate::config::Flags;
use crate::db::Db;
use crate::model::{User, Via};
use crate::service::{Call, Demands, Identity, Live, NewToken, NewUser, Service, UserPatch};

/// Arguments of `marmot admin`.
#[derive(Debug, Args)]
pub(super) struct Admin {
    #[command(subcommand)]
    command: Command,
    /// The server's data directory.
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<PathBuf>,
    /// The server's settings.
    #[arg(long, value_name = "FILE", global = true, env = "MARMOT_CONFIG", hide_env = true)]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make an account. Without a password, only tokens let this person in.
    CreateUser {
        /// The name to sign in with.
        name: Namespace,
        /// This person runs the installation.
        #[arg(long)]
        admin: bool,
        /// Read the password from one line of the standard input.
        #[arg(long)]
        password_stdin: bool,
        /// The address to reach this person at.
        #[arg(long)]
        email: Option<String>,
    },
    /// Set a password, read from one line of the standard input; ends the person's sessions.
    SetPassword {
        /// The person.
        name: Namespace,
    },
    /// Make an API token; it is printed alone on the last line.
    CreateToken {
        /// Whose token.
        name: Namespace,
        /// What it is for.
        #[arg(long, default_value = "made by an operator")]
        label: String,
        /// After how many days it stops working; never when absent.
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=3650))]
        expires_in_days: Option<u32>,
    },
    /// List everybody with an account.
    ListUsers,
    /// Seal every secret with the newest master key; the older ones are not needed afterwards.
    RotateSecrets,
    /// Sign who visitors of apps are with a new key, at once; the older ones stay published while their tokens live.
    RotateIdentityKeys,
    /// Print a link by which a person sets a password, once, within a day.
    PasswordLink {
        /// The person.
        name: Namespace,
    },
    /// Keep a person out: ends sessions and tokens.
    Disable {
        /// The person.
        name: Namespace,
    },
    /// Let a person in again.
    Enable {
        /// The person.
        name: Namespace,
    },
    /// Let a person run the installation, or no longer.
    MakeAdmin {
        /// The person.
        name: Namespace,
        /// No longer.
        #[arg(long)]
        not: bool,
    },
    /// Delete a person's account, and what is known of the person.
    DeleteUser {
        /// The person.
        name: Namespace,
    },
}

impl Admin {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<()> {
        Call::new(Via::Cli, None, "").accompany(self.work(output)).await
    }

    async fn work(self, output: Output) -> anyhow::Result<()> {
        if let Command::RotateIdentityKeys = self.command {
            crate::identity_keys::replace_at_once(&data_dir(self.config, self.data_dir)?)?;
            return line("A new key signs who visitors are, within seconds where a server runs.");
        }
        let service = service(self.config, self.data_dir).await?;
        match self.command {
            Command::CreateUser { name, admin, password_stdin, email } => {
                let password = if password_stdin { Some(read_secret("Password: ")?) } else { None };
                let new = NewUser {
                    username: name,
                    password,
                    is_admin: admin,
                    email,
                    first_name: None,
                    last_name: None,
                };
                let user = service.create_user(new).await?;
                line(&format!("Made the user {}.", user.username))
            }
            Command::SetPassword { name } => {
                service.set_password(&name, &read_secret("Password: ")?).await?;
                line(&format!("Set the password of {name}."))
            }
            Command::CreateToken { name, label, expires_in_days } => {
                let user = service.user_by_name(&name).await?;
                let day = jiff::SignedDuration::from_hours(24);
                let expires =
                    expires_in_days.map(|days| Timestamp::now() + day * i32::try_from(days).unwrap_or(1));
                let new = NewToken { expires_at: expires, ..NewToken::unlimited(&label) };
                let (_, token) = service.create_token(&Identity::User(user), new).await?;
                line(token.reveal())
            }
            Command::RotateSecrets => {
                let count = service.reseal().await?;
                line(&format!("Sealed {count} values with the newest key; the older keys can go."))
            }
            Command::RotateIdentityKeys => Ok(()),
            Command::ListUsers => list(&service, output).await,
            Command::PasswordLink { name } => {
                let link = service.password_link_by_operator(&name).await?;
                line(link.url.reveal())
            }
            Command::Disable { name } => {
                let patch = UserPatch { disabled: Some(true), ..UserPatch::default() };
                change(&service, &name, patch).await?;
                line(&format!("{name} cannot sign in any more; sessions and tokens have ended."))
            }
            Command::Enable { name } => {
                let patch = UserPatch { disabled: Some(false), ..UserPatch::default() };
                change(&service, &name, patch).await?;
                line(&format!("{name} can sign in again."))
            }
            Command::MakeAdmin { name, not } => {
                change(&service, &name, UserPatch { is_admin: Some(!not), ..UserPatch::default() }).await?;
                line(&format!("{name} {} this installation.", if not { "no longer runs" } else { "runs" }))
            }
            Command::DeleteUser { name } => {
                let user = service.user_by_name(&name).await?;
                service.delete_person_by_operator(user.id).await?;
                line(&format!("Deleted the account of {name}."))
            }
        }
    }
}

async fn change(service: &Service, name: &Namespace, patch: UserPatch) -> anyhow::Result<()> {
    let user = service.user_by_name(name).await?;
    service.change_person_by_operator(user.id, patch).await?;
    Ok(())
}

async fn list(service: &Service, output: Output) -> anyhow::Result<()> {
    let users = service.users().await?;
    let row = |user: &User| {
        json!({
            "username": user.username.as_str(),
            "is_admin": user.is_admin,
            "disabled": user.disabled_at.is_some(),
            "email": user.email,
        })
    };
    let users: Vec<_> = users.iter().map(row).collect();
    let columns =
        [("USERNAME", "/username"), ("ADMIN", "/is_admin"), ("DISABLED", "/disabled"), ("EMAIL", "/email")];
    output.print(&Value::Array(users), |users| table(users, &columns))
}

/// The data directory that is meant.
pub(super) fn data_dir(config: Option<PathBuf>, data_dir: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let mut flags = Flags::with_config(config);
    if let Some(dir) = data_dir {
        flags = flags.or("data_dir", dir.to_string_lossy());
    }
    Ok(flags.resolve()?.0.data_dir()?)
}

/// The service on the data directory, beside a server or without one: nothing is observed.
async fn service(config: Option<PathBuf>, data_dir: Option<PathBuf>) -> anyhow::Result<Service> {
    let mut flags = Flags::with_config(config);
    if let Some(dir) = data_dir {
        flags = flags.or("data_dir", dir.to_string_lossy());
    }
    let (settings, _) = flags.resolve()?;
    let data_dir = settings.data_dir()?;
    let db = Db::open(settings.database_url.as_ref().map(|url| url.reveal()), &data_dir).await?;
    let (_, observed) = watch::channel(Arc::new(Observed::default()));
    let clock = Clock::new(|| Moment::START);
    let vault = settings.vault(&data_dir)?;
    let live = Live {
        observed,
        demands: Demands::new(clock.clone()),
        clock,
        logs: Logs::new(&data_dir),
        storage: marmot_engine::Storage::new(data_dir),
        planner: None,
    };
    Ok(Service::new(db, live, settings.options(settings.listen), vault))
}
