//! Requests that two servers could read differently, as raw bytes, and what becomes of them.
//!
//! What counts is what arrives at the app: nothing, or exactly one request that can be read in one way only.

#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

mod answers;
mod cases;
mod downgrade;
mod origin;
mod peers;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use cases::{Case, Is, corpus};
use marmot_gateway::Limits;
use origin::{Arrived, Origin};
use support::{LIMIT, World, on, replica};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How many cases there are, as `docs/gateway.md` says.
const CASES: usize = 514;
/// Worlds among which the cases are dealt out.
const LANES: usize = 4;
/// Behind each case on its connection: whoever takes a part of the case for a request of its own, or a part of this for
/// the case's, shows it by what becomes of it.
const PROBE: &str = "GET /probe HTTP/1.1\r\nHost: iris.localhost\r\n\r\n";
/// From somebody else, on a connection of their own.
const OTHER: &str = "GET /other HTTP/1.1\r\nHost: iris.localhost\r\nConnection: close\r\n\r\n";
/// What is wrong, and served all the same, as nothing that an app could read differently.
const LENIENT: &[(&str, &str)] = &[(r"3;a\x00b", "extensions of chunks are left out, whatever is in them")];

/// What became of a case, from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// It is right, and one clean request arrived.
    Clean,
    /// Nothing arrived that an app would act on.
    Rejected,
    /// It is wrong, and one clean request arrived.
    Lenient,
    /// What arrived could be read in two ways.
    Dirty,
    /// Something else arrived than one request, or somebody got another's answer.
    Desync,
    /// Neither an answer nor the end of the connection.
    Hang,
}

/// A case, what became of it, and by what one sees that.
struct Verdict {
    case: Case,
    outcome: Outcome,
    /// Of its first answer.
    status: Option<u16>,
    seen: String,
}

/// Sends what a client sends on one connection; what it is answered until the probe is, or the connection ends. `None`:
/// neither happens.
async fn send(address: SocketAddr, bytes: &[u8]) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(bytes).await;
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match tokio::time::timeout(LIMIT, stream.read(&mut buffer)).await.ok()? {
            Ok(0) | Err(_) => break,
            Ok(more) => answer.extend_from_slice(&buffer[..more]),
        }
        if answer.ends_with(b"\r\n\r\n/probe") {
            break;
        }
    }
    Some(String::from_utf8_lossy(&answer).into_owned())
}

/// Judges one case by what arrives at the app that is behind `address`.
async fn judge(address: SocketAddr, origin: &Origin, case: Case) -> Verdict {
    let answer = send(address, &[&case.bytes, PROBE.as_bytes()].concat()).await;
    let arrived = origin.take();
    // Somebody else, on a connection of their own, who may be given what is left of the case.
    let other = send(address, OTHER.as_bytes()).await;
    let other_is_well =
        other.is_some_and(|other| other.starts_with("HTTP/1.1 200") && other.ends_with("/other"));
    let behind = origin.take();
    let status = answer.as_deref().and_then(|answer| answer.get(9..12)?.parse().ok());
    let seen = format!("answered {answer:?}, arrived {arrived:?}, then {behind:?}");
    let outcome = match &answer {
        _ if !other_is_well || behind.len() != 1 => Outcome::Desync,
        None => Outcome::Hang,
        Some(answer) => outcome(&case, answer, &arrived),
    };
    Verdict { case, outcome, status, seen }
}

fn outcome(case: &Case, answer: &str, arrived: &[Arrived]) -> Outcome {
    let mut requests = Vec::new();
    for one in arrived {
        match one {
            Arrived::Dirty(_) => return Outcome::Dirty,
            Arrived::Request { method, target, body } => {
                requests.push((method.as_str(), target.as_str(), body))
            }
        }
    }
    let is_probe = |request: &(&str, &str, &Vec<u8>)| (request.0, request.1) == ("GET", "/probe");
    let is_smuggled = |request: &(&str, &str, &Vec<u8>)| request.1.contains("smuggled");
    // Each that arrives is answered, and nothing else is.
    if answer.matches(" 200 OK\r\n").count() != requests.len() || requests.iter().any(is_smuggled) {
        return Outcome::Desync;
    }
    match requests.as_slice() {
        [] => Outcome::Rejected,
        [only] if is_probe(only) => Outcome::Rejected,
        [_] => served(case, requests[0].2),
        [first, last] if !is_probe(first) && is_probe(last) => served(case, requests[0].2),
        _ => Outcome::Desync,
    }
}

fn served(case: &Case, body: &[u8]) -> Outcome {
    match case.is {
        Is::Wrong => Outcome::Lenient,
        Is::Fine if !body.is_empty() && body != b"abc" => Outcome::Desync,
        Is::Fine | Is::Legal => Outcome::Clean,
    }
}

/// The whole corpus, through a gateway that is as patient as a test.
async fn judge_gateway() -> Vec<Verdict> {
    let mut lanes: Vec<Vec<Case>> = (0..LANES).map(|_| Vec::new()).collect();
    for (number, case) in corpus().into_iter().enumerate() {
        lanes[number % LANES].push(case);
    }
    let lanes = lanes.into_iter().map(|cases| async {
        let moment = Duration::from_millis(500);
        // One core, so that what is left of one case meets the next.
        let world = World::with(|config| {
            config.cores = 1;
            config.limits = Limits {
                header_timeout: moment,
                idle_timeout: moment,
                stall_timeout: moment,
                ..Limits::default()
            };
        })
        .await;
        let origin = Origin::start().await;
        world.set(on(vec![replica(origin.address)]));
        let mut verdicts = Vec::new();
        for case in cases {
            verdicts.push(judge(world.address, &origin, case).await);
        }
        world.stop().await;
        verdicts
    });
    futures_util::future::join_all(lanes).await.into_iter().flatten().collect()
}

/// How many of each family ended how.
fn table(verdicts: &[Verdict]) -> BTreeMap<&'static str, [usize; 6]> {
    let mut table = BTreeMap::<_, [usize; 6]>::new();
    for verdict in verdicts {
        table.entry(verdict.case.family).or_default()[verdict.outcome as usize] += 1;
    }
    table
}

fn is_on_the_list(verdict: &Verdict) -> bool {
    LENIENT.iter().any(|(name, _)| verdict.case.name.contains(name))
}

#[tokio::test]
async fn every_case_ends_as_it_must_and_no_app_sees_anything_ambiguous() {
    let verdicts = judge_gateway().await;
    assert_eq!(verdicts.len(), CASES, "{:?}", table(&verdicts));
    // Whoever is refused is told why, or finds the connection closed; it is never the app's fault.
    let is_told = |status: Option<u16>| status.is_none_or(|status| matches!(status, 400..=499));
    let is_as_it_must = |verdict: &Verdict| match verdict.outcome {
        Outcome::Clean => true,
        Outcome::Rejected => verdict.case.is != Is::Fine && is_told(verdict.status),
        Outcome::Lenient => is_on_the_list(verdict),
        Outcome::Dirty | Outcome::Desync | Outcome::Hang => false,
    };
    let wrong: Vec<String> = verdicts
        .iter()
        .filter(|verdict| !is_as_it_must(verdict))
        .map(|verdict| {
            format!(
                "{} {:?}: {}\n  {}",
                verdict.case.family, verdict.outcome, verdict.case.name, verdict.seen
            )
        })
        .collect();
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
    let differences = answers::differences(&verdicts);
    assert!(differences.is_empty(), "as `answers.tsv` has it:\n{}", differences.join("\n"));
}

/// With `MARMOT_CORPUS_RECORD=1`: what nginx and HAProxy make of the same bytes is written down in `answers.tsv`, and as a
/// table for `docs/gateway.md`.
#[tokio::test]
async fn what_others_make_of_it_is_written_down() {
    if std::env::var_os("MARMOT_CORPUS_RECORD").is_none() {
        return;
    }
    let all = [
        ("Marmot", judge_gateway().await),
        ("nginx", peers::judge_nginx().await),
        ("HAProxy", peers::judge_haproxy().await),
    ];
    answers::record(&all[0].1, &all[1].1, &all[2].1);
    println!("{}", peers::side_by_side(&all));
}

#[tokio::test]
async fn too_much_of_a_head_is_refused() {
    let world = World::start().await;
    let origin = Origin::start().await;
    world.set(on(vec![replica(origin.address)]));
    let long = "a".repeat(70_000);
    let many: String = (0..120).map(|number| format!("X-{number}: y\r\n")).collect();
    for (head, status) in [
        (format!("GET / HTTP/1.1\r\nHost: iris.localhost\r\nX: {long}\r\n\r\n"), "431"),
        (format!("GET / HTTP/1.1\r\nHost: iris.localhost\r\n{many}\r\n"), "431"),
        (format!("GET /{} HTTP/1.1\r\nHost: iris.localhost\r\n\r\n", &long[..17_000]), "414"),
    ] {
        let answer = send(world.address, head.as_bytes()).await.unwrap();
        assert_eq!(answer.get(9..12), Some(status), "{answer}");
    }
    assert!(origin.take().is_empty());
    world.stop().await;
}
