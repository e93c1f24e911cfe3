//! An image of code that has no `Dockerfile`: made of what a build for a process leaves, and the same when it runs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "build/support.rs"]
mod building;
#[path = "support/podman.rs"]
mod podman;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use building::{Built, Place, Repository};
use marmot_engine::container::Engine;
use marmot_engine::layout::Layout;
use marmot_engine::wanted::Push;
use podman::Podman;

/// What the app's package starts: the file beside it, so that both the packages and the code must be there.
const PACKAGE: &str = "import sys\ndef main():\n    exec(open('app.py').read(), {})\n";
const APP: &str = r#"
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        open("written", "w").write("x")
        open(os.path.expanduser("~/too"), "w").write("x")
        body = f"hello of {sys.version_info[:2]} by {os.environ['COLOUR']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.HTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
"#;

/// An image with the Python that a build found on this machine.
fn base(podman: &Podman, built: &Built, name: &str) {
    let python =
        built.run_file().path_prepend.iter().map(|bin| bin.join("python")).find(|path| path.exists());
    // Each link on the way is needed.
    let script = "import os, sys, sysconfig\npath = sys.executable\nwhile os.path.islink(path):\n    \
                  path = os.path.join(os.path.dirname(path), os.readlink(path))\n    print(path)\n\
                  print(sysconfig.get_path('stdlib'))";
    let said = Command::new(python.expect("a Python")).args(["-c", script]).output().unwrap();
    let places: Vec<PathBuf> = String::from_utf8(said.stdout).unwrap().lines().map(PathBuf::from).collect();
    podman.image_with(name, &[], &places, &[]);
}

fn with_engine(place: &mut Place, podman: &Podman) {
    let engine = Engine::at(podman.socket(), &Layout::new(place.path("data")));
    place.context.run_containers_by(&engine);
}

async fn as_image(place: &Place, repository: &Repository, push: Option<Push>) -> Built {
    place
        .build_with(repository, |wanted| {
            wanted.image.from_plan = true;
            wanted.image.push = push;
        })
        .await
}

#[tokio::test]
async fn what_is_built_of_code_runs_as_an_image_just_as_it_does_as_a_process() {
    let Some(mut podman) = Podman::start() else { return };
    let registry = podman.registry(None);
    let mut place = Place::new();
    place.wheel("serve", "1.0", PACKAGE);
    let files =
        [("Procfile", "web: COLOUR=blue serve"), ("requirements.txt", "serve==1.0\n"), ("app.py", APP)];
    let repository = place.repository("app", &files);
    let as_process = place.build(&repository).await;
    as_process.outcome();

    // Said before anything is built.
    let refused = as_image(&place, &repository, None).await;
    assert!(refused.failure().reason.contains("no container engine"), "{:?}", refused.failure());
    with_engine(&mut place, &podman);
    let refused = as_image(&place, &repository, None).await;
    assert!(refused.failure().reason.contains("`base_image`"), "{:?}", refused.failure());

    // A base without what this machine has does not do.
    podman.image("localhost/bare:1", &[], &[]);
    place.context.local_images = vec!["localhost/bare".parse().unwrap(), "localhost/base".parse().unwrap()];
    place.context.base_image = Some("localhost/bare:1".to_owned());
    let refused = as_image(&place, &repository, None).await;
    let failure = refused.failure();
    assert_eq!(failure.step, "Making an image of it");
    assert!(failure.reason.contains("Making the image failed"), "{failure:?}");

    base(&podman, &as_process, "localhost/base:1");
    place.context.base_image = Some("localhost/base:1".to_owned());
    let push = Push { reference: format!("{registry}/lab/app:1"), login: None, must: true };
    let built = as_image(&place, &repository, Some(push)).await;
    let outcome = built.outcome();
    assert_eq!(outcome.command, as_process.outcome().command);
    assert!(outcome.summary.contains("An image on localhost/base:1"), "{outcome:?}");
    let pushed = outcome.pushed.clone().expect("a digest");
    let image = built.run_file().image.expect("an image").id;
    assert!(!built.code("app.py").exists(), "the code is in the image");

    // By hand, as somebody elsewhere would, from the registry.
    podman.run(&["pull", "--quiet", &pushed]);
    let container = podman.run(&["run", "--detach", "--network=none", &pushed]);
    let answer = asked(&podman, &container, "http://127.0.0.1:8000/");
    podman.run(&["rm", "--force", "--time=0", &container]);
    assert!(answer.starts_with("hello of (3, ") && answer.ends_with("by blue"), "{answer}");
    let user = podman.run(&["image", "inspect", "--format", "{{.Config.User}}", &image]);
    assert_eq!(user, "1000:1000");
}

fn asked(podman: &Podman, container: &str, address: &str) -> String {
    for _ in 0..200 {
        let command = ["exec", container, "/bin/busybox", "wget", "-q", "-O", "-", address];
        if let Some(said) = podman.try_run(&command) {
            return said;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("it does not answer: {}", podman.run(&["logs", container]));
}
