//! Builds, from a repository to something that starts: with real git and real uv.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "build/support.rs"]
mod support;

use std::fs;
use std::process::Command;

use marmot_engine::build::{self, BuildEnd};
use marmot_engine::wanted::Builder;
use support::{Built, Place};
use tokio_util::sync::CancellationToken;

const HELLO: &str = "def main():\n    print('hello')\n";

/// Runs what was built and returns what it prints.
fn start(built: &Built) -> String {
    let run = built.run_file();
    let command = run.command.expect("a command");
    let mut path = std::env::join_paths(&run.path_prepend).unwrap();
    path.push(":/usr/bin:/bin");
    let said = Command::new(&command[0])
        .args(&command[1..])
        .current_dir(built.dir.join("artefact").join(&run.working_directory))
        .env_clear()
        .env("PATH", path)
        .env("PORT", "8000")
        .envs(&run.env)
        .output()
        .unwrap();
    format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr))
        .trim()
        .to_owned()
}

#[tokio::test]
async fn a_procfile_and_requirements_become_something_that_starts() {
    let place = Place::new();
    place.wheel("hello", "1.0", HELLO);
    let repository = place.repository(
        "app",
        &[
            ("Procfile", "web: hello $PORT\nworker: x\n"),
            ("requirements.txt", "hello==1.0\n"),
            ("data/x.csv", "1,2"),
        ],
    );
    let built = place.build(&repository).await;
    let outcome = built.outcome();
    assert_eq!(outcome.commit, repository.head());
    assert_eq!(outcome.command.as_deref(), Some("hello $PORT"));
    assert_eq!(start(&built), "hello");
    assert_eq!(fs::read_to_string(built.code("data/x.csv")).unwrap(), "1,2");
    assert!(!built.code(".git").exists());
    let steps = ["Fetching the code", "Reading the code", "Installing Python packages", "Checking"];
    assert_eq!(built.steps, steps);
    for step in steps {
        assert!(built.log.contains(&format!(" ==> {step}\n")), "{}", built.log);
    }
    assert!(built.log.contains("hello==1.0"), "{}", built.log);
    assert!(built.log.contains("ignored: `worker`"), "{}", built.log);
}

#[tokio::test]
async fn unchanged_manifests_reuse_the_installed_packages_and_changed_ones_do_not() {
    let place = Place::new();
    place.wheel("hello", "1.0", HELLO);
    place.wheel("hello", "2.0", &HELLO.replace("hello", "hello again"));
    let repository =
        place.repository("app", &[("Procfile", "web: hello $PORT"), ("requirements.txt", "hello==1.0")]);
    let first = place.build(&repository).await;
    assert!(!first.log.contains("re-used"), "{}", first.log);

    repository.commit(&[("README.md", "changed")]);
    let second = place.build(&repository).await;
    assert_eq!(second.outcome().commit, repository.head());
    assert!(second.log.contains("re-used") && !second.log.contains("Installed"), "{}", second.log);
    assert_eq!(start(&second), "hello");

    repository.commit(&[("requirements.txt", "hello==2.0")]);
    let third = place.build(&repository).await;
    assert!(!third.log.contains("re-used"), "{}", third.log);
    assert_eq!(start(&third), "hello again");
    // What was built before still is what it was.
    assert_eq!(start(&second), "hello");
}

#[tokio::test]
async fn packages_are_compiled_once_for_all_environments_that_have_them() {
    use std::os::unix::fs::MetadataExt as _;
    let place = Place::new();
    place.wheel("hello", "1.0", HELLO);
    let files = [("Procfile", "web: hello $PORT"), ("requirements.txt", "hello")];
    let (one, other) = (place.repository("one", &files), place.repository("other", &files));
    let compiled = |built: &Built| {
        let library = built.run_file().path_prepend[0].join("../lib");
        let site = fs::read_dir(library).unwrap().next().unwrap().unwrap().path().join("site-packages");
        let mut files = fs::read_dir(site.join("__pycache__")).unwrap().map(|file| file.unwrap());
        files
            .find(|file| file.file_name().to_string_lossy().starts_with("hello."))
            .unwrap()
            .metadata()
            .unwrap()
    };
    let (one, other) = (place.build(&one).await, place.build(&other).await);
    assert_eq!(compiled(&one).ino(), compiled(&other).ino());
    assert_eq!(start(&other), "hello");
}

#[tokio::test]
async fn environments_are_not_shared_between_apps_even_of_one_repository() {
    let place = Place::new();
    place.wheel("hello", "1.0", HELLO);
    let repository =
        place.repository("app", &[("Procfile", "web: hello $PORT"), ("requirements.txt", "hello")]);
    let one = place.build(&repository).await;
    let other = place.build_with(&repository, |wanted| wanted.owner = 2.into()).await;
    assert!(!other.log.contains("re-used"), "{}", other.log);
    assert_ne!(one.run_file().path_prepend, other.run_file().path_prepend);
}

#[tokio::test]
async fn changed_settings_of_uv_change_the_environment() {
    let place = Place::new();
    place.wheel("hello", "1.0", HELLO);
    let repository =
        place.repository("app", &[("Procfile", "web: hello $PORT"), ("requirements.txt", "hello")]);
    place.build(&repository).await;
    repository.commit(&[("uv.toml", "prerelease = 'disallow'\n")]);
    let changed = place.build(&repository).await;
    assert!(!changed.log.contains("re-used"), "{}", changed.log);
}

#[tokio::test]
async fn revisions_are_branches_tags_and_commits_also_abbreviated_and_old() {
    let place = Place::new();
    let repository = place.repository("app", &[("index.html", "one")]);
    let first = repository.head();
    repository.git(&["tag", "-a", "v1", "-m", "one"]);
    repository.commit(&[("index.html", "two")]);
    let second = repository.commit(&[("index.html", "three")]);
    repository.git(&["branch", "dev/next"]);
    let second_to_last = repository.git(&["rev-parse", "HEAD~1"]);
    for (revision, commit) in [
        (None, &second),
        (Some("main"), &second),
        (Some("dev/next"), &second),
        (Some("refs/tags/v1"), &first),
        (Some("v1"), &first),
        (Some(first.as_str()), &first),
        (Some(&second_to_last[..9]), &second_to_last),
        (Some(""), &second),
    ] {
        let built = place.build_with(&repository, |wanted| {
            wanted.source.revision = revision.map(str::to_owned);
        });
        assert_eq!(&built.await.outcome().commit, commit, "{revision:?}");
    }
    for unknown in ["nope", "abcdef0123", &"0".repeat(40)] {
        let built =
            place.build_with(&repository, |wanted| wanted.source.revision = Some(unknown.to_owned())).await;
        let failure = built.failure();
        assert_eq!(failure.step, "Fetching the code");
        assert!(failure.reason.contains(unknown), "{}", failure.reason);
        assert!(failure.reason.contains("`dev/next`, `main`, `v1`"), "{}", failure.reason);
    }
}

#[tokio::test]
async fn a_build_after_a_push_builds_what_was_pushed() {
    let place = Place::new();
    let repository = place.repository("app", &[("index.html", "one"), ("gone.txt", "x")]);
    place.build(&repository).await.outcome();
    fs::remove_file(repository.0.join("gone.txt")).unwrap();
    repository.commit(&[("index.html", "two")]);
    // Also when history was rewritten.
    repository.git(&["commit", "--quiet", "--amend", "-m", "Rewritten"]);
    let built = place.build(&repository).await;
    assert_eq!(fs::read_to_string(built.code("index.html")).unwrap(), "two");
    assert!(!built.code("gone.txt").exists());
}

#[tokio::test]
async fn the_directory_of_the_app_is_all_that_is_built() {
    let place = Place::new();
    let repository = place
        .repository("many", &[("apps/site/index.html", "<h1>"), ("apps/other/huge.bin", "x"), ("file", "")]);
    let dir = |dir: &'static str| {
        move |wanted: &mut marmot_engine::wanted::WantedBuild| {
            wanted.source.context_dir = Some(dir.into());
        }
    };
    let built = place.build_with(&repository, dir("./apps//site/")).await;
    assert_eq!(built.outcome().command.as_deref(), Some("marmot static-server ."));
    assert!(built.code("index.html").exists());
    assert!(!built.code("apps").exists());
    for (given, expected) in [
        ("nope", "has no directory `nope`"),
        ("file", "not a directory"),
        ("../x", "has `..`"),
        ("/etc", "absolute"),
        ("apps/../../x", "has `..`"),
        (".git", "git's own"),
    ] {
        let built = place.build_with(&repository, dir(given)).await;
        assert!(built.failure().reason.contains(expected), "{given}: {}", built.failure().reason);
    }
    // What the root lacks is said to be elsewhere.
    let built = place.build(&repository).await;
    assert!(built.failure().reason.contains("`apps/site` looks like an app"), "{}", built.failure().reason);
}

#[tokio::test]
async fn a_static_site_is_served_by_marmot_itself() {
    let place = Place::new();
    let repository = place.repository("site", &[("docs/index.html", "<h1>"), ("README.md", "")]);
    let built = place.build(&repository).await;
    let marmot = place.path("marmot").display().to_string();
    assert_eq!(built.run_file().command.unwrap(), [marmot.as_str(), "static-server", "docs"]);
    assert!(built.outcome().summary.contains("docs/index.html"), "{}", built.outcome().summary);
}

#[tokio::test]
async fn what_fails_says_which_step_and_why_and_what_to_do() {
    let place = Place::new();
    place.wheel("hello", "1.0", HELLO);
    let empty = place.repository("empty", &[("README.md", "")]);
    let failure = place.build(&empty).await.failure().clone();
    assert_eq!(failure.step, "Reading the code");
    for part in ["Nothing to run here", "README.md", "Streamlit", "Procfile", "`web: "] {
        assert!(failure.reason.contains(part), "no {part} in: {}", failure.reason);
    }

    let missing =
        place.repository("missing", &[("Procfile", "web: x $PORT"), ("requirements.txt", "hello\nnope==1")]);
    let failure = place.build(&missing).await.failure().clone();
    assert_eq!(failure.step, "Installing Python packages");
    assert!(failure.reason.contains("nope"), "{}", failure.reason);
    assert!(failure.last_lines.iter().any(|line| line.contains("nope")), "{:?}", failure.last_lines);

    let nowhere = place
        .build_with(&empty, |wanted| wanted.source.repository = place.path("nowhere").display().to_string())
        .await;
    assert!(nowhere.failure().reason.contains("was not found"), "{}", nowhere.failure().reason);

    let image = place.repository("image", &[("Dockerfile", "FROM debian")]);
    let failure = place.build(&image).await.failure().clone();
    assert!(
        failure.reason.contains("needs") || failure.reason.contains("no container engine"),
        "{}",
        failure.reason
    );
}

#[tokio::test]
async fn an_empty_repository_is_told_from_one_without_its_default_branch() {
    let place = Place::new();
    let repository = place.repository("app", &[("index.html", "")]);
    repository.git(&["symbolic-ref", "HEAD", "refs/heads/gone"]);
    let failure = place.build(&repository).await.failure().reason.clone();
    assert!(failure.contains("`main`"), "{failure}");
    repository.git(&["update-ref", "-d", "refs/heads/main"]);
    let failure = place.build(&repository).await.failure().reason.clone();
    assert!(failure.contains("is empty"), "{failure}");
}

#[tokio::test]
async fn a_launchers_command_needs_nothing_from_the_code() {
    let place = Place::new();
    let repository = place.repository("app", &[("script.py", "")]);
    let built = place
        .build_with(&repository, |wanted| {
            wanted.command_given = true;
            wanted.builder = Builder::Python;
        })
        .await;
    assert_eq!(built.outcome().command, None);
    let run = built.run_file();
    assert_eq!(run.command, None);
    assert!(run.path_prepend[0].join("python").exists());
    assert!(run.reads.iter().all(|path| path.is_absolute()));
}

#[tokio::test]
async fn a_locked_project_is_installed_as_locked_and_importable_when_it_is_a_package() {
    let mut place = Place::new();
    place.wheel("hello", "1.0", HELLO);
    place.wheel("hello", "2.0", HELLO);
    let project = "[project]\nname = 'thing'\nversion = '1'\nrequires-python = '>=3.8'\ndependencies = ['hello']\n\
                   [tool.uv]\nfind-links = ['./wheels']\n\
                   [build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n";
    let repository = place.repository(
        "app",
        &[
            ("pyproject.toml", project),
            ("backend.py", BACKEND),
            ("Procfile", "web: python -c 'import thing, hello; thing.main()' $PORT"),
        ],
    );
    fs::rename(place.path("wheels"), repository.0.join("wheels")).unwrap();
    place.context.environment.retain(|(name, _)| name != "UV_FIND_LINKS");
    let lock = Command::new(&place.context.uv)
        .args(["lock", "--upgrade-package", "hello==1.0"])
        .current_dir(&repository.0)
        .envs(place.context.environment.clone())
        .env("UV_CACHE_DIR", place.path("lock-cache"))
        .output()
        .unwrap();
    assert!(lock.status.success(), "{}", String::from_utf8_lossy(&lock.stderr));
    repository.commit(&[]);
    let built = place.build(&repository).await;
    built.outcome();
    assert!(built.log.contains("hello==1.0"), "{}", built.log);
    assert_eq!(start(&built), "the project");
    // The next commit shares the packages, and has its own project.
    repository.commit(&[("backend.py", &BACKEND.replace("the project", "the next project"))]);
    let next = place.build(&repository).await;
    assert!(next.log.contains("re-used"), "{}", next.log);
    assert_eq!((start(&next), start(&built)), ("the next project".into(), "the project".into()));
}

/// A build system of a package `thing` with one module.
const BACKEND: &str = r#"
import os, zipfile
INFO = "thing-1.dist-info"
METADATA = "Metadata-Version: 2.1\nName: thing\nVersion: 1\nRequires-Dist: hello\n"
def prepare_metadata_for_build_wheel(directory, settings=None):
    os.mkdir(f"{directory}/{INFO}")
    open(f"{directory}/{INFO}/METADATA", "w").write(METADATA)
    return INFO
def build_wheel(directory, settings=None, metadata=None):
    name = "thing-1-py3-none-any.whl"
    with zipfile.ZipFile(f"{directory}/{name}", "w") as wheel:
        wheel.writestr("thing.py", "def main():\n    print('the project')\n")
        wheel.writestr(f"{INFO}/METADATA", METADATA)
        wheel.writestr(f"{INFO}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{INFO}/RECORD", "")
    return name
"#;

#[tokio::test]
async fn cancelling_ends_every_process_and_leaves_nothing_but_the_log() {
    let place = Place::new();
    // One process stays in the step's group, one leaves it. Nobody else sleeps this long.
    let long = format!("6{:07}", std::process::id());
    let backend = format!(
        "import subprocess, time\n\
         def build_wheel(*args):\n\
         \x20   for new_session in (False, True):\n\
         \x20       subprocess.Popen(['sleep', '{long}'], start_new_session=new_session)\n\
         \x20   time.sleep(600)\n\
         prepare_metadata_for_build_wheel = build_wheel\n"
    );
    place.source_package("slow", "1.0", &backend);
    let repository = place.repository("app", &[("Procfile", "web: x $PORT"), ("requirements.txt", "slow")]);
    let sleepers = || {
        let sleeps = |pid: &fs::DirEntry| {
            let line = fs::read_to_string(pid.path().join("cmdline")).unwrap_or_default();
            line == format!("sleep\0{long}\0")
        };
        fs::read_dir("/proc").unwrap().flatten().filter(sleeps).count()
    };
    let source =
        marmot_engine::wanted::Source { repository: repository.address(), revision: None, context_dir: None };
    let wanted = support::wanted(source);
    let cancel = CancellationToken::new();
    let watch = async {
        let appear = async {
            while sleepers() < 2 {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), appear).await.expect("the build began");
        cancel.cancel();
    };
    let (built, ()) = tokio::join!(place.run(&wanted, cancel.clone()), watch);
    assert_eq!(built.end, Err(BuildEnd::Cancelled));
    assert_eq!(sleepers(), 0);
    let envs = fs::read_dir(place.path("cache/envs")).unwrap();
    assert_eq!(envs.count(), 0, "an unfinished environment is still there");
    assert!(built.log.ends_with("==> Cancelled\n"), "{}", built.log);
}

#[tokio::test]
async fn a_build_that_takes_too_long_is_ended_and_says_so() {
    let mut place = Place::new();
    place.context.limits.time = std::time::Duration::ZERO;
    let repository = place.repository("app", &[("index.html", "")]);
    let failure = place.build(&repository).await.failure().clone();
    assert!(failure.reason.contains("took longer than"), "{}", failure.reason);
}

#[tokio::test]
async fn a_damaged_copy_of_a_repository_is_fetched_anew() {
    let place = Place::new();
    let repository = place.repository("app", &[("index.html", "one")]);
    place.build(&repository).await.outcome();
    let copy = fs::read_dir(place.path("cache/repositories")).unwrap().next().unwrap().unwrap().path();
    for pack in fs::read_dir(copy.join("objects/pack")).unwrap() {
        let pack = pack.unwrap().path();
        let mut permissions = fs::metadata(&pack).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
        fs::set_permissions(&pack, permissions).unwrap();
        fs::write(&pack, "damaged").unwrap();
    }
    // What a crash leaves is no reason to fail either.
    fs::write(copy.join("shallow.lock"), "").unwrap();
    let built = place.build(&repository).await;
    assert_eq!(fs::read_to_string(built.code("index.html")).unwrap(), "one");
    assert_eq!(built.outcome().commit, repository.head());
}

#[tokio::test]
async fn what_nothing_needs_is_collected_and_what_is_kept_still_starts() {
    use std::time::{Duration, SystemTime};
    let place = Place::new();
    place.wheel("hello", "1.0", HELLO);
    let files = [("Procfile", "web: hello $PORT"), ("requirements.txt", "hello")];
    let (kept, gone) = (place.repository("kept", &files), place.repository("gone", &files));
    let gone = place.build_with(&gone, |wanted| wanted.owner = 2.into()).await;
    let kept = place.build(&kept).await;
    fs::remove_dir_all(gone.dir.join("artefact")).unwrap();
    let count = |place: &Place, what: &str| fs::read_dir(place.path("cache").join(what)).unwrap().count();
    let day = Duration::from_secs(24 * 60 * 60);

    build::collect(&place.context, &place.path("builds"), day).await.unwrap();
    assert_eq!((count(&place, "envs"), count(&place, "repositories")), (2, 2), "what was just used is gone");

    let long_ago = SystemTime::now() - 2 * day;
    for what in ["envs", "repositories"] {
        for dir in fs::read_dir(place.path("cache").join(what)).unwrap() {
            let used = fs::File::open(dir.unwrap().path().join("used")).unwrap();
            used.set_modified(long_ago).unwrap();
        }
    }
    build::collect(&place.context, &place.path("builds"), day).await.unwrap();
    assert_eq!((count(&place, "envs"), count(&place, "repositories")), (1, 0));
    assert_eq!(start(&kept), "hello");
}
