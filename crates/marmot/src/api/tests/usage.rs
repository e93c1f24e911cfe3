//! What an app was used for: asked for by range, by members.

use super::*;

#[tokio::test]
async fn usage_has_every_slot_of_its_range_and_knows_no_other() {
    let platform = Platform::new().await;
    let ada = platform.user("ada").await;
    let project = platform.project(&ada, "Iris", "public").await;
    let launcher = platform.launcher(&ada, &project, "Iris").await;
    platform.post("/apps", &ada, json!({"launcher_id": launcher["id"]})).await.is(StatusCode::CREATED);
    for (range, step, slots) in
        [("hour", 60, 60), ("day", 900, 96), ("week", 7200, 84), ("month", 21_600, 120)]
    {
        let usage =
            platform.get(&format!("/apps/iris/usage?range={range}"), &ada).await.is(StatusCode::OK).body;
        assert_eq!((&usage["range"], &usage["step"]), (&json!(range), &json!(step)));
        assert_eq!(usage["slots"].as_array().unwrap().len(), slots);
        assert_eq!(
            (&usage["total"]["requests"]["total"], &usage["total"]["latency"]),
            (&json!(0), &json!(null))
        );
    }
    let usage = platform.get("/apps/iris/usage", &ada).await.is(StatusCode::OK).body;
    assert_eq!(usage["range"], json!("day"));
    let refused =
        platform.get("/apps/iris/usage?range=year", &ada).await.is(StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused.message().contains("`year` is no range"), "{}", refused.message());
    platform.get("/apps/iris/usage", "").await.is(StatusCode::UNAUTHORIZED);
}
