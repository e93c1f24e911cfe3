//! Who is sent away while an app is asked for: because there is no room for it, or because it is no longer for everyone.

#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

mod support;

use std::time::Duration;

use marmot_gateway::Limits;
use marmot_gateway::routes::{Progress, RouteState, Step};
use support::{LIMIT, TestApp, World, full, on, replica, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PAGE: &str = "text/html,application/xhtml+xml,*/*;q=0.8";

#[tokio::test]
async fn where_there_is_no_room_for_an_app_programs_are_sent_away_and_people_wait_in_the_lobby() {
    let world =
        World::with_limits(Limits { lobby_after: Duration::from_millis(30), ..Limits::default() }).await;
    let no_room = |reason: Option<&str>| RouteState::On {
        backends: vec![],
        progress: Progress {
            at: Step::Starting,
            step: "Starting".into(),
            since: world.clock.now(),
            expected: None,
            no_room: reason.map(Into::into),
        },
    };
    world.set(no_room(None));
    let held = tokio::spawn(world.client().get(world.url("/")).send());
    until("the program is held", || world.demand.sample().held == 1).await;
    world.set(no_room(Some("the apps of its project use all the memory that they may")));
    let later = async || world.client().get(world.url("/")).send().await.unwrap();
    for answer in [held.await.unwrap().unwrap(), later().await] {
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.headers()["retry-after"], "30");
        let problem = answer.text().await.unwrap();
        assert!(problem.contains("cannot wake now: the apps of its project use all"), "{problem}");
    }
    // It is still asked for: it starts as soon as there is room.
    assert!(world.demand.sample().last_activity.is_some());
    let lobby = world.client().get(world.url("/")).header("accept", PAGE).send().await.unwrap();
    assert_eq!((lobby.status().as_u16(), &lobby.headers()["retry-after"]), (503, &"30".parse().unwrap()));
    assert!(lobby.text().await.unwrap().contains("The apps of its project use all the memory"));
    let app = TestApp::start().await;
    world.set(on(vec![replica(app.address)]));
    assert_eq!(later().await.text().await.unwrap(), "hello");
    world.stop().await;
}

#[tokio::test]
async fn an_upload_of_nobody_in_particular_is_cut_when_the_app_is_no_longer_for_everyone() {
    let world = World::start().await;
    let app = TestApp::start_with(|request| async move {
        let _ = http_body_util::BodyExt::collect(request.into_body()).await;
        http::Response::new(full("all of it"))
    })
    .await;
    let backend = replica(app.address);
    world.set(on(vec![backend.clone()]));
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let head = format!(
        "POST / HTTP/1.1\r\nhost: iris.localhost:{}\r\ncontent-length: 1000000\r\n\r\n{}",
        world.address.port(),
        // As much as is waited for before a replica is taken.
        "begun".repeat(20_000),
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    until("the upload is under way", || world.demand.sample().in_flight == 1).await;
    world.set_for(&[], on(vec![backend]));
    let mut answer = Vec::new();
    let read = tokio::time::timeout(LIMIT, stream.read_to_end(&mut answer)).await;
    read.expect("it is cut off").ok();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.starts_with("HTTP/1.1 403") && !answer.contains("all of it"), "{answer}");
    world.stop().await;
}
