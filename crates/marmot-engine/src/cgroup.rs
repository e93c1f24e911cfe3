//! Control groups: one per replica, to freeze, limit, measure and end all of its processes at once.
//!
//! Freezing and ending need version 2 of the kernel's interface, but none of its controllers; so they work where
//! version 2 is mounted beside version 1, too (the *hybrid* layout). Limits come from whichever version has the
//! controllers.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use marmot_core::id::{BuildId, ReplicaId};
use rustix::fs::{Access, access};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;

use crate::fd::waitable;
use crate::procfs::RawPid;
use crate::wanted::Limits;

/// Processes that one replica may have. Enough for thread pools of every common framework.
const MAX_PROCESSES: u32 = 1024;

/// What the names of builds' groups begin with: no id of a replica does.
const BUILD: &str = "build-";

/// Where this engine makes its groups.
#[derive(Debug, Clone, Default)]
pub(crate) struct Groups {
    /// The parent of all replicas' groups in version 2.
    unified: Option<PathBuf>,
    /// Version 2 has the controllers for limits.
    limits_in_unified: bool,
    /// The parents of all replicas' groups in the version 1 hierarchies that enforce limits.
    legacy: Vec<PathBuf>,
}

/// The group of one replica. Written to disk, so that it is found again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReplicaGroup {
    unified: Option<PathBuf>,
    legacy: Vec<PathBuf>,
}

/// One mounted hierarchy of control groups.
struct Hierarchy {
    /// This process's own group in it.
    own: PathBuf,
    /// The controllers of version 1; `None` for version 2.
    controllers: Option<Vec<String>>,
}

impl Groups {
    /// Finds out what this machine has. `tag` tells the groups of this data directory from those of others.
    pub(crate) fn detect(tag: &str) -> Self {
        let mut groups = Self::default();
        for hierarchy in hierarchies().unwrap_or_default() {
            match &hierarchy.controllers {
                None => groups.detect_unified(&hierarchy.own, tag),
                Some(controllers) => {
                    let wanted = ["memory", "pids", "cpu"];
                    let parent = hierarchy.own.join(tag);
                    if controllers.iter().any(|name| wanted.contains(&name.as_str())) && make(&parent).is_ok()
                    {
                        groups.legacy.push(parent);
                    }
                }
            }
        }
        groups
    }

    fn detect_unified(&mut self, own: &Path, tag: &str) {
        let parent = own.join(tag);
        if make(&parent).is_err() || !parent.join("cgroup.freeze").exists() {
            return;
        }
        // In version 2 a group either has processes or hands controllers to its children; only the root may do both.
        if own.join("cgroup.type").exists() {
            let alone = fs::read_to_string(own.join("cgroup.procs"))
                .is_ok_and(|procs| procs.trim() == std::process::id().to_string());
            if alone {
                let leaf = own.join("server");
                let _ = make(&leaf).and_then(|()| fs::write(leaf.join("cgroup.procs"), "0"));
            }
        }
        let hand_down = |group: &Path| fs::write(group.join("cgroup.subtree_control"), "+memory +pids +cpu");
        self.limits_in_unified = hand_down(own).and_then(|()| hand_down(&parent)).is_ok();
        self.unified = Some(parent);
    }

    /// Whether whole groups can be frozen.
    pub(crate) fn can_freeze(&self) -> bool {
        self.unified.is_some()
    }

    /// Whether the kernel can be told to reclaim memory of a group.
    pub(crate) fn can_reclaim(&self) -> bool {
        self.unified.as_ref().is_some_and(|parent| parent.join("memory.reclaim").exists())
    }

    /// Whether memory limits are enforced.
    pub(crate) fn can_limit_memory(&self) -> bool {
        self.limits_in_unified
            || self.legacy.iter().any(|parent| parent.join("memory.limit_in_bytes").exists())
    }

    /// Makes a replica's group and sets its limits.
    pub(crate) fn create(&self, replica: ReplicaId, limits: Limits) -> io::Result<ReplicaGroup> {
        self.create_named(&replica.to_string(), limits)
    }

    /// Makes a group for a replica of which nothing is known yet.
    pub(crate) fn create_without_limits(&self, id: ReplicaId) -> io::Result<ReplicaGroup> {
        self.make_named(&id.to_string())
    }

    /// Makes a build's group and sets its limits.
    pub(crate) fn create_for_build(&self, build: BuildId, limits: Limits) -> io::Result<ReplicaGroup> {
        self.create_named(&format!("{BUILD}{build}"), limits)
    }

    /// Makes the group of the browser that takes pictures of apps, and sets its limits. What an earlier engine left of it
    /// goes as what is left of builds does.
    pub(crate) fn create_for_browser(&self, limits: Limits) -> io::Result<ReplicaGroup> {
        self.create_named(&format!("{BUILD}browser"), limits)
    }

    /// Ends what an earlier engine left of builds: they are done anew.
    pub(crate) fn end_builds(&self) {
        for parent in self.unified.iter().chain(&self.legacy) {
            for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
                if entry.file_name().as_encoded_bytes().starts_with(BUILD.as_bytes()) {
                    let _ = fs::write(entry.path().join("cgroup.kill"), "1");
                    // One whose processes are not gone yet goes at the next start.
                    let _ = fs::remove_dir(entry.path());
                }
            }
        }
    }

    fn create_named(&self, name: &str, limits: Limits) -> io::Result<ReplicaGroup> {
        let group = self.make_named(name)?;
        self.limit(&group, limits)?;
        Ok(group)
    }

    fn make_named(&self, name: &str) -> io::Result<ReplicaGroup> {
        let group = ReplicaGroup {
            unified: self.unified.as_ref().map(|parent| parent.join(name)),
            legacy: self.legacy.iter().map(|parent| parent.join(name)).collect(),
        };
        // The parents as well: whoever tidies up may have taken them away while they were empty.
        self.unified.iter().chain(&self.legacy).try_for_each(|parent| make(parent))?;
        group.all().try_for_each(make)?;
        Ok(group)
    }

    /// Sets a group's limits.
    pub(crate) fn limit(&self, group: &ReplicaGroup, limits: Limits) -> io::Result<()> {
        if self.limits_in_unified
            && let Some(dir) = &group.unified
        {
            set(dir, "memory.max", limits.memory_bytes)?;
            // Without a limit on swap, a limit on memory is none.
            set(dir, "memory.swap.max", 0)?;
            set(dir, "memory.oom.group", 1)?;
            set(dir, "pids.max", MAX_PROCESSES)?;
            // A share, not a cap: an idle machine lets an app boot as fast as it can.
            set(dir, "cpu.weight", (limits.cpu_millis / 10).clamp(1, 10_000))?;
        }
        for dir in &group.legacy {
            set(dir, "memory.limit_in_bytes", limits.memory_bytes)?;
            set(dir, "memory.memsw.limit_in_bytes", limits.memory_bytes)?;
            set(dir, "pids.max", MAX_PROCESSES)?;
            set(dir, "cpu.shares", (u64::from(limits.cpu_millis) * 1024 / 1000).max(2))?;
        }
        Ok(())
    }

    /// The groups that exist for replicas, also those that an earlier engine left behind.
    pub(crate) fn existing(&self) -> Vec<(ReplicaId, ReplicaGroup)> {
        let parents = self.unified.iter().chain(&self.legacy);
        let mut ids: Vec<ReplicaId> = parents
            .filter_map(|parent| fs::read_dir(parent).ok())
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        ids.sort();
        ids.dedup();
        let at =
            |parent: &PathBuf, id: ReplicaId| Some(parent.join(id.to_string())).filter(|dir| dir.exists());
        let group = |id| ReplicaGroup {
            unified: self.unified.as_ref().and_then(|parent| at(parent, id)),
            legacy: self.legacy.iter().filter_map(|parent| at(parent, id)).collect(),
        };
        ids.into_iter().map(|id| (id, group(id))).collect()
    }

    /// Removes the parents of all groups, if they are empty.
    pub(crate) fn remove_parents(&self) {
        for parent in self.unified.iter().chain(&self.legacy) {
            let _ = fs::remove_dir(parent);
        }
    }
}

impl ReplicaGroup {
    /// The groups that somebody else has made for a process; `places`: its `/proc/PID/cgroup`. Frozen as a whole it can be
    /// where this user may write to the one of version 2.
    pub(crate) fn of_process(places: &str) -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mut group = Self::default();
        for Hierarchy { own, controllers } in mounts.lines().filter_map(|mount| hierarchy(mount, places)) {
            match controllers {
                None if access(own.join("cgroup.freeze"), Access::WRITE_OK).is_ok() => {
                    group.unified = Some(own);
                }
                Some(names) if names.iter().any(|name| name == "memory") => group.legacy.push(own),
                _ => {}
            }
        }
        group
    }

    /// The groups of this name at the top of each hierarchy, as far as they exist.
    pub(crate) fn at_the_top(name: &str) -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mut group = Self::default();
        for mount in mounts.lines() {
            let (Some((place, kind)), false) = (mount.split_once(" - "), name.is_empty()) else { continue };
            let Some(dir) = place.split(' ').nth(4).map(|top| Path::new(top).join(name)) else { continue };
            match kind.split(' ').next() {
                Some("cgroup2") if dir.is_dir() => group.unified = Some(dir),
                Some("cgroup") if dir.is_dir() => group.legacy.push(dir),
                _ => {}
            }
        }
        group
    }

    fn all(&self) -> impl Iterator<Item = &Path> {
        self.unified.iter().chain(&self.legacy).map(PathBuf::as_path)
    }

    /// Whether it can be frozen and ended as a whole.
    pub(crate) fn is_whole(&self) -> bool {
        self.unified.is_some()
    }

    /// Moves this process into the group. What it starts now is born there.
    pub(crate) fn enter(&self) -> io::Result<Home> {
        let homes: Vec<PathBuf> = hierarchies()?.into_iter().map(|hierarchy| hierarchy.own).collect();
        let home = Home { homes };
        for dir in self.all() {
            if let Err(error) = fs::write(dir.join("cgroup.procs"), "0") {
                home.restore();
                return Err(error);
            }
        }
        Ok(home)
    }

    /// The files that a process writes `0` to in order to be in it.
    pub(crate) fn ways_in(&self) -> Vec<PathBuf> {
        self.all().map(|dir| dir.join("cgroup.procs")).collect()
    }

    /// The processes in it; `None` where groups of version 2 cannot be made.
    pub(crate) fn processes(&self) -> Option<Vec<RawPid>> {
        let text = fs::read_to_string(self.unified.as_ref()?.join("cgroup.procs")).ok()?;
        Some(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// CPU time used by all that ever ran in it, in microseconds.
    pub(crate) fn cpu_micros(&self) -> Option<u64> {
        let text = fs::read_to_string(self.unified.as_ref()?.join("cpu.stat")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("usage_usec ")?.parse().ok())
    }

    /// Freezes it and waits until all of it stands still.
    pub(crate) async fn freeze(&self) -> io::Result<()> {
        let Some(dir) = &self.unified else { return Err(io::ErrorKind::Unsupported.into()) };
        fs::write(dir.join("cgroup.freeze"), "1")?;
        wait_for_event(dir, "frozen 1").await
    }

    /// Lets it run again.
    pub(crate) fn thaw(&self) -> io::Result<()> {
        let Some(dir) = &self.unified else { return Err(io::ErrorKind::Unsupported.into()) };
        fs::write(dir.join("cgroup.freeze"), "0")
    }

    /// Lets its memory go to swap while it sleeps, up to `bytes`; 0 forbids it again, and what is in swap stays there.
    ///
    /// In version 2, that is a limit of its own. Version 1 limits memory and swap as a sum, which what moves from one
    /// to the other does not change: nothing is in the way of it, and nothing is won by it.
    pub(crate) fn set_swap_limit(&self, bytes: u64) -> io::Result<()> {
        self.unified.as_ref().map_or(Ok(()), |dir| set(dir, "memory.swap.max", bytes))
    }

    /// Memory of its processes that is of no file, in bytes. `None` where version 2 does not account for it.
    pub(crate) fn anonymous_bytes(&self) -> Option<u64> {
        let text = fs::read_to_string(self.unified.as_ref()?.join("memory.stat")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("anon ")?.parse().ok())
    }

    /// Has the kernel reclaim this much of its memory, in bytes. False: it found less.
    pub(crate) fn reclaim(&self, bytes: u64) -> io::Result<bool> {
        let Some(dir) = &self.unified else { return Err(io::ErrorKind::Unsupported.into()) };
        let write = |text: String| fs::write(dir.join("memory.reclaim"), text);
        // Files of programs would have to be read again from the disk, and other replicas use them, too.
        let done = match write(format!("{bytes} swappiness=200")) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => write(bytes.to_string()),
            done => done,
        };
        match done {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            done => done.map(|()| true),
        }
    }

    /// The most memory it held at any time, in bytes.
    pub(crate) fn peak_bytes(&self) -> Option<u64> {
        let read = |dir: &Path, file: &str| fs::read_to_string(dir.join(file)).ok()?.trim().parse().ok();
        let files = ["memory.peak", "memory.memsw.max_usage_in_bytes", "memory.max_usage_in_bytes"];
        self.all().find_map(|dir| files.iter().find_map(|file| read(dir, file)))
    }

    /// Whether it was told to freeze.
    pub(crate) fn is_frozen(&self) -> bool {
        let Some(dir) = &self.unified else { return false };
        fs::read_to_string(dir.join("cgroup.freeze")).is_ok_and(|text| text.trim() == "1")
    }

    /// Ends everything in it at once, frozen or not.
    pub(crate) fn kill(&self) {
        if let Some(dir) = &self.unified {
            let _ = fs::write(dir.join("cgroup.kill"), "1");
        }
    }

    /// Waits until nothing runs in it.
    pub(crate) async fn emptied(&self) -> io::Result<()> {
        match &self.unified {
            Some(dir) if dir.exists() => wait_for_event(dir, "populated 0").await,
            _ => Ok(()),
        }
    }

    /// Removes it. Nothing may run in it any more.
    pub(crate) fn remove(&self) {
        for dir in self.all() {
            if let Err(error) = fs::remove_dir(dir)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(group = %dir.display(), %error, "a control group cannot be removed");
            }
        }
    }

    /// Whether the kernel ended one of its processes because the memory limit was reached.
    pub(crate) fn out_of_memory(&self) -> bool {
        let counts = |dir: &Path, file: &str| {
            let text = fs::read_to_string(dir.join(file)).unwrap_or_default();
            text.lines().filter_map(|line| line.strip_prefix("oom_kill ")?.parse::<u64>().ok()).any(|n| n > 0)
        };
        self.all().any(|dir| counts(dir, "memory.events") || counts(dir, "memory.oom_control"))
    }
}

/// Where a process was before it entered a replica's group.
pub(crate) struct Home {
    homes: Vec<PathBuf>,
}

impl Home {
    /// Moves this process back.
    pub(crate) fn restore(&self) {
        for home in &self.homes {
            let _ = fs::write(home.join("cgroup.procs"), "0");
        }
    }
}

/// Waits until the group's events show this line.
async fn wait_for_event(dir: &Path, line: &str) -> io::Result<()> {
    let path = dir.join("cgroup.events");
    // The kernel notifies of changes after the descriptor was last read: so it is the same one throughout.
    let events = waitable(fs::File::open(path)?, Interest::PRIORITY)?;
    let mut buffer = [0; 256];
    loop {
        let length = rustix::io::pread(events.get_ref(), &mut buffer, 0)?;
        if std::str::from_utf8(&buffer[..length]).is_ok_and(|text| text.lines().any(|seen| seen == line)) {
            return Ok(());
        }
        events.ready(Interest::PRIORITY).await?.clear_ready();
    }
}

fn make(dir: &Path) -> io::Result<()> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Sets a value where the group has it.
fn set(dir: &Path, file: &str, value: impl std::fmt::Display) -> io::Result<()> {
    match fs::OpenOptions::new().write(true).open(dir.join(file)) {
        Ok(mut file) => io::Write::write_all(&mut file, value.to_string().as_bytes()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// The hierarchies of control groups that are mounted, with this process's place in each.
fn hierarchies() -> io::Result<Vec<Hierarchy>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let places = fs::read_to_string("/proc/self/cgroup")?;
    Ok(mounts.lines().filter_map(|mount| hierarchy(mount, &places)).collect())
}

/// Reads one line of `/proc/self/mountinfo` against `/proc/self/cgroup`.
fn hierarchy(mount: &str, places: &str) -> Option<Hierarchy> {
    let (place, kind) = mount.split_once(" - ")?;
    let place: Vec<&str> = place.split(' ').collect();
    let (root, mount_point) = (*place.get(3)?, *place.get(4)?);
    let kind: Vec<&str> = kind.split(' ').collect();
    let controllers = match *kind.first()? {
        "cgroup2" => None,
        "cgroup" => {
            let options: Vec<String> = kind.last()?.split(',').map(str::to_owned).collect();
            Some(options)
        }
        _ => return None,
    };
    let own = places.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (names, path) = rest.split_once(':')?;
        let same = match &controllers {
            None => names.is_empty(),
            Some(options) => {
                !names.is_empty() && names.split(',').all(|name| options.iter().any(|option| option == name))
            }
        };
        same.then_some(path)
    })?;
    // Inside a container the mount may show only a part of the hierarchy.
    let below = if root == "/" { own } else { own.strip_prefix(root).unwrap_or("") };
    Some(Hierarchy { own: Path::new(mount_point).join(below.trim_start_matches('/')), controllers })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(mount: &str, places: &str) -> Option<(PathBuf, bool)> {
        hierarchy(mount, places).map(|found| (found.own, found.controllers.is_none()))
    }

    #[test]
    fn finds_its_place_in_the_pure_the_hybrid_and_the_container_layout() {
        let pure = "30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate";
        assert_eq!(
            own(pure, "0::/system.slice/marmot.service\n"),
            Some(("/sys/fs/cgroup/system.slice/marmot.service".into(), true))
        );
        let places = "9:name=systemd:/\n4:memory:/process/a\n1:cpu,cpuacct:/\n0::/\n";
        let memory = "40 30 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory";
        assert_eq!(own(memory, places), Some(("/sys/fs/cgroup/memory/process/a".into(), false)));
        let hybrid = "41 30 0:32 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
        assert_eq!(own(hybrid, places), Some(("/sys/fs/cgroup/unified/".into(), true)));
        let container = "42 30 0:33 /docker/ab /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory";
        assert_eq!(own(container, "4:memory:/docker/ab\n"), Some(("/sys/fs/cgroup/memory/".into(), false)));
    }

    /// Files in the place of the kernel's, as version 2 with its memory controller has them.
    #[test]
    fn in_version_two_swap_has_a_limit_of_its_own_and_memory_is_reclaimed_on_demand() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        for name in ["memory.swap.max", "memory.reclaim"] {
            fs::write(file(name), "").unwrap();
        }
        fs::write(file("memory.stat"), "file 9\nanon 8192\nanon_thp 0\n").unwrap();
        fs::write(file("memory.peak"), "4096\n").unwrap();
        let group = ReplicaGroup { unified: Some(dir.path().into()), legacy: Vec::new() };
        group.set_swap_limit(1 << 20).unwrap();
        assert_eq!(fs::read_to_string(file("memory.swap.max")).unwrap(), "1048576");
        group.set_swap_limit(0).unwrap();
        assert!(fs::read_to_string(file("memory.swap.max")).unwrap().starts_with('0'));
        assert_eq!((group.anonymous_bytes(), group.peak_bytes()), (Some(8192), Some(4096)));
        assert!(group.reclaim(4096).unwrap());
        assert_eq!(fs::read_to_string(file("memory.reclaim")).unwrap(), "4096 swappiness=200");
    }

    #[test]
    fn version_one_limits_memory_and_swap_as_a_sum() {
        let group = ReplicaGroup { unified: None, legacy: vec!["/nonexistent".into()] };
        group.set_swap_limit(1).unwrap();
        assert_eq!((group.anonymous_bytes(), group.peak_bytes()), (None, None));
        assert!(group.reclaim(1).is_err());
    }

    #[test]
    fn other_mounts_are_none() {
        assert_eq!(own("1 0 254:0 / / rw - ext4 /dev/vda rw", "0::/\n"), None);
        assert_eq!(own("nonsense", "nonsense"), None);
    }
}
