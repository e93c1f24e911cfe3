//! What tests of containers share: an engine of their own, be it Podman or Docker, images, and what their replicas say.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses some of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use marmot_core::plan::Policy;
use marmot_engine::EngineConfig;
use marmot_engine::observed::{ObservedReplica, ReplicaStage};
use marmot_engine::wanted::{Program, Variable};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::docker::Docker;
use crate::podman::{Podman, SERVE};
use crate::support::{self, Machine, app};

/// A container engine of the test's own.
pub trait Containers: Sized {
    const NAME: &str;
    fn start() -> Option<Self>;
    fn dir(&self) -> &Path;
    fn socket(&self) -> PathBuf;
    fn begin(&mut self);
    fn end(&mut self);
    fn hang(&self);
    fn resume(&self);
    fn run(&self, arguments: &[&str]) -> String;
    fn image(&self, name: &str, files: &[(&str, &str)], instructions: &[&str]) -> String;
    fn import(&self, archive: &Path, name: &str, instructions: &[&str]) -> String;
    fn containers(&self) -> Vec<String>;
    /// Removes a container at once.
    fn remove(&self, container: &str);
}

macro_rules! is_an_engine {
    ($engine:ident, $($remove:literal),*) => {
        impl Containers for $engine {
            const NAME: &str = stringify!($engine);
            fn start() -> Option<Self> { Self::start() }
            fn dir(&self) -> &Path { self.dir.path() }
            fn socket(&self) -> PathBuf { self.socket() }
            fn begin(&mut self) { self.begin(); }
            fn end(&mut self) { self.end(); }
            fn hang(&self) { self.hang(); }
            fn resume(&self) { self.resume(); }
            fn run(&self, arguments: &[&str]) -> String { self.run(arguments) }
            fn image(&self, name: &str, files: &[(&str, &str)], instructions: &[&str]) -> String {
                self.image(name, files, instructions)
            }
            fn import(&self, archive: &Path, name: &str, instructions: &[&str]) -> String {
                self.import(archive, name, instructions)
            }
            fn containers(&self) -> Vec<String> { self.containers() }
            fn remove(&self, container: &str) { self.run(&[$($remove),*, container]); }
        }
    };
}

is_an_engine!(Podman, "rm", "--force", "--time=0");
is_an_engine!(Docker, "rm", "--force");

/// Tests that are the same whichever engine it is.
#[allow(unused_macros, reason = "each test binary uses some of it")]
macro_rules! by_each_engine {
    ($($test:ident,)*) => {
        mod by_podman {
            $(#[tokio::test(flavor = "multi_thread")] async fn $test() { super::$test::<crate::podman::Podman>().await; })*
        }
        mod by_docker {
            $(#[tokio::test(flavor = "multi_thread")] async fn $test() { super::$test::<crate::docker::Docker>().await; })*
        }
    };
}

/// Packs a file system of busybox, this machine's Python, and these files.
pub fn archive_with_python(dir: &Path, files: &[(&str, &str)]) -> PathBuf {
    let archive = crate::podman::archive(dir, files);
    let script = r#"
set -e
python=$(readlink -f /usr/bin/python3)
library=$(/usr/bin/python3 -c "import sysconfig; print(sysconfig.get_path('stdlib'))")
needed=$(ldd $python $library/lib-dynload/*.so | grep -o '/[^ ]*\.so[^ ]* (0x' | cut -d' ' -f1 | sort -u)
cd / && tar -rf "$0" -h --exclude=__pycache__ --exclude=test --exclude=dist-packages --exclude='config-*' \
    $(printf '.%s ' $needed $python $library) ./usr/bin/python3
"#;
    let status = std::process::Command::new("sh").args(["-c", script]).arg(&archive).status();
    assert!(status.unwrap().success(), "this machine's Python is packed");
    archive
}

/// A machine whose container engine is this one.
pub async fn machine(engine: &impl Containers) -> Machine {
    let socket = engine.socket();
    Machine::configured(|config| EngineConfig { container_engine: Some(socket), ..config }).await
}

/// The program of an image as it is.
pub fn image(build: u128) -> Program {
    Program::Image {
        build: build.into(),
        port: None,
        command: None,
        args: None,
        uid: None,
        gid: None,
        working_directory: None,
    }
}

/// What a pull would leave.
pub fn artefact(machine: &Machine, build: u128, id: &str) {
    let artefact = machine.layout().artefact(build.into());
    fs::create_dir_all(&artefact).unwrap();
    let run = serde_json::json!({
        "path_prepend": [], "env": {}, "working_directory": "", "reads": [],
        "image": {"id": format!("sha256:{id}"), "origin": null}
    });
    fs::write(artefact.join("run.json"), run.to_string()).unwrap();
}

/// Wants an image of busybox that starts this, with these files.
pub fn activate(machine: &Machine, engine: &impl Containers, build: u128, command: &[&str], policy: &Policy) {
    let command = format!("CMD {}", serde_json::to_string(command).unwrap());
    let name = format!("localhost/test:{build}");
    let id = engine.image(&name, &[("serve", SERVE)], &["EXPOSE 8000", &command]);
    artefact(machine, build, &id);
    let greeting = Variable { name: "GREETING".to_owned(), value: "hello world".to_owned() };
    machine.activate_program(build.into(), image(build), policy, &[greeting]);
}

/// The answer to a request, as the gateway would ask for it.
pub async fn get(replica: &ObservedReplica, path: &str) -> String {
    let (ReplicaStage::Running { address } | ReplicaStage::Hibernated { address }) = replica.stage else {
        panic!("it has no address: {replica:?}")
    };
    let asking = async {
        let mut stream = support::connect(replica, address).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    };
    tokio::time::timeout(support::LIMIT, asking).await.expect("an answer in time")
}

/// The first process of a replica's container.
pub fn first_process(machine: &Machine, replica: &ObservedReplica) -> u64 {
    let text = fs::read_to_string(machine.layout().replica(&app(), replica.id).join("shim.json")).unwrap();
    serde_json::from_str::<serde_json::Value>(&text).unwrap()["pid"].as_u64().unwrap()
}

/// The lines of all logs of the app, without their times.
pub async fn logs(machine: &Machine) -> Vec<String> {
    let logs = machine.engine.logs().app(&app(), 1000).await.unwrap();
    logs.into_values().flatten().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
}

/// The same, once one of them is this.
pub async fn logs_with(machine: &Machine, line: &str) -> Vec<String> {
    let waiting = async {
        loop {
            let lines = logs(machine).await;
            if lines.iter().any(|logged| logged == line) {
                return lines;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let logged = tokio::time::timeout(support::LIMIT, waiting).await;
    match logged {
        Ok(lines) => lines,
        Err(_) => panic!("no line {line:?} in {:#?}", logs(machine).await),
    }
}

pub async fn shut_down(machine: &Machine, engine: &impl Containers) {
    machine.shut_down();
    machine.until_gone().await;
    assert_eq!(machine.leftovers(), Vec::<String>::new());
    assert_eq!(engine.containers(), Vec::<String>::new());
}
