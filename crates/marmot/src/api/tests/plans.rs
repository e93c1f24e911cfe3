//! What a build would do: told before a launcher is made, to those who may make one.

use super::*;
use crate::testing::repository;

const FILES: &[(&str, &str)] = &[
    ("apps/one/app.py", "import streamlit as st\nst.title('Hello')\n"),
    ("apps/one/requirements.txt", "streamlit\n"),
    ("apps/two/Procfile", "web: node serve.js $PORT\nrelease: node migrate.js\nworker: x\n"),
    ("apps/two/package.json", r#"{"scripts": {"build": "tsc"}, "dependencies": {"express": "4"}}"#),
    ("apps/three/notes.md", ""),
];

#[tokio::test]
async fn code_is_looked_at_before_a_launcher_is_made() {
    let platform = Platform::on(Bench::with_local_repositories().await);
    let ada = platform.user("ada").await;
    let project = platform.project(&ada, "Ice", "public").await;
    let address = repository(&platform.bench.dir.path().join("code"), FILES);
    let look = async |more: Value| {
        let mut wish = json!({"project_id": project, "repository": address});
        wish.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        platform.post("/build_plans", &ada, wish).await
    };

    let one = look(json!({"context_dir": "apps/one"})).await.is(StatusCode::OK).body;
    assert_eq!(one["language"], "python");
    assert_eq!(one["packages"], "requirements.txt");
    assert!(one["command"].as_str().unwrap().starts_with("streamlit run app.py --server.port $PORT"));
    assert_eq!((&one["command_from"], &one["port"]), (&json!("detected"), &json!("$PORT")));
    assert_eq!(one["repository_git_commit_sha"].as_str().unwrap().len(), 40);

    let two =
        look(json!({"context_dir": "apps/two", "repository_revision": "main"})).await.is(StatusCode::OK).body;
    assert_eq!((&two["command"], &two["command_from"]), (&json!("node serve.js $PORT"), &json!("procfile")));
    assert_eq!((&two["build"], &two["release"]), (&json!(["npm run build"]), &json!("node migrate.js")));
    assert!(two["warnings"].to_string().contains("ignored: `worker`"), "{two}");

    let own = look(json!({"context_dir": "apps/two", "command": ["node", "mine.js"]}))
        .await
        .is(StatusCode::OK)
        .body;
    assert_eq!((&own["command"], &own["command_from"]), (&Value::Null, &json!("launcher")));
    assert!(own["reasons"].to_string().contains("wins over the Procfile"), "{own}");

    for (wish, expected) in [
        (json!({}), "set it as the directory of the app"),
        (json!({"context_dir": "apps/three"}), "Nothing to run here"),
        (json!({"context_dir": "nowhere"}), "no directory `nowhere`"),
        (json!({"context_dir": "../.."}), "leads out of the repository"),
        (json!({"repository_revision": "nope"}), "no branch, tag or commit `nope`"),
        (json!({"context_dir": "apps/one", "builder_variant": "r"}), "Nothing to run here"),
        (json!({"builder_variant": "magic"}), "must be one of auto"),
        (json!({"repository": "http://127.0.0.1:1/x.git"}), "127.0.0.1"),
        (json!({"repository": "ext::sh -c id"}), "is no address of a repository"),
    ] {
        let answer = look(wish.clone()).await.is(StatusCode::UNPROCESSABLE_ENTITY);
        assert!(answer.message().contains(expected), "{wish}: {}", answer.message());
    }
    // Nothing is left of it but the copy of the repository.
    let left = std::fs::read_dir(platform.bench.dir.path().join("cache/looks")).unwrap();
    assert_eq!(left.count(), 0);
}

#[tokio::test]
async fn only_those_who_may_make_launchers_may_have_code_looked_at_and_not_without_end() {
    let platform = Platform::on(Bench::with_local_repositories().await);
    let (ada, bob) = (platform.user("ada").await, platform.user("bob").await);
    let open = platform.project(&ada, "Open", "public").await;
    let closed = platform.project(&ada, "Closed", "private").await;
    let wish = |project: &str| json!({"project_id": project, "repository": "/nowhere"});
    platform.post("/build_plans", "", wish(&open)).await.is(StatusCode::UNAUTHORIZED);
    platform.post("/build_plans", &bob, wish(&open)).await.is(StatusCode::FORBIDDEN);
    platform.post("/build_plans", &bob, wish(&closed)).await.is(StatusCode::NOT_FOUND);
    for _ in 0..30 {
        platform.post("/build_plans", &ada, wish(&open)).await.is(StatusCode::UNPROCESSABLE_ENTITY);
    }
    platform.post("/build_plans", &ada, wish(&open)).await.is(StatusCode::TOO_MANY_REQUESTS);
}
