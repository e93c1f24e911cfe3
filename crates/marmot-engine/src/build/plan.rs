//! Decides how code becomes something runnable, from its files alone. Pure: nothing is run, nothing is written.

mod code;
mod conda;
mod framework;
mod manifest;
mod node;
mod node_framework;
pub(super) mod node_range;
mod nothing;
mod procfile;
mod python_source;
mod r;
mod summary;

pub use code::Code;
pub use conda::CondaManifest;
pub use manifest::{Kind, Manifest, PythonWish};
pub use node::{Manager, NodeManifest, NodeStep};
pub use r::RManifest;
pub use summary::{CommandFrom, Summary};

use crate::wanted::Builder;

/// Where a site is looked for when the root has none: what Quarto, mkdocs, Jupyter Book and front-end tools write.
const SITE_DIRECTORIES: [&str; 8] = ["_site", "site", "public", "dist", "build", "_book", "docs", "html"];

/// How code becomes something runnable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What is installed.
    pub install: Install,
    /// What is run once per revision before it is served.
    pub release: Option<String>,
    /// What is run.
    pub start: Start,
    /// Who says what is run.
    pub command_from: CommandFrom,
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
    /// Packages of Node, and what is run once they are there.
    Node(Box<NodeManifest>),
    /// Packages of R.
    R(Box<RManifest>),
    /// A container image, by this file: what it needs and how it is started, it says itself.
    Dockerfile(String),
    /// A container image, by the buildpacks that the operator has set, which look at the code for themselves.
    Buildpacks,
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
    /// The same, with its index.html for addresses that only the app in it knows.
    SinglePage(String),
    /// What the container image says.
    Image,
}

/// How an app is started, as it was recognised.
#[derive(Debug)]
struct Proposal {
    start: Start,
    /// What builds it, where its manifest does not say.
    build: Option<String>,
    /// Packages that are needed and that nobody named.
    extra: Vec<String>,
    reasons: Vec<String>,
    warnings: Vec<String>,
}

impl Proposal {
    fn new(start: Start, reason: String) -> Self {
        Self { start, build: None, extra: Vec::new(), reasons: vec![reason], warnings: Vec::new() }
    }
}

/// Nothing came of planning.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CannotPlan {
    /// There is nothing that could be run.
    #[error("nothing to run here: {found}. Looked for a Procfile, {}. {advice}", nothing::LOOKED_FOR)]
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

/// A language that packages are installed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Language {
    Python,
    R,
    Node,
}

/// Where several are found, the first in which there is an app counts.
const LANGUAGES: [Language; 3] = [Language::Python, Language::R, Language::Node];

/// Decides how `code` is built and started. `command_given`: the launcher says how it is started.
///
/// # Errors
/// When there is nothing to run, or what there is cannot be understood: in words for whoever owns the code.
pub fn plan(code: &Code, builder: Builder, command_given: bool) -> Result<Plan, CannotPlan> {
    let languages: Vec<Language> = match builder {
        Builder::Static => {
            let site = site(code).ok_or_else(|| nothing::no_site(code))?;
            return Ok(static_plan(site, command_given));
        }
        Builder::Dockerfile => {
            return dockerfile(code, command_given).ok_or_else(|| nothing::no_dockerfile(code));
        }
        Builder::Buildpacks => return Ok(by_buildpacks(command_given)),
        Builder::Python => vec![Language::Python],
        Builder::R => vec![Language::R],
        Builder::Node => vec![Language::Node],
        Builder::Auto => LANGUAGES.into_iter().filter(|language| language.evidence(code)).collect(),
    };
    let procfile = procfile::read(code)?;
    let said = Said::of(procfile.as_ref(), command_given);
    if let Some(plan) = by_language(code, &languages, said.as_ref())? {
        return Ok(with_procfile(plan, procfile, said));
    }
    if let Some(Said { start, from, .. }) = &said {
        // A program of another kind, which brings what it needs.
        let plan = Plan {
            install: Install::Nothing,
            release: None,
            start: start.clone(),
            command_from: *from,
            reasons: Vec::new(),
            warnings: Vec::new(),
        };
        if builder == Builder::Auto
            && *from == CommandFrom::Launcher
            && let Some(image) = dockerfile(code, true)
        {
            return Ok(image);
        }
        if let Some(other) = nothing::other_language(code) {
            return Err(nothing::unsupported(other));
        }
        return Ok(with_procfile(plan, procfile, said));
    }
    if builder == Builder::Auto {
        if let Some(site) = site(code) {
            return Ok(static_plan(site, false));
        }
        if let Some(image) = dockerfile(code, false) {
            return Ok(image);
        }
    }
    Err(nothing::to_run(code, &languages))
}

/// How an app is started, where the code or the launcher says so.
struct Said {
    start: Start,
    from: CommandFrom,
    reason: String,
    language: Option<Language>,
}

impl Said {
    fn of(procfile: Option<&procfile::Procfile>, command_given: bool) -> Option<Self> {
        if command_given {
            return Some(Self {
                start: Start::LaunchersCommand,
                from: CommandFrom::Launcher,
                reason: match procfile {
                    Some(_) => "The launcher says how it is started, which wins over the Procfile.".into(),
                    None => "The launcher says how it is started.".into(),
                },
                language: None,
            });
        }
        let web = &procfile?.web;
        Some(Self {
            start: Start::Line { line: web.clone(), needs: None },
            from: CommandFrom::Procfile,
            reason: format!("The Procfile says how it is started: `{web}`."),
            language: Language::of_line(web),
        })
    }
}

impl Language {
    fn evidence(self, code: &Code) -> bool {
        match self {
            Self::Python => manifest::evidence(code),
            Self::R => r::evidence(code),
            Self::Node => code.has("package.json"),
        }
    }

    /// The language of the program that a line starts, where its name tells.
    fn of_line(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace().skip_while(|word| word.contains('='));
        let program = words.find(|word| !["exec", "env"].contains(word))?;
        match program.rsplit('/').next()? {
            "node" | "npm" | "npx" | "yarn" | "pnpm" | "next" | "vite" | "tsx" | "ts-node" => {
                Some(Self::Node)
            }
            "R" | "Rscript" => Some(Self::R),
            "python" | "python3" | "uvicorn" | "gunicorn" | "streamlit" | "flask" | "panel" | "bokeh"
            | "voila" | "shiny" | "hypercorn" | "marimo" | "waitress-serve" => Some(Self::Python),
            _ => None,
        }
    }

    /// The plan of an app in this language: as it is recognised, or for what is said to start it.
    fn plan(self, code: &Code, said: bool) -> Result<Option<Plan>, CannotPlan> {
        let (install, found, mut reasons, mut warnings) = match self {
            Self::Python => {
                let (manifest, reasons) = manifest::find(code)?;
                let found = if said { None } else { framework::detect(code, &manifest)? };
                let extra = found.as_ref().map(|found| found.extra.clone()).unwrap_or_default();
                (Install::Python { manifest: Box::new(manifest), extra }, found, reasons, Vec::new())
            }
            Self::R => {
                let found = if said { None } else { r::detect(code) };
                let extra = found.as_ref().map(|found| found.extra.clone()).unwrap_or_default();
                let (manifest, reasons, warnings) = r::manifest(code, &extra)?;
                (Install::R(Box::new(manifest)), found, reasons, warnings)
            }
            Self::Node => {
                let Some(object) = node::read(code)? else { return Ok(None) };
                let package = node::package(&object);
                let (mut manifest, mut reasons, warnings) = node::manifest(code, &package)?;
                let found = if said {
                    reasons.extend(node_framework::prepare(&package, &mut manifest));
                    None
                } else {
                    node_framework::detect(code, &package, &mut manifest)?
                };
                (Install::Node(Box::new(manifest)), found, reasons, warnings)
            }
        };
        let start = match found {
            Some(found) => {
                reasons.extend(found.reasons);
                warnings.extend(found.warnings);
                found.start
            }
            None if said => Start::LaunchersCommand,
            None => return Ok(None),
        };
        let (release, command_from) = (None, CommandFrom::Detected);
        Ok(Some(Plan { install, release, start, command_from, reasons, warnings }))
    }
}

/// The plan in the first of these languages that has one.
fn by_language(code: &Code, languages: &[Language], said: Option<&Said>) -> Result<Option<Plan>, CannotPlan> {
    let mut refused = None;
    // The one that the line names comes first, where it is there at all.
    let named = said.and_then(|said| said.language).filter(|language| languages.contains(language));
    for &language in named.iter().chain(languages) {
        match language.plan(code, said.is_some()) {
            Ok(Some(mut plan)) => {
                let others = languages.iter().filter(|other| **other != language);
                let aside: Vec<_> = others.filter_map(|other| other.sign(code)).collect();
                if !aside.is_empty() {
                    plan.warnings.push(format!(
                        "Nothing is installed for {}: an app is built in one language.",
                        aside.join(", ")
                    ));
                }
                return Ok(Some(plan));
            }
            Ok(None) => {}
            // Another language may have an app that is understood.
            Err(why) => drop(refused.get_or_insert(why)),
        }
    }
    refused.map_or(Ok(None), Err)
}

impl Language {
    /// The file that would have packages installed in it.
    fn sign(self, code: &Code) -> Option<&'static str> {
        match self {
            Self::Python => code.first_of(&["requirements.txt", "pyproject.toml", "Pipfile"]),
            Self::R => code.first_of(&["renv.lock", "DESCRIPTION", "install.R"]),
            Self::Node => code.first_of(&["package.json"]),
        }
    }
}

/// Adds what the Procfile says.
fn with_procfile(mut plan: Plan, procfile: Option<procfile::Procfile>, said: Option<Said>) -> Plan {
    if let Some(said) = said {
        (plan.start, plan.command_from) = (said.start, said.from);
        plan.reasons.push(said.reason);
    }
    if let Some(procfile) = procfile {
        if plan.command_from == CommandFrom::Procfile {
            plan.warnings.extend(procfile.warnings());
        }
        if let Some(release) = procfile.release {
            plan.reasons
                .push(format!("Before a build is served, the Procfile's release is run once: `{release}`."));
            plan.release = Some(release);
        }
    }
    plan
}

fn static_plan(site: String, command_given: bool) -> Plan {
    let place = if site.is_empty() { "index.html".to_owned() } else { format!("{site}/index.html") };
    let (start, command_from) = if command_given {
        (Start::LaunchersCommand, CommandFrom::Launcher)
    } else {
        (Start::StaticSite(site), CommandFrom::Detected)
    };
    Plan {
        install: Install::Nothing,
        release: None,
        start,
        command_from,
        reasons: vec![format!("A static site: {place} and the files beside it are served as they are.")],
        warnings: Vec::new(),
    }
}

fn dockerfile(code: &Code, command_given: bool) -> Option<Plan> {
    let file = code.first_of(&["Dockerfile", "Containerfile"])?;
    let (start, command_from) = if command_given {
        (Start::LaunchersCommand, CommandFrom::Launcher)
    } else {
        (Start::Image, CommandFrom::Detected)
    };
    Some(Plan {
        install: Install::Dockerfile(file.to_owned()),
        release: None,
        start,
        command_from,
        reasons: vec![format!("{file} says how a container image is made, and how it is started.")],
        warnings: Vec::new(),
    })
}

fn by_buildpacks(command_given: bool) -> Plan {
    let (start, command_from) = if command_given {
        (Start::LaunchersCommand, CommandFrom::Launcher)
    } else {
        (Start::Image, CommandFrom::Detected)
    };
    let reason = "The buildpacks that this installation's operator has set look at the code and make a container image of it.";
    Plan {
        install: Install::Buildpacks,
        release: None,
        start,
        command_from,
        reasons: vec![reason.to_owned()],
        warnings: Vec::new(),
    }
}

/// The directory of a static site: where its generator is said to write to, the root, or where generators usually do.
fn site(code: &Code) -> Option<String> {
    let has = |dir: &str| code.has(&format!("{dir}/index.html"));
    let named = [
        ("_quarto.yml", "output-dir:"),
        ("_quarto.yaml", "output-dir:"),
        ("mkdocs.yml", "site_dir:"),
        ("mkdocs.yaml", "site_dir:"),
    ];
    let named = named.into_iter().find_map(|(file, key)| {
        let line = code.text(file)?.lines().find_map(|line| line.trim_start().strip_prefix(key))?;
        Some(line.split(" #").next()?.trim().trim_matches(['"', '\'']).trim_end_matches('/').to_owned())
    });
    if let Some(dir) = named.filter(|dir| has(dir)) {
        return Some(dir);
    }
    if code.has("index.html") {
        return Some(String::new());
    }
    SITE_DIRECTORIES.iter().find(|dir| has(dir)).map(|&dir| dir.to_owned())
}

/// `text` as one word for a shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | ':');
    // What begins with a dash would be taken for an option.
    let text = if text.starts_with('-') { format!("./{text}") } else { text.to_owned() };
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests;
