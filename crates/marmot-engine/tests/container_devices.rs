//! GPUs of containers. There are none here, so a device that the machine has is given out as one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/contained.rs"]
mod contained;
#[path = "support/docker.rs"]
mod docker;
#[path = "support/podman.rs"]
mod podman;
mod support;

use std::fs;
use std::path::PathBuf;

use contained::{activate, first_process, logs_with, machine, shut_down};
use docker::Docker;
use marmot_engine::observed::{FailureReason, ObservedReplica};
use marmot_engine::wanted::Gpus;
use podman::Podman;
use serde_json::Value;
use support::{Machine, app, policy};

/// The description of a device, where Podman looks for such; it goes with the test.
struct Description(PathBuf);

impl Description {
    /// What is found as `/dev/gpu-of-a-test` is `/dev/null`.
    fn of(vendor: &str) -> Self {
        let edits = serde_json::json!({
            "deviceNodes": [{"path": "/dev/gpu-of-a-test", "hostPath": "/dev/null", "permissions": "rw"}],
            "env": ["GPU_OF_A_TEST=one"],
        });
        let text = serde_json::json!({
            "cdiVersion": "0.5.0", "kind": format!("{vendor}/gpu"),
            "devices": [{"name": "one", "containerEdits": edits}],
        });
        fs::create_dir_all("/etc/cdi").unwrap();
        let place = PathBuf::from(format!("/etc/cdi/{vendor}.json"));
        fs::write(&place, text.to_string()).unwrap();
        Self(place)
    }
}

impl Drop for Description {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
        // Goes only if it is empty.
        let _ = fs::remove_dir("/etc/cdi");
    }
}

/// What Podman says of a replica's container, but for its devices, for what differs from replica to replica, and for what it
/// keeps elsewhere: the filter is tried instead.
fn inspected(podman: &Podman, machine: &Machine, replica: &ObservedReplica) -> Value {
    let spec = fs::read_to_string(machine.layout().replica(&app(), replica.id).join("spec.json")).unwrap();
    let id = serde_json::from_str::<Value>(&spec).unwrap()["container"]["id"].as_str().unwrap().to_owned();
    let text = podman.run(&["inspect", &id]).replace(&replica.id.to_string(), "REPLICA");
    let mut found = serde_json::from_str::<Value>(&text).unwrap()[0].take();
    // By its Docker-compatible API alone it gives the machine's namespace of control groups, whatever is asked for.
    for elsewhere in ["Devices", "SecurityOpt", "Binds", "LogConfig", "CgroupMode"] {
        found["HostConfig"][elsewhere].take();
    }
    let config = ["User", "WorkingDir", "StopSignal", "Labels", "Cmd", "Entrypoint"];
    let config = config.map(|name| found["Config"][name].take());
    let health = found["Config"]["Healthcheck"]["Test"].take();
    // In the order of a map that Podman keeps: another one each time.
    let places = found["Mounts"].as_array_mut().unwrap();
    places.sort_by_key(|place| place["Destination"].as_str().unwrap().to_owned());
    let rest = ["HostConfig", "EffectiveCaps", "BoundingCaps", "Mounts"].map(|name| found[name].take());
    serde_json::json!([config, health, rest])
}

#[tokio::test]
async fn a_device_that_podman_knows_is_given_to_a_container_that_is_shut_in_as_every_other() {
    let Some(podman) = Podman::start() else { return };
    let mut machine = machine(&podman).await;
    let script = "busybox unshare -U true || echo \"no namespaces: $GPU_OF_A_TEST\"; cat /dev/gpu-of-a-test && echo a device; echo \"gpu: $GPU_OF_A_TEST\"; exec /serve";
    activate(&machine, &podman, 1, &["/bin/sh", "-c", script], &policy());
    let without = machine.until_running().await;
    let lines = logs_with(&machine, "gpu: ").await;
    assert!(
        !lines.contains(&"a device".to_owned()) && lines.contains(&"no namespaces: ".to_owned()),
        "{lines:?}"
    );
    let expected = inspected(&podman, &machine, &without);
    shut_down(&machine, &podman).await;

    let vendor = format!("marmot-{}.test", std::process::id());
    let _description = Description::of(&vendor);
    machine.gpus = Gpus::Devices(vec![format!("{vendor}/gpu=one")]);
    activate(&machine, &podman, 1, &["/bin/sh", "-c", script], &policy());
    let with = machine.until_running().await;
    let lines = logs_with(&machine, "gpu: one").await;
    for expected in ["a device", "no namespaces: one"] {
        assert!(lines.iter().any(|line| line == expected), "{expected} in {lines:?}");
    }
    assert_eq!(inspected(&podman, &machine, &with), expected);
    let limit = fs::read_to_string(format!("/proc/{}/limits", first_process(&machine, &with))).unwrap();
    assert!(
        limit.lines().any(|line| line.starts_with("Max core file size") && line.contains(" 0 ")),
        "{limit}"
    );
    shut_down(&machine, &podman).await;

    machine.gpus = Gpus::Count(1);
    activate(&machine, &podman, 2, &["/serve"], &policy());
    told_that_there_are_none(&machine).await;
    shut_down(&machine, &podman).await;
}

#[tokio::test]
async fn docker_without_gpus_says_so_and_so_does_an_app_that_is_no_container() {
    let Some(docker) = Docker::start() else { return };
    let mut machine = machine(&docker).await;
    for (build, gpus) in (1..).zip([Gpus::Count(2), Gpus::Devices(vec!["nvidia.com/gpu=all".to_owned()])]) {
        machine.gpus = gpus;
        activate(&machine, &docker, build, &["/serve"], &policy());
        told_that_there_are_none(&machine).await;
        shut_down(&machine, &docker).await;
    }
    machine.activate(9, &["python3", "app.py"], policy());
    let FailureReason::CouldNotStart(why) = machine.until_failed().await.reason.clone() else { panic!() };
    assert!(why.contains("containers alone"), "{why}");
}

async fn told_that_there_are_none(machine: &Machine) {
    let FailureReason::CouldNotStart(why) = machine.until_failed().await.reason.clone() else { panic!() };
    assert!(why.contains("has none to give"), "{why}");
}
