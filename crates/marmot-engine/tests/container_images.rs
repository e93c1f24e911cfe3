//! Images: pulled from a registry and pinned, made by a Dockerfile, refused in words, removed when nobody needs them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/imaged.rs"]
mod imaged;
#[path = "support/podman.rs"]
mod podman;

use std::fs;
use std::sync::Mutex;
use std::time::Duration;

use imaged::{LIMIT, Place, failure, publish};
use marmot_engine::build::BuildEnd;
use marmot_engine::wanted::{Login, Push, WantedBuild};
use podman::{Podman, SERVE};
use tokio_util::sync::CancellationToken;

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
    let told = |step: marmot_core::Said| seen.lock().unwrap().push(step.to_string());
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
    let told = |step: marmot_core::Said| seen.lock().unwrap().push(step.to_string());
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
