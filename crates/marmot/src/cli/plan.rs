//! `marmot build --plan PATH`: what a build would do with the code in a directory, without a server.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use marmot_engine::build::plan::{self, Code, CommandFrom, Summary};
use marmot_engine::wanted::Builder;

use super::Hinted;
use super::output::Output;
use super::render::harmless;

/// What a build would refuse anyway.
const MOST_FILES: usize = 50_000;
/// Directories that are no part of what is pushed.
const ASIDE: [&str; 6] = [".git", "node_modules", ".venv", "venv", "__pycache__", "target"];

/// Prints the plan for the code in `path`.
pub(super) fn run(path: &Path, builder: Builder, output: Output) -> anyhow::Result<()> {
    let shown = path.display();
    let kind = fs::metadata(path).with_context(|| format!("`{shown}` cannot be read"))?;
    anyhow::ensure!(kind.is_dir(), "`{shown}` is no directory");
    let mut paths = Vec::new();
    walk(path, &mut PathBuf::new(), &mut paths).with_context(|| format!("`{shown}` cannot be read"))?;
    let plan = plan::plan(&Code::read(path, paths), builder, false).map_err(|why| {
        let why = why.to_string();
        match why.split_once(". ") {
            Some((what, advice)) => Hinted::new(what, advice),
            None => Hinted::new(why, "change the file and look again"),
        }
    })?;
    let summary = plan.summary();
    output.print(&serde_json::to_value(&summary)?, |_| told(&summary))
}

/// Lists the files below `root`, as git would: links are files.
fn walk(root: &Path, below: &mut PathBuf, paths: &mut Vec<String>) -> anyhow::Result<()> {
    for entry in fs::read_dir(root.join(&below))? {
        let entry = entry?;
        let name = entry.file_name();
        below.push(&name);
        if entry.file_type()?.is_dir() {
            if !ASIDE.iter().any(|aside| name == *aside) {
                walk(root, below, paths)?;
            }
        } else if let Some(path) = below.to_str() {
            anyhow::ensure!(
                paths.len() < MOST_FILES,
                "there are more than {MOST_FILES} files, which no build takes"
            );
            paths.push(path.to_owned());
        }
        below.pop();
    }
    Ok(())
}

fn told(plan: &Summary) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| text.push_str(&format!("{name:<10} {}\n", harmless(value)));
    let language = match plan.language {
        Some("python") => "Python",
        Some("r") => "R",
        Some("node") => "Node",
        Some("static") => "none: files are served as they are",
        Some("dockerfile" | "buildpacks") => "a container image",
        _ => "none: nothing is installed",
    };
    line("language", language);
    line("packages", plan.packages.as_deref().unwrap_or("none"));
    plan.build.iter().for_each(|step| line("build", step));
    plan.release.iter().for_each(|step| line("release", step));
    match (&plan.command, plan.command_from) {
        (Some(command), CommandFrom::Procfile) => line("start", &format!("{command}   (Procfile)")),
        (Some(command), _) => line("start", command),
        (None, _) => line("start", "what the image says"),
    }
    line("port", "$PORT");
    plan.reasons.iter().for_each(|reason| line("because", reason));
    plan.warnings.iter().for_each(|warning| line("warning", warning));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_planned_as_a_commit_of_it_would_be() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            fs::create_dir_all(dir.path().join(path).parent().unwrap()).unwrap();
            fs::write(dir.path().join(path), text).unwrap();
        };
        write("package.json", r#"{"dependencies": {"express": "4"}, "scripts": {"build": "tsc"}}"#);
        write("Procfile", "web: node dist/server.js $PORT\nrelease: node migrate.js\nworker: node work.js\n");
        write("node_modules/express/index.js", "module.exports = 1");
        write("src/deep/x.js", "");
        let mut paths = Vec::new();
        walk(dir.path(), &mut PathBuf::new(), &mut paths).unwrap();
        paths.sort();
        assert_eq!(paths, ["Procfile", "package.json", "src/deep/x.js"]);
        let plan = plan::plan(&Code::read(dir.path(), paths), Builder::Auto, false).unwrap();
        insta::assert_snapshot!(told(&plan.summary()), @r"
        language   Node
        packages   package.json
        build      npm run build
        release    node migrate.js
        start      node dist/server.js $PORT   (Procfile)
        port       $PORT
        because    The packages are those that package.json names, by npm.
        because    It is built by `npm run build`.
        because    The Procfile says how it is started: `node dist/server.js $PORT`.
        because    Before a build is served, the Procfile's release is run once: `node migrate.js`.
        warning    Without a lock file, every build may get other versions: run `npm install` and commit the lock that it writes.
        warning    Of the Procfile, only `web` is served; ignored: `worker`.
        ");
    }
}
