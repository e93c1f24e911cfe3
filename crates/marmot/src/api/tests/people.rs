//! Accounts by administrators, sessions, limited tokens, and who did what.

use super::*;
use crate::service::UserPatch;

#[tokio::test]
async fn administrators_add_change_disable_and_delete_people() {
    let platform = Platform::new().await;
    let (root, ada) = (platform.user("root").await, platform.user("ada").await);
    let new = json!({"username": "grace", "email": "grace@example.org", "first_name": "Grace"});
    let made = platform.post("/users", &root, new.clone()).await.is(StatusCode::CREATED);
    assert_json!(made.body, @r#"
    {
      "creation_date": "[TIME]",
      "disabled": false,
      "email": "grace@example.org",
      "first_name": "Grace",
      "id": "[ID]",
      "is_admin": false,
      "last_name": null,
      "username": "grace"
    }
    "#);
    let id = made.text("id");
    platform.post("/users", &root, new).await.is(StatusCode::CONFLICT);
    for refused in [json!({"username": "X"}), json!({"username": "x", "password": "short"}), json!({})] {
        platform.post("/users", &root, refused).await.is(StatusCode::UNPROCESSABLE_ENTITY);
    }
    let path = format!("/users/{id}");
    let link =
        platform.post(&format!("{path}/password_link"), &root, json!({})).await.is(StatusCode::CREATED);
    assert!(link.text("url").starts_with("http://localhost:8080/password/"));
    let code = Secret::new(link.text("url").rsplit('/').next().unwrap());
    let password = Secret::new("a new sentence");
    let signed_in = platform.service.set_password_by_link(&code, &password).await.unwrap();
    assert!(platform.service.set_password_by_link(&code, &password).await.is_err(), "it worked twice");
    let token = json!({"name": "x", "username": "grace", "password": "a new sentence"});
    let token = platform.post("/user/tokens", "", token).await.is(StatusCode::CREATED).text("token");

    // Disabled: sessions and tokens have ended, and the password lets nobody in.
    platform.patch(&path, &root, json!({"disabled": true})).await.is(StatusCode::OK);
    platform.get("/user", &token).await.is(StatusCode::UNAUTHORIZED);
    assert!(platform.service.identify_session(&signed_in.session).await.is_err());
    assert!(platform.service.sign_in("grace", &password, "192.0.2.1").await.is_err());
    platform.patch(&path, &root, json!({"disabled": false})).await.is(StatusCode::OK);
    platform.get("/user", &token).await.is(StatusCode::UNAUTHORIZED);
    platform.service.sign_in("grace", &password, "192.0.2.1").await.unwrap();

    // Nobody else may, and somebody must be left to.
    platform.get("/users", &ada).await.is(StatusCode::FORBIDDEN);
    let root_id = platform.get("/user", &root).await.text("id");
    for patch in [json!({"is_admin": false}), json!({"disabled": true})] {
        let refused =
            platform.patch(&format!("/users/{root_id}"), &root, patch).await.is(StatusCode::CONFLICT);
        assert!(refused.message().starts_with("nobody would be left to run this server"));
    }
    platform.delete(&format!("/users/{root_id}"), &root).await.is(StatusCode::CONFLICT);
    platform.delete(&path, &root).await.is(StatusCode::NO_CONTENT);
    platform.get(&path, &root).await.is(StatusCode::NOT_FOUND);
    assert_eq!(platform.get("/users", &root).await.header("total"), "2");
}

#[tokio::test]
async fn nobody_goes_who_alone_owns_something_and_a_name_stays_while_projects_have_it() {
    let platform = Platform::new().await;
    let (root, ada) = (platform.user("root").await, platform.user("ada").await);
    platform.user("bob").await;
    let project = platform.project(&ada, "Ice", "private").await;
    let launcher = platform.launcher(&ada, &project, "Explorer").await;
    platform.post("/apps", &ada, json!({"launcher_id": launcher["id"]})).await.is(StatusCode::CREATED);
    platform.post("/groups", &ada, json!({"name": "Lab", "slug": "lab"})).await.is(StatusCode::CREATED);
    let id = platform.get("/user", &ada).await.text("id");
    let path = format!("/users/{id}");
    let refused = platform.delete(&path, &root).await.is(StatusCode::CONFLICT);
    assert_eq!(
        refused.message(),
        "ada is the only owner of `ada/ice`, `lab`: give each another owner, or delete it, first"
    );
    let bob = json!([{"username": "bob", "role": "owner"}]);
    platform.patch(&format!("/projects/{project}/members"), &root, bob.clone()).await.is(StatusCode::OK);
    platform.patch("/groups/lab/members", &root, bob).await.is(StatusCode::OK);
    platform.delete(&path, &root).await.is(StatusCode::NO_CONTENT);
    platform.get("/user", &ada).await.is(StatusCode::UNAUTHORIZED);
    // The project and its app are still there, and `ada` is nobody else's to be.
    assert_eq!(platform.get(&format!("/apps?project_id={project}"), &root).await.header("total"), "1");
    platform.post("/users", &root, json!({"username": "ada"})).await.is(StatusCode::CONFLICT);
    let export = platform.get("/audit/export", &root).await.is(StatusCode::OK);
    assert!(export.body.as_str().unwrap().contains("\"action\":\"user.deleted\""));
    platform.delete(&format!("/projects/{project}"), &root).await.is(StatusCode::NO_CONTENT);
    let file = std::fs::read(platform.bench.dir.path().join("marmot.db")).unwrap();
    assert!(!file.is_empty());
}

#[tokio::test]
async fn a_limited_token_does_what_it_is_for_and_lists_no_more() {
    let platform = Platform::new().await;
    let ada = platform.user("ada").await;
    let (ice, snow) =
        (platform.project(&ada, "Ice", "private").await, platform.project(&ada, "Snow", "public").await);
    let launchers = [platform.launcher(&ada, &ice, "One").await, platform.launcher(&ada, &ice, "Two").await];
    let [one, two] = launchers.map(|launcher| launcher["id"].as_str().unwrap().to_owned());
    platform.launcher(&ada, &snow, "Three").await;
    let token = async |limits: Value| {
        let mut body = json!({"name": "x"});
        body.as_object_mut().unwrap().extend(limits.as_object().unwrap().clone());
        platform.post("/user/tokens", &ada, body).await.is(StatusCode::CREATED).text("token")
    };
    let project = token(json!({"project_id": ice})).await;
    let app = token(json!({"launcher_id": one})).await;
    let read = token(json!({"scope": "read", "launcher_id": one})).await;
    for (token, projects, launchers) in [(&ada, "2", "3"), (&project, "1", "2"), (&app, "1", "1")] {
        assert_eq!(platform.get("/projects", token).await.header("total"), projects);
        assert_eq!(platform.get("/session_launchers", token).await.header("total"), launchers);
    }
    let activate = |id: &str| json!({"launcher_id": id});
    platform.post("/apps", &read, activate(&one)).await.is(StatusCode::FORBIDDEN);
    platform.post("/apps", &app, activate(&two)).await.is(StatusCode::NOT_FOUND);
    platform.post("/apps", &app, activate(&one)).await.is(StatusCode::CREATED);
    platform.get("/apps/one/events", &read).await.is(StatusCode::OK);
    platform.get(&format!("/session_launchers/{two}"), &app).await.is(StatusCode::NOT_FOUND);
    platform.delete(&format!("/projects/{ice}"), &app).await.is(StatusCode::NOT_FOUND);
    platform.post("/user/tokens", &project, json!({"name": "more"})).await.is(StatusCode::FORBIDDEN);
    let shown = platform.get("/user/tokens", &ada).await.body;
    assert_eq!((&shown[1]["launcher_id"], &shown[0]["scope"]), (&json!(one), &json!("read")));
    for wrong in [
        json!({"name": "x", "scope": "admin"}),
        json!({"name": "x", "project_id": "x"}),
        json!({"name": "x", "project_id": snow, "launcher_id": one}),
    ] {
        platform.post("/user/tokens", &ada, wrong).await.is(StatusCode::UNPROCESSABLE_ENTITY);
    }
    // It goes with what it is for.
    platform.delete(&format!("/session_launchers/{one}"), &project).await.is(StatusCode::NO_CONTENT);
    platform.get("/user", &app).await.is(StatusCode::UNAUTHORIZED);
    platform.delete(&format!("/projects/{ice}"), &project).await.is(StatusCode::NO_CONTENT);
    platform.get("/user", &project).await.is(StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn sessions_are_listed_and_ended_and_end_by_themselves() {
    let platform = Platform::new().await;
    let ada = platform.user("ada").await;
    let password = Secret::new("correct horse");
    let session = platform.service.sign_in("ada", &password, "192.0.2.1").await.unwrap().session;
    let list = platform.get("/user/sessions", &ada).await.is(StatusCode::OK);
    assert_json!(list.body, @r#"
    [
      {
        "address": "",
        "created_at": "[TIME]",
        "expires_at": "[TIME]",
        "id": "[ID]",
        "last_seen_at": "[TIME]",
        "provider": null,
        "user_agent": ""
      }
    ]
    "#);
    let id = list.body[0]["id"].as_str().unwrap();
    let bob = platform.user("bob").await;
    platform.delete(&format!("/user/sessions/{id}"), &bob).await.is(StatusCode::NOT_FOUND);
    platform.delete(&format!("/user/sessions/{id}"), &ada).await.is(StatusCode::NO_CONTENT);
    assert!(platform.service.identify_session(&session).await.is_err());

    for change in [
        |people: &mut crate::service::People| people.session_idle = std::time::Duration::ZERO,
        |people: &mut crate::service::People| people.session_life = std::time::Duration::ZERO,
    ] {
        let bench = Bench::with(|options| change(&mut options.people)).await;
        let ada = bench.user("ada").await;
        let session = bench.service.start_session(ada).await.unwrap().session;
        while bench.service.identify_session(&session).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn the_first_administrator_is_made_by_a_link_once_and_by_one() {
    let bench = Bench::new().await;
    let service = bench.service.clone();
    let earlier = service.set_up_link().await.unwrap().unwrap();
    let link = service.set_up_link().await.unwrap().unwrap();
    let code = |link: &Secret| Secret::new(link.reveal().rsplit('/').next().unwrap());
    assert!(link.reveal().starts_with("http://localhost:8080/set-up/"));
    assert!(service.link(&code(&earlier)).await.is_err(), "the link before still works");
    let password = Secret::new("correct horse");
    let names = ["ada", "bob", "eve"].map(|name| name.parse().unwrap());
    let code = code(&link);
    let [ada, bob, eve] = names.map(|name| {
        let (service, password, code) = (service.clone(), password.clone(), code.clone());
        tokio::spawn(async move { service.set_up(&code, name, &password).await.is_ok() })
    });
    let made = [ada.await.unwrap(), bob.await.unwrap(), eve.await.unwrap()];
    assert_eq!(made.iter().filter(|made| **made).count(), 1, "{made:?}");
    let users = service.users().await.unwrap();
    assert!(users.len() == 1 && users[0].is_admin);
    assert!(service.set_up_link().await.unwrap().is_none());
    assert!(service.set_up(&code, "mallory".parse().unwrap(), &password).await.is_err());
    // Not even once everybody is gone.
    let patch = UserPatch { is_admin: Some(false), ..UserPatch::default() };
    assert!(service.change_person_by_operator(users[0].id, patch).await.is_err());
}

#[tokio::test]
async fn who_did_what_from_where_is_noted_without_secrets() {
    let platform = Platform::new().await;
    let (root, ada) = (platform.user("root").await, platform.user("ada").await);
    let id = platform.project(&ada, "Ice", "private").await;
    let launcher = platform.launcher(&ada, &id, "Explorer").await;
    let mut request = platform.request(
        Method::PATCH,
        &format!("/session_launchers/{}", launcher["id"].as_str().unwrap()),
        &ada,
        Some(json!({"env_variables": [{"name": "KEY", "value": "canary-4711"}]})),
    );
    let from: std::net::SocketAddr = "192.0.2.7:4000".parse().unwrap();
    request.extensions_mut().insert(axum::extract::ConnectInfo(from));
    platform.send(request).await.is(StatusCode::OK);
    let list = platform.get(&format!("/projects/{id}/audit"), &ada).await.is(StatusCode::OK);
    assert_json!(list.body[0], @r#"
    {
      "action": "launcher.changed",
      "actor": "ada",
      "actor_id": "[ID]",
      "address": "192.0.2.7",
      "at": "[TIME]",
      "details": {},
      "id": "[ID]",
      "project_id": "[ID]",
      "target": "Explorer",
      "target_id": "[ID]",
      "target_kind": "launcher",
      "via": "api"
    }
    "#);
    let actions: Vec<_> =
        list.body.as_array().unwrap().iter().map(|deed| deed["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["launcher.changed", "launcher.created", "project.created"]);
    // What is refused is not done, and what is undone was not.
    let refused = json!([{"username": "ada", "role": null}]);
    platform.patch(&format!("/projects/{id}/members"), &ada, refused).await.is(StatusCode::CONFLICT);
    assert_eq!(platform.get(&format!("/projects/{id}/audit"), &ada).await.header("total"), "3");

    platform.delete(&format!("/projects/{id}"), &ada).await.is(StatusCode::NO_CONTENT);
    let export = platform.get("/audit/export", &root).await.is(StatusCode::OK);
    assert_eq!(export.header("content-type"), "application/x-ndjson");
    let export = export.body.as_str().unwrap().to_owned();
    let lines: Vec<Value> = export.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.windows(2).all(|two| two[0]["id"].as_str() < two[1]["id"].as_str()));
    assert_eq!(lines.last().unwrap()["action"], "project.deleted");
    for secret in ["canary-4711", "correct horse", &ada, &root] {
        assert!(!export.contains(secret));
    }
}
