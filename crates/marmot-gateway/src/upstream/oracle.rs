//! Answers are read as hyper reads them, however their bytes are split; where hyper is lenient, they are refused.

use std::future::poll_fn;

use bytes::Bytes;
use http::header::{HeaderMap, TRANSFER_ENCODING};
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::exchange::Exchange;
use super::{Failed, Why};
use crate::body::RequestBody;

/// What is made of an answer.
#[derive(Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there are two of them at a time")]
enum Seen {
    Refused,
    /// The connection ended in its head.
    Lost,
    /// With its body, and what follows that; `None` where it breaks off.
    Answer(StatusCode, Version, HeaderMap, Option<(Vec<u8>, Option<HeaderMap>)>),
}

/// A replica that says this, in pieces, once it has been asked, and closes the connection.
async fn say(mut stream: DuplexStream, bytes: Vec<u8>, cuts: Vec<usize>) {
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut asked).await.unwrap() == 0 {
            return;
        }
    }
    let mut rest = &bytes[..];
    for cut in cuts.into_iter().cycle() {
        let (piece, after) = rest.split_at(cut.min(rest.len()));
        rest = after;
        if piece.is_empty() || stream.write_all(piece).await.is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

fn ask(method: &str) -> http::request::Builder {
    Request::builder().method(method).uri("/").header("host", "a")
}

async fn by_hyper(method: &str, bytes: Vec<u8>, cuts: Vec<usize>) -> Seen {
    let (ours, theirs) = duplex(1 << 20);
    let (mut sender, driver) =
        hyper::client::conn::http1::Builder::new().handshake(TokioIo::new(ours)).await.unwrap();
    let exchange = async {
        let answer = sender.send_request(ask(method).body(Empty::<Bytes>::new()).unwrap()).await;
        let (parts, body) = match answer {
            Ok(response) => response.into_parts(),
            Err(error) if error.is_parse() => return Seen::Refused,
            Err(_) => return Seen::Lost,
        };
        let body = body.collect().await.ok();
        let body = body.map(|body| (body.trailers().cloned(), body.to_bytes().to_vec()));
        Seen::Answer(
            parts.status,
            parts.version,
            parts.headers,
            body.map(|(trailers, body)| (body, trailers)),
        )
    };
    let (seen, _, ()) = tokio::join!(exchange, driver, say(theirs, bytes, cuts));
    seen
}

async fn by_us(method: &str, bytes: Vec<u8>, cuts: Vec<usize>) -> Seen {
    let (ours, theirs) = duplex(1 << 20);
    let mut exchange = Exchange::new(ours);
    exchange.begin(ask(method).body(RequestBody::Empty).unwrap());
    let asking = async {
        let response: Response<()> = match poll_fn(|cx| exchange.poll_answer(cx)).await {
            Ok(response) => response,
            Err(Failed { why: Why::Nonsense, .. }) => return Seen::Refused,
            Err(Failed { head, .. }) => {
                assert!(head.is_some(), "it can be asked again");
                return Seen::Lost;
            }
        };
        let (parts, ()) = response.into_parts();
        let (mut body, mut trailers) = (Vec::new(), None);
        let mut whole = true;
        while let Some(frame) = poll_fn(|cx| exchange.poll_frame(cx)).await {
            match frame.map(http_body::Frame::into_data) {
                Ok(Ok(data)) => body.extend(data),
                Ok(Err(frame)) => trailers = frame.into_trailers().ok(),
                Err(_) => {
                    whole = false;
                    break;
                }
            }
        }
        assert_eq!(exchange.is_answered(), whole);
        assert!(whole || !exchange.is_usable(), "what broke is not used again");
        Seen::Answer(parts.status, parts.version, parts.headers, whole.then_some((body, trailers)))
    };
    let (seen, ()) = tokio::join!(asking, say(theirs, bytes, cuts));
    seen
}

/// What is not passed on although hyper reads it: an encoding that nobody undoes.
fn is_lenient(method: &str, seen: &Seen) -> bool {
    let Seen::Answer(status, _, headers, _) = seen else { return false };
    let encodings: Vec<_> = headers.get_all(TRANSFER_ENCODING).iter().collect();
    let is_clear = match encodings[..] {
        [] => true,
        [one] => one.as_bytes().eq_ignore_ascii_case(b"chunked"),
        _ => false,
    };
    !(is_clear || method == "HEAD" || matches!(status.as_u16(), 101 | 204 | 304))
}

fn answers() -> impl Strategy<Value = Vec<u8>> {
    let line = prop::sample::select(vec![
        "HTTP/1.1 200 OK",
        "HTTP/1.1 200 OK",
        "HTTP/1.0 200 OK",
        "HTTP/1.1 204 No Content",
        "HTTP/1.1 304 Not Modified",
        "HTTP/1.1 404 ",
        "HTTP/1.1 404",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK",
        "HTTP/1.1 103 Early Hints\r\nX: y\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 OK",
        "HTTP/1.1 099 No",
        "HTTP/1.1  200 OK",
        "HTTP/2.0 200 OK",
        "\r\nHTTP/1.1 200 OK",
    ]);
    let field = prop::sample::select(vec![
        "Content-Length: 3",
        "Content-Length: 3",
        "Content-Length: 5",
        "Content-Length: 3, 3",
        "Content-Length: +3",
        "Content-Length: 18446744073709551615",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "transfer-encoding: CHUNKED",
        "Connection: close",
        "Connection: keep-alive",
        "Content-Type: text/plain",
        "X: a\r\n b",
        "X : a",
        "X: \u{1}",
        "X: é",
        "X:",
        "X: \t",
        ": z",
        "nonsense",
    ]);
    let body = prop::sample::select(vec![
        "",
        "abc",
        "abcde",
        "3\r\nabc\r\n0\r\n\r\n",
        "3;x=y\r\nabc\r\n2 \r\nde\r\n0\r\nT: v\r\n\r\n",
        "003\r\nabc\r\nA\r\n0123456789\r\n0\r\nT: v\r\nU: w\r\n\r\n",
        "3\r\nabc\r\n0\r\nU : w\r\n\r\n",
        "3\r\nabc\r\n0\r\nnonsense\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\nabc\n0\n\n",
        "3\r\nabc\r\n0\n\r\n",
        "zz\r\n",
        "fffffffffffffffff\r\n",
        "3\r\nabc\r\n",
        "3\r\nabc\r\n0\r\n",
    ]);
    let end = prop::sample::select(vec!["\r\n", "\r\n", "\r\n", "\n"]);
    let slip = prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>()));
    (line, prop::collection::vec(field, 0..4), body, end, slip).prop_map(|(line, fields, body, end, slip)| {
        let mut text = format!("{line}{end}");
        fields.iter().for_each(|field| text.extend([field, end]));
        let mut bytes = [text.as_bytes(), end.as_bytes(), body.as_bytes()].concat();
        if let Some((at, byte)) = slip {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

proptest! {
    #[test]
    fn an_answer_is_read_as_hyper_reads_it_however_it_is_split(
        bytes in answers(),
        cuts in prop::collection::vec(1usize..40, 1..10),
        method in prop::sample::select(vec!["GET", "GET", "HEAD"]),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let hypers = runtime.block_on(by_hyper(method, bytes.clone(), vec![usize::MAX]));
        let whole = runtime.block_on(by_us(method, bytes.clone(), vec![usize::MAX]));
        let split = runtime.block_on(by_us(method, bytes.clone(), cuts));
        prop_assert_eq!(&whole, &split, "{}", bytes.escape_ascii());
        let expected = if is_lenient(method, &hypers) { Seen::Refused } else { hypers };
        prop_assert_eq!(whole, expected, "{}", bytes.escape_ascii());
    }
}

/// Asks for this answer, reads all of it, and tells whether the connection may be used again.
async fn kept(method: &str, answer: &'static str) -> bool {
    let (ours, mut theirs) = duplex(1 << 16);
    let mut exchange = Exchange::new(ours);
    exchange.begin(ask(method).body(RequestBody::Empty).unwrap());
    theirs.write_all(answer.as_bytes()).await.unwrap();
    assert!(poll_fn(|cx| exchange.poll_answer(cx)).await.is_ok(), "{answer}");
    drop(theirs);
    while poll_fn(|cx| exchange.poll_frame(cx)).await.is_some_and(|frame| frame.is_ok()) {}
    exchange.is_usable()
}

#[tokio::test]
async fn a_connection_is_kept_only_where_an_answer_ends_for_certain_with_nothing_behind_it() {
    for (method, answer, is_kept) in [
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", true),
        ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", true),
        ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nT: v\r\n\r\n", true),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", true),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", true),
        ("HEAD", "HTTP/1.1 200 OK\r\n\r\n", true),
        ("GET", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc", true),
        ("GET", "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", false),
        ("GET", "HTTP/1.1 200 OK\r\nConnection: x, CLOSE\r\nContent-Length: 3\r\n\r\nabc", false),
        ("GET", "HTTP/1.1 200 OK\r\n\r\nabc", false),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd", false),
        ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP", false),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", false),
        ("GET", "HTTP/1.1 304 Not Modified\r\n\r\nHTTP/1.1 200 OK\r\n", false),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc", false),
        ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", false),
    ] {
        assert_eq!(kept(method, answer).await, is_kept, "{method} {answer:?}");
    }
}

#[tokio::test]
async fn what_was_said_before_anything_was_asked_is_no_answer_and_the_request_is_given_back() {
    let (ours, theirs) = duplex(1 << 16);
    drop(theirs);
    let mut exchange = Exchange::new(ours);
    exchange.begin(ask("POST").body(RequestBody::Empty).unwrap());
    let failed = poll_fn(|cx| exchange.poll_answer(cx)).await.err().unwrap();
    assert!(failed.unsent.is_some_and(|request| request.method() == "POST") && failed.head.is_none());
}
