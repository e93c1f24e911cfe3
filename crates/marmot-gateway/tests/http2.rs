//! HTTP/2 on both sides: gRPC to replicas, WebSockets as streams of a connection, replicas that know nothing else.

#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

mod support;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::{LIMIT, TestApp, World, on, replica, sleeping_replica, until};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::wrappers::ReceiverStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Status, Streaming};

/// Messages that are what they are.
#[derive(Debug, Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self {
        *self
    }
    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put(buffer, item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = bytes::Buf::remaining(buffer);
        Ok(Some(bytes::Buf::copy_to_bytes(buffer, length)))
    }
}

type Answer<T> = std::pin::Pin<Box<dyn Future<Output = Result<tonic::Response<T>, Status>> + Send>>;

/// One method for each kind of call.
#[derive(Clone)]
struct Echo;

impl tonic::server::UnaryService<Bytes> for Echo {
    type Response = Bytes;
    type Future = Answer<Bytes>;
    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        Box::pin(async move {
            if request.get_ref().as_ref() == b"fail" {
                return Err(Status::failed_precondition("as you wish"));
            }
            Ok(tonic::Response::new(request.into_inner()))
        })
    }
}

impl tonic::server::StreamingService<Bytes> for Echo {
    type Response = Bytes;
    type ResponseStream = ReceiverStream<Result<Bytes, Status>>;
    type Future = Answer<Self::ResponseStream>;
    fn call(&mut self, request: tonic::Request<Streaming<Bytes>>) -> Self::Future {
        Box::pin(async move {
            let mut incoming = request.into_inner();
            let (send, receive) = tokio::sync::mpsc::channel(1);
            tokio::spawn(async move {
                while let Ok(Some(message)) = incoming.message().await {
                    let last = message.as_ref() == b"bye";
                    let sent = if last { Err(Status::aborted("bye")) } else { Ok(message) };
                    if send.send(sent).await.is_err() || last {
                        return;
                    }
                }
            });
            Ok(tonic::Response::new(ReceiverStream::new(receive)))
        })
    }
}

impl tonic::server::ServerStreamingService<Bytes> for Echo {
    type Response = Bytes;
    type ResponseStream = ReceiverStream<Result<Bytes, Status>>;
    type Future = Answer<Self::ResponseStream>;
    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        Box::pin(async move {
            let (send, receive) = tokio::sync::mpsc::channel(8);
            for number in 0..3 {
                let _ = send.send(Ok(Bytes::from(format!("{number} {:?}", request.get_ref())))).await;
            }
            Ok(tonic::Response::new(ReceiverStream::new(receive)))
        })
    }
}

impl tonic::server::ClientStreamingService<Bytes> for Echo {
    type Response = Bytes;
    type Future = Answer<Bytes>;
    fn call(&mut self, request: tonic::Request<Streaming<Bytes>>) -> Self::Future {
        Box::pin(async move {
            let (mut incoming, mut all) = (request.into_inner(), Vec::new());
            while let Some(message) = incoming.message().await? {
                all.extend_from_slice(&message);
            }
            Ok(tonic::Response::new(Bytes::from(all)))
        })
    }
}

/// An app that speaks HTTP/2 and nothing else; how many connections it has had.
async fn grpc_app() -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            let service = hyper::service::service_fn(|request: Request<Incoming>| async move {
                let mut grpc = tonic::server::Grpc::new(Raw);
                let answer: Response<tonic::body::Body> = match request.uri().path() {
                    "/echo.Echo/Unary" => grpc.unary(Echo, request).await,
                    "/echo.Echo/Client" => grpc.client_streaming(Echo, request).await,
                    "/echo.Echo/Server" => grpc.server_streaming(Echo, request).await,
                    "/echo.Echo/Both" => grpc.streaming(Echo, request).await,
                    "/plain" => {
                        let host = request.uri().authority().map(ToString::to_string);
                        Response::new(tonic::body::Body::new(http_body_util::Full::from(format!("{host:?}"))))
                    }
                    _ => Status::unimplemented("no such method").into_http(),
                };
                Ok::<_, Infallible>(answer)
            });
            tokio::spawn(
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    (address, connections)
}

async fn grpc(world: &World) -> tonic::client::Grpc<tonic::transport::Channel> {
    let address = world.address;
    let connect = tower::service_fn(move |_: http::Uri| async move {
        Ok::<_, std::io::Error>(TokioIo::new(TcpStream::connect(address).await?))
    });
    let channel = tonic::transport::Endpoint::try_from(world.url("/"))
        .unwrap()
        .connect_with_connector(connect)
        .await
        .unwrap();
    let mut grpc = tonic::client::Grpc::new(channel)
        .max_decoding_message_size(8 << 20)
        .max_encoding_message_size(8 << 20);
    grpc.ready().await.unwrap();
    grpc
}

fn path(method: &'static str) -> http::uri::PathAndQuery {
    http::uri::PathAndQuery::from_static(method)
}

fn request<T>(message: T) -> tonic::Request<T> {
    tonic::Request::new(message)
}

#[tokio::test]
async fn every_kind_of_grpc_call_passes_with_its_status() {
    let world = World::start().await;
    let (address, connections) = grpc_app().await;
    world.set(on(vec![replica(address)]));
    let mut client = grpc(&world).await;

    let large = Bytes::from(vec![7; 3 << 20]);
    let answer = client.unary(request(large.clone()), path("/echo.Echo/Unary"), Raw).await.unwrap();
    assert!(answer.into_inner() == large);

    client.ready().await.unwrap();
    let failure =
        client.unary(request(Bytes::from("fail")), path("/echo.Echo/Unary"), Raw).await.unwrap_err();
    assert_eq!((failure.code(), failure.message()), (Code::FailedPrecondition, "as you wish"));

    client.ready().await.unwrap();
    let unknown = client.unary(request(Bytes::new()), path("/echo.Echo/Nothing"), Raw).await.unwrap_err();
    assert_eq!(unknown.code(), Code::Unimplemented);

    client.ready().await.unwrap();
    let parts = tokio_stream::iter(["a", "b", "c"].map(Bytes::from));
    let all = client.client_streaming(request(parts), path("/echo.Echo/Client"), Raw).await.unwrap();
    assert_eq!(all.into_inner(), "abc");

    client.ready().await.unwrap();
    let stream = client.server_streaming(request(Bytes::from("x")), path("/echo.Echo/Server"), Raw).await;
    let messages: Vec<_> = stream.unwrap().into_inner().map(Result::unwrap).collect().await;
    assert_eq!(messages, ["0 b\"x\"", "1 b\"x\"", "2 b\"x\""]);

    // Both sides of a ping-pong wait for each other: nothing is held back on the way.
    client.ready().await.unwrap();
    let (send, receive) = tokio::sync::mpsc::channel(1);
    send.send(Bytes::from("0")).await.unwrap();
    let pong = client.streaming(request(ReceiverStream::new(receive)), path("/echo.Echo/Both"), Raw).await;
    let mut pong = pong.unwrap().into_inner();
    for number in 0..50 {
        assert_eq!(pong.message().await.unwrap().unwrap(), number.to_string());
        send.send(Bytes::from((number + 1).to_string())).await.unwrap();
    }
    send.send(Bytes::from("bye")).await.unwrap();
    while let Ok(Some(_)) = pong.message().await {}
    let end = pong.message().await;
    assert!(matches!(end, Ok(None)) || end.unwrap_err().code() == Code::Aborted);
    assert_eq!(connections.load(Ordering::SeqCst), 1, "one connection for all of them");
    world.stop().await;
}

#[tokio::test]
async fn a_call_to_a_sleeping_app_waits_and_one_that_breaks_off_never_ends_well() {
    let world = World::start().await;
    let (address, _) = grpc_app().await;
    let backend = sleeping_replica(address, 10);
    world.set(on(vec![backend.clone()]));
    let mut client = grpc(&world).await;
    let call = client.unary(request(Bytes::from("hi")), path("/echo.Echo/Unary"), Raw);
    let wake = async {
        until("it waits", || world.demand.sample().held == 1).await;
        backend.gate.open();
    };
    let (answer, ()) = tokio::join!(call, wake);
    assert_eq!(answer.unwrap().into_inner(), "hi");

    // One message of a stream, then the app is gone.
    let dying = TcpListener::bind("127.0.0.1:0").await.unwrap();
    world.set(on(vec![replica(dying.local_addr().unwrap())]));
    let app = tokio::spawn(async move {
        let (stream, _) = dying.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let (_, mut respond) = connection.accept().await.unwrap().unwrap();
        let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
        let mut body = respond.send_response(head, false).unwrap();
        body.send_data(Bytes::from_static(b"\0\0\0\0\x01x"), false).unwrap();
        // Sends what it has, then goes without a word.
        let _ = tokio::time::timeout(std::time::Duration::from_millis(50), connection.accept()).await;
    });
    client.ready().await.unwrap();
    let stream = client.server_streaming(request(Bytes::new()), path("/echo.Echo/Server"), Raw).await;
    let mut stream = stream.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap(), "x");
    assert!(stream.message().await.is_err(), "a call that broke off looks complete");
    app.await.unwrap();
    world.stop().await;
}

#[tokio::test]
async fn an_app_that_knows_http2_only_is_asked_so() {
    let world = World::start().await;
    let (address, _) = grpc_app().await;
    world.set(on(vec![replica(address)]));
    for _ in 0..3 {
        let answer = world.client().get(world.url("/plain")).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (200, http::Version::HTTP_11));
        let host = format!("Some(\"iris.localhost:{}\")", world.address.port());
        assert_eq!(answer.text().await.unwrap(), host);
    }
    world.stop().await;
}

/// A connection over HTTP/2 on which the other side has said what it can do.
async fn http2(world: &World) -> hyper::client::conn::http2::SendRequest<Empty<Bytes>> {
    let stream = TokioIo::new(TcpStream::connect(world.address).await.unwrap());
    let (mut sender, driver) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(driver);
    let first = Request::get(world.url("/")).body(Empty::new()).unwrap();
    sender.send_request(first).await.unwrap().into_body().collect().await.unwrap();
    sender
}

fn connect(world: &World) -> Request<Empty<Bytes>> {
    Request::connect(world.url("/ws"))
        .extension(hyper::ext::Protocol::from_static("websocket"))
        .header("sec-websocket-version", "13")
        .body(Empty::new())
        .unwrap()
}

#[tokio::test]
async fn websockets_are_streams_of_a_connection_over_http2() {
    let world = World::start().await;
    let app = TestApp::start().await;
    let backend = replica(app.address);
    world.set(on(vec![backend.clone()]));
    let mut sender = http2(&world).await;
    let mut sockets = Vec::new();
    for _ in 0..3 {
        let mut answer = sender.send_request(connect(&world)).await.unwrap();
        assert_eq!(answer.status(), 200);
        let names = ["upgrade", "connection", "sec-websocket-accept"];
        assert!(names.iter().all(|name| !answer.headers().contains_key(*name)), "{:?}", answer.headers());
        let upgraded = hyper::upgrade::on(&mut answer).await.unwrap();
        sockets.push(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await);
    }
    for (number, socket) in sockets.iter_mut().enumerate() {
        let text = format!("{number}").repeat(100_000);
        socket.send(Message::text(text.clone())).await.unwrap();
        let echo = tokio::time::timeout(LIMIT, socket.next()).await.unwrap().unwrap().unwrap();
        assert!(echo.into_text().unwrap() == text);
    }
    assert_eq!(world.demand.sample().sessions, 3);
    // The app falls asleep under them, and is woken by a message.
    assert!(backend.gate.try_sleep());
    let gate = Arc::clone(&backend.gate);
    world.on_nudge(move || gate.open());
    sockets[0].send(Message::text("wake")).await.unwrap();
    assert_eq!(sockets[0].next().await.unwrap().unwrap().into_text().unwrap(), "wake");
    drop(sockets);
    until("they are closed", || world.demand.sample().sessions == 0).await;
    world.stop().await;
}

#[tokio::test]
async fn a_websocket_that_the_app_refuses_is_not_open_and_a_bare_connect_is_refused() {
    let world = World::start().await;
    let app = TestApp::start_with(|request| async move {
        let status = if request.uri().path() == "/ws" { 200 } else { 403 };
        Response::builder().status(status).body(support::full("no")).unwrap()
    })
    .await;
    world.set(on(vec![replica(app.address)]));
    let mut sender = http2(&world).await;
    // A success would say that it is open.
    assert_eq!(sender.send_request(connect(&world)).await.unwrap().status(), 502);
    let mut other = connect(&world);
    *other.uri_mut() = world.url("/other").parse().unwrap();
    assert_eq!(sender.send_request(other).await.unwrap().status(), 403);
    let seen = app.seen();
    let mut other = connect(&world);
    other.extensions_mut().insert(hyper::ext::Protocol::from_static("webtransport"));
    assert_eq!(sender.send_request(other).await.unwrap().status(), 400);
    assert_eq!(app.seen(), seen);
    world.stop().await;
}
