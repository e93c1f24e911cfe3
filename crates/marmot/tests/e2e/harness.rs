//! A server of one's own, its API, repositories to deploy, and what its apps' processes are.

use std::fs;
use std::future::Future;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

/// How long anything may take on a busy machine before a test gives up on it.
const LIMIT: Duration = Duration::from_secs(120);

/// A `marmot serve` on a data directory of its own.
pub(crate) struct Server {
    child: Child,
    /// Where the platform is, as printed by `serve`.
    pub(crate) url: String,
    arguments: Vec<String>,
    data: TempDir,
}

impl Server {
    /// Starts a server that accepts local repositories; `settings` are further flags.
    pub(crate) async fn start(settings: &[&str]) -> Self {
        Self::start_on(
            tempfile::Builder::new().prefix("marmot-e2e-").tempdir().expect("temporary folder"),
            settings,
        )
        .await
    }

    /// The same, with its data in this folder.
    pub(crate) async fn start_on(data: TempDir, settings: &[&str]) -> Self {
        let mut arguments: Vec<String> =
            ["serve", "--listen", "127.0.0.1:0", "--allow-local-repositories"].map(str::to_owned).into();
        arguments.extend(settings.iter().map(|setting| (*setting).to_owned()));
        let (child, url) = spawn(data.path(), &arguments).await;
        Self { child, url, arguments, data }
    }

    /// Starts a server by another program, which is given its own.
    pub(crate) async fn started_by(starter: &[&str]) -> Self {
        let data = tempfile::Builder::new().prefix("marmot-e2e-").tempdir().expect("temporary folder");
        let [program, rest @ ..] = starter else { panic!("no program") };
        let mut command = Command::new(program);
        command.args(rest).args([env!("CARGO_BIN_EXE_marmot"), "serve"]);
        let (child, url) = spawn_by(command, data.path()).await;
        Self { child, url, arguments: vec!["serve".to_owned()], data }
    }

    /// Ends the server as a power cut would.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.expect("kill the server");
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("still runs")
    }

    /// Asks the server to make room for the next one.
    pub(crate) fn make_room(&self) {
        let pid = self.child.id().expect("still runs").to_string();
        assert!(std::process::Command::new("kill").args(["-USR2", &pid]).status().expect("kill").success());
    }

    /// How many servers have made room for the present one.
    pub(crate) fn generation(&self) -> u32 {
        let pid = self.child.id().expect("still runs");
        let environment = fs::read_to_string(format!("/proc/{pid}/environ")).expect("environment");
        let count = environment.split('\0').find_map(|one| one.strip_prefix("LISTEN_HANDED_OVER="));
        count.map_or(0, |count| count.parse().expect("a number"))
    }

    /// Asks the server to stop and returns its exit code.
    pub(crate) async fn terminate(&mut self) -> Option<i32> {
        let pid = self.child.id().expect("still runs").to_string();
        std::process::Command::new("kill").arg(pid).status().expect("kill");
        tokio::time::timeout(LIMIT, self.child.wait()).await.expect("stops in time").expect("wait").code()
    }

    /// Starts it again on the same data, at the same address.
    pub(crate) async fn restart(&mut self) {
        let address = self.url.trim_start_matches("http://localhost:").to_owned();
        let mut arguments = self.arguments.clone();
        let listen = arguments.iter().position(|argument| argument == "--listen").expect("has --listen");
        arguments[listen + 1] = format!("127.0.0.1:{address}");
        (self.child, self.url) = spawn(self.data.path(), &arguments).await;
    }

    /// Runs `marmot admin …` and returns the last line it printed.
    pub(crate) fn admin(&self, arguments: &[&str], stdin: &str) -> String {
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_marmot"))
            .arg("admin")
            .args(arguments)
            .arg("--data-dir")
            .arg(self.data.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("marmot admin");
        child.stdin.take().expect("piped").write_all(stdin.as_bytes()).expect("write");
        let output = child.wait_with_output().expect("output");
        assert!(output.status.success(), "marmot admin {arguments:?}");
        String::from_utf8(output.stdout).expect("text").lines().last().unwrap_or_default().to_owned()
    }

    /// A client of the API for a new user.
    pub(crate) async fn user(&self, name: &str) -> Api {
        self.admin(&["create-user", name, "--password-stdin"], "correct horse battery staple\n");
        Api { token: Some(self.admin(&["create-token", name], "")), ..self.anonymous() }
    }

    /// A client of the API that nobody has signed in to.
    pub(crate) fn anonymous(&self) -> Api {
        Api { base: self.url.clone(), token: None, client: client() }
    }

    /// What there still is of replicas: their processes, supervisors, control groups and directories.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let data = self.data.path();
        let mut left = Vec::new();
        for pid in processes() {
            let has = |file: &str, text: &str| {
                let content = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
                String::from_utf8_lossy(&content).contains(text)
            };
            let apps = data.join("apps");
            let works_there =
                fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|dir| dir.starts_with(&apps));
            let supervises = Some(pid) != self.child.id()
                && (works_there || has("cmdline", &format!("{}/", apps.display())));
            let address = self.url.trim_start_matches("http://").to_owned();
            if supervises || has("environ", &format!(".{address}\0")) {
                left.push(format!("process {pid}"));
            }
        }
        let tag = marmot_engine::layout::Layout::new(data).tag();
        let find = std::process::Command::new("find")
            .args(["/sys/fs/cgroup", "-mindepth", "2", "-type", "d", "-path", &format!("*/{tag}/*")])
            .output()
            .expect("find");
        let groups = String::from_utf8_lossy(&find.stdout).into_owned();
        left.extend(groups.lines().filter(|group| !has_spare(group)).map(str::to_owned));
        let dirs = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
        for app in dirs(&data.join("apps")) {
            let laid_out = dirs(&app.join("replicas")).filter(|replica| replica.join("work").exists());
            left.extend(laid_out.map(|replica| replica.display().to_string()));
        }
        left
    }

    /// Where it keeps everything.
    pub(crate) fn data(&self) -> &Path {
        self.data.path()
    }

    /// What SQLite says of the database file: `ok`, or what is wrong with it.
    pub(crate) fn database_check(&self) -> String {
        let script = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('PRAGMA integrity_check').fetchone()[0])";
        let file = self.data.path().join("marmot.db");
        let said =
            std::process::Command::new("python3").args(["-c", script]).arg(file).output().expect("python3");
        String::from_utf8_lossy(&said.stdout).trim().to_owned()
    }

    /// Ids of the processes that run for an app of this server, its supervisors not counted.
    pub(crate) fn processes_of(&self, app: &str) -> Vec<u32> {
        let address = self.url.replace("://", &format!("://{app}."));
        processes_with_variable(&format!("MARMOT_APP_URL={address}"))
    }
}

/// Whether a supervisor waits in this control group for a replica.
fn has_spare(group: &str) -> bool {
    let processes = fs::read_to_string(format!("{group}/cgroup.procs")).unwrap_or_default();
    processes.lines().any(|pid| {
        let told = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let waits = told.split(|byte| *byte == 0).any(|word| word == b"--spare");
        waits && fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|dir| dir == Path::new("/"))
    })
}

/// Ends processes at once. One that has ended by itself meanwhile is no error.
pub(crate) fn kill_9(pids: &[u32]) {
    if !pids.is_empty() {
        let pids: Vec<_> = pids.iter().map(u32::to_string).collect();
        let _ = std::process::Command::new("kill").arg("-9").args(&pids).stderr(Stdio::null()).status();
    }
}

/// Stopped in order, so that no replica is left behind, also when a test fails.
impl Drop for Server {
    fn drop(&mut self) {
        let Some(pid) = self.child.id() else { return };
        let _ = std::process::Command::new("kill").arg(pid.to_string()).status();
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while matches!(self.child.try_wait(), Ok(None)) && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Ids of the live processes that have `variable` (`NAME=value`) in their environment.
fn processes_with_variable(variable: &str) -> Vec<u32> {
    let has_it = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|one| one == variable.as_bytes())
    };
    processes().filter(has_it).collect()
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

async fn spawn(data: &Path, arguments: &[String]) -> (Child, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_marmot"));
    command.args(arguments);
    spawn_by(command, data).await
}

async fn spawn_by(mut command: Command, data: &Path) -> (Child, String) {
    let mut child = command
        .arg("--data-dir")
        .arg(data)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("marmot serve");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let url = tokio::time::timeout(LIMIT, async {
        while let Some(line) = lines.next_line().await.expect("read") {
            if let Some(at) = line.find("http://") {
                return line[at..].trim().to_owned();
            }
        }
        panic!("the server ended before it said where it listens");
    })
    .await
    .expect("the server starts in time");
    // What it prints later must not fill the pipe.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (child, url.trim_end_matches('/').to_owned())
}

/// Resolves every name to this machine: `NAME.localhost` is not known to every resolver.
struct Loopback;

impl reqwest::dns::Resolve for Loopback {
    fn resolve(&self, _name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let addresses: reqwest::dns::Addrs = Box::new(std::iter::once(SocketAddr::from(([127, 0, 0, 1], 0))));
        Box::pin(std::future::ready(Ok(addresses)))
    }
}

/// A client that finds every host on this machine and follows no redirect.
pub(crate) fn client() -> Client {
    Client::builder()
        .dns_resolver(Arc::new(Loopback))
        .redirect(reqwest::redirect::Policy::none())
        .timeout(LIMIT)
        .build()
        .expect("client")
}

/// Speaks the REST API as one user.
#[derive(Clone)]
pub(crate) struct Api {
    base: String,
    pub(crate) token: Option<String>,
    /// For requests to apps.
    pub(crate) client: Client,
}

impl Api {
    /// Sends a request below `/api/data` and returns the status and the JSON of the answer.
    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> (StatusCode, Value) {
        let mut request = self.client.request(method, format!("{}/api/data{path}", self.base));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.expect("an answer");
        let status = answer.status();
        (status, serde_json::from_str(&answer.text().await.expect("a body")).unwrap_or(Value::Null))
    }

    /// GET that must succeed.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, answer) = self.send(Method::GET, path, None).await;
        assert!(status.is_success(), "GET {path}: {status} {answer}");
        answer
    }

    /// POST that must succeed.
    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.send(Method::POST, path, Some(&body)).await;
        assert!(status.is_success(), "POST {path}: {status} {answer}");
        answer
    }

    /// A public project, and in it a launcher for an app built from `repository`.
    pub(crate) async fn launcher(&self, name: &str, repository: &Repository) -> Value {
        let user = self.get("/user").await;
        let project = self
            .post(
                "/projects",
                json!({
                    "name": name, "slug": name, "namespace": user["username"], "visibility": "public",
                    "repositories": [repository.url()],
                }),
            )
            .await;
        self.post(
            "/session_launchers",
            json!({
                "name": name, "project_id": project["id"], "launcher_type": "app",
                "environment": {
                    "environment_image_source": "build", "repository": repository.url(),
                    "builder_variant": "auto", "frontend_variant": "none",
                },
            }),
        )
        .await
    }

    /// Activates a launcher's app and waits until it is in `phase`.
    pub(crate) async fn activate(&self, launcher: &Value, phase: &str) -> App {
        let app = self.post("/apps", json!({ "launcher_id": launcher["id"] })).await;
        let app = self.app(app["name"].as_str().expect("a name"));
        app.wait_for_phase(phase).await;
        app
    }

    /// The app of this name.
    pub(crate) fn app(&self, name: &str) -> App {
        App { api: self.clone(), name: name.to_owned() }
    }
}

/// An app that has been activated.
pub(crate) struct App {
    api: Api,
    /// Its name.
    pub(crate) name: String,
}

impl App {
    /// What the API says of it.
    pub(crate) async fn view(&self) -> Value {
        self.api.get(&format!("/apps/{}", self.name)).await
    }

    /// Waits until it is in `phase`; fails at once when it `failed` and that is not awaited.
    pub(crate) async fn wait_for_phase(&self, phase: &str) -> Value {
        wait_for(&format!("{} to be {phase}", self.name), || async {
            let view = self.view().await;
            assert!(phase == "failed" || view["phase"] != "failed", "{} failed: {view:#}", self.name);
            (view["phase"] == phase).then_some(view)
        })
        .await
    }

    /// Waits until its log has a line with this: what is said reaches the log after what is answered, now and then.
    pub(crate) async fn wait_for_line(&self, said: &str) {
        wait_for(&format!("{} to say {said:?}", self.name), || async {
            let logs = self.api.get(&format!("/apps/{}/logs", self.name)).await.to_string();
            logs.contains(said).then_some(())
        })
        .await;
    }

    /// Its address, without a path.
    pub(crate) async fn url(&self) -> String {
        self.view().await["url"].as_str().expect("a url").trim_end_matches('/').to_owned()
    }

    /// GET on the app's own host, as a program.
    pub(crate) async fn fetch(&self, path: &str) -> (StatusCode, String) {
        let url = format!("{}{path}", self.url().await);
        let answer = self.api.client.get(url).send().await.expect("an answer");
        (answer.status(), answer.text().await.expect("a body"))
    }

    /// GET that must succeed, parsed.
    pub(crate) async fn fetch_json(&self, path: &str) -> Value {
        let (status, body) = self.fetch(path).await;
        assert_eq!(status, 200, "GET {path}: {body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// Shuts it down.
    pub(crate) async fn shut_down(&self) {
        let (status, answer) = self.api.send(Method::DELETE, &format!("/apps/{}", self.name), None).await;
        assert_eq!(status, 204, "{answer}");
    }
}

/// GET over a connection of its own that must succeed, parsed.
pub(crate) async fn fetch_afresh(url: &str) -> Value {
    let answer = client().get(url).send().await.expect("an answer");
    assert_eq!(answer.status(), 200, "GET {url}");
    answer.json().await.expect("JSON")
}

/// Waits until `look` finds something.
pub(crate) async fn wait_for<T, F: Future<Output = Option<T>>>(what: &str, look: impl FnMut() -> F) -> T {
    wait_within(LIMIT, what, look).await
}

/// The same, for what may take longer.
pub(crate) async fn wait_within<T, F: Future<Output = Option<T>>>(
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {} s for {what}", limit.as_secs());
        sleep(Duration::from_millis(50)).await;
    }
}

/// A git repository in a temporary folder.
pub(crate) struct Repository {
    folder: TempDir,
}

impl Repository {
    /// A repository with one commit of these files.
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::Builder::new().prefix("marmot-repo-").tempdir().expect("temporary folder");
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().expect("has a parent")).expect("folder");
            fs::write(path, text).expect("file");
        }
        Self::commit(folder)
    }

    /// A repository with what is in `examples/NAME`.
    pub(crate) fn example(name: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("marmot-repo-").tempdir().expect("temporary folder");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name).join(".");
        let copied =
            std::process::Command::new("cp").arg("-a").args([&source, &folder.path().to_path_buf()]).status();
        assert!(copied.expect("cp").success(), "copy {}", source.display());
        Self::commit(folder)
    }

    /// A repository whose app answers with what it knows of itself; see [`PROBE`].
    pub(crate) fn probe() -> Self {
        Self::of(&[("app.py", PROBE), ("requirements.txt", ""), ("Procfile", "web: python3 app.py\n")])
    }

    fn commit(folder: TempDir) -> Self {
        for arguments in [
            &["init", "-q", "-b", "main"][..],
            &["add", "-A"],
            &["-c", "user.name=Test", "-c", "user.email=test@example.org", "commit", "-q", "-m", "First"],
        ] {
            let done = std::process::Command::new("git").args(arguments).current_dir(folder.path()).status();
            assert!(done.expect("git").success(), "git {arguments:?}");
        }
        Self { folder }
    }

    /// The address a launcher names.
    pub(crate) fn url(&self) -> String {
        self.folder.path().display().to_string()
    }

    /// Where it is.
    #[allow(dead_code, reason = "used by some tests only")]
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().to_path_buf()
    }
}

/// A web app of Python's standard library that tests can ask to misbehave.
pub(crate) const PROBE: &str = r#"
import json, os, subprocess, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

born = time.time_ns()
count = 0
lock = threading.Lock()

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body leave together: who is killed has answered whole, or not at all.
    wbufsize = -1

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        global count
        with lock:
            count += 1
            mine = count
        if self.path == "/headers":
            return self.answer(dict(self.headers))
        if self.path == "/environment":
            return self.answer(dict(os.environ))
        if self.path == "/exit":
            os._exit(7)
        if self.path == "/daemon":
            subprocess.Popen(["setsid", "sh", "-c", "sleep 600 & sleep 600"], start_new_session=True)
        if self.path == "/slow":
            time.sleep(1)
        self.answer({"born": born, "count": mine, "cwd": os.getcwd()})

    def do_POST(self):
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        if self.path == "/exit":
            os._exit(7)
        if self.path == "/hog":
            hoard = [bytearray(64 << 20) for _ in range(64)]
        self.answer({"received": len(body)})

    def log_message(self, format, *args):
        print("probe:", format % args, flush=True)

server = ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler)
server.request_queue_size = 512
print("probe: ready", flush=True)
server.serve_forever()
"#;
