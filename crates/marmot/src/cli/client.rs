//! A client of the REST API: where the server is, who asks, and what its refusals mean.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use futures_util::{Stream, StreamExt as _};
use reqwest::{Method, Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Hinted;
use super::output::line;
use crate::model::Secret;

/// What is remembered between commands.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Remembered {
    url: String,
    token: String,
}

/// Where it is remembered.
fn path() -> anyhow::Result<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
    Ok(config
        .context("there is no home directory: set MARMOT_URL and MARMOT_TOKEN")?
        .join("marmot/client.toml"))
}

/// Arguments of `marmot login`.
#[derive(Debug, Args)]
pub(super) struct Login {
    /// The server's address, like `https://marmot.example.org`.
    #[arg(default_value = "http://localhost:8080")]
    url: String,
    /// Sign in by name and password; a token is made and remembered, not the password.
    #[arg(long, value_name = "NAME")]
    username: Option<String>,
}

impl Login {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let url = self.url.trim_end_matches('/').to_owned();
        let token = match &self.username {
            Some(username) => {
                let password = read_secret("Password: ")?;
                let client = Client::new(url.clone(), None)?;
                let name = format!("marmot login on {}", host());
                let body = json!({"name": name, "username": username, "password": password.reveal()});
                let made = client.post("/user/tokens", Some(body)).await?;
                Secret::new(made["token"].as_str().context("the server gave no token")?)
            }
            None => match std::env::var("MARMOT_TOKEN") {
                Ok(token) => Secret::new(token),
                Err(_) => read_secret("Token: ")?,
            },
        };
        let user = Client::new(url.clone(), Some(token.clone()))?.get("/user").await?;
        remember(&Remembered { url: url.clone(), token: token.reveal().to_owned() })?;
        line(&format!("Signed in to {url} as {}.", user["username"].as_str().unwrap_or_default()))
    }
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Writes what is remembered, for its owner's eyes only.
fn remember(remembered: &Remembered) -> anyhow::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = path()?;
    let context = || format!("cannot write `{}`", path.display());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(context)?;
    }
    // Made anew, so that the mode of an older file does not matter.
    let draft = path.with_extension("new");
    let _ = std::fs::remove_file(&draft);
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft);
    file.and_then(|mut file| file.write_all(toml::to_string(remembered).unwrap_or_default().as_bytes()))
        .and_then(|()| std::fs::rename(&draft, &path))
        .with_context(context)
}

/// Reads one line from the terminal or a pipe. On a terminal it is not echoed.
pub(super) fn read_secret(prompt: &str) -> anyhow::Result<Secret> {
    let stdin = std::io::stdin();
    let _quiet = if stdin.is_terminal() {
        eprint!("{prompt}");
        Some(NoEcho::new()?)
    } else {
        None
    };
    let mut text = String::new();
    stdin.lock().read_line(&mut text).context("cannot read from the standard input")?;
    Ok(Secret::new(text.trim_end_matches(['\n', '\r'])))
}

/// Keeps the terminal from echoing what is typed, until it is dropped.
struct NoEcho(rustix::termios::Termios);

impl NoEcho {
    fn new() -> anyhow::Result<Self> {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let before = tcgetattr(std::io::stdin()).context("cannot ask the terminal")?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(std::io::stdin(), OptionalActions::Flush, &quiet).context("cannot set the terminal")?;
        Ok(Self(before))
    }
}

impl Drop for NoEcho {
    fn drop(&mut self) {
        let _ =
            rustix::termios::tcsetattr(std::io::stdin(), rustix::termios::OptionalActions::Flush, &self.0);
        eprintln!();
    }
}

/// A client of one server.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    url: String,
    token: Option<Secret>,
}

impl Client {
    /// A client of the server that the environment or `marmot login` names.
    pub(super) fn remembered() -> anyhow::Result<Self> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let stored = match path().and_then(|path| Ok(std::fs::read_to_string(path)?)) {
            Ok(text) => toml::from_str(&text).context("cannot read what `marmot login` remembered")?,
            Err(_) => Remembered::default(),
        };
        let url = variable("MARMOT_URL").or(Some(stored.url.clone()).filter(|url| !url.is_empty()));
        let url = url.ok_or_else(|| {
            Hinted::new(
                "no server is known",
                "sign in with `marmot login URL`, or set MARMOT_URL and MARMOT_TOKEN",
            )
        })?;
        // A token is for the server it came from: never sent to another one.
        let stored_token = Some(stored.token).filter(|token| !token.is_empty() && url == stored.url);
        Self::new(url, variable("MARMOT_TOKEN").or(stored_token).map(Secret::new))
    }

    fn new(url: String, token: Option<Secret>) -> anyhow::Result<Self> {
        let known = ["http://", "https://"].iter().any(|scheme| url.starts_with(scheme));
        if !known {
            return Err(Hinted::new(
                format!("`{url}` is no address of a server"),
                "give it like `https://marmot.example.org`",
            )
            .into());
        }
        // Redirects could lead a token elsewhere, and the API has none.
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Self { http, url: url.trim_end_matches('/').to_owned(), token })
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<Response> {
        let mut request = self.http.request(method, format!("{}/api/data{path}", self.url));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.reveal());
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.map_err(|error| {
            anyhow::Error::new(error.without_url()).context(Hinted::new(
                format!("the server at {} does not answer", self.url),
                "is it running? `marmot login URL` names another one",
            ))
        })?;
        if response.status().is_success() { Ok(response) } else { Err(refusal(response).await) }
    }

    async fn json(&self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        let response = self.send(method, path, body).await?;
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(Value::Null);
        }
        response.json().await.context("the server's answer is no JSON: is this a Marmot server?")
    }

    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.json(Method::GET, path, None).await
    }

    /// All items of a list, page by page.
    pub(super) async fn all(&self, path: &str) -> anyhow::Result<Value> {
        let mut items = Vec::new();
        let join = if path.contains('?') { '&' } else { '?' };
        for page in 1.. {
            let found = self.get(&format!("{path}{join}per_page=100&page={page}")).await?;
            let found = found.as_array().cloned().context("the server gave no list")?;
            let last = found.len() < 100;
            items.extend(found);
            if last {
                break;
            }
        }
        Ok(Value::Array(items))
    }

    pub(super) async fn post(&self, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        self.json(Method::POST, path, body).await
    }

    pub(super) async fn patch(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        self.json(Method::PATCH, path, Some(body)).await
    }

    pub(super) async fn put(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        self.json(Method::PUT, path, Some(body)).await
    }

    pub(super) async fn delete(&self, path: &str) -> anyhow::Result<Value> {
        self.json(Method::DELETE, path, None).await
    }

    /// The events of a stream: of each its name and its data.
    pub(super) async fn events(
        &self,
        path: &str,
    ) -> anyhow::Result<impl Stream<Item = anyhow::Result<(String, Value)>> + use<>> {
        let bytes = self.send(Method::GET, path, None).await?.bytes_stream();
        let start = (Box::pin(bytes), Vec::<u8>::new(), String::new());
        Ok(futures_util::stream::try_unfold(start, async |(mut bytes, mut rest, mut name)| {
            loop {
                while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
                    let text: Vec<u8> = rest.drain(..=end).collect();
                    let text = String::from_utf8_lossy(&text);
                    let text = text.trim_end();
                    if let Some(event) = text.strip_prefix("event:") {
                        name = event.trim().to_owned();
                    } else if let Some(data) = text.strip_prefix("data:") {
                        let data = serde_json::from_str(data.trim()).unwrap_or(Value::Null);
                        let event = (std::mem::take(&mut name), data);
                        return Ok(Some((event, (bytes, rest, name))));
                    }
                }
                match bytes.next().await {
                    Some(chunk) => rest.extend_from_slice(&chunk.context("the server's stream broke off")?),
                    None => return Ok(None),
                }
            }
        }))
    }
}

/// What the server's refusal says, and what to do where that is known.
async fn refusal(response: Response) -> anyhow::Error {
    let status = response.status();
    let body: Value = response.json().await.unwrap_or_default();
    let text = |field: &str| {
        body.pointer(&format!("/error/{field}")).and_then(Value::as_str).map(super::render::harmless)
    };
    let Some(mut message) = text("message") else {
        return Hinted::new(
            format!("the server answered {status}"),
            "is this the address of a Marmot server?",
        )
        .into();
    };
    if let Some(detail) = text("detail") {
        message = format!("{message} ({detail})");
    }
    match status {
        StatusCode::UNAUTHORIZED => Hinted::new(message, "sign in with `marmot login URL`").into(),
        StatusCode::INTERNAL_SERVER_ERROR => {
            let trace = text("trace_id").unwrap_or_default();
            Hinted::new(message, format!("give the operator this id: {trace}")).into()
        }
        _ => anyhow::anyhow!(message),
    }
}
