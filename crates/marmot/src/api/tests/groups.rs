//! Groups: their namespaces, and the roles that come with them.

use super::*;

#[tokio::test]
async fn a_role_in_a_group_is_a_role_in_every_project_of_its_namespace() {
    let platform = Platform::new().await;
    let (ada, bob) = (platform.user("ada").await, platform.user("bob").await);
    let group = json!({"name": "Ice lab", "slug": "ice-lab", "description": "Cores"});
    let made = platform.post("/groups", &ada, group.clone()).await.is(StatusCode::CREATED);
    assert_json!(made.body, @r#"
    {
      "created_by": "[ID]",
      "creation_date": "[TIME]",
      "description": "Cores",
      "id": "[ID]",
      "name": "Ice lab",
      "slug": "ice-lab"
    }
    "#);
    let taken = platform.post("/groups", &bob, group).await.is(StatusCode::CONFLICT);
    assert_eq!(taken.message(), "the namespace `ice-lab` is taken");
    let project = json!({"name": "Cores", "namespace": "ice-lab"});
    platform.post("/projects", &bob, project.clone()).await.is(StatusCode::FORBIDDEN);
    let id = platform.post("/projects", &ada, project).await.is(StatusCode::CREATED).text("id");
    let path = format!("/projects/{id}");
    platform.get(&path, &bob).await.is(StatusCode::NOT_FOUND);

    let role = |role: Value| json!([{"username": "bob", "role": role}]);
    let members = platform.patch("/groups/ice-lab/members", &ada, role(json!("viewer"))).await;
    assert_eq!(members.is(StatusCode::OK).body.as_array().map(Vec::len), Some(2));
    platform.get(&path, &bob).await.is(StatusCode::OK);
    assert_eq!(platform.get("/projects", &bob).await.header("total"), "1");
    let launcher = platform.launcher(&ada, &id, "Explorer").await;
    let launcher = launcher["id"].as_str().unwrap();
    let activate = json!({"launcher_id": launcher});
    platform.post("/apps", &bob, activate.clone()).await.is(StatusCode::FORBIDDEN);
    platform.patch("/groups/ice-lab/members", &ada, role(json!("editor"))).await.is(StatusCode::OK);
    platform.post("/apps", &bob, activate).await.is(StatusCode::CREATED);
    platform
        .post("/projects", &bob, json!({"name": "Snow", "namespace": "ice-lab"}))
        .await
        .is(StatusCode::CREATED);
    let picture = platform.service.picture().await.unwrap();
    assert_eq!(picture.groups.values().map(|members| members.len()).collect::<Vec<_>>(), [2]);

    platform.patch("/groups/ice-lab/members", &ada, role(Value::Null)).await.is(StatusCode::OK);
    platform.get(&path, &bob).await.is(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_group_is_governed_by_its_owners_and_goes_after_its_projects() {
    let platform = Platform::new().await;
    let (ada, bob) = (platform.user("ada").await, platform.user("bob").await);
    for taken in ["ada", "bob"] {
        let group = json!({"name": "x", "slug": taken});
        platform.post("/groups", &ada, group).await.is(StatusCode::CONFLICT);
    }
    platform.post("/groups", &ada, json!({"name": "Lab", "slug": "lab"})).await.is(StatusCode::CREATED);
    let list = platform.get("/groups?direct_member=true", &bob).await.is(StatusCode::OK);
    assert_eq!(list.header("total"), "0");
    assert_eq!(platform.get("/groups", &bob).await.header("total"), "1");
    platform.get("/groups", "").await.is(StatusCode::UNAUTHORIZED);
    platform.get("/groups/lab/members", &bob).await.is(StatusCode::FORBIDDEN);
    platform.patch("/groups/lab", &bob, json!({"name": "Mine"})).await.is(StatusCode::FORBIDDEN);
    platform.delete("/groups/lab", &bob).await.is(StatusCode::FORBIDDEN);
    let alone = json!([{"username": "ada", "role": null}]);
    platform.patch("/groups/lab/members", &ada, alone).await.is(StatusCode::CONFLICT);
    let changed = json!({"name": "Our lab", "description": null});
    assert_eq!(platform.patch("/groups/lab", &ada, changed).await.text("name"), "Our lab");

    let id = platform.post("/projects", &ada, json!({"name": "P", "namespace": "lab"})).await.text("id");
    let refused = platform.delete("/groups/lab", &ada).await.is(StatusCode::CONFLICT);
    assert_eq!(refused.message(), "projects of the group `lab` are left (1): delete them first");
    platform.delete(&format!("/projects/{id}"), &ada).await.is(StatusCode::NO_CONTENT);
    platform.delete("/groups/lab", &ada).await.is(StatusCode::NO_CONTENT);
    platform.get("/groups/lab", &ada).await.is(StatusCode::NOT_FOUND);
    platform.post("/groups", &bob, json!({"name": "Lab", "slug": "lab"})).await.is(StatusCode::CREATED);
}
