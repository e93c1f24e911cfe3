//! Reads `environment.yml`: what conda is asked for, and what pip is asked for on top.

use rattler_conda_types::{EnvironmentYaml, MatchSpec, NamedChannelOrUrl, PackageNameMatcher};

use super::manifest::{self, Kind, Manifest};
use super::{CannotPlan, Code};

/// What conda is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CondaManifest {
    /// The file that says so.
    pub file: String,
    /// Where packages come from, by name or address.
    pub channels: Vec<String>,
    /// The packages, as the file has them.
    pub specs: Vec<String>,
    /// Requirements that uv installs on top.
    pub pip: Vec<String>,
    /// Files of requirements that uv installs on top.
    pub requirements: Vec<String>,
    /// Variables that the environment sets.
    pub variables: Vec<(String, String)>,
}

/// What every environment names, and uv brings as well.
const TRIVIAL: [&str; 5] = ["python", "pip", "setuptools", "wheel", "conda"];

/// The file, if there is one.
pub(super) fn file(code: &Code) -> Option<&'static str> {
    code.first_of(&["environment.yml", "environment.yaml"])
}

/// The manifest that `environment.yml` and `other`, which was found beside it, are together; and what to say of it.
pub(super) fn with_environment(
    code: &Code,
    file: &'static str,
    other: Manifest,
) -> Result<(Manifest, Vec<String>), CannotPlan> {
    let text = code.manifest(file)?.unwrap_or_default();
    let environment = EnvironmentYaml::from_yaml_str(text)
        .map_err(|error| manifest::bad(file, shortened(&error.to_string())))?;
    let specs: Vec<(String, &MatchSpec)> = environment
        .match_specs()
        .map(|spec| Ok((name(file, spec)?, spec)))
        .collect::<Result<_, CannotPlan>>()?;
    let pip = environment.pip_specs().unwrap_or_default();
    let mut made = manifest::from_lines(code, file, pip)?;
    let trivial = specs.iter().all(|(name, _)| TRIVIAL.contains(&name.as_str()));
    made.packages.extend(specs.iter().map(|(name, _)| name.clone()));
    made.python = other.python.clone();
    if trivial {
        // Nothing that needs conda.
        let pinned =
            specs.iter().find(|(name, _)| name == "python").and_then(|(_, spec)| python_version(spec));
        let pinned = pinned.map(|version| (version, file.to_owned()));
        if other.kind != Kind::Nothing {
            let mut other = other;
            other.python.pinned = other.python.pinned.or(pinned);
            let aside = format!("{file} names no more than Python and pip: it is not used.");
            return Ok((other, if pip.is_empty() { Vec::new() } else { vec![aside] }));
        }
        made.python.pinned = made.python.pinned.or(pinned);
        let (lines, files) = split(pip);
        if let (true, [only]) = (lines.is_empty(), files.as_slice()) {
            made.kind = Kind::Requirements(only.clone());
        } else if !lines.is_empty() {
            made.kind = Kind::Converted(file.to_owned(), lines);
        }
        return Ok((made, Vec::new()));
    }
    let (pip, mut requirements) = split(pip);
    let mut said = Vec::new();
    match other.kind {
        Kind::Requirements(beside) => {
            made.files.extend(other.files);
            made.packages.extend(other.packages);
            made.local |= other.local;
            said.push(format!("What {beside} names is installed on top."));
            if !requirements.contains(&beside) {
                requirements.push(beside);
            }
        }
        Kind::Nothing => {}
        _ => said.push("Only the packages of environment.yml are installed.".to_owned()),
    }
    let mut specs: Vec<String> = specs.iter().map(|(_, spec)| spec.to_string()).collect();
    if !made.packages.contains("python") {
        specs.push("python".to_owned());
    }
    made.kind = Kind::Conda(Box::new(CondaManifest {
        file: file.to_owned(),
        channels: environment.channels.iter().map(channel).collect(),
        specs,
        pip,
        requirements,
        variables: variables(&environment),
    }));
    Ok((made, said))
}

fn variables(environment: &EnvironmentYaml) -> Vec<(String, String)> {
    let plain = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && name != "PATH"
    };
    let all = environment.variables.iter().filter(|(name, value)| plain(name) && !value.contains('\0'));
    all.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn channel(channel: &NamedChannelOrUrl) -> String {
    channel.as_str().to_owned()
}

/// The name of the package that is asked for.
fn name(file: &str, spec: &MatchSpec) -> Result<String, CannotPlan> {
    if spec.url.is_some() {
        return Err(manifest::bad(file, "it names a package by its address; packages come from channels"));
    }
    match &spec.name {
        PackageNameMatcher::Exact(name) => Ok(name.as_normalized().to_owned()),
        _ => Err(manifest::bad(file, "it names packages by a pattern; name each of them")),
    }
}

/// Requirements, and the files of requirements among them.
fn split(pip: &[String]) -> (Vec<String>, Vec<String>) {
    let file = |line: &str| {
        let rest = line.trim().strip_prefix("--requirement").or(line.trim().strip_prefix("-r"))?;
        Some(rest.trim_start_matches(['=', ' ']).trim_start_matches("./").to_owned())
    };
    let files = pip.iter().filter_map(|line| file(line)).collect();
    (pip.iter().filter(|line| file(line).is_none()).cloned().collect(), files)
}

/// The version in `python=3.11`, where it is one.
fn python_version(spec: &MatchSpec) -> Option<String> {
    let text = spec.version.as_ref()?.to_string();
    let version = text.trim_start_matches("==").trim_end_matches(".*");
    version.chars().all(|c| c.is_ascii_digit() || c == '.').then(|| version.to_owned())
}

fn shortened(text: &str) -> String {
    let line: String =
        text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(200).collect();
    format!("it is not understood: {line}")
}
