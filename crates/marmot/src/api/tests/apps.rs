//! Builds and apps: from activation to shut down, as the engine's picture changes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::BodyDataStream;
use futures_util::StreamExt as _;
use marmot_core::id::{BuildId, RevisionId};
use marmot_core::{Gate, Moment};
use marmot_engine::Observed;
use marmot_engine::observed::{
    BuildState, Failure, FailureReason, Memory, ObservedApp, ObservedReplica, ReplicaStage, SleepDepth,
    StartStep,
};

use super::*;
use crate::model::BuildResult;
use crate::service::BuildEnd;

impl Platform {
    /// Paints the engine's picture of the app `iris`.
    fn sees(&self, app: ObservedApp) {
        self.bench.observed.send_modify(|observed| {
            let mut picture = Observed::clone(observed);
            picture.apps.insert("iris".parse().unwrap(), app);
            *observed = Arc::new(picture);
        });
    }

    /// The one build that should be done.
    async fn pending_build(&self) -> BuildId {
        self.service.picture().await.unwrap().builds[0].id
    }

    pub(super) async fn build_succeeds(&self) {
        self.build_succeeds_as(&"c0ffee".repeat(6)).await;
    }

    /// The one pending build succeeds, of this commit.
    pub(super) async fn build_succeeds_as(&self, commit: &str) {
        let result = BuildResult { commit: Some(commit.to_owned()), ..BuildResult::default() };
        let build = self.pending_build().await;
        assert!(self.service.build_ended(build, BuildEnd::Succeeded(result)).await.unwrap());
    }

    /// The revision that the one app should run.
    async fn wanted(&self) -> RevisionId {
        self.service.picture().await.unwrap().apps[0].app.wanted.unwrap()
    }

    /// An owner's token and the launcher `iris`.
    pub(super) async fn with_iris() -> (Self, String, Value) {
        let platform = Self::new().await;
        let ada = platform.user("ada").await;
        let project = platform.project(&ada, "Iris", "public").await;
        let launcher = platform.launcher(&ada, &project, "Iris").await;
        (platform, ada, launcher)
    }

    async fn phase(&self) -> (String, String) {
        let app = self.get("/apps/iris", "").await.is(StatusCode::OK);
        (app.text("phase"), app.text("status"))
    }
}

fn replica(revision: RevisionId, stage: ReplicaStage) -> ObservedReplica {
    ObservedReplica {
        id: 7.into(),
        revision,
        stage,
        since: Moment::START,
        gate: Arc::new(Gate::new(1)),
        sockets: None,
        memory: Memory { resident: 1 << 20, swapped: 0, compressed: 0 },
        depth: SleepDepth::default(),
    }
}

fn address() -> SocketAddr {
    "127.0.0.1:1".parse().unwrap()
}

fn with(replica: ObservedReplica) -> ObservedApp {
    ObservedApp { replicas: vec![replica], ..ObservedApp::default() }
}

fn phase(phase: &str, status: &str) -> (String, String) {
    (phase.to_owned(), status.to_owned())
}

#[tokio::test]
async fn an_activated_launcher_is_built_started_put_to_sleep_and_shut_down() {
    let (platform, ada, launcher) = Platform::with_iris().await;
    let activate = || platform.post("/apps", &ada, json!({"launcher_id": launcher["id"]}));
    let app = activate().await.is(StatusCode::CREATED);
    assert_json!(app.body, @r#"
        {
          "build": {
            "created_at": "[TIME]",
            "environment_id": "[ID]",
            "id": "[ID]",
            "status": "in_progress",
            "step": "Waiting for its turn"
          },
          "image": null,
          "launcher_id": "[ID]",
          "name": "iris",
          "phase": "building",
          "project_id": "[ID]",
          "replicas": [],
          "requests": 0,
          "sessions": 0,
          "started": "[TIME]",
          "status": "pending",
          "step": "Waiting for its turn",
          "title": "Iris",
          "url": "http://iris.localhost:8080/"
        }
        "#);
    let again = activate().await.is(StatusCode::CONFLICT);
    assert_eq!(again.message(), "the launcher's app `iris` is active already");

    platform.build_succeeds().await;
    assert_eq!(platform.phase().await, phase("starting", "pending"));
    let revision = platform.wanted().await;
    platform.sees(with(replica(revision, ReplicaStage::Starting(StartStep::WaitingForPort))));
    assert_eq!(platform.get("/apps/iris", "").await.text("step"), "Waiting for its port");
    platform.sees(with(replica(revision, ReplicaStage::Running { address: address() })));
    assert!(platform.service.revision_ready(revision).await.unwrap());
    let running = platform.get("/apps/iris", "").await.is(StatusCode::OK);
    assert_json!(running.body, @r#"
        {
          "build": {
            "created_at": "[TIME]",
            "ended_at": "[TIME]",
            "environment_id": "[ID]",
            "id": "[ID]",
            "result": {
              "command": null,
              "completed_at": "[TIME]",
              "repository_git_commit_sha": "c0ffeec0ffeec0ffeec0ffeec0ffeec0ffee",
              "repository_url": "https://example.org/iris.git",
              "summary": null
            },
            "status": "succeeded"
          },
          "image": "c0ffeec0ffeec0ffeec0ffeec0ffeec0ffee",
          "launcher_id": "[ID]",
          "name": "iris",
          "phase": "running",
          "project_id": "[ID]",
          "replicas": [
            {
              "compressed_bytes": 0,
              "created_at": "[TIME]",
              "depth": null,
              "id": "[ID]",
              "memory_bytes": 1048576,
              "requests": 0,
              "revision_id": "[ID]",
              "sessions": 0,
              "state": "running",
              "swapped_bytes": 0
            }
          ],
          "requests": 0,
          "revision": 1,
          "sessions": 0,
          "started": "[TIME]",
          "status": "ready",
          "title": "Iris",
          "url": "http://iris.localhost:8080/"
        }
        "#);
    platform.sees(with(replica(revision, ReplicaStage::Hibernated { address: address() })));
    let asleep = platform.get("/apps/iris", "").await;
    assert_eq!((asleep.text("phase"), asleep.text("asleep_depth")), phase("asleep", "hibernated"));
    platform.sees(ObservedApp::default());
    let asleep = platform.get("/apps/iris", "").await;
    assert_eq!((asleep.text("phase"), asleep.text("asleep_depth")), phase("asleep", "stopped"));

    platform.delete("/apps/iris", "").await.is(StatusCode::UNAUTHORIZED);
    platform.delete("/apps/iris", &ada).await.is(StatusCode::NO_CONTENT);
    platform.get("/apps/iris", &ada).await.is(StatusCode::NOT_FOUND);
    platform.delete("/apps/iris", &ada).await.is(StatusCode::NOT_FOUND);
    let events = platform.get("/apps/iris/events", &ada).await.is(StatusCode::OK);
    let kinds: Vec<_> = events.body.as_array().unwrap().iter().map(|event| event["kind"].clone()).collect();
    assert_eq!(kinds, ["shut_down", "built", "activated"]);

    activate().await.is(StatusCode::CREATED);
    assert_eq!(platform.phase().await, phase("starting", "pending"));
    assert_eq!(platform.get("/apps/iris", "").await.body["revision"], 2);
}

#[tokio::test]
async fn fifty_people_activate_at_the_same_time_and_one_of_them_does() {
    let (platform, ada, launcher) = Platform::with_iris().await;
    let activate = |_| platform.post("/apps", &ada, json!({"launcher_id": launcher["id"]}));
    let answers = futures_util::future::join_all((0..50).map(activate)).await;
    let count = |status| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((count(StatusCode::CREATED), count(StatusCode::CONFLICT)), (1, 49));
    assert_eq!(platform.service.picture().await.unwrap().builds.len(), 1);
}

#[tokio::test]
async fn a_build_that_fails_makes_the_app_fail_with_the_reason_until_it_is_tried_again() {
    let (platform, ada, launcher) = Platform::with_iris().await;
    platform.post("/apps", &ada, json!({"launcher_id": launcher["id"]})).await.is(StatusCode::CREATED);
    let result = BuildResult {
        failed_step: Some("Installing packages".into()),
        reason: Some("there is no package `pandsa`".into()),
        last_lines: vec!["error: pandsa not found".to_owned()],
        ..BuildResult::default()
    };
    let build = platform.pending_build().await;
    assert!(platform.service.build_ended(build, BuildEnd::Failed(result.clone())).await.unwrap());
    assert!(!platform.service.build_ended(build, BuildEnd::Failed(result)).await.unwrap(), "ended once");
    let app = platform.get("/apps/iris", &ada).await;
    assert_eq!(app.text("phase"), "failed");
    assert_eq!(app.text("reason"), "the build failed: Installing packages: there is no package `pandsa`");
    assert_eq!(app.body["last_lines"], json!(["error: pandsa not found"]));
    assert_eq!(platform.get("/apps/iris", "").await.body["last_lines"], Value::Null);
    let tried = platform.patch("/apps/iris", &ada, json!({"state": "running"})).await.is(StatusCode::OK);
    assert_eq!(tried.text("phase"), "building");
    platform.build_succeeds().await;
    assert_eq!(platform.phase().await, phase("starting", "pending"));
}

#[tokio::test]
async fn an_app_that_cannot_start_is_failed_and_says_why() {
    let (platform, ada, launcher) = Platform::with_iris().await;
    platform.post("/apps", &ada, json!({"launcher_id": launcher["id"]})).await.is(StatusCode::CREATED);
    platform.build_succeeds().await;
    let revision = platform.wanted().await;
    let reason =
        FailureReason::NeverListened { expected: 20001, found: vec![8501], after: Duration::from_secs(60) };
    let failure =
        Failure { revision, at: jiff::Timestamp::UNIX_EPOCH, reason, last_lines: vec!["hi".to_owned()] };
    platform.sees(ObservedApp {
        failure: Some(Arc::new(failure)),
        gave_up: Some(revision),
        ..ObservedApp::default()
    });
    let app = platform.get("/apps/iris", &ada).await;
    assert_eq!(app.text("status"), "failed");
    assert!(
        app.text("reason")
            .starts_with("the app did not listen on port 20001 within 60 s; it listens on 8501")
    );
    let tried = platform.patch("/apps/iris", &ada, json!({"state": "running"})).await.is(StatusCode::OK);
    assert_eq!(tried.text("phase"), "starting");
    assert_ne!(platform.wanted().await, revision, "a new revision has a clean record");
}

#[tokio::test]
async fn a_new_build_of_an_active_app_updates_it_and_the_one_before_can_be_rolled_back_to() {
    let (platform, ada, launcher) = Platform::with_iris().await;
    platform.post("/apps", &ada, json!({"launcher_id": launcher["id"]})).await.is(StatusCode::CREATED);
    platform.build_succeeds().await;
    let first = platform.wanted().await;
    platform.service.revision_ready(first).await.unwrap();
    platform.sees(with(replica(first, ReplicaStage::Running { address: address() })));
    let builds = format!("/environments/{}/builds", launcher["environment"]["id"].as_str().unwrap());
    let build = platform.post(&builds, &ada, json!({})).await.is(StatusCode::CREATED);
    platform.post(&builds, &ada, json!({})).await.is(StatusCode::CONFLICT);
    assert_eq!(platform.phase().await, phase("updating", "ready"));
    platform.build_succeeds().await;
    assert_eq!(platform.phase().await, phase("updating", "ready"));
    assert_eq!(platform.get(&format!("/builds/{}", build.text("id")), "").await.text("status"), "succeeded");
    let list = platform.get(&builds, "").await.is(StatusCode::OK);
    assert_eq!((list.header("total"), &list.body[0]["id"]), ("2", &build.body["id"]));
    platform.service.revision_ready(platform.wanted().await).await.unwrap();
    let back = format!("/apps/iris/revisions/{first}/activate");
    let rolled = platform.send(platform.request(Method::POST, &back, &ada, None)).await.is(StatusCode::OK);
    assert_eq!((rolled.body["revision"].as_i64(), rolled.text("phase")), (Some(1), "running".to_owned()));
    let revisions = platform.get("/apps/iris/revisions", "").await.is(StatusCode::OK);
    assert_eq!(revisions.body.as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn a_restart_is_the_same_revision_again_with_replicas_of_its_own() {
    let (platform, ada, launcher) = Platform::with_iris().await;
    platform.post("/apps", &ada, json!({"launcher_id": launcher["id"]})).await.is(StatusCode::CREATED);
    let early = platform.post("/apps/iris/restart", &ada, json!({})).await.is(StatusCode::CONFLICT);
    assert!(
        early.body["error"]["message"].as_str().unwrap().contains("has not been built yet"),
        "{}",
        early.body
    );
    platform.build_succeeds().await;
    let first = platform.wanted().await;
    platform.service.revision_ready(first).await.unwrap();
    platform.sees(with(replica(first, ReplicaStage::Running { address: address() })));
    // A change of scaling is a revision, too, but one that runs as the first.
    platform.put("/apps/iris/scaling", &ada, json!({"max_replicas": 2})).await.is(StatusCode::OK);
    let again = platform.post("/apps/iris/restart", &ada, json!({})).await.is(StatusCode::OK);
    assert_eq!((again.body["revision"].as_i64(), again.text("phase")), (Some(3), "updating".to_owned()));
    let next = platform.wanted().await;
    assert_ne!(next, first, "replicas of the first are no replicas of it");
    let revisions = platform.get("/apps/iris/revisions", "").await.is(StatusCode::OK);
    assert_eq!(revisions.body[0]["build_id"], revisions.body[2]["build_id"]);
    assert_eq!(revisions.body[0]["scaling"], json!({"max_replicas": 2}));
    let events = platform.get("/apps/iris/events", &ada).await.is(StatusCode::OK);
    assert_eq!(events.body[0]["kind"], "restarted");
    assert_eq!(events.body[0]["by"], "ada");
    platform.service.revision_ready(next).await.unwrap();
    platform.sees(with(replica(next, ReplicaStage::Running { address: address() })));
    assert_eq!(platform.phase().await, phase("running", "ready"));
}

#[tokio::test]
async fn a_build_can_be_followed_and_cancelled() {
    let (platform, ada, launcher) = Platform::with_iris().await;
    let builds = format!("/environments/{}/builds", launcher["environment"]["id"].as_str().unwrap());
    let build = platform.post(&builds, &ada, json!({})).await.is(StatusCode::CREATED);
    let path = format!("/builds/{}", build.text("id"));
    assert_eq!(build.text("step"), "Waiting for its turn");
    platform.bench.observed.send_modify(|observed| {
        let mut picture = Observed::clone(observed);
        let state = BuildState::InProgress { step: "Cloning".into() };
        picture.builds.insert(build.text("id").parse().unwrap(), state);
        *observed = Arc::new(picture);
    });
    assert_eq!(platform.get(&path, "").await.text("step"), "Cloning");
    platform.patch(&path, &ada, json!({"status": "succeeded"})).await.is(StatusCode::UNPROCESSABLE_ENTITY);
    platform.patch(&path, "", json!({"status": "cancelled"})).await.is(StatusCode::UNAUTHORIZED);
    let cancelled = platform.patch(&path, &ada, json!({"status": "cancelled"})).await.is(StatusCode::OK);
    assert_eq!(cancelled.text("status"), "cancelled");
    assert!(platform.service.picture().await.unwrap().builds.is_empty(), "nobody works on it any more");
    platform.get(&format!("{path}/logs"), "").await.is(StatusCode::UNAUTHORIZED);
    platform.get(&format!("{path}/logs"), &ada).await.is(StatusCode::OK);
}

#[tokio::test]
async fn writes_and_the_engines_picture_wake_those_who_wait_for_changes() {
    let (platform, ada, launcher) = Platform::with_iris().await;
    let (mut changes, mut written) = (platform.service.changes(), platform.service.written());
    platform.post("/apps", &ada, json!({"launcher_id": launcher["id"]})).await.is(StatusCode::CREATED);
    assert!(changes.changed().await);
    assert!(written.has_changed().unwrap());
    written.mark_unchanged();
    platform.sees(ObservedApp::default());
    assert!(changes.changed().await);
    assert!(!written.has_changed().unwrap(), "the lifecycle is not woken by what it paints itself");
}

#[tokio::test]
async fn logs_follow_as_events_until_the_server_stops() {
    let (platform, ada, launcher) = Platform::with_iris().await;
    platform.post("/apps", &ada, json!({"launcher_id": launcher["id"]})).await.is(StatusCode::CREATED);
    assert_eq!(platform.get("/apps/iris/logs", &ada).await.is(StatusCode::OK).body, json!({}));
    let stopping = platform.service.stopping();
    let follow = platform.get("/apps/iris/logs?follow=true", &ada);
    let (answer, ()) = tokio::join!(follow, async { stopping.cancel() });
    assert_eq!(answer.is(StatusCode::OK).header("content-type"), "text/event-stream");
}

#[tokio::test]
async fn a_followed_log_ends_when_whoever_reads_it_may_no_longer() {
    let (platform, ada, launcher) = Platform::with_iris().await;
    let app = platform.post("/apps", &ada, json!({"launcher_id": launcher["id"]})).await;
    let members = format!("/projects/{}/members", launcher["project_id"].as_str().unwrap());
    let (bob, eve) = (platform.user("bob").await, platform.user("eve").await);
    let role =
        |role: Value| json!([{"username": "bob", "role": role}, {"username": "eve", "role": "viewer"}]);
    platform.patch(&members, &ada, role(json!("viewer"))).await.is(StatusCode::OK);

    // The engine's, without which there is nothing to follow.
    for dir in ["apps", "builds"] {
        std::fs::create_dir_all(platform.bench.dir.path().join(dir)).unwrap();
    }
    let app_logs = "/apps/iris/logs?follow=true";
    let build_logs = format!("/builds/{}/logs?follow=true", app.body["build"]["id"].as_str().unwrap());
    let follow = async |path: &str, token: &str| {
        let request = platform.request(Method::GET, path, token, None);
        let response = platform.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        response.into_body().into_data_stream()
    };
    let ended = async |mut stream: BodyDataStream| {
        let end = async { while stream.next().await.is_some() {} };
        tokio::time::timeout(Duration::from_secs(20), end).await.expect("a stream outlived what allowed it");
    };
    let mut still_allowed = follow(app_logs, &ada).await;
    let (of_app, of_build) = (follow(app_logs, &bob).await, follow(&build_logs, &bob).await);
    platform.patch(&members, &ada, role(Value::Null)).await.is(StatusCode::OK);
    ended(of_app).await;
    ended(of_build).await;

    let (of_app, of_build) = (follow(app_logs, &eve).await, follow(&build_logs, &eve).await);
    let token = platform.get("/user/tokens", &eve).await.body[0]["id"].as_str().unwrap().to_owned();
    platform.delete(&format!("/user/tokens/{token}"), &eve).await.is(StatusCode::NO_CONTENT);
    ended(of_app).await;
    ended(of_build).await;

    let replica = platform.bench.dir.path().join("apps/iris/replicas/01ARZ3NDEKTSV4RRFFQ69G5FAV");
    std::fs::create_dir_all(&replica).unwrap();
    std::fs::write(replica.join("log"), "2026-05-04T10:00:00Z for members\n").unwrap();
    let mut read = String::new();
    let look = async {
        while !read.contains("for members") {
            read.push_str(&String::from_utf8_lossy(&still_allowed.next().await.unwrap().unwrap()));
        }
    };
    tokio::time::timeout(Duration::from_secs(20), look).await.expect("the owner's stream goes on");
}

#[tokio::test]
async fn the_picture_says_who_may_open_what() {
    let (platform, ada, _) = Platform::with_iris().await;
    let secret = platform.project(&ada, "Secret", "private").await;
    platform.launcher(&ada, &secret, "Hidden").await;
    let picture = platform.service.picture().await.unwrap();
    let people = |name: &str| {
        let address = picture.addresses.iter().find(|address| address.app.as_str() == name).unwrap();
        assert!(!address.on);
        match &address.access.audience {
            marmot_gateway::routes::Audience::Everyone => None,
            marmot_gateway::routes::Audience::People(people) => Some(people.len()),
        }
    };
    assert_eq!((people("iris"), people("hidden")), (None, Some(1)));
}

#[tokio::test]
async fn where_nothing_confines_apps_only_operators_run_them() {
    let (platform, ada, launcher) = Platform::with_iris().await;
    let id = launcher["id"].as_str().unwrap();
    let root = platform.user("root").await;
    let activate = async |token: &str| platform.post("/apps", token, json!({"launcher_id": id})).await;
    activate(&ada).await.is(StatusCode::CREATED);
    platform.build_succeeds().await;
    platform.service.trust_operators_alone();

    let picture = platform.service.picture().await.unwrap();
    assert!(picture.apps.is_empty(), "what others switched on before does not run");
    platform.delete("/apps/iris", &ada).await.is(StatusCode::NO_CONTENT);
    let refused = activate(&ada).await.is(StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused.message().contains("allow_unconfined"), "{}", refused.message());
    let environment = launcher["environment"]["id"].as_str().unwrap();
    let path = format!("/environments/{environment}/builds");
    platform.post(&path, &ada, json!({})).await.is(StatusCode::UNPROCESSABLE_ENTITY);
    let change = json!({"env_variables": []});
    let path = format!("/session_launchers/{id}");
    platform.patch(&path, &ada, change).await.is(StatusCode::UNPROCESSABLE_ENTITY);
    activate(&root).await.is(StatusCode::CREATED);
    assert_eq!(platform.service.picture().await.unwrap().apps.len(), 1);
}

#[tokio::test]
async fn a_launcher_says_what_its_app_may_reach() {
    let (platform, ada, launcher) = Platform::with_iris().await;
    assert!(launcher.get("network").is_none(), "public addresses unless it says otherwise");
    let path = format!("/session_launchers/{}", launcher["id"].as_str().unwrap());
    let change = async |network: Value| platform.patch(&path, &ada, json!({"network": network})).await;
    let listed = json!({"outbound": "allow-list", "allow": [" 203.0.113.7:5432", "198.51.100.0/24"]});
    let changed = change(listed).await.is(StatusCode::OK);
    let expected = json!({"outbound": "allow-list", "allow": ["203.0.113.7:5432", "198.51.100.0/24"]});
    assert_eq!(changed.body["network"], expected);
    assert_eq!(platform.get(&path, &ada).await.body["network"], expected);
    change(json!({"outbound": "none"})).await.is(StatusCode::OK);
    assert_eq!(platform.get(&path, &ada).await.body["network"], json!({"outbound": "none"}));
    for (wrong, says) in [
        (json!({"outbound": "allow-list", "allow": ["example.org"]}), "IPv4 address"),
        (json!({"outbound": "allow-list", "allow": ["203.0.113.7/24"]}), "`203.0.113.7/24`"),
        (json!({"outbound": "everything"}), "`none`, `internet` or `allow-list`"),
        (json!({"outbound": "none", "allow": ["203.0.113.7"]}), "`network.allow`"),
        (json!({"outbound": "allow-list", "allow": vec!["203.0.113.7"; 101]}), "at most 100"),
    ] {
        let refused = change(wrong).await.is(StatusCode::UNPROCESSABLE_ENTITY);
        assert!(refused.message().contains(says), "{}", refused.message());
    }
    change(json!({"outbound": "internet"})).await.is(StatusCode::OK);
    assert!(platform.get(&path, &ada).await.body.get("network").is_none());
}

#[tokio::test]
async fn ten_thousand_apps_come_a_hundred_at_a_time() {
    let platform = Platform::new().await;
    platform.bench.many_apps(10_000).await;
    for list in ["/apps", "/session_launchers"] {
        for page in [1, 100] {
            let path = format!("{list}?per_page=100&page={page}");
            let page = platform.get(&path, "").await.is(StatusCode::OK);
            assert_eq!(page.body.as_array().map(Vec::len), Some(100), "{path}");
            assert_eq!((page.header("total"), page.header("total-pages")), ("10000", "100"), "{path}");
        }
        platform.get(&format!("{list}?per_page=101"), "").await.is(StatusCode::UNPROCESSABLE_ENTITY);
    }
}
