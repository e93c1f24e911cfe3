//! Reads the manifests of Python projects: which packages are wanted, which Python, and which files say so.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::conda::{self, CondaManifest};
use super::{CannotPlan, Code};

/// Which packages are wanted, and who says so.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manifest {
    /// What kind of manifest it is.
    pub kind: Kind,
    /// Which Python is wanted.
    pub python: PythonWish,
    /// The files that decide what is installed: the same texts mean the same packages.
    pub files: BTreeSet<String>,
    /// Packages are installed from the code itself, so a change of the code changes them.
    pub local: bool,
    /// The project is itself a package that is installed: it has a build system.
    pub package: bool,
    /// The packages that are named, with normalised names.
    pub packages: BTreeSet<String>,
}

/// The kinds of manifests.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Kind {
    /// There is none.
    #[default]
    Nothing,
    /// `uv.lock` beside `pyproject.toml`.
    UvLock,
    /// `pyproject.toml`.
    Pyproject,
    /// A file of requirements.
    Requirements(String),
    /// Requirements made from another kind of manifest: its name, and the requirements.
    Converted(String, Vec<String>),
    /// An environment of conda.
    Conda(Box<CondaManifest>),
}

/// Which Python is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PythonWish {
    /// A version that somebody works with, and the file that says so.
    pub pinned: Option<(String, String)>,
    /// The versions that do, as in `>=3.10`, and the file that says so.
    pub required: Option<(String, String)>,
}

/// Whether there is Python at all.
pub(super) fn evidence(code: &Code) -> bool {
    let manifests = [
        "environment.yml",
        "environment.yaml",
        "pyproject.toml",
        "uv.lock",
        "requirements.txt",
        "Pipfile",
        "Pipfile.lock",
        "setup.py",
        "setup.cfg",
    ];
    manifests.iter().any(|file| code.has(file))
        || code.paths.iter().any(|path| path.starts_with("requirements/") && path.ends_with(".txt"))
        || code.paths.iter().any(|path| path.ends_with(".py") && path.matches('/').count() <= 1)
        || code.in_root().any(|(path, _)| path.ends_with(".ipynb"))
}

/// Finds the manifest that counts, and says why.
pub(super) fn find(code: &Code) -> Result<(Manifest, Vec<String>), CannotPlan> {
    let project = table(code, "pyproject.toml")?;
    let mut said = Vec::new();
    let mut manifest = match &project {
        Some(project) if code.has("uv.lock") => from_lock(code, project)?,
        Some(project) if declares_packages(project) => from_project(code, project)?,
        _ => from_other_files(code)?,
    };
    manifest.python = wish(code, project.as_ref())?;
    // A project or a lock says more.
    if let Some(file) = conda::file(code).filter(|_| !matches!(manifest.kind, Kind::UvLock | Kind::Pyproject))
    {
        (manifest, said) = conda::with_environment(code, file, manifest)?;
    }
    let reason = match &manifest.kind {
        Kind::Nothing => return Ok((manifest, said)),
        Kind::Conda(conda) => {
            format!("The packages are those that {} names, from conda's channels.", conda.file)
        }
        Kind::UvLock => "The packages are those of uv.lock.".to_owned(),
        Kind::Pyproject => "The packages are those that pyproject.toml names.".to_owned(),
        Kind::Requirements(file) => format!("The packages are those that {file} names."),
        Kind::Converted(file, _) => format!("The packages are those that {file} names."),
    };
    said.insert(0, reason);
    Ok((manifest, said))
}

pub(super) fn bad(path: &str, why: impl Into<String>) -> CannotPlan {
    CannotPlan::BadManifest { path: path.to_owned(), why: why.into() }
}

fn table(code: &Code, path: &str) -> Result<Option<Table>, CannotPlan> {
    let Some(text) = code.manifest(path)? else { return Ok(None) };
    let parsed = text.parse::<Table>().map_err(|error| {
        let line = error.span().map(|span| text[..span.start.min(text.len())].lines().count().max(1));
        let place = line.map(|line| format!(" in line {line}")).unwrap_or_default();
        bad(path, format!("it is not valid TOML: {}{place}", error.message()))
    })?;
    Ok(Some(parsed))
}

fn declares_packages(project: &Table) -> bool {
    project.contains_key("project") || tool(project, "poetry").is_some()
}

fn tool<'a>(project: &'a Table, name: &str) -> Option<&'a Table> {
    project.get("tool")?.get(name)?.as_table()
}

fn is_package(project: &Table) -> bool {
    let asked = tool(project, "uv").and_then(|uv| uv.get("package")).and_then(Value::as_bool);
    let poetry =
        tool(project, "poetry").and_then(|poetry| poetry.get("package-mode")).and_then(Value::as_bool);
    asked.or(poetry).unwrap_or_else(|| project.contains_key("build-system"))
}

fn from_lock(code: &Code, project: &Table) -> Result<Manifest, CannotPlan> {
    let lock = table(code, "uv.lock")?.unwrap_or_default();
    no_escapes("pyproject.toml", project)?;
    no_escapes("uv.lock", &lock)?;
    let none = Vec::new();
    let packages = lock.get("package").and_then(Value::as_array).unwrap_or(&none);
    let name = |package: &Value| Some(normalised(package.get("name")?.as_str()?));
    // The project itself is local as well; it is dealt with apart.
    let local = packages.iter().filter(|package| {
        let Some(source) = package.get("source").and_then(Value::as_table) else { return false };
        ["editable", "directory", "virtual", "path"]
            .iter()
            .any(|kind| source.get(*kind).and_then(Value::as_str).is_some_and(|path| path != "."))
    });
    Ok(Manifest {
        kind: Kind::UvLock,
        local: local.count() > 0,
        package: is_package(project),
        packages: packages.iter().filter_map(name).collect(),
        files: files(&["pyproject.toml", "uv.lock"]),
        ..Manifest::default()
    })
}

fn from_project(code: &Code, project: &Table) -> Result<Manifest, CannotPlan> {
    no_escapes("pyproject.toml", project)?;
    let none = Vec::new();
    let listed = project.get("project").and_then(|table| table.get("dependencies"));
    let listed = listed.and_then(Value::as_array).unwrap_or(&none).iter().filter_map(Value::as_str);
    let mut packages: BTreeSet<String> = listed.filter_map(requirement_name).collect();
    let poetry =
        tool(project, "poetry").and_then(|poetry| poetry.get("dependencies")).and_then(Value::as_table);
    packages.extend(poetry.into_iter().flat_map(Table::keys).map(|name| normalised(name)));
    let sources = tool(project, "uv").and_then(|uv| uv.get("sources")).and_then(Value::as_table);
    let local = sources
        .into_iter()
        .flat_map(Table::values)
        .any(|source| source.get("path").is_some() || source.get("workspace").is_some());
    // Without a `project` table only its build system knows the packages, and that runs the project's own code.
    let dynamic = project.get("project").and_then(|table| table.get("dynamic")).and_then(Value::as_array);
    let dynamic =
        dynamic.is_some_and(|fields| fields.iter().any(|field| field.as_str() == Some("dependencies")));
    let _ = code;
    Ok(Manifest {
        kind: Kind::Pyproject,
        local: local || dynamic,
        package: is_package(project),
        packages,
        files: files(&["pyproject.toml"]),
        ..Manifest::default()
    })
}

fn from_other_files(code: &Code) -> Result<Manifest, CannotPlan> {
    for file in
        ["requirements.txt", "requirements/prod.txt", "requirements/production.txt", "requirements/base.txt"]
    {
        if code.has(file) {
            return from_requirements(code, file);
        }
    }
    for (file, convert) in [("Pipfile.lock", pipfile_lock as Convert), ("Pipfile", pipfile)] {
        if let Some(text) = code.manifest(file)? {
            let requirements = convert(text).map_err(|why| bad(file, why))?;
            return Ok(Manifest {
                packages: requirements.iter().filter_map(|line| requirement_name(line)).collect(),
                kind: Kind::Converted(file.to_owned(), requirements),
                files: files(&[file]),
                ..Manifest::default()
            });
        }
    }
    if code.has("setup.py") || code.has("setup.cfg") {
        let file = if code.has("setup.py") { "setup.py" } else { "setup.cfg" };
        return Ok(Manifest {
            kind: Kind::Converted(file.to_owned(), vec![".".into()]),
            local: true,
            ..Manifest::default()
        });
    }
    Ok(Manifest::default())
}

fn files(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// Reads requirements that `file`, which is of another kind, has in it.
pub(super) fn from_lines(code: &Code, file: &str, lines: &[String]) -> Result<Manifest, CannotPlan> {
    let mut manifest = Manifest { files: files(&[file]), ..Manifest::default() };
    let mut ahead = Vec::new();
    for line in lines {
        if line.chars().any(char::is_control) {
            return Err(bad(file, "it has control characters in it"));
        }
        requirement(file, line.trim(), &mut manifest, &mut ahead)?;
    }
    for named in ahead {
        let more = from_requirements(code, &named)?;
        manifest.files.extend(more.files);
        manifest.packages.extend(more.packages);
        manifest.local |= more.local;
    }
    Ok(manifest)
}

/// Reads a file of requirements and those that it names.
fn from_requirements(code: &Code, file: &str) -> Result<Manifest, CannotPlan> {
    let mut manifest = Manifest { kind: Kind::Requirements(file.to_owned()), ..Manifest::default() };
    let mut ahead = vec![file.to_owned()];
    while let Some(file) = ahead.pop() {
        let Some(text) = code.manifest(&file)? else {
            return Err(bad(&file, "a file of requirements names it, but it is not there"));
        };
        if !manifest.files.insert(file.clone()) {
            continue;
        }
        // A line that ends in a backslash goes on in the next one.
        for line in text.replace("\\\r\n", " ").replace("\\\n", " ").lines() {
            let line = line.trim_start_matches('\u{feff}');
            let line = line.split(" #").next().unwrap_or_default().trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if line.chars().any(|letter| letter.is_control() && letter != '\t') {
                return Err(bad(&file, "it has control characters in it (is it text, in UTF-8?)"));
            }
            requirement(&file, line, &mut manifest, &mut ahead)?;
        }
    }
    Ok(manifest)
}

fn requirement(
    file: &str,
    line: &str,
    manifest: &mut Manifest,
    ahead: &mut Vec<String>,
) -> Result<(), CannotPlan> {
    for option in ["-r", "--requirement", "-c", "--constraint"] {
        if let Some(rest) = option_value(line, option) {
            ahead.push(beside(file, rest).ok_or_else(|| outside(file, rest))?);
            return Ok(());
        }
    }
    for option in ["-e", "--editable"] {
        if let Some(rest) = option_value(line, option) {
            let path = rest.split('[').next().unwrap_or(rest);
            if !rest.contains("://") {
                beside("", path).ok_or_else(|| outside(file, rest))?;
            }
            return checked_url(file, rest).map(|()| manifest.local = true);
        }
    }
    if line.starts_with('-') {
        return checked_url(file, line);
    }
    checked_url(file, line)?;
    let first = line.split([';', ' ', '[']).next().unwrap_or(line);
    let is_path =
        first == "." || first.starts_with("./") || first.starts_with("../") || first.starts_with('/');
    if is_path {
        beside("", first).ok_or_else(|| outside(file, first))?;
        manifest.local = true;
        return Ok(());
    }
    manifest.packages.extend(requirement_name(line));
    Ok(())
}

/// The value of `option` where `line` gives it: `-r x`, `-rx`, `--requirement x`, `--requirement=x`.
fn option_value<'a>(line: &'a str, option: &str) -> Option<&'a str> {
    let rest = line.strip_prefix(option)?;
    let long = option.starts_with("--");
    if long && !rest.starts_with([' ', '=', '\t']) {
        return None;
    }
    Some(rest.trim_start_matches(['=', ' ', '\t']).trim())
}

/// The path that `relative` means when `file` names it, if it is beneath the root.
fn beside(file: &str, relative: &str) -> Option<String> {
    if relative.is_empty()
        || relative.starts_with(['/', '~'])
        || relative.contains(['$', '\\'])
        || relative.contains("://")
    {
        return None;
    }
    let mut place: Vec<&str> = file.split('/').collect();
    place.pop();
    for part in relative.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(place.pop()?),
            _ => place.push(part),
        }
    }
    Some(place.join("/"))
}

fn outside(file: &str, path: &str) -> CannotPlan {
    let shown: String = path.chars().take(80).collect();
    bad(file, format!("it names `{shown}`, which is not in the app's directory"))
}

fn checked_url(file: &str, line: &str) -> Result<(), CannotPlan> {
    let lower = line.to_ascii_lowercase();
    // `name @ file:…` also has a form without slashes.
    if lower.contains("file:") || lower.contains("@ /") || lower.contains("=/") || lower.contains("links /") {
        return Err(bad(
            file,
            "it names a path of this machine; packages come from an index, or from the code itself",
        ));
    }
    Ok(())
}

/// Refuses paths in TOML that lead out of the code.
fn no_escapes(file: &str, table: &Table) -> Result<(), CannotPlan> {
    for (key, value) in table {
        match value {
            Value::Table(inner) => no_escapes(file, inner)?,
            Value::Array(items) => {
                for inner in items.iter().filter_map(Value::as_table) {
                    no_escapes(file, inner)?;
                }
            }
            Value::String(text) if matches!(key.as_str(), "path" | "editable" | "directory" | "virtual") => {
                beside("", text).ok_or_else(|| outside(file, text))?;
            }
            Value::String(text)
                if text.contains("file:") && matches!(key.as_str(), "url" | "git" | "registry") =>
            {
                return Err(outside(file, text));
            }
            _ => {}
        }
    }
    Ok(())
}

type Convert = fn(&str) -> Result<Vec<String>, String>;

fn pipfile_lock(text: &str) -> Result<Vec<String>, String> {
    let lock: serde_json::Value =
        serde_json::from_str(text).map_err(|error| format!("it is not valid JSON: {error}"))?;
    let packages =
        lock.get("default").and_then(serde_json::Value::as_object).ok_or("it has no `default` packages")?;
    let line = |(name, package): (&String, &serde_json::Value)| {
        let text = |key| package.get(key).and_then(serde_json::Value::as_str);
        let version = text("version").ok_or_else(|| format!("`{name}` has no version"))?;
        let markers = text("markers").map(|markers| format!(" ; {markers}")).unwrap_or_default();
        checked_line(format!("{name}{version}{markers}"))
    };
    packages.iter().map(line).collect()
}

fn pipfile(text: &str) -> Result<Vec<String>, String> {
    let file: Table = text
        .parse()
        .map_err(|error: toml::de::Error| format!("it is not valid TOML: {}", error.message()))?;
    let none = Table::new();
    let packages = file.get("packages").and_then(Value::as_table).unwrap_or(&none);
    let line = |(name, package): (&String, &Value)| {
        let version = match package {
            Value::String(version) => version.as_str(),
            other => other.get("version").and_then(Value::as_str).ok_or_else(|| {
                format!("`{name}` is not given by a version; list the packages in requirements.txt")
            })?,
        };
        let extras = package.get("extras").and_then(Value::as_array);
        let extras: Vec<_> = extras.into_iter().flatten().filter_map(Value::as_str).collect();
        let extras = if extras.is_empty() { String::new() } else { format!("[{}]", extras.join(",")) };
        checked_line(format!("{name}{extras}{}", version.trim_matches('*')))
    };
    packages.iter().map(line).collect()
}

/// A requirement that was put together: on one line, of a package.
fn checked_line(line: String) -> Result<String, String> {
    let plain =
        !line.contains(['\n', '\r', '@', '/']) && line.starts_with(|c: char| c.is_ascii_alphanumeric());
    if plain { Ok(line) } else { Err("it names something that is not a package".into()) }
}

/// The normalised name of the package that a requirement names.
fn requirement_name(requirement: &str) -> Option<String> {
    let end = requirement.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')));
    let name = &requirement[..end.unwrap_or(requirement.len())];
    (!name.is_empty()).then(|| normalised(name))
}

fn normalised(name: &str) -> String {
    name.trim().to_ascii_lowercase().replace(['_', '.'], "-")
}

/// Versions with their operators, as `requires-python` has them: <https://peps.python.org/pep-0440/#version-specifiers>.
fn is_specifier_list(text: &str) -> bool {
    const OPERATORS: [&str; 8] = ["===", ">=", "<=", "==", "!=", "~=", ">", "<"];
    text.len() <= 200
        && text.split(',').all(|part| {
            let part = part.trim();
            let version = OPERATORS.iter().find_map(|operator| part.strip_prefix(operator)).map(str::trim);
            version.is_some_and(|version| {
                version.starts_with(|c: char| c.is_ascii_digit())
                    && version.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '*' | '+'))
            })
        })
}

fn wish(code: &Code, project: Option<&Table>) -> Result<PythonWish, CannotPlan> {
    let required = project.and_then(|project| project.get("project")?.get("requires-python")?.as_str());
    // Whatever else stands there, such as a path, uv would take for a Python and run.
    if required.is_some_and(|versions| !is_specifier_list(versions)) {
        return Err(bad(
            "pyproject.toml",
            "`requires-python` is not a list of versions such as `>=3.10,<3.13`",
        ));
    }
    let mut wish = PythonWish {
        pinned: None,
        required: required.map(|versions| (versions.to_owned(), "pyproject.toml".to_owned())),
    };
    for file in [".python-version", "runtime.txt"] {
        let Some(text) = code.manifest(file)? else { continue };
        let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
        let version = line.unwrap_or_default().trim_start_matches("cpython-").trim_start_matches("python-");
        let version = version.trim_end_matches(".x").trim_end_matches(".*");
        // Anything else, such as the name of a pyenv environment, means nothing here.
        if version.starts_with(|c: char| c.is_ascii_digit())
            && version.len() < 20
            && version.chars().all(|c| c.is_ascii_digit() || c == '.')
        {
            wish.pinned = Some((version.to_owned(), file.to_owned()));
            break;
        }
    }
    Ok(wish)
}
