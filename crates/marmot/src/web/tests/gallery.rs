//! The gallery of apps, and the page of who runs the server.

use super::*;
use crate::service::Identity;

async fn launcher(
    platform: &Platform,
    browser: &Browser,
    project: &str,
    name: &str,
    description: &str,
) -> String {
    let form = [
        ("type", "app"),
        ("source", "code"),
        ("name", name),
        ("description", description),
        ("repository", "https://github.com/ada/ice"),
        ("resource_class", "1"),
    ];
    let made = browser.post(platform, &format!("{project}/launchers/new"), &form).await;
    let at = made.location.unwrap();
    format!("{project}/launchers/{}", at.split_once("#launcher-").unwrap().1)
}

/// The browser of who runs the server.
async fn administrator(platform: &Platform) -> Browser {
    let root = NewUser {
        username: "root".parse().unwrap(),
        password: Some(Secret::new(PASSWORD)),
        is_admin: true,
        email: None,
        first_name: None,
        last_name: None,
    };
    let root = Identity::User(platform.service.create_user(root).await.unwrap());
    assert!(root.is_admin());
    platform.browser_of("root").await
}

#[tokio::test]
async fn apps_are_found_by_words_and_phase_without_a_script() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    let form = [("name", "Ice cores"), ("visibility", "public")];
    let project = ada.post(&platform, "/projects/new", &form).await.location.unwrap();
    for (name, description) in
        [("Explorer", "Depth by age"), ("Diary", "100% handmade"), ("Model", ""), ("Ash", "")]
    {
        let path = launcher(&platform, &ada, &project, name, description).await;
        ada.post(&platform, &format!("{path}/activate"), &[]).await;
    }
    let stranger = Browser::default();
    let all = stranger.get(&platform, "/").await;
    all.shows("4 apps").shows("Depth by age").shows("name=\"q\"");
    stranger.get(&platform, "/?q=DEPTH").await.shows("1 app<").hides("Diary").shows("value=\"DEPTH\"");
    stranger.get(&platform, "/?q=ice+cores").await.shows("4 apps");
    // Letters that mean something to the database mean themselves.
    stranger.get(&platform, "/?q=100%25").await.shows("1 app<").shows("Diary");
    stranger.get(&platform, "/?q=_").await.shows("No app that is on is like that.");
    stranger.get(&platform, "/?q=%00").await.is(StatusCode::OK);
    stranger.get(&platform, "/?phase=busy").await.shows("4 apps").shows("value=\"busy\" selected");
    stranger.get(&platform, "/?phase=asleep").await.shows("No app that is on is like that.");
    stranger.get(&platform, "/?phase=nonsense&page=0").await.shows("4 apps");
    ada.post(&platform, &format!("{project}/settings"), &[("name", "Ice cores"), ("visibility", "private")])
        .await;
    stranger.get(&platform, "/").await.shows("No app is on right now.");
}

/// A page is a page, however many there are.
#[tokio::test]
async fn a_gallery_of_many_apps_is_sent_a_page_at_a_time() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    let form = [("name", "Many"), ("visibility", "public")];
    let project = ada.post(&platform, "/projects/new", &form).await.location.unwrap();
    for number in 0..60 {
        let path = launcher(&platform, &ada, &project, &format!("App {number:03}"), "").await;
        ada.post(&platform, &format!("{path}/activate"), &[]).await;
    }
    for path in ["/", "/?phase=busy"] {
        let first = Browser::default().get(&platform, path).await;
        first.shows("App 059").shows("App 012").hides("App 011").shows(">More</a>");
        assert!(first.text.len() < 100_000, "{}", first.text.len());
        assert_eq!(first.text.matches("class=\"tile box\"").count(), 48);
    }
    let box_of = |page: &Answer| page.text.matches("<article").count();
    let (one, two) =
        (ada.get(&platform, &project).await, ada.get(&platform, &format!("{project}?page=2")).await);
    assert_eq!((box_of(&one), box_of(&two)), (50, 10));
    one.shows("<span class=\"count\">60</span>").shows("?page=2");
    // The last one's page and its build are found as well.
    let form = [
        ("type", "app"),
        ("source", "code"),
        ("name", "Last"),
        ("repository", "https://github.com/a/b"),
        ("resource_class", "1"),
    ];
    let made = ada.post(&platform, &format!("{project}/launchers/new"), &form).await;
    assert!(made.location.unwrap().starts_with(&format!("{project}?page=2#launcher-")));
    let second = Browser::default().get(&platform, "/?q=&phase=busy&page=2").await;
    second.shows("App 011").hides("App 012").shows(">Back</a>").hides(">More</a>");
}

#[tokio::test]
async fn who_runs_the_server_sees_and_stops_every_app_and_nobody_else_does() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    let (_, launcher) = platform.with_launcher(&ada, "private").await;
    ada.post(&platform, &format!("{launcher}/activate"), &[]).await;
    platform.build_succeeds("0123456789abcdef").await;
    let note = crate::model::AppEvent {
        at: jiff::Timestamp::now(),
        kind: "made_room".to_owned(),
        message: "its hibernated replica is stopped, because memory is short".into(),
        by: None,
    };
    platform.service.note_event(&"explorer".parse().unwrap(), note).await.unwrap();
    for path in ["/admin", "/admin/apps/explorer/shut-down"] {
        assert_eq!(ada.get(&platform, path).await.status, StatusCode::FORBIDDEN, "{path}");
        assert_eq!(Browser::default().get(&platform, path).await.status, StatusCode::SEE_OTHER, "{path}");
    }
    ada.post(&platform, "/admin/apps/explorer/rest", &[]).await.is(StatusCode::FORBIDDEN);

    let root = administrator(&platform).await;
    let page = root.get(&platform, "/admin").await;
    page.is(StatusCode::OK).shows("Explorer").shows("Everything else").shows("because memory is short");
    page.shows("small (1 CPU, 1 GB)").shows("3 people").hides("style=");
    root.get(&platform, "/admin?q=nothing").await.shows("No app that is on is like that.");
    assert_eq!(
        root.post(&platform, "/admin/apps/explorer/rest", &[]).await.location.as_deref(),
        Some("/admin")
    );
    root.get(&platform, "/admin/apps/explorer/shut-down").await.shows("Switch “Explorer” off for everyone?");
    root.post(&platform, "/admin/apps/explorer/shut-down", &[]).await.is(StatusCode::SEE_OTHER);
    root.get(&platform, "/admin").await.shows("No app is on right now.");
}

#[tokio::test]
async fn lists_of_many_apps_are_no_longer_than_those_of_some() {
    let mut platforms = Vec::new();
    for count in [200, 10_000] {
        let platform = Platform::new().await;
        platform.bench.many_apps(count).await;
        let root = administrator(&platform).await;
        platforms.push((platform, root));
    }
    let paths = ["/", "/?q=app", "/?phase=off", "/?phase=asleep&q=many", "/p/owner/many", "/admin"];
    for path in paths {
        let mut lengths = Vec::new();
        for (platform, root) in &platforms {
            let length = root.get(platform, path).await.is(StatusCode::OK).text.len();
            lengths.push(length);
        }
        // Numbers have a few more digits.
        assert!(lengths[1] < lengths[0] + lengths[0] / 10, "{path}: {lengths:?}");
    }
}
