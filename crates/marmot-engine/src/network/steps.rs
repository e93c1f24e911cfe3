//! Networks for what a container engine runs while it builds: each with the way out that apps have, or with none.
//!
//! The engine is given a network that is there already, so it makes none by itself: no bridge, no rules in the machine's
//! own firewall. Nobody is inside before the engine puts a step there, so a file that is held open keeps it.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::process::{Command, Stdio};
use std::sync::{Arc, PoisonError};
use std::thread;

use rustix::thread::UnshareFlags;

use super::{Destination, Uplink, find};
use crate::shim::network;
use crate::shim::spec::Plug;
use crate::wanted::Outbound;

/// The first place in the middle that no replica takes.
const FIRST_SLOT: u16 = 40_000;
/// How many builds may be connected at the same time.
const SLOTS: u16 = 4096;

/// A network for the steps of one build. It goes when this does and nobody is in it any more.
#[derive(Debug)]
pub(crate) struct StepsNetwork {
    own: File,
    place: Option<Place>,
}

/// A place in the network in the middle, kept while this lives.
#[derive(Debug)]
struct Place {
    uplink: Arc<Uplink>,
    slot: u16,
}

impl Place {
    fn take(uplink: &Arc<Uplink>) -> io::Result<Self> {
        let mut taken = uplink.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = (FIRST_SLOT..FIRST_SLOT + SLOTS).find(|slot| !taken.contains(slot));
        let slot = slot.ok_or_else(|| io::Error::other("every address is taken"))?;
        taken.insert(slot);
        Ok(Self { uplink: Arc::clone(uplink), slot })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.uplink.steps.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.slot);
    }
}

impl StepsNetwork {
    /// Makes one. `uplink`: by what it has a way out, to public addresses and to what `allowed` names.
    ///
    /// # Errors
    /// Where this process may not make networks.
    pub(crate) fn make(uplink: Option<&Arc<Uplink>>, allowed: &[Destination]) -> io::Result<Self> {
        let place = uplink.map(Place::take).transpose()?;
        let plug = match &place {
            Some(Place { uplink, slot }) => {
                uplink.plug_for(*slot, &Outbound::Internet, allowed).map_err(io::Error::other)?
            }
            None => None,
        };
        // The thread leaves the machine's network for good, so it is one that does nothing else.
        let making = thread::Builder::new().name("network".to_owned()).spawn(move || made(plug.as_ref()))?;
        let own = making.join().map_err(|_| io::Error::other("it ended before it was made"))??;
        Ok(Self { own, place })
    }

    /// Where an engine on this machine finds it.
    pub(crate) fn path(&self) -> String {
        path(&self.own)
    }

    /// Whether anything can be reached from it.
    pub(crate) fn has_a_way_out(&self) -> bool {
        self.place.is_some()
    }
}

fn path(network: &File) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), network.as_raw_fd())
}

fn made(plug: Option<&Plug>) -> io::Result<File> {
    let middle = plug.map(|plug| network::network_of(plug.keeper.pid)).transpose()?;
    #[expect(
        deprecated,
        reason = "rustix's replacement is unsafe for the sake of descriptor tables, which this does not touch"
    )]
    rustix::thread::unshare(UnshareFlags::NEWNET)?;
    let own = File::open("/proc/thread-self/ns/net")?;
    if let Some(ip) = find("ip") {
        let mut up = Command::new(ip);
        up.args(["link", "set", "lo", "up"]).env_clear().stdin(Stdio::null()).stderr(Stdio::null());
        // Without a loopback interface, too, nothing is reached that should not be.
        let _ = up.status();
    }
    if let (Some(plug), Some(middle)) = (plug, middle) {
        network::connect(plug, &middle, &own, path(&own))?;
    }
    Ok(own)
}
