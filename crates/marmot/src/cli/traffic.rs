//! `marmot app traffic` and `requests`: how requests to an app are treated, and the last of them.

use clap::Args;
use serde_json::{Value, json};

use super::client::Client;
use super::commands::segment;
use super::output::Output;
use super::render::{fields, table};
use crate::config::bytes;

/// How requests to an app are treated: shows it, or changes what is given.
#[derive(Debug, Args)]
pub(super) struct Traffic {
    /// The app's name.
    name: String,
    /// What the body of a request may have, like `10M`; more is refused. `default`: what the server allows.
    #[arg(long, value_name = "SIZE", value_parser = read_size)]
    body_limit: Option<Value>,
    /// Whether the last requests are written down (`marmot app requests`).
    #[arg(long, value_name = "BOOL")]
    log_requests: Option<bool>,
    /// Whether the app's port speaks HTTP/2 in plain text.
    #[arg(long, value_name = "BOOL")]
    http2: Option<bool>,
}

fn read_size(text: &str) -> Result<Value, String> {
    if text == "default" {
        return Ok(Value::Null);
    }
    bytes(text)
        .map(Value::from)
        .ok_or_else(|| "it must be a size like `512K` or `10M`, or `default`".to_owned())
}

const SHOWN: &[(&str, &str)] = &[
    ("body limit, bytes", "/body_limit_bytes"),
    ("requests are logged", "/given/log_requests"),
    ("port speaks HTTP/2", "/given/http2"),
];

impl Traffic {
    pub(super) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let path = format!("/apps/{}/traffic", segment(&self.name));
        let mut shown = client.get(&path).await?;
        let mut given = shown["given"].clone();
        let said = [
            ("body_limit_bytes", self.body_limit),
            ("log_requests", self.log_requests.map(Value::from)),
            ("http2", self.http2.map(Value::from)),
        ];
        for (name, value) in said {
            if let Some(value) = value {
                given[name] = value;
            }
        }
        if given != shown["given"] {
            shown = client.put(&path, json!(given)).await?;
        }
        output.print(&shown, |shown| fields(shown, SHOWN))
    }
}

/// The last requests to an app, the newest first, where they are written down.
#[derive(Debug, Args)]
pub(super) struct Requests {
    /// The app's name.
    name: String,
}

const REQUESTS: &[(&str, &str)] = &[
    ("AT", "/at"),
    ("CLIENT", "/client"),
    ("METHOD", "/method"),
    ("PATH", "/path"),
    ("STATUS", "/status"),
    ("MS", "/milliseconds"),
    ("REQUEST ID", "/request_id"),
];

impl Requests {
    pub(super) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let found = client.get(&format!("/apps/{}/requests", segment(&self.name))).await?;
        output.print(&found, |found| table(found, REQUESTS))
    }
}
