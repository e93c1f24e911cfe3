//! How requests to an app are treated: said, read, refused.

use super::*;

#[tokio::test]
async fn how_requests_are_treated_is_said_for_members_and_kept_below_what_the_server_allows() {
    let platform = Platform::on(Bench::with(|options| options.body_limit = Some(10_000)).await);
    let (ada, eve) = (platform.user("ada").await, platform.user("eve").await);
    let project = platform.project(&ada, "Iris", "public").await;
    platform.launcher(&ada, &project, "Iris").await;
    let path = "/apps/iris/traffic";
    let before = platform.get(path, &ada).await.is(StatusCode::OK).body;
    assert_eq!(before["given"], json!({"log_requests": false, "http2": false}));
    assert_eq!(before["body_limit_bytes"], 10_000);
    for (limit, allowed) in [(500, 500), (20_000, 10_000)] {
        let said = json!({"body_limit_bytes": limit, "log_requests": true, "http2": true});
        let after = platform.put(path, &ada, said.clone()).await.is(StatusCode::OK).body;
        assert_eq!((&after["given"], &after["body_limit_bytes"]), (&said, &json!(allowed)));
        assert_eq!(platform.get(path, &ada).await.body, after);
    }
    let none = json!({"body_limit_bytes": 0});
    let refused = platform.put(path, &ada, none).await.is(StatusCode::UNPROCESSABLE_ENTITY);
    let message = refused.body["error"]["message"].as_str().unwrap();
    assert!(message.contains("at least 1"), "{message}");
    let event = platform.get("/apps/iris/events", &ada).await.is(StatusCode::OK).body;
    assert_eq!(event[0]["kind"], "traffic_changed");
    // Where visitors come from is for members alone.
    for path in [path, "/apps/iris/requests"] {
        platform.get(path, &eve).await.is(StatusCode::FORBIDDEN);
    }
    assert_eq!(platform.get("/apps/iris/requests", &ada).await.is(StatusCode::OK).body, json!([]));
}
