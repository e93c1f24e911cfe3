//! Node projects, built and started for real: with npm, and packages from the registry.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "build/running.rs"]
mod running;
#[path = "build/support.rs"]
mod support;

use std::fs;
use std::process::Command;

use marmot_engine::wanted::{Secret, Variable};
use running::{answers, place};
use support::{Built, Repository};

const EXPRESS: &str = "const express = require('express')\nconst app = express()\n\
    app.get('/', (request, answer) => answer.send('Marmots'))\napp.listen(process.env.PORT, '0.0.0.0')\n";

/// Has the machine's npm write the lock of `repository`, as its owner would.
fn lock(repository: &Repository) {
    let arguments = ["install", "--package-lock-only", "--ignore-scripts", "--no-audit", "--no-fund"];
    let said = Command::new("npm").args(arguments).current_dir(&repository.0).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    repository.commit(&[]);
}

fn modules(built: &Built) -> std::path::PathBuf {
    fs::read_link(built.code("node_modules")).expect("packages are behind a link")
}

#[tokio::test]
async fn an_express_app_is_installed_as_locked_started_and_its_packages_are_shared_by_its_builds() {
    let place = place();
    let package = r#"{"dependencies": {"express": "^4.21.0"}, "devDependencies": {"is-number": "7"}, "engines": {"node": ">=18"}}"#;
    let owner = u128::from(std::process::id());
    let repository = place.repository("app", &[("package.json", package), ("server.js", EXPRESS)]);
    lock(&repository);
    let built = place.build_with(&repository, |wanted| wanted.owner = owner.into()).await;
    assert_eq!(built.outcome().command.as_deref(), Some("node server.js"));
    assert_eq!(built.steps[2], "Installing Node packages");
    assert!(built.log.contains("The packages are those of package-lock.json, by npm"), "{}", built.log);
    let shared = modules(&built);
    assert!(shared.join("express/package.json").is_file());
    assert!(!shared.join("is-number").exists(), "what only development needs is there");
    answers(&built, "/", "Marmots").await;

    repository.commit(&[("server.js", &EXPRESS.replace("Marmots", "More marmots"))]);
    let again = place.build_with(&repository, |wanted| wanted.owner = owner.into()).await;
    assert!(again.log.contains("they are re-used"), "{}", again.log);
    assert_eq!(modules(&again), shared);
    answers(&again, "/", "More marmots").await;
}

#[tokio::test]
async fn scripts_of_the_project_run_confined_with_the_launchers_variables_and_what_they_write_is_kept() {
    let place = place();
    let package = r#"{"scripts": {"postinstall": "node install.js", "build": "node build.js", "start": "node serve.js"}, "dependencies": {"is-number": "7.0.0"}}"#;
    let repository = place.repository(
        "app",
        &[
            ("package.json", package),
            ("install.js", "require('fs').writeFileSync('node_modules/mine.js', 'module.exports = 1')"),
            (
                "build.js",
                "const fs = require('fs')\n\
                 if (fs.existsSync('/etc/shadow') || process.getuid() === 0) throw new Error('not confined')\n\
                 console.log('the password is ' + process.env.THE_PASSWORD)\n\
                 fs.writeFileSync('made.txt', require('is-number')(require('mine.js')) + ' ' + process.env.GREETING)",
            ),
            (
                "serve.js",
                "require('http').createServer((q, a) => a.end(require('fs').readFileSync('made.txt') + require('mine.js'))).listen(process.env.PORT)",
            ),
        ],
    );
    let built = place
        .build_with(&repository, |wanted| {
            let variables = [("GREETING", "hello"), ("THE_PASSWORD", "hunter2")];
            wanted.variables =
                variables.map(|(name, value)| Variable { name: name.into(), value: value.into() }).into();
        })
        .await;
    built.outcome();
    assert!(built.log.contains("Without a lock file, every build may get other versions"), "{}", built.log);
    assert!(built.log.contains("the password is ***"), "{}", built.log);
    assert_eq!(fs::read_to_string(built.code("made.txt")).unwrap(), "true hello");
    // Not in the shared packages, and not in the code, of which every replica has a copy.
    assert_eq!(modules(&built), built.dir.join("artefact/node_modules"));
    answers(&built, "/", "true hello1").await;
}

#[tokio::test]
async fn what_a_build_writes_is_served_and_its_packages_are_not_kept() {
    let place = place();
    let package = r#"{"scripts": {"build": "vite build"}, "devDependencies": {"vite": "file:./tools/vite"}}"#;
    let vite = "#!/usr/bin/env node\nconst fs = require('fs')\nif (process.env.EMPTY) process.exit(0)\n\
        fs.mkdirSync('dist')\nfs.writeFileSync('dist/index.html', '<h1>Built</h1>')\n";
    let repository = place.repository(
        "app",
        &[
            ("package.json", package),
            ("index.html", "<h1>Source</h1>"),
            ("tools/vite/package.json", r#"{"name": "vite", "version": "1.0.0", "bin": "vite.js"}"#),
            ("tools/vite/vite.js", vite),
        ],
    );
    let built = place.build(&repository).await;
    assert_eq!(built.outcome().command.as_deref(), Some("marmot static-server dist --single-page"));
    assert_eq!(fs::read_to_string(built.code("dist/index.html")).unwrap(), "<h1>Built</h1>");
    assert!(!built.code("node_modules").exists());

    let empty = place
        .build_with(&repository, |wanted| {
            wanted.variables = vec![Variable { name: "EMPTY".into(), value: "1".into() }];
        })
        .await;
    let failure = empty.failure();
    assert!(
        failure.reason.contains("`dist`, which is to be served, has no index.html"),
        "{}",
        failure.reason
    );
}

#[tokio::test]
async fn what_fails_says_what_the_package_manager_said_and_what_to_do() {
    let place = place();
    let start = r#""scripts": {"start": "node x.js", "build": "node build.js"}"#;
    let repository = |name: &str, dependencies: &str, files: &[(&str, &str)]| {
        let package = format!(r#"{{{start}, "dependencies": {{{dependencies}}}}}"#);
        let repository = place.repository(name, &[("package.json", package.as_str())]);
        repository.commit(files);
        repository
    };
    let stale = r#"{"name": "x", "lockfileVersion": 3, "packages": {"": {}}}"#;
    for (name, dependencies, files, expected) in [
        ("stale", r#""is-number": "7""#, &[("package-lock.json", stale)][..], &["push the lock"][..]),
        ("version", r#""is-number": "999""#, &[], &["is-number@999", "Ask for a version that exists"]),
        (
            "script",
            "",
            &[("build.js", "process.exit(3)")],
            &["`npm run build` failed with code 3", "The log has what it said"],
        ),
    ] {
        let built = place.build(&repository(name, dependencies, files)).await;
        let failure = built.failure();
        assert_eq!(failure.step, "Installing Node packages");
        for part in expected {
            assert!(failure.reason.contains(part), "{name}: no {part} in {}\n{}", failure.reason, built.log);
        }
    }
}

#[tokio::test]
async fn a_release_runs_once_with_what_is_installed_and_one_that_fails_fails_the_build() {
    let place = place();
    let procfile = "web: node serve.js $PORT\nrelease: node release.js\nclock: node clock.js\n";
    let release = "const fs = require('fs')\nif (process.env.FAIL) { console.error('no database'); process.exit(7) }\n\
        console.log('key ' + process.env.DATABASE_KEY + ' and ' + process.env.KEY_FILE)\n\
        fs.appendFileSync('released.txt', 'released by ' + process.env.WHO + '\\n')";
    let repository = place.repository(
        "app",
        &[("package.json", "{}"), ("Procfile", procfile), ("release.js", release), ("serve.js", "")],
    );
    let with = |name: &str, value: &str| vec![Variable { name: name.into(), value: value.into() }];
    let built = place
        .build_with(&repository, |wanted| {
            wanted.variables = with("WHO", "ada");
            let secret =
                |name: &str, is_file| Secret { name: name.into(), value: "s3cret-value".into(), is_file };
            wanted.secrets = vec![secret("DATABASE_KEY", false), secret("KEY_FILE", true)];
        })
        .await;
    built.outcome();
    assert!(built.log.contains("key *** and undefined"), "{}", built.log);
    assert!(built.steps.contains(&"Running the release".to_owned()), "{:?}", built.steps);
    assert!(built.log.contains("ignored: `clock`"), "{}", built.log);
    assert_eq!(fs::read_to_string(built.code("released.txt")).unwrap(), "released by ada\n");

    let failed = place.build_with(&repository, |wanted| wanted.variables = with("FAIL", "1")).await;
    let failure = failed.failure();
    assert_eq!(failure.step, "Running the release");
    for part in ["`node release.js`", "failed with code 7", "no database"] {
        assert!(failure.reason.contains(part), "no {part} in {}", failure.reason);
    }
}

/// The first number of the version of Node that the machine has, and another one.
fn this_and_another() -> (u32, u32) {
    let said = Command::new("node").arg("--version").output().unwrap();
    let version = String::from_utf8(said.stdout).unwrap();
    let major = version.trim().trim_start_matches('v').split('.').next().unwrap().parse().unwrap();
    (major, if major == 22 { 24 } else { 22 })
}

#[tokio::test]
async fn a_node_that_the_machine_does_not_have_builds_the_app_and_runs_it() {
    let place = place();
    let (_, other) = this_and_another();
    let package = r#"{"scripts": {"build": "node build.js"}, "dependencies": {"is-number": "7.0.0"}}"#;
    let serve = "const built = require('fs').readFileSync('built.txt')\n\
        require('http').createServer((q, a) => a.end(`built by ${built}, run by ${process.version}`)).listen(process.env.PORT)";
    let build = "require('is-number')\nrequire('fs').writeFileSync('built.txt', process.version)";
    let files = [
        ("package.json", package),
        (".nvmrc", &format!("v{other}\n")),
        ("build.js", build),
        ("server.js", serve),
    ];
    let built = place.build(&place.repository("app", &files)).await;
    assert!(built.log.contains(&format!("Node {other}.")), "{}", built.log);
    answers(&built, "/", &format!("built by v{other}.")).await;
    answers(&built, "/", &format!("run by v{other}.")).await;
    // Without any package, too.
    let files = [
        ("package.json", &*format!(r#"{{"engines": {{"node": "{other}.x"}}}}"#)),
        (
            "server.js",
            "require('http').createServer((q, a) => a.end(process.version)).listen(process.env.PORT)",
        ),
    ];
    let plain = place.build(&place.repository("plain", &files)).await;
    answers(&plain, "/", &format!("v{other}.")).await;
}

#[tokio::test]
async fn a_node_that_nobody_has_is_refused_in_words() {
    let place = place();
    let package = r#"{"engines": {"node": ">=999"}}"#;
    let built =
        place.build(&place.repository("app", &[("package.json", package), ("server.js", EXPRESS)])).await;
    let failure = built.failure();
    assert!(failure.reason.contains("asks for Node >=999, which does not exist"), "{}", failure.reason);
}
