//! The languages that pages speak, and which of them a browser asks for.

use std::str::FromStr;

/// A language that pages can be read in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Language {
    /// What a message says that no other language has.
    #[default]
    English,
    /// Standard German, as it is written in Germany and Austria, too.
    German,
    /// Standard French.
    French,
}

/// Longer lists are cut: browsers send ten at most.
const RANGES: usize = 32;

impl Language {
    /// Every language, in the order that people choose from.
    pub const ALL: [Self; 3] = [Self::English, Self::German, Self::French];

    /// The tag of the language, as HTML and HTTP write it.
    pub fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::German => "de",
            Self::French => "fr",
        }
    }

    /// What those who speak it call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::English => "English",
            Self::German => "Deutsch",
            Self::French => "Français",
        }
    }

    /// The language that a browser likes most (RFC 9110, 12.5.4), of those that there are; `None` when it likes none.
    pub fn accepted(header: &str) -> Option<Self> {
        let mut best: Option<(u16, Self)> = None;
        for range in header.split(',').take(RANGES) {
            let mut parts = range.split(';').map(str::trim);
            let tag = parts.next().unwrap_or_default();
            let weight = match parts
                .find_map(|parameter| parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q=")))
            {
                Some(text) => thousandths(text),
                None => Some(1000),
            };
            // Among those that are liked as much, the first counts.
            if let Some(weight) = weight
                && weight > best.map_or(0, |(weight, _)| weight)
                && let Some(language) = Self::of_range(tag)
            {
                best = Some((weight, language));
            }
        }
        best.map(|(_, language)| language)
    }

    /// The language of a range such as `de-CH`, whatever its region.
    fn of_range(range: &str) -> Option<Self> {
        let primary = range.split('-').next().unwrap_or_default();
        Self::ALL.into_iter().find(|language| primary.eq_ignore_ascii_case(language.tag()))
    }
}

/// A weight from `0` to `1.000`, in thousandths.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    if rest.len() > 3 || !rest.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let part: u16 = format!("{rest:0<3}").parse().ok()?;
    match whole {
        "0" => Some(part),
        "1" if part == 0 => Some(1000),
        _ => None,
    }
}

/// The name of a language that there is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoSuchLanguage;

impl std::fmt::Display for NoSuchLanguage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("there is no such language: give en, de or fr")
    }
}

impl std::error::Error for NoSuchLanguage {}

impl FromStr for Language {
    type Err = NoSuchLanguage;

    fn from_str(tag: &str) -> Result<Self, NoSuchLanguage> {
        Self::ALL.into_iter().find(|language| language.tag() == tag).ok_or(NoSuchLanguage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_gets_what_it_likes_most() {
        for (header, language) in [
            ("de", Some(Language::German)),
            ("de-CH,de;q=0.9,en;q=0.8", Some(Language::German)),
            ("FR-ch;q=0.5, de;q=0.4", Some(Language::French)),
            ("en;q=0.2, fr;q=0.8", Some(Language::French)),
            ("rm, it;q=0.9, de;q=0.3", Some(Language::German)),
            ("fr, de", Some(Language::French)),
            ("it, rm", None),
            ("de;q=0", None),
            ("de;q=0.000, en", Some(Language::English)),
            ("*", None),
            ("", None),
        ] {
            assert_eq!(Language::accepted(header), language, "{header:?}");
        }
    }

    #[test]
    fn what_is_no_weight_counts_for_nothing() {
        for nonsense in ["de;q=2", "de;q=-1", "de;q=NaN", "de;q=1.001", "de;q=0.12345", "de;q=", "de;q=0,5x"]
        {
            let header = format!("{nonsense}, fr;q=0.1");
            assert_ne!(Language::accepted(&header), Some(Language::German), "{nonsense}");
        }
    }

    #[test]
    fn a_list_without_end_is_read_to_its_thirty_second() {
        let endless = "xx,".repeat(100_000) + "de";
        assert_eq!(Language::accepted(&endless), None);
        assert_eq!(Language::accepted(&("xx,".repeat(31) + "de")), Some(Language::German));
    }
}
