//! A command as people type it, and as words. Quotes keep words together; nothing is expanded, and no shell is asked.

use marmot_core::Said;

/// The command cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("a quote is opened but not closed")]
    OpenQuote,
    #[error("it ends with a backslash")]
    TrailingBackslash,
}

impl Unreadable {
    /// What is wrong, in the language of whoever typed it.
    pub(super) fn told(&self) -> String {
        let said = match self {
            Self::OpenQuote => Said::new("command-open-quote", self),
            Self::TrailingBackslash => Said::new("command-backslash", self),
        };
        super::words::told(&said)
    }
}

/// The words of a command.
pub(super) fn words(text: &str) -> Result<Vec<String>, Unreadable> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\'' | '"' => {
                let current = word.get_or_insert_default();
                loop {
                    match letters.next().ok_or(Unreadable::OpenQuote)? {
                        end if end == letter => break,
                        '\\' if letter == '"' => match letters.next().ok_or(Unreadable::OpenQuote)? {
                            escaped @ ('"' | '\\') => current.push(escaped),
                            other => current.extend(['\\', other]),
                        },
                        inside => current.push(inside),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(letters.next().ok_or(Unreadable::TrailingBackslash)?),
            _ if letter.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Words as a command that [`words`] reads back.
pub(super) fn text(words: &[String]) -> String {
    let quoted = |word: &String| {
        let plain = |letter: char| !letter.is_whitespace() && !matches!(letter, '\'' | '"' | '\\');
        if !word.is_empty() && word.chars().all(plain) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_people_type() {
        for (typed, read) in [
            (
                "streamlit run app.py --server.port $PORT",
                &["streamlit", "run", "app.py", "--server.port", "$PORT"][..],
            ),
            (r#"python -c "print('a b')" ''"#, &["python", "-c", "print('a b')", ""]),
            (r#"a\ b "c\"d" 'e\f'"#, &["a b", "c\"d", r"e\f"]),
            ("  ", &[]),
        ] {
            assert_eq!(words(typed).unwrap(), read);
        }
        assert_eq!(words("echo 'x"), Err(Unreadable::OpenQuote));
        assert_eq!(words("echo \\"), Err(Unreadable::TrailingBackslash));
    }

    proptest! {
        #[test]
        fn words_survive_being_written_and_read(given in prop::collection::vec("\\PC{0,12}", 0..6)) {
            prop_assert_eq!(words(&text(&given)).unwrap(), given);
        }
    }
}
