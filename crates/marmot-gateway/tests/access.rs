//! Apps that are not for everyone: the way to sign in, and who gets in.

#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

mod support;

use marmot_core::id::UserId;
use marmot_gateway::Person;
use percent_encoding::percent_decode_str;
use reqwest::{Client, Response};
use support::{LIMIT, TestApp, World, on, replica, until};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

const PAGE: &str = "text/html,*/*;q=0.8";

fn ada() -> Person {
    Person { id: UserId::from(1), username: "ada".into() }
}

/// A browser: it keeps cookies by host, and asks for pages.
struct Browser<'a> {
    client: Client,
    world: &'a World,
    cookies: Vec<String>,
}

impl<'a> Browser<'a> {
    fn new(world: &'a World) -> Self {
        Self { client: world.client(), world, cookies: Vec::new() }
    }

    async fn open(&mut self, path: &str) -> Response {
        let mut request = self.client.get(self.world.url(path)).header("accept", PAGE);
        if !self.cookies.is_empty() {
            request = request.header("cookie", self.cookies.join("; "));
        }
        let answer = request.send().await.unwrap();
        for cookie in answer.headers().get_all("set-cookie") {
            let cookie = cookie.to_str().unwrap();
            assert!(cookie.contains("HttpOnly; SameSite=Lax") && !cookie.contains("Domain"), "{cookie}");
            let pair = cookie.split(';').next().unwrap();
            let name = pair.split_once('=').unwrap().0;
            self.cookies.retain(|kept| !kept.starts_with(&format!("{name}=")));
            if !pair.ends_with('=') {
                self.cookies.push(pair.to_owned());
            }
        }
        answer
    }

    /// Opens a path, and follows to where the platform is asked to send the browser back to.
    async fn sent_away(&mut self, path: &str) -> String {
        let answer = self.open(path).await;
        assert_eq!(answer.status(), 302);
        let away = location(&answer);
        let platform = format!("http://localhost:{}/access/iris?next=", self.world.address.port());
        away.strip_prefix(&platform).unwrap_or_else(|| panic!("{away}")).to_owned()
    }

    async fn come_back(&mut self, person: &Person, next: &str) -> Response {
        let code = self.world.tickets.issue_code(&"iris".parse().unwrap(), person);
        self.open(&format!("/.marmot/enter?code={code}&next={next}")).await
    }
}

fn location(answer: &Response) -> String {
    answer.headers()["location"].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_visitor_signs_in_once_and_the_app_learns_a_name_and_no_secret() {
    let (world, app) = (World::start().await, TestApp::start().await);
    world.set_for(&[ada().id], on(vec![replica(app.address)]));
    let mut browser = Browser::new(&world);
    let next = browser.sent_away("/echo?a=b&c=%2Fd").await;
    let back = browser.come_back(&ada(), &next).await;
    assert_eq!((back.status().as_u16(), location(&back).as_str()), (302, "/echo?a=b&c=%2Fd"));
    assert_eq!(back.headers()["referrer-policy"], "no-referrer");
    let seen = browser.open("/echo").await.text().await.unwrap();
    assert!(
        seen.contains("x-marmot-user: ada\n") && !seen.contains("cookie") && !seen.contains("ticket"),
        "{seen}"
    );
    assert_eq!(app.seen(), 1, "nothing else reached the app");
    world.stop().await;
}

#[tokio::test]
async fn an_app_for_everyone_is_told_who_has_signed_in_and_not_at_another_sites_wish() {
    let (world, app) = (World::start().await, TestApp::start().await);
    world.set(on(vec![replica(app.address)]));
    let mut browser = Browser::new(&world);
    let next = browser.sent_away("/.marmot/sign-in?next=%2Fecho").await;
    assert_eq!(location(&browser.come_back(&ada(), &next).await), "/echo");
    let ask = async |site: Option<&str>| {
        let mut request = world.client().get(world.url("/echo")).header("cookie", browser.cookies.join("; "));
        if let Some(site) = site {
            request = request.header("sec-fetch-site", site).header("sec-fetch-mode", "no-cors");
        }
        request.send().await.unwrap().text().await.unwrap()
    };
    for own in [None, Some("same-origin"), Some("none")] {
        assert!(ask(own).await.contains("x-marmot-user: ada\n"), "{own:?}");
    }
    for foreign in ["same-site", "cross-site"] {
        let seen = ask(Some(foreign)).await;
        assert!(!seen.contains("x-marmot-user") && seen.contains("x-marmot-visitor: anonymous\n"), "{seen}");
    }
    world.stop().await;
}

#[tokio::test]
async fn who_loses_access_is_refused_with_the_next_request() {
    let (world, app) = (World::start().await, TestApp::start().await);
    world.set_for(&[ada().id], on(vec![replica(app.address)]));
    let mut browser = Browser::new(&world);
    let next = browser.sent_away("/").await;
    browser.come_back(&ada(), &next).await;
    assert_eq!(browser.open("/").await.status(), 200);
    world.set_for(&[UserId::from(2)], on(vec![replica(app.address)]));
    let refused = browser.open("/").await;
    assert_eq!(refused.status(), 403);
    assert!(refused.text().await.unwrap().contains("not shared with you"));
    assert_eq!(app.seen(), 1);
    world.stop().await;
}

#[tokio::test]
async fn programs_without_access_are_told_so_and_nothing_wakes() {
    let world = World::start().await;
    world.set_for(&[ada().id], on(vec![]));
    for request in [
        world.client().get(world.url("/")),
        world.client().post(world.url("/")).header("accept", PAGE),
        world.client().get(world.url("/.marmot/events")),
        world.client().get(world.url("/")).header("x-marmot-user", "ada"),
        world.client().get(world.url("/")).header("cookie", "marmot_ticket=x"),
    ] {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 401);
        assert_eq!(answer.headers()["www-authenticate"], "Bearer realm=\"marmot\"");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
    }
    assert_eq!(world.demand.sample(), marmot_core::demand::DemandSample::default());
    world.stop().await;
}

#[tokio::test]
async fn nobody_is_signed_in_under_a_name_by_a_link_from_somebody_else() {
    let (world, app) = (World::start().await, TestApp::start().await);
    world.set_for(&[ada().id], on(vec![replica(app.address)]));
    // The attacker goes half of the way, and gives the rest of it to the victim.
    let mut attacker = Browser::new(&world);
    let next = attacker.sent_away("/").await;
    let mut victim = Browser::new(&world);
    assert_eq!(victim.come_back(&ada(), &next).await.status(), 400, "without any cookie");
    victim.sent_away("/").await;
    for stolen in [next.as_str(), "%2F", ""] {
        let answer = victim.come_back(&ada(), stolen).await;
        assert_eq!((answer.status().as_u16(), location(&answer).as_str()), (302, "/"), "{stolen}");
        assert!(!victim.cookies.iter().any(|cookie| cookie.contains("ticket")), "{stolen}");
    }
    assert_eq!(app.seen(), 0);
    world.stop().await;
}

#[tokio::test]
async fn a_code_works_once_and_two_tabs_may_sign_in_at_the_same_time() {
    let (world, app) = (World::start().await, TestApp::start().await);
    world.set_for(&[ada().id], on(vec![replica(app.address)]));
    let mut browser = Browser::new(&world);
    let (first, second) = (browser.sent_away("/one").await, browser.sent_away("/two").await);
    let code = world.tickets.issue_code(&"iris".parse().unwrap(), &ada());
    let enter = format!("/.marmot/enter?code={code}&next={first}");
    let mut other_tab = Browser { client: world.client(), world: &world, cookies: browser.cookies.clone() };
    assert_eq!(location(&browser.open(&enter).await), "/one");
    assert_eq!(other_tab.open(&enter).await.status(), 403, "the same code again");
    assert_eq!(location(&other_tab.come_back(&ada(), &second).await), "/two");
    world.stop().await;
}

#[tokio::test]
async fn the_way_back_leads_nowhere_else() {
    let (world, app) = (World::start().await, TestApp::start().await);
    world.set_for(&[ada().id], on(vec![replica(app.address)]));
    for to in [
        "//evil.test",
        "/\\evil.test",
        "https://evil.test",
        "https:evil.test",
        "%2f%2fevil.test",
        "%09//evil.test",
        "/%09/evil.test",
        "/%0a/evil.test",
        "javascript:alert(1)",
        "%5c%5cevil.test",
        "/%5cevil.test",
        "evil.test",
    ] {
        let mut browser = Browser::new(&world);
        let next = percent_decode_str(&browser.sent_away("/").await).decode_utf8().unwrap().into_owned();
        let forged = next.replace("to=%2F", &format!("to={to}"));
        assert_ne!(next, forged);
        let escaped: String = forged.bytes().map(|byte| format!("%{byte:02X}")).collect();
        assert_eq!(location(&browser.come_back(&ada(), &escaped).await), "/", "{to}");
    }
    world.stop().await;
}

#[tokio::test]
async fn open_connections_end_when_access_does() {
    use futures_util::StreamExt;
    let (world, app) = (World::start().await, TestApp::start().await);
    let backend = replica(app.address);
    world.set_for(&[ada().id], on(vec![backend.clone()]));
    let mut browser = Browser::new(&world);
    let next = browser.sent_away("/").await;
    browser.come_back(&ada(), &next).await;
    let mut request = world.url("/ws").replace("http", "ws").into_client_request().unwrap();
    request.headers_mut().insert("cookie", browser.cookies.join("; ").parse().unwrap());
    let stream = tokio::net::TcpStream::connect(world.address).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    until("it is open", || world.demand.sample().sessions == 1).await;
    world.set_for(&[ada().id, UserId::from(2)], on(vec![backend.clone()]));
    world.set_for(&[UserId::from(2)], on(vec![backend]));
    let end = tokio::time::timeout(LIMIT, socket.next()).await.expect("in time").unwrap().unwrap();
    let tokio_tungstenite::tungstenite::Message::Close(Some(frame)) = end else { panic!("{end}") };
    assert_eq!(u16::from(frame.code), 1008);
    world.stop().await;
}

#[tokio::test]
async fn only_the_apps_own_pages_open_a_websocket_with_the_visitors_ticket() {
    let (world, app) = (World::start().await, TestApp::start().await);
    world.set_for(&[ada().id], on(vec![replica(app.address)]));
    let mut browser = Browser::new(&world);
    let next = browser.sent_away("/").await;
    browser.come_back(&ada(), &next).await;
    let connect = async |origin: &str| {
        let mut request = world.url("/ws").replace("http", "ws").into_client_request().unwrap();
        request.headers_mut().insert("cookie", browser.cookies.join("; ").parse().unwrap());
        request.headers_mut().insert("origin", origin.parse().unwrap());
        let stream = tokio::net::TcpStream::connect(world.address).await.unwrap();
        tokio_tungstenite::client_async(request, stream).await
    };
    let own = world.url("");
    assert!(connect(&own).await.is_ok());
    for foreign in ["http://evil.test", "null", "https://iris.localhost", "http://rose.localhost"] {
        assert!(connect(foreign).await.is_err(), "{foreign}");
    }
    world.stop().await;
}

#[tokio::test]
async fn pages_of_other_apps_cannot_act_with_the_visitors_ticket() {
    let (world, app) = (World::start().await, TestApp::start().await);
    world.set_for(&[ada().id], on(vec![replica(app.address)]));
    let mut browser = Browser::new(&world);
    let next = browser.sent_away("/").await;
    browser.come_back(&ada(), &next).await;
    let ask = async |method: reqwest::Method, headers: &[(&str, &str)]| {
        let mut request =
            browser.client.request(method, world.url("/")).header("cookie", browser.cookies.join("; "));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap().status()
    };
    let (get, post) = (reqwest::Method::GET, reqwest::Method::POST);
    let own = world.url("");
    assert_eq!(ask(post.clone(), &[("origin", &own), ("sec-fetch-site", "same-origin")]).await, 200);
    assert_eq!(ask(post.clone(), &[("origin", &own)]).await, 200);
    assert_eq!(
        ask(get.clone(), &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")]).await,
        200
    );
    for frame in ["iframe", "frame", "object", "embed"] {
        let framed =
            [("sec-fetch-site", "same-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", frame)];
        assert_eq!(ask(get.clone(), &framed).await, 403, "{frame}");
    }
    let sister = "http://rose.localhost";
    assert_eq!(ask(post.clone(), &[("origin", sister), ("sec-fetch-site", "same-site")]).await, 403);
    assert_eq!(ask(post.clone(), &[("origin", sister)]).await, 403);
    assert_eq!(ask(post, &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")]).await, 403);
    assert_eq!(ask(get, &[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors")]).await, 403);
    world.stop().await;
}
