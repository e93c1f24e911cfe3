//! One small app in each framework, as people push them, and what shows that it works.

/// An app in one framework.
pub(crate) struct Framework {
    pub(crate) name: &'static str,
    pub(crate) files: &'static [(&'static str, &'static str)],
    /// The path of its page.
    pub(crate) page: &'static str,
    /// What the page has.
    pub(crate) shows: &'static str,
    pub(crate) live: Live,
}

/// What there is to an app beside its page.
pub(crate) enum Live {
    /// Nothing.
    Page,
    /// This path answers, and the answer has this.
    Answers(&'static str, &'static str),
    /// What is posted to this path is an event, and what comes of it is told below that path.
    Event { path: &'static str, body: &'static str, says: &'static str },
    /// A WebSocket. `{}` in its path or protocols is what the page has between `taken` and the next quote; when `says`
    /// is anything, the app says that without being asked.
    Socket { path: &'static str, protocols: &'static str, taken: &'static str, says: &'static str },
}

const EXPRESS: &str = "const express = require('express')\nconst app = express()\napp.get('/', (q, a) => a.send('Marmots of ' + process.env.MARMOT_APP_NAME))\napp.listen(process.env.PORT)\n";
const FASTIFY: &str = "import Fastify from 'fastify'\nconst app = Fastify()\napp.get('/', async () => 'Marmots')\n\
    app.listen({ port: process.env.PORT, host: '0.0.0.0' })\n";

/// Those that are quickly there: tried always.
pub(crate) const FEW: &[Framework] = &[
    Framework {
        name: "express",
        files: &[("package.json", r#"{"dependencies": {"express": "^4.21.0"}}"#), ("server.js", EXPRESS)],
        page: "/",
        shows: "Marmots of express",
        live: Live::Page,
    },
    Framework {
        name: "built-site",
        files: &[
            (
                "package.json",
                r#"{"scripts": {"build": "node build.js"}, "devDependencies": {"parcel": "file:./none"}}"#,
            ),
            ("none/package.json", r#"{"name": "parcel", "version": "1.0.0"}"#),
            (
                "build.js",
                "const fs = require('fs'); fs.mkdirSync('dist'); fs.writeFileSync('dist/index.html', 'Marmots')",
            ),
        ],
        page: "/",
        shows: "Marmots",
        live: Live::Page,
    },
    Framework {
        name: "flask",
        files: &[
            ("requirements.txt", "flask\n"),
            (
                "app.py",
                "from flask import Flask\napp = Flask(__name__)\n\n@app.get('/')\ndef home():\n    return 'Marmots'\n",
            ),
        ],
        page: "/",
        shows: "Marmots",
        live: Live::Page,
    },
    Framework {
        name: "starlette",
        files: &[
            ("requirements.txt", "starlette\nwebsockets\n"),
            (
                "main.py",
                "from starlette.applications import Starlette\nfrom starlette.responses import PlainTextResponse\nfrom starlette.routing import Route, WebSocketRoute\n\nasync def home(request):\n    return PlainTextResponse('Marmots')\n\nasync def socket(socket):\n    await socket.accept()\n    await socket.send_text('Marmots')\n    await socket.receive()\n\napp = Starlette(routes=[Route('/', home), WebSocketRoute('/socket', socket)])\n",
            ),
        ],
        page: "/",
        shows: "Marmots",
        live: Live::Socket { path: "/socket", protocols: "", taken: "", says: "Marmots" },
    },
];

/// Those that need R, with shiny and plumber.
pub(crate) const R: &[Framework] = &[
    Framework {
        name: "shiny-r",
        files: &[
            ("app.R", "library(shiny)\nshinyApp(fluidPage(h1('Marmots')), function(input, output) {})\n"),
            (".Rprofile", "source('renv/activate.R')\n"),
            ("renv/activate.R", ""),
        ],
        page: "/",
        shows: "<h1>Marmots</h1>",
        live: Live::Socket { path: "/websocket/", protocols: "", taken: "", says: "sessionId" },
    },
    Framework {
        name: "plumber",
        files: &[("plumber.R", "#* @get /\n#* @serializer text\nfunction() 'Marmots'\n")],
        page: "/",
        shows: "Marmots",
        live: Live::Answers("/openapi.json", "\"paths\""),
    },
];

/// Those that download hundreds of megabytes, or another package manager: tried on purpose.
pub(crate) const LARGE: &[Framework] = &[
    Framework {
        name: "streamlit",
        files: &[
            ("requirements.txt", "streamlit"),
            ("app.py", "import streamlit as st\nst.title('Hello')\n"),
        ],
        page: "/",
        shows: "<title>Streamlit</title>",
        live: Live::Socket { path: "/_stcore/stream", protocols: "", taken: "", says: "" },
    },
    Framework {
        name: "dash",
        files: &[
            ("requirements.txt", "dash"),
            (
                "app.py",
                "from dash import Dash, html\napp = Dash(__name__, title='Marmots')\napp.layout = html.Div('x')\nif __name__ == '__main__':\n    app.run(debug=True)\n",
            ),
        ],
        page: "/",
        shows: "<title>Marmots</title>",
        live: Live::Answers("/_dash-layout", "\"namespace\":\"dash_html_components\""),
    },
    Framework {
        name: "dash-with-gunicorn",
        files: &[
            ("requirements.txt", "dash\ngunicorn"),
            (
                "app.py",
                "from dash import Dash, html\napp = Dash(__name__, title='Marmots')\nserver = app.server\napp.layout = html.Div('x')\n",
            ),
        ],
        page: "/",
        shows: "<title>Marmots</title>",
        live: Live::Answers("/_dash-layout", "\"namespace\":\"dash_html_components\""),
    },
    Framework {
        name: "gradio",
        files: &[
            ("requirements.txt", "gradio"),
            (
                "app.py",
                "import gradio as gr\ndemo = gr.Interface(lambda x: x, 'text', 'text', title='Marmots', api_name='predict')\nif __name__ == '__main__':\n    demo.launch()\n",
            ),
        ],
        page: "/",
        shows: "Marmots",
        live: Live::Event {
            path: "/gradio_api/call/predict",
            body: r#"{"data": ["Marmots"]}"#,
            says: "Marmots",
        },
    },
    Framework {
        name: "shiny",
        files: &[
            ("requirements.txt", "shiny"),
            ("app.py", "from shiny import App, ui\napp = App(ui.page_fluid(ui.h1('Marmots')), None)\n"),
        ],
        page: "/",
        shows: "Marmots",
        live: Live::Socket { path: "/websocket/", protocols: "", taken: "", says: "sessionId" },
    },
    Framework {
        name: "shiny-express",
        files: &[
            ("requirements.txt", "shiny"),
            ("app.py", "from shiny.express import ui\nui.h1('Marmots')\n"),
        ],
        page: "/",
        shows: "Marmots",
        live: Live::Socket { path: "/websocket/", protocols: "", taken: "", says: "sessionId" },
    },
    Framework {
        name: "panel",
        files: &[
            ("requirements.txt", "panel"),
            ("app.py", "import panel as pn\npn.Row('# Marmots').servable(title='Marmots')\n"),
        ],
        page: "/app",
        shows: "Marmots",
        live: Live::Socket { path: "/app/ws", protocols: "bokeh, {}", taken: "\"token\":\"", says: "ACK" },
    },
    Framework {
        name: "bokeh",
        files: &[
            ("requirements.txt", "bokeh"),
            (
                "main.py",
                "from bokeh.io import curdoc\nfrom bokeh.plotting import figure\ncurdoc().add_root(figure())\ncurdoc().title = 'Marmots'\n",
            ),
        ],
        page: "/main",
        shows: "Marmots",
        live: Live::Socket { path: "/main/ws", protocols: "bokeh, {}", taken: "\"token\":\"", says: "ACK" },
    },
    Framework {
        name: "marimo",
        files: &[
            ("requirements.txt", "marimo"),
            (
                "nb.py",
                "import marimo\napp = marimo.App(app_title='Marmots')\n\n@app.cell\ndef _():\n    return\n\nif __name__ == '__main__':\n    app.run()\n",
            ),
        ],
        page: "/",
        shows: "marimo",
        live: Live::Socket { path: "/ws?session_id=s1", protocols: "", taken: "", says: "kernel-ready" },
    },
    Framework {
        name: "voila",
        files: &[
            ("requirements.txt", "voila\nipykernel"),
            (
                "app.ipynb",
                r##"{"cells": [{"cell_type": "markdown", "metadata": {}, "source": ["# Marmots"]}], "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}, "nbformat": 4, "nbformat_minor": 4}"##,
            ),
        ],
        page: "/",
        shows: "Marmots",
        live: Live::Socket {
            path: "/api/kernels/{}/channels",
            protocols: "",
            taken: "\"kernelId\": \"",
            says: "",
        },
    },
    Framework {
        name: "fastapi",
        files: &[
            ("requirements.txt", "fastapi"),
            (
                "main.py",
                "from fastapi import FastAPI\napp = FastAPI()\n\n@app.get('/')\ndef home():\n    return {'hello': 'Marmots'}\n",
            ),
        ],
        page: "/",
        shows: "Marmots",
        live: Live::Answers("/openapi.json", "\"/\""),
    },
    Framework {
        name: "starlette-as-a-package",
        files: &[
            (
                "pyproject.toml",
                "[project]\nname = 'site'\nversion = '1'\ndependencies = ['starlette', 'uvicorn']\n",
            ),
            ("app/__init__.py", ""),
            (
                "app/main.py",
                "from starlette.applications import Starlette\nfrom starlette.routing import Route\nfrom app.page import page\napp = Starlette(routes=[Route('/', page)])\n",
            ),
            (
                "app/page.py",
                "from starlette.responses import PlainTextResponse\nasync def page(request):\n    return PlainTextResponse('Marmots')\n",
            ),
        ],
        page: "/",
        shows: "Marmots",
        live: Live::Page,
    },
    Framework {
        name: "litestar",
        files: &[
            ("requirements.txt", "litestar"),
            (
                "app.py",
                "from litestar import Litestar, get\n\n@get('/')\nasync def home() -> str:\n    return 'Marmots'\n\napp = Litestar([home])\n",
            ),
        ],
        page: "/",
        shows: "Marmots",
        live: Live::Page,
    },
    Framework {
        name: "flask-with-gunicorn",
        files: &[
            ("Pipfile", "[packages]\nflask = '*'\ngunicorn = '*'\n"),
            (
                "src/app.py",
                "from flask import Flask\nimport words\napp = Flask(__name__)\n\n@app.get('/')\ndef home():\n    return words.HELLO\n",
            ),
            ("src/words.py", "HELLO = 'Marmots'\n"),
        ],
        page: "/",
        shows: "Marmots",
        live: Live::Page,
    },
    Framework {
        name: "flask-in-a-directory",
        files: &[
            ("requirements.txt", "flask"),
            (
                "src/app.py",
                "from flask import Flask\nimport words\napp = Flask(__name__)\n\n@app.get('/')\ndef home():\n    return words.HELLO\n",
            ),
            ("src/words.py", "HELLO = 'Marmots'\n"),
        ],
        page: "/",
        shows: "Marmots",
        live: Live::Page,
    },
    Framework {
        name: "django",
        files: &[
            ("requirements.txt", "django\ngunicorn"),
            (
                "manage.py",
                "import os, sys\nfrom django.core.management import execute_from_command_line\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site1.settings')\nexecute_from_command_line(sys.argv)\n",
            ),
            ("site1/__init__.py", ""),
            ("site1/settings.py", "SECRET_KEY = 'x'\nALLOWED_HOSTS = ['*']\nROOT_URLCONF = 'site1.urls'\n"),
            (
                "site1/urls.py",
                "from django.http import HttpResponse\nfrom django.urls import path\nurlpatterns = [path('', lambda request: HttpResponse('Marmots'))]\n",
            ),
            (
                "site1/wsgi.py",
                "import os\nfrom django.core.wsgi import get_wsgi_application\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site1.settings')\napplication = get_wsgi_application()\n",
            ),
        ],
        page: "/",
        shows: "Marmots",
        live: Live::Page,
    },
    Framework {
        name: "fastify-by-pnpm",
        files: &[
            (
                "package.json",
                r#"{"type": "module", "packageManager": "pnpm@9.15.4", "dependencies": {"fastify": "^5.0.0"}}"#,
            ),
            ("server.js", FASTIFY),
        ],
        page: "/",
        shows: "Marmots",
        live: Live::Page,
    },
    Framework {
        name: "koa-by-the-first-yarn",
        files: &[
            ("package.json", r#"{"packageManager": "yarn@1.22.22", "dependencies": {"koa": "2"}}"#),
            (
                "index.js",
                "const Koa = require('koa')\nnew Koa().use(x => { x.body = 'Marmots' }).listen(process.env.PORT)\n",
            ),
        ],
        page: "/",
        shows: "Marmots",
        live: Live::Page,
    },
    Framework {
        name: "express-by-a-later-yarn",
        files: &[
            ("package.json", r#"{"packageManager": "yarn@4.6.0", "dependencies": {"express": "4"}}"#),
            ("server.js", EXPRESS),
        ],
        page: "/",
        shows: "Marmots",
        live: Live::Page,
    },
    Framework {
        name: "next",
        files: &[
            (
                "package.json",
                r#"{"dependencies": {"next": "15", "react": "19", "react-dom": "19"}, "scripts": {"build": "next build", "start": "next start"}}"#,
            ),
            (
                "pages/index.js",
                "export default () => <h1>Marmots</h1>\nexport const getServerSideProps = async () => ({ props: {} })\n",
            ),
        ],
        page: "/",
        shows: "Marmots",
        live: Live::Page,
    },
    Framework {
        name: "svelte-kit",
        files: &[
            (
                "package.json",
                r#"{"type": "module", "scripts": {"build": "vite build"}, "devDependencies": {"@sveltejs/kit": "2", "@sveltejs/adapter-node": "5", "@sveltejs/vite-plugin-svelte": "5", "svelte": "5", "vite": "6"}}"#,
            ),
            (
                "svelte.config.js",
                "import adapter from '@sveltejs/adapter-node'\nexport default { kit: { adapter: adapter() } }\n",
            ),
            (
                "vite.config.js",
                "import { sveltekit } from '@sveltejs/kit/vite'\nexport default { plugins: [sveltekit()] }\n",
            ),
            ("src/app.html", "<html><head>%sveltekit.head%</head><body>%sveltekit.body%</body></html>"),
            ("src/routes/+page.svelte", "<h1>Marmots</h1>\n"),
        ],
        page: "/",
        shows: "Marmots",
        live: Live::Page,
    },
    Framework {
        name: "vite",
        files: &[
            (
                "package.json",
                r#"{"type": "module", "scripts": {"build": "vite build", "start": "vite preview"}, "devDependencies": {"vite": "6"}}"#,
            ),
            ("index.html", "<script type=module src=/main.js></script>"),
            ("main.js", "console.log('Marmots')"),
        ],
        page: "/",
        shows: "/assets/",
        live: Live::Answers("/any/other/address", "/assets/"),
    },
    Framework {
        name: "socket-io",
        files: &[
            ("package.json", r#"{"dependencies": {"socket.io": "4"}}"#),
            (
                "server.js",
                "const http = require('http').createServer((q, a) => a.end('Marmots'))\nnew (require('socket.io').Server)(http)\nhttp.listen(process.env.PORT)\n",
            ),
        ],
        page: "/",
        shows: "Marmots",
        live: Live::Socket {
            path: "/socket.io/?EIO=4&transport=websocket",
            protocols: "",
            taken: "",
            says: "\"sid\"",
        },
    },
    Framework {
        name: "hono",
        files: &[
            (
                "package.json",
                r#"{"type": "module", "dependencies": {"hono": "4", "@hono/node-server": "1"}}"#,
            ),
            (
                "index.js",
                "import { serve } from '@hono/node-server'\nimport { Hono } from 'hono'\nconst app = new Hono()\napp.get('/', c => c.text('Marmots'))\nserve({ fetch: app.fetch, port: Number(process.env.PORT) })\n",
            ),
        ],
        page: "/",
        shows: "Marmots",
        live: Live::Page,
    },
    Framework {
        name: "astro",
        files: &[
            (
                "package.json",
                r#"{"type": "module", "scripts": {"build": "astro build"}, "dependencies": {"astro": "5"}}"#,
            ),
            ("src/pages/index.astro", "<h1>Marmots</h1>\n"),
        ],
        page: "/",
        shows: "<h1>Marmots</h1>",
        live: Live::Page,
    },
    Framework {
        name: "quart",
        files: &[
            ("requirements.txt", "quart"),
            (
                "app.py",
                "from quart import Quart\napp = Quart(__name__)\n\n@app.get('/')\nasync def home():\n    return 'Marmots'\n",
            ),
        ],
        page: "/",
        shows: "Marmots",
        live: Live::Page,
    },
];
