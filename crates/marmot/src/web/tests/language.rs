//! The pages in German and French: which language somebody gets, and that all of a page is in it.

use marmot_text::Language;

use super::*;

fn asking(languages: &'static str) -> Browser {
    Browser { asks: Some(languages), ..Browser::default() }
}

/// Chooses a language at the foot of a page, and keeps the choice as a browser would.
async fn choose(platform: &Platform, browser: &mut Browser, language: &str) -> Answer {
    let form = [("language", language), ("next", "/groups?page=1")];
    let answer = browser.post(platform, "/language", &form).await;
    let set = answer.headers.get(header::SET_COOKIE).unwrap().to_str().unwrap();
    let pair = set.split(';').next().unwrap();
    browser.cookie = Some(match &browser.cookie {
        Some(others) => format!("{others}; {pair}"),
        None => pair.to_owned(),
    });
    answer
}

#[tokio::test]
async fn a_stranger_gets_what_the_browser_asks_for_until_they_choose() {
    let platform = Platform::new().await;
    Browser::default().get(&platform, "/").await.shows("<html lang=\"en\">").shows("Start here");
    asking("it, rm;q=0.5").get(&platform, "/").await.shows("<html lang=\"en\">");
    let mut browser = asking("de-CH, fr;q=0.9, en;q=0.8");
    let page = browser.get(&platform, "/").await;
    page.shows("<html lang=\"de\">").shows("Hier beginnen").hides("Start here");
    assert_eq!(page.headers[header::CONTENT_LANGUAGE], "de");
    assert_eq!(page.headers[header::VARY], "Accept-Language, Cookie");
    // The chooser names each language in itself, and works without a script.
    page.shows("action=\"/language\"")
        .shows("lang=\"fr\">Français</button>")
        .shows("lang=\"de\" aria-current");

    let chosen = choose(&platform, &mut browser, "fr").await;
    assert_eq!(chosen.is(StatusCode::SEE_OTHER).location.as_deref(), Some("/groups?page=1"));
    browser.get(&platform, "/").await.shows("<html lang=\"fr\">").shows("Commencer ici");
    // What is no language, and what leads elsewhere, does neither harm nor good.
    let form = [("language", "tlh"), ("next", "https://evil.example/")];
    let answer = browser.post(&platform, "/language", &form).await;
    assert_eq!(answer.is(StatusCode::SEE_OTHER).location.as_deref(), Some("/"));
    assert!(answer.headers[header::SET_COOKIE].to_str().unwrap().contains("Max-Age=0"));
}

#[tokio::test]
async fn what_somebody_chose_for_the_account_holds_in_every_browser() {
    let platform = Platform::new().await;
    let mut ada = platform.browser_of("ada").await;
    choose(&platform, &mut ada, "de").await;
    let mut elsewhere = platform.browser_of("ada").await;
    elsewhere.asks = Some("fr");
    elsewhere.get(&platform, "/").await.shows("<html lang=\"de\">").shows("Meine Projekte");
    let settings = elsewhere.get(&platform, "/settings").await;
    settings.shows("<option value=\"de\" lang=\"de\" selected>Deutsch</option>");
    // A page that says why something was refused knows it, too.
    let lost = elsewhere.get(&platform, "/p/ada/nothing").await;
    lost.is(StatusCode::NOT_FOUND).shows("Hier ist nichts").shows("<html lang=\"de\">");
    choose(&platform, &mut elsewhere, "").await;
    elsewhere.get(&platform, "/").await.shows("Mes projets");
}

#[tokio::test]
async fn an_error_of_the_service_is_told_by_its_kind() {
    let platform = Platform::new().await;
    let (german, french) = (asking("de"), asking("fr"));
    let form = [("username", "ada"), ("password", "wrong"), ("next", "/")];
    let page = german.post(&platform, "/sign-in", &form).await;
    page.is(StatusCode::UNAUTHORIZED).shows("Benutzername oder Passwort ist falsch.").hides("Username");
    let page = french.post(&platform, "/sign-in", &form).await;
    page.is(StatusCode::UNAUTHORIZED).shows("Le nom d’utilisateur ou le mot de passe est incorrect.");
    french.get(&platform, "/p/ada/nothing").await.shows("Rien ici").shows("ou vous ne pouvez pas le voir");
    german.get(&platform, "/no/such").await.shows("Diese Seite gibt es nicht.");
}

/// English words that no page in another language holds where it is read.
const ENGLISH: [&str; 14] = [
    ">Sign",
    "Launchers<",
    "launchers<",
    ">Open<",
    ">Edit<",
    ">Save",
    "Create",
    "Delete",
    "Usage",
    "Search",
    "Nobody",
    "Activate",
    ">Logs",
    "ago<",
];

#[tokio::test]
async fn the_way_from_a_project_to_an_app_is_in_one_language() {
    for (language, says) in [
        (
            Language::German,
            [
                "Neuer Launcher",
                "Einschalten",
                "Für alle eingeschaltet",
                "Ausschalten",
                "Nutzung",
                "Gefahrenzone",
            ],
        ),
        (
            Language::French,
            ["Nouveau lanceur", "Activer", "Allumée pour tous", "Éteindre", "Utilisation", "Zone de danger"],
        ),
    ] {
        let platform = Platform::new().await;
        let mut ada = platform.browser_of("ada").await;
        ada.asks = Some(language.tag());
        let (project, launcher) = platform.with_launcher(&ada, "public").await;
        let [new, activate, on, shut_down, usage, danger] = says;
        ada.get(&platform, &project).await.shows(new).shows(activate);
        ada.get(&platform, &format!("{project}/launchers/new")).await.shows(new);
        ada.script().post(&platform, &format!("{launcher}/activate"), &[]).await.shows(on).shows(shut_down);
        ada.get(&platform, &format!("{launcher}/usage")).await.shows(usage);
        ada.get(&platform, &format!("{launcher}/edit")).await.shows(danger);
        for path in [
            "/".to_owned(),
            "/projects/new".to_owned(),
            "/settings".to_owned(),
            "/groups".to_owned(),
            project.clone(),
            format!("{project}/settings"),
            format!("{project}/credentials"),
            format!("{project}/launchers/new"),
            launcher.clone(),
            format!("{launcher}/edit"),
            format!("{launcher}/usage"),
            format!("{launcher}/logs"),
            format!("{launcher}/share"),
            format!("{launcher}/shut-down"),
            format!("{launcher}/delete"),
        ] {
            let page = ada.get(&platform, &path).await;
            page.is(StatusCode::OK).shows(&format!("<html lang=\"{}\">", language.tag()));
            for english in ENGLISH {
                assert!(
                    !page.text.contains(english),
                    "{path} in {language:?} says {english:?}: {}",
                    page.text
                );
            }
        }
    }
}

#[tokio::test]
async fn each_who_looks_is_told_of_changes_in_their_own_language() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    let (project, launcher) = platform.with_launcher(&ada, "public").await;
    let mut german = live::open(&platform, &asking("de"), &format!("{project}/events")).await;
    let mut french = live::open(&platform, &asking("fr"), &format!("{project}/events")).await;
    live::until(&mut german, "id=\"launchers\"").await;
    live::until(&mut french, "id=\"launchers\"").await;
    ada.post(&platform, &format!("{launcher}/activate"), &[]).await;
    live::until(&mut german, "Explorer: Wird gebaut").await;
    live::until(&mut french, "Explorer: En construction").await;
}
