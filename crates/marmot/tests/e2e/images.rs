//! The life of an app that is a container image, over the API and through the gateway, by a real Podman.

use std::path::PathBuf;
use std::process::Command;

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::buildpacks;
use crate::harness::{Api, App, Repository, Server, wait_for};
use crate::podman::{Podman, SERVE};

/// An image that serves this text, in the registry alone.
fn publish(podman: &Podman, name: &str, text: &str, login: Option<(&str, &str)>) {
    let serve = SERVE.replace("echo hello > index.html", &format!("echo {text} > index.html"));
    podman.image("localhost/made:1", &[("serve", &serve)], &["EXPOSE 8000", "CMD [\"/serve\"]"]);
    podman.push("localhost/made:1", name, login);
    podman.run(&["rmi", "--force", "localhost/made:1"]);
}

async fn server(podman: &Podman, settings: &[&str]) -> Server {
    let socket = podman.socket().display().to_string();
    let own = ["--container-engine", &socket, "--allow-private-networks"];
    Server::start(&[&own, settings].concat()).await
}

async fn launcher(ada: &Api, name: &str, environment: Value) -> Value {
    let user = ada.get("/user").await;
    let project =
        json!({ "name": name, "slug": name, "namespace": user["username"], "visibility": "public" });
    let project = ada.post("/projects", project).await;
    let launcher = json!({
        "name": name, "project_id": project["id"], "launcher_type": "app", "environment": environment,
    });
    ada.post("/session_launchers", launcher).await
}

fn of_image(image: &str) -> Value {
    json!({ "environment_kind": "CUSTOM", "environment_image_source": "image", "container_image": image })
}

/// Waits until the app's address says this.
async fn until_it_says(app: &App, text: &str) {
    wait_for(&format!("{} to say {text}", app.name), || async {
        let (status, said) = app.fetch("/").await;
        (status == StatusCode::OK && said.trim() == text).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_pulled_serves_sleeps_wakes_is_pulled_anew_and_leaves_nothing() {
    let Some(mut podman) = Podman::start() else { return };
    let image = format!("{}/lab/hello:1", podman.registry(None));
    publish(&podman, &image, "one", None);
    let mut server = server(&podman, &["--idle-after", "1s", "--stop-after", "3s"]).await;
    let ada = server.user("ada").await;
    let launcher = launcher(&ada, "hello", of_image(&image)).await;
    let app = ada.activate(&launcher, "running").await;
    let first = app.view().await["image"].as_str().expect("an image").to_owned();
    assert!(first.starts_with(&format!("{image}@sha256:")), "{first}");
    assert_eq!(app.fetch("/").await, (StatusCode::OK, "one\n".to_owned()));
    let environment = app.fetch("/cgi-bin/env").await.1;
    assert!(environment.contains("MARMOT_APP_NAME=hello\n"), "{environment}");

    let view = app.wait_for_phase("asleep").await;
    assert_eq!(view["asleep_depth"], "hibernated", "{view:#}");
    assert_eq!(app.fetch("/").await.1, "one\n");

    // The tag moves; the app, stopped and started anew, does not.
    publish(&podman, &image, "two", None);
    wait_for("the app to be stopped", || async {
        (app.view().await["asleep_depth"] == "stopped").then_some(())
    })
    .await;
    wait_for("its container to be gone", || async { podman.containers().is_empty().then_some(()) }).await;
    let answers = join_all((0..20).map(|_| app.fetch("/"))).await;
    assert!(answers.iter().all(|answer| answer.1 == "one\n"), "{answers:?}");

    // Found again by the next server.
    server.kill().await;
    server.restart().await;
    assert_eq!(app.fetch("/").await.1, "one\n");

    let environment = launcher["environment"]["id"].as_str().expect("an id");
    ada.post(&format!("/environments/{environment}/builds"), json!({})).await;
    until_it_says(&app, "two").await;
    let revisions = ada.get(&format!("/apps/{}/revisions", app.name)).await;
    let revisions = revisions.as_array().expect("a list");
    assert_eq!(revisions.len(), 2, "{revisions:#?}");
    let oldest = revisions.iter().find(|revision| revision["number"] == 1).expect("the first");
    let path = format!("/apps/{}/revisions/{}/activate", app.name, oldest["id"].as_str().expect("an id"));
    ada.post(&path, json!({})).await;
    until_it_says(&app, "one").await;

    app.wait_for_line("listening on 8000 as 20000").await;
    let url = app.url().await;
    app.shut_down().await;
    wait_for("its containers to be gone", || async { podman.containers().is_empty().then_some(()) }).await;
    assert_eq!(ada.client.get(url).send().await.expect("an answer").status(), 404);
    wait_for("nothing to be left", || async { server.leftovers().is_empty().then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_image_needs_the_projects_credentials_and_a_dockerfile_builds_as_it_says() {
    let Some(mut podman) = Podman::start() else { return };
    let login = ("ada", "open sesame");
    let registry = podman.registry(Some(login));
    let image = format!("{registry}/private:1");
    publish(&podman, &image, "private", Some(login));
    let server = server(&podman, &[]).await;
    let ada = server.user("ada").await;
    let launcher = launcher(&ada, "private", of_image(&image)).await;
    let app = ada.activate(&launcher, "failed").await;
    let reason = app.view().await["reason"].to_string();
    assert!(reason.contains("does not give out") && reason.contains("credentials"), "{reason}");
    let project = launcher["project_id"].as_str().expect("an id");
    let credential = json!({ "kind": "registry", "host": registry, "username": login.0, "secret": login.1 });
    let (status, answer) =
        ada.send(Method::POST, &format!("/projects/{project}/credentials"), Some(&credential)).await;
    assert!(status.is_success(), "{answer}");
    let environment = launcher["environment"]["id"].as_str().expect("an id");
    ada.post(&format!("/environments/{environment}/builds"), json!({})).await;
    app.wait_for_phase("running").await;
    assert_eq!(app.fetch("/").await.1, "private\n");
    app.shut_down().await;

    let dockerfile = format!("FROM {image}\nUSER root\nRUN sed s/private/built/ -i /serve\n");
    let repository = Repository::of(&[("Dockerfile", &dockerfile)]);
    let environment = json!({
        "environment_image_source": "build", "repository": repository.url(), "builder_variant": "dockerfile",
    });
    let made = json!({
        "name": "built", "project_id": project, "launcher_type": "app", "environment": environment,
    });
    let launcher = ada.post("/session_launchers", made).await;
    let app = ada.activate(&launcher, "running").await;
    assert_eq!(app.fetch("/").await.1, "built\n");
    let build = ada
        .get(&format!("/environments/{}/builds", launcher["environment"]["id"].as_str().expect("an id")))
        .await;
    let id = build[0]["id"].as_str().expect("an id");
    let log = ada.get(&format!("/builds/{id}/logs")).await.to_string();
    assert!(log.contains("RUN sed s/private/built/") && !log.contains("open sesame"), "{log}");
    app.shut_down().await;
    wait_for("its containers to be gone", || async { podman.containers().is_empty().then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn buildpacks_build_an_app_that_listens_where_it_is_told_and_can_be_started_in_another_way() {
    let Some(mut podman) = Podman::start() else { return };
    let registry = podman.registry(None);
    let made = buildpacks::publish(&podman, &registry);
    let repository = Repository::of(&[("site.conf", "")]);
    let environment_of = |repository: &Repository| {
        json!({
            "environment_image_source": "build", "repository": repository.url(), "builder_variant": "buildpacks",
        })
    };
    let none = server(&podman, &[]).await;
    let ada = none.user("ada").await;
    let user = ada.get("/user").await;
    let project = json!({ "name": "x", "slug": "x", "namespace": user["username"], "visibility": "public" });
    let project = ada.post("/projects", project).await;
    let wish = json!({
        "name": "x", "project_id": project["id"], "launcher_type": "app", "environment": environment_of(&repository),
    });
    let (status, refused) = ada.send(Method::POST, "/session_launchers", Some(&wish)).await;
    assert!(!status.is_success() && refused.to_string().contains("buildpacks_builder"), "{refused}");

    let server = server(&podman, &["--buildpacks-builder", &made.builder]).await;
    let ada = server.user("ada").await;
    let launcher = launcher(&ada, "site", environment_of(&repository)).await;
    let id = launcher["id"].as_str().expect("an id").to_owned();
    let variables = json!({ "env_variables": [{ "name": "GREETING", "value": "buildpacks" }] });
    let change = async |change: Value| {
        let (status, answer) =
            ada.send(Method::PATCH, &format!("/session_launchers/{id}"), Some(&change)).await;
        assert!(status.is_success(), "{answer}");
    };
    change(variables).await;
    let app = ada.activate(&launcher, "running").await;
    assert_eq!(app.fetch("/").await, (StatusCode::OK, "hello of buildpacks, yes\n".to_owned()));
    let environment = app.fetch("/cgi-bin/env").await.1;
    assert!(environment.contains("PORT=8080\n"), "{environment}");
    let build = ada
        .get(&format!("/environments/{}/builds", launcher["environment"]["id"].as_str().expect("an id")))
        .await;
    let log = ada.get(&format!("/builds/{}/logs", build[0]["id"].as_str().expect("an id"))).await.to_string();
    assert!(log.contains("===> BUILDING") && log.contains("greeting: buildpacks"), "{log}");

    // A command of the launcher's finds what the buildpacks put there.
    let mut environment = environment_of(&repository);
    environment["command"] = json!(["sh", "-c", "GREETING=me exec tool"]);
    environment["port"] = json!(9000);
    let command = json!({ "environment": environment });
    change(command).await;
    until_it_says(&app, "hello of me, yes").await;
    app.shut_down().await;
    wait_for("its containers to be gone", || async { podman.containers().is_empty().then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_and_containers_live_side_by_side_and_are_asked_for_in_the_same_way() {
    let Some(mut podman) = Podman::start() else { return };
    let image = format!("{}/lab/hello:1", podman.registry(None));
    publish(&podman, &image, "contained", None);
    let server = server(&podman, &["--idle-after", "1s", "--stop-after", "10m"]).await;
    let ada = server.user("ada").await;
    let repository = Repository::probe();
    let process = ada.launcher("process", &repository).await;
    let container = launcher(&ada, "container", of_image(&image)).await;
    let (process, container) =
        tokio::join!(ada.activate(&process, "running"), ada.activate(&container, "running"));
    assert_eq!(container.fetch("/").await, (StatusCode::OK, "contained\n".to_owned()));
    let born = process.fetch_json("/").await["born"].clone();

    // Whatever is asked of them is answered in the same form.
    let fields = |view: &Value| view.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(fields(&process.view().await), fields(&container.view().await));
    let replica = |view: &Value| fields(&view["replicas"][0]);
    assert_eq!(replica(&process.view().await), replica(&container.view().await));
    assert_eq!(ada.get("/apps").await.as_array().map(Vec::len), Some(2));
    for (app, line) in [(&process, "probe: ready"), (&container, "listening on 8000")] {
        app.wait_for_line(line).await;
    }

    for app in [&process, &container] {
        let view = app.wait_for_phase("asleep").await;
        assert_eq!(view["asleep_depth"], "hibernated", "{view:#}");
    }
    assert_eq!(container.fetch("/").await.1, "contained\n");
    assert_eq!(process.fetch_json("/").await["born"], born, "it woke as it was");
    // The engine's end is nothing to processes, nor to a container that runs.
    podman.end();
    assert_eq!(process.fetch_json("/").await["born"], born);
    assert_eq!(container.fetch("/").await.1, "contained\n");
    podman.begin();
    container.shut_down().await;
    assert_eq!(process.fetch_json("/").await["born"], born);
    process.shut_down().await;
    wait_for("its containers to be gone", || async { podman.containers().is_empty().then_some(()) }).await;
    wait_for("nothing to be left", || async { server.leftovers().is_empty().then_some(()) }).await;
}

/// The libraries that Marmot itself needs, which serves static sites.
fn libraries() -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(env!("CARGO_BIN_EXE_marmot")).output().expect("ldd");
    let said = String::from_utf8(output.stdout).expect("text");
    said.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_without_a_dockerfile_becomes_an_image_which_the_registry_is_given_and_which_runs_here() {
    let Some(mut podman) = Podman::start() else { return };
    let registry = podman.registry(None);
    podman.image_with("localhost/base:1", &[], &libraries(), &[]);
    let to = format!("{registry}/{{namespace}}/{{project}}/{{app}}:{{build}}");
    let local = ["--base-image", "localhost/base:1", "--local-images", "localhost/base"];
    let server = server(&podman, &[&local[..], &["--push-images-to", &to]].concat()).await;
    let ada = server.user("ada").await;
    let repository = Repository::of(&[("index.html", "a site")]);
    let environment = json!({
        "environment_image_source": "build", "repository": repository.url(), "builder_variant": "static",
        "as_image": true,
    });
    let launcher = launcher(&ada, "site", environment).await;
    assert_eq!(launcher["environment"]["as_image"], true, "{launcher:#}");
    let app = ada.activate(&launcher, "running").await;
    assert_eq!(app.fetch("/").await, (StatusCode::OK, "a site".to_owned()));
    assert_eq!(podman.containers().len(), 1, "it runs as a container");
    let environment = launcher["environment"]["id"].as_str().expect("an id");
    let builds = ada.get(&format!("/environments/{environment}/builds")).await;
    let image = builds[0]["result"]["image"].as_str().expect("an image");
    assert!(image.starts_with(&format!("{registry}/ada/site/site@sha256:")), "{image}");
    // Whoever has the registry has the app.
    podman.run(&["pull", "--quiet", image]);

    app.shut_down().await;
    wait_for("its containers to be gone", || async { podman.containers().is_empty().then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_engine_is_away_or_hangs_who_is_awake_is_served_and_who_is_not_waits_and_is_told() {
    let Some(mut podman) = Podman::start() else { return };
    let images = ["one", "two"].map(|text| {
        let serve = SERVE.replace("echo hello > index.html", &format!("echo {text} > index.html"));
        let name = format!("localhost/{text}:1");
        podman.image(&name, &[("serve", &serve)], &["EXPOSE 8000", "CMD [\"/serve\"]"]);
        name
    });
    let registry = podman.registry(None);
    let images = images.map(|image| {
        let name = image.replace("localhost", &registry);
        podman.push(&image, &name, None);
        name
    });
    let quick =
        ["--idle-after", "1s", "--stop-after", "1s", "--start-timeout", "3s", "--wake-timeout", "13s"];
    let server = server(&podman, &quick).await;
    let ada = server.user("ada").await;
    let awake = ada.activate(&launcher(&ada, "one", of_image(&images[0])).await, "running").await;
    let stopped = ada.activate(&launcher(&ada, "two", of_image(&images[1])).await, "running").await;
    ada.send(Method::PUT, &format!("/apps/{}/scaling", awake.name), Some(&json!({ "min_replicas": 1 })))
        .await;
    wait_for("the other to be stopped", || async {
        (stopped.view().await["asleep_depth"] == "stopped").then_some(())
    })
    .await;
    wait_for("the first to be awake", || async {
        (awake.fetch("/").await.1 == "one\n" && awake.view().await["phase"] == "running").then_some(())
    })
    .await;

    // It hangs: the wait ends, in words; when it goes on, nobody needs to do anything.
    podman.hang();
    let (served, waited) = tokio::join!(awake.fetch("/"), stopped.fetch("/"));
    assert_eq!(served.1, "one\n");
    assert!([StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT].contains(&waited.0), "{waited:?}");
    assert_eq!(awake.fetch("/").await.1, "one\n");
    podman.resume();
    until_it_says(&stopped, "two").await;

    // It is gone: who waits is served when it is there again.
    wait_for("the other to be stopped", || async {
        (stopped.view().await["asleep_depth"] == "stopped").then_some(())
    })
    .await;
    podman.end();
    let asking = {
        let url = stopped.url().await;
        let client = ada.client.clone();
        tokio::spawn(async move { client.get(url).send().await.expect("an answer").text().await })
    };
    wait_for("the reason", || async {
        stopped.view().await["reason"].as_str()?.contains("does not answer").then_some(())
    })
    .await;
    assert_eq!(awake.fetch("/").await.1, "one\n");
    podman.begin();
    assert_eq!(asking.await.expect("it ends").expect("an answer"), "two\n");
    for app in [awake, stopped] {
        app.shut_down().await;
    }
    wait_for("their containers to be gone", || async { podman.containers().is_empty().then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_container_engine_the_api_and_the_command_line_say_so() {
    let server = Server::start(&["--container-engine", "none"]).await;
    let ada = server.user("ada").await;
    let project = json!({ "name": "p", "slug": "p", "namespace": "ada", "visibility": "public" });
    let project = ada.post("/projects", project).await;
    let launcher = json!({
        "name": "model", "project_id": project["id"], "launcher_type": "app",
        "environment": of_image("ghcr.io/o/a:1"),
    });
    let (status, answer) = ada.send(Method::POST, "/session_launchers", Some(&launcher)).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
    let said = "this installation has no container engine";
    assert!(answer.to_string().contains(said), "{answer}");
    let cli = std::process::Command::new(env!("CARGO_BIN_EXE_marmot"))
        .args(["launcher", "create", "ada/p", "model", "--image", "ghcr.io/o/a:1"])
        .env("MARMOT_URL", &server.url)
        .env("MARMOT_TOKEN", ada.token.as_ref().expect("a token"))
        .output()
        .expect("the command line");
    let told = String::from_utf8_lossy(&cli.stderr);
    assert!(!cli.status.success() && told.contains(said), "{told}");

    // Code that only a container image can be made of says so when it is built.
    let repository = Repository::of(&[("Dockerfile", "FROM scratch\n")]);
    let launcher = ada.launcher("dockerfile", &repository).await;
    let app = ada.activate(&launcher, "failed").await;
    let reason = app.view().await["reason"].to_string();
    assert!(reason.contains("this server has no container engine to make it"), "{reason}");
}
