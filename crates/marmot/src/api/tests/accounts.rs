//! Signing in, tokens, and requests that pretend.

use super::*;

#[tokio::test]
async fn a_token_is_shown_once_and_dead_when_revoked() {
    let platform = Platform::new().await;
    let ada = platform.user("ada").await;
    let made = platform.post("/user/tokens", &ada, json!({"name": "laptop"})).await.is(StatusCode::CREATED);
    let (id, text) = (made.text("id"), made.text("token"));
    assert!(text.starts_with("mmt_") && text.len() == 36, "{}", text.len());
    assert_json!(platform.get("/user", &text).await.is(StatusCode::OK).body, @r#"
        {
          "email": null,
          "first_name": null,
          "id": "[ID]",
          "is_admin": false,
          "last_name": null,
          "username": "ada"
        }
        "#);
    let list = platform.get("/user/tokens", &ada).await.is(StatusCode::OK);
    assert!(!list.body.to_string().contains(&text));
    platform.delete(&format!("/user/tokens/{id}"), &ada).await.is(StatusCode::NO_CONTENT);
    let dead = platform.get("/user", &text).await.is(StatusCode::UNAUTHORIZED);
    assert_eq!(dead.header("www-authenticate"), "Bearer");
    let file = std::fs::read(platform.bench.dir.path().join("marmot.db")).unwrap();
    let wal = std::fs::read(platform.bench.dir.path().join("marmot.db-wal")).unwrap_or_default();
    for secret in [text.as_bytes(), ada.as_bytes(), b"correct horse"] {
        let stored =
            [&file, &wal].iter().any(|bytes| bytes.windows(secret.len()).any(|window| window == secret));
        assert!(!stored, "a secret is in the database as it is");
    }
}

#[tokio::test]
async fn nobody_revokes_the_token_of_another() {
    let platform = Platform::new().await;
    let (ada, bob) = (platform.user("ada").await, platform.user("bob").await);
    let id = platform.get("/user/tokens", &ada).await.body[0]["id"].as_str().unwrap().to_owned();
    platform.delete(&format!("/user/tokens/{id}"), &bob).await.is(StatusCode::NOT_FOUND);
    platform.get("/user", &ada).await.is(StatusCode::OK);
}

#[tokio::test]
async fn a_password_makes_a_token_and_guessing_is_limited() {
    let platform = Platform::new().await;
    platform.user("ada").await;
    let body =
        |username: &str, password: &str| json!({"name": "x", "username": username, "password": password});
    let made = platform.post("/user/tokens", "", body("ada", "correct horse")).await.is(StatusCode::CREATED);
    platform.get("/user", &made.text("token")).await.is(StatusCode::OK);
    let wrong =
        platform.post("/user/tokens", "", body("ada", "wrong horse")).await.is(StatusCode::UNAUTHORIZED);
    let unknown =
        platform.post("/user/tokens", "", body("nobody", "wrong horse")).await.is(StatusCode::UNAUTHORIZED);
    assert_eq!(wrong.message(), unknown.message());
    for _ in 0..9 {
        platform.post("/user/tokens", "", body("ada", "wrong horse")).await.is(StatusCode::UNAUTHORIZED);
    }
    let limited = platform.post("/user/tokens", "", body("ada", "correct horse")).await;
    assert!(!limited.is(StatusCode::TOO_MANY_REQUESTS).header("retry-after").is_empty());
}

#[tokio::test]
async fn a_session_cookie_works_and_other_sites_cannot_use_it() {
    let platform = Platform::new().await;
    platform.user("ada").await;
    let signed_in =
        platform.service.sign_in("ada", &Secret::new("correct horse"), "192.0.2.1").await.unwrap();
    let cookie = format!("marmot={}", signed_in.session.reveal());
    let request = |method: Method, path: &str, headers: &[(&str, &str)]| {
        let mut request = platform.request(method, path, "", Some(json!({"name": "Iris"})));
        for (name, value) in headers.iter().chain(&[("cookie", cookie.as_str())]) {
            let name: http::HeaderName = name.parse().unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        platform.send(request)
    };
    request(Method::GET, "/user", &[]).await.is(StatusCode::OK);
    let foreign: [&[(&str, &str)]; 6] = [
        &[],
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
        &[("origin", "http://iris.localhost:8080")],
        &[("sec-fetch-site", "same-site"), ("origin", "http://localhost:8080")],
        &[("sec-fetch-site", "cross-site")],
    ];
    for headers in foreign {
        request(Method::POST, "/projects", headers).await.is(StatusCode::FORBIDDEN).message();
    }
    request(Method::POST, "/projects", &[("origin", "http://localhost:8080")]).await.is(StatusCode::CREATED);
    platform.service.sign_out(&signed_in.session).await.unwrap();
    request(Method::GET, "/user", &[]).await.is(StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn every_sign_in_starts_another_session() {
    let platform = Platform::new().await;
    platform.user("ada").await;
    let password = Secret::new("correct horse");
    let first = platform.service.sign_in("ada", &password, "192.0.2.1").await.unwrap();
    let second = platform.service.sign_in("ada", &password, "192.0.2.1").await.unwrap();
    assert!(first.session != second.session);
    platform.service.set_password(&"ada".parse().unwrap(), &Secret::new("another horse")).await.unwrap();
    for session in [first.session, second.session] {
        assert!(platform.service.identify_session(&session).await.is_err());
    }
    assert!(platform.service.sign_in("ada", &password, "192.0.2.1").await.is_err());
}

/// D8: a crowd that signs in takes bounded memory, holds up nobody else, and is told when to come back.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_signs_in_is_bounded_and_holds_up_nobody_else() {
    let platform = std::sync::Arc::new(Platform::new().await);
    let ada = platform.user("ada").await;
    let peak = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = peak();
    // Each from an address of its own, so that none is refused for guessing.
    let crowd = (0..200u8).map(|number| {
        let platform = std::sync::Arc::clone(&platform);
        tokio::spawn(async move {
            let body = json!({"name": "x", "username": "ada", "password": "wrong horse"});
            let mut request = platform.request(Method::POST, "/user/tokens", "", Some(body));
            let address = std::net::SocketAddr::from(([192, 0, 2, number], 1));
            request.extensions_mut().insert(axum::extract::ConnectInfo(address));
            platform.send(request).await
        })
    });
    let crowd: Vec<_> = crowd.collect();
    for _ in 0..50 {
        platform.get("/user", &ada).await.is(StatusCode::OK);
        platform.get("/projects", &ada).await.is(StatusCode::OK);
    }
    // They were answered while most of the crowd still waited.
    assert!(crowd.iter().any(|one| !one.is_finished()), "nobody was left to wait");
    let mut told_to_come_back = 0;
    for one in crowd {
        let answer = one.await.unwrap();
        match answer.status {
            StatusCode::UNAUTHORIZED => {}
            StatusCode::SERVICE_UNAVAILABLE => {
                assert!(answer.header("retry-after").parse::<u64>().unwrap() > 0);
                told_to_come_back += 1;
            }
            other => panic!("{other}: {}", answer.body),
        }
    }
    assert!((100..200).contains(&told_to_come_back), "{told_to_come_back}");
    // Hashing takes 19 MiB each: all at once would be four gigabytes.
    let grown = (peak() - before) >> 10;
    assert!(grown < 300, "{grown} MiB");
    let right = json!({"name": "x", "username": "ada", "password": "correct horse"});
    platform.post("/user/tokens", "", right).await.is(StatusCode::CREATED);
}
