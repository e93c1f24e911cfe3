//! A Docker of its own: engine, storage and containers in a directory that goes with the test. It has no network to
//! give to anybody, and changes nothing of the machine's.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses some of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::podman::{archive, has, mounts_below, wait};

pub struct Docker {
    pub dir: TempDir,
    service: Option<Child>,
    /// What runs containers for it, and outlives it as with Debian's packages.
    containerd: Option<Child>,
}

impl Docker {
    /// Starts one. `None`, said aloud, where it is not installed; in CI that is an error.
    pub fn start() -> Option<Self> {
        let needed =
            ["dockerd", "containerd", "containerd-shim-runc-v2", "docker", "docker-init", "runc", "busybox"];
        let missing: Vec<&str> = needed.into_iter().filter(|tool| !has(tool)).collect();
        if !missing.is_empty() || !rustix::process::geteuid().is_root() {
            let why = format!(
                "tests with Docker need root and what `cargo xtask setup` brings, on PATH; missing: {missing:?}"
            );
            assert!(std::env::var_os("CI").is_none(), "{why}");
            eprintln!("SKIPPED: {why}");
            return None;
        }
        let mut docker = Self { dir: tempfile::tempdir().unwrap(), service: None, containerd: None };
        fs::create_dir(docker.dir.path().join("config")).unwrap();
        docker.begin_containerd();
        docker.begin();
        Some(docker)
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("docker.sock")
    }

    fn command(&self) -> Command {
        let mut command = Command::new("docker");
        command.env("DOCKER_HOST", format!("unix://{}", self.socket().display()));
        command.env("DOCKER_CONFIG", self.dir.path().join("config")).stdin(Stdio::null());
        command
    }

    fn begin_containerd(&mut self) {
        let path = |name: &str| self.dir.path().join(name);
        let config = format!(
            "version = 2\nroot = \"{0}/containerd\"\nstate = \"{0}/state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{0}/containerd.sock\"\n",
            self.dir.path().display()
        );
        fs::write(path("containerd.toml"), config).unwrap();
        let log = fs::File::create(path("containerd.log")).unwrap();
        let mut command = Command::new("containerd");
        command.arg("--config").arg(path("containerd.toml")).args(["--log-level", "warn"]);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.containerd = Some(command.spawn().unwrap());
        let socket = path("containerd.sock");
        wait("containerd", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
    }

    /// Starts the service; containers that run are as they were.
    pub fn begin(&mut self) {
        let path = |name: &str| self.dir.path().join(name);
        let log = fs::File::create(path("service.log")).unwrap();
        // What was left by one that was killed would be taken for another one that runs.
        let _ = fs::remove_file(path("docker.pid"));
        let mut command = Command::new("dockerd");
        command.arg("--host").arg(format!("unix://{}", self.socket().display()));
        command.arg("--data-root").arg(path("data")).arg("--exec-root").arg(path("exec"));
        command.arg("--containerd").arg(path("containerd.sock"));
        command.arg("--pidfile").arg(path("docker.pid")).arg("--config-file").arg(path("daemon.json"));
        command.args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"]);
        command.args(["--live-restore", "--exec-opt=native.cgroupdriver=cgroupfs", "--log-level=warn"]);
        fs::write(path("daemon.json"), "{}").unwrap();
        command.env_remove("DOCKER_HOST").stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.service = Some(command.spawn().unwrap());
        let socket = self.socket();
        // It listens before it looks after anything; then it answers nobody yet.
        let answers = || {
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
                && self.command().arg("version").output().unwrap().status.success()
        };
        wait("Docker's service", answers);
    }

    /// Ends the service, as if it had crashed.
    pub fn end(&mut self) {
        if let Some(mut service) = self.service.take() {
            let _ = service.kill();
            let _ = service.wait();
        }
        let _ = fs::remove_file(self.socket());
    }

    /// The service answers nobody, until it is resumed.
    pub fn hang(&self) {
        self.signal(Signal::STOP);
    }

    /// The service goes on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = self.service.as_ref().and_then(|service| i32::try_from(service.id()).ok());
        kill_process(pid.and_then(Pid::from_raw).unwrap(), signal).unwrap();
    }

    /// Runs a command of Docker's.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.command().args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "docker {arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Makes an image of busybox and these files, with these instructions of a `Dockerfile`.
    pub fn image(&self, name: &str, files: &[(&str, &str)], instructions: &[&str]) -> String {
        self.import(&archive(self.dir.path(), files), name, instructions)
    }

    pub fn import(&self, archive: &std::path::Path, name: &str, instructions: &[&str]) -> String {
        let mut arguments = vec!["import"];
        for instruction in instructions {
            arguments.extend(["--change", instruction]);
        }
        arguments.extend([archive.to_str().unwrap(), name]);
        let id = self.run(&arguments);
        id.trim_start_matches("sha256:").to_owned()
    }

    /// The containers there are, by name.
    pub fn containers(&self) -> Vec<String> {
        self.run(&["ps", "--all", "--format", "{{.Names}}"]).lines().map(str::to_owned).collect()
    }

    /// What is started for it by others, and outlives it.
    fn others(&self) -> Vec<Pid> {
        let needle = self.dir.path().to_str().unwrap().to_owned();
        let pids = fs::read_dir("/proc").unwrap().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let own = |pid: &i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&needle)
        };
        pids.filter(own).filter_map(Pid::from_raw).collect()
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let left = self.command().args(["ps", "--all", "--quiet"]).output();
        let left =
            left.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        if !left.trim().is_empty() {
            let _ = self.command().args(["rm", "--force"]).args(left.split_whitespace()).output();
        }
        self.end();
        if let Some(mut containerd) = self.containerd.take() {
            let _ = containerd.kill();
            let _ = containerd.wait();
        }
        for pid in self.others() {
            let _ = kill_process(pid, Signal::KILL);
        }
        for mount in mounts_below(self.dir.path()) {
            let _ = Command::new("umount").arg("--lazy").arg(mount).status();
        }
        if let Ok(groups) = fs::read_dir("/sys/fs/cgroup") {
            // Goes only while it is empty.
            groups.flatten().for_each(|hierarchy| drop(fs::remove_dir(hierarchy.path().join("docker"))));
        }
    }
}
