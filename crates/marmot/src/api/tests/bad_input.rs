//! Input that makes no sense: each refusal says what was given and what is allowed, in one shape.

use super::*;

#[tokio::test]
async fn bodies_that_are_no_json_are_refused_in_the_same_shape() {
    let platform = Platform::new().await;
    let ada = platform.user("ada").await;
    let deep = "[".repeat(100_000);
    let nested = "{\"name\":".repeat(10_000);
    let huge = format!("{{\"name\": \"{}\"}}", "x".repeat(2 << 20));
    let cases = [
        ("not json", StatusCode::BAD_REQUEST),
        ("", StatusCode::BAD_REQUEST),
        ("{\"name\": NaN}", StatusCode::BAD_REQUEST),
        ("{\"name\": 1e999}", StatusCode::BAD_REQUEST),
        (nested.as_str(), StatusCode::UNPROCESSABLE_ENTITY),
        ("\u{feff}{\"name\": \"x\"}", StatusCode::BAD_REQUEST),
        ("{\"name\": \"\\ud800\"}", StatusCode::BAD_REQUEST),
        (deep.as_str(), StatusCode::UNPROCESSABLE_ENTITY),
        ("[]", StatusCode::UNPROCESSABLE_ENTITY),
        ("{}", StatusCode::UNPROCESSABLE_ENTITY),
        ("{\"name\": 5}", StatusCode::UNPROCESSABLE_ENTITY),
        ("{\"name\": \"x\", \"name\": \"y\"}", StatusCode::UNPROCESSABLE_ENTITY),
        ("{\"name\": \"x\", \"is_admin\": true}", StatusCode::UNPROCESSABLE_ENTITY),
        ("{\"name\": \"  \"}", StatusCode::UNPROCESSABLE_ENTITY),
        ("{\"name\": \"a\\u0000b\"}", StatusCode::UNPROCESSABLE_ENTITY),
        ("{\"name\": \"x\", \"visibility\": \"secret\"}", StatusCode::UNPROCESSABLE_ENTITY),
        ("{\"name\": \"x\", \"repositories\": [\"ext::sh\"]}", StatusCode::UNPROCESSABLE_ENTITY),
        (huge.as_str(), StatusCode::PAYLOAD_TOO_LARGE),
    ];
    for (body, status) in cases {
        let request = Request::post("/api/data/projects")
            .header("authorization", format!("Bearer {ada}"))
            .header("content-type", "application/json; charset=utf-8")
            .body(Body::from(body.to_owned()))
            .unwrap();
        let answer = platform.send(request).await;
        assert_eq!(answer.status, status, "{:.60}: {}", body, answer.body);
        answer.message();
    }
}

#[tokio::test]
async fn a_compressed_body_is_refused_before_it_is_looked_at() {
    let platform = Platform::new().await;
    let ada = platform.user("ada").await;
    for encoding in ["gzip", "deflate", "br", "zstd", "gzip, identity", "x-unknown"] {
        let mut request = platform.request(Method::POST, "/projects", &ada, Some(json!({"name": "x"})));
        request.headers_mut().insert("content-encoding", encoding.parse().unwrap());
        platform.send(request).await.is(StatusCode::UNSUPPORTED_MEDIA_TYPE).message();
    }
}

#[tokio::test]
async fn an_unknown_field_is_named() {
    let platform = Platform::new().await;
    let ada = platform.user("ada").await;
    let answer = platform.post("/projects", &ada, json!({"name": "x", "visiblity": "public"})).await;
    assert_json!(answer.body, @r#"
        {
          "error": {
            "code": 1422,
            "message": "unknown field `visiblity`, expected one of `name`, `namespace`, `slug`, `visibility`, `description`, `repositories` at line 1 column 23",
            "trace_id": "[ID]"
          }
        }
        "#);
}

#[tokio::test]
async fn a_body_of_another_type_is_refused() {
    let platform = Platform::new().await;
    let ada = platform.user("ada").await;
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""] {
        let mut request = platform.request(Method::POST, "/projects", &ada, Some(json!({"name": "x"})));
        request.headers_mut().insert("content-type", content_type.parse().unwrap());
        platform.send(request).await.is(StatusCode::UNSUPPORTED_MEDIA_TYPE).message();
    }
}

#[tokio::test]
async fn ids_and_names_that_are_none_or_do_not_exist_are_refused() {
    let platform = Platform::new().await;
    let ada = platform.user("ada").await;
    let missing = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    for path in ["projects", "session_launchers", "builds"] {
        platform.get(&format!("/{path}/{missing}"), &ada).await.is(StatusCode::NOT_FOUND).message();
        let wrong =
            platform.get(&format!("/{path}/not-an-id"), &ada).await.is(StatusCode::UNPROCESSABLE_ENTITY);
        assert!(wrong.message().starts_with("`not-an-id` is not an id"), "{}", wrong.message());
    }
    platform.get(&format!("/environments/{missing}/builds"), &ada).await.is(StatusCode::NOT_FOUND);
    platform.post("/apps", &ada, json!({"launcher_id": missing})).await.is(StatusCode::NOT_FOUND);
    platform.get("/apps/nothing", &ada).await.is(StatusCode::NOT_FOUND);
    platform.get("/apps/No_Label", &ada).await.is(StatusCode::UNPROCESSABLE_ENTITY).message();
    platform.get("/apps/%ff", &ada).await.is(StatusCode::BAD_REQUEST).message();
    platform.get("/nowhere", &ada).await.is(StatusCode::NOT_FOUND).message();
    let method = platform.send(platform.request(Method::PUT, "/projects", &ada, None)).await;
    assert_eq!(method.is(StatusCode::METHOD_NOT_ALLOWED).message(), "PUT is not possible here");
}

#[tokio::test]
async fn credentials_that_are_wrong_are_refused_and_not_taken_for_nobody() {
    let platform = Platform::new().await;
    platform.get("/projects", "mmt_wrong").await.is(StatusCode::UNAUTHORIZED).message();
    let mut request = platform.request(Method::GET, "/projects", "", None);
    request.headers_mut().insert("authorization", "Basic YTpi".parse().unwrap());
    platform.send(request).await.is(StatusCode::UNAUTHORIZED).message();
    platform.post("/projects", "", json!({"name": "x"})).await.is(StatusCode::UNAUTHORIZED).message();
}

#[tokio::test]
async fn launchers_that_cannot_work_are_refused_in_words() {
    let platform = Platform::new().await;
    let ada = platform.user("ada").await;
    let project = platform.project(&ada, "Iris", "public").await;
    let code = |extra: Value| {
        let mut environment =
            json!({"environment_image_source": "build", "repository": "https://example.org/x"});
        environment.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({ "environment": environment })
    };
    let cases = [
        json!({"launcher_type": "interactive"}),
        json!({"launcher_type": "non_interactive"}),
        json!({"resource_class_id": 99}),
        json!({"env_variables": [{"name": "PORT", "value": "1"}]}),
        json!({"env_variables": [{"name": "A-B", "value": "1"}]}),
        json!({"environment": {"environment_image_source": "magic"}}),
        json!({"environment": {"environment_image_source": "build"}}),
        json!({"environment": {"environment_image_source": "image", "port": 80}}),
        json!({"environment": {"environment_image_source": "image", "container_image": "https://ghcr.io/o/a"}}),
        json!({"environment": {"environment_image_source": "image", "container_image": "sha256:abc"}}),
        json!({"environment": {"environment_image_source": "image", "container_image": "nginx", "uid": 0}}),
        json!({"environment": {"environment_image_source": "image", "container_image": "nginx", "gid": 100}}),
        json!({"environment": {"environment_image_source": "image", "container_image": "nginx", "working_directory": "x"}}),
        json!({"environment": {"environment_image_source": "image", "container_image": "nginx", "builder_variant": "auto"}}),
        code(json!({"repository": "/etc"})),
        code(json!({"repository": "ext::sh -c id"})),
        code(json!({"repository": "-oProxyCommand=id"})),
        code(json!({"repository_revision": "--upload-pack=id"})),
        code(json!({"context_dir": "../../etc"})),
        code(json!({"builder_variant": "julia"})),
        code(json!({"builder_variant": "magic"})),
        code(json!({"command": []})),
        code(json!({"port": 0})),
        code(json!({"container_image": "nginx"})),
        json!({"environment": {"environment_image_source": "image", "container_image": "nginx", "as_image": true}}),
    ];
    let mut refusals = String::new();
    for case in cases {
        let mut launcher = code(json!({}));
        let fields = launcher.as_object_mut().unwrap();
        fields.extend(json!({"project_id": project, "name": "X"}).as_object().unwrap().clone());
        fields.extend(case.as_object().unwrap().clone());
        let answer = platform.post("/session_launchers", &ada, launcher).await;
        refusals.push_str(answer.is(StatusCode::UNPROCESSABLE_ENTITY).message());
        refusals.push('\n');
    }
    insta::assert_snapshot!(refusals, @r#"
        launchers of type `interactive` are not offered here yet: `launcher_type` must be `app`
        launchers of type `non_interactive` are not offered here yet: `launcher_type` must be `app`
        there is no resource class 99: choose one of 1 (small), 2 (medium), 3 (large)
        the variable `PORT` is set by the platform: choose another name
        `A-B` is no name of a variable: use letters, digits and `_`, and no digit first
        `environment_image_source` is `magic`: it must be `build` or `image`
        `environment` needs `repository`
        `environment` needs `container_image`
        `container_image`: `https://ghcr.io/o/a`: it is no reference of an image, like `ghcr.io/org/app:1.2` or `python:3.12-slim`: it is given without `https://`
        `container_image`: `sha256:abc`: it is no reference of an image, like `ghcr.io/org/app:1.2` or `python:3.12-slim`: the id of an image means something only to the engine that has it
        `uid` is 0: root in an image is root of the machine's kernel, too; give another user, or none
        `gid` needs a `uid` to go with
        `working_directory` must be a path in the image that begins with `/`
        `builder_variant` is not for a container image
        `/etc` is a path of this machine: repositories must be given as https:// or ssh:// addresses (an operator can allow paths with `allow_local_repositories`)
        `repository`: `ext::sh -c id` is no address of a repository: give it as `https://host/path`, `ssh://user@host/path` or `user@host:path`
        `repository`: `-oProxyCommand=id` is no address of a repository: give it as `https://host/path`, `ssh://user@host/path` or `user@host:path`
        `repository_revision` is no branch, tag or commit
        `context_dir`: `../../etc` leads out of the repository: give a directory inside it, like `apps/dashboard`
        `julia` is not allowed here: it must be one of auto, python, r, node, static, dockerfile, buildpacks
        `magic` is not allowed here: it must be one of auto, python, r, node, static, dockerfile, buildpacks
        `command` is empty: leave it out to start what the code says
        `port` must be from 1 to 65535
        `container_image` is not for an environment that is built from code
        `as_image` is not for a container image
        "#);
}

#[tokio::test]
async fn a_secret_in_the_address_of_a_repository_is_refused_and_never_repeated() {
    let platform = Platform::new().await;
    let ada = platform.user("ada").await;
    let project = platform.project(&ada, "Iris", "public").await;
    let launcher = platform.launcher(&ada, &project, "Iris").await["id"].as_str().unwrap().to_owned();
    let version = platform.get(&format!("/projects/{project}"), &ada).await.header("etag").to_owned();
    for address in [
        "https://ada:hunter2@example.org/x.git",
        "https://hunter2@example.org/x.git",
        "HTTP://hunter2@example.org/x.git",
        "https://:hunter2@example.org/x.git",
        "https:///hunter2@example.org/x.git",
        "https:\\\\ada:hunter2@example.org/x.git",
        "https:/ada:hunter2@example.org/x.git",
        "https://ada:hunter2/@example.org/x.git",
        "ssh://git:hunter2@example.org/x.git",
        "git:hunter2@example.org:x.git",
        "git://hunter2@example.org/x.git",
    ] {
        let environment = json!({"environment_image_source": "build", "repository": address});
        let new = json!({"project_id": project, "name": "X", "environment": environment});
        let mut patch = platform.request(
            Method::PATCH,
            &format!("/projects/{project}"),
            &ada,
            Some(json!({"repositories": [address]})),
        );
        patch.headers_mut().insert("if-match", version.parse().unwrap());
        for answer in [
            platform.post("/projects", &ada, json!({"name": "X", "repositories": [address]})).await,
            platform.send(patch).await,
            platform.post("/session_launchers", &ada, new).await,
            platform
                .patch(&format!("/session_launchers/{launcher}"), &ada, json!({"environment": environment}))
                .await,
        ] {
            let answer = answer.is(StatusCode::UNPROCESSABLE_ENTITY);
            let told = answer.message();
            assert!(!told.contains("hunter2") && told.contains("give "), "{address}: {told}");
        }
    }
    let refused = json!({"name": "X", "repositories": ["https://ada:hunter2@example.org/x.git"]});
    let refused = platform.post("/projects", &ada, refused).await;
    insta::assert_snapshot!(refused.message(), @"`repositories`: the address of the repository contains a user name or password; everybody who may read the project could read it: give the address without");
    let fine = [
        "https://example.org/@ada/x",
        "ssh://git@example.org:2222/x",
        "git@example.org:ada/x.git",
        "git@example.org:x@y",
    ];
    let made = platform.post("/projects", &ada, json!({"name": "Y", "repositories": fine})).await;
    assert_eq!(made.is(StatusCode::CREATED).body["repositories"], json!(fine));
}
