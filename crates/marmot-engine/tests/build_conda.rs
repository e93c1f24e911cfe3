//! Environments of conda, solved and installed for real from a channel of the test's own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "build/support.rs"]
mod support;

use std::fs;
use std::process::Command;

use support::{Built, Place};

/// Makes a channel: a Python that is this machine's, `marmots` in two versions, and `other`, which does not go with the
/// second.
const CHANNEL: &str = r#"
import hashlib, io, json, os, sys, tarfile
root = sys.argv[1]
python = "%d.%d" % sys.version_info[:2]

def package(subdir, name, version, depends, files, links={}, noarch=None):
    os.makedirs(f"{root}/{subdir}", exist_ok=True)
    build = "py_0" if noarch else "0"
    index = {"name": name, "version": version, "build": build, "build_number": 0, "depends": depends, "subdir": subdir}
    if noarch:
        index["noarch"] = noarch
    digest = lambda data: hashlib.sha256(data).hexdigest()
    paths = [{"_path": path, "path_type": "hardlink", "sha256": digest(text.encode()), "size_in_bytes": len(text)} for path, text in files.items()]
    paths += [{"_path": path, "path_type": "softlink", "sha256": digest(b""), "size_in_bytes": 0} for path in links]
    about = {"info/index.json": json.dumps(index), "info/paths.json": json.dumps({"paths": paths, "paths_version": 1})}
    if noarch == "python":
        about["info/link.json"] = json.dumps({"noarch": {"type": "python", "entry_points": [f"{name} = {name}:main"]}, "package_metadata_version": 1})
    file = f"{name}-{version}-{build}.tar.bz2"
    with tarfile.open(f"{root}/{subdir}/{file}", "w:bz2") as tar:
        for path, text in {**about, **files}.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(text.encode()), 0o600
            tar.addfile(entry, io.BytesIO(text.encode()))
        for path, target in links.items():
            entry = tarfile.TarInfo(path)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
    data = open(f"{root}/{subdir}/{file}", "rb").read()
    listing = f"{root}/{subdir}/repodata.json"
    known = json.load(open(listing)) if os.path.exists(listing) else {"info": {"subdir": subdir}, "packages": {}, "packages.conda": {}}
    known["packages"][file] = {**index, "sha256": digest(data), "md5": hashlib.md5(data).hexdigest(), "size": len(data)}
    json.dump(known, open(listing, "w"))

home = os.path.dirname(os.path.realpath(sys.executable))
settings = f"home = {home}\ninclude-system-site-packages = false\nversion = {python}\n"
links = {f"bin/python{python}": os.path.realpath(sys.executable), "bin/python3": f"python{python}", "bin/python": f"python{python}"}
package(sys.argv[2], "python", f"{python}.0", [], {"pyvenv.cfg": settings, f"lib/python{python}/site-packages/README.txt": ""}, links)
module = lambda text: {"site-packages/marmots.py": f"def main():\n    print('{text}')\n"}
package("noarch", "marmots", "1.0", ["python"], module("old marmots"), noarch="python")
package("noarch", "marmots", "2.0", ["python", "__unix"], module("new marmots"), noarch="python")
linked = "echo linked $PKG_NAME $PKG_VERSION; echo done > $PREFIX/linked.txt; echo told by it > $PREFIX/.messages.txt\n" \
    "if [ -e /etc/shadow ] || touch /usr/x /tmp/../marmot-x 2> /dev/null; then exit 9; fi\n"
active = "export SCRIPTED_DATA=\"$CONDA_PREFIX/share/data\"\nexport MODE=of-package\nf() { :; }\nexport -f f 2> /dev/null || true\n"
package("noarch", "scripted", "1.0", [], {"bin/.scripted-post-link.sh": linked, "etc/conda/activate.d/scripted.sh": active,
    "etc/conda/env_vars.d/scripted.json": json.dumps({"BY_FILE": "1", "PATH": "/evil"})}, noarch="generic")
package("noarch", "broken", "1.0", [], {"bin/.broken-post-link.sh": "echo it is broken >&2; exit 3\n"}, noarch="generic")
package("noarch", "other", "1.0", ["marmots <2"], {"share/other.txt": "x"}, noarch="generic")
"#;

/// A place whose channels are in a directory of its own; `conda-forge` is there.
fn place() -> Place {
    let mut place = Place::new();
    let platform = if cfg!(target_arch = "aarch64") { "linux-aarch64" } else { "linux-64" };
    let channel = place.path("channels/conda-forge");
    let made =
        Command::new("/usr/bin/python3").args(["-c", CHANNEL]).arg(&channel).arg(platform).status().unwrap();
    assert!(made.success());
    let alias = format!("file://{}", place.path("channels").display());
    place.context.environment.push(("CONDA_CHANNEL_ALIAS".into(), alias));
    place
}

/// Runs what was built and returns what it prints.
fn start(built: &Built) -> String {
    let run = built.run_file();
    let command = run.command.unwrap();
    let mut path = std::env::join_paths(&run.path_prepend).unwrap();
    path.push(":/usr/bin:/bin");
    let said = Command::new(&command[0])
        .args(&command[1..])
        .current_dir(built.code(""))
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

const PROCFILE: (&str, &str) = ("Procfile", "web: marmots $PORT\n");

fn environment(dependencies: &str) -> String {
    format!("name: x\nchannels:\n  - conda-forge\ndependencies:\n{dependencies}variables:\n  MODE: fast\n")
}

#[tokio::test]
async fn an_environment_is_solved_installed_and_reused_with_what_pip_adds() {
    let place = place();
    place.wheel(
        "hello",
        "1.0",
        "def main():\n    import marmots, os\n    print('hello', os.environ['MODE'])\n    marmots.main()\n",
    );
    let text = environment("  - marmots\n  - pip:\n    - hello==1.0\n");
    let repository =
        place.repository("app", &[("Procfile", "web: hello $PORT\n"), ("environment.yml", &text)]);
    let built = place.build(&repository).await;
    assert!(built.outcome().summary.contains("from conda's channels"), "{}", built.outcome().summary);
    for told in ["Asking conda-forge for packages", " + marmots=2.0", "hello==1.0"] {
        assert!(built.log.contains(told), "no {told} in {}", built.log);
    }
    assert_eq!(start(&built), "hello fast\nnew marmots");

    repository.commit(&[("README.md", "changed")]);
    let again = place.build(&repository).await;
    assert!(again.log.contains("the environment is re-used"), "{}", again.log);

    // What pip is asked for changes; the versions that were found before do not, whatever the channel has now.
    fs::remove_dir_all(place.path("channels/conda-forge/noarch")).unwrap();
    repository.commit(&[("requirements.txt", "hello\n")]);
    let more = place.build(&repository).await;
    assert!(more.log.contains("those of the first build of this environment"), "{}", more.log);
    assert_eq!(start(&more), "hello fast\nnew marmots");
}

#[tokio::test]
async fn versions_that_go_together_are_found_and_what_does_not_is_explained() {
    let place = place();
    let with = |dependencies: &str| environment(dependencies);
    let repository =
        place.repository("app", &[PROCFILE, ("environment.yml", &with("  - marmots\n  - other\n"))]);
    let older = place.build(&repository).await;
    older.outcome();
    assert_eq!(start(&older), "old marmots");

    for (dependencies, expected) in [
        (
            "  - marmots>=2\n  - other\n",
            &["no versions of the packages in environment.yml go together", "Loosen or remove"][..],
        ),
        ("  - nonexistent\n", &["nonexistent"]),
    ] {
        repository.commit(&[("environment.yml", &with(dependencies))]);
        let failed = place.build(&repository).await;
        let failure = failed.failure();
        assert_eq!(failure.step, "Installing Python packages");
        for part in expected {
            assert!(
                failure.reason.english().to_lowercase().contains(&part.to_lowercase()),
                "no {part} in {}\n{}",
                failure.reason,
                failed.log
            );
        }
    }
}

#[tokio::test]
async fn channels_are_taken_by_their_names_alone() {
    let place = place();
    for channel in [
        "file:///etc",
        "http://127.0.0.1:1/x",
        "../elsewhere",
        "/etc",
        "conda-forge/../../x",
        "https://host.example/x",
    ] {
        let text = format!("channels: ['{channel}']\ndependencies: [marmots]\n");
        let repository =
            place.repository(&format!("app{}", channel.len()), &[PROCFILE, ("environment.yml", &text)]);
        let reason = place.build(&repository).await.failure().reason.clone();
        assert!(reason.contains("channels are taken by their names"), "{channel}: {reason}");
    }
    let text = "channels: [defaults]\ndependencies: [marmots]\n";
    let built = place.build(&place.repository("defaults", &[PROCFILE, ("environment.yml", text)])).await;
    assert_eq!(start(&built), "new marmots");
    assert!(built.log.contains("the channel `defaults` is not used"), "{}", built.log);
}

#[tokio::test]
async fn scripts_of_packages_run_confined_when_they_are_installed_and_what_activating_sets_is_there_at_start()
{
    let place = place();
    place.wheel(
        "hello",
        "1.0",
        "def main():\n    import os\n    prefix = os.environ['CONDA_PREFIX']\n    data = os.environ['SCRIPTED_DATA'].removeprefix(prefix)\n    \
         print(data, os.environ['MODE'], os.environ['BY_FILE'], open(prefix + '/linked.txt').read().strip(), '/evil' in os.environ['PATH'])\n",
    );
    let text = environment("  - python\n  - scripted\n  - pip:\n    - hello==1.0\n");
    let repository =
        place.repository("app", &[("Procfile", "web: hello $PORT\n"), ("environment.yml", &text)]);
    let built = place.build(&repository).await;
    for told in ["Running the script that scripted is installed with", "linked scripted 1.0", "told by it"] {
        assert!(built.log.contains(told), "no {told} in {}", built.log);
    }
    // What the environment's own file says is said last.
    assert_eq!(start(&built), "/share/data fast 1 done False");
    repository.commit(&[("README.md", "changed")]);
    let again = place.build(&repository).await;
    assert!(again.log.contains("the environment is re-used"), "{}", again.log);
    assert_eq!(start(&again), "/share/data fast 1 done False");

    let text = environment("  - python\n  - broken\n");
    repository.commit(&[("environment.yml", &text)]);
    let broken = place.build(&repository).await;
    assert!(broken.failure().reason.contains("script that the package broken is installed with failed"));
    assert!(broken.log.contains("it is broken"), "{}", broken.log);
}
