//! The box *Secrets* of an app's page, and its webhook.

use super::*;

#[tokio::test]
async fn an_editor_sets_a_secret_that_nobody_is_shown_and_makes_a_webhook() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    let (_, launcher) = platform.with_launcher(&ada, "public").await;
    ada.get(&platform, &launcher).await.shows("Secrets").shows("No webhook yet");
    let form = [("name", "API_KEY"), ("value", "hunter2"), ("form", "variable")];
    let saved = ada.post(&platform, &format!("{launcher}/secrets"), &form).await;
    assert_eq!(saved.is(StatusCode::SEE_OTHER).location, Some(format!("{launcher}#secrets")));
    ada.get(&platform, &launcher).await.shows("Remove the secret API_KEY").hides("hunter2");

    let form = [("name", "<b>not a name"), ("value", "hunter3"), ("form", "file")];
    let refused = ada.post(&platform, &format!("{launcher}/secrets"), &form).await;
    refused
        .is(StatusCode::UNPROCESSABLE_ENTITY)
        .shows("is no name of a variable")
        .hides("hunter3")
        .hides("<b>");

    let made = ada.post(&platform, &format!("{launcher}/webhook"), &[]).await;
    made.is(StatusCode::OK).shows("Your new webhook.").shows("http://localhost:8080/api/data/hooks/");
    let (_, secret) = made.text.split_once("id=\"hook-secret\">").unwrap();
    let secret = secret.split('<').next().unwrap();
    assert_eq!(secret.len(), 64);
    ada.get(&platform, &launcher).await.shows("Nothing was heard by it yet").hides(secret);
    ada.post(&platform, &format!("{launcher}/webhook/remove"), &[]).await.is(StatusCode::SEE_OTHER);
    ada.get(&platform, &launcher).await.shows("No webhook yet");

    for _ in 0..2 {
        ada.post(&platform, &format!("{launcher}/secrets/API_KEY/remove"), &[])
            .await
            .is(StatusCode::SEE_OTHER);
    }
    ada.get(&platform, &launcher).await.hides("API_KEY</code>");
}

#[tokio::test]
async fn who_may_not_change_a_project_neither_sees_nor_sets_its_secrets() {
    let platform = Platform::new().await;
    let (ada, bob) = (platform.browser_of("ada").await, platform.browser_of("bob").await);
    let (_, launcher) = platform.with_launcher(&ada, "public").await;
    let form = [("name", "API_KEY"), ("value", "hunter2"), ("form", "variable")];
    ada.post(&platform, &format!("{launcher}/secrets"), &form).await.is(StatusCode::SEE_OTHER);
    bob.get(&platform, &launcher).await.is(StatusCode::OK).hides("API_KEY").hides("Make a webhook");
    for action in ["secrets", "secrets/API_KEY/remove", "webhook", "webhook/remove"] {
        let refused = bob.post(&platform, &format!("{launcher}/{action}"), &form).await;
        refused.is(StatusCode::FORBIDDEN);
    }
}

#[tokio::test]
async fn an_editor_says_what_a_host_is_shown_and_nobody_sees_it_again() {
    let platform = Platform::new().await;
    let (ada, bob) = (platform.browser_of("ada").await, platform.browser_of("bob").await);
    let (project, _) = platform.with_launcher(&ada, "public").await;
    let page = format!("{project}/credentials");
    ada.get(&platform, &format!("{project}/settings")).await.shows("Private repositories and images");
    ada.get(&platform, &page).await.shows("None yet.");
    let form = [("kind", "git"), ("host", "git.example.org"), ("username", ""), ("secret", " hunter2\r\n")];
    ada.post(&platform, &page, &form).await.is(StatusCode::SEE_OTHER);
    let shown = ada.get(&platform, &page).await;
    shown.shows("git.example.org").shows("oauth2").hides("hunter2");
    let form = [("kind", "registry"), ("host", "<b>"), ("username", "x"), ("secret", "hunter3")];
    let refused = ada.post(&platform, &page, &form).await;
    refused.is(StatusCode::UNPROCESSABLE_ENTITY).shows("is no host").hides("hunter3").hides("<b>");
    bob.get(&platform, &page).await.is(StatusCode::FORBIDDEN);
    bob.post(&platform, &page, &form).await.is(StatusCode::FORBIDDEN);
    let (_, remove) = shown.text.split_once("/credentials/").unwrap();
    let remove = format!("{page}/{}", remove.split('"').next().unwrap());
    bob.post(&platform, &remove, &[]).await.is(StatusCode::FORBIDDEN);
    for _ in 0..2 {
        ada.post(&platform, &remove, &[]).await.is(StatusCode::SEE_OTHER);
    }
    ada.get(&platform, &page).await.shows("None yet.");
}
