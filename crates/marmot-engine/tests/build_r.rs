//! R projects, built and started for real, with a package repository of the test's own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "build/running.rs"]
mod running;
#[path = "build/support.rs"]
mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use running::answers;
use support::Place;

/// Whether R and `package` are here; says so where they are not. `cargo xtask setup` installs them.
fn has(package: &str) -> bool {
    let question = format!("quit(status = !requireNamespace('{package}', quietly = TRUE))");
    let found = Command::new("Rscript").args(["-e", &question]).status().is_ok_and(|status| status.success());
    if !found {
        println!("skipped: this machine has no R, or no {package} for it");
    }
    found
}

/// Puts a package of R with one function into a repository at `place/cran`, as the current version or an archived one.
fn package(place: &Place, name: &str, version: &str, imports: &str, function: &str, archived: bool) {
    let contrib = place.path("cran/src/contrib");
    let (source, target) = (
        place.path(&format!("source/{name}")),
        match archived {
            true => contrib.join("Archive").join(name),
            false => contrib.clone(),
        },
    );
    fs::create_dir_all(source.join("R")).unwrap();
    fs::create_dir_all(&target).unwrap();
    let imports = if imports.is_empty() { String::new() } else { format!("Imports: {imports}\n") };
    let description = format!(
        "Package: {name}\nVersion: {version}\nTitle: A Test\nDescription: A test.\nLicense: GPL-2\nAuthor: Ada\nMaintainer: Ada <ada@example.org>\n{imports}"
    );
    fs::write(source.join("DESCRIPTION"), description).unwrap();
    fs::write(source.join("NAMESPACE"), "exportPattern('^[a-z]')\n").unwrap();
    fs::write(source.join("R/code.R"), function).unwrap();
    let made = Command::new("tar")
        .args(["--create", "--gzip", "--file"])
        .arg(target.join(format!("{name}_{version}.tar.gz")))
        .arg("--directory")
        .arg(source.parent().unwrap())
        .arg(name)
        .status()
        .unwrap();
    assert!(made.success());
    index(&contrib);
}

fn index(contrib: &Path) {
    let line = format!("tools::write_PACKAGES('{}', type = 'source')", contrib.display());
    assert!(Command::new("Rscript").args(["-e", &line]).status().unwrap().success());
}

/// A place with a repository in which `mine`, in two versions, needs `below`.
fn with_repository() -> Place {
    let mut place = Place::new();
    package(&place, "below", "1.0", "", "word <- function() 'Marmots'", false);
    package(&place, "mine", "0.9", "below", "hello <- function() paste('old', below::word())", true);
    package(&place, "mine", "1.0", "below", "hello <- function() paste('new', below::word())", false);
    let address = format!("file://{}", place.path("cran").display());
    place.context.environment.push(("R_REPOS".into(), address));
    place
}

fn lock(packages: &[(&str, &str)]) -> String {
    let listed = packages.iter().map(|(name, version)| {
        format!(r#""{name}": {{"Package": "{name}", "Version": "{version}", "Source": "Repository"}}"#)
    });
    let listed: Vec<_> = listed.collect();
    format!(r#"{{"R": {{"Version": "3.6.3"}}, "Packages": {{{}}}}}"#, listed.join(", "))
}

#[tokio::test]
async fn a_plumber_api_gets_what_this_machine_has_and_the_rest_from_the_repository_as_locked() {
    if !has("plumber") {
        return;
    }
    let place = with_repository();
    let api = "#* @get /\n#* @serializer text\nfunction() mine::hello()\n";
    // What a project's own manager of packages would do at every start must not happen.
    let profile = "stop('the profile of whoever works on it')";
    let files = [
        ("plumber.R", api),
        ("renv.lock", &lock(&[("mine", "0.9"), ("plumber", "0.0.1")])),
        ("renv/activate.R", profile),
    ];
    let repository = place.repository("app", &files);
    let built = place.build(&repository).await;
    built.outcome();
    assert_eq!(built.steps[2], "Installing R packages");
    for told in [
        "the code was written with R 3.6.3",
        "plumber 0.0.1 is asked for; taking",
        "This server does not have: mine",
        "Installed: mine, below",
    ] {
        assert!(built.log.contains(told), "no {told} in {}", built.log);
    }
    answers(&built, "/", "old Marmots").await;

    repository.commit(&[("README.md", "changed")]);
    let again = place.build(&repository).await;
    assert!(again.log.contains("they are re-used"), "{}", again.log);
    repository.commit(&[("renv.lock", &lock(&[("mine", "1.0")]))]);
    let newer = place.build(&repository).await;
    answers(&newer, "/", "new Marmots").await;
}

#[tokio::test]
async fn packages_are_also_those_of_a_description_and_of_a_script() {
    if !has("plumber") {
        return;
    }
    let place = with_repository();
    let api = "function(pr) NULL\n";
    let description = "Package: api\nImports:\n    below (>= 0.1),\n    plumber\n";
    let script = "install.packages('mine')\n";
    let files = [("entrypoint.R", api), ("DESCRIPTION", description), ("install.R", script)];
    let built = place.build(&place.repository("app", &files)).await;
    built.outcome();
    let library = built.run_file().env["R_LIBS_USER"].clone();
    for package in ["below", "mine"] {
        assert!(Path::new(&library).join(package).is_dir(), "no {package}: {}", built.log);
    }
}

#[tokio::test]
async fn what_cannot_be_installed_is_named_with_what_to_do() {
    if !has("plumber") {
        return;
    }
    let mut place = with_repository();
    package(&place, "broken", "1.0", "", "stop('it does not build')", false);
    let app = "shinyApp()\n";
    let build = async |place: &Place, name: &str, package: &str| {
        let files = [("app.R", app), ("renv.lock", &*lock(&[(package, "1.0")]))];
        place.build(&place.repository(name, &files)).await.failure().reason.clone()
    };
    let reason = build(&place, "unknown", "nope").await;
    assert!(reason.contains("has no package nope") && reason.contains("typing mistake"), "{reason}");
    let reason = build(&place, "broken", "broken").await;
    assert!(reason.contains("could not be installed: broken"), "{reason}");
    let script = place.repository("script", &[("app.R", app), ("install.R", "stop('not today')")]);
    let reason = place.build(&script).await.failure().reason.clone();
    assert!(reason.contains("install.R failed: not today"), "{reason}");
    place.context.environment = vec![("R_REPOS".into(), "file:///nowhere".into())];
    let reason = build(&place, "unreachable", "nope2").await;
    assert!(reason.contains("cannot be reached") && reason.contains("R_REPOS"), "{reason}");
}
