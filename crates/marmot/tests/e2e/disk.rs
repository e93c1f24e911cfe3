//! Whoever fills the disk, the platform goes on to write down what it promises.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use reqwest::Method;
use serde_json::json;

use crate::harness::{Api, Repository, Server};

/// A small disk of its own, until this goes; its mount point with it.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path, size: &str) -> Self {
        let options = format!("size={size},mode=755");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "marmot-test"]).arg(at).status();
        assert!(mount.expect("mount").success(), "this test needs to mount a disk: run it as root");
        Self(at.to_owned())
    }

    /// Writes until there is no byte left.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = File::create(&path).expect("a file");
        while file.write_all(&[0; 4096]).is_ok() {}
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily, so that a test that panics with a file open leaves no mount behind.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// Makes a project, which must be written down.
async fn writes(ada: &Api, number: u32) {
    let slug = format!("p-{number}");
    let project = json!({ "name": slug, "slug": slug, "namespace": "ada", "description": "x".repeat(450) });
    let (status, answer) = ada.send(Method::POST, "/projects", Some(&project)).await;
    assert_eq!(status, 201, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_fills_the_disk_fails_alone_and_the_database_writes_on_with_no_byte_left() {
    let data = tempfile::Builder::new().prefix("marmot-e2e-").tempdir().expect("temporary folder");
    let disk = Disk::mount(data.path(), "320m");
    let mut server = Server::start_on(data, &[]).await;
    let ada = server.user("ada").await;
    let fill = "release: cat /dev/zero > big; sleep 600\nweb: python3 -m http.server $PORT\n";
    let hog = Repository::of(&[("Procfile", fill), ("requirements.txt", "")]);
    let launcher = ada.launcher("hog", &hog).await;
    ada.post("/apps", json!({ "launcher_id": launcher["id"] })).await;
    let mut number = 0;
    let reason = loop {
        writes(&ada, number).await;
        number += 1;
        let view = ada.app("hog").view().await;
        if view["phase"] == "failed" {
            break view["reason"].to_string();
        }
    };
    assert!(reason.contains("disk") && reason.contains("full"), "{reason}");

    let filler = disk.fill();
    // Further than the journal may be followed without more room for its index, too.
    let journal = server.data().join("marmot.db-wal");
    while std::fs::metadata(&journal).expect("a journal").len() < 17 << 20 {
        writes(&ada, number).await;
        number += 1;
        assert!(number < 5000, "the journal does not grow");
    }
    assert_eq!(rustix::fs::statvfs(&disk.0).expect("a disk").f_bavail, 0);
    std::fs::remove_file(filler).expect("remove");
    writes(&ada, number).await;
    let projects = ada.get("/projects?per_page=1").await;
    assert_eq!(projects[0]["slug"], format!("p-{number}"), "{projects}");
    assert_eq!(server.terminate().await, Some(0));
    assert_eq!(server.database_check(), "ok");
}
