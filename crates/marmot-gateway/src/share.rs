//! Takes a share link: its visitor gets a ticket, and goes on to an address without the secret.

use std::net::IpAddr;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};

use crate::access::safe_next;
use crate::answers::{Problem, Reader, Words, redirect};
use crate::body::AnswerBody;
use crate::doorkeeper::{query_value, set_cookie};
use crate::opening::{Admission, Audience, Caller};
use crate::quota::{guessed, may_guess};
use crate::routes::Route;
use crate::service::wakes_nobody;
use crate::shared::Shared;

/// Where share links lead: `/.marmot/link?secret=…`. The secret is in the query, which no log of ours has.
pub(crate) const LINK: &str = "/.marmot/link";

/// A visitor keeps a link's ticket for this long at most; the link may end earlier.
const TICKET_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Takes the link that a request was sent to.
pub(crate) fn take_link<B>(
    shared: &Shared,
    route: &Route,
    client: IpAddr,
    request: &Request<B>,
    reader: Reader,
) -> Response<AnswerBody> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let plain = |text: &str| Words::Plain(text.to_owned());
        let (title, detail) = (plain("Not like this"), plain("A link is opened with GET."));
        return Problem::new(StatusCode::METHOD_NOT_ALLOWED, title, detail).answer(reader);
    }
    let query = request.uri().query().unwrap_or_default();
    let secret = query_value(query, "secret").unwrap_or_default();
    let next = query_value(query, "next");
    let to = safe_next(next.as_deref().unwrap_or("/"));
    let now = shared.tickets.time();
    let Some(link) = route.access.link_of(&secret) else {
        // Who may come in anyway needs no link.
        if matches!(route.access.audience, Audience::Everyone) {
            return redirect(to);
        }
        if let Err(wait) = may_guess(shared, client) {
            return guessed(wait, reader);
        }
        return Problem::new(StatusCode::FORBIDDEN, "gw-link-dead", "gw-link-dead-about").answer(reader);
    };
    let Admission::Until(end) = route.access.admits(&Caller::Link(link.id), now) else {
        return Problem::new(StatusCode::FORBIDDEN, "gw-link-expired", "gw-link-expired-about")
            .answer(reader);
    };
    // What looks at links before people do uses none.
    if *request.method() == Method::GET && !wakes_nobody(request.method(), request.headers()) {
        link.usage.used(now);
    }
    let life = end.map_or(TICKET_LIFE, |end| end.saturating_sub(now).min(TICKET_LIFE));
    let life = life.max(Duration::from_secs(1));
    let ticket = shared.tickets.issue_link_ticket(&route.app, link.id, life);
    let mut response = redirect(to);
    let scheme = shared.config.scheme;
    set_cookie(&mut response, link_cookie(scheme), &ticket, life.as_secs(), scheme);
    response
}

/// The cookie of who came by a link.
pub(crate) fn link_cookie(scheme: crate::config::Scheme) -> &'static str {
    match scheme {
        crate::config::Scheme::Http => "marmot_link",
        crate::config::Scheme::Https => "__Host-marmot_link",
    }
}
