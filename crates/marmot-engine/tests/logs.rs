//! Logs as people read them: the last lines, and what comes, over rotation and new replicas.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use marmot_core::AppName;
use marmot_core::id::{BuildId, ReplicaId};
use marmot_engine::layout::Layout;
use marmot_engine::{LogLine, Logs};

fn app() -> AppName {
    "iris".parse().unwrap()
}

fn add(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

async fn next<T>(stream: &mut (impl Stream<Item = T> + Unpin)) -> Option<T> {
    tokio::time::timeout(Duration::from_secs(20), stream.next()).await.expect("a line within 20 s")
}

fn line(replica: u128, text: &str) -> Option<LogLine> {
    Some(LogLine { source: format!("{}/app", ReplicaId::from(replica)), text: text.to_owned() })
}

#[tokio::test]
async fn an_app_that_never_ran_has_no_logs() {
    let data = tempfile::tempdir().unwrap();
    assert!(Logs::new(data.path()).app(&app(), 10).await.unwrap().is_empty());
    assert!(Logs::new(data.path()).build(BuildId::from(1), 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_last_lines_reach_back_into_the_rotated_part_and_are_bounded() {
    let data = tempfile::tempdir().unwrap();
    let dir = Layout::new(data.path()).replica(&app(), 1.into());
    add(&dir.join("log.1"), "one\ntwo\n");
    add(&dir.join("log"), "three\nfo\u{fffd}r\n");
    let logs = Logs::new(data.path());
    let read =
        async |lines| logs.app(&app(), lines).await.unwrap().remove(&line(1, "").unwrap().source).unwrap();
    assert_eq!(read(3).await, ["two", "three", "fo\u{fffd}r"]);
    assert_eq!(read(99).await, ["one", "two", "three", "fo\u{fffd}r"]);
    assert_eq!(read(1).await, ["fo\u{fffd}r"]);
    assert!(read(0).await.is_empty());
    let long = "x".repeat(100_000);
    add(&dir.join("log"), &format!("{long}\nend\n"));
    assert_eq!(read(2).await, [long.as_str(), "end"]);
}

#[tokio::test]
async fn following_goes_on_over_rotation_and_sees_replicas_that_are_started_later() {
    let data = tempfile::tempdir().unwrap();
    fs::create_dir(data.path().join("apps")).unwrap();
    let layout = Layout::new(data.path());
    let mut lines = pin!(Logs::new(data.path()).follow_app(&app(), 1));
    // The log of an app that has not been started yet can be followed, too.
    let waiting = tokio::time::timeout(Duration::from_millis(50), lines.next()).await;
    assert!(waiting.is_err(), "there is nothing yet");
    let first = layout.replica(&app(), 1.into()).join("log");
    add(&first, "started\n");
    assert_eq!(next(&mut lines).await, line(1, "started"));
    add(&first, "ready\nthe beginning ");
    assert_eq!(next(&mut lines).await, line(1, "ready"));
    add(&first, "of a line\n");
    assert_eq!(next(&mut lines).await, line(1, "the beginning of a line"));
    fs::rename(&first, first.with_file_name("log.1")).unwrap();
    add(&first, "rotated\n");
    assert_eq!(next(&mut lines).await, line(1, "rotated"));
    add(&layout.replica(&app(), 2.into()).join("log"), "another\n");
    assert_eq!(next(&mut lines).await, line(2, "another"));
}

#[tokio::test]
async fn following_a_build_gives_all_of_its_log_and_ends_with_it() {
    let data = tempfile::tempdir().unwrap();
    fs::create_dir(data.path().join("builds")).unwrap();
    let layout = Layout::new(data.path());
    let build = BuildId::from(7);
    let log = layout.build(build).join("log");
    add(&log, "cloning\n");
    let mut lines = pin!(Logs::new(data.path()).follow_build(build));
    assert_eq!(next(&mut lines).await.as_deref(), Some("cloning"));
    add(&log, "installing\ndone\n");
    add(&log.with_file_name("log.done"), "");
    assert_eq!(next(&mut lines).await.as_deref(), Some("installing"));
    assert_eq!(next(&mut lines).await.as_deref(), Some("done"));
    assert_eq!(next(&mut lines).await, None);
}
