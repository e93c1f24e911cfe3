//! What the gateway is told of who may open each app: gathered for all of them at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use jiff::Timestamp;
use marmot_core::id::{GroupId, LauncherId, ProjectId, UserId};
use marmot_gateway::routes::{self, Access, Audience, Fingerprint, Quota, Rate};

use super::error::Result;
use super::{Service, now};
use crate::db::opening::InForce;
use crate::db::{Connection, DbError, groups, opening};
use crate::hex;
use crate::model::{Launcher, Project, ProjectLimits, Visibility};
use crate::opening::{Admitted, Guests, Opening};

/// Within what a key's rate is counted.
const MINUTE: std::time::Duration = std::time::Duration::from_secs(60);

/// What a launcher's app is opened by, gathered for all of them at once.
#[derive(Debug, Default)]
pub(super) struct Doors {
    said: BTreeMap<LauncherId, Opening>,
    links: BTreeMap<LauncherId, Vec<routes::ShareLink>>,
    keys: BTreeMap<LauncherId, Vec<Arc<routes::AppKey>>>,
    groups: BTreeMap<GroupId, BTreeSet<UserId>>,
    /// Everybody with an account.
    accounts: Arc<BTreeSet<UserId>>,
    /// What was said about the limits of projects.
    limits: BTreeMap<ProjectId, ProjectLimits>,
}

impl Service {
    /// Reads what all apps are opened by. `accounts`: everybody who may sign in; `limits`: what was said for one project.
    pub(super) async fn doors(
        &self,
        db: &mut Connection,
        accounts: BTreeSet<UserId>,
        limits: &BTreeMap<ProjectId, ProjectLimits>,
    ) -> Result<Doors> {
        let said = opening::all(db).await?;
        let groups = groups::all_members(db).await?;
        let accounts = self.same_accounts(accounts);
        let mut doors = Doors { said, groups, accounts, limits: limits.clone(), ..Doors::default() };
        for InForce { launcher, hash, what } in opening::all_links(db).await? {
            let grant = what.grant;
            let link = routes::ShareLink {
                id: grant.id,
                fingerprint: fingerprint(&hash)?,
                expires: grant.expires_at.map(since_1970),
                usage: self.inner.usages.of(grant.id.as_u128()),
            };
            doors.links.entry(launcher).or_default().push(link);
        }
        for InForce { launcher, hash, what } in opening::all_keys(db, now()).await? {
            let (grant, quota) = (what.grant, what.quota);
            let rate = quota.per_minute.and_then(|count| Rate::of(count, MINUTE));
            let key = Arc::new(routes::AppKey {
                id: grant.id,
                fingerprint: fingerprint(&hash)?,
                expires: grant.expires_at.map(since_1970),
                quota: Quota { rate, at_once: quota.at_once },
                usage: self.inner.usages.of(grant.id.as_u128()),
            });
            doors.keys.entry(launcher).or_default().push(key);
        }
        Ok(doors)
    }

    /// The same set as before where it is the same: it is compared for many apps.
    fn same_accounts(&self, accounts: BTreeSet<UserId>) -> Arc<BTreeSet<UserId>> {
        let mut known = self.inner.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if **known != accounts {
            *known = Arc::new(accounts);
        }
        Arc::clone(&known)
    }

    /// Who may open the app of a launcher, as the gateway is told it.
    pub(super) fn access(
        &self,
        doors: &mut Doors,
        launcher: &Launcher,
        project: &Project,
        members: &Arc<BTreeSet<UserId>>,
    ) -> Access {
        let said = doors.said.remove(&launcher.id).unwrap_or_default();
        let audience = match said.admits(project.visibility) {
            Admitted::Everybody => Audience::Everyone,
            Admitted::Accounts => Audience::People(Arc::clone(&doors.accounts)),
            Admitted::MembersAnd(others) if others == Guests::default() => {
                Audience::People(Arc::clone(members))
            }
            Admitted::MembersAnd(others) => {
                // Who is disabled may be named still.
                let mut people = &**members | &(&others.users & &doors.accounts);
                for group in &others.groups {
                    people.extend(doors.groups.get(group).into_iter().flatten());
                }
                Audience::People(Arc::new(people))
            }
        };
        let links = doors.links.remove(&launcher.id).filter(|_| said.is_by_link());
        let keys = doors.keys.remove(&launcher.id);
        let limits = doors.limits.get(&project.id).copied().unwrap_or_default().or(&self.options().limits);
        let limited = limits.requests_per_second.is_some() || limits.requests_at_once.is_some();
        let ceiling = limited.then(|| {
            let number = |limit: u64| u32::try_from(limit).unwrap_or(u32::MAX);
            let rate = limits.requests_per_second.and_then(|count| {
                // Ten seconds' worth at once: a page brings many small files.
                Rate::of(number(count).saturating_mul(10), std::time::Duration::from_secs(10))
            });
            self.inner.usages.ceiling(project.id, rate, number(limits.requests_at_once.unwrap_or(u64::MAX)))
        });
        let is_known = project.visibility == Visibility::Public;
        Access {
            audience,
            links: links.unwrap_or_default().into(),
            keys: keys.unwrap_or_default().into(),
            project: is_known.then(|| format!("{}/{}", project.namespace, project.slug).into()),
            ceiling,
        }
    }
}

fn since_1970(at: Timestamp) -> std::time::Duration {
    std::time::Duration::try_from(at.duration_since(Timestamp::UNIX_EPOCH)).unwrap_or_default()
}

/// A hash as the gateway has it.
fn fingerprint(hexadecimal: &str) -> Result<Fingerprint> {
    let unreadable = || DbError::Unreadable { column: "hash", why: "no SHA-256 in hexadecimal".to_owned() };
    let bytes = hex::decode(hexadecimal).and_then(|bytes| bytes.try_into().ok());
    Ok(bytes.ok_or_else(unreadable)?)
}
