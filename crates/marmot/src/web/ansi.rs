//! Lines of logs as HTML that can do nothing: colours from an allow-list, all other control sequences inert.
//!
//! What an app prints is an attack until shown otherwise. Text is escaped; of the terminal's sequences only *select
//! graphic rendition* means anything, and only styles named in the style sheet; links, titles, clipboard writes and
//! cursor moves are dropped; controls that could hide or reorder text are shown as what they are.

use std::fmt::{self, Write as _};

use askama::filters::HtmlSafe;

/// Longer lines are cut: a browser lays a line out as a whole.
const LONGEST_LINE: usize = 8 * 1024;

/// A line of a log, as safe HTML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line(String);

impl Line {
    /// Draws `text`, one line as a program wrote it.
    pub(super) fn of(text: &str) -> Self {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        let mut shown = text;
        if text.len() > LONGEST_LINE {
            let end = (0..=LONGEST_LINE).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
            shown = &text[..end];
        }
        let mut drawing =
            Drawing { html: String::with_capacity(shown.len() + 16), style: Style::default(), open: false };
        drawing.draw(shown);
        drawing.close();
        if shown.len() < text.len() {
            let _ = write!(
                drawing.html,
                "<span class=\"a-x\">cut: {} bytes more</span>",
                text.len() - shown.len()
            );
        }
        Self(drawing.html)
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// Made of escaped text and our own spans only.
impl HtmlSafe for Line {}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Style {
    bold: bool,
    dim: bool,
    italic: bool,
    underline: bool,
    reverse: bool,
    foreground: Option<u8>,
    background: bool,
}

impl Style {
    /// Follows the parameters of one *select graphic rendition*; unknown ones change nothing.
    fn select(&mut self, parameters: &str) {
        let mut codes = parameters
            .split([';', ':'])
            .map(|code| if code.is_empty() { Some(0) } else { code.parse::<u16>().ok() });
        while let Some(code) = codes.next() {
            match code {
                Some(0) => *self = Self::default(),
                Some(1) => self.bold = true,
                Some(2) => self.dim = true,
                Some(3) => self.italic = true,
                Some(4) => self.underline = true,
                Some(7) => self.reverse = true,
                Some(22) => (self.bold, self.dim) = (false, false),
                Some(23) => self.italic = false,
                Some(24) => self.underline = false,
                Some(27) => self.reverse = false,
                Some(code @ 30..=37) => self.foreground = Some((code - 30) as u8),
                Some(code @ 90..=97) => self.foreground = Some((code - 90 + 8) as u8),
                Some(39) => self.foreground = None,
                Some(40..=47 | 100..=107) => self.background = true,
                Some(49) => self.background = false,
                // 256 colours or 24 bits: the first sixteen are ours, of the others the style keeps none.
                Some(kind @ (38 | 48)) => {
                    let colour = match codes.next().flatten() {
                        Some(5) => codes.next().flatten(),
                        Some(2) => {
                            codes.by_ref().take(3).for_each(drop);
                            None
                        }
                        _ => None,
                    };
                    if kind == 38 {
                        self.foreground =
                            colour.and_then(|colour| u8::try_from(colour).ok()).filter(|colour| *colour < 16);
                    } else {
                        self.background = colour.is_some();
                    }
                }
                _ => {}
            }
        }
    }

    fn classes(self) -> String {
        let mut classes = String::new();
        for (on, class) in [
            (self.bold, "a-b"),
            (self.dim, "a-d"),
            (self.italic, "a-i"),
            (self.underline, "a-u"),
            (self.reverse, "a-r"),
            (self.background, "g"),
        ] {
            if on {
                classes.push_str(class);
                classes.push(' ');
            }
        }
        if let Some(colour) = self.foreground {
            let _ = write!(classes, "f{colour}");
        }
        classes.trim_end().to_owned()
    }
}

struct Drawing {
    html: String,
    style: Style,
    open: bool,
}

impl Drawing {
    fn draw(&mut self, text: &str) {
        let mut rest = text;
        while let Some(letter) = rest.chars().next() {
            let after = &rest[letter.len_utf8()..];
            rest = match letter {
                '\u{1b}' => self.escape(after),
                '\u{9b}' => self.control_sequence(after),
                '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => skip_string(after),
                _ => {
                    self.letter(letter);
                    after
                }
            };
        }
    }

    /// Follows what comes after an escape character; returns the text behind it.
    fn escape<'a>(&mut self, text: &'a str) -> &'a str {
        let mut letters = text.chars();
        match letters.next() {
            Some('[') => self.control_sequence(letters.as_str()),
            // Commands with text of any length, such as titles, links and the clipboard.
            Some(']' | 'P' | 'X' | '^' | '_') => skip_string(letters.as_str()),
            // Character sets and the like: some intermediate bytes, then a final one.
            Some(' '..='/') => {
                let behind = letters.as_str().trim_start_matches(|byte| matches!(byte, ' '..='/'));
                behind.strip_prefix(|byte| matches!(byte, '0'..='~')).unwrap_or(behind)
            }
            Some('0'..='~') => letters.as_str(),
            _ => text,
        }
    }

    fn control_sequence<'a>(&mut self, text: &'a str) -> &'a str {
        let end = text.find(|byte| !matches!(byte, ' '..='?')).unwrap_or(text.len());
        let (parameters, behind) = text.split_at(end);
        match behind.chars().next() {
            Some('m') => {
                let before = self.style;
                self.style.select(parameters);
                if self.style != before {
                    self.close();
                }
                &behind[1..]
            }
            Some('@'..='~') => &behind[1..],
            // Broken off: what comes is text again.
            _ => behind,
        }
    }

    fn letter(&mut self, letter: char) {
        if !self.open && self.style != Style::default() {
            let _ = write!(self.html, "<span class=\"{}\">", self.style.classes());
            self.open = true;
        }
        match letter {
            '&' => self.html.push_str("&amp;"),
            '<' => self.html.push_str("&lt;"),
            '>' => self.html.push_str("&gt;"),
            '"' => self.html.push_str("&quot;"),
            '\'' => self.html.push_str("&#39;"),
            '\t' => self.html.push('\t'),
            '\u{0}'..='\u{1f}' => {
                self.html.push(char::from_u32(0x2400 + u32::from(letter)).unwrap_or('\u{fffd}'))
            }
            '\u{7f}' => self.html.push('\u{2421}'),
            // They draw nothing themselves but change or hide what stands around them.
            '\u{80}'..='\u{9f}'
            | '\u{61c}'
            | '\u{200b}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}' => {
                let _ = write!(self.html, "<span class=\"a-x\">U+{:04X}</span>", u32::from(letter));
            }
            _ => self.html.push(letter),
        }
    }

    fn close(&mut self) {
        if self.open {
            self.html.push_str("</span>");
            self.open = false;
        }
    }
}

/// Skips a command's text up to the bell or the string terminator; all of it when there is none.
fn skip_string(text: &str) -> &str {
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\u{7}' | '\u{9c}' => return letters.as_str(),
            '\u{1b}' => return letters.as_str().strip_prefix('\\').unwrap_or(letters.as_str()),
            _ => {}
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn colours_and_styles_of_the_allow_list_are_drawn() {
        for (text, html) in [
            ("plain", "plain"),
            ("\x1b[32mINFO\x1b[0m started", "<span class=\"f2\">INFO</span> started"),
            ("\x1b[1;91mE\x1b[22;39m.", "<span class=\"a-b f9\">E</span>."),
            ("\x1b[38;5;4mblue\x1b[m", "<span class=\"f4\">blue</span>"),
            ("\x1b[38;5;200mx\x1b[38;2;1;2;3my", "xy"),
            ("\x1b[7m \x1b[27m", "<span class=\"a-r\"> </span>"),
            ("\x1b[33mnot closed", "<span class=\"f3\">not closed</span>"),
            ("tab\there", "tab\there"),
            ("windows\r\n", "windows"),
        ] {
            assert_eq!(Line::of(text).to_string(), html, "{text:?}");
        }
    }

    #[test]
    fn everything_else_is_inert() {
        for (text, html) in [
            ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
            ("\" onmouseover='x'", "&quot; onmouseover=&#39;x&#39;"),
            ("\x1b]8;;javascript:alert(1)\x07click\x1b]8;;\x07", "click"),
            ("\x1b]8;;https://evil.example\x1b\\click\x1b]8;;\x1b\\", "click"),
            ("\x1b]52;c;cm0gLXJmIC8=\x07pasted", "pasted"),
            ("\x1b]0;title\x07x", "x"),
            ("\x1b]never ended", ""),
            ("\x1bPq#0;2;0\x1b\\sixel", "sixel"),
            ("\x1b[2J\x1b[1;1Hmoved\x1b[10A", "moved"),
            ("\x1b[?1049hx\x1b[?25l", "x"),
            ("\x1b(Bx\x1b=y", "xy"),
            ("\u{9b}31mred", "<span class=\"f1\">red</span>"),
            ("\u{9d}8;;x\u{9c}y", "y"),
            ("progress 1%\rprogress 2%", "progress 1%\u{240d}progress 2%"),
            ("a\0b\u{8}c\u{7f}", "a\u{2400}b\u{2408}c\u{2421}"),
            ("user\u{202e}gpj.exe", "user<span class=\"a-x\">U+202E</span>gpj.exe"),
            ("\u{2066}x\u{feff}", "<span class=\"a-x\">U+2066</span>x<span class=\"a-x\">U+FEFF</span>"),
            // All of it up to a letter belongs to the sequence.
            ("\x1b[31\"><b>", "&gt;"),
            ("\x1b[", ""),
            ("\x1b", ""),
            ("\x1b[99999999999999m;", ";"),
        ] {
            assert_eq!(Line::of(text).to_string(), html, "{text:?}");
        }
    }

    #[test]
    fn a_line_of_a_megabyte_is_cut_and_says_so() {
        let drawn = Line::of(&"ä".repeat(500_000)).to_string();
        assert!(drawn.len() < 2 * LONGEST_LINE);
        assert!(
            drawn.ends_with("<span class=\"a-x\">cut: 991808 bytes more</span>"),
            "{}",
            &drawn[drawn.len() - 80..]
        );
    }

    proptest! {
        #[test]
        fn whatever_is_printed_the_html_holds_only_our_own_spans(text in "(\\PC|\\x1b|\\[|[0-9;m<>\"&]|\\x07|\\u{9b}){0,60}") {
            let html = Line::of(&text).to_string();
            let mut depth = 0;
            for tag in html.split('<').skip(1) {
                if tag.starts_with("/span>") { depth -= 1; } else {
                    prop_assert!(tag.starts_with("span class=\""), "{html}");
                    depth += 1;
                }
                prop_assert!((0..=1).contains(&depth));
            }
            prop_assert_eq!(depth, 0);
        }
    }
}
