//! The form of a new launcher: everything in one go, and what is wrong said while it is typed.

use super::*;

/// A form with which nothing is wrong, and then these fields.
fn form<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let recipe = [
        ("type", "app"),
        ("source", "code"),
        ("name", "Explorer"),
        ("repository", "https://github.com/ada/ice"),
        ("resource_class", "1"),
    ];
    recipe.into_iter().chain(more.iter().copied()).collect()
}

async fn project_of(platform: &Platform, ada: &Browser, visibility: &str) -> String {
    let form = [("name", "Ice cores"), ("visibility", visibility)];
    ada.post(platform, "/projects/new", &form).await.location.unwrap()
}

#[tokio::test]
async fn a_launcher_begins_with_who_may_open_it_how_it_scales_and_its_secrets() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    let project = project_of(&platform, &ada, "public").await;
    let page = ada.get(&platform, &format!("{project}/launchers/new")).await;
    page.shows("Who may open it").shows("How it scales").shows("name=\"secret_name\"").shows("Advanced");
    let typed = form(&[
        ("open_to", "named"),
        ("users", "bob"),
        ("preset", "dashboard"),
        ("idle_after", "90s"),
        ("secret_name", "API_TOKEN"),
        ("secret_value", "hunter2"),
        ("secret_name", ""),
        ("secret_value", ""),
    ]);
    let made = ada.post(&platform, &format!("{project}/launchers/new"), &typed).await;
    let at = made.is(StatusCode::SEE_OTHER).location.clone().unwrap();
    let launcher = format!("{project}/launchers/{}", at.split_once("#launcher-").unwrap().1);
    let own = ada.get(&platform, &launcher).await;
    own.shows("Those named below may open it").shows("value=\"bob\"").shows("API_TOKEN").hides("hunter2");
    let edit = ada.get(&platform, &format!("{launcher}/edit")).await;
    edit.shows("value=\"dashboard\" aria-label=\"Dashboard\" checked")
        .shows("name=\"idle_after\" value=\"90s\"");
    edit.hides("name=\"secret_name\"").hides("hunter2");
    let audit = ada.get(&platform, &format!("{project}/audit")).await;
    audit
        .shows("launcher.created")
        .shows("app.access")
        .shows("app.scaling")
        .shows("secret.set")
        .hides("hunter2");
}

#[tokio::test]
async fn what_is_refused_makes_nothing_and_loses_nothing_that_was_typed() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    let project = project_of(&platform, &ada, "private").await;
    let new = format!("{project}/launchers/new");
    let wrong = [
        (vec![("idle_after", "soon")], "id=\"idle_after-wrong\""),
        (vec![("max_replicas", "5000")], "id=\"max_replicas-wrong\""),
        (vec![("open_to", "everyone")], "id=\"open_to-wrong\""),
        (vec![("open_to", "named"), ("users", "nobody-here")], "id=\"open_to-wrong\""),
        (vec![("secret_name", "PORT"), ("secret_value", "x")], "id=\"secrets-wrong\""),
        (vec![("secret_name", "9LIVES"), ("secret_value", "x")], "id=\"secrets-wrong\""),
        (vec![("secret_name", ""), ("secret_value", "x")], "id=\"secrets-wrong\""),
        (vec![("port", "70000")], "id=\"port-wrong\""),
    ];
    for (fields, place) in wrong {
        let kept = [
            ("keep_warm", "Mon-Fri 08:00-18:00 Europe/Zurich"),
            ("groups", "the-lab"),
            ("description", "Kept"),
        ];
        let typed: Vec<_> = form(&fields).into_iter().chain(kept).collect();
        let refused = ada.post(&platform, &new, &typed).await;
        refused.is(StatusCode::UNPROCESSABLE_ENTITY).shows(place).shows("value=\"Explorer\"");
        refused
            .shows("value=\"the-lab\"")
            .shows("Mon-Fri 08:00-18:00 Europe/Zurich</textarea>")
            .shows("value=\"Kept\"");
        for (name, value) in fields.iter().filter(|(name, value)| *name != "open_to" && !value.is_empty()) {
            refused.shows(&format!("name=\"{name}\"")).shows(&format!("value=\"{value}\""));
        }
    }
    ada.get(&platform, &project).await.shows("No launchers yet");
}

#[tokio::test]
async fn a_field_is_looked_at_alone_while_it_is_typed() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    let project = project_of(&platform, &ada, "private").await;
    let check = format!("{project}/launchers/new/check");
    let ask = async |browser: &Browser, field: &str, fields: &[(&str, &str)]| {
        // Everything else is as nobody could have it: only the field that is asked for counts.
        let others = [("check", field), ("source", "code"), ("name", ""), ("port", "none"), ("users", "<b>")];
        let others = others
            .into_iter()
            .filter(|(name, _)| *name == "check" || !fields.iter().any(|(own, _)| own == name));
        let typed: Vec<_> = others.chain(fields.iter().copied()).collect();
        browser.script().post(&platform, &check, &typed).await
    };
    let wrong = [
        ("name", vec![("name", "")], "id=\"name-wrong\"", "Give it a name."),
        (
            "repository",
            vec![("repository", "ftp://example.org/x")],
            "id=\"repository-wrong\"",
            "ftp://example.org/x",
        ),
        ("revision", vec![("revision", "-x")], "id=\"revision-wrong\"", "no branch, tag or commit"),
        ("port", vec![("port", "70000")], "id=\"port-wrong\"", "from 1 to 65535"),
        ("command", vec![("command", "'open")], "id=\"command-wrong\"", "Wrong:"),
        (
            "variable_name",
            vec![("variable_name", "9"), ("variable_value", "")],
            "id=\"variables-wrong\"",
            "no digit first",
        ),
        (
            "secret_name",
            vec![("secret_name", "PORT"), ("secret_value", "x")],
            "id=\"secrets-wrong\"",
            "set by the platform",
        ),
        ("idle_after", vec![("idle_after", "soon")], "id=\"idle_after-wrong\"", "is no duration"),
        ("keep_warm", vec![("keep_warm", "weekdays")], "id=\"keep_warm-wrong\"", "weekdays"),
        ("open_to", vec![("open_to", "everyone")], "id=\"open_to-wrong\"", "public projects"),
        (
            "users",
            vec![("open_to", "named"), ("users", "nobody-here")],
            "id=\"open_to-wrong\"",
            "nobody-here",
        ),
    ];
    for (field, fields, place, said) in wrong {
        ask(&ada, field, &fields).await.is(StatusCode::OK).shows(place).shows(said).hides("<html");
    }
    let right = [
        ("name", vec![("name", "Explorer")]),
        ("repository", vec![("repository", "https://github.com/ada/ice")]),
        ("port", vec![("port", "8501")]),
        ("secret_name", vec![("secret_name", "TOKEN"), ("secret_value", "x")]),
        ("idle_after", vec![("idle_after", "90s")]),
        ("users", vec![("open_to", "named"), ("users", "bob")]),
        ("preset", vec![("preset", "endpoint")]),
    ];
    for (field, fields) in right {
        let answer = ask(&ada, field, &fields).await;
        assert_eq!(answer.is(StatusCode::OK).text.trim(), "", "{field}");
    }
    ask(&ada, "no-such-field", &[]).await.is(StatusCode::NOT_FOUND);
    let bob = platform.browser_of("bob").await;
    ask(&bob, "name", &[]).await.is(StatusCode::NOT_FOUND);
    ada.get(&platform, &project).await.shows("No launchers yet");
}
