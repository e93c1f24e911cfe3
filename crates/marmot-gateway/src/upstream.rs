//! One connection to a replica, over HTTP/1.1 or HTTP/2.

mod chunks;
mod exchange;
mod head;
#[cfg(test)]
mod oracle;
mod request;

use std::error::Error as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, request as http_request};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use marmot_core::id::ReplicaId;
use tokio::net::{TcpSocket, TcpStream};

use crate::body::{ClientBodyError, RequestBody};
use crate::headers;
use crate::routes::Backend;
use crate::shared::Shared;
use crate::wire::Timer;

use exchange::Exchange;
pub(crate) use exchange::Switched;

/// Bytes of an answer's head over HTTP/2. More: 502.
const ANSWER_HEAD_BYTES: u32 = 64 * 1024;

/// A connection to a replica, as one request has it.
pub(crate) struct Connection {
    pub(crate) replica: ReplicaId,
    way: Way,
    /// How long the replica has kept silent. With the connection, so that it is made once and not for each request.
    pub(crate) silence: Timer,
}

enum Way {
    /// Carries one request at a time.
    Http1(Box<Exchange>),
    /// One of many requests on a connection that a task of its own drives.
    Http2 { sender: http2::SendRequest<RequestBody>, asked: Option<Box<Asked>> },
}

/// A request that was sent over HTTP/2.
struct Asked {
    answer: Pin<Box<dyn Future<Output = Sent> + Send>>,
    /// Its head, for another try.
    head: Option<http_request::Parts>,
}

/// An answer that will come, or the request if nothing of it was sent.
type Sent = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;

/// A request that was not answered.
pub(crate) struct Failed {
    pub(crate) why: Why,
    /// The request, if nothing of it was sent.
    pub(crate) unsent: Option<Request<RequestBody>>,
    /// Its head, if something was.
    pub(crate) head: Option<http_request::Parts>,
}

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Why {
    #[error(transparent)]
    Client(ClientBodyError),
    #[error("the client's body has another length than was said")]
    Length,
    #[error("the answer cannot be understood")]
    Nonsense,
    #[error("the connection to the replica has ended")]
    Lost(#[source] Option<io::Error>),
}

impl From<hyper::Error> for Why {
    fn from(error: hyper::Error) -> Self {
        if error.is_parse() {
            return Self::Nonsense;
        }
        let mut source = error.source();
        while let Some(cause) = source {
            match cause.downcast_ref::<ClientBodyError>() {
                Some(ClientBodyError::TooLarge) => return Self::Client(ClientBodyError::TooLarge),
                Some(ClientBodyError::TooSlow) => return Self::Client(ClientBodyError::TooSlow),
                Some(ClientBodyError::Broken(_)) => return Self::Length,
                None => source = cause.source(),
            }
        }
        Self::Lost(Some(io::Error::other(error)))
    }
}

impl Connection {
    /// Begins a request whose head has been rewritten. `again`: it may be sent once more.
    pub(crate) fn send(&mut self, mut request: Request<RequestBody>, again: bool) {
        match &mut self.way {
            Way::Http1(exchange) => {
                headers::for_http1(&mut request);
                exchange.begin(request);
            }
            Way::Http2 { sender, asked } => {
                headers::for_http2(&mut request);
                let head = again.then(|| copy(&request));
                let answer = Box::pin(sender.try_send_request(request));
                *asked = Some(Box::new(Asked { answer, head }));
            }
        }
    }

    /// Sends what has begun, and waits for the head of its answer; with the body, if that does not come from
    /// [`Connection::poll_frame`].
    pub(crate) fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<Option<Incoming>>, Failed>> {
        match &mut self.way {
            Way::Http1(exchange) => exchange.poll_answer(cx).map_ok(|response| response.map(|()| None)),
            Way::Http2 { asked, .. } => {
                let Some(sent) = asked else { return Poll::Pending };
                let answer = ready!(sent.answer.as_mut().poll(cx));
                let head = asked.take().and_then(|asked| asked.head);
                Poll::Ready(match answer {
                    Ok(response) => Ok(response.map(Some)),
                    Err(mut error) => {
                        let unsent = error.take_message();
                        Err(Failed { why: error.into_error().into(), unsent, head })
                    }
                })
            }
        }
    }

    /// The next part of an answer over HTTP/1.1.
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut self.way {
            Way::Http1(exchange) => exchange.poll_frame(cx),
            Way::Http2 { .. } => Poll::Ready(None),
        }
    }

    /// An answer over HTTP/1.1 has come whole.
    pub(crate) fn is_answered(&self) -> bool {
        matches!(&self.way, Way::Http1(exchange) if exchange.is_answered())
    }

    /// How much more comes of an answer over HTTP/1.1.
    pub(crate) fn size_hint(&self) -> SizeHint {
        match &self.way {
            Way::Http1(exchange) => exchange.size_hint(),
            Way::Http2 { .. } => SizeHint::default(),
        }
    }

    /// What it has become, if that is no HTTP any more.
    pub(crate) fn into_switched(self) -> Option<Switched> {
        match self.way {
            Way::Http1(exchange) => Some(exchange.into_switched()),
            Way::Http2 { .. } => None,
        }
    }

    /// It can be kept for another request, once this one is done: nothing has come in that was not asked for, as far as
    /// is known.
    pub(crate) fn is_usable(&mut self) -> bool {
        match &mut self.way {
            Way::Http1(exchange) => exchange.is_usable(),
            // Nobody gave it away: the pool has it still.
            Way::Http2 { .. } => false,
        }
    }

    /// It is open, and nothing has come in since the last answer ended. What an app sends without being asked would be
    /// taken for the answer to the next request, perhaps another visitor's. Asks the system: what came in this moment is
    /// not known otherwise.
    pub(crate) fn is_silent(&self) -> bool {
        let Way::Http1(exchange) = &self.way else { return false };
        let mut byte = [0u8; 1];
        let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
        matches!(rustix::net::recv(exchange.stream(), &mut byte[..], flags), Err(rustix::io::Errno::AGAIN))
    }

    /// It was opened for HTTP/1.1, and the replica has answered in HTTP/2: it knows nothing else.
    pub(crate) fn is_misunderstood(&self) -> bool {
        matches!(&self.way, Way::Http1(exchange) if exchange.began_with_settings == Some(true))
    }

    /// A place on a connection over HTTP/2.
    pub(crate) fn on(replica: ReplicaId, sender: http2::SendRequest<RequestBody>) -> Self {
        Self { replica, way: Way::Http2 { sender, asked: None }, silence: Timer::default() }
    }
}

fn copy<B>(request: &Request<B>) -> http_request::Parts {
    let mut copy = Request::new(());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy.into_parts().0
}

/// Opens a connection over HTTP/1.1 to a replica.
pub(crate) async fn connect(shared: &Arc<Shared>, backend: &Backend) -> io::Result<Connection> {
    let stream = open(backend, shared.config.limits.connect_timeout).await?;
    stream.set_nodelay(true)?;
    let way = Way::Http1(Box::new(Exchange::new(stream)));
    Ok(Connection { replica: backend.replica, way, silence: Timer::default() })
}

/// Opens a connection over HTTP/2 to a replica whose port speaks it in plain text.
pub(crate) async fn connect_http2(
    shared: &Arc<Shared>,
    backend: &Backend,
) -> io::Result<http2::SendRequest<RequestBody>> {
    let stream = open(backend, shared.config.limits.connect_timeout).await?;
    stream.set_nodelay(true)?;
    let (sender, driver) = http2::Builder::new(TokioExecutor::new())
        .max_header_list_size(ANSWER_HEAD_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let hard_stop = shared.hard_stop.clone();
    shared.tracker.spawn(async move {
        // Its errors reach the requests it carries.
        tokio::select! {
            _ = driver => {}
            () = hard_stop.cancelled() => {}
        }
    });
    Ok(sender)
}

async fn open(backend: &Backend, limit: Duration) -> io::Result<TcpStream> {
    let connecting = async {
        let Some(sockets) = &backend.sockets else { return TcpStream::connect(backend.address).await };
        let socket = sockets.open().await?;
        TcpSocket::from_std_stream(socket.into()).connect(backend.address).await
    };
    match tokio::time::timeout(limit, connecting).await {
        Ok(stream) => stream,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
