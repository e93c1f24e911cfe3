//! The form of a launcher says what a build would do, with a script and without one.

use super::*;
use crate::model::EnvironmentSource;
use crate::service::Identity;
use crate::testing::repository;

const FILES: &[(&str, &str)] = &[
    ("app.py", "from flask import Flask\napp = Flask(__name__)\n"),
    ("requirements.txt", "flask\n"),
    ("other/Procfile", "web: python serve.py --port $PORT && true\n"),
    ("other/requirements.txt", ""),
];
const DETECTED: &str = "flask --app app:app run --host 0.0.0.0 --port $PORT";

/// The command that a launcher itself has, and how it is built.
async fn of_launcher(platform: &Platform, location: &str) -> (Option<Vec<String>>, String) {
    let id = location.rsplit_once("#launcher-").unwrap().1.parse().unwrap();
    let ada =
        platform.service.users().await.unwrap().into_iter().find(|user| user.username.as_str() == "ada");
    let view = platform.service.launcher_view(&Identity::User(ada.unwrap()), id).await.unwrap();
    match view.launcher.environment.source {
        EnvironmentSource::Code { run, code } => (run.command, code.builder.to_string()),
        EnvironmentSource::Image(_) => panic!("an image"),
    }
}

#[tokio::test]
async fn a_look_shows_the_plan_and_what_it_puts_into_the_form_goes_on_to_follow_the_code() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    let (project, launcher) = platform.with_launcher(&ada, "private").await;
    let address = repository(&platform.bench.dir.path().join("code"), FILES);
    let look = format!("{project}/launchers/new/plan");
    let form = [("source", "code"), ("repository", &*address), ("name", "Flask"), ("resource_class", "1")];
    let with = |more: &[(&'static str, &'static str)]| {
        let mut all: Vec<(&str, &str)> = form.to_vec();
        all.extend_from_slice(more);
        all
    };

    // With a script: the plan alone, and the field of the command.
    let part = ada.script().post(&platform, &look, &with(&[])).await;
    part.is(StatusCode::OK)
        .shows("A Python app")
        .shows("requirements.txt")
        .shows("hx-swap-oob")
        .hides("<html");
    part.shows(&format!("id=\"command\" name=\"command\" type=\"text\" value=\"{DETECTED}\""));
    // Somebody's own command stays, and the plan says that it wins.
    let own = ada
        .script()
        .post(&platform, &look, &with(&[("command", "python app.py"), ("directory", "other")]))
        .await;
    own.shows("the command below").hides("hx-swap-oob");
    own.shows("wins over the Procfile");
    // What an earlier look put there gives way to what the next one finds.
    let typed = [("command", DETECTED), ("planned_command", DETECTED), ("directory", "other")];
    let next = ada.script().post(&platform, &look, &with(&typed)).await;
    next.shows("value=\"python serve.py --port $PORT &#38;&#38; true\"").shows("hx-swap-oob");

    // Without one: the whole form, filled in.
    let page = ada.post(&platform, &look, &with(&[("builder", "python")])).await;
    page.is(StatusCode::OK).shows("<html").shows("A Python app").shows("Create launcher").shows(&address);
    page.shows(&format!("name=\"planned_command\" value=\"{DETECTED}\"")).shows("value=\"python\" selected");

    let create = format!("{project}/launchers/new");
    let unchanged = [("command", DETECTED), ("planned_command", DETECTED), ("builder", "python")];
    let made = ada.post(&platform, &create, &with(&unchanged)).await.location.unwrap();
    assert_eq!(of_launcher(&platform, &made).await, (None, "python".to_owned()));
    let changed = [("command", "flask run --port $PORT"), ("planned_command", DETECTED)];
    let made = ada.post(&platform, &create, &with(&changed)).await.location.unwrap();
    let words = ["flask", "run", "--port", "$PORT"].map(str::to_owned).to_vec();
    assert_eq!(of_launcher(&platform, &made).await, (Some(words), "auto".to_owned()));

    // The form of a launcher that is there has it, too.
    ada.get(&platform, &format!("{launcher}/edit")).await.shows(&format!("{launcher}/plan"));
    ada.script().post(&platform, &format!("{launcher}/plan"), &with(&[])).await.shows("A Python app");
}

#[tokio::test]
async fn what_cannot_be_looked_at_says_why_and_only_to_those_who_may_change_the_project() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    let (project, _) = platform.with_launcher(&ada, "public").await;
    let look = format!("{project}/launchers/new/plan");
    let empty = ada.script().post(&platform, &look, &[("source", "code")]).await;
    empty.is(StatusCode::OK).hides("note");
    let form = [("source", "code"), ("repository", "https://ada:hunter2@example.org/x")];
    let refused = ada.script().post(&platform, &look, &form).await;
    refused.is(StatusCode::OK).shows("user name or password").hides("hunter2");
    let bob = platform.browser_of("bob").await;
    bob.post(&platform, &look, &form).await.is(StatusCode::FORBIDDEN);
    Browser::default().post(&platform, &look, &form).await.is(StatusCode::SEE_OTHER);
}
