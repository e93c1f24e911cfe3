//! Images that are large: pulled with progress and little memory, and told in words where the disk has no room for them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/podman.rs"]
mod podman;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use marmot_engine::build::{self, BuildContext, BuildEnd, RunFile};
use marmot_engine::container::Engine;
use marmot_engine::layout::Layout;
use marmot_engine::observed::BuildOutcome;
use marmot_engine::wanted::WantedPull;
use podman::Podman;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(180);

/// Gives a registry an image with one file of zeros, which takes neither room nor time: the same compressed piece over
/// and over.
const PUBLISH: &str = r#"
import gzip, hashlib, json, sys, tarfile, urllib.request
registry, name, mib = sys.argv[1], sys.argv[2], int(sys.argv[3])
piece = bytes(32 << 20)
entry = tarfile.TarInfo("zeros")
entry.size = mib << 20
head, tail = entry.tobuf(tarfile.GNU_FORMAT), bytes(1024)
plain = hashlib.sha256(head)
layer = gzip.compress(head)
packed = gzip.compress(piece, 9)
for _ in range(mib // 32):
    plain.update(piece)
    layer += packed
plain.update(tail)
layer += gzip.compress(tail)
def digest(data): return "sha256:" + hashlib.sha256(data).hexdigest()
def send(method, url, data, kind):
    request = urllib.request.Request(url, data=data, method=method, headers={"Content-Type": kind})
    return urllib.request.urlopen(request)
def blob(data):
    base = f"http://{registry}/v2/{name}/blobs/uploads/"
    place = send("POST", base, b"", "application/octet-stream").headers["Location"]
    send("PUT", place + ("&" if "?" in place else "?") + "digest=" + digest(data), data, "application/octet-stream")
    return {"digest": digest(data), "size": len(data)}
config = json.dumps({"architecture": "amd64" if sys.argv[4] == "x86_64" else "arm64", "os": "linux",
    "config": {"Cmd": ["/x"], "ExposedPorts": {"8000/tcp": {}}},
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + plain.hexdigest()]}}).encode()
docker = "application/vnd.docker."
manifest = {"schemaVersion": 2, "mediaType": docker + "distribution.manifest.v2+json",
    "config": {"mediaType": docker + "container.image.v1+json", **blob(config)},
    "layers": [{"mediaType": docker + "image.rootfs.diff.tar.gzip", **blob(layer)}]}
send("PUT", f"http://{registry}/v2/{name}/manifests/1", json.dumps(manifest).encode(), manifest["mediaType"])
"#;

fn publish(registry: &str, name: &str, mib: u32) -> String {
    let arguments = ["-c", PUBLISH, registry, name, &mib.to_string(), std::env::consts::ARCH];
    let output = Command::new("python3").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    format!("{registry}/{name}:1")
}

async fn pull(
    podman: &Podman,
    data: &TempDir,
    id: u128,
    image: &str,
    progress: impl Fn(marmot_core::Said) + Send + Sync,
) -> Result<BuildOutcome, BuildEnd> {
    let none = PathBuf::from("/nonexistent");
    let mut context = BuildContext::new(none.clone(), none.clone(), none, data.path().join("cache"));
    context.allow_private_networks = true;
    let layout = Layout::new(data.path());
    context.run_containers_by(&Engine::at(podman.socket(), &layout));
    let wanted = WantedPull {
        image: image.to_owned(),
        owner: 1.into(),
        port: None,
        command_given: false,
        registries: Vec::new(),
    };
    let dir = layout.build(id.into());
    fs::create_dir_all(&dir).unwrap();
    let pulling = build::pull(&context, id.into(), &wanted, &dir, progress, CancellationToken::new());
    tokio::time::timeout(LIMIT, pulling).await.expect("done in time")
}

/// The most memory that this process has held, in MiB.
fn most_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().split(' ').next().unwrap().parse::<u64>().unwrap() / 1024
}

#[tokio::test]
async fn two_gigabytes_are_pulled_with_progress_and_little_memory() {
    let Some(mut podman) = Podman::start() else { return };
    let registry = podman.registry(None);
    let image = publish(&registry, "large", 2048);
    let data = tempfile::tempdir().unwrap();
    let seen = Mutex::new(Vec::new());
    let before = most_memory();
    let tell = |step: marmot_core::Said| seen.lock().unwrap().push(step.to_string());
    let outcome = pull(&podman, &data, 1, &image, tell).await.unwrap();
    assert!(outcome.summary.contains("2148 MB"), "{outcome:?}");
    let grown = most_memory() - before;
    assert!(grown < 64, "it took {grown} MiB");
    let seen = seen.into_inner().unwrap();
    assert!(seen.iter().any(|step| step.starts_with("Pulling the image: ")), "{seen:?}");
}

/// What a directory on a file system of its own takes, in MiB.
fn taken(dir: &Path) -> u64 {
    let stat = rustix::fs::statvfs(dir).unwrap();
    ((stat.f_blocks - stat.f_bfree) * stat.f_frsize) >> 20
}

#[tokio::test]
async fn a_disk_that_is_full_is_told_in_words_and_nothing_half_is_left_on_it() {
    let small = |dir: &Path| {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=48m", "small"]).arg(dir.join("graph"));
        assert!(mount.status().unwrap().success());
    };
    let Some(mut podman) = Podman::start_with(small) else { return };
    let graph = podman.dir.path().join("graph");
    let registry = podman.registry(None);
    let (large, fits) = (publish(&registry, "large", 128), publish(&registry, "fits", 32));
    let data = tempfile::tempdir().unwrap();
    let before = taken(&graph);
    let Err(BuildEnd::Failed(failure)) = pull(&podman, &data, 1, &large, |_| {}).await else { panic!() };
    assert!(failure.reason.contains("disk of this server is full"), "{failure:?}");
    assert!(podman.images().is_empty(), "{:?}", podman.images());
    assert!(taken(&graph) <= before + 1, "{} MiB are left, before it were {before}", taken(&graph));
    assert!(!Layout::new(data.path()).artefact(1.into()).exists());
    // What fits goes on as before.
    pull(&podman, &data, 2, &fits, |_| {}).await.unwrap();
    let pinned = RunFile::read(&Layout::new(data.path()).artefact(2.into())).unwrap().image.unwrap();
    assert_eq!(podman.images(), [pinned.id], "and is the only one");
}
