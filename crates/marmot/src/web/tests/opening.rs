//! The box *Who may open it*, and the ways from the platform to an app that is open to some.

use super::*;
use marmot_core::AppName;

fn secret_of(page: &Answer) -> String {
    let (_, after) = page.text.split_once("id=\"fresh-secret\">").unwrap_or_else(|| panic!("{}", page.text));
    after.split('<').next().unwrap().to_owned()
}

#[tokio::test]
async fn an_owner_says_who_may_open_it_and_shares_it_by_a_link_and_a_key() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    let (_, launcher) = platform.with_launcher(&ada, "private").await;
    ada.get(&platform, &launcher).await.shows("Who may open it").shows("members of the project may open it");
    let form = [("open_to", "link"), ("users", "")];
    let saved = ada.post(&platform, &format!("{launcher}/access"), &form).await;
    assert_eq!(saved.is(StatusCode::SEE_OTHER).location, Some(format!("{launcher}#access")));
    ada.get(&platform, &launcher).await.shows("Everyone with a link").shows("Make link");

    let made =
        ada.post(&platform, &format!("{launcher}/links"), &[("name", "For Zoë"), ("lifetime", "7")]).await;
    made.is(StatusCode::OK).shows("Your new link “For Zoë”.").shows("it is not shown again");
    let url = secret_of(&made);
    assert!(url.starts_with("http://explorer.localhost:8080/.marmot/link?secret="), "{url}");
    let page = ada.get(&platform, &launcher).await;
    page.shows("Revoke the link For Zoë").hides(&url).shows("never");
    let revoke =
        page.text.split("action=\"").find(|part| part.contains("/links/") && part.contains("/revoke"));
    let revoke = revoke.unwrap().split('"').next().unwrap();
    ada.post(&platform, revoke, &[]).await.is(StatusCode::SEE_OTHER);
    ada.post(&platform, revoke, &[]).await.is(StatusCode::SEE_OTHER);
    ada.get(&platform, &launcher).await.hides("Revoke the link For Zoë");

    let form = [("name", "job"), ("lifetime", "0"), ("per_minute", "60"), ("at_once", "")];
    let made = ada.post(&platform, &format!("{launcher}/keys"), &form).await;
    assert!(secret_of(made.is(StatusCode::OK)).starts_with("mmk_"));
    ada.get(&platform, &launcher).await.shows("60 a minute").shows("X-Marmot-Key").hides("mmk_");
    let form = [("name", "job"), ("per_minute", "many")];
    let refused = ada.post(&platform, &format!("{launcher}/keys"), &form).await;
    refused.is(StatusCode::UNPROCESSABLE_ENTITY).shows("is no number of requests");
    let form = [("name", "<svg/onload=alert(1)>"), ("lifetime", "1")];
    ada.post(&platform, &format!("{launcher}/links"), &form).await.is(StatusCode::OK).hides("<svg/onload");
    ada.get(&platform, &launcher).await.hides("<svg/onload");
    let form = [("open_to", "named"), ("users", "bob, <dora>")];
    let refused = ada.post(&platform, &format!("{launcher}/access"), &form).await;
    refused.is(StatusCode::UNPROCESSABLE_ENTITY).shows("here is no user").hides("<dora>");
}

#[tokio::test]
async fn who_may_open_an_app_is_led_there_and_who_may_not_is_told_whom_to_ask() {
    let platform = Platform::new().await;
    let (ada, bob) = (platform.browser_of("ada").await, platform.browser_of("bob").await);
    let (project, launcher) = platform.with_launcher(&ada, "private").await;
    ada.post(&platform, &format!("{launcher}/activate"), &[]).await;
    let share = launcher.replace("/launchers/", "/apps/");
    let enter = "/access/explorer?next=%2F";
    // Of a private project, others do not even learn that there is an app.
    bob.get(&platform, enter)
        .await
        .is(StatusCode::NOT_FOUND)
        .hides("Ice cores")
        .shows("ask them to let you in");
    bob.get(&platform, &share).await.is(StatusCode::NOT_FOUND);
    let app: AppName = "explorer".parse().unwrap();
    for (open_to, users) in [("named", "bob"), ("signed_in", "")] {
        let form = [("open_to", open_to), ("users", users)];
        ada.post(&platform, &format!("{launcher}/access"), &form).await.is(StatusCode::SEE_OTHER);
        let entered = bob.get(&platform, enter).await;
        let to = entered.is(StatusCode::FOUND).location.clone().unwrap();
        let code = to.strip_prefix("http://explorer.localhost:8080/.marmot/enter?code=").unwrap();
        let person = platform.tickets.redeem_code(&app, code.split('&').next().unwrap()).unwrap();
        assert_eq!(person.username, "bob");
        let led = bob.get(&platform, &share).await;
        assert!(
            led.is(StatusCode::FOUND).location.as_deref().unwrap().starts_with("http://explorer.localhost")
        );
        bob.get(&platform, &project).await.is(StatusCode::NOT_FOUND);
    }
    Browser::default().get(&platform, enter).await.is(StatusCode::SEE_OTHER);
    // Of a public project, they are told where to ask.
    let form = [("open_to", "members"), ("users", "")];
    ada.post(&platform, &format!("{launcher}/access"), &form).await.is(StatusCode::SEE_OTHER);
    let form = [("name", "Ice cores"), ("slug", "ice-cores"), ("visibility", "public")];
    ada.post(&platform, &format!("{project}/settings"), &form).await.is(StatusCode::SEE_OTHER);
    let refused = bob.get(&platform, enter).await;
    refused.is(StatusCode::FORBIDDEN).shows("not shared with you").shows(&project);
}

#[tokio::test]
async fn the_keys_that_sign_who_visitors_are_are_published() {
    let platform = Platform::new().await;
    let answer = Browser::default().get(&platform, "/.well-known/jwks.json").await;
    answer.is(StatusCode::OK).shows("\"kty\":\"EC\"").hides("\"d\"");
    assert_eq!(answer.headers[header::CACHE_CONTROL], "public, max-age=300");
}
