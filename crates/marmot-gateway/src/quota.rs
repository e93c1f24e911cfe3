//! Whether a request is within what its visitor, its key and its project may ask for; and what is said to one that is not.

use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Response, StatusCode};
use marmot_core::id::{ShareLinkId, UserId};
use marmot_text::Message;

use crate::answers::{Problem, Reader, Words};
use crate::body::AnswerBody;
use crate::limits::{Left, Rate};
use crate::opening::Caller;
use crate::routes::Route;
use crate::shared::Shared;
use crate::stay::Places;
use crate::trust::client_of;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// One who has woken an app is not counted again for the same one for this long.
const SAME_WAKE: Duration = Duration::from_secs(60);

/// Who a limit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Key,
    Visitor,
    Project,
}

impl Of {
    fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Visitor => "visitor",
            Self::Project => "project",
        }
    }
}

/// More was asked for than there may be.
#[derive(Debug)]
pub(crate) enum TooMuch {
    /// Too often.
    Often(Told, Duration),
    /// Too much at the same time.
    AtOnce(&'static str),
}

/// What is left of a limit, for the one it is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told {
    of: Of,
    rate: Rate,
    left: Left,
}

impl Told {
    /// Adds it to an answer, as the IETF's draft *RateLimit header fields for HTTP* writes it.
    pub(crate) fn to(self, headers: &mut http::HeaderMap) {
        let name = self.of.name();
        let seconds = |time: Duration| time.as_millis().div_ceil(1000);
        let policy = format!("\"{name}\";q={};w={}", self.rate.burst(), seconds(self.rate.window()));
        let left = format!("\"{name}\";r={};t={}", self.left.count, seconds(self.left.full_after));
        for (header, value) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, left)] {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(header, value);
            }
        }
    }
}

/// Who is counted as one visitor.
#[derive(Hash)]
enum Visitor {
    Person(UserId),
    /// Many may have the same link: each is counted by their address, too.
    Link(ShareLinkId, IpAddr),
    Address(IpAddr),
}

/// Takes what a request needs of each limit. What it takes at a time it has until the answer is out.
pub(crate) fn take(
    shared: &Shared,
    route: &Route,
    client: IpAddr,
    caller: &Caller,
) -> Result<(Places, Option<Told>), TooMuch> {
    let now = shared.clock.now();
    let limits = &shared.config.limits;
    let (mut places, mut told) = (Places::default(), None);
    let often = |of, rate: Rate| {
        move |wait| {
            let left = Left { count: 0, full_after: rate.window() };
            TooMuch::Often(Told { of, rate, left }, wait)
        }
    };
    if let Caller::Key(key) = caller {
        if let Some(rate) = key.quota.rate {
            let left = key.usage.take_one(rate, now).map_err(often(Of::Key, rate))?;
            told = Some(Told { of: Of::Key, rate, left });
        }
        if let Some(most) = key.quota.at_once {
            let place = key.usage.enter(most).ok_or(TooMuch::AtOnce("with this key"))?;
            places.key = Some(place);
        }
        key.usage.used(shared.tickets.time());
    } else if !is_near(shared, client) {
        let address = client_of(client);
        let visitor = match caller {
            Caller::Person(person) => Visitor::Person(person.id),
            Caller::Link(link) => Visitor::Link(*link, address),
            Caller::Anybody | Caller::Key(_) => Visitor::Address(address),
        };
        let counters = &shared.counters;
        if let Some(rate) = limits.visitor_rate {
            counters.requests.take(&visitor, rate, now).map_err(often(Of::Visitor, rate))?;
        }
        let place = counters.under_way.enter(&visitor, limits.visitor_requests);
        places.visitor = Some(place.ok_or(TooMuch::AtOnce("by you"))?);
    }
    if let Some(ceiling) = &route.access.ceiling {
        ceiling.take(now).map_err(|(rate, wait)| often(Of::Project, rate)(wait))?;
        places.project = Some(ceiling.enter().ok_or(TooMuch::AtOnce("of this project"))?);
    }
    Ok((places, told))
}

/// One of this machine's own, or a proxy that is trusted, stands for many.
fn is_near(shared: &Shared, client: IpAddr) -> bool {
    client.to_canonical().is_loopback() || shared.config.trusted_proxies.contains(client)
}

/// Whether a client may wake this app; else, how long to wait. Who comes back to the same one meanwhile has paid.
pub(crate) fn may_wake(shared: &Shared, route: &Route, client: IpAddr) -> Result<(), Duration> {
    let Some(rate) = shared.config.limits.wake_rate.filter(|_| !is_near(shared, client)) else {
        return Ok(());
    };
    let (wakes, now, client) = (&shared.counters.wakes, shared.clock.now(), client_of(client));
    let Some(once) = Rate::of(1, SAME_WAKE) else { return Ok(()) };
    // Looked at before it is taken: one who is refused has woken nothing.
    match wakes.peek((client, route.app.as_str()), once, now) {
        Err(_) => Ok(()),
        Ok(()) => {
            wakes.take(client, rate, now)?;
            let _ = wakes.take((client, route.app.as_str()), once, now);
            Ok(())
        }
    }
}

/// Counts a secret that was none; how long to wait when there were too many.
pub(crate) fn may_guess(shared: &Shared, client: IpAddr) -> Result<(), Duration> {
    let Some(rate) = shared.config.limits.guess_rate else { return Ok(()) };
    shared.counters.guesses.take(client_of(client), rate, shared.clock.now())
}

/// For one who has tried too many links or keys.
pub(crate) fn guessed(wait: Duration, reader: Reader) -> Response<AnswerBody> {
    too_many("gw-too-many-tries", "gw-too-many-tries-about", wait).answer(reader)
}

/// For one who has woken too many apps.
pub(crate) fn awake_enough(wait: Duration, reader: Reader) -> Response<AnswerBody> {
    too_many("gw-one-after-other", "gw-one-after-other-about", wait).answer(reader)
}

impl TooMuch {
    pub(crate) fn answer(self, reader: Reader) -> Response<AnswerBody> {
        let title = "gw-too-many-requests";
        match self {
            Self::Often(told, wait) => {
                let detail = Message::new(match told.of {
                    Of::Key => "gw-often-key",
                    Of::Visitor => "gw-often-visitor",
                    Of::Project => "gw-often-project",
                });
                let seconds = told.rate.window().as_secs_f64().to_string();
                let detail = detail.with("count", told.rate.burst()).with("seconds", seconds);
                let mut response = too_many(title, detail, wait).answer(reader);
                told.to(response.headers_mut());
                response
            }
            Self::AtOnce(whose) => {
                let detail =
                    format!("As many requests are under way {whose} as there may be. Wait for one to end.");
                too_many(title, Words::Plain(detail), Duration::from_secs(1)).answer(reader)
            }
        }
    }
}

fn too_many(title: &'static str, detail: impl Into<Words>, wait: Duration) -> Problem {
    let seconds = u64::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u64::MAX).max(1);
    Problem::new(StatusCode::TOO_MANY_REQUESTS, title, detail).retry_after(seconds)
}
