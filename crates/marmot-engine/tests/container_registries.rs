//! Registries as they are: with images for several architectures, asked by several at once, and with enough of it. And what
//! Docker does not build.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/docker.rs"]
mod docker;
#[path = "support/imaged.rs"]
mod imaged;
#[path = "support/podman.rs"]
mod podman;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use docker::Docker;
use imaged::{Place, publish};
use marmot_engine::build::BuildsNetwork;
use podman::Podman;

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
