//! A small server of files, which is how a static site runs: as a replica like any other.

mod kinds;
mod range;

use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::stream::try_unfold;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_RANGES, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH,
    CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH, IF_RANGE, LOCATION, RANGE,
    VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Body as _, Bytes, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use kinds::{UNKNOWN, content_type, never_changes};
use range::Ranged;

type Body = BoxBody<Bytes, io::Error>;

/// What is served.
#[derive(Debug)]
struct Site {
    root: PathBuf,
    /// The page for addresses that there is no file for.
    fallback: Option<&'static str>,
}

impl Site {
    /// The files of `root`. Where `single_page`, or the site says so itself, one page answers for what is no file: by
    /// `200.html`, as SvelteKit and others write it, or by the `_redirects` that Netlify and others read.
    async fn open(root: &Path, single_page: bool) -> io::Result<Self> {
        /// More of a file is not read for one line.
        const READ: u64 = 64 << 10;
        let root = tokio::fs::canonicalize(root).await?;
        if !root.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let fallback = if root.join("200.html").is_file() {
            Some("/200.html")
        } else if single_page {
            Some("/index.html")
        } else {
            let mut text = Vec::new();
            if let Ok(file) = File::open(root.join("_redirects")).await
                && file.metadata().await.is_ok_and(|found| found.is_file())
            {
                file.take(READ).read_to_end(&mut text).await?;
            }
            let text = String::from_utf8_lossy(&text);
            let says_so = text.lines().any(|line| line.split_whitespace().eq(["/*", "/index.html", "200"]));
            says_so.then_some("/index.html")
        };
        Ok(Self { root, fallback })
    }
}

/// How much of a file is read at once.
const CHUNK: usize = 64 << 10;

/// How long a connection may take to send the head of a request. The gateway, which is all that connects, sends it at
/// once.
const HEAD_TIME: Duration = Duration::from_secs(30);

/// Serves the files of `root` on `listener` until `stop`; then finishes the answers under way. `single_page`: its
/// `index.html` answers for addresses that there is no file for.
///
/// # Errors
/// When `root` is no directory.
pub async fn serve(
    listener: TcpListener,
    root: &Path,
    single_page: bool,
    stop: CancellationToken,
) -> io::Result<()> {
    let site = Arc::new(Site::open(root, single_page).await?);
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(connection(TokioIo::new(stream), Arc::clone(&site), stop.clone()));
            }
            // Out of descriptors: some come back when answers end.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    connections.close();
    connections.wait().await;
    Ok(())
}

/// Serves the files of `root` on the port in the variable `PORT`, as every app does, until `SIGTERM` or `SIGINT`.
///
/// # Errors
/// When `PORT` is not a port or is taken, or `root` is no directory.
pub async fn serve_as_app(root: &Path, single_page: bool) -> io::Result<()> {
    let given = std::env::var("PORT").unwrap_or_default();
    let port: u16 = given.parse().map_err(|_| {
        let message = format!("PORT is `{given}`: set it to the port to listen on");
        io::Error::new(io::ErrorKind::InvalidInput, message)
    })?;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = CancellationToken::new();
    let asked = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
        // The server returns in its own time.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        served = serve(listener, root, single_page, stop.clone()) => served,
        () = asked => Ok(()),
    }
}

async fn connection(stream: TokioIo<tokio::net::TcpStream>, site: Arc<Site>, stop: CancellationToken) {
    let service = service_fn(move |request| {
        let site = Arc::clone(&site);
        async move { Ok::<_, Infallible>(answer(&site, &request).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
    let mut connection = std::pin::pin!(builder.serve_connection(stream, service));
    // A connection that breaks concerns only the one who broke it.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

async fn answer(site: &Site, request: &Request<Incoming>) -> Response<Body> {
    let root = &site.root;
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "Only GET and HEAD are answered here.");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let path = request.uri().path();
    let mut response = match find(root, path).await {
        Found::File(file) => {
            let mut response = send(root, file, StatusCode::OK, request.headers()).await;
            if never_changes(path) && response.status() != StatusCode::NOT_FOUND {
                // Not `public`: who may open an app is decided at each request.
                let for_good = HeaderValue::from_static("private, max-age=31536000, immutable");
                response.headers_mut().insert(CACHE_CONTROL, for_good);
            }
            response
        }
        Found::Directory => redirect(request.uri()),
        Found::Nothing => missing(site, request).await,
    };
    if request.method() == Method::HEAD {
        let length = response.body().size_hint().exact();
        if let Some(length) = length {
            response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        *response.body_mut() = full("");
    }
    response
}

/// The answer where there is no file: the page that draws what the address stands for, or that there is none.
async fn missing(site: &Site, request: &Request<Incoming>) -> Response<Body> {
    if let Some(fallback) = site.fallback.filter(|_| asks_for_a_page(request.uri().path(), request.headers()))
        && let Found::File(file) = find(&site.root, fallback).await
    {
        return send(&site.root, file, StatusCode::OK, request.headers()).await;
    }
    match find(&site.root, "/404.html").await {
        Found::File(file) => send(&site.root, file, StatusCode::NOT_FOUND, &HeaderMap::new()).await,
        _ => plain(StatusCode::NOT_FOUND, "There is no such page."),
    }
}

/// Whether somebody opens an address, rather than a page asking for a picture or data that is not there: of that, a page
/// in its place would hide that it is missing.
fn asks_for_a_page(path: &str, headers: &HeaderMap) -> bool {
    const MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
    // What is hidden, or leads elsewhere, stays what it is.
    let Some(relative) = relative(path) else { return false };
    let has_ending = relative.extension().is_some() && content_type(&relative) != UNKNOWN;
    if has_ending {
        return false;
    }
    match headers.get(MODE) {
        Some(mode) => mode == "navigate",
        None => headers.get(ACCEPT).is_none_or(|accepted| {
            accepted.to_str().is_ok_and(|text| text.contains("text/html") || text.contains("*/*"))
        }),
    }
}

enum Found {
    File(PathBuf),
    /// A directory that was asked for without the slash at its end.
    Directory,
    Nothing,
}

/// What `path`, as in a request, stands for: a file, the `index.html` of a directory, or a page without its `.html`.
async fn find(root: &Path, path: &str) -> Found {
    let Some(relative) = relative(path) else { return Found::Nothing };
    let target = root.join(&relative);
    match tokio::fs::metadata(&target).await {
        Ok(found) if found.is_dir() && path.ends_with('/') => inside(root, target.join("index.html")).await,
        Ok(found) if found.is_dir() => match inside(root, target.join("index.html")).await {
            Found::File(_) => Found::Directory,
            other => other,
        },
        Ok(_) => inside(root, target).await,
        Err(_) if !path.ends_with('/') => {
            let mut page = target.into_os_string();
            page.push(".html");
            inside(root, page.into()).await
        }
        Err(_) => Found::Nothing,
    }
}

/// The path to a file, from a request's. Nothing that leaves the root or is hidden has one.
fn relative(path: &str) -> Option<PathBuf> {
    let decoded = percent_decoded(path)?;
    if decoded.contains(['\0', '\\']) {
        return None;
    }
    let relative = PathBuf::from(decoded.trim_start_matches('/'));
    let served = relative.components().all(|part| match part {
        // What is hidden is not meant for visitors: `.env`, `.git`.
        Component::Normal(name) => name == ".well-known" || !name.to_string_lossy().starts_with('.'),
        Component::CurDir => true,
        _ => false,
    });
    served.then_some(relative)
}

fn percent_decoded(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16).map(|digit| digit as u8);
        bytes.push(digit(rest.next())? * 16 + digit(rest.next())?);
    }
    String::from_utf8(bytes).ok()
}

/// The file at `target`, if it is one, and no link took it out of `root`.
async fn inside(root: &Path, target: PathBuf) -> Found {
    let Ok(real) = tokio::fs::canonicalize(&target).await else { return Found::Nothing };
    // Opening anything else, such as a pipe, could wait forever.
    let is_file = tokio::fs::metadata(&real).await.is_ok_and(|found| found.is_file());
    if is_file && real.starts_with(root) { Found::File(real) } else { Found::Nothing }
}

/// A file that was compressed before, if there is one beside it that the client can read: the file, and how it is
/// encoded.
async fn compressed(root: &Path, path: &Path, headers: &HeaderMap) -> Option<(PathBuf, &'static str)> {
    let accepted = headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let accepts = |encoding: &str| {
        accepted.split(',').map(|one| one.split(';').map(str::trim)).any(|mut one| {
            one.next() == Some(encoding)
                && !one.any(|weight| matches!(weight, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
        })
    };
    for (encoding, ending) in [("br", ".br"), ("gzip", ".gz")] {
        let mut beside = path.as_os_str().to_owned();
        beside.push(ending);
        if accepts(encoding)
            && let Found::File(file) = inside(root, beside.into()).await
        {
            return Some((file, encoding));
        }
    }
    None
}

async fn send(root: &Path, path: PathBuf, status: StatusCode, headers: &HeaderMap) -> Response<Body> {
    let found = compressed(root, &path, headers).await;
    let (file, encoding) =
        found.map_or_else(|| (path.clone(), None), |(file, encoding)| (file, Some(encoding)));
    let Ok(mut file) = File::open(&file).await else {
        return plain(StatusCode::NOT_FOUND, "There is no such page.");
    };
    let Ok(metadata) = file.metadata().await else {
        return plain(StatusCode::NOT_FOUND, "There is no such page.");
    };
    let length = metadata.len();
    let tag = tag(length, metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH));
    let asked = headers.get(RANGE).filter(|_| status == StatusCode::OK && encoding.is_none());
    // A part of what was there before would not fit what is there now.
    let asked =
        asked.filter(|_| headers.get(IF_RANGE).is_none_or(|known| known.as_bytes() == tag.as_bytes()));
    let ranged = asked.map_or(Ranged::Whole, |asked| Ranged::read(asked.as_bytes(), length));
    let mut response = match ranged {
        _ if is_known(headers, &tag) => {
            let mut response = Response::new(full(""));
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        }
        Ranged::Nowhere => {
            let mut response = plain(StatusCode::RANGE_NOT_SATISFIABLE, "The file is shorter than that.");
            response.headers_mut().extend(header(CONTENT_RANGE, &format!("bytes */{length}")));
            response
        }
        Ranged::Part { first, last } if file.seek(io::SeekFrom::Start(first)).await.is_ok() => {
            let mut response = Response::new(contents(file, last - first + 1));
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let headers = response.headers_mut();
            headers.extend(header(CONTENT_RANGE, &format!("bytes {first}-{last}/{length}")));
            headers.insert(CONTENT_LENGTH, HeaderValue::from(last - first + 1));
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type(&path)));
            response
        }
        Ranged::Whole | Ranged::Part { .. } => {
            let mut response = Response::new(contents(file, length));
            *response.status_mut() = status;
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type(&path)));
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            response
        }
    };
    let headers = response.headers_mut();
    match encoding {
        Some(encoding) => drop(headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding))),
        None => drop(headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"))),
    }
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    // The next revision of the site is to be seen at once; asking costs little.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.extend(header(ETAG, &tag));
    response
}

fn header(name: HeaderName, value: &str) -> Option<(HeaderName, HeaderValue)> {
    HeaderValue::from_str(value).ok().map(|value| (name, value))
}

/// Whether the client has this already.
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').map(str::trim).any(|given| given == tag || given == "*"))
}

fn tag(length: u64, modified: SystemTime) -> String {
    let since = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("\"{:x}-{:x}\"", length, since.as_nanos())
}

/// The next `length` bytes of `file`: what was announced, also when the file grows meanwhile.
fn contents(file: File, length: u64) -> Body {
    let chunks = try_unfold(file.take(length), |mut file| async move {
        let mut chunk = Vec::with_capacity(CHUNK);
        let count = file.read_buf(&mut chunk).await?;
        Ok((count > 0).then(|| (Frame::data(Bytes::from(chunk)), file)))
    });
    StreamBody::new(chunks).boxed()
}

fn redirect(uri: &http::Uri) -> Response<Body> {
    // Only the last part of the path, so that it leads nowhere else, whatever the path begins with.
    let name = uri.path().rsplit('/').next().unwrap_or_default();
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut response = plain(StatusCode::MOVED_PERMANENTLY, "It is a directory.");
    if let Ok(location) = HeaderValue::from_str(&format!("./{name}/{query}")) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(full(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn full(text: &'static str) -> Body {
    Full::new(Bytes::from_static(text.as_bytes())).map_err(|never| match never {}).boxed()
}
