//! H3: secrets are planted everywhere a secret goes, and are then looked for everywhere else.

use std::path::Path;
use std::process::Stdio;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Api, Repository, Server, client, wait_for};
use crate::podman::{Podman, SERVE};

/// An app that prints the secret that it is given, as one that is being debugged does.
const APP: &str = r#"
import os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        print("key is", os.environ["API_KEY"], flush=True)
        print(f"and {os.environ['API_KEY']} again", file=sys.stderr, flush=True)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *arguments):
        pass

ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
"#;

/// Everything below a directory that holds one of these.
fn found_in(dir: &Path, canaries: &[(&str, String)]) -> Vec<String> {
    let (mut left, mut found) = (vec![dir.to_owned()], Vec::new());
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let (path, kind) = (entry.path(), entry.file_type());
            if kind.as_ref().is_ok_and(std::fs::FileType::is_dir) {
                left.push(path);
            } else if kind.is_ok_and(|kind| kind.is_file()) {
                let bytes = std::fs::read(&path).unwrap_or_default();
                found.extend(holds(&bytes, canaries).map(|what| format!("{what} in {}", path.display())));
            }
        }
    }
    found
}

fn holds<'a>(bytes: &'a [u8], canaries: &'a [(&str, String)]) -> impl Iterator<Item = String> + 'a {
    let found = String::from_utf8_lossy(bytes);
    canaries.iter().filter(move |(_, text)| found.contains(text)).map(|(what, _)| (*what).to_owned())
}

/// The command lines of all processes, as everybody on the machine can list them.
fn command_lines() -> Vec<Vec<u8>> {
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok()).collect()
}

fn text(answer: &Value, field: &str) -> String {
    answer[field].as_str().unwrap_or_else(|| panic!("no `{field}` in {answer}")).to_owned()
}

/// The last part of an address, or of its query.
fn secret_of(address: &str) -> String {
    address.rsplit(['=', '/']).next().expect("a part").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_secret_is_in_a_log_a_list_an_error_the_database_or_a_command_line() {
    let logs = tempfile::tempdir().expect("a folder");
    let log = logs.path().join("log");
    let start = format!(
        "MARMOT_LISTEN=127.0.0.1:0 MARMOT_ALLOW_LOCAL_REPOSITORIES=true MARMOT_LOG=debug MARMOT_ACCESS_LOG=canary \
         exec \"$@\" 2>>'{}'",
        log.display()
    );
    let server = Server::started_by(&["sh", "-c", &start, "sh"]).await;
    let ada = server.user("ada").await;
    let mut canaries = vec![
        ("the password", "correct horse battery staple".to_owned()),
        ("the token", ada.token.clone().expect("a token")),
        ("the password link", secret_of(&server.admin(&["password-link", "ada"], ""))),
    ];
    let session = sign_in(&server).await;
    canaries.push(("the session", session.split_once('=').expect("a cookie").1.to_owned()));

    let repository =
        Repository::of(&[("app.py", APP), ("requirements.txt", ""), ("Procfile", "web: python3 app.py\n")]);
    let launcher = ada.launcher("canary", &repository).await;
    let (id, project) = (text(&launcher, "id"), text(&launcher, "project_id"));
    for (what, path, body) in [
        ("a launcher's secret", format!("/session_launchers/{id}/secrets/API_KEY"), json!({})),
        ("a project's secret", format!("/projects/{project}/secrets/DB_PASSWORD"), json!({})),
        (
            "a credential",
            format!("/projects/{project}/credentials"),
            json!({"kind": "git", "host": "git.example.org", "username": "ada"}),
        ),
    ] {
        let canary = format!("canary{:032x}", rand::random::<u128>());
        let mut body = body;
        body[if path.ends_with("credentials") { "secret" } else { "value" }] = json!(canary);
        let method = if path.ends_with("credentials") { Method::POST } else { Method::PUT };
        let (status, answer) = ada.send(method, &path, Some(&body)).await;
        assert!(status.is_success(), "{path}: {status} {answer}");
        canaries.push((what, canary));
    }
    let hook = ada.post(&format!("/session_launchers/{id}/webhook"), json!({})).await;
    canaries.push(("the webhook's secret", text(&hook, "secret")));
    let token = ada.post("/user/tokens", json!({"name": "laptop", "scope": "read"})).await;
    canaries.push(("another token", text(&token, "token")));

    let app = ada.activate(&launcher, "running").await;
    let open_to = json!({"open_to": "link"});
    ada.send(Method::PUT, "/apps/canary/access", Some(&open_to)).await;
    let link = ada.post("/apps/canary/share_links", json!({"name": "review"})).await;
    let key = ada.post("/apps/canary/app_keys", json!({"name": "nightly"})).await;
    canaries.push(("the link", secret_of(&text(&link, "url"))));
    canaries.push(("the key", text(&key, "key")));

    use_them(&server, &ada, &app.url().await, &text(&link, "url"), &text(&key, "key"), &text(&hook, "url"))
        .await;
    let lines = wait_for("the app's log", || async {
        let lines = ada.get("/apps/canary/logs").await.to_string();
        lines.contains("again").then_some(lines)
    })
    .await;
    assert!(lines.contains("key is ***"), "{lines}");
    let mut found: Vec<String> =
        holds(lines.as_bytes(), &canaries).map(|what| format!("{what} in the log")).collect();
    for path in lists(&id, &project, &text(&launcher["environment"], "id")) {
        let answer = ada.get(&path).await.to_string();
        found.extend(holds(answer.as_bytes(), &canaries).map(|what| format!("{what} in GET {path}")));
    }
    for pages in [
        "/",
        "/settings",
        "/p/ada/canary",
        "/p/ada/canary/settings",
        &format!("/p/ada/canary/launchers/{id}/"),
    ] {
        let page = client().get(format!("{}{pages}", server.url)).header("cookie", &session).send().await;
        let page = page.expect("an answer").text().await.expect("a page");
        found.extend(holds(page.as_bytes(), &canaries).map(|what| format!("{what} in the page {pages}")));
    }
    for line in command_lines() {
        found.extend(holds(&line, &canaries).map(|what| {
            format!("{what} in a command line: {}", String::from_utf8_lossy(&line).replace('\0', " "))
        }));
    }
    found.extend(found_in(server.data(), &canaries));
    found.extend(found_in(logs.path(), &canaries));
    // Neither the server nor what it runs leaves a dump of its memory.
    for pid in server.processes_of("canary").into_iter().chain([server.pid()]) {
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits");
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
        assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{pid}: {core}");
    }
    assert!(std::fs::metadata(&log).expect("a log").len() > 1000, "nothing was logged");
    assert_eq!(found, Vec::<String>::new());
}

async fn sign_in(server: &Server) -> String {
    let form = "username=ada&password=correct+horse+battery+staple&next=/";
    let request = client().post(format!("{}/sign-in", server.url)).header("origin", &server.url);
    let request = request.header("content-type", "application/x-www-form-urlencoded").body(form);
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    let cookie = answer.headers()["set-cookie"].to_str().expect("text");
    cookie.split(';').next().expect("a cookie").to_owned()
}

/// Uses all of them, rightly and wrongly.
async fn use_them(server: &Server, ada: &Api, app: &str, link: &str, key: &str, hook: &str) {
    let client = client();
    let get = async |url: &str, header: (&str, &str)| {
        client.get(url).header(header.0, header.1).send().await.expect("an answer").status().as_u16()
    };
    assert_eq!(get(link, ("accept", "*/*")).await, 302);
    // Neither of another app, nor cut short, nor where it does not belong.
    assert_eq!(get(&link[..link.len() - 1], ("accept", "text/html")).await, 403);
    assert_eq!(get(app, ("x-marmot-key", key)).await, 200);
    assert_eq!(get(app, ("authorization", &format!("Bearer {key}"))).await, 200);
    assert_eq!(get(app, ("x-marmot-key", &format!("{key}x"))).await, 401);
    let token = ada.token.as_deref().expect("a token");
    assert_eq!(get(app, ("authorization", &format!("Bearer {token}"))).await, 401);
    let api = format!("{}/api/data", server.url);
    assert_eq!(get(&format!("{api}/user"), ("authorization", &format!("Bearer {key}"))).await, 401);
    get(&format!("{api}/projects?page={token}"), ("authorization", &format!("Bearer {token}"))).await;
    get(&format!("{api}/projects/{token}"), ("authorization", &format!("Token {token}"))).await;
    let wrong = json!({"name": "x", "username": "ada", "password": "correct horse battery staplf"});
    let answer = client.post(format!("{api}/user/tokens")).json(&wrong).send().await.expect("an answer");
    assert_eq!(answer.status(), 401);
    let push = json!({"ref": "refs/heads/main"}).to_string();
    let answer =
        client.post(hook).header("x-gitlab-token", "wrong").header("x-gitlab-event", "Push Hook").body(push);
    assert_eq!(answer.send().await.expect("an answer").status(), 401);
    let cli = std::process::Command::new(env!("CARGO_BIN_EXE_marmot"))
        .args(["project", "list", "--mine"])
        .env("MARMOT_URL", &server.url)
        .env("MARMOT_TOKEN", token)
        .stdout(Stdio::null())
        .status();
    assert!(cli.expect("marmot").success());
}

/// What can be listed.
fn lists(launcher: &str, project: &str, environment: &str) -> Vec<String> {
    let of_project = ["", "/audit", "/members", "/secrets", "/credentials", "/session_launchers", "/limits"];
    let of_launcher = ["", "/secrets", "/webhook"];
    let of_app = ["", "/events", "/revisions", "/access", "/share_links", "/app_keys", "/scaling"];
    let fixed =
        ["/user", "/user/tokens", "/user/sessions", "/projects", "/session_launchers", "/apps", "/groups"];
    let fixed = fixed.into_iter().map(str::to_owned);
    let projects = of_project.into_iter().map(|of| format!("/projects/{project}{of}"));
    let launchers = of_launcher.into_iter().map(|of| format!("/session_launchers/{launcher}{of}"));
    let apps = of_app.into_iter().map(|of| format!("/apps/canary{of}"));
    let builds = std::iter::once(format!("/environments/{environment}/builds"));
    fixed.chain(projects).chain(launchers).chain(apps).chain(builds).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_containers_secrets_are_in_no_log_list_error_or_command_line_either() {
    let Some(podman) = Podman::start() else { return };
    let serve =
        SERVE.replace("mkdir", "echo \"key is $API_KEY, file is $(cat $MARMOT_SECRETS_DIR/*)\"\nmkdir");
    podman.image("localhost/canary:1", &[("serve", &serve)], &["EXPOSE 8000", "CMD [\"/serve\"]"]);
    let logs = tempfile::tempdir().expect("a folder");
    let log = logs.path().join("log");
    let start = format!(
        "MARMOT_LISTEN=127.0.0.1:0 MARMOT_LOG=debug MARMOT_LOCAL_IMAGES=localhost/canary \
         MARMOT_CONTAINER_ENGINE='{}' exec \"$@\" 2>>'{}'",
        podman.socket().display(),
        log.display()
    );
    let server = Server::started_by(&["sh", "-c", &start, "sh"]).await;
    let ada = server.user("ada").await;
    let user = ada.get("/user").await;
    let project =
        json!({ "name": "canary", "slug": "canary", "namespace": user["username"], "visibility": "public" });
    let project = text(&ada.post("/projects", project).await, "id");
    let environment = json!({
        "environment_kind": "CUSTOM", "environment_image_source": "image", "container_image": "localhost/canary:1",
    });
    let wish = json!({ "name": "canary", "project_id": project, "launcher_type": "app", "environment": environment });
    let launcher = ada.post("/session_launchers", wish).await;
    let id = text(&launcher, "id");
    let mut canaries = Vec::new();
    for (what, name, form) in [("a variable", "API_KEY", "variable"), ("a file", "CERTIFICATE", "file")] {
        let canary = format!("canary{:032x}", rand::random::<u128>());
        let body = json!({ "value": canary, "form": form });
        let (status, answer) =
            ada.send(Method::PUT, &format!("/session_launchers/{id}/secrets/{name}"), Some(&body)).await;
        assert!(status.is_success(), "{answer}");
        canaries.push((what, canary));
    }
    let app = ada.activate(&launcher, "running").await;
    assert_eq!(app.fetch("/").await.0, StatusCode::OK);
    // It has them, and nobody is shown them.
    let given = app.fetch("/cgi-bin/env").await.1;
    assert!(given.contains(&canaries[0].1), "it is not given the variable");
    let lines = wait_for("the app's log", || async {
        let lines = ada.get("/apps/canary/logs").await.to_string();
        lines.contains("key is").then_some(lines)
    })
    .await;
    assert!(lines.contains("key is ***, file is ***"), "{lines}");
    let mut found: Vec<String> =
        holds(lines.as_bytes(), &canaries).map(|what| format!("{what} in the log")).collect();
    for line in command_lines() {
        found.extend(holds(&line, &canaries).map(|what| format!("{what} in a command line")));
    }

    // One that fails with them on its lips.
    let mut environment = environment.clone();
    environment["command"] = json!(["/bin/sh", "-c", "echo \"no: $API_KEY\"; echo $API_KEY >&2; exit 3"]);
    let change = json!({ "environment": environment });
    ada.send(Method::PATCH, &format!("/session_launchers/{id}"), Some(&change)).await;
    let events = wait_for("the failure to be told", || async {
        let view = ada.get("/apps/canary").await.to_string();
        let events = ada.get("/apps/canary/events").await.to_string();
        let told = [view, events].concat();
        told.contains("code 3").then_some(told)
    })
    .await;
    found.extend(holds(events.as_bytes(), &canaries).map(|what| format!("{what} in an error")));
    // A push changes nothing of an image, so it has no webhook.
    let mut all = lists(&id, &project, &text(&launcher["environment"], "id"));
    all.retain(|path| !path.ends_with("/webhook"));
    for path in all {
        let answer = ada.get(&path).await.to_string();
        found.extend(holds(answer.as_bytes(), &canaries).map(|what| format!("{what} in GET {path}")));
    }
    app.shut_down().await;
    wait_for("its containers to be gone", || async { podman.containers().is_empty().then_some(()) }).await;
    found.extend(found_in(server.data(), &canaries));
    found.extend(found_in(logs.path(), &canaries));
    assert!(std::fs::metadata(&log).expect("a log").len() > 1000, "nothing was logged");
    assert_eq!(found, Vec::<String>::new());
}
