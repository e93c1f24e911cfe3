//! Who may open an app: a sign-in on the platform, carried over to the app's own host once, and checked in memory
//! with each request from then on.
//!
//! 1. A navigation without a ticket is sent to `PLATFORM/access/APP?next=PATH`, and its browser gets a state.
//! 2. The platform checks its own session, and sends the browser to `APP-HOST/.marmot/enter?code=CODE&next=PATH`,
//!    `next` unchanged.
//! 3. The gateway takes the code, once, from the browser that has the state, and gives it a ticket: a cookie of the
//!    app's host alone, worthless elsewhere.
//!
//! The state is inside `next`: without it, somebody could sign a visitor in under a name that is not theirs.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use marmot_core::AppName;
use marmot_core::id::{ShareLinkId, UserId};
use sha2::Sha256;

/// How long a code may be on its way from the platform's page to the app's host.
const CODE_LIFE: Duration = Duration::from_secs(30);
/// How long a ticket is good for. Whoever loses access is refused at once all the same.
const TICKET_LIFE: Duration = Duration::from_secs(12 * 3600);
/// Length of a code's nonce.
const NONCE_BYTES: usize = 16;

/// Issues and checks what proves a visitor's name to the gateway.
pub struct Tickets {
    /// Has taken in the key.
    mac: Hmac<Sha256>,
    /// Has taken in the key too, for what ties visitors to replicas.
    bonds: Hmac<Sha256>,
    wall_clock: Box<dyn Fn() -> Duration + Send + Sync>,
    /// The codes that have been used, and when they would have ended.
    used: Mutex<HashMap<[u8; NONCE_BYTES], u64>>,
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets(…)")
    }
}

/// Somebody who has signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Who.
    pub id: UserId,
    /// Their name, as apps are told it.
    pub username: String,
}

/// Why a code or ticket is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTicket {
    /// Not issued here, or changed since.
    #[error("it was not issued here")]
    Forged,
    /// Issued for another app.
    #[error("it is for another app")]
    OtherApp,
    /// Its time is over.
    #[error("it has expired")]
    Expired,
    /// A code that was used before.
    #[error("it has been used before")]
    Used,
}

/// What a proof is good for. The first byte of what is signed, so that none is taken for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Code = 1,
    Ticket = 2,
    /// A ticket of who came by a link, and is not known by name.
    Link = 3,
}

impl Tickets {
    /// Signs with this key. Whoever has it can be anybody: 32 random bytes, kept with the platform's other secrets.
    /// A new key makes everybody sign in again.
    pub fn new(key: [u8; 32]) -> Self {
        Self::with_wall_clock(key, || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    /// Like [`Tickets::new`], by a clock that tells the time since 1970.
    pub fn with_wall_clock(key: [u8; 32], tell: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        // HMAC fills short keys up with zeros to a block.
        let mut block = [0; 64];
        block[..32].copy_from_slice(&key);
        let mac = |purpose: &[u8]| Hmac::<Sha256>::new(&block.into()).chain_update(purpose);
        let (mac, bonds) = (mac(b"marmot gateway ticket 1"), mac(b"marmot gateway affinity 1"));
        Self { mac, bonds, wall_clock: Box::new(tell), used: Mutex::default() }
    }

    /// A code that lets this person into this app, once, within 30 s. For the platform's page at `/access/APP`, which
    /// sends the browser on to `/.marmot/enter?code=CODE&next=NEXT` on the app's host.
    pub fn issue_code(&self, app: &AppName, person: &Person) -> String {
        self.issue(Purpose::Code, app, person.id.as_u128(), &person.username, CODE_LIFE)
    }

    /// Takes a code: who it lets in.
    pub fn redeem_code(&self, app: &AppName, code: &str) -> Result<Person, InvalidTicket> {
        let Claim { id, name, nonce, expires } = self.verify(Purpose::Code, app, code)?;
        let person = Person { id: UserId::from(id), username: name };
        let now = self.now();
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.retain(|_, expires| *expires > now);
        match used.insert(nonce, expires) {
            None => Ok(person),
            Some(_) => Err(InvalidTicket::Used),
        }
    }

    /// What is kept in a cookie of the app's host.
    pub(crate) fn issue_ticket(&self, app: &AppName, person: &Person) -> String {
        self.issue(Purpose::Ticket, app, person.id.as_u128(), &person.username, TICKET_LIFE)
    }

    pub(crate) fn check_ticket(&self, app: &AppName, ticket: &str) -> Result<Person, InvalidTicket> {
        let Claim { id, name, .. } = self.verify(Purpose::Ticket, app, ticket)?;
        Ok(Person { id: UserId::from(id), username: name })
    }

    /// The same for who came by a link: the link itself leaves the browser at once. Whether the link is still good is
    /// asked with each request.
    pub(crate) fn issue_link_ticket(&self, app: &AppName, link: ShareLinkId, life: Duration) -> String {
        self.issue(Purpose::Link, app, link.as_u128(), "", life)
    }

    pub(crate) fn check_link_ticket(
        &self,
        app: &AppName,
        ticket: &str,
    ) -> Result<ShareLinkId, InvalidTicket> {
        self.verify(Purpose::Link, app, ticket).map(|claim| ShareLinkId::from(claim.id))
    }

    /// The time since 1970.
    pub(crate) fn time(&self) -> Duration {
        (self.wall_clock)()
    }

    fn now(&self) -> u64 {
        self.time().as_secs()
    }

    /// purpose, expiry, nonce, id of the holder, length of the app's name, app, name of the holder; then the signature.
    fn issue(&self, purpose: Purpose, app: &AppName, id: u128, holder: &str, life: Duration) -> String {
        let mut claim = vec![purpose as u8];
        claim.extend((self.now() + life.as_secs()).to_be_bytes());
        claim.extend(rand::random::<[u8; NONCE_BYTES]>());
        let name = app.as_str().as_bytes();
        claim.extend(id.to_be_bytes());
        claim.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        claim.extend(name);
        claim.extend(holder.as_bytes());
        let signature = self.mac(&claim).finalize().into_bytes();
        claim.extend(signature);
        URL_SAFE_NO_PAD.encode(claim)
    }

    fn verify(&self, purpose: Purpose, app: &AppName, text: &str) -> Result<Claim, InvalidTicket> {
        let signed = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidTicket::Forged)?;
        let (claim, signature) = signed.split_last_chunk::<32>().ok_or(InvalidTicket::Forged)?;
        self.mac(claim).verify_slice(signature).map_err(|_| InvalidTicket::Forged)?;
        let (found, issued_for, claim) = read_claim(claim).ok_or(InvalidTicket::Forged)?;
        if found != purpose as u8 {
            Err(InvalidTicket::Forged)
        } else if issued_for != app.as_str().as_bytes() {
            Err(InvalidTicket::OtherApp)
        } else if claim.expires <= self.now() {
            Err(InvalidTicket::Expired)
        } else {
            Ok(claim)
        }
    }

    /// What a bond of this app to a replica is signed with.
    pub(crate) fn bond_mac(&self, app: &AppName, claim: &[u8]) -> Hmac<Sha256> {
        // The claim is of one length, so that what comes before it cannot run into it.
        self.bonds.clone().chain_update(app.as_str()).chain_update(claim)
    }

    fn mac(&self, claim: &[u8]) -> Hmac<Sha256> {
        self.mac.clone().chain_update(claim)
    }
}

/// What is signed, but for its purpose and the app that it is for.
struct Claim {
    /// Of the holder.
    id: u128,
    name: String,
    nonce: [u8; NONCE_BYTES],
    expires: u64,
}

/// The purpose, the app, and the rest.
fn read_claim(claim: &[u8]) -> Option<(u8, &[u8], Claim)> {
    let (&[purpose], rest) = claim.split_first_chunk()?;
    let (expires, rest) = rest.split_first_chunk()?;
    let (nonce, rest) = rest.split_first_chunk()?;
    let (id, rest) = rest.split_first_chunk()?;
    let (&[length], rest) = rest.split_first_chunk()?;
    let (app, name) = rest.split_at_checked(usize::from(length))?;
    let claim = Claim {
        id: u128::from_be_bytes(*id),
        name: std::str::from_utf8(name).ok()?.to_owned(),
        nonce: *nonce,
        expires: u64::from_be_bytes(*expires),
    };
    Some((purpose, app, claim))
}

/// `next` if it is a path on this same host, else `/`.
///
/// Browsers take `\` for `/`, skip tabs and newlines, and read `//host` as another host.
pub(crate) fn safe_next(next: &str) -> &str {
    let is_path = next.starts_with('/')
        && !next.starts_with("//")
        && next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_path { next } else { "/" }
}

/// A random word that ties the way back from the platform to the browser that was sent there.
pub(crate) fn new_state() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; NONCE_BYTES]>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn app(name: &str) -> AppName {
        name.parse().unwrap()
    }

    fn ada() -> Person {
        Person { id: UserId::from(7), username: "ada".into() }
    }

    fn tickets_at(clock: &Arc<AtomicU64>) -> Tickets {
        let clock = Arc::clone(clock);
        Tickets::with_wall_clock([1; 32], move || Duration::from_secs(clock.load(Ordering::Relaxed)))
    }

    #[test]
    fn a_code_is_taken_once_for_its_app_and_within_half_a_minute() {
        let clock = Arc::new(AtomicU64::new(1_000));
        let tickets = tickets_at(&clock);
        let code = tickets.issue_code(&app("iris"), &ada());
        assert_eq!(tickets.redeem_code(&app("rose"), &code), Err(InvalidTicket::OtherApp));
        assert_eq!(tickets.redeem_code(&app("iris"), &code), Ok(ada()));
        assert_eq!(tickets.redeem_code(&app("iris"), &code), Err(InvalidTicket::Used));
        let late = tickets.issue_code(&app("iris"), &ada());
        clock.store(1_029, Ordering::Relaxed);
        let in_time = tickets.issue_code(&app("iris"), &ada());
        clock.store(1_030, Ordering::Relaxed);
        assert_eq!(tickets.redeem_code(&app("iris"), &late), Err(InvalidTicket::Expired));
        assert_eq!(tickets.redeem_code(&app("iris"), &in_time), Ok(ada()));
    }

    #[test]
    fn a_code_is_no_ticket_and_a_ticket_no_code() {
        let tickets = Tickets::new([1; 32]);
        let (code, ticket) =
            (tickets.issue_code(&app("iris"), &ada()), tickets.issue_ticket(&app("iris"), &ada()));
        assert_eq!(tickets.check_ticket(&app("iris"), &code), Err(InvalidTicket::Forged));
        assert_eq!(tickets.redeem_code(&app("iris"), &ticket), Err(InvalidTicket::Forged));
        assert_eq!(tickets.check_ticket(&app("iris"), &ticket), Ok(ada()));
        assert_eq!(Tickets::new([2; 32]).check_ticket(&app("iris"), &ticket), Err(InvalidTicket::Forged));
        // Nor is the ticket of who came by a link that of a person whose id is the same.
        let link = tickets.issue_link_ticket(&app("iris"), ShareLinkId::from(7), Duration::from_secs(60));
        assert_eq!(tickets.check_ticket(&app("iris"), &link), Err(InvalidTicket::Forged));
        assert_eq!(tickets.check_link_ticket(&app("iris"), &ticket), Err(InvalidTicket::Forged));
        assert_eq!(tickets.check_link_ticket(&app("rose"), &link), Err(InvalidTicket::OtherApp));
        assert_eq!(tickets.check_link_ticket(&app("iris"), &link), Ok(ShareLinkId::from(7)));
    }

    #[test]
    fn next_stays_on_the_same_host() {
        for next in ["/", "/a?b=c&d=%2F%2Fevil.test", "/a//b", "/@evil.test", "/a:b"] {
            assert_eq!(safe_next(next), next);
        }
        for next in [
            "",
            "evil.test",
            "//evil.test",
            "///evil.test",
            "/\\evil.test",
            "\\\\evil.test",
            "\\/evil.test",
            "https://evil.test",
            "https:evil.test",
            "javascript:alert(1)",
            "data:text/html,x",
            " //evil.test",
            "/\t/evil.test",
            "/\n/evil.test",
            "/\r/evil.test",
            "\t//evil.test",
            "/a b",
            "/ä",
            "?next=x",
            "#x",
            "/\u{0}",
            "/\u{7f}",
            "http:/evil.test",
            "////evil.test",
            "/x\r\nSet-Cookie: a=b",
            "@evil.test",
        ] {
            assert_eq!(safe_next(next), "/", "{next:?}");
        }
    }

    proptest! {
        #[test]
        fn a_changed_ticket_is_never_taken(position: prop::sample::Index, bit in 0u8..8) {
            let tickets = Tickets::new([1; 32]);
            let ticket = tickets.issue_ticket(&app("iris"), &ada());
            let mut bytes = URL_SAFE_NO_PAD.decode(&ticket).unwrap();
            let at = position.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let changed = URL_SAFE_NO_PAD.encode(bytes);
            prop_assert_eq!(tickets.check_ticket(&app("iris"), &changed), Err(InvalidTicket::Forged));
        }

        #[test]
        fn no_text_is_taken_or_panics(text: String) {
            prop_assert!(Tickets::new([1; 32]).redeem_code(&app("iris"), &text).is_err());
        }
    }
}
