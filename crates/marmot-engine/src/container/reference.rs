//! References of images: read as people write them, written out in full, so that every engine takes them for the same.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// The registry of references that name none.
const USUAL_REGISTRY: &str = "docker.io";
/// Longest reference.
const LONGEST: usize = 512;

/// `registry/repository:tag` or `registry/repository@digest`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    version: Version,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Version {
    Tag(String),
    Digest(String),
}

/// What is no reference of an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is no reference of an image, like `ghcr.io/org/app:1.2` or `python:3.12-slim`: {0}")]
pub struct WrongReference(&'static str);

impl FromStr for Reference {
    type Err = WrongReference;

    fn from_str(text: &str) -> Result<Self, WrongReference> {
        let wrong = |why| Err(WrongReference(why));
        if text.contains("://") {
            return wrong("it is given without `https://`");
        }
        if text.len() > LONGEST || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return wrong("it holds a space or other characters that it may not, or is too long");
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        let (registry, rest) = match name.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest),
            _ => (USUAL_REGISTRY, name),
        };
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        let registry = registry.to_ascii_lowercase();
        if !is_host(&registry) {
            return wrong("the name of its registry is no host");
        }
        if path.is_empty() || !path.split('/').all(is_component) {
            return wrong(
                "its path must be of small letters, digits and single `.`, `_` or `-` between them",
            );
        }
        if text.starts_with("sha256:") {
            return wrong("the id of an image means something only to the engine that has it");
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return wrong("its tag must be of letters, digits, `.`, `_` and `-`");
        }
        let version = match digest {
            Some(digest) if is_digest(digest) => Version::Digest(digest.to_owned()),
            Some(_) => return wrong("its digest must be `sha256:` and 64 hexadecimal digits"),
            None => Version::Tag(tag.unwrap_or("latest").to_owned()),
        };
        let usual = ["docker.io", "index.docker.io", "registry-1.docker.io"].contains(&registry.as_str());
        let repository =
            if usual && !path.contains('/') { format!("library/{path}") } else { path.to_owned() };
        let registry = if usual { USUAL_REGISTRY.to_owned() } else { registry };
        Ok(Self { registry, repository, version })
    }
}

impl Reference {
    /// The host of its registry, perhaps with a port.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Registry and repository.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The tag or the digest.
    pub(crate) fn version(&self) -> &str {
        match &self.version {
            Version::Tag(text) | Version::Digest(text) => text,
        }
    }

    /// Whether it is named by what it is.
    pub(crate) fn is_pinned(&self) -> bool {
        matches!(self.version, Version::Digest(_))
    }

    /// The same image, named by what it is.
    pub(crate) fn at(&self, digest: &str) -> Option<Self> {
        is_digest(digest).then(|| Self { version: Version::Digest(digest.to_owned()), ..self.clone() })
    }

    /// Whether its registry is this machine or on a private network, as far as its name tells.
    pub fn is_private(&self) -> bool {
        let host = self.registry.rsplit_once(':').map_or(self.registry.as_str(), |(host, port)| {
            if port.bytes().all(|byte| byte.is_ascii_digit()) { host } else { &self.registry }
        });
        match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            // Registries with a name and certificate have no need of addresses.
            Ok(_) => true,
            Err(_) => {
                !host.contains('.') || host.ends_with(".localhost") || host.ends_with(".internal")
                || host.ends_with(".local")
                // Numbers are read as addresses in more ways than one.
                || host.rsplit('.').next().is_some_and(|last| last.starts_with(|first: char| first.is_ascii_digit()))
            }
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if matches!(self.version, Version::Tag(_)) { ':' } else { '@' };
        write!(f, "{}/{}{mark}{}", self.registry, self.repository, self.version())
    }
}

/// Images that are taken from the engine of this machine: one, with or without a tag, or all whose names begin so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalImages {
    named: Named,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Named {
    One(Reference),
    AnyTag(String),
    Below(String),
}

impl FromStr for LocalImages {
    type Err = WrongReference;

    fn from_str(text: &str) -> Result<Self, WrongReference> {
        let named = match text.strip_suffix('/') {
            Some(dir) => Named::Below(format!("{}/", dir.parse::<Reference>()?.name())),
            None => {
                let one: Reference = text.parse()?;
                let last = text.rsplit('/').next().unwrap_or(text);
                if last.contains([':', '@']) { Named::One(one) } else { Named::AnyTag(one.name()) }
            }
        };
        Ok(Self { named })
    }
}

impl LocalImages {
    /// Whether this image is one of them.
    pub fn have(&self, image: &Reference) -> bool {
        match &self.named {
            Named::One(one) => one == image,
            Named::AnyTag(name) => *name == image.name(),
            Named::Below(dir) => image.name().starts_with(dir),
        }
    }
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let port_fine = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    port_fine && host.split('.').all(label)
}

fn is_component(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = |byte: Option<&u8>| byte.is_some_and(|byte| inner(*byte));
    let bytes = text.as_bytes();
    ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().all(|&byte| inner(byte) || b"._-".contains(&byte))
        && !text.contains("..")
}

fn is_tag(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    first
        && text.len() <= 128
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn full(text: &str) -> String {
        text.parse::<Reference>().unwrap().to_string()
    }

    #[test]
    fn short_names_are_written_out() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        for (given, expected) in [
            ("python", "docker.io/library/python:latest"),
            ("python:3.12-slim", "docker.io/library/python:3.12-slim"),
            ("rocker/shiny", "docker.io/rocker/shiny:latest"),
            ("docker.io/rocker/shiny:4", "docker.io/rocker/shiny:4"),
            ("index.docker.io/python", "docker.io/library/python:latest"),
            ("GHCR.io/org/app:V1", "ghcr.io/org/app:V1"),
            ("localhost:5000/a/b/c", "localhost:5000/a/b/c:latest"),
        ] {
            assert_eq!(full(given), expected);
        }
        // Where both are given, the digest says which one.
        assert_eq!(full(&format!("ghcr.io/o/a:1@{digest}")), format!("ghcr.io/o/a@{digest}"));
    }

    #[test]
    fn what_is_none_is_refused() {
        for given in [
            "",
            " ",
            "a b",
            "https://ghcr.io/o/a",
            "ghcr.io/",
            "ghcr.io/O/a",
            "a:",
            "a:b:c",
            "-a",
            "a/../b",
            "a//b",
            "a@sha256:12",
            "a:-t",
            "user@host/x",
            "ghcr.io:0/a",
            "ghcr.io:99999/a",
            "a\nb",
            "ghcr.io/a:é",
            "x?y",
            "a&b=c",
            "sha256:abc",
        ] {
            assert!(given.parse::<Reference>().is_err(), "{given}");
        }
    }

    #[test]
    fn registries_of_this_machine_and_of_private_networks_are_told_apart() {
        for private in [
            "localhost:5000/a",
            "127.0.0.1:5000/a",
            "10.0.0.1.:5/a",
            "registry:5000/a",
            "169.254.169.254/a/b",
            "0x7f.0.0.1/a",
            "x.local/a",
            "metadata.google.internal/a",
        ] {
            assert!(private.parse::<Reference>().map_or(true, |found| found.is_private()), "{private}");
        }
        for public in ["ghcr.io/o/a", "python", "registry.example.org:5000/a"] {
            assert!(!public.parse::<Reference>().unwrap().is_private(), "{public}");
        }
    }

    #[test]
    fn images_of_this_machine_are_those_that_are_named_and_no_others() {
        let local =
            |list: &str, image: &str| list.parse::<LocalImages>().unwrap().have(&image.parse().unwrap());
        assert!(
            local("localhost/shiny:1", "localhost/shiny:1")
                && !local("localhost/shiny:1", "localhost/shiny:2")
        );
        assert!(
            local("localhost/shiny", "localhost/shiny:2")
                && !local("localhost/shiny", "localhost/shiny-secret:1")
        );
        assert!(local("localhost/lab/", "localhost/lab/x:1") && !local("localhost/lab/", "localhost/lab:1"));
        assert!(
            !local("localhost/lab/", "localhost/laboratory/x") && !local("localhost/lab/", "ghcr.io/lab/x")
        );
        assert!(local("shiny", "docker.io/library/shiny:3"));
        assert!("/".parse::<LocalImages>().is_err() && "".parse::<LocalImages>().is_err());
    }

    proptest! {
        #[test]
        fn whatever_is_given_is_refused_or_means_the_same_when_written_out(text in "\\PC{0,60}|[a-z0-9.:/@_-]{1,60}") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
            }
        }
    }
}
