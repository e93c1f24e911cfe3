//! GPUs for a container, and other devices that the operator names: asked for in the way of each engine. Pure.
//!
//! Docker takes requests for devices. Podman reads over them in its Docker-compatible API and gives out nothing, without a
//! word; its own API takes the names of the Container Device Interface, for the same container.

use serde_json::{Map, Value, json};

use marmot_core::{Said, said};

use crate::container::words;
use crate::wanted::Gpus;

/// What Docker is asked for. `None`: nothing.
pub(super) fn requests(gpus: &Gpus) -> Option<Value> {
    match gpus {
        Gpus::None => None,
        Gpus::Count(count) => Some(json!([{"Count": count, "Capabilities": [["gpu"]]}])),
        Gpus::Devices(names) => Some(json!([{"Driver": "cdi", "DeviceIDs": names}])),
    }
}

/// The names Podman is asked for.
pub(super) fn names(gpus: &Gpus) -> Vec<String> {
    match gpus {
        Gpus::None => Vec::new(),
        Gpus::Count(count) => (0..*count).map(|number| format!("nvidia.com/gpu={number}")).collect(),
        Gpus::Devices(names) => names.clone(),
    }
}

/// Why an engine gives no device, from what it said, for people.
pub(super) fn refused(said: &str, gpus: &Gpus) -> Option<Said> {
    let says = |words: &str| said.contains(words);
    let no_device = says("could not select device driver") || says("CDI device") || says("nvidia-container");
    (*gpus != Gpus::None && no_device).then(|| {
        said!(
            "start-no-gpus-here",
            "its resource class has GPUs, and the container engine has none to give: choose another class, or ask the \
             operator of this installation to set them up (it says: {words})",
            words = words::short(said)
        )
    })
}

/// The body for Podman's own API that makes the container which `body` makes by the Docker-compatible one, with these
/// devices.
pub(super) fn of_podman(name: &str, body: &Value, devices: &[String]) -> Value {
    let host = &body["HostConfig"];
    let pairs = body["Env"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let env: Map<String, Value> = pairs
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    let limits = host["Ulimits"].as_array().into_iter().flatten();
    let limits: Vec<Value> =
        limits.map(|one| json!({"type": one["Name"], "soft": one["Soft"], "hard": one["Hard"]})).collect();
    let options = host["SecurityOpt"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let filter = options.filter_map(|option| option.strip_prefix("seccomp=")).next();
    let mut spec = json!({
        "name": name,
        "image": body["Image"],
        "env": env,
        "labels": body["Labels"],
        "healthconfig": body["Healthcheck"],
        "netns": {"nsmode": host["NetworkMode"]},
        "ipcns": {"nsmode": host["IpcMode"]},
        "cgroupns": {"nsmode": host["CgroupnsMode"]},
        "cap_drop": host["CapDrop"],
        "no_new_privileges": true,
        "seccomp_profile_path": filter,
        "privileged": false,
        "read_only_filesystem": host["ReadonlyRootfs"],
        "resource_limits": {
            "memory": {"limit": host["Memory"], "swap": host["MemorySwap"]},
            "cpu": {"shares": host["CpuShares"]},
            "pids": {"limit": host["PidsLimit"]},
        },
        "r_limits": limits,
        "sysctl": host["Sysctls"],
        "init": host["Init"],
        "restart_policy": host["RestartPolicy"]["Name"],
        "log_configuration": {"driver": host["LogConfig"]["Type"], "size": 16 << 20},
        "mounts": mounts(host),
        "image_volume_mode": "anonymous",
        "devices": devices.iter().map(|device| json!({"path": device})).collect::<Vec<_>>(),
    });
    for (theirs, ours) in
        [("user", "User"), ("entrypoint", "Entrypoint"), ("command", "Cmd"), ("work_dir", "WorkingDir")]
    {
        if !body[ours].is_null() {
            spec[theirs] = body[ours].clone();
        }
    }
    spec
}

fn mounts(host: &Value) -> Vec<Value> {
    let bound = host["Mounts"].as_array().into_iter().flatten().map(|mount| {
        let access = if mount["ReadOnly"] == true { "ro" } else { "rw" };
        json!({
            "type": "bind", "source": mount["Source"], "destination": mount["Target"],
            "options": ["rbind", "rprivate", access],
        })
    });
    let in_memory = host["Tmpfs"].as_object().into_iter().flatten().map(|(place, options)| {
        let options: Vec<&str> = options.as_str().unwrap_or_default().split(',').collect();
        json!({"type": "tmpfs", "source": "tmpfs", "destination": place, "options": options})
    });
    bound.chain(in_memory).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_engine_is_asked_in_its_own_way() {
        assert_eq!((requests(&Gpus::None), names(&Gpus::None)), (None, Vec::new()));
        let two = Gpus::Count(2);
        assert_eq!(requests(&two), Some(json!([{"Count": 2, "Capabilities": [["gpu"]]}])));
        assert_eq!(names(&two), ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]);
        let named = Gpus::Devices(vec!["amd.com/gpu=all".to_owned()]);
        assert_eq!(requests(&named), Some(json!([{"Driver": "cdi", "DeviceIDs": ["amd.com/gpu=all"]}])));
        assert_eq!(names(&named), ["amd.com/gpu=all"]);
    }

    #[test]
    fn who_is_given_none_is_told_so() {
        for said in [
            "could not select device driver \"\" with capabilities: [[gpu]]",
            "setting up CDI devices: unresolvable CDI devices nvidia.com/gpu=0",
        ] {
            assert!(refused(said, &Gpus::Count(1)).unwrap().contains("has none to give"), "{said}");
            assert_eq!(refused(said, &Gpus::None), None);
        }
        assert_eq!(refused("no space left on device", &Gpus::Count(1)), None);
    }
}
