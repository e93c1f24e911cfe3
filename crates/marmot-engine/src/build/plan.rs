//! Decides how code becomes something runnable, from its files alone. Pure: nothing is run, nothing is written.

mod framework;
mod manifest;
mod procfile;
mod python_source;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

pub use manifest::{Kind, Manifest, PythonWish};

use crate::wanted::Builder;

/// Where a site is looked for when the root has none: what Quarto, mkdocs, Jupyter Book and front-end tools write.
const SITE_DIRECTORIES: [&str; 8] = ["_site", "site", "public", "dist", "build", "_book", "docs", "html"];

/// The code of an app, as far as a plan needs it.
#[derive(Debug, Clone, Default)]
pub struct Code {
    paths: BTreeSet<String>,
    texts: BTreeMap<String, String>,
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
    pub(super) fn read(root: &Path, paths: impl IntoIterator<Item = String>) -> Self {
        let mut code = Self { paths: paths.into_iter().collect(), ..Self::default() };
        for path in &code.paths {
            let Some(limit) = text_limit(path) else { continue };
            let Ok(file) = File::open(root.join(path)) else { continue };
            let mut text = Vec::new();
            match file.take(limit + 1).read_to_end(&mut text) {
                Ok(count) if count as u64 > limit => drop(code.too_large.insert(path.clone())),
                Ok(_) => drop(code.texts.insert(path.clone(), String::from_utf8_lossy(&text).into_owned())),
                // A link to a directory, or to nothing.
                Err(_) => {}
            }
        }
        code
    }

    fn has(&self, path: &str) -> bool {
        self.paths.contains(path)
    }

    /// The text of a manifest, which is there, readable, and no larger than a manifest is.
    fn manifest(&self, path: &str) -> Result<Option<&str>, CannotPlan> {
        if self.too_large.contains(path) {
            return Err(CannotPlan::TooLarge {
                path: path.to_owned(),
                limit: text_limit(path).unwrap_or_default(),
            });
        }
        Ok(self.texts.get(path).map(String::as_str))
    }

    fn text(&self, path: &str) -> Option<&str> {
        self.texts.get(path).map(String::as_str)
    }
}

/// How much of a file a plan reads, in bytes; `None` for files that say nothing about how an app is run.
fn text_limit(path: &str) -> Option<u64> {
    let depth = path.matches('/').count();
    let name = path.rsplit('/').next().unwrap_or(path);
    match name {
        "Procfile" if depth == 0 => Some(64 << 10),
        "uv.lock" | "Pipfile.lock" if depth == 0 => Some(16 << 20),
        "pyproject.toml" | "Pipfile" | ".python-version" | "runtime.txt" if depth == 0 => Some(1 << 20),
        // Requirements name each other, and live anywhere.
        _ if depth <= 3 && (name.ends_with(".txt") || name.ends_with(".in")) => Some(1 << 20),
        _ if depth <= 2 && name.ends_with(".py") => Some(512 << 10),
        _ => None,
    }
}

/// How code becomes something runnable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What is installed.
    pub install: Install,
    /// What is run.
    pub start: Start,
    /// Why, in sentences.
    pub reasons: Vec<String>,
    /// What will probably surprise, in sentences.
    pub warnings: Vec<String>,
}

/// What is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Install {
    /// Nothing.
    Nothing,
    /// Python, with packages.
    Python {
        /// Which packages.
        manifest: Box<Manifest>,
        /// Packages that the command needs and that the manifest does not name.
        extra: Vec<String>,
    },
}

/// What is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// What the launcher says; the code does not.
    LaunchersCommand,
    /// A line for a shell. `$PORT` is set when it runs.
    Line {
        /// The line.
        line: String,
        /// The program it cannot do without, which a package must bring: known where the line is ours.
        needs: Option<String>,
    },
    /// The files in this directory are served; empty for the root.
    StaticSite(String),
}

/// Nothing came of planning.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CannotPlan {
    /// There is nothing that could be run.
    #[error(
        "nothing to run here: {found}. Looked for a Procfile, a Python app ({}) and index.html. {advice}",
        framework::NAMES
    )]
    NothingToRun {
        /// What was found instead.
        found: String,
        /// What to do.
        advice: String,
    },
    /// Several files could be the app.
    #[error(
        "several files could be the app: {}. Say which one in a file named Procfile, for example `web: {example}`",
        .files.join(", ")
    )]
    SeveralApps {
        /// Which.
        files: Vec<String>,
        /// A line for the first of them.
        example: String,
    },
    /// A manifest is too large to be one.
    #[error("{path} is larger than {} KiB, which no such file needs to be", .limit >> 10)]
    TooLarge {
        /// Which.
        path: String,
        /// How large it may be, in bytes.
        limit: u64,
    },
    /// A manifest is not understood.
    #[error("{path} cannot be used: {why}")]
    BadManifest {
        /// Which.
        path: String,
        /// Why.
        why: String,
    },
}

/// Decides how `code` is built and started. `command_given`: the launcher says how it is started.
///
/// # Errors
/// When there is nothing to run, or what there is cannot be understood: in words for whoever owns the code.
pub fn plan(code: &Code, builder: Builder, command_given: bool) -> Result<Plan, CannotPlan> {
    if builder == Builder::Static {
        let site = site(code).ok_or_else(|| nothing_static(code))?;
        return Ok(static_plan(site, command_given));
    }
    let (manifest, mut reasons) = manifest::find(code)?;
    let (mut warnings, mut extra) = (Vec::new(), Vec::new());
    let found = if command_given {
        reasons.push("The launcher says how it is started.".into());
        Some(Start::LaunchersCommand)
    } else if let Some(procfile) = procfile::read(code)? {
        reasons.push(format!("The Procfile says how it is started: `{}`.", procfile.web));
        warnings.extend(procfile.warnings());
        Some(Start::Line { line: procfile.web, needs: None })
    } else {
        framework::detect(code, &manifest)?.map(|found| {
            reasons.extend(found.reasons);
            warnings.extend(found.warnings);
            extra = found.extra;
            Start::Line { line: found.line, needs: Some(found.needs).filter(|needs| !needs.is_empty()) }
        })
    };
    let Some(start) = found else {
        if builder == Builder::Auto
            && let Some(site) = site(code)
        {
            return Ok(static_plan(site, false));
        }
        return Err(nothing_to_run(code, &manifest));
    };
    let python = builder == Builder::Python || manifest.kind != Kind::Nothing || has_python(code);
    if !python && let Some(other) = other_language(code) {
        return Err(unsupported(other));
    }
    let install =
        if python { Install::Python { manifest: Box::new(manifest), extra } } else { Install::Nothing };
    Ok(Plan { install, start, reasons, warnings })
}

fn static_plan(site: String, command_given: bool) -> Plan {
    let place = if site.is_empty() { "index.html".to_owned() } else { format!("{site}/index.html") };
    let start = if command_given { Start::LaunchersCommand } else { Start::StaticSite(site) };
    Plan {
        install: Install::Nothing,
        start,
        reasons: vec![format!("A static site: {place} and the files beside it are served as they are.")],
        warnings: Vec::new(),
    }
}

fn site(code: &Code) -> Option<String> {
    if code.has("index.html") {
        return Some(String::new());
    }
    SITE_DIRECTORIES.iter().find(|dir| code.has(&format!("{dir}/index.html"))).map(|&dir| dir.to_owned())
}

fn has_python(code: &Code) -> bool {
    code.paths.iter().any(|path| path.ends_with(".py") && !path.contains('/'))
}

/// A language that is recognised, but not built: the file that shows it, and its name.
fn other_language(code: &Code) -> Option<(&'static str, &'static str)> {
    [
        ("environment.yml", "conda environments"),
        ("environment.yaml", "conda environments"),
        ("package.json", "Node projects"),
        ("renv.lock", "R projects"),
        ("DESCRIPTION", "R projects"),
        ("app.R", "R projects"),
        ("server.R", "R projects"),
        ("Project.toml", "Julia projects"),
        ("Dockerfile", "container images"),
    ]
    .into_iter()
    .find(|(file, _)| code.has(file))
}

fn unsupported((file, what): (&str, &str)) -> CannotPlan {
    let advice = match what {
        "conda environments" => {
            "List the packages in requirements.txt, or use a launcher with a container image."
        }
        _ => "Use a launcher with a container image.",
    };
    CannotPlan::NothingToRun {
        found: format!("there is {file}, but {what} are not built here yet"),
        advice: advice.into(),
    }
}

fn nothing_static(code: &Code) -> CannotPlan {
    CannotPlan::NothingToRun {
        found: summary(code),
        advice:
            "A static site has an index.html, in the root or in one of the directories that site generators \
                 write to; set the directory of the app if it is elsewhere."
                .into(),
    }
}

fn nothing_to_run(code: &Code, manifest: &Manifest) -> CannotPlan {
    if manifest.kind == Kind::Nothing
        && !has_python(code)
        && let Some(other) = other_language(code)
    {
        return unsupported(other);
    }
    let elsewhere = code.paths.iter().find_map(|path| {
        let (dir, name) = path.rsplit_once('/')?;
        let telling = ["Procfile", "requirements.txt", "pyproject.toml", "app.py", "index.html"];
        telling.contains(&name).then_some(dir)
    });
    let advice = match elsewhere {
        Some(dir) => format!(
            "`{dir}` looks like an app: set it as the directory of the app. Or add a file named Procfile with the \
             command, for example `web: python app.py --port $PORT`"
        ),
        None => "Add a file named Procfile with the command, for example `web: python app.py --port $PORT`, or give \
                 the launcher a command"
            .into(),
    };
    CannotPlan::NothingToRun { found: summary(code), advice }
}

/// What is in the root, for a message.
fn summary(code: &Code) -> String {
    const SHOWN: usize = 8;
    let roots: BTreeSet<String> = code
        .paths
        .iter()
        .map(|path| match path.split_once('/') {
            Some((dir, _)) => format!("{dir}/"),
            None => path.clone(),
        })
        .collect();
    if roots.is_empty() {
        return "there are no files".into();
    }
    let more = if roots.len() > SHOWN { format!(" and {} more", roots.len() - SHOWN) } else { String::new() };
    format!("there is {}{more}", roots.into_iter().take(SHOWN).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests;
