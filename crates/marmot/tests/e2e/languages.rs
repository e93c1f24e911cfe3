//! Apps in each language and framework, as people push them: built, started, and opened through the gateway.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::frameworks::{FEW, Framework, LARGE, Live, R};
use crate::harness::{Api, App, Repository, Server, wait_within};

/// How long a framework may take to be downloaded, installed and started, beside others.
const LIMIT: Duration = Duration::from_secs(900);

/// Builds an app, opens it through the gateway, and asks for what makes it more than a page.
async fn opens(ada: Api, framework: &'static Framework) {
    let repository = Repository::of(framework.files);
    let launcher = ada.launcher(framework.name, &repository).await;
    let made = ada.post("/apps", json!({ "launcher_id": launcher["id"] })).await;
    let app = ada.app(made["name"].as_str().expect("a name"));
    wait_within(LIMIT, framework.name, || async {
        let view = app.view().await;
        assert_ne!(view["phase"], "failed", "{view:#}\n{}", said(&ada, &launcher, &app).await);
        (view["phase"] == "running").then_some(())
    })
    .await;
    let (status, page) = app.fetch(framework.page).await;
    let log = said(&ada, &launcher, &app).await;
    assert_eq!(status, StatusCode::OK, "{page}\n{log}");
    assert!(page.contains(framework.shows), "no {} in {page}\n{log}", framework.shows);
    lives(&ada, &app, &page, &framework.live).await;
    app.shut_down().await;
}

/// What the last build and the app said.
async fn said(ada: &Api, launcher: &Value, app: &App) -> String {
    let environment = launcher["environment"]["id"].as_str().expect("an id");
    let builds = ada.get(&format!("/environments/{environment}/builds")).await;
    let build = builds[0]["id"].as_str().expect("a build");
    let build = ada.get(&format!("/builds/{build}/logs")).await;
    format!("{build:#}\n{:#}", ada.get(&format!("/apps/{}/logs", app.name)).await)
}

async fn lives(ada: &Api, app: &App, page: &str, live: &Live) {
    match live {
        Live::Page => {}
        Live::Answers(path, says) => {
            let (status, answer) = app.fetch(path).await;
            assert_eq!(status, StatusCode::OK, "{path}: {answer}");
            assert!(answer.contains(says), "no {says} in {answer}");
        }
        Live::Event { path, body, says } => {
            let asked = ada.client.post(format!("{}{path}", app.url().await));
            let asked = asked.header("content-type", "application/json").body(*body);
            let event = asked.send().await.expect("an answer").text().await.expect("a body");
            let event: Value = serde_json::from_str(&event).unwrap_or_else(|_| panic!("no JSON: {event}"));
            let event = event["event_id"].as_str().unwrap_or_else(|| panic!("no event: {event}")).to_owned();
            let (status, answer) = app.fetch(&format!("{path}/{event}")).await;
            assert_eq!(status, StatusCode::OK, "{answer}");
            assert!(answer.contains(says), "no {says} in {answer}");
        }
        Live::Socket { path, protocols, taken, says } => {
            let found = page.split_once(taken).and_then(|(_, rest)| rest.split('"').next());
            let found = found.unwrap_or_else(|| panic!("no {taken} in {page}"));
            let [path, protocols] = [path, protocols].map(|text| text.replace("{}", found));
            converses(&app.url().await, &path, &protocols, says).await;
        }
    }
}

/// Opens a WebSocket as the app's own page does, and waits until the app says this.
async fn converses(url: &str, path: &str, protocols: &str, says: &str) {
    let address = format!("{}{path}", url.replace("http://", "ws://"));
    let mut request = address.into_client_request().expect("a request");
    request.headers_mut().insert("origin", url.parse().expect("a header"));
    if !protocols.is_empty() {
        request.headers_mut().insert("sec-websocket-protocol", protocols.parse().expect("a header"));
    }
    let port: u16 = url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("connects");
    let (mut socket, answer) = tokio_tungstenite::client_async(request, stream)
        .await
        .unwrap_or_else(|error| panic!("{path}: {error:?}"));
    assert_eq!(answer.status().as_u16(), 101);
    if says.is_empty() {
        return;
    }
    let heard = async {
        while let Some(message) = socket.next().await {
            let message = message.expect("a message").into_data();
            if String::from_utf8_lossy(&message).contains(says) {
                return;
            }
        }
        panic!("{path}: closed before it said {says}");
    };
    tokio::time::timeout(LIMIT, heard).await.unwrap_or_else(|_| panic!("{path}: it never said {says}"));
}

/// Opens them all, some at a time, and says of each that fails why.
async fn all_open(frameworks: impl Iterator<Item = &'static Framework>, at_once: usize) {
    let server = Server::start(&["--replicas-on-stop", "stop"]).await;
    let ada = server.user("ada").await;
    let tried = frameworks.map(|framework| {
        let ada = ada.clone();
        async move { (framework.name, tokio::spawn(opens(ada, framework)).await) }
    });
    let ended: Vec<_> = stream::iter(tried).buffer_unordered(at_once).collect().await;
    let failed: Vec<_> =
        ended.iter().filter_map(|(name, end)| Some(format!("{name}: {}", end.as_ref().err()?))).collect();
    println!("{} of {} opened", ended.len() - failed.len(), ended.len());
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

fn has_r() -> bool {
    let said =
        std::process::Command::new("Rscript").args(["-e", "library(shiny); library(plumber)"]).output();
    let has = said.is_ok_and(|said| said.status.success());
    if !has {
        println!(
            "not R: this machine has no R, or no shiny and plumber for it (`cargo xtask setup` installs them)"
        );
    }
    has
}

#[tokio::test(flavor = "multi_thread")]
async fn apps_in_several_languages_are_opened_through_the_gateway() {
    all_open(FEW.iter().chain(R.iter().filter(|_| has_r())), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn apps_in_every_other_framework_are_opened_through_the_gateway() {
    let Ok(asked) = std::env::var("ALL_FRAMEWORKS") else {
        println!(
            "skipped: it downloads gigabytes; ALL_FRAMEWORKS=1 runs it, ALL_FRAMEWORKS=next,gradio these alone"
        );
        return;
    };
    let is_asked =
        |framework: &&Framework| asked == "1" || asked.split(',').any(|name| name == framework.name);
    all_open(LARGE.iter().filter(is_asked), 2).await;
}
