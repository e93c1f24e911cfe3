//! Which of the server's own variables say how the network is reached: builds get these, apps do not. And which places
//! they name, which builds must be able to reach wherever these are.

use std::collections::BTreeSet;

use url::Url;

/// The variables of `all` that say how to reach the network from here: proxies, certificates and package mirrors.
///
/// What is only said for pip is said for uv as well.
pub fn operators_environment(all: impl IntoIterator<Item = (String, String)>) -> Vec<(String, String)> {
    let mut kept: Vec<_> = all.into_iter().filter(|(name, _)| concerns_the_network(name)).collect();
    for (pip, uv) in [
        ("PIP_INDEX_URL", "UV_DEFAULT_INDEX"),
        ("PIP_EXTRA_INDEX_URL", "UV_INDEX"),
        ("PIP_CERT", "SSL_CERT_FILE"),
        ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"),
    ] {
        let older = if uv == "UV_DEFAULT_INDEX" { "UV_INDEX_URL" } else { uv };
        if kept.iter().any(|(name, _)| name == uv || name == older) {
            continue;
        }
        if let Some((_, value)) = kept.iter().find(|(name, _)| name == pip).cloned() {
            kept.push((uv.to_owned(), value));
        }
    }
    kept
}

fn concerns_the_network(name: &str) -> bool {
    const NAMES: [&str; 10] = [
        "CONDA_CHANNEL_ALIAS",
        "CONDA_CHANNELS",
        "NODE_EXTRA_CA_CERTS",
        "R_REPOS",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "GIT_SSL_CAINFO",
        "GIT_SSL_CAPATH",
    ];
    // Where uv keeps things and which Python it takes is for the build to say.
    const OURS: [&str; 8] = [
        "UV_CACHE_DIR",
        "UV_NO_CACHE",
        "UV_PROJECT",
        "UV_PROJECT_ENVIRONMENT",
        "UV_WORKING_DIRECTORY",
        "UV_SYSTEM_PYTHON",
        "UV_PYTHON",
        "UV_LINK_MODE",
    ];
    // So is where npm keeps things, and what it runs.
    const OURS_OF_NPM: [&str; 10] = [
        "NPM_CONFIG_CACHE",
        "NPM_CONFIG_PREFIX",
        "NPM_CONFIG_USERCONFIG",
        "NPM_CONFIG_GLOBALCONFIG",
        "NPM_CONFIG_IGNORE_SCRIPTS",
        "NPM_CONFIG_SCRIPT_SHELL",
        "NPM_CONFIG_NODE_OPTIONS",
        "NPM_CONFIG_GIT",
        "NPM_CONFIG_LOCAL_PREFIX",
        "NPM_CONFIG_STORE_DIR",
    ];
    let upper = name.to_ascii_uppercase();
    NAMES.contains(&name)
        || ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"].contains(&upper.as_str())
        || name.starts_with("PIP_")
        || (upper.starts_with("NPM_CONFIG_") && !OURS_OF_NPM.contains(&upper.as_str()))
        || (name.starts_with("UV_") && !OURS.contains(&name))
}

/// The hosts and ports of the mirrors and proxies that `environment` names.
pub(super) fn places(environment: &[(String, String)]) -> BTreeSet<(String, u16)> {
    let mut places = BTreeSet::new();
    for (name, value) in environment {
        let upper = name.to_ascii_uppercase();
        if upper == "NO_PROXY" {
            continue;
        }
        // Proxies are often named without a scheme.
        let bare = upper.ends_with("_PROXY") && !value.contains("://");
        let value = if bare { format!("http://{value}") } else { value.clone() };
        let words = value.split(|letter: char| letter.is_whitespace() || matches!(letter, ',' | '|' | '"'));
        places.extend(words.filter_map(place));
    }
    places
}

/// The host and port of the address in `word`, which may have something in front, as in `CRAN=https://…`.
fn place(word: &str) -> Option<(String, u16)> {
    let end = word.find("://")?;
    let start = word[..end].rfind(|letter: char| !letter.is_ascii_alphanumeric()).map_or(0, |at| at + 1);
    let address = Url::parse(&word[start..]).ok()?;
    let port =
        address.port_or_known_default().or_else(|| address.scheme().starts_with("socks").then_some(1080))?;
    // Without the brackets of IPv6.
    let host = address.host_str()?.trim_matches(['[', ']']).to_owned();
    (!host.is_empty()).then_some((host, port))
}

/// The values among `environment` that must not be shown: passwords, tokens, and what addresses carry in front of `@`.
pub(super) fn secrets(environment: &[(String, String)]) -> Vec<String> {
    let mut secrets = Vec::new();
    for (name, value) in environment {
        let telling = ["PASSWORD", "TOKEN", "SECRET", "API_KEY", "_AUTH"];
        if telling.iter().any(|word| name.to_ascii_uppercase().contains(word)) {
            secrets.push(value.clone());
        }
        for word in value.split_whitespace() {
            let Some((_, rest)) = word.split_once("://") else { continue };
            let authority = rest.split('/').next().unwrap_or(rest);
            if let Some((user, _)) = authority.rsplit_once('@') {
                secrets.push(user.to_owned());
                secrets.extend(user.split_once(':').map(|(_, password)| password.to_owned()));
            }
        }
    }
    // Shorter ones are no secrets, and would blot out half of the log.
    secrets.retain(|secret| secret.len() >= 4);
    secrets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_places_that_variables_name_are_found_however_they_are_written() {
        let environment = given(&[
            ("HTTPS_PROXY", "proxy.lab:3128"),
            ("http_proxy", "http://user:secret@10.0.0.3:8080/"),
            ("ALL_PROXY", "socks5h://socks.lab"),
            ("NO_PROXY", "http://no.lab,.lab"),
            ("PIP_EXTRA_INDEX_URL", "https://one.lab/simple http://two.lab:81/simple"),
            ("UV_INDEX", "private=https://[fd00::7]/simple"),
            ("R_REPOS", "CRAN=http://cran.lab"),
            ("PIP_FIND_LINKS", "/opt/wheels file:///opt/more"),
            ("PIP_RETRIES", "5"),
            ("UV_DEFAULT_INDEX", "http://"),
        ]);
        let places: Vec<_> =
            places(&environment).into_iter().map(|(host, port)| format!("{host} {port}")).collect();
        let expected = [
            "10.0.0.3 8080",
            "cran.lab 80",
            "fd00::7 443",
            "one.lab 443",
            "proxy.lab 3128",
            "socks.lab 1080",
            "two.lab 81",
        ];
        assert_eq!(places, expected);
    }

    fn given(variables: &[(&str, &str)]) -> Vec<(String, String)> {
        variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn builds_get_the_network_and_nothing_else() {
        let kept = operators_environment(given(&[
            ("HOME", "/root"),
            ("AWS_SECRET_ACCESS_KEY", "x"),
            ("MARMOT_DATABASE_URL", "x"),
            ("https_proxy", "http://proxy:3128"),
            ("UV_CACHE_DIR", "/elsewhere"),
            ("UV_HTTP_TIMEOUT", "60"),
            ("PIP_INDEX_URL", "https://mirror/simple"),
            ("PIP_CERT", "/ca.pem"),
        ]));
        let names: Vec<_> = kept.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "https_proxy",
                "UV_HTTP_TIMEOUT",
                "PIP_INDEX_URL",
                "PIP_CERT",
                "UV_DEFAULT_INDEX",
                "SSL_CERT_FILE"
            ]
        );
    }

    #[test]
    fn what_is_said_for_uv_wins_over_what_is_said_for_pip() {
        let kept =
            operators_environment(given(&[("PIP_INDEX_URL", "https://a"), ("UV_INDEX_URL", "https://b")]));
        assert!(!kept.iter().any(|(name, _)| name == "UV_DEFAULT_INDEX"));
    }

    #[test]
    fn passwords_of_mirrors_and_proxies_are_known() {
        let secrets = secrets(&given(&[
            ("UV_INDEX_LAB_PASSWORD", "hunter2"),
            ("HTTPS_PROXY", "http://me:s3cret@proxy:3128"),
            ("UV_DEFAULT_INDEX", "https://token1234@mirror/simple"),
            ("SSL_CERT_FILE", "/ca.pem"),
        ]));
        assert_eq!(secrets, ["hunter2", "me:s3cret", "s3cret", "token1234"]);
    }
}
