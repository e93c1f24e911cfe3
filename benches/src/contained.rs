//! Example apps as container images, by a Podman of the bench's own: the very program and packages that were built from
//! the code, packed with what they need of this machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::apps::App;
use crate::podman::Podman;
use crate::server::Server;

/// Packs what is at the paths `$1`… into `$0`, with the libraries and the Python of this machine that it needs.
const PACK: &str = r#"
set -e
libraries=$(find "$@" /usr/bin/python3 -name '*.so*' -o -type f -perm -100 -name 'python3*' | xargs -r ldd 2>/dev/null |
    grep -o '/[^ ]* (0x' | cut -d' ' -f1 | sort -u; ldd "$(readlink -f /usr/bin/python3)" | grep -o '/[^ ]* (0x' | cut -d' ' -f1)
standard=$(/usr/bin/python3 -c "import sysconfig; print(sysconfig.get_path('stdlib'))")
extensions=$(ldd "$standard"/lib-dynload/*.so | grep -o '/[^ ]* (0x' | cut -d' ' -f1 | sort -u)
cd /
tar -rf "$0" --mode=a+rX -h $(for one in $libraries $extensions; do echo "$one"; done | sort -u | grep -v '^/tmp/' | sed 's/^/./') \
    ./usr/bin/python3 "./$(readlink -f /usr/bin/python3)" ./etc/ssl/certs
tar -rf "$0" --mode=a+rX --exclude=test ".$standard"
for one in "$@"; do tar -rf "$0" --mode=a+rX ".$one"; done
"#;

/// Where this machine's own programs are.
const OF_THE_MACHINE: [&str; 6] = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc"];

/// A registry with images of the examples.
pub(crate) struct Images {
    podman: Podman,
    registry: String,
    made: BTreeMap<String, Image>,
}

/// An example's image, and how it is started.
#[derive(Clone)]
pub(crate) struct Image {
    /// As a launcher names it.
    pub(crate) name: String,
    /// The environment of a launcher.
    pub(crate) environment: Value,
}

impl Images {
    /// Starts an engine and a registry.
    ///
    /// # Errors
    /// When this machine has none.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let mut podman = Podman::start().context("the container runtime cannot be measured here")?;
        let registry = podman.registry(None);
        Ok(Self { podman, registry, made: BTreeMap::new() })
    }

    /// The socket of its engine.
    pub(crate) fn socket(&self) -> PathBuf {
        self.podman.socket()
    }

    /// The image of an example that was built for `app`.
    ///
    /// # Errors
    /// When it cannot be packed.
    pub(crate) async fn of(&mut self, server: &Server, app: &App) -> anyhow::Result<Image> {
        if let Some(made) = self.made.get(&app.name) {
            return Ok(made.clone());
        }
        let build = app.view().await?["build"]["id"].as_str().context("a build")?.to_owned();
        let artefact = server.data_dir().join("builds").join(build).join("artefact");
        let run: Value = serde_json::from_slice(&std::fs::read(artefact.join("run.json"))?)?;
        let made = self.pack(app, &artefact, &run).await?;
        self.made.insert(app.name.clone(), made.clone());
        Ok(made)
    }

    async fn pack(&self, app: &App, artefact: &Path, run: &Value) -> anyhow::Result<Image> {
        let words = |field: &str| -> Vec<String> {
            let list = run[field].as_array().cloned().unwrap_or_default();
            list.iter().filter_map(|word| word.as_str().map(str::to_owned)).collect()
        };
        let archive = crate::podman::archive(self.podman.dir.path(), &[]);
        let mut pack = Command::new("sh");
        // Of this machine's own directories, only the Python and the libraries that are needed are packed.
        let mut reads = words("reads");
        reads.retain(|path| !OF_THE_MACHINE.iter().any(|dir| Path::new(path).starts_with(dir)));
        pack.args(["-c", PACK]).arg(&archive).arg(artefact).args(reads);
        ensure!(pack.status().await?.success(), "{} cannot be packed", app.name);
        let path = [words("path_prepend"), vec!["/usr/bin:/bin".to_owned()]].concat().join(":");
        let mut instructions = vec!["EXPOSE 8000".to_owned(), format!("ENV PATH={path}")];
        for (name, value) in run["env"].as_object().into_iter().flatten() {
            instructions.push(format!("ENV {name}={}", value.as_str().unwrap_or_default()));
        }
        let instructions: Vec<&str> = instructions.iter().map(String::as_str).collect();
        let (local, name) =
            (format!("localhost/{}:1", app.name), format!("{}/{}:1", self.registry, app.name));
        self.podman.import(&archive, &local, &instructions);
        self.podman.push(&local, &name, None);
        let place = artefact.join(run["working_directory"].as_str().unwrap_or("code"));
        let environment = json!({
            "environment_kind": "CUSTOM",
            "environment_image_source": "image",
            "container_image": name,
            "command": words("command"),
            "working_directory": place,
            // Whoever runs as a user of their own finds an empty `/tmp`, which is where the server of a bench builds.
            "uid": 1234,
            "gid": 1234,
        });
        Ok(Image { name: format!("{}-image", app.name), environment })
    }
}
