//! Bad input: each is refused in words that name what was given and what to do.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Api, Repository, Server, wait_for};

fn message(answer: &Value) -> String {
    let error = &answer["error"];
    assert!(error["code"].is_u64() && error["trace_id"].is_string(), "not the error shape: {answer}");
    format!(
        "{} {}",
        error["message"].as_str().unwrap_or_default(),
        error["detail"].as_str().unwrap_or_default()
    )
}

/// Why an app of these files fails, with the last lines of its log.
async fn reason_of_failure(api: &Api, name: &str, files: &[(&str, &str)]) -> String {
    let repository = Repository::of(files);
    let launcher = api.launcher(name, &repository).await;
    let view = api.activate(&launcher, "failed").await.view().await;
    format!("{} {}", view["reason"].as_str().expect("a reason"), view["last_lines"])
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_cannot_run_says_why() {
    let server = Server::start(&["--start-timeout", "3s"]).await;
    let ada = server.user("ada").await;

    let nothing = reason_of_failure(&ada, "nothing", &[("notes.txt", "no app here\n")]).await;
    assert!(nothing.contains("Procfile"), "{nothing}");

    let exits = reason_of_failure(
        &ada,
        "exits",
        &[
            ("Procfile", "web: sh -c 'echo the licence server is away >&2; exit 3'\n"),
            ("requirements.txt", ""),
        ],
    )
    .await;
    assert!(exits.contains("exited with code 3") && exits.contains("the licence server is away"), "{exits}");

    let deaf =
        reason_of_failure(&ada, "deaf", &[("Procfile", "web: sleep 600\n"), ("requirements.txt", "")]).await;
    assert!(deaf.contains("did not listen on port") && deaf.contains("no port at all"), "{deaf}");

    let wrong = reason_of_failure(
        &ada,
        "wrong",
        &[("Procfile", "web: python3 -m http.server 18501 --bind 127.0.0.1\n"), ("requirements.txt", "")],
    )
    .await;
    assert!(wrong.contains("did not listen on port") && wrong.contains("18501"), "{wrong}");
    wait_for("nothing to be left", || async { server.processes_of("wrong").is_empty().then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_repository_fails_the_build_at_the_step_that_fetches_it() {
    let server = Server::start(&[]).await;
    let ada = server.user("ada").await;
    let gone = Repository::of(&[("a", "b")]);
    let launcher = ada.launcher("gone", &gone).await;
    drop(gone);
    let app = ada.activate(&launcher, "failed").await;
    let view = app.view().await;
    assert_eq!(view["status"], "failed");
    let environment = launcher["environment"]["id"].as_str().expect("an id");
    let builds = ada.get(&format!("/environments/{environment}/builds")).await;
    let reason = builds[0]["error_reason"].as_str().expect("a reason").to_lowercase();
    assert!(reason.contains("fetching the code") && reason.contains("not found"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_makes_no_sense_is_refused_in_words() {
    let server = Server::start(&[]).await;
    let ada = server.user("ada").await;
    let (bob, nobody) = (server.user("bob").await, server.anonymous());
    let repository = Repository::probe();
    let launcher = ada.launcher("probe", &repository).await;
    let project = launcher["project_id"].as_str().expect("an id").to_owned();
    let missing = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    let project_named = |slug: &str| json!({ "name": "X", "slug": slug, "namespace": "ada" });
    type Case<'a> = (&'a Api, Method, String, Option<Value>, StatusCode, &'static str);
    let cases: [Case<'_>; 10] = [
        (&ada, Method::GET, format!("/projects/{missing}"), None, StatusCode::NOT_FOUND, missing),
        (&ada, Method::GET, "/projects/../x".to_owned(), None, StatusCode::NOT_FOUND, ""),
        (
            &ada,
            Method::GET,
            "/session_launchers/nonsense".to_owned(),
            None,
            StatusCode::UNPROCESSABLE_ENTITY,
            "nonsense",
        ),
        (
            &ada,
            Method::POST,
            "/projects".to_owned(),
            Some(project_named("No Label")),
            StatusCode::UNPROCESSABLE_ENTITY,
            "No Label",
        ),
        (
            &ada,
            Method::POST,
            "/projects".to_owned(),
            Some(project_named("probe")),
            StatusCode::CONFLICT,
            "probe",
        ),
        (
            &ada,
            Method::POST,
            "/apps".to_owned(),
            Some(json!({ "launcher_id": missing })),
            StatusCode::NOT_FOUND,
            missing,
        ),
        (
            &nobody,
            Method::POST,
            "/projects".to_owned(),
            Some(project_named("mine")),
            StatusCode::UNAUTHORIZED,
            "",
        ),
        (
            &bob,
            Method::POST,
            "/apps".to_owned(),
            Some(json!({ "launcher_id": launcher["id"] })),
            StatusCode::FORBIDDEN,
            "",
        ),
        (&bob, Method::DELETE, format!("/projects/{project}"), None, StatusCode::FORBIDDEN, ""),
        (&ada, Method::PUT, "/projects".to_owned(), None, StatusCode::METHOD_NOT_ALLOWED, ""),
    ];
    for (who, method, path, body, expected, named) in cases {
        let (status, answer) = who.send(method.clone(), &path, body.as_ref()).await;
        assert_eq!(status, expected, "{method} {path}: {answer}");
        assert!(message(&answer).contains(named), "{method} {path}: {answer}");
    }

    let url = format!("{}/api/data/projects", server.url);
    let garbled = ada.client.post(&url).header("content-type", "application/json").body("{\"name\": ");
    let token = server.admin(&["create-token", "ada"], "");
    let answer = garbled.bearer_auth(token).send().await.expect("an answer");
    assert!(answer.status().is_client_error());
    message(&answer.json().await.expect("JSON"));
}

#[tokio::test(flavor = "multi_thread")]
async fn activating_twice_names_the_app_that_is_on() {
    let server = Server::start(&[]).await;
    let ada = server.user("ada").await;
    let repository = Repository::probe();
    let launcher = ada.launcher("once", &repository).await;
    let app = ada.activate(&launcher, "running").await;
    let again = json!({ "launcher_id": launcher["id"] });
    let (status, answer) = ada.send(Method::POST, "/apps", Some(&again)).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(message(&answer).contains(&app.name), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_host_is_told_so_as_page_and_as_document() {
    let server = Server::start(&[]).await;
    let port = server.url.rsplit(':').next().expect("a port").to_owned();
    for (host, accept) in
        [("nobody.localhost", "text/html"), ("nobody.localhost", "application/json"), ("evil.test", "*/*")]
    {
        let url = format!("http://{host}:{port}/");
        let answer =
            server.anonymous().client.get(url).header("accept", accept).send().await.expect("an answer");
        assert!([404, 421].contains(&answer.status().as_u16()), "{host}: {}", answer.status());
        let kind = answer.headers()["content-type"].to_str().expect("text").to_owned();
        assert_eq!(kind.starts_with("text/html"), accept == "text/html", "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_project_does_not_exist_for_others() {
    let server = Server::start(&[]).await;
    let (ada, bob) = (server.user("ada").await, server.user("bob").await);
    let project =
        ada.post("/projects", json!({ "name": "Secret", "slug": "secret", "namespace": "ada" })).await;
    assert_eq!(project["visibility"], "private");
    let path = format!("/projects/{}", project["id"].as_str().expect("an id"));
    assert_eq!(bob.send(Method::GET, &path, None).await.0, StatusCode::NOT_FOUND);
    assert_eq!(
        server.anonymous().send(Method::GET, "/namespaces/ada/projects/secret", None).await.0,
        StatusCode::NOT_FOUND
    );
    assert_eq!(bob.get("/projects").await, json!([]));
}
