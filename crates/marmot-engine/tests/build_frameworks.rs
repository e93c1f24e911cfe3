//! Apps without a Procfile, in each framework: built for real, started, and asked for a page.
//!
//! They download hundreds of megabytes, so they are run on purpose: `cargo test -p marmot-engine --test
//! build_frameworks -- --ignored`. What was downloaded is kept in `target/tmp`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "build/support.rs"]
mod support;

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::{Built, Place};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// An app under way, which ends with its guard.
struct Running {
    child: Child,
    port: u16,
}

impl Drop for Running {
    fn drop(&mut self) {
        let group = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = self.child.wait();
    }
}

fn start(built: &Built) -> Running {
    use std::os::unix::process::CommandExt as _;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let run = built.run_file();
    let command = run.command.unwrap();
    let mut path = std::env::join_paths(&run.path_prepend).unwrap();
    path.push(":/usr/bin:/bin");
    let log = fs::File::create(built.dir.join("app.log")).unwrap();
    let child = Command::new(&command[0])
        .args(&command[1..])
        .current_dir(built.dir.join("artefact/code"))
        .env_clear()
        .envs(&run.env)
        .env("PATH", path)
        .env("HOME", &built.dir)
        .env("PORT", port.to_string())
        .env("MARMOT_APP_URL", format!("http://127.0.0.1:{port}"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .process_group(0)
        .spawn()
        .unwrap();
    Running { child, port }
}

async fn get(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Builds `files`, starts the result, and waits until `path` answers with `expected`.
async fn shows(files: &[(&str, &str)], path: &str, expected: &str) {
    let mut place = Place::new();
    place.context.environment = marmot_engine::build::operators_environment(std::env::vars());
    place.context.cache_dir = concat!(env!("CARGO_TARGET_TMPDIR"), "/build-cache").into();
    let repository = place.repository("app", files);
    let built = place.build(&repository).await;
    let outcome = built.outcome();
    println!("{}\n{}", outcome.summary, built.log);
    let mut app = start(&built);
    let limit = Instant::now() + Duration::from_secs(120);
    let mut last = String::new();
    while Instant::now() < limit {
        if let Ok(answer) = get(app.port, path).await {
            if answer.starts_with("HTTP/1.1 200") && answer.contains(expected) {
                return;
            }
            last = answer;
        }
        assert!(app.child.try_wait().unwrap().is_none(), "it ended:\n{}", app_log(&built));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("no page with {expected:?}: {last}\n{}", app_log(&built));
}

fn app_log(built: &Built) -> String {
    fs::read_to_string(built.dir.join("app.log")).unwrap_or_default()
}

macro_rules! frameworks {
    ($($name:ident: $files:expr, $path:expr, $expected:expr;)*) => {$(
        #[tokio::test]
        #[ignore = "downloads packages"]
        async fn $name() {
            shows(&$files, $path, $expected).await;
        }
    )*};
}

frameworks! {
    streamlit: [("requirements.txt", "streamlit"), ("app.py", "import streamlit as st\nst.title('Hello')\n")],
        "/", "<title>Streamlit</title>";
    dash: [("requirements.txt", "dash"), ("app.py", "from dash import Dash, html\napp = Dash(__name__, title='Marmots')\napp.layout = html.Div('x')\nif __name__ == '__main__':\n    app.run(debug=True)\n")],
        "/", "<title>Marmots</title>";
    dash_with_gunicorn: [("requirements.txt", "dash\ngunicorn"), ("app.py", "from dash import Dash, html\napp = Dash(__name__, title='Marmots')\nserver = app.server\napp.layout = html.Div('x')\n")],
        "/", "<title>Marmots</title>";
    gradio: [("requirements.txt", "gradio"), ("app.py", "import gradio as gr\ndemo = gr.Interface(lambda x: x, 'text', 'text', title='Marmots')\nif __name__ == '__main__':\n    demo.launch()\n")],
        "/", "Marmots";
    shiny: [("requirements.txt", "shiny"), ("app.py", "from shiny import App, ui\napp = App(ui.page_fluid(ui.h1('Marmots')), None)\n")],
        "/", "Marmots";
    shiny_express: [("requirements.txt", "shiny"), ("app.py", "from shiny.express import ui\nui.h1('Marmots')\n")],
        "/", "Marmots";
    panel: [("requirements.txt", "panel"), ("app.py", "import panel as pn\npn.Row('# Marmots').servable(title='Marmots')\n")],
        "/app", "Marmots";
    bokeh: [("requirements.txt", "bokeh"), ("main.py", "from bokeh.io import curdoc\nfrom bokeh.plotting import figure\ncurdoc().add_root(figure())\ncurdoc().title = 'Marmots'\n")],
        "/main", "Marmots";
    marimo: [("requirements.txt", "marimo"), ("nb.py", "import marimo\napp = marimo.App(app_title='Marmots')\n\n@app.cell\ndef _():\n    return\n\nif __name__ == '__main__':\n    app.run()\n")],
        "/", "marimo";
    voila: [("requirements.txt", "voila\nipykernel"), ("app.ipynb", r##"{"cells": [{"cell_type": "markdown", "metadata": {}, "source": ["# Marmots"]}], "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}, "nbformat": 4, "nbformat_minor": 4}"##)],
        "/", "Marmots";
    fastapi_without_a_server_of_its_own: [("requirements.txt", "fastapi"), ("main.py", "from fastapi import FastAPI\napp = FastAPI()\n\n@app.get('/')\ndef home():\n    return {'hello': 'Marmots'}\n")],
        "/", "Marmots";
    starlette_as_a_package: [("pyproject.toml", "[project]\nname = 'site'\nversion = '1'\ndependencies = ['starlette', 'uvicorn']\n"), ("app/__init__.py", ""), ("app/main.py", "from starlette.applications import Starlette\nfrom starlette.routing import Route\nfrom app.page import page\napp = Starlette(routes=[Route('/', page)])\n"), ("app/page.py", "from starlette.responses import PlainTextResponse\nasync def page(request):\n    return PlainTextResponse('Marmots')\n")],
        "/", "Marmots";
    litestar: [("requirements.txt", "litestar"), ("app.py", "from litestar import Litestar, get\n\n@get('/')\nasync def home() -> str:\n    return 'Marmots'\n\napp = Litestar([home])\n")],
        "/", "Marmots";
    flask: [("requirements.txt", "flask"), ("app.py", "from flask import Flask\napp = Flask(__name__)\n\n@app.get('/')\ndef home():\n    return 'Marmots'\n")],
        "/", "Marmots";
    flask_in_a_directory_with_gunicorn: [("Pipfile", "[packages]\nflask = '*'\ngunicorn = '*'\n"), ("src/app.py", "from flask import Flask\nimport words\napp = Flask(__name__)\n\n@app.get('/')\ndef home():\n    return words.HELLO\n"), ("src/words.py", "HELLO = 'Marmots'\n")],
        "/", "Marmots";
    flask_in_a_directory: [("requirements.txt", "flask"), ("src/app.py", "from flask import Flask\nimport words\napp = Flask(__name__)\n\n@app.get('/')\ndef home():\n    return words.HELLO\n"), ("src/words.py", "HELLO = 'Marmots'\n")],
        "/", "Marmots";
    django: [("requirements.txt", "django\ngunicorn"), ("manage.py", "import os, sys\nfrom django.core.management import execute_from_command_line\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site1.settings')\nexecute_from_command_line(sys.argv)\n"), ("site1/__init__.py", ""), ("site1/settings.py", "SECRET_KEY = 'x'\nALLOWED_HOSTS = ['*']\nROOT_URLCONF = 'site1.urls'\n"), ("site1/urls.py", "from django.http import HttpResponse\nfrom django.urls import path\nurlpatterns = [path('', lambda request: HttpResponse('Marmots'))]\n"), ("site1/wsgi.py", "import os\nfrom django.core.wsgi import get_wsgi_application\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site1.settings')\napplication = get_wsgi_application()\n")],
        "/", "Marmots";
}
