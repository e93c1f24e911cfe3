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
async fn rates_timeouts_and_lingering_are_the_apps_own() {
    let platform = Platform::new().await;
    let ada = platform.user("ada").await;
    let project = platform.project(&ada, "Iris", "public").await;
    platform.launcher(&ada, &project, "Iris").await;
    let before = platform.get("/apps/iris/scaling", "").await.is(StatusCode::OK).body["effective"].clone();
    let said = json!({
        "deepen_after": 300, "grace": 10, "linger": 0, "max_down_rate": 4, "max_up_rate": 3, "start_timeout": 600,
    });
    platform.put("/apps/iris/scaling", &ada, said.clone()).await.is(StatusCode::OK);
    let after = platform.get("/apps/iris/scaling", "").await.is(StatusCode::OK).body;
    assert_eq!(after["given"], said);
    for (name, value) in said.as_object().unwrap() {
        assert_eq!(&after["effective"][name], value, "{name}");
        assert_ne!(&before[name], value, "{name}");
    }
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

#[tokio::test]
async fn scaling_is_part_of_the_revision_changing_it_restarts_nothing_and_the_way_back_brings_it_back() {
    let (platform, ada, _, _) = Platform::with_running_iris().await;
    let revisions = async || platform.get("/apps/iris/revisions", &ada).await.is(StatusCode::OK).body;
    let running = async || {
        let active = platform.service.picture().await.unwrap().apps.remove(0);
        let revision = active.revision.unwrap();
        (revision.number, revision.engine_id(), active.scaling.max_replicas)
    };
    let (_, replicas, _) = running().await;
    platform.put("/apps/iris/scaling", &ada, json!({"max_replicas": 4})).await.is(StatusCode::OK);
    assert_eq!(running().await, (2, replicas, Some(4)), "the same replicas are of the next revision");
    assert_eq!(revisions().await[0]["scaling"], json!({"max_replicas": 4}));
    // Saying the same again changes nothing.
    platform.put("/apps/iris/scaling", &ada, json!({"max_replicas": 4})).await.is(StatusCode::OK);
    assert_eq!(running().await.0, 2);
    platform.put("/apps/iris/scaling", &ada, json!({"max_replicas": 5})).await.is(StatusCode::OK);
    assert_eq!(running().await, (3, replicas, Some(5)));
    for (number, expected) in [(2, Some(4)), (1, None), (3, Some(5))] {
        let all = revisions().await;
        let one = all.as_array().unwrap().iter().find(|one| one["number"] == number).unwrap();
        let path = format!("/apps/iris/revisions/{}/activate", one["id"].as_str().unwrap());
        platform.post(&path, &ada, json!({})).await.is(StatusCode::OK);
        assert_eq!(running().await, (number, replicas, expected));
    }
}
