//! The server of static sites, over real connections.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;

use marmot_engine::build::static_server;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

struct Site {
    dir: tempfile::TempDir,
    address: SocketAddr,
    stop: CancellationToken,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
}

async fn site(files: &[(&str, &str)]) -> Site {
    serve(files, false).await
}

async fn serve(files: &[(&str, &str)], single_page: bool) -> Site {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join("root").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let (root, token) = (dir.path().join("root"), stop.clone());
    let server = tokio::spawn(async move { static_server::serve(listener, &root, single_page, token).await });
    Site { dir, address, stop, server }
}

impl Site {
    /// What is answered to `head`, given without its last lines.
    async fn ask(&self, head: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{head}\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn get(&self, path: &str) -> String {
        self.ask(&format!("GET {path} HTTP/1.1")).await
    }
}

fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let head = answer.split("\r\n\r\n").next().unwrap();
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

#[tokio::test]
async fn pages_are_found_by_file_by_directory_and_without_their_ending() {
    let site = site(&[
        ("index.html", "home"),
        ("about.html", "about"),
        ("docs/index.html", "docs"),
        ("a b/\u{e9}.css", "css"),
        ("empty.js", ""),
    ])
    .await;
    for (path, expected, content_type) in [
        ("/", "home", "text/html; charset=utf-8"),
        ("/index.html?x=1", "home", "text/html; charset=utf-8"),
        ("/about", "about", "text/html; charset=utf-8"),
        ("/docs/", "docs", "text/html; charset=utf-8"),
        ("/a%20b/%C3%A9.css", "css", "text/css; charset=utf-8"),
        ("/empty.js", "", "text/javascript; charset=utf-8"),
    ] {
        let answer = site.get(path).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        assert_eq!(body(&answer), expected, "{path}");
        assert_eq!(header(&answer, "content-type"), Some(content_type), "{path}");
        assert_eq!(header(&answer, "cache-control"), Some("no-cache"));
        assert_eq!(header(&answer, "content-length"), Some(expected.len().to_string().as_str()));
    }
    let answer = site.get("/docs?x=1").await;
    assert!(answer.starts_with("HTTP/1.1 301"), "{answer}");
    assert_eq!(header(&answer, "location"), Some("./docs/?x=1"));
    // However many slashes there are in front, it stays on this host.
    assert_eq!(header(&site.get("//docs").await, "location"), Some("./docs/"));
}

#[tokio::test]
async fn nothing_outside_and_nothing_hidden_is_served() {
    let site =
        site(&[("index.html", "home"), (".env", "secret"), (".git/config", "secret"), ("a/x.txt", "x")])
            .await;
    fs::write(site.dir.path().join("secret.txt"), "secret").unwrap();
    let root = site.dir.path().join("root");
    symlink("../secret.txt", root.join("link.txt")).unwrap();
    symlink("/etc", root.join("etc")).unwrap();
    symlink("a", root.join("b")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(root.join("pipe")).status().unwrap().success());
    for path in [
        "/../secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e/secret.txt",
        "/a/../../secret.txt",
        "/..\\secret.txt",
        "/link.txt",
        "/etc/passwd",
        "/etc/",
        "//etc/passwd",
        "/.env",
        "/.git/config",
        "/%2eenv",
        "/pipe",
        "/a/x.txt%00.html",
        "/%zz",
        "/%",
        "/%ff",
        "/a/",
        "/none",
        "/index.html/",
    ] {
        let answer = site.get(path).await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
        assert!(!answer.contains("secret") && !answer.contains("root:"), "{path}: {answer}");
    }
    assert_eq!(body(&site.get("/b/x.txt").await), "x");
}

#[tokio::test]
async fn head_unchanged_and_other_methods() {
    let site = site(&[("index.html", "home"), ("404.html", "lost")]).await;
    let answer = site.ask("HEAD / HTTP/1.1").await;
    assert_eq!((body(&answer), header(&answer, "content-length")), ("", Some("4")));
    let tag = header(&answer, "etag").unwrap();
    let answer = site.ask(&format!("GET / HTTP/1.1\r\nIf-None-Match: \"other\", {tag}")).await;
    assert!(answer.starts_with("HTTP/1.1 304") && body(&answer).is_empty(), "{answer}");
    let answer = site.get("/none").await;
    assert!(answer.starts_with("HTTP/1.1 404") && body(&answer) == "lost", "{answer}");
    let answer = site.ask("POST / HTTP/1.1\r\nContent-Length: 0").await;
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    assert_eq!(header(&answer, "allow"), Some("GET, HEAD"));
}

#[tokio::test]
async fn a_large_file_comes_whole_and_stopping_ends_the_server() {
    let text = "0123456789abcdef".repeat(100_000);
    let site = site(&[("data.bin", &text)]).await;
    let answer = site.get("/data.bin").await;
    assert!(body(&answer) == text, "{} bytes", body(&answer).len());
    // A connection without a request does not hold the server up.
    let _idle = TcpStream::connect(site.address).await.unwrap();
    site.stop.cancel();
    let ended = tokio::time::timeout(std::time::Duration::from_secs(10), site.server).await;
    ended.expect("the server ended").unwrap().unwrap();
}

#[tokio::test]
async fn a_single_page_answers_for_addresses_and_not_for_files_that_are_missing() {
    let files = [("index.html", "home"), ("assets/index-4f3a2b1c.js", "code"), (".env", "secret")];
    let declared = [("index.html", "home"), ("_redirects", "# all of it\n/*   /index.html  200\n")];
    let generated = [("index.html", "other"), ("200.html", "home")];
    let navigate = "\r\nSec-Fetch-Mode: navigate\r\nAccept: text/html,*/*";
    let asks = |path: &str, headers: &str| format!("GET {path} HTTP/1.1{headers}");
    for site in [serve(&files, true).await, site(&declared).await, site(&generated).await] {
        for path in ["/settings", "/users/7", "/users/ada.lovelace", "/deep/er/"] {
            let answer = site.ask(&asks(path, navigate)).await;
            assert!(answer.starts_with("HTTP/1.1 200") && body(&answer) == "home", "{path}: {answer}");
            assert_eq!(header(&answer, "content-type"), Some("text/html; charset=utf-8"));
            assert_eq!(header(&answer, "cache-control"), Some("no-cache"));
        }
        for path in ["/assets/gone.js", "/logo.png", "/data.json", "/.env", "/.git/config", "/..%2fx"] {
            let answer = site.ask(&asks(path, navigate)).await;
            assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
        }
        // Data that a page asks for, and that is not there, is no page.
        for headers in ["\r\nSec-Fetch-Mode: cors\r\nAccept: */*", "\r\nAccept: application/json"] {
            let answer = site.ask(&asks("/api/users", headers)).await;
            assert!(answer.starts_with("HTTP/1.1 404"), "{headers}: {answer}");
        }
    }
    // Who has said nothing of the kind has pages, and each is there or not.
    let plain = site(&files).await;
    let answer = plain.ask(&asks("/settings", navigate)).await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    let asset = plain.get("/assets/index-4f3a2b1c.js").await;
    assert_eq!(header(&asset, "cache-control"), Some("private, max-age=31536000, immutable"));
}

#[tokio::test]
async fn a_part_of_a_file_is_given_while_it_is_the_same_file() {
    let site = site(&[("film.mp4", "0123456789")]).await;
    let asks = |headers: &str| format!("GET /film.mp4 HTTP/1.1\r\n{headers}");
    let part = site.ask(&asks("Range: bytes=2-5")).await;
    assert!(part.starts_with("HTTP/1.1 206"), "{part}");
    assert_eq!((header(&part, "content-range"), body(&part)), (Some("bytes 2-5/10"), "2345"));
    assert_eq!(header(&part, "content-length"), Some("4"));
    assert_eq!(header(&part, "content-type"), Some("video/mp4"));
    let beyond = site.ask(&asks("Range: bytes=10-")).await;
    assert!(beyond.starts_with("HTTP/1.1 416"), "{beyond}");
    assert_eq!(header(&beyond, "content-range"), Some("bytes */10"));
    let tag = header(&part, "etag").unwrap();
    let same = site.ask(&asks(&format!("Range: bytes=2-5\r\nIf-Range: {tag}"))).await;
    assert!(same.starts_with("HTTP/1.1 206"), "{same}");
    let other = site.ask(&asks("Range: bytes=2-5\r\nIf-Range: \"x\"")).await;
    assert!(other.starts_with("HTTP/1.1 200") && body(&other) == "0123456789", "{other}");
    let known = site.ask(&asks(&format!("Range: bytes=2-5\r\nIf-None-Match: {tag}"))).await;
    assert!(known.starts_with("HTTP/1.1 304"), "{known}");
}

#[tokio::test]
async fn what_was_compressed_before_is_sent_to_those_who_can_read_it() {
    let site =
        site(&[("app.js", "plain"), ("app.js.br", "brotli"), ("app.js.gz", "gzip"), ("x.css", "x")]).await;
    for (accepted, expected, encoding) in [
        ("gzip, deflate, br", "brotli", Some("br")),
        ("gzip", "gzip", Some("gzip")),
        ("br;q=0, gzip;q=0.5", "gzip", Some("gzip")),
        ("deflate", "plain", None),
        ("", "plain", None),
    ] {
        let answer = site.ask(&format!("GET /app.js HTTP/1.1\r\nAccept-Encoding: {accepted}")).await;
        assert_eq!((body(&answer), header(&answer, "content-encoding")), (expected, encoding), "{accepted}");
        assert_eq!(header(&answer, "content-type"), Some("text/javascript; charset=utf-8"));
        assert_eq!(header(&answer, "vary"), Some("accept-encoding"));
    }
    let answer = site.ask("GET /x.css HTTP/1.1\r\nAccept-Encoding: br, gzip").await;
    assert_eq!((body(&answer), header(&answer, "content-encoding")), ("x", None));
}

#[tokio::test]
async fn what_mkdocs_and_quarto_write_is_served_as_they_mean_it() {
    let site = site(&[
        ("index.html", "home"),
        ("404.html", "not here"),
        ("guide/index.html", "guide"),
        ("search/search_index.json", "{}"),
        ("search.json", "[]"),
        ("sitemap.xml", "<x/>"),
        ("sitemap.xml.gz", "gz"),
        ("site_libs/quarto-nav/quarto-nav.js", "js"),
        ("site_libs/bootstrap/bootstrap-icons.woff", "font"),
        ("paper.ipynb", "{}"),
    ])
    .await;
    for (path, content_type) in [
        ("/guide/", "text/html; charset=utf-8"),
        ("/search/search_index.json", "application/json"),
        ("/search.json", "application/json"),
        ("/sitemap.xml", "application/xml"),
        ("/sitemap.xml.gz", "application/gzip"),
        ("/site_libs/quarto-nav/quarto-nav.js", "text/javascript; charset=utf-8"),
        ("/site_libs/bootstrap/bootstrap-icons.woff", "font/woff"),
        ("/paper.ipynb", "application/json"),
    ] {
        let answer = site.get(path).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        assert_eq!(header(&answer, "content-type"), Some(content_type), "{path}");
    }
    assert_eq!(header(&site.get("/guide").await, "location"), Some("./guide/"));
    let missing = site.get("/elsewhere/").await;
    assert!(missing.starts_with("HTTP/1.1 404") && body(&missing) == "not here", "{missing}");
}
