//! Decides for which hosts a certificate is ordered, and when. Time is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use marmot_gateway::Validity;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Orders at the same time: an authority answers each within seconds.
const AT_ONCE: usize = 4;
/// The orders of this time count together.
const WINDOW: SignedDuration = SignedDuration::from_hours(1);
/// How long it is waited after so many failures in a row. Let's Encrypt refuses a host that failed five times in an hour.
const WAITS: [Duration; 6] = [minutes(1), minutes(10), minutes(60), minutes(180), minutes(360), minutes(720)];
/// Whatever an authority asks for, it is tried again after this long.
const LONGEST_WAIT: Duration = minutes(7 * 24 * 60);

const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

/// What has failed, so often in a row, and when it may be tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failed {
    pub(crate) times: u32,
    pub(crate) at: Timestamp,
    pub(crate) again_at: Timestamp,
    /// In words for the operator.
    pub(crate) why: String,
}

impl Failed {
    /// One failure more, after those `before`. `asked`: how long the authority wants it to be waited, at least.
    pub(super) fn after(before: Option<&Self>, why: String, asked: Option<Duration>, now: Timestamp) -> Self {
        let times = before.map_or(0, |failed| failed.times).saturating_add(1);
        let usual = WAITS[(times as usize - 1).min(WAITS.len() - 1)];
        let wait = usual.max(asked.unwrap_or_default()).min(LONGEST_WAIT);
        Self { times, at: now, again_at: later(now, wait), why }
    }
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// What is known of orders. Kept on disk: a server that is started again and again must not order each time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Book {
    /// When orders were begun, within the last hour.
    orders: Vec<Timestamp>,
    /// The hosts whose last order failed.
    pub(crate) failed: BTreeMap<String, Failed>,
    /// The authority cannot be asked at all, or refuses everything.
    pub(crate) trouble: Option<Failed>,
}

impl Book {
    /// An order begins.
    pub(super) fn begin(&mut self, now: Timestamp) {
        self.orders.retain(|at| now.duration_since(*at) < WINDOW);
        self.orders.push(now);
    }

    /// An order has brought a certificate.
    pub(super) fn succeed(&mut self, host: &str) {
        self.failed.remove(host);
        self.trouble = None;
    }

    /// An order for this host has failed, because of the host.
    pub(super) fn fail(&mut self, host: &str, why: String, asked: Option<Duration>, now: Timestamp) {
        let failed = Failed::after(self.failed.get(host), why, asked, now);
        self.failed.insert(host.to_owned(), failed);
        // It answers, and would answer for other hosts.
        self.trouble = None;
    }

    /// An order has failed for a reason that holds for all hosts.
    pub(super) fn trouble(&mut self, why: String, asked: Option<Duration>, now: Timestamp) {
        self.trouble = Some(Failed::after(self.trouble.as_ref(), why, asked, now));
    }

    /// When another order may begin, of at most so many an hour.
    fn room_at(&self, per_hour: usize, now: Timestamp) -> Timestamp {
        let mut recent: Vec<Timestamp> =
            self.orders.iter().copied().filter(|at| now.duration_since(*at) < WINDOW).collect();
        recent.sort();
        // The oldest of the last so many has to be an hour ago.
        match recent.len().checked_sub(per_hour) {
            None => now,
            Some(oldest) => recent[oldest].checked_add(WINDOW).unwrap_or(Timestamp::MAX),
        }
    }
}

/// When a certificate is to be renewed: at two thirds of its life, or up to a twentieth earlier, by host, so that what was
/// issued together is not renewed together.
pub(super) fn renew_at(host: &str, held: Validity) -> Timestamp {
    let life = held.until.saturating_sub(held.from).max(0);
    let spread = i64::from(Sha256::digest(host)[0]);
    let at = held.from + life / 3 * 2 - life / 20 * spread / 256;
    Timestamp::from_second(at).unwrap_or(Timestamp::MIN)
}

/// What is to be done now, and when to look again.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Next {
    /// For these hosts, certificates are ordered now.
    pub(super) begin: Vec<String>,
    /// `None`: when something has changed.
    pub(super) again_at: Option<Timestamp>,
}

/// What there is and what is wanted.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    /// The hosts that are to have a certificate.
    pub(super) wanted: &'a BTreeSet<String>,
    /// The platform's own among them, which come first.
    pub(super) own: &'a BTreeSet<String>,
    /// What there is.
    pub(super) held: &'a BTreeMap<String, Validity>,
    /// What is being ordered.
    pub(super) under_way: &'a BTreeSet<String>,
    pub(super) book: &'a Book,
    pub(super) per_hour: usize,
}

/// Decides.
pub(super) fn next(facts: &Facts<'_>, now: Timestamp) -> Next {
    let due_at = |host: &String| {
        let renewal = facts.held.get(host).map_or(Timestamp::MIN, |held| renew_at(host, *held));
        let patience = facts.book.failed.get(host).map_or(Timestamp::MIN, |failed| failed.again_at);
        renewal.max(patience)
    };
    let trouble_until = facts.book.trouble.as_ref().map_or(Timestamp::MIN, |trouble| trouble.again_at);
    let waiting = facts.wanted.iter().filter(|host| !facts.under_way.contains(*host));
    let (mut due, later): (Vec<_>, Vec<_>) =
        waiting.map(|host| (due_at(host), host)).partition(|(at, _)| *at <= now);
    // Who has none waits in front of those that are renewed in good time.
    due.sort_by_key(|(at, host)| (!facts.own.contains(*host), facts.held.contains_key(*host), *at));
    let mut book = facts.book.clone();
    let mut next = Next { begin: Vec::new(), again_at: later.iter().map(|(at, _)| *at).min() };
    // After trouble, one order shows whether it is over.
    let at_once = if book.trouble.is_some() { 1 } else { AT_ONCE };
    for (_, host) in due {
        let may_at = book.room_at(facts.per_hour, now).max(trouble_until);
        if may_at > now {
            next.again_at = Some(next.again_at.map_or(may_at, |at| at.min(may_at)));
            break;
        }
        // One that ends makes room.
        if facts.under_way.len() + next.begin.len() >= at_once {
            break;
        }
        book.begin(now);
        next.begin.push(host.clone());
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    /// Some hosts, the platform's own first, and what is known of them.
    struct World {
        wanted: BTreeSet<String>,
        held: BTreeMap<String, Validity>,
        under_way: BTreeSet<String>,
        book: Book,
        per_hour: usize,
    }

    impl World {
        fn of(hosts: &[&str]) -> Self {
            Self {
                wanted: hosts.iter().map(ToString::to_string).collect(),
                held: BTreeMap::new(),
                under_way: BTreeSet::new(),
                book: Book::default(),
                per_hour: 50,
            }
        }

        fn next(&self, now: i64) -> (Vec<String>, Option<i64>) {
            let own = BTreeSet::from(["marmot.test".to_owned()]);
            let Self { wanted, held, under_way, book, per_hour } = self;
            let facts = Facts { wanted, own: &own, held, under_way, book, per_hour: *per_hour };
            let next = next(&facts, at(now));
            (next.begin, next.again_at.map(Timestamp::as_second))
        }

        fn hold(&mut self, host: &str, from: i64, until: i64) {
            self.held.insert(host.to_owned(), Validity { from, until });
        }
    }

    #[test]
    fn who_has_none_is_ordered_for_at_once_the_platform_first_and_few_at_a_time() {
        let mut world = World::of(&["a.test", "b.test", "c.test", "d.test", "marmot.test"]);
        assert_eq!(world.next(0).0, ["marmot.test", "a.test", "b.test", "c.test"]);
        world.under_way = ["marmot.test", "a.test", "b.test"].map(str::to_owned).into();
        assert_eq!(world.next(0), (vec!["c.test".to_owned()], None));
        world.under_way.insert("c.test".to_owned());
        assert_eq!(world.next(0), (vec![], None));
    }

    #[test]
    fn a_certificate_is_renewed_around_two_thirds_of_its_life_and_not_all_at_once() {
        let hosts: Vec<String> = (0..50).map(|number| format!("app-{number}.test")).collect();
        let held = Validity { from: 0, until: 90 * DAY };
        let times: BTreeSet<i64> = hosts.iter().map(|host| renew_at(host, held).as_second()).collect();
        assert!(times.len() > 25, "{times:?}");
        assert!(times.iter().all(|time| (55 * DAY..=60 * DAY).contains(time)), "{times:?}");

        let mut world = World::of(&["a.test"]);
        world.hold("a.test", 0, 90 * DAY);
        let due = renew_at("a.test", held).as_second();
        assert_eq!(world.next(due - 1), (vec![], Some(due)));
        assert_eq!(world.next(due).0, ["a.test"]);
        // One that lives for days only, as well.
        world.hold("a.test", 0, 6 * DAY);
        assert_eq!(world.next(3 * DAY).0, [""; 0]);
        assert_eq!(world.next(4 * DAY).0, ["a.test"]);
    }

    #[test]
    fn new_hosts_come_before_renewals() {
        let mut world = World::of(&["a.test", "b.test"]);
        world.hold("a.test", 0, 90 * DAY);
        assert_eq!(world.next(61 * DAY).0, ["b.test", "a.test"]);
    }

    #[test]
    fn a_host_that_fails_is_tried_less_and_less_often_and_as_late_as_the_authority_asks() {
        let mut world = World::of(&["a.test"]);
        let fail = |world: &mut World, now, asked: Option<u64>| {
            world.book.fail("a.test", "no".to_owned(), asked.map(Duration::from_secs), at(now));
            world.next(now).1.unwrap() - now
        };
        let waits: Vec<i64> = (0..8).map(|_| fail(&mut world, 1000, None) / 60).collect();
        assert_eq!(waits, [1, 10, 60, 180, 360, 720, 720, 720]);
        assert_eq!(fail(&mut world, 1000, Some(100_000)), 100_000);
        assert_eq!(fail(&mut world, 1000, Some(u64::MAX)), 7 * DAY);
        assert_eq!(world.next(1000 + 7 * DAY).0, ["a.test"]);
        world.book.succeed("a.test");
        assert_eq!(fail(&mut world, 1000, None), 60);
    }

    #[test]
    fn trouble_with_the_authority_holds_every_order_back_and_one_shows_whether_it_is_over() {
        let mut world = World::of(&["a.test", "b.test"]);
        world.book.trouble("unreachable".to_owned(), None, at(0));
        assert_eq!(world.next(59), (vec![], Some(60)));
        assert_eq!(world.next(60).0, ["a.test"]);
        world.book.trouble("unreachable".to_owned(), None, at(60));
        assert_eq!(world.next(61), (vec![], Some(660)));
        world.book.succeed("a.test");
        assert_eq!(world.next(61).0.len(), 2);
    }

    #[test]
    fn no_more_are_ordered_in_any_hour_than_is_allowed() {
        let mut world = World::of(&["a.test", "b.test", "c.test"]);
        world.per_hour = 2;
        assert_eq!(world.next(0), (vec!["a.test".to_owned(), "b.test".to_owned()], Some(3600)));
        world.book.begin(at(0));
        world.book.begin(at(600));
        assert_eq!(world.next(600), (vec![], Some(3600)));
        world.hold("a.test", 0, 90 * DAY);
        world.hold("b.test", 0, 90 * DAY);
        assert_eq!(world.next(3600).0, ["c.test"]);
        world.book.begin(at(3600));
        assert_eq!(world.book.orders, [at(600), at(3600)]);
    }
}
