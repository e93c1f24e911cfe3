//! Networks for what is run while something is built: each with the way out that apps have, or with none.
//!
//! A container engine is given a network that is there already, so it makes none by itself: no bridge, no rules in the
//! machine's own firewall. Nobody is inside before a step is put there, so something has to keep it: a file that is held open,
//! or, where the server is an ordinary user's, a process in the users of the network in the middle.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
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

/// A network for what one build runs. It goes when this does and nobody is in it any more.
#[derive(Debug)]
pub(crate) struct BuildNetwork {
    own: Own,
    place: Option<Place>,
}

/// What keeps a network.
#[derive(Debug)]
enum Own {
    Open(File),
    Kept(Keeper),
}

/// A place in the network in the middle, kept while this lives.
#[derive(Debug)]
struct Place {
    uplink: Arc<Uplink>,
    slot: u16,
}

impl Place {
    fn take(uplink: &Arc<Uplink>) -> io::Result<Self> {
        let mut taken = uplink.builds.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = (FIRST_SLOT..FIRST_SLOT + SLOTS).find(|slot| !taken.contains(slot));
        let slot = slot.ok_or_else(|| io::Error::other("every address is taken"))?;
        taken.insert(slot);
        Ok(Self { uplink: Arc::clone(uplink), slot })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.uplink.builds.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.slot);
    }
}

impl BuildNetwork {
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
        if let Some(plug) = plug.as_ref().filter(|_| !rustix::process::geteuid().is_root()) {
            return Ok(Self { own: Own::Kept(Keeper::connected(plug)?), place });
        }
        // The thread leaves the machine's network for good, so it is one that does nothing else.
        let making = thread::Builder::new().name("network".to_owned()).spawn(move || made(plug.as_ref()))?;
        let own = making.join().map_err(|_| io::Error::other("it ended before it was made"))??;
        Ok(Self { own: Own::Open(own), place })
    }

    /// Where an engine on this machine finds it.
    pub(crate) fn path(&self) -> String {
        match &self.own {
            Own::Open(file) => path(file),
            Own::Kept(keeper) => format!("/proc/{}/ns/net", keeper.0.id()),
        }
    }

    /// What `nsenter` is told, so that what it runs is inside.
    pub(crate) fn entrance(&self) -> Vec<String> {
        match &self.own {
            Own::Open(_) => vec![format!("--net={}", self.path())],
            Own::Kept(keeper) => into(keeper.0.id()).to_vec(),
        }
    }

    /// Whether anything can be reached from it.
    pub(crate) fn has_a_way_out(&self) -> bool {
        self.place.is_some()
    }
}

fn path(network: &File) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), network.as_raw_fd())
}

/// A process that is in a network and in the users of the one in the middle, where an ordinary user may do what root may.
/// It ends with this, and with the server.
#[derive(Debug)]
struct Keeper(Child);

impl Drop for Keeper {
    fn drop(&mut self) {
        // One that has ended already is only waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Keeper {
    /// One in a network of its own, which is connected with the one in the middle.
    fn connected(plug: &Plug) -> io::Result<Self> {
        let tool =
            |name: &str| find(name).ok_or_else(|| io::Error::other(format!("{name} is not installed")));
        let (nsenter, unshare) = (tool("nsenter")?, tool("unshare")?);
        let mut command = Command::new(&nsenter);
        command.args(["--target", &plug.keeper.pid.to_string(), "--user", "--preserve-credentials", "--"]);
        // It says that it is there, and waits until nobody holds its input any more.
        command.arg(unshare).args(["--net", "--", "/bin/sh", "-c", "echo; read -r nothing"]);
        command.env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut keeper = Self(command.spawn()?);
        let Some(mut said) = keeper.0.stdout.take() else { return Err(io::ErrorKind::BrokenPipe.into()) };
        said.read_exact(&mut [0]).map_err(|_| io::Error::other("unshare made no network"))?;
        let (middle, own) = (plug.keeper.pid.cast_unsigned(), keeper.0.id());
        let inside = |pid: u32, program: &Path| {
            let mut command = Command::new(&nsenter);
            command.args(into(pid)).arg("--").arg(program);
            command
        };
        let batch = ["-batch", "-"];
        // One of this name may be left of a build that has just ended.
        let _ = network::run(inside(middle, &plug.ip).args(["link", "del", &plug.interface]), "");
        let forward = ["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"];
        network::run(inside(middle, Path::new("/bin/sh")).args(forward), "")?;
        network::run(inside(middle, &plug.nft).args(["-f", "-"]), &plug.rules)?;
        let outside = plug.outside.replace("{pid}", &own.to_string());
        network::run(inside(middle, &plug.ip).args(batch), &outside)?;
        network::run(inside(own, &plug.ip).args(batch), &plug.inside)?;
        Ok(keeper)
    }
}

/// What `nsenter` is told to run something in the users and the network of a process.
fn into(pid: u32) -> [String; 3] {
    let named = |what: &str| format!("--{what}=/proc/{pid}/ns/{what}");
    [named("user"), "--preserve-credentials".to_owned(), named("net")]
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
