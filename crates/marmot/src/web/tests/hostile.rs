//! Requests from elsewhere, and text that would like to be markup.

use super::*;

const NAUGHTY: &[&str] = &[
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "' onmouseover='alert(1)",
    "</textarea><script>alert(1)</script>",
    "javascript:alert(1)",
    "{{7*7}}${7*7}<%= 7*7 %>",
    "<svg/onload=alert(1)>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
];

#[tokio::test]
async fn every_change_needs_to_come_from_a_page_of_ours() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    let (project, launcher) = platform.with_launcher(&ada, "private").await;
    let mut changes = vec![
        "/sign-in".to_owned(),
        "/sign-out".to_owned(),
        "/projects/new".to_owned(),
        "/settings/tokens".to_owned(),
        "/settings/tokens/x/revoke".to_owned(),
        "/settings/sessions/x/revoke".to_owned(),
        "/settings/password".to_owned(),
        "/settings/ways/uni/add".to_owned(),
        "/settings/ways/remove".to_owned(),
        "/admin/users".to_owned(),
        "/admin/users/x/disable".to_owned(),
        "/admin/users/x/delete".to_owned(),
        "/groups".to_owned(),
        "/groups/x".to_owned(),
        "/groups/x/members".to_owned(),
        "/groups/x/delete".to_owned(),
        "/set-up/x".to_owned(),
        "/password/x".to_owned(),
        format!("{project}/settings"),
        format!("{project}/delete"),
        format!("{project}/limits"),
        format!("{project}/launchers/new"),
        format!("{project}/builds/x/cancel"),
    ];
    changes.extend(
        [
            "edit",
            "delete",
            "activate",
            "shut-down",
            "retry",
            "build",
            "access",
            "links",
            "links/x/revoke",
            "keys",
            "keys/x/revoke",
        ]
        .map(|last| format!("{launcher}/{last}")),
    );
    let from: &[&[(&str, &str)]] = &[
        &[],
        &[("origin", "null")],
        &[("origin", "https://evil.example")],
        &[("origin", "http://explorer.localhost:8080"), ("sec-fetch-site", "same-site")],
        &[("origin", HOME), ("sec-fetch-site", "cross-site")],
        &[("origin", "https://evil.example"), ("content-type", "text/plain")],
        &[("origin", "https://evil.example"), ("x-http-method-override", "GET")],
    ];
    for path in &changes {
        for headers in from {
            let mut request = ada.request(Method::POST, path);
            for (name, value) in *headers {
                request = request.header(*name, *value);
            }
            let answer = platform.send(request.body(Body::from("name=evil")).unwrap()).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path} {headers:?}");
        }
        let plain =
            ada.request(Method::POST, path).header("origin", HOME).header("content-type", "text/plain");
        let answer = platform.send(plain.body(Body::from("name=evil")).unwrap()).await;
        assert_ne!(answer.location.as_deref(), Some(project.as_str()), "{path}");
    }
    ada.get(&platform, &project).await.shows("Ice cores").shows("Activate");
}

#[tokio::test]
async fn another_sites_script_reads_nothing() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    for path in ["/", "/events", "/settings"] {
        let request = ada.request(Method::GET, path).header("origin", "http://explorer.localhost:8080");
        platform.send(request.body(Body::empty()).unwrap()).await.is(StatusCode::FORBIDDEN);
    }
}

#[tokio::test]
async fn every_answer_carries_the_headers_that_browsers_enforce() {
    let platform = Platform::new().await;
    for path in
        ["/", "/sign-in", "/design", "/nope", "/p/ada/nope", "/demo/wrong", super::super::assets::MARMOT_JS]
    {
        let answer = Browser::default().get(&platform, path).await;
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        assert!(
            policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers["referrer-policy"], "same-origin");
    }
}

#[tokio::test]
async fn no_page_needs_what_the_policy_forbids() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    let (project, launcher) = platform.with_launcher(&ada, "public").await;
    let new = format!("{project}/launchers/new");
    for path in ["/", "/design", "/settings", "/projects/new", &project, &new, &format!("{launcher}/logs")] {
        let page = ada.get(&platform, path).await;
        page.is(StatusCode::OK)
            .hides(" style=")
            .hides("<style")
            .hides("javascript:")
            .hides(" onclick=")
            .hides("<script>");
        assert_eq!(page.text.matches("<script").count(), 1, "{path}");
    }
}

#[tokio::test]
async fn text_of_people_is_never_markup() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    for (number, text) in NAUGHTY.iter().enumerate() {
        let slug = format!("naughty-{number}");
        let form = [("name", *text), ("slug", &slug), ("description", text), ("visibility", "public")];
        let project = ada.post(&platform, "/projects/new", &form).await.location.unwrap();
        let form = [
            ("source", "code"),
            ("name", text),
            ("description", text),
            ("repository", "https://github.com/ada/ice"),
            ("command", "x"),
            ("variable_name", "X"),
            ("variable_value", text),
            ("resource_class", "1"),
        ];
        let shown = ada.post(&platform, &format!("{project}/launchers/new"), &form).await;
        if let Some((_, id)) = shown.location.as_deref().and_then(|at| at.split_once("#launcher-")) {
            let launcher = format!("{project}/launchers/{id}");
            for path in ["edit", "delete", "shut-down", "logs"] {
                is_harmless(&ada.get(&platform, &format!("{launcher}/{path}")).await, text);
            }
        }
        for path in
            ["/".to_owned(), project.clone(), format!("{project}/settings"), format!("{project}/delete")]
        {
            is_harmless(&ada.get(&platform, &path).await, text);
        }
        let form =
            [("source", "code"), ("name", text), ("repository", text), ("port", text), ("command", text)];
        is_harmless(&ada.post(&platform, &format!("{project}/launchers/new"), &form).await, text);
        is_harmless(
            &Browser::default().post(&platform, "/sign-in", &[("username", text), ("next", text)]).await,
            text,
        );
    }
}

#[track_caller]
fn is_harmless(page: &Answer, text: &str) {
    // What every one of these needs to become markup is a character that must have been escaped.
    if text.contains(['<', '"', '\'']) {
        page.hides(text);
    }
    page.hides("<img src=x").hides("<svg/").hides("href=\"javascript:");
}

#[tokio::test]
async fn no_path_makes_the_pages_fail() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    for path in [
        "/p/ada",
        "/p/ADA/ice",
        "/p/%00/x",
        "/p/ada/..%2f..",
        "/p/a/b/launchers/zzz/edit",
        "/p/a/b/builds/%F0%9F%A6%AB",
        "/access/%2e%2e",
        "/access/UPPER?next=%zz",
        "/assets/..%2fCargo.toml",
        "/demo/%FF",
        "/settings/tokens/x/revoke",
        "/set-up/%FF",
        "/password/x",
        "/admin/users?page=-1",
        "/admin/users/x/delete",
        "/sign-in/with/%2e%2e",
        "/sign-in/with/x/back?code=%00",
    ] {
        let answer = ada.get(&platform, path).await;
        assert!(answer.status.is_client_error(), "{path}: {}", answer.status);
    }
}

#[tokio::test]
async fn two_session_cookies_are_none() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    let both = format!("{}; marmot=planted", ada.cookie.clone().unwrap());
    Browser { cookie: Some(both), ..Browser::default() }
        .get(&platform, "/")
        .await
        .is(StatusCode::OK)
        .hides("My projects");
}
