//! Requests that come again with the same `Idempotency-Key`.

use futures_util::future::join_all;

use super::*;

impl Platform {
    async fn with_key(&self, path: &str, token: &str, key: &str, body: Value) -> Answer {
        let mut request = self.request(Method::POST, path, token, Some(body));
        request.headers_mut().insert("idempotency-key", key.parse().unwrap());
        self.send(request).await
    }

    async fn projects(&self, token: &str) -> String {
        self.get("/projects", token).await.is(StatusCode::OK).header("total").to_owned()
    }
}

#[tokio::test]
async fn what_comes_twice_is_done_once_and_answered_twice() {
    let platform = Platform::new().await;
    let (ada, bob) = (platform.user("ada").await, platform.user("bob").await);
    let ice = json!({"name": "Ice"});
    let first = platform.with_key("/projects", &ada, "k-1", ice.clone()).await.is(StatusCode::CREATED);
    let again = platform.with_key("/projects", &ada, "k-1", ice.clone()).await.is(StatusCode::CREATED);
    assert_eq!(first.body, again.body);
    assert_eq!(first.header("etag"), again.header("etag"));
    assert_eq!((first.header("idempotency-replayed"), again.header("idempotency-replayed")), ("", "true"));
    assert_eq!(again.header("cache-control"), "no-store");
    assert_eq!(platform.projects(&ada).await, "1");
    // Without the key, with another one, and for somebody else it is another request.
    platform.post("/projects", &ada, ice.clone()).await.is(StatusCode::CONFLICT);
    platform.with_key("/projects", &ada, "k-2", ice.clone()).await.is(StatusCode::CONFLICT);
    platform.with_key("/projects", &bob, "k-1", ice).await.is(StatusCode::CREATED);

    let other = platform.with_key("/projects", &ada, "k-1", json!({"name": "Snow"})).await;
    let other = other.is(StatusCode::UNPROCESSABLE_ENTITY);
    assert!(other.message().contains("came with another request"), "{}", other.message());
    let elsewhere = platform.with_key("/groups", &ada, "k-1", json!({"name": "Ice"})).await;
    elsewhere.is(StatusCode::UNPROCESSABLE_ENTITY);
    for wrong in ["", "two words", &"x".repeat(256)] {
        let refused =
            platform.with_key("/projects", &ada, wrong, json!({})).await.is(StatusCode::BAD_REQUEST);
        assert!(refused.message().contains("`Idempotency-Key` must be"), "{}", refused.message());
    }
    // Who is nobody is told that, and not what somebody was answered.
    platform.with_key("/projects", "", "k-1", json!({"name": "Ice"})).await.is(StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_key_whose_request_was_refused_may_come_with_a_better_one() {
    let platform = Platform::new().await;
    let ada = platform.user("ada").await;
    platform
        .with_key("/projects", &ada, "k", json!({"nam": "Ice"}))
        .await
        .is(StatusCode::UNPROCESSABLE_ENTITY);
    platform.with_key("/projects", &ada, "k", json!({"name": "Ice"})).await.is(StatusCode::CREATED);
    assert_eq!(platform.projects(&ada).await, "1");
}

#[tokio::test]
async fn of_those_that_come_at_once_one_is_done() {
    let platform = Platform::new().await;
    let ada = platform.user("ada").await;
    let answers =
        join_all((0..20).map(|_| platform.with_key("/projects", &ada, "k", json!({"name": "Ice"})))).await;
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    for answer in answers {
        match answer.status {
            StatusCode::CREATED => {}
            _ => assert!(
                answer.is(StatusCode::CONFLICT).message().contains("is being answered"),
                "{statuses:?}"
            ),
        }
    }
    assert!(statuses.contains(&StatusCode::CREATED));
    assert_eq!(platform.projects(&ada).await, "1");
}

#[tokio::test]
async fn a_secret_that_is_shown_once_is_not_kept_to_be_shown_again() {
    let platform = Platform::new().await;
    let ada = platform.user("ada").await;
    let wanted = json!({"name": "laptop"});
    let made = platform.with_key("/user/tokens", &ada, "k", wanted.clone()).await.is(StatusCode::CREATED);
    let again = platform.with_key("/user/tokens", &ada, "k", wanted).await.is(StatusCode::CONFLICT);
    assert!(again.message().contains("shown once and not kept"), "{}", again.message());
    let listed = platform.get("/user/tokens", &ada).await.is(StatusCode::OK).body;
    assert_eq!(listed.as_array().unwrap().iter().filter(|token| token["name"] == "laptop").count(), 1);
    let secret = made.text("token");
    for file in std::fs::read_dir(platform.bench.dir.path()).unwrap().flatten() {
        let bytes = std::fs::read(file.path()).unwrap_or_default();
        let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "it is in {}", file.path().display());
    }
}

#[tokio::test]
async fn a_token_that_may_do_less_is_not_told_what_another_was_answered() {
    let platform = Platform::new().await;
    let ada = platform.user("ada").await;
    let less = platform.post("/user/tokens", &ada, json!({"name": "reader", "scope": "read"})).await;
    let less = less.is(StatusCode::CREATED).text("token");
    let ice = json!({"name": "Ice"});
    platform.with_key("/projects", &ada, "k", ice.clone()).await.is(StatusCode::CREATED);
    platform.with_key("/projects", &less, "k", ice).await.is(StatusCode::FORBIDDEN);
}
