//! What every runtime promises, checked against each of them.

use std::ops::Range;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use marmot_core::gate::GateState;
use marmot_core::id::ReplicaId;
use marmot_core::scaling::Concurrency;
use marmot_core::{Clock, Moment};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::fake::FakeRuntime;
use super::local::{LocalRuntime, Settings};
use super::{Runtime, Seen, State, Want};
use crate::build::RunFile;
use crate::cgroup::Groups;
use crate::config::ShimCommand;
use crate::container::{ContainerEngine, PinnedImage};
use crate::hibernate::Pager;
use crate::hibernate::means::Way;
use crate::layout::Layout;
use crate::nudge::Nudge;
use crate::observed::Memory;
use crate::wanted::{Gpus, Limits, Program, Revision};

#[path = "../../tests/support/podman.rs"]
mod podman;

const LIMIT: Duration = Duration::from_secs(30);

struct Under<'a> {
    runtime: &'a dyn Runtime,
    nudge: &'a Nudge,
    clock: Clock,
}

fn revision(command: &[&str]) -> Arc<Revision> {
    Arc::new(Revision {
        id: 1.into(),
        app: "iris".parse().unwrap(),
        url: "http://iris.localhost".to_owned(),
        program: Program::Built {
            build: 1.into(),
            command: Some(command.iter().map(|&word| word.to_owned()).collect()),
            port: None,
        },
        variables: Vec::new(),
        secrets: Vec::new(),
        limits: Limits { memory_bytes: 256 << 20, cpu_millis: 1000 },
        gpus: Gpus::None,
        outbound: crate::wanted::Outbound::None,
    })
}

impl Under<'_> {
    /// Waits as the reconcile loop does: each change is nudged.
    async fn until(&self, what: &str, enough: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
        let app = "iris".parse().unwrap();
        let waiting = async {
            loop {
                let seen = self.runtime.observe(&app);
                if enough(&seen) {
                    return seen;
                }
                self.nudge.taken().await;
            }
        };
        let waited = tokio::time::timeout(LIMIT, waiting).await;
        waited.unwrap_or_else(|_| panic!("not {what}: {:?}", self.runtime.observe(&app)))
    }

    async fn until_awake(&self) -> Seen {
        self.until("awake", |seen| matches!(seen, [Seen { state: State::Awake(_), .. }])).await.remove(0)
    }

    async fn until_asleep(&self) -> Seen {
        self.until("asleep", |seen| matches!(seen, [Seen { state: State::Asleep(_), .. }])).await.remove(0)
    }

    async fn check(&self, serves: &[&str]) {
        self.check_with(&revision(serves), &revision(&["false"])).await;
    }

    /// `serves` listens on its port and goes on; `ends` does not.
    async fn check_with(&self, serves: &Arc<Revision>, ends: &Arc<Revision>) {
        let id = ReplicaId::from(7);
        self.runtime.ensure(id, Want::Awake);
        assert!(self.runtime.apps().is_empty(), "what does not exist is not made by asking for a state");

        self.runtime.start(id, serves, Concurrency::Requests(5));
        let first = self.until_awake().await;
        assert_eq!((first.id, first.gate.state()), (id, GateState::Open));
        self.runtime.start(id, serves, Concurrency::Requests(5));
        assert_eq!(
            self.runtime.observe(&"iris".parse().unwrap()).len(),
            1,
            "starting it twice is starting it once"
        );

        assert!(first.gate.try_sleep());
        self.runtime.ensure(id, Want::Asleep);
        assert_eq!(self.until_asleep().await.gate.state(), GateState::Asleep);
        self.runtime.ensure(id, Want::Awake);
        let awake = self.until_awake().await;
        assert!(Arc::ptr_eq(&awake.gate, &first.gate) && awake.gate.state() == GateState::Open);

        let inside = awake.gate.enter(self.clock.now()).unwrap();
        self.runtime.ensure(id, Want::Asleep);
        tokio::task::yield_now().await;
        assert_eq!(self.until_awake().await.gate.inside(), 1, "nobody is frozen while at work");
        drop(inside);
        assert!(awake.gate.try_sleep());
        self.runtime.ensure(id, Want::Asleep);
        self.until_asleep().await;

        self.runtime.ensure(id, Want::Gone);
        self.until("gone", <[Seen]>::is_empty).await;
        assert_eq!(first.gate.state(), GateState::Closed);
        self.runtime.ensure(id, Want::Awake);
        assert!(self.runtime.apps().is_empty(), "gone is gone");

        let failing = ReplicaId::from(8);
        self.runtime.start(failing, ends, Concurrency::Requests(5));
        let ended = |seen: &[Seen]| matches!(seen, [Seen { state: State::Ended(_), .. }]);
        let seen = self.until("ended", ended).await;
        assert_eq!(seen[0].gate.state(), GateState::Closed);
        self.runtime.ensure(failing, Want::Awake);
        tokio::task::yield_now().await;
        assert!(ended(&self.runtime.observe(&"iris".parse().unwrap())), "an end stays to be seen");
        self.runtime.ensure(failing, Want::Gone);
        self.until("gone", <[Seen]>::is_empty).await;
    }
}

fn clock() -> Clock {
    let start = Instant::now();
    Clock::new(move || Moment::from_millis(u64::try_from(start.elapsed().as_millis()).unwrap()))
}

#[tokio::test]
async fn the_fake_keeps_the_contract() {
    let (nudge, clock) = (Nudge::default(), clock());
    let runtime = FakeRuntime::new(clock.clone(), nudge.clone(), Memory::default());
    Under { runtime: &runtime, nudge: &nudge, clock }.check(&["serve"]).await;
}

#[tokio::test]
async fn processes_keep_the_contract_frozen_by_control_groups() {
    let data = tempfile::tempdir().unwrap();
    let groups = Groups::detect(&Layout::new(data.path()).tag());
    if !groups.can_freeze() {
        eprintln!("skipped: no control group of version 2 can be made here");
        return;
    }
    processes(data.path(), groups.clone(), 30_100..31_000).await;
    groups.remove_parents();
}

#[tokio::test]
async fn processes_keep_the_contract_frozen_by_signals() {
    let data = tempfile::tempdir().unwrap();
    processes(data.path(), Groups::default(), 31_000..32_000).await;
}

#[tokio::test]
async fn containers_keep_the_contract_frozen_by_control_groups() {
    let Some(podman) = podman::Podman::start() else { return };
    let data = tempfile::tempdir().unwrap();
    let layout = Layout::new(data.path());
    let image = |build: u128, command: &str| {
        let name = format!("localhost/image:{build}");
        let id = podman.image(&name, &[("serve", podman::SERVE)], &["EXPOSE 8000", command]);
        let image = Some(PinnedImage::of(format!("sha256:{id}")));
        let artefact = layout.artefact(build.into());
        std::fs::create_dir_all(&artefact).unwrap();
        RunFile { image, ..RunFile::default() }.write(&artefact).unwrap();
        let program = Program::Image {
            build: build.into(),
            port: None,
            command: None,
            args: None,
            uid: None,
            gid: None,
            working_directory: None,
        };
        Arc::new(Revision { program, ..Revision::clone(&revision(&[])) })
    };
    let (serves, ends) = (image(1, "CMD [\"/serve\"]"), image(2, "CMD [\"/bin/sh\", \"-c\", \"exit 3\"]"));
    let engine = ContainerEngine::new(podman.socket(), layout.tag(), data.path().join("images"));
    let (nudge, clock) = (Nudge::default(), clock());
    let settings = Settings {
        containers: Some(engine),
        ..settings(layout.clone(), Groups::default(), 0..0, &nudge, &clock)
    };
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let runtime = LocalRuntime::new(settings, stop.clone(), tasks.clone());
    Under { runtime: &runtime, nudge: &nudge, clock }.check_with(&serves, &ends).await;
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    assert_eq!(podman.containers(), Vec::<String>::new());
}

async fn processes(data: &Path, groups: Groups, ports: Range<u16>) {
    let layout = Layout::new(data);
    let artefact = layout.artefact(1.into());
    std::fs::create_dir_all(artefact.join("code")).unwrap();
    let run = RunFile { working_directory: "code".into(), ..RunFile::default() };
    run.write(&artefact).unwrap();
    let (nudge, clock) = (Nudge::default(), clock());
    let settings = settings(layout, groups, ports, &nudge, &clock);
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let runtime = LocalRuntime::new(settings, stop.clone(), tasks.clone());
    Under { runtime: &runtime, nudge: &nudge, clock }
        .check(&["python3", "-m", "http.server", "--bind", "127.0.0.1", "$PORT"])
        .await;
    stop.cancel();
    tasks.close();
    tasks.wait().await;
}

fn settings(layout: Layout, groups: Groups, ports: Range<u16>, nudge: &Nudge, clock: &Clock) -> Settings {
    Settings {
        layout,
        shim: ShimCommand {
            program: std::env::current_exe().unwrap(),
            args: ["--exact", "runtime::contract::acts_as_supervisor"].map(str::to_owned).to_vec(),
        },
        groups,
        uplink: None,
        confiner: None,
        pager: Pager::new(Way::Processes),
        containers: None,
        disk_bytes: 1 << 30,
        ports,
        uids: 0..0,
        stop_grace: Duration::from_secs(5),
        log_bytes: 1 << 20,
        clock: clock.clone(),
        nudge: nudge.clone(),
    }
}

/// This test binary is the supervisor's program, too: it is given the name of this test and a directory.
#[test]
fn acts_as_supervisor() {
    if let Some(dir) = std::env::args_os().skip(3).find(|argument| Path::new(argument).is_dir()) {
        assert_eq!(crate::shim::main([dir]), ExitCode::SUCCESS);
    }
}
