//! What an app was used for, and its log, as pages.

use super::*;

#[tokio::test]
async fn members_see_usage_by_range_and_nobody_else_does() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    let (_, launcher) = platform.with_launcher(&ada, "public").await;
    let never = ada.get(&platform, &format!("{launcher}/usage")).await;
    never
        .is(StatusCode::OK)
        .shows("It was off in the last 24 hours")
        .shows("Requests, from 24 h ago until now: nothing.");
    ada.post(&platform, &format!("{launcher}/activate"), &[]).await;
    for (range, ago) in
        [("hour", "60 min ago"), ("day", "24 h ago"), ("week", "7 days ago"), ("month", "30 days ago")]
    {
        let page = ada.get(&platform, &format!("{launcher}/usage?range={range}")).await;
        page.is(StatusCode::OK).shows(ago).shows("It slept all the time").hides("style=");
    }
    let usual = ada.get(&platform, &format!("{launcher}/usage?range=%3Cb%3E")).await;
    usual.is(StatusCode::OK).shows("<a href=\"?range=day\" aria-current=\"page\">Day</a>");
    ada.get(&platform, &launcher).await.shows("Last 24 hours").shows("aria-current=\"page\">Overview");

    let stranger = Browser::default();
    let refused = stranger.get(&platform, &format!("{launcher}/usage")).await;
    assert_eq!(refused.status, StatusCode::SEE_OTHER);
    stranger.get(&platform, &launcher).await.is(StatusCode::OK).hides("Last 24 hours").hides(">Usage<");
}

#[tokio::test]
async fn a_log_is_searched_by_a_form_and_downloaded() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    let (_, launcher) = platform.with_launcher(&ada, "private").await;
    let id = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    let dir = platform.bench.dir.path().join(format!("apps/explorer/replicas/{id}"));
    std::fs::create_dir_all(&dir).unwrap();
    let mut text = "2026-05-04T10:00:00Z INFO ready\n2026-05-04T10:00:01Z KeyError: 'depth' <b>\n".to_owned();
    for line in 0..3000 {
        text.push_str(&format!("2026-05-04T10:00:02Z INFO line {line}\n"));
    }
    std::fs::write(dir.join("log"), text).unwrap();
    let all = ada.get(&platform, &format!("{launcher}/logs")).await;
    all.is(StatusCode::OK).shows("line 2999").hides("line 1999<").hides("KeyError");
    let errors = ada.get(&platform, &format!("{launcher}/logs?level=errors&find=DEPTH")).await;
    errors.shows("1 line.").shows("KeyError: ").shows("&lt;b&gt;").hides("line 2999");
    errors.shows("/logs/events?find=DEPTH&#38;level=errors&#38;copy=");
    ada.get(&platform, &format!("{launcher}/logs?find=nowhere")).await.shows("is like that");
    let file = ada.get(&platform, &format!("{launcher}/logs/download")).await;
    assert_eq!(file.headers[header::CONTENT_DISPOSITION], "attachment; filename=\"explorer.log\"");
    file.shows(&format!("==> {id}/app <==\n2026-05-04T10:00:00Z INFO ready\n")).shows("line 2999");
    Browser::default().get(&platform, &format!("{launcher}/logs/download")).await.is(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_log_is_read_by_revision_also_of_replicas_that_are_gone() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    let (_, launcher) = platform.with_launcher(&ada, "private").await;
    ada.post(&platform, &format!("{launcher}/activate"), &[]).await;
    platform.build_succeeds("0123456789abcdef").await;
    let wanted = async || platform.service.picture().await.unwrap().apps[0].app.wanted.unwrap();
    let first = wanted().await;
    ada.post(&platform, &format!("{launcher}/restart"), &[]).await.is(StatusCode::SEE_OTHER);
    let second = wanted().await;
    for (replica, revision, line) in [
        ("01ARZ3NDEKTSV4RRFFQ69G5FAV", first, "of the old one"),
        ("01BX5ZZKBKACTAV9WEVGEMMVRZ", second, "of the new one"),
    ] {
        let dir = platform.bench.dir.path().join(format!("apps/explorer/replicas/{replica}"));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("log"), format!("2026-05-04T10:00:00Z {line}\n")).unwrap();
        std::fs::write(dir.join("revision"), revision.to_string()).unwrap();
    }
    let all = ada.get(&platform, &format!("{launcher}/logs")).await;
    all.shows("of the old one")
        .shows("of the new one")
        .shows(">Revision 1</option>")
        .shows(">Revision 2</option>");
    let query = format!("revision={first}");
    let old = ada.get(&platform, &format!("{launcher}/logs?{query}")).await;
    old.shows("of the old one").hides("of the new one").shows(&format!("value=\"{first}\" selected"));
    old.shows(&format!("/logs/download?find=&#38;level=all&#38;copy=&#38;revision={first}"));
    let file = ada.get(&platform, &format!("{launcher}/logs/download?{query}")).await;
    file.shows("of the old one").hides("of the new one");
}
