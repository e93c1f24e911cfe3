//! The box *Branches* of an app's page: previews, and how it follows its branch.

use super::*;

#[tokio::test]
async fn an_editor_previews_a_branch_lets_it_stay_ends_it_and_says_how_the_app_follows_its_own() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    let (_, launcher) = platform.with_launcher(&ada, "public").await;
    ada.get(&platform, &launcher).await.shows("No previews.").shows("The branch is not looked at");
    let form = [("branch", "feature/map"), ("days", "3")];
    let made = ada.post(&platform, &format!("{launcher}/previews"), &form).await;
    assert_eq!(made.is(StatusCode::SEE_OTHER).location, Some(format!("{launcher}#previews")));
    let page = ada.get(&platform, &launcher).await;
    page.shows("feature/map").shows("in 3 days").hides("No previews.");
    for (branch, days, why) in [("<b>x y", "3", "is no name of a branch"), ("dev", "91", "from 1 to 90 days")]
    {
        let form = [("branch", branch), ("days", days)];
        let refused = ada.post(&platform, &format!("{launcher}/previews"), &form).await;
        refused.is(StatusCode::UNPROCESSABLE_ENTITY).shows(why).hides("<b>x");
    }
    let (_, rest) = page.text.split_once(&format!("{launcher}/previews/")).unwrap();
    let preview = rest.split('/').next().unwrap().to_owned();

    // Its own page says what it is, and offers nothing that its launcher decides.
    let own = launcher.rsplit_once('/').unwrap().0.to_owned() + "/" + &preview;
    let shown = ada.get(&platform, &own).await;
    shown
        .is(StatusCode::OK)
        .shows("A preview of the branch")
        .shows("End it")
        .hides("Set a secret")
        .hides("Make a webhook");

    let follow = async |every: &str| {
        ada.post(&platform, &format!("{launcher}/following"), &[("every", every), ("pull_requests", "on")])
            .await
    };
    follow("5").await.is(StatusCode::SEE_OTHER);
    ada.get(&platform, &launcher).await.shows("every 5 minutes").shows("value=\"on\" checked");
    follow("five").await.is(StatusCode::UNPROCESSABLE_ENTITY).shows("every 1 to 1440 minutes");
    follow("").await.is(StatusCode::SEE_OTHER);
    ada.get(&platform, &launcher).await.shows("The branch is not looked at");

    let path = format!("{launcher}/previews/{preview}");
    ada.post(&platform, &format!("{path}/prolong"), &[]).await.is(StatusCode::SEE_OTHER);
    ada.get(&platform, &launcher).await.shows("in 7 days");
    for _ in 0..2 {
        ada.post(&platform, &format!("{path}/end"), &[]).await.is(StatusCode::SEE_OTHER);
    }
    ada.get(&platform, &launcher).await.shows("No previews.");
    ada.get(&platform, &own).await.is(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn who_may_not_run_apps_of_a_project_makes_no_previews_of_them() {
    let platform = Platform::new().await;
    let (ada, bob) = (platform.browser_of("ada").await, platform.browser_of("bob").await);
    let (_, launcher) = platform.with_launcher(&ada, "public").await;
    bob.get(&platform, &launcher).await.is(StatusCode::OK).hides("Preview a branch");
    for action in ["previews", "following"] {
        let form = [("branch", "dev"), ("every", "5")];
        bob.post(&platform, &format!("{launcher}/{action}"), &form).await.is(StatusCode::FORBIDDEN);
    }
}
