//! Fetches one commit of a repository into a bare copy that is kept between builds. Nothing is checked out here.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::collect;
use super::contract::BuildContext;
use super::login::{Shown, shown};
use super::process::{Interrupted, Job, Program, Said};
use super::refs::{Missing, Refs, Wanted};
use super::source::{Address, CheckedSource, Transport, is_public};
use crate::wanted::Login;

/// More than this of branches and tags is not read.
const REFS_BYTES: usize = 32 << 20;

/// What git is told on top of its command lines. Repositories are hostile until proven otherwise: nothing in one may
/// run a program, follow a link, or make git speak to another host.
const CONFIG: &str = "\
[core]
	hooksPath = /dev/null
	fsmonitor = false
	symlinks = false
	protectNTFS = true
	protectHFS = true
[transfer]
	fsckObjects = true
[fetch \"fsck\"]
	# Old and harmless mistakes, found in many well-known repositories.
	zeroPaddedFilemode = ignore
	badTimezone = ignore
	missingSpaceBeforeDate = ignore
[fetch]
	# One pack, so that the limit on its size is a limit on what is fetched.
	unpackLimit = 1
[safe]
	bareRepository = explicit
	directory = *
[protocol \"ext\"]
	allow = never
[http]
	followRedirects = false
	lowSpeedLimit = 1000
	lowSpeedTime = 60
[credential]
	helper =
[gc]
	auto = 0
[maintenance]
	auto = false
[init]
	defaultBranch = main
[advice]
	detachedHead = false
";

/// The code could not be fetched.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    #[error("the cache of repositories could not be written: {0}")]
    Cache(#[from] io::Error),
    #[error("the host `{0}` is not known: check the address for a typing mistake")]
    UnknownHost(String),
    #[error(
        "`{host}` leads to {address}, which is not an address of the public internet; builds may not go there"
    )]
    NotPublic { host: String, address: IpAddr },
    #[error("`{0}` was not found: check the address for a typing mistake")]
    NotFound(String),
    #[error(
        "`{0}` may not be read without signing in: it is private, or does not exist. Make it public, use another address, or give the project a credential for its host"
    )]
    NotAllowed(String),
    #[error("`{0}` has moved or leads elsewhere: open it in a browser and use the address that it ends at")]
    Moved(String),
    #[error("`{0}` is empty: push a commit first")]
    Empty(String),
    #[error("`{repository}` has no branch, tag or commit `{revision}`{existing}")]
    UnknownRevision { repository: String, revision: String, existing: marmot_core::Said },
    #[error("`{revision}` is the beginning of several commits: give more of its digits")]
    Ambiguous { revision: String },
    #[error("the repository is larger than {} MiB, which is all that is fetched", .0 >> 20)]
    TooLarge(u64),
    #[error("this server has no git, which fetches code; its operator can install it")]
    NoGit,
    #[error("the disk of this server is full")]
    DiskFull,
    #[error("`{0}` could not be reached: its server does not answer")]
    Unreachable(String),
    #[error(
        "`{0}` could not be trusted: its certificate is not valid here; the operator can add the authority that made it"
    )]
    Certificate(String),
    #[error("git could not fetch `{repository}`: {said}")]
    Git { repository: String, said: String },
}

/// Where a branch, tag or commit is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tip {
    /// At this commit.
    Commit(String),
    /// It is a commit, which never moves.
    Fixed,
    /// There is none of that name.
    Gone,
}

/// A commit that is in the bare copy.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) git_dir: PathBuf,
    pub(super) commit: String,
}

/// Git, and what it is told whatever it does.
#[derive(Debug)]
pub(super) struct Git<'a> {
    context: &'a BuildContext,
    job: &'a Job,
    /// What only fetching needs: the network, and the one host it may speak to.
    remote: Vec<(String, String)>,
    options: Vec<String>,
    address: Address,
    /// The private key that this project shows to the host.
    key: Option<PathBuf>,
}

/// What identifies a repository in the caches.
pub(super) fn repository_key(address: &Address) -> String {
    let digest = Sha256::digest(address.text.trim_end_matches('/').as_bytes());
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

impl<'a> Git<'a> {
    /// Prepares git for the repository at `address`: finds its host, and holds git to the address found.
    pub(super) async fn new(
        context: &'a BuildContext,
        job: &'a Job,
        address: &Address,
        logins: &[Login],
    ) -> Result<Self, FetchError> {
        std::fs::create_dir_all(&context.cache_dir)?;
        std::fs::write(config_path(&context.cache_dir), CONFIG)?;
        let mut git = Self {
            context,
            job,
            remote: context.environment.clone(),
            options: Vec::new(),
            address: address.clone(),
            key: None,
        };
        let has = |name: &str| context.environment.iter().any(|(given, _)| given == name);
        if !has("GIT_SSL_CAINFO")
            && let Some((_, path)) = context.environment.iter().find(|(name, _)| name == "SSL_CERT_FILE")
        {
            git.remote.push(("GIT_SSL_CAINFO".into(), path.clone()));
        }
        git.remote.push(("GIT_ALLOW_PROTOCOL".into(), address.transport.protocol().into()));
        if let Some(login) = logins.iter().find(|login| address.transport.is_at(&login.host)) {
            match shown(login, address, &job.home)? {
                Shown::Nothing => {}
                Shown::Header(variables) => git.remote.extend(variables),
                Shown::Key(path) => git.key = Some(path),
            }
        }
        git.pin_host().await?;
        Ok(git)
    }

    /// Looks the host up once, refuses it if it leads where builds may not go, and makes git use what was found, so
    /// that a second answer of the name service changes nothing.
    async fn pin_host(&mut self) -> Result<(), FetchError> {
        let transport = self.address.transport.clone();
        match &transport {
            Transport::Local(_) => {}
            Transport::Https { host, port } | Transport::Http { host, port } => {
                if self.has_proxy() {
                    // The proxy looks names up and decides where it goes.
                    return Ok(());
                }
                let address = self.look_up(host, *port).await?;
                if host.parse::<IpAddr>().is_err() {
                    self.options.push(format!("http.curloptResolve={host}:{port}:{address}"));
                }
            }
            Transport::Ssh { host, port } => {
                let address = self.look_up(host, *port).await?;
                self.remote.push(("GIT_SSH_COMMAND".into(), self.ssh(host, address)));
                self.remote.push(("GIT_SSH_VARIANT".into(), "ssh".into()));
            }
        }
        Ok(())
    }

    fn has_proxy(&self) -> bool {
        let names = ["https_proxy", "http_proxy", "all_proxy"];
        self.context.environment.iter().any(|(name, value)| {
            names.iter().any(|known| name.eq_ignore_ascii_case(known)) && !value.is_empty()
        })
    }

    async fn look_up(&self, host: &str, port: u16) -> Result<IpAddr, FetchError> {
        let unknown = || FetchError::UnknownHost(host.to_owned());
        let found = tokio::select! {
            () = self.job.cancel.cancelled() => return Err(Interrupted::Cancelled.into()),
            found = tokio::net::lookup_host((host, port)) => found.map_err(|_| unknown())?,
        };
        let found: Vec<IpAddr> = found.map(|address| address.ip()).collect();
        if !self.context.allow_private_networks
            && let Some(&address) = found.iter().find(|&&address| !is_public(address))
        {
            return Err(FetchError::NotPublic { host: host.to_owned(), address });
        }
        // Many servers have no IPv6; a name with both works everywhere by IPv4.
        found.iter().find(|address| address.is_ipv4()).or(found.first()).copied().ok_or_else(unknown)
    }

    fn ssh(&self, host: &str, address: IpAddr) -> String {
        let known_hosts = self.context.cache_dir.join("known_hosts");
        let identity = self.key.as_deref().or(self.context.ssh_identity.as_deref());
        let identity = identity.unwrap_or(Path::new("/dev/null"));
        // Without `-F /dev/null`, the settings of the server's own user would decide where this goes, and without
        // `IdentityAgent=none` whose keys it shows.
        format!(
            "ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=accept-new -o ConnectTimeout=20 \
             -o UserKnownHostsFile={} -o IdentitiesOnly=yes -o IdentityAgent=none -o IdentityFile={} \
             -o HostKeyAlias={host} -o Hostname={address}",
            quoted(&known_hosts),
            quoted(identity),
        )
    }

    /// Git on its own copy of a repository, without the network.
    pub(super) fn local(&self, git_dir: &Path) -> Program {
        let mut option = std::ffi::OsString::from("--git-dir=");
        option.push(git_dir);
        self.plain().env("GIT_ALLOW_PROTOCOL", "").arg(option)
    }

    fn plain(&self) -> Program {
        Program::new(&self.context.git)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", config_path(&self.context.cache_dir))
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "/bin/true")
            .env("SSH_ASKPASS", "/bin/true")
            .env("GIT_LFS_SKIP_SMUDGE", "1")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .file_bytes(self.job.limits.code_bytes)
    }

    fn remote(&self) -> Program {
        let options = self.options.iter().flat_map(|option| ["-c".to_owned(), option.clone()]);
        self.plain().envs(&self.remote).args(options)
    }

    /// Brings the commit that `source` names into the bare copy in `git_dir`, which nobody else may be changing.
    pub(super) async fn fetch(
        &mut self,
        source: &CheckedSource,
        git_dir: &Path,
    ) -> Result<Fetched, FetchError> {
        let refs = self.refs().await?;
        let wanted = refs.find(source.revision.as_deref()).map_err(|missing| match missing {
            Missing::Everything => FetchError::Empty(self.address.text.clone()),
            Missing::Head => self.unknown("HEAD", &refs),
            Missing::Ambiguous(revision) => FetchError::Ambiguous { revision },
        })?;
        self.prepare(git_dir).await?;
        let commit = match wanted {
            Wanted::Tip(commit) => {
                if !self.has(git_dir, &commit).await? {
                    self.fetch_refs(git_dir, &[&format!("+{commit}:refs/marmot/{commit}")], true).await?;
                }
                commit
            }
            Wanted::Commit(prefix) => match self.fetch_commit(git_dir, &prefix).await? {
                Some(commit) => commit,
                None => return Err(self.unknown(&prefix, &refs)),
            },
            Wanted::Unknown(revision) => return Err(self.unknown(&revision, &refs)),
        };
        self.describe(git_dir, &commit).await?;
        Ok(Fetched { git_dir: git_dir.to_owned(), commit })
    }

    /// Where the revision that `source` names is now; nothing is fetched but the list of branches and tags.
    pub(super) async fn tip(&mut self, source: &CheckedSource) -> Result<Tip, FetchError> {
        match self.refs().await?.find(source.revision.as_deref()) {
            Ok(Wanted::Tip(commit)) => Ok(Tip::Commit(commit)),
            Ok(Wanted::Commit(_)) => Ok(Tip::Fixed),
            Ok(Wanted::Unknown(_)) | Err(Missing::Head) => Ok(Tip::Gone),
            Err(Missing::Everything) => Err(FetchError::Empty(self.address.text.clone())),
            Err(Missing::Ambiguous(revision)) => Err(FetchError::Ambiguous { revision }),
        }
    }

    /// A bare repository with nothing in it but what git makes by itself; leftovers of a crash are removed.
    async fn prepare(&self, git_dir: &Path) -> Result<(), FetchError> {
        if git_dir.join("HEAD").is_file() && git_dir.join("objects").is_dir() {
            for lock in ["shallow.lock", "HEAD.lock", "packed-refs.lock", "config.lock"] {
                match std::fs::remove_file(git_dir.join(lock)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                    _ => {}
                }
            }
            return Ok(collect::note_use(git_dir)?);
        }
        if git_dir.exists() {
            std::fs::remove_dir_all(git_dir)?;
        }
        std::fs::create_dir_all(git_dir)?;
        let init = self.plain().args(["init", "--quiet", "--bare", "--template="]).arg(git_dir);
        self.expect(&init).await?;
        Ok(collect::note_use(git_dir)?)
    }

    async fn has(&self, git_dir: &Path, commit: &str) -> Result<bool, FetchError> {
        let exists = self.local(git_dir).args(["cat-file", "-e", &format!("{commit}^{{commit}}")]);
        Ok(self.job.ask(&exists, 4096).await?.ok())
    }

    /// Finds a commit by its first digits: asks for it where the digits are all there, else fetches what there is.
    async fn fetch_commit(&self, git_dir: &Path, prefix: &str) -> Result<Option<String>, FetchError> {
        if let Some(commit) = self.complete(git_dir, prefix).await? {
            return Ok(Some(commit));
        }
        let whole = matches!(prefix.len(), 40 | 64);
        if whole
            && self.fetch_refs(git_dir, &[&format!("+{prefix}:refs/marmot/{prefix}")], true).await.is_ok()
            && self.has(git_dir, prefix).await?
        {
            return Ok(Some(prefix.to_owned()));
        }
        self.job.cancel.is_cancelled().then_some(Interrupted::Cancelled).map_or(Ok(()), Err)?;
        self.job.log.say("Looking for the commit in all branches and tags.");
        let everything = ["+refs/heads/*:refs/marmot/heads/*", "+refs/tags/*:refs/marmot/tags/*"];
        self.fetch_refs(git_dir, &everything, false).await?;
        self.complete(git_dir, prefix).await
    }

    /// The commit that begins with `prefix`, if the copy has it.
    async fn complete(&self, git_dir: &Path, prefix: &str) -> Result<Option<String>, FetchError> {
        let commit = format!("{prefix}^{{commit}}");
        let parse =
            self.local(git_dir).args(["rev-parse", "--verify", "--quiet", "--end-of-options", &commit]);
        let said = self.job.ask(&parse, 4096).await?;
        if said.stderr.contains("ambiguous") {
            return Err(FetchError::Ambiguous { revision: prefix.to_owned() });
        }
        let found = said.stdout.trim();
        Ok((said.ok() && found.starts_with(prefix)).then(|| found.to_owned()))
    }

    async fn fetch_refs(&self, git_dir: &Path, refs: &[&str], shallow: bool) -> Result<(), FetchError> {
        // Git takes the largest depth there is as "all of it", also where an earlier fetch was shallow.
        let depth = if shallow { "--depth=1" } else { "--depth=2147483647" };
        let mut option = std::ffi::OsString::from("--git-dir=");
        option.push(git_dir);
        let fetch = self.remote().arg(option).args([
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-recurse-submodules",
            "--no-write-fetch-head",
            "--no-auto-maintenance",
            depth,
            "--",
            &self.address.text,
        ]);
        let packs = UnfinishedPacks(git_dir.join("objects/pack"));
        let said = self.job.ask(&fetch.args(refs.iter().copied()), 64 << 10).await?;
        if !said.ok() && packs.largest() + 4096 >= self.job.limits.code_bytes {
            return Err(FetchError::TooLarge(self.job.limits.code_bytes));
        }
        if said.ok() { Ok(()) } else { Err(self.failure(&said)) }
    }

    /// The branches and tags of the repository.
    async fn refs(&mut self) -> Result<Refs, FetchError> {
        match self.ls_remote().await {
            // GitLab and others answer without `.git` by leading there. Anything else that leads elsewhere is refused.
            Err(FetchError::Moved(moved)) if !moved.ends_with(".git") => {
                self.address.text = format!("{}.git", moved.trim_end_matches('/'));
                self.ls_remote().await.map_err(|error| match error {
                    FetchError::Interrupted(interrupted) => interrupted.into(),
                    _ => FetchError::Moved(moved),
                })
            }
            other => other,
        }
    }

    async fn ls_remote(&self) -> Result<Refs, FetchError> {
        let list = self.remote().args(["ls-remote", "--symref", "--", &self.address.text]);
        let said = self.expect(&list.args(["HEAD", "refs/heads/*", "refs/tags/*"])).await?;
        Ok(Refs::parse(&said.stdout))
    }

    /// Says in the log what is being built.
    async fn describe(&self, git_dir: &Path, commit: &str) -> Result<(), FetchError> {
        let show = self.local(git_dir).args(["log", "-1", "--no-show-signature", "--format=%cs %s", commit]);
        let said = self.job.ask(&show, 4096).await?;
        let (date, subject) = said.stdout.trim().split_once(' ').unwrap_or_default();
        let subject: String = subject.chars().filter(|c| !c.is_control()).take(100).collect();
        self.job.log.say(&format!("Commit {} of {date}: {subject}", &commit[..commit.len().min(10)]));
        Ok(())
    }

    /// Runs git and turns what it says when it fails into something to act on.
    async fn expect(&self, program: &Program) -> Result<Said, FetchError> {
        let said = self.job.ask(program, REFS_BYTES).await?;
        if said.ok() { Ok(said) } else { Err(self.failure(&said)) }
    }

    fn failure(&self, said: &Said) -> FetchError {
        let repository = self.address.text.clone();
        let text = said.stderr.to_lowercase();
        let has = |needles: &[&str]| needles.iter().any(|needle| text.contains(needle));
        if said.status.code() == Some(127) {
            FetchError::NoGit
        } else if has(&["no space left on device"]) {
            FetchError::DiskFull
        } else if has(&["could not resolve host", "name or service not known"]) {
            FetchError::UnknownHost(repository)
        } else if has(&["returned error: 30"]) {
            FetchError::Moved(repository)
        } else if has(&[
            "authentication failed",
            "could not read username",
            "error: 401",
            "error: 403",
            "permission denied",
        ]) {
            FetchError::NotAllowed(repository)
        } else if has(&[
            "not found",
            "does not exist",
            "does not appear to be a git repository",
            "error: 404",
        ]) {
            FetchError::NotFound(repository)
        } else if has(&[
            "failed to connect",
            "couldn't connect",
            "connection refused",
            "connection timed out",
            "no route to host",
        ]) {
            FetchError::Unreachable(repository)
        } else if has(&["certificate"]) {
            FetchError::Certificate(repository)
        } else {
            let mut lines = said.stderr.lines().map(str::trim).filter(|line| !line.is_empty());
            let telling = lines.clone().find(|line| line.starts_with("error:") || line.starts_with("fatal:"));
            let line = telling.or(lines.next_back()).unwrap_or("it did not say why");
            FetchError::Git { repository, said: line.chars().take(300).collect() }
        }
    }

    fn unknown(&self, revision: &str, refs: &Refs) -> FetchError {
        FetchError::UnknownRevision {
            repository: self.address.text.clone(),
            revision: revision.to_owned(),
            existing: refs.some(),
        }
    }
}

/// What git writes while it fetches, which goes when it is done: a git that was ended leaves it behind.
struct UnfinishedPacks(PathBuf);

impl UnfinishedPacks {
    fn all(&self) -> impl Iterator<Item = std::fs::DirEntry> {
        let entries = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"tmp_"))
    }

    /// The size of the largest, in bytes.
    fn largest(&self) -> u64 {
        self.all().filter_map(|entry| Some(entry.metadata().ok()?.len())).max().unwrap_or(0)
    }
}

impl Drop for UnfinishedPacks {
    fn drop(&mut self) {
        for entry in self.all() {
            // One that stays is found again by the next fetch.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn config_path(cache_dir: &Path) -> PathBuf {
    cache_dir.join("git.config")
}

/// A path for a command that a shell splits.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"))
}
