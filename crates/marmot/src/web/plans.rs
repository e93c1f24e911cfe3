//! The plan in the form of a launcher: what a build would do, before anything is built.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use marmot_core::id::LauncherId;
use marmot_engine::build::Preview;
use marmot_engine::build::plan::CommandFrom;
use marmot_text::say;

use super::Web;
use super::forms::Typed;
use super::launchers::{LauncherPath, find_launcher, form_page, project_to_change};
use super::pages::{BuilderChoice, CodePlan, CodePlanPart, LauncherForm};
use super::projects::ProjectPath;
use super::respond::{Failed, Html};
use super::session::Visitor;
use super::start::StartForm;
use super::words;
use crate::model::{BuilderVariant, Project};
use crate::service::Error;

/// Looks at the code that a form for a new launcher names.
pub(super) async fn look(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): ProjectPath,
    typed: Typed,
) -> Result<Response, Failed> {
    let project = project_to_change(&web, &visitor, &path).await?;
    answer(&web, &visitor, &project, None, typed).await
}

/// Looks at the code that the form of this launcher names.
pub(super) async fn look_again(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): LauncherPath,
    typed: Typed,
) -> Result<Response, Failed> {
    let view = find_launcher(&web, &visitor.who, &path).await?;
    let (namespace, slug, _) = path;
    let project = project_to_change(&web, &visitor, &(namespace, slug)).await?;
    answer(&web, &visitor, &project, Some(view.launcher.id), typed).await
}

/// The plan for the script, which has the form already; the whole form with it for everybody else.
async fn answer(
    web: &Web,
    visitor: &Visitor,
    project: &Project,
    editing: Option<LauncherId>,
    typed: Typed,
) -> Result<Response, Failed> {
    let mut form = LauncherForm::typed(&typed);
    if editing.is_none() {
        form.start = Some(Box::new(StartForm::typed(web, &typed)?));
    }
    let mut changed = false;
    if let Some((code, run)) = form.code() {
        let (plan, command) = match web.service.plan_code(&visitor.who, project.id, code, run).await {
            Ok(preview) => shown(preview),
            Err(error) => (CodePlan { problem: Some(problem(error)?), ..CodePlan::default() }, None),
        };
        changed = form.looked(plan, command);
    }
    if visitor.for_part {
        let command = changed.then(|| form.command.value.clone());
        let part = CodePlanPart { plan: form.plan, planned: form.planned, command };
        return Ok(Html(part).into_response());
    }
    Ok(Html(form_page(web, visitor, project, editing, form).await?).into_response())
}

/// What is said where the plan would be. What is not about the code is refused as everywhere.
fn problem(error: Error) -> Result<String, Failed> {
    match error {
        Error::Invalid { .. } | Error::TooManyTries { .. } | Error::NotOffered { .. } => {
            Ok(words::refusal(&error))
        }
        other => Err(other.into()),
    }
}

/// What a build would do, in words; and how the code starts by itself.
fn shown(Preview { commit, plan }: Preview) -> (CodePlan, Option<String>) {
    let what = match plan.language {
        Some("python") => say("plan-python"),
        Some("r") => say("plan-r"),
        Some("node") => say("plan-node"),
        Some("static") => say("plan-static"),
        Some("dockerfile" | "buildpacks") => say("plan-image"),
        _ => say("plan-program"),
    };
    let mut facts = Vec::new();
    facts.extend(plan.packages.map(|file| (say("plan-packages-from"), file)));
    facts.extend(plan.build.into_iter().map(|step| (say("plan-built-by"), step)));
    facts.extend(plan.release.map(|line| (say("plan-release"), line)));
    let started = match (plan.command_from, &plan.command) {
        (CommandFrom::Launcher, _) => Some(say("plan-command-below").to_owned()),
        (CommandFrom::Procfile, Some(command)) => Some(format!("{command} (Procfile)")),
        (CommandFrom::Detected, command) => command.clone(),
        (CommandFrom::Procfile, None) => None,
    };
    facts.extend(started.map(|started| (say("plan-started-by"), started)));
    facts.push((say("plan-listens-on"), "$PORT".to_owned()));
    let shown = CodePlan {
        problem: None,
        what: what.to_owned(),
        commit: commit.chars().take(10).collect(),
        facts,
        warnings: plan.warnings,
        reasons: plan.reasons,
    };
    (shown, plan.command)
}

/// The builders to choose from. `buildpacks`: they are offered here.
pub(super) fn builders(chosen: BuilderVariant, buildpacks: bool) -> Vec<BuilderChoice> {
    let told = |word| match word {
        "auto" => say("plan-found"),
        "python" => "Python",
        "r" => "R",
        "node" => "Node",
        "static" => say("plan-static"),
        "dockerfile" => say("builder-dockerfile"),
        "buildpacks" => say("builder-buildpacks"),
        other => other,
    };
    let choice =
        |word: &&'static str| BuilderChoice { word, told: told(word), chosen: *word == chosen.as_str() };
    let is_offered =
        |word: &&&str| **word != "buildpacks" || buildpacks || chosen == BuilderVariant::Buildpacks;
    BuilderVariant::WORDS.iter().filter(is_offered).map(choice).collect()
}
