//! Images: pulled with progress, looked at, removed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use futures_util::StreamExt as _;
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::api::{Answer, Api, Body, Call, EngineError, empty};
use super::reference::Reference;
use super::words::{ImageError, NotPushed, machine};
use crate::wanted::Login;

/// A registry that sends nothing for so long has forgotten about us.
const SILENT_FOR: Duration = Duration::from_secs(120);

/// As the header `X-Registry-Auth`.
fn header(login: &Login) -> String {
    let told = json!({"username": login.username, "password": login.password, "serveraddress": login.host});
    URL_SAFE.encode(told.to_string())
}

/// Several, as the header `X-Registry-Config`.
pub(crate) fn header_of_all(all: &[Login]) -> Option<String> {
    let entry = |one: &Login| {
        let registry = match one.host.as_str() {
            // Where Docker looks for those of its own registry.
            "docker.io" => "https://index.docker.io/v1/".to_owned(),
            other => other.to_owned(),
        };
        (registry, json!({"username": one.username, "password": one.password}))
    };
    let told: serde_json::Map<String, Value> = all.iter().map(entry).collect();
    (!told.is_empty()).then(|| URL_SAFE.encode(Value::Object(told).to_string()))
}

/// What an image says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ImageFacts {
    /// The digest of its configuration, which names it in this engine for good.
    pub(crate) id: String,
    /// By which its registry names it.
    pub(crate) digest: Option<String>,
    /// All by which it may: of an image for several architectures, that of the whole list is one.
    pub(crate) digests: Vec<String>,
    /// The TCP ports it says it listens on, in ascending order.
    pub(crate) ports: Vec<u16>,
    /// `USER`, as it is written.
    pub(crate) user: String,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) labels: BTreeMap<String, String>,
    /// What it starts, entry point and arguments together.
    pub(crate) command: Vec<String>,
    pub(crate) architecture: String,
    pub(crate) bytes: u64,
}

impl ImageFacts {
    fn made_for_this_machine(self, image: &Reference) -> Result<Self, ImageError> {
        if self.architecture.is_empty() || self.architecture == machine() {
            return Ok(self);
        }
        Err(ImageError::WrongArchitecture { image: image.to_string(), machine: machine().to_owned() })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    repo_digests: Option<Vec<String>>,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    size: i64,
    config: Option<Config>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Config {
    user: Option<String>,
    exposed_ports: Option<HashMap<String, Value>>,
    env: Option<Vec<String>>,
    labels: Option<BTreeMap<String, String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
}

/// What a build leaves of an image: which one it is, for good, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedImage {
    /// Names it in the engine of this machine.
    pub id: String,
    /// Names it in its registry, by digest; absent for one that was built here.
    pub origin: Option<String>,
    /// Where it listens when nobody says so, not even the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// What a command of the launcher's is given to, where the image has something that prepares its programs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before_command: Vec<String>,
}

impl PinnedImage {
    /// The one that was built here and has this id.
    pub(crate) fn of(id: impl Into<String>) -> Self {
        Self { id: id.into(), origin: None, port: None, before_command: Vec::new() }
    }
}

impl Api {
    /// What is known of an image here; `None` when it is not here.
    pub(crate) async fn image(&self, name: &str) -> Result<Option<ImageFacts>, EngineError> {
        match self.get::<Inspected>(Call::new(&["images", name, "json"])).await {
            Ok(found) => Ok(Some(facts(found, name))),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Pulls an image; `progress` is told how far it is. Dropped before it is done, the engine stops.
    pub(crate) async fn pull(
        &self,
        image: &Reference,
        login: Option<&Login>,
        progress: impl FnMut(Progress),
    ) -> Result<ImageFacts, ImageError> {
        let (found, told) = self.fetch(image, login, progress).await?;
        if told.is_some() {
            return Ok(ImageFacts { digest: told, ..found });
        }
        // An image that came from several places has the digests of all of them beside each name, where Podman is asked.
        // Its registry knows those that are its own.
        if let [_, _, ..] = found.digests[..] {
            for digest in &found.digests {
                let Some(pinned) = image.at(digest) else { continue };
                match self.fetch(&pinned, login, |_| {}).await {
                    Ok((same, _)) if same.id == found.id => {
                        return Ok(ImageFacts { digest: Some(digest.clone()), ..found });
                    }
                    Ok(_) | Err(ImageError::NotFound(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(found)
    }

    /// The same, and the digest by which the engine says that it fetched it.
    async fn fetch(
        &self,
        image: &Reference,
        login: Option<&Login>,
        mut progress: impl FnMut(Progress),
    ) -> Result<(ImageFacts, Option<String>), ImageError> {
        let with = login.is_some();
        let call = Call::new(&["images", "create"])
            .with("fromImage", image.name())
            .with("tag", image.version())
            .with("platform", format!("linux/{}", machine()))
            .header("x-registry-auth", login.map(header));
        let of_engine = |error: EngineError| ImageError::of_engine(&error, image, with);
        let starting = tokio::time::timeout(SILENT_FOR, self.send(Method::POST, call, empty()));
        let answer = starting.await.unwrap_or(Err(EngineError::Hangs(SILENT_FOR))).map_err(of_engine)?;
        let mut lines = std::pin::pin!(answer.objects());
        let (mut far, mut digest) = (Progress::default(), None);
        loop {
            let next = tokio::time::timeout(SILENT_FOR, lines.next()).await;
            match next.map_err(|_| of_engine(EngineError::Hangs(SILENT_FOR)))? {
                None => break,
                Some(Err(error)) => return Err(of_engine(error)),
                Some(Ok(line)) => {
                    if let Some(said) = line["error"].as_str() {
                        return Err(ImageError::of(said, image, with));
                    }
                    digest = told_digest(&line).or(digest);
                    far.note(&line);
                    progress(far.clone());
                }
            }
        }
        let found = self.image(&image.to_string()).await.map_err(of_engine)?;
        let found =
            found.ok_or_else(|| ImageError::NotFound(image.to_string()))?.made_for_this_machine(image)?;
        // What is asked for by its digest has that one.
        let asked = image.is_pinned().then(|| image.version().to_owned());
        Ok((found, asked.or(digest)))
    }

    /// An image that is here already, and that no registry is asked for.
    pub(crate) async fn local(&self, image: &Reference) -> Result<ImageFacts, ImageError> {
        let found = self.image(&image.to_string()).await;
        let found = found.map_err(|error| ImageError::of_engine(&error, image, false))?;
        found.ok_or_else(|| ImageError::NotHere(image.to_string()))?.made_for_this_machine(image)
    }

    /// Gives an image to a registry under this name, and returns its digest there.
    pub(crate) async fn push(
        &self,
        id: &str,
        name: &Reference,
        login: Option<&Login>,
        can_untag: bool,
    ) -> Result<String, NotPushed> {
        let of_engine = |error: EngineError| NotPushed::of_engine(&error, name, login.is_some());
        let called = |call: Call| call.with("repo", name.name()).with("tag", name.version());
        self.order(called(Call::new(&["images", id, "tag"]))).await.map_err(of_engine)?;
        let pushed = self.push_named(name, login).await;
        // Docker can only take the name away with the image.
        if can_untag {
            let untagged = self.order(called(Call::of_podman(&["images", id, "untag"]))).await;
            if let Err(error) = untagged {
                tracing::debug!(image = id, %error, "an image keeps a name it was pushed by");
            }
        }
        pushed
    }

    async fn push_named(&self, name: &Reference, login: Option<&Login>) -> Result<String, NotPushed> {
        let with = login.is_some();
        let of_engine = |error: EngineError| NotPushed::of_engine(&error, name, with);
        let nobody = || URL_SAFE.encode("{}");
        let call = Call::new(&["images", &name.name(), "push"])
            .with("tag", name.version())
            // Without this header, Docker asks for it.
            .header("x-registry-auth", Some(login.map_or_else(nobody, header)));
        let answer = self.send(Method::POST, call, empty()).await.map_err(of_engine)?;
        let mut lines = std::pin::pin!(answer.objects());
        let mut digest = None;
        loop {
            let next = tokio::time::timeout(SILENT_FOR, lines.next()).await;
            let Some(line) = next.map_err(|_| of_engine(EngineError::Hangs(SILENT_FOR)))? else { break };
            let line = line.map_err(of_engine)?;
            if let Some(said) = line["error"].as_str() {
                return Err(NotPushed::of(said, name, with));
            }
            let said = line["status"].as_str().and_then(|status| status.split_once("digest: "));
            let said = said.and_then(|(_, rest)| rest.split_whitespace().next());
            digest = line["aux"]["Digest"].as_str().or(said).map(str::to_owned).or(digest);
        }
        digest.ok_or_else(|| NotPushed::of("it does not say by which digest it has it", name, with))
    }

    /// An image as an archive, as `docker save` makes it.
    pub(crate) async fn export(&self, id: &str) -> Result<Answer, EngineError> {
        self.send(Method::GET, Call::new(&["images", id, "get"]), empty()).await
    }

    /// Takes in the image of such an archive.
    pub(crate) async fn load(&self, archive: Body) -> Result<(), EngineError> {
        let call = Call::new(&["images", "load"])
            .with("quiet", "true")
            .header("content-type", Some("application/x-tar".to_owned()));
        let answer = self.send(Method::POST, call, archive).await?;
        let mut lines = std::pin::pin!(answer.objects());
        while let Some(line) = lines.next().await {
            if let Some(said) = line?["error"].as_str() {
                return Err(EngineError::Garbled(said.to_owned()));
            }
        }
        Ok(())
    }

    /// The ids of all images that are here.
    pub(crate) async fn images(&self) -> Result<BTreeSet<String>, EngineError> {
        let listed: Vec<Listed> = self.get(Call::new(&["images", "json"]).with("all", "true")).await?;
        Ok(listed.into_iter().map(|image| image.id).collect())
    }

    /// Removes an image that no container uses. `false`: it is in use.
    pub(crate) async fn remove_image(&self, id: &str) -> Result<bool, EngineError> {
        match self.delete(Call::new(&["images", id]).with("force", "false")).await {
            Ok(()) => Ok(true),
            Err(error) if error.is_missing() => Ok(true),
            Err(EngineError::Refused { status: http::StatusCode::CONFLICT, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// `Digest: sha256:…`, as Docker ends a pull.
fn told_digest(line: &Value) -> Option<String> {
    line["status"].as_str()?.strip_prefix("Digest: ").map(|digest| digest.trim().to_owned())
}

fn facts(found: Inspected, name: &str) -> ImageFacts {
    let config = found.config.unwrap_or_default();
    let port = |text: &String| text.strip_suffix("/tcp").unwrap_or(text).parse().ok();
    let mut ports: Vec<u16> = config.exposed_ports.iter().flat_map(HashMap::keys).filter_map(port).collect();
    ports.sort_unstable();
    let repository = name.split('@').next().unwrap_or(name);
    // What follows the last colon is a tag, unless it is the port of the registry.
    let repository = match repository.rsplit_once(':') {
        Some((before, tag)) if !tag.contains('/') => before,
        _ => repository,
    };
    // Docker leaves out what is usual.
    let also = repository.strip_prefix("docker.io/");
    let also = [Some(repository), also, also.and_then(|rest| rest.strip_prefix("library/"))];
    let asked = name.split_once('@').map(|(_, digest)| digest.to_owned());
    let digests = found.repo_digests.unwrap_or_default();
    let mut digests: Vec<String> = digests
        .iter()
        .filter_map(|entry| entry.split_once('@'))
        .filter(|(of, _)| also.contains(&Some(*of)))
        .map(|(_, digest)| digest.to_owned())
        .collect();
    digests.dedup();
    let digest = digests.last().cloned();
    let variable =
        |text: &String| text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    ImageFacts {
        id: found.id,
        digest: asked.or(digest),
        digests,
        ports,
        user: config.user.unwrap_or_default(),
        env: config.env.iter().flatten().filter_map(variable).collect(),
        labels: config.labels.unwrap_or_default(),
        command: config.entrypoint.into_iter().flatten().chain(config.cmd.into_iter().flatten()).collect(),
        architecture: found.architecture,
        bytes: u64::try_from(found.size).unwrap_or(0),
    }
}

/// How far a pull is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    layers: BTreeMap<String, Layer>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Layer {
    bytes: u64,
    total: u64,
    done: bool,
}

impl Progress {
    fn note(&mut self, line: &Value) {
        let Some(id) = line["id"].as_str() else { return };
        let status = line["status"].as_str().unwrap_or_default();
        if status.starts_with("Pulling from") {
            return;
        }
        let layer = self.layers.entry(id.to_owned()).or_default();
        let detail = &line["progressDetail"];
        if let (Some(bytes), Some(total)) = (detail["current"].as_u64(), detail["total"].as_u64())
            && status.starts_with("Downloading")
        {
            (layer.bytes, layer.total) = (bytes, total);
        }
        layer.done |= ["Download complete", "Pull complete", "Already exists"].contains(&status);
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layers = self.layers.values();
        let done = layers.clone().filter(|layer| layer.done).count();
        write!(f, "{done} of {} parts", self.layers.len())?;
        let total: u64 = layers.clone().map(|layer| layer.total).sum();
        if total > 0 {
            let bytes: u64 = layers.map(|layer| if layer.done { layer.total } else { layer.bytes }).sum();
            write!(f, ", {} of {} MB", bytes / 1_000_000, total.div_ceil(1_000_000))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inspected(json: Value) -> Inspected {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn an_image_is_known_by_the_digest_of_the_repository_it_was_asked_from() {
        let one = format!("sha256:{}", "1".repeat(64));
        let two = format!("sha256:{}", "2".repeat(64));
        let image = || {
            inspected(json!({
                "Id": "sha256:abc", "Size": 5, "Architecture": "amd64",
                "RepoDigests": [format!("localhost/x@{one}"), format!("127.0.0.1:5000/x@{two}"), format!("python@{one}")],
                "Config": {"ExposedPorts": {"8080/tcp": {}, "53/udp": {}, "22": {}}, "User": "app",
                    "Env": ["A=b=c"], "Entrypoint": ["/run"], "Cmd": ["x"]}
            }))
        };
        let found = facts(image(), "127.0.0.1:5000/x:1");
        assert_eq!(found.digest.as_deref(), Some(two.as_str()));
        assert_eq!((found.ports.as_slice(), found.env["A"].as_str()), (&[22, 8080][..], "b=c"));
        assert_eq!(found.command, ["/run", "x"]);
        assert_eq!(facts(image(), "docker.io/library/python:3").digest.as_ref(), Some(&one));
        assert_eq!(facts(image(), "ghcr.io/y:1").digest, None);
        let bare = facts(inspected(json!({"Id": "sha256:abc", "Config": null, "RepoDigests": null})), "x");
        assert_eq!((bare.ports.len(), bare.user.as_str()), (0, ""));
    }

    #[test]
    fn progress_adds_up_over_the_layers() {
        let mut far = Progress::default();
        for line in [
            json!({"status": "Pulling from library/x", "id": "1"}),
            json!({"status": "Pulling fs layer", "id": "a", "progressDetail": {}}),
            json!({"status": "Downloading", "id": "a", "progressDetail": {"current": 2_000_000, "total": 4_000_000}}),
            json!({"status": "Downloading", "id": "b", "progressDetail": {"current": 1, "total": 6_000_000}}),
            json!({"status": "Download complete", "id": "b"}),
            json!({"status": "Status: done"}),
        ] {
            far.note(&line);
        }
        assert_eq!(far.to_string(), "1 of 2 parts, 8 of 10 MB");
    }

    #[test]
    fn credentials_are_told_to_the_engine_alone() {
        let one = Login {
            host: "docker.io".to_owned(),
            username: "ada".to_owned(),
            password: "hunter2".to_owned(),
        };
        let told = URL_SAFE.decode(header_of_all(std::slice::from_ref(&one)).unwrap()).unwrap();
        assert!(String::from_utf8(told).unwrap().starts_with(r#"{"https://index.docker.io/v1/""#));
        assert_eq!(header_of_all(&[]), None);
    }
}
