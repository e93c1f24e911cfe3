//! What a `Dockerfile` asks for, as far as it decides whether it may be built here. The engine reads it for itself.
//!
//! Every project's images are in one engine. So a build may only start from what a registry gives out: an image that is
//! merely there may be somebody else's, and so may be what other builds left in a shared cache.

use std::collections::{BTreeMap, BTreeSet};

use crate::container::reference::Reference;

/// Longest file that is read.
pub(super) const LONGEST: u64 = 256 << 10;

/// Why a `Dockerfile` is not built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum RefusedDockerfile {
    #[error(
        "line {0} of the Dockerfile names a builder of its own with `# syntax=`: only the engine's own is offered; leave the line out"
    )]
    Syntax(usize),
    #[error("line {line} of the Dockerfile asks for `{what}`, which is not offered here: {why}")]
    NotOffered { line: usize, what: String, why: &'static str },
    #[error("line {line} of the Dockerfile takes `{image}`: {why}")]
    Image { line: usize, image: String, why: String },
    #[error("the Dockerfile does not begin from any image: it has no line `FROM …`")]
    NoBase,
}

/// What a `Dockerfile` asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Asks {
    /// The images it takes from registries.
    pub(super) images: Vec<Reference>,
    /// The arguments it declares.
    pub(super) arguments: BTreeSet<String>,
    /// The secrets its steps want.
    pub(super) secrets: Vec<AskedSecret>,
}

/// A secret that a step wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AskedSecret {
    pub(super) line: usize,
    pub(super) name: String,
    /// The step is not done without it.
    pub(super) required: bool,
}

/// Checks a `Dockerfile`, and returns what it asks for. `given`: what its arguments are given by whoever has it built.
pub(super) fn check(
    text: &str,
    given: &BTreeMap<String, String>,
    allow_private: bool,
) -> Result<Asks, RefusedDockerfile> {
    let mut seen = Seen { given: given.clone(), ..Seen::default() };
    for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line.trim())) {
        let Some(directive) = line.strip_prefix('#') else {
            if line.is_empty() {
                continue;
            }
            break;
        };
        let directive = directive.trim_start().to_ascii_lowercase();
        if directive.split('=').next().is_some_and(|name| name.trim() == "syntax") && directive.contains('=')
        {
            return Err(RefusedDockerfile::Syntax(number));
        }
    }
    for (number, instruction) in instructions(text) {
        seen.look(number, &instruction, allow_private)?;
    }
    if !seen.begun {
        return Err(RefusedDockerfile::NoBase);
    }
    Ok(seen.asks)
}

#[derive(Default)]
struct Seen {
    begun: bool,
    given: BTreeMap<String, String>,
    /// Arguments that are set before the first `FROM`.
    arguments: BTreeMap<String, String>,
    stages: BTreeSet<String>,
    asks: Asks,
}

impl Seen {
    fn look(&mut self, line: usize, text: &str, allow_private: bool) -> Result<(), RefusedDockerfile> {
        let mut words = text.split_whitespace();
        let name = words.next().unwrap_or_default().to_ascii_uppercase();
        let words: Vec<&str> = words.collect();
        let flags = words.iter().copied().take_while(|word| word.starts_with("--"));
        match name.as_str() {
            "ARG" => words.into_iter().for_each(|word| self.argument(word)),
            "FROM" => {
                self.begun = true;
                let rest: Vec<&str> = words.into_iter().skip_while(|word| word.starts_with("--")).collect();
                self.image(line, rest.first().copied().unwrap_or_default(), allow_private)?;
                if let [_, between, stage, ..] = rest[..]
                    && between.eq_ignore_ascii_case("as")
                {
                    self.stages.insert(stage.to_ascii_lowercase());
                }
            }
            "COPY" | "ADD" => {
                for from in flags.filter_map(|flag| flag.strip_prefix("--from=")) {
                    self.image_as_written(line, from, allow_private)?;
                }
            }
            "RUN" => {
                for flag in flags {
                    self.run_flag(line, flag, allow_private)?;
                }
            }
            // What it says is done in the build of another image, unseen by this one.
            "ONBUILD" => {
                let (first, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
                debug_assert!(first.eq_ignore_ascii_case("onbuild"));
                self.look(line, rest.trim_start(), allow_private)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// What is given for an argument counts more than what the file says. What is set after the first `FROM` names no
    /// image.
    fn argument(&mut self, word: &str) {
        let (name, otherwise) =
            word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        let otherwise = otherwise.map(|value| value.trim_matches(['"', '\'']));
        self.asks.arguments.insert(name.to_owned());
        if self.begun {
            return;
        }
        let value = match self.given.get(name) {
            Some(given) => Some(given.clone()),
            None => otherwise.map(|value| self.expanded(value).unwrap_or_default()),
        };
        self.arguments.extend(value.map(|value| (name.to_owned(), value)));
    }

    fn run_flag(&mut self, line: usize, flag: &str, allow_private: bool) -> Result<(), RefusedDockerfile> {
        let refused = |why| Err(RefusedDockerfile::NotOffered { line, what: flag.to_owned(), why });
        let Some(mount) = flag.strip_prefix("--mount=") else {
            return match flag.split_once('=') {
                Some(("--network", "none" | "default")) => Ok(()),
                Some(("--network", _)) => refused("steps have a network of their own"),
                _ => refused("steps have no rights but the usual ones"),
            };
        };
        let options: Vec<(&str, &str)> =
            mount.split(',').map(|option| option.split_once('=').unwrap_or((option, ""))).collect();
        let option = |name: &str| options.iter().find(|(found, _)| *found == name).map(|(_, value)| *value);
        match option("type").unwrap_or("bind") {
            "tmpfs" => {}
            "bind" => {
                if let Some(from) = option("from") {
                    self.image_as_written(line, from, allow_private)?;
                }
            }
            "secret" => {
                let target = || option("target").or(option("dst")).or(option("destination"));
                let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
                let name = option("id").map(str::to_owned).or_else(|| target().map(last)).unwrap_or_default();
                let required = option("required").is_some_and(|value| matches!(value, "" | "true" | "1"));
                self.asks.secrets.push(AskedSecret { line, name, required });
            }
            "cache" => return refused("a cache would be shared with the builds of others; leave it out"),
            _ => return refused("builds are given no keys of others"),
        }
        Ok(())
    }

    /// An image where no arguments are replaced: whether the engine replaces some there depends on its version.
    fn image_as_written(
        &mut self,
        line: usize,
        name: &str,
        allow_private: bool,
    ) -> Result<(), RefusedDockerfile> {
        if name.contains('$') {
            let why = "arguments are only replaced in `FROM`: give the image a name there, `FROM … AS name`";
            return Err(RefusedDockerfile::Image { line, image: name.to_owned(), why: why.to_owned() });
        }
        self.image(line, name, allow_private)
    }

    /// An image that is named somewhere: a stage of this file, nothing, or one from a registry.
    fn image(&mut self, line: usize, name: &str, allow_private: bool) -> Result<(), RefusedDockerfile> {
        let refused =
            |image: &str, why: String| RefusedDockerfile::Image { line, image: image.to_owned(), why };
        let Some(image) = self.expanded(name) else {
            return Err(refused(
                name,
                "it holds an argument that has no value before the first `FROM`".to_owned(),
            ));
        };
        let known = self.stages.contains(&image.to_ascii_lowercase());
        if known
            || image == "scratch"
            || image.parse::<usize>().is_ok_and(|number| number < 100 && self.begun)
        {
            return Ok(());
        }
        if image.len() <= 64 && image.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(refused(
                &image,
                "it may be the beginning of an image's id; name an image of a registry in full".to_owned(),
            ));
        }
        let reference: Reference = image.parse().map_err(|error| refused(&image, format!("{error}")))?;
        if reference.is_private() && !allow_private {
            let why = "its registry is this machine or on a private network, where no images are taken from \
                       (an operator can allow that with `allow_private_networks`)";
            return Err(refused(&image, why.to_owned()));
        }
        if !self.asks.images.contains(&reference) {
            self.asks.images.push(reference);
        }
        Ok(())
    }

    /// `$NAME`, `${NAME}` and `${NAME:-otherwise}` replaced; `None` where one has no value.
    fn expanded(&self, text: &str) -> Option<String> {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            let (name, otherwise) = if let Some(inner) = rest.strip_prefix('{') {
                let (inner, after) = inner.split_once('}')?;
                rest = after;
                match inner.split_once(":-") {
                    Some((name, otherwise)) => (name, Some(otherwise)),
                    None => (inner, None),
                }
            } else {
                let end = rest.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
                let (name, after) = rest.split_at(end.unwrap_or(rest.len()));
                rest = after;
                (name, None)
            };
            let value = self.arguments.get(name).map(String::as_str).filter(|value| !value.is_empty());
            out.push_str(value.or(otherwise)?);
        }
        out.push_str(rest);
        Some(out)
    }
}

/// The instructions with the numbers of their first lines: lines that go on are joined, comments are left out, and so is
/// what is between `<<WORD` and `WORD`.
fn instructions(text: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let (mut going_on, mut ends) = (false, Vec::<String>::new());
    for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line.trim())) {
        if let Some(end) = ends.first() {
            if line == end {
                ends.remove(0);
            }
            continue;
        }
        if line.starts_with('#') || line.is_empty() {
            continue;
        }
        let (part, more) = match line.strip_suffix('\\').or_else(|| line.strip_suffix('`')) {
            Some(part) => (part.trim_end(), true),
            None => (line, false),
        };
        match found.last_mut() {
            Some((_, last)) if going_on => {
                last.push(' ');
                last.push_str(part);
            }
            _ => found.push((number, part.to_owned())),
        }
        going_on = more;
        if !more && let Some((_, whole)) = found.last() {
            ends = here_documents(whole);
        }
    }
    found
}

fn here_documents(instruction: &str) -> Vec<String> {
    let name = instruction.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    if !["RUN", "COPY", "ADD"].contains(&name.as_str()) {
        return Vec::new();
    }
    let words = instruction.split_whitespace().filter_map(|word| word.strip_prefix("<<"));
    let words = words.map(|word| word.trim_start_matches('-').trim_matches(['"', '\'']).to_owned());
    words.filter(|word| !word.is_empty() && !word.starts_with('<')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn checked(text: &str, allow_private: bool) -> Result<Asks, RefusedDockerfile> {
        check(text, &BTreeMap::new(), allow_private)
    }

    fn images(text: &str) -> Vec<String> {
        checked(text, false).unwrap().images.iter().map(ToString::to_string).collect()
    }

    fn refused(text: &str) -> String {
        checked(text, false).unwrap_err().to_string()
    }

    #[test]
    fn an_ordinary_file_is_fine_and_its_images_are_known() {
        let text = "# escape=\\\nARG VERSION=3.12\nFROM python:${VERSION}-slim AS base\nRUN --mount=type=tmpfs,target=/x \\\n  \
                    # a comment\n  pip install -r requirements.txt\nFROM base\nCOPY --from=base /x /x\nCOPY --from=0 /y /y\n\
                    COPY --from=ghcr.io/astral-sh/uv:0.5 /uv /bin/\nRUN <<EOF\nFROM localhost/x\nEOF\nFROM scratch\n";
        assert_eq!(images(text), ["docker.io/library/python:3.12-slim", "ghcr.io/astral-sh/uv:0.5"]);
    }

    #[test]
    fn what_reaches_beyond_the_build_is_refused_with_its_line() {
        for (text, expected) in [
            ("# syntax=evil.example/frontend\nFROM python", "line 1"),
            ("#Syntax = docker/dockerfile:1\nFROM python", "# syntax="),
            ("FROM python\nRUN --security=insecure mount", "no rights but the usual ones"),
            ("FROM python\nRUN --network=host curl 127.0.0.1", "a network of their own"),
            (
                "FROM python\nRUN --mount=type=cache,target=/root/.cache pip install x",
                "shared with the builds of others",
            ),
            ("FROM python\nRUN --mount=type=ssh git clone x", "no keys of others"),
            ("ARG S=python\nFROM python\nARG S=localhost/x\nCOPY --from=$S / /", "only replaced in `FROM`"),
            ("ARG S=python\nFROM python\nRUN --mount=type=bind,from=$S id", "only replaced in `FROM`"),
            ("FROM python\nRUN --mount=type=bind,from=localhost/b,target=/b cat /b", "private network"),
            ("FROM localhost/other-project", "private network"),
            ("FROM 127.0.0.1:5000/x", "private network"),
            ("FROM 31a5543d1409", "an image's id"),
            ("ARG B=ab\nFROM $B", "an image's id"),
            ("FROM ${MISSING}", "has no value"),
            ("FROM python\nCOPY --from=deadbeef /etc /x", "an image's id"),
            ("FROM python\nONBUILD RUN --network=host id", "a network of their own"),
            ("FROM sha256:abc", "reference"),
            ("RUN true", "FROM"),
            ("", "FROM"),
        ] {
            assert!(refused(text).contains(expected), "{text:?}: {}", refused(text));
        }
        assert!(checked("FROM 127.0.0.1:5000/x", true).is_ok(), "where an operator allows it");
    }

    #[test]
    fn arguments_that_are_given_count_more_than_the_files_own_and_are_checked_like_them() {
        let given = |value: &str| BTreeMap::from([("BASE".to_owned(), value.to_owned())]);
        for text in ["ARG BASE\nFROM $BASE", "ARG BASE=python\nFROM $BASE", "ARG BASE=x B=$BASE\nFROM $B"] {
            let asks = check(text, &given("alpine:3"), false).unwrap();
            assert_eq!(asks.images[0].to_string(), "docker.io/library/alpine:3", "{text}");
            let why = check(text, &given("localhost/other-project"), false).unwrap_err().to_string();
            assert!(why.contains("private network"), "{text}: {why}");
        }
    }

    #[test]
    fn arguments_and_secrets_are_known_by_name() {
        let text = "ARG A=1 B\nFROM python\nARG C\nRUN --mount=type=secret,id=token,required=true x\n\
                    RUN --mount=type=secret,target=/run/secrets/netrc,mode=0400 y\n";
        let asks = checked(text, false).unwrap();
        assert_eq!(asks.arguments.iter().map(String::as_str).collect::<Vec<_>>(), ["A", "B", "C"]);
        let secrets: Vec<_> = asks.secrets.iter().map(|one| (one.line, &*one.name, one.required)).collect();
        assert_eq!(secrets, [(4, "token", true), (5, "netrc", false)]);
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "(?s).{0,200}|((FROM|RUN|ARG|COPY|ONBUILD) [\\$\\{\\}a-z:=,<\\-\\\\ ]{0,20}\n){0,8}") {
            let _ = checked(&text, false);
        }
    }
}
