//! `schemathesis`, which tests the API against its document: from PyPI by `uv`, exactly as locked, into a place of this
//! repository's own.

use anyhow::Context;

use super::{link, say};
use crate::command::{self, command};
use crate::repository::Repository;

pub(super) fn run(repository: &Repository) -> anyhow::Result<()> {
    let requirements = repository.root.join("tests/contract/requirements.txt");
    let lock = std::fs::read_to_string(&requirements)
        .with_context(|| format!("cannot read {}", requirements.display()))?;
    let environment = repository.tools().join("contract");
    let installed = environment.join("installed.txt");
    if std::fs::read_to_string(&installed).is_ok_and(|installed| installed == lock) {
        say("schemathesis", "there, the lock has not changed");
        return Ok(());
    }
    say("schemathesis", "installing from PyPI into target/tools");
    let uv = repository.uv();
    command::run(command(repository, &uv)?.args(["venv", "--quiet", "--clear"]).arg(&environment))?;
    let mut pip = command(repository, &uv)?;
    pip.args(["pip", "sync", "--quiet", "--require-hashes", "--python"]).arg(environment.join("bin/python"));
    command::run(pip.arg(&requirements))?;
    let program = "schemathesis";
    link(&environment.join("bin").join(program), &repository.tools_bin().join(program))?;
    std::fs::write(installed, lock).context("cannot note which lock was installed")
}
