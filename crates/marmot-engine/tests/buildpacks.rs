//! Cloud Native Buildpacks: a builder's lifecycle is run by the Platform API, shut in like other builds, and leaves an image.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "build/support.rs"]
mod building;
#[path = "support/buildpacks.rs"]
mod buildpacks;
#[path = "support/docker.rs"]
mod docker;
#[path = "support/podman.rs"]
mod podman;

use std::fs;
use std::time::Duration;

use building::{Built, Place, Repository, wanted};
use docker::Docker;
use marmot_engine::build::{BuildEnd, Buildpacks, BuildsNetwork};
use marmot_engine::container::Engine;
use marmot_engine::layout::Layout;
use marmot_engine::wanted::{Builder, Secret, Variable, WantedBuild};
use podman::{Podman, wait};
use tokio_util::sync::CancellationToken;

fn place(socket: std::path::PathBuf, builder: &str) -> Place {
    let mut place = Place::new();
    let engine = Engine::at(socket, &Layout::new(place.path("data")));
    place.context.run_containers_by(&engine);
    place.context.allow_private_networks = true;
    place.context.buildpacks = Some(Buildpacks { builder: builder.to_owned(), run_image: None });
    place
}

fn wish(repository: &Repository) -> WantedBuild {
    let source =
        marmot_engine::wanted::Source { repository: repository.address(), revision: None, context_dir: None };
    let greeting = Variable { name: "GREETING".to_owned(), value: "buildpacks".to_owned() };
    let secret = Secret { name: "TOKEN".to_owned(), value: "correct-horse".to_owned(), is_file: false };
    WantedBuild {
        builder: Builder::Buildpacks,
        variables: vec![greeting],
        secrets: vec![secret],
        ..wanted(source)
    }
}

async fn build(place: &Place, repository: &Repository) -> Built {
    place.run(&wish(repository), CancellationToken::new()).await
}

#[tokio::test]
async fn an_app_is_built_by_a_builders_lifecycle_which_is_given_nothing_but_the_code_and_its_variables() {
    let Some(mut podman) = Podman::start() else { return };
    let registry = podman.registry(None);
    let made = buildpacks::publish(&podman, &registry);
    let place = place(podman.socket(), &made.builder);
    let repository = place.repository("site", &[("site.conf", ""), ("sub/page", "x")]);
    let built = build(&place, &repository).await;
    let outcome = built.outcome();
    assert_eq!((outcome.commit.len(), outcome.command.as_deref()), (40, Some("tool")));
    assert!(outcome.summary.contains("Built by the buildpacks of"), "{outcome:?}");
    for expected in [
        "==> Building with buildpacks",
        "by version 0.13 of the Platform API",
        "===> DETECTING",
        "found site.conf in /workspace",
        "greeting: buildpacks, secret: none",
        "CapEff:\t0000000000000000",
        "sockets: 0",
        "machines reached: 0",
        "===> EXPORTING",
    ] {
        assert!(built.log.contains(expected), "{expected} in {}", built.log);
    }
    assert!(
        built.steps.iter().any(|step| step == "Building with buildpacks: detecting"),
        "{:?}",
        built.steps
    );
    let run = built.run_file().image.expect("an image");
    assert_eq!(
        (run.port, run.before_command),
        (Some(8080), vec!["/cnb/lifecycle/launcher".to_owned(), "--".to_owned()])
    );
    assert!(!built.code("site.conf").exists(), "the code is in the image");

    // As its own user, with its code, by hand.
    let inside = |command: &[&str]| {
        let run = ["run", "--rm", "--network=none", "--entrypoint", command[0], &run.id];
        podman.run(&[&run[..], &command[1..]].concat())
    };
    assert_eq!(inside(&["/bin/cat", "/workspace/sub/page"]), "x");
    assert_eq!(inside(&["/bin/id", "-u"]), "1002");
    let launched =
        inside(&["/cnb/lifecycle/launcher", "--", "/bin/sh", "-c", "echo $FROM_LAUNCHER && command -v tool"]);
    assert_eq!(launched, "yes\n/layers/test_site/tool/bin/tool");

    // What one build keeps, the next one of the same launcher finds, and that of another does not.
    repository.commit(&[("sub/page", "y")]);
    let again = build(&place, &repository).await;
    again.outcome();
    assert!(again.log.contains("the tool is there from before"), "{}", again.log);
    let anothers = WantedBuild { owner: 2.into(), ..wish(&repository) };
    let anothers = place.run(&anothers, CancellationToken::new()).await;
    anothers.outcome();
    assert!(!anothers.log.contains("from before"), "{}", anothers.log);
    assert_eq!(podman.containers(), Vec::<String>::new());

    // The builder is kept for the next build; what no result needs goes.
    let before = podman.images().len();
    fs::remove_dir_all(anothers.dir.join("artefact")).unwrap();
    let engine = Engine::at(podman.socket(), &Layout::new(place.path("data")));
    engine.collect(&Layout::new(place.path("nowhere")), Duration::ZERO).await;
    assert!(podman.images().len() < before);
}

#[tokio::test]
async fn what_buildpacks_cannot_build_is_told_in_words_and_what_is_cancelled_leaves_nothing() {
    let Some(mut podman) = Podman::start() else { return };
    let registry = podman.registry(None);
    let made = buildpacks::publish(&podman, &registry);
    let mut place = place(podman.socket(), &made.builder);
    let of = |place: &Place, name: &str, conf: &str| place.repository(name, &[("site.conf", conf)]);
    let unknown = place.repository("unknown", &[("readme", "x")]);
    let failing = of(&place, "failing", "RUN='echo oops; exit 3'");
    let unnamed = of(&place, "unnamed", "TYPE=worker DEFAULT=false");
    for (repository, expected) in [
        (&unknown, "None of the builder's buildpacks knows"),
        (&failing, "A buildpack failed while it built"),
        (&unnamed, "which of these is the app: worker"),
    ] {
        let built = build(&place, repository).await;
        assert_eq!(built.failure().step, "Building with buildpacks");
        assert!(built.failure().reason.contains(expected), "{:?}\n{}", built.failure(), built.log);
    }
    // Whoever says what is started needs no such name.
    let given = WantedBuild { command_given: true, ..wish(&unnamed) };
    place.run(&given, CancellationToken::new()).await.outcome();

    let marker = "6543.219";
    let endless = of(&place, "endless", &format!("RUN='sleep {marker}'"));
    let line = format!("sleep\0{marker}\0").into_bytes();
    let sleeps = || {
        let pids = fs::read_dir("/proc").unwrap().flatten();
        pids.filter_map(|pid| fs::read(pid.path().join("cmdline")).ok()).any(|found| found == line)
    };
    let cancel = CancellationToken::new();
    let wish = wish(&endless);
    let cancelling = async {
        while !sleeps() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        cancel.cancel();
    };
    let (built, ()) = tokio::join!(place.run(&wish, cancel.clone()), cancelling);
    assert_eq!(built.end, Err(BuildEnd::Cancelled));
    wait("the end of the step", || !sleeps());
    assert_eq!(podman.containers(), Vec::<String>::new());
    place.context.limits.time = Duration::from_secs(4);
    let built = build(&place, &endless).await;
    assert!(built.failure().reason.contains("took longer than 4 seconds"), "{:?}", built.failure());
    wait("the end of the step", || !sleeps());
}

#[tokio::test]
async fn a_builder_that_is_none_or_too_old_is_told_before_anything_runs() {
    let Some(mut podman) = Podman::start() else { return };
    podman.registry(None);
    let mut place = place(podman.socket(), "localhost/old:1");
    place.context.local_images = vec!["localhost/old".parse().unwrap(), "localhost/none".parse().unwrap()];
    let image =
        |name: &str, files: &[(&str, &str)], instructions: &[&str]| podman.image(name, files, instructions);
    buildpacks::make(image, "", "localhost/old:1", "localhost/run:1", r#""0.9","0.10""#);
    podman.image("localhost/none:1", &[], &[]);
    let repository = place.repository("site", &[("site.conf", "")]);
    let built = build(&place, &repository).await;
    assert!(built.failure().reason.contains("0.9, 0.10 of the Platform API"), "{:?}", built.failure());
    place.context.buildpacks = Some(Buildpacks { builder: "localhost/none:1".to_owned(), run_image: None });
    let built = build(&place, &repository).await;
    assert!(built.failure().reason.contains("no builder image"), "{:?}", built.failure());
    place.context.buildpacks = None;
    let built = build(&place, &repository).await;
    assert!(built.failure().reason.contains("`buildpacks_builder`"), "{:?}", built.failure());
}

#[tokio::test]
async fn docker_runs_a_builder_only_where_its_operator_lets_builds_have_the_engines_network() {
    let Some(docker) = Docker::start() else { return };
    let image =
        |name: &str, files: &[(&str, &str)], instructions: &[&str]| docker.image(name, files, instructions);
    image("localhost/run:1", &[], &["USER 1002:1000"]);
    buildpacks::make(image, "'", "localhost/builder:1", "localhost/run:1", r#""0.12""#);
    let mut place = place(docker.socket(), "localhost/builder:1");
    place.context.local_images = vec!["localhost/run".parse().unwrap(), "localhost/builder".parse().unwrap()];
    let repository = place.repository("site", &[("site.conf", "")]);
    let built = build(&place, &repository).await;
    let why = &built.failure().reason;
    assert!(
        why.contains("Docker takes no network") && why.contains("`builds_network = \"shared\"`"),
        "{why}"
    );
    place.context.network = BuildsNetwork::Shared;
    let built = build(&place, &repository).await;
    built.outcome();
    let image = built.run_file().image.expect("an image").id;
    let run = ["run", "--rm", "--network=none", "--entrypoint", "/bin/cat", &image, "/workspace/site.conf"];
    assert_eq!(docker.run(&run), "");
    assert_eq!(docker.containers(), Vec::<String>::new());
}
