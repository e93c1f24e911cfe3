//! What engines and registries say when something fails, told so that people know what to do.

use marmot_core::{Said, said};

use super::api::EngineError;
use super::reference::Reference;

/// Why there is no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ImageError {
    #[error("there is no image `{0}`: look for a typing error in its name or its tag")]
    NotFound(String),
    #[error(
        "there is no image `{0}` on this server, which is where it is taken from: ask the operator to put it there, or look \
         for a typing error in its name or its tag"
    )]
    NotHere(String),
    #[error(
        "the registry {registry} does not give out `{image}`: it is private, or there is no such image. Check its name; \
         for a private image, give the project credentials for {registry}"
    )]
    NotAllowed { image: String, registry: String },
    #[error("the registry {registry} does not accept the credentials that are kept for it: give it new ones")]
    WrongCredentials { registry: String },
    #[error(
        "the registry {0} gives out no more images to this server for now, because it has asked for too many: try again \
         later, or keep credentials for it, which are allowed more"
    )]
    RateLimited(String),
    #[error(
        "the image `{image}` is not made for this machine, which is {machine}: build it for linux/{machine}, or for \
         several architectures"
    )]
    WrongArchitecture { image: String, machine: String },
    #[error("the disk of this server is full: the image could not be stored")]
    DiskFull,
    #[error("the registry {registry} cannot be reached: {why}")]
    Unreachable { registry: String, why: String },
    #[error("{0}; ask the operator of this installation to look after it, then try again")]
    Engine(String),
    #[error("the image `{image}` could not be pulled: {why}")]
    Other { image: String, why: String },
}

impl ImageError {
    /// From what an engine said while it pulled an image.
    pub(crate) fn of(said: &str, image: &Reference, with_credentials: bool) -> Self {
        let (name, registry) = (image.to_string(), image.registry().to_owned());
        let text = said.to_ascii_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        if says(&["toomanyrequests", "too many requests", "rate limit"]) {
            Self::RateLimited(registry)
        } else if says(&["no space left on device"]) {
            Self::DiskFull
        } else if says(&[
            "no matching manifest",
            "no image found in manifest list",
            "no image found in image index",
            "does not match the specified platform",
        ]) {
            Self::WrongArchitecture { image: name, machine: machine().to_owned() }
        } else if says(&["invalid username/password", "incorrect username or password"])
            || with_credentials && says(&["unauthorized"])
        {
            Self::WrongCredentials { registry }
        } else if says(&[
            "unauthorized",
            "authentication required",
            "denied",
            "forbidden",
            "no basic auth credentials",
            "requires 'docker login'",
        ]) {
            Self::NotAllowed { image: name, registry }
        } else if says(&[
            "manifest unknown",
            "name unknown",
            "not found",
            "no such image",
            "does not exist",
            "name_unknown",
        ]) {
            Self::NotFound(name)
        } else if says(&["no such host"]) {
            Self::Unreachable { registry, why: "no such host is known".to_owned() }
        } else if says(&["connection refused", "no route to host", "network is unreachable"]) {
            Self::Unreachable { registry, why: "nothing answers there".to_owned() }
        } else if says(&["x509:", "server gave http response to https client"]) {
            let why = "it shows no certificate that this server trusts".to_owned();
            Self::Unreachable { registry, why }
        } else if says(&["timeout", "timed out", "deadline exceeded"]) {
            Self::Unreachable { registry, why: "it does not answer in time".to_owned() }
        } else {
            Self::Other { image: name, why: short(said) }
        }
    }

    pub(crate) fn of_engine(error: &EngineError, image: &Reference, with_credentials: bool) -> Self {
        match error {
            EngineError::Refused { message, .. } => Self::of(message, image, with_credentials),
            other => Self::Engine(other.to_string()),
        }
    }
}

/// Why a registry did not take an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotPushed(String);

impl NotPushed {
    /// From what an engine said while it pushed an image.
    pub(crate) fn of(said: &str, image: &Reference, with_credentials: bool) -> Self {
        let registry = image.registry();
        Self(match ImageError::of(said, image, with_credentials) {
            ImageError::NotAllowed { .. } | ImageError::WrongCredentials { .. } if with_credentials => {
                format!(
                    "the registry {registry} does not take `{image}` with the credentials that this server has for it"
                )
            }
            ImageError::NotAllowed { .. } | ImageError::WrongCredentials { .. } => format!(
                "the registry {registry} does not take `{image}` without credentials, and this server has none for it"
            ),
            told @ (ImageError::Unreachable { .. } | ImageError::Engine(_)) => told.to_string(),
            _ => format!("the registry {registry} did not take `{image}`: {}", short(said)),
        })
    }

    pub(crate) fn of_engine(error: &EngineError, image: &Reference, with_credentials: bool) -> Self {
        match error {
            EngineError::Refused { message, .. } => Self::of(message, image, with_credentials),
            other => Self(ImageError::Engine(other.to_string()).to_string()),
        }
    }
}

/// Why a container could not be started, from what an engine said; `None` when it says nothing that people can use.
pub(crate) fn not_started(said: &str, program: Option<&str>) -> Option<Said> {
    let text = said.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let program = program.unwrap_or("what it starts");
    if says(&["permission denied"]) && says(&["exec"]) {
        return Some(said!(
            "start-not-executable",
            "`{program}` in the image may not be executed by the user it runs as",
            program = program
        ));
    }
    let missing = says(&["executable file", "no such file or directory", "not found"]);
    if missing && says(&["exec", "$path"]) {
        return Some(said!(
            "start-not-in-image",
            "there is no program `{program}` in the image",
            program = program
        ));
    }
    if says(&["no command specified", "no command or entrypoint", "no command or entry point"]) {
        return Some(said!(
            "image-no-command",
            "the image does not say what to start: give the launcher a command"
        ));
    }
    if says(&["no users found", "unable to find user", "no matching entries in passwd"]) {
        return Some(said!(
            "start-no-user",
            "the image says that it runs as a user that it does not have: give the launcher a user id"
        ));
    }
    if says(&["exec format error"]) {
        return Some(said!(
            "start-wrong-machine",
            "`{program}` is not made for this machine, which is {machine}",
            program = program,
            machine = machine()
        ));
    }
    None
}

/// Whether an engine says that it has no program for the first process of a container.
pub(crate) fn lacks_init(said: &str) -> bool {
    let text = said.to_ascii_lowercase();
    text.contains("init binary") || text.contains("docker-init") || text.contains("\"catatonit\"")
}

/// The architecture of this machine, as images name it.
pub(crate) fn machine() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Cut to what fits a message, in one line.
pub(crate) fn short(said: &str) -> String {
    let line: String = said.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= 300 { line } else { line.chars().take(300).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(said: &str, with_credentials: bool) -> String {
        ImageError::of(said, &"ghcr.io/org/app:1".parse().unwrap(), with_credentials).to_string()
    }

    #[test]
    fn what_engines_and_registries_say_becomes_words() {
        for (said, expected) in [
            (
                "initializing source docker://ghcr.io/org/app:1: reading manifest 1 in ghcr.io/org/app: manifest unknown: manifest unknown",
                "there is no image `ghcr.io/org/app:1`",
            ),
            ("manifest for ghcr.io/org/app:1 not found: manifest unknown", "there is no image"),
            (
                "pull access denied for org/app, repository does not exist or may require 'docker login': denied",
                "does not give out",
            ),
            ("reading manifest 1: unauthorized: authentication required", "does not give out"),
            ("toomanyrequests: You have reached your pull rate limit.", "for now"),
            (
                "no matching manifest for linux/amd64 in the manifest list entries",
                "not made for this machine",
            ),
            (
                "choosing image instance: no image found in manifest list for architecture \"amd64\"",
                "not made for this machine",
            ),
            ("write /var/lib/x: no space left on device", "disk of this server is full"),
            (
                "pinging container registry ghcr.io: Get \"https://ghcr.io/v2/\": dial tcp: lookup ghcr.io on 10.0.0.1:53: no such host",
                "cannot be reached: no such host",
            ),
            ("dial tcp 127.0.0.1:9405: connect: connection refused", "nothing answers there"),
            ("x509: certificate signed by unknown authority", "no certificate that this server trusts"),
            ("something\nelse", "could not be pulled: something else"),
        ] {
            assert!(told(said, false).contains(expected), "{said} → {}", told(said, false));
        }
        assert!(
            told("unauthorized: authentication required", true).contains("does not accept the credentials")
        );
    }

    #[test]
    fn a_registry_that_takes_no_image_is_told_in_words() {
        let told =
            |said: &str, with| NotPushed::of(said, &"ghcr.io/org/app:1".parse().unwrap(), with).to_string();
        assert!(told("unauthorized: authentication required", false).contains("without credentials"));
        assert!(
            told("denied: requested access to the resource is denied", true).contains("with the credentials")
        );
        assert!(told("dial tcp 1.2.3.4:5: connect: connection refused", true).contains("cannot be reached"));
        assert!(told("something", true).contains("did not take `ghcr.io/org/app:1`: something"));
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        for said in [
            "crun: executable file `nonesuch` not found in $PATH: No such file or directory: OCI runtime attempted to invoke a command that was not found",
            "runc: runc create failed: unable to start container process: exec: \"nonesuch\": executable file not found in $PATH",
            "ERROR (catatonit:2): failed to exec pid1: No such file or directory",
            "[FATAL tini (7)] exec nonesuch failed: No such file or directory",
        ] {
            assert_eq!(
                not_started(said, Some("nonesuch")).unwrap(),
                "there is no program `nonesuch` in the image"
            );
        }
        assert!(
            not_started(
                "exec: \"/etc/passwd\": permission denied: OCI permission denied",
                Some("/etc/passwd")
            )
            .unwrap()
            .contains("may not be executed")
        );
        assert_eq!(not_started("hello", None), None);
    }
}
