//! Clients that others wrote: h2load, and Autobahn's test suite for WebSockets.

#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use support::{TestApp, World, on, replica};
use tokio::process::Command;

#[tokio::test]
async fn h2load_is_answered_on_every_stream() {
    let world = World::start().await;
    let app = TestApp::start().await;
    world.set(on(vec![replica(app.address)]));
    let output = Command::new("h2load")
        .args(["-n", "3000", "-c", "10", "-m", "50", "-t", "1"])
        .arg(format!("--connect-to=127.0.0.1:{}", world.address.port()))
        .arg(world.url("/data"))
        .output()
        .await
        .expect("h2load, of Debian's nghttp2-client, is installed by `cargo xtask setup`");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("3000 succeeded, 0 failed, 0 errored, 0 timeout"), "{said}");
    assert!(said.contains("status codes: 3000 2xx"), "{said}");
    assert_eq!(app.seen(), 3000);
    world.stop().await;
}

/// The outcome of each case that Autobahn has for a server at this address.
async fn autobahn(program: &Path, address: SocketAddr, cases: &str) -> BTreeMap<String, String> {
    let directory = tempfile::tempdir().unwrap();
    let specification = serde_json::json!({
        "outdir": directory.path(),
        "servers": [{ "agent": "it", "url": format!("ws://127.0.0.1:{}/ws", address.port()) }],
        "cases": serde_json::from_str::<serde_json::Value>(cases).unwrap(),
        "exclude-cases": ["9.*", "12.*", "13.*"],
        "exclude-agent-cases": {},
    });
    let file = directory.path().join("fuzzingclient.json");
    std::fs::write(&file, specification.to_string()).unwrap();
    let log = std::fs::File::create(directory.path().join("log")).unwrap();
    let run = Command::new(program)
        .args(["-m", "fuzzingclient", "-s"])
        .arg(&file)
        .current_dir(directory.path())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .status()
        .await
        .unwrap();
    let said = std::fs::read_to_string(directory.path().join("log")).unwrap();
    let index = std::fs::read_to_string(directory.path().join("index.json"));
    let index: serde_json::Value =
        serde_json::from_str(&index.unwrap_or_else(|_| panic!("{run}: {said}"))).unwrap();
    let outcome = |(case, outcome): (&String, &serde_json::Value)| {
        (case.clone(), format!("{}, {}", outcome["behavior"], outcome["behaviorClose"]).replace('"', ""))
    };
    index["it"].as_object().unwrap().iter().map(outcome).collect()
}

/// `MARMOT_AUTOBAHN=…/bin/wstest`, of PyPI's `autobahntestsuite`: no case is worse through the gateway than without it.
#[tokio::test]
async fn autobahn_finds_no_difference_between_the_app_and_the_gateway_before_it() {
    let Some(program) = std::env::var_os("MARMOT_AUTOBAHN") else { return };
    let cases = std::env::var("MARMOT_AUTOBAHN_CASES").unwrap_or_else(|_| r#"["*"]"#.to_owned());
    let (world, app) = (World::start().await, TestApp::start().await);
    world.set(on(vec![replica(app.address)]));
    let door = door(world.address).await;
    let alone = autobahn(Path::new(&program), app.address, &cases).await;
    let behind = autobahn(Path::new(&program), door, &cases).await;
    let mut sums = BTreeMap::<&str, usize>::new();
    behind.values().for_each(|outcome| *sums.entry(outcome).or_default() += 1);
    println!("{} cases: {sums:?}", behind.len());
    let worse: Vec<_> = alone
        .iter()
        .filter(|(case, outcome)| behind.get(*case) != Some(outcome))
        .map(|(case, outcome)| format!("{case}: {outcome} alone, {:?} behind", behind.get(case)))
        .collect();
    assert!(!behind.is_empty() && worse.is_empty(), "{worse:#?}");
    world.stop().await;
}

/// Autobahn names the address that it connects to as its host. Says the app's instead, once for each connection.
async fn door(gateway: SocketAddr) -> SocketAddr {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let host = address.to_string();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            client.set_nodelay(true).unwrap();
            let host = host.clone();
            tokio::spawn(async move {
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    let mut byte = [0];
                    if client.read_exact(&mut byte).await.is_err() {
                        return;
                    }
                    head.push(char::from(byte[0]));
                }
                let mut server = TcpStream::connect(gateway).await.unwrap();
                server.set_nodelay(true).unwrap();
                server.write_all(head.replace(&host, "iris.localhost").as_bytes()).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    address
}
