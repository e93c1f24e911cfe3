//! Apps in each language and framework, as people push them: built, started, and opened through the gateway.

use crate::harness::{Api, Repository, Server};

type Files = &'static [(&'static str, &'static str)];

const EXPRESS: &str = "const express = require('express')\nconst app = express()\napp.get('/', (q, a) => a.send('Marmots of ' + process.env.MARMOT_APP_NAME))\napp.listen(process.env.PORT)\n";

/// Those that are quickly there.
const FEW: &[(&str, Files, &str)] = &[
    (
        "express",
        &[("package.json", r#"{"dependencies": {"express": "^4.21.0"}}"#), ("server.js", EXPRESS)],
        "Marmots of express",
    ),
    (
        "built-site",
        &[
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
        "Marmots",
    ),
    (
        "flask",
        &[
            ("requirements.txt", "flask\n"),
            (
                "app.py",
                "from flask import Flask\napp = Flask(__name__)\n\n@app.get('/')\ndef home():\n    return 'Marmots'\n",
            ),
        ],
        "Marmots",
    ),
    (
        "starlette",
        &[
            ("requirements.txt", "starlette\n"),
            (
                "main.py",
                "from starlette.applications import Starlette\nfrom starlette.responses import PlainTextResponse\nfrom starlette.routing import Route\n\nasync def home(request):\n    return PlainTextResponse('Marmots')\n\napp = Starlette(routes=[Route('/', home)])\n",
            ),
        ],
        "Marmots",
    ),
];

const R: &[(&str, Files, &str)] = &[
    (
        "shiny-r",
        &[
            ("app.R", "library(shiny)\nshinyApp(fluidPage(h1('Marmots')), function(input, output) {})\n"),
            (".Rprofile", "source('renv/activate.R')\n"),
            ("renv/activate.R", ""),
        ],
        "<h1>Marmots</h1>",
    ),
    ("plumber", &[("plumber.R", "#* @get /\n#* @serializer text\nfunction() 'Marmots'\n")], "Marmots"),
];

async fn opens(ada: &Api, name: &str, files: Files, expected: &str) {
    let repository = Repository::of(files);
    let launcher = ada.launcher(name, &repository).await;
    let app = ada.activate(&launcher, "running").await;
    let (status, page) = app.fetch("/").await;
    assert_eq!(status, 200, "{name}: {page}");
    assert!(page.contains(expected), "{name}: {page}");
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn apps_in_several_languages_are_opened_through_the_gateway() {
    let server = Server::start(&[]).await;
    let ada = server.user("ada").await;
    for (name, files, expected) in FEW {
        opens(&ada, name, files, expected).await;
    }
    let has_r =
        std::process::Command::new("Rscript").args(["-e", "library(shiny); library(plumber)"]).output();
    if !has_r.is_ok_and(|said| said.status.success()) {
        println!(
            "not R: this machine has no R, or no shiny and plumber for it (`cargo xtask setup` installs them)"
        );
        return;
    }
    for (name, files, expected) in R {
        opens(&ada, name, files, expected).await;
    }
}
