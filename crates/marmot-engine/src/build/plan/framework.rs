//! Recognises web frameworks by what the app's file imports and makes, and knows how each is told where to listen.

use super::manifest::{Kind, Manifest};
use super::python_source::Source;
use super::{CannotPlan, Code, Proposal, Start, quoted};

/// The names that apps' files have, likeliest first.
const LIKELY: [&str; 18] = [
    "streamlit_app.py",
    "app.py",
    "main.py",
    "dashboard.py",
    "server.py",
    "api.py",
    "Home.py",
    "home.py",
    "index.py",
    "application.py",
    "run.py",
    "wsgi.py",
    "asgi.py",
    "serve.py",
    "demo.py",
    "webapp.py",
    "web.py",
    "__init__.py",
];

/// The directories in which apps' files are, likeliest first.
const DIRECTORIES: [&str; 6] = ["app", "src", "api", "backend", "server", "dashboard"];

/// Finds the app among the files, and how it is started.
pub(super) fn detect(code: &Code, manifest: &Manifest) -> Result<Option<Proposal>, CannotPlan> {
    if let Some(found) = django(code, manifest) {
        return Ok(Some(found));
    }
    let roots = LIKELY.iter().map(|name| (*name).to_owned());
    let nested = DIRECTORIES.iter().flat_map(|dir| LIKELY.iter().map(move |name| format!("{dir}/{name}")));
    for path in roots.filter(|path| path != "__init__.py").chain(nested) {
        if let Some(found) =
            code.text(&path).and_then(|text| App { path: &path, text, code, manifest }.found())
        {
            return Ok(Some(found));
        }
    }
    let others = code.texts.iter().filter(|(path, _)| path.ends_with(".py") && !path.contains('/'));
    let others = others.filter_map(|(path, text)| Some((path, App { path, text, code, manifest }.found()?)));
    let mut others: Vec<_> = others.filter(|(path, _)| !is_aside(path)).collect();
    match others.len() {
        0 => Ok(voila(code, manifest)),
        1 => Ok(others.pop().map(|(_, found)| found)),
        _ => Err(CannotPlan::SeveralApps {
            example: others[0].1.line().to_owned(),
            files: others.into_iter().map(|(path, _)| path.clone()).collect(),
        }),
    }
}

/// Files that use a framework without being the app.
fn is_aside(path: &str) -> bool {
    path.starts_with("test_") || path.ends_with("_test.py") || path == "conftest.py" || path == "setup.py"
}

/// A file that may be the app.
struct App<'a> {
    path: &'a str,
    text: &'a str,
    code: &'a Code,
    manifest: &'a Manifest,
}

impl App<'_> {
    fn found(&self) -> Option<Proposal> {
        let source = Source::parse(self.text);
        self.by_command(&source)
            .or_else(|| self.asgi(&source))
            .or_else(|| self.dash(&source))
            .or_else(|| self.flask(&source))
            .or_else(|| self.gradio(&source))
    }

    /// Frameworks that have a command which serves a file.
    fn by_command(&self, source: &Source) -> Option<Proposal> {
        let path = quoted(self.path);
        let (name, package, line) = if source.imports("marimo") && source.instance_of("App").is_some() {
            ("marimo", "marimo", format!("marimo run {path} --host 0.0.0.0 --port $PORT --headless"))
        } else if source.imports("streamlit") {
            let flags = "--server.address 0.0.0.0 --server.headless true --browser.gatherUsageStats false";
            ("Streamlit", "streamlit", format!("streamlit run {path} --server.port $PORT {flags}"))
        } else if source.imports("shiny")
            && (source.instance_of("App").is_some() || source.imports("shiny.express"))
        {
            ("Shiny", "shiny", format!("shiny run {path} --host 0.0.0.0 --port $PORT"))
        } else if source.imports("panel") && (source.mentions(".servable(") || source.mentions(".template")) {
            ("Panel", "panel", format!("panel serve {path} {BOKEH_FLAGS}"))
        } else if source.imports("bokeh") && source.mentions("curdoc(") {
            ("Bokeh", "bokeh", format!("bokeh serve {path} {BOKEH_FLAGS}"))
        } else {
            return None;
        };
        Some(self.serves(name, package, line))
    }

    fn asgi(&self, source: &Source) -> Option<Proposal> {
        let (name, package) = [
            ("FastAPI", "fastapi"),
            ("Starlette", "starlette"),
            ("Litestar", "litestar"),
            ("Quart", "quart"),
        ]
        .into_iter()
        .find(|(_, package)| source.imports(package))?;
        let (target, factory) = match source.instance_of(name) {
            Some(app) => (app.to_owned(), ""),
            None => (self.factory(source)?, " --factory"),
        };
        let (dir, module) = self.module(source);
        let dir = dir.map(|dir| format!("--app-dir {} ", quoted(dir))).unwrap_or_default();
        // Visitors reach the app through the gateway alone, so what it says about them is to be believed.
        let line = format!(
            "uvicorn {dir}{module}:{target}{factory} --host 0.0.0.0 --port $PORT --proxy-headers --forwarded-allow-ips '*'"
        );
        let mut found = self.serves(name, package, line);
        found.set_needs("uvicorn");
        let brings = |package: &str| self.manifest.packages.contains(package);
        // `fastapi[standard]` brings it too, but from requirements alone that cannot be told; one more mention of a
        // package that comes anyway changes nothing. A lock is complete, and is not added to.
        if !brings("uvicorn") && self.manifest.kind != Kind::UvLock {
            found.extra.push("uvicorn".into());
        }
        Some(found)
    }

    fn dash(&self, source: &Source) -> Option<Proposal> {
        if !source.imports("dash") {
            return None;
        }
        let app = source.instance_of("Dash").or_else(|| source.instance_of("DashProxy"))?;
        let server = source.made.iter().find(|(name, _)| name == "server").is_some() || {
            source.mentions(&format!("\nserver = {app}.server"))
        };
        let (dir, module) = self.module(source);
        let line = if server && self.has("gunicorn") {
            gunicorn(dir, &module, "server")
        } else {
            let dir = dir.map(|dir| format!("cd {} && ", quoted(dir))).unwrap_or_default();
            format!(
                "{dir}python -c 'import os; from {module} import {app}; {app}.run(host=\"0.0.0.0\", \
                 port=int(os.environ[\"PORT\"]), debug=False)'"
            )
        };
        let mut found = self.serves("Dash", "dash", line);
        found.set_needs(if found.line().starts_with("gunicorn") { "gunicorn" } else { "" });
        Some(found)
    }

    fn flask(&self, source: &Source) -> Option<Proposal> {
        if !source.imports("flask") {
            return None;
        }
        let target = match source.instance_of("Flask") {
            Some(app) => app.to_owned(),
            None => format!("{}()", self.factory(source)?),
        };
        let (dir, module) = self.module(source);
        let (line, needs) = if self.has("gunicorn") {
            (gunicorn(dir, &module, &target), "gunicorn")
        } else {
            let place = dir.map(|dir| format!("{dir}/")).unwrap_or_default();
            let module = if dir.is_some() { format!("{place}{module}.py") } else { module };
            (
                format!(
                    "flask --app {} run --host 0.0.0.0 --port $PORT",
                    quoted(&format!("{module}:{target}"))
                ),
                "flask",
            )
        };
        let mut found = self.serves("Flask", "flask", line);
        found.set_needs(needs);
        Some(found)
    }

    fn gradio(&self, source: &Source) -> Option<Proposal> {
        if !source.imports("gradio") || !source.mentions(".launch(") {
            return None;
        }
        let line =
            format!("GRADIO_SERVER_NAME=0.0.0.0 GRADIO_SERVER_PORT=$PORT python {}", quoted(self.path));
        let mut found = self.serves("Gradio", "gradio", line);
        found.set_needs("");
        if let Some(port) = source.fixed_port() {
            found.warnings.push(format!(
                "{} asks for port {port} itself: take `server_port` out of `launch()`, so that it listens on $PORT.",
                self.path
            ));
        }
        Some(found)
    }

    /// A function that makes the app, by the name that frameworks look for.
    fn factory(&self, source: &Source) -> Option<String> {
        ["create_app", "make_app", "get_app"]
            .into_iter()
            .find(|name| source.functions.contains(*name))
            .map(str::to_owned)
    }

    fn has(&self, package: &str) -> bool {
        self.manifest.packages.contains(package)
    }

    /// The module's name, and the directory to start in where it is not imported from the root.
    fn module(&self, source: &Source) -> (Option<&str>, String) {
        let stem = self.path.trim_end_matches(".py");
        match stem.rsplit_once('/') {
            None => (None, stem.to_owned()),
            Some((dir, "__init__")) => (None, dir.replace('/', ".")),
            Some((dir, _)) if source.imports(".") || source.imports(dir) => (None, stem.replace('/', ".")),
            Some((dir, name)) => (Some(dir), name.to_owned()),
        }
    }

    /// What to do where no file names packages: often one does that lies beside the app, where it is not looked for.
    fn without_packages(&self, package: &str) -> String {
        let files = ["requirements.txt", "pyproject.toml", "Pipfile", "environment.yml", "setup.py"];
        let dir = self.path.rsplit_once('/').map(|(dir, _)| dir);
        let beside = dir.and_then(|dir| {
            let file = files.iter().map(|file| format!("{dir}/{file}")).find(|file| self.code.has(file))?;
            Some((dir, file))
        });
        let path = self.path;
        match beside {
            Some((dir, file)) => format!(
                "{path} imports {package}, and no file names packages but {file}: say that `{dir}` is the directory of the app."
            ),
            None => {
                format!("{path} imports {package}, and no file names packages: name it in requirements.txt.")
            }
        }
    }

    fn serves(&self, name: &str, package: &str, line: String) -> Proposal {
        let mut warnings = Vec::new();
        if self.manifest.kind == Kind::Nothing {
            warnings.push(self.without_packages(package));
        } else if !self.has(package) {
            warnings.push(format!("{} imports {package}, which is not named among the packages.", self.path));
        }
        let reason = format!("{} is a {name} app: it is started by `{line}`.", self.path);
        Proposal { warnings, ..started(line, package, reason) }
    }
}

impl Proposal {
    /// The program or Python module that the command needs, if any.
    fn set_needs(&mut self, program: &str) {
        if let Start::Line { needs, .. } = &mut self.start {
            *needs = (!program.is_empty()).then(|| program.to_owned());
        }
    }

    fn line(&self) -> &str {
        match &self.start {
            Start::Line { line, .. } => line,
            _ => "",
        }
    }
}

/// An app that is started by this line, which needs this program.
fn started(line: String, needs: &str, reason: String) -> Proposal {
    Proposal::new(Start::Line { line, needs: Some(needs.to_owned()) }, reason)
}

/// Bokeh compares the address in the browser with one that it is told; without the scheme, that of the app.
const BOKEH_FLAGS: &str =
    "--address 0.0.0.0 --port $PORT --allow-websocket-origin \"${MARMOT_APP_URL#*://}\"";

fn gunicorn(dir: Option<&str>, module: &str, target: &str) -> String {
    let dir = dir.map(|dir| format!("--chdir {} ", quoted(dir))).unwrap_or_default();
    format!("gunicorn {dir}--bind 0.0.0.0:$PORT --threads 8 {}", quoted(&format!("{module}:{target}")))
}

fn django(code: &Code, manifest: &Manifest) -> Option<Proposal> {
    let manage = Source::parse(code.text("manage.py")?);
    if !manage.imports("django") {
        return None;
    }
    let module = code.texts.iter().find_map(|(path, text)| {
        let package = path.strip_suffix("/wsgi.py")?;
        (!package.contains('/') && text.contains("get_wsgi_application")).then(|| format!("{package}.wsgi"))
    });
    let (line, needs) = match module {
        Some(module) if manifest.packages.contains("gunicorn") => {
            (gunicorn(None, &module, "application"), "gunicorn")
        }
        _ => ("python manage.py runserver 0.0.0.0:$PORT --noreload".to_owned(), "django-admin"),
    };
    let reason = format!("manage.py is a Django project: it is started by `{line}`.");
    let warnings = vec!["Django answers only under the names in its ALLOWED_HOSTS: add the app's.".into()];
    Some(Proposal { warnings, ..started(line, needs, reason) })
}

fn voila(code: &Code, manifest: &Manifest) -> Option<Proposal> {
    if !manifest.packages.contains("voila") {
        return None;
    }
    let notebooks: Vec<_> =
        code.paths.iter().filter(|path| path.ends_with(".ipynb") && !path.contains('/')).collect();
    let likely = ["app.ipynb", "index.ipynb", "dashboard.ipynb", "main.ipynb"];
    let chosen = notebooks.iter().find(|path| likely.contains(&path.as_str()));
    let path = match (chosen, notebooks.as_slice()) {
        (Some(path), _) | (None, [path]) => path,
        _ => return None,
    };
    let line = format!("voila {} --no-browser --port=$PORT --Voila.ip=0.0.0.0", quoted(path));
    let reason = format!("{path} is shown by Voilà: it is started by `{line}`.");
    Some(started(line, "voila", reason))
}
