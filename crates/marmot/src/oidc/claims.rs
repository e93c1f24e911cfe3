//! What a provider says of a person, and what follows from it here.

use serde_json::{Map, Value};

use super::config::ProviderConfig;

/// The most characters of a name that is kept.
const LONGEST: usize = 99;

/// What a provider says of a person.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claims {
    /// The provider's own name for the person, which never changes.
    pub subject: String,
    /// What the person is called there.
    pub username: Option<String>,
    /// The address, where the provider has made sure that it is the person's.
    pub email: Option<String>,
    /// First name.
    pub first_name: Option<String>,
    /// Last name.
    pub last_name: Option<String>,
    /// The groups that the person is in.
    pub groups: Vec<String>,
}

/// What a person may be here, by what the provider says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// May not come in.
    Out,
    /// May come in. The provider says nothing about who runs the installation.
    In,
    /// May come in, and runs the installation or does not.
    InAs {
        /// Runs it.
        admin: bool,
    },
}

impl Claims {
    pub(super) fn read(found: &Map<String, Value>, groups_claim: &str) -> Self {
        let text = |name: &str| {
            let text = found.get(name)?.as_str()?.trim();
            let clean: String = text.chars().filter(|letter| !letter.is_control()).take(LONGEST).collect();
            (!clean.is_empty()).then_some(clean)
        };
        let verified = found.get("email_verified") == Some(&Value::Bool(true));
        Self {
            subject: found.get("sub").and_then(Value::as_str).unwrap_or_default().to_owned(),
            username: text("preferred_username").or_else(|| text("nickname")),
            email: text("email").filter(|email| verified && email.contains('@')),
            first_name: text("given_name"),
            last_name: text("family_name"),
            groups: groups(found.get(groups_claim)),
        }
    }

    /// What the person may be here.
    pub fn standing(&self, config: &ProviderConfig) -> Standing {
        let in_one = |of: &[String]| self.groups.iter().any(|group| of.contains(group));
        let admin = in_one(&config.admin_groups);
        if !config.allowed_groups.is_empty() && !in_one(&config.allowed_groups) && !admin {
            return Standing::Out;
        }
        if config.admin_groups.is_empty() { Standing::In } else { Standing::InAs { admin } }
    }

    /// Names for an account, the best first.
    pub fn suggestions(&self) -> impl Iterator<Item = String> {
        let of_email = self.email.as_ref().and_then(|email| email.split('@').next());
        let whole = |name: &str| name.split('@').next().unwrap_or_default().to_owned();
        let names = [self.username.as_deref(), of_email, self.first_name.as_deref()];
        let names: Vec<String> = names.into_iter().flatten().map(whole).collect();
        names.into_iter().filter_map(|name| marmot_core::name::slugify(&name))
    }

    /// What the person is told of this way in: something to know it by.
    pub fn label(&self) -> String {
        let shown = self.email.clone().or_else(|| self.username.clone());
        shown.unwrap_or_else(|| self.subject.chars().take(LONGEST).collect())
    }
}

/// The groups of a claim: a list of names, or one name.
fn groups(claim: Option<&Value>) -> Vec<String> {
    match claim {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}
