//! The life of an app over the API: build, serve, sleep, wake, share, read, shut down.

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::harness::{Repository, Server, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn a_model_endpoint_is_built_answers_sleeps_and_wakes_for_a_hundred_at_once() {
    let server = Server::start(&["--idle-after", "2s", "--stop-after", "4s"]).await;
    let ada = server.user("ada").await;
    let repository = Repository::example("fastapi-predict");
    let launcher = ada.launcher("predict", &repository).await;
    let app = ada.activate(&launcher, "running").await;
    let predict = format!("{}/predict", app.url().await);
    let flower = json!({ "sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2 });
    let ask = || async {
        let answer = ada.client.post(&predict).json(&flower).send().await.expect("an answer");
        (answer.status(), answer.text().await.expect("a body"))
    };
    let (status, awake) = ask().await;
    assert_eq!(status, 200, "{awake}");
    assert!(awake.contains("setosa"), "{awake}");

    let view = app.wait_for_phase("asleep").await;
    assert_eq!((&view["status"], &view["asleep_depth"]), (&json!("ready"), &json!("hibernated")), "{view:#}");
    assert_eq!(ask().await, (StatusCode::OK, awake.clone()));

    // Down to nothing: the next hundred at once start one replica, and all get their answer.
    wait_for("the app to be stopped", || async {
        let view = app.view().await;
        (view["asleep_depth"] == "stopped").then_some(())
    })
    .await;
    wait_for("its processes to end", || async { server.processes_of(&app.name).is_empty().then_some(()) })
        .await;
    let answers = join_all((0..100).map(|_| ask())).await;
    assert!(answers.iter().all(|answer| *answer == (StatusCode::OK, awake.clone())), "{answers:?}");
    let replicas = app.view().await["replicas"].as_array().expect("a list").len();
    assert_eq!(replicas, 1);

    app.wait_for_line("POST /predict").await;

    app.shut_down().await;
    let url = predict.trim_end_matches("/predict");
    let off = ada.client.get(url).header("accept", "text/html").send().await.expect("an answer");
    assert_eq!(off.status(), 404);
    assert!(off.text().await.expect("a body").contains("switched off"));
    wait_for("its processes to end", || async { server.processes_of(&app.name).is_empty().then_some(()) })
        .await;
    let (status, _) = ada.send(Method::GET, &format!("/apps/{}", app.name), None).await;
    assert_eq!(status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_gets_its_environment_and_nothing_of_the_servers() {
    let server = Server::start(&[]).await;
    let ada = server.user("ada").await;
    let repository = Repository::probe();
    let launcher = ada.launcher("probe", &repository).await;
    let app = ada.activate(&launcher, "running").await;

    let environment = app.fetch_json("/environment").await;
    assert_eq!(environment["PORT"], environment["RENKU_SESSION_PORT"]);
    assert_eq!(environment["RENKU_SESSION_IP"], "0.0.0.0");
    assert_eq!(environment["MARMOT_APP_NAME"], app.name.as_str());
    assert_eq!(
        environment["MARMOT_APP_URL"].as_str().map(|url| url.trim_end_matches('/')),
        Some(&*app.url().await)
    );
    assert_eq!(environment.get("CARGO_MANIFEST_DIR"), None);

    let url = format!("{}/headers", app.url().await);
    let request = ada.client.get(url).header("x-forwarded-for", "9.9.9.9").header("x-marmot-user", "root");
    let headers: serde_json::Value = request.send().await.expect("an answer").json().await.expect("JSON");
    let header = |name: &str| {
        headers
            .as_object()
            .and_then(|all| all.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)))
            .map(|(_, v)| v.clone())
    };
    assert_eq!(header("x-forwarded-for"), Some(json!("127.0.0.1")));
    assert_eq!(header("x-forwarded-proto"), Some(json!("http")));
    assert_eq!(header("x-marmot-user"), None);
    assert!(header("x-request-id").is_some(), "{headers}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_build_of_unchanged_dependencies_reuses_them() {
    let server = Server::start(&[]).await;
    let ada = server.user("ada").await;
    let repository = Repository::of(&[
        ("app.py", crate::harness::PROBE),
        ("requirements.txt", "six==1.16.0\n"),
        ("Procfile", "web: python app.py\n"),
    ]);
    let launcher = ada.launcher("twice", &repository).await;
    let environment = launcher["environment"]["id"].as_str().expect("an id").to_owned();
    let build = || async {
        let build = ada.post(&format!("/environments/{environment}/builds"), json!({})).await;
        let id = build["id"].as_str().expect("an id").to_owned();
        wait_for("the build", || async {
            let build = ada.get(&format!("/builds/{id}")).await;
            assert_ne!(build["status"], "failed", "{build:#}");
            (build["status"] == "succeeded").then_some(())
        })
        .await;
        ada.get(&format!("/builds/{id}/logs")).await.to_string()
    };
    let first = build().await;
    let second = build().await;
    assert!(!first.contains("re-used"), "{first}");
    assert!(second.contains("re-used"), "{second}");
}
