//! An engine on a throw-away data directory, with apps whose code is written by the test.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses some of it")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use marmot_core::id::BuildId;
use marmot_core::plan::Policy;
use marmot_core::{AppName, Clock, Demand, Moment};
use marmot_engine::build::{BuildContext, RunFile};
use marmot_engine::layout::Layout;
use marmot_engine::observed::{Event, Failure, Happening, ObservedApp, ObservedReplica, ReplicaStage};
use marmot_engine::wanted::{Gpus, Limits, Outbound, Program, Revision, Secret, Variable, Wanted, WantedApp};
use marmot_engine::{Confinement, Engine, EngineConfig, OnStop, ShimCommand};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};

/// Longest a test waits for anything.
pub const LIMIT: Duration = Duration::from_secs(30);

/// An HTTP server that answers with a number which grows, its pid, and what its environment says.
pub const COUNTER: &str = r#"
import http.server, json, os, sys
count = 0
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global count
        if "probe" not in self.headers.get("User-Agent", ""):
            count += 1
        body = json.dumps({"count": count, "pid": os.getpid(), "env": dict(os.environ), "cwd": os.getcwd()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
print("listening", flush=True)
http.server.ThreadingHTTPServer((os.environ["RENKU_SESSION_IP"], int(os.environ["PORT"])), Handler).serve_forever()
"#;

/// A machine with one engine.
pub struct Machine {
    pub data: Data,
    pub engine: Engine,
    pub wanted: watch::Sender<Arc<Wanted>>,
    pub demand: Arc<Demand>,
    pub clock: Clock,
    pub events: mpsc::UnboundedReceiver<Event>,
    pub confinement: Confinement,
    pub build: Arc<BuildContext>,
    /// What its apps may reach.
    pub outbound: Outbound,
    /// The socket of its container engine.
    pub containers: Option<PathBuf>,
    /// What its apps are given besides variables.
    pub secrets: Vec<Secret>,
    /// The GPUs of its containers.
    pub gpus: Gpus,
}

pub fn app() -> AppName {
    "iris".parse().unwrap()
}

pub fn clock() -> Clock {
    let start = Instant::now();
    Clock::new(move || Moment::from_millis(u64::try_from(start.elapsed().as_millis()).unwrap()))
}

/// A policy under which nothing happens by time alone within a test.
pub fn policy() -> Policy {
    Policy { idle_after: Duration::from_secs(600), ..Policy::default() }
}

pub fn config(data: &Data, confinement: Confinement) -> EngineConfig {
    let shim =
        ShimCommand { program: env!("CARGO_BIN_EXE_marmot-engine-test-shim").into(), args: Vec::new() };
    let none = PathBuf::from("/nonexistent");
    let build = BuildContext::new(none.clone(), none.clone(), none, data.path().join("cache"));
    EngineConfig {
        confinement,
        stop_grace: Duration::from_secs(1),
        ..EngineConfig::new(data.path(), shim, Arc::new(build))
    }
}

impl Machine {
    pub async fn new() -> Self {
        Self::with(Confinement::None).await
    }

    pub async fn with(confinement: Confinement) -> Self {
        Self::on(Data::new(), Arc::new(Wanted::default()), confinement).await
    }

    /// One that confines its replicas, with what `change` makes of its settings; `None`, said aloud, where that is
    /// not possible.
    pub async fn confined(change: impl FnOnce(EngineConfig) -> EngineConfig) -> Option<Self> {
        let machine = Self::configured(change).await;
        if !machine.engine.capabilities().confined {
            eprintln!("skipped: {:?}", machine.engine.capabilities().sentences);
            return None;
        }
        Some(machine)
    }

    /// Its engine ends replicas when it stops.
    pub async fn stopping() -> Self {
        Self::configured(|config| EngineConfig {
            replicas_on_stop: OnStop::Stop,
            confinement: Confinement::None,
            ..config
        })
        .await
    }

    /// Its engine, which confines replicas where that is possible, is configured in this way.
    pub async fn configured(change: impl FnOnce(EngineConfig) -> EngineConfig) -> Self {
        let data = Data::new();
        let config = change(config(&data, Confinement::Auto));
        Self::start(data, Arc::new(Wanted::default()), config).await
    }

    async fn on(data: Data, wanted: Arc<Wanted>, confinement: Confinement) -> Self {
        let config = config(&data, confinement);
        Self::start(data, wanted, config).await
    }

    async fn start(data: Data, wanted: Arc<Wanted>, config: EngineConfig) -> Self {
        let demand = wanted.apps.get(&app()).map_or_else(<_>::default, |app| Arc::clone(&app.demand));
        let (wanted, receiver) = watch::channel(wanted);
        let (clock, confinement, build) = (clock(), config.confinement, Arc::clone(&config.build));
        let containers = config.container_engine.clone();
        let engine = Engine::start(config, receiver, clock.clone()).await.unwrap();
        let events = engine.take_events();
        let outbound = Outbound::Internet;
        let secrets = Vec::new();
        Self {
            data,
            engine,
            wanted,
            demand,
            clock,
            events,
            confinement,
            build,
            outbound,
            secrets,
            gpus: Gpus::None,
            containers,
        }
    }

    /// The engine is gone without a word, as after `kill -9`, and another one starts on the same data directory.
    pub async fn crash(self) -> Self {
        self.crash_and(async || {}).await
    }

    /// As [`Machine::crash`]; something happens before the other engine starts.
    pub async fn crash_and(self, meanwhile: impl AsyncFnOnce()) -> Self {
        let last = self.wanted.borrow().clone();
        self.replaced(last, meanwhile).await
    }

    /// As [`Machine::crash`]; the next engine is not asked for the app any more.
    pub async fn crash_and_want_nothing(self) -> Self {
        self.replaced(Arc::new(Wanted::default()), async || {}).await
    }

    async fn replaced(self, wanted: Arc<Wanted>, meanwhile: impl AsyncFnOnce()) -> Self {
        let Self { data, engine, confinement, build, containers, .. } = self;
        let mut observed = engine.observed();
        drop(engine);
        while observed.changed().await.is_ok() {}
        // A server that is killed writes nothing more; of one that is dropped, a thread may have something left to write.
        until(|| !has_open(data.path())).await;
        meanwhile().await;
        let config = EngineConfig { build, container_engine: containers, ..config(&data, confinement) };
        Self::start(data, wanted, config).await
    }

    pub fn layout(&self) -> Layout {
        Layout::new(self.data.path())
    }

    /// Writes what a build would leave.
    pub fn artefact(&self, build: BuildId, files: &[(&str, &str)], command: Option<&[&str]>) {
        let artefact = self.layout().artefact(build);
        fs::create_dir_all(artefact.join("code")).unwrap();
        for (name, text) in files {
            fs::write(artefact.join("code").join(name), text).unwrap();
        }
        let run = RunFile {
            command: command.map(|words| words.iter().map(|&word| word.to_owned()).collect()),
            working_directory: "code".into(),
            ..RunFile::default()
        };
        run.write(&artefact).unwrap();
    }

    /// Wants the app to run this program.
    pub fn activate(&self, build: u128, command: &[&str], policy: Policy) {
        let greeting = Variable { name: "GREETING".to_owned(), value: "hello world".to_owned() };
        self.activate_with(build, command, policy, vec![greeting]);
    }

    /// Wants the app to run what this build says.
    pub fn activate_built(&self, build: u128, policy: Policy) {
        self.activate_revision(build.into(), None, &policy, &[], None);
    }

    /// Wants the app to run this program with these variables.
    pub fn activate_with(&self, build: u128, command: &[&str], policy: Policy, variables: Vec<Variable>) {
        let build = BuildId::from(build);
        if !self.layout().artefact(build).exists() {
            self.artefact(build, &[("app.py", COUNTER)], None);
        }
        self.activate_revision(build, Some(command), &policy, &variables, None);
    }

    /// Wants the app to run [`COUNTER`] on this port.
    pub fn fixed_port(&self, build: u128, port: u16) {
        self.artefact(build.into(), &[("app.py", COUNTER)], None);
        self.activate_revision(build.into(), Some(&["python3", "app.py"]), &policy(), &[], Some(port));
    }

    fn activate_revision(
        &self,
        build: BuildId,
        command: Option<&[&str]>,
        policy: &Policy,
        variables: &[Variable],
        port: Option<u16>,
    ) {
        let command = command.map(|words| words.iter().map(|&word| word.to_owned()).collect());
        self.activate_program(build, Program::Built { build, command, port }, policy, variables);
    }

    /// Wants the app to run this.
    pub fn activate_program(
        &self,
        build: BuildId,
        program: Program,
        policy: &Policy,
        variables: &[Variable],
    ) {
        let revision = Revision {
            id: u128::from_be_bytes(*b"revision-of-iris")
                .wrapping_add(u128::from(build_number(build)))
                .into(),
            app: app(),
            url: "http://iris.localhost:8080".to_owned(),
            program,
            variables: variables.to_vec(),
            secrets: self.secrets.clone(),
            limits: Limits { memory_bytes: 512 << 20, cpu_millis: 1000 },
            gpus: self.gpus.clone(),
            outbound: self.outbound.clone(),
        };
        self.want(|wanted| {
            let app = WantedApp {
                registries: Vec::new(),
                revision: Arc::new(revision.clone()),
                project: 1.into(),
                proven: false,
                retry: 0,
                policy: policy.clone(),
                demand: Arc::clone(&self.demand),
            };
            wanted.apps.insert(revision.app.clone(), app);
            wanted.kept_builds.insert(build);
        });
    }

    pub fn want(&self, change: impl FnOnce(&mut Wanted)) {
        self.wanted.send_modify(|wanted| change(Arc::make_mut(wanted)));
    }

    pub fn shut_down(&self) {
        self.want(|wanted| wanted.apps.clear());
    }

    /// Waits until what is seen of the app satisfies `enough`.
    pub async fn until(&self, what: &str, enough: impl Fn(&ObservedApp) -> bool) -> ObservedApp {
        let mut observed = self.engine.observed();
        let seen = tokio::time::timeout(
            LIMIT,
            observed.wait_for(|observed| observed.apps.get(&app()).is_some_and(&enough)),
        )
        .await
        .map(|seen| seen.map(|seen| seen.apps[&app()].clone()));
        match seen {
            Ok(seen) => seen.expect("the engine runs"),
            Err(_) => panic!("not {what} within {LIMIT:?}: {:#?}", self.engine.observed().borrow().apps),
        }
    }

    /// Waits until nothing of the app exists any more.
    pub async fn until_gone(&self) {
        let mut observed = self.engine.observed();
        let gone = observed.wait_for(|observed| !observed.apps.contains_key(&app()));
        tokio::time::timeout(LIMIT, gone).await.expect("gone in time").expect("the engine runs");
    }

    pub async fn until_running(&self) -> ObservedReplica {
        let seen = self.until("running", |app| app.replicas.iter().any(is_running)).await;
        seen.replicas.into_iter().find(is_running).unwrap()
    }

    pub async fn until_hibernated(&self) -> ObservedReplica {
        let hibernated = |replica: &ObservedReplica| matches!(replica.stage, ReplicaStage::Hibernated { .. });
        let seen = self.until("hibernated", |app| app.replicas.iter().any(hibernated)).await;
        seen.replicas.into_iter().find(hibernated).unwrap()
    }

    pub async fn until_failed(&self) -> Arc<Failure> {
        self.until_failed_app().await.failure.unwrap()
    }

    pub async fn until_failed_app(&self) -> ObservedApp {
        self.until("failed", |app| app.failure.is_some()).await
    }

    /// Waits for an event.
    pub async fn until_event(&mut self, matches: impl Fn(&Happening) -> bool) -> Happening {
        let waiting = async {
            loop {
                let event = self.events.recv().await.expect("the engine runs");
                if matches(&event.what) {
                    return event.what;
                }
            }
        };
        tokio::time::timeout(LIMIT, waiting).await.expect("an event in time")
    }

    /// The last lines of its log, by source, once it has all that [`COUNTER`] says until it listens: it may do so
    /// before the log has been written.
    pub async fn logs_at_work(&self, lines: usize) -> BTreeMap<String, Vec<String>> {
        let waiting = async {
            loop {
                let logs = self.engine.logs().app(&app(), lines).await.unwrap();
                if logs.values().flatten().any(|line| line.ends_with("Z listening")) {
                    return logs;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LIMIT, waiting).await.expect("a log in time")
    }

    /// Everything the app's replicas left in the data directory that is not a log, and every process whose home was
    /// there.
    pub fn leftovers(&self) -> Vec<String> {
        let mut left = Vec::new();
        for replica in fs::read_dir(self.layout().replicas(&app())).into_iter().flatten().flatten() {
            for entry in fs::read_dir(replica.path()).unwrap().flatten() {
                let name = entry.file_name().into_string().unwrap();
                if !["log", "log.1", "exit.json", "revision"].contains(&name.as_str()) {
                    left.push(entry.path().display().to_string());
                }
            }
        }
        let uplink = fs::read_to_string(self.data.path().join("uplink.json")).unwrap_or_default();
        let lasting = |pid: &i32| uplink.contains(&format!("\"pid\":{pid},"));
        // Each is looked at when it is found: another spare may come at any moment.
        let processes = self.data.processes().into_iter().filter(|pid| !lasting(pid) && !is_spare(*pid));
        left.extend(processes.map(|pid| format!("process {pid}")));
        left
    }

    /// The supervisors that wait for a replica.
    pub fn spares(&self) -> Vec<i32> {
        let mut all = self.data.processes();
        all.retain(|pid| is_spare(*pid));
        all
    }
}

/// Whether a process is a supervisor that waits: one that has its replica is in the replica's directory.
fn is_spare(pid: i32) -> bool {
    let told = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let waits = told.split(|byte| *byte == 0).any(|word| word == b"--spare");
    waits && fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|dir| dir == Path::new("/"))
}

fn build_number(build: BuildId) -> u8 {
    build.to_string().bytes().last().unwrap()
}

pub fn is_running(replica: &ObservedReplica) -> bool {
    matches!(replica.stage, ReplicaStage::Running { .. })
}

/// What the counter program answers.
#[derive(Debug)]
pub struct Answer {
    pub count: u64,
    pub pid: u64,
    pub env: BTreeMap<String, String>,
    pub cwd: String,
}

/// Asks a replica, as the gateway would.
pub async fn ask(replica: &ObservedReplica) -> Answer {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (ReplicaStage::Running { address } | ReplicaStage::Hibernated { address }) = replica.stage else {
        panic!("it has no address: {replica:?}")
    };
    let asking = async {
        let mut stream = connect(replica, address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    };
    let text = tokio::time::timeout(LIMIT, asking).await.expect("an answer in time");
    let body: serde_json::Value = serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap();
    let env = body["env"].as_object().unwrap();
    Answer {
        count: body["count"].as_u64().unwrap(),
        pid: body["pid"].as_u64().unwrap(),
        env: env.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect(),
        cwd: body["cwd"].as_str().unwrap().to_owned(),
    }
}

/// The machine's addresses, without those of the loopback interface.
pub fn own_addresses() -> Vec<std::net::IpAddr> {
    let table = fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let lines: Vec<&str> = table.lines().collect();
    let local = lines.windows(2).filter(|pair| pair[1].contains("/32 host LOCAL"));
    let addresses = local.filter_map(|pair| pair[0].trim().trim_start_matches("|-- ").parse().ok());
    addresses.filter(|address: &std::net::IpAddr| !address.is_loopback()).collect()
}

/// Connects to a replica as the gateway does.
pub async fn connect(
    replica: &ObservedReplica,
    address: std::net::SocketAddr,
) -> std::io::Result<tokio::net::TcpStream> {
    let Some(sockets) = &replica.sockets else { return tokio::net::TcpStream::connect(address).await };
    tokio::net::TcpSocket::from_std_stream(sockets.open().await?.into()).connect(address).await
}

/// Whether this process has a file open that is below `dir`; but for the lock that what builds work with keeps, of which
/// the next engine has the same.
fn has_open(dir: &Path) -> bool {
    let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let mut open = open.filter_map(|entry| fs::read_link(entry.path()).ok());
    open.any(|file| file.starts_with(dir) && !file.ends_with("uplink.lock"))
}

/// Whether a machine-wide process id is in use.
pub fn is_alive(pid: u64) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Waits until something outside of the engine is so.
pub async fn until(is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, waiting).await.expect("so in time");
}

/// A throw-away data directory. What still runs there when a test ends, is ended.
pub struct Data(TempDir);

impl Data {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The processes that have something of this data directory in their command line, environment or directory.
    pub fn processes(&self) -> Vec<i32> {
        let own = i32::try_from(std::process::id()).unwrap();
        let needle = self.path().to_str().unwrap().to_owned();
        let all = fs::read_dir("/proc").unwrap().flatten();
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|&pid| pid != own)
            .filter(|pid| {
                let text = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
                let cwd = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
                [text("cmdline"), text("environ"), cwd.into_os_string().into_encoded_bytes()]
                    .iter()
                    .any(|bytes| String::from_utf8_lossy(bytes).contains(&needle))
            })
            .collect()
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        let mut left = self.processes();
        while !left.is_empty() {
            for pid in left.iter().filter_map(|&pid| rustix::process::Pid::from_raw(pid)) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
            left = self.processes();
        }
        remove_groups(Path::new("/sys/fs/cgroup"), &Layout::new(self.path()).tag(), 4);
    }
}

/// Removes the control groups of this name, and those below them.
fn remove_groups(dir: &Path, name: &str, depth: u32) {
    let below = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    for dir in below(dir).filter(|dir| dir.is_dir() && !dir.is_symlink()) {
        if dir.ends_with(name) {
            below(&dir).filter(|dir| dir.is_dir()).chain([dir.clone()]).for_each(|group| {
                let _ = fs::remove_dir(group);
            });
        } else if depth > 0 {
            remove_groups(&dir, name, depth - 1);
        }
    }
}
