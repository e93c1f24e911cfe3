//! Says why nothing can be run, in words for whoever owns the code: what was found, and what to do.

use std::collections::BTreeSet;

use super::code::Code;
use super::{CannotPlan, Language};

/// What is recognised, for a message.
pub(super) const LOOKED_FOR: &str = "a Python app (Streamlit, Dash, Gradio, Shiny, Panel, Bokeh, marimo, Voilà, FastAPI, \
                                     Starlette, Litestar, Flask, Django), an R app (Shiny, Plumber), a Node app (a start \
                                     script, Next.js, Express, Vite and others), index.html and a Dockerfile";

/// A language that is recognised, but not built: the file that shows it, and its name.
pub(super) fn other_language(code: &Code) -> Option<(&'static str, &'static str)> {
    [
        ("Project.toml", "Julia projects"),
        ("go.mod", "Go projects"),
        ("Cargo.toml", "Rust projects"),
        ("Gemfile", "Ruby projects"),
        ("pom.xml", "Java projects"),
        ("composer.json", "PHP projects"),
    ]
    .into_iter()
    .find(|(file, _)| code.has(file))
}

pub(super) fn unsupported((file, what): (&str, &str)) -> CannotPlan {
    CannotPlan::NothingToRun {
        found: format!("there is {file}, but {what} are not built here yet"),
        advice: "Use a launcher with a container image.".into(),
    }
}

pub(super) fn no_site(code: &Code) -> CannotPlan {
    CannotPlan::NothingToRun {
        found: summary(code),
        advice:
            "A static site has an index.html, in the root or in one of the directories that site generators \
                 write to; set the directory of the app if it is elsewhere"
                .into(),
    }
}

pub(super) fn no_dockerfile(code: &Code) -> CannotPlan {
    CannotPlan::NothingToRun {
        found: summary(code),
        advice: "There is no Dockerfile: set the directory that has one as the directory of the app".into(),
    }
}

pub(super) fn to_run(code: &Code, languages: &[Language]) -> CannotPlan {
    if languages.is_empty()
        && let Some(other) = other_language(code)
    {
        return unsupported(other);
    }
    let generators = [
        ("_quarto.yml", "quarto render", "_site"),
        ("mkdocs.yml", "mkdocs build", "site"),
        ("_config.yml", "jekyll build", "_site"),
    ];
    if let Some((file, command, dir)) = generators.into_iter().find(|(file, ..)| code.has(file)) {
        return CannotPlan::NothingToRun {
            found: format!("there is {file}, but not what is made from it"),
            advice: format!("Run `{command}` and commit the result, the directory {dir}"),
        };
    }
    let elsewhere = code.paths.iter().find_map(|path| {
        let (dir, name) = path.rsplit_once('/')?;
        let telling = [
            "Procfile",
            "requirements.txt",
            "pyproject.toml",
            "app.py",
            "index.html",
            "package.json",
            "app.R",
            "renv.lock",
        ];
        telling.contains(&name).then_some(dir)
    });
    let example = match languages {
        [Language::Node] => "web: node server.js",
        [Language::R] => "web: Rscript app.R",
        _ => "web: python app.py --port $PORT",
    };
    let advice = match elsewhere {
        Some(dir) => format!(
            "`{dir}` looks like an app: set it as the directory of the app. Or add a file named Procfile with the \
             command, for example `{example}`"
        ),
        None => format!(
            "Add a file named Procfile with the command, for example `{example}`, or give the launcher a command"
        ),
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
