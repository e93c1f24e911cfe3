//! Requests that two servers could read differently, as raw bytes, each with the outcome that it must have.
//!
//! What counts is what arrives at the app: nothing, or exactly one request that can be read in one way only.

#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

mod support;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use support::{LIMIT, World, on, replica, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What must become of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Must {
    /// Nothing reaches the app, the answer has this status, and the connection is closed.
    Be(u16),
    /// As `Be`, but the server may close the connection without a word.
    Die,
    /// One clean request reaches the app; its answer comes back.
    Pass,
    /// The head reaches the app, the body ends in an error: the app's connection is cut, whatever the client is told.
    BreakOff,
}
use Must::{Be, BreakOff, Die, Pass};

/// Fields after `POST / HTTP/1.1` and `Host`, with the body behind the empty line.
const POSTS: &[(&str, &str, Must)] = &[
    ("plain length", "Content-Length: 3\r\n\r\nabc", Pass),
    ("plain chunks", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", Pass),
    ("capital letters", "TRANSFER-ENCODING: CHUNKED\r\n\r\n3\r\nabc\r\n0\r\n\r\n", Pass),
    ("no body", "Content-Length: 0\r\n\r\n", Pass),
    ("leading zeros", "Content-Length: 003\r\n\r\nabc", Pass),
    ("chunk extension", "Transfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\n\r\n", Pass),
    ("trailers", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n", Pass),
    ("expectation", "Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc", Pass),
    // CL.TE and TE.CL
    ("length, then chunks", "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG", Be(400)),
    ("chunks, then length", "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nG", Be(400)),
    (
        "length of nothing and chunks",
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Be(400),
    ),
    (
        "chunks between others",
        "Transfer-Encoding: chunked\r\nX: y\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        Be(400),
    ),
    // TE
    ("two encodings", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Be(400)),
    (
        "chunked and identity",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        Be(400),
    ),
    (
        "identity and chunked",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Be(400),
    ),
    ("list with identity", "Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n", Be(400)),
    ("list with gzip", "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", Be(400)),
    ("chunked twice in a list", "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", Be(400)),
    ("chunked first", "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", Be(400)),
    ("identity", "Transfer-Encoding: identity\r\n\r\n", Be(400)),
    ("unknown encoding", "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", Be(400)),
    ("quoted", "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", Be(400)),
    ("with a parameter", "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n", Be(400)),
    ("comma behind", "Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n", Be(400)),
    ("comma before", "Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n", Be(400)),
    ("empty encoding", "Transfer-Encoding:\r\n\r\n0\r\n\r\n", Be(400)),
    ("vertical tab", "Transfer-Encoding: \u{b}chunked\r\n\r\n0\r\n\r\n", Be(400)),
    ("zero byte", "Transfer-Encoding: chunked\0\r\n\r\n0\r\n\r\n", Be(400)),
    ("blank before the colon", "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", Be(400)),
    ("tab before the colon", "Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n", Be(400)),
    ("folded", "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", Be(400)),
    ("folded name", " Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Be(400)),
    ("carriage return inside", "Transfer-Encoding: chun\rked\r\n\r\n0\r\n\r\n", Be(400)),
    // CL
    ("two equal lengths", "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", Be(400)),
    ("two lengths", "Content-Length: 3\r\nContent-Length: 5\r\n\r\nabc", Be(400)),
    ("length list", "Content-Length: 3, 3\r\n\r\nabc", Be(400)),
    ("signed length", "Content-Length: +3\r\n\r\nabc", Be(400)),
    ("negative length", "Content-Length: -3\r\n\r\nabc", Be(400)),
    ("hexadecimal length", "Content-Length: 0x3\r\n\r\nabc", Be(400)),
    ("broken length", "Content-Length: 3.0\r\n\r\nabc", Be(400)),
    ("length with a blank", "Content-Length: 1 2\r\n\r\nabc", Be(400)),
    ("empty length", "Content-Length:\r\n\r\nabc", Be(400)),
    ("length in words", "Content-Length: three\r\n\r\nabc", Be(400)),
    ("enormous length", "Content-Length: 99999999999999999999999\r\n\r\nabc", Be(400)),
    ("length with a blank before the colon", "Content-Length : 3\r\n\r\nabc", Be(400)),
    ("folded length", "Content-Length: 3\r\n 0\r\n\r\nabc", Be(400)),
    // Chunks
    ("chunk size is no number", "Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n", BreakOff),
    ("chunk size with a sign", "Transfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n", BreakOff),
    ("chunk size with 0x", "Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n", BreakOff),
    (
        "chunk size too large",
        "Transfer-Encoding: chunked\r\n\r\n11111111111111111\r\nabc\r\n0\r\n\r\n",
        BreakOff,
    ),
    ("chunk longer than its size", "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", BreakOff),
    ("chunk size ends with a line feed", "Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n", BreakOff),
    ("negative chunk size", "Transfer-Encoding: chunked\r\n\r\n-1\r\nabc\r\n0\r\n\r\n", BreakOff),
    ("no chunk size", "Transfer-Encoding: chunked\r\n\r\n\r\nabc\r\n0\r\n\r\n", BreakOff),
    ("line feed in an extension", "Transfer-Encoding: chunked\r\n\r\n3;a\nb\r\nabc\r\n0\r\n\r\n", BreakOff),
    // Hop by hop
    ("connection names the host", "Connection: host\r\nContent-Length: 0\r\n\r\n", Be(400)),
    ("connection names the length", "Connection: content-length\r\nContent-Length: 3\r\n\r\nabc", Be(400)),
    ("connection names cookies", "Connection: close, Cookie\r\nContent-Length: 0\r\n\r\n", Be(400)),
    ("connection names credentials", "Connection: authorization\r\nContent-Length: 0\r\n\r\n", Be(400)),
    ("connection names the client", "Connection: X-Forwarded-For\r\nContent-Length: 0\r\n\r\n", Be(400)),
    ("connection names its own", "Connection: X-Mine, close\r\nX-Mine: 1\r\nContent-Length: 0\r\n\r\n", Pass),
    // Fields
    ("no colon", "nonsense\r\nContent-Length: 0\r\n\r\n", Be(400)),
    ("empty name", ": x\r\nContent-Length: 0\r\n\r\n", Be(400)),
    ("blank in a name", "X Y: z\r\nContent-Length: 0\r\n\r\n", Be(400)),
    ("zero byte in a value", "X: a\0b\r\nContent-Length: 0\r\n\r\n", Be(400)),
    ("delete in a value", "X: a\u{7f}b\r\nContent-Length: 0\r\n\r\n", Be(400)),
    ("escape in a value", "X: a\u{1b}b\r\nContent-Length: 0\r\n\r\n", Be(400)),
    ("carriage return in a value", "X: a\rGET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", Be(400)),
    ("underscores for hyphens", "Content_Length: 5\r\nContent-Length: 3\r\n\r\nabc", Pass),
    // Expectations
    ("other expectation", "Expect: 200-ok\r\nContent-Length: 0\r\n\r\n", Be(417)),
    ("two expectations", "Expect: 100-continue, x\r\nContent-Length: 0\r\n\r\n", Be(417)),
];

/// Whole requests.
const HEADS: &[(&str, &str, Must)] = &[
    ("plain", "GET / HTTP/1.1\r\nHost: iris.localhost\r\n\r\n", Pass),
    ("absolute", "GET http://iris.localhost/x HTTP/1.1\r\nHost: iris.localhost\r\n\r\n", Pass),
    ("empty lines before", "\r\n\r\nGET / HTTP/1.1\r\nHost: iris.localhost\r\n\r\n", Pass),
    ("asterisk", "OPTIONS * HTTP/1.1\r\nHost: iris.localhost\r\n\r\n", Pass),
    ("old version", "GET / HTTP/1.0\r\nHost: iris.localhost\r\n\r\n", Pass),
    (
        "old version with chunks",
        "POST / HTTP/1.0\r\nHost: iris.localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Be(400),
    ),
    ("no host", "GET / HTTP/1.1\r\n\r\n", Be(400)),
    ("no host, old version", "GET / HTTP/1.0\r\n\r\n", Be(400)),
    ("two hosts", "GET / HTTP/1.1\r\nHost: iris.localhost\r\nHost: rose.localhost\r\n\r\n", Be(400)),
    ("two equal hosts", "GET / HTTP/1.1\r\nHost: iris.localhost\r\nHost: iris.localhost\r\n\r\n", Be(400)),
    ("hosts differ", "GET http://rose.localhost/ HTTP/1.1\r\nHost: iris.localhost\r\n\r\n", Be(400)),
    ("ports differ", "GET http://iris.localhost:1/ HTTP/1.1\r\nHost: iris.localhost:2\r\n\r\n", Be(400)),
    ("empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", Be(400)),
    ("host with a path", "GET / HTTP/1.1\r\nHost: iris.localhost/x\r\n\r\n", Be(400)),
    ("host with a user", "GET / HTTP/1.1\r\nHost: a@iris.localhost\r\n\r\n", Be(400)),
    ("host list", "GET / HTTP/1.1\r\nHost: iris.localhost, rose.localhost\r\n\r\n", Be(400)),
    ("host with a bad port", "GET / HTTP/1.1\r\nHost: iris.localhost:x\r\n\r\n", Be(400)),
    ("host with a large port", "GET / HTTP/1.1\r\nHost: iris.localhost:65536\r\n\r\n", Be(400)),
    ("host with a blank", "GET / HTTP/1.1\r\nHost: iris localhost\r\n\r\n", Be(400)),
    ("host in other letters", "GET / HTTP/1.1\r\nHost: \u{e4}.localhost\r\n\r\n", Be(400)),
    ("blank before the colon of the host", "GET / HTTP/1.1\r\nHost : iris.localhost\r\n\r\n", Be(400)),
    ("other scheme", "GET ftp://iris.localhost/ HTTP/1.1\r\nHost: iris.localhost\r\n\r\n", Be(400)),
    ("connect", "CONNECT iris.localhost:80 HTTP/1.1\r\nHost: iris.localhost:80\r\n\r\n", Be(400)),
    ("connect to a path", "CONNECT / HTTP/1.1\r\nHost: iris.localhost\r\n\r\n", Be(400)),
    ("trace", "TRACE / HTTP/1.1\r\nHost: iris.localhost\r\n\r\n", Be(400)),
    ("track", "TRACK / HTTP/1.1\r\nHost: iris.localhost\r\n\r\n", Be(400)),
    ("asterisk without options", "GET * HTTP/1.1\r\nHost: iris.localhost\r\n\r\n", Be(400)),
    ("no target", "GET HTTP/1.1\r\nHost: iris.localhost\r\n\r\n", Be(400)),
    ("target without a slash", "GET x HTTP/1.1\r\nHost: iris.localhost\r\n\r\n", Be(400)),
    ("blank in the target", "GET /a b HTTP/1.1\r\nHost: iris.localhost\r\n\r\n", Be(400)),
    ("zero byte in the target", "GET /\0 HTTP/1.1\r\nHost: iris.localhost\r\n\r\n", Be(400)),
    ("tab in the target", "GET /\t HTTP/1.1\r\nHost: iris.localhost\r\n\r\n", Be(400)),
    ("two blanks", "GET  / HTTP/1.1\r\nHost: iris.localhost\r\n\r\n", Be(400)),
    ("tab for a blank", "GET\t/ HTTP/1.1\r\nHost: iris.localhost\r\n\r\n", Be(400)),
    ("small letters in the version", "GET / http/1.1\r\nHost: iris.localhost\r\n\r\n", Be(400)),
    ("version 1.2", "GET / HTTP/1.2\r\nHost: iris.localhost\r\n\r\n", Be(400)),
    ("version 2.0", "GET / HTTP/2.0\r\nHost: iris.localhost\r\n\r\n", Be(400)),
    ("version 11", "GET / HTTP/11\r\nHost: iris.localhost\r\n\r\n", Be(400)),
    ("no version", "GET /\r\n\r\n", Be(400)),
    ("blank line first", " GET / HTTP/1.1\r\nHost: iris.localhost\r\n\r\n", Be(400)),
    ("blank before the first field", "GET / HTTP/1.1\r\n Host: iris.localhost\r\n\r\n", Be(400)),
    ("method with odd letters", "G\u{e4}T / HTTP/1.1\r\nHost: iris.localhost\r\n\r\n", Be(400)),
    ("method with a colon", "GE:T / HTTP/1.1\r\nHost: iris.localhost\r\n\r\n", Be(400)),
    ("binary", "\u{16}\u{3}\u{1}\0\u{1}\0\0\r\n\r\n", Die),
    ("half of another protocol", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", Die),
];

/// Records what arrives, and answers each thing that looks like a request.
async fn recorder() -> (SocketAddr, Arc<Mutex<Vec<Vec<u8>>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let arrived: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let all = Arc::clone(&arrived);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let all = Arc::clone(&all);
            tokio::spawn(async move {
                let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
                while let Ok(more @ 1..) = stream.read(&mut buffer).await {
                    bytes.extend_from_slice(&buffer[..more]);
                    if read_one(&bytes).is_some() {
                        let _ = stream
                            .write_all(
                                b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nclean!\n",
                            )
                            .await;
                        break;
                    }
                }
                // What comes behind is kept as well: it must be nothing.
                let _ = stream.shutdown().await;
                while let Ok(more @ 1..) = stream.read(&mut buffer).await {
                    bytes.extend_from_slice(&buffer[..more]);
                }
                all.lock().unwrap().push(bytes);
            });
        }
    });
    (address, arrived)
}

/// The length of the request that `bytes` begin with, read as strictly as can be; `None` while it is incomplete.
fn read_one(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..head]).unwrap();
    let fields: Vec<(String, &str)> = text
        .trim_end()
        .split("\r\n")
        .skip(1)
        .map(|line| line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value)).unwrap())
        .collect();
    let values = |name: &str| -> Vec<&str> {
        fields.iter().filter(|(found, _)| found == name).map(|(_, value)| *value).collect()
    };
    assert_eq!(values("host"), ["iris.localhost"], "{text}");
    assert!(!text.replace("\r\n", "").chars().any(char::is_control), "{text:?}");
    match (values("content-length").as_slice(), values("transfer-encoding").as_slice()) {
        ([], []) => Some(head),
        ([length], []) => {
            let whole = head + length.parse::<usize>().unwrap();
            (bytes.len() >= whole).then_some(whole)
        }
        ([], ["chunked"]) => {
            let mut at = head;
            loop {
                let end = at + bytes[at..].windows(2).position(|window| window == b"\r\n")?;
                let size = usize::from_str_radix(std::str::from_utf8(&bytes[at..end]).unwrap(), 16).unwrap();
                if size == 0 {
                    let end = bytes[end..].windows(4).position(|window| window == b"\r\n\r\n")? + end + 4;
                    return Some(end);
                }
                at = end + 2 + size + 2;
                if at > bytes.len() {
                    return None;
                }
            }
        }
        both => panic!("can be read in two ways: {both:?}"),
    }
}

/// Sends the case on a connection of its own. What is behind it would be a second request, if anybody read it so.
async fn send(address: SocketAddr, case: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(case).await;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = tokio::time::timeout(LIMIT, stream.read(&mut buffer)).await;
        match read.expect("the server answers, or closes the connection") {
            Ok(0) | Err(_) => break,
            Ok(more) => answer.extend_from_slice(&buffer[..more]),
        }
        if answer.ends_with(b"clean!\n") {
            break;
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn every_case_ends_as_it_must_and_no_app_sees_anything_ambiguous() {
    let world = World::start().await;
    let posts = POSTS.iter().map(|(name, rest, must)| {
        (*name, format!("POST / HTTP/1.1\r\nHost: iris.localhost\r\n{rest}"), *must)
    });
    let heads = HEADS.iter().map(|(name, head, must)| (*name, (*head).to_owned(), *must));
    let mut wrong = Vec::new();
    for (name, case, must) in posts.chain(heads) {
        let (address, arrived) = recorder().await;
        world.set(on(vec![replica(address)]));
        let answer = send(world.address, case.as_bytes()).await;
        if must == Pass || must == BreakOff {
            until(name, || {
                must == BreakOff && !answer.contains("clean!") || arrived.lock().unwrap().len() == 1
            })
            .await;
        }
        let arrived = std::mem::take(&mut *arrived.lock().unwrap());
        let clean = arrived.len() == 1 && read_one(&arrived[0]) == Some(arrived[0].len());
        let status = answer.get(9..12).and_then(|status| status.parse::<u16>().ok());
        let as_it_must = match must {
            Pass => clean && answer.ends_with("clean!\n"),
            Be(expected) => arrived.is_empty() && status == Some(expected),
            Die => arrived.is_empty() && matches!(status, None | Some(400)),
            // Its end never arrives; so nothing takes it for complete.
            BreakOff => arrived.iter().all(|bytes| read_one(bytes).is_none()) && !answer.contains("clean!"),
        };
        if !as_it_must {
            let arrived: Vec<_> = arrived.iter().map(|bytes| String::from_utf8_lossy(bytes)).collect();
            wrong.push(format!("{name}: must {must:?}\n  answer {answer:?}\n  arrived {arrived:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
    world.stop().await;
}

#[tokio::test]
async fn too_much_of_a_head_is_refused() {
    let world = World::start().await;
    let (address, arrived) = recorder().await;
    world.set(on(vec![replica(address)]));
    let long = "a".repeat(70_000);
    let many: String = (0..120).map(|number| format!("X-{number}: y\r\n")).collect();
    for (head, status) in [
        (format!("GET / HTTP/1.1\r\nHost: iris.localhost\r\nX: {long}\r\n\r\n"), "431"),
        (format!("GET / HTTP/1.1\r\nHost: iris.localhost\r\n{many}\r\n"), "431"),
        (format!("GET /{} HTTP/1.1\r\nHost: iris.localhost\r\n\r\n", &long[..17_000]), "414"),
    ] {
        let answer = send(world.address, head.as_bytes()).await;
        assert_eq!(answer.get(9..12), Some(status), "{answer}");
    }
    assert!(arrived.lock().unwrap().is_empty());
    world.stop().await;
}
