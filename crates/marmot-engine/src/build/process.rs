//! The programs that a build runs: each in a process group of its own, which ends with the step, whatever happens.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufReader};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use marmot_core::id::BuildId;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::contract::BuildLimits;
use super::log::{BuildLog, Lines};
use super::reach::{Entrance, Reach};
use super::view::{Reaches, View};
use crate::confine::Confiner;

/// The variable that marks the processes of a build, so that those that left their process group are found as well.
const MARK: &str = "MARMOT_BUILD";

/// Where programs are looked for. The server's own `PATH` may lead into a home that no app can read.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What all steps of a build share.
#[derive(Debug)]
pub(super) struct Job {
    /// Tells its processes from those of every other build, also on another data directory.
    pub(super) mark: Mark,
    pub(super) log: BuildLog,
    pub(super) cancel: CancellationToken,
    pub(super) deadline: Instant,
    /// What this build may use.
    pub(super) limits: BuildLimits,
    /// The home of every program of this build; removed with it.
    pub(super) home: PathBuf,
    pub(super) confiner: Option<Confiner>,
    /// What its confined programs reach.
    pub(super) reach: Reach,
}

/// What marks the processes of one build while it is done.
#[derive(Debug, Clone)]
pub(super) struct Mark(String);

impl Mark {
    /// A mark that nothing had before. Not the build's id alone: another server may do a build of the same id.
    pub(super) fn new(id: BuildId) -> Self {
        Self(format!("{id}-{}", ulid::Ulid::generate()))
    }

    /// Kills the processes that have it in their environment, and says how many there were.
    fn kill(&self) -> usize {
        let mark = format!("{MARK}={}", self.0).into_bytes();
        let Ok(processes) = std::fs::read_dir("/proc") else { return 0 };
        let marked = processes.flatten().filter_map(|process| {
            let pid = Pid::from_raw(process.file_name().to_str()?.parse().ok()?)?;
            let environment = std::fs::read(process.path().join("environ")).ok()?;
            environment.split(|&byte| byte == 0).any(|variable| variable == mark).then_some(pid)
        });
        marked.filter(|&pid| kill_process(pid, Signal::KILL).is_ok()).count()
    }
}

/// A program did not get to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Interrupted {
    #[error("the build was cancelled")]
    Cancelled,
    #[error("it took longer than {}, which is all it may take", in_words(*.0))]
    TimedOut(Duration),
    #[error("`{program}` could not be started: {source}")]
    CouldNotStart { program: String, source: io::Error },
    #[error("the build could not be given a network of its own: {0}")]
    NoNetwork(#[source] io::Error),
    #[error("the output of `{program}` could not be read: {source}")]
    Unreadable { program: String, source: io::Error },
}

fn in_words(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds < 120 => format!("{seconds} seconds"),
        seconds => format!("{} minutes", seconds / 60),
    }
}

/// A program to run, with nothing in its environment that was not put there.
#[derive(Debug, Clone)]
pub(super) struct Program {
    path: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    dir: Option<PathBuf>,
    path_first: Vec<PathBuf>,
    file_bytes: Option<u64>,
    view: Option<View>,
    offline: bool,
}

impl Program {
    pub(super) fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            args: Vec::new(),
            env: Vec::new(),
            dir: None,
            path_first: Vec::new(),
            file_bytes: None,
            view: None,
            offline: false,
        }
    }

    pub(super) fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    pub(super) fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    pub(super) fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    pub(super) fn envs(mut self, all: &[(String, String)]) -> Self {
        self.env.extend(all.iter().map(|(name, value)| (name.into(), value.into())));
        self
    }

    pub(super) fn dir(mut self, dir: &Path) -> Self {
        self.dir = Some(dir.to_owned());
        self
    }

    /// Programs are looked for here, after what was said before and before anywhere else.
    pub(super) fn path_first(mut self, dir: &Path) -> Self {
        self.path_first.push(dir.to_owned());
        self
    }

    /// Where programs can be confined, it sees only this, and the home of the build.
    pub(super) fn sees(mut self, view: View) -> Self {
        self.view = Some(view);
        self
    }

    /// It sees this as well.
    pub(super) fn also_reads(mut self, path: &Path) -> Self {
        self.view = self.view.map(|view| view.reads([path]));
        self
    }

    /// It may change this as well.
    pub(super) fn also_owns(mut self, dir: &Path) -> Self {
        self.view = self.view.map(|view| view.owns([dir]));
        self
    }

    /// Where programs can be confined, it reaches nothing.
    pub(super) fn offline(mut self) -> Self {
        self.offline = true;
        self
    }

    /// The largest file that it may write; writing more ends it with `SIGXFSZ`.
    pub(super) fn file_bytes(mut self, limit: u64) -> Self {
        self.file_bytes = Some(limit);
        self
    }

    fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Its way into the network of the build; `None` where it needs none, or there is none.
    async fn entrance<'j>(&self, job: &'j Job) -> Result<Option<&'j Entrance>, Interrupted> {
        if self.offline || self.view.is_none() || job.confiner.is_none() {
            return Ok(None);
        }
        job.reach.entrance(&job.home, &job.log).await.map_err(Interrupted::NoNetwork)
    }

    fn command(&self, job: &Job, entrance: Option<&Entrance>) -> io::Result<Command> {
        let dir = self.dir.as_ref().unwrap_or(&job.home);
        let mut line = Vec::new();
        if let Some(view) = self.view.clone() {
            let view = view.owns([job.home.as_path()]);
            view.prepare(job.confiner.as_ref())?;
            if let Some(confiner) = &job.confiner {
                let reaches = if self.offline {
                    Reaches::Nothing
                } else {
                    Reaches::What { resolv_conf: entrance.map(Entrance::resolv_conf) }
                };
                let sandbox = view.sandbox(confiner, dir, reaches);
                line.extend(entrance.into_iter().flat_map(Entrance::line));
                line.push(sandbox.program.into_os_string());
                line.extend(
                    sandbox
                        .args
                        .into_iter()
                        .chain(["--".to_owned()])
                        .chain(sandbox.before)
                        .map(OsString::from),
                );
            }
        }
        // The shell sets limits and is replaced by the program; it interprets nothing of what it is given. What is
        // installed must be readable for apps, whatever the server's own umask.
        line.extend(["/bin/sh", "-c"].map(OsString::from));
        match self.file_bytes {
            None => line.extend(["umask 022 && exec \"$@\"", "sh"].map(OsString::from)),
            Some(limit) => {
                line.push("umask 022 && ulimit -f \"$0\" && exec \"$@\"".into());
                line.push(limit.div_ceil(512).to_string().into());
            }
        }
        line.push(self.path.clone().into_os_string());
        let mut path = OsString::new();
        for dir in &self.path_first {
            path.push(dir);
            path.push(":");
        }
        path.push(PATH);
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]).args(&self.args).env_clear().env("PATH", path).env("LC_ALL", "C.UTF-8");
        command.env("HOME", &job.home).env("TMPDIR", &job.home).env(MARK, &job.mark.0);
        command.envs(self.env.iter().map(|(name, value)| (name, value))).current_dir(dir);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        Ok(command)
    }

    async fn spawn(&self, job: &Job, change: impl FnOnce(&mut Command)) -> Result<Child, Interrupted> {
        let entrance = self.entrance(job).await?;
        let spawn = || {
            let mut command = self.command(job, entrance)?;
            change(&mut command);
            command.spawn()
        };
        spawn().map_err(|source| Interrupted::CouldNotStart { program: self.name(), source })
    }

    fn unreadable(&self, source: io::Error) -> Interrupted {
        Interrupted::Unreadable { program: self.name(), source }
    }
}

/// What a program said and how it ended.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) status: ExitStatus,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Said {
    pub(super) fn ok(&self) -> bool {
        self.status.success()
    }
}

impl Job {
    /// Runs `program`; its output goes to the log, and its last part into the answer.
    pub(super) async fn run(&self, program: &Program) -> Result<Said, Interrupted> {
        self.collect(program, |line| self.log.output(line), 64 << 10).await
    }

    /// Runs `program` and returns the last `limit` bytes of its output and of its errors.
    pub(super) async fn ask(&self, program: &Program, limit: usize) -> Result<Said, Interrupted> {
        self.collect(program, |_| {}, limit).await
    }

    async fn collect(
        &self,
        program: &Program,
        each: impl Fn(&[u8]),
        keep: usize,
    ) -> Result<Said, Interrupted> {
        let mut child = program.spawn(self, |_| {}).await?;
        let group = Group::of(&child);
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let closed = CancellationToken::new();
        let output = async {
            let output = tokio::try_join!(read(out, &each, keep), read(err, &each, keep));
            closed.cancel();
            output
        };
        let exit = async {
            let status = child.wait().await?;
            group.end();
            // Whoever still holds the output open has left the group.
            if tokio::time::timeout(Duration::from_secs(1), closed.cancelled()).await.is_err() {
                self.end_strays().await;
            }
            Ok(status)
        };
        let work = async { tokio::try_join!(exit, output) };
        let (status, (stdout, stderr)) = self.unless_interrupted(program, work).await?;
        Ok(Said { status, stdout, stderr })
    }

    /// Runs `program`, feeds it `input`, and lets `consume` read its output on a thread of its own. When `consume`
    /// has read enough, the program is ended.
    pub(super) async fn stream<T: Send + 'static>(
        &self,
        program: &Program,
        input: Vec<u8>,
        consume: impl FnOnce(BufReader<File>) -> T + Send + 'static,
    ) -> Result<(T, Said), Interrupted> {
        let child = program.spawn(self, |command| {
            command.stdin(Stdio::piped());
        });
        let mut child = child.await?;
        let group = Group::of(&child);
        let (stdin, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let out: OwnedFd = match out.map(|out| out.into_owned_fd()) {
            Some(Ok(out)) => out,
            Some(Err(source)) => return Err(program.unreadable(source)),
            None => return Err(program.unreadable(io::ErrorKind::BrokenPipe.into())),
        };
        let feed = async move {
            if let Some(mut stdin) = stdin {
                // A program that has read enough closes its end.
                let _ = stdin.write_all(&input).await;
            }
            Ok(())
        };
        let work = async {
            // The thread ends when the program does: it reads from a pipe.
            let consumed = tokio::task::spawn_blocking(move || {
                consume(BufReader::with_capacity(1 << 16, File::from(out)))
            });
            let consumed = async {
                let consumed = consumed.await.map_err(io::Error::other);
                group.end();
                consumed
            };
            let (consumed, (), stderr) = tokio::try_join!(consumed, feed, read(err, &|_| {}, 64 << 10))?;
            Ok((consumed, child.wait().await?, stderr))
        };
        let (consumed, status, stderr) = self.unless_interrupted(program, work).await?;
        Ok((consumed, Said { status, stdout: String::new(), stderr }))
    }

    async fn unless_interrupted<T>(
        &self,
        program: &Program,
        work: impl Future<Output = io::Result<T>>,
    ) -> Result<T, Interrupted> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Interrupted::Cancelled),
            () = tokio::time::sleep_until(self.deadline) => Err(Interrupted::TimedOut(self.limits.time)),
            done = work => done.map_err(|source| program.unreadable(source)),
        }
    }

    /// Ends every process of this build that is still there, also those that left their process group, and waits
    /// until they are gone.
    pub(super) async fn end_strays(&self) {
        // Each pass may find what was forked during the one before; a build that forks faster than it is killed is
        // stopped only by its sandbox.
        for _ in 0..20 {
            let mark = self.mark.clone();
            let found = tokio::task::spawn_blocking(move || mark.kill()).await.unwrap_or(0);
            if found == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Reads to the end, keeps the last `keep` bytes, and gives each line to `each`.
async fn read(
    from: Option<impl AsyncRead + Unpin>,
    each: &impl Fn(&[u8]),
    keep: usize,
) -> io::Result<String> {
    let Some(mut from) = from else { return Ok(String::new()) };
    let mut kept: Vec<u8> = Vec::new();
    let mut lines = Lines::default();
    let mut chunk = vec![0; 16 << 10];
    loop {
        let count = from.read(&mut chunk).await?;
        if count == 0 {
            break;
        }
        lines.feed(&chunk[..count], each);
        kept.extend_from_slice(&chunk[..count]);
        if kept.len() > keep.saturating_mul(2) {
            kept.drain(..kept.len() - keep);
        }
    }
    lines.end(each);
    let start = kept.len().saturating_sub(keep);
    Ok(String::from_utf8_lossy(&kept[start..]).into_owned())
}

/// A process group, which is killed with its guard.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| Pid::from_raw(id.cast_signed())))
    }

    fn end(&self) {
        if let Some(leader) = self.0 {
            // Fails when nobody is left, which is what is wanted.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[test]
    fn ends_its_own_processes_and_not_those_of_a_build_with_the_same_id_elsewhere() {
        let (here, elsewhere) = (Mark::new(BuildId::from(1)), Mark::new(BuildId::from(1)));
        // Its output says that it runs: until then, its environment may not be there to be read.
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", "echo runs; read forever"]).env(MARK, &here.0);
        let mut child = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        std::io::Read::read_exact(&mut child.stdout.take().unwrap(), &mut [0; 5]).unwrap();
        assert_eq!(elsewhere.kill(), 0);
        assert_eq!(here.kill(), 1);
        assert_eq!(child.wait().unwrap().signal(), Some(Signal::KILL.as_raw()));
    }
}
