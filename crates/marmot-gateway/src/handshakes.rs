//! How many handshakes of TLS are under way, and how many a client begins: each costs more than a request.

use std::net::IpAddr;
use std::sync::Arc;

use marmot_core::Moment;

use crate::config::Limits;
use crate::limits::{Buckets, Inside};
use crate::trust::client_of;

/// What is counted of all cores together.
#[derive(Default)]
pub(crate) struct Handshakes {
    begun: Buckets,
    under_way: Inside,
}

/// A handshake that is under way.
pub(crate) struct Handshake(Arc<Handshakes>);

impl Drop for Handshake {
    fn drop(&mut self) {
        self.0.under_way.leave();
    }
}

impl Handshakes {
    /// Begins one more. `None`: `client` has begun too many lately, or too many are under way. `client` is absent where it
    /// may begin as many as it likes.
    pub(crate) fn begin(
        self: &Arc<Self>,
        client: Option<IpAddr>,
        limits: &Limits,
        now: Moment,
    ) -> Option<Handshake> {
        // The place first: who gets none has not begun.
        let place = self.under_way.enter(limits.handshakes_at_once).then(|| Handshake(Arc::clone(self)))?;
        if let (Some(client), Some(rate)) = (client, limits.handshake_rate) {
            self.begun.take(client_of(client), rate, now).ok()?;
        }
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Rate;
    use std::time::Duration;

    #[test]
    fn a_client_begins_so_many_in_a_time_and_all_together_have_so_many_under_way() {
        let handshakes = Arc::new(Handshakes::default());
        let limits = Limits {
            handshake_rate: Rate::of(2, Duration::from_secs(10)),
            handshakes_at_once: 3,
            ..Limits::default()
        };
        let at = |seconds| Moment::START + Duration::from_secs(seconds);
        let begin =
            |client: &str, seconds| handshakes.begin(Some(client.parse().unwrap()), &limits, at(seconds));
        let first = begin("2001:db8::1", 0).unwrap();
        let second = begin("2001:db8::2", 0).unwrap();
        assert!(begin("2001:db8::3", 0).is_none(), "one network is one client");
        assert!(begin("192.0.2.1", 0).is_some(), "who was refused has no place");
        let third = begin("192.0.2.1", 0).unwrap();
        assert!(begin("192.0.2.2", 0).is_none(), "all places are taken");
        assert!(handshakes.begin(None, &limits, at(0)).is_none());
        drop((first, second, third));
        assert!(handshakes.begin(None, &limits, at(0)).is_some());
        assert!(begin("2001:db8::4", 10).is_some());
    }
}
