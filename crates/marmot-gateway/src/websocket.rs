//! Passes WebSockets through, lets replicas sleep while they are silent, and wakes them before anything arrives.
//!
//! An open WebSocket is not inside the gate of its replica. What the client sends is delivered under a pass, after
//! waking the replica if it sleeps; so nothing is lost, and the order stays. What the app sends needs none: it is awake.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use marmot_core::gate::{GateState, Pass};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::frames::{CONTROL_FRAME_BYTES, Frames, Kind, close_for_app, close_for_client, pong_for};
use crate::routes::RouteState;
use crate::slot::{Dismissal, Session};
use crate::upstream::Switched;

/// Bytes read at a time. They are on the stack, so that a silent connection holds none.
const CHUNK: usize = 16 * 1024;
/// After its pong has been delivered an app stays awake for this long, so that it reads it before it is frozen.
const PONG_LINGER: Duration = Duration::from_millis(250);
/// A client that was told to go has this long to do so.
const GOODBYE: Duration = Duration::from_secs(1);

/// The server goes away.
const GOING_AWAY: u16 = 1001;
/// Whoever is connected may not be.
const POLICY_VIOLATION: u16 = 1008;
/// The app's replica is gone; connect again to reach another.
const SERVICE_RESTART: u16 = 1012;

type Client = TokioIo<Upgraded>;

/// How a connection came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The client closed it, or is gone.
    Client,
    /// The app closed it, or is gone.
    App,
    /// It is told to go.
    Dismissed(u16),
}

/// What the two directions of one connection tell each other.
struct Between<'a> {
    session: &'a Session,
    /// Keeps the replica from being frozen between its ping and the client's pong: after the thaw it would take the
    /// pong for missing, and close.
    unanswered: Mutex<Option<(Pass, Instant)>>,
    /// Pongs for the client's pings, which the gateway answers while the replica sleeps.
    pongs: Mutex<Vec<u8>>,
    changed: Notify,
}

impl Between<'_> {
    fn unanswered(&self) -> MutexGuard<'_, Option<(Pass, Instant)>> {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pongs(&self) -> MutexGuard<'_, Vec<u8>> {
        self.pongs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Passes a WebSocket through until either side ends it.
pub(crate) async fn relay(client: OnUpgrade, app: Switched, session: Session) {
    let client = match client.await {
        Ok(client) => TokioIo::new(client),
        Err(error) => {
            return tracing::debug!(app = %session.route.app, %error, "no WebSocket came of an upgrade");
        }
    };
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_app, mut to_app) = tokio::io::split(app);
    let between = Between {
        session: &session,
        unanswered: Mutex::new(None),
        pongs: Mutex::new(Vec::new()),
        changed: Notify::new(),
    };
    let mut outbound = Direction::default();
    let end = tokio::select! {
        end = client_to_app(&between, &mut from_client, &mut to_app) => end,
        end = app_to_client(&between, &mut from_app, &mut to_client, &mut outbound) => end,
        dismissal = session.dismissed() => End::Dismissed(match dismissal {
            Dismissal::Stopping | Dismissal::Off | Dismissal::Stopped => GOING_AWAY,
            Dismissal::AccessLost => POLICY_VIOLATION,
            Dismissal::Replaced => SERVICE_RESTART,
        }),
    };
    if matches!(end, End::Dismissed(_))
        && let Ok(_pass) = session.backend.gate.enter_again()
    {
        let _ = tokio::time::timeout(GOODBYE, to_app.write_all(&close_for_app(GOING_AWAY))).await;
    }
    let code = match end {
        End::Client => None,
        End::App => Some(why_gone(&session)),
        End::Dismissed(code) => Some(code),
    };
    if let Some(code) = code.filter(|_| outbound.frames.at_boundary() && !outbound.closed) {
        let goodbye = async {
            to_client.write_all(&close_for_client(code)).await?;
            to_client.shutdown().await?;
            // What the client had under way is read, or its arrival would destroy the close frame on its way.
            while !read(&mut from_client).await?.is_empty() {}
            io::Result::Ok(())
        };
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    } else {
        let _ = tokio::time::timeout(GOODBYE, to_client.shutdown()).await;
    }
}

/// A replica that was told to stop goes away; one that ended by itself, or while another serves, is replaced.
fn why_gone(session: &Session) -> u16 {
    let routes = session.shared.routes.borrow();
    let route = routes.get(session.route.app.as_str());
    let Some(RouteState::On { backends, .. }) = route.map(|route| &route.state) else { return GOING_AWAY };
    let was_stopped = session.backend.gate.state() == GateState::Closed;
    let is_replaced = backends.iter().any(|backend| backend.gate.state() == GateState::Open);
    if was_stopped && !is_replaced { GOING_AWAY } else { SERVICE_RESTART }
}

/// How far the bytes to one side have come.
#[derive(Default)]
struct Direction {
    frames: Frames,
    /// A close frame has passed.
    closed: bool,
}

impl Direction {
    /// Notes what passes; says which kinds of frames ended or carried data.
    fn follow(&mut self, mut bytes: &[u8]) -> Seen {
        let mut seen = Seen::default();
        while let Some(segment) = self.frames.segment(bytes) {
            match segment.kind {
                Kind::Data => seen.data = true,
                Kind::Ping => seen.ping |= segment.ends,
                Kind::Pong => seen.pong |= segment.ends,
                Kind::Close => self.closed |= segment.ends,
            }
            bytes = &bytes[segment.len..];
        }
        seen
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    data: bool,
    ping: bool,
    pong: bool,
}

/// Reads what there is; nothing at the end.
async fn read<S: AsyncRead>(from: &mut ReadHalf<S>) -> io::Result<Vec<u8>> {
    poll_fn(|context| {
        let mut bytes = [0; CHUNK];
        let mut buffer = ReadBuf::new(&mut bytes);
        Pin::new(&mut *from).poll_read(context, &mut buffer).map_ok(|()| buffer.filled().to_vec())
    })
    .await
}

async fn app_to_client(
    between: &Between<'_>,
    from: &mut ReadHalf<Switched>,
    to: &mut WriteHalf<Client>,
    direction: &mut Direction,
) -> End {
    loop {
        let until = between.unanswered().as_ref().map(|(_, until)| *until);
        tokio::select! {
            bytes = read(from) => {
                let Ok(bytes) = bytes else { return End::App };
                if bytes.is_empty() {
                    return End::App;
                }
                between.session.route.meter.sent(bytes.len());
                let seen = direction.follow(&bytes);
                if seen.data {
                    between.session.touch();
                }
                if seen.ping && let Ok(pass) = between.session.backend.gate.enter_again() {
                    let limit = between.session.shared.config.limits.pong_timeout;
                    *between.unanswered() = Some((pass, Instant::now() + limit));
                }
                if to.write_all(&bytes).await.is_err() {
                    return End::Client;
                }
            }
            () = between.changed.notified() => {}
            () = tokio::time::sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {
                *between.unanswered() = None;
            }
        }
        // Between two frames only: a replica that was frozen in the middle of one finishes it first.
        if direction.frames.at_boundary() {
            let pongs = std::mem::take(&mut *between.pongs());
            if !pongs.is_empty() && to.write_all(&pongs).await.is_err() {
                return End::Client;
            }
        }
    }
}

async fn client_to_app(
    between: &Between<'_>,
    from: &mut ReadHalf<Client>,
    to: &mut WriteHalf<Switched>,
) -> End {
    let mut inbound = Inbound { between, direction: Direction::default(), ping: Vec::new() };
    loop {
        let bytes = match read(from).await {
            Ok(bytes) if !bytes.is_empty() => bytes,
            _ => return End::Client,
        };
        between.session.route.meter.received(bytes.len());
        if let Err(end) = inbound.deliver(&bytes, to).await {
            return end;
        }
    }
}

/// The way from a client to an app that may sleep.
struct Inbound<'a> {
    between: &'a Between<'a>,
    direction: Direction,
    /// A ping that came while the replica slept, as far as it has come.
    ping: Vec<u8>,
}

impl Inbound<'_> {
    async fn deliver(&mut self, bytes: &[u8], to: &mut WriteHalf<Switched>) -> Result<(), End> {
        if self.ping.is_empty()
            && let Ok(pass) = self.between.session.backend.gate.enter_again()
        {
            let seen = self.direction.follow(bytes);
            return self.write(bytes, seen, to, pass).await;
        }
        let mut rest = bytes;
        while let Some(segment) = self.direction.frames.segment(rest) {
            let (bytes, after) = rest.split_at(segment.len);
            rest = after;
            match segment.kind {
                Kind::Ping if self.ping.len() + bytes.len() <= CONTROL_FRAME_BYTES => {
                    self.ping.extend_from_slice(bytes);
                    if segment.ends {
                        self.answer_ping();
                    }
                }
                // Somebody who leaves wakes nobody. The app finds the connection closed when it next wakes.
                Kind::Close if self.asleep() => return Err(End::Dismissed(GOING_AWAY)),
                kind => {
                    let Some(pass) = self.between.session.wake().await else { return Err(End::App) };
                    let seen = Seen {
                        data: kind == Kind::Data,
                        ping: false,
                        pong: kind == Kind::Pong && segment.ends,
                    };
                    let mut whole = std::mem::take(&mut self.ping);
                    whole.extend_from_slice(bytes);
                    self.write(&whole, seen, to, pass).await?;
                }
            }
        }
        Ok(())
    }

    fn asleep(&self) -> bool {
        self.between.session.backend.gate.state() == GateState::Asleep
    }

    fn answer_ping(&mut self) {
        if let Some(pong) = pong_for(&std::mem::take(&mut self.ping)) {
            // The client sends pings faster than it takes pongs: the last ones do.
            let mut pongs = self.between.pongs();
            if pongs.len() < CHUNK {
                pongs.extend(pong);
            }
            drop(pongs);
            self.between.changed.notify_one();
        }
    }

    async fn write(
        &self,
        bytes: &[u8],
        seen: Seen,
        to: &mut WriteHalf<Switched>,
        pass: Pass,
    ) -> Result<(), End> {
        if seen.data {
            self.between.session.touch();
        }
        to.write_all(bytes).await.map_err(|_| End::App)?;
        drop(pass);
        if seen.pong
            && let Some((_, until)) = self.between.unanswered().as_mut()
        {
            *until = (*until).min(Instant::now() + PONG_LINGER);
            self.between.changed.notify_one();
        }
        Ok(())
    }
}
