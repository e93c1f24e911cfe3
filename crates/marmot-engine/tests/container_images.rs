//! Images: pulled from a registry and pinned, made by a Dockerfile, refused in words, removed when nobody needs them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/docker.rs"]
mod docker;
#[path = "support/podman.rs"]
mod podman;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use docker::Docker;
use marmot_core::id::BuildId;
use marmot_engine::build::{self, BuildContext, BuildEnd, BuildsNetwork, RunFile};
use marmot_engine::container::Engine;
use marmot_engine::layout::Layout;
use marmot_engine::observed::{BuildFailure, BuildOutcome};
use marmot_engine::wanted::{Builder, Login, Push, Secret, Source, Variable, WantedBuild, WantedPull};
use podman::{Podman, SERVE};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(60);

/// Builds by one engine, in a data directory of its own.
struct Place {
    data: TempDir,
    context: BuildContext,
    engine: Engine,
}

impl Place {
    fn new(podman: &Podman) -> Self {
        Self::by(podman.socket())
    }

    /// By the engine at this socket.
    fn by(socket: PathBuf) -> Self {
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

    fn layout(&self) -> Layout {
        Layout::new(self.data.path())
    }

    async fn pull(&self, id: u128, image: &str, registries: &[Login]) -> Result<BuildOutcome, BuildFailure> {
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

    async fn build(
        &self,
        id: u128,
        files: &[(&str, &str)],
        cancel: CancellationToken,
        progress: impl Fn(&str) + Send + Sync,
    ) -> Result<BuildOutcome, BuildEnd> {
        self.build_as(id, files, cancel, progress, |_| {}).await
    }

    /// Builds what `change` makes of the usual wish.
    async fn build_as(
        &self,
        id: u128,
        files: &[(&str, &str)],
        cancel: CancellationToken,
        progress: impl Fn(&str) + Send + Sync,
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
    async fn built_with(
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

    async fn built(&self, id: u128, files: &[(&str, &str)]) -> Result<BuildOutcome, BuildFailure> {
        failure(self.build(id, files, CancellationToken::new(), |_| {}).await)
    }

    fn image(&self, id: u128) -> String {
        let image = RunFile::read(&self.layout().artefact(id.into())).unwrap().image.unwrap();
        image.id.trim_start_matches("sha256:").to_owned()
    }

    fn log(&self, id: u128) -> String {
        fs::read_to_string(self.layout().build(BuildId::from(id)).join("log")).unwrap()
    }
}

fn failure(end: Result<BuildOutcome, BuildEnd>) -> Result<BuildOutcome, BuildFailure> {
    end.map_err(|end| match end {
        BuildEnd::Failed(failure) => failure,
        BuildEnd::Cancelled => panic!("it was cancelled"),
    })
}

/// An image that serves, in the registry alone.
fn publish(podman: &Podman, name: &str, text: &str, login: Option<(&str, &str)>) {
    let files = [("serve", SERVE), ("version", text)];
    let instructions = ["EXPOSE 8000", "CMD [\"/serve\"]"];
    podman.image("localhost/made:1", &files, &instructions);
    podman.push("localhost/made:1", name, login);
    podman.run(&["rmi", "--force", "localhost/made:1"]);
}

#[tokio::test]
async fn a_tag_that_moves_changes_nothing_until_it_is_pulled_again_and_what_nobody_needs_goes() {
    let Some(mut podman) = Podman::start() else { return };
    let registry = podman.registry(None);
    let place = Place::new(&podman);
    let name = format!("{registry}/lab/app:1");
    podman.image("localhost/foreign:1", &[("x", "foreign")], &[]);
    publish(&podman, &name, "one", None);
    let first = place.pull(1, &name, &[]).await.unwrap();
    assert!(first.commit.starts_with("sha256:") && first.commit.len() == 71, "{first:?}");
    assert_eq!(first.command.as_deref(), Some("/serve"));
    assert!(first.summary.contains("listens on port 8000"), "{first:?}");

    publish(&podman, &name, "two", None);
    let one = place.image(1);
    let second = place.pull(2, &name, &[]).await.unwrap();
    let two = place.image(2);
    assert!(first.commit != second.commit && one != two);
    assert!(podman.images().iter().any(|id| id.ends_with(&one)), "the first is still there");

    // The same again is the same.
    assert_eq!(place.pull(3, &name, &[]).await.unwrap().commit, second.commit);

    fs::remove_dir_all(place.layout().artefact(1.into())).unwrap();
    place.engine.collect(&place.layout(), Duration::ZERO).await;
    let left = podman.images();
    let there = |id: &str| left.iter().any(|left| left.ends_with(id));
    assert!(!there(&one) && there(&two), "{left:?}");
    assert_eq!(left.len(), 2, "what was there before stays: {left:?}");
}

#[tokio::test]
async fn what_a_registry_does_not_give_out_is_told_in_words() {
    let Some(mut podman) = Podman::start() else { return };
    let right = ("ada", "open sesame");
    let registry = podman.registry(Some(right));
    let place = Place::new(&podman);
    let name = format!("{registry}/private:1");
    publish(&podman, &name, "secret", Some(right));
    let login = |username: &str, password: &str| Login {
        host: registry.clone(),
        username: username.to_owned(),
        password: password.to_owned(),
    };
    let why = place.pull(1, &name, &[]).await.unwrap_err().reason;
    assert!(why.contains("does not give out") && why.contains("give the project credentials"), "{why}");
    let why = place.pull(2, &name, &[login("ada", "wrong")]).await.unwrap_err().reason;
    assert!(why.contains("does not accept the credentials"), "{why}");
    assert!(!place.log(2).contains("wrong"), "{}", place.log(2));
    place.pull(3, &name, &[login("ada", "open sesame")]).await.unwrap();
    // That it is here now does not mean that others may have it.
    let why = place.pull(4, &name, &[]).await.unwrap_err().reason;
    assert!(why.contains("does not give out"), "{why}");

    let ada = [login("ada", "open sesame")];
    let why = place.pull(5, &format!("{registry}/none:1"), &ada).await.unwrap_err().reason;
    assert!(why.contains("There is no image"), "{why}");
    podman.run(&[
        "import",
        "--arch=arm64",
        "--change",
        "CMD x",
        podman.archive().to_str().unwrap(),
        "localhost/arm:1",
    ]);
    podman.push("localhost/arm:1", &format!("{registry}/arm:1"), Some(right));
    let why = place.pull(6, &format!("{registry}/arm:1"), &ada).await.unwrap_err().reason;
    assert!(why.contains("not made for this machine"), "{why}");
    podman.image("localhost/bare:1", &[], &["CMD [\"/bin/sh\"]"]);
    podman.push("localhost/bare:1", &format!("{registry}/bare:1"), Some(right));
    let why = place.pull(7, &format!("{registry}/bare:1"), &ada).await.unwrap_err().reason;
    assert!(why.contains("which port it listens on"), "{why}");

    podman.end_registry();
    let why = place.pull(8, &name, &ada).await.unwrap_err().reason;
    assert!(why.contains("cannot be reached: nothing answers there"), "{why}");
    podman.end();
    let why = place.pull(9, &name, &ada).await.unwrap_err().reason;
    assert!(why.contains("does not answer") && why.contains("ask the operator"), "{why}");
    let why = place.pull(10, "https://x", &ada).await.unwrap_err().reason;
    assert!(why.contains("without `https://`"), "{why}");
}

#[tokio::test]
async fn a_dockerfile_is_built_in_steps_that_can_be_read_and_shut_in() {
    let Some(mut podman) = Podman::start() else { return };
    let registry = podman.registry(None);
    let place = Place::new(&podman);
    publish(&podman, &format!("{registry}/base:1"), "base", None);
    let dockerfile = format!(
        "FROM {registry}/base:1\nRUN echo made > /made && grep -c : /proc/net/dev && ls /proc | grep -c '^[0-9]'\n\
         COPY greeting /greeting\nEXPOSE 9000\nENV X=y\nUSER app\n"
    );
    let outcome = place.built(1, &[("Dockerfile", &dockerfile), ("greeting", "hello")]).await.unwrap();
    assert!(outcome.summary.starts_with("Built by its Dockerfile"), "{outcome:?}");
    assert_eq!((outcome.commit.len(), outcome.command.as_deref()), (40, Some("/serve")));
    let log = place.log(1);
    for expected in
        ["==> Building the image", "STEP 1/", "RUN echo made", &format!("Takes {registry}/base:1")]
    {
        assert!(log.contains(expected), "{expected} in {log}");
    }
    let image = place.image(1);
    let inside = |command: &[&str]| {
        let run = ["run", "--rm", "--network=none", "--entrypoint", command[0], &image];
        podman.run(&[&run[..], &command[1..]].concat())
    };
    assert_eq!(inside(&["/bin/cat", "/made", "/greeting"]), "made\nhello");
    assert!(!place.layout().artefact(1.into()).join("code").exists(), "the code is in the image");

    // Another one that nobody needs goes, with what it was made of.
    let before = podman.images().len();
    fs::remove_dir_all(place.layout().artefact(1.into())).unwrap();
    place.engine.collect(&place.layout(), Duration::ZERO).await;
    assert!(podman.images().len() < before, "{:?}", podman.images());
    assert!(!podman.images().iter().any(|id| id.ends_with(&image)));
}

#[tokio::test]
async fn a_dockerfile_that_cannot_be_built_says_why_and_one_that_is_cancelled_leaves_nothing() {
    let Some(mut podman) = Podman::start() else { return };
    let registry = podman.registry(None);
    let place = Place::new(&podman);
    publish(&podman, &format!("{registry}/base:1"), "base", None);
    let base = format!("FROM {registry}/base:1\n");
    let cases = [
        (format!("{base}RUN echo oops && exit 3\n"), "A step of the Dockerfile failed"),
        (format!("FROM {registry}/none:1\n"), "There is no image"),
        (format!("# syntax=evil/frontend\n{base}"), "# syntax="),
        (format!("{base}RUN --security=insecure id\n"), "no rights but the usual ones"),
        (format!("{base}RUN --network=host id\n"), "a network of their own"),
    ];
    for (number, (dockerfile, expected)) in (1..).zip(&cases) {
        let failure = place.built(number, &[("Dockerfile", dockerfile)]).await.unwrap_err();
        assert!(failure.reason.contains(expected), "{dockerfile}: {failure:?}");
    }
    assert!(place.log(1).contains("oops"), "{}", place.log(1));
    let failure = place.built(6, &[("readme", "x")]).await.unwrap_err();
    assert!(failure.reason.contains("no Dockerfile"), "{failure:?}");

    let cancel = CancellationToken::new();
    let marker = "7654.321";
    let dockerfile = format!("{base}RUN echo begun && sleep {marker}\n");
    let sleeps = || {
        let pids = fs::read_dir("/proc").unwrap().flatten();
        let line = |pid: fs::DirEntry| fs::read(pid.path().join("cmdline")).unwrap_or_default();
        pids.filter(|pid| pid.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok()))
            .any(|pid| line(pid) == format!("sleep\0{marker}\0").into_bytes())
    };
    let seen = Mutex::new(Vec::new());
    let told = |step: &str| seen.lock().unwrap().push(step.to_owned());
    let files = [("Dockerfile", dockerfile.as_str())];
    let building = place.build(7, &files, cancel.clone(), told);
    let cancelling = async {
        until(sleeps).await;
        cancel.cancel();
    };
    let (end, ()) = tokio::join!(building, cancelling);
    assert_eq!(end, Err(BuildEnd::Cancelled));
    assert!(seen.lock().unwrap().contains(&"Building the image".to_owned()));
    until(|| !sleeps()).await;
    assert!(!place.layout().artefact(7.into()).exists());
}

/// All that the layers of an image hold, and what it says of itself.
fn everything_in(podman: &Podman, image: &str) -> Vec<u8> {
    let archive = podman.dir.path().join("saved.tar");
    let _ = fs::remove_file(&archive);
    podman.run(&["save", "--output", archive.to_str().unwrap(), image]);
    fs::read(archive).unwrap()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn a_dockerfile_is_given_the_launchers_variables_as_arguments_and_secrets_that_stay_in_no_layer() {
    let Some(mut podman) = Podman::start() else { return };
    let registry = podman.registry(None);
    let place = Place::new(&podman);
    publish(&podman, &format!("{registry}/base:1"), "base", None);
    let dockerfile = format!(
        "ARG BASE={registry}/none:1\nFROM $BASE\nARG GREETING=hello\nRUN echo \"it is $GREETING\" > /greeting\n\
         RUN --mount=type=secret,id=TOKEN,required=true cat /run/secrets/TOKEN | head -c 4 > /beginning\n\
         COPY . /all\nRUN ls -a /all /run/secrets > /seen 2>&1 || true\n"
    );
    let files = [
        ("Dockerfile", dockerfile.as_str()),
        ("kept", "x"),
        (".dockerignore", "left-out\n"),
        ("left-out", "y"),
    ];
    let base = format!("{registry}/base:1");
    let variables = [("BASE", base.as_str()), ("GREETING", "bonjour"), ("UNDECLARED", "nothing")];
    let secret = "correct-horse-battery";
    place.built_with(1, &files, &variables, &[("TOKEN", secret), ("OTHER", "unasked")]).await.unwrap();
    let image = place.image(1);
    let show =
        |file: &str| podman.run(&["run", "--rm", "--network=none", "--entrypoint", "/bin/cat", &image, file]);
    assert_eq!((show("/greeting"), show("/beginning")), ("it is bonjour".to_owned(), "corr".to_owned()));
    let seen = show("/seen");
    assert!(seen.contains("kept") && !seen.contains("left-out") && !seen.contains("marmot-secret"), "{seen}");
    let whole = everything_in(&podman, &image);
    assert!(holds(&whole, "it is bonjour"), "its layers can be read");
    assert!(!holds(&whole, secret) && !holds(&whole, "unasked"));
    let log = place.log(1);
    assert!(!log.contains(secret) && log.contains("launcher's variables: BASE, GREETING"), "{log}");

    // Whoever has another secret, or none, is given nothing that was made with this one.
    place.built_with(2, &files, &variables, &[("TOKEN", "tr0ub4dor")]).await.unwrap();
    let other = place.image(2);
    assert_eq!(
        podman.run(&["run", "--rm", "--network=none", "--entrypoint", "/bin/cat", &other, "/beginning"]),
        "tr0u"
    );
    let why = place.built_with(3, &files, &variables, &[]).await.unwrap_err().reason;
    assert!(why.contains("Line 5") && why.contains("the secret `TOKEN`"), "{why}");
}

#[tokio::test]
async fn steps_have_headings_and_durations_are_not_done_twice_and_end_when_their_time_is_over() {
    let Some(mut podman) = Podman::start() else { return };
    let registry = podman.registry(None);
    let mut place = Place::new(&podman);
    publish(&podman, &format!("{registry}/base:1"), "base", None);
    let dockerfile = format!("FROM {registry}/base:1\nRUN echo once > /once\nCOPY file /file\n");
    let seen = Mutex::new(Vec::new());
    let told = |step: &str| seen.lock().unwrap().push(step.to_owned());
    let build = |id: u128, file: &'static str| {
        let files = [("Dockerfile", dockerfile.clone()), ("file", file.to_owned())];
        let (place, told) = (&place, &told);
        async move {
            let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
            failure(place.build(id, &files, CancellationToken::new(), told).await).unwrap();
        }
    };
    build(1, "one").await;
    assert!(seen.lock().unwrap().contains(&"Building the image: step 2 of 5".to_owned()), "{seen:?}");
    let log = place.log(1);
    let heading = log.find("STEP 2/5").expect("a heading");
    let next = log.find("STEP 3/5").expect("the next one");
    assert!(log[heading..next].contains(" s)"), "{log}");
    build(2, "two").await;
    let log = place.log(2);
    assert_eq!(log.matches("Using cache").count(), 1, "the first step alone is as it was: {log}");

    place.context.limits.time = Duration::from_secs(2);
    let endless = format!("FROM {registry}/base:1\nRUN sleep 8765.4\n");
    let why = place.built(3, &[("Dockerfile", &endless)]).await.unwrap_err().reason;
    assert!(why.contains("took longer than 2 seconds"), "{why}");
    place.context.limits = marmot_engine::build::BuildLimits { code_bytes: 5000, ..Default::default() };
    let large = "x".repeat(6000);
    let why = place.built(4, &[("Dockerfile", &endless), ("large", &large)]).await.unwrap_err().reason;
    assert!(why.contains("large") || why.contains("bytes") || why.contains("KiB"), "{why}");
}

#[tokio::test]
async fn what_was_made_is_given_to_a_registry_and_runs_here_also_when_that_does_not_take_it() {
    let Some(mut podman) = Podman::start() else { return };
    let right = ("ada", "open sesame");
    let registry = podman.registry(Some(right));
    let place = Place::new(&podman);
    let base = format!("{registry}/base:1");
    publish(&podman, &base, "base", Some(right));
    let login = |password: &str| Login {
        host: registry.clone(),
        username: right.0.to_owned(),
        password: password.to_owned(),
    };
    let dockerfile = format!("FROM {base}\nRUN echo made > /made\n");
    let build = |id: u128, login: Option<Login>, must: bool| {
        let (place, registries, dockerfile) = (&place, vec![self::login(&registry, right)], &dockerfile);
        let reference = format!("{registry}/lab/ice-cores/app:{id}");
        async move {
            let files = [("Dockerfile", dockerfile.as_str())];
            let wish = |wanted: &mut WantedBuild| {
                wanted.registries = registries;
                wanted.image.push = Some(Push { reference, login, must });
            };
            failure(place.build_as(id, &files, CancellationToken::new(), |_| {}, wish).await)
        }
    };
    let outcome = build(1, Some(login("open sesame")), true).await.unwrap();
    let pushed = outcome.pushed.expect("a digest");
    assert!(pushed.starts_with(&format!("{registry}/lab/ice-cores/app@sha256:")), "{pushed}");
    assert!(
        !podman.run(&["images", "--format", "{{.Repository}}"]).contains("ice-cores"),
        "it keeps no name here"
    );
    // Whoever has the registry can run it.
    let pulled = place.pull(2, &pushed, &[login("open sesame")]).await.unwrap();
    assert_eq!((pulled.command.as_deref(), pushed.ends_with(&pulled.commit)), (Some("/serve"), true));
    assert!(
        place.log(1).contains("==> Giving the image to the registry")
            && !place.log(1).contains("open sesame")
    );

    let outcome = build(3, Some(login("wrong-password")), false).await.unwrap();
    assert!(outcome.pushed.is_none() && outcome.summary.contains("does not take"), "{outcome:?}");
    assert!(
        place.log(3).contains("Warning: The registry") && !place.log(3).contains("wrong-password"),
        "{}",
        place.log(3)
    );
    assert!(!place.image(3).is_empty(), "it runs here");
    let why = build(4, None, true).await.unwrap_err();
    assert_eq!(why.step, "Building the image");
    assert!(why.reason.contains("without credentials"), "{why:?}");
    podman.end_registry();
}

fn login(host: &str, (username, password): (&str, &str)) -> Login {
    Login { host: host.to_owned(), username: username.to_owned(), password: password.to_owned() }
}

#[tokio::test]
async fn an_image_that_is_only_here_is_taken_from_here_where_the_operator_says_so() {
    let Some(mut podman) = Podman::start() else { return };
    podman.registry(None);
    let mut place = Place::new(&podman);
    place.context.allow_private_networks = false;
    place.context.local_images = vec!["localhost/lab/".parse().unwrap()];
    let make = |name: &str, version: &str| {
        podman.image(name, &[("serve", SERVE), ("version", version)], &["EXPOSE 8000", "CMD [\"/serve\"]"]);
    };
    make("localhost/lab/app:1", "one");
    make("localhost/others:1", "private");
    let first = place.pull(1, "localhost/lab/app:1", &[]).await.unwrap();
    assert!(first.commit.ends_with(&place.image(1)) && first.summary.contains("port 8000"), "{first:?}");
    assert!(place.log(1).contains("own container engine"), "{}", place.log(1));
    let one = place.image(1);
    make("localhost/lab/app:1", "two");
    place.pull(2, "localhost/lab/app:1", &[]).await.unwrap();
    assert_ne!(one, place.image(2), "a tag that has moved since");
    let why = place.pull(3, "localhost/others:1", &[]).await.unwrap_err().reason;
    assert!(why.contains("no images are taken from"), "{why}");
    let why = place.pull(4, "localhost/lab/none:1", &[]).await.unwrap_err().reason;
    assert!(why.contains("no image `localhost/lab/none:1` on this server"), "{why}");

    // It is the operator's: nothing of it is removed.
    [1, 2].into_iter().for_each(|id: u128| fs::remove_dir_all(place.layout().artefact(id.into())).unwrap());
    place.engine.collect(&place.layout(), Duration::ZERO).await;
    assert!(podman.images().iter().any(|id| id.ends_with(&one)), "{:?}", podman.images());
}

async fn until(is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, waiting).await.expect("so in time");
}

#[tokio::test]
async fn of_an_image_for_several_architectures_the_one_for_this_machine_is_taken() {
    let Some(mut podman) = Podman::start() else { return };
    let registry = podman.registry(None);
    let place = Place::new(&podman);
    let made = |name: &str, arch: Option<&str>| {
        podman.image(name, &[("version", name)], &["EXPOSE 8000", "CMD [\"/bin/sh\"]"]);
        if let Some(arch) = arch {
            let archive = podman.archive();
            let import = ["import", "--arch", arch, "--change", "EXPOSE 8000", "--change", "CMD x"];
            podman.run(&[&import[..], &[archive.to_str().unwrap(), name]].concat());
        }
    };
    made("localhost/own:1", None);
    made("localhost/other:1", Some("s390x"));
    made("localhost/another:1", Some("riscv64"));
    for (list, images) in [("all", ["other", "own", "another"].as_slice()), ("others", &["other", "another"])]
    {
        let name = format!("localhost/{list}:1");
        podman.run(&["manifest", "create", &name]);
        images.iter().for_each(|image| {
            podman.run(&["manifest", "add", &name, &format!("containers-storage:localhost/{image}:1")]);
        });
        podman.run(&["manifest", "push", "--all", &name, &format!("docker://{registry}/{list}:1")]);
    }
    let found = place.pull(1, &format!("{registry}/all:1"), &[]).await.unwrap();
    let image = place.image(1);
    let version =
        podman.run(&["run", "--rm", "--network=none", "--entrypoint", "/bin/cat", &image, "/version"]);
    assert_eq!(version, "localhost/own:1");
    // The digest is the whole list's or the one image's; by either, the same is found again.
    let pinned = format!("{registry}/all@{}", found.commit);
    place.pull(2, &pinned, &[]).await.unwrap();
    assert_eq!(place.image(2), image);
    let why = place.pull(3, &format!("{registry}/others:1"), &[]).await.unwrap_err().reason;
    assert!(why.contains("is not made for this machine") && why.contains("several architectures"), "{why}");
}

/// In front of a registry: counts what is asked of it, and can be made to refuse everything.
struct Front {
    port: u16,
    layers: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
}

impl Front {
    /// `refuses`: whoever asks is told that it was too often.
    async fn of(registry: &str, refuses: bool) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (layers, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (registry, counts) = (registry.to_owned(), (Arc::clone(&layers), Arc::clone(&refused)));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (registry, (layers, refused)) = (registry.clone(), counts.clone());
                tokio::spawn(async move {
                    let _ = match refuses {
                        true => refuse(client, &refused).await,
                        false => pass_on(client, &registry, &layers).await,
                    };
                });
            }
        });
        Self { port, layers, refused }
    }
}

async fn refuse(mut client: tokio::net::TcpStream, count: &AtomicUsize) -> std::io::Result<()> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") {
        asked.push(client.read_u8().await?);
    }
    let body =
        r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}"#;
    let (status, extra) = match asked.starts_with(b"GET /v2/ ") {
        true => ("200 OK", ""),
        false => ("429 Too Many Requests", "Retry-After: 0\r\n"),
    };
    count.fetch_add(usize::from(!extra.is_empty()), Ordering::SeqCst);
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\n{extra}Content-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    client.write_all(format!("{head}{body}").as_bytes()).await
}

async fn pass_on(client: tokio::net::TcpStream, registry: &str, layers: &AtomicUsize) -> std::io::Result<()> {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _};
    let (from_registry, mut to_registry) = tokio::net::TcpStream::connect(registry).await?.into_split();
    let (from_client, mut to_client) = client.into_split();
    let answering = async move {
        let mut from_registry = from_registry;
        tokio::io::copy(&mut from_registry, &mut to_client).await
    };
    let asking = async {
        let (mut from_client, mut line) = (tokio::io::BufReader::new(from_client), Vec::new());
        while from_client.read_until(b'\n', &mut line).await? > 0 {
            let is_layer = line.starts_with(b"GET /v2/") && line.windows(7).any(|part| part == b"/blobs/");
            layers.fetch_add(usize::from(is_layer), Ordering::SeqCst);
            to_registry.write_all(&line).await?;
            line.clear();
        }
        to_registry.shutdown().await
    };
    tokio::try_join!(answering, asking).map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_pull_the_same_image_at_once_share_it() {
    let Some(mut podman) = Podman::start() else { return };
    let registry = podman.registry(None);
    publish(&podman, &format!("{registry}/lab/app:1"), "shared", None);
    let front = Front::of(&registry, false).await;
    podman.trust(front.port);
    let place = Place::new(&podman);
    let name = format!("127.0.0.1:{}/lab/app:1", front.port);
    let (one, two) = tokio::join!(place.pull(1, &name, &[]), place.pull(2, &name, &[]));
    assert_eq!(one.unwrap().commit, two.unwrap().commit);
    assert_eq!(place.image(1), place.image(2));
    assert_eq!(podman.images().len(), 1);
    let asked = front.layers.load(Ordering::SeqCst);
    // A layer, and what describes the image, which each of them reads.
    assert!((2..=3).contains(&asked), "{asked} of its parts were fetched");
    // Once it is there, nothing of it is fetched again.
    place.pull(3, &name, &[]).await.unwrap();
    let again = front.layers.load(Ordering::SeqCst) - asked;
    assert!(again <= 1, "{again} more");
}

/// By Docker: Podman tries again for half a minute first.
#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_has_been_asked_too_often_is_told_in_words() {
    let Some(docker) = Docker::start() else { return };
    let closed = Front::of("", true).await;
    let place = Place::by(docker.socket());
    let name = format!("127.0.0.1:{}/lab/app:1", closed.port);
    let why = place.pull(4, &name, &[]).await.unwrap_err().reason;
    assert!(why.contains("gives out no more images to this server for now"), "{why}");
    assert!(closed.refused.load(Ordering::SeqCst) > 0);
}

#[tokio::test]
async fn docker_builds_by_a_dockerfile_only_where_its_operator_lets_steps_have_the_engines_network() {
    let Some(docker) = Docker::start() else { return };
    let mut place = Place::by(docker.socket());
    let files = [("Dockerfile", "FROM scratch\nCOPY hello /hello\nCMD [\"/hello\"]\n"), ("hello", "x")];
    let failure = place.built(1, &files).await.unwrap_err();
    assert!(
        failure.reason.contains("Docker takes no network that was made for them")
            && failure.reason.contains("`builds_network = \"shared\"`")
            && failure.reason.contains("Podman as root"),
        "{failure:?}"
    );
    assert!(docker.run(&["images", "--quiet"]).is_empty());
    place.context.network = BuildsNetwork::Shared;
    let built = place.built(2, &files).await.unwrap();
    assert_eq!(built.command.as_deref(), Some("/hello"));
    assert!(place.log(2).contains("Step 2/"), "{}", place.log(2));
}
