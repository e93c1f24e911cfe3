//! Messages in templates: `{{ "id"|say }}`, and `{{ "id"|with("name", value) }}` for those with variables.
//!
//! What they give is text, which templates escape as any other.
#![expect(missing_docs, reason = "the attribute that makes a filter makes items that have none")]

use crate::{Message, Value};

/// A message without variables.
#[askama::filter_fn]
pub fn say(id: &'static str, _: &dyn askama::Values) -> askama::Result<&'static str> {
    Ok(crate::say(id))
}

/// A message with a variable's value. For more variables, again.
#[askama::filter_fn]
pub fn with<M: Into<Message>, V: Value>(
    message: M,
    _: &dyn askama::Values,
    name: &'static str,
    value: V,
) -> askama::Result<Message> {
    Ok(message.into().with(name, value))
}
