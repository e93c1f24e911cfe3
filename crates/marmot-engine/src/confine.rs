//! Shuts programs off from the machine and from each other, by bubblewrap.
//!
//! As root, bubblewrap makes the mounts with root's rights, so nothing on the way to them needs to be open to
//! others, and the program then becomes a user of its own, without any capability. As an ordinary user, all of it
//! happens in a user namespace, and programs share the server's user id.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::shim::spec::Sandbox;

pub(crate) mod profile;
pub(crate) mod seccomp;

/// The program's own directory inside: its copy of the code.
pub(crate) const WORK: &str = "/app";
/// Where a replica finds the secrets that are files.
pub(crate) const SECRETS: &str = "/run/secrets";
/// The program's home inside.
pub(crate) const HOME: &str = "/home/app";

/// Parts of `/etc` that programs need to resolve names, check certificates, tell the time and find libraries.
const ETC: [&str; 23] = [
    "R",
    "alternatives",
    "ca-certificates",
    "ca-certificates.conf",
    "chromium.d",
    "debian_version",
    "fonts",
    "gai.conf",
    "host.conf",
    "hosts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "nsswitch.conf",
    "os-release",
    "pki",
    "protocols",
    "resolv.conf",
    "services",
    "ssl",
    "timezone",
];
/// Shared memory of a program, in bytes. It counts as its memory.
const SHARED_MEMORY: u64 = 256 << 20;

/// How programs are confined on this machine.
#[derive(Debug, Clone)]
pub(crate) struct Confiner {
    bwrap: PathBuf,
    /// Becomes another user, as root.
    setpriv: Option<PathBuf>,
}

/// What a confined program may reach.
pub(crate) struct Inside<'a> {
    /// The user it becomes, where it can be another one.
    pub(crate) user: Option<u32>,
    /// Its own files: outside, and where they are inside.
    pub(crate) own: &'a [(PathBuf, PathBuf)],
    /// What else it may read, under the same paths.
    pub(crate) reads: &'a [PathBuf],
    /// What it sees of these in `/etc`, in the place of the machine's.
    pub(crate) names: Option<Names<'a>>,
    /// What it sees as `/etc/resolv.conf`, in the place of the machine's.
    pub(crate) resolv_conf: Option<&'a Path>,
    /// Where it is started, inside.
    pub(crate) directory: &'a Path,
    /// What network it has.
    pub(crate) network: Network,
}

/// The network of a confined program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    /// One of its own, which is made for it.
    Made,
    /// One of its own, in which it is started.
    Given,
    /// The one in which it is started, which others are in, too.
    Shared,
}

/// Files that say who there is.
pub(crate) struct Names<'a> {
    pub(crate) passwd: &'a Path,
    pub(crate) group: &'a Path,
}

impl Confiner {
    /// Finds out whether programs can be confined here, by confining one; else says why not.
    pub(crate) fn detect() -> Result<Self, String> {
        let bwrap = find("bwrap").ok_or("bubblewrap is not installed (`apt-get install bubblewrap`)")?;
        let is_root = rustix::process::geteuid().is_root();
        let setpriv = if is_root {
            Some(find("setpriv").ok_or("setpriv is not installed (`apt-get install util-linux`)")?)
        } else {
            None
        };
        let confiner = Self { bwrap, setpriv };
        let user = is_root.then_some(65_534);
        let (own, reads, directory) = (&[], &[], Path::new("/"));
        let trial = confiner.sandbox(&Inside {
            user,
            own,
            reads,
            names: None,
            resolv_conf: None,
            directory,
            network: Network::Made,
        });
        let mut command = Command::new(&trial.program);
        command.env_clear().args(&trial.args).arg("--").args(&trial.before).arg("/usr/bin/true");
        let tried = command.stdin(Stdio::null()).stdout(Stdio::null()).output();
        match tried {
            Ok(output) if output.status.success() => Ok(confiner),
            Ok(output) => {
                let said =
                    String::from_utf8_lossy(&output.stderr).trim().chars().take(300).collect::<String>();
                Err(format!("bubblewrap cannot make a sandbox here: {said}"))
            }
            Err(error) => Err(format!("bubblewrap cannot be run: {error}")),
        }
    }

    /// Whether each program becomes a user of its own.
    pub(crate) fn separates_users(&self) -> bool {
        self.setpriv.is_some()
    }

    /// The sandbox for one program.
    pub(crate) fn sandbox(&self, inside: &Inside<'_>) -> Sandbox {
        let mut args = Args(Vec::new(), BTreeSet::new());
        args.add(["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]);
        // Should the supervisor be killed, its program does not stay behind without one.
        args.add(["--die-with-parent", "--hostname", "marmot"]);
        if inside.network == Network::Made {
            args.add(["--unshare-net"]);
        }
        let mut before = Vec::new();
        match (&self.setpriv, inside.user) {
            (Some(setpriv), Some(user)) => {
                args.add(["--cap-drop", "ALL", "--cap-add", "CAP_SETUID"]);
                args.add(["--cap-add", "CAP_SETGID", "--cap-add", "CAP_SETPCAP"]);
                let user = user.to_string();
                before.push(setpriv.to_string_lossy().into_owned());
                let become_user = ["--reuid", &user, "--regid", &user, "--clear-groups", "--no-new-privs"];
                let drop_all = ["--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all", "--"];
                before.extend(become_user.into_iter().chain(drop_all).map(str::to_owned));
            }
            _ => {
                args.add(["--unshare-user", "--disable-userns", "--cap-drop", "ALL"]);
                // Its supervisor is root in a user namespace of its own; the program would be, too.
                let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
                args.add(["--uid", &user.as_raw().to_string(), "--gid", &group.as_raw().to_string()]);
            }
        }
        args.system();
        if let Some(names) = &inside.names {
            args.bind("--ro-bind", names.passwd, "/etc/passwd");
            args.bind("--ro-bind", names.group, "/etc/group");
        }
        if let Some(resolv_conf) = inside.resolv_conf {
            args.bind("--ro-bind", resolv_conf, "/etc/resolv.conf");
        }
        for (outside, inside) in inside.own {
            args.bind("--bind", outside, &inside.to_string_lossy());
        }
        // After its own places: what it reads may lie below the host's `/tmp`.
        for path in inside.reads.iter().filter(|path| may_be_shown(path)) {
            args.bind("--ro-bind-try", path, &path.to_string_lossy());
        }
        args.add(["--remount-ro", "/", "--chdir", &inside.directory.to_string_lossy()]);
        Sandbox {
            program: self.bwrap.clone(),
            args: args.0,
            before,
            own_network: inside.network != Network::Shared,
            plug: None,
        }
    }
}

/// Whether programs can be confined here. It runs one for that, and waits for it.
pub fn can_confine() -> bool {
    Confiner::detect().is_ok()
}

/// Arguments of bubblewrap, and the directories they have made so far.
struct Args(Vec<String>, BTreeSet<PathBuf>);

impl Args {
    fn add<'a>(&mut self, args: impl IntoIterator<Item = &'a str>) {
        self.0.extend(args.into_iter().map(str::to_owned));
    }

    fn bind(&mut self, how: &str, outside: &Path, inside: &str) {
        // Left to bubblewrap, the directories above would be open to root alone.
        let above: Vec<&Path> = Path::new(inside).ancestors().skip(1).collect();
        for dir in above.into_iter().rev().filter(|dir| dir.parent().is_some()) {
            if self.1.insert(dir.to_owned()) {
                self.add(["--perms", "0755", "--dir", &dir.to_string_lossy()]);
            }
        }
        self.add([how, &outside.to_string_lossy(), inside]);
    }

    /// The parts of the machine that every program needs, for reading only.
    fn system(&mut self) {
        self.bind("--ro-bind", Path::new("/usr"), "/usr");
        for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
            let path = Path::new("/").join(name);
            match fs::read_link(&path) {
                Ok(target) => self.bind("--symlink", &target, &path.to_string_lossy()),
                Err(_) => self.bind("--ro-bind-try", &path, &path.to_string_lossy()),
            }
        }
        self.bind("--ro-bind-try", Path::new("/opt"), "/opt");
        for name in ETC {
            let path = Path::new("/etc").join(name);
            // Some are links into places that are not there inside.
            let source = fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
            self.bind("--ro-bind-try", &source, &path.to_string_lossy());
        }
        let cpus = Path::new("/sys/devices/system/cpu");
        self.bind("--ro-bind-try", cpus, &cpus.to_string_lossy());
        self.add(["--proc", "/proc", "--dev", "/dev"]);
        self.add(["--perms", "1777", "--size", &SHARED_MEMORY.to_string(), "--tmpfs", "/dev/shm"]);
    }
}

/// What is asked for to be readable is written by builds, but what they install may say anything about itself.
fn may_be_shown(path: &Path) -> bool {
    let whole = ["/", "/etc", "/home", "/root", "/proc", "/sys", "/dev", "/run", "/var", "/tmp"];
    let plain =
        path.is_absolute() && !path.components().any(|part| matches!(part, std::path::Component::ParentDir));
    plain
        && !whole.iter().any(|place| path == Path::new(place))
        && !["/usr", "/etc", "/proc", "/sys", "/dev"].iter().any(|shown| path.starts_with(shown))
}

pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let places = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"];
    places.iter().map(|place| Path::new(place).join(program)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_program_is_shown_more_than_single_places() {
        for place in ["/", "/root", "/home", "/var", "/data/../etc", "relative", "/proc/1", "/etc/shadow"] {
            assert!(!may_be_shown(Path::new(place)), "{place}");
        }
        assert!(may_be_shown(Path::new("/root/.pyenv/versions/3.12")));
        assert!(may_be_shown(Path::new("/var/lib/marmot/cache/envs/1/venv")));
    }
}
