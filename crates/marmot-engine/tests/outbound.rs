//! What apps and builds reach of other machines. The test stands in for them: a network is the machine, another one everything
//! beyond it, with public and private addresses.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "build/support.rs"]
mod building;
#[path = "support/buildpacks.rs"]
mod buildpacks;
#[path = "support/contained.rs"]
mod contained;
#[path = "support/docker.rs"]
mod docker;
#[path = "support/podman.rs"]
mod podman;
mod support;

use std::fs;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::Arc;

use building::Place;
use marmot_core::id::BuildId;
use marmot_engine::build::{BuildContext, Buildpacks, BuildsNetwork};
use marmot_engine::observed::BuildState;
use marmot_engine::wanted::{Builder, Outbound, Source, Variable, WantedBuild};
use marmot_engine::{Confinement, EngineConfig};
use support::{Machine, ask, policy};

/// What answers beyond the machine: public, another public one, private, metadata.
const BEYOND: [&str; 4] = ["203.0.113.1", "203.0.113.9", "10.9.9.9", "169.254.169.254"];
/// The machine itself, and its resolver.
const MACHINE: &str = "203.0.113.2";
const RESOLVER: &str = "10.9.9.9";

/// Prints what it could reach. The second request for each is bound to the interface, for which the kernel needs no
/// route; a datagram may name it, too.
const REACHES: &str = r#"
import os, socket, struct
for host in os.environ["TARGETS"].split():
    host, _, port = host.partition(":")
    for how in ["routed", "bound"]:
        peer = socket.socket()
        peer.settimeout(1)
        try:
            if how == "bound":
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
            peer.connect((host, int(port or 8080)))
            print("reached:", host, peer.recv(100).decode(), flush=True)
        except OSError as error:
            print("refused:", host, how, error, flush=True)
question = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04iris\x03lab\x00\x00\x01\x00\x01"
resolver = [line.split()[1] for line in open("/etc/resolv.conf") if line.startswith("nameserver")]
peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
peer.settimeout(2)
try:
    peer.sendto(question, (resolver[0], 53))
    print("resolved:", peer.recv(500) == b"answer", flush=True)
except OSError as error:
    print("resolver:", error, flush=True)
pair = struct.pack("=I4s4s", socket.if_nametoindex("eth0") if os.path.exists("/sys/class/net/eth0") else 2, b"\0\0\0\0", b"\0\0\0\0")
peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
peer.settimeout(1)
try:
    peer.sendmsg([b"hello"], [(socket.IPPROTO_IP, 8, pair)], 0, ("10.9.9.9", 53))
    print("reached: datagram", peer.recv(100), flush=True)
except OSError as error:
    print("refused: datagram", error, flush=True)
"#;

/// Runs a test of this file again where everything beyond the machine is played.
fn in_a_world_of_its_own(test: &str, as_root: bool) {
    if !rustix::process::geteuid().is_root()
        || !["ip", "nft", "pasta", "nsenter"].iter().all(|tool| has(tool))
    {
        eprintln!("skipped: it needs root, iproute2, nftables, passt and util-linux");
        return;
    }
    let world = World::make();
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{}", world.machine));
    if !as_root {
        command.args(["setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups"]);
        command.env("TMPDIR", world.home.path()).env("HOME", world.home.path());
    }
    let done = world.home.path().join("done");
    command.arg(std::env::current_exe().unwrap()).args(["--exact", test, "--ignored", "--nocapture"]);
    let output = command.env("DONE", &done).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(done.exists() || said.contains("skipped"), "{said}");
    if !done.exists() {
        eprintln!("{said}");
    }
}

fn has(tool: &str) -> bool {
    Command::new("sh")
        .args(["-c", &format!("command -v {tool}")])
        .stdout(Stdio::null())
        .status()
        .unwrap()
        .success()
}

fn ip(arguments: &str) {
    assert!(Command::new("ip").args(arguments.split(' ')).status().unwrap().success(), "ip {arguments}");
}

/// Two networks with a wire between them.
struct World {
    machine: String,
    beyond: String,
    home: tempfile::TempDir,
    servers: Option<std::process::Child>,
}

impl World {
    fn make() -> Self {
        let tag = format!("{}-{}", std::process::id(), rand());
        let (machine, beyond) = (format!("mt-m-{tag}"), format!("mt-b-{tag}"));
        let home = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(home.path(), Some(12345), Some(12345)).unwrap();
        let mut world = Self { machine, beyond, home, servers: None };
        let (machine, beyond) = (&world.machine, &world.beyond);
        ip(&format!("netns add {machine}"));
        ip(&format!("netns add {beyond}"));
        ip(&format!("-n {machine} link add near type veth peer name far netns {beyond}"));
        for (network, link) in [(machine, "near"), (beyond, "far"), (machine, "lo"), (beyond, "lo")] {
            ip(&format!("-n {network} link set {link} up"));
        }
        ip(&format!("-n {machine} addr add {MACHINE}/24 dev near"));
        for address in BEYOND {
            ip(&format!("-n {beyond} addr add {address}/24 dev far"));
        }
        ip(&format!("-n {machine} route add default via {}", BEYOND[0]));
        let mut servers = Command::new("nsenter");
        servers.arg(format!("--net=/run/netns/{beyond}")).arg(std::env::current_exe().unwrap());
        servers.args(["--exact", "answers_beyond", "--ignored"]).stdout(Stdio::null());
        world.servers = Some(servers.spawn().unwrap());
        world
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(servers) = &mut self.servers {
            let _ = servers.kill();
            let _ = servers.wait();
        }
        for network in [&self.machine, &self.beyond] {
            let _ = Command::new("ip").args(["netns", "del", network]).status();
        }
    }
}

fn rand() -> u32 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos()
}

/// Says `beyond` to whoever connects to port 8080 or 5432, and `answer` to each question for a name.
#[test]
#[ignore = "run by the tests below, in a network that stands for the internet"]
fn answers_beyond() {
    let names = UdpSocket::bind((RESOLVER, 53)).unwrap();
    std::thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((_, from)) = names.recv_from(&mut question) {
            let _ = names.send_to(b"answer", from);
        }
    });
    let serve = |port: u16| {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
        for stream in listener.incoming().flatten() {
            let _ = std::io::Write::write_all(&mut &stream, b"beyond");
        }
    };
    std::thread::spawn(move || serve(5432));
    serve(8080);
}

/// Stands for the control plane on each of the machine's addresses, as who looks for it would find it.
fn control_plane() {
    let control = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080)).unwrap();
    std::thread::spawn(move || {
        for stream in control.incoming().flatten() {
            let _ = std::io::Write::write_all(&mut &stream, b"control");
        }
    });
}

/// A machine in this world, with the control plane beside it. `None`, said aloud, where nothing has a way out.
async fn with_a_way_out(change: impl FnOnce(EngineConfig) -> EngineConfig) -> Option<Machine> {
    let resolver = Some(RESOLVER.parse().unwrap());
    let machine = Machine::configured(|config| change(EngineConfig { resolver, ..config })).await;
    if !machine.engine.capabilities().outbound {
        eprintln!("skipped: {:?}", machine.engine.capabilities().sentences);
        return None;
    }
    control_plane();
    Some(machine)
}

/// What an app reached, of what it tried.
async fn reached(outbound: Outbound, allowed: &[&str], targets: &str) -> Option<(Vec<String>, Vec<String>)> {
    let configure = |config: EngineConfig| EngineConfig {
        apps_may_reach: allowed.iter().map(|allowed| allowed.parse().unwrap()).collect(),
        confinement: Confinement::Auto,
        ..config
    };
    let mut machine = with_a_way_out(configure).await?;
    machine.outbound = outbound;
    machine.artefact(1.into(), &[("app.py", &format!("{REACHES}{}", support::COUNTER))], None);
    let variable = Variable { name: "TARGETS".to_owned(), value: targets.to_owned() };
    machine.activate_with(1, &["python3", "app.py"], policy(), vec![variable]);
    ask(&machine.until_running().await).await;
    let logs = machine.logs_at_work(100).await;
    let lines: Vec<String> = logs.into_values().flatten().collect();
    let told: Vec<String> = lines.iter().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect();
    machine.shut_down();
    machine.until_gone().await;
    assert_eq!(machine.leftovers(), Vec::<String>::new());
    let mut reached: Vec<String> =
        told.iter().filter_map(|line| Some(line.strip_prefix("reached: ")?.to_owned())).collect();
    reached.dedup();
    Some((reached, told))
}

/// What a package's own code reached while it was installed, of what it tried, with this in the server's environment.
async fn reached_by_build(
    network: BuildsNetwork,
    environment: &[(&str, &str)],
) -> Option<(Vec<String>, String)> {
    let place = Place::new();
    let targets = format!("{ALL} 127.0.0.1");
    let backend = REACHES.replace("os.environ[\"TARGETS\"]", &format!("{targets:?}"));
    place.source_package("nosy", "1.0", &format!("{backend}\nraise SystemExit('that is all')\n"));
    let files = [("Procfile", "web: python app.py"), ("app.py", ""), ("requirements.txt", "nosy==1.0")];
    let repository = place.repository("app", &files);
    let mut context = place.another_context();
    context.network = network;
    let given = environment.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
    context.environment.extend(given);
    let build = Arc::new(context);
    let machine =
        with_a_way_out(|config| EngineConfig { build, confinement: Confinement::Auto, ..config }).await?;
    let id = BuildId::from(1);
    let source = Source { repository: repository.address(), revision: None, context_dir: None };
    machine.want(|wanted| {
        wanted.builds.insert(id, Arc::new(building::wanted(source)));
    });
    let mut observed = machine.engine.observed();
    let ended = observed.wait_for(|now| matches!(now.builds.get(&id), Some(BuildState::Failed(_))));
    tokio::time::timeout(support::LIMIT, ended).await.expect("it fails in time").unwrap();
    let log = machine.engine.logs().build(id, 1000).await.unwrap().join("\n");
    let lines = log.lines().filter_map(|line| line.split_once("reached: "));
    let mut reached: Vec<String> = lines.map(|(_, what)| what.trim().to_owned()).collect();
    reached.dedup();
    machine.want(|wanted| wanted.builds.clear());
    assert_eq!(machine.leftovers(), Vec::<String>::new());
    Some((reached, log))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the tests below, in a network of its own"]
async fn build_inside() {
    let mirror = [("NPM_CONFIG_REGISTRY", "http://10.9.9.9:8080/")];
    let Some((reached, log)) = reached_by_build(BuildsNetwork::Fenced, &mirror).await else { return };
    // The mirror of the operator is private, and reached at its port alone.
    assert_eq!(reached, ["203.0.113.1 beyond", "203.0.113.9 beyond", "10.9.9.9 beyond"], "{log}");
    assert!(log.contains("resolved: True") && log.contains("that is all"), "{log}");
    done();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the tests below, in a network of its own"]
async fn build_with_a_mirror_on_the_machine_inside() {
    let mirror = [("UV_INDEX", "http://127.0.0.1:3141/simple")];
    let Some((reached, log)) = reached_by_build(BuildsNetwork::Fenced, &mirror).await else { return };
    assert!(reached.contains(&"127.0.0.1 control".to_owned()), "{log}");
    assert!(log.contains("shares the machine's network"), "{log}");
    done();
}

fn done() {
    fs::write(std::env::var("DONE").unwrap(), "").unwrap();
}

const ALL: &str = "203.0.113.1 203.0.113.9 10.9.9.9 169.254.169.254 203.0.113.2 198.19.254.1";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the tests below, in a network of its own"]
async fn internet_inside() {
    let Some((reached, told)) = reached(Outbound::Internet, &[], ALL).await else { return };
    assert_eq!(reached, ["203.0.113.1 beyond", "203.0.113.9 beyond"], "{told:#?}");
    assert!(told.contains(&"resolved: True".to_owned()), "{told:#?}");
    done();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the tests below, in a network of its own"]
async fn some_inside() {
    let asked = ["203.0.113.9:5432", "10.9.9.0/24", "169.254.169.254"];
    let asked = Outbound::Only(asked.iter().map(|asked| asked.parse().unwrap()).collect());
    let targets = format!("203.0.113.9:5432 {ALL} 10.9.9.9:5432");
    let Some((reached, told)) = reached(asked, &["10.9.9.9:5432"], &targets).await else { return };
    assert_eq!(reached, ["203.0.113.9 beyond", "10.9.9.9 beyond"], "{told:#?}");
    assert!(told.contains(&"resolved: True".to_owned()), "{told:#?}");
    done();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the tests below, in a network of its own"]
async fn nothing_inside() {
    let Some((reached, told)) = reached(Outbound::None, &["10.9.9.9"], ALL).await else { return };
    assert_eq!(reached, Vec::<String>::new(), "{told:#?}");
    assert!(!told.contains(&"resolved: True".to_owned()), "{told:#?}");
    done();
}

/// What the log says of a build that succeeds, by this Podman in the network that stands for the machine's; `None` where
/// there is no way out to try.
async fn log_of_build(
    podman: &podman::Podman,
    build: BuildContext,
    wanted: WantedBuild,
) -> Option<Vec<String>> {
    let machine = with_a_way_out(|config| EngineConfig {
        build: Arc::new(build),
        container_engine: Some(podman.socket()),
        ..config
    })
    .await?;
    let id = BuildId::from(1);
    machine.want(|all| drop(all.builds.insert(id, Arc::new(wanted))));
    let mut observed = machine.engine.observed();
    let ended = observed.wait_for(|observed| {
        let state = observed.builds.get(&id);
        state.is_some_and(|state| !matches!(state, BuildState::Queued | BuildState::InProgress { .. }))
    });
    let ended = tokio::time::timeout(support::LIMIT, ended).await;
    let log: Vec<String> = machine.engine.logs().build(id, 200).await.unwrap();
    let state = ended.unwrap_or_else(|_| panic!("in time: {log:#?}")).unwrap().builds[&id].clone();
    assert!(matches!(state, BuildState::Succeeded(_)), "{state:?} {log:#?}");
    Some(log)
}

/// What the steps of a `Dockerfile` reach, by a Podman in the network that stands for the machine's.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the tests below, in a network of its own"]
async fn steps_inside() {
    let Some(mut podman) = podman::Podman::start() else { return eprintln!("skipped") };
    let registry = podman.registry(None);
    podman.image("localhost/base:1", &[], &[]);
    podman.push("localhost/base:1", &format!("{registry}/base:1"), None);
    let place = building::Place::new();
    let dockerfile = format!(
        "FROM {registry}/base:1\nRUN for host in {ALL} 127.0.0.1; do \
         echo \"to $host: $(busybox timeout 2 busybox nc $host 8080 2>&1)\"; done; cat /etc/resolv.conf\n\
         RUN busybox timeout 2 busybox nc {} && echo \"to the registry\" || true\n\
         RUN echo \"allowed: $(busybox timeout 2 busybox nc 10.9.9.9 5432 2>&1)\"; ls /sys/class/net\n",
        registry.replace(':', " ")
    );
    let repository = place.repository("image", &[("Dockerfile", &dockerfile)]);
    let mut build = place.another_context();
    build.allow_private_networks = true;
    build.may_reach = vec!["10.9.9.9:5432".parse().unwrap()];
    let source = Source { repository: repository.address(), revision: None, context_dir: None };
    let wanted = building::wanted(source);
    let Some(log) = log_of_build(&podman, build, wanted).await else { return };
    let said = log.join("\n");
    // Some versions of pasta send what came last again on a connection that the other side has closed.
    let reached = said.lines().filter_map(|line| line.split_once(": beyond"));
    let reached: Vec<&str> = reached.map(|(line, _)| line.split_once(' ').unwrap().1).collect();
    assert_eq!(reached, ["to 203.0.113.1", "to 203.0.113.9", "allowed"], "{said}");
    assert!(!said.contains(": control"), "{said}");
    assert!(!said.lines().any(|line| line.ends_with(" to the registry")), "{said}");
    assert!(said.contains("nameserver 198.19.255.253"), "{said}");
    // The engine made nothing in the machine's network.
    let shown = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let (links, rules) = (shown("ip", &["link"]), shown("nft", &["list", "ruleset"]));
    assert!(!links.contains("podman") && !rules.contains("NETAVARK"), "{links} {rules}");
    done();
}

/// Tries all of them by busybox, and says what answered.
fn tries() -> String {
    format!(
        "for host in {ALL} 127.0.0.1; do echo \"to $host: $(busybox timeout 2 busybox nc $host 8080 2>&1)\"; done; \
         cat /etc/resolv.conf"
    )
}

/// What answered, of the lines that such a program printed.
fn answered(lines: &[String]) -> Vec<&str> {
    let tried = lines.iter().filter_map(|line| line.split_once("to ")?.1.split_once(": beyond"));
    tried.map(|(host, _)| host).collect()
}

/// What a container reaches, by an engine in the network that stands for the machine's.
async fn container_inside<E: contained::Containers>() {
    let Some(engine) = E::start() else { return eprintln!("skipped") };
    let socket = engine.socket();
    let configure = |config: EngineConfig| EngineConfig {
        container_engine: Some(socket),
        resolver: Some(RESOLVER.parse().unwrap()),
        ..config
    };
    let mut machine = Machine::configured(configure).await;
    if !machine.engine.capabilities().outbound {
        return eprintln!("skipped: {:?}", machine.engine.capabilities().sentences);
    }
    control_plane();
    machine.outbound = Outbound::Internet;
    // Docker lets a program begin a moment before its way out is there.
    let script = format!("until [ -e /sys/class/net/eth0 ]; do sleep 0.05; done; {}; exec /serve", tries());
    contained::activate(&machine, &engine, 1, &["/bin/sh", "-c", &script], &policy());
    machine.until_running().await;
    let lines = contained::logs_with(&machine, "nameserver 198.19.255.253").await;
    assert_eq!(answered(&lines), ["203.0.113.1", "203.0.113.9"], "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains("control")), "{lines:#?}");
    contained::shut_down(&machine, &engine).await;
    done();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the tests below, in a network of its own"]
async fn podmans_container_inside() {
    container_inside::<podman::Podman>().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the tests below, in a network of its own"]
async fn dockers_container_inside() {
    container_inside::<docker::Docker>().await;
}

/// What buildpacks reach while they build.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the tests below, in a network of its own"]
async fn buildpacks_inside() {
    let Some(mut podman) = podman::Podman::start() else { return eprintln!("skipped") };
    let registry = podman.registry(None);
    let made = buildpacks::publish(&podman, &registry);
    let place = Place::new();
    let conf = format!("RUN='{}'", tries());
    let repository = place.repository("site", &[("site.conf", &conf)]);
    let mut build = place.another_context();
    build.allow_private_networks = true;
    build.buildpacks = Some(Buildpacks { builder: made.builder, run_image: None });
    let source = Source { repository: repository.address(), revision: None, context_dir: None };
    let wanted = WantedBuild { builder: Builder::Buildpacks, ..building::wanted(source) };
    let Some(log) = log_of_build(&podman, build, wanted).await else { return };
    assert_eq!(answered(&log), ["203.0.113.1", "203.0.113.9"], "{log:#?}");
    assert!(log.iter().any(|line| line.contains("nameserver 198.19.255.253")), "{log:#?}");
    assert!(!log.iter().any(|line| line.contains(": control")), "{log:#?}");
    done();
}

#[test]
fn a_container_reaches_the_internet_and_neither_the_machine_nor_private_networks() {
    in_a_world_of_its_own("podmans_container_inside", true);
}

#[test]
fn a_container_of_dockers_reaches_the_same() {
    in_a_world_of_its_own("dockers_container_inside", true);
}

#[test]
fn buildpacks_reach_the_same() {
    in_a_world_of_its_own("buildpacks_inside", true);
}

#[test]
fn the_steps_of_a_dockerfile_reach_the_internet_and_neither_the_machine_nor_private_networks() {
    in_a_world_of_its_own("steps_inside", true);
}

#[test]
fn the_internet_is_public_addresses_and_names_and_nothing_else() {
    in_a_world_of_its_own("internet_inside", true);
}

#[test]
fn the_internet_of_an_ordinary_users_server_is_the_same() {
    in_a_world_of_its_own("internet_inside", false);
}

#[test]
fn a_build_reaches_what_is_public_and_the_operators_mirrors_and_nothing_else() {
    in_a_world_of_its_own("build_inside", true);
}

#[test]
fn a_build_of_an_ordinary_users_server_reaches_the_same() {
    in_a_world_of_its_own("build_inside", false);
}

#[test]
fn a_mirror_that_only_the_machine_itself_reaches_opens_its_network_and_the_log_says_so() {
    in_a_world_of_its_own("build_with_a_mirror_on_the_machine_inside", true);
}

#[test]
fn a_list_is_what_it_says_and_of_private_networks_only_what_the_operator_allows() {
    in_a_world_of_its_own("some_inside", true);
}

#[test]
fn nothing_is_nothing() {
    in_a_world_of_its_own("nothing_inside", true);
}
