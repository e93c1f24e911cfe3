//! The messages of each language, read once from its files, and how one is found and said.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

use fluent_bundle::concurrent::FluentBundle;
use fluent_bundle::{FluentArgs, FluentResource, FluentValue};
use fluent_syntax::ast::Entry;
use marmot_core::{Said, said};
use unic_langid::LanguageIdentifier;

use crate::{Language, decimal, now};

/// The files of a language, by name. Each language has the same.
macro_rules! files {
    ($($name:literal),+ $(,)?) => {
        [
            [$(($name, include_str!(concat!("../locales/en/", $name, ".ftl")))),+],
            [$(($name, include_str!(concat!("../locales/de/", $name, ".ftl")))),+],
            [$(($name, include_str!(concat!("../locales/fr/", $name, ".ftl")))),+],
        ]
    };
}

pub(crate) const FILES: [[(&str, &str); 8]; 3] =
    files!("account", "admin", "app", "gateway", "launcher", "pages", "project", "words");

/// What is made in English elsewhere, with the name by which the other languages say it here.
const SAID: [&[(&str, &str)]; 3] = [
    &[],
    &[
        ("events", include_str!("../locales/de/said/events.ftl")),
        ("builds", include_str!("../locales/de/said/builds.ftl")),
        ("refusals", include_str!("../locales/de/said/refusals.ftl")),
    ],
    &[
        ("events", include_str!("../locales/fr/said/events.ftl")),
        ("builds", include_str!("../locales/fr/said/builds.ftl")),
        ("refusals", include_str!("../locales/fr/said/refusals.ftl")),
    ],
];

/// The messages of one language.
struct Catalogue {
    bundle: FluentBundle<FluentResource>,
    /// Those without variables, said once and for all.
    plain: HashMap<String, String>,
}

static CATALOGUES: LazyLock<[Catalogue; 3]> = LazyLock::new(|| {
    Language::ALL
        .map(|language| Catalogue::read(language, &FILES[language as usize], SAID[language as usize]))
});

impl Catalogue {
    fn read(language: Language, files: &[(&str, &str)], said: &[(&str, &str)]) -> Self {
        let tag: LanguageIdentifier = language.tag().parse().unwrap_or_default();
        let mut bundle = FluentBundle::new_concurrent(vec![tag]);
        // Names stand in sentences as they are; marks around them would be copied along with them.
        bundle.set_use_isolating(false);
        let mut names: Vec<String> = Vec::new();
        for (_, text) in files.iter().chain(said) {
            // What cannot be read is left out here, and found by the tests.
            let resource = FluentResource::try_new((*text).to_owned()).unwrap_or_else(|(rest, _)| rest);
            names.extend(resource.entries().filter_map(|entry| match entry {
                Entry::Message(message) => Some(message.id.name.to_owned()),
                _ => None,
            }));
            bundle.add_resource_overriding(resource);
        }
        let mut catalogue = Self { bundle, plain: HashMap::new() };
        for name in names {
            if let Some(text) = catalogue.format(&name, None) {
                catalogue.plain.insert(name, text);
            }
        }
        catalogue
    }

    /// The message with these values; `None` when there is none, or a value that it wants is missing.
    fn format(&self, id: &str, values: Option<&FluentArgs<'_>>) -> Option<String> {
        let pattern = self.bundle.get_message(id)?.value()?;
        let mut errors = Vec::new();
        let text = self.bundle.format_pattern(pattern, values, &mut errors).into_owned();
        errors.is_empty().then_some(text)
    }
}

/// The languages to look a message up in: the one that is spoken, then English.
fn catalogues() -> impl Iterator<Item = &'static Catalogue> {
    [now::spoken(), Language::English].into_iter().map(|language| &CATALOGUES[language as usize])
}

/// A message without variables, in the language that is spoken.
pub fn say(id: &'static str) -> &'static str {
    let found = catalogues().find_map(|catalogue| catalogue.plain.get(id));
    debug_assert!(found.is_some(), "there is no message `{id}` without variables");
    found.map_or(id, String::as_str)
}

/// A sentence that was made in English, in the language that is spoken; in English where that one has no words for it,
/// as for what was kept before it had a name.
pub fn retold(said: &Said) -> String {
    let language = now::spoken();
    let told = || {
        let name = said.name().filter(|_| language != Language::English)?;
        if name == said::DECIMAL {
            return Some(decimal(said.english().to_owned()));
        }
        let values: FluentArgs<'_> = said.values().map(|(name, value)| (name, fluent(value))).collect();
        CATALOGUES[language as usize].format(name, Some(&values))
    };
    told().unwrap_or_else(|| said.english().to_owned())
}

fn fluent(value: &said::Value) -> FluentValue<'static> {
    match value {
        said::Value::Number(number) => FluentValue::from(*number),
        said::Value::Said(said) => FluentValue::String(Cow::Owned(retold(said))),
    }
}

/// A message with the values of its variables, not said yet.
#[derive(Debug, Clone)]
pub struct Message {
    id: &'static str,
    values: Vec<(&'static str, Given)>,
}

/// The value of a variable.
#[derive(Debug, Clone)]
enum Given {
    Value(FluentValue<'static>),
    /// A sentence in the sentence, in the language that is spoken when that is said.
    Said(Said),
}

impl Message {
    /// The message of this name.
    pub fn new(id: &'static str) -> Self {
        Self { id, values: Vec::new() }
    }

    /// The message with a variable's value.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Value) -> Self {
        self.values.push((name, Given::Value(value.value())));
        self
    }

    /// The message with a sentence in it that was made in English.
    #[must_use]
    pub fn with_said(mut self, name: &'static str, said: &Said) -> Self {
        self.values.push((name, Given::Said(said.clone())));
        self
    }

    /// The message in the language that is spoken.
    pub fn said(&self) -> String {
        if self.values.is_empty() {
            return say(self.id).to_owned();
        }
        let values: FluentArgs<'_> = self.values.iter().map(|(name, value)| (*name, value.told())).collect();
        let found = catalogues().find_map(|catalogue| catalogue.format(self.id, Some(&values)));
        debug_assert!(found.is_some(), "there is no message `{}` with {:?}", self.id, self.values);
        found.unwrap_or_else(|| self.id.to_owned())
    }

    /// The message in another language than the one that is spoken.
    pub fn said_in(&self, language: Language) -> String {
        now::speaking_now(language, || self.said())
    }
}

impl Given {
    fn told(&self) -> FluentValue<'static> {
        match self {
            Self::Value(value) => value.clone(),
            Self::Said(said) => FluentValue::String(Cow::Owned(retold(said))),
        }
    }
}

impl From<&'static str> for Message {
    fn from(id: &'static str) -> Self {
        Self::new(id)
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.said())
    }
}

/// What a variable may stand for: text as it is, or a whole number, which may choose between plurals.
pub trait Value {
    /// The value as messages take it.
    fn value(&self) -> FluentValue<'static>;
}

impl Value for str {
    fn value(&self) -> FluentValue<'static> {
        FluentValue::String(Cow::Owned(self.to_owned()))
    }
}

impl Value for String {
    fn value(&self) -> FluentValue<'static> {
        self.as_str().value()
    }
}

impl Value for Cow<'_, str> {
    fn value(&self) -> FluentValue<'static> {
        self.as_ref().value()
    }
}

impl<T: Value + ?Sized> Value for &T {
    fn value(&self) -> FluentValue<'static> {
        (**self).value()
    }
}

macro_rules! numbers {
    ($($kind:ty),+) => {$(
        impl Value for $kind {
            fn value(&self) -> FluentValue<'static> {
                FluentValue::from(*self)
            }
        }
    )+};
}
numbers!(u8, u16, u32, u64, usize, i32, i64);

/// A message with the values of its variables, said in the language that is spoken: `tell!("id", name = value)`.
#[macro_export]
macro_rules! tell {
    ($id:literal $(, $name:ident = $value:expr)+ $(,)?) => {
        $crate::Message::new($id)$(.with(stringify!($name), &$value))+.said()
    };
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_a_value_holds_is_text_and_nothing_more() {
        let told = tell!("usage-of", name = "{ $name } <b>");
        assert_eq!(told, "Usage of { $name } <b>");
    }
}
