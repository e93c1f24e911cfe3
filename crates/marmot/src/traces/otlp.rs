//! Spans as OTLP has them on the wire (`opentelemetry/proto/trace/v1`): the fields that are sent, by their numbers. A test
//! reads them with the messages of its makers.

use std::time::{Duration, SystemTime};

use marmot_gateway::trace::{self, Kind};
use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub(super) struct ExportTraceServiceRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(string, tag = "3")]
    trace_state: String,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
    #[prost(fixed32, tag = "16")]
    flags: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(oneof = "Is", tags = "1, 3")]
    is: Option<Is>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Is {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Number(i64),
}

#[derive(Clone, PartialEq, Message)]
struct ExportTraceServiceResponse {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected_spans: i64,
}

/// `STATUS_CODE_ERROR`.
const FAILED: i32 = 2;
/// The parent is known to be elsewhere or here, and whether it is.
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;
const SAMPLED: u32 = 1;

pub(super) fn request(resource: &[(String, String)], spans: &[trace::Span]) -> ExportTraceServiceRequest {
    let attributes = resource.iter().map(|(name, value)| key_value(name, Is::Text(value.clone()))).collect();
    let scope = Scope { name: "marmot.gateway".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource { attributes }),
            scope_spans: vec![ScopeSpans { scope: Some(scope), spans: spans.iter().map(span).collect() }],
        }],
    }
}

/// How many spans a collector says it did not want.
pub(super) fn rejected(answer: &[u8]) -> u64 {
    let answer = ExportTraceServiceResponse::decode(answer).ok();
    let partial = answer.and_then(|answer| answer.partial_success);
    partial.and_then(|partial| u64::try_from(partial.rejected_spans).ok()).unwrap_or_default()
}

fn span(span: &trace::Span) -> Span {
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let began = span.began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let remote = if span.kind == Kind::Server && span.parent.is_some() { IS_REMOTE } else { 0 };
    Span {
        trace_id: span.trace.to_vec(),
        span_id: span.id.to_vec(),
        trace_state: span.state.clone(),
        parent_span_id: span.parent.map(Vec::from).unwrap_or_default(),
        name: span.name.to_owned(),
        kind: match span.kind {
            Kind::Internal => 1,
            Kind::Server => 2,
            Kind::Client => 3,
        },
        start_time_unix_nano: nanos(began),
        end_time_unix_nano: nanos(began + span.took),
        attributes: span.attributes.iter().map(attribute).collect(),
        status: span.is_failed.then_some(Status { code: FAILED }),
        flags: SAMPLED | HAS_IS_REMOTE | remote,
    }
}

fn attribute((name, value): &(&'static str, trace::Value)) -> KeyValue {
    key_value(
        name,
        match value {
            trace::Value::Text(text) => Is::Text(text.clone()),
            trace::Value::Number(number) => Is::Number(*number),
        },
    )
}

fn key_value(name: &str, is: Is) -> KeyValue {
    KeyValue { key: name.to_owned(), value: Some(AnyValue { is: Some(is) }) }
}
