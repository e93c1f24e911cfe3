//! Small repositories of every kind, in the shapes that public ones have, and what is planned for each.

use super::*;

/// The plan in short: language and packages; what builds it; what is run; how many warnings there are.
fn short(files: Files<'_>) -> String {
    let code = Code::new(files.iter().copied());
    let plan = match plan(&code, Builder::Auto, false) {
        Ok(plan) => plan,
        Err(why) => panic!("{files:?}: {why}"),
    };
    let said = plan.summary();
    assert!(!said.reasons.is_empty(), "{files:?}");
    let mut parts = vec![said.language.unwrap_or("nothing").to_owned()];
    parts.extend(said.packages.map(|file| format!("({file})")));
    parts.extend(said.build.iter().map(|step| format!("[{step}]")));
    parts.extend(said.release.iter().map(|line| format!("<{line}>")));
    parts.extend(said.command);
    parts.extend((!said.warnings.is_empty()).then(|| format!("!{}", said.warnings.len())));
    parts.join(" ")
}

const NPM_LOCK: (&str, &str) = ("package-lock.json", r#"{"lockfileVersion": 3, "packages": {}}"#);
const PNPM_LOCK: (&str, &str) = ("pnpm-lock.yaml", "lockfileVersion: '9.0'\n");
const YARN_LOCK: (&str, &str) = ("yarn.lock", "# yarn lockfile v1\n");
const EXPRESS: &str =
    "const express = require('express')\nconst app = express()\napp.listen(process.env.PORT || 3000)\n";

#[test]
fn node_projects_are_planned() {
    let package = |text: &'static str| ("package.json", text);
    let trees: &[(Files<'_>, &str)] = &[
        (
            &[
                package(r#"{"dependencies": {"express": "4"}, "scripts": {"start": "node server.js"}}"#),
                NPM_LOCK,
                ("server.js", EXPRESS),
            ],
            "node (package-lock.json) node server.js",
        ),
        (
            &[package(r#"{"dependencies": {"express": "4"}}"#), NPM_LOCK, ("app.js", EXPRESS)],
            "node (package-lock.json) node app.js",
        ),
        (
            &[
                package(r#"{"main": "./lib/main.js", "dependencies": {"fastify": "4"}}"#),
                YARN_LOCK,
                ("lib/main.js", "import Fastify from 'fastify'\nFastify().listen({port: 3000})\n"),
            ],
            "node (yarn.lock) node lib/main.js !1",
        ),
        (
            &[
                package(r#"{"dependencies": {"koa": "2"}}"#),
                ("src/index.js", "import Koa from \"koa\"\nnew Koa().listen(8080)\n"),
            ],
            "node (package.json) node src/index.js !2",
        ),
        (
            &[package(r#"{"scripts": {"start": "node index.js", "build": "tsc"}}"#), PNPM_LOCK],
            "node (pnpm-lock.yaml) [npm run build] node index.js",
        ),
        (
            &[
                package(
                    r#"{"scripts": {"start": "node .", "prestart": "node seed.js", "postinstall": "prisma generate"}}"#,
                ),
                NPM_LOCK,
            ],
            "node (package-lock.json) [npm run postinstall] node seed.js && node .",
        ),
        (
            &[
                package(
                    r#"{"dependencies": {"next": "15"}, "scripts": {"dev": "next dev", "build": "next build", "start": "next start"}}"#,
                ),
                PNPM_LOCK,
            ],
            "node (pnpm-lock.yaml) [npm run build] next start -H 0.0.0.0 -p $PORT",
        ),
        (
            &[
                package(r#"{"dependencies": {"next": "15"}, "scripts": {"start": "node server.js"}}"#),
                NPM_LOCK,
            ],
            "node (package-lock.json) node server.js",
        ),
        (
            &[
                package(r#"{"dependencies": {"next": "15"}}"#),
                NPM_LOCK,
                ("next.config.mjs", "export default { output: 'export' }"),
            ],
            "node (package-lock.json) [next build] marmot static-server out",
        ),
        (
            &[
                package(
                    r#"{"devDependencies": {"vite": "6"}, "scripts": {"dev": "vite", "build": "vite build", "preview": "vite preview"}}"#,
                ),
                NPM_LOCK,
                ("index.html", ""),
            ],
            "node (package-lock.json) [npm run build] marmot static-server dist --single-page",
        ),
        (
            &[
                package(
                    r#"{"devDependencies": {"vite": "6"}, "scripts": {"build": "vite build", "start": "vite preview"}}"#,
                ),
                NPM_LOCK,
                ("index.html", ""),
                ("vite.config.ts", "export default { build: { outDir: './public/app' } }"),
            ],
            "node (package-lock.json) [npm run build] marmot static-server public/app --single-page",
        ),
        (
            &[
                package(
                    r#"{"dependencies": {"react-scripts": "5"}, "scripts": {"start": "react-scripts start", "build": "react-scripts build"}}"#,
                ),
                YARN_LOCK,
            ],
            "node (yarn.lock) [npm run build] marmot static-server build --single-page",
        ),
        (
            &[
                package(
                    r#"{"devDependencies": {"@sveltejs/kit": "2", "@sveltejs/adapter-node": "5", "vite": "6"}, "scripts": {"build": "vite build"}}"#,
                ),
                PNPM_LOCK,
            ],
            "node (pnpm-lock.yaml) [npm run build] HOST=0.0.0.0 ORIGIN=\"$MARMOT_APP_URL\" node build",
        ),
        (
            &[
                package(
                    r#"{"devDependencies": {"@sveltejs/kit": "2", "@sveltejs/adapter-static": "3"}, "scripts": {"build": "vite build"}}"#,
                ),
                NPM_LOCK,
            ],
            "node (package-lock.json) [npm run build] marmot static-server build",
        ),
        (
            &[
                package(
                    r#"{"dependencies": {"nuxt": "3"}, "scripts": {"build": "nuxt build", "start": "nuxt"}}"#,
                ),
                NPM_LOCK,
            ],
            "node (package-lock.json) [npm run build] HOST=0.0.0.0 node .output/server/index.mjs",
        ),
        (
            &[
                package(
                    r#"{"dependencies": {"astro": "5", "@astrojs/node": "9"}, "scripts": {"build": "astro build"}}"#,
                ),
                NPM_LOCK,
            ],
            "node (package-lock.json) [npm run build] HOST=0.0.0.0 node dist/server/entry.mjs",
        ),
        (
            &[package(r#"{"dependencies": {"astro": "5"}}"#), NPM_LOCK],
            "node (package-lock.json) [astro build] marmot static-server dist",
        ),
        (
            &[
                package(
                    r#"{"dependencies": {"@remix-run/serve": "2"}, "scripts": {"build": "remix vite:build", "start": "remix-serve ./build/server/index.js"}}"#,
                ),
                NPM_LOCK,
            ],
            "node (package-lock.json) [npm run build] remix-serve ./build/server/index.js",
        ),
        (
            &[
                package(
                    r#"{"dependencies": {"@nestjs/core": "10"}, "scripts": {"build": "nest build", "start": "nest start", "start:prod": "node dist/main"}}"#,
                ),
                NPM_LOCK,
            ],
            "node (package-lock.json) [npm run build] node dist/main",
        ),
        (
            &[
                package(
                    r#"{"dependencies": {"@angular/core": "19"}, "scripts": {"build": "ng build", "start": "ng serve"}}"#,
                ),
                NPM_LOCK,
                (
                    "angular.json",
                    r#"{"projects": {"shop": {"architect": {"build": {"builder": "@angular/build:application", "options": {}}}}}}"#,
                ),
            ],
            "node (package-lock.json) [npm run build] marmot static-server dist/shop/browser --single-page",
        ),
        (
            &[
                package(
                    r#"{"dependencies": {"@observablehq/framework": "1"}, "scripts": {"build": "observable build", "dev": "observable preview"}}"#,
                ),
                NPM_LOCK,
            ],
            "node (package-lock.json) [npm run build] marmot static-server dist",
        ),
        (
            &[
                package(
                    r#"{"dependencies": {"@docusaurus/core": "3"}, "scripts": {"build": "docusaurus build", "start": "docusaurus start", "serve": "docusaurus serve"}}"#,
                ),
                YARN_LOCK,
            ],
            "node (yarn.lock) [npm run build] marmot static-server build",
        ),
        (
            &[package("{}"), NPM_LOCK, ("Procfile", "web: node x.js $PORT\nrelease: node migrate.js")],
            "node (package-lock.json) <node migrate.js> node x.js $PORT",
        ),
        // What only tests and formats a site is not what it is made with.
        (
            &[
                package(r#"{"devDependencies": {"prettier": "3"}, "scripts": {"test": "x"}}"#),
                ("index.html", ""),
            ],
            "static marmot static-server .",
        ),
    ];
    for (files, expected) in trees {
        assert_eq!(short(files), *expected, "{files:?}");
    }
}

#[test]
fn r_projects_are_planned() {
    const SHINY: &str = "library(shiny)\nlibrary(DT)\nshinyApp(ui, server)\n";
    const LOCK: &str = r#"{"R": {"Version": "4.3.1", "Repositories": [{"Name": "CRAN", "URL": "https://cran.example"}]}, "Packages": {"shiny": {"Package": "shiny", "Version": "1.7.4", "Source": "Repository"}, "mine": {"Package": "mine", "Version": "0.1", "Source": "GitHub"}}}"#;
    let shiny = "Rscript -e 'shiny::runApp(\".\", host = \"0.0.0.0\", port = as.integer(Sys.getenv(\"PORT\")), launch.browser = FALSE)'";
    let plumber = |how: &str| {
        format!("Rscript -e '{how}$run(host = \"0.0.0.0\", port = as.integer(Sys.getenv(\"PORT\")))'")
    };
    let dir = plumber("plumber::plumb(dir = \".\")");
    let trees: &[(Files<'_>, String)] = &[
        (&[("app.R", SHINY)], format!("r {shiny} !1")),
        (
            &[("app.R", SHINY), ("renv.lock", LOCK), (".Rprofile", "source('renv/activate.R')")],
            format!("r (renv.lock) {shiny} !1"),
        ),
        (
            &[
                ("server.R", "function(input, output) {}"),
                ("ui.R", "fluidPage()"),
                ("DESCRIPTION", "Package: x\nImports: shiny (>= 1.5),\n    ggplot2\n"),
            ],
            format!("r (DESCRIPTION) {shiny}"),
        ),
        (
            &[("app.R", SHINY), ("install.R", "install.packages('DT')")],
            format!("r (install.R) [Rscript install.R] {shiny}"),
        ),
        (
            &[("plumber.R", "#* @get /\nfunction() 1\n"), ("renv.lock", LOCK)],
            format!("r (renv.lock) {dir} !1"),
        ),
        (&[("entrypoint.R", "plumber::plumb('api.R')"), ("api.R", "#* @get /\n")], format!("r {dir} !1")),
        (
            &[
                ("api.R", "#' @post /predict\nfunction(x) x\n"),
                ("DESCRIPTION", "Depends: R (>= 4), plumber\n"),
            ],
            format!("r (DESCRIPTION) {}", plumber("plumber::plumb(\"api.R\")")),
        ),
        (
            &[("Procfile", "web: Rscript run.R $PORT"), ("run.R", "library(httpuv)")],
            "r Rscript run.R $PORT !1".to_owned(),
        ),
        // Python that R calls does not make it a Python app, nor the other way round.
        (
            &[("app.R", SHINY), ("requirements.txt", "numpy"), ("DESCRIPTION", "Imports: reticulate\n")],
            format!("r (DESCRIPTION) {shiny} !1"),
        ),
        (
            &[("app.py", STREAMLIT), ("requirements.txt", "streamlit"), ("plot.R", "library(x)")],
            format!("python (requirements.txt) streamlit run app.py {STREAMLIT_FLAGS}"),
        ),
    ];
    for (files, expected) in trees {
        assert_eq!(short(files), *expected, "{files:?}");
    }
    let with_lock = planned(&[("app.R", SHINY), ("renv.lock", LOCK)]);
    let Install::R(manifest) = &with_lock.install else { panic!("{with_lock:?}") };
    assert_eq!(manifest.packages["shiny"].as_deref(), Some("1.7.4"));
    assert_eq!(manifest.repositories, ["https://cran.example"]);
    assert!(with_lock.warnings[0].contains("mine (GitHub)"), "{:?}", with_lock.warnings);
}

#[test]
fn images_and_sites_are_planned() {
    let app = [("app.py", STREAMLIT), ("requirements.txt", "streamlit")];
    for (files, expected) in [
        (&[("Dockerfile", "FROM debian")][..], "dockerfile (Dockerfile)"),
        (&[("Containerfile", "FROM debian"), ("src/main.c", "")], "dockerfile (Containerfile)"),
        (
            &[
                ("_quarto.yml", "project:\n  type: website\n  output-dir: out # here\n"),
                ("out/index.html", ""),
            ],
            "static marmot static-server out",
        ),
        (
            &[("mkdocs.yml", "site_dir: 'html/en'\n"), ("html/en/index.html", "")],
            "static marmot static-server html/en",
        ),
        (&[("index.html", ""), ("Dockerfile", "FROM nginx")], "static marmot static-server ."),
        (
            &[app[0], app[1], ("Dockerfile", "FROM python")],
            &*format!("python (requirements.txt) streamlit run app.py {STREAMLIT_FLAGS}"),
        ),
    ] {
        assert_eq!(short(files), *expected, "{files:?}");
    }
    // Who asks for an image gets one.
    let files = [app[0], app[1], ("Dockerfile", "FROM python")];
    let asked = plan(&Code::new(files), Builder::Dockerfile, false).unwrap();
    assert_eq!(asked.install, Install::Dockerfile("Dockerfile".into()));
    assert_eq!((asked.start, asked.command_from), (Start::Image, CommandFrom::Detected));
    let why = plan(&Code::new(app), Builder::Dockerfile, false).unwrap_err().to_string();
    assert!(why.contains("There is no Dockerfile"), "{why}");
}

#[test]
fn a_builder_that_is_chosen_looks_for_nothing_else() {
    let files = [
        ("app.py", STREAMLIT),
        ("app.R", "shinyApp()"),
        ("package.json", r#"{"scripts": {"start": "node x.js"}}"#),
    ];
    let code = Code::new(files);
    for (builder, expected) in
        [(Builder::Auto, "python"), (Builder::Python, "python"), (Builder::R, "r"), (Builder::Node, "node")]
    {
        assert_eq!(plan(&code, builder, false).unwrap().summary().language, Some(expected), "{builder:?}");
        // Also where the launcher says how it is started.
        let given = plan(&code, builder, true).unwrap().summary();
        assert_eq!((given.language, given.command_from), (Some(expected), CommandFrom::Launcher));
    }
    for builder in [Builder::R, Builder::Node] {
        plan(&Code::new([("app.py", STREAMLIT)]), builder, false).unwrap_err();
    }
}

#[test]
fn package_managers_are_told_from_their_locks() {
    let manifest = |files: Files<'_>| match planned(files).install {
        Install::Node(manifest) => *manifest,
        other => panic!("{other:?}"),
    };
    let start = r#"{"scripts": {"start": "node x.js"}, "packageManager": "pnpm@8.15.4+sha256.aa", "engines": {"node": ">=18 <22"}, "dependencies": {"a": "1"}}"#;
    let found = manifest(&[("package.json", start), PNPM_LOCK, YARN_LOCK]);
    assert_eq!((found.manager, found.manager_version.as_deref()), (Manager::Pnpm, Some("8.15.4")));
    assert_eq!(found.wish, Some((">=18 <22".into(), "package.json".into())));
    assert!(found.without_development && !found.in_place && !found.own_code);
    // A lock of another one counts for more than a name without a lock.
    assert_eq!(manifest(&[("package.json", start), NPM_LOCK]).manager, Manager::Npm);
    let berry = ("yarn.lock", "# comment\n\n__metadata:\n  version: 8\n");
    assert_eq!(manifest(&[("package.json", start), berry]).manager, Manager::Berry);
    assert_eq!(manifest(&[("package.json", start), YARN_LOCK]).manager, Manager::Yarn);
    assert_eq!(manifest(&[("package.json", start)]).manager, Manager::Pnpm);
    let nvm = manifest(&[("package.json", start), (".nvmrc", "v22.1\n"), NPM_LOCK]);
    assert_eq!(nvm.wish, Some(("v22.1".into(), ".nvmrc".into())));
    for (dependency, in_place, own_code) in [
        ("^1.2.3", false, false),
        ("npm:other@1", false, false),
        ("file:../x", true, false),
        ("workspace:*", true, false),
        ("user/repository", false, true),
        ("github:user/repository#v1", false, true),
        ("git+https://host.example/x.git", false, true),
    ] {
        let text =
            format!(r#"{{"scripts": {{"start": "node x.js"}}, "dependencies": {{"a": "{dependency}"}}}}"#);
        let found = manifest(&[("package.json", &text), NPM_LOCK]);
        assert_eq!((found.in_place, found.own_code), (in_place, own_code), "{dependency}");
    }
    let hooks =
        r#"{"scripts": {"start": "node x.js", "prepare": "husky install", "postinstall": "patch-package"}}"#;
    assert_eq!(manifest(&[("package.json", hooks)]).steps, [NodeStep::Script("postinstall".into())]);
}

#[test]
fn environments_of_conda_are_planned_by_what_they_need() {
    let kind = |files: Files<'_>| manifest(&planned(files)).clone();
    let app = ("app.py", STREAMLIT);
    let whole = "name: x\nchannels:\n  - conda-forge\n  - defaults\ndependencies:\n  - python=3.11\n  - streamlit >=1.30\n  - conda-forge::gdal=3.*\n  - pip\n  - pip:\n    - some-thing==1\n    - -r more.txt\nvariables:\n  MODE: fast\n";
    let found = kind(&[app, ("environment.yml", whole), ("more.txt", "six"), ("requirements.txt", "pandas")]);
    let Kind::Conda(conda) = &found.kind else { panic!("{found:?}") };
    assert_eq!(conda.channels, ["conda-forge", "defaults"]);
    assert_eq!(conda.specs.len(), 4, "{:?}", conda.specs);
    assert_eq!(conda.pip, ["some-thing==1"]);
    assert_eq!(conda.requirements, ["more.txt", "requirements.txt"]);
    assert_eq!(conda.variables, [("MODE".to_owned(), "fast".to_owned())]);
    for package in ["streamlit", "gdal", "six", "some-thing", "pandas"] {
        assert!(found.packages.contains(package), "no {package} in {found:?}");
    }
    assert_eq!(found.files.len(), 3);

    // What needs no conda does without.
    let trivial = "dependencies: [python=3.11.4, pip, {pip: [streamlit]}]";
    let found = kind(&[app, ("environment.yml", trivial)]);
    assert_eq!(found.kind, Kind::Converted("environment.yml".into(), vec!["streamlit".into()]));
    assert_eq!(found.python.pinned, Some(("3.11.4".into(), "environment.yml".into())));
    let found =
        kind(&[app, ("environment.yaml", "dependencies: [python=3.11]"), ("requirements.txt", "streamlit")]);
    assert_eq!(found.kind, Kind::Requirements("requirements.txt".into()));
    assert_eq!(found.python.pinned.map(|(version, _)| version).as_deref(), Some("3.11"));
    let project = ("pyproject.toml", "[project]\nname = 'x'\nversion = '1'\ndependencies = ['streamlit']\n");
    assert_eq!(kind(&[app, project, ("environment.yml", whole), ("more.txt", "")]).kind, Kind::Pyproject);
    // Without a Python, nothing of the app's would start.
    let found = kind(&[app, ("environment.yml", "dependencies: [streamlit]")]);
    let Kind::Conda(conda) = &found.kind else { panic!("{found:?}") };
    assert_eq!(conda.specs, ["streamlit", "python"]);
}
