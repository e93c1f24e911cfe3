//! The pages as a browser asks for them: through the router, with cookies, over a real database.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode, header};
use futures_util::StreamExt;
use marmot_gateway::{Identities, IdentityKey, Tickets};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::model::{BuildResult, Secret};
use crate::service::{BuildEnd, NewUser, Service};
use crate::testing::Bench;
use crate::web;

mod account;
mod flow;
mod gallery;
mod groups;
mod hostile;
mod language;
mod large;
mod live;
mod more_settings;
mod naughty;
mod new_launcher;
mod oidc;
mod opening;
mod people;
mod plan;
mod previews;
mod secrets;
mod usage;
mod words;

const HOME: &str = "http://localhost:8080";
const PASSWORD: &str = "correct horse battery";

/// The platform's pages, with `ada` and `bob` as people.
struct Platform {
    router: Router,
    service: Service,
    tickets: Arc<Tickets>,
    stop: CancellationToken,
    bench: Bench,
}

/// Somebody's browser.
#[derive(Clone, Default)]
struct Browser {
    cookie: Option<String>,
    part: bool,
    /// The languages that it asks for.
    asks: Option<&'static str>,
}

struct Answer {
    status: StatusCode,
    location: Option<String>,
    headers: axum::http::HeaderMap,
    text: String,
}

impl Platform {
    async fn new() -> Self {
        Self::at(HOME).await
    }

    async fn at(public_url: &str) -> Self {
        Self::with(public_url, |_| {}).await
    }

    /// With other options than usual.
    async fn with(public_url: &str, change: impl FnOnce(&mut crate::service::Options)) -> Self {
        let bench = Bench::with(|options| {
            options.public_url = public_url.to_owned();
            options.containers = false;
            options.allow_local_repositories = true;
            change(options);
        })
        .await;
        let service = bench.service.clone();
        for name in ["ada", "bob"] {
            let new = NewUser {
                username: name.parse().unwrap(),
                password: Some(Secret::new(PASSWORD)),
                is_admin: false,
                email: None,
                first_name: None,
                last_name: None,
            };
            service.create_user(new).await.unwrap();
        }
        let (stop, tickets) = (CancellationToken::new(), Arc::new(Tickets::new([7; 32])));
        let identities = identities(public_url);
        let demo = web::Demo { code: Secret::new("letmein"), username: "ada".parse().unwrap() };
        let options =
            web::Options { demo: Some(demo), tickets: Arc::clone(&tickets), identities, stop: stop.clone() };
        let router = web::router(service.clone(), options);
        Self { router, service, tickets, stop, bench }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let location = head.headers.get(header::LOCATION).map(|value| value.to_str().unwrap().to_owned());
        let text = String::from_utf8(to_bytes(body, 4 << 20).await.unwrap().to_vec()).unwrap();
        Answer { status: head.status, location, headers: head.headers, text }
    }

    /// Every build that is wanted succeeds, of this commit.
    async fn build_succeeds(&self, commit: &str) {
        for build in self.service.picture().await.unwrap().builds {
            let result = BuildResult { commit: Some(commit.to_owned()), ..BuildResult::default() };
            assert!(self.service.build_ended(build.id, BuildEnd::Succeeded(result)).await.unwrap());
        }
    }

    /// A browser in which this person has signed in, as they would.
    async fn browser_of(&self, username: &str) -> Browser {
        let mut browser = Browser::default();
        let form = [("username", username), ("password", PASSWORD), ("next", "/")];
        let answer = browser.post(self, "/sign-in", &form).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
        browser.keep(&answer);
        browser
    }

    /// A project of ada's with one launcher; their paths.
    async fn with_launcher(&self, ada: &Browser, visibility: &str) -> (String, String) {
        let form = [("name", "Ice cores"), ("visibility", visibility)];
        let project = ada.post(self, "/projects/new", &form).await.location.unwrap();
        let form = [
            ("type", "app"),
            ("source", "code"),
            ("name", "Explorer"),
            ("repository", "https://github.com/ada/ice"),
            ("resource_class", "1"),
        ];
        let shown = ada.post(self, &format!("{project}/launchers/new"), &form).await;
        let id =
            shown.location.as_deref().and_then(|at| at.split_once("#launcher-")).map(|(_, id)| id.to_owned());
        let id = id.unwrap_or_else(|| panic!("{}", shown.text));
        (project.clone(), format!("{project}/launchers/{id}"))
    }
}

impl Browser {
    fn request(&self, method: Method, path: &str) -> axum::http::request::Builder {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(cookie) = &self.cookie {
            request = request.header(header::COOKIE, cookie);
        }
        if self.part {
            request = request.header("hx-request", "true");
        }
        if let Some(languages) = self.asks {
            request = request.header(header::ACCEPT_LANGUAGE, languages);
        }
        request
    }

    async fn get(&self, platform: &Platform, path: &str) -> Answer {
        platform.send(self.request(Method::GET, path).body(Body::empty()).unwrap()).await
    }

    async fn post(&self, platform: &Platform, path: &str, form: &[(&str, &str)]) -> Answer {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = self
            .request(Method::POST, path)
            .header(header::ORIGIN, HOME)
            .header("sec-fetch-site", "same-origin")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        platform.send(request.body(Body::from(body)).unwrap()).await
    }

    /// Takes the cookie that came with an answer.
    fn keep(&mut self, answer: &Answer) {
        let set = answer.headers.get(header::SET_COOKIE).unwrap().to_str().unwrap();
        self.cookie = Some(set.split(';').next().unwrap().to_owned());
    }

    /// The same browser, asking as the script does.
    fn script(&self) -> Self {
        Self { part: true, ..self.clone() }
    }
}

impl Answer {
    #[track_caller]
    fn shows(&self, text: &str) -> &Self {
        assert!(self.text.contains(text), "{text:?} is not in {}", self.text);
        self
    }

    #[track_caller]
    fn hides(&self, text: &str) -> &Self {
        assert!(!self.text.contains(text), "{text:?} is in {}", self.text);
        self
    }

    #[track_caller]
    fn is(&self, status: StatusCode) -> &Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }
}

/// What tells apps who visits, with a key of its own.
fn identities(public_url: &str) -> Arc<Identities> {
    let key = IdentityKey::read(&IdentityKey::generate().unwrap()).unwrap();
    Arc::new(Identities::new(public_url, key.clone(), [&key]))
}
