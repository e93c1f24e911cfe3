//! A provider that answers whatever a test wants, also what no provider should.

use std::collections::HashMap;
use std::sync::Mutex;

use axum::Json;
use axum::extract::{Form, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::*;

/// A key of a provider.
pub(super) struct Key {
    pub(super) id: String,
    pub(super) signs: EncodingKey,
}

impl Key {
    pub(super) fn new(id: &str) -> Self {
        let pair = rcgen::KeyPair::generate().unwrap();
        Self { id: id.to_owned(), signs: EncodingKey::from_ec_der(&pair.serialize_der()) }
    }

    pub(super) fn published(&self) -> Value {
        let mut key = Jwk::from_encoding_key(&self.signs, Algorithm::ES256).unwrap();
        key.common.key_id = Some(self.id.clone());
        serde_json::to_value(key).unwrap()
    }

    pub(super) fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.id.clone());
        jsonwebtoken::encode(&header, claims, &self.signs).unwrap()
    }
}

/// What the provider answers next.
#[derive(Default)]
pub(super) struct Says {
    pub(super) configuration: Option<Response>,
    pub(super) keys: Option<Response>,
    pub(super) tokens: Option<Response>,
    pub(super) userinfo: Option<Value>,
    pub(super) asked_for_keys: usize,
    pub(super) last_form: HashMap<String, String>,
}

pub(super) struct FakeProvider {
    pub(super) issuer: String,
    pub(super) key: Key,
    pub(super) says: Arc<Mutex<Says>>,
}

impl FakeProvider {
    pub(super) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let (says, key) = (Arc::new(Mutex::new(Says::default())), Key::new("first"));
        let published = Arc::new((issuer.clone(), json!({"keys": [key.published()]})));
        let router = axum::Router::new()
            .route("/.well-known/openid-configuration", get(configuration))
            .route("/keys", get(keys))
            .route("/token", post(token))
            .route("/me", get(me))
            .with_state((Arc::clone(&says), published));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { issuer, key, says }
    }

    pub(super) fn configuration(issuer: &str) -> Value {
        json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{issuer}/auth"),
            "token_endpoint": format!("{issuer}/token"),
            "jwks_uri": format!("{issuer}/keys"),
            "userinfo_endpoint": format!("{issuer}/me"),
        })
    }

    /// The claims of an honest token for a sign-in that was begun at this address.
    pub(super) fn claims(&self, there: &url::Url) -> Value {
        let now = jiff::Timestamp::now().as_second();
        json!({
            "iss": self.issuer,
            "sub": "42",
            "aud": "marmot",
            "exp": now + 60,
            "iat": now,
            "nonce": asked(there, "nonce"),
            "preferred_username": "mallory",
        })
    }

    pub(super) fn says(&self) -> std::sync::MutexGuard<'_, Says> {
        self.says.lock().unwrap()
    }

    /// Answers with this token from now on.
    pub(super) fn gives(&self, token: &str) {
        self.says().tokens = Some(Json(json!({"id_token": token})).into_response());
    }
}

/// What was asked for in the query of an address.
pub(super) fn asked(there: &url::Url, name: &str) -> String {
    let mut found = there.query_pairs().filter(|(found, _)| found == name);
    found.next().unwrap().1.into_owned()
}

type Shared = (Arc<Mutex<Says>>, Arc<(String, Value)>);

async fn configuration(State((says, published)): State<Shared>) -> Response {
    let said = says.lock().unwrap().configuration.take();
    said.unwrap_or_else(|| Json(FakeProvider::configuration(&published.0)).into_response())
}

async fn keys(State((says, published)): State<Shared>) -> Response {
    let mut says = says.lock().unwrap();
    says.asked_for_keys += 1;
    says.keys.take().unwrap_or_else(|| Json(published.1.clone()).into_response())
}

async fn token(State((says, _)): State<Shared>, Form(form): Form<HashMap<String, String>>) -> Response {
    let mut says = says.lock().unwrap();
    says.last_form = form;
    says.tokens
        .take()
        .unwrap_or_else(|| (StatusCode::BAD_REQUEST, "{\"error\":\"invalid_grant\"}").into_response())
}

async fn me(State((says, _)): State<Shared>) -> Response {
    Json(says.lock().unwrap().userinfo.clone().unwrap_or_default()).into_response()
}
