//! The API through its front door: the router in this process, over a real database file, with an engine whose
//! picture the test paints.

mod accounts;
mod apps;
mod bad_input;
mod groups;
mod limits;
mod matrix;
mod once;
mod opening;
mod people;
mod plans;
mod previews;
mod projects;
mod scaling;
mod secrets;
mod usage;

use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Method, Request, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::model::Secret;
use crate::service::{Identity, NewProject, NewToken, NewUser, Service};
use crate::testing::Bench;

/// The platform, without an engine: the test says what is observed.
struct Platform {
    router: Router,
    service: Service,
    bench: Bench,
}

/// An answer of the API.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Platform {
    async fn new() -> Self {
        Self::on(Bench::new().await)
    }

    fn on(bench: Bench) -> Self {
        Self { router: super::router(bench.service.clone()), service: bench.service.clone(), bench }
    }

    /// A person with a password, and the token of a client of that person.
    async fn user(&self, name: &str) -> String {
        let who = Identity::User(self.bench.user(name).await);
        let (_, text) = self.service.create_token(&who, NewToken::unlimited("test")).await.unwrap();
        text.reveal().to_owned()
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 1 << 24).await.unwrap();
        let mut body = serde_json::from_slice(&body)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into_owned()));
        // In one order, whatever features of the library some dependency asks for.
        body.sort_all_objects();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    fn request(&self, method: Method, path: &str, token: &str, body: Option<Value>) -> Request<Body> {
        let mut request = Request::builder().method(method).uri(format!("/api/data{path}"));
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        match body {
            Some(body) => {
                request.header("content-type", "application/json").body(Body::from(body.to_string())).unwrap()
            }
            None => request.body(Body::empty()).unwrap(),
        }
    }

    async fn get(&self, path: &str, token: &str) -> Answer {
        self.send(self.request(Method::GET, path, token, None)).await
    }

    async fn post(&self, path: &str, token: &str, body: Value) -> Answer {
        self.send(self.request(Method::POST, path, token, Some(body))).await
    }

    async fn patch(&self, path: &str, token: &str, body: Value) -> Answer {
        self.send(self.request(Method::PATCH, path, token, Some(body))).await
    }

    async fn delete(&self, path: &str, token: &str) -> Answer {
        self.send(self.request(Method::DELETE, path, token, None)).await
    }

    async fn project(&self, token: &str, name: &str, visibility: &str) -> String {
        let made = self.post("/projects", token, json!({"name": name, "visibility": visibility})).await;
        made.is(StatusCode::CREATED).text("id")
    }

    /// A launcher of code; the whole answer.
    async fn launcher(&self, token: &str, project: &str, name: &str) -> Value {
        let launcher = json!({
            "project_id": project,
            "name": name,
            "launcher_type": "app",
            "env_variables": [{"name": "GREETING", "value": "hello"}],
            "environment": {"environment_image_source": "build", "repository": "https://example.org/iris.git"},
        });
        self.post("/session_launchers", token, launcher).await.is(StatusCode::CREATED).body
    }
}

impl Answer {
    #[track_caller]
    fn is(self, status: StatusCode) -> Self {
        assert_eq!(self.status, status, "{}", self.body);
        self
    }

    #[track_caller]
    fn text(&self, field: &str) -> String {
        self.body[field].as_str().unwrap_or_else(|| panic!("no `{field}` in {}", self.body)).to_owned()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    /// The message of a refusal.
    #[track_caller]
    fn message(&self) -> &str {
        assert_eq!(self.body["error"]["code"], 1000 + self.status.as_u16());
        assert_eq!(self.body["error"]["trace_id"].as_str().map(str::len), Some(26));
        self.body["error"]["message"].as_str().unwrap()
    }
}

/// Compares JSON with what is written in the test; ids and times are replaced by words.
macro_rules! assert_json {
    ($value:expr, @$snapshot:literal) => {{
        let text = serde_json::to_string_pretty(&$value).unwrap();
        insta::with_settings!({filters => vec![
            (r"[0-7][0-9A-HJKMNP-TV-Z]{25}", "[ID]"),
            (r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "[TIME]"),
        ]}, { insta::assert_snapshot!(text, @$snapshot) })
    }};
}
use assert_json;

#[test]
fn the_api_document_changes_only_on_purpose() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    let document = super::openapi().to_pretty_json().unwrap() + "\n";
    if std::env::var_os("MARMOT_UPDATE").is_some() {
        std::fs::write(&path, &document).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == document,
        "crates/marmot/openapi.json is out of date: MARMOT_UPDATE=1 cargo test -p marmot api_document"
    );
}

#[tokio::test]
async fn the_api_document_is_served_and_health_is_told() {
    let platform = Platform::new().await;
    let document = platform.get("/spec.json", "").await.is(StatusCode::OK);
    assert_eq!(document.body["openapi"].as_str().map(|version| &version[..2]), Some("3."));
    for path in ["/healthz", "/readyz", "/metrics"] {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        platform.send(request).await.is(StatusCode::OK);
    }
}
