//! Docker, from Debian's packages, unpacked into a place of this repository's own: installed, they would start a service
//! that changes the machine's firewall.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, ensure};

use super::debian::{apt_get, has_package_lists, in_system};
use super::{link, say};
use crate::command::{self, find, succeeds};
use crate::repository::Repository;

const PACKAGES: [&str; 3] = ["docker.io", "containerd", "tini"];
const PROGRAMS: [&str; 5] = [
    "usr/sbin/dockerd",
    "usr/bin/docker",
    "usr/bin/docker-init",
    "usr/bin/containerd",
    "usr/bin/containerd-shim-runc-v2",
];

pub(super) fn run(repository: &Repository) -> anyhow::Result<()> {
    let own = repository.tools().join("docker");
    if PROGRAMS.iter().all(|program| in_system(name(program))) {
        say("Docker", "there");
    } else if PROGRAMS.iter().all(|program| own.join(program).exists()) {
        say("Docker", "there, in target/tools");
        link_all(&own, repository)?;
    } else if find("apt-get").is_none() || find("dpkg").is_none() {
        say("Docker", "not there, and not to be had without apt-get; what tests it is skipped");
    } else {
        say("Docker", "unpacking Debian's packages into target/tools");
        unpack(&own)?;
        link_all(&own, repository)?;
    }
    Ok(())
}

fn link_all(own: &Path, repository: &Repository) -> anyhow::Result<()> {
    PROGRAMS.iter().try_for_each(|program| {
        ensure!(own.join(program).exists(), "Debian's packages of Docker have no {program}");
        // By a way that stays right when the tools are moved, or are seen from elsewhere.
        link(&Path::new("../docker").join(program), &repository.tools_bin().join(name(program)))
    })
}

fn name(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

fn unpack(own: &Path) -> anyhow::Result<()> {
    let archives = own.join("archives");
    std::fs::create_dir_all(&archives).with_context(|| format!("cannot create {}", archives.display()))?;
    let download = || {
        let mut command = apt_get(&["download"]);
        command.args(PACKAGES).current_dir(&archives).stderr(Stdio::null());
        command
    };
    // The lists may be older than the archive.
    if !has_package_lists() || !succeeds(&mut download()) {
        command::run(&mut apt_get(&["update"]))?;
        command::run(&mut download())?;
    }
    for entry in std::fs::read_dir(&archives)? {
        command::run(std::process::Command::new("dpkg").arg("--extract").arg(entry?.path()).arg(own))?;
    }
    std::fs::remove_dir_all(&archives).context("cannot remove what was unpacked")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_called_by_the_last_part_of_its_path() {
        assert_eq!(PROGRAMS.map(name)[..2], ["dockerd", "docker"]);
    }
}
