//! Whom a request is for, by its host.

use crate::config::GatewayConfig;

/// A host as clients write it, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Host<'a> {
    /// The name or address, as written; an IPv6 address in its brackets.
    pub(crate) name: &'a str,
    /// The port, if one was given.
    pub(crate) port: Option<u16>,
}

/// Whom a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target<'a> {
    /// The platform's own pages and API.
    Platform,
    /// An app, by the label below the apps' domain.
    App(&'a str),
    /// Nobody here.
    Nobody,
}

impl<'a> Host<'a> {
    /// Reads `host[:port]`. Nothing but letters, digits, dots, hyphens and underscores makes a name: whatever
    /// else an app would do with the value, it cannot be led astray by it.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (name, port) = if text.starts_with('[') {
            let end = text.find(']')? + 1;
            let (name, rest) = text.split_at(end);
            name[1..end - 1].parse::<std::net::Ipv6Addr>().ok()?;
            (name, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        } else {
            match text.split_once(':') {
                Some((name, port)) => (name, Some(port)),
                None => (text, None),
            }
        };
        let port = match port {
            None => None,
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => Some(port.parse::<u16>().ok()?),
            Some(_) => return None,
        };
        let name = if name.len() > 1 { name.strip_suffix('.').unwrap_or(name) } else { name };
        let is_name = name.starts_with('[')
            || (!name.is_empty()
                && name.len() <= 253
                && name.split('.').all(|label| !label.is_empty())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)));
        is_name.then_some(Self { name, port })
    }

    /// Whom a request with this host is for.
    pub(crate) fn target(&self, config: &GatewayConfig) -> Target<'a> {
        if config.platform_hosts.iter().any(|host| host.eq_ignore_ascii_case(self.name)) {
            return Target::Platform;
        }
        let label = self.name.len().checked_sub(config.apps_domain.len() + 1).and_then(|end| {
            let (label, rest) = (self.name.get(..end)?, self.name.get(end..)?);
            rest.strip_prefix('.')?.eq_ignore_ascii_case(&config.apps_domain).then_some(label)
        });
        match label {
            Some(label) if !label.contains('.') => Target::App(label),
            _ => Target::Nobody,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn config() -> GatewayConfig {
        GatewayConfig { apps_domain: "apps.test".into(), ..GatewayConfig::local(([127, 0, 0, 1], 80).into()) }
    }

    #[test]
    fn tells_the_platform_from_apps_and_from_strangers() {
        for (host, target) in [
            ("localhost:8080", Target::Platform),
            ("LOCALHOST", Target::Platform),
            ("127.0.0.1:1", Target::Platform),
            ("[::1]:80", Target::Platform),
            ("iris.apps.test", Target::App("iris")),
            ("Iris.Apps.Test.:8080", Target::App("Iris")),
            ("a.b.apps.test", Target::Nobody),
            ("apps.test", Target::Nobody),
            ("irisapps.test", Target::Nobody),
            ("evil.test", Target::Nobody),
        ] {
            assert_eq!(Host::parse(host).unwrap().target(&config()), target, "{host}");
        }
    }

    #[test]
    fn refuses_what_is_no_host() {
        for host in [
            "", ":80", ".", "a..b", "a b", "a@b", "a/b", "a?b", "a#b", "a\\b", "a,b", "a:b", "a:-1", "a:+1",
            "a:65536", "a:80:80", "[::1", "[::1]80", "[zz]", "ä", "a%62", "a\tb", "<b>", "a:80 ", "'a'",
            "a;b",
        ] {
            assert_eq!(Host::parse(host), None, "{host:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text: String) {
            if let Some(host) = Host::parse(&text) {
                host.target(&config());
            }
        }
    }
}
