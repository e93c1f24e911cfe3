//! What the programs of a build reach of other machines: what is public, and the operator's mirrors and proxies, by a
//! network that is the build's own.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::OnceCell;

use super::contract::{BuildContext, BuildsNetwork};
use super::log::BuildLog;
use super::network;
use crate::confine::find;
use crate::network::{BuildNetwork, Destination, Uplink};

/// Where the file is, in the home of a build, that says where its programs have names resolved.
const RESOLV_CONF: &str = ".resolv.conf";

/// What the programs of one build reach.
#[derive(Debug)]
pub(super) struct Reach {
    /// `None`: they share the machine's network.
    fence: Option<Fence>,
    /// Made when the first program needs it: most builds of unchanged packages have none.
    made: OnceCell<Option<Entrance>>,
}

/// What a network for a build is made of.
#[derive(Debug)]
struct Fence {
    uplink: Arc<Uplink>,
    nsenter: PathBuf,
    allowed: Vec<Destination>,
    /// The operator's mirrors and proxies.
    places: BTreeSet<(String, u16)>,
}

/// The way into the network of a build, which lasts as long as this.
#[derive(Debug)]
pub(super) struct Entrance {
    network: BuildNetwork,
    nsenter: PathBuf,
    resolv_conf: PathBuf,
}

impl Reach {
    /// Where this machine can make networks, the build gets one of its own, unless the operator wants otherwise.
    pub(super) fn of(context: &BuildContext) -> Self {
        let nsenter = find("nsenter");
        let uplink = context.uplink().filter(|uplink| uplink.resolves_names());
        let uplink = uplink.filter(|_| context.network == BuildsNetwork::Fenced);
        let fence = uplink.zip(nsenter).map(|(uplink, nsenter)| Fence {
            uplink: Arc::clone(uplink),
            nsenter,
            allowed: context.may_reach.clone(),
            places: network::places(&context.environment),
        });
        Self { fence, made: OnceCell::new() }
    }

    /// The way into the network of the build, with its files in `home`. `None`: its programs share the machine's.
    ///
    /// # Errors
    /// When there should be one, and cannot.
    pub(super) async fn entrance(&self, home: &Path, log: &BuildLog) -> io::Result<Option<&Entrance>> {
        let Some(fence) = &self.fence else { return Ok(None) };
        let make = async || match fence.allowed().await {
            Ok(allowed) => fence.make(home, allowed).await.map(Some),
            Err(on_this_machine) => {
                log.say(&format!(
                    "`{on_this_machine}`, which the server's environment names, is this machine's loopback interface: the build \
                     shares the machine's network. Name it by another of the machine's addresses to have it fenced in."
                ));
                Ok(None)
            }
        };
        Ok(self.made.get_or_try_init(make).await?.as_ref())
    }
}

impl Fence {
    /// What is not public and may be reached all the same; or a place that no network but the machine's own leads to.
    async fn allowed(&self) -> Result<Vec<Destination>, String> {
        let mut allowed = self.allowed.clone();
        for (host, port) in &self.places {
            // What has no address is told by the program that asks for it.
            let Ok(addresses) = tokio::net::lookup_host((host.as_str(), *port)).await else { continue };
            let addresses: Vec<Ipv4Addr> = addresses.filter_map(|address| as_v4(address.ip())).collect();
            if addresses.iter().any(Ipv4Addr::is_loopback) {
                return Err(host.clone());
            }
            allowed.extend(addresses.into_iter().map(|address| Destination::at(address, *port)));
        }
        Ok(allowed)
    }

    async fn make(&self, home: &Path, allowed: Vec<Destination>) -> io::Result<Entrance> {
        let resolv_conf = home.join(RESOLV_CONF);
        tokio::fs::write(&resolv_conf, Uplink::resolv_conf_like_the_machines()).await?;
        let uplink = Arc::clone(&self.uplink);
        let making = tokio::task::spawn_blocking(move || BuildNetwork::make(Some(&uplink), &allowed));
        let network = making.await.map_err(io::Error::other)??;
        Ok(Entrance { network, nsenter: self.nsenter.clone(), resolv_conf })
    }
}

fn as_v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address.to_canonical() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(address) if address.is_loopback() => Some(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => None,
    }
}

impl Entrance {
    /// What is to be run in front of a program, so that it runs inside.
    pub(super) fn line(&self) -> Vec<OsString> {
        let mut line = vec![self.nsenter.clone().into_os_string()];
        line.extend(self.network.entrance().into_iter().map(OsString::from));
        line.push("--".into());
        line
    }

    /// What the program sees as `/etc/resolv.conf`.
    pub(super) fn resolv_conf(&self) -> &Path {
        &self.resolv_conf
    }
}
