//! Installs packages of R: those that this machine has are used as they are, others are built into a library of the
//! app's own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use marmot_core::id::EnvironmentId;

use super::contract::BuildContext;
use super::environment::{self, Environment, Key, Place};
use super::install::InstallError;
use super::plan::RManifest;
use super::process::{Job, Program, Said};
use super::view::View;
use crate::confine;

/// What does the work, in R.
const PACKAGES: &str = include_str!("r/packages.R");

/// Where packages come from unless the operator or the code says something else.
const REPOSITORY: &str = "https://cloud.r-project.org";

/// Where this machine keeps packages. When something changes there, so may what an app needs.
const LIBRARIES: [&str; 3] =
    ["/usr/local/lib/R/site-library", "/usr/lib/R/site-library", "/usr/lib/R/library"];

/// What is to be installed, and for whom.
#[derive(Debug)]
pub(super) struct Order<'a> {
    pub(super) manifest: &'a RManifest,
    /// The app's files.
    pub(super) code: &'a Path,
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
    let missing = InstallError::Missing { what: "R", package: "r-base-core" };
    let Some(rscript) = confine::find("Rscript") else { return Err(missing) };
    let question = "cat(as.character(getRversion()))";
    let said = job.ask(&Program::new(&rscript).args(["--vanilla", "-e", question]), 4096).await?;
    let version = said.stdout.trim().to_owned();
    if !said.ok() || version.is_empty() {
        return Err(missing);
    }
    job.log.say(&format!("R {version}"));
    if let Some(wanted) = order.manifest.r.as_ref().filter(|wanted| minor(wanted) != minor(&version)) {
        job.log.say(&format!("Warning: the code was written with R {wanted}, which this server does not have; taking {version}."));
    }
    let repositories = repositories(context, order.manifest);
    let place = Place::hold(context, job, key(order, &version, &repositories)?).await?;
    let installer = Installer { context, job, order, rscript: &rscript, repositories: &repositories };
    if place.is_whole()? {
        job.log.say("Nothing that decides about packages has changed: they are re-used.");
    } else {
        let unfinished = place.begin()?;
        installer.install(&place.dir).await?;
        unfinished.finish()?;
    }
    let listed = std::fs::read_to_string(place.dir.join("own/packages"))?;
    let library = library(&place.dir);
    Ok(Environment {
        variables: variables(&library),
        reads: vec![library],
        told: format!("R {version}."),
        packages: Some(listed.lines().map(str::to_owned).collect::<BTreeSet<_>>()),
        ..Environment::default()
    })
}

fn minor(version: &str) -> Vec<&str> {
    version.split('.').take(2).collect()
}

fn library(place: &Path) -> PathBuf {
    place.join("own/library")
}

/// What every program of R needs. A project's own manager of packages would install everything again at each start.
fn variables(library: &Path) -> BTreeMap<String, String> {
    let library = library.to_string_lossy().into_owned();
    [
        ("R_LIBS_USER", library.as_str()),
        ("RENV_CONFIG_AUTOLOADER_ENABLED", "FALSE"),
        ("RENV_ACTIVATE_PROJECT", "FALSE"),
        ("PACKRAT_INITIALIZED", "1"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// The operator's repositories, which may be all that can be reached; else those that the code names.
fn repositories(context: &BuildContext, manifest: &RManifest) -> Vec<String> {
    let given =
        context.environment.iter().find(|(name, _)| name == "R_REPOS").map(|(_, value)| value.as_str());
    let given: Vec<String> = given
        .unwrap_or_default()
        .split([',', ' '])
        .map(|address| address.trim_end_matches('/'))
        .filter(|address| !address.is_empty())
        .map(str::to_owned)
        .collect();
    match (given.is_empty(), manifest.repositories.is_empty()) {
        (false, _) => given,
        (true, false) => manifest.repositories.clone(),
        (true, true) => vec![REPOSITORY.to_owned()],
    }
}

fn key(order: &Order<'_>, version: &str, repositories: &[String]) -> Result<Key, InstallError> {
    let mut key = Key::of(order.owner).with("r").with(version).with(repositories.join(" "));
    for library in LIBRARIES {
        let changed = std::fs::metadata(library).and_then(|found| found.modified()).ok();
        key = key.with(format!("{changed:?}"));
    }
    for (name, version) in &order.manifest.packages {
        key = key.with(name).with(version.as_deref().unwrap_or_default());
    }
    for file in &order.manifest.files {
        key = key.with_file(&order.code.join(file))?;
    }
    // A script may install from the code, or read what it likes of it.
    Ok(match &order.manifest.script {
        Some(_) => key.with(order.commit),
        None => key,
    })
}

struct Installer<'a> {
    context: &'a BuildContext,
    job: &'a Job,
    order: &'a Order<'a>,
    rscript: &'a Path,
    repositories: &'a [String],
}

impl Installer<'_> {
    async fn install(&self, place: &Path) -> Result<(), InstallError> {
        let (job, order) = (self.job, self.order);
        let own = place.join("own");
        let library = library(place);
        std::fs::create_dir_all(&library)?;
        let (program, wanted) = (own.join("packages.R"), own.join("wanted"));
        std::fs::write(&program, PACKAGES)?;
        let lines = order
            .manifest
            .packages
            .iter()
            .map(|(name, version)| format!("{name}\t{}\n", version.as_deref().unwrap_or_default()));
        std::fs::write(&wanted, lines.collect::<String>())?;
        let reads: Vec<PathBuf> = environment::named_paths(self.context).collect();
        let view = View::default().reads(reads.iter().map(PathBuf::as_path)).reads([order.code]);
        let view = view.owns([own.as_path()]);
        let mut run = Program::new(self.rscript).envs(&self.context.environment).dir(order.code).sees(view);
        for (name, value) in variables(&library) {
            run = run.env(name, value);
        }
        // Not the code's own `.Rprofile`, which is for whoever works on it.
        run = run
            .arg("--no-init-file")
            .arg(&program)
            .arg(&library)
            .arg(&wanted)
            .arg(self.repositories.join(","));
        run = run.arg(order.manifest.script.clone().unwrap_or_default()).arg(own.join("packages"));
        expect(&job.run(&run).await?)
    }
}

/// Turns what R says when it fails into something to act on.
fn expect(said: &Said) -> Result<(), InstallError> {
    if said.ok() {
        return Ok(());
    }
    let text = format!("{}\n{}", said.stdout, said.stderr);
    if environment::disk_is_full(&text) {
        return Err(InstallError::DiskFull);
    }
    let ours = said.stdout.lines().rev().find_map(|line| line.strip_prefix("error: "));
    let theirs = said.stderr.lines().rev().map(str::trim).find(|line| line.starts_with("Error"));
    let why: String = ours
        .or(theirs)
        .unwrap_or("R failed without a word")
        .trim_end_matches('.')
        .chars()
        .take(600)
        .collect();
    let advice = if why.contains("cannot be reached") {
        "The operator can install packages of R, or name a repository that can be reached (`R_REPOS`)"
    } else if why.contains("has no package") {
        "Check the name for a typing mistake; packages that are only on GitHub cannot be installed"
    } else if text.contains("fatal error:")
        || text.contains("Configuration failed")
        || text.contains("cannot find -l")
    {
        "They need libraries of the system that this server does not have: ask its operator"
    } else {
        "The log has the details"
    };
    Err(InstallError::Refused { why, advice })
}
