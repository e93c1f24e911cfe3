//! What a page is told while it is open.

use axum::body::BodyDataStream;

use super::*;

/// Reads an event stream until it holds `text`.
async fn until(stream: &mut BodyDataStream, text: &str) -> String {
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

async fn open(platform: &Platform, browser: &Browser, path: &str) -> BodyDataStream {
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
async fn a_log_is_followed_as_it_is_written_and_drawn_harmless() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    let (_, launcher) = platform.with_launcher(&ada, "private").await;
    ada.get(&platform, &format!("{launcher}/logs")).await.is(StatusCode::OK).shows("id=\"log\"");
    let mut log = open(&platform, &ada, &format!("{launcher}/logs/events")).await;
    until(&mut log, "id=\"log-state\"").await;
    let mut drawing = super::super::logs::Drawing::default();
    let mut html = String::new();
    for text in ["2026-05-04T10:00:00Z \u{1b}[31m<b>x</b>", "no time"] {
        drawing.draw(&mut html, Some("01ARZ3NDEKTSV4RRFFQ69G5FAV/app"), text);
    }
    assert_eq!(
        html,
        "<h2>Copy 01ARZ3NDEKTSV4RRFFQ69G5FAV</h2><span class=\"line\"><time class=\"a-d\" \
         datetime=\"2026-05-04T10:00:00Z\" title=\"2026-05-04T10:00:00Z\">10:00:00</time> \
         <span class=\"f1\">&lt;b&gt;x&lt;/b&gt;</span></span><span class=\"line\">no time</span>"
    );
}
