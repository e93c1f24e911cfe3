//! Who may open an app, from the API to the app itself: links, keys, and what the app is told.

use std::process::Stdio;
use std::time::Duration;

use futures_util::StreamExt as _;
use jiff::Timestamp;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::harness::{Api, App, Repository, Server, wait_for};

/// An app that says what it was told, and holds WebSockets open.
const APP: &str = r#"
import base64, hashlib, json, os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.headers.get("Upgrade"):
            digest = hashlib.sha1((self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode())
            self.send_response(101)
            self.send_header("Connection", "upgrade")
            self.send_header("Upgrade", "websocket")
            self.send_header("Sec-WebSocket-Accept", base64.b64encode(digest.digest()).decode())
            self.end_headers()
            self.rfile.read()
            return
        body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass

ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
"#;

async fn deploy(ada: &Api, name: &str) -> App {
    let repository =
        Repository::of(&[("app.py", APP), ("requirements.txt", ""), ("Procfile", "web: python3 app.py\n")]);
    let launcher = ada.launcher(name, &repository).await;
    ada.activate(&launcher, "running").await
}

/// The headers that the app got of a request with these.
async fn seen(ada: &Api, url: &str, headers: &[(&str, &str)]) -> (StatusCode, Value) {
    let request =
        headers.iter().fold(ada.client.get(url), |request, (name, value)| request.header(*name, *value));
    let answer = request.send().await.expect("an answer");
    let status = answer.status();
    (status, serde_json::from_str(&answer.text().await.expect("a body")).unwrap_or(Value::Null))
}

async fn open_to(ada: &Api, app: &App, to: &str) {
    let path = format!("/apps/{}/access", app.name);
    let (status, answer) = ada.send(Method::PUT, &path, Some(&json!({"open_to": to}))).await;
    assert_eq!(status, 200, "{answer}");
}

/// Waits until the server closes this WebSocket; the code that it says.
async fn closed(socket: &mut tokio_tungstenite::WebSocketStream<tokio::net::TcpStream>) -> u16 {
    use tokio_tungstenite::tungstenite::Message;
    let end = tokio::time::timeout(Duration::from_secs(60), socket.next()).await.expect("in time");
    let Some(Ok(Message::Close(Some(frame)))) = end else { panic!("{end:?}") };
    frame.code.into()
}

async fn websocket(url: &str, cookie: &str) -> tokio_tungstenite::WebSocketStream<tokio::net::TcpStream> {
    let mut request = url.replace("http://", "ws://").into_client_request().expect("a request");
    request.headers_mut().insert("cookie", cookie.parse().expect("a cookie"));
    let port: u16 = url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("connects");
    tokio_tungstenite::client_async(request, stream).await.expect("a WebSocket").0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_lets_its_bearer_in_until_it_is_revoked_and_nothing_stays_open() {
    let server = Server::start(&[]).await;
    let ada = server.user("ada").await;
    let app = deploy(&ada, "linked").await;
    let url = app.url().await;
    open_to(&ada, &app, "link").await;
    assert_eq!(seen(&ada, &url, &[]).await.0, 401, "who is nobody in particular is out at once");

    let links = format!("/apps/{}/share_links", app.name);
    let expires = Timestamp::now() + Duration::from_secs(3600);
    let link = ada.post(&links, json!({"name": "review", "expires_at": expires})).await;
    let visit = ada.client.get(link["url"].as_str().expect("an address")).send().await.expect("an answer");
    assert_eq!((visit.status().as_u16(), &visit.headers()["location"]), (302, &"/".parse().expect("a path")));
    let cookie = visit.headers()["set-cookie"].to_str().expect("text").split(';').next().expect("a cookie");
    let (status, told) = seen(&ada, &url, &[("cookie", cookie), ("x-marmot-user", "ada")]).await;
    assert_eq!(status, 200);
    assert_eq!(told["x-marmot-visitor"], "link");
    assert!(told.get("x-marmot-user").is_none() && told.get("cookie").is_none(), "{told}");
    wait_for("the use to be noted", || async {
        let listed = ada.get(&links).await;
        (listed[0]["uses"] == 1 && listed[0]["last_used_at"].is_string()).then_some(())
    })
    .await;

    let mut socket = websocket(&url, cookie).await;
    let path = format!("{links}/{}", link["id"].as_str().expect("an id"));
    assert_eq!(ada.send(Method::DELETE, &path, None).await.0, 204);
    assert_eq!(seen(&ada, &url, &[("cookie", cookie)]).await.0, 401, "the answer came when it was in force");
    assert_eq!(closed(&mut socket).await, 1008);
    app.shut_down().await;
    // What is said of an app stays while it is off.
    assert_eq!(ada.get(&format!("/apps/{}/access", app.name)).await["open_to"], "link");
}

/// Signs in on the platform as a person does, goes on to the app, and comes back with its cookie.
async fn sign_in(server: &Server, client: &reqwest::Client, name: &str, app: &str) -> String {
    let cookie = |answer: &reqwest::Response, name: &str| {
        let set = answer.headers().get_all("set-cookie").iter().filter_map(|cookie| cookie.to_str().ok());
        let mut pairs = set.filter_map(|cookie| cookie.split(';').next());
        pairs.find(|pair| pair.starts_with(&format!("{name}="))).expect("a cookie").to_owned()
    };
    let location = |answer: &reqwest::Response| {
        assert!(answer.status().is_redirection(), "{answer:?}");
        answer.headers()["location"].to_str().expect("text").to_owned()
    };
    let form = format!("username={name}&password=correct+horse+battery+staple&next=%2F");
    let signed_in = client
        .post(format!("{}/sign-in", server.url))
        .header("origin", &server.url)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form);
    let session = cookie(&signed_in.send().await.expect("an answer"), "marmot");
    let away = client.get(app).header("accept", "text/html").send().await.expect("an answer");
    let state = cookie(&away, "marmot_state");
    let back = client.get(location(&away)).header("cookie", session).send().await.expect("an answer");
    let home = client.get(location(&back)).header("cookie", state).send().await.expect("an answer");
    cookie(&home, "marmot_ticket")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_that_becomes_private_and_a_member_who_leaves_close_what_is_open() {
    let server = Server::start(&[]).await;
    let (ada, bob) = (server.user("ada").await, server.user("bob").await);
    let app = deploy(&ada, "public").await;
    let url = app.url().await;
    let project = app.view().await["project_id"].as_str().expect("an id").to_owned();
    let bobs_id = bob.get("/user").await["id"].clone();
    let members = format!("/projects/{project}/members");
    let change = async |role: Value| {
        let changes = json!([{"id": bobs_id, "role": role}]);
        let (status, answer) = ada.send(Method::PATCH, &members, Some(&changes)).await;
        assert_eq!(status, 200, "{answer}");
    };
    change(json!("viewer")).await;
    let mut strangers = websocket(&url, "theme=dark").await;
    let private = ada.client.patch(format!("{}/api/data/projects/{project}", server.url));
    let token = server.admin(&["create-token", "ada"], "");
    let private = private.bearer_auth(token).header("if-match", "*").json(&json!({"visibility": "private"}));
    assert_eq!(private.send().await.expect("an answer").status(), 200);
    assert_eq!(closed(&mut strangers).await, 1008);
    assert_eq!(seen(&ada, &url, &[]).await.0, 401);

    let ticket = sign_in(&server, &bob.client, "bob", &url).await;
    let (status, told) = seen(&bob, &url, &[("cookie", &ticket)]).await;
    assert_eq!(
        (status, &told["x-marmot-user"], &told["x-marmot-visitor"]),
        (StatusCode::OK, &json!("bob"), &json!("person"))
    );
    let mut bobs = websocket(&url, &ticket).await;
    change(json!(null)).await;
    assert_eq!(seen(&bob, &url, &[("cookie", &ticket)]).await.0, 403);
    assert_eq!(closed(&mut bobs).await, 1008);
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_says_who_may_open_an_app() {
    let server = Server::start(&[]).await;
    let ada = server.user("ada").await;
    ada.launcher("iris", &Repository::probe()).await;
    let token = server.admin(&["create-token", "ada"], "");
    let run = |arguments: &[&str]| {
        let mut marmot = std::process::Command::new(env!("CARGO_BIN_EXE_marmot"));
        marmot.arg("app").args(arguments).env("MARMOT_URL", &server.url).env("MARMOT_TOKEN", &token);
        let output = marmot.output().expect("marmot app");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text").trim().to_owned();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    };
    let refused = run(&["share", "create", "iris", "--name", "x"]).expect_err("links open nothing yet");
    assert!(refused.contains("`link`"), "{refused}");
    assert!(run(&["access", "iris", "link"]).expect("says it").contains("link"));
    let url = run(&["share", "create", "iris", "--name", "Zoë", "--expires-after", "1h"]).expect("a link");
    assert!(url.contains("/.marmot/link?secret="), "{url}");
    let key = run(&["key", "create", "iris", "--name", "job", "--per-minute", "60"]).expect("a key");
    assert!(key.starts_with("mmk_"), "{key}");
    for (what, name) in [("share", "Zoë"), ("key", "job")] {
        let listed = run(&[what, "list", "iris"]).expect("a list");
        let row = listed.lines().find(|row| row.contains(name)).expect("a row");
        let id = row.split_whitespace().next().expect("an id").to_owned();
        run(&[what, "revoke", "iris", &id]).expect("revokes it");
        assert_eq!(run(&[what, "list", "iris"]).as_deref(), Ok("none"));
        assert!(run(&[what, "revoke", "iris", &id]).is_err(), "once");
    }
    let unknown = run(&["access", "iris", "named", "--user", "dora"]).expect_err("nobody is called so");
    assert!(unknown.contains("dora"), "{unknown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_verifies_who_called_it_as_the_documentation_shows() {
    let server = Server::start(&[]).await;
    let ada = server.user("ada").await;
    let app = deploy(&ada, "keyed").await;
    let url = app.url().await;
    open_to(&ada, &app, "members").await;
    let refused = ada.client.get(&url).send().await.expect("an answer");
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()["www-authenticate"]),
        (401, &"Bearer realm=\"marmot\"".parse().expect("text"))
    );
    let new = json!({"name": "job", "requests_per_minute": 100});
    let key = ada.post(&format!("/apps/{}/app_keys", app.name), new).await["key"]
        .as_str()
        .expect("a key")
        .to_owned();
    let (status, told) = seen(&ada, &url, &[("authorization", &format!("Bearer {key}"))]).await;
    assert_eq!(status, 200);
    assert!(told.get("authorization").is_none(), "{told}");
    let token = told["x-marmot-identity"].as_str().expect("a token");

    // The snippet of the documentation, word for word, with PyJWT.
    let page = include_str!("../../../../docs/access.md");
    let snippet =
        page.split("```python\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a snippet");
    let script = format!("{snippet}\nimport json, sys\nprint(json.dumps(visitor(sys.argv[1])))\n");
    let verify = async |token: &str, audience: &str| {
        let uv = std::env::var("MARMOT_UV").unwrap_or_else(|_| "uv".to_owned());
        let run =
            ["run", "--no-project", "--quiet", "--with", "pyjwt[crypto]", "python", "-c", &script, token];
        let run = tokio::process::Command::new(uv)
            .args(run)
            .env("MARMOT_APP_URL", audience)
            .env("MARMOT_URL", &server.url)
            .stderr(Stdio::piped())
            .output();
        let output = run.await.expect("uv runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        output.status.success().then(|| text(&output.stdout)).ok_or_else(|| text(&output.stderr))
    };
    let claims: Value = serde_json::from_str(&verify(token, &url).await.expect("verifies")).expect("JSON");
    assert_eq!((&claims["kind"], &claims["iss"]), (&json!("key"), &json!(server.url)));
    assert!(verify(token, &format!("{url}0")).await.expect_err("for another app").contains("Audience"));
    // One letter of what it says is another.
    let middle = token.find('.').expect("a token") + 20;
    let other = if token[middle..].starts_with('A') { "B" } else { "A" };
    let forged = format!("{}{other}{}", &token[..middle], &token[middle + 1..]);
    assert!(verify(&forged, &url).await.is_err());
    // Not signed at all, and says so: `{"alg":"none","typ":"JWT"}`.
    let claims = token.split('.').nth(1).expect("claims");
    assert!(verify(&format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}."), &url).await.is_err());
    app.shut_down().await;
}
