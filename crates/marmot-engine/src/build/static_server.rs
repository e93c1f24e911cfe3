//! A small server of files, which is how a static site runs: as a replica like any other.

use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::stream::try_unfold;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, LOCATION,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Body as _, Bytes, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

type Body = BoxBody<Bytes, io::Error>;

/// How much of a file is read at once.
const CHUNK: usize = 64 << 10;

/// How long a connection may take to send the head of a request. The gateway, which is all that connects, sends it at
/// once.
const HEAD_TIME: Duration = Duration::from_secs(30);

/// Serves the files of `root` on `listener` until `stop`; then finishes the answers under way.
///
/// # Errors
/// When `root` is no directory.
pub async fn serve(listener: TcpListener, root: &Path, stop: CancellationToken) -> io::Result<()> {
    let root: Arc<Path> = tokio::fs::canonicalize(root).await?.into();
    if !root.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(connection(TokioIo::new(stream), Arc::clone(&root), stop.clone()));
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
pub async fn serve_as_app(root: &Path) -> io::Result<()> {
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
        served = serve(listener, root, stop.clone()) => served,
        () = asked => Ok(()),
    }
}

async fn connection(stream: TokioIo<tokio::net::TcpStream>, root: Arc<Path>, stop: CancellationToken) {
    let service = service_fn(move |request| {
        let root = Arc::clone(&root);
        async move { Ok::<_, Infallible>(answer(&root, &request).await) }
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

async fn answer(root: &Path, request: &Request<Incoming>) -> Response<Body> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "Only GET and HEAD are answered here.");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let mut response = match find(root, request.uri().path()).await {
        Found::File(file) => send(file, StatusCode::OK, request.headers()).await,
        Found::Directory => redirect(request.uri()),
        Found::Nothing => match find(root, "/404.html").await {
            Found::File(file) => send(file, StatusCode::NOT_FOUND, &HeaderMap::new()).await,
            _ => plain(StatusCode::NOT_FOUND, "There is no such page."),
        },
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

async fn send(path: PathBuf, status: StatusCode, headers: &HeaderMap) -> Response<Body> {
    let Ok(file) = File::open(&path).await else {
        return plain(StatusCode::NOT_FOUND, "There is no such page.");
    };
    let Ok(metadata) = file.metadata().await else {
        return plain(StatusCode::NOT_FOUND, "There is no such page.");
    };
    let tag = tag(metadata.len(), metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH));
    let unchanged = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|given| given.trim() == tag || given.trim() == "*"));
    let mut response = if unchanged {
        let mut response = Response::new(full(""));
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        let mut response = Response::new(contents(file, metadata.len()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type(&path)));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(metadata.len()));
        response
    };
    let headers = response.headers_mut();
    // The next revision of the site is to be seen at once; asking costs little.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.extend(HeaderValue::from_str(&tag).ok().map(|tag| (ETAG, tag)));
    response
}

fn tag(length: u64, modified: SystemTime) -> String {
    let since = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("\"{:x}-{:x}\"", length, since.as_nanos())
}

/// The first `length` bytes of `file`: what was announced, also when the file grows meanwhile.
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

/// What browsers need to be told. Whatever is not listed is downloaded.
fn content_type(path: &Path) -> &'static str {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" | "map" | "geojson" | "ipynb" => "application/json",
        "webmanifest" => "application/manifest+json",
        "xml" | "rss" | "atom" => "application/xml",
        "txt" | "md" | "log" => "text/plain; charset=utf-8",
        "csv" => "text/csv; charset=utf-8",
        "tsv" => "text/tab-separated-values; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "ico" => "image/x-icon",
        "woff" => "font/woff",
        "woff2" => "font/woff2",
        "ttf" => "font/ttf",
        "otf" => "font/otf",
        "wasm" => "application/wasm",
        "pdf" => "application/pdf",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        "mp3" => "audio/mpeg",
        "wav" => "audio/wav",
        "ogg" => "audio/ogg",
        _ => "application/octet-stream",
    }
}
