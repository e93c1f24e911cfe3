//! Revisions are rolled out and back under traffic: no request fails, streams that are open are finished, and what cannot
//! be started does not take over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Api, App, Repository, Server, client, wait_for};

/// Requests a second.
const RATE: u64 = 200;
/// Revisions that are rolled out, one after the other.
const ROUNDS: u64 = 10;
/// Those of them that cannot be started: one ends at once, one never listens.
const BROKEN: [(u64, &str); 2] = [(4, "exit"), (7, "silent")];

/// Answers with the variable `VERSION`. `/stream` goes on until somebody asks for `/finish` at the same replica's port,
/// or else for long.
const VERSIONS: &str = r#"
import os, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
version, broken = os.environ["VERSION"], os.environ.get("BROKEN")
if broken == "exit": sys.exit(3)
if broken == "silent": time.sleep(3600)

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    def do_GET(self):
        self.send_response(200)
        if self.path == "/stream":
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for word in [version] * 20 + ["end"]:
                data = f"data: {word}\n\n".encode()
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                self.wfile.flush()
                time.sleep(0.1)
            self.wfile.write(b"0\r\n\r\n")
        else:
            body = version.encode()
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
    def log_message(self, *args): pass

class Server(ThreadingHTTPServer):
    request_queue_size = 512
Server(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
"#;

/// Asks at a steady rate, each request once, until it is told to stop: how many were answered, and what went wrong.
async fn traffic(url: String, over: Arc<AtomicBool>, sent: Arc<AtomicU64>) -> (u64, Vec<String>) {
    let http = client();
    let mut tasks = tokio::task::JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(1000 / RATE));
    while !over.load(Ordering::Relaxed) {
        ticks.tick().await;
        let number = sent.fetch_add(1, Ordering::Relaxed);
        let (http, url) = (http.clone(), url.clone());
        // Every fifth is one that must not be sent twice.
        let method = if number.is_multiple_of(5) { Method::OPTIONS } else { Method::GET };
        tasks.spawn(async move {
            let get = method == Method::GET;
            let answer = http.request(method, url).send().await.map_err(|error| format!("{error:?}"))?;
            // The app knows no OPTIONS: its own word for that is 501.
            let fine = if get { answer.status() == 200 } else { answer.status() == 501 };
            let status = answer.status();
            let body = answer.text().await.map_err(|error| format!("{error:?}"))?;
            if fine { Ok(()) } else { Err(format!("{status} {body}")) }
        });
    }
    let outcomes: Vec<Result<(), String>> = tasks.join_all().await;
    let answered = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    (answered as u64, outcomes.into_iter().filter_map(Result::err).collect())
}

async fn roll_out(ada: &Api, launcher: &Value, version: u64, broken: Option<&str>) {
    let mut variables = vec![json!({"name": "VERSION", "value": format!("v{version}")})];
    variables.extend(broken.map(|how| json!({"name": "BROKEN", "value": how})));
    let path = format!("/session_launchers/{}", launcher["id"].as_str().expect("an id"));
    let (status, answer) = ada.send(Method::PATCH, &path, Some(&json!({ "env_variables": variables }))).await;
    assert!(status.is_success(), "{status} {answer}");
}

/// Waits until the app answers with this version, and nothing else is under way.
async fn until_it_is(app: &App, version: u64) {
    wait_for(&format!("version {version}"), || async {
        let (_, body) = app.fetch("/").await;
        let view = app.view().await;
        (body == format!("v{version}") && view["phase"] == "running").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revisions_are_rolled_out_and_back_under_traffic_without_a_failed_request() {
    let server = Server::start(&["--start-timeout", "5s"]).await;
    let ada = server.user("ada").await;
    let repository = Repository::of(&[
        ("app.py", VERSIONS),
        ("requirements.txt", ""),
        ("Procfile", "web: python3 app.py\n"),
    ]);
    let launcher = ada.launcher("versions", &repository).await;
    roll_out(&ada, &launcher, 0, None).await;
    let app = ada.activate(&launcher, "running").await;
    let url = app.url().await;
    let (over, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let traffic = tokio::spawn(traffic(url.clone(), Arc::clone(&over), Arc::clone(&sent)));

    let mut serves = 0;
    let mut streams = Vec::new();
    for version in 1..=ROUNDS {
        // Whoever has it open while it is replaced finishes with what was opened.
        let stream = client().get(format!("{url}/stream")).send().await.expect("a stream");
        let expected = format!("data: v{serves}\n\n").repeat(20) + "data: end\n\n";
        streams.push((version, tokio::spawn(async move { (stream.text().await, expected) })));
        let broken = BROKEN.iter().find(|(number, _)| *number == version).map(|(_, how)| *how);
        roll_out(&ada, &launcher, version, broken).await;
        if broken.is_some() {
            let view = wait_for("the report", || async {
                let view = app.view().await;
                view["reason"].as_str().is_some_and(|reason| reason.contains("goes on")).then_some(view)
            })
            .await;
            assert_eq!(view["status"], "ready", "{view:#}");
            // The first revision has the number 1.
            assert!(
                view["reason"].as_str().unwrap().contains(&format!("revision {} goes on", serves + 1)),
                "{view:#}"
            );
        } else {
            serves = version;
        }
        until_it_is(&app, serves).await;
    }
    // And back, to one that is known to run.
    let revisions = ada.get("/apps/versions/revisions").await;
    let first = revisions.as_array().unwrap().iter().find(|one| one["number"] == 2).expect("is kept");
    ada.post(&format!("/apps/versions/revisions/{}/activate", first["id"].as_str().unwrap()), json!({}))
        .await;
    until_it_is(&app, 1).await;

    over.store(true, Ordering::Relaxed);
    let (answered, failed) = traffic.await.expect("traffic goes on");
    assert!(failed.is_empty(), "{} failed: {:#?}", failed.len(), &failed[..failed.len().min(5)]);
    assert_eq!(answered, sent.load(Ordering::Relaxed));
    println!("{answered} requests answered");
    for (version, stream) in streams {
        let (text, expected) = stream.await.unwrap();
        assert_eq!(
            text.expect("ends in order"),
            expected,
            "the stream that was open before version {version}"
        );
    }
    app.shut_down().await;
}
