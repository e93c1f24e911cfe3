//! `cargo xtask bench NAME`: measures the release build from outside.

use std::ffi::OsString;

use crate::command::{self, command};
use crate::repository::Repository;
use crate::setup::{self, Need};

pub(crate) fn run(repository: &Repository, arguments: &[OsString]) -> anyhow::Result<()> {
    let beside_others = arguments.first().is_some_and(|name| name == "gateway");
    let in_containers = arguments.iter().any(|argument| argument.to_string_lossy().contains("container"));
    let mut needs = vec![Need::Apps];
    needs.extend(beside_others.then_some(Need::Peers));
    needs.extend(in_containers.then_some(Need::Tests));
    setup::run(repository, &needs)?;
    println!("build   marmot and its benches");
    let packages = ["build", "--release", "-p", "marmot", "-p", "marmot-benches"];
    command::run(command(repository, "cargo")?.args(packages))?;
    let marmot = repository.marmot();
    let mut bench = command(repository, marmot.with_file_name("marmot-bench"))?;
    command::run(bench.args(arguments).env("MARMOT_BIN", marmot))
}
