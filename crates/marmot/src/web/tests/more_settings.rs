//! Scaling and network as forms, what differs between revisions, and the share menu.

use super::*;

#[tokio::test]
async fn scaling_is_said_in_a_form_and_what_is_wrong_stands_beside_its_field() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    let (_, launcher) = platform.with_launcher(&ada, "public").await;
    let form = [("preset", "dashboard"), ("max_replicas", "5"), ("idle_after", "90s"), ("keep_warm", "")];
    let saved = ada.post(&platform, &format!("{launcher}/scaling"), &form).await;
    assert_eq!(saved.location.as_deref(), Some(format!("{launcher}/edit?saved=scaling#scaling").as_str()));
    let page = ada.get(&platform, &format!("{launcher}/edit?saved=scaling")).await;
    page.shows("Saved, and in force.").shows("value=\"dashboard\" aria-label=\"Dashboard\" checked");
    page.shows("name=\"max_replicas\" value=\"5\"").shows("name=\"idle_after\" value=\"90s\"");
    page.shows("Danger zone");

    let wrong = [("preset", "endpoint"), ("max_replicas", "500"), ("limit", "7"), ("idle_after", "2m")];
    let refused = ada.post(&platform, &format!("{launcher}/scaling"), &wrong).await;
    refused.is(StatusCode::UNPROCESSABLE_ENTITY).shows("id=\"max_replicas-wrong\"");
    refused
        .shows("value=\"500\"")
        .shows("value=\"7\"")
        .shows("value=\"2m\"")
        .shows("aria-label=\"Endpoint\" checked");
    let unreadable = [("idle_after", "soon"), ("stable_window", "<b>")];
    let refused = ada.post(&platform, &format!("{launcher}/scaling"), &unreadable).await;
    refused.is(StatusCode::UNPROCESSABLE_ENTITY).shows("“soon” is no duration").hides("<b>");
    refused.shows("id=\"stable_window-wrong\"");
    let schedule = [("keep_warm", "weekdays")];
    let refused = ada.post(&platform, &format!("{launcher}/scaling"), &schedule).await;
    refused
        .is(StatusCode::UNPROCESSABLE_ENTITY)
        .shows("id=\"keep_warm-wrong\"")
        .shows(">weekdays</textarea>");
    let kept = ada.get(&platform, &format!("{launcher}/edit")).await;
    kept.shows("name=\"max_replicas\" value=\"5\"");

    let stranger = Browser::default();
    assert_eq!(
        stranger.post(&platform, &format!("{launcher}/scaling"), &[]).await.status,
        StatusCode::SEE_OTHER
    );
    let bob = platform.browser_of("bob").await;
    bob.post(&platform, &format!("{launcher}/scaling"), &[]).await.is(StatusCode::FORBIDDEN);
    bob.post(&platform, &format!("{launcher}/network"), &[]).await.is(StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn what_an_app_may_reach_is_said_in_a_form() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    let (_, launcher) = platform.with_launcher(&ada, "public").await;
    let form = [("outbound", "allow-list"), ("allow", "192.0.2.7:5432\n198.51.100.0/24")];
    ada.post(&platform, &format!("{launcher}/network"), &form).await.is(StatusCode::SEE_OTHER);
    let page = ada.get(&platform, &format!("{launcher}/edit")).await;
    page.shows("value=\"allow-list\" aria-label=\"Only these\" checked")
        .shows("192.0.2.7:5432\n198.51.100.0/24</textarea>");
    let refused = ada
        .post(
            &platform,
            &format!("{launcher}/network"),
            &[("outbound", "allow-list"), ("allow", "everywhere")],
        )
        .await;
    refused.is(StatusCode::UNPROCESSABLE_ENTITY).shows("id=\"allow-wrong\"").shows(">everywhere</textarea>");
    // The recipe is another form: saving it changes neither.
    let recipe = [
        ("source", "code"),
        ("name", "Explorer"),
        ("repository", "https://github.com/ada/ice"),
        ("resource_class", "2"),
    ];
    ada.post(&platform, &format!("{launcher}/edit"), &recipe).await.is(StatusCode::SEE_OTHER);
    ada.get(&platform, &format!("{launcher}/edit")).await.shows("aria-label=\"Only these\" checked");
}

#[tokio::test]
async fn revisions_tell_what_differs_and_no_value() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    let (_, launcher) = platform.with_launcher(&ada, "public").await;
    ada.post(&platform, &format!("{launcher}/activate"), &[]).await;
    platform.build_succeeds("0123456789abcdef").await;
    let recipe = [
        ("source", "code"),
        ("name", "Explorer"),
        ("repository", "https://github.com/ada/ice"),
        ("resource_class", "2"),
        ("variable_name", "GREETING"),
        ("variable_value", "not-for-all"),
    ];
    ada.post(&platform, &format!("{launcher}/edit"), &recipe).await.is(StatusCode::SEE_OTHER);
    ada.post(&platform, &format!("{launcher}/build"), &[]).await;
    platform.build_succeeds("fedcba9876543210").await;
    let page = Browser::default().get(&platform, &launcher).await;
    page.shows("1 thing differs")
        .shows("2 things differ")
        .shows("<del>commit 0123456789</del> <ins>commit fedcba9876</ins>");
    page.shows("variable GREETING: <ins>set</ins>").shows("medium (2 CPU, 4 GB)").hides("not-for-all");
}

#[tokio::test]
async fn an_app_is_shared_by_link_code_letter_and_frame_without_a_script() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    let (project, launcher) = platform.with_launcher(&ada, "public").await;
    let id = launcher.rsplit('/').next().unwrap();
    let link = format!("{HOME}{project}/apps/{id}");
    let page = Browser::default().get(&platform, &format!("{launcher}/share")).await;
    page.is(StatusCode::OK)
        .shows(&link)
        .shows("aria-label=\"QR code of the link\"")
        .shows("mailto:?subject=Explorer");
    page.shows("&#60;iframe src=&#34;http://explorer.localhost:8080/").hides("<iframe");
    let part = ada.script().get(&platform, &format!("{launcher}/share")).await;
    part.shows(&link).hides("<html");
    let settings = [("name", "Ice cores"), ("slug", "ice-cores"), ("visibility", "private")];
    ada.post(&platform, &format!("{project}/settings"), &settings).await.is(StatusCode::SEE_OTHER);
    ada.get(&platform, &format!("{launcher}/share")).await.shows("Only those who may open the app get in.");
    Browser::default().get(&platform, &format!("{launcher}/share")).await.is(StatusCode::NOT_FOUND);
}
