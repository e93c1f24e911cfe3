//! Secrets, credentials and webhooks: what comes in never goes out, and what it changes.

use http::header::HeaderName;

use super::*;
use crate::model::{GivenSecret, SecretForm};
use crate::vault::{MasterKey, Vault};

impl Platform {
    /// An owner's token, the project and its launcher `iris`, whose app is on and runs its first revision.
    pub(super) async fn with_running_iris() -> (Self, String, String, String) {
        let (platform, ada, launcher) = Self::with_iris().await;
        let (project, id) = (launcher["project_id"].as_str().unwrap(), launcher["id"].as_str().unwrap());
        platform.post("/apps", &ada, json!({"launcher_id": id})).await.is(StatusCode::CREATED);
        platform.build_succeeds().await;
        (platform, ada, project.to_owned(), id.to_owned())
    }

    /// What the one app's replicas are given.
    async fn given(&self) -> Vec<(String, String, SecretForm)> {
        let picture = self.service.picture().await.unwrap();
        let plain =
            |secret: &GivenSecret| (secret.name.clone(), secret.value.reveal().to_owned(), secret.form);
        picture.apps[0].secrets.iter().map(plain).collect()
    }

    async fn revisions(&self, token: &str) -> usize {
        self.get("/apps/iris/revisions", token).await.is(StatusCode::OK).body.as_array().unwrap().len()
    }

    /// A message of a code hosting site.
    pub(super) async fn hear(&self, launcher: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = Request::post(format!("/api/data/hooks/{launcher}"));
        for (name, value) in headers {
            request = request.header(HeaderName::from_bytes(name.as_bytes()).unwrap(), *value);
        }
        self.send(request.body(Body::from(body.to_owned())).unwrap()).await
    }
}

fn given(name: &str, value: &str, form: SecretForm) -> (String, String, SecretForm) {
    (name.to_owned(), value.to_owned(), form)
}

#[tokio::test]
async fn a_secret_reaches_replicas_and_nobody_else() {
    let (platform, ada, project, launcher) = Platform::with_running_iris().await;
    let of_project = format!("/projects/{project}/secrets");
    let of_launcher = format!("/session_launchers/{launcher}/secrets");
    let set = async |path: String, body: Value| platform.put(&path, &ada, body).await;
    let made = set(format!("{of_project}/API_KEY"), json!({"value": "hunter2-shared"})).await;
    assert_json!(made.is(StatusCode::OK).body, @r#"
        {
          "created_at": "[TIME]",
          "form": "variable",
          "name": "API_KEY",
          "updated_at": "[TIME]"
        }
        "#);
    set(format!("{of_project}/PEM"), json!({"value": "hunter2\nfile", "form": "file"}))
        .await
        .is(StatusCode::OK);
    set(format!("{of_launcher}/API_KEY"), json!({"value": "hunter2-own"})).await.is(StatusCode::OK);
    let expected = [
        given("API_KEY", "hunter2-own", SecretForm::Variable),
        given("PEM", "hunter2\nfile", SecretForm::File),
    ];
    assert_eq!(platform.given().await, expected);
    // Each change made a revision, so that what runs has it.
    assert_eq!(platform.revisions(&ada).await, 4);

    for path in [
        &of_project,
        &of_launcher,
        "/session_launchers",
        "/apps/iris",
        "/apps/iris/revisions",
        "/apps/iris/events",
    ] {
        let shown = platform.get(path, &ada).await.is(StatusCode::OK).body.to_string();
        assert!(!shown.contains("hunter2"), "{path} shows {shown}");
    }
    let files = std::fs::read_dir(platform.bench.dir.path()).unwrap();
    for file in files.map(|file| file.unwrap().path()).filter(|path| path.is_file()) {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(7).any(|window| window == b"hunter2"), "{} has it in plain", file.display());
    }

    platform.delete(&format!("{of_launcher}/API_KEY"), &ada).await.is(StatusCode::NO_CONTENT);
    platform.delete(&format!("{of_launcher}/API_KEY"), &ada).await.is(StatusCode::NOT_FOUND);
    assert_eq!(platform.given().await[0], given("API_KEY", "hunter2-shared", SecretForm::Variable));
}

#[tokio::test]
async fn only_who_may_change_a_project_sets_or_lists_its_secrets() {
    let (platform, ada, launcher) = Platform::with_iris().await;
    let eve = platform.user("eve").await;
    let (project, launcher) = (launcher["project_id"].as_str().unwrap(), launcher["id"].as_str().unwrap());
    for path in [format!("/projects/{project}/secrets"), format!("/session_launchers/{launcher}/secrets")] {
        platform.get(&path, &eve).await.is(StatusCode::FORBIDDEN);
        platform.get(&path, "").await.is(StatusCode::UNAUTHORIZED);
        let one = format!("{path}/KEY");
        platform.put(&one, &eve, json!({"value": "x"})).await.is(StatusCode::FORBIDDEN);
        platform.put(&one, &ada, json!({"value": "x"})).await.is(StatusCode::OK);
        platform.delete(&one, &eve).await.is(StatusCode::FORBIDDEN);
    }
    let path = format!("/projects/{project}/credentials");
    let new = json!({"kind": "git", "host": "example.org", "secret": "hunter2"});
    platform.post(&path, &eve, new.clone()).await.is(StatusCode::FORBIDDEN);
    let made = platform.post(&path, &ada, new).await.is(StatusCode::CREATED);
    platform.get(&path, &eve).await.is(StatusCode::FORBIDDEN);
    platform.delete(&format!("{path}/{}", made.text("id")), &eve).await.is(StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn what_cannot_be_a_secret_is_refused_without_being_shown() {
    let (platform, ada, launcher) = Platform::with_iris().await;
    let path = format!("/session_launchers/{}/secrets", launcher["id"].as_str().unwrap());
    for (name, body, said) in [
        ("PORT", json!({"value": "hunter2"}), "is set by the platform"),
        ("a%20b", json!({"value": "hunter2"}), "is no name of a variable"),
        ("KEY", json!({"value": ""}), "must have 1 to"),
        ("KEY", json!({"value": "hunter2\u{0}"}), "no NUL character"),
        ("KEY", json!({"value": "hunter2".repeat(10_000)}), "must have 1 to"),
        ("KEY", json!({"value": "hunter2", "form": "disk"}), "`disk` is not allowed here"),
    ] {
        let refused =
            platform.put(&format!("{path}/{name}"), &ada, body).await.is(StatusCode::UNPROCESSABLE_ENTITY);
        assert!(refused.message().contains(said), "{}", refused.message());
        assert!(!refused.body.to_string().contains("hunter2"));
    }
}

#[tokio::test]
async fn a_project_shows_each_host_one_credential() {
    let (platform, ada, launcher) = Platform::with_iris().await;
    let path = format!("/projects/{}/credentials", launcher["project_id"].as_str().unwrap());
    let first = json!({"kind": "git", "host": "GitLab.example.org", "secret": "hunter2-old"});
    platform.post(&path, &ada, first).await.is(StatusCode::CREATED);
    let second =
        json!({"kind": "git", "host": "gitlab.example.org", "username": "ada", "secret": "hunter2-new"});
    platform.post(&path, &ada, second).await.is(StatusCode::CREATED);
    let registry = json!({"kind": "registry", "host": "registry.example.org:5000", "secret": "hunter2"});
    let refused = platform.post(&path, &ada, registry).await.is(StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused.message().contains("`username`"), "{}", refused.message());
    let listed = platform.get(&path, &ada).await.is(StatusCode::OK);
    assert_json!(listed.body, @r#"
        [
          {
            "created_at": "[TIME]",
            "host": "gitlab.example.org",
            "id": "[ID]",
            "kind": "git",
            "username": "ada"
          }
        ]
        "#);
    let picture = platform.service.picture().await.unwrap();
    let logins: Vec<_> = picture.git_hosts.values().flatten().collect();
    assert_eq!((logins.len(), logins[0].secret.reveal()), (1, "hunter2-new"));
    let id = listed.body[0]["id"].as_str().unwrap();
    platform.delete(&format!("{path}/{id}"), &ada).await.is(StatusCode::NO_CONTENT);
    assert!(platform.service.picture().await.unwrap().git_hosts.is_empty());
}

#[tokio::test]
async fn a_server_without_the_key_says_so_before_it_serves_and_a_new_key_takes_over() {
    let (platform, ada, launcher) = Platform::with_iris().await;
    let path = format!("/session_launchers/{}/secrets/KEY", launcher["id"].as_str().unwrap());
    platform.put(&path, &ada, json!({"value": "hunter2"})).await.is(StatusCode::OK);
    let service = |vault: Vault| platform.bench.another_service(vault);
    let (old, new) = (MasterKey::random(), MasterKey::random());
    let stranger = service(Vault::new(vec![old.clone()]).unwrap()).await;
    let refused = stranger.check_vault().await.unwrap_err();
    let cause = std::error::Error::source(&refused).unwrap().to_string();
    assert!(cause.contains("was sealed with the key"), "{cause}");

    let first = service(Vault::new(vec![old.clone()]).unwrap()).await;
    let root = Identity::User(platform.bench.user("root").await);
    let of = crate::service::SecretsOf::Launcher(launcher["id"].as_str().unwrap().parse().unwrap());
    first.set_secret(&root, of, "KEY", Secret::new("hunter2"), SecretForm::Variable).await.unwrap();
    let both = service(Vault::new(vec![new.clone(), old]).unwrap()).await;
    assert_eq!(both.reseal().await.unwrap(), 1);
    assert_eq!(both.reseal().await.unwrap(), 0);
    service(Vault::new(vec![new]).unwrap()).await.check_vault().await.unwrap();
}

#[tokio::test]
async fn an_app_that_is_on_follows_its_launcher_with_a_new_revision() {
    let (platform, ada, _, launcher) = Platform::with_running_iris().await;
    let path = format!("/session_launchers/{launcher}");
    let change = |body: Value| platform.patch(&path, &ada, body);
    change(json!({"name": "Irises"})).await.is(StatusCode::OK);
    assert_eq!(platform.revisions(&ada).await, 1, "what people call it is no part of what runs");
    change(json!({"env_variables": [{"name": "GREETING", "value": "good day"}]})).await.is(StatusCode::OK);
    assert_eq!(platform.revisions(&ada).await, 2);
    let picture = platform.service.picture().await.unwrap();
    assert_eq!(picture.apps[0].revision.as_ref().unwrap().variables[0].value, "good day");
    assert!(picture.builds.is_empty(), "nothing is built for a variable");

    let environment = |revision: &str| {
        json!({"environment": {"environment_image_source": "build", "repository": "https://example.org/iris.git",
            "repository_revision": revision}})
    };
    change(environment("dev")).await.is(StatusCode::OK);
    let picture = platform.service.picture().await.unwrap();
    assert_eq!(picture.builds.len(), 1);
    assert_eq!(picture.apps[0].app.awaits, Some(picture.builds[0].id));
    assert!(picture.apps[0].revision.is_some(), "what ran goes on until the next one is built");
    platform.build_succeeds().await;
    assert_eq!(platform.revisions(&ada).await, 3);
}

#[tokio::test]
async fn a_push_builds_the_app_anew_once_and_only_with_the_right_proof() {
    let (platform, ada, _, launcher) = Platform::with_running_iris().await;
    let path = format!("/session_launchers/{launcher}/webhook");
    platform.get(&path, &ada).await.is(StatusCode::NOT_FOUND);
    let hook = platform.post(&path, &ada, json!({})).await.is(StatusCode::CREATED);
    assert_eq!(hook.text("url"), format!("http://localhost:8080/api/data/hooks/{launcher}"));
    let secret = hook.text("secret");
    assert!(!platform.get(&path, &ada).await.is(StatusCode::OK).body.to_string().contains(&secret));

    let push = r#"{"ref":"refs/heads/main","after":"c0ffee","repository":{"default_branch":"main"}}"#;
    let builds = async || platform.service.picture().await.unwrap().builds.len();
    for headers in [
        &[][..],
        &[("x-gitlab-token", "guess"), ("x-gitlab-event", "Push Hook")],
        &[("x-hub-signature-256", "sha256=00"), ("x-github-event", "push")],
        &[("x-hub-signature-256", &format!("sha256={}", "0".repeat(64))), ("x-github-event", "push")],
        &[("x-gitea-signature", &"0".repeat(64)), ("x-gitea-event", "push")],
    ] {
        platform.hear(&launcher, headers, push).await.is(StatusCode::UNAUTHORIZED);
    }
    let token = [("x-gitlab-token", secret.as_str()), ("x-gitlab-event", "Push Hook")];
    for nobody in ["01ARZ3NDEKTSV4RRFFQ69G5FAV", "--upload-pack=x"] {
        platform.hear(nobody, &token, push).await.is(StatusCode::UNAUTHORIZED);
    }
    assert_eq!(builds().await, 0);

    let other = push.replace("heads/main", "heads/dev");
    let heard = platform.hear(&launcher, &token, &other).await.is(StatusCode::OK);
    assert_eq!(heard.text("message"), "the push was not to the default branch: nothing is built");
    assert_eq!(builds().await, 0);
    platform.hear(&launcher, &token, push).await.is(StatusCode::OK);
    assert_eq!(builds().await, 1);
    // The same again, as somebody who listened on the way might send it.
    let again = platform.hear(&launcher, &token, push).await.is(StatusCode::OK);
    assert_eq!(again.text("message"), "this push was heard before");
    for commit in 0..1000 {
        platform
            .hear(&launcher, &token, &push.replace("c0ffee", &format!("c0ffee{commit}")))
            .await
            .is(StatusCode::OK);
    }
    assert_eq!(builds().await, 2, "one runs, one waits, whoever pushes how often");
    let shown = platform.get(&path, &ada).await.is(StatusCode::OK);
    assert_eq!(shown.text("heard"), "a build waits already: it will build the newest commit");

    platform.delete(&path, &ada).await.is(StatusCode::NO_CONTENT);
    platform.hear(&launcher, &token, push).await.is(StatusCode::UNAUTHORIZED);
    let huge = "x".repeat(10 << 20);
    platform.hear(&launcher, &token, &huge).await.is(StatusCode::PAYLOAD_TOO_LARGE);
}
