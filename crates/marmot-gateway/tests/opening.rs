//! Apps that are opened by links and keys: who gets in, what the app is told, and that it ends when it should.

#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

mod support;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt as _;
use http::Response;
use marmot_core::id::{AppKeyId, ShareLinkId};
use marmot_gateway::routes::{Access, AppKey, Quota, Rate, RouteState, ShareLink, Usage, fingerprint};
use support::{LIMIT, TestApp, World, fed, on, replica, until};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

const PAGE: &str = "text/html,*/*;q=0.8";
const LINK: &str = "s3cret-of-a-link";
const KEY: &str = "mmk_s3cret-of-a-key";

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

fn link(expires: Option<Duration>) -> ShareLink {
    let usage = Arc::<Usage>::default();
    ShareLink { id: ShareLinkId::from(5), fingerprint: fingerprint(LINK), expires, usage }
}

fn key(quota: Quota, expires: Option<Duration>) -> Arc<AppKey> {
    let usage = Arc::<Usage>::default();
    Arc::new(AppKey { id: AppKeyId::from(9), fingerprint: fingerprint(KEY), expires, quota, usage })
}

fn by_link(link: &ShareLink) -> Access {
    Access { links: Arc::new([link.clone()]), ..Access::people([]) }
}

fn by_key(key: &Arc<AppKey>) -> Access {
    Access { keys: Arc::new([Arc::clone(key)]), ..Access::people([]) }
}

/// Opens the link as a browser does; the cookie that it gets.
async fn come_by_link(world: &World) -> String {
    let visit = world.client().get(world.url(&format!("/.marmot/link?secret={LINK}&next=%2Fplot%3Fa%3Db")));
    let answer = visit.header("accept", PAGE).send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["location"]),
        (302, &"/plot?a=b".parse().unwrap())
    );
    assert_eq!(answer.headers()["referrer-policy"], "no-referrer");
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let cookie = answer.headers()["set-cookie"].to_str().unwrap();
    assert!(cookie.contains("HttpOnly; SameSite=Lax") && !cookie.contains(LINK), "{cookie}");
    assert!(!cookie.contains("Domain"), "{cookie}");
    cookie.split(';').next().unwrap().to_owned()
}

async fn connect(
    world: &World,
    header: (&'static str, &str),
) -> tokio_tungstenite::WebSocketStream<tokio::net::TcpStream> {
    let mut request = world.url("/ws").replace("http", "ws").into_client_request().unwrap();
    request.headers_mut().insert(header.0, header.1.parse().unwrap());
    let stream = tokio::net::TcpStream::connect(world.address).await.unwrap();
    tokio_tungstenite::client_async(request, stream).await.unwrap().0
}

async fn closed_with(socket: &mut tokio_tungstenite::WebSocketStream<tokio::net::TcpStream>) -> u16 {
    let end = tokio::time::timeout(LIMIT, socket.next()).await.expect("in time").unwrap().unwrap();
    let Message::Close(Some(frame)) = end else { panic!("{end}") };
    frame.code.into()
}

#[tokio::test]
async fn a_link_opens_the_app_and_leaves_no_trace_of_its_secret() {
    let (world, app) = (World::start().await, TestApp::start().await);
    let shared = link(None);
    world.set_access(by_link(&shared), on(vec![replica(app.address)]));
    let cookie = come_by_link(&world).await;
    let seen = world.client().get(world.url("/echo")).header("cookie", &cookie).send().await.unwrap();
    let seen = seen.text().await.unwrap();
    assert!(seen.contains("x-marmot-visitor: link\n"), "{seen}");
    assert!(!seen.contains("x-marmot-user") && !seen.contains("cookie:") && !seen.contains(LINK), "{seen}");
    assert_eq!(app.seen(), 1, "nothing else reached the app");
    let (uses, last) = shared.usage.take().unwrap();
    assert_eq!(uses, 1);
    assert!(last > 0);
    // What looks at links before people do uses none, and wakes nothing.
    let preview = world.client().get(world.url(&format!("/.marmot/link?secret={LINK}")));
    assert_eq!(preview.header("user-agent", "Slackbot 1.0").send().await.unwrap().status(), 302);
    assert_eq!(shared.usage.take(), None);
    world.stop().await;
}

#[tokio::test]
async fn a_link_that_is_none_or_has_ended_says_so_and_only_so_many_are_tried() {
    let (world, app) = (World::start().await, TestApp::start().await);
    world.set_access(by_link(&link(Some(now()))), on(vec![replica(app.address)]));
    let visit = async |secret: &str| {
        let url = world.url(&format!("/.marmot/link?secret={secret}"));
        let answer = world.client().get(url).header("accept", PAGE).send().await.unwrap();
        assert!(!answer.headers().contains_key("set-cookie"), "{secret}");
        (answer.status().as_u16(), answer.headers().contains_key("retry-after"), answer.text().await.unwrap())
    };
    let (status, _, text) = visit(LINK).await;
    assert!(status == 403 && text.contains("expired"), "{text}");
    let mut refused = 0;
    for guess in 0..200 {
        match visit(&format!("guess-{guess}")).await {
            (403, false, _) => refused += 1,
            (429, true, _) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!((1..=10).contains(&refused), "{refused}");
    // Whoever has a right one is not kept out by those who guess.
    let right = link(None);
    world.set_access(by_link(&right), on(vec![replica(app.address)]));
    come_by_link(&world).await;
    world.stop().await;
}

#[tokio::test]
async fn strangers_are_not_told_whether_an_app_is_on_and_who_has_the_link_is() {
    let (world, app) = (World::start().await, TestApp::start().await);
    let on = on(vec![replica(app.address)]);
    world.set_access(by_link(&link(None)), on.clone());
    let cookie = come_by_link(&world).await;
    let get = |headers: &[(&'static str, &str)]| {
        let request = world.client().get(world.url("/"));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        async {
            let answer = request.send().await.unwrap();
            let mut headers = answer.headers().clone();
            // These are never the same twice.
            ["date", "x-request-id", "set-cookie", "location"].map(|name| headers.remove(name));
            (answer.status().as_u16(), headers, answer.text().await.unwrap())
        }
    };
    let strangers = async || (get(&[]).await, get(&[("accept", PAGE)]).await);
    let before = strangers().await;
    assert_eq!((before.0.0, before.1.0), (401, 302));
    world.set_access(by_link(&link(None)), RouteState::Off);
    assert_eq!(strangers().await, before, "off or on");
    let (status, _, page) = get(&[("accept", PAGE), ("cookie", &cookie)]).await;
    assert!(status == 404 && page.contains("This app is switched off"), "{page}");
    let (status, _, problem) = get(&[("cookie", &cookie)]).await;
    assert!(status == 404 && problem.contains("is switched off"), "{problem}");
    // The link itself still leads there.
    assert!(!come_by_link(&world).await.is_empty());
    world.stop().await;
}

#[tokio::test]
async fn everything_that_is_open_by_a_link_ends_with_it() {
    let (feed, body) = fed();
    let (tell, events) = fed();
    let bodies = Arc::new(std::sync::Mutex::new((Some(body), Some(events))));
    let world = World::start().await;
    let app = TestApp::start_with(move |mut request| {
        let bodies = Arc::clone(&bodies);
        async move {
            let take = || bodies.lock().unwrap();
            match request.uri().path() {
                "/ws" => support::accept_websocket(&mut request),
                "/events" => {
                    let events = take().1.take().unwrap();
                    Response::builder().header("content-type", "text/event-stream").body(events).unwrap()
                }
                "/never" => std::future::pending().await,
                _ => Response::new(take().0.take().unwrap()),
            }
        }
    })
    .await;
    let (backend, shared) = (replica(app.address), link(None));
    world.set_access(by_link(&shared), on(vec![backend.clone()]));
    let cookie = come_by_link(&world).await;
    let mut socket = connect(&world, ("cookie", &cookie)).await;
    let long = world.client().get(world.url("/long")).header("cookie", &cookie).send().await.unwrap();
    let mut long = long.bytes_stream();
    feed.send("first".into()).unwrap();
    assert_eq!(long.next().await.unwrap().unwrap(), "first");
    let ask = |path: &str| world.client().get(world.url(path)).header("cookie", &cookie).send();
    let mut events = ask("/events").await.unwrap().bytes_stream();
    tell.send("data: 1\n\n".into()).unwrap();
    assert_eq!(events.next().await.unwrap().unwrap(), "data: 1\n\n");
    // And one whose answer has not begun.
    let waits = tokio::spawn(ask("/never"));
    until("all are open", || {
        let demand = world.demand.sample();
        (demand.sessions, demand.in_flight) == (2, 2)
    })
    .await;
    // Revoked.
    world.set_access(Access::people([]), on(vec![backend]));
    assert_eq!(closed_with(&mut socket).await, 1008);
    let end = tokio::time::timeout(LIMIT, long.next()).await.expect("in time");
    assert!(end.unwrap().is_err(), "an answer that is cut does not look complete");
    let end = tokio::time::timeout(LIMIT, events.next()).await.expect("in time");
    assert!(end.unwrap().is_err());
    assert_eq!(waits.await.unwrap().unwrap().status(), 403);
    let again = world.client().get(world.url("/")).header("cookie", &cookie).header("accept", PAGE);
    let again = again.send().await.unwrap();
    assert_eq!(again.status(), 403);
    assert!(again.text().await.unwrap().contains("revoked"));
    until("nothing is left", || world.demand.sample().sessions == 0).await;
    world.stop().await;
}

#[tokio::test]
async fn who_waits_for_an_app_to_wake_does_not_wait_on_when_the_key_is_revoked() {
    let world = World::start().await;
    world.set_access(by_key(&key(Quota::default(), None)), on(vec![]));
    let waits = tokio::spawn(world.client().get(world.url("/")).header("x-marmot-key", KEY).send());
    until("it waits", || world.demand.sample().held == 1).await;
    world.set_access(Access::people([]), on(vec![]));
    assert_eq!(waits.await.unwrap().unwrap().status(), 403);
    until("nothing is left", || world.demand.sample().held == 0).await;
    world.stop().await;
}

#[tokio::test]
async fn an_app_that_becomes_private_is_closed_to_those_who_have_it_open() {
    let (feed, body) = fed();
    let body = Arc::new(std::sync::Mutex::new(Some(body)));
    let world = World::start().await;
    let app = TestApp::start_with(move |_| {
        let body = Arc::clone(&body);
        async move { Response::new(body.lock().unwrap().take().unwrap()) }
    })
    .await;
    let backend = replica(app.address);
    world.set(on(vec![backend.clone()]));
    let mut long = world.client().get(world.url("/long")).send().await.unwrap().bytes_stream();
    feed.send("first".into()).unwrap();
    assert_eq!(long.next().await.unwrap().unwrap(), "first");
    world.set_access(Access::people([]), on(vec![backend]));
    let end = tokio::time::timeout(LIMIT, long.next()).await.expect("in time");
    assert!(end.unwrap().is_err());
    world.stop().await;
}

#[tokio::test]
async fn what_is_open_ends_when_its_link_or_key_expires() {
    let (world, app) = (World::start().await, TestApp::start().await);
    // As far ahead as opening it may take on a busy machine.
    let soon = now() + Duration::from_secs(3);
    let access = Access { keys: Arc::new([key(Quota::default(), Some(soon))]), ..by_link(&link(Some(soon))) };
    world.set_access(access, on(vec![replica(app.address)]));
    let cookie = come_by_link(&world).await;
    let mut by_link = connect(&world, ("cookie", &cookie)).await;
    let mut by_key = connect(&world, ("x-marmot-key", KEY)).await;
    assert_eq!((closed_with(&mut by_link).await, closed_with(&mut by_key).await), (1008, 1008));
    assert!(now() >= soon, "not before its time");
    world.stop().await;
}

#[tokio::test]
async fn a_program_gets_in_with_its_key_which_the_app_never_sees() {
    let (world, app) = (World::start().await, TestApp::start().await);
    let known = key(Quota::default(), None);
    world.set_access(by_key(&known), on(vec![replica(app.address)]));
    for (name, value) in [("authorization", format!("Bearer {KEY}")), ("x-marmot-key", KEY.to_owned())] {
        let answer = world.client().post(world.url("/echo")).header(name, value).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let seen = answer.text().await.unwrap();
        assert!(seen.contains("x-marmot-visitor: key\n") && !seen.contains(KEY), "{seen}");
    }
    assert_eq!(known.usage.take().unwrap().0, 2);
    let mut refused = Vec::new();
    for key in [None, Some("mmk_other"), Some(""), Some("mmt_s3cret")] {
        let mut request = world.client().get(world.url("/"));
        if let Some(key) = key {
            request = request.header("x-marmot-key", key);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 401);
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        refused.push(answer.headers()["www-authenticate"].to_str().unwrap().to_owned());
    }
    assert_eq!(refused[0], "Bearer realm=\"marmot\"");
    assert!(refused[1..].iter().all(|challenge| challenge.contains("invalid_token")), "{refused:?}");
    // Also where nobody needs one: whoever shows a key wants it to count.
    world.set(on(vec![replica(app.address)]));
    let wrong = world.client().get(world.url("/")).header("x-marmot-key", KEY).send().await.unwrap();
    assert_eq!(wrong.status(), 401);
    // A page elsewhere cannot use one: its browser asks first, and is not told that it may.
    world.set_access(by_key(&known), on(vec![replica(app.address)]));
    let asks = world.client().request(reqwest::Method::OPTIONS, world.url("/"));
    let asks =
        asks.header("origin", "https://elsewhere.test").header("access-control-request-method", "POST");
    let asks = asks.header("access-control-request-headers", "x-marmot-key").send().await.unwrap();
    assert!(asks.status() == 401 && !asks.headers().contains_key("access-control-allow-origin"));
    // An app's own tokens are its own business.
    world.set(on(vec![replica(app.address)]));
    let own = world.client().get(world.url("/echo")).bearer_auth("the-apps-own").send().await.unwrap();
    assert!(own.text().await.unwrap().contains("authorization: Bearer the-apps-own"));
    world.stop().await;
}

#[tokio::test]
async fn a_key_is_used_as_often_as_it_may_be_and_is_told_what_is_left() {
    let (world, app) = (World::start().await, TestApp::start().await);
    let rate = Rate::of(3, Duration::from_secs(3600));
    world.set_access(by_key(&key(Quota { rate, at_once: None }, None)), on(vec![replica(app.address)]));
    let ask = || world.client().get(world.url("/")).header("x-marmot-key", KEY).send();
    for left in ["2", "1", "0"] {
        let answer = ask().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["ratelimit-policy"], "\"key\";q=3;w=3600");
        let told = answer.headers()["ratelimit"].to_str().unwrap();
        assert!(told.starts_with(&format!("\"key\";r={left};t=")), "{told}");
    }
    let refused = ask().await.unwrap();
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["ratelimit-policy"], "\"key\";q=3;w=3600");
    let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=1200).contains(&wait), "{wait}");
    assert_eq!(app.seen(), 3);
    world.stop().await;
}

#[tokio::test]
async fn a_key_has_as_many_requests_under_way_as_it_may_have() {
    let (world, app) = (World::start().await, TestApp::start().await);
    let quota = Quota { rate: None, at_once: Some(1) };
    world.set_access(by_key(&key(quota, None)), on(vec![replica(app.address)]));
    let socket = connect(&world, ("x-marmot-key", KEY)).await;
    let ask = async || {
        let request = world.client().get(world.url("/")).header("x-marmot-key", KEY);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(ask().await, 429);
    drop(socket);
    until("it is closed", || world.demand.sample().sessions == 0).await;
    assert_eq!(ask().await, 200);
    assert_eq!(ask().await, 200, "an answer that is out has no place any more");
    world.stop().await;
}

/// As one of many clients behind a proxy that is trusted.
async fn from(world: &World, client: &str, host: &str) -> reqwest::Response {
    from_at(world, client, host, "/").await
}

async fn from_at(world: &World, client: &str, host: &str, path: &str) -> reqwest::Response {
    let http = reqwest::Client::builder()
        .resolve(&format!("{host}.localhost"), world.address)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    let url = format!("http://{host}.localhost:{}{path}", world.address.port());
    http.get(url).header("x-forwarded-for", client).send().await.unwrap()
}

#[tokio::test]
async fn a_visitor_may_send_so_many_requests_and_others_are_not_concerned() {
    let world = World::with(|config| {
        config.trusted_proxies = "127.0.0.0/8".parse().unwrap();
        config.limits.visitor_rate = Rate::of(5, Duration::from_secs(3600));
    })
    .await;
    let app = TestApp::start().await;
    world.set(on(vec![replica(app.address)]));
    for _ in 0..5 {
        assert_eq!(from(&world, "192.0.2.1", "iris").await.status(), 200);
    }
    let refused = from(&world, "192.0.2.1", "iris").await;
    assert_eq!(refused.status(), 429);
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(refused.headers()["ratelimit-policy"], "\"visitor\";q=5;w=3600");
    assert_eq!(from(&world, "192.0.2.2", "iris").await.status(), 200);
    // The machine's own are not counted.
    for _ in 0..10 {
        assert_eq!(world.client().get(world.url("/")).send().await.unwrap().status(), 200);
    }
    world.stop().await;
}

#[tokio::test]
async fn one_client_wakes_so_many_apps_and_no_more() {
    let world = World::with(|config| {
        config.trusted_proxies = "127.0.0.0/8".parse().unwrap();
        config.limits.wake_rate = Rate::at_most(4, Duration::from_secs(3600));
        config.limits.wake_timeout = Duration::from_millis(50);
    })
    .await;
    let all = |state: RouteState| {
        let route = |number: u32| {
            let mut route =
                (*world.route(Access::everyone(), state.clone()).get("iris").unwrap().clone()).clone();
            route.app = format!("app-{number}").parse().unwrap();
            Arc::new(route)
        };
        world.routes.send_replace(Arc::new((0..8).map(route).collect()));
    };
    all(on(vec![]));
    // Held until it is too late: nothing wakes here. The third would be the third within the hour.
    let mut statuses = Vec::new();
    for app in [0, 1, 0, 1, 2, 3] {
        let answer = from(&world, "192.0.2.1", &format!("app-{app}")).await;
        statuses.push((answer.status().as_u16(), answer.headers().contains_key("retry-after")));
    }
    assert_eq!(statuses, [(504, false), (504, false), (504, false), (504, false), (429, true), (429, true)]);
    assert_eq!(from(&world, "192.0.2.2", "app-2").await.status(), 504);
    // Whoever only looks at the lobby wakes the app, too.
    assert_eq!(from_at(&world, "192.0.2.1", "app-4", "/.marmot/events").await.status(), 429);
    assert_eq!(from_at(&world, "192.0.2.1", "app-1", "/.marmot/events").await.status(), 200);
    // What is awake is nobody's wake.
    let app = TestApp::start().await;
    all(on(vec![replica(app.address)]));
    assert_eq!(from(&world, "192.0.2.1", "app-3").await.status(), 200);
    world.stop().await;
}

#[tokio::test]
async fn an_app_is_told_who_its_visitor_is_in_a_way_that_nobody_can_forge() {
    use base64::Engine as _;
    // Longer than what the random identifiers of a request spell by chance.
    const FORGED: &str = "ada the forger";
    let (world, app) = (World::start().await, TestApp::start().await);
    world.set_access(by_key(&key(Quota::default(), None)), on(vec![replica(app.address)]));
    let forged = world.client().get(world.url("/echo")).header("x-marmot-key", KEY);
    let forged = forged
        .header("x-marmot-user", FORGED)
        .header("x_marmot_user", FORGED)
        .header("x-marmot-visitor", FORGED)
        .header("x-marmot-identity", FORGED);
    let seen = forged.send().await.unwrap().text().await.unwrap();
    assert!(!seen.contains(FORGED), "{seen}");
    let token = seen.lines().find_map(|line| line.strip_prefix("x-marmot-identity: ")).unwrap();
    let claims = token.split('.').nth(1).unwrap();
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!((&claims["aud"], &claims["kind"]), (&world.url("").into(), &"key".into()));
    // Who is nobody in particular has no token, and the app is told that much.
    world.set(on(vec![replica(app.address)]));
    let seen = world.client().get(world.url("/echo")).header("x-marmot-user", FORGED).send().await.unwrap();
    let seen = seen.text().await.unwrap();
    assert!(seen.contains("x-marmot-visitor: anonymous\n"), "{seen}");
    assert!(!seen.contains("x-marmot-identity") && !seen.contains(FORGED), "{seen}");
    world.stop().await;
}
