//! Installs an environment of conda: solved and laid out by this process, which runs no code of any package.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rattler::install::{Installer, LinkOptions};
use rattler::package_cache::PackageCache;
use rattler_conda_types::{
    Channel, ChannelConfig, GenericVirtualPackage, MatchSpec, PackageName, PackageRecord, ParseStrictness,
    RepoDataRecord,
};
use rattler_repodata_gateway::Gateway;
use rattler_solve::{SolverImpl as _, SolverTask, resolvo};
use url::Url;

use super::collect;
use super::conda_scripts;
use super::contract::BuildContext;
use super::environment::{Environment, Key, Place};
use super::install::{self, InstallError, Order};
use super::plan::CondaManifest;
use super::process::{Interrupted, Job, Program};
use super::python;

/// What is beneath the names of channels, unless the operator says something else.
const ALIAS: &str = "https://conda.anaconda.org/";
/// The channel of an environment that names none.
const CHANNEL: &str = "conda-forge";

/// Installs `conda`, and what uv is to install on top, or finds it installed.
pub(super) async fn install(
    context: &BuildContext,
    job: &Job,
    order: &Order<'_>,
    conda: &CondaManifest,
) -> Result<Environment, InstallError> {
    let channels = channels(context, job, conda)?;
    let system = system(job).await?;
    let key = || {
        let key =
            Key::of(order.owner).with("conda").with(format!("{:?}", conda.specs)).with(format!("{system:?}"));
        channels.iter().fold(key, |key, channel| key.with(channel.base_url.as_str()))
    };
    let lock = context.cache_dir.join("conda-locks").join(format!("{}.json", key().name()));
    let mut whole = key()
        .with("with its scripts run")
        .with(format!("{:?} {:?} {:?}", conda.pip, conda.requirements, order.extra));
    for file in &order.manifest.files {
        whole = whole.with_file(&order.code.join(file))?;
    }
    whole = if order.manifest.local { whole.with(order.commit) } else { whole };
    let place = Place::hold(context, job, whole).await?;
    let prefix = place.dir.join("prefix");
    if place.is_whole()? {
        job.log.say("Nothing that decides about packages has changed: the environment is re-used.");
    } else {
        let unfinished = place.begin()?;
        let work = Work { context, job, conda, channels: &channels, system };
        let records = match read_lock(&lock) {
            Some(records) => {
                job.log.say("The versions are those of the first build of this environment.");
                records
            }
            None => {
                let records = work.interruptible(work.solve()).await??;
                write_lock(&lock, &records)?;
                records
            }
        };
        let ordered = PackageRecord::sort_topologically(records.clone());
        work.interruptible(work.lay_out(&prefix, records)).await??;
        conda_scripts::link(job, &prefix, &ordered).await?;
        conda_scripts::activate(job, &place.dir, &prefix).await?;
        let python = python::inspect(job, &prefix.join("bin/python")).await?;
        install::on_top(context, job, order, &python, &prefix).await?;
        unfinished.finish()?;
    }
    let python = python::inspect(job, &prefix.join("bin/python")).await?;
    let mut variables = conda_scripts::activated(&place.dir)?;
    variables.extend(conda.variables.iter().cloned());
    variables.insert("CONDA_PREFIX".to_owned(), prefix.to_string_lossy().into_owned());
    variables.insert("PYTHONUNBUFFERED".to_owned(), "1".to_owned());
    let mut reads = python.reads();
    reads.retain(|path| !path.starts_with(&prefix));
    reads.push(prefix.clone());
    let told = format!("Python {} by conda.", python.version);
    Ok(Environment { bins: vec![prefix.join("bin")], variables, reads, told, packages: None })
}

/// The channels that are asked for: by name, or by an address that the operator names.
fn channels(context: &BuildContext, job: &Job, conda: &CondaManifest) -> Result<Vec<Channel>, InstallError> {
    let given = |name: &str| {
        let found = context.environment.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let alias = match given("CONDA_CHANNEL_ALIAS") {
        none if none.is_empty() => ALIAS.to_owned(),
        alias => format!("{}/", alias.trim_end_matches('/')),
    };
    let allowed = given("CONDA_CHANNELS");
    let mut config = ChannelConfig::default_with_root_dir("/".into());
    config.channel_alias = alias.parse::<Url>().map_err(|error| InstallError::Refused {
        why: format!("the operator's `CONDA_CHANNEL_ALIAS` is no address: {error}"),
        advice: "Tell the operator",
    })?;
    let mut channels: Vec<Channel> = Vec::new();
    for name in conda.channels.iter().map(String::as_str).chain(conda.channels.is_empty().then_some(CHANNEL))
    {
        let named = if ["defaults", "main", "anaconda"].contains(&name) {
            job.log.say(&format!("Warning: the channel `{name}` is not used; {CHANNEL} is, in its place."));
            CHANNEL
        } else {
            name
        };
        let plain = named.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'));
        let known = allowed.split([',', ' ']).any(|address| !address.is_empty() && address == named);
        let beneath = named.starts_with(&alias) && !named.contains("..");
        if !(known || beneath || (plain && !named.starts_with(['/', '.']) && !named.contains(".."))) {
            let shown: String = named.chars().take(80).collect();
            return Err(InstallError::Refused {
                why: format!("the channel `{shown}` is an address; channels are taken by their names"),
                advice: "Name a channel such as conda-forge; the operator can allow others (`CONDA_CHANNELS`)",
            });
        }
        let channel = Channel::from_str(named, &config).map_err(|error| InstallError::Refused {
            why: format!("the channel `{named}` cannot be used: {error}"),
            advice: "Name a channel such as conda-forge",
        })?;
        if !channels.contains(&channel) {
            channels.push(channel);
        }
    }
    Ok(channels)
}

/// The version of the C library, which packages are made for.
async fn system(job: &Job) -> Result<Option<String>, Interrupted> {
    let said = job.ask(&Program::new("/usr/bin/getconf").arg("GNU_LIBC_VERSION"), 200).await?;
    Ok(said.stdout.trim().strip_prefix("glibc ").map(str::to_owned))
}

fn read_lock(path: &Path) -> Option<Vec<RepoDataRecord>> {
    collect::touch(path);
    // One that cannot be read is written anew.
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

fn write_lock(path: &Path, records: &[RepoDataRecord]) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    std::fs::write(path, serde_json::to_vec(records)?)
}

struct Work<'a> {
    context: &'a BuildContext,
    job: &'a Job,
    conda: &'a CondaManifest,
    channels: &'a [Channel],
    system: Option<String>,
}

impl Work<'_> {
    async fn interruptible<T>(&self, work: impl Future<Output = T>) -> Result<T, Interrupted> {
        tokio::select! {
            biased;
            () = self.job.cancel.cancelled() => Err(Interrupted::Cancelled),
            () = tokio::time::sleep_until(self.job.deadline) => Err(Interrupted::TimedOut(self.job.limits.time)),
            interrupted = self.job.no_room(&[]) => Err(interrupted),
            done = work => Ok(done),
        }
    }

    fn cache(&self) -> PathBuf {
        self.context.cache_dir.join("conda")
    }

    /// Finds versions that go together.
    async fn solve(&self) -> Result<Vec<RepoDataRecord>, InstallError> {
        let names = self
            .channels
            .iter()
            .map(|channel| channel.name.clone().unwrap_or_else(|| channel.base_url.to_string()))
            .collect::<Vec<_>>();
        self.job.log.say(&format!("Asking {} for packages", names.join(", ")));
        let specs = self.conda.specs.iter().map(|spec| MatchSpec::from_str(spec, ParseStrictness::Lenient));
        let specs: Vec<MatchSpec> =
            specs.collect::<Result<_, _>>().map_err(|error| InstallError::Refused {
                why: format!("{} names a package that is not understood: {error}", self.conda.file),
                advice: "Write it as `name=version`",
            })?;
        let platform = if cfg!(target_arch = "aarch64") { "linux-aarch64" } else { "linux-64" };
        let platforms = [platform, "noarch"].into_iter().filter_map(|platform| platform.parse().ok());
        let platforms: Vec<_> = platforms.collect();
        let gateway = Gateway::builder().with_cache_dir(self.cache().join("repodata")).finish();
        let query = gateway.query(self.channels.to_vec(), platforms, specs.clone()).recursive(true);
        let data = query.await.map_err(|error| InstallError::Refused {
            why: format!("the channels cannot be read: {}", chain(&error)),
            advice: "Check their names; or they cannot be reached from this server: tell its operator",
        })?;
        let virtual_packages = self.virtual_packages();
        let solved = tokio::task::spawn_blocking(move || {
            let task = SolverTask { specs, virtual_packages, ..data.iter().collect() };
            resolvo::Solver.solve(task).map(|solved| solved.records)
        });
        match solved.await.map_err(io::Error::other)? {
            Ok(records) => Ok(records),
            Err(error) => {
                let said = error.to_string();
                said.lines().for_each(|line| self.job.log.output(line.as_bytes()));
                let line = said.lines().map(str::trim).find(|line| !line.is_empty() && !line.ends_with(':'));
                Err(InstallError::Refused {
                    why: format!(
                        "no versions of the packages in {} go together: {}",
                        self.conda.file,
                        line.unwrap_or("see the log").trim_start_matches(['├', '└', '─', '│', ' '])
                    ),
                    advice: "Loosen or remove the versions that contradict each other, or add the channel that has them",
                })
            }
        }
    }

    /// What packages may ask of the machine.
    fn virtual_packages(&self) -> Vec<GenericVirtualPackage> {
        let machine = if cfg!(target_arch = "aarch64") { "aarch64" } else { "x86_64" };
        let glibc = self.system.as_deref().unwrap_or("2.17");
        let all = [
            ("__unix", "0", "0"),
            ("__linux", "5.10", "0"),
            ("__glibc", glibc, "0"),
            ("__archspec", "1", machine),
        ];
        let package = |(name, version, build): (&str, &str, &str)| {
            Some(GenericVirtualPackage {
                name: PackageName::try_from(name).ok()?,
                version: version.parse().ok()?,
                build_string: build.parse().ok()?,
            })
        };
        all.into_iter().filter_map(package).collect()
    }

    /// Fetches the packages and puts their files into `prefix`.
    async fn lay_out(&self, prefix: &Path, records: Vec<RepoDataRecord>) -> Result<(), InstallError> {
        for record in &records {
            let package = &record.package_record;
            self.job.log.say(&format!(" + {}={}", package.name.as_normalized(), package.version));
        }
        // Their files become those of the user of builds, and code of packages may run beside them: no links into what
        // others have, too. Their own scripts run afterwards, confined.
        let links = LinkOptions { allow_hard_links: Some(false), ..LinkOptions::default() };
        let installer = Installer::new()
            .with_execute_link_scripts(false)
            .with_link_options(links)
            .with_package_cache(PackageCache::new(self.cache().join("packages")));
        let installed = installer.install(prefix, records).await;
        installed.map_err(|error| match chain(&error) {
            said if super::environment::disk_is_full(&said) => InstallError::DiskFull,
            said => InstallError::Refused {
                why: format!("the packages could not be installed: {said}"),
                advice: "Try again; the log has the details",
            },
        })?;
        let prefix: Arc<Path> = prefix.into();
        let readable = tokio::task::spawn_blocking(move || make_readable(&prefix));
        Ok(readable.await.map_err(io::Error::other)??)
    }
}

/// Lets everybody read what is in `dir`: apps have users of their own, whatever the server's own umask.
fn make_readable(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            continue;
        }
        let mode = entry.metadata()?.permissions().mode();
        let wanted = mode | if kind.is_dir() || mode & 0o100 != 0 { 0o555 } else { 0o444 };
        if wanted != mode {
            std::fs::set_permissions(entry.path(), std::fs::Permissions::from_mode(wanted))?;
        }
        if kind.is_dir() {
            make_readable(&entry.path())?;
        }
    }
    let mode = std::fs::metadata(dir)?.permissions().mode();
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode | 0o555))
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    let whole = causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"));
    whole.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(500).collect()
}
