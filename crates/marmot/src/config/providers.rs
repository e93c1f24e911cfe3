//! Identity providers in the settings' file.

use std::path::PathBuf;

use serde::Deserialize;
use toml::de::DeValue;

use super::{ConfigError, Place};
use crate::model::Secret;
use crate::oidc::ProviderConfig;

/// The most providers of one installation.
const MOST: usize = 20;
/// The most bytes of a file with a secret.
const LONGEST_SECRET: usize = 4096;

/// What the reference says of them.
pub(super) const REFERENCE: &str = r#"
## `identity_providers`

Where people may come from besides the accounts that are here, by OpenID Connect: Keycloak and its like. In the file
only; [docs/people.md](people.md) says more. The provider is told to send people back to
`PUBLIC-URL/sign-in/with/ID/back`.

```toml
[[identity_providers]]
id = "uni"                        # letters, digits and hyphens; part of the address above
title = "University account"      # on the button
issuer = "https://id.example.org/realms/uni"
client_id = "marmot"
client_secret_file = "/etc/marmot/uni.secret"   # or client_secret_env = "UNI_SECRET"; a public client without either
scopes = ["openid", "profile", "email"]         # the default
groups_claim = "groups"           # the default: the claim that lists a person's groups
admin_groups = ["marmot-admins"]  # who runs the installation; by default the provider says nothing about that
allowed_groups = ["researchers"]  # who may come in; by default everybody the provider knows
create_accounts = true            # the default: who comes for the first time gets an account
```
"#;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    id: String,
    title: Option<String>,
    issuer: String,
    client_id: String,
    client_secret_file: Option<PathBuf>,
    client_secret_env: Option<String>,
    scopes: Option<Vec<String>>,
    groups_claim: Option<String>,
    #[serde(default)]
    admin_groups: Vec<String>,
    #[serde(default)]
    allowed_groups: Vec<String>,
    create_accounts: Option<bool>,
}

/// The providers of a list in the file, with their secrets.
pub(super) fn read(value: DeValue<'_>, origin: &Place) -> Result<Vec<ProviderConfig>, ConfigError> {
    let refused = |message: String| ConfigError::Provider { origin: origin.clone(), message };
    let given = Vec::<Given>::deserialize(toml::de::ValueDeserializer::from(toml::Spanned::new(0..0, value)))
        .map_err(|error| refused(error.message().to_owned()))?;
    if given.len() > MOST {
        return Err(refused(format!("there may be {MOST} at most")));
    }
    let mut providers: Vec<ProviderConfig> = Vec::with_capacity(given.len());
    for one in given {
        let id = one.id.clone();
        let provider = resolve(one).map_err(|message| refused(format!("`{id}`: {message}")))?;
        if providers.iter().any(|earlier| earlier.id == id || earlier.issuer == provider.issuer) {
            return Err(refused(format!("the id or the issuer of `{id}` is given twice")));
        }
        providers.push(provider);
    }
    Ok(providers)
}

fn resolve(given: Given) -> Result<ProviderConfig, String> {
    let secret = match (given.client_secret_file, given.client_secret_env) {
        (Some(_), Some(_)) => {
            return Err("`client_secret_file` and `client_secret_env` do not go together".to_owned());
        }
        (Some(path), None) => {
            let text = std::fs::read_to_string(&path).map_err(|error| {
                format!("`client_secret_file`: cannot read `{}`: {error}", path.display())
            })?;
            Some(checked("client_secret_file", &text)?)
        }
        (None, Some(name)) => {
            let text = std::env::var(&name)
                .map_err(|_| format!("`client_secret_env`: the variable `{name}` is not set"))?;
            Some(checked("client_secret_env", &text)?)
        }
        (None, None) => None,
    };
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    let provider = ProviderConfig {
        title: given.title.unwrap_or_else(|| given.id.clone()),
        id: given.id,
        issuer: given.issuer,
        client_id: given.client_id,
        client_secret: secret,
        scopes: given.scopes.unwrap_or_else(|| words(&["openid", "profile", "email"])),
        groups_claim: given.groups_claim.unwrap_or_else(|| "groups".to_owned()),
        admin_groups: given.admin_groups,
        allowed_groups: given.allowed_groups,
        create_accounts: given.create_accounts.unwrap_or(true),
    };
    provider.check()?;
    Ok(provider)
}

fn checked(name: &str, text: &str) -> Result<Secret, String> {
    let text = text.trim();
    if text.is_empty() || text.len() > LONGEST_SECRET || text.chars().any(char::is_control) {
        return Err(format!("`{name}` holds no secret: one line of text is expected"));
    }
    Ok(Secret::new(text))
}
