//! Previews of branches: what they share with their launcher and what not, when they come and go; and branches that are
//! looked at without a webhook. Time is an argument throughout.

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::service::Picture;
use crate::testing::{commit, repository};

impl Platform {
    async fn picture(&self) -> Picture {
        self.service.picture().await.unwrap()
    }

    /// What the app of this name is, if it is on.
    async fn active(&self, app: &str) -> Option<crate::service::ActiveApp> {
        self.picture().await.apps.into_iter().find(|active| active.app.name.as_str() == app)
    }

    /// A message of GitLab's.
    async fn gitlab(&self, hook: &(String, String), event: &str, body: Value) -> String {
        let (launcher, secret) = hook;
        let headers = [("x-gitlab-token", secret.as_str()), ("x-gitlab-event", event)];
        self.hear(launcher, &headers, &body.to_string()).await.is(StatusCode::OK).text("message")
    }

    async fn hook(&self, token: &str, launcher: &str) -> (String, String) {
        let hook = self.post(&format!("/session_launchers/{launcher}/webhook"), token, json!({})).await;
        (launcher.to_owned(), hook.is(StatusCode::CREATED).text("secret"))
    }
}

fn id(launcher: &Value) -> String {
    launcher["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_preview_has_an_address_of_its_own_lives_by_its_launchers_rules_and_goes_with_all_it_has() {
    let (platform, ada, _, launcher) = Platform::with_running_iris().await;
    let previews = format!("/session_launchers/{launcher}/previews");
    let before = Timestamp::now();
    let made = platform.post(&previews, &ada, json!({"branch": "feature/Map", "days": 3})).await;
    let made = made.is(StatusCode::CREATED);
    assert_json!(made.body, @r#"
    {
      "app_name": "iris-feature-map",
      "branch": "feature/Map",
      "creation_date": "[TIME]",
      "ends_at": "[TIME]",
      "environment_id": "[ID]",
      "id": "[ID]",
      "launcher_id": "[ID]",
      "phase": "building",
      "url": "http://iris-feature-map.localhost:8080/"
    }
    "#);
    let ends: Timestamp = made.text("ends_at").parse().unwrap();
    assert!(ends.duration_since(before) >= SignedDuration::from_hours(71));
    // It is listed at its launcher, and counts nowhere as the app itself.
    assert_eq!(platform.get(&previews, &ada).await.body.as_array().unwrap().len(), 1);
    for list in ["/apps", "/session_launchers"] {
        assert_eq!(platform.get(list, &ada).await.body.as_array().unwrap().len(), 1, "{list}");
    }
    platform.get("/apps/iris-feature-map", &ada).await.is(StatusCode::OK);
    let again = platform.post(&previews, &ada, json!({"branch": "feature/Map"})).await;
    assert!(again.is(StatusCode::CONFLICT).message().contains("`iris-feature-map`"));
    // Another branch whose name comes to the same.
    let other =
        platform.post(&previews, &ada, json!({"branch": "feature-map"})).await.is(StatusCode::CREATED);
    let other_name = other.text("app_name");
    assert!(other_name.starts_with("iris-feature-map-") && other_name.len() <= 63, "{other_name}");

    // What is changed about the launcher, it follows; by itself it is not changed.
    platform.build_succeeds().await;
    let variables = json!({"env_variables": [{"name": "GREETING", "value": "good day"}]});
    platform
        .patch(&format!("/session_launchers/{launcher}"), &ada, variables.clone())
        .await
        .is(StatusCode::OK);
    let preview = platform.active("iris-feature-map").await.unwrap();
    assert_eq!(preview.revision.unwrap().variables[0].value, "good day");
    let own = format!("/session_launchers/{}", made.text("id"));
    for refused in [
        platform.patch(&own, &ada, variables).await,
        platform.delete(&own, &ada).await,
        platform.post(&format!("{own}/webhook"), &ada, json!({})).await,
        platform.put(&format!("{own}/secrets/KEY"), &ada, json!({"value": "x"})).await,
        platform.put("/apps/iris-feature-map/access", &ada, json!({"open_to": "everyone"})).await,
        platform.put("/apps/iris-feature-map/scaling", &ada, json!({})).await,
        platform.post("/apps/iris-feature-map/share_links", &ada, json!({"name": "x"})).await,
    ] {
        assert!(refused.is(StatusCode::CONFLICT).message().contains("is a preview"));
    }
    let nested = platform.post(&format!("{own}/previews"), &ada, json!({"branch": "main"})).await;
    assert!(nested.is(StatusCode::UNPROCESSABLE_ENTITY).message().contains("is a preview itself"));

    // Its end takes all of it; the same branch gets the same address again.
    let path = format!("{previews}/{}", made.text("id"));
    platform.delete(&path, &ada).await.is(StatusCode::NO_CONTENT);
    platform.delete(&path, &ada).await.is(StatusCode::NOT_FOUND);
    assert!(platform.active("iris-feature-map").await.is_none());
    let builds = format!("/environments/{}/builds", made.text("environment_id"));
    platform.get(&builds, &ada).await.is(StatusCode::NOT_FOUND);
    let back = platform.post(&previews, &ada, json!({"branch": "feature/Map"})).await;
    assert_eq!(back.is(StatusCode::CREATED).text("app_name"), "iris-feature-map");
    assert!(platform.active("iris").await.is_some());

    // With the launcher, its previews go.
    platform.delete(&format!("/session_launchers/{launcher}"), &ada).await.is(StatusCode::NO_CONTENT);
    let picture = platform.picture().await;
    assert!(picture.apps.is_empty() && picture.builds.is_empty() && picture.addresses.is_empty());
}

#[tokio::test]
async fn previews_are_bounded_in_number_in_time_and_in_what_they_are_of() {
    let (platform, ada, _, launcher) = Platform::with_running_iris().await;
    let previews = format!("/session_launchers/{launcher}/previews");
    let make = async |body: Value| platform.post(&previews, &ada, body).await;
    for (body, why) in [
        (json!({"branch": "-x"}), "is no name of a branch"),
        (json!({"branch": "--upload-pack=x"}), "is no name of a branch"),
        (json!({"branch": "a..b"}), "is no name of a branch"),
        (json!({"branch": "a\u{1b}b"}), "control character"),
        (json!({"branch": "x".repeat(3000)}), "longer than"),
        (json!({"branch": "dev", "days": 0}), "from 1 to 90 days"),
        (json!({"branch": "dev", "days": 91}), "from 1 to 90 days"),
    ] {
        let refused = make(body.clone()).await.is(StatusCode::UNPROCESSABLE_ENTITY);
        assert!(refused.message().contains(why), "{body}: {}", refused.body);
    }
    for number in 0..10 {
        make(json!({"branch": format!("dev/{number}")})).await.is(StatusCode::CREATED);
    }
    let refused = make(json!({"branch": "one-more"})).await.is(StatusCode::CONFLICT);
    assert!(refused.message().contains("10 previews at a time"));
}

#[tokio::test]
async fn a_preview_sleeps_soon_and_ends_when_its_time_is_over_unless_somebody_lets_it_stay() {
    let (platform, ada, _, launcher) = Platform::with_running_iris().await;
    let eager = json!({"min_replicas": 2, "max_replicas": 3, "idle_after": 3600});
    platform.put("/apps/iris/scaling", &ada, eager).await.is(StatusCode::OK);
    let previews = format!("/session_launchers/{launcher}/previews");
    let made = platform.post(&previews, &ada, json!({"branch": "dev", "days": 1})).await;
    let path = format!("{previews}/{}", made.is(StatusCode::CREATED).text("id"));
    let effective = platform.get("/apps/iris-dev/scaling", &ada).await.is(StatusCode::OK).body;
    let of = |name: &str| effective["effective"][name].as_u64().unwrap();
    assert_eq!([of("min_replicas"), of("max_replicas"), of("idle_after")], [0, 1, 60]);

    let ends = |text: String| text.parse::<Timestamp>().unwrap();
    let first = ends(platform.get(&previews, &ada).await.body[0]["ends_at"].as_str().unwrap().to_owned());
    let second = SignedDuration::from_secs(1);
    assert_eq!(platform.service.end_old_previews(first - second).await.unwrap(), Some(first));
    let later =
        ends(platform.patch(&path, &ada, json!({"days": 5})).await.is(StatusCode::OK).text("ends_at"));
    assert_eq!(platform.service.end_old_previews(first).await.unwrap(), Some(later));
    assert!(platform.active("iris-dev").await.is_some());
    assert_eq!(platform.service.end_old_previews(later).await.unwrap(), None);
    assert!(platform.active("iris-dev").await.is_none() && platform.active("iris").await.is_some());
    let events = platform.get("/apps/iris/events", &ada).await.is(StatusCode::OK).body;
    assert_eq!(events[0]["message"], "a preview of the branch dev has ended: its time was over");
}

#[tokio::test]
async fn previews_get_secrets_only_when_an_owner_allows_it() {
    let (platform, ada, project, launcher) = Platform::with_running_iris().await;
    let bob = platform.user("bob").await;
    let members = json!([{"username": "bob", "role": "editor"}]);
    platform.patch(&format!("/projects/{project}/members"), &ada, members).await.is(StatusCode::OK);
    for path in
        [format!("/projects/{project}/secrets/OF_ALL"), format!("/session_launchers/{launcher}/secrets/OWN")]
    {
        platform.put(&path, &ada, json!({"value": "hunter2"})).await.is(StatusCode::OK);
    }
    let previews = format!("/session_launchers/{launcher}/previews");
    let made = platform.post(&previews, &bob, json!({"branch": "dev"})).await.is(StatusCode::CREATED);
    let environment = made.text("environment_id").parse().unwrap();
    let given = async || {
        let of_app: Vec<_> = platform
            .active("iris-dev")
            .await
            .unwrap()
            .secrets
            .into_iter()
            .map(|secret| secret.name)
            .collect();
        let of_build =
            platform.picture().await.given.get(&environment).map_or(0, |(_, secrets)| secrets.len());
        (of_app, of_build)
    };
    assert_eq!(given().await, (vec![], 0));
    let following = format!("/session_launchers/{launcher}/following");
    let refused = platform.patch(&following, &bob, json!({"secrets": true})).await.is(StatusCode::FORBIDDEN);
    assert!(refused.message().contains("only its owners may"));
    assert_eq!(given().await, (vec![], 0));
    platform.patch(&following, &ada, json!({"secrets": true})).await.is(StatusCode::OK);
    assert_eq!(given().await, (vec!["OF_ALL".to_owned(), "OWN".to_owned()], 2));
    // Whoever may change the launcher may take them away again.
    platform.patch(&following, &bob, json!({"secrets": false})).await.is(StatusCode::OK);
    assert_eq!(given().await, (vec![], 0));
}

#[tokio::test]
async fn a_preview_is_open_to_those_whom_the_app_lets_in_as_who_they_are_and_not_by_its_links() {
    let (platform, ada, _, launcher) = Platform::with_running_iris().await;
    let previews = format!("/session_launchers/{launcher}/previews");
    platform.post(&previews, &ada, json!({"branch": "dev"})).await.is(StatusCode::CREATED);
    let access = async |app: &str| {
        let addresses = platform.picture().await.addresses;
        addresses.into_iter().find(|address| address.app.as_str() == app).unwrap().access
    };
    for open_to in ["everyone", "signed_in", "members", "link"] {
        platform.put("/apps/iris/access", &ada, json!({"open_to": open_to})).await.is(StatusCode::OK);
        assert_eq!(access("iris").await.audience, access("iris-dev").await.audience, "{open_to}");
        let told = platform.get("/apps/iris-dev/access", &ada).await.is(StatusCode::OK);
        assert_eq!(told.text("open_to"), open_to);
    }
    platform.post("/apps/iris/share_links", &ada, json!({"name": "x"})).await.is(StatusCode::CREATED);
    platform.post("/apps/iris/app_keys", &ada, json!({"name": "x"})).await.is(StatusCode::CREATED);
    let (own, preview) = (access("iris").await, access("iris-dev").await);
    assert_eq!((own.links.len(), own.keys.len()), (1, 1));
    assert_eq!((preview.links.len(), preview.keys.len()), (0, 0));
}

#[tokio::test]
async fn a_webhook_builds_previews_anew_and_ends_them_with_their_branch() {
    let (platform, ada, _, launcher) = Platform::with_running_iris().await;
    let hook = platform.hook(&ada, &launcher).await;
    let previews = format!("/session_launchers/{launcher}/previews");
    platform.post(&previews, &ada, json!({"branch": "dev"})).await.is(StatusCode::CREATED);
    platform.build_succeeds().await;
    let push = |branch: &str, after: &str| json!({"ref": format!("refs/heads/{branch}"), "after": after, "project": {"default_branch": "main"}});
    let builds = async || platform.picture().await.builds.len();
    platform.gitlab(&hook, "Push Hook", push("other", &"a".repeat(40))).await;
    assert_eq!(builds().await, 0);
    let told = platform.gitlab(&hook, "Push Hook", push("dev", &"b".repeat(40))).await;
    assert_eq!((told.as_str(), builds().await), ("the app is built anew", 1));
    assert!(platform.active("iris").await.unwrap().awaited.is_none(), "the app itself is not built for it");
    let told = platform.gitlab(&hook, "Push Hook", push("dev", &"0".repeat(40))).await;
    assert_eq!((told.as_str(), builds().await), ("the preview of the branch has ended", 0));
    assert!(platform.active("iris-dev").await.is_none());
}

#[tokio::test]
async fn pull_requests_make_and_end_previews_where_the_launcher_says_so_and_never_of_strangers_code() {
    let (platform, ada, _, launcher) = Platform::with_running_iris().await;
    let hook = platform.hook(&ada, &launcher).await;
    let request = |action: &str, from: u32, commit: &str| {
        json!({"object_attributes": {"action": action, "source_branch": "dev", "source_project_id": from,
            "target_project_id": 7, "oldrev": "x", "last_commit": {"id": commit.repeat(40)}}})
    };
    let hear = async |message: Value| platform.gitlab(&hook, "Merge Request Hook", message).await;
    let told = hear(request("open", 7, "a")).await;
    assert_eq!(told, "heard; this launcher makes no previews of pull requests");
    let following = format!("/session_launchers/{launcher}/following");
    platform.patch(&following, &ada, json!({"pull_requests": true})).await.is(StatusCode::OK);
    let told = hear(request("open", 8, "a")).await;
    assert!(told.contains("another repository's"), "{told}");
    assert!(platform.active("iris-dev").await.is_none());
    let told = hear(request("open", 7, "a")).await;
    assert_eq!(told, "there is a preview of the branch now: http://iris-dev.localhost:8080");
    assert_eq!(platform.picture().await.builds.len(), 1);
    // The same commit, told of as a push.
    let push =
        json!({"ref": "refs/heads/dev", "after": "a".repeat(40), "project": {"default_branch": "main"}});
    assert_eq!(platform.gitlab(&hook, "Push Hook", push).await, "this commit is known already");
    assert_eq!(hear(request("update", 7, "b")).await, "the app is built anew");
    assert_eq!(platform.picture().await.builds.len(), 2);
    assert_eq!(hear(request("merge", 7, "b")).await, "the preview of the branch has ended");
    assert!(platform.active("iris-dev").await.is_none());
    // The message that opened it, once more, as somebody who listened on the way might send it.
    assert_eq!(hear(request("open", 7, "a")).await, "this was heard before");
}

#[tokio::test]
async fn github_and_gitea_tell_of_pull_requests_in_their_own_words() {
    let (platform, ada, _, launcher) = Platform::with_running_iris().await;
    let (_, secret) = platform.hook(&ada, &launcher).await;
    let following = format!("/session_launchers/{launcher}/following");
    platform.patch(&following, &ada, json!({"pull_requests": true})).await.is(StatusCode::OK);
    let hear = async |action: &str, head: Value| {
        let body = json!({"action": action, "pull_request": {
            "head": {"ref": "dev", "sha": "a".repeat(40), "repo": head}, "base": {"ref": "main", "repo": {"id": 7}}}});
        // Any proof is as good here: that signatures are checked is shown elsewhere.
        let headers = [("x-gitlab-token", secret.as_str()), ("x-gitlab-event", "pull_request")];
        platform.hear(&launcher, &headers, &body.to_string()).await.is(StatusCode::OK).text("message")
    };
    // A fork that was removed has no repository.
    for stranger in [json!({"id": 8}), Value::Null, json!({"id": null})] {
        assert!(hear("opened", stranger).await.contains("another repository's"));
    }
    assert!(hear("opened", json!({"id": 7})).await.starts_with("there is a preview"));
    assert_eq!(hear("labeled", json!({"id": 7})).await, "heard; nothing follows from it");
    assert_eq!(hear("closed", json!({"id": 7})).await, "the preview of the branch has ended");
}

/// A platform that takes repositories of this machine, and an app of one, which is on and built.
async fn polled() -> (Platform, String, String, std::path::PathBuf, String) {
    let platform = Platform::on(Bench::with_local_repositories().await);
    let ada = platform.user("ada").await;
    let project = platform.project(&ada, "Iris", "public").await;
    let dir = platform.bench.dir.path().join("repository");
    let address = repository(&dir, &[("index.html", "hello")]);
    let launcher = json!({"project_id": project, "name": "Iris",
        "environment": {"environment_image_source": "build", "repository": address}});
    let launcher =
        id(&platform.post("/session_launchers", &ada, launcher).await.is(StatusCode::CREATED).body);
    platform.post("/apps", &ada, json!({"launcher_id": launcher})).await.is(StatusCode::CREATED);
    let first = commit(&dir, "index.html", "hello again");
    platform.build_succeeds_as(&first).await;
    (platform, ada, launcher, dir, first)
}

#[tokio::test]
async fn a_branch_that_is_looked_at_is_built_anew_once_for_each_time_that_it_has_moved() {
    let (platform, ada, launcher, dir, first) = polled().await;
    let following = format!("/session_launchers/{launcher}/following");
    let untold = platform.get(&following, &ada).await.is(StatusCode::OK);
    assert!(untold.body["poll_minutes"].is_null() && untold.body["next_look_at"].is_null());
    for minutes in [0, 1441] {
        let refused = platform.patch(&following, &ada, json!({"poll_minutes": minutes})).await;
        let refused = refused.is(StatusCode::UNPROCESSABLE_ENTITY);
        assert!(refused.message().contains("every 1 to 1440 minutes"), "{}", refused.body);
    }
    platform.patch(&following, &ada, json!({"poll_minutes": 5})).await.is(StatusCode::OK);
    let look = async |at: Timestamp| platform.service.look_at_branches(at).await.unwrap().unwrap();
    let builds = async || platform.picture().await.builds.len();

    let now = Timestamp::from_millisecond(Timestamp::now().as_millisecond()).unwrap();
    let minutes = SignedDuration::from_mins;
    let next = look(now).await;
    assert_eq!(next, now + minutes(5));
    assert_eq!(builds().await, 0, "what runs was built from the newest commit");
    let told = platform.get(&following, &ada).await;
    assert_eq!((told.text("commit"), told.text("looked_at")), (first, now.to_string()));
    // Before it is due, nobody looks.
    let second = commit(&dir, "index.html", "more");
    assert_eq!(look(next - minutes(1)).await, next);
    assert_eq!(builds().await, 0);
    look(next).await;
    assert_eq!(builds().await, 1);
    assert_eq!(platform.get(&following, &ada).await.text("commit"), second);
    // It fails; that it did is no reason to do it again.
    look(next + minutes(5)).await;
    assert_eq!(builds().await, 1);
    // Who switches the app off is left alone.
    platform.delete("/apps/iris", &ada).await.is(StatusCode::NO_CONTENT);
    commit(&dir, "index.html", "even more");
    assert_eq!(platform.service.look_at_branches(next + minutes(60)).await.unwrap(), None);
}

#[tokio::test]
async fn what_cannot_be_looked_at_says_why_and_is_looked_at_less_and_less_often() {
    let (platform, ada, launcher, dir, _) = polled().await;
    let following = format!("/session_launchers/{launcher}/following");
    platform.patch(&following, &ada, json!({"poll_minutes": 10})).await.is(StatusCode::OK);
    let away = dir.with_extension("away");
    std::fs::rename(&dir, &away).unwrap();
    let mut at = Timestamp::from_millisecond(Timestamp::now().as_millisecond()).unwrap();
    let mut pauses = Vec::new();
    for _ in 0..4 {
        let next = platform.service.look_at_branches(at).await.unwrap().unwrap();
        pauses.push(next.duration_since(at).as_mins());
        at = next;
    }
    assert_eq!(pauses, [20, 40, 80, 160]);
    let told = platform.get(&following, &ada).await;
    assert_eq!(told.body["failures"], 4);
    assert!(told.text("error").contains("was not found"), "{}", told.body);
    std::fs::rename(&away, &dir).unwrap();
    let next = platform.service.look_at_branches(at).await.unwrap().unwrap();
    assert_eq!(next.duration_since(at).as_mins(), 10);
    assert!(platform.get(&following, &ada).await.body["error"].is_null());
}

#[tokio::test]
async fn a_preview_is_looked_at_with_its_launcher_and_ends_when_its_branch_is_gone() {
    let (platform, ada, launcher, dir, first) = polled().await;
    let git = |args: &[&str]| {
        let mut git = std::process::Command::new("git");
        assert!(
            git.args(args)
                .current_dir(&dir)
                .env("GIT_CONFIG_GLOBAL", "/dev/null")
                .status()
                .unwrap()
                .success()
        );
    };
    git(&["branch", "dev"]);
    // A tag of the same name is no branch.
    git(&["tag", "dev"]);
    let following = format!("/session_launchers/{launcher}/following");
    platform.patch(&following, &ada, json!({"poll_minutes": 5})).await.is(StatusCode::OK);
    let previews = format!("/session_launchers/{launcher}/previews");
    platform.post(&previews, &ada, json!({"branch": "dev"})).await.is(StatusCode::CREATED);
    platform.build_succeeds_as(&first).await;
    let hour = SignedDuration::from_hours(1);
    let at = Timestamp::now() + hour;
    platform.service.look_at_branches(at).await.unwrap();
    assert!(platform.active("iris-dev").await.is_some());
    assert!(platform.picture().await.builds.is_empty());
    git(&["branch", "-D", "dev"]);
    platform.service.look_at_branches(at + hour).await.unwrap();
    assert!(platform.active("iris-dev").await.is_none());
    let events = platform.get("/apps/iris/events", &ada).await.is(StatusCode::OK).body;
    assert_eq!(events[0]["message"], "a preview of the branch dev has ended: the branch is gone");
    let root = Identity::User(platform.bench.user("root").await);
    let deeds = platform.service.audit(&root, crate::model::Page::FIRST).await;
    let deed = deeds.unwrap().items.into_iter().find(|deed| deed.action == "preview.ended").unwrap();
    assert_eq!(deed.actor, "server");
}

#[tokio::test]
async fn a_repository_that_may_not_be_cloned_may_not_be_looked_at_either() {
    let platform = Platform::on(Bench::with_local_repositories().await);
    let ada = platform.user("ada").await;
    let project = platform.project(&ada, "Iris", "public").await;
    let launcher = json!({"project_id": project, "name": "Iris",
        "environment": {"environment_image_source": "build", "repository": "http://127.0.0.1:1/x.git"}});
    let launcher =
        id(&platform.post("/session_launchers", &ada, launcher).await.is(StatusCode::CREATED).body);
    platform.post("/apps", &ada, json!({"launcher_id": launcher})).await.is(StatusCode::CREATED);
    let following = format!("/session_launchers/{launcher}/following");
    platform.patch(&following, &ada, json!({"poll_minutes": 5})).await.is(StatusCode::OK);
    platform.service.look_at_branches(Timestamp::now()).await.unwrap();
    let error = platform.get(&following, &ada).await.text("error");
    assert!(
        error.contains("builds may not go there") || error.contains("not an address of the public internet"),
        "{error}"
    );
}
