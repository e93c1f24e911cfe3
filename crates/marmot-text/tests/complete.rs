//! Every language says all that pages say, with the same variables, and pages say nothing but messages.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use fluent_syntax::ast::{CallArguments, Entry, Expression, InlineExpression, Pattern, PatternElement};
use fluent_syntax::parser::parse;
use marmot_text::Language;

/// The variables of each message.
type Messages = BTreeMap<String, BTreeSet<String>>;

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn files(dir: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, end));
        } else if path.to_string_lossy().ends_with(end) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn messages(language: Language) -> Messages {
    let all = files(&crates().join("marmot-text/locales").join(language.tag()), ".ftl");
    messages_of(all.into_iter().filter(|file| !of_sentences(file)))
}

/// What the languages other than English say where a sentence is made in English.
fn sentences(language: Language) -> Messages {
    let all = files(&crates().join("marmot-text/locales").join(language.tag()), ".ftl");
    messages_of(all.into_iter().filter(|file| of_sentences(file)))
}

fn of_sentences(file: &Path) -> bool {
    file.parent().is_some_and(|dir| dir.ends_with("said"))
}

fn messages_of(found: impl Iterator<Item = PathBuf>) -> Messages {
    let mut all = Messages::new();
    for file in found {
        let text = fs::read_to_string(&file).unwrap();
        let parsed =
            parse(text.as_str()).unwrap_or_else(|(_, wrong)| panic!("{}: {wrong:?}", file.display()));
        for entry in parsed.body {
            let Entry::Message(message) = entry else { continue };
            let mut variables = BTreeSet::new();
            read(message.value.as_ref().expect("a message says something"), &mut variables);
            let twice = all.insert(message.id.name.to_owned(), variables);
            assert!(twice.is_none(), "{}: `{}` is there twice", file.display(), message.id.name);
        }
    }
    all
}

fn read(pattern: &Pattern<&str>, variables: &mut BTreeSet<String>) {
    for element in &pattern.elements {
        let PatternElement::Placeable { expression } = element else { continue };
        match expression {
            Expression::Inline(inline) => read_inline(inline, variables),
            Expression::Select { selector, variants } => {
                read_inline(selector, variables);
                variants.iter().for_each(|variant| read(&variant.value, variables));
            }
        }
    }
}

fn read_inline(inline: &InlineExpression<&str>, variables: &mut BTreeSet<String>) {
    match inline {
        InlineExpression::VariableReference { id } => {
            variables.insert(id.name.to_owned());
        }
        InlineExpression::FunctionReference { arguments: CallArguments { positional, .. }, .. } => {
            positional.iter().for_each(|inline| read_inline(inline, variables));
        }
        _ => {}
    }
}

/// What pages are made of: the code of both crates up to its tests, and the templates.
fn sources() -> Vec<(PathBuf, String)> {
    let crates = crates();
    let mut found = Vec::new();
    for dir in ["marmot/src/web", "marmot-gateway/src", "marmot-text/src"] {
        found.extend(files(&crates.join(dir), ".rs"));
    }
    for dir in ["marmot/templates", "marmot-gateway/templates"] {
        found.extend(files(&crates.join(dir), ".html"));
    }
    found.into_iter().filter(|path| !is_of_tests(path)).map(read_code).collect()
}

fn is_of_tests(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs")
}

/// A file up to its tests, without comments.
fn read_code(path: PathBuf) -> (PathBuf, String) {
    let text = fs::read_to_string(&path).unwrap();
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    (path, code.collect::<Vec<_>>().join("\n"))
}

#[test]
fn every_language_has_every_message_with_the_same_variables() {
    let english = messages(Language::English);
    for language in Language::ALL {
        let other = messages(language);
        for (id, variables) in &english {
            assert_eq!(other.get(id), Some(variables), "`{id}` in {}", language.name());
        }
        for id in other.keys() {
            assert!(english.contains_key(id), "`{id}` is in {} alone", language.name());
        }
    }
}

#[test]
fn every_message_is_used() {
    let sources = sources();
    for id in messages(Language::English).keys() {
        let literal = format!("\"{id}\"");
        assert!(sources.iter().any(|(_, text)| text.contains(&literal)), "nothing says `{id}`: remove it");
    }
}

#[test]
fn whatever_is_said_exists_and_is_given_its_variables() {
    let english = messages(Language::English);
    for (path, text) in sources() {
        for (id, given) in said(&text) {
            let Some(wanted) = english.get(&id) else { panic!("{}: there is no `{id}`", path.display()) };
            assert_eq!(&given, wanted, "{}: what `{id}` is given", path.display());
        }
    }
}

#[test]
fn every_sentence_made_in_english_is_said_in_every_language_by_what_it_is_given() {
    let given = given_sentences();
    let all = Language::ALL.map(messages).into_iter().reduce(|mut all, more| {
        all.extend(more);
        all
    });
    for language in [Language::German, Language::French] {
        let other = sentences(language);
        for (id, values) in &given {
            let Some(wanted) = other.get(id) else { panic!("`{id}` is not said in {}", language.name()) };
            assert!(wanted.is_subset(values), "`{id}` in {} wants {wanted:?} of {values:?}", language.name());
            assert!(!all.as_ref().unwrap().contains_key(id), "`{id}` is a message of pages, too");
        }
        for id in other.keys() {
            assert!(given.contains_key(id), "nothing says `{id}`: remove it from {}", language.name());
        }
    }
}

/// The sentences that are made in English, with the names of the values that they are given anywhere.
fn given_sentences() -> Messages {
    let mut found = Messages::new();
    let dirs =
        ["marmot-core/src", "marmot-engine/src", "marmot/src"].map(|dir| files(&crates().join(dir), ".rs"));
    for (_, text) in dirs.into_iter().flatten().filter(|path| !is_of_tests(path)).map(read_code) {
        for before in ["said!(", "Said::new(", "named(", "said(", "Step::new("] {
            for (at, _) in text.match_indices(before) {
                // The name of another function or macro may end so.
                if text[..at]
                    .ends_with(|letter: char| letter.is_alphanumeric() || letter == '_' || letter == '.')
                {
                    continue;
                }
                let inside = text[at + before.len()..].trim_start();
                // Functions of other things have such names, too; what they are given are single words.
                let Some((id, _)) = literal(inside).filter(|(id, _)| id.contains('-')) else { continue };
                let mut given = match before {
                    "said!(" => named(&text[at + before.len() - 1..]),
                    _ => BTreeSet::new(),
                };
                let rest = &inside[closing(inside)..];
                given.extend(chained(rest, ".with("));
                found.entry(id.to_owned()).or_default().extend(given);
            }
        }
        // Where one of two names is chosen, or the values are given by another function.
        for (id, values) in ELSEWHERE {
            if text.contains(&format!("\"{id}\"")) {
                found.insert(id.to_owned(), values.iter().map(|name| (*name).to_owned()).collect());
            }
        }
    }
    found
}

/// Sentences whose values stand apart from their names.
const ELSEWHERE: [(&str, &[&str]); 5] = [
    ("held-back", &["used", "needed", "limit"]),
    ("held-back-for-good", &["used", "needed", "limit"]),
    ("failed-never-listened", &["port", "seconds", "ports"]),
    ("failed-listens-elsewhere", &["port", "seconds", "ports"]),
    ("why-load", &["demand", "of", "seconds", "target", "rise", "bound"]),
];

/// The messages that are said in a file, with the names of the variables that they are given.
fn said(text: &str) -> Vec<(String, BTreeSet<String>)> {
    let mut found = Vec::new();
    for before in ["say(", "tell!(", "Message::new("] {
        for (at, _) in text.match_indices(before) {
            let inside = text[at + before.len()..].trim_start();
            let Some((id, rest)) = literal(inside) else { continue };
            let given = match before {
                "tell!(" => named(&text[at + before.len() - 1..]),
                _ => chained(rest.trim_start().trim_start_matches(')'), ".with("),
            };
            // Those of which some variables are given elsewhere are looked at when they are said.
            if before != "Message::new(" || !given.is_empty() {
                found.push((id.to_owned(), given));
            }
        }
    }
    for (at, _) in text.match_indices('"') {
        let Some((id, rest)) = literal(&text[at..]) else { continue };
        if rest.starts_with("|say") || rest.starts_with("|with(") {
            found.push((id.to_owned(), chained(rest, "|with(")));
        }
    }
    found
}

/// A message's name in quotation marks, and what follows it.
fn literal(text: &str) -> Option<(&str, &str)> {
    let (id, rest) = text.strip_prefix('"')?.split_once('"')?;
    let letters = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    (!id.is_empty() && id.chars().all(letters)).then_some((id, rest))
}

/// The names in `…with("name", …)…with("name", …)`.
fn chained(mut text: &str, link: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    while let Some(rest) = text.trim_start().strip_prefix(link) {
        let (name, _) = rest.trim_start().trim_start_matches('"').split_once('"').unwrap();
        names.insert(name.to_owned());
        text = &rest[closing(rest)..];
    }
    names
}

/// The names in `("id", name = …, name = …)`.
fn named(text: &str) -> BTreeSet<String> {
    let inside = &text[1..];
    let inside = &inside[..closing(inside) - 1];
    let (mut depth, mut names, mut word) = (0, BTreeSet::new(), String::new());
    for (at, letter) in inside.char_indices() {
        match letter {
            '(' | '[' | '{' | '<' => depth += 1,
            ')' | ']' | '}' | '>' => depth -= 1,
            '=' if depth == 0 && !inside[at + 1..].starts_with('=') => {
                names.insert(word.trim().to_owned());
            }
            ',' if depth == 0 => {
                word.clear();
                continue;
            }
            _ => {}
        }
        word.push(letter);
    }
    names
}

/// Where what an opened bracket holds is over.
fn closing(text: &str) -> usize {
    let (mut depth, mut quoted) = (1, false);
    for (at, letter) in text.char_indices() {
        match letter {
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    panic!("a bracket is not closed: {}", &text[..text.len().min(80)]);
}

/// What may stand in templates as it is: names, and what programs read.
const AS_IT_IS: [&str; 18] = [
    "Marmot",
    "· Marmot",
    "API",
    "CARGO_PKG_VERSION",
    "marmot doctor",
    "gitlab.example.org",
    "feature/map",
    "API_KEY",
    "MARMOT_SECRETS_DIR",
    "application/json",
    "NAME",
    "https://github.com/you/dashboard",
    "Authorization: Bearer …",
    "marmot app usage",
    "--range",
    "--json",
    "/",
    "…",
];

/// Attributes that people read.
const READ: [&str; 6] = ["aria-label", "placeholder", "title", "alt", "data-copied", "summary"];

#[test]
fn templates_hold_no_text_of_their_own() {
    for (path, text) in sources() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.ends_with(".html") {
            continue;
        }
        for bare in bare(&text) {
            assert!(AS_IT_IS.contains(&bare.as_str()), "{name} says {bare:?}: make it a message");
        }
    }
}

/// The text of a template outside of tags and expressions, and in attributes that people read.
fn bare(template: &str) -> Vec<String> {
    let mut html = String::new();
    let mut rest = template;
    // An expression is a place where something stands: text before and behind it are two.
    while let Some(at) = ["{{", "{%", "{#"].iter().filter_map(|open| rest.find(open)).min() {
        html.push_str(&rest[..at]);
        html.push('\u{0}');
        let close = match &rest[at..at + 2] {
            "{{" => "}}",
            "{%" => "%}",
            _ => "#}",
        };
        rest = &rest[at + rest[at..].find(close).unwrap() + 2..];
    }
    html.push_str(rest);
    let mut found = Vec::new();
    let mut keep = |text: &str| {
        let pieces = text.split('\u{0}').map(str::trim);
        found.extend(pieces.filter(|text| text.chars().any(char::is_alphabetic)).map(str::to_owned));
    };
    for piece in html.split('<').skip(usize::from(html.starts_with('<'))) {
        let (tag, text) = piece.split_once('>').unwrap_or(("", piece));
        keep(text);
        for name in READ {
            let mut after = tag;
            while let Some((_, value)) = after.split_once(&format!(" {name}=\"")) {
                let (value, rest) = value.split_once('"').unwrap_or((value, ""));
                keep(value);
                after = rest;
            }
        }
    }
    found
}
