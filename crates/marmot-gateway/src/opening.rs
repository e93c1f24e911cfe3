//! Who may open an app: an audience, and beside it whoever has a link or a key. Told by the platform, checked in memory
//! with each request, and again whenever it changes while something is open.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use marmot_core::id::{AppKeyId, ShareLinkId, UserId};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::access::Person;
use crate::limits::{Ceiling, Quota, Usage};

/// What a secret is known by. No salt: that many random bits cannot be guessed from it.
pub type Fingerprint = [u8; 32];

/// What this secret is known by.
pub fn fingerprint(secret: &str) -> Fingerprint {
    Sha256::digest(secret.as_bytes()).into()
}

/// Who may open an app, and how much may be asked of it.
#[derive(Debug, Clone)]
pub struct Access {
    /// Who may open it as who they are.
    pub audience: Audience,
    /// Links that open it for whoever has them.
    pub links: Arc<[ShareLink]>,
    /// What programs show to it.
    pub keys: Arc<[Arc<AppKey>]>,
    /// The path of its project, for those who are not let in: absent where that is not for them to know.
    pub project: Option<Arc<str>>,
    /// What the apps of its project may be asked for together.
    pub ceiling: Option<Arc<Ceiling>>,
}

/// Who may open an app as who they are.
#[derive(Debug, Clone)]
pub enum Audience {
    /// Everybody.
    Everyone,
    /// These people, once they have signed in.
    People(Arc<BTreeSet<UserId>>),
}

/// Opens an app for whoever has it.
#[derive(Debug, Clone)]
pub struct ShareLink {
    /// Which link.
    pub id: ShareLinkId,
    /// What its secret is known by.
    pub fingerprint: Fingerprint,
    /// When it ends, since 1970.
    pub expires: Option<Duration>,
    /// How it is used.
    pub usage: Arc<Usage>,
}

/// Lets a program in.
#[derive(Debug)]
pub struct AppKey {
    /// Which key.
    pub id: AppKeyId,
    /// What its secret is known by.
    pub fingerprint: Fingerprint,
    /// When it ends, since 1970.
    pub expires: Option<Duration>,
    /// How much it may be used.
    pub quota: Quota,
    /// How it is used.
    pub usage: Arc<Usage>,
}

/// Who sent a request, as far as it is known.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    /// Nobody in particular.
    Anybody,
    /// Somebody who has signed in.
    Person(Person),
    /// Somebody who was given a link.
    Link(ShareLinkId),
    /// A program with a key.
    Key(Arc<AppKey>),
}

impl Caller {
    /// The person, if it is one who has signed in.
    pub(crate) fn person(&self) -> Option<UserId> {
        match self {
            Self::Person(person) => Some(person.id),
            Self::Anybody | Self::Link(_) | Self::Key(_) => None,
        }
    }
}

/// Whether somebody may open an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// No.
    No,
    /// Yes, as long as nobody says otherwise; until then at most, since 1970.
    Until(Option<Duration>),
}

impl Access {
    /// For everybody.
    pub fn everyone() -> Self {
        Self::of(Audience::Everyone)
    }

    /// For these people, once they have signed in.
    pub fn people(people: impl IntoIterator<Item = UserId>) -> Self {
        Self::of(Audience::People(Arc::new(people.into_iter().collect())))
    }

    fn of(audience: Audience) -> Self {
        Self { audience, links: Arc::default(), keys: Arc::default(), project: None, ceiling: None }
    }

    /// Whether this one may open the app at `now`, since 1970.
    pub(crate) fn admits(&self, caller: &Caller, now: Duration) -> Admission {
        let until = |expires: Option<Duration>| match expires {
            Some(end) if end <= now => Admission::No,
            end => Admission::Until(end),
        };
        match (&self.audience, caller) {
            // Who shows a key is judged by it, also where others need none.
            (_, Caller::Key(key)) => match self.keys.iter().find(|known| known.id == key.id) {
                Some(known) => until(known.expires),
                None => Admission::No,
            },
            (Audience::Everyone, _) => Admission::Until(None),
            (Audience::People(people), Caller::Person(person)) if people.contains(&person.id) => {
                Admission::Until(None)
            }
            (Audience::People(_), Caller::Link(id)) => self
                .links
                .iter()
                .find(|link| link.id == *id)
                .map_or(Admission::No, |link| until(link.expires)),
            (Audience::People(_), Caller::Person(_) | Caller::Anybody) => Admission::No,
        }
    }

    /// The link with this secret. All are looked at, so that time tells nothing.
    pub(crate) fn link_of(&self, secret: &str) -> Option<&ShareLink> {
        let given = fingerprint(secret);
        let is_it = |link: &ShareLink| bool::from(link.fingerprint.ct_eq(&given));
        self.links.iter().fold(None, |found, link| if is_it(link) { Some(link) } else { found })
    }

    /// The key with this secret.
    pub(crate) fn key_of(&self, secret: &str) -> Option<&Arc<AppKey>> {
        let given = fingerprint(secret);
        let is_it = |key: &AppKey| bool::from(key.fingerprint.ct_eq(&given));
        self.keys.iter().fold(None, |found, key| if is_it(key) { Some(key) } else { found })
    }
}

/// The same people are let in in the same way.
impl PartialEq for Access {
    fn eq(&self, other: &Self) -> bool {
        let links =
            |access: &Self| access.links.iter().map(|link| (link.id, link.expires)).collect::<Vec<_>>();
        let keys = |access: &Self| {
            access.keys.iter().map(|key| (key.id, key.expires, key.quota)).collect::<Vec<_>>()
        };
        self.audience == other.audience
            && (Arc::ptr_eq(&self.links, &other.links) || links(self) == links(other))
            && (Arc::ptr_eq(&self.keys, &other.keys) || keys(self) == keys(other))
            && self.project == other.project
            && self.ceiling.as_ref().map(Arc::as_ptr) == other.ceiling.as_ref().map(Arc::as_ptr)
    }
}

impl PartialEq for Audience {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Everyone, Self::Everyone) => true,
            (Self::People(one), Self::People(other)) => Arc::ptr_eq(one, other) || one == other,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Duration = Duration::from_secs(43_200);

    fn person(id: u128) -> Caller {
        Caller::Person(Person { id: UserId::from(id), username: "ada".into() })
    }

    fn key(secret: &str, expires: Option<Duration>) -> Arc<AppKey> {
        Arc::new(AppKey {
            id: AppKeyId::from(9),
            fingerprint: fingerprint(secret),
            expires,
            quota: Quota::default(),
            usage: Arc::default(),
        })
    }

    #[test]
    fn each_is_let_in_by_what_they_show_and_no_longer_than_it_is_good_for() {
        let mut access = Access::people([UserId::from(1)]);
        access.links = Arc::new([ShareLink {
            id: ShareLinkId::from(5),
            fingerprint: fingerprint("s3cret"),
            expires: Some(NOON),
            usage: Arc::default(),
        }]);
        access.keys = Arc::new([key("k", None)]);
        let before = NOON - Duration::from_millis(1);
        let link = Caller::Link(access.link_of("s3cret").unwrap().id);
        let known = Caller::Key(Arc::clone(access.key_of("k").unwrap()));
        for (caller, early, late) in [
            (Caller::Anybody, Admission::No, Admission::No),
            (person(1), Admission::Until(None), Admission::Until(None)),
            (person(2), Admission::No, Admission::No),
            (link, Admission::Until(Some(NOON)), Admission::No),
            (Caller::Link(ShareLinkId::from(6)), Admission::No, Admission::No),
            (known.clone(), Admission::Until(None), Admission::Until(None)),
        ] {
            assert_eq!((access.admits(&caller, before), access.admits(&caller, NOON)), (early, late));
        }
        assert!(
            access.link_of("s3cre").is_none() && access.link_of("").is_none() && access.key_of("").is_none()
        );
        // A key that was revoked opens nothing, also where nobody needs one.
        assert_eq!(Access::everyone().admits(&known, before), Admission::No);
        assert_eq!(Access::everyone().admits(&Caller::Anybody, NOON), Admission::Until(None));
    }

    #[test]
    fn access_is_another_when_somebody_else_is_let_in() {
        let access = Access::people([UserId::from(1)]);
        assert_eq!(access, Access::people([UserId::from(1)]));
        assert_ne!(access, Access::people([UserId::from(2)]));
        assert_ne!(access, Access::everyone());
        assert_ne!(access, Access { keys: Arc::new([key("k", None)]), ..access.clone() });
    }
}
