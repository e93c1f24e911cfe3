//! The language that pages are read in: the account's, else the one that was chosen in this browser, else the one that the
//! browser asks for, else English.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use marmot_text::Language;

use super::forms::Typed;
use super::respond::{Failed, see_other};
use super::session::Visitor;
use super::{Web, next};

/// Where the choice of a browser is kept. No secret: it says what any page of this browser shows.
const COOKIE: &str = "marmot-language";
const A_YEAR: u32 = 365 * 24 * 3600;

/// The languages to choose from, for the footer of every page.
pub(super) fn all() -> [Language; 3] {
    Language::ALL
}

/// The language for a request with these headers, before it is known who sent it.
pub(super) fn of_browser(headers: &HeaderMap) -> Language {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let chosen = cookies
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(name, value)| (name == COOKIE).then(|| value.parse().ok()).flatten());
    let asked = || headers.get(header::ACCEPT_LANGUAGE)?.to_str().ok().and_then(Language::accepted);
    chosen.or_else(asked).unwrap_or_default()
}

/// Says with an answer which language it is in, and what that depended on, if it is a page.
pub(super) fn declare(response: &mut Response, language: Language) {
    let headers = response.headers_mut();
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.starts_with("text/html") || kind.starts_with("text/event-stream") {
        headers.insert(header::CONTENT_LANGUAGE, HeaderValue::from_static(language.tag()));
        headers.append(header::VARY, HeaderValue::from_static("Accept-Language, Cookie"));
    }
}

/// Takes the choice of somebody, signed in or not, and goes back to the page that it was made on. Without a language, it
/// is what the browser asks for again.
pub(super) async fn choose(
    State(web): State<Web>,
    visitor: Visitor,
    typed: Typed,
) -> Result<Response, Failed> {
    let language: Option<Language> = typed.get("language").parse().ok();
    if visitor.who.user().is_some() {
        web.service.set_language(&visitor.who, language).await?;
    }
    let mut response = see_other(&next::path_of_ours(typed.get("next")));
    let (value, seconds) = language.map_or(("", 0), |language| (language.tag(), A_YEAR));
    let secure = if web.service.options().public_url.starts_with("https://") { "; Secure" } else { "" };
    let cookie = format!("{COOKIE}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}");
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(fields: &[(header::HeaderName, &'static str)]) -> Language {
        let fields = fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
        of_browser(&fields.collect())
    }

    #[test]
    fn what_was_chosen_here_beats_what_the_browser_asks_for() {
        let asks = (header::ACCEPT_LANGUAGE, "de-CH, en;q=0.5");
        assert_eq!(chosen(&[]), Language::English);
        assert_eq!(chosen(std::slice::from_ref(&asks)), Language::German);
        assert_eq!(chosen(&[asks.clone(), (header::COOKIE, "a=b; marmot-language=fr")]), Language::French);
        assert_eq!(chosen(&[asks, (header::COOKIE, "marmot-language=tlh")]), Language::German);
    }
}
