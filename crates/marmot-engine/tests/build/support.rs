//! A place to build in: real git repositories, real uv, packages of our own making, and no network.

#![allow(dead_code, reason = "each file of tests uses its part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use marmot_core::id::BuildId;
use marmot_engine::build::{self, BuildContext, BuildEnd, RunFile};
use marmot_engine::observed::{BuildFailure, BuildOutcome};
use marmot_engine::wanted::{Builder, Source, WantedBuild};
use tokio_util::sync::CancellationToken;

/// A place to build in, which goes with its guard.
pub(crate) struct Place {
    dir: tempfile::TempDir,
    pub(crate) context: BuildContext,
}

/// What came of a build, and what it wrote.
pub(crate) struct Built {
    pub(crate) end: Result<BuildOutcome, BuildEnd>,
    pub(crate) log: String,
    pub(crate) dir: PathBuf,
    pub(crate) steps: Vec<String>,
}

impl Built {
    pub(crate) fn outcome(&self) -> &BuildOutcome {
        self.end.as_ref().unwrap_or_else(|end| panic!("{end:?}\n{}", self.log))
    }

    pub(crate) fn failure(&self) -> &BuildFailure {
        match &self.end {
            Err(BuildEnd::Failed(failure)) => failure,
            other => panic!("not a failure: {other:?}\n{}", self.log),
        }
    }

    pub(crate) fn run_file(&self) -> RunFile {
        RunFile::read(&self.dir.join("artefact")).unwrap()
    }

    pub(crate) fn code(&self, path: &str) -> PathBuf {
        self.dir.join("artefact/code").join(path)
    }
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache");
        let marmot = dir.path().join("marmot");
        let mut context = BuildContext::new(uv(), "git".into(), marmot, cache);
        context.allow_local_repositories = true;
        context.confine_if_possible().expect("these tests need bubblewrap");
        let wheels = dir.path().join("wheels");
        fs::create_dir(&wheels).unwrap();
        let set = |name: &str, value: String| (name.to_owned(), value);
        context.environment = vec![
            set("UV_OFFLINE", "1".into()),
            set("UV_NO_INDEX", "1".into()),
            set("UV_FIND_LINKS", wheels.display().to_string()),
        ];
        Self { dir, context }
    }

    /// A context like this place's own, for an engine.
    pub(crate) fn another_context(&self) -> BuildContext {
        let context = &self.context;
        let (git, marmot) = (context.git.clone(), context.marmot.clone());
        let mut another = BuildContext::new(context.uv.clone(), git, marmot, context.cache_dir.clone());
        another.allow_local_repositories = context.allow_local_repositories;
        another.environment.clone_from(&context.environment);
        another
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A repository with one commit of these files.
    pub(crate) fn repository(&self, name: &str, files: &[(&str, &str)]) -> Repository {
        let repository = Repository(self.path(name));
        fs::create_dir_all(&repository.0).unwrap();
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        repository.commit(files);
        repository
    }

    /// Puts a ready-made package with one module, and possibly a program, where uv finds it.
    pub(crate) fn wheel(&self, name: &str, version: &str, module: &str) {
        let script = r#"
import sys, zipfile
path, name, version, module = sys.argv[1:]
info = f"{name}-{version}.dist-info"
with zipfile.ZipFile(path, "w") as wheel:
    wheel.writestr(f"{name}.py", module)
    wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr(f"{info}/entry_points.txt", f"[console_scripts]\n{name} = {name}:main\n")
    wheel.writestr(f"{info}/RECORD", "")
"#;
        let path = self.path("wheels").join(format!("{name}-{version}-py3-none-any.whl"));
        python(script, &[path.to_str().unwrap(), name, version, module]);
    }

    /// Puts a package where uv finds it that must be built, by this code of its own.
    pub(crate) fn source_package(&self, name: &str, version: &str, backend: &str) {
        let script = r#"
import io, sys, tarfile
path, name, version, backend = sys.argv[1:]
files = {
    "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
    "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
    "backend.py": backend,
}
with tarfile.open(path, "w:gz") as sdist:
    for file, text in files.items():
        entry = tarfile.TarInfo(f"{name}-{version}/{file}")
        entry.size = len(text.encode())
        sdist.addfile(entry, io.BytesIO(text.encode()))
"#;
        let path = self.path("wheels").join(format!("{name}-{version}.tar.gz"));
        python(script, &[path.to_str().unwrap(), name, version, backend]);
    }

    pub(crate) async fn build(&self, repository: &Repository) -> Built {
        self.build_with(repository, |_| {}).await
    }

    pub(crate) async fn build_with(
        &self,
        repository: &Repository,
        change: impl FnOnce(&mut WantedBuild),
    ) -> Built {
        let source = Source { repository: repository.address(), revision: None, context_dir: None };
        let mut wanted = wanted(source);
        change(&mut wanted);
        self.run(&wanted, CancellationToken::new()).await
    }

    pub(crate) async fn run(&self, wanted: &WantedBuild, cancel: CancellationToken) -> Built {
        static NUMBER: Mutex<u128> = Mutex::new(0);
        let id = {
            let mut number = NUMBER.lock().unwrap();
            *number += 1;
            // Marks of processes must not be those of another test run.
            BuildId::from((u128::from(std::process::id()) << 64) | *number)
        };
        let dir = self.path(&format!("builds/{id}"));
        fs::create_dir_all(&dir).unwrap();
        let steps = Mutex::new(Vec::new());
        let progress = |step: marmot_core::Said| steps.lock().unwrap().push(step.to_string());
        let end = build::run(&self.context, id, wanted, &dir, progress, cancel).await;
        let log = fs::read_to_string(dir.join("log")).unwrap();
        assert!(dir.join("log.done").exists(), "the log is not marked as whole");
        assert!(!dir.join("home").exists(), "the home of the build is still there");
        assert_eq!(dir.join("artefact").exists(), end.is_ok(), "{end:?}");
        Built { end, log, dir, steps: steps.into_inner().unwrap() }
    }
}

/// A build of this that asks for nothing else.
pub(crate) fn wanted(source: Source) -> WantedBuild {
    WantedBuild {
        source,
        builder: Builder::Auto,
        owner: 1.into(),
        command_given: false,
        registries: Vec::new(),
        image: <_>::default(),
        variables: Vec::new(),
        secrets: Vec::new(),
        logins: Vec::new(),
    }
}

/// A git repository with a work tree.
pub(crate) struct Repository(pub(crate) PathBuf);

impl Repository {
    pub(crate) fn address(&self) -> String {
        self.0.display().to_string()
    }

    pub(crate) fn commit(&self, files: &[(&str, &str)]) -> String {
        for (path, text) in files {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", "Change something"]);
        self.head()
    }

    pub(crate) fn head(&self) -> String {
        self.git(&["rev-parse", "HEAD"])
    }

    pub(crate) fn git(&self, args: &[&str]) -> String {
        git(&self.0, args, "")
    }
}

/// Runs git in `dir`, with `input`, and returns what it says.
pub(crate) fn git(dir: &Path, args: &[&str], input: &str) -> String {
    use std::io::Write as _;
    use std::process::Stdio;
    let mut child = Command::new("git")
        .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "protocol.file.allow=always"])
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let said = child.wait_with_output().unwrap();
    assert!(said.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8(said.stdout).unwrap().trim().to_owned()
}

fn python(script: &str, args: &[&str]) {
    let status = Command::new("/usr/bin/env").args(["python3", "-c", script]).args(args).status().unwrap();
    assert!(status.success());
}

fn uv() -> PathBuf {
    if let Some(path) = std::env::var_os("MARMOT_UV") {
        return path.into();
    }
    // Where `cargo xtask setup` puts it.
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/bin/uv");
    if tools.is_file() {
        return tools;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join("uv")).find(|uv| uv.is_file());
    found.expect("these tests need uv: install it, or name it in MARMOT_UV")
}
