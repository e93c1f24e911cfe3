//! Small trees, in the shapes that are found in public repositories, and what is planned for them.

use super::*;

mod table;

type Files<'a> = &'a [(&'a str, &'a str)];

fn planned(files: Files<'_>) -> Plan {
    let code = Code::new(files.iter().copied());
    plan(&code, Builder::Auto, false).unwrap_or_else(|why| panic!("{files:?}: {why}"))
}

fn refused(files: Files<'_>) -> String {
    match plan(&Code::new(files.iter().copied()), Builder::Auto, false) {
        Ok(plan) => panic!("{files:?}: {plan:?}"),
        Err(why) => why.to_string(),
    }
}

fn line(plan: &Plan) -> &str {
    match &plan.start {
        Start::Line { line, .. } => line,
        other => panic!("{other:?}"),
    }
}

fn manifest(plan: &Plan) -> &Manifest {
    match &plan.install {
        Install::Python { manifest, .. } => manifest,
        other => panic!("{other:?}"),
    }
}

const STREAMLIT: &str = "import streamlit as st\nst.title('Hello')\n";
const STREAMLIT_FLAGS: &str =
    "--server.port $PORT --server.address 0.0.0.0 --server.headless true --browser.gatherUsageStats false";

#[test]
fn frameworks_are_recognised_and_told_where_to_listen() {
    let streamlit = format!("streamlit run app.py {STREAMLIT_FLAGS}");
    let home = format!("streamlit run Home.py {STREAMLIT_FLAGS}");
    let odd = format!("streamlit run 'my app.py' {STREAMLIT_FLAGS}");
    let nested = format!("streamlit run src/app.py {STREAMLIT_FLAGS}");
    let uvicorn = |target: &str| {
        format!("uvicorn {target} --host 0.0.0.0 --port $PORT --proxy-headers --forwarded-allow-ips '*'")
    };
    let dash = "import dash\nfrom dash import html\napp = dash.Dash(__name__)\nserver = app.server\n";
    let flask = "from flask import Flask\napp = Flask(__name__)\n";
    let django = "import os\nfrom django.core.management import execute_from_command_line\n";
    let wsgi = "from django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()\n";
    let trees: &[(Files<'_>, &str)] = &[
        (&[("app.py", STREAMLIT), ("requirements.txt", "streamlit")], &streamlit),
        (&[("Home.py", STREAMLIT), ("pages/1_More.py", STREAMLIT), ("requirements.txt", "streamlit")], &home),
        (&[("my app.py", STREAMLIT), ("helper.py", "import os"), ("requirements.txt", "streamlit")], &odd),
        (&[("src/app.py", STREAMLIT), ("setup.py", ""), ("requirements.txt", "streamlit")], &nested),
        (
            &[
                ("app.py", "from shiny import App, ui\napp = App(ui.page_fluid(), None)\n"),
                ("requirements.txt", "shiny"),
            ],
            "shiny run app.py --host 0.0.0.0 --port $PORT",
        ),
        (
            &[("app.py", "from shiny.express import input, ui\n"), ("requirements.txt", "shiny")],
            "shiny run app.py --host 0.0.0.0 --port $PORT",
        ),
        (
            &[("app.py", "import panel as pn\npn.Row('x').servable()\n"), ("requirements.txt", "panel")],
            "panel serve app.py --address 0.0.0.0 --port $PORT --allow-websocket-origin \"${MARMOT_APP_URL#*://}\"",
        ),
        (
            &[
                ("main.py", "from bokeh.io import curdoc\ncurdoc().add_root(x)\n"),
                ("requirements.txt", "bokeh"),
            ],
            "bokeh serve main.py --address 0.0.0.0 --port $PORT --allow-websocket-origin \"${MARMOT_APP_URL#*://}\"",
        ),
        (
            &[("nb.py", "import marimo\napp = marimo.App()\n"), ("requirements.txt", "marimo")],
            "marimo run nb.py --host 0.0.0.0 --port $PORT --headless",
        ),
        (
            &[("report.ipynb", "{}"), ("requirements.txt", "voila\nipykernel")],
            "voila report.ipynb --no-browser --port=$PORT --Voila.ip=0.0.0.0",
        ),
        (
            &[
                ("main.py", "from fastapi import FastAPI\napi = FastAPI(title='x')\n"),
                ("requirements.txt", "fastapi\nuvicorn"),
            ],
            &uvicorn("main:api"),
        ),
        (
            &[
                ("app/__init__.py", ""),
                ("app/main.py", "from fastapi import FastAPI\nfrom .x import y\napp = FastAPI()\n"),
                ("requirements.txt", "fastapi"),
            ],
            &uvicorn("app.main:app"),
        ),
        (
            &[
                ("src/main.py", "import model\nfrom fastapi import FastAPI\napp: FastAPI = FastAPI()\n"),
                ("src/model.py", ""),
                ("requirements.txt", "fastapi"),
            ],
            &uvicorn("--app-dir src main:app"),
        ),
        (
            &[
                ("main.py", "from fastapi import FastAPI\ndef create_app():\n    return FastAPI()\n"),
                ("requirements.txt", "fastapi"),
            ],
            &uvicorn("main:create_app --factory"),
        ),
        (
            &[
                ("app.py", "from starlette.applications import Starlette\napp = Starlette()\n"),
                ("requirements.txt", "starlette"),
            ],
            &uvicorn("app:app"),
        ),
        (
            &[
                ("app.py", "from litestar import Litestar\napp = Litestar([])\n"),
                ("requirements.txt", "litestar"),
            ],
            &uvicorn("app:app"),
        ),
        (
            &[
                (
                    "app.py",
                    "import gradio as gr\nfrom fastapi import FastAPI\napp = FastAPI()\napp = gr.mount_gradio_app(app, x)\n",
                ),
                ("requirements.txt", "gradio\nuvicorn"),
            ],
            &uvicorn("app:app"),
        ),
        (
            &[("app.py", dash), ("requirements.txt", "dash\ngunicorn")],
            "gunicorn --bind 0.0.0.0:$PORT --threads 8 app:server",
        ),
        (
            &[("app.py", dash), ("requirements.txt", "dash")],
            "python -c 'import os; from app import app; app.run(host=\"0.0.0.0\", port=int(os.environ[\"PORT\"]), debug=False)'",
        ),
        (
            &[("app.py", flask), ("requirements.txt", "Flask")],
            "flask --app app:app run --host 0.0.0.0 --port $PORT",
        ),
        (
            &[("wsgi.py", flask), ("requirements.txt", "flask\ngunicorn>=20")],
            "gunicorn --bind 0.0.0.0:$PORT --threads 8 wsgi:app",
        ),
        (
            &[
                ("app/__init__.py", "from flask import Flask\ndef create_app():\n    return Flask('x')\n"),
                ("requirements.txt", "flask"),
            ],
            "flask --app 'app:create_app()' run --host 0.0.0.0 --port $PORT",
        ),
        (
            &[
                ("app.py", "import gradio as gr\ndemo = gr.Interface(f, 'text', 'text')\ndemo.launch()\n"),
                ("requirements.txt", "gradio"),
            ],
            "GRADIO_SERVER_NAME=0.0.0.0 GRADIO_SERVER_PORT=$PORT python app.py",
        ),
        (
            &[("manage.py", django), ("site1/wsgi.py", wsgi), ("requirements.txt", "django\ngunicorn")],
            "gunicorn --bind 0.0.0.0:$PORT --threads 8 site1.wsgi:application",
        ),
        (
            &[("manage.py", django), ("site1/wsgi.py", wsgi), ("requirements.txt", "django")],
            "python manage.py runserver 0.0.0.0:$PORT --noreload",
        ),
    ];
    for (files, expected) in trees {
        assert_eq!(line(&planned(files)), *expected, "{files:?}");
    }
}

#[test]
fn what_is_not_code_is_not_taken_for_an_app() {
    let quoted = "'''\nimport streamlit\n'''\n# import streamlit\nprint('import flask')\n";
    for files in [
        &[("app.py", quoted), ("requirements.txt", "streamlit")][..],
        &[("test_app.py", STREAMLIT), ("requirements.txt", "streamlit")],
        &[("app.py", "import flask\n"), ("requirements.txt", "flask")],
        &[("lib/deep/er/app.py", STREAMLIT)],
        &[("notebook.ipynb", "{}"), ("requirements.txt", "pandas")],
        &[("README.md", "streamlit run app.py")],
        &[],
    ] {
        let why = refused(files);
        assert!(why.starts_with("nothing to run here") && why.contains("Procfile"), "{files:?}: {why}");
    }
}

#[test]
fn several_possible_apps_are_named() {
    let why = refused(&[("one.py", STREAMLIT), ("two.py", STREAMLIT), ("requirements.txt", "streamlit")]);
    assert!(why.contains("one.py, two.py") && why.contains("`web: streamlit run one.py"), "{why}");
    // A name that apps have decides.
    let plan = planned(&[("one.py", STREAMLIT), ("app.py", STREAMLIT), ("requirements.txt", "streamlit")]);
    assert!(line(&plan).contains("app.py"));
}

#[test]
fn a_procfile_beats_what_is_detected_and_a_launcher_beats_both() {
    let files =
        [("app.py", STREAMLIT), ("requirements.txt", "streamlit"), ("Procfile", "web: ./serve $PORT\r\n")];
    assert_eq!(line(&planned(&files)), "./serve $PORT");
    let plan = plan(&Code::new(files), Builder::Auto, true).unwrap();
    assert_eq!(plan.start, Start::LaunchersCommand);
    assert!(matches!(plan.install, Install::Python { .. }));
}

#[test]
fn procfiles_are_read_as_data() {
    let with = |text: &str| planned(&[("Procfile", text)]);
    for (text, expected) in [
        ("web: a $PORT", "a $PORT"),
        ("# comment\n\n  web :  a --b='c: d' \n", "a --b='c: d'"),
        ("\u{feff}web: a\n", "a"),
        ("worker: b\nweb: a; rm -rf / && $(x) | `y`\n", "a; rm -rf / && $(x) | `y`"),
    ] {
        assert_eq!(line(&with(text)), expected);
    }
    let several = with("web: a $PORT\nworker: b\nclock: c\nrelease: d --now");
    assert!(several.warnings[0].contains("only `web` is served; ignored: `worker`, `clock`"));
    assert_eq!(several.release.as_deref(), Some("d --now"));
    assert!(with("web: a --port 80").warnings[0].contains("$PORT"));
    let long = format!("web: {}", "x".repeat(10_000));
    for (text, expected) in [
        ("", "no `web` line"),
        ("worker: b", "no `web` line"),
        ("web: a\nweb: b", "two `web` lines"),
        ("web: a\nrelease: b\nrelease: c", "two `release` lines"),
        ("web:", "no command"),
        ("just text", "line 1"),
        ("web: a\n!!: x", "line 2"),
        ("web: a\0b", "control characters"),
        ("web: a\x1b[31m", "control characters"),
        ("web: a\rb", "control characters"),
        (&long, "longer than"),
    ] {
        let why = refused(&[("Procfile", text), ("index.html", "")]);
        assert!(why.contains(expected), "{text:?}: {why}");
        assert!(!why.chars().any(char::is_control), "{why:?}");
    }
}

#[test]
fn static_sites_are_in_the_root_or_where_generators_write_them() {
    for (files, expected) in [
        (&[("index.html", ""), ("style.css", "")][..], ""),
        (&[("_site/index.html", ""), ("_quarto.yml", "")], "_site"),
        (&[("site/index.html", ""), ("mkdocs.yml", "")], "site"),
        (&[("docs/index.html", ""), ("README.md", "")], "docs"),
        (&[("dist/index.html", ""), ("package.json", "{}")], "dist"),
        (&[("index.html", ""), ("make.py", "print()"), ("requirements.txt", "jinja2")], ""),
    ] {
        let plan = planned(files);
        assert_eq!(plan.start, Start::StaticSite(expected.into()));
        assert_eq!(plan.install, Install::Nothing);
    }
    let app = [("index.html", ""), ("app.py", STREAMLIT), ("requirements.txt", "streamlit")];
    assert!(line(&planned(&app)).starts_with("streamlit"));
    // Who asks for a static site gets one.
    let static_plan = plan(&Code::new(app), Builder::Static, false).unwrap();
    assert_eq!(static_plan.start, Start::StaticSite(String::new()));
    let why = plan(&Code::new([("app.py", STREAMLIT)]), Builder::Static, false).unwrap_err().to_string();
    assert!(why.contains("index.html"), "{why}");
    plan(&Code::new([("index.html", "")]), Builder::Python, false).unwrap_err();
}

#[test]
fn manifests_are_chosen_by_how_much_they_say() {
    let pyproject = "[project]\nname = 'x'\nversion = '1'\nrequires-python = '>=3.10'\ndependencies = ['Streamlit>=1', 'Some_Thing[x]==1 ; python_version > \"3\"']\n";
    let lock = "version = 1\n[[package]]\nname = 'streamlit'\nversion = '1'\nsource = { registry = 'https://pypi.org/simple' }\n\
                [[package]]\nname = 'x'\nversion = '1'\nsource = { virtual = '.' }\n";
    let app = ("app.py", STREAMLIT);

    let locked = planned(&[app, ("pyproject.toml", pyproject), ("uv.lock", lock), ("requirements.txt", "x")]);
    assert_eq!(manifest(&locked).kind, Kind::UvLock);
    assert!(!manifest(&locked).local && !manifest(&locked).package);
    assert_eq!(manifest(&locked).python.required, Some((">=3.10".into(), "pyproject.toml".into())));

    let project = planned(&[app, ("pyproject.toml", pyproject), ("requirements.txt", "x")]);
    assert_eq!(manifest(&project).kind, Kind::Pyproject);
    assert!(manifest(&project).packages.contains("some-thing"));

    // A file of settings for tools is no manifest.
    let tools = planned(&[
        app,
        ("pyproject.toml", "[tool.black]\nline-length = 100\n"),
        ("requirements.txt", "streamlit"),
    ]);
    assert_eq!(manifest(&tools).kind, Kind::Requirements("requirements.txt".into()));

    let built =
        format!("{pyproject}[build-system]\nrequires = ['hatchling']\nbuild-backend = 'hatchling.build'\n");
    assert!(manifest(&planned(&[app, ("pyproject.toml", &built)])).package);
    let not_built = format!("{built}[tool.uv]\npackage = false\n");
    assert!(!manifest(&planned(&[app, ("pyproject.toml", &not_built)])).package);

    let member = lock.replace("virtual = '.'", "editable = 'libs/x'");
    assert!(manifest(&planned(&[app, ("pyproject.toml", pyproject), ("uv.lock", &member)])).local);

    let pipfile = planned(&[
        app,
        ("Pipfile", "[packages]\nstreamlit = '*'\npandas = {version = '>=2', extras = ['excel']}\n"),
    ]);
    let converted = vec!["pandas[excel]>=2".to_owned(), "streamlit".to_owned()];
    assert_eq!(manifest(&pipfile).kind, Kind::Converted("Pipfile".into(), converted));
    let pipfile_lock = planned(&[
        app,
        (
            "Pipfile.lock",
            r#"{"default": {"streamlit": {"version": "==1.2", "markers": "os_name == 'posix'"}}}"#,
        ),
    ]);
    let converted = vec!["streamlit==1.2 ; os_name == 'posix'".to_owned()];
    assert_eq!(manifest(&pipfile_lock).kind, Kind::Converted("Pipfile.lock".into(), converted));
}

#[test]
fn requirements_may_name_each_other_and_the_code_but_nothing_outside() {
    let app = ("app.py", STREAMLIT);
    let plan = planned(&[
        app,
        (
            "requirements.txt",
            "-r requirements/base.txt\n-c constraints.txt\n--extra-index-url https://x.example/simple\n# -r none.txt\nFlask[async] >= 2 ; python_version > '3' # why\n",
        ),
        ("requirements/base.txt", "streamlit==1.0 \\\n  --hash=sha256:aa\n-r ../more.txt"),
        ("more.txt", "git+https://github.com/a/b\nname @ https://host.example/x.whl\n"),
        ("constraints.txt", "numpy<2"),
    ]);
    let found = manifest(&plan);
    assert_eq!(found.files.len(), 4);
    assert!(!found.local);
    assert!(found.packages.contains("flask") && found.packages.contains("streamlit"), "{found:?}");
    for local in ["-e .", ".", "./libs/x", "--editable=./x[extra]", "-e libs/y"] {
        assert!(manifest(&planned(&[app, ("requirements.txt", local)])).local, "{local}");
    }
    for outside in [
        "-r /etc/passwd",
        "-r ../secret.txt",
        "-c a/../../x",
        "--requirement=/etc/passwd",
        "-rfile:///etc/passwd",
        "-e /srv/x",
        "-e ../x",
        "../x",
        "/srv/x.whl",
        "x @ file:///srv/x.whl",
        "file:///srv/x.whl",
        "--find-links /srv",
        "--find-links=/srv",
        "-e file:///x",
        "--index-url file:///srv",
        "git+file:///srv/x",
        "-r $HOME/x",
        "x @ /srv/x.whl",
        "-r missing.txt",
        "\0",
    ] {
        let why = refused(&[app, ("requirements.txt", outside)]);
        assert!(why.contains(".txt"), "{outside}: {why}");
    }
    // Files that name each other end somewhere.
    planned(&[app, ("requirements.txt", "-r other.txt"), ("other.txt", "-r requirements.txt\nstreamlit")]);
}

#[test]
fn projects_name_nothing_outside() {
    for project in [
        "[project]\nname='x'\n[tool.uv.sources]\ny = { path = '/srv/y' }",
        "[project]\nname='x'\n[tool.uv.sources]\ny = { path = '../y' }",
        "[project]\nname='x'\n[tool.uv.sources]\ny = [{ path = '../../y' }]",
        "[project]\nname='x'\n[tool.uv.sources]\ny = { git = 'file:///srv/y' }",
    ] {
        let why = refused(&[("app.py", STREAMLIT), ("pyproject.toml", project)]);
        assert!(why.contains("not in the app's directory"), "{project}: {why}");
    }
    for wish in
        ["../artefact/code/evil", "--show-version", "/usr/bin/env", ">=3.10 /bin/sh", "", "==3.11,evil"]
    {
        let project = format!("[project]\nname = 'x'\nversion = '1'\nrequires-python = '{wish}'\n");
        let why = refused(&[("app.py", STREAMLIT), ("pyproject.toml", &project)]);
        assert!(why.contains("`requires-python` is not a list of versions"), "{wish}: {why}");
    }
    let why = refused(&[("app.py", STREAMLIT), ("pyproject.toml", "[project\nname = 1")]);
    assert!(
        why.contains("pyproject.toml cannot be used: it is not valid TOML") && why.contains("line 1"),
        "{why}"
    );
}

#[test]
fn the_python_that_is_asked_for_is_read_from_where_tools_write_it() {
    let pinned = |file: &str, text: &str| {
        let plan = planned(&[("app.py", STREAMLIT), ("requirements.txt", "streamlit"), (file, text)]);
        manifest(&plan).python.pinned.clone().map(|(version, _)| version)
    };
    for (file, text, expected) in [
        (".python-version", "3.12\n", Some("3.12")),
        (".python-version", "# why\ncpython-3.11.4", Some("3.11.4")),
        ("runtime.txt", "python-3.10.x", Some("3.10")),
        (".python-version", "my-environment", None),
        (".python-version", "--help", None),
        (".python-version", "", None),
        (".python-version", "3.11;rm", None),
    ] {
        assert_eq!(pinned(file, text).as_deref(), expected, "{text:?}");
    }
}

#[test]
fn what_will_surprise_is_said_before_it_does() {
    let warnings = |files: Files<'_>| planned(files).warnings.join(" ");
    assert!(
        warnings(&[("app.py", STREAMLIT), ("requirements.txt", "pandas")])
            .contains("not named among the packages")
    );
    let gradio = "import gradio as gr\ngr.Interface().launch(server_port=7860)\n";
    assert!(warnings(&[("app.py", gradio), ("requirements.txt", "gradio")]).contains("7860"));
    assert_eq!(
        warnings(&[("app.py", STREAMLIT), ("README.md", "")]),
        "app.py imports streamlit, and no file names packages: name it in requirements.txt."
    );
    // The packages of one part of a repository are not those of the whole.
    assert_eq!(
        warnings(&[
            ("backend/app.py", STREAMLIT),
            ("backend/requirements.txt", "streamlit"),
            ("web/a.js", "")
        ]),
        "backend/app.py imports streamlit, and no file names packages but backend/requirements.txt: say that `backend` is \
         the directory of the app."
    );
    let fastapi = planned(&[
        ("main.py", "from fastapi import FastAPI\napp = FastAPI()\n"),
        ("requirements.txt", "fastapi"),
    ]);
    assert!(matches!(&fastapi.install, Install::Python { extra, .. } if extra == &["uvicorn"]));
}

#[test]
fn what_cannot_be_built_is_recognised_and_refused_in_words() {
    for (files, expected) in [
        (&[("Project.toml", "")][..], "Julia projects"),
        (&[("environment.yml", "dependencies: {}")], "environment.yml cannot be used: it is not understood"),
        (
            &[("environment.yml", "dependencies: ['https://host.example/x-1-0.conda']")],
            "packages come from channels",
        ),
        (&[("environment.yml", "dependencies:\n- pip:\n  - -r ../x.txt")], "not in the app's directory"),
        (&[("environment.yml", "dependencies: [numpy]")], "nothing to run here"),
        (&[("go.mod", ""), ("main.go", "")], "Go projects"),
        (&[("package.json", "{}")], "Looked for"),
        (&[("package.json", "[]")], "it is not an object"),
        (&[("package.json", "{")], "it is not valid JSON"),
        (&[("analysis.R", "x <- 1")], "give the launcher a command"),
        (&[("renv.lock", "{}"), ("app.R", "shinyApp()")], "renv.lock cannot be used: it names no `Packages`"),
        (&[("_quarto.yml", ""), ("index.qmd", "")], "Run `quarto render` and commit the result"),
        (&[("mkdocs.yml", ""), ("docs/index.md", "")], "Run `mkdocs build`"),
        (&[("web/package.json", "{}")], "`web` looks like an app"),
        (
            &[(
                "package.json",
                r#"{"devDependencies": {"@sveltejs/kit": "2", "@sveltejs/adapter-auto": "3"}}"#,
            )],
            "@sveltejs/adapter-node",
        ),
    ] {
        let why = refused(files);
        assert!(why.contains(expected), "{why}");
    }
}

#[test]
fn files_of_any_size_and_content_are_survived() {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &[u8]| std::fs::write(root.path().join(path), text).unwrap();
    write("Procfile", &vec![b'x'; 100 << 10]);
    let paths = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let why = plan(&Code::read(root.path(), paths(&["Procfile"])), Builder::Auto, false).unwrap_err();
    assert!(why.to_string().contains("larger than 64 KiB"), "{why}");
    write("requirements.txt", b"streamlit\n\xff\xfe");
    write("app.py", b"\xff\xfeimport streamlit\nx = '\\");
    std::os::unix::fs::symlink("/dev/zero", root.path().join("uv.lock")).unwrap();
    std::os::unix::fs::symlink(".", root.path().join("runtime.txt")).unwrap();
    let code =
        Code::read(root.path(), paths(&["requirements.txt", "app.py", "runtime.txt", "uv.lock", "gone.py"]));
    // Whatever comes of it, it comes without a panic and without reading forever.
    drop(plan(&code, Builder::Auto, false));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_planning_panic(text in "\\PC*|[ -~\\n=\\[\\]'\"#:@/.\\\\-]{0,200}") {
        for file in [
            "Procfile", "requirements.txt", "pyproject.toml", "Pipfile", "Pipfile.lock", "app.py", ".python-version",
            "manage.py", "package.json", "pnpm-lock.yaml", "yarn.lock", ".nvmrc", "server.js", "angular.json", "renv.lock",
            "environment.yml", "DESCRIPTION", "app.R", "api.R", "index.Rmd", "_quarto.yml", "Dockerfile",
        ] {
            for other in [("main.py", STREAMLIT), ("package.json", r#"{"dependencies": {"@angular/core": "1", "express": "1"}}"#)] {
                drop(plan(&Code::new([other, (file, text.as_str())]), Builder::Auto, false));
            }
        }
    }
}
