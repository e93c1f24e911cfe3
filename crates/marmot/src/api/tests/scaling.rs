//! How an app scales: said, read, refused.

use super::*;

impl Platform {
    pub(super) async fn put(&self, path: &str, token: &str, body: Value) -> Answer {
        self.send(self.request(Method::PUT, path, token, Some(body))).await
    }
}

#[tokio::test]
async fn what_was_said_is_kept_and_what_was_not_is_as_the_preset_and_the_server_say() {
    let platform = Platform::new().await;
    let ada = platform.user("ada").await;
    let project = platform.project(&ada, "Iris", "public").await;
    platform.launcher(&ada, &project, "Iris").await;
    let before = platform.get("/apps/iris/scaling", "").await.is(StatusCode::OK).body;
    assert_eq!(before["given"], json!({}));
    assert_eq!(
        (&before["effective"]["max_replicas"], &before["effective"]["limit"]),
        (&json!(1), &json!(100))
    );

    let said = json!({
        "preset": "dashboard", "max_replicas": 5, "idle_after": 30, "keep_warm": ["mon-fri 8:00-18:00 Europe/Zurich"],
    });
    platform.put("/apps/iris/scaling", &ada, said.clone()).await.is(StatusCode::OK);
    let after = platform.get("/apps/iris/scaling", "").await.is(StatusCode::OK).body;
    assert_eq!(after["given"], said);
    let effective = &after["effective"];
    assert_eq!(
        (
            &effective["max_replicas"],
            &effective["counts"],
            &effective["per_replica"],
            &effective["idle_after"]
        ),
        (&json!(5), &json!("sessions"), &json!(20), &json!(30))
    );
    assert_eq!(effective["keep_warm"], json!(["Mon-Fri 08:00-18:00 Europe/Zurich"]));
    let event = platform.get("/apps/iris/events", &ada).await.is(StatusCode::OK).body;
    assert_eq!((&event[0]["kind"], &event[0]["by"]), (&json!("scaling_changed"), &json!("ada")));

    platform.put("/apps/iris/scaling", &ada, json!({})).await.is(StatusCode::OK);
    assert_eq!(platform.get("/apps/iris/scaling", "").await.body["given"], json!({}));
}

#[tokio::test]
async fn it_is_in_force_for_the_engine() {
    let platform = Platform::new().await;
    let ada = platform.user("ada").await;
    let project = platform.project(&ada, "Iris", "public").await;
    let launcher = platform.launcher(&ada, &project, "Iris").await;
    platform.post("/apps", &ada, json!({"launcher_id": launcher["id"]})).await.is(StatusCode::CREATED);
    platform.put("/apps/iris/scaling", &ada, json!({"min_replicas": 2})).await.is(StatusCode::OK);
    let picture = platform.service.picture().await.unwrap();
    let policy = picture.apps[0].scaling.policy(&platform.service.options().policy, 10).unwrap();
    assert_eq!((policy.min_replicas, policy.max_replicas), (2, 2));
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let platform = Platform::new().await;
    let ada = platform.user("ada").await;
    let project = platform.project(&ada, "Iris", "public").await;
    platform.launcher(&ada, &project, "Iris").await;
    for (said, words) in [
        (json!({"max_replicas": 11}), "`max_replicas` is 11: it must be from 1 to 10"),
        (json!({"min_replicas": 3, "max_replicas": 2}), "`min_replicas` is 3, more than `max_replicas`"),
        (json!({"keep_warm": ["weekdays"]}), "`weekdays` is not a schedule"),
        (json!({"keep_warm": ["Mon 08:00-09:00 Mars/Olympus"]}), "there is no time zone `Mars/Olympus`"),
    ] {
        let refused =
            platform.put("/apps/iris/scaling", &ada, said).await.is(StatusCode::UNPROCESSABLE_ENTITY);
        assert!(refused.message().contains(words), "{}", refused.message());
    }
    for said in [json!({"maximum": 3}), json!({"max_replicas": -1}), json!({"max_replicas": 1e99}), json!([])]
    {
        let status = platform.put("/apps/iris/scaling", &ada, said).await.status;
        assert!(status.is_client_error(), "{status}");
    }
    assert_eq!(platform.get("/apps/iris/scaling", "").await.body["given"], json!({}));
}

#[tokio::test]
async fn only_who_may_change_the_project_says_how_its_app_scales() {
    let platform = Platform::new().await;
    let (ada, eve) = (platform.user("ada").await, platform.user("eve").await);
    let project = platform.project(&ada, "Iris", "private").await;
    platform.launcher(&ada, &project, "Iris").await;
    let said = json!({"max_replicas": 2});
    platform.get("/apps/iris/scaling", &eve).await.is(StatusCode::NOT_FOUND);
    platform.put("/apps/iris/scaling", &eve, said.clone()).await.is(StatusCode::NOT_FOUND);
    let nobody = platform.put("/apps/iris/scaling", "", said).await.status;
    assert!(nobody.is_client_error(), "{nobody}");
}
