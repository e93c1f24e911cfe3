//! To which replica a visitor belongs, and the seats that are kept for those who lose their connection.
//!
//! A visitor's browser keeps a signed cookie of the app's host alone: it names the replica and the visitor, and means
//! nothing to any other app. Where a replica is limited in sessions, each visitor takes a seat; whoever closes the
//! last connection keeps it for a moment, since most come back at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac as _;
use http::{HeaderMap, HeaderValue, header};
use marmot_core::gate::Seat;
use marmot_core::id::ReplicaId;
use marmot_core::{AppName, Moment};

use crate::access::Tickets;
use crate::config::Scheme;
use crate::headers::cookie;
use crate::shared::Shared;

/// Seats are looked at this often at most: each look goes through all that are kept.
const SWEEP: Duration = Duration::from_millis(200);
/// Bytes of the signature that are kept: nobody guesses 128 bits.
const SIGNATURE_BYTES: usize = 16;

/// Ties a visitor to a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Bond {
    pub(crate) replica: ReplicaId,
    pub(crate) visitor: u64,
}

/// Who asks, as far as the choice of a replica goes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Guest {
    /// The replica they belong to, or did.
    pub(crate) bond: Option<Bond>,
    /// They will bring a cookie back: browsers do, most programs do not.
    pub(crate) keeps_cookies: bool,
}

impl Guest {
    /// Reads who asks. `returns`: it is somebody who will bring a cookie back.
    pub(crate) fn of(shared: &Shared, app: &AppName, headers: &HeaderMap, returns: bool) -> Self {
        let text = cookie(headers, cookie_name(shared.config.scheme));
        let bond = text.and_then(|text| shared.tickets.read_bond(app, text));
        Self { bond, keeps_cookies: returns || text.is_some() }
    }

    /// What ties this visitor to `replica` from now on.
    pub(crate) fn bond_to(&self, replica: ReplicaId) -> Option<Bond> {
        let visitor = || self.bond.map_or_else(rand::random, |bond| bond.visitor);
        self.keeps_cookies.then(|| Bond { replica, visitor: visitor() })
    }
}

impl Tickets {
    /// What is kept in a cookie.
    pub(crate) fn sign_bond(&self, app: &AppName, bond: Bond) -> String {
        let mut signed = Vec::with_capacity(24 + SIGNATURE_BYTES);
        signed.extend(bond.replica.as_u128().to_be_bytes());
        signed.extend(bond.visitor.to_be_bytes());
        let signature = self.bond_mac(app, &signed).finalize().into_bytes();
        signed.extend(&signature[..SIGNATURE_BYTES]);
        URL_SAFE_NO_PAD.encode(signed)
    }

    /// What a cookie says; `None` when it was not signed here, for this app.
    pub(crate) fn read_bond(&self, app: &AppName, text: &str) -> Option<Bond> {
        let mut signed = [0; 24 + SIGNATURE_BYTES];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut signed).ok()?;
        let (claim, signature) = signed.get(..length)?.split_last_chunk::<SIGNATURE_BYTES>()?;
        let (replica, visitor) = claim.split_first_chunk()?;
        let bond = Bond {
            replica: ReplicaId::from(u128::from_be_bytes(*replica)),
            visitor: u64::from_be_bytes(visitor.try_into().ok()?),
        };
        self.bond_mac(app, claim).verify_truncated_left(signature).ok().map(|()| bond)
    }
}

fn cookie_name(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Http => "marmot_replica",
        Scheme::Https => "__Host-marmot_replica",
    }
}

/// Gives the visitor what ties them to their replica.
///
/// It proves nothing but where they were, so pages that show the app in a frame may have it sent too; each of them
/// its own, which browsers ask for.
pub(crate) fn set_cookie(shared: &Shared, app: &AppName, bond: Bond, headers: &mut HeaderMap) {
    if is_for_everybody(headers) {
        return;
    }
    let scheme = shared.config.scheme;
    let (name, value) = (cookie_name(scheme), shared.tickets.sign_bond(app, bond));
    let cookie = match scheme {
        Scheme::Http => format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax"),
        Scheme::Https => format!("{name}={value}; Path=/; HttpOnly; Secure; SameSite=None; Partitioned"),
    };
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        headers.append(header::SET_COOKIE, cookie);
    }
}

/// Caches on the way may give this answer to others, with its cookies.
fn is_for_everybody(headers: &HeaderMap) -> bool {
    headers.get_all(header::CACHE_CONTROL).iter().any(|list| {
        let directives = list.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
        directives.into_iter().any(|directive| {
            directive.eq_ignore_ascii_case(b"public")
                || directive.get(..9).is_some_and(|start| start.eq_ignore_ascii_case(b"s-maxage="))
        })
    })
}

/// Who is present at which replica, and the seats that are kept for those who have just left.
#[derive(Debug, Default)]
pub(crate) struct Seats {
    kept: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    visitors: HashMap<Bond, Visitor>,
    /// A task gives up the seats of those who did not come back.
    swept: bool,
}

#[derive(Debug, Default)]
struct Visitor {
    /// Requests and connections under way.
    present: usize,
    /// Seats that none of them uses, and until when they are kept.
    spare: Vec<(Seat, Moment)>,
}

impl Seats {
    fn lock(&self) -> MutexGuard<'_, Book> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this visitor has a seat, used or kept.
    pub(crate) fn has(&self, bond: Bond) -> bool {
        self.lock().visitors.contains_key(&bond)
    }
}

/// A visitor's request or connection while it is under way. Its seat is kept for a moment when it ends.
pub(crate) struct Presence {
    shared: Arc<Shared>,
    bond: Bond,
    seat: Option<Seat>,
}

impl Presence {
    /// One more of a visitor who has a seat already; it takes one that is kept, if there is one.
    pub(crate) fn again(shared: &Arc<Shared>, bond: Bond) -> Option<Self> {
        let mut book = shared.seats.lock();
        let visitor = book.visitors.get_mut(&bond)?;
        visitor.present += 1;
        let seat = visitor.spare.pop().map(|(seat, _)| seat);
        drop(book);
        Some(Self { shared: Arc::clone(shared), bond, seat })
    }

    /// A visitor who has just been given a seat.
    pub(crate) fn with(shared: &Arc<Shared>, bond: Bond, seat: Seat) -> Self {
        shared.seats.lock().visitors.entry(bond).or_default().present += 1;
        Self { shared: Arc::clone(shared), bond, seat: Some(seat) }
    }

    /// Whether it has a seat of its own, and not just another of the same visitor's.
    pub(crate) fn is_seated(&self) -> bool {
        self.seat.is_some()
    }

    pub(crate) fn sit(&mut self, seat: Seat) {
        self.seat = Some(seat);
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let linger = self.shared.config.limits.session_linger;
        let mut book = self.shared.seats.lock();
        let Some(visitor) = book.visitors.get_mut(&self.bond) else { return };
        visitor.present -= 1;
        if let Some(seat) = self.seat.take() {
            visitor.spare.push((seat, self.shared.clock.now() + linger));
        }
        if visitor.present == 0 && visitor.spare.is_empty() {
            book.visitors.remove(&self.bond);
        } else if !book.swept
            && !self.shared.soft_stop.is_cancelled()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            book.swept = true;
            self.shared.tracker.spawn_on(sweep(Arc::clone(&self.shared)), &runtime);
        }
    }
}

/// Gives up the seats of those who did not come back, until none is kept.
async fn sweep(shared: Arc<Shared>) {
    while let Some(until) = give_up(&shared) {
        tokio::select! {
            () = tokio::time::sleep(until) => {}
            () = shared.soft_stop.cancelled() => break,
        }
    }
}

/// Gives up what has been kept long enough. When to look again; `None`: nothing is kept.
fn give_up(shared: &Shared) -> Option<Duration> {
    let now = shared.clock.now();
    let mut gone = Vec::new();
    let mut book = shared.seats.lock();
    let mut next: Option<Moment> = None;
    book.visitors.retain(|_, visitor| {
        gone.extend(visitor.spare.extract_if(.., |(_, until)| *until <= now));
        let first = visitor.spare.iter().map(|(_, until)| *until).min();
        next = next.into_iter().chain(first).min();
        visitor.present > 0 || !visitor.spare.is_empty()
    });
    book.swept = next.is_some();
    drop(book);
    if !gone.is_empty() {
        drop(gone);
        shared.rooms.freed_somewhere();
    }
    next.map(|next| (next - now).max(SWEEP))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn app(name: &str) -> AppName {
        name.parse().unwrap()
    }

    fn bond() -> Bond {
        Bond { replica: ReplicaId::from(7), visitor: 9 }
    }

    #[test]
    fn a_bond_is_read_back_by_its_app_alone() {
        let tickets = Tickets::new([1; 32]);
        let text = tickets.sign_bond(&app("iris"), bond());
        assert_eq!(tickets.read_bond(&app("iris"), &text), Some(bond()));
        assert_eq!(tickets.read_bond(&app("rose"), &text), None);
        assert_eq!(Tickets::new([2; 32]).read_bond(&app("iris"), &text), None);
    }

    #[test]
    fn what_caches_may_keep_carries_no_cookie() {
        for (given, for_everybody) in [
            ("public, max-age=60", true),
            ("max-age=60, S-MaxAge=5", true),
            ("private", false),
            ("no-store", false),
            ("", false),
        ] {
            let headers = [(header::CACHE_CONTROL, HeaderValue::from_static(given))].into_iter().collect();
            assert_eq!(is_for_everybody(&headers), for_everybody, "{given}");
        }
    }

    proptest! {
        #[test]
        fn a_changed_bond_is_never_taken(position: prop::sample::Index, bit in 0u8..8) {
            let tickets = Tickets::new([1; 32]);
            let mut bytes = URL_SAFE_NO_PAD.decode(tickets.sign_bond(&app("iris"), bond())).unwrap();
            let at = position.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(tickets.read_bond(&app("iris"), &URL_SAFE_NO_PAD.encode(bytes)), None);
        }

        #[test]
        fn no_text_is_taken_or_panics(text: String) {
            prop_assert_eq!(Tickets::new([1; 32]).read_bond(&app("iris"), &text), None);
        }
    }
}
