//! The supervisor of one replica: a small process that outlives the server.
//!
//! It starts the program in its control group and process group, writes its output to the log, adopts and reaps
//! what the program leaves behind, notes how it ended, and ends whatever is left of it. The server never waits for
//! it as a parent would, so a replica that was started by an earlier server is watched in the same way.

use std::ffi::OsString;
use std::fs;
use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;

use rustix::io::{Errno, FdFlags};
use rustix::process::{Resource, Rlimit, Signal, WaitOptions, WaitStatus};

use crate::confine::seccomp;
use crate::network::guard;
use crate::procfs::{self, RawPid};

pub(crate) mod doorman;
pub(crate) mod log;
pub(crate) mod network;
pub(crate) mod spare;
pub(crate) mod spec;

use log::Log;
use network::Held;
use spec::{End, Exit, Launch, Private, Spec};

/// Files and sockets that one process of a replica may have open.
const DESCRIPTORS: u64 = 16_384;

/// Runs the supervisor. `args`: the replica's directory, or that it waits for one, or that it guards the way out. A program
/// offers this as a hidden sub-command.
///
/// It must be called before the program starts any thread.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args = args.into_iter();
    let Some(first) = args.next() else { return ExitCode::FAILURE };
    let done = stand_alone().and_then(|()| {
        if first == spare::SPARE {
            spare::serve()
        } else if first == guard::GUARD {
            guard::stand(&args.next().map(PathBuf::from).unwrap_or_default())
        } else {
            supervise(&PathBuf::from(first))
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // The directory is gone or unusable: this replica is no longer wanted, or nobody could learn of its end.
        Err(_) => ExitCode::FAILURE,
    }
}

/// Leaves the server's session, and takes what its replica leaves behind.
fn stand_alone() -> io::Result<()> {
    // A session of its own: signals of the server's terminal do not reach it. Fails only where it has one already.
    let _ = rustix::process::setsid();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    // A core dump would put the memory of a program, with its secrets, where the host keeps them.
    let no_dumps = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, no_dumps)?;
    limit_descriptors()
}

fn supervise(dir: &Path) -> io::Result<()> {
    let spec: Spec = spec::read(dir, spec::SPEC)?.ok_or(io::ErrorKind::NotFound)?;
    if let Some(contained) = &spec.container {
        return doorman::serve(dir, contained);
    }
    let private = Private::read(io::stdin().lock())?;
    // From here on, whoever finds the directory finds this process. Fails when the directory was removed.
    spec::write(dir, spec::SHIM, &spec::ShimProcess::own()?)?;
    let started = start(dir, &spec, &private);
    look_after(dir, &spec, private, started)
}

/// Looks after a program from its start to its end, which it notes.
fn look_after(
    dir: &Path,
    spec: &Spec,
    private: Private,
    started: io::Result<(RawPid, PipeReader)>,
) -> io::Result<()> {
    let mut log = Log::new(dir, spec.launch.log_bytes, &private.masked);
    drop(private);
    let end = match started {
        Ok((program, output)) => {
            let copying = thread::spawn(move || log.copy(output));
            let end = wait_for(program);
            let exit = Exit {
                end,
                at: jiff::Timestamp::now(),
                out_of_memory: spec.group.out_of_memory(),
                peak_bytes: spec.group.peak_bytes(),
            };
            let noted = spec::write(dir, spec::EXIT, &exit);
            end_all(spec);
            // Nobody is left who could write, so this ends.
            let _ = copying.join();
            return noted;
        }
        Err(error) => End::NotStarted(why_not(&spec.launch, &error)),
    };
    spec::write(
        dir,
        spec::EXIT,
        &Exit { end, at: jiff::Timestamp::now(), out_of_memory: false, peak_bytes: None },
    )
}

/// One program must not use up the machine's descriptors.
fn limit_descriptors() -> io::Result<()> {
    let own = rustix::process::getrlimit(Resource::Nofile);
    let limit = own.maximum.map_or(DESCRIPTORS, |most| most.min(DESCRIPTORS));
    Ok(rustix::process::setrlimit(Resource::Nofile, Rlimit { current: Some(limit), maximum: Some(limit) })?)
}

/// Starts the program inside its control group: this process goes in, starts it, and comes out again.
fn start(dir: &Path, spec: &Spec, private: &Private) -> io::Result<(RawPid, PipeReader)> {
    let (output, writer) = io::pipe()?;
    let sandbox = spec.launch.sandbox.as_ref().filter(|sandbox| sandbox.own_network);
    let plug = match sandbox {
        Some(sandbox) => network::leave_the_machines_users(sandbox.plug.as_ref())?,
        None => None,
    };
    let home = spec.group.enter()?;
    let said = writer.try_clone();
    let started = spawn(spec, private, writer, sandbox.is_some());
    home.restore();
    let (program, held) = started?;
    if let Some(held) = held {
        held.let_go(dir, plug, said?)?;
    }
    Ok((program, output))
}

/// Starts the program. `makes_network`: one is made for it, and it is held until that is connected.
fn spawn(
    spec: &Spec,
    private: &Private,
    output: PipeWriter,
    makes_network: bool,
) -> io::Result<(RawPid, Option<Held>)> {
    let launch = &spec.launch;
    let mut command;
    let (mut arguments, mut inherited, mut held) = (None, Vec::new(), None);
    if let Some(sandbox) = &launch.sandbox {
        let (reader, writer) = inherited_pipe()?;
        command = Command::new(&sandbox.program);
        command.arg("--args").arg(reader.as_raw_fd().to_string());
        if let Some(bytes) = seccomp::filter() {
            let (reader, mut writer) = inherited_pipe()?;
            command.arg("--seccomp").arg(reader.as_raw_fd().to_string());
            // Shorter than what a pipe holds, so that nobody has to read yet.
            writer.write_all(&bytes)?;
            inherited.push(OwnedFd::from(reader));
        }
        if makes_network {
            let (hold, children) = Held::new()?;
            command.arg("--info-fd").arg(children[0].as_raw_fd().to_string());
            command.arg("--block-fd").arg(children[1].as_raw_fd().to_string());
            inherited.extend(children);
            held = Some(hold);
        }
        command.arg("--").args(&sandbox.before).args(&launch.argv);
        // Where bubblewrap is started from does not matter; what it was started with can be read by the program.
        command.env_clear().current_dir("/");
        let (files, mut bytes) = secret_files(private)?;
        inherited.extend(files);
        bytes.extend(sandbox_arguments(private, &sandbox.args));
        arguments = Some((reader, writer, bytes));
    } else {
        let [program, rest @ ..] = &launch.argv[..] else { return Err(io::ErrorKind::InvalidInput.into()) };
        command = Command::new(program);
        command.args(rest).env_clear().envs(&private.env).current_dir(&launch.directory);
    }
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
    let child = command.spawn()?;
    drop(inherited);
    if let Some((reader, mut writer, bytes)) = arguments {
        drop(reader);
        // When bubblewrap has ended already, its exit says so.
        let _ = writer.write_all(&bytes);
    }
    Ok((RawPid::try_from(child.id()).map_err(io::Error::other)?, held))
}

/// A pipe whose reading end the child inherits.
fn inherited_pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    inherit(&reader)?;
    Ok((reader, writer))
}

/// Lets children have this descriptor.
fn inherit(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::io::fcntl_setfd(fd, FdFlags::empty())?)
}

/// The sandbox's arguments as bubblewrap reads them from a descriptor: other users could read its command line.
fn sandbox_arguments(private: &Private, args: &[String]) -> Vec<u8> {
    let variables = private.env.iter().flat_map(|(name, value)| ["--setenv", name, value]);
    nul_ended(args.iter().map(String::as_str).chain(variables))
}

/// Files that exist in the sandbox alone: from where bubblewrap reads them, and its arguments for them.
fn secret_files(private: &Private) -> io::Result<(Vec<OwnedFd>, Vec<u8>)> {
    let (mut files, mut arguments) = (Vec::new(), Vec::new());
    for (name, value) in &private.files {
        let file = spec::in_memory(value.as_bytes())?;
        inherit(&file)?;
        let (fd, path) = (file.as_raw_fd().to_string(), format!("{}/{name}", crate::confine::SECRETS));
        // Nobody but the replica's own user is in there to read it.
        arguments.extend(nul_ended(["--perms", "0444", "--file", &fd, &path]));
        files.push(OwnedFd::from(file));
    }
    Ok((files, arguments))
}

fn nul_ended<'a>(words: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    words.into_iter().flat_map(|word| word.bytes().chain([0])).collect()
}

/// Why the program could not be started, in words.
fn why_not(launch: &Launch, error: &io::Error) -> String {
    let program = launch.argv.first().map_or("", String::as_str);
    match error.kind() {
        io::ErrorKind::NotFound if !launch.directory.is_dir() => {
            format!("its working directory {} does not exist", launch.directory.display())
        }
        io::ErrorKind::NotFound => format!("there is no program `{program}`"),
        io::ErrorKind::PermissionDenied => format!("`{program}` may not be executed"),
        _ => format!("`{program}`: {error}"),
    }
}

/// Waits for the program, and reaps what it and its children leave behind.
fn wait_for(program: RawPid) -> End {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get() == program => return end_of(status),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return End::NotStarted(format!("it was lost: {error}")),
        }
    }
}

fn end_of(status: WaitStatus) -> End {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => End::Exited(code),
        (None, signal) => End::Killed(signal.unwrap_or(0)),
    }
}

/// Ends whatever is left of the replica, and reaps it.
fn end_all(spec: &Spec) {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    loop {
        spec.group.kill();
        // What has left the control group is still a descendant: this process is where orphans come to.
        for pid in procfs::descendants(own) {
            procfs::signal(pid, Signal::KILL);
        }
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// Ends what a supervisor that was itself ended could not end.
pub(crate) fn end_orphans(spec: &Spec) {
    spec.group.kill();
    for pid in procfs::all() {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        if environment.split(|&byte| byte == 0).any(|variable| variable == spec.marker.as_bytes()) {
            procfs::signal(pid, Signal::KILL);
        }
    }
}
