//! What a person sees while an app wakes, and where it cannot be opened.

#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use marmot_core::id::UserId;
use marmot_gateway::routes::{Progress, RouteState, Step};
use marmot_gateway::{Limits, Person};
use support::{LIMIT, TestApp, World, on, replica, sleeping_replica, until};

const PAGE: &str = "text/html,*/*;q=0.8";

/// A lobby's event stream, as the browser reads it.
struct Events {
    answer: reqwest::Response,
    read: String,
}

impl Events {
    async fn open(world: &World, cookie: &str) -> Self {
        let request = world.client().get(world.url("/.marmot/events")).header("cookie", cookie);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self { answer, read: String::new() }
    }

    /// The next event; heartbeats are none.
    async fn next(&mut self) -> String {
        loop {
            if let Some((event, rest)) = self.read.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.read = rest;
                if event != ":" {
                    return event;
                }
                continue;
            }
            let chunk = tokio::time::timeout(LIMIT, self.answer.chunk()).await.expect("news").unwrap();
            self.read += std::str::from_utf8(&chunk.expect("goes on")).unwrap();
        }
    }
}

fn waking(at: Step, step: &str, world: &World) -> RouteState {
    let progress =
        Progress { at, step: step.into(), since: world.clock.now(), expected: None, no_room: None };
    RouteState::On { backends: vec![], progress }
}

/// The cookie of a member who has signed in on the app's own host.
async fn signed_in(world: &World, id: UserId) -> String {
    let person = Person { id, username: "ada".into() };
    let way = world.client().get(world.url("/.marmot/sign-in?next=%2Fplot%3Fx%3D1")).send().await.unwrap();
    let location = way.headers()["location"].to_str().unwrap().to_owned();
    let state = way.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let next = location.split_once("?next=").unwrap().1;
    let code = world.tickets.issue_code(&"iris".parse().unwrap(), &person);
    let back = world.url(&format!("/.marmot/enter?code={code}&next={next}"));
    let back = world.client().get(back).header("cookie", state).send().await.unwrap();
    assert_eq!(back.headers()["location"], "/plot?x=1", "back to where they were");
    back.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn members_see_the_log_live_and_others_do_not() {
    let world = World::start().await;
    let ada = UserId::from(7);
    *world.log_readers.lock().unwrap() = Arc::new([ada].into());
    world.set(waking(Step::Building, "Building: installing", &world));
    let cookie = signed_in(&world, ada).await;
    let (mut hers, mut others) = (Events::open(&world, &cookie).await, Events::open(&world, "").await);
    assert!(hers.next().await.contains(r#""at":"building","step":"Building: installing""#));
    others.next().await;
    until("the log is followed", || world.log.receiver_count() == 1).await;
    world.log.send("2026-11-24T06:00:00Z \u{1b}[32mResolved\u{1b}[0m 43 <packages>".into()).unwrap();
    assert_eq!(hers.next().await, "event: log\ndata: \"Resolved 43 <packages>\"");
    // Another log from here on: that of the program.
    world.set(waking(Step::Starting, "Preparing its files", &world));
    assert!(hers.next().await.contains(r#""at":"starting""#));
    assert!(others.next().await.contains(r#""at":"starting""#), "and no line of the log before");
    until("the other log is followed", || world.log.receiver_count() == 1).await;
    world.set(RouteState::Failed { reason: "it exited".into(), last_lines: vec!["ImportError".into()] });
    assert!(hers.next().await.contains(r#""last_lines":["ImportError"]"#));
    assert!(others.next().await.contains(r#"{"state":"failed","reason":"it exited","last_lines":[]}"#));
    for (cookie, lines, link) in [(cookie.as_str(), true, false), ("", false, true)] {
        let request = world.client().get(world.url("/")).header("accept", PAGE).header("cookie", cookie);
        let page = request.send().await.unwrap();
        assert_eq!(page.status(), 502);
        let page = page.text().await.unwrap();
        assert_eq!(
            (page.contains("<li>ImportError</li>"), page.contains("/.marmot/sign-in")),
            (lines, link),
            "{page}"
        );
    }
    world.stop().await;
}

#[tokio::test]
async fn whoever_looks_at_a_closed_app_sees_it_open_and_keeps_it_awake_only_then() {
    let (world, app) = (World::start().await, TestApp::start().await);
    world.set(RouteState::Off);
    let page = world.client().get(world.url("/")).header("accept", PAGE).send().await.unwrap();
    assert_eq!(
        (page.status().as_u16(), page.headers()["cache-control"].to_str().unwrap()),
        (404, "no-store")
    );
    assert!(page.text().await.unwrap().contains("This app is switched off"));
    let mut events = Events::open(&world, "").await;
    assert!(events.next().await.contains(r#"{"state":"off"}"#));
    assert_eq!(world.demand.sample().held, 0);
    world.set(waking(Step::Starting, "Starting", &world));
    assert!(events.next().await.contains(r#""state":"waking""#));
    assert_eq!(world.demand.sample().held, 1);
    world.set(on(vec![replica(app.address)]));
    assert!(events.next().await.contains(r#"{"state":"ready"}"#));
    until("nobody waits any more", || world.demand.sample().held == 0).await;
    world.stop().await;
}

#[tokio::test]
async fn a_person_waits_for_an_app_that_wakes_quickly_and_sees_the_lobby_of_one_that_does_not() {
    let (world, app) = (World::start().await, TestApp::start().await);
    let sleeper = sleeping_replica(app.address, 9);
    world.set(on(vec![sleeper.clone()]));
    let open = |accept| world.client().get(world.url("/deep?q=1")).header("accept", accept).send();
    // It has been seen waking within a moment.
    let wakes = async |times| {
        for _ in 0..times {
            let waits = tokio::spawn(open("*/*"));
            until("it waits", || world.demand.sample().held == 1).await;
            sleeper.gate.open();
            waits.await.unwrap().unwrap();
            until("it sleeps", || sleeper.gate.try_sleep()).await;
        }
    };
    wakes(3).await;
    let gate = Arc::clone(&sleeper.gate);
    world.on_nudge(move || gate.open());
    let page = open(PAGE).await.unwrap();
    assert_eq!((page.status().as_u16(), page.text().await.unwrap().as_str()), (200, "hello"));
    until("it sleeps", || sleeper.gate.try_sleep()).await;
    world.stop().await;

    // It has been seen booting, slowly: nobody looks at a blank page for a second before they are told.
    let limits = Limits { lobby_after: Duration::from_secs(3600), ..Limits::default() };
    let world = World::with_limits(limits).await;
    let progress = Progress {
        at: Step::Starting,
        step: "Starting".into(),
        since: world.clock.now(),
        expected: Some(Duration::from_secs(4000)),
        no_room: None,
    };
    world.set(RouteState::On { backends: vec![], progress });
    let page = world.client().get(world.url("/")).header("accept", PAGE).send().await.unwrap();
    assert_eq!(page.status(), 503);
    let page = page.text().await.unwrap();
    assert!(
        page.contains(r#"<li data-at="starting" class="now" aria-current="step">Starting</li>"#),
        "{page}"
    );
    assert_eq!((world.demand.sample().held, world.nudges.load(std::sync::atomic::Ordering::SeqCst)), (0, 1));
    assert!(world.demand.sample().last_activity.is_some(), "it is wanted although nobody is in line");
    world.stop().await;
}

#[tokio::test]
async fn where_all_places_are_taken_the_lobby_says_so_until_one_is_free() {
    let (world, app) = (World::start().await, TestApp::start().await);
    let sleeper = sleeping_replica(app.address, 1);
    sleeper.gate.open();
    world.set(on(vec![sleeper.clone()]));
    let taken = sleeper.gate.enter(world.clock.now()).unwrap();
    let mut events = Events::open(&world, "").await;
    assert!(events.next().await.contains(r#""at":"busy""#));
    drop(taken);
    assert!(events.next().await.contains(r#"{"state":"ready"}"#));
    world.stop().await;
}

/// Serves the lobby, to look at it: `cargo test -p marmot-gateway --test lobby look -- --ignored --nocapture`. Each line
/// on the standard input shows the next state. The cookie is that of a member.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs until it is interrupted"]
async fn look_at_the_lobby() {
    let world = World::start().await;
    *world.log_readers.lock().unwrap() = Arc::new([UserId::from(7)].into());
    world.set(RouteState::Off);
    println!("\n{} {}", world.url("/"), signed_in(&world, UserId::from(7)).await);
    let at = |at, step: &str, expected| {
        let progress = Progress { at, step: step.into(), since: world.clock.now(), expected, no_room: None };
        RouteState::On { backends: vec![], progress }
    };
    let reason =
        "the program does not listen on port 8080; it listens on 8501: start it with the port in $PORT";
    let failure =
        ["Traceback (most recent call last):", "  File \"app.py\", line 3, in <module>", "KeyError: 'PORT'"];
    let states = [
        at(Step::Building, "Building: installing 43 packages", None),
        at(Step::Starting, "Preparing its files", Some(Duration::from_secs(9))),
        at(Step::WaitingForPort, "Waiting for its port", Some(Duration::from_secs(9))),
        RouteState::Failed { reason: reason.into(), last_lines: failure.map(str::to_owned).to_vec() },
        RouteState::Off,
    ];
    for state in states {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).unwrap();
        world.set(state);
        for text in
            ["Resolved 43 packages in 210ms", "Downloading numpy (16.2MiB)", "Installed 43 packages in 1.2s"]
        {
            tokio::time::sleep(Duration::from_millis(400)).await;
            let _ = world.log.send(format!("2026-11-24T06:00:00.000Z {text}"));
        }
        println!("shown");
    }
}
