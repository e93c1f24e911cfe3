//! Set-up: brings what is missing and says in a line each what is there already.

mod cargo_deny;
mod contract;
mod debian;
mod docker;
mod npm;
mod tun;
mod uv;

use uv::link;

use crate::repository::Repository;

/// What a task needs from the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Need {
    /// To build and run apps: git, the sandbox, Python and uv.
    Apps,
    /// To test what not every server has: R, an `sshd`, a container engine, a certificate authority.
    Tests,
    /// To sign in at a real identity provider: Node and the provider.
    Node,
    /// To drive the pages: a browser, and what drives it.
    Browser,
    /// To check dependencies.
    CargoDeny,
    /// To measure beside others: nginx, HAProxy and a load generator.
    Peers,
}

impl Need {
    pub(crate) const ALL: [Self; 5] = [Self::Apps, Self::Node, Self::Tests, Self::Browser, Self::CargoDeny];
}

pub(crate) fn run(repository: &Repository, needs: &[Need]) -> anyhow::Result<()> {
    debian::run(needs)?;
    if needs.contains(&Need::Apps) {
        tun::run();
        uv::run(repository)?;
        contract::run(repository)?;
    }
    if needs.contains(&Need::Tests) {
        docker::run(repository)?;
    }
    if needs.contains(&Need::Node) {
        npm::run(repository, &repository.oidc_tests())?;
    }
    if needs.contains(&Need::Browser) {
        npm::run(repository, &repository.browser_tests())?;
    }
    if needs.contains(&Need::CargoDeny) {
        cargo_deny::run(repository)?;
    }
    Ok(())
}

/// One line about one thing.
fn say(thing: &str, state: &str) {
    println!("set-up  {thing:<20} {state}");
}
