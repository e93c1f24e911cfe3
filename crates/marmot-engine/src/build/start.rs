//! How what was built is started: turns a plan into a [`RunFile`], and checks that it can be.

use std::path::Path;

use super::contract::{BuildContext, RunFile};
use super::environment::Environment;
use super::plan::Start;

/// What was built cannot be started.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error(
        "the app needs `{0}`, which is not among the installed packages: name it in requirements.txt or pyproject.toml"
    )]
    NotInstalled(String),
    #[error(
        "the app needs the package `{0}`, which is not installed: name it in renv.lock, DESCRIPTION or install.R"
    )]
    NoPackage(String),
    #[error("`{dir}`, which is to be served, has no index.html after the build{instead}")]
    NoSite { dir: String, instead: String },
    #[error("how the app is started could not be written: {0}")]
    Write(#[from] std::io::Error),
}

/// Writes `run.json` into `artefact`.
pub(super) fn prepare(
    context: &BuildContext,
    start: &Start,
    environment: Option<&Environment>,
    artefact: &Path,
) -> Result<(), StartError> {
    let code = artefact.join("code");
    let mut run = RunFile { working_directory: "code".into(), ..RunFile::default() };
    if let Some(environment) = environment {
        run.path_prepend.clone_from(&environment.bins);
        run.env.clone_from(&environment.variables);
        run.reads.clone_from(&environment.reads);
    }
    match start {
        Start::LaunchersCommand => {}
        Start::Line { line, needs } => {
            let missing = |needs: &&String| !environment.is_some_and(|found| found.brings(&code, needs));
            if let Some(needs) = needs.as_ref().filter(missing) {
                let package = environment.is_some_and(|environment| environment.packages.is_some());
                let refusal = if package { StartError::NoPackage } else { StartError::NotInstalled };
                return Err(refusal(needs.clone()));
            }
            run.command = Some(vec!["/bin/sh".into(), "-c".into(), script(line)]);
        }
        Start::StaticSite(dir) | Start::SinglePage(dir) => {
            if !code.join(dir).join("index.html").is_file() {
                return Err(StartError::NoSite { dir: shown(dir), instead: instead(&code) });
            }
            let dir = if dir.is_empty() { "." } else { dir };
            let marmot = context.marmot.to_string_lossy().into_owned();
            let mut command = vec![marmot, "static-server".into(), dir.into()];
            if matches!(start, Start::SinglePage(_)) {
                command.push("--single-page".into());
            }
            run.command = Some(command);
            run.reads.push(context.marmot.clone());
        }
        // Whoever makes the image writes how it is run.
        Start::Image => return Ok(()),
    }
    Ok(run.write(artefact)?)
}

fn shown(dir: &str) -> String {
    if dir.is_empty() { "the root".into() } else { dir.into() }
}

/// Where there is a site instead, for a message.
fn instead(code: &Path) -> String {
    let found = ["dist", "build", "out", "public", "_site", "www"]
        .into_iter()
        .find(|dir| code.join(dir).join("index.html").is_file());
    match found {
        Some(dir) => format!(
            "; there is one in `{dir}`: give the launcher the command `marmot static-server {dir}`, or let the build write to \
             where it usually does"
        ),
        None => "; the log has what the build wrote".into(),
    }
}

/// The command as a person would type it, where the code says so.
pub(super) fn as_typed(start: &Start) -> Option<String> {
    match start {
        Start::LaunchersCommand | Start::Image => None,
        Start::Line { line, .. } => Some(line.clone()),
        Start::StaticSite(dir) if dir.is_empty() => Some("marmot static-server .".into()),
        Start::StaticSite(dir) => Some(format!("marmot static-server {dir}")),
        Start::SinglePage(dir) if dir.is_empty() => Some("marmot static-server . --single-page".into()),
        Start::SinglePage(dir) => Some(format!("marmot static-server {dir} --single-page")),
    }
}

/// The line for a shell that leaves no shell behind: one that stays would receive the app's signals in its place.
fn script(line: &str) -> String {
    let first = line.split_whitespace().next().unwrap_or_default();
    let compound =
        line.contains([';', '&', '|', '<', '>', '(', ')', '`', '\n', '{', '}']) && !only_quoted(line);
    let builtin = ["exec", "cd", "export", "source", ".", "eval", "set", "if", "for", "while", "!", "trap"];
    if compound || builtin.contains(&first) {
        return line.to_owned();
    }
    let assigns = first.split_once('=').is_some_and(|(name, _)| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    });
    if assigns { format!("exec env {line}") } else { format!("exec {line}") }
}

/// Whether what looks like several commands stands between quotes, or is a variable in braces.
fn only_quoted(line: &str) -> bool {
    let mut quote = None;
    let mut letters = line.chars().peekable();
    let mut braces = 0usize;
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (Some('\''), _) => {}
            (_, '\\') => drop(letters.next()),
            (_, '`') => return false,
            (_, '$') if letters.peek() == Some(&'(') => return false,
            (Some(_), _) => {}
            (None, '$') if letters.peek() == Some(&'{') => {
                letters.next();
                braces += 1;
            }
            (None, '}') if braces > 0 => braces -= 1,
            (None, '\'' | '"') => quote = Some(letter),
            (None, ';' | '&' | '|' | '<' | '>' | '(' | ')' | '{' | '}' | '\n') => return false,
            _ => {}
        }
    }
    quote.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simple_command_takes_the_place_of_its_shell() {
        for (line, expected) in [
            ("gunicorn app:app -b 0.0.0.0:$PORT", "exec gunicorn app:app -b 0.0.0.0:$PORT"),
            ("A=1 B=2 python app.py", "exec env A=1 B=2 python app.py"),
            ("python -m app --port ${PORT:-8000}", "exec python -m app --port ${PORT:-8000}"),
            ("python -c 'a; b(1)'", "exec python -c 'a; b(1)'"),
            ("echo \"it's ; fine\"", "exec echo \"it's ; fine\""),
            ("flask --app 'app:create_app()' run", "exec flask --app 'app:create_app()' run"),
            ("cd src && gunicorn app:app", "cd src && gunicorn app:app"),
            ("./migrate; ./serve", "./migrate; ./serve"),
            ("python app.py > log", "python app.py > log"),
            ("echo $(hostname)", "echo $(hostname)"),
            ("echo \"$(hostname)\"", "echo \"$(hostname)\""),
            ("exec ./serve", "exec ./serve"),
            ("./run --a=b", "exec ./run --a=b"),
        ] {
            assert_eq!(script(line), expected);
        }
    }
}
