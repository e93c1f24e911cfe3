//! `marmot project limits`: what the apps and builds of a project may use together.

use clap::Args;
use serde_json::{Map, Value, json};

use super::Hinted;
use super::client::Client;
use super::commands::{find_project, id_of};
use super::output::Output;
use super::render::table;
use crate::config::bytes;

/// What the apps and builds of a project may use together: shows it, or (for administrators) says it.
#[derive(Debug, Args)]
pub(super) struct Limits {
    /// `namespace/slug`, or an id.
    project: String,
    /// Memory of all replicas that are awake, by what each may use, like `4G`; `default` for what the installation says.
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// What results of builds, and homes and logs of apps, may take on disk, like `20G`; or `default`.
    #[arg(long, value_name = "SIZE")]
    storage: Option<String>,
    /// Builds at the same time; or `default`.
    #[arg(long, value_name = "N")]
    builds_at_once: Option<String>,
    /// Builds that are begun within an hour; or `default`.
    #[arg(long, value_name = "N")]
    builds_per_hour: Option<String>,
    /// Awake replicas beyond the first of each app; or `default`.
    #[arg(long, value_name = "N")]
    replicas: Option<String>,
    /// Requests a second to all of its apps; or `default`.
    #[arg(long, value_name = "N")]
    requests_per_second: Option<String>,
    /// Requests to all of its apps at the same time; or `default`.
    #[arg(long, value_name = "N")]
    requests_at_once: Option<String>,
}

const COLUMNS: &[(&str, &str)] =
    &[("LIMIT", "/limit"), ("ALLOWED", "/allowed"), ("USED", "/used"), ("SAID FOR", "/own")];

impl Limits {
    pub(super) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let project = find_project(client, &self.project).await?;
        let path = format!("/projects/{}/limits", id_of(&project)?);
        let change = self.change()?;
        let limits = match change.is_empty() {
            true => client.get(&path).await?,
            false => client.patch(&path, Value::Object(change)).await?,
        };
        output.print(&limits, |limits| table(&rows(limits), COLUMNS))
    }

    fn change(&self) -> anyhow::Result<Map<String, Value>> {
        let mut change = Map::new();
        let given = [
            ("memory_bytes", &self.memory),
            ("storage_bytes", &self.storage),
            ("builds_at_once", &self.builds_at_once),
            ("builds_per_hour", &self.builds_per_hour),
            ("replicas", &self.replicas),
            ("requests_per_second", &self.requests_per_second),
            ("requests_at_once", &self.requests_at_once),
        ];
        for (name, text) in given {
            let Some(text) = text else { continue };
            let number = match text.as_str() {
                "default" => None,
                text if name.ends_with("_bytes") => Some(bytes(text).ok_or_else(|| {
                    Hinted::new(
                        format!("`{text}` is no size"),
                        "give it like `512M` or `4G`, or say `default`",
                    )
                })?),
                text => Some(text.parse().map_err(|_| {
                    Hinted::new(format!("`{text}` is no number"), "give one like `20`, or say `default`")
                })?),
            };
            change.insert(name.to_owned(), json!(number));
        }
        Ok(change)
    }
}

/// The limits as a list, sizes as people read them.
fn rows(limits: &Value) -> Value {
    let row = |(name, limit): (&String, &Value)| {
        let size = name.ends_with("_bytes");
        let told = |value: &Value, otherwise: &str| match value.as_u64() {
            Some(bytes) if size => json!(format!("{} MiB", bytes >> 20)),
            Some(number) => json!(number),
            None => json!(otherwise),
        };
        json!({
            "limit": name.trim_end_matches("_bytes").replace('_', " "),
            "allowed": told(&limit["allowed"], "any"),
            "used": told(&limit["used"], "-"),
            "own": if limit["own"] == true { "this project" } else { "all" },
        })
    };
    Value::Array(limits.as_object().into_iter().flatten().map(row).collect())
}
