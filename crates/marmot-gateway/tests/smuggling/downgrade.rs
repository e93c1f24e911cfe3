//! The same over HTTP/2: what would be something else once it is written down as HTTP/1.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::origin::{Arrived, Origin};
use crate::support::{LIMIT, World, on, replica};

/// Field by field, as they are written; a body; and the fields behind it.
struct Case {
    name: String,
    head: Vec<(Vec<u8>, Vec<u8>)>,
    body: Option<&'static [u8]>,
    trailers: Vec<(Vec<u8>, Vec<u8>)>,
}

const HEADERS: u8 = 1;
const DATA: u8 = 0;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// HPACK in its plainest form: literals, no table.
fn block(fields: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            match u8::try_from(text.len()).ok().filter(|&short| short < 127) {
                Some(short) => block.push(short),
                None => {
                    let mut rest = text.len() - 127;
                    block.push(127);
                    while rest >= 128 {
                        block.push(u8::try_from(rest % 128).unwrap() | 128);
                        rest /= 128;
                    }
                    block.push(u8::try_from(rest).unwrap());
                }
            }
            block.extend_from_slice(text);
        }
    }
    block
}

fn fields(pairs: &[(&str, &str)]) -> Vec<(Vec<u8>, Vec<u8>)> {
    pairs.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
}

const BASE: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "http"), (":authority", "iris.localhost"), (":path", "/case")];

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |head: Vec<(&str, &str)>, body, trailers: &[(&str, &str)]| {
        let name = format!("{head:?} {body:?} {trailers:?}");
        cases.push(Case { name, head: fields(&head), body, trailers: fields(trailers) });
    };
    let but = |name: &str, value: &'static str| -> Vec<(&str, &str)> {
        BASE.iter().map(|&(known, old)| (known, if known == name { value } else { old })).collect()
    };
    let and = |name: &'static str, value: &'static str| -> Vec<(&str, &str)> {
        BASE.iter().copied().chain([(name, value)]).collect()
    };
    // The fields that stand for the first line.
    for (missing, _) in BASE {
        add(BASE.iter().copied().filter(|(name, _)| *name != missing).collect(), None, &[]);
    }
    for (twice, value) in BASE {
        add(and(twice, value), None, &[]);
    }
    for (name, value) in [
        (":method", ""),
        (":method", "GET /smuggled HTTP/1.1\r\nx: y\r\n\r\n"),
        (":method", "G ET"),
        (":method", "CONNECT"),
        (":method", "TRACE"),
        (":method", "GE:T"),
        (":path", ""),
        (":path", "case"),
        (":path", "*"),
        (":path", "http://evil.test/"),
        (":path", "/case HTTP/1.1\r\nx: y"),
        (":path", "/a b"),
        (":path", "/a\0"),
        (":path", "/a\tb"),
        (":path", "/case#part"),
        (":path", "/\u{e4}"),
        (":path", "//evil.test/"),
        (":authority", ""),
        (":authority", "iris.localhost\r\nx: y"),
        (":authority", "a@iris.localhost"),
        (":authority", "iris localhost"),
        (":authority", "iris.localhost/x"),
        (":scheme", "http://evil.test/?"),
        (":scheme", "ftp"),
        (":scheme", ""),
    ] {
        add(but(name, value), None, &[]);
    }
    for (name, value) in [
        (":status", "200"),
        (":foo", "x"),
        ("host", "evil.test"),
        ("host", "iris.localhost"),
        ("X-Upper", "x"),
        ("a:b", "x"),
        ("a b", "x"),
        ("", "x"),
        ("a\r\nx", "y"),
        ("a\n", "y"),
        ("a\0", "y"),
        ("x: y\r\ntransfer-encoding", "chunked"),
        ("x", "a\r\nevil: b"),
        ("x", "a\nb"),
        ("x", "a\rb"),
        ("x", "a\0b"),
        ("x", "a\u{1}b"),
        ("x", " a "),
        ("te", "gzip"),
        ("te", "trailers"),
        ("connection", "close"),
        ("connection", "host"),
        ("keep-alive", "5"),
        ("proxy-connection", "x"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("x_forwarded_for", "evil"),
        ("x-forwarded-for", "evil"),
        ("x-marmot-user", "evil"),
        ("forwarded", "for=evil"),
        ("expect", "x"),
    ] {
        add(and(name, value), None, &[]);
    }
    // Lengths that are not the body's.
    for length in ["2", "5", "0", "+3", "3, 3", "99999999999999999999"] {
        add(and("content-length", length), Some(b"abc"), &[]);
    }
    add(and("content-length", "3"), None, &[]);
    // Behind the body.
    for trailer in [
        (":path", "/smuggled"),
        ("content-length", "5"),
        ("transfer-encoding", "chunked"),
        ("x-forwarded-for", "evil"),
    ] {
        add(and("trailer", "x"), Some(b"abc"), &[trailer]);
    }
    cases
}

/// Sends the case on a connection of its own, and reads until the stream or the connection ends. False: neither does.
async fn send(address: SocketAddr, case: &Case) -> bool {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let last = |is_last: bool| if is_last { END_STREAM } else { 0 };
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    bytes.extend(frame(HEADERS, END_HEADERS | last(case.body.is_none()), 1, &block(&case.head)));
    if let Some(body) = case.body {
        bytes.extend(frame(DATA, last(case.trailers.is_empty()), 1, body));
    }
    if !case.trailers.is_empty() {
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&case.trailers)));
    }
    let _ = stream.write_all(&bytes).await;
    tokio::time::timeout(LIMIT, read_to_the_end(&mut stream)).await.is_ok()
}

async fn read_to_the_end(stream: &mut TcpStream) {
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).await.is_err() {
            return;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        if stream.read_exact(&mut vec![0; length]).await.is_err() {
            return;
        }
        let (kind, flags, of) = (head[3], head[4], head[8]);
        let is_over = matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0 && of == 1;
        if is_over || matches!(kind, RST_STREAM | GOAWAY) {
            return;
        }
    }
}

async fn judge(address: SocketAddr, origin: &Origin, case: &Case) -> Result<usize, String> {
    let ended = send(address, case).await;
    let other = crate::send(address, crate::OTHER.as_bytes()).await;
    let other_is_well =
        other.is_some_and(|other| other.starts_with("HTTP/1.1 200") && other.ends_with("/other"));
    // A stream may be reset while its request is still on its way to the app.
    let arrived = origin.take();
    let is_other = |one: &&Arrived| matches!(one, Arrived::Request { target, .. } if target == "/other");
    let own: Vec<&Arrived> = arrived.iter().filter(|one| !is_other(one)).collect();
    let is_clean = match own.as_slice() {
        [] => true,
        [Arrived::Request { target, .. }] => !target.contains("smuggled"),
        _ => false,
    };
    if ended && is_clean && other_is_well && arrived.len() == own.len() + 1 {
        Ok(own.len())
    } else {
        Err(format!("{}\n  ended {ended}, arrived {arrived:?}", case.name))
    }
}

#[tokio::test]
async fn nothing_that_comes_over_http2_is_something_else_over_http1() {
    let cases = cases();
    assert!(cases.len() >= 71, "{}", cases.len());
    let world = World::with(|config| config.cores = 1).await;
    let origin = Origin::start().await;
    world.set(on(vec![replica(origin.address)]));
    let (mut wrong, mut served) = (Vec::new(), Vec::new());
    for case in &cases {
        match judge(world.address, &origin, case).await {
            Ok(0) => {}
            Ok(_) => served.push(&case.name),
            Err(why) => wrong.push(why),
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
    println!("{} of {} were served: {served:#?}", served.len(), cases.len());
    world.stop().await;
}
