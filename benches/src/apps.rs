//! Example apps on a server: deployed over the API, asked through the gateway, put to sleep, looked at.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::contained::Image;
use crate::server::Server;

/// How long a build may take; anything else is quicker.
const LIMIT: Duration = Duration::from_secs(600);

/// What is asked of an example: the main page, but for a model endpoint.
const MODEL: &str = "fastapi-predict";

/// An app that is on.
pub(crate) struct App {
    /// Its name on the server.
    pub(crate) name: String,
    /// Where people open it.
    pub(crate) url: String,
    platform: String,
    token: String,
    client: Client,
    is_model: bool,
    _repository: Option<TempDir>,
}

impl App {
    /// Deploys the example in this directory, and waits until it runs.
    ///
    /// # Errors
    /// When it cannot be built or started.
    pub(crate) async fn deploy(server: &Server, token: &str, example: &Path) -> anyhow::Result<Self> {
        let directory = example.file_name().context("a name")?.to_string_lossy().into_owned();
        let repository = repository(example).await?;
        let environment = json!({
            "environment_image_source": "build",
            "repository": repository.path(),
            "builder_variant": "auto",
            "frontend_variant": "none",
        });
        let is_model = directory == MODEL;
        Self::launch(server, token, &directory, environment, is_model, Some(repository)).await
    }

    /// Deploys the image of an example, and waits until it runs.
    ///
    /// # Errors
    /// When it cannot be pulled or started.
    pub(crate) async fn of_image(
        server: &Server,
        token: &str,
        image: &Image,
        built: &Self,
    ) -> anyhow::Result<Self> {
        Self::launch(server, token, &image.name, image.environment.clone(), built.is_model, None).await
    }

    async fn launch(
        server: &Server,
        token: &str,
        directory: &str,
        environment: Value,
        is_model: bool,
        repository: Option<TempDir>,
    ) -> anyhow::Result<Self> {
        let client = client()?;
        let api = Api { platform: &server.url, token, client: &client };
        let project =
            json!({ "name": directory, "visibility": "public", "namespace": "ada", "slug": directory });
        let project = api.send(Method::POST, "/projects", Some(project)).await?;
        let launcher = json!({
            "name": directory,
            "project_id": project["id"],
            "launcher_type": "app",
            "environment": environment,
        });
        let launcher = api.send(Method::POST, "/session_launchers", Some(launcher)).await?;
        let app = api.send(Method::POST, "/apps", Some(json!({ "launcher_id": launcher["id"] }))).await?;
        let text = |field: &str| app[field].as_str().map(str::to_owned).context("an app's name and address");
        let (name, url) = (text("name")?, text("url")?);
        let (platform, token) = (server.url.clone(), token.to_owned());
        let app = Self { name, url, platform, token, client, is_model, _repository: repository };
        app.until(|view| view["phase"] == "running").await.with_context(|| directory.to_owned())?;
        Ok(app)
    }

    /// Asks for the main page, or for a prediction, on a connection of its own; how long the whole answer took.
    ///
    /// # Errors
    /// When the answer is none or bad.
    pub(crate) async fn ask(&self) -> anyhow::Result<Duration> {
        ask(&client()?, &self.url, self.is_model).await
    }

    /// Whether it is a model endpoint, which is asked for a prediction.
    pub(crate) fn is_model(&self) -> bool {
        self.is_model
    }

    /// How it is, as the API says.
    ///
    /// # Errors
    /// When the server does not answer.
    pub(crate) async fn view(&self) -> anyhow::Result<Value> {
        let api = Api { platform: &self.platform, token: &self.token, client: &self.client };
        api.send(Method::GET, &format!("/apps/{}", self.name), None).await
    }

    /// Puts it to sleep.
    ///
    /// # Errors
    /// When the server does not answer.
    pub(crate) async fn rest(&self) -> anyhow::Result<()> {
        let api = Api { platform: &self.platform, token: &self.token, client: &self.client };
        let state = json!({ "state": "hibernated" });
        api.send(Method::PATCH, &format!("/apps/{}", self.name), Some(state)).await.map(drop)
    }

    /// Says how it scales.
    ///
    /// # Errors
    /// When the server refuses.
    pub(crate) async fn scale(&self, said: Value) -> anyhow::Result<()> {
        let api = Api { platform: &self.platform, token: &self.token, client: &self.client };
        api.send(Method::PUT, &format!("/apps/{}/scaling", self.name), Some(said)).await.map(drop)
    }

    /// What happened to it, newest first.
    ///
    /// # Errors
    /// When the server does not answer.
    pub(crate) async fn events(&self) -> anyhow::Result<Value> {
        let api = Api { platform: &self.platform, token: &self.token, client: &self.client };
        api.send(Method::GET, &format!("/apps/{}/events?per_page=100", self.name), None).await
    }

    /// Waits until it is so.
    ///
    /// # Errors
    /// When it has failed, or is not so in time.
    pub(crate) async fn until(&self, is_so: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let view = self.view().await?;
            if is_so(&view) {
                return Ok(view);
            }
            ensure!(view["phase"] != "failed" && Instant::now() < deadline, "{view:#}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Asks what is at `url`, a model or a page; how long the whole answer took.
///
/// # Errors
/// When the answer is none or bad.
pub(crate) async fn ask(client: &Client, url: &str, is_model: bool) -> anyhow::Result<Duration> {
    let base = url.trim_end_matches('/');
    let request = if is_model {
        let flower =
            json!({ "sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2 });
        client.post(format!("{base}/predict")).json(&flower)
    } else {
        client.get(format!("{base}/"))
    };
    let began = Instant::now();
    request.send().await?.error_for_status()?.bytes().await?;
    Ok(began.elapsed())
}

/// A client that finds every host on this machine.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn client() -> anyhow::Result<Client> {
    struct Loopback;
    impl reqwest::dns::Resolve for Loopback {
        fn resolve(&self, _name: reqwest::dns::Name) -> reqwest::dns::Resolving {
            let addresses: reqwest::dns::Addrs =
                Box::new(std::iter::once(SocketAddr::from(([127, 0, 0, 1], 0))));
            Box::pin(std::future::ready(Ok(addresses)))
        }
    }
    Ok(Client::builder().dns_resolver(Arc::new(Loopback)).timeout(LIMIT).no_proxy().build()?)
}

/// The API of a server, as a user of it.
pub(crate) struct Api<'a> {
    pub(crate) platform: &'a str,
    pub(crate) token: &'a str,
    pub(crate) client: &'a Client,
}

impl Api<'_> {
    /// Sends a request and returns what is answered.
    ///
    /// # Errors
    /// When the server does not answer, or refuses.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<Value> {
        let request = self.client.request(method.clone(), format!("{}/api/data{path}", self.platform));
        let request =
            body.into_iter().fold(request.bearer_auth(self.token), |request, body| request.json(&body));
        let answer = request.send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        if !status.is_success() {
            bail!("{method} {path}: {status} {text}");
        }
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }
}

/// A repository with the files of a directory.
///
/// # Errors
/// When git fails.
pub(crate) async fn repository(example: &Path) -> anyhow::Result<TempDir> {
    let dir = tempfile::Builder::new().prefix("marmot-bench-code-").tempdir()?;
    let run = async |program: &str, arguments: &[&str]| -> anyhow::Result<()> {
        let status = Command::new(program).args(arguments).current_dir(dir.path()).status().await?;
        ensure!(status.success(), "`{program} {}` failed", arguments.join(" "));
        Ok(())
    };
    let from = format!("{}/.", example.display());
    run("cp", &["-r", &from, "."]).await?;
    run("git", &["init", "--quiet", "--initial-branch=main"]).await?;
    run("git", &["add", "--all"]).await?;
    let who = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"];
    run("git", &[&who[..], &["commit", "--quiet", "--message", "Add the example"]].concat()).await?;
    Ok(dir)
}
