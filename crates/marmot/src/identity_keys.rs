//! The keys by which apps are told, signed, who their visitors are: made, kept in the data directory, replaced in time.
//!
//! A key is published for a while before it signs, so that who keeps a copy of what is published knows it by then; and
//! for a while after another has taken its place, until nothing that it has signed is good any more.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use marmot_gateway::{Identities, IdentityKey};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::{hex, private_file};

/// The name of the file in the data directory.
const FILE: &str = "identity.keys";
/// A key is replaced after this long.
const ROTATED_AFTER: Duration = Duration::from_secs(30 * 24 * 3600);
/// A new key is published for this long before it signs.
const KNOWN_BEFORE: Duration = Duration::from_secs(3600);
/// A key that signs no more is published for this long: much longer than what it signed is good for.
const KNOWN_AFTER: Duration = Duration::from_secs(3600);
/// How often it is looked whether it is time.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A key that was replaced at once is published for this long: twice as long as what it signed is good for.
const KNOWN_AFTER_ALL: Duration = Duration::from_secs(600);

/// A key as it is kept.
#[derive(Clone, Serialize, Deserialize)]
struct Kept {
    made_at: Timestamp,
    /// Signs from the beginning: an operator wanted the ones before it to sign no more.
    #[serde(default)]
    at_once: bool,
    /// PKCS #8, in hexadecimal.
    key: String,
}

/// When keys were made, oldest first: which of them signs, and which are kept.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    /// The first that is still published.
    first: usize,
    /// The one that signs.
    signer: usize,
    /// It is time for another.
    another: bool,
}

/// Decides about keys that were made at these times, oldest first, some to sign at once.
fn plan(made: &[(Timestamp, bool)], now: Timestamp) -> Plan {
    let known_for = |at: &Timestamp, long: Duration| *at + long <= now;
    let before = |at_once: bool| if at_once { Duration::ZERO } else { KNOWN_BEFORE };
    let after = |at_once: bool| if at_once { KNOWN_AFTER_ALL } else { KNOWN_BEFORE + KNOWN_AFTER };
    // The newest that is known everywhere; where none is, the first there ever was.
    let signer = made.iter().rposition(|(at, at_once)| known_for(at, before(*at_once))).unwrap_or(0);
    // One is done with when the next has been signing for long enough.
    let done = |(at, at_once): &&(Timestamp, bool)| known_for(at, after(*at_once));
    let first = made.iter().skip(1).rposition(|next| done(&next)).map_or(0, |last| last + 1);
    let another = made.last().is_none_or(|(at, _)| known_for(at, ROTATED_AFTER));
    Plan { first: first.min(signer), signer, another }
}

/// Reads the keys, and makes the first and each next one when it is time.
fn keep(data_dir: &Path, now: Timestamp) -> anyhow::Result<(IdentityKey, Vec<IdentityKey>)> {
    let path = data_dir.join(FILE);
    let mut kept = read(&path)?;
    let times = |kept: &[Kept]| kept.iter().map(|key| (key.made_at, key.at_once)).collect::<Vec<_>>();
    let before = kept.len();
    if plan(&times(&kept), now).another {
        kept.push(Kept::made(now, false)?);
    }
    let Plan { first, signer, .. } = plan(&times(&kept), now);
    let changed = kept.len() != before || first > 0;
    kept.drain(..first);
    if changed {
        write(data_dir, &kept).with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    let key = |kept: &Kept| {
        let bytes = hex::decode(&kept.key).and_then(|bytes| IdentityKey::read(&bytes).ok());
        bytes.ok_or_else(|| damaged(&path))
    };
    let keys = kept.iter().map(key).collect::<anyhow::Result<Vec<_>>>()?;
    let signer = keys.get(signer - first).cloned().ok_or_else(|| damaged(&path))?;
    Ok((signer, keys))
}

fn read(path: &Path) -> anyhow::Result<Vec<Kept>> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map_err(|_| damaged(path)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read `{}`", path.display())),
    }
}

impl Kept {
    fn made(made_at: Timestamp, at_once: bool) -> anyhow::Result<Self> {
        let key = IdentityKey::generate().context("cannot make a key that signs who visitors are")?;
        Ok(Self { made_at, at_once, key: hex::encode(&key) })
    }
}

/// Makes a key that signs at once; those before it sign no more, and are published until nothing that they signed is good.
/// A server that runs on the data directory follows within seconds.
///
/// # Errors
/// When they cannot be read or written.
pub fn replace_at_once(data_dir: &Path) -> anyhow::Result<()> {
    let path = data_dir.join(FILE);
    let mut kept = read(&path)?;
    kept.push(Kept::made(Timestamp::now(), true)?);
    write(data_dir, &kept).with_context(|| format!("cannot write `{}`", path.display()))
}

fn damaged(path: &Path) -> anyhow::Error {
    anyhow::anyhow!(
        "`{}` is damaged: remove it, and apps are told who their visitors are by a new key",
        path.display()
    )
}

fn write(data_dir: &Path, kept: &[Kept]) -> std::io::Result<()> {
    private_file::write(&data_dir.join(FILE), &serde_json::to_vec_pretty(kept)?)
}

/// The keys of this data directory, for the platform at `issuer`.
///
/// # Errors
/// When they cannot be read or written.
pub fn open(data_dir: &Path, issuer: &str) -> anyhow::Result<Arc<Identities>> {
    let (signer, keys) = keep(data_dir, Timestamp::now())?;
    Ok(Arc::new(Identities::new(issuer, signer, &keys)))
}

/// Replaces keys in time, until it is stopped.
pub async fn rotate(data_dir: std::path::PathBuf, identities: Arc<Identities>, stop: CancellationToken) {
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            _ = look.tick() => {}
            () = stop.cancelled() => return,
        }
        let data_dir = data_dir.clone();
        match tokio::task::spawn_blocking(move || keep(&data_dir, Timestamp::now())).await {
            Ok(Ok((signer, keys))) => identities.replace(signer, &keys),
            Ok(Err(error)) => {
                tracing::warn!("the keys that sign who visitors are stay as they are: {error:#}");
            }
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn a_new_key_is_known_before_it_signs_and_an_old_one_for_as_long_as_it_may_be_needed() {
        let at = Timestamp::UNIX_EPOCH;
        let kept = |times: &[Timestamp]| times.iter().map(|at| (*at, false)).collect::<Vec<_>>();
        let plan = |times: &[Timestamp], now| plan(&kept(times), now);
        assert_eq!(plan(&[], at), Plan { first: 0, signer: 0, another: true });
        // The very first signs at once: there is no other.
        assert_eq!(plan(&[at], at), Plan { first: 0, signer: 0, another: false });
        let next = at + 30 * DAY;
        assert!(!plan(&[at], next - Duration::from_secs(1)).another);
        assert!(plan(&[at], next).another);
        let both = [at, next];
        let minutes = |minutes: u64| next + Duration::from_secs(60 * minutes);
        assert_eq!(plan(&both, minutes(59)), Plan { first: 0, signer: 0, another: false });
        assert_eq!(plan(&both, minutes(60)), Plan { first: 0, signer: 1, another: false });
        assert_eq!(plan(&both, minutes(119)), Plan { first: 0, signer: 1, another: false });
        assert_eq!(plan(&both, minutes(120)), Plan { first: 1, signer: 1, another: false });
    }

    #[test]
    fn a_key_that_is_wanted_at_once_signs_at_once_and_those_before_stay_known_while_their_tokens_live() {
        let at = Timestamp::UNIX_EPOCH;
        let minutes = |minutes: u64| at + Duration::from_secs(60 * minutes);
        // One that was made a moment ago and does not sign yet is passed over.
        let made = [(at, false), (minutes(1), false), (minutes(2), true)];
        assert_eq!(plan(&made, minutes(2)), Plan { first: 0, signer: 2, another: false });
        assert_eq!(plan(&made, minutes(11)), Plan { first: 0, signer: 2, another: false });
        assert_eq!(plan(&made, minutes(12)), Plan { first: 2, signer: 2, another: false });
    }

    #[test]
    fn an_operator_replaces_the_key_that_signs_while_the_server_runs() {
        let dir = tempfile::TempDir::new().unwrap();
        let now = Timestamp::now();
        let (first, _) = keep(dir.path(), now).unwrap();
        replace_at_once(dir.path()).unwrap();
        let (second, published) = keep(dir.path(), Timestamp::now()).unwrap();
        assert_ne!(second.id(), first.id());
        let ids: Vec<_> = published.iter().map(IdentityKey::id).collect();
        assert_eq!(ids, [first.id(), second.id()]);
        let (signer, published) = keep(dir.path(), now + DAY).unwrap();
        assert_eq!((signer.id(), published.len()), (second.id(), 1));
    }

    #[test]
    fn keys_are_kept_for_the_owner_of_the_directory_alone_and_replaced_in_time() {
        let dir = tempfile::TempDir::new().unwrap();
        let now = Timestamp::now();
        let (first, _) = keep(dir.path(), now).unwrap();
        let mode = fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(keep(dir.path(), now + DAY).unwrap().0.id(), first.id(), "after a restart");
        let ids = |keys: &[IdentityKey]| keys.iter().map(|key| key.id().to_owned()).collect::<Vec<_>>();
        let (signer, published) = keep(dir.path(), now + 31 * DAY).unwrap();
        assert_eq!((signer.id(), published.len()), (first.id(), 2));
        let second = ids(&published)[1].clone();
        let (signer, published) = keep(dir.path(), now + 32 * DAY).unwrap();
        assert_eq!((signer.id(), ids(&published)), (second.as_str(), vec![second.clone()]));
        fs::write(dir.path().join(FILE), "[{").unwrap();
        assert!(keep(dir.path(), now).unwrap_err().to_string().contains("damaged"));
    }
}
