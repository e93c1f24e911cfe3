//! Which language is spoken: that of whoever the answer under way is for.
//!
//! It belongs to the task, as who asks does to the audit. What says something then says it right, in handlers,
//! templates and streams alike, without each function between them handing a language on. Where nobody asks (in the
//! log, in a test), English is spoken.

use std::cell::Cell;
use std::future::Future;

use crate::Language;

tokio::task_local! {
    static SPOKEN: Cell<Language>;
}

/// The language that is spoken here.
pub fn spoken() -> Language {
    SPOKEN.try_with(Cell::get).unwrap_or_default()
}

/// Speaks another language from here on, until the answer is given: who asks has been found to prefer it.
pub fn speak(language: Language) {
    // Outside of any answer there is nobody to speak to.
    let _ = SPOKEN.try_with(|spoken| spoken.set(language));
}

/// Speaks this language in all that the future does.
pub fn speaking<F: Future>(language: Language, future: F) -> impl Future<Output = F::Output> {
    SPOKEN.scope(Cell::new(language), future)
}

/// Speaks this language while `say` runs.
pub fn speaking_now<T>(language: Language, say: impl FnOnce() -> T) -> T {
    SPOKEN.sync_scope(Cell::new(language), say)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::say;

    #[test]
    fn where_nobody_asks_english_is_spoken() {
        speak(Language::German);
        assert_eq!((spoken(), say("sign-in")), (Language::English, "Sign in"));
    }

    #[tokio::test]
    async fn each_answer_has_its_own_language_from_when_it_is_known() {
        let answer = |asked, known: Option<Language>| {
            speaking(asked, async move {
                let before = say("sign-in");
                tokio::task::yield_now().await;
                if let Some(known) = known {
                    speak(known);
                }
                (before, say("sign-in"))
            })
        };
        let (german, french) =
            tokio::join!(answer(Language::German, None), answer(Language::English, Some(Language::French)));
        assert_eq!(german, ("Anmelden", "Anmelden"));
        assert_eq!(french, ("Sign in", "Se connecter"));
    }
}
