//! Where to go after signing in: only ever a path of our own.

use url::Url;

/// Longer ones are nobody's bookmark.
const LONGEST: usize = 2048;

/// `wanted` when it is a path of ours, else the home page.
pub(super) fn path_of_ours(wanted: &str) -> String {
    checked(wanted).unwrap_or_else(|| "/".to_owned())
}

fn checked(wanted: &str) -> Option<String> {
    // Browsers drop tabs and line ends, and read a backslash as a slash; nothing of ours has either.
    let strange = |byte: u8| byte <= b' ' || byte == b'\\' || byte >= 0x7f;
    if wanted.len() > LONGEST || wanted.bytes().any(strange) || !wanted.starts_with('/') {
        return None;
    }
    let base = Url::parse("http://ours.invalid/").ok()?;
    let url = base.join(wanted).ok()?;
    if url.origin() != base.origin() || !url.username().is_empty() || url.path().starts_with("//") {
        return None;
    }
    Some(url[url::Position::BeforePath..].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_ours_are_kept() {
        for path in
            ["/", "/p/ada/ice", "/p/ada/ice?tab=logs#end", "/access/ice?next=%2Fdeep%3Fx%3D1", "/a%20b"]
        {
            assert_eq!(path_of_ours(path), path);
        }
        assert_eq!(path_of_ours("/p/../settings"), "/settings");
    }

    #[test]
    fn everything_else_leads_home() {
        let long = format!("/{}", "a".repeat(3000));
        for wanted in [
            "",
            "p",
            "//evil.example",
            "///evil.example",
            "////evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "/\\/evil.example",
            "https:evil.example",
            "https://evil.example",
            "http:/evil.example",
            "HTTPS://evil.example",
            "%2f%2fevil.example",
            "/\t/evil.example",
            "\t//evil.example",
            "/\n/evil.example",
            " //evil.example",
            "/\r/evil.example",
            "javascript:alert(1)",
            "data:text/html,x",
            "/.//evil.example",
            "/..//evil.example",
            "/a/..//evil.example",
            "@evil.example",
            "evil.example",
            "?x",
            "#x",
            "/ä",
            "/\0",
            &long,
        ] {
            assert_eq!(path_of_ours(wanted), "/", "{wanted:?}");
        }
    }
}
