//! Lays out a replica: its files, its environment, its port, its control group; and starts its supervisor.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Component, Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use marmot_core::Said;
use marmot_core::id::{BuildId, ReplicaId};
use marmot_core::scaling::Concurrency;
use rustix::fs::{Access, access};

use super::Shared;
use super::life::Process;
use super::spare::Spare;
use crate::build::RunFile;
use crate::confine::{self, Confiner, Network};
use crate::files;
use crate::network::Uplink;
use crate::shim::spec::{self, Launch, Plug, Private, Sandbox, Spec};
use crate::wanted::{Program, Revision};

/// The replica's own copy of the code, in its directory.
pub(in crate::runtime) const WORK: &str = "work";
/// The replica's home, in its directory.
pub(in crate::runtime) const HOME: &str = "home";
/// The replica's `/tmp`, in its directory.
pub(in crate::runtime) const TMP: &str = "tmp";

/// The secrets of a replica that has no sandbox, in its directory.
pub(in crate::runtime) const SECRETS: &str = "secrets";

/// What a confined replica sees as `/etc/passwd` and `/etc/group`, in its directory.
pub(in crate::runtime) const PASSWD: &str = "passwd";
pub(in crate::runtime) const GROUP: &str = "group";
/// What it sees as `/etc/resolv.conf`.
pub(in crate::runtime) const RESOLV_CONF: &str = "resolv.conf";
/// The filter of system calls, for a container engine that reads it from a file.
pub(in crate::runtime) const SECCOMP: &str = "seccomp.json";

/// Places in the network in the middle.
const SLOTS: u16 = 20_000;

/// The port of a replica that has a network of its own and does not ask for another one.
const PORT: u16 = 8080;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a replica could not be started, in words for the owner of the app.
#[derive(Debug, thiserror::Error)]
pub(in crate::runtime) enum PrepareError {
    #[error("the result of its build ({build}) is no program of this machine; build it again")]
    NoProcess { build: BuildId },
    #[error("the result of its build ({build}) is not there any more; build it again")]
    NoArtefact { build: BuildId },
    #[error(
        "nothing says how to start it: give the launcher a command, or add a `Procfile` with a line `web: …` to the code"
    )]
    NoCommand,
    #[error("an argument of the command holds a NUL byte")]
    BadArgument,
    #[error("there is no program `{0}`")]
    NoProgram(String),
    #[error(
        "port {0} is in use: a program with a fixed port can only run once, and only while nothing else has it"
    )]
    PortInUse(u16),
    #[error("no port is free")]
    NoPort,
    #[error(
        "the variable `{0}` cannot be set: names may not be empty or hold `=`, and neither may hold a NUL byte"
    )]
    BadVariable(String),
    #[error("its network could not be made: {0}")]
    NoNetwork(String),
    #[error("{what}: {source}")]
    Io { what: &'static str, source: io::Error },
}

impl PrepareError {
    /// The same, with what other languages say it by.
    pub(in crate::runtime) fn said(&self) -> Said {
        let said = |name| Said::new(name, self);
        match self {
            Self::NoProcess { build } => said("start-no-process").with("build", build.to_string()),
            Self::NoArtefact { build } => said("start-no-artefact").with("build", build.to_string()),
            Self::NoCommand => said("start-no-command"),
            Self::BadArgument => said("start-bad-argument"),
            Self::NoProgram(program) => said("start-no-program").with("program", program),
            Self::PortInUse(port) => said("start-port-in-use").with("port", port.to_string()),
            Self::NoPort => said("start-no-port"),
            Self::BadVariable(name) => said("start-bad-variable").with("variable", name),
            Self::NoNetwork(why) => said("start-no-network").with("why", why),
            // What the machine said of a file.
            Self::Io { .. } => self.to_string().into(),
        }
    }
}

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> PrepareError {
    move |source| PrepareError::Io { what, source }
}

/// Lays out everything and starts the supervisor, or has one that waits supervise it. Reads and writes files, so it is
/// called where that may take a while.
pub(in crate::runtime) fn begin(
    shared: &Shared,
    id: ReplicaId,
    revision: &Revision,
    limit: Concurrency,
) -> Result<Process, PrepareError> {
    let dir = shared.dir(&revision.app, id);
    let spare = shared.take_spare(id, &revision.outbound);
    let prepared = prepare(shared, id, revision, limit, spare.as_ref());
    let (spec, private) = match (prepared, spare) {
        (Ok((spec, private)), Some(spare)) => {
            let begun = spare.order(&dir, private);
            let begun = begun.and_then(|pid| Process::open(dir, Arc::new(spec), pid, None));
            return begun.map_err(io_error("its supervisor could not be told of it"));
        }
        (Ok(prepared), None) => prepared,
        (Err(error), spare) => {
            spare.into_iter().for_each(|spare| shared.spares.put_back(spare));
            return Err(error);
        }
    };
    start(shared, dir, spec, &private).map_err(io_error("its supervisor could not be started"))
}

fn prepare(
    shared: &Shared,
    id: ReplicaId,
    revision: &Revision,
    limit: Concurrency,
    spare: Option<&Spare>,
) -> Result<(Spec, Private), PrepareError> {
    let (build, command, port) = match &revision.program {
        Program::Built { build, command, port } => (build, command, port),
        Program::Image { build, .. } => return Err(PrepareError::NoProcess { build: *build }),
    };
    let artefact = shared.settings.layout.artefact(*build);
    let run = RunFile::read(&artefact).map_err(|_| PrepareError::NoArtefact { build: *build })?;
    let command = command.clone().or_else(|| run.command.clone()).ok_or(PrepareError::NoCommand)?;
    let (port, user) = claim(shared, id, *port)?;
    let dir = shared.dir(&revision.app, id);
    let below = lay_out(&dir, &artefact, &run, user).map_err(io_error("its files could not be laid out"))?;
    let confiner = shared.settings.confiner.as_ref();
    let places = if confiner.is_some() { Places::inside() } else { Places::outside(&dir) };
    let mut env = environment(&run);
    promised(&mut env, revision, port)?;
    let marker = ("MARMOT_REPLICA_ID", id.to_string());
    let own = [("HOME", text(&places.home)), ("TMPDIR", text(&places.tmp)), marker.clone()];
    env.extend(own.map(|(name, value)| (name.to_owned(), value)));
    let files = secret_files(revision);
    if !files.is_empty() {
        env.insert("MARMOT_SECRETS_DIR".to_owned(), text(&places.secrets));
    }
    if confiner.is_none() {
        write_secrets(&places.secrets, &files, user).map_err(io_error("its secrets could not be written"))?;
    }
    let mut argv: Vec<String> = command.iter().map(|argument| with_port(argument, port)).collect();
    let program = find(&argv, &env, &dir.join(WORK).join(&below))?;
    // A sandbox looks it up by itself: inside, its path may be another one.
    if confiner.is_none() {
        argv[0] = program;
    }
    let directory = places.work.join(below);
    let plug = plug(shared, id, revision, spare.map(|spare| spare.plug.slot))?;
    let network = if spare.is_some() { Network::Given } else { Network::Made };
    let sandbox =
        confiner.map(|confiner| Sandbox { plug, ..sandbox(confiner, &dir, &run, user, &directory, network) });
    let group = match spare.map(|spare| spare.group.clone()) {
        Some(group) => shared.settings.groups.limit(&group, revision.limits).map(|()| group),
        None => shared.settings.groups.create(id, revision.limits),
    };
    let group = group.map_err(io_error("its control group could not be made"))?;
    let spec = Spec {
        revision: revision.id.to_string(),
        port,
        per_replica: limit.count(),
        counts_sessions: limit.counts_sessions(),
        memory_limit: revision.limits.memory_bytes,
        marker: format!("{}={}", marker.0, marker.1),
        user,
        group,
        launch: Launch { argv, directory, sandbox, log_bytes: shared.settings.log_bytes },
        container: None,
    };
    spec::write(&dir, spec::SPEC, &spec).map_err(io_error("its files could not be written"))?;
    let masked = revision.secrets.iter().map(|secret| secret.value.clone()).collect();
    Ok((spec, Private { env, files, masked }))
}

/// The secrets that are files, by name.
pub(in crate::runtime) fn secret_files(revision: &Revision) -> BTreeMap<String, String> {
    let files = revision.secrets.iter().filter(|secret| secret.is_file);
    files.map(|secret| (secret.name.clone(), secret.value.clone())).collect()
}

/// Without a sandbox, there is no other place for files than the disk.
pub(in crate::runtime) fn write_secrets(
    dir: &Path,
    files: &BTreeMap<String, String>,
    user: Option<u32>,
) -> io::Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    files::make_private(dir, user)?;
    for (name, value) in files {
        let path = dir.join(name);
        std::fs::write(&path, value)?;
        if let Some(user) = user {
            std::os::unix::fs::chown(&path, Some(user), Some(user))?;
        }
    }
    Ok(())
}

/// Where a replica finds its own files.
struct Places {
    work: PathBuf,
    home: PathBuf,
    tmp: PathBuf,
    secrets: PathBuf,
}

impl Places {
    /// In a sandbox.
    fn inside() -> Self {
        Self {
            work: confine::WORK.into(),
            home: confine::HOME.into(),
            tmp: "/tmp".into(),
            secrets: confine::SECRETS.into(),
        }
    }

    /// Without one.
    fn outside(dir: &Path) -> Self {
        Self { work: dir.join(WORK), home: dir.join(HOME), tmp: dir.join(TMP), secrets: dir.join(SECRETS) }
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The sandbox of a replica whose files are laid out in `dir`. It starts in `directory`, as seen from inside.
fn sandbox(
    confiner: &Confiner,
    dir: &Path,
    run: &RunFile,
    user: Option<u32>,
    directory: &Path,
    network: Network,
) -> Sandbox {
    let inside = Places::inside();
    let own = [(dir.join(WORK), inside.work), (dir.join(HOME), inside.home), (dir.join(TMP), inside.tmp)];
    confiner.sandbox(&confine::Inside {
        user,
        own: &own,
        reads: &run.reads,
        names: Some(confine::Names { passwd: &dir.join(PASSWD), group: &dir.join(GROUP) }),
        resolv_conf: Some(&dir.join(RESOLV_CONF)),
        directory,
        network,
    })
}

/// Starts the supervisor of a replica that is laid out.
fn start(shared: &Shared, dir: PathBuf, spec: Spec, private: &Private) -> io::Result<Process> {
    let shim = &shared.settings.shim;
    let mut command = tokio::process::Command::new(&shim.program);
    command.args(&shim.args).arg(&dir).env_clear().current_dir("/");
    command.stdin(private.to_memory()?).stdout(Stdio::null()).stderr(Stdio::null());
    // Dropping the handle neither ends the process nor waits for it: the runtime reaps it when it ends.
    let child = command.spawn()?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).ok_or(io::ErrorKind::NotFound)?;
    Process::open(dir, Arc::new(spec), pid, None)
}

/// The way out of its network.
pub(in crate::runtime) fn plug(
    shared: &Shared,
    id: ReplicaId,
    revision: &Revision,
    has: Option<u16>,
) -> Result<Option<Plug>, PrepareError> {
    let Some(uplink) = &shared.settings.uplink else { return Ok(None) };
    let spares = shared.spares.waiting();
    let mut replicas = shared.replicas();
    let taken = |slot| {
        spares.iter().any(|spare| spare.plug.slot == slot)
            || replicas.values().any(|entry| entry.slot == Some(slot))
    };
    let free = has.or_else(|| free_slot(id, taken));
    let slot = free.ok_or_else(|| PrepareError::NoNetwork("every address is taken".to_owned()))?;
    if let Some(entry) = replicas.get_mut(&id) {
        entry.slot = Some(slot);
    }
    drop((replicas, spares));
    uplink.plug(slot, &revision.outbound).map_err(PrepareError::NoNetwork)
}

/// A place in the middle that is not taken.
pub(super) fn free_slot(id: ReplicaId, taken: impl Fn(u16) -> bool) -> Option<u16> {
    // Starts somewhere else each time: answers to the last one with this address may still be under way.
    let first = u16::try_from(scatter(id) % usize::from(SLOTS)).unwrap_or(0);
    (0..SLOTS).map(|step| (first + step) % SLOTS).find(|&slot| !taken(slot))
}

/// A port and a user id that no other replica has, kept until the replica is forgotten.
fn claim(shared: &Shared, id: ReplicaId, fixed: Option<u16>) -> Result<(u16, Option<u32>), PrepareError> {
    let mut replicas = shared.replicas();
    let taken = |port: u16| replicas.values().any(|entry| entry.port == Some(port)) || in_use(port);
    let own_network = shared.settings.own_network();
    let port = match fixed {
        // Nobody else is in its network.
        _ if own_network => fixed.unwrap_or(PORT),
        Some(port) if taken(port) => return Err(PrepareError::PortInUse(port)),
        Some(port) => port,
        None => {
            let range = shared.settings.ports.clone();
            let length = range.len().max(1);
            // Starts somewhere else each time, so that a port is not given to another app right after it was freed.
            let first = scatter(id) % length;
            let mut candidates = range.clone().cycle().skip(first).take(length);
            candidates.find(|&port| !taken(port)).ok_or(PrepareError::NoPort)?
        }
    };
    let entry = replicas.get_mut(&id).ok_or(PrepareError::NoPort)?;
    entry.port = (!own_network).then_some(port);
    drop(replicas);
    Ok((port, claim_user(shared, id)))
}

/// A user id that no other replica has, kept until the replica is forgotten.
pub(in crate::runtime) fn claim_user(shared: &Shared, id: ReplicaId) -> Option<u32> {
    let mut replicas = shared.replicas();
    let mut all = shared.settings.uids.clone();
    let user = all.find(|&user| replicas.values().all(|entry| entry.user != Some(user)));
    if let Some(entry) = replicas.get_mut(&id) {
        entry.user = user;
    }
    user
}

/// A number that differs from replica to replica.
pub(in crate::runtime) fn scatter(id: ReplicaId) -> usize {
    id.to_string().bytes().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)))
}

fn in_use(port: u16) -> bool {
    let v4 = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port));
    let taken = v4.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse);
    drop(v4);
    taken
        || TcpListener::bind((Ipv6Addr::LOCALHOST, port))
            .is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

/// Makes the replica's directories, and returns the one its program starts in, below [`WORK`].
fn lay_out(dir: &Path, artefact: &Path, run: &RunFile, user: Option<u32>) -> io::Result<PathBuf> {
    files::make_passage(dir)?;
    let mut parts = run.working_directory.components();
    let plain = |part: &Component<'_>| matches!(part, Component::Normal(_));
    if !run.working_directory.components().all(|part| plain(&part)) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the working directory leaves the artefact"));
    }
    let top = parts.next().ok_or(io::ErrorKind::InvalidData)?;
    files::copy_tree(&artefact.join(top), &dir.join(WORK), user)?;
    files::make_private(&dir.join(HOME), user)?;
    files::make_private(&dir.join(TMP), user)?;
    write_names(dir, user)?;
    Ok(parts.as_path().to_owned())
}

/// Who the program is, for those that look themselves up.
fn write_names(dir: &Path, user: Option<u32>) -> io::Result<()> {
    let user = user.unwrap_or_else(|| rustix::process::geteuid().as_raw());
    let (home, nobody) = (confine::HOME, 65_534);
    let passwd = format!(
        "root:x:0:0:root:/nonexistent:/usr/sbin/nologin\napp:x:{user}:{user}:app:{home}:/bin/sh\n\
         nobody:x:{nobody}:{nobody}:nobody:/nonexistent:/usr/sbin/nologin\n"
    );
    std::fs::write(dir.join(RESOLV_CONF), Uplink::resolv_conf())?;
    std::fs::write(dir.join(PASSWD), passwd)?;
    std::fs::write(dir.join(GROUP), format!("root:x:0:\napp:x:{user}:\nnogroup:x:{nobody}:\n"))
}

/// What the build says of the environment of the program.
fn environment(run: &RunFile) -> BTreeMap<String, String> {
    let mut path = String::new();
    for entry in &run.path_prepend {
        let _ = write!(path, "{}:", entry.display());
    }
    path.push_str(PATH);
    let defaults = [("PATH", path.as_str()), ("LANG", "C.UTF-8"), ("PYTHONUNBUFFERED", "1")];
    let mut env: BTreeMap<String, String> =
        defaults.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    env.extend(run.env.clone());
    env
}

/// Adds the launcher's variables, and over them what the platform promises.
pub(in crate::runtime) fn promised(
    env: &mut BTreeMap<String, String>,
    revision: &Revision,
    port: u16,
) -> Result<(), PrepareError> {
    for variable in &revision.variables {
        let (name, value) = (&variable.name, &variable.value);
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(PrepareError::BadVariable(name.clone()));
        }
        env.insert(name.clone(), value.clone());
    }
    for secret in revision.secrets.iter().filter(|secret| !secret.is_file) {
        if secret.name.is_empty() || secret.name.contains(['=', '\0']) || secret.value.contains('\0') {
            return Err(PrepareError::BadVariable(secret.name.clone()));
        }
        env.insert(secret.name.clone(), secret.value.clone());
    }
    let port = port.to_string();
    let promised = [
        ("PORT", port.as_str()),
        ("RENKU_SESSION_PORT", port.as_str()),
        ("RENKU_SESSION_IP", "0.0.0.0"),
        ("MARMOT_APP_NAME", revision.app.as_str()),
        ("MARMOT_APP_URL", revision.url.as_str()),
    ];
    env.extend(promised.map(|(name, value)| (name.to_owned(), value.to_owned())));
    Ok(())
}

/// Puts the port where an argument names it. Nothing else is expanded: arguments are not for a shell.
pub(in crate::runtime) fn with_port(argument: &str, port: u16) -> String {
    let port = port.to_string();
    let mut text = argument.replace("${PORT}", &port).replace("$(PORT)", &port);
    let mut from = 0;
    while let Some(at) = text[from..].find("$PORT").map(|at| from + at) {
        let end = at + "$PORT".len();
        // `$PORTAL` is another name.
        if text[end..].starts_with(|next: char| next.is_ascii_alphanumeric() || next == '_') {
            from = end;
        } else {
            text.replace_range(at..end, &port);
            from = at + port.len();
        }
    }
    text
}

/// Finds the program before anything is started: without a slash in the program's own `PATH`, not in the server's;
/// else from the directory it starts in.
fn find(argv: &[String], env: &BTreeMap<String, String>, directory: &Path) -> Result<String, PrepareError> {
    let Some(name) = argv.first().filter(|name| !name.is_empty()) else {
        return Err(PrepareError::NoCommand);
    };
    if argv.iter().any(|argument| argument.contains('\0')) {
        return Err(PrepareError::BadArgument);
    }
    let missing = || PrepareError::NoProgram(name.clone());
    if name.contains('/') {
        return if directory.join(name).exists() { Ok(name.clone()) } else { Err(missing()) };
    }
    let path = env.get("PATH").map_or(PATH, String::as_str);
    let mut places = path.split(':').map(|place| directory.join(place).join(name));
    let found = places.find(|place| place.is_file() && access(place, Access::EXEC_OK).is_ok());
    found.as_deref().map(text).ok_or_else(missing)
}

/// Where a replica is asked whether it answers.
pub(in crate::runtime) fn address(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_port_is_put_into_arguments() {
        let cases = [
            ("--port=$PORT", "--port=80"),
            ("0.0.0.0:${PORT}", "0.0.0.0:80"),
            ("$(PORT) $PORT,$PORT", "80 80,80"),
            ("$PORTAL $HOME `id` $$PORT_X", "$PORTAL $HOME `id` $$PORT_X"),
        ];
        for (given, expected) in cases {
            assert_eq!(with_port(given, 80), expected);
        }
    }
}
