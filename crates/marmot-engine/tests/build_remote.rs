//! Repositories behind HTTP: real git on both sides, and servers that answer other things than code.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "support/port.rs"]
mod port;
#[path = "build/support.rs"]
mod support;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use marmot_engine::wanted::Login;
use port::Port;
use support::{Built, Place};

/// A git server over HTTP. It answers under `/code` and `/code.git` alike, leads from `/moved` elsewhere and from
/// `/short` to `/short.git`, wants a password for `/private` (ada's), and knows nothing else. Whatever it is shown without
/// having asked for it, it writes to the file `shown`.
const SERVER: &str = r#"
import base64, http.server, os, subprocess, sys
root = sys.argv[1]
PROOF = "Basic " + base64.b64encode(b"ada:hunter2-token").decode()
class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args): pass
    def do_GET(self): self.handle_git(b"")
    def do_POST(self): self.handle_git(self.rfile.read(int(self.headers["Content-Length"])))
    def handle_git(self, body):
        path, _, query = self.path.partition("?")
        name = path.split("/")[1]
        proof = self.headers.get("Authorization", "")
        if name != "private" and proof:
            open(root + "/shown", "a").write(proof)
        if name == "private" and proof != PROOF:
            self.answer(401, [("WWW-Authenticate", 'Basic realm="x"')])
        elif name in ("moved", "short", "away.git"):
            where = {"short": path.replace("/short", "/short.git", 1)}.get(name, "http://127.0.0.1:1/elsewhere")
            self.answer(301, [("Location", f"{where}?{query}")])
        elif name.removesuffix(".git") in ("code", "short", "private"):
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
async fn a_private_repository_is_fetched_with_the_credential_of_its_host_and_no_other_host_sees_it() {
    let mut place = Place::new();
    place.context.allow_private_networks = true;
    let repository = place.repository("app", &[("index.html", "one")]);
    let (server, other) = (serve(&place), serve(&place));
    let login =
        |host: String, password: &str| Login { host, username: "ada".into(), password: password.into() };
    let right = [login(format!("127.0.0.1:{}", server.port), "hunter2-token")];
    let build = async |address: String, logins: &[Login]| {
        let change = |wanted: &mut marmot_engine::wanted::WantedBuild| {
            (wanted.source.repository, wanted.logins) = (address, logins.to_vec());
        };
        place.build_with(&repository, change).await
    };
    let private = format!("http://127.0.0.1:{}/private", server.port);
    let built = build(private.clone(), &right).await;
    assert_eq!(built.outcome().commit, repository.head());
    assert!(!built.log.contains("hunter2"), "{}", built.log);

    // A copy is kept on this server; who may not read the repository gets nothing from it.
    let wrong = [login(format!("127.0.0.1:{}", server.port), "hunter2-guess")];
    for logins in [&[][..], &wrong, &[login("127.0.0.1".into(), "hunter2-token")]] {
        let built = build(private.clone(), logins).await;
        let reason = &built.failure().reason;
        assert!(reason.contains("give the project a credential for its host"), "{reason}");
        assert!(!format!("{}{reason}", built.log).contains("hunter2"));
    }
    for name in ["code", "moved"] {
        build(format!("http://127.0.0.1:{}/{name}", other.port), &right).await;
    }
    assert!(!place.path("shown").exists(), "another host was shown {:?}", std::fs::read(place.path("shown")));
}

/// An `sshd` of this test's own, which lets in who has the right key.
struct Sshd(Child, Port);

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Makes a key in `name`, and says what it is in public.
fn key(place: &Place, name: &str) -> String {
    let path = place.path(name);
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&path).status();
    assert!(made.unwrap().success());
    std::fs::read_to_string(path.with_extension("pub")).unwrap()
}

fn sshd(place: &Place) -> Sshd {
    let public = key(place, "deploy");
    key(place, "host");
    std::fs::write(place.path("authorized"), public).unwrap();
    let port = Port::hold();
    let path = |name: &str| place.path(name).display().to_string();
    let config = format!(
        "Port {}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
         PasswordAuthentication no\nPermitRootLogin yes\nPidFile none\n",
        port.number,
        path("host"),
        path("authorized")
    );
    std::fs::write(place.path("sshd.conf"), config).unwrap();
    // Where it puts itself before anybody has signed in.
    std::fs::create_dir_all("/run/sshd").unwrap();
    let mut child = Command::new("/usr/sbin/sshd")
        .args(["-D", "-e", "-f", &path("sshd.conf")])
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssh-server is installed");
    let lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut lines = lines.skip_while(|line| !line.contains("Server listening"));
    assert!(lines.next().is_some(), "sshd did not start");
    // It would wait for somebody to read what it says.
    std::thread::spawn(move || lines.for_each(drop));
    Sshd(child, port)
}

#[tokio::test]
async fn a_deploy_key_opens_a_private_repository_over_ssh() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: a server that others sign in to needs root");
        return;
    }
    let mut place = Place::new();
    place.context.allow_private_networks = true;
    let repository = place.repository("app", &[("index.html", "one")]);
    let server = sshd(&place);
    let address = format!("ssh://root@127.0.0.1:{}{}", server.1.number, place.path("app").display());
    let build = async |password: String| {
        let change = |wanted: &mut marmot_engine::wanted::WantedBuild| {
            let login =
                Login { host: format!("127.0.0.1:{}", server.1.number), username: "git".into(), password };
            (wanted.source.repository, wanted.logins) = (address.clone(), vec![login]);
        };
        place.build_with(&repository, change).await
    };
    let deploy = std::fs::read_to_string(place.path("deploy")).unwrap();
    let built = build(deploy.clone()).await;
    assert_eq!(built.outcome().commit, repository.head());
    let body = deploy.lines().nth(1).unwrap();
    assert!(!built.log.contains(body), "{}", built.log);
    key(&place, "stranger");
    for wrong in [std::fs::read_to_string(place.path("stranger")).unwrap(), "hunter2-token".to_owned()] {
        let built = build(wrong).await;
        assert!(built.failure().reason.contains("may not be read without signing in"), "{:?}", built.end);
    }
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
