//! Addresses of repositories, revisions and directories: parsed as data, and refused in words, before any program
//! sees them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use marmot_core::{Said, said};
use url::{Host, Url};

use crate::wanted::Source;

const ADDRESS_BYTES: usize = 2048;
const REVISION_BYTES: usize = 255;
const DIRECTORY_BYTES: usize = 1024;

/// A source that is not built from. Says what was given, why not, and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidSource(Said);

impl InvalidSource {
    /// The same, with what other languages say it by.
    pub fn said(&self) -> Said {
        self.0.clone()
    }
}

/// What an installation allows beyond public hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Allowed {
    /// Repositories on this machine, by path.
    pub local_repositories: bool,
    /// Hosts of private networks and this machine's own, also by plain `http://`.
    pub private_networks: bool,
}

/// Refuses a source that no build would accept, without touching the network.
///
/// # Errors
/// Says which part is wrong, what was given, and what is allowed.
pub fn check(source: &Source, allowed: Allowed) -> Result<(), InvalidSource> {
    CheckedSource::new(source, allowed).map(drop)
}

/// A source whose parts may be given to git.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CheckedSource {
    pub(super) address: Address,
    pub(super) revision: Option<String>,
    /// Without `.`, `..`, empty or absolute parts; absent for the root.
    pub(super) context_dir: Option<String>,
}

/// The address of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// As git is given it.
    pub(super) text: String,
    pub(super) transport: Transport,
}

/// How a repository is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Transport {
    Https { host: String, port: u16 },
    Http { host: String, port: u16 },
    Ssh { host: String, port: u16 },
    Local(PathBuf),
}

impl Transport {
    /// The one protocol that git may speak for it.
    pub(super) fn protocol(&self) -> &'static str {
        match self {
            Self::Https { .. } => "https",
            Self::Http { .. } => "http",
            Self::Ssh { .. } => "ssh",
            Self::Local(_) => "file",
        }
    }
}

impl Transport {
    /// Whether it leads to `host`, which may have a port; without one, the usual port is meant.
    pub(super) fn is_at(&self, host: &str) -> bool {
        let (own, port, usual) = match self {
            Self::Https { host, port } => (host, *port, 443),
            Self::Http { host, port } => (host, *port, 80),
            Self::Ssh { host, port } => (host, *port, 22),
            Self::Local(_) => return false,
        };
        host.eq_ignore_ascii_case(&format!("{own}:{port}"))
            || (port == usual && host.eq_ignore_ascii_case(own))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl CheckedSource {
    pub(super) fn new(source: &Source, allowed: Allowed) -> Result<Self, InvalidSource> {
        Ok(Self {
            address: Address::parse(&source.repository, allowed)?,
            revision: source
                .revision
                .as_deref()
                .map(str::trim)
                .filter(|r| !r.is_empty())
                .map(revision)
                .transpose()?,
            context_dir: source
                .context_dir
                .as_deref()
                .map(directory)
                .transpose()?
                .filter(|dir| !dir.is_empty()),
        })
    }
}

impl Address {
    /// Reads the address of a repository.
    pub(super) fn parse(given: &str, allowed: Allowed) -> Result<Self, InvalidSource> {
        let given = given.trim();
        if given.is_empty() {
            return Err(InvalidSource(said!(
                "source-empty",
                "the address of the repository is empty; {forms}",
                forms = forms(allowed)
            )));
        }
        if given.len() > ADDRESS_BYTES {
            return Err(InvalidSource(said!(
                "source-too-long",
                "the address of the repository has {count} bytes; at most {most} are allowed",
                count = given.len(),
                most = ADDRESS_BYTES
            )));
        }
        if given.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') || given.starts_with('-') {
            return Err(refused(
                given,
                said!("source-why-characters", "it has characters that no address has"),
                allowed,
            ));
        }
        if let Some((scheme, _)) = given.split_once("://") {
            return match scheme.to_ascii_lowercase().as_str() {
                "https" | "http" => Self::web(given, allowed),
                "ssh" => Self::ssh(given, allowed),
                "file" => Self::local(&given["file://".len()..], given, allowed),
                _ => Err(refused(
                    given,
                    said!("source-why-kind", "this kind of address is not allowed"),
                    allowed,
                )),
            };
        }
        if given.contains("::") && !given.contains('[') {
            return Err(refused(
                given,
                said!("source-why-helpers", "git's transport helpers are not allowed"),
                allowed,
            ));
        }
        if given.starts_with(['/', '.', '~']) {
            return Self::local(given, given, allowed);
        }
        match given.split_once(':') {
            Some((front, path)) if !front.contains('/') => Self::scp_like(front, path, given, allowed),
            _ => Err(refused(given, said!("source-why-no-scheme", "it has no `https://` in front"), allowed)),
        }
    }

    fn web(given: &str, allowed: Allowed) -> Result<Self, InvalidSource> {
        let url = Url::parse(given).map_err(|error| refused(given, error.to_string(), allowed))?;
        if !url.username().is_empty() || url.password().is_some() || authority(given).contains('@') {
            // Not repeated in the message: it may be a password.
            return Err(InvalidSource(said!(
                "source-has-login",
                "the address of the repository contains a user name or password; everybody who may read the project \
                 could read it: give the address without"
            )));
        }
        if authority(given).is_empty() {
            return Err(refused(given, said!("source-why-no-host", "it names no host"), allowed));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refused(
                given,
                said!("source-why-query", "an address of a repository has no `?` and no `#`"),
                allowed,
            ));
        }
        if url.path().trim_matches('/').is_empty() {
            return Err(refused(
                given,
                said!("source-why-no-repository", "it names a host, but no repository on it"),
                allowed,
            ));
        }
        let host = match url.host() {
            Some(Host::Domain(name)) => host_name(name, given, allowed)?,
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            None => return Err(refused(given, said!("source-why-no-host", "it names no host"), allowed)),
        };
        check_literal(&host, given, allowed)?;
        let port = url.port_or_known_default().unwrap_or(443);
        let transport = match url.scheme() {
            "https" => Transport::Https { host, port },
            _ if allowed.private_networks => Transport::Http { host, port },
            _ => {
                return Err(refused(
                    given,
                    said!(
                        "source-why-http",
                        "`http://` is not allowed, since anybody on the way could change the code"
                    ),
                    allowed,
                ));
            }
        };
        // What git reads is what was checked: the serialisation, in which every disguise of a host is undone.
        Ok(Self { text: url.to_string(), transport })
    }

    fn ssh(given: &str, allowed: Allowed) -> Result<Self, InvalidSource> {
        let (authority, path) = given["ssh://".len()..].split_once('/').ok_or_else(|| {
            refused(
                given,
                said!("source-why-no-repository", "it names a host, but no repository on it"),
                allowed,
            )
        })?;
        let (user, host) = split_user(authority, given, allowed)?;
        let (host, port) = match host.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                let port = port.parse().map_err(|_| {
                    refused(given, said!("source-why-port", "the port is not a number"), allowed)
                })?;
                (host, Some(port))
            }
            _ => (host, None),
        };
        let host = ssh_host(host, given, allowed)?;
        let path = ssh_path(path, given, allowed)?;
        let user = user.map(|user| format!("{user}@")).unwrap_or_default();
        let bracketed = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let shown_port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let text = format!("ssh://{user}{bracketed}{shown_port}/{path}");
        Ok(Self { text, transport: Transport::Ssh { host, port: port.unwrap_or(22) } })
    }

    fn scp_like(front: &str, path: &str, given: &str, allowed: Allowed) -> Result<Self, InvalidSource> {
        let (user, host) = split_user(front, given, allowed)?;
        let host = ssh_host(host, given, allowed)?;
        let path = ssh_path(path, given, allowed)?;
        let user = user.map(|user| format!("{user}@")).unwrap_or_default();
        Ok(Self { text: format!("{user}{host}:{path}"), transport: Transport::Ssh { host, port: 22 } })
    }

    fn local(path: &str, given: &str, allowed: Allowed) -> Result<Self, InvalidSource> {
        if !allowed.local_repositories {
            return Err(refused(
                given,
                said!("source-why-local", "paths of this machine are not allowed here"),
                allowed,
            ));
        }
        if !path.starts_with('/') {
            return Err(refused(given, said!("source-why-relative", "a path must be absolute"), allowed));
        }
        Ok(Self { text: path.to_owned(), transport: Transport::Local(Path::new(path).to_owned()) })
    }
}

/// The part of an address between `//` and the path, as git would see it.
fn authority(given: &str) -> &str {
    let rest = given.split_once("://").map_or(given, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or(rest)
}

fn split_user<'a>(
    authority: &'a str,
    given: &str,
    allowed: Allowed,
) -> Result<(Option<&'a str>, &'a str), InvalidSource> {
    let Some((user, host)) = authority.rsplit_once('@') else { return Ok((None, authority)) };
    if user.contains(':') {
        return Err(InvalidSource(said!(
            "source-has-password",
            "the address of the repository contains a password; everybody who may read the project could read it: \
             give the address without"
        )));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if user.is_empty() || user.starts_with('-') || !user.chars().all(plain) {
        return Err(refused(given, said!("source-why-user", "the user name is not one"), allowed));
    }
    Ok((Some(user), host))
}

fn ssh_host(host: &str, given: &str, allowed: Allowed) -> Result<String, InvalidSource> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match bare {
        Some(address) if address.parse::<Ipv6Addr>().is_ok() => address.to_owned(),
        Some(_) => return Err(refused(given, said!("source-why-host", "the host is not one"), allowed)),
        None => host_name(host, given, allowed)?,
    };
    check_literal(&host, given, allowed)?;
    Ok(host)
}

fn host_name(host: &str, given: &str, allowed: Allowed) -> Result<String, InvalidSource> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if host.is_empty() || host.len() > 253 || host.starts_with(['-', '.']) || !host.chars().all(plain) {
        return Err(refused(given, said!("source-why-host", "the host is not one"), allowed));
    }
    Ok(host.to_ascii_lowercase())
}

fn ssh_path(path: &str, given: &str, allowed: Allowed) -> Result<String, InvalidSource> {
    // The path goes through a shell on the other side; git quotes it, and we make sure that there is nothing to quote.
    let plain = |c: char| {
        c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | '~' | '+' | '@' | '%' | ',' | '=')
    };
    if path.trim_matches('/').is_empty() {
        return Err(refused(
            given,
            said!("source-why-no-repository", "it names a host, but no repository on it"),
            allowed,
        ));
    }
    if path.trim_start_matches('/').starts_with('-') || !path.chars().all(plain) {
        return Err(refused(
            given,
            said!("source-why-path", "the path has characters that are not allowed"),
            allowed,
        ));
    }
    Ok(path.to_owned())
}

/// Refuses a host that is written as an address which is not public. Names are looked up when they are used.
fn check_literal(host: &str, given: &str, allowed: Allowed) -> Result<(), InvalidSource> {
    // An address may also be disguised as one number, or in hexadecimal.
    let disguised = || match Host::parse(host) {
        Ok(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
        _ => None,
    };
    match host.parse().ok().or_else(disguised) {
        Some(address) if !allowed.private_networks && !is_public(address) => Err(refused(
            given,
            said!(
                "source-why-not-public",
                "{address} is not an address of the public internet",
                address = address.to_string()
            ),
            allowed,
        )),
        _ => Ok(()),
    }
}

fn refused(given: &str, why: impl Into<Said>, allowed: Allowed) -> InvalidSource {
    let mut shown: String = given.chars().filter(|c| !c.is_control()).take(200).collect();
    if let Some((front, rest)) = shown.split_once("://")
        && let Some((_, host)) = authority(&shown).rsplit_once('@')
    {
        let path = &rest[authority(&shown).len()..];
        shown = format!("{front}://…@{host}{path}");
    }
    let why = why.into();
    InvalidSource(said!(
        "source-refused",
        "`{shown}` is not an address to build from: {why}; {forms}",
        shown = shown,
        why = why,
        forms = forms(allowed)
    ))
}

/// The addresses that are allowed, for the end of a sentence.
fn forms(allowed: Allowed) -> Said {
    if allowed.local_repositories {
        said!(
            "source-forms-local",
            "give https://host/path, ssh://user@host/path or user@host:path, or /absolute/path"
        )
    } else {
        said!("source-forms", "give https://host/path, ssh://user@host/path or user@host:path")
    }
}

/// A branch, tag or commit that cannot be taken for an option, a range or an expression.
fn revision(given: &str) -> Result<String, InvalidSource> {
    let forbidden = |c: char| c.is_control() || c.is_whitespace() || "~^:?*[]\\\"'`$;|&<>(){}!".contains(c);
    let wrong = given.starts_with(['-', '/', '.'])
        || given.ends_with(['/', '.'])
        || given.ends_with(".lock")
        || given.contains("..")
        || given.contains("//")
        || given.len() > REVISION_BYTES
        || given.chars().any(forbidden);
    if wrong {
        let shown: String = given.chars().filter(|c| !c.is_control()).take(100).collect();
        return Err(InvalidSource(said!(
            "source-no-revision",
            "`{shown}` is not a revision: give the name of a branch or tag, or a commit in hexadecimal",
            shown = shown
        )));
    }
    Ok(given.to_owned())
}

/// A directory beneath the root of a repository, without its detours.
fn directory(given: &str) -> Result<String, InvalidSource> {
    let refuse = |why: Said| {
        let shown: String = given.chars().filter(|c| !c.is_control()).take(100).collect();
        InvalidSource(said!(
            "source-no-directory",
            "`{shown}` is not a directory of a repository: {why}; give a path like `apps/dashboard`",
            shown = shown,
            why = why
        ))
    };
    let given = given.trim();
    if given.len() > DIRECTORY_BYTES {
        return Err(refuse(said!(
            "source-why-long",
            "it is longer than {most} bytes",
            most = DIRECTORY_BYTES
        )));
    }
    if given.starts_with('/') {
        return Err(refuse(said!("source-why-absolute", "it is absolute")));
    }
    if given.chars().any(|c| c.is_control() || c == '\\' || c == ':') {
        return Err(refuse(said!("source-why-not-allowed", "it has characters that are not allowed")));
    }
    let parts: Vec<_> = given.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.contains(&"..") {
        return Err(refuse(said!("source-why-up", "it has `..` in it")));
    }
    if parts.iter().any(|part| part.eq_ignore_ascii_case(".git")) {
        return Err(refuse(said!("source-why-git", "`.git` is git's own")));
    }
    Ok(parts.join("/"))
}

/// Whether `address` belongs to the public internet, and not to this machine, a network behind it, or a cloud's
/// metadata service.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || matches!(
            (a, b, c),
            (0, ..) | (100, 64..=127, _) | (192, 0, 0) | (192, 88, 99) | (198, 18 | 19, _)
        );
    // From 224 on: multicast, reserved, broadcast.
    !special && a < 224
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    // Only 2000::/3 is given out. Inside of it, 2001::/23 is for protocols (Teredo among them), 2001:db8::/32 and
    // 3fff::/20 for documentation, and 2002::/16 leads to the IPv4 address that it contains.
    let [a, b, ..] = address.segments();
    (0x2000..0x4000).contains(&a)
        && !(a == 0x2001 && (b < 0x200 || b == 0xdb8))
        && a != 0x2002
        && !(a == 0x3fff && b < 0x1000)
}

#[cfg(test)]
mod tests;
