//! Signing in and out, tokens, and the way to a private app.

use super::*;

#[tokio::test]
async fn a_stranger_is_told_what_this_is_and_signs_in_to_where_they_were_going() {
    let platform = Platform::new().await;
    let stranger = Browser::default();
    stranger.get(&platform, "/").await.is(StatusCode::OK).shows("Ready on demand").shows("Sign in");
    let sent = stranger.get(&platform, "/projects/new").await;
    assert_eq!(sent.location.as_deref(), Some("/sign-in?next=%2Fprojects%2Fnew"));
    stranger.get(&platform, "/sign-in?next=%2Fprojects%2Fnew").await.shows("value=\"/projects/new\"");
    let form = [("username", "ada"), ("password", PASSWORD), ("next", "/projects/new")];
    let answer = stranger.post(&platform, "/sign-in", &form).await;
    assert_eq!(answer.location.as_deref(), Some("/projects/new"));
    let cookie = answer.headers[header::SET_COOKIE].to_str().unwrap();
    assert!(cookie.contains("; HttpOnly; SameSite=Lax;"), "{cookie}");
}

#[tokio::test]
async fn a_wrong_password_keeps_the_name_and_never_the_password() {
    let platform = Platform::new().await;
    let stranger = Browser::default();
    for (username, password) in [("ada", "wr0ng-secret"), ("nobody", "wr0ng-secret")] {
        let answer =
            stranger.post(&platform, "/sign-in", &[("username", username), ("password", password)]).await;
        answer
            .is(StatusCode::UNAUTHORIZED)
            .shows("The username or the password is wrong.")
            .hides("wr0ng-secret");
        answer.shows(&format!("value=\"{username}\""));
    }
}

#[tokio::test]
async fn signing_in_leads_only_to_pages_of_ours() {
    let platform = Platform::new().await;
    for next in ["//evil.example", "https://evil.example", "/\\evil.example", "/.//evil.example"] {
        let form = [("username", "ada"), ("password", PASSWORD), ("next", next)];
        let answer = Browser::default().post(&platform, "/sign-in", &form).await;
        assert_eq!(answer.location.as_deref(), Some("/"), "{next}");
    }
}

#[tokio::test]
async fn signing_out_ends_the_session_itself() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    ada.get(&platform, "/").await.shows("My projects");
    let answer = ada.post(&platform, "/sign-out", &[]).await;
    assert!(answer.headers[header::SET_COOKIE].to_str().unwrap().contains("Max-Age=0"));
    ada.get(&platform, "/").await.hides("My projects");
}

#[tokio::test]
async fn the_link_of_a_demo_signs_in_and_a_wrong_one_does_not() {
    let platform = Platform::new().await;
    let mut visitor = Browser::default();
    visitor.get(&platform, "/demo/wrong").await.is(StatusCode::NOT_FOUND);
    let answer = visitor.get(&platform, "/demo/letmein").await;
    visitor.keep(&answer);
    visitor.get(&platform, "/").await.shows("My projects");
}

#[tokio::test]
async fn a_token_is_shown_once_and_works_until_it_is_revoked() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    let made = ada.post(&platform, "/settings/tokens", &[("name", "laptop"), ("lifetime", "30")]).await;
    let (_, rest) = made.text.split_once("<code id=\"token\">").unwrap();
    let token = Secret::new(rest.split('<').next().unwrap());
    assert!(platform.service.identify_token(&token).await.is_ok());
    let list = ada.get(&platform, "/settings").await;
    list.shows("laptop").hides(token.reveal());
    let (_, rest) = list.text.split_once("action=\"/settings/tokens/").unwrap();
    let id = rest.split('/').next().unwrap();
    ada.post(&platform, &format!("/settings/tokens/{id}/revoke"), &[]).await.is(StatusCode::SEE_OTHER);
    assert!(platform.service.identify_token(&token).await.is_err());
    ada.post(&platform, "/settings/tokens", &[("name", "")]).await.is(StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn a_private_app_is_entered_with_a_code_by_those_who_may_and_by_nobody_else() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    let (_, launcher) = platform.with_launcher(&ada, "private").await;
    ada.post(&platform, &format!("{launcher}/activate"), &[]).await.is(StatusCode::SEE_OTHER);
    let path = "/access/explorer?next=%2Fdeep%3Fx%3D1";
    let answer = ada.get(&platform, path).await;
    let location = answer.is(StatusCode::FOUND).location.clone().unwrap();
    let url = url::Url::parse(&location).unwrap();
    assert_eq!((url.host_str(), url.path()), (Some("explorer.localhost"), "/.marmot/enter"));
    let query: std::collections::HashMap<_, _> = url.query_pairs().into_owned().collect();
    assert_eq!(query["next"], "/deep?x=1");
    let person = platform.tickets.redeem_code(&"explorer".parse().unwrap(), &query["code"]).unwrap();
    assert_eq!(person.username, "ada");

    platform.browser_of("bob").await.get(&platform, path).await.is(StatusCode::NOT_FOUND);
    let sent = Browser::default().get(&platform, path).await;
    assert_eq!(
        sent.location.as_deref(),
        Some("/sign-in?next=%2Faccess%2Fexplorer%3Fnext%3D%252Fdeep%253Fx%253D1")
    );
}
