//! What is asked of the engine for a replica's container: decided from the revision and what the image says. Pure.
//!
//! Nobody who launches anything can name a right, a mount, a device or a network here: none of it is read from anywhere.

use std::collections::BTreeMap;
use std::path::Path;

use rustix::process::Resource;
use serde_json::{Value, json};

use super::gpus;
use crate::confine::profile::profile;
use crate::confine::{HOME, SECRETS};
use crate::container::image::ImageFacts;
use crate::container::{LABEL_APP, LABEL_DATA, LABEL_REPLICA, allowed};
use crate::wanted::{Gpus, Limits};

/// Processes that one container may have, as for other replicas.
const MAX_PROCESSES: u32 = 1024;
/// Files and sockets that one process may have open.
const DESCRIPTORS: u64 = 16_384;
/// Processes that all who share a user id may have: `MAX_PROCESSES` is what limits a container.
const USERS_PROCESSES: u64 = 32_768;
/// Longest log that the engine keeps; ours is elsewhere.
const ENGINES_LOG: &str = "16m";
/// What places in memory may hold, where the replica has none on the disk.
const IN_MEMORY: &str = "256m";

/// Who the program is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Who {
    /// A user that only this replica has; it owns nothing in the image.
    Own(u32),
    /// The one that the launcher says.
    Given { uid: u32, gid: u32 },
    /// The one that the image says, who finds everything as the image has it.
    Images,
}

/// Why there is nobody to run it as.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the launcher says that the image is run as root (user id 0), which is root of this machine's kernel, too: give it \
     another user id, or none"
)]
pub(in crate::runtime) struct AsRoot;

/// Decides who the program is. `own`: the id that only this replica has.
pub(super) fn who(uid: Option<u32>, gid: Option<u32>, image: &ImageFacts, own: u32) -> Result<Who, AsRoot> {
    let name = image.user.split(':').next().unwrap_or_default().trim();
    let is_root = name.is_empty() || name == "root" || name.parse() == Ok(0u32);
    match uid {
        Some(0) => Err(AsRoot),
        Some(uid) if name.parse() == Ok(uid) && gid.is_none() => Ok(Who::Images),
        Some(uid) => Ok(Who::Given { uid, gid: gid.unwrap_or(uid) }),
        None if is_root => Ok(Who::Own(own)),
        None => Ok(Who::Images),
    }
}

impl Who {
    /// The user id that files on this machine are given to, so that the program can read them; `None` when it cannot be
    /// told, or files cannot be given away. `on_disk`: the replica's own places are.
    pub(super) fn reader(&self, image: &ImageFacts, on_disk: bool) -> Option<u32> {
        match self {
            Self::Own(user) | Self::Given { uid: user, .. } => on_disk.then_some(*user),
            Self::Images if rustix::process::geteuid().is_root() => {
                image.user.split(':').next()?.parse().ok()
            }
            Self::Images => None,
        }
    }
}

/// What a container is made from.
pub(super) struct Making<'a> {
    pub(super) image: &'a ImageFacts,
    pub(super) who: &'a Who,
    pub(super) command: Option<&'a [String]>,
    pub(super) args: Option<&'a [String]>,
    pub(super) working_directory: Option<&'a str>,
    pub(super) env: &'a BTreeMap<String, String>,
    pub(super) limits: Limits,
    pub(super) gpus: &'a Gpus,
    /// Its places on the disk; without them it has some in memory.
    pub(super) places: Option<Places<'a>>,
    /// What it sees as `/etc/resolv.conf`, where it has a way out.
    pub(super) resolv_conf: Option<&'a Path>,
    /// Where its secrets are that are files, if there are some.
    pub(super) secrets: Option<&'a Path>,
    /// Where the filter of its system calls is, for an engine that reads it from a file.
    pub(super) seccomp: &'a Path,
    pub(super) tag: &'a str,
    pub(super) app: &'a str,
    pub(super) replica: &'a str,
    pub(super) podman: bool,
}

/// What it may write, on this machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places<'a> {
    pub(super) home: &'a Path,
    pub(super) tmp: &'a Path,
}

impl Making<'_> {
    /// The body of the request that makes it.
    pub(super) fn body(&self) -> Value {
        let user = match self.who {
            Who::Own(uid) => Some(format!("{uid}:{uid}")),
            Who::Given { uid, gid } => Some(format!("{uid}:{gid}")),
            Who::Images => None,
        };
        let mut body = json!({
            "Image": self.image.id,
            "Env": self.environment(),
            "Labels": {LABEL_DATA: self.tag, LABEL_APP: self.app, LABEL_REPLICA: self.replica},
            "AttachStdin": false,
            "OpenStdin": false,
            "Tty": false,
            // One that the image brings would keep a sleeping app busy.
            "Healthcheck": {"Test": ["NONE"]},
            "HostConfig": self.host(),
        });
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                body[name] = value;
            }
        };
        set("User", user.map(Value::from));
        set("Entrypoint", self.command.map(|words| json!(words)));
        set("Cmd", self.args.map(|words| json!(words)));
        set("WorkingDir", self.working_directory.map(Value::from));
        body
    }

    fn environment(&self) -> Vec<String> {
        let mut env = self.env.clone();
        if *self.who != Who::Images && !self.image.env.contains_key("HOME") {
            env.entry("HOME".to_owned()).or_insert_with(|| HOME.to_owned());
        }
        env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    fn host(&self) -> Value {
        let memory = self.limits.memory_bytes;
        let limit = |name: &str, number: u64| json!({"Name": name, "Soft": number, "Hard": number});
        // One takes the place of a file, the other the text.
        let filter = if self.podman { self.seccomp.display().to_string() } else { profile().to_string() };
        let log = if self.podman { "k8s-file" } else { "json-file" };
        let mut host = json!({
            // Not even the loopback interface of anybody else; its way out is made by us.
            "NetworkMode": "none",
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges", format!("seccomp={filter}")],
            "Privileged": false,
            "PublishAllPorts": false,
            "ReadonlyRootfs": matches!(self.who, Who::Own(_)),
            "Memory": memory,
            // Without a limit on swap, a limit on memory is none.
            "MemorySwap": memory,
            "CpuShares": (u64::from(self.limits.cpu_millis) * 1024 / 1000).max(2),
            "PidsLimit": MAX_PROCESSES,
            "Ulimits": [
                limit("nofile", allowed(Resource::Nofile, DESCRIPTORS)),
                limit("nproc", allowed(Resource::Nproc, USERS_PROCESSES)),
                // A core dump would put the memory of a program, with its secrets, where the host keeps them.
                limit("core", 0),
            ],
            "Sysctls": {"net.ipv4.ip_unprivileged_port_start": "0"},
            "IpcMode": "private",
            "CgroupnsMode": "private",
            // The first process of a container ignores being asked to end, and reaps nobody; this one does both.
            "Init": true,
            "RestartPolicy": {"Name": "no"},
            "LogConfig": {"Type": log, "Config": {"max-size": ENGINES_LOG}},
            "Mounts": self.mounts(),
            "Tmpfs": self.in_memory(),
        });
        // Podman is asked in another way (`gpus.rs`).
        if let Some(requests) = gpus::requests(self.gpus).filter(|_| !self.podman) {
            host["DeviceRequests"] = requests;
        }
        host
    }

    fn mounts(&self) -> Vec<Value> {
        let bind = |from: &Path, to: &str, read_only: bool| json!({"Type": "bind", "Source": from, "Target": to, "ReadOnly": read_only});
        let mut mounts = Vec::new();
        if let (Some(places), true) = (self.places, *self.who != Who::Images) {
            mounts.push(bind(places.home, HOME, false));
            if matches!(self.who, Who::Own(_)) {
                mounts.push(bind(places.tmp, "/tmp", false));
            }
        }
        mounts.extend(self.secrets.map(|dir| bind(dir, SECRETS, true)));
        mounts.extend(self.resolv_conf.map(|file| bind(file, "/etc/resolv.conf", true)));
        mounts
    }

    /// What is only in memory, and counts as memory of the replica.
    fn in_memory(&self) -> BTreeMap<&'static str, String> {
        let mut places = BTreeMap::new();
        let open = || format!("rw,nosuid,nodev,size={IN_MEMORY},mode=1777");
        if matches!(self.who, Who::Own(_)) {
            places.insert("/run", open());
            places.insert("/var/tmp", open());
        }
        if self.places.is_none() && *self.who != Who::Images {
            places.insert(HOME, open());
            if matches!(self.who, Who::Own(_)) {
                places.insert("/tmp", open());
            }
        }
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(user: &str) -> ImageFacts {
        ImageFacts { id: "sha256:abc".to_owned(), user: user.to_owned(), ..ImageFacts::default() }
    }

    fn made(who: &Who, image: &ImageFacts, env: &BTreeMap<String, String>) -> Value {
        let places = Places { home: Path::new("/d/home"), tmp: Path::new("/d/tmp") };
        Making {
            image,
            who,
            command: None,
            args: None,
            working_directory: None,
            env,
            limits: Limits { memory_bytes: 64 << 20, cpu_millis: 500 },
            gpus: &Gpus::None,
            places: Some(places),
            resolv_conf: None,
            secrets: None,
            seccomp: Path::new("/d/seccomp.json"),
            tag: "marmot-1",
            app: "iris",
            replica: "r",
            podman: true,
        }
        .body()
    }

    #[test]
    fn nobody_is_root() {
        for root in ["", "root", "0", "0:0", "root:root"] {
            assert_eq!(who(None, None, &image(root), 7), Ok(Who::Own(7)), "{root}");
        }
        assert_eq!(who(Some(0), None, &image("app"), 7), Err(AsRoot));
        assert_eq!(who(None, None, &image("app:users"), 7), Ok(Who::Images));
        assert_eq!(who(Some(1000), None, &image("1000:100"), 7), Ok(Who::Images));
        assert_eq!(who(Some(1000), None, &image("app"), 7), Ok(Who::Given { uid: 1000, gid: 1000 }));
        assert_eq!(who(Some(1000), Some(100), &image(""), 7), Ok(Who::Given { uid: 1000, gid: 100 }));
    }

    #[test]
    fn every_container_is_shut_in() {
        for who in [Who::Own(7), Who::Given { uid: 1000, gid: 100 }, Who::Images] {
            let body = made(&who, &image("app"), &BTreeMap::new());
            let host = &body["HostConfig"];
            assert_eq!(host["NetworkMode"], "none");
            assert_eq!(host["CapDrop"], json!(["ALL"]));
            assert_eq!(host["SecurityOpt"], json!(["no-new-privileges", "seccomp=/d/seccomp.json"]));
            assert_eq!(host["Memory"], host["MemorySwap"]);
            assert_eq!((&host["Privileged"], &host["PublishAllPorts"]), (&json!(false), &json!(false)));
            for absent in
                ["CapAdd", "Devices", "DeviceRequests", "PidMode", "UsernsMode", "Binds", "PortBindings"]
            {
                assert_eq!(host[absent], Value::Null, "{absent}");
            }
            assert_eq!(body["Labels"]["marmot.data"], "marmot-1");
        }
    }

    #[test]
    fn who_owns_nothing_in_the_image_gets_places_and_who_does_finds_it_as_it_is() {
        let env = BTreeMap::new();
        let own = made(&Who::Own(7), &image(""), &env);
        assert_eq!((&own["User"], &own["HostConfig"]["ReadonlyRootfs"]), (&json!("7:7"), &json!(true)));
        assert_eq!(own["Env"], json!(["HOME=/home/app"]));
        assert_eq!(own["HostConfig"]["Mounts"].as_array().unwrap().len(), 2);
        let given = made(&Who::Given { uid: 1000, gid: 100 }, &image(""), &env);
        assert_eq!(given["HostConfig"]["ReadonlyRootfs"], false);
        assert_eq!(given["HostConfig"]["Mounts"].as_array().unwrap().len(), 1);
        let images = made(&Who::Images, &image("app"), &env);
        assert_eq!((&images["User"], &images["Env"]), (&Value::Null, &json!([])));
        assert_eq!(images["HostConfig"]["Mounts"], json!([]));
        let with_home = ImageFacts { env: [("HOME".to_owned(), "/x".to_owned())].into(), ..image("") };
        assert_eq!(
            made(&Who::Own(7), &with_home, &env)["Env"],
            json!([]),
            "the image says where its home is"
        );
    }
}
