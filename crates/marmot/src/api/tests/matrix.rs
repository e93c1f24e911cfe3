//! Every route of the API document × everybody who may come × private and public, against a table. A route without a row
//! fails: whoever adds one says here who may use it.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::*;
use crate::model::{Access, BuildResult, Page, User};
use crate::service::{BuildEnd, UserPatch};

/// Everybody who may come, in the order of the table's columns.
const CALLERS: [&str; 10] = [
    "anonymous",
    "somebody else",
    "viewer",
    "editor",
    "owner",
    "administrator",
    "owner's expired token",
    "owner's read-only token",
    "owner's token of another project",
    "disabled owner",
];

/// What a route asks for, and the answers: on something private, then on something public, for each of [`CALLERS`].
/// `2`: done; `1`, `3`, `4`: 401, 403, 404.
#[rustfmt::skip]
const TABLE: &[(Needs, &str, &str)] = &[
    (Needs::Nothing,      "2222222222", "2222222222"),
    (Needs::Nobody,       "2222221221", "2222221221"),
    (Needs::See,          "4422221241", "2222221221"),
    (Needs::ReadLogs,     "4422221241", "1322221231"),
    (Needs::Change,       "4432221341", "1332221331"),
    (Needs::Inspect,      "4433221241", "1333221231"),
    (Needs::Govern,       "4433221341", "1333221331"),
    (Needs::Introduce,    "1222221221", "1222221221"),
    (Needs::LookAround,   "1222221231", "1222221231"),
    (Needs::ActAsOneself, "1222221331", "1222221331"),
    (Needs::Administer,   "1333321331", "1333321331"),
    (Needs::GroupMembers, "1322221231", "1322221231"),
    (Needs::GroupGovern,  "1333221331", "1333221331"),
    (Needs::Proof,        "1111111111", "1111111111"),
];

/// Looks at code, and changes nothing.
const LOOK: &str = "/build_plans";

/// What a route asks for of who comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// Nothing: nobody is even looked at.
    Nothing,
    /// Nothing, but what is shown as a credential must be one.
    Nobody,
    See,
    ReadLogs,
    Change,
    Inspect,
    Govern,
    Introduce,
    LookAround,
    ActAsOneself,
    Administer,
    GroupMembers,
    GroupGovern,
    /// A signature: who is signed in makes no difference.
    Proof,
}

/// What each route asks for, and a body that makes sense to it.
fn routes() -> Vec<(&'static str, &'static str, Needs, Value)> {
    let none = Value::Null;
    let code = json!({"environment_image_source": "build", "repository": "https://example.org/x.git"});
    vec![
        ("GET", "/apps", Needs::Nobody, none.clone()),
        ("POST", "/apps", Needs::Change, json!({"launcher_id": "{idle}"})),
        ("GET", "/apps/{name}", Needs::See, none.clone()),
        ("PATCH", "/apps/{name}", Needs::Change, json!({"state": "running"})),
        ("DELETE", "/apps/{name}", Needs::Change, none.clone()),
        ("GET", "/apps/{name}/events", Needs::ReadLogs, none.clone()),
        ("GET", "/apps/{name}/logs", Needs::ReadLogs, none.clone()),
        ("POST", "/apps/{name}/restart", Needs::Change, none.clone()),
        ("GET", "/apps/{name}/revisions", Needs::See, none.clone()),
        ("POST", "/apps/{name}/revisions/{revision_id}/activate", Needs::Change, none.clone()),
        ("GET", "/apps/{name}/scaling", Needs::See, none.clone()),
        ("PUT", "/apps/{name}/scaling", Needs::Change, json!({})),
        ("GET", "/apps/{name}/traffic", Needs::ReadLogs, none.clone()),
        ("PUT", "/apps/{name}/traffic", Needs::Change, json!({"body_limit_bytes": 1000})),
        ("GET", "/apps/{name}/requests", Needs::ReadLogs, none.clone()),
        ("GET", "/apps/{name}/usage", Needs::ReadLogs, none.clone()),
        ("GET", "/audit", Needs::Administer, none.clone()),
        ("GET", "/audit/export", Needs::Administer, none.clone()),
        (
            "POST",
            "/build_plans",
            Needs::Change,
            json!({"project_id": "{project_id}", "repository": "http://127.0.0.1:1/x.git"}),
        ),
        ("GET", "/builds/{build_id}", Needs::See, none.clone()),
        ("PATCH", "/builds/{build_id}", Needs::Change, json!({"status": "cancelled"})),
        ("GET", "/builds/{build_id}/logs", Needs::ReadLogs, none.clone()),
        ("GET", "/environments/{environment_id}/builds", Needs::See, none.clone()),
        ("POST", "/environments/{environment_id}/builds", Needs::Change, none.clone()),
        ("GET", "/groups", Needs::LookAround, none.clone()),
        ("POST", "/groups", Needs::ActAsOneself, json!({"name": "New", "slug": "{fresh}"})),
        ("GET", "/groups/{slug}", Needs::LookAround, none.clone()),
        ("PATCH", "/groups/{slug}", Needs::GroupGovern, json!({"name": "Other"})),
        ("DELETE", "/groups/{slug}", Needs::GroupGovern, none.clone()),
        ("GET", "/groups/{slug}/members", Needs::GroupMembers, none.clone()),
        (
            "PATCH",
            "/groups/{slug}/members",
            Needs::GroupGovern,
            json!([{"username": "other", "role": "viewer"}]),
        ),
        ("GET", "/namespaces/{namespace}/projects/{slug}", Needs::See, none.clone()),
        ("GET", "/projects", Needs::Nobody, none.clone()),
        ("POST", "/projects", Needs::ActAsOneself, json!({"name": "{fresh}"})),
        ("GET", "/projects/{project_id}", Needs::See, none.clone()),
        ("PATCH", "/projects/{project_id}", Needs::Change, json!({"description": "other"})),
        ("DELETE", "/projects/{project_id}", Needs::Govern, none.clone()),
        ("GET", "/projects/{project_id}/audit", Needs::Inspect, none.clone()),
        ("GET", "/projects/{project_id}/audit/export", Needs::Inspect, none.clone()),
        ("GET", "/projects/{project_id}/limits", Needs::ReadLogs, none.clone()),
        ("PATCH", "/projects/{project_id}/limits", Needs::Administer, json!({"builds_per_hour": 1000})),
        ("GET", "/projects/{project_id}/members", Needs::ReadLogs, none.clone()),
        (
            "PATCH",
            "/projects/{project_id}/members",
            Needs::Govern,
            json!([{"username": "other", "role": "viewer"}]),
        ),
        ("GET", "/projects/{project_id}/session_launchers", Needs::See, none.clone()),
        ("GET", "/projects/{project_id}/secrets", Needs::Change, none.clone()),
        ("PUT", "/projects/{project_id}/secrets/{secret}", Needs::Change, json!({"value": "x"})),
        ("DELETE", "/projects/{project_id}/secrets/{secret}", Needs::Change, none.clone()),
        ("GET", "/projects/{project_id}/credentials", Needs::Change, none.clone()),
        (
            "POST",
            "/projects/{project_id}/credentials",
            Needs::Change,
            json!({"kind": "git", "host": "example.org", "secret": "x"}),
        ),
        ("DELETE", "/projects/{project_id}/credentials/{credential_id}", Needs::Change, none.clone()),
        ("GET", "/session_launchers/{launcher_id}/secrets", Needs::Change, none.clone()),
        ("PUT", "/session_launchers/{launcher_id}/secrets/{secret}", Needs::Change, json!({"value": "x"})),
        ("DELETE", "/session_launchers/{launcher_id}/secrets/{secret}", Needs::Change, none.clone()),
        ("GET", "/session_launchers/{launcher_id}/webhook", Needs::Change, none.clone()),
        ("POST", "/session_launchers/{launcher_id}/webhook", Needs::Change, none.clone()),
        ("DELETE", "/session_launchers/{launcher_id}/webhook", Needs::Change, none.clone()),
        ("GET", "/session_launchers/{launcher_id}/previews", Needs::See, none.clone()),
        ("POST", "/session_launchers/{launcher_id}/previews", Needs::Change, json!({"branch": "new"})),
        (
            "PATCH",
            "/session_launchers/{launcher_id}/previews/{preview_id}",
            Needs::Change,
            json!({"days": 2}),
        ),
        ("DELETE", "/session_launchers/{launcher_id}/previews/{preview_id}", Needs::Change, none.clone()),
        ("GET", "/session_launchers/{launcher_id}/following", Needs::ReadLogs, none.clone()),
        ("PATCH", "/session_launchers/{launcher_id}/following", Needs::Change, json!({"poll_minutes": 5})),
        ("POST", "/hooks/{launcher_id}", Needs::Proof, none.clone()),
        ("GET", "/apps/{name}/access", Needs::ReadLogs, none.clone()),
        ("PUT", "/apps/{name}/access", Needs::Govern, json!({"open_to": "signed_in"})),
        ("GET", "/apps/{name}/share_links", Needs::Change, none.clone()),
        ("POST", "/apps/{name}/share_links", Needs::Change, json!({"name": "New"})),
        ("DELETE", "/apps/{name}/share_links/{link_id}", Needs::Change, none.clone()),
        ("GET", "/apps/{name}/app_keys", Needs::Change, none.clone()),
        ("POST", "/apps/{name}/app_keys", Needs::Change, json!({"name": "New"})),
        ("DELETE", "/apps/{name}/app_keys/{key_id}", Needs::Change, none.clone()),
        ("GET", "/resource_classes", Needs::Nobody, none.clone()),
        ("GET", "/session_launchers", Needs::Nobody, none.clone()),
        (
            "POST",
            "/session_launchers",
            Needs::Change,
            json!({"project_id": "{project_id}", "name": "New", "launcher_type": "app", "environment": code}),
        ),
        ("GET", "/session_launchers/{launcher_id}", Needs::See, none.clone()),
        ("PATCH", "/session_launchers/{launcher_id}", Needs::Change, json!({"name": "Other"})),
        ("DELETE", "/session_launchers/{launcher_id}", Needs::Change, none.clone()),
        ("GET", "/user", Needs::Introduce, none.clone()),
        ("GET", "/user/sessions", Needs::LookAround, none.clone()),
        ("DELETE", "/user/sessions/{session_id}", Needs::ActAsOneself, none.clone()),
        ("GET", "/user/tokens", Needs::LookAround, none.clone()),
        ("POST", "/user/tokens", Needs::ActAsOneself, json!({"name": "New"})),
        ("DELETE", "/user/tokens/{token_id}", Needs::ActAsOneself, none.clone()),
        ("GET", "/users", Needs::Administer, none.clone()),
        ("POST", "/users", Needs::Administer, json!({"username": "{fresh}"})),
        ("GET", "/users/{user_id}", Needs::Administer, none.clone()),
        ("PATCH", "/users/{user_id}", Needs::Administer, json!({"disabled": true})),
        ("DELETE", "/users/{user_id}", Needs::Administer, none.clone()),
        ("POST", "/users/{user_id}/password_link", Needs::Administer, none),
    ]
}

/// Everybody, with a token each.
struct People {
    platform: Platform,
    root: Identity,
    owner: User,
    tokens: Vec<String>,
    /// Whose token each is; the first is nobody's.
    users: Vec<User>,
    count: std::cell::Cell<u32>,
}

impl People {
    async fn new() -> Self {
        let platform = Platform::new().await;
        let mut users = Vec::new();
        for name in ["other", "viewer", "editor", "owner", "root", "disabled"] {
            users.push(platform.plain_user(name).await);
        }
        let [other, viewer, editor, owner, root, disabled] = users.try_into().unwrap();
        let token = async |user: &User, change: &dyn Fn(&mut NewToken)| {
            let mut new = NewToken::unlimited("test");
            change(&mut new);
            platform.service.create_token(&Identity::User(user.clone()), new).await.unwrap().1
        };
        let all = &|_: &mut NewToken| {};
        let elsewhere = NewProject { name: "Elsewhere".to_owned(), ..NewProject::default() };
        let elsewhere =
            platform.service.create_project(&Identity::User(owner.clone()), elsewhere).await.unwrap().id;
        let mut tokens = vec![Secret::new("")];
        for user in [&other, &viewer, &editor, &owner, &root] {
            tokens.push(token(user, all).await);
        }
        tokens.push(
            token(&owner, &|new| new.expires_at = Some(Timestamp::now() + Duration::from_secs(1))).await,
        );
        tokens.push(token(&owner, &|new| new.access = Access::Read).await);
        tokens.push(token(&owner, &|new| new.project = Some(elsewhere)).await);
        tokens.push(token(&disabled, all).await);
        while platform.service.identify_token(&tokens[6]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let patch = UserPatch { disabled: Some(true), ..UserPatch::default() };
        platform.service.change_person(&Identity::User(root.clone()), disabled.id, patch).await.unwrap();
        let users = vec![
            other.clone(),
            other,
            viewer,
            editor,
            owner.clone(),
            root.clone(),
            owner.clone(),
            owner.clone(),
            owner.clone(),
            disabled,
        ];
        let tokens = tokens.iter().map(|token| token.reveal().to_owned()).collect();
        Self { platform, root: Identity::User(root), owner, tokens, users, count: 0.into() }
    }

    fn fresh(&self) -> String {
        self.count.set(self.count.get() + 1);
        format!("fresh-{}", self.count.get())
    }

    /// Things to do something with: what stands for each `{…}` in a path or body.
    async fn things(&self, visibility: &str, caller: usize, path: &str) -> Vec<(&'static str, String)> {
        let owner = self.tokens[4].as_str();
        let platform = &self.platform;
        let project = json!({"name": self.fresh(), "visibility": visibility});
        let project = platform.post("/projects", owner, project).await.is(StatusCode::CREATED);
        let (project, slug) = (project.text("id"), project.text("slug"));
        let members = json!([
            {"username": "viewer", "role": "viewer"},
            {"username": "editor", "role": "editor"},
            {"username": "disabled", "role": "owner"},
        ]);
        platform
            .patch(&format!("/projects/{project}/members"), owner, members.clone())
            .await
            .is(StatusCode::OK);
        let mut launchers = Vec::new();
        for name in ["On", "Building", "Idle"] {
            launchers.push(platform.launcher(owner, &project, &format!("{name} {}", self.fresh())).await);
        }
        let id = |launcher: &Value| launcher["id"].as_str().unwrap().to_owned();
        let environment = |launcher: &Value| launcher["environment"]["id"].as_str().unwrap().to_owned();
        let on = json!({"launcher_id": id(&launchers[0])});
        let name = platform.post("/apps", owner, on).await.is(StatusCode::CREATED).text("name");
        let builds =
            platform.get(&format!("/environments/{}/builds", environment(&launchers[0])), owner).await;
        let build = builds.body[0]["id"].as_str().unwrap().parse().unwrap();
        platform.service.build_ended(build, BuildEnd::Succeeded(BuildResult::default())).await.unwrap();
        let revisions = platform.get(&format!("/apps/{name}/revisions"), owner).await;
        let revision = revisions.body[0]["id"].as_str().unwrap().to_owned();
        let builds = format!("/environments/{}/builds", environment(&launchers[1]));
        let build = platform.post(&builds, owner, json!({})).await.is(StatusCode::CREATED).text("id");
        let idle = id(&launchers[2]);
        // Making them takes most of this test's time: only those that are asked for.
        let asked_for = |what: &str| path.contains(what);
        let make = async |path: String, body: Value| {
            platform.post(&path, owner, body).await.is(StatusCode::CREATED).text("id")
        };
        if asked_for("{secret}") {
            for of in [format!("/projects/{project}"), format!("/session_launchers/{idle}")] {
                let secret = json!({"value": "x"});
                platform.put(&format!("{of}/secrets/KEPT"), owner, secret).await.is(StatusCode::OK);
            }
        }
        if asked_for("/webhook") || asked_for("/hooks") {
            let webhook = format!("/session_launchers/{idle}/webhook");
            platform.post(&webhook, owner, json!({})).await.is(StatusCode::CREATED);
        }
        let mut credential = NOWHERE.to_owned();
        if asked_for("{credential_id}") {
            let host = json!({"kind": "git", "host": "git.example.org", "secret": "x"});
            credential = make(format!("/projects/{project}/credentials"), host).await;
        }
        let mut preview = NOWHERE.to_owned();
        if asked_for("{preview_id}") {
            preview = make(format!("/session_launchers/{idle}/previews"), json!({"branch": "dev"})).await;
        }
        let (mut link, mut key) = (NOWHERE.to_owned(), NOWHERE.to_owned());
        if asked_for("/share_links") {
            let open_to = json!({"open_to": "link"});
            platform.put(&format!("/apps/{name}/access"), owner, open_to).await.is(StatusCode::OK);
            link = make(format!("/apps/{name}/share_links"), json!({"name": "Kept"})).await;
        }
        if asked_for("{key_id}") {
            key = make(format!("/apps/{name}/app_keys"), json!({"name": "Kept"})).await;
        }
        let group = self.fresh();
        if asked_for("/groups") {
            let new = json!({"name": "Group", "slug": group});
            platform.post("/groups", owner, new).await.is(StatusCode::CREATED);
            platform.patch(&format!("/groups/{group}/members"), owner, members).await.is(StatusCode::OK);
        }
        let user = &self.users[caller];
        let victim = platform.plain_user(&self.fresh()).await;
        let (mut token, mut session) = (String::new(), String::new());
        if user.username.as_str() != "disabled" {
            let who = Identity::User(user.clone());
            let new = NewToken::unlimited("more");
            token = platform.service.create_token(&who, new).await.unwrap().0.id.to_string();
            platform.service.start_session(user.clone()).await.unwrap();
            session = platform.service.sessions(&who, None).await.unwrap()[0].0.id.to_string();
        }
        vec![
            ("{project_id}", project),
            ("{namespace}/projects/{slug}", format!("{}/projects/{slug}", self.owner.username)),
            ("{slug}", group),
            ("{launcher_id}", id(&launchers[2])),
            ("{idle}", idle),
            ("{secret}", "KEPT".to_owned()),
            ("{credential_id}", credential),
            ("{preview_id}", preview),
            ("{link_id}", link),
            ("{key_id}", key),
            ("{environment_id}", environment(&launchers[2])),
            ("{build_id}", build),
            ("{name}", name),
            ("{revision_id}", revision),
            ("{user_id}", victim.id.to_string()),
            ("{token_id}", if token.is_empty() { NOWHERE.to_owned() } else { token }),
            ("{session_id}", if session.is_empty() { NOWHERE.to_owned() } else { session }),
            ("{fresh}", self.fresh()),
        ]
    }

    async fn deeds(&self) -> u64 {
        self.platform.service.audit(&self.root, Page::FIRST).await.unwrap().total
    }

    async fn ask(
        &self,
        method: &str,
        path: &str,
        body: &Value,
        things: &[(&str, String)],
        caller: usize,
    ) -> Answer {
        let filled = |text: String| things.iter().fold(text, |text, (name, value)| text.replace(name, value));
        let body = (!body.is_null()).then(|| serde_json::from_str(&filled(body.to_string())).unwrap());
        let method = method.parse().unwrap();
        let mut request = self.platform.request(method, &filled(path.to_owned()), &self.tokens[caller], body);
        request.headers_mut().insert("if-match", "*".parse().unwrap());
        self.platform.send(request).await
    }
}

/// Asks for all there is.
const EVERYTHING: &str = "{secret}/webhook/{credential_id}/{preview_id}/share_links/{key_id}/groups";

/// An id of nothing.
const NOWHERE: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

impl Platform {
    /// A person without a password: hashing one takes longer than all the rest.
    async fn plain_user(&self, name: &str) -> User {
        let new = NewUser {
            username: name.parse().unwrap(),
            password: None,
            is_admin: name == "root",
            email: None,
            first_name: None,
            last_name: None,
        };
        self.service.create_user(new).await.unwrap()
    }
}

#[test]
fn every_route_has_a_row_and_every_row_a_route() {
    let document = serde_json::to_value(super::super::openapi()).unwrap();
    let mut documented = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in
            ["get", "post", "put", "patch", "delete"].into_iter().filter(|method| item.get(method).is_some())
        {
            documented.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    let listed: BTreeSet<_> = routes().iter().map(|(method, path, ..)| format!("{method} {path}")).collect();
    let missing: Vec<_> = documented.difference(&listed).collect();
    assert!(missing.is_empty(), "say in `routes` of matrix.rs who may use {missing:?}");
    let stale: Vec<_> = listed.difference(&documented).collect();
    assert!(stale.is_empty(), "the API has no {stale:?}");
}

#[tokio::test]
async fn everybody_may_do_what_the_table_says_and_nothing_else() {
    let people = People::new().await;
    let mut wrong = Vec::new();
    for visibility in ["private", "public"] {
        // What is refused changes nothing, and what only reads neither: these share their things.
        let shared = people.things(visibility, 0, EVERYTHING).await;
        for (method, path, needs, body) in routes() {
            let (_, private, public) = TABLE.iter().find(|(known, ..)| *known == needs).unwrap();
            let row = if visibility == "private" { private } else { public };
            for (caller, expected) in row.chars().enumerate() {
                let changes = expected == '2' && method != "GET" && path != LOOK;
                let things =
                    if changes { people.things(visibility, caller, path).await } else { shared.clone() };
                let before = people.deeds().await;
                let answer = people.ask(method, path, &body, &things, caller).await;
                let got = match answer.status.as_u16() {
                    200..300 => '2',
                    // There is no such code, which only those are told who may look at it.
                    422 if path == LOOK => '2',
                    401 => '1',
                    403 => '3',
                    404 => '4',
                    _ => '?',
                };
                let noted = people.deeds().await > before;
                if got != expected || noted != changes {
                    let who = CALLERS[caller];
                    let status = answer.status;
                    wrong.push(format!(
                        "{method} {path} of something {visibility} by {who}: {status}, not {expected}; noted: {noted}: {}",
                        answer.body
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// G3: a signed-in browser that another site's page makes send something changes nothing, whatever the route.
#[tokio::test]
async fn no_other_sites_page_changes_anything_over_the_api() {
    let platform = Platform::new().await;
    let owner = platform.plain_user("owner").await;
    let session = platform.service.start_session(owner.clone()).await.unwrap().session;
    let who = Identity::User(owner);
    let foreign: [&[(&str, &str)]; 7] = [
        &[],
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
        &[("origin", "http://iris.localhost:8080"), ("sec-fetch-site", "same-site")],
        &[("origin", "https://evil.example"), ("content-type", "text/plain")],
        &[("origin", "http://localhost:8080"), ("sec-fetch-site", "cross-site")],
        &[("origin", "https://evil.example"), ("x-http-method-override", "GET")],
    ];
    let before = platform.service.sessions(&who, None).await.unwrap().len();
    // A git host is no browser, and has no cookie.
    let changes =
        routes().into_iter().filter(|(method, _, needs, _)| *method != "GET" && *needs != Needs::Proof);
    for (method, path, _, body) in changes {
        let path = path.replace("{name}", "iris").replace("{slug}", "lab");
        let path = path.split('{').map(|part| part.split_once('}').map_or(part, |(_, rest)| rest));
        let path = path.collect::<Vec<_>>().join(NOWHERE);
        for headers in foreign {
            let mut request = platform.request(method.parse().unwrap(), &path, "", Some(body.clone()));
            let cookie = format!("marmot={}", session.reveal());
            for (name, value) in headers.iter().chain(&[("cookie", cookie.as_str())]) {
                request
                    .headers_mut()
                    .insert(name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap());
            }
            let answer = platform.send(request).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{method} {path} {headers:?}: {}", answer.body);
        }
    }
    assert_eq!(platform.service.sessions(&who, None).await.unwrap().len(), before);
}
