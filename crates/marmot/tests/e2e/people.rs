//! People managed on the data directory, beside the server that runs on it.

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::harness::Server;

#[tokio::test]
async fn an_operator_manages_people_while_the_server_runs() {
    let server = Server::start(&[]).await;
    let ada = server.user("ada").await;
    let status = async |method: Method, path: &str| {
        let url = format!("{}/api/data{path}", server.url);
        let token = ada.token.clone().expect("a token");
        reqwest::Client::new().request(method, url).bearer_auth(token).send().await.expect("answer").status()
    };
    assert_eq!(status(Method::GET, "/user").await, StatusCode::OK);
    assert_eq!(status(Method::GET, "/users").await, StatusCode::FORBIDDEN);
    server.admin(&["make-admin", "ada"], "");
    assert_eq!(status(Method::GET, "/users").await, StatusCode::OK);

    // A link on the last line leads to the server, and works once.
    server.admin(&["create-user", "grace"], "");
    let link = server.admin(&["password-link", "grace"], "");
    let client =
        reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
    let path = link.split_once("/password/").expect("a link").1;
    let link = format!("{}/password/{path}", server.url);
    let post = async || {
        let request =
            client.post(&link).header("origin", &server.url).header("sec-fetch-site", "same-origin");
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        request.body("password=correct+horse+battery").send().await.expect("answer").status()
    };
    assert_eq!(post().await, StatusCode::SEE_OTHER);
    assert_eq!(post().await, StatusCode::NOT_FOUND);

    // Disabled from another process: out at once.
    server.admin(&["make-admin", "grace"], "");
    server.admin(&["disable", "ada"], "");
    assert_eq!(status(Method::GET, "/user").await, StatusCode::UNAUTHORIZED);
    server.admin(&["enable", "ada"], "");
    server.admin(&["delete-user", "ada"], "");
    let token = server.admin(&["create-token", "grace"], "");
    let audit =
        reqwest::Client::new().get(format!("{}/api/data/audit?per_page=100", server.url)).bearer_auth(token);
    let deeds: serde_json::Value = audit.send().await.expect("answer").json().await.expect("JSON");
    let deeds = deeds.as_array().expect("a list");
    assert!(deeds.iter().any(|deed| {
        deed["action"] == json!("user.deleted")
            && deed["via"] == json!("cli")
            && deed["actor"] == json!("operator")
    }));
}
