//! An app that writes down what arrives, reads it as strictly as can be, and answers each request with its own target.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Arrived {
    /// A request that can be read in one way only: its method, its target and its body.
    Request { method: String, target: String, body: Vec<u8> },
    /// Something that another app might read differently, and why.
    Dirty(String),
}

/// An app in the recorder's place, until it is dropped.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    arrived: Arc<Mutex<Vec<Arrived>>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Origin {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let arrived: Arc<Mutex<Vec<Arrived>>> = Arc::default();
        let all = Arc::clone(&arrived);
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, Arc::clone(&all)));
            }
        });
        Self { address, arrived, serving }
    }

    /// What has arrived since this was last asked.
    pub(crate) fn take(&self) -> Vec<Arrived> {
        std::mem::take(&mut self.arrived.lock().unwrap())
    }
}

async fn serve(mut stream: TcpStream, all: Arc<Mutex<Vec<Arrived>>>) {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(more @ 1..) = stream.read(&mut buffer).await {
        bytes.extend_from_slice(&buffer[..more]);
        loop {
            match read_one(&bytes) {
                Ok(None) => break,
                Ok(Some(Request { method, target, body, length })) => {
                    bytes.drain(..length);
                    let content = if method == "HEAD" { "" } else { &*target };
                    let answer =
                        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{content}", target.len());
                    all.lock().unwrap().push(Arrived::Request { method, target, body });
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
                Err(why) => {
                    let why = format!("{why}: {}", bytes.escape_ascii());
                    all.lock().unwrap().push(Arrived::Dirty(why));
                    let answer =
                        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                    let _ = stream.write_all(answer).await;
                    return;
                }
            }
        }
    }
}

struct Request {
    method: String,
    target: String,
    body: Vec<u8>,
    length: usize,
}

struct Field<'a> {
    name: String,
    value: &'a [u8],
}

/// The request that `bytes` begin with; `None` while it is incomplete, and an error where it could be read in another
/// way than this.
fn read_one(bytes: &[u8]) -> Result<Option<Request>, &'static str> {
    let Some(end) = find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let head = &bytes[..end];
    let (line, rest) = head.split_at(find(head, b"\r\n").unwrap_or(head.len()));
    let (method, target) = read_line(line)?;
    let fields = read_fields(rest.strip_prefix(b"\r\n").unwrap_or_default())?;
    let framing = check_fields(&fields)?;
    let start = end + 4;
    let (body, length) = match framing {
        Framing::Length(length) if bytes.len() < start + length => return Ok(None),
        Framing::Length(length) => (bytes[start..start + length].to_vec(), start + length),
        Framing::Chunks => match read_chunks(&bytes[start..])? {
            None => return Ok(None),
            Some((body, length)) => (body, start + length),
        },
    };
    Ok(Some(Request { method, target, body, length }))
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn is_token(name: &[u8]) -> bool {
    !name.is_empty()
        && name.iter().all(|&byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^`|~_".contains(&byte))
}

fn read_line(line: &[u8]) -> Result<(String, String), &'static str> {
    let parts: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    let &[method, target, b"HTTP/1.1"] = parts.as_slice() else { return Err("request line") };
    if !is_token(method) || matches!(method, b"CONNECT" | b"TRACE" | b"TRACK") {
        return Err("method");
    }
    let is_path = target.starts_with(b"/") || (target == b"*" && method == b"OPTIONS");
    if !is_path || !target.iter().all(u8::is_ascii_graphic) || target.contains(&b'#') {
        return Err("target");
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((text(method), text(target)))
}

fn read_fields(lines: &[u8]) -> Result<Vec<Field<'_>>, &'static str> {
    let mut fields = Vec::new();
    let mut rest = lines;
    while !rest.is_empty() {
        let end = find(rest, b"\r\n").unwrap_or(rest.len());
        let line = &rest[..end];
        rest = rest.get(end + 2..).unwrap_or_default();
        let colon = line.iter().position(|&byte| byte == b':').ok_or("no colon")?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if !is_token(name) || name.contains(&b'_') {
            return Err("field name");
        }
        if value.iter().any(|&byte| (byte < 0x20 && byte != b'\t') || byte == 0x7f) {
            return Err("control character");
        }
        fields.push(Field { name: String::from_utf8_lossy(name).to_ascii_lowercase(), value });
    }
    Ok(fields)
}

enum Framing {
    Length(usize),
    Chunks,
}

fn check_fields(fields: &[Field<'_>]) -> Result<Framing, &'static str> {
    let values = |name: &str| -> Vec<&[u8]> {
        fields.iter().filter(|field| field.name == name).map(|field| field.value).collect()
    };
    let &[host] = values("host").as_slice() else { return Err("not one host") };
    let host = host.split(|&byte| byte == b':').next().unwrap_or_default();
    if !host.eq_ignore_ascii_case(b"iris.localhost") {
        return Err("host");
    }
    let is_claim = |name: &str| {
        name.starts_with("x-forwarded-")
            || name.starts_with("x-marmot-")
            || matches!(name, "forwarded" | "x-real-ip")
    };
    if fields.iter().any(|field| is_claim(&field.name) && find(field.value, b"evil").is_some()) {
        return Err("claim");
    }
    if !values("expect").is_empty() {
        return Err("expectation");
    }
    match (values("content-length").as_slice(), values("transfer-encoding").as_slice()) {
        ([], []) => Ok(Framing::Length(0)),
        (&[length], []) => {
            let is_number = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
            let length =
                std::str::from_utf8(length).ok().filter(|_| is_number).and_then(|length| length.parse().ok());
            length.map(Framing::Length).ok_or("length")
        }
        ([], [b"chunked"]) => Ok(Framing::Chunks),
        _ => Err("framing"),
    }
}

/// A whole body in chunks, and how many bytes it takes.
fn read_chunks(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, &'static str> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let Some(end) = find(&bytes[at..], b"\r\n").map(|end| at + end) else { return Ok(None) };
        let digits = &bytes[at..end];
        if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err("chunk size");
        }
        let size = std::str::from_utf8(digits).ok().and_then(|digits| usize::from_str_radix(digits, 16).ok());
        let size = size.ok_or("chunk size")?;
        at = end + 2;
        if size == 0 {
            return read_trailers(bytes, at).map(|end| end.map(|end| (body, end)));
        }
        if bytes.len() < at + size + 2 {
            return Ok(None);
        }
        body.extend_from_slice(&bytes[at..at + size]);
        if &bytes[at + size..at + size + 2] != b"\r\n" {
            return Err("end of a chunk");
        }
        at += size + 2;
    }
}

fn read_trailers(bytes: &[u8], at: usize) -> Result<Option<usize>, &'static str> {
    let rest = &bytes[at..];
    if rest.starts_with(b"\r\n") {
        return Ok(Some(at + 2));
    }
    let Some(end) = find(rest, b"\r\n\r\n") else { return Ok(None) };
    let fields = read_fields(&rest[..end])?;
    let may_be = |name: &str| {
        !matches!(
            name,
            "content-length"
                | "transfer-encoding"
                | "host"
                | "connection"
                | "cookie"
                | "authorization"
                | "forwarded"
        ) && !name.starts_with("x-")
            || name == "x-t"
    };
    if !fields.iter().all(|field| may_be(&field.name)) {
        return Err("trailer");
    }
    Ok(Some(at + end + 4))
}
