//! What the apps and builds of a project may use together, and who may use which resource class.

use super::*;
use crate::model::{ProjectLimits, ResourceClass};

impl Platform {
    /// Where the installation says these limits.
    async fn limited(limits: ProjectLimits) -> Self {
        Self::on(Bench::with(|options| options.limits = limits).await)
    }

    async fn is_built(&self) {
        for build in self.service.picture().await.unwrap().builds {
            let end = crate::service::BuildEnd::Succeeded(Default::default());
            assert!(self.service.build_ended(build.id, end).await.unwrap());
        }
    }
}

fn environment(launcher: &Value) -> String {
    format!("/environments/{}/builds", launcher["environment"]["id"].as_str().unwrap())
}

#[tokio::test]
async fn members_see_the_limits_of_a_project_and_administrators_say_them() {
    let usual = ProjectLimits {
        builds_per_hour: Some(60),
        memory_bytes: Some(4 << 30),
        replicas: Some(20),
        ..ProjectLimits::default()
    };
    let platform = Platform::limited(usual).await;
    let (ada, root) = (platform.user("ada").await, platform.user("root").await);
    let id = platform.project(&ada, "Ice", "private").await;
    let path = format!("/projects/{id}/limits");
    assert_json!(platform.get(&path, &ada).await.is(StatusCode::OK).body, @r#"
    {
      "builds_at_once": {
        "own": false,
        "used": 0
      },
      "builds_per_hour": {
        "allowed": 60,
        "own": false,
        "used": 0
      },
      "memory_bytes": {
        "allowed": 4294967296,
        "own": false,
        "used": 0
      },
      "replicas": {
        "allowed": 20,
        "own": false,
        "used": 0
      },
      "requests_at_once": {
        "own": false
      },
      "requests_per_second": {
        "own": false
      },
      "storage_bytes": {
        "own": false,
        "used": 0
      }
    }
    "#);
    platform.patch(&path, &ada, json!({"replicas": 100})).await.is(StatusCode::FORBIDDEN);
    let change = json!({"replicas": 0, "requests_per_second": 50, "memory_bytes": 1073741824});
    let changed = platform.patch(&path, &root, change).await.is(StatusCode::OK).body;
    assert_eq!(changed["replicas"], json!({"allowed": 0, "own": true, "used": 0}));
    assert_eq!(changed["requests_per_second"], json!({"allowed": 50, "own": true}));
    // It is what apps and builds are held to.
    let launcher = platform.launcher(&ada, &id, "Explorer").await;
    platform.post("/apps", &ada, json!({"launcher_id": launcher["id"]})).await.is(StatusCode::CREATED);
    let picture = platform.service.picture().await.unwrap();
    let limits = picture.limits.values().next().unwrap();
    assert_eq!((limits.replicas, limits.memory_bytes), (Some(0), Some(1 << 30)));
    assert!(picture.addresses[0].access.ceiling.is_some());
    let back = platform.patch(&path, &root, json!({"memory_bytes": null})).await.is(StatusCode::OK).body;
    assert_eq!(back["memory_bytes"], json!({"allowed": 4294967296u64, "own": false, "used": 0}));
    assert_eq!(back["replicas"]["own"], true, "what is absent stays");
    for wrong in [json!({"builds_per_hour": 0}), json!({"memory_bytes": -1}), json!({"memory": 1}), json!([])]
    {
        platform.patch(&path, &root, wrong).await.is(StatusCode::UNPROCESSABLE_ENTITY).message();
    }
    let deeds = platform.get(&format!("/projects/{id}/audit"), &ada).await.is(StatusCode::OK).body;
    assert!(deeds.as_array().unwrap().iter().any(|deed| deed["action"] == "project.limits"), "{deeds}");
}

#[tokio::test]
async fn a_project_begins_only_so_many_builds_within_an_hour_whatever_asks_for_them() {
    let limits = ProjectLimits { builds_per_hour: Some(2), ..ProjectLimits::default() };
    let platform = Platform::limited(limits).await;
    let (ada, root) = (platform.user("ada").await, platform.user("root").await);
    let id = platform.project(&ada, "Ice", "private").await;
    let launcher = platform.launcher(&ada, &id, "Explorer").await;
    platform.post(&environment(&launcher), &ada, json!({})).await.is(StatusCode::CREATED);
    platform.is_built().await;
    let activated = platform.post("/apps", &ada, json!({"launcher_id": launcher["id"]})).await;
    activated.is(StatusCode::CREATED);
    platform.post(&environment(&launcher), &ada, json!({})).await.is(StatusCode::CREATED);
    platform.is_built().await;

    let refused = platform.post(&environment(&launcher), &ada, json!({})).await;
    let refused = refused.is(StatusCode::TOO_MANY_REQUESTS);
    assert!(
        refused
            .message()
            .starts_with("builds of the project that were begun within an hour: 2, and it may begin 2"),
        "{}",
        refused.message()
    );
    let seconds: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=3600).contains(&seconds));
    let ends = format!("may begin 2; try again in {seconds} s, or ask an administrator for a higher limit");
    assert!(refused.message().ends_with(&ends), "{}", refused.message());
    assert_eq!(refused.header("ratelimit-policy"), "\"builds\";q=2;w=3600");
    assert_eq!(refused.header("ratelimit"), format!("\"builds\";r=0;t={seconds}"));
    // Neither does a change of the code, or another launcher, or one that is made anew.
    let path = format!("/session_launchers/{}", launcher["id"].as_str().unwrap());
    let code = json!({"environment": {"environment_image_source": "build", "repository": "https://example.org/y.git"}});
    platform.patch(&path, &ada, code).await.is(StatusCode::TOO_MANY_REQUESTS);
    platform.patch(&path, &ada, json!({"name": "Explorer 2"})).await.is(StatusCode::OK);
    platform.delete(&path, &ada).await.is(StatusCode::NO_CONTENT);
    let other = platform.launcher(&ada, &id, "Other").await;
    let activate = json!({"launcher_id": other["id"]});
    platform.post("/apps", &ada, activate.clone()).await.is(StatusCode::TOO_MANY_REQUESTS);
    // Other projects may, and this one when an administrator says so.
    let elsewhere = platform.project(&ada, "Snow", "private").await;
    let launcher = platform.launcher(&ada, &elsewhere, "Snow").await;
    platform.post(&environment(&launcher), &ada, json!({})).await.is(StatusCode::CREATED);
    let more = platform.patch(&format!("/projects/{id}/limits"), &root, json!({"builds_per_hour": 3})).await;
    assert_eq!(
        more.is(StatusCode::OK).body["builds_per_hour"],
        json!({"allowed": 3, "own": true, "used": 2})
    );
    platform.post("/apps", &ada, activate).await.is(StatusCode::CREATED);
}

#[tokio::test]
async fn builds_of_a_project_that_was_deleted_count_for_what_its_owner_makes_anew() {
    let limits = ProjectLimits { builds_per_hour: Some(2), ..ProjectLimits::default() };
    let platform = Platform::limited(limits).await;
    let (ada, bob) = (platform.user("ada").await, platform.user("bob").await);
    let build = async |who: &str, project: &str, name: &str| {
        let launcher = platform.launcher(who, project, name).await;
        platform.post(&environment(&launcher), who, json!({})).await
    };
    let first = platform.project(&ada, "Ice", "private").await;
    build(&ada, &first, "One").await.is(StatusCode::CREATED);
    build(&ada, &first, "Two").await.is(StatusCode::CREATED);
    // What another project of hers began is its own, until that is deleted.
    let other = platform.project(&ada, "Snow", "private").await;
    build(&ada, &other, "Three").await.is(StatusCode::CREATED);
    platform.delete(&format!("/projects/{first}"), &ada).await.is(StatusCode::NO_CONTENT);
    let anew = platform.project(&ada, "Ice", "private").await;
    build(&ada, &anew, "Four").await.is(StatusCode::TOO_MANY_REQUESTS);
    let limits = platform.get(&format!("/projects/{anew}/limits"), &ada).await.is(StatusCode::OK).body;
    assert_eq!(limits["builds_per_hour"]["used"], 2);
    let elsewhere = platform.project(&bob, "Ice", "private").await;
    build(&bob, &elsewhere, "Five").await.is(StatusCode::CREATED);
}

#[tokio::test]
async fn a_class_that_is_for_groups_is_seen_and_chosen_by_their_members_alone() {
    let bench = Bench::with(|options| {
        let gpu = ResourceClass {
            id: 9,
            name: "huge".to_owned(),
            cpu_millis: 8000,
            memory_mib: 65536,
            gpus: None,
            default: false,
            groups: vec!["lab:editor".to_owned().try_into().unwrap()],
        };
        options.resource_classes.push(gpu);
    });
    let platform = Platform::on(bench.await);
    let (ada, bob) = (platform.user("ada").await, platform.user("bob").await);
    let root = platform.user("root").await;
    platform.post("/groups", &ada, json!({"name": "Lab", "slug": "lab"})).await.is(StatusCode::CREATED);
    let role = async |role: &str| {
        let change = json!([{"username": "bob", "role": role}]);
        platform.patch("/groups/lab/members", &ada, change).await.is(StatusCode::OK);
    };
    let sees = async |token: &str| {
        let listed = platform.get("/resource_classes", token).await.is(StatusCode::OK).body;
        listed.as_array().unwrap().iter().any(|class| class["id"] == 9)
    };
    let project = platform.project(&ada, "Ice", "public").await;
    let members = json!([{"username": "bob", "role": "editor"}]);
    platform.patch(&format!("/projects/{project}/members"), &ada, members).await.is(StatusCode::OK);
    role("viewer").await;
    for (token, expected) in [(&ada, true), (&root, true), (&bob, false), (&String::new(), false)] {
        assert_eq!(sees(token).await, expected);
    }
    let new = |name: &str| {
        json!({
            "project_id": project, "name": name, "resource_class_id": 9,
            "environment": {"environment_image_source": "build", "repository": "https://example.org/x.git"},
        })
    };
    let refused = platform.post("/session_launchers", &bob, new("Mine")).await;
    let refused = refused.is(StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        refused.message(),
        "the resource class 9 is for members of certain groups: choose one of 1 (small), 2 (medium), 3 (large)"
    );
    let made = platform.post("/session_launchers", &ada, new("Hers")).await.is(StatusCode::CREATED);
    let path = format!("/session_launchers/{}", made.text("id"));
    // Whoever changes the rest of it leaves it what it has, and cannot take it back once it has another.
    let keep = json!({"name": "Ours", "resource_class_id": 9});
    assert_eq!(
        platform.patch(&path, &bob, keep.clone()).await.is(StatusCode::OK).body["resource_class_id"],
        9
    );
    platform.patch(&path, &bob, json!({"resource_class_id": 1})).await.is(StatusCode::OK);
    platform.patch(&path, &bob, keep.clone()).await.is(StatusCode::UNPROCESSABLE_ENTITY);
    role("editor").await;
    assert!(sees(&bob).await);
    platform.patch(&path, &bob, keep).await.is(StatusCode::OK);
    // Without a name it is the default for everybody.
    let mut unnamed = new("Plain");
    unnamed.as_object_mut().unwrap().remove("resource_class_id");
    let made = platform.post("/session_launchers", &bob, unnamed).await.is(StatusCode::CREATED);
    assert_eq!(made.body["resource_class_id"], 1);
}
