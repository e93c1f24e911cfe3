//! Prints answers: tables for people, JSON for programs.

use std::io::Write as _;

use serde_json::Value;

/// How answers are printed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    /// As JSON.
    pub(super) json: bool,
}

impl Output {
    /// Prints an answer: as JSON, or as what `show` makes of it.
    pub(super) fn print(self, answer: &Value, show: impl FnOnce(&Value) -> String) -> anyhow::Result<()> {
        let text = if self.json { serde_json::to_string_pretty(answer)? } else { show(answer) };
        line(text.trim_end())
    }
}

/// Prints one line or more. A reader that went away (`| head`) is no error.
pub(super) fn line(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}
