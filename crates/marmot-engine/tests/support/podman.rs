//! A Podman of its own: engine, storage and registry in a directory that goes with the test.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses some of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

#[path = "port.rs"]
mod port;

use port::Port;

/// How long a service may take to begin.
const BEGINS_WITHIN: Duration = Duration::from_secs(30);

/// Answers HTTP with what its environment says, and a number that grows. A busybox's shell, since images must be small.
pub const SERVE: &str = r#"#!/bin/sh
echo "listening on $PORT as $(id -u)"
mkdir -p "$HOME/www/cgi-bin" && cd "$HOME/www" || exit 9
cat > cgi-bin/env <<'EOF'
#!/bin/sh
printf 'Content-Type: text/plain\r\n\r\n'
env
EOF
chmod +x cgi-bin/env
echo hello > index.html
exec httpd -f -p "$PORT" -h .
"#;

pub struct Podman {
    pub dir: TempDir,
    service: Option<Child>,
    registry: Option<Child>,
    /// Of the registry, also once that has ended.
    port: Option<Port>,
}

impl Podman {
    /// Starts one. `None`, said aloud, where it is not installed; in CI that is an error.
    pub fn start() -> Option<Self> {
        Self::start_with(|_| {})
    }

    /// The same; `prepare` is given the directory before anything is in it, where images are kept in `graph`.
    pub fn start_with(prepare: impl FnOnce(&Path)) -> Option<Self> {
        let needed = ["podman", "runc", "docker-registry", "busybox", "catatonit"];
        let missing: Vec<&str> = needed.into_iter().filter(|tool| !has(tool)).collect();
        let root = rustix::process::geteuid().is_root();
        if !missing.is_empty() || !root {
            let why = format!(
                "container tests need root, podman, runc, docker-registry and busybox-static; missing: {missing:?}"
            );
            assert!(std::env::var_os("CI").is_none(), "{why}");
            eprintln!("SKIPPED: {why}");
            return None;
        }
        Some(Self::here_with(prepare))
    }

    /// Starts one of the user that this test runs as.
    pub fn here() -> Self {
        Self::here_with(|_| {})
    }

    fn here_with(prepare: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["run", "graph", "tmp", "networks", "xdg"] {
            fs::create_dir(path(name)).unwrap();
        }
        prepare(dir.path());
        let engine = format!(
            "[containers]\ndefault_ulimits = [\"nofile=4096:4096\", \"nproc=4096:4096\"]\n\
             [engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nlock_type = \"file\"\n\
             tmp_dir = \"{0}/tmp\"\nstatic_dir = \"{0}/graph/libpod\"\nvolume_path = \"{0}/graph/volumes\"\n\
             [network]\nnetwork_config_dir = \"{0}/networks\"\n",
            dir.path().display()
        );
        fs::write(path("containers.conf"), engine).unwrap();
        let storage = format!(
            "[storage]\ndriver = \"overlay\"\nrunroot = \"{0}/run\"\ngraphroot = \"{0}/graph\"\n",
            dir.path().display()
        );
        fs::write(path("storage.conf"), storage).unwrap();
        fs::write(path("policy.json"), r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).unwrap();
        fs::write(path("registries.conf"), "unqualified-search-registries = []\n").unwrap();
        fs::write(path("auth.json"), "{}").unwrap();
        let mut podman = Self { dir, service: None, registry: None, port: None };
        podman.begin();
        podman
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("podman.sock")
    }

    fn command(&self, program: &str) -> Command {
        let path = |name: &str| self.dir.path().join(name);
        let mut command = Command::new(program);
        command.env("CONTAINERS_CONF", path("containers.conf"));
        command.env("CONTAINERS_STORAGE_CONF", path("storage.conf"));
        command.env("CONTAINERS_REGISTRIES_CONF", path("registries.conf"));
        command.env("REGISTRY_AUTH_FILE", path("auth.json")).env("TMPDIR", path("tmp"));
        if rustix::process::geteuid().is_root() {
            command.env_remove("XDG_RUNTIME_DIR");
        } else {
            command.env("XDG_RUNTIME_DIR", path("xdg"));
        }
        command.env_remove("DOCKER_HOST").stdin(Stdio::null());
        // What watches a container leaves a file where it was started when that container is out of memory.
        command.current_dir(self.dir.path());
        command
    }

    /// Starts the service; containers that run are as they were.
    pub fn begin(&mut self) {
        let log = fs::File::create(self.dir.path().join("service.log")).unwrap();
        let mut command = self.command("podman");
        command.args(["system", "service", "--time=0"]).arg(format!("unix://{}", self.socket().display()));
        self.service = Some(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
        let socket = self.socket();
        wait("podman's service", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
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
        self.signal(rustix::process::Signal::STOP);
    }

    /// The service goes on.
    pub fn resume(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = self.service.as_ref().and_then(|service| i32::try_from(service.id()).ok());
        let pid = pid.and_then(rustix::process::Pid::from_raw).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Runs a command of Podman's.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.command("podman").args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "podman {arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Runs a command of Podman's that may fail.
    pub fn try_run(&self, arguments: &[&str]) -> Option<String> {
        let output = self.command("podman").args(arguments).output().unwrap();
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Makes an image of busybox and these files, with these instructions of a `Dockerfile`.
    pub fn image(&self, name: &str, files: &[(&str, &str)], instructions: &[&str]) -> String {
        self.image_with(name, files, &[], instructions)
    }

    /// The same with files and directories of this machine, and with the libraries that its programs need.
    pub fn image_with(
        &self,
        name: &str,
        files: &[(&str, &str)],
        machines: &[PathBuf],
        instructions: &[&str],
    ) -> String {
        self.import(&archive_with(self.dir.path(), files, machines), name, instructions)
    }

    /// Makes an image of what is packed in `archive`.
    pub fn import(&self, archive: &Path, name: &str, instructions: &[&str]) -> String {
        let mut arguments = vec!["import"];
        for instruction in instructions {
            arguments.extend(["--change", instruction]);
        }
        arguments.extend([archive.to_str().unwrap(), name]);
        self.run(&arguments);
        self.run(&["image", "inspect", "--format", "{{.Id}}", name])
    }

    /// The archive of the last image that was made.
    pub fn archive(&self) -> PathBuf {
        self.dir.path().join("image.tar")
    }

    /// A registry on this machine; with a name and a password, if they are given.
    pub fn registry(&mut self, login: Option<(&str, &str)>) -> String {
        let held = Port::hold();
        let port = held.number;
        let auth = login.map_or(String::new(), |(name, password)| {
            let htpasswd = self.dir.path().join("htpasswd");
            // bcrypt is all that the registry takes.
            let hashed = Command::new("python3")
                .args([
                    "-c",
                    "import crypt,sys; print(crypt.crypt(sys.argv[1], '$2b$05$' + 'a' * 22))",
                    password,
                ])
                .output()
                .unwrap();
            fs::write(&htpasswd, format!("{name}:{}", String::from_utf8_lossy(&hashed.stdout))).unwrap();
            format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", htpasswd.display())
        });
        let config = self.dir.path().join("registry.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}/registry}}, delete: {{enabled: true}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n{auth}",
            self.dir.path().display()
        );
        fs::write(&config, text).unwrap();
        let insecure = format!(
            "unqualified-search-registries = []\n[[registry]]\nlocation = \"127.0.0.1:{port}\"\ninsecure = true\n"
        );
        fs::write(self.dir.path().join("registries.conf"), insecure).unwrap();
        let log = fs::File::create(self.dir.path().join("registry.log")).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(config).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        (self.registry, self.port) = (Some(command.spawn().unwrap()), Some(held));
        wait("the registry", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        // The service has read the list of registries when it began.
        self.end();
        self.begin();
        format!("127.0.0.1:{port}")
    }

    /// Lets the service speak to another registry on this machine without certificates.
    pub fn trust(&mut self, port: u16) {
        let list = self.dir.path().join("registries.conf");
        let more = format!("[[registry]]\nlocation = \"127.0.0.1:{port}\"\ninsecure = true\n");
        fs::write(&list, fs::read_to_string(&list).unwrap() + &more).unwrap();
        self.end();
        self.begin();
    }

    /// Ends the registry.
    pub fn end_registry(&mut self) {
        if let Some(mut registry) = self.registry.take() {
            let _ = registry.kill();
            let _ = registry.wait();
        }
    }

    /// Gives an image to a registry under this name, and forgets it here.
    pub fn push(&self, image: &str, name: &str, login: Option<(&str, &str)>) {
        let login = login.map(|(name, password)| format!("{name}:{password}"));
        let mut arguments = vec!["push", "--quiet"];
        arguments.extend(login.iter().flat_map(|login| ["--creds", login]));
        arguments.extend([image, name]);
        self.run(&arguments);
    }

    /// The containers there are, by name.
    pub fn containers(&self) -> Vec<String> {
        self.run(&["ps", "--all", "--format", "{{.Names}}"]).lines().map(str::to_owned).collect()
    }

    /// The ids of the images there are.
    pub fn images(&self) -> Vec<String> {
        self.run(&["images", "--all", "--no-trunc", "--format", "{{.ID}}"])
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        self.end_registry();
        self.end();
        let _ = self.command("podman").args(["rm", "--all", "--force", "--time=0"]).output();
        let mut unmount = self.command("podman");
        let _ = unmount.args(["image", "unmount", "--all"]).output();
        for mount in mounts_below(self.dir.path()) {
            let _ = Command::new("umount").arg("--lazy").arg(mount).status();
        }
        if let Ok(groups) = fs::read_dir("/sys/fs/cgroup") {
            // Goes only while it is empty.
            groups
                .flatten()
                .for_each(|hierarchy| drop(fs::remove_dir(hierarchy.path().join("libpod_parent"))));
        }
    }
}

/// A file system of busybox and these files, packed.
pub fn archive(dir: &Path, files: &[(&str, &str)]) -> PathBuf {
    archive_with(dir, files, &[])
}

/// The same with files and directories of this machine.
fn archive_with(dir: &Path, files: &[(&str, &str)], machines: &[PathBuf]) -> PathBuf {
    let root = tempfile::tempdir_in(dir).unwrap();
    // As it is here, so it is in the image.
    fs::set_permissions(root.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for dir in ["bin", "etc", "tmp", "var/tmp", "run", "proc", "dev", "sys"] {
        fs::create_dir_all(root.path().join(dir)).unwrap();
    }
    ["tmp", "var/tmp"].iter().for_each(|dir| open_to_all(&root.path().join(dir)));
    let busybox = find("busybox").unwrap();
    fs::copy(busybox, root.path().join("bin/busybox")).unwrap();
    for applet in [
        "sh", "sed", "httpd", "id", "env", "cat", "mkdir", "chmod", "sleep", "nc", "ls", "dd", "touch",
        "grep", "head", "kill", "wget", "ps", "printf", "rm", "ip", "ln", "df",
    ] {
        std::os::unix::fs::symlink("busybox", root.path().join("bin").join(applet)).unwrap();
    }
    fs::write(
        root.path().join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\napp:x:1234:1234::/home/me:/bin/sh\n",
    )
    .unwrap();
    fs::write(root.path().join("etc/group"), "root:x:0:\napp:x:1234:\n").unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    machines.iter().for_each(|path| copy_with_libraries(path, root.path()));
    let archive = dir.join("image.tar");
    let tarred = Command::new("tar").arg("-C").arg(root.path()).arg("-cf").arg(&archive).arg(".").status();
    assert!(tarred.unwrap().success());
    archive
}

pub fn mounts_below(dir: &Path) -> Vec<String> {
    let mut text = String::new();
    let _ = fs::File::open("/proc/self/mounts").and_then(|mut file| file.read_to_string(&mut text));
    let places = text.lines().filter_map(|line| line.split(' ').nth(1));
    let mut below: Vec<String> =
        places.filter(|place| Path::new(place).starts_with(dir)).map(str::to_owned).collect();
    below.sort_by_key(|place| std::cmp::Reverse(place.len()));
    below
}

/// Copies a file or directory of this machine below `root`, to the same place, with the libraries that it needs.
fn copy_with_libraries(path: &Path, root: &Path) {
    let script = r#"
set -e
copy() {
    [ -e "$2$1" ] && return
    mkdir -p "$2$(dirname "$1")"
    cp -a "$1" "$2$1"
}
copy "$1" "$2"
rm -rf "$2$1/test" "$2$1/dist-packages" "$2$1/idlelib"
if [ -d "$1" ]; then find "$1" -name '*.so*' -exec ldd {} +; else ldd "$(readlink -f "$1")"; fi 2>/dev/null |
    grep -o '/[^ :]*' | sort -u | while read -r library; do
        mkdir -p "$2$(dirname "$library")"
        [ -e "$2$library" ] || cp -L "$library" "$2$library" || true
    done
"#;
    let status = Command::new("sh").args(["-c", script, "sh"]).arg(path).arg(root).status().unwrap();
    assert!(status.success(), "{} could not be copied", path.display());
}

fn open_to_all(dir: &Path) {
    fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
}

pub fn has(tool: &str) -> bool {
    find(tool).is_some()
}

pub fn find(tool: &str) -> Option<PathBuf> {
    let places = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&places).chain(more).map(|place| place.join(tool)).find(|path| path.is_file())
}

pub fn wait(what: &str, is_there: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_there() {
        assert!(began.elapsed() < BEGINS_WITHIN, "{what} does not begin");
        std::thread::sleep(Duration::from_millis(10));
    }
}
