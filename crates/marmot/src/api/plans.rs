//! What a build would do, on the wire.

use axum::Json;
use axum::extract::State;
use marmot_engine::build::Preview;
use marmot_engine::build::plan::CommandFrom;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::Result;
use super::extract::{Body, Who, parse};
use crate::model::{BuilderVariant, Code, CodeRun};
use crate::service::Service;

/// Code to look at.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PlanWish {
    /// The project that a launcher would be made in: its credentials are used, and who may change it may look.
    project_id: String,
    /// `https://host/path`, `ssh://user@host/path` or `user@host:path`.
    repository: String,
    /// Branch, tag or commit; the default branch when absent.
    repository_revision: Option<String>,
    /// The app's directory in the repository.
    context_dir: Option<String>,
    /// `auto`, `python`, `r`, `node` or `static`; `auto` when absent.
    builder_variant: Option<String>,
    /// The launcher's own command, if it has one.
    command: Option<Vec<String>>,
}

/// What a build would do.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PlanOut {
    /// The commit that was looked at.
    repository_git_commit_sha: String,
    /// `python`, `r`, `node`, `static`, `dockerfile` or `buildpacks`; absent where nothing is installed.
    language: Option<&'static str>,
    /// The file that says which packages are installed.
    packages: Option<String>,
    /// What is run to build it.
    build: Vec<String>,
    /// What is run once before its revision is served.
    release: Option<String>,
    /// How it is started; absent where the launcher says so, or an image does.
    command: Option<String>,
    /// Who says how it is started: `launcher`, `procfile` or `detected`. The earlier ones win.
    command_from: &'static str,
    /// Where it is to listen: on the port in this variable.
    port: &'static str,
    /// Why, in sentences.
    reasons: Vec<String>,
    /// What will probably surprise, in sentences.
    warnings: Vec<String>,
}

impl From<Preview> for PlanOut {
    fn from(Preview { commit, plan }: Preview) -> Self {
        Self {
            repository_git_commit_sha: commit,
            language: plan.language,
            packages: plan.packages,
            build: plan.build,
            release: plan.release,
            command: plan.command,
            command_from: match plan.command_from {
                CommandFrom::Launcher => "launcher",
                CommandFrom::Procfile => "procfile",
                CommandFrom::Detected => "detected",
            },
            port: "$PORT",
            reasons: plan.reasons,
            warnings: plan.warnings,
        }
    }
}

/// Looks at code and says what a build would do with it. Nothing is built.
#[utoipa::path(post, path = "/build_plans", tag = "builds", request_body = PlanWish,
    responses((status = 200, body = PlanOut)))]
pub(super) async fn look(
    State(service): State<Service>,
    Who(who): Who,
    Body(wish): Body<PlanWish>,
) -> Result<Json<PlanOut>> {
    let builder = wish.builder_variant.as_deref().map(parse).transpose()?.unwrap_or(BuilderVariant::Auto);
    let code = Code {
        repository: wish.repository,
        revision: wish.repository_revision,
        context_dir: wish.context_dir,
        builder,
        as_image: false,
    };
    let run = CodeRun { command: wish.command, args: None, port: None };
    Ok(Json(service.plan_code(&who, parse(&wish.project_id)?, code, run).await?.into()))
}
