//! Repositories behind HTTP: real git on both sides, and servers that answer other things than code.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "build/support.rs"]
mod support;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use support::{Built, Place};

/// A git server over HTTP. It answers under `/code` and `/code.git` alike, leads from `/moved` elsewhere and from
/// `/short` to `/short.git`, wants a password for `/private`, and knows nothing else.
const SERVER: &str = r#"
import http.server, os, subprocess, sys
root = sys.argv[1]
class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args): pass
    def do_GET(self): self.handle_git(b"")
    def do_POST(self): self.handle_git(self.rfile.read(int(self.headers["Content-Length"])))
    def handle_git(self, body):
        path, _, query = self.path.partition("?")
        name = path.split("/")[1]
        if name == "private":
            self.answer(401, [("WWW-Authenticate", 'Basic realm="x"')])
        elif name in ("moved", "short", "away.git"):
            where = {"short": path.replace("/short", "/short.git", 1)}.get(name, "http://127.0.0.1:1/elsewhere")
            self.answer(301, [("Location", f"{where}?{query}")])
        elif name.removesuffix(".git") in ("code", "short"):
            env = dict(os.environ, GIT_PROJECT_ROOT=root, GIT_HTTP_EXPORT_ALL="1", QUERY_STRING=query,
                PATH_INFO="/app/.git/" + path.split("/", 2)[2], REQUEST_METHOD=self.command,
                CONTENT_TYPE=self.headers.get("Content-Type", ""), GIT_PROTOCOL=self.headers.get("Git-Protocol", ""),
                CONTENT_LENGTH=str(len(body)), HTTP_CONTENT_ENCODING=self.headers.get("Content-Encoding", ""),
                GIT_CONFIG_COUNT="1", GIT_CONFIG_KEY_0="safe.directory", GIT_CONFIG_VALUE_0="*")
            said = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True).stdout
            head, _, content = said.partition(b"\r\n\r\n")
            headers = [line.split(": ", 1) for line in head.decode().split("\r\n")]
            status = next((int(value.split()[0]) for key, value in headers if key == "Status"), 200)
            self.answer(status, [header for header in headers if header[0] != "Status"], content)
        else:
            self.answer(404, [])
    def answer(self, status, headers, content=b""):
        self.send_response(status)
        for header in headers: self.send_header(*header)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"#;

struct Server {
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(place: &Place) -> Server {
    let mut child = Command::new("python3")
        .args(["-c", SERVER])
        .arg(place.path(""))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    Server { child, port: line.trim().parse().unwrap() }
}

async fn build(
    place: &Place,
    repository: &support::Repository,
    address: String,
    revision: Option<&str>,
) -> Built {
    place
        .build_with(repository, |wanted| {
            wanted.source.repository = address;
            wanted.source.revision = revision.map(str::to_owned);
        })
        .await
}

#[tokio::test]
async fn code_is_fetched_over_http_where_private_networks_are_allowed() {
    let mut place = Place::new();
    place.context.allow_private_networks = true;
    let repository = place.repository("app", &[("index.html", "one")]);
    let first = repository.head();
    let last = repository.commit(&[("index.html", "two")]);
    let server = serve(&place);
    // `localhost` is looked up once and held to what was found.
    let address = |host: &str, name: &str| format!("http://{host}:{}/{name}", server.port);
    let built = build(&place, &repository, address("localhost", "code.git"), None).await;
    assert_eq!(built.outcome().commit, last);
    let built = build(&place, &repository, address("127.0.0.1", "code"), Some(&first)).await;
    assert_eq!(built.outcome().commit, first);
    let built = build(&place, &repository, address("127.0.0.1", "code"), Some(&first[..8])).await;
    assert_eq!(built.outcome().commit, first);
    // The one redirect that is followed: to the same address with `.git`.
    let built = build(&place, &repository, address("127.0.0.1", "short"), None).await;
    assert_eq!(built.outcome().commit, last);
}

#[tokio::test]
async fn what_is_not_there_not_allowed_or_elsewhere_is_told_apart() {
    let mut place = Place::new();
    place.context.allow_private_networks = true;
    let repository = place.repository("app", &[("index.html", "")]);
    let server = serve(&place);
    for (name, expected) in [
        ("none", "was not found"),
        ("private", "may not be read without signing in"),
        ("moved", "has moved or leads elsewhere"),
        ("away.git", "has moved or leads elsewhere"),
    ] {
        let address = format!("http://127.0.0.1:{}/{name}", server.port);
        let built = build(&place, &repository, address.clone(), None).await;
        let reason = &built.failure().reason;
        assert!(reason.contains(expected) && reason.contains(&address), "{name}: {reason}");
    }
    let built = build(&place, &repository, "http://127.0.0.1:1/x".into(), None).await;
    assert!(built.failure().reason.contains("could not be reached"), "{}", built.failure().reason);
    let built = build(&place, &repository, "https://no-such-host.invalid/x/y".into(), None).await;
    assert!(
        built.failure().reason.contains("`no-such-host.invalid` is not known"),
        "{}",
        built.failure().reason
    );
}

#[tokio::test]
async fn names_that_lead_into_this_machine_are_refused_before_anything_connects() {
    let place = Place::new();
    let repository = place.repository("app", &[("index.html", "")]);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    for address in [
        format!("https://localhost:{port}/a/b"),
        format!("ssh://git@localhost:{port}/a/b"),
        "git@localhost:a/b".into(),
    ] {
        let built = build(&place, &repository, address, None).await;
        let reason = &built.failure().reason;
        assert!(reason.contains("not an address of the public internet"), "{reason}");
    }
    assert!(listener.accept().is_err(), "something connected");
}
