//! What the gateway itself says: problem documents for programs, pages for people.

use askama::Template;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use marmot_text::{Language, Message, filters, speaking_now, spoken};
use serde::Serialize;

use crate::body::AnswerBody;

/// What the gateway's pages may do: load its own style and script, talk to its own event stream. Nothing else.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
     img-src 'self'; base-uri 'none'; form-action 'none'";

/// Who reads the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// A person, who opened an address in a browser, and the language that the browser asks for.
    Person(Language),
    /// Anything else.
    Program,
}

/// Tells whether a person waits for a page, or a program for data.
pub(crate) fn reader(method: &Method, headers: &HeaderMap) -> Reader {
    let is_page = match headers.get("sec-fetch-mode") {
        Some(mode) => mode == "navigate",
        None => prefers_html(headers),
    };
    if is_page && matches!(*method, Method::GET | Method::HEAD) {
        Reader::Person(language(headers))
    } else {
        Reader::Program
    }
}

/// The language that a browser asks for.
pub(crate) fn language(headers: &HeaderMap) -> Language {
    let wanted = headers.get(header::ACCEPT_LANGUAGE).and_then(|wanted| wanted.to_str().ok());
    wanted.and_then(Language::accepted).unwrap_or_default()
}

impl Reader {
    pub(crate) fn is_person(self) -> bool {
        matches!(self, Self::Person(_))
    }
}

/// HTML is asked for by name, and nothing that programs read is liked as much.
fn prefers_html(headers: &HeaderMap) -> bool {
    let (mut html, mut other) = (0.0_f32, 0.0_f32);
    for list in headers.get_all(header::ACCEPT) {
        for member in list.to_str().unwrap_or_default().split(',') {
            let mut parts = member.split(';').map(str::trim);
            let media_type = parts.next().unwrap_or_default();
            let quality =
                parts.find_map(|parameter| parameter.strip_prefix("q=")?.parse::<f32>().ok()).unwrap_or(1.0);
            match media_type {
                "text/html" | "application/xhtml+xml" => html = html.max(quality),
                "application/json" | "text/event-stream" | "application/problem+json" => {
                    other = other.max(quality)
                }
                _ => {}
            }
        }
    }
    html > 0.0 && html >= other
}

/// Something that stands in the way of an answer (RFC 9457).
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) title: Words,
    pub(crate) detail: Words,
    /// Seconds after which another try makes sense.
    pub(crate) retry_after: Option<u64>,
    /// Where to go from here, for people: the address, and what it is called.
    pub(crate) way: Option<(String, Message)>,
}

/// What is said of a problem: to people in their language, to programs in English.
#[derive(Debug, Clone)]
pub(crate) enum Words {
    Message(Message),
    /// Said by what knows English alone.
    Plain(String),
}

impl Words {
    fn said(&self) -> String {
        match self {
            Self::Message(message) => message.said(),
            Self::Plain(text) => text.clone(),
        }
    }
}

impl From<Message> for Words {
    fn from(message: Message) -> Self {
        Self::Message(message)
    }
}

/// The message of this name.
impl From<&'static str> for Words {
    fn from(id: &'static str) -> Self {
        Self::Message(Message::new(id))
    }
}

#[derive(Serialize)]
struct ProblemDocument<'a> {
    r#type: &'static str,
    title: &'a str,
    status: u16,
    detail: &'a str,
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage<'a> {
    title: &'a str,
    detail: &'a str,
    status: u16,
    way: Option<(&'a str, String)>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, title: impl Into<Words>, detail: impl Into<Words>) -> Self {
        Self { status, title: title.into(), detail: detail.into(), retry_after: None, way: None }
    }

    /// `label`: the message that says where it leads.
    pub(crate) fn way(self, to: String, label: &'static str) -> Self {
        Self { way: Some((to, Message::new(label))), ..self }
    }

    pub(crate) fn retry_after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    pub(crate) fn answer(&self, reader: Reader) -> Response<AnswerBody> {
        let status = self.status.as_u16();
        let mut response = match reader {
            Reader::Person(language) => speaking_now(language, || {
                let (title, detail) = (&*self.title.said(), &*self.detail.said());
                let way = self.way.as_ref().map(|(to, label)| (to.as_str(), label.said()));
                page(self.status, &ProblemPage { title, detail, status, way })
            }),
            Reader::Program => {
                let document = ProblemDocument {
                    r#type: "about:blank",
                    title: &self.title.said(),
                    status,
                    detail: &self.detail.said(),
                };
                let text = serde_json::to_vec(&document).unwrap_or_default();
                let mut response = plain(self.status, "application/problem+json", text);
                response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
                response
            }
        };
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// An answer with this content.
pub(crate) fn plain(
    status: StatusCode,
    media_type: &'static str,
    content: impl Into<bytes::Bytes>,
) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::from(content));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A page of the gateway's own, in the language that is spoken.
pub(crate) fn page(status: StatusCode, template: &impl Template) -> Response<AnswerBody> {
    let text = template.render().unwrap_or_else(|error| {
        tracing::error!(%error, "a page of the gateway cannot be rendered");
        String::new()
    });
    let mut response = plain(status, "text/html; charset=utf-8", text);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::CONTENT_LANGUAGE, HeaderValue::from_static(spoken().tag()));
    headers.insert(header::VARY, HeaderValue::from_static("Accept, Accept-Language, Sec-Fetch-Mode"));
    response
}

/// What an authority is told that looks whether a host is ours.
pub(crate) fn proof(proof: String) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::Own(Some(proof.into())));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Sends a browser elsewhere.
pub(crate) fn redirect(to: &str) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::empty());
    *response.status_mut() = StatusCode::FOUND;
    let headers = response.headers_mut();
    match HeaderValue::from_str(to) {
        Ok(to) => headers.insert(header::LOCATION, to),
        Err(_) => headers.insert(header::LOCATION, HeaderValue::from_static("/")),
    };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(method: Method, fields: &[(&'static str, &'static str)]) -> Reader {
        let headers = fields
            .iter()
            .map(|(name, value)| (header::HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        reader(&method, &headers)
    }

    #[test]
    fn people_navigate_and_programs_do_not() {
        let chromium = "text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8";
        assert_eq!(reads(Method::GET, &[("sec-fetch-mode", "navigate")]), Reader::Person(Language::English));
        assert_eq!(reads(Method::GET, &[("accept", chromium)]), Reader::Person(Language::English));
        for fields in [
            &[][..],
            &[("accept", "*/*")],
            &[("accept", "application/json")],
            &[("accept", "application/json, text/html;q=0.5")],
            &[("accept", "text/html;q=0")],
            &[("sec-fetch-mode", "cors"), ("accept", "text/html")],
            &[("sec-fetch-mode", "websocket")],
        ] {
            assert_eq!(reads(Method::GET, fields), Reader::Program, "{fields:?}");
        }
        assert_eq!(reads(Method::POST, &[("sec-fetch-mode", "navigate")]), Reader::Program);
    }
}
