//! Apps under steady traffic while what runs them is killed, put to sleep and switched: no request stays without its
//! answer, and nothing is left over in the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::harness::{Api, App, Repository, Server, client, kill_9, wait_for};

/// Requests a second, to all of them together.
const RATE: u64 = 50;
/// How long a request may take over all its tries: a server that was killed has to come back, and an app to boot.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is done to the server and its apps.
#[derive(Debug, Clone, Copy)]
enum Blow {
    KillReplica,
    PutToRest,
    /// Woken while its memory is being paged out.
    WakeAtOnce,
    TakeTooMuchMemory,
    ExitByItself,
    SwitchOffWhileStarting,
    KillServer,
}

/// Blows in an order that only the seed decides (xorshift, <https://doi.org/10.18637/jss.v008.i14>).
struct Blows {
    state: u64,
}

impl Blows {
    fn next_number(&mut self, below: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        usize::try_from(self.state % below as u64).expect("small")
    }

    fn next_blow(&mut self) -> Blow {
        match self.next_number(20) {
            0..=4 => Blow::KillReplica,
            5..=8 => Blow::PutToRest,
            9..=12 => Blow::WakeAtOnce,
            13..=14 => Blow::TakeTooMuchMemory,
            15..=16 => Blow::ExitByItself,
            17..=18 => Blow::SwitchOffWhileStarting,
            _ => Blow::KillServer,
        }
    }
}

/// Asks an app until it answers. What a client may try again it does: a server that is being started refuses
/// connections, and one that is killed breaks them off.
async fn ask(http: &Client, url: &str) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match http.get(url).send().await {
            Ok(answer) if answer.status() == 200 => match answer.bytes().await {
                Ok(_) => return Ok(()),
                Err(_) if Instant::now() < deadline => {}
                Err(error) => return Err(format!("{url}: {error}")),
            },
            Ok(answer) => {
                let status = answer.status();
                return Err(format!("{url}: {status} {}", answer.text().await.unwrap_or_default()));
            }
            // Nothing tells a client when a server is back.
            Err(_) if Instant::now() < deadline => sleep(Duration::from_millis(50)).await,
            Err(error) => return Err(format!("{url}: {error}")),
        }
    }
}

/// Sends requests to these apps in turn at a steady rate, until it is told to stop; returns how many were answered and
/// what went wrong.
async fn traffic(urls: Vec<String>, over: Arc<AtomicBool>, sent: Arc<AtomicU64>) -> (u64, Vec<String>) {
    let http = client();
    let mut tasks = tokio::task::JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(1000 / RATE));
    for url in urls.iter().cycle() {
        ticks.tick().await;
        if over.load(Ordering::Relaxed) {
            break;
        }
        sent.fetch_add(1, Ordering::Relaxed);
        let (http, url) = (http.clone(), url.clone());
        tasks.spawn(async move { ask(&http, &url).await });
    }
    let outcomes = tasks.join_all().await;
    let answered = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    (answered as u64, outcomes.into_iter().filter_map(Result::err).collect())
}

struct Stage {
    server: Server,
    ada: Api,
    apps: Vec<App>,
    /// Launchers whose apps are switched on and off.
    spare: Value,
}

impl Stage {
    async fn strike(&mut self, blow: Blow, app: usize) {
        let name = self.apps[app].name.clone();
        let rest = json!({ "state": "hibernated" });
        match blow {
            Blow::KillReplica => kill_9(&self.server.processes_of(&name)),
            Blow::PutToRest => {
                self.ada.send(Method::PATCH, &format!("/apps/{name}"), Some(&rest)).await;
            }
            Blow::WakeAtOnce => {
                for state in ["hibernated", "running"] {
                    let body = json!({ "state": state });
                    self.ada.send(Method::PATCH, &format!("/apps/{name}"), Some(&body)).await;
                }
            }
            Blow::TakeTooMuchMemory | Blow::ExitByItself => {
                let path = if matches!(blow, Blow::ExitByItself) { "/exit" } else { "/hog" };
                let url = format!("{}{path}", self.apps[app].url().await);
                // A POST, which is sent once: it ends the replica, and so has no answer of its own.
                let _ = self.ada.client.post(url).send().await;
            }
            Blow::SwitchOffWhileStarting => {
                let body = json!({ "launcher_id": self.spare["id"] });
                let (_, started) = self.ada.send(Method::POST, "/apps", Some(&body)).await;
                if let Some(name) = started["name"].as_str() {
                    self.ada.send(Method::DELETE, &format!("/apps/{name}"), None).await;
                }
            }
            Blow::KillServer => {
                self.server.kill().await;
                self.server.restart().await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn under_every_blow_each_request_is_answered_and_nothing_is_left_over() {
    let number = |name: &str, otherwise: u64| {
        std::env::var(name).ok().map_or(otherwise, |text| text.parse().expect("a number"))
    };
    let apps_asked = usize::try_from(number("MARMOT_CHAOS_APPS", 6)).expect("few");
    let (blows, seed) = (number("MARMOT_CHAOS_BLOWS", 30), number("MARMOT_CHAOS_SEED", 21));
    println!("{blows} blows by the seed {seed}");
    let server = Server::start(&["--idle-after", "2s", "--stop-after", "10s"]).await;
    let ada = server.user("ada").await;
    let repository = Repository::probe();
    let mut apps = Vec::new();
    for number in 0..apps_asked {
        let launcher = ada.launcher(&format!("app-{number}"), &repository).await;
        apps.push(ada.activate(&launcher, "running").await);
    }
    let spare = ada.launcher("spare", &repository).await;
    ada.activate(&spare, "running").await.shut_down().await;

    let mut urls = Vec::new();
    for app in &apps {
        urls.push(app.url().await);
    }
    let (over, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let traffic = tokio::spawn(traffic(urls, Arc::clone(&over), Arc::clone(&sent)));
    let mut order = Blows { state: seed };
    let mut stage = Stage { server, ada, apps, spare };
    for _ in 0..blows {
        let (blow, app) = (order.next_blow(), order.next_number(apps_asked));
        stage.strike(blow, app).await;
        // So many requests meet what it leaves behind.
        let until = sent.load(Ordering::Relaxed) + RATE / 2;
        wait_for("traffic", || async { (sent.load(Ordering::Relaxed) >= until).then_some(()) }).await;
    }
    over.store(true, Ordering::Relaxed);
    let (answered, failed) = traffic.await.expect("traffic goes on");
    assert!(
        failed.is_empty(),
        "{} of {} failed: {:#?}",
        failed.len(),
        sent.load(Ordering::Relaxed),
        &failed[..failed.len().min(5)]
    );
    assert_eq!(answered, sent.load(Ordering::Relaxed));

    for app in &stage.apps {
        app.shut_down().await;
    }
    // A replica that is asked to end may take its grace.
    let (mut left, deadline) = (stage.server.leftovers(), Instant::now() + PATIENCE);
    while !left.is_empty() && Instant::now() < deadline {
        sleep(Duration::from_millis(100)).await;
        left = stage.server.leftovers();
    }
    assert_eq!(left, [""; 0], "left over");
    assert_eq!(stage.server.terminate().await, Some(0));
    assert_eq!(stage.server.database_check(), "ok");
}
