//! A disk that becomes full in the midst of a build: the build fails with that reason, nothing of it stays, and the next
//! one that fits is as if nothing had been.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "build/support.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use support::{Place, Repository};

/// A small disk of its own, until this goes.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path, size: &str) -> Self {
        let options = format!("size={size},mode=755");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "marmot-test"]).arg(at).status();
        assert!(mount.unwrap().success(), "this test needs to mount a disk: run it as root");
        Self(at.to_owned())
    }

    fn used(&self) -> u64 {
        let disk = rustix::fs::statvfs(&self.0).unwrap();
        (disk.f_blocks - disk.f_bfree) * disk.f_frsize
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily, so that a test that panics with a file open leaves no mount behind.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// A place on a disk of 160 MiB, of which builds leave 16 alone; repositories are elsewhere.
fn small() -> (Place, Disk, Place) {
    let mut place = Place::new();
    let disk = Disk::mount(&place.path(""), "160m");
    fs::create_dir(place.path("wheels")).unwrap();
    place.context.limits.reserve_bytes = 16 << 20;
    (place, disk, Place::new())
}

async fn fails_for_want_of_room(place: &Place, disk: &Disk, repository: &Repository, step: &str) {
    let before = disk.used();
    let failed = place.build(repository).await;
    let failure = failed.failure();
    assert!(failure.reason.english().to_lowercase().contains("disk"), "{}", failure.reason);
    assert!(failure.reason.contains("full"), "{}", failure.reason);
    assert_eq!(failure.step, step);
    // But for the log, and what there is of a repository that others fetch from, too. A file that is gone gives its room
    // back when the last process that had it open has ended, which a killed one does a moment after it can be seen no more.
    let deadline = Instant::now() + Duration::from_secs(30);
    while disk.used() >= before + (2 << 20) {
        assert!(Instant::now() < deadline, "{} bytes are left behind", disk.used() - before);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn fits(place: &Place, repositories: &Place, name: &str) {
    let site = repositories.repository(name, &[("index.html", "fits")]);
    place.build(&site).await.outcome();
}

#[tokio::test]
async fn code_that_does_not_fit_on_the_disk_fails_with_that_reason_and_leaves_nothing() {
    let (place, disk, repositories) = small();
    fits(&place, &repositories, "before").await;
    let large = repositories.repository("large", &[("index.html", "large")]);
    let mut random = fs::File::open("/dev/urandom").unwrap();
    let mut file = fs::File::create(large.0.join("film.bin")).unwrap();
    std::io::copy(&mut std::io::Read::take(&mut random, 200 << 20), &mut file).unwrap();
    large.commit(&[]);
    fails_for_want_of_room(&place, &disk, &large, "Fetching the code").await;
    fits(&place, &repositories, "after").await;
}

#[tokio::test]
async fn a_script_that_fills_the_disk_fails_with_that_reason_and_leaves_nothing() {
    let (place, disk, repositories) = small();
    fits(&place, &repositories, "before").await;
    let fill = "release: head -c 400000000 /dev/zero > big\nweb: python3 -m http.server $PORT\n";
    let hog = repositories.repository("hog", &[("Procfile", fill), ("requirements.txt", "")]);
    fails_for_want_of_room(&place, &disk, &hog, "Running the release").await;
    // One that writes slowly, and would go on for long: it is not waited for.
    let slow = "release: while true; do head -c 8000000 /dev/zero >> big || exit 1; done; sleep 600\n\
                web: python3 -m http.server $PORT\n";
    hog.commit(&[("Procfile", slow)]);
    fails_for_want_of_room(&place, &disk, &hog, "Running the release").await;
    fits(&place, &repositories, "after").await;
}

#[tokio::test]
async fn a_build_that_keeps_more_than_it_may_is_ended_however_much_room_there_is() {
    let mut place = Place::new();
    place.context.limits.disk_bytes = 32 << 20;
    let fill = "release: head -c 200000000 /dev/zero > big; sleep 600\nweb: python3 -m http.server $PORT\n";
    let hog = place.repository("hog", &[("Procfile", fill), ("requirements.txt", "")]);
    let failed = place.build(&hog).await;
    let reason = &failed.failure().reason;
    assert!(reason.contains("keeps more than 32 MiB on disk, which is all it may"), "{reason}");
}
