//! What a provider, or somebody between it and us, must not get away with.

use axum::Json;
use axum::response::IntoResponse as _;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::fake::{FakeProvider, Key, asked};
use super::*;

const UNUSABLE: &str = "University gave an answer that cannot be used";

/// Begins a sign-in, has the provider give a token made from honest claims, and comes back.
async fn comes_back(
    provider: &FakeProvider,
    token: impl FnOnce(Value) -> String,
) -> (Platform, Browser, Answer) {
    let platform = Platform::with_provider(uni(&provider.issuer)).await;
    let mut browser = Browser::default();
    let there = browser.sent_to_provider(&platform, "/").await;
    provider.gives(&token(provider.claims(&there)));
    let state = asked(&there, "state");
    let answer = browser.get(&platform, &format!("/sign-in/with/uni/back?code=abc&state={state}")).await;
    browser.add(&answer);
    (platform, browser, answer)
}

fn changed(mut claims: Value, with: Value) -> Value {
    for (name, value) in with.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

#[tokio::test]
async fn an_honest_token_lets_in_and_the_code_is_shown_to_be_ours() {
    let provider = FakeProvider::start().await;
    let (platform, browser, answer) = comes_back(&provider, |claims| provider.key.sign(&claims)).await;
    answer.is(StatusCode::SEE_OTHER);
    assert_eq!(browser.username(&platform).await.as_deref(), Some("mallory"));
    let form = provider.says().last_form.clone();
    assert_eq!(form["redirect_uri"], format!("{HOME}/sign-in/with/uni/back"));
    assert_eq!((form["code"].as_str(), form["code_verifier"].len()), ("abc", 43));
}

#[tokio::test]
async fn a_token_that_is_not_for_us_about_this_sign_in_and_of_now_lets_nobody_in() {
    let provider = FakeProvider::start().await;
    let now = jiff::Timestamp::now().as_second();
    for lie in [
        json!({"iss": "https://evil.example"}),
        json!({"iss": format!("{}/", provider.issuer)}),
        json!({"aud": "another"}),
        json!({"aud": ["another", "third"]}),
        json!({"aud": ["another", "marmot"]}),
        json!({"aud": "marmot", "azp": "another"}),
        json!({"aud": []}),
        json!({"aud": null}),
        json!({"nonce": "of-another-sign-in"}),
        json!({"nonce": null}),
        json!({"exp": now - 61}),
        json!({"exp": null}),
        json!({"exp": "tomorrow"}),
        json!({"iat": now + 90}),
        json!({"nbf": now + 90}),
        json!({"sub": ""}),
        json!({"sub": null}),
        json!({"sub": "x".repeat(256)}),
    ] {
        let told = lie.to_string();
        let (platform, browser, answer) =
            comes_back(&provider, |claims| provider.key.sign(&changed(claims, lie))).await;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{told}");
        answer.shows(UNUSABLE);
        assert_eq!(browser.username(&platform).await, None, "{told}");
    }
    // Half a minute is how far clocks may differ, and more.
    for fine in [json!({"exp": now - 30}), json!({"iat": now + 30}), json!({"aud": ["marmot"]})] {
        let told = fine.to_string();
        let (_, _, answer) = comes_back(&provider, |claims| provider.key.sign(&changed(claims, fine))).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{told}");
    }
}

#[tokio::test]
async fn a_token_that_the_provider_has_not_signed_lets_nobody_in() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let provider = FakeProvider::start().await;
    let public = provider.key.published().to_string();
    let none = |claims: Value| {
        let encoded = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.", encoded(json!({"alg": "none"})), encoded(claims))
    };
    let by_public_key = |claims: Value| {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some("first".to_owned());
        jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(public.as_bytes())).unwrap()
    };
    let by_client_secret = |claims: Value| {
        let secret = EncodingKey::from_secret(b"a secret: with / and %");
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &secret).unwrap()
    };
    let by_another = |claims: Value| Key::new("first").sign(&claims);
    let altered = |claims: Value| {
        let honest = provider.key.sign(&claims);
        let [head, _, signature] = honest.split('.').collect::<Vec<_>>()[..] else { unreachable!() };
        let body = URL_SAFE_NO_PAD.encode(changed(claims, json!({"sub": "1"})).to_string());
        format!("{head}.{body}.{signature}")
    };
    let lies: [(&str, &dyn Fn(Value) -> String); 6] = [
        ("none", &none),
        ("HS256 with the public key", &by_public_key),
        ("HS256 with the client's secret", &by_client_secret),
        ("another's key", &by_another),
        ("altered", &altered),
        ("no token", &|_| "not.a.token".to_owned()),
    ];
    for (name, lie) in lies {
        let (platform, browser, answer) = comes_back(&provider, lie).await;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{name}");
        assert_eq!(browser.username(&platform).await, None, "{name}");
    }
}

#[tokio::test]
async fn an_answer_to_another_question_or_of_another_provider_is_not_taken() {
    let provider = FakeProvider::start().await;
    let platform = Platform::with_provider(uni(&provider.issuer)).await;
    let mut browser = Browser::default();
    let there = browser.sent_to_provider(&platform, "/").await;
    let state = asked(&there, "state");
    let issuer = &provider.issuer;
    for query in [
        "code=abc".to_owned(),
        "code=abc&state=".to_owned(),
        "code=abc&state=of-another".to_owned(),
        format!("state={state}"),
        format!("code=abc&state={state}&iss=https%3A%2F%2Fevil.example"),
        format!("code=abc&state={state}&iss={issuer}%2F"),
        "error=access_denied".to_owned(),
    ] {
        let answer = browser.get(&platform, &format!("/sign-in/with/uni/back?{query}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
        answer.shows("was not begun in this browser, or is over");
    }
    // Two of a kind are of no kind.
    let twice = format!("/sign-in/with/uni/back?code=abc&code=def&state={state}");
    assert!(!browser.get(&platform, &twice).await.status.is_redirection());
    // Without what was kept, and to a provider that there is not.
    let back = format!("/sign-in/with/uni/back?code=abc&state={state}");
    Browser::default().get(&platform, &back).await.is(StatusCode::BAD_REQUEST);
    browser.get(&platform, "/sign-in/with/nobody").await.is(StatusCode::NOT_FOUND);
    browser.get(&platform, &back.replace("/uni/", "/nobody/")).await.is(StatusCode::BAD_REQUEST);
    // What the provider says when it refuses is text, and no more.
    let refusal = format!(
        "/sign-in/with/uni/back?error=x&error_description=%3Cscript%3Ealert(1)%3C%2Fscript%3E&state={state}"
    );
    browser.get(&platform, &refusal).await.is(StatusCode::FORBIDDEN).hides("<script>alert");
    // A code that the provider does not know: it was used already, or is somebody else's.
    let answer = browser.get(&platform, &back).await;
    answer.is(StatusCode::BAD_GATEWAY).shows(UNUSABLE);
}

#[tokio::test]
async fn a_provider_that_is_down_slow_huge_or_confused_is_told_in_words() {
    let huge = || "x".repeat(300 << 10).into_response();
    let elsewhere = |name: &str, to: &str| {
        let (name, to) = (name.to_owned(), to.to_owned());
        move |issuer: &str| {
            let mut told = FakeProvider::configuration(issuer);
            told[&name] = json!(to);
            Json(told).into_response()
        }
    };
    type Says = Box<dyn Fn(&str) -> axum::response::Response>;
    let configurations: Vec<(&str, Says)> = vec![
        ("500", Box::new(|_: &str| StatusCode::INTERNAL_SERVER_ERROR.into_response())),
        ("404", Box::new(|_: &str| StatusCode::NOT_FOUND.into_response())),
        ("huge", Box::new(move |_: &str| huge())),
        ("no JSON", Box::new(|_: &str| "<html>".into_response())),
        ("another issuer", Box::new(elsewhere("issuer", "https://evil.example"))),
        ("plain keys", Box::new(elsewhere("jwks_uri", "http://192.0.2.1/keys"))),
        ("a file", Box::new(elsewhere("token_endpoint", "file:///etc/passwd"))),
        ("a redirect", Box::new(|_: &str| axum::response::Redirect::to("http://192.0.2.1/").into_response())),
    ];
    for (name, says) in configurations {
        let provider = FakeProvider::start().await;
        let platform = Platform::with_provider(uni(&provider.issuer)).await;
        provider.says().configuration = Some(says(&provider.issuer));
        let answer = Browser::default().get(&platform, "/sign-in/with/uni").await;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{name}");
        answer.shows("University ").shows("name=\"password\"").hides("192.0.2.1");
    }
    let provider = FakeProvider::start().await;
    for keys in [
        "x".repeat(300 << 10).into_response(),
        Json(json!({"keys": []})).into_response(),
        Json(
            json!({"keys": [{"kty": "oct", "k": "AAAA", "kid": "first", "alg": "HS256"}, {"kty": "new"}, 7]}),
        )
        .into_response(),
        Json(json!({"keys": [changed(provider.key.published(), json!({"use": "enc"}))]})).into_response(),
    ] {
        provider.says().keys = Some(keys);
        let (platform, browser, answer) = comes_back(&provider, |claims| provider.key.sign(&claims)).await;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
        assert_eq!(browser.username(&platform).await, None);
    }
    let provider = FakeProvider::start().await;
    provider.says().userinfo = Some(json!({"sub": "somebody else", "email": "x@example.org"}));
    let platform = Platform::with_provider(uni(&provider.issuer)).await;
    let mut browser = Browser::default();
    let there = browser.sent_to_provider(&platform, "/").await;
    let token = provider.key.sign(&provider.claims(&there));
    provider.says().tokens = Some(Json(json!({"id_token": token, "access_token": "t"})).into_response());
    let back = format!("/sign-in/with/uni/back?code=abc&state={}", asked(&there, "state"));
    browser.get(&platform, &back).await.is(StatusCode::BAD_GATEWAY).shows(UNUSABLE);
}

#[tokio::test]
async fn keys_that_do_not_exist_are_not_asked_for_again_and_again() {
    let provider = FakeProvider::start().await;
    let platform = Platform::with_provider(uni(&provider.issuer)).await;
    for _ in 0..8 {
        let mut browser = Browser::default();
        let there = browser.sent_to_provider(&platform, "/").await;
        provider.gives(&Key::new("unknown").sign(&provider.claims(&there)));
        let back = format!("/sign-in/with/uni/back?code=abc&state={}", asked(&there, "state"));
        browser.get(&platform, &back).await.is(StatusCode::BAD_GATEWAY);
    }
    assert_eq!(provider.says().asked_for_keys, 5);
    // And whoever goes on trying waits.
    let mut browser = Browser::default();
    let state = asked(&browser.sent_to_provider(&platform, "/").await, "state");
    let back = format!("/sign-in/with/uni/back?code=abc&state={state}");
    for _ in 0..2 {
        browser.get(&platform, &back).await.is(StatusCode::BAD_GATEWAY);
    }
    browser.get(&platform, &back).await.is(StatusCode::TOO_MANY_REQUESTS);
}
