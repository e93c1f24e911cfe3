//! At npm's `oidc-provider`, which is certified: the whole way, as a browser goes it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use super::*;

/// A real provider, which ends with the test.
struct RealProvider {
    issuer: String,
    http: reqwest::Client,
    process: Child,
    /// Kept open: it says more later, and ends when nobody can hear it.
    _says: BufReader<ChildStdout>,
}

impl Drop for RealProvider {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl RealProvider {
    /// None where Node or its packages are not installed; in CI they are.
    async fn start(clock_offset: i64) -> Option<Self> {
        let at = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/oidc");
        if !std::path::Path::new(at).join("node_modules").is_dir() {
            assert!(std::env::var_os("CI").is_none(), "`cargo xtask setup` installs tests/oidc");
            eprintln!("skipped: the packages of tests/oidc are not installed");
            return None;
        }
        let mut process = Command::new("node")
            .arg("provider.js")
            .current_dir(at)
            .env("REDIRECT_URI", format!("{HOME}/sign-in/with/uni/back"))
            .env("HOME_URI", format!("{HOME}/"))
            .env("CLOCK_OFFSET", clock_offset.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut issuer = String::new();
        let mut says = BufReader::new(process.stdout.take().unwrap());
        says.read_line(&mut issuer).unwrap();
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Some(Self { issuer: issuer.trim().to_owned(), http, process, _says: says })
    }

    async fn control(&self, wanted: Value) {
        let body = wanted.to_string();
        self.http.post(format!("{}/control", self.issuer)).body(body).send().await.unwrap();
    }

    /// Follows the provider until it sends the browser back; the path and query of that.
    async fn through(&self, start: url::Url) -> String {
        let mut cookies: Vec<(String, String)> = Vec::new();
        let mut here = start;
        for _ in 0..12 {
            let kept: Vec<_> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let request = self.http.get(here.clone()).header("cookie", kept.join("; "));
            let answer = request.send().await.unwrap();
            for set in answer.headers().get_all("set-cookie") {
                let (name, rest) = set.to_str().unwrap().split_once('=').unwrap();
                cookies.retain(|(other, _)| other != name);
                let value = rest.split(';').next().unwrap();
                if !value.is_empty() {
                    cookies.push((name.to_owned(), value.to_owned()));
                }
            }
            let Some(to) = answer.headers().get("location").map(|to| to.to_str().unwrap().to_owned()) else {
                panic!("{} at {here}: {}", answer.status(), answer.text().await.unwrap());
            };
            here = here.join(&to).unwrap();
            if here.as_str().starts_with(HOME) {
                return here[url::Position::BeforePath..].to_owned();
            }
        }
        panic!("the provider never sends the browser back: {here}");
    }
}

impl Browser {
    /// Signs in with the provider, as whoever it says.
    async fn sign_in_with(&mut self, platform: &Platform, provider: &RealProvider) -> Answer {
        let there = self.sent_to_provider(platform, "/").await;
        let back = provider.through(there).await;
        let answer = self.get(platform, &back).await;
        self.add(&answer);
        answer
    }
}

fn person(subject: &str, username: &str, groups: &[&str]) -> Value {
    json!({
        "account": subject,
        "refuse": false,
        "claims": {
            "preferred_username": username,
            "email": format!("{username}@example.org"),
            "email_verified": true,
            "given_name": "Grace",
            "family_name": "<b>Hopper</b>",
            "groups": groups,
        },
    })
}

#[tokio::test]
async fn people_come_in_by_a_real_provider_and_go_where_they_wanted() {
    let Some(provider) = RealProvider::start(0).await else { return };
    let mut config = uni(&provider.issuer);
    config.admin_groups = vec!["marmot-admins".to_owned()];
    config.allowed_groups = vec!["researchers".to_owned()];
    let platform = Platform::with_provider(config).await;
    Browser::default().get(&platform, "/sign-in").await.shows("Sign in with University");

    // The first time an account is made, under a name that is free: `ada` is somebody else's.
    provider.control(person("7", "ada", &["researchers"])).await;
    let mut grace = Browser::default();
    let there = grace.sent_to_provider(&platform, "%2Fprojects%2Fnew").await;
    for wanted in ["code_challenge_method=S256", "nonce=", "state=", "response_type=code"] {
        assert!(there.as_str().contains(wanted), "{there}");
    }
    let back = provider.through(there).await;
    assert!(back.contains("iss=http"), "{back}");
    let answer = grace.get(&platform, &back).await;
    assert_eq!(answer.is(StatusCode::SEE_OTHER).location.as_deref(), Some("/projects/new"));
    grace.add(&answer);
    assert_eq!(grace.username(&platform).await.as_deref(), Some("ada-2"));
    let user = platform.service.user_by_name(&"ada-2".parse().unwrap()).await.unwrap();
    assert_eq!(user.email.as_deref(), Some("ada@example.org"));
    assert!(!user.is_admin);
    grace.get(&platform, "/settings").await.shows("University").hides("Change your password");

    // The answer is good once, in the browser that asked.
    let again = grace.get(&platform, &back).await;
    again.is(StatusCode::BAD_REQUEST).shows("was not begun in this browser, or is over");
    Browser::default().get(&platform, &back).await.is(StatusCode::BAD_REQUEST);

    // The second time it is the same account, whatever the person is called now; and the group makes an administrator.
    provider.control(person("7", "grace", &["marmot-admins"])).await;
    let mut again = Browser::default();
    again.sign_in_with(&platform, &provider).await.is(StatusCode::SEE_OTHER);
    assert_eq!(again.username(&platform).await.as_deref(), Some("ada-2"));
    again.get(&platform, "/admin/users").await.is(StatusCode::OK).shows("&#60;b&#62;Hopper");
    provider.control(person("7", "grace", &["researchers"])).await;
    again.sign_in_with(&platform, &provider).await.is(StatusCode::SEE_OTHER);
    again.get(&platform, "/admin/users").await.is(StatusCode::FORBIDDEN);

    // Whoever is in no group that may come in stays out, and gets no account.
    provider.control(person("8", "eve", &["students"])).await;
    let mut eve = Browser::default();
    let refused = eve.sign_in_with(&platform, &provider).await;
    refused.is(StatusCode::FORBIDDEN).shows("is in none of the groups that may use this server");
    assert!(platform.service.user_by_name(&"eve".parse().unwrap()).await.is_err());

    // Whoever says no is told so, and may try again.
    provider.control(json!({"refuse": true})).await;
    let refused = eve.sign_in_with(&platform, &provider).await;
    refused.is(StatusCode::FORBIDDEN).shows("The person said no.").shows("Sign in with University");

    // Signing out here is not signing out there: that is said, with the way to do it.
    let out = again.post(&platform, "/sign-out", &[]).await;
    out.is(StatusCode::OK).shows("Sign out of University, too").shows("/session/end?client_id=marmot");
    assert_eq!(again.username(&platform).await, None);
}

#[tokio::test]
async fn keys_change_clocks_differ_and_a_provider_comes_back() {
    let Some(provider) = RealProvider::start(30).await else { return };
    let platform = Platform::with_provider(uni(&provider.issuer)).await;
    provider.control(person("1", "grace", &[])).await;
    let mut browser = Browser::default();
    // Its clock is half a minute off, and it changes its keys between one sign-in and the next.
    browser.sign_in_with(&platform, &provider).await.is(StatusCode::SEE_OTHER);
    provider.control(json!({"rotate": true})).await;
    browser.sign_in_with(&platform, &provider).await.is(StatusCode::SEE_OTHER);
    assert_eq!(browser.username(&platform).await.as_deref(), Some("grace"));

    for (offset, says) in [(90, "University gave an answer that cannot be used")] {
        let Some(wrong) = RealProvider::start(offset).await else { return };
        let platform = Platform::with_provider(uni(&wrong.issuer)).await;
        wrong.control(person("1", "grace", &[])).await;
        let refused = Browser::default().sign_in_with(&platform, &wrong).await;
        refused.is(StatusCode::BAD_GATEWAY).shows(says);
    }
    let issuer = provider.issuer.clone();
    drop(provider);
    let platform = Platform::with_provider(uni(&issuer)).await;
    let down = Browser::default().get(&platform, "/sign-in/with/uni").await;
    down.is(StatusCode::BAD_GATEWAY).shows("University does not answer at the moment");
    down.shows("name=\"password\"");
}

#[tokio::test]
async fn an_account_that_is_here_gets_another_way_in_only_from_inside() {
    let Some(provider) = RealProvider::start(0).await else { return };
    let platform = Platform::with_provider(uni(&provider.issuer)).await;
    let set =
        crate::service::UserPatch { email: Some(Some("ada@example.org".to_owned())), ..Default::default() };
    let ada_here = platform.service.user_by_name(&"ada".parse().unwrap()).await.unwrap();
    let root = platform.service.user_by_name(&"root".parse().unwrap()).await;
    assert!(root.is_err());
    // Nobody runs this one: the change itself is refused unless somebody does.
    let admin = crate::service::UserPatch { is_admin: Some(true), ..set };
    platform.service.change_person_by_operator(ada_here.id, admin).await.unwrap();

    // The same name and address, verified or not, are no reason to be let in as ada.
    for (subject, verified) in [("21", false), ("22", true)] {
        let mut claims = person(subject, "ada", &[]);
        claims["claims"]["email_verified"] = json!(verified);
        provider.control(claims).await;
        let mut stranger = Browser::default();
        stranger.sign_in_with(&platform, &provider).await.is(StatusCode::SEE_OTHER);
        let username = stranger.username(&platform).await.unwrap();
        assert!(username.starts_with("ada-"), "{username}");
        let user = platform.service.user_by_name(&username.parse().unwrap()).await.unwrap();
        assert_eq!(user.email.is_some(), verified);
        assert!(!user.is_admin);
    }

    // Signed in, ada adds it by herself; then it lets her in.
    provider.control(person("23", "lovelace", &[])).await;
    let mut ada = platform.browser_of("ada").await;
    let going = ada.post(&platform, "/settings/ways/uni/add", &[]).await;
    going.is(StatusCode::OK).shows("Going on to University");
    ada.add(&going);
    let (_, rest) = going.text.split_once("content=\"0; url=").unwrap();
    let there = rest.split('"').next().unwrap().replace("&#38;", "&").parse().unwrap();
    let back = provider.through(there).await;
    // In another session it is worth nothing, with or without what the browser kept.
    let mut bob = platform.browser_of("bob").await;
    let kept = ada.cookie.clone().unwrap();
    let attempt = kept.split("; ").find(|pair| pair.starts_with("marmot-sign-in=")).unwrap().to_owned();
    bob.cookie = Some(format!("{}; {attempt}", bob.cookie.unwrap()));
    bob.get(&platform, &back).await.shows("was not begun in this browser");
    let linked = ada.get(&platform, &back).await;
    assert_eq!(linked.is(StatusCode::SEE_OTHER).location.as_deref(), Some("/settings"));
    ada.add(&linked);
    ada.get(&platform, "/settings").await.shows("lovelace@example.org");
    let mut elsewhere = Browser::default();
    elsewhere.sign_in_with(&platform, &provider).await.is(StatusCode::SEE_OTHER);
    assert_eq!(elsewhere.username(&platform).await.as_deref(), Some("ada"));

    // What lets ada in cannot be bob's, too.
    let mut bob = platform.browser_of("bob").await;
    let going = bob.post(&platform, "/settings/ways/uni/add", &[]).await;
    bob.add(&going);
    let (_, rest) = going.text.split_once("content=\"0; url=").unwrap();
    let there = rest.split('"').next().unwrap().replace("&#38;", "&").parse().unwrap();
    let refused = bob.get(&platform, &provider.through(there).await).await;
    refused.is(StatusCode::CONFLICT).shows("lets somebody in to another account here");
    let gone = [("issuer", provider.issuer.as_str()), ("subject", "23")];
    ada.post(&platform, "/settings/ways/remove", &gone).await.is(StatusCode::SEE_OTHER);
    ada.get(&platform, "/settings").await.hides("lovelace@example.org");
}
