//! Requests to apps and to the platform, through real clients.

#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use marmot_gateway::Limits;
use marmot_gateway::routes::{Progress, RouteState, Step};
use support::{LIMIT, TestApp, World, fed, full, on, replica, sleeping_replica, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const PAGE: &str = "text/html,application/xhtml+xml,*/*;q=0.8";

#[tokio::test]
async fn one_port_serves_platform_and_apps_and_names_what_it_does_not_know() {
    let world = World::start().await;
    let app = TestApp::start().await;
    world.set(on(vec![replica(app.address)]));
    let client = world.client();
    let get = |url: String| client.get(url).send();
    assert_eq!(get(world.url("/")).await.unwrap().text().await.unwrap(), "hello");
    let platform = format!("http://localhost:{}/projects", world.address.port());
    assert_eq!(get(platform).await.unwrap().text().await.unwrap(), "platform /projects None");
    let by_address = get(format!("http://{}/x", world.address)).await.unwrap().text().await.unwrap();
    assert_eq!(by_address, "platform /x None");

    let unknown = world.raw(b"GET / HTTP/1.1\r\nHost: rose.localhost\r\nConnection: close\r\n\r\n").await;
    assert!(unknown.starts_with("HTTP/1.1 404") && unknown.contains("`rose.localhost`"), "{unknown}");
    let style = b"GET /.marmot/lobby.css HTTP/1.1\r\nHost: rose.localhost\r\nConnection: close\r\n\r\n";
    let style = world.raw(style).await;
    assert!(
        style.starts_with("HTTP/1.1 200") && style.contains("text/css"),
        "the page is drawn like any: {style}"
    );
    let foreign = world.raw(b"GET / HTTP/1.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n").await;
    assert!(foreign.starts_with("HTTP/1.1 421") && foreign.contains("application/problem+json"), "{foreign}");
    world.stop().await;
}

#[tokio::test]
async fn an_app_sees_who_asks_and_nothing_that_a_client_pretends() {
    let world = World::start().await;
    let app = TestApp::start().await;
    world.set(on(vec![replica(app.address)]));
    let answer = world
        .client()
        .post(world.url("/echo?a=b"))
        .header("x-forwarded-for", "6.6.6.6")
        .header("forwarded", "for=6.6.6.6")
        .header("x-real-ip", "6.6.6.6")
        .header("x-marmot-user", "root")
        .header("x_marmot_user", "root")
        .header("x-forwarded-prefix", "/evil")
        .header("connection", "x-secret, keep-alive")
        .header("x-secret", "1")
        .header("te", "gzip, trailers")
        .header("cookie", "marmot=s3cret; theme=dark; __Host-marmot=s3cret")
        .header("authorization", "Bearer mmt_s3cret")
        .header("x-own", "kept")
        .body("body")
        .send()
        .await
        .unwrap();
    assert!(answer.headers().contains_key("x-request-id"));
    let seen = answer.text().await.unwrap();
    let port = world.address.port();
    for line in [
        "POST /echo?a=b\n",
        &format!("host: iris.localhost:{port}\n"),
        "x-forwarded-for: 127.0.0.1\n",
        "x-forwarded-proto: http\n",
        &format!("x-forwarded-host: iris.localhost:{port}\n"),
        &format!("forwarded: for=127.0.0.1;host=\"iris.localhost:{port}\";proto=http\n"),
        "x-request-id: ",
        "cookie: theme=dark\n",
        "te: trailers\n",
        "x-own: kept\n",
        "\n\nbody",
    ] {
        assert!(seen.contains(line), "{line:?} is missing in\n{seen}");
    }
    for secret in ["6.6.6.6", "root", "s3cret", "x-secret", "/evil", "gzip, trailers"] {
        assert!(!seen.contains(secret), "{secret:?} reached the app in\n{seen}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_trusted_proxy_says_who_asks_and_both_are_named_on_the_way() {
    let world = World::with(|config| config.trusted_proxies = "127.0.0.0/8".parse().unwrap()).await;
    let app = TestApp::start().await;
    world.set(on(vec![replica(app.address)]));
    let asked = world
        .client()
        .get(world.url("/echo"))
        .header("x-forwarded-for", "1.1.1.1, 203.0.113.9")
        .header("x-forwarded-proto", "https")
        .header("via", "1.1 edge");
    let answer = asked.send().await.unwrap();
    assert_eq!(answer.headers()["via"], "1.1 marmot");
    let seen = answer.text().await.unwrap();
    let port = world.address.port();
    for line in [
        "x-forwarded-for: 203.0.113.9\n".to_owned(),
        "x-forwarded-proto: https\n".to_owned(),
        format!("forwarded: for=203.0.113.9;host=\"iris.localhost:{port}\";proto=https\n"),
        "via: 1.1 edge\nvia: 1.1 marmot\n".to_owned(),
    ] {
        assert!(seen.contains(&line), "{line} in {seen}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_hundred_requests_to_a_sleeping_app_wake_it_once_and_are_all_answered() {
    let world = World::start().await;
    let app = TestApp::start().await;
    let sleeper = sleeping_replica(app.address, 7);
    world.set(on(vec![sleeper.clone()]));
    let requests: Vec<_> =
        (0..100).map(|_| tokio::spawn(world.client().get(world.url("/")).send())).collect();
    until("all wait", || world.demand.sample().held == 100).await;
    assert_eq!((app.seen(), world.nudges.load(std::sync::atomic::Ordering::SeqCst)), (0, 1));
    sleeper.gate.open();
    for request in requests {
        assert_eq!(request.await.unwrap().unwrap().status(), 200);
    }
    assert_eq!((app.seen(), world.demand.sample().held), (100, 0));
    until("nobody is inside", || sleeper.gate.inside() == 0 && world.demand.sample().in_flight == 0).await;
    world.stop().await;
}

#[tokio::test]
async fn five_hundred_held_requests_are_answered_by_one_start_in_the_order_they_came() {
    let world = World::start().await;
    let app =
        TestApp::start_with(
            |request| async move { http::Response::new(full(request.uri().path().to_owned())) },
        );
    let app = app.await;
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let sleeper = sleeping_replica(app.address, 1);
    world.set(on(vec![sleeper.clone()]));
    let mut clients = Vec::new();
    for number in 0..500 {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        let head = format!("GET /{number} HTTP/1.1\r\nHost: iris.localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        // One after the other, so that there is an order.
        until("it has its place", || world.demand.sample().held == number + 1).await;
        let order = Arc::clone(&order);
        clients.push(tokio::spawn(async move {
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(
                answer.starts_with("HTTP/1.1 200") && answer.ends_with(&format!("/{number}")),
                "{answer}"
            );
            order.lock().unwrap().push(number);
        }));
    }
    assert_eq!((app.seen(), world.nudges.load(std::sync::atomic::Ordering::SeqCst)), (0, 1));
    sleeper.gate.open();
    for client in clients {
        tokio::time::timeout(LIMIT, client).await.expect("in time").unwrap();
    }
    assert_eq!((app.seen(), world.demand.sample().held, sleeper.gate.inside()), (500, 0, 0));
    // One at a time: who came earlier is not overtaken by more than what is on its way back.
    let order = order.lock().unwrap().clone();
    let overtaken = order.iter().enumerate().map(|(place, number)| (place as u64).abs_diff(*number)).max();
    assert!(overtaken < Some(50), "{overtaken:?}");
    world.stop().await;
}

#[tokio::test]
async fn an_upload_that_goes_on_is_not_a_silent_app() {
    let limits = Limits { response_timeout: Duration::from_secs(1), ..Limits::default() };
    let world = World::with_limits(limits).await;
    let app = TestApp::start_with(|request| async move {
        let whole = request.into_body().collect().await.unwrap().to_bytes();
        http::Response::new(full(whole))
    })
    .await;
    world.set(on(vec![replica(app.address)]));
    let (feed, body) = fed();
    let io = hyper_util::rt::TokioIo::new(TcpStream::connect(world.address).await.unwrap());
    let (mut sender, driver) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(driver);
    let request = http::Request::post("/").header("host", "iris.localhost").body(body).unwrap();
    let answer = tokio::spawn(sender.send_request(request));
    for _ in 0..20 {
        feed.send(Bytes::from("x")).unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    drop(feed);
    let answer = answer.await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "x".repeat(20));
    world.stop().await;
}

#[tokio::test]
async fn a_request_to_an_app_without_a_replica_waits_for_the_first_one() {
    let world = World::start().await;
    world.set(on(vec![]));
    let request = tokio::spawn(world.client().post(world.url("/echo")).body("posted").send());
    until("it waits", || world.demand.sample().held == 1).await;
    let app = TestApp::start().await;
    world.set(on(vec![replica(app.address)]));
    assert!(request.await.unwrap().unwrap().text().await.unwrap().ends_with("posted"));
    world.stop().await;
}

#[tokio::test]
async fn those_who_leave_give_their_place_up_and_those_who_find_it_full_are_told_when_to_come_back() {
    let limits = Limits { held_per_app: 2, ..Limits::default() };
    let world = World::with_limits(limits).await;
    world.set(on(vec![]));
    let waiting: Vec<_> = (0..2).map(|_| tokio::spawn(world.client().get(world.url("/")).send())).collect();
    until("two wait", || world.demand.sample().held == 2).await;
    let full = world.client().get(world.url("/")).send().await.unwrap();
    assert_eq!((full.status().as_u16(), full.headers()["retry-after"].to_str().unwrap()), (503, "10"));
    assert_eq!(full.headers()["content-type"], "application/problem+json");
    for client in waiting {
        client.abort();
    }
    until("their places are free", || world.demand.sample().held == 0).await;
    let next = tokio::spawn(world.client().get(world.url("/")).send());
    until("the next one has a place", || world.demand.sample().held == 1).await;
    next.abort();
    world.stop().await;
}

#[tokio::test]
async fn who_waits_too_long_is_told_what_the_app_was_doing() {
    let world =
        World::with_limits(Limits { wake_timeout: Duration::from_millis(50), ..Limits::default() }).await;
    world.set(on(vec![]));
    let late = world.client().get(world.url("/")).send().await.unwrap();
    assert_eq!(late.status(), 504);
    assert!(late.text().await.unwrap().contains("It was last seen at: Starting."));
    world.stop().await;
}

#[tokio::test]
async fn those_who_wait_for_an_app_that_fails_or_is_switched_off_are_told_so() {
    let world = World::start().await;
    for (state, status, says) in [
        (
            RouteState::Failed { last_lines: vec![], reason: "the program exited with code 3".into() },
            502,
            "exited with code 3",
        ),
        (RouteState::Off, 404, "switched off"),
    ] {
        world.set(on(vec![]));
        let request = tokio::spawn(world.client().get(world.url("/")).send());
        until("it waits", || world.demand.sample().held == 1).await;
        world.set(state);
        for answer in
            [request.await.unwrap().unwrap(), world.client().get(world.url("/")).send().await.unwrap()]
        {
            assert_eq!(answer.status(), status);
            assert_eq!(answer.headers()["content-type"], "application/problem+json");
            assert!(answer.text().await.unwrap().contains(says));
        }
    }
    world.stop().await;
}

#[tokio::test]
async fn the_replica_with_fewest_requests_is_asked_and_one_that_sleeps_or_closes_is_not() {
    let world = World::start().await;
    let (busy, idle, asleep) = (TestApp::start().await, TestApp::start().await, TestApp::start().await);
    let backends = vec![replica(busy.address), replica(idle.address), sleeping_replica(asleep.address, 9)];
    let passes: Vec<_> = (0..3).map(|_| backends[0].gate.enter(world.clock.now()).unwrap()).collect();
    world.set(on(backends.clone()));
    for _ in 0..5 {
        world.client().get(world.url("/")).send().await.unwrap();
    }
    assert_eq!((busy.seen(), idle.seen(), asleep.seen()), (0, 5, 0));
    backends[1].gate.close();
    world.client().get(world.url("/")).send().await.unwrap();
    assert_eq!((busy.seen(), idle.seen(), asleep.seen()), (1, 5, 0));
    drop(passes);
    world.stop().await;
}

#[tokio::test]
async fn bodies_stream_both_ways_as_they_come() {
    let world = World::start().await;
    let app = TestApp::start().await;
    world.set(on(vec![replica(app.address)]));
    let (feed, body) = fed();
    let connection = TcpStream::connect(world.address).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(connection);
    let (mut sender, driver) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(driver);
    let request = http::Request::post("/stream").header("host", "iris.localhost").body(body).unwrap();
    let mut echo = sender.send_request(request).await.unwrap().into_body();
    for word in ["one", "two", "three"] {
        feed.send(Bytes::from(word)).unwrap();
        let frame = tokio::time::timeout(LIMIT, echo.frame()).await.unwrap().unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), word);
    }
    assert_eq!(world.demand.sample().in_flight, 1);
    drop(feed);
    assert!(tokio::time::timeout(LIMIT, echo.frame()).await.unwrap().is_none());
    until("the request is over", || world.demand.sample().in_flight == 0).await;
    world.stop().await;
}

#[tokio::test]
async fn an_event_stream_is_a_session_that_lets_its_replica_sleep_and_ends_when_the_gateway_stops() {
    let world = World::start().await;
    let (feed, body) = fed();
    let body = Arc::new(std::sync::Mutex::new(Some(body)));
    let app =
        TestApp::start_with(move |_| {
            let body = body.lock().unwrap().take().unwrap_or_else(|| full(""));
            async move {
                http::Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
            }
        })
        .await;
    let backend = replica(app.address);
    world.set(on(vec![backend.clone()]));
    let mut events = world.client().get(world.url("/")).send().await.unwrap();
    until("it is a session", || {
        let sample = world.demand.sample();
        (sample.sessions, sample.in_flight) == (1, 0)
    })
    .await;
    feed.send(Bytes::from("data: 1\n\n")).unwrap();
    assert_eq!(events.chunk().await.unwrap().unwrap(), "data: 1\n\n");
    assert!(backend.gate.try_sleep(), "a silent event stream does not keep its replica awake");
    world.begin_to_stop();
    assert_eq!(events.chunk().await.ok().flatten(), None);
    world.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_by_the_app_at_once() {
    let world = World::start().await;
    let (left, has_left) = tokio::sync::oneshot::channel::<()>();
    let left = Arc::new(std::sync::Mutex::new(Some(left)));
    let app = TestApp::start_with(move |_| {
        let left = left.lock().unwrap().take();
        async move {
            // Dropped with the request when its connection closes.
            let _left = left;
            std::future::pending::<http::Response<support::AppBody>>().await
        }
    })
    .await;
    world.set(on(vec![replica(app.address)]));
    let request = tokio::spawn(world.client().get(world.url("/")).send());
    until("the app works on it", || app.seen() == 1).await;
    request.abort();
    assert!(tokio::time::timeout(LIMIT, has_left).await.expect("the app notices").is_err());
    until("the slot is free", || world.demand.sample().in_flight == 0).await;
    world.stop().await;
}

#[tokio::test]
async fn a_killed_replica_costs_safe_requests_nothing_and_unsent_ones_neither() {
    let world = World::start().await;
    let first = TestApp::start().await;
    world.set(on(vec![replica(first.address)]));
    let client = world.client();
    client.get(world.url("/")).send().await.unwrap();
    first.kill();
    // The engine has not noticed yet: the route still names the dead replica.
    let get = tokio::spawn(client.get(world.url("/")).send());
    let post = tokio::spawn(client.post(world.url("/echo")).body("once").send());
    until("both wait", || world.demand.sample().held == 2).await;
    let second = TestApp::start().await;
    world.set(on(vec![replica(second.address)]));
    assert_eq!(get.await.unwrap().unwrap().status(), 200);
    assert!(post.await.unwrap().unwrap().text().await.unwrap().ends_with("once"));
    assert_eq!(second.seen(), 2);
    world.stop().await;
}

/// An app that reads one request, answers with these bytes, and closes the connection, or all of it at the end.
async fn one_shot(answers: Vec<&'static [u8]>) -> (std::net::SocketAddr, tokio::task::JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = tokio::spawn(async move {
        let mut served = 0;
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            stream.write_all(answer).await.unwrap();
            served += 1;
        }
        served
    });
    (address, served)
}

#[tokio::test]
async fn a_request_whose_connection_breaks_is_repeated_if_it_is_safe_and_never_else() {
    let world = World::start().await;
    let good = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nagain";
    let (address, served) = one_shot(vec![b"", good]).await;
    world.set(on(vec![replica(address)]));
    let answer = world.client().get(world.url("/")).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "again");
    assert_eq!(served.await.unwrap(), 2);

    // On a new connection, then elsewhere; then it may be the request that ends the app.
    let (address, served) = one_shot(vec![b"", b"", b""]).await;
    world.set(on(vec![replica(address)]));
    assert_eq!(world.client().get(world.url("/")).send().await.unwrap().status(), 502);
    assert_eq!(served.await.unwrap(), 3);

    let (address, served) = one_shot(vec![b""]).await;
    world.set(on(vec![replica(address)]));
    let answer = world.client().post(world.url("/")).body("x").send().await.unwrap();
    assert_eq!(answer.status(), 502);
    assert!(answer.text().await.unwrap().contains("closed the connection before it answered"));
    assert_eq!(served.await.unwrap(), 1);
    world.stop().await;
}

/// An app that answers the first request on each of its connections, four of them at the same time at first, and
/// closes a connection at its second request: as one that is killed does, for those who were quicker to ask.
async fn answers_once_per_connection() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let four = Arc::new(tokio::sync::Barrier::new(4));
    tokio::spawn(async move {
        for number in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let four = Arc::clone(&four);
            tokio::spawn(async move {
                let mut head = [0; 4096];
                let _some = stream.read(&mut head).await.unwrap();
                if number < 4 {
                    four.wait().await;
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
                let _ = stream.read(&mut head).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn a_request_is_not_repeated_on_another_connection_of_the_same_age() {
    let world = World::start().await;
    world.set(on(vec![replica(answers_once_per_connection().await)]));
    let (client, url) = (world.client(), world.url("/"));
    let get = async || client.get(&url).send().await.unwrap().status();
    let (a, b, c, d) = tokio::join!(get(), get(), get(), get());
    assert!([a, b, c, d].iter().all(|status| *status == 200));
    for _ in 0..4 {
        assert_eq!(get().await, 200);
    }
    world.stop().await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_never_looks_complete() {
    for cut in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz",
    ] {
        let world = World::start().await;
        let (address, _) = one_shot(vec![cut]).await;
        world.set(on(vec![replica(address)]));
        let answer = world.client().get(world.url("/")).send().await;
        // Where the end is known before the head is out, not even that comes.
        let whole = match answer {
            Ok(answer) => answer.bytes().await,
            Err(broken) => Err(broken),
        };
        assert!(whole.is_err(), "{}", String::from_utf8_lossy(cut));
        world.stop().await;
    }
}

/// An app that answers the first request on each of its connections with these bytes and keeps it open.
async fn says(answer: Vec<u8>) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await;
                let _ = stream.write_all(&answer).await;
                while let Ok(1..) = stream.read(&mut head).await {}
            });
        }
    });
    address
}

#[tokio::test]
async fn what_an_app_answers_wrongly_becomes_a_502_or_is_put_right() {
    // Short only where nothing else ends the waiting: whoever answers may take their time on a busy machine.
    let limits = Limits { response_timeout: Duration::from_millis(200), ..Limits::default() };
    let (impatient, world) = (World::with_limits(limits).await, World::start().await);
    let many: String = (0..300).map(|number| format!("X-{number}: y\r\n")).collect();
    let long = "a".repeat(400_000);
    for (answer, status) in [
        ("", 504),
        ("HTTP/1.1 2", 504),
        ("hello\r\n\r\n", 502),
        ("\0\0\0\0\r\n\r\n", 502),
        ("HTTP/1.1 999999 Odd\r\n\r\n", 502),
        ("HTTP/1.1 abc OK\r\n\r\n", 502),
        ("HTTP/3.0 200 OK\r\n\r\n", 502),
        ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", 502),
        ("HTTP/1.1 200 OK\r\nX : y\r\n\r\n", 502),
        ("HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n", 502),
        ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", 502),
        ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", 502),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", 502),
        ("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", 502),
        (&format!("HTTP/1.1 200 OK\r\n{many}\r\n"), 502),
        (&format!("HTTP/1.1 200 OK\r\nX: {long}\r\n\r\n"), 502),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200),
        ("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 404),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 200),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\nabc", 204),
    ] {
        let world = if status == 504 { &impatient } else { &world };
        world.set(on(vec![replica(says(answer.as_bytes().to_vec()).await)]));
        let answered = world.client().get(world.url("/")).send().await.unwrap();
        let shown = answer.chars().take(60).collect::<String>();
        assert_eq!(answered.status().as_u16(), status, "{shown:?}");
        assert!(!answered.headers().contains_key("transfer-encoding") || status == 200, "{shown:?}");
        assert!(answered.bytes().await.is_ok(), "{shown:?}");
    }
    impatient.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn what_an_app_says_unasked_is_never_the_answer_to_somebody_else() {
    let world = World::start().await;
    let twice = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirstHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    world.set(on(vec![replica(says(twice.to_vec()).await)]));
    for _ in 0..50 {
        let answer = world.client().get(world.url("/")).send().await.unwrap().text().await.unwrap();
        assert_eq!(answer, "first");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_head_that_drips_in_is_cut_and_a_connection_between_requests_is_not() {
    let limits = Limits { header_timeout: Duration::from_millis(300), ..Limits::default() };
    let world = World::with_limits(limits).await;
    let app = TestApp::start().await;
    world.set(on(vec![replica(app.address)]));
    let mut idle = TcpStream::connect(world.address).await.unwrap();
    let mut answer = [0; 1024];
    for _ in 0..2 {
        idle.write_all(b"GET / HTTP/1.1\r\nHost: iris.localhost\r\n\r\n").await.unwrap();
        let read = idle.read(&mut answer).await.unwrap();
        assert!(answer[..read].starts_with(b"HTTP/1.1 200"));
        let mut slow = TcpStream::connect(world.address).await.unwrap();
        let dripping = async {
            while slow.write_all(b"X").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(LIMIT, dripping).await.expect("the one that drips is cut");
    }
    let told = world.raw(b"GET / HTTP/1.1\r\nHost: iris").await;
    assert!(told.starts_with("HTTP/1.1 408 "), "{told}");
    world.stop().await;
}

#[tokio::test]
async fn a_person_gets_the_lobby_a_program_is_held_and_a_preview_wakes_nobody() {
    let world =
        World::with_limits(Limits { lobby_after: Duration::from_millis(30), ..Limits::default() }).await;
    let state = RouteState::On {
        backends: vec![],
        progress: Progress {
            at: Step::WaitingForPort,
            step: "Waiting for its <port>".into(),
            since: world.clock.now(),
            expected: Some(Duration::from_secs(7)),
            no_room: None,
        },
    };
    world.set(state);
    let preview = world
        .client()
        .get(world.url("/"))
        .header("user-agent", "Slackbot-LinkExpanding 1.0")
        .send()
        .await
        .unwrap();
    assert_eq!(preview.status(), 200);
    assert!(preview.text().await.unwrap().contains("og:title"));
    assert_eq!(world.demand.sample().last_activity, None);

    let lobby = world.client().get(world.url("/?q=1")).header("accept", PAGE).send().await.unwrap();
    assert_eq!(lobby.status(), 503);
    assert_eq!(lobby.headers()["retry-after"], "7");
    assert_eq!(lobby.headers()["cache-control"], "no-store");
    let policy = lobby.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let page = lobby.text().await.unwrap();
    for part in [
        "Iris &#60;b&#62;Explorer",
        "Waiting for its &#60;port&#62;",
        "about 7 seconds",
        "http-equiv=\"refresh\"",
    ] {
        assert!(page.contains(part), "{part} is missing in\n{page}");
    }
    assert!(!page.contains("<b>") && !page.contains("style=") && !page.contains("<style"), "{page}");
    assert_eq!(world.client().get(world.url("/.marmot/lobby.js")).send().await.unwrap().status(), 200);

    let program = tokio::spawn(world.client().get(world.url("/")).send());
    until("the program is held", || world.demand.sample().held == 1).await;
    let app = TestApp::start().await;
    world.set(on(vec![replica(app.address)]));
    assert_eq!(program.await.unwrap().unwrap().text().await.unwrap(), "hello");
    world.stop().await;
}

#[tokio::test]
async fn the_lobby_is_told_each_step_until_the_app_is_ready_and_keeps_it_wanted() {
    let world = World::start().await;
    let app = TestApp::start().await;
    world.set(on(vec![]));
    let mut events = world.client().get(world.url("/.marmot/events")).send().await.unwrap();
    let mut next = async || String::from_utf8(events.chunk().await.unwrap().unwrap().to_vec()).unwrap();
    assert!(next().await.contains(r#""state":"waking","at":"starting","step":"Starting""#));
    assert_eq!(world.demand.sample().held, 1);
    let sleeper = sleeping_replica(app.address, 9);
    let progress = Progress {
        at: Step::Starting,
        step: "Starting".into(),
        since: world.clock.now(),
        expected: None,
        no_room: None,
    };
    world.set(RouteState::On { backends: vec![sleeper.clone()], progress });
    // A heartbeat may come between.
    while !next().await.contains("Waking up") {}
    sleeper.gate.open();
    while !next().await.contains(r#"{"state":"ready"}"#) {}
    until("nobody waits any more", || world.demand.sample().held == 0).await;
    world.stop().await;
}

#[tokio::test]
async fn stopping_finishes_what_is_in_flight_and_refuses_what_is_new() {
    let world = World::start().await;
    let (feed, body) = fed();
    let body = Arc::new(std::sync::Mutex::new(Some(body)));
    let app = TestApp::start_with(move |_| {
        let body = body.lock().unwrap().take().unwrap_or_else(|| full(""));
        async move { http::Response::new(body) }
    })
    .await;
    world.set(on(vec![replica(app.address)]));
    let answer = world.client().get(world.url("/")).send().await.unwrap();
    world.begin_to_stop();
    let address = world.address;
    let refused = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await
        }
    };
    tokio::time::timeout(LIMIT, refused).await.expect("no new connections");
    feed.send(Bytes::from("to the end")).unwrap();
    drop(feed);
    assert_eq!(answer.text().await.unwrap(), "to the end");
    world.stop().await;
}

#[tokio::test]
async fn http2_by_prior_knowledge_reaches_apps_and_cannot_say_two_hosts() {
    let world = World::start().await;
    let app = TestApp::start().await;
    world.set(on(vec![replica(app.address)]));
    let client = reqwest::Client::builder()
        .http2_prior_knowledge()
        .resolve("iris.localhost", world.address)
        .build()
        .unwrap();
    let answer = client
        .get(world.url("/echo"))
        .header("cookie", "a=1")
        .header("cookie", "marmot_session=s3cret")
        .header("cookie", "b=2")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.version(), http::Version::HTTP_2);
    let seen = answer.text().await.unwrap();
    assert!(seen.contains(&format!("host: iris.localhost:{}\n", world.address.port())), "{seen}");
    assert!(seen.contains("cookie: a=1; b=2\n"), "{seen}");
    let two = client.get(world.url("/")).header("host", "evil.test").send().await.unwrap();
    assert_eq!(two.status(), 400);
    world.stop().await;
}

#[tokio::test]
async fn what_traces_a_request_goes_on_with_it() {
    let (world, app) = (World::start().await, TestApp::start().await);
    world.set(on(vec![replica(app.address)]));
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request =
        world.client().get(world.url("/echo")).header("traceparent", trace).header("tracestate", "a=1");
    let answer = request.header("x-request-id", "field-station-7").send().await.unwrap();
    assert_eq!(answer.headers()["x-request-id"], "field-station-7");
    let timing = answer.headers()["server-timing"].to_str().unwrap().to_owned();
    assert!(timing.starts_with("upstream;dur="), "nobody waited: {timing}");
    let seen = answer.text().await.unwrap();
    for line in [&format!("traceparent: {trace}\n"), "tracestate: a=1\n", "x-request-id: field-station-7\n"] {
        assert!(seen.contains(line), "{line} is missing in {seen}");
    }
    let reading = world.meter.read().unwrap();
    assert_eq!((reading.answers[1], reading.upstream.counts.iter().sum::<u64>()), (1, 1));
    assert_eq!(reading.sent, seen.len() as u64);
    world.stop().await;
}
