//! The session cookie: what it is called, how it is read and written. The same for the API and the pages.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};

use crate::model::Secret;

/// How sessions travel. Made from the platform's own address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionCookie {
    secure: bool,
    /// What it carries is a sign-in under way, not a session.
    attempt: bool,
}

impl SessionCookie {
    /// For a platform at this address. With https, the cookie is one that no other host can set or read.
    pub fn at(public_url: &str) -> Self {
        Self { secure: public_url.starts_with("https://"), attempt: false }
    }

    /// For a sign-in under way with an identity provider, on a platform at this address: a cookie of its own.
    pub fn for_attempts_at(public_url: &str) -> Self {
        Self { attempt: true, ..Self::at(public_url) }
    }

    /// The cookie's name.
    pub fn name(self) -> &'static str {
        // Browsers take `__Host-` only with `Secure`, from this very host, for all its paths: an app on a sub-domain
        // cannot put one there.
        match (self.secure, self.attempt) {
            (true, false) => "__Host-marmot",
            (false, false) => "marmot",
            (true, true) => "__Host-marmot-sign-in",
            (false, true) => "marmot-sign-in",
        }
    }

    /// The session that a request carries. None when two cookies have the name: one of them was put there by
    /// somebody else, and nothing tells which.
    pub fn read(self, headers: &HeaderMap) -> Option<Secret> {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut found = cookies
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .filter_map(|(name, value)| (name == self.name()).then_some(value));
        match (found.next(), found.next()) {
            (Some(session), None) if !session.is_empty() => Some(Secret::new(session)),
            _ => None,
        }
    }

    /// The `Set-Cookie` header that starts a session.
    pub fn set(self, session: &Secret, lives: Duration) -> Option<HeaderValue> {
        self.header(session.reveal(), lives.as_secs())
    }

    /// The `Set-Cookie` header that ends it.
    pub fn clear(self) -> Option<HeaderValue> {
        self.header("", 0)
    }

    fn header(self, value: &str, seconds: u64) -> Option<HeaderValue> {
        let secure = if self.secure { "; Secure" } else { "" };
        let name = self.name();
        let text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}");
        let mut header = HeaderValue::try_from(text).ok()?;
        header.set_sensitive(true);
        Some(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(public_url: &str, cookies: &[&'static str]) -> Option<String> {
        let headers = cookies.iter().map(|value| (header::COOKIE, HeaderValue::from_static(value))).collect();
        SessionCookie::at(public_url).read(&headers).map(|session| session.reveal().to_owned())
    }

    #[test]
    fn a_session_travels_in_one_cookie_of_this_very_host() {
        let cookie = SessionCookie::at("https://marmot.example.org");
        let set = cookie.set(&Secret::new("abc"), Duration::from_secs(60)).unwrap();
        assert_eq!(set, "__Host-marmot=abc; Path=/; HttpOnly; SameSite=Lax; Max-Age=60; Secure");
        assert_eq!(read("https://marmot.example.org", &["a=b; __Host-marmot=abc"]).as_deref(), Some("abc"));
        assert_eq!(read("http://localhost:8080", &["a=b", "marmot=abc"]).as_deref(), Some("abc"));
    }

    #[test]
    fn no_app_is_ever_sent_the_session() {
        for address in ["https://marmot.example.org", "http://localhost:8080"] {
            for cookie in [SessionCookie::at(address), SessionCookie::for_attempts_at(address)] {
                let name = cookie.name().trim_start_matches("__Host-");
                assert!(name.starts_with(marmot_gateway::PRIVATE_COOKIE));
            }
        }
    }

    #[test]
    fn cookies_that_somebody_else_put_there_are_ignored() {
        assert_eq!(read("https://marmot.example.org", &["__Host-marmot=abc; __Host-marmot=evil"]), None);
        assert_eq!(read("https://marmot.example.org", &["marmot=evil"]), None);
        assert_eq!(read("https://marmot.example.org", &["__host-marmot=evil; x__Host-marmot=evil"]), None);
        assert_eq!(read("http://localhost:8080", &["marmot=", "other"]), None);
    }
}
