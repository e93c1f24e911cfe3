//! Runs what the code says is run once per revision before it is served: the `release` line of a `Procfile`.

use std::path::Path;

use super::contract::BuildContext;
use super::environment::Environment;
use super::process::{Interrupted, Job, Program};
use super::view::View;
use crate::wanted::WantedBuild;

/// The line failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReleaseError {
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    #[error("`{line}`, the release of the Procfile, failed with code {code}. What it said last: {said}")]
    Failed { line: String, code: i32, said: String },
    #[error("`{line}`, the release of the Procfile, was ended by a signal")]
    Ended { line: String },
}

/// Runs `line` where the code is, with what is installed and the launcher's variables and secrets. What it writes beside the code
/// is part of the result.
pub(super) async fn release(
    context: &BuildContext,
    job: &Job,
    line: &str,
    environment: Option<&Environment>,
    code: &Path,
    wanted: &WantedBuild,
) -> Result<(), ReleaseError> {
    let shell = "/bin/sh";
    let program = match environment {
        Some(environment) => environment.program(shell, code),
        None => Program::new(shell).sees(View::default()),
    };
    let mut program = program.also_owns(code).dir(code).args(["-c", line]).env("MARMOT_RELEASE", "1");
    // Databases and the like may be where only the operator's network leads.
    program = program.envs(&context.environment);
    for variable in &wanted.variables {
        program = program.env(&variable.name, &variable.value);
    }
    // Those that are files stay in memory, where there is none to put them yet.
    for secret in wanted.secrets.iter().filter(|secret| !secret.is_file) {
        program = program.env(&secret.name, &secret.value);
    }
    let said = job.run(&program).await?;
    if said.ok() {
        return Ok(());
    }
    let line: String = line.chars().take(200).collect();
    let Some(code) = said.status.code() else { return Err(ReleaseError::Ended { line }) };
    let both = [&said.stderr, &said.stdout];
    let last = both.iter().find_map(|text| text.lines().rev().map(str::trim).find(|line| !line.is_empty()));
    let said = last.unwrap_or("nothing").chars().take(300).collect();
    Err(ReleaseError::Failed { line, code, said })
}
