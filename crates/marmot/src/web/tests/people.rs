//! Links that work once, passwords, sessions, and the pages of administrators: as a browser uses them.

use super::*;
use crate::service::UserPatch;

impl Platform {
    /// With `ada` running the installation.
    async fn with_admin() -> Self {
        let platform = Self::new().await;
        let ada = platform.service.user_by_name(&"ada".parse().unwrap()).await.unwrap();
        let patch = UserPatch { is_admin: Some(true), ..UserPatch::default() };
        platform.service.change_person_by_operator(ada.id, patch).await.unwrap();
        platform
    }
}

#[tokio::test]
async fn the_first_administrator_is_made_by_the_link_and_by_nothing_else() {
    let bench = Bench::new().await;
    let service = bench.service.clone();
    let link = service.set_up_link().await.unwrap().unwrap();
    let (stop, tickets) = (CancellationToken::new(), Arc::new(Tickets::new([7; 32])));
    let (tickets_of_pages, identities) = (Arc::clone(&tickets), identities(HOME));
    let options = web::Options { demo: None, tickets: tickets_of_pages, identities, stop: stop.clone() };
    let router = web::router(service.clone(), options);
    let platform = Platform { router, service, tickets, stop, bench };
    let path = link.reveal().strip_prefix(HOME).unwrap().to_owned();

    let mut browser = Browser::default();
    let form = [("username", "root"), ("password", PASSWORD)];
    browser.post(&platform, "/set-up/wrong", &form).await.is(StatusCode::NOT_FOUND).shows("does not work");
    let page = browser.get(&platform, &path).await;
    page.is(StatusCode::OK).shows("Make the account of the first administrator");
    let refused = browser.post(&platform, &path, &[("username", "Root!"), ("password", PASSWORD)]).await;
    refused
        .is(StatusCode::UNPROCESSABLE_ENTITY)
        .shows("id=\"username-wrong\"")
        .shows("Root!")
        .hides(PASSWORD);
    let refused = browser.post(&platform, &path, &[("username", "root"), ("password", "short")]).await;
    refused.is(StatusCode::UNPROCESSABLE_ENTITY).shows("id=\"password-wrong\"").hides("\"short\"");
    let made = browser.post(&platform, &path, &form).await;
    made.is(StatusCode::SEE_OTHER);
    browser.keep(&made);
    browser.get(&platform, "/admin/users").await.is(StatusCode::OK).shows("root");
    for again in [browser.get(&platform, &path).await, browser.post(&platform, &path, &form).await] {
        again.is(StatusCode::NOT_FOUND).shows("it was used already, or has expired");
    }
}

#[tokio::test]
async fn an_administrator_adds_somebody_who_chooses_a_password() {
    let platform = Platform::with_admin().await;
    let ada = platform.browser_of("ada").await;
    let added =
        ada.post(&platform, "/admin/users", &[("username", "grace"), ("email", "g@example.org")]).await;
    added.is(StatusCode::OK).shows("A link for grace").shows("g@example.org");
    let (_, rest) = added.text.split_once("<code id=\"link\">").unwrap();
    let link = rest.split('<').next().unwrap();
    // The link leads to the configured address, whatever a request said that our host is.
    let path = link.strip_prefix(HOME).unwrap().to_owned();
    ada.get(&platform, "/admin/users").await.hides(link);
    let taken = ada.post(&platform, "/admin/users", &[("username", "grace")]).await;
    taken.is(StatusCode::UNPROCESSABLE_ENTITY).shows("id=\"username-wrong\"");

    let mut grace = Browser::default();
    grace.get(&platform, &path).await.shows("For the account grace");
    let chosen = grace.post(&platform, &path, &[("password", PASSWORD)]).await;
    chosen.is(StatusCode::SEE_OTHER);
    grace.keep(&chosen);
    grace.get(&platform, "/").await.shows("My projects").hides("/admin/users");
    grace.post(&platform, &path, &[("password", PASSWORD)]).await.is(StatusCode::NOT_FOUND);
    platform.browser_of("grace").await;

    // What only administrators may is nobody else's, and nothing of it is shown.
    for path in ["/admin/users", "/admin/audit"] {
        grace.get(&platform, path).await.is(StatusCode::FORBIDDEN).hides("g@example.org");
        assert!(Browser::default().get(&platform, path).await.location.unwrap().starts_with("/sign-in"));
    }
    grace.post(&platform, "/admin/users", &[("username", "x")]).await.is(StatusCode::FORBIDDEN);
    grace.post(&platform, "/admin/users", &[("username", "X!")]).await.is(StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn whoever_is_disabled_is_out_at_once_and_whoever_is_deleted_is_gone() {
    let platform = Platform::with_admin().await;
    let (ada, bob) = (platform.browser_of("ada").await, platform.browser_of("bob").await);
    let id = platform.service.user_by_name(&"bob".parse().unwrap()).await.unwrap().id;
    let act = |what: &str| format!("/admin/users/{id}/{what}");
    ada.post(&platform, &act("disable"), &[]).await.is(StatusCode::SEE_OTHER);
    bob.get(&platform, "/").await.hides("My projects");
    let refused =
        Browser::default().post(&platform, "/sign-in", &[("username", "bob"), ("password", PASSWORD)]).await;
    refused.is(StatusCode::UNAUTHORIZED).shows("The username or the password is wrong.");
    ada.get(&platform, "/admin/users").await.shows("nothing: disabled");
    ada.post(&platform, &act("enable"), &[]).await.is(StatusCode::SEE_OTHER);
    let bob = platform.browser_of("bob").await;
    platform.with_launcher(&bob, "private").await;
    ada.get(&platform, &act("delete")).await.shows("Delete the account of bob?");
    let refused = ada.post(&platform, &act("delete"), &[]).await;
    refused.is(StatusCode::CONFLICT).shows("is the only owner of “bob/ice-cores”");
    bob.post(&platform, "/p/bob/ice-cores/delete", &[]).await.is(StatusCode::SEE_OTHER);
    ada.post(&platform, &act("delete"), &[]).await.is(StatusCode::SEE_OTHER);
    bob.get(&platform, "/").await.hides("My projects");
    let own = platform.service.user_by_name(&"ada".parse().unwrap()).await.unwrap().id;
    for what in ["disable", "not-admin", "delete"] {
        let refused = ada.post(&platform, &format!("/admin/users/{own}/{what}"), &[]).await;
        refused.is(StatusCode::CONFLICT).shows("make somebody else an administrator first");
    }
    ada.post(&platform, &act("nonsense"), &[]).await.is(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_changed_password_ends_every_session_and_goes_on_in_a_new_one() {
    let platform = Platform::new().await;
    let (mut here, there) = (platform.browser_of("ada").await, platform.browser_of("ada").await);
    let before = here.cookie.clone();
    here.get(&platform, "/settings").await.shows("Where you are signed in").shows("now, here");
    let form = |current: &'static str, wanted: &'static str| [("current", current), ("wanted", wanted)];
    let wrong = here.post(&platform, "/settings/password", &form("wrong horse", "another horse")).await;
    wrong.is(StatusCode::UNPROCESSABLE_ENTITY).shows("This is not your password.").hides("another horse");
    let short = here.post(&platform, "/settings/password", &form(PASSWORD, "short")).await;
    short.is(StatusCode::UNPROCESSABLE_ENTITY).shows("id=\"wanted-wrong\"").hides("\"short\"");
    let changed = here.post(&platform, "/settings/password", &form(PASSWORD, "another horse")).await;
    changed.is(StatusCode::SEE_OTHER);
    there.get(&platform, "/").await.hides("My projects");
    here.get(&platform, "/").await.hides("My projects");
    here.keep(&changed);
    assert_ne!(here.cookie, before);
    here.get(&platform, "/").await.shows("My projects");
}

#[tokio::test]
async fn a_session_elsewhere_is_ended_from_here_and_a_planted_one_is_never_taken() {
    let platform = Platform::new().await;
    let (here, there) = (platform.browser_of("ada").await, platform.browser_of("ada").await);
    let page = here.get(&platform, "/settings").await;
    let (_, rest) = page.text.split_once("action=\"/settings/sessions/").unwrap();
    let id = rest.split('/').next().unwrap();
    let path = format!("/settings/sessions/{id}/revoke");
    platform.browser_of("bob").await.post(&platform, &path, &[]).await.is(StatusCode::SEE_OTHER);
    there.get(&platform, "/").await.shows("My projects");
    here.post(&platform, &path, &[]).await.is(StatusCode::SEE_OTHER);
    there.get(&platform, "/").await.hides("My projects");
    here.get(&platform, "/").await.shows("My projects");

    // What somebody put there before signing in is not what lets in afterwards.
    let mut planted = Browser { cookie: Some("marmot=planted".to_owned()), ..Browser::default() };
    let form = [("username", "ada"), ("password", PASSWORD), ("next", "/")];
    let answer = planted.post(&platform, "/sign-in", &form).await;
    planted.get(&platform, "/").await.hides("My projects");
    planted.keep(&answer);
    let first = planted.cookie.clone().unwrap();
    assert_ne!(first, "marmot=planted");
    // Signing in again ends the session before.
    let again = planted.post(&platform, "/sign-in", &form).await;
    planted.get(&platform, "/").await.hides("My projects");
    planted.keep(&again);
    planted.get(&platform, "/").await.shows("My projects");
}

#[tokio::test]
async fn owners_see_who_did_what_and_names_in_it_are_text() {
    let platform = Platform::with_admin().await;
    let (ada, bob) = (platform.browser_of("ada").await, platform.browser_of("bob").await);
    let (project, _) = platform.with_launcher(&bob, "public").await;
    bob.get(&platform, &format!("{project}/settings")).await.shows("See who did what");
    let form = [
        ("source", "code"),
        ("name", "<script>alert(1)</script>"),
        ("repository", "https://github.com/a/b"),
        ("resource_class", "1"),
    ];
    bob.post(&platform, &format!("{project}/launchers/new"), &form).await.is(StatusCode::SEE_OTHER);
    let page = bob.get(&platform, &format!("{project}/audit")).await;
    page.is(StatusCode::OK).shows("launcher.created").shows("project bob/ice-cores").hides("<script>alert");
    page.shows("/audit/export");
    assert!(Browser::default().get(&platform, &format!("{project}/audit")).await.location.is_some());
    ada.get(&platform, "/admin/audit").await.shows("user.signed_in").shows("project.created");
    bob.get(&platform, "/admin/audit").await.is(StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_token_that_may_only_read_one_project_is_made_on_the_page() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    platform.with_launcher(&ada, "private").await;
    let page = ada.get(&platform, "/settings").await;
    let (before, _) = page.text.split_once("\">the project “Ice cores” alone").unwrap();
    let project = before.rsplit('"').next().unwrap().to_owned();
    let form = [("name", "reader"), ("lifetime", "30"), ("access", "read"), ("project", &project)];
    let made = ada.post(&platform, "/settings/tokens", &form).await;
    made.is(StatusCode::OK).shows("read “Ice cores”");
    let (_, rest) = made.text.split_once("<code id=\"token\">").unwrap();
    let who = platform.service.identify_token(&Secret::new(rest.split('<').next().unwrap())).await.unwrap();
    assert!(matches!(who, crate::service::Identity::Token(..)), "{who:?}");
}

#[tokio::test]
async fn a_project_is_made_in_the_namespace_of_a_group() {
    let platform = Platform::new().await;
    let (ada, bob) = (platform.browser_of("ada").await, platform.browser_of("bob").await);
    ada.get(&platform, "/projects/new").await.hides("Owned by");
    let who =
        crate::service::Identity::User(platform.service.user_by_name(&"ada".parse().unwrap()).await.unwrap());
    let lab =
        crate::service::NewGroup { path: "lab".parse().unwrap(), name: "Lab".to_owned(), description: None };
    platform.service.create_group(&who, lab).await.unwrap();
    ada.get(&platform, "/projects/new").await.shows("Owned by").shows("<option value=\"lab\">");
    let form = [("name", "Ice"), ("namespace", "lab"), ("visibility", "private")];
    let wrong = [("name", ""), ("namespace", "lab")];
    let again = ada.post(&platform, "/projects/new", &wrong).await;
    again.is(StatusCode::UNPROCESSABLE_ENTITY).shows("<option value=\"lab\" selected>");
    bob.post(&platform, "/projects/new", &form).await.is(StatusCode::FORBIDDEN);
    let made = ada.post(&platform, "/projects/new", &form).await;
    assert_eq!(made.location.as_deref(), Some("/p/lab/ice"));
}
