//! Builds: from the address of a repository to something that a runtime can start.

mod contract;
mod locks;

use std::path::Path;

use marmot_core::id::BuildId;
use tokio_util::sync::CancellationToken;

pub use contract::{BuildContext, BuildEnd, BuildLimits, RunFile};

use crate::observed::{BuildFailure, BuildOutcome};
use crate::wanted::WantedBuild;

/// Does one build in `dir`, which is its own: the log goes to `dir/log` while it runs, `dir/log.done` appears when
/// the log is whole, and the result is `dir/artefact`, with the app's files in `code` and a [`RunFile`].
///
/// `progress` is told each step, as a person would say it. Nothing but the log is left of a build that fails or is
/// cancelled, and none of its processes.
///
/// # Errors
/// [`BuildEnd::Cancelled`] when `cancel` was; [`BuildEnd::Failed`] with the step and the reason for everything else.
pub async fn run(
    context: &BuildContext,
    id: BuildId,
    wanted: &WantedBuild,
    dir: &Path,
    progress: impl Fn(&str) + Send + Sync,
    cancel: CancellationToken,
) -> Result<BuildOutcome, BuildEnd> {
    let _ = (context, id, wanted, dir, cancel);
    progress("Fetching the code");
    Err(BuildEnd::Failed(BuildFailure {
        step: "Fetching the code".into(),
        reason: "builds are not there yet".into(),
        last_lines: Vec::new(),
    }))
}

/// The variables of `all` that say how to reach the network from here: proxies, certificates and package mirrors.
pub fn operators_environment(all: impl IntoIterator<Item = (String, String)>) -> Vec<(String, String)> {
    all.into_iter().filter(|(name, _)| concerns_the_network(name)).collect()
}

fn concerns_the_network(name: &str) -> bool {
    const NAMES: [&str; 6] = [
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "GIT_SSL_CAINFO",
        "GIT_SSL_CAPATH",
    ];
    // Where uv keeps things and which Python it takes is for the build to say.
    const OURS: [&str; 8] = [
        "UV_CACHE_DIR",
        "UV_NO_CACHE",
        "UV_PROJECT",
        "UV_PROJECT_ENVIRONMENT",
        "UV_WORKING_DIRECTORY",
        "UV_SYSTEM_PYTHON",
        "UV_PYTHON",
        "UV_LINK_MODE",
    ];
    let upper = name.to_ascii_uppercase();
    NAMES.contains(&name)
        || ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"].contains(&upper.as_str())
        || name.starts_with("PIP_")
        || (name.starts_with("UV_") && !OURS.contains(&name))
}
