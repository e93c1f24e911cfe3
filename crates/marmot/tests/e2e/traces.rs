//! A collector of traces, told by a real server: what it gets, what the metrics say, and that nobody sees what it is shown.

use axum::body::Bytes;
use axum::http::HeaderMap;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::sync::mpsc;

use crate::harness::{Repository, Server, client, wait_for};

type Told = mpsc::UnboundedReceiver<(HeaderMap, ExportTraceServiceRequest)>;

async fn collector() -> (String, Told) {
    let (tell, told) = mpsc::unbounded_channel();
    let take = move |headers: HeaderMap, body: Bytes| {
        tell.send((headers, ExportTraceServiceRequest::decode(body).expect("OTLP"))).expect("is listened to");
        async {}
    };
    let router = axum::Router::new().route("/v1/traces", axum::routing::post(take));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, told)
}

fn text<'a>(span: &'a Span, name: &str) -> Option<&'a str> {
    let value = span.attributes.iter().find(|attribute| attribute.key == name)?.value.as_ref()?;
    match value.value.as_ref()? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

/// Takes what comes until a span is `wanted`; all that came.
async fn spans_until(told: &mut Told, wanted: impl Fn(&Span) -> bool) -> Vec<Span> {
    let mut spans = Vec::new();
    while !spans.iter().any(&wanted) {
        let next = tokio::time::timeout(std::time::Duration::from_secs(120), told.recv());
        let (headers, request) = next.await.expect("a span comes").expect("goes on");
        assert_eq!(headers["authorization"], "Bearer CANARY");
        let of_us = request.resource_spans.into_iter().flat_map(|one| one.scope_spans);
        spans.extend(of_us.flat_map(|scope| scope.spans));
    }
    spans
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_is_told_of_a_cold_start_below_the_callers_trace() {
    let (url, mut told) = collector().await;
    let mut server =
        Server::start(&["--otlp-endpoint", &url, "--otlp-headers", "authorization=Bearer%20CANARY"]).await;
    let ada = server.user("ada").await;
    let repository = Repository::probe();
    let launcher = ada.launcher("iris", &repository).await;
    let app = ada.activate(&launcher, "running").await;
    let caller = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let asked = client().get(app.url().await + "?token=CANARY").header("traceparent", caller).send();
    assert_eq!(asked.await.expect("an answer").status(), 200);
    let is_ours = |span: &Span| span.trace_id.starts_with(&[0x4b, 0xf9, 0x2f]);
    let mut spans = spans_until(&mut told, |span| is_ours(span) && span.kind == 2).await;
    assert!(!format!("{spans:?}").contains("CANARY"));
    spans.retain(is_ours);
    let server_span = spans.iter().find(|span| span.kind == 2).expect("it came");
    assert_eq!(server_span.parent_span_id, [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
    assert_eq!(text(server_span, "marmot.app"), Some(app.name.as_str()));
    let below = spans.iter().find(|span| span.kind == 3).expect("what the replica was asked");
    assert_eq!(below.parent_span_id, server_span.span_id);

    let metrics = server.url.clone() + "/metrics";
    wait_for("it to be counted", || async {
        let text = client().get(&metrics).send().await.ok()?.text().await.ok()?;
        let sent = text.lines().find_map(|line| line.strip_prefix("marmot_spans_sent_total "))?.to_owned();
        (sent != "0" && text.contains("marmot_spans_dropped_total{reason=\"queue\"} 0")).then_some(())
    })
    .await;
    // What is asked last is told before the server ends.
    client().get(server.url.clone() + "/last-words/CANARY").send().await.expect("an answer");
    assert_eq!(server.terminate().await, Some(0));
    let spans = spans_until(&mut told, |span| text(span, "url.path") == Some("/last-words/")).await;
    assert!(!format!("{spans:?}").contains("CANARY"));
}
