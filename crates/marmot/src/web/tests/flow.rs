//! From a new project to an app that is on, shared, and off again.

use super::*;

#[tokio::test]
async fn a_project_a_launcher_an_app_and_its_share_link() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    let (project, launcher) = platform.with_launcher(&ada, "public").await;
    let page = ada.get(&platform, &project).await;
    page.shows("Explorer")
        .shows("<span class=\"count\">1</span>")
        .shows("Activate")
        .shows("github.com/ada/ice");
    let share = launcher.replace("/launchers/", "/apps/");
    Browser::default().get(&platform, &share).await.is(StatusCode::NOT_FOUND).shows("Explorer is off");

    let card = ada.script().post(&platform, &format!("{launcher}/activate"), &[]).await;
    card.is(StatusCode::OK).shows("On for everyone").shows("Building").shows("Shut down").hides("<html");
    // Twice is once.
    ada.post(&platform, &format!("{launcher}/activate"), &[]).await.is(StatusCode::SEE_OTHER);
    let answer = Browser::default().get(&platform, &share).await;
    assert_eq!(answer.is(StatusCode::FOUND).location.as_deref(), Some("http://explorer.localhost:8080/"));
    // Strangers see that it is on, and nothing to switch.
    let seen = Browser::default().get(&platform, &project).await;
    seen.shows("On for everyone").hides("Shut down").hides("New launcher").hides("Logs");

    let _visitors: Vec<_> =
        (0..4).map(|_| platform.service.demands().of(&"explorer".parse().unwrap()).session()).collect();
    let ask = ada.script().get(&platform, &format!("{launcher}/shut-down")).await;
    ask.shows("4 people are using this app now. Shutting it down disconnects them").hides("<html");
    ada.get(&platform, &format!("{launcher}/shut-down")).await.shows("Yes, switch it off").shows("<html");
    ada.post(&platform, &format!("{launcher}/shut-down"), &[]).await.is(StatusCode::SEE_OTHER);
    Browser::default().get(&platform, &share).await.shows("is off");
    ada.get(&platform, &project).await.shows("Activate").hides("On for everyone");
}

#[tokio::test]
async fn without_a_container_engine_the_form_says_so_and_an_image_is_refused_in_words() {
    let platform = Platform::with(HOME, |options| options.containers = false).await;
    let ada = platform.browser_of("ada").await;
    let (project, _) = platform.with_launcher(&ada, "public").await;
    let new = format!("{project}/launchers/new");
    ada.get(&platform, &new).await.shows("This installation has no container engine to run it");
    let form = [("source", "image"), ("name", "Model"), ("image", "ghcr.io/o/a:1"), ("resource_class", "1")];
    let refused = ada.post(&platform, &new, &form).await;
    refused
        .is(StatusCode::UNPROCESSABLE_ENTITY)
        .shows("this installation has no container engine")
        .shows("Model");
}

#[tokio::test]
async fn code_runs_as_programs_or_as_an_image_and_the_form_keeps_what_was_chosen() {
    let offered = |options: &mut crate::service::Options| {
        (options.containers, options.makes_images, options.buildpacks) = (true, true, true);
    };
    let platform = Platform::with(HOME, offered).await;
    let ada = platform.browser_of("ada").await;
    let (project, _) = platform.with_launcher(&ada, "public").await;
    let new = format!("{project}/launchers/new");
    let page = ada.get(&platform, &new).await;
    page.shows("Runs as").shows("Programs of this server").shows("A container image made of it");
    page.shows("An image, by buildpacks").hides("<option value=\"true\" selected>");
    let made = |name: &'static str, builder: &'static str, as_image: &'static str| {
        [
            ("source", "code"),
            ("name", name),
            ("repository", "https://github.com/ada/ice"),
            ("builder", builder),
            ("as_image", as_image),
            ("resource_class", "1"),
        ]
    };
    for (name, as_image, chosen) in [("As it is", "", false), ("Packed up", "true", true)] {
        ada.post(&platform, &new, &made(name, "auto", as_image)).await.is(StatusCode::SEE_OTHER);
        let page = ada.get(&platform, &project).await;
        let at = page.text.find(name).expect("shown");
        let edit = page.text[at..].split('"').find(|part| part.ends_with("/edit")).expect("a way to edit it");
        let page = ada.get(&platform, edit).await;
        let selected = "<option value=\"true\" selected>A container image";
        let _ = if chosen { page.shows(selected) } else { page.hides(selected) };
    }
    // What is an image already, is not put into another one.
    let refused = ada.post(&platform, &new, &made("Packs", "buildpacks", "true")).await;
    refused.is(StatusCode::UNPROCESSABLE_ENTITY).shows("is an image already");

    // Where none of it is offered, none of it is asked.
    let platform = Platform::with(HOME, |options| options.containers = true).await;
    let ada = platform.browser_of("ada").await;
    let (project, _) = platform.with_launcher(&ada, "public").await;
    let new = format!("{project}/launchers/new");
    ada.get(&platform, &new).await.hides("Runs as").hides("by buildpacks");
    let refused = ada.post(&platform, &new, &made("Image", "auto", "true")).await;
    refused.is(StatusCode::UNPROCESSABLE_ENTITY).shows("images are made of code here");
    let refused = ada.post(&platform, &new, &made("Packs", "buildpacks", "")).await;
    refused.is(StatusCode::UNPROCESSABLE_ENTITY).shows("is built with buildpacks here");
}

#[tokio::test]
async fn an_external_environment_is_asked_for_checked_and_pulled() {
    let platform = Platform::with(HOME, |options| options.containers = true).await;
    let ada = platform.browser_of("ada").await;
    let (project, _) = platform.with_launcher(&ada, "public").await;
    let new = format!("{project}/launchers/new");
    ada.get(&platform, &new).await.shows("A container image that was made elsewhere").shows("name=\"user\"");
    let form = |image: &'static str, port: &'static str, user: &'static str, arguments: &'static str| {
        [
            ("source", "image"),
            ("name", "Model"),
            ("image", image),
            ("port", port),
            ("user", user),
            ("arguments", arguments),
            ("resource_class", "1"),
        ]
    };
    for (wrong, field) in [
        (form("", "", "", ""), "image"),
        (form("https://ghcr.io/o/a", "", "", ""), "image"),
        (form("ghcr.io/o/a:1", "eighty", "", ""), "port"),
        (form("ghcr.io/o/a:1", "", "root", ""), "user"),
        (form("ghcr.io/o/a:1", "", "0", ""), "user"),
        (form("ghcr.io/o/a:1", "", "", "it's"), "arguments"),
    ] {
        let refused = ada.post(&platform, &new, &wrong).await;
        refused.is(StatusCode::UNPROCESSABLE_ENTITY).shows(&format!("id=\"{field}-wrong\"")).shows("Model");
    }
    let right = form("ghcr.io/o/a:1", "", "1000:100", "--workers 2");
    ada.post(&platform, &new, &right).await.is(StatusCode::SEE_OTHER);
    let page = ada.get(&platform, &project).await;
    page.shows("image ghcr.io/o/a:1").shows("Pull again");
    let at = page.text.find("image ghcr.io/o/a:1").expect("shown");
    let edit = page.text[at..].split('"').find(|part| part.ends_with("/edit")).expect("a way to edit it");
    let edit = ada.get(&platform, edit).await;
    edit.shows("value=\"1000:100\"").shows("value=\"--workers 2\"");
}

#[tokio::test]
async fn what_is_wrong_stands_beside_its_field_and_nothing_typed_is_lost() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    let form = [
        ("name", "Ice"),
        ("description", "kept text"),
        ("repositories", "ftp://bad"),
        ("visibility", "public"),
    ];
    let refused = ada.post(&platform, "/projects/new", &form).await;
    refused
        .is(StatusCode::UNPROCESSABLE_ENTITY)
        .shows("id=\"repositories-wrong\"")
        .shows("kept text")
        .shows("ftp://bad");

    let (project, _) = platform.with_launcher(&ada, "private").await;
    let form = [
        ("source", "code"),
        ("name", "Kept name"),
        ("repository", "https://github.com/ada/ice"),
        ("port", "eighty"),
        ("command", "run 'x"),
        ("variable_name", "KEPT_VARIABLE"),
        ("variable_value", "kept value"),
    ];
    let refused = ada.post(&platform, &format!("{project}/launchers/new"), &form).await;
    refused.is(StatusCode::UNPROCESSABLE_ENTITY).shows("id=\"port-wrong\"").shows("id=\"command-wrong\"");
    refused.shows("Kept name").shows("KEPT_VARIABLE").shows("kept value").shows("run &#39;x");

    let form = [
        ("source", "code"),
        ("name", "X"),
        ("repository", "https://github.com/ada/ice"),
        ("directory", "../.."),
        ("resource_class", "1"),
    ];
    let refused = ada.post(&platform, &format!("{project}/launchers/new"), &form).await;
    refused.is(StatusCode::UNPROCESSABLE_ENTITY).shows("id=\"directory-wrong\"");
}

#[tokio::test]
async fn a_launcher_is_edited_and_deleted_with_its_app() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    let (project, launcher) = platform.with_launcher(&ada, "private").await;
    let form = [
        ("source", "code"),
        ("name", "Renamed"),
        ("repository", "https://github.com/ada/ice"),
        ("revision", "main"),
        ("command", "streamlit run 'my app.py'"),
        ("port", "8501"),
        ("resource_class", "2"),
        ("variable_name", "DEPTH"),
        ("variable_value", "3"),
        ("variable_name", ""),
        ("variable_value", ""),
    ];
    ada.post(&platform, &format!("{launcher}/edit"), &form).await.is(StatusCode::SEE_OTHER);
    let page = ada.get(&platform, &format!("{launcher}/edit")).await;
    page.shows("Renamed")
        .shows("streamlit run &#39;my app.py&#39;")
        .shows("value=\"8501\"")
        .shows("value=\"DEPTH\"");
    ada.get(&platform, &format!("{launcher}/delete")).await.shows("Delete “Renamed”?");
    ada.post(&platform, &format!("{launcher}/delete"), &[]).await.is(StatusCode::SEE_OTHER);
    ada.get(&platform, &project).await.shows("No launchers yet");
    ada.get(&platform, &format!("{launcher}/edit")).await.is(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_private_project_is_nobody_elses_to_see_or_change() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    let (project, launcher) = platform.with_launcher(&ada, "private").await;
    let bob = platform.browser_of("bob").await;
    for path in ["", "/settings", "/delete", "/launchers/new", "/events"] {
        bob.get(&platform, &format!("{project}{path}")).await.is(StatusCode::NOT_FOUND);
    }
    for path in ["", "/events", "/edit", "/logs", "/logs/events", "/shut-down", "/delete"] {
        bob.get(&platform, &format!("{launcher}{path}")).await.is(StatusCode::NOT_FOUND);
    }
    for path in ["/edit", "/activate", "/shut-down", "/wake", "/rest", "/build", "/delete"] {
        bob.post(&platform, &format!("{launcher}{path}"), &[("name", "x")]).await.is(StatusCode::NOT_FOUND);
    }
    ada.get(&platform, &project).await.shows("Explorer");
}

#[tokio::test]
async fn a_public_project_is_seen_by_all_and_changed_by_its_members() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    let (project, launcher) = platform.with_launcher(&ada, "public").await;
    let bob = platform.browser_of("bob").await;
    bob.get(&platform, &project).await.is(StatusCode::OK);
    for path in ["/edit", "/activate", "/wake", "/rest", "/build", "/delete"] {
        bob.post(&platform, &format!("{launcher}{path}"), &[("name", "x")]).await.is(StatusCode::FORBIDDEN);
        let sent = Browser::default().post(&platform, &format!("{launcher}{path}"), &[("name", "x")]).await;
        assert!(sent.location.is_some_and(|to| to.starts_with("/sign-in")));
    }
    bob.get(&platform, &format!("{launcher}/logs")).await.is(StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn the_page_of_an_app_shows_what_it_runs_and_what_happened_and_rolls_back() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    let (_, launcher) = platform.with_launcher(&ada, "public").await;
    let page = ada.get(&platform, &launcher).await;
    page.is(StatusCode::OK).shows("None: the app is off.").shows("None yet").shows("Nothing yet.");
    ada.post(&platform, &format!("{launcher}/activate"), &[]).await.is(StatusCode::SEE_OTHER);
    platform.build_succeeds("aaaaaaaaaabbbbb").await;
    ada.post(&platform, &format!("{launcher}/build"), &[]).await.is(StatusCode::SEE_OTHER);
    platform.build_succeeds("ccccccccccddddd").await;

    let page = ada.get(&platform, &launcher).await;
    page.shows("commit aaaaaaaaaa").shows("commit cccccccccc").shows("Was switched on.").shows("by ada");
    page.shows("None yet.").shows("curl &#39;http://explorer.localhost:8080");
    let (before, after) = page.text.split_once("/roll-back").expect("a way back");
    assert!(!after.contains("aria-label=\"Roll back to revision 2"), "the current one needs no way back");
    let path = format!("{}/roll-back", &before[before.rfind('"').unwrap() + 1..]);
    ada.script().get(&platform, &path).await.shows("Run revision 1 of “Explorer”?").hides("<html");

    // Strangers see what runs, not what happened, and nothing to press.
    let stranger = Browser::default().get(&platform, &launcher).await;
    stranger.is(StatusCode::OK).shows("commit aaaaaaaaaa").hides("Was switched on.").hides("roll-back");
    let bob = platform.browser_of("bob").await;
    bob.post(&platform, &path, &[]).await.is(StatusCode::FORBIDDEN);

    ada.post(&platform, &path, &[]).await.is(StatusCode::SEE_OTHER);
    let page = ada.get(&platform, &launcher).await;
    page.shows("Was set to revision 1.").shows("aria-label=\"Roll back to revision 2\"");
    ada.post(&platform, &format!("{launcher}/rest"), &[]).await.is(StatusCode::SEE_OTHER);
    for nowhere in ["x", "01ARZ3NDEKTSV4RRFFQ69G5FAV"] {
        let path = format!("{launcher}/revisions/{nowhere}/roll-back");
        ada.post(&platform, &path, &[]).await.is(StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn a_build_is_looked_at_and_cancelled() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    let (project, launcher) = platform.with_launcher(&ada, "private").await;
    ada.post(&platform, &format!("{launcher}/build"), &[]).await.is(StatusCode::SEE_OTHER);
    let refused = ada.script().post(&platform, &format!("{launcher}/build"), &[]).await;
    refused.is(StatusCode::CONFLICT).shows("is under way: wait for it to end");
    let page = ada.get(&platform, &project).await;
    let (_, rest) = page.text.split_once(&format!("{project}/builds/")).unwrap();
    let build = format!("{project}/builds/{}", rest.split('"').next().unwrap());
    ada.get(&platform, &build).await.is(StatusCode::OK).shows("Cancel the build");
    ada.post(&platform, &format!("{build}/cancel"), &[]).await.is(StatusCode::SEE_OTHER);
    ada.get(&platform, &build).await.shows("Cancelled").hides("Cancel the build");
}
