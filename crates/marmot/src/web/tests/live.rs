//! What a page is told while it is open.

use axum::body::BodyDataStream;

use super::*;

/// Reads an event stream until it holds `text`.
pub(super) async fn until(stream: &mut BodyDataStream, text: &str) -> String {
    let mut read = String::new();
    let look = async {
        while !read.contains(text) {
            let bytes = stream.next().await.expect("the stream goes on").unwrap();
            read.push_str(&String::from_utf8_lossy(&bytes));
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(20), look).await;
    assert!(found.is_ok(), "{text:?} was not told: {read}");
    read
}

pub(super) async fn open(platform: &Platform, browser: &Browser, path: &str) -> BodyDataStream {
    let request = browser.request(Method::GET, path).body(Body::empty()).unwrap();
    let response = platform.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    response.into_body().into_data_stream()
}

#[tokio::test]
async fn a_page_is_told_what_changes_and_only_that() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    let (project, launcher) = platform.with_launcher(&ada, "public").await;
    let stranger = Browser::default();
    let mut seen = open(&platform, &stranger, &format!("{project}/events")).await;
    until(&mut seen, "id=\"launchers\"").await;
    ada.post(&platform, &format!("{launcher}/activate"), &[]).await;
    let told = until(&mut seen, "Explorer: Building").await;
    assert!(told.contains("hx-swap-oob=\"morph\"") && told.contains("On for everyone"), "{told}");
    assert!(
        !told.contains("id=\"launchers\"") && !told.contains("Shut down"),
        "only the card, as a stranger sees it: {told}"
    );
}

#[tokio::test]
async fn the_stream_ends_with_the_session_and_with_the_server() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    let (project, launcher) = platform.with_launcher(&ada, "private").await;
    let mut private = open(&platform, &ada, &format!("{project}/events")).await;
    until(&mut private, "Explorer").await;
    let mut home = open(&platform, &Browser::default(), "/events").await;
    until(&mut home, "id=\"apps\"").await;

    let other = platform.browser_of("ada").await;
    ada.post(&platform, "/sign-out", &[]).await;
    other.post(&platform, &format!("{launcher}/activate"), &[]).await;
    let end =
        tokio::time::timeout(Duration::from_secs(20), async { while private.next().await.is_some() {} });
    end.await.expect("a stream outlived its session");

    platform.stop.cancel();
    let end = tokio::time::timeout(Duration::from_secs(20), async { while home.next().await.is_some() {} });
    end.await.expect("a stream outlived the server");
}

#[tokio::test]
async fn a_logs_page_is_told_of_its_apps_state() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    let (_, launcher) = platform.with_launcher(&ada, "private").await;
    ada.get(&platform, &format!("{launcher}/logs")).await.is(StatusCode::OK).shows("id=\"log\"");
    let mut log = open(&platform, &ada, &format!("{launcher}/logs/events")).await;
    until(&mut log, "id=\"log-state\"").await;
    ada.post(&platform, &format!("{launcher}/activate"), &[]).await;
    until(&mut log, ">Building</span>").await;
}
