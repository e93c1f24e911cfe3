//! The way out of replicas' networks: one network between theirs and the machine's, shared by all of them.
//!
//! Each replica that may reach anything has a pair of virtual interfaces into a network in the middle. A firewall
//! there says what it may reach; the replica itself is not in that network and can change nothing about it. From the
//! middle, pasta leads out: an unprivileged process that opens ordinary sockets of the machine. Nothing about the
//! machine's own interfaces, routes, firewall or settings is changed, and a replica that sleeps costs nothing.
//!
//! The network in the middle outlives the server, as replicas do. It lasts as long as a process that does nothing
//! else than to be in it; a guard ends that when neither a server nor a replica is left.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::config::ShimCommand;
use crate::confine::find;
use crate::procfs::{self, RawPid};
use crate::shim::spec::{self, Plug, ShimProcess};
use crate::wanted::Outbound;

mod build;
pub(crate) mod guard;
mod rules;

pub(crate) use build::BuildNetwork;
pub use rules::{Destination, WrongDestination};
use rules::{MIDDLE, PASTA, Port, RESOLVER, Surroundings, UPLINK};

/// The user that pasta runs as where the server is root. Like those of replicas, it belongs to nobody.
const USER: u32 = 1_999_999_998;
/// Which processes the network in the middle is made of, in the data directory.
const UPLINK_FILE: &str = "uplink.json";
/// What pasta says, in the data directory.
const UPLINK_LOG: &str = "uplink.log";
/// Longest that pasta may take to begin.
const BEGIN_WITHIN: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// The network in the middle.
#[derive(Debug)]
pub(crate) struct Uplink {
    data_dir: PathBuf,
    /// Starts the guard; without, whoever opened this closes it.
    shim: Option<ShimCommand>,
    /// Tells the guard that a server is there.
    _lock: File,
    tools: Tools,
    /// Where names are resolved, on the machine.
    resolver: Option<Ipv4Addr>,
    /// What apps may reach although it is private.
    allowed: Vec<Destination>,
    running: Mutex<Option<Running>>,
    /// The places in the middle that builds have.
    builds: Mutex<BTreeSet<u16>>,
}

/// Why there is no way out here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shortcoming {
    /// As the end of a sentence.
    pub(crate) why: String,
    /// What makes it better.
    pub(crate) command: Option<String>,
}

impl Shortcoming {
    pub(crate) fn of(why: impl Into<String>) -> Self {
        Self { why: why.into(), command: None }
    }

    fn but_for(why: impl Into<String>, command: impl Into<String>) -> Self {
        Self { why: why.into(), command: Some(command.into()) }
    }
}

/// Programs that are needed for it.
#[derive(Debug, Clone)]
struct Tools {
    pasta: PathBuf,
    ip: PathBuf,
    nft: PathBuf,
    setpriv: Option<PathBuf>,
}

/// The processes of the network in the middle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Running {
    pasta: ShimProcess,
    /// It is in the network, and that is all it does.
    keeper: ShimProcess,
    /// It ends both when nobody needs them any more.
    #[serde(default)]
    guard: Option<ShimProcess>,
}

impl Running {
    fn is_alive(&self) -> bool {
        self.pasta.is_alive() && self.keeper.is_alive()
    }

    fn end_all_but_guard(&self) {
        [&self.pasta, &self.keeper].into_iter().for_each(kill);
    }

    fn end(&self) {
        self.end_all_but_guard();
        self.guard.iter().for_each(kill);
    }
}

fn kill(process: &ShimProcess) {
    if process.is_alive() {
        procfs::signal(process.pid, Signal::KILL);
    }
}

/// Takes note of the end of a process that this one has started, and that may outlive it.
fn reap(wait: impl FnOnce() -> io::Result<ExitStatus> + Send + 'static) -> io::Result<()> {
    thread::Builder::new().stack_size(64 << 10).spawn(wait).map(drop)
}

impl Uplink {
    /// Finds the network in the middle that an earlier server left, or makes one; else says what is missing.
    pub(crate) fn open(
        data_dir: &Path,
        shim: Option<ShimCommand>,
        allowed: Vec<Destination>,
        resolver: Option<Ipv4Addr>,
    ) -> Result<Self, Shortcoming> {
        let tool = |name: &str, package: &str| {
            let install = || format!("sudo apt-get install {package}");
            find(name).ok_or_else(|| Shortcoming::but_for(format!("{name} is not installed"), install()))
        };
        let is_root = rustix::process::geteuid().is_root();
        let tools = Tools {
            pasta: tool("pasta", "passt")?,
            ip: tool("ip", "iproute2")?,
            nft: tool("nft", "nftables")?,
            setpriv: if is_root { Some(tool("setpriv", "util-linux")?) } else { None },
        };
        tun_can_be_opened(is_root)?;
        let resolver = resolver.or_else(machines_resolver);
        // Before it is looked whether there is one: a guard may be ending it.
        let lock = guard::lock(data_dir)
            .map_err(|error| Shortcoming::of(format!("the data directory cannot be locked: {error}")))?;
        let data_dir = data_dir.to_owned();
        let (running, builds) = <_>::default();
        let uplink = Self { data_dir, shim, _lock: lock, tools, resolver, allowed, running, builds };
        uplink.running().map_err(Shortcoming::of)?;
        Ok(uplink)
    }

    /// Whether names can be resolved through it.
    pub(crate) fn resolves_names(&self) -> bool {
        self.resolver.is_some()
    }

    /// What the supervisor of a replica does to give it a way out. Starts what has ended meanwhile.
    pub(crate) fn plug(&self, slot: u16, outbound: &Outbound) -> Result<Option<Plug>, String> {
        self.plug_for(slot, outbound, &self.allowed)
    }

    /// The same for what may reach this although it is private.
    fn plug_for(
        &self,
        slot: u16,
        outbound: &Outbound,
        allowed: &[Destination],
    ) -> Result<Option<Plug>, String> {
        if *outbound == Outbound::None {
            return Ok(None);
        }
        let running = self.running()?;
        let port = Port::new(slot);
        Ok(Some(Plug {
            keeper: running.keeper.clone(),
            ip: self.tools.ip.clone(),
            nft: self.tools.nft.clone(),
            slot,
            interface: port.interface.clone(),
            rules: rules::firewall(&port, outbound, &self.surroundings(allowed)),
            outside: port.outside(),
            inside: port.inside(),
        }))
    }

    /// Where names are resolved, as seen from inside.
    pub(crate) fn resolver() -> &'static str {
        RESOLVER
    }

    /// What is put into a replica's `/etc/resolv.conf`.
    pub(crate) fn resolv_conf() -> String {
        format!("nameserver {RESOLVER}\n")
    }

    /// The same for programs of builds, which may be told of the operator's machines by short names.
    pub(crate) fn resolv_conf_like_the_machines() -> String {
        let machines = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let kept = |line: &&str| ["search ", "domain ", "options "].iter().any(|what| line.starts_with(what));
        let kept: Vec<&str> = machines.lines().filter(kept).collect();
        format!("{}{}\n", Self::resolv_conf(), kept.join("\n"))
    }

    /// Ends it. Whoever still has a replica in it, has one without a way out.
    pub(crate) fn close(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        running.inspect(Running::end);
        let _ = fs::remove_file(self.data_dir.join(UPLINK_FILE));
    }

    fn surroundings<'a>(&self, allowed: &'a [Destination]) -> Surroundings<'a> {
        Surroundings { own: own_addresses(), allowed, resolver: self.resolver }
    }

    fn running(&self) -> Result<Running, String> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let known = running.take().or_else(|| spec::read(&self.data_dir, UPLINK_FILE).ok().flatten());
        let now = match known {
            Some(known) if known.is_alive() => known,
            left => {
                if let Some(left) = left {
                    left.end();
                    tracing::warn!("the apps' way out of their networks had ended; it is made anew");
                }
                self.start()?
            }
        };
        Ok(running.insert(now).clone())
    }

    fn start(&self) -> Result<Running, String> {
        let said = |error: io::Error| format!("pasta cannot be run: {error}");
        let log = File::create(self.data_dir.join(UPLINK_LOG)).map_err(said)?;
        let mut command = match &self.tools.setpriv {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                let user = USER.to_string();
                command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "--"]);
                command.arg(&self.tools.pasta);
                command
            }
            None => Command::new(&self.tools.pasta),
        };
        command.args(["--config-net", "--ipv4-only", "--address", PASTA, "--netmask", "24"]);
        command.args(["--gateway", MIDDLE, "--ns-ifname", UPLINK, "--no-map-gw"]);
        // No port of the machine is led in, and none out.
        command.args(["-t", "none", "-u", "none", "-T", "none", "-U", "none"]);
        command.args(["--quiet", "--foreground", "--", "/bin/sleep", "infinity"]);
        // By the directory, people and tests tell whose processes these are.
        command.env_clear().env("PATH", "/usr/bin:/bin").env("MARMOT_DATA_DIR", &self.data_dir);
        command.current_dir("/").process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut child = command.spawn().map_err(said)?;
        let pasta = RawPid::try_from(child.id()).map_err(|error| error.to_string())?;
        reap(move || child.wait()).map_err(said)?;
        let began = Instant::now();
        let keeper = loop {
            if let Some(keeper) = keeper_of(pasta) {
                break keeper;
            }
            if procfs::stat(pasta).is_none_or(|stat| stat.zombie) || began.elapsed() > BEGIN_WITHIN {
                procfs::signal(pasta, Signal::KILL);
                let said = fs::read_to_string(self.data_dir.join(UPLINK_LOG)).unwrap_or_default();
                let said: String = said.trim().chars().take(300).collect();
                return Err(format!("pasta cannot make a network here: {said}"));
            }
            thread::sleep(LOOK_AGAIN);
        };
        let process = |pid| ShimProcess::of(pid).map_err(said);
        let guard = self.shim.as_ref().map(|shim| guard::start(shim, &self.data_dir));
        let guard = guard.transpose().map_err(said)?;
        let running = Running { pasta: process(pasta)?, keeper: process(keeper)?, guard };
        spec::write(&self.data_dir, UPLINK_FILE, &running).map_err(said)?;
        Ok(running)
    }
}

/// pasta's only child, once it is in a network that has its way out.
fn keeper_of(pasta: RawPid) -> Option<RawPid> {
    let children = fs::read_to_string(format!("/proc/{pasta}/task/{pasta}/children")).ok()?;
    let child: RawPid = children.split_ascii_whitespace().next()?.parse().ok()?;
    let routes = fs::read_to_string(format!("/proc/{child}/net/route")).ok()?;
    let name = fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
    let default_route = |line: &str| line.starts_with(&format!("{UPLINK}\t00000000\t"));
    (name.trim() == "sleep" && routes.lines().any(default_route)).then_some(child)
}

/// pasta runs as an ordinary user, and makes its interface by this device.
fn tun_can_be_opened(is_root: bool) -> Result<(), Shortcoming> {
    const TUN: &str = "/dev/net/tun";
    let everybody = || fs::metadata(TUN).is_ok_and(|meta| meta.mode() & 0o006 == 0o006);
    let open = || File::options().read(true).write(true).open(TUN).is_ok();
    if if is_root { everybody() } else { open() } {
        return Ok(());
    }
    if Path::new(TUN).exists() {
        let command = format!("sudo chmod 0666 {TUN}");
        return Err(Shortcoming::but_for(format!("{TUN} can only be opened by root"), command));
    }
    Err(Shortcoming::but_for(format!("there is no {TUN}"), "sudo modprobe tun"))
}

/// The machine's resolver. One on the loopback interface, as of systemd, cannot be reached by pasta; behind it are
/// others.
fn machines_resolver() -> Option<Ipv4Addr> {
    let files = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
    files.iter().find_map(|file| first_resolver(&fs::read_to_string(file).ok()?))
}

fn first_resolver(text: &str) -> Option<Ipv4Addr> {
    let named = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    named.filter_map(|address| address.trim().parse().ok()).find(|address: &Ipv4Addr| !address.is_loopback())
}

/// The machine's own addresses, now.
fn own_addresses() -> Vec<Ipv4Addr> {
    addresses_in(&fs::read_to_string("/proc/net/fib_trie").unwrap_or_default())
}

/// In the kernel's table of routes, an address of the machine is a leaf that says so on the line below it.
fn addresses_in(table: &str) -> Vec<Ipv4Addr> {
    let lines: Vec<&str> = table.lines().map(str::trim).collect();
    let local = lines.windows(2).filter(|pair| pair[1] == "/32 host LOCAL");
    let mut addresses: Vec<Ipv4Addr> =
        local.filter_map(|pair| pair[0].strip_prefix("|-- ")?.parse().ok()).collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_on_the_loopback_interface_is_passed_over() {
        assert_eq!(
            first_resolver("# x\nnameserver 127.0.0.53\nnameserver 10.0.0.2\n"),
            Some([10, 0, 0, 2].into())
        );
        assert_eq!(first_resolver("nameserver ::1\nnameserver 127.0.0.1\n"), None);
        assert_eq!(first_resolver("search lab\n"), None);
    }

    #[test]
    fn the_machines_addresses_are_read_from_the_kernels_table() {
        let table = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 192.0.2.2\n        /32 host LOCAL\n     |-- 192.0.2.255\n        /32 link BROADCAST\nLocal:\n     |-- 192.0.2.2\n        /32 host LOCAL\n     |-- 127.0.0.1\n        /32 host LOCAL\n";
        assert_eq!(addresses_in(table), [Ipv4Addr::LOCALHOST, [192, 0, 2, 2].into()]);
        assert!(own_addresses().contains(&Ipv4Addr::LOCALHOST));
    }
}
