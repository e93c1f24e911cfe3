//! Who may open an app: said, shared by links, lent to programs by keys.

use std::time::Duration;

use jiff::Timestamp;
use marmot_gateway::routes::{Access, Audience};

use super::*;

impl Platform {
    async fn say(&self, path: &str, token: &str, body: Value) -> Answer {
        self.send(self.request(Method::PUT, path, token, Some(body))).await
    }

    /// As the gateway is told it.
    async fn access_of(&self, app: &str) -> Access {
        let picture = self.service.picture().await.unwrap();
        picture.addresses.into_iter().find(|address| address.app.as_str() == app).unwrap().access
    }

    /// How many may open it as who they are; `None` for everybody.
    async fn audience_of(&self, app: &str) -> Option<usize> {
        match self.access_of(app).await.audience {
            Audience::Everyone => None,
            Audience::People(people) => Some(people.len()),
        }
    }
}

/// A platform with ada, who owns the app `iris` of a project of this visibility, with bob and with cleo.
async fn with_iris(visibility: &str) -> (Platform, [String; 3], String) {
    let platform = Platform::new().await;
    let ada = platform.user("ada").await;
    let (bob, cleo) = (platform.user("bob").await, platform.user("cleo").await);
    let project = platform.project(&ada, "Iris", visibility).await;
    platform.launcher(&ada, &project, "Iris").await;
    (platform, [ada, bob, cleo], project)
}

#[tokio::test]
async fn an_app_is_open_to_whom_its_owner_says() {
    let (platform, [ada, bob, _], project) = with_iris("private").await;
    let access = "/apps/iris/access";
    let before = platform.get(access, &ada).await.is(StatusCode::OK).body;
    assert_json!(before, @r#"
    {
      "effective": "members",
      "groups": [],
      "open_to": "project",
      "users": []
    }
    "#);
    for (said, audience) in [
        (json!({"open_to": "signed_in"}), 3),
        (json!({"open_to": "named", "users": ["bob"]}), 2),
        (json!({"open_to": "members"}), 1),
        (json!({"open_to": "link"}), 1),
    ] {
        let answer = platform.say(access, &ada, said.clone()).await.is(StatusCode::OK);
        assert_eq!(answer.body["effective"], said["open_to"]);
        assert_eq!(platform.audience_of("iris").await, Some(audience), "{said}");
    }
    let refused = platform.say(access, &ada, json!({"open_to": "everyone"})).await;
    assert!(refused.is(StatusCode::UNPROCESSABLE_ENTITY).message().contains("make it public"));
    for (said, names) in [
        (json!({"open_to": "nobody"}), "signed_in"),
        (json!({"open_to": "named", "users": ["dora"]}), "dora"),
        (json!({"open_to": "named", "groups": ["institute"]}), "institute"),
        (json!({"open_to": "members", "owner": "bob"}), "owner"),
    ] {
        let refused = platform.say(access, &ada, said).await.is(StatusCode::UNPROCESSABLE_ENTITY);
        assert!(refused.message().contains(names), "{}", refused.message());
    }
    // What was open because the project was public is closed when it is not any more.
    let show = async |visibility: &str| {
        let mut change = platform.request(
            Method::PATCH,
            &format!("/projects/{project}"),
            &ada,
            Some(json!({"visibility": visibility})),
        );
        change.headers_mut().insert("if-match", "*".parse().unwrap());
        platform.send(change).await.is(StatusCode::OK);
    };
    show("public").await;
    platform.say(access, &ada, json!({"open_to": "everyone"})).await.is(StatusCode::OK);
    assert_eq!(platform.audience_of("iris").await, None);
    show("private").await;
    assert_eq!(platform.audience_of("iris").await, Some(1));
    assert_eq!(platform.get(access, &ada).await.body["effective"], "members");
    platform.get(access, &bob).await.is(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn only_owners_say_it_and_only_editors_make_links_and_keys() {
    let (platform, [ada, bob, _], project) = with_iris("public").await;
    let bobs_id = platform.get("/user", &bob).await.text("id");
    let link = json!({"name": "for a reviewer"});
    platform.say("/apps/iris/access", &ada, json!({"open_to": "link"})).await.is(StatusCode::OK);
    let (ok, created, no) = (StatusCode::OK, StatusCode::CREATED, StatusCode::FORBIDDEN);
    for (role, reads, makes) in [(None, no, no), (Some("viewer"), ok, no), (Some("editor"), ok, created)] {
        if let Some(role) = role {
            let change = json!([{"id": bobs_id, "role": role}]);
            platform.patch(&format!("/projects/{project}/members"), &ada, change).await.is(StatusCode::OK);
        }
        platform.get("/apps/iris/access", &bob).await.is(reads);
        platform.say("/apps/iris/access", &bob, json!({"open_to": "members"})).await.is(no);
        for what in ["share_links", "app_keys"] {
            let path = format!("/apps/iris/{what}");
            platform.post(&path, &bob, link.clone()).await.is(makes);
            platform.get(&path, &bob).await.is(if makes == created { ok } else { no });
            platform.get(&path, "").await.is(StatusCode::UNAUTHORIZED);
        }
    }
}

#[tokio::test]
async fn a_link_is_shown_once_counted_and_revoked() {
    let (platform, [ada, ..], _) = with_iris("private").await;
    let links = "/apps/iris/share_links";
    let new = json!({"name": "for a reviewer", "expires_at": Timestamp::now() + Duration::from_secs(60)});
    let early = platform.post(links, &ada, new.clone()).await.is(StatusCode::CONFLICT);
    assert!(early.message().contains("`link`"), "{}", early.message());
    platform.say("/apps/iris/access", &ada, json!({"open_to": "link"})).await.is(StatusCode::OK);
    let made = platform.post(links, &ada, new).await.is(StatusCode::CREATED);
    let (url, id) = (made.text("url"), made.text("id"));
    let secret = url.strip_prefix("http://iris.localhost:8080/.marmot/link?secret=").unwrap();
    assert!(
        secret.len() >= 32 && secret.bytes().all(|byte| byte.is_ascii_alphanumeric()),
        "160 bits: {secret}"
    );

    let access = platform.access_of("iris").await;
    let known = &access.links[0];
    assert_eq!(known.fingerprint, marmot_gateway::routes::fingerprint(secret));
    // As the gateway counts it.
    known.usage.put_back((3, 1_800_000_000_000));
    let listed = platform.get(links, &ada).await.is(StatusCode::OK).body;
    assert!(!listed.to_string().contains(secret));
    assert_json!(listed, @r#"
    [
      {
        "created_at": "[TIME]",
        "created_by": "ada",
        "expires_at": "[TIME]",
        "id": "[ID]",
        "last_used_at": "[TIME]",
        "name": "for a reviewer",
        "uses": 3
      }
    ]
    "#);
    // It counts where the app is open to those who have a link, and nowhere else.
    platform.say("/apps/iris/access", &ada, json!({"open_to": "members"})).await.is(StatusCode::OK);
    assert!(platform.access_of("iris").await.links.is_empty());
    platform.say("/apps/iris/access", &ada, json!({"open_to": "link"})).await.is(StatusCode::OK);
    assert_eq!(platform.access_of("iris").await.links.len(), 1);
    platform.delete(&format!("{links}/{id}"), &ada).await.is(StatusCode::NO_CONTENT);
    platform.delete(&format!("{links}/{id}"), &ada).await.is(StatusCode::NOT_FOUND);
    assert!(platform.access_of("iris").await.links.is_empty());
    let database = std::fs::read(platform.bench.dir.path().join("marmot.db")).unwrap();
    let log = std::fs::read(platform.bench.dir.path().join("marmot.db-wal")).unwrap_or_default();
    let kept = [database, log].concat();
    assert!(!kept.windows(secret.len()).any(|bytes| bytes == secret.as_bytes()), "it is kept nowhere");
    let happened = platform.get("/apps/iris/events", &ada).await.body;
    assert!(happened.to_string().contains("for a reviewer") && !happened.to_string().contains(secret));
}

#[tokio::test]
async fn a_key_is_shown_once_limited_and_revoked() {
    let (platform, [ada, ..], _) = with_iris("public").await;
    let keys = "/apps/iris/app_keys";
    for (wrong, names) in [
        (json!({"name": "x", "requests_per_minute": 0}), "requests_per_minute"),
        (json!({"name": "x", "requests_at_once": 2_000_000}), "requests_at_once"),
        (json!({"name": " "}), "name"),
        (json!({"name": "x", "expires_at": "2020-01-01T00:00:00Z"}), "past"),
    ] {
        let refused = platform.post(keys, &ada, wrong).await.is(StatusCode::UNPROCESSABLE_ENTITY);
        assert!(refused.message().contains(names), "{}", refused.message());
    }
    let new = json!({"name": "nightly job", "requests_per_minute": 60, "requests_at_once": 2});
    let made = platform.post(keys, &ada, new).await.is(StatusCode::CREATED);
    let (key, id) = (made.text("key"), made.text("id"));
    assert!(key.starts_with("mmk_") && key.len() >= 36, "{key}");
    let access = platform.access_of("iris").await;
    assert_eq!(access.keys[0].fingerprint, marmot_gateway::routes::fingerprint(&key));
    assert_eq!(access.keys[0].quota.at_once, Some(2));
    let listed = platform.get(keys, &ada).await.is(StatusCode::OK).body;
    assert!(!listed.to_string().contains(&key));
    assert_eq!((&listed[0]["requests_per_minute"], &listed[0]["uses"]), (&json!(60), &json!(0)));
    platform.delete(&format!("{keys}/{id}"), &ada).await.is(StatusCode::NO_CONTENT);
    assert!(platform.access_of("iris").await.keys.is_empty());
}

#[tokio::test]
async fn members_of_a_named_group_are_let_in_as_long_as_they_are() {
    let (platform, [ada, bob, cleo], _) = with_iris("private").await;
    platform.post("/groups", &bob, json!({"name": "Lab", "slug": "lab"})).await.is(StatusCode::CREATED);
    let said = json!({"open_to": "named", "users": ["cleo"], "groups": ["lab"]});
    let answer = platform.say("/apps/iris/access", &ada, said).await.is(StatusCode::OK);
    assert_eq!((&answer.body["users"], &answer.body["groups"]), (&json!(["cleo"]), &json!(["lab"])));
    assert_eq!(platform.audience_of("iris").await, Some(3));
    let leave = json!([{"username": "cleo", "role": "owner"}, {"username": "bob", "role": null}]);
    platform.patch("/groups/lab/members", &bob, leave).await.is(StatusCode::OK);
    assert_eq!(platform.audience_of("iris").await, Some(2));
    platform.delete("/groups/lab", &cleo).await.is(StatusCode::NO_CONTENT);
    let after = platform.get("/apps/iris/access", &ada).await.is(StatusCode::OK).body;
    assert_eq!((&after["users"], &after["groups"]), (&json!(["cleo"]), &json!([])));
}
