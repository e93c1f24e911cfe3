//! What is typed becomes what the API is asked for.

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Typed {
    #[command(flatten)]
    new: NewLauncher,
}

fn asked(line: &str) -> Value {
    let typed = Typed::try_parse_from(["create"].into_iter().chain(line.split(' '))).expect("it can be read");
    typed.new.body("01PROJECT").expect("it is fine")
}

#[test]
fn an_image_and_what_is_said_of_it_becomes_an_environment() {
    let body = asked(
        "ada/ice model --image ghcr.io/ada/model:2 --port 8000 --user 1000:100 --arg=--workers=2 --env A=b=c -- /run x",
    );
    assert_eq!(
        body["environment"],
        json!({
            "environment_image_source": "image", "container_image": "ghcr.io/ada/model:2", "port": 8000,
            "uid": 1000, "gid": 100, "args": ["--workers=2"], "command": ["/run", "x"],
        })
    );
    assert_eq!(body["env_variables"], json!([{"name": "A", "value": "b=c"}]));
    let least = asked("ada/ice model --image nginx");
    assert_eq!(
        least["environment"],
        json!({"environment_image_source": "image", "container_image": "nginx"})
    );
}

#[test]
fn code_can_be_asked_for_as_an_image_and_an_image_cannot() {
    let body = asked("ada/ice site --repository https://example.org/x --builder static --as-image");
    assert_eq!(
        body["environment"],
        json!({
            "environment_image_source": "build", "repository": "https://example.org/x",
            "builder_variant": "static", "as_image": true,
        })
    );
    for wrong in [
        "ada/ice x --image nginx --as-image",
        "ada/ice x --image nginx --repository https://example.org/x",
        "ada/ice x --repository https://example.org/x --user 5",
        "ada/ice x",
    ] {
        assert!(Typed::try_parse_from(["create"].into_iter().chain(wrong.split(' '))).is_err(), "{wrong}");
    }
    let user = Typed::try_parse_from("create ada/ice x --image nginx --user root".split(' '));
    let refused = user.expect("it can be read").new.body("01PROJECT").expect_err("no number");
    assert!(refused.to_string().contains("`root` is no id"), "{refused}");
}
