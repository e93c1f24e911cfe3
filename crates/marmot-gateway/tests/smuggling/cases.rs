//! The corpus: requests of HTTP/1 as raw bytes, made from tables of what may be wrong with each part of one.

/// What is asked of whoever receives a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Is {
    /// It must be served.
    Fine,
    /// It can be read in one way only; it may be served, and it may be refused.
    Legal,
    /// The standards forbid it: it should be refused, and whoever serves it guesses.
    Wrong,
}
use Is::{Fine, Legal, Wrong};

pub(crate) struct Case {
    pub(crate) family: &'static str,
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) is: Is,
}

/// What a case that is cut in two by somebody asks for with its second half.
pub(crate) const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: iris.localhost\r\n\r\n";
const CHUNKS: &[u8] = b"3\r\nabc\r\n0\r\n\r\n";
const HOST: &str = "Host: iris.localhost\r\n";

#[derive(Default)]
struct Corpus(Vec<Case>);

impl Corpus {
    fn add(&mut self, family: &'static str, is: Is, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        let name = bytes.escape_ascii().to_string();
        self.0.push(Case { family, name, bytes, is });
    }

    /// `POST /case` with these fields, each with its line break, and this body.
    fn post(&mut self, family: &'static str, is: Is, fields: impl AsRef<[u8]>, body: impl AsRef<[u8]>) {
        let head = format!("POST /case HTTP/1.1\r\n{HOST}");
        let bytes = [head.as_bytes(), fields.as_ref(), b"\r\n", body.as_ref()].concat();
        self.add(family, is, bytes);
    }

    /// `GET /case` with these fields after the host.
    fn get(&mut self, family: &'static str, is: Is, fields: impl AsRef<[u8]>) {
        let head = format!("GET /case HTTP/1.1\r\n{HOST}");
        self.add(family, is, [head.as_bytes(), fields.as_ref(), b"\r\n"].concat());
    }
}

/// All of them.
pub(crate) fn corpus() -> Vec<Case> {
    let mut all = Corpus::default();
    fine(&mut all);
    two_lengths(&mut all);
    encodings(&mut all);
    encoding_bytes(&mut all);
    lengths(&mut all);
    chunks(&mut all);
    fields(&mut all);
    hosts(&mut all);
    request_lines(&mut all);
    paths(&mut all);
    hop_by_hop(&mut all);
    expectations(&mut all);
    bodies_of_gets(&mut all);
    short(&mut all);
    all.0
}

fn fine(all: &mut Corpus) {
    for (fields, body) in [
        ("Content-Length: 3\r\n", "abc"),
        ("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"),
        ("TRANSFER-ENCODING: CHUNKED\r\n", "3;a=b\r\nabc\r\n0\r\n\r\n"),
        ("Content-Length: 0\r\n", ""),
        ("Expect: 100-continue\r\nContent-Length: 3\r\n", "abc"),
    ] {
        all.post("fine", Fine, fields, body);
    }
    all.get("fine", Fine, "");
    all.add("fine", Fine, format!("GET http://iris.localhost/case HTTP/1.1\r\n{HOST}\r\n"));
    all.add("fine", Fine, format!("\r\n\r\nGET /case HTTP/1.1\r\n{HOST}\r\n"));
    all.add("fine", Fine, format!("GET /case HTTP/1.0\r\n{HOST}\r\n"));
}

fn two_lengths(all: &mut Corpus) {
    let body = format!("0\r\n\r\n{SMUGGLED}");
    for length in [0, 5, 6, body.len()] {
        let (length, chunked) = (format!("Content-Length: {length}\r\n"), "Transfer-Encoding: chunked\r\n");
        all.post("CL.TE", Wrong, format!("{length}{chunked}"), &body);
        all.post("CL.TE", Wrong, format!("{chunked}X: y\r\n{length}"), &body);
    }
    let inside = format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len());
    for fields in [
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
    ] {
        all.post("TE.CL", Wrong, fields, &inside);
    }
}

fn encodings(all: &mut Corpus) {
    for other in [
        "chunked",
        "identity",
        "gzip",
        "x",
        "CHUNKED",
        "chunked, identity",
        "\"chunked\"",
        "chunked;q=0",
        "cow",
    ] {
        for (first, second) in [("chunked", other), (other, "chunked")] {
            for fields in [
                format!("Transfer-Encoding: {first}\r\nTransfer-Encoding: {second}\r\n"),
                format!("Transfer-Encoding: {first}\r\nX: y\r\ntransfer-encoding: {second}\r\n"),
                format!("Transfer-Encoding: {first}, {second}\r\n"),
            ] {
                all.post("TE.TE", Wrong, fields, CHUNKS);
            }
        }
    }
    for value in [
        "identity",
        "gzip",
        "deflate",
        "compress",
        "x-gzip",
        "br",
        "xchunked",
        "chunkedx",
        "chunke",
        "\"chunked\"",
        "'chunked'",
        "chunked;q=1",
        "chunked; a=b",
        "chunked,",
        ",chunked",
        ",,chunked",
        "",
        " ",
        "chunked chunked",
        "chunked\tchunked",
        "chunked/1",
        "chunked:",
        "chunked, trailers",
        "chunked\\",
        "%63hunked",
        "(c)chunked",
        "chunked (c)",
        "null",
        "0",
    ] {
        all.post("TE", Wrong, format!("Transfer-Encoding: {value}\r\n"), CHUNKS);
    }
    for value in ["cHuNkEd", "  chunked", "chunked  ", "\tchunked \t"] {
        all.post("TE", Legal, format!("Transfer-Encoding:{value}\r\n"), CHUNKS);
    }
    for field in [
        "Transfer Encoding: chunked",
        "Transfer-Encoding",
        "Transfer-Encoding chunked",
        ":Transfer-Encoding: chunked",
        " Transfer-Encoding: chunked",
        "Transfer-Encoding:\r\n chunked",
    ] {
        all.post("TE", Wrong, format!("{field}\r\n"), CHUNKS);
    }
    all.add(
        "TE",
        Wrong,
        format!("POST /case HTTP/1.0\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
    );
}

/// One byte too many at each place where some server overlooks it.
fn encoding_bytes(all: &mut Corpus) {
    let printable = b"\"',.:;\\_`\x7f\x80\x85\xa0\xad\xc0\xef\xff";
    for byte in (0..=0x20).chain(printable.iter().copied()) {
        let is_blank = matches!(byte, b'\t' | b' ');
        // Another name altogether, and a request without a body.
        let is_token = matches!(byte, b'\'' | b'.' | b'_' | b'`');
        for (before_colon, before, after, is) in [
            (&[byte][..], &b""[..], &b""[..], if is_token { Legal } else { Wrong }),
            (b"", &[byte], b"", if is_blank { Legal } else { Wrong }),
            (b"", b"", &[byte], if is_blank { Legal } else { Wrong }),
        ] {
            let field =
                [b"Transfer-Encoding", before_colon, b": ", before, b"chunked", after, b"\r\n"].concat();
            all.post("TE, by bytes", is, field, CHUNKS);
        }
    }
}

fn lengths(all: &mut Corpus) {
    for value in [
        "+3",
        "-3",
        "0x3",
        "3.0",
        "3e0",
        "1 2",
        "",
        " ",
        "three",
        "99999999999999999999999",
        "18446744073709551616",
        "3,3",
        "3, 3",
        "3;3",
        "3,",
        ",3",
        "\"3\"",
        "'3'",
        "3\t3",
        "\u{ff13}",
        "3\0",
        "\u{0}3",
        "0b11",
        "3\u{b}",
        "3_0",
        "3L",
        "NaN",
        "--3",
        "- 3",
        "3-",
        "(3)",
        "3, 5",
    ] {
        all.post("CL", Wrong, format!("Content-Length: {value}\r\n"), "abc");
    }
    for value in ["003", "0000000000000000000000003", " 3 ", "\t3"] {
        all.post("CL", Legal, format!("Content-Length:{value}\r\n"), "abc");
    }
    for (first, second) in
        [("3", "3"), ("3", "5"), ("5", "3"), ("0", "3"), ("3", "0"), ("3", "+3"), ("", "3")]
    {
        all.post(
            "CL",
            Wrong,
            format!("Content-Length: {first}\r\nX: y\r\ncontent-length: {second}\r\n"),
            "abc",
        );
    }
    for field in [
        "Content-Length : 3",
        "Content-Length\t: 3",
        "Content-Length\0: 3",
        " Content-Length: 3",
        "Content-Length:\r\n 3",
        "Content-Length: 3\r\n 0",
    ] {
        all.post("CL", Wrong, format!("{field}\r\n"), "abc");
    }
    all.post("CL", Legal, "Content_Length: 5\r\nContent-Length: 3\r\n", "abc");
}

fn chunks(all: &mut Corpus) {
    let mut add =
        |is, body: &str| all.post("chunks", is, "Transfer-Encoding: chunked\r\nTrailer: X-T\r\n", body);
    for size in [
        "zz",
        "+3",
        "-3",
        "0x3",
        "11111111111111111",
        "ffffffffffffffff",
        "",
        "\t3",
        "3\0",
        "3,",
        "3g",
        "\u{ff13}",
        "3.0",
        "3_",
        "3\n",
        "3;a\nb",
        "3;a\rb",
        "3;a\0b",
        "3 3",
        "\u{b}3",
    ] {
        add(Wrong, &format!("{size}\r\nabc\r\n0\r\n\r\n"));
    }
    for size in ["03", "3;a=b", "3;a=\"b\""] {
        add(Legal, &format!("{size}\r\nabc\r\n0\r\n\r\n"));
    }
    for rest in [
        "3\nabc\r\n0\r\n\r\n",
        "3\rabc\r\n0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "3\r\nabc\r0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nab\r\n0\r\n\r\n",
        "3\r\nabc0\r\n\r\n",
        "3\r\nabc\r\n0\n\n",
        "3\r\nabc\r\n0\r\nX-T y\r\n\r\n",
        "3\r\nabc\r\n0\r\nX-T: a\0b\r\n\r\n",
        "3\r\nabc\r\n0\r\nX-T: a\rb\r\n\r\n",
    ] {
        add(Wrong, rest);
    }
    // Fields at the end that say what must be known at the beginning.
    for field in ["Content-Length: 5", "X-Forwarded-For: evil"] {
        let name = field.split(':').next().unwrap_or_default();
        let fields = format!("Transfer-Encoding: chunked\r\nTrailer: {name}\r\nTE: trailers\r\n");
        all.post("chunks", Legal, fields, format!("3\r\nabc\r\n0\r\n{field}\r\n\r\n"));
    }
}

fn fields(all: &mut Corpus) {
    for byte in [0, 1, 7, 8, 0xb, 0xc, 0xd, 0xe, 0x1b, 0x1f, 0x7f] {
        all.get("fields", Wrong, [b"X: a", &[byte][..], b"b\r\n"].concat());
    }
    for byte in b"(),/;<=>?@[\\]{}\"" {
        all.get("fields", Wrong, [b"X", &[*byte][..], b"Y: z\r\n"].concat());
    }
    for lines in ["nonsense\r\n", ": x\r\n", "X Y: z\r\n", "X: y\r\n z\r\n"] {
        all.get("fields", Wrong, lines);
    }
    all.get("fields", Wrong, "X: y\nZ: a\r\n");
    for claim in ["X_Forwarded_For", "X-Forwarded-For", "X-Marmot-User", "X_Marmot_User", "X-Real-IP"] {
        all.get("fields", Legal, format!("{claim}: evil\r\n"));
    }
    all.get("fields", Legal, "Forwarded: for=evil\r\n");
}

fn hosts(all: &mut Corpus) {
    let mut add = |is, host: &str| all.add("Host", is, format!("GET /case HTTP/1.1\r\n{host}\r\n"));
    for value in [
        "",
        " ",
        "iris.localhost/x",
        "iris.localhost?x",
        "iris.localhost#x",
        "a@iris.localhost",
        "a:b@iris.localhost",
        "iris.localhost, rose.localhost",
        "iris.localhost rose.localhost",
        "iris.localhost:x",
        "iris.localhost:65536",
        "iris.localhost:-1",
        "iris.localhost:8:8",
        "iris.localhost\\x",
        "iris localhost",
        "\u{e4}.localhost",
        "iris.localhost\0",
        "iris.localhost\t.x",
        "[::1",
        "::1]",
        "[iris.localhost]",
        "\"iris.localhost\"",
        "iris..localhost",
        "http://iris.localhost",
        "*",
        "iris%2elocalhost",
    ] {
        add(Wrong, &format!("Host: {value}\r\n"));
    }
    for lines in [
        "",
        "Host : iris.localhost\r\n",
        " Host: iris.localhost\r\n",
        "Host: iris.localhost\r\nHost: iris.localhost\r\n",
        "Host: iris.localhost\r\nX: y\r\nhost: rose.localhost\r\n",
        "Host: iris.localhost\r\n .evil\r\n",
        "Host: rose.localhost\r\nHost: iris.localhost\r\n",
        "Host:\r\n iris.localhost\r\n",
    ] {
        add(Wrong, lines);
    }
    for value in ["IRIS.localhost", "iris.localhost:8080"] {
        add(Legal, &format!("Host: {value}\r\n"));
    }
    for (target, host) in [
        ("http://rose.localhost/", "iris.localhost"),
        ("http://iris.localhost:1/", "iris.localhost:2"),
        ("http://a@iris.localhost/", "iris.localhost"),
    ] {
        all.add("Host", Wrong, format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    }
}

fn request_lines(all: &mut Corpus) {
    for line in [
        "GET HTTP/1.1",
        "GET /case",
        "GET  /case HTTP/1.1",
        "GET\t/case HTTP/1.1",
        "GET /case  HTTP/1.1",
        "GET /case\tHTTP/1.1",
        "GET /case HTTP/1.1 ",
        "GET /a b HTTP/1.1",
        " GET /case HTTP/1.1",
        "GET /case http/1.1",
        "GET /case HTTP/1.2",
        "GET /case HTTP/2.0",
        "GET /case HTTP/11",
        "GET /case HTTP/1.1x",
        "GET /case HTTP/01.1",
        "GET /case HTTP/1",
        "GET /case HTTP/0.9",
        "GET /case XTTP/1.1",
        "GE:T /case HTTP/1.1",
        "G\u{e4}T /case HTTP/1.1",
        "GET\0 /case HTTP/1.1",
        "(GET) /case HTTP/1.1",
        "GET, /case HTTP/1.1",
        "CONNECT iris.localhost:80 HTTP/1.1",
        "CONNECT /case HTTP/1.1",
        "TRACE /case HTTP/1.1",
        "TRACK /case HTTP/1.1",
        "GET ftp://iris.localhost/ HTTP/1.1",
        "GET * HTTP/1.1",
        "GET case HTTP/1.1",
        "GET /case\r HTTP/1.1",
        "\r GET /case HTTP/1.1",
        "GET /case HTTP/1.1\r",
    ] {
        all.add("request line", Wrong, format!("{line}\r\n{HOST}\r\n"));
    }
    all.add("request line", Wrong, format!("GET /case HTTP/1.1\n{HOST}\r\n"));
    all.add("request line", Legal, format!("OPTIONS * HTTP/1.1\r\n{HOST}\r\n"));
}

fn paths(all: &mut Corpus) {
    for path in
        ["/\0", "/a\tb", "/\u{b}", "/\u{7f}", "/case#part", "/\u{e4}", "/a\\b\u{1}", "/\u{fffd}", "/?\u{e4}"]
    {
        all.add("path", Wrong, format!("GET {path} HTTP/1.1\r\n{HOST}\r\n"));
    }
    for path in [
        "//evil.test/case",
        "/a/../case",
        "/%2e%2e/case",
        "/%00",
        "/a%0d%0ab",
        "/;a=b",
        "/?a=http://evil.test/",
    ] {
        all.add("path", Legal, format!("GET {path} HTTP/1.1\r\n{HOST}\r\n"));
    }
}

fn hop_by_hop(all: &mut Corpus) {
    for name in [
        "host",
        "Content-Length",
        "transfer-encoding",
        "close, Cookie",
        "authorization",
        "X-Forwarded-For",
        "X-Marmot-User",
        "forwarded",
    ] {
        all.post("hop by hop", Wrong, format!("Connection: {name}\r\nContent-Length: 3\r\n"), "abc");
    }
    for fields in [
        "Connection: X-Mine\r\nX-Mine: evil\r\n",
        "Keep-Alive: 5\r\nProxy-Connection: x\r\n",
        "Connection: upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAAA\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\n",
        "Upgrade: websocket\r\n",
        "Connection: upgrade\r\nUpgrade: x\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
        "TE: trailers, deflate\r\n",
    ] {
        all.get("hop by hop", Legal, fields);
    }
    // What follows is the body of the request, and nothing of what the connection would be turned into.
    let fields =
        format!("Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: {}\r\n", SMUGGLED.len());
    all.post("hop by hop", Legal, fields, SMUGGLED);
}

fn expectations(all: &mut Corpus) {
    for value in ["200-ok", "100-continue, x", "100-continue, 100-continue", "", "100-continue;q=1", "x"] {
        all.post("Expect", Wrong, format!("Expect: {value}\r\nContent-Length: 3\r\n"), "abc");
    }
    all.post("Expect", Legal, "Expect: 100-Continue\r\nTransfer-Encoding: chunked\r\n", CHUNKS);
    all.get("Expect", Legal, "Expect: 100-continue\r\n");
}

/// Bodies where some server believes that there can be none.
fn bodies_of_gets(all: &mut Corpus) {
    for method in ["GET", "HEAD", "DELETE", "OPTIONS"] {
        let length = SMUGGLED.len();
        all.add(
            "0.CL",
            Legal,
            format!("{method} /case HTTP/1.1\r\n{HOST}Content-Length: {length}\r\n\r\n{SMUGGLED}"),
        );
    }
    all.add(
        "0.CL",
        Wrong,
        format!("GET /case HTTP/1.1\r\n{HOST}Content-Length:\r\n {}\r\n\r\n{SMUGGLED}", SMUGGLED.len()),
    );
    all.add(
        "0.CL",
        Legal,
        format!(
            "GET /case HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n",
            SMUGGLED.len()
        ),
    );
}

fn short(all: &mut Corpus) {
    all.post("short, binary", Wrong, "Content-Length: 4000\r\n", "abc");
    all.post("short, binary", Wrong, "Transfer-Encoding: chunked\r\n", "fff\r\nabc");
    all.add("short, binary", Wrong, &b"\x16\x03\x01\x00\x01\x00\x00\r\n\r\n"[..]);
    all.add("short, binary", Wrong, &b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"[..]);
    all.add("short, binary", Wrong, (0..=255).collect::<Vec<u8>>());
    all.add("short, binary", Wrong, format!("GET /case HTTP/1.1\r\n{HOST}X: y"));
}
