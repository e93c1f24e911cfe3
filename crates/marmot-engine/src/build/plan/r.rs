//! Recognises R apps, Shiny and Plumber among them, and reads which packages they want.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::code::Code;
use super::{CannotPlan, Proposal, Start};

/// Which packages an R project wants, and who says so.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RManifest {
    /// The file that says so; without one, it is what the code itself loads.
    pub file: Option<String>,
    /// The packages, with their versions where these are known.
    pub packages: BTreeMap<String, Option<String>>,
    /// Where packages come from, as the code says.
    pub repositories: Vec<String>,
    /// The version of R that it was written with.
    pub r: Option<String>,
    /// A script of the code that installs more.
    pub script: Option<String>,
    /// The files that decide what is installed: the same texts mean the same packages.
    pub files: BTreeSet<String>,
}

/// What R brings along.
const BASE: [&str; 14] = [
    "R",
    "base",
    "compiler",
    "datasets",
    "graphics",
    "grDevices",
    "grid",
    "methods",
    "parallel",
    "splines",
    "stats",
    "stats4",
    "tools",
    "utils",
];

/// Files that apps are in, where they are more than a script.
const LIKELY: [&str; 8] =
    ["app.R", "server.R", "ui.R", "global.R", "plumber.R", "entrypoint.R", "api.R", "run.R"];

/// Whether there is R at all.
pub(super) fn evidence(code: &Code) -> bool {
    let described = code.text("DESCRIPTION").is_some_and(|text| fields(text).contains_key("Package"));
    ["renv.lock", "install.R"].iter().any(|file| code.has(file))
        || described
        || code.in_root().any(|(path, _)| path.ends_with(".R") || path.ends_with(".r"))
}

/// Finds the app among the files, and how it is started.
pub(super) fn detect(code: &Code) -> Option<Proposal> {
    let port = "port = as.integer(Sys.getenv(\"PORT\"))";
    let shiny = |dir: &str, what: &str| {
        let line = format!(
            "Rscript -e 'shiny::runApp(\"{dir}\", host = \"0.0.0.0\", {port}, launch.browser = FALSE)'"
        );
        proposal(&line, "shiny", format!("{what} is a Shiny app: it is started by `{line}`."))
    };
    if code.has("app.R") && code.text("app.R").is_none_or(|text| mentions(text, "shiny")) {
        return Some(shiny(".", "app.R"));
    }
    if code.has("server.R") && (code.has("ui.R") || code.has("www/index.html")) {
        return Some(shiny(".", "server.R"));
    }
    for dir in ["app", "shiny", "inst/app"] {
        if code.has(&format!("{dir}/app.R"))
            || (code.has(&format!("{dir}/server.R")) && code.has(&format!("{dir}/ui.R")))
        {
            return Some(shiny(dir, dir));
        }
    }
    let plumber = |how: &str, file: &str| {
        let line = format!("Rscript -e '{how}$run(host = \"0.0.0.0\", {port})'");
        proposal(&line, "plumber", format!("{file} is a Plumber API: it is started by `{line}`."))
    };
    if let Some(file) = code.first_of(&["entrypoint.R", "plumber.R"]) {
        return Some(plumber("plumber::plumb(dir = \".\")", file));
    }
    let annotated = ["api.R", "app.R", "run.R", "main.R", "R/plumber.R", "R/api.R"]
        .into_iter()
        .find(|file| code.text(file).is_some_and(|text| text.lines().any(is_endpoint)));
    if let Some(file) = annotated {
        return Some(plumber(&format!("plumber::plumb(\"{file}\")"), file));
    }
    let document = code.in_root().find(|(path, text)| {
        path.ends_with(".Rmd")
            && text.is_some_and(|text| front_matter(text).any(|line| line == "runtime: shiny"))
    });
    let (file, _) = document.filter(|(path, _)| {
        path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    })?;
    let line = format!(
        "Rscript -e 'rmarkdown::run(\"{file}\", shiny_args = list(host = \"0.0.0.0\", {port}, launch.browser = FALSE))'"
    );
    Some(proposal(
        &line,
        "rmarkdown",
        format!("{file} is a document with Shiny in it: it is started by `{line}`."),
    ))
}

fn proposal(line: &str, package: &str, reason: String) -> Proposal {
    let start = Start::Line { line: line.to_owned(), needs: Some(package.to_owned()) };
    Proposal { extra: vec![package.to_owned()], ..Proposal::new(start, reason) }
}

/// `#* @get /predict`: how Plumber is told what answers what.
fn is_endpoint(line: &str) -> bool {
    let annotation = line.trim_start().strip_prefix("#*").or(line.trim_start().strip_prefix("#'"));
    let verb = annotation.and_then(|rest| rest.trim_start().strip_prefix('@')?.split_whitespace().next());
    verb.is_some_and(|verb| ["get", "post", "put", "delete", "patch", "head", "use"].contains(&verb))
}

fn front_matter(text: &str) -> impl Iterator<Item = &str> {
    let head = text.strip_prefix("---").and_then(|rest| rest.split("\n---").next()).unwrap_or_default();
    head.lines().map(str::trim_end)
}

fn mentions(text: &str, word: &str) -> bool {
    text.lines().any(|line| line.split('#').next().is_some_and(|code| code.contains(word)))
        // Many apps only name what the package brings.
        || text.contains("shinyApp(")
}

/// Which packages are wanted, why, and what will probably surprise.
pub(super) fn manifest(
    code: &Code,
    extra: &[String],
) -> Result<(RManifest, Vec<String>, Vec<String>), CannotPlan> {
    let (mut reasons, mut warnings) = (Vec::new(), Vec::new());
    let mut manifest = if let Some(text) = code.manifest("renv.lock")? {
        renv(text, &mut warnings).map_err(|why| bad("renv.lock", why))?
    } else if let Some(found) =
        code.manifest("DESCRIPTION")?.map(description).filter(|found| !found.packages.is_empty())
    {
        found
    } else {
        let texts = code.texts.iter().filter(|(path, _)| LIKELY.contains(&path.as_str()) || is_source(path));
        let loaded = texts.flat_map(|(_, text)| loaded(text)).map(|name| (name, None));
        RManifest { packages: loaded.collect(), ..RManifest::default() }
    };
    for name in BASE {
        manifest.packages.remove(name);
    }
    for name in extra {
        manifest.packages.entry(name.clone()).or_default();
    }
    if code.has("install.R") {
        manifest.script = Some("install.R".into());
        manifest.files.insert("install.R".into());
        reasons.push("install.R is run, as it says what else is installed.".to_owned());
    }
    reasons.insert(
        0,
        match &manifest.file {
            Some(file) => format!("The R packages are those that {file} names."),
            None => "No file names R packages, so they are those that the code loads.".to_owned(),
        },
    );
    if manifest.file.is_none() && manifest.script.is_none() {
        warnings.push(
            "Without renv.lock or DESCRIPTION, the versions of packages are not known: run `renv::snapshot()` and commit \
             renv.lock."
                .into(),
        );
    }
    Ok((manifest, reasons, warnings))
}

/// A file of R that an app consists of.
fn is_source(path: &str) -> bool {
    let r = path.ends_with(".R") || path.ends_with(".r") || path.ends_with(".Rmd");
    r && path != "install.R" && (!path.contains('/') || path.starts_with("R/") || path.starts_with("app/"))
}

fn bad(path: &str, why: String) -> CannotPlan {
    CannotPlan::BadManifest { path: path.to_owned(), why }
}

fn renv(text: &str, warnings: &mut Vec<String>) -> Result<RManifest, String> {
    let lock: Value = serde_json::from_str(text).map_err(|error| format!("it is not valid JSON: {error}"))?;
    let listed = lock.get("Packages").and_then(Value::as_object).ok_or("it names no `Packages`")?;
    let mut packages = BTreeMap::new();
    let mut elsewhere = Vec::new();
    for (name, package) in listed {
        let version = package.get("Version").and_then(Value::as_str);
        if !is_name(name) || version.is_some_and(|version| !is_version(version)) {
            let shown: String = name.chars().take(40).collect();
            return Err(format!("`{shown}` is no package with a version"));
        }
        let source = package.get("Source").and_then(Value::as_str).unwrap_or("Repository");
        if !["Repository", "CRAN", "Bioconductor"].contains(&source) {
            elsewhere.push(format!("{name} ({})", source.chars().take(20).collect::<String>()));
        }
        packages.insert(name.clone(), version.map(str::to_owned));
    }
    if !elsewhere.is_empty() {
        warnings.push(format!(
            "Packages come from package repositories alone; these were locked from elsewhere: {}.",
            elsewhere.join(", ")
        ));
    }
    // It is a tool of whoever writes the lock; what is installed here needs no tool.
    packages.remove("renv");
    let urls = lock.pointer("/R/Repositories").and_then(Value::as_array);
    let urls = urls.into_iter().flatten().filter_map(|repository| repository.get("URL")?.as_str());
    Ok(RManifest {
        file: Some("renv.lock".into()),
        packages,
        repositories: urls.filter(|url| is_address(url)).map(str::to_owned).collect(),
        r: lock
            .pointer("/R/Version")
            .and_then(Value::as_str)
            .filter(|version| is_version(version))
            .map(str::to_owned),
        script: None,
        files: ["renv.lock".to_owned()].into(),
    })
}

fn description(text: &str) -> RManifest {
    let fields = fields(text);
    let names = ["Depends", "Imports", "LinkingTo"].iter().filter_map(|field| fields.get(*field));
    let names =
        names.flat_map(|list| list.split(',')).map(|entry| entry.split('(').next().unwrap_or(entry).trim());
    RManifest {
        file: Some("DESCRIPTION".into()),
        packages: names.filter(|name| is_name(name)).map(|name| (name.to_owned(), None)).collect(),
        files: ["DESCRIPTION".to_owned()].into(),
        ..RManifest::default()
    }
}

/// The fields of a DESCRIPTION file; a line that begins with a space goes on with the field before.
fn fields(text: &str) -> BTreeMap<String, String> {
    let mut fields: BTreeMap<String, String> = BTreeMap::new();
    let mut last = None;
    for line in text.lines() {
        if line.starts_with([' ', '\t']) {
            if let Some(value) = last.as_ref().and_then(|name| fields.get_mut(name)) {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.insert(name.trim().to_owned(), value.trim().to_owned());
            last = Some(name.trim().to_owned());
        }
    }
    fields
}

/// The packages that R code loads, by `library(x)`, `require(x)`, `x::f` and the like.
fn loaded(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '.';
    for line in text.lines() {
        let code = line.split('#').next().unwrap_or_default();
        for call in ["library(", "require(", "requireNamespace(", "loadNamespace("] {
            for (at, _) in code.match_indices(call) {
                let rest = code[at + call.len()..].trim_start().trim_start_matches(['"', '\'']);
                names.extend(rest.split(|letter| !plain(letter)).next().map(str::to_owned));
            }
        }
        for (at, _) in code.match_indices("::") {
            names.extend(code[..at].rsplit(|letter| !plain(letter)).next().map(str::to_owned));
        }
    }
    names.retain(|name| is_name(name));
    names
}

fn is_name(name: &str) -> bool {
    (2..=80).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '.')
}

fn is_version(version: &str) -> bool {
    version.len() <= 30
        && version.starts_with(|c: char| c.is_ascii_digit())
        && version.chars().all(|c| c.is_ascii_digit() || c == '.' || c == '-')
}

fn is_address(url: &str) -> bool {
    (url.starts_with("https://") || url.starts_with("http://"))
        && url.len() < 300
        && !url.contains(char::is_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_those_that_the_code_loads() {
        let text = "library(shiny)\nrequire('DT'); ggplot2::ggplot(x) # library(nope)\nlibrary( \"data.table\" )\n1::2\nstats:::sd(x)";
        let expected = ["DT", "data.table", "ggplot2", "shiny", "stats"];
        assert_eq!(loaded(text).iter().collect::<Vec<_>>(), expected);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*|[a-z(){}:#'\"@*, \\n]{0,120}") {
            loaded(&text);
            fields(&text);
            front_matter(&text).count();
            text.lines().any(is_endpoint);
        }
    }
}
