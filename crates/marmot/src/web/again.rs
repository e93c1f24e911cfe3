//! A form that was refused, drawn again: with all that was typed into it, and what is wrong beside the field at fault.

use super::forms::Typed;
use super::view::Field;
use super::words;
use crate::service::{Error, Field as Of};

/// Whether a form of a page was refused, and which.
#[derive(Debug, Clone, Default)]
pub(super) struct Again(Option<Refused>);

#[derive(Debug, Clone)]
struct Refused {
    form: &'static str,
    typed: Typed,
    /// The name of the input at fault, if one is.
    at_fault: Option<&'static str>,
    why: String,
}

impl Again {
    /// The form of this name, which `error` refused.
    pub(super) fn refused(form: &'static str, typed: &Typed, error: &Error) -> Self {
        let at_fault = error.field().and_then(input);
        Self(Some(Refused { form, typed: typed.clone(), at_fault, why: words::refusal(error) }))
    }

    fn of(&self, form: &str) -> Option<&Refused> {
        self.0.as_ref().filter(|refused| refused.form == form)
    }

    /// Whether this form was refused.
    pub(super) fn is(&self, form: &str) -> bool {
        self.of(form).is_some()
    }

    /// An input of a form: as it was typed where the form was refused, and else as it is.
    pub(super) fn field(&self, form: &str, input: &str, now: impl Into<String>) -> Field {
        match self.of(form) {
            Some(refused) => Field {
                value: refused.typed.get(input).to_owned(),
                wrong: (refused.at_fault == Some(input)).then(|| refused.why.clone()),
            },
            None => Field::of(now),
        }
    }

    /// The same for what must not be shown again: only what is wrong with it.
    pub(super) fn secret(&self, form: &str, input: &str) -> Field {
        Field { value: String::new(), ..self.field(form, input, "") }
    }

    /// Whether a box is ticked, or a choice made.
    pub(super) fn chosen(&self, form: &str, input: &str, value: &str, now: bool) -> bool {
        self.of(form).map_or(now, |refused| refused.typed.get(input) == value)
    }

    /// Why one of these forms was refused, where none of its inputs is at fault.
    pub(super) fn problem(&self, forms: &[&str]) -> Option<&str> {
        let refused = self.0.as_ref().filter(|refused| forms.contains(&refused.form))?;
        refused.at_fault.is_none().then_some(refused.why.as_str())
    }
}

/// The input of a box's form that asks for this.
fn input(of: Of) -> Option<&'static str> {
    Some(match of {
        Of::Name | Of::SecretName => "name",
        Of::Secrets => "value",
        Of::OpenTo => "open_to",
        Of::Until => "lifetime",
        Of::PerMinute => "per_minute",
        Of::AtOnce => "at_once",
        Of::BodyLimit => "body_limit",
        Of::Branch => "branch",
        Of::Days => "days",
        Of::Minutes => "every",
        Of::Host => "host",
        Of::Login => "username",
        _ => return None,
    })
}
