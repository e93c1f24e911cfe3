//! Lines of a log as they are shown on a page: text alone, of bounded length.

/// More of one line tells nobody anything.
const LONGEST: usize = 500;

/// A line without its time, and without what a terminal would act on.
pub(super) fn plain(line: &str) -> String {
    let text = match line.split_once(' ') {
        Some((time, text)) if is_time(time) => text,
        _ => line,
    };
    let mut plain = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => skip_escape(&mut characters),
            '\t' => plain.push(' '),
            // Among them those that turn the direction of what follows.
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            other if other.is_control() => {}
            other => plain.push(other),
        }
        if plain.len() >= LONGEST {
            plain.push('…');
            break;
        }
    }
    plain
}

fn is_time(word: &str) -> bool {
    word.ends_with('Z') && word.starts_with(|first: char| first.is_ascii_digit()) && word.contains('T')
}

/// Goes past a control sequence (`ESC [ … letter`), an operating system command (`ESC ] … BEL`), or a single letter.
fn skip_escape(characters: &mut std::str::Chars<'_>) {
    match characters.next() {
        Some('[') => {
            characters.find(|character| ('@'..='~').contains(character));
        }
        Some(']') => {
            let mut before = ' ';
            characters.find(|character| {
                let ends = *character == '\u{7}' || (before == '\u{1b}' && *character == '\\');
                before = *character;
                ends
            });
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_terminal_acts_on_is_left_out() {
        for (line, shown) in [
            ("2026-11-24T06:00:00.000Z listening on 8080", "listening on 8080"),
            ("no time", "no time"),
            ("\u{1b}[1;32mINFO\u{1b}[0m up\r", "INFO up"),
            ("a\u{1b}]8;;http://evil.test\u{7}link\u{1b}]8;;\u{1b}\\b", "alinkb"),
            ("<b>bold</b>", "<b>bold</b>"),
            ("\u{202e}gnp.exe", "gnp.exe"),
            ("\u{1b}[", ""),
        ] {
            assert_eq!(plain(line), shown, "{line:?}");
        }
        assert!(plain(&"x".repeat(100_000)).len() < 600);
    }

    proptest! {
        #[test]
        fn no_control_character_is_left(line: String) {
            prop_assert!(!plain(&line).chars().any(char::is_control));
        }
    }
}
