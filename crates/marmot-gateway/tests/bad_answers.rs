//! Apps are strangers: whatever one answers, its visitor gets an answer that can be read in one way only, an error, or
//! one that visibly breaks off, and nobody ever gets what was for somebody else.

#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use marmot_gateway::Limits;
use support::{LIMIT, World, on, replica};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// What a visitor may see of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Must {
    /// This one.
    Pass(u16, &'static str),
    /// 502, or 504 where the app kept silent.
    Fail,
    /// It began well, and breaks off before its end.
    BreakOff,
}
use Must::{BreakOff, Fail, Pass};

/// What the app does once it has said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Stay,
    Close,
}
use Then::{Close, Stay};

const OTHER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n/other";
const SECRET: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret";

/// The method it is asked with, what it answers, what it does then, and what is to come of it.
fn cases() -> Vec<(&'static str, Vec<u8>, Then, Must)> {
    let ok = |fields: &str, body: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}").into_bytes();
    let mut cases: Vec<(&'static str, Vec<u8>, Then, Must)> = Vec::new();
    let mut get = |bytes: Vec<u8>, then, must| cases.push(("GET", bytes, then, must));
    // No answer at all.
    get(Vec::new(), Close, Fail);
    get(Vec::new(), Stay, Fail);
    for nonsense in [
        "hello\r\n\r\n",
        "SSH-2.0-OpenSSH_9\r\n",
        "<html>hi</html>",
        "HTTP/1.1 200",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/1.1 200 O\0K\r\nContent-Length: 0\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
    ] {
        get(nonsense.into(), Close, Fail);
    }
    // Two lengths, or none that is one.
    for fields in [
        "Content-Length: 3\r\nContent-Length: 5\r\n",
        "Content-Length: -3\r\n",
        "Content-Length: +3\r\n",
        "Content-Length: 0x3\r\n",
        "Content-Length: 3, 5\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: identity, chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: xchunked\r\n",
    ] {
        get(ok(fields, "3\r\nabc\r\n0\r\n\r\n"), Close, Fail);
    }
    // Fields that are none, or that say more than one thing.
    for field in [
        "X Y: z",
        ": z",
        "nonsense",
        "X: a\0b",
        "X: a\u{1}b",
        "X: a\u{1b}b",
        "X: a\rSet-Cookie: b",
        "X: a\u{7f}b",
        "X: a\r\n b",
        "X : a",
    ] {
        get(ok(&format!("{field}\r\nContent-Length: 0\r\n"), ""), Stay, Fail);
    }
    get(ok(&format!("X: {}\r\n", "a".repeat(1 << 20)), ""), Stay, Fail);
    get(ok(&"X: y\r\n".repeat(10_000), ""), Stay, Fail);
    // Bodies that are shorter or longer than they say.
    get(ok("Content-Length: 10\r\n", "abc"), Close, BreakOff);
    get(ok("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n"), Close, BreakOff);
    get(ok("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\nzz\r\n"), Stay, BreakOff);
    get(ok("Transfer-Encoding: chunked\r\n", "3\r\nabcdef\r\n0\r\n\r\n"), Stay, BreakOff);
    get(
        ok("Transfer-Encoding: chunked\r\n", &format!("3\r\nabc\r\n0\r\n\r\n{SECRET}")),
        Stay,
        Pass(200, "abc"),
    );
    get(ok("Content-Length: 3\r\n", &format!("abc{SECRET}")), Stay, Pass(200, "abc"));
    get(ok("", "abc"), Close, Pass(200, "abc"));
    get(ok("Connection: content-length, close\r\nContent-Length: 3\r\n", "abc"), Close, Pass(200, "abc"));
    // The same length twice, and one that does not count: both can be put right.
    get(ok("Content-Length: 3\r\nContent-Length: 3\r\n", "abc"), Stay, Pass(200, "abc"));
    get(
        ok("Content-Length: 9\r\nTransfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"),
        Stay,
        Pass(200, "abc"),
    );
    // Answers that have no body, and bring one.
    get(
        format!("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nabcde{SECRET}").into(),
        Stay,
        Pass(204, ""),
    );
    get(format!("HTTP/1.1 304 Not Modified\r\n\r\n{SECRET}").into(), Stay, Pass(304, ""));
    cases.push(("HEAD", ok("Content-Length: 5\r\n", &format!("abcde{SECRET}")), Stay, Pass(200, "")));
    let mut get = |bytes: Vec<u8>, then, must| cases.push(("GET", bytes, then, must));
    // What comes before an answer.
    get(
        format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n{SECRET}").into(),
        Stay,
        Pass(200, "secret"),
    );
    get(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n".into(),
        Stay,
        Fail,
    );
    get("HTTP/1.1 100 Continue\r\n\r\n".into(), Close, Fail);
    get("HTTP/1.1 100 Continue\r\n\r\n".into(), Stay, Fail);
    cases
}

/// Answers `/case` with these bytes, and anything else as it should, also on the same connection. Says something more
/// each time that it is told to.
async fn app(answer: Vec<u8>, then: Then, say_more: Arc<Notify>, said: Arc<Notify>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // What is said is there at once: nobody can tell what is still on its way from an answer.
            stream.set_nodelay(true).unwrap();
            tokio::spawn(serve(stream, Arc::clone(&answer), then, Arc::clone(&say_more), Arc::clone(&said)));
        }
    });
    address
}

async fn serve(
    mut stream: TcpStream,
    answer: Arc<Vec<u8>>,
    then: Then,
    say_more: Arc<Notify>,
    said: Arc<Notify>,
) {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let read = tokio::select! {
            read = stream.read(&mut buffer) => read,
            () = say_more.notified() => {
                let _ = stream.write_all(SECRET.as_bytes()).await;
                said.notify_one();
                continue;
            }
        };
        let Ok(more @ 1..) = read else { return };
        bytes.extend_from_slice(&buffer[..more]);
        while let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head: Vec<u8> = bytes.drain(..end + 4).collect();
            let is_case = head.windows(6).any(|window| window == b"/case ");
            let written = stream.write_all(if is_case { &answer } else { OTHER.as_bytes() }).await;
            if written.is_err() || (is_case && then == Close) {
                return;
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Whole(u16, String),
    BreaksOff,
}

/// Reads one answer as strictly as can be; whatever is behind it is an error.
async fn read_answer(stream: &mut TcpStream, method: &str) -> Result<Seen, String> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 65536]);
    loop {
        let read = tokio::time::timeout(LIMIT, stream.read(&mut buffer)).await;
        let more = read.map_err(|_| "no answer and no end".to_owned())?.unwrap_or(0);
        bytes.extend_from_slice(&buffer[..more]);
        let shown = || bytes.escape_ascii().to_string();
        match parse(&bytes, method, more == 0).map_err(|why| format!("{why}: {}", shown()))? {
            Some((seen, length)) if length == bytes.len() => return Ok(seen),
            Some(_) => return Err(format!("more than an answer: {}", shown())),
            None if more == 0 => return Ok(Seen::BreaksOff),
            None => {}
        }
    }
}

fn parse(bytes: &[u8], method: &str, over: bool) -> Result<Option<(Seen, usize)>, &'static str> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| "letters")?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse::<u16>().ok());
    let status = status.ok_or("status line")?;
    let (mut length, mut chunked, mut closes) = (None, false, false);
    for line in lines {
        let (name, value) = line.split_once(": ").ok_or("field")?;
        if value.chars().any(char::is_control) || name.contains([' ', '\r']) {
            return Err("control character");
        }
        match name {
            "content-length" if length.is_none() => {
                length = Some(value.parse::<usize>().map_err(|_| "length")?)
            }
            "transfer-encoding" if value == "chunked" && !chunked => chunked = true,
            "content-length" | "transfer-encoding" => return Err("framing"),
            "connection" => closes = value == "close",
            _ => {}
        }
    }
    let start = end + 4;
    let whole = |body: &[u8], length| {
        Ok(Some((Seen::Whole(status, String::from_utf8_lossy(body).into_owned()), length)))
    };
    if status == 100 || status == 103 {
        return parse(&bytes[start..], method, over)
            .map(|rest| rest.map(|(seen, length)| (seen, start + length)));
    }
    match (length, chunked) {
        _ if method == "HEAD" || status == 204 || status == 304 => whole(b"", start),
        (Some(_), true) => Err("two framings"),
        (Some(length), false) if bytes.len() >= start + length => {
            whole(&bytes[start..start + length], start + length)
        }
        (Some(_), false) => Ok(None),
        (None, false) if closes && over => whole(&bytes[start..], bytes.len()),
        (None, false) if closes => Ok(None),
        (None, false) => Err("no framing"),
        (None, true) => {
            let Some(last) = bytes[start..].windows(5).position(|window| window == b"0\r\n\r\n") else {
                return Ok(None);
            };
            let text = String::from_utf8_lossy(&bytes[start..start + last]);
            let body: String = text.split("\r\n").skip(1).step_by(2).collect();
            whole(body.as_bytes(), start + last + 5)
        }
    }
}

fn request(method: &str, path: &str) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\nHost: iris.localhost\r\n\r\n").into_bytes()
}

/// Somebody else asks, and gets what is theirs.
async fn ask_other(stream: &mut TcpStream) -> Result<(), String> {
    stream.write_all(&request("GET", "/other")).await.map_err(|error| error.to_string())?;
    match read_answer(stream, "GET").await? {
        Seen::Whole(200, body) if body == "/other" => Ok(()),
        other => Err(format!("the next is answered {other:?}")),
    }
}

async fn judge(world: &World, method: &str, must: Must) -> Result<(), String> {
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(&request(method, "/case")).await.unwrap();
    let seen = read_answer(&mut stream, method).await?;
    let is_as_it_must = match (must, &seen) {
        (Pass(status, body), Seen::Whole(seen, found)) => (status, body) == (*seen, found.as_str()),
        (Fail, Seen::Whole(status, _)) => matches!(status, 502 | 504),
        (BreakOff, Seen::BreaksOff) => true,
        _ => false,
    };
    if !is_as_it_must {
        return Err(format!("{seen:?}"));
    }
    // On the same connection, where it goes on, and on others.
    if matches!(seen, Seen::Whole(200..=399, _)) && stream.write_all(b"").await.is_ok() {
        let other = ask_other(&mut stream).await;
        if other.as_ref().is_err_and(|why| !why.contains("BreaksOff")) {
            return other;
        }
    }
    for _ in 0..2 {
        ask_other(&mut TcpStream::connect(world.address).await.unwrap()).await?;
    }
    Ok(())
}

async fn world() -> World {
    World::with(|config| {
        config.cores = 1;
        let moment = Duration::from_secs(2);
        config.limits = Limits { response_timeout: moment, wake_timeout: moment, ..Limits::default() };
    })
    .await
}

#[tokio::test]
async fn no_bad_answer_of_an_app_is_passed_on_and_none_is_another_visitors() {
    let cases = cases();
    assert_eq!(cases.len(), 54);
    let judged = cases.into_iter().map(|(method, bytes, then, must)| async move {
        let world = world().await;
        let name = bytes[..bytes.len().min(100)].escape_ascii().to_string();
        let address = app(bytes, then, Arc::default(), Arc::default()).await;
        world.set(on(vec![replica(address)]));
        let judged = judge(&world, method, must).await;
        world.stop().await;
        judged.err().map(|why| format!("{method} {name}, then {then:?}: must {must:?}\n  {why}"))
    });
    // A few at once: most wait for their timeout, and whoever does not has all of it on a busy machine.
    let judged = futures_util::stream::iter(judged).buffer_unordered(9);
    let wrong: Vec<String> = judged.filter_map(async |wrong| wrong).collect().await;
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn what_an_app_says_without_being_asked_is_nobodys_answer() {
    let (world, say_more, said) = (world().await, Arc::new(Notify::new()), Arc::new(Notify::new()));
    let address = app(OTHER.into(), Stay, Arc::clone(&say_more), Arc::clone(&said)).await;
    world.set(on(vec![replica(address)]));
    let mut visitor = TcpStream::connect(world.address).await.unwrap();
    for _ in 0..20 {
        ask_other(&mut visitor).await.unwrap();
        say_more.notify_one();
        said.notified().await;
        ask_other(&mut TcpStream::connect(world.address).await.unwrap()).await.unwrap();
    }
    world.stop().await;
}

/// Reads the head of a request, and what has come behind it.
async fn read_head(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let behind = bytes.split_off(end + 4);
            return (String::from_utf8(bytes).unwrap(), behind);
        }
        let more = stream.read(&mut buffer).await.unwrap();
        assert!(more > 0, "closed");
        bytes.extend_from_slice(&buffer[..more]);
    }
}

#[tokio::test]
async fn nothing_follows_a_request_to_switch_before_the_app_has_switched() {
    let world = world().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    world.set(on(vec![replica(listener.local_addr().unwrap())]));
    let mut client = TcpStream::connect(world.address).await.unwrap();
    let asked = "GET /ws HTTP/1.1\r\nHost: iris.localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    // A whole frame, as eager clients send it.
    let early = [0x82, 0x83, 0, 0, 0, 0, b'h', b'e', b'y'];
    client.write_all(&[asked.as_bytes(), &early].concat()).await.unwrap();
    let (mut app, _) = listener.accept().await.unwrap();
    let (head, behind) = read_head(&mut app).await;
    assert!(head.contains("\r\nupgrade: websocket\r\n"), "{head}");
    assert!(behind.is_empty());
    // Whatever the gateway had to do by then, it has done: it answers somebody else meanwhile.
    let mut other = TcpStream::connect(world.address).await.unwrap();
    other.write_all(b"GET /.marmot/lobby.css HTTP/1.1\r\nHost: iris.localhost\r\n\r\n").await.unwrap();
    assert!(other.read(&mut [0; 100]).await.unwrap() > 0);
    let nothing = app.try_read(&mut [0; 100]);
    assert_eq!(nothing.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    let switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Accept: x\r\n\r\n";
    app.write_all(switched.as_bytes()).await.unwrap();
    let mut frame = [0; 9];
    tokio::time::timeout(LIMIT, app.read_exact(&mut frame)).await.unwrap().unwrap();
    assert_eq!(frame, early);
    drop((app, client, other));
    world.stop().await;
}
