//! Looks at Python source without running it: what it imports, and what it makes at its top level.

use std::collections::BTreeSet;

/// What is seen of a Python file.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// The modules it imports, with their dots; `.` for its own package.
    pub(super) imports: BTreeSet<String>,
    /// `NAME = CALLEE(`, at the top level: which name, and what is called.
    pub(super) made: Vec<(String, String)>,
    /// The functions defined at the top level.
    pub(super) functions: BTreeSet<String>,
    /// The code without comments and without the text of strings.
    code: String,
}

impl Source {
    pub(super) fn parse(text: &str) -> Self {
        let code = without_strings(text);
        let mut source = Self::default();
        for line in code.lines() {
            source.line(line);
        }
        source.code = code;
        source
    }

    fn line(&mut self, line: &str) {
        let trimmed = line.trim_start();
        if let Some(rest) = trimmed.strip_prefix("import ") {
            let modules = rest.split(',').filter_map(|module| module.split_whitespace().next());
            self.imports.extend(modules.map(str::to_owned));
        } else if let Some(rest) = trimmed.strip_prefix("from ") {
            self.import_from(rest);
        }
        if trimmed.len() != line.len() {
            return;
        }
        let function = line.strip_prefix("async def ").or(line.strip_prefix("def "));
        if let Some(name) = function.and_then(|rest| rest.split('(').next()) {
            self.functions.insert(name.trim().to_owned());
        }
        if let Some((names, value)) = line.split_once('=') {
            let callee = value.trim().split('(').next().filter(|_| value.contains('(')).unwrap_or_default();
            let name = names.split(':').next().unwrap_or_default().trim();
            if is_dotted(callee.trim()) && is_dotted(name) {
                self.made.push((name.to_owned(), callee.trim().to_owned()));
            }
        }
    }

    fn import_from(&mut self, rest: &str) {
        let Some((module, names)) = rest.split_once(" import") else { return };
        let module = module.trim();
        if module.starts_with('.') {
            self.imports.insert(".".into());
            return;
        }
        self.imports.insert(module.to_owned());
        // `from shiny import express` imports a module as well.
        let names = names.trim().trim_matches(['(', ')']).split(',');
        let names = names.filter_map(|name| name.split_whitespace().next());
        self.imports.extend(names.map(|name| format!("{module}.{name}")));
    }

    /// Whether it imports `module`, or something in it.
    pub(super) fn imports(&self, module: &str) -> bool {
        self.imports.iter().any(|name| {
            name.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }

    /// The name at the top level to which the result of calling `class` is given, under whatever alias its module has.
    pub(super) fn instance_of(&self, class: &str) -> Option<&str> {
        self.made
            .iter()
            .find(|(_, callee)| callee.rsplit('.').next() == Some(class))
            .map(|(name, _)| name.as_str())
    }

    /// Whether `text` stands in the code, outside of strings and comments.
    pub(super) fn mentions(&self, text: &str) -> bool {
        self.code.contains(text)
    }

    /// A port that is given as a number.
    pub(super) fn fixed_port(&self) -> Option<u16> {
        self.code.match_indices("port").find_map(|(at, _)| {
            let rest = self.code[at + 4..].trim_start().strip_prefix('=')?.trim_start();
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        })
    }
}

fn is_dotted(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '.')
}

/// The code with each string as `""`, and without comments. Line breaks in strings go; those between lines stay.
fn without_strings(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    let mut copied = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'#' => {
                code.push_str(&text[copied..at]);
                at += bytes[at..].iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len() - at);
                copied = at;
            }
            quote @ (b'"' | b'\'') => {
                code.push_str(&text[copied..at]);
                code.push_str("\"\"");
                at = end_of_string(bytes, at, quote);
                copied = at;
            }
            _ => at += 1,
        }
    }
    code.push_str(&text[copied..]);
    code
}

fn end_of_string(bytes: &[u8], start: usize, quote: u8) -> usize {
    let triple = bytes[start..].starts_with(&[quote; 3]);
    let mut at = start + if triple { 3 } else { 1 };
    while at < bytes.len() {
        match bytes[at] {
            // The next byte may be the first of a longer letter; the ones that follow are never ASCII.
            b'\\' => at += 2,
            // A plain string that is not closed ends with its line.
            b'\n' if !triple => return at,
            byte if byte == quote && !triple => return at + 1,
            byte if byte == quote && bytes[at..].starts_with(&[quote; 3]) => return at + 3,
            _ => at += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_and_makings_are_seen_where_they_are_code() {
        let source = Source::parse(
            "'''import flask\napp = Flask()\n'''\n\
             # import dash\n\
             import os, streamlit as st\n\
             from fastapi import (FastAPI,\n    Depends)\n\
             from .models import x\n\
             text = \"it's # not a comment\"; y = 'import django'\n\
             app: FastAPI = FastAPI(\n    title=\"a\")\n\
             def create_app(x):\n    inner = Flask(__name__)\n\
             if __name__ == '__main__':\n    app.run(host='x', port = 8050)\n",
        );
        for module in ["os", "streamlit", "fastapi", "fastapi.FastAPI", "."] {
            assert!(source.imports(module), "{module} in {:?}", source.imports);
        }
        for module in ["flask", "dash", "django", "fast"] {
            assert!(!source.imports(module), "{module} in {:?}", source.imports);
        }
        assert_eq!(source.instance_of("FastAPI"), Some("app"));
        assert_eq!(source.instance_of("Flask"), None);
        assert!(source.functions.contains("create_app"));
        assert_eq!(source.fixed_port(), Some(8050));
    }

    #[test]
    fn nothing_makes_it_panic() {
        for text in [
            "'",
            "\"\"\"",
            "'\\",
            "'\\\u{e9}",
            "\u{feff}import x",
            "from",
            "from x import",
            "=",
            "x=(",
            "é='ü'=\"",
            "import ,",
        ] {
            Source::parse(text);
        }
    }
}
