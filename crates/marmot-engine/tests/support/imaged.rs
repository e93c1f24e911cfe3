//! What tests of images share: builds and pulls by an engine, in a data directory of their own.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses some of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use marmot_core::id::BuildId;
use marmot_engine::build::{self, BuildContext, BuildEnd, RunFile};
use marmot_engine::container::Engine;
use marmot_engine::layout::Layout;
use marmot_engine::observed::{BuildFailure, BuildOutcome};
use marmot_engine::wanted::{Builder, Login, Secret, Source, Variable, WantedBuild, WantedPull};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::podman::{Podman, SERVE};

pub const LIMIT: Duration = Duration::from_secs(60);

/// Builds by one engine, in a data directory of its own.
pub struct Place {
    pub data: TempDir,
    pub context: BuildContext,
    pub engine: Engine,
}

impl Place {
    pub fn new(podman: &Podman) -> Self {
        Self::by(podman.socket())
    }

    /// By the engine at this socket.
    pub fn by(socket: PathBuf) -> Self {
        let data = tempfile::tempdir().unwrap();
        let none = PathBuf::from("/nonexistent");
        let git = ["/usr/local/bin/git", "/usr/bin/git"].into_iter().find(|git| Path::new(git).exists());
        let cache = data.path().join("cache");
        let mut context = BuildContext::new(none.clone(), git.unwrap().into(), none, cache);
        (context.allow_local_repositories, context.allow_private_networks) = (true, true);
        let engine = Engine::at(socket, &Layout::new(data.path()));
        context.run_containers_by(&engine);
        Self { data, context, engine }
    }

    pub fn layout(&self) -> Layout {
        Layout::new(self.data.path())
    }

    pub async fn pull(
        &self,
        id: u128,
        image: &str,
        registries: &[Login],
    ) -> Result<BuildOutcome, BuildFailure> {
        let wanted = WantedPull {
            image: image.to_owned(),
            owner: 1.into(),
            port: None,
            command_given: false,
            registries: registries.to_vec(),
        };
        let dir = self.layout().build(id.into());
        fs::create_dir_all(&dir).unwrap();
        let pulling = build::pull(&self.context, id.into(), &wanted, &dir, |_| {}, CancellationToken::new());
        failure(tokio::time::timeout(LIMIT, pulling).await.expect("done in time"))
    }

    pub async fn build(
        &self,
        id: u128,
        files: &[(&str, &str)],
        cancel: CancellationToken,
        progress: impl Fn(marmot_core::Said) + Send + Sync,
    ) -> Result<BuildOutcome, BuildEnd> {
        self.build_as(id, files, cancel, progress, |_| {}).await
    }

    /// Builds what `change` makes of the usual wish.
    pub async fn build_as(
        &self,
        id: u128,
        files: &[(&str, &str)],
        cancel: CancellationToken,
        progress: impl Fn(marmot_core::Said) + Send + Sync,
        change: impl FnOnce(&mut WantedBuild),
    ) -> Result<BuildOutcome, BuildEnd> {
        let repository = tempfile::tempdir_in(self.data.path()).unwrap();
        for (name, text) in files {
            fs::write(repository.path().join(name), text).unwrap();
        }
        let git = |arguments: &[&str]| {
            let identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"];
            let mut command = Command::new(&self.context.git);
            command.current_dir(repository.path()).args(identity).args(arguments);
            assert!(command.output().unwrap().status.success());
        };
        git(&["init", "--quiet"]);
        git(&["add", "."]);
        git(&["commit", "--quiet", "--message", "x"]);
        let mut wanted = WantedBuild {
            source: Source {
                repository: repository.path().to_str().unwrap().to_owned(),
                revision: None,
                context_dir: None,
            },
            builder: Builder::Dockerfile,
            owner: 1.into(),
            command_given: false,
            logins: Vec::new(),
            registries: Vec::new(),
            image: <_>::default(),
            secrets: Vec::new(),
            variables: Vec::new(),
        };
        change(&mut wanted);
        let dir = self.layout().build(id.into());
        fs::create_dir_all(&dir).unwrap();
        let building = build::run(&self.context, id.into(), &wanted, &dir, progress, cancel);
        tokio::time::timeout(LIMIT, building).await.expect("done in time")
    }

    /// The same, with variables and secrets of the launcher.
    pub async fn built_with(
        &self,
        id: u128,
        files: &[(&str, &str)],
        variables: &[(&str, &str)],
        secrets: &[(&str, &str)],
    ) -> Result<BuildOutcome, BuildFailure> {
        let text = |(name, value): &(&str, &str)| (String::from(*name), String::from(*value));
        let given = |wanted: &mut WantedBuild| {
            let variables = variables.iter().map(text);
            wanted.variables = variables.map(|(name, value)| Variable { name, value }).collect();
            let secrets = secrets.iter().map(text);
            wanted.secrets = secrets.map(|(name, value)| Secret { name, value, is_file: false }).collect();
        };
        failure(self.build_as(id, files, CancellationToken::new(), |_| {}, given).await)
    }

    pub async fn built(&self, id: u128, files: &[(&str, &str)]) -> Result<BuildOutcome, BuildFailure> {
        failure(self.build(id, files, CancellationToken::new(), |_| {}).await)
    }

    pub fn image(&self, id: u128) -> String {
        let image = RunFile::read(&self.layout().artefact(id.into())).unwrap().image.unwrap();
        image.id.trim_start_matches("sha256:").to_owned()
    }

    pub fn log(&self, id: u128) -> String {
        fs::read_to_string(self.layout().build(BuildId::from(id)).join("log")).unwrap()
    }
}

pub fn failure(end: Result<BuildOutcome, BuildEnd>) -> Result<BuildOutcome, BuildFailure> {
    end.map_err(|end| match end {
        BuildEnd::Failed(failure) => failure,
        BuildEnd::Cancelled => panic!("it was cancelled"),
    })
}

/// An image that serves, in the registry alone.
pub fn publish(podman: &Podman, name: &str, text: &str, login: Option<(&str, &str)>) {
    let files = [("serve", SERVE), ("version", text)];
    let instructions = ["EXPOSE 8000", "CMD [\"/serve\"]"];
    podman.image("localhost/made:1", &files, &instructions);
    podman.push("localhost/made:1", name, login);
    podman.run(&["rmi", "--force", "localhost/made:1"]);
}
