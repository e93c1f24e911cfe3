//! Reads the manifests of Node projects: which packages are wanted, by which package manager, and what is run then.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::CannotPlan;
use super::code::Code;
use super::node_range;

/// Which packages a Node project wants, and who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeManifest {
    /// What installs them.
    pub manager: Manager,
    /// The version of it that the project names.
    pub manager_version: Option<String>,
    /// The file that names the version of each package; without one, the newest that fit are taken.
    pub lock: Option<String>,
    /// The version of the lock's own form, where it says so.
    pub lock_version: Option<String>,
    /// The files that decide what is installed: the same texts mean the same packages.
    pub files: BTreeSet<String>,
    /// The versions of Node that the project asks for, and the file that says so.
    pub wish: Option<(String, String)>,
    /// Packages come from the code itself, so that they are installed in its midst.
    pub in_place: bool,
    /// Code of the repository, or a program that it brings, has a say in what is fetched.
    pub own_code: bool,
    /// Packages that only development needs are left out.
    pub without_development: bool,
    /// What is run once the packages are there, in this order.
    pub steps: Vec<NodeStep>,
    /// The packages that are named.
    pub packages: BTreeSet<String>,
    /// Where there is no lock or it is of the first kind, packages' own scripts cannot be told from it.
    pub may_have_scripts: bool,
}

/// What installs packages of Node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    /// npm.
    Npm,
    /// pnpm.
    Pnpm,
    /// Yarn 1.
    Yarn,
    /// Yarn 2 and later.
    Berry,
}

impl Manager {
    /// What its program is called.
    pub fn program(self) -> &'static str {
        match self {
            Self::Npm => "npm",
            Self::Pnpm => "pnpm",
            Self::Yarn | Self::Berry => "yarn",
        }
    }
}

/// Something that is run once the packages are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeStep {
    /// A script of `package.json`, by its name.
    Script(String),
    /// A line for a shell.
    Line(String),
}

impl NodeStep {
    /// As a person would type it.
    pub fn typed(&self) -> String {
        match self {
            Self::Script(name) => format!("npm run {name}"),
            Self::Line(line) => line.clone(),
        }
    }
}

/// `package.json`, read.
#[derive(Debug)]
pub(super) struct Package<'a> {
    value: &'a Map<String, Value>,
}

impl<'a> Package<'a> {
    pub(super) fn script(&self, name: &str) -> Option<&'a str> {
        self.value.get("scripts")?.get(name)?.as_str().map(str::trim).filter(|line| !line.is_empty())
    }

    pub(super) fn text(&self, key: &str) -> Option<&'a str> {
        self.value.get(key)?.as_str()
    }

    fn dependencies(&self, kind: &str) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let listed = self.value.get(kind).and_then(Value::as_object);
        listed.into_iter().flatten().filter_map(|(name, spec)| Some((name.as_str(), spec.as_str()?)))
    }

    fn all_dependencies(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let kinds = ["dependencies", "devDependencies", "optionalDependencies"];
        kinds.map(|kind| self.dependencies(kind)).into_iter().flatten()
    }

    pub(super) fn has(&self, package: &str) -> bool {
        self.all_dependencies().any(|(name, _)| name == package)
    }
}

/// Reads `package.json`, if there is one, as an object.
pub(super) fn read(code: &Code) -> Result<Option<Map<String, Value>>, CannotPlan> {
    let Some(text) = code.manifest("package.json")? else { return Ok(None) };
    let parsed: Value = serde_json::from_str(text.trim_start_matches('\u{feff}'))
        .map_err(|error| bad(format!("it is not valid JSON: {error}")))?;
    match parsed {
        Value::Object(object) => Ok(Some(object)),
        _ => Err(bad("it is not an object".into())),
    }
}

pub(super) fn package(object: &Map<String, Value>) -> Package<'_> {
    Package { value: object }
}

fn bad(why: String) -> CannotPlan {
    CannotPlan::BadManifest { path: "package.json".into(), why }
}

/// Which packages are wanted; why; and what will probably surprise.
pub(super) fn manifest(
    code: &Code,
    package: &Package<'_>,
) -> Result<(NodeManifest, Vec<String>, Vec<String>), CannotPlan> {
    let (manager, lock) = manager(code, package)?;
    let mut warnings = Vec::new();
    let reason = match &lock {
        Some(lock) => format!("The packages are those of {lock}, by {}.", manager.program()),
        None if package.all_dependencies().next().is_none() => "package.json names no packages.".to_owned(),
        None => {
            warnings.push(format!(
                "Without a lock file, every build may get other versions: run `{} install` and commit the lock that it \
                 writes.",
                manager.program()
            ));
            format!("The packages are those that package.json names, by {}.", manager.program())
        }
    };
    let locks = ["package-lock.json", "npm-shrinkwrap.json", "pnpm-lock.yaml", "yarn.lock"];
    let others: Vec<_> =
        locks.into_iter().filter(|name| code.has(name) && Some(*name) != lock.as_deref()).collect();
    if let (Some(lock), [_, ..]) = (&lock, others.as_slice()) {
        warnings.push(format!("There are several locks; {lock} counts, not {}.", others.join(", ")));
    }
    let deciding = [".npmrc", ".yarnrc", ".yarnrc.yml", "pnpm-workspace.yaml", ".pnpmfile.cjs"];
    let files = ["package.json"].into_iter().chain(lock.as_deref()).chain(deciding);
    let spec = |test: fn(&str) -> bool| package.all_dependencies().any(|(_, spec)| test(spec));
    let patched = code.paths.iter().any(|path| path.starts_with(".yarn/") || path.starts_with("patches/"));
    let manifest = NodeManifest {
        manager,
        manager_version: named_version(package, manager),
        files: files.filter(|file| code.has(file)).map(str::to_owned).collect(),
        wish: wish(code, package)?,
        in_place: package.value.contains_key("workspaces")
            || code.has("pnpm-workspace.yaml")
            || patched
            || spec(is_local),
        own_code: manager == Manager::Berry
            || spec(is_git)
            || [".pnpmfile.cjs", ".pnpmfile.mjs", ".yarnrc"].iter().any(|file| code.has(file)),
        without_development: false,
        steps: Vec::new(),
        packages: package.all_dependencies().map(|(name, _)| name.to_owned()).collect(),
        may_have_scripts: may_have_scripts(code, lock.as_deref()),
        lock_version: lock.as_deref().and_then(|lock| lock_version(code.text(lock)?)),
        lock,
    };
    Ok((manifest, vec![reason], warnings))
}

fn manager(code: &Code, package: &Package<'_>) -> Result<(Manager, Option<String>), CannotPlan> {
    let berry = |lock: &str| lock.lines().take(20).any(|line| line.starts_with("__metadata:"));
    let named = package.text("packageManager").unwrap_or_default();
    let name = named.split('@').next().unwrap_or_default();
    let mut found = Vec::new();
    for (file, program) in [
        ("pnpm-lock.yaml", Manager::Pnpm),
        ("yarn.lock", Manager::Yarn),
        ("npm-shrinkwrap.json", Manager::Npm),
        ("package-lock.json", Manager::Npm),
    ] {
        let Some(text) = code.manifest(file)? else { continue };
        let program = if program == Manager::Yarn && berry(text) { Manager::Berry } else { program };
        found.push((program, file));
    }
    // The one that the project names, where it has that one's lock, too.
    let chosen = found.iter().find(|(program, _)| program.program() == name).or(found.first());
    if let Some((program, file)) = chosen {
        return Ok((*program, Some((*file).to_owned())));
    }
    let classic = named.strip_prefix("yarn@").is_some_and(|version| version.starts_with("1."));
    let manager = match name {
        "pnpm" => Manager::Pnpm,
        "yarn" if classic => Manager::Yarn,
        "yarn" => Manager::Berry,
        _ => Manager::Npm,
    };
    Ok((manager, None))
}

/// What pnpm writes as `lockfileVersion: '9.0'`.
fn lock_version(lock: &str) -> Option<String> {
    let line = lock.lines().take(5).find_map(|line| line.strip_prefix("lockfileVersion:"))?;
    let version = line.trim().trim_matches(['\'', '"']);
    version.chars().all(|c| c.is_ascii_digit() || c == '.').then(|| version.chars().take(10).collect())
}

/// The version in `packageManager`, without its hash.
fn named_version(package: &Package<'_>, manager: Manager) -> Option<String> {
    let (name, version) = package.text("packageManager")?.split_once('@')?;
    let version = version.split('+').next().unwrap_or(version);
    let plain = version.len() < 30
        && version.starts_with(|c: char| c.is_ascii_digit())
        && version.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'));
    (name == manager.program() && plain).then(|| version.to_owned())
}

fn wish(code: &Code, package: &Package<'_>) -> Result<Option<(String, String)>, CannotPlan> {
    for file in [".nvmrc", ".node-version"] {
        let Some(text) = code.manifest(file)? else { continue };
        let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
        // Names such as `lts/*` are satisfied by whatever there is.
        let telling = |line: &&str| {
            line.trim_start_matches('v').starts_with(|c: char| c.is_ascii_digit())
                || node_range::of_name(line).is_some()
        };
        if let Some(line) = line.filter(telling) {
            return Ok(Some((line.chars().take(40).collect(), file.to_owned())));
        }
    }
    let range = package.value.get("engines").and_then(|engines| engines.get("node")?.as_str());
    Ok(range.map(|range| (range.chars().take(80).collect(), "package.json".to_owned())))
}

fn is_local(spec: &str) -> bool {
    ["file:", "link:", "workspace:", "portal:", "patch:", "./", "../", "/", "~/"]
        .iter()
        .any(|prefix| spec.starts_with(prefix))
}

/// Fetched by git; also `user/repository`. Such packages are built by their own scripts when they are fetched.
fn is_git(spec: &str) -> bool {
    spec.contains("git")
        || ["bitbucket:", "ssh:"].iter().any(|prefix| spec.starts_with(prefix))
        || (spec.contains('/') && !spec.contains(':') && !is_local(spec))
}

/// Whether scripts of packages must be run once these are there. Only npm's locks tell.
fn may_have_scripts(code: &Code, lock: Option<&str>) -> bool {
    let Some(lock @ ("package-lock.json" | "npm-shrinkwrap.json")) = lock else { return true };
    let text = code.text(lock).unwrap_or_default();
    text.contains("\"hasInstallScript\"") || text.contains("\"lockfileVersion\": 1")
}

/// The scripts that the project itself wants to be run once its packages are there.
pub(super) fn own_scripts(package: &Package<'_>) -> Vec<NodeStep> {
    let wanted = ["postinstall", "prepare"].into_iter().filter(|name| {
        // Hooks of git, and the guard against other package managers, mean nothing here.
        let aside = |line: &str| {
            ["husky", "only-allow", "is-ci", "lefthook", "simple-git-hooks"]
                .iter()
                .any(|word| line.contains(word))
        };
        package.script(name).is_some_and(|line| !aside(line))
    });
    wanted.map(|name| NodeStep::Script(name.to_owned())).collect()
}

/// JavaScript without its comments, as far as that matters for what it mentions.
pub(super) fn without_comments(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('/') {
        let (before, from) = rest.split_at(at);
        code.push_str(before);
        // `://` is part of an address.
        if from.starts_with("//") && !before.ends_with(':') {
            rest = from.find('\n').map_or("", |end| &from[end..]);
        } else if let Some(comment) = from.strip_prefix("/*") {
            rest = comment.find("*/").map_or("", |end| &comment[end + 2..]);
        } else {
            code.push('/');
            rest = &from[1..];
        }
    }
    code.push_str(rest);
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_no_code() {
        let text = "// require('express')\nconst a = 'http://x/y' /* import koa */ / 2 // end\nlisten()";
        assert_eq!(without_comments(text), "\nconst a = 'http://x/y'  / 2 \nlisten()");
        for text in ["/", "//", "/*", "/* *", "a/é/*é", "://"] {
            without_comments(text);
        }
    }
}
