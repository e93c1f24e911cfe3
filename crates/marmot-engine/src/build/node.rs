//! Installs packages of Node, once for each set of manifests, and runs what a project says is run then.
//!
//! Fetching runs no code of any package, so that it may share a cache with all builds. Packages' own scripts run after
//! that, where only their own environment can be changed; the project's own run where they see its code.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use marmot_core::id::EnvironmentId;

use super::contract::BuildContext;
use super::environment::{self, Environment, Key, Place};
use super::install::InstallError;
use super::node_tools::{self, Tools};
use super::plan::{Manager, NodeManifest, NodeStep, Start};
use super::process::{Job, Program, Said};
use super::view::View;
use crate::files;
use crate::wanted::Variable;

const MODULES: &str = "node_modules";

/// What is to be installed, and for whom.
#[derive(Debug)]
pub(super) struct Order<'a> {
    pub(super) manifest: &'a NodeManifest,
    pub(super) start: &'a Start,
    /// The app's files.
    pub(super) code: &'a Path,
    pub(super) artefact: &'a Path,
    /// Whose environments may be shared: those of the same app.
    pub(super) owner: EnvironmentId,
    /// For the project's own scripts.
    pub(super) variables: &'a [Variable],
}

/// Installs what `order` names, or finds it installed, and runs the project's own scripts.
pub(super) async fn install(
    context: &BuildContext,
    job: &Job,
    order: &Order<'_>,
) -> Result<Environment, InstallError> {
    let manifest = order.manifest;
    let tools = node_tools::find(context, job, manifest).await?;
    job.log.say(&format!("Node {}, {}", tools.node_version, tools.manager_told));
    if order.code.join(MODULES).symlink_metadata().is_ok() {
        job.log.say(
            "Warning: the packages in the code's own node_modules are not used; they are installed afresh.",
        );
        files::remove(&order.code.join(MODULES))?;
    }
    let installer = Installer { context, job, order, tools: &tools };
    let modules = if manifest.packages.is_empty() && !manifest.in_place {
        job.log.say("No packages are named, so none are installed.");
        None
    } else if manifest.in_place {
        job.log.say("Packages come from the code itself, so they are installed in its midst.");
        installer.install(order.code).await?;
        None
    } else {
        let key = installer.key()?;
        let place = Place::hold(context, job, key).await?;
        let home = place.dir.join("project");
        if place.is_whole()? {
            job.log.say("Nothing that decides about packages has changed: they are re-used.");
        } else {
            let unfinished = place.begin()?;
            std::fs::create_dir(&home)?;
            for file in &manifest.files {
                std::fs::copy(order.code.join(file), home.join(file))?;
            }
            installer.install(&home).await?;
            unfinished.finish()?;
        }
        Some(home.join(MODULES)).filter(|modules| modules.is_dir())
    };
    let modules = installer.lay_out(modules)?;
    installer.run_steps().await?;
    installer.finish(modules)
}

/// A `package.json` whose scripts are left out, until this goes.
struct WithoutScripts {
    path: PathBuf,
    text: Vec<u8>,
}

impl WithoutScripts {
    fn of(path: &Path) -> io::Result<Self> {
        let text = std::fs::read(path)?;
        let start = if text.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        let mut package: serde_json::Value =
            serde_json::from_slice(&text[start..]).map_err(io::Error::from)?;
        if let Some(package) = package.as_object_mut() {
            package.remove("scripts");
        }
        std::fs::write(path, package.to_string())?;
        Ok(Self { path: path.to_owned(), text })
    }
}

impl Drop for WithoutScripts {
    fn drop(&mut self) {
        // Where it cannot be written, the build that this is part of fails as well.
        let _ = std::fs::write(&self.path, &self.text);
    }
}

struct Installer<'a> {
    context: &'a BuildContext,
    job: &'a Job,
    order: &'a Order<'a>,
    tools: &'a Tools,
}

/// Where the packages of an app are while it is built.
enum Modules {
    /// There are none, or they are in the midst of the code and stay there.
    AsTheyAre,
    /// In the environment that builds share. The code has a link to them.
    Shared(PathBuf),
    /// A copy in the code, which the project's own scripts may change.
    Own,
}

impl Installer<'_> {
    fn key(&self) -> Result<Key, InstallError> {
        let manifest = self.order.manifest;
        let key = Key::of(self.order.owner)
            .with("node")
            .with(&self.tools.node_version)
            .with(&self.tools.manager_told)
            .with(if manifest.without_development { "without development" } else { "all" });
        Ok(manifest
            .files
            .iter()
            .try_fold(key, |key, file| key.with(file).with_file(&self.order.code.join(file)))?)
    }

    /// A program of the package manager in `dir`, which it may change, with this cache.
    fn manager(&self, dir: &Path, cache: &Path) -> Program {
        let reads = self.tools.reads.iter().cloned().chain(environment::named_paths(self.context));
        let reads: Vec<PathBuf> = reads.collect();
        let view = View::default().reads(reads.iter().map(PathBuf::as_path)).owns([dir, cache]);
        self.tools.manager(self.context, cache).dir(dir).sees(view)
    }

    fn npm(&self, dir: &Path, cache: &Path) -> Program {
        let reads = self.tools.reads.iter().cloned().chain(environment::named_paths(self.context));
        let reads: Vec<PathBuf> = reads.collect();
        let view = View::default().reads(reads.iter().map(PathBuf::as_path)).owns([dir, cache]);
        self.tools.npm(self.context, cache).dir(dir).sees(view)
    }

    /// Fetches the packages into `dir`, where the manifests are, and runs their own scripts.
    async fn install(&self, dir: &Path) -> Result<(), InstallError> {
        let (context, job, manifest) = (self.context, self.job, self.order.manifest);
        let own = environment::own_cache(context, self.order.owner)?.join("node");
        let shared = context.cache_dir.join("node-packages");
        // What code of the repository has a say in must not change what others find in their cache.
        let cache = if manifest.own_code || manifest.in_place { &own } else { &shared };
        let fetch = fetch_arguments(manifest, cache);
        // The project's own scripts run later, where they see its code.
        let _scripts = WithoutScripts::of(&dir.join("package.json"))?;
        self.expect(job.run(&self.manager(dir, cache).args(fetch)).await?)?;
        if !manifest.may_have_scripts {
            return Ok(());
        }
        let scripts = match manifest.manager {
            // It insists on the store that it fetched to, which scripts may read alone.
            Manager::Pnpm => self
                .manager(dir, &own)
                .also_reads(&cache.join("pnpm"))
                .args(["rebuild", "--config.side-effects-cache=false"])
                .arg(format!("--store-dir={}", cache.join("pnpm").display())),
            Manager::Berry => self.manager(dir, &own).arg("rebuild"),
            Manager::Npm | Manager::Yarn => self.npm(dir, &own).args(["rebuild", "--no-audit", "--no-fund"]),
        };
        self.expect(job.run(&scripts).await?)
    }

    /// Puts the packages where the code finds them.
    fn lay_out(&self, modules: Option<PathBuf>) -> Result<Modules, InstallError> {
        let Some(shared) = modules else { return Ok(Modules::AsTheyAre) };
        let inside = self.order.code.join(MODULES);
        if self.order.manifest.steps.is_empty() {
            std::os::unix::fs::symlink(&shared, inside)?;
            return Ok(Modules::Shared(shared));
        }
        // Scripts write beside the packages, and into them. Tools that bundle refuse packages behind a link.
        files::copy_tree(&shared, &inside, None)?;
        Ok(Modules::Own)
    }

    async fn run_steps(&self) -> Result<(), InstallError> {
        let (job, order) = (self.job, self.order);
        if order.manifest.steps.is_empty() {
            return Ok(());
        }
        let own = environment::own_cache(self.context, order.owner)?.join("node");
        for step in &order.manifest.steps {
            let typed = step.typed();
            job.log.say(&format!("Running `{typed}`"));
            let program = match step {
                NodeStep::Script(name) => self.npm(order.code, &own).args(["run", name]),
                NodeStep::Line(line) => {
                    let program = self.tools.program("/bin/sh", self.context, &own).dir(order.code);
                    let view = View::default().owns([order.code, own.as_path()]);
                    program.args(["-c", line]).sees(view)
                }
            };
            let bins = order.code.join(MODULES).join(".bin");
            let mut program = program.path_first(&bins);
            for bin in &self.tools.bins {
                program = program.path_first(bin);
            }
            for read in &self.tools.reads {
                program = program.also_reads(read);
            }
            for variable in order.variables {
                program = program.env(&variable.name, &variable.value);
            }
            let said = job.run(&program).await?;
            if !said.ok() {
                return Err(failed_step(&typed, &said));
            }
        }
        Ok(())
    }

    /// Takes the packages out of the code, which every replica has a copy of; keeps none where files are all there is.
    fn finish(&self, modules: Modules) -> Result<Environment, InstallError> {
        let (code, artefact) = (self.order.code, self.order.artefact);
        let mut environment = Environment {
            variables: BTreeMap::from([("NODE_ENV".to_owned(), "production".to_owned())]),
            told: format!("Node {}.", self.tools.node_version),
            ..Environment::default()
        };
        let inside = code.join(MODULES);
        if matches!(self.order.start, Start::StaticSite(_) | Start::SinglePage(_)) {
            files::remove(&inside)?;
            return Ok(environment);
        }
        let place = match modules {
            Modules::Shared(place) => place,
            Modules::Own => {
                let place = artefact.join(MODULES);
                std::fs::rename(&inside, &place)?;
                std::os::unix::fs::symlink(&place, &inside)?;
                place
            }
            Modules::AsTheyAre => {
                let own = [Path::new(MODULES).join(".bin")];
                environment.bins = own.into_iter().chain(self.tools.bins.iter().cloned()).collect();
                environment.reads.clone_from(&self.tools.reads);
                return Ok(environment);
            }
        };
        environment.bins = [place.join(".bin")].into_iter().chain(self.tools.bins.iter().cloned()).collect();
        environment.reads = [place].into_iter().chain(self.tools.reads.iter().cloned()).collect();
        Ok(environment)
    }

    /// Turns what a package manager says when it fails into something to act on.
    fn expect(&self, said: Said) -> Result<(), InstallError> {
        if said.ok() {
            return Ok(());
        }
        let text = format!("{}\n{}", said.stdout, said.stderr);
        if environment::disk_is_full(&text) {
            return Err(InstallError::DiskFull);
        }
        Err(InstallError::Refused { why: main_line(&text), advice: advice(&text, self.order.manifest) })
    }
}

/// Fetches, and runs nothing: neither scripts of packages, nor programs that the project's settings name.
fn fetch_arguments(manifest: &NodeManifest, cache: &Path) -> Vec<String> {
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    let mut arguments = match (manifest.manager, &manifest.lock) {
        (Manager::Npm, Some(_)) => words(&["ci", "--ignore-scripts"]),
        (Manager::Npm, None) => words(&["install", "--ignore-scripts", "--no-package-lock"]),
        (Manager::Pnpm, Some(_)) => words(&["install", "--ignore-scripts", "--frozen-lockfile"]),
        (Manager::Pnpm, None) => words(&["install", "--ignore-scripts", "--no-lockfile"]),
        (Manager::Yarn, lock) => {
            let lock = if lock.is_some() { "--frozen-lockfile" } else { "--no-lockfile" };
            words(&["install", "--ignore-scripts", "--non-interactive", "--no-progress", lock])
        }
        (Manager::Berry, Some(_)) => words(&["install", "--mode=skip-build", "--immutable"]),
        (Manager::Berry, None) => words(&["install", "--mode=skip-build", "--no-immutable"]),
    };
    match manifest.manager {
        Manager::Npm => {
            arguments.extend(words(&["--no-audit", "--no-fund", "--git=git"]));
            arguments.extend(manifest.without_development.then(|| "--omit=dev".to_owned()));
        }
        Manager::Pnpm => {
            // A link into the shared store would let packages' scripts change what others have.
            arguments.push("--package-import-method=copy".to_owned());
            arguments.push(format!("--store-dir={}", cache.join("pnpm").display()));
            arguments.extend(manifest.without_development.then(|| "--prod".to_owned()));
        }
        Manager::Yarn => {
            arguments.push(format!("--cache-folder={}", cache.join("yarn").display()));
            arguments.extend(manifest.without_development.then(|| "--production".to_owned()));
        }
        Manager::Berry => {}
    }
    arguments
}

fn failed_step(typed: &str, said: &Said) -> InstallError {
    let text = format!("{}\n{}", said.stdout, said.stderr);
    if environment::disk_is_full(&text) {
        return InstallError::DiskFull;
    }
    let why = match said.status.code() {
        Some(code) => format!("`{typed}` failed with code {code}"),
        None => format!("`{typed}` was ended by a signal"),
    };
    let advice = if text.contains("not found") {
        "The log has what it said; a program that it needs may have to be named in package.json"
    } else if text.contains("heap out of memory") {
        "It ran out of memory: build less at once"
    } else {
        "The log has what it said; it should fail in the same way on your own machine"
    };
    InstallError::Refused { why, advice }
}

/// The line in which a package manager says what is wrong.
fn main_line(text: &str) -> String {
    let strip = |line: &str| {
        let mut line = line.trim();
        for prefix in ["npm error", "npm ERR!", "error", "ERR_PNPM", "➤", "✖"] {
            line = line.strip_prefix(prefix).unwrap_or(line).trim();
        }
        line.to_owned()
    };
    let marks = ["npm error", "npm ERR!", "error ", "ERR_PNPM", "YN00"];
    let aside =
        ["code ", "A complete log", "Log files", "errno ", "syscall ", "path ", "command ", "signal "];
    let said = text.lines().filter(|line| marks.iter().any(|mark| line.contains(mark))).map(strip);
    let mut said = said.filter(|line| !line.is_empty() && !aside.iter().any(|start| line.starts_with(start)));
    // A script of a package: what it said is more telling than that it failed.
    if let Some(line) = text.lines().map(strip).find(|line| line.starts_with("Error: ")) {
        return line.chars().take(600).collect();
    }
    let last = || text.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned);
    let line =
        said.next().or_else(last).unwrap_or_else(|| "the package manager failed without a word".into());
    line.trim_end_matches(['.', ':']).chars().take(600).collect()
}

fn advice(text: &str, manifest: &NodeManifest) -> &'static str {
    let has = |signs: &[&str]| signs.iter().any(|sign| text.contains(sign));
    if has(&["E404", "404 Not Found", "is not in this registry", "ERR_PNPM_FETCH_404"]) {
        "Check the name for a typing mistake; packages of private registries cannot be read"
    } else if has(&[
        "ETARGET",
        "No matching version",
        "ERR_PNPM_NO_MATCHING_VERSION",
        "Couldn't find any versions",
    ]) {
        "Ask for a version that exists"
    } else if has(&["ERESOLVE", "peer dep"]) {
        "Loosen or remove the versions that contradict each other, and push the new lock"
    } else if has(&[
        "can only install packages",
        "in sync",
        "ERR_PNPM_OUTDATED_LOCKFILE",
        "needs to be updated",
        "YN0028",
    ]) {
        "The lock does not fit package.json: run the package manager's `install` and push the lock that it writes"
    } else if has(&["EINTEGRITY", "ERR_PNPM_TARBALL_INTEGRITY"]) {
        "The registry has something else than the lock says: write the lock anew and push it"
    } else if has(&["ENOTFOUND", "ECONNREFUSED", "ETIMEDOUT", "EAI_AGAIN", "network", "ECONNRESET"]) {
        "The package registry cannot be reached from this server: try again, or tell its operator"
    } else if has(&["gyp ERR", "node-gyp"]) {
        "A package has no ready-made form for this Node and could not be built: ask for another version of it"
    } else if has(&["EBADENGINE", "Unsupported engine", "engine \"node\" is incompatible"]) {
        "Ask for versions that fit this Node"
    } else if manifest.lock.is_none() {
        "Run the package manager on your own machine and push the lock that it writes"
    } else {
        "The log has the details"
    }
}

impl From<io::Error> for InstallError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::StorageFull { Self::DiskFull } else { Self::Cache(error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_says_what_is_wrong_is_found() {
        let npm = "npm error code E404\nnpm error 404 Not Found - GET https://r.example/nope - Not found\nnpm error A complete log of this run";
        assert_eq!(main_line(npm), "404 Not Found - GET https://r.example/nope - Not found");
        let pnpm = " ERR_PNPM_OUTDATED_LOCKFILE  Cannot install with \"frozen-lockfile\" because pnpm-lock.yaml is not up to date";
        assert!(main_line(pnpm).contains("not up to date"));
        let yarn = "yarn install v1.22.22\nerror Couldn't find package \"nope\" on the \"npm\" registry.\ninfo Visit";
        assert_eq!(main_line(yarn), "Couldn't find package \"nope\" on the \"npm\" registry");
        assert_eq!(main_line(""), "the package manager failed without a word");
    }
}
