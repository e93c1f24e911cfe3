//! The code of an app, as far as a plan needs it: which files there are, and the text of those that say something.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::CannotPlan;

/// All texts together: a plan is made in memory, and whoever may ask for one may ask with any repository.
const ALL_TEXTS: u64 = 48 << 20;

/// Files that decide about packages, or how an app is started, where they are in the root.
const MANIFESTS: [&str; 26] = [
    "pyproject.toml",
    "Pipfile",
    ".python-version",
    "runtime.txt",
    "environment.yml",
    "environment.yaml",
    "package.json",
    ".nvmrc",
    ".node-version",
    "pnpm-workspace.yaml",
    "angular.json",
    "next.config.js",
    "next.config.mjs",
    "next.config.ts",
    "svelte.config.js",
    "vite.config.js",
    "vite.config.mjs",
    "vite.config.ts",
    "DESCRIPTION",
    "_quarto.yml",
    "_quarto.yaml",
    "mkdocs.yml",
    "mkdocs.yaml",
    "Dockerfile",
    "Containerfile",
    "observablehq.config.js",
];

const LOCKS: [&str; 8] = [
    "uv.lock",
    "Pipfile.lock",
    "package-lock.json",
    "npm-shrinkwrap.json",
    "pnpm-lock.yaml",
    "yarn.lock",
    "renv.lock",
    "conda-lock.yml",
];

/// The code of an app, as far as a plan needs it.
#[derive(Debug, Clone, Default)]
pub struct Code {
    pub(super) paths: BTreeSet<String>,
    pub(super) texts: BTreeMap<String, String>,
    too_large: BTreeSet<String>,
}

impl Code {
    /// Code in which these files have these texts.
    pub fn new<P: Into<String>, T: Into<String>>(files: impl IntoIterator<Item = (P, T)>) -> Self {
        let texts: BTreeMap<String, String> =
            files.into_iter().map(|(path, text)| (path.into(), text.into())).collect();
        Self { paths: texts.keys().cloned().collect(), texts, too_large: BTreeSet::new() }
    }

    /// Reads what a plan needs of the files at `paths`, relative to `root`.
    pub fn read(root: &Path, paths: impl IntoIterator<Item = String>) -> Self {
        let mut code = Self { paths: paths.into_iter().collect(), ..Self::default() };
        let mut left = ALL_TEXTS;
        for path in &code.paths {
            let Some(limit) = text_limit(path) else { continue };
            // A pipe or a device, which only a local directory can have, might be read forever.
            if !std::fs::metadata(root.join(path)).is_ok_and(|found| found.is_file()) {
                continue;
            }
            let Ok(file) = File::open(root.join(path)) else { continue };
            let mut text = Vec::new();
            match file.take(limit.min(left) + 1).read_to_end(&mut text) {
                Ok(count) if count as u64 > limit.min(left) => drop(code.too_large.insert(path.clone())),
                Ok(count) => {
                    left -= count as u64;
                    code.texts.insert(path.clone(), String::from_utf8_lossy(&text).into_owned());
                }
                // A link to a directory, or to nothing.
                Err(_) => {}
            }
        }
        code
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.paths.contains(path)
    }

    /// The first of these files that is there.
    pub(super) fn first_of<'a>(&self, paths: &[&'a str]) -> Option<&'a str> {
        paths.iter().find(|path| self.has(path)).copied()
    }

    /// The text of a manifest, which is there, readable, and no larger than a manifest is.
    pub(super) fn manifest(&self, path: &str) -> Result<Option<&str>, CannotPlan> {
        if self.too_large.contains(path) {
            return Err(CannotPlan::TooLarge {
                path: path.to_owned(),
                limit: text_limit(path).unwrap_or_default(),
            });
        }
        Ok(self.text(path))
    }

    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.texts.get(path).map(String::as_str)
    }

    /// The names of the files in the root, with their texts where they are read.
    pub(super) fn in_root(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let root = self.paths.iter().filter(|path| !path.contains('/'));
        root.map(|path| (path.as_str(), self.text(path)))
    }
}

/// How much of a file a plan reads, in bytes; `None` for files that say nothing about how an app is run.
fn text_limit(path: &str) -> Option<u64> {
    let depth = path.matches('/').count();
    let name = path.rsplit('/').next().unwrap_or(path);
    let extension = name.rsplit_once('.').map(|(_, extension)| extension).unwrap_or_default();
    match extension {
        _ if depth == 0 && name == "Procfile" => Some(64 << 10),
        _ if depth == 0 && LOCKS.contains(&name) => Some(16 << 20),
        _ if depth == 0 && MANIFESTS.contains(&name) => Some(1 << 20),
        // Requirements name each other, and live anywhere.
        "txt" | "in" if depth <= 3 => Some(1 << 20),
        "py" if depth <= 2 => Some(512 << 10),
        "R" | "r" if depth <= 1 => Some(512 << 10),
        "Rmd" | "qmd" if depth == 0 => Some(512 << 10),
        "js" | "mjs" | "cjs" if depth <= 1 => Some(512 << 10),
        _ => None,
    }
}
