//! Replicas that die or drain while they are used: what visitors notice of it.

#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

mod support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Response;
use marmot_gateway::routes::Backend;
use support::{TestApp, World, fed, full, on, replica, until};

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
