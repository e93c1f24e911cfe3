//! A sentence as it was said in English, with the name and the values by which another language says it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A sentence in English, which the API, the command line and the log say; and, where it has a name, what pages need
/// to say it in the language of whoever reads them. English is written once, where the sentence is made; the others
/// stand in `marmot-text`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "Kept", into = "Kept")]
pub struct Said {
    english: String,
    /// Apart, since sentences stand in errors, which are to be small.
    named: Option<Box<Named>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Named {
    name: String,
    values: Vec<(String, Value)>,
}

/// What a sentence is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// A whole number, which may choose between plurals.
    Number(i64),
    /// Text, which stands in a sentence as it is; or a sentence in the sentence.
    Said(Said),
}

/// The name of what is a number with a decimal point in English.
pub const DECIMAL: &str = "decimal";

impl Said {
    /// A sentence of this name: `english` is what it says in English.
    pub fn new(name: &'static str, english: impl fmt::Display) -> Self {
        let named = Box::new(Named { name: name.to_owned(), values: Vec::new() });
        Self { english: english.to_string(), named: Some(named) }
    }

    /// A number with a decimal point, where other languages have a comma.
    pub fn decimal(number: impl fmt::Display) -> Self {
        Self::new(DECIMAL, number)
    }

    /// The same, with a value that the sentence is about.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        if let Some(named) = &mut self.named {
            named.values.push((name.to_owned(), value.into()));
        }
        self
    }

    /// As it is said in English.
    pub fn english(&self) -> &str {
        &self.english
    }

    /// Whether its English has these words.
    pub fn contains(&self, words: &str) -> bool {
        self.english.contains(words)
    }

    /// Its name in other languages; nothing for text that is the same in all of them.
    pub fn name(&self) -> Option<&str> {
        self.named.as_ref().map(|named| named.name.as_str())
    }

    /// What it is about.
    pub fn values(&self) -> impl Iterator<Item = (&str, &Value)> {
        let values = self.named.iter().flat_map(|named| &named.values);
        values.map(|(name, value)| (name.as_str(), value))
    }

    /// The same with its English written in another way: with a capital in front, say.
    #[must_use]
    pub fn written(self, write: impl FnOnce(&str) -> String) -> Self {
        Self { english: write(&self.english), ..self }
    }

    /// The same with each text in it changed: with what nobody may read taken out.
    #[must_use]
    pub fn masked(self, mask: &impl Fn(&str) -> String) -> Self {
        let named = self.named.map(|mut named| {
            for (_, value) in &mut named.values {
                if let Value::Said(said) = value {
                    *said = std::mem::take(said).masked(mask);
                }
            }
            named
        });
        Self { english: mask(&self.english), named }
    }
}

impl PartialEq<&str> for Said {
    /// Whether it says this in English.
    fn eq(&self, english: &&str) -> bool {
        self.english == *english
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.english)
    }
}

/// Text that no language says in another way: a name, what a program wrote, or a sentence that is kept from a time
/// when English was all that was kept.
impl From<String> for Said {
    fn from(text: String) -> Self {
        Self { english: text, named: None }
    }
}

impl From<&str> for Said {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<Said> for Value {
    fn from(said: Said) -> Self {
        Self::Said(said)
    }
}

impl From<&Said> for Value {
    fn from(said: &Said) -> Self {
        Self::Said(said.clone())
    }
}

impl<T: Into<Value> + Clone> From<&&T> for Value {
    fn from(value: &&T) -> Self {
        (*value).clone().into()
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Said(text.into())
    }
}

impl From<&&str> for Value {
    fn from(text: &&str) -> Self {
        Self::Said((*text).into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Said(text.into())
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Self::Said(text.as_str().into())
    }
}

macro_rules! numbers {
    ($($kind:ty),+) => {$(
        impl From<$kind> for Value {
            fn from(number: $kind) -> Self {
                Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
            }
        }

        impl From<&$kind> for Value {
            fn from(number: &$kind) -> Self {
                (*number).into()
            }
        }
    )+};
}
numbers!(u8, u16, u32, u64, usize, i32, i64);

/// A sentence: its name, what it says in English, and what it is about, each of which stands in the English:
/// `said!("launcher-variable-twice", "the variable `{name}` is given twice", name = name)`.
#[macro_export]
macro_rules! said {
    ($id:literal, $english:literal $(, $name:ident = $value:expr)* $(,)?) => {
        $crate::Said::new($id, ::std::format!($english $(, $name = $value)*))
            $(.with(::std::stringify!($name), &$value))*
    };
}

/// How a sentence is kept: text that has no name as text, as all were once.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Kept {
    Text(String),
    Named {
        english: String,
        name: String,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        values: Vec<(String, Value)>,
    },
}

impl From<Kept> for Said {
    fn from(kept: Kept) -> Self {
        match kept {
            Kept::Text(text) => text.into(),
            Kept::Named { english, name, values } => {
                Self { english, named: Some(Box::new(Named { name, values })) }
            }
        }
    }
}

impl From<Said> for Kept {
    fn from(said: Said) -> Self {
        match said.named {
            None => Self::Text(said.english),
            Some(named) => Self::Named { english: said.english, name: named.name, values: named.values },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_english_and_its_values_cannot_differ() {
        let said = said!("x", "`{name}` has {count} characters", name = "ada", count = 3_usize);
        assert_eq!(said.to_string(), "`ada` has 3 characters");
        let values: Vec<_> = said.values().collect();
        assert_eq!(values, [("name", &Value::from("ada")), ("count", &Value::Number(3))]);
    }

    #[test]
    fn what_nobody_may_read_is_in_none_of_it() {
        let inner = said!("inner", "signed in with {key}", key = "hunter2");
        let said =
            said!("outer", "it failed: {why}", why = inner).masked(&|text| text.replace("hunter2", "***"));
        assert!(!format!("{said:?}").contains("hunter2"), "{said:?}");
    }
}
