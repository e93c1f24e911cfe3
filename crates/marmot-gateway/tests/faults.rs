//! Replicas that die or drain while they are used: what visitors notice of it.

#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

mod support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Response;
use marmot_gateway::Routes;
use marmot_gateway::routes::{Access, Backend, Route, RouteState, Traffic};
use support::{TestApp, World, fed, full, on, replica, sleeping_replica, until};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

type Done = Arc<Mutex<HashMap<String, u32>>>;

/// A replica that takes a moment for each request, and notes each POST that it carries out.
async fn worker(done: &Done) -> (TestApp, Backend) {
    let done = Arc::clone(done);
    let app = TestApp::start_with(move |request: http::Request<hyper::body::Incoming>| {
        let done = Arc::clone(&done);
        async move {
            if request.method() == http::Method::POST {
                *done.lock().unwrap().entry(request.uri().path().to_owned()).or_default() += 1;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
            Response::new(full("done"))
        }
    })
    .await;
    let backend = replica(app.address);
    (app, backend)
}

#[tokio::test]
async fn replicas_that_are_killed_under_load_cost_no_get_and_carry_no_post_out_twice() {
    const KILLS: u64 = 6;
    let (world, done) = (World::start().await, Done::default());
    let mut workers = [worker(&done).await, worker(&done).await];
    world.set(on(workers.iter().map(|(_, backend)| backend.clone()).collect()));
    let (over, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..16)
        .map(|client| {
            let (http, url) = (world.client(), world.url(""));
            let (over, sent) = (Arc::clone(&over), Arc::clone(&sent));
            tokio::spawn(async move {
                let (mut lost, mut posts) = (0, 0);
                let mut number = 0;
                while !over.load(Ordering::Relaxed) {
                    number += 1;
                    if number % 5 == 0 {
                        posts += 1;
                        let path = format!("{url}/{client}/{number}");
                        let answer = http.post(path).body("x").send().await.expect("an answer");
                        match answer.status().as_u16() {
                            200 => {}
                            502 => lost += 1,
                            other => panic!("POST: {other}"),
                        }
                    } else {
                        let answer = http.get(format!("{url}/{number}")).send().await.expect("an answer");
                        assert_eq!(answer.status(), 200, "GET");
                    }
                    sent.fetch_add(1, Ordering::Relaxed);
                }
                (lost, posts)
            })
        })
        .collect();
    for kill in 0..KILLS {
        let before = sent.load(Ordering::Relaxed);
        until("some requests pass", || sent.load(Ordering::Relaxed) > before + 200).await;
        let dead = usize::try_from(kill % 2).unwrap();
        workers[dead].0.kill();
        // The engine notices a little later, and starts another.
        let noticed = sent.load(Ordering::Relaxed) + 20;
        until("the other one goes on", || sent.load(Ordering::Relaxed) > noticed).await;
        workers[dead].1.gate.close();
        workers[dead] = worker(&done).await;
        world.set(on(workers.iter().map(|(_, backend)| backend.clone()).collect()));
    }
    over.store(true, Ordering::Relaxed);
    let (mut lost, mut posts) = (0, 0);
    for client in clients {
        let (client_lost, client_posts) = client.await.unwrap();
        lost += client_lost;
        posts += client_posts;
    }
    let done = std::mem::take(&mut *done.lock().unwrap());
    assert!(done.values().all(|times| *times == 1), "carried out twice");
    assert!(lost <= 10 * KILLS, "{lost} of {posts} POSTs were lost");
    assert!(posts - lost <= done.len() as u64, "each POST that was answered was carried out");
    world.stop().await;
}

#[tokio::test]
async fn requests_under_way_outlast_the_drain_of_their_replica() {
    let world = World::start().await;
    let feeds = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&feeds);
    let app = TestApp::start_with(move |_| {
        let (feed, body) = fed();
        kept.lock().unwrap().push(feed);
        async move { Response::new(body) }
    })
    .await;
    let (old, new) = (replica(app.address), TestApp::start().await);
    world.set(on(vec![old.clone()]));
    let mut answers = Vec::new();
    for _ in 0..50 {
        answers.push(world.client().get(world.url("/")).send().await.unwrap());
    }
    old.gate.drain();
    world.set(on(vec![old.clone(), replica(new.address)]));
    assert_eq!(world.client().get(world.url("/")).send().await.unwrap().text().await.unwrap(), "hello");
    assert_eq!(old.gate.inside(), 50);
    for feed in feeds.lock().unwrap().drain(..) {
        feed.send(bytes::Bytes::from("to the end")).unwrap();
    }
    for answer in answers {
        assert_eq!(answer.text().await.unwrap(), "to the end");
    }
    until("nobody is inside", || old.gate.inside() == 0).await;
    world.stop().await;
}

#[tokio::test]
async fn an_app_that_thousands_wait_for_and_that_fails_again_and_again_costs_its_neighbour_nothing() {
    const WAIT: usize = 2000;
    let world = World::start().await;
    let (asleep, neighbour) = (TestApp::start().await, TestApp::start().await);
    let crowded = |state: RouteState| {
        let iris = world.route(Access::everyone(), state);
        let rose = Route {
            app: "rose".parse().unwrap(),
            title: "Rose".to_owned(),
            access: Access::everyone(),
            state: on(vec![replica(neighbour.address)]),
            traffic: Traffic::default(),
            log_readers: Arc::default(),
            demand: Arc::default(),
            meter: Arc::default(),
        };
        let routes: Routes = [Arc::clone(iris.get("iris").unwrap()), Arc::new(rose)].into_iter().collect();
        world.routes.send_replace(Arc::new(routes));
    };
    let waits = sleeping_replica(asleep.address, 10);
    crowded(on(vec![waits.clone()]));
    let client = reqwest::Client::builder().resolve("rose.localhost", world.address).build().unwrap();
    let url = format!("http://rose.localhost:{}/", world.address.port());
    for round in 0..3 {
        let mut held = Vec::new();
        for _ in 0..WAIT {
            let mut socket = TcpStream::connect(world.address).await.unwrap();
            socket.write_all(b"GET / HTTP/1.1\r\nHost: iris.localhost\r\n\r\n").await.unwrap();
            held.push(socket);
        }
        until("they wait", || world.demand.sample().held as usize == WAIT).await;
        for _ in 0..50 {
            let answer = client.get(&url).send().await.unwrap();
            assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (200, "hello"));
        }
        // It fails, which all who wait are told, and is tried again.
        let reason = format!("exit status {round}");
        crowded(RouteState::Failed { reason: reason.into(), last_lines: vec![] });
        let answer = client.get(&url).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        until("they are told", || world.demand.sample().held == 0).await;
        crowded(on(vec![waits.clone()]));
    }
    assert_eq!(asleep.seen(), 0);
    world.stop().await;
}
