//! Pictures of apps, taken by a real Chromium: what is on them, who sees them, and what a page cannot do by being looked at.

use std::net::TcpListener;
use std::path::Path;

use image::GenericImageView as _;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Api, App, Repository, Server, wait_for};

const BROWSER: &str = "/usr/bin/chromium";

/// An app that answers everything with one page.
const APP: &str = r#"
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        told = [name for name in self.headers if name.lower().startswith("x-marmot")]
        page = PAGE if not told else "<body>told who comes"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(page.encode())

    def log_message(self, *arguments):
        pass

ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
"#;

/// Whether pictures can be taken here; else says why the test does nothing.
fn can_take() -> bool {
    let (browser, confined) = (Path::new(BROWSER).exists(), marmot_engine::can_confine());
    if !browser || !confined {
        eprintln!("skipped: there is no {BROWSER}, or programs cannot be confined here");
    }
    browser && confined
}

async fn deploy(who: &Api, name: &str, page: &str) -> (Value, App) {
    let app = format!("PAGE = {}\n{APP}", json!(page));
    let repository =
        Repository::of(&[("app.py", &app), ("requirements.txt", ""), ("Procfile", "web: python3 app.py\n")]);
    let launcher = who.launcher(name, &repository).await;
    let app = who.activate(&launcher, "running").await;
    (launcher, app)
}

async fn picture(server: &Server, launcher: &Value) -> (StatusCode, Vec<u8>) {
    let url = format!("{}/pictures/{}", server.url, launcher["id"].as_str().expect("an id"));
    let answer = server.anonymous().client.get(url).send().await.expect("an answer");
    let status = answer.status();
    if status.is_success() {
        let header = |name: &str| answer.headers()[name].to_str().expect("text").to_owned();
        assert_eq!(header("content-type"), "image/jpeg");
        assert!(header("cache-control").contains("private"));
    }
    (status, answer.bytes().await.expect("a body").to_vec())
}

/// The colour in the middle of an app's picture, once there is one.
async fn colour(server: &Server, launcher: &Value) -> [u8; 3] {
    let jpeg = wait_for("the app's picture", || async {
        let (status, jpeg) = picture(server, launcher).await;
        (status == 200).then_some(jpeg)
    });
    let jpeg = jpeg.await;
    assert!(jpeg.len() <= 60_000, "{} bytes", jpeg.len());
    let picture = image::load_from_memory(&jpeg).expect("a picture");
    assert_eq!((picture.width(), picture.height()), (400, 250));
    let [red, green, blue, _] = picture.get_pixel(200, 125).0;
    [red, green, blue]
}

fn is_about(colour: [u8; 3], expected: [u8; 3]) -> bool {
    colour.iter().zip(expected).all(|(one, other)| one.abs_diff(other) < 12)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apps_picture_shows_its_page_to_those_who_may_open_it_and_goes_with_it() {
    if !can_take() {
        return;
    }
    let server = Server::start(&["--thumbnails", BROWSER]).await;
    let ada = server.user("ada").await;
    // Drawn by a script, after a while: what is there at first is another colour.
    // What it asks on its way is answered with no.
    let page = "<body style='background:#fff'><script>alert('hello'); if (!confirm('stay?') && prompt('who?') === null) setTimeout(() => document.body.style.background = \
                'rgb(20, 120, 200)', 3000)</script>";
    let (launcher, app) = deploy(&ada, "blue", page).await;
    let seen = colour(&server, &launcher).await;
    assert!(is_about(seen, [20, 120, 200]), "{seen:?}");

    let home = server.anonymous().client.get(&server.url).send().await.expect("an answer");
    let home = home.text().await.expect("a body");
    let id = launcher["id"].as_str().expect("an id");
    assert!(home.contains(&format!("src=\"/pictures/{id}?")), "{home}");

    // Nobody else may open it any more.
    let path = format!("/apps/{}/access", app.name);
    let (status, answer) = ada.send(Method::PUT, &path, Some(&json!({"open_to": "members"}))).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(picture(&server, &launcher).await.0, 404);

    let file = server.data().join("pictures").join(format!("{id}.jpg"));
    assert!(file.exists());
    let (status, _) = ada.send(Method::DELETE, &format!("/session_launchers/{id}"), None).await;
    assert_eq!(status, 204);
    assert!(!file.exists(), "the picture is there without its launcher");
}

#[tokio::test(flavor = "multi_thread")]
async fn taking_pictures_all_the_time_keeps_no_app_awake_and_wakes_none() {
    if !can_take() {
        return;
    }
    let often = ["--thumbnails-every", "1s", "--idle-after", "5s", "--stop-after", "5s"];
    let server = Server::start(&[&["--thumbnails", BROWSER], &often[..]].concat()).await;
    let ada = server.user("ada").await;
    let (launcher, app) = deploy(&ada, "quiet", "<body style='background:rgb(200, 60, 20)'>").await;
    app.fetch("/").await;
    // It sleeps although it is due for a picture all the time, and nothing wakes it before it is stopped.
    app.wait_for_phase("asleep").await;
    wait_for("the app to be stopped", || async {
        (app.view().await["asleep_depth"] == "stopped").then_some(())
    })
    .await;
    wait_for("its processes to end", || async { server.processes_of(&app.name).is_empty().then_some(()) })
        .await;
    let (status, _) = picture(&server, &launcher).await;
    assert!(status == 200 || status == 404, "{status}");
    assert_eq!(app.view().await["phase"], "asleep");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_page_is_looked_at_for_a_while_and_reaches_nothing_by_it() {
    if !can_take() {
        return;
    }
    let mut server = Server::start(&["--thumbnails", BROWSER]).await;
    let ada = server.user("ada").await;
    let (endless, _) =
        deploy(&ada, "endless", "<body style='height:9000000px'><script>for (;;) {}</script>").await;
    // The machine's loopback, where this test listens; and other addresses. Green only if all of them fail.
    let witness = TcpListener::bind("127.0.0.1:0").expect("listens");
    witness.set_nonblocking(true).expect("does not block");
    let port = witness.local_addr().expect("an address").port();
    let page = format!(
        "<body style='background:red'><script>window.open('/'); const there = ['127.0.0.1', '[::1]', \
         'localhost', '169.254.169.254', '1.1.1.1']; const ask = (host) => fetch(`http://${{host}}:{port}/`, \
         {{ mode: 'no-cors' }}); Promise.allSettled(there.map(ask)).then((all) => {{ if (all.every((one) => one.status \
         === 'rejected')) document.body.style.background = 'rgb(0, 160, 0)'; }});</script>"
    );
    let (curious, _) = deploy(&ada, "curious", &page).await;
    let seen = colour(&server, &curious).await;
    assert!(is_about(seen, [0, 160, 0]), "{seen:?}");
    assert!(witness.accept().is_err(), "a page reached this machine");
    // The endless one had its time before: it shows nothing, or what it was before its script.
    let (status, _) = picture(&server, &endless).await;
    assert!(status == 200 || status == 404, "{status}");

    server.terminate().await;
    let browser = server.data().join("browser").display().to_string();
    let left = std::fs::read_dir("/proc").expect("/proc").flatten().filter(|process| {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&browser)
    });
    assert_eq!(left.count(), 0, "browsers are left");
}
