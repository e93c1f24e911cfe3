//! Debian packages: only what is missing, and only through apt-get.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::bail;

use super::{Need, say};
use crate::command::{self, find, succeeds};

/// A package, and how to tell that what it brings is there, from Debian or from elsewhere.
struct Package {
    name: &'static str,
    need: Need,
    is_there: fn() -> bool,
}

const PACKAGES: [Package; 28] = [
    Package { name: "ca-certificates", need: Need::Apps, is_there: || Path::new("/etc/ssl/certs").is_dir() },
    Package { name: "git", need: Need::Apps, is_there: || find("git").is_some() },
    Package { name: "bubblewrap", need: Need::Apps, is_there: || find("bwrap").is_some() },
    Package { name: "passt", need: Need::Apps, is_there: || find("pasta").is_some() },
    Package { name: "nftables", need: Need::Apps, is_there: || find("nft").is_some() },
    Package { name: "iproute2", need: Need::Apps, is_there: || find("ip").is_some() },
    Package { name: "python3", need: Need::Apps, is_there: || find("python3").is_some() },
    Package {
        name: "python3-venv",
        need: Need::Apps,
        is_there: || succeeds(Command::new("python3").args(["-c", "import ensurepip, venv"])),
    },
    Package { name: "openssh-server", need: Need::Tests, is_there: || Path::new("/usr/sbin/sshd").is_file() },
    Package { name: "nghttp2-client", need: Need::Tests, is_there: || find("h2load").is_some() },
    Package { name: "nodejs", need: Need::Node, is_there: || find("node").is_some() },
    Package { name: "npm", need: Need::Node, is_there: || find("npm").is_some() },
    Package { name: "r-base-core", need: Need::Tests, is_there: || find("Rscript").is_some() },
    Package { name: "r-cran-shiny", need: Need::Tests, is_there: || has_r_package("shiny") },
    Package { name: "r-cran-plumber", need: Need::Tests, is_there: || has_r_package("plumber") },
    Package { name: "podman", need: Need::Tests, is_there: || find("podman").is_some() },
    Package { name: "uidmap", need: Need::Tests, is_there: || find("newuidmap").is_some() },
    Package { name: "runc", need: Need::Tests, is_there: || in_system("runc") },
    Package { name: "catatonit", need: Need::Tests, is_there: || find("catatonit").is_some() },
    Package {
        name: "netavark",
        need: Need::Tests,
        is_there: || Path::new("/usr/lib/podman/netavark").exists(),
    },
    Package { name: "iptables", need: Need::Tests, is_there: || in_system("iptables") },
    Package { name: "docker-registry", need: Need::Tests, is_there: || find("docker-registry").is_some() },
    Package { name: "busybox-static", need: Need::Tests, is_there: || find("busybox").is_some() },
    Package { name: "pebble", need: Need::Tests, is_there: || find("pebble").is_some() },
    Package { name: "nginx-light", need: Need::Peers, is_there: || find("nginx").is_some() },
    Package { name: "haproxy", need: Need::Peers, is_there: || find("haproxy").is_some() },
    Package { name: "wrk", need: Need::Peers, is_there: || find("wrk").is_some() },
    Package {
        name: "chromium",
        need: Need::Browser,
        is_there: || find("chromium").is_some() || std::env::var_os("CHROMIUM").is_some(),
    },
];

/// Whether it is there for root, on whose `PATH` it is.
pub(super) fn in_system(name: &str) -> bool {
    ["/usr/bin", "/usr/sbin", "/usr/local/bin"].iter().any(|place| Path::new(place).join(name).is_file())
}

fn has_r_package(name: &str) -> bool {
    let places = ["/usr/lib/R/site-library", "/usr/local/lib/R/site-library"];
    places.iter().any(|place| Path::new(place).join(name).is_dir())
}

pub(super) fn run(needs: &[Need]) -> anyhow::Result<()> {
    let needed = || PACKAGES.iter().filter(|package| needs.contains(&package.need));
    if needed().next().is_none() {
        return Ok(());
    }
    let missing: Vec<&str> =
        needed().filter(|package| !(package.is_there)()).map(|package| package.name).collect();
    if missing.is_empty() {
        let names: Vec<&str> = needed().map(|package| package.name).collect();
        say("Debian packages", &format!("there: {}", names.join(", ")));
        return Ok(());
    }
    say("Debian packages", &format!("missing: {}", missing.join(", ")));
    if find("apt-get").is_none() || !is_root() {
        bail!(what_to_do(&missing, find("apt-get").is_some()));
    }
    install(&missing)?;
    match PACKAGES.iter().find(|package| missing.contains(&package.name) && !(package.is_there)()) {
        None => Ok(()),
        Some(package) => bail!("apt-get installed {} but it is still not usable", package.name),
    }
}

fn install(missing: &[&str]) -> anyhow::Result<()> {
    if !has_package_lists() {
        command::run(&mut apt_get(&["update"]))?;
    } else if !succeeds(apt_get(&["install", "--simulate"]).args(missing)) {
        // The lists are older than the archive, or do not know these packages.
        command::run(&mut apt_get(&["update"]))?;
    }
    command::run(apt_get(&["install", "--yes", "--no-install-recommends"]).args(missing))
}

pub(super) fn apt_get(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.args(["--quiet=2"]).args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    command
}

/// A fresh container image has none.
pub(super) fn has_package_lists() -> bool {
    let Ok(lists) = std::fs::read_dir("/var/lib/apt/lists") else { return false };
    lists.flatten().any(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

fn what_to_do(missing: &[&str], has_apt_get: bool) -> String {
    let names = missing.join(" ");
    if has_apt_get {
        format!(
            "these Debian packages are missing, and installing them needs root:\n\n    sudo apt-get install {names}\n"
        )
    } else {
        format!("these are missing (by their names in Debian); install them and try again:\n\n    {names}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_root_it_says_which_command_to_run() {
        let message = what_to_do(&["bubblewrap", "chromium"], true);
        assert!(message.contains("    sudo apt-get install bubblewrap chromium\n"), "{message}");
    }

    #[test]
    fn without_apt_get_it_names_the_packages_only() {
        let message = what_to_do(&["git"], false);
        assert!(message.contains("    git\n") && !message.contains("apt-get"), "{message}");
    }

    #[test]
    fn needs_that_are_no_packages_look_at_nothing() {
        run(&[Need::CargoDeny]).expect("there is nothing to install");
    }
}
