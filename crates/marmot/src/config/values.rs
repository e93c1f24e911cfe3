//! What the text of a setting may be: durations, sizes, addresses, choices.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use marmot_core::AppName;
use marmot_engine::Destination;

use crate::model::Secret;

/// A value that is given as text.
pub(super) trait Value: Sized {
    /// What is allowed, as words that follow *it must be*.
    const ALLOWED: &'static str;

    /// Reads the text; `None` when it is not allowed.
    fn parse(text: &str) -> Option<Self>;
}

/// Empty text is *not set*.
impl<T: Value> Value for Option<T> {
    const ALLOWED: &'static str = T::ALLOWED;

    fn parse(text: &str) -> Option<Self> {
        if text.is_empty() { Some(None) } else { T::parse(text).map(Some) }
    }
}

impl Value for bool {
    const ALLOWED: &'static str = "`true` or `false`";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Value for SocketAddr {
    const ALLOWED: &'static str = "an IP address and a port, like `127.0.0.1:8080` or `[::]:8080`";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Value for PathBuf {
    const ALLOWED: &'static str = "a path";

    fn parse(text: &str) -> Option<Self> {
        (!text.is_empty() && !text.contains('\0')).then(|| Self::from(text))
    }
}

impl Value for u64 {
    const ALLOWED: &'static str = "a number from 1 to 1000000";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().filter(|number| (1..=1_000_000).contains(number))
    }
}

impl Value for marmot_gateway::Networks {
    const ALLOWED: &'static str = "addresses or networks, like `10.0.0.0/8, 192.0.2.7, fd00::/8`";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Value for u32 {
    const ALLOWED: &'static str = "a number from 1 to 1000";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().filter(|number| (1..=1000).contains(number))
    }
}

/// How long previews of branches stay, in days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Days(pub u32);

impl Value for Days {
    const ALLOWED: &'static str = "a number of days from 1 to 90";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().filter(|days| (1..=90).contains(days)).map(Self)
    }
}

impl Value for Duration {
    const ALLOWED: &'static str = "a duration like `500ms`, `90s`, `2m`, `12h` or `1h30m`, more than zero";

    fn parse(text: &str) -> Option<Self> {
        duration(text).filter(|duration| !duration.is_zero())
    }
}

/// Reads `1h30m`: numbers, each with its unit.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|letter: char| letter.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let millis: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        let part = Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(millis)?);
        total = total.checked_add(part)?;
        rest = after;
    }
    // A thousand years are a mistake, and would overflow dates.
    (!text.is_empty() && total < Duration::from_secs(1000 * 366 * 86_400)).then_some(total)
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl Value for Bytes {
    const ALLOWED: &'static str =
        "a size in bytes, or like `512M` or `4G` (K, M, G and T are powers of 1024)";

    fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix("iB").or_else(|| text.strip_suffix('B')).unwrap_or(text);
        let shift = match text.bytes().last()? {
            b'K' | b'k' => 10,
            b'M' => 20,
            b'G' => 30,
            b'T' => 40,
            _ => 0,
        };
        let digits = if shift == 0 { text } else { &text[..text.len() - 1] };
        let number =
            digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<u64>().ok())??;
        number.checked_mul(1 << shift).map(Self)
    }
}

/// A size in bytes, as settings have it.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    Bytes::parse(text).map(|bytes| bytes.0)
}

/// A size as [`bytes`] reads it, in the largest unit that says it exactly.
pub(crate) fn bytes_as_typed(bytes: u64) -> String {
    let units = [(1 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
    let unit = units.into_iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit));
    unit.map_or_else(|| bytes.to_string(), |(unit, letter)| format!("{}{letter}", bytes / unit))
}

/// Addresses and networks that apps may reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destinations(pub Vec<Destination>);

impl Value for Destinations {
    const ALLOWED: &'static str = "IPv4 addresses and networks, perhaps with a port, separated by commas, like \
                                   `10.1.2.3:5432, 10.2.0.0/16`";

    fn parse(text: &str) -> Option<Self> {
        let listed = text.split(',').map(str::trim).filter(|one| !one.is_empty());
        listed.map(|one| one.parse().ok()).collect::<Option<_>>().map(Self)
    }
}

/// Images that are taken from the engine of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalImages(pub Vec<marmot_engine::LocalImages>);

impl Value for LocalImages {
    const ALLOWED: &'static str = "references of images, with or without a tag, or the beginning of their names with a \
                                   slash at its end, separated by commas, like `localhost/shiny:1, localhost/lab/`";

    fn parse(text: &str) -> Option<Self> {
        let listed = text.split(',').map(str::trim).filter(|one| !one.is_empty());
        listed.map(|one| one.parse().ok()).collect::<Option<_>>().map(Self)
    }
}

/// An image, as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image(pub String);

impl Value for Image {
    const ALLOWED: &'static str = "a reference of an image, like `docker.io/library/debian:12`";

    fn parse(text: &str) -> Option<Self> {
        text.parse::<marmot_engine::Reference>().ok().map(|_| Self(text.to_owned()))
    }
}

/// The names of images in a registry, with words to be replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageTemplate(pub String);

impl Value for ImageTemplate {
    const ALLOWED: &'static str = "a registry, a repository and a tag with `{build}` in it, like \
                                   `registry.example.org/{namespace}/{project}/{app}:{build}`";

    fn parse(text: &str) -> Option<Self> {
        let words = ["{namespace}", "{project}", "{app}", "{build}"];
        let sample = words.iter().fold(text.to_owned(), |text, word| text.replace(word, "x"));
        let has_registry = text.split_once('/').is_some_and(|(host, _)| host.contains(['.', ':']));
        let tag = text.rsplit('/').next().and_then(|last| last.split_once(':'));
        let fine = has_registry && tag.is_some_and(|(_, tag)| tag.contains("{build}"));
        let reads = sample.parse::<marmot_engine::Reference>().is_ok();
        (fine && reads).then(|| Self(text.to_owned()))
    }
}

/// Where the container engine is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContainerEngine(pub marmot_engine::Endpoint);

impl Value for ContainerEngine {
    const ALLOWED: &'static str = "`auto`, `none`, or the path of a socket, like `/run/podman/podman.sock`";

    fn parse(text: &str) -> Option<Self> {
        use marmot_engine::Endpoint;
        Some(Self(match text {
            "auto" => Endpoint::Usual,
            "none" => Endpoint::None,
            path => {
                let path = path.strip_prefix("unix://").unwrap_or(path);
                (path.starts_with('/') && !path.contains('\0')).then(|| Endpoint::Socket(path.into()))?
            }
        }))
    }
}

/// Apps, by their names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Apps(pub BTreeSet<AppName>);

impl Value for Apps {
    const ALLOWED: &'static str = "names of apps, separated by commas, like `iris, rose`";

    fn parse(text: &str) -> Option<Self> {
        let listed = text.split(',').map(str::trim).filter(|one| !one.is_empty());
        listed.map(|one| one.parse().ok()).collect::<Option<_>>().map(Self)
    }
}

/// A domain name, in lower case, without a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain(String);

impl Domain {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it lies below `other`.
    pub fn is_below(&self, other: &Self) -> bool {
        self.0.strip_suffix(&other.0).is_some_and(|rest| rest.ends_with('.'))
    }
}

impl std::fmt::Display for Domain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Value for Domain {
    const ALLOWED: &'static str = "a domain name without scheme and port, like `marmot.example.org`";

    fn parse(text: &str) -> Option<Self> {
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // Room for an app's name and its dot within the 253 characters of a host name.
        (text.len() <= 200 && text.split('.').all(label)).then(|| Self(text.to_ascii_lowercase()))
    }
}

/// A scheme, a host and maybe a port: where people reach something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// `http` or `https`.
    pub scheme: String,
    /// Host, with the port where it is not the scheme's own.
    pub authority: String,
}

impl Origin {
    /// The host alone.
    pub fn host(&self) -> &str {
        match self.port() {
            Some(_) => self.authority.rsplit_once(':').map_or(&*self.authority, |(host, _)| host),
            None => &self.authority,
        }
    }

    /// The port, where it is not the scheme's own.
    pub fn port(&self) -> Option<u16> {
        self.authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok())
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)
    }
}

impl Value for Origin {
    const ALLOWED: &'static str =
        "an address like `https://marmot.example.org`, with `http` or `https` and no path";

    fn parse(text: &str) -> Option<Self> {
        let url = url::Url::parse(text).ok()?;
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        let anonymous = url.username().is_empty() && url.password().is_none();
        let host = url.host_str()?;
        if !matches!(url.scheme(), "http" | "https") || !bare || !anonymous {
            return None;
        }
        let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        Some(Self { scheme: url.scheme().to_owned(), authority })
    }
}

impl Value for url::Url {
    const ALLOWED: &'static str = "an address that begins with `https://`";

    fn parse(text: &str) -> Option<Self> {
        let url = Self::parse(text).ok()?;
        let anonymous = url.username().is_empty() && url.password().is_none();
        (url.scheme() == "https" && url.has_host() && anonymous).then_some(url)
    }
}

/// An address of e-mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Email(pub String);

impl Value for Email {
    const ALLOWED: &'static str = "one address of e-mail, like `ada@example.org`";

    fn parse(text: &str) -> Option<Self> {
        let (name, domain) = text.split_once('@')?;
        let fine = |part: &str| !part.is_empty() && part.chars().all(|letter| letter.is_ascii_graphic());
        let one = !text.contains([',', ';', '?', '<', '>', ' ']) && !domain.contains('@');
        (one && fine(name) && fine(domain)).then(|| Self(text.to_owned()))
    }
}

/// The address of a database may carry a password.
impl Value for Secret {
    const ALLOWED: &'static str =
        "an address like `postgres://user:password@host/database`, or `sqlite:/path/to/file`";

    fn parse(text: &str) -> Option<Self> {
        ["postgres:", "postgresql:", "sqlite:"]
            .iter()
            .any(|kind| text.starts_with(kind))
            .then(|| Self::new(text))
    }
}

/// Master keys, which are never shown. Whether they are keys is found out where they are used.
#[derive(Debug, Clone)]
pub struct Keys(pub Secret);

impl Value for Keys {
    const ALLOWED: &'static str = "64 hexadecimal digits, for example from `openssl rand -hex 32`";

    fn parse(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self(Secret::new(text)))
    }
}

/// Log levels by module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(pub String);

impl Value for LogFilter {
    const ALLOWED: &'static str =
        "`error`, `warn`, `info`, `debug` or `trace`, also by module: `info,marmot_engine=debug`";

    fn parse(text: &str) -> Option<Self> {
        let fine = !text.is_empty() && tracing_subscriber::EnvFilter::builder().parse(text).is_ok();
        fine.then(|| Self(text.to_owned()))
    }
}

/// A setting that is one of a few words.
macro_rules! choice {
    ($($(#[$doc:meta])* $name:ident ($allowed:literal) { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl Value for $name {
            const ALLOWED: &'static str = $allowed;

            fn parse(text: &str) -> Option<Self> {
                match text {
                    $($word => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    )*};
}

choice! {
    /// What happens to replicas when the server stops.
    OnStop ("`keep` or `stop`") {
        /// They go on; the next server on the data directory finds them again.
        Keep = "keep",
        /// They are stopped.
        Stop = "stop",
    }
    /// How an authority is shown that a host is ours.
    AcmeChallenge ("`auto`, `tls-alpn-01` or `http-01`") {
        /// The first that works.
        Auto = "auto",
        /// At the port of `https://`.
        TlsAlpn = "tls-alpn-01",
        /// At port 80.
        Http = "http-01",
    }
    /// How log lines are written.
    LogFormat ("`text` or `json`") {
        /// For people.
        Text = "text",
        /// One JSON object a line, for machines.
        Json = "json",
    }
    /// What builds reach of other machines.
    BuildsNetwork ("`fenced` or `shared`") {
        /// Public addresses, and the operator's mirrors and proxies.
        Fenced = "fenced",
        /// What the server itself reaches.
        Shared = "shared",
    }
    /// Whether apps are shut off from the machine and each other.
    Confinement ("`auto` or `none`") {
        /// As far as this machine allows; what it does not is said at the start.
        Auto = "auto",
        /// Not at all: apps may do what the server's user may.
        None = "none",
    }
    /// What happens when a registry does not take an image.
    PushFailure ("`warn` or `fail`") {
        /// The build says so.
        Warn = "warn",
        /// The build fails.
        Fail = "fail",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_a_limit() {
        let seconds = |text| <Duration as Value>::parse(text).map(|duration| duration.as_secs_f64());
        assert_eq!(seconds("90s"), Some(90.0));
        assert_eq!(seconds("500ms"), Some(0.5));
        assert_eq!(seconds("1h30m"), Some(5400.0));
        assert_eq!(seconds("2d"), Some(172_800.0));
        for refused in
            ["", "0s", "5", "5 s", "s", "-5s", "5y", "99999999999999999999s", "999999d", "1.5h", "5sx"]
        {
            assert_eq!(seconds(refused), None, "{refused}");
        }
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        let bytes = |text| Bytes::parse(text).map(|bytes| bytes.0);
        assert_eq!(bytes("512M"), Some(512 << 20));
        assert_eq!(bytes("4GiB"), Some(4 << 30));
        assert_eq!(bytes("0"), Some(0));
        for refused in ["", "M", "-1M", "1.5G", "4X", "99999999999T", "G4"] {
            assert_eq!(bytes(refused), None, "{refused}");
        }
    }

    #[test]
    fn sizes_are_written_as_they_are_read() {
        for (number, text) in [(1, "1"), (1 << 20, "1M"), (1536, "1536"), (10 << 10, "10K"), (3 << 30, "3G")]
        {
            assert_eq!((bytes_as_typed(number).as_str(), bytes(text)), (text, Some(number)));
        }
    }

    #[test]
    fn a_domain_is_a_host_name_and_nothing_more() {
        for refused in ["", "http://a", "a:80", "a/b", ".a", "a..b", "-a", "a b", "ä.org"] {
            assert_eq!(Domain::parse(refused), None, "{refused}");
        }
        let domain = |text| Domain::parse(text).unwrap();
        assert_eq!(domain("Marmot.Example.ORG").as_str(), "marmot.example.org");
        assert!(domain("apps.example.org").is_below(&domain("example.org")));
        assert!(!domain("badexample.org").is_below(&domain("example.org")));
    }

    #[test]
    fn an_origin_has_no_path_and_no_user() {
        let origin = |text| Origin::parse(text).map(|origin| origin.to_string());
        assert_eq!(origin("https://Marmot.example.org:443/"), Some("https://marmot.example.org".to_owned()));
        assert_eq!(origin("http://localhost:8080"), Some("http://localhost:8080".to_owned()));
        for refused in ["localhost:8080", "ftp://a", "https://a/b", "https://u@a", "https://a?x", "https://"]
        {
            assert_eq!(origin(refused), None, "{refused}");
        }
    }
}
