//! Hostile repositories and packages: each ends with a sentence, and leaves the machine as it was.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "build/support.rs"]
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use std::time::Duration;

use marmot_engine::build::BuildEnd;
use marmot_engine::wanted::{Source, WantedBuild};
use support::{Built, Place, Repository, git};
use tokio_util::sync::CancellationToken;

/// A commit of entries that no work tree could hold: `MODE SP TYPE SP OBJECT TAB PATH` each, as for `git mktree`.
fn commit_tree(repository: &Repository, entries: &str) {
    let tree = git(&repository.0, &["mktree", "--missing"], entries);
    let commit = git(&repository.0, &["commit-tree", "-m", "Hostile", &tree], "");
    repository.git(&["update-ref", "refs/heads/main", &commit]);
}

fn blob(repository: &Repository, text: &str) -> String {
    git(&repository.0, &["hash-object", "-w", "--stdin"], text)
}

/// A tree object that git's own commands refuse to make.
fn raw_tree(repository: &Repository, mode: &str, name: &str, object: &str) -> String {
    let mut raw = format!("{mode} {name}\0").into_bytes();
    raw.extend((0..object.len()).step_by(2).map(|at| u8::from_str_radix(&object[at..at + 2], 16).unwrap()));
    let path = repository.0.join("raw");
    fs::write(&path, raw).unwrap();
    let tree = repository.git(&["hash-object", "-t", "tree", "-w", "--literally", "raw"]);
    fs::remove_file(path).unwrap();
    tree
}

async fn fails(place: &Place, repository: &Repository, expected: &str) -> Built {
    let built = place.build(repository).await;
    let reason = &built.failure().reason;
    assert!(reason.contains(expected), "{expected:?} is not in: {reason}");
    assert!(!reason.english().chars().any(char::is_control), "{reason:?}");
    built
}

#[tokio::test]
async fn links_out_of_the_tree_are_refused() {
    for target in ["/etc/passwd", "/", "..", "../../../etc", "/proc/self/environ"] {
        let place = Place::new();
        let repository = place.repository("app", &[("index.html", "")]);
        std::os::unix::fs::symlink(target, repository.0.join("link")).unwrap();
        repository.commit(&[]);
        fails(&place, &repository, "link `link` leads out of the code").await;
    }
    let place = Place::new();
    let repository = place.repository("app", &[("deep/er/file", ""), ("z/file", ""), ("index.html", "")]);
    std::os::unix::fs::symlink("../../z", repository.0.join("deep/er/flat")).unwrap();
    std::os::unix::fs::symlink("deep/er/flat/../../..", repository.0.join("out")).unwrap();
    repository.commit(&[]);
    fails(&place, &repository, "leads out of the code").await;
}

#[tokio::test]
async fn links_inside_the_tree_work() {
    let place = Place::new();
    let repository = place.repository("app", &[("index.html", "home"), ("a/b/file", "x")]);
    std::os::unix::fs::symlink("../../index.html", repository.0.join("a/b/link")).unwrap();
    repository.commit(&[]);
    let built = place.build(&repository).await;
    built.outcome();
    assert_eq!(fs::read_to_string(built.code("a/b/link")).unwrap(), "home");
}

#[tokio::test]
async fn a_link_and_a_directory_of_one_name_write_nothing_through_the_link() {
    let place = Place::new();
    let repository = place.repository("app", &[("index.html", "")]);
    let file = blob(&repository, "written through");
    let target = blob(&repository, &place.path("victim").display().to_string());
    fs::create_dir(place.path("victim")).unwrap();
    let inner = git(&repository.0, &["mktree"], &format!("100644 blob {file}\tpwned\n"));
    let entries = format!("120000 blob {target}\tx\n040000 tree {inner}\tx\n");
    commit_tree(&repository, &entries);
    place.build(&repository).await.failure();
    assert_eq!(fs::read_dir(place.path("victim")).unwrap().count(), 0);
}

#[tokio::test]
async fn names_that_git_would_take_for_its_own_are_refused() {
    for name in [".git", ".GIT", ".git ", "git~1", "..", ".g\u{200c}it"] {
        let place = Place::new();
        let repository = place.repository("app", &[("index.html", "")]);
        let hook = blob(&repository, "#!/bin/sh\ntouch /tmp/PWNED\n");
        let inner = git(&repository.0, &["mktree"], &format!("100755 blob {hook}\tpost-checkout\n"));
        let tree = raw_tree(&repository, "40000", name, &inner);
        let commit = git(&repository.0, &["commit-tree", "-m", "Hostile", &tree], "");
        repository.git(&["update-ref", "refs/heads/main", &commit]);
        let built = place.build(&repository).await;
        assert_eq!(built.failure().step, "Fetching the code", "{name}");
    }
}

#[tokio::test]
async fn a_tree_of_ten_to_the_tenth_files_is_told_from_its_list() {
    let place = Place::new();
    let repository = place.repository("bomb", &[("index.html", "")]);
    let mut object = blob(&repository, "boom");
    let mut kind = "100644 blob";
    for _ in 0..10 {
        let entries: String = (0..10).map(|number| format!("{kind} {object}\tf{number}\n")).collect();
        object = git(&repository.0, &["mktree"], &entries);
        kind = "040000 tree";
    }
    let commit = git(&repository.0, &["commit-tree", "-m", "Bomb", &object], "");
    repository.git(&["update-ref", "refs/heads/main", &commit]);
    fails(&place, &repository, "more than 50000 files").await;
}

#[tokio::test]
async fn large_code_is_refused_by_what_it_would_be_and_by_what_it_is() {
    // Compresses to nothing: told from its list.
    let mut place = Place::new();
    place.context.limits.code_bytes = 1 << 20;
    let repository = place.repository("app", &[("index.html", ""), ("zeros", &"0".repeat(2 << 20))]);
    fails(&place, &repository, "larger than 1 MiB").await;

    // Does not compress: ended while it is fetched.
    let mut place = Place::new();
    place.context.limits.code_bytes = 1 << 20;
    let repository = place.repository("app", &[("index.html", "")]);
    let mut random = vec![0u8; 3 << 20];
    std::io::Read::read_exact(&mut fs::File::open("/dev/urandom").unwrap(), &mut random).unwrap();
    fs::write(repository.0.join("noise"), random).unwrap();
    repository.commit(&[]);
    fails(&place, &repository, "larger than 1 MiB").await;
}

#[tokio::test]
async fn deep_nesting_and_long_names_are_refused() {
    let place = Place::new();
    let repository = place.repository("app", &[("index.html", "")]);
    let mut object = blob(&repository, "x");
    let mut kind = "100644 blob";
    for _ in 0..100 {
        object = git(&repository.0, &["mktree"], &format!("{kind} {object}\td\n"));
        kind = "040000 tree";
    }
    let commit = git(&repository.0, &["commit-tree", "-m", "Deep", &object], "");
    repository.git(&["update-ref", "refs/heads/main", &commit]);
    fails(&place, &repository, "too long or too deep").await;
}

#[tokio::test]
async fn filters_hooks_and_settings_of_a_repository_run_nothing() {
    let place = Place::new();
    let pwned = place.path("PWNED");
    let touch = format!("touch {}", pwned.display());
    let attributes = "* filter=evil diff=evil export-subst\n*.html filter=lfs\n";
    let repository =
        place.repository("app", &[(".gitattributes", attributes), ("index.html", "$Format:%H$")]);
    repository.git(&["checkout", "--quiet", "-b", "modules"]);
    let modules = "[submodule \"x\"]\n\tpath = x\n\turl = -u./payload\n";
    repository
        .commit(&[(".gitmodules", modules), (".lfsconfig", "[lfs]\n\turl = http://169.254.169.254/\n")]);
    for (key, value) in [
        ("filter.evil.smudge", touch.as_str()),
        ("filter.evil.process", &touch),
        ("core.fsmonitor", &touch),
        ("core.sshCommand", &touch),
        ("core.gitProxy", &touch),
        ("uploadpack.packObjectsHook", &touch),
        ("core.pager", &touch),
        ("diff.evil.textconv", &touch),
    ] {
        repository.git(&["config", key, value]);
    }
    for hook in ["post-checkout", "pre-receive", "post-update", "reference-transaction", "post-upload-pack"] {
        let hook = repository.0.join(".git/hooks").join(hook);
        fs::create_dir_all(hook.parent().unwrap()).unwrap();
        fs::write(&hook, format!("#!/bin/sh\n{touch}\n")).unwrap();
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let branch =
        |name: &'static str| move |wanted: &mut WantedBuild| wanted.source.revision = Some(name.into());
    let built = place.build_with(&repository, branch("main")).await;
    built.outcome();
    assert_eq!(fs::read_to_string(built.code("index.html")).unwrap(), "$Format:%H$");
    // Git itself refuses the address of the submodule.
    let built = place.build_with(&repository, branch("modules")).await;
    assert!(built.failure().reason.contains("gitmodules"), "{}", built.failure().reason);
    assert!(!pwned.exists());
}

#[tokio::test]
async fn submodules_and_large_file_pointers_are_named_and_not_fetched() {
    let place = Place::new();
    let pointer =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 1\n", "0".repeat(64));
    let repository = place.repository("app", &[("index.html", ""), ("model.bin", &pointer)]);
    let head = repository.head();
    repository.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{head},vendor/x")]);
    repository.git(&["commit", "--quiet", "-m", "Add a submodule"]);
    let built = place.build(&repository).await;
    built.outcome();
    assert!(built.log.contains("the submodule `vendor/x` is not fetched"), "{}", built.log);
    assert!(built.log.contains("such as `model.bin`"), "{}", built.log);
}

#[tokio::test]
async fn a_package_that_must_be_built_runs_apart_from_what_others_read() {
    let place = Place::new();
    // It tells what it finds, and tries to change what is not its own.
    let other = place.repository("other", &[("Procfile", "web: hello $PORT"), ("requirements.txt", "hello")]);
    place.wheel("hello", "1.0", "def main(): pass");
    let other = place.build(&other).await;
    let other_venv = other.run_file().path_prepend[0].parent().unwrap().to_owned();
    let places = [
        place.path("cache/packages"),
        place.path("cache/repositories"),
        place.path("secret"),
        other.dir.clone(),
        other_venv,
        "/root".into(),
        "/home".into(),
        "/etc/shadow".into(),
    ];
    fs::write(place.path("secret"), "database password").unwrap();
    let backend = format!(
        "import os, sys\n\
         def build_wheel(*args):\n\
         \x20   for place in {places:?}: print('SEES', place, os.path.exists(place))\n\
         \x20   print('USER', os.getuid(), 'PROCESSES', [p for p in os.listdir('/proc') if p.isdigit()])\n\
         \x20   print('IN', os.getcwd())\n\
         \x20   for name in os.environ: print('KNOWS', name)\n\
         \x20   for place in ('/usr/lib/x', '/etc/x', '/x', '/opt/x'):\n\
         \x20       try: open(place, 'w'); print('WROTE', place)\n\
         \x20       except OSError: pass\n\
         \x20   sys.stdout.flush(); sys.exit('it cannot be built')\n\
         prepare_metadata_for_build_wheel = build_wheel\n",
        places = places.iter().map(|place| place.display().to_string()).collect::<Vec<_>>(),
    );
    place.source_package("evil", "1.0", &backend);
    let repository =
        place.repository("app", &[("Procfile", "web: x $PORT"), ("requirements.txt", "hello\nevil")]);
    let built = place.build(&repository).await;
    assert!(built.failure().reason.contains("evil"), "{}", built.failure().reason);
    assert!(built.log.contains("no ready-made form"), "{}", built.log);
    for place in &places {
        let line = format!("SEES {} False", place.display());
        assert!(built.log.contains(&line), "no {line:?} in:\n{}", built.log);
    }
    assert!(built.log.contains("USER ") && !built.log.contains("USER 0 "), "{}", built.log);
    assert!(built.log.contains("built-packages"), "{}", built.log);
    assert!(!built.log.contains("KNOWS CARGO") && !built.log.contains("WROTE"), "{}", built.log);
    assert_eq!(fs::read_dir(place.path("cache/envs")).unwrap().count(), 1, "only the other build's is there");
}

#[tokio::test]
async fn a_builds_output_is_bounded_and_its_secrets_are_masked() {
    let mut place = Place::new();
    place.context.limits.log_bytes = 10_000;
    place.context.environment.push(("UV_INDEX_LAB_PASSWORD".into(), "hunter2-secret".into()));
    let backend = "import sys\n\
                   def build_wheel(*args):\n\
                   \x20   print('password hunter2-secret', file=sys.stderr)\n\
                   \x20   for n in range(100000): print('spam \\x1b[31m\\x00 ' * 10, file=sys.stderr)\n\
                   \x20   print('x' * 5000000, file=sys.stderr)\n\
                   \x20   sys.exit('it ends with hunter2-secret')\n\
                   prepare_metadata_for_build_wheel = build_wheel\n";
    place.source_package("loud", "1.0", backend);
    let repository = place.repository("app", &[("Procfile", "web: x $PORT"), ("requirements.txt", "loud")]);
    let built = place.build(&repository).await;
    let failure = built.failure();
    assert!(built.log.len() < 40_000, "{} bytes", built.log.len());
    let all = format!("{}{}{:?}", built.log, failure.reason, failure.last_lines);
    assert!(!all.contains("hunter2") && !all.contains('\0'), "{all}");
}

/// The most memory that this process ever had, in bytes.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[tokio::test]
async fn output_beyond_measure_takes_neither_disk_nor_memory() {
    let bytes: u64 = std::env::var("MARMOT_LOG_BYTES").map_or(128 << 20, |bytes| bytes.parse().unwrap());
    let mut place = Place::new();
    place.context.limits.log_bytes = 1 << 20;
    let flood = format!(
        "import sys\nblock = (b'spam \\x1b]0;title\\x07\\xff ' * 50 + b'\\n') * 1000 + b'x' * 1000000 + b'\\n'\n\
         said = 0\nwhile said < {bytes}:\n    said += sys.stdout.buffer.write(block)\nprint('the end', said)\n"
    );
    let procfile = "release: python3 flood.py\nweb: python3 -m http.server $PORT\n";
    let files = [("Procfile", procfile), ("requirements.txt", ""), ("flood.py", &flood)];
    let repository = place.repository("app", &files);
    let before = peak();
    let built = place.build(&repository).await;
    built.outcome();
    assert!(built.log.len() < 3 << 19, "{} bytes", built.log.len());
    assert!(built.log.contains(" lines left out: the log of this build has become too long"));
    let grown = peak() - before;
    assert!(grown < 48 << 20, "{grown} bytes of memory for {bytes} of output");
}

/// The processes that are marked as of the build in `dir`.
fn processes_of(dir: &std::path::Path) -> usize {
    let mark = format!("MARMOT_BUILD={}-", dir.file_name().unwrap().to_str().unwrap()).into_bytes();
    let marked = |process: &fs::DirEntry| {
        let environment = fs::read(process.path().join("environ")).unwrap_or_default();
        environment.split(|&byte| byte == 0).any(|variable| variable.starts_with(&mark))
    };
    fs::read_dir("/proc").unwrap().flatten().filter(marked).count()
}

#[tokio::test]
async fn a_build_is_called_off_at_each_of_fifty_moments_and_leaves_neither_processes_nor_halves() {
    let place = Place::new();
    place.wheel("hello", "1.0", "def main(): pass");
    let procfile = "web: hello $PORT\nrelease: (sleep 600 &) ; sleep 0.1; touch released\n";
    let repository = place.repository("app", &[("Procfile", procfile), ("requirements.txt", "hello")]);
    let (mut cancelled, mut whole) = (0, 0);
    for moment in 0..50u32 {
        let source = Source { repository: repository.address(), revision: None, context_dir: None };
        // Each installs its packages anew.
        let wanted = WantedBuild { owner: (100 + u128::from(moment)).into(), ..support::wanted(source) };
        let cancel = CancellationToken::new();
        let call_off = async {
            tokio::time::sleep(Duration::from_millis(u64::from(moment) * 15)).await;
            cancel.cancel();
        };
        // That its home and its artefact are gone is looked at there.
        let (built, ()) = tokio::join!(place.run(&wanted, cancel.clone()), call_off);
        match built.end {
            Ok(_) => whole += 1,
            Err(BuildEnd::Cancelled) => cancelled += 1,
            other => panic!("{other:?}\n{}", built.log),
        }
        assert_eq!(processes_of(&built.dir), 0, "at {moment}");
        for environment in fs::read_dir(place.path("cache/envs")).into_iter().flatten().flatten() {
            assert!(environment.path().join("used").is_file(), "half an environment is left at {moment}");
        }
    }
    assert_eq!(cancelled + whole, 50);
    assert!(cancelled > 0, "none was called off");
    place.build(&repository).await.outcome();
}
