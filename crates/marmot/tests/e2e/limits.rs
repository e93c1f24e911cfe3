//! What the apps of a project may use together: who comes when there is no memory left is told, and let in later.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Api, App, Repository, Server, wait_for};

async fn launcher(ada: &Api, project: &Value, name: &str, repository: &Repository) -> Value {
    let environment = json!({"environment_image_source": "build", "repository": repository.url()});
    let new = json!({"project_id": project["id"], "name": name, "environment": environment});
    ada.post("/session_launchers", new).await
}

async fn rest(ada: &Api, app: &App) {
    let path = format!("/apps/{}", app.name);
    let (status, answer) = ada.send(Method::PATCH, &path, Some(&json!({"state": "hibernated"}))).await;
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_its_project_has_no_memory_for_says_so_and_wakes_when_another_sleeps() {
    // Of the small class, each replica may use a gigabyte.
    let server = Server::start(&["--project-memory", "1500M"]).await;
    let ada = server.user("ada").await;
    let repository = Repository::probe();
    let project = ada.post("/projects", json!({"name": "Ice", "visibility": "public"})).await;
    let limits = format!("/projects/{}/limits", project["id"].as_str().expect("an id"));
    let (first, second) = (
        launcher(&ada, &project, "first", &repository).await,
        launcher(&ada, &project, "second", &repository).await,
    );
    let first = ada.activate(&first, "running").await;
    let used = wait_for("the first to be counted", || async {
        let used = ada.get(&limits).await["memory_bytes"].clone();
        (used["used"] == 1u64 << 30).then_some(used)
    })
    .await;
    assert_eq!(used["allowed"], 1500u64 << 20);
    let second = ada.activate(&second, "starting").await;
    let view = wait_for("the second to say why it waits", || async {
        let view = second.view().await;
        view["reason"].is_string().then_some(view)
    })
    .await;
    let reason = view["reason"].as_str().expect("a reason");
    assert!(
        reason.contains("use 1024 of the 1500 MiB of memory") && reason.contains("needs 1024 MiB"),
        "{reason}"
    );
    let (status, problem) = second.fetch("/").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(problem.contains("use 1024 of the 1500 MiB"), "{problem}");

    rest(&ada, &first).await;
    second.wait_for_phase("running").await;
    assert_eq!(second.fetch("/").await.0, 200);
    // Now it is the first that waits; until an administrator says that the project may use more.
    let refused = wait_for("the first to be told", || async {
        let (status, problem) = first.fetch("/").await;
        (status == StatusCode::SERVICE_UNAVAILABLE).then_some(problem)
    })
    .await;
    assert!(refused.contains("There is no room for this app now"), "{refused}");
    server.admin(&["make-admin", "ada"], "");
    let (status, answer) = ada.send(Method::PATCH, &limits, Some(&json!({"memory_bytes": 4u64 << 30}))).await;
    assert_eq!(status, 200, "{answer}");
    wait_for("both to be awake", || async { (first.fetch("/").await.0 == 200).then_some(()) }).await;
    assert_eq!(second.fetch("/").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_manages_groups_and_says_limits() {
    let server = Server::start(&["--project-builds-per-hour", "7"]).await;
    let (ada, _) = (server.user("ada").await, server.user("bob").await);
    let token = ada.token.clone().expect("a token");
    let run = |arguments: &[&str]| {
        let mut marmot = std::process::Command::new(env!("CARGO_BIN_EXE_marmot"));
        marmot.args(arguments).env("MARMOT_URL", &server.url).env("MARMOT_TOKEN", &token);
        let output = marmot.output().expect("marmot");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text").trim().to_owned();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    };
    assert_eq!(run(&["group", "list"]).as_deref(), Ok("none"));
    run(&["group", "create", "ice-lab", "Ice lab", "--description", "Cores"]).expect("a group");
    assert!(run(&["group", "list"]).expect("a list").contains("ice-lab"));
    assert!(run(&["group", "show", "ice-lab"]).expect("it").contains("Cores"));
    assert!(run(&["group", "add", "ice-lab", "bob", "editor"]).expect("members").contains("editor"));
    assert!(run(&["group", "add", "ice-lab", "dora"]).expect_err("nobody is called so").contains("dora"));
    assert!(run(&["group", "add", "ice-lab", "bob", "king"]).expect_err("no role").contains("king"));
    assert_eq!(run(&["group", "members", "ice-lab"]).expect("a list").lines().count(), 3);
    let alone = run(&["group", "remove", "ice-lab", "ada"]).expect_err("one must own it");
    assert!(alone.contains("a group needs an owner"), "{alone}");
    assert!(!run(&["group", "remove", "ice-lab", "bob"]).expect("members").contains("bob"));
    let project =
        run(&["project", "create", "Cores", "--namespace", "ice-lab"]).expect("a project of the group");
    assert!(project.contains("ice-lab") && project.contains("cores"), "{project}");
    assert!(run(&["group", "delete", "ice-lab"]).is_err(), "it owns a project");
    run(&["project", "delete", "ice-lab/cores"]).expect("deletes it");
    run(&["group", "delete", "ice-lab"]).expect("deletes it");
    assert_eq!(run(&["group", "list", "--all"]).as_deref(), Ok("none"));

    run(&["project", "create", "Ice"]).expect("a project");
    let row = |text: String, name: &str| {
        let row = text.lines().find(|row| row.starts_with(name)).map(str::to_owned);
        row.unwrap_or_else(|| panic!("no {name} in {text}")).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let limits = |more: &[&str]| run(&[&["project", "limits", "ada/ice"], more].concat());
    assert_eq!(row(limits(&[]).expect("limits"), "builds per hour"), "builds per hour 7 0 all");
    assert!(limits(&["--memory", "2G"]).expect_err("no administrator").contains("only administrators may"));
    server.admin(&["make-admin", "ada"], "");
    let said = limits(&["--memory", "2G", "--replicas", "3"]).expect("said");
    assert_eq!(row(said.clone(), "memory"), "memory 2048 MiB 0 MiB this project");
    assert_eq!(row(said, "replicas"), "replicas 3 0 this project");
    assert_eq!(row(limits(&["--memory", "default"]).expect("said"), "memory"), "memory any 0 MiB all");
    assert!(limits(&["--memory", "much"]).expect_err("no size").contains("`much` is no size"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_replaces_the_key_that_signs_visitors_while_the_server_runs() {
    let server = Server::start(&[]).await;
    let url = format!("{}/.well-known/jwks.json", server.url);
    let ids = async || {
        let keys: Value = crate::harness::fetch_afresh(&url).await;
        let keys = keys["keys"].as_array().expect("keys").iter();
        keys.map(|key| key["kid"].as_str().expect("an id").to_owned()).collect::<Vec<_>>()
    };
    let before = ids().await;
    assert_eq!(before.len(), 1);
    server.admin(&["rotate-identity-keys"], "");
    let after = wait_for("the new key to be published", || async {
        let ids = ids().await;
        (ids.len() == 2).then_some(ids)
    })
    .await;
    assert!(after.contains(&before[0]), "the older one stays while its tokens live");
}
