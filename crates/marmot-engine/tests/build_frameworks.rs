//! Apps without a Procfile, in each framework: built for real, started, and asked for a page.
//!
//! They download hundreds of megabytes, so they are run on purpose: `ALL_FRAMEWORKS=1 cargo nextest run -p marmot-engine
//! --test build_frameworks`. What was downloaded is kept in `target/tmp`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "build/running.rs"]
mod running;
#[path = "build/support.rs"]
mod support;

use running::shows;

macro_rules! frameworks {
    ($($name:ident: $files:expr, $path:expr, $expected:expr;)*) => {$(
        #[tokio::test]
        async fn $name() {
            if std::env::var_os("ALL_FRAMEWORKS").is_none() {
                println!("skipped: it downloads packages; ALL_FRAMEWORKS=1 runs it");
                return;
            }
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
