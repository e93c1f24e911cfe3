//! Who may open an app, as it is said: to whom it is open, its share links, its keys. And what follows from that.

use std::collections::BTreeSet;

use jiff::Timestamp;
use marmot_core::id::{AppKeyId, GroupId, ShareLinkId, UserId};
use marmot_core::name::Namespace;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::Visibility;

/// To whom an app is open, besides the members of its project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OpenTo {
    /// To those who may see its project: everybody, or its members alone.
    #[default]
    Project,
    /// To everybody. For public projects; of one that becomes private, members alone may open it.
    Everyone,
    /// To everybody with a share link.
    Link,
    /// To everybody with an account.
    SignedIn,
    /// To nobody else.
    Members,
    /// To people and groups that are named.
    Named,
}

impl OpenTo {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Project, Self::Everyone, Self::Link, Self::SignedIn, Self::Members, Self::Named];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Project => "project",
            Self::Everyone => "everyone",
            Self::Link => "link",
            Self::SignedIn => "signed_in",
            Self::Members => "members",
            Self::Named => "named",
        }
    }

    /// What this comes to in a project of this visibility: anything but [`OpenTo::Project`].
    pub fn in_project(self, visibility: Visibility) -> Self {
        match (self, visibility) {
            (Self::Project | Self::Everyone, Visibility::Public) => Self::Everyone,
            (Self::Project | Self::Everyone, Visibility::Private) => Self::Members,
            (other, _) => other,
        }
    }
}

impl std::str::FromStr for OpenTo {
    type Err = UnknownAudience;

    fn from_str(text: &str) -> Result<Self, UnknownAudience> {
        let known = Self::ALL.into_iter().find(|known| known.as_str() == text);
        known.ok_or_else(|| UnknownAudience { given: text.chars().take(40).collect() })
    }
}

/// Nobody that an app can be opened to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{given}` is nobody that an app can be open to: it must be one of project, everyone, link, signed_in, members, named"
)]
pub struct UnknownAudience {
    /// What was given, cut to a length that fits a message.
    pub given: String,
}

/// Who is named for an app.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Guests {
    /// People.
    pub users: BTreeSet<UserId>,
    /// Groups: whoever is a member of one.
    pub groups: BTreeSet<GroupId>,
}

/// Who may open an app, as it is said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Opening {
    /// To whom it is open.
    pub to: OpenTo,
    /// Those who are named. They count where it is open to named ones, and are kept where it is not.
    pub guests: Guests,
}

/// Whom an app lets in as who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admitted {
    /// Everybody, signed in or not.
    Everybody,
    /// Everybody with an account.
    Accounts,
    /// Members of its project, and these.
    MembersAnd(Guests),
}

impl Opening {
    /// Whom it lets in, in a project of this visibility.
    pub fn admits(&self, visibility: Visibility) -> Admitted {
        match self.to.in_project(visibility) {
            OpenTo::Everyone => Admitted::Everybody,
            OpenTo::SignedIn => Admitted::Accounts,
            OpenTo::Named => Admitted::MembersAnd(self.guests.clone()),
            OpenTo::Project | OpenTo::Link | OpenTo::Members => Admitted::MembersAnd(Guests::default()),
        }
    }

    /// Its share links count.
    pub fn is_by_link(&self) -> bool {
        self.to == OpenTo::Link
    }
}

/// What is common to links and keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant<Id> {
    /// Which one.
    pub id: Id,
    /// What it is for.
    pub name: String,
    /// Who made it; absent once their account is gone.
    pub created_by: Option<Namespace>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends; never when absent.
    pub expires_at: Option<Timestamp>,
    /// When it was last used.
    pub last_used_at: Option<Timestamp>,
    /// How often it was used.
    pub uses: u64,
}

/// Opens an app for whoever has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareLink {
    /// What it has in common with keys.
    pub grant: Grant<ShareLinkId>,
}

/// Lets a program in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppKey {
    /// What it has in common with links.
    pub grant: Grant<AppKeyId>,
    /// How much it may be used.
    pub quota: KeyQuota,
}

/// How much a key may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyQuota {
    /// Requests within a minute; as many as one likes when absent.
    pub per_minute: Option<u32>,
    /// Requests at the same time; as many as one likes when absent.
    pub at_once: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_that_becomes_private_closes_what_was_open_because_it_was_public() {
        let ada = Guests { users: [UserId::from(1)].into(), groups: BTreeSet::new() };
        let members = Admitted::MembersAnd(Guests::default());
        for (to, public, private) in [
            (OpenTo::Project, Admitted::Everybody, members.clone()),
            (OpenTo::Everyone, Admitted::Everybody, members.clone()),
            (OpenTo::Link, members.clone(), members.clone()),
            (OpenTo::SignedIn, Admitted::Accounts, Admitted::Accounts),
            (OpenTo::Members, members.clone(), members.clone()),
        ] {
            let opening = Opening { to, guests: ada.clone() };
            let admits = (opening.admits(Visibility::Public), opening.admits(Visibility::Private));
            assert_eq!(admits, (public, private), "{to:?}");
        }
        let named = Opening { to: OpenTo::Named, guests: ada.clone() };
        assert_eq!(named.admits(Visibility::Private), Admitted::MembersAnd(ada));
    }

    #[test]
    fn every_word_is_read_back() {
        for to in OpenTo::ALL {
            assert_eq!(to.as_str().parse(), Ok(to));
            assert_eq!(serde_json::to_value(to).unwrap(), to.as_str());
        }
        assert!("nobody".parse::<OpenTo>().unwrap_err().to_string().contains("signed_in"));
    }
}
