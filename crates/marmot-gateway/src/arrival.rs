//! The body of a request, before a replica is taken for it: a client that is slow to send keeps no place from others.
//!
//! What is at most [`PIECE`] long is waited for as a whole, of what is longer that much, and of what has no length the first
//! that comes. The rest streams through. Calls by gRPC are not waited for: in them, either side may speak first. So may it be
//! with others that have no length: after a moment they are let in as they are, but never to the last place of a replica.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use marmot_core::gate::GateState;
use tokio::time::Instant;

use crate::body::{ClientBodyError, RequestBody, Stream};
use crate::forward::Failure;
use crate::pacing::Pacing;
use crate::routes::{Backend, Route};
use crate::shared::Shared;

/// How much of a body is waited for.
const PIECE: u64 = 64 * 1024;
/// A client that has sent nothing of a body without a length for so long may wait for the app to say something first.
const MOMENT: Duration = Duration::from_millis(500);

/// What has come of bodies that are waited for, counted while they are.
struct Gathered<'a> {
    bytes: BytesMut,
    in_all: &'a AtomicUsize,
    counted: usize,
}

impl<'a> Gathered<'a> {
    fn new(first: &[u8], in_all: &'a AtomicUsize) -> Self {
        let mut gathered = Self { bytes: BytesMut::new(), in_all, counted: 0 };
        gathered.add(first);
        gathered
    }

    /// A copy: what comes in drops would keep the room of many drops each.
    fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.in_all.fetch_add(bytes.len(), Ordering::Relaxed);
        self.counted += bytes.len();
    }
}

impl Drop for Gathered<'_> {
    fn drop(&mut self) {
        self.in_all.fetch_sub(self.counted, Ordering::Relaxed);
    }
}

/// Waits for as much of a request's body as there has to be before a replica is taken for it.
pub(crate) async fn receive(
    shared: &Shared,
    route: &Route,
    mut body: Incoming,
    speaks_first: bool,
    is_http1: bool,
) -> Result<RequestBody, Failure> {
    let limit = route.traffic.body_limit.unwrap_or(u64::MAX);
    let size = body.size_hint();
    if size.lower() > limit {
        return Err(Failure::TooLarge { limit });
    }
    let stream = |first, body, left, pacing| {
        let (taken, meter) = (Arc::new(AtomicU64::new(0)), Arc::clone(&route.meter));
        RequestBody::Client(Box::new(Stream { first, body, left, taken, meter, pacing }))
    };
    if speaks_first {
        return Ok(stream(None, body, limit, None));
    }
    // Over HTTP/1, its connection is timed.
    let timed = || (!is_http1).then(|| Box::new(Pacing::of(&shared.config.limits)));
    let mut pacing = timed();
    let first = tokio::select! {
        first = next(shared, &mut body, &mut pacing) => Some(first?),
        () = may_listen(route), if size.exact().is_none() => None,
    };
    let Some(first) = first else { return Ok(stream(None, body, limit, timed())) };
    let Some(first) = first else { return Ok(RequestBody::Empty) };
    let (Some(length), Some(data)) = (size.exact(), first.data_ref()) else {
        return Ok(stream(Some(first), body, limit, pacing));
    };
    // Most come with their heads, in one piece.
    let wanted = length.min(PIECE);
    if data.len() as u64 >= wanted {
        return Ok(stream(Some(first), body, limit, pacing));
    }
    let mut gathered = Gathered::new(data, &shared.arriving);
    drop(first);
    let room = shared.config.limits.held_bytes_in_all;
    while (gathered.bytes.len() as u64) < wanted && shared.arriving.load(Ordering::Relaxed) < room {
        match next(shared, &mut body, &mut pacing).await? {
            None => break,
            Some(frame) => gathered.add(frame.data_ref().map_or(&[][..], |data| data)),
        }
    }
    let first = Frame::data(std::mem::take(&mut gathered.bytes).freeze());
    Ok(stream(Some(first), body, limit, pacing))
}

/// Waits until a replica has room to spare for one that does not say anything for now.
async fn may_listen(route: &Route) {
    let has_room =
        |backend: &Backend| backend.gate.state() == GateState::Open && backend.gate.has_room_for(2);
    let mut look = tokio::time::interval_at(Instant::now() + MOMENT, MOMENT);
    loop {
        look.tick().await;
        if route.backends().iter().any(has_room) {
            return;
        }
    }
}

/// The next that comes of a body. Over HTTP/1 its connection ends when nothing comes for too long.
async fn next(
    shared: &Shared,
    body: &mut Incoming,
    pacing: &mut Option<Box<Pacing>>,
) -> Result<Option<Frame<Bytes>>, Failure> {
    if let Some(pacing) = pacing {
        pacing.begin();
    }
    match tokio::time::timeout(shared.config.limits.stall_timeout, body.frame()).await {
        Ok(Some(Err(error))) => {
            tracing::debug!(
                error = &ClientBodyError::Broken(error) as &dyn std::error::Error,
                "no body came"
            );
            Err(Failure::Client)
        }
        Ok(Some(Ok(frame))) => {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            let in_time = pacing.as_mut().is_none_or(|pacing| pacing.came(bytes));
            if in_time { Ok(Some(frame)) } else { Err(Failure::TooSlow) }
        }
        Ok(None) => Ok(None),
        Err(_) => Err(Failure::TooSlow),
    }
}
