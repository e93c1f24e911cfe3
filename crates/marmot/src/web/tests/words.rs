//! What is made in English elsewhere (events, why builds fail, refusals), as German and French readers get it; and that
//! each form that is refused says so beside the field at fault, with all that was typed.

use marmot_core::{Said, said};
use marmot_engine::observed::{FailureReason, Happening};

use super::*;
use crate::model::{AppEvent, BuildResult};
use crate::service::BuildEnd;

fn speaking(browser: &Browser, language: &'static str) -> Browser {
    Browser { asks: Some(language), ..browser.clone() }
}

#[tokio::test]
async fn what_happened_to_an_app_is_told_in_the_language_of_each_reader_and_as_it_was_said_before_that() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    let (_, launcher) = platform.with_launcher(&ada, "public").await;
    ada.post(&platform, &format!("{launcher}/activate"), &[]).await;
    let app = platform.service.picture().await.unwrap().apps[0].app.name.clone();
    let reason = FailureReason::NeverListened {
        expected: 20001,
        found: vec![8501],
        after: std::time::Duration::from_secs(60),
    };
    let old: Said = "was noted by an older server".into();
    let failed = Happening::Woke(std::time::Duration::from_millis(140)).said();
    for message in [old, failed, said!("event-held-back", "waits for memory: {why}", why = reason.said())] {
        let event = AppEvent { at: jiff::Timestamp::now(), kind: "k".to_owned(), message, by: None };
        platform.service.note_event(&app, event).await.unwrap();
    }
    let english = ada.get(&platform, &launcher).await;
    english.shows("Was switched on.").shows("Woke in 140 ms.").shows("it listens on 8501");
    let german = speaking(&ada, "de").get(&platform, &launcher).await;
    german
        .shows("Wurde eingeschaltet.")
        .shows("Ist in 140 ms aufgewacht.")
        .shows("Wartet auf Arbeitsspeicher: die App war nach 60 s nicht auf Port 20001 zu erreichen")
        .shows("Was noted by an older server.")
        .hides("Was switched on");
    let french = speaking(&ada, "fr").get(&platform, &launcher).await;
    french.shows("A été allumée.").shows("S’est réveillée en 140 ms.").hides("Was switched on");
}

#[tokio::test]
async fn why_a_build_failed_is_told_in_the_language_of_each_reader() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    let (project, launcher) = platform.with_launcher(&ada, "public").await;
    ada.post(&platform, &format!("{launcher}/activate"), &[]).await;
    let build = platform.service.picture().await.unwrap().builds[0].id;
    let result = BuildResult {
        failed_step: Some(said!("build-step-fetching", "Fetching the code")),
        reason: Some(said!(
            "fetch-unknown-host",
            "The host `{host}` is not known: check the address for a typing mistake.",
            host = "git.example.org"
        )),
        ..BuildResult::default()
    };
    assert!(platform.service.build_ended(build, BuildEnd::Failed(result)).await.unwrap());
    let path = format!("{project}/builds/{build}");
    for page in [&path, &launcher] {
        let shown = ada.get(&platform, page).await;
        shown.shows("The host “git.example.org” is not known");
        let shown = speaking(&ada, "de").get(&platform, page).await;
        shown.shows("der Host „git.example.org“ ist nicht bekannt").hides("is not known");
        let shown = speaking(&ada, "fr").get(&platform, page).await;
        shown.shows("l’hôte «\u{a0}git.example.org\u{a0}» est inconnu").hides("is not known");
    }
    let shown = speaking(&ada, "de").get(&platform, &path).await;
    shown.shows("Code wird geholt").hides("Fetching the code");
}

/// A form, what is typed into it, which of its fields is at fault, why in German and in French, and what must still be
/// there.
type Refused<'a> = (String, Vec<(&'a str, &'a str)>, &'a str, [&'a str; 2], Vec<&'a str>);

#[tokio::test]
async fn each_form_says_what_is_refused_beside_its_field_in_each_language_and_keeps_what_was_typed() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    let (project, launcher) = platform.with_launcher(&ada, "public").await;
    let long = "x".repeat(100);
    let forms: Vec<Refused<'_>> = vec![
        (
            "/projects/new".to_owned(),
            vec![
                ("name", "Kept"),
                ("slug", "No Slug"),
                ("description", "kept, too"),
                ("visibility", "public"),
            ],
            "slug",
            ["ist kein gültiger Name", "n’est pas un nom valable"],
            vec!["value=\"Kept\"", "value=\"No Slug\"", "kept, too"],
        ),
        (
            format!("{project}/launchers/new"),
            vec![
                ("source", "code"),
                ("name", "Kept"),
                ("repository", "ftp://x"),
                ("port", "8501"),
                ("resource_class", "1"),
            ],
            "repository",
            ["ist keine Adresse eines Repositorys", "n’est pas une adresse de dépôt"],
            vec!["value=\"Kept\"", "value=\"ftp://x\"", "value=\"8501\""],
        ),
        (
            format!("{launcher}/traffic"),
            vec![("body_limit", "large"), ("log_requests", "on")],
            "body_limit",
            ["ist keine Größe", "n’est pas une taille"],
            vec!["value=\"large\"", "name=\"log_requests\" value=\"on\" checked"],
        ),
        (
            format!("{launcher}/secrets"),
            vec![("name", "1BAD"), ("value", "hunter2"), ("form", "file")],
            "secret-name",
            ["ist kein Name einer Variablen", "n’est pas un nom de variable"],
            vec!["value=\"1BAD\"", "value=\"file\" selected"],
        ),
        (
            format!("{launcher}/previews"),
            vec![("branch", "dev"), ("days", "91")],
            "preview-days",
            ["darf 1 bis 90 Tage bleiben", "peut rester de 1 à 90 jours"],
            vec!["value=\"dev\"", "value=\"91\""],
        ),
        (
            format!("{launcher}/following"),
            vec![("every", "5000"), ("pull_requests", "on")],
            "follow-every",
            ["alle 1 bis 1440 Minuten", "toutes les 1 à 1440 minutes"],
            vec!["value=\"5000\"", "name=\"pull_requests\" value=\"on\" checked"],
        ),
        (
            format!("{launcher}/access"),
            vec![("open_to", "named"), ("users", "nobody-here"), ("groups", "")],
            "open_to",
            [
                "es gibt kein Benutzerkonto „nobody-here“",
                "il n’y a pas d’utilisateur «\u{a0}nobody-here\u{a0}»",
            ],
            vec!["value=\"nobody-here\""],
        ),
        (
            format!("{launcher}/keys"),
            vec![("name", "Lab"), ("lifetime", "7"), ("per_minute", "many"), ("at_once", "4")],
            "per_minute",
            ["„many“ ist keine Zahl von Anfragen", "«\u{a0}many\u{a0}» n’est pas un nombre de requêtes"],
            vec!["value=\"Lab\"", "value=\"many\"", "value=\"4\"", "value=\"7\" selected"],
        ),
        (
            format!("{project}/credentials"),
            vec![("kind", "registry"), ("host", "no host!"), ("username", "kept"), ("secret", "hunter2")],
            "host",
            ["ist kein Host", "n’est pas un hôte"],
            vec!["value=\"no host!\"", "value=\"kept\"", "checked"],
        ),
        (
            "/groups".to_owned(),
            vec![("name", "Kept"), ("path", "No Path"), ("description", "kept, too")],
            "path",
            ["ist kein gültiger Name", "n’est pas un nom valable"],
            vec!["value=\"Kept\"", "value=\"No Path\"", "kept, too"],
        ),
        (
            "/settings/tokens".to_owned(),
            vec![("name", &long), ("access", "read"), ("lifetime", "30"), ("project", "")],
            "name",
            ["der Name hat 100 Zeichen", "le nom a 100 caractères"],
            vec!["value=\"read\" selected", "value=\"30\" selected"],
        ),
    ];
    for (path, typed, at_fault, [german, french], kept) in &forms {
        for (language, why) in [("de", german), ("fr", french)] {
            let page = speaking(&ada, language).post(&platform, path, typed).await;
            page.is(StatusCode::UNPROCESSABLE_ENTITY).hides("hunter2");
            let beside = page.text.split_once(&format!("id=\"{at_fault}-wrong\""));
            let Some((_, beside)) = beside else {
                panic!("{path}: nothing beside {at_fault}: {}", page.text)
            };
            let beside = beside.split("</p>").next().unwrap().to_lowercase();
            assert!(beside.contains(&why.to_lowercase()), "{path} in {language}: {beside}");
            for text in kept {
                page.shows(text);
            }
        }
    }
}

#[tokio::test]
async fn the_parts_of_pages_are_shown_in_each_language() {
    let platform = Platform::new().await;
    for (language, says) in [("de", ["Gestaltung", "Knöpfe"]), ("fr", ["Typographie", "Boutons"])] {
        let page = Browser { asks: Some(language), ..Browser::default() }.get(&platform, "/design").await;
        page.is(StatusCode::OK).shows(says[0]).shows(says[1]).hides("Buttons").hides("could not");
    }
}
