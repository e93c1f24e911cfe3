//! Builds as the engine does them: when they are wanted, once, kept, and run in a sandbox.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "build/support.rs"]
mod building;
mod support;

use std::fs;
use std::sync::Arc;

use building::{Place, Repository};
use marmot_core::id::BuildId;
use marmot_engine::observed::BuildState;
use marmot_engine::wanted::{Ceiling, Source, Wanted, WantedBuild};
use marmot_engine::{Confinement, Engine, EngineConfig};
use support::{Machine, ask, policy};

fn wanted(repository: &str) -> Arc<WantedBuild> {
    let source = Source { repository: repository.to_owned(), revision: None, context_dir: None };
    Arc::new(building::wanted(source))
}

/// A machine that builds in this place's way.
async fn machine(place: &Place, confinement: Confinement) -> Machine {
    Machine::configured(|config| EngineConfig {
        build: Arc::new(place.another_context()),
        confinement,
        ..config
    })
    .await
}

fn want(machine: &Machine, id: BuildId, build: &Arc<WantedBuild>) {
    machine.want(|wanted: &mut Wanted| {
        wanted.builds.insert(id, Arc::clone(build));
    });
}

async fn until_ended(engine: &Engine, id: BuildId) -> BuildState {
    let mut observed = engine.observed();
    let ended = observed.wait_for(|observed| {
        let state = observed.builds.get(&id);
        state.is_some_and(|state| !matches!(state, BuildState::Queued | BuildState::InProgress { .. }))
    });
    tokio::time::timeout(support::LIMIT, ended).await.expect("ended in time").unwrap().builds[&id].clone()
}

/// A machine that does three builds at a time.
async fn machine_of_three(place: &Place) -> Machine {
    let mut context = place.another_context();
    context.allow_private_networks = true;
    let build = Arc::new(context);
    Machine::configured(|config| EngineConfig { build, builds_at_once: Some(3), ..config }).await
}

/// A build from a host that takes connections and never says a word, for as long as the listener is kept.
fn never_fetched() -> (std::net::TcpListener, Arc<WantedBuild>) {
    let host = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = wanted(&format!("http://{}/x", host.local_addr().unwrap()));
    (host, silent)
}

fn site(place: &Place) -> Repository {
    place.repository("site", &[("index.html", "<h1>hello</h1>")])
}

#[tokio::test]
async fn a_build_that_is_done_is_not_done_again_and_one_that_was_broken_off_is() {
    let place = Place::new();
    let repository = site(&place);
    let machine = machine(&place, Confinement::None).await;
    let (done, broken_off) = (BuildId::from(1), BuildId::from(2));
    want(&machine, done, &wanted(&repository.address()));
    let BuildState::Succeeded(outcome) = until_ended(&machine.engine, done).await else { panic!() };
    assert_eq!(outcome.commit, repository.head());
    let page = |machine: &Machine, id| machine.layout().artefact(id).join("code/index.html");
    fs::write(page(&machine, done), "as it was left").unwrap();
    // What a crash in the middle of a build leaves: files, and no outcome.
    fs::create_dir_all(machine.layout().artefact(broken_off).join("code/half")).unwrap();
    want(&machine, broken_off, &wanted(&repository.address()));
    let machine = machine.crash().await;
    assert_eq!(until_ended(&machine.engine, done).await, BuildState::Succeeded(outcome));
    assert_eq!(fs::read_to_string(page(&machine, done)).unwrap(), "as it was left");
    assert!(matches!(until_ended(&machine.engine, broken_off).await, BuildState::Succeeded(_)));
    assert!(!machine.layout().artefact(broken_off).join("code/half").exists());
}

#[tokio::test]
async fn builds_of_one_owner_wait_for_each_other_and_hold_up_nobody_else() {
    let place = Place::new();
    let machine = machine_of_three(&place).await;
    let (_host, silent) = never_fetched();
    let site = site(&place);
    let of_another = WantedBuild { owner: 2.into(), ..WantedBuild::clone(&wanted(&site.address())) };
    let (first, second, other) = (BuildId::from(1), BuildId::from(2), BuildId::from(3));
    want(&machine, first, &silent);
    want(&machine, second, &wanted(&site.address()));
    want(&machine, other, &Arc::new(of_another));
    assert!(matches!(until_ended(&machine.engine, other).await, BuildState::Succeeded(_)));
    let state = |id: BuildId| machine.engine.observed().borrow().builds[&id].clone();
    assert!(matches!(state(first), BuildState::InProgress { .. }), "{:?}", state(first));
    assert_eq!(state(second), BuildState::Queued);
    machine.want(|wanted: &mut Wanted| drop(wanted.builds.remove(&first)));
    assert!(matches!(until_ended(&machine.engine, second).await, BuildState::Succeeded(_)));
}

#[tokio::test]
async fn a_build_that_fails_says_where_and_one_that_is_no_longer_wanted_disappears() {
    let place = Place::new();
    let machine = machine(&place, Confinement::None).await;
    let id = BuildId::from(1);
    want(&machine, id, &wanted("/nowhere/at/all"));
    let BuildState::Failed(failure) = until_ended(&machine.engine, id).await else { panic!() };
    assert_eq!(failure.step, "Fetching the code");
    machine.want(|wanted| wanted.builds.clear());
    let mut observed = machine.engine.observed();
    let gone = observed.wait_for(|observed| observed.builds.is_empty());
    tokio::time::timeout(support::LIMIT, gone).await.expect("gone in time").unwrap();
    assert!(!machine.engine.logs().build(id, 5).await.unwrap().is_empty(), "its log can still be read");
}

#[tokio::test]
async fn what_was_built_from_python_packages_runs_in_a_sandbox() {
    const SERVER: &str = "import sys\ndef main():\n    exec(open('app.py').read(), {})\n";
    let place = Place::new();
    place.wheel("hello", "1.0", SERVER);
    let files =
        [("Procfile", "web: hello"), ("requirements.txt", "hello==1.0"), ("app.py", support::COUNTER)];
    let repository = place.repository("app", &files);
    let machine = machine(&place, Confinement::Auto).await;
    let id = BuildId::from(1);
    want(&machine, id, &wanted(&repository.address()));
    let state = until_ended(&machine.engine, id).await;
    assert!(matches!(state, BuildState::Succeeded(_)), "{state:?}");
    machine.activate_built(1, policy());
    let answer = ask(&machine.until_running().await).await;
    if machine.engine.capabilities().confined {
        assert_eq!((answer.cwd.as_str(), answer.env["HOME"].as_str()), ("/app", "/home/app"));
    }
    machine.shut_down();
    machine.until_gone().await;
}

/// The control groups of builds that there are.
fn groups_of(build: BuildId) -> Vec<std::path::PathBuf> {
    let name = format!("build-{build}");
    let find =
        std::process::Command::new("find").args(["/sys/fs/cgroup", "-type", "d", "-name", &name]).output();
    String::from_utf8(find.unwrap().stdout).unwrap().lines().map(Into::into).collect()
}

#[tokio::test]
async fn a_build_that_takes_too_much_memory_or_forks_without_end_fails_and_the_machine_goes_on() {
    let place = Place::new();
    let machine = Machine::configured(|config| {
        let mut context = place.another_context();
        context.limits.memory_bytes = 128 << 20;
        EngineConfig { build: Arc::new(context), confinement: Confinement::Auto, ..config }
    })
    .await;
    let release = |line: &str| format!("release: {line}\nweb: python3 -m http.server $PORT\n");
    let hog = release("python3 -c 'hoard = [bytearray(16 << 20) for _ in range(64)]'");
    let repository = place.repository("hog", &[("Procfile", &hog), ("requirements.txt", "")]);
    let id = BuildId::from(0xb1_u128 << 64 | u128::from(std::process::id()));
    want(&machine, id, &wanted(&repository.address()));
    let BuildState::Failed(failure) = until_ended(&machine.engine, id).await else { panic!("it was built") };
    assert!(failure.reason.contains("more than 128 MiB of memory"), "{}", failure.reason);
    assert_eq!(groups_of(id), [] as [std::path::PathBuf; 0]);

    // More processes than any build needs: it cannot start them, and all of them go with it.
    let forks = "python3 -c 'import os, time; [os.fork() or time.sleep(600) for _ in range(3000)]'";
    repository.commit(&[("Procfile", &release(forks))]);
    let id = BuildId::from(0xb2_u128 << 64 | u128::from(std::process::id()));
    want(&machine, id, &wanted(&repository.address()));
    let BuildState::Failed(failure) = until_ended(&machine.engine, id).await else { panic!("it was built") };
    assert_eq!(failure.step, "Running the release");
    assert_eq!(groups_of(id), [] as [std::path::PathBuf; 0]);

    let site = site(&place);
    let id = BuildId::from(0xb3_u128 << 64 | u128::from(std::process::id()));
    want(&machine, id, &wanted(&site.address()));
    assert!(matches!(until_ended(&machine.engine, id).await, BuildState::Succeeded(_)));
}

fn limit(machine: &Machine, ceiling: Ceiling, builds: &[BuildId]) {
    machine.want(|wanted: &mut Wanted| {
        wanted.projects.insert(1.into(), ceiling);
        wanted.builds_of.extend(builds.iter().map(|build| (*build, 1.into())));
    });
}

#[tokio::test]
async fn a_project_builds_no_more_at_once_than_it_may_and_the_others_wait() {
    let place = Place::new();
    let machine = machine_of_three(&place).await;
    let (_host, silent) = never_fetched();
    let site = site(&place);
    let of_owner = |owner: u128| {
        Arc::new(WantedBuild { owner: owner.into(), ..WantedBuild::clone(&wanted(&site.address())) })
    };
    let (first, second, foreign) = (BuildId::from(1), BuildId::from(2), BuildId::from(3));
    limit(&machine, Ceiling { builds: Some(1), ..Ceiling::default() }, &[first, second]);
    want(&machine, first, &silent);
    want(&machine, second, &of_owner(2));
    want(&machine, foreign, &of_owner(3));
    assert!(matches!(until_ended(&machine.engine, foreign).await, BuildState::Succeeded(_)));
    assert_eq!(machine.engine.observed().borrow().builds[&second], BuildState::Queued);
    machine.want(|wanted: &mut Wanted| drop(wanted.builds.remove(&first)));
    assert!(matches!(until_ended(&machine.engine, second).await, BuildState::Succeeded(_)));
}

#[tokio::test]
async fn a_build_fails_whose_result_is_more_than_its_project_may_keep() {
    let place = Place::new();
    let page = "x".repeat(3 << 20);
    let site = place.repository("site", &[("index.html", &page)]);
    let machine = machine(&place, Confinement::None).await;
    let (first, second, third) = (BuildId::from(1), BuildId::from(2), BuildId::from(3));
    let room = |mebibytes: u64| Ceiling { storage_bytes: Some(mebibytes << 20), ..Ceiling::default() };
    limit(&machine, room(5), &[first, second, third]);
    want(&machine, first, &wanted(&site.address()));
    assert!(matches!(until_ended(&machine.engine, first).await, BuildState::Succeeded(_)));
    let reason = async |build: BuildId| match until_ended(&machine.engine, build).await {
        BuildState::Failed(failure) => failure.reason,
        other => panic!("{other:?}"),
    };
    machine.want(|wanted: &mut Wanted| {
        wanted.kept_builds.insert(first);
        wanted.builds.remove(&first);
    });
    want(&machine, second, &wanted(&site.address()));
    let beyond = reason(second).await;
    assert!(beyond.contains("may keep 5 MiB on disk and keeps 3 MiB already, and the result"), "{beyond}");
    assert!(!machine.layout().artefact(second).exists());
    limit(&machine, room(2), &[]);
    want(&machine, third, &wanted(&site.address()));
    let full = reason(third).await;
    assert!(full.contains("may keep 2 MiB on disk and keeps 3 MiB already: delete launchers"), "{full}");
    assert!(!machine.layout().artefact(third).exists());
}
