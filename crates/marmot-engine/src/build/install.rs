//! Installs Python packages into an environment of the cache, once for each set of manifests.
//!
//! Ready-made packages go through one cache of downloads, which no code of a package or repository ever runs beside.
//! Where a package must be built, its code runs; that happens with a cache that only builds of the same app use.
//! So nothing that one app's build does changes what another's reads.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use marmot_core::id::EnvironmentId;

use super::bytecode;
use super::contract::BuildContext;
use super::environment::{self, Environment, Key, Place, disk_is_full, remove};
use super::plan::{Kind, Manifest};
use super::process::{Interrupted, Job, Program, Said};
use super::python::{self, NoPython, Python, uv};
use super::view::View;

/// The packages could not be installed.
#[derive(Debug, thiserror::Error)]
pub(super) enum InstallError {
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    #[error(transparent)]
    Python(#[from] NoPython),
    #[error("the cache of environments could not be written: {0}")]
    Cache(#[source] io::Error),
    #[error("the disk of this server is full")]
    DiskFull,
    #[error("this server has no uv, which installs Python packages; its operator can install it")]
    NoUv,
    #[error("this server has no {what}; its operator can install it (`apt-get install {package}`)")]
    Missing { what: &'static str, package: &'static str },
    #[error("{why}. {advice}")]
    Refused { why: String, advice: &'static str },
}

/// What is to be installed, and for whom.
#[derive(Debug)]
pub(super) struct Order<'a> {
    pub(super) manifest: &'a Manifest,
    pub(super) extra: &'a [String],
    /// The app's files.
    pub(super) code: &'a Path,
    pub(super) artefact: &'a Path,
    /// Whose environments may be shared: those of the same app.
    pub(super) owner: EnvironmentId,
    pub(super) commit: &'a str,
}

/// Installs what `order` names, or finds it installed.
pub(super) async fn install(
    context: &BuildContext,
    job: &Job,
    order: &Order<'_>,
) -> Result<Environment, InstallError> {
    std::fs::metadata(&context.uv).map_err(|_| InstallError::NoUv)?;
    if let Kind::Conda(conda) = &order.manifest.kind {
        return super::conda::install(context, job, order, conda).await;
    }
    let python = python::find(context, job, &order.manifest.python).await?;
    let place = Place::hold(context, job, key(context, order, &python)?).await?;
    let venv = place.dir.join("venv");
    let installer = Installer { context, job, order, python: &python, venv: &venv };
    if place.is_whole()? {
        job.log.say(&format!(
            "Nothing that decides about packages has changed: Python {} and its packages are re-used.",
            python.version
        ));
    } else {
        let unfinished = place.begin()?;
        make(&installer).await?;
        unfinished.finish()?;
    }
    let site = if order.manifest.package { installer.install_project().await? } else { None };
    Ok(installed(&venv, site, &python))
}

/// What was installed: `site` has the project itself, where it is a package.
fn installed(venv: &Path, site: Option<PathBuf>, python: &Python) -> Environment {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut variables = BTreeMap::from([
        ("VIRTUAL_ENV".to_owned(), text(venv)),
        // Else a program's last words before a crash stay in its buffer.
        ("PYTHONUNBUFFERED".to_owned(), "1".to_owned()),
    ]);
    if let Some(site) = &site {
        variables.insert("PYTHONPATH".to_owned(), text(site));
    }
    let mut reads = python.reads();
    reads.push(venv.to_owned());
    reads.extend(site.clone());
    Environment {
        bins: site.iter().map(PathBuf::as_path).chain([venv]).map(|place| place.join("bin")).collect(),
        variables,
        reads,
        told: format!("Python {}.", python.version),
        packages: None,
    }
}

/// The name of the environment: the same for everything that decides what is in it.
fn key(context: &BuildContext, order: &Order<'_>, python: &Python) -> Result<Key, InstallError> {
    // A new uv may install in another way.
    let uv = std::fs::metadata(&context.uv).map_err(|_| InstallError::NoUv)?;
    let mut key = Key::of(order.owner)
        .with(format!("{} {:?}", uv.len(), uv.modified().ok()))
        .with(python.path.to_string_lossy().as_bytes())
        .with(&python.version)
        .with(format!("{:?}", order.manifest.kind));
    for file in &order.manifest.files {
        key = key.with(file).with(std::fs::read(order.code.join(file))?);
    }
    // uv reads its settings there, such as where packages come from.
    for file in ["uv.toml", "pyproject.toml"] {
        key = key.with_file(&order.code.join(file))?;
    }
    key = order.extra.iter().fold(key, |key, package| key.with(package));
    Ok(if order.manifest.local { key.with(order.commit) } else { key })
}

async fn make(installer: &Installer<'_>) -> Result<(), InstallError> {
    let Installer { job, order, python, venv, .. } = *installer;
    job.log.say(&format!("Python {}", python.version));
    let create = ["venv", "--quiet", "--no-config", "--no-project", "--allow-existing", "--python"];
    let create = installer.uv(Packages::ReadyMade).args(create).arg(&python.path).arg(venv);
    expect(job.run(&create).await?, order.manifest)?;
    if order.manifest.kind == Kind::Nothing && order.extra.is_empty() {
        job.log.say("No packages are named, so none are installed.");
        return Ok(());
    }
    install_packages(installer).await
}

/// Installs what uv is asked for on top of `prefix`, which has this Python, if anything.
pub(super) async fn on_top(
    context: &BuildContext,
    job: &Job,
    order: &Order<'_>,
    python: &Python,
    prefix: &Path,
) -> Result<(), InstallError> {
    let installer = Installer { context, job, order, python, venv: prefix };
    install_packages(&installer).await
}

async fn install_packages(installer: &Installer<'_>) -> Result<(), InstallError> {
    let Installer { context, job, order, python, venv } = *installer;
    let requirements = requirements_file(order, &job.home)?;
    if let (Kind::Conda(conda), None) = (&order.manifest.kind, &requirements)
        && conda.requirements.is_empty()
    {
        return Ok(bytecode::compile(job, &own_cache(context, order).join("bytecode"), python, venv).await?);
    }
    let mut packages = if order.manifest.local { Packages::Built } else { Packages::ReadyMade };
    let mut said = installer.install(packages, requirements.as_deref()).await?;
    if packages == Packages::ReadyMade && !said.ok() && wants_building(&said.stderr) {
        job.log.say("Some packages have no ready-made form for this Python, and are built.");
        packages = Packages::Built;
        said = installer.install(packages, requirements.as_deref()).await?;
    }
    expect(said, order.manifest)?;
    let compiled = match packages {
        Packages::ReadyMade => context.cache_dir.join("bytecode"),
        Packages::Built => environment::own_cache(context, order.owner)?.join("bytecode"),
    };
    Ok(bytecode::compile(job, &compiled, python, venv).await?)
}

/// Where packages come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packages {
    /// They are as their authors made them; none of their code runs.
    ReadyMade,
    /// They may have to be built, by code of theirs.
    Built,
}

/// What each program that installs needs to know.
#[derive(Clone, Copy)]
struct Installer<'a> {
    context: &'a BuildContext,
    job: &'a Job,
    order: &'a Order<'a>,
    python: &'a Python,
    /// Where it is installed.
    venv: &'a Path,
}

impl Installer<'_> {
    /// uv, which sees what it needs for `packages`.
    fn uv(&self, packages: Packages) -> Program {
        let (context, code) = (self.context, self.order.code);
        let real_uv = std::fs::canonicalize(&context.uv).unwrap_or_else(|_| context.uv.clone());
        let mut reads = self.python.reads();
        // One that is in the environment itself is shown with it.
        reads.retain(|path| !path.starts_with(self.venv));
        reads.extend([real_uv, context.cache_dir.join("git.config")]);
        reads.extend(environment::named_paths(context));
        let view = View::default().reads(reads.iter().map(PathBuf::as_path));
        let (cache, view) = match packages {
            Packages::ReadyMade => (context.cache_dir.join("packages"), view.reads([code])),
            // Building may write beside the code.
            Packages::Built => (own_cache(context, self.order).join("packages"), view.owns([code])),
        };
        let view = view.owns([cache.as_path(), self.venv]);
        uv(context, &cache).dir(code).sees(view)
    }

    /// Installs by the manifest, and by `requirements`.
    async fn install(&self, packages: Packages, requirements: Option<&Path>) -> Result<Said, InstallError> {
        if packages == Packages::Built {
            environment::own_cache(self.context, self.order.owner)?;
        }
        let program = self.uv(packages);
        let mut program = match &self.order.manifest.kind {
            Kind::UvLock => {
                // The project is installed apart, so that its code does not decide about the environment.
                let program = program.env("UV_PROJECT_ENVIRONMENT", self.venv);
                program.args(["sync", "--frozen", "--no-dev", "--no-editable", "--no-install-project"])
            }
            kind => {
                let program = program.args(["pip", "install", "--python"]).arg(self.venv.join("bin/python"));
                let program = match kind {
                    Kind::Pyproject => program.args(["--requirements", "pyproject.toml"]),
                    Kind::Requirements(file) => program.arg("--requirements").arg(file),
                    Kind::Conda(conda) => conda
                        .requirements
                        .iter()
                        .fold(program, |program, file| program.arg("--requirements").arg(file)),
                    _ => program,
                };
                let made = requirements.map(|path| ["--requirements".into(), path.as_os_str().to_owned()]);
                program.args(made.into_iter().flatten())
            }
        };
        if packages == Packages::ReadyMade {
            program = program.arg("--no-build");
        }
        Ok(self.job.run(&program).await?)
    }

    /// Installs the project itself, beside the environment that it shares with other commits.
    async fn install_project(&self) -> Result<Option<PathBuf>, InstallError> {
        let log = &self.job.log;
        log.say("The project is a package: it is built and installed.");
        environment::own_cache(self.context, self.order.owner)?;
        let site = self.order.artefact.join("site");
        // The environment is that of other commits as well: here it may only be read.
        let Self { context, job, order, python, venv } = *self;
        let beside = Installer { context, job, order, python, venv: &site };
        let program = beside.uv(Packages::Built).also_reads(venv);
        let program =
            program.args(["pip", "install", "--no-deps", "--python"]).arg(self.venv.join("bin/python"));
        let said = self.job.run(&program.arg("--target").arg(&site).arg(".")).await?;
        if said.ok() {
            return Ok(Some(site));
        }
        if disk_is_full(&said.stderr) {
            return Err(InstallError::DiskFull);
        }
        // Many apps have a build system by habit, and are never installed by their authors.
        log.say(
            "Warning: the project could not be installed as a package. It is started from its files; if it imports \
             itself by its name, that may fail.",
        );
        remove(&site)?;
        Ok(None)
    }
}

/// Whether an installation failed for want of ready-made packages.
fn wants_building(stderr: &str) -> bool {
    [
        "--no-build",
        "no usable wheels",
        "building source distributions is disabled",
        "building from source is disabled",
        "no wheels",
    ]
    .iter()
    .any(|sign| stderr.contains(sign))
}

/// The cache of packages that code of this app's builds may have run beside.
fn own_cache(context: &BuildContext, order: &Order<'_>) -> PathBuf {
    context.cache_dir.join("built-packages").join(order.owner.to_string())
}

/// A file with the requirements that no file of the code has.
fn requirements_file(order: &Order<'_>, dir: &Path) -> io::Result<Option<PathBuf>> {
    let mut lines: Vec<&str> = Vec::new();
    if let Kind::Conda(conda) = &order.manifest.kind {
        lines.extend(conda.pip.iter().map(String::as_str));
    }
    if let Kind::Converted(_, requirements) = &order.manifest.kind {
        lines.extend(requirements.iter().map(String::as_str));
    }
    lines.extend(order.extra.iter().map(String::as_str));
    if lines.is_empty() {
        return Ok(None);
    }
    let path = dir.join("marmot-requirements.txt");
    std::fs::write(&path, lines.join("\n") + "\n")?;
    Ok(Some(path))
}

/// Turns what uv says when it fails into something to act on.
fn expect(said: Said, manifest: &Manifest) -> Result<(), InstallError> {
    if said.ok() {
        return Ok(());
    }
    let text = &said.stderr;
    if disk_is_full(text) {
        return Err(InstallError::DiskFull);
    }
    let has = |signs: &[&str]| signs.iter().any(|sign| text.contains(sign));
    let advice = if has(&["was not found in the package registry"]) {
        "Check the name for a typing mistake"
    } else if has(&["has no wheels with a matching", "requires-python", "Requires-Python"]) {
        "Ask for versions that fit this Python, or for another Python in `.python-version`"
    } else if has(&["No solution found"]) {
        "Loosen or remove the versions that contradict each other"
    } else if has(&["Failed to build", "build backend"]) {
        "It has no ready-made form for this Python and could not be built: ask for another version of it"
    } else if has(&["error sending request", "dns error", "Failed to fetch", "Connect", "timed out"]) {
        "The package index cannot be reached from this server: try again, or tell its operator"
    } else if has(&["Git operation failed"]) {
        "Check the address of the repository that the requirement names"
    } else if manifest.kind == Kind::UvLock {
        "Run `uv lock` and push the result"
    } else {
        "The log has the details"
    };
    Err(InstallError::Refused { why: main_line(text), advice })
}

/// The line in which uv says what is wrong, with its cause.
fn main_line(stderr: &str) -> String {
    let strip = |line: &str| line.trim_start_matches([' ', '×', '╰', '─', '▶', '│', '├']).trim().to_owned();
    let lines: Vec<String> = stderr.lines().map(strip).filter(|line| !line.is_empty()).collect();
    let at = lines.iter().position(|line| line.starts_with("error:")).or_else(|| {
        lines.iter().position(|line| line.starts_with("No solution") || line.starts_with("Failed"))
    });
    let Some(at) = at else {
        return lines.last().cloned().unwrap_or_else(|| "uv failed without a word".into());
    };
    let what = lines[at].trim_start_matches("error:").trim().trim_end_matches([':', '.']);
    let cause = lines.get(at + 1).map(|line| line.trim_start_matches("cause:").trim().trim_end_matches('.'));
    let whole = match cause {
        Some(cause) if !cause.starts_with("hint") => format!("{what}: {cause}"),
        _ => what.to_owned(),
    };
    whole.chars().take(600).collect()
}
