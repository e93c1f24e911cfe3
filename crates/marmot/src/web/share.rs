//! The share menu: the link, as a QR code, as text for an e-mail, as code to embed. A page of its own without a script.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use marmot_text::filters;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use qrcode::{Color, EcLevel, QrCode};

use super::Web;
use super::detail::own_path;
use super::launchers::{LauncherPath, find_launcher};
use super::respond::{Failed, Html, escaped};
use super::session::Visitor;
use super::view::Frame;

/// Light modules around a code, so that cameras find it.
const QUIET: usize = 4;

#[derive(Debug, Template)]
#[template(path = "share_page.html")]
struct SharePage {
    frame: Frame,
    back: String,
    share: Share,
}

/// What the menu holds.
#[derive(Debug, Template)]
#[template(path = "share.html")]
pub(super) struct Share {
    name: String,
    link: String,
    /// The code as one path in a square of so many modules.
    code: Option<(usize, String)>,
    subject: String,
    text: String,
    /// Opens a letter with both.
    mailto: String,
    embed: String,
    for_everyone: bool,
    back: String,
}

pub(super) async fn show(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): LauncherPath,
) -> Result<Response, Failed> {
    let view = find_launcher(&web, &visitor.who, &path).await?;
    let for_everyone = web.service.is_for_everyone(&view).await?;
    let name = view.launcher.name.clone();
    let link = view.share_url.clone();
    let text = match &view.launcher.description {
        Some(description) => format!("{name}: {description}\n\n{link}"),
        None => format!("{name}\n\n{link}"),
    };
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let share = Share {
        mailto: format!("mailto:?subject={}&body={}", encoded(&name), encoded(&text.replace('\n', "\r\n"))),
        code: modules(&link),
        embed: format!(
            "<iframe src=\"{}\" title=\"{}\" width=\"100%\" height=\"640\" loading=\"lazy\"></iframe>",
            escaped(&view.url),
            escaped(&name)
        ),
        subject: name.clone(),
        back: own_path(&view),
        name,
        link,
        text,
        for_everyone,
    };
    if visitor.for_part {
        return Ok(Html(share).into_response());
    }
    Ok(Html(SharePage { frame: visitor.frame(), back: own_path(&view), share }).into_response())
}

/// The menu of an app that there is not.
pub(super) fn sample() -> Share {
    let link = "https://marmot.example.org/p/ada/ice-cores/apps/01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned();
    Share {
        name: "Ice-core explorer".to_owned(),
        code: modules(&link),
        subject: "Ice-core explorer".to_owned(),
        text: format!("Ice-core explorer: four minutes of an ice core\n\n{link}"),
        mailto: "mailto:?subject=Ice-core%20explorer".to_owned(),
        embed: "<iframe src=\"https://ice-core-explorer.example.net/\" title=\"Ice-core explorer\"></iframe>"
            .to_owned(),
        for_everyone: true,
        back: "/design".to_owned(),
        link,
    }
}

/// A QR code: how many modules its square has on a side, and the dark ones as one path. None for what is too long.
fn modules(text: &str) -> Option<(usize, String)> {
    let code = QrCode::with_error_correction_level(text, EcLevel::M).ok()?;
    let width = code.width();
    let mut path = String::new();
    for (row, line) in code.to_colors().chunks(width).enumerate() {
        let mut column = 0;
        while column < width {
            let run = line[column..].iter().take_while(|module| **module == Color::Dark).count();
            if run > 0 {
                path.push_str(&format!("M{} {}h{run}v1h-{run}z", column + QUIET, row + QUIET));
            }
            column += run.max(1);
        }
    }
    Some((width + 2 * QUIET, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_a_path_with_light_around_it() {
        let (side, path) =
            modules("http://localhost:8080/p/ada/ice/apps/01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap();
        assert!(side > 21 + 8 && path.starts_with("M4 4h7v1h-7z"), "{side} {path}");
        assert!(path.bytes().all(|byte| b"Mhvz- 0123456789".contains(&byte)));
        assert_eq!(modules(&"x".repeat(5000)), None);
    }
}
