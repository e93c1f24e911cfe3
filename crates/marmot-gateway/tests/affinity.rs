//! Which replica a visitor comes to: their own while it lives, else one with room.

#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::{Request, Response};
use marmot_core::Gate;
use marmot_core::gate::GateState;
use marmot_gateway::Limits;
use marmot_gateway::routes::{Backend, RouteState};
use support::{LIMIT, TestApp, World, accept_websocket, full, on, replica, sleeping_replica, until};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

const PAGE: &str = "text/html,*/*;q=0.8";

type Socket = WebSocketStream<TcpStream>;

/// An app that tells its name, and what cookies it is sent.
async fn named(name: &'static str) -> TestApp {
    TestApp::start_with(move |mut request: Request<hyper::body::Incoming>| async move {
        match request.uri().path() {
            "/ws" => accept_websocket(&mut request),
            "/public" => {
                Response::builder().header("cache-control", "public, max-age=60").body(full(name)).unwrap()
            }
            _ => {
                let cookies = request.headers().get("cookie").map(|list| list.to_str().unwrap().to_owned());
                Response::new(full(format!("{name} {}", cookies.unwrap_or_default())))
            }
        }
    })
    .await
}

/// A browser of somebody: it keeps the cookie it is given.
struct Browser<'a> {
    world: &'a World,
    cookie: Option<String>,
}

impl<'a> Browser<'a> {
    fn new(world: &'a World) -> Self {
        Self { world, cookie: None }
    }

    fn request(&self, path: &str, accept: &str) -> reqwest::RequestBuilder {
        let request = self.world.client().get(self.world.url(path)).header("accept", accept);
        match &self.cookie {
            Some(cookie) => request.header("cookie", format!("theme=dark; {cookie}")),
            None => request,
        }
    }

    /// Opens a page: what the app says.
    async fn open(&mut self, path: &str) -> String {
        let answer = self.request(path, PAGE).send().await.unwrap();
        if let Some(set) = answer.headers().get("set-cookie") {
            let set = set.to_str().unwrap();
            assert!(set.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{set}");
            self.cookie = Some(set.split(';').next().unwrap().to_owned());
        }
        answer.text().await.unwrap()
    }

    async fn socket(&self) -> Socket {
        let mut request = self.world.url("/ws").replace("http", "ws").into_client_request().unwrap();
        if let Some(cookie) = &self.cookie {
            request.headers_mut().insert("cookie", cookie.parse().unwrap());
        }
        let stream = TcpStream::connect(self.world.address).await.unwrap();
        tokio_tungstenite::client_async(request, stream).await.unwrap().0
    }
}

async fn close_code(socket: &mut Socket) -> u16 {
    loop {
        let message = tokio::time::timeout(LIMIT, socket.next()).await.expect("in time").expect("open");
        if let Message::Close(Some(frame)) = message.unwrap() {
            return frame.code.into();
        }
    }
}

/// A replica with so many seats, awake.
fn with_seats(app: &TestApp, seats: u32) -> Backend {
    let backend = Backend { gate: Arc::new(Gate::for_sessions(seats)), ..sleeping_replica(app.address, 1) };
    backend.gate.open();
    backend
}

#[tokio::test]
async fn a_visitor_stays_with_a_replica_and_the_app_sees_no_cookie_of_it() {
    let (world, one, two) = (World::start().await, named("one").await, named("two").await);
    let (first, second) = (replica(one.address), replica(two.address));
    world.set(on(vec![first.clone(), second.clone()]));
    let mut visitor = Browser::new(&world);
    assert_eq!(visitor.open("/").await, "one ");
    let cookie = visitor.cookie.clone().unwrap();
    // The busier one, and still theirs.
    let _busy: Vec<_> = (0..9).map(|_| first.gate.enter_again().unwrap()).collect();
    for _ in 0..5 {
        assert_eq!(visitor.open("/").await, "one theme=dark");
    }
    assert_eq!(visitor.cookie, Some(cookie.clone()), "told once");
    let mut socket = visitor.socket().await;
    socket.close(None).await.unwrap();
    let _socket = visitor.socket().await;
    assert_eq!((one.seen(), two.seen()), (8, 0), "a socket that comes back comes back to the same");
    // Somebody else, a program, and a forger.
    assert_eq!(Browser::new(&world).open("/").await, "two ");
    let program = world.client().get(world.url("/")).send().await.unwrap();
    assert!(!program.headers().contains_key("set-cookie"));
    let mut forged = Browser { world: &world, cookie: Some(cookie.replace(&cookie[20..22], "__")) };
    assert_eq!(forged.open("/").await, "two theme=dark");
    assert_ne!(forged.cookie, Some(cookie));
    let cached = Browser::new(&world).request("/public", PAGE).send().await.unwrap();
    assert!(!cached.headers().contains_key("set-cookie"), "others may be given this answer");
    world.stop().await;
}

#[tokio::test]
async fn while_a_replica_drains_its_own_stay_and_everybody_else_goes_elsewhere() {
    let (world, one, two) = (World::start().await, named("one").await, named("two").await);
    let (first, second) = (replica(one.address), replica(two.address));
    world.set(on(vec![first.clone()]));
    let mut visitor = Browser::new(&world);
    visitor.open("/").await;
    let mut socket = visitor.socket().await;
    world.set(on(vec![first.clone(), second.clone()]));
    first.gate.drain();
    assert_eq!(visitor.open("/").await, "one theme=dark");
    assert_eq!(Browser::new(&world).open("/").await, "two ");
    socket.send(Message::text("still there")).await.unwrap();
    let echo = tokio::time::timeout(LIMIT, socket.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(echo, Message::text("still there"));
    // Its time is over: the engine closes it, and takes it out of the routes.
    first.gate.close();
    world.set(on(vec![second.clone()]));
    assert_eq!(close_code(&mut socket).await, 1012, "connect again: another one serves");
    assert_eq!(visitor.open("/").await, "two theme=dark");
    assert_eq!(visitor.open("/").await, "two theme=dark");
    let mut socket = visitor.socket().await;
    world.set(RouteState::Off);
    assert_eq!(close_code(&mut socket).await, 1001, "the app was switched off");
    world.stop().await;
}

#[tokio::test]
async fn who_has_a_replica_that_sleeps_waits_for_that_one_and_holds_nobody_up() {
    let (world, one, two) = (World::start().await, named("one").await, named("two").await);
    let (first, second) = (replica(one.address), replica(two.address));
    world.set(on(vec![first.clone(), second.clone()]));
    let mut visitor = Browser::new(&world);
    visitor.open("/").await;
    until("it can sleep", || first.gate.try_sleep()).await;
    let own = tokio::spawn(visitor.request("/", "*/*").send());
    until("it is asked for", || first.gate.asked_for() && !second.gate.asked_for()).await;
    assert_eq!(world.nudges.load(std::sync::atomic::Ordering::SeqCst), 1);
    assert_eq!(Browser::new(&world).open("/").await, "two ");
    first.gate.open();
    let own = own.await.unwrap().unwrap();
    let timing = own.headers()["server-timing"].to_str().unwrap().to_owned();
    assert!(timing.starts_with("wake;dur=") && timing.contains("upstream;dur="), "{timing}");
    assert_eq!(own.text().await.unwrap(), "one theme=dark");
    assert!(!first.gate.asked_for());
    // One that never comes back: the others take over.
    until("it can sleep", || first.gate.try_sleep()).await;
    let own = tokio::spawn(visitor.request("/", "*/*").send());
    until("it is asked for", || first.gate.asked_for()).await;
    first.gate.close();
    assert_eq!(own.await.unwrap().unwrap().text().await.unwrap(), "two theme=dark");
    world.stop().await;
}

#[tokio::test]
async fn a_replica_has_as_many_visitors_as_seats_and_each_uses_one_for_all_they_open() {
    let limits = Limits { session_linger: Duration::from_secs(2), ..Limits::default() };
    let (world, one, two) = (World::with_limits(limits).await, named("one").await, named("two").await);
    let (first, second) = (with_seats(&one, 1), with_seats(&two, 1));
    world.set(on(vec![first.clone(), second.clone()]));
    let (mut ada, mut ben, mut eve) = (Browser::new(&world), Browser::new(&world), Browser::new(&world));
    assert_eq!((ada.open("/").await, ben.open("/").await), ("one ".to_owned(), "two ".to_owned()));
    let (first_tab, second_tab) = (ada.socket().await, ada.socket().await);
    let bens = ben.socket().await;
    assert_eq!(first.gate.sessions(), 2, "another tab is another session, and the limit is for newcomers");
    assert_eq!(ada.open("/").await, "one theme=dark");
    let waits = tokio::spawn(eve.request("/", "*/*").send());
    until("the next one waits", || world.demand.sample().held == 1).await;
    // A blip: the seat is kept for the one who had it.
    drop(bens);
    let bens = ben.socket().await;
    assert_eq!((second.gate.sessions(), world.demand.sample().held), (1, 1));
    assert!(until_sleeps(&second).await, "a silent session keeps nobody awake");
    second.gate.open();
    drop((first_tab, second_tab));
    let answer = tokio::time::timeout(LIMIT, waits).await.unwrap().unwrap().unwrap();
    assert_eq!(answer.text().await.unwrap(), "one ");
    drop(bens);
    until("seats of those who left are free", || first.gate.sessions() + second.gate.sessions() == 0).await;
    assert_eq!(eve.open("/").await, "one ");
    world.stop().await;
}

async fn until_sleeps(backend: &Backend) -> bool {
    until("it can sleep", || backend.gate.try_sleep()).await;
    backend.gate.state() == GateState::Asleep
}

#[tokio::test]
async fn of_a_hundred_newcomers_no_two_are_given_the_last_seat() {
    let (world, one) = (World::start().await, named("one").await);
    let (first, second) = (with_seats(&one, 20), with_seats(&one, 20));
    world.set(on(vec![first.clone(), second.clone()]));
    let visits: Vec<_> = (0..100)
        .map(|_| tokio::spawn(world.client().get(world.url("/")).header("accept", "text/html").send()))
        .collect();
    // Held as programs are: a person would be shown the lobby.
    until("forty have a seat", || first.gate.sessions() + second.gate.sessions() == 40).await;
    until("all others wait or were told so", || {
        visits.iter().filter(|visit| visit.is_finished()).count() as u64 + world.demand.sample().held == 100
    })
    .await;
    assert_eq!((first.gate.sessions(), second.gate.sessions()), (20, 20));
    assert_eq!(one.seen(), 40);
    visits.iter().for_each(tokio::task::JoinHandle::abort);
    world.stop().await;
}
