//! A collector that reads what it is sent with the messages of OpenTelemetry's own makers: what arrives there, and what
//! becomes of it where there is none, or one that does not answer.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::SystemTime;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use marmot_gateway::trace::{Kind, Value};
use opentelemetry_proto::tonic::collector::trace::v1 as official;
use opentelemetry_proto::tonic::common::v1::any_value;
use tokio::task::JoinHandle;

use super::*;

/// Nothing here takes this long unless it is broken.
const LIMIT: Duration = Duration::from_secs(60);

/// What a collector does with a request.
#[derive(Clone, Copy)]
enum Does {
    Take,
    Reject(i64),
    Refuse(u16),
    /// Never answers.
    Hang,
}

struct Seen {
    path: String,
    headers: HeaderMap,
    body: official::ExportTraceServiceRequest,
}

/// Does one after the other, and takes everything from then on.
struct Receiver {
    address: SocketAddr,
    seen: mpsc::UnboundedReceiver<Seen>,
}

impl Receiver {
    async fn start(does: impl IntoIterator<Item = Does>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, seen) = mpsc::unbounded_channel();
        let does: Arc<Mutex<VecDeque<Does>>> = Arc::new(Mutex::new(does.into_iter().collect()));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tell, does) = (tell.clone(), Arc::clone(&does));
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    let does = does.lock().unwrap().pop_front().unwrap_or(Does::Take);
                    let tell = tell.clone();
                    async move { Ok::<_, Infallible>(receive(request, does, &tell).await) }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { address, seen }
    }

    async fn next(&mut self) -> Seen {
        tokio::time::timeout(LIMIT, self.seen.recv()).await.expect("something comes").unwrap()
    }
}

async fn receive(
    request: Request<Incoming>,
    does: Does,
    tell: &mpsc::UnboundedSender<Seen>,
) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let body = official::ExportTraceServiceRequest::decode(body).expect("OTLP");
    tell.send(Seen { path: parts.uri.path().to_owned(), headers: parts.headers, body }).unwrap();
    let answer = |status, body: Vec<u8>| {
        Response::builder().status(status).body(Full::from(Bytes::from(body))).unwrap()
    };
    match does {
        Does::Take => answer(200, Vec::new()),
        Does::Reject(rejected_spans) => {
            let partial =
                official::ExportTracePartialSuccess { rejected_spans, error_message: "no".to_owned() };
            let said = official::ExportTraceServiceResponse { partial_success: Some(partial) };
            answer(200, said.encode_to_vec())
        }
        Does::Refuse(status) => answer(status, Vec::new()),
        Does::Hang => std::future::pending().await,
    }
}

fn span(number: u8) -> Span {
    Span {
        trace: [7; 16],
        id: [number; 8],
        parent: Some([9; 8]),
        state: "a=1".to_owned(),
        kind: Kind::Server,
        name: "GET",
        began: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000),
        took: Duration::from_millis(5),
        attributes: vec![
            ("url.path", Value::Text("/plot".to_owned())),
            ("http.response.status_code", Value::Number(502)),
        ],
        is_failed: true,
    }
}

/// An exporter to this address that runs, and what is given to it.
struct Running {
    spans: mpsc::Sender<Span>,
    counts: Arc<Counts>,
    stop: CancellationToken,
    runs: JoinHandle<()>,
}

fn run(address: SocketAddr) -> Running {
    let collector = Collector {
        url: format!("http://{address}/v1/traces").parse().unwrap(),
        headers: headers(&pairs("authorization=Bearer%20SECRET").unwrap()).unwrap(),
        sampler: Sampler::PARENT_OR_ALL,
        resource: vec![("service.name".to_owned(), "field-station".to_owned())],
    };
    let (_, mut exporter) = begin(collector).unwrap();
    assert!(!format!("{exporter:?}").contains("SECRET"));
    // The tracer's own sender is the gateway's.
    let (spans, queue) = mpsc::channel(ROOM);
    exporter.spans = queue;
    let (counts, stop) = (Arc::clone(&exporter.counts), CancellationToken::new());
    let runs = tokio::spawn(exporter.run(stop.clone()));
    Running { spans, counts, stop, runs }
}

impl Running {
    /// How many were taken and how many lost, once it has ended.
    async fn stop(self) -> (u64, u64) {
        self.stop.cancel();
        tokio::time::timeout(LIMIT, self.runs).await.expect("ends").unwrap();
        (self.counts.sent.load(Ordering::Relaxed), self.counts.refused.load(Ordering::Relaxed))
    }
}

#[tokio::test]
async fn a_collector_reads_what_it_is_sent() {
    let mut receiver = Receiver::start([]).await;
    let running = run(receiver.address);
    running.spans.send(span(1)).await.unwrap();
    let seen = receiver.next().await;
    assert_eq!(seen.path, "/v1/traces");
    assert_eq!(
        (&seen.headers["content-type"], &seen.headers["authorization"]),
        (&HeaderValue::from_static("application/x-protobuf"), &HeaderValue::from_static("Bearer SECRET"),)
    );
    let [of_us] = seen.body.resource_spans.as_slice() else { panic!("{:?}", seen.body) };
    let resource = &of_us.resource.as_ref().unwrap().attributes[0];
    assert_eq!(resource.key, "service.name");
    let [scope] = of_us.scope_spans.as_slice() else { panic!("{of_us:?}") };
    assert_eq!(scope.scope.as_ref().unwrap().name, "marmot.gateway");
    let [span] = scope.spans.as_slice() else { panic!("{scope:?}") };
    assert_eq!((span.trace_id.as_slice(), span.span_id.as_slice()), ([7; 16].as_slice(), [1; 8].as_slice()));
    assert_eq!((span.parent_span_id.as_slice(), span.trace_state.as_str()), ([9; 8].as_slice(), "a=1"));
    assert_eq!((span.name.as_str(), span.kind, span.flags), ("GET", 2, 0x301));
    assert_eq!(span.start_time_unix_nano, 1_000_000_000_000_000_000);
    assert_eq!(span.end_time_unix_nano, 1_000_000_000_005_000_000);
    assert_eq!(span.status.as_ref().unwrap().code, 2);
    let values: Vec<_> = span
        .attributes
        .iter()
        .map(|attribute| (attribute.key.as_str(), attribute.value.clone().unwrap().value.unwrap()))
        .collect();
    assert_eq!(
        values,
        [
            ("url.path", any_value::Value::StringValue("/plot".to_owned())),
            ("http.response.status_code", any_value::Value::IntValue(502)),
        ]
    );
    assert_eq!(running.stop().await, (1, 0));
}

#[tokio::test]
async fn what_is_left_at_the_end_is_sent_in_batches() {
    let mut receiver = Receiver::start([]).await;
    let running = run(receiver.address);
    for _ in 0..BATCH + 88 {
        running.spans.send(span(1)).await.unwrap();
    }
    assert_eq!(running.stop().await, (600, 0));
    let mut come = 0;
    while let Ok(seen) = receiver.seen.try_recv() {
        let spans = seen.body.resource_spans[0].scope_spans[0].spans.len();
        assert!(spans <= BATCH);
        come += spans;
    }
    // The one that the end came upon may have been sent twice.
    assert!(come >= 600, "{come}");
}

#[tokio::test]
async fn a_collector_is_asked_again_where_that_may_help_and_what_it_rejects_is_counted() {
    let mut receiver =
        Receiver::start([Does::Refuse(503), Does::Reject(1), Does::Refuse(401), Does::Take]).await;
    let running = run(receiver.address);
    for number in [1, 2, 3] {
        running.spans.send(span(number)).await.unwrap();
        // The first batch is refused and sent again; then one partly, one, and one.
        let comes = if number == 1 { 2 } else { 1 };
        for _ in 0..comes {
            receiver.next().await;
        }
    }
    assert_eq!(running.stop().await, (1, 2), "one was rejected, one is not wanted at all, one was taken");
}

#[tokio::test]
async fn a_collector_that_is_away_or_does_not_answer_holds_up_nothing_and_not_the_end() {
    // Bound, and not listening: whoever connects is refused.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let away = run(socket.local_addr().unwrap());
    away.spans.send(span(1)).await.unwrap();
    let (sent, _) = away.stop().await;
    assert_eq!(sent, 0);

    let mut receiver = Receiver::start([Does::Hang, Does::Hang]).await;
    let hanging = run(receiver.address);
    hanging.spans.send(span(1)).await.unwrap();
    receiver.next().await;
    // While it hangs, the queue fills, and nothing more is kept.
    let mut kept = 0;
    while hanging.spans.try_send(span(2)).is_ok() {
        kept += 1;
    }
    assert!(kept <= ROOM, "{kept}");
    let (sent, _) = hanging.stop().await;
    assert_eq!(sent, 0);
}

#[test]
fn pairs_are_read_as_the_standard_variables_have_them() {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        pairs(" authorization=Bearer%20a=b , x-scope = 1,"),
        Some(vec![pair("authorization", "Bearer a=b"), pair("x-scope", "1")])
    );
    assert_eq!(pairs(""), Some(Vec::new()));
    for wrong in ["authorization", "=a", "a=%ff"] {
        assert_eq!(pairs(wrong), None, "{wrong}");
    }
    assert!(headers(&[pair("x y", "1")]).is_none() && headers(&[pair("x", "a\nb")]).is_none());
}
