//! Projects, members and launchers.

use super::*;

#[tokio::test]
async fn a_project_is_private_until_its_owner_says_otherwise() {
    let platform = Platform::new().await;
    let (ada, bob) = (platform.user("ada").await, platform.user("bob").await);
    let made =
        platform.post("/projects", &ada, json!({"name": "Iris Explorer"})).await.is(StatusCode::CREATED);
    assert_json!(made.body, @r#"
        {
          "created_by": "[ID]",
          "creation_date": "[TIME]",
          "description": null,
          "etag": "\"[ID]-1\"",
          "id": "[ID]",
          "name": "Iris Explorer",
          "namespace": "ada",
          "repositories": [],
          "slug": "iris-explorer",
          "updated_at": "[TIME]",
          "visibility": "private"
        }
        "#);
    let path = format!("/projects/{}", made.text("id"));
    for stranger in [bob.as_str(), ""] {
        platform.get(&path, stranger).await.is(StatusCode::NOT_FOUND);
        platform.get("/namespaces/ada/projects/iris-explorer", stranger).await.is(StatusCode::NOT_FOUND);
        platform.patch(&path, stranger, json!({"name": "Mine"})).await.is(StatusCode::NOT_FOUND);
        platform.delete(&path, stranger).await.is(StatusCode::NOT_FOUND);
        assert_eq!(platform.get("/projects", stranger).await.header("total"), "0");
    }
    let etag = made.header("etag").to_owned();
    let mut publish = platform.request(Method::PATCH, &path, &ada, Some(json!({"visibility": "public"})));
    publish.headers_mut().insert("if-match", etag.parse().unwrap());
    platform.send(publish).await.is(StatusCode::OK);
    platform.get(&path, "").await.is(StatusCode::OK);
    platform.patch(&path, &bob, json!({"name": "Mine"})).await.is(StatusCode::FORBIDDEN);
    platform.delete(&path, "").await.is(StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_change_is_refused_when_somebody_else_was_faster() {
    let platform = Platform::new().await;
    let ada = platform.user("ada").await;
    let path = format!("/projects/{}", platform.project(&ada, "Iris", "public").await);
    let missing =
        platform.patch(&path, &ada, json!({"name": "A"})).await.is(StatusCode::PRECONDITION_REQUIRED);
    assert!(missing.message().contains("If-Match"));
    let etag = platform.get(&path, &ada).await.header("etag").to_owned();
    let change = |number: u32| {
        let name = format!("Change {number}");
        let mut request = platform.request(Method::PATCH, &path, &ada, Some(json!({"name": name})));
        request.headers_mut().insert("if-match", etag.parse().unwrap());
        platform.send(request)
    };
    let all = futures_util::future::join_all((0..50).map(change)).await;
    let won = all.iter().filter(|answer| answer.status == StatusCode::OK).count();
    let lost = all.iter().filter(|answer| answer.status == StatusCode::PRECONDITION_FAILED).count();
    assert_eq!((won, lost), (1, 49));
}

#[tokio::test]
async fn a_path_belongs_to_one_project_and_a_namespace_to_one_person() {
    let platform = Platform::new().await;
    let (ada, bob) = (platform.user("ada").await, platform.user("bob").await);
    platform.project(&ada, "Iris", "public").await;
    let again = platform.post("/projects", &ada, json!({"name": "Iris"})).await.is(StatusCode::CONFLICT);
    assert_eq!(again.message(), "there is a project `ada/iris` already");
    let theft = json!({"name": "X", "namespace": "ada"});
    platform.post("/projects", &bob, theft).await.is(StatusCode::FORBIDDEN);
    platform.project(&bob, "Iris", "public").await;
}

#[tokio::test]
async fn lists_come_in_pages() {
    let platform = Platform::new().await;
    let ada = platform.user("ada").await;
    for name in ["One", "Two", "Three"] {
        platform.project(&ada, name, "public").await;
    }
    let page = platform.get("/projects?page=2&per_page=2", "").await.is(StatusCode::OK);
    let names: Vec<_> = page.body.as_array().unwrap().iter().map(|project| project["name"].clone()).collect();
    assert_eq!(names, ["One"]);
    let headers = ["page", "per-page", "total", "total-pages"].map(|name| page.header(name));
    assert_eq!(headers, ["2", "2", "3", "2"]);
    for query in ["page=0", "per_page=0", "per_page=101", "page=x"] {
        platform.get(&format!("/projects?{query}"), "").await.is(StatusCode::UNPROCESSABLE_ENTITY).message();
    }
}

#[tokio::test]
async fn members_may_do_what_their_role_says() {
    let platform = Platform::new().await;
    let (ada, bob, eve) =
        (platform.user("ada").await, platform.user("bob").await, platform.user("eve").await);
    let project = platform.project(&ada, "Iris", "private").await;
    let members = format!("/projects/{project}/members");
    let bob_is = |role: Value| platform.patch(&members, &ada, json!([{"username": "bob", "role": role}]));
    bob_is(json!("viewer")).await.is(StatusCode::OK);
    platform.get(&format!("/projects/{project}"), &bob).await.is(StatusCode::OK);
    let launcher = json!({"project_id": project, "name": "X",
        "environment": {"environment_image_source": "build", "repository": "https://example.org/x"}});
    platform.post("/session_launchers", &bob, launcher.clone()).await.is(StatusCode::FORBIDDEN);
    bob_is(json!("editor")).await.is(StatusCode::OK);
    platform.post("/session_launchers", &bob, launcher).await.is(StatusCode::CREATED);
    platform
        .patch(&members, &bob, json!([{"username": "eve", "role": "owner"}]))
        .await
        .is(StatusCode::FORBIDDEN);
    platform.get(&members, &eve).await.is(StatusCode::NOT_FOUND);
    let nobody = platform.patch(&members, &ada, json!([{"username": "ada", "role": null}])).await;
    assert_eq!(
        nobody.is(StatusCode::CONFLICT).message(),
        "a project needs an owner: give somebody else that role first"
    );
    bob_is(Value::Null).await.is(StatusCode::OK);
    platform.get(&format!("/projects/{project}"), &bob).await.is(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_launcher_keeps_its_apps_name_and_shows_values_only_to_editors() {
    let platform = Platform::new().await;
    let (ada, bob) = (platform.user("ada").await, platform.user("bob").await);
    let project = platform.project(&ada, "Iris", "public").await;
    let launcher = platform.launcher(&ada, &project, "Iris explorer").await;
    assert_json!(launcher, @r#"
        {
          "app_name": "iris-explorer",
          "created_by": "[ID]",
          "creation_date": "[TIME]",
          "description": null,
          "env_variables": [
            {
              "name": "GREETING",
              "value": "hello"
            }
          ],
          "environment": {
            "builder_variant": "auto",
            "environment_image_source": "build",
            "environment_kind": "CUSTOM",
            "frontend_variant": "none",
            "id": "[ID]",
            "repository": "https://example.org/iris.git"
          },
          "id": "[ID]",
          "launcher_type": "app",
          "name": "Iris explorer",
          "project_id": "[ID]",
          "resource_class_id": 1,
          "updated_at": "[TIME]",
          "url": "http://iris-explorer.localhost:8080"
        }
        "#);
    let path = format!("/session_launchers/{}", launcher["id"].as_str().unwrap());
    let renamed = platform.patch(&path, &ada, json!({"name": "Other"})).await.is(StatusCode::OK);
    assert_eq!(renamed.body["app_name"], "iris-explorer");
    let seen = platform.get(&path, &bob).await.is(StatusCode::OK);
    assert_eq!(seen.body["env_variables"], json!([{"name": "GREETING"}]));
    assert_eq!(platform.get(&path, &ada).await.body["env_variables"][0]["value"], "hello");
    let list = platform.get(&format!("/projects/{project}/session_launchers"), &ada).await;
    assert_eq!(list.body[0]["env_variables"], json!([{"name": "GREETING"}]));
}

#[tokio::test]
async fn an_apps_name_is_never_given_twice_and_never_a_reserved_one() {
    let platform = Platform::new().await;
    let ada = platform.user("ada").await;
    let project = platform.project(&ada, "Iris", "public").await;
    let name = |launcher: Value| launcher["app_name"].as_str().unwrap().to_owned();
    assert_eq!(name(platform.launcher(&ada, &project, "Iris").await), "iris");
    let second = name(platform.launcher(&ada, &project, "Iris").await);
    assert!(second.starts_with("iris-") && second.len() == 10, "{second}");
    let reserved = name(platform.launcher(&ada, &project, "WWW").await);
    assert!(reserved.starts_with("www-"), "{reserved}");
    let wordless = name(platform.launcher(&ada, &project, "数据").await);
    assert_eq!(wordless, "iris-app");
    let long = "a long name that goes on and on and on and never ends";
    platform.launcher(&ada, &project, long).await;
    let second = name(platform.launcher(&ada, &project, long).await);
    assert!(second.parse::<marmot_core::AppName>().is_ok(), "{second}");
}

#[tokio::test]
async fn the_name_of_an_app_that_is_gone_falls_to_nobody() {
    let platform = Platform::new().await;
    let (ada, mallory) = (platform.user("ada").await, platform.user("mallory").await);
    let project = platform.project(&ada, "Iris", "private").await;
    let launcher = platform.launcher(&ada, &project, "Iris").await;
    platform.launcher(&ada, &project, "Rose").await;
    let replica = "apps/iris/replicas/01ARZ3NDEKTSV4RRFFQ69G5FAV";
    let replica = platform.bench.dir.path().join(replica);
    std::fs::create_dir_all(&replica).unwrap();
    std::fs::write(replica.join("log"), "2026-05-04T10:00:00Z what Ada's app said\n").unwrap();
    let said = platform.get("/apps/iris/logs", &ada).await.is(StatusCode::OK).body.to_string();
    assert!(said.contains("what Ada's app said"), "{said}");

    let launcher = format!("/session_launchers/{}", launcher["id"].as_str().unwrap());
    platform.delete(&launcher, &ada).await.is(StatusCode::NO_CONTENT);
    platform.delete(&format!("/projects/{project}"), &ada).await.is(StatusCode::NO_CONTENT);
    let hers = platform.project(&mallory, "Mine", "private").await;
    for name in ["Iris", "Rose"] {
        let given = platform.launcher(&mallory, &hers, name).await["app_name"].as_str().unwrap().to_owned();
        let gone = name.to_lowercase();
        assert!(given.starts_with(&format!("{gone}-")), "{given}");
        platform.get(&format!("/apps/{gone}/logs"), &mallory).await.is(StatusCode::NOT_FOUND);
        let logs = platform.get(&format!("/apps/{given}/logs"), &mallory).await.is(StatusCode::OK);
        assert_eq!(logs.body, json!({}));
    }
}

#[tokio::test]
async fn everything_in_a_project_goes_with_it() {
    let platform = Platform::new().await;
    let ada = platform.user("ada").await;
    let project = platform.project(&ada, "Iris", "public").await;
    let launcher = platform.launcher(&ada, &project, "Iris").await;
    platform.post("/apps", &ada, json!({"launcher_id": launcher["id"]})).await.is(StatusCode::CREATED);
    platform.delete(&format!("/projects/{project}"), &ada).await.is(StatusCode::NO_CONTENT);
    platform.get("/apps/iris", &ada).await.is(StatusCode::NOT_FOUND);
    let picture = platform.service.picture().await.unwrap();
    assert!(picture.apps.is_empty() && picture.builds.is_empty() && picture.addresses.is_empty());
}
