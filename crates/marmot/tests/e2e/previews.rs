//! A preview of a branch through the gateway: beside the app, at an address of its own, until it ends; and an app that
//! follows its branch without a webhook.

use reqwest::Method;
use serde_json::json;

use crate::harness::{Repository, Server, wait_for};

fn git(repository: &Repository, arguments: &[&str]) {
    let own = ["-c", "user.name=Test", "-c", "user.email=test@example.org"];
    let mut git = std::process::Command::new("git");
    let done = git.args(own).args(arguments).current_dir(repository.path()).status();
    assert!(done.expect("git").success(), "git {arguments:?}");
}

fn commit(repository: &Repository, text: &str) {
    std::fs::write(repository.path().join("index.html"), text).expect("file");
    git(repository, &["commit", "--quiet", "--all", "--message", "Go on"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_serves_its_branch_beside_the_app_follows_it_and_leaves_nothing() {
    let server = Server::start(&[]).await;
    let ada = server.user("ada").await;
    let repository = Repository::of(&[("index.html", "of main")]);
    git(&repository, &["checkout", "--quiet", "-b", "feature/map"]);
    commit(&repository, "of the branch");
    git(&repository, &["checkout", "--quiet", "main"]);
    let launcher = ada.launcher("site", &repository).await;
    let app = ada.activate(&launcher, "running").await;
    let id = launcher["id"].as_str().expect("an id");

    let path = format!("/session_launchers/{id}/previews");
    let preview = ada.post(&path, json!({"branch": "feature/map"})).await;
    let url = preview["url"].as_str().expect("a url").to_owned();
    assert!(url.contains("://site-feature-map.localhost"), "{url}");
    let shows = async |url: &str, text: &str| {
        wait_for(text, || async {
            let answer = ada.client.get(url).send().await.expect("an answer");
            (answer.status() == 200 && answer.text().await.expect("a body") == text).then_some(())
        })
        .await;
    };
    shows(&url, "of the branch").await;
    assert_eq!(app.fetch("/").await.1, "of main");

    // Both follow their branches, once somebody says so.
    let following = format!("/session_launchers/{id}/following");
    let (status, _) = ada.send(Method::PATCH, &following, Some(&json!({"poll_minutes": 1}))).await;
    assert_eq!(status, 200);
    let first = wait_for("the branch to be looked at", || async {
        let told = ada.get(&following).await;
        assert!(told["error"].is_null(), "{told:#}");
        told["commit"].as_str().map(str::to_owned)
    })
    .await;
    commit(&repository, "of main, again");
    let off = json!({"poll_minutes": null});
    let (status, _) = ada.send(Method::PATCH, &following, Some(&off)).await;
    assert_eq!(status, 200);
    // Saying it anew is a reason to look at once.
    let (status, _) = ada.send(Method::PATCH, &following, Some(&json!({"poll_minutes": 5}))).await;
    assert_eq!(status, 200);
    shows(&app.url().await, "of main, again").await;
    assert_ne!(ada.get(&following).await["commit"], first.as_str());

    let preview = format!("{path}/{}", preview["id"].as_str().expect("an id"));
    let (status, _) = ada.send(Method::DELETE, &preview, None).await;
    assert_eq!(status, 204);
    let gone = ada.client.get(&url).header("accept", "text/html").send().await.expect("an answer");
    assert_eq!(gone.status(), 404);
    wait_for("its processes to end", || async {
        server.processes_of("site-feature-map").is_empty().then_some(())
    })
    .await;
    assert_eq!(app.fetch("/").await.1, "of main, again");
}
